//! Manual repairs of a job, kept for its status.
//!
//! Rule: keeps the newest [`REPAIRS_KEPT_MAX`]. The chain of manifests records what happened to an
//! epoch, this records who did it.

use serde::{Deserialize, Serialize};
use streamctl_proto::{Epoch, v1};

/// Repairs of a job that are kept.
pub const REPAIRS_KEPT_MAX: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    pub at_ms: i64,
    /// The user who requested it; empty without authentication.
    pub by: String,
    #[serde(flatten)]
    pub what: Repaired,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Repaired {
    /// The head was moved along the epochs that were committed after it: the store was older than
    /// these.
    HeadMoved { from: Epoch, to: Epoch },
    /// The lost objects of an epoch were computed again.
    Recomputed {
        epoch: Epoch,
        /// The epoch whose manifest records it.
        recorded_in: Epoch,
    },
    /// The lost objects of an epoch were given up.
    Skipped {
        epoch: Epoch,
        /// The epoch whose manifest records it.
        recorded_in: Epoch,
    },
}

/// Adds a repair to the kept ones.
pub fn remembered(known: &[Repair], repair: Repair) -> Vec<Repair> {
    let mut all = known.to_vec();
    all.push(repair);
    let surplus = all.len().saturating_sub(REPAIRS_KEPT_MAX);
    all.drain(..surplus);
    all
}

impl From<&Repair> for v1::JobRepair {
    fn from(repair: &Repair) -> Self {
        let text = match &repair.what {
            Repaired::HeadMoved { from, to } => {
                format!(
                    "the head was moved from epoch {from} to {to}: the store was older than the \
                     checkpoint location"
                )
            }
            Repaired::Recomputed { epoch, recorded_in } => {
                format!(
                    "what epoch {epoch} had lost was computed again, as epoch {recorded_in} says"
                )
            }
            Repaired::Skipped { epoch, recorded_in } => {
                format!("what epoch {epoch} had lost was given up, as epoch {recorded_in} says")
            }
        };
        Self {
            at_ms: repair.at_ms,
            by: repair.by.clone(),
            text,
        }
    }
}
