//! Folders of objects, in S3 or on a local disk, with the one thing the commit needs: written but
//! invisible.
//!
//! Owns: the trait, which implementation serves which location. Does not own: when to publish
//! (`controller::publish`).
//! Rule: publishing is idempotent; what an answer said is never believed when the object itself can
//! be looked at.

#[cfg(any(test, feature = "test-util"))]
pub mod contract;
mod local;
#[cfg(any(test, feature = "test-util"))]
mod memory;
mod s3;
mod s3_error;
mod s3_place;
mod s3_writer;
mod storages;

pub use local::LocalStorage;
#[cfg(any(test, feature = "test-util"))]
pub use memory::{MemoryStorage, Op};
pub use s3::S3Storage;
pub use storages::Storages;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use streamctl_proto::report::{ObjectKind, StagedObject};
use streamctl_proto::spec::Location;
use streamctl_proto::staged_name::Orphans;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    pub location: String,
    /// In bytes.
    pub size: u64,
    /// Changes when the content does.
    pub etag: String,
}

/// What was found by [`Storage::inspect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// In bytes.
    pub size: u64,
    /// CRC-32C of the whole; `None`: the storage keeps none, and it is too large to be read.
    pub crc32c: Option<u32>,
    /// The content was read; else the checksum is the one that the storage keeps.
    pub read: bool,
}

/// How closely [`Storage::inspect`] looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Where the storage keeps a checksum of the whole, take it; read smaller objects only.
    Cheaply,
    /// Read the content, whatever its size.
    AtContent,
}

/// Objects up to this size are read by a cheap look when the storage keeps no checksum of them.
pub const INSPECT_READ_BYTES_MAX: u64 = 1 << 30;

/// Objects below a folder, in pages of the storage's own size.
pub type Pages<'a> = BoxStream<'a, Result<Vec<ObjectInfo>, StorageError>>;

/// Why an operation failed; says what its caller does next.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// There is no such object, bucket or folder: the caller's names are wrong, or it was deleted.
    #[error("{location} does not exist")]
    NotFound { location: String },
    /// The same request from this process, at this moment, is refused again.
    #[error("{location}: {reason}")]
    Refused {
        /// What decides that it is refused.
        cause: RefusalCause,
        location: String,
        reason: String,
        hint: String,
    },
    /// Larger than its reader takes.
    #[error("{location} has {size} bytes, the limit is {limit}")]
    TooLarge {
        location: String,
        size: u64,
        limit: u64,
    },
    /// It may work if tried again; whether it was done is not known.
    #[error("{location}: {reason}")]
    Unavailable { location: String, reason: String },
    /// A staged object is gone, and the published one is not there either.
    #[error(
        "staged object of {location} is gone, and {location} is not there with its recorded size and checksum"
    )]
    StagedLost { location: String },
}

/// What decides that a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCause {
    /// Where and when it was sent: credentials, rights, the clock, the region, the disk of this
    /// machine. Another machine may be served, and this one later.
    Environment,
    /// What it says: whoever sends it is refused.
    Request,
}

/// Whether an object was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    Created,
    /// One by that name was there and stays.
    Exists,
}

/// Folders of objects. Transient failures are retried inside, with a limit; what comes out is for
/// the caller to act on.
#[async_trait]
pub trait Storage: Send + Sync + std::fmt::Debug {
    /// Whether objects can be made below this folder: its bucket is there, or the folder itself can
    /// be made. Implementations without such a thing have nothing to say.
    async fn check(&self, _folder: &Location) -> Result<(), StorageError> {
        Ok(())
    }
    /// The whole object; refused when it is larger than `limit` bytes.
    async fn get(&self, location: &str, limit: u64) -> Result<Bytes, StorageError>;
    /// Size and ETag of one object.
    async fn head(&self, location: &str) -> Result<ObjectInfo, StorageError>;
    /// Creates an object durably, unless one by that name is there.
    async fn put_new(&self, location: &str, bytes: Bytes) -> Result<PutOutcome, StorageError>;
    /// Every visible object below a folder, by name. A folder that does not exist is empty; a
    /// bucket that does not is an error.
    async fn list(&self, folder: &Location) -> Result<Vec<ObjectInfo>, StorageError>;
    /// The same without the objects up to the name `after`: of a folder with very many objects the
    /// last few.
    async fn list_after(
        &self,
        folder: &Location,
        after: &str,
    ) -> Result<Vec<ObjectInfo>, StorageError> {
        let mut found = self.list(folder).await?;
        found.retain(|object| object.location.as_str() > after);
        Ok(found)
    }
    /// The same page by page, in no order, so that memory is bounded by a page. Implementations
    /// that have no pages give one.
    fn pages<'a>(&'a self, folder: &'a Location) -> Pages<'a> {
        stream::once(self.list(folder)).boxed()
    }
    /// Size and checksum of a visible object, without holding it in memory. What the storage says
    /// of it is believed only as far as `look` allows.
    async fn inspect(&self, location: &str, look: Look) -> Result<Inspected, StorageError> {
        let limit = if look == Look::AtContent {
            u64::MAX
        } else {
            INSPECT_READ_BYTES_MAX
        };
        match self.get(location, limit).await {
            Ok(bytes) => Ok(Inspected {
                size: bytes.len() as u64,
                crc32c: Some(crc32c::crc32c(&bytes)),
                read: true,
            }),
            Err(StorageError::TooLarge { size, .. }) => Ok(Inspected {
                size,
                crc32c: None,
                read: false,
            }),
            Err(error) => Err(error),
        }
    }
    /// Begins an object that stays invisible until it is published.
    async fn stage(&self, location: &str) -> Result<Box<dyn StagedWriter>, StorageError>;
    /// Makes a staged object visible under its location. Done again, it changes nothing.
    async fn publish(&self, object: &StagedObject) -> Result<(), StorageError>;
    /// Throws a staged object away. One that is gone already is no error.
    async fn abandon(&self, object: &StagedObject) -> Result<(), StorageError>;
    /// Throws away what is staged below `folder` and is one of these orphans. Returns how many. No
    /// clock takes part: what is an orphan is decided by its name alone.
    async fn sweep(&self, folder: &Location, orphans: &Orphans) -> Result<usize, StorageError>;
}

/// An object being staged. Dropped without `finish`, it leaves an orphan that a sweep takes.
#[async_trait]
pub trait StagedWriter: Send {
    /// Adds bytes; waits when the service is slower than the writer.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError>;
    /// Bytes that were written and wait in memory for more. What is on its way is not among them.
    fn held(&self) -> usize {
        0
    }
    /// Makes what was written durable; it stays invisible.
    async fn finish(
        self: Box<Self>,
        kind: ObjectKind,
        rows: u64,
    ) -> Result<StagedObject, StorageError>;
    async fn abort(self: Box<Self>);
}
