//! What functions that take an expression have in common.
//!
//! Rule: a value that is the same for all elements is charged before it is copied.

use crate::query::bounded;
use crate::query::spark::call::Refusal;
use crate::query::spark::types::{self, plain};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;
use std::sync::Arc;

pub(super) fn refused(name: &str, what: &str, hint: &str) -> DataFusionError {
    let message = format!("{name}() {what} in dialect \"spark\"");
    Refusal::new(message, hint).into()
}

/// Checks that a function gives a truth value.
pub(super) fn is_test(name: &str, body: &DataType, example: &str) -> Result<()> {
    if matches!(body, DataType::Boolean | DataType::Null) {
        return Ok(());
    }
    let what = format!("takes a test, and this is {}", types::name(body));
    let hint = format!("write a comparison: {example}");
    Err(refused(name, &what, &hint))
}

/// The field of a parameter or a result of this type.
pub(super) fn field_of(name: &str, data_type: &DataType) -> FieldRef {
    Arc::new(Field::new(name, plain(data_type), true))
}

/// What an expression gave for so many elements, as a column.
pub(super) fn evaluated(name: &str, given: ColumnarValue, count: usize) -> Result<ArrayRef> {
    match given {
        ColumnarValue::Array(array) => Ok(array),
        ColumnarValue::Scalar(value) => {
            let one = value.to_array()?;
            bounded::charge_copies(name, &[one], |_| count as u64)?;
            value.to_array_of_size(count)
        }
    }
}

pub(super) fn tests(given: &ArrayRef) -> Result<BooleanArray> {
    Ok(arrow::compute::cast(given, &DataType::Boolean)?
        .as_boolean()
        .clone())
}

/// NULL chooses nothing.
pub(super) fn chosen(tests: &BooleanArray) -> BooleanArray {
    if tests.null_count() == 0 {
        tests.clone()
    } else {
        prep_null_mask_filter(tests)
    }
}
