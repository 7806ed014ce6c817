//! `streamctl catalog show`: a table's columns, and the stream that it describes.

use crate::args::CatalogShowArgs;
use crate::error::CliError;
use crate::output::{Output, table};
use serde_json::{Value, json};
use streamctl_engine::aws::Aws;
use streamctl_engine::catalog::{CatalogError, CatalogTable, get_table};

/// Database and table of `DATABASE.TABLE`; a table's name may contain dots.
pub fn table_name(text: &str) -> Result<(String, String), CliError> {
    match text.split_once('.') {
        Some((database, table)) if !database.is_empty() && !table.is_empty() => {
            Ok((database.into(), table.into()))
        }
        _ => Err(CliError::Usage {
            message: format!("{text:?} is not DATABASE.TABLE"),
            hint: "for example glueworkshop_cloudformation.json-streaming-table".into(),
        }),
    }
}

/// Reads from the Data Catalog of the environment's account and prints the result.
pub async fn show(args: &CatalogShowArgs, aws: &Aws, out: &mut Output) -> Result<(), CliError> {
    let (database, name) = table_name(&args.table)?;
    let call = get_table(
        aws,
        args.catalog_id.as_deref(),
        &database,
        &name,
        args.region.as_deref(),
        None,
    );
    let response = out.during("asking the Data Catalog", call).await;
    let found = response.map_err(|error| refused(&error))?;
    out.either(
        || as_text(&args.table, &found),
        || as_json(&database, &name, &found),
    )
}

fn refused(error: &CatalogError) -> CliError {
    let hint = error
        .hint()
        .unwrap_or_else(|| "check credentials, AWS_REGION and the way to Glue".to_owned());
    match error {
        CatalogError::NotFound { .. } => CliError::NotThere {
            message: error.to_string(),
            hint,
        },
        _ => CliError::Local {
            message: error.to_string(),
            hint,
        },
    }
}

fn as_text(name: &str, found: &CatalogTable) -> String {
    let mut lines = vec![format!("table:           {name}")];
    let mut line = |key: &str, value: Option<&str>| {
        lines.extend(value.map(|value| format!("{:16} {value}", format!("{key}:"))));
    };
    line("classification", found.classification.as_deref());
    match &found.stream {
        Some(stream) => {
            line("stream", Some(&stream.name));
            line("arn", stream.arn.as_deref());
            line("region", stream.region.as_deref());
            line("endpoint", stream.endpoint.as_deref());
            line("role", stream.role_arn.as_deref());
            line("session", stream.session_name.as_deref());
        }
        None => line(
            "stream",
            Some("none: this table describes no Kinesis stream"),
        ),
    }
    let rows: Vec<_> = found
        .columns
        .iter()
        .map(|column| [column.name.clone(), column.type_name.clone()])
        .collect();
    format!(
        "{}\n\n{}",
        lines.join("\n"),
        table(["COLUMN", "TYPE"], &rows)
    )
}

fn as_json(database: &str, name: &str, found: &CatalogTable) -> Value {
    let columns: Vec<_> = found
        .columns
        .iter()
        .map(|column| json!({"name": column.name, "type": column.type_name}))
        .collect();
    let stream = found.stream.as_ref().map(|stream| {
        json!({
            "name": stream.name, "arn": stream.arn, "region": stream.region, "endpoint": stream.endpoint,
            "role_arn": stream.role_arn, "session_name": stream.session_name,
        })
    });
    json!({
        "database": database, "table": name, "classification": found.classification, "columns": columns,
        "stream": stream,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamctl_engine::catalog::parse_get_table;

    #[test]
    fn a_table_is_named_by_database_and_table() {
        assert_eq!(
            table_name("d.json-streaming.table").unwrap(),
            ("d".into(), "json-streaming.table".into())
        );
        for bad in ["", "d", ".t", "d."] {
            assert_eq!(table_name(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn columns_and_stream_are_shown() {
        let json = r#"{"Table": {"StorageDescriptor": {"Columns": [{"Name": "uuid", "Type": "string"}],
            "Parameters": {"typeOfData": "kinesis", "streamName": "s"}}, "Parameters": {"classification": "json"}}}"#;
        let found = parse_get_table(json).unwrap();
        let text = as_text("d.t", &found);
        assert_eq!(
            text,
            "table:           d.t\nclassification:  json\nstream:          s\n\nCOLUMN  \
             TYPE\nuuid    string"
        );
        crate::output::tests::documented("catalog show", &as_json("d", "t", &found));
        assert_eq!(as_json("d", "t", &found)["stream"]["name"], "s");
        let other =
            parse_get_table(r#"{"Table": {"StorageDescriptor": {"Columns": []}}}"#).unwrap();
        assert!(as_text("d.t", &other).contains("describes no Kinesis stream"));
        assert!(as_json("d", "t", &other)["stream"].is_null());
    }
}
