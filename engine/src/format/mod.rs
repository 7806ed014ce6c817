//! Records into rows: from a payload, by the source's schema, straight into Arrow columns.
//!
//! Owns: which record is a row and which is bad. Does not own: the place of a value in a payload
//! (each format's module), the handling of bad records (the worker's `dead_letter`).
//! Rule: a bad record never costs its neighbours. A row is located whole, then converted whole,
//! then appended.

mod columns;
mod csv;
pub mod json;
mod span;
#[cfg(test)]
mod tests;
pub mod unpack;

pub(crate) use span::{Kind, Span};

use crate::source::Record;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use columns::{Cell, Column, type_name};
use csv::CsvLocator;
use json::JsonLocator;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use streamctl_proto::describe;
use streamctl_proto::spec::{PayloadCompression, PayloadFormat};
use unpack::{UNPACKED_BYTES_MAX, UnpackError};

/// Most payload bytes that one call accepts: a text column of a batch holds at most 2 GiB.
pub const BATCH_BYTES_MAX: usize = 1 << 30;
/// Characters of a bad value that its reason shows.
const VALUE_CHARS_MAX: usize = 80;

/// A schema cannot be decoded into.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No value of a record can become this type.
    #[error("column {column} has type {type_name}, which records are not decoded into")]
    Type { column: String, type_name: String },
    #[error("column {column} is there twice, names are compared without regard to case")]
    Twice { column: String },
    /// The schema has no such column.
    #[error("column number {index} is wanted, the source has {columns}")]
    Index { index: usize, columns: usize },
}

/// A record that is not a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// Its place among the records given, from 0.
    pub index: usize,
    pub reason: String,
}

/// The result of decoding records.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The good ones, in order.
    pub batch: RecordBatch,
    pub bad: Vec<BadRecord>,
}

/// Why a record is not a row.
#[derive(Debug, thiserror::Error)]
enum Bad {
    /// The record is not of its format.
    #[error("{0}")]
    Format(String),
    /// It is a record of its format, but its reader refuses it.
    #[error("{0}")]
    Refused(String),
    #[error("column {column}: {value} cannot become {type_name}")]
    Value {
        column: String,
        type_name: String,
        value: String,
    },
}

/// What a format contributes to decoding: the places of the values in a record.
trait Locate: Debug + Send {
    /// Sets the span of each wanted column. Spans refer to the returned text, which is the payload
    /// or derived from it.
    ///
    /// # Errors
    /// Why the payload is not of this format.
    fn locate<'a>(&'a mut self, payload: &'a str, spans: &mut [Span]) -> Result<&'a str, String>;
}

/// The registry: what locates the values of each format. `wanted`: the places of the wanted columns
/// in the schema, ascending.
fn locator(format: &PayloadFormat, schema: &Schema, wanted: &[usize]) -> Box<dyn Locate> {
    match format {
        PayloadFormat::Json(_) => Box::new(JsonLocator::new(schema, wanted)),
        PayloadFormat::Csv(format) => Box::new(CsvLocator::new(format, schema, wanted)),
    }
}

/// Decodes the records of one source for one query. Keeps state between calls only as an
/// optimisation.
#[derive(Debug)]
pub struct Decoder {
    schema: SchemaRef,
    compression: PayloadCompression,
    /// Payloads that are larger than this when unpacked are not decoded without reserved room. If
    /// this is [`UNPACKED_BYTES_MAX`], all payloads are decoded.
    unpacked_bytes_max: usize,
    locator: Box<dyn Locate>,
    /// For the current row, one per wanted column.
    spans: Vec<Span>,
    cells: Vec<Cell>,
    /// Wanted columns whose values are converted; text is taken as it is.
    typed: Vec<usize>,
    scratch: String,
    /// Text bytes per column in the last batch, as an estimate for the next batch.
    text_bytes: Vec<usize>,
}

impl Decoder {
    /// `schema` has all columns of the source and `wanted` lists those to decode; the others are
    /// skipped.
    pub fn new(
        format: &PayloadFormat,
        schema: SchemaRef,
        wanted: &[usize],
    ) -> Result<Self, DecodeError> {
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let mut fields = Vec::new();
        let mut names: Vec<String> = Vec::new();
        for &index in &wanted {
            let count = schema.fields().len();
            let field = schema.fields().get(index).ok_or(DecodeError::Index {
                index,
                columns: count,
            })?;
            let column = field.name().clone();
            if Column::new(field.data_type(), 0, 0).is_none() {
                return Err(DecodeError::Type {
                    column,
                    type_name: type_name(field.data_type()),
                });
            }
            let name = column.to_lowercase();
            if names.contains(&name) {
                return Err(DecodeError::Twice { column });
            }
            names.push(name);
            // A key may always be missing, even if the catalog declares the column as not null. The
            // keys of records, which the locator reads from the metadata, are of no use behind it.
            let field = field.as_ref().clone().with_nullable(true);
            fields.push(field.with_metadata(HashMap::new()));
        }
        Ok(Self {
            spans: vec![Span::NULL; fields.len()],
            cells: fields
                .iter()
                .map(|field| {
                    if is_text(field) {
                        Cell::Text
                    } else {
                        Cell::Null
                    }
                })
                .collect(),
            typed: (0..fields.len())
                .filter(|index| !is_text(&fields[*index]))
                .collect(),
            text_bytes: vec![0; fields.len()],
            scratch: String::new(),
            locator: locator(format, &schema, &wanted),
            schema: Arc::new(Schema::new(fields)),
            compression: PayloadCompression::None,
            unpacked_bytes_max: UNPACKED_BYTES_MAX,
        })
    }

    /// The same for payloads that may be compressed.
    pub fn with_compression(self, compression: PayloadCompression) -> Self {
        Self {
            compression,
            ..self
        }
    }

    /// The same; payloads of more bytes unpacked are left to [`Self::decode_large`].
    pub fn with_unpacked_bytes(self, unpacked_bytes_max: usize) -> Self {
        Self {
            unpacked_bytes_max: unpacked_bytes_max.min(UNPACKED_BYTES_MAX),
            ..self
        }
    }

    /// Decodes one record whose payload has at most this many bytes unpacked. `None`: it has more,
    /// and a worker with more memory can decode it. A record that no worker can decode is a bad
    /// record on every worker.
    pub fn decode_large(&mut self, record: &Record, bytes_max: usize) -> Option<Decoded> {
        let bytes_max = bytes_max.min(UNPACKED_BYTES_MAX);
        let mut unpacked = unpack::unpack(&record.data, bytes_max);
        if matches!(unpacked, Err(UnpackError::TooLarge { .. })) && bytes_max < UNPACKED_BYTES_MAX {
            unpacked = Err(unpack::check(&record.data).err()?);
        }
        let payload = unpacked.map_err(|error| describe(&error));
        Some(self.decode_each(1, std::iter::once((payload, record.refusal()))))
    }

    /// The schema of the batches: the wanted columns in the order of the source's schema, all
    /// nullable.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Decodes records, together at most [`BATCH_BYTES_MAX`] of payload.
    pub fn decode<'a>(&mut self, records: impl IntoIterator<Item = &'a Record>) -> Decoded {
        let records = records.into_iter();
        let payload = |record: &'a Record| (Ok(&record.data[..]), record.refusal());
        self.decode_each(records.size_hint().0, records.map(payload))
    }

    /// Decodes the first of these records, as many as `records_max` and `bytes_max` of payload
    /// allow but at least one, and returns their number. Unpacks compressed payloads if the job
    /// sets it. `None`: the first record is large when unpacked ([`Self::with_unpacked_bytes`]).
    pub fn decode_first(
        &mut self,
        records: &[Record],
        records_max: usize,
        bytes_max: usize,
    ) -> (usize, Decoded) {
        if self.compression == PayloadCompression::None {
            let count = fitting(records, records_max, bytes_max);
            return (count, self.decode(&records[..count]));
        }
        let mut bytes = 0;
        let mut taken = 0;
        let unpacked_bytes_max = self.unpacked_bytes_max;
        let unpacked = records.iter().take(records_max).map_while(|record| {
            if bytes >= bytes_max {
                return None;
            }
            let payload = unpack::unpack(&record.data, unpacked_bytes_max);
            if matches!(payload, Err(UnpackError::TooLarge { .. }))
                && unpacked_bytes_max < UNPACKED_BYTES_MAX
            {
                return None;
            }
            bytes += payload.as_ref().map_or(0, |payload| payload.len());
            taken += 1;
            Some((payload.map_err(|error| describe(&error)), record.refusal()))
        });
        let decoded = self.decode_each(records.len().min(records_max), unpacked);
        (taken, decoded)
    }

    /// Decodes payloads, together at most [`BATCH_BYTES_MAX`].
    pub fn decode_payloads<'a>(&mut self, payloads: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
        let payloads = payloads.into_iter();
        let each = payloads.map(|payload| (Ok(payload), None));
        self.decode_each(each.size_hint().0, each)
    }

    /// Decodes each payload into a row or a bad record. An unavailable payload carries the reason;
    /// so does one that is bad even if it is well-formed.
    fn decode_each<'r, P: AsRef<[u8]>>(
        &mut self,
        expected: usize,
        payloads: impl Iterator<Item = (Result<P, String>, Option<&'r str>)>,
    ) -> Decoded {
        let mut columns = self.columns(expected);
        let mut rows = 0;
        let mut bad = Vec::new();
        for (index, (payload, refusal)) in payloads.enumerate() {
            let row = payload.and_then(|payload| {
                self.row(payload.as_ref(), refusal, &mut columns)
                    .map_err(|e| e.to_string())
            });
            match row {
                Ok(()) => rows += 1,
                Err(reason) => bad.push(BadRecord { index, reason }),
            }
        }
        for (bytes, column) in self.text_bytes.iter_mut().zip(&columns) {
            *bytes = column.text_bytes();
        }
        let arrays = columns.into_iter().map(Column::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .expect(
                "every row was appended to every column, and the columns were made from the schema",
            );
        Decoded { batch, bad }
    }

    fn columns(&self, rows: usize) -> Vec<Column> {
        let fields = self.schema.fields().iter().zip(&self.text_bytes);
        let column = |(field, bytes): (&Arc<Field>, &usize)| {
            Column::new(field.data_type(), rows, *bytes).expect("types were checked by `new`")
        };
        fields.map(column).collect()
    }

    fn row(
        &mut self,
        payload: &[u8],
        refusal: Option<&str>,
        columns: &mut [Column],
    ) -> Result<(), Bad> {
        let payload = std::str::from_utf8(payload).map_err(not_utf8)?;
        self.spans.fill(Span::NULL);
        let text = self
            .locator
            .locate(payload, &mut self.spans)
            .map_err(Bad::Format)?;
        if let Some(reason) = refusal {
            return Err(Bad::Refused(reason.to_owned()));
        }
        for &index in &self.typed {
            let cell = columns[index].convert(self.spans[index], text, &mut self.scratch);
            self.cells[index] = match cell {
                Some(cell) => cell,
                None => return Err(bad_value(self.schema.field(index), self.spans[index], text)),
            };
        }
        for ((column, cell), span) in columns.iter_mut().zip(&self.cells).zip(&self.spans) {
            column.append(cell, *span, text);
        }
        Ok(())
    }
}

#[cold]
fn not_utf8(error: std::str::Utf8Error) -> Bad {
    Bad::Format(format!("not valid UTF-8 at byte {}", error.valid_up_to()))
}

#[cold]
fn bad_value(field: &Field, span: Span, text: &str) -> Bad {
    let raw = span.of(text);
    let mut value: String = raw.chars().take(VALUE_CHARS_MAX).collect();
    if value.len() < raw.len() {
        value.push('…');
    }
    if matches!(span.kind, Kind::Plain | Kind::Escaped) {
        value = format!("\"{value}\"");
    }
    Bad::Value {
        column: field.name().clone(),
        type_name: type_name(field.data_type()),
        value,
    }
}

fn is_text(field: &Field) -> bool {
    *field.data_type() == DataType::Utf8
}

/// How many of the first records fit; at least one.
fn fitting(records: &[Record], records_max: usize, bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fits = records.iter().take(records_max).take_while(|record| {
        bytes += record.data.len();
        bytes <= bytes_max
    });
    fits.count().max(1)
}
