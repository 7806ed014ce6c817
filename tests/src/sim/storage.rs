//! Faulty object storage: the memory storage behind calls that are lost, late, or never answered.
//!
//! Owns: the faults, the checks that nothing becomes visible before its commit and that no manifest is
//! removed before the store allows it. Does not own:
//! objects.
//! Rule: a response may be wrong; the stored data never is.

use super::weather::{Fate, Weather};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use streamctl_controller::store::{MemoryStore, Store as _};
use streamctl_engine::storage::{
    MemoryStorage, ObjectInfo, PutOutcome, RefusalCause, StagedWriter, Storage, StorageError,
};
use streamctl_proto::report::{ObjectKind, StagedObject};
use streamctl_proto::spec::Location;
use streamctl_proto::staged_name::Orphans;
use tokio::time::sleep;

/// What was removed, for the verdict alone.
pub type Removed = Arc<Mutex<BTreeMap<String, Bytes>>>;

/// Objects in committed manifests.
pub type Committed = Arc<Mutex<BTreeSet<String>>>;

/// The access of one place to the storage.
#[derive(Clone)]
pub struct FaultyStorage {
    pub inner: MemoryStorage,
    pub place: String,
    pub weather: Arc<Weather>,
    pub committed: Committed,
    pub removed: Removed,
    /// The store's own view of itself.
    pub store: MemoryStore,
}

impl std::fmt::Debug for FaultyStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FaultyStorage of {}", self.place)
    }
}

impl FaultyStorage {
    /// A manifest is removed only if it lies before the anchor that the store holds.
    async fn may_be_removed(&self, location: &str) {
        let Some((folder, file)) = location.rsplit_once("/epochs/") else {
            return;
        };
        let epoch = file
            .split_once('-')
            .and_then(|(epoch, _)| epoch.parse().ok());
        let jobs = self.store.load().await.unwrap_or_default();
        let is_its = |name: &str| folder.ends_with(&format!("/{name}"));
        let stored = jobs.iter().find(|it| is_its(it.job.spec.name.as_str()));
        let first = stored.map_or(0, |stored| stored.anchors.first_kept().0);
        if epoch.is_none_or(|epoch: u64| epoch >= first) {
            self.weather.broken(format!(
                "{} removes {location}, the first kept epoch is {first}",
                self.place
            ));
        }
    }

    async fn call<T>(
        &self,
        what: &str,
        location: &str,
        work: impl Future<Output = Result<T, StorageError>> + Send,
    ) -> Result<T, StorageError> {
        let call = self.weather.call(&self.place, "s3");
        let failed = |reason: &str| {
            self.weather
                .note(|| format!("{} s3 {what} {location}: {reason}", self.place));
            Err(StorageError::Unavailable {
                location: location.to_owned(),
                reason: reason.to_owned(),
            })
        };
        sleep(call.before).await;
        if call.fate == Fate::NotDone {
            return failed("503");
        }
        if let Some(code) = self.weather.denies(&self.place, "s3") {
            self.weather
                .note(|| format!("{} s3 {what} {location}: {code}", self.place));
            return Err(StorageError::Refused {
                cause: RefusalCause::Environment,
                location: location.to_owned(),
                reason: code.to_owned(),
                hint: "give the process its rights".to_owned(),
            });
        }
        let done = work.await;
        sleep(call.after).await;
        if call.fate == Fate::AnswerLost || !self.weather.reaches(&self.place, "s3") {
            return failed("timed out");
        }
        done
    }
}

#[async_trait]
impl Storage for FaultyStorage {
    async fn get(&self, location: &str, limit: u64) -> Result<Bytes, StorageError> {
        self.call("get", location, self.inner.get(location, limit))
            .await
    }

    async fn head(&self, location: &str) -> Result<ObjectInfo, StorageError> {
        self.call("head", location, self.inner.head(location)).await
    }

    async fn put_new(&self, location: &str, bytes: Bytes) -> Result<PutOutcome, StorageError> {
        self.call("put", location, self.inner.put_new(location, bytes))
            .await
    }

    async fn list(&self, folder: &Location) -> Result<Vec<ObjectInfo>, StorageError> {
        self.call("list", folder.as_str(), self.inner.list(folder))
            .await
    }

    async fn stage(&self, location: &str) -> Result<Box<dyn StagedWriter>, StorageError> {
        let staged = self
            .call("stage", location, self.inner.stage(location))
            .await?;
        Ok(Box::new(FaultyWriter {
            storage: self.clone(),
            location: location.to_owned(),
            inner: staged,
        }))
    }

    async fn publish(&self, object: &StagedObject) -> Result<(), StorageError> {
        let work = async {
            let committed = self
                .committed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&object.location);
            if !committed {
                self.weather.broken(format!(
                    "{} publishes {}, no head holds it",
                    self.place, object.location
                ));
            }
            self.inner.publish(object).await
        };
        self.call("publish", &object.location, work).await
    }

    async fn abandon(&self, object: &StagedObject) -> Result<(), StorageError> {
        self.call("abandon", &object.location, self.inner.abandon(object))
            .await
    }

    async fn delete(&self, location: &str) -> Result<(), StorageError> {
        let work = async {
            self.may_be_removed(location).await;
            if let Ok(bytes) = self.inner.get(location, u64::MAX).await {
                let mut removed = self.removed.lock().unwrap_or_else(PoisonError::into_inner);
                removed.insert(location.to_owned(), bytes);
            }
            Storage::delete(&self.inner, location).await
        };
        self.call("delete", location, work).await
    }

    async fn sweep(&self, folder: &Location, orphans: &Orphans) -> Result<usize, StorageError> {
        self.call("sweep", folder.as_str(), self.inner.sweep(folder, orphans))
            .await
    }
}

struct FaultyWriter {
    storage: FaultyStorage,
    location: String,
    inner: Box<dyn StagedWriter>,
}

#[async_trait]
impl StagedWriter for FaultyWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.storage
            .call("write", &self.location, self.inner.write(bytes))
            .await
    }

    async fn finish(
        self: Box<Self>,
        kind: ObjectKind,
        rows: u64,
    ) -> Result<StagedObject, StorageError> {
        let Self {
            storage,
            location,
            inner,
        } = *self;
        storage
            .call("finish", &location, inner.finish(kind, rows))
            .await
    }

    async fn abort(self: Box<Self>) {
        let Self {
            storage,
            location,
            inner,
        } = *self;
        let work = async {
            inner.abort().await;
            Ok(())
        };
        let _orphan = storage.call("abort", &location, work).await;
    }
}
