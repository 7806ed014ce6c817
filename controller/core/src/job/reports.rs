//! Task reports of windows that no head holds.
//!
//! Does not own: whether a report is valid ([`super::super::check`]), the commit
//! ([`super::commit`]).
//! Rule: a report is accepted only if it continues what was accepted before (I2); the number of
//! windows is bounded (I7).

use super::{ASKED_MAX, Job, WINDOWS_AHEAD_MAX};
use std::collections::{BTreeMap, BTreeSet};
use streamctl_proto::{
    LookupVersion, Position, Report, ShardId, ShardRange, TaskId, Watermark, Window,
};

/// A window that a task has opened and no head holds.
#[derive(Clone, Debug, Default)]
pub struct OpenWindow {
    /// The lookup versions that all tasks join with.
    pub lookups: BTreeMap<String, LookupVersion>,
    /// Accepted reports, in the order of acceptance.
    pub reports: Vec<Report>,
    /// Tasks that read the window and have not reported it.
    pub readers: BTreeSet<TaskId>,
}

impl Job {
    /// Accepts a report, or returns the reason for its refusal. A duplicate is no error.
    pub fn accept(&mut self, report: &Report) -> Result<(), &'static str> {
        if self.head_end.is_past(report.window) {
            let held = |(id, range): (&ShardId, &ShardRange)| {
                self.shards
                    .get(id)
                    .is_none_or(|shard| range.to.reaches(&shard.reached))
            };
            return if report.ranges.iter().all(held) {
                Ok(())
            } else {
                Err("its window is committed without it")
            };
        }
        if self.reported(report.task, report.window) {
            return Ok(());
        }
        let task = self.tasks.get(&report.task).ok_or("its task is no more")?;
        if !report
            .ranges
            .keys()
            .all(|shard| task.shards.contains(shard))
        {
            return Err("it has a shard that its task has not");
        }
        self.chain(report)
    }

    /// Whether this task's report of this window was accepted.
    pub fn reported(&self, task: TaskId, window: Window) -> bool {
        self.windows
            .get(&window)
            .is_some_and(|open| open.reports.iter().any(|report| report.task == task))
    }

    /// All of these reports were accepted, or their windows are committed.
    pub fn has_all_of(&self, reports: &[Report]) -> bool {
        reports
            .iter()
            .all(|r| self.head_end.is_past(r.window) || self.reported(r.task, r.window))
    }

    /// Adds a report whose ranges continue from the positions of the shards (I2).
    pub fn chain(&mut self, report: &Report) -> Result<(), &'static str> {
        for (id, range) in &report.ranges {
            let shard = self
                .shards
                .get(id)
                .ok_or("it has a shard that the job has not")?;
            if shard.reached != range.from {
                return Err("it does not begin where its shard was left");
            }
            if range.to.reaches(&range.from) {
                return Err("it does not go forward");
            }
            if !self.parents_ended(shard) {
                return Err("it has records of a shard whose parents have not ended");
            }
            let begin = Watermark::At(report.window.start_ms);
            let over = |end: &Position| !range.to.reaches(end) || begin > shard.end_floor;
            if shard.end.as_ref().is_some_and(over) {
                return Err("it has records after the end of their shard");
            }
            if begin < shard.floor && shard.floor.is_past(report.window) {
                return Err("its window was closed before");
            }
        }
        if self
            .committing
            .as_ref()
            .is_some_and(|c| c.manifest.window >= report.window)
        {
            return Err("its window is being committed");
        }
        if !self.has_room_for(report.window) {
            return Err("too many windows are open");
        }
        let open = self.windows.entry(report.window).or_default();
        if open.reports.is_empty() && open.lookups.is_empty() {
            open.lookups.clone_from(&report.lookups);
        }
        if open.lookups != report.lookups {
            return Err("it was joined with other lookup versions");
        }
        for (id, range) in &report.ranges {
            if let Some(shard) = self.shards.get_mut(id) {
                shard.reached = range.to.clone();
                shard.floor = shard.floor.max(Watermark::At(report.window.start_ms));
                self.plan_due |= shard.done();
            }
        }
        open.readers.remove(&report.task);
        open.reports.push(report.clone());
        Ok(())
    }

    /// Drops everything that no head holds and that is not being committed.
    pub fn drop_uncommitted(&mut self) {
        self.rearranged();
        let base = self
            .committing
            .as_ref()
            .map(|committing| &committing.manifest);
        let base_end = self.base_end();
        self.windows.retain(|window, _| base_end.is_past(*window));
        self.waiting.clear();
        for (id, shard) in &mut self.shards {
            let position = base
                .and_then(|manifest| manifest.frontier.get(id))
                .map(|frontier| &frontier.position);
            shard.reached = position.unwrap_or(&shard.committed).clone();
            shard.floor = base_end;
        }
        for id in self.shards.keys().cloned().collect::<Vec<_>>() {
            self.raise_floor(&id);
        }
    }

    /// For a query that needs whole windows, before its task is started again: drops the windows
    /// that some shard may still have records of. One task reads them again, because two partial
    /// results do not make a result.
    pub fn forget_partial_windows(&mut self) {
        if !self.resolved.whole_window || !self.tasks.is_empty() {
            return;
        }
        let watermark = self.watermark();
        let partial = |(window, open): (&Window, &OpenWindow)| {
            !watermark.is_past(*window) && !open.reports.is_empty()
        };
        let Some(first) = self
            .windows
            .iter()
            .find(|each| partial((each.0, each.1)))
            .map(|(window, _)| *window)
        else {
            return;
        };
        self.rearranged();
        let mut back: BTreeMap<ShardId, Position> = BTreeMap::new();
        for (id, range) in self
            .windows
            .range(first..)
            .flat_map(|(_, o)| &o.reports)
            .flat_map(|report| &report.ranges)
        {
            back.entry(id.clone()).or_insert_with(|| range.from.clone());
        }
        for (id, position) in back {
            if let Some(shard) = self.shards.get_mut(&id) {
                shard.reached = position;
                shard.floor = shard.floor.min(Watermark::At(first.start_ms));
            }
        }
        self.windows.retain(|window, _| *window < first);
    }

    /// A window may open if not too many are open, or if no window is before it, because the others
    /// wait for that one.
    pub fn may_open(&self, window: Window) -> bool {
        let first = self
            .windows
            .first_key_value()
            .is_none_or(|(first, _)| window < *first);
        self.has_room_for(window)
            && (first
                || self.windows.len() < WINDOWS_AHEAD_MAX
                || self.windows.contains_key(&window))
    }

    /// A shard that is behind may open the one window before all others, and a new leader finds two
    /// of each task. No worker needs more than that (I7).
    pub fn has_room_for(&self, window: Window) -> bool {
        self.windows.contains_key(&window) || self.windows.len() < self.windows_max()
    }

    /// Most windows that may be open or reported, regardless of what workers send.
    pub fn windows_max(&self) -> usize {
        WINDOWS_AHEAD_MAX + 2 * self.shards.len()
    }

    /// A task has few windows open at a time, and one more for each shard that is behind. It may
    /// request no more than that.
    pub fn may_ask(&self, id: TaskId) -> bool {
        let asked = self.waiting.iter().filter(|(_, task)| *task == id).count();
        self.tasks
            .get(&id)
            .is_some_and(|task| asked < ASKED_MAX + task.shards.len())
    }
}
