//! The format of a record's payload, and the facts of each format.
//!
//! Owns: the list of formats, the interface for the rest of the program ([`FormatFacts`]). Does not
//! own: the keys of a format (its module), decoding (`streamctl_engine::format`).
//! Rule: no code outside matches on the format: a new one is a module here, one in
//! `engine/src/format/`, and a line in the registry of each.

mod csv;
mod json;

pub use csv::CsvFormat;
pub use json::JsonFormat;

use super::key::{Absent, Fields, Key, Kind, Part, Read, or};
use super::keys::key;
use super::raw::{Entry, Table};
use serde::{Deserialize, Serialize};
use std::ops::Deref;

/// The interface of a format for the rest of the program.
pub trait FormatFacts {
    /// The value of `format` in the job file.
    fn name(&self) -> &'static str;
    /// Its keys, except `format`, and their values.
    fn fields(&self) -> Fields {
        Fields::new()
    }
}

/// A format in a job file.
pub(super) struct Registered {
    /// The value of `format`.
    pub word: &'static str,
    /// Its keys; `None`: it has none.
    pub part: Option<&'static Part>,
    read: fn(&mut Table<'_>) -> Option<PayloadFormat>,
}

macro_rules! payload_formats {
    ($($variant:ident($format:ty) in $module:ident),+ $(,)?) => {
        /// The format of a record's payload, with its settings.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "type", rename_all = "snake_case")]
        pub enum PayloadFormat {
            $(#[doc = concat!("See [`", stringify!($format), "`].")] $variant($format)),+
        }

        impl Deref for PayloadFormat {
            type Target = dyn FormatFacts;
            fn deref(&self) -> &(dyn FormatFacts + 'static) {
                match self {
                    $(Self::$variant(format) => format),+
                }
            }
        }

        pub(super) static FORMATS: &[&Registered] = &[$(&$module::FORMAT),+];
    };
}

// The registry.
payload_formats! {
    Json(JsonFormat) in json,
    Csv(CsvFormat) in csv,
}

impl Default for PayloadFormat {
    fn default() -> Self {
        Self::Json(JsonFormat::default())
    }
}

impl PayloadFormat {
    /// Jobs of earlier builds have no format; the default is not stored.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

pub(super) static FORMAT: Key<Format> = key(
    "format",
    Format,
    Absent::Is(&json::FORMAT),
    "how the payload of a record is written",
);

/// The value of `format`.
pub(super) struct Format;

impl Kind for Format {
    type Value = &'static Registered;
    fn words(&self) -> String {
        let words: Vec<_> = FORMATS
            .iter()
            .map(|format| format!("`{}`", format.word))
            .collect();
        or(&words)
    }
    fn shown(&self, format: &&'static Registered) -> String {
        format.word.to_owned()
    }
}

impl Read for Format {
    fn read(&self, entry: &Entry<'_>) -> Option<&'static Registered> {
        let words: Vec<_> = FORMATS
            .iter()
            .map(|format| (format.word, *format))
            .collect();
        entry.choice(&words)
    }
}

/// Reads `format` and the keys that depend on it.
pub(super) fn read(table: &mut Table<'_>) -> Option<PayloadFormat> {
    let registered = table.value(&FORMAT)?;
    (registered.read)(table)
}

/// The format that has a key of this name.
pub(super) fn of_key(key: &str) -> Option<&'static str> {
    let has = |format: &&&Registered| format.part.is_some_and(|part| part.has(key));
    FORMATS.iter().find(has).map(|format| format.word)
}
