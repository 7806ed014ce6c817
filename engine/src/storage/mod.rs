//! Folders of objects, in S3 or on a local disk, with what the commit needs: objects that are
//! written but invisible.
//!
//! Owns: the trait, the choice of implementation for a location. Does not own: when to publish
//! (`controller::sink`).
//! Rule: publishing is idempotent; the object itself decides, not an earlier response, whenever it
//! can be inspected.

#[cfg(any(test, feature = "test-util"))]
pub mod contract;
mod data_files;
mod local;
#[cfg(any(test, feature = "test-util"))]
mod memory;
mod s3;
mod s3_error;
mod s3_place;
mod s3_writer;
mod storages;

pub use data_files::is_data;
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

/// The result of [`Storage::inspect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// In bytes.
    pub size: u64,
    /// CRC-32C of the whole object; `None`: the storage keeps none, and the object is too large to
    /// be read.
    pub crc32c: Option<u32>,
    /// Whether the content was read; else the checksum is the one that the storage keeps.
    pub read: bool,
}

/// How closely [`Storage::inspect`] looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// If the storage keeps a checksum of the whole object, use it; read only smaller objects.
    Cheaply,
    /// Read the content, whatever its size.
    AtContent,
}

/// Objects up to this size are read by a cheap look when the storage keeps no checksum of them.
pub const INSPECT_READ_BYTES_MAX: u64 = 1 << 30;

/// Objects below a folder, in pages of the storage's own size.
pub type Pages<'a> = BoxStream<'a, Result<Vec<ObjectInfo>, StorageError>>;

/// Why an operation failed; determines what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// There is no such object, bucket or folder: the caller's names are wrong, or it was deleted.
    #[error("{location} does not exist")]
    NotFound { location: String },
    /// The same request from this process, at this moment, is refused again.
    #[error("{location}: {reason}")]
    Refused {
        /// What determines the refusal.
        cause: RefusalCause,
        location: String,
        reason: String,
        hint: String,
    },
    /// The object is larger than its reader accepts.
    #[error("{location} has {size} bytes, the limit is {limit}")]
    TooLarge {
        location: String,
        size: u64,
        limit: u64,
    },
    /// A retry may succeed; it is unknown whether the operation took effect.
    #[error("{location}: {reason}")]
    Unavailable { location: String, reason: String },
    /// A staged object is gone, and the published one is not there either.
    #[error(
        "staged object of {location} is gone, and {location} is not there with its recorded size \
         and checksum"
    )]
    StagedLost { location: String },
}

/// What determines that a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCause {
    /// The sender's place and time: credentials, permissions, the clock, the region, the disk of
    /// this machine. Another machine may be served, and this one later.
    Environment,
    /// The request's content: it is refused for every sender.
    Request,
}

/// Whether an object was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    Created,
    /// An object with that name existed and is unchanged.
    Exists,
}

/// Folders of objects. Transient failures are retried inside, up to a limit; the caller handles the
/// rest.
#[async_trait]
pub trait Storage: Send + Sync + std::fmt::Debug {
    /// Checks that objects can be created below this folder: its bucket exists, or the folder
    /// itself can be created. Implementations without such a precondition succeed.
    async fn check(&self, _folder: &Location) -> Result<(), StorageError> {
        Ok(())
    }
    /// The whole object; refused when it is larger than `limit` bytes.
    async fn get(&self, location: &str, limit: u64) -> Result<Bytes, StorageError>;
    /// `length` bytes of an object from `start` on, all of which exist. Implementations that cannot
    /// read a part read the whole.
    async fn get_range(
        &self,
        location: &str,
        start: u64,
        length: u64,
    ) -> Result<Bytes, StorageError> {
        let bytes = self.get(location, u64::MAX).await?;
        let end = start.saturating_add(length);
        if end > bytes.len() as u64 {
            return Err(too_short(location, end));
        }
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(bytes.slice(at(start)..at(end)))
    }
    /// Size and ETag of one object.
    async fn head(&self, location: &str) -> Result<ObjectInfo, StorageError>;
    /// Creates an object durably, unless one with that name exists.
    async fn put_new(&self, location: &str, bytes: Bytes) -> Result<PutOutcome, StorageError>;
    /// Every visible object below a folder, by name. A missing folder is empty; a missing bucket is
    /// an error.
    async fn list(&self, folder: &Location) -> Result<Vec<ObjectInfo>, StorageError>;
    /// Like [`Self::list`], without the objects up to the name `after`: the last few of a folder
    /// with very many objects.
    async fn list_after(
        &self,
        folder: &Location,
        after: &str,
    ) -> Result<Vec<ObjectInfo>, StorageError> {
        let mut found = self.list(folder).await?;
        found.retain(|object| object.location.as_str() > after);
        Ok(found)
    }
    /// Like [`Self::list`], page by page and unordered, so that memory is bounded by a page.
    /// Implementations without pages return one.
    fn pages<'a>(&'a self, folder: &'a Location) -> Pages<'a> {
        stream::once(self.list(folder)).boxed()
    }
    /// Size and checksum of a visible object, without holding it in memory. `look` limits how far
    /// the storage's own checksum is trusted.
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
    /// Makes a staged object visible under its location. Idempotent.
    async fn publish(&self, object: &StagedObject) -> Result<(), StorageError>;
    /// Deletes a staged object. A missing one is not an error.
    async fn abandon(&self, object: &StagedObject) -> Result<(), StorageError>;
    /// Deletes a visible object. A missing one is not an error. Implementations that keep
    /// everything refuse.
    async fn delete(&self, location: &str) -> Result<(), StorageError> {
        Err(StorageError::Refused {
            cause: RefusalCause::Request,
            location: location.to_owned(),
            reason: "objects of this storage are not deleted".to_owned(),
            hint: "delete it by hand".to_owned(),
        })
    }
    /// Deletes the staged objects below `folder` that are orphans by `orphans`, and returns their
    /// number. Does not use a clock: the name alone decides whether an object is an orphan.
    async fn sweep(&self, folder: &Location, orphans: &Orphans) -> Result<usize, StorageError>;
}

/// An object ends before a part of it that is read: it is another one than its reader knows.
fn too_short(location: &str, end: u64) -> StorageError {
    StorageError::Refused {
        cause: RefusalCause::Request,
        location: location.to_owned(),
        reason: format!("it has fewer than {end} bytes"),
        hint: "it was replaced since it was written; look at who writes there".to_owned(),
    }
}

/// An object being staged. If dropped without `finish`, it leaves an orphan that a sweep deletes.
#[async_trait]
pub trait StagedWriter: Send {
    /// Adds bytes; waits if the service is slower than the writer.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError>;
    /// Bytes that are buffered in memory; parts in flight do not count.
    fn held(&self) -> usize {
        0
    }
    /// Makes the written data durable; it stays invisible.
    async fn finish(
        self: Box<Self>,
        kind: ObjectKind,
        rows: u64,
    ) -> Result<StagedObject, StorageError>;
    async fn abort(self: Box<Self>);
}
