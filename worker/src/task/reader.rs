//! The loop that reads one shard into its task's queue.
//!
//! Rule: at most [`CHUNKS_PER_SHARD_MAX`] chunks of a shard are in memory, and each reserves room
//! in the worker's budget before it is read; then the reader waits (back-pressure). Chunks that
//! cannot be used yet are dropped if others wait (`park()` of the task).

use super::{Context, TaskError};
use crate::memory::{ReadRoom, Reads};
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::source::{Chunk, ReaderStats, ShardToRead, connector};
use streamctl_proto::spec::SourceKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

/// Chunks of one shard that are read but not yet decoded.
pub const CHUNKS_PER_SHARD_MAX: usize = 2;
/// Least expected size of a read; also used for the first read and if the last was long ago.
const EXPECTED_BYTES_MIN: usize = 16 << 10;
const EXPECTED_BYTES_UNKNOWN: usize = 4 << 20;
/// After this time the last read does not predict the next one.
const KNOWN_FOR: Duration = Duration::from_secs(2);
/// A shard that is this far behind returns as much as it can.
const FAR_BEHIND_MS: u64 = 5_000;

/// Room that a chunk takes until its last record is decoded.
#[derive(Debug)]
pub struct Room {
    _slot: OwnedSemaphorePermit,
    bytes: Option<ReadRoom>,
}

impl Room {
    /// Sets the room to the chunk's actual size.
    fn settle(&mut self, bytes: usize) {
        if let Some(room) = &mut self.bytes {
            room.settle(bytes);
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        let slot = Arc::new(Semaphore::new(1))
            .try_acquire_owned()
            .expect("it has one");
        Self {
            _slot: slot,
            bytes: None,
        }
    }
}

/// The places of one shard.
struct Slots {
    first: Arc<Semaphore>,
    ahead: Arc<Semaphore>,
    reads: Reads,
}

impl Slots {
    fn new(reads: Reads) -> Self {
        let ahead = Arc::new(Semaphore::new(CHUNKS_PER_SHARD_MAX - 1));
        Self {
            first: Arc::new(Semaphore::new(1)),
            ahead,
            reads,
        }
    }

    /// Waits for room for this many bytes. Never returns `None`: the semaphores are never closed.
    async fn room(&self, bytes: usize) -> Option<Room> {
        let place = |slots: &Arc<Semaphore>, ahead: bool| {
            let slots = Arc::clone(slots);
            let reads = self.reads.clone();
            async move {
                let slot = slots.acquire_owned().await.ok()?;
                Some(Room {
                    _slot: slot,
                    bytes: Some(reads.room(bytes, ahead).await?),
                })
            }
        };
        tokio::select! {
            biased;
            room = place(&self.first, false) => room,
            room = place(&self.ahead, true) => room,
        }
    }
}

/// The expected size of a shard's next read.
struct Expected {
    chunk_bytes_max: usize,
    last: Option<(Instant, usize, u64)>,
}

impl Expected {
    fn of(source: &SourceKind) -> Self {
        Self {
            chunk_bytes_max: connector(source).chunk_bytes_max(),
            last: None,
        }
    }

    fn bytes(&self, now: Instant) -> usize {
        let least = match self.last {
            Some((_, _, behind_ms)) if behind_ms > FAR_BEHIND_MS => EXPECTED_BYTES_UNKNOWN,
            Some((at, ..)) if now.duration_since(at) < KNOWN_FOR => EXPECTED_BYTES_MIN,
            _ => EXPECTED_BYTES_UNKNOWN,
        };
        let last = self.last.map_or(0, |(_, bytes, _)| bytes);
        // Twice the last one: it also returns what arrived meanwhile.
        last.saturating_mul(2).max(least).min(self.chunk_bytes_max)
    }
}

#[derive(Debug)]
pub struct Read {
    pub index: usize,
    /// Identifies the shard's reader: chunks of an earlier reader are ignored.
    pub reader: u64,
    pub chunk: Result<(Chunk, Room), TaskError>,
    pub stats: ReaderStats,
}

/// Reads until the shard ends, an error, or nobody listens.
pub async fn run(
    index: usize,
    number: u64,
    shard: ShardToRead,
    context: Arc<Context>,
    reads: mpsc::Sender<Read>,
) {
    let slots = Slots::new(context.budget.reads().clone());
    let mut expected = Expected::of(&context.job.spec.source.kind);
    let mut reader = match context.sources.open(&context.job, &shard).await {
        Ok(reader) => reader,
        Err(error) => {
            let chunk = Err(error.into());
            let stats = ReaderStats::default();
            let _over = reads
                .send(Read {
                    index,
                    reader: number,
                    chunk,
                    stats,
                })
                .await;
            return;
        }
    };
    let mut sent = None;
    loop {
        let Some(mut room) = slots.room(expected.bytes(Instant::now())).await else {
            return;
        };
        let chunk = match reader.next().await {
            Ok(chunk) => {
                let bytes = chunk.records.iter().map(|record| record.data.len()).sum();
                room.settle(bytes);
                expected.last = Some((Instant::now(), bytes, chunk.behind_ms));
                // A quiet shard costs its task nothing while nothing changes.
                let figures = (reader.stats(), chunk.behind_ms);
                if chunk.is_empty() && sent == Some(figures) {
                    continue;
                }
                sent = Some(figures);
                Ok((chunk, room))
            }
            Err(error) => Err(error.into()),
        };
        let last = chunk
            .as_ref()
            .map_or(true, |(chunk, _)| chunk.end.is_some());
        if reads
            .send(Read {
                index,
                reader: number,
                chunk,
                stats: reader.stats(),
            })
            .await
            .is_err()
            || last
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBudget;
    use futures::FutureExt;

    #[tokio::test]
    async fn a_shard_has_two_chunks_at_most_and_a_first_one_before_others_read_ahead() {
        let budget = MemoryBudget::new("128MiB".parse().unwrap());
        let most = budget.reads().bytes_max();
        let a = Slots::new(budget.reads().clone());
        let b = Slots::new(budget.reads().clone());
        let a1 = a.room(10).await.unwrap();
        let a2 = a.room(most / 2).await.unwrap();
        assert!(
            a.room(1).now_or_never().is_none(),
            "two chunks of a shard are the most"
        );
        let mut b1 = std::pin::pin!(b.room(most / 2));
        assert!(b1.as_mut().now_or_never().is_none());
        assert!(budget.is_short());
        drop(a1);
        let mut ahead = std::pin::pin!(a.room(10));
        assert!(
            ahead.as_mut().now_or_never().is_none(),
            "b's first chunk comes before it"
        );
        drop(a2);
        assert!(b1.as_mut().now_or_never().flatten().is_some());
    }

    #[test]
    fn a_read_is_expected_to_bring_what_the_last_one_did_unless_that_was_long_ago_or_far_behind() {
        let mut expected = Expected {
            chunk_bytes_max: 10 << 20,
            last: None,
        };
        let now = Instant::now();
        assert_eq!(expected.bytes(now), EXPECTED_BYTES_UNKNOWN);
        expected.last = Some((now, 100 << 10, 0));
        assert_eq!(expected.bytes(now), 200 << 10);
        assert_eq!(expected.bytes(now + KNOWN_FOR), EXPECTED_BYTES_UNKNOWN);
        expected.last = Some((now, 9 << 20, FAR_BEHIND_MS + 1));
        assert_eq!(expected.bytes(now), 10 << 20);
    }
}
