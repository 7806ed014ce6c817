//! One shard of a job: its position, and its end.
//!
//! Does not own: parents and children of shards ([`super::lineage`]). Rule: a shard that has ended
//! stays ended, whichever task reads its last records.

use super::super::event::ShardStats;
use streamctl_proto::manifest::TimeGap;
use streamctl_proto::{Position, ShardId, TaskId, WorkerId};

/// A shard of a job.
#[derive(Clone, Debug)]
pub struct Shard {
    /// Shards that must be read to their end first; an unknown one counts as read.
    pub parents: Vec<ShardId>,
    /// What the reader needs in addition to the name.
    pub detail: String,
    /// The position in the head.
    pub committed: Position,
    /// The position after the accepted reports.
    pub reached: Position,
    /// The start of the earliest window that may still take its records.
    pub floor_ms: i64,
    /// Its last record, once a task has seen the end.
    pub end: Option<Position>,
    /// No child takes a record in a window that starts earlier; known with `end`.
    pub end_floor_ms: i64,
    /// The last listing that was requested when its end was committed. Only a later one can show
    /// that the shard is gone.
    pub ended_at_listing: u64,
    pub task: Option<TaskId>,
    /// The worker that read it last. If nothing prevents it, the shard returns there.
    pub last_worker: Option<WorkerId>,
    /// The source still lists it. A shard that is read and no longer listed is forgotten.
    pub listed: bool,
    pub stats: ShardStats,
    /// Every record that arrived before this time was read when the head was committed, by the
    /// source's clock.
    pub read_to_ms: i64,
    /// The last gap in the records read, whether a head holds it or not.
    pub lost: Option<TimeGap>,
    pub committed_lost: Option<TimeGap>,
}

impl Shard {
    /// A shard of which nothing has been read.
    pub fn new(from: Position, parents: Vec<ShardId>, detail: String, floor_ms: i64) -> Self {
        let committed = from.clone();
        let reached = from;
        let end = None;
        let task = None;
        let last_worker = None;
        let stats = ShardStats::default();
        let end_floor_ms = i64::MIN;
        let ended_at_listing = 0;
        let listed = true;
        Self {
            parents,
            detail,
            committed,
            reached,
            floor_ms,
            end,
            end_floor_ms,
            ended_at_listing,
            task,
            last_worker,
            listed,
            stats,
            read_to_ms: i64::MIN,
            lost: None,
            committed_lost: None,
        }
    }

    /// A task reports a gap. It repeats the same gap; a gap that no head holds yet grows.
    pub fn note_lost(&mut self, gap: Option<TimeGap>) {
        let Some(gap) = gap else { return };
        let known = |known: TimeGap| known.merged(gap) == known;
        if self.lost.is_some_and(known) {
            return;
        }
        let pending = self.lost.filter(|_| self.lost != self.committed_lost);
        self.lost = Some(pending.map_or(gap, |pending| pending.merged(gap)));
    }

    /// Read to its end, and all of it is reported.
    pub fn done(&self) -> bool {
        self.reached == Position::End || self.end.as_ref() == Some(&self.reached)
    }

    /// A task has seen its end. This stays true if the task is lost and its last records are read
    /// again.
    pub fn ended(&self) -> bool {
        self.end.is_some() || self.reached == Position::End
    }

    /// Limits the watermark to the window of its last record until that is reported: its children
    /// continue there (I5).
    pub(super) fn at_most(&self, watermark_ms: i64) -> i64 {
        let waits = self.end.is_some() && !self.done();
        if waits {
            watermark_ms.min(self.end_floor_ms)
        } else {
            watermark_ms
        }
    }

    /// Its position in the next manifest, if `to` is the last committed record.
    pub(super) fn position_at(&self, to: &Position) -> Position {
        if *to == Position::End || self.end.as_ref() == Some(to) {
            Position::End
        } else {
            to.clone()
        }
    }
}
