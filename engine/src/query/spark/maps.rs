//! Functions that make maps.
//!
//! Owns: maps of keys and values, of entries, of other maps. Does not own: what is read from a map
//! (`nested`).
//! Rule: where Spark stops a job (a key that is NULL, a key twice), the map is NULL.

use super::arithmetic::not_compared;
use super::call::{Given, Refusal, Rows};
use super::ddl;
use super::lists::order_of_values;
use super::types::{self, any, is_atomic, is_float};
use super::value::{Reader, cast};
use arrow::array::{Array, ArrayRef, AsArray, MapArray, StringArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::interleave;
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use std::ops::Range;
use std::sync::Arc;

fn map_of(given: &Given<'_>, key: &DataType, value: &DataType) -> Result<DataType, Refusal> {
    if !is_atomic(key) || is_float(key) || *key == DataType::Null {
        return Err(given.refuse(
            format!("does not make keys of {}", types::name(key)),
            "keys are texts, whole numbers, decimals, dates or times",
        ));
    }
    Ok(ddl::map(key.clone(), value.clone()))
}

/// `map(key, value, key, value, ...)`.
pub(super) fn map_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    if given.types.len() % 2 == 1 {
        return Err(given.refuse("takes keys and values in turn", "write map('a', x, 'b', y)"));
    }
    let of = |from: usize| {
        let kinds: Vec<&DataType> = given.types.iter().skip(from).step_by(2).collect();
        match kinds.iter().all(|kind| kind == &kinds[0]) {
            true => Some(kinds[0].clone()),
            false => any(kinds.iter().copied()),
        }
    };
    match (of(0), of(1)) {
        (Some(key), Some(value)) if value != DataType::Null => map_of(given, &key, &value),
        _ => Err(given.refuse("has values of no common type", "cast them to one type")),
    }
}

/// A pick: which column, and which row of it.
pub(super) type Pick = (usize, usize);

fn made(
    rows: &Rows<'_>,
    keys: &[ArrayRef],
    values: &[ArrayRef],
    each: impl Fn(usize) -> Option<Vec<Pick>>,
) -> Result<ArrayRef> {
    picked(rows.gives, rows.count, keys, values, each)
}

/// So many maps of the chosen keys and values; `None`: NULL.
pub(super) fn picked(
    gives: &DataType,
    count: usize,
    keys: &[ArrayRef],
    values: &[ArrayRef],
    each: impl Fn(usize) -> Option<Vec<Pick>>,
) -> Result<ArrayRef> {
    let DataType::Map(entries, is_sorted) = gives else {
        return exec_err!("a map is expected");
    };
    let DataType::Struct(fields) = entries.data_type() else {
        return exec_err!("a map has entries");
    };
    let of = |columns: &[ArrayRef], kind: &DataType| {
        let columns = columns.iter().map(|column| cast_nested(column, kind));
        columns.collect::<Result<Vec<_>>>()
    };
    let keys = of(keys, fields[0].data_type())?;
    let values = of(values, fields[1].data_type())?;
    let readers = keys.iter().map(Reader::new).collect::<Result<Vec<_>>>()?;
    let is_valid = |picks: &Vec<Pick>| {
        let mut sorted: Vec<_> = picks
            .iter()
            .map(|(at, row)| readers[*at].get(*row))
            .collect();
        sorted.sort_by(|one, two| order_of_values(*one, *two));
        let has_null = sorted.first().is_some_and(Option::is_none);
        !has_null
            && sorted
                .windows(2)
                .all(|two| order_of_values(two[0], two[1]).is_ne())
    };
    let mut picks = vec![];
    let mut lengths = vec![];
    let mut valid = vec![];
    for row in 0..count {
        let found = each(row).filter(is_valid);
        valid.push(found.is_some());
        let found = found.unwrap_or_default();
        lengths.push(found.len());
        picks.extend(found);
    }
    let picked = |columns: &[ArrayRef]| {
        let columns: Vec<&dyn Array> = columns.iter().map(AsRef::as_ref).collect();
        interleave(&columns, &picks)
    };
    let columns = vec![picked(&keys)?, picked(&values)?];
    let found = StructArray::try_new_with_length(fields.clone(), columns, None, picks.len())?;
    Ok(Arc::new(MapArray::try_new(
        Arc::clone(entries),
        OffsetBuffer::from_lengths(lengths),
        found,
        Some(NullBuffer::from(valid)),
        *is_sorted,
    )?))
}

fn cast_nested(column: &ArrayRef, kind: &DataType) -> Result<ArrayRef> {
    match kind.is_nested() {
        true if column.data_type() == kind => Ok(Arc::clone(column)),
        true => Ok(arrow::compute::cast(column, kind)?),
        false => cast(column, kind),
    }
}

pub(super) fn map(rows: &Rows<'_>) -> Result<ArrayRef> {
    let columns = (0..rows.args())
        .map(|at| rows.column(at))
        .collect::<Result<Vec<_>>>()?;
    let keys: Vec<ArrayRef> = columns.iter().step_by(2).cloned().collect();
    let values: Vec<ArrayRef> = columns.iter().skip(1).step_by(2).cloned().collect();
    made(rows, &keys, &values, |row| {
        Some((0..keys.len()).map(|at| (at, row)).collect())
    })
}

fn elements(given: &Given<'_>, place: usize) -> Result<DataType, Refusal> {
    match given.kind(place) {
        DataType::List(element) => Ok(types::plain(element.data_type())),
        _ => Err(given.refuse("takes lists", "array(a, b) makes one")),
    }
}

pub(super) fn of_arrays_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    map_of(given, &elements(given, 0)?, &elements(given, 1)?)
}

fn places(offsets: &[i32], row: usize) -> Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

pub(super) fn map_from_arrays(rows: &Rows<'_>) -> Result<ArrayRef> {
    let one = rows.column(0)?;
    let two = rows.column(1)?;
    let (Some(keys), Some(values)) = (one.as_list_opt::<i32>(), two.as_list_opt::<i32>()) else {
        return exec_err!("map_from_arrays() takes lists");
    };
    // Values are taken to the places of their keys.
    let mut aligned: Vec<Option<u32>> = vec![None; keys.values().len()];
    let mut fits = vec![false; rows.count];
    for (row, fits) in fits.iter_mut().enumerate() {
        let of_keys = places(keys.value_offsets(), row);
        let of_values = places(values.value_offsets(), row);
        *fits = keys.is_valid(row) && values.is_valid(row) && of_keys.len() == of_values.len();
        if *fits {
            for (key, value) in of_keys.zip(of_values) {
                aligned[key] = Some(value as u32);
            }
        }
    }
    let aligned = arrow::compute::take(
        values.values(),
        &arrow::array::UInt32Array::from(aligned),
        None,
    )?;
    made(rows, &[Arc::clone(keys.values())], &[aligned], |row| {
        let picks = places(keys.value_offsets(), row).map(|place| (0, place));
        fits[row].then(|| picks.collect())
    })
}

pub(super) fn of_entries_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    match elements(given, 0)? {
        DataType::Struct(fields) if fields.len() == 2 => {
            let key = types::plain(fields[0].data_type());
            map_of(given, &key, fields[1].data_type())
        }
        _ => Err(given.refuse(
            "takes a list of structs with two fields",
            "write map_from_entries(array(struct('a', x)))",
        )),
    }
}

pub(super) fn map_from_entries(rows: &Rows<'_>) -> Result<ArrayRef> {
    let column = rows.column(0)?;
    let Some(list) = column.as_list_opt::<i32>() else {
        return exec_err!("map_from_entries() takes a list");
    };
    let Some(entries) = list.values().as_struct_opt() else {
        return exec_err!("map_from_entries() takes a list of structs");
    };
    let keys = [Arc::clone(entries.column(0))];
    let values = [Arc::clone(entries.column(1))];
    made(rows, &keys, &values, |row| {
        let mut picks = places(list.value_offsets(), row);
        if list.is_null(row) || picks.clone().any(|place| entries.is_null(place)) {
            return None;
        }
        Some(picks.by_ref().map(|place| (0, place)).collect())
    })
}

pub(super) fn joined_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    for place in 1..given.types.len() {
        if given.kind(place) != given.kind(0) {
            return Err(not_compared(given.kind(0), given.kind(place)));
        }
    }
    Ok(given.kind(0).clone())
}

pub(super) fn map_concat(rows: &Rows<'_>) -> Result<ArrayRef> {
    let columns = (0..rows.args())
        .map(|at| rows.column(at))
        .collect::<Result<Vec<_>>>()?;
    let mut maps = vec![];
    for column in &columns {
        match column.as_map_opt() {
            Some(map) => maps.push(map),
            None => return exec_err!("map_concat() takes maps"),
        }
    }
    let keys: Vec<ArrayRef> = maps.iter().map(|map| Arc::clone(map.keys())).collect();
    let values: Vec<ArrayRef> = maps.iter().map(|map| Arc::clone(map.values())).collect();
    made(rows, &keys, &values, |row| {
        let mut picks = vec![];
        for (at, map) in maps.iter().enumerate() {
            if map.is_null(row) {
                return None;
            }
            picks.extend(places(map.value_offsets(), row).map(|place| (at, place)));
        }
        Some(picks)
    })
}

/// Signs that mean something in a pattern.
const OF_PATTERNS: &str = "\\.[]{}()*+?^$|";

/// `str_to_map(text, ',', ':')`: Spark reads the signs as patterns, and these mean themselves.
pub(super) fn of_text_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    for place in [1, 2] {
        let Some(sign) = given.constant_text(place)? else {
            continue;
        };
        if sign.is_empty() || sign.contains(|letter| OF_PATTERNS.contains(letter)) {
            return Err(given.refuse(
                format!("does not part at '{sign}'"),
                "it parts at a plain text such as ',' or '=>'",
            ));
        }
    }
    Ok(ddl::map(DataType::Utf8, DataType::Utf8))
}

pub(super) fn str_to_map(rows: &Rows<'_>) -> Result<ArrayRef> {
    let sign = |place: usize, default: &str| match place < rows.args() {
        true => rows.constant_text(place),
        false => Some(default.to_owned()),
    };
    let (of_pairs, of_values) = (sign(1, ","), sign(2, ":"));
    let mut keys = vec![];
    let mut values = vec![];
    let mut places = vec![];
    for row in 0..rows.count {
        let from = keys.len();
        let text = rows.row(row).text(0);
        if let (Some(text), Some(of_pairs), Some(of_values)) = (&text, &of_pairs, &of_values) {
            for pair in text.split(of_pairs.as_str()) {
                let (key, value) = match pair.split_once(of_values.as_str()) {
                    Some((key, value)) => (key, Some(value.to_owned())),
                    None => (pair, None),
                };
                keys.push(key.to_owned());
                values.push(value);
            }
            places.push(Some(from..keys.len()));
        } else {
            places.push(None);
        }
    }
    let keys: ArrayRef = Arc::new(StringArray::from(keys));
    let values: ArrayRef = Arc::new(StringArray::from(values));
    made(rows, &[keys], &[values], |row| {
        Some(places[row].clone()?.map(|at| (0, at)).collect())
    })
}
