//! Opens what a task reads: the shards of its job's source, or replayed dead letters.
//!
//! Owns: which of the two a shard is. Does not own: the kinds of source
//! (`streamctl_engine::source`), windows (`task`), decoding.
//! Rule: behind [`Sources`] a replayed dead letter is read like a record of the source.

pub mod dead_letters;

use crate::memory::{MemoryLimit, Reads};
use std::sync::Arc;
use streamctl_engine::aws::Aws;
use streamctl_engine::clock::Clock;
use streamctl_engine::source::files::FileRoom;
use streamctl_engine::source::kinesis::{self, Reading};
#[cfg(any(test, feature = "test-util"))]
use streamctl_engine::source::memory::MemorySource;
use streamctl_engine::source::{Opening, ReadError, Readers, ShardReader, ShardToRead, connector};
use streamctl_engine::storage::Storages;
use streamctl_proto::{DeadLetterShard, ResolvedJob};

/// Opens readers. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    readers: Readers,
    #[cfg(any(test, feature = "test-util"))]
    memory: Option<MemorySource>,
}

impl Sources {
    /// Reads real sources, by the wall clock.
    pub fn new(aws: Aws, storages: Storages) -> Self {
        Self {
            readers: Readers::new(aws, storages),
            #[cfg(any(test, feature = "test-util"))]
            memory: None,
        }
    }

    /// The clock for arrival times, milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        (self.readers.clock)()
    }

    /// The same with another clock.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.readers.clock = clock;
        self
    }

    /// The same with other allowances for Kinesis.
    pub fn with_kinesis(mut self, kinesis: kinesis::Settings) -> Self {
        self.readers.kinesis = kinesis;
        self
    }

    /// The same; whole files take memory from `room`, and errors name `limit`.
    pub fn with_file_room(mut self, room: Reads, limit: MemoryLimit) -> Self {
        self.readers.files = FileRoom::new(room, limit);
        self
    }

    /// The same, but Kinesis is called through `stream`.
    pub fn with_stream(mut self, stream: Arc<dyn kinesis::Calls>) -> Self {
        self.readers.kinesis_shared = self.readers.kinesis_shared.with_service(stream);
        self
    }

    /// The same, but every shard is read from memory, regardless of the job.
    #[cfg(any(test, feature = "test-util"))]
    pub fn with_memory(self, memory: MemorySource) -> Self {
        Self {
            memory: Some(memory),
            ..self
        }
    }

    /// Opens one shard of a job. Sends no request to a service, except for a role's credentials.
    pub async fn open(
        &self,
        job: &ResolvedJob,
        shard: &ShardToRead,
    ) -> Result<Box<dyn ShardReader>, ReadError> {
        self.open_for(job, shard, Reading::Live).await
    }

    /// The same for reading a range again: the reader uses only the capacity that readers of
    /// [`Self::open`] leave.
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
        let readers = &self.readers;
        if let Some(letters) = DeadLetterShard::parse(&shard.shard) {
            let storages = &readers.storages;
            let clock = readers.clock.clone();
            let reader = dead_letters::DeadLetterReader::open(job, shard, letters, storages, clock);
            return Ok(Box::new(reader));
        }
        #[cfg(any(test, feature = "test-util"))]
        if let Some(memory) = &self.memory {
            return Ok(Box::new(memory.reader(&shard.shard, &shard.from)));
        }
        let opening = Opening {
            job,
            shard,
            reading,
            readers,
        };
        connector(&job.spec.source.kind).open(opening).await
    }
}
