//! From a key to its column.
//!
//! Owns: comparing without regard to case, the memory of the order in which keys came.
//! Rule: what is remembered only makes it faster; a lookup gives the same answer without it.

use super::scan::unescape;
use std::collections::HashMap;

/// Keys remembered; hostile records could bring ever new ones.
const KEYS_REMEMBERED_MAX: usize = 1_024;
/// Longer keys are not remembered.
const REMEMBERED_BYTES_MAX: usize = 256;
/// How far ahead of the expected key to look, for records that leave some out.
const LOOK_AHEAD: usize = 4;

/// Which keys are columns.
#[derive(Debug)]
pub(super) struct Keys {
    columns: HashMap<String, usize>,
    /// Keys as written, in the order of the records; a record mostly has the keys of the one before it.
    order: Vec<(Box<str>, Option<usize>)>,
    /// Where in `order` the next key is expected.
    cursor: usize,
    scratch: String,
}

impl Keys {
    /// Names in lower case, each with its number.
    pub fn new(columns: HashMap<String, usize>) -> Self {
        Self { columns, order: Vec::new(), cursor: 0, scratch: String::new() }
    }

    /// A new record begins.
    pub fn begin(&mut self) {
        self.cursor = 0;
    }

    /// The column of a key, as it stands between its quotes. `None`: nobody wants it.
    pub fn find(&mut self, raw: &str, escaped: bool) -> Option<usize> {
        let ahead = self.order[self.cursor..].iter().take(LOOK_AHEAD).position(|(key, _)| **key == *raw);
        if let Some(ahead) = ahead {
            self.cursor += ahead + 1;
            return self.order[self.cursor - 1].1;
        }
        let column = self.look_up(raw, escaped);
        self.remember(raw, column);
        column
    }

    fn look_up(&mut self, raw: &str, escaped: bool) -> Option<usize> {
        self.scratch.clear();
        if escaped {
            unescape(raw, &mut self.scratch).expect("escapes were validated, and writing to text does not fail");
        } else {
            self.scratch.push_str(raw);
        }
        if self.scratch.is_ascii() {
            self.scratch.make_ascii_lowercase();
        } else {
            self.scratch = self.scratch.to_lowercase();
        }
        self.columns.get(&self.scratch).copied()
    }

    fn remember(&mut self, raw: &str, column: Option<usize>) {
        if raw.len() > REMEMBERED_BYTES_MAX {
            return;
        }
        if let Some(known) = self.order.iter().position(|(key, _)| **key == *raw) {
            self.cursor = known + 1;
            return;
        }
        if self.order.len() == KEYS_REMEMBERED_MAX {
            self.order.clear();
            self.cursor = 0;
        }
        self.order.insert(self.cursor, (raw.into(), column));
        self.cursor += 1;
    }
}
