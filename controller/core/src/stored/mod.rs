//! Facts about a job that outlive a term, in the form in which a store keeps them.
//!
//! Owns: the types and their serialized form. Does not own: where they are kept (the controller's
//! `store`).
//! Rule: what an earlier release wrote can be read; a new field has a default.

mod anchors;
mod repairs;
mod replays;

pub use anchors::{Anchors, WAYPOINTS_MAX, Waypoint};
pub use repairs::{REPAIRS_KEPT_MAX, Repair, Repaired, remembered};
pub use replays::{REPLAYS_DONE_MAX, REPLAYS_WANTED_MAX, Replays, WantedReplay};

use serde::{Deserialize, Serialize};

/// The desired state of a job, or how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DesiredState {
    Running,
    /// Finish what was read, then stop.
    Draining,
    /// Stopped; it can continue from its head.
    Stopped,
    /// Its source ended and everything is published.
    Completed,
    /// It cannot continue by itself.
    Failed {
        error: String,
        hint: String,
    },
    /// Deleted. Never stored: the store deletes the job instead.
    Deleted,
}

impl DesiredState {
    /// It ended, or is about to, and continues on request.
    pub fn can_go_on(&self) -> bool {
        matches!(self, Self::Draining | Self::Stopped | Self::Failed { .. })
    }
}
