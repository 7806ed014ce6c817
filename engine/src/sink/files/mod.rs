//! Files below a folder: which columns they and their folders have, and the table that shows them.

mod catalog;
mod compare;
mod serde;

use super::{Found, Layout, NotMade, Place};
use crate::storage::{StorageError, Storages};
use crate::written::{self, Form};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use async_trait::async_trait;
use streamctl_proto::spec::{
    FilesSink, PartitionColumn, Problem, SinkFacts as _, SinkFormat, SinkKind,
};

#[async_trait]
impl Layout for FilesSink {
    fn form(&self, result: &SchemaRef) -> Form {
        Form::new(result, self)
    }

    fn refused_names(&self, result: &SchemaRef) -> Vec<Problem> {
        let folders = self.partition_by.iter().map(PartitionColumn::name);
        let folders: Vec<&str> = folders.collect();
        let names = written::check_names(result, &folders).into_iter();
        names
            .map(|(message, hint)| Problem::new("transform.sql", message, Some(hint)))
            .chain(partitions(self, result))
            .collect()
    }

    fn refused_types(&self, result: &SchemaRef) -> Vec<Problem> {
        let format = match self.format {
            SinkFormat::Csv => "csv",
            SinkFormat::Parquet => "parquet",
            SinkFormat::Json => "json",
        };
        let refused = written::unwritable(result, self).into_iter();
        refused
            .map(|(column, kind, reason)| {
                let message = format!(
                    "column {column:?} of the result is {kind}, which {format} files cannot hold"
                );
                Problem::new("sink.format", message, Some(reason.hint(&column)))
            })
            .collect()
    }

    async fn unreachable(&self, storages: &Storages) -> Vec<(&'static str, StorageError)> {
        let mut missing = vec![];
        for (key, folder) in self.folders() {
            let storage = storages
                .as_role(self.role.as_ref())
                .for_location(folder.as_str());
            if let Err(error) = storage.check(folder).await {
                missing.push((key, error));
            }
        }
        missing
    }

    async fn find(&self, place: Place<'_>, result: &SchemaRef) -> Found {
        match &self.catalog {
            Some(of) => catalog::find(self, of, place, result).await,
            None => Found::default(),
        }
    }

    async fn make(
        &self,
        place: Place<'_>,
        result: &SchemaRef,
    ) -> Result<Option<SinkKind>, NotMade> {
        if let Some(of) = &self.catalog {
            catalog::make(self, of, place, result).await?;
        }
        Ok(None)
    }
}

/// What is wrong with the columns that name folders.
fn partitions(sink: &FilesSink, result: &Schema) -> Vec<Problem> {
    let mut problems = vec![];
    let mut refuse = |message: String, hint: String| {
        problems.push(Problem::new("sink.partition_by", message, Some(hint)));
    };
    let names: Vec<&str> = result
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    let mut used = 0;
    for column in &sink.partition_by {
        let PartitionColumn::Column(name) = column else {
            continue;
        };
        let Some(found) = result.fields().iter().find(|field| field.name() == name) else {
            let hint = match names.iter().find(|known| known.eq_ignore_ascii_case(name)) {
                Some(known) => format!("did you mean {known:?}?"),
                None => format!("the result's columns are: {}", names.join(", ")),
            };
            refuse(format!("the result has no column {name:?}"), hint);
            continue;
        };
        used += 1;
        if matches!(
            found.data_type(),
            DataType::Binary | DataType::List(_) | DataType::Struct(_) | DataType::Map(..)
        ) {
            let message = format!(
                "column {name:?} has the type {}, which names no folder",
                found.data_type()
            );
            refuse(
                message,
                "partition by text, numbers or dates, such as a field of it".to_owned(),
            );
        }
    }
    if used > 0 && used == names.len() {
        refuse(
            "every column of the result names a folder: none is left to write".to_owned(),
            "add a column to the query that is not in partition_by".to_owned(),
        );
    }
    for name in names {
        let taken = |column: &PartitionColumn| match column {
            PartitionColumn::IngestYear => name.eq_ignore_ascii_case("ingest_year"),
            PartitionColumn::IngestMonth => name.eq_ignore_ascii_case("ingest_month"),
            PartitionColumn::IngestDay => name.eq_ignore_ascii_case("ingest_day"),
            PartitionColumn::IngestHour => name.eq_ignore_ascii_case("ingest_hour"),
            PartitionColumn::Column(_) => false,
        };
        if sink.partition_by.iter().any(taken) {
            let message =
                format!("{name} is a column of the result and the window's start at once");
            let hint = format!("rename the result's column, or leave {name} out of partition_by");
            refuse(message, hint);
        }
    }
    problems
}
