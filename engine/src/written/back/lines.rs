//! Lines of JSON and rows of CSV, as columns in their written types.
//!
//! Owns: the inverse of the texts of [`crate::written`]. Does not own: where lines end.
//! Rule: at most [`LINES_BYTES_MAX`] and one line wait for their batch.

use super::{Back, EXACT};
use arrow::array::{ArrayRef, AsArray, BinaryBuilder, RecordBatch, StringBuilder};
use arrow::compute::cast_with_options;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::Decoder;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::sync::Arc;

/// Most lines of one batch.
pub const LINES_MAX: usize = 8_192;
/// A batch is full at this size of its lines.
pub const LINES_BYTES_MAX: usize = 4 << 20;

/// Collects lines into batches of a file's columns.
pub struct JsonLines {
    schema: SchemaRef,
    decoder: Decoder,
    lines: usize,
    bytes: usize,
}

impl JsonLines {
    /// # Errors
    /// A type that JSON has no form for.
    pub fn new(back: &Back) -> Result<Self, ArrowError> {
        let schema = Arc::new(back.file_schema());
        let decoder = ReaderBuilder::new(Arc::new(with_text(&schema)))
            .with_batch_size(LINES_MAX)
            .build_decoder()?;
        Ok(Self {
            schema,
            decoder,
            lines: 0,
            bytes: 0,
        })
    }

    /// Adds a line; returns a batch if it is full.
    ///
    /// # Errors
    /// It is not a row of these columns.
    pub fn add(&mut self, line: &[u8]) -> Result<Option<RecordBatch>, ArrowError> {
        let mut taken = self.decoder.decode(line)?;
        if taken == line.len() {
            taken += self.decoder.decode(b"\n")?;
        }
        if taken != line.len() + 1 {
            return Err(ArrowError::JsonError("a line holds more than a row".into()));
        }
        self.lines += 1;
        self.bytes += line.len();
        match self.lines == LINES_MAX || self.bytes >= LINES_BYTES_MAX {
            true => self.flush(),
            false => Ok(None),
        }
    }

    /// The lines that wait.
    ///
    /// # Errors
    /// They are not rows of these columns.
    pub fn flush(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let lines = std::mem::take(&mut self.lines);
        self.bytes = 0;
        let Some(rows) = self.decoder.flush()? else {
            return match lines {
                0 => Ok(None),
                _ => Err(ArrowError::JsonError("a line is not a row".into())),
            };
        };
        if rows.num_rows() != lines {
            return Err(ArrowError::JsonError("a line is not one row".into()));
        }
        let columns = rows.columns().iter().zip(self.schema.fields());
        let columns = columns
            .map(|(column, field)| match field.data_type() {
                DataType::Binary => of_base64(column),
                _ => Ok(Arc::clone(column)),
            })
            .collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map(Some)
    }
}

/// Bytes are text in the file.
fn with_text(schema: &Schema) -> Schema {
    let field = |field: &Arc<Field>| match field.data_type() {
        DataType::Binary => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)),
        _ => Arc::clone(field),
    };
    Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>())
}

fn of_base64(texts: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let mut bytes = BinaryBuilder::new();
    for text in texts.as_string::<i32>() {
        match text {
            None => bytes.append_null(),
            Some(text) => bytes.append_value(
                BASE64
                    .decode(text)
                    .map_err(|error| ArrowError::ParseError(error.to_string()))?,
            ),
        }
    }
    Ok(Arc::new(bytes.finish()))
}

/// Collects rows of CSV into batches of a file's columns.
pub struct CsvRows {
    schema: SchemaRef,
    texts: Vec<StringBuilder>,
    rows: usize,
    bytes: usize,
}

impl CsvRows {
    pub fn new(back: &Back) -> Self {
        let schema = Arc::new(back.file_schema());
        Self {
            texts: schema
                .fields()
                .iter()
                .map(|_| StringBuilder::new())
                .collect(),
            schema,
            rows: 0,
            bytes: 0,
        }
    }

    /// Whether this is the line of names.
    ///
    /// # Errors
    /// It is not CSV.
    pub fn is_header(&self, line: &[u8]) -> Result<bool, ArrowError> {
        let names = fields(line)?;
        let expected = self
            .schema
            .fields()
            .iter()
            .map(|field| field.name().as_str());
        Ok(names.iter().map(|name| name.text.as_str()).eq(expected))
    }

    /// Adds a row; returns a batch if it is full.
    ///
    /// # Errors
    /// It is not a row of these columns.
    pub fn add(&mut self, line: &[u8]) -> Result<Option<RecordBatch>, ArrowError> {
        let values = fields(line)?;
        if values.len() != self.texts.len() {
            let (found, columns) = (values.len(), self.texts.len());
            return Err(ArrowError::CsvError(format!(
                "a row has {found} values, the file has {columns} columns"
            )));
        }
        for ((value, texts), field) in values
            .into_iter()
            .zip(&mut self.texts)
            .zip(self.schema.fields())
        {
            // Of other types, `""` is null: it is what a row of nothing but a null is written as.
            let empty = value.text.is_empty();
            let is_null = empty && (!value.quoted || !super::is_text(field.data_type()));
            texts.append_option((!is_null).then_some(value.text));
        }
        self.rows += 1;
        self.bytes += line.len();
        match self.rows == LINES_MAX || self.bytes >= LINES_BYTES_MAX {
            true => self.flush(),
            false => Ok(None),
        }
    }

    /// The rows that wait.
    ///
    /// # Errors
    /// A text is no value of its column.
    pub fn flush(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        self.bytes = 0;
        if std::mem::take(&mut self.rows) == 0 {
            return Ok(None);
        }
        let columns = self.texts.iter_mut().zip(self.schema.fields());
        let columns = columns
            .map(|(texts, field)| {
                let texts: ArrayRef = Arc::new(texts.finish());
                match field.data_type() {
                    DataType::Binary => of_base64(&texts),
                    other => cast_with_options(&texts, other, &EXACT),
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map(Some)
    }
}

/// A value of a row of CSV.
#[derive(Debug, Default, PartialEq, Eq)]
struct Value {
    text: String,
    quoted: bool,
}

/// The values of a row, as RFC 4180 has them.
fn fields(line: &[u8]) -> Result<Vec<Value>, ArrowError> {
    let wrong = |what: &str| ArrowError::CsvError(format!("a row is not CSV: {what}"));
    let line = std::str::from_utf8(line).map_err(|_| wrong("it is not UTF-8"))?;
    let mut values = vec![];
    let mut value = Value::default();
    let mut characters = line.chars().peekable();
    loop {
        let inside = value.quoted;
        match characters.next() {
            None if inside => return Err(wrong("a quote is not closed")),
            Some('"') if inside && characters.next_if_eq(&'"').is_some() => value.text.push('"'),
            Some('"') if inside => {
                values.push(std::mem::take(&mut value));
                match characters.next() {
                    None => return Ok(values),
                    Some(',') => {}
                    Some(_) => return Err(wrong("a text follows a quoted one")),
                }
            }
            Some(character) if inside => value.text.push(character),
            None => {
                values.push(value);
                return Ok(values);
            }
            Some(',') => values.push(std::mem::take(&mut value)),
            Some('"') if value.text.is_empty() => value.quoted = true,
            Some('"') => return Err(wrong("a quote is inside a text")),
            Some(character) => value.text.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Vec<(String, bool)>> {
        let values = fields(line.as_bytes()).ok()?;
        Some(
            values
                .into_iter()
                .map(|value| (value.text, value.quoted))
                .collect(),
        )
    }

    #[test]
    fn null_and_the_empty_text_are_told_apart_and_quotes_are_read() {
        let values = |all: &[(&str, bool)]| {
            Some(
                all.iter()
                    .map(|(text, quoted)| ((*text).to_owned(), *quoted))
                    .collect(),
            )
        };
        assert_eq!(
            read("a,,\"\""),
            values(&[("a", false), ("", false), ("", true)])
        );
        assert_eq!(read("\"\","), values(&[("", true), ("", false)]));
        assert_eq!(
            read("\"a,\"\"b\"\"\nc\",ü"),
            values(&[("a,\"b\"\nc", true), ("ü", false)])
        );
        for wrong in ["\"a", "\"a\"b", "a\"b\""] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
