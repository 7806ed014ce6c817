//! Rows of files as comparable bytes, from stored objects and from batches alike.
//!
//! Rule: text formats are compared line by line as the sink writes them, Parquet value by value; a
//! row's folder is part of it, because partition columns are not in the object.

use super::rejected::{dead_rows_as_json, rows_as_json};
use super::{EncodeError, Encoder, Encoding, Partitioner, Parts, RejectedRows, SinkError};
use crate::function::DeadRows;
use crate::sink::stored::{Give, Keyed, STORED_LINE_BYTES_MAX, StoredRows, key, rejected_lines};
use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use streamctl_engine::source::files::lines::Lines;
use streamctl_engine::written::{Form, TextForm};
use streamctl_proto::Window;
use streamctl_proto::spec::{Compression, FilesSink, SinkFormat};

/// Rows of a job's result.
pub(super) struct Rows {
    sink: FilesSink,
    form: Form,
    partitioner: Partitioner,
    converter: RowConverter,
    key: Vec<u8>,
}

impl Rows {
    /// Encodes rows like this sink.
    pub fn new(sink: &FilesSink, result: &SchemaRef, window: Window) -> Result<Self, SinkError> {
        let form = Form::new(result, sink);
        let partitioner = Partitioner::new(&sink.partition_by, window, form.schema())?;
        let fields = partitioner.schema().fields().iter();
        // Text formats never use it, so that a type that it does not support stops only Parquet.
        let fields: Vec<SortField> = match sink.format {
            SinkFormat::Parquet => fields
                .map(|field| SortField::new(field.data_type().clone()))
                .collect(),
            SinkFormat::Json | SinkFormat::Csv => vec![],
        };
        let converter = RowConverter::new(fields).map_err(EncodeError::from)?;
        Ok(Self {
            sink: sink.clone(),
            form,
            partitioner,
            converter,
            key: vec![],
        })
    }

    fn lines(
        &mut self,
        name: &str,
        folder: &str,
        bytes: Bytes,
        give: Give<'_>,
    ) -> Result<(), EncodeError> {
        let is_csv = self.sink.format == SinkFormat::Csv;
        let lines = Lines::open(name, bytes, is_csv)?;
        let mut lines = lines.with_limit(STORED_LINE_BYTES_MAX);
        // The same line under another header is a different row.
        let header = if is_csv { lines.next_line()? } else { None };
        let header = header.map(|line| line.bytes).unwrap_or_default();
        while let Some(line) = lines.next_line()? {
            key(&mut self.key, folder, &header, &line.bytes);
            let text = || {
                format!(
                    "{folder}{}{}",
                    gap(folder),
                    String::from_utf8_lossy(&line.bytes)
                )
            };
            give(Keyed {
                key: &self.key,
                text: &text,
            });
        }
        Ok(())
    }

    fn values(
        &mut self,
        folder: &str,
        batch: &RecordBatch,
        give: Give<'_>,
    ) -> Result<(), EncodeError> {
        let schema = self.partitioner.schema();
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

impl StoredRows for Rows {
    fn of_object(
        &mut self,
        location: &str,
        bytes: Bytes,
        give: Give<'_>,
    ) -> Result<(), EncodeError> {
        let name = location
            .strip_prefix(self.sink.path.as_str())
            .unwrap_or(location);
        let folder = name
            .rfind('/')
            .map_or("", |slash| &name[..=slash])
            .to_owned();
        match self.sink.format {
            SinkFormat::Json | SinkFormat::Csv => self.lines(location, &folder, bytes, give),
            SinkFormat::Parquet => {
                let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
                    .and_then(|builder| builder.build());
                for batch in reader? {
                    self.values(&folder, &batch?, give)?;
                }
                Ok(())
            }
        }
    }

    fn of_batch(&mut self, batch: &RecordBatch, give: Give<'_>) -> Result<(), SinkError> {
        let Parts { folders, rejected } =
            self.partitioner
                .split_formed(&self.sink.path, &self.form, batch)?;
        let text = TextForm::of(&self.sink);
        for RejectedRows { rows, .. } in rejected {
            rejected_lines(&rows_as_json(&rows, text)?, give);
        }
        for (folder, rows) in folders {
            match self.sink.format {
                SinkFormat::Parquet => self.values(&folder, &rows, give)?,
                format @ (SinkFormat::Json | SinkFormat::Csv) => {
                    // A new encoder for each: in CSV it begins with the header, as an object does.
                    let mut encoder = Encoder::new(
                        Encoding {
                            text,
                            ..Encoding::new(format, Compression::None)
                        },
                        self.partitioner.schema(),
                    )?;
                    let bytes = encoder.encode(&rows)?;
                    self.lines("", &folder, bytes, give)?;
                }
            }
        }
        Ok(())
    }

    fn of_dead(&mut self, dead: &DeadRows, give: Give<'_>) -> Result<(), SinkError> {
        rejected_lines(&dead_rows_as_json(dead, TextForm::of(&self.sink))?, give);
        Ok(())
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
