//! What is computed from the values of a group.
//!
//! Owns: averages, percentiles, moments, the value beside an extreme, sets. Does not own: how the
//! values come together (`aggregates`).
//! Rule: values are taken in the order of the rows, and each operation is Spark's, so that the last
//! digits are those that Spark gives for one partition.

use super::call::{Given, Refusal, Rows};
use super::lists;
use super::number::{Half, divided, rescaled_wide, wide_power};
use super::types::{self, is_atomic, is_decimal, is_float, is_number};
use super::value::{Reader, Value, cast, collected};
use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array, new_null_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, i256};
use datafusion::common::{Result, exec_err};
use std::cmp::Ordering;
use std::sync::Arc;

/// The digits that an average has behind those of its values.
const AVERAGE_DIGITS: u8 = 4;

/// What `avg` adds: decimals as they are, other numbers as doubles.
pub(super) fn addend_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    match given.kind(0) {
        decimal if is_decimal(decimal) => Ok(decimal.clone()),
        number if is_number(number) => Ok(DataType::Float64),
        DataType::Utf8 | DataType::Null => Ok(DataType::Float64),
        other => Err(Refusal::new(
            format!(
                "avg() does not take {} in dialect \"spark\"",
                types::name(other)
            ),
            "cast it: avg(CAST(x AS DOUBLE))",
        )),
    }
}

pub(super) fn addend(rows: &Rows<'_>) -> Result<ArrayRef> {
    cast(&rows.column(0)?, rows.gives)
}

/// `average(sum, count)`. The sum of decimals has ten digits more than they have.
pub(super) fn average_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    Ok(match given.kind(0) {
        DataType::Decimal128(digits, scale) => {
            let own = match digits {
                38 => 38,
                digits => digits - 10,
            };
            let digits = (own + AVERAGE_DIGITS).min(types::DIGITS_MAX);
            let scale = (*scale + AVERAGE_DIGITS as i8).min(types::DIGITS_MAX as i8);
            DataType::Decimal128(digits, scale)
        }
        _ => DataType::Float64,
    })
}

pub(super) fn average(rows: &Rows<'_>) -> Result<ArrayRef> {
    let DataType::Decimal128(digits, scale) = rows.gives else {
        return rows.doubles(|row| {
            let count = row.long(1).filter(|count| *count > 0)?;
            Some(row.double(0)? / count as f64)
        });
    };
    rows.decimals(|row| {
        let Value::Decimal(sum, from) = row.value(0)? else {
            return None;
        };
        if !super::number::fits(sum, types::DIGITS_MAX) {
            return None;
        }
        let count = row.long(1).filter(|count| *count > 0)?;
        // As Java divides: to 38 digits behind the point, then to those of the result.
        let sum = i256::from_i128(sum);
        let wide = sum.checked_mul(wide_power((38 - i32::from(from)).unsigned_abs())?)?;
        let quotient = divided(wide, i256::from_i128(count.into()), Half::Up)?;
        rescaled_wide(quotient, 38, *digits, *scale, Half::Up)
    })
}

/// An empty list for a group without values.
pub(super) fn or_empty(rows: &Rows<'_>) -> Result<ArrayRef> {
    let column = rows.column(0)?;
    let DataType::List(element) = rows.gives else {
        return exec_err!("a list is expected");
    };
    if column.null_count() == 0 && column.data_type() == rows.gives {
        return Ok(column);
    }
    let Some(list) = column.as_list_opt::<i32>() else {
        return exec_err!("a list is expected");
    };
    let offsets = list.value_offsets();
    let mut picks: Vec<u32> = vec![];
    let mut lengths = vec![];
    for row in 0..list.len() {
        let elements = match list.is_valid(row) {
            true => offsets[row] as u32..offsets[row + 1] as u32,
            false => 0..0,
        };
        lengths.push(elements.len());
        picks.extend(elements);
    }
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(element),
        OffsetBuffer::from_lengths(lengths),
        take(list.values(), &UInt32Array::from(picks), None)?,
        None,
    )?))
}

pub(super) fn set_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    match given.kind(0) {
        DataType::List(element) if is_float(element.data_type()) => Err(Refusal::new(
            "collect_set() of float or double is not supported in dialect \"spark\"",
            "Spark keeps each NaN: write collect_set(CAST(x AS STRING))",
        )),
        DataType::List(element) if is_atomic(element.data_type()) => lists::same_list(given),
        _ => Err(Refusal::new(
            "collect_set() does not take such values in dialect \"spark\"",
            "it takes single values: write collect_set(to_json(x))",
        )),
    }
}

/// The values of a group, each once, in the order in which they come first.
pub(super) fn set(rows: &Rows<'_>) -> Result<ArrayRef> {
    let set = lists::array_distinct(rows)?;
    without_null(&set)
}

fn without_null(column: &ArrayRef) -> Result<ArrayRef> {
    let list = column.as_list::<i32>();
    if list.null_count() == 0 {
        return Ok(Arc::clone(column));
    }
    let DataType::List(element) = column.data_type() else {
        return exec_err!("a list is expected");
    };
    // The places of NULL are empty already.
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(element),
        list.offsets().clone(),
        Arc::clone(list.values()),
        None,
    )?))
}

/// The numbers of each group.
fn each_group(rows: &Rows<'_>, of: impl Fn(&[f64], usize) -> Option<f64>) -> Result<ArrayRef> {
    let column = rows.column(0)?;
    let Some(list) = column.as_list_opt::<i32>() else {
        return Ok(new_null_array(&DataType::Float64, rows.count));
    };
    let mut results = Vec::with_capacity(rows.count);
    for row in 0..rows.count {
        if list.is_null(row) {
            results.push(None);
            continue;
        }
        let values = list.value(row);
        let reader = Reader::new(&values)?;
        let numbers = (0..values.len()).filter_map(|at| reader.get(at)?.double());
        results.push(of(&numbers.collect::<Vec<_>>(), row));
    }
    Ok(Arc::new(arrow::array::Float64Array::from(results)))
}

/// Whether a group's values count as numbers: of this aggregate.
fn numbers(given: &Given<'_>, kind: &DataType) -> Result<(), Refusal> {
    let name = given
        .constant_text(1)
        .ok()
        .flatten()
        .unwrap_or("percentile");
    match kind {
        number if is_number(number) => Ok(()),
        DataType::Utf8 if name != "percentile" => Ok(()),
        other => Err(Refusal::new(
            format!(
                "{name}() does not take {} in dialect \"spark\"",
                types::name(other)
            ),
            format!("cast it: {name}(CAST(x AS DOUBLE))"),
        )),
    }
}

pub(super) fn of_numbers(given: &Given<'_>) -> Result<(), Refusal> {
    match given.kind(0) {
        DataType::List(element) => numbers(given, element.data_type()),
        _ => Ok(()),
    }
}

/// `percentile(list, share)`; with a third argument the largest value counts first.
pub(super) fn percentile(rows: &Rows<'_>) -> Result<ArrayRef> {
    let is_down = rows.args() > 2;
    each_group(rows, |numbers, row| {
        let share = rows
            .row(row)
            .double(1)
            .filter(|share| (0.0..=1.0).contains(share))?;
        let mut sorted = numbers.to_vec();
        sorted.sort_by(|one, two| Value::Double(*one).order(Value::Double(*two)));
        if is_down {
            sorted.reverse();
        }
        let last = sorted.len().checked_sub(1)?;
        let position = last as f64 * share;
        let lower = sorted[position.floor() as usize];
        let higher = sorted[position.ceil() as usize];
        if position.floor() == position.ceil() || lower == higher {
            return Some(lower);
        }
        Some((position.ceil() - position) * lower + (position - position.floor()) * higher)
    })
}

/// Shares up to which Spark takes the smallest value, and from which on the largest.
const SHARE_ERROR: f64 = 1e-4;

/// `percentile_approx(x, 0.5)` has the type of its values; of a list of shares it is a list.
pub(super) fn approximate_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let name = "percentile_approx";
    let value = match given.kind(0) {
        DataType::List(element) => types::plain(element.data_type()),
        _ => DataType::Null,
    };
    if !is_number(&value) && !types::is_time(&value) && value != DataType::Null {
        return Err(Refusal::new(
            format!(
                "{name}() does not take {} in dialect \"spark\"",
                types::name(&value)
            ),
            format!("cast it: {name}(CAST(x AS DOUBLE), 0.5)"),
        ));
    }
    match given.kind(1) {
        share if is_number(share) => Ok(value),
        DataType::List(share) if is_number(share.data_type()) => Ok(DataType::List(Arc::new(
            Field::new_list_field(value, false),
        ))),
        _ => Err(Refusal::new(
            format!("{name}() without shares in dialect \"spark\""),
            format!("write {name}(x, 0.5) or {name}(x, array(0.25, 0.75))"),
        )),
    }
}

/// The value that this share of the values does not exceed. Spark's is within its accuracy of it,
/// and is it in groups of fewer than 5,000 values.
fn at_share(sorted: &[f64], share: f64) -> Option<f64> {
    if !(0.0..=1.0).contains(&share) {
        return None;
    }
    let rank = (share * sorted.len() as f64).ceil() as usize;
    match share {
        _ if share <= SHARE_ERROR => sorted.first().copied(),
        _ if share >= 1.0 - SHARE_ERROR => sorted.last().copied(),
        _ => sorted.get(rank.saturating_sub(1)).copied(),
    }
}

/// The values as numbers, as Spark sorts them.
fn sorted_numbers(values: &ArrayRef) -> Result<Vec<f64>> {
    let reader = Reader::new(values)?;
    let number = |at: usize| match reader.get(at)? {
        Value::Date(days) => Some(f64::from(days)),
        Value::Time(micros) => Some(micros as f64),
        other => other.double(),
    };
    let mut sorted: Vec<f64> = (0..values.len()).filter_map(number).collect();
    sorted.sort_by(|one, two| Value::Double(*one).order(Value::Double(*two)));
    Ok(sorted)
}

pub(super) fn percentile_approx(rows: &Rows<'_>) -> Result<ArrayRef> {
    let column = rows.column(0)?;
    let Some(list) = column.as_list_opt::<i32>() else {
        return Ok(new_null_array(rows.gives, rows.count));
    };
    let all_shares = rows.column(1)?;
    let is_list = matches!(rows.gives, DataType::List(_));
    let mut numbers: Vec<Option<f64>> = vec![];
    let mut lengths = vec![];
    let mut valid = vec![];
    for row in 0..rows.count {
        let sorted = match list.is_valid(row) {
            true => sorted_numbers(&list.value(row))?,
            false => vec![],
        };
        let shares = match all_shares.as_list_opt::<i32>() {
            Some(shares) => shares.value(row),
            None => all_shares.slice(row, 1),
        };
        let reader = Reader::new(&shares)?;
        let before = numbers.len();
        if !is_list || !sorted.is_empty() {
            let share = |at: usize| reader.get(at).and_then(Value::double);
            let shares = (0..shares.len()).map(share);
            numbers.extend(shares.map(|share| at_share(&sorted, share?)));
        }
        lengths.push(numbers.len() - before);
        valid.push(!sorted.is_empty());
    }
    let of_value = match rows.gives {
        DataType::List(element) => element.data_type(),
        other => other,
    };
    let values = collected(numbers.len(), of_value, |at| {
        let number = numbers[at]?;
        Some(match of_value {
            DataType::Date32 => Value::Date(number as i32),
            time if *time == types::TIME => Value::Time(number as i64),
            _ => Value::Double(number),
        })
    })?;
    let DataType::List(element) = rows.gives else {
        return Ok(values);
    };
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(element),
        OffsetBuffer::from_lengths(lengths),
        values,
        Some(valid.into()),
    )?))
}

/// The sums of powers of the distances from the mean.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: f64,
    mean: f64,
    second: f64,
    third: f64,
    fourth: f64,
}

impl Moments {
    fn of(numbers: &[f64]) -> Self {
        numbers
            .iter()
            .fold(Self::default(), |moments, number| moments.with(*number))
    }

    fn with(self, value: f64) -> Self {
        let count = self.count + 1.0;
        let delta = value - self.mean;
        let part = delta / count;
        let second = self.second + delta * (delta - part);
        let delta_2 = delta * delta;
        let part_2 = part * part;
        let third = self.third - 3.0 * part * second + delta * (delta_2 - part_2);
        let fourth = self.fourth - 4.0 * part * third - 6.0 * part_2 * second
            + delta * (delta * delta_2 - part * part_2);
        Self {
            count,
            mean: self.mean + part,
            second,
            third,
            fourth,
        }
    }

    fn result(self, name: &str) -> Option<f64> {
        let Self { count, second, .. } = self;
        if count == 0.0 {
            return None;
        }
        let sample = || (count != 1.0).then(|| second / (count - 1.0));
        match name {
            "stddev_pop" => Some((second / count).sqrt()),
            "var_pop" => Some(second / count),
            "stddev" | "stddev_samp" | "std" => sample().map(f64::sqrt),
            "variance" | "var_samp" => sample(),
            "skewness" if second == 0.0 => None,
            "skewness" => Some(count.sqrt() * self.third / (second * second * second).sqrt()),
            "kurtosis" if second == 0.0 => None,
            "kurtosis" => Some(count * self.fourth / (second * second) - 3.0),
            _ => None,
        }
    }
}

pub(super) fn moment(rows: &Rows<'_>) -> Result<ArrayRef> {
    let name = rows.constant_text(1).unwrap_or_default();
    each_group(rows, |numbers, _| Moments::of(numbers).result(&name))
}

fn pair_kinds<'g>(given: &'g Given<'_>) -> Option<[&'g DataType; 2]> {
    match given.kind(0) {
        DataType::List(element) => match element.data_type() {
            DataType::Struct(fields) => Some([fields[0].data_type(), fields[1].data_type()]),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn of_pairs(given: &Given<'_>) -> Result<(), Refusal> {
    let mut kinds = pair_kinds(given).into_iter().flatten();
    kinds.try_for_each(|kind| numbers(given, &types::plain(kind)))
}

/// The pairs of a group as two columns.
fn each_pair<T>(
    rows: &Rows<'_>,
    of: impl Fn(&Reader, &Reader, std::ops::Range<usize>) -> Option<T>,
) -> Result<(Vec<Option<T>>, Option<ArrayRef>)> {
    let column = rows.column(0)?;
    let Some(list) = column.as_list_opt::<i32>() else {
        return Ok(((0..rows.count).map(|_| None).collect(), None));
    };
    let Some(pairs) = list.values().as_struct_opt() else {
        return exec_err!("pairs are expected");
    };
    let one = Reader::new(pairs.column(0))?;
    let two = Reader::new(pairs.column(1))?;
    let offsets = list.value_offsets();
    let result = |row: usize| match list.is_valid(row) {
        true => of(&one, &two, offsets[row] as usize..offsets[row + 1] as usize),
        false => None,
    };
    let results = (0..list.len()).map(result).collect();
    Ok((results, Some(Arc::clone(pairs.column(0)))))
}

pub(super) fn covariance(rows: &Rows<'_>) -> Result<ArrayRef> {
    let name = rows.constant_text(1).unwrap_or_default();
    let (results, _) = each_pair(rows, |one, two, places| {
        let mut count = 0.0;
        let mut means = [0.0; 2];
        let mut products = 0.0;
        let mut squares = [0.0; 2];
        for place in places {
            let pair = (one.get(place), two.get(place));
            let (Some(x), Some(y)) = pair else { continue };
            let (Some(x), Some(y)) = (x.double(), y.double()) else {
                continue;
            };
            count += 1.0;
            let dx = x - means[0];
            let dy = y - means[1];
            means[0] += dx / count;
            means[1] += dy / count;
            products += dx * (y - means[1]);
            squares[0] += dx * (x - means[0]);
            squares[1] += dy * (y - means[1]);
        }
        match name.as_str() {
            _ if count == 0.0 => None,
            "covar_pop" => Some(products / count),
            _ if count == 1.0 => None,
            "covar_samp" => Some(products / (count - 1.0)),
            "corr" => Some(products / (squares[0] * squares[1]).sqrt()),
            _ => None,
        }
    })?;
    Ok(Arc::new(arrow::array::Float64Array::from(results)))
}

/// `max_by(x, y)`: the x beside the largest y; of equal ones the last.
pub(super) fn extreme_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let name = given.constant_text(1)?.unwrap_or_default();
    match pair_kinds(given) {
        Some([value, by]) if is_atomic(&types::plain(by)) => Ok(value.clone()),
        Some([_, by]) => Err(Refusal::new(
            format!(
                "{name}() by {} is not supported in dialect \"spark\"",
                types::name(by)
            ),
            "order by a field of it",
        )),
        None => Ok(DataType::Null),
    }
}

pub(super) fn extreme_by(rows: &Rows<'_>) -> Result<ArrayRef> {
    let name = rows.constant_text(1).unwrap_or_default();
    let wanted = match name.as_str() {
        "max_by" => Ordering::Greater,
        _ => Ordering::Less,
    };
    let (places, values) = each_pair(rows, |_, by, places| {
        let mut best: Option<(usize, Value<'_>)> = None;
        for place in places {
            let Some(value) = by.get(place) else { continue };
            let is_better = best.is_none_or(|(_, best)| {
                let order = value.order(best);
                order == wanted || order == Ordering::Equal
            });
            if is_better {
                best = Some((place, value));
            }
        }
        best.map(|(place, _)| place as u32)
    })?;
    let Some(values) = values else {
        return Ok(new_null_array(rows.gives, rows.count));
    };
    Ok(take(&values, &UInt32Array::from(places), None)?)
}

/// `bit_and`, `bit_or` and `bit_xor` have the type of their numbers.
pub(super) fn bits_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let element = lists::element_type(given)?;
    if types::is_whole(&element) {
        return Ok(element);
    }
    let name = given.constant_text(1)?.unwrap_or("bit_and");
    Err(Refusal::new(
        format!(
            "{name}() does not take {} in dialect \"spark\"",
            types::name(&element)
        ),
        format!("cast it: {name}(CAST(x AS BIGINT))"),
    ))
}

pub(super) fn bits(rows: &Rows<'_>) -> Result<ArrayRef> {
    let of: fn(i64, i64) -> i64 = match rows.constant_text(1).as_deref() {
        Some("bit_or") => |one, two| one | two,
        Some("bit_xor") => |one, two| one ^ two,
        _ => |one, two| one & two,
    };
    folded(rows, |numbers| {
        numbers
            .map(|number| number.long())
            .reduce(|one, two| Some(of(one?, two?)))?
            .map(Value::Whole)
    })
}

/// `try_sum(x)`: NULL where the sum does not fit.
pub(super) fn sum_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let element = lists::element_type(given)?;
    Ok(match &element {
        whole if types::is_whole(whole) => DataType::Int64,
        DataType::Decimal128(digits, scale) => {
            DataType::Decimal128((digits + 10).min(types::DIGITS_MAX), *scale)
        }
        float if is_float(float) => DataType::Float64,
        other => {
            return Err(Refusal::new(
                format!(
                    "try_sum() does not take {} in dialect \"spark\"",
                    types::name(other)
                ),
                "cast it: try_sum(CAST(x AS DOUBLE))",
            ));
        }
    })
}

pub(super) fn sum(rows: &Rows<'_>) -> Result<ArrayRef> {
    match rows.gives {
        DataType::Decimal128(digits, scale) => folded(rows, |numbers| {
            let all = numbers.map(|number| number.decimal(*digits, *scale));
            let sum = all.reduce(|one, two| one?.checked_add(two?))??;
            super::number::fits(sum, *digits).then_some(Value::Decimal(sum, *scale))
        }),
        DataType::Float64 => folded(rows, |numbers| {
            let all = numbers.filter_map(Value::double);
            all.reduce(|one, two| one + two).map(Value::Double)
        }),
        _ => folded(rows, |numbers| {
            let all = numbers.map(Value::long);
            all.reduce(|one, two| one?.checked_add(two?))?
                .map(Value::Whole)
        }),
    }
}

/// What the values of each group come to.
fn folded(
    rows: &Rows<'_>,
    of: impl for<'v> Fn(&mut dyn Iterator<Item = Value<'v>>) -> Option<Value<'v>>,
) -> Result<ArrayRef> {
    let column = rows.column(0)?;
    let Some(list) = column.as_list_opt::<i32>() else {
        return Ok(new_null_array(rows.gives, rows.count));
    };
    let values = Reader::new(list.values())?;
    let offsets = list.value_offsets();
    collected(rows.count, rows.gives, |row| {
        if list.is_null(row) {
            return None;
        }
        let places = offsets[row] as usize..offsets[row + 1] as usize;
        of(&mut places.filter_map(|at| values.get(at)))
    })
}
