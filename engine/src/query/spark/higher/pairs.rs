//! `zip_with`, `map_filter`, `transform_keys`, `transform_values`: functions that apply an expression
//! to pairs, of two lists or of a map.
//!
//! Owns: what they give. Does not own: the syntax (`lower`).
//! Rule: pairs are computed as rows are; what a pair takes from its row is charged before it is copied.

use super::shared::{chosen, evaluated, field_of, is_test, refused, tests};
use crate::query::bounded;
use crate::query::spark::ddl;
use crate::query::spark::maps;
use crate::query::spark::types::{self, plain};
use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, UInt32Array, new_null_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{take, take_arrays};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, HigherOrderFunctionArgs, HigherOrderReturnFieldArgs, HigherOrderSignature,
    HigherOrderUDF, HigherOrderUDFImpl, LambdaArgument, LambdaParametersProgress, ValueOrLambda,
    Volatility,
};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    ZipWith,
    MapFilter,
    TransformKeys,
    TransformValues,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OfPairs {
    kind: Kind,
    signature: HigherOrderSignature,
}

pub(super) fn functions() -> Vec<HigherOrderUDF> {
    let of = |kind| OfPairs {
        kind,
        signature: HigherOrderSignature::user_defined(Volatility::Immutable),
    };
    let kinds = [
        Kind::ZipWith,
        Kind::MapFilter,
        Kind::TransformKeys,
        Kind::TransformValues,
    ];
    kinds.map(of).map(HigherOrderUDF::new_from_impl).into()
}

/// The fields of a map's keys and values.
fn entries(map: &DataType) -> Option<[&FieldRef; 2]> {
    match map {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => Some([&fields[0], &fields[1]]),
            _ => None,
        },
        _ => None,
    }
}

fn is_key(data_type: &DataType) -> bool {
    types::is_atomic(data_type) && !types::is_float(data_type) && *data_type != DataType::Null
}

impl OfPairs {
    fn hint(&self) -> &'static str {
        match self.kind {
            Kind::ZipWith => "write zip_with(one, two, (x, y) -> x + y)",
            Kind::MapFilter => "write map_filter(map, (k, v) -> v > 0)",
            Kind::TransformKeys => "write transform_keys(map, (k, v) -> upper(k))",
            Kind::TransformValues => "write transform_values(map, (k, v) -> v + 1)",
        }
    }

    /// The types of the two sides of a pair.
    fn sides<'f>(&self, values: impl Iterator<Item = &'f FieldRef>) -> Result<[DataType; 2]> {
        let types: Vec<&DataType> = values.map(|field| field.data_type()).collect();
        let sides = match (self.kind, types.as_slice()) {
            (Kind::ZipWith, [DataType::List(one), DataType::List(two)]) => {
                Some([one.data_type(), two.data_type()])
            }
            (Kind::ZipWith, _) => None,
            (_, [map]) => entries(map).map(|sides| sides.map(|side| side.data_type())),
            _ => None,
        };
        match sides {
            Some(sides) => Ok(sides.map(plain)),
            None => {
                let names: Vec<String> = types.iter().map(|one| types::name(&plain(one))).collect();
                let what = format!("does not take {}", names.join(", "));
                Err(refused(self.name(), &what, self.hint()))
            }
        }
    }
}

impl HigherOrderUDFImpl for OfPairs {
    fn name(&self) -> &str {
        match self.kind {
            Kind::ZipWith => "zip_with",
            Kind::MapFilter => "map_filter",
            Kind::TransformKeys => "transform_keys",
            Kind::TransformValues => "transform_values",
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
        let values = fields.iter().filter_map(|field| match field {
            ValueOrLambda::Value(field) => Some(field),
            ValueOrLambda::Lambda(_) => None,
        });
        let [one, two] = self.sides(values)?;
        let pair = vec![field_of("one", &one), field_of("two", &two)];
        Ok(LambdaParametersProgress::Complete(vec![pair]))
    }

    fn return_field_from_args(&self, args: HigherOrderReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [values @ .., ValueOrLambda::Lambda(body)] = args.arg_fields else {
            return exec_err!("{}() takes values and a function", self.name());
        };
        let values = values.iter().filter_map(|field| match field {
            ValueOrLambda::Value(field) => Some(field),
            ValueOrLambda::Lambda(_) => None,
        });
        let [key, value] = self.sides(values)?;
        let body = plain(body.data_type());
        let gives = match self.kind {
            Kind::ZipWith => DataType::List(Arc::new(Field::new_list_field(body, true))),
            Kind::MapFilter => {
                is_test(self.name(), &body, "(k, v) -> v > 0")?;
                ddl::map(key, value)
            }
            Kind::TransformValues => ddl::map(key, body),
            Kind::TransformKeys if is_key(&body) => ddl::map(body, value),
            Kind::TransformKeys => {
                let what = format!("makes keys of {}", types::name(&body));
                return Err(refused(self.name(), &what, "keys are single values"));
            }
        };
        Ok(field_of(self.name(), &gives))
    }

    fn invoke_with_args(&self, args: HigherOrderFunctionArgs) -> Result<ColumnarValue> {
        let [values @ .., ValueOrLambda::Lambda(body)] = args.args.as_slice() else {
            return exec_err!("{}() takes values and a function", self.name());
        };
        let mut columns = vec![];
        for value in values {
            match value {
                ValueOrLambda::Value(value) => columns.push(value.to_array(args.number_rows)?),
                ValueOrLambda::Lambda(_) => {
                    return exec_err!("{}() takes one function", self.name());
                }
            }
        }
        if columns.iter().any(|one| one.null_count() == one.len()) {
            let nulls = new_null_array(args.return_type(), args.number_rows);
            return Ok(ColumnarValue::Array(nulls));
        }
        let pairs = match columns.as_slice() {
            [one, two] => Pairs::of_lists(one.as_list(), two.as_list())?,
            [map] => Pairs::of_map(map.as_map())?,
            _ => return exec_err!("{}() takes two lists or a map", self.name()),
        };
        let given = self.computed(body, &pairs)?;
        self.gathered(&pairs, &given, args.return_type())
            .map(ColumnarValue::Array)
    }
}

/// The pairs of all rows, one behind the other.
struct Pairs {
    one: ArrayRef,
    two: ArrayRef,
    /// How many pairs each row has; `None`: it has NULL.
    counts: Vec<Option<usize>>,
}

impl Pairs {
    /// The shorter list is filled with NULL.
    fn of_lists(one: &ListArray, two: &ListArray) -> Result<Self> {
        let mut picks = [vec![], vec![]];
        let mut counts = vec![];
        for row in 0..one.len() {
            if one.is_null(row) || two.is_null(row) {
                counts.push(None);
                continue;
            }
            let lists = [one, two];
            let lengths = lists.map(|list| list.value_length(row));
            let count = lengths[0].max(lengths[1]);
            for (picks, list) in picks.iter_mut().zip(lists) {
                let from = list.value_offsets()[row];
                let place = |at| (at < list.value_length(row)).then_some((from + at) as u32);
                picks.extend((0..count).map(place));
            }
            counts.push(Some(count as usize));
        }
        let [one_picks, two_picks] = picks.map(UInt32Array::from);
        Ok(Self {
            one: take(one.values(), &one_picks, None)?,
            two: take(two.values(), &two_picks, None)?,
            counts,
        })
    }

    fn of_map(map: &MapArray) -> Result<Self> {
        let offsets = map.value_offsets();
        let valid = (0..map.len()).filter(|row| map.is_valid(*row));
        let places = valid.flat_map(|row| offsets[row] as u32..offsets[row + 1] as u32);
        let places = UInt32Array::from_iter_values(places);
        let count = |row: usize| {
            let count = (offsets[row + 1] - offsets[row]) as usize;
            map.is_valid(row).then_some(count)
        };
        Ok(Self {
            one: take(map.keys(), &places, None)?,
            two: take(map.values(), &places, None)?,
            counts: (0..map.len()).map(count).collect(),
        })
    }

    fn len(&self) -> usize {
        self.one.len()
    }

    /// For each pair its row.
    fn rows(&self) -> UInt32Array {
        let counts = self.counts.iter().enumerate();
        let each = counts
            .flat_map(|(row, count)| std::iter::repeat_n(row as u32, count.unwrap_or_default()));
        UInt32Array::from_iter_values(each)
    }

    fn offsets(&self) -> OffsetBuffer<i32> {
        OffsetBuffer::from_lengths(self.counts.iter().map(|count| count.unwrap_or_default()))
    }

    fn nulls(&self) -> NullBuffer {
        self.counts.iter().map(Option::is_some).collect()
    }
}

impl OfPairs {
    /// What the expression gives for each pair.
    fn computed(&self, body: &LambdaArgument, pairs: &Pairs) -> Result<ArrayRef> {
        let one = || Ok(Arc::clone(&pairs.one));
        let two = || Ok(Arc::clone(&pairs.two));
        let spread = |columns: &[ArrayRef]| {
            let copies = |row: usize| pairs.counts[row].unwrap_or_default() as u64;
            bounded::charge_copies(self.name(), columns, copies)?;
            Ok(take_arrays(columns, &pairs.rows(), None)?)
        };
        let given = body.evaluate(&[&one, &two], spread)?;
        evaluated(self.name(), given, pairs.len())
    }

    /// The results as a list or a map for each row.
    fn gathered(&self, pairs: &Pairs, given: &ArrayRef, gives: &DataType) -> Result<ArrayRef> {
        if self.kind == Kind::ZipWith {
            let DataType::List(element) = gives else {
                return exec_err!("zip_with() gives a list");
            };
            let given = arrow::compute::cast(given, element.data_type())?;
            let nulls = Some(pairs.nulls());
            let element = Arc::clone(element);
            let list = ListArray::try_new(element, pairs.offsets(), given, nulls)?;
            return Ok(Arc::new(list));
        }
        let mut keys = Arc::clone(&pairs.one);
        let mut values = Arc::clone(&pairs.two);
        let mut kept = None;
        match self.kind {
            Kind::TransformKeys => keys = Arc::clone(given),
            Kind::TransformValues => values = Arc::clone(given),
            Kind::MapFilter | Kind::ZipWith => kept = Some(chosen(&tests(given)?)),
        }
        let offsets = pairs.offsets();
        maps::picked(gives, pairs.counts.len(), &[keys], &[values], |row| {
            pairs.counts[row]?;
            let places = offsets[row] as usize..offsets[row + 1] as usize;
            let kept = places.filter(|at| kept.as_ref().is_none_or(|kept| kept.value(*at)));
            Some(kept.map(|at| (0, at)).collect())
        })
    }
}
