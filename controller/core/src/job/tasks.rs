//! Tasks of a job.
//!
//! Does not own: where tasks run ([`super::super::assign`]). Rule: when a task ends, what it
//! reported stays and what it did not report is read again.

use super::super::event::Computing;
use super::super::hanging::HangingCalls;
use super::{Job, TASK_WORKERS_MAX};
use std::collections::{BTreeMap, BTreeSet};
use streamctl_proto::{JobVersion, ShardId, TaskId, Watermark, Window, WorkerId};

/// The state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskState {
    Running,
    /// It must report what it has and end.
    Releasing,
    /// It finishes its windows up to this time.
    Draining(i64),
}

impl TaskState {
    /// The task would end before this window and never finish it.
    pub fn is_drained_before(self, window: Window) -> bool {
        matches!(self, Self::Draining(until_ms) if window.end_ms > until_ms)
    }
}

/// Some shards of the job, assigned to one worker once.
#[derive(Clone, Debug)]
pub struct Task {
    pub worker: WorkerId,
    /// The version of the job it belongs to.
    pub job_version: JobVersion,
    pub shards: BTreeSet<ShardId>,
    /// How long the stream keeps records, as sent to the task.
    pub retention_ms: Option<i64>,
    /// Every window that ends at or before this is reported.
    pub watermark: Watermark,
    pub state: TaskState,
    /// Time spent working on its windows.
    pub work_us: u64,
    /// As last reported.
    pub computing: Computing,
    /// Calls to outside services that its worker waits for.
    pub hanging: HangingCalls,
    /// When this leader started or adopted it.
    pub given_ms: i64,
}

impl Job {
    /// Assigns a task to a worker.
    pub fn add_task(
        &mut self,
        now: i64,
        id: TaskId,
        worker: WorkerId,
        shards: BTreeSet<ShardId>,
        retention_ms: Option<i64>,
    ) {
        self.rearranged();
        for shard in &shards {
            if let Some(shard) = self.shards.get_mut(shard) {
                shard.task = Some(id);
            }
        }
        self.commit_subscribers.insert(worker.clone());
        self.task_workers.insert(id, worker.clone());
        if self.task_workers.len() > TASK_WORKERS_MAX {
            self.task_workers.pop_first();
        }
        let task = Task {
            worker,
            job_version: self.resolved.job_version,
            shards,
            retention_ms,
            watermark: Watermark::Unknown,
            state: TaskState::Running,
            work_us: 0,
            computing: Computing::default(),
            hanging: HangingCalls::default(),
            given_ms: now,
        };
        self.tasks.insert(id, task);
    }

    /// No task starts yet: the job waits after a failure.
    pub fn is_paused(&self, now: i64) -> bool {
        self.pause_until_ms.is_some_and(|until_ms| now < until_ms)
    }

    /// Counts a failure of a task. The wait before the next try grows with the number of failures.
    /// Tasks that fail together fail for one reason and count once.
    pub fn count_failure(&mut self, now: i64, waits: [i64; 3]) {
        if self.is_paused(now) {
            return;
        }
        self.failures += 1;
        let wait = waits[(self.failures as usize - 1).min(waits.len() - 1)];
        self.pause_until_ms = Some(now + wait);
    }

    /// Failures before now no longer count: the job made progress, or a user acted on it.
    pub fn forget_failures(&mut self) {
        self.failures = 0;
        for refusals in self.refusals.values_mut() {
            refusals.since_commit = false;
        }
    }

    /// A task has reported everything before the watermark. The end holds only for shards that have
    /// ended; a shard that continues would have no later window.
    pub fn progress(&mut self, id: TaskId, watermark: Watermark) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let open = |id| self.shards.get(id).is_some_and(|shard| !shard.ended());
        if watermark == Watermark::Ended && task.shards.iter().any(open) {
            return;
        }
        task.watermark = task.watermark.max(watermark);
        for shard in &task.shards {
            if let Some(shard) = self.shards.get_mut(shard) {
                shard.floor = shard.floor.max(shard.at_most(watermark));
            }
        }
    }

    /// Removes a task: what it reported stays, what it did not report is read again.
    pub fn remove_task(&mut self, id: TaskId) -> Option<Task> {
        let task = self.tasks.remove(&id)?;
        self.rearranged();
        for shard in &task.shards {
            if let Some(shard) = self.shards.get_mut(shard) {
                shard.task = None;
                shard.last_worker = Some(task.worker.clone());
            }
        }
        self.waiting.retain(|(_, waiting)| *waiting != id);
        for (window, open) in &mut self.windows {
            if open.readers.remove(&id) {
                count_try(&mut self.tries, *window);
            }
        }
        self.windows
            .retain(|_, open| !open.reports.is_empty() || !open.readers.is_empty());
        Some(task)
    }
}

/// A task has opened this window and did not report it: the next one tries again.
pub(crate) fn count_try(tries: &mut BTreeMap<Window, u32>, window: Window) {
    let count = tries.entry(window).or_default();
    *count = count.saturating_add(1);
}
