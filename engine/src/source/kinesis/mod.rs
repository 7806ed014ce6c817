//! Kinesis shards, by calls and by subscriptions.
//!
//! Owns: when to call ([`pace`], [`rhythm`]), which request to send and how to handle a failure ([`cursor`]),
//! whether records expired unread ([`expiry`]), the service's time ([`service_clock`]), the calls
//! ([`api`]) and the form they have ([`wire`]), shared state of readers ([`shared`]), decoding of responses ([`answer`]), the reader,
//! aggregates ([`kpl`]), the listing, consumers ([`consumer`]) and their subscriptions ([`fanout`]).
//! Does not own: which shards are read and in which order (the controller).
//! Rule: pure decisions are separate from calls; a reader retries transient failures for as long as
//! it takes.

mod address;
pub mod answer;
mod api;
mod cbor;
mod consumer;
mod cursor;
mod expiry;
#[cfg(test)]
mod fake;
mod fanout;
mod hash_range;
pub mod kpl;
mod listing;
mod pace;
mod reader;
mod rhythm;
mod route;
mod service_clock;
mod service_date;
mod shared;
mod wire;

pub use answer::Answer;
pub use api::{Api, Calls, MadeIterator, Service};
pub use cursor::{Failure, IteratorKind};
pub use fanout::Times as SubscriptionTimes;
pub use hash_range::HashRange;
pub use pace::Reading;
pub use reader::KinesisReader;
pub use route::Routes;
pub use service_clock::DateSample;
pub use shared::Shared;
pub use wire::{Spoken, Wire};

use super::sample::{End, SampleFrom, Sampling};
use super::{Clients, Connector, ListError, ListedShard, Listing, Opening, ReadError, ShardReader};
use crate::catalog::stream_of_arn;
use async_trait::async_trait;
use std::time::Duration;
use streamctl_proto::resolved::{StreamAddress, StreamConsumer};
use streamctl_proto::spec::{ConsumerName, KinesisSource, Problem};
use streamctl_proto::{Position, ResolvedJob};

/// Calls of a worker that are in flight at once, each on its own connection.
pub const CALLS_AT_ONCE_MAX: usize = 256;
/// The service returns up to 10 MB at once, plus each record's key and times.
const CHUNK_BYTES_MAX: usize = 10 << 20;
/// How far back to search for the newest records of a stream, in turn, until there are enough.
const LOOK_BACK: [Duration; 5] = [
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(600),
    Duration::from_secs(3_600),
    Duration::from_secs(86_400),
];

/// Allowances that no job sets, except for `grace`.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Replaces the job's `grace`; for tests.
    pub grace: Option<Duration>,
    /// Longest wait of one read before it returns an empty chunk.
    pub wait_max: Duration,
    /// Wait after the first failure; doubles, with jitter.
    pub backoff_base: Duration,
    /// Longest wait after a failure.
    pub backoff_max: Duration,
    /// An iterator that is unused for this long is renewed first; the service keeps iterators for 5
    /// minutes.
    pub iterator_age_max: Duration,
    /// Bytes per second and shard; the service allows 2 MB.
    pub bytes_per_second: u64,
    /// A call that takes longer is cancelled and retried.
    pub call_timeout: Duration,
    /// The times of subscriptions.
    pub subscription: SubscriptionTimes,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            grace: None,
            wait_max: Duration::from_secs(1),
            backoff_base: Duration::from_millis(250),
            backoff_max: Duration::from_secs(10),
            iterator_age_max: Duration::from_secs(270),
            bytes_per_second: 2_000_000,
            call_timeout: Duration::from_secs(30),
            subscription: SubscriptionTimes::default(),
        }
    }
}

#[async_trait]
impl Connector for KinesisSource {
    async fn list(
        &self,
        clients: &Clients,
        stream: Option<&StreamAddress>,
    ) -> Result<Listing, ListError> {
        let Some(stream) = stream else {
            let reason = "the job does not say which stream";
            return Err(ListError::request(
                reason,
                "name `stream` or `arn` in its source",
            ));
        };
        let client = clients.aws.kinesis(stream).await;
        let retry = listing::Retry::default();
        let (shards, described) = tokio::join!(
            listing::list(&client, stream, retry),
            listing::describe(&client, stream, retry)
        );
        Ok(Listing {
            shards: shards?,
            stream: described.facts,
            service_ms: described.service_ms,
        })
    }

    async fn prepare(
        &self,
        clients: &Clients,
        job: &ResolvedJob,
    ) -> Result<Option<StreamConsumer>, ListError> {
        // A job of one process ends with it, and may not have a chance to deregister.
        let (Some(name), Some(stream), false) = (&self.consumer, &job.stream, clients.is_local)
        else {
            return Ok(None);
        };
        let identity = job.stream_identity.as_ref();
        let described = identity.and_then(|identity| identity.arn.as_deref());
        let stream_arn = stream.arn.as_deref().or(described);
        let client = clients.aws.kinesis(stream).await;
        consumer::prepare(&client, stream, stream_arn, name)
            .await
            .map(Some)
    }

    async fn release(&self, clients: &Clients, job: &ResolvedJob) -> Result<(), ListError> {
        let (Some(consumer), Some(stream)) = (&job.consumer, &job.stream) else {
            return Ok(());
        };
        let client = clients.aws.kinesis(stream).await;
        consumer::release(&client, stream, consumer).await
    }

    async fn open(&self, opening: Opening<'_>) -> Result<Box<dyn ShardReader>, ReadError> {
        Ok(Box::new(KinesisReader::open(self, opening).await?))
    }

    fn chunk_bytes_max(&self) -> usize {
        CHUNK_BYTES_MAX
    }

    fn address(&self, table: Option<&StreamAddress>) -> Result<Option<StreamAddress>, Problem> {
        match &self.arn {
            Some(arn) if stream_of_arn(arn).is_none() => {
                let hint = "write arn:aws:kinesis:<region>:<account>:stream/<name>".to_owned();
                let message = format!("{arn:?} is not the ARN of a stream");
                Err(Problem::new("source.arn", message, Some(hint)))
            }
            _ => {
                let address = address::merged(self, table);
                match address
                    .as_ref()
                    .and_then(|address| foreign_consumer(self, address))
                {
                    Some(problem) => Err(problem),
                    None => Ok(address),
                }
            }
        }
    }

    fn sampling(&self, from: SampleFrom, _: usize, now_ms: i64) -> Sampling {
        if from == SampleFrom::Earliest {
            return Sampling::first();
        }
        let back = |ago: &Duration| {
            let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
            Position::Timestamp(now_ms.saturating_sub(ago_ms))
        };
        Sampling::of(LOOK_BACK.iter().map(|ago| (back(ago), End::Last)).collect())
    }

    /// Open shards have the newest records, those without a parent the oldest.
    fn is_sampled(&self, shard: &ListedShard, all: &[ListedShard], from: SampleFrom) -> bool {
        match from {
            SampleFrom::Latest => !shard.closed,
            SampleFrom::Earliest => !shard
                .parents
                .iter()
                .any(|parent| all.iter().any(|other| other.id == *parent)),
        }
    }
}

/// A consumer of another stream than the job's.
fn foreign_consumer(source: &KinesisSource, address: &StreamAddress) -> Option<Problem> {
    let stream_arn = source
        .consumer
        .as_ref()
        .and_then(ConsumerName::stream_arn)?;
    let is_same = match &address.arn {
        Some(arn) => arn == stream_arn,
        None => stream_of_arn(stream_arn).is_some_and(|(name, _)| name == address.name),
    };
    (!is_same).then(|| {
        let message = format!(
            "the consumer is of {stream_arn}, the job reads {}",
            address.name
        );
        let hint = "write the ARN of a consumer of this stream, or a name to have one registered";
        Problem::new("source.consumer", message, Some(hint.to_owned()))
    })
}
