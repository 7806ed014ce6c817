//! A job that cannot go on by itself: its store is older than what was committed.
//!
//! Owns: which repair a job needs, waiting until it is done. Does not own: what was committed ([`crate::load`]), when a
//! repair may happen (core).
//! Rule: nothing is repaired that does not need it; what is answered is durable.

use super::jobs::{JobsService, told};
use super::{not_found, read_anew};
use crate::core::unreadable::HeadRepair;
use crate::core::{Core, Event};
use crate::handle::Handle;
use crate::load::{CommittedSince, NoWay, committed_since};
use crate::store::StoredJob;
use streamctl_proto::v1::repair_event;
use streamctl_proto::v1::repair_summary::Kind;
use streamctl_proto::{Epoch, JobName, describe, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// Events of a repair that may wait for their reader.
const EVENTS_MAX: usize = 16;

/// What comes of a repair, as it goes on.
pub type RepairEvents = ReceiverStream<Result<v1::RepairEvent, Status>>;

/// Tells the caller what is done.
#[derive(Clone)]
struct Teller(mpsc::Sender<Result<v1::RepairEvent, Status>>);

impl Teller {
    async fn doing(&self, doing: impl Into<String>) {
        let event = repair_event::Event::Progress(v1::RepairProgress { doing: doing.into() });
        let _gone = self.0.send(Ok(v1::RepairEvent { event: Some(event) })).await;
    }

    async fn end(&self, outcome: Result<v1::RepairSummary, Status>) {
        let event = outcome.map(|summary| v1::RepairEvent { event: Some(repair_event::Event::Summary(summary)) });
        let _gone = self.0.send(event).await;
    }
}

/// What a job needs.
enum Need {
    /// Its head is to be moved along what was committed since.
    Head,
    /// Nothing.
    Nothing,
}

impl JobsService {
    /// Begins a repair; `by` asked for it.
    pub(super) async fn repair(&self, request: v1::RepairJobRequest, by: String) -> Result<RepairEvents, Status> {
        let job = super::jobs::name(&request.job)?;
        let handle = self.leader.handle()?;
        let need = needed(&handle, &job).await?;
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let (service, teller) = (self.clone(), Teller(sender));
        tokio::spawn(async move {
            let repaired = async {
                match need {
                    Need::Head => service.repair_head(&handle, &job, by, &teller).await,
                    Need::Nothing => Err(nothing_to_repair(&job)),
                }
            };
            // Who asked may be gone: what was not begun then is not done.
            let outcome = tokio::select! {
                outcome = repaired => outcome,
                () = teller.0.closed() => return,
            };
            teller.end(outcome).await;
        });
        Ok(ReceiverStream::new(events))
    }

    async fn repair_head(
        &self,
        handle: &Handle,
        job: &JobName,
        by: String,
        teller: &Teller,
    ) -> Result<v1::RepairSummary, Status> {
        let StoredJob { job: resolved, head, published, .. } = self.stored(job).await?;
        let stands = head.as_ref().map_or(Epoch(0), |head| head.epoch);
        teller.doing(format!("reading the epochs after {stands}, from the last one back")).await;
        let since = committed_since(self.history.storages(), &resolved, head.as_ref()).await;
        let CommittedSince { last, job_version, published: shown } = since.map_err(|error| no_way(job, &error))?;
        if job_version > resolved.job_version {
            let is = resolved.job_version;
            return Err(Status::failed_precondition(told(&format!(
                "epoch {} was made by version {job_version} of job {job}, and the store holds version {is}\n  hint: bring back a \
                 later copy of the store: the job file of version {job_version} is in no earlier one",
                last.epoch
            ))));
        }
        let before = handle.ask(reads(job)).await?;
        let at_ms = (self.submitter.clock)();
        let epoch = last.epoch;
        let to = HeadRepair { previous: head, head: last, published: published.max(shown), at_ms, by };
        teller.doing(format!("moving the head to epoch {epoch}")).await;
        handle.tell(Event::HeadRepairRequested { job: job.clone(), to: Box::new(to) }).await?;
        read_anew(handle.clone(), job, before).await?;
        Ok(v1::RepairSummary {
            job: job.to_string(),
            kind: Kind::HeadMoved.into(),
            from_epoch: stands.0,
            epoch: epoch.0,
            ..Default::default()
        })
    }

    /// The job as the store holds it.
    async fn stored(&self, job: &JobName) -> Result<StoredJob, Status> {
        let stored = self.submitter.store.load().await.map_err(|error| Status::unavailable(describe(&error)))?;
        stored.into_iter().find(|stored| stored.job.spec.name == *job).ok_or_else(|| not_found(job))
    }
}

/// How often the job was read by this leader without success; none: it is readable.
fn reads(job: &JobName) -> impl FnOnce(&Core) -> Option<u64> + Send + 'static {
    let job = job.clone();
    move |core: &Core| core.jobs.get(&job).and_then(|job| Some(job.unreadable.as_ref()?.reads))
}

async fn needed(handle: &Handle, job: &JobName) -> Result<Need, Status> {
    let asked = job.clone();
    let look = move |core: &Core| {
        let job = core.jobs.get(&asked)?;
        Some(if job.unreadable.is_some() { Need::Head } else { Need::Nothing })
    };
    handle.ask(look).await?.ok_or_else(|| not_found(job))
}

fn nothing_to_repair(job: &JobName) -> Status {
    Status::failed_precondition(format!(
        "job {job} needs no repair: its head is what was committed last, as far as anything shows\n  hint: `streamctl status {job}` \
         says what it waits for, `streamctl verify {job}` whether every record is there once"
    ))
}

fn no_way(job: &JobName, error: &NoWay) -> Status {
    let text = describe(error);
    match error {
        NoWay::Checkpoint(error) if error.is_transient() => Status::unavailable(text),
        NoWay::Checkpoint(_) | NoWay::Nothing(_) | NoWay::Undecided(_) | NoWay::Foreign(_) => {
            let hint = format!("`streamctl status {job}` says what is wrong with it, and what to do");
            Status::failed_precondition(told(&format!("job {job} cannot be repaired: {text}\n  hint: {hint}")))
        }
    }
}
