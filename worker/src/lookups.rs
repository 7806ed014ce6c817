//! Lookups in memory, for all tasks of a worker.
//!
//! Owns: which are loaded, the memory they count for. Does not own: versions (the controller's
//! core), files (`engine`).
//! Rule: a version is loaded once per worker, and stays for as long as a task keeps it. Only one is
//! loaded at a time: loading takes a multiple of the memory that the loaded lookup takes.

use crate::task::TaskError;
use arrow::record_batch::RecordBatch;
use std::sync::{Arc, Weak};
use streamctl_engine::lookup::{self, LookupError};
use streamctl_engine::memory::{Holding, MemoryLimit, Share};
use streamctl_engine::storage::Storages;
use streamctl_proto::spec::LookupSpec;
use streamctl_proto::{LookupVersion, ResolvedJob};
use tokio::sync::Mutex;

/// Memory while a lookup is loaded, as a multiple of its files' size: the files, its rows, and the
/// rows once more while columns grow.
pub const LOADING_FACTOR: u64 = 3;

/// A lookup's rows. Their memory counts until the last clone is dropped.
#[derive(Debug)]
pub struct Table {
    pub rows: RecordBatch,
    _held: Holding,
}

/// Where the version is stored, and how it is read: the same for two tasks of one job.
type Key = (String, String, String, LookupVersion);

/// The lookups of a worker.
#[derive(Debug)]
pub struct Lookups {
    share: Arc<Share>,
    limit: MemoryLimit,
    loaded: Mutex<Vec<(Key, Weak<Table>)>>,
}

impl Lookups {
    /// Starts empty; the memory comes out of `share`.
    pub fn new(share: Arc<Share>, limit: MemoryLimit) -> Self {
        Self {
            share,
            limit,
            loaded: Mutex::default(),
        }
    }

    /// The rows of one version.
    ///
    /// # Errors
    /// [`TaskError::LookupMemory`] if there is no room for it; else the storage's and the files'.
    pub async fn get(
        &self,
        storages: &Storages,
        job: &ResolvedJob,
        spec: &LookupSpec,
        version: &LookupVersion,
    ) -> Result<Arc<Table>, TaskError> {
        let checkpoint = &job.spec.checkpoint;
        let name = &job.spec.name;
        let key = (
            checkpoint.to_string(),
            name.to_string(),
            spec.name.clone(),
            version.clone(),
        );
        let mut loaded = self.loaded.lock().await;
        loaded.retain(|(_, table)| table.strong_count() > 0);
        if let Some(table) = loaded
            .iter()
            .find(|(other, _)| *other == key)
            .and_then(|(_, table)| table.upgrade())
        {
            return Ok(table);
        }
        let bytes = lookup::kept_bytes(storages, checkpoint, name, &spec.name, version).await?;
        let held = self.take(&spec.name, bytes.saturating_mul(LOADING_FACTOR))?;
        let files = lookup::fetch(
            storages,
            checkpoint,
            name,
            &spec.name,
            version,
            spec.size_max,
        )
        .await?;
        let rows = lookup::rows::read(spec, files).await?;
        let size = rows.get_array_memory_size();
        if !held.try_set(size) {
            return Err(self.short(&spec.name, size));
        }
        let table = Arc::new(Table { rows, _held: held });
        loaded.push((key, Arc::downgrade(&table)));
        Ok(table)
    }

    /// The rows of a lookup's current files, of which no window has pinned a version.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn current(
        &self,
        storages: &Storages,
        spec: &LookupSpec,
    ) -> Result<Table, TaskError> {
        let _one_at_a_time = self.loaded.lock().await;
        let listed = lookup::current_version(storages, spec).await?;
        let held = self.take(&spec.name, listed.bytes.saturating_mul(LOADING_FACTOR))?;
        let failed = |source| LookupError::Storage {
            lookup: spec.name.clone(),
            source,
        };
        let mut files = Vec::with_capacity(listed.objects.len());
        let by_role = storages.as_role(spec.role.as_ref());
        for object in listed.objects {
            let storage = by_role.for_location(&object.location);
            let bytes = storage.get(&object.location, object.size).await;
            files.push((object.location, bytes.map_err(failed)?));
        }
        let rows = lookup::rows::read(spec, files).await?;
        let size = rows.get_array_memory_size();
        if !held.try_set(size) {
            return Err(self.short(&spec.name, size));
        }
        Ok(Table { rows, _held: held })
    }

    fn take(&self, lookup: &str, bytes: u64) -> Result<Holding, TaskError> {
        let held = Holding::without_minimum(Arc::clone(&self.share));
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if held.try_grow(bytes) {
            Ok(held)
        } else {
            Err(self.short(lookup, bytes))
        }
    }

    fn short(&self, lookup: &str, needed: usize) -> TaskError {
        let most = Holding::without_minimum(Arc::clone(&self.share)).most();
        let free = self.share.free();
        let limit = self.limit;
        TaskError::LookupMemory {
            lookup: lookup.to_owned(),
            needed,
            most,
            free,
            limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryBudget;
    use crate::task::tests::job;
    use std::time::Duration;
    use streamctl_engine::storage::MemoryStorage;
    use streamctl_proto::spec::{Location, LookupFormat};
    use streamctl_proto::v1::task_ended::{Place, Why};

    async fn kept(bytes: usize) -> (Storages, ResolvedJob, LookupSpec, LookupVersion) {
        let memory = MemoryStorage::default();
        let line = format!("{},{}\n", "k".repeat(40), "v".repeat(58));
        memory.put(
            "memory://lookup/c.csv",
            format!("k,name\n{}", line.repeat(bytes / line.len())),
        );
        let job = job("SELECT id FROM source");
        let path = Location::folder("memory://lookup");
        let format = LookupFormat::Csv;
        let refresh = Duration::from_secs(60);
        let size_max = 1 << 30;
        let spec = LookupSpec {
            name: "countries".into(),
            path,
            format,
            refresh,
            size_max,
            ..LookupSpec::new("l", Location::folder("/l"), LookupFormat::Csv)
        };
        let storages = Storages::memory(memory);
        let listed = lookup::current_version(&storages, &spec).await.unwrap();
        lookup::keep(
            &storages,
            &job.spec.checkpoint,
            &job.spec.name,
            &spec,
            &listed,
        )
        .await
        .unwrap();
        (storages, job, spec, listed.version)
    }

    #[tokio::test]
    async fn a_version_is_loaded_once_and_counts_until_its_last_user_drops_it() {
        let (storages, job, spec, version) = kept(1 << 20).await;
        let budget = MemoryBudget::default();
        let before = budget.lookups().share.free();
        let first = budget
            .lookups()
            .get(&storages, &job, &spec, &version)
            .await
            .unwrap();
        let again = budget
            .lookups()
            .get(&storages, &job, &spec, &version)
            .await
            .unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(
            before - budget.lookups().share.free(),
            first.rows.get_array_memory_size()
        );
        drop((first, again));
        assert_eq!(budget.lookups().share.free(), before);
    }

    #[tokio::test]
    async fn a_lookup_of_100_mb_fits_a_worker_of_2_gib_and_one_of_256_mib_names_its_limit() {
        let (storages, job, spec, version) = kept(100_000_000).await;
        let large = MemoryBudget::new("2GiB".parse().unwrap());
        let table = large
            .lookups()
            .get(&storages, &job, &spec, &version)
            .await
            .unwrap();
        assert_eq!(table.rows.num_rows(), 1_000_000);
        let small = MemoryBudget::new("256MiB".parse().unwrap());
        let error = small
            .lookups()
            .get(&storages, &job, &spec, &version)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("lookup countries needs 287MiB"), "{text}");
        assert!(text.contains("memory limit of 256MiB leaves"), "{text}");
        assert!(error.hint().contains("--memory-limit"));
        assert_eq!(
            (error.why(), error.refused_by()),
            (Why::Refused, Some(Place::Memory)),
            "it can never fit here"
        );
    }

    #[tokio::test]
    async fn what_others_hold_is_waited_for() {
        let (storages, job, spec, version) = kept(1 << 20).await;
        let budget = MemoryBudget::new("256MiB".parse().unwrap());
        let other = Holding::without_minimum(Arc::clone(&budget.lookups().share));
        assert!(other.try_grow(other.most()));
        let error = budget
            .lookups()
            .get(&storages, &job, &spec, &version)
            .await
            .unwrap_err();
        assert_eq!(error.why(), Why::Wait);
        drop(other);
        budget
            .lookups()
            .get(&storages, &job, &spec, &version)
            .await
            .unwrap();
    }
}
