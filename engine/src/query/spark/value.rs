//! One value of a column, and what Spark makes of it where another type is needed.
//!
//! Owns: reading values, the conversions between types. Does not own: the text forms of numbers and
//! times (`number`, `clock`).
//! Rule: a conversion never fails: what does not fit is NULL, saturates or wraps, as in Spark with
//! ANSI off.

use super::types::{TIME, plain};
use super::{clock, number};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array,
    Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, ListArray,
    StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType,
};
use datafusion::common::{Result, exec_err};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

const SECOND_MICROS: i64 = 1_000_000;
const DAY_MICROS: i64 = 86_400 * SECOND_MICROS;

/// A value that is not NULL.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Bool(bool),
    Whole(i64),
    Float(f32),
    Double(f64),
    Decimal(i128, i8),
    Text(&'a str),
    Date(i32),
    /// Microseconds since 1970, UTC.
    Time(i64),
    Bytes(&'a [u8]),
}

/// A column whose values are read one by one.
pub(super) enum Reader {
    Null,
    Bool(BooleanArray),
    Int8(Int8Array),
    Int16(Int16Array),
    Int32(Int32Array),
    Int64(Int64Array),
    Float(Float32Array),
    Double(Float64Array),
    Decimal(Decimal128Array, i8),
    Text(StringArray),
    Date(Date32Array),
    Time(TimestampMicrosecondArray),
    Bytes(BinaryArray),
    List(ListArray),
    /// Values that only their functions read.
    Other(ArrayRef),
}

impl Reader {
    /// # Errors
    /// For a type that no value of Spark has here.
    pub(super) fn new(array: &ArrayRef) -> Result<Self> {
        let simple = plain(array.data_type());
        let cast;
        let array = if simple == *array.data_type() {
            array
        } else {
            cast = arrow::compute::cast(array, &simple)?;
            &cast
        };
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Bool(array.as_boolean().clone()),
            DataType::Int8 => Self::Int8(array.as_primitive::<Int8Type>().clone()),
            DataType::Int16 => Self::Int16(array.as_primitive::<Int16Type>().clone()),
            DataType::Int32 => Self::Int32(array.as_primitive::<Int32Type>().clone()),
            DataType::Int64 => Self::Int64(array.as_primitive::<Int64Type>().clone()),
            DataType::Float32 => Self::Float(array.as_primitive::<Float32Type>().clone()),
            DataType::Float64 => Self::Double(array.as_primitive::<Float64Type>().clone()),
            DataType::Decimal128(_, scale) => {
                Self::Decimal(array.as_primitive::<Decimal128Type>().clone(), *scale)
            }
            DataType::Utf8 => Self::Text(array.as_string::<i32>().clone()),
            DataType::Date32 => Self::Date(array.as_primitive::<Date32Type>().clone()),
            DataType::Timestamp(..) => {
                Self::Time(array.as_primitive::<TimestampMicrosecondType>().clone())
            }
            DataType::List(_) => Self::List(array.as_list::<i32>().clone()),
            DataType::Binary => Self::Bytes(array.as_binary::<i32>().clone()),
            DataType::Time64(_) | DataType::Time32(_) | DataType::Struct(_) | DataType::Map(..) => {
                Self::Other(Arc::clone(array))
            }
            other => return exec_err!("values of {other} cannot be read here"),
        })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        match self {
            Self::List(list) => list.is_null(row),
            Self::Other(array) => array.is_null(row),
            other => other.get(row).is_none(),
        }
    }

    /// NULL for a list.
    pub(super) fn get(&self, row: usize) -> Option<Value<'_>> {
        fn at<A: Array>(array: &A, row: usize) -> bool {
            array.is_valid(row)
        }
        Some(match self {
            Self::Null | Self::List(_) | Self::Other(_) => return None,
            Self::Bool(array) if at(array, row) => Value::Bool(array.value(row)),
            Self::Int8(array) if at(array, row) => Value::Whole(array.value(row).into()),
            Self::Int16(array) if at(array, row) => Value::Whole(array.value(row).into()),
            Self::Int32(array) if at(array, row) => Value::Whole(array.value(row).into()),
            Self::Int64(array) if at(array, row) => Value::Whole(array.value(row)),
            Self::Float(array) if at(array, row) => Value::Float(array.value(row)),
            Self::Double(array) if at(array, row) => Value::Double(array.value(row)),
            Self::Decimal(array, scale) if at(array, row) => {
                Value::Decimal(array.value(row), *scale)
            }
            Self::Text(array) if at(array, row) => Value::Text(array.value(row)),
            Self::Date(array) if at(array, row) => Value::Date(array.value(row)),
            Self::Time(array) if at(array, row) => Value::Time(array.value(row)),
            Self::Bytes(array) if at(array, row) => Value::Bytes(array.value(row)),
            _ => return None,
        })
    }
}

/// A number of seconds as microseconds, cut to what fits.
fn micros_of_seconds(seconds: i64) -> i64 {
    seconds.saturating_mul(SECOND_MICROS)
}

impl<'a> Value<'a> {
    pub(super) fn text(self) -> Cow<'a, str> {
        match self {
            Self::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
            Self::Whole(value) => Cow::Owned(value.to_string()),
            Self::Float(value) => Cow::Owned(number::float_text(value)),
            Self::Double(value) => Cow::Owned(number::double_text(value)),
            Self::Decimal(value, scale) => Cow::Owned(number::decimal_text(value, scale)),
            Self::Text(text) => Cow::Borrowed(text),
            Self::Date(days) => Cow::Owned(clock::date_text(days)),
            Self::Time(micros) => Cow::Owned(clock::time_text(micros)),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes),
        }
    }

    pub(super) fn long(self) -> Option<i64> {
        match self {
            Self::Bool(value) => Some(value.into()),
            Self::Whole(value) => Some(value),
            // `as` saturates, and makes 0 of NaN, as Java does.
            Self::Float(value) => Some(value as i64),
            Self::Double(value) => Some(value as i64),
            Self::Decimal(value, scale) => Some((value / number::power(scale)) as i64),
            Self::Text(text) => number::whole(text, i64::MIN),
            Self::Date(_) | Self::Bytes(_) => None,
            Self::Time(micros) => Some(micros.div_euclid(SECOND_MICROS)),
        }
    }

    pub(super) fn int(self) -> Option<i32> {
        match self {
            Self::Float(value) => Some(value as i32),
            Self::Double(value) => Some(value as i32),
            Self::Text(text) => number::whole(text, i32::MIN.into()).map(|value| value as i32),
            other => other.long().map(|value| value as i32),
        }
    }

    fn short(self) -> Option<i16> {
        match self {
            Self::Text(_) => self.int().and_then(|value| value.try_into().ok()),
            other => other.int().map(|value| value as i16),
        }
    }

    fn byte(self) -> Option<i8> {
        match self {
            Self::Text(_) => self.int().and_then(|value| value.try_into().ok()),
            other => other.int().map(|value| value as i8),
        }
    }

    pub(super) fn double(self) -> Option<f64> {
        match self {
            Self::Bool(value) => Some(f64::from(u8::from(value))),
            Self::Whole(value) => Some(value as f64),
            Self::Float(value) => Some(value.into()),
            Self::Double(value) => Some(value),
            Self::Decimal(value, scale) => Some(number::decimal_double(value, scale)),
            Self::Text(text) => number::double(text),
            Self::Date(_) | Self::Bytes(_) => None,
            Self::Time(micros) => Some(micros as f64 / SECOND_MICROS as f64),
        }
    }

    fn float(self) -> Option<f32> {
        match self {
            Self::Float(value) => Some(value),
            Self::Whole(value) => Some(value as f32),
            Self::Text(text) => number::float(text),
            Self::Decimal(value, scale) => number::decimal_text(value, scale).parse().ok(),
            other => other.double().map(|value| value as f32),
        }
    }

    pub(super) fn bool(self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(value),
            Self::Whole(value) => Some(value != 0),
            Self::Float(value) => Some(value != 0.0),
            Self::Double(value) => Some(value != 0.0),
            Self::Decimal(value, _) => Some(value != 0),
            Self::Text(text) => number::truth(text),
            Self::Date(_) | Self::Bytes(_) => None,
            Self::Time(micros) => Some(micros != 0),
        }
    }

    /// The unscaled number of a decimal with these digits and this scale.
    pub(super) fn decimal(self, digits: u8, scale: i8) -> Option<i128> {
        match self {
            Self::Bool(value) => number::rescaled(value.into(), 0, digits, scale),
            Self::Whole(value) => number::rescaled(value.into(), 0, digits, scale),
            Self::Decimal(value, from) => number::rescaled(value, from, digits, scale),
            Self::Float(value) => number::decimal(&f64::from(value).to_string(), digits, scale),
            Self::Double(value) => number::decimal(&value.to_string(), digits, scale),
            Self::Text(text) => number::decimal(number::trimmed(text), digits, scale),
            // By way of a double, as Spark does.
            Self::Time(_) => {
                let seconds = self.double()?;
                number::decimal(&seconds.to_string(), digits, scale)
            }
            Self::Date(_) | Self::Bytes(_) => None,
        }
    }

    pub(super) fn date(self) -> Option<i32> {
        match self {
            Self::Date(days) => Some(days),
            Self::Time(micros) => Some(micros.div_euclid(DAY_MICROS) as i32),
            Self::Text(text) => clock::date(text),
            _ => None,
        }
    }

    pub(super) fn time(self) -> Option<i64> {
        match self {
            Self::Time(micros) => Some(micros),
            Self::Date(days) => Some(i64::from(days) * DAY_MICROS),
            Self::Text(text) => clock::time(text),
            Self::Whole(seconds) => Some(micros_of_seconds(seconds)),
            Self::Float(seconds) => Self::Double(seconds.into()).time(),
            Self::Double(seconds) if seconds.is_finite() => {
                Some((seconds * SECOND_MICROS as f64) as i64)
            }
            Self::Double(_) | Self::Bytes(_) => None,
            Self::Decimal(value, scale) => {
                let micros = value.checked_mul(SECOND_MICROS.into())?;
                Some((micros / number::power(scale)) as i64)
            }
            Self::Bool(value) => Some(value.into()),
        }
    }

    /// The bytes of a text or of a binary value.
    pub(super) fn bytes(self) -> Cow<'a, [u8]> {
        match self {
            Self::Bytes(bytes) => Cow::Borrowed(bytes),
            other => match other.text() {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            },
        }
    }

    /// The order of two values of one type. NaN equals NaN and is the largest; -0.0 equals 0.0.
    pub(super) fn order(self, other: Self) -> Ordering {
        let doubles = |left: f64, right: f64| {
            left.partial_cmp(&right)
                .unwrap_or_else(|| left.is_nan().cmp(&right.is_nan()))
        };
        match (self, other) {
            (Self::Bool(left), Self::Bool(right)) => left.cmp(&right),
            (Self::Whole(left), Self::Whole(right)) => left.cmp(&right),
            (Self::Float(left), Self::Float(right)) => doubles(left.into(), right.into()),
            (Self::Double(left), Self::Double(right)) => doubles(left, right),
            (Self::Decimal(left, _), Self::Decimal(right, _)) => left.cmp(&right),
            (Self::Text(left), Self::Text(right)) => left.cmp(right),
            (Self::Date(left), Self::Date(right)) => left.cmp(&right),
            (Self::Time(left), Self::Time(right)) => left.cmp(&right),
            (Self::Bytes(left), Self::Bytes(right)) => left.cmp(right),
            _ => Ordering::Equal,
        }
    }
}

/// The column with values of another type.
///
/// # Errors
/// For types that have no conversion.
pub(super) fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(array.clone());
    }
    if let (DataType::List(from), DataType::List(element)) = (array.data_type(), to)
        && from.data_type() != element.data_type()
    {
        let list = array.as_list::<i32>();
        let values = cast(list.values(), element.data_type())?;
        return Ok(Arc::new(ListArray::try_new(
            element.clone(),
            list.offsets().clone(),
            values,
            list.nulls().cloned(),
        )?));
    }
    let reader = Reader::new(array)?;
    if let Reader::Null = reader {
        return Ok(new_null_array(to, array.len()));
    }
    if let Reader::List(_) = reader {
        return Ok(arrow::compute::cast(array, to)?);
    }
    collected(array.len(), to, |row| reader.get(row))
}

/// A column of this type, of values of any type.
///
/// # Errors
/// For a type that no value of Spark has here.
pub(super) fn collected<'a>(
    rows: usize,
    to: &DataType,
    value: impl Fn(usize) -> Option<Value<'a>>,
) -> Result<ArrayRef> {
    let rows = (0..rows).map(value);
    Ok(match to {
        DataType::Null => new_null_array(&DataType::Null, rows.count()),
        DataType::Boolean => Arc::new(
            rows.map(|value| value.and_then(Value::bool))
                .collect::<BooleanArray>(),
        ),
        DataType::Int8 => Arc::new(
            rows.map(|value| value.and_then(Value::byte))
                .collect::<Int8Array>(),
        ),
        DataType::Int16 => Arc::new(
            rows.map(|value| value.and_then(Value::short))
                .collect::<Int16Array>(),
        ),
        DataType::Int32 => Arc::new(
            rows.map(|value| value.and_then(Value::int))
                .collect::<Int32Array>(),
        ),
        DataType::Int64 => Arc::new(
            rows.map(|value| value.and_then(Value::long))
                .collect::<Int64Array>(),
        ),
        DataType::Float32 => Arc::new(
            rows.map(|value| value.and_then(Value::float))
                .collect::<Float32Array>(),
        ),
        DataType::Float64 => Arc::new(
            rows.map(|value| value.and_then(Value::double))
                .collect::<Float64Array>(),
        ),
        DataType::Decimal128(digits, scale) => Arc::new(
            rows.map(|value| value.and_then(|value| value.decimal(*digits, *scale)))
                .collect::<Decimal128Array>()
                .with_precision_and_scale(*digits, *scale)?,
        ),
        DataType::Utf8 => Arc::new(
            rows.map(|value| value.map(Value::text))
                .collect::<StringArray>(),
        ),
        DataType::Date32 => Arc::new(
            rows.map(|value| value.and_then(Value::date))
                .collect::<Date32Array>(),
        ),
        DataType::Binary => Arc::new(
            rows.map(|value| value.map(Value::bytes))
                .collect::<BinaryArray>(),
        ),
        time if *time == TIME => Arc::new(
            rows.map(|value| value.and_then(Value::time))
                .collect::<TimestampMicrosecondArray>(),
        ),
        other => return exec_err!("values of {other} cannot be made here"),
    })
}
