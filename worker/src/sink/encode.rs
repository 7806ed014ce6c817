//! Rows into the bytes of one object.
//!
//! Owns: formats and their settings. Does not own: where the bytes go (`object`), when an object is full.
//! Rule: bytes come out as soon as they are final; what the rest takes is known ([`Encoder::memory`]), and a row group
//! in the making can be let go of ([`Encoder::release`]), so that memory is the caller's to bound.

use super::compress::Compressed;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as ParquetCompression, GzipLevel, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use streamctl_proto::spec::{Compression, SinkFormat};

/// A row group is written when it has about this much, encoded.
const ROW_GROUP_BYTES: usize = 16 << 20;
/// What the Parquet writer takes and does not tell, as it was counted: an open file, each of its columns, each column of
/// a row group that was written, and of the one in the making.
const FILE_BYTES: usize = 10 << 10;
const FILE_COLUMN_BYTES: usize = 400;
const WRITTEN_COLUMN_BYTES: usize = 1 << 10;
const OPEN_COLUMN_BYTES: usize = 4 << 10;

/// Rows can not be written in the sink's format.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// JSON or CSV.
    #[error("rows can not be written")]
    Arrow(#[from] ArrowError),
    /// Parquet.
    #[error("rows can not be written as parquet")]
    Parquet(#[from] ParquetError),
    /// The compressor.
    #[error("rows can not be compressed")]
    Compress(#[from] std::io::Error),
}

/// One object's encoder.
pub(crate) enum Encoder {
    Parquet { writer: Box<ArrowWriter<Vec<u8>>>, columns: usize },
    Json(Compressed),
    Csv { out: Compressed, header: bool },
}

impl Encoder {
    /// For rows of this schema.
    pub fn new(format: SinkFormat, compression: Compression, schema: &SchemaRef) -> Result<Self, EncodeError> {
        Ok(match format {
            SinkFormat::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(parquet_compression(compression))
                    .set_created_by(concat!("streamctl ", env!("CARGO_PKG_VERSION")).to_owned())
                    .build();
                let writer = Box::new(ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties))?);
                Self::Parquet { writer, columns: schema.flattened_fields().len() }
            }
            SinkFormat::Json => Self::Json(Compressed::new(compression)?),
            SinkFormat::Csv => Self::Csv { out: Compressed::new(compression)?, header: true },
        })
    }

    /// Adds rows; gives the bytes that are final.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<Bytes, EncodeError> {
        match self {
            Self::Parquet { writer, .. } => {
                writer.write(batch)?;
                if writer.in_progress_size() > ROW_GROUP_BYTES {
                    writer.flush()?;
                }
                Ok(std::mem::take(writer.inner_mut()).into())
            }
            Self::Json(out) => {
                let mut lines = arrow::json::LineDelimitedWriter::new(&mut *out);
                lines.write(batch)?;
                lines.finish()?;
                Ok(out.take())
            }
            Self::Csv { out, header } => {
                let first = std::mem::take(header);
                arrow::csv::WriterBuilder::new().with_header(first).build(&mut *out).write(batch)?;
                Ok(out.take())
            }
        }
    }

    /// Bytes that were taken in and did not come out yet: an estimate of their encoded size.
    pub fn held(&self) -> usize {
        match self {
            Self::Parquet { writer, .. } => writer.in_progress_size(),
            // A compressor holds a block at most.
            Self::Json(_) | Self::Csv { .. } => 0,
        }
    }

    /// Memory that it takes, all told.
    pub fn memory(&self) -> usize {
        match self {
            Self::Parquet { writer, columns } => {
                let row_groups = writer.flushed_row_groups().len() * WRITTEN_COLUMN_BYTES;
                FILE_BYTES + columns * (FILE_COLUMN_BYTES + row_groups) + self.releasable()
            }
            Self::Json(out) | Self::Csv { out, .. } => out.memory(),
        }
    }

    /// Memory that [`Encoder::release`] would free.
    pub fn releasable(&self) -> usize {
        match self {
            Self::Parquet { writer, .. } if writer.in_progress_rows() == 0 => 0,
            Self::Parquet { writer, columns } => writer.memory_size() + columns * OPEN_COLUMN_BYTES,
            Self::Json(_) | Self::Csv { .. } => 0,
        }
    }

    /// Lets go of what is held, at the price of a small row group.
    pub fn release(&mut self) -> Result<Bytes, EncodeError> {
        match self {
            Self::Parquet { writer, .. } => {
                writer.flush()?;
                Ok(std::mem::take(writer.inner_mut()).into())
            }
            Self::Json(_) | Self::Csv { .. } => Ok(Bytes::new()),
        }
    }

    /// The last bytes.
    pub fn finish(self) -> Result<Bytes, EncodeError> {
        Ok(match self {
            Self::Parquet { writer, .. } => writer.into_inner()?.into(),
            Self::Json(out) | Self::Csv { out, .. } => out.finish()?,
        })
    }
}

fn parquet_compression(compression: Compression) -> ParquetCompression {
    match compression {
        Compression::None => ParquetCompression::UNCOMPRESSED,
        Compression::Snappy => ParquetCompression::SNAPPY,
        Compression::Gzip => ParquetCompression::GZIP(GzipLevel::default()),
        // The library's default is level 1; 3 is zstd's own, as for text formats.
        Compression::Zstd => ParquetCompression::ZSTD(ZstdLevel::try_new(3).unwrap_or_default()),
    }
}
