//! Tables and keys as written, with their lines.
//!
//! Owns: reading a key as text, number, choice or list; unknown and missing keys. Does not own:
//! which keys there are.
//! Rule: every problem goes to the [`Log`] and reading continues, so that all problems are found in
//! one pass; `None` means "missing" or "already in the log".

use super::Problem;
use crate::nearest;
use std::cell::RefCell;
use std::fmt::Display;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// The problems so far.
pub(super) struct Log<'t> {
    text: &'t str,
    /// The start of each line except the first: a file may have a hundred thousand keys.
    lines: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> Log<'t> {
    pub fn new(text: &'t str) -> Self {
        let lines = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(at, _)| at + 1)
            .collect();
        Self {
            text,
            lines,
            problems: RefCell::default(),
        }
    }
    /// The line of a byte range in the text, from 1.
    pub fn line(&self, span: &Range<usize>) -> usize {
        let at = span.start.min(self.text.len());
        1 + self.lines.partition_point(|begin| *begin <= at)
    }
    pub fn add(
        &self,
        line: Option<usize>,
        field: &str,
        message: impl Display,
        hint: Option<String>,
    ) {
        self.problems.borrow_mut().push(Problem {
            line,
            ..Problem::new(field, message.to_string(), hint)
        });
    }
    /// All problems in the order of the file; those without a line last.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        problems
    }
}

/// One key and its value.
#[derive(Clone)]
pub(super) struct Entry<'a> {
    log: &'a Log<'a>,
    /// In dots: `sink.format`.
    pub field: String,
    pub line: usize,
    value: &'a DeValue<'a>,
}

impl<'a> Entry<'a> {
    /// Logs a problem with this value.
    pub fn refuse(&self, message: impl Display, hint: impl Into<String>) {
        let hint = hint.into();
        self.log.add(
            Some(self.line),
            &self.field,
            message,
            (!hint.is_empty()).then_some(hint),
        );
    }

    fn wrong_type<T>(&self, expected: &str, hint: &str) -> Option<T> {
        self.refuse(
            format_args!("expected {expected}, found {}", describe(self.value)),
            hint,
        );
        None
    }

    pub fn text(&self, example: &str) -> Option<&'a str> {
        let text = self.any_text(example)?;
        if text.trim().is_empty() {
            self.refuse("must not be empty", example);
            return None;
        }
        Some(text)
    }

    /// Text, possibly empty.
    pub fn any_text(&self, example: &str) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => self.wrong_type("text in quotes", example),
        }
    }

    /// Text, or an unquoted date and time.
    pub fn text_or_time(&self, example: &str) -> Option<String> {
        match self.value {
            DeValue::Datetime(time) => Some(time.to_string()),
            _ => self.text(example).map(str::to_owned),
        }
    }

    pub fn flag(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.wrong_type("true or false", "without quotes"),
        }
    }

    pub fn integer(&self, range: Range<u64>) -> Option<u64> {
        let least = range.start;
        let most = range.end - 1;
        let DeValue::Integer(number) = self.value else {
            return self.wrong_type(&format!("a whole number from {least} to {most}"), "");
        };
        let value = i128::from_str_radix(number.as_str(), number.radix()).ok();
        let good = value
            .and_then(|value| u64::try_from(value).ok())
            .filter(|value| range.contains(value));
        if good.is_none() {
            self.refuse(
                format_args!("{number} is out of range: {least} to {most}"),
                "",
            );
        }
        good
    }

    pub fn number(&self) -> Option<f64> {
        match self.value {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => self.wrong_type("a number", ""),
        }
    }

    /// One of several words.
    pub fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let all = words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
        let text = self.text(&format!("one of {}", all.join(", ")))?;
        let found = words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value);
        if found.is_none() {
            let hint = nearest(text, all.iter().copied())
                .map(|word| format!("did you mean {word:?}?"))
                .unwrap_or_default();
            self.refuse(
                format_args!("{text:?} is not one of {}", all.join(", ")),
                hint,
            );
        }
        found
    }

    pub fn table(&self) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(entries) => Some(Table {
                log: self.log,
                path: self.field.clone(),
                line: Some(self.line),
                entries,
                asked: Vec::new(),
            }),
            _ => self.wrong_type("a table", &format!("begin it with [{}]", self.field)),
        }
    }

    /// The elements of an array, each as an entry of its own; `lookup[1]` is the first.
    pub fn elements(&self, hint: &str) -> Option<Vec<Entry<'a>>> {
        let DeValue::Array(elements) = self.value else {
            return self.wrong_type("a list", hint);
        };
        let entry = |(index, element): (usize, &'a toml::Spanned<DeValue<'a>>)| Entry {
            log: self.log,
            field: format!("{}[{}]", self.field, index + 1),
            line: self.log.line(&element.span()),
            value: element.get_ref(),
        };
        Some(elements.iter().enumerate().map(entry).collect())
    }
}

/// A table, and which of its keys were read.
pub(super) struct Table<'a> {
    log: &'a Log<'a>,
    path: String,
    line: Option<usize>,
    entries: &'a DeTable<'a>,
    asked: Vec<&'static str>,
}

impl<'a> Table<'a> {
    pub fn root(log: &'a Log<'a>, entries: &'a DeTable<'a>) -> Self {
        Self {
            log,
            path: String::new(),
            line: None,
            entries,
            asked: Vec::new(),
        }
    }

    fn field(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// The key, if it is present.
    pub fn get(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.asked.push(key);
        self.all()
            .into_iter()
            .find(|(name, _)| *name == key)
            .map(|(_, entry)| entry)
    }

    /// The key; logs its absence.
    pub fn require(&mut self, key: &'static str, example: &str) -> Option<Entry<'a>> {
        let entry = self.get(key);
        if entry.is_none() {
            self.log.add(
                self.line,
                &self.field(key),
                "is missing",
                Some(example.to_owned()),
            );
        }
        entry
    }

    pub fn has(&mut self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    /// Logs a problem with the table as a whole.
    pub fn refuse(&self, message: impl Display, hint: &str) {
        self.log
            .add(self.line, &self.path, message, Some(hint.to_owned()));
    }

    /// Every key in the order of the file.
    pub fn all(&self) -> Vec<(&'a str, Entry<'a>)> {
        let mut entries = self.entries.iter().collect::<Vec<_>>();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (
            &'a toml::Spanned<toml::de::DeString<'a>>,
            &'a toml::Spanned<DeValue<'a>>,
        )| {
            let name: &'a str = key.get_ref();
            let line = self.log.line(&key.span());
            (
                name,
                Entry {
                    log: self.log,
                    field: self.field(name),
                    line,
                    value: value.get_ref(),
                },
            )
        };
        entries.into_iter().map(entry).collect()
    }

    /// Refuses the keys that were not read. `foreign` may know where such a key belongs.
    pub fn finish(self, foreign: impl Fn(&str) -> Option<String>) {
        for (key, entry) in self.all() {
            if self.asked.contains(&key) {
                continue;
            }
            match foreign(key) {
                Some(place) => entry.refuse("does not belong here", place),
                None => {
                    let known = self.asked.join(", ");
                    let likely = nearest(key, self.asked.iter().copied())
                        .map(|name| format!("did you mean `{name}`?"));
                    entry.refuse(
                        "unknown key",
                        likely.unwrap_or_else(|| format!("known keys: {known}")),
                    );
                }
            }
        }
    }
}

/// A hint with the nearest of these words; empty if none is near.
pub(super) fn nearest_hint(word: &str, known: &[&str]) -> String {
    nearest(word, known.iter().copied())
        .map(|name| format!("did you mean {name:?}?"))
        .unwrap_or_default()
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {text:?}"),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(time) => format!("the time {time}"),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
