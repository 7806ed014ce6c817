//! Rows as CSV.
//!
//! Owns: quoting, null beside the empty text, the text of bytes and numbers. Does not own: the
//! reading of CSV.
//! Rule: RFC 4180, and as Spark writes it: null is nothing, the empty text is `""`. In a file of
//! one column null is `""` too: readers pass over an empty line.

use super::TextForm;
use super::json::Float;
use arrow::array::{Array, AsArray, BinaryArray, Float32Array, Float64Array, RecordBatch};
use arrow::csv::WriterBuilder;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::io::Write;
use streamctl_proto::spec::{SinkTypes, TimestampFormat};

/// Writes each row as a line, after a line of names if `header` is set.
///
/// # Errors
/// A type that CSV has no form for, or those of `out`.
pub fn write_rows<W: Write>(
    rows: &RecordBatch,
    form: TextForm,
    header: bool,
    mut out: W,
) -> Result<(), ArrowError> {
    match form.types {
        SinkTypes::Arrow => of_arrow(rows, form, header, out),
        SinkTypes::Hive => out
            .write_all(&of_hive(rows, form, header)?)
            .map_err(ArrowError::from),
    }
}

fn of_arrow<W: Write>(
    rows: &RecordBatch,
    form: TextForm,
    header: bool,
    out: W,
) -> Result<(), ArrowError> {
    let mut builder = WriterBuilder::new().with_header(header);
    if form.timestamps == TimestampFormat::Hive {
        builder = builder
            .with_timestamp_format(TextForm::HIVE_TIMESTAMP.to_owned())
            .with_timestamp_tz_format(TextForm::HIVE_TIMESTAMP.to_owned());
    }
    builder.build(out).write(rows)
}

fn of_hive(rows: &RecordBatch, form: TextForm, header: bool) -> Result<Vec<u8>, ArrowError> {
    let options = match form.timestamps {
        TimestampFormat::Iso => FormatOptions::new(),
        TimestampFormat::Hive => FormatOptions::new()
            .with_timestamp_format(Some(TextForm::HIVE_TIMESTAMP))
            .with_timestamp_tz_format(Some(TextForm::HIVE_TIMESTAMP)),
    };
    let options = options.with_display_error(false);
    let columns = rows
        .columns()
        .iter()
        .map(|column| Column::new(column.as_ref(), &options))
        .collect::<Result<Vec<_>, _>>()?;
    let mut out = Vec::new();
    if header {
        let schema = rows.schema();
        for (at, field) in schema.fields().iter().enumerate() {
            separate(at, &mut out);
            quoted(field.name().as_bytes(), &mut out);
        }
        out.push(b'\n');
    }
    let alone = columns.len() == 1;
    let mut text = Vec::new();
    for row in 0..rows.num_rows() {
        for (at, column) in columns.iter().enumerate() {
            separate(at, &mut out);
            text.clear();
            if column.write(row, &mut text)? || alone {
                quoted(&text, &mut out);
            }
        }
        out.push(b'\n');
    }
    Ok(out)
}

fn separate(at: usize, out: &mut Vec<u8>) {
    if at > 0 {
        out.push(b',');
    }
}

fn quoted(text: &[u8], out: &mut Vec<u8>) {
    let special = |byte: &u8| matches!(byte, b',' | b'"' | b'\n' | b'\r');
    if !text.is_empty() && !text.iter().any(special) {
        return out.extend_from_slice(text);
    }
    out.push(b'"');
    for byte in text {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// One column and how its values become text.
enum Column<'a> {
    Bytes(&'a BinaryArray),
    Single(&'a Float32Array),
    Double(&'a Float64Array),
    Other(&'a dyn Array, ArrayFormatter<'a>),
}

impl<'a> Column<'a> {
    fn new(array: &'a dyn Array, options: &FormatOptions<'a>) -> Result<Self, ArrowError> {
        Ok(match array.data_type() {
            DataType::Binary => Self::Bytes(array.as_binary()),
            DataType::Float32 => Self::Single(array.as_primitive::<Float32Type>()),
            DataType::Float64 => Self::Double(array.as_primitive::<Float64Type>()),
            _ => Self::Other(array, ArrayFormatter::try_new(array, options)?),
        })
    }

    /// Adds the text of a value; false: there is none.
    fn write(&self, row: usize, text: &mut Vec<u8>) -> Result<bool, ArrowError> {
        match self {
            Self::Bytes(array) if array.is_valid(row) => {
                text.extend_from_slice(BASE64.encode(array.value(row)).as_bytes());
            }
            Self::Single(array) if array.is_valid(row) => float(array.value(row), text),
            Self::Double(array) if array.is_valid(row) => float(array.value(row), text),
            Self::Other(array, all) if array.is_valid(row) => {
                text.extend_from_slice(all.value(row).try_to_string()?.as_bytes());
            }
            Self::Bytes(_) | Self::Single(_) | Self::Double(_) | Self::Other(..) => {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn float(value: impl Float, text: &mut Vec<u8>) {
    match value.word() {
        Some(word) => text.extend_from_slice(word.as_bytes()),
        None => value.digits(text),
    }
}
