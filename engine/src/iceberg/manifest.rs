//! Manifests: the data files of a snapshot.
//!
//! Owns: their Avro form for versions 2 and 3, what a manifest list repeats of them. Does not own:
//! the list (`manifest_list`), which files are added (`plan`).
//! Rule: an added entry has no sequence number: it inherits the one of the snapshot, so that the
//! same manifest serves every try.

mod live;

pub use live::{LiveFile, live_file, location_of, removed_by, rows_of, size_of};

use super::avro::{AvroError, AvroSchema, Container, Value, read_container, write_container};
use super::data_file::{DataFile, Metrics};
use super::datum::{Datum, decimal_bytes, minimal};
use super::partition::{BoundField, PartitionSpec};
use super::types::{Primitive, Schema};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// An entry's status.
pub const EXISTING: i32 = 0;
pub const ADDED: i32 = 1;
pub const DELETED: i32 = 2;
/// Where a data file's record has its number of rows, and in version 3 its first row id.
const ROWS_AT: usize = 4;
const FIRST_ROW_AT: usize = 16;

/// What all files of a manifest share.
#[derive(Clone, Debug)]
pub struct ManifestKind<'a> {
    pub format_version: u8,
    pub schema: &'a Schema,
    pub spec: &'a PartitionSpec,
    /// The fields of `spec`.
    pub fields: &'a [BoundField],
}

/// The range of one partition field over a manifest's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionSummary {
    pub contains_null: bool,
    pub contains_nan: bool,
    pub lower: Option<Vec<u8>>,
    pub upper: Option<Vec<u8>>,
}

/// The file of a manifest whose entries are all added by `snapshot_id`.
///
/// # Errors
/// Partition values that do not fit the spec.
pub fn encode_added(
    kind: &ManifestKind<'_>,
    snapshot_id: i64,
    files: &[&DataFile],
) -> Result<Vec<u8>, AvroError> {
    let entries = files.iter().map(|file| {
        Ok(Value::Record(vec![
            Value::Int(ADDED),
            Value::Long(snapshot_id),
            Value::Null,
            Value::Null,
            data_file(kind, file)?,
        ]))
    });
    encode(kind, &entries.collect::<Result<Vec<_>, AvroError>>()?)
}

/// The file of these entries, which are in the form of [`entry_schema`].
///
/// # Errors
/// Entries of another form.
pub fn encode(kind: &ManifestKind<'_>, entries: &[Value]) -> Result<Vec<u8>, AvroError> {
    let text = |value: Result<String, serde_json::Error>| {
        value.map_err(|error| AvroError(error.to_string()))
    };
    let header = [
        ("schema", text(serde_json::to_string(kind.schema))?),
        ("schema-id", kind.schema.schema_id.to_string()),
        (
            "partition-spec",
            text(serde_json::to_string(&spec_fields(kind)))?,
        ),
        ("partition-spec-id", kind.spec.spec_id.to_string()),
        ("format-version", kind.format_version.to_string()),
        ("content", "data".to_owned()),
    ];
    write_container(&AvroSchema::new(&entry_schema(kind))?, &header, entries)
}

/// The entries of a manifest of ours; `None`: it is of another form, written by others.
///
/// # Errors
/// A file that is not a manifest.
pub fn entries_of_same_form(
    kind: &ManifestKind<'_>,
    bytes: &[u8],
) -> Result<Option<Vec<Value>>, AvroError> {
    let own = AvroSchema::new(&entry_schema(kind))?;
    let read = read_container(bytes, &own)?;
    let same = read.schema == *own.node();
    Ok(same.then_some(read.records))
}

/// An entry of any writer's manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub status: i32,
    pub snapshot_id: Option<i64>,
    pub sequence_number: Option<i64>,
    pub location: String,
    pub rows: i64,
    pub first_row_id: Option<i64>,
}

/// The entries of a manifest of any writer.
///
/// # Errors
/// A file that is not a manifest.
pub fn decode(bytes: &[u8]) -> Result<Vec<Listed>, AvroError> {
    let Container {
        schema, records, ..
    } = read_container(bytes, plain())?;
    let entry = |record: &Value| -> Option<Listed> {
        let field = |id| by_id(&schema, record, id);
        let node = &schema
            .fields()
            .iter()
            .find(|field| field.id == Some(2))?
            .node;
        let file = |id| by_id(node.without_null(), field(2)?, id);
        Some(Listed {
            status: i32::try_from(field(0)?.number()?).ok()?,
            snapshot_id: field(1).and_then(Value::number),
            sequence_number: field(3).and_then(Value::number),
            location: file(100)?.text()?.to_owned(),
            rows: file(103)?.number()?,
            first_row_id: file(142).and_then(Value::number),
        })
    };
    records
        .iter()
        .map(|record| entry(record).ok_or_else(|| AvroError("this is not a manifest".into())))
        .collect()
}

/// The schema of a manifest without partitions.
fn plain() -> &'static AvroSchema {
    static PLAIN: LazyLock<AvroSchema> = LazyLock::new(|| {
        let kind = ManifestKind {
            format_version: 2,
            schema: &Schema::new(vec![]),
            spec: &PartitionSpec::default(),
            fields: &[],
        };
        AvroSchema::new(&entry_schema(&kind)).expect("a constant")
    });
    &PLAIN
}

/// A field of a record by Iceberg's id.
pub fn by_id<'a>(node: &super::avro::Node, record: &'a Value, id: i32) -> Option<&'a Value> {
    let at = node
        .fields()
        .iter()
        .position(|field| field.id == Some(id))?;
    match record {
        Value::Record(values) => values.get(at),
        _ => None,
    }
}

/// Version 3: writes out the row id that a file inherits; `next` is that of the next file. `None`:
/// this is no data file of ours.
pub fn give_row_id(file: &mut Value, next: &mut Option<i64>) -> Option<()> {
    let Value::Record(values) = file else {
        return None;
    };
    let rows = values.get(ROWS_AT)?.number()?;
    if let (Some(first), Some(value)) = (*next, values.get_mut(FIRST_ROW_AT))
        && *value == Value::Null
    {
        *value = Value::Long(first);
        *next = Some(first + rows);
    }
    Some(())
}

impl PartitionSummary {
    /// The summaries of several manifests of one spec as one.
    pub fn united(fields: &[BoundField], all: &[&[Self]]) -> Vec<Self> {
        let of = |at: usize, field: &BoundField| {
            let parts: Vec<_> = all
                .iter()
                .filter_map(|summaries| summaries.get(at))
                .collect();
            let value = |bytes: &&Vec<u8>| Datum::from_bytes(&field.result, bytes.as_slice());
            let key = |bytes: &&Vec<u8>| value(bytes).map(|value| value.key());
            let lowest = parts.iter().filter_map(|part| part.lower.as_ref());
            let highest = parts.iter().filter_map(|part| part.upper.as_ref());
            Self {
                contains_null: parts.iter().any(|part| part.contains_null),
                contains_nan: parts.iter().any(|part| part.contains_nan),
                lower: lowest.min_by_key(key).cloned(),
                upper: highest.max_by_key(key).cloned(),
            }
        };
        let fields = fields.iter().enumerate();
        fields.map(|(at, field)| of(at, field)).collect()
    }
}

/// What the manifest list states of the partitions of these files.
pub fn summaries(fields: &[BoundField], files: &[&DataFile]) -> Vec<PartitionSummary> {
    let of = |at: usize| {
        let mut summary = PartitionSummary::default();
        let mut lowest: Option<&Datum> = None;
        let mut highest: Option<&Datum> = None;
        for file in files {
            match file.partition.get(at).and_then(Option::as_ref) {
                None => summary.contains_null = true,
                Some(value) if value.is_nan() => summary.contains_nan = true,
                Some(value) => {
                    if lowest.is_none_or(|lowest| value.key() < lowest.key()) {
                        lowest = Some(value);
                    }
                    if highest.is_none_or(|highest| value.key() > highest.key()) {
                        highest = Some(value);
                    }
                }
            }
        }
        summary.lower = lowest.map(Datum::to_bytes);
        summary.upper = highest.map(Datum::to_bytes);
        summary
    };
    (0..fields.len()).map(of).collect()
}

/// The spec's fields, each with its id.
fn spec_fields(kind: &ManifestKind<'_>) -> Vec<Json> {
    let field = |field: &BoundField| {
        json!({
            "source-id": field.source_id,
            "field-id": field.field_id,
            "name": field.name,
            "transform": field.transform,
        })
    };
    kind.fields.iter().map(field).collect()
}

fn optional(name: &str, id: i32, r#type: Json) -> Json {
    json!({"name": name, "type": ["null", r#type], "default": null, "field-id": id})
}

fn required(name: &str, id: i32, r#type: Json) -> Json {
    json!({"name": name, "type": r#type, "field-id": id})
}

/// A map with numbers as keys, which Avro does not have.
fn map(name: &str, id: i32, key_id: i32, value: &str) -> Json {
    let entry = json!({
        "type": "record",
        "name": format!("k{key_id}_v{}", key_id + 1),
        "fields": [
            required("key", key_id, json!("int")),
            required("value", key_id + 1, json!(value)),
        ],
    });
    optional(
        name,
        id,
        json!({"type": "array", "items": entry, "logicalType": "map"}),
    )
}

/// The Avro schema of an entry.
pub fn entry_schema(kind: &ManifestKind<'_>) -> Json {
    let partition: Vec<_> = kind
        .fields
        .iter()
        .map(|field| {
            optional(
                &avro_name(&field.name),
                field.field_id,
                partition_type(field),
            )
        })
        .collect();
    let partition = json!({"type": "record", "name": "r102", "fields": partition});
    let list = |element_id: i32, items: &str| json!({"type": "array", "items": items, "element-id": element_id});
    let mut file = vec![
        required("content", 134, json!("int")),
        required("file_path", 100, json!("string")),
        required("file_format", 101, json!("string")),
        required("partition", 102, partition),
        required("record_count", 103, json!("long")),
        required("file_size_in_bytes", 104, json!("long")),
        map("column_sizes", 108, 117, "long"),
        map("value_counts", 109, 119, "long"),
        map("null_value_counts", 110, 121, "long"),
        map("nan_value_counts", 137, 138, "long"),
        map("lower_bounds", 125, 126, "bytes"),
        map("upper_bounds", 128, 129, "bytes"),
        optional("key_metadata", 131, json!("bytes")),
        optional("split_offsets", 132, list(133, "long")),
        optional("equality_ids", 135, list(136, "int")),
        optional("sort_order_id", 140, json!("int")),
    ];
    if kind.format_version >= 3 {
        file.push(optional("first_row_id", 142, json!("long")));
    }
    let file = json!({"type": "record", "name": "r2", "fields": file});
    json!({"type": "record", "name": "manifest_entry", "fields": [
        required("status", 0, json!("int")),
        optional("snapshot_id", 1, json!("long")),
        optional("sequence_number", 3, json!("long")),
        optional("file_sequence_number", 4, json!("long")),
        required("data_file", 2, file),
    ]})
}

fn partition_type(field: &BoundField) -> Json {
    use Primitive as P;
    // Names of types are unique in a schema: two fields may be of one type.
    let name = |kind: &str| format!("{kind}_{}", field.field_id);
    match &field.result {
        P::Boolean => json!("boolean"),
        P::Int => json!("int"),
        P::Long => json!("long"),
        P::Float => json!("float"),
        P::Double => json!("double"),
        P::Date => json!({"type": "int", "logicalType": "date"}),
        P::Time => json!({"type": "long", "logicalType": "time-micros"}),
        P::Timestamp | P::Timestamptz => json!({
            "type": "long",
            "logicalType": "timestamp-micros",
            "adjust-to-utc": field.result == P::Timestamptz,
        }),
        P::TimestampNs | P::TimestamptzNs => json!({
            "type": "long",
            "logicalType": "timestamp-nanos",
            "adjust-to-utc": field.result == P::TimestamptzNs,
        }),
        P::Decimal { precision, scale } => json!({
            "type": "fixed",
            "name": name(&format!("decimal_{precision}_{scale}")),
            "size": decimal_bytes(*precision),
            "logicalType": "decimal",
            "precision": precision,
            "scale": scale,
        }),
        P::String => json!("string"),
        P::Uuid => json!({
            "type": "fixed", "name": name("uuid_fixed"), "size": 16, "logicalType": "uuid",
        }),
        P::Fixed(bytes) => json!({"type": "fixed", "name": name("fixed"), "size": bytes}),
        P::Binary | P::Other(_) => json!("bytes"),
    }
}

/// A name that Avro takes: other characters as `_x` and their code.
fn avro_name(name: &str) -> String {
    let mut plain = String::new();
    for (at, c) in name.chars().enumerate() {
        match c {
            'a'..='z' | 'A'..='Z' | '_' => plain.push(c),
            '0'..='9' if at > 0 => plain.push(c),
            '0'..='9' => plain.extend(['_', c]),
            _ => plain.push_str(&format!("_x{:X}", u32::from(c))),
        }
    }
    plain
}

fn data_file(kind: &ManifestKind<'_>, file: &DataFile) -> Result<Value, AvroError> {
    let wrong = |reason: String| AvroError(format!("{}: {reason}", file.location));
    if file.partition.len() != kind.fields.len() {
        let (given, wanted) = (file.partition.len(), kind.fields.len());
        return Err(wrong(format!(
            "it has {given} partition values, the spec {wanted}"
        )));
    }
    let partition = kind.fields.iter().zip(&file.partition);
    let partition = partition.map(|(field, value)| match value {
        Some(value) => partition_value(field, value)
            .ok_or_else(|| wrong(format!("{value:?} is no value of {:?}", field.name))),
        None => Ok(Value::Null),
    });
    let long = |number: u64| match i64::try_from(number) {
        Ok(number) => Ok(Value::Long(number)),
        Err(_) => Err(wrong("it is too large".into())),
    };
    let Metrics {
        column_sizes,
        value_counts,
        null_counts,
        lower_bounds,
        upper_bounds,
    } = &file.metrics;
    let offsets = file.split_offsets.iter().map(|offset| Value::Long(*offset));
    let offsets = Value::Array(offsets.collect());
    let mut values = vec![
        Value::Int(0),
        Value::Text(file.location.clone()),
        Value::Text("PARQUET".into()),
        Value::Record(partition.collect::<Result<_, _>>()?),
        long(file.rows)?,
        long(file.size)?,
        by_column(column_sizes, |value| Value::Long(*value)),
        by_column(value_counts, |value| Value::Long(*value)),
        by_column(null_counts, |value| Value::Long(*value)),
        Value::Null,
        by_column(lower_bounds, |value| Value::Bytes(value.clone())),
        by_column(upper_bounds, |value| Value::Bytes(value.clone())),
        Value::Null,
        if file.split_offsets.is_empty() {
            Value::Null
        } else {
            offsets
        },
        Value::Null,
        Value::Null,
    ];
    if kind.format_version >= 3 {
        values.push(Value::Null);
    }
    Ok(Value::Record(values))
}

fn by_column<T>(values: &BTreeMap<i32, T>, value: impl Fn(&T) -> Value) -> Value {
    if values.is_empty() {
        return Value::Null;
    }
    let entries = values
        .iter()
        .map(|(id, inner)| Value::Record(vec![Value::Int(*id), value(inner)]));
    Value::Array(entries.collect())
}

/// `None`: the value is of another type.
fn partition_value(field: &BoundField, value: &Datum) -> Option<Value> {
    use Primitive as P;
    Some(match (&field.result, value) {
        (P::Boolean, Datum::Boolean(value)) => Value::Boolean(*value),
        (P::Int | P::Date, Datum::Int(value)) => Value::Int(*value),
        (
            P::Long | P::Time | P::Timestamp | P::Timestamptz | P::TimestampNs | P::TimestamptzNs,
            Datum::Long(value),
        ) => Value::Long(*value),
        (P::Float, Datum::Float(value)) => Value::Float(*value),
        (P::Double, Datum::Double(value)) => Value::Double(*value),
        (P::Decimal { precision, .. }, Datum::Decimal(value)) => {
            let bytes = minimal(*value);
            let fill = if *value < 0 { 0xff } else { 0 };
            let mut fixed = vec![fill; decimal_bytes(*precision).checked_sub(bytes.len())?];
            fixed.extend(bytes);
            Value::Bytes(fixed)
        }
        (P::String, Datum::Text(value)) => Value::Text(value.clone()),
        (P::Uuid | P::Fixed(_) | P::Binary, Datum::Bytes(value)) => Value::Bytes(value.clone()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
