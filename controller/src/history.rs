//! Manifests of epochs that are long past.
//!
//! Owns: finding them without reading all that came after. Does not own: the chain itself ([`crate::publish`]).
//! Rule: only as many manifests are in memory as were asked for, however many epochs the job has.

use crate::publish::{CheckpointError, Checkpoints};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use streamctl_engine::storage::Storages;
use streamctl_proto::{Epoch, JobVersion, Manifest, ManifestRef, ResolvedJob};

/// References that are remembered, of all jobs together: who asked for an epoch soon asks for it again, or for its
/// neighbours.
const REFERENCES_MAX: usize = 10_000;
/// From a reference that is farther away the folder is listed first, to begin nearer.
const WALK_EPOCHS_MAX: u64 = 1_000;

/// Old versions of jobs that are remembered, of all jobs together.
const VERSIONS_MAX: usize = 64;

/// Job, when it was submitted, epoch or version.
type Key = (String, i64, u64);

/// Finds manifests; clones share what they remember.
#[derive(Clone)]
pub struct History {
    storages: Storages,
    known: Arc<Mutex<BTreeMap<Key, ManifestRef>>>,
    versions: Arc<Mutex<BTreeMap<Key, Arc<ResolvedJob>>>>,
}

impl History {
    /// Of all jobs whose checkpoint locations these storages serve.
    pub fn new(storages: Storages) -> Self {
        Self { storages, known: Arc::default(), versions: Arc::default() }
    }

    /// What manifests name is there too.
    pub fn storages(&self) -> &Storages {
        &self.storages
    }

    /// The manifests of these epochs, oldest first; `head` is the job's.
    pub async fn read(
        &self,
        job: &ResolvedJob,
        head: &ManifestRef,
        epochs: RangeInclusive<u64>,
    ) -> Result<Vec<Manifest>, CheckpointError> {
        let (first, last) = (*epochs.start().max(&1), *epochs.end().min(&head.epoch.0));
        let mut found = Vec::new();
        if first > last {
            return Ok(found);
        }
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
                self.remember(job, reference);
                found.push(manifest);
            }
        }
        found.reverse();
        Ok(found)
    }

    /// The version of a job that made an epoch; `job` is the last one.
    pub async fn version(
        &self,
        job: &ResolvedJob,
        job_version: JobVersion,
    ) -> Result<Arc<ResolvedJob>, CheckpointError> {
        if job.job_version == job_version {
            return Ok(Arc::new(job.clone()));
        }
        let key = Self::key(job, job_version.0);
        if let Some(known) = self.versions.lock().expect("nothing panics under this lock").get(&key) {
            return Ok(Arc::clone(known));
        }
        let found = Arc::new(Checkpoints::of(&self.storages, job).version(job, job_version).await?);
        let mut versions = self.versions.lock().expect("nothing panics under this lock");
        versions.insert(key, Arc::clone(&found));
        if versions.len() > VERSIONS_MAX {
            versions.pop_first();
        }
        Ok(found)
    }

    fn key(job: &ResolvedJob, epoch: u64) -> Key {
        (job.spec.name.to_string(), job.submitted_ms, epoch)
    }

    /// The first reference at or after `epoch` that is remembered, or the head.
    fn nearest(&self, job: &ResolvedJob, head: &ManifestRef, epoch: u64) -> ManifestRef {
        let known = self.known.lock().expect("nothing panics under this lock");
        let later = known.range(Self::key(job, epoch)..=Self::key(job, head.epoch.0)).next();
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

    /// A chain of so many epochs; of every `twice`-th there is another manifest that was never committed.
    async fn chain(storages: &Storages, epochs: u64, twice: u64) -> ManifestRef {
        let (job, mut head) = (job(), None);
        let checkpoints = Checkpoints::of(storages, &job);
        for epoch in 1..=epochs {
            let mut manifest = crate::core::Job::new(job.clone()).manifest(
                streamctl_proto::WindowSize::from_ms(1_000).unwrap().window_of(epoch as i64 * 1_000),
                streamctl_proto::Term(1),
                0,
            );
            (manifest.epoch, manifest.previous) = (Epoch(epoch), head.take());
            if epoch % twice == 0 {
                checkpoints.write_manifest(&Manifest { created_ms: 1, ..manifest.clone() }).await.unwrap();
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
        let of = |manifests: Vec<Manifest>| manifests.iter().map(|manifest| manifest.epoch.0).collect::<Vec<_>>();
        // Epoch 12 was written twice; 13 only once: the walk begins there, and two reads later it must be done.
        let found = history.read(&job(), &head, 11..=12).await.unwrap();
        assert_eq!(of(found.clone()), [11, 12]);
        assert!(found.iter().all(|manifest| manifest.created_ms == 0), "what was never committed is not found");
        let gone = StorageError::NotFound { location: "x".into() };
        memory.fail_next(Op::List, gone, false);
        assert_eq!(of(history.read(&job(), &head, 10..=12).await.unwrap()), [10, 11, 12], "12 is remembered");
        assert_eq!(of(history.read(&job(), &head, 1_999..=5_000).await.unwrap()), [1_999, 2_000]);
        assert!(history.read(&job(), &head, 2_001..=2_002).await.unwrap().is_empty());
    }
}
