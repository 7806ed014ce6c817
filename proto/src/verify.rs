//! The controller's requests to a worker to verify an epoch, and the results.
//!
//! Owns: the JSON of the Flight action [`VERIFY_ACTION`]. Does not own: reading and comparing
//! (worker), the verdict (controller).
//! Rule: counts and a few samples are sent, never the rows themselves.

use crate::manifest::EpochRepair;
use crate::{JobName, StagedObject, TaskId};
use serde::{Deserialize, Serialize};

/// The type of the Flight action that reads an epoch from its source again and compares.
pub const VERIFY_ACTION: &str = "verify-epoch";
/// Most rows that are shown of each side.
pub const SAMPLES_MAX: usize = 5;
/// Most characters that are shown of a row.
pub const SAMPLE_CHARS_MAX: usize = 400;

/// Identifies an epoch: the body of the action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochTicket {
    pub job: JobName,
    /// Which epoch.
    pub epoch: u64,
    /// Its committed repairs, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<EpochRepair>,
}

/// The type of the Flight action that computes the lost objects of an epoch again.
pub const REBUILD_ACTION: &str = "rebuild-epoch";

/// The request to compute objects again: the body of that action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RebuildOrder {
    pub job: JobName,
    /// Which epoch.
    pub epoch: u64,
    pub task: TaskId,
    /// Locations of the lost objects.
    pub lost: Vec<String>,
    /// Committed repairs of the epoch, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<EpochRepair>,
}

/// The outcome: the JSON of the action's only result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RebuildOutcome {
    /// Staged objects that contain exactly the lost rows.
    Rebuilt { objects: Vec<StagedObject> },
    /// The source no longer keeps the records.
    Gone { reason: String },
    /// The action failed.
    Failed { reason: String },
}

/// A comparison of two multisets of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Rows computed again from the records.
    pub replayed: u64,
    /// Rows in the stored objects.
    pub stored: u64,
    /// Rows of the replay that are missing in the objects.
    pub only_replayed: u64,
    /// Rows of the objects that the replay does not return.
    pub only_stored: u64,
    /// The two counts above are lower bounds: there were too many distinct rows that differ.
    pub at_least: bool,
    /// Some of `only_replayed`, at most [`SAMPLES_MAX`].
    pub samples_replayed: Vec<String>,
    /// Some of `only_stored`, at most [`SAMPLES_MAX`].
    pub samples_stored: Vec<String>,
}

impl Comparison {
    /// Whether both sides have the same rows, with the same multiplicities.
    pub fn equal(&self) -> bool {
        self.only_replayed == 0 && self.only_stored == 0 && self.replayed == self.stored
    }
}

/// The outcome: the JSON of the action's only result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EpochOutcome {
    Compared {
        rows: Comparison,
        /// Dead letters, by shard, sequence number and raw bytes.
        dead_letters: Comparison,
        /// Ranges whose records differ from what the manifest counts, as text.
        ranges: Vec<String>,
    },
    /// The source no longer keeps the records: neither equal nor different.
    Gone { reason: String },
    /// The action failed.
    Failed { reason: String, hint: String },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Term;
    use serde::de::DeserializeOwned;
    use std::fmt::Debug;

    /// A controller and a worker of other builds write it and read it.
    fn kept<T: Serialize + DeserializeOwned + PartialEq + Debug>(golden: &str, value: &T) {
        let golden = golden.trim_end();
        assert_eq!(serde_json::to_string(value).unwrap(), golden);
        assert_eq!(serde_json::from_str::<T>(golden).unwrap(), *value);
    }

    #[test]
    fn the_bodies_of_the_actions_are_those_of_the_golden_files() {
        let ticket = EpochTicket {
            job: "sales".parse().unwrap(),
            epoch: 7,
            repairs: vec![],
        };
        kept(include_str!("../golden/flight-verify.json"), &ticket);
        let order = RebuildOrder {
            job: "sales".parse().unwrap(),
            epoch: 7,
            task: TaskId {
                term: Term(3),
                counter: 12,
            },
            lost: vec!["s3://b/out/a.parquet".into()],
            repairs: vec![],
        };
        kept(include_str!("../golden/flight-rebuild.json"), &order);
        let gone = EpochOutcome::Gone {
            reason: "expired".into(),
        };
        kept(include_str!("../golden/flight-verified.json"), &gone);
        let rebuilt = RebuildOutcome::Rebuilt { objects: vec![] };
        kept(include_str!("../golden/flight-rebuilt.json"), &rebuilt);
    }
}
