//! What a catalog table says beyond its columns, compared with a job.
//!
//! Owns: problems and notes of it. Does not own: what a property means ([`crate::catalog`]).
//! Rule: a property that is not honoured is a problem of the key that names the table.

use super::{Failure, Log, schema_field};
use crate::catalog::{Asked, CatalogTable};
use crate::query::{QueryError, QueryPlan, QueryText, RecordColumn};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;
use streamctl_proto::JobSpec;
use streamctl_proto::resolved::{ColumnType, NestedColumns};
use streamctl_proto::spec::{HiveType, PayloadFormat, Problem};

/// Checks what reading the table's records takes.
pub(super) fn asked(spec: &JobSpec, table: &CatalogTable, log: &mut Log) -> Asked {
    let mut asked = table.reading.asked_of(&spec.source, &table.columns);
    let field = schema_field(&spec.source.schema);
    for refused in &asked.refused {
        log.problem(field, refused.message.clone(), Some(refused.hint.clone()));
    }
    asked.notes.extend(lengths(table));
    let is_of_records = |column: &&ColumnType| {
        RecordColumn::ALL
            .iter()
            .any(|one| column.name.eq_ignore_ascii_case(one.name()))
    };
    for column in table.columns.iter().filter(is_of_records) {
        let name = column.name.to_lowercase();
        asked.notes.push(format!(
            "{name} is the column of the records, not that of a record's place"
        ));
    }
    if !table.partition_keys.is_empty() {
        let keys = table.partition_keys.join(", ");
        asked.notes.push(format!(
            "{keys}: partition keys of the table are parts of folder names, not columns of its records"
        ));
    }
    asked
}

/// What columns of nested types are in a job that is submitted now. A row of CSV has no objects.
pub(super) fn nested_columns(spec: &JobSpec, columns: &[ColumnType]) -> NestedColumns {
    let is_nested = |column: &ColumnType| HiveType::is_nested(&column.type_name);
    match spec.source.kind.payload_format() {
        PayloadFormat::Json(format) if !format.of_rows && columns.iter().any(is_nested) => {
            NestedColumns::Typed
        }
        PayloadFormat::Json(_) | PayloadFormat::Csv(_) => NestedColumns::Text,
    }
}

/// A declared length changes nothing.
fn lengths(table: &CatalogTable) -> Option<String> {
    let has_length = |text: &str| {
        matches!(
            HiveType::parse(text),
            Ok(HiveType::Char(Some(_)) | HiveType::Varchar(Some(_)))
        )
    };
    let columns = table.columns.iter().filter(|c| has_length(&c.type_name));
    let names: Vec<_> = columns
        .map(|c| format!("{} {}", c.name.to_lowercase(), c.type_name))
        .collect();
    let names = names.join(", ");
    (!names.is_empty()).then(|| {
        format!(
            "{names}: texts stay as they are, a longer one is not cut and a shorter one not padded"
        )
    })
}

/// Plans the query. One that reads partition keys of the table fails with their names.
pub(super) async fn plan(
    schema: SchemaRef,
    lookups: Vec<(String, SchemaRef)>,
    text: QueryText<'_>,
    partition_keys: &[String],
) -> Result<QueryPlan, Failure> {
    let error = match QueryPlan::new(Arc::clone(&schema), lookups.clone(), text).await {
        Ok(plan) => return Ok(plan),
        Err(error) => error,
    };
    let is_column = |key: &&String| schema.field_with_name(key).is_ok();
    let keys: Vec<_> = partition_keys
        .iter()
        .filter(|key| !is_column(key))
        .collect();
    if keys.is_empty() || !matches!(error, QueryError::Sql { .. }) {
        return Err(Failure::of_query(&error));
    }
    let texts = keys
        .iter()
        .map(|key| Arc::new(Field::new(key.as_str(), DataType::Utf8, true)));
    let fields: Vec<_> = schema.fields().iter().cloned().chain(texts).collect();
    let width = schema.fields().len();
    let Ok(plan) = QueryPlan::new(Schema::new(fields).into(), lookups, text).await else {
        return Err(Failure::of_query(&error));
    };
    let read = plan
        .source_columns()
        .iter()
        .filter_map(|index| index.checked_sub(width));
    let names: Vec<_> = read.map(|index| keys[index].as_str()).collect();
    let hint = "use a column of the records; if they have such a key too, write the columns in [source.schema], this one \
                among them";
    Err(Failure::Problem(Problem {
        message: format!(
            "{}: partition keys of the catalog's table are parts of folder names, not columns of its records",
            names.join(", ")
        ),
        hint: Some(hint.to_owned()),
        ..error.problem()
    }))
}
