//! Which of our snapshots to remove.
//!
//! Rule: only our own, never one that a branch or a tag names. What others wrote is theirs to
//! expire.

use super::super::metadata::{Snapshot, TableMetadata};
use super::{Writer, summary};
use std::num::NonZeroU32;

/// Most snapshots that one commit removes.
const REMOVED_MAX: usize = 100;
/// Surplus snapshots are removed once they are more than this part of the kept ones: not every
/// commit looks at all of them.
const SPARE_PARTS: usize = 100;

/// The oldest of our snapshots beyond the `keep` youngest; the one that is about to be added is
/// the youngest.
pub(super) fn expired<'a>(
    base: &'a TableMetadata,
    writer: &Writer,
    keep: Option<NonZeroU32>,
) -> Vec<&'a Snapshot> {
    let Some(keep) = keep else {
        return vec![];
    };
    let stay = usize::try_from(keep.get() - 1).unwrap_or(usize::MAX);
    if base.snapshots.len() <= stay.saturating_add(stay / SPARE_PARTS) {
        return vec![];
    }
    let named = |id: i64| {
        base.refs.values().any(|to| to.snapshot_id == id) && base.current_id() != Some(id)
    };
    let mut ours: Vec<_> = base
        .snapshots
        .iter()
        .map(|snapshot| &**snapshot)
        .filter(|snapshot| summary::is_ours(snapshot, writer))
        .collect();
    ours.sort_by_key(|snapshot| snapshot.sequence_number);
    let surplus = ours.len().saturating_sub(stay);
    ours.truncate(surplus);
    ours.retain(|snapshot| !named(snapshot.snapshot_id));
    ours.truncate(REMOVED_MAX);
    ours
}
