//! `transform`, `filter`, `exists`, `forall`: functions that apply an expression to each element of a
//! list.
//!
//! Owns: what they give, the size of what each element gets of its row. Does not own: the syntax of
//! `x -> x + 1` (`lower`).
//! Rule: elements are computed as rows are; what an element takes from its row is charged before it
//! is copied.

use super::shared::{chosen, evaluated, is_test, refused, tests};
use crate::query::bounded;
use crate::query::spark::types::{self, plain};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, new_null_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take_arrays;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::utils::{list_values, list_values_row_number};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, HigherOrderFunctionArgs, HigherOrderReturnFieldArgs, HigherOrderSignature,
    HigherOrderUDF, HigherOrderUDFImpl, LambdaArgument, LambdaParametersProgress, ValueOrLambda,
    Volatility,
};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Exists,
    Filter,
    ForAll,
    Transform,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Higher {
    kind: Kind,
    signature: HigherOrderSignature,
}

/// These functions as the planner takes them.
pub(super) fn functions() -> Vec<HigherOrderUDF> {
    let kinds = [Kind::Exists, Kind::Filter, Kind::ForAll, Kind::Transform];
    let of = |kind| Higher {
        kind,
        signature: HigherOrderSignature::user_defined(Volatility::Immutable),
    };
    let each = kinds.into_iter().map(of);
    each.map(HigherOrderUDF::new_from_impl).collect()
}

impl Higher {
    fn element<'f>(&self, list: &'f DataType) -> Result<&'f FieldRef> {
        match list {
            DataType::List(element) => Ok(element),
            other => Err(refused(
                self.name(),
                &format!("does not take {}", types::name(&plain(other))),
                "it takes an array and a function of its elements: x -> x + 1",
            )),
        }
    }
}

impl HigherOrderUDFImpl for Higher {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Exists => "exists",
            Kind::Filter => "filter",
            Kind::ForAll => "forall",
            Kind::Transform => "transform",
        }
    }

    fn signature(&self) -> &HigherOrderSignature {
        &self.signature
    }

    fn coerce_value_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(arg_types.iter().map(plain).collect())
    }

    fn lambda_parameters(
        &self,
        _step: usize,
        fields: &[ValueOrLambda<FieldRef, Option<FieldRef>>],
    ) -> Result<LambdaParametersProgress> {
        let [ValueOrLambda::Value(list), ValueOrLambda::Lambda(_)] = fields else {
            return Err(refused(
                self.name(),
                "takes an array and a function of its elements",
                "write transform(list, x -> x + 1)",
            ));
        };
        let element = self.element(list.data_type())?;
        let element = Field::clone(element).with_nullable(true);
        let mut parameters = vec![Arc::new(element)];
        if matches!(self.kind, Kind::Filter | Kind::Transform) {
            parameters.push(Arc::new(Field::new("place", DataType::Int32, false)));
        }
        Ok(LambdaParametersProgress::Complete(vec![parameters]))
    }

    fn return_field_from_args(&self, args: HigherOrderReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [ValueOrLambda::Value(list), ValueOrLambda::Lambda(body)] = args.arg_fields else {
            return exec_err!("{}() takes a value and a function", self.name());
        };
        let of_body = plain(body.data_type());
        if self.kind != Kind::Transform {
            is_test(self.name(), &of_body, "x -> x > 0")?;
        }
        let gives = match self.kind {
            Kind::Exists | Kind::ForAll => DataType::Boolean,
            Kind::Filter => plain(list.data_type()),
            Kind::Transform => DataType::List(Arc::new(Field::new_list_field(of_body, true))),
        };
        Ok(Arc::new(Field::new(self.name(), gives, true)))
    }

    fn invoke_with_args(&self, args: HigherOrderFunctionArgs) -> Result<ColumnarValue> {
        let [ValueOrLambda::Value(list), ValueOrLambda::Lambda(body)] = args.args.as_slice() else {
            return exec_err!("{}() takes a value and a function", self.name());
        };
        let column = list.to_array(args.number_rows)?;
        if column.null_count() == column.len() {
            let nulls = new_null_array(args.return_type(), column.len());
            return Ok(ColumnarValue::Array(nulls));
        }
        self.element(column.data_type())?;
        let lists = column.as_list::<i32>();
        let lengths = || (0..lists.len()).map(|row| lists.value_length(row) as usize);
        let offsets = OffsetBuffer::<i32>::from_lengths(lengths());
        let elements = list_values(lists)?;
        let given = self.computed(body, lists, &elements)?;
        let result: ArrayRef = match self.kind {
            Kind::Transform => {
                let DataType::List(element) = args.return_type() else {
                    return exec_err!("transform() gives a list");
                };
                let given = arrow::compute::cast(&given, element.data_type())?;
                let nulls = lists.nulls().cloned();
                Arc::new(ListArray::try_new(element.clone(), offsets, given, nulls)?)
            }
            Kind::Filter => {
                let DataType::List(element) = args.return_type() else {
                    return exec_err!("filter() gives a list");
                };
                let chosen = chosen(&tests(&given)?);
                let kept = |row: usize| {
                    let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                    chosen.slice(from, to - from).true_count()
                };
                let lengths = OffsetBuffer::from_lengths((0..lists.len()).map(kept));
                let elements = arrow::compute::filter(&elements, &chosen)?;
                let elements = arrow::compute::cast(&elements, element.data_type())?;
                let nulls = lists.nulls().cloned();
                Arc::new(ListArray::try_new(
                    element.clone(),
                    lengths,
                    elements,
                    nulls,
                )?)
            }
            Kind::Exists | Kind::ForAll => {
                let tests = tests(&given)?;
                let sought = self.kind == Kind::Exists;
                let of_row = |row: usize| {
                    if lists.is_null(row) {
                        return None;
                    }
                    let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                    let each = || (from..to).map(|at| tests.is_valid(at).then(|| tests.value(at)));
                    if each().any(|test| test == Some(sought)) {
                        Some(sought)
                    } else if each().any(|test| test.is_none()) {
                        None
                    } else {
                        Some(!sought)
                    }
                };
                Arc::new((0..lists.len()).map(of_row).collect::<BooleanArray>())
            }
        };
        Ok(ColumnarValue::Array(result))
    }
}

impl Higher {
    /// What the function gives for each element.
    fn computed(
        &self,
        body: &LambdaArgument,
        lists: &ListArray,
        elements: &ArrayRef,
    ) -> Result<ArrayRef> {
        let places = || -> Result<ArrayRef> {
            let of = |row: usize| 0..lists.value_length(row);
            let all = (0..lists.len()).flat_map(of);
            Ok(Arc::new(Int32Array::from_iter_values(all)))
        };
        let element = || Ok(Arc::clone(elements));
        let spread = |columns: &[ArrayRef]| {
            let rows = list_values_row_number(lists)?;
            let copies = |row: usize| lists.value_length(row) as u64;
            bounded::charge_copies(self.name(), columns, copies)?;
            Ok(take_arrays(columns, &rows, None)?)
        };
        let given = body.evaluate(&[&element, &places], spread)?;
        evaluated(self.name(), given, elements.len())
    }
}
