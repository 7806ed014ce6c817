//! JSON inside of a text.
//!
//! Owns: `get_json_object`, `json_tuple`, `json_array_length`, `json_object_keys`. Does not own: tokens (`jackson`),
//! values of a schema (`from_json`), the decoding of records.
//! Rule: a path and a name are constants; a text that is no JSON is NULL.

use super::call::{Given, Refusal, Rows};
use super::jackson::{Beyond, Fault, Token, Tokens};
use arrow::array::{ArrayRef, ListBuilder, StringArray, StringBuilder, StructArray};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, exec_err};
use std::fmt::Write as _;
use std::sync::Arc;

/// Most steps of a path.
const STEPS_MAX: usize = 128;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Place(usize),
}

/// `$.a['b'][0]`; `None` for a path that is not supported.
fn path(text: &str) -> Option<Vec<Step>> {
    let mut rest = text.strip_prefix('$')?;
    let mut steps = vec![];
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let key = &after[..end];
            if key.is_empty() || key.contains('*') {
                return None;
            }
            steps.push(Step::Key(key.to_owned()));
            rest = &after[end..];
        } else if let Some(after) = rest.strip_prefix("['") {
            let end = after.find("']")?;
            let key = &after[..end];
            if key.is_empty() || key.contains('*') {
                return None;
            }
            steps.push(Step::Key(key.to_owned()));
            rest = &after[end + 2..];
        } else {
            let after = rest.strip_prefix('[')?;
            let end = after.find(']')?;
            steps.push(Step::Place(after[..end].parse().ok()?));
            rest = &after[end + 1..];
        }
    }
    (steps.len() <= STEPS_MAX).then_some(steps)
}

pub(super) fn with_path(given: &Given<'_>) -> Result<(), Refusal> {
    match given.constant_text(1)?.map(path) {
        Some(None) => Err(given.refuse(
            "does not take this path",
            "paths are keys and places: $.user.name, $['a b'], $.items[0].sku",
        )),
        _ => Ok(()),
    }
}

/// Writes the value at the path's end, if it is there. Everything around it is read, too: a fault
/// there makes the result NULL.
fn found(tokens: &mut Tokens<'_>, steps: &[Step], out: &mut String) -> Result<bool, Fault> {
    let Some((step, rest)) = steps.split_first() else {
        match tokens.current {
            Some(Token::Text) => out.push_str(&tokens.whole_text()?),
            _ => tokens.copy(out)?,
        }
        return Ok(true);
    };
    let mut is_found = false;
    match (tokens.current, step) {
        (Some(Token::StartObject), Step::Key(key)) => {
            while goes_on(tokens, Token::EndObject)? {
                let is_key = tokens.current == Some(Token::FieldName) && !is_found;
                if is_key && tokens.name() == Some(key) {
                    if tokens.next()? != Some(Token::Null) {
                        is_found = found(tokens, rest, out)?;
                    }
                } else {
                    tokens.skip_children()?;
                }
            }
        }
        (Some(Token::StartArray), Step::Place(wanted)) => {
            let mut place = 0_usize;
            while goes_on(tokens, Token::EndArray)? {
                if place == *wanted {
                    is_found = found(tokens, rest, out)?;
                } else {
                    tokens.skip_children()?;
                }
                place += 1;
            }
        }
        _ => tokens.skip_children()?,
    }
    Ok(is_found)
}

/// The end of the text inside of something is a fault.
fn goes_on(tokens: &mut Tokens<'_>, end: Token) -> Result<bool, Fault> {
    tokens.next()?.map(|token| token != end).ok_or(Fault)
}

/// A JSON text whose first token was read.
fn begun(text: &str) -> Option<Tokens<'_>> {
    let mut tokens = Tokens::new(text, Beyond::Controls);
    tokens.next().ok().flatten().map(|_| tokens)
}

pub(super) fn get_json_object(rows: &Rows<'_>) -> Result<ArrayRef> {
    let steps = rows.constant_text(1).and_then(|text| path(&text));
    rows.texts(|row| {
        let text = row.text(0)?;
        let mut tokens = begun(&text)?;
        let mut out = String::new();
        let is_found = found(&mut tokens, steps.as_ref()?, &mut out);
        is_found.is_ok_and(|is_found| is_found).then_some(out)
    })
}

pub(super) fn json_array_length(rows: &Rows<'_>) -> Result<ArrayRef> {
    fn length(text: &str) -> Result<Option<i32>, Fault> {
        let mut tokens = Tokens::new(text, Beyond::Controls);
        if tokens.next()? != Some(Token::StartArray) {
            return Ok(None);
        }
        let mut length = 0;
        while goes_on(&mut tokens, Token::EndArray)? {
            length += 1;
            tokens.skip_children()?;
        }
        Ok(Some(length))
    }
    rows.ints(|row| length(&row.text(0)?).ok().flatten())
}

pub(super) fn keys_type(_: &Given<'_>) -> Result<DataType, Refusal> {
    Ok(super::regex::list_of_texts())
}

/// The keys of an object, as often as they are written.
pub(super) fn json_object_keys(rows: &Rows<'_>) -> Result<ArrayRef> {
    fn keys(text: &str) -> Result<Option<Vec<String>>, Fault> {
        let mut tokens = Tokens::new(text, Beyond::Controls);
        if tokens.next()? != Some(Token::StartObject) {
            return Ok(None);
        }
        let mut keys = vec![];
        while goes_on(&mut tokens, Token::EndObject)? {
            if let (Some(Token::FieldName), Some(name)) = (tokens.current, tokens.name()) {
                keys.push(name.to_owned());
                tokens.next()?;
            }
            tokens.skip_children()?;
        }
        Ok(Some(keys))
    }
    let mut lists = ListBuilder::new(StringBuilder::new());
    for row in (0..rows.count).map(|row| rows.row(row)) {
        let keys = row.text(0).and_then(|text| keys(&text).ok().flatten());
        match keys {
            Some(keys) => {
                for key in keys {
                    lists.values().append_value(key);
                }
                lists.append(true);
            }
            None => lists.append_null(),
        }
    }
    Ok(Arc::new(lists.finish()))
}

/// The names of the columns of `json_tuple` as fields: it is written as a view.
pub(super) fn tuple_type(given: &Given<'_>) -> Result<DataType, Refusal> {
    if *given.kind(0) != DataType::Utf8 {
        return Err(given.refuse("reads a text alone", "name a column of the type string"));
    }
    let mut fields = vec![];
    for place in 1..given.types.len() {
        given.constant_text(place)?;
        fields.push(Field::new(format!("c{}", place - 1), DataType::Utf8, true));
    }
    Ok(DataType::Struct(fields.into()))
}

pub(super) fn json_tuple(rows: &Rows<'_>) -> Result<ArrayRef> {
    fn values(text: &str, names: &[String]) -> Result<Vec<Option<String>>, Fault> {
        let mut values = vec![None; names.len()];
        let mut tokens = Tokens::new(text, Beyond::Controls);
        if tokens.next()? != Some(Token::StartObject) {
            return Ok(values);
        }
        while goes_on(&mut tokens, Token::EndObject)? {
            let is_wanted = |name: &str| names.iter().any(|one| one == name);
            let name = match (tokens.current, tokens.name()) {
                (Some(Token::FieldName), Some(name)) if is_wanted(name) => name.to_owned(),
                _ => {
                    tokens.skip_children()?;
                    continue;
                }
            };
            if tokens.next()? != Some(Token::Null) {
                let mut out = String::new();
                found(&mut tokens, &[], &mut out)?;
                for (value, _) in values
                    .iter_mut()
                    .zip(names)
                    .filter(|(_, one)| **one == name)
                {
                    *value = Some(out.clone());
                }
            }
            tokens.skip_children()?;
        }
        Ok(values)
    }
    let DataType::Struct(fields) = rows.gives else {
        return exec_err!("json_tuple() gives a struct");
    };
    let names: Vec<String> = (1..rows.args())
        .filter_map(|at| rows.constant_text(at))
        .collect();
    let mut columns: Vec<Vec<Option<String>>> = vec![vec![]; fields.len()];
    for row in 0..rows.count {
        let found = rows
            .row(row)
            .text(0)
            .and_then(|text| values(&text, &names).ok());
        let found = found.unwrap_or_else(|| vec![None; fields.len()]);
        for (column, value) in columns.iter_mut().zip(found) {
            column.push(value);
        }
    }
    let columns = columns
        .into_iter()
        .map(|column| Arc::new(StringArray::from(column)) as ArrayRef);
    Ok(Arc::new(StructArray::try_new_with_length(
        fields.clone(),
        columns.collect(),
        None,
        rows.count,
    )?))
}

pub(super) fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            letter if letter < ' ' => {
                let _ = write!(out, "\\u{:04X}", letter as u32);
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
}
