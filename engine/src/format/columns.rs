//! One column while its batch is being built.
//!
//! Owns: the values of a column that are already converted. Does not own: which value can become
//! which type ([`super::value`]), columns of objects and arrays ([`super::nested`]), which record is bad,
//! batches.
//! Rule: [`Column::append`] cannot fail. A row is appended whole or not at all.

use super::Span;
use super::nested::Node;
use super::text::TextColumn;
use super::value::{Cell, ValueType};
use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int8Builder, Int16Builder, Int32Builder, Int64Builder,
    TimestampMicrosecondBuilder,
};
use std::sync::Arc;

#[derive(Debug)]
pub(super) enum Column {
    Text(TextColumn),
    Boolean(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Binary(BinaryBuilder),
    /// Takes its values itself, before the row is appended.
    Nested(Box<Node>),
}

impl Column {
    /// Creates the column of a type with capacity for `rows` and for `bytes` of text.
    pub fn new(value_type: ValueType, rows: usize, bytes: usize) -> Self {
        match value_type {
            ValueType::Text => Self::Text(TextColumn::with_capacity(rows, bytes)),
            ValueType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            ValueType::Int8 => Self::Int8(Int8Builder::with_capacity(rows)),
            ValueType::Int16 => Self::Int16(Int16Builder::with_capacity(rows)),
            ValueType::Int32 => Self::Int32(Int32Builder::with_capacity(rows)),
            ValueType::Int64 => Self::Int64(Int64Builder::with_capacity(rows)),
            ValueType::Float32 => Self::Float32(Float32Builder::with_capacity(rows)),
            ValueType::Float64 => Self::Float64(Float64Builder::with_capacity(rows)),
            ValueType::Decimal(precision, scale) => {
                let builder = Decimal128Builder::with_capacity(rows);
                let typed = builder.with_precision_and_scale(precision, scale);
                Self::Decimal(typed.expect("the type of a column is valid"))
            }
            ValueType::Date => Self::Date(Date32Builder::with_capacity(rows)),
            ValueType::Timestamp => {
                Self::Timestamp(TimestampMicrosecondBuilder::with_capacity(rows))
            }
            ValueType::Binary => Self::Binary(BinaryBuilder::with_capacity(rows, bytes)),
        }
    }

    /// Appends the result of [`ValueType::convert`]. The casts are within the range that it checked.
    pub fn append(&mut self, cell: &Cell, span: &Span, text: &str) {
        match (self, cell) {
            (Self::Text(column), Cell::Text) => column.append(span, text),
            (Self::Boolean(builder), Cell::Boolean(value)) => builder.append_value(*value),
            (Self::Int8(builder), Cell::Integer(value)) => builder.append_value(*value as i8),
            (Self::Int16(builder), Cell::Integer(value)) => builder.append_value(*value as i16),
            (Self::Int32(builder), Cell::Integer(value)) => builder.append_value(*value as i32),
            (Self::Int64(builder), Cell::Integer(value)) => builder.append_value(*value),
            (Self::Float32(builder), Cell::Single(value)) => builder.append_value(*value),
            (Self::Float64(builder), Cell::Float(value)) => builder.append_value(*value),
            (Self::Decimal(builder), Cell::Decimal(value)) => builder.append_value(*value),
            (Self::Date(builder), Cell::Integer(value)) => builder.append_value(*value as i32),
            (Self::Timestamp(builder), Cell::Integer(value)) => builder.append_value(*value),
            (Self::Binary(builder), Cell::Bytes(value)) => builder.append_value(value),
            (_, Cell::Taken) => {}
            (column, _) => column.append_null(),
        }
    }

    fn append_null(&mut self) {
        match self {
            Self::Text(column) => column.append_null(),
            Self::Boolean(builder) => builder.append_null(),
            Self::Int8(builder) => builder.append_null(),
            Self::Int16(builder) => builder.append_null(),
            Self::Int32(builder) => builder.append_null(),
            Self::Int64(builder) => builder.append_null(),
            Self::Float32(builder) => builder.append_null(),
            Self::Float64(builder) => builder.append_null(),
            Self::Decimal(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
            Self::Binary(builder) => builder.append_null(),
            Self::Nested(node) => node.append_null(),
        }
    }

    /// Bytes of text so far; 0 for non-text columns.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Text(column) => column.bytes(),
            _ => 0,
        }
    }

    /// The values; the column is empty afterwards.
    pub fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(column) => column.finish(),
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Int8(builder) => Arc::new(builder.finish()),
            Self::Int16(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Int64(builder) => Arc::new(builder.finish()),
            Self::Float32(builder) => Arc::new(builder.finish()),
            Self::Float64(builder) => Arc::new(builder.finish()),
            Self::Decimal(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::Binary(builder) => Arc::new(builder.finish()),
            Self::Nested(node) => node.finish(),
        }
    }
}
