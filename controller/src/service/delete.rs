//! Deletion of a job.
//!
//! Owns: waiting until the job may be deleted, and until it is; its consumer and what it staged in vain go after it. Does
//! not own: when it may be deleted (`core::deletion`).
//! Rule: answered when the store has deleted the job. Results and dead letters stay where they are.

use super::jobs::JobsService;
use super::{RECORD_TIMEOUT, not_found, recorded};
use crate::handle::{Handle, NoResult, NotLeading};
use crate::sweep::sweep;
use crate::trim::{Purged, purge};
use std::time::Duration;
use streamctl_core::deletion::NoDeletion;
use streamctl_core::{Core, Event, JobEvent};
use streamctl_engine::storage::Storages;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::staged_name::Orphans;
use streamctl_proto::{Epoch, JobName, ResolvedJob, v1};
use tonic::Status;

/// How long an answer waits for a purge.
const PURGE_TIMEOUT: Duration = Duration::from_secs(45);

impl JobsService {
    pub(super) async fn delete(
        &self,
        job: JobName,
        force: bool,
        purge: bool,
    ) -> Result<v1::DeleteJobResponse, Status> {
        let handle = self.leader.handle()?;
        let Settled {
            resolved,
            epoch,
            orphans,
        } = settled(&handle, &job, force).await?;
        handle
            .send(Event::Job {
                job: job.clone(),
                event: JobEvent::DeleteRequested { force },
            })
            .await?;
        recorded(&handle, &job).await?;
        let requested = job.clone();
        if handle
            .query(move |core| core.job(&requested).is_some())
            .await?
        {
            return Err(refused(&job, NoDeletion::Runs));
        }
        // Whatever becomes of the consumer: the job is gone, so a purge cannot be requested again.
        let removing = Removing {
            storages: self.history.storages().clone(),
            job: resolved.clone(),
            orphans,
        };
        let purged = match purge {
            true => removing.purged().await,
            false => {
                tokio::spawn(async move { removing.sweep().await });
                Purged::default()
            }
        };
        if let Some(left) = self.submitter.release_consumer(&resolved).await {
            let text = match &purged.problem {
                Some(problem) => {
                    let checkpoint = &resolved.spec.checkpoint;
                    format!(
                        "job {job} is deleted, but objects are left below {checkpoint} ({problem}), and {left}"
                    )
                }
                None => format!("job {job} is deleted, but {left}"),
            };
            return Err(CallRefusal::new(Reason::ServiceUnavailable, text).into());
        }
        let spec = resolved.spec;
        Ok(v1::DeleteJobResponse {
            job: job.to_string(),
            epoch: epoch.0,
            sink: spec.sink.place(),
            dead_letters: spec.dead_letters().to_string(),
            checkpoint: spec.checkpoint.to_string(),
            purged: purged.removed as u64,
            purge_problem: purged.problem.unwrap_or_default(),
        })
    }
}

/// A job that can be deleted.
struct Settled {
    resolved: ResolvedJob,
    epoch: Epoch,
    orphans: Orphans,
}

/// What is removed of a deleted job.
struct Removing {
    storages: Storages,
    job: ResolvedJob,
    orphans: Orphans,
}

impl Removing {
    async fn sweep(&self) {
        sweep(&self.storages, &self.job, &self.orphans).await;
    }

    /// Removes what the job has in its checkpoint location. It goes on if the caller does not wait.
    async fn purged(self) -> Purged {
        let removing = tokio::spawn(async move {
            // It reads versions of the job, which the purge removes.
            self.sweep().await;
            purge(&self.storages, &self.job).await
        });
        let left = |problem: &str| Purged {
            removed: 0,
            problem: Some(problem.to_owned()),
        };
        match tokio::time::timeout(PURGE_TIMEOUT, removing).await {
            Ok(Ok(purged)) => purged,
            Ok(Err(_)) => left("the removal broke off"),
            Err(_) => left("there are many objects: their removal goes on, if this leader stays"),
        }
    }
}

/// The job, once it can be deleted; waits for what is in flight.
async fn settled(handle: &Handle, job: &JobName, force: bool) -> Result<Settled, Status> {
    let requested = job.clone();
    let closed = move |core: &Core| -> Result<Result<_, NoDeletion>, Status> {
        let found = core.job(&requested).zip(core.orphans_of(&requested));
        let (job, orphans) = found.ok_or_else(|| not_found(&requested, core.job_names()))?;
        match job.closed_to_deletion(force) {
            None => Ok(Ok(Settled {
                resolved: job.resolved().clone(),
                epoch: job.epoch(),
                orphans,
            })),
            Some(closed) => Ok(Err(closed)),
        }
    };
    let read = closed.clone();
    let settled = move |core: &Core| match read(core) {
        Ok(Err(closed)) if closed != NoDeletion::Runs => None,
        known => Some(known),
    };
    let found = match handle.until(RECORD_TIMEOUT, settled).await {
        Ok(found) => found?,
        Err(NoResult::NotLeading) => return Err(NotLeading.into()),
        // What it still waits for is the refusal.
        Err(NoResult::Late) => handle.query(closed).await??,
    };
    found.map_err(|closed| refused(job, closed))
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
    Status::from(
        CallRefusal::new(
            Reason::JobState,
            format!("job {job} cannot be deleted: {closed}"),
        )
        .hint(hint),
    )
}
