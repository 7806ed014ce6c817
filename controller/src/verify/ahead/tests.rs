//! Reads ahead of a walk, on a storage that takes its time.

use super::*;
use crate::store::contract;
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use streamctl_engine::storage::{
    MemoryStorage, ObjectInfo, PutOutcome, StagedWriter, Storage, StorageError,
};
use streamctl_proto::report::StagedObject;
use streamctl_proto::spec::Location;
use streamctl_proto::staged_name::Orphans;
use streamctl_proto::{ResolvedJob, Term, WindowSize};
use tokio::time::Instant;

const EPOCHS: u64 = 320;
const ANSWER: Duration = Duration::from_millis(10);

/// Each read takes [`ANSWER`].
#[derive(Debug, Default)]
struct Slow {
    inner: MemoryStorage,
    reads: AtomicUsize,
    reads_most: AtomicUsize,
}

#[async_trait]
impl Storage for Slow {
    async fn get(&self, location: &str, limit: u64) -> Result<Bytes, StorageError> {
        let reads = self.reads.fetch_add(1, Ordering::Relaxed) + 1;
        self.reads_most.fetch_max(reads, Ordering::Relaxed);
        tokio::time::sleep(ANSWER).await;
        self.reads.fetch_sub(1, Ordering::Relaxed);
        self.inner.get(location, limit).await
    }
    async fn head(&self, location: &str) -> Result<ObjectInfo, StorageError> {
        self.inner.head(location).await
    }
    async fn put_new(&self, location: &str, bytes: Bytes) -> Result<PutOutcome, StorageError> {
        self.inner.put_new(location, bytes).await
    }
    async fn list(&self, folder: &Location) -> Result<Vec<ObjectInfo>, StorageError> {
        self.inner.list(folder).await
    }
    async fn stage(&self, _: &str) -> Result<Box<dyn StagedWriter>, StorageError> {
        unreachable!("a walk only reads")
    }
    async fn publish(&self, _: &StagedObject) -> Result<(), StorageError> {
        unreachable!("a walk only reads")
    }
    async fn abandon(&self, _: &StagedObject) -> Result<(), StorageError> {
        unreachable!("a walk only reads")
    }
    async fn sweep(&self, _: &Location, _: &Orphans) -> Result<usize, StorageError> {
        unreachable!("a walk only reads")
    }
}

fn job() -> ResolvedJob {
    contract::job("sales")
}

/// A chain, of which every 40th epoch has another manifest that was never committed.
async fn chain(slow: &Arc<Slow>) -> (Checkpoints, ManifestRef) {
    let storage: Arc<dyn Storage> = Arc::clone(slow) as _;
    let folder = Location::folder("memory://checkpoint/");
    let checkpoints = Checkpoints::new(storage, folder, job().spec.name);
    let window = WindowSize::from_ms(1_000).unwrap();
    let mut head = None;
    for epoch in 1..=EPOCHS {
        let window = window.window_of(epoch as i64 * 1_000);
        let mut manifest = streamctl_core::Job::new(job()).manifest(window, Term(1), 0);
        (manifest.epoch, manifest.previous) = (Epoch(epoch), head.take());
        if epoch % 40 == 0 {
            let stray = Manifest {
                created_ms: 1,
                ..manifest.clone()
            };
            checkpoints.write_manifest(&stray).await.unwrap();
        }
        head = Some(checkpoints.write_manifest(&manifest).await.unwrap());
    }
    (checkpoints, head.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_walk_reads_many_manifests_at_once_and_returns_only_committed_ones_in_order() {
    let slow = Arc::new(Slow::default());
    let (checkpoints, head) = chain(&slow).await;
    let began = Instant::now();
    let mut ahead = Ahead::new(&checkpoints, 1..=EPOCHS).await;
    let mut next = Some(head);
    let mut walked = 0;
    while let Some(reference) = next {
        let manifest = ahead.read(&reference).await.unwrap();
        assert_eq!(manifest.encode().1, reference);
        next = manifest.previous;
        walked += 1;
    }
    assert_eq!(walked, EPOCHS);
    let most = slow.reads_most.load(Ordering::Relaxed);
    assert!((32..=READ_AHEAD_MAX + 1).contains(&most), "{most}");
    // One by one it takes 320 answers.
    assert!(began.elapsed() < ANSWER * 40, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_is_not_the_one_named_is_not_returned() {
    let slow = Arc::new(Slow::default());
    let (checkpoints, head) = chain(&slow).await;
    let mut ahead = Ahead::new(&checkpoints, 1..=EPOCHS).await;
    let stray = ManifestRef {
        digest: "0".repeat(64),
        ..head.clone()
    };
    assert!(ahead.read(&stray).await.is_err());
    let last = ahead.read(&head).await.unwrap();
    let before = last.previous.unwrap();
    slow.inner.put(
        &format!("memory://checkpoint/{}", before.name),
        "{\"version\":3}",
    );
    let mut ahead = Ahead::new(&checkpoints, 1..=EPOCHS).await;
    assert!(ahead.read(&before).await.is_err(), "it was changed");
}
