//! One value: which one can become which type.
//!
//! Owns: the types of values, their conversion. Does not own: where a value is kept
//! (`columns`, `nested`).
//! Rule: a conversion decides and changes nothing.
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
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, TimeUnit};
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
    /// The column has it already.
    Taken,
}

/// The type of a value that is no object and no array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueType {
    Text,
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    Float32,
    Float64,
    Decimal(u8, i8),
    Date,
    Timestamp,
    Binary,
}

impl ValueType {
    /// `None` if no single value of a record can become the type.
    pub fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Utf8 => Self::Text,
            DataType::Boolean => Self::Boolean,
            DataType::Int8 => Self::Int8,
            DataType::Int16 => Self::Int16,
            DataType::Int32 => Self::Int32,
            DataType::Int64 => Self::Int64,
            DataType::Float32 => Self::Float32,
            DataType::Float64 => Self::Float64,
            DataType::Decimal128(precision, scale)
                if (1..=DECIMAL128_MAX_PRECISION).contains(precision)
                    && scale.unsigned_abs() <= *precision =>
            {
                Self::Decimal(*precision, *scale)
            }
            DataType::Date32 => Self::Date,
            DataType::Timestamp(TimeUnit::Microsecond, None) => Self::Timestamp,
            DataType::Binary => Self::Binary,
            _ => return None,
        })
    }

    /// The converted value; `None` if it cannot be converted. `scratch` is for strings with
    /// escapes.
    #[inline]
    pub fn convert(
        self,
        reading: &Reading,
        span: Span,
        text: &str,
        scratch: &mut String,
    ) -> Option<Cell> {
        if span.kind == Kind::Null {
            return Some(Cell::Null);
        }
        if self == Self::Text {
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

    fn parse(self, reading: &Reading, kind: Kind, value: &str) -> Option<Cell> {
        match self {
            Self::Text => Some(Cell::Text),
            Self::Boolean => boolean(value).map(Cell::Boolean),
            // Only booleans and text take `true`.
            _ if kind == Kind::Boolean => None,
            Self::Int8 => integer(value, i8::MIN.into(), i8::MAX.into()),
            Self::Int16 => integer(value, i16::MIN.into(), i16::MAX.into()),
            Self::Int32 => integer(value, i32::MIN.into(), i32::MAX.into()),
            Self::Int64 => integer(value, i64::MIN, i64::MAX),
            Self::Float32 => {
                let number: f32 = value.parse().ok()?;
                let number = if is_integer_zero(kind, value) {
                    0.0
                } else {
                    number
                };
                (number.is_finite() || spelled_out(value)).then_some(Cell::Single(number))
            }
            Self::Float64 => {
                let number: f64 = value.parse().ok()?;
                let number = if is_integer_zero(kind, value) {
                    0.0
                } else {
                    number
                };
                (number.is_finite() || spelled_out(value)).then_some(Cell::Float(number))
            }
            Self::Decimal(precision, scale) => {
                let number = Exact::parse(value)?;
                let unscaled = match reading.decimals {
                    Decimals::Round => number.rounded_at_scale(scale)?,
                    Decimals::Exact => number.at_scale(scale)?,
                };
                let limit = 10_u128.checked_pow(u32::from(precision))?;
                (unscaled.unsigned_abs() < limit).then_some(Cell::Decimal(unscaled))
            }
            Self::Date if kind == Kind::Number => None,
            Self::Date => {
                let days = reading.times.date(value)?;
                Some(Cell::Integer(days.into()))
            }
            Self::Timestamp if kind == Kind::Number => {
                reading.times.of_number(value).map(Cell::Integer)
            }
            Self::Timestamp => reading.times.of_text(value).map(Cell::Integer),
            Self::Binary if kind == Kind::Number => None,
            Self::Binary => STANDARD.decode(value).ok().map(Cell::Bytes),
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

/// Whether it is the integer `-0` of JSON: an integer has no negative zero, for Spark neither.
fn is_integer_zero(kind: Kind, value: &str) -> bool {
    kind == Kind::Number && value == "-0"
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
        DataType::List(item) => format!("array<{}>", type_name(item.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => {
                let types = fields.iter().map(|field| type_name(field.data_type()));
                format!("map<{}>", types.collect::<Vec<_>>().join(","))
            }
            _ => "map".into(),
        },
        DataType::Struct(fields) => {
            let field =
                |field: &Arc<Field>| format!("{}:{}", field.name(), type_name(field.data_type()));
            let fields: Vec<String> = fields.iter().map(field).collect();
            format!("struct<{}>", fields.join(","))
        }
        other => other.to_string(),
    }
}
