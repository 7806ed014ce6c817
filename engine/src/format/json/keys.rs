//! From a key to its column.
//!
//! Owns: the search, the remembered order of keys. Does not own: their comparison ([`super::wanted`]).
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
    columns: HashMap<String, usize>,
    comparison: Comparison,
    /// Keys as written, in the order of the records. Most records have the keys of the record
    /// before them.
    order: Vec<(Written, Option<usize>)>,
    /// Where in `order` the next key is expected.
    cursor: usize,
    scratch: String,
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
    /// Keys in the form in which they are compared, each with the number of its column.
    pub fn new(columns: HashMap<String, usize>, comparison: Comparison) -> Self {
        Self {
            columns,
            comparison,
            order: Vec::new(),
            cursor: 0,
            scratch: String::new(),
        }
    }

    pub fn begin(&mut self) {
        self.cursor = 0;
    }

    /// The key at the beginning of `rest`, if it was expected: its length with the colon, and its
    /// column.
    #[inline]
    pub fn expected(&mut self, rest: &[u8]) -> Option<(usize, Option<usize>)> {
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
    pub fn find(&mut self, raw: &str, escaped: bool, written: &[u8]) -> Option<usize> {
        let column = self.look_up(raw, escaped);
        self.remember(written, column);
        column
    }

    fn look_up(&mut self, raw: &str, escaped: bool) -> Option<usize> {
        self.scratch.clear();
        if escaped {
            unescape(raw, &mut self.scratch)
                .expect("escapes were validated, and writing to text does not fail");
        } else {
            self.scratch.push_str(raw);
        }
        self.comparison.normalize(&mut self.scratch);
        self.columns.get(&self.scratch).copied()
    }

    fn remember(&mut self, written: &[u8], column: Option<usize>) {
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
