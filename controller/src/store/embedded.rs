//! The store as one file: for one process on one machine.
//!
//! Owns: the file, its lock, durability. Does not own: the rules of a write (`cells`).
//! Rule: what was acknowledged is on disk; a process killed at any moment leaves a file that the
//! next one opens.

use super::cells::{self, Cells};
use super::{
    Anchors, Block, CommitOutcome, CreateOutcome, DesiredState, Entry, JobKey, Keys, LeaderRecord,
    Leadership, Repair, Replays, Store, StoreError, StoredJob, WriteOutcome,
};
use async_trait::async_trait;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, Table, TableDefinition,
};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use streamctl_proto::{Epoch, JobName, ManifestRef, ResolvedJob, Term};
use tokio::sync::Semaphore;

/// The file inside the state folder.
const FILE_NAME: &str = "store.redb";
/// Mode of a new state folder: accessible only to its owner.
const FOLDER_MODE: u32 = 0o700;
/// Pages kept in memory; the whole store is smaller.
const CACHE_BYTES: usize = 4 << 20;

type Content = TableDefinition<'static, &'static str, &'static [u8]>;
const CELLS: Content = TableDefinition::new("cells");

/// A store in a folder of this machine.
pub struct EmbeddedStore {
    file: Arc<File>,
    /// One permit: leadership. A second candidate of this process waits for it.
    lead: Arc<Semaphore>,
}

struct File {
    path: PathBuf,
    /// `None` only between two attempts to open it again.
    database: RwLock<Option<Database>>,
    /// The disk returned an error: redb accepts no more operations until the file is opened again.
    failed: AtomicBool,
    keys: Keys,
}

impl EmbeddedStore {
    /// Opens or creates the store in `folder`, which is created too. Blocks on the disk.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let refused = |reason: String, hint: &str| StoreError::Refused {
            reason,
            hint: hint.to_owned(),
        };
        let shown = folder.display();
        // Other users must not read job files and their locations.
        let private = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(folder);
        private.map_err(|error| {
            refused(
                format!("state folder {shown} cannot be made: {error}"),
                "choose a folder that can be written",
            )
        })?;
        let path = folder.join(FILE_NAME);
        let database = open_file(&path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => refused(
                format!("another streamctl uses the state folder {shown}"),
                "stop it, or give this one a state folder of its own",
            ),
            error => refused(
                format!("state folder {shown} cannot be opened: {error}"),
                "choose another folder, or restore this one from a copy",
            ),
        })?;
        let database = RwLock::new(Some(database));
        let failed = AtomicBool::new(false);
        let file = File {
            path,
            database,
            failed,
            keys: Keys::new("local"),
        };
        file.change(|_, _| Ok(()))?; // makes the table, so that reading finds one
        Ok(Self {
            file: Arc::new(file),
            lead: Arc::new(Semaphore::new(1)),
        })
    }

    async fn change<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut dyn Cells, &Keys) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let file = self.file.clone();
        off_runtime(move || file.change(operation)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut dyn Cells, &Keys) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let file = self.file.clone();
        off_runtime(move || file.read(operation)).await
    }
}

/// Waits for the disk must not block the runtime.
async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(StoreError::Unavailable {
            reason: error.to_string(),
        })
    })
}

fn open_file(path: &Path) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(CACHE_BYTES).create(path)
}

fn unavailable(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Unavailable {
        reason: error.into().to_string(),
    }
}

impl File {
    /// The database. If the disk returned an error since, the file is opened again; this recovers
    /// as soon as the disk has space.
    fn with_database<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.failed.load(Ordering::Acquire) {
            let mut slot = self
                .database
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            // Close the old one first: it holds the file's lock.
            *slot = None;
            *slot = Some(open_file(&self.path).map_err(unavailable)?);
            self.failed.store(false, Ordering::Release);
            tracing::info!(path = %self.path.display(), "the store was opened again");
        }
        let slot = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let closed = || StoreError::Unavailable {
            reason: "the store's file is being opened again".to_owned(),
        };
        let done = work(slot.as_ref().ok_or_else(closed)?);
        if matches!(done, Err(StoreError::Unavailable { .. })) {
            self.failed.store(true, Ordering::Release);
        }
        done
    }

    /// Runs `operation` in one durable transaction; if it fails, nothing is kept.
    fn change<T>(
        &self,
        operation: impl FnOnce(&mut dyn Cells, &Keys) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with_database(|database| {
            let mut transaction = database.begin_write().map_err(unavailable)?;
            transaction
                .set_durability(Durability::Immediate)
                .map_err(unavailable)?;
            let mut table = transaction.open_table(CELLS).map_err(unavailable)?;
            let done = operation(&mut table, &self.keys)?;
            drop(table);
            transaction.commit().map_err(unavailable)?;
            Ok(done)
        })
    }

    /// Runs `operation` on the current content; it must not write.
    fn read<T>(
        &self,
        operation: impl FnOnce(&mut dyn Cells, &Keys) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with_database(|database| {
            let transaction = database.begin_read().map_err(unavailable)?;
            let table = transaction.open_table(CELLS).map_err(unavailable)?;
            let mut all = std::collections::BTreeMap::new();
            for entry in table.iter().map_err(unavailable)? {
                let (key, value) = entry.map_err(unavailable)?;
                all.insert(key.value().to_owned(), value.value().to_vec());
            }
            operation(&mut all, &self.keys)
        })
    }
}

impl Cells for Table<'_, &'static str, &'static [u8]> {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(ReadableTable::get(self, key)
            .map_err(unavailable)?
            .map(|value| value.value().to_vec()))
    }
    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.insert(key, value).map_err(unavailable)?;
        Ok(())
    }
    fn remove(&mut self, key: &str) -> Result<(), StoreError> {
        Table::remove(self, key).map_err(unavailable)?;
        Ok(())
    }
    fn below(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut found = Vec::new();
        for entry in self.range(prefix..).map_err(unavailable)? {
            let (key, value) = entry.map_err(unavailable)?;
            if !key.value().starts_with(prefix) {
                break;
            }
            found.push((key.value().to_owned(), value.value().to_vec()));
        }
        Ok(found)
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn campaign(&self, me: &LeaderRecord) -> Result<Leadership, StoreError> {
        let permit = self
            .lead
            .clone()
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let me = me.clone();
        let term = self
            .change(move |all, keys| cells::elect(all, keys, &me))
            .await?;
        let file = self.file.clone();
        let (held, reported) = tokio::sync::oneshot::channel::<()>();
        let (leadership, keeper) = Leadership::always(
            term,
            Box::new(move || {
                Box::pin(async move {
                    let resigned = off_runtime(move || {
                        file.change(|all, keys| cells::resign(all, keys, term))
                    })
                    .await;
                    if let Err(error) = resigned {
                        tracing::warn!(%error, %term, "the end of the term was not written");
                    }
                    drop((held, permit));
                })
            }),
        );
        tokio::spawn(async move {
            let _ended = reported.await;
            keeper.lose();
        });
        Ok(leadership)
    }

    async fn leader(&self) -> Result<Option<(Term, LeaderRecord)>, StoreError> {
        self.read(|all, keys| cells::leader(all, keys)).await
    }

    async fn load(&self) -> Result<Vec<StoredJob>, StoreError> {
        self.read(|all, keys| cells::jobs(keys, all.below(&keys.jobs())?))
            .await
    }

    async fn create_job(&self, term: Term, job: &ResolvedJob) -> Result<CreateOutcome, StoreError> {
        let job = job.clone();
        self.change(move |all, keys| cells::create_job(all, keys, term, &job))
            .await
    }

    async fn change_job(&self, term: Term, job: &ResolvedJob) -> Result<WriteOutcome, StoreError> {
        let key = self.file.keys.of(&job.spec.name, JobKey::Spec);
        let value = cells::encode(job);
        self.change(move |all, keys| cells::write(all, keys, term, &key, &value))
            .await
    }

    async fn set_wanted(
        &self,
        term: Term,
        job: &JobName,
        wanted: &DesiredState,
    ) -> Result<WriteOutcome, StoreError> {
        let key = self.file.keys.of(job, JobKey::Wanted);
        let value = cells::encode(wanted);
        self.change(move |all, keys| cells::write(all, keys, term, &key, &value))
            .await
    }

    async fn set_replays(
        &self,
        term: Term,
        job: &JobName,
        replays: &Replays,
    ) -> Result<WriteOutcome, StoreError> {
        let key = self.file.keys.of(job, JobKey::Replays);
        let value = cells::encode(replays);
        self.change(move |all, keys| cells::write(all, keys, term, &key, &value))
            .await
    }

    async fn set_repairs(
        &self,
        term: Term,
        job: &JobName,
        repairs: &[Repair],
    ) -> Result<WriteOutcome, StoreError> {
        let key = self.file.keys.of(job, JobKey::Repairs);
        let value = cells::encode(&repairs);
        self.change(move |all, keys| cells::write(all, keys, term, &key, &value))
            .await
    }

    async fn set_anchors(
        &self,
        term: Term,
        job: &JobName,
        anchors: &Anchors,
    ) -> Result<WriteOutcome, StoreError> {
        let key = self.file.keys.of(job, JobKey::Anchor);
        let value = cells::encode(anchors);
        self.change(move |all, keys| cells::write(all, keys, term, &key, &value))
            .await
    }

    async fn raise_terms(&self, term: Term, above: Term) -> Result<WriteOutcome, StoreError> {
        self.change(move |all, keys| cells::raise_terms(all, keys, term, above))
            .await
    }

    async fn commit(
        &self,
        term: Term,
        job: &JobName,
        previous: Option<&ManifestRef>,
        head: &ManifestRef,
    ) -> Result<CommitOutcome, StoreError> {
        let job = job.clone();
        let previous = previous.cloned();
        let head = head.clone();
        self.change(move |all, keys| cells::commit(all, keys, term, &job, previous.as_ref(), &head))
            .await
    }

    async fn set_published(
        &self,
        term: Term,
        job: &JobName,
        epoch: Epoch,
    ) -> Result<WriteOutcome, StoreError> {
        let key = self.file.keys.of(job, JobKey::Published);
        let value = cells::encode(&epoch);
        self.change(move |all, keys| cells::write(all, keys, term, &key, &value))
            .await
    }

    async fn load_journal(&self) -> Result<Vec<Entry>, StoreError> {
        self.read(|all, keys| Ok(cells::journal(all.below(&keys.journal())?)))
            .await
    }

    async fn write_journal(
        &self,
        term: Term,
        blocks: &[Block],
    ) -> Result<WriteOutcome, StoreError> {
        let blocks = blocks.to_vec();
        self.change(move |all, keys| cells::write_journal(all, keys, term, &blocks))
            .await
    }

    async fn delete_job(&self, term: Term, job: &JobName) -> Result<WriteOutcome, StoreError> {
        let job = job.clone();
        self.change(move |all, keys| cells::delete_job(all, keys, term, &job))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::contract;
    use super::*;

    #[tokio::test]
    async fn the_contract_for_one_candidate_holds_on_a_disk() {
        let folder = tempfile::tempdir().unwrap();
        contract::for_one(Arc::new(EmbeddedStore::open(folder.path()).unwrap())).await;
    }

    #[tokio::test]
    async fn what_was_answered_is_there_after_the_process_and_its_term_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(folder.path()).unwrap();
        let before = store.campaign(&contract::leader("a")).await.unwrap();
        let job = contract::job("j");
        let head = contract::head(1);
        store.create_job(before.term, &job).await.unwrap();
        store
            .commit(before.term, &job.spec.name, None, &head)
            .await
            .unwrap();
        let old_term = before.term;
        drop((before, store)); // never resigned, as after kill -9

        let store = EmbeddedStore::open(folder.path()).unwrap();
        let after = store.campaign(&contract::leader("b")).await.unwrap();
        assert!(after.term > old_term);
        assert_eq!(store.load().await.unwrap()[0].head, Some(head));
        let late = store
            .set_wanted(old_term, &job.spec.name, &DesiredState::Stopped)
            .await
            .unwrap();
        assert_eq!(late, WriteOutcome::Fenced);
    }

    #[tokio::test]
    async fn a_file_whose_process_was_killed_is_opened_with_all_that_was_answered() {
        let folder = tempfile::tempdir().unwrap();
        let after = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(folder.path()).unwrap();
        let leading = store.campaign(&contract::leader("a")).await.unwrap();
        store
            .create_job(leading.term, &contract::job("j"))
            .await
            .unwrap();
        // What a kill leaves: the file as it is now, never closed.
        std::fs::copy(folder.path().join(FILE_NAME), after.path().join(FILE_NAME)).unwrap();

        let next = EmbeddedStore::open(after.path()).unwrap();
        assert_eq!(next.load().await.unwrap()[0].job, contract::job("j"));
        assert!(next.campaign(&contract::leader("b")).await.unwrap().term > leading.term);
    }

    #[tokio::test]
    async fn after_the_disk_refused_something_the_file_is_opened_again_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(folder.path()).unwrap();
        let leading = store.campaign(&contract::leader("a")).await.unwrap();
        let job = contract::job("j");
        let head = contract::head(1);
        store.create_job(leading.term, &job).await.unwrap();
        let full = |_: &Database| -> Result<(), StoreError> {
            Err(StoreError::Unavailable {
                reason: "no space left on device".into(),
            })
        };
        assert!(store.file.with_database(full).is_err());
        assert!(store.file.failed.load(Ordering::Acquire));
        assert_eq!(
            store
                .commit(leading.term, &job.spec.name, None, &head)
                .await
                .unwrap(),
            CommitOutcome::Committed,
            "the term goes on, and so does what it does"
        );
        assert!(!store.file.failed.load(Ordering::Acquire));
        assert_eq!(store.load().await.unwrap()[0].head, Some(head));
    }

    #[tokio::test]
    async fn a_second_process_is_refused_because_the_folder_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let _first = EmbeddedStore::open(folder.path()).unwrap();
        let error = EmbeddedStore::open(folder.path())
            .err()
            .expect("the folder is locked");
        assert!(
            error
                .to_string()
                .contains("another streamctl uses the state folder"),
            "{error}"
        );
    }
}
