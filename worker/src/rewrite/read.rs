//! One data file, row group by row group.
//!
//! Owns: which bytes are read. Does not own: columns.
//! Rule: the footer and one row group are in memory, never the file.

use super::RewriteError;
use arrow::datatypes::SchemaRef;
use bytes::buf::Reader;
use bytes::{Buf as _, Bytes};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{FooterTail, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::{ChunkReader, Length};
use std::ops::Range;
use std::sync::Arc;
use streamctl_engine::query::BATCH_ROWS;
use streamctl_engine::storage::{Storage, Storages};
use streamctl_proto::rewrite::RewriteInput;

/// The end of a file that is read first: all of it, if it is small.
const TAIL_BYTES: u64 = 256 << 10;
/// Largest footer that is read.
const FOOTER_BYTES_MAX: u64 = 32 << 20;
/// Its length and the magic number.
const FOOTER_END_BYTES: u64 = 8;

/// A file whose footer is known.
pub(super) struct OpenFile {
    storage: Arc<dyn Storage>,
    location: String,
    tail: Stretch,
    metadata: ArrowReaderMetadata,
}

impl OpenFile {
    pub async fn open(storages: &Storages, input: &RewriteInput) -> Result<Self, RewriteError> {
        let RewriteInput { location, size, .. } = input;
        let storage = storages.for_location(location);
        let differs = |reason: String| RewriteError::Differs {
            location: location.clone(),
            reason,
        };
        let read = |length: u64| {
            let storage = &storage;
            async move {
                let bytes = storage.get_range(location, size - length, length).await?;
                Ok::<_, RewriteError>(bytes)
            }
        };
        let parquet = |source: ParquetError| RewriteError::Parquet {
            location: location.clone(),
            source,
        };
        let mut tail = read((*size).min(TAIL_BYTES)).await?;
        let Some(end) = tail.last_chunk() else {
            return Err(differs(format!("it has {size} bytes")));
        };
        let footer = FooterTail::try_new(end).map_err(parquet)?;
        let needed = (footer.metadata_length() as u64).saturating_add(FOOTER_END_BYTES);
        if needed > (*size).min(FOOTER_BYTES_MAX) || footer.is_encrypted_footer() {
            return Err(differs(format!("its footer has {needed} bytes")));
        }
        if needed > tail.len() as u64 {
            tail = read(needed).await?;
        }
        let at = |offset: u64| tail.len() - usize::try_from(offset).unwrap_or(tail.len());
        let footer = &tail[at(needed)..at(FOOTER_END_BYTES)];
        let metadata = ParquetMetaDataReader::decode_metadata(footer).map_err(parquet)?;
        let options = ArrowReaderOptions::default();
        let metadata =
            ArrowReaderMetadata::try_new(Arc::new(metadata), options).map_err(parquet)?;
        let start = size - tail.len() as u64;
        Ok(Self {
            location: location.clone(),
            tail: Stretch {
                start,
                bytes: tail,
                file: *size,
            },
            storage,
            metadata,
        })
    }

    pub fn location(&self) -> &str {
        &self.location
    }

    pub fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    pub fn row_groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// The bytes that a row group takes in memory, unpacked.
    pub fn group_bytes(&self, group: usize) -> u64 {
        let group = self.metadata.metadata().row_group(group);
        let unpacked = u64::try_from(group.total_byte_size()).unwrap_or(u64::MAX);
        let range = range(group);
        unpacked.max(range.end.saturating_sub(range.start))
    }

    /// The rows of a row group.
    pub async fn group(&self, group: usize) -> Result<ParquetRecordBatchReader, RewriteError> {
        let Range { start, end } = range(self.metadata.metadata().row_group(group));
        if end > self.tail.file || start > end {
            return Err(RewriteError::Differs {
                location: self.location.clone(),
                reason: "a row group lies beyond its end".to_owned(),
            });
        }
        let stretch = if start >= self.tail.start {
            self.tail.clone()
        } else {
            let read = self.storage.get_range(&self.location, start, end - start);
            Stretch {
                start,
                bytes: read.await?,
                file: self.tail.file,
            }
        };
        let metadata = self.metadata.clone();
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(stretch, metadata)
            .with_row_groups(vec![group])
            .with_batch_size(BATCH_ROWS)
            .build();
        reader.map_err(|source| RewriteError::Parquet {
            location: self.location.clone(),
            source,
        })
    }
}

/// Where the columns of a row group are in the file.
fn range(group: &RowGroupMetaData) -> Range<u64> {
    let chunks = group.columns().iter().map(|chunk| {
        let (start, length) = chunk.byte_range();
        start..start.saturating_add(length)
    });
    let all = chunks.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
    all.unwrap_or_default()
}

/// Some bytes of a file.
#[derive(Clone)]
struct Stretch {
    start: u64,
    bytes: Bytes,
    /// The size of the file.
    file: u64,
}

impl Stretch {
    fn from(&self, start: u64) -> Result<Bytes, ParquetError> {
        let offset = start.checked_sub(self.start);
        let offset = offset.and_then(|offset| usize::try_from(offset).ok());
        match offset.filter(|offset| *offset <= self.bytes.len()) {
            Some(offset) => Ok(self.bytes.slice(offset..)),
            None => Err(ParquetError::General(format!(
                "the bytes from {start} on are outside of the row group"
            ))),
        }
    }
}

impl Length for Stretch {
    fn len(&self) -> u64 {
        self.file
    }
}

impl ChunkReader for Stretch {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.from(start)?;
        if length > bytes.len() {
            let reason = format!("{length} bytes from {start} on are more than the row group has");
            return Err(ParquetError::General(reason));
        }
        Ok(bytes.slice(..length))
    }
}
