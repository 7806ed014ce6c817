//! Calls a job's `on_published` after an epoch was published.
//!
//! Owns: the request. Does not own: when (the driver), running the function (a worker).
//! Rule: it is called again until it succeeds, before the epoch counts as published: at least once,
//! and in order. It is that of the job's version at the moment of the call: a repaired one is used
//! for the epoch that waits for it.

use crate::worker_calls::WorkerCalls;
use prost::Message as _;
use std::time::Duration;
use streamctl_core::Core;
use streamctl_engine::security::grant::Use;
use streamctl_proto::function_code::PUBLISHED_ACTION;
use streamctl_proto::manifest::{EpochRepair, objects_after};
use streamctl_proto::report::ObjectKind;
use streamctl_proto::{Manifest, ResolvedJob, v1};

/// Time that a worker may take beyond that of the function: to start it, with its environment.
const START_TIMEOUT: Duration = Duration::from_secs(300);

/// Has a worker call it.
#[derive(Clone)]
pub struct PublishedHook {
    pub workers: WorkerCalls,
}

impl PublishedHook {
    /// Calls the function, if the job has one.
    ///
    /// # Errors
    /// No worker could; with the reason.
    pub async fn call(
        &self,
        job: &ResolvedJob,
        manifest: &Manifest,
        repairs: &[EpochRepair],
    ) -> Result<(), String> {
        let current = self.current(job).await;
        let function = current.spec.function.as_ref();
        let Some(function) = function.filter(|function| function.on_published.is_some()) else {
            return Ok(());
        };
        let objects = objects_after(manifest, repairs).into_iter();
        let objects = objects.filter(|object| object.staged.kind == ObjectKind::Data);
        let request = v1::PublishedEpoch {
            job_json: serde_json::to_string(&current).map_err(|error| error.to_string())?,
            // The number that the epoch's function was given.
            batch_id: manifest.window.start_ms.div_euclid(job.spec.window.ms()),
            epoch: manifest.epoch.0,
            objects: objects
                .map(|object| v1::PublishedObject {
                    location: object.staged.location,
                    rows: object.staged.rows,
                    bytes: object.staged.size,
                })
                .collect(),
        };
        let called = self.workers.call(
            &job.spec.name,
            Use::Function,
            PUBLISHED_ACTION,
            request.encode_to_vec(),
            START_TIMEOUT + function.timeout,
        );
        match called.await {
            Ok(_) => Ok(()),
            Err(failed) => Err(format!("function.on_published: {}", failed.reason)),
        }
    }

    /// The version of the job that makes the next epoch; `job` itself if that is not known.
    async fn current(&self, job: &ResolvedJob) -> ResolvedJob {
        let name = job.spec.name.clone();
        let submitted_ms = job.submitted_ms;
        let resolved = move |core: &Core| {
            let found = core.jobs.get(&name)?;
            (found.resolved.submitted_ms == submitted_ms).then(|| found.resolved.clone())
        };
        let Ok(handle) = self.workers.leader.handle() else {
            return job.clone();
        };
        let found = handle.query(resolved).await;
        found.ok().flatten().unwrap_or_else(|| job.clone())
    }
}
