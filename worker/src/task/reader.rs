//! The loop that reads one shard into its task's queue.
//!
//! Rule: at most [`CHUNKS_PER_SHARD_MAX`] chunks of a shard are in memory; then the reader waits (back-pressure). The
//! first of them is always let through, because the oldest window may wait for it; further ones share a budget of the
//! worker.

use super::{Context, TaskError, shards::ShardState};
use crate::source::{Chunk, ReaderStats, ShardToRead};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Chunks of one shard that are read and not yet decoded.
pub const CHUNKS_PER_SHARD_MAX: usize = 2;
/// Bytes that a worker reads ahead: chunks that are not the first of their shard, all tasks together.
pub const READ_AHEAD_BYTES_MAX: usize = 256 << 20;
/// What one read may bring (10 MiB from Kinesis); held back while it is read.
const CHUNK_BYTES_MAX: usize = 10 << 20;
/// The budget is counted in these.
const UNIT_BYTES: usize = 1 << 10;

/// What a worker may read ahead; clones share it.
#[derive(Clone, Debug)]
pub struct ReadBudget(Arc<Semaphore>);

impl Default for ReadBudget {
    fn default() -> Self {
        Self::new(READ_AHEAD_BYTES_MAX)
    }
}

impl ReadBudget {
    /// Of so many bytes; less than one chunk's means that no shard reads ahead.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / UNIT_BYTES)))
    }
}

/// Room that a chunk takes until its last record is decoded.
#[derive(Debug)]
pub struct Room {
    _slot: OwnedSemaphorePermit,
    ahead: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Gives back what a chunk of so many bytes does not need.
    fn shrink(&mut self, bytes: usize) {
        let Some(ahead) = &mut self.ahead else { return };
        let spare = ahead.num_permits().saturating_sub(bytes.div_ceil(UNIT_BYTES));
        drop(ahead.split(spare));
    }

    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("it has one");
        Self { _slot: slot, ahead: None }
    }
}

/// The places of one shard.
struct Slots {
    first: Arc<Semaphore>,
    ahead: Arc<Semaphore>,
    budget: ReadBudget,
}

impl Slots {
    fn new(budget: ReadBudget) -> Self {
        let ahead = Arc::new(Semaphore::new(CHUNKS_PER_SHARD_MAX - 1));
        Self { first: Arc::new(Semaphore::new(1)), ahead, budget }
    }

    /// Waits for room. `None` is never given: nobody closes these.
    async fn room(&self) -> Option<Room> {
        let first = async {
            let slot = Arc::clone(&self.first).acquire_owned().await.ok()?;
            Some(Room { _slot: slot, ahead: None })
        };
        let further = async {
            let slot = Arc::clone(&self.ahead).acquire_owned().await.ok()?;
            let units = (CHUNK_BYTES_MAX / UNIT_BYTES) as u32;
            let ahead = Arc::clone(&self.budget.0).acquire_many_owned(units).await.ok()?;
            Some(Room { _slot: slot, ahead: Some(ahead) })
        };
        tokio::select! {
            biased;
            room = first => room,
            room = further => room,
        }
    }
}

/// What a reader gives: of which shard, what, its figures, and the room it takes.
pub type Read = Result<(usize, Chunk, ReaderStats, Room), TaskError>;

/// What to open for a shard.
pub fn to_read(shard: &ShardState) -> ShardToRead {
    ShardToRead { shard: shard.id.clone(), from: shard.at.clone(), detail: shard.detail.clone() }
}

/// Reads until the shard ends, an error, or nobody listens.
pub async fn run(
    index: usize,
    shard: ShardToRead,
    context: Arc<Context>,
    budget: ReadBudget,
    reads: mpsc::Sender<Read>,
) {
    let slots = Slots::new(budget);
    let mut reader = match context.sources.open(&context.job, &shard).await {
        Ok(reader) => reader,
        Err(error) => {
            let _over = reads.send(Err(error.into())).await;
            return;
        }
    };
    loop {
        let Some(mut room) = slots.room().await else { return };
        let read = match reader.next().await {
            Ok(chunk) => {
                room.shrink(chunk.records.iter().map(|record| record.data.len()).sum());
                Ok((index, chunk, reader.stats(), room))
            }
            Err(error) => Err(error.into()),
        };
        let last = read.as_ref().map_or(true, |(_, chunk, ..)| chunk.end.is_some());
        if reads.send(read).await.is_err() || last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn a_shard_s_first_chunk_needs_no_budget_and_its_second_waits_for_some() {
        let budget = ReadBudget::new(CHUNK_BYTES_MAX);
        let (a, b) = (Slots::new(budget.clone()), Slots::new(budget));
        let (_a1, mut a2) = (a.room().await.unwrap(), a.room().await.unwrap());
        assert!(a.room().now_or_never().is_none(), "two chunks of a shard are the most");
        let b1 = b.room().await.unwrap();
        assert!(b.room().now_or_never().is_none(), "the budget is spent");
        drop(b1);
        let _b1 = b.room().now_or_never().flatten().expect("a shard without a chunk never waits");
        a2.shrink(5 << 20);
        assert!(b.room().now_or_never().is_none(), "half a chunk's room is not enough");
        drop(a2);
        assert!(b.room().now_or_never().is_some());
    }
}
