//! The API of the control plane for users and programs.

pub mod look;

use super::in_flight::{CHECK_TIMEOUT, CallsInFlight, name_of};
use super::page::page;
use super::submit::Submitter;
use super::{RepairEvents, missing, no_epoch, not_found, recorded};
use crate::checkpoints::CheckpointError;
use crate::compactor::CompactionBoard;
use crate::history::{History, Kept};
use crate::leading::Leader;
use crate::verify::Verifier;
use futures::Stream;
use look::{Looks, PREVIEW_TIMEOUT, RESOLVE_TIMEOUT};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::time::Duration;
use streamctl_core::status::summary_of;
use streamctl_core::{Core, Event, JobEvent};
use streamctl_engine::security::{Caller, Peer, Role};
use streamctl_proto::convert;
use streamctl_proto::manifest::ManifestRef;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::{Epoch, JobName, Manifest, ResolvedJob, Window, v1};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Epochs listed if the request does not set a limit.
const EPOCHS_DEFAULT: u32 = 20;
/// Most epochs listed at once.
const EPOCHS_MAX: u32 = 1_000;
/// Shortest time between two messages of a watch.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// Serves `streamctl.v1.Jobs`.
#[derive(Clone)]
pub struct JobsService {
    pub leader: Leader,
    /// Checks and stores new jobs.
    pub submitter: Submitter,
    pub history: History,
    /// Verifies the manifests.
    pub verifier: Verifier,
    /// Explains and previews job files.
    pub looks: Looks,
    /// Calls that check job files.
    pub in_flight: CallsInFlight,
    /// What became of small files.
    pub compactions: CompactionBoard,
}

type Statuses = Pin<Box<dyn Stream<Item = Result<v1::JobStatus, Status>> + Send>>;

#[tonic::async_trait]
impl v1::jobs_server::Jobs for JobsService {
    type WatchJobStream = Statuses;
    type VerifyStream = ReceiverStream<Result<v1::VerifyEvent, Status>>;
    type RepairJobStream = RepairEvents;

    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let handle = self.leader.handle()?;
        let sender = Sender::of(&request);
        let call = name_of(&request);
        let request = request.into_inner();
        sender.check(&request.spec_toml, &request.base_dir)?;
        let submitter = self.submitter.for_caller(&sender.caller);
        let work = submitter.submit(&handle, &request);
        let done = self.in_flight.watch(call, CHECK_TIMEOUT, work).await;
        done.map(Response::new)
    }

    async fn diff(
        &self,
        request: Request<v1::DiffRequest>,
    ) -> Result<Response<v1::DiffResponse>, Status> {
        let handle = self.leader.handle()?;
        let sender = Sender::of(&request);
        let call = name_of(&request);
        let request = request.into_inner();
        sender.check(&request.spec_toml, &request.base_dir)?;
        let submitter = self.submitter.for_caller(&sender.caller);
        let work = submitter.diff(&handle, &request);
        let done = self.in_flight.watch(call, CHECK_TIMEOUT, work).await;
        done.map(Response::new)
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        // Only the leader knows the workers that call functions.
        self.leader.handle()?;
        let _turn = self.looks.turn(request.extensions())?;
        let sender = Sender::of(&request);
        let call = name_of(&request);
        let request = request.into_inner();
        sender.check(&request.spec_toml, &request.base_dir)?;
        let work = self.explained(&sender.caller, request);
        let done = self.in_flight.watch(call, RESOLVE_TIMEOUT, work).await;
        done.map(Response::new)
    }

    async fn preview(
        &self,
        request: Request<v1::PreviewRequest>,
    ) -> Result<Response<v1::PreviewResponse>, Status> {
        self.leader.handle()?;
        let _turn = self.looks.turn(request.extensions())?;
        let sender = Sender::of(&request);
        let call = name_of(&request);
        let request = request.into_inner();
        sender.check(&request.spec_toml, &request.base_dir)?;
        let work = self.previewed(&sender.caller, request);
        let done = self.in_flight.watch(call, PREVIEW_TIMEOUT, work).await;
        done.map(Response::new)
    }

    async fn list_waits(
        &self,
        request: Request<v1::ListWaitsRequest>,
    ) -> Result<Response<v1::ListWaitsResponse>, Status> {
        let now_ms = (self.submitter.clock)();
        let waits = self.in_flight.waits(&request.into_inner().call, now_ms);
        Ok(Response::new(v1::ListWaitsResponse { waits }))
    }

    async fn get_job(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::JobStatus>, Status> {
        let request = request.into_inner();
        self.status(name(&request.job)?, request.brief)
            .await
            .map(Response::new)
    }

    async fn get_job_spec(
        &self,
        request: Request<v1::GetJobSpecRequest>,
    ) -> Result<Response<v1::GetJobSpecResponse>, Status> {
        let request = request.into_inner();
        self.job_spec(&name(&request.job)?, request.version)
            .await
            .map(Response::new)
    }

    async fn list_job_versions(
        &self,
        request: Request<v1::ListJobVersionsRequest>,
    ) -> Result<Response<v1::ListJobVersionsResponse>, Status> {
        self.job_versions(&request.into_inner())
            .await
            .map(Response::new)
    }

    async fn compare_job_versions(
        &self,
        request: Request<v1::CompareJobVersionsRequest>,
    ) -> Result<Response<v1::CompareJobVersionsResponse>, Status> {
        // Both versions are planned.
        let _turn = self.looks.turn(request.extensions())?;
        self.compared_versions(&request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_job_profile(
        &self,
        request: Request<v1::GetJobProfileRequest>,
    ) -> Result<Response<v1::JobProfile>, Status> {
        let job = name(&request.into_inner().job)?;
        let handle = self.leader.handle()?;
        let found = handle.query(move |core| {
            let profile = core.profile(&job);
            profile.ok_or_else(|| not_found(&job, core.job_names()))
        });
        found.await?.map(Response::new)
    }

    async fn watch_job(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<Statuses>, Status> {
        let request = request.into_inner();
        let job = name(&request.job)?;
        let first = self.status(job.clone(), request.brief).await?;
        let handle = self.leader.handle()?;
        let service = self.clone();
        let brief = request.brief;
        let rest = futures::stream::unfold(
            (service, handle, job),
            move |(service, mut handle, job)| async move {
                tokio::time::sleep(WATCH_INTERVAL).await;
                if let Err(over) = handle.changed().await {
                    return Some((Err(Status::from(over)), (service, handle, job)));
                }
                let status = service.status(job.clone(), brief).await;
                Some((status, (service, handle, job)))
            },
        );
        let both = futures::StreamExt::chain(futures::stream::once(async { Ok(first) }), rest);
        Ok(Response::new(Box::pin(until_error(both))))
    }

    async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let request = request.into_inner();
        let all = self.leader.handle()?.statuses().await?;
        let size = request.page_size;
        let (jobs, next_page_token) = page(all, |one| &one.job, size, &request.page_token);
        Ok(Response::new(v1::ListJobsResponse {
            jobs,
            next_page_token,
        }))
    }

    async fn stop_job(
        &self,
        request: Request<v1::StopJobRequest>,
    ) -> Result<Response<v1::JobStatus>, Status> {
        let request = request.into_inner();
        let job = name(&request.job)?;
        self.status(job.clone(), true).await?;
        let handle = self.leader.handle()?;
        handle
            .send(Event::Job {
                job: job.clone(),
                event: JobEvent::StopRequested {
                    drain: request.drain,
                },
            })
            .await?;
        recorded(&handle, &job).await?;
        self.status(job, true).await.map(Response::new)
    }

    async fn delete_job(
        &self,
        request: Request<v1::DeleteJobRequest>,
    ) -> Result<Response<v1::DeleteJobResponse>, Status> {
        let request = request.into_inner();
        self.delete(name(&request.job)?, request.force, request.purge)
            .await
            .map(Response::new)
    }

    async fn repair_job(
        &self,
        request: Request<v1::RepairJobRequest>,
    ) -> Result<Response<Self::RepairJobStream>, Status> {
        let caller = request
            .extensions()
            .get::<Caller>()
            .cloned()
            .unwrap_or(Caller::ANYBODY);
        let by = caller.name.unwrap_or_default();
        self.repair(request.into_inner(), by)
            .await
            .map(Response::new)
    }

    async fn list_epochs(
        &self,
        request: Request<v1::ListEpochsRequest>,
    ) -> Result<Response<v1::ListEpochsResponse>, Status> {
        let request = request.into_inner();
        let limit = if request.limit == 0 {
            EPOCHS_DEFAULT
        } else {
            request.limit.min(EPOCHS_MAX)
        };
        let job = name(&request.job)?;
        check_range(request.from, request.to)?;
        check_times(request.since_ms, request.until_ms)?;
        let epochs = self.epochs(job, &request, u64::from(limit)).await?;
        Ok(Response::new(v1::ListEpochsResponse { epochs }))
    }

    async fn get_epoch(
        &self,
        request: Request<v1::GetEpochRequest>,
    ) -> Result<Response<v1::GetEpochResponse>, Status> {
        let request = request.into_inner();
        let job = name(&request.job)?;
        let (resolved, kept, _) = self.kept(&job).await?;
        let missing = || {
            let first = kept.as_ref().map_or(Epoch(1), |kept| kept.first);
            let last = kept.as_ref().map_or(Epoch(0), |kept| kept.head.epoch);
            no_epoch(&job, request.epoch, first, last)
        };
        let kept = kept
            .as_ref()
            .filter(|kept| (kept.first.0..=kept.head.epoch.0).contains(&request.epoch))
            .ok_or_else(missing)?;
        let read = self
            .history
            .walk(
                &resolved,
                kept,
                request.epoch..=request.epoch,
                |_, manifest| manifest,
            )
            .await;
        let manifest = read.map_err(unreadable)?.pop().ok_or_else(missing)?;
        let made_by = self
            .history
            .version(&resolved, manifest.job_version())
            .await;
        let made_by = made_by.map_err(|error| {
            Status::from(CallRefusal::new(
                Reason::CheckpointUnavailable,
                streamctl_proto::describe(&error),
            ))
        })?;
        Ok(Response::new(v1::GetEpochResponse {
            manifest_json: json(&manifest)?,
            job_json: json(&*made_by)?,
        }))
    }

    async fn replay_dead_letters(
        &self,
        request: Request<v1::ReplayDeadLettersRequest>,
    ) -> Result<Response<v1::ReplayDeadLettersResponse>, Status> {
        self.replay(request.into_inner()).await.map(Response::new)
    }

    async fn list_workers(
        &self,
        request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let request = request.into_inner();
        let all = self.leader.handle()?.query(Core::worker_status).await?;
        let size = request.page_size;
        let (workers, next_page_token) = page(all, |one| &one.worker, size, &request.page_token);
        Ok(Response::new(v1::ListWorkersResponse {
            workers,
            next_page_token,
        }))
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        self.events(request.into_inner()).await.map(Response::new)
    }

    async fn get_job_history(
        &self,
        request: Request<v1::GetJobHistoryRequest>,
    ) -> Result<Response<v1::JobHistory>, Status> {
        self.job_history(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_worker(
        &self,
        request: Request<v1::GetWorkerRequest>,
    ) -> Result<Response<v1::WorkerDetails>, Status> {
        self.worker(request.into_inner()).await.map(Response::new)
    }

    async fn get_scaling(
        &self,
        request: Request<v1::GetScalingRequest>,
    ) -> Result<Response<v1::ScalingStatus>, Status> {
        let v1::GetScalingRequest { job, limit } = request.into_inner();
        let job = if job.is_empty() {
            None
        } else {
            Some(name(&job)?)
        };
        let handle = self.leader.handle()?;
        let found = handle.query(move |core| {
            let status = core.scaling_status(job.as_ref(), limit);
            status.ok_or_else(|| match job {
                Some(job) => not_found(&job, core.job_names()),
                None => Status::from(CallRefusal::new(Reason::Internal, "there is no status")),
            })
        });
        found.await?.map(Response::new)
    }

    async fn verify(
        &self,
        request: Request<v1::VerifyRequest>,
    ) -> Result<Response<Self::VerifyStream>, Status> {
        // Only the leader knows the workers.
        self.leader.handle()?;
        let events = self.verifier.verify(&request.into_inner()).await?;
        Ok(Response::new(ReceiverStream::new(events)))
    }
}

impl JobsService {
    async fn status(&self, job: JobName, brief: bool) -> Result<v1::JobStatus, Status> {
        let handle = self.leader.handle()?;
        match handle.status(job.clone(), brief).await? {
            Some(status) => Ok(v1::JobStatus {
                compaction: self.compactions.of(&job),
                ..status
            }),
            None => Err(missing(&handle, &job).await),
        }
    }

    /// The job, the part of its chain that is kept, and its last published epoch.
    pub(super) async fn kept(
        &self,
        job: &JobName,
    ) -> Result<(ResolvedJob, Option<Kept>, Epoch), Status> {
        let requested = job.clone();
        let handle = self.leader.handle()?;
        let found = handle.query(move |core| {
            let job = core.job(&requested);
            let job = job.ok_or_else(|| not_found(&requested, core.job_names()))?;
            Ok((job.resolved().clone(), Kept::of(job), job.published()))
        });
        found.await?
    }

    async fn epochs(
        &self,
        job: JobName,
        request: &v1::ListEpochsRequest,
        limit: u64,
    ) -> Result<Vec<v1::EpochSummary>, Status> {
        let v1::ListEpochsRequest {
            mut from,
            mut to,
            since_ms,
            until_ms,
            ..
        } = *request;
        let (resolved, kept, published) = self.kept(&job).await?;
        let Some(kept) = kept else { return Ok(vec![]) };
        let head = &kept.head;
        let requested = job.clone();
        let recent = self
            .leader
            .handle()?
            .query(move |core| core.recent_epochs(&requested))
            .await?;
        let chain = (&resolved, &kept, recent.as_slice());
        if since_ms > 0 {
            match self
                .first_since(chain, |window| window.end_ms > since_ms)
                .await?
            {
                Some(first) => from = from.max(first),
                None => return Ok(vec![]),
            }
        }
        if until_ms > 0
            && let Some(first) = self
                .first_since(chain, |window| window.start_ms >= until_ms)
                .await?
        {
            let last = first - 1;
            if last < kept.first.0 {
                return Ok(vec![]);
            }
            to = if to == 0 { last } else { to.min(last) };
        }
        if to > 0 && from > to {
            return Ok(vec![]);
        }
        let from = if from == 0 { 0 } else { from.max(kept.first.0) };
        let epochs = epochs_requested(from, to, limit, head.epoch.0);
        let first = *epochs.start();
        let in_memory =
            recent.first().is_some_and(|oldest| oldest.epoch <= first) || first > head.epoch.0;
        let mut all = recent;
        if !in_memory {
            let figures = |reference: &ManifestRef, manifest: Manifest| {
                summary_of(&manifest, &reference.name, published)
            };
            all = self
                .history
                .walk(&resolved, &kept, epochs.clone(), figures)
                .await
                .map_err(unreadable)?;
        }
        Ok(all
            .into_iter()
            .filter(|epoch| epochs.contains(&epoch.epoch))
            .collect())
    }

    /// The first kept epoch whose window fulfils `has_come`, which holds from some window on: in
    /// memory, or in the checkpoint location.
    async fn first_since(
        &self,
        (job, kept, recent): (&ResolvedJob, &Kept, &[v1::EpochSummary]),
        has_come: impl Fn(Window) -> bool,
    ) -> Result<Option<u64>, Status> {
        let is_older = |epoch: &v1::EpochSummary| match convert::window(epoch.window) {
            Ok(window) => !has_come(window),
            Err(_) => false,
        };
        if recent.first().is_some_and(is_older) {
            let found = recent.iter().find(|epoch| !is_older(epoch));
            return Ok(found.map(|epoch| epoch.epoch));
        }
        let found = self.history.first_since(job, kept, has_come).await;
        Ok(found.map_err(unreadable)?.map(|epoch| epoch.0))
    }
}

fn unreadable(error: CheckpointError) -> Status {
    Status::from(CallRefusal::new(
        Reason::CheckpointUnavailable,
        streamctl_proto::describe(&error),
    ))
}

/// The epochs to list: those from `from` on, or the newest ones, none after `to`; 0 means not set
/// for both.
fn epochs_requested(from: u64, to: u64, limit: u64, head: u64) -> RangeInclusive<u64> {
    let end = if to == 0 { head } else { to.min(head) };
    match from {
        0 => end.saturating_sub(limit - 1).max(1)..=end,
        from => from..=end.min(from.saturating_add(limit - 1)),
    }
}

fn check_range(from: u64, to: u64) -> Result<(), Status> {
    if to == 0 || from <= to {
        return Ok(());
    }
    Err(Status::from(
        CallRefusal::new(
            Reason::InvalidArgument,
            format!("the last epoch wanted, {to}, is before the first one, {from}"),
        )
        .hint("epochs are listed from the older to the newer one"),
    ))
}

fn check_times(since_ms: i64, until_ms: i64) -> Result<(), Status> {
    let refused = |text: String, hint: &str| {
        Err(Status::from(
            CallRefusal::new(Reason::InvalidArgument, text).hint(hint),
        ))
    };
    match (since_ms, until_ms) {
        (0.., 0) => Ok(()),
        (0.., 1..) if since_ms < until_ms => Ok(()),
        (0.., 1..) => refused(
            format!("until_ms {until_ms} is not after since_ms {since_ms}"),
            "windows are listed from the older to the newer one",
        ),
        _ => refused(
            "since_ms and until_ms are not before 1970".to_owned(),
            "they are milliseconds since the Unix epoch; 0: not set",
        ),
    }
}

pub(crate) fn name(text: &str) -> Result<JobName, Status> {
    text.parse()
        .map_err(|error: streamctl_proto::id::BadJobName| {
            Status::from(CallRefusal::new(Reason::InvalidArgument, error.to_string()))
        })
}

/// Who sends a job file, and from where.
struct Sender {
    from: Option<SocketAddr>,
    caller: Caller,
}

impl Sender {
    fn of<T>(request: &Request<T>) -> Self {
        let extensions = request.extensions();
        Self {
            from: extensions.get::<Peer>().map(|peer| peer.address),
            caller: extensions.get().cloned().unwrap_or(Caller::ANYBODY),
        }
    }

    /// Whether this caller may send this file.
    fn check(&self, spec_toml: &str, base_dir: &str) -> Result<(), Status> {
        check_base_dir(base_dir, self.from)?;
        check_places(spec_toml, base_dir, &self.caller)
    }
}

/// The folder that relative paths are resolved in is on this machine, so only a local caller can
/// mean it.
fn check_base_dir(base_dir: &str, from: Option<SocketAddr>) -> Result<(), Status> {
    let here = from.is_none_or(|from| from.ip().to_canonical().is_loopback());
    match base_dir.is_empty() || here {
        true => Ok(()),
        false => Err(Status::from(
            CallRefusal::new(
                Reason::InvalidArgument,
                "base_dir is a folder of the controller's machine, and this request \
                 is from another",
            )
            .hint("write paths from the root"),
        )),
    }
}

/// Folders of the machines are read and written with the permissions of our programs, and functions
/// are code that runs on the workers. Both require more than the permission to run jobs.
fn check_places(spec_toml: &str, base_dir: &str, caller: &Caller) -> Result<(), Status> {
    if caller.may(Role::Admin) {
        return Ok(());
    }
    let spec = super::submit::parse(spec_toml, base_dir)?;
    let name = caller.name.as_deref().unwrap_or_default();
    if spec.function.is_some() {
        return Err(Status::from(
            CallRefusal::new(
                Reason::PermissionDenied,
                format!(
                    "function: code of users runs on the workers: a job with it needs \
                 the role admin, and {name} has not"
                ),
            )
            .hint("have it submitted by a user with that role"),
        ));
    }
    let Some(place) = spec.local_place() else {
        return Ok(());
    };
    Err(Status::from(
        CallRefusal::new(
            Reason::PermissionDenied,
            format!(
                "{place} is a folder of the cluster's machines: a job with it needs \
                 the role admin, and {name} has not"
            ),
        )
        .hint("use s3:// places, or have a user with that role submit it"),
    ))
}

fn json(value: &impl serde::Serialize) -> Result<String, Status> {
    serde_json::to_string(value)
        .map_err(|error| Status::from(CallRefusal::new(Reason::Internal, error.to_string())))
}

/// Ends a stream after its first error.
fn until_error<T: Send + Sync>(
    stream: impl Stream<Item = Result<T, Status>> + Send,
) -> impl Stream<Item = Result<T, Status>> + Send {
    let mut over = false;
    futures::StreamExt::take_while(stream, move |item| {
        let go_on = !over;
        over = item.is_err();
        futures::future::ready(go_on)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_listed_from_the_first_wanted_or_the_newest_and_none_behind_the_last() {
        for (from, to, expected) in [
            (0, 0, 6..=10),
            (3, 0, 3..=7),
            (8, 0, 8..=10),
            (0, 8, 4..=8),
            (0, 3, 1..=3),
            (0, 99, 6..=10),
            (3, 5, 3..=5),
            (3, 9, 3..=7),
            (9, 99, 9..=10),
            (7, 7, 7..=7),
        ] {
            assert_eq!(epochs_requested(from, to, 5, 10), expected, "{from} {to}");
        }
        assert!(epochs_requested(11, 0, 5, 10).is_empty());
        assert!(
            check_range(3, 3).is_ok() && check_range(3, 0).is_ok() && check_range(0, 3).is_ok()
        );
        assert!(check_range(4, 3).unwrap_err().message().contains("hint: "));
    }

    #[test]
    fn a_folder_of_this_machine_is_named_by_who_is_on_it() {
        let from = |text: &str| Some(text.parse().unwrap());
        for (base_dir, peer, good) in [
            ("", from("192.0.2.7:1"), true),
            ("/jobs", from("192.0.2.7:1"), false),
            ("/jobs", from("[2001:db8::1]:1"), false),
            ("/jobs", from("127.0.0.1:1"), true),
            ("/jobs", from("[::ffff:127.0.0.1]:1"), true),
            ("/jobs", None, true),
        ] {
            assert_eq!(
                check_base_dir(base_dir, peer).is_ok(),
                good,
                "{base_dir} {peer:?}"
            );
        }
    }

    #[test]
    fn a_job_on_folders_of_the_machines_needs_more_than_the_right_to_run_jobs() {
        let spec_toml = include_str!("../../../deploy/jobs/sales-by-country.toml").to_owned();
        let local = spec_toml.replace("s3://my-bucket/output/lab4/sales/", "/etc/");
        let of = |role| Caller {
            name: Some("ci".into()),
            role: Some(role),
        };
        assert!(check_places(&spec_toml, "", &of(Role::Operate)).is_ok());
        let refused = check_places(&local, "", &of(Role::Operate)).unwrap_err();
        assert!(
            refused.message().contains("/etc/ is a folder") && refused.message().contains("hint: "),
            "{refused}"
        );
        assert!(check_places(&local, "", &of(Role::Admin)).is_ok());
        assert!(check_places(&local, "", &Caller::ANYBODY).is_ok());
    }
}
