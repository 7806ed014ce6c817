//! Values to bytes.
//!
//! Rule: a value that does not fit its schema is a fault of this program, and an error.

use super::schema::Node;
use super::{AvroError, Value, bad};

/// A variable-length, zig-zag coded number.
pub(super) fn long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}

pub(super) fn length(length: usize, out: &mut Vec<u8>) {
    long(i64::try_from(length).unwrap_or(i64::MAX), out);
}

pub(super) fn bytes(value: &[u8], out: &mut Vec<u8>) {
    length(value.len(), out);
    out.extend_from_slice(value);
}

pub(super) fn value(value: &Value, node: &Node, out: &mut Vec<u8>) -> Result<(), AvroError> {
    match (node, value) {
        (Node::Null, Value::Null) => {}
        (Node::Boolean, Value::Boolean(value)) => out.push(u8::from(*value)),
        (Node::Int, Value::Int(value)) => long(i64::from(*value), out),
        (Node::Long, Value::Int(value)) => long(i64::from(*value), out),
        (Node::Long, Value::Long(value)) => long(*value, out),
        (Node::Float, Value::Float(value)) => out.extend(value.to_le_bytes()),
        (Node::Double, Value::Double(value)) => out.extend(value.to_le_bytes()),
        (Node::Bytes, Value::Bytes(value)) => bytes(value, out),
        (Node::Text, Value::Text(value)) => bytes(value.as_bytes(), out),
        (Node::Fixed(size), Value::Bytes(value)) if value.len() == *size => {
            out.extend_from_slice(value);
        }
        (Node::Record(fields), Value::Record(values)) if fields.len() == values.len() => {
            for (field, inner) in fields.iter().zip(values) {
                self::value(inner, &field.node, out)?;
            }
        }
        (Node::Array(item), Value::Array(items)) => {
            if !items.is_empty() {
                length(items.len(), out);
                for inner in items {
                    self::value(inner, item, out)?;
                }
            }
            out.push(0);
        }
        (Node::Map(node), Value::Map(entries)) => {
            if !entries.is_empty() {
                length(entries.len(), out);
                for (key, inner) in entries {
                    bytes(key.as_bytes(), out);
                    self::value(inner, node, out)?;
                }
            }
            out.push(0);
        }
        (Node::Union(branches), _) => {
            let wanted = |branch: &Node| (*branch == Node::Null) == (*value == Value::Null);
            match branches.iter().position(wanted) {
                Some(at) => {
                    length(at, out);
                    self::value(value, &branches[at], out)?;
                }
                None => return bad(format!("{value:?} is in no branch of {branches:?}")),
            }
        }
        _ => return bad(format!("{value:?} does not fit {node:?}")),
    }
    Ok(())
}
