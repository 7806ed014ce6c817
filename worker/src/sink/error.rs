//! Why rows cannot be staged.

use crate::memory::mib;
use arrow::error::ArrowError;
use parquet::errors::ParquetError;
use streamctl_engine::storage::StorageError;

/// Rows could not be staged.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Splitting rows by folder failed.
    #[error("rows cannot be split into partitions")]
    Split(#[source] ArrowError),
    /// Each value would be an object.
    #[error(
        "one window has more than {limit} partitions; partition by columns with fewer values, or \
         by the hour and coarser only"
    )]
    TooManyPartitions {
        /// The most folders of one window.
        limit: usize,
    },
    /// A partition column that the query does not return.
    #[error("the result has no column {column} to partition by; it has {}", columns.join(", "))]
    UnknownColumn {
        column: String,
        columns: Vec<String>,
    },
    /// An open object with this many columns would take more memory than there is, however few its
    /// rows.
    #[error(
        "an object of {columns} columns takes {} while it is written, and the worker's \
         --memory-limit leaves {} to it",
        mib(*needed as u64), mib(*most as u64)
    )]
    TooWide {
        /// Columns of the result, without partition columns.
        columns: usize,
        /// Bytes.
        needed: usize,
        /// The most that the sink of one window could have.
        most: usize,
    },
    #[error("every column of the result is a partition; leave at least one to be written")]
    NoColumns,
    /// A published object does not hold the rows that it had.
    #[error("{location} cannot be read back: {reason}")]
    ReadBack { location: String, reason: String },
    /// The job's table is not as this build stores it.
    #[error("rows cannot be written into the job's table: {0}")]
    Table(String),
}

/// Rows cannot be written in the sink's format.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("rows cannot be written")]
    Arrow(#[from] ArrowError),
    #[error("rows cannot be written as parquet")]
    Parquet(#[from] ParquetError),
    #[error("rows cannot be compressed")]
    Compress(#[from] std::io::Error),
}
