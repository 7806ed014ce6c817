//! Objects in memory: the fake of the other two, for tests.
//!
//! Owns: objects, staged objects, and failing on demand.
//! Rule: it passes the same contract as S3 and the local disk.

use super::{ObjectInfo, PutOutcome, StagedWriter, Storage, StorageError};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use streamctl_proto::report::{ObjectKind, StagedObject, Staging};
use streamctl_proto::spec::Location;
use streamctl_proto::staged_name::Orphans;
use tokio::sync::watch;

/// An operation that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Op {
    Get,
    Head,
    PutNew,
    List,
    Stage,
    Write,
    Finish,
    Publish,
    Abandon,
    Delete,
    Sweep,
}

/// Objects below `memory://`; a clone is the same store.
#[derive(Clone, Default)]
pub struct MemoryStorage {
    state: Arc<Mutex<State>>,
    still: Arc<watch::Sender<bool>>,
}

impl std::fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStorage").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Object>,
    staged: BTreeMap<String, StagedBytes>,
    failures: Vec<Failure>,
    counter: u64,
}

#[derive(Debug)]
struct Object {
    bytes: Bytes,
    etag: String,
}

#[derive(Debug)]
struct StagedBytes {
    location: String,
    bytes: Bytes,
}

#[derive(Debug)]
struct Failure {
    op: Op,
    /// So many operations succeed before.
    passes: usize,
    error: StorageError,
    after_success: bool,
}

impl MemoryStorage {
    /// Makes the next `op` fail with `error`. With `after_success` the operation takes effect
    /// first, as if the response were lost. Several failures queue up.
    pub fn fail_next(&self, op: Op, error: StorageError, after_success: bool) {
        self.fail_after(0, op, error, after_success);
    }

    /// Like [`Self::fail_next`], after so many operations of this kind have succeeded.
    pub fn fail_after(&self, passes: usize, op: Op, error: StorageError, after_success: bool) {
        self.lock().failures.push(Failure {
            op,
            passes,
            error,
            after_success,
        });
    }

    /// From now on, `true` makes staging stall; `false` completes the stalled requests.
    pub fn stand_still(&self, still: bool) {
        self.still.send_replace(still);
    }

    async fn answers(&self) {
        // The caller holds the sender, so this ends only by the value.
        let mut still = self.still.subscribe();
        let _moves = still.wait_for(|still| !still).await.map(|_| ());
    }

    /// Creates or replaces an object, as another process would.
    pub fn put(&self, location: &str, bytes: impl Into<Bytes>) {
        self.lock().put(location, bytes.into());
    }

    /// Deletes what is staged for a location, as another process would.
    pub fn delete_staged(&self, location: &str) {
        self.lock()
            .staged
            .retain(|_, staged| staged.location != location);
    }

    /// Deletes an object, as another process would.
    pub fn delete(&self, location: &str) {
        self.lock().objects.remove(location);
    }

    /// The staged objects that are neither published nor deleted.
    pub fn staged_locations(&self) -> Vec<String> {
        self.lock()
            .staged
            .values()
            .map(|staged| staged.location.clone())
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no operation panics while it holds the lock")
    }

    fn run<T>(
        &self,
        op: Op,
        work: impl FnOnce(&mut State) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut state = self.lock();
        let failure = state.failures.iter().position(|failure| failure.op == op);
        if let Some(failure) = failure.map(|at| &mut state.failures[at])
            && failure.passes > 0
        {
            failure.passes -= 1;
            return work(&mut state);
        }
        match failure.map(|at| state.failures.remove(at)) {
            Some(failure) if failure.after_success => work(&mut state).and(Err(failure.error)),
            Some(failure) => Err(failure.error),
            None => work(&mut state),
        }
    }
}

impl State {
    fn put(&mut self, location: &str, bytes: Bytes) {
        self.counter += 1;
        let etag = format!("v{}", self.counter);
        self.objects
            .insert(location.to_owned(), Object { bytes, etag });
    }

    fn object(&self, location: &str) -> Result<&Object, StorageError> {
        self.objects
            .get(location)
            .ok_or_else(|| StorageError::NotFound {
                location: location.to_owned(),
            })
    }

    fn publish(&mut self, object: &StagedObject, id: &str) -> Result<(), StorageError> {
        let matches = |bytes: &Bytes| {
            bytes.len() as u64 == object.size && crc32c::crc32c(bytes) == object.crc32c
        };
        if self
            .staged
            .get(id)
            .is_some_and(|staged| matches(&staged.bytes))
        {
            let staged = self.staged.remove(id).expect("it was there a line ago");
            self.put(&staged.location, staged.bytes);
            return Ok(());
        }
        if self
            .objects
            .get(&object.location)
            .is_some_and(|there| matches(&there.bytes))
        {
            return Ok(());
        }
        Err(StorageError::StagedLost {
            location: object.location.clone(),
        })
    }
}

fn info(location: &str, object: &Object) -> ObjectInfo {
    ObjectInfo {
        location: location.to_owned(),
        size: object.bytes.len() as u64,
        etag: object.etag.clone(),
    }
}

fn staged_id(object: &StagedObject) -> &str {
    match &object.staging {
        Staging::File { staged_path } => staged_path,
        Staging::Multipart { upload_id, .. } => upload_id,
    }
}

/// The staging of the storage that the location is for.
fn staging(location: &str, id: &str) -> Staging {
    match location.starts_with("s3://") {
        true => Staging::Multipart {
            upload_id: id.to_owned(),
            etags: vec!["1".to_owned()],
        },
        false => Staging::File {
            staged_path: id.to_owned(),
        },
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    async fn get(&self, location: &str, limit: u64) -> Result<Bytes, StorageError> {
        self.run(Op::Get, |state| {
            let bytes = state.object(location)?.bytes.clone();
            let size = bytes.len() as u64;
            if size > limit {
                return Err(StorageError::TooLarge {
                    location: location.to_owned(),
                    size,
                    limit,
                });
            }
            Ok(bytes)
        })
    }

    async fn head(&self, location: &str) -> Result<ObjectInfo, StorageError> {
        self.run(Op::Head, |state| {
            Ok(info(location, state.object(location)?))
        })
    }

    async fn put_new(&self, location: &str, bytes: Bytes) -> Result<PutOutcome, StorageError> {
        self.run(Op::PutNew, |state| {
            if state.objects.contains_key(location) {
                return Ok(PutOutcome::Exists);
            }
            state.put(location, bytes);
            Ok(PutOutcome::Created)
        })
    }

    async fn list(&self, folder: &Location) -> Result<Vec<ObjectInfo>, StorageError> {
        self.run(Op::List, |state| {
            let below = state
                .objects
                .iter()
                .filter(|(location, _)| location.starts_with(folder.as_str()));
            Ok(below
                .map(|(location, object)| info(location, object))
                .collect())
        })
    }

    async fn stage(&self, location: &str) -> Result<Box<dyn StagedWriter>, StorageError> {
        self.answers().await;
        self.run(Op::Stage, |state| {
            state.counter += 1;
            let id = format!("memory-staged-{}", state.counter);
            let staged = StagedBytes {
                location: location.to_owned(),
                bytes: Bytes::new(),
            };
            state.staged.insert(id.clone(), staged);
            Ok(id)
        })
        .map(|id| {
            Box::new(MemoryWriter {
                storage: self.clone(),
                id,
                bytes: BytesMut::new(),
            }) as Box<dyn StagedWriter>
        })
    }

    async fn publish(&self, object: &StagedObject) -> Result<(), StorageError> {
        let id = staged_id(object);
        self.run(Op::Publish, |state| state.publish(object, id))
    }

    async fn abandon(&self, object: &StagedObject) -> Result<(), StorageError> {
        let id = staged_id(object);
        self.run(Op::Abandon, |state| {
            state.staged.remove(id);
            Ok(())
        })
    }

    async fn delete(&self, location: &str) -> Result<(), StorageError> {
        self.run(Op::Delete, |state| {
            state.objects.remove(location);
            Ok(())
        })
    }

    async fn sweep(&self, folder: &Location, orphans: &Orphans) -> Result<usize, StorageError> {
        self.run(Op::Sweep, |state| {
            let count = state.staged.len();
            state.staged.retain(|_, staged| {
                let below = staged.location.starts_with(folder.as_str());
                !(below && orphans.include(&staged.location))
            });
            Ok(count - state.staged.len())
        })
    }
}

struct MemoryWriter {
    storage: MemoryStorage,
    id: String,
    bytes: BytesMut,
}

#[async_trait]
impl StagedWriter for MemoryWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.storage.answers().await;
        let buffer = &mut self.bytes;
        self.storage.run(Op::Write, |_| {
            buffer.extend_from_slice(&bytes);
            Ok(())
        })
    }

    async fn finish(
        self: Box<Self>,
        kind: ObjectKind,
        rows: u64,
    ) -> Result<StagedObject, StorageError> {
        let Self { storage, id, bytes } = *self;
        storage.answers().await;
        storage.run(Op::Finish, |state| {
            let bytes = bytes.freeze();
            let staged = state.staged.get_mut(&id);
            let staged = staged.ok_or_else(|| StorageError::NotFound {
                location: id.clone(),
            })?;
            staged.bytes = bytes.clone();
            let size = bytes.len() as u64;
            let crc32c = crc32c::crc32c(&bytes);
            let staging = staging(&staged.location, &id);
            Ok(StagedObject {
                kind,
                location: staged.location.clone(),
                size,
                crc32c,
                rows,
                table_file: None,
                staging,
            })
        })
    }

    async fn abort(self: Box<Self>) {
        self.storage.lock().staged.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::contract;

    #[tokio::test]
    async fn memory_keeps_the_contract() {
        contract::contract(
            &MemoryStorage::default(),
            &Location::folder("memory://root/"),
        )
        .await;
    }

    #[tokio::test]
    async fn a_publish_whose_answer_was_lost_is_done_and_can_be_done_again() {
        let storage = MemoryStorage::default();
        let mut writer = storage.stage("memory://root/a").await.unwrap();
        writer.write(Bytes::from_static(b"rows")).await.unwrap();
        let object = writer.finish(ObjectKind::Data, 1).await.unwrap();
        let lost = StorageError::Unavailable {
            location: "memory://root/a".into(),
            reason: "timed out".into(),
        };
        storage.fail_next(Op::Publish, lost, true);
        assert!(matches!(
            storage.publish(&object).await,
            Err(StorageError::Unavailable { .. })
        ));
        storage.publish(&object).await.unwrap();
        assert_eq!(storage.get("memory://root/a", 10).await.unwrap(), "rows");
    }
}
