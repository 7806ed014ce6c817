//! When a job may be deleted.
//!
//! Owns: the moment. Does not own: the store's keys; data in the sink and in the checkpoint
//! location (it stays).
//! Rule: the store deletes first. Without `force`, a job with committed but unpublished epochs is
//! not deleted, because these would never become visible.

use super::job::Job;
use super::{Core, Effect};
use crate::stored::DesiredState;
use streamctl_proto::JobName;
use streamctl_proto::staged_name::Orphans;

/// Why a job cannot be deleted now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDeletion {
    #[error("it is running")]
    Runs,
    /// An epoch is being committed or published.
    #[error("what it has committed is not published yet")]
    Unpublished,
    /// Another change of its desired state is being written to the store.
    #[error("the store is being told of a change of it")]
    Recording,
}

impl Core {
    /// What a job has staged in vain until now. Once it is deleted, nothing else knows of it. Objects
    /// of a later job of its name are none of these: their tasks are later.
    pub fn orphans_of(&self, job: &JobName) -> Option<Orphans> {
        let job = self.jobs.get(job)?;
        let dead = self.settings.earlier_terms_are_dead.then_some(self.term);
        Some(job.orphans(self.task_index.next(), dead))
    }
}

impl Job {
    /// Returns why the job cannot be deleted now. With `force`, unpublished epochs are no reason.
    pub fn closed_to_deletion(&self, force: bool) -> Option<NoDeletion> {
        match self.wanted {
            DesiredState::Running | DesiredState::Draining => Some(NoDeletion::Runs),
            _ if self.committing.is_some() || !(force || self.publishing.is_empty()) => {
                Some(NoDeletion::Unpublished)
            }
            _ if self.is_being_recorded() => Some(NoDeletion::Recording),
            DesiredState::Stopped
            | DesiredState::Completed
            | DesiredState::Failed { .. }
            | DesiredState::Deleted => None,
        }
    }

    /// A write of it to the store is in flight that must not follow its deletion.
    fn is_being_recorded(&self) -> bool {
        self.changing.is_some() || self.replays.recording || self.retention.recording
    }

    /// A user requested the deletion of the job. It stays until the store has deleted it.
    pub(super) fn delete(&mut self, force: bool, out: &mut Vec<Effect>) {
        if self.closed_to_deletion(force).is_none() && self.wanted != DesiredState::Deleted {
            self.want(DesiredState::Deleted, out);
        }
    }
}
