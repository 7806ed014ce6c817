//! Functions on lists.
//!
//! Owns: what each gives. Does not own: lists of JSON (`json`).
//! Rule: elements are compared as Spark compares them: NULL is equal to nothing.

use super::arithmetic::{indexes, not_compared};
use super::call::{Given, Refusal, Row, Rows};
use super::types::{TIME, any, compared, is_atomic, is_time, is_whole, name};
use super::units;
use super::value::{Reader, Value, cast};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, exec_err};
use std::cmp::Ordering;
use std::sync::Arc;

/// `array(a, b, ...)`.
pub(super) fn array_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let element = any(given.types.iter()).filter(|element| *element != DataType::Null);
    let Some(element) = element else {
        return Err(given.refuse("has elements of no common type", "cast them to one type"));
    };
    Ok(DataType::List(Arc::new(Field::new_list_field(
        element, true,
    ))))
}

pub(super) fn array(rows: &Rows<'_>) -> Result<ArrayRef> {
    let DataType::List(element) = rows.gives else {
        return exec_err!("array() gives a list");
    };
    let mut columns = vec![];
    for place in 0..rows.args() {
        columns.push(cast(&rows.column(place)?, element.data_type())?);
    }
    let columns: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
    let each = columns.len();
    let picks: Vec<(usize, usize)> = (0..rows.count)
        .flat_map(|row| (0..each).map(move |column| (column, row)))
        .collect();
    let values = arrow::compute::interleave(&columns, &picks)?;
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(each, rows.count));
    Ok(Arc::new(ListArray::try_new(
        element.clone(),
        offsets,
        values,
        None,
    )?))
}

/// One element of the list in the first argument; `place`: which, of so many.
pub(super) fn picked(
    rows: &Rows<'_>,
    place: impl Fn(Row<'_>, usize) -> Option<usize>,
) -> Result<ArrayRef> {
    let column = rows.column(0)?;
    let DataType::List(_) = column.data_type() else {
        return exec_err!("{}() takes a list", rows.name);
    };
    let list = column.as_list::<i32>();
    let places = indexes((0..rows.count).map(|row| {
        if list.is_null(row) {
            return None;
        }
        let offsets = list.value_offsets();
        let from = offsets[row] as usize;
        let length = offsets[row + 1] as usize - from;
        place(rows.row(row), length).map(|at| (from + at) as u32)
    }));
    Ok(take(list.values(), &places, None)?)
}

/// A place in a list, from 0.
pub(super) fn item(rows: &Rows<'_>) -> Result<ArrayRef> {
    picked(rows, |row, length| {
        let place = row.int(1)?;
        usize::try_from(place).ok().filter(|place| *place < length)
    })
}

/// `element_at(list, place)`, from 1, or from -1 at the end.
pub(super) fn element_at(rows: &Rows<'_>) -> Result<ArrayRef> {
    picked(rows, |row, length| {
        let place = row.int(1)?;
        let at = match place {
            1.. => place as usize - 1,
            _ => length.checked_sub(place.unsigned_abs() as usize)?,
        };
        (at < length).then_some(at)
    })
}

/// -1 for NULL, as Spark has it with its default settings.
pub(super) fn size(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.ints(|row| Some(row.list(0).map_or(-1, |list| list.len() as i32)))
}

/// Elements that are single values: structs and lists are not compared here.
pub(super) fn plain_elements(given: &Given<'_>) -> Result<(), Refusal> {
    match given.kind(0) {
        DataType::List(element) if !is_atomic(element.data_type()) => Err(given.refuse(
            format!("does not take a list of {}", name(element.data_type())),
            "it takes a list of single values, such as a field of the elements: items.sku",
        )),
        _ => Ok(()),
    }
}

pub(super) fn plain_element(given: &Given<'_>) -> Result<DataType, Refusal> {
    plain_elements(given)?;
    element_type(given)
}

pub(super) fn same_plain_list(given: &Given<'_>) -> Result<DataType, Refusal> {
    plain_elements(given)?;
    same_list(given)
}

pub(super) fn element_compared(given: &Given<'_>) -> Result<(), Refusal> {
    plain_elements(given)?;
    if let DataType::List(element) = given.kind(0)
        && compared(element.data_type(), given.kind(1)).is_none_or(|common| {
            // Elements are not converted to the type of what is looked for.
            // Truth values and texts are compared, and have no common type.
            common != *element.data_type()
                || common == DataType::Boolean && *given.kind(1) == DataType::Utf8
        })
    {
        return Err(not_compared(element.data_type(), given.kind(1)));
    }
    Ok(())
}

pub(super) fn array_contains(rows: &Rows<'_>) -> Result<ArrayRef> {
    let DataType::List(element) = rows.kind(0) else {
        return exec_err!("array_contains() takes a list");
    };
    let wanted = Reader::new(&cast(&rows.column(1)?, element.data_type())?)?;
    let lists: Vec<Option<ArrayRef>> = (0..rows.count).map(|row| rows.row(row).list(0)).collect();
    let mut answers = vec![];
    for (row, list) in lists.into_iter().enumerate() {
        let (Some(list), Some(wanted)) = (list, wanted.get(row)) else {
            answers.push(None);
            continue;
        };
        let elements = Reader::new(&list)?;
        let mut places = 0..list.len();
        let found = places.any(|place| {
            elements
                .get(place)
                .is_some_and(|one| one.order(wanted) == Ordering::Equal)
        });
        let has_null = list.null_count() > 0;
        answers.push(match (found, has_null) {
            (true, _) => Some(true),
            (false, true) => None,
            (false, false) => Some(false),
        });
    }
    let answers: arrow::array::BooleanArray = answers.into_iter().collect();
    Ok(Arc::new(answers))
}

pub(super) fn array_position(rows: &Rows<'_>) -> Result<ArrayRef> {
    let DataType::List(element) = rows.kind(0) else {
        return exec_err!("array_position() takes a list");
    };
    let wanted = Reader::new(&cast(&rows.column(1)?, element.data_type())?)?;
    let mut answers = vec![];
    for row in 0..rows.count {
        let (Some(list), Some(wanted)) = (rows.row(row).list(0), wanted.get(row)) else {
            answers.push(None);
            continue;
        };
        let elements = Reader::new(&list)?;
        let place = (0..list.len()).position(|place| {
            elements
                .get(place)
                .is_some_and(|one| one.order(wanted) == Ordering::Equal)
        });
        answers.push(Some(place.map_or(0, |place| place as i64 + 1)));
    }
    Ok(Arc::new(
        answers.into_iter().collect::<arrow::array::Int64Array>(),
    ))
}

pub(super) fn array_join(rows: &Rows<'_>) -> Result<ArrayRef> {
    let lists: Vec<Option<ArrayRef>> = (0..rows.count).map(|row| rows.row(row).list(0)).collect();
    let mut texts = vec![];
    for (row, list) in lists.into_iter().enumerate() {
        let (Some(list), Some(between)) = (list, rows.row(row).text(1)) else {
            texts.push(None);
            continue;
        };
        let elements = Reader::new(&list)?;
        let instead = rows.row(row).text(2);
        if rows.args() > 2 && instead.is_none() {
            texts.push(None);
            continue;
        }
        let parts: Vec<_> = (0..list.len())
            .filter_map(|place| elements.get(place).map(Value::text).or(instead.clone()))
            .collect();
        texts.push(Some(parts.join(&between)));
    }
    Ok(Arc::new(
        texts.into_iter().collect::<arrow::array::StringArray>(),
    ))
}

pub(super) fn same_list(given: &Given<'_>) -> Result<DataType, Refusal> {
    match given.kind(0) {
        DataType::List(element) => Ok(DataType::List(Arc::new(Field::new_list_field(
            element.data_type().clone(),
            true,
        )))),
        _ => Err(given.refuse("takes a list", "array(a, b) makes one")),
    }
}

/// The order of the elements of a set, in which -0.0 and 0.0 are two.
pub(super) fn order_in_set(one: Option<Value<'_>>, two: Option<Value<'_>>) -> Ordering {
    let is_negative = |value: Option<Value<'_>>| match value {
        Some(Value::Float(value)) => value == 0.0 && value.is_sign_negative(),
        Some(Value::Double(value)) => value == 0.0 && value.is_sign_negative(),
        _ => false,
    };
    order_of_values(one, two).then_with(|| is_negative(two).cmp(&is_negative(one)))
}

/// A list of each row's elements at the chosen places.
fn rearranged(
    rows: &Rows<'_>,
    choose: impl Fn(Row<'_>, &Reader, usize) -> Option<Vec<usize>>,
) -> Result<ArrayRef> {
    let DataType::List(element) = rows.gives else {
        return exec_err!("{}() gives a list", rows.name);
    };
    let column = rows.column(0)?;
    if !matches!(column.data_type(), DataType::List(_)) {
        return Ok(arrow::array::new_null_array(rows.gives, rows.count));
    }
    let list = column.as_list::<i32>();
    let mut picks: Vec<u32> = vec![];
    let mut lengths = vec![];
    let mut valid = vec![];
    for row in 0..rows.count {
        let chosen = match list.is_valid(row) {
            true => {
                let values = list.value(row);
                choose(rows.row(row), &Reader::new(&values)?, values.len())
            }
            false => None,
        };
        let from = list.value_offsets()[row] as u32;
        valid.push(chosen.is_some());
        let chosen = chosen.unwrap_or_default();
        lengths.push(chosen.len());
        picks.extend(chosen.into_iter().map(|place| from + place as u32));
    }
    let values = take(list.values(), &UInt32Array::from(picks), None)?;
    Ok(Arc::new(ListArray::try_new(
        element.clone(),
        OffsetBuffer::from_lengths(lengths),
        values,
        Some(valid.into()),
    )?))
}

fn order_of(elements: &Reader, one: usize, two: usize) -> Ordering {
    order_of_values(elements.get(one), elements.get(two))
}

/// NULL is equal to NULL, and less than everything else.
pub(super) fn order_of_values(one: Option<Value<'_>>, two: Option<Value<'_>>) -> Ordering {
    match (one, two) {
        (Some(one), Some(two)) => one.order(two),
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
    }
}

/// Ascending with NULL first, or descending with NULL last.
pub(super) fn sort_array(rows: &Rows<'_>) -> Result<ArrayRef> {
    rearranged(rows, |row, elements, length| {
        let is_descending = row.has(1) && !row.bool(1)?;
        let mut places: Vec<usize> = (0..length).collect();
        places.sort_by(|one, two| {
            let order = order_of(elements, *one, *two);
            if is_descending {
                order.reverse()
            } else {
                order
            }
        });
        Some(places)
    })
}

/// Ascending with NULL last.
pub(super) fn array_sort(rows: &Rows<'_>) -> Result<ArrayRef> {
    rearranged(rows, |_, elements, length| {
        let mut places: Vec<usize> = (0..length).collect();
        places.sort_by(|one, two| {
            let nulls = elements.is_null(*one).cmp(&elements.is_null(*two));
            nulls.then_with(|| order_of(elements, *one, *two))
        });
        Some(places)
    })
}

/// `sequence(from, to, step)` has whole numbers; `sequence(from, to)` may have days.
pub(super) fn sequence_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let element = match given.types.as_slice() {
        [DataType::Date32, DataType::Date32] => Some(DataType::Date32),
        [one, two] if is_time(one) && is_time(two) => Some(TIME),
        types => any(types.iter()).filter(is_whole),
    };
    let Some(element) = element else {
        return Err(given.refuse(
            "takes whole numbers, or two times and an interval",
            "write sequence(1, 5), or sequence(from, to, INTERVAL 1 DAY)",
        ));
    };
    Ok(DataType::List(Arc::new(Field::new_list_field(
        element, false,
    ))))
}

pub(super) fn sequence(rows: &Rows<'_>) -> Result<ArrayRef> {
    let DataType::List(element) = rows.gives else {
        return exec_err!("sequence() gives a list");
    };
    if is_time(element.data_type()) {
        return units::series_of_days(rows);
    }
    let of_row = |row: Row<'_>| -> Option<Vec<i64>> {
        let (from, to) = (row.long(0)?, row.long(1)?);
        let step = match row.has(2) {
            true => row.long(2)?,
            false if from <= to => 1,
            false => -1,
        };
        // Spark stops the job where the step leads away.
        if (step == 0 && from != to) || (step > 0 && from > to) || (step < 0 && from < to) {
            return None;
        }
        let next = |at: &i64| at.checked_add(step).filter(|_| step != 0);
        let all = std::iter::successors(Some(from), next);
        Some(
            all.take_while(|at| if step < 0 { *at >= to } else { *at <= to })
                .collect(),
        )
    };
    let lists: Vec<_> = (0..rows.count).map(|row| of_row(rows.row(row))).collect();
    let lengths = lists.iter().map(|list| list.as_ref().map_or(0, Vec::len));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let valid = lists.iter().map(Option::is_some).collect();
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(
        lists.iter().flatten().flatten().copied(),
    ));
    let numbers = arrow::compute::cast(&numbers, element.data_type())?;
    Ok(Arc::new(ListArray::try_new(
        element.clone(),
        offsets,
        numbers,
        Some(valid),
    )?))
}

pub(super) fn array_distinct(rows: &Rows<'_>) -> Result<ArrayRef> {
    rearranged(rows, |_, elements, length| {
        let mut sorted: Vec<usize> = (0..length).collect();
        let order = |one: usize, two: usize| order_in_set(elements.get(one), elements.get(two));
        sorted.sort_by(|one, two| order(*one, *two));
        sorted.dedup_by(|later, first| order(*later, *first) == Ordering::Equal);
        sorted.sort_unstable();
        Some(sorted)
    })
}

/// `slice(list, start, length)`, from 1, or from -1 at the end.
pub(super) fn slice(rows: &Rows<'_>) -> Result<ArrayRef> {
    rearranged(rows, |row, _, length| {
        let start = row.int(1)?;
        let count = usize::try_from(row.int(2)?).unwrap_or(0);
        let from = match start {
            1.. => start as usize - 1,
            _ => match length.checked_sub(start.unsigned_abs() as usize) {
                Some(from) => from,
                None => return Some(vec![]),
            },
        };
        Some((from.min(length)..from.saturating_add(count).min(length)).collect())
    })
}

pub(super) fn element_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    match given.kind(0) {
        DataType::List(element) => Ok(element.data_type().clone()),
        _ => Err(given.refuse("takes a list", "array(a, b) makes one")),
    }
}

fn extreme(rows: &Rows<'_>, wanted: Ordering) -> Result<ArrayRef> {
    let column = rows.column(0)?;
    if !matches!(column.data_type(), DataType::List(_)) {
        return Ok(arrow::array::new_null_array(rows.gives, rows.count));
    }
    let list = column.as_list::<i32>();
    let elements = Reader::new(list.values())?;
    let places = (0..rows.count).map(|row| {
        if list.is_null(row) {
            return None;
        }
        let offsets = list.value_offsets();
        let mut best: Option<usize> = None;
        for place in offsets[row] as usize..offsets[row + 1] as usize {
            if elements.is_null(place) {
                continue;
            }
            if best.is_none_or(|best| order_of(&elements, place, best) == wanted) {
                best = Some(place);
            }
        }
        best.map(|place| place as u32)
    });
    Ok(take(list.values(), &indexes(places), None)?)
}

pub(super) fn array_max(rows: &Rows<'_>) -> Result<ArrayRef> {
    extreme(rows, Ordering::Greater)
}

pub(super) fn array_min(rows: &Rows<'_>) -> Result<ArrayRef> {
    extreme(rows, Ordering::Less)
}
