//! Sends requests to the Jobs service of the leader, wherever it runs.
//!
//! Owns: the connection to a leader in another process. Does not own: the requests.
//! Rule: only the address in the store is used, and only once: a controller that has just lost
//! leadership refuses the request. The request carries the caller's token, so that the leader
//! authorizes it itself.

use crate::leading::LEADER_METADATA;
use crate::service::jobs::JobsService;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use streamctl_engine::security::gate::Asked;
use streamctl_engine::security::{ClientConnection, Dialer};
use streamctl_proto::v1::jobs_client::JobsClient;
use streamctl_proto::v1::jobs_server::Jobs;
use streamctl_proto::{MESSAGE_BYTES_MAX, v1};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Response, Status};

/// Time limit of a connection to the leader.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
const FORWARD_TIMEOUT: Duration = Duration::from_secs(10);

type Answer<T> = Result<Response<T>, Status>;

#[derive(Clone)]
pub struct Ask {
    here: JobsService,
    dialer: Dialer,
    tls: bool,
    line: Arc<Mutex<Option<(String, ClientConnection)>>>,
}

impl Ask {
    /// `here` answers while this process leads.
    pub fn new(here: JobsService, dialer: Dialer, tls: bool) -> Self {
        Self {
            here,
            dialer,
            tls,
            line: Arc::default(),
        }
    }

    /// All jobs, without shards and tasks.
    pub async fn jobs(&self, by: &Asked) -> Result<v1::ListJobsResponse, Status> {
        let asked = v1::ListJobsRequest {};
        let here = self.here.list_jobs(Request::new(asked)).await;
        self.or_there(by, here, async move |mut there| {
            there.list_jobs(asked).await
        })
        .await
    }

    pub async fn job(&self, by: &Asked, job: String) -> Result<v1::JobStatus, Status> {
        let asked = v1::GetJobRequest { job, brief: false };
        let here = self.here.get_job(Request::new(asked.clone())).await;
        self.or_there(by, here, async move |mut there| there.get_job(asked).await)
            .await
    }

    pub async fn epochs(
        &self,
        by: &Asked,
        asked: v1::ListEpochsRequest,
    ) -> Result<v1::ListEpochsResponse, Status> {
        let here = self.here.list_epochs(Request::new(asked.clone())).await;
        self.or_there(by, here, async move |mut there| {
            there.list_epochs(asked).await
        })
        .await
    }

    pub async fn workers(&self, by: &Asked) -> Result<v1::ListWorkersResponse, Status> {
        let asked = v1::ListWorkersRequest {};
        let here = self.here.list_workers(Request::new(asked)).await;
        self.or_there(by, here, async move |mut there| {
            there.list_workers(asked).await
        })
        .await
    }

    /// The desired number of workers, and why.
    pub async fn scaling(
        &self,
        by: &Asked,
        asked: v1::GetScalingRequest,
    ) -> Result<v1::ScalingStatus, Status> {
        let here = self.here.get_scaling(Request::new(asked.clone())).await;
        self.or_there(by, here, async move |mut there| {
            there.get_scaling(asked).await
        })
        .await
    }

    async fn or_there<T>(
        &self,
        by: &Asked,
        here: Answer<T>,
        there: impl AsyncFnOnce(JobsClient<ClientConnection>) -> Answer<T>,
    ) -> Result<T, Status> {
        let status = match here {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) => status,
        };
        let Some(leader) = leader_of(&status) else {
            return Err(status);
        };
        let line = self.line(&leader)?.asking_as(by);
        let client = JobsClient::new(line).max_decoding_message_size(MESSAGE_BYTES_MAX);
        there(client).await.map(Response::into_inner)
    }

    fn line(&self, address: &str) -> Result<ClientConnection, Status> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, line)) = line.as_ref().filter(|(known, _)| known == address) {
            return Ok(line.clone());
        }
        let bad = |error: Status| {
            Status::unavailable(format!("the leader at {address:?}: {}", error.message()))
        };
        let url = format!("{}://{address}", if self.tls { "https" } else { "http" });
        let tune = |endpoint: Endpoint| {
            endpoint
                .connect_timeout(DIAL_TIMEOUT)
                .timeout(FORWARD_TIMEOUT)
        };
        let dialled = self.dialer.line(&url, tune).map_err(bad)?;
        *line = Some((address.to_owned(), dialled.clone()));
        Ok(dialled)
    }
}

/// The address in a standby's refusal.
fn leader_of(status: &Status) -> Option<String> {
    let named = status.metadata().get(LEADER_METADATA)?.to_str().ok()?;
    (status.code() == Code::FailedPrecondition).then(|| named.to_owned())
}
