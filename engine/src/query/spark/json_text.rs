//! Values as JSON, as `to_json` of Spark writes them.
//!
//! Owns: the text of a value. Does not own: JSON that is read (`json`), rows in files (`written`).
//! Rule: no white space; fields of a struct that are NULL are left out, elements of a list and values
//! of a map are `null`. Times have milliseconds and the zone Z, as Spark's default format has them.

use super::json::write_text;
use super::number::{decimal_text, double_text, float_text};
use super::types::plain;
use super::{clock, types};
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimestampMicrosecondType,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use datafusion::common::{Result, exec_err};
use std::fmt::Write as _;
use std::sync::Arc;

const MILLI_MICROS: i64 = 1_000;

/// Whether values of the type have a form.
pub(in crate::query) fn is_writable(data_type: &DataType) -> bool {
    match plain(data_type) {
        DataType::Struct(fields) => fields.iter().all(|field| is_writable(field.data_type())),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            is_writable(item.data_type())
        }
        DataType::Map(entries, _) => is_writable(entries.data_type()),
        single => types::is_atomic(&single) || single == DataType::Binary,
    }
}

/// Each value of a column; NULL where it is NULL.
pub(in crate::query) fn json_of(array: &ArrayRef) -> Result<StringArray> {
    let writer = Writer::new(array)?;
    let mut texts = arrow::array::StringBuilder::new();
    let mut text = String::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        writer.write(row, &mut text);
        texts.append_value(&text);
    }
    Ok(texts.finish())
}

/// A column whose values are written one by one.
struct Writer {
    array: ArrayRef,
    kind: Kind,
}

enum Kind {
    /// NULL in every row.
    Null,
    Single,
    /// Keys with their quotes and colons.
    Struct(Vec<(String, Writer)>),
    List {
        items: Box<Writer>,
        offsets: Vec<usize>,
    },
    Map {
        keys: Box<Writer>,
        values: Box<Writer>,
        offsets: Vec<usize>,
    },
}

impl Writer {
    fn new(array: &ArrayRef) -> Result<Self> {
        let places = |offsets: &[i32]| offsets.iter().map(|at| *at as usize).collect();
        let kind = match array.data_type() {
            DataType::Struct(fields) => {
                let columns = array.as_struct().columns().iter().zip(fields);
                let field = |(column, field): (&ArrayRef, &Arc<Field>)| {
                    let mut key = String::new();
                    write_text(&mut key, field.name());
                    key.push(':');
                    Ok((key, Self::new(column)?))
                };
                Kind::Struct(columns.map(field).collect::<Result<_>>()?)
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Kind::List {
                    items: Box::new(Self::new(list.values())?),
                    offsets: places(list.value_offsets()),
                }
            }
            DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                return Self::new(&cast(array, &DataType::List(Arc::clone(item)))?);
            }
            DataType::Map(..) => {
                let map = array.as_map();
                Kind::Map {
                    keys: Box::new(Self::new(map.keys())?),
                    values: Box::new(Self::new(map.values())?),
                    offsets: places(map.value_offsets()),
                }
            }
            DataType::Null => Kind::Null,
            single => {
                let simple = plain(single);
                if !is_writable(&simple) {
                    return exec_err!("to_json() has no form for {single}");
                }
                let array = cast(array, &simple)?;
                let kind = Kind::Single;
                return Ok(Self { array, kind });
            }
        };
        let array = Arc::clone(array);
        Ok(Self { array, kind })
    }

    fn is_null(&self, row: usize) -> bool {
        matches!(self.kind, Kind::Null) || self.array.is_null(row)
    }

    fn write(&self, row: usize, out: &mut String) {
        if self.is_null(row) {
            out.push_str("null");
            return;
        }
        match &self.kind {
            Kind::Null => {}
            Kind::Single => self.single(row, out),
            Kind::Struct(fields) => {
                out.push('{');
                let mut is_first = true;
                for (key, field) in fields.iter().filter(|(_, one)| !one.is_null(row)) {
                    separate(&mut is_first, out);
                    out.push_str(key);
                    field.write(row, out);
                }
                out.push('}');
            }
            Kind::List { items, offsets } => {
                out.push('[');
                let mut is_first = true;
                for item in offsets[row]..offsets[row + 1] {
                    separate(&mut is_first, out);
                    items.write(item, out);
                }
                out.push(']');
            }
            Kind::Map {
                keys,
                values,
                offsets,
            } => {
                out.push('{');
                let mut is_first = true;
                for entry in offsets[row]..offsets[row + 1] {
                    separate(&mut is_first, out);
                    keys.key(entry, out);
                    out.push(':');
                    values.write(entry, out);
                }
                out.push('}');
            }
        }
    }

    fn single(&self, row: usize, out: &mut String) {
        let array = &self.array;
        match array.data_type() {
            DataType::Boolean => out.push_str(if array.as_boolean().value(row) {
                "true"
            } else {
                "false"
            }),
            DataType::Utf8 => write_text(out, array.as_string::<i32>().value(row)),
            DataType::Float32 => {
                let value = array.as_primitive::<Float32Type>().value(row);
                number(value.is_finite(), &float_text(value), out);
            }
            DataType::Float64 => {
                let value = array.as_primitive::<Float64Type>().value(row);
                number(value.is_finite(), &double_text(value), out);
            }
            DataType::Binary => {
                out.push('"');
                STANDARD.encode_string(array.as_binary::<i32>().value(row), out);
                out.push('"');
            }
            DataType::Timestamp(..) => {
                let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
                write_text(out, &time_text(micros));
            }
            DataType::Date32 => {
                let days = array.as_primitive::<Date32Type>().value(row);
                write_text(out, &clock::date_text(days));
            }
            _ => self.digits(row, out),
        }
    }

    fn digits(&self, row: usize, out: &mut String) {
        let array = &self.array;
        // Writing to a text does not fail.
        _ = match array.data_type() {
            DataType::Int8 => write!(out, "{}", array.as_primitive::<Int8Type>().value(row)),
            DataType::Int16 => write!(out, "{}", array.as_primitive::<Int16Type>().value(row)),
            DataType::Int32 => write!(out, "{}", array.as_primitive::<Int32Type>().value(row)),
            DataType::Int64 => write!(out, "{}", array.as_primitive::<Int64Type>().value(row)),
            DataType::Decimal128(_, scale) => {
                let value = array.as_primitive::<Decimal128Type>().value(row);
                out.write_str(&decimal_text(value, *scale))
            }
            _ => out.write_str("null"),
        };
    }

    /// A key of a map: the value as a text. Spark writes times as it keeps them.
    fn key(&self, row: usize, out: &mut String) {
        let from = out.len();
        let array = &self.array;
        match array.data_type() {
            DataType::Date32 => {
                _ = write!(out, "{}", array.as_primitive::<Date32Type>().value(row));
            }
            DataType::Timestamp(..) => {
                let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
                _ = write!(out, "{micros}");
            }
            _ => self.write(row, out),
        }
        if !out[from..].starts_with('"') {
            out.insert(from, '"');
            out.push('"');
        }
    }
}

fn separate(is_first: &mut bool, out: &mut String) {
    if !std::mem::take(is_first) {
        out.push(',');
    }
}

/// What is no number is a text, as Jackson writes it.
fn number(is_finite: bool, text: &str, out: &mut String) {
    if is_finite {
        out.push_str(text);
    } else {
        write_text(out, text);
    }
}

/// `2026-11-24T10:20:30.123Z`.
fn time_text(micros: i64) -> String {
    let seconds = micros.div_euclid(1_000_000);
    let millis = micros.rem_euclid(1_000_000) / MILLI_MICROS;
    let whole = clock::time_text(seconds * 1_000_000).replacen(' ', "T", 1);
    format!("{whole}.{millis:03}Z")
}
