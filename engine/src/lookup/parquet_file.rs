//! A Parquet file of a lookup.
//!
//! Rule: text is text, however the tool that wrote the file stores it: as large strings, views or
//! dictionaries.

use super::room::{Room, RowsError};
use super::unite::plain;
use crate::query::COLUMNS_MAX;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::sync::Arc;

/// The rows of a file; always some, if only its columns.
pub(super) fn read(
    file: &str,
    bytes: Bytes,
    room: &mut Room<'_>,
) -> Result<Option<RecordBatch>, RowsError> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .map_err(|error| room.bad_file(file, error))?;
    let columns = reader.schema().fields().len();
    if columns > COLUMNS_MAX {
        let reason = format!("it has {columns} columns, the limit is {COLUMNS_MAX}");
        return Err(room.bad_file(file, reason));
    }
    let schema = plain_schema(reader.schema());
    let reader = reader.build().map_err(|error| room.bad_file(file, error))?;
    let mut batches = vec![];
    for batch in reader {
        let batch = batch.map_err(|error| room.bad_file(file, error))?;
        room.take(batch.get_array_memory_size() as u64)?;
        batches.push(in_plain(&batch, &schema).map_err(|error| room.bad_file(file, error))?);
    }
    let rows = concat_batches(&schema, &batches);
    rows.map(Some).map_err(|error| room.bad_file(file, error))
}

/// Without what is irrelevant here: metadata, nullability, how text is stored.
fn plain_schema(schema: &Schema) -> SchemaRef {
    let field = |field: &Arc<Field>| Field::new(field.name(), plain(field.data_type()), true);
    Arc::new(Schema::new(
        schema.fields().iter().map(field).collect::<Vec<_>>(),
    ))
}

fn in_plain(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns
        .map(
            |(column, field)| match column.data_type() == field.data_type() {
                true => Ok(Arc::clone(column)),
                false => cast(column, field.data_type()),
            },
        )
        .collect::<Result<Vec<_>, _>>()?;
    let count = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &count)
}
