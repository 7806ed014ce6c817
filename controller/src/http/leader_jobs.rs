//! Sends requests to the Jobs service of the leader, wherever it runs.
//!
//! Does not own: the requests, the connection ([`crate::leader_connection`]).
//! Rule: only the address in the store is used, and only once: a controller that has just lost
//! leadership refuses the request. The request carries the caller's token, so that the leader
//! authorizes it itself.

use crate::leader_connection::{LeaderConnection, of_leader};
use crate::service::jobs::JobsService;
use std::time::Duration;
use streamctl_engine::security::gate::CallerToken;
use streamctl_engine::security::{ClientConnection, Dialer};
use streamctl_proto::refusal::CallRefusal;
use streamctl_proto::v1::jobs_client::JobsClient;
use streamctl_proto::v1::jobs_server::Jobs;
use streamctl_proto::{MESSAGE_BYTES_MAX, v1};
use tonic::{Request, Response, Status};

const FORWARD_TIMEOUT: Duration = Duration::from_secs(10);

type CallResult<T> = Result<Response<T>, Status>;

#[derive(Clone)]
pub struct LeaderJobs {
    here: JobsService,
    connection: LeaderConnection,
}

impl LeaderJobs {
    /// `here` answers while this process leads.
    pub fn new(here: JobsService, dialer: Dialer, tls: bool) -> Self {
        Self {
            here,
            connection: LeaderConnection::new(dialer, tls, Some(FORWARD_TIMEOUT)),
        }
    }

    /// All jobs, without shards and tasks.
    pub async fn jobs(&self, by: &CallerToken) -> Result<Vec<v1::JobStatus>, Status> {
        let mut all = vec![];
        let mut request = v1::ListJobsRequest::default();
        loop {
            let here = self.here.list_jobs(Request::new(request.clone())).await;
            let asked = request.clone();
            let there =
                async move |mut there: JobsClient<ClientConnection>| there.list_jobs(asked).await;
            let page = self.or_there(by, here, there).await?;
            all.extend(page.jobs);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
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

    /// Rows and time per operator of a job's query.
    pub async fn profile(&self, by: &CallerToken, job: String) -> Result<v1::JobProfile, Status> {
        let request = v1::GetJobProfileRequest { job };
        let here = self
            .here
            .get_job_profile(Request::new(request.clone()))
            .await;
        self.or_there(by, here, async move |mut there| {
            there.get_job_profile(request).await
        })
        .await
    }

    pub async fn job_history(
        &self,
        by: &CallerToken,
        request: v1::GetJobHistoryRequest,
    ) -> Result<v1::JobHistory, Status> {
        let here = self
            .here
            .get_job_history(Request::new(request.clone()))
            .await;
        self.or_there(by, here, async move |mut there| {
            there.get_job_history(request).await
        })
        .await
    }

    /// A worker with its tasks and its load over time.
    pub async fn worker(
        &self,
        by: &CallerToken,
        request: v1::GetWorkerRequest,
    ) -> Result<v1::WorkerDetails, Status> {
        let here = self.here.get_worker(Request::new(request.clone())).await;
        self.or_there(by, here, async move |mut there| {
            there.get_worker(request).await
        })
        .await
    }

    /// A version of a job with its job file; none: the last.
    pub async fn job_spec(
        &self,
        by: &CallerToken,
        request: v1::GetJobSpecRequest,
    ) -> Result<v1::GetJobSpecResponse, Status> {
        let here = self.here.get_job_spec(Request::new(request.clone())).await;
        self.or_there(by, here, async move |mut there| {
            there.get_job_spec(request).await
        })
        .await
    }

    pub async fn job_versions(
        &self,
        by: &CallerToken,
        request: v1::ListJobVersionsRequest,
    ) -> Result<v1::ListJobVersionsResponse, Status> {
        let here = self
            .here
            .list_job_versions(Request::new(request.clone()))
            .await;
        self.or_there(by, here, async move |mut there| {
            there.list_job_versions(request).await
        })
        .await
    }

    pub async fn compared_versions(
        &self,
        by: &CallerToken,
        request: v1::CompareJobVersionsRequest,
    ) -> Result<v1::CompareJobVersionsResponse, Status> {
        let here = self
            .here
            .compare_job_versions(Request::new(request.clone()))
            .await;
        self.or_there(by, here, async move |mut there| {
            there.compare_job_versions(request).await
        })
        .await
    }

    pub async fn workers(&self, by: &CallerToken) -> Result<Vec<v1::WorkerStatus>, Status> {
        let mut all = vec![];
        let mut request = v1::ListWorkersRequest::default();
        loop {
            let here = self.here.list_workers(Request::new(request.clone())).await;
            let asked = request.clone();
            let there = async move |mut there: JobsClient<ClientConnection>| {
                there.list_workers(asked).await
            };
            let page = self.or_there(by, here, there).await?;
            all.extend(page.workers);
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// One page of the journal.
    pub async fn events(
        &self,
        by: &CallerToken,
        request: v1::ListEventsRequest,
    ) -> Result<v1::ListEventsResponse, Status> {
        let here = self.here.list_events(Request::new(request.clone())).await;
        self.or_there(by, here, async move |mut there| {
            there.list_events(request).await
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
        let Some(leader) = CallRefusal::leader_named(&status) else {
            return Err(status);
        };
        let connection = self.connection.to(&leader)?.on_behalf_of(by);
        let client = JobsClient::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let answer = there(client).await.map(Response::into_inner);
        answer.map_err(|status| of_leader(&leader, status))
    }
}
