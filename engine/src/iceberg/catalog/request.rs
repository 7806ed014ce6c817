//! What is requested of a catalog, in the form of the REST protocol.
//!
//! Rule: a commit names what it was computed from; the catalog applies all of it or nothing.

use super::super::metadata::Snapshot;
use super::super::partition::PartitionSpec;
use super::super::types::Schema;
use super::TableName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommitRequest {
    pub requirements: Vec<Requirement>,
    pub updates: Vec<Update>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Requirement {
    AssertTableUuid {
        uuid: String,
    },
    /// The snapshot of a branch; `None`: the branch does not exist.
    AssertRefSnapshotId {
        r#ref: String,
        snapshot_id: Option<i64>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "action",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Update {
    AddSnapshot {
        snapshot: Snapshot,
    },
    SetSnapshotRef {
        ref_name: String,
        r#type: String,
        snapshot_id: i64,
    },
    SetProperties {
        updates: BTreeMap<String, String>,
    },
    RemoveProperties {
        removals: Vec<String>,
    },
    RemoveSnapshots {
        snapshot_ids: Vec<i64>,
    },
}

/// A table to be created.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTable {
    pub name: TableName,
    /// `None`: the catalog chooses.
    pub location: Option<String>,
    pub schema: Schema,
    pub spec: PartitionSpec,
    pub properties: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_commit_has_the_form_of_the_protocol() {
        let request = CommitRequest {
            requirements: vec![
                Requirement::AssertTableUuid { uuid: "u".into() },
                Requirement::AssertRefSnapshotId {
                    r#ref: "main".into(),
                    snapshot_id: None,
                },
            ],
            updates: vec![
                Update::SetSnapshotRef {
                    ref_name: "main".into(),
                    r#type: "branch".into(),
                    snapshot_id: 7,
                },
                Update::SetProperties {
                    updates: [("a".to_owned(), "1".to_owned())].into(),
                },
                Update::RemoveSnapshots {
                    snapshot_ids: vec![1],
                },
            ],
        };
        assert_eq!(
            serde_json::to_value(&request).unwrap(),
            json!({
                "requirements": [
                    {"type": "assert-table-uuid", "uuid": "u"},
                    {"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": null},
                ],
                "updates": [
                    {"action": "set-snapshot-ref", "ref-name": "main", "type": "branch",
                     "snapshot-id": 7},
                    {"action": "set-properties", "updates": {"a": "1"}},
                    {"action": "remove-snapshots", "snapshot-ids": [1]},
                ],
            })
        );
    }
}
