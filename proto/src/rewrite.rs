//! The controller's request to a worker to rewrite data files of a table, its answer, and the record
//! of it beside the job's manifests.
//!
//! Owns: the JSON of the Flight action [`REWRITE_ACTION`], the stored form of a record. Does not own:
//! which files (the engine), rows (the worker), the commit (the controller).
//! Rule: names and counts are sent, never rows. A record is written before an output becomes
//! visible, so that each file of an unfinished rewriting is known.

use crate::table_file::Bytes;
use crate::{JobName, ResolvedJob, StagedObject, TaskId, Window};
use serde::{Deserialize, Serialize};

/// The type of the Flight action that puts the rows of some files into fewer ones.
pub const REWRITE_ACTION: &str = "rewrite-files";
/// The folder of rewritten files, below the job's own folder of the table. Their names are those of
/// a task that does not exist.
pub const REWRITTEN_FOLDER: &str = "rewritten/";
/// The form in which records are written.
const RECORD_VERSION: u32 = 1;

/// The request: the body of the action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewriteOrder {
    pub job: ResolvedJob,
    /// Names the outputs: no other rewriting has the same.
    pub task: TaskId,
    /// Names the outputs, and ends in the future: until it is closed no sweep takes what is staged.
    pub window: Window,
    /// The partition of all files.
    pub partition: Vec<Option<Bytes>>,
    /// Outputs are cut at about this size.
    pub target_size: u64,
    /// In the order in which their rows are written.
    pub inputs: Vec<RewriteInput>,
}

/// A file to be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewriteInput {
    pub location: String,
    /// In bytes.
    pub size: u64,
    pub rows: u64,
}

/// The outcome: the JSON of the action's only result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewriteOutcome {
    /// Staged objects that hold exactly the rows of the inputs.
    Rewritten {
        objects: Vec<StagedObject>,
    },
    Failed {
        reason: String,
    },
}

/// The files of a rewriting that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewriteRecord {
    version: u32,
    pub table_uuid: String,
    /// From this epoch in the table on, no request of it can succeed.
    pub void_from_epoch: u64,
    /// Snapshots with these sequence numbers show inputs.
    pub first_sequence: i64,
    pub base_sequence: i64,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
}

impl RewriteRecord {
    pub fn new(
        table_uuid: String,
        void_from_epoch: u64,
        (first_sequence, base_sequence): (i64, i64),
        inputs: Vec<String>,
        outputs: Vec<String>,
    ) -> Self {
        Self {
            version: RECORD_VERSION,
            table_uuid,
            void_from_epoch,
            first_sequence,
            base_sequence,
            inputs,
            outputs,
        }
    }

    /// A stored record; `None`: of a later build, or damaged.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let record: Self = serde_json::from_slice(bytes).ok()?;
        (record.version == RECORD_VERSION).then_some(record)
    }

    /// The stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record is plain text and numbers")
    }
}

/// Whether a location is that of a rewritten file below one of these folders.
pub fn is_rewritten(location: &str, folders: &[&str]) -> bool {
    let below = |folder: &&str| {
        let rest = location.strip_prefix(*folder);
        rest.is_some_and(|rest| rest.starts_with(REWRITTEN_FOLDER))
    };
    folders.iter().any(below)
}

/// The name of a record in the folder of a job's records.
pub fn record_name(task: TaskId) -> String {
    format!("{task}.json")
}

/// The folder of a job's records, below its checkpoint location.
pub fn records_folder(job: &JobName) -> String {
    format!("{job}/rewritings/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_stored_as_in_the_golden_file() {
        let golden = include_str!("../golden/rewrite-record.json").trim_end();
        let record = RewriteRecord::new(
            "9c12d441-03fe-4693-9a96-a0705ddf69c1".to_owned(),
            160,
            (3, 104),
            vec!["s3://b/t/data/a.parquet".to_owned()],
            vec!["s3://b/t/data/rewritten/b.parquet".to_owned()],
        );
        assert_eq!(String::from_utf8(record.to_bytes()).unwrap(), golden);
        assert_eq!(RewriteRecord::read(golden.as_bytes()), Some(record));
        let later = golden.replace("\"version\":1", "\"version\":2");
        assert_eq!(RewriteRecord::read(later.as_bytes()), None);
    }

    #[test]
    fn the_answer_has_the_form_that_other_builds_read() {
        let texts = [
            (
                RewriteOutcome::Rewritten { objects: vec![] },
                r#"{"rewritten":{"objects":[]}}"#,
            ),
            (
                RewriteOutcome::Failed { reason: "x".into() },
                r#"{"failed":{"reason":"x"}}"#,
            ),
        ];
        for (outcome, text) in texts {
            assert_eq!(serde_json::to_string(&outcome).unwrap(), text);
            assert_eq!(
                serde_json::from_str::<RewriteOutcome>(text).unwrap(),
                outcome
            );
        }
    }

    #[test]
    fn rewritten_files_are_known_by_their_folder() {
        let folders = ["s3://b/t/data/sales-1/"];
        assert!(is_rewritten(
            "s3://b/t/data/sales-1/rewritten/a.parquet",
            &folders
        ));
        assert!(!is_rewritten(
            "s3://b/t/data/sales-1/x=1/rewritten/a.parquet",
            &folders
        ));
        assert!(!is_rewritten("s3://b/t/data/rewritten/a.parquet", &folders));
    }
}
