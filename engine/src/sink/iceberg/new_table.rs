//! The table that a submit makes.
//!
//! Rule: all its columns are those of the result, optional; old metadata files are removed by the
//! catalog, so that the table does not grow with each window.

use super::{table_name, types};
use crate::iceberg::catalog::request::NewTable;
use crate::iceberg::partition::{FIRST_FIELD_ID, PartitionField, PartitionSpec};
use crate::iceberg::transform::Transform;
use crate::iceberg::types::Schema;
use arrow::datatypes::SchemaRef;
use std::collections::BTreeMap;
use streamctl_proto::spec::{Compression, IcebergSink, PartitionBy, PartitionTransform, Problem};

const PARTITION: &str = "sink.partition";

/// # Errors
/// Columns without a type, or partition fields that do not fit them.
pub(super) fn new_table(sink: &IcebergSink, result: &SchemaRef) -> Result<NewTable, Vec<Problem>> {
    let name = table_name(sink)
        .map_err(|error| vec![Problem::new("sink.table", error.to_string(), None)])?;
    let schema = types::new_schema(result)?;
    let fields = sink.partition.as_deref().unwrap_or_default();
    let spec = spec(fields, &schema)?;
    if let Err(bad) = spec.bind(&schema) {
        let hint = bad.hint.clone();
        return Err(vec![Problem::new(PARTITION, bad.to_string(), Some(hint))]);
    }
    let codec = match sink.compression {
        Compression::None => "uncompressed",
        Compression::Snappy => "snappy",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    };
    let properties = [
        ("write.format.default", "parquet"),
        ("write.parquet.compression-codec", codec),
        ("write.metadata.delete-after-commit.enabled", "true"),
        ("write.metadata.previous-versions-max", "100"),
    ];
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let location = sink.location.as_ref().map(ToString::to_string);
    Ok(NewTable {
        name,
        location: location.map(|location| location.trim_end_matches('/').to_owned()),
        schema,
        spec,
        properties: BTreeMap::from(properties),
    })
}

/// The partition spec of these fields.
///
/// # Errors
/// A column that is not there, or a name that is taken.
pub(super) fn spec(all: &[PartitionBy], schema: &Schema) -> Result<PartitionSpec, Vec<Problem>> {
    let mut problems = vec![];
    let mut fields = vec![];
    for (at, by) in all.iter().enumerate() {
        let Some(column) = schema.column(&by.column) else {
            problems.push(no_column(
                by,
                schema.fields.iter().map(|field| &*field.name),
            ));
            continue;
        };
        let name = by.field_name();
        if by.transform != PartitionTransform::Identity && schema.column(&name).is_some() {
            let message = format!("{by} is named {name}, which is a column too");
            let hint = format!("rename the column {name} in the query with AS");
            problems.push(Problem::new(PARTITION, message, Some(hint)));
        }
        let at = i32::try_from(at).unwrap_or(i32::MAX);
        fields.push(PartitionField {
            source_id: column.id,
            field_id: Some(FIRST_FIELD_ID.saturating_add(at)),
            name,
            transform: transform(by.transform),
        });
    }
    if problems.is_empty() {
        Ok(PartitionSpec { spec_id: 0, fields })
    } else {
        Err(problems)
    }
}

pub(super) fn transform(of: PartitionTransform) -> Transform {
    match of {
        PartitionTransform::Identity => Transform::Identity,
        PartitionTransform::Year => Transform::Year,
        PartitionTransform::Month => Transform::Month,
        PartitionTransform::Day => Transform::Day,
        PartitionTransform::Hour => Transform::Hour,
        PartitionTransform::Bucket(count) => Transform::Bucket(count),
        PartitionTransform::Truncate(width) => Transform::Truncate(width),
    }
}

/// Partition fields of columns that the result does not have.
pub(super) fn unknown_columns(sink: &IcebergSink, result: &SchemaRef) -> Vec<Problem> {
    let names = || result.fields().iter().map(|field| field.name().as_str());
    let unknown = sink.partition.iter().flatten();
    let unknown = unknown.filter(|by| !names().any(|name| name == by.column));
    unknown.map(|by| no_column(by, names())).collect()
}

fn no_column<'a>(by: &PartitionBy, names: impl Iterator<Item = &'a str>) -> Problem {
    let names: Vec<_> = names.collect();
    let column = &by.column;
    let near = names.iter().find(|name| name.eq_ignore_ascii_case(column));
    let hint = match near {
        Some(name) => format!("did you mean {name:?}?"),
        None => format!("the result's columns are: {}", names.join(", ")),
    };
    let message = format!("the result has no column {column:?} to partition by");
    Problem::new(PARTITION, message, Some(hint))
}
