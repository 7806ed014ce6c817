//! A lookup's rows in the columns that its job was planned with.
//!
//! Owns: which columns and types of a version are good enough. Does not own: what follows if they
//! are not (`lookup::accept`).
//! Rule: a value keeps its value, or the version does not fit. A column that the query does not
//! read may be anything.

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Longest part of a value in a message, in characters.
const VALUE_CHARS_MAX: usize = 60;

/// What a query was planned with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    pub columns: SchemaRef,
    /// The columns of these that the query reads.
    pub read: BTreeSet<String>,
}

/// Why rows do not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The query reads a column that is not there.
    #[error("it has no column {column:?}, which the query reads; its columns are: {}", found.join(", "))]
    NoColumn { column: String, found: Vec<String> },
    /// A column has another type, and this value is none of the planned type.
    #[error("column {column:?} was {was} and is {is} now, and {value} is no {was} without loss")]
    OtherType {
        column: String,
        was: DataType,
        is: DataType,
        value: String,
    },
    /// The rows cannot be put together.
    #[error("its columns cannot be used: {0}")]
    Rows(String),
}

/// The planned columns of these rows, in the planned order. Further columns are passed over; an
/// unread one that is absent or of another type is null.
///
/// # Errors
/// [`Misfit`]; the same rows never fit.
pub fn fit(rows: &RecordBatch, needs: &Needs) -> Result<RecordBatch, Misfit> {
    let mut columns = Vec::with_capacity(needs.columns.fields().len());
    for field in needs.columns.fields() {
        let is_read = needs.read.contains(field.name());
        let nothing = || new_null_array(field.data_type(), rows.num_rows());
        let column = match rows.column_by_name(field.name()) {
            Some(column) => match lossless(column, field.data_type()) {
                Ok(column) => column,
                Err(_) if !is_read => nothing(),
                Err(lost) => {
                    return Err(Misfit::OtherType {
                        column: field.name().clone(),
                        was: field.data_type().clone(),
                        is: column.data_type().clone(),
                        value: lost.0,
                    });
                }
            },
            None if !is_read => nothing(),
            None => {
                return Err(Misfit::NoColumn {
                    column: field.name().clone(),
                    found: rows
                        .schema()
                        .fields()
                        .iter()
                        .map(|field| field.name().clone())
                        .collect(),
                });
            }
        };
        columns.push(column);
    }
    let count = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(&needs.columns), columns, &count)
        .map_err(|error| Misfit::Rows(error.to_string()))
}

/// A value that has no place in the other type, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost(pub String);

/// The column in another type, if each value keeps its value: it comes back from there as it was. A
/// text keeps it if it can be read as the type.
///
/// # Errors
/// [`Lost`] with the first value that does not.
pub fn lossless(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, Lost> {
    if column.data_type() == to {
        return Ok(Arc::clone(column));
    }
    let cannot = |error: ArrowError| Lost(format!("one of its values ({error})"));
    let converted = cast(column, to).map_err(cannot)?;
    let missing = |row: usize| converted.is_null(row) && !column.is_null(row);
    if converted.logical_null_count() != column.logical_null_count() {
        let row = (0..column.len()).find(|row| missing(*row)).unwrap_or(0);
        return Err(Lost(shown(column, row)));
    }
    if is_text(column.data_type()) || column.data_type() == &DataType::Null {
        return Ok(converted);
    }
    let back = cast(&converted, column.data_type()).map_err(cannot)?;
    if back.to_data() == column.to_data() {
        return Ok(converted);
    }
    let differs = |row: &usize| back.slice(*row, 1).to_data() != column.slice(*row, 1).to_data();
    match (0..column.len()).find(differs) {
        Some(row) => Err(Lost(shown(column, row))),
        None => Ok(converted),
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    )
}

fn shown(column: &ArrayRef, row: usize) -> String {
    let text = ArrayFormatter::try_new(column.as_ref(), &FormatOptions::default()).map_or_else(
        |_| "one of its values".to_owned(),
        |all| all.value(row).to_string(),
    );
    format!(
        "{:?}",
        text.chars().take(VALUE_CHARS_MAX).collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int32Array, Int64Array, StringArray};
    use arrow::datatypes::{Field, Schema};

    fn rows(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(
            columns
                .into_iter()
                .map(|(name, column)| (name, column, true)),
        )
        .unwrap()
    }

    fn needs(columns: &[(&str, DataType)], read: &[&str]) -> Needs {
        let fields: Vec<_> = columns
            .iter()
            .map(|(name, kind)| Field::new(*name, kind.clone(), true))
            .collect();
        Needs {
            columns: Arc::new(Schema::new(fields)),
            read: read.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn texts(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn p43_columns_are_found_by_name_and_what_is_not_read_may_be_missing() {
        let planned = needs(
            &[
                ("a", DataType::Utf8),
                ("b", DataType::Int64),
                ("c", DataType::Utf8),
            ],
            &["b", "c"],
        );
        let version = rows(vec![
            ("new", texts(&["x"])),
            ("c", texts(&["y"])),
            ("b", Arc::new(Int32Array::from(vec![7]))),
        ]);
        let fitted = fit(&version, &planned).unwrap();
        assert_eq!(fitted.schema(), planned.columns);
        assert_eq!(fitted.column(0).null_count(), 1, "not read, not there");
        assert_eq!(fitted.column(1).as_ref(), &Int64Array::from(vec![7]));
    }

    #[test]
    fn p43_a_column_that_the_query_reads_and_is_gone_is_named_with_those_there_are() {
        let planned = needs(&[("id", DataType::Utf8), ("name", DataType::Utf8)], &["id"]);
        let semicolons = rows(vec![("id;name", texts(&["1;one"]))]);
        assert_eq!(
            fit(&semicolons, &planned).unwrap_err().to_string(),
            "it has no column \"id\", which the query reads; its columns are: id;name"
        );
    }

    #[test]
    fn p43_a_type_is_cast_to_the_old_one_only_where_that_loses_nothing() {
        let long = DataType::Int64;
        let cases: Vec<(ArrayRef, DataType, Option<&str>)> = vec![
            (
                Arc::new(Int32Array::from(vec![Some(1), None])),
                long.clone(),
                None,
            ),
            (Arc::new(Float64Array::from(vec![2.0])), long.clone(), None),
            (
                Arc::new(Float64Array::from(vec![2.5])),
                long.clone(),
                Some("2.5"),
            ),
            (
                Arc::new(Float64Array::from(vec![f64::NAN])),
                long.clone(),
                Some("NaN"),
            ),
            (texts(&["12", "007"]), long.clone(), None),
            (texts(&["12", "n/a"]), long.clone(), Some("n/a")),
            (
                Arc::new(Int64Array::from(vec![1 << 40])),
                DataType::Int32,
                Some("1099511627776"),
            ),
            (
                Arc::new(Int64Array::from(vec![(1 << 53) + 1])),
                DataType::Float64,
                Some("9007199254740993"),
            ),
            (Arc::new(Int64Array::from(vec![5])), DataType::Utf8, None),
        ];
        for (column, to, lost) in cases {
            let fitted = lossless(&column, &to);
            match lost {
                None => assert_eq!(fitted.unwrap().data_type(), &to),
                Some(value) => assert_eq!(fitted.unwrap_err(), Lost(format!("{value:?}"))),
            }
        }
    }

    #[test]
    fn an_unread_column_of_another_type_is_null_and_does_not_refuse_a_version() {
        let planned = needs(&[("a", DataType::Int64), ("b", DataType::Utf8)], &["b"]);
        let version = rows(vec![("a", texts(&["x"])), ("b", texts(&["y"]))]);
        assert_eq!(fit(&version, &planned).unwrap().column(0).null_count(), 1);
    }
}
