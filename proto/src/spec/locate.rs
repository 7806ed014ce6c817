//! Finds lines in a job file.
//!
//! Rule: a reported line is the right one, or the line of the key.

use super::raw::Log;
use std::ops::Range;
use toml::de::DeValue;

/// A part of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A line of a text, from 1.
    Line(usize),
    /// One of several tables of one name (`[[lookup]]`), from 0.
    Element(usize),
}

/// The line of a key in a job file, from 1; `field` is in dots. Of several tables of one name the
/// first counts, unless `part` names another.
pub fn line_of(text: &str, field: &str, part: Option<Part>) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let log = Log::new(text);
    let element = if let Some(Part::Element(index)) = part {
        index
    } else {
        0
    };
    let mut table = document.get_ref();
    let mut found = None;
    for name in field.split('.') {
        let (key, value) = table.get_key_value(name)?;
        found = Some(log.line(&key.span()));
        let inner = match value.get_ref() {
            DeValue::Array(values) => values.get(element)?,
            _ => value,
        };
        match (inner.get_ref(), part) {
            (DeValue::Table(inner), _) => table = inner,
            (DeValue::String(_), Some(Part::Line(line))) => {
                return line_of_text(text, &value.span(), line, &log).or(found);
            }
            _ => break,
        }
    }
    found
}

/// The line of the file for a line within a multi-line text. `None` if it is unknown: in a text of
/// one line, and if a backslash adds or removes a line.
fn line_of_text(text: &str, value: &Range<usize>, line: usize, log: &Log<'_>) -> Option<usize> {
    let raw = text.get(value.clone())?;
    let quotes = raw
        .get(..3)
        .filter(|quotes| matches!(*quotes, r#"""""# | "'''"))?;
    if quotes == r#"""""# && raw.contains('\\') {
        return None;
    }
    // A newline right after the quotes is not part of the text.
    let skipped = usize::from(raw[3..].starts_with('\n') || raw[3..].starts_with("\r\n"));
    let first = log.line(value) + skipped;
    let last = log.line(&(value.end..value.end));
    Some((first + line.saturating_sub(1)).min(last))
}
