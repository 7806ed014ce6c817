//! Avro, as far as manifests need it.
//!
//! Owns: schemas, values, the object container file. Does not own: what a manifest's fields mean
//! (`manifest`, `manifest_list`).
//! Rule: the same input gives the same bytes: no random marker, no order of a hash map. Files come
//! from other writers: every length in them is checked before memory is taken for it.

mod container;
mod read;
mod schema;
mod write;

pub use container::{AvroSchema, CONTAINER_BYTES_MAX, Container, read_container, write_container};
pub use schema::{Node, parse_schema};

use std::fmt;

/// A decoded or not yet encoded value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Boolean(bool),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    /// Bytes and fixed.
    Bytes(Vec<u8>),
    Text(String),
    /// In the order of the schema's fields.
    Record(Vec<Value>),
    Array(Vec<Value>),
    Map(Vec<(String, Value)>),
}

impl Value {
    /// An int or a long.
    pub fn number(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(i64::from(*value)),
            Self::Long(value) => Some(*value),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub fn items(&self) -> &[Value] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }
}

/// Why a file or schema is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvroError(pub String);

impl fmt::Display for AvroError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AvroError {}

/// Short form for an error.
fn bad<T>(reason: impl Into<String>) -> Result<T, AvroError> {
    Err(AvroError(reason.into()))
}
