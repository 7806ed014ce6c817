//! From a key to its column.
//!
//! Owns: the search, which keys have a column's exact name, the remembered order of keys. Does not
//! own: how keys are compared ([`super::wanted`]), counting keys that no column has.
//! Rule: the memory is only an optimisation; a lookup returns the same result without it.

use super::scan::unescape;
use super::wanted::Comparison;
use crate::format::unknown::UnknownName;
use std::collections::{HashMap, HashSet};

/// Largest number of remembered keys; hostile records could send new ones without end.
const KEYS_REMEMBERED_MAX: usize = 1_024;
/// Longer keys are not remembered.
const REMEMBERED_BYTES_MAX: usize = 256;
/// How far ahead of the expected key to look, for records that leave some out.
const LOOK_AHEAD: usize = 4;
/// Bytes of a key that are compared at once.
const HEAD: usize = 16;

#[derive(Debug)]
pub(in crate::format) struct Keys {
    /// By the name in the form in which names are compared.
    columns: HashMap<String, Named>,
    /// Names in the same form of columns that are not read.
    unread: HashSet<String>,
    comparison: Comparison,
    /// Keys as written, in the order of the records. Most records have the keys of the record
    /// before them.
    order: Vec<(Written, Found)>,
    /// Where in `order` the next key is expected.
    cursor: usize,
    /// A column was met by its exact name and by another spelling.
    is_mixed: bool,
    scratch: String,
}

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::format) enum Found {
    Column(Target),
    /// A column that is not read, or a name that is not counted.
    Unread,
    /// No column has it.
    Unknown(UnknownName),
}

/// The column of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::format) struct Target {
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
    /// The keys of columns; each has its place as its number. `unread`: those of other columns.
    pub fn new<'a>(
        names: impl Iterator<Item = &'a str>,
        unread: impl Iterator<Item = &'a str>,
        comparison: Comparison,
    ) -> Self {
        let folded = |name| comparison.folded(&comparison.exact(name)).into_owned();
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
            unread: unread.map(folded).collect(),
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
    /// column. Inlined, because it is called for each key, and nearly always the first one is it.
    #[inline(always)]
    pub fn expected(&mut self, rest: &[u8]) -> Option<(usize, Found)> {
        let (key, found) = self.order.get(self.cursor)?;
        if !key.begins(rest) {
            return self.expected_behind(rest);
        }
        self.cursor += 1;
        Some((key.bytes.len(), *found))
    }

    /// The same behind the next key, for records that leave some out.
    #[inline(never)]
    fn expected_behind(&mut self, rest: &[u8]) -> Option<(usize, Found)> {
        let next = self.cursor + 1;
        let behind = self.order.get(next..)?.iter().take(LOOK_AHEAD - 1);
        for (passed, (key, found)) in behind.enumerate() {
            if key.begins(rest) {
                self.cursor = next + passed + 1;
                return Some((key.bytes.len(), *found));
            }
        }
        None
    }

    /// The column of a key that was not expected. `raw` is the text between its quotes; `written`
    /// extends to its colon. `unknown` numbers a name that no column has.
    pub fn find(
        &mut self,
        raw: &str,
        escaped: bool,
        written: &[u8],
        unknown: impl FnOnce(&str) -> Option<UnknownName>,
    ) -> Found {
        let found = self.look_up(raw, escaped, unknown);
        self.remember(written, found);
        found
    }

    fn look_up(
        &mut self,
        raw: &str,
        escaped: bool,
        unknown: impl FnOnce(&str) -> Option<UnknownName>,
    ) -> Found {
        self.scratch.clear();
        if escaped {
            unescape(raw, &mut self.scratch)
                .expect("escapes were validated, and writing to text does not fail");
        } else {
            self.scratch.push_str(raw);
        }
        let exact = self.comparison.exact(&self.scratch);
        let folded = self.comparison.folded(&exact);
        let Some(named) = self.columns.get_mut(&*folded) else {
            if self.unread.contains(&*folded) {
                return Found::Unread;
            }
            return unknown(&self.scratch).map_or(Found::Unread, Found::Unknown);
        };
        let is_exact = named.name == *exact;
        named.met[usize::from(is_exact)] = true;
        self.is_mixed |= named.met == [true; 2];
        Found::Column(Target {
            column: named.column,
            is_exact,
        })
    }

    fn remember(&mut self, written: &[u8], found: Found) {
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
            .insert(self.cursor, (Written::new(written), found));
        self.cursor += 1;
    }
}
