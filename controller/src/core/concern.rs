//! Which jobs an event can let go on.
//!
//! Rule: naming too many costs time, naming too few costs a job the time until the next tick: that one is of all jobs.

use super::*;

/// Which jobs to look at after an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Concern {
    /// It changes nothing that a decision depends on.
    Nothing,
    /// Only this one.
    Job(JobName),
    /// Time has passed, or a worker has come or gone.
    All,
}

impl Core {
    /// Looked at before the event is applied: it may end the task by which its job is found.
    pub(super) fn concern(&self, event: &Event) -> Concern {
        match event {
            Event::JobLoaded { job, .. } | Event::JobUnreadable { job, .. } | Event::JobCreated { job } => {
                Concern::Job(job.spec.name.clone())
            }
            Event::StopRequested { job, .. }
            | Event::ResumeRequested { job }
            | Event::ShardsListed { job, .. }
            | Event::ListingRefused { job, .. }
            | Event::LookupSeen { job, .. }
            | Event::LookupFailed { job, .. }
            | Event::ManifestWritten { job, .. }
            | Event::HeadMoved { job, .. }
            | Event::EpochPublished { job, .. }
            | Event::PublishRefused { job, .. }
            | Event::PublishedRecorded { job, .. }
            | Event::WantedRecorded { job, .. }
            | Event::ReplayRequested { job, .. }
            | Event::VersionRecorded { job, .. }
            | Event::ReplaysRecorded { job, .. } => Concern::Job(job.clone()),
            Event::ChangeRequested { next } => Concern::Job(next.spec.name.clone()),
            Event::WindowRequested { task, .. }
            | Event::Progressed { task, .. }
            | Event::ShardEnded { task, .. }
            | Event::TaskEnded { task, .. } => self.job_with(*task),
            Event::Reported { report, .. } => self.job_with(report.task),
            Event::EffectDelayed { .. } => Concern::Nothing,
            Event::WorkerHeard { worker, .. } => match self.workers.get(worker) {
                Some(worker) if worker.lost => Concern::All,
                _ => Concern::Nothing,
            },
            Event::WorkerJoined { .. }
            | Event::WorkerDisconnected { .. }
            | Event::WorkerLeaving { .. }
            | Event::Ticked => Concern::All,
        }
    }

    fn job_with(&self, task: TaskId) -> Concern {
        let owner = self.jobs.values().find(|job| job.tasks.contains_key(&task));
        owner.map_or(Concern::Nothing, |job| Concern::Job(job.name().clone()))
    }

    /// Workers came, went, or take tasks again: every job's shards may belong elsewhere.
    pub(super) fn plan_all_anew(&mut self) {
        for job in self.jobs.values_mut() {
            job.plan_due = true;
        }
    }
}
