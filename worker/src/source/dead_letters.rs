//! Reads the dead letters of a committed epoch again.
//!
//! Owns: the reader: from the shard's name to the manifest, and to the letters. Does not own: their
//! format ([`crate::dead_letter`]), which epochs are replayed and when (`controller::core`).
//! Rule: the n-th letter always has the sequence number n. Its arrival is the time of the read,
//! because the window of its first arrival is long committed.

use crate::dead_letter::read::{Letters, LettersError};
use async_trait::async_trait;
use std::time::Duration;
use streamctl_engine::clock::Clock;
use streamctl_engine::source::{Chunk, ReadError, ReaderStats, ShardReader, ShardToRead};
use streamctl_engine::storage::{RefusalCause, StorageError, Storages};
use streamctl_proto::manifest::{MANIFEST_BYTES_MAX, ManifestError};
use streamctl_proto::spec::OnDataLoss;
use streamctl_proto::{DeadLetterShard, JobName, Position, ResolvedJob, ShardId};

/// Most letters in one chunk.
const CHUNK_LETTERS_MAX: usize = 2_000;
/// A chunk is full at this size.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Wait between two attempts to fetch an object.
const RETRY: Duration = Duration::from_millis(900);

/// Reads the dead letters of one epoch.
pub struct DeadLetterReader {
    shard: ShardId,
    which: DeadLetterShard,
    job: JobName,
    manifest: String,
    storages: Storages,
    on_data_loss: OnDataLoss,
    clock: Clock,
    from: Position,
    letters: Option<Letters>,
    ended: bool,
    stats: ReaderStats,
}

/// Why there is no chunk.
enum Problem {
    Letters(LettersError),
    Manifest(ManifestError),
}

impl From<LettersError> for Problem {
    fn from(error: LettersError) -> Self {
        Self::Letters(error)
    }
}

impl DeadLetterReader {
    /// Reads `which`, named `shard`, of `job`. The first read fetches its manifest.
    pub fn open(
        job: &ResolvedJob,
        shard: &ShardToRead,
        which: DeadLetterShard,
        storages: &Storages,
        clock: Clock,
    ) -> Self {
        Self {
            shard: shard.shard.clone(),
            manifest: job
                .spec
                .checkpoint
                .join(&which.manifest_name(&job.spec.name)),
            which,
            job: job.spec.name.clone(),
            storages: storages.clone(),
            on_data_loss: job.spec.source.on_data_loss,
            clock,
            from: shard.from.clone(),
            letters: None,
            ended: shard.from == Position::End,
            stats: ReaderStats::default(),
        }
    }

    /// The letters after the position.
    async fn letters(&self) -> Result<Letters, Problem> {
        let after = match &self.from {
            Position::After { sequence, .. } => sequence.to_u64().unwrap_or(u64::MAX),
            Position::Start | Position::Timestamp(_) => 0,
            Position::End => u64::MAX,
        };
        let storage = self.storages.for_location(&self.manifest);
        let bytes = storage
            .get(&self.manifest, MANIFEST_BYTES_MAX)
            .await
            .map_err(|error| match error {
                StorageError::NotFound { location } => LettersError::Gone { location },
                error => LettersError::Storage(error),
            })?;
        let manifest = self
            .which
            .manifest(&self.job, &bytes)
            .map_err(Problem::Manifest)?;
        let objects = manifest.dead_letter_objects().cloned().collect::<Vec<_>>();
        Ok(Letters::new(
            self.storages.clone(),
            self.which.epoch(),
            objects.into_iter(),
            after,
        ))
    }

    async fn give(&mut self) -> Result<Chunk, Problem> {
        if self.letters.is_none() {
            self.letters = Some(self.letters().await?);
        }
        let Some(letters) = &mut self.letters else {
            return Ok(Chunk::default());
        };
        let given = letters.next(CHUNK_LETTERS_MAX, CHUNK_BYTES_MAX).await?;
        self.ended = letters.is_over();
        // Records that are read later arrive later.
        let now_ms = (self.clock)();
        let records = given
            .into_iter()
            .map(|letter| letter.into_record(now_ms))
            .collect();
        let end = self.ended.then(Vec::new);
        Ok(Chunk {
            records,
            complete_to_ms: Some(now_ms),
            behind_ms: 0,
            end,
        })
    }

    fn refused(&self, reason: String, hint: &str) -> ReadError {
        let cause = RefusalCause::Request;
        ReadError::Refused {
            cause,
            shard: self.shard.clone(),
            reason,
            hint: hint.to_owned(),
        }
    }

    /// Handles a problem: wait, skip what is gone, or stop.
    async fn problem(&mut self, problem: Problem) -> Result<Chunk, ReadError> {
        match problem {
            Problem::Letters(LettersError::Storage(StorageError::Unavailable {
                location,
                reason,
            })) => {
                tracing::warn!(shard = %self.shard, location, reason, "dead letters cannot be read now");
                tokio::time::sleep(RETRY).await;
                Ok(Chunk {
                    complete_to_ms: Some((self.clock)()),
                    ..Chunk::default()
                })
            }
            Problem::Letters(error @ LettersError::Gone { .. }) => self.lost(error.to_string()),
            Problem::Letters(LettersError::Storage(StorageError::Refused {
                cause,
                location,
                reason,
                hint,
            })) => {
                let reason = format!("{location}: {reason}");
                Err(ReadError::Refused {
                    cause,
                    shard: self.shard.clone(),
                    reason,
                    hint,
                })
            }
            Problem::Letters(error) => {
                Err(self.refused(error.to_string(), "put back what was committed"))
            }
            Problem::Manifest(error) => {
                Err(self.refused(error.to_string(), "put back what was committed"))
            }
        }
    }

    fn lost(&mut self, detail: String) -> Result<Chunk, ReadError> {
        match self.on_data_loss {
            OnDataLoss::Fail => {
                let hint = "put it back and submit the job again";
                Err(self.refused(
                    format!("dead letters that are to be replayed are gone: {detail}"),
                    hint,
                ))
            }
            OnDataLoss::Continue => {
                tracing::warn!(shard = %self.shard, detail, "dead letters are gone and not replayed");
                self.stats.data_losses += 1;
                self.ended = true;
                Ok(Chunk {
                    end: Some(vec![]),
                    ..Chunk::default()
                })
            }
        }
    }
}

#[async_trait]
impl ShardReader for DeadLetterReader {
    async fn next(&mut self) -> Result<Chunk, ReadError> {
        if self.ended {
            return Ok(Chunk {
                end: Some(vec![]),
                ..Chunk::default()
            });
        }
        // Large objects must not keep other tasks of this thread from running.
        tokio::task::yield_now().await;
        match self.give().await {
            Ok(chunk) => Ok(chunk),
            Err(problem) => self.problem(problem).await,
        }
    }

    fn stats(&self) -> ReaderStats {
        self.stats
    }
}

#[cfg(test)]
mod tests;
