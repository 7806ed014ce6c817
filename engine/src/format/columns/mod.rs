//! One column while its batch is being built: values into its type.
//!
//! Owns: which value can become which type. Does not own: which record is bad, batches.
//! Rule: [`Column::convert`] decides and changes nothing; [`Column::append`] cannot fail. A row is
//! appended whole or not at all.
//!
//! - text: strings; numbers, booleans, objects and arrays as their JSON text exactly as written.
//! - other types: strings are parsed, without ASCII white space around them; one that is empty then
//!   is null, except for binary.
//! - integers: any notation of exactly such a number (`12.0`, `1.2e1`); never rounded, never
//!   wrapped.
//! - decimals: any notation; rounded half up, or exact ([`Decimals`]); never wrapped.
//! - floats: nearest value; too large is bad. `NaN`, `Infinity` or `INF`, with a sign; in strings
//!   in any case.
//! - booleans: `true`, or strings as in Spark (`t true y yes 1`, `f false n no 0`, any case); the
//!   numbers 1 and 0.
//! - dates and timestamps: by [`Times`]; a number is a time, never a date.
//! - binary: base64.

use super::json::scan::unescape;
use super::{Kind, Span};
use crate::values::Times;
use crate::values::exact::Exact;
use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int8Builder, Int16Builder, Int32Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, TimeUnit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;
use streamctl_proto::spec::{Decimals, ValueRules};

/// How values become those of a column's type.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    times: Times,
    decimals: Decimals,
}

impl Reading {
    pub fn new(rules: &ValueRules) -> Self {
        Self {
            times: Times::new(rules),
            decimals: rules.decimals,
        }
    }
}

/// A value that fits its column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    /// The span itself: text needs no conversion.
    Text,
    Integer(i64),
    Decimal(i128),
    Single(f32),
    Float(f64),
    Boolean(bool),
    Bytes(Vec<u8>),
}

#[derive(Debug)]
pub(super) enum Column {
    Text(StringBuilder),
    Boolean(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder, u8, i8),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Binary(BinaryBuilder),
}

impl Column {
    /// Creates the column of a type with capacity for `rows` and for `bytes` of text. `None` if
    /// records cannot be decoded into the type.
    pub fn new(data_type: &DataType, rows: usize, bytes: usize) -> Option<Self> {
        Some(match data_type {
            DataType::Utf8 => Self::Text(StringBuilder::with_capacity(rows, bytes)),
            DataType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            DataType::Int8 => Self::Int8(Int8Builder::with_capacity(rows)),
            DataType::Int16 => Self::Int16(Int16Builder::with_capacity(rows)),
            DataType::Int32 => Self::Int32(Int32Builder::with_capacity(rows)),
            DataType::Int64 => Self::Int64(Int64Builder::with_capacity(rows)),
            DataType::Float32 => Self::Float32(Float32Builder::with_capacity(rows)),
            DataType::Float64 => Self::Float64(Float64Builder::with_capacity(rows)),
            DataType::Decimal128(precision, scale) => {
                let builder = Decimal128Builder::with_capacity(rows);
                Self::Decimal(
                    builder.with_precision_and_scale(*precision, *scale).ok()?,
                    *precision,
                    *scale,
                )
            }
            DataType::Date32 => Self::Date(Date32Builder::with_capacity(rows)),
            DataType::Timestamp(TimeUnit::Microsecond, None) => {
                Self::Timestamp(TimestampMicrosecondBuilder::with_capacity(rows))
            }
            DataType::Binary => Self::Binary(BinaryBuilder::with_capacity(rows, bytes)),
            _ => return None,
        })
    }

    /// The converted value; `None` if it cannot be converted. `scratch` is for strings with
    /// escapes.
    pub fn convert(
        &self,
        reading: &Reading,
        span: Span,
        text: &str,
        scratch: &mut String,
    ) -> Option<Cell> {
        if span.kind == Kind::Null {
            return Some(Cell::Null);
        }
        if matches!(self, Self::Text(_)) {
            return Some(Cell::Text);
        }
        if span.kind == Kind::Nested {
            return None;
        }
        let raw = span.of(text);
        let value = if span.kind == Kind::Escaped {
            scratch.clear();
            unescape(raw, scratch).ok()?;
            scratch.as_str()
        } else {
            raw
        };
        let value = value.trim_ascii();
        match self.parse(reading, span.kind, value) {
            // A missing value of those who write every value as a string.
            None if value.is_empty() => Some(Cell::Null),
            cell => cell,
        }
    }

    fn parse(&self, reading: &Reading, kind: Kind, value: &str) -> Option<Cell> {
        match self {
            Self::Text(_) => Some(Cell::Text),
            Self::Boolean(_) => boolean(value).map(Cell::Boolean),
            // Only booleans and text take `true`.
            _ if kind == Kind::Boolean => None,
            Self::Int8(_) => integer(value, i8::MIN.into(), i8::MAX.into()),
            Self::Int16(_) => integer(value, i16::MIN.into(), i16::MAX.into()),
            Self::Int32(_) => integer(value, i32::MIN.into(), i32::MAX.into()),
            Self::Int64(_) => integer(value, i64::MIN, i64::MAX),
            Self::Float32(_) => {
                let number: f32 = value.parse().ok()?;
                (number.is_finite() || spelled_out(value)).then_some(Cell::Single(number))
            }
            Self::Float64(_) => {
                let number: f64 = value.parse().ok()?;
                (number.is_finite() || spelled_out(value)).then_some(Cell::Float(number))
            }
            Self::Decimal(_, precision, scale) => {
                let number = Exact::parse(value)?;
                let unscaled = match reading.decimals {
                    Decimals::Round => number.rounded_at_scale(*scale)?,
                    Decimals::Exact => number.at_scale(*scale)?,
                };
                let limit = 10_u128.checked_pow(u32::from(*precision))?;
                (unscaled.unsigned_abs() < limit).then_some(Cell::Decimal(unscaled))
            }
            Self::Date(_) if kind == Kind::Number => None,
            Self::Date(_) => {
                let days = reading.times.date(value)?;
                Some(Cell::Integer(days.into()))
            }
            Self::Timestamp(_) if kind == Kind::Number => {
                reading.times.of_number(value).map(Cell::Integer)
            }
            Self::Timestamp(_) => reading.times.of_text(value).map(Cell::Integer),
            Self::Binary(_) if kind == Kind::Number => None,
            Self::Binary(_) => STANDARD.decode(value).ok().map(Cell::Bytes),
        }
    }

    /// Appends the result of [`Column::convert`]. The casts are within the range that it checked.
    pub fn append(&mut self, cell: &Cell, span: Span, text: &str) {
        match (self, cell) {
            (Self::Text(builder), Cell::Text) if span.kind == Kind::Null => builder.append_null(),
            (Self::Text(builder), Cell::Text) if span.kind == Kind::Escaped => {
                unescape(span.of(text), builder)
                    .expect("escapes were validated, and a builder takes any text");
                builder.append_value("");
            }
            (Self::Text(builder), Cell::Text) => builder.append_value(span.of(text)),
            (Self::Boolean(builder), Cell::Boolean(value)) => builder.append_value(*value),
            (Self::Int8(builder), Cell::Integer(value)) => builder.append_value(*value as i8),
            (Self::Int16(builder), Cell::Integer(value)) => builder.append_value(*value as i16),
            (Self::Int32(builder), Cell::Integer(value)) => builder.append_value(*value as i32),
            (Self::Int64(builder), Cell::Integer(value)) => builder.append_value(*value),
            (Self::Float32(builder), Cell::Single(value)) => builder.append_value(*value),
            (Self::Float64(builder), Cell::Float(value)) => builder.append_value(*value),
            (Self::Decimal(builder, ..), Cell::Decimal(value)) => builder.append_value(*value),
            (Self::Date(builder), Cell::Integer(value)) => builder.append_value(*value as i32),
            (Self::Timestamp(builder), Cell::Integer(value)) => builder.append_value(*value),
            (Self::Binary(builder), Cell::Bytes(value)) => builder.append_value(value),
            (column, _) => column.append_null(),
        }
    }

    fn append_null(&mut self) {
        match self {
            Self::Text(builder) => builder.append_null(),
            Self::Boolean(builder) => builder.append_null(),
            Self::Int8(builder) => builder.append_null(),
            Self::Int16(builder) => builder.append_null(),
            Self::Int32(builder) => builder.append_null(),
            Self::Int64(builder) => builder.append_null(),
            Self::Float32(builder) => builder.append_null(),
            Self::Float64(builder) => builder.append_null(),
            Self::Decimal(builder, ..) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
            Self::Binary(builder) => builder.append_null(),
        }
    }

    /// Bytes of text so far; 0 for non-text columns.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Text(builder) => builder.values_slice().len(),
            _ => 0,
        }
    }

    pub fn finish(mut self) -> ArrayRef {
        match &mut self {
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Int8(builder) => Arc::new(builder.finish()),
            Self::Int16(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Int64(builder) => Arc::new(builder.finish()),
            Self::Float32(builder) => Arc::new(builder.finish()),
            Self::Float64(builder) => Arc::new(builder.finish()),
            Self::Decimal(builder, ..) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::Binary(builder) => Arc::new(builder.finish()),
        }
    }
}

fn boolean(value: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
    match () {
        () if is(&["true", "t", "yes", "y", "1"]) => Some(true),
        () if is(&["false", "f", "no", "n", "0"]) => Some(false),
        () => None,
    }
}

fn integer(value: &str, least: i64, most: i64) -> Option<Cell> {
    let number = match value.parse::<i64>() {
        Ok(number) => number,
        Err(_) => i64::try_from(Exact::parse(value)?.at_scale(0)?).ok()?,
    };
    (least..=most)
        .contains(&number)
        .then_some(Cell::Integer(number))
}

/// Whether the text spells out infinity or NaN, rather than being digits that overflow.
fn spelled_out(value: &str) -> bool {
    !value.bytes().any(|byte| byte.is_ascii_digit())
}

/// A type in Hive's notation.
pub(super) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 => "string".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Int8 => "tinyint".into(),
        DataType::Int16 => "smallint".into(),
        DataType::Int32 => "int".into(),
        DataType::Int64 => "bigint".into(),
        DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(..) => "timestamp".into(),
        DataType::Binary => "binary".into(),
        other => other.to_string(),
    }
}
