//! Which jobs an event can let go on.
//!
//! Rule: naming too many costs time, naming too few costs a job the time until the next tick: that
//! one is of all jobs.

use super::*;

/// Between two times that all jobs are planned anew. The first worker that comes or goes is seen to
/// at once; when a thousand do, planning for each of them would take longer than they may be
/// silent.
const PLAN_ALL_INTERVAL_MS: i64 = 250;

/// When all jobs are planned anew.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Plans {
    due: bool,
    not_before_ms: i64,
}

/// Which jobs to look at after an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// It changes nothing that a decision depends on.
    Nothing,
    Job(JobName),
    /// Time has passed, or a worker has come or gone.
    All,
}

impl Core {
    /// Looked at before the event is applied: it may end the task by which its job is found.
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
            // What it goes on with may make a window whole; where shards belong is seen to on its
            // own.
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

    /// Workers came, went, or take tasks again: every job's shards may belong elsewhere.
    pub(super) fn plan_all_anew(&mut self) {
        self.plans.due = true;
    }

    /// Plans all jobs anew, if that is due; false when it is not.
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
