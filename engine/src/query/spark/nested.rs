//! Structs and maps.
//!
//! Owns: their fields, keys and values, and how they are made. Does not own: functions on lists
//! alone (`lists`), their text (`json_text`).
//! Rule: a name of a field is found without regard to case, a key of a map as it is; what is not
//! there is NULL, but a field that no struct has is refused.

use super::call::{Given, Refusal, Rows};
use super::json_text::{is_writable, json_of};
use super::lists;
use super::types::{self, is_whole};
use super::value::{Reader, cast};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, MapArray, StructArray,
    UInt32Array, make_array, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, exec_err};
use std::cmp::Ordering;
use std::sync::Arc;

/// Key and value of the entries of a map.
fn parts(entries: &FieldRef) -> Option<(&FieldRef, &FieldRef)> {
    match entries.data_type() {
        DataType::Struct(fields) => match fields.as_ref() {
            [key, value] => Some((key, value)),
            _ => None,
        },
        _ => None,
    }
}

fn place_of(fields: &Fields, name: &str) -> Option<usize> {
    let name = name.to_lowercase();
    fields
        .iter()
        .position(|field| field.name().to_lowercase() == name)
}

fn list_of(element: &DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(element.clone(), true)))
}

/// `value.name`: of a struct, of each struct in a list; the value of a key of a map.
pub(super) fn field_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let name = given.constant_text(1)?.unwrap_or_default().to_owned();
    let of = |fields: &Fields| {
        let place = place_of(fields, &name).ok_or_else(|| no_field(fields, &name))?;
        Ok(fields[place].data_type().clone())
    };
    match given.kind(0) {
        DataType::Null => Ok(DataType::Null),
        DataType::Struct(fields) => of(fields),
        DataType::List(element) => match element.data_type() {
            DataType::Struct(fields) => of(fields).map(|inner| list_of(&inner)),
            other => Err(without_fields(&name, &list_of(other))),
        },
        DataType::Map(entries, _) => value_type(given, entries),
        other => Err(without_fields(&name, other)),
    }
}

fn no_field(fields: &Fields, name: &str) -> Refusal {
    let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
    Refusal::new(
        format!("there is no field {name:?}"),
        format!("the fields are: {}", names.join(", ")),
    )
}

fn without_fields(name: &str, data_type: &DataType) -> Refusal {
    Refusal::new(
        format!("{} has no field {name:?}", types::name(data_type)),
        "only a struct, and a list of structs, has fields; get_json_object(x, '$.key') reads a text",
    )
}

pub(super) fn field(rows: &Rows<'_>) -> Result<ArrayRef> {
    let name = rows.constant_text(1).unwrap_or_default();
    let column = rows.column(0)?;
    match column.data_type() {
        DataType::Struct(_) => field_of(column.as_struct(), &name),
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let Some(structs) = list.values().as_struct_opt() else {
                return exec_err!("a list without structs has no fields");
            };
            let DataType::List(element) = rows.gives else {
                return exec_err!("the field of a list's structs is a list");
            };
            Ok(Arc::new(ListArray::try_new(
                Arc::clone(element),
                list.offsets().clone(),
                field_of(structs, &name)?,
                list.nulls().cloned(),
            )?))
        }
        DataType::Map(..) => value_of(rows),
        _ => Ok(new_null_array(rows.gives, rows.count)),
    }
}

/// The field's values; NULL where the struct is.
fn field_of(structs: &StructArray, name: &str) -> Result<ArrayRef> {
    let Some(place) = place_of(structs.fields(), name) else {
        return exec_err!("there is no field {name:?}");
    };
    let values = structs.column(place);
    let nulls = structs.nulls().filter(|nulls| nulls.null_count() > 0);
    if nulls.is_none() || *values.data_type() == DataType::Null {
        return Ok(Arc::clone(values));
    }
    let nulls = NullBuffer::union(nulls, values.nulls());
    Ok(make_array(
        values.to_data().into_builder().nulls(nulls).build()?,
    ))
}

/// `value[index]`: a place from 0 in a list, a key of a map, a name of a field.
pub(super) fn item_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let index = given.kind(1);
    match given.kind(0) {
        DataType::Null => Ok(DataType::Null),
        DataType::Struct(_) => field_type(given),
        DataType::List(element) if *index == DataType::Utf8 && element.data_type().is_nested() => {
            field_type(given)
        }
        DataType::List(element) if is_place(index) => Ok(element.data_type().clone()),
        DataType::List(_) => Err(Refusal::new(
            format!(
                "{} is not a place in a list in dialect \"spark\"",
                types::name(index)
            ),
            "write an int, from 0: CAST(x AS INT)",
        )),
        DataType::Map(entries, _) => value_type(given, entries),
        other => Err(Refusal::new(
            format!("{} has no elements", types::name(other)),
            "x[0] is of a list, x['key'] of a map or a struct; get_json_object(x, '$[0]') reads a text",
        )),
    }
}

fn is_place(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Null | DataType::Utf8 | DataType::Int8 | DataType::Int16 | DataType::Int32
    )
}

/// The value of a key that has this type.
fn value_type(given: &Given<'_>, entries: &FieldRef) -> Result<DataType, Refusal> {
    let index = given.kind(1);
    let Some((key, value)) = parts(entries) else {
        return Ok(DataType::Null);
    };
    let key = types::plain(key.data_type());
    let is_found = *index == key
        || *index == DataType::Null
        || is_whole(index) && (is_whole(&key) || key == DataType::Utf8);
    if !is_found {
        return Err(Refusal::new(
            format!(
                "a key of the type {} is not looked for as {} in dialect \"spark\"",
                types::name(&key),
                types::name(index)
            ),
            format!("cast it: CAST(x AS {})", types::name(&key)),
        ));
    }
    Ok(value.data_type().clone())
}

pub(super) fn item(rows: &Rows<'_>) -> Result<ArrayRef> {
    let index = rows.kind(1);
    match rows.kind(0) {
        DataType::Struct(_) => field(rows),
        DataType::List(element) if index == DataType::Utf8 && element.data_type().is_nested() => {
            field(rows)
        }
        DataType::List(_) => lists::item(rows),
        DataType::Map(..) => value_of(rows),
        _ => Ok(new_null_array(rows.gives, rows.count)),
    }
}

/// Where each row's key is among the entries of all maps.
fn places(rows: &Rows<'_>, map: &MapArray) -> Result<Vec<Option<u32>>> {
    let keys = Reader::new(map.keys())?;
    let key_type = types::plain(map.key_type());
    let wanted = rows.column(1)?;
    // A whole number that the keys cannot be is none of them.
    let wanted = match (wanted.data_type(), &key_type) {
        (from, to) if is_whole(from) && is_whole(to) => arrow::compute::cast(&wanted, to)?,
        _ => cast(&wanted, &key_type)?,
    };
    let wanted = Reader::new(&wanted)?;
    let offsets = map.value_offsets();
    let place = |row: usize| {
        let wanted = wanted.get(row).filter(|_| map.is_valid(row))?;
        let mut entries = offsets[row]..offsets[row + 1];
        let found = entries.find(|entry| {
            let key = keys.get(*entry as usize);
            key.is_some_and(|key| key.order(wanted) == Ordering::Equal)
        });
        found.map(|entry| entry as u32)
    };
    Ok((0..rows.count).map(place).collect())
}

fn value_of(rows: &Rows<'_>) -> Result<ArrayRef> {
    let column = rows.column(0)?;
    let map = column.as_map();
    let places: UInt32Array = places(rows, map)?.into_iter().collect();
    Ok(take(map.values(), &places, None)?)
}

/// `element_at`: a place from 1 in a list, a key of a map.
pub(super) fn element_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    match given.kind(0) {
        DataType::Map(entries, _) => value_type(given, entries),
        DataType::List(_) if is_place(given.kind(1)) => lists::element_type(given),
        DataType::Null => Ok(DataType::Null),
        other => Err(given.refuse(
            format!(
                "does not take {} and {}",
                types::name(other),
                types::name(given.kind(1))
            ),
            "it takes a list and an int, or a map and a key",
        )),
    }
}

pub(super) fn element_at(rows: &Rows<'_>) -> Result<ArrayRef> {
    match rows.kind(0) {
        DataType::Map(..) => value_of(rows),
        DataType::List(_) => lists::element_at(rows),
        _ => Ok(new_null_array(rows.gives, rows.count)),
    }
}

/// -1 for NULL, as Spark has it with its default settings.
pub(super) fn size(rows: &Rows<'_>) -> Result<ArrayRef> {
    let column = rows.column(0)?;
    if let DataType::Map(..) = column.data_type() {
        let map = column.as_map();
        let length = |row| match map.is_valid(row) {
            true => map.value_length(row),
            false => -1,
        };
        let lengths = (0..map.len()).map(length);
        return Ok(Arc::new(lengths.collect::<Int32Array>()));
    }
    lists::size(rows)
}

fn map_parts<'g>(given: &'g Given<'_>) -> Result<(&'g FieldRef, &'g FieldRef), Refusal> {
    let found = match given.kind(0) {
        DataType::Map(entries, _) => parts(entries),
        _ => None,
    };
    found.ok_or_else(|| given.refuse("takes a map", "name a column of the type map<...>"))
}

pub(super) fn keys_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    Ok(list_of(map_parts(given)?.0.data_type()))
}

pub(super) fn values_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    Ok(list_of(map_parts(given)?.1.data_type()))
}

pub(super) fn contains_key(given: &Given<'_>) -> Result<(), Refusal> {
    map_parts(given)?;
    match given.kind(0) {
        DataType::Map(entries, _) => value_type(given, entries).map(drop),
        _ => Ok(()),
    }
}

pub(super) fn map_keys(rows: &Rows<'_>) -> Result<ArrayRef> {
    as_list(rows, |map| Arc::clone(map.keys()))
}

pub(super) fn map_values(rows: &Rows<'_>) -> Result<ArrayRef> {
    as_list(rows, |map| Arc::clone(map.values()))
}

fn as_list(rows: &Rows<'_>, part: impl Fn(&MapArray) -> ArrayRef) -> Result<ArrayRef> {
    let column = rows.column(0)?;
    let (DataType::Map(..), DataType::List(element)) = (column.data_type(), rows.gives) else {
        return Ok(new_null_array(rows.gives, rows.count));
    };
    let map = column.as_map();
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(element),
        map.offsets().clone(),
        part(map),
        map.nulls().cloned(),
    )?))
}

pub(super) fn map_contains_key(rows: &Rows<'_>) -> Result<ArrayRef> {
    let column = rows.column(0)?;
    if !matches!(column.data_type(), DataType::Map(..)) {
        return Ok(new_null_array(rows.gives, rows.count));
    }
    let map = column.as_map();
    let places = places(rows, map)?.into_iter().enumerate();
    let is_known = |row: usize| map.is_valid(row) && !rows.row(row).is_null(1);
    let found = places.map(|(row, place)| is_known(row).then_some(place.is_some()));
    Ok(Arc::new(found.collect::<BooleanArray>()))
}

/// `named_struct('a', x, 'b', y)`; `struct(x, y)` is written as one.
pub(super) fn struct_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    if given.types.len() % 2 == 1 {
        return Err(given.refuse(
            "takes names and values in turn",
            "write named_struct('a', x, 'b', y)",
        ));
    }
    let mut fields = Vec::with_capacity(given.types.len() / 2);
    for place in (0..given.types.len()).step_by(2) {
        let name = given.constant_text(place)?.unwrap_or_default();
        fields.push(Field::new(name, given.kind(place + 1).clone(), true));
    }
    Ok(DataType::Struct(fields.into()))
}

pub(super) fn named_struct(rows: &Rows<'_>) -> Result<ArrayRef> {
    let DataType::Struct(fields) = rows.gives else {
        return exec_err!("named_struct() gives a struct");
    };
    let columns = fields.iter().enumerate();
    let columns = columns
        .map(|(place, field)| {
            let column = rows.column(2 * place + 1)?;
            // Texts of lookups may have other forms.
            match column.data_type() == field.data_type() {
                true => Ok(column),
                false => Ok(arrow::compute::cast(&column, field.data_type())?),
            }
        })
        .collect::<Result<Vec<_>>>()?;
    let count = rows.count;
    Ok(Arc::new(StructArray::try_new_with_length(
        fields.clone(),
        columns,
        None,
        count,
    )?))
}

pub(super) fn json_form(given: &Given<'_>) -> Result<(), Refusal> {
    let kind = given.kind(0);
    if !kind.is_nested() || !is_writable(kind) {
        return Err(given.refuse(
            format!("does not take {}", types::name(kind)),
            "it takes a struct, a list or a map",
        ));
    }
    Ok(())
}

pub(super) fn to_json(rows: &Rows<'_>) -> Result<ArrayRef> {
    Ok(Arc::new(json_of(&rows.column(0)?)?))
}

/// What `explode` takes.
pub(super) fn exploded_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    match given.kind(0) {
        list @ DataType::List(_) => Ok(list.clone()),
        DataType::Map(..) => Err(Refusal::new(
            "explode() of a map is not supported in dialect \"spark\"",
            "write SELECT key, m[key] AS value FROM (SELECT m, explode(map_keys(m)) AS key FROM source)",
        )),
        other => Err(Refusal::new(
            format!("explode() does not take {}", types::name(other)),
            "it takes a list",
        )),
    }
}

pub(super) fn exploded(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.column(0)
}
