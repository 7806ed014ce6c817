//! Shards as ordered, replayable sequences of records.
//!
//! Owns: the trait, and which reader serves which job. Does not own: windows (`task`), decoding.
//! Rule: a reader never gives a record twice and never skips one; what it can wait out, it waits
//! out itself.

pub mod dead_letters;
pub mod files;
pub mod generator;
pub mod kinesis;
pub mod memory;
#[cfg(test)]
pub(crate) mod testing;

use crate::memory::{MemoryLimit, Reads};
use async_trait::async_trait;
use bytes::Bytes;
use kinesis::Reading;
use std::sync::Arc;
use streamctl_engine::aws::Aws;
pub use streamctl_engine::clock::Clock;
use streamctl_engine::clock::system_clock;
use streamctl_engine::storage::{RefusalCause, Storages};
use streamctl_proto::manifest::TimeGap;
use streamctl_proto::spec::SourceKind;
use streamctl_proto::{
    DeadLetterShard, Epoch, Position, ResolvedJob, SequenceNumber, ShardId, Window,
};

/// One record of a shard, as the source gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the shard.
    pub sequence: SequenceNumber,
    /// Its place inside a KPL aggregate, counted from 1; 0: an ordinary record, or the last one of
    /// its aggregate.
    pub sub_sequence: u64,
    /// When the source took it, milliseconds since the Unix epoch.
    pub arrival_ms: i64,
    pub data: Bytes,
    /// Where a replayed dead letter came from; none for a record of the source.
    pub origin: Option<Box<Origin>>,
}

/// Where a record stood before it became a dead letter that is replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The epoch whose dead letter it is.
    pub epoch: Epoch,
    pub shard: ShardId,
    pub sequence: SequenceNumber,
    /// Its place inside a KPL aggregate.
    pub sub_sequence: u64,
    /// When the source took it.
    pub arrival_ms: i64,
}

impl Record {
    /// Whether it is in another window than that of its arrival. A replayed dead letter always is,
    /// and does not count.
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
    /// What a listing would say of it besides; empty: not known.
    pub detail: String,
}

#[derive(Clone, Debug, Default)]
pub struct Chunk {
    /// In the shard's order; may be empty though there are more further on.
    pub records: Vec<Record>,
    /// Every record that arrived before this time has been given, this chunk included. `None`: not
    /// known. Allowances for clock skew are already taken off.
    pub complete_to_ms: Option<i64>,
    /// How far behind the tip this read was.
    pub behind_ms: u64,
    /// The shard is closed and this was its last chunk; its children, where the source names them.
    pub end: Option<Vec<Child>>,
}

/// What a reader counts, since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderStats {
    /// Calls of the service, whatever came of them.
    pub calls: u64,
    /// Times the service asked to slow down.
    pub throttles: u64,
    pub iterator_renewals: u64,
    /// Records that were lost before they could be read (`on_data_loss = "continue"`): times it
    /// happened.
    pub data_losses: u64,
    /// User records of KPL aggregates that belong to another shard and were dropped.
    pub foreign_records: u64,
    /// The last gap in what was read, where its time is known (`on_data_loss = "continue"`).
    pub lost: Option<TimeGap>,
    /// How far this machine's clock is ahead of the service's, at least; negative: behind; `None`:
    /// not known.
    pub clock_skew_ms: Option<i64>,
}

/// Reading cannot go on. What can be waited out never becomes one of these.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Records between the position and the oldest one left are gone.
    #[error(
        "shard {shard}: records expired before they were read{}; it stood at position `{position}`: {detail}",
        gap.map(|gap| format!(", arrivals {gap}")).unwrap_or_default()
    )]
    DataLoss {
        shard: ShardId,
        /// Where reading should have gone on.
        position: Position,
        /// When what may be lost arrived; `None`: not known.
        gap: Option<TimeGap>,
        detail: String,
    },
    /// This worker can never hold it; one with a larger memory limit may.
    #[error("shard {shard}: {reason}")]
    TooLarge {
        shard: ShardId,
        /// What it needs, and what there is.
        reason: String,
        hint: String,
    },
    /// The same read from this process, at this moment, is refused again.
    #[error("shard {shard}: {reason}")]
    Refused {
        /// What decides that it is refused.
        cause: RefusalCause,
        shard: ShardId,
        reason: String,
        hint: String,
    },
}

/// Reads one shard from a position on.
#[async_trait]
pub trait ShardReader: Send {
    /// The next records; paces itself, waits while there are none (for at most about a second, then
    /// an empty chunk). Dropping the future loses nothing: the next call gives the same records.
    async fn next(&mut self) -> Result<Chunk, ReadError>;
    fn stats(&self) -> ReaderStats;
}

/// A shard and where its reading begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardToRead {
    pub shard: ShardId,
    /// Reading goes on after this.
    pub from: Position,
    /// What its listing said besides its name.
    pub detail: String,
    /// Every record that arrived before this time is read, by the source's clock; `None`: not
    /// known.
    pub read_to_ms: Option<i64>,
    /// How long the source keeps records; `None`: for ever, or not known.
    pub retention_ms: Option<i64>,
}

impl ShardToRead {
    /// Nothing is known of what was read before, nor of how long the source keeps records.
    pub fn new(shard: ShardId, from: Position, detail: String) -> Self {
        Self {
            shard,
            from,
            detail,
            read_to_ms: None,
            retention_ms: None,
        }
    }
}

/// Opens readers. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    aws: Aws,
    storages: Storages,
    clock: Clock,
    kinesis: kinesis::Settings,
    kinesis_shared: kinesis::Shared,
    memory: Option<memory::MemorySource>,
    files: files::FileRoom,
}

impl Sources {
    /// Reads real sources, by the wall clock.
    pub fn new(aws: Aws, storages: Storages) -> Self {
        Self {
            aws,
            storages,
            clock: system_clock(),
            kinesis: kinesis::Settings::default(),
            kinesis_shared: kinesis::Shared::default(),
            memory: None,
            files: files::FileRoom::default(),
        }
    }
    /// The time by which records arrive, milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        (self.clock)()
    }
    /// The same by another clock.
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }
    /// The same with other allowances for Kinesis.
    pub fn with_kinesis(self, kinesis: kinesis::Settings) -> Self {
        Self { kinesis, ..self }
    }
    /// The same; whole files take room there, `limit` is what an error names.
    pub fn with_file_room(self, room: Reads, limit: MemoryLimit) -> Self {
        Self {
            files: files::FileRoom::new(room, limit),
            ..self
        }
    }
    /// The same, but Kinesis is asked through these calls: for tests.
    pub fn with_stream(self, stream: Arc<dyn kinesis::Calls>) -> Self {
        Self {
            kinesis_shared: self.kinesis_shared.with_service(stream),
            ..self
        }
    }
    /// The same, but every shard is read from memory, whatever the job says: for tests.
    pub fn with_memory(self, memory: memory::MemorySource) -> Self {
        Self {
            memory: Some(memory),
            ..self
        }
    }

    /// Opens one shard of a job. Asks no service yet, except for a role's credentials.
    pub async fn open(
        &self,
        job: &ResolvedJob,
        shard: &ShardToRead,
    ) -> Result<Box<dyn ShardReader>, ReadError> {
        self.open_for(job, shard, Reading::Live).await
    }

    /// The same for reading a range again: the reader waits for what those of [`Self::open`] leave
    /// of the shard.
    pub async fn open_again(
        &self,
        job: &ResolvedJob,
        shard: &ShardToRead,
    ) -> Result<Box<dyn ShardReader>, ReadError> {
        self.open_for(job, shard, Reading::Replay).await
    }

    async fn open_for(
        &self,
        job: &ResolvedJob,
        shard: &ShardToRead,
        reading: Reading,
    ) -> Result<Box<dyn ShardReader>, ReadError> {
        if let Some(letters) = DeadLetterShard::parse(&shard.shard) {
            let reader = dead_letters::DeadLetterReader::open(
                job,
                shard,
                letters,
                &self.storages,
                self.clock.clone(),
            );
            return Ok(Box::new(reader));
        }
        if let Some(memory) = &self.memory {
            return Ok(Box::new(memory.reader(&shard.shard, &shard.from)));
        }
        Ok(match &job.spec.source.kind {
            SourceKind::Generator { .. } => Box::new(generator::GeneratorReader::open(
                job,
                &shard.shard,
                &shard.from,
                self.clock.clone(),
            )?),
            SourceKind::Files { .. } => Box::new(
                files::FileReader::open(job, shard, &self.storages, self.clock.clone())?
                    .with_room(self.files.clone()),
            ),
            SourceKind::Kinesis { .. } => {
                let aws = &self.aws;
                let clock = self.clock.clone();
                let shared = &self.kinesis_shared;
                Box::new(
                    kinesis::KinesisReader::open(
                        job,
                        shard,
                        reading,
                        aws,
                        clock,
                        self.kinesis,
                        shared,
                    )
                    .await?,
                )
            }
        })
    }
}
