//! The table of the Data Catalog that shows the files: what it must be, found and made at submit.
//!
//! Owns: which table a sink needs, the order of looking and making. Does not own: whether one that is
//! there fits (`compare`), the catalog (`data_catalog`), partitions (the controller registers them).
//! Rule: looking changes nothing; only a submit that is not a dry run makes a table or adds columns.

use super::super::{Found, NotMade, Place};
use super::compare::{FIELD, columns_text, missing_columns};
use super::serde::Serde;
use crate::data_catalog::{Altered, Created, DataCatalogError, FilesTable, TableName};
use crate::written::{self, Form, TextForm};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use std::collections::BTreeMap;
use streamctl_proto::count;
use streamctl_proto::names::partition_folder;
use streamctl_proto::resolved::ColumnType;
use streamctl_proto::spec::{FilesSink, HiveType, PartitionColumn, Problem, SinkCatalog};

/// Most times that a table is looked at again because others altered it meanwhile.
const ATTEMPTS_MAX: usize = 5;
/// Years that readers of a table with projected partitions look for.
const PROJECTED_YEARS: &str = "2020,2100";

/// What is there, and what a submit would make of it.
pub(super) async fn find(
    sink: &FilesSink,
    of: &SinkCatalog,
    place: Place<'_>,
    result: &SchemaRef,
) -> Found {
    let mut found = Found::default();
    let wanted = match wanted(sink, of, place, result) {
        Ok(wanted) => wanted,
        Err(problems) => {
            found.problems = problems;
            return found;
        }
    };
    let name = TableName::of(of);
    let catalog = place.storages.data_catalogs().catalog(of).await;
    match catalog.table(&name).await {
        Ok(None) => {
            let text = format!(
                "{name} is missing; a submit makes it, with {}",
                count(wanted.columns.len(), "column")
            );
            found.facts = facts(&wanted, text);
        }
        Ok(Some(table)) => match missing_columns(sink, of, &wanted, &table) {
            Ok(missing) if missing.is_empty() => {
                found.facts = facts(&wanted, format!("{name} is there"));
            }
            Ok(missing) => {
                let text = format!("{name} is there; a submit adds {}", columns_text(&missing));
                found.facts = facts(&wanted, text);
            }
            Err(problems) => found.problems = problems,
        },
        Err(error) => match not_made(&error) {
            NotMade::Problems(problems) => found.problems = problems,
            NotMade::Unavailable { field, reason } => found.unavailable.push((field, reason)),
        },
    }
    found
}

/// Makes the table if it is missing, and adds the columns that it lacks. Idempotent.
pub(super) async fn make(
    sink: &FilesSink,
    of: &SinkCatalog,
    place: Place<'_>,
    result: &SchemaRef,
) -> Result<(), NotMade> {
    let wanted = wanted(sink, of, place, result).map_err(NotMade::Problems)?;
    let name = TableName::of(of);
    let catalog = place.storages.data_catalogs().catalog(of).await;
    let failed = |error: DataCatalogError| not_made(&error);
    for _attempt in 0..ATTEMPTS_MAX {
        let Some(table) = catalog.table(&name).await.map_err(failed)? else {
            if catalog.create(&name, &wanted).await.map_err(failed)? == Created::Created {
                tracing::info!(job = %place.spec.name, table = %name, "made the table");
            }
            continue;
        };
        let missing = missing_columns(sink, of, &wanted, &table).map_err(NotMade::Problems)?;
        if missing.is_empty() {
            return Ok(());
        }
        let added = catalog.add_columns(&name, &table, &missing).await;
        if added.map_err(failed)? == Altered::Altered {
            let columns = columns_text(&missing);
            tracing::info!(job = %place.spec.name, table = %name, columns, "added columns");
        }
    }
    Err(NotMade::Unavailable {
        field: FIELD.to_owned(),
        reason: format!("others alter table {name} all the time"),
    })
}

fn facts(wanted: &FilesTable, table: String) -> Vec<(&'static str, String)> {
    let mut facts = vec![("table", table), ("columns", columns_text(&wanted.columns))];
    if !wanted.partition_keys.is_empty() {
        facts.push(("partition keys", columns_text(&wanted.partition_keys)));
    }
    facts
}

fn not_made(error: &DataCatalogError) -> NotMade {
    match error.hint() {
        Some(hint) => NotMade::Problems(vec![Problem::new(FIELD, error.to_string(), Some(hint))]),
        None => NotMade::Unavailable {
            field: FIELD.to_owned(),
            reason: error.to_string(),
        },
    }
}

/// The table that shows the files of this sink.
fn wanted(
    sink: &FilesSink,
    of: &SinkCatalog,
    place: Place<'_>,
    result: &SchemaRef,
) -> Result<FilesTable, Vec<Problem>> {
    let form = Form::new(result, sink);
    let schema = form.schema();
    let mut problems = vec![];
    let is_folder = |name: &str| {
        let of =
            |column: &PartitionColumn| matches!(column, PartitionColumn::Column(it) if it == name);
        sink.partition_by.iter().any(of)
    };
    let mut columns = vec![];
    for field in schema
        .fields()
        .iter()
        .filter(|field| !is_folder(field.name()))
    {
        match written::table_type(field.data_type(), sink.format, TextForm::of(sink)) {
            Ok(hive_type) => columns.push(column(field.name(), &hive_type)),
            Err(reason) => {
                let message = format!(
                    "column {:?} is {}, which a table of this format has no type for",
                    field.name(),
                    field.data_type()
                );
                let hint = Some(reason.hint(field.name()));
                problems.push(Problem::new(FIELD, message, hint));
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let keys = sink.partition_by.iter();
    let keys = keys.map(|key| column(key.name(), &key_type(key, schema)));
    let Serde {
        input_format,
        output_format,
        library,
        properties,
        parameters,
    } = Serde::of(sink.format);
    let texts = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let text = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(text).collect()
    };
    let mut parameters = texts(parameters);
    parameters.insert("EXTERNAL".to_owned(), "TRUE".to_owned());
    parameters.insert("streamctl.job".to_owned(), place.spec.name.to_string());
    if of.projection {
        parameters.extend(projection(sink));
    }
    Ok(FilesTable {
        location: sink.path.to_string(),
        columns,
        partition_keys: keys.collect(),
        input_format: input_format.to_owned(),
        output_format: output_format.to_owned(),
        library: library.to_owned(),
        serde: texts(properties),
        parameters,
        version: None,
    })
}

fn column(name: &str, hive_type: &HiveType) -> ColumnType {
    ColumnType {
        name: name.to_lowercase(),
        type_name: hive_type.to_string(),
    }
}

/// Readers cast the texts of folders; those of other types have several forms.
fn key_type(key: &PartitionColumn, schema: &Schema) -> HiveType {
    let PartitionColumn::Column(name) = key else {
        return HiveType::String;
    };
    let field = schema.fields().iter().find(|field| field.name() == name);
    match field.map(|field| field.data_type()) {
        Some(DataType::Int8 | DataType::Int16 | DataType::Int32) => HiveType::Int,
        Some(DataType::Int64) => HiveType::BigInt,
        Some(DataType::Date32) => HiveType::Date,
        _ => HiveType::String,
    }
}

/// The properties by which readers compute the partitions.
fn projection(sink: &FilesSink) -> Vec<(String, String)> {
    let mut all = vec![("projection.enabled".to_owned(), "true".to_owned())];
    let mut template = sink.path.to_string();
    for key in &sink.partition_by {
        let column = key.name().to_lowercase();
        let (kind, range, digits) = match key {
            PartitionColumn::IngestYear => ("integer", PROJECTED_YEARS, ""),
            PartitionColumn::IngestMonth => ("integer", "1,12", "2"),
            PartitionColumn::IngestDay => ("integer", "1,31", "2"),
            PartitionColumn::IngestHour => ("integer", "0,23", "2"),
            PartitionColumn::Column(_) => ("injected", "", ""),
        };
        for (property, value) in [("type", kind), ("range", range), ("digits", digits)] {
            if !value.is_empty() {
                all.push((format!("projection.{column}.{property}"), value.to_owned()));
            }
        }
        let folder = partition_folder(key.name(), None);
        let named = folder.split_once('=').map_or("", |(name, _)| name);
        template.push_str(&format!("{named}=${{{column}}}/"));
    }
    all.push(("storage.location.template".to_owned(), template));
    all
}

#[cfg(test)]
mod tests;
