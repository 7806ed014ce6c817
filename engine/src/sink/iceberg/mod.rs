//! A table of an Iceberg catalog: its columns, and what a submit finds and pins.
//!
//! Owns: the order of the checks, what is pinned. Does not own: whether a result fits a table
//! (`iceberg::compare`), the catalogs (`iceberg::tables`).
//! Rule: looking has no side effect; only a submit that is not a dry run makes a table.

mod new_table;
mod pin;
mod types;

pub use pin::{PinError, pinned_fields, pinned_schema, pinned_spec, writer};

use super::{Found, Layout, NotMade, Place};
use crate::iceberg::catalog::{Catalog, CatalogError, Created, TableName};
use crate::iceberg::metadata::TableMetadata;
use crate::storage::{StorageError, Storages};
use crate::written::Form;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use std::sync::Arc;
use streamctl_proto::count;
use streamctl_proto::spec::{IcebergSink, Problem, SinkFacts as _, SinkKind, TableCatalog};

const TABLE: &str = "sink.table";

#[async_trait]
impl Layout for IcebergSink {
    fn form(&self, result: &SchemaRef) -> Form {
        let pinned = self.pinned.as_deref();
        let table = pinned.and_then(|pinned| pinned_schema(pinned).ok());
        types::form(result, table.as_ref())
    }

    fn refused_names(&self, result: &SchemaRef) -> Vec<Problem> {
        let same = crate::written::check_names(result, &[]).into_iter();
        let names = same.map(|(message, hint)| Problem::new("transform.sql", message, Some(hint)));
        names
            .chain(new_table::unknown_columns(self, result))
            .collect()
    }

    fn refused_types(&self, result: &SchemaRef) -> Vec<Problem> {
        types::refused(result)
    }

    /// A table's folder is looked at when the table is known.
    async fn unreachable(&self, _storages: &Storages) -> Vec<(&'static str, StorageError)> {
        vec![]
    }

    async fn find(&self, place: Place<'_>, result: &SchemaRef) -> Found {
        let mut found = Found::default();
        found.problems.extend(foreign_address(self, place));
        if !found.problems.is_empty() {
            return found;
        }
        match load(self, place).await {
            Ok(Loaded::Table(table)) => fit(self, place, &table, result, &mut found).await,
            Ok(Loaded::Missing) => to_be_made(self, result, &mut found),
            Err(error) => fail(error, &mut found),
        }
        found
    }

    async fn make(
        &self,
        place: Place<'_>,
        result: &SchemaRef,
    ) -> Result<Option<SinkKind>, NotMade> {
        if self.pinned.is_some() {
            return Ok(None);
        }
        let mut found = Found::default();
        match create(self, place, result).await {
            Ok(table) => fit(self, place, &table, result, &mut found).await,
            Err(Failed::Catalog(error)) => fail(error, &mut found),
            Err(Failed::Problems(problems)) => found.problems = problems,
        }
        if !found.problems.is_empty() {
            return Err(NotMade::Problems(found.problems));
        }
        match found.unavailable.into_iter().next() {
            Some((field, reason)) => Err(NotMade::Unavailable { field, reason }),
            None => Ok(found.sink),
        }
    }
}

enum Loaded {
    Table(Arc<TableMetadata>),
    Missing,
}

enum Failed {
    Catalog(CatalogError),
    Problems(Vec<Problem>),
}

impl From<CatalogError> for Failed {
    fn from(error: CatalogError) -> Self {
        Self::Catalog(error)
    }
}

/// The table's name in its catalog.
///
/// # Errors
/// A stored job with another text than the job file's rules allow.
pub(super) fn table_name(sink: &IcebergSink) -> Result<TableName, CatalogError> {
    TableName::parse(&sink.table).map_err(|error| CatalogError::Refused {
        reason: error.to_string(),
        hint: "write \"database.table\"".into(),
    })
}

fn fail(error: CatalogError, found: &mut Found) {
    match error {
        CatalogError::Unavailable { .. } => {
            let reason = error.to_string();
            found.unavailable.push(("sink.catalog".to_owned(), reason));
        }
        CatalogError::TableMissing { ref table } => {
            let hint = format!("make {table} first, or add create = true");
            let problem = Problem::new(TABLE, error.to_string(), Some(hint));
            found.problems.push(problem);
        }
        CatalogError::Refused { ref hint, .. } => {
            let problem = Problem::new("sink.catalog", error.to_string(), Some(hint.clone()));
            found.problems.push(problem);
        }
    }
}

fn foreign_address(sink: &IcebergSink, place: Place<'_>) -> Option<Problem> {
    match &sink.catalog {
        TableCatalog::Rest { uri, .. } => place.foreign.check_catalog(uri, None),
        TableCatalog::Glue { uri, .. } => {
            let uri = uri.as_ref()?;
            place.foreign.check_catalog(uri, Some("glue"))
        }
        TableCatalog::S3Tables { uri, .. } => {
            let uri = uri.as_ref()?;
            place.foreign.check_catalog(uri, Some("s3tables"))
        }
        TableCatalog::Local { .. } => None,
    }
}

async fn load(sink: &IcebergSink, place: Place<'_>) -> Result<Loaded, CatalogError> {
    let name = table_name(sink)?;
    let storages = place.storages.as_role(sink.role.as_ref());
    let catalog = storages.tables().catalog(&sink.catalog).await?;
    match catalog.load(&name).await {
        Ok(table) => Ok(Loaded::Table(table)),
        Err(CatalogError::TableMissing { .. }) if sink.create => Ok(Loaded::Missing),
        Err(error) => Err(error),
    }
}

async fn create(
    sink: &IcebergSink,
    place: Place<'_>,
    result: &SchemaRef,
) -> Result<Arc<TableMetadata>, Failed> {
    let new = new_table::new_table(sink, result).map_err(Failed::Problems)?;
    let storages = place.storages.as_role(sink.role.as_ref());
    let catalog: Arc<dyn Catalog> = storages.tables().catalog(&sink.catalog).await?;
    let created = catalog.create(&new).await?;
    if created == Created::Created {
        tracing::info!(job = %place.spec.name, table = %new.name, "made the table");
    }
    Ok(catalog.load(&new.name).await?)
}

async fn fit(
    sink: &IcebergSink,
    place: Place<'_>,
    table: &TableMetadata,
    result: &SchemaRef,
    found: &mut Found,
) {
    let fitting = pin::pin(sink, place, table, result);
    match fitting {
        Ok(pinned) => {
            let storage = place
                .storages
                .as_role(sink.role.as_ref())
                .for_location(pinned.data.as_str());
            match storage.check(&pinned.data).await {
                Ok(()) => {}
                Err(error @ StorageError::Unavailable { .. }) => {
                    let reason = error.to_string();
                    found.unavailable.push((TABLE.to_owned(), reason));
                }
                Err(error) => {
                    let message = format!("its data folder cannot be used: {error}");
                    let hint = match error {
                        StorageError::Refused { hint, .. } => hint,
                        StorageError::NotFound { .. }
                        | StorageError::TooLarge { .. }
                        | StorageError::StagedLost { .. }
                        | StorageError::Unavailable { .. } => {
                            "check the table's location".to_owned()
                        }
                    };
                    found
                        .problems
                        .push(Problem::new(TABLE, message, Some(hint)));
                }
            }
            found.facts = pin::facts(sink, table, &pinned);
            let sink = IcebergSink {
                pinned: Some(Box::new(pinned)),
                ..sink.clone()
            };
            found.sink = Some(sink.into());
        }
        Err(problems) => found.problems.extend(problems),
    }
}

fn to_be_made(sink: &IcebergSink, result: &SchemaRef, found: &mut Found) {
    let new = match new_table::new_table(sink, result) {
        Ok(new) => new,
        Err(problems) => return found.problems.extend(problems),
    };
    let columns = new.schema.fields.iter();
    let columns: Vec<_> = columns
        .map(|field| format!("{} {}", field.name, field.r#type))
        .collect();
    let is_missing = format!(
        "{} is missing; a submit makes it, with {}",
        sink.place(),
        count(columns.len(), "column")
    );
    let location = new.location.clone();
    found.facts = vec![
        ("table", is_missing),
        ("columns", columns.join(", ")),
        ("partition", pin::spec_text(&new.spec, &new.schema)),
        (
            "location",
            location.unwrap_or_else(|| "the catalog chooses it".to_owned()),
        ),
    ];
}

#[cfg(test)]
mod tests;
