//! The API of the control plane for users and programs.

use super::status_text::status_text;
use super::submit::Submitter;
use super::{RepairEvents, not_found, recorded};
use crate::checkpoints::CheckpointError;
use crate::history::History;
use crate::leading::Leader;
use crate::verify::Verifier;
use futures::Stream;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::time::Duration;
use streamctl_core::status::summary_of;
use streamctl_core::{Core, Event, JobEvent};
use streamctl_engine::security::{Caller, Peer, Role};
use streamctl_proto::manifest::ManifestRef;
use streamctl_proto::{Epoch, JobName, Manifest, ResolvedJob, v1};
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
        let from = request.extensions().get::<Peer>().map(|peer| peer.address);
        let caller = request
            .extensions()
            .get::<Caller>()
            .cloned()
            .unwrap_or(Caller::ANYBODY);
        let request = request.into_inner();
        check_base_dir(&request.base_dir, from)?;
        check_places(&request.spec_toml, &request.base_dir, &caller)?;
        self.submitter
            .for_caller(&caller)
            .submit(&handle, &request)
            .await
            .map(Response::new)
    }

    async fn diff(
        &self,
        request: Request<v1::DiffRequest>,
    ) -> Result<Response<v1::DiffResponse>, Status> {
        let handle = self.leader.handle()?;
        let from = request.extensions().get::<Peer>().map(|peer| peer.address);
        let caller = request
            .extensions()
            .get::<Caller>()
            .cloned()
            .unwrap_or(Caller::ANYBODY);
        let request = request.into_inner();
        check_base_dir(&request.base_dir, from)?;
        check_places(&request.spec_toml, &request.base_dir, &caller)?;
        self.submitter
            .for_caller(&caller)
            .diff(&handle, &request)
            .await
            .map(Response::new)
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
        _: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let jobs = self.leader.handle()?.statuses().await?;
        Ok(Response::new(v1::ListJobsResponse { jobs }))
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
        recorded(handle, &job).await?;
        self.status(job, true).await.map(Response::new)
    }

    async fn delete_job(
        &self,
        request: Request<v1::DeleteJobRequest>,
    ) -> Result<Response<v1::DeleteJobResponse>, Status> {
        let request = request.into_inner();
        self.delete(name(&request.job)?, request.force)
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
        let epochs = self
            .epochs(job, request.from, request.to, u64::from(limit))
            .await?;
        Ok(Response::new(v1::ListEpochsResponse { epochs }))
    }

    async fn get_epoch(
        &self,
        request: Request<v1::GetEpochRequest>,
    ) -> Result<Response<v1::GetEpochResponse>, Status> {
        let request = request.into_inner();
        let job = name(&request.job)?;
        let (resolved, head, _) = self.head(&job).await?;
        let missing = || {
            let epoch = request.epoch;
            Status::not_found(format!(
                "job {job} has no epoch {epoch}\n  hint: `streamctl epochs {job}` shows those \
                 there are"
            ))
        };
        let head = head
            .filter(|head| request.epoch >= 1 && request.epoch <= head.epoch.0)
            .ok_or_else(missing)?;
        let read = self
            .history
            .walk(
                &resolved,
                &head,
                request.epoch..=request.epoch,
                |_, manifest| manifest,
            )
            .await;
        let manifest = read.map_err(unreadable)?.pop().ok_or_else(missing)?;
        let made_by = self
            .history
            .version(&resolved, manifest.job_version())
            .await;
        let made_by =
            made_by.map_err(|error| Status::unavailable(streamctl_proto::describe(&error)))?;
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
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let workers = self.leader.handle()?.query(Core::worker_status).await?;
        Ok(Response::new(v1::ListWorkersResponse { workers }))
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
        let missing = job.as_ref().map(not_found);
        let status = self
            .leader
            .handle()?
            .query(move |core| core.scaling_status(job.as_ref(), limit))
            .await?;
        status
            .map(Response::new)
            .ok_or_else(|| missing.unwrap_or_else(|| Status::internal("there is no status")))
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
        let missing = not_found(&job);
        self.leader
            .handle()?
            .status(job, brief)
            .await?
            .ok_or(missing)
    }

    async fn head(
        &self,
        job: &JobName,
    ) -> Result<(ResolvedJob, Option<ManifestRef>, Epoch), Status> {
        let requested = job.clone();
        let handle = self.leader.handle()?;
        let found = handle.query(move |core| {
            core.jobs
                .get(&requested)
                .map(|job| (job.resolved.clone(), job.head.clone(), job.published))
        });
        found.await?.ok_or_else(|| not_found(job))
    }

    async fn epochs(
        &self,
        job: JobName,
        from: u64,
        to: u64,
        limit: u64,
    ) -> Result<Vec<v1::EpochSummary>, Status> {
        let (resolved, head, published) = self.head(&job).await?;
        let Some(head) = head else { return Ok(vec![]) };
        let epochs = epochs_requested(from, to, limit, head.epoch.0);
        let first = *epochs.start();
        let requested = job.clone();
        let recent = self
            .leader
            .handle()?
            .query(move |core| core.recent_epochs(&requested))
            .await?;
        let in_memory =
            recent.first().is_some_and(|oldest| oldest.epoch <= first) || first > head.epoch.0;
        let mut all = recent;
        if !in_memory {
            let figures = |reference: &ManifestRef, manifest: Manifest| {
                summary_of(&manifest, &reference.name, published)
            };
            all = self
                .history
                .walk(&resolved, &head, epochs.clone(), figures)
                .await
                .map_err(unreadable)?;
        }
        Ok(all
            .into_iter()
            .filter(|epoch| epochs.contains(&epoch.epoch))
            .collect())
    }
}

fn unreadable(error: CheckpointError) -> Status {
    Status::unavailable(streamctl_proto::describe(&error))
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
    Err(Status::invalid_argument(format!(
        "the last epoch wanted, {to}, is before the first one, {from}\n  hint: epochs are listed \
         from the older to the newer one"
    )))
}

pub(super) fn name(text: &str) -> Result<JobName, Status> {
    text.parse()
        .map_err(|error: streamctl_proto::id::BadJobName| {
            Status::invalid_argument(status_text(&error.to_string()))
        })
}

/// The folder that relative paths are resolved in is on this machine, so only a local caller can
/// mean it.
fn check_base_dir(base_dir: &str, from: Option<SocketAddr>) -> Result<(), Status> {
    let here = from.is_none_or(|from| from.ip().to_canonical().is_loopback());
    match base_dir.is_empty() || here {
        true => Ok(()),
        false => Err(Status::invalid_argument(
            "base_dir is a folder of the controller's machine, and this request is from another\n  hint: write paths from the root",
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
        return Err(Status::permission_denied(status_text(&format!(
            "function: code of users runs on the workers: a job with it needs the role admin, and {name} has not\n  hint: \
             have it submitted by a user with that role"
        ))));
    }
    let Some(place) = spec.local_place() else {
        return Ok(());
    };
    Err(Status::permission_denied(status_text(&format!(
        "{place} is a folder of the cluster's machines: a job with it needs the role admin, and {name} has not\n  hint: \
         use s3:// places, or have somebody with that role submit it"
    ))))
}

fn json(value: &impl serde::Serialize) -> Result<String, Status> {
    serde_json::to_string(value).map_err(|error| Status::internal(error.to_string()))
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
