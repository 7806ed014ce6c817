//! One object being staged.
//!
//! Rule: an object is opened with its first bytes; on every awaited path it ends staged or deleted.

use bytes::Bytes;
use streamctl_engine::storage::{StagedWriter, Storage, StorageError};
use streamctl_proto::report::{ObjectKind, StagedObject};

/// Writes the bytes of one object to storage, and counts its rows.
pub(crate) struct ObjectWriter {
    inner: Box<dyn StagedWriter>,
    rows: u64,
    bytes: u64,
}

impl ObjectWriter {
    /// Begins an object that becomes visible at `location`.
    pub async fn open(storage: &dyn Storage, location: &str) -> Result<Self, StorageError> {
        Ok(Self {
            inner: storage.stage(location).await?,
            rows: 0,
            bytes: 0,
        })
    }

    /// Adds bytes; `rows` became part of the object with them, or will with later ones.
    pub async fn write(&mut self, bytes: Bytes, rows: u64) -> Result<(), StorageError> {
        self.rows += rows;
        self.bytes += bytes.len() as u64;
        if bytes.is_empty() {
            Ok(())
        } else {
            self.inner.write(bytes).await
        }
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that are buffered in memory until the part is full.
    pub fn held(&self) -> usize {
        self.inner.held()
    }

    /// Makes the object durable but still invisible.
    pub async fn finish(self, kind: ObjectKind) -> Result<StagedObject, StorageError> {
        self.inner.finish(kind, self.rows).await
    }

    pub async fn abort(self) {
        self.inner.abort().await;
    }
}

/// Deletes staged objects. Failures are left to the sweep.
pub(crate) async fn abandon_all(storage: &dyn Storage, objects: &[StagedObject]) {
    for object in objects {
        if let Err(error) = storage.abandon(object).await {
            tracing::warn!(location = object.location, %error, "staged object was not thrown away, a sweep will");
        }
    }
}
