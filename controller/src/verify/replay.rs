//! Reads an epoch again on a worker, over Flight.
//!
//! Owns: which worker gets the request, and the time limit. Does not own: reading and comparing
//! (the worker).
//! Rule: any worker can do it; a worker that does not answer is skipped.

use crate::admission::Admission;
use crate::leading::Leader;
use arrow_flight::Action;
use arrow_flight::flight_service_client::FlightServiceClient;
use async_trait::async_trait;
use futures::StreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use streamctl_core::Core;
use streamctl_engine::security::Dialer;
use streamctl_engine::security::dial::flight_url;
use streamctl_engine::security::grant::Use;
use streamctl_proto::manifest::EpochRepair;
use streamctl_proto::verify::{
    EpochOutcome, EpochTicket, REBUILD_ACTION, RebuildOrder, RebuildOutcome, VERIFY_ACTION,
};
use streamctl_proto::{JobName, MESSAGE_BYTES_MAX, Manifest, ResolvedJob};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};

/// Time to connect to a worker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a worker may take to read an epoch again and compare it.
pub const REPLAY_TIMEOUT: Duration = Duration::from_secs(3_600);
/// A connection without an answer for this long is broken.
const KEEPALIVE: Duration = Duration::from_secs(10);

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
    pub leader: Leader,
    /// Connects to workers.
    pub dialer: Dialer,
    /// Grants for the workers.
    pub admission: Admission,
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
            .call_workers(&job.spec.name, Use::Verify, VERIFY_ACTION, &ticket)
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
            .call_workers(&job.spec.name, Use::Rebuild, REBUILD_ACTION, &order)
            .await
        {
            Ok(outcome) => outcome,
            Err(CallFailed { reason, .. }) => RebuildOutcome::Failed { reason },
        }
    }
}

struct CallFailed {
    reason: String,
    hint: &'static str,
}

impl FlightReplayer {
    /// Sends the request to one worker after the other, until one answers.
    async fn call_workers<T: DeserializeOwned>(
        &self,
        job: &JobName,
        r#use: Use,
        action: &str,
        what: &(impl Serialize + Sync),
    ) -> Result<T, CallFailed> {
        let failed = |reason: String| CallFailed { reason, hint: "" };
        let body = serde_json::to_vec(what).map_err(|error| failed(error.to_string()))?;
        let addresses = self
            .workers()
            .await
            .map_err(|status| failed(status.message().to_owned()))?;
        let mut failures = vec![];
        let dialer = match self.admission.grant(job, r#use, None) {
            Some(grant) => self.dialer.with_token(grant),
            None => self.dialer.without_token(),
        };
        for address in &addresses {
            match call(&dialer, address, action, body.clone()).await {
                Ok(outcome) => return Ok(outcome),
                Err(status) => failures.push(format!("worker at {address}: {}", status.message())),
            }
        }
        if failures.is_empty() {
            return Err(CallFailed {
                reason: "no worker is connected".to_owned(),
                hint: "start one",
            });
        }
        Err(failed(failures.join("; ")))
    }

    async fn workers(&self) -> Result<Vec<String>, Status> {
        let connected = |core: &Core| {
            let workers = core.workers.values().filter(|worker| worker.connected);
            workers
                .map(|worker| worker.flight_address.clone())
                .collect()
        };
        Ok(self.leader.handle()?.query(connected).await?)
    }
}

async fn call<T: DeserializeOwned>(
    dialer: &Dialer,
    address: &str,
    action: &str,
    body: Vec<u8>,
) -> Result<T, Status> {
    let tune = |endpoint: Endpoint| {
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REPLAY_TIMEOUT);
        endpoint
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
    };
    let connection = dialer.connect(&flight_url(address), tune).await?;
    let action = Action {
        r#type: action.to_owned(),
        body: body.into(),
    };
    let mut client =
        FlightServiceClient::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX);
    client = client.max_encoding_message_size(MESSAGE_BYTES_MAX);
    let response = client.do_action(Request::new(action)).await?;
    let Some(result) = response.into_inner().next().await else {
        return Err(Status::new(Code::Internal, "it answered nothing"));
    };
    serde_json::from_slice(&result?.body).map_err(|error| Status::internal(error.to_string()))
}
