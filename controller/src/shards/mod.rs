//! The shards of a job's source.
//!
//! Owns: the trait, the limits of a listing, the fake, all outside checks of a submit ([`explore_all`]).
//! Does not own: the listing of a kind of source (`streamctl_engine::source`), lineage and
//! assignment (`core`).
//! Rule: a listing is complete or an error; a partial one would lose shards.

mod explore_all;
#[cfg(any(test, feature = "test-util"))]
mod memory;

pub use explore_all::explore_all;
#[cfg(any(test, feature = "test-util"))]
pub use memory::MemoryShards;

use async_trait::async_trait;
use streamctl_engine::aws::Aws;
use streamctl_engine::source::{
    Clients, LISTED_BYTES_MAX, ListError, ListedShard, Listing, connector,
};
use streamctl_engine::storage::{RefusalCause, Storages};
use streamctl_proto::resolved::{StreamAddress, StreamConsumer};
use streamctl_proto::spec::SourceKind;
use streamctl_proto::{ResolvedJob, SHARDS_MAX};

/// Lists the shards of a job's source.
#[async_trait]
pub trait ShardLister: Send + Sync {
    /// The source's shards, and the service's facts about the stream. `stream` is that of a Kinesis
    /// source. Transient failures were retried a few times.
    async fn list(
        &self,
        source: &SourceKind,
        stream: Option<&StreamAddress>,
    ) -> Result<Listing, ListError>;

    /// Makes ready what a job reads its source through, before the job is stored.
    async fn prepare(&self, _job: &ResolvedJob) -> Result<Option<StreamConsumer>, ListError> {
        Ok(None)
    }

    /// Removes what was made ready for the job.
    async fn release(&self, _job: &ResolvedJob) -> Result<(), ListError> {
        Ok(())
    }
}

#[derive(Clone)]
pub struct SourceShards {
    clients: Clients,
}

impl SourceShards {
    /// For a cluster.
    pub fn new(aws: Aws, storages: Storages) -> Self {
        Self {
            clients: Clients {
                aws,
                storages,
                is_local: false,
            },
        }
    }

    /// The same lister for a job that runs in this process.
    pub fn local(mut self) -> Self {
        self.clients.is_local = true;
        self
    }
}

#[async_trait]
impl ShardLister for SourceShards {
    async fn list(
        &self,
        source: &SourceKind,
        stream: Option<&StreamAddress>,
    ) -> Result<Listing, ListError> {
        let mut listing = connector(source).list(&self.clients, stream).await?;
        if listing.shards.len() > SHARDS_MAX {
            let reason = format!(
                "the source has {} shards, the limit is {SHARDS_MAX}",
                listing.shards.len()
            );
            let hint = "read it with several jobs".to_owned();
            return Err(ListError::Refused {
                cause: RefusalCause::Request,
                reason,
                hint,
            });
        }
        let names_bytes = |shard: &ListedShard| {
            let parents = shard
                .parents
                .iter()
                .map(|parent| parent.as_str().len())
                .sum::<usize>();
            shard.id.as_str().len() + parents + shard.detail.len()
        };
        let bytes = listing.shards.iter().map(names_bytes).sum::<usize>();
        if bytes > LISTED_BYTES_MAX {
            let reason = format!(
                "the names of the source's shards have {bytes} bytes, the limit is \
                 {LISTED_BYTES_MAX}"
            );
            let hint = "read it with several jobs".to_owned();
            return Err(ListError::Refused {
                cause: RefusalCause::Request,
                reason,
                hint,
            });
        }
        listing.shards.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(listing)
    }

    async fn prepare(&self, job: &ResolvedJob) -> Result<Option<StreamConsumer>, ListError> {
        connector(&job.spec.source.kind)
            .prepare(&self.clients, job)
            .await
    }

    async fn release(&self, job: &ResolvedJob) -> Result<(), ListError> {
        connector(&job.spec.source.kind)
            .release(&self.clients, job)
            .await
    }
}
