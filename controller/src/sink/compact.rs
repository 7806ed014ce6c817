//! Rewriting small files, as a kind of sink offers it.
//!
//! Owns: what one turn did, who rewrites. Does not own: which files (the kind), when (`compactor`).
//! Rule: a turn is short: other jobs have theirs.

use async_trait::async_trait;
use std::sync::atomic::{AtomicU64, Ordering};
use streamctl_engine::iceberg::commit::CommitError;
use streamctl_engine::storage::StorageError;
use streamctl_proto::rewrite::{RewriteOrder, RewriteOutcome};
use streamctl_proto::{ResolvedJob, TaskId, Term};

/// Has a worker rewrite files.
#[async_trait]
pub trait Rewriter: Send + Sync {
    async fn rewrite(&self, order: RewriteOrder) -> RewriteOutcome;
}

/// Names of rewritten files: those of tasks that do not exist. A term is of one process, so no name
/// is used twice.
#[derive(Debug)]
pub struct RewriteNames {
    term: Term,
    next: AtomicU64,
}

impl RewriteNames {
    pub fn new(term: Term) -> Self {
        Self {
            term,
            next: AtomicU64::new(1),
        }
    }

    pub fn next(&self) -> TaskId {
        TaskId {
            term: self.term,
            counter: self.next.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// What a turn needs.
#[derive(Clone, Copy)]
pub struct CompactionTurn<'a> {
    pub job: &'a ResolvedJob,
    pub rewriter: &'a dyn Rewriter,
    pub names: &'a RewriteNames,
}

/// What a turn did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    pub rewritings: u64,
    pub files_before: u64,
    pub files_after: u64,
    pub rows: u64,
    /// Of the files before.
    pub bytes: u64,
    /// Files that no snapshot shows any more.
    pub deleted: u64,
    /// There is more to rewrite now.
    pub is_more_left: bool,
    /// Why some files are left as they are.
    pub left: Option<Left>,
}

/// Why files that could be rewritten were not. Nothing is wrong with the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Left {
    /// A worker, or the network to it.
    #[error("a worker could not rewrite files: {0}")]
    Failed(String),
    /// Another writer came between.
    #[error("a rewriting was given up: {0}")]
    GaveUp(String),
    #[error("{0}")]
    Refused(String),
    #[error("{0} small files have deletes of another writer, and stay")]
    Deletes(u64),
}

impl Left {
    /// Stable, for a metric.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Failed(_) => "failed",
            Self::GaveUp(_) => "gave_up",
            Self::Refused(_) => "refused",
            Self::Deletes(_) => "deletes",
        }
    }
}

/// A turn ended early; what it did until then stays.
#[derive(Debug, thiserror::Error)]
pub enum NotCompacted {
    #[error(transparent)]
    Table(#[from] CommitError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The answer of a worker is not what was ordered.
    #[error("a worker rewrote other files than it was to: {0}")]
    BadAnswer(String),
}
