//! Arithmetic and comparison.
//!
//! Owns: operators, the types of their results, CASE, IN, BETWEEN and the functions that choose a
//! value. Does not own: how an operator is written (`operators`).
//! Rule: whole numbers wrap, division by zero is NULL, a decimal that has too many digits is NULL.

use super::call::{Given, Refusal, Row, Rows};
use super::number::{Half, divided, rescaled_wide, wide_power};
use super::types::{self, any, compared, decimal_of, is_decimal, is_float, of_numbers};
use super::value::{Value, cast};
use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, i256};
use datafusion::common::{Result, exec_err};
use std::cmp::Ordering;
use std::sync::Arc;

/// The type of `left op right`, where whole constants count with the digits that they have.
/// `None`: it is refused.
pub(super) fn type_of(
    op: &str,
    left: (&DataType, Option<&str>),
    right: (&DataType, Option<&str>),
) -> Option<DataType> {
    let number = |data_type: &DataType| match data_type {
        // A text counts as a double.
        DataType::Utf8 => DataType::Float64,
        other => other.clone(),
    };
    let mut one = number(left.0);
    let mut two = number(right.0);
    if one == DataType::Null {
        one = two.clone();
    }
    if two == DataType::Null {
        two = one.clone();
    }
    if one == DataType::Null {
        return Some(DataType::Float64);
    }
    if is_decimal(&one) != is_decimal(&two) && !is_float(&one) && !is_float(&two) {
        let exact = |data_type: DataType, constant: Option<&str>| match constant {
            Some(digits) if !is_decimal(&data_type) => {
                let count = digits.trim_start_matches(['-', '0']).len().max(1);
                DataType::Decimal128(count as u8, 0)
            }
            _ => data_type,
        };
        one = exact(one, left.1);
        two = exact(two, right.1);
    }
    let common = of_numbers(&one, &two)?;
    if !is_decimal(&common) {
        return match op {
            "/" => Some(DataType::Float64),
            "div" if types::is_whole(&common) => Some(DataType::Int64),
            "div" => None,
            "&" | "|" | "^" if !types::is_whole(&common) => None,
            _ => Some(common),
        };
    }
    let (p1, s1) = decimal_of(&one)?;
    let (p2, s2) = decimal_of(&two)?;
    let p1 = i32::from(p1);
    let s1 = i32::from(s1);
    let p2 = i32::from(p2);
    let s2 = i32::from(s2);
    let (digits, scale) = match op {
        "+" | "-" => {
            let scale = s1.max(s2);
            ((p1 - s1).max(p2 - s2) + scale + 1, scale)
        }
        "*" => (p1 + p2 + 1, s1 + s2),
        "/" => {
            let scale = (s1 + p2 + 1).max(6);
            // Larger ones would be computed with fewer digits than Spark does.
            if p1 + scale - s1 + s2 > 74 {
                return None;
            }
            (p1 - s1 + s2 + scale, scale)
        }
        "%" | "pmod" => {
            let scale = s1.max(s2);
            ((p1 - s1).min(p2 - s2) + scale, scale)
        }
        _ => return None,
    };
    Some(adjusted(digits, scale))
}

/// Fewer digits behind the point, so that those before it fit.
fn adjusted(digits: i32, scale: i32) -> DataType {
    if digits <= 38 {
        return DataType::Decimal128(digits as u8, scale as i8);
    }
    let whole = digits - scale;
    let scale = (38 - whole).max(scale.min(6));
    DataType::Decimal128(38, scale as i8)
}

/// `op(left, right, type)`: the type was decided when the query was planned.
pub(super) fn result_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let text = given.constant_text(2)?.unwrap_or_default();
    types::named(text).ok_or_else(|| given.refuse("has no type", "cast its arguments"))
}

pub(super) fn add(rows: &Rows<'_>) -> Result<ArrayRef> {
    compute(rows, i64::wrapping_add, |a, b| Some(a + b), "+")
}

pub(super) fn subtract(rows: &Rows<'_>) -> Result<ArrayRef> {
    compute(rows, i64::wrapping_sub, |a, b| Some(a - b), "-")
}

pub(super) fn multiply(rows: &Rows<'_>) -> Result<ArrayRef> {
    compute(rows, i64::wrapping_mul, |a, b| Some(a * b), "*")
}

pub(super) fn divide(rows: &Rows<'_>) -> Result<ArrayRef> {
    let quotient = |a: f64, b: f64| (b != 0.0).then(|| a / b);
    compute(rows, |a, _| a, quotient, "/")
}

pub(super) fn remainder(rows: &Rows<'_>) -> Result<ArrayRef> {
    let rest = |a: f64, b: f64| (b != 0.0).then(|| a % b);
    compute(rows, i64::wrapping_rem, rest, "%")
}

pub(super) fn positive_remainder(rows: &Rows<'_>) -> Result<ArrayRef> {
    let rest = |a: f64, b: f64| {
        let rest = a % b;
        (b != 0.0).then(|| if rest < 0.0 { (rest + b) % b } else { rest })
    };
    let whole = |a: i64, b: i64| {
        let rest = a.wrapping_rem(b);
        if rest < 0 {
            rest.wrapping_add(b).wrapping_rem(b)
        } else {
            rest
        }
    };
    compute(rows, whole, rest, "pmod")
}

pub(super) fn whole_quotient(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.longs(|row| {
        let by = row.long(1)?;
        (by != 0).then(|| row.long(0).map(|value| value.wrapping_div(by)))?
    })
}

fn compute(
    rows: &Rows<'_>,
    whole: impl Fn(i64, i64) -> i64,
    double: impl Fn(f64, f64) -> Option<f64>,
    op: &str,
) -> Result<ArrayRef> {
    match rows.gives {
        DataType::Float64 => rows.doubles(|row| double(row.double(0)?, row.double(1)?)),
        DataType::Float32 => rows.values(|row| {
            let narrow = |place| row.double(place).map(|value| value as f32);
            let left = f64::from(narrow(0)?);
            let right = f64::from(narrow(1)?);
            // Rounding a double to a float once more gives the float's own result.
            double(left, right).map(|value| Value::Float(value as f32))
        }),
        DataType::Decimal128(digits, scale) => {
            rows.decimals(|row| decimal(row, op, *digits, *scale))
        }
        _ => rows.values(|row| {
            let left = row.long(0)?;
            let right = row.long(1)?;
            if right == 0 && matches!(op, "%" | "pmod") {
                return None;
            }
            // Narrower types wrap when the value is narrowed.
            Some(Value::Whole(whole(left, right)))
        }),
    }
}

fn try_type(op: &str, given: &Given<'_>) -> Result<DataType, Refusal> {
    let kinds = [given.kind(0), given.kind(1)];
    let are_numbers = kinds.iter().all(|kind| types::is_number(kind));
    type_of(op, (kinds[0], None), (kinds[1], None))
        .filter(|_| are_numbers)
        .ok_or_else(|| given.refuse("takes two numbers", "cast its arguments"))
}

/// An operation that gives NULL where the result does not fit, instead of wrapping.
fn tried(
    rows: &Rows<'_>,
    whole: impl Fn(i64, i64) -> Option<i64>,
    other: fn(&Rows<'_>) -> Result<ArrayRef>,
) -> Result<ArrayRef> {
    let bits = match rows.gives {
        DataType::Int8 => i8::BITS,
        DataType::Int16 => i16::BITS,
        DataType::Int32 => i32::BITS,
        DataType::Int64 => i64::BITS,
        _ => return other(rows),
    };
    let spare = i64::BITS - bits;
    rows.values(|row| {
        let value = whole(row.long(0)?, row.long(1)?)?;
        (value << spare >> spare == value).then_some(Value::Whole(value))
    })
}

pub(super) fn try_add_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    try_type("+", given)
}

pub(super) fn try_add(rows: &Rows<'_>) -> Result<ArrayRef> {
    tried(rows, i64::checked_add, add)
}

pub(super) fn try_subtract_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    try_type("-", given)
}

pub(super) fn try_subtract(rows: &Rows<'_>) -> Result<ArrayRef> {
    tried(rows, i64::checked_sub, subtract)
}

pub(super) fn try_multiply_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    try_type("*", given)
}

pub(super) fn try_multiply(rows: &Rows<'_>) -> Result<ArrayRef> {
    tried(rows, i64::checked_mul, multiply)
}

/// The unscaled number and the scale.
fn unscaled(value: Value<'_>) -> Option<(i256, i32)> {
    match value {
        Value::Decimal(value, scale) => Some((i256::from_i128(value), scale.into())),
        Value::Whole(value) => Some((i256::from_i128(value.into()), 0)),
        _ => None,
    }
}

fn decimal(row: Row<'_>, op: &str, digits: u8, scale: i8) -> Option<i128> {
    let (left, left_scale) = unscaled(row.value(0)?)?;
    let (right, right_scale) = unscaled(row.value(1)?)?;
    let common = left_scale.max(right_scale);
    let wide =
        |value: i256, from: i32| value.checked_mul(wide_power((common - from).unsigned_abs())?);
    let (value, from) = match op {
        "*" => (left.checked_mul(right)?, left_scale + right_scale),
        "/" => {
            if right == i256::ZERO {
                return None;
            }
            let shift = i32::from(scale) - left_scale + right_scale;
            let factor = wide_power(shift.unsigned_abs())?;
            let quotient = if shift >= 0 {
                divided(left.checked_mul(factor)?, right, Half::Up)?
            } else {
                divided(left, right.checked_mul(factor)?, Half::Up)?
            };
            (quotient, scale.into())
        }
        _ => {
            let left = wide(left, left_scale)?;
            let right = wide(right, right_scale)?;
            let value = match op {
                "+" => left.checked_add(right)?,
                "-" => left.checked_sub(right)?,
                _ if right == i256::ZERO => return None,
                "%" => left.checked_rem(right)?,
                _ => {
                    let rest = left.checked_rem(right)?;
                    if rest < i256::ZERO {
                        rest.checked_add(right)?.checked_rem(right)?
                    } else {
                        rest
                    }
                }
            };
            (value, common)
        }
    };
    rescaled_wide(value, from, digits, scale, Half::Up)
}

pub(super) fn bit_and(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.values(|row| Some(Value::Whole(row.long(0)? & row.long(1)?)))
}

pub(super) fn bit_or(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.values(|row| Some(Value::Whole(row.long(0)? | row.long(1)?)))
}

pub(super) fn bit_xor(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.values(|row| Some(Value::Whole(row.long(0)? ^ row.long(1)?)))
}

pub(super) fn bit_not(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.values(|row| Some(Value::Whole(!row.long(0)?)))
}

/// The type of the first argument, if it is a number.
pub(super) fn same_number(given: &Given<'_>) -> Result<DataType, Refusal> {
    Ok(match given.kind(0) {
        DataType::Utf8 => DataType::Float64,
        DataType::Null => DataType::Float64,
        other => other.clone(),
    })
}

pub(super) fn negate(rows: &Rows<'_>) -> Result<ArrayRef> {
    match rows.gives {
        DataType::Decimal128(..) => rows.decimals(|row| match row.value(0)? {
            Value::Decimal(value, _) => Some(-value),
            _ => None,
        }),
        gives if is_float(gives) => rows.values(|row| row.double(0).map(|x| Value::Double(-x))),
        _ => rows.values(|row| row.long(0).map(|value| Value::Whole(value.wrapping_neg()))),
    }
}

/// The order of two values, compared as Spark compares values of their types.
struct Comparison {
    left: ArrayRef,
    right: ArrayRef,
}

impl Comparison {
    fn new(left: ArrayRef, right: ArrayRef) -> Result<Self> {
        let common = compared(
            &types::plain(left.data_type()),
            &types::plain(right.data_type()),
        );
        let Some(common) = common else {
            return exec_err!(
                "{} and {} are not compared",
                left.data_type(),
                right.data_type()
            );
        };
        Ok(Self {
            left: cast(&left, &common)?,
            right: cast(&right, &common)?,
        })
    }

    /// For each row; `None` where a value is NULL.
    fn orders(&self) -> Result<Vec<Option<Ordering>>> {
        let left = super::value::Reader::new(&self.left)?;
        let right = super::value::Reader::new(&self.right)?;
        let order = |row| Some(left.get(row)?.order(right.get(row)?));
        Ok((0..self.left.len()).map(order).collect())
    }
}

/// How two columns compare, row by row.
fn orders(rows: &Rows<'_>, left: usize, right: usize) -> Result<Vec<Option<Ordering>>> {
    Comparison::new(rows.column(left)?, rows.column(right)?)?.orders()
}

/// Refuses values that are not compared with the first.
pub(super) fn comparable(given: &Given<'_>) -> Result<(), Refusal> {
    for other in &given.types[1..] {
        if compared(given.kind(0), other).is_none() {
            return Err(not_compared(given.kind(0), other));
        }
    }
    Ok(())
}

pub(super) fn not_compared(left: &DataType, right: &DataType) -> Refusal {
    Refusal::new(
        format!(
            "{} and {} are not compared in dialect \"spark\"",
            types::name(left),
            types::name(right)
        ),
        "cast one of them to the type of the other",
    )
}

pub(super) fn between(rows: &Rows<'_>) -> Result<ArrayRef> {
    let low = orders(rows, 0, 1)?;
    let high = orders(rows, 0, 2)?;
    let both = low.into_iter().zip(high).map(|(low, high)| {
        let low = low.map(|order| order != Ordering::Less);
        let high = high.map(|order| order != Ordering::Greater);
        match (low, high) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        }
    });
    Ok(Arc::new(both.collect::<BooleanArray>()))
}

/// The common type of all values of IN.
pub(super) fn in_type(given: &Given<'_>) -> Result<(), Refusal> {
    match any(given.types.iter()) {
        Some(_) => Ok(()),
        None => Err(Refusal::new(
            "the values of IN have no common type in dialect \"spark\"",
            "cast them to the type of the value that is looked up",
        )),
    }
}

pub(super) fn is_in(rows: &Rows<'_>) -> Result<ArrayRef> {
    let kinds: Vec<DataType> = (0..rows.args()).map(|place| rows.kind(place)).collect();
    let Some(common) = any(kinds.iter()) else {
        return exec_err!("the values of IN have no common type");
    };
    let value = cast(&rows.column(0)?, &common)?;
    let value = super::value::Reader::new(&value)?;
    let mut found = vec![false; rows.count];
    let mut has_null = vec![false; rows.count];
    for place in 1..rows.args() {
        let (other, constant) = match rows.constant(place)? {
            Some(other) => (other, true),
            None => (rows.column(place)?, false),
        };
        let other = cast(&other, &common)?;
        let other = super::value::Reader::new(&other)?;
        for row in 0..rows.count {
            match (value.get(row), other.get(if constant { 0 } else { row })) {
                (Some(one), Some(two)) => found[row] |= one.order(two) == Ordering::Equal,
                _ => has_null[row] = true,
            }
        }
    }
    let answers =
        found
            .into_iter()
            .zip(has_null)
            .map(|(found, has_null)| match (found, has_null) {
                (true, _) => Some(true),
                (false, true) => None,
                (false, false) => Some(false),
            });
    Ok(Arc::new(answers.collect::<BooleanArray>()))
}

/// Chooses for each row the value of one argument; NULL for `None`.
fn chosen(
    rows: &Rows<'_>,
    places: &[usize],
    choice: impl Fn(usize) -> Option<usize>,
) -> Result<ArrayRef> {
    let mut columns = Vec::with_capacity(places.len() + 1);
    for place in places {
        columns.push(cast(&rows.column(*place)?, rows.gives)?);
    }
    columns.push(new_null_array(rows.gives, 1));
    let picks: Vec<(usize, usize)> = (0..rows.count)
        .map(|row| match choice(row) {
            Some(choice) => (choice, row),
            None => (places.len(), 0),
        })
        .collect();
    let columns: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
    Ok(interleave(&columns, &picks)?)
}

fn common_of<'t>(
    given: &Given<'_>,
    kinds: impl Iterator<Item = &'t DataType> + Clone,
) -> Result<DataType, Refusal> {
    any(kinds).ok_or_else(|| {
        given.refuse(
            "has values of types that have no common one",
            "cast them to one type",
        )
    })
}

/// `case(condition, value, condition, value, ..., otherwise)`.
pub(super) fn case_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let last = given.types.len() - 1;
    for place in (0..last).step_by(2) {
        if !matches!(given.kind(place), DataType::Boolean | DataType::Null) {
            return Err(Refusal::new(
                format!(
                    "a condition of {} is no condition: it is neither true nor false",
                    types::name(given.kind(place))
                ),
                "compare it with something, as in country = 'Peru'",
            ));
        }
    }
    let values = given.types.iter().enumerate();
    let values = values.filter(move |(place, _)| place % 2 == 1 || *place == last);
    common_of(given, values.map(|(_, kind)| kind))
}

pub(super) fn case(rows: &Rows<'_>) -> Result<ArrayRef> {
    let last = rows.args() - 1;
    let places: Vec<usize> = (1..last).step_by(2).chain([last]).collect();
    chosen(rows, &places, |row| {
        let row = rows.row(row);
        let hit = (0..last)
            .step_by(2)
            .position(|place| row.bool(place) == Some(true));
        Some(hit.unwrap_or(places.len() - 1))
    })
}

/// `case_of(value, compared, value, compared, value, ..., otherwise)`.
pub(super) fn case_of_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let last = given.types.len() - 1;
    for place in (1..last).step_by(2) {
        if compared(given.kind(0), given.kind(place)).is_none() {
            return Err(not_compared(given.kind(0), given.kind(place)));
        }
    }
    let values = given.types.iter().enumerate();
    let values = values.filter(move |(place, _)| *place > 0 && place % 2 == 0 || *place == last);
    common_of(given, values.map(|(_, kind)| kind))
}

pub(super) fn case_of(rows: &Rows<'_>) -> Result<ArrayRef> {
    let last = rows.args() - 1;
    let mut conditions = vec![];
    for place in (1..last).step_by(2) {
        conditions.push(orders(rows, 0, place)?);
    }
    let places: Vec<usize> = (2..last).step_by(2).chain([last]).collect();
    chosen(rows, &places, |row| {
        let hit = conditions
            .iter()
            .position(|orders| orders[row] == Some(Ordering::Equal));
        Some(hit.unwrap_or(places.len() - 1))
    })
}

pub(super) fn if_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    common_of(given, given.types[1..].iter())
}

pub(super) fn if_(rows: &Rows<'_>) -> Result<ArrayRef> {
    chosen(rows, &[1, 2], |row| {
        Some(usize::from(rows.row(row).bool(0) != Some(true)))
    })
}

pub(super) fn any_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    common_of(given, given.types.iter())
}

pub(super) fn coalesce(rows: &Rows<'_>) -> Result<ArrayRef> {
    let places: Vec<usize> = (0..rows.args()).collect();
    chosen(rows, &places, |row| {
        places
            .iter()
            .position(|place| !rows.row(row).is_null(*place))
    })
}

pub(super) fn nvl2(rows: &Rows<'_>) -> Result<ArrayRef> {
    chosen(rows, &[1, 2], |row| {
        Some(usize::from(rows.row(row).is_null(0)))
    })
}

pub(super) fn first_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    comparable(given)?;
    Ok(given.kind(0).clone())
}

pub(super) fn nullif(rows: &Rows<'_>) -> Result<ArrayRef> {
    let orders = orders(rows, 0, 1)?;
    chosen(rows, &[0], |row| {
        (orders[row] != Some(Ordering::Equal)).then_some(0)
    })
}

/// The common type of values that are ordered: text and other values have none.
pub(super) fn ordered_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let is_text = |kind: &&DataType| **kind == DataType::Utf8;
    let known = given.types.iter().filter(|kind| **kind != DataType::Null);
    let texts = known.clone().filter(is_text).count();
    if texts > 0 && texts < known.count() {
        return Err(given.refuse(
            "does not compare text with other values",
            "cast them to one type",
        ));
    }
    any_type(given)
}

fn extreme(rows: &Rows<'_>, wanted: Ordering) -> Result<ArrayRef> {
    let mut readers = vec![];
    for place in 0..rows.args() {
        readers.push(super::value::Reader::new(&cast(
            &rows.column(place)?,
            rows.gives,
        )?)?);
    }
    let places: Vec<usize> = (0..rows.args()).collect();
    chosen(rows, &places, |row| {
        let mut best: Option<(usize, Value<'_>)> = None;
        for (place, reader) in readers.iter().enumerate() {
            let Some(value) = reader.get(row) else {
                continue;
            };
            if best.is_none_or(|(_, best)| value.order(best) == wanted) {
                best = Some((place, value));
            }
        }
        best.map(|(place, _)| place)
    })
}

pub(super) fn greatest(rows: &Rows<'_>) -> Result<ArrayRef> {
    extreme(rows, Ordering::Greater)
}

pub(super) fn least(rows: &Rows<'_>) -> Result<ArrayRef> {
    extreme(rows, Ordering::Less)
}

pub(super) fn is_null(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.bools(|row| Some(row.is_null(0)))
}

pub(super) fn is_not_null(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.bools(|row| Some(!row.is_null(0)))
}

pub(super) fn is_nan(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.bools(|row| Some(row.double(0).is_some_and(f64::is_nan)))
}

pub(super) fn nanvl(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.doubles(|row| {
        let value = row.double(0)?;
        if value.is_nan() {
            row.double(1)
        } else {
            Some(value)
        }
    })
}

/// The comparison of a comparison operator, for types that the planner would compare otherwise.
pub(super) fn as_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let text = given.constant_text(1)?.unwrap_or_default().to_owned();
    let unknown = || {
        Refusal::new(
            format!("there is no type {text} in dialect \"spark\""),
            "the types are: BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p, s), STRING, BINARY, DATE, TIMESTAMP",
        )
    };
    let to = types::named(&text).ok_or_else(unknown)?;
    let from = given.kind(0);
    if !converts(from, &to) {
        return Err(Refusal::new(
            format!(
                "{} is not cast to {} in dialect \"spark\"",
                types::name(from),
                types::name(&to)
            ),
            "cast it to another type first, or compute what is meant",
        ));
    }
    Ok(to)
}

/// The casts that are proven to give what Spark gives.
fn converts(from: &DataType, to: &DataType) -> bool {
    if from == to || *from == DataType::Null {
        return true;
    }
    let time = types::TIME;
    match from {
        DataType::Utf8 => true,
        DataType::Binary => *to == DataType::Utf8,
        _ if *to == DataType::Binary => false,
        // A day as a number or as a truth value is NULL, as in Spark.
        DataType::Boolean => *to != DataType::Date32,
        DataType::Date32 => true,
        from if *from == time => true,
        from if types::is_whole(from) => *to != DataType::Date32,
        from if is_decimal(from) => *to != DataType::Date32,
        from if types::is_number(from) => *to != DataType::Date32 && *to != time,
        _ => false,
    }
}

pub(super) fn cast_rows(rows: &Rows<'_>) -> Result<ArrayRef> {
    cast(&rows.column(0)?, rows.gives)
}

/// A number as it is written.
pub(super) fn literal_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let text = given.constant_text(0)?.unwrap_or_default();
    let unknown = || Refusal::new(format!("{text} is no number"), "write it with digits");
    if text.contains(['e', 'E']) {
        return Ok(DataType::Float64);
    }
    if let Some(whole) = text.strip_suffix('L') {
        whole.parse::<i64>().map_err(|_| unknown())?;
        return Ok(DataType::Int64);
    }
    if text.parse::<i32>().is_ok() {
        return Ok(DataType::Int32);
    }
    if text.parse::<i64>().is_ok() {
        return Ok(DataType::Int64);
    }
    let unsigned = text.trim_start_matches('-');
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = whole.trim_start_matches('0').len() + fraction.len();
    if digits > 38 {
        return Err(Refusal::new(
            format!("the number {text} has more than 38 digits"),
            "write it with an exponent: a double",
        ));
    }
    Ok(DataType::Decimal128(
        digits.max(1) as u8,
        fraction.len() as i8,
    ))
}

pub(super) fn literal(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.values(|row| match row.value(0)? {
        Value::Text(text) => Some(Value::Text(text.strip_suffix('L').unwrap_or(text))),
        other => Some(other),
    })
}

/// Places of rows, NULL for none.
pub(super) fn indexes(places: impl Iterator<Item = Option<u32>>) -> UInt32Array {
    places.collect()
}
