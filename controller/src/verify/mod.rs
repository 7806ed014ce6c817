//! Verification for the user: compares everything that a job's manifests claim with what exists.
//!
//! Owns: the order of the checks, the limits of a verification. Does not own: what manifests must
//! claim about each other ([`chain`]), objects ([`objects`]), rows (a worker, through
//! [`Replayer`]).
//! Rule: it only reads. The head comes from the store, not from the core, so that the verification
//! covers what would survive a failure.

mod ahead;
pub mod chain;
pub mod finding;
mod objects;
mod replay;
mod reporter;
mod run;
mod strays;
mod tables;
pub(crate) mod totals;
mod versions;

pub use ahead::{READ_AHEAD_BYTES_MAX, READ_AHEAD_MAX};
pub use replay::{FlightReplayer, Replayer};

use crate::service::{found, no_epoch};
use crate::store::{Store, StoreError, StoredJob};
use run::Run;
use std::collections::BTreeSet;
use std::sync::Arc;
use streamctl_engine::storage::Storages;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::{Epoch, JobName, describe, v1};
use tokio::sync::{Semaphore, mpsc};
use tonic::Status;

/// Verifications that one controller runs at the same time.
pub const VERIFICATIONS_MAX: usize = 2;
/// Most epochs that one verification replays.
pub const REPLAYS_MAX: usize = 1_000;
/// Most events that may wait for the caller.
pub const EVENTS_MAX: usize = 256;

/// The events to the caller.
pub type Events = mpsc::Receiver<Result<v1::VerifyEvent, Status>>;

#[derive(Clone)]
pub struct Verifier {
    /// Jobs and their heads.
    store: Arc<dyn Store>,
    /// Manifests and objects.
    storages: Storages,
    /// Reads an epoch again.
    pub(crate) replayer: Arc<dyn Replayer>,
    permits: Arc<Semaphore>,
}

impl Verifier {
    /// Reads heads from `store` and everything else from `storages`; `replayer` reads epochs to be
    /// replayed.
    pub fn new(store: Arc<dyn Store>, storages: Storages, replayer: Arc<dyn Replayer>) -> Self {
        Self {
            store,
            storages,
            replayer,
            permits: Arc::new(Semaphore::new(VERIFICATIONS_MAX)),
        }
    }

    /// Begins a verification; it ends when its events are dropped. An invalid request is refused
    /// before it begins.
    pub async fn verify(&self, request: &v1::VerifyRequest) -> Result<Events, Status> {
        let busy = |_| {
            let text = format!(
                "this controller verifies {VERIFICATIONS_MAX} jobs at the moment; try again later"
            );
            Status::from(CallRefusal::new(Reason::TooManyCalls, text))
        };
        let permit = Arc::clone(&self.permits)
            .try_acquire_owned()
            .map_err(busy)?;
        let job = request.job.parse().map_err(|error| {
            Status::from(CallRefusal::new(
                Reason::InvalidArgument,
                format!("{error}"),
            ))
        })?;
        let stored = self.stored(&job).await?;
        let scope = Scope::new(request, &stored)?;
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let verifier = self.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let gone = sender.clone();
            tokio::select! {
                () = Run::new(&verifier, &stored, scope, sender).run() => {}
                () = gone.closed() => {}
            }
        });
        Ok(events)
    }

    /// The job as the store holds it now.
    async fn stored(&self, job: &JobName) -> Result<StoredJob, Status> {
        let jobs = self.store.load().await.map_err(|error| match error {
            StoreError::Unavailable { .. } => {
                Status::from(CallRefusal::new(Reason::StoreUnavailable, describe(&error)))
            }
            error => Status::from(CallRefusal::new(Reason::Internal, describe(&error))),
        })?;
        let stored = found(jobs, job)?;
        let submitted_ms = stored.job.submitted_ms;
        let anchors = stored.anchors.if_of(submitted_ms, stored.head.as_ref());
        Ok(StoredJob { anchors, ..stored })
    }
}

/// What to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Scope {
    from: u64,
    to: u64,
    replay: BTreeSet<u64>,
    deep: bool,
}

impl Scope {
    fn new(request: &v1::VerifyRequest, stored: &StoredJob) -> Result<Self, Status> {
        let first = stored.anchors.first_kept();
        let last = stored.head.as_ref().map_or(Epoch(0), |head| head.epoch);
        let head = last.0;
        let from = if request.from == 0 {
            first.0
        } else {
            request.from
        };
        let to = if request.to == 0 { head } else { request.to };
        let refused = |text: String| {
            Err(Status::from(CallRefusal::new(
                Reason::InvalidArgument,
                text,
            )))
        };
        let job = &stored.job.spec.name;
        let replay: BTreeSet<u64> = request.replay.iter().copied().collect();
        let named = [request.from, request.to]
            .into_iter()
            .filter(|epoch| *epoch > 0)
            .chain(replay.iter().copied());
        let is_kept = |epoch: &u64| (first.0..=head).contains(epoch);
        if let Some(epoch) = named.into_iter().find(|epoch| !is_kept(epoch)) {
            return Err(no_epoch(job, epoch, first, last));
        }
        if from > to && request.from > 0 {
            return refused(format!(
                "the last epoch to verify, {to}, is before the first one, {from}"
            ));
        }
        if let Some(epoch) = replay.iter().find(|epoch| !(from..=to).contains(epoch)) {
            return refused(format!(
                "epoch {epoch} cannot be replayed: epochs {from} to {to} are verified"
            ));
        }
        if replay.len() > REPLAYS_MAX {
            return refused(format!("at most {REPLAYS_MAX} epochs are replayed at once"));
        }
        Ok(Self {
            from,
            to,
            replay,
            deep: request.deep,
        })
    }

    /// Whether the request covers every epoch that was kept when it began.
    fn is_whole(&self, stored: &StoredJob) -> bool {
        self.from == stored.anchors.first_kept().0
            && stored
                .head
                .as_ref()
                .is_none_or(|head| head.epoch.0 == self.to)
    }
}

#[cfg(test)]
mod tests;
