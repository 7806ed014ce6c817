//! The values of one place inside of nested columns.
//!
//! Owns: their buffers. Does not own: which value can become which type ([`ValueType`]).
//! Rule: the last values can be taken back, which builders of Arrow cannot do; no value allocates
//! memory of its own.

use crate::format::json::scan::unescape;
use crate::format::value::{Cell, Reading, ValueType};
use crate::format::{Kind, Span};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array,
    Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, NullBufferBuilder,
    StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::mem::take;
use std::sync::Arc;

/// The value does not fit.
pub(super) struct Unfit;

/// A key of a map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key<'a> {
    Bytes(&'a [u8]),
    Number(i128),
}

#[derive(Debug)]
pub(super) struct Leaf {
    value_type: ValueType,
    values: Values,
    nulls: NullBufferBuilder,
}

/// A value of each row; that of a null row is empty or zero.
#[derive(Debug)]
enum Values {
    Text { ends: Vec<i32>, text: String },
    Binary { ends: Vec<i32>, bytes: Vec<u8> },
    Boolean(BooleanBufferBuilder),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>),
}

impl Values {
    fn of(value_type: ValueType) -> Self {
        match value_type {
            ValueType::Text => Self::Text {
                ends: vec![],
                text: String::new(),
            },
            ValueType::Binary => Self::Binary {
                ends: vec![],
                bytes: vec![],
            },
            ValueType::Boolean => Self::Boolean(BooleanBufferBuilder::new(0)),
            ValueType::Int8 => Self::Int8(vec![]),
            ValueType::Int16 => Self::Int16(vec![]),
            ValueType::Int32 | ValueType::Date => Self::Int32(vec![]),
            ValueType::Int64 | ValueType::Timestamp => Self::Int64(vec![]),
            ValueType::Float32 => Self::Float32(vec![]),
            ValueType::Float64 => Self::Float64(vec![]),
            ValueType::Decimal(..) => Self::Decimal(vec![]),
        }
    }

    fn push_empty(&mut self) {
        match self {
            Self::Text { ends, text } => ends.push(end(text.len())),
            Self::Binary { ends, bytes } => ends.push(end(bytes.len())),
            Self::Boolean(values) => values.append(false),
            Self::Int8(values) => values.push(0),
            Self::Int16(values) => values.push(0),
            Self::Int32(values) => values.push(0),
            Self::Int64(values) => values.push(0),
            Self::Float32(values) => values.push(0.0),
            Self::Float64(values) => values.push(0.0),
            Self::Decimal(values) => values.push(0),
        }
    }

    fn truncate(&mut self, length: usize) {
        match self {
            Self::Text { ends, text } => {
                ends.truncate(length);
                text.truncate(last(ends));
            }
            Self::Binary { ends, bytes } => {
                ends.truncate(length);
                bytes.truncate(last(ends));
            }
            Self::Boolean(values) => values.truncate(length),
            Self::Int8(values) => values.truncate(length),
            Self::Int16(values) => values.truncate(length),
            Self::Int32(values) => values.truncate(length),
            Self::Int64(values) => values.truncate(length),
            Self::Float32(values) => values.truncate(length),
            Self::Float64(values) => values.truncate(length),
            Self::Decimal(values) => values.truncate(length),
        }
    }
}

/// A batch has at most 1 GiB of payload, and no byte of it is in two texts of one column.
fn end(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("the payload of a batch is bounded")
}

fn last(ends: &[i32]) -> usize {
    ends.last().map_or(0, |end| *end as usize)
}

impl Leaf {
    pub fn new(value_type: ValueType) -> Self {
        Self {
            value_type,
            values: Values::of(value_type),
            nulls: NullBufferBuilder::new(0),
        }
    }

    pub fn len(&self) -> usize {
        self.nulls.len()
    }

    pub fn truncate(&mut self, length: usize) {
        self.values.truncate(length);
        self.nulls.truncate(length);
    }

    pub fn append_null(&mut self) {
        self.values.push_empty();
        self.nulls.append_null();
    }

    /// Appends a value. Its casts are within the range that the conversion checked.
    #[inline]
    pub fn append(
        &mut self,
        reading: &Reading,
        span: Span,
        text: &str,
        scratch: &mut String,
    ) -> Result<(), Unfit> {
        if span.kind == Kind::Null {
            self.append_null();
            return Ok(());
        }
        let Values::Text { ends, text: all } = &mut self.values else {
            return self.convert(reading, span, text, scratch);
        };
        if span.kind == Kind::Escaped {
            unescape(span.of(text), all)
                .expect("escapes were validated, and a text takes any text");
        } else {
            all.push_str(span.of(text));
        }
        ends.push(end(all.len()));
        self.nulls.append_non_null();
        Ok(())
    }

    fn convert(
        &mut self,
        reading: &Reading,
        span: Span,
        text: &str,
        scratch: &mut String,
    ) -> Result<(), Unfit> {
        // Bytes are written where they belong: a cell would have its own memory.
        if let Values::Binary { ends, bytes } = &mut self.values
            && span.kind == Kind::Plain
        {
            let value = span.of(text).trim_ascii();
            if STANDARD.decode_vec(value, bytes).is_err() {
                bytes.truncate(last(ends));
                return Err(Unfit);
            }
            ends.push(end(bytes.len()));
            self.nulls.append_non_null();
            return Ok(());
        }
        let cell = self.value_type.convert(reading, span, text, scratch);
        match (&mut self.values, cell.ok_or(Unfit)?) {
            (Values::Binary { ends, bytes }, Cell::Bytes(value)) => {
                bytes.extend_from_slice(&value);
                ends.push(end(bytes.len()));
            }
            (Values::Boolean(values), Cell::Boolean(value)) => values.append(value),
            (Values::Int8(values), Cell::Integer(value)) => values.push(value as i8),
            (Values::Int16(values), Cell::Integer(value)) => values.push(value as i16),
            (Values::Int32(values), Cell::Integer(value)) => values.push(value as i32),
            (Values::Int64(values), Cell::Integer(value)) => values.push(value),
            (Values::Float32(values), Cell::Single(value)) => values.push(value),
            (Values::Float64(values), Cell::Float(value)) => values.push(value),
            (Values::Decimal(values), Cell::Decimal(value)) => values.push(value),
            _ => {
                self.append_null();
                return Ok(());
            }
        }
        self.nulls.append_non_null();
        Ok(())
    }

    pub fn is_null(&self, row: usize) -> bool {
        !self.nulls.is_valid(row)
    }

    /// The value of a row that is not null, in the form in which keys of maps are compared.
    pub fn key(&self, row: usize) -> Key<'_> {
        match &self.values {
            Values::Text { ends, text } => {
                Key::Bytes(&text.as_bytes()[last(&ends[..row])..ends[row] as usize])
            }
            Values::Binary { ends, bytes } => {
                Key::Bytes(&bytes[last(&ends[..row])..ends[row] as usize])
            }
            Values::Boolean(values) => Key::Number(values.get_bit(row).into()),
            Values::Int8(values) => Key::Number(values[row].into()),
            Values::Int16(values) => Key::Number(values[row].into()),
            Values::Int32(values) => Key::Number(values[row].into()),
            Values::Int64(values) => Key::Number(values[row].into()),
            Values::Float32(values) => Key::Number(values[row].to_bits().into()),
            Values::Float64(values) => Key::Number(values[row].to_bits().into()),
            Values::Decimal(values) => Key::Number(values[row]),
        }
    }

    /// The values; none are left.
    pub fn finish(&mut self) -> ArrayRef {
        let nulls = self.nulls.finish();
        match &mut self.values {
            Values::Text { ends, text } => {
                let offsets = offsets(ends);
                let text = Buffer::from_vec(take(text).into_bytes());
                Arc::new(StringArray::new(offsets, text, nulls))
            }
            Values::Binary { ends, bytes } => {
                let bytes = Buffer::from_vec(take(bytes));
                Arc::new(BinaryArray::new(offsets(ends), bytes, nulls))
            }
            Values::Boolean(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Int8(values) => Arc::new(Int8Array::new(taken(values), nulls)),
            Values::Int16(values) => Arc::new(Int16Array::new(taken(values), nulls)),
            Values::Int32(values) if self.value_type == ValueType::Date => {
                Arc::new(Date32Array::new(taken(values), nulls))
            }
            Values::Int32(values) => Arc::new(Int32Array::new(taken(values), nulls)),
            Values::Int64(values) if self.value_type == ValueType::Timestamp => {
                Arc::new(TimestampMicrosecondArray::new(taken(values), nulls))
            }
            Values::Int64(values) => Arc::new(Int64Array::new(taken(values), nulls)),
            Values::Float32(values) => Arc::new(Float32Array::new(taken(values), nulls)),
            Values::Float64(values) => Arc::new(Float64Array::new(taken(values), nulls)),
            Values::Decimal(values) => {
                let array = Decimal128Array::new(taken(values), nulls);
                let (precision, scale) = match self.value_type {
                    ValueType::Decimal(precision, scale) => (precision, scale),
                    _ => return Arc::new(array),
                };
                let typed = array.with_precision_and_scale(precision, scale);
                Arc::new(typed.expect("the type of a column is valid"))
            }
        }
    }
}

/// The values; the next batch begins with room for as many.
fn taken<T: arrow::datatypes::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    let room = values.len();
    ScalarBuffer::from(std::mem::replace(values, Vec::with_capacity(room)))
}

/// Offsets from the ends of values.
pub(super) fn offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.append(ends);
    OffsetBuffer::new(offsets.into())
}
