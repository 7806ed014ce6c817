//! What a query's result is in the sink's files.
//!
//! Owns: names that readers take ([`names`]), the type of each written column and its values
//! ([`types`], [`values`]), the text of JSON and CSV ([`json`], [`csv`]), written rows as rows of the
//! result again ([`back`]), its type in a table of the
//! Data Catalog ([`hive`]). Does not own: objects,
//! folders, compression (the worker's sink).
//! Rule: the written schema follows from the result's schema and the sink's keys alone. Explain,
//! preview, every task and every verification take it from here.

pub mod back;
pub mod csv;
mod hive;
pub mod json;
mod names;
mod types;
mod values;

#[cfg(test)]
mod tests;

pub use hive::{NoColumn, table_type};
pub use names::check_names;
use types::Target;
pub use types::Unwritable;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use std::sync::Arc;
use streamctl_proto::spec::{FilesSink, SinkFormat, SinkTypes, TimestampFormat};

/// How values become text in JSON and CSV.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextForm {
    pub types: SinkTypes,
    pub timestamps: TimestampFormat,
}

impl TextForm {
    /// With as many digits of a second as there are.
    const HIVE_TIMESTAMP: &'static str = "%Y-%m-%d %H:%M:%S%.f";

    /// Of a sink.
    pub fn of(sink: &FilesSink) -> Self {
        Self {
            types: sink.types,
            timestamps: sink.timestamp_format,
        }
    }
}

/// How one job writes its result.
#[derive(Clone, Debug)]
pub struct Form {
    result: SchemaRef,
    schema: SchemaRef,
}

/// Rows of a batch in their written types, and those that have none.
#[derive(Clone, Debug)]
pub struct Formed {
    /// In the schema of [`Form::schema`].
    pub rows: RecordBatch,
    /// Rows of the result with a value that its written type cannot hold: the reason, and the rows
    /// as the query returned them.
    pub refused: Vec<(String, RecordBatch)>,
}

impl Form {
    /// For the result of a query. A type that no file can hold stays as it is: only a submit
    /// refuses it ([`unwritable`]), and a job that runs keeps what it wrote.
    pub fn new(result: &SchemaRef, sink: &FilesSink) -> Self {
        let column = |field: &Arc<Field>| match (sink.types, written(field, sink.format)) {
            (SinkTypes::Hive, Ok(data_type)) => Arc::new(Field::new(
                field.name(),
                data_type,
                // A value that is refused leaves the batch; until then it is a null in it.
                field.is_nullable(),
            )),
            (SinkTypes::Hive, Err(_)) | (SinkTypes::Arrow, _) => Arc::clone(field),
        };
        let columns: Vec<_> = result.fields().iter().map(column).collect();
        Self {
            result: Arc::clone(result),
            schema: Arc::new(Schema::new(columns)),
        }
    }

    /// For the result of a query, in these types: one per column.
    pub fn in_types(result: &SchemaRef, types: impl IntoIterator<Item = DataType>) -> Self {
        let column = |(field, data_type): (&Arc<Field>, DataType)| {
            Field::new(field.name(), data_type, field.is_nullable())
        };
        let columns: Vec<_> = result.fields().iter().zip(types).map(column).collect();
        Self {
            result: Arc::clone(result),
            schema: Arc::new(Schema::new(columns)),
        }
    }

    /// The columns of the files and folders.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The rows in their written types.
    ///
    /// # Errors
    /// A batch of another schema.
    pub fn rows(&self, batch: &RecordBatch) -> Result<Formed, ArrowError> {
        if self.result.fields() == self.schema.fields() {
            return Ok(Formed {
                rows: batch.clone(),
                refused: vec![],
            });
        }
        values::formed(batch, &self.schema)
    }
}

/// The columns that the sink's files cannot hold: name, type and reason.
pub fn unwritable(result: &Schema, sink: &FilesSink) -> Vec<(String, DataType, Unwritable)> {
    let refused = |field: &Arc<Field>| {
        let name = field.name().clone();
        let data_type = field.data_type().clone();
        let reason = match sink.types {
            SinkTypes::Hive => written(field, sink.format).err(),
            SinkTypes::Arrow => types::without_form(&data_type, sink.format),
        };
        reason.map(|reason| (name, data_type, reason))
    };
    result.fields().iter().filter_map(refused).collect()
}

/// The type of a column in the files of a table.
///
/// # Errors
/// There is none.
pub fn in_a_table(data_type: &DataType) -> Result<DataType, Unwritable> {
    types::written(data_type, Target::Table)
}

fn written(field: &Field, format: SinkFormat) -> Result<DataType, Unwritable> {
    types::written(field.data_type(), Target::Files(format))
}
