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
use streamctl_engine::security::gate::CallerToken;
use streamctl_engine::security::{ClientConnection, Dialer};
use streamctl_proto::v1::jobs_client::JobsClient;
use streamctl_proto::v1::jobs_server::Jobs;
use streamctl_proto::{MESSAGE_BYTES_MAX, v1};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Response, Status};

/// Time limit of a connection to the leader.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
const FORWARD_TIMEOUT: Duration = Duration::from_secs(10);

type CallResult<T> = Result<Response<T>, Status>;

#[derive(Clone)]
pub struct LeaderJobs {
    here: JobsService,
    dialer: Dialer,
    tls: bool,
    connection: Arc<Mutex<Option<(String, ClientConnection)>>>,
}

impl LeaderJobs {
    /// `here` answers while this process leads.
    pub fn new(here: JobsService, dialer: Dialer, tls: bool) -> Self {
        Self {
            here,
            dialer,
            tls,
            connection: Arc::default(),
        }
    }

    /// All jobs, without shards and tasks.
    pub async fn jobs(&self, by: &CallerToken) -> Result<v1::ListJobsResponse, Status> {
        let request = v1::ListJobsRequest {};
        let here = self.here.list_jobs(Request::new(request)).await;
        self.or_there(by, here, async move |mut there| {
            there.list_jobs(request).await
        })
        .await
    }

    pub async fn job(&self, by: &CallerToken, job: String) -> Result<v1::JobStatus, Status> {
        let request = v1::GetJobRequest { job, brief: false };
        let here = self.here.get_job(Request::new(request.clone())).await;
        self.or_there(by, here, async move |mut there| {
            there.get_job(request).await
        })
        .await
    }

    pub async fn epochs(
        &self,
        by: &CallerToken,
        request: v1::ListEpochsRequest,
    ) -> Result<v1::ListEpochsResponse, Status> {
        let here = self.here.list_epochs(Request::new(request.clone())).await;
        self.or_there(by, here, async move |mut there| {
            there.list_epochs(request).await
        })
        .await
    }

    pub async fn workers(&self, by: &CallerToken) -> Result<v1::ListWorkersResponse, Status> {
        let request = v1::ListWorkersRequest {};
        let here = self.here.list_workers(Request::new(request)).await;
        self.or_there(by, here, async move |mut there| {
            there.list_workers(request).await
        })
        .await
    }

    /// The desired number of workers, and why.
    pub async fn scaling(
        &self,
        by: &CallerToken,
        request: v1::GetScalingRequest,
    ) -> Result<v1::ScalingStatus, Status> {
        let here = self.here.get_scaling(Request::new(request.clone())).await;
        self.or_there(by, here, async move |mut there| {
            there.get_scaling(request).await
        })
        .await
    }

    async fn or_there<T>(
        &self,
        by: &CallerToken,
        here: CallResult<T>,
        there: impl AsyncFnOnce(JobsClient<ClientConnection>) -> CallResult<T>,
    ) -> Result<T, Status> {
        let status = match here {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) => status,
        };
        let Some(leader) = leader_of(&status) else {
            return Err(status);
        };
        let connection = self.connection(&leader)?.on_behalf_of(by);
        let client = JobsClient::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX);
        there(client).await.map(Response::into_inner)
    }

    fn connection(&self, address: &str) -> Result<ClientConnection, Status> {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connection)) = connection.as_ref().filter(|(known, _)| known == address) {
            return Ok(connection.clone());
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
        let dialled = self.dialer.connection(&url, tune).map_err(bad)?;
        *connection = Some((address.to_owned(), dialled.clone()));
        Ok(dialled)
    }
}

/// The address in a standby's refusal.
fn leader_of(status: &Status) -> Option<String> {
    let named = status.metadata().get(LEADER_METADATA)?.to_str().ok()?;
    (status.code() == Code::FailedPrecondition).then(|| named.to_owned())
}
