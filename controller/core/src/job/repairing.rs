//! A repair of an epoch that has lost objects, while it is in flight.

use streamctl_proto::manifest::EpochRepair;
use streamctl_proto::{Epoch, TaskId};

/// A repair in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repairing {
    pub epoch: Epoch,
    /// The task that stages the replacements.
    pub task: TaskId,
    /// The repair to record, once it is staged or given up.
    pub(crate) ready: Option<Box<EpochRepair>>,
}
