//! A table's metadata, as catalogs return it and as files hold it.
//!
//! Owns: the JSON form, versions 1 to 3. Does not own: changes to it (`catalog::apply`), manifests.
//! Rule: what this version does not know is kept: a catalog of our own writes it back.

use super::partition::PartitionSpec;
use super::types::Schema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The branch that readers see.
pub const MAIN: &str = "main";
/// Largest metadata that is read, in bytes. Glue refuses more than 20 MB.
pub const METADATA_BYTES_MAX: u64 = 64 << 20;
/// Newest version of the format that is written.
pub const FORMAT_VERSION_MAX: u8 = 3;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TableMetadata {
    pub format_version: u8,
    /// Missing in old tables of version 1 only.
    #[serde(default)]
    pub table_uuid: String,
    pub location: String,
    #[serde(default)]
    pub last_sequence_number: i64,
    #[serde(default)]
    pub last_updated_ms: i64,
    #[serde(default)]
    pub last_column_id: i32,
    #[serde(default)]
    pub current_schema_id: i32,
    #[serde(default)]
    pub schemas: Vec<Schema>,
    /// The only schema of a table of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Schema>,
    #[serde(default)]
    pub default_spec_id: i32,
    #[serde(default)]
    pub partition_specs: Vec<PartitionSpec>,
    #[serde(default)]
    pub last_partition_id: i32,
    #[serde(default)]
    pub default_sort_order_id: i32,
    #[serde(default, deserialize_with = "or_default")]
    pub properties: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_snapshot_id: Option<i64>,
    /// Shared: a table with thousands of them is copied at each commit.
    #[serde(
        default,
        deserialize_with = "shared_or_default",
        serialize_with = "as_snapshots"
    )]
    pub snapshots: Vec<Arc<Snapshot>>,
    #[serde(default, deserialize_with = "or_default")]
    pub snapshot_log: Vec<SnapshotLogEntry>,
    #[serde(default, deserialize_with = "or_default")]
    pub metadata_log: Vec<MetadataLogEntry>,
    #[serde(default, deserialize_with = "or_default")]
    pub refs: BTreeMap<String, SnapshotRef>,
    /// Version 3: the id of the next row that is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_row_id: Option<i64>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Snapshot {
    pub snapshot_id: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_snapshot_id: Option<i64>,
    #[serde(default)]
    pub sequence_number: i64,
    pub timestamp_ms: i64,
    /// Missing in old tables of version 1, which list manifests here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_list: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub summary: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_id: Option<i32>,
    /// Version 3: the id of the first row that the snapshot adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_row_id: Option<i64>,
    /// Version 3: how many row ids the snapshot assigns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_rows: Option<i64>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotRef {
    pub snapshot_id: i64,
    pub r#type: String,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SnapshotLogEntry {
    pub snapshot_id: i64,
    pub timestamp_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MetadataLogEntry {
    pub metadata_file: String,
    pub timestamp_ms: i64,
}

fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn shared_or_default<'de, D>(deserializer: D) -> Result<Vec<Arc<Snapshot>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    let snapshots: Vec<Snapshot> = or_default(deserializer)?;
    Ok(snapshots.into_iter().map(Arc::new).collect())
}

fn as_snapshots<S>(snapshots: &[Arc<Snapshot>], serializer: S) -> Result<S::Ok, S::Error>
where
    S: serde::Serializer,
{
    serializer.collect_seq(snapshots.iter().map(|snapshot| &**snapshot))
}

impl TableMetadata {
    /// The snapshot that readers see. `None`: the table is empty, or names one that it does not
    /// hold.
    pub fn current(&self) -> Option<&Snapshot> {
        self.snapshot(self.current_id()?)
    }

    /// The id of the snapshot that readers see.
    pub fn current_id(&self) -> Option<i64> {
        match self.refs.get(MAIN) {
            Some(main) => Some(main.snapshot_id),
            // Old writers state "none" as -1.
            None => self.current_snapshot_id.filter(|id| *id >= 0),
        }
    }

    pub fn snapshot(&self, id: i64) -> Option<&Snapshot> {
        let found = self.snapshots.iter().rev();
        let mut found = found.filter(|snapshot| snapshot.snapshot_id == id);
        found.next().map(|snapshot| &**snapshot)
    }

    pub fn current_schema(&self) -> Option<&Schema> {
        let current = |schema: &&Schema| schema.schema_id == self.current_schema_id;
        self.schemas.iter().find(current).or(self.schema.as_ref())
    }

    pub fn spec(&self, id: i32) -> Option<&PartitionSpec> {
        self.partition_specs.iter().find(|spec| spec.spec_id == id)
    }

    /// The folder of manifests and of metadata.
    pub fn metadata_folder(&self) -> String {
        self.folder("write.metadata.path", "metadata")
    }

    /// The folder of data files.
    pub fn data_folder(&self) -> String {
        self.folder("write.data.path", "data")
    }

    fn folder(&self, property: &str, name: &str) -> String {
        match self.properties.get(property) {
            Some(folder) => folder.trim_end_matches('/').to_owned(),
            None => format!("{}/{name}", self.location.trim_end_matches('/')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_fields_and_a_catalog_s_nulls_survive() {
        let text = json!({
            "format-version": 3, "table-uuid": "u", "location": "s3://b/t/",
            "last-sequence-number": 4, "last-updated-ms": 5, "last-column-id": 1,
            "current-schema-id": 0, "schemas": [{"type": "struct", "schema-id": 0, "fields": []}],
            "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}],
            "last-partition-id": 999, "default-sort-order-id": 0,
            "sort-orders": [{"order-id": 0, "fields": []}],
            "properties": null, "refs": null, "snapshots": null, "current-snapshot-id": -1,
            "next-row-id": 17, "encryption-keys": [{"key-id": "k"}],
        });
        let metadata: TableMetadata = serde_json::from_value(text).unwrap();
        assert_eq!(metadata.current_id(), None);
        assert_eq!(metadata.next_row_id, Some(17));
        assert_eq!(metadata.metadata_folder(), "s3://b/t/metadata");
        let again = serde_json::to_value(&metadata).unwrap();
        assert_eq!(again["encryption-keys"][0]["key-id"], "k");
        assert_eq!(again["sort-orders"][0]["order-id"], 0);
        assert_eq!(again["next-row-id"], 17);
    }

    #[test]
    fn a_table_of_version_1_is_read() {
        let text = json!({
            "format-version": 1, "location": "/t", "last-updated-ms": 1, "last-column-id": 1,
            "schema": {"type": "struct", "fields": [
                {"id": 1, "name": "a", "required": false, "type": "int"}]},
            "partition-spec": [{"source-id": 1, "name": "a", "transform": "identity"}],
            "snapshots": [{"snapshot-id": 9, "timestamp-ms": 1, "manifests": ["m"]}],
            "current-snapshot-id": 9,
        });
        let metadata: TableMetadata = serde_json::from_value(text).unwrap();
        assert_eq!(metadata.current().unwrap().rest["manifests"][0], "m");
        assert_eq!(metadata.current_schema().unwrap().fields.len(), 1);
    }
}
