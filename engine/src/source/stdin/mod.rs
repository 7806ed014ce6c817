//! `type = "stdin"`: the standard input of the process, one shard of lines.
//!
//! Owns: the reader, which input a shard is of. Does not own: keeping what was read ([`spool`]).
//! Rule: a line's number is its sequence number, from 1; a position counts only for the input that
//! it was made of.

mod spool;

use self::spool::{Piece, Spool, SpoolError};
use super::files::RECORD_BYTES_MAX;
use super::{
    Chunk, Clients, Connector, Foreign, ListError, ListedShard, Listing, Opening, ReadError,
    ReaderStats, Record, ShardReader,
};
use crate::clock::Clock;
use crate::storage::RefusalCause;
use async_trait::async_trait;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use streamctl_proto::manifest::TimeGap;
use streamctl_proto::resolved::StreamAddress;
use streamctl_proto::spec::{OnDataLoss, StdinSource};
use streamctl_proto::{Position, ShardId};

/// What is kept of a line that is too long: more than a record and a carriage return, so that no
/// format takes it for a whole one.
const LINE_BYTES_MAX: usize = RECORD_BYTES_MAX + 2;
/// Longest wait for a line before an empty chunk is given.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// The standard input of this process. A pipe into another process has another name, so that a
/// position in one is never taken for a position in the other.
struct Input {
    shard: ShardId,
    spool: OnceLock<Result<Arc<Spool>, Arc<SpoolError>>>,
}

fn input() -> &'static Input {
    static INPUT: OnceLock<Input> = OnceLock::new();
    INPUT.get_or_init(|| Input {
        shard: ShardId::new(format!("stdin-{:016x}", fastrand::u64(..))),
        spool: OnceLock::new(),
    })
}

impl Input {
    /// Begins to read the input with the first reader.
    fn spool(&self) -> Result<Arc<Spool>, Arc<SpoolError>> {
        let open = || Spool::new(io::stdin()).map(Arc::new).map_err(Arc::new);
        self.spool.get_or_init(open).clone()
    }
}

/// Reads the lines of one input.
struct StdinReader {
    shard: ShardId,
    from: Position,
    /// None: the input of a process that has ended; there is nothing left of it.
    spool: Option<Arc<Spool>>,
    on_data_loss: OnDataLoss,
    /// Up to here all records are read, milliseconds since the Unix epoch.
    read_to_ms: i64,
    clock: Clock,
    /// In the input, of the next byte.
    offset: u64,
    /// Of the last line that was taken.
    number: u64,
    /// What was read of the next line.
    line: Vec<u8>,
    is_over: bool,
    stats: ReaderStats,
}

impl StdinReader {
    fn new(spool: Option<Arc<Spool>>, opening: &Opening<'_>) -> Self {
        Self {
            shard: opening.shard.shard.clone(),
            from: opening.shard.from.clone(),
            spool,
            on_data_loss: opening.job.spec.source.on_data_loss,
            read_to_ms: opening.shard.read_to_ms.unwrap_or(opening.job.submitted_ms),
            clock: opening.readers.clock.clone(),
            offset: 0,
            number: 0,
            line: Vec::new(),
            is_over: opening.shard.from == Position::End,
            stats: ReaderStats::default(),
        }
    }

    /// The input is gone with the process that read it.
    fn lost(&mut self) -> Result<Chunk, ReadError> {
        let detail = "it is the standard input of an earlier run, and a pipe cannot be read twice"
            .to_owned();
        // Whatever it still held came after what was read, and before now.
        let gap = TimeGap {
            from_ms: self.read_to_ms,
            to_ms: (self.clock)(),
        };
        match self.on_data_loss {
            OnDataLoss::Fail => Err(ReadError::DataLoss {
                shard: self.shard.clone(),
                position: self.from.clone(),
                gap: Some(gap),
                detail,
            }),
            OnDataLoss::Continue => {
                self.stats.data_losses += 1;
                self.stats.lost = Some(gap);
                Ok(self.end())
            }
        }
    }

    fn end(&mut self) -> Chunk {
        self.is_over = true;
        Chunk {
            end: Some(Vec::new()),
            ..Chunk::default()
        }
    }

    /// The lines that these bytes complete.
    fn take(&mut self, bytes: &[u8]) -> Vec<Record> {
        self.offset += bytes.len() as u64;
        let mut records = Vec::new();
        let mut parts = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            let room = LINE_BYTES_MAX - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if parts.peek().is_some() {
                records.extend(self.record());
            }
        }
        records
    }

    /// The line that has ended as a record, unless it is empty or before the position.
    fn record(&mut self) -> Option<Record> {
        self.number += 1;
        let mut data = std::mem::take(&mut self.line);
        // Of a line that was cut off, the last byte is no line end.
        if data.len() < LINE_BYTES_MAX && data.last() == Some(&b'\r') {
            data.pop();
        }
        let is_before = match &self.from {
            Position::After { sequence, .. } => {
                sequence.to_u64().is_none_or(|last| self.number <= last)
            }
            Position::Start | Position::Timestamp(_) => false,
            Position::End => true,
        };
        (!data.is_empty() && !is_before).then(|| Record {
            sequence: self.number.into(),
            sub_sequence: 0,
            arrival_ms: (self.clock)(),
            data: data.into(),
            origin: None,
            extra: None,
            foreign: Foreign::No,
        })
    }
}

fn refused(shard: &ShardId, error: &SpoolError) -> ReadError {
    let (cause, hint) = match error {
        SpoolError::Input(_) => (
            RefusalCause::Request,
            "what was read before is kept or published; pipe the rest into a job of another name",
        ),
        SpoolError::Keep { .. } => (
            RefusalCause::Environment,
            "free some space there, or let TMPDIR name another folder",
        ),
    };
    ReadError::Refused {
        cause,
        shard: shard.clone(),
        reason: error.to_string(),
        hint: hint.to_owned(),
    }
}

#[async_trait]
impl ShardReader for StdinReader {
    async fn next(&mut self) -> Result<Chunk, ReadError> {
        if self.is_over {
            return Ok(self.end());
        }
        let Some(spool) = self.spool.clone() else {
            return self.lost();
        };
        // The only place to wait at: what comes after it happens whole or not at all.
        let piece = spool.read(self.offset, WAIT_MAX).await;
        let mut chunk = Chunk::default();
        match piece.map_err(|error| refused(&self.shard, &error))? {
            Piece::Bytes(bytes) => chunk.records = self.take(&bytes),
            Piece::Nothing => chunk.complete_to_ms = Some((self.clock)()),
            Piece::End => {
                if !self.line.is_empty() {
                    chunk.records.extend(self.record());
                }
                self.is_over = true;
                chunk.end = Some(Vec::new());
            }
        }
        Ok(chunk)
    }

    fn stats(&self) -> ReaderStats {
        self.stats
    }
}

#[async_trait]
impl Connector for StdinSource {
    async fn list(
        &self,
        clients: &Clients,
        _: Option<&StreamAddress>,
    ) -> Result<Listing, ListError> {
        if !clients.is_local {
            return Err(ListError::request(
                "type = \"stdin\" reads the standard input of one process and cannot read it again, and a cluster's \
                 workers come and go",
                "run the job with `streamctl run`, or write the lines to files or a stream",
            ));
        }
        Ok(Listing::of(vec![ListedShard {
            id: input().shard.clone(),
            parents: Vec::new(),
            detail: String::new(),
            closed: false,
        }]))
    }

    async fn open(&self, opening: Opening<'_>) -> Result<Box<dyn ShardReader>, ReadError> {
        let input = input();
        let spool = match opening.shard.shard == input.shard {
            false => None,
            true => {
                let spool = input.spool();
                Some(spool.map_err(|error| refused(&input.shard, &error))?)
            }
        };
        Ok(Box::new(StdinReader::new(spool, &opening)))
    }
}

#[cfg(test)]
mod tests;
