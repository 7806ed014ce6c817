//! The columns of a key, for functions that are called per key.
//!
//! Owns: which columns can be keys. Does not own: grouping (the runner).
//! Rule: equal values are one key, and keys have one order on every machine.

use super::LearnError;
use arrow::datatypes::{DataType, SchemaRef};
use streamctl_proto::spec::FunctionSpec;

/// Checks the columns that `by` names.
///
/// # Errors
/// A column is not there, or its values cannot be keys.
pub(super) fn check(function: &FunctionSpec, input: &SchemaRef) -> Result<(), LearnError> {
    for name in function.per.key_columns() {
        let Some((_, field)) = input.column_with_name(name) else {
            let names: Vec<&str> = input
                .fields()
                .iter()
                .map(|field| field.name().as_str())
                .collect();
            return Err(problem(
                format!("by: the rows have no column {name:?}"),
                format!("the columns are: {}", names.join(", ")),
            ));
        };
        if !is_key(field.data_type()) {
            return Err(problem(
                format!("by: the column {name:?} is {}, whose values cannot be keys", field.data_type()),
                "keys are text, bytes, whole numbers, decimals, booleans, dates and times: CAST it in the SQL".to_owned(),
            ));
        }
    }
    Ok(())
}

fn problem(message: String, hint: String) -> LearnError {
    LearnError::Function {
        message,
        hint: Some(hint),
    }
}

/// Floats are none: NaN is no value that equals itself, and -0.0 is 0.0.
fn is_key(kind: &DataType) -> bool {
    kind.is_integer()
        || matches!(
            kind,
            DataType::Boolean
                | DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
                | DataType::Date32
                | DataType::Date64
                | DataType::Timestamp(..)
                | DataType::Decimal128(..)
                | DataType::Decimal256(..)
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{Field, Schema};
    use std::sync::Arc;
    use streamctl_proto::JobSpec;

    #[test]
    fn keys_are_columns_of_the_input_with_one_order() {
        let input: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("customer", DataType::Utf8, true),
            Field::new("day", DataType::Date32, true),
            Field::new("price", DataType::Float64, true),
        ]));
        let checked = |by: &str| {
            let spec = JobSpec::parse(&format!(
                "name = \"a\"\n[source]\ntype = \"generator\"\n[window]\nsize = \"60s\"\n[function]\n\
                 file = \"t.py\"\nper = \"key\"\nby = [{by}]\n[sink]\npath = \"/s\"\n\
                 [checkpoint]\nlocation = \"/c\"\n"
            ));
            check(&spec.unwrap().function.unwrap(), &input)
        };
        assert_eq!(checked("\"customer\", \"day\""), Ok(()));
        for (by, expected) in [
            ("\"Customer\"", "no column"),
            ("\"price\"", "cannot be keys"),
        ] {
            let error = checked(by).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
