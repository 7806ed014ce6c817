//! Manifest lists: the manifests of a snapshot.
//!
//! Owns: their Avro form, reading those of other writers. Does not own: what is in a manifest.
//! Rule: fields are found by their ids: their names differ between writers. What a manifest of
//! another writer states is repeated unchanged.

use super::avro::{AvroError, AvroSchema, Node, Value, read_container, write_container};
use super::manifest::{PartitionSummary, by_id};
use serde_json::{Value as Json, json};
use std::sync::LazyLock;

/// Most manifests in a list that is read: above, the table needs its manifests rewritten.
pub const MANIFESTS_MAX: usize = 200_000;

/// A manifest in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestFile {
    pub location: String,
    /// In bytes.
    pub length: i64,
    pub spec_id: i32,
    pub content: Content,
    pub sequence_number: i64,
    pub min_sequence_number: i64,
    pub added_snapshot_id: i64,
    pub added_files: i32,
    pub existing_files: i32,
    pub deleted_files: i32,
    pub added_rows: i64,
    pub existing_rows: i64,
    pub deleted_rows: i64,
    pub partitions: Option<Vec<PartitionSummary>>,
    pub key_metadata: Option<Vec<u8>>,
    /// Version 3: the id of its first row.
    pub first_row_id: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Data,
    Deletes,
}

impl ManifestFile {
    /// It only states which files its snapshot removed: later snapshots do not need it.
    pub fn is_spent(&self) -> bool {
        self.deleted_files > 0 && self.added_files == 0 && self.existing_files == 0
    }
}

/// How the names of our manifests begin.
const OURS: &str = "streamctl-";

/// The manifests that the next snapshot lists too: not ours that only state what was removed.
pub fn kept(listed: &[ManifestFile]) -> impl Iterator<Item = &ManifestFile> {
    let is_ours = |manifest: &ManifestFile| {
        let name = manifest.location.rsplit('/').next();
        name.is_some_and(|name| name.starts_with(OURS))
    };
    listed
        .iter()
        .filter(move |manifest| !(manifest.is_spent() && is_ours(manifest)))
}

/// Of the snapshot whose list it is.
#[derive(Clone, Copy, Debug)]
pub struct ListHeader {
    pub format_version: u8,
    pub snapshot_id: i64,
    pub parent_snapshot_id: Option<i64>,
    pub sequence_number: i64,
    /// Version 3.
    pub first_row_id: Option<i64>,
}

/// # Errors
/// None for what [`decode`] returns.
pub fn encode(header: &ListHeader, manifests: &[ManifestFile]) -> Result<Vec<u8>, AvroError> {
    let parent = header.parent_snapshot_id;
    let mut entries = vec![
        ("snapshot-id", header.snapshot_id.to_string()),
        (
            "parent-snapshot-id",
            parent.map_or_else(|| "null".into(), |id| id.to_string()),
        ),
        ("sequence-number", header.sequence_number.to_string()),
    ];
    if let Some(first) = header.first_row_id {
        entries.push(("first-row-id", first.to_string()));
    }
    entries.push(("format-version", header.format_version.to_string()));
    let records: Vec<_> = manifests
        .iter()
        .map(|manifest| record(header.format_version, manifest))
        .collect();
    write_container(known(header.format_version), &entries, &records)
}

/// The schema of lists of this version, made once.
fn known(format_version: u8) -> &'static AvroSchema {
    static OF_2: LazyLock<AvroSchema> = LazyLock::new(|| made(2));
    static OF_3: LazyLock<AvroSchema> = LazyLock::new(|| made(3));
    fn made(format_version: u8) -> AvroSchema {
        AvroSchema::new(&schema(format_version)).expect("a constant")
    }
    if format_version >= 3 { &OF_3 } else { &OF_2 }
}

fn schema(format_version: u8) -> Json {
    let required =
        |name: &str, id: i32, r#type: &str| json!({"name": name, "type": r#type, "field-id": id});
    let optional = |name: &str, id: i32, r#type: Json| json!({"name": name, "type": ["null", r#type], "default": null, "field-id": id});
    let summary = json!({"type": "record", "name": "r508", "fields": [
        required("contains_null", 509, "boolean"),
        optional("contains_nan", 518, json!("boolean")),
        optional("lower_bound", 510, json!("bytes")),
        optional("upper_bound", 511, json!("bytes")),
    ]});
    let mut fields = vec![
        required("manifest_path", 500, "string"),
        required("manifest_length", 501, "long"),
        required("partition_spec_id", 502, "int"),
        required("content", 517, "int"),
        required("sequence_number", 515, "long"),
        required("min_sequence_number", 516, "long"),
        required("added_snapshot_id", 503, "long"),
        required("added_files_count", 504, "int"),
        required("existing_files_count", 505, "int"),
        required("deleted_files_count", 506, "int"),
        required("added_rows_count", 512, "long"),
        required("existing_rows_count", 513, "long"),
        required("deleted_rows_count", 514, "long"),
        optional(
            "partitions",
            507,
            json!({"type": "array", "items": summary, "element-id": 508}),
        ),
        optional("key_metadata", 519, json!("bytes")),
    ];
    if format_version >= 3 {
        fields.push(optional("first_row_id", 520, json!("long")));
    }
    json!({"type": "record", "name": "manifest_file", "fields": fields})
}

fn record(format_version: u8, manifest: &ManifestFile) -> Value {
    let bytes = |bytes: &Option<Vec<u8>>| bytes.clone().map_or(Value::Null, Value::Bytes);
    let summary = |summary: &PartitionSummary| {
        Value::Record(vec![
            Value::Boolean(summary.contains_null),
            Value::Boolean(summary.contains_nan),
            bytes(&summary.lower),
            bytes(&summary.upper),
        ])
    };
    let partitions = manifest.partitions.as_ref();
    let partitions = partitions.map(|all| Value::Array(all.iter().map(summary).collect()));
    let mut values = vec![
        Value::Text(manifest.location.clone()),
        Value::Long(manifest.length),
        Value::Int(manifest.spec_id),
        Value::Int(match manifest.content {
            Content::Data => 0,
            Content::Deletes => 1,
        }),
        Value::Long(manifest.sequence_number),
        Value::Long(manifest.min_sequence_number),
        Value::Long(manifest.added_snapshot_id),
        Value::Int(manifest.added_files),
        Value::Int(manifest.existing_files),
        Value::Int(manifest.deleted_files),
        Value::Long(manifest.added_rows),
        Value::Long(manifest.existing_rows),
        Value::Long(manifest.deleted_rows),
        partitions.unwrap_or(Value::Null),
        bytes(&manifest.key_metadata),
    ];
    if format_version >= 3 {
        values.push(manifest.first_row_id.map_or(Value::Null, Value::Long));
    }
    Value::Record(values)
}

/// The manifests of a list of any writer.
///
/// # Errors
/// A file that is not a manifest list, or one of too many manifests.
pub fn decode(bytes: &[u8]) -> Result<Vec<ManifestFile>, AvroError> {
    let read = read_container(bytes, known(2))?;
    if read.records.len() > MANIFESTS_MAX {
        let found = read.records.len();
        return Err(AvroError(format!(
            "the list has {found} manifests, the limit is {MANIFESTS_MAX}; rewrite the table's \
             manifests"
        )));
    }
    let manifest = |record: &Value| {
        let manifest = listed(&read.schema, record);
        manifest.ok_or_else(|| AvroError("this is not a manifest list".into()))
    };
    read.records.iter().map(manifest).collect()
}

fn listed(schema: &Node, record: &Value) -> Option<ManifestFile> {
    let field = |id| by_id(schema, record, id).filter(|value| **value != Value::Null);
    let long = |id: i32| field(id).and_then(Value::number);
    // Counts may be missing in lists of version 1.
    let count = |id: i32| i32::try_from(long(id).unwrap_or(0)).ok();
    Some(ManifestFile {
        location: field(500)?.text()?.to_owned(),
        length: long(501)?,
        spec_id: i32::try_from(long(502)?).ok()?,
        content: match long(517).unwrap_or(0) {
            0 => Content::Data,
            1 => Content::Deletes,
            _ => return None,
        },
        sequence_number: long(515).unwrap_or(0),
        min_sequence_number: long(516).unwrap_or(0),
        added_snapshot_id: long(503)?,
        added_files: count(504)?,
        existing_files: count(505)?,
        deleted_files: count(506)?,
        added_rows: long(512).unwrap_or(0),
        existing_rows: long(513).unwrap_or(0),
        deleted_rows: long(514).unwrap_or(0),
        partitions: match field(507) {
            Some(found) => Some(partitions(schema, found)?),
            None => None,
        },
        key_metadata: field(519).and_then(Value::bytes).map(<[u8]>::to_vec),
        first_row_id: long(520),
    })
}

fn partitions(schema: &Node, found: &Value) -> Option<Vec<PartitionSummary>> {
    let field = schema.fields().iter().find(|field| field.id == Some(507))?;
    let Node::Array(item) = field.node.without_null() else {
        return None;
    };
    let item = item.without_null();
    let summary = |value: &Value| {
        let flag = |id| by_id(item, value, id) == Some(&Value::Boolean(true));
        let bytes = |id| {
            by_id(item, value, id)
                .and_then(Value::bytes)
                .map(<[u8]>::to_vec)
        };
        PartitionSummary {
            contains_null: flag(509),
            contains_nan: flag(518),
            lower: bytes(510),
            upper: bytes(511),
        }
    };
    Some(found.items().iter().map(summary).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(number: i64) -> ManifestFile {
        ManifestFile {
            location: format!("s3://b/m{number}.avro"),
            length: 100,
            spec_id: 1,
            content: if number == 2 {
                Content::Deletes
            } else {
                Content::Data
            },
            sequence_number: number,
            min_sequence_number: 1,
            added_snapshot_id: 7,
            added_files: 1,
            existing_files: 2,
            deleted_files: 3,
            added_rows: 4,
            existing_rows: 5,
            deleted_rows: 6,
            partitions: Some(vec![PartitionSummary {
                contains_null: true,
                contains_nan: false,
                lower: Some(vec![1]),
                upper: None,
            }]),
            key_metadata: Some(vec![9]),
            first_row_id: Some(10 * number),
        }
    }

    #[test]
    fn a_list_comes_back_and_keeps_what_others_wrote() {
        let header = ListHeader {
            format_version: 3,
            snapshot_id: 7,
            parent_snapshot_id: None,
            sequence_number: 4,
            first_row_id: Some(0),
        };
        let all = vec![manifest(1), manifest(2)];
        let bytes = encode(&header, &all).unwrap();
        assert_eq!(decode(&bytes).unwrap(), all);
        let header = ListHeader {
            format_version: 2,
            first_row_id: None,
            ..header
        };
        let of_2 = decode(&encode(&header, &all).unwrap()).unwrap();
        assert_eq!(of_2[0].first_row_id, None);
    }

    #[test]
    fn fields_of_other_names_are_found_by_their_ids() {
        let schema = json!({"type": "record", "name": "manifest_file", "fields": [
            {"name": "manifest_path", "type": "string", "field-id": 500},
            {"name": "manifest_length", "type": "long", "field-id": 501},
            {"name": "partition_spec_id", "type": "int", "field-id": 502},
            {"name": "added_snapshot_id", "type": ["null", "long"], "field-id": 503},
            {"name": "added_data_files_count", "type": ["null", "int"], "field-id": 504},
        ]});
        let record = Value::Record(vec![
            Value::Text("m".into()),
            Value::Long(1),
            Value::Int(0),
            Value::Long(5),
            Value::Int(3),
        ]);
        let schema = AvroSchema::new(&schema).unwrap();
        let bytes = write_container(&schema, &[], &[record]).unwrap();
        let read = decode(&bytes).unwrap();
        assert_eq!(read[0].added_files, 3);
        assert_eq!(read[0].content, Content::Data);
        assert_eq!(read[0].partitions, None);
    }
}
