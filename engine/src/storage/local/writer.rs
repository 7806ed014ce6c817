//! One staged file during writing.
//!
//! Owns: when the disk is requested to write. Does not own: names, folders.
//! Rule: nothing is lost once the file is staged; write-back starts early, so that the end does not
//! wait for all data.

use super::{blocking, failed, sync_folder_of};
use crate::storage::{StagedWriter, StorageError};
use async_trait::async_trait;
use bytes::Bytes;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use streamctl_proto::report::{ObjectKind, StagedObject, Staging};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;

/// Bytes of a staged file after which write-back starts, so that most data is on the disk before
/// the final flush.
const WRITE_BACK_BYTES: u64 = 4 << 20;
/// A staged file that is being written.
pub(super) struct LocalWriter {
    location: String,
    staged: Unfinished,
    file: tokio::fs::File,
    size: u64,
    crc32c: u32,
    /// Bytes since write-back last started.
    behind: u64,
    writing_back: Option<JoinHandle<io::Result<()>>>,
}

impl LocalWriter {
    /// `staged` is new and empty, and `file` is its handle.
    pub fn new(location: String, staged: Unfinished, file: tokio::fs::File) -> Self {
        Self {
            location,
            staged,
            file,
            size: 0,
            crc32c: 0,
            behind: 0,
            writing_back: None,
        }
    }

    /// Starts write-back of the written data in the background; never waits for an earlier
    /// write-back.
    async fn write_back(&mut self) -> io::Result<()> {
        if self
            .writing_back
            .as_ref()
            .is_some_and(|before| !before.is_finished())
        {
            return Ok(());
        }
        self.written_back().await?;
        self.file.flush().await?;
        let file = self.file.try_clone().await?.into_std().await;
        self.writing_back = Some(tokio::task::spawn_blocking(move || file.sync_data()));
        self.behind = 0;
        Ok(())
    }

    /// The result of the write-back. The error must be kept: the system reports it once, not again
    /// at the next flush.
    async fn written_back(&mut self) -> io::Result<()> {
        match self.writing_back.take() {
            Some(before) => before.await.map_err(io::Error::other)?,
            None => Ok(()),
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.written_back().await?;
        self.file.flush().await?;
        self.file.sync_all().await
    }
}

/// A staged file that has no name outside yet. It is deleted with its writer, however that ends;
/// otherwise every retry would fill a full disk further.
pub(super) struct Unfinished(Option<PathBuf>);

impl Unfinished {
    /// The file was just made.
    pub fn new(staged: PathBuf) -> Self {
        Self(Some(staged))
    }

    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(""))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(staged) = self.0.take()
            && let Err(error) = fs::remove_file(&staged)
        {
            tracing::warn!(staged = %staged.display(), %error, "staged file stays until a sweep");
        }
    }
}

#[async_trait]
impl StagedWriter for LocalWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.file
            .write_all(&bytes)
            .await
            .map_err(|error| failed(self.staged.path(), &error))?;
        self.size += bytes.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &bytes);
        self.behind += bytes.len() as u64;
        if self.behind < WRITE_BACK_BYTES {
            return Ok(());
        }
        self.write_back()
            .await
            .map_err(|error| failed(self.staged.path(), &error))
    }

    async fn finish(
        mut self: Box<Self>,
        kind: ObjectKind,
        rows: u64,
    ) -> Result<StagedObject, StorageError> {
        self.flush()
            .await
            .map_err(|error| failed(self.staged.path(), &error))?;
        let Self {
            location,
            staged: mut unfinished,
            size,
            crc32c,
            ..
        } = *self;
        let folder = unfinished.path().to_owned();
        // The staged name must be durable too: an accepted report is never computed again.
        blocking(&location, move |_| {
            sync_folder_of(&folder).map_err(|error| failed(&folder, &error))
        })
        .await?;
        let staged = unfinished.0.take().unwrap_or_default();
        let staging = Staging::File {
            staged_path: staged.to_string_lossy().into_owned(),
        };
        Ok(StagedObject {
            kind,
            location,
            size,
            crc32c,
            rows,
            table_file: None,
            staging,
        })
    }

    async fn abort(self: Box<Self>) {}
}
