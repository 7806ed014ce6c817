//! The operator `||` on texts as one function of all texts of a chain, so that it can have a limit
//! and few levels.
//!
//! Rule: its result is the operator's result: it calls the operator's own code.

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use std::sync::Arc;

pub(super) fn function() -> ScalarUDF {
    ScalarUDF::new_from_impl(Concatenation {
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Concatenation {
    signature: Signature,
}

impl ScalarUDFImpl for Concatenation {
    fn name(&self) -> &str {
        "||"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let names: Vec<String> = args
            .iter()
            .map(|arg| arg.schema_name().to_string())
            .collect();
        Ok(names.join(" || "))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [first, rest @ ..] = types else {
            return datafusion::common::plan_err!("|| has two sides");
        };
        let mut coerced = vec![];
        let mut before = first.clone();
        for next in rest {
            let (left, right) =
                BinaryTypeCoercer::new(&before, &Operator::StringConcat, next).get_input_types()?;
            if coerced.is_empty() {
                coerced.push(left);
            }
            coerced.push(right);
            before =
                BinaryTypeCoercer::new(&before, &Operator::StringConcat, next).get_result_type()?;
        }
        Ok(coerced)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [first, rest @ ..] = types else {
            return datafusion::common::plan_err!("|| has two sides");
        };
        rest.iter().try_fold(first.clone(), |before, next| {
            BinaryTypeCoercer::new(&before, &Operator::StringConcat, next).get_result_type()
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let all_constant = args
            .args
            .iter()
            .all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let mut arrays = arrays.into_iter();
        let Some(first) = arrays.next() else {
            return datafusion::common::exec_err!("|| has two sides");
        };
        let joined = arrays.try_fold(first, |before, next| both(&before, &next))?;
        match all_constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                &joined, 0,
            )?)),
            false => Ok(ColumnarValue::Array(joined)),
        }
    }
}

/// The operator on two columns.
fn both(left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
    let types =
        BinaryTypeCoercer::new(left.data_type(), &Operator::StringConcat, right.data_type());
    let (left_type, right_type) = types.get_input_types()?;
    let sides = vec![cast(left, &left_type)?, cast(right, &right_type)?];
    let rows = left.len();
    let field = |(place, array): (usize, &ArrayRef)| {
        Field::new(place.to_string(), array.data_type().clone(), true)
    };
    let schema = Arc::new(Schema::new(
        sides.iter().enumerate().map(field).collect::<Vec<_>>(),
    ));
    let sides = RecordBatch::try_new(schema, sides)?;
    let side =
        |place: usize| Arc::new(Column::new(&place.to_string(), place)) as Arc<dyn PhysicalExpr>;
    BinaryExpr::new(side(0), Operator::StringConcat, side(1))
        .evaluate(&sides)?
        .into_array(rows)
}
