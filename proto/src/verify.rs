//! What a controller asks of a worker to prove an epoch, and what comes back.
//!
//! Owns: the JSON of the Flight action [`VERIFY_ACTION`]. Does not own: reading and comparing
//! (worker), what it means for the proof (controller). Rule: counts and a few samples travel, never
//! the rows themselves.

use crate::manifest::EpochRepair;
use crate::{JobName, StagedObject, TaskId};
use serde::{Deserialize, Serialize};

/// The type of the Flight action that reads an epoch from its source again and compares.
pub const VERIFY_ACTION: &str = "verify-epoch";
/// Rows that are shown of each side that has more than the other.
pub const SAMPLES_MAX: usize = 5;
/// Characters of a row that are shown.
pub const SAMPLE_CHARS_MAX: usize = 400;

/// Which epoch: the body of the action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochTicket {
    pub job: JobName,
    /// Which epoch.
    pub epoch: u64,
    /// Repairs of it that were committed, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<EpochRepair>,
}

/// The type of the Flight action that computes again what an epoch has lost.
pub const REBUILD_ACTION: &str = "rebuild-epoch";

/// What is to be computed again: the body of that action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RebuildOrder {
    pub job: JobName,
    /// Which epoch.
    pub epoch: u64,
    pub task: TaskId,
    /// Locations of the lost objects.
    pub lost: Vec<String>,
    /// Repairs of the epoch that were committed, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<EpochRepair>,
}

/// What came of it: the JSON of the action's one result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RebuildOutcome {
    /// These are staged, and hold exactly the rows that were lost.
    Rebuilt { objects: Vec<StagedObject> },
    /// The source does not keep the records any more.
    Gone { reason: String },
    /// It could not be done.
    Failed { reason: String },
}

/// How two multisets of rows compare.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Rows that came out of the records again.
    pub replayed: u64,
    /// Rows in the stored objects.
    pub stored: u64,
    /// Rows that the replay gives and the objects lack.
    pub only_replayed: u64,
    /// Rows that the objects have and the replay does not give.
    pub only_stored: u64,
    /// The two counts above are lower bounds: there were too many different rows to tell apart.
    pub at_least: bool,
    /// Some of `only_replayed`, at most [`SAMPLES_MAX`].
    pub samples_replayed: Vec<String>,
    /// Some of `only_stored`, at most [`SAMPLES_MAX`].
    pub samples_stored: Vec<String>,
}

impl Comparison {
    /// Both sides have the same rows, each as often.
    pub fn equal(&self) -> bool {
        self.only_replayed == 0 && self.only_stored == 0 && self.replayed == self.stored
    }
}

/// What came of it: the JSON of the action's one result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EpochOutcome {
    Compared {
        rows: Comparison,
        /// Dead letters, by shard, sequence number and raw bytes.
        dead_letters: Comparison,
        /// Ranges whose records are not those that the manifest counts, each in words.
        ranges: Vec<String>,
    },
    /// The source does not keep the records any more: neither equal nor different.
    Gone { reason: String },
    /// It could not be done.
    Failed { reason: String, hint: String },
}
