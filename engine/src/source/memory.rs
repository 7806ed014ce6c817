//! Shards in memory: a source that tests fill, and that fails on demand.
//!
//! Owns: the fake.
//! Rule: it keeps the trait's promises (order, replay from a position, cancellation loses nothing).

use super::{Child, Chunk, Foreign, ReadError, ReaderStats, Record, ShardReader};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use streamctl_proto::{Position, ShardId};
use tokio::sync::Notify;

/// Most records in one chunk.
pub const MEMORY_RECORDS_MAX: usize = 1_000;
/// Longest wait before an empty chunk.
const WAIT_MAX: Duration = Duration::from_millis(250);

#[derive(Default)]
struct Shard {
    records: Vec<Record>,
    complete_to_ms: Option<i64>,
    end: Option<Vec<Child>>,
    failures: VecDeque<ReadError>,
    opened: Vec<Position>,
}

/// Some shards; clones share them.
#[derive(Clone, Default)]
pub struct MemorySource {
    shards: Arc<Mutex<BTreeMap<ShardId, Shard>>>,
    changed: Arc<Notify>,
}

impl MemorySource {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardId, Shard>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, shard: &ShardId, with: impl FnOnce(&mut Shard) -> T) -> T {
        let out = with(self.lock().entry(shard.clone()).or_default());
        self.changed.notify_waiters();
        out
    }

    /// Appends a record; its sequence number is the number of earlier records.
    pub fn push(&self, shard: &ShardId, arrival_ms: i64, data: impl Into<Bytes>) {
        self.push_foreign(shard, arrival_ms, data, Foreign::No);
    }

    /// The same, with what it is of an aggregate.
    pub fn push_foreign(
        &self,
        shard: &ShardId,
        arrival_ms: i64,
        data: impl Into<Bytes>,
        foreign: Foreign,
    ) {
        self.change(shard, |s| {
            let sequence = (s.records.len() as u64).into();
            s.records.push(Record {
                sequence,
                sub_sequence: 0,
                arrival_ms,
                data: data.into(),
                origin: None,
                extra: None,
                foreign,
            });
        });
    }
    /// No more records that arrived before this time will be added.
    pub fn complete_to(&self, shard: &ShardId, time_ms: i64) {
        self.change(shard, |s| s.complete_to_ms = Some(time_ms));
    }
    pub fn close(&self, shard: &ShardId, children: Vec<Child>) {
        self.change(shard, |s| s.end = Some(children));
    }
    /// Lets the next read fail.
    pub fn fail(&self, shard: &ShardId, error: ReadError) {
        self.change(shard, |s| s.failures.push_back(error));
    }
    /// The start positions of this shard's readers, in order.
    pub fn opened(&self, shard: &ShardId) -> Vec<Position> {
        self.lock()
            .get(shard)
            .map(|s| s.opened.clone())
            .unwrap_or_default()
    }
    /// Reads a shard from a position on; one that is not there yet is empty.
    pub fn reader(&self, shard: &ShardId, from: &Position) -> MemoryReader {
        self.change(shard, |s| s.opened.push(from.clone()));
        MemoryReader {
            source: self.clone(),
            shard: shard.clone(),
            from: from.clone(),
            next: None,
            reported_ms: None,
        }
    }
}

pub struct MemoryReader {
    source: MemorySource,
    shard: ShardId,
    from: Position,
    next: Option<usize>,
    reported_ms: Option<i64>,
}

impl MemoryReader {
    /// The next chunk; `None` if there is nothing new.
    fn take(&mut self) -> Result<Option<Chunk>, ReadError> {
        let mut shards = self.source.lock();
        let shard = shards.entry(self.shard.clone()).or_default();
        if let Some(error) = shard.failures.pop_front() {
            return Err(error);
        }
        let at = self
            .next
            .unwrap_or_else(|| first_index(&shard.records, &self.from))
            .min(shard.records.len());
        let to = shard.records.len().min(at + MEMORY_RECORDS_MAX);
        let records = shard.records[at..to].to_vec();
        let at_tip = to == shard.records.len();
        let complete_to_ms = shard.complete_to_ms.filter(|_| at_tip);
        let end = shard.end.clone().filter(|_| at_tip);
        // A position by time is looked up again until there is a record to continue after.
        self.next = (!records.is_empty() || self.next.is_some()).then_some(to);
        if records.is_empty() && end.is_none() && complete_to_ms == self.reported_ms {
            return Ok(None);
        }
        self.reported_ms = complete_to_ms;
        Ok(Some(Chunk {
            records,
            complete_to_ms,
            behind_ms: 0,
            end,
        }))
    }
}

fn first_index(records: &[Record], from: &Position) -> usize {
    match from {
        Position::Start => 0,
        Position::Timestamp(ms) => records
            .iter()
            .position(|r| r.arrival_ms >= *ms)
            .unwrap_or(records.len()),
        Position::After { sequence, .. } => records.partition_point(|r| r.sequence <= *sequence),
        Position::End => records.len(),
    }
}

#[async_trait]
impl ShardReader for MemoryReader {
    async fn next(&mut self) -> Result<Chunk, ReadError> {
        let changed = self.source.changed.clone();
        let deadline = tokio::time::Instant::now() + WAIT_MAX;
        loop {
            // Start listening before checking, so that no change falls between the two.
            let mut notified = std::pin::pin!(changed.notified());
            notified.as_mut().enable();
            if let Some(chunk) = self.take()? {
                return Ok(chunk);
            }
            if tokio::time::timeout_at(deadline, notified).await.is_err() {
                return Ok(Chunk {
                    complete_to_ms: self.reported_ms,
                    ..Chunk::default()
                });
            }
        }
    }

    fn stats(&self) -> ReaderStats {
        ReaderStats::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn records_come_once_in_order_and_again_from_a_position() {
        let source = MemorySource::default();
        let shard = ShardId::from("a");
        for i in 0..3 {
            source.push(&shard, i * 10, format!("{i}"));
        }
        let mut reader = source.reader(&shard, &Position::Start);
        let first = reader.next().await.unwrap().records;
        assert_eq!(first.len(), 3);
        source.push(&shard, 30, "3");
        source.close(&shard, vec![]);
        let chunk = reader.next().await.unwrap();
        assert_eq!((chunk.records.len(), chunk.end), (1, Some(vec![])));
        let again = source
            .reader(&shard, &first[0].position())
            .next()
            .await
            .unwrap()
            .records;
        assert_eq!(again[..2], first[1..]);
        let late = source
            .reader(&shard, &Position::Timestamp(15))
            .next()
            .await
            .unwrap()
            .records;
        assert_eq!(late.len(), 2);
    }

    #[tokio::test]
    async fn a_reader_fails_on_request_and_continues_afterwards() {
        let source = MemorySource::default();
        let shard = ShardId::from("a");
        source.push(&shard, 0, "x");
        let lost = ReadError::DataLoss {
            shard: shard.clone(),
            position: Position::Start,
            gap: None,
            detail: "gone".into(),
        };
        source.fail(&shard, lost);
        let mut reader = source.reader(&shard, &Position::Start);
        assert!(reader.next().await.is_err());
        assert_eq!(reader.next().await.unwrap().records.len(), 1);
    }
}
