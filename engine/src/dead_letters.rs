//! Dead letters as rows: their columns.
//!
//! Owns: names and types, which the controller reports before a worker returns the rows. Does not
//! own: their stored form (`worker::dead_letter`).
//! Rule: columns are added at the end, none is renamed: programs read them by Flight.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::sync::Arc;

/// The kind of a record of the source.
pub const RECORD: &str = "record";
/// The kind of a row of the result that could not be written, or that the function put aside.
pub const ROW: &str = "row";

/// `epoch`, then the record's place in the source (`shard`, `sequence_number`, `sub_sequence`,
/// `arrival_time`), why it could not be decoded (`reason`), its bytes (`payload`), and for a
/// replayed record that is bad again, the epoch that it was replayed from (`replayed_from`).
/// `kind` is [`RECORD`] or [`ROW`]: a row of the result has no place in the source, its
/// `arrival_time` is the start of its window, its `payload` is the row as JSON.
pub fn dead_letter_schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("epoch", DataType::UInt64, false),
        Field::new("shard", DataType::Utf8, false),
        Field::new("sequence_number", DataType::Utf8, false),
        Field::new("sub_sequence", DataType::UInt64, false),
        Field::new("arrival_time", time, false),
        Field::new("reason", DataType::Utf8, false),
        Field::new("payload", DataType::Binary, false),
        Field::new("replayed_from", DataType::UInt64, true),
        Field::new("kind", DataType::Utf8, false),
    ]))
}
