//! Whether the result of a function has the columns that were fixed at submit, and making it so.
//!
//! Owns: which types stand for each other, and casting. Does not own: what those columns are.
//! Rule: a value is never changed silently: a cast that would lose something fails and names the
//! column.

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use std::sync::Arc;

/// A result does not have the columns of its function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    #[error("the function's result has no column {0:?}")]
    Missing(String),
    #[error("the function's result has a column {0:?}, which was not there at submit")]
    Unexpected(String),
    #[error("the function's result has two columns {0:?}")]
    Twice(String),
    #[error("column {column:?} of the function's result is {found}, not {expected}")]
    Type {
        column: String,
        found: String,
        expected: String,
    },
    #[error(
        "column {column:?} of the function's result has a value that does not fit {expected}: {reason}"
    )]
    Value {
        column: String,
        expected: String,
        reason: String,
    },
    /// Its type is unknown.
    #[error("column {0:?} of the function's result has no type when there are no rows")]
    Untyped(String),
}

impl FitError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            Self::Untyped(column) | Self::Missing(column) => {
                format!("give the columns in [function.schema]: {column} = \"string\"")
            }
            Self::Unexpected(column) => {
                format!(
                    "return the same columns for every window, or add {column} to [function.schema]"
                )
            }
            Self::Twice(_) => "give each column a name of its own".to_owned(),
            Self::Type { column, .. } | Self::Value { column, .. } => {
                format!("convert {column:?} in the function, or give its type in [function.schema]")
            }
        }
    }
}

/// The same columns in the types that results are written in: without large, view and dictionary
/// forms, times in microseconds, without metadata.
pub fn plain(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| plain_field(field))
        .collect();
    Arc::new(Schema::new(fields))
}

fn plain_field(field: &Field) -> Field {
    Field::new(field.name(), plain_type(field.data_type()), true)
}

fn plain_type(kind: &DataType) -> DataType {
    let of = |field: &FieldRef| Arc::new(plain_field(field));
    match kind {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Date64 => DataType::Date32,
        DataType::Dictionary(_, value) => plain_type(value),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => DataType::List(of(item)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(of).collect()),
        other => other.clone(),
    }
}

/// Whether results of these columns become those of `expected`.
///
/// # Errors
/// [`FitError`], the first difference.
pub fn check(found: &Schema, expected: &Schema) -> Result<(), FitError> {
    check_names(found, expected)?;
    for field in expected.fields() {
        let Ok(one) = found.field_with_name(field.name()) else {
            return Err(FitError::Missing(field.name().clone()));
        };
        if !becomes(one.data_type(), field.data_type()) {
            return Err(type_error(field, one.data_type()));
        }
    }
    Ok(())
}

fn type_error(expected: &Field, found: &DataType) -> FitError {
    FitError::Type {
        column: expected.name().clone(),
        found: found.to_string(),
        expected: expected.data_type().to_string(),
    }
}

/// Whether these are the columns of `expected`, by their names alone. Names that differ in case only
/// are one column to Spark and Athena.
///
/// # Errors
/// [`FitError`], the first difference.
pub fn check_names(found: &Schema, expected: &Schema) -> Result<(), FitError> {
    let mut seen = std::collections::BTreeSet::new();
    for field in found.fields() {
        if !seen.insert(field.name().to_lowercase()) {
            return Err(FitError::Twice(field.name().clone()));
        }
        if expected.field_with_name(field.name()).is_err() {
            return Err(FitError::Unexpected(field.name().clone()));
        }
    }
    let is_missing = |field: &&FieldRef| found.field_with_name(field.name()).is_err();
    match expected.fields().iter().find(is_missing) {
        Some(field) => Err(FitError::Missing(field.name().clone())),
        None => Ok(()),
    }
}

/// Every column of a schema that was learned from no rows must have a type.
///
/// # Errors
/// [`FitError::Untyped`], [`FitError::Twice`].
pub fn check_learned(schema: &Schema) -> Result<(), FitError> {
    check(schema, schema)?;
    let untyped = schema
        .fields()
        .iter()
        .find(|field| *field.data_type() == DataType::Null);
    match untyped {
        Some(field) => Err(FitError::Untyped(field.name().clone())),
        None => Ok(()),
    }
}

/// Whether values of one type are values of another, each checked when it is cast.
fn becomes(found: &DataType, expected: &DataType) -> bool {
    use DataType::{Binary, Boolean, Date32, Decimal128, Decimal256, Float32, Float64, Null, Utf8};
    let found = &plain_type(found);
    let is_struct_of = |found: &FieldRef, expected: &FieldRef| {
        found.name() == expected.name() && becomes(found.data_type(), expected.data_type())
    };
    match (found, &plain_type(expected)) {
        (Null, _) => true,
        (a, b) if a == b => true,
        (a, b)
            if a.is_integer()
                && (b.is_integer() || matches!(b, Decimal128(..) | Decimal256(..))) =>
        {
            true
        }
        (a, Float64) if a.is_integer() => true,
        (Float32, Float64) | (Float64, Float32) => true,
        (Float64, Decimal128(..) | Decimal256(..)) => true,
        (Decimal128(..) | Decimal256(..), Decimal128(..) | Decimal256(..)) => true,
        (DataType::Timestamp(_, from), DataType::Timestamp(_, to)) => {
            from.is_some() == to.is_some()
        }
        (Date32, DataType::Timestamp(..)) | (Utf8, Binary) => false,
        (DataType::List(found), DataType::List(expected)) => {
            becomes(found.data_type(), expected.data_type())
        }
        (DataType::Struct(found), DataType::Struct(expected)) => {
            found.len() == expected.len()
                && found.iter().zip(expected).all(|(a, b)| is_struct_of(a, b))
        }
        (Boolean, _) | (_, Boolean) => false,
        _ => false,
    }
}

/// The rows with the columns of `expected`, in its order.
///
/// # Errors
/// [`FitError`]: another column, another type, a value that does not fit.
pub fn cast(batch: &RecordBatch, expected: &SchemaRef) -> Result<RecordBatch, FitError> {
    check_names(&batch.schema(), expected)?;
    let columns = expected.fields().iter().map(|field| {
        let index = batch.schema().index_of(field.name());
        let index = index.map_err(|_| FitError::Missing(field.name().clone()))?;
        column(batch.column(index), field)
    });
    let columns = columns.collect::<Result<Vec<ArrayRef>, FitError>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(expected), columns, &options).map_err(|error| {
        FitError::Value {
            column: String::new(),
            expected: "the columns of submit".to_owned(),
            reason: error.to_string(),
        }
    })
}

fn column(array: &ArrayRef, field: &Field) -> Result<ArrayRef, FitError> {
    let expected = field.data_type();
    if array.data_type() == expected {
        return Ok(Arc::clone(array));
    }
    // The library chose the type of a column of nulls: it has no meaning.
    if array.logical_null_count() == array.len() {
        return Ok(new_null_array(expected, array.len()));
    }
    if !becomes(array.data_type(), expected) {
        return Err(type_error(field, array.data_type()));
    }
    let value = |reason: String| FitError::Value {
        column: field.name().clone(),
        expected: expected.to_string(),
        reason,
    };
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let cast =
        cast_with_options(array, expected, &options).map_err(|error| value(error.to_string()))?;
    if cast.null_count() != array.logical_null_count() {
        return Err(value("a value became null".to_owned()));
    }
    if loses(array.data_type(), expected) {
        let back = cast_with_options(&cast, array.data_type(), &options)
            .map_err(|error| value(error.to_string()))?;
        if back.as_ref() != array.as_ref() {
            return Err(value("it would lose digits".to_owned()));
        }
    }
    Ok(cast)
}

/// Whether arrow's cast between these rounds: it is compared with the value cast back.
fn loses(found: &DataType, expected: &DataType) -> bool {
    use DataType::{Decimal128, Decimal256, Float64, Timestamp};
    let is_finer = |from: &TimeUnit, to: &TimeUnit| {
        let order = |unit: &TimeUnit| match unit {
            TimeUnit::Second => 0,
            TimeUnit::Millisecond => 1,
            TimeUnit::Microsecond => 2,
            TimeUnit::Nanosecond => 3,
        };
        order(from) > order(to)
    };
    match (found, expected) {
        (Decimal128(_, from) | Decimal256(_, from), Decimal128(_, to) | Decimal256(_, to)) => {
            from > to
        }
        // Nanoseconds are what pandas computes with by default: they are cut as Spark cuts them.
        (Timestamp(TimeUnit::Nanosecond, _), Timestamp(..)) => false,
        (Timestamp(from, _), Timestamp(to, _)) => is_finer(from, to),
        (DataType::Date64, DataType::Date32) => true,
        // A whole number beyond 2^53, a fraction that is no decimal.
        (found, Float64) if found.is_integer() => true,
        (Float64, Decimal128(..) | Decimal256(..)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        Decimal128Array, Float64Array, Int32Array, Int64Array, LargeStringArray, NullArray,
        StringArray, TimestampNanosecondArray, UInt64Array,
    };

    fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
        let field = |(name, kind): &(&str, DataType)| Field::new(*name, kind.clone(), true);
        Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>()))
    }

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn columns_are_found_by_name_and_cast_without_loss() {
        let found = batch(vec![
            ("n", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            ("text", Arc::new(LargeStringArray::from(vec!["a", "b"]))),
            ("none", Arc::new(NullArray::new(2))),
            (
                "at",
                Arc::new(TimestampNanosecondArray::from(vec![1_000, 2_500])),
            ),
        ]);
        let expected = schema(&[
            ("text", DataType::Utf8),
            ("n", DataType::Int32),
            ("none", DataType::Utf8),
            ("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ]);
        let cast = cast(&found, &expected).unwrap();
        let n = Int32Array::from(vec![1, 2]);
        assert_eq!(cast.column(1).as_ref(), &n as &dyn Array);
        assert_eq!(cast.column(2).null_count(), 2);
        assert_eq!(cast.schema(), expected);
    }

    #[test]
    fn what_does_not_fit_names_the_column() {
        let expected = schema(&[("n", DataType::Int32)]);
        let of = |name: &str, array: ArrayRef| cast(&batch(vec![(name, array)]), &expected);
        let large = of("n", Arc::new(Int64Array::from(vec![1_i64 << 40]))).unwrap_err();
        assert!(
            matches!(&large, FitError::Value { column, .. } if column == "n"),
            "{large}"
        );
        let text = of("n", Arc::new(StringArray::from(vec!["1"]))).unwrap_err();
        assert!(
            matches!(&text, FitError::Type { column, .. } if column == "n"),
            "{text}"
        );
        let float = of("n", Arc::new(Float64Array::from(vec![1.0]))).unwrap_err();
        assert!(matches!(float, FitError::Type { .. }), "{float}");
        let other = of("m", Arc::new(Int32Array::from(vec![1]))).unwrap_err();
        assert_eq!(other, FitError::Unexpected("m".into()));
        let none = RecordBatch::new_empty(Arc::new(Schema::empty()));
        let none = cast(&none, &expected);
        assert_eq!(none, Err(FitError::Missing("n".into())));
    }

    #[test]
    fn a_cast_that_would_lose_digits_fails() {
        let decimal = |values: Vec<i128>| {
            let array = Decimal128Array::from(values)
                .with_precision_and_scale(10, 3)
                .unwrap();
            batch(vec![("d", Arc::new(array) as ArrayRef)])
        };
        let expected = schema(&[("d", DataType::Decimal128(10, 2))]);
        assert!(cast(&decimal(vec![1_230]), &expected).is_ok());
        assert!(matches!(
            cast(&decimal(vec![1_234]), &expected),
            Err(FitError::Value { .. })
        ));
        let unsigned = batch(vec![(
            "d",
            Arc::new(UInt64Array::from(vec![u64::MAX])) as ArrayRef,
        )]);
        let expected = schema(&[("d", DataType::Int64)]);
        assert!(matches!(
            cast(&unsigned, &expected),
            Err(FitError::Value { .. })
        ));
    }

    #[test]
    fn nulls_have_any_type_and_numbers_become_others_without_loss() {
        let expected = schema(&[
            ("text", DataType::Utf8),
            ("whole", DataType::Float64),
            ("money", DataType::Decimal128(10, 2)),
        ]);
        let rows = |whole: i64, money: f64| {
            batch(vec![
                (
                    "text",
                    Arc::new(Float64Array::from(vec![None::<f64>])) as ArrayRef,
                ),
                ("whole", Arc::new(Int64Array::from(vec![whole]))),
                ("money", Arc::new(Float64Array::from(vec![money]))),
            ])
        };
        assert!(cast(&rows(3, 1.25), &expected).is_ok());
        let lost = [rows((1 << 53) + 1, 1.25), rows(3, 1.234)];
        for rows in lost {
            assert!(matches!(
                cast(&rows, &expected),
                Err(FitError::Value { .. })
            ));
        }
    }

    #[test]
    fn names_that_differ_in_case_only_are_refused() {
        let twice = schema(&[("id", DataType::Int64), ("ID", DataType::Int64)]);
        assert_eq!(check_learned(&twice), Err(FitError::Twice("ID".into())));
    }

    #[test]
    fn a_learned_schema_has_a_type_for_every_column() {
        let untyped = schema(&[("a", DataType::Int64), ("b", DataType::Null)]);
        let error = check_learned(&untyped).unwrap_err();
        assert_eq!(error, FitError::Untyped("b".into()));
        assert!(error.hint().contains("b = \"string\""));
        let twice = schema(&[("a", DataType::Int64), ("a", DataType::Int64)]);
        assert_eq!(check_learned(&twice), Err(FitError::Twice("a".into())));
    }

    #[test]
    fn learned_types_are_those_that_are_written() {
        let item = Arc::new(Field::new("item", DataType::LargeUtf8, false));
        let found = schema(&[
            ("a", DataType::LargeList(item)),
            (
                "b",
                DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            ),
            (
                "c",
                DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8View)),
            ),
        ]);
        let plain = plain(&found);
        assert_eq!(plain.field(0).data_type().to_string(), "List(Utf8)");
        let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        assert_eq!(*plain.field(1).data_type(), micros);
        assert_eq!(*plain.field(2).data_type(), DataType::Utf8);
    }
}
