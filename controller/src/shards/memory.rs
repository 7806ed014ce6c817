//! A listing in memory, for tests: set by hand, fails on demand.
//!
//! Rule: clones share one listing.

use super::ShardLister;
use async_trait::async_trait;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use streamctl_engine::source::{ListError, ListedShard, Listing};
use streamctl_proto::ShardId;
use streamctl_proto::resolved::{StreamAddress, StreamFacts};
use streamctl_proto::spec::SourceKind;

#[derive(Clone, Default)]
pub struct MemoryShards {
    state: Arc<Mutex<State>>,
}

struct State {
    stream: Result<Option<StreamFacts>, ListError>,
    shards: Vec<ListedShard>,
    failures: VecDeque<ListError>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            stream: Ok(None),
            shards: Vec::new(),
            failures: VecDeque::new(),
        }
    }
}

impl MemoryShards {
    pub fn named(names: &[&str]) -> Self {
        let this = Self::default();
        names.iter().for_each(|name| this.add(name, &[]));
        this
    }
    pub fn add(&self, name: &str, parents: &[&str]) {
        let parents = parents.iter().map(|p| ShardId::from(*p)).collect();
        let shard = ListedShard {
            id: name.into(),
            parents,
            detail: String::new(),
            closed: false,
        };
        self.with(|s| s.shards.push(shard));
    }
    pub fn close(&self, name: &str) {
        self.with(|s| {
            s.shards
                .iter_mut()
                .filter(|x| x.id.as_str() == name)
                .for_each(|x| x.closed = true)
        });
    }
    /// Removes a shard from the listing, as when its data expired.
    pub fn remove(&self, name: &str) {
        self.with(|s| s.shards.retain(|x| x.id.as_str() != name));
    }
    /// Sets what the listing returns about the stream from now on.
    pub fn describe(&self, stream: Result<Option<StreamFacts>, ListError>) {
        self.with(|s| s.stream = stream);
    }
    /// Makes the next listing fail.
    pub fn fail(&self, error: ListError) {
        self.with(|s| s.failures.push_back(error));
    }
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl ShardLister for MemoryShards {
    async fn list(&self, _: &SourceKind, _: Option<&StreamAddress>) -> Result<Listing, ListError> {
        self.with(|s| match s.failures.pop_front() {
            Some(error) => Err(error),
            None => Ok(Listing {
                stream: s.stream.clone(),
                ..Listing::of(s.shards.clone())
            }),
        })
    }
}
