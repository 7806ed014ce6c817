//! A job that is forgotten: when it may be.
//!
//! Owns: the moment. Does not own: the store's keys; what lies in the sink and in the checkpoint
//! location (it stays).
//! Rule: the store forgets first, and nothing is forgotten that is committed and not published,
//! unless its user says so: nobody would ever see it.

use super::event::DesiredState;
use super::job::Job;
use super::{Core, Effect, want};
use streamctl_proto::JobName;

/// Why a job cannot be forgotten now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoDeletion {
    #[error("it is running")]
    Runs,
    /// It is in the middle of something.
    #[error("what it has committed is not published yet")]
    Unpublished,
    /// The store is being told something else of it.
    #[error("the store is being told of a change of it")]
    Recording,
}

impl Job {
    /// Why it cannot be forgotten now; by `force` also with epochs that are not published.
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
    /// A user wants a job forgotten; it is there until the store has forgotten it.
    pub(super) fn delete(&mut self, name: &JobName, force: bool, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        if job.closed_to_deletion(force).is_none() && job.wanted != DesiredState::Deleted {
            want(job, DesiredState::Deleted, out);
        }
    }
}
