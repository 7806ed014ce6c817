//! Published objects as rows of the result.
//!
//! Owns: the trait of a kind, the rows of one object in each format. Does not own: which objects
//! ([`crate::published`]), which values a form gives back (`streamctl_engine::written::back`).
//! Rule: the rows of an object are those that were written into it, or an error.

use super::stored::STORED_LINE_BYTES_MAX;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use streamctl_engine::source::files::lines::Lines;
use streamctl_engine::written::back::lines::{CsvRows, JsonLines, LINES_MAX};
use streamctl_engine::written::back::{Back, NotExact};
use streamctl_proto::spec::SinkFormat;

/// Batches of one object.
pub type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ReadBackError>> + Send>;

/// An object does not hold rows of these columns.
#[derive(Debug, thiserror::Error)]
pub enum ReadBackError {
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    #[error(transparent)]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error(transparent)]
    Read(#[from] std::io::Error),
    #[error(transparent)]
    NotExact(#[from] NotExact),
    #[error("its first line is not that of its columns")]
    Header,
    #[error("a line is longer than {STORED_LINE_BYTES_MAX} bytes")]
    LongLine,
}

/// How a kind reads its objects back.
pub trait ReadBack: Send + Sync {
    /// # Errors
    /// The object's name does not give values back that are only there.
    fn check(&self, location: &str) -> Result<(), NotExact>;
    /// The rows of an object.
    ///
    /// # Errors
    /// It holds others.
    fn open(&self, location: &str, bytes: Bytes) -> Result<Batches, ReadBackError>;
}

/// Objects that hold all columns.
pub struct Whole(pub Back);

impl ReadBack for Whole {
    fn check(&self, _location: &str) -> Result<(), NotExact> {
        Ok(())
    }

    fn open(&self, location: &str, bytes: Bytes) -> Result<Batches, ReadBackError> {
        rows_of(&self.0, location, bytes, vec![])
    }
}

/// The rows of one object; `folder`: the values of columns that are only in its name.
pub(super) fn rows_of(
    back: &Back,
    location: &str,
    bytes: Bytes,
    folder: Vec<(usize, ArrayRef)>,
) -> Result<Batches, ReadBackError> {
    let file = match back.format() {
        SinkFormat::Parquet => {
            let file = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
            let file = file.with_batch_size(LINES_MAX).build()?;
            Box::new(file.map(|batch| Ok(batch?))) as Batches
        }
        SinkFormat::Json => {
            let lines = Lines::open(location, bytes, false)?;
            let rows = Text::Json(JsonLines::new(back)?);
            Box::new(TextRows::new(lines, rows))
        }
        SinkFormat::Csv => {
            let lines = Lines::open(location, bytes, true)?;
            let rows = Text::Csv {
                rows: CsvRows::new(back),
                header: true,
            };
            Box::new(TextRows::new(lines, rows))
        }
    };
    let back = back.clone();
    Ok(Box::new(
        file.map(move |batch| Ok(back.rows(&batch?, &folder)?)),
    ))
}

enum Text {
    Json(JsonLines),
    Csv {
        rows: CsvRows,
        /// The line of names has not come yet.
        header: bool,
    },
}

impl Text {
    fn add(&mut self, line: &[u8]) -> Result<Option<RecordBatch>, ReadBackError> {
        match self {
            Self::Json(lines) => Ok(lines.add(line)?),
            Self::Csv { rows, header } => match std::mem::take(header) {
                true if rows.is_header(line)? => Ok(None),
                true => Err(ReadBackError::Header),
                false => Ok(rows.add(line)?),
            },
        }
    }

    fn flush(&mut self) -> Result<Option<RecordBatch>, ReadBackError> {
        match self {
            Self::Json(lines) => Ok(lines.flush()?),
            Self::Csv { rows, .. } => Ok(rows.flush()?),
        }
    }
}

/// Batches of the lines of a file; ends after an error.
struct TextRows {
    lines: Option<Lines>,
    rows: Text,
}

impl TextRows {
    fn new(lines: Lines, rows: Text) -> Self {
        Self {
            lines: Some(lines.with_limit(STORED_LINE_BYTES_MAX)),
            rows,
        }
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, ReadBackError> {
        let Some(lines) = &mut self.lines else {
            return Ok(None);
        };
        while let Some(line) = lines.next_line()? {
            if line.cut {
                return Err(ReadBackError::LongLine);
            }
            if let Some(batch) = self.rows.add(&line.bytes)? {
                return Ok(Some(batch));
            }
        }
        self.lines = None;
        self.rows.flush()
    }
}

impl Iterator for TextRows {
    type Item = Result<RecordBatch, ReadBackError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.next_batch();
        if batch.is_err() {
            self.lines = None;
        }
        batch.transpose()
    }
}
