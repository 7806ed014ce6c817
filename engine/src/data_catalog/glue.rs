//! The Glue Data Catalog.
//!
//! Owns: the requests and their answers. Does not own: credentials and retries ([`crate::aws`]).
//! Rule: the service's codes decide, never a message's text.

use super::{Altered, Created, DataCatalog, DataCatalogError, FilesTable, Partition, TableName};
use crate::aws::{RoleError, SenderRejection, role_error, sender_rejection};
use async_trait::async_trait;
use aws_sdk_glue::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_glue::types::{
    Column, PartitionError, PartitionInput, SerDeInfo, StorageDescriptor, Table, TableInput,
};
use std::collections::{BTreeMap, HashMap};
use streamctl_proto::describe;
use streamctl_proto::resolved::ColumnType;

const MISSING: &str = "EntityNotFoundException";
const EXISTS: &str = "AlreadyExistsException";
/// Others altered the table since the version that a request names.
const CONFLICT: &str = "ConcurrentModificationException";
const VERSION_MISMATCH: &str = "VersionMismatchException";

#[derive(Debug)]
pub(super) struct GlueCatalog {
    client: aws_sdk_glue::Client,
}

/// An answer that is an error.
struct Answer {
    code: String,
    reason: String,
    rejection: Option<SenderRejection>,
    /// The role of the catalog is not assumed.
    role: Option<RoleError>,
    /// The request could not be made.
    is_local: bool,
}

impl GlueCatalog {
    pub fn new(client: aws_sdk_glue::Client) -> Self {
        Self { client }
    }

    async fn get(&self, name: &TableName) -> Result<Option<Table>, DataCatalogError> {
        let request = self
            .client
            .get_table()
            .set_catalog_id(name.catalog_id.clone())
            .database_name(&name.database)
            .name(&name.table);
        match request.send().await {
            Ok(answer) => Ok(answer.table),
            Err(error) => match answer(&error) {
                // Only the message names which of the two.
                missing if missing.code == MISSING => match self.has_database(name).await {
                    true => Ok(None),
                    false => Err(DataCatalogError::DatabaseMissing {
                        database: name.database.clone(),
                    }),
                },
                other => Err(judged(name, other, "glue:GetTable")),
            },
        }
    }

    /// True also if it cannot be known: the next request finds out.
    async fn has_database(&self, name: &TableName) -> bool {
        let request = self
            .client
            .get_database()
            .set_catalog_id(name.catalog_id.clone())
            .name(&name.database);
        let found = request.send().await;
        found.map_err(|error| answer(&error).code) != Err(MISSING.to_owned())
    }
}

#[async_trait]
impl DataCatalog for GlueCatalog {
    async fn table(&self, name: &TableName) -> Result<Option<FilesTable>, DataCatalogError> {
        let Some(table) = self.get(name).await? else {
            return Ok(None);
        };
        of_answer(&table)
            .map(Some)
            .ok_or_else(|| DataCatalogError::Refused {
                table: name.clone(),
                reason: "it is a view, or has no storage descriptor".to_owned(),
                hint: "name a table of files, or one that is not there yet".to_owned(),
            })
    }

    async fn create(
        &self,
        name: &TableName,
        table: &FilesTable,
    ) -> Result<Created, DataCatalogError> {
        let input = TableInput::builder()
            .name(&name.table)
            .table_type("EXTERNAL_TABLE")
            .storage_descriptor(descriptor(table, &table.location))
            .set_partition_keys(Some(columns(&table.partition_keys)))
            .set_parameters(Some(hash_map(&table.parameters)));
        let request = self
            .client
            .create_table()
            .set_catalog_id(name.catalog_id.clone())
            .database_name(&name.database)
            .table_input(input.build().map_err(|error| unmade(name, &error))?);
        match request.send().await {
            Ok(_) => Ok(Created::Created),
            Err(error) => match answer(&error) {
                exists if exists.code == EXISTS => Ok(Created::Exists),
                missing if missing.code == MISSING => Err(DataCatalogError::DatabaseMissing {
                    database: name.database.clone(),
                }),
                other => Err(judged(name, other, "glue:CreateTable")),
            },
        }
    }

    async fn add_columns(
        &self,
        name: &TableName,
        seen: &FilesTable,
        added: &[ColumnType],
    ) -> Result<Altered, DataCatalogError> {
        // What is not ours in the table goes back as it is.
        let missing = || DataCatalogError::TableMissing {
            table: name.clone(),
        };
        let table = self.get(name).await?.ok_or_else(missing)?;
        if of_answer(&table).as_ref() != Some(seen) {
            return Ok(Altered::Conflict);
        }
        let descriptor = table.storage_descriptor().cloned().map(|mut descriptor| {
            let all = descriptor.columns.get_or_insert_default();
            all.extend(columns(added));
            descriptor
        });
        let version = table.version_id().map(str::to_owned);
        let input = input_of(table, descriptor).build();
        let request = self
            .client
            .update_table()
            .set_catalog_id(name.catalog_id.clone())
            .database_name(&name.database)
            .set_version_id(version)
            .table_input(input.map_err(|error| unmade(name, &error))?);
        match request.send().await {
            Ok(_) => Ok(Altered::Altered),
            Err(error) => match answer(&error) {
                other if [CONFLICT, VERSION_MISMATCH].contains(&other.code.as_str()) => {
                    Ok(Altered::Conflict)
                }
                gone if gone.code == MISSING => Err(missing()),
                other => Err(judged(name, other, "glue:UpdateTable")),
            },
        }
    }

    async fn add_partitions(
        &self,
        name: &TableName,
        table: &FilesTable,
        partitions: &[Partition],
    ) -> Result<(), DataCatalogError> {
        let input = |partition: &Partition| {
            PartitionInput::builder()
                .set_values(Some(partition.values.clone()))
                .storage_descriptor(descriptor(table, &partition.location))
                .build()
        };
        let request = self
            .client
            .batch_create_partition()
            .set_catalog_id(name.catalog_id.clone())
            .database_name(&name.database)
            .table_name(&name.table)
            .set_partition_input_list(Some(partitions.iter().map(input).collect()));
        let refused = match request.send().await {
            Ok(answered) => answered.errors.unwrap_or_default(),
            Err(error) => {
                return Err(match answer(&error) {
                    missing if missing.code == MISSING => DataCatalogError::TableMissing {
                        table: name.clone(),
                    },
                    other => judged(name, other, "glue:BatchCreatePartition"),
                });
            }
        };
        match refused.into_iter().find_map(of_partition) {
            None => Ok(()),
            Some(refused) => Err(judged(name, refused, "glue:BatchCreatePartition")),
        }
    }
}

/// Why a partition was not made; `None`: it is there.
fn of_partition(error: PartitionError) -> Option<Answer> {
    let values = error.partition_values.unwrap_or_default().join(", ");
    let detail = error.error_detail?;
    let code = detail.error_code.unwrap_or_default();
    let message = detail.error_message.unwrap_or_default();
    (code != EXISTS).then(|| Answer {
        reason: format!("partition {values}: {code}: {message}"),
        rejection: sender_rejection(Some(&code), None),
        code,
        role: None,
        is_local: false,
    })
}

/// `None`: it has no files.
fn of_answer(table: &Table) -> Option<FilesTable> {
    if table.table_type() == Some("VIRTUAL_VIEW") {
        return None;
    }
    let descriptor = table.storage_descriptor()?;
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let sorted = |map: Option<&HashMap<String, String>>| -> BTreeMap<String, String> {
        map.into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let serde = descriptor.serde_info();
    Some(FilesTable {
        location: text(descriptor.location()),
        columns: descriptor.columns().iter().map(column).collect(),
        partition_keys: table.partition_keys().iter().map(column).collect(),
        input_format: text(descriptor.input_format()),
        output_format: text(descriptor.output_format()),
        library: text(serde.and_then(SerDeInfo::serialization_library)),
        serde: sorted(serde.and_then(SerDeInfo::parameters)),
        parameters: sorted(table.parameters()),
        version: table.version_id().map(str::to_owned),
    })
}

fn column(column: &Column) -> ColumnType {
    ColumnType {
        name: column.name().to_owned(),
        type_name: column.r#type().unwrap_or_default().to_owned(),
    }
}

fn columns(of: &[ColumnType]) -> Vec<Column> {
    let column = |column: &ColumnType| {
        let built = Column::builder()
            .name(&column.name)
            .r#type(&column.type_name)
            .build();
        // It has a name.
        built.ok()
    };
    of.iter().filter_map(column).collect()
}

fn hash_map(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn descriptor(table: &FilesTable, location: &str) -> StorageDescriptor {
    let serde = SerDeInfo::builder()
        .serialization_library(&table.library)
        .set_parameters(Some(hash_map(&table.serde)));
    StorageDescriptor::builder()
        .set_columns(Some(columns(&table.columns)))
        .location(location)
        .input_format(&table.input_format)
        .output_format(&table.output_format)
        .serde_info(serde.build())
        .build()
}

/// All that a request can state of a table, as the catalog has it.
fn input_of(
    table: Table,
    descriptor: Option<StorageDescriptor>,
) -> aws_sdk_glue::types::builders::TableInputBuilder {
    TableInput::builder()
        .name(table.name)
        .set_description(table.description)
        .set_owner(table.owner)
        .set_last_access_time(table.last_access_time)
        .set_last_analyzed_time(table.last_analyzed_time)
        .retention(table.retention)
        .set_storage_descriptor(descriptor)
        .set_partition_keys(table.partition_keys)
        .set_view_original_text(table.view_original_text)
        .set_view_expanded_text(table.view_expanded_text)
        .set_table_type(table.table_type)
        .set_parameters(table.parameters)
        .set_target_table(table.target_table)
}

fn unmade(name: &TableName, error: &dyn std::error::Error) -> DataCatalogError {
    DataCatalogError::Refused {
        table: name.clone(),
        reason: error.to_string(),
        hint: "check the names of database and table".to_owned(),
    }
}

fn answer<E>(error: &SdkError<E>) -> Answer
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    let status = error.raw_response().map(|raw| raw.status().as_u16());
    let Some(service) = error.as_service_error() else {
        return Answer {
            code: String::new(),
            reason: describe(error),
            rejection: sender_rejection(None, status),
            role: role_error(error).cloned(),
            is_local: matches!(error, SdkError::ConstructionFailure(_)),
        };
    };
    let code = service.code().unwrap_or("error").to_owned();
    let message = service.message().unwrap_or("no message");
    Answer {
        reason: format!("{code}: {message}"),
        rejection: sender_rejection(Some(&code), status),
        code,
        role: None,
        is_local: false,
    }
}

/// What the answer means; `right`: the permission that the request needs.
fn judged(name: &TableName, answer: Answer, right: &str) -> DataCatalogError {
    let Answer {
        code,
        reason,
        rejection,
        role,
        is_local,
    } = answer;
    let table = name.clone();
    if let Some(role) = role {
        let reason = role.to_string();
        return match role.may_pass() {
            true => DataCatalogError::Unavailable { table, reason },
            false => DataCatalogError::Denied {
                table,
                reason,
                hint: role.hint(),
            },
        };
    }
    let denied = |hint: String| DataCatalogError::Denied {
        table: table.clone(),
        reason: reason.clone(),
        hint,
    };
    let refused = |hint: &str| DataCatalogError::Refused {
        table: table.clone(),
        reason: reason.clone(),
        hint: hint.to_owned(),
    };
    match code.as_str() {
        "AccessDeniedException" => denied(format!(
            "allow {right} to the role of the controllers, on the catalog, the database and the \
             table; with Lake Formation also ALTER and INSERT on the table, CREATE_TABLE on the \
             database, and the table's location"
        )),
        "GlueEncryptionException" => denied(
            "allow kms:Decrypt and kms:GenerateDataKey on the key of the Data Catalog".to_owned(),
        ),
        "ResourceNumberLimitExceededException" => {
            denied("raise the account's quota of Glue, or partition by fewer values".to_owned())
        }
        "InvalidInputException" | "ValidationException" => {
            refused("check the names of database, table and columns, and catalog_id")
        }
        _ if is_local => refused("set a region: in [sink.catalog], or AWS_REGION"),
        _ if rejection.is_some() => {
            denied("check the AWS credentials of the controllers, and their clocks".to_owned())
        }
        _ => DataCatalogError::Unavailable { table, reason },
    }
}
