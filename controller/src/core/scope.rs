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
            Event::JobLoaded { job, .. }
            | Event::JobUnreadable { job, .. }
            | Event::JobCreated { job } => Scope::Job(job.spec.name.clone()),
            Event::StopRequested { job, .. }
            | Event::DeleteRequested { job, .. }
            | Event::HeadRepairRequested { job, .. }
            | Event::ResumeRequested { job }
            | Event::ShardsListed { job, .. }
            | Event::ListingRefused { job, .. }
            | Event::LookupSeen { job, .. }
            | Event::LookupRefused { job, .. }
            | Event::LookupFailed { job, .. }
            | Event::ManifestWritten { job, .. }
            | Event::ManifestRefused { job, .. }
            | Event::HeadMoved { job, .. }
            | Event::EpochPublished { job, .. }
            | Event::ObjectsLost { job, .. }
            | Event::EpochRepairRequested { job, .. }
            | Event::EpochRepaired { job, .. }
            | Event::PublishedRecorded { job, .. }
            | Event::WantedRecorded { job, .. }
            | Event::ReplayRequested { job, .. }
            | Event::VersionRecorded { job, .. }
            | Event::VersionRefused { job, .. }
            | Event::ReplaysRecorded { job, .. } => Scope::Job(job.clone()),
            Event::ChangeRequested { next } => Scope::Job(next.spec.name.clone()),
            Event::WindowRequested { task, .. }
            | Event::Progressed { task, .. }
            | Event::ShardEnded { task, .. }
            | Event::TaskEnded { task, .. } => self.job_with(*task),
            Event::Reported { report, .. } => self.job_with(report.task),
            Event::TaskRefused { refused, .. } => match (self.job_with(refused.task), &refused.job)
            {
                (Scope::Nothing, Some(name)) => Scope::Job(name.clone()),
                (concern, _) => concern,
            },
            Event::EffectDelayed { .. } | Event::EffectDone { .. } => Scope::Nothing,
            // The tasks it continues with may complete a window. The assignment of shards is
            // planned separately.
            Event::WorkerJoined { tasks, .. } if !tasks.is_empty() => Scope::All,
            Event::WorkerJoined { .. }
            | Event::WorkerHeard { .. }
            | Event::WorkerSpoke { .. }
            | Event::WorkerDisconnected { .. }
            | Event::WorkerLeaving { .. } => Scope::Nothing,
            Event::Ticked => Scope::All,
        }
    }

    fn job_with(&self, task: TaskId) -> Scope {
        let home = self.task_index.name_of(task).filter(|name| {
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
