//! Requests of the leader to the workers that are connected to it, over Flight.
//!
//! Owns: which worker gets the request, grants, the connection. Does not own: what is requested.
//! Rule: any worker can do it; a worker that does not answer is skipped.

use crate::admission::Admission;
use crate::leading::Leader;
use arrow_flight::Action;
use arrow_flight::flight_service_client::FlightServiceClient;
use bytes::Bytes;
use futures::StreamExt as _;
use std::time::Duration;
use streamctl_core::Core;
use streamctl_engine::security::Dialer;
use streamctl_engine::security::dial::{cause_of, flight_url};
use streamctl_engine::security::grant::Use;
use streamctl_proto::{JobName, MESSAGE_BYTES_MAX};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};

/// Time to connect to a worker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection without an answer for this long is broken.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// What to do if a connection breaks during a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AfterBreak {
    TryTheNext,
    Stop,
}

/// Whether the call began and has no answer: a worker's own status has no source.
fn is_break(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// No worker answered.
pub struct CallFailed {
    pub reason: String,
    pub hint: &'static str,
}

impl CallFailed {
    /// Without a hint.
    pub fn of(reason: String) -> Self {
        Self { reason, hint: "" }
    }
}

/// Sends requests to the workers that are connected to the leader in this process.
#[derive(Clone)]
pub struct WorkerCalls {
    pub leader: Leader,
    /// Connects to workers.
    pub dialer: Dialer,
    /// Grants for the workers.
    pub admission: Admission,
}

impl WorkerCalls {
    /// Sends a Flight action to one worker after the other, until one answers; returns the body of
    /// its only result.
    pub async fn call(
        &self,
        job: &JobName,
        r#use: Use,
        action: &str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Bytes, CallFailed> {
        let order = (r#use, action, body);
        self.call_with(job, order, limit, AfterBreak::TryTheNext)
            .await
    }

    /// As [`Self::call`], for work that may end a worker: if the connection breaks during the call,
    /// or the time is over, no other worker gets it.
    pub async fn call_once(
        &self,
        job: &JobName,
        r#use: Use,
        action: &str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Bytes, CallFailed> {
        let order = (r#use, action, body);
        self.call_with(job, order, limit, AfterBreak::Stop).await
    }

    async fn call_with(
        &self,
        job: &JobName,
        (r#use, action, body): (Use, &str, Vec<u8>),
        limit: Duration,
        after_break: AfterBreak,
    ) -> Result<Bytes, CallFailed> {
        let mut addresses = self
            .addresses()
            .await
            .map_err(|status| CallFailed::of(status.message().to_owned()))?;
        if after_break == AfterBreak::Stop {
            // It is real work: not always for the same worker.
            fastrand::shuffle(&mut addresses);
        }
        let mut failures = vec![];
        let dialer = match self.admission.grant(job, r#use, None) {
            Some(grant) => self.dialer.with_token(grant),
            None => self.dialer.without_token(),
        };
        let body = Bytes::from(body);
        for address in &addresses {
            let action = Action {
                r#type: action.to_owned(),
                body: body.clone(),
            };
            match call(&dialer, address, action, limit).await {
                Ok(result) => return Ok(result),
                Err(status) if after_break == AfterBreak::Stop && is_break(&status) => {
                    return Err(CallFailed {
                        reason: format!("worker at {address}: {}", cause_of(status).message()),
                        hint: "the job file may be what the worker failed on, so no other worker got it",
                    });
                }
                Err(status) => failures.push(format!("worker at {address}: {}", status.message())),
            }
        }
        if failures.is_empty() {
            return Err(CallFailed {
                reason: "no worker is connected".to_owned(),
                hint: "start one",
            });
        }
        Err(CallFailed::of(failures.join("; ")))
    }

    async fn addresses(&self) -> Result<Vec<String>, Status> {
        let connected = |core: &Core| {
            let workers = core.workers.values().filter(|worker| worker.connected);
            workers
                .map(|worker| worker.flight_address.clone())
                .collect()
        };
        Ok(self.leader.handle()?.query(connected).await?)
    }
}

async fn call(
    dialer: &Dialer,
    address: &str,
    action: Action,
    limit: Duration,
) -> Result<Bytes, Status> {
    let tune = |endpoint: Endpoint| {
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(limit);
        endpoint
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
    };
    let connection = dialer.connect(&flight_url(address), tune).await?;
    let mut client =
        FlightServiceClient::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX);
    client = client.max_encoding_message_size(MESSAGE_BYTES_MAX);
    let response = client.do_action(Request::new(action)).await?;
    match response.into_inner().next().await {
        Some(result) => Ok(result?.body),
        None => Err(Status::new(Code::Internal, "it answered nothing")),
    }
}
