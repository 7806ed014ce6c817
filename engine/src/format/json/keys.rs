//! From a key to its column.
//!
//! Owns: the search, which keys have a column's exact name, the remembered order of keys. Does not
//! own: how keys are compared ([`super::wanted`]).
//! Rule: the memory is only an optimisation; a lookup returns the same result without it.

use super::scan::unescape;
use super::wanted::Comparison;
use std::collections::HashMap;

/// Largest number of remembered keys; hostile records could send new ones without end.
const KEYS_REMEMBERED_MAX: usize = 1_024;
/// Longer keys are not remembered.
const REMEMBERED_BYTES_MAX: usize = 256;
/// How far ahead of the expected key to look, for records that leave some out.
const LOOK_AHEAD: usize = 4;
/// Bytes of a key that are compared at once.
const HEAD: usize = 16;

#[derive(Debug)]
pub(super) struct Keys {
    /// By the name in the form in which names are compared.
    columns: HashMap<String, Named>,
    comparison: Comparison,
    /// Keys as written, in the order of the records. Most records have the keys of the record
    /// before them.
    order: Vec<(Written, Option<Target>)>,
    /// Where in `order` the next key is expected.
    cursor: usize,
    /// A column was met by its exact name and by another spelling.
    is_mixed: bool,
    scratch: String,
}

/// The column of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub column: usize,
    /// The key is the column's name in each letter.
    pub is_exact: bool,
}

#[derive(Debug)]
struct Named {
    column: usize,
    name: String,
    /// Met by another spelling, and by its exact name.
    met: [bool; 2],
}

/// A key as written, from its opening quote to its colon. The same bytes always have the same
/// result.
#[derive(Debug)]
struct Written {
    bytes: Box<[u8]>,
    /// The first of them as one number, and which of its bits count.
    head: u128,
    mask: u128,
}

impl Written {
    fn new(bytes: &[u8]) -> Self {
        let mut head = [0; HEAD];
        let mut mask = [0; HEAD];
        for ((head, mask), byte) in head.iter_mut().zip(&mut mask).zip(bytes) {
            (*head, *mask) = (*byte, 0xFF);
        }
        Self {
            bytes: bytes.into(),
            head: u128::from_le_bytes(head),
            mask: u128::from_le_bytes(mask),
        }
    }

    /// Whether `rest` begins with this key. Most keys are short and most records continue after
    /// them.
    #[inline]
    fn begins(&self, rest: &[u8]) -> bool {
        match rest.first_chunk::<HEAD>() {
            Some(head) if u128::from_le_bytes(*head) & self.mask != self.head => false,
            Some(_) if self.bytes.len() <= HEAD => true,
            _ => rest.starts_with(&self.bytes),
        }
    }
}

impl Keys {
    /// The keys of columns; each has its place as its number.
    pub fn new<'a>(names: impl Iterator<Item = &'a str>, comparison: Comparison) -> Self {
        let named = |(column, name): (usize, &str)| {
            let name = comparison.exact(name).into_owned();
            let folded = comparison.folded(&name).into_owned();
            let named = Named {
                column,
                name,
                met: [false; 2],
            };
            (folded, named)
        };
        Self {
            columns: names.enumerate().map(named).collect(),
            comparison,
            order: Vec::new(),
            cursor: 0,
            is_mixed: false,
            scratch: String::new(),
        }
    }

    /// Whether a record may have a column by its exact name and by another spelling.
    pub fn is_mixed(&self) -> bool {
        self.is_mixed
    }

    pub fn begin(&mut self) {
        self.cursor = 0;
    }

    /// The key at the beginning of `rest`, if it was expected: its length with the colon, and its
    /// column.
    #[inline]
    pub fn expected(&mut self, rest: &[u8]) -> Option<(usize, Option<Target>)> {
        let ahead = self.order[self.cursor..]
            .iter()
            .take(LOOK_AHEAD)
            .position(|(key, _)| key.begins(rest))?;
        let (key, column) = &self.order[self.cursor + ahead];
        self.cursor += ahead + 1;
        Some((key.bytes.len(), *column))
    }

    /// The column of a key that was not expected. `raw` is the text between its quotes; `written`
    /// extends to its colon. `None`: no query column uses it.
    pub fn find(&mut self, raw: &str, escaped: bool, written: &[u8]) -> Option<Target> {
        let column = self.look_up(raw, escaped);
        self.remember(written, column);
        column
    }

    fn look_up(&mut self, raw: &str, escaped: bool) -> Option<Target> {
        self.scratch.clear();
        if escaped {
            unescape(raw, &mut self.scratch)
                .expect("escapes were validated, and writing to text does not fail");
        } else {
            self.scratch.push_str(raw);
        }
        let exact = self.comparison.exact(&self.scratch);
        let named = self.columns.get_mut(&*self.comparison.folded(&exact))?;
        let is_exact = named.name == *exact;
        named.met[usize::from(is_exact)] = true;
        self.is_mixed |= named.met == [true; 2];
        Some(Target {
            column: named.column,
            is_exact,
        })
    }

    fn remember(&mut self, written: &[u8], column: Option<Target>) {
        if written.len() > REMEMBERED_BYTES_MAX {
            return;
        }
        if let Some(known) = self
            .order
            .iter()
            .position(|(key, _)| *key.bytes == *written)
        {
            self.cursor = known + 1;
            return;
        }
        if self.order.len() == KEYS_REMEMBERED_MAX {
            self.order.clear();
            self.cursor = 0;
        }
        self.order
            .insert(self.cursor, (Written::new(written), column));
        self.cursor += 1;
    }
}
