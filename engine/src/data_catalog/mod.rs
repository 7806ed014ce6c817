//! Tables of files in the Glue Data Catalog: making them, adding columns and partitions.
//!
//! Owns: the trait, what a table of files states, what may go wrong, the clients of a process.
//! Does not own: which table a sink needs (`sink::files`), when a partition is registered (the
//! controller), tables that describe a source (`catalog`).
//! Rule: every call may be repeated: what is there already is success.

#[cfg(any(test, feature = "test-util"))]
pub mod contract;
mod glue;
mod known;
#[cfg(any(test, feature = "test-util"))]
pub mod memory;

use crate::aws::Aws;
use async_trait::async_trait;
use glue::GlueCatalog;
use known::Known;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use streamctl_proto::resolved::ColumnType;
use streamctl_proto::spec::SinkCatalog;

/// Most partitions in one request; the limit of Glue's BatchCreatePartition.
pub const PARTITIONS_PER_REQUEST_MAX: usize = 100;

/// A table's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName {
    /// `None`: the caller's catalog.
    pub catalog_id: Option<String>,
    pub database: String,
    pub table: String,
}

impl TableName {
    pub fn of(catalog: &SinkCatalog) -> Self {
        Self {
            catalog_id: catalog.catalog_id.clone(),
            database: catalog.database.clone(),
            table: catalog.table.clone(),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}

/// What a table of files states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesTable {
    pub location: String,
    /// Of the files, in order.
    pub columns: Vec<ColumnType>,
    /// In the order of the folders.
    pub partition_keys: Vec<ColumnType>,
    pub input_format: String,
    pub output_format: String,
    /// The class of the SerDe.
    pub library: String,
    pub serde: BTreeMap<String, String>,
    pub parameters: BTreeMap<String, String>,
    /// Changes with each alteration; `None`: the catalog has none.
    pub version: Option<String>,
}

/// A partition to register.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    /// One for each partition key.
    pub values: Vec<String>,
    /// Its folder, ending in a slash.
    pub location: String,
}

/// What became of a table that was to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    Created,
    /// A table of this name is there, perhaps another one.
    Exists,
}

/// What became of columns that were to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Altered {
    Altered,
    /// The table was altered by others since it was read.
    Conflict,
}

/// Why the catalog did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DataCatalogError {
    #[error("the Data Catalog has no database {database:?}")]
    DatabaseMissing { database: String },
    #[error("the Data Catalog has no table {table}")]
    TableMissing { table: TableName },
    /// The request can never succeed.
    #[error("the Data Catalog refused table {table}: {reason}")]
    Refused {
        table: TableName,
        reason: String,
        hint: String,
    },
    /// This process may not: rights and keys come and go.
    #[error("the Data Catalog refused this process for table {table}: {reason}")]
    Denied {
        table: TableName,
        reason: String,
        hint: String,
    },
    /// A retry may succeed.
    #[error("the Data Catalog did not answer for table {table}: {reason}")]
    Unavailable { table: TableName, reason: String },
}

impl DataCatalogError {
    /// What the user can do; `None`: wait.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::DatabaseMissing { database } => Some(format!(
                "make it first: aws glue create-database --database-input Name={database}; or \
                 check region and catalog_id"
            )),
            Self::TableMissing { .. } => Some(
                "the table was dropped or renamed; submit the job again with --change to make it, \
                 or restore it, then resume the job"
                    .to_owned(),
            ),
            Self::Refused { hint, .. } | Self::Denied { hint, .. } => Some(hint.clone()),
            Self::Unavailable { .. } => None,
        }
    }
}

/// A catalog of tables of files.
#[async_trait]
pub trait DataCatalog: fmt::Debug + Send + Sync {
    /// `None`: the database has no such table.
    async fn table(&self, name: &TableName) -> Result<Option<FilesTable>, DataCatalogError>;
    /// Makes a table, unless one of this name is there.
    async fn create(
        &self,
        name: &TableName,
        table: &FilesTable,
    ) -> Result<Created, DataCatalogError>;
    /// Adds columns behind those of the table, if it is still as it was read: `seen`.
    async fn add_columns(
        &self,
        name: &TableName,
        seen: &FilesTable,
        columns: &[ColumnType],
    ) -> Result<Altered, DataCatalogError>;
    /// Registers at most [`PARTITIONS_PER_REQUEST_MAX`] partitions, with the columns and the SerDe of
    /// the table. Those that are registered already stay as they are.
    async fn add_partitions(
        &self,
        name: &TableName,
        table: &FilesTable,
        partitions: &[Partition],
    ) -> Result<(), DataCatalogError>;
}

/// The clients of a process; a clone shares what it knows.
#[derive(Clone, Debug)]
pub struct DataCatalogs {
    aws: Aws,
    known: Known,
    #[cfg(any(test, feature = "test-util"))]
    given: Option<Arc<dyn DataCatalog>>,
}

impl DataCatalogs {
    pub fn new(aws: Aws) -> Self {
        Self {
            aws,
            known: Known::default(),
            #[cfg(any(test, feature = "test-util"))]
            given: None,
        }
    }

    /// One catalog for every table.
    #[cfg(any(test, feature = "test-util"))]
    pub fn only(catalog: Arc<dyn DataCatalog>) -> Self {
        Self {
            given: Some(catalog),
            ..Self::new(Aws::new(crate::aws::AwsSettings::default()))
        }
    }

    /// The client for the catalog of a sink.
    pub async fn catalog(&self, of: &SinkCatalog) -> Arc<dyn DataCatalog> {
        #[cfg(any(test, feature = "test-util"))]
        if let Some(given) = &self.given {
            return Arc::clone(given);
        }
        let client = self.aws.glue_as(of.role.as_ref(), of.region.as_deref());
        let client = client.await;
        Arc::new(GlueCatalog::new(client))
    }

    /// Registers partitions, as many as there are. Those that were registered a short time ago are
    /// passed over.
    ///
    /// # Errors
    /// Some of them may be registered.
    pub async fn register(
        &self,
        of: &SinkCatalog,
        partitions: Vec<Partition>,
    ) -> Result<(), DataCatalogError> {
        let name = TableName::of(of);
        let partitions = self.known.unknown(of, partitions);
        if partitions.is_empty() {
            return Ok(());
        }
        let catalog = self.catalog(of).await;
        let table = catalog.table(&name).await?;
        let table = table.ok_or_else(|| DataCatalogError::TableMissing {
            table: name.clone(),
        })?;
        for some in partitions.chunks(PARTITIONS_PER_REQUEST_MAX) {
            catalog.add_partitions(&name, &table, some).await?;
            self.known.registered(of, some);
            tracing::debug!(table = %name, partitions = some.len(), "registered");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
