//! A Data Catalog in memory, with faults.
//!
//! Rule: it keeps the contract of the real one ([`super::contract`]); a fault occurs only on request.

use super::{
    Altered, Created, DataCatalog, DataCatalogError, FilesTable, PARTITIONS_PER_REQUEST_MAX,
    Partition, TableName,
};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use streamctl_proto::resolved::ColumnType;

/// What happens to a request instead of a good answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It takes no effect.
    Unavailable,
    /// It takes effect, and its answer is lost.
    AnswerLost,
    /// Only the first half of its partitions is registered.
    Half,
    Denied,
}

#[derive(Debug, Default)]
struct State {
    databases: BTreeSet<String>,
    tables: BTreeMap<(String, String), FilesTable>,
    /// Location by values, of each table.
    partitions: BTreeMap<(String, String), BTreeMap<Vec<String>, String>>,
    /// For the next requests that write.
    faults: VecDeque<Fault>,
    versions: u64,
    /// Sizes of the requests to register partitions.
    registrations: Vec<usize>,
}

/// The catalog; share it with an `Arc`.
#[derive(Debug, Default)]
pub struct MemoryCatalog(Mutex<State>);

impl MemoryCatalog {
    pub fn with_database(name: &str) -> Self {
        let catalog = Self::default();
        catalog.lock().databases.insert(name.to_owned());
        catalog
    }

    /// The next requests that write meet these faults, one each.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// The registered partitions of a table: location by values.
    pub fn partitions(&self, name: &TableName) -> BTreeMap<Vec<String>, String> {
        let found = self.lock().partitions.get(&key(name)).cloned();
        found.unwrap_or_default()
    }

    /// Sizes of the requests to register partitions so far.
    pub fn registrations(&self) -> Vec<usize> {
        self.lock().registrations.clone()
    }

    /// Others drop a table.
    pub fn drop_table(&self, name: &TableName) {
        self.lock().tables.remove(&key(name));
    }

    /// Others remove a partition.
    pub fn drop_partition(&self, name: &TableName, values: &[String]) {
        if let Some(all) = self.lock().partitions.get_mut(&key(name)) {
            all.remove(values);
        }
    }

    /// Others alter a table.
    pub fn alter(&self, name: &TableName, change: impl FnOnce(&mut FilesTable)) {
        let mut state = self.lock();
        state.versions += 1;
        let version = state.versions.to_string();
        if let Some(table) = state.tables.get_mut(&key(name)) {
            change(table);
            table.version = Some(version);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(name: &TableName) -> (String, String) {
    (name.database.clone(), name.table.clone())
}

impl State {
    /// The database is there, and no fault before the effect is due.
    fn begin(&mut self, name: &TableName) -> Result<Option<Fault>, DataCatalogError> {
        let fault = self.faults.pop_front();
        match fault {
            Some(Fault::Unavailable) => return Err(unavailable(name)),
            Some(Fault::Denied) => {
                return Err(DataCatalogError::Denied {
                    table: name.clone(),
                    reason: "AccessDeniedException: no".to_owned(),
                    hint: "allow it".to_owned(),
                });
            }
            Some(Fault::AnswerLost | Fault::Half) | None => {}
        }
        self.has_database(name)?;
        Ok(fault)
    }

    fn has_database(&self, name: &TableName) -> Result<(), DataCatalogError> {
        match self.databases.contains(&name.database) {
            true => Ok(()),
            false => Err(DataCatalogError::DatabaseMissing {
                database: name.database.clone(),
            }),
        }
    }

    fn next_version(&mut self) -> Option<String> {
        self.versions += 1;
        Some(self.versions.to_string())
    }
}

fn unavailable(name: &TableName) -> DataCatalogError {
    DataCatalogError::Unavailable {
        table: name.clone(),
        reason: "no answer".to_owned(),
    }
}

/// The answer, unless it is lost.
fn end<T>(fault: Option<Fault>, name: &TableName, answer: T) -> Result<T, DataCatalogError> {
    match fault {
        Some(_) => Err(unavailable(name)),
        None => Ok(answer),
    }
}

#[async_trait]
impl DataCatalog for MemoryCatalog {
    async fn table(&self, name: &TableName) -> Result<Option<FilesTable>, DataCatalogError> {
        let state = self.lock();
        state.has_database(name)?;
        Ok(state.tables.get(&key(name)).cloned())
    }

    async fn create(
        &self,
        name: &TableName,
        table: &FilesTable,
    ) -> Result<Created, DataCatalogError> {
        let mut state = self.lock();
        let fault = state.begin(name)?;
        let created = match state.tables.contains_key(&key(name)) {
            true => Created::Exists,
            false => {
                let version = state.next_version();
                let table = FilesTable {
                    version,
                    ..table.clone()
                };
                state.tables.insert(key(name), table);
                Created::Created
            }
        };
        end(fault, name, created)
    }

    async fn add_columns(
        &self,
        name: &TableName,
        seen: &FilesTable,
        columns: &[ColumnType],
    ) -> Result<Altered, DataCatalogError> {
        let mut state = self.lock();
        let fault = state.begin(name)?;
        let version = state.next_version();
        let Some(table) = state.tables.get_mut(&key(name)) else {
            return Err(DataCatalogError::TableMissing {
                table: name.clone(),
            });
        };
        if table != seen {
            return end(fault, name, Altered::Conflict);
        }
        table.columns.extend(columns.iter().cloned());
        table.version = version;
        end(fault, name, Altered::Altered)
    }

    async fn add_partitions(
        &self,
        name: &TableName,
        _table: &FilesTable,
        partitions: &[Partition],
    ) -> Result<(), DataCatalogError> {
        let mut state = self.lock();
        let fault = state.begin(name)?;
        let Some(table) = state.tables.get(&key(name)) else {
            return Err(DataCatalogError::TableMissing {
                table: name.clone(),
            });
        };
        let keys = table.partition_keys.len();
        let is_bad = |partition: &Partition| partition.values.len() != keys;
        if partitions.len() > PARTITIONS_PER_REQUEST_MAX || partitions.iter().any(is_bad) {
            return Err(DataCatalogError::Refused {
                table: name.clone(),
                reason: format!("{} partitions of {keys} keys", partitions.len()),
                hint: "send fewer".to_owned(),
            });
        }
        state.registrations.push(partitions.len());
        let taken = match fault {
            Some(Fault::Half) => partitions.len() / 2,
            _ => partitions.len(),
        };
        let all = state.partitions.entry(key(name)).or_default();
        for Partition { values, location } in &partitions[..taken] {
            all.entry(values.clone()).or_insert(location.clone());
        }
        end(fault, name, ())
    }
}
