//! Entries of manifests of our form, as files that a snapshot shows.
//!
//! Owns: what an entry states of its file. Does not own: the form (`manifest`).
//! Rule: an entry that is not understood as a whole is no file: it is copied, never rewritten.

use super::{DELETED, ROWS_AT};
use crate::iceberg::avro::Value;
use crate::iceberg::datum::{Datum, from_two_s_complement};
use crate::iceberg::partition::{BoundField, PartitionValues};
use crate::iceberg::types::Primitive;

/// Where a data file's record has its location and its bytes.
const LOCATION_AT: usize = 1;
const SIZE_AT: usize = 5;

/// A data file that a manifest of our form lists and a snapshot shows.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveFile {
    pub location: String,
    /// In bytes.
    pub size: u64,
    pub rows: u64,
    pub partition: PartitionValues,
    /// Deletes of higher numbers apply to it.
    pub sequence_number: i64,
}

/// The file of an entry in the form of [`super::entry_schema`]; `None`: it is deleted, or not a plain data
/// file. `inherited`: the manifest's own sequence number.
pub fn live_file(fields: &[BoundField], inherited: i64, entry: &Value) -> Option<LiveFile> {
    let Value::Record(values) = entry else {
        return None;
    };
    let [status, _, sequence_number, _, Value::Record(file)] = values.as_slice() else {
        return None;
    };
    let [
        content,
        location,
        _,
        Value::Record(partition),
        rows,
        size,
        ..,
    ] = file.as_slice()
    else {
        return None;
    };
    if status.number()? == i64::from(DELETED) || content.number()? != 0 {
        return None;
    }
    let partition = fields.iter().zip(partition);
    Some(LiveFile {
        location: location.text()?.to_owned(),
        size: size.number()?.try_into().ok()?,
        rows: rows.number()?.try_into().ok()?,
        partition: partition
            .map(|(field, value)| partition_datum(field, value))
            .collect::<Option<_>>()?,
        sequence_number: sequence_number.number().unwrap_or(inherited),
    })
}

/// A value of the file of an entry of our form.
fn of_file(entry: &Value, at: usize) -> Option<&Value> {
    let Value::Record(values) = entry else {
        return None;
    };
    match values.last()? {
        Value::Record(file) => file.get(at),
        _ => None,
    }
}

/// The location in an entry of our form.
pub fn location_of(entry: &Value) -> Option<&str> {
    of_file(entry, LOCATION_AT)?.text()
}

/// The number of rows in an entry of our form.
pub fn rows_of(entry: &Value) -> Option<i64> {
    of_file(entry, ROWS_AT)?.number()
}

/// The bytes in an entry of our form.
pub fn size_of(entry: &Value) -> Option<i64> {
    of_file(entry, SIZE_AT)?.number()
}

/// An entry with the values that it had, as removed by this snapshot.
pub fn removed_by(entry: Value, snapshot: i64) -> Option<Value> {
    let Value::Record(mut values) = entry else {
        return None;
    };
    *values.get_mut(0)? = Value::Int(DELETED);
    *values.get_mut(1)? = Value::Long(snapshot);
    Some(Value::Record(values))
}

/// The reverse of `partition_value`; null is `Some(None)`.
fn partition_datum(field: &BoundField, value: &Value) -> Option<Option<Datum>> {
    use Primitive as P;
    Some(Some(match (&field.result, value) {
        (_, Value::Null) => return Some(None),
        (P::Boolean, Value::Boolean(value)) => Datum::Boolean(*value),
        (P::Int | P::Date, Value::Int(value)) => Datum::Int(*value),
        (
            P::Long | P::Time | P::Timestamp | P::Timestamptz | P::TimestampNs | P::TimestamptzNs,
            Value::Long(value),
        ) => Datum::Long(*value),
        (P::Float, Value::Float(value)) => Datum::Float(*value),
        (P::Double, Value::Double(value)) => Datum::Double(*value),
        (P::Decimal { .. }, Value::Bytes(value)) => Datum::Decimal(from_two_s_complement(value)?),
        (P::String, Value::Text(value)) => Datum::Text(value.clone()),
        (P::Uuid | P::Fixed(_) | P::Binary, Value::Bytes(value)) => Datum::Bytes(value.clone()),
        _ => return None,
    }))
}
