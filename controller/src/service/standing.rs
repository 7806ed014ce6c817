//! The state of a job before a request changes it.
//!
//! Owns: reading it from the core, resuming. Does not own: the comparison with a job file
//! (`change`).

use super::{missing, read_anew, recorded};
use crate::handle::Handle;
use streamctl_core::versions::NoTakeOver;
use streamctl_core::{Core, Event, JobEvent};
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::{Epoch, JobName, ResolvedJob};
use tonic::Status;

/// The current state of a job.
pub(super) struct Standing {
    pub(super) job: ResolvedJob,
    pub(super) epoch: Epoch,
    pub(super) boundary_ms: Option<i64>,
    pub(super) closed: Option<NoTakeOver>,
}

/// The core's state of the job with this name.
///
/// # Errors
/// `ABORTED` while it is being deleted: the request is meant for the job that comes after it.
pub(super) async fn standing(handle: &Handle, name: &JobName) -> Result<Option<Standing>, Status> {
    let name = name.clone();
    let being_deleted = Status::from(
        CallRefusal::new(Reason::JobBusy, format!("job {name} is being deleted"))
            .hint("try again in a moment"),
    );
    let read = move |core: &Core| {
        let job = core.job(&name)?;
        Some(Standing {
            job: job.resolved().clone(),
            epoch: job.epoch(),
            boundary_ms: job.boundary_ms(),
            closed: job.closed_to_changes(),
        })
    };
    match handle.query(read).await? {
        Some(Standing {
            closed: Some(NoTakeOver::Deleted),
            ..
        }) => Err(being_deleted),
        standing => Ok(standing),
    }
}

/// Checks that the job is at this version.
///
/// # Errors
/// `NOT_FOUND` without a job, `ABORTED` at another version.
pub(super) async fn check_version(
    handle: &Handle,
    name: &JobName,
    standing: Option<&Standing>,
    if_version: u64,
) -> Result<(), Status> {
    match standing {
        _ if if_version == 0 => Ok(()),
        None => Err(missing(handle, name).await),
        Some(standing) if standing.job.job_version.0 == if_version => Ok(()),
        Some(standing) => Err(Status::from(
            CallRefusal::new(
                Reason::VersionConflict,
                format!(
                    "job {name} is at version {}, not {if_version}",
                    standing.job.job_version
                ),
            )
            .hint("look at what would change now with `streamctl diff`"),
        )),
    }
}

/// Resumes a job, and waits until that is stored. Returns false if it runs or has completed. An
/// unreadable job is read again first.
///
/// # Errors
/// What is wrong with the job, if it is still unreadable.
pub(super) async fn resumed(handle: &Handle, name: &JobName) -> Result<bool, Status> {
    let requested = name.clone();
    let read = move |core: &Core| {
        let job = core.job(&requested);
        let reads = job.and_then(|job| job.failed_reads());
        (job.is_some_and(|job| job.desired().can_go_on()), reads)
    };
    let (stands, reads) = handle.query(read).await?;
    if reads.is_some() {
        handle
            .send(Event::Job {
                job: name.clone(),
                event: JobEvent::ResumeRequested,
            })
            .await?;
        read_anew(handle, name, reads).await?;
    }
    handle
        .send(Event::Job {
            job: name.clone(),
            event: JobEvent::ResumeRequested,
        })
        .await?;
    recorded(handle, name).await?;
    Ok(stands)
}
