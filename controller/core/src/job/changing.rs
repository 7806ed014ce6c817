//! A change of a job, while it waits.

use streamctl_proto::ResolvedJob;

/// A version that waits to take over.
#[derive(Clone, Debug)]
pub struct Change {
    pub next: Box<ResolvedJob>,
    /// It is being written to the store.
    pub recording: bool,
}

/// A version that the store refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedChange {
    pub changed_ms: i64,
    /// The reason, and what to do.
    pub reason: String,
}
