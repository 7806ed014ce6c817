//! The workshop's sales records, computed: a shard that needs no service.
//!
//! Owns: when a record is due, the reader. The records themselves are [`record`]'s.
//! Does not own: how they are decoded.
//! Rule: the n-th record of a shard and its arrival time follow from the job alone, so reading is
//! replayable.

mod record;

pub use record::{Options, append, record};

use super::sample::{End, SampleFrom, Sampling};
use super::{
    Chunk, Clients, Connector, Foreign, ListError, ListedShard, Listing, Opening, ReadError,
    ReaderStats, Record, ShardReader, unfit,
};
use crate::clock::Clock;
use async_trait::async_trait;
use bytes::Bytes;
use std::time::Duration;
use streamctl_proto::resolved::StreamAddress;
use streamctl_proto::spec::GeneratorSource;
use streamctl_proto::{Position, ResolvedJob, ShardId};

/// Most records in one chunk: about 700 kB.
pub const GENERATE_RECORDS_MAX: u64 = 2_000;
/// Longest wait for a record before an empty chunk is given.
const WAIT_MAX: Duration = Duration::from_millis(250);
/// Shortest wait once all due records are given, so that chunks do not shrink to single records.
const GATHER: Duration = Duration::from_millis(10);
/// Bytes reserved per record.
const RECORD_BYTES_TYPICAL: usize = 400;
const SHARD_PREFIX: &str = "generator-";

/// The name of a generator's shard: `generator-0000`.
pub fn shard_name(number: u32) -> ShardId {
    ShardId::new(format!("{SHARD_PREFIX}{number:04}"))
}

/// Its number again; `None` when it is not one.
pub fn shard_number(shard: &ShardId) -> Option<u32> {
    shard.as_str().strip_prefix(SHARD_PREFIX)?.parse().ok()
}

/// The arrival times of a shard's records: record `i` at `start_ms + i * step_ms`, rounded down.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Arrival of record 0, milliseconds since the Unix epoch.
    pub start_ms: i64,
    /// Time between two records of a shard, milliseconds.
    pub step_ms: f64,
}

impl Schedule {
    /// For one of `shards` shards with `rate` records per second in total.
    pub fn new(start_ms: i64, shards: u32, rate: f64) -> Self {
        Self {
            start_ms,
            step_ms: 1000.0 * f64::from(shards) / rate,
        }
    }
    /// Arrival of the record with this index.
    pub fn arrival_ms(&self, index: u64) -> i64 {
        self.start_ms
            .saturating_add((index as f64 * self.step_ms) as i64)
    }
    /// How many records arrive before `time_ms`.
    pub fn count_before(&self, time_ms: i64) -> u64 {
        let mut low = 0u64;
        let mut high =
            ((time_ms.saturating_sub(self.start_ms)).max(0) as f64 / self.step_ms) as u64 + 2;
        while low < high {
            let middle = low + (high - low) / 2;
            if self.arrival_ms(middle) < time_ms {
                low = middle + 1
            } else {
                high = middle
            }
        }
        low
    }
}

/// The time at which a job's generator starts: its pinned start, else its submit.
fn schedule_of(source: &GeneratorSource, job: &ResolvedJob) -> Schedule {
    let start_ms = match job.start {
        Position::Timestamp(ms) => ms,
        _ => job.submitted_ms,
    };
    Schedule::new(start_ms, source.shards, source.rate)
}

pub struct GeneratorReader {
    seed: u64,
    shard: u32,
    options: Options,
    schedule: Schedule,
    clock: Clock,
    next: u64,
    count: u64,
    caught_up: bool,
}

impl GeneratorReader {
    pub fn open(source: &GeneratorSource, opening: &Opening<'_>) -> Result<Self, ReadError> {
        let shard = &opening.shard.shard;
        let refused = |reason: &str| unfit(shard, reason);
        let number =
            shard_number(shard).ok_or_else(|| refused("this is not a generator's shard"))?;
        let schedule = schedule_of(source, opening.job);
        let count = source.records_per_shard.unwrap_or(u64::MAX);
        let next = match &opening.shard.from {
            Position::Start => 0,
            Position::Timestamp(ms) => schedule.count_before(*ms).min(count),
            Position::After { sequence, .. } => {
                let last = sequence
                    .to_u64()
                    .ok_or_else(|| refused("the position is not a record's number"))?;
                last.saturating_add(1)
            }
            Position::End => count,
        };
        let options = Options {
            bad_every: source.bad_every,
            unmatched_every: source.unmatched_every,
        };
        Ok(Self {
            seed: source.seed,
            shard: number,
            options,
            schedule,
            clock: opening.readers.clock.clone(),
            next,
            count,
            caught_up: false,
        })
    }

    fn ended(&self) -> bool {
        self.next >= self.count
    }

    /// Waits for the next record, not for longer than [`WAIT_MAX`].
    async fn wait(&self) {
        let due_in = self
            .schedule
            .arrival_ms(self.next)
            .saturating_sub((self.clock)());
        if self.caught_up || due_in > 0 {
            let wait = Duration::from_millis(u64::try_from(due_in).unwrap_or(0));
            tokio::time::sleep(wait.clamp(GATHER, WAIT_MAX)).await;
        }
    }

    fn give(&mut self) -> Chunk {
        let now_ms = (self.clock)();
        let due = self
            .schedule
            .count_before(now_ms.saturating_add(1))
            .min(self.count);
        let to = due
            .min(self.next.saturating_add(GENERATE_RECORDS_MAX))
            .max(self.next);
        let records = self.records(self.next..to);
        self.next = to;
        let next_ms = self.schedule.arrival_ms(self.next);
        self.caught_up = next_ms > now_ms;
        let behind_ms = if self.ended() {
            0
        } else {
            now_ms.saturating_sub(next_ms).max(0).unsigned_abs()
        };
        let end = self.ended().then(Vec::new);
        Chunk {
            records,
            complete_to_ms: Some(now_ms.min(next_ms)),
            behind_ms,
            end,
        }
    }

    /// All payloads of a chunk share one allocation.
    fn records(&self, range: std::ops::Range<u64>) -> Vec<Record> {
        let count = usize::try_from(range.end - range.start).unwrap_or(0);
        let mut bytes = Vec::with_capacity(count * RECORD_BYTES_TYPICAL);
        let mut ends = Vec::with_capacity(count);
        for index in range.clone() {
            append(self.seed, self.shard, index, self.options, &mut bytes);
            ends.push(bytes.len());
        }
        let bytes = Bytes::from(bytes);
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let record = |((index, start), end): ((u64, usize), usize)| Record {
            sequence: index.into(),
            sub_sequence: 0,
            arrival_ms: self.schedule.arrival_ms(index),
            data: bytes.slice(start..end),
            origin: None,
            extra: None,
            foreign: Foreign::No,
        };
        range
            .zip(starts)
            .zip(ends.iter().copied())
            .map(record)
            .collect()
    }
}

#[async_trait]
impl ShardReader for GeneratorReader {
    async fn next(&mut self) -> Result<Chunk, ReadError> {
        if !self.ended() {
            self.wait().await;
        }
        Ok(self.give())
    }

    fn stats(&self) -> ReaderStats {
        ReaderStats::default()
    }
}

#[async_trait]
impl Connector for GeneratorSource {
    async fn list(&self, _: &Clients, _: Option<&StreamAddress>) -> Result<Listing, ListError> {
        let shard = |number| ListedShard {
            id: shard_name(number),
            parents: Vec::new(),
            detail: String::new(),
            closed: false,
        };
        Ok(Listing::of((0..self.shards).map(shard).collect()))
    }

    async fn open(&self, opening: Opening<'_>) -> Result<Box<dyn ShardReader>, ReadError> {
        Ok(Box::new(GeneratorReader::open(self, &opening)?))
    }

    /// Starts the generator far enough in the past that the sample's records are already due.
    fn sampling(&self, _: SampleFrom, wanted: usize, now_ms: i64) -> Sampling {
        let ago_ms = (wanted as f64 * 1_000.0 / self.rate) as i64 + 1_000;
        Sampling {
            start: Some(Position::Timestamp(now_ms.saturating_sub(ago_ms))),
            reads: vec![(Position::Start, End::First)],
        }
    }
}

#[cfg(test)]
mod tests;
