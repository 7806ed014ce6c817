//! Files below a folder: each is a shard, each line (or CSV row) a record.
//!
//! Owns: the reader: fetching, positions, arrival times. Cutting into records is [`lines`]', CSV is
//! [`csv_row`]'s, files that are one JSON document are [`document`]'s. The listing is [`listing`]'s.
//! Rule: a record's number is its line's (its row's) number in the file, from 1, header and blank
//! lines counted; a file is read as it was listed or not at all.

mod arrival;
mod csv_row;
mod document;
pub mod lines;
mod listing;
mod shard;
mod stamp;

pub use shard::FileShard;

use self::csv_row::Header;
use self::lines::{Line, Lines};
use self::stamp::{Stamp, Stamps};
use super::{
    Chunk, Clients, Connector, Foreign, ListError, Listing, Opening, ReadError, ReaderStats,
    Record, ShardReader, unfit,
};
use crate::clock::Clock;
use crate::memory::{MemoryLimit, ReadRoom, Reads, mib};
use crate::source::sample::{End, SampleFrom, Sampling};
use crate::storage::{RefusalCause, Storage, StorageError, Storages};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use streamctl_proto::resolved::StreamAddress;
use streamctl_proto::spec::{FilesSource, OnDataLoss, Problem, RecordFormat};
use streamctl_proto::{Position, ShardId};

/// Largest file, as stored. The stored file is held in memory while it is read; the decompressed
/// data is not.
pub const FILE_BYTES_MAX: u64 = 1 << 30;
/// Longest record, as in Kinesis. A longer record is cut off here; it does not decode and becomes a
/// dead letter.
pub const RECORD_BYTES_MAX: usize = 10 << 20;
/// Most records in one chunk.
const CHUNK_RECORDS_MAX: usize = 2_000;
/// A chunk is full at this size.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Wait between two attempts to fetch a file.
const RETRY: Duration = Duration::from_millis(900);

pub struct FileReader {
    shard: ShardId,
    file: FileShard,
    storage: Arc<dyn Storage>,
    format: RecordFormat,
    on_data_loss: OnDataLoss,
    clock: Clock,
    from: Position,
    /// `None`: records arrive when they are read.
    stamps: Option<Stamps>,
    /// The file, until the first record has its arrival time.
    bytes: Option<Bytes>,
    header: Option<Header>,
    lines: Option<Lines>,
    room: FileRoom,
    /// Room of the current file.
    held: Option<ReadRoom>,
    ended: bool,
    stats: ReaderStats,
}

/// Room for files that are held whole; none is counted by default.
#[derive(Clone, Default)]
pub struct FileRoom(Option<(Reads, MemoryLimit)>);

impl FileRoom {
    pub fn new(room: Reads, limit: MemoryLimit) -> Self {
        Self(Some((room, limit)))
    }
}

impl FileReader {
    /// Reads a file; the shard's detail is a [`FileShard`]'s. It is fetched by the first read.
    pub fn open(source: &FilesSource, opening: &Opening<'_>) -> Result<Self, ReadError> {
        let Opening {
            job,
            shard,
            readers,
            ..
        } = opening;
        let file = FileShard::from_detail(&shard.detail)
            .ok_or_else(|| unfit(&shard.shard, "the listing does not say which file"))?;
        Ok(Self {
            shard: shard.shard.clone(),
            storage: readers
                .storages
                .as_role(source.role.as_ref())
                .for_location(&file.location),
            file,
            format: source.format,
            on_data_loss: job.spec.source.on_data_loss,
            clock: readers.clock.clone(),
            from: shard.from.clone(),
            stamps: Stamps::of(source, job),
            bytes: None,
            header: None,
            lines: None,
            room: readers.files.clone(),
            held: None,
            ended: shard.from == Position::End,
            stats: ReaderStats::default(),
        })
    }

    /// Waits for room for the file.
    async fn wait_for_room(&mut self) -> Result<(), ReadError> {
        // Release the room of an earlier attempt, so that it does not wait for itself.
        self.held = None;
        let Some((room, limit)) = &self.room.0 else {
            return Ok(());
        };
        let size = usize::try_from(self.file.size).unwrap_or(usize::MAX);
        if size > room.bytes_max() {
            let needed = mib(self.file.size);
            let most = mib(room.bytes_max() as u64);
            let place = &self.file.location;
            let reason = format!(
                "{place} needs {needed}, the worker's memory limit of {limit} leaves {most} for \
                 files"
            );
            let hint =
                "start the workers with a larger --memory-limit, or split the file".to_owned();
            return Err(ReadError::TooLarge {
                shard: self.shard.clone(),
                reason,
                hint,
            });
        }
        self.held = room.room(size, false).await;
        Ok(())
    }

    fn refused(&self, reason: impl Into<String>, hint: impl Into<String>) -> ReadError {
        self.refused_by(RefusalCause::Request, reason, hint)
    }

    fn refused_by(
        &self,
        cause: RefusalCause,
        reason: impl Into<String>,
        hint: impl Into<String>,
    ) -> ReadError {
        ReadError::Refused {
            cause,
            shard: self.shard.clone(),
            reason: reason.into(),
            hint: hint.into(),
        }
    }

    /// The file's bytes, if the file is still the listed one. `None`: not available now, retry.
    async fn fetch(&mut self) -> Result<Option<Bytes>, ReadError> {
        let got = match self.storage.get(&self.file.location, FILE_BYTES_MAX).await {
            // Checked after the bytes arrive: if the file changed before or during the read, its
            // ETag differs.
            Ok(bytes) => self
                .storage
                .head(&self.file.location)
                .await
                .map(|info| (bytes, info)),
            Err(error) => Err(error),
        };
        match got {
            Ok((_, info)) if info.etag != self.file.etag => Err(self.refused(
                format!("{} has changed since it was listed", self.file.location),
                "files of a source must not change; write new data into new files and submit the \
                 job again",
            )),
            Ok((bytes, _)) => Ok(Some(bytes)),
            Err(StorageError::Unavailable { location, reason }) => {
                tracing::warn!(shard = %self.shard, location, reason, "file cannot be read now");
                tokio::time::sleep(RETRY).await;
                Ok(None)
            }
            Err(StorageError::NotFound { location }) => {
                self.lost(format!("{location} was deleted")).map(|()| None)
            }
            Err(StorageError::Refused {
                cause,
                location,
                reason,
                hint,
            }) => Err(self.refused_by(cause, format!("{location}: {reason}"), hint)),
            Err(error) => Err(self.refused(error.to_string(), "split the file")),
        }
    }

    fn lost(&mut self, detail: String) -> Result<(), ReadError> {
        match self.on_data_loss {
            OnDataLoss::Fail => Err(ReadError::DataLoss {
                shard: self.shard.clone(),
                position: self.from.clone(),
                gap: None,
                detail,
            }),
            OnDataLoss::Continue => {
                self.stats.data_losses += 1;
                self.ended = true;
                Ok(())
            }
        }
    }

    /// The next lines as records. The chunk may be empty because all its lines lie before the
    /// position.
    fn give(&mut self) -> Result<Chunk, ReadError> {
        let now_ms = (self.clock)();
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut seen = 0;
        while records.len() < CHUNK_RECORDS_MAX && bytes < CHUNK_BYTES_MAX && !self.ended {
            let Some(lines) = self.lines.as_mut() else {
                break;
            };
            match lines.next_line() {
                Ok(Some(line)) => {
                    // A blank line counts too.
                    seen += line.bytes.len() + 1;
                    bytes = bytes.max(seen / 8);
                    if let Some(record) = self.record(line, now_ms) {
                        bytes += record.data.len();
                        records.push(record);
                    }
                }
                Ok(None) => self.ended = true,
                Err(error) => {
                    let reason = format!("{} cannot be read: {error}", self.file.location);
                    return Err(self.refused(
                        reason,
                        "the file is damaged; write it again and submit the job again",
                    ));
                }
            }
        }
        if self.ended {
            self.lines = None;
            self.bytes = None;
            self.held = None;
        }
        Ok(Chunk {
            records,
            end: self.ended.then(Vec::new),
            ..Chunk::default()
        })
    }

    /// A line as a record, unless it is blank, the header, or before the position.
    fn record(&mut self, line: Line, now_ms: i64) -> Option<Record> {
        let blank = line.bytes.iter().all(u8::is_ascii_whitespace);
        if blank && !line.cut {
            return None;
        }
        let data = match (self.format, &self.header) {
            (RecordFormat::Json, _) => line.bytes,
            (RecordFormat::Csv, None) => {
                self.header = Some(Header::parse(&line.bytes));
                return None;
            }
            (RecordFormat::Csv, Some(header)) => header.to_json(line.bytes, line.cut),
        };
        // Lines before the position count too: a record without a time takes that of the record
        // before it.
        let Stamp { arrival_ms, extra } = self.stamp(&data, now_ms);
        let wanted = match &self.from {
            Position::Start => true,
            Position::Timestamp(ms) => arrival_ms >= *ms,
            Position::After { sequence, .. } => {
                sequence.to_u64().is_some_and(|last| line.number > last)
            }
            Position::End => false,
        };
        if !wanted {
            return None;
        }
        // Everything behind the first record at or after a time belongs to it too.
        if matches!(self.from, Position::Timestamp(_)) {
            self.from = Position::Start;
        }
        Some(Record {
            sequence: line.number.into(),
            sub_sequence: 0,
            arrival_ms,
            data: Bytes::from(data),
            origin: None,
            extra,
            foreign: Foreign::No,
        })
    }

    /// The arrival time of the next record.
    fn stamp(&mut self, data: &[u8], now_ms: i64) -> Stamp {
        let Some(stamps) = &mut self.stamps else {
            return Stamp {
                arrival_ms: now_ms,
                extra: None,
            };
        };
        if let Some(bytes) = self.bytes.take()
            && stamps.needs_first(data)
        {
            let is_csv = self.format == RecordFormat::Csv;
            if let Ok(lines) = Lines::open(&self.file.location, bytes, is_csv) {
                stamps.begin_at(lines, is_csv);
            }
        }
        stamps.next(data)
    }
}

#[async_trait]
impl ShardReader for FileReader {
    async fn next(&mut self) -> Result<Chunk, ReadError> {
        if self.lines.is_none() && !self.ended {
            self.wait_for_room().await?;
            let Some(bytes) = self.fetch().await? else {
                return self.give();
            };
            let quoted = self.format == RecordFormat::Csv;
            self.bytes = self.stamps.is_some().then(|| bytes.clone());
            if !quoted
                && self.from == Position::Start
                && let Some(found) = document::found(&self.file.location, bytes.clone())
            {
                let reason = format!("{} is {found}", self.file.location);
                return Err(self.refused(reason, document::HINT));
            }
            let lines = Lines::open(&self.file.location, bytes, quoted);
            let hint = "the file is damaged; write it again and submit the job again";
            self.lines = Some(
                lines.map_err(|e| self.refused(format!("{}: {e}", self.file.location), hint))?,
            );
        }
        // Large files must not keep other tasks of this thread from running.
        tokio::task::yield_now().await;
        self.give()
    }

    fn stats(&self) -> ReaderStats {
        self.stats
    }
}

#[async_trait]
impl Connector for FilesSource {
    async fn list(
        &self,
        clients: &Clients,
        _: Option<&StreamAddress>,
    ) -> Result<Listing, ListError> {
        let storages = clients.storages.as_role(self.role.as_ref());
        let shards = listing::files(&storages, &self.path).await?;
        Ok(Listing::of(shards))
    }

    async fn open(&self, opening: Opening<'_>) -> Result<Box<dyn ShardReader>, ReadError> {
        Ok(Box::new(FileReader::open(self, &opening)?))
    }

    fn check_listing(&self, listing: &Listing) -> Option<Problem> {
        if !listing.shards.is_empty() {
            return None;
        }
        let hint = "write the files first, or fix the path: a job reads those that are there when it is started, and none whose \
                    name, or a folder's, begins with _ or .";
        let message = format!("there is no file below {}", self.path);
        Some(Problem::new("source.path", message, Some(hint.into())))
    }

    async fn detail(
        &self,
        storages: &Storages,
        shard: &ShardId,
    ) -> Result<Option<String>, StorageError> {
        let location = self.path.join(shard.as_str());
        let storage = storages.as_role(self.role.as_ref());
        match storage.for_location(&location).head(&location).await {
            Ok(info) => Ok(Some(FileShard::from(info).to_detail())),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn sampling(&self, from: SampleFrom, _: usize, _: i64) -> Sampling {
        let end = match from {
            SampleFrom::Latest => End::Last,
            SampleFrom::Earliest => End::First,
        };
        Sampling::of(vec![(Position::Start, end)])
    }
}

#[cfg(test)]
mod tests;
