//! `aggregate(list, start, (sum, x) -> ..., sum -> ...)`: one value of all elements of a list.
//!
//! Owns: the order of the steps, what is left of lists that ended. Does not own: the syntax (`lower`).
//! Rule: a step computes one element of each list that is long enough, so that lists are folded side
//! by side; a list has at most [`LENGTH_MAX`] elements, because steps cannot be divided.

use super::shared::{evaluated, field_of, refused};
use crate::query::bounded;
use crate::query::spark::types::{self, plain};
use crate::query::spark::value::cast;
use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array, new_null_array};
use arrow::compute::{concat, take, take_arrays};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, HigherOrderFunctionArgs, HigherOrderReturnFieldArgs, HigherOrderSignature,
    HigherOrderUDF, HigherOrderUDFImpl, LambdaArgument, LambdaParametersProgress, ValueOrLambda,
    Volatility,
};
use std::cmp::Reverse;
use std::sync::Arc;

/// Most elements of a list.
const LENGTH_MAX: usize = 100_000;
/// Most bytes of sums (texts, lists) that the steps of one call make together: each step may copy the
/// sum of the step before, and a call does not yield.
const STEPS_BYTES_MAX: u64 = 1 << 30;
const HINT: &str = "write aggregate(list, 0, (sum, x) -> sum + x)";

#[derive(Debug, PartialEq, Eq, Hash)]
struct Fold {
    name: &'static str,
    signature: HigherOrderSignature,
}

pub(super) fn functions() -> Vec<HigherOrderUDF> {
    let of = |name| Fold {
        name,
        signature: HigherOrderSignature::user_defined(Volatility::Immutable),
    };
    let names = ["aggregate", "reduce"];
    names.map(of).map(HigherOrderUDF::new_from_impl).into()
}

impl Fold {
    fn element<'f>(&self, list: &'f DataType) -> Result<&'f FieldRef> {
        match list {
            DataType::List(element) => Ok(element),
            other => {
                let what = format!("does not take {}", types::name(&plain(other)));
                Err(refused(self.name, &what, HINT))
            }
        }
    }
}

impl HigherOrderUDFImpl for Fold {
    fn name(&self) -> &str {
        self.name
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
        let [
            ValueOrLambda::Value(list),
            ValueOrLambda::Value(start),
            rest @ ..,
        ] = fields
        else {
            return Err(refused(
                self.name,
                "takes a list, a start and a function",
                HINT,
            ));
        };
        let element = field_of("element", self.element(list.data_type())?.data_type());
        let sum = field_of("sum", start.data_type());
        let mut parameters = vec![vec![Arc::clone(&sum), element]];
        if rest.len() > 1 {
            parameters.push(vec![sum]);
        }
        Ok(LambdaParametersProgress::Complete(parameters))
    }

    fn return_field_from_args(&self, args: HigherOrderReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [
            _,
            ValueOrLambda::Value(start),
            ValueOrLambda::Lambda(merge),
            rest @ ..,
        ] = args.arg_fields
        else {
            return exec_err!("{}() takes a list, a start and a function", self.name);
        };
        let start = plain(start.data_type());
        let merged = plain(merge.data_type());
        if merged != start && merged != DataType::Null {
            let what = format!(
                "begins with {} and goes on with {}",
                types::name(&start),
                types::name(&merged)
            );
            let hint = format!(
                "give both one type: CAST(0 AS {})",
                types::name(&merged).to_uppercase()
            );
            return Err(refused(self.name, &what, &hint));
        }
        Ok(match rest {
            [ValueOrLambda::Lambda(finish), ..] => field_of(self.name, finish.data_type()),
            _ => field_of(self.name, &start),
        })
    }

    fn invoke_with_args(&self, args: HigherOrderFunctionArgs) -> Result<ColumnarValue> {
        let [
            ValueOrLambda::Value(list),
            ValueOrLambda::Value(start),
            ValueOrLambda::Lambda(merge),
            rest @ ..,
        ] = args.args.as_slice()
        else {
            return exec_err!("{}() takes a list, a start and a function", self.name);
        };
        let column = list.to_array(args.number_rows)?;
        let nulls = || ColumnarValue::Array(new_null_array(args.return_type(), args.number_rows));
        if column.null_count() == column.len() {
            return Ok(nulls());
        }
        self.element(column.data_type())?;
        let lists = Lists::of(column.as_list::<i32>());
        if lists.longest() > LENGTH_MAX {
            return exec_err!(
                "{}() of a list with {} elements: {LENGTH_MAX} are the most",
                self.name,
                lists.longest()
            );
        }
        let start = start.to_array(args.number_rows)?;
        let mut folded = self.folded(&lists, &start, merge)?;
        if let [ValueOrLambda::Lambda(finish), ..] = rest {
            let sums = Arc::clone(&folded);
            let spread = |columns: &[ArrayRef]| Ok(take_arrays(columns, &lists.rows(), None)?);
            let given = finish.evaluate(&[&|| Ok(Arc::clone(&sums))], spread)?;
            folded = evaluated(self.name, given, sums.len())?;
        }
        let folded = cast(&folded, args.return_type())?;
        Ok(ColumnarValue::Array(take(&folded, &lists.places(), None)?))
    }
}

/// The rows that have a list, those with longer ones first.
struct Lists<'l> {
    list: &'l ListArray,
    rows: Vec<u32>,
}

impl<'l> Lists<'l> {
    fn of(list: &'l ListArray) -> Self {
        let valid = (0..list.len()).filter(|row| list.is_valid(*row));
        let mut rows: Vec<u32> = valid.map(|row| row as u32).collect();
        rows.sort_by_key(|row| Reverse(list.value_length(*row as usize)));
        Self { list, rows }
    }

    fn length(&self, place: usize) -> usize {
        self.list.value_length(self.rows[place] as usize) as usize
    }

    fn longest(&self) -> usize {
        if self.rows.is_empty() {
            0
        } else {
            self.length(0)
        }
    }

    /// How many lists have more than so many elements.
    fn longer_than(&self, length: usize) -> usize {
        self.rows
            .partition_point(|row| self.list.value_length(*row as usize) as usize > length)
    }

    fn rows(&self) -> UInt32Array {
        self.rows.clone().into()
    }

    /// Element `step` of the first `count` lists.
    fn elements(&self, step: usize, count: usize) -> Result<ArrayRef> {
        let offsets = self.list.value_offsets();
        let places = self.rows[..count].iter();
        let places = places.map(|row| offsets[*row as usize] as u32 + step as u32);
        let places = UInt32Array::from_iter_values(places);
        Ok(take(self.list.values(), &places, None)?)
    }

    /// For each row of the column, where its list stands in this order.
    fn places(&self) -> UInt32Array {
        let mut places = vec![None; self.list.len()];
        for (place, row) in self.rows.iter().enumerate() {
            places[*row as usize] = Some(place as u32);
        }
        places.into()
    }
}

impl Fold {
    /// The last sum of each list, in the order of [`Lists`].
    fn folded(
        &self,
        lists: &Lists<'_>,
        start: &ArrayRef,
        merge: &LambdaArgument,
    ) -> Result<ArrayRef> {
        let kind = plain(start.data_type());
        let rows = lists.rows();
        let mut sums = take(&cast(start, &kind)?, &rows, None)?;
        // The sums of lists that ended, the longest last.
        let mut ended: Vec<ArrayRef> = vec![];
        let mut made = 0_u64;
        for step in 0..lists.longest() {
            let count = lists.longer_than(step);
            if count < sums.len() {
                ended.push(sums.slice(count, sums.len() - count));
                sums = sums.slice(0, count);
            }
            let elements = lists.elements(step, count)?;
            let spread =
                |columns: &[ArrayRef]| Ok(take_arrays(columns, &rows.slice(0, count), None)?);
            let sum = || Ok(Arc::clone(&sums));
            let element = || Ok(Arc::clone(&elements));
            let given = merge.evaluate(&[&sum, &element], spread)?;
            sums = cast(&evaluated(self.name, given, count)?, &kind)?;
            if !kind.is_primitive() {
                made = made.saturating_add(bounded::bytes_of(&sums));
            }
            if made > STEPS_BYTES_MAX {
                return exec_err!(
                    "{}() would make more than {} MiB of sums, step by step",
                    self.name,
                    STEPS_BYTES_MAX >> 20
                );
            }
        }
        ended.push(sums);
        let parts: Vec<&dyn Array> = ended.iter().rev().map(AsRef::as_ref).collect();
        Ok(concat(&parts)?)
    }
}
