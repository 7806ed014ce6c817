//! Records of rewritings, beside the job's manifests.
//!
//! Owns: where they are, deleting what they name. Does not own: what may be deleted
//! (`engine::iceberg::rewrite`).
//! Rule: files first, then their record: a crash between leaves a record that names nothing.

use crate::sink::compact::NotCompacted;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use std::sync::Arc;
use streamctl_engine::iceberg::commit::Committer;
use streamctl_engine::storage::{Storage, StorageError, Storages};
use streamctl_proto::rewrite::{RewriteRecord, record_name, records_folder};
use streamctl_proto::spec::Location;
use streamctl_proto::{ResolvedJob, TaskId};

/// Records that are looked at in one turn.
const RECORDS_MAX: usize = 1_000;
/// Largest record that is read.
const RECORD_BYTES_MAX: u64 = 8 << 20;
/// Objects that are read or deleted at the same time.
const AT_ONCE_MAX: usize = 16;

pub(super) struct Records {
    /// By the role of the sink: the table's files.
    storages: Storages,
    /// The checkpoint location's.
    storage: Arc<dyn Storage>,
    folder: Location,
}

impl Records {
    /// `own`: with the program's own credentials; `of_sink`: by the role of the sink.
    pub fn of(own: &Storages, of_sink: &Storages, job: &ResolvedJob) -> Self {
        let place = &job.spec.checkpoint;
        Self {
            storages: of_sink.clone(),
            storage: own.for_location(place.as_str()),
            folder: Location::folder(&place.join(&records_folder(&job.spec.name))),
        }
    }

    fn location(&self, task: TaskId) -> String {
        self.folder.join(&record_name(task))
    }

    pub async fn put(&self, task: TaskId, record: &RewriteRecord) -> Result<(), StorageError> {
        let bytes = record.to_bytes().into();
        self.storage.put_new(&self.location(task), bytes).await?;
        Ok(())
    }

    /// Deletes the outputs of a rewriting that no request names, and its record.
    pub async fn drop_outputs(
        &self,
        task: TaskId,
        record: &RewriteRecord,
    ) -> Result<(), StorageError> {
        self.delete(&record.outputs).await?;
        self.storage.delete(&self.location(task)).await
    }

    /// Deletes what no snapshot shows any more of earlier rewritings, below the job's own folder.
    /// Returns how many files.
    pub async fn clean(&self, engine: &Committer<'_>, own: &Location) -> Result<u64, NotCompacted> {
        let listed = self.storage.list(&self.folder).await?;
        let reads: Vec<_> = listed
            .into_iter()
            .take(RECORDS_MAX)
            .map(|object| self.read(object.location))
            .collect();
        let found: Vec<Option<(String, RewriteRecord)>> = stream::iter(reads)
            .buffered(AT_ONCE_MAX)
            .try_collect()
            .await?;
        let (names, records): (Vec<_>, Vec<_>) = found.into_iter().flatten().unzip();
        let mut deleted = 0;
        for leftovers in engine.leftovers(&records).await? {
            let files = leftovers.files.into_iter();
            let files: Vec<_> = files
                .filter(|file| file.starts_with(own.as_str()))
                .collect();
            self.delete(&files).await?;
            deleted += files.len() as u64;
            if leftovers.is_last {
                self.storage.delete(&names[leftovers.record]).await?;
            }
        }
        Ok(deleted)
    }

    /// A record; `None`: it is gone, or of a later build.
    async fn read(&self, name: String) -> Result<Option<(String, RewriteRecord)>, StorageError> {
        match self.storage.get(&name, RECORD_BYTES_MAX).await {
            Ok(bytes) => Ok(RewriteRecord::read(&bytes).map(|record| (name, record))),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, locations: &[String]) -> Result<(), StorageError> {
        let deletes: Vec<_> = locations
            .iter()
            .map(|location| async move {
                let storage = self.storages.for_location(location);
                storage.delete(location).await
            })
            .collect();
        stream::iter(deletes)
            .buffered(AT_ONCE_MAX)
            .try_for_each(|()| std::future::ready(Ok(())))
            .await
    }
}
