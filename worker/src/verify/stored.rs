//! Rows as comparable bytes, from stored objects and from batches alike.
//!
//! Owns: one key per row, the same for a row that was read back and one that was computed again.
//! Does not own: the formats (`sink`).
//! Rule: text formats are compared line by line as the sink writes them, Parquet value by value; a
//! row's folder is part of it, because partition columns are not in the object.

use crate::sink::{
    EncodeError, Encoder, Encoding, Partitioner, Parts, RejectedRows, SinkError, rows_as_json,
};
use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Deserialize;
use serde_json::value::RawValue;
use streamctl_engine::source::Record;
use streamctl_engine::source::files::lines::Lines;
use streamctl_engine::storage::Storages;
use streamctl_engine::written::{Form, TextForm};
use streamctl_proto::spec::{Compression, SinkFormat, SinkSpec};
use streamctl_proto::{ShardId, StagedObject};

/// Largest object that is compared: it is held in memory.
pub const STORED_BYTES_MAX: u64 = 1 << 30;
/// Longest line of an object: a record of 10 MiB in a dead letter, twice, and more than any row of
/// a result.
pub const STORED_LINE_BYTES_MAX: usize = 64 << 20;

/// A row: its key for the comparison, and its text.
pub struct Keyed<'k> {
    /// Equal rows have equal keys.
    pub key: &'k [u8],
    pub text: &'k dyn Fn() -> String,
}

type Give<'g> = &'g mut dyn FnMut(Keyed<'_>);

/// An object's bytes.
pub async fn read(storages: &Storages, object: &StagedObject) -> Result<Bytes, SinkError> {
    Ok(storages
        .for_location(&object.location)
        .get(&object.location, STORED_BYTES_MAX)
        .await?)
}

/// Rows of a job's result.
pub struct Rows {
    sink: SinkSpec,
    form: Form,
    partitioner: Partitioner,
    converter: RowConverter,
    key: Vec<u8>,
}

impl Rows {
    /// Encodes rows like this sink.
    pub fn new(sink: &SinkSpec, form: Form, partitioner: Partitioner) -> Result<Self, SinkError> {
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

    /// The rows of an object that was read back.
    pub fn of_object(
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

    /// The rows of a batch of the result.
    pub fn of_batch(&mut self, batch: &RecordBatch, give: Give<'_>) -> Result<(), SinkError> {
        let Parts { folders, rejected } =
            self.partitioner
                .split_formed(&self.sink.path, &self.form, batch)?;
        let text = TextForm::of(&self.sink);
        for RejectedRows { rows, .. } in rejected {
            for row in rows_as_json(&rows, text)?
                .split(|byte| *byte == b'\n')
                .filter(|row| !row.is_empty())
            {
                rejected_row(row, give);
            }
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

fn gap(folder: &str) -> &'static str {
    if folder.is_empty() { "" } else { " " }
}

/// Folder, header and row, each ended so that no two lists make the same key.
fn key(into: &mut Vec<u8>, folder: &str, header: &[u8], row: &[u8]) {
    into.clear();
    for part in [folder.as_bytes(), header] {
        into.extend_from_slice(&(part.len() as u64).to_be_bytes());
        into.extend_from_slice(part);
    }
    into.extend_from_slice(row);
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

/// The key of a dead letter: without its reason, whose text may change from build to build.
#[derive(Deserialize)]
struct Letter {
    shard: String,
    sequence_number: String,
    #[serde(default)]
    sub_sequence: u64,
    #[serde(default)]
    reason: String,
    raw_base64: String,
}

impl Letter {
    fn give(&self, give: Give<'_>) {
        let Self {
            shard,
            sequence_number,
            sub_sequence,
            reason,
            raw_base64,
        } = self;
        let key = format!("{shard}\n{sequence_number}\n{sub_sequence}\n{raw_base64}");
        let text = || format!("{shard} {sequence_number}/{sub_sequence}: {reason}");
        give(Keyed {
            key: key.as_bytes(),
            text: &text,
        });
    }
}

/// A rejected row, without the reason.
fn rejected_row(row: &[u8], give: Give<'_>) {
    let mut bytes = Vec::with_capacity(row.len() + 16);
    key(&mut bytes, "", b"rejected", row);
    let text = || format!("rejected row {}", String::from_utf8_lossy(row));
    give(Keyed {
        key: &bytes,
        text: &text,
    });
}

/// The rows of an object that was read back.
pub fn rejected_rows(location: &str, bytes: Bytes, give: Give<'_>) -> Result<(), EncodeError> {
    #[derive(Deserialize)]
    struct Rejected<'r> {
        #[serde(borrow)]
        row: &'r RawValue,
    }
    let mut lines = Lines::open(location, bytes, false)?.with_limit(STORED_LINE_BYTES_MAX);
    while let Some(line) = lines.next_line()? {
        match serde_json::from_slice::<Rejected<'_>>(&line.bytes) {
            Ok(rejected) => rejected_row(rejected.row.get().as_bytes(), give),
            Err(error) => {
                let text = || format!("line {} is not a rejected row: {error}", line.number);
                give(Keyed {
                    key: &line.bytes,
                    text: &text,
                });
            }
        }
    }
    Ok(())
}

/// The letters of an object that was read back.
pub fn dead_letters(location: &str, bytes: Bytes, give: Give<'_>) -> Result<(), EncodeError> {
    let mut lines = Lines::open(location, bytes, false)?.with_limit(STORED_LINE_BYTES_MAX);
    while let Some(line) = lines.next_line()? {
        match serde_json::from_slice::<Letter>(&line.bytes) {
            Ok(letter) => letter.give(give),
            Err(error) => {
                let text = || format!("line {} is not a dead letter: {error}", line.number);
                give(Keyed {
                    key: &line.bytes,
                    text: &text,
                });
            }
        }
    }
    Ok(())
}

/// The letter of a record that is bad again.
pub fn dead_letter(shard: &ShardId, record: &Record, reason: &str, give: Give<'_>) {
    // A replayed record that is bad again has its first place.
    let origin = record.origin.as_deref();
    let shard = origin.map_or(shard, |origin| &origin.shard);
    let sequence = origin.map_or(&record.sequence, |origin| &origin.sequence);
    let letter = Letter {
        shard: shard.as_str().to_owned(),
        sequence_number: sequence.as_str().to_owned(),
        sub_sequence: origin.map_or(record.sub_sequence, |origin| origin.sub_sequence),
        reason: reason.to_owned(),
        raw_base64: STANDARD.encode(&record.data),
    };
    letter.give(give);
}
