//! The gRPC services: convert in, make one call, convert out.
//!
//! Rule: no decision is taken here.

mod change;
mod delete;
pub mod flight;
pub mod jobs;
mod repair;
mod replays;
pub mod scaling;
mod standing;
mod status_text;
pub mod submit;
pub mod workers;

use crate::handle::Handle;
use std::time::Duration;
use streamctl_core::Core;
use streamctl_core::stored::DesiredState;
use streamctl_proto::{JobName, v1};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// The steps of a repair as they happen.
type RepairEvents = ReceiverStream<Result<v1::RepairEvent, Status>>;

/// How long the store may take to record a desired state.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a caller waits until an unreadable job is read again.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// There is no job of this name. The text includes its hint, so that no client adds another one.
pub(crate) fn not_found(job: &JobName) -> Status {
    Status::not_found(format!(
        "there is no job {job}\n  hint: `streamctl list` shows those there are"
    ))
}

/// Waits until the store holds the desired state of a job: a successful answer survives this
/// leader.
async fn recorded(mut handle: Handle, job: &JobName) -> Result<(), Status> {
    let stored = async {
        loop {
            let requested = job.clone();
            if handle
                .query(move |core| core.jobs.get(&requested).is_none_or(|job| !job.recording))
                .await?
            {
                return Ok(());
            }
            handle.changed().await?;
        }
    };
    let late = |_| {
        Status::unavailable(format!(
            "the controller does it, but its store did not take it within {} s: the next leader would not know of it\n  \
             hint: see `streamctl status {job}`, and try again when the store answers",
            RECORD_TIMEOUT.as_secs()
        ))
    };
    tokio::time::timeout(RECORD_TIMEOUT, stored)
        .await
        .map_err(late)?
}

/// Waits until an unreadable job was read again; `before` is the number of failed reads so far.
///
/// # Errors
/// `FAILED_PRECONDITION` with what is wrong with the job, if the read failed again.
async fn read_anew(mut handle: Handle, job: &JobName, before: Option<u64>) -> Result<(), Status> {
    let read = async {
        loop {
            let requested = job.clone();
            let view = move |core: &Core| {
                let job = core.jobs.get(&requested)?;
                let reads = job.unreadable.as_ref().map(|unreadable| unreadable.reads);
                Some((reads, job.wanted.clone()))
            };
            match handle.query(view).await?.ok_or_else(|| not_found(job))? {
                (None, _) => return Ok(()),
                (reads, DesiredState::Failed { error, hint }) if reads != before => {
                    let text = format!("job {job} cannot go on: {error}\n  hint: {hint}");
                    return Err(Status::failed_precondition(status_text::status_text(&text)));
                }
                _ => handle.changed().await?,
            }
        }
    };
    let late = |_| {
        Status::unavailable(format!(
            "job {job} is being read again, and its checkpoint location did not answer within {} s\n  hint: see `streamctl \
             status {job}`, and try again when it answers",
            READ_TIMEOUT.as_secs()
        ))
    };
    tokio::time::timeout(READ_TIMEOUT, read)
        .await
        .map_err(late)?
}
