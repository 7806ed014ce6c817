//! Deletion of a job.
//!
//! Owns: waiting until the job may be deleted, and until it is. Does not own: when it may be
//! deleted (`core::deletion`).
//! Rule: answered when the store has deleted the job. Results, dead letters and manifests stay
//! where they are.

use super::jobs::JobsService;
use super::{RECORD_TIMEOUT, not_found, recorded};
use crate::handle::Handle;
use streamctl_core::deletion::NoDeletion;
use streamctl_core::{Core, Event, JobEvent};
use streamctl_proto::{Epoch, JobName, ResolvedJob, v1};
use tonic::Status;

impl JobsService {
    pub(super) async fn delete(
        &self,
        job: JobName,
        force: bool,
    ) -> Result<v1::DeleteJobResponse, Status> {
        let handle = self.leader.handle()?;
        let (resolved, epoch) = settled(handle.clone(), &job, force).await?;
        handle
            .send(Event::Job {
                job: job.clone(),
                event: JobEvent::DeleteRequested { force },
            })
            .await?;
        recorded(handle.clone(), &job).await?;
        let requested = job.clone();
        if handle
            .query(move |core| core.jobs.contains_key(&requested))
            .await?
        {
            return Err(refused(&job, NoDeletion::Runs));
        }
        let spec = resolved.spec;
        Ok(v1::DeleteJobResponse {
            job: job.to_string(),
            epoch: epoch.0,
            sink: spec.sink.place(),
            dead_letters: spec.dead_letters().to_string(),
            checkpoint: spec.checkpoint.to_string(),
        })
    }
}

/// The job, once it can be deleted; waits for what is in flight.
async fn settled(
    mut handle: Handle,
    job: &JobName,
    force: bool,
) -> Result<(ResolvedJob, Epoch), Status> {
    let deadline = tokio::time::Instant::now() + RECORD_TIMEOUT;
    loop {
        let requested = job.clone();
        let read = move |core: &Core| {
            let job = core.jobs.get(&requested)?;
            Some((
                job.resolved.clone(),
                job.epoch(),
                job.closed_to_deletion(force),
            ))
        };
        let (resolved, epoch, closed) = handle.query(read).await?.ok_or_else(|| not_found(job))?;
        match closed {
            None => return Ok((resolved, epoch)),
            Some(NoDeletion::Runs) => return Err(refused(job, NoDeletion::Runs)),
            Some(closed) => {
                let changed = tokio::time::timeout_at(deadline, handle.changed()).await;
                changed.map_err(|_| refused(job, closed))??;
            }
        }
    }
}

fn refused(job: &JobName, closed: NoDeletion) -> Status {
    let hint = match closed {
        NoDeletion::Runs => format!("stop it first: streamctl stop {job}"),
        NoDeletion::Unpublished => format!(
            "`streamctl status {job}` says why, `streamctl repair {job}` may help; with `--force` it is deleted all the same, and \
             those rows are never seen"
        ),
        NoDeletion::Recording => "try again when the store answers".to_owned(),
    };
    Status::failed_precondition(format!(
        "job {job} cannot be deleted: {closed}\n  hint: {hint}"
    ))
}
