//! Why a task cannot continue, and the consequence for the job.

use crate::functions::FunctionsError;
use crate::memory::{MemoryLimit, mib};
use crate::registry::Ending;
use crate::registry::ReportError;
use crate::sink::SinkError;
use streamctl_engine::catalog::CatalogError;
use streamctl_engine::format::DecodeError;
use streamctl_engine::lookup::LookupError;
use streamctl_engine::lookup::rows::RowsError;
use streamctl_engine::query::QueryError;
use streamctl_engine::source::ReadError;
use streamctl_engine::storage::{RefusalCause, StorageError};
use streamctl_proto::v1::task_ended::{Place, Why};

/// Why a task cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An error of the query, on some row's data or for lack of memory.
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// Types that cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// There is no room for a lookup.
    #[error(
        "lookup {lookup} needs {} to be loaded, the worker's memory limit of {limit} leaves {} \
         for lookups and queries, of which {} are free",
        mib(*needed as u64), mib(*most as u64), mib(*free as u64)
    )]
    LookupMemory {
        lookup: String,
        /// Bytes.
        needed: usize,
        /// The most that it could have.
        most: usize,
        free: usize,
        limit: MemoryLimit,
    },
    /// An unpacked payload for which there can never be enough room.
    #[error("a compressed payload has more than {} unpacked; that is what the worker's memory limit of {limit} leaves for one", mib(*most as u64))]
    UnpackMemory {
        /// The most that one may have here.
        most: usize,
        limit: MemoryLimit,
    },
    /// The query would have had enough memory if others had not held it.
    #[error("the query found no memory: {0}; other windows of this worker hold it")]
    QueryWaits(String),
    /// The job's function failed, or cannot be run here.
    #[error(transparent)]
    Function(Box<FunctionsError>),
    /// An epoch of a function whose result may differ each time.
    #[error("the epoch cannot be computed again: its function is not deterministic")]
    NotRepeatable,
    #[error(transparent)]
    Rows(#[from] RowsError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// No reader takes the rows of a replay.
    #[error("nobody took its rows for {0:?}")]
    ReaderIdle(std::time::Duration),
    /// Above `max_bad_share`.
    #[error(
        "the query cannot take {bad} of {records} records of a window, transform.max_bad_share is \
         {max_bad_share}; the first is {example}"
    )]
    TooManyFailed {
        bad: u64,
        records: u64,
        max_bad_share: String,
        /// A record, with its reason.
        example: String,
    },
    /// The work on a window cannot be reported.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A bug: the work of a window was cut short.
    #[error("the work on a window was cut short: {0}")]
    Panicked(String),
}

impl From<FunctionsError> for TaskError {
    fn from(error: FunctionsError) -> Self {
        Self::Function(Box::new(error))
    }
}

impl TaskError {
    /// How a task ends that failed with it.
    pub fn ending(&self) -> Ending {
        Ending {
            why: self.why(),
            refused_by: self.refused_by(),
            error: self.describe(),
            hint: self.hint(),
        }
    }

    /// Which place refused this worker, where another worker, or this one later, may be served.
    pub fn refused_by(&self) -> Option<Place> {
        match self {
            Self::Read(ReadError::Refused {
                cause: RefusalCause::Environment,
                ..
            }) => Some(Place::Source),
            Self::Sink(SinkError::Storage(error)) if is_refusal(error) => Some(Place::Sink),
            Self::Read(ReadError::TooLarge { .. })
            | Self::UnpackMemory { .. }
            | Self::Sink(SinkError::TooWide { .. }) => Some(Place::Memory),
            Self::LookupMemory { needed, most, .. } if needed > most => Some(Place::Memory),
            Self::Function(error) if error.is_of_this_worker() => Some(Place::Functions),
            Self::Lookup(LookupError::Storage { source, .. }) if is_refusal(source) => {
                Some(Place::Checkpoint)
            }
            // A worker that does not see the folder finds nothing in it.
            Self::Lookup(LookupError::NotKept { .. }) => Some(Place::Checkpoint),
            _ => None,
        }
    }

    /// A retry does not help.
    pub fn is_fatal(&self) -> bool {
        match self {
            refused if refused.refused_by().is_some() => false,
            Self::Read(_) | Self::Decode(_) | Self::Catalog(_) | Self::TooManyFailed { .. } => true,
            Self::Sink(SinkError::Storage(StorageError::Refused { .. })) => true,
            Self::Sink(SinkError::Storage(_)) => false,
            Self::LookupMemory { .. } | Self::UnpackMemory { .. } | Self::QueryWaits(_) => false,
            Self::Query(_)
            | Self::Sink(_)
            | Self::Lookup(_)
            | Self::Rows(_)
            | Self::Function(_)
            | Self::NotRepeatable
            | Self::Panicked(_) => false,
            Self::ReaderIdle(_) | Self::Report(_) => false,
        }
    }

    /// The consequence for the job.
    pub fn why(&self) -> Why {
        match self {
            Self::Sink(SinkError::Storage(StorageError::Unavailable { .. })) => Why::Wait,
            Self::Lookup(error) if error.may_pass() => Why::Wait,
            Self::LookupMemory { needed, most, .. } if needed <= most => Why::Wait,
            Self::QueryWaits(_) | Self::Query(QueryError::Busy) => Why::Wait,
            Self::Function(error) if error.may_pass() => Why::Wait,
            Self::Report(ReportError::TooMany { .. }) => Why::Wait,
            refused if refused.refused_by().is_some() => Why::Refused,
            fatal if fatal.is_fatal() => Why::Fatal,
            _ => Why::Retry,
        }
    }

    pub fn hint(&self) -> String {
        match self {
            Self::Read(ReadError::Refused { hint, .. } | ReadError::TooLarge { hint, .. }) => hint.clone(),
            Self::Read(ReadError::DataLoss { .. }) => {
                "to go on from the oldest record that is left, set source.on_data_loss = \"continue\" and submit the file with \
                 --change: the gap is counted and stands in the manifests; to lose nothing the next time, raise the stream's \
                 retention".into()
            }
            Self::Sink(SinkError::Storage(StorageError::Refused { hint, .. })) => hint.clone(),
            Self::Lookup(LookupError::Storage { source: StorageError::Refused { hint, .. }, .. }) => hint.clone(),
            Self::Sink(SinkError::TooWide { .. }) => {
                "start the workers with a larger --memory-limit, or select fewer columns".into()
            }
            Self::UnpackMemory { .. } => {
                "start the workers with a larger --memory-limit, or have the producer send smaller payloads".into()
            }
            Self::LookupMemory { .. } => {
                "start the workers with a larger --memory-limit, or give the lookup fewer columns and rows".into()
            }
            Self::Query(QueryError::Memory { .. }) | Self::QueryWaits(_) => {
                "start the workers with a larger --memory-limit; until then the job goes on from its last epoch".into()
            }
            Self::TooManyFailed { .. } => {
                "fix the query (TRY_CAST, NULLIF) and submit it with --change, or raise transform.max_bad_share: the job goes on \
                 from its last epoch".into()
            }
            Self::Function(error) => error.hint(),
            Self::NotRepeatable => {
                "read the epoch's objects; if the same rows give the same result, set function.deterministic = true".into()
            }
            Self::Query(_) => "fix the query (TRY_CAST gives NULL where CAST fails) and submit it with --change: the job goes on from its last epoch".into(),
            _ => "the job goes on from its last epoch once this is fixed: submit it again, a changed file with --change".into(),
        }
    }

    /// The error with its causes; of a function, with its traceback and last lines.
    pub fn describe(&self) -> String {
        match self {
            Self::Function(error) => error.report(),
            error => streamctl_proto::describe(error),
        }
    }
}

/// Another worker may be served: it has other permissions, another clock, another disk, or sees a
/// folder that this one does not.
fn is_refusal(error: &StorageError) -> bool {
    match error {
        StorageError::Refused { cause, .. } => *cause == RefusalCause::Environment,
        StorageError::NotFound { .. } => true,
        StorageError::TooLarge { .. }
        | StorageError::Unavailable { .. }
        | StorageError::StagedLost { .. } => false,
    }
}
