//! State that the readers of one worker share.
//!
//! Owns: places for calls in flight and for subscriptions, which readers read the same shard. Does not own: the order in
//! which readers wait (`pace`).
//! Rule: a live reader never waits for a replay.

use super::CALLS_AT_ONCE_MAX;
use super::api::Calls;
use super::fanout::Connections;
use super::pace::{Reading, ShardPace};
use super::route::Routes;
use super::service_clock::SharedClock;
use super::wire::Spoken;
use crate::aws::KINESIS_CLIENTS_MAX;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use streamctl_proto::ShardId;
use streamctl_proto::resolved::StreamAddress;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Shared by all readers of a worker. Cheap to clone.
#[derive(Clone)]
pub struct Shared {
    /// Places for calls in flight.
    pub(super) calls: Arc<Semaphore>,
    /// Replaces AWS.
    pub(super) instead: Option<Arc<dyn Calls>>,
    /// The connections of subscriptions.
    pub(super) connections: Connections,
    shards: Arc<Mutex<Shards>>,
    services: Arc<Mutex<BTreeMap<ServiceKey, OneService>>>,
    routes: Arc<Mutex<Vec<(StreamAddress, Routes)>>>,
}

/// A service: its endpoint and region, where they are not those of the process.
type ServiceKey = (Option<String>, Option<String>);

/// What is known of a service.
#[derive(Clone, Default)]
struct OneService {
    spoken: Spoken,
    clock: SharedClock,
}

/// Services of which anything is remembered. Beyond that all are forgotten: calls find it out again.
const SERVICES_MAX: usize = 64;

impl Default for Shared {
    fn default() -> Self {
        let calls = Arc::new(Semaphore::new(CALLS_AT_ONCE_MAX));
        Self {
            calls,
            instead: None,
            connections: Connections::default(),
            shards: Arc::default(),
            services: Arc::default(),
            routes: Arc::default(),
        }
    }
}

/// The shards that are read. An entry is removed some time after the last reader of its shard.
#[derive(Default)]
struct Shards {
    paces: BTreeMap<Key, Weak<OneShard>>,
    /// At this many entries those without readers are removed.
    sweep_at: usize,
}

/// The state of one shard.
struct OneShard {
    pace: Mutex<ShardPace>,
    /// Times of the pace count from here.
    began: Instant,
}

impl OneShard {
    fn new(bytes_per_second: u64) -> Arc<Self> {
        Arc::new(Self {
            pace: Mutex::new(ShardPace::new(bytes_per_second)),
            began: Instant::now(),
        })
    }
}

/// A shard, by the address of its stream. If two jobs address one stream differently, it counts as
/// two.
type Key = (Option<String>, Option<String>, String, ShardId);

/// Up to this many entries nothing is removed.
const ENTRIES_KEPT: usize = 64;

impl Shared {
    /// The same state; these calls replace those to AWS.
    pub fn with_service(self, calls: Arc<dyn Calls>) -> Self {
        Self {
            instead: Some(calls),
            ..self
        }
    }

    /// Which form the service of this stream speaks.
    pub(super) fn spoken(&self, stream: &StreamAddress) -> Spoken {
        self.service(stream).spoken
    }

    /// Where calls for the records of this stream go.
    pub(super) fn routes(&self, stream: &StreamAddress) -> Routes {
        let mut kept = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, routes)) = kept.iter().find(|(address, _)| address == stream) {
            return routes.clone();
        }
        if kept.len() >= KINESIS_CLIENTS_MAX {
            kept.remove(0);
        }
        let routes = Routes::default();
        kept.push((stream.clone(), routes.clone()));
        routes
    }

    /// The clock of the service of this stream.
    pub(super) fn clock(&self, stream: &StreamAddress) -> SharedClock {
        self.service(stream).clock
    }

    fn service(&self, stream: &StreamAddress) -> OneService {
        let key = (stream.endpoint.clone(), stream.region.clone());
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        if services.len() >= SERVICES_MAX && !services.contains_key(&key) {
            services.clear();
        }
        services.entry(key).or_default().clone()
    }

    /// The part of one reader in the pace of its shard.
    pub(super) fn join(
        &self,
        stream: &StreamAddress,
        shard: &ShardId,
        reading: Reading,
        bytes_per_second: u64,
    ) -> SharedPace {
        let key = (
            stream.endpoint.clone(),
            stream.region.clone(),
            stream.name.clone(),
            shard.clone(),
        );
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shards.paces.get(&key).and_then(Weak::upgrade);
        let shard = known.unwrap_or_else(|| {
            let shard = OneShard::new(bytes_per_second);
            shards.insert(key, Arc::downgrade(&shard));
            shard
        });
        SharedPace::new(shard, reading)
    }
}

impl Shards {
    fn insert(&mut self, key: Key, shard: Weak<OneShard>) {
        if self.paces.len() >= self.sweep_at.max(ENTRIES_KEPT) {
            self.paces.retain(|_, shard| shard.strong_count() > 0);
            self.sweep_at = self.paces.len() * 2;
        }
        self.paces.insert(key, shard);
    }
}

/// One reader's part in the pace of its shard, until it is dropped.
pub(super) struct SharedPace {
    shard: Arc<OneShard>,
    reading: Reading,
}

impl SharedPace {
    fn new(shard: Arc<OneShard>, reading: Reading) -> Self {
        let joined = Self { shard, reading };
        joined.lock().opened(reading);
        joined
    }

    /// The pace of a reader that has its shard alone.
    pub(super) fn alone(bytes_per_second: u64) -> Self {
        Self::new(OneShard::new(bytes_per_second), Reading::Live)
    }

    fn lock(&self) -> MutexGuard<'_, ShardPace> {
        self.shard
            .pace
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.shard.began.elapsed()
    }

    /// How long to leave the shard to others; `None`: no wait.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self.reading {
            Reading::Live => None,
            Reading::Replay => {
                Some(self.lock().replay_wait(self.now())).filter(|wait| !wait.is_zero())
            }
        }
    }

    /// Records to request at once.
    pub(super) fn records_max(&self, records_max: u32) -> u32 {
        match self.reading {
            Reading::Live => records_max,
            Reading::Replay => self.lock().replay_records_max(records_max),
        }
    }

    pub(super) fn started(&self) {
        self.lock().started(self.reading, self.now());
    }

    pub(super) fn answered(&self, records: usize, bytes: usize) {
        self.lock()
            .answered(self.reading, self.now(), records, bytes);
    }

    pub(super) fn throttled(&self) {
        self.lock().throttled(self.reading, self.now());
    }
}

impl Drop for SharedPace {
    fn drop(&mut self) {
        self.lock().closed(self.reading);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn readers_of_one_shard_share_its_pace_and_entries_without_readers_go() {
        let shared = Shared::default();
        let stream = StreamAddress {
            name: "sales".into(),
            ..StreamAddress::default()
        };
        let join = |shard: &str, reading| shared.join(&stream, &shard.into(), reading, 2_000_000);
        let live = join("a", Reading::Live);
        let replay = join("a", Reading::Replay);
        let other = join("b", Reading::Replay);
        live.answered(1, 2_000_000);
        assert_eq!(live.wait(), None);
        assert!(replay.wait().is_none(), "it has not used its share yet");
        replay.started();
        assert_eq!(replay.wait(), Some(Duration::from_secs(1)));
        assert_eq!(other.wait(), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(replay.wait(), None);
        for i in 0..4 * ENTRIES_KEPT {
            drop(join(&format!("shard-{i}"), Reading::Live));
        }
        let entries = shared.shards.lock().unwrap().paces.len();
        assert!(entries <= ENTRIES_KEPT + 1, "{entries}");
        assert!(
            replay.wait().is_none() && Arc::ptr_eq(&replay.shard, &join("a", Reading::Live).shard)
        );
    }
}
