//! A CSV file of a lookup.
//!
//! Rule: the first line is the header, every column is text until the job gives it a type, names
//! keep their case. An empty field is null, as Spark reads it, and so is the job's `null_text`;
//! `NA`, `null` and the like are text otherwise. A byte-order mark is skipped, a `.gz` file is
//! unpacked.

use super::room::{Room, RowsError};
use super::text;
use crate::catalog;
use crate::query::COLUMNS_MAX;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::sync::Arc;
use streamctl_proto::resolved::NestedColumns;
use streamctl_proto::spec::LookupSpec;

/// Rows that are looked at to see how a file is quoted.
const QUOTES_ROWS_MAX: usize = 100;

/// The rows of a file; `None`: it has not even a header.
pub(super) fn read(
    spec: &LookupSpec,
    file: &str,
    bytes: &Bytes,
    room: &mut Room<'_>,
) -> Result<Option<RecordBatch>, RowsError> {
    let unpacked;
    let bytes: &[u8] = if file.ends_with(".gz") {
        unpacked = unpack(file, bytes, room)?;
        &unpacked
    } else {
        bytes
    };
    room.take(bytes.len() as u64)?;
    let text =
        text::decoded(bytes, spec.csv.encoding).map_err(|reason| room.bad_file(file, reason))?;
    let lines = File { spec, file };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(ascii(spec.csv.delimiter))
        .quote(ascii(spec.csv.quote))
        .from_reader(text.as_ref());
    let mut record = csv::ByteRecord::new();
    if !reader
        .read_byte_record(&mut record)
        .map_err(|error| lines.broken(1, &error.to_string()))?
    {
        return Ok(None);
    }
    let schema = lines.header(&record)?;
    let mut columns: Vec<StringBuilder> = schema
        .fields()
        .iter()
        .map(|_| StringBuilder::new())
        .collect();
    let mut numbers = vec![];
    while reader
        .read_byte_record(&mut record)
        .map_err(|error| lines.broken(0, &error.to_string()))?
    {
        lines.line(&record, &mut columns)?;
        // Only typed columns name the line of a value later.
        if !spec.schema.is_empty() {
            numbers.push(record.position().map_or(0, csv::Position::line));
        }
    }
    let columns: Vec<ArrayRef> = columns
        .iter_mut()
        .map(|column| Arc::new(column.finish()) as ArrayRef)
        .collect();
    let rows = RecordBatch::try_new(schema, columns);
    let rows = rows.map_err(|error| room.bad_file(file, error))?;
    lines.check_types(&rows, &numbers)?;
    Ok(Some(rows))
}

/// The job file allows ASCII only.
fn ascii(character: char) -> u8 {
    u8::try_from(character).unwrap_or(b',')
}

fn unpack(file: &str, bytes: &Bytes, room: &Room<'_>) -> Result<Vec<u8>, RowsError> {
    let mut text = Vec::new();
    let packed = flate2::read::MultiGzDecoder::new(bytes.as_ref());
    packed
        .take(room.unpacked_max())
        .read_to_end(&mut text)
        .map_err(|error| room.bad_file(file, error))?;
    Ok(text)
}

/// A file while it is read.
struct File<'a> {
    spec: &'a LookupSpec,
    file: &'a str,
}

impl File<'_> {
    fn header(&self, record: &csv::ByteRecord) -> Result<SchemaRef, RowsError> {
        let bad = |reason: String| RowsError::Header {
            lookup: self.spec.name.clone(),
            file: self.file.into(),
            reason,
        };
        if record.len() > COLUMNS_MAX {
            return Err(bad(format!(
                "it has {} columns, the limit is {COLUMNS_MAX}",
                record.len()
            )));
        }
        let mut fields: Vec<Field> = Vec::with_capacity(record.len());
        let mut names = HashSet::with_capacity(record.len());
        for (at, name) in record.iter().enumerate() {
            let name = std::str::from_utf8(name)
                .map_err(|_| bad(format!("the name of column {} is not UTF-8", at + 1)))?;
            if name.is_empty() {
                return Err(bad(format!(
                    "column {} has no name; the first line must be the header",
                    at + 1
                )));
            }
            if !names.insert(name) {
                return Err(bad(format!("two columns are named {name:?}")));
            }
            fields.push(Field::new(name, DataType::Utf8, true));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    fn line(
        &self,
        record: &csv::ByteRecord,
        columns: &mut [StringBuilder],
    ) -> Result<(), RowsError> {
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != columns.len() {
            let reason = format!("{} fields, the header has {}", record.len(), columns.len());
            return Err(self.broken(line, &reason));
        }
        let null_text = self.spec.csv.null_text.as_str();
        for (at, (field, column)) in record.iter().zip(columns).enumerate() {
            let not_text = |_| self.broken(line, &format!("field {} is not UTF-8", at + 1));
            let field = std::str::from_utf8(field).map_err(not_text)?;
            let is_null = field.is_empty() || field == null_text;
            column.append_option((!is_null).then_some(field));
        }
        Ok(())
    }

    /// Names the line of the first value that has not the type that the job gives its column.
    fn check_types(&self, rows: &RecordBatch, lines: &[u64]) -> Result<(), RowsError> {
        let Ok(wanted) = wanted_types(self.spec) else {
            // Reported for the lookup as a whole.
            return Ok(());
        };
        for column in &self.spec.schema {
            let Some((values, data_type)) = rows
                .column_by_name(&column.name)
                .zip(wanted.get(&column.name))
            else {
                continue;
            };
            let typed =
                cast(values, data_type).map_err(|error| self.broken(0, &error.to_string()))?;
            let bad = |row: &usize| values.is_valid(*row) && typed.is_null(*row);
            if let Some(row) = (0..values.len()).find(bad) {
                let value = values.as_string::<i32>().value(row);
                let reason = format!(
                    "{value:.60?} in column {:?} is no {}",
                    column.name, column.type_name
                );
                return Err(self.broken(lines.get(row).copied().unwrap_or(0), &reason));
            }
        }
        Ok(())
    }

    fn broken(&self, line: u64, reason: &str) -> RowsError {
        RowsError::Line {
            lookup: self.spec.name.clone(),
            file: self.file.into(),
            line,
            reason: reason.into(),
        }
    }
}

/// The Arrow types of `[lookup.schema]`, by the names that it writes.
pub(super) fn wanted_types(spec: &LookupSpec) -> Result<BTreeMap<String, DataType>, String> {
    let schema = catalog::arrow_schema(&spec.schema, NestedColumns::Text)
        .map_err(|error| error.to_string())?;
    let types = spec.schema.iter().zip(schema.fields());
    Ok(types
        .map(|(column, field)| (column.name.clone(), field.data_type().clone()))
        .collect())
}

/// The only column's name, if it holds a character that other programs put between fields.
pub(super) fn other_delimiter(names: &[String]) -> Option<(String, String)> {
    let [name] = names else {
        return None;
    };
    let found = [';', '\t', '|'].into_iter().find(|c| name.contains(*c))?;
    Some((name.clone(), found.to_string()))
}

/// A column whose values all begin and end with a single quote.
pub(super) fn in_single_quotes(rows: &RecordBatch) -> Option<String> {
    let quoted = |column: &StringArray| {
        let mut values = column.iter().flatten().take(QUOTES_ROWS_MAX).peekable();
        let any = values.peek().is_some();
        any && values.all(|text| text.len() > 1 && text.starts_with('\'') && text.ends_with('\''))
    };
    let schema = rows.schema();
    let mut columns = schema.fields().iter().zip(rows.columns());
    columns
        .find(|(_, column)| column.as_string_opt::<i32>().is_some_and(quoted))
        .map(|(field, _)| field.name().clone())
}
