//! Manifests of old epochs.
//!
//! Owns: finding them without reading all that came after. Does not own: the chain itself
//! ([`crate::checkpoints`]).
//! Rule: nothing before the anchor is looked for, whether it is gone already or not. Each walk holds one manifest at a time, and only a few walks run at once, however many
//! callers and epochs there are.

use crate::checkpoints::{CheckpointError, Checkpoints};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use streamctl_core::view::JobView;
use streamctl_engine::storage::Storages;
use streamctl_proto::{Epoch, JobVersion, Manifest, ManifestRef, ResolvedJob, Window};
use tokio::sync::Semaphore;

/// References in the cache, over all jobs: a caller that reads an epoch soon reads it again, or its
/// neighbours.
const REFERENCES_MAX: usize = 10_000;
/// If the nearest reference is farther away, the folder is listed first, to begin nearer.
const WALK_EPOCHS_MAX: u64 = 1_000;

/// Walks through manifests at once, over all callers: gRPC, Flight and HTTP. Each holds one
/// manifest.
pub const EPOCH_READS_AT_ONCE_MAX: usize = 4;

/// Old versions of jobs in the cache, over all jobs.
const VERSIONS_MAX: usize = 64;

/// Job, its submit time, epoch or version.
type Key = (String, i64, u64);

/// The part of a job's chain that is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The first epoch that is.
    pub first: Epoch,
    pub head: ManifestRef,
}

impl Kept {
    /// Of a job at this moment; `None`: it has no epoch.
    pub fn of(job: JobView<'_>) -> Option<Self> {
        Some(Self {
            first: job.first_kept(),
            head: job.head()?.clone(),
        })
    }
}

/// Finds manifests; clones share the cache.
#[derive(Clone)]
pub struct History {
    storages: Storages,
    known: Arc<Mutex<BTreeMap<Key, ManifestRef>>>,
    versions: Arc<Mutex<BTreeMap<Key, Arc<ResolvedJob>>>>,
    reads: Arc<Semaphore>,
}

impl History {
    /// The history of all jobs whose checkpoint locations these storages serve.
    pub fn new(storages: Storages) -> Self {
        let reads = Arc::new(Semaphore::new(EPOCH_READS_AT_ONCE_MAX));
        Self {
            storages,
            known: Arc::default(),
            versions: Arc::default(),
            reads,
        }
    }

    /// The storages also hold what manifests name.
    pub fn storages(&self) -> &Storages {
        &self.storages
    }

    /// What `reduce` keeps of the manifests of these epochs, oldest first, as far as they are kept.
    pub async fn walk<T>(
        &self,
        job: &ResolvedJob,
        kept: &Kept,
        epochs: RangeInclusive<u64>,
        mut reduce: impl FnMut(&ManifestRef, Manifest) -> T,
    ) -> Result<Vec<T>, CheckpointError> {
        let Kept { first, head } = kept;
        let first = *epochs.start().max(&first.0);
        let last = *epochs.end().min(&head.epoch.0);
        let mut found = Vec::new();
        if first > last {
            return Ok(found);
        }
        let _permit = self.reads.acquire().await.expect("it is never closed");
        let checkpoints = Checkpoints::of(&self.storages, job);
        let mut nearest = self.nearest(job, head, last);
        if nearest.epoch.0 - last > WALK_EPOCHS_MAX {
            nearest = checkpoints.find_near(Epoch(last), &nearest).await?;
        }
        let mut next = Some(nearest);
        while let Some(reference) = next.filter(|reference| reference.epoch.0 >= first) {
            let manifest = checkpoints.read_manifest(&reference).await?;
            next = checkpoints.before(&manifest)?;
            if manifest.epoch.0 <= last {
                found.push(reduce(&reference, manifest));
                self.remember(job, reference);
            }
        }
        found.reverse();
        Ok(found)
    }

    /// The first kept epoch whose window fulfils `has_come`, which holds from some window on; `None`:
    /// no window does. Reads some twenty manifests, however many epochs there are.
    pub async fn first_since(
        &self,
        job: &ResolvedJob,
        kept: &Kept,
        has_come: impl Fn(Window) -> bool,
    ) -> Result<Option<Epoch>, CheckpointError> {
        let Kept { first, head } = kept;
        let checkpoints = Checkpoints::of(&self.storages, job);
        let permit = self.reads.acquire().await.expect("it is never closed");
        if !has_come(checkpoints.read_manifest(head).await?.window) {
            return Ok(None);
        }
        let written = checkpoints.written_once(*first..head.epoch).await?;
        // Windows before `before` have not come, those from `from` on have.
        let (mut before, mut from) = (0, written.len());
        while before < from {
            let middle = before + (from - before) / 2;
            let reference = checkpoints.reference_of(&written[middle]).await?;
            let window = checkpoints.read_manifest(&reference).await?.window;
            self.remember(job, reference);
            if has_come(window) {
                from = middle;
            } else {
                before = middle + 1;
            }
        }
        drop(permit);
        let last_before = before.checked_sub(1).and_then(|index| written.get(index));
        let low = last_before.map_or(*first, |once| once.epoch.next());
        let high = written.get(from).map_or(head.epoch, |once| once.epoch);
        // For the epochs between these two, several manifests were written.
        let found = self.walk(job, kept, low.0..=high.0, |reference, manifest| {
            has_come(manifest.window).then_some(reference.epoch)
        });
        Ok(found.await?.into_iter().flatten().next())
    }

    /// The version of a job that made an epoch; `job` is the last version.
    pub async fn version(
        &self,
        job: &ResolvedJob,
        job_version: JobVersion,
    ) -> Result<Arc<ResolvedJob>, CheckpointError> {
        if job.job_version == job_version {
            return Ok(Arc::new(job.clone()));
        }
        let key = Self::key(job, job_version.0);
        if let Some(known) = self
            .versions
            .lock()
            .expect("nothing panics under this lock")
            .get(&key)
        {
            return Ok(Arc::clone(known));
        }
        let found = Arc::new(
            Checkpoints::of(&self.storages, job)
                .version(job, job_version)
                .await?,
        );
        let mut versions = self
            .versions
            .lock()
            .expect("nothing panics under this lock");
        versions.insert(key, Arc::clone(&found));
        if versions.len() > VERSIONS_MAX {
            versions.pop_first();
        }
        Ok(found)
    }

    fn key(job: &ResolvedJob, epoch: u64) -> Key {
        (job.spec.name.to_string(), job.submitted_ms, epoch)
    }

    /// The first reference at or after `epoch` in the cache, or the head.
    fn nearest(&self, job: &ResolvedJob, head: &ManifestRef, epoch: u64) -> ManifestRef {
        let known = self.known.lock().expect("nothing panics under this lock");
        let later = known
            .range(Self::key(job, epoch)..=Self::key(job, head.epoch.0))
            .next();
        later.map_or_else(|| head.clone(), |(_, reference)| reference.clone())
    }

    fn remember(&self, job: &ResolvedJob, reference: ManifestRef) {
        let mut known = self.known.lock().expect("nothing panics under this lock");
        known.insert(Self::key(job, reference.epoch.0), reference);
        if known.len() > REFERENCES_MAX {
            known.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;
    use streamctl_engine::storage::{MemoryStorage, Op, StorageError};
    use streamctl_proto::spec::Location;

    fn job() -> ResolvedJob {
        let mut job = contract::job("sales");
        job.spec.checkpoint = Location::folder("memory://checkpoint");
        job
    }

    /// A chain of this many epochs. Every `twice`-th epoch has another manifest that was never
    /// committed.
    async fn chain(storages: &Storages, epochs: u64, twice: u64) -> ManifestRef {
        let job = job();
        let mut head = None;
        let checkpoints = Checkpoints::of(storages, &job);
        for epoch in 1..=epochs {
            let mut manifest = streamctl_core::Job::new(job.clone()).manifest(
                streamctl_proto::WindowSize::from_ms(1_000)
                    .unwrap()
                    .window_of(epoch as i64 * 1_000),
                streamctl_proto::Term(1),
                0,
            );
            (manifest.epoch, manifest.previous) = (Epoch(epoch), head.take());
            if epoch % twice == 0 {
                checkpoints
                    .write_manifest(&Manifest {
                        created_ms: 1,
                        ..manifest.clone()
                    })
                    .await
                    .unwrap();
            }
            head = Some(checkpoints.write_manifest(&manifest).await.unwrap());
        }
        head.unwrap()
    }

    #[tokio::test]
    async fn an_old_epoch_is_found_without_reading_all_that_came_after() {
        let memory = MemoryStorage::default();
        let storages = Storages::memory(memory.clone());
        let head = chain(&storages, 2_000, 3).await;
        let history = History::new(storages);
        let walk = async |epochs: RangeInclusive<u64>| {
            let kept =
                |_: &ManifestRef, manifest: Manifest| (manifest.epoch.0, manifest.created_ms);
            let chain = Kept {
                first: Epoch(1),
                head: head.clone(),
            };
            history.walk(&job(), &chain, epochs, kept).await.unwrap()
        };
        let of = |found: &[(u64, i64)]| found.iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>();
        // Epoch 12 was written twice, 13 only once: the walk begins at 13, and must finish after
        // two more reads.
        let found = walk(11..=12).await;
        assert_eq!(of(&found), [11, 12]);
        assert!(
            found.iter().all(|(_, created_ms)| *created_ms == 0),
            "what was never committed is not found"
        );
        let gone = StorageError::NotFound {
            location: "x".into(),
        };
        memory.fail_next(Op::List, gone, false);
        assert_eq!(of(&walk(10..=12).await), [10, 11, 12], "12 is remembered");
        assert_eq!(of(&walk(1_999..=5_000).await), [1_999, 2_000]);
        assert!(walk(2_001..=2_002).await.is_empty());
    }

    #[tokio::test]
    async fn an_epoch_is_found_by_the_time_of_its_window_with_few_reads() {
        let memory = MemoryStorage::default();
        let storages = Storages::memory(memory.clone());
        let head = chain(&storages, 2_000, 3).await;
        let history = History::new(storages);
        let kept = Kept {
            first: Epoch(40),
            head,
        };
        // The window of epoch n begins at second n.
        let ends_after = async |ms: i64| {
            let job = job();
            let found = history.first_since(&job, &kept, |window| window.end_ms > ms);
            found.await.unwrap().map(|epoch| epoch.0)
        };
        assert_eq!(ends_after(0).await, Some(40), "the first that is kept");
        for epoch in [40, 41, 42, 43, 999, 1_000, 1_001, 1_998, 1_999, 2_000] {
            assert_eq!(ends_after(epoch * 1_000).await, Some(epoch as u64));
            assert_eq!(ends_after(epoch * 1_000 + 999).await, Some(epoch as u64));
        }
        assert_eq!(ends_after(2_001_000).await, None);
        let gone = StorageError::NotFound {
            location: "x".into(),
        };
        memory.fail_after(40, Op::Get, gone, false);
        assert_eq!(
            ends_after(777_000).await,
            Some(777),
            "it reads few manifests"
        );
    }

    #[tokio::test]
    async fn few_walks_read_at_once_and_the_others_wait() {
        let storages = Storages::memory(MemoryStorage::default());
        let head = chain(&storages, 3, 4).await;
        let history = History::new(storages);
        let held = Arc::clone(&history.reads)
            .acquire_many_owned(EPOCH_READS_AT_ONCE_MAX as u32)
            .await
            .unwrap();
        let job = job();
        let other = history.clone();
        let chain = Kept {
            first: Epoch(2),
            head,
        };
        let epoch_of = |reference: &ManifestRef, _| reference.epoch.0;
        let mut walk = Box::pin(other.walk(&job, &chain, 1..=3, epoch_of));
        let waits = tokio::time::timeout(std::time::Duration::from_millis(20), &mut walk).await;
        assert!(waits.is_err(), "all clones share the limit");
        drop(held);
        assert_eq!(walk.await.unwrap(), [2, 3], "only what is kept");
    }
}
