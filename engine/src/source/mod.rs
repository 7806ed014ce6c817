//! Sources: their shards, as ordered, replayable sequences of records.
//!
//! Owns: the behaviour of each kind of source ([`Connector`]), the registry of kinds, the output of
//! readers. Does not own: keys and facts of a kind (`streamctl_proto::spec`), windows and tasks
//! (the worker), lineage and assignment (the controller).
//! Rule: a reader never gives a record twice and never skips one; it waits out transient failures
//! itself.

pub mod files;
pub mod generator;
pub mod kinesis;
mod listing;
#[cfg(any(test, feature = "test-util"))]
pub mod memory;
pub mod sample;
mod stdin;
#[cfg(any(test, feature = "test-util"))]
pub mod testing;

pub use listing::{LISTED_BYTES_MAX, ListError, ListedShard, Listing};

use crate::aws::Aws;
use crate::clock::{Clock, system_clock};
use crate::storage::{RefusalCause, StorageError, Storages};
use async_trait::async_trait;
use bytes::Bytes;
use kinesis::Reading;
use sample::{SampleFrom, Sampling};
use streamctl_proto::manifest::TimeGap;
use streamctl_proto::resolved::{StreamAddress, StreamConsumer};
use streamctl_proto::spec::{Problem, SourceKind};
use streamctl_proto::{Epoch, Position, ResolvedJob, SequenceNumber, ShardId, Window};

/// Largest chunk in bytes, for kinds of sources that have no other limit.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// One record of a shard, as received from the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the shard.
    pub sequence: SequenceNumber,
    /// Its place inside a KPL aggregate, counted from 1; 0: an ordinary record, or the last one of
    /// its aggregate.
    pub sub_sequence: u64,
    /// When the source received it, milliseconds since the Unix epoch.
    pub arrival_ms: i64,
    pub data: Bytes,
    /// The origin of a replayed dead letter; `None` for a record of the source.
    pub origin: Option<Box<Origin>>,
    /// What only some records have; `None`: nothing.
    pub extra: Option<Box<Extra>>,
    /// Whether it is, or stands for, user records of a KPL aggregate that belong to other shards.
    pub foreign: Foreign,
}

/// What only some records have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// Why the record is a dead letter whatever its payload is.
    pub refusal: Option<String>,
    /// It has no usable arrival time of its own, but that of another record.
    pub lacks_arrival: bool,
    /// Its partition key, if the job's query reads it.
    pub partition_key: Option<String>,
}

/// User records of a KPL aggregate outside of the shard's hash range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Foreign {
    #[default]
    No,
    /// The record is one.
    Yes,
    /// So many beside this record were dropped.
    Dropped(u64),
}

impl Foreign {
    /// How many it is or stands for.
    pub fn count(self) -> u64 {
        match self {
            Self::No => 0,
            Self::Yes => 1,
            Self::Dropped(records) => records,
        }
    }

    /// Stands for so many more.
    pub(crate) fn add_dropped(&mut self, more: u64) {
        if more > 0 {
            *self = Self::Dropped(self.count() + more);
        }
    }
}

/// Where a record was before it became a dead letter that is replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The epoch whose dead letter it is.
    pub epoch: Epoch,
    pub shard: ShardId,
    pub sequence: SequenceNumber,
    /// Its place inside a KPL aggregate.
    pub sub_sequence: u64,
    /// When the source received it.
    pub arrival_ms: i64,
}

impl Record {
    /// Why the record is a dead letter whatever its payload is.
    pub fn refusal(&self) -> Option<&str> {
        self.extra.as_ref()?.refusal.as_deref()
    }

    /// Whether it has the arrival time of another record.
    pub fn lacks_arrival(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.lacks_arrival)
    }

    /// Whether the record's window is not that of its arrival. A replayed dead letter is always in
    /// another window and does not count.
    pub fn is_late(&self, window: Window) -> bool {
        self.origin.is_none() && !(window.start_ms..window.end_ms).contains(&self.arrival_ms)
    }
    /// The position after this record.
    pub fn position(&self) -> Position {
        Position::After {
            sequence: self.sequence.clone(),
            sub_sequence: self.sub_sequence,
        }
    }
}

/// A shard that begins where others ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    pub shard: ShardId,
    /// Those it comes from: one for a split, two for a merge.
    pub parents: Vec<ShardId>,
    /// The detail that a listing would give for it; empty if unknown.
    pub detail: String,
}

#[derive(Clone, Debug, Default)]
pub struct Chunk {
    /// In the shard's order. May be empty even if the shard has more records.
    pub records: Vec<Record>,
    /// Every record that arrived before this time has been given, this chunk included. `None`: not
    /// known. Allowances for clock skew are already taken off.
    pub complete_to_ms: Option<i64>,
    /// How far behind the tip this read was.
    pub behind_ms: u64,
    /// The shard is closed and this was its last chunk; its children, where the source names them.
    pub end: Option<Vec<Child>>,
}

impl Chunk {
    /// Whether it has nothing new of its shard, except how far behind the tip it is.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.complete_to_ms.is_none() && self.end.is_none()
    }
}

/// Counters of a reader since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderStats {
    /// Calls of the service, whatever their result.
    pub calls: u64,
    /// Subscriptions that were granted.
    pub subscriptions: u64,
    /// How often the service throttled a call.
    pub throttles: u64,
    pub iterator_renewals: u64,
    /// How often records were lost before they could be read (`on_data_loss = "continue"`).
    pub data_losses: u64,
    /// User records of KPL aggregates that belong to another shard, whatever becomes of them.
    pub foreign_records: u64,
    /// The last gap in the records read, if its time is known (`on_data_loss = "continue"`).
    pub lost: Option<TimeGap>,
    /// How far this machine's clock is ahead of the service's, at least; negative: behind; `None`:
    /// not known.
    pub clock_skew_ms: Option<i64>,
}

/// Reading cannot continue. A transient failure never becomes one of these.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Records between the position and the oldest one left are gone.
    #[error(
        "shard {shard}: records expired before they were read{}; it stood at position \
         `{position}`: {detail}",
        gap.map(|gap| format!(", arrivals {gap}")).unwrap_or_default()
    )]
    DataLoss {
        shard: ShardId,
        /// Where reading would have continued.
        position: Position,
        /// Arrival times of the records that may be lost; `None` if unknown.
        gap: Option<TimeGap>,
        detail: String,
    },
    /// This worker can never hold it; one with a larger memory limit may.
    #[error("shard {shard}: {reason}")]
    TooLarge {
        shard: ShardId,
        /// How much it needs, and how much is available.
        reason: String,
        hint: String,
    },
    /// The same read from this process, at this moment, is refused again.
    #[error("shard {shard}: {reason}")]
    Refused {
        /// What determines the refusal.
        cause: RefusalCause,
        shard: ShardId,
        reason: String,
        hint: String,
    },
}

/// Reads one shard from a position on.
#[async_trait]
pub trait ShardReader: Send {
    /// The next records. Paces itself. If there are none, waits for at most about a second, then
    /// returns an empty chunk. Cancel safe: if the future is dropped, the next call returns the
    /// same records.
    async fn next(&mut self) -> Result<Chunk, ReadError>;
    fn stats(&self) -> ReaderStats;
}

/// A shard and where its reading begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardToRead {
    pub shard: ShardId,
    /// Reading continues after this position.
    pub from: Position,
    /// The detail from the shard's listing.
    pub detail: String,
    /// Every record that arrived before this time is read, by the source's clock; `None`: not
    /// known.
    pub read_to_ms: Option<i64>,
    /// How long the source keeps records; `None`: for ever, or not known.
    pub retention_ms: Option<i64>,
    /// User records of aggregates of other shards are dropped, whatever the job says: so it was
    /// when these records were read first, by an earlier build.
    pub drops_foreign: bool,
}

impl ShardToRead {
    /// Nothing is known of earlier reads or of how long the source keeps records.
    pub fn new(shard: ShardId, from: Position, detail: String) -> Self {
        Self {
            shard,
            from,
            detail,
            read_to_ms: None,
            retention_ms: None,
            drops_foreign: false,
        }
    }
}

/// The clients for listing a source.
#[derive(Clone)]
pub struct Clients {
    pub aws: Aws,
    pub storages: Storages,
    /// One process runs the job, for one user: `streamctl run`, `explain` and `preview`.
    pub is_local: bool,
}

/// The clients and settings for reading shards. Cheap to clone.
#[derive(Clone)]
pub struct Readers {
    pub aws: Aws,
    pub storages: Storages,
    pub clock: Clock,
    /// Allowances for Kinesis.
    pub kinesis: kinesis::Settings,
    /// State that all readers of streams share.
    pub kinesis_shared: kinesis::Shared,
    /// Room for files that are held whole.
    pub files: files::FileRoom,
}

impl Readers {
    /// Reads real sources, by the wall clock.
    pub fn new(aws: Aws, storages: Storages) -> Self {
        Self {
            aws,
            storages,
            clock: system_clock(),
            kinesis: kinesis::Settings::default(),
            kinesis_shared: kinesis::Shared::default(),
            files: files::FileRoom::default(),
        }
    }
}

/// A shard that is to be read.
pub struct Opening<'a> {
    pub job: &'a ResolvedJob,
    pub shard: &'a ShardToRead,
    pub reading: Reading,
    pub readers: &'a Readers,
}

/// The behaviour of a kind of source, in the controller and in a worker.
#[async_trait]
pub trait Connector: Send + Sync {
    /// All shards that the source has now. `stream`: the resolved address.
    async fn list(
        &self,
        clients: &Clients,
        stream: Option<&StreamAddress>,
    ) -> Result<Listing, ListError>;

    /// Opens a reader of one shard. Sends no request to a service, except for a role's credentials.
    async fn open(&self, opening: Opening<'_>) -> Result<Box<dyn ShardReader>, ReadError>;

    /// Bytes of a chunk, at most.
    fn chunk_bytes_max(&self) -> usize {
        CHUNK_BYTES_MAX
    }

    /// The address of its stream: the job file over the catalog table's. `None` without a problem:
    /// it has no stream.
    fn address(&self, _table: Option<&StreamAddress>) -> Result<Option<StreamAddress>, Problem> {
        Ok(None)
    }

    /// The consumer of a job that is about to be stored, registered if the job names one. `None`: it
    /// reads without one.
    async fn prepare(
        &self,
        _clients: &Clients,
        _job: &ResolvedJob,
    ) -> Result<Option<StreamConsumer>, ListError> {
        Ok(None)
    }

    /// Deregisters what [`Self::prepare`] registered for the job.
    async fn release(&self, _clients: &Clients, _job: &ResolvedJob) -> Result<(), ListError> {
        Ok(())
    }

    /// Why nothing can be read although the listing is valid.
    fn check_listing(&self, _listing: &Listing) -> Option<Problem> {
        None
    }

    /// The detail of a shard whose listing is not available; `None` if the shard is gone.
    async fn detail(
        &self,
        _storages: &Storages,
        _shard: &ShardId,
    ) -> Result<Option<String>, StorageError> {
        Ok(Some(String::new()))
    }

    /// Where a preview reads: by default the first records.
    fn sampling(&self, _from: SampleFrom, _wanted: usize, _now_ms: i64) -> Sampling {
        Sampling::first()
    }

    /// Whether a preview reads this one of all shards.
    fn is_sampled(&self, _shard: &ListedShard, _all: &[ListedShard], _from: SampleFrom) -> bool {
        true
    }
}

/// The registry: the connector of each kind.
pub fn connector(kind: &SourceKind) -> &dyn Connector {
    match kind {
        SourceKind::Kinesis(source) => source,
        SourceKind::Files(source) => source,
        SourceKind::Generator(source) => source,
        SourceKind::Stdin(source) => source,
    }
}

/// The stored form of a job or of a shard does not fit its source.
fn unfit(shard: &ShardId, reason: &str) -> ReadError {
    ReadError::Refused {
        cause: RefusalCause::Request,
        shard: shard.clone(),
        reason: reason.to_owned(),
        hint: "submit the job again: its stored form does not fit its source".to_owned(),
    }
}
