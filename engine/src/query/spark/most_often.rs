//! `mode(x)`: the value of a group that occurs most often.
//!
//! Owns: which of several it is. Does not own: how the values come together (`aggregates`).
//! Rule: of values that occur equally often it is the one that Spark finds first in its table of
//! values, which is built here as Spark builds it for one partition.

use super::arithmetic::indexes;
use super::call::{Given, Refusal, Rows};
use super::lists;
use super::types;
use super::value::{Reader, Value};
use arrow::array::{ArrayRef, AsArray, new_null_array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use datafusion::common::Result;
use std::collections::HashMap;

pub(super) fn mode_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    let element = lists::element_type(given)?;
    let is_plain = matches!(element, DataType::Boolean | DataType::Utf8 | DataType::Null)
        || types::is_whole(&element)
        || types::is_time(&element);
    if is_plain {
        return Ok(element);
    }
    let message = format!(
        "mode() of {} is not supported in dialect \"spark\"",
        types::name(&element)
    );
    Err(Refusal::new(
        message,
        "write mode(CAST(x AS STRING)), or SELECT x, count(*) ... GROUP BY x",
    ))
}

/// A value as a key: no other types reach this place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key<'v> {
    Bool(bool),
    Whole(i64),
    Text(&'v str),
}

impl<'v> Key<'v> {
    fn of(value: Value<'v>) -> Option<Self> {
        Some(match value {
            Value::Bool(value) => Self::Bool(value),
            Value::Whole(value) => Self::Whole(value),
            Value::Date(days) => Self::Whole(days.into()),
            Value::Time(micros) => Self::Whole(micros),
            Value::Text(text) => Self::Text(text),
            _ => return None,
        })
    }

    /// `hashCode` of Java.
    fn code(self, is_long: bool) -> i32 {
        match self {
            Self::Bool(true) => 1_231,
            Self::Bool(false) => 1_237,
            Self::Whole(value) if is_long => (value ^ (value as u64 >> 32) as i64) as i32,
            Self::Whole(value) => value as i32,
            Self::Text(text) => super::hash::of_bytes(text.as_bytes(), SEED_OF_TEXTS) as i32,
        }
    }
}

/// The seed of `UTF8String.hashCode`.
const SEED_OF_TEXTS: u32 = 42;

/// Places of the table at first; it doubles when more than 0.7 of them are taken.
const PLACES_AT_FIRST: usize = 64;

/// The table of `OpenHashMap`.
struct Places<'v> {
    taken: Vec<Option<Key<'v>>>,
    count: usize,
    is_long: bool,
}

impl<'v> Places<'v> {
    fn new(is_long: bool) -> Self {
        Self {
            taken: vec![None; PLACES_AT_FIRST],
            count: 0,
            is_long,
        }
    }

    fn put(&mut self, key: Key<'v>) {
        let mask = self.taken.len() - 1;
        let code = super::hash::of_int(key.code(self.is_long), 0);
        let mut place = code as usize & mask;
        let mut step = 1;
        while let Some(other) = self.taken[place] {
            if other == key {
                return;
            }
            place = (place + step) & mask;
            step += 1;
        }
        self.taken[place] = Some(key);
        self.count += 1;
        if self.count * 10 > self.taken.len() * 7 {
            self.grow();
        }
    }

    fn grow(&mut self) {
        let twice = vec![None; self.taken.len() * 2];
        let before = std::mem::replace(&mut self.taken, twice);
        let mask = self.taken.len() - 1;
        for key in before.into_iter().flatten() {
            let code = super::hash::of_int(key.code(self.is_long), 0);
            let mut place = code as usize & mask;
            let mut step = 1;
            while self.taken[place].is_some() {
                place = (place + step) & mask;
                step += 1;
            }
            self.taken[place] = Some(key);
        }
    }

    /// The table that Spark makes of this one behind an exchange.
    fn exchanged(&self) -> Self {
        let mut other = Self::new(self.is_long);
        for key in self.taken.iter().flatten() {
            other.put(*key);
        }
        other
    }
}

/// The place of the value in the list; `None` if it has none.
fn most_often(elements: &Reader, length: usize, is_long: bool) -> Option<usize> {
    let mut counts: HashMap<Key<'_>, (usize, u64)> = HashMap::new();
    let mut places = Places::new(is_long);
    for at in 0..length {
        if let Some(key) = elements.get(at).and_then(Key::of) {
            counts.entry(key).or_insert((at, 0)).1 += 1;
            places.put(key);
        }
    }
    let mut best: Option<(usize, u64)> = None;
    // Once when it is sent, and once when it is taken in.
    for key in places.exchanged().exchanged().taken.into_iter().flatten() {
        let (at, count) = counts.get(&key).copied()?;
        if best.is_none_or(|(_, most)| count > most) {
            best = Some((at, count));
        }
    }
    best.map(|(at, _)| at)
}

pub(super) fn mode(rows: &Rows<'_>) -> Result<ArrayRef> {
    let column = rows.column(0)?;
    let Some(list) = column.as_list_opt::<i32>() else {
        return Ok(new_null_array(rows.gives, rows.count));
    };
    let is_long = matches!(rows.gives, DataType::Int64 | DataType::Timestamp(..));
    let mut found = vec![];
    for row in 0..rows.count {
        let place = match rows.row(row).list(0) {
            Some(values) => most_often(&Reader::new(&values)?, values.len(), is_long),
            None => None,
        };
        found.push(place.map(|place| list.value_offsets()[row] as u32 + place as u32));
    }
    Ok(take(list.values(), &indexes(found.into_iter()), None)?)
}
