//! One shard of a job: its position, and its end.
//!
//! Does not own: parents and children of shards ([`super::lineage`]). Rule: a shard that has ended
//! stays ended, whichever task reads its last records.

use super::super::event::ShardStats;
use super::byte_rate::ByteRate;
use streamctl_proto::manifest::TimeGap;
use streamctl_proto::{Position, ShardId, TaskId, Watermark, WorkerId};

/// Tasks report every second; an older report is not of a shard that is being read.
const REPORTED_MS: i64 = 2_500;

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
    pub floor: Watermark,
    /// Its last record, once a task has seen the end.
    pub end: Option<Position>,
    /// No child takes a record in a window that starts earlier; known with `end`.
    pub end_floor: Watermark,
    /// The last listing that was requested when its end was committed. Only a later one can show
    /// that the shard is gone.
    pub ended_at_listing: u64,
    pub task: Option<TaskId>,
    /// The worker that read it last. If nothing prevents it, the shard returns there.
    pub last_worker: Option<WorkerId>,
    /// The source still lists it. A shard that is read and no longer listed is forgotten.
    pub listed: bool,
    pub stats: ShardStats,
    pub byte_rate: ByteRate,
    /// When a task last reported `stats`; none: not to this leader.
    pub reported_ms: Option<i64>,
    /// Every record that arrived before this time was read when the head was committed, by the
    /// source's clock. None: no head has it.
    pub read_to_ms: Option<i64>,
    /// The last gap in the records read, whether a head holds it or not.
    pub lost: Option<TimeGap>,
    pub committed_lost: Option<TimeGap>,
}

impl Shard {
    /// A shard of which nothing has been read.
    pub fn new(from: Position, parents: Vec<ShardId>, detail: String, floor: Watermark) -> Self {
        let committed = from.clone();
        let reached = from;
        let end = None;
        let task = None;
        let last_worker = None;
        let stats = ShardStats::default();
        let end_floor = Watermark::Unknown;
        let ended_at_listing = 0;
        let listed = true;
        Self {
            parents,
            detail,
            committed,
            reached,
            floor,
            end,
            end_floor,
            ended_at_listing,
            task,
            last_worker,
            listed,
            stats,
            byte_rate: ByteRate::default(),
            reported_ms: None,
            read_to_ms: None,
            lost: None,
            committed_lost: None,
        }
    }

    /// How far it is behind the tip of its stream. A lag that is not reported any more grows with
    /// time: nothing is read.
    pub fn lag_ms(&self, now: i64) -> u64 {
        let known = match self.reported_ms {
            Some(reported_ms) => Some((self.stats.lag_ms, reported_ms)),
            None => self
                .read_to_ms
                .filter(|_| self.task.is_none())
                .map(|at_ms| (0, at_ms)),
        };
        let Some((lag_ms, at_ms)) = known.filter(|_| !self.done()) else {
            return self.stats.lag_ms;
        };
        let silent_ms = now.saturating_sub(at_ms).max(0);
        match silent_ms > REPORTED_MS {
            true => lag_ms.saturating_add(silent_ms.unsigned_abs()),
            false => lag_ms,
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
    pub(super) fn at_most(&self, watermark: Watermark) -> Watermark {
        let waits = self.end.is_some() && !self.done();
        if waits {
            watermark.min(self.end_floor)
        } else {
            watermark
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
