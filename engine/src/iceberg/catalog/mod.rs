//! Catalogs: where a table's current metadata is, and who changes it.
//!
//! Owns: the trait, outcomes and errors. Does not own: what a commit contains (`plan`), its retries
//! (`commit`).
//! Rule: a commit has one of three outcomes, and "unknown" is one of them. What is not surely
//! refused may be in the table, now or later.

pub mod apply;
#[cfg(any(test, feature = "test-util"))]
pub mod contract;
pub mod local;
#[cfg(any(test, feature = "test-util"))]
pub mod memory;
pub mod request;
pub mod rest;

use super::metadata::TableMetadata;
use async_trait::async_trait;
use request::{CommitRequest, NewTable};
use std::fmt;
use std::sync::Arc;

/// A table's name in its catalog.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    pub namespace: Vec<String>,
    pub name: String,
}

/// A text that is not a table's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of a table; write \"database.table\"")]
pub struct BadTableName(pub String);

impl TableName {
    /// # Errors
    /// A text without a namespace, or with an empty part.
    pub fn parse(text: &str) -> Result<Self, BadTableName> {
        let mut parts: Vec<String> = text.split('.').map(str::to_owned).collect();
        let bad = |part: &String| {
            part.trim() != part || part.is_empty() || part.chars().any(char::is_control)
        };
        if parts.len() < 2 || parts.iter().any(bad) {
            return Err(BadTableName(text.to_owned()));
        }
        let name = parts.pop().unwrap_or_default();
        Ok(Self {
            namespace: parts,
            name,
        })
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.namespace.join("."), self.name)
    }
}

/// What became of a commit.
#[derive(Clone, Debug)]
pub enum CommitOutcome {
    /// It is in the table, whose metadata this is.
    Committed(Arc<TableMetadata>),
    /// The table is not as the request requires. An earlier copy of the same request may be the
    /// reason.
    Conflict { reason: String },
    /// The request may take effect, now or later, or never.
    Unknown { reason: String },
}

/// Whether a table was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    Created,
    Exists,
}

/// Why a catalog did not do what was requested. On a commit it means: surely nothing happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    #[error("the catalog has no table {table}")]
    TableMissing { table: TableName },
    /// The same request is refused again.
    #[error("the catalog refuses: {reason}")]
    Refused { reason: String, hint: String },
    /// A retry may succeed.
    #[error("the catalog does not serve: {reason}")]
    Unavailable { reason: String },
}

/// A catalog of tables.
#[async_trait]
pub trait Catalog: Send + Sync + fmt::Debug {
    /// The current metadata.
    async fn load(&self, table: &TableName) -> Result<Arc<TableMetadata>, CatalogError>;
    /// Creates a table, unless one of its name exists.
    async fn create(&self, new: &NewTable) -> Result<Created, CatalogError>;
    /// Sends the request once. An error means that it surely had and will have no effect.
    async fn commit(
        &self,
        table: &TableName,
        request: &CommitRequest,
    ) -> Result<CommitOutcome, CatalogError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_namespace_and_no_empty_part() {
        let name = TableName::parse("a.b.c").unwrap();
        assert_eq!(name.namespace, ["a", "b"]);
        assert_eq!(name.to_string(), "a.b.c");
        for bad in ["", "a", "a.", ".a", "a..b", "a. b"] {
            assert!(TableName::parse(bad).is_err(), "{bad}");
        }
    }
}
