//! The Data Catalog: the columns of a stream's records, and the location of the stream.
//!
//! Owns: the content of a table, from Glue's GetTable or from a file of the same form; Hive types
//! as Arrow types ([`arrow_schema`]). Does not own: how records become rows.
//! Rule: the catalog is read once, at submit; a job never sees a later version.

mod job;
mod properties;
mod reading;
mod stream;
mod types;

pub use job::{GlueJobError, get_job_json};
pub use reading::{Asked, RefusedProperty, TableReading};
pub use stream::{region_of_endpoint, stream_of_arn};
pub use types::arrow_schema;

use crate::aws::{Aws, role_error};
use crate::foreign_answer::not_of;
use aws_sdk_glue::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_glue::operation::get_table::GetTableError;
use serde::Deserialize;
use std::collections::BTreeMap;
use streamctl_proto::resolved::{ColumnType, StreamAddress};
use streamctl_proto::spec::{AssumedRole, HiveType};

/// The content of a catalog table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogTable {
    /// Its columns, in order, as the catalog types them.
    pub columns: Vec<ColumnType>,
    /// The Kinesis stream that it describes; `None` if it describes something else.
    pub stream: Option<StreamAddress>,
    /// The format of its records: `json`, `csv` ...; lower-case.
    pub classification: Option<String>,
    /// Its partition keys, in lower case: they are in the names of folders, not in records.
    pub partition_keys: Vec<String>,
    pub reading: TableReading,
}

impl CatalogTable {
    /// Columns without a table: nothing else is known.
    pub fn of_columns(columns: Vec<ColumnType>) -> Self {
        Self {
            columns,
            stream: None,
            classification: None,
            partition_keys: Vec::new(),
            reading: TableReading::default(),
        }
    }
}

/// A table is not available or not usable.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A column's type is unknown.
    #[error("column {column:?} has the type {type_name:?}, which is not supported")]
    UnknownType { column: String, type_name: String },
    /// Two columns have the same name, ignoring case.
    #[error("two columns are named {name:?} (capitals make no difference)")]
    DuplicateColumn {
        /// Their name, in lower case.
        name: String,
    },
    /// There are no columns, or one has no name.
    #[error("{0}")]
    NoColumns(String),
    /// A file is not in the form of a GetTable response.
    #[error("not in the form of GetTable's answer: {0}")]
    Form(String),
    /// There is no such table.
    #[error("the Data Catalog has no table {table:?} in database {database:?}: {reason}")]
    NotFound {
        database: String,
        table: String,
        /// The service's error text: which of the two is missing.
        reason: String,
    },
    #[error("the Data Catalog refused table {database}.{table}: {reason}")]
    Refused {
        database: String,
        table: String,
        reason: String,
        hint: String,
    },
    /// A retry may succeed.
    #[error("the Data Catalog did not answer for table {database}.{table}: {reason}")]
    Unavailable {
        database: String,
        table: String,
        reason: String,
    },
}

impl CatalogError {
    /// Whether a retry may succeed.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// The advice for the user.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::UnknownType { type_name, .. } => return Some(type_hint(type_name)),
            Self::DuplicateColumn { .. } => "rename one of them",
            Self::NoColumns(_) => "name each column and its type",
            Self::Form(_) => "save what `aws glue get-table --database-name D --name T` prints",
            Self::NotFound { .. } => {
                "check database, table, region and catalog_id: `aws glue get-table` shows what \
                 this account sees"
            }
            Self::Refused { hint, .. } => hint,
            Self::Unavailable { .. } => return None,
        };
        Some(hint.to_owned())
    }
}

/// What to write in place of a text that is not a type.
fn type_hint(text: &str) -> String {
    match HiveType::parse(text) {
        Err(error) => error.hint(),
        Ok(_) => HiveType::hint(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    table: TableForm,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TableForm {
    name: Option<String>,
    database_name: Option<String>,
    table_type: Option<String>,
    storage_descriptor: Option<DescriptorForm>,
    partition_keys: Option<Vec<ColumnForm>>,
    parameters: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DescriptorForm {
    columns: Vec<ColumnForm>,
    parameters: Option<BTreeMap<String, String>>,
    input_format: Option<String>,
    compressed: Option<bool>,
    #[serde(rename = "SerdeInfo")]
    serde_info: Option<SerdeForm>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SerdeForm {
    serialization_library: Option<String>,
    parameters: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ColumnForm {
    name: String,
    #[serde(rename = "Type")]
    type_name: Option<String>,
}

/// Parses a table from a file in the JSON form of a GetTable response: `{"Table": {...}}`.
///
/// # Errors
/// [`CatalogError::Form`].
pub fn parse_get_table(json: &str) -> Result<CatalogTable, CatalogError> {
    let answer: Answer =
        serde_json::from_str(json).map_err(|error| CatalogError::Form(error.to_string()))?;
    table_of(answer.table)
        .ok_or_else(|| CatalogError::Form("Table has no StorageDescriptor".into()))
}

/// Requests a table of the Data Catalog. `catalog_id` is the owning account, if it is not the
/// caller's; `region`, if it is not the environment's; `role`, if it is read by one.
///
/// # Errors
/// [`CatalogError::NotFound`], [`CatalogError::Refused`]; [`CatalogError::Unavailable`] may be
/// retried.
pub async fn get_table(
    aws: &Aws,
    catalog_id: Option<&str>,
    database: &str,
    table: &str,
    region: Option<&str>,
    role: Option<&AssumedRole>,
) -> Result<CatalogTable, CatalogError> {
    let client = aws.glue_as(role, region).await;
    let request = client
        .get_table()
        .set_catalog_id(catalog_id.map(str::to_owned))
        .database_name(database)
        .name(table);
    let answer = request
        .send()
        .await
        .map_err(|error| failure(&error, database, table))?;
    answer
        .table()
        .and_then(|table| table_of(form_of(table)))
        .ok_or_else(|| {
            CatalogError::Form(format!(
                "the answer for {database}.{table} has no StorageDescriptor"
            ))
        })
}

/// The service's response in the form of a file.
fn form_of(table: &aws_sdk_glue::types::Table) -> TableForm {
    let column = |column: &aws_sdk_glue::types::Column| ColumnForm {
        name: column.name().to_owned(),
        type_name: column.r#type().map(str::to_owned),
    };
    let sorted = |map: Option<&std::collections::HashMap<String, String>>| {
        map.map(|map| map.clone().into_iter().collect::<BTreeMap<_, _>>())
    };
    let serde = |info: &aws_sdk_glue::types::SerDeInfo| SerdeForm {
        serialization_library: info.serialization_library().map(str::to_owned),
        parameters: sorted(info.parameters()),
    };
    let descriptor = |descriptor: &aws_sdk_glue::types::StorageDescriptor| DescriptorForm {
        columns: descriptor.columns().iter().map(column).collect(),
        parameters: sorted(descriptor.parameters()),
        input_format: descriptor.input_format().map(str::to_owned),
        compressed: Some(descriptor.compressed()),
        serde_info: descriptor.serde_info().map(serde),
    };
    TableForm {
        name: Some(table.name().to_owned()),
        database_name: table.database_name().map(str::to_owned),
        table_type: table.table_type().map(str::to_owned),
        storage_descriptor: table.storage_descriptor().map(descriptor),
        partition_keys: Some(table.partition_keys().iter().map(column).collect()),
        parameters: sorted(table.parameters()),
    }
}

/// `None`: it has no storage descriptor.
fn table_of(form: TableForm) -> Option<CatalogTable> {
    let descriptor = form.storage_descriptor?;
    let column = |column: ColumnForm| ColumnType {
        name: column.name,
        type_name: column.type_name.unwrap_or_default(),
    };
    let of_storage = descriptor.parameters.unwrap_or_default();
    let of_table = form.parameters.unwrap_or_default();
    let parameters = stream::Parameters::new(&of_storage, &of_table);
    let serde = descriptor.serde_info.unwrap_or_default();
    let keys = form.partition_keys.unwrap_or_default();
    let names = [form.database_name, form.name];
    let is_view = form.table_type.is_some_and(|kind| kind == "VIRTUAL_VIEW");
    Some(CatalogTable {
        columns: descriptor.columns.into_iter().map(column).collect(),
        stream: parameters.stream(),
        classification: parameters.get("classification").map(str::to_lowercase),
        partition_keys: keys
            .into_iter()
            .map(|key| key.name.to_lowercase())
            .collect(),
        reading: TableReading {
            table: names.into_iter().flatten().collect::<Vec<_>>().join("."),
            library: serde.serialization_library,
            input_format: descriptor.input_format,
            is_compressed: descriptor.compressed.unwrap_or_default(),
            is_view,
            serde: serde.parameters.unwrap_or_default(),
            // A delimiter may be white space.
            parameters: of_table
                .into_iter()
                .chain(of_storage)
                .map(|(key, value)| (key.to_lowercase(), value))
                .collect(),
        },
    })
}

/// Why there is no response from Glue.
fn unanswered<E: std::error::Error + 'static>(error: &SdkError<E>) -> String {
    match error {
        SdkError::ResponseError(_) => not_of(
            "Glue",
            error
                .raw_response()
                .map(|response| response.status().as_u16()),
        ),
        _ => streamctl_proto::describe(error),
    }
}

fn failure(error: &SdkError<GetTableError>, database: &str, table: &str) -> CatalogError {
    let database = database.to_owned();
    let table = table.to_owned();
    if let Some(role) = role_error(error) {
        let reason = role.to_string();
        return match role.may_pass() {
            true => CatalogError::Unavailable {
                database,
                table,
                reason,
            },
            false => CatalogError::Refused {
                database,
                table,
                reason,
                hint: role.hint(),
            },
        };
    }
    let Some(service) = error.as_service_error() else {
        let reason = unanswered(error);
        if matches!(error, SdkError::ConstructionFailure(_)) {
            let hint = "set a region: in the job file's catalog, or AWS_REGION".to_owned();
            return CatalogError::Refused {
                database,
                table,
                reason,
                hint,
            };
        }
        return CatalogError::Unavailable {
            database,
            table,
            reason,
        };
    };
    let code = service.code().unwrap_or("error");
    let reason = format!("{code}: {}", service.message().unwrap_or("no message"));
    let refused = |hint: &str| {
        let database = database.clone();
        let table = table.clone();
        CatalogError::Refused {
            database,
            table,
            reason: reason.clone(),
            hint: hint.to_owned(),
        }
    };
    match code {
        "EntityNotFoundException" => CatalogError::NotFound {
            database,
            table,
            reason,
        },
        "AccessDeniedException" => refused(
            "allow glue:GetTable on the catalog, the database and the table; with Lake Formation \
             also DESCRIBE",
        ),
        "InvalidInputException" => refused("check the names of database and table, and catalog_id"),
        "GlueEncryptionException" => refused("allow kms:Decrypt on the key of the Data Catalog"),
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "ExpiredTokenException"
        | "InvalidClientTokenId" => {
            refused("check the AWS credentials of this process, and its clock")
        }
        _ => CatalogError::Unavailable {
            database,
            table,
            reason,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSHOP: &str = r#"{"Table": {"Name": "json-streaming-table", "DatabaseName": "d",
        "StorageDescriptor": {"Columns": [{"Name": "uuid", "Type": "string"}, {"Name": "Country", "Type": "string"}],
            "Location": "glueworkshop",
            "Parameters": {"typeOfData": "kinesis", "streamName": "glueworkshop", "endpointUrl": "https://kinesis.eu-west-1.amazonaws.com"},
            "SerdeInfo": {"SerializationLibrary": "org.openx.data.jsonserde.JsonSerDe", "Parameters": {"paths": "uuid"}}},
        "Parameters": {"classification": "JSON"}}}"#;

    #[test]
    fn the_workshop_s_table_gives_columns_stream_and_classification() {
        let table = parse_get_table(WORKSHOP).unwrap();
        assert_eq!(table.columns.len(), 2);
        assert_eq!(table.classification.as_deref(), Some("json"));
        let stream = table.stream.unwrap();
        assert_eq!(
            (stream.name.as_str(), stream.region.as_deref()),
            ("glueworkshop", Some("eu-west-1"))
        );
        assert_eq!(
            stream.endpoint.as_deref(),
            Some("https://kinesis.eu-west-1.amazonaws.com")
        );
    }

    #[test]
    fn a_file_of_another_form_is_refused_with_what_to_do() {
        let error = parse_get_table(r#"{"TableName": "x"}"#).unwrap_err();
        assert!(error.to_string().contains("Table"), "{error}");
        assert!(error.hint().unwrap().contains("aws glue get-table"));
        assert!(
            parse_get_table(r#"{"Table": {"Name": "x"}}"#)
                .unwrap_err()
                .to_string()
                .contains("StorageDescriptor")
        );
    }

    #[test]
    fn a_table_that_describes_no_stream_has_no_address() {
        let json = r#"{"Table": {"StorageDescriptor": {"Columns": [], "Parameters": {"typeOfData": "kafka", "streamName": "x"}}}}"#;
        assert_eq!(parse_get_table(json).unwrap().stream, None);
    }

    fn answered(code: &str) -> CatalogError {
        use aws_sdk_glue::config::http::HttpResponse;
        let meta = aws_sdk_glue::error::ErrorMetadata::builder()
            .code(code)
            .message("words")
            .build();
        let response = HttpResponse::new(400.try_into().unwrap(), "".into());
        failure(
            &SdkError::service_error(GetTableError::generic(meta), response),
            "d",
            "t",
        )
    }

    #[test]
    fn refusals_are_final_and_the_rest_may_be_tried_again() {
        let missing = answered("EntityNotFoundException");
        assert!(
            missing.to_string().contains("\"t\" in database \"d\""),
            "{missing}"
        );
        assert!(missing.hint().is_some() && !missing.retryable());
        let denied = answered("AccessDeniedException");
        assert!(denied.hint().unwrap().contains("glue:GetTable") && !denied.retryable());
        for code in [
            "InternalServiceException",
            "ThrottlingException",
            "OperationTimeoutException",
        ] {
            assert!(answered(code).retryable(), "{code}");
        }
    }
}
