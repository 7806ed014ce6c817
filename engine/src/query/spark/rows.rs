//! What `explode` and its like take: lists whose elements become rows.
//!
//! Owns: entries of maps and elements with their places as lists of structures, and the columns of a
//! row that was made. Does not own: syntax (`views`).
//! Rule: a row has as many columns as the query names, or the query is refused.

use super::call::{Given, Refusal, Rows};
use super::ddl::list;
use super::types;
use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, ListArray, StructArray, UInt32Array, make_array,
    new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, exec_err};
use std::sync::Arc;

/// A list for each row, with NULL as the element of one that has none.
pub(super) fn outer(rows: &Rows<'_>) -> Result<ArrayRef> {
    let column = rows.column(0)?;
    let DataType::List(element) = rows.gives else {
        return exec_err!("a list is expected");
    };
    let mut picks: Vec<Option<u32>> = vec![];
    let mut lengths = vec![];
    let values = match column.data_type() {
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let offsets = list.value_offsets();
            for row in 0..rows.count {
                let elements = match list.is_valid(row) {
                    true => offsets[row] as u32..offsets[row + 1] as u32,
                    false => 0..0,
                };
                lengths.push(elements.len().max(1));
                if elements.is_empty() {
                    picks.push(None);
                }
                picks.extend(elements.map(Some));
            }
            Arc::clone(list.values())
        }
        _ => {
            lengths.resize(rows.count, 1);
            picks.resize(rows.count, None);
            new_null_array(element.data_type(), 1)
        }
    };
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(element),
        OffsetBuffer::from_lengths(lengths),
        take(&values, &UInt32Array::from(picks), None)?,
        None,
    )?))
}

fn entries_of(given: &Given<'_>, name: &str) -> Result<Fields, Refusal> {
    match given.kind(0) {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => Ok(fields.clone()),
            _ => Err(given.refuse("takes a map", "name a column of the type map<...>")),
        },
        other => Err(Refusal::new(
            format!(
                "{name}() of {} has other columns in dialect \"spark\"",
                types::name(other)
            ),
            "a list has one column, and one before it for its place; a map has a key and a value",
        )),
    }
}

fn nullable(fields: &Fields) -> Vec<Field> {
    let each = fields.iter();
    each.map(|field| Field::clone(field).with_nullable(true))
        .collect()
}

/// The entries of a map.
pub(super) fn pairs_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let fields = entries_of(given, "explode")?;
    Ok(list(DataType::Struct(nullable(&fields).into())))
}

pub(super) fn pairs(rows: &Rows<'_>) -> Result<ArrayRef> {
    let column = rows.column(0)?;
    let DataType::List(element) = rows.gives else {
        return exec_err!("a list is expected");
    };
    let DataType::Struct(fields) = element.data_type() else {
        return exec_err!("a list of structures is expected");
    };
    let map = column.as_map();
    let columns = vec![Arc::clone(map.keys()), Arc::clone(map.values())];
    let length = map.keys().len();
    let entries = StructArray::try_new_with_length(fields.clone(), columns, None, length)?;
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(element),
        map.offsets().clone(),
        Arc::new(entries),
        map.nulls().cloned(),
    )?))
}

/// Elements of a list, or entries of a map, with their places from 0 before them.
pub(super) fn positions_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let mut fields = vec![Field::new("pos", DataType::Int32, true)];
    match given.kind(0) {
        DataType::List(element) => {
            fields.push(Field::new("col", element.data_type().clone(), true));
        }
        _ => fields.extend(nullable(&entries_of(given, "posexplode")?)),
    }
    Ok(list(DataType::Struct(fields.into())))
}

pub(super) fn positions(rows: &Rows<'_>) -> Result<ArrayRef> {
    let column = rows.column(0)?;
    let DataType::List(element) = rows.gives else {
        return exec_err!("a list is expected");
    };
    let DataType::Struct(fields) = element.data_type() else {
        return exec_err!("a list of structures is expected");
    };
    let (offsets, nulls, values) = match column.data_type() {
        DataType::Map(..) => {
            let map = column.as_map();
            let values = vec![Arc::clone(map.keys()), Arc::clone(map.values())];
            (map.offsets().clone(), map.nulls().cloned(), values)
        }
        _ => {
            let list = column.as_list::<i32>();
            let values = vec![Arc::clone(list.values())];
            (list.offsets().clone(), list.nulls().cloned(), values)
        }
    };
    let length = values[0].len();
    let mut places = vec![0; length];
    for pair in offsets.windows(2) {
        for at in pair[0]..pair[1] {
            places[at as usize] = at - pair[0];
        }
    }
    let mut columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(places))];
    columns.extend(values);
    let elements = StructArray::try_new_with_length(fields.clone(), columns, None, length)?;
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(element),
        offsets,
        Arc::new(elements),
        nulls,
    )?))
}

/// `nth(row, place, columns)`: a field by its place, of a structure with so many.
pub(super) fn nth_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let number = |place: usize| -> Result<usize, Refusal> {
        let text = given.constant_text(place)?.unwrap_or_default();
        text.parse()
            .map_err(|_| given.refuse("takes a number", "name columns alone"))
    };
    let place = number(1)?;
    let wanted = number(2)?;
    match given.kind(0) {
        DataType::Struct(fields) if fields.len() == wanted => Ok(fields[place].data_type().clone()),
        DataType::Struct(fields) => {
            let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
            Err(Refusal::new(
                format!(
                    "{wanted} names for {} columns in dialect \"spark\"",
                    names.len()
                ),
                format!("the columns are: {}", names.join(", ")),
            ))
        }
        other => Err(Refusal::new(
            format!("inline() does not take a list of {}", types::name(other)),
            "it takes a list of structs",
        )),
    }
}

pub(super) fn nth(rows: &Rows<'_>) -> Result<ArrayRef> {
    let place: usize = rows
        .constant_text(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let column = rows.column(0)?;
    let Some(row) = column.as_struct_opt() else {
        return exec_err!("a structure is expected");
    };
    let values = row.column(place);
    let Some(nulls) = row.nulls().filter(|nulls| nulls.null_count() > 0) else {
        return Ok(Arc::clone(values));
    };
    let nulls = NullBuffer::union(Some(nulls), values.nulls());
    Ok(make_array(
        values.to_data().into_builder().nulls(nulls).build()?,
    ))
}

/// `stack(2, a, b, c, d)` has the rows (a, b) and (c, d). The number of rows is a text.
pub(super) fn stacked_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let (_, columns) = stack_of(given.constant_text(0)?, given.types.len() - 1);
    let mut fields = vec![];
    for column in 0..columns {
        let values = given.types.iter().skip(1 + column).step_by(columns);
        let mut kinds = values.filter(|kind| **kind != DataType::Null);
        let first = kinds.next().cloned().unwrap_or(DataType::Null);
        if let Some(other) = kinds.find(|kind| **kind != first) {
            return Err(Refusal::new(
                format!(
                    "stack() with {} and {} in column {} is not supported in dialect \"spark\"",
                    types::name(&first),
                    types::name(other),
                    column + 1
                ),
                "cast them to one type",
            ));
        }
        fields.push(Field::new(format!("col{column}"), first, true));
    }
    Ok(list(DataType::Struct(fields.into())))
}

/// The numbers of rows and columns.
fn stack_of(rows: Option<&str>, values: usize) -> (usize, usize) {
    let rows = rows.and_then(|text| text.parse().ok()).unwrap_or(1).max(1);
    (rows, values.div_ceil(rows).max(1))
}

pub(super) fn stacked(rows: &Rows<'_>) -> Result<ArrayRef> {
    let DataType::List(element) = rows.gives else {
        return exec_err!("a list is expected");
    };
    let DataType::Struct(fields) = element.data_type() else {
        return exec_err!("a list of structures is expected");
    };
    let count = rows.constant_text(0);
    let (each, columns) = stack_of(count.as_deref(), rows.args() - 1);
    let picks: Vec<(usize, usize)> = (0..rows.count)
        .flat_map(|row| (0..each).map(move |at| (at, row)))
        .collect();
    let mut values = vec![];
    for (column, field) in fields.iter().enumerate() {
        let mut of_rows = vec![];
        for at in 0..each {
            let place = 1 + at * columns + column;
            of_rows.push(match place < rows.args() {
                true => arrow::compute::cast(&rows.column(place)?, field.data_type())?,
                false => new_null_array(field.data_type(), rows.count),
            });
        }
        let of_rows: Vec<&dyn Array> = of_rows.iter().map(AsRef::as_ref).collect();
        values.push(arrow::compute::interleave(&of_rows, &picks)?);
    }
    let structures = StructArray::try_new(fields.clone(), values, None)?;
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(element),
        OffsetBuffer::from_lengths(std::iter::repeat_n(each, rows.count)),
        Arc::new(structures),
        None,
    )?))
}

/// `zipped(name, list, name, list, ...)`: a list of structures with an element of each.
pub(super) fn zipped_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let mut fields = vec![];
    for place in (0..given.types.len()).step_by(2) {
        let name = given.constant_text(place)?.unwrap_or_default();
        let DataType::List(element) = given.kind(place + 1) else {
            return Err(Refusal::new(
                format!(
                    "arrays_zip() does not take {} in dialect \"spark\"",
                    types::name(given.kind(place + 1))
                ),
                "it takes arrays",
            ));
        };
        fields.push(Field::new(name, element.data_type().clone(), true));
    }
    Ok(list(DataType::Struct(fields.into())))
}

pub(super) fn zipped(rows: &Rows<'_>) -> Result<ArrayRef> {
    let DataType::List(element) = rows.gives else {
        return exec_err!("a list is expected");
    };
    let DataType::Struct(fields) = element.data_type() else {
        return exec_err!("a list of structures is expected");
    };
    let columns = (0..rows.args()).skip(1).step_by(2);
    let columns = columns
        .map(|place| rows.column(place))
        .collect::<Result<Vec<_>>>()?;
    let mut lists = vec![];
    for column in &columns {
        match column.as_list_opt::<i32>() {
            Some(list) => lists.push(list),
            None => return exec_err!("arrays_zip() takes lists"),
        }
    }
    let length = |row: usize| {
        let all = lists.iter();
        let lengths = all.map(|list| list.is_valid(row).then(|| list.value_length(row)));
        lengths.collect::<Option<Vec<_>>>()?.into_iter().max()
    };
    let lengths: Vec<Option<i32>> = (0..rows.count).map(length).collect();
    let mut values = vec![];
    for (list, field) in lists.iter().zip(fields) {
        let offsets = list.value_offsets();
        let place =
            |row: usize, at: i32| (at < list.value_length(row)).then(|| (offsets[row] + at) as u32);
        let rows = lengths.iter().enumerate();
        let picks: UInt32Array = rows
            .flat_map(|(row, length)| (0..length.unwrap_or(0)).map(move |at| place(row, at)))
            .collect();
        let taken = take(list.values(), &picks, None)?;
        values.push(arrow::compute::cast(&taken, field.data_type())?);
    }
    let structures = StructArray::try_new(fields.clone(), values, None)?;
    let counts = lengths.iter().map(|length| length.unwrap_or(0) as usize);
    let nulls: NullBuffer = lengths.iter().map(Option::is_some).collect();
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(element),
        OffsetBuffer::from_lengths(counts),
        Arc::new(structures),
        Some(nulls),
    )?))
}
