//! Which jobs an event can unblock.
//!
//! Rule: too large a scope costs time; too small a scope delays a job until the next tick, which
//! covers all jobs.

use super::*;

/// Time between two plans of all jobs. The first worker that joins or leaves is handled at once.
/// When a thousand do, planning for each of them would take longer than the worker timeout.
const PLAN_ALL_INTERVAL_MS: i64 = 250;

/// When all jobs are planned again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Plans {
    due: bool,
    not_before_ms: i64,
}

/// The jobs to advance after an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The event changes nothing that a decision depends on.
    Nothing,
    Job(JobName),
    /// Time has passed, or a worker has joined or left.
    All,
}

impl Core {
    /// Computed before the event is applied, because the event may end the task by which its job is
    /// found.
    pub(super) fn scope(&self, event: &Event) -> Scope {
        match event {
            Event::Job {
                event: JobEvent::EffectDelayed { .. } | JobEvent::EffectDone { .. },
                ..
            } => Scope::Nothing,
            Event::Job { job, .. } => Scope::Job(job.clone()),
            Event::Task {
                task,
                event: TaskEvent::Refused(refused),
                ..
            } => match (self.job_with(*task), &refused.job) {
                (Scope::Nothing, Some(name)) => Scope::Job(name.clone()),
                (scope, _) => scope,
            },
            Event::Task { task, .. } => self.job_with(*task),
            // The tasks it continues with may complete a window. The assignment of shards is
            // planned separately.
            Event::Worker {
                event: WorkerEvent::Joined { tasks, .. },
                ..
            } if !tasks.is_empty() => Scope::All,
            Event::Worker { .. } => Scope::Nothing,
            Event::Ticked => Scope::All,
        }
    }

    fn job_with(&self, task: TaskId) -> Scope {
        let home = self.task_index.job_of(task).filter(|name| {
            self.jobs
                .get(name)
                .is_some_and(|job| job.tasks.contains_key(&task))
        });
        home.map_or(Scope::Nothing, |name| Scope::Job(name.clone()))
    }

    /// Workers joined, left, or take tasks again: shards of every job may belong elsewhere.
    pub(super) fn plan_all_anew(&mut self) {
        self.plans.due = true;
    }

    /// Plans all jobs again if that is due; returns false if it is not.
    pub(super) fn plan_all_when_due(&mut self, now: i64) -> bool {
        if !self.plans.due || now < self.plans.not_before_ms {
            return false;
        }
        self.plans = Plans {
            due: false,
            not_before_ms: now + PLAN_ALL_INTERVAL_MS,
        };
        for job in self.jobs.values_mut() {
            job.plan_due = true;
        }
        true
    }
}
