//! A key of a job file: its name, the type of its value, its default, and its purpose.
//!
//! Owns: reading a value as its key declares, and describing it. Does not own: which keys there are
//! (`keys`).
//! Rule: a limit or a default is defined once, in the declaration of its key; the parser and the
//! reference of the job file use it.

use super::raw::{Entry, Table};
use super::text::{bytes_text, duration_text, parse_bytes, parse_duration};
use std::time::Duration;

/// The declaration of a key.
pub(super) struct Key<K: Kind> {
    pub name: &'static str,
    pub kind: K,
    pub absent: Absent<K::Value>,
    /// Its purpose, in Markdown.
    pub about: &'static str,
}

impl<K: Kind> Key<K> {
    /// The default if the table around it is missing too.
    pub fn default(&self) -> Option<K::Value> {
        match &self.absent {
            Absent::Is(value) => Some(value.clone()),
            Absent::Refused(_) | Absent::Means(_) => None,
        }
    }
}

/// A table of a job file.
pub(super) struct Part {
    /// As it is begun in a file.
    pub title: &'static str,
    /// What it is for, in Markdown.
    pub about: &'static str,
    pub keys: &'static [&'static (dyn Described + Sync)],
}

impl Part {
    /// Whether a key of this name belongs to it.
    pub fn has(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name() == name)
    }
}

/// Keys and their values, as a job file could have them.
pub type Fields = Vec<(&'static str, String)>;

/// A key of a job file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyReference {
    pub name: &'static str,
    /// What its value looks like, with its limits; Markdown.
    pub value: String,
    /// What holds when it is not there.
    pub without: Without,
    /// What it is for, in Markdown.
    pub about: &'static str,
}

/// What holds when a key is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Without {
    /// The job file is refused.
    Refused,
    /// It is as if this value had been written.
    Default(String),
    Means(&'static str),
}

/// A key of any kind.
pub(super) trait Described {
    fn name(&self) -> &'static str;
    fn describe(&self) -> KeyReference;
}

impl<K: Kind> Described for Key<K> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn describe(&self) -> KeyReference {
        let without = match &self.absent {
            Absent::Refused(_) => Without::Refused,
            Absent::Is(value) => Without::Default(self.kind.shown(value)),
            Absent::Means(words) => Without::Means(words),
        };
        KeyReference {
            name: self.name,
            value: self.kind.words(),
            without,
            about: self.about,
        }
    }
}

/// What holds when a key is not there.
pub(super) enum Absent<V> {
    /// An error with this hint.
    Refused(&'static str),
    /// The same as this value.
    Is(V),
    /// Computed by the code; described by this text.
    Means(&'static str),
}

/// The form of a value.
pub(super) trait Kind {
    type Value: Clone;
    /// A description with its limits; Markdown.
    fn words(&self) -> String;
    /// A value as written in a job file, without quotes.
    fn shown(&self, value: &Self::Value) -> String;
}

/// A kind that can be read without further input.
pub(super) trait Read: Kind {
    fn read(&self, entry: &Entry<'_>) -> Option<Self::Value>;
}

/// Read by its own code; the text describes the form.
pub(super) struct Special(pub fn() -> String);

/// Any non-empty text.
pub(super) struct Text;

/// A duration between two limits, inclusive.
pub(super) struct Span {
    pub least: Duration,
    pub most: Duration,
}

/// A number of bytes.
pub(super) struct Size {
    pub least: u64,
}

/// A whole number between two limits, inclusive.
pub(super) struct Whole {
    pub least: u64,
    pub most: u64,
}

/// A share, 0 to 1, as millionths.
pub(super) struct Share;

pub(super) struct Rate {
    pub most: f64,
}

/// True or false.
pub(super) struct Flag;

/// One ASCII character.
pub(super) struct Ascii;

/// Any text, also an empty one.
pub(super) struct AnyText;

/// One of several words, each with its value.
pub(super) struct Word<T: 'static>(pub &'static [(&'static str, T)]);

/// Effectively unlimited; [`Whole`] allows no more, so that a number fits TOML's range.
pub(super) const WHOLE_MAX: u64 = i64::MAX as u64 - 1;

impl Kind for Special {
    type Value = ();
    fn words(&self) -> String {
        (self.0)()
    }
    fn shown(&self, (): &()) -> String {
        String::new()
    }
}

impl Kind for Text {
    type Value = String;
    fn words(&self) -> String {
        "text".to_owned()
    }
    fn shown(&self, value: &String) -> String {
        value.clone()
    }
}

impl Read for Text {
    fn read(&self, entry: &Entry<'_>) -> Option<String> {
        entry.text("").map(str::to_owned)
    }
}

impl Kind for Span {
    type Value = Duration;
    fn words(&self) -> String {
        format!(
            "a duration, `{}` to `{}`",
            duration_text(self.least),
            duration_text(self.most)
        )
    }
    fn shown(&self, value: &Duration) -> String {
        duration_text(*value)
    }
}

impl Read for Span {
    fn read(&self, entry: &Entry<'_>) -> Option<Duration> {
        let text = entry.text("a duration such as \"60s\"")?;
        let Some(duration) = parse_duration(text) else {
            entry.refuse(
                format_args!("{text:?} is not a duration"),
                "a whole number and a unit: \"500ms\", \"60s\", \"1m\", \"2h\", \"1d\"",
            );
            return None;
        };
        if !(self.least..=self.most).contains(&duration) {
            let least = duration_text(self.least);
            let most = duration_text(self.most);
            entry.refuse(
                format_args!("{text} is out of range: {least} to {most}"),
                "",
            );
            return None;
        }
        Some(duration)
    }
}

impl Kind for Size {
    type Value = u64;
    fn words(&self) -> String {
        match self.least {
            0 | 1 => "a size".to_owned(),
            least => format!("a size, at least `{}`", bytes_text(least)),
        }
    }
    fn shown(&self, value: &u64) -> String {
        bytes_text(*value)
    }
}

impl Read for Size {
    fn read(&self, entry: &Entry<'_>) -> Option<u64> {
        let text = entry.text("for example \"256MiB\"")?;
        let Some(size) = parse_bytes(text) else {
            entry.refuse(
                format_args!("{text:?} is not a size"),
                "a whole number and a unit: \"64MiB\", \"1GB\"",
            );
            return None;
        };
        if size < self.least {
            entry.refuse(format_args!("{text} is less than {} bytes", self.least), "");
        }
        Some(size)
    }
}

impl Kind for Whole {
    type Value = u64;
    fn words(&self) -> String {
        match (self.least, self.most) {
            (0, WHOLE_MAX) => "a whole number".to_owned(),
            (least, WHOLE_MAX) => format!("a whole number, at least {least}"),
            (least, most) => format!("a whole number, {least} to {most}"),
        }
    }
    fn shown(&self, value: &u64) -> String {
        value.to_string()
    }
}

impl Read for Whole {
    fn read(&self, entry: &Entry<'_>) -> Option<u64> {
        entry.integer(self.least..self.most + 1)
    }
}

impl Kind for Flag {
    type Value = bool;
    fn words(&self) -> String {
        "`true` or `false`".to_owned()
    }
    fn shown(&self, value: &bool) -> String {
        value.to_string()
    }
}

impl Read for Flag {
    fn read(&self, entry: &Entry<'_>) -> Option<bool> {
        entry.flag()
    }
}

impl Kind for Rate {
    type Value = f64;
    fn words(&self) -> String {
        format!("a number above 0, up to {}", self.most)
    }
    fn shown(&self, value: &f64) -> String {
        value.to_string()
    }
}

impl Read for Rate {
    fn read(&self, entry: &Entry<'_>) -> Option<f64> {
        let rate = entry.number()?;
        let good = rate > 0.0 && rate <= self.most;
        if !good {
            let most = self.most;
            entry.refuse(
                format_args!("{rate} is out of range: above 0, up to {most} records a second"),
                "",
            );
        }
        good.then_some(rate)
    }
}

impl Kind for Share {
    type Value = u32;
    fn words(&self) -> String {
        "a number, 0 to 1".to_owned()
    }
    fn shown(&self, ppm: &u32) -> String {
        share_text(*ppm)
    }
}

impl Read for Share {
    fn read(&self, entry: &Entry<'_>) -> Option<u32> {
        let share = entry.number()?;
        if !(0.0..=1.0).contains(&share) {
            entry.refuse(
                format_args!("{share} is out of range: 0 to 1"),
                "for example 0.1 for 10 %",
            );
            return None;
        }
        // It is at most a million.
        Some((share * 1e6).round() as u32)
    }
}

/// `0.1` for 100,000 millionths.
pub(crate) fn share_text(ppm: u32) -> String {
    (f64::from(ppm) / 1e6).to_string()
}

impl Kind for Ascii {
    type Value = char;
    fn words(&self) -> String {
        "one ASCII character".to_owned()
    }
    fn shown(&self, value: &char) -> String {
        value.to_string()
    }
}

impl Read for Ascii {
    fn read(&self, entry: &Entry<'_>) -> Option<char> {
        let text = entry.any_text("for example \",\"")?;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(one), None) if one.is_ascii() && !matches!(one, '\n' | '\r' | '\0') => Some(one),
            _ => {
                let message = format_args!("{text:?} is not one ASCII character");
                entry.refuse(message, "for example \";\", \"|\" or \"\\t\"");
                None
            }
        }
    }
}

impl Kind for AnyText {
    type Value = String;
    fn words(&self) -> String {
        "text".to_owned()
    }
    fn shown(&self, value: &String) -> String {
        value.clone()
    }
}

impl Read for AnyText {
    fn read(&self, entry: &Entry<'_>) -> Option<String> {
        entry.any_text("for example \"\\\\N\"").map(str::to_owned)
    }
}

/// `a, b or c`.
pub(super) fn or(words: &[String]) -> String {
    match words.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => words.concat(),
    }
}

impl<T: Copy + PartialEq> Kind for Word<T> {
    type Value = T;
    fn words(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| format!("`{word}`")).collect();
        or(&words)
    }
    fn shown(&self, value: &T) -> String {
        self.0
            .iter()
            .find(|(_, meant)| meant == value)
            .map_or_else(String::new, |(word, _)| (*word).to_owned())
    }
}

impl<T: Copy + PartialEq> Read for Word<T> {
    fn read(&self, entry: &Entry<'_>) -> Option<T> {
        entry.choice(self.0)
    }
}

impl<'a> Table<'a> {
    /// The entry of the key; its absence is logged if it is required.
    pub fn entry<K: Kind>(&mut self, key: &Key<K>) -> Option<Entry<'a>> {
        match key.absent {
            Absent::Refused(hint) => self.require(key.name, hint),
            Absent::Is(_) | Absent::Means(_) => self.get(key.name),
        }
    }

    /// The key's value, or its default. `None`: there is a problem, which is logged.
    pub fn value<K: Read>(&mut self, key: &Key<K>) -> Option<K::Value> {
        match self.entry(key) {
            Some(entry) => key.kind.read(&entry),
            None => key.default(),
        }
    }

    /// The key's value, if it is present. Outer `None`: there is a problem, which is logged.
    pub fn optional<K: Read>(&mut self, key: &Key<K>) -> Option<Option<K::Value>> {
        match self.entry(key) {
            Some(entry) => key.kind.read(&entry).map(Some),
            None => Some(None),
        }
    }
}
