//! The controller's half of each kind of sink: what is committed becomes visible.
//!
//! Owns: the trait, the registry, why an epoch is not visible. Does not own: a kind's settings
//! (`streamctl_proto::spec::SinkKind`), what is staged (the worker's half), whether an epoch is
//! committed (the store), when it is published (core and driver).
//! Rule: publishing is idempotent by job and epoch. What is staged holds all that a kind needs;
//! a committer keeps nothing.

pub mod compact;
mod files;
mod iceberg;
pub mod listing;
mod objects;
mod partitions;

use async_trait::async_trait;
use compact::{Compacted, CompactionTurn, NotCompacted};
use files::FilesCommitter;
use iceberg::IcebergCommitter;
pub use listing::Listing;
use std::sync::Arc;
use streamctl_engine::data_catalog::DataCatalogError;
use streamctl_engine::iceberg::commit::CommitError;
use streamctl_engine::storage::{Inspected, Look, ObjectInfo, StorageError, Storages};
use streamctl_proto::manifest::EpochRepair;
use streamctl_proto::spec::{Location, SinkKind};
use streamctl_proto::staged_name::Orphans;
use streamctl_proto::{Epoch, JobName, Manifest, ResolvedJob, StagedObject, count};

/// A committed epoch that is to become visible.
#[derive(Clone, Copy, Debug)]
pub struct Committed<'a> {
    pub manifest: &'a Manifest,
    /// The repairs of this epoch, oldest first.
    pub repairs: &'a [EpochRepair],
}

/// The controller's half of a kind of sink, for one job.
///
/// How a kind publishes is its own matter: it completes what is staged, sends one request to a
/// catalog, or has a worker move the bytes and waits for it. Dead letters are objects for every kind.
#[async_trait]
pub trait Committer: Send + Sync {
    /// Makes committed epochs visible, oldest first; all of an epoch at once if the kind can. An
    /// epoch that is visible already is passed over: an earlier leader may have published it and
    /// died. Several epochs may be one request.
    async fn publish(&self, epochs: &[Committed<'_>]) -> Result<(), PublishError>;
    /// Whether anything of an epoch is visible: then it was committed.
    async fn is_visible(&self, manifest: &Manifest) -> Result<bool, StorageError>;
    /// The folders in which something of the job is staged or visible.
    fn places(&self) -> Vec<Location>;
    /// Throws away what is staged in a place and can never become visible. Returns how much.
    async fn sweep(&self, place: &Location, orphans: &Orphans) -> Result<usize, StorageError>;
    /// Size and checksum of what a reader sees of a staged object.
    async fn inspect(&self, staged: &StagedObject, look: Look) -> Result<Inspected, StorageError>;
    /// Visits what readers see in a place, page by page.
    async fn visit(&self, place: &Location, visit: Visit<'_>) -> Result<(), StorageError>;
    /// Rewrites small files, if the kind and the job do so.
    async fn compact(&self, _turn: CompactionTurn<'_>) -> Result<Compacted, NotCompacted> {
        Ok(Compacted::default())
    }
    /// The files that readers are led to. `None`: they list the places.
    async fn listing(&self) -> Result<Option<Listing>, StorageError> {
        Ok(None)
    }
}

/// Takes one page after the other.
pub type Visit<'v> = &'v mut (dyn FnMut(Vec<ObjectInfo>) + Send);

/// The registry: the committer of a job's sink.
pub fn committer(storages: &Storages, job: &ResolvedJob) -> Arc<dyn Committer> {
    let dead_letters = job.spec.dead_letters();
    match &job.spec.sink {
        SinkKind::Files(sink) => Arc::new(FilesCommitter::new(storages, sink, dead_letters)),
        SinkKind::Iceberg(sink) => Arc::new(IcebergCommitter::new(storages, sink, job)),
    }
}

/// An epoch is committed and not all of it could be made visible.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Retry later; what was published stays published. A refusal may also pass: permissions and
    /// keys come back.
    #[error("epoch {epoch} of job {job} is not published yet")]
    Later {
        job: JobName,
        epoch: Epoch,
        /// The error of the first object that failed.
        source: StorageError,
    },
    /// Retry later: the table's catalog does not serve. The epoch may be in the table.
    #[error("epoch {epoch} of job {job} is not in its table yet")]
    Catalog {
        job: JobName,
        epoch: Epoch,
        source: CommitError,
    },
    /// Retry later: the Data Catalog does not register its partitions. Its objects are visible to
    /// those who list the folder.
    #[error("the partitions of epoch {epoch} of job {job} are not registered yet")]
    Partitions {
        job: JobName,
        epoch: Epoch,
        source: DataCatalogError,
    },
    /// The table does not take the epoch, and a retry changes nothing: the job must stop as failed.
    /// Its objects are visible to the next attempt.
    #[error("epoch {epoch} of job {job} is committed and its table does not take it: {reason}")]
    Refused {
        job: JobName,
        epoch: Epoch,
        reason: String,
        hint: String,
    },
    /// Committed rows are lost; all other objects are visible. The job must stop as failed until it
    /// is repaired.
    #[error("epoch {epoch} of job {job} is committed and cannot be published: {} lost, the first of them {}", count(lost.len() as u64, "object"), lost[0])]
    Lost {
        job: JobName,
        epoch: Epoch,
        /// Locations of the lost objects; at least one.
        lost: Vec<String>,
    },
}

impl PublishError {
    /// The epoch that is not published. If several were published together and the sink cannot tell
    /// which of them is the cause, the first.
    pub fn epoch(&self) -> Epoch {
        match self {
            Self::Later { epoch, .. }
            | Self::Catalog { epoch, .. }
            | Self::Partitions { epoch, .. }
            | Self::Refused { epoch, .. }
            | Self::Lost { epoch, .. } => *epoch,
        }
    }

    /// What to do, if a user must act.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Later {
                source: StorageError::Refused { hint, .. },
                ..
            } => Some(hint.clone()),
            Self::Later { .. } | Self::Catalog { .. } => None,
            Self::Partitions { source, .. } => source.hint(),
            Self::Refused { hint, .. } => Some(hint.clone()),
            Self::Lost { job, .. } => Some(format!(
                "what was staged is gone, perhaps by a bucket lifecycle rule: `streamctl repair {job}` (after `streamctl run`: \
                 `streamctl repair --local FILE`) computes it again from its ranges, as long as the stream keeps them; `--skip` gives it up, or records that its readers have taken it"
            )),
        }
    }
}
