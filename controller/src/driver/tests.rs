//! Effects that are in flight when a job is deleted, and effects that are retried.

use super::*;
use crate::shards::ShardLister;
use crate::store::{LeaderRecord, MemoryStore, Store, contract};
use std::sync::atomic::{AtomicUsize, Ordering};
use streamctl_core::JobEvent;
use streamctl_core::journal::Entry;
use streamctl_engine::clock::system_clock;
use streamctl_engine::source::{ListError, ListedShard, Listing};
use streamctl_engine::storage::{MemoryStorage, Storages};
use streamctl_proto::resolved::StreamAddress;
use streamctl_proto::spec::SourceKind;
use streamctl_proto::{ResolvedJob, ShardId};

/// Never answers the first request, and counts the waiting requests.
#[derive(Default)]
struct Stuck {
    requested: AtomicUsize,
    waiting: Arc<AtomicUsize>,
}

struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl ShardLister for Stuck {
    async fn list(&self, _: &SourceKind, _: Option<&StreamAddress>) -> Result<Listing, ListError> {
        if self.requested.fetch_add(1, Ordering::SeqCst) == 0 {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let _waiting = Waiting(Arc::clone(&self.waiting));
            std::future::pending::<()>().await;
        }
        let next = ListedShard {
            id: ShardId::new("next"),
            parents: vec![],
            detail: String::new(),
            closed: false,
        };
        Ok(Listing::of(vec![next]))
    }
}

fn performer(
    leadership: &Leadership,
    store: &MemoryStore,
    lister: Arc<dyn ShardLister>,
) -> Performer {
    Performer {
        term: leadership.term,
        store: Arc::new(store.clone()),
        storages: Storages::memory(MemoryStorage::default()),
        lister,
        sessions: Arc::default(),
        clock: system_clock(),
        metrics: Default::default(),
        hook: None,
    }
}

async fn until(handle: &mut Handle, holds: impl Fn(&Core) -> bool + Clone + Send + 'static) {
    while !handle.query(holds.clone()).await.unwrap() {
        handle.changed().await.unwrap();
    }
}

async fn begins(store: &MemoryStore, handle: &Handle, job: &ResolvedJob) {
    store.create_job(handle.term, job).await.unwrap();
    handle.send(Event::created(job.clone())).await.unwrap();
}

#[tokio::test]
async fn what_a_deleted_job_waits_for_ends_with_it_and_its_successor_begins_anew() {
    let store = MemoryStore::new();
    let me = LeaderRecord {
        id: "c".into(),
        address: "a:1".into(),
    };
    let leadership = store.campaign(&me).await.unwrap();
    let lister = Arc::new(Stuck::default());
    let (driver, mut handle) = Driver::new(
        performer(&leadership, &store, lister.clone()),
        CoreSettings::default(),
    );
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let runs = tokio::spawn(async move {
        driver
            .run(&leadership, vec![], async { drop(stopped.await) })
            .await
    });

    let first = ResolvedJob {
        submitted_ms: 1,
        ..contract::job("sales")
    };
    let name = first.spec.name.clone();
    begins(&store, &handle, &first).await;
    while lister.waiting.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    handle
        .send(Event::Job {
            job: name.clone(),
            event: JobEvent::StopRequested { drain: false },
        })
        .await
        .unwrap();
    handle
        .send(Event::Job {
            job: name.clone(),
            event: JobEvent::DeleteRequested { force: false },
        })
        .await
        .unwrap();
    until(&mut handle, |core| core.jobs.is_empty()).await;
    assert!(store.load().await.unwrap().is_empty());
    while lister.waiting.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }

    let second = ResolvedJob {
        submitted_ms: 2,
        ..first
    };
    begins(&store, &handle, &second).await;
    let shards = |core: &Core| {
        core.jobs
            .values()
            .flat_map(|job| job.shards.keys().cloned())
            .collect::<Vec<_>>()
    };
    until(&mut handle, move |core| {
        shards(core) == [ShardId::new("next")]
    })
    .await;
    let of = name.clone();
    let other = name;
    let reported = handle
        .query(move |core| core.resolved(&of).map(|job| job.submitted_ms))
        .await
        .unwrap();
    assert_eq!(reported, Some(2));
    assert_eq!(
        handle
            .query(move |core| core.jobs[&other].epoch())
            .await
            .unwrap(),
        streamctl_proto::Epoch(0)
    );
    stop.send(()).unwrap();
    assert_eq!(runs.await.unwrap(), Ended::Stopped);
}

/// Does not answer the first requests.
#[derive(Default)]
struct Flaky(AtomicUsize);

#[async_trait::async_trait]
impl ShardLister for Flaky {
    async fn list(&self, _: &SourceKind, _: Option<&StreamAddress>) -> Result<Listing, ListError> {
        if self.0.fetch_add(1, Ordering::SeqCst) < 2 {
            return Err(ListError::Unavailable {
                reason: "no answer".to_owned(),
            });
        }
        let shard = ListedShard {
            id: ShardId::new("a"),
            parents: vec![],
            detail: String::new(),
            closed: false,
        };
        Ok(Listing::of(vec![shard]))
    }
}

#[tokio::test]
async fn what_was_tried_again_and_is_done_is_waited_for_no_more() {
    let store = MemoryStore::new();
    let leadership = store
        .campaign(&LeaderRecord {
            id: "c".into(),
            address: "a:1".into(),
        })
        .await
        .unwrap();
    let (driver, mut handle) = Driver::new(
        performer(&leadership, &store, Arc::new(Flaky::default())),
        CoreSettings::default(),
    );
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let runs = tokio::spawn(async move {
        driver
            .run(&leadership, vec![], async { drop(stopped.await) })
            .await
    });
    begins(&store, &handle, &contract::job("sales")).await;
    let delays = |core: &Core| {
        core.jobs
            .values()
            .map(|job| job.delays.len())
            .sum::<usize>()
    };
    until(&mut handle, move |core| delays(core) == 1).await;
    let shards = |core: &Core| {
        core.jobs
            .values()
            .map(|job| job.shards.len())
            .sum::<usize>()
    };
    until(&mut handle, move |core| shards(core) == 1).await;
    assert_eq!(handle.query(move |core| delays(core)).await.unwrap(), 0);
    stop.send(()).unwrap();
    assert_eq!(runs.await.unwrap(), Ended::Stopped);
}

#[tokio::test(start_paused = true)]
async fn events_that_cannot_be_stored_delay_nothing_and_are_stored_later() {
    let store = MemoryStore::new();
    let me = LeaderRecord {
        id: "c".into(),
        address: "a:1".into(),
    };
    let leadership = store.campaign(&me).await.unwrap();
    let (driver, mut handle) = Driver::new(
        performer(&leadership, &store, Arc::new(Flaky::default())),
        CoreSettings::default(),
    );
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let runs = tokio::spawn(async move {
        let driver = driver.named("c at a:1".to_owned());
        driver
            .run(&leadership, vec![], async { drop(stopped.await) })
            .await
    });
    // The journal is kept by ticks, which notify nobody.
    let kept = async |handle: &Handle, holds: fn(&Core) -> bool| {
        while !handle.query(holds).await.unwrap() {
            tokio::time::sleep(TICK).await;
        }
    };
    kept(&handle, |core| core.journal.is_loaded()).await;
    store.fail_journal(true);
    begins(&store, &handle, &contract::job("sales")).await;
    let shards = |core: &Core| core.jobs.values().any(|job| !job.shards.is_empty());
    until(&mut handle, shards).await;
    kept(&handle, |core| core.journal.problem.is_some()).await;
    store.fail_journal(false);
    kept(&handle, |core| core.journal.is_stored()).await;
    let kinds = |entries: Vec<Entry>| {
        let kinds = entries.into_iter().map(|entry| entry.kind.label());
        kinds.collect::<Vec<_>>()
    };
    let stored = kinds(store.load_journal().await.unwrap());
    assert_eq!(stored, ["leader_elected", "job_submitted", "call_failed"]);

    // What happens just before a leader stops is stored too.
    handle
        .send(Event::Job {
            job: contract::job("sales").spec.name,
            event: JobEvent::StopRequested { drain: false },
        })
        .await
        .unwrap();
    until(&mut handle, |core| {
        core.jobs.values().all(|job| !job.runs())
    })
    .await;
    stop.send(()).unwrap();
    assert_eq!(runs.await.unwrap(), Ended::Stopped);
    let stored = kinds(store.load_journal().await.unwrap());
    assert_eq!(stored.last(), Some(&"job_stopped"));
}
