//! Rows of Parquet files as comparable bytes.
//!
//! Rule: values are compared, in the types that the sink writes now; a row of an object with other
//! columns differs from every computed one.

use super::EncodeError;
use crate::sink::stored::{Give, Keyed, key};
use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Compares rows in these columns.
pub(crate) struct ParquetRows {
    schema: SchemaRef,
    converter: RowConverter,
    key: Vec<u8>,
}

impl ParquetRows {
    /// # Errors
    /// A type without an order.
    pub fn new(schema: &SchemaRef) -> Result<Self, EncodeError> {
        let fields = schema.fields().iter();
        let fields = fields.map(|field| SortField::new(field.data_type().clone()));
        Ok(Self {
            schema: SchemaRef::clone(schema),
            converter: RowConverter::new(fields.collect())?,
            key: vec![],
        })
    }

    /// The rows of a file; `folder` is part of each.
    pub fn of_file(
        &mut self,
        folder: &str,
        bytes: Bytes,
        give: Give<'_>,
    ) -> Result<(), EncodeError> {
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|builder| builder.build());
        for batch in reader? {
            self.values(folder, &batch?, give)?;
        }
        Ok(())
    }

    /// The rows of a batch; `folder` is part of each.
    pub fn values(
        &mut self,
        folder: &str,
        batch: &RecordBatch,
        give: Give<'_>,
    ) -> Result<(), EncodeError> {
        let schema = &self.schema;
        let header = names(&batch.schema());
        let conformed = if header == names(schema) {
            conform(batch, schema)
        } else {
            Ok(None)
        };
        let Some(batch) = conformed? else {
            // The object has other columns than the query has now: every row differs.
            self.foreign(folder, batch, give);
            return Ok(());
        };
        let rows = self.converter.convert_columns(batch.columns())?;
        for (index, row) in rows.iter().enumerate() {
            key(&mut self.key, folder, &header, row.data());
            let text = || format!("{folder}{}{}", gap(folder), json(&batch.slice(index, 1)));
            give(Keyed {
                key: &self.key,
                text: &text,
            });
        }
        Ok(())
    }

    fn foreign(&mut self, folder: &str, batch: &RecordBatch, give: Give<'_>) {
        let header = names(&batch.schema());
        for index in 0..batch.num_rows() {
            let text = json(&batch.slice(index, 1));
            key(&mut self.key, folder, &header, text.as_bytes());
            give(Keyed {
                key: &self.key,
                text: &|| text.clone(),
            });
        }
    }
}

fn gap(folder: &str) -> &'static str {
    if folder.is_empty() { "" } else { " " }
}

fn names(schema: &Schema) -> Vec<u8> {
    let mut names = Vec::new();
    for field in schema.fields() {
        names.extend_from_slice(field.name().as_bytes());
        names.push(0);
    }
    names
}

/// The same values in the wanted types: a file may return text or dictionaries in another layout.
/// `None`: the types differ.
fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<Option<RecordBatch>, ArrowError> {
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        if column.data_type() == field.data_type() {
            columns.push(column.clone());
            continue;
        }
        let converted = cast(column, field.data_type())?;
        if converted.null_count() != column.null_count() {
            return Ok(None);
        }
        columns.push(converted);
    }
    // Nullability of a column is not compared: the values are.
    let nullable: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect();
    RecordBatch::try_new(std::sync::Arc::new(Schema::new(nullable)), columns).map(Some)
}

fn json(rows: &RecordBatch) -> String {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    match writer.write(rows).and_then(|()| writer.finish()) {
        Ok(()) => String::from_utf8_lossy(&writer.into_inner())
            .trim_end()
            .to_owned(),
        Err(error) => format!("a row that cannot be shown: {error}"),
    }
}
