//! Where a table's metadata files are.
//!
//! Owns: the few operations that a commit needs. Does not own: data files (`storage`).
//! Rule: a name states its content's digest, so a file that exists is the file that was meant.

use async_trait::async_trait;
use bytes::Bytes;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    #[error("{location} does not exist")]
    Missing { location: String },
    /// The same operation is refused again.
    #[error("{location}: {reason}")]
    Refused {
        location: String,
        reason: String,
        hint: String,
    },
    /// A retry may succeed.
    #[error("{location}: {reason}")]
    Unavailable { location: String, reason: String },
}

/// Small immutable files.
#[async_trait]
pub trait Files: Send + Sync + std::fmt::Debug {
    /// The whole file; refused when it is larger than `limit` bytes.
    async fn get(&self, location: &str, limit: u64) -> Result<Bytes, FilesError>;
    /// Creates a file durably; one that exists is left as it is.
    async fn put_new(&self, location: &str, bytes: Bytes) -> Result<(), FilesError>;
    /// Removes a file; a missing one is not an error.
    async fn remove(&self, location: &str) -> Result<(), FilesError>;
}
