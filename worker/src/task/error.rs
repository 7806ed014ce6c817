//! Why a task can not go on, and what that means for the job.

use crate::decode::DecodeError;
use crate::sink::SinkError;
use crate::source::ReadError;
use streamctl_engine::catalog::CatalogError;
use streamctl_engine::lookup::LookupError;
use streamctl_engine::lookup::rows::RowsError;
use streamctl_engine::query::QueryError;
use streamctl_engine::storage::StorageError;
use streamctl_proto::v1::task_ended::Why;

/// Why a task can not go on.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The source.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The query, on some row's data or for want of memory.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The output.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// Types that can not be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A kept lookup version.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// Its rows.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// Column types.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A bug: the work of a window was cut short.
    #[error("the work on a window was cut short: {0}")]
    Panicked(String),
}

impl TaskError {
    /// Trying again will not help.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Read(_) | Self::Decode(_) | Self::Catalog(_) => true,
            Self::Sink(SinkError::Storage(StorageError::Unavailable { .. })) => false,
            Self::Sink(SinkError::Storage(StorageError::Refused { .. } | StorageError::NotFound { .. })) => true,
            Self::Query(_) | Self::Sink(_) | Self::Lookup(_) | Self::Rows(_) | Self::Panicked(_) => false,
        }
    }

    /// What it means for the job.
    pub fn why(&self) -> Why {
        match self {
            Self::Sink(SinkError::Storage(StorageError::Unavailable { .. })) => Why::Wait,
            Self::Lookup(error) if error.may_pass() => Why::Wait,
            fatal if fatal.is_fatal() => Why::Fatal,
            _ => Why::Retry,
        }
    }

    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            Self::Read(ReadError::Refused { hint, .. }) => hint.clone(),
            Self::Read(ReadError::DataLoss { .. }) => {
                "set source.on_data_loss = \"continue\" to count the loss and go on from the oldest record".into()
            }
            Self::Sink(SinkError::Storage(StorageError::Refused { hint, .. })) => hint.clone(),
            Self::Query(_) => "the job goes on from its last epoch once the query or the data is mended".into(),
            _ => "the job goes on from its last epoch once this is mended: submit it again".into(),
        }
    }

    /// The error with its causes, on one line.
    pub fn describe(&self) -> String {
        streamctl_proto::describe(self)
    }
}
