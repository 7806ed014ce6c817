//! Records into rows: from a payload, by the source's schema, straight into Arrow columns.
//!
//! Owns: which record is a row, several or bad. Does not own: the place of a value in a payload
//! (each format's module), the handling of bad records (the worker's `dead_letter`).
//! Rule: a bad record never costs its neighbours. A row is located whole, then converted whole,
//! then appended; a record with several rows is appended whole or not at all.

mod columns;
mod csv;
mod encoding;
pub mod json;
mod nested;
mod span;
#[cfg(test)]
mod tests;
mod text;
mod unknown;
pub mod unpack;
mod value;

pub(crate) use encoding::replaced;
pub use nested::NESTED_VALUES_MAX;
pub(crate) use span::{Kind, Span};
pub use unknown::UNKNOWN_KEYS_TRACKED_MAX;

use crate::source::Record;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use columns::Column;
use csv::CsvLocator;
use json::JsonLocator;
use json::wanted::Comparison;
use nested::{Node, Wrong, WrongKind};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use streamctl_proto::describe;
use streamctl_proto::report::{NullValues, UnknownKey};
use streamctl_proto::spec::{OnBadValue, PayloadCompression, PayloadFormat, ValueRules};
use unknown::UnknownKeys;
use unpack::{UNPACKED_BYTES_MAX, UnpackError};
use value::{Cell, Reading, ValueType, type_name};

/// Most payload bytes that one call accepts: a text column of a batch holds at most 2 GiB.
pub const BATCH_BYTES_MAX: usize = 1 << 30;
/// Most objects of one record; one with more is bad.
pub const RECORD_OBJECTS_MAX: usize = 10_000;
/// Most values of one record with several objects, objects times columns: each takes memory even
/// where it is null.
const RECORD_VALUES_MAX: usize = 1 << 20;
/// Values in nested columns after which a batch ends: a record of few bytes may have many.
const BATCH_NESTED_VALUES_MAX: usize = 1 << 22;
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

/// A record that is more than one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeveralRows {
    /// Its place among the records given, from 0.
    pub index: usize,
    /// At least 2.
    pub rows: usize,
}

/// The result of decoding records.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The good ones, in order: one row each, except for those in `several`.
    pub batch: RecordBatch,
    pub bad: Vec<BadRecord>,
    /// By index.
    pub several: Vec<SeveralRows>,
    /// Bad values that became null (`on_bad_value = "null"`), by column.
    pub nulls: Vec<NullValues>,
    /// Keys that no column has, by name.
    pub unknown_keys: Vec<UnknownKey>,
}

impl Decoded {
    /// Rows beyond the first of each record.
    pub fn further_rows(&self) -> u64 {
        self.several.iter().map(|one| one.rows as u64 - 1).sum()
    }

    /// The record of each row, by its place among the records given.
    pub fn records_of_rows(&self) -> Vec<usize> {
        let good = self.batch.num_rows() + self.bad.len();
        let records = good - usize::try_from(self.further_rows()).unwrap_or(good);
        records_of_rows(records, self.bad.iter().map(|bad| bad.index), &self.several)
    }
}

/// The record of each row. `dead`: the records that are no row; it and `several` ascend.
pub fn records_of_rows(
    records: usize,
    dead: impl Iterator<Item = usize>,
    several: &[SeveralRows],
) -> Vec<usize> {
    let mut dead = dead.peekable();
    let mut several = several.iter().peekable();
    (0..records)
        .filter(|index| dead.next_if_eq(index).is_none())
        .flat_map(|index| {
            let of_one = several.next_if(|one| one.index == index);
            std::iter::repeat_n(index, of_one.map_or(1, |one| one.rows))
        })
        .collect()
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
    /// One of several objects. No row is made of the others, so that a replay doubles nothing.
    #[error("object {number}, at byte {at}: {bad}")]
    Part {
        /// From 1.
        number: usize,
        at: usize,
        bad: Box<Bad>,
    },
    #[error("more than {most} objects")]
    Objects { most: usize },
    #[error("column {column}: more than {NESTED_VALUES_MAX} values, those of missing keys too")]
    Values { column: String },
}

/// The places of a row's values.
struct Located<'a> {
    /// What spans refer to: the payload, or text derived from it.
    text: &'a str,
    /// Where the payload's next row begins; `None`: this was the last one.
    next: Option<usize>,
}

/// When a row is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Append {
    /// If its payload has no other.
    IfAlone,
    Always,
    Never,
}

/// What a format contributes to decoding: the places of the values in a record.
trait Locate: Debug + Send {
    /// Sets the span of each wanted column by the row at the beginning of the payload; all spans are
    /// null before. `unknown` gets the keys that no column has.
    ///
    /// # Errors
    /// Why the payload is not of this format.
    fn locate<'a>(
        &'a mut self,
        payload: &'a str,
        spans: &mut [Span],
        unknown: &mut UnknownKeys,
    ) -> Result<Located<'a>, String>;
}

/// The registry: what locates the values of each format. `names`: of all columns; `wanted`: the
/// places of the wanted ones, ascending.
fn locator(
    format: &PayloadFormat,
    schema: &Schema,
    names: &[&str],
    wanted: &[usize],
) -> Box<dyn Locate> {
    match format {
        PayloadFormat::Json(format) => Box::new(JsonLocator::new(format, schema, names, wanted)),
        PayloadFormat::Csv(format) => Box::new(CsvLocator::new(format, names.len(), wanted)),
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
    reading: Reading,
    on_bad_value: OnBadValue,
    /// For the current row, one per wanted column.
    spans: Vec<Span>,
    cells: Vec<Cell>,
    /// Wanted columns whose values are converted; text is taken as it is.
    typed: Vec<(usize, ValueType)>,
    /// Wanted columns of objects and arrays, with what they keep between batches.
    nested: Vec<(usize, Option<Box<Node>>)>,
    /// Values in nested columns of the batch.
    nested_values: usize,
    /// Values that a row has at least.
    width: usize,
    unknown: UnknownKeys,
    /// Per wanted column: bad values of the batch that became null.
    nulls: Vec<u64>,
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
        let names = schema.fields().iter().map(|field| field.name().as_str());
        let names: Vec<&str> = names.collect();
        Self::named(format, &schema, &names, wanted)
    }

    /// The same with the names of all columns as the source has them, in the schema's order; those
    /// of the schema may differ in case.
    pub fn named(
        format: &PayloadFormat,
        schema: &SchemaRef,
        names: &[&str],
        wanted: &[usize],
    ) -> Result<Self, DecodeError> {
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let mut fields = Vec::new();
        let mut cells = Vec::new();
        let mut typed = Vec::new();
        let mut nested = Vec::new();
        let mut width = 0;
        let comparison = Comparison::of(schema);
        let mut lower: Vec<String> = Vec::new();
        for &index in &wanted {
            let count = schema.fields().len();
            let field = schema.fields().get(index).ok_or(DecodeError::Index {
                index,
                columns: count,
            })?;
            let column = field.name().clone();
            let place = fields.len();
            let unknown = || DecodeError::Type {
                column: column.clone(),
                type_name: type_name(field.data_type()),
            };
            if nested::is_nested(field.data_type()) {
                let node = Node::new(field.data_type(), &column, comparison);
                let node = node.ok_or_else(unknown)?;
                width += node.width();
                nested.push((place, Some(Box::new(node))));
                cells.push(Cell::Taken);
            } else {
                width += 1;
                match ValueType::of(field.data_type()).ok_or_else(unknown)? {
                    ValueType::Text => cells.push(Cell::Text),
                    value_type => {
                        typed.push((place, value_type));
                        cells.push(Cell::Null);
                    }
                }
            }
            let name = column.to_lowercase();
            if lower.contains(&name) {
                return Err(DecodeError::Twice { column });
            }
            lower.push(name);
            // A key may always be missing, even if the catalog declares the column as not null. The
            // keys of records, which the locator reads from the metadata, are of no use behind it.
            let field = field.as_ref().clone().with_nullable(true);
            fields.push(field.with_metadata(HashMap::new()));
        }
        Ok(Self {
            spans: vec![Span::NULL; fields.len()],
            cells,
            typed,
            nested,
            nested_values: 0,
            width,
            unknown: UnknownKeys::default(),
            nulls: vec![0; fields.len()],
            text_bytes: vec![0; fields.len()],
            scratch: String::new(),
            locator: locator(format, schema, names, &wanted),
            reading: Reading::default(),
            on_bad_value: OnBadValue::default(),
            schema: Arc::new(Schema::new(fields)),
            compression: PayloadCompression::None,
            unpacked_bytes_max: UNPACKED_BYTES_MAX,
        })
    }

    /// The same with the source's rules for values.
    pub fn with_values(self, rules: &ValueRules) -> Self {
        Self {
            reading: Reading::new(rules),
            on_bad_value: rules.on_bad_value,
            ..self
        }
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
        let each = std::iter::once((payload, record.refusal()));
        Some(self.decode_each(1, Room::ANY, each).1)
    }

    /// The schema of the batches: the wanted columns in the order of the source's schema, all
    /// nullable.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Values that a row has at least: columns, and fields of structs.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Decodes records, together at most [`BATCH_BYTES_MAX`] of payload.
    pub fn decode<'a>(&mut self, records: impl IntoIterator<Item = &'a Record>) -> Decoded {
        let records = records.into_iter();
        let expected = records.size_hint().0;
        let each = records.map(|record| (Ok(&record.data[..]), record.refusal()));
        self.decode_each(expected, Room::ANY, each).1
    }

    /// Decodes the first of these records, as many as `records_max` (rows, too, if records have
    /// several) and `bytes_max` of payload allow but at least one, and returns their number. Unpacks
    /// compressed payloads if the job sets it. `None`: the first record is large when unpacked
    /// ([`Self::with_unpacked_bytes`]).
    pub fn decode_first(
        &mut self,
        records: &[Record],
        records_max: usize,
        bytes_max: usize,
    ) -> (usize, Decoded) {
        let room = Room {
            rows: records_max,
            nested_values: BATCH_NESTED_VALUES_MAX,
        };
        if self.compression == PayloadCompression::None {
            let count = fitting(records, records_max, bytes_max);
            let each = records[..count]
                .iter()
                .map(|record| (Ok(&record.data), record.refusal()));
            return self.decode_each(count, room, each);
        }
        let mut bytes = 0;
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
            Some((payload.map_err(|error| describe(&error)), record.refusal()))
        });
        self.decode_each(records.len().min(records_max), room, unpacked)
    }

    /// Decodes payloads, together at most [`BATCH_BYTES_MAX`].
    pub fn decode_payloads<'a>(&mut self, payloads: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
        let payloads = payloads.into_iter();
        let expected = payloads.size_hint().0;
        let each = payloads.map(|payload| (Ok(payload), None));
        self.decode_each(expected, Room::ANY, each).1
    }

    /// Decodes payloads into rows or bad records, until there is no more room, and returns their
    /// number. An unavailable payload carries the reason; so does one that is bad even if it is
    /// well-formed.
    fn decode_each<'r, P: AsRef<[u8]>>(
        &mut self,
        expected: usize,
        room: Room,
        mut payloads: impl Iterator<Item = (Result<P, String>, Option<&'r str>)>,
    ) -> (usize, Decoded) {
        let mut columns = self.columns(expected);
        self.nulls.fill(0);
        self.nested_values = 0;
        let mut rows = 0;
        let mut index = 0;
        let mut bad = Vec::new();
        let mut several = Vec::new();
        while rows < room.rows
            && self.nested_values < room.nested_values
            && let Some((payload, refusal)) = payloads.next()
        {
            let made = payload.and_then(|payload| {
                self.rows(payload.as_ref(), refusal, &mut columns)
                    .map_err(|e| e.to_string())
            });
            match made {
                Ok(1) => rows += 1,
                Ok(made) => {
                    rows += made;
                    several.push(SeveralRows { index, rows: made });
                }
                Err(reason) => bad.push(BadRecord { index, reason }),
            }
            index += 1;
        }
        for (bytes, column) in self.text_bytes.iter_mut().zip(&columns) {
            *bytes = column.text_bytes();
        }
        let arrays = columns.iter_mut().map(Column::finish).collect();
        let mut kept = self.nested.iter_mut();
        for column in columns {
            if let Column::Nested(node) = column
                && let Some((_, kept)) = kept.next()
            {
                *kept = Some(node);
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .expect(
                "every row was appended to every column, and the columns were made from the schema",
            );
        let decoded = Decoded {
            batch,
            bad,
            several,
            nulls: self.null_values(),
            unknown_keys: self.unknown.take(),
        };
        (index, decoded)
    }

    /// The bad values of the batch that became null.
    fn null_values(&self) -> Vec<NullValues> {
        let counted = self.schema.fields().iter().zip(&self.nulls);
        counted
            .filter(|(_, values)| **values > 0)
            .map(|(field, values)| NullValues {
                column: field.name().clone(),
                values: *values,
            })
            .collect()
    }

    fn columns(&mut self, rows: usize) -> Vec<Column> {
        let fields = self.schema.fields().iter().zip(&self.text_bytes);
        let mut nested = self.nested.iter_mut();
        let column = |(field, bytes): (&Arc<Field>, &usize)| match ValueType::of(field.data_type())
        {
            Some(value_type) => Column::new(value_type, rows, *bytes),
            None => {
                let node = nested.next().and_then(|(_, kept)| kept.take());
                Column::Nested(node.expect("types were checked by `new`"))
            }
        };
        fields.map(column).collect()
    }

    /// Makes the rows of a payload, and returns their number. Makes none of a payload that is
    /// refused.
    fn rows(
        &mut self,
        payload: &[u8],
        refusal: Option<&str>,
        columns: &mut [Column],
    ) -> Result<usize, Bad> {
        let made = match std::str::from_utf8(payload) {
            Ok(text) => self.rows_of_text(encoding::without_mark(text), refusal, columns),
            Err(_) => self.rows_of_text(&encoding::replaced(payload), refusal, columns),
        };
        made.map_err(|bad| encoding::explained(payload, bad))
    }

    fn rows_of_text(
        &mut self,
        payload: &str,
        refusal: Option<&str>,
        columns: &mut [Column],
    ) -> Result<usize, Bad> {
        if let Some(reason) = refusal {
            // That it is not of its format is the better reason.
            self.row(payload, columns, Append::Never)?;
            return Err(Bad::Refused(reason.to_owned()));
        }
        match self.row(payload, columns, Append::IfAlone)? {
            None => Ok(1),
            Some(_) => self.several(payload, columns),
        }
    }

    /// Appends each object of a payload, or none of them.
    #[cold]
    fn several(&mut self, payload: &str, columns: &mut [Column]) -> Result<usize, Bad> {
        let values = RECORD_VALUES_MAX / columns.len().max(1);
        let most = RECORD_OBJECTS_MAX.min(values).max(1);
        let count = self.each_object(payload, columns, Append::Never, most)?;
        self.each_object(payload, columns, Append::Always, most)?;
        Ok(count)
    }

    fn each_object(
        &mut self,
        payload: &str,
        columns: &mut [Column],
        append: Append,
        most: usize,
    ) -> Result<usize, Bad> {
        let mut at = 0;
        for number in 1..=most {
            let next = self.row(&payload[at..], columns, append);
            let next = next.map_err(|bad| Bad::Part {
                number,
                at,
                bad: Box::new(bad),
            })?;
            match next {
                Some(length) => at += length,
                None => return Ok(number),
            }
        }
        Err(Bad::Objects { most })
    }

    /// Converts the row at the beginning of the payload; returns where the next one begins.
    #[inline]
    fn row(
        &mut self,
        payload: &str,
        columns: &mut [Column],
        append: Append,
    ) -> Result<Option<usize>, Bad> {
        self.spans.fill(Span::NULL);
        let Located { text, next } = self
            .locator
            .locate(payload, &mut self.spans, &mut self.unknown)
            .map_err(Bad::Format)?;
        let is_appended = match append {
            Append::IfAlone => next.is_none(),
            Append::Always => true,
            Append::Never => false,
        };
        for &(index, value_type) in &self.typed {
            let span = self.spans[index];
            let cell = value_type.convert(&self.reading, span, text, &mut self.scratch);
            self.cells[index] = match (cell, self.on_bad_value) {
                (Some(cell), _) => cell,
                (None, OnBadValue::Null) => {
                    self.nulls[index] += u64::from(is_appended);
                    Cell::Null
                }
                // What is wrong with one of several objects is said with its place.
                (None, OnBadValue::DeadLetter) if append == Append::IfAlone && !is_appended => {
                    return Ok(next);
                }
                (None, OnBadValue::DeadLetter) => {
                    return Err(bad_value(self.schema.field(index), span, text));
                }
            };
        }
        if !self.nested.is_empty() {
            let mut taking = Taking {
                schema: &self.schema,
                nested: &self.nested,
                spans: &self.spans,
                reading: &self.reading,
                on_bad_value: self.on_bad_value,
                unknown: &mut self.unknown,
                scratch: &mut self.scratch,
                nulls: &mut self.nulls,
                values: &mut self.nested_values,
            };
            match taking.all(columns, text, is_appended) {
                Err(_) if append == Append::IfAlone && !is_appended => return Ok(next),
                taken => taken?,
            }
        }
        if is_appended {
            for ((column, cell), span) in columns.iter_mut().zip(&self.cells).zip(&self.spans) {
                match (column, cell) {
                    // Most columns of most sources.
                    (Column::Text(column), Cell::Text) => column.append(span, text),
                    (column, cell) => column.append(cell, span, text),
                }
            }
            self.unknown.count();
        }
        Ok(next)
    }
}

/// What the nested columns of a row are read with, and what comes of it.
struct Taking<'d> {
    schema: &'d Schema,
    nested: &'d [(usize, Option<Box<Node>>)],
    spans: &'d [Span],
    reading: &'d Reading,
    on_bad_value: OnBadValue,
    unknown: &'d mut UnknownKeys,
    scratch: &'d mut String,
    nulls: &'d mut [u64],
    values: &'d mut usize,
}

impl Taking<'_> {
    /// Appends the values of all nested columns, or none. None, too, if the row is not appended.
    fn all(&mut self, columns: &mut [Column], text: &str, is_appended: bool) -> Result<(), Bad> {
        let mut row = 0;
        let mut taken = Ok(());
        for (place, _) in self.nested {
            let Column::Nested(node) = &mut columns[*place] else {
                continue;
            };
            row = node.len();
            let mut record = nested::Record {
                text,
                reading: self.reading,
                on_bad_value: self.on_bad_value,
                unknown: self.unknown,
                scratch: self.scratch,
                nulls: 0,
                room: NESTED_VALUES_MAX,
            };
            let read = node.read_or_null(self.spans[*place], &mut record);
            *self.values += NESTED_VALUES_MAX - record.room;
            if is_appended {
                self.nulls[*place] += record.nulls;
            }
            if let Err(wrong) = read {
                taken = Err(bad_nested(self.schema.field(*place), &wrong));
                break;
            }
        }
        if taken.is_err() || !is_appended {
            for column in columns {
                if let Column::Nested(node) = column {
                    node.truncate(row);
                }
            }
        }
        taken
    }
}

/// How much one call decodes.
#[derive(Clone, Copy)]
struct Room {
    rows: usize,
    nested_values: usize,
}

impl Room {
    const ANY: Self = Self {
        rows: usize::MAX,
        nested_values: usize::MAX,
    };
}

#[cold]
fn bad_value(field: &Field, span: Span, text: &str) -> Bad {
    Bad::Value {
        column: field.name().clone(),
        type_name: type_name(field.data_type()),
        value: shown(span, text),
    }
}

#[cold]
fn bad_nested(field: &Field, wrong: &Wrong) -> Bad {
    let column = wrong.path(field.name());
    match &wrong.kind {
        WrongKind::TooMany => Bad::Values { column },
        WrongKind::Value { value, type_name } => Bad::Value {
            column,
            type_name: type_name.clone(),
            value: value.clone(),
        },
    }
}

/// A value in a message.
fn shown(span: Span, text: &str) -> String {
    let raw = span.of(text);
    let mut value: String = raw.chars().take(VALUE_CHARS_MAX).collect();
    if value.len() < raw.len() {
        value.push('…');
    }
    if matches!(span.kind, Kind::Plain | Kind::Escaped) {
        value = format!("\"{value}\"");
    }
    value
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
