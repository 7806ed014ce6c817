//! Reads what manifests of earlier terms hold of a job's past, for its history.
//!
//! Owns: when that happens, how far it reads. Does not own: what is kept of it
//! (`streamctl_core::job::history`), manifests ([`crate::checkpoints`]).
//! Rule: one job at a time, one manifest at a time, and no step of the core waits for it. A job whose
//! manifests cannot be read is tried a few times; without them its history begins with this term.

use crate::checkpoints::Checkpoints;
use std::collections::BTreeMap;
use std::time::Duration;
use streamctl_core::Core;
use streamctl_core::job::history::{HISTORY_EPOCHS_READ_MAX, PastEpoch};
use streamctl_engine::storage::Storages;
use streamctl_proto::ring::{COARSE_POINTS_MAX, COARSE_STEP_MS};
use streamctl_proto::{JobName, ManifestRef, ResolvedJob, describe};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Times that a job's manifests are tried.
const TRIES_MAX: u32 = 5;
/// Time between two of them.
const TRY_INTERVAL: Duration = Duration::from_secs(60);

pub(super) struct PastReader {
    storages: Storages,
    /// At most one.
    operations: JoinSet<Past>,
    /// Jobs whose manifests could not be read: how often, and when to try again.
    failed: BTreeMap<JobName, (u32, Instant)>,
}

/// What was read of one job.
pub(super) struct Past {
    job: JobName,
    submitted_ms: i64,
    epochs: Result<Vec<PastEpoch>, String>,
}

impl PastReader {
    pub(super) fn new(storages: Storages) -> Self {
        Self {
            storages,
            operations: JoinSet::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Begins to read the next job, if one is due.
    pub(super) fn tick(&mut self, now_ms: i64, core: &Core) {
        if !self.operations.is_empty() {
            return;
        }
        let now = Instant::now();
        let skips = |name: &JobName| {
            let failed = self.failed.get(name);
            failed.is_some_and(|(tries, at)| *tries >= TRIES_MAX || now < *at)
        };
        if let Some((job, last)) = core.history_wanted(skips) {
            let storages = self.storages.clone();
            self.operations
                .spawn(async move { read(&storages, job, last, now_ms).await });
        }
    }

    /// The next outcome; pending while nothing is read.
    pub(super) async fn next(&mut self) -> Past {
        loop {
            match self.operations.join_next().await {
                Some(Ok(past)) => return past,
                Some(Err(error)) => tracing::error!(%error, "reading a job's past ended"),
                None => std::future::pending().await,
            }
        }
    }

    pub(super) fn take(&mut self, core: &mut Core, past: Past) {
        let Past {
            job,
            submitted_ms,
            epochs,
        } = past;
        match epochs {
            Ok(epochs) => {
                self.failed.remove(&job);
                core.restore_history(&job, submitted_ms, &epochs);
            }
            Err(reason) => {
                let tries = self.failed.get(&job).map_or(1, |(tries, _)| tries + 1);
                tracing::warn!(%job, tries, reason, "the history of a job cannot be read");
                self.failed
                    .insert(job, (tries, Instant::now() + TRY_INTERVAL));
            }
        }
    }
}

/// From the last manifest back: a day, and no more than the limit.
async fn read(storages: &Storages, job: ResolvedJob, last: ManifestRef, now_ms: i64) -> Past {
    let name = job.spec.name.clone();
    let oldest_ms = now_ms - COARSE_STEP_MS * COARSE_POINTS_MAX as i64;
    let checkpoints = Checkpoints::of(storages, &job);
    let mut epochs = Vec::new();
    let mut next = Some(last);
    let walked = async {
        while let Some(reference) = next {
            let manifest = checkpoints.read_manifest(&reference).await?;
            next = checkpoints.before(&manifest)?;
            let past = PastEpoch::of(&manifest);
            if past.committed_ms < oldest_ms {
                break;
            }
            epochs.push(past);
            if epochs.len() as u64 >= HISTORY_EPOCHS_READ_MAX {
                break;
            }
        }
        Ok::<_, crate::checkpoints::CheckpointError>(())
    };
    let walked = walked.await;
    epochs.reverse();
    Past {
        job: name,
        submitted_ms: job.submitted_ms,
        epochs: match walked {
            // What is older was removed, or cannot be read now: the newer part is true without it.
            Err(error) if epochs.is_empty() => Err(describe(&error)),
            Err(_) | Ok(()) => Ok(epochs),
        },
    }
}
