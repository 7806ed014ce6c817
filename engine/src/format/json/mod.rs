//! `format = "json"`: JSON objects, white space around them allowed; one per record, or several, one
//! behind the other.
//!
//! Owns: which key is which column. Does not own: the grammar ([`scan`]), what becomes of several
//! objects.
//! Rule: the key that is the column's name in each letter counts; without one, a key that differs
//! in case, unless the catalog says otherwise ([`wanted`]). Of keys that count alike the last one
//! does; a missing key and `null` are null. The whole object must be valid JSON (RFC 8259, at most
//! [`JSON_DEPTH_MAX`] levels), including the parts that the query does not read: a record that is
//! not JSON is a dead letter for every query.

pub(super) mod keys;
pub(crate) mod scan;
pub(super) mod wanted;

pub use scan::{JSON_DEPTH_MAX, Syntax};
pub use wanted::with_keys;

use super::encoding::without_mark;
use super::unknown::UnknownKeys;
use super::{Kind, Locate, Located, Span, csv};
use arrow::datatypes::Schema;
use keys::{Found, Keys};
use scan::Scanner;
use streamctl_proto::spec::JsonFormat;
use wanted::{Comparison, key_of};

/// What the beginning of a file is, as far as one line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Array,
    /// An array that does not end in this line.
    OpenArray,
    /// An object that does not end in this line.
    OpenObject,
    /// An object, or not JSON.
    Other,
}

impl Shape {
    /// Of a line that is not blank.
    pub fn of(line: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(line) else {
            return Self::Other;
        };
        let text = without_mark(text).trim_ascii_start();
        let mut scanner = Scanner::new(text);
        let read = scanner.value().and_then(|_| scanner.end());
        match (text.as_bytes().first(), read) {
            (Some(b'['), Ok(())) => Self::Array,
            (Some(b'['), Err(Syntax::Truncated { .. })) => Self::OpenArray,
            (Some(b'{'), Err(Syntax::Truncated { .. })) => Self::OpenObject,
            _ => Self::Other,
        }
    }
}

#[derive(Debug)]
pub(super) struct JsonLocator {
    keys: Keys,
    /// Records are rows of CSV files as objects; one that is not did not fit its header.
    of_rows: bool,
    /// Per wanted column: the object has had its exact name.
    exact: Vec<bool>,
}

impl JsonLocator {
    pub fn new(format: &JsonFormat, schema: &Schema, names: &[&str], wanted: &[usize]) -> Self {
        let comparison = Comparison::of(schema);
        let key = |index: &usize| key_of(schema.field(*index)).unwrap_or(names[*index]);
        let all: Vec<usize> = (0..names.len()).collect();
        let unread = all.iter().filter(|index| !wanted.contains(index));
        Self {
            keys: Keys::new(wanted.iter().map(key), unread.map(key), comparison),
            of_rows: format.of_rows,
            exact: vec![false; wanted.len()],
        }
    }

    /// Reads a key that is not the next one in the remembered order.
    #[cold]
    fn unexpected_key(
        &mut self,
        scanner: &mut Scanner<'_>,
        text: &str,
        unknown: &mut UnknownKeys,
    ) -> Result<Found, Syntax> {
        let rest = scanner.rest();
        let key = scanner.key()?;
        let written = &rest[..rest.len() - scanner.rest().len()];
        Ok(self.keys.find(
            key.of(text),
            key.kind == Kind::Escaped,
            written.trim_ascii_end(),
            |name| unknown.key("", name),
        ))
    }

    /// Reads the object at the beginning; returns where the next one begins. `MIXED`: its keys may
    /// be spelled in several ways.
    fn scan<const MIXED: bool>(
        &mut self,
        text: &str,
        spans: &mut [Span],
        unknown: &mut UnknownKeys,
    ) -> Result<Option<usize>, Syntax> {
        self.keys.begin();
        unknown.begin();
        if MIXED {
            self.exact.fill(false);
        }
        let mut scanner = Scanner::new(text);
        let mut more = scanner.begin_object()?;
        while more {
            let found = match self.keys.expected(scanner.rest()) {
                Some((length, found)) => {
                    scanner.known_key(length);
                    found
                }
                None => self.unexpected_key(&mut scanner, text, unknown)?,
            };
            let mut unread = Span::NULL;
            let value = match found {
                Found::Column(target) if MIXED && !target.is_exact && self.exact[target.column] => {
                    &mut unread
                }
                Found::Column(target) => {
                    if MIXED {
                        self.exact[target.column] |= target.is_exact;
                    }
                    &mut spans[target.column]
                }
                Found::Unread => &mut unread,
                Found::Unknown(name) => {
                    unknown.met(name);
                    &mut unread
                }
            };
            scanner.value_to(value)?;
            more = scanner.more()?;
        }
        scanner.end_or_object()
    }

    /// Reads again the first object that has a key in another spelling than those before it.
    #[cold]
    fn scan_again(
        &mut self,
        text: &str,
        spans: &mut [Span],
        unknown: &mut UnknownKeys,
    ) -> Result<Option<usize>, Syntax> {
        spans.fill(Span::NULL);
        self.scan::<true>(text, spans, unknown)
    }
}

impl Locate for JsonLocator {
    fn locate<'a>(
        &'a mut self,
        payload: &'a str,
        spans: &mut [Span],
        unknown: &mut UnknownKeys,
    ) -> Result<Located<'a>, String> {
        let was_mixed = self.keys.is_mixed();
        let mut next = match was_mixed {
            false => self.scan::<false>(payload, spans, unknown),
            true => self.scan::<true>(payload, spans, unknown),
        };
        if self.keys.is_mixed() && !was_mixed && next.is_ok() {
            next = self.scan_again(payload, spans, unknown);
        }
        match next {
            Ok(next) => Ok(Located {
                text: payload,
                next,
            }),
            Err(_) if self.of_rows && !payload.starts_with('{') => Err(csv::misfit(payload)),
            Err(error) => Err(error.to_string()),
        }
    }
}
