//! One shard of a job: where it stands, and what its end means.
//!
//! Does not own: how shards come from one another ([`super::lineage`]). Rule: a shard that has
//! ended stays so, whoever reads its last records.

use super::super::event::ShardStats;
use streamctl_proto::manifest::TimeGap;
use streamctl_proto::{Position, ShardId, TaskId, WorkerId};

/// A shard of a job.
#[derive(Clone, Debug)]
pub struct Shard {
    /// Those that must be read to their end first; one that is not known counts as read.
    pub parents: Vec<ShardId>,
    /// What the reader needs beyond the name.
    pub detail: String,
    /// Where the head leaves it.
    pub committed: Position,
    /// Where the accepted reports leave it.
    pub reached: Position,
    /// The earliest window that may still take its records starts here.
    pub floor_ms: i64,
    /// Its last record, once a task has seen the end.
    pub end: Option<Position>,
    /// No child takes a record in a window before the one that starts here; known with `end`.
    pub end_floor_ms: i64,
    /// The last listing that was asked for when its end was committed: only a later one can say
    /// that it is gone.
    pub ended_at_listing: u64,
    pub task: Option<TaskId>,
    /// Who read it last: it goes back there when nothing speaks against it.
    pub last_worker: Option<WorkerId>,
    /// The source still lists it. One that is read and no longer listed is forgotten.
    pub listed: bool,
    pub stats: ShardStats,
    /// Every record that arrived before this was read when the head was committed, by the source's
    /// clock.
    pub read_to_ms: i64,
    /// The last gap in what was read, whether a head holds it or not.
    pub lost: Option<TimeGap>,
    pub committed_lost: Option<TimeGap>,
}

impl Shard {
    /// A shard that nothing was read of.
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

    /// A task knows of a gap. It names the same one again and again; one that no head holds yet
    /// grows.
    pub fn note_lost(&mut self, gap: Option<TimeGap>) {
        let Some(gap) = gap else { return };
        let known = |known: TimeGap| known.merged(gap) == known;
        if self.lost.is_some_and(known) {
            return;
        }
        let pending = self.lost.filter(|_| self.lost != self.committed_lost);
        self.lost = Some(pending.map_or(gap, |pending| pending.merged(gap)));
    }

    /// Read to its end, and all of it reported.
    pub fn done(&self) -> bool {
        self.reached == Position::End || self.end.as_ref() == Some(&self.reached)
    }

    /// A task has seen its end; that stays true if the task is lost and its last records are read
    /// again.
    pub fn ended(&self) -> bool {
        self.end.is_some() || self.reached == Position::End
    }

    /// No more than the window of its last record, as long as that is not reported: its children go
    /// on there (I5).
    pub(super) fn at_most(&self, watermark_ms: i64) -> i64 {
        let waits = self.end.is_some() && !self.done();
        if waits {
            watermark_ms.min(self.end_floor_ms)
        } else {
            watermark_ms
        }
    }

    /// Where the next manifest leaves it, when `to` is the last committed record.
    pub(super) fn position_at(&self, to: &Position) -> Position {
        if *to == Position::End || self.end.as_ref() == Some(to) {
            Position::End
        } else {
            to.clone()
        }
    }
}
