//! The loop that reads one shard into its task's queue.
//!
//! Rule: at most [`CHUNKS_PER_SHARD_MAX`] chunks of a shard are in memory; then the reader waits (back-pressure).

use super::{Context, TaskError, shards::ShardState};
use crate::source::{Chunk, ReaderStats, ShardToRead};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Chunks of one shard that are read and not yet decoded.
pub const CHUNKS_PER_SHARD_MAX: usize = 2;

/// What a reader gives: of which shard, what, its figures, and the room it takes.
pub type Read = Result<(usize, Chunk, ReaderStats, OwnedSemaphorePermit), TaskError>;

/// What to open for a shard.
pub fn to_read(shard: &ShardState) -> ShardToRead {
    ShardToRead { shard: shard.id.clone(), from: shard.at.clone(), detail: shard.detail.clone() }
}

/// Reads until the shard ends, an error, or nobody listens.
pub async fn run(index: usize, shard: ShardToRead, context: Arc<Context>, reads: mpsc::Sender<Read>) {
    let room = Arc::new(Semaphore::new(CHUNKS_PER_SHARD_MAX));
    let mut reader = match context.sources.open(&context.job, &shard).await {
        Ok(reader) => reader,
        Err(error) => {
            let _over = reads.send(Err(error.into())).await;
            return;
        }
    };
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let read = match reader.next().await {
            Ok(chunk) => Ok((index, chunk, reader.stats(), permit)),
            Err(error) => Err(error.into()),
        };
        let last = read.as_ref().map_or(true, |(_, chunk, ..)| chunk.end.is_some());
        if reads.send(read).await.is_err() || last {
            return;
        }
    }
}
