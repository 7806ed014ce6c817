//! When a job may be deleted.
//!
//! Owns: the moment. Does not own: the store's keys; data in the sink and in the checkpoint
//! location (it stays).
//! Rule: the store deletes first. Without `force`, a job with committed but unpublished epochs is
//! not deleted, because these would never become visible.

use super::event::DesiredState;
use super::job::Job;
use super::{Core, Effect, want};
use streamctl_proto::JobName;

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

impl Job {
    /// Returns why the job cannot be deleted now. With `force`, unpublished epochs are no reason.
    pub fn closed_to_deletion(&self, force: bool) -> Option<NoDeletion> {
        match self.wanted {
            DesiredState::Running | DesiredState::Draining => Some(NoDeletion::Runs),
            _ if self.committing.is_some() || !(force || self.publishing.is_empty()) => {
                Some(NoDeletion::Unpublished)
            }
            _ if self.changing.is_some() || self.replays.recording => Some(NoDeletion::Recording),
            DesiredState::Stopped
            | DesiredState::Completed
            | DesiredState::Failed { .. }
            | DesiredState::Deleted => None,
        }
    }
}

impl Core {
    /// A user requested the deletion of a job. The job stays until the store has deleted it.
    pub(super) fn delete(&mut self, name: &JobName, force: bool, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        if job.closed_to_deletion(force).is_none() && job.wanted != DesiredState::Deleted {
            want(job, DesiredState::Deleted, out);
        }
    }
}
