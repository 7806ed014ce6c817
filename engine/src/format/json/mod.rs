//! `format = "json"`: one JSON object per record, white space around it allowed.
//!
//! Owns: which key is which column. Does not own: the grammar ([`scan`]).
//! Rule: keys are compared without regard to case, unless the catalog says otherwise ([`wanted`]); of a key that comes twice the last one counts; a
//! missing key and `null` are null. The whole object must be valid JSON (RFC 8259, UTF-8, no lone
//! surrogates, at most [`JSON_DEPTH_MAX`] levels), including the parts that the query does not
//! read: a record that is not JSON is a dead letter for every query.

mod keys;
pub(crate) mod scan;
mod wanted;

pub use scan::{JSON_DEPTH_MAX, Syntax};
pub use wanted::with_keys;

use super::{Kind, Locate, Span};
use arrow::datatypes::Schema;
use keys::Keys;
use scan::Scanner;
use wanted::Comparison;

#[derive(Debug)]
pub(super) struct JsonLocator {
    keys: Keys,
}

impl JsonLocator {
    pub fn new(schema: &Schema, wanted: &[usize]) -> Self {
        let comparison = Comparison::of(schema);
        let keys = wanted
            .iter()
            .map(|index| comparison.wanted(schema.field(*index)));
        let columns = keys
            .enumerate()
            .map(|(column, key)| (key, column))
            .collect();
        Self {
            keys: Keys::new(columns, comparison),
        }
    }

    /// Reads a key that is not the next one in the remembered order.
    #[cold]
    fn unexpected_key(
        &mut self,
        scanner: &mut Scanner<'_>,
        text: &str,
    ) -> Result<Option<usize>, Syntax> {
        let rest = scanner.rest();
        let key = scanner.key()?;
        let written = &rest[..rest.len() - scanner.rest().len()];
        Ok(self.keys.find(
            key.of(text),
            key.kind == Kind::Escaped,
            written.trim_ascii_end(),
        ))
    }

    fn scan(&mut self, text: &str, spans: &mut [Span]) -> Result<(), Syntax> {
        self.keys.begin();
        let mut scanner = Scanner::new(text);
        let mut more = scanner.begin_object()?;
        while more {
            let column = match self.keys.expected(scanner.rest()) {
                Some((length, column)) => {
                    scanner.known_key(length);
                    column
                }
                None => self.unexpected_key(&mut scanner, text)?,
            };
            let value = scanner.value()?;
            if let Some(column) = column {
                spans[column] = value;
            }
            more = scanner.more()?;
        }
        scanner.end()
    }
}

impl Locate for JsonLocator {
    fn locate<'a>(&'a mut self, payload: &'a str, spans: &mut [Span]) -> Result<&'a str, String> {
        match self.scan(payload, spans) {
            Ok(()) => Ok(payload),
            Err(error) => Err(error.to_string()),
        }
    }
}
