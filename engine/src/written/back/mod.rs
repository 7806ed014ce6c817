//! Written rows, back in the types of the query's result.
//!
//! Owns: which written forms give each value back exactly, folders' values as columns
//! ([`Back::folder_value`]), lines of text as rows ([`lines`]). Does not own: objects and their
//! bytes (the worker's sink).
//! Rule: a row that is read back equals the row that was written, in every column and type; where a
//! form cannot give that, it is refused before a byte is read.

pub mod lines;

use super::{Form, TextForm};
use arrow::array::new_null_array;
use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::FormatOptions;
use std::sync::Arc;
use streamctl_proto::names::NO_VALUE;
use streamctl_proto::spec::{SinkFormat, SinkTypes};

/// A value that cannot be had becomes an error, never a null.
const EXACT: CastOptions<'static> = CastOptions {
    safe: false,
    format_options: FormatOptions::new(),
};

/// A column whose values the written form does not give back exactly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column:?} has the type {data_type}, and {reason}")]
pub struct NotExact {
    pub column: String,
    pub data_type: DataType,
    pub reason: &'static str,
}

/// Reads rows of one job back.
#[derive(Clone, Debug)]
pub struct Back {
    result: SchemaRef,
    written: SchemaRef,
    /// The columns of the result that are in the files, in their order.
    kept: Vec<usize>,
    format: SinkFormat,
    text: TextForm,
}

impl Back {
    /// For rows that were written in this form. `folders`: the columns of the result that are in the
    /// names of folders only.
    ///
    /// # Errors
    /// A column whose values the form does not give back.
    pub fn new(
        form: &Form,
        format: SinkFormat,
        text: TextForm,
        folders: &[usize],
    ) -> Result<Self, NotExact> {
        let back = Self {
            result: Arc::clone(&form.result),
            written: Arc::clone(&form.schema),
            kept: (0..form.schema.fields().len())
                .filter(|column| !folders.contains(column))
                .collect(),
            format,
            text,
        };
        for column in 0..back.result.fields().len() {
            let exact = match folders.contains(&column) {
                true => folder_is_exact(back.result_type(column), back.written_type(column)),
                false => back.file_is_exact(column),
            };
            exact.map_err(|reason| back.not_exact(column, reason))?;
        }
        Ok(back)
    }

    pub fn format(&self) -> SinkFormat {
        self.format
    }

    /// The columns of the files, in their written types.
    pub fn file_schema(&self) -> Schema {
        let fields = self.kept.iter().map(|column| self.written.field(*column));
        Schema::new(fields.cloned().collect::<Vec<_>>())
    }

    /// The value of a column that is in the name of a folder, as one row in the result's type.
    ///
    /// # Errors
    /// The folder's name does not give it back.
    pub fn folder_value(&self, column: usize, text: &str) -> Result<ArrayRef, NotExact> {
        let to = self.result_type(column);
        if text == NO_VALUE {
            return match is_text(self.written_type(column)) {
                true => {
                    Err(self.not_exact(column, "its folder is that of null and of empty texts"))
                }
                false => Ok(new_null_array(to, 1)),
            };
        }
        let text: ArrayRef = Arc::new(StringArray::from(vec![text]));
        let value = cast_with_options(&text, self.written_type(column), &EXACT);
        value
            .and_then(|value| restored(&value, to))
            .map_err(|_| self.not_exact(column, "the name of its folder is no value of it"))
    }

    /// Rows of a file with the values of its folder: each a column of the result and one row.
    ///
    /// # Errors
    /// The file has other columns.
    pub fn rows(
        &self,
        file: &RecordBatch,
        folders: &[(usize, ArrayRef)],
    ) -> Result<RecordBatch, ArrowError> {
        self.check_columns(file)?;
        let count = file.num_rows();
        let mut in_file = file.columns().iter();
        let mut columns = Vec::with_capacity(self.result.fields().len());
        for column in 0..self.result.fields().len() {
            let value = folders.iter().find(|(of, _)| *of == column);
            columns.push(match (value, in_file.len()) {
                (Some((_, value)), _) => take(value, &UInt32Array::from(vec![0; count]), None)?,
                (None, _) => {
                    let values = in_file.next().ok_or_else(|| other_columns(file))?;
                    restored(values, self.result_type(column))?
                }
            });
        }
        let count = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(Arc::clone(&self.result), columns, &count)
    }

    fn check_columns(&self, file: &RecordBatch) -> Result<(), ArrowError> {
        let schema = file.schema();
        let same = schema.fields().len() == self.kept.len()
            && self
                .kept
                .iter()
                .zip(schema.fields())
                .all(|(column, field)| {
                    let written = self.written.field(*column);
                    written.name() == field.name()
                        && written.data_type().equals_datatype(field.data_type())
                });
        match same {
            true => Ok(()),
            false => Err(other_columns(file)),
        }
    }

    fn result_type(&self, column: usize) -> &DataType {
        self.result.field(column).data_type()
    }

    fn written_type(&self, column: usize) -> &DataType {
        self.written.field(column).data_type()
    }

    fn not_exact(&self, column: usize, reason: &'static str) -> NotExact {
        let field = self.result.field(column);
        NotExact {
            column: field.name().clone(),
            data_type: field.data_type().clone(),
            reason,
        }
    }

    fn file_is_exact(&self, column: usize) -> Result<(), &'static str> {
        let written = self.written.field(column);
        if self.format != SinkFormat::Parquet {
            if self.text.types == SinkTypes::Arrow {
                return Err("its text, of types = \"arrow\", does not tell all values apart");
            }
            let alone = self.format == SinkFormat::Csv && self.kept.len() == 1;
            if alone && written.is_nullable() && is_text(written.data_type()) {
                return Err("in a CSV file of one column null and the empty text are the same");
            }
            text_is_exact(written.data_type(), true)?;
        }
        is_exact(self.result_type(column), written.data_type())
    }
}

fn other_columns(file: &RecordBatch) -> ArrowError {
    let columns: Vec<String> = file
        .schema()
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect();
    ArrowError::SchemaError(format!("its columns are {}", columns.join(", ")))
}

fn restored(values: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    match values.data_type() == to {
        true => Ok(Arc::clone(values)),
        false => cast_with_options(values, to, &EXACT),
    }
}

/// Binary values are text in JSON and CSV; as texts they have an empty value that is not null.
fn is_text(data_type: &DataType) -> bool {
    use DataType::*;
    matches!(
        data_type,
        Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView | FixedSizeBinary(_)
    )
}

/// Whether the written type gives each value of the result back.
fn is_exact(result: &DataType, written: &DataType) -> Result<(), &'static str> {
    use DataType::*;
    if result == written {
        return Ok(());
    }
    match (result, written) {
        (Dictionary(_, value), _) => is_exact(value, written),
        (Timestamp(TimeUnit::Nanosecond, _), Timestamp(TimeUnit::Microsecond, _))
        | (Time64(TimeUnit::Nanosecond), Time64(TimeUnit::Microsecond)) => {
            Err("files keep its microseconds, not its nanoseconds")
        }
        (Date64, Date32) => Err("files keep its day, not its time"),
        (Duration(TimeUnit::Microsecond), Int64) => Ok(()),
        (Duration(_), _) => Err("files keep its length in microseconds"),
        (ListView(_) | LargeListView(_) | FixedSizeList(..) | RunEndEncoded(..), _) => {
            Err("files keep its values, not its layout")
        }
        (List(result) | LargeList(result), List(written)) | (Map(result, _), Map(written, _)) => {
            is_exact(result.data_type(), written.data_type())
        }
        (Struct(result), Struct(written)) => result
            .iter()
            .zip(written)
            .try_for_each(|(result, written)| is_exact(result.data_type(), written.data_type())),
        _ => Ok(()),
    }
}

/// Whether JSON or CSV in Hive's types give each value of this written type back.
fn text_is_exact(written: &DataType, top: bool) -> Result<(), &'static str> {
    use DataType::*;
    match written {
        Boolean
        | Int8
        | Int16
        | Int32
        | Int64
        | Float32
        | Float64
        | Date32
        | Utf8
        | Decimal128(..)
        | Timestamp(TimeUnit::Microsecond, _) => Ok(()),
        Binary if top => Ok(()),
        List(item) => text_is_exact(item.data_type(), false),
        Struct(fields) => fields
            .iter()
            .try_for_each(|field| text_is_exact(field.data_type(), false)),
        Map(entries, _) => text_is_exact(entries.data_type(), false),
        _ => Err("its text is not read back"),
    }
}

/// Whether the name of a folder gives each value back that is not null; see
/// [`Back::folder_value`].
fn folder_is_exact(result: &DataType, written: &DataType) -> Result<(), &'static str> {
    use DataType::*;
    match written {
        Boolean | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float32
        | Float64 | Date32 | Utf8 | LargeUtf8 | Utf8View | Decimal128(..) | Timestamp(..) => {
            is_exact(result, written)
        }
        _ => Err("the name of a folder does not give it back"),
    }
}

#[cfg(test)]
mod tests;
