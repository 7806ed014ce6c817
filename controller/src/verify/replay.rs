//! Who reads an epoch again: a worker, asked over Flight.
//!
//! Owns: which worker is asked, and how long. Does not own: reading and comparing (the worker).
//! Rule: any worker can; one that does not answer is passed over.

use crate::admission::Admission;
use crate::core::Core;
use crate::leading::Leader;
use arrow_flight::Action;
use arrow_flight::flight_service_client::FlightServiceClient;
use async_trait::async_trait;
use futures::StreamExt as _;
use std::time::Duration;
use streamctl_engine::security::Dialer;
use streamctl_engine::security::dial::flight_url;
use streamctl_engine::security::grant::Use;
use streamctl_proto::verify::{EpochOutcome, EpochTicket, VERIFY_ACTION};
use streamctl_proto::{Manifest, ResolvedJob};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};

/// Time to connect to a worker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time in which a worker must have read an epoch again and compared it.
pub const REPLAY_TIMEOUT: Duration = Duration::from_secs(3_600);
/// A line on which nothing answers for so long is broken.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Reads an epoch from its source again and compares.
#[async_trait]
pub trait Replayer: Send + Sync {
    /// What came of it; a failure is an outcome too.
    async fn replay(&self, job: &ResolvedJob, manifest: &Manifest) -> EpochOutcome;
}

/// Asks the workers that are connected to the leader in this process.
pub struct FlightReplayer {
    /// Who leads.
    pub leader: Leader,
    /// With what workers are dialled.
    pub dialer: Dialer,
    /// What they let this controller in by.
    pub admission: Admission,
}

#[async_trait]
impl Replayer for FlightReplayer {
    async fn replay(&self, job: &ResolvedJob, manifest: &Manifest) -> EpochOutcome {
        let ticket = EpochTicket { job: job.spec.name.clone(), epoch: manifest.epoch.0 };
        let failed = |reason: String, hint: &str| EpochOutcome::Failed { reason, hint: hint.to_owned() };
        let body = match serde_json::to_vec(&ticket) {
            Ok(body) => body,
            Err(error) => return failed(error.to_string(), ""),
        };
        let addresses = match self.workers().await {
            Ok(addresses) => addresses,
            Err(status) => return failed(status.message().to_owned(), ""),
        };
        let mut failures = vec![];
        let dialer = match self.admission.grant(&job.spec.name, Use::Verify, None) {
            Some(grant) => self.dialer.with_token(grant),
            None => self.dialer.without_token(),
        };
        for address in &addresses {
            match ask(&dialer, address, body.clone()).await {
                Ok(outcome) => return outcome,
                Err(status) => failures.push(format!("worker at {address}: {}", status.message())),
            }
        }
        if failures.is_empty() {
            return failed("no worker is connected".to_owned(), "start one");
        }
        failed(failures.join("; "), "")
    }
}

impl FlightReplayer {
    async fn workers(&self) -> Result<Vec<String>, Status> {
        let connected = |core: &Core| {
            let workers = core.workers.values().filter(|worker| worker.connected);
            workers.map(|worker| worker.flight_address.clone()).collect()
        };
        Ok(self.leader.handle()?.ask(connected).await?)
    }
}

async fn ask(dialer: &Dialer, address: &str, body: Vec<u8>) -> Result<EpochOutcome, Status> {
    let tune = |endpoint: Endpoint| {
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(REPLAY_TIMEOUT);
        endpoint.http2_keep_alive_interval(KEEPALIVE).keep_alive_timeout(KEEPALIVE)
    };
    let line = dialer.connect(&flight_url(address), tune).await?;
    let action = Action { r#type: VERIFY_ACTION.to_owned(), body: body.into() };
    let answer = FlightServiceClient::new(line).do_action(Request::new(action)).await?;
    let Some(result) = answer.into_inner().next().await else {
        return Err(Status::new(Code::Internal, "it answered nothing"));
    };
    serde_json::from_slice(&result?.body).map_err(|error| Status::internal(error.to_string()))
}
