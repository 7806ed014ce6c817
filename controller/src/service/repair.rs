//! Repairs of a job that cannot continue by itself: its store is older than what was committed, or
//! its staged objects are lost.
//!
//! Owns: which repair a job needs, waiting until it is done. Does not own: what was committed
//! ([`crate::load`]), when a repair may happen (core).
//! Rule: a job is repaired only if it needs it; a successful answer is durable.

use super::jobs::JobsService;
use super::{READ_TIMEOUT, RepairEvents, found, not_found, read_anew};
use crate::handle::Handle;
use crate::load::{CommittedSince, NoWay, committed_since};
use crate::store::StoredJob;
use std::time::Duration;
use streamctl_core::check::check_rebuilt;
use streamctl_core::effect::HeadRepair;
use streamctl_core::event::Stuck;
use streamctl_core::{Core, Event, JobEvent};
use streamctl_proto::manifest::{EpochRepair, ManifestObject, objects_after};
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::v1::repair_event;
use streamctl_proto::v1::repair_summary::Kind;
use streamctl_proto::verify::{RebuildOrder, RebuildOutcome};
use streamctl_proto::{Epoch, JobName, Manifest, ResolvedJob, TaskId, count, describe, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// How long a repaired epoch may take to be published, once its replacements are staged.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(120);
/// Most events of a repair that may wait for their reader.
const EVENTS_MAX: usize = 16;

/// Reports progress to the caller.
#[derive(Clone)]
struct Reporter(mpsc::Sender<Result<v1::RepairEvent, Status>>);

impl Reporter {
    async fn doing(&self, doing: impl Into<String>) {
        let event = repair_event::Event::Progress(v1::RepairProgress {
            doing: doing.into(),
        });
        let _gone = self
            .0
            .send(Ok(v1::RepairEvent { event: Some(event) }))
            .await;
    }

    async fn end(&self, outcome: Result<v1::RepairSummary, Status>) {
        let event = outcome.map(|summary| v1::RepairEvent {
            event: Some(repair_event::Event::Summary(summary)),
        });
        let _gone = self.0.send(event).await;
    }
}

enum Need {
    /// Its head must move along the epochs committed since.
    Head,
    /// Its first unpublished epoch has lost objects.
    Epoch(Box<Stuck>),
    Nothing,
}

impl JobsService {
    /// Begins a repair; `by` requested it.
    pub(super) async fn repair(
        &self,
        request: v1::RepairJobRequest,
        by: String,
    ) -> Result<RepairEvents, Status> {
        let job = super::jobs::name(&request.job)?;
        let handle = self.leader.handle()?;
        let need = needed(&handle, &job).await?;
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let service = self.clone();
        let reporter = Reporter(sender);
        tokio::spawn(async move {
            let repaired = async {
                match need {
                    Need::Head => service.repair_head(&handle, &job, by, &reporter).await,
                    Need::Epoch(stuck) => {
                        service
                            .repair_epoch(&handle, &job, *stuck, (request.skip, by), &reporter)
                            .await
                    }
                    Need::Nothing => Err(nothing_to_repair(&job)),
                }
            };
            // The caller may be gone; then steps that have not begun are not done.
            let outcome = tokio::select! {
                outcome = repaired => outcome,
                () = reporter.0.closed() => return,
            };
            reporter.end(outcome).await;
        });
        Ok(ReceiverStream::new(events))
    }

    async fn repair_head(
        &self,
        handle: &Handle,
        job: &JobName,
        by: String,
        reporter: &Reporter,
    ) -> Result<v1::RepairSummary, Status> {
        let StoredJob {
            job: resolved,
            head,
            published,
            ..
        } = self.stored(job).await?;
        let stands = head.as_ref().map_or(Epoch(0), |head| head.epoch);
        reporter
            .doing(format!(
                "reading the epochs after {stands}, from the last one back"
            ))
            .await;
        let since = committed_since(self.history.storages(), &resolved, head.as_ref()).await;
        let CommittedSince {
            last,
            job_version,
            published: shown,
        } = since.map_err(|error| no_way(job, &error))?;
        if job_version > resolved.job_version {
            let is = resolved.job_version;
            return Err(Status::from(
                CallRefusal::new(
                    Reason::JobState,
                    format!(
                        "epoch {} was made by version {job_version} of job {job}, and the \
                 store holds version {is}",
                        last.epoch
                    ),
                )
                .hint(format!(
                    "bring back a later copy of the store: the job file of version \
                 {job_version} is in no earlier one"
                )),
            ));
        }
        let before = handle.query(reads(job)).await?;
        let at_ms = (self.submitter.clock)();
        let epoch = last.epoch;
        let to = HeadRepair {
            previous: head,
            head: last,
            published: published.max(shown),
            at_ms,
            by,
        };
        reporter
            .doing(format!("moving the head to epoch {epoch}"))
            .await;
        handle
            .send(Event::Job {
                job: job.clone(),
                event: JobEvent::HeadRepairRequested { to: Box::new(to) },
            })
            .await?;
        read_anew(handle, job, before).await?;
        Ok(v1::RepairSummary {
            job: job.to_string(),
            kind: Kind::HeadMoved.into(),
            from_epoch: stands.0,
            epoch: epoch.0,
            ..Default::default()
        })
    }

    async fn repair_epoch(
        &self,
        handle: &Handle,
        job: &JobName,
        stuck: Stuck,
        (skip, by): (bool, String),
        reporter: &Reporter,
    ) -> Result<v1::RepairSummary, Status> {
        let Stuck { epoch, lost } = stuck;
        handle
            .send(Event::Job {
                job: job.clone(),
                event: JobEvent::EpochRepairRequested { epoch },
            })
            .await?;
        let requested = job.clone();
        let begun = handle
            .query(move |core| begun(core, &requested, epoch))
            .await?;
        let Begun {
            resolved,
            manifest,
            repairs,
            task,
        } = begun.ok_or_else(|| nothing_to_repair(job))?;
        let known = objects_after(&manifest, &repairs);
        let rows_lost = known
            .iter()
            .filter(|object| lost.iter().any(|key| key == object.staged.key()))
            .map(|object| object.staged.rows)
            .sum();
        let mut objects = vec![];
        if !skip {
            reporter
                .doing(format!(
                    "computing {} of epoch {epoch} again",
                    count(lost.len() as u64, "lost object")
                ))
                .await;
            let made_by = self
                .history
                .version(&resolved, manifest.job_version())
                .await;
            let made_by = made_by.map_err(|error| {
                Status::from(CallRefusal::new(
                    Reason::CheckpointUnavailable,
                    describe(&error),
                ))
            })?;
            let order = RebuildOrder {
                job: job.clone(),
                epoch: epoch.0,
                task,
                lost: lost.clone(),
                repairs,
            };
            let staged = match self
                .verifier
                .replayer
                .rebuild(&made_by, &manifest, order)
                .await
            {
                RebuildOutcome::Rebuilt { objects } => objects,
                RebuildOutcome::Gone { reason } => return Err(not_computed(job, epoch, &reason)),
                RebuildOutcome::Failed { reason } => return Err(not_computed(job, epoch, &reason)),
            };
            for object in &staged {
                check_rebuilt(&made_by, manifest.window, task, object)
                    .map_err(|error| not_computed(job, epoch, &error.to_string()))?;
            }
            objects = staged
                .into_iter()
                .map(|staged| ManifestObject { task, staged })
                .collect();
        }
        let objects_lost = lost.len() as u64;
        let replaced = objects.len() as u64;
        let rows_given_up = if skip { rows_lost } else { 0 };
        let repair = EpochRepair {
            epoch,
            lost,
            objects,
            rows_given_up,
            by,
        };
        reporter.doing("recording it in the chain").await;
        handle
            .send(Event::Job {
                job: job.clone(),
                event: JobEvent::EpochRepaired {
                    task,
                    repair: Box::new(repair),
                },
            })
            .await?;
        let recorded_in = repaired(handle, job, epoch).await?;
        let kind = if skip {
            Kind::Skipped
        } else {
            Kind::Recomputed
        };
        Ok(v1::RepairSummary {
            job: job.to_string(),
            kind: kind.into(),
            from_epoch: 0,
            epoch: epoch.0,
            recorded_in: recorded_in.0,
            objects_lost,
            objects: replaced,
            rows_lost,
        })
    }

    /// The job as the store holds it.
    async fn stored(&self, job: &JobName) -> Result<StoredJob, Status> {
        let stored = self.submitter.store.load().await.map_err(|error| {
            Status::from(CallRefusal::new(
                Reason::CheckpointUnavailable,
                describe(&error),
            ))
        })?;
        found(stored, job)
    }
}

/// How many times this leader failed to read the job; none: the job is readable.
fn reads(job: &JobName) -> impl FnOnce(&Core) -> Option<u64> + Send + 'static {
    let job = job.clone();
    move |core: &Core| core.job(&job)?.failed_reads()
}

/// The repair that the job needs. Waits for an epoch that is being published, because its objects
/// may turn out to be lost.
async fn needed(handle: &Handle, job: &JobName) -> Result<Need, Status> {
    let requested = job.clone();
    let need = move |core: &Core| {
        let Some(job) = core.job(&requested) else {
            return Some(Err(not_found(&requested, core.job_names())));
        };
        match job.stuck() {
            _ if job.failed_reads().is_some() => Some(Ok(Need::Head)),
            Some(stuck) => Some(Ok(Need::Epoch(Box::new(stuck.clone())))),
            None if job.is_settled() => Some(Ok(Need::Nothing)),
            None => None,
        }
    };
    let late = || {
        let text = format!("job {job} is publishing, and nothing shows that anything is lost");
        let hint = format!("`streamctl status {job}` shows what it waits for");
        Status::from(CallRefusal::new(Reason::CheckpointUnavailable, text).hint(hint))
    };
    let waited = handle.until(READ_TIMEOUT, need).await;
    waited.map_err(|error| error.or_late(late))?
}

/// A repair of an epoch that has begun.
struct Begun {
    resolved: ResolvedJob,
    manifest: Manifest,
    repairs: Vec<EpochRepair>,
    task: TaskId,
}

fn begun(core: &Core, job: &JobName, epoch: Epoch) -> Option<Begun> {
    let job = core.job(job)?;
    let (manifest, task) = job.repair_of(epoch)?;
    Some(Begun {
        resolved: job.resolved().clone(),
        manifest: manifest.clone(),
        repairs: job.repairs_of(epoch),
        task,
    })
}

/// Waits until a repair is committed and its epoch published; returns the epoch whose manifest
/// records the repair.
async fn repaired(handle: &Handle, job: &JobName, epoch: Epoch) -> Result<Epoch, Status> {
    let requested = job.clone();
    let done = move |core: &Core| {
        let Some(job) = core.job(&requested) else {
            return Some(Err(not_found(&requested, core.job_names())));
        };
        let recorded_in = job.repair_recorded_in(epoch)?;
        (job.published() >= epoch).then_some(Ok(recorded_in))
    };
    let late = || {
        let text = format!(
            "the repair of epoch {epoch} is not published within {} s",
            PUBLISH_TIMEOUT.as_secs()
        );
        let hint = format!("see `streamctl status {job}`; what was recorded stays recorded");
        Status::from(CallRefusal::new(Reason::CheckpointUnavailable, text).hint(hint))
    };
    let waited = handle.until(PUBLISH_TIMEOUT, done).await;
    waited.map_err(|error| error.or_late(late))?
}

fn not_computed(job: &JobName, epoch: Epoch, reason: &str) -> Status {
    Status::from(
        CallRefusal::new(
            Reason::JobState,
            format!("epoch {epoch} of job {job} was not computed again: {reason}"),
        )
        .hint(format!(
            "`streamctl repair {job} --skip` gives up what it has lost, so that what was \
                 committed after it is published"
        )),
    )
}

fn nothing_to_repair(job: &JobName) -> Status {
    Status::from(
        CallRefusal::new(
            Reason::JobState,
            format!(
                "job {job} needs no repair: its head is what was committed last, \
                 and nothing that it had staged is lost, as far as anything shows"
            ),
        )
        .hint(format!(
            "`streamctl status {job}` shows what it waits for, `streamctl verify \
                 {job}` whether every record is there once"
        )),
    )
}

fn no_way(job: &JobName, error: &NoWay) -> Status {
    let text = describe(error);
    match error {
        NoWay::Checkpoint(error) if error.is_transient() => {
            Status::from(CallRefusal::new(Reason::CheckpointUnavailable, text))
        }
        NoWay::Checkpoint(_) | NoWay::Nothing(_) | NoWay::Undecided(_) | NoWay::Foreign(_) => {
            let hint =
                format!("`streamctl status {job}` says what is wrong with it, and what to do");
            Status::from(
                CallRefusal::new(
                    Reason::JobState,
                    format!("job {job} cannot be repaired: {text}"),
                )
                .hint(hint),
            )
        }
    }
}
