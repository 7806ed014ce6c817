//! Statistics of a data file, from its Parquet footer.
//!
//! Owns: sizes, counts and bounds by field id. Does not own: the footer (the worker's writer).
//! Rule: a bound may be wide, never wrong: a reader skips files by it. What is not known is left
//! out.

use super::data_file::Metrics;
use super::datum::{Datum, from_two_s_complement};
use super::types::{Field, Primitive, Schema, Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::statistics::Statistics;
use std::collections::BTreeMap;

/// Columns beyond this number have no statistics: the default of other writers.
pub const COLUMNS_MAX: usize = 100;
/// Characters of a text and bytes of a binary value that a bound keeps.
pub const BOUND_LENGTH_MAX: usize = 16;

/// The statistics and the offsets of the row groups.
pub fn metrics(footer: &ParquetMetaData, table: &Schema) -> (Metrics, Vec<i64>) {
    let mut types = BTreeMap::new();
    leaves(&table.fields, &mut types);
    let mut metrics = Metrics::default();
    let columns = footer.file_metadata().schema_descr().columns();
    for (at, column) in columns.iter().enumerate().take(COLUMNS_MAX) {
        let info = column.self_type().get_basic_info();
        if !info.has_id() {
            continue;
        }
        let id = info.id();
        let mut found = Column::default();
        for group in footer.row_groups() {
            let chunk = group.column(at);
            found.add(chunk, types.get(&id).copied());
        }
        metrics.column_sizes.insert(id, found.size);
        metrics.value_counts.insert(id, found.values);
        if let Nulls::Known(nulls) = found.nulls {
            metrics.null_counts.insert(id, nulls);
        }
        // A list's items are not the list's rows.
        if column.max_rep_level() == 0
            && let Bounds::Known(low, high) = found.bounds
        {
            if let Some(low) = lower(low) {
                metrics.lower_bounds.insert(id, low.to_bytes());
            }
            if let Some(high) = upper(high) {
                metrics.upper_bounds.insert(id, high.to_bytes());
            }
        }
    }
    let offsets = footer.row_groups().iter().filter_map(|group| {
        let first = group.columns().first()?;
        let dictionary = first.dictionary_page_offset();
        Some(dictionary.unwrap_or_else(|| first.data_page_offset()))
    });
    (metrics, offsets.collect())
}

/// One column over the row groups.
#[derive(Default)]
struct Column {
    size: i64,
    values: i64,
    nulls: Nulls,
    bounds: Bounds,
}

enum Nulls {
    Known(i64),
    Unknown,
}

impl Default for Nulls {
    fn default() -> Self {
        Self::Known(0)
    }
}

#[derive(Default)]
enum Bounds {
    /// No row group with a value yet.
    #[default]
    Empty,
    Known(Datum, Datum),
    /// A row group states none, or one that is no bound.
    Unknown,
}

impl Column {
    fn add(&mut self, chunk: &ColumnChunkMetaData, primitive: Option<&Primitive>) {
        let statistics = chunk.statistics();
        let nulls = statistics.and_then(Statistics::null_count_opt);
        let nulls = nulls.and_then(|nulls| i64::try_from(nulls).ok());
        self.size += chunk.compressed_size();
        self.values += chunk.num_values();
        self.nulls = match (&self.nulls, nulls) {
            (Nulls::Known(before), Some(nulls)) => Nulls::Known(before + nulls),
            _ => Nulls::Unknown,
        };
        if nulls == Some(chunk.num_values()) {
            // Nulls alone have no range and change none.
            return;
        }
        let range = statistics
            .zip(primitive)
            .and_then(|(statistics, primitive)| range(statistics, primitive));
        let range = range.filter(|(low, high)| !low.is_nan() && !high.is_nan());
        let before = std::mem::take(&mut self.bounds);
        self.bounds = match (before, range) {
            (Bounds::Unknown, _) | (_, None) => Bounds::Unknown,
            (Bounds::Empty, Some((low, high))) => Bounds::Known(low, high),
            (Bounds::Known(low, high), Some((other_low, other_high))) => {
                let low = if other_low.key() < low.key() {
                    other_low
                } else {
                    low
                };
                let high = if other_high.key() > high.key() {
                    other_high
                } else {
                    high
                };
                Bounds::Known(low, high)
            }
        };
    }
}

fn range(statistics: &Statistics, primitive: &Primitive) -> Option<(Datum, Datum)> {
    use Primitive as P;
    let integer = |value: i64, narrow: bool| match primitive {
        P::Decimal { .. } => Some(Datum::Decimal(value.into())),
        P::Int | P::Date => Some(Datum::Int(i32::try_from(value).ok()?)),
        P::Long => Some(Datum::Long(value)),
        P::Time | P::Timestamp | P::Timestamptz if !narrow => Some(Datum::Long(value)),
        _ => None,
    };
    let bytes = |value: &[u8]| match primitive {
        P::Decimal { .. } => Some(Datum::Decimal(from_two_s_complement(value)?)),
        P::String => {
            // A writer that cuts a text in the middle of a character leaves no text.
            Some(Datum::Text(std::str::from_utf8(value).ok()?.to_owned()))
        }
        P::Binary | P::Fixed(_) | P::Uuid => Some(Datum::Bytes(value.to_vec())),
        _ => None,
    };
    match statistics {
        Statistics::Boolean(range) if *primitive == P::Boolean => Some((
            Datum::Boolean(*range.min_opt()?),
            Datum::Boolean(*range.max_opt()?),
        )),
        Statistics::Int32(range) => Some((
            integer(i64::from(*range.min_opt()?), true)?,
            integer(i64::from(*range.max_opt()?), true)?,
        )),
        Statistics::Int64(range) => Some((
            integer(*range.min_opt()?, false)?,
            integer(*range.max_opt()?, false)?,
        )),
        Statistics::Float(range) if matches!(primitive, P::Float | P::Double) => Some((
            Datum::Float(*range.min_opt()?).promoted(primitive),
            Datum::Float(*range.max_opt()?).promoted(primitive),
        )),
        Statistics::Double(range) if *primitive == P::Double => Some((
            Datum::Double(*range.min_opt()?),
            Datum::Double(*range.max_opt()?),
        )),
        Statistics::ByteArray(range) => Some((
            bytes(range.min_opt()?.data())?,
            bytes(range.max_opt()?.data())?,
        )),
        Statistics::FixedLenByteArray(range) => Some((
            bytes(range.min_opt()?.data())?,
            bytes(range.max_opt()?.data())?,
        )),
        Statistics::Boolean(_)
        | Statistics::Int96(_)
        | Statistics::Float(_)
        | Statistics::Double(_) => None,
    }
}

/// A value that is not above.
fn lower(value: Datum) -> Option<Datum> {
    Some(match value {
        Datum::Text(text) => Datum::Text(text.chars().take(BOUND_LENGTH_MAX).collect()),
        Datum::Bytes(mut bytes) => {
            bytes.truncate(BOUND_LENGTH_MAX);
            Datum::Bytes(bytes)
        }
        other => other,
    })
}

/// A value that is not below; `None`: no short one exists.
fn upper(value: Datum) -> Option<Datum> {
    match value {
        Datum::Text(text) if text.chars().count() > BOUND_LENGTH_MAX => {
            let mut chars: Vec<char> = text.chars().take(BOUND_LENGTH_MAX).collect();
            while let Some(last) = chars.pop() {
                if let Some(next) = next_char(last) {
                    chars.push(next);
                    return Some(Datum::Text(chars.into_iter().collect()));
                }
            }
            None
        }
        Datum::Bytes(mut bytes) if bytes.len() > BOUND_LENGTH_MAX => {
            bytes.truncate(BOUND_LENGTH_MAX);
            while let Some(last) = bytes.pop() {
                if let Some(next) = last.checked_add(1) {
                    bytes.push(next);
                    return Some(Datum::Bytes(bytes));
                }
            }
            None
        }
        other => Some(other),
    }
}

fn next_char(c: char) -> Option<char> {
    // The surrogates between are no characters.
    match c {
        '\u{d7ff}' => Some('\u{e000}'),
        _ => char::from_u32(u32::from(c) + 1),
    }
}

/// The types of all leaves, by field id.
fn leaves<'a>(fields: &'a [Field], types: &mut BTreeMap<i32, &'a Primitive>) {
    for field in fields {
        match &field.r#type {
            Type::Primitive(primitive) => {
                types.insert(field.id, primitive);
            }
            Type::Struct(inner) => leaves(inner, types),
            Type::List { element } => leaves(std::slice::from_ref(element), types),
            Type::Map { key, value } => {
                leaves(std::slice::from_ref(key), types);
                leaves(std::slice::from_ref(value), types);
            }
        }
    }
}

#[cfg(test)]
mod tests;
