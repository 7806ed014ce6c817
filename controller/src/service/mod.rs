//! The gRPC services: convert in, make one call, convert out.
//!
//! Rule: no decision is taken here.

mod change;
mod consumers;
mod delete;
mod events;
pub mod flight;
mod histories;
pub mod in_flight;
pub mod jobs;
pub mod page;
mod repair;
mod replays;
pub mod scaling;
mod spec;
mod standing;
pub mod submit;
pub mod workers;

use crate::handle::Handle;
use crate::store::StoredJob;
use std::time::Duration;
use streamctl_core::Core;
use streamctl_core::stored::DesiredState;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::{Epoch, JobName, nearest, v1};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// The steps of a repair as they happen.
type RepairEvents = ReceiverStream<Result<v1::RepairEvent, Status>>;

/// How long the store may take to record a desired state.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a caller waits until an unreadable job is read again.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// There is no job of this name among the known ones. The text includes its hint, so that no client
/// adds another one.
pub(crate) fn not_found<'n>(job: &JobName, known: impl Iterator<Item = &'n JobName>) -> Status {
    let hint = match nearest(job.as_str(), known.map(JobName::as_str)) {
        Some(like) => format!("did you mean {like}? `streamctl list` shows all jobs"),
        None => "`streamctl list` shows those there are".to_owned(),
    };
    Status::from(CallRefusal::new(Reason::JobNotFound, format!("there is no job {job}")).hint(hint))
}

/// The job among those that the store holds.
///
/// # Errors
/// `NOT_FOUND`
pub(crate) fn found(mut stored: Vec<StoredJob>, job: &JobName) -> Result<StoredJob, Status> {
    match stored
        .iter()
        .position(|stored| stored.job.spec.name == *job)
    {
        Some(index) => Ok(stored.swap_remove(index)),
        None => Err(not_found(
            job,
            stored.iter().map(|stored| &stored.job.spec.name),
        )),
    }
}

/// There is no such job among those that the core knows now.
async fn missing(handle: &Handle, job: &JobName) -> Status {
    let requested = job.clone();
    let refused = handle.query(move |core| not_found(&requested, core.job_names()));
    refused.await.unwrap_or_else(Status::from)
}

/// The epoch is not there: it is not committed yet, or not kept any more.
pub(crate) fn no_epoch(job: &JobName, epoch: u64, first: Epoch, last: Epoch) -> Status {
    let text = if epoch > 0 && epoch < first.0 {
        format!("epoch {epoch} of job {job} is not kept any more")
    } else {
        format!("job {job} has no epoch {epoch}")
    };
    let there = match last {
        Epoch(0) => "none is committed yet".to_owned(),
        last if first > Epoch(1) => {
            format!("epochs {first} to {last} are kept: `keep` in [checkpoint]")
        }
        last => format!("epochs 1 to {last} are committed"),
    };
    Status::from(CallRefusal::new(Reason::EpochNotFound, text).hint(there))
}

/// Waits until the store holds the desired state of a job: a successful answer survives this
/// leader.
async fn recorded(handle: &Handle, job: &JobName) -> Result<(), Status> {
    let requested = job.clone();
    let stored = move |core: &Core| {
        let job = core.job(&requested);
        job.is_none_or(|job| !job.is_recording()).then_some(())
    };
    let late = || {
        let text = format!(
            "the controller does it, but its store did not take it within {} s: the next leader \
             would not know of it",
            RECORD_TIMEOUT.as_secs()
        );
        let hint = format!("see `streamctl status {job}`, and try again when the store answers");
        Status::from(CallRefusal::new(Reason::StoreUnavailable, text).hint(hint))
    };
    let waited = handle.until(RECORD_TIMEOUT, stored).await;
    waited.map_err(|error| error.or_late(late))
}

/// Waits until an unreadable job was read again; `before` is the number of failed reads so far.
///
/// # Errors
/// `FAILED_PRECONDITION` with what is wrong with the job, if the read failed again.
async fn read_anew(handle: &Handle, job: &JobName, before: Option<u64>) -> Result<(), Status> {
    let requested = job.clone();
    let read = move |core: &Core| {
        let Some(job) = core.job(&requested) else {
            return Some(Err(not_found(&requested, core.job_names())));
        };
        match (job.failed_reads(), job.desired()) {
            (None, _) => Some(Ok(())),
            (reads, DesiredState::Failed { error, hint }) if reads != before => {
                let text = format!("job {requested} cannot go on: {error}");
                let refusal = CallRefusal::new(Reason::JobState, text).hint(hint);
                Some(Err(Status::from(refusal)))
            }
            (Some(_), _) => None,
        }
    };
    let late = || {
        let text = format!(
            "job {job} is being read again, and its checkpoint location did not answer within {} s",
            READ_TIMEOUT.as_secs()
        );
        let hint = format!("see `streamctl status {job}`, and try again when it answers");
        Status::from(CallRefusal::new(Reason::CheckpointUnavailable, text).hint(hint))
    };
    let waited = handle.until(READ_TIMEOUT, read).await;
    waited.map_err(|error| error.or_late(late))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_is_not_there_is_refused_with_the_name_that_is_like_it() {
        let known: Vec<JobName> = ["sales-by-country", "orders"]
            .map(|name| name.parse().unwrap())
            .into();
        let text = |name: &str| {
            let refused = not_found(&name.parse().unwrap(), known.iter());
            CallRefusal::text_of(&refused)
        };
        let (error, hint) = text("sales");
        assert_eq!(error, "there is no job sales");
        assert!(hint.unwrap().starts_with("did you mean sales-by-country?"));
        assert!(text("weather").1.unwrap().starts_with("`streamctl list`"));
    }
}
