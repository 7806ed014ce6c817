//! A controller with only its `Jobs` service, and how the client finds the leader.

use super::*;
use futures::stream::{self, BoxStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use streamctl_proto::refusal::LEADER_METADATA;
use streamctl_proto::v1::jobs_server::{Jobs, JobsServer};
use streamctl_proto::v1::*;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Request;

/// Answers for one job named `sales`, or refuses and names a leader.
#[derive(Clone, Default)]
pub struct FakeJobs {
    pub leader: Option<String>,
    pub requests: Arc<AtomicUsize>,
    pub events: Vec<VerifyEvent>,
    /// The list of jobs has two pages.
    pub two_pages: bool,
    /// The first watch ends before the job does.
    pub breaks_off: bool,
    pub diff: Option<Result<DiffResponse, Status>>,
    /// What a call waits for that is never answered.
    pub waits: Option<Wait>,
}

impl FakeJobs {
    fn lead<T>(&self, response: Result<T, Status>) -> Result<Response<T>, Status> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        match &self.leader {
            None => response.map(Response::new),
            Some(leader) => {
                let mut status = Status::failed_precondition("this controller does not lead");
                status
                    .metadata_mut()
                    .insert(LEADER_METADATA, leader.parse().unwrap());
                Err(status)
            }
        }
    }
    fn job(name: &str) -> Result<JobStatus, Status> {
        match name {
            "sales" => Ok(crate::views::tests::status()),
            name => Err(Status::not_found(format!("there is no job {name:?}"))),
        }
    }
}

#[tonic::async_trait]
impl Jobs for FakeJobs {
    type WatchJobStream = BoxStream<'static, Result<JobStatus, Status>>;
    type VerifyStream = BoxStream<'static, Result<VerifyEvent, Status>>;
    type RepairJobStream = BoxStream<'static, Result<RepairEvent, Status>>;

    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitResponse>, Status> {
        if self.waits.is_some() {
            std::future::pending::<()>().await;
        }
        let outcome = match request.into_inner().dry_run {
            true => SubmitOutcome::Checked,
            false => SubmitOutcome::Created,
        };
        let column = Column {
            name: "uuid".into(),
            r#type: "string".into(),
        };
        let output_columns = vec![column];
        self.lead(Ok(SubmitResponse {
            job: "sales".into(),
            outcome: outcome.into(),
            output_columns,
            ..Default::default()
        }))
    }
    async fn diff(&self, _: Request<DiffRequest>) -> Result<Response<DiffResponse>, Status> {
        self.lead(
            self.diff
                .clone()
                .unwrap_or_else(|| Ok(DiffResponse::default())),
        )
    }
    async fn explain(
        &self,
        _: Request<ExplainRequest>,
    ) -> Result<Response<ExplainResponse>, Status> {
        self.lead(Ok(ExplainResponse::default()))
    }
    async fn preview(
        &self,
        _: Request<PreviewRequest>,
    ) -> Result<Response<PreviewResponse>, Status> {
        self.lead(Ok(PreviewResponse::default()))
    }
    async fn list_waits(
        &self,
        _: Request<ListWaitsRequest>,
    ) -> Result<Response<ListWaitsResponse>, Status> {
        let waits = self.waits.iter().cloned().collect();
        self.lead(Ok(ListWaitsResponse { waits }))
    }
    async fn get_job(
        &self,
        request: Request<GetJobRequest>,
    ) -> Result<Response<JobStatus>, Status> {
        self.lead(Self::job(&request.into_inner().job))
    }
    async fn get_job_spec(
        &self,
        request: Request<GetJobSpecRequest>,
    ) -> Result<Response<GetJobSpecResponse>, Status> {
        let request = request.into_inner();
        let spec_toml = format!("name = \"{}\"\n", request.job);
        self.lead(Ok(GetJobSpecResponse {
            job: request.job,
            job_version: request.version.unwrap_or(3),
            last_version: 4,
            spec_toml,
            ..Default::default()
        }))
    }
    async fn list_job_versions(
        &self,
        request: Request<ListJobVersionsRequest>,
    ) -> Result<Response<ListJobVersionsResponse>, Status> {
        let known = Self::job(&request.into_inner().job);
        self.lead(known.map(|_| crate::verbs::get::tests::versions()))
    }
    async fn compare_job_versions(
        &self,
        request: Request<CompareJobVersionsRequest>,
    ) -> Result<Response<CompareJobVersionsResponse>, Status> {
        let request = request.into_inner();
        self.lead(Ok(crate::verbs::get::tests::compared(
            request.from,
            request.to.unwrap_or(4),
        )))
    }
    async fn get_job_profile(
        &self,
        request: Request<GetJobProfileRequest>,
    ) -> Result<Response<JobProfile>, Status> {
        let known = Self::job(&request.into_inner().job);
        self.lead(known.map(|_| crate::verbs::explain::analyze::tests::profile()))
    }
    async fn get_job_history(
        &self,
        _: Request<GetJobHistoryRequest>,
    ) -> Result<Response<JobHistory>, Status> {
        self.lead(Ok(JobHistory::default()))
    }
    async fn get_worker(
        &self,
        _: Request<GetWorkerRequest>,
    ) -> Result<Response<WorkerDetails>, Status> {
        self.lead(Ok(WorkerDetails::default()))
    }
    async fn watch_job(
        &self,
        request: Request<GetJobRequest>,
    ) -> Result<Response<Self::WatchJobStream>, Status> {
        let last = JobStatus {
            state: JobState::Completed.into(),
            ..crate::views::tests::status()
        };
        let first = Self::job(&request.into_inner().job);
        let gone = self.breaks_off && self.requests.load(Ordering::SeqCst) == 0;
        let second = if gone {
            Err(Status::unavailable("shutting down"))
        } else {
            Ok(last)
        };
        self.lead(
            first.map(|first| -> Self::WatchJobStream {
                Box::pin(stream::iter([Ok(first), second]))
            }),
        )
    }
    async fn list_jobs(
        &self,
        request: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsResponse>, Status> {
        let first = request.into_inner().page_token.is_empty();
        let next_page_token = match self.two_pages && first {
            true => "sales".to_owned(),
            false => String::new(),
        };
        self.lead(Ok(ListJobsResponse {
            jobs: vec![crate::views::tests::status()],
            next_page_token,
        }))
    }
    async fn stop_job(
        &self,
        request: Request<StopJobRequest>,
    ) -> Result<Response<JobStatus>, Status> {
        self.lead(Self::job(&request.into_inner().job))
    }
    async fn delete_job(
        &self,
        request: Request<DeleteJobRequest>,
    ) -> Result<Response<DeleteJobResponse>, Status> {
        let job = Self::job(&request.into_inner().job);
        self.lead(job.map(|job| DeleteJobResponse {
            job: job.job,
            epoch: job.epoch,
            sink: job.sink,
            dead_letters: "s3://b/dead/".into(),
            checkpoint: "s3://b/checkpoint/".into(),
            ..Default::default()
        }))
    }
    async fn repair_job(
        &self,
        request: Request<RepairJobRequest>,
    ) -> Result<Response<Self::RepairJobStream>, Status> {
        let job = Self::job(&request.into_inner().job);
        self.lead(job.map(|job| -> Self::RepairJobStream {
            let kind = repair_summary::Kind::HeadMoved.into();
            let summary = RepairSummary {
                job: job.job,
                kind,
                from_epoch: 6,
                epoch: 14,
                ..Default::default()
            };
            let doing = RepairProgress {
                doing: "reading".into(),
            };
            let events = [
                repair_event::Event::Progress(doing),
                repair_event::Event::Summary(summary),
            ];
            Box::pin(stream::iter(
                events.map(|event| Ok(RepairEvent { event: Some(event) })),
            ))
        }))
    }
    async fn list_epochs(
        &self,
        request: Request<ListEpochsRequest>,
    ) -> Result<Response<ListEpochsResponse>, Status> {
        let from = request.into_inner().from;
        let epochs = crate::views::tests::status()
            .last_epoch
            .into_iter()
            .filter(|epoch| epoch.epoch >= from);
        self.lead(Ok(ListEpochsResponse {
            epochs: epochs.collect(),
        }))
    }
    async fn get_epoch(
        &self,
        _: Request<GetEpochRequest>,
    ) -> Result<Response<GetEpochResponse>, Status> {
        self.lead(Ok(GetEpochResponse::default()))
    }
    async fn replay_dead_letters(
        &self,
        _: Request<ReplayDeadLettersRequest>,
    ) -> Result<Response<ReplayDeadLettersResponse>, Status> {
        self.lead(Ok(ReplayDeadLettersResponse::default()))
    }
    async fn list_workers(
        &self,
        _: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        let worker = WorkerStatus {
            worker: "w-1".into(),
            flight_address: "h:1".into(),
            tasks: 2,
            ..Default::default()
        };
        self.lead(Ok(ListWorkersResponse {
            workers: vec![worker],
            next_page_token: String::new(),
        }))
    }
    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        let request = request.into_inner();
        let known = match request.job.as_str() {
            "" => Ok(()),
            job => Self::job(job).map(drop),
        };
        self.lead(known.map(|()| crate::verbs::events::tests::page(&request.page_token)))
    }
    async fn get_scaling(
        &self,
        request: Request<GetScalingRequest>,
    ) -> Result<Response<ScalingStatus>, Status> {
        let job = request.into_inner().job;
        let known = if job.is_empty() {
            Ok(())
        } else {
            Self::job(&job).map(|_| ())
        };
        self.lead(known.map(|()| crate::verbs::scaling::tests::status()))
    }
    async fn verify(
        &self,
        request: Request<VerifyRequest>,
    ) -> Result<Response<Self::VerifyStream>, Status> {
        let events = self.events.clone();
        let response = Self::job(&request.into_inner().job);
        self.lead(
            response.map(|_| -> Self::VerifyStream {
                Box::pin(stream::iter(events.into_iter().map(Ok)))
            }),
        )
    }
}

/// Serves it on a free port; returns the address.
pub async fn serve(jobs: FakeJobs) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder().add_service(JobsServer::new(jobs));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

async fn list(addresses: &str) -> Result<ListJobsResponse, CliError> {
    let call = |channel| async move { jobs(channel).list_jobs(ListJobsRequest::default()).await };
    Controller::new(addresses)?.call(call).await
}

/// An address without a server.
async fn deserted() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn a_standby_names_the_leader_and_the_leader_is_asked() {
    let leader = FakeJobs::default();
    let address = serve(leader.clone()).await;
    let standby = serve(FakeJobs {
        leader: Some(address),
        ..Default::default()
    })
    .await;
    assert_eq!(list(&standby).await.unwrap().jobs.len(), 1);
    assert_eq!(leader.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_list_is_read_to_its_last_page() {
    let jobs = FakeJobs {
        two_pages: true,
        ..Default::default()
    };
    let controller = Controller::new(&serve(jobs.clone()).await).unwrap();
    assert_eq!(controller.all_jobs().await.unwrap().len(), 2);
    assert_eq!(jobs.requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_address_without_an_answer_is_passed_over() {
    let gone = deserted().await;
    let leader = serve(FakeJobs::default()).await;
    assert_eq!(
        list(&format!("{gone}, {leader}")).await.unwrap().jobs.len(),
        1
    );
}

#[tokio::test]
async fn a_refusal_of_the_leader_is_final_even_if_another_controller_is_gone() {
    let refused = Status::failed_precondition("it is running\n  hint: stop it first");
    let leader = serve(FakeJobs {
        diff: Some(Err(refused)),
        ..Default::default()
    })
    .await;
    let call = |channel| async move { jobs(channel).diff(DiffRequest::default()).await };
    let error = Controller::new(&format!("{leader},{}", deserted().await))
        .unwrap()
        .call(call)
        .await
        .unwrap_err();
    assert!(
        error.to_string().starts_with("it is running") && error.exit_code() == 1,
        "{error}"
    );
}

#[tokio::test]
async fn a_job_file_that_breaks_the_connection_is_not_sent_to_another_controller() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let breaking = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut preface = [0; 1_024];
            let _read = tokio::io::AsyncReadExt::read(&mut connection, &mut preface).await;
        }
    });
    let other = FakeJobs::default();
    let controller =
        Controller::new(&format!("{breaking},{}", serve(other.clone()).await)).unwrap();
    let submit = |channel| async move { jobs(channel).submit(SubmitRequest::default()).await };
    let error = controller.call_once(submit).await.unwrap_err();
    assert!(
        error
            .hint()
            .unwrap()
            .contains("was not sent to another one")
            && error.exit_code() == 4,
        "{error}"
    );
    assert_eq!(other.requests.load(Ordering::SeqCst), 0);
    controller
        .call(submit)
        .await
        .expect("other calls go to the next controller");
    assert_eq!(other.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn without_any_answer_the_exit_code_is_4() {
    let error = list(&deserted().await).await.unwrap_err();
    assert_eq!(error.exit_code(), 4, "{error}");
}

#[tokio::test]
async fn two_standbys_that_name_each_other_are_not_followed_for_ever() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let standby = FakeJobs {
        leader: Some(address.clone()),
        ..Default::default()
    };
    let server = tonic::transport::Server::builder().add_service(JobsServer::new(standby.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    assert!(list(&address).await.is_err());
    assert_eq!(standby.requests.load(Ordering::SeqCst), 1 + LEADER_HOPS_MAX);
}

#[test]
fn addresses_may_go_without_their_scheme() {
    assert!(Controller::new("localhost:7070, http://b:7070").is_ok());
    for bad in ["", ",", "ftp://a:1", "a b"] {
        assert_eq!(Controller::new(bad).err().unwrap().exit_code(), 2, "{bad}");
    }
}
