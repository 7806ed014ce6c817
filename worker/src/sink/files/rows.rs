//! Rows of files as comparable bytes, from stored objects and from batches alike.
//!
//! Rule: text formats are compared line by line as the sink writes them, Parquet value by value; a
//! row's folder is part of it, because partition columns are not in the object.

use super::{EncodeError, Partitioner, Parts, SinkError};
use crate::function::DeadRows;
use crate::sink::objects::{
    Encoder, Encoding, ParquetRows, RejectedRows, dead_rows_as_json, rows_as_json,
};
use crate::sink::stored::{Give, Keyed, STORED_LINE_BYTES_MAX, StoredRows, key, rejected_lines};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use streamctl_engine::source::files::lines::Lines;
use streamctl_engine::written::{Form, TextForm};
use streamctl_proto::Window;
use streamctl_proto::spec::{Compression, FilesSink, SinkFormat};

/// Rows of a job's result.
pub(super) struct Rows {
    sink: FilesSink,
    form: Form,
    partitioner: Partitioner,
    /// Of Parquet.
    values: Option<ParquetRows>,
    key: Vec<u8>,
}

impl Rows {
    /// Encodes rows like this sink.
    pub fn new(sink: &FilesSink, result: &SchemaRef, window: Window) -> Result<Self, SinkError> {
        let form = Form::new(result, sink);
        let partitioner = Partitioner::new(&sink.partition_by, window, form.schema())?;
        // A type that it does not support stops only Parquet.
        let values = match sink.format {
            SinkFormat::Parquet => Some(ParquetRows::new(partitioner.schema())?),
            SinkFormat::Json | SinkFormat::Csv => None,
        };
        Ok(Self {
            sink: sink.clone(),
            form,
            partitioner,
            values,
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
            SinkFormat::Parquet => match &mut self.values {
                Some(values) => values.of_file(&folder, bytes, give),
                None => Ok(()),
            },
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
                SinkFormat::Parquet => {
                    if let Some(values) = &mut self.values {
                        values.values(&folder, &rows, give)?;
                    }
                }
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
