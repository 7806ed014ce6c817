//! Rows into the bytes of one object.
//!
//! Owns: formats, the memory of an open object. Does not own: the destination of the bytes
//! (`object`), when an object is full, how much memory there is.
//! Rule: bytes are returned as soon as they are final. The memory of the rest is known
//! ([`Encoder::memory`]), and an unfinished row group can be written early ([`Encoder::release`]),
//! so that the caller can bound memory.

use super::EncodeError;
use super::encoding::Encoding;
use super::parquet_file::ParquetFile;
use crate::sink::Compressed;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::file::metadata::ParquetMetaData;
use streamctl_engine::written::{TextForm, csv, json};
use streamctl_proto::spec::SinkFormat;

/// An object that takes no more than this is never refused: the smallest memory limit leaves this
/// much to each sink.
pub(crate) const OBJECT_BYTES_ALWAYS: usize = 4 << 20;

/// Without dictionaries, where an open object would take more than half of `bytes` with them.
pub(crate) fn sparing(encoding: Encoding, schema: &SchemaRef, bytes: usize) -> Encoding {
    Encoding {
        dictionaries: least(encoding, schema) <= bytes / 2,
        ..encoding
    }
}

/// Memory that an open object with a row of this schema takes, at least.
pub(crate) fn least(encoding: Encoding, schema: &SchemaRef) -> usize {
    match encoding.format {
        SinkFormat::Parquet => ParquetFile::least(encoding, schema),
        SinkFormat::Json | SinkFormat::Csv => Compressed::memory_of(encoding.compression),
    }
}

/// The end of an object.
pub(crate) struct Encoded {
    /// The last bytes.
    pub last: Bytes,
    /// Of Parquet.
    pub footer: Option<ParquetMetaData>,
}

pub(crate) enum Encoder {
    Parquet(Box<ParquetFile>),
    Json(Compressed, TextForm),
    Csv {
        out: Compressed,
        header: bool,
        text: TextForm,
    },
}

impl Encoder {
    /// For rows of this schema.
    pub fn new(encoding: Encoding, schema: &SchemaRef) -> Result<Self, EncodeError> {
        Ok(match encoding.format {
            SinkFormat::Parquet => Self::Parquet(Box::new(ParquetFile::new(encoding, schema)?)),
            SinkFormat::Json => Self::Json(Compressed::new(encoding.compression)?, encoding.text),
            SinkFormat::Csv => Self::Csv {
                out: Compressed::new(encoding.compression)?,
                header: true,
                text: encoding.text,
            },
        })
    }

    /// Adds rows; returns the bytes that are final.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<Bytes, EncodeError> {
        match self {
            Self::Parquet(parquet) => Ok(parquet.encode(batch)?),
            Self::Json(out, text) => {
                json::write_lines(batch, *text, false, &mut *out)?;
                Ok(out.take())
            }
            Self::Csv { out, header, text } => {
                let first = std::mem::take(header);
                csv::write_rows(batch, *text, first, &mut *out)?;
                Ok(out.take())
            }
        }
    }

    /// Bytes that were added but not returned yet: an estimate of their encoded size.
    pub fn held(&self) -> usize {
        match self {
            Self::Parquet(parquet) => parquet.held(),
            // A compressor holds at most one block.
            Self::Json(..) | Self::Csv { .. } => 0,
        }
    }

    /// Total memory that it takes.
    pub fn memory(&self) -> usize {
        match self {
            Self::Parquet(parquet) => parquet.memory(),
            Self::Json(out, _) | Self::Csv { out, .. } => out.memory(),
        }
    }

    /// Memory that [`Encoder::release`] would free.
    pub fn releasable(&self) -> usize {
        match self {
            Self::Parquet(parquet) => parquet.releasable(),
            Self::Json(..) | Self::Csv { .. } => 0,
        }
    }

    /// Writes what is held, at the price of a small row group.
    pub fn release(&mut self) -> Result<Bytes, EncodeError> {
        match self {
            Self::Parquet(parquet) => Ok(parquet.release()?),
            Self::Json(..) | Self::Csv { .. } => Ok(Bytes::new()),
        }
    }

    pub fn finish(self) -> Result<Encoded, EncodeError> {
        Ok(match self {
            Self::Parquet(parquet) => {
                let (last, footer) = parquet.finish()?;
                Encoded {
                    last,
                    footer: Some(footer),
                }
            }
            Self::Json(out, _) | Self::Csv { out, .. } => Encoded {
                last: out.finish()?,
                footer: None,
            },
        })
    }
}
