//! Which shards exist, their parents and children, and the job's watermark.
//!
//! Does not own: who reads them ([`super::tasks`]), what was read ([`super::reports`]).
//! Rule: a child takes no record before its parents have ended (I5); a window is past when every
//! shard is past it (I4).

use super::super::event::{EndedShard, KnownShard};
use super::{Job, Shard, is_dead_letters};
use std::ops::Bound;
use streamctl_proto::{Position, ShardId, Watermark, Window};

impl Job {
    /// Adds shards that the source lists. Those of the first listing of a new job begin at the
    /// job's start, later ones at their beginning (KINESIS.md, line 2).
    pub fn learn(&mut self, listed: &[KnownShard], generation: u64) {
        self.rearranged();
        let first = self.listing.answered == 0 && self.head.is_none() && self.shards.is_empty();
        let from = if first {
            self.resolved.start.clone()
        } else {
            Position::Start
        };
        for (_, shard) in self
            .shards
            .iter_mut()
            .filter(|(id, _)| !is_dead_letters(id))
        {
            shard.listed &= generation <= shard.ended_at_listing;
        }
        for known in listed {
            match self.shards.get_mut(&known.shard) {
                Some(shard) => {
                    shard.listed = true;
                    shard.detail.clone_from(&known.detail);
                    shard.parents.clone_from(&known.parents);
                    self.raise_floor(&known.shard);
                }
                None => self.add_shard(
                    &known.shard,
                    from.clone(),
                    known.parents.clone(),
                    known.detail.clone(),
                ),
            }
        }
    }

    /// A task has read a shard to its end. Its children take no window before that of its last
    /// record, and none that the task reported as past. If the source did not name the children, or
    /// parents are unknown, they must be listed before anything is committed or assigned: an
    /// unknown parent may be one that is not listed yet.
    pub fn end_shard(&mut self, ended: &EndedShard) {
        self.rearranged();
        let unknown = |parents: &[ShardId]| {
            parents
                .iter()
                .any(|parent| !self.shards.contains_key(parent))
        };
        let unclear =
            ended.children.is_empty() || ended.children.iter().any(|child| unknown(&child.parents));
        let unclear = unclear && self.lists_again() && !is_dead_letters(&ended.shard);
        let Some(shard) = self.shards.get_mut(&ended.shard) else {
            return;
        };
        // A task that reads the shard again knows no less than the first one.
        if shard.end.as_ref() != Some(&ended.last) && !shard.done() {
            shard.end = Some(ended.last.clone());
            shard.end_floor = ended.floor.max(shard.floor);
            if unclear {
                self.listing.needed = self.listing.asked + 1;
            }
        }
        for KnownShard {
            shard,
            parents,
            detail,
        } in &ended.children
        {
            if !self.shards.contains_key(shard) {
                self.add_shard(shard, Position::Start, parents.clone(), detail.clone());
            }
        }
        let children: Vec<ShardId> = self.children_of(&ended.shard);
        for child in children {
            self.raise_floor(&child);
        }
    }

    /// Shards or tasks changed, or their positions did. Derived state must be computed again.
    pub(super) fn rearranged(&mut self) {
        self.plan_due = true;
        self.not_past = None;
    }

    fn children_of(&self, parent: &ShardId) -> Vec<ShardId> {
        self.shards
            .iter()
            .filter(|(_, shard)| shard.parents.contains(parent))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// A child continues no earlier than its parents ended.
    pub(super) fn raise_floor(&mut self, id: &ShardId) {
        let floor = self.parents_floor(id);
        if let Some(shard) = self.shards.get_mut(id) {
            shard.floor = shard.floor.max(floor);
        }
    }

    fn parents_floor(&self, id: &ShardId) -> Watermark {
        let parents = self
            .shards
            .get(id)
            .into_iter()
            .flat_map(|shard| &shard.parents);
        parents
            .filter_map(|parent| self.shards.get(parent))
            .map(|parent| parent.end_floor)
            .max()
            .unwrap_or_default()
    }

    /// The end of the last window that is committed or being committed. No earlier window takes a
    /// record.
    pub(crate) fn base_end(&self) -> Watermark {
        self.committing
            .as_ref()
            .map_or(self.head_end, |committing| {
                Watermark::At(committing.manifest.window.end_ms)
            })
    }

    /// Adds a shard of which nothing has been read.
    pub(crate) fn add_shard(
        &mut self,
        id: &ShardId,
        from: Position,
        parents: Vec<ShardId>,
        detail: String,
    ) {
        self.rearranged();
        let shard = Shard::new(from, parents, detail, self.base_end());
        self.shards.insert(id.clone(), shard);
        self.raise_floor(id);
    }

    /// All parents are read to their end (I5). An unknown parent counts as read.
    pub fn parents_ended(&self, shard: &Shard) -> bool {
        shard
            .parents
            .iter()
            .all(|parent| self.shards.get(parent).is_none_or(Shard::ended))
    }

    /// No more records will arrive for a window that ends at or before this time.
    pub fn watermark(&self) -> Watermark {
        self.shards
            .values()
            .map(|shard| self.shard_watermark(shard))
            .min()
            .unwrap_or(Watermark::Ended)
    }

    fn shard_watermark(&self, shard: &Shard) -> Watermark {
        // A shard that waits for its parents does not hold back the watermark; its parents do,
        // until they have ended. Otherwise a parent that is more than [`WINDOWS_AHEAD_MAX`] windows
        // behind would wait for its own child.
        if shard.done() || !self.parents_ended(shard) {
            return Watermark::Ended;
        }
        let task = shard
            .task
            .and_then(|id| self.tasks.get(&id))
            .map(|task| task.watermark)
            .unwrap_or_default();
        shard.at_most(task.max(shard.floor))
    }

    /// Whether the watermark is past this window. Continues at the shard that blocked the last
    /// check, so each shard is checked once per window, however many tasks report.
    pub(super) fn all_past(&mut self, window: Window) -> bool {
        let from = match &self.not_past {
            Some((checked, shard)) if *checked == window => Bound::Included(shard),
            _ => Bound::Unbounded,
        };
        let mut rest = self.shards.range((from, Bound::Unbounded));
        let in_the_way = rest
            .find(|(_, shard)| !self.shard_watermark(shard).is_past(window))
            .map(|(id, _)| id.clone());
        self.not_past = in_the_way.map(|id| (window, id));
        self.not_past.is_none()
    }
}
