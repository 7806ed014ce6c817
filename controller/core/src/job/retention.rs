//! What of a job's history is kept, and what is being removed.

use crate::stored::Anchors;

/// The state of a job's history.
#[derive(Clone, Debug, Default)]
pub struct RetentionState {
    /// The state to store.
    pub now: Anchors,
    pub stored: Anchors,
    /// It is being written to the store.
    pub recording: bool,
    /// When to decide again whether the anchor moves; none: at once.
    pub check_at_ms: Option<i64>,
    /// What lies before the stored anchor is being removed.
    pub trimming: bool,
    /// When to remove more; none: nothing is left, as far as this leader knows.
    pub trim_at_ms: Option<i64>,
}

impl RetentionState {
    /// Of a job whose store holds these anchors. What an earlier leader did not remove is removed.
    pub fn new(stored: Anchors) -> Self {
        Self {
            trim_at_ms: stored.anchor.is_some().then_some(0),
            now: stored.clone(),
            stored,
            ..Self::default()
        }
    }
}
