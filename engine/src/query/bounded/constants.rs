//! Functions of a constant and a column return the same as for two columns, also without rows.

use super::super::functions;
use super::*;
use arrow::array::UInt32Array;
use arrow::compute::take;
use arrow::datatypes::Field;
use datafusion::logical_expr::Volatility;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Two values of each type that functions accept.
fn samples() -> Vec<ArrayRef> {
    use arrow::array as of;
    let mut list = of::ListBuilder::new(of::StringBuilder::new());
    list.append_value([Some("a"), Some("b")]);
    list.append_value([Some("b"), None, Some("c")]);
    let mut numbers = of::ListBuilder::new(of::Int64Builder::new());
    numbers.append_value([Some(1), Some(2)]);
    numbers.append_value([Some(3), Some(5)]);
    let step = |days| arrow::datatypes::IntervalMonthDayNano::new(0, days, 0);
    vec![
        Arc::new(of::StringArray::from(vec!["%Y-a", "%d"])),
        Arc::new(of::StringArray::from(vec!["day", "hour"])),
        Arc::new(of::Int64Array::from(vec![2, 3])),
        Arc::new(of::Float64Array::from(vec![0.5, 0.25])),
        Arc::new(of::BooleanArray::from(vec![true, false])),
        Arc::new(of::TimestampMillisecondArray::from(vec![1_000, 86_400_000])),
        Arc::new(of::Date32Array::from(vec![1, 400])),
        Arc::new(of::IntervalMonthDayNanoArray::from(vec![step(1), step(2)])),
        Arc::new(of::BinaryArray::from(vec![&b"ab"[..], &b"c"[..]])),
        Arc::new(list.finish()),
        Arc::new(numbers.finish()),
    ]
}

/// The arguments as columns of this many rows; the constant ones have their first value in each.
fn columns(samples: &[ArrayRef], constant: usize, rows: u32) -> Vec<ArrayRef> {
    let column = |(place, sample): (usize, &ArrayRef)| {
        let at: UInt32Array = (0..rows)
            .map(|row| {
                if constant >> place & 1 == 1 {
                    0
                } else {
                    row % 2
                }
            })
            .collect();
        take(sample, &at, None).unwrap()
    };
    samples.iter().enumerate().map(column).collect()
}

fn call(function: &ScalarUDF, args: Vec<ColumnarValue>, rows: usize) -> Result<ArrayRef> {
    let field = |value: &ColumnarValue| Arc::new(Field::new("a", value.data_type(), true));
    let arg_fields: Vec<FieldRef> = args.iter().map(field).collect();
    let constants: Vec<Option<&ScalarValue>> = args
        .iter()
        .map(|value| match value {
            ColumnarValue::Scalar(value) => Some(value),
            ColumnarValue::Array(_) => None,
        })
        .collect();
    let of = ReturnFieldArgs {
        arg_fields: &arg_fields,
        scalar_arguments: &constants,
    };
    let return_field = function.return_field_from_args(of)?;
    let config_options = Arc::new(ConfigOptions::default());
    let args = ScalarFunctionArgs {
        args,
        arg_fields,
        number_rows: rows,
        return_field,
        config_options,
    };
    function.invoke_with_args(args)?.into_array(rows)
}

/// Collects the differences of the function for arguments of these types.
fn judge(function: &ScalarUDF, samples: &[ArrayRef], wrong: &mut Vec<String>) {
    let field = |sample: &ArrayRef| Arc::new(Field::new("a", sample.data_type().clone(), true));
    let fields: Vec<FieldRef> = samples.iter().map(field).collect();
    let Ok(Ok(coerced)) = catch_unwind(AssertUnwindSafe(|| fields_with_udf(&fields, function)))
    else {
        return;
    };
    let coerced: Vec<DataType> = coerced
        .iter()
        .map(|field| field.data_type().clone())
        .collect();
    let cast = |(sample, to): (&ArrayRef, &DataType)| arrow::compute::cast(sample, to);
    let Ok(samples) = samples
        .iter()
        .zip(&coerced)
        .map(cast)
        .collect::<std::result::Result<Vec<_>, _>>()
    else {
        return;
    };
    for constant in 1..(1_usize << samples.len()) - 1 {
        for rows in [0, 1, 3] {
            let columns = columns(&samples, constant, rows);
            let mixed =
                samples
                    .iter()
                    .zip(&columns)
                    .enumerate()
                    .map(|(place, (sample, column))| {
                        if constant >> place & 1 == 1 {
                            ColumnarValue::Scalar(ScalarValue::try_from_array(sample, 0).unwrap())
                        } else {
                            ColumnarValue::Array(Arc::clone(column))
                        }
                    });
            let mixed: Vec<ColumnarValue> = mixed.collect();
            let rows = rows as usize;
            let what = || {
                format!(
                    "{}({coerced:?}) constant={constant:b} rows={rows}",
                    function.name()
                )
            };
            let Ok(given) = catch_unwind(AssertUnwindSafe(|| call(function, mixed, rows))) else {
                wrong.push(format!("{} panics", what()));
                continue;
            };
            let columns: Vec<ColumnarValue> =
                columns.into_iter().map(ColumnarValue::Array).collect();
            let Ok(expected) = catch_unwind(AssertUnwindSafe(|| call(function, columns, rows)))
            else {
                wrong.push(format!("{} panics for columns", what()));
                continue;
            };
            if let (Ok(given), Ok(expected)) = (given, expected)
                && *given != *expected
            {
                wrong.push(format!("{}: {given:?}, not {expected:?}", what()));
            }
        }
    }
}

#[test]
fn a_constant_beside_a_column_means_the_same_as_a_column_of_it_also_without_rows() {
    let samples = samples();
    let few: Vec<&ArrayRef> = [0, 2, 5, 9].iter().map(|place| &samples[*place]).collect();
    let mut wrong = vec![];
    let functions = functions::all();
    let repeatable = functions
        .iter()
        .filter(|function| function.signature().volatility == Volatility::Immutable);
    for function in repeatable {
        let before = wrong.len();
        for a in &samples {
            for b in &samples {
                judge(function, &[Arc::clone(a), Arc::clone(b)], &mut wrong);
            }
        }
        for a in &few {
            for b in &few {
                for c in &few {
                    judge(
                        function,
                        &[a, b, c].map(|sample| Arc::clone(sample)),
                        &mut wrong,
                    );
                }
            }
        }
        wrong.truncate(before + 5);
    }
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
