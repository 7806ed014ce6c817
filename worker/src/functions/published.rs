//! Calls of `on_published`, for a controller.
//!
//! Owns: their processes, which are kept between epochs. Does not own: when it is called (the
//! controller).
//! Rule: a success is reported only after the function has returned.

use super::{Functions, FunctionsError, log_lines};
use crate::function::{self as process, Published, PublishedObject};
use std::sync::Arc;
use streamctl_engine::storage::Storages;
use streamctl_proto::function_code::CodeDigest;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::{JobName, ResolvedJob, v1};
use tokio::sync::Mutex;
use tonic::Status;

/// Jobs whose process is kept: the last that published.
const KEPT_MAX: usize = 4;

/// The name of a job, and the digests of its file and its code.
type VersionKey = (JobName, String, Option<CodeDigest>);
/// The processes of job versions; the last used first.
type Kept = Vec<(VersionKey, Arc<process::FunctionPool>)>;

/// Processes of the last jobs that published.
#[derive(Default)]
pub(super) struct Pools(Mutex<Kept>);

impl Pools {
    async fn get(
        &self,
        functions: &Functions,
        storages: &Storages,
        job: &ResolvedJob,
    ) -> Result<Arc<process::FunctionPool>, FunctionsError> {
        let key = (
            job.spec.name.clone(),
            job.spec_digest.clone(),
            job.function_code.clone(),
        );
        let mut guard = self.0.lock().await;
        let kept: &mut Kept = &mut guard;
        let found = kept.iter().position(|(other, _)| *other == key);
        let entry = match found {
            Some(index) => kept.remove(index),
            None => {
                let pool = functions.pool_of(storages, job).await?;
                (key, pool.ok_or(FunctionsError::NoCode)?)
            }
        };
        let pool = Arc::clone(&entry.1);
        kept.insert(0, entry);
        let surplus = kept.split_off(KEPT_MAX.min(kept.len()));
        drop(guard);
        for (_, pool) in surplus {
            pool.close().await;
        }
        Ok(pool)
    }
}

/// Calls the function of the job.
///
/// # Errors
/// It failed, or this worker runs no functions.
pub async fn published_action(
    functions: &Functions,
    storages: &Storages,
    request: v1::PublishedEpoch,
) -> Result<(), Status> {
    let invalid = |error: String| Status::from(CallRefusal::new(Reason::InvalidArgument, error));
    let job: ResolvedJob =
        serde_json::from_str(&request.job_json).map_err(|error| invalid(error.to_string()))?;
    let name = job.spec.function.as_ref();
    let name = name
        .and_then(|function| function.on_published.clone())
        .ok_or_else(|| invalid("the job has no on_published".to_owned()))?;
    let object = |object: v1::PublishedObject| PublishedObject {
        location: object.location,
        rows: object.rows,
        bytes: object.bytes,
    };
    let published = Published {
        batch_id: request.batch_id,
        epoch: request.epoch,
        objects: request.objects.into_iter().map(object).collect(),
        name,
    };
    let called = call(functions, storages, &job, published).await;
    called.map_err(|error| {
        let text = error.report();
        match error {
            FunctionsError::NotAllowed => {
                Status::from(CallRefusal::new(Reason::WorkerUnavailable, text))
            }
            _ => Status::from(CallRefusal::new(Reason::JobBusy, text)),
        }
    })
}

async fn call(
    functions: &Functions,
    storages: &Storages,
    job: &ResolvedJob,
    published: Published,
) -> Result<(), FunctionsError> {
    let Some(allowed) = &functions.allowed else {
        return Err(FunctionsError::NotAllowed);
    };
    let pool = allowed.published.get(functions, storages, job).await?;
    let mut process = pool.acquire().await?;
    let lines = process.published(published).await?;
    log_lines(&job.spec.name, &lines, 0);
    Ok(())
}
