//! JSON inside of a text.
//!
//! Owns: `get_json_object` and `json_array_length`. Does not own: the decoding of records.
//! Rule: a path is a constant; a text that is no JSON is NULL.

use super::call::{Given, Refusal, Rows};
use super::number::double_text;
use arrow::array::ArrayRef;
use datafusion::common::Result;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt::Write as _;

/// Most steps of a path, and most levels of a value that is written again.
const LEVELS_MAX: usize = 128;

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
    (steps.len() <= LEVELS_MAX).then_some(steps)
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

/// The entries of an object in their order.
struct Entries<'j>(Vec<(String, &'j RawValue)>);

impl<'de: 'j, 'j> Deserialize<'de> for Entries<'j> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        struct Read<'j>(std::marker::PhantomData<&'j ()>);
        impl<'de: 'j, 'j> Visitor<'de> for Read<'j> {
            type Value = Entries<'j>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(
                self,
                mut map: M,
            ) -> std::result::Result<Self::Value, M::Error> {
                let mut entries = vec![];
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        from.deserialize_map(Read(std::marker::PhantomData))
    }
}

/// The first JSON value of a text: Spark reads no further.
fn first(text: &str) -> Option<&RawValue> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    values.next()?.ok()
}

/// The value at the path's end, if it is there and not null.
fn found<'j>(value: &'j RawValue, steps: &[Step]) -> Option<&'j RawValue> {
    let Some((step, rest)) = steps.split_first() else {
        return (value.get() != "null").then_some(value);
    };
    match step {
        Step::Key(key) => {
            let Entries(entries) = serde_json::from_str(value.get()).ok()?;
            let mut hits = entries.into_iter().filter(|(name, _)| name == key);
            hits.find_map(|(_, inner)| found(inner, rest))
        }
        Step::Place(place) => {
            let elements: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
            found(elements.get(*place)?, rest)
        }
    }
}

/// A value as Jackson writes it: without blanks, numbers in its own form.
fn write(out: &mut String, value: &RawValue, levels: usize) -> Option<()> {
    if levels > LEVELS_MAX {
        return None;
    }
    let text = value.get();
    match text.as_bytes().first()? {
        b'{' => {
            let Entries(entries) = serde_json::from_str(text).ok()?;
            out.push('{');
            for (place, (key, inner)) in entries.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_text(out, key);
                out.push(':');
                write(out, inner, levels + 1)?;
            }
            out.push('}');
        }
        b'[' => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            out.push('[');
            for (place, inner) in elements.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write(out, inner, levels + 1)?;
            }
            out.push(']');
        }
        b'"' => {
            let inner: String = serde_json::from_str(text).ok()?;
            write_text(out, &inner);
        }
        b'-' | b'0'..=b'9' if text.contains(['.', 'e', 'E']) => {
            out.push_str(&double_text(text.parse().ok()?))
        }
        _ => out.push_str(text),
    }
    Some(())
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

pub(super) fn get_json_object(rows: &Rows<'_>) -> Result<ArrayRef> {
    let steps = rows.constant_text(1).and_then(|text| path(&text));
    rows.texts(|row| {
        let text = row.text(0)?;
        let value = found(first(&text)?, steps.as_ref()?)?;
        if value.get().starts_with('"') {
            return serde_json::from_str::<String>(value.get()).ok();
        }
        let mut out = String::new();
        write(&mut out, value, 0)?;
        Some(out)
    })
}

pub(super) fn json_array_length(rows: &Rows<'_>) -> Result<ArrayRef> {
    rows.ints(|row| {
        let text = row.text(0)?;
        let elements: Vec<&RawValue> = serde_json::from_str(first(&text)?.get()).ok()?;
        Some(elements.len() as i32)
    })
}
