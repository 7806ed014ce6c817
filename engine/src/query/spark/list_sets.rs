//! Functions that make a list of elements of several lists.
//!
//! Owns: unions, differences, concatenations, and their elements' order. Does not own: functions on
//! one list (`lists`), maps (`maps`).
//! Rule: lists have elements of one type; NULL is equal to NULL, as Spark has it for sets.

use super::arithmetic::not_compared;
use super::call::{Given, Refusal, Rows};
use super::lists::{self, order_in_set, plain_elements};
use super::types::{self, is_atomic};
use super::value::{Reader, Value, cast};
use crate::query::bounded;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, ListArray, StringArray, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, exec_err};
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

/// Lists of one type.
pub(super) fn same_lists(given: &Given<'_>) -> Result<DataType, Refusal> {
    let element = |kind: &DataType| match kind {
        DataType::List(element) => Some(element.data_type().clone()),
        _ => None,
    };
    let first = element(given.kind(0));
    for place in 1..given.types.len() {
        if element(given.kind(place)) != first {
            return Err(not_compared(given.kind(0), given.kind(place)));
        }
    }
    lists::same_list(given)
}

/// Lists of one type of single values.
pub(super) fn same_plain_lists(given: &Given<'_>) -> Result<DataType, Refusal> {
    plain_elements(given)?;
    same_lists(given)
}

pub(super) fn compared_lists(given: &Given<'_>) -> Result<(), Refusal> {
    same_plain_lists(given).map(drop)
}

/// Texts, or lists of one type.
pub(super) fn joined_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    if given
        .types
        .iter()
        .any(|kind| matches!(kind, DataType::List(_)))
    {
        return same_lists(given);
    }
    match given.types.iter().find(|kind| !is_atomic(kind)) {
        Some(other) => Err(given.refuse(
            format!("does not take {}", types::name(other)),
            "it takes texts, or lists of one type",
        )),
        None => Ok(DataType::Utf8),
    }
}

/// A text, or a list of texts.
pub(super) fn texts(given: &Given<'_>) -> Result<(), Refusal> {
    let is_text = |kind: &DataType| match kind {
        DataType::List(element) => types::plain(element.data_type()) == DataType::Utf8,
        single => is_atomic(single),
    };
    match given.types.iter().skip(1).find(|kind| !is_text(kind)) {
        Some(other) => Err(given.refuse(
            format!("does not take {}", types::name(other)),
            "it takes texts and lists of texts",
        )),
        None => Ok(()),
    }
}

/// The lists of a call, read element by element.
struct Lists {
    lists: Vec<ListArray>,
    readers: Vec<Reader>,
}

impl Lists {
    fn of(rows: &Rows<'_>, count: usize) -> Result<Self> {
        let mut lists = vec![];
        let mut readers = vec![];
        for place in 0..count {
            let column = rows.column(place)?;
            let Some(list) = column.as_list_opt::<i32>() else {
                return exec_err!("{}() takes lists", rows.name);
            };
            readers.push(Reader::new(list.values())?);
            lists.push(list.clone());
        }
        Ok(Self { lists, readers })
    }

    /// The places of a row's elements; `None` for NULL.
    fn places(&self, list: usize, row: usize) -> Option<Range<usize>> {
        let array = &self.lists[list];
        let offsets = array.value_offsets();
        let places = offsets[row] as usize..offsets[row + 1] as usize;
        array.is_valid(row).then_some(places)
    }

    fn order(&self, one: (usize, usize), two: (usize, usize)) -> Ordering {
        order_in_set(
            self.readers[one.0].get(one.1),
            self.readers[two.0].get(two.1),
        )
    }

    /// Each element once, where it comes first.
    fn distinct(&self, mut picks: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
        let mut sorted: Vec<usize> = (0..picks.len()).collect();
        sorted.sort_by(|one, two| self.order(picks[*one], picks[*two]));
        sorted.dedup_by(|later, first| self.order(picks[*later], picks[*first]).is_eq());
        sorted.sort_unstable();
        picks = sorted.into_iter().map(|at| picks[at]).collect();
        picks
    }

    fn contains(&self, list: usize, places: Range<usize>, pick: (usize, usize)) -> bool {
        let mut places = places;
        places.any(|place| self.order((list, place), pick).is_eq())
    }
}

/// A list of the elements that are chosen for each row; `None`: NULL.
fn chosen(
    rows: &Rows<'_>,
    values: &[ArrayRef],
    each: impl Iterator<Item = Option<Vec<(usize, usize)>>>,
) -> Result<ArrayRef> {
    let DataType::List(element) = rows.gives else {
        return exec_err!("{}() gives a list", rows.name);
    };
    let mut picks = vec![];
    let mut lengths = vec![];
    let mut valid = vec![];
    for row in each {
        valid.push(row.is_some());
        let row = row.unwrap_or_default();
        lengths.push(row.len());
        picks.extend(row);
    }
    let values: Vec<ArrayRef> = values
        .iter()
        .map(|values| cast(values, element.data_type()))
        .collect::<Result<_>>()?;
    let values: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(element),
        OffsetBuffer::from_lengths(lengths),
        interleave(&values, &picks)?,
        Some(valid.into()),
    )?))
}

fn of_lists(
    rows: &Rows<'_>,
    choose: impl Fn(&Lists, &[Range<usize>]) -> Vec<(usize, usize)>,
) -> Result<ArrayRef> {
    let count = rows.args();
    let lists = Lists::of(rows, count)?;
    let values: Vec<ArrayRef> = lists
        .lists
        .iter()
        .map(|list| Arc::clone(list.values()))
        .collect();
    let each = (0..rows.count).map(|row| {
        let places: Option<Vec<_>> = (0..count).map(|list| lists.places(list, row)).collect();
        places.map(|places| choose(&lists, &places))
    });
    chosen(rows, &values, each)
}

fn all(places: &[Range<usize>]) -> Vec<(usize, usize)> {
    let each = places.iter().enumerate();
    each.flat_map(|(list, places)| places.clone().map(move |place| (list, place)))
        .collect()
}

pub(super) fn array_union(rows: &Rows<'_>) -> Result<ArrayRef> {
    of_lists(rows, |lists, places| lists.distinct(all(places)))
}

pub(super) fn array_intersect(rows: &Rows<'_>) -> Result<ArrayRef> {
    of_lists(rows, |lists, places| {
        let mut picks = lists.distinct(all(&places[..1]));
        picks.retain(|pick| lists.contains(1, places[1].clone(), *pick));
        picks
    })
}

pub(super) fn array_except(rows: &Rows<'_>) -> Result<ArrayRef> {
    of_lists(rows, |lists, places| {
        let mut picks = lists.distinct(all(&places[..1]));
        picks.retain(|pick| !lists.contains(1, places[1].clone(), *pick));
        picks
    })
}

pub(super) fn arrays_overlap(rows: &Rows<'_>) -> Result<ArrayRef> {
    let lists = Lists::of(rows, 2)?;
    let answer = |row: usize| {
        let one = lists.places(0, row)?;
        let two = lists.places(1, row)?;
        let has_null = |list: usize, mut places: Range<usize>| {
            places.any(|place| lists.readers[list].is_null(place))
        };
        let mut known = one
            .clone()
            .filter(|place| !lists.readers[0].is_null(*place));
        if known.any(|place| lists.contains(1, two.clone(), (0, place))) {
            return Some(true);
        }
        let may_be = has_null(0, one.clone()) || has_null(1, two.clone());
        (one.is_empty() || two.is_empty() || !may_be).then_some(false)
    };
    Ok(Arc::new(
        (0..rows.count).map(answer).collect::<BooleanArray>(),
    ))
}

pub(super) fn concat(rows: &Rows<'_>) -> Result<ArrayRef> {
    match rows.gives {
        DataType::Utf8 => super::text::concat(rows),
        _ => of_lists(rows, |_, places| all(places)),
    }
}

pub(super) fn reverse(rows: &Rows<'_>) -> Result<ArrayRef> {
    match rows.gives {
        DataType::Utf8 => super::text::reverse(rows),
        _ => of_lists(rows, |_, places| {
            let mut picks = all(places);
            picks.reverse();
            picks
        }),
    }
}

pub(super) fn array_compact(rows: &Rows<'_>) -> Result<ArrayRef> {
    of_lists(rows, |lists, places| {
        let mut picks = all(places);
        picks.retain(|(_, place)| lists.lists[0].values().is_valid(*place));
        picks
    })
}

pub(super) fn flat_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    match given.kind(0) {
        DataType::List(outer) => match outer.data_type() {
            DataType::List(element) => {
                let element = Field::new_list_field(element.data_type().clone(), true);
                Ok(DataType::List(Arc::new(element)))
            }
            _ => Err(given.refuse(
                "takes a list of lists",
                "array(a, b) makes one of two lists",
            )),
        },
        _ => Err(given.refuse(
            "takes a list of lists",
            "array(a, b) makes one of two lists",
        )),
    }
}

pub(super) fn flatten(rows: &Rows<'_>) -> Result<ArrayRef> {
    let column = rows.column(0)?;
    let Some(outer) = column.as_list_opt::<i32>() else {
        return exec_err!("flatten() takes lists");
    };
    let Some(inner) = outer.values().as_list_opt::<i32>() else {
        return exec_err!("flatten() takes lists of lists");
    };
    let each = (0..rows.count).map(|row| {
        let offsets = outer.value_offsets();
        let mut lists = offsets[row] as usize..offsets[row + 1] as usize;
        if outer.is_null(row) || lists.clone().any(|list| inner.is_null(list)) {
            return None;
        }
        let places = lists.by_ref().flat_map(|list| {
            inner.value_offsets()[list] as usize..inner.value_offsets()[list + 1] as usize
        });
        Some(places.map(|place| (0, place)).collect())
    });
    chosen(rows, &[Arc::clone(inner.values())], each)
}

pub(super) fn repeated_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let element = Field::new_list_field(given.kind(0).clone(), true);
    Ok(DataType::List(Arc::new(element)))
}

pub(super) fn array_repeat(rows: &Rows<'_>) -> Result<ArrayRef> {
    let each = (0..rows.count).map(|row| {
        let times = rows.row(row).int(1)?;
        Some(vec![(0, row); usize::try_from(times).unwrap_or(0)])
    });
    chosen(rows, &[rows.column(0)?], each)
}

/// A list and an element of its type.
pub(super) fn with_element(given: &Given<'_>) -> Result<DataType, Refusal> {
    match given.kind(0) {
        DataType::List(element)
            if element.data_type() == given.kind(1) || *given.kind(1) == DataType::Null =>
        {
            lists::same_list(given)
        }
        other => Err(not_compared(other, given.kind(1))),
    }
}

fn extended(rows: &Rows<'_>, is_first: bool) -> Result<ArrayRef> {
    let lists = Lists::of(rows, 1)?;
    let values = [Arc::clone(lists.lists[0].values()), rows.column(1)?];
    let each = (0..rows.count).map(|row| {
        let mut picks = all(&[lists.places(0, row)?]);
        let at = if is_first { 0 } else { picks.len() };
        picks.insert(at, (1, row));
        Some(picks)
    });
    chosen(rows, &values, each)
}

pub(super) fn array_append(rows: &Rows<'_>) -> Result<ArrayRef> {
    extended(rows, false)
}

pub(super) fn array_prepend(rows: &Rows<'_>) -> Result<ArrayRef> {
    extended(rows, true)
}

/// Most places between a list and what is inserted behind or before it.
const GAP_MAX: usize = 100_000;

/// `array_insert(list, place, element)`: the elements stay of their type.
pub(super) fn with_inserted(given: &Given<'_>) -> Result<DataType, Refusal> {
    if let DataType::List(element) = given.kind(0) {
        let (element, new) = (element.data_type(), given.kind(2));
        let fits = element == new
            || *new == DataType::Null
            || types::of_numbers(element, new).is_some_and(|common| common == *element);
        if !fits {
            return Err(not_compared(element, new));
        }
    }
    lists::same_list(given)
}

/// How many elements are before what is inserted, and the gaps around it; `None` for place 0, at
/// which Spark stops the job.
fn inserted(length: usize, place: i32) -> Option<(usize, usize, usize)> {
    let at = place.unsigned_abs() as usize;
    match place {
        0 => None,
        1.. if at <= length + 1 => Some((at - 1, 0, 0)),
        1.. => Some((length, at - 1 - length, 0)),
        _ if at <= length + 1 => Some((length + 1 - at, 0, 0)),
        _ => Some((0, 0, at - 1 - length)),
    }
}

pub(super) fn array_insert(rows: &Rows<'_>) -> Result<ArrayRef> {
    let lists = Lists::of(rows, 1)?;
    let DataType::List(element) = rows.gives else {
        return exec_err!("array_insert() gives a list");
    };
    let null = new_null_array(element.data_type(), 1);
    let new = match rows.kind(2) {
        DataType::Null => new_null_array(element.data_type(), rows.count),
        _ => rows.column(2)?,
    };
    let values = [Arc::clone(lists.lists[0].values()), new, Arc::clone(&null)];
    let mut all = vec![];
    for row in 0..rows.count {
        let places = lists.places(0, row).zip(rows.row(row).int(1));
        let found = places
            .and_then(|(places, place)| inserted(places.len(), place).map(|found| (places, found)));
        let Some((places, (before, gap_before, gap_behind))) = found else {
            all.push(None);
            continue;
        };
        let gap = gap_before + gap_behind;
        if gap > GAP_MAX {
            return exec_err!(
                "array_insert() leaves a gap of {gap} elements: {GAP_MAX} are the most"
            );
        }
        bounded::charge_copies(rows.name, &[Arc::clone(&null)], |_| gap as u64)?;
        let mut picks: Vec<(usize, usize)> = places.map(|place| (0, place)).collect();
        let behind = picks.split_off(before);
        picks.extend(std::iter::repeat_n((2, 0), gap_before));
        picks.push((1, row));
        picks.extend(std::iter::repeat_n((2, 0), gap_behind));
        picks.extend(behind);
        all.push(Some(picks));
    }
    chosen(rows, &values, all.into_iter())
}

pub(super) fn without_element(given: &Given<'_>) -> Result<DataType, Refusal> {
    lists::element_compared(given)?;
    lists::same_list(given)
}

pub(super) fn array_remove(rows: &Rows<'_>) -> Result<ArrayRef> {
    let lists = Lists::of(rows, 1)?;
    let DataType::List(element) = rows.kind(0) else {
        return exec_err!("array_remove() takes a list");
    };
    let removed = Reader::new(&cast(&rows.column(1)?, element.data_type())?)?;
    let each = (0..rows.count).map(|row| {
        let places = lists.places(0, row)?;
        let removed = removed.get(row)?;
        let stays = |place: &usize| {
            let value = lists.readers[0].get(*place);
            value.is_none_or(|value| value.order(removed) != Ordering::Equal)
        };
        Some(places.filter(stays).map(|place| (0, place)).collect())
    });
    chosen(rows, &[Arc::clone(lists.lists[0].values())], each)
}

pub(super) fn array_size(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.ints(|row| row.list(0).map(|list| list.len() as i32))
}

/// Texts and the texts in lists, NULL left out.
pub(super) fn concat_ws(rows: &Rows<'_>) -> Result<ArrayRef> {
    let mut texts: Vec<Option<String>> = Vec::with_capacity(rows.count);
    for at in 0..rows.count {
        let row = rows.row(at);
        let Some(between) = row.text(0) else {
            texts.push(None);
            continue;
        };
        let mut parts: Vec<String> = vec![];
        for place in 1..row.args() {
            if let Some(list) = row.list(place) {
                let reader = Reader::new(&list)?;
                let each = (0..list.len()).filter_map(|at| reader.get(at).map(Value::text));
                parts.extend(each.map(|text| text.into_owned()));
            } else if let Some(text) = row.text(place) {
                parts.push(text.into_owned());
            }
        }
        texts.push(Some(parts.join(&between)));
    }
    Ok(Arc::new(StringArray::from(texts)))
}
