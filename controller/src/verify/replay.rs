//! Reads an epoch again on a worker, over Flight.
//!
//! Owns: the time limit. Does not own: which worker gets the request (`worker_calls`), reading and
//! comparing (the worker).
//! Rule: any worker can do it; a worker that does not answer is skipped.

use crate::worker_calls::{CallFailed, WorkerCalls};
use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use streamctl_engine::security::grant::Use;
use streamctl_proto::manifest::EpochRepair;
use streamctl_proto::verify::{
    EpochOutcome, EpochTicket, REBUILD_ACTION, RebuildOrder, RebuildOutcome, VERIFY_ACTION,
};
use streamctl_proto::{JobName, Manifest, ResolvedJob};

/// How long a worker may take to read an epoch again and compare it.
pub const REPLAY_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Reads an epoch from its source again: to compare it, or to stage its lost objects.
#[async_trait]
pub trait Replayer: Send + Sync {
    /// Compares an epoch; a failure is an outcome too. `repairs` of the epoch were committed.
    async fn replay(
        &self,
        job: &ResolvedJob,
        manifest: &Manifest,
        repairs: &[EpochRepair],
    ) -> EpochOutcome;
    /// Computes the lost objects of an epoch again.
    async fn rebuild(
        &self,
        job: &ResolvedJob,
        manifest: &Manifest,
        order: RebuildOrder,
    ) -> RebuildOutcome;
}

/// Sends requests to the workers that are connected to the leader in this process.
pub struct FlightReplayer {
    pub workers: WorkerCalls,
}

#[async_trait]
impl Replayer for FlightReplayer {
    async fn replay(
        &self,
        job: &ResolvedJob,
        manifest: &Manifest,
        repairs: &[EpochRepair],
    ) -> EpochOutcome {
        let name = job.spec.name.clone();
        let repairs = repairs.to_vec();
        let ticket = EpochTicket {
            job: name,
            epoch: manifest.epoch.0,
            repairs,
        };
        match self
            .call(&job.spec.name, Use::Verify, VERIFY_ACTION, &ticket)
            .await
        {
            Ok(outcome) => outcome,
            Err(CallFailed { reason, hint }) => EpochOutcome::Failed {
                reason,
                hint: hint.to_owned(),
            },
        }
    }

    async fn rebuild(
        &self,
        job: &ResolvedJob,
        _: &Manifest,
        order: RebuildOrder,
    ) -> RebuildOutcome {
        match self
            .call(&job.spec.name, Use::Rebuild, REBUILD_ACTION, &order)
            .await
        {
            Ok(outcome) => outcome,
            Err(CallFailed { reason, .. }) => RebuildOutcome::Failed { reason },
        }
    }
}

impl FlightReplayer {
    /// Sends a request as JSON.
    async fn call<T: DeserializeOwned>(
        &self,
        job: &JobName,
        r#use: Use,
        action: &str,
        what: &(impl Serialize + Sync),
    ) -> Result<T, CallFailed> {
        let body = serde_json::to_vec(what).map_err(|error| CallFailed::of(error.to_string()))?;
        let response = self
            .workers
            .call(job, r#use, action, body, REPLAY_TIMEOUT)
            .await?;
        serde_json::from_slice(&response).map_err(|error| CallFailed::of(error.to_string()))
    }
}
