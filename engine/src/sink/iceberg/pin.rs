//! A table as a submit pins it, and reading back what is pinned.
//!
//! Owns: which tables a job can write. Does not own: how a result differs from a table's columns
//! (`iceberg::compare`).
//! Rule: what a writer cannot serve is refused now, with the column's name, and not at the first
//! window.

use super::super::Place;
use super::{new_table, types};
use crate::iceberg::compare;
use crate::iceberg::metadata::{FORMAT_VERSION_MAX, TableMetadata};
use crate::iceberg::partition::{BoundField, PartitionSpec};
use crate::iceberg::plan::Writer;
use crate::iceberg::split::Splitter;
use crate::iceberg::storage_location;
use crate::iceberg::transform::Transform;
use crate::iceberg::types::Schema;
use arrow::datatypes::SchemaRef;
use streamctl_proto::ResolvedJob;
use streamctl_proto::spec::{IcebergSink, Location, PinnedTable, Problem, TableCatalog};

const TABLE: &str = "sink.table";

/// What is pinned is not in the form that this build knows.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error("the job's table is not pinned")]
    None,
    #[error("the pinned table is not in a known form: {0}")]
    Form(String),
}

/// The pinned table's columns.
///
/// # Errors
/// A later build's form.
pub fn pinned_schema(pinned: &PinnedTable) -> Result<Schema, PinError> {
    serde_json::from_value(pinned.schema.clone()).map_err(|error| PinError::Form(error.to_string()))
}

/// The pinned partition spec.
///
/// # Errors
/// A later build's form.
pub fn pinned_spec(pinned: &PinnedTable) -> Result<PartitionSpec, PinError> {
    serde_json::from_value(pinned.spec.clone()).map_err(|error| PinError::Form(error.to_string()))
}

/// The fields of the pinned partition spec, with their types.
///
/// # Errors
/// A later build's form.
pub fn pinned_fields(pinned: &PinnedTable) -> Result<Vec<BoundField>, PinError> {
    let schema = pinned_schema(pinned)?;
    let fields = pinned_spec(pinned)?.bind(&schema);
    fields.map_err(|bad| PinError::Form(bad.to_string()))
}

/// Who writes: the job in the table's marker.
pub fn writer(job: &ResolvedJob, pinned: &PinnedTable) -> Writer {
    Writer {
        cluster: pinned.cluster.clone(),
        job: job.spec.name.to_string(),
        submitted_ms: job.submitted_ms,
        table_uuid: pinned.uuid.clone(),
    }
}

/// Pins the table, or returns everything for which the job cannot write it.
pub(super) fn pin(
    sink: &IcebergSink,
    place: Place<'_>,
    table: &TableMetadata,
    result: &SchemaRef,
) -> Result<PinnedTable, Vec<Problem>> {
    let problem =
        |field: &str, message: String, hint: String| vec![Problem::new(field, message, Some(hint))];
    if !(2..=FORMAT_VERSION_MAX).contains(&table.format_version) {
        let message = format!(
            "the table has version {} of the format",
            table.format_version
        );
        let hint = "versions 2 and 3 are written: ALTER TABLE ... SET TBLPROPERTIES ('format-version' = '2')";
        return Err(problem(TABLE, message, hint.to_owned()));
    }
    if table.format_version >= 3 && sink.maintenance.is_some() {
        let message =
            "rows of a table of version 3 have ids, and rewriting files would change them";
        let hint = "leave maintenance out; Spark's rewrite_data_files keeps the ids";
        return Err(problem(
            "sink.maintenance",
            message.to_owned(),
            hint.to_owned(),
        ));
    }
    let Some(schema) = table.current_schema() else {
        let hint = "look at the table's metadata file".to_owned();
        return Err(problem(
            TABLE,
            "the table has no current schema".into(),
            hint,
        ));
    };
    let Some(spec) = table.spec(table.default_spec_id) else {
        let hint = "look at the table's metadata file".to_owned();
        return Err(problem(
            TABLE,
            "the table has no current partition spec".into(),
            hint,
        ));
    };
    let mut problems = differing(result, schema);
    problems.extend(partitions(sink, spec, schema, result));
    let data = match data_folder(sink, place, table) {
        Ok(data) => data,
        Err(found) => {
            problems.extend(found);
            return Err(problems);
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let json = |value: Result<serde_json::Value, serde_json::Error>| {
        value.map_err(|error| problem(TABLE, error.to_string(), String::new()))
    };
    Ok(PinnedTable {
        cluster: place.storages.tables().cluster().to_owned(),
        uuid: table.table_uuid.clone(),
        data,
        schema_id: schema.schema_id,
        spec_id: spec.spec_id,
        partition_fields: spec.fields.iter().map(|field| field.name.clone()).collect(),
        schema: json(serde_json::to_value(schema))?,
        spec: json(serde_json::to_value(spec))?,
    })
}

/// The differences between the result and the table's columns.
fn differing(result: &SchemaRef, schema: &Schema) -> Vec<Problem> {
    let result = types::fields(result);
    let differences = compare::differences(&result, schema).into_iter();
    let mut problems: Vec<_> = differences
        .map(|found| Problem::new(TABLE, found.to_string(), Some(found.hint)))
        .collect();
    for column in &schema.fields {
        let given = result.iter().any(|field| field.name == column.name);
        if !given && column.rest.contains_key("write-default") {
            let message = format!(
                "column {:?} has a default in the table, and the query does not return it",
                column.name
            );
            let hint = format!("add it to the query: ... AS {}", column.name);
            problems.push(Problem::new(TABLE, message, Some(hint)));
        }
    }
    problems
}

fn partitions(
    sink: &IcebergSink,
    spec: &PartitionSpec,
    schema: &Schema,
    result: &SchemaRef,
) -> Vec<Problem> {
    let fields = match spec.bind(schema) {
        Ok(fields) => fields,
        Err(bad) => return vec![Problem::new(TABLE, bad.to_string(), Some(bad.hint))],
    };
    let form = types::form(result, Some(schema));
    if let Err(none) = Splitter::new(fields, schema, form.schema()) {
        let hint = format!("add {} to the query", none.column);
        return vec![Problem::new(TABLE, none.to_string(), Some(hint))];
    }
    let Some(wanted) = &sink.partition else {
        return vec![];
    };
    let plain = |spec: &PartitionSpec| -> Vec<(i32, Transform)> {
        let fields = spec.fields.iter();
        let fields = fields.filter(|field| field.transform != Transform::Void);
        fields
            .map(|field| (field.source_id, field.transform.clone()))
            .collect()
    };
    match new_table::spec(wanted, schema) {
        Ok(wanted) if plain(&wanted) == plain(spec) => vec![],
        Ok(_) => {
            let found = spec_text(spec, schema);
            let message = format!("the table is partitioned otherwise: {found}");
            let hint = "leave the key out to write the table as it is";
            vec![Problem::new(
                "sink.partition",
                message,
                Some(hint.to_owned()),
            )]
        }
        // The result has the column; the table's one of this name is elsewhere.
        Err(problems) => problems,
    }
}

/// The folder of the table's data files, apart from what the job stores elsewhere.
fn data_folder(
    sink: &IcebergSink,
    place: Place<'_>,
    table: &TableMetadata,
) -> Result<Location, Vec<Problem>> {
    let location = storage_location(&table.location);
    if let Some(wanted) = &sink.location
        && *wanted != Location::folder(&location)
    {
        let message = format!("the table is at {location}");
        let hint = "leave the key out: it is for a new table".to_owned();
        return Err(vec![Problem::new("sink.location", message, Some(hint))]);
    }
    let folder = storage_location(&table.data_folder());
    // Who may name a catalog may not name folders of the machines by it.
    let local = matches!(sink.catalog, TableCatalog::Local { .. }) && folder.starts_with('/');
    if !folder.starts_with("s3://") && !local {
        let message = format!("the table's data are at {folder}, which is not in S3");
        let hint = "use a table in S3, or catalog = \"local\"".to_owned();
        return Err(vec![Problem::new(TABLE, message, Some(hint))]);
    }
    let data = Location::folder(&folder);
    let others = [
        ("checkpoint.location", place.spec.checkpoint.clone()),
        ("dead_letter.path", place.spec.dead_letters()),
    ];
    let meets = others.iter().find(|(_, other)| other.overlaps(&data));
    if let Some((key, other)) = meets {
        let message = format!("the table's data at {data} lie inside, or around, {key} ({other})");
        let hint = "give each a folder of its own".to_owned();
        return Err(vec![Problem::new(TABLE, message, Some(hint))]);
    }
    Ok(data)
}

/// What a user should know of a table.
pub(super) fn facts(
    sink: &IcebergSink,
    table: &TableMetadata,
    pinned: &PinnedTable,
) -> Vec<(&'static str, String)> {
    let schema = table.current_schema();
    let spec = table.spec(pinned.spec_id);
    let columns = schema.map_or(0, |schema| schema.fields.len());
    let partition = spec
        .zip(schema)
        .map(|(spec, schema)| spec_text(spec, schema));
    let snapshots = table.snapshots.len();
    vec![
        (
            "table",
            format!(
                "{} exists: UUID {}, format version {}, {columns} columns, {snapshots} snapshots",
                sink.table, pinned.uuid, table.format_version
            ),
        ),
        ("partition", partition.unwrap_or_default()),
        ("location", table.location.clone()),
    ]
}

/// A partition spec as a job file states one.
pub(super) fn spec_text(spec: &PartitionSpec, schema: &Schema) -> String {
    let fields = spec.fields.iter();
    let fields = fields.filter(|field| field.transform != Transform::Void);
    let text = |field: &crate::iceberg::partition::PartitionField| {
        let column = schema.field(field.source_id);
        let column = column.map_or("?", |column| column.name.as_str());
        match &field.transform {
            Transform::Identity => column.to_owned(),
            Transform::Bucket(count) => format!("bucket({count}, {column})"),
            Transform::Truncate(width) => format!("truncate({width}, {column})"),
            other => format!("{other}({column})"),
        }
    };
    let all: Vec<_> = fields.map(text).collect();
    match all.is_empty() {
        true => "none".to_owned(),
        false => all.join(", "),
    }
}
