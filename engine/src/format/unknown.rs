//! Keys of records that no column has.
//!
//! Owns: their names and how often they were met. Does not own: which key is a column
//! (`json`).
//! Rule: a key counts once its record is a row. The first [`UNKNOWN_KEYS_TRACKED_MAX`] names are
//! counted; hostile records could send new ones without end.

use std::collections::HashMap;
use std::mem::take;
use streamctl_proto::report::{UNKNOWN_KEY_CHARS_MAX, UnknownKey};

/// Most names that one decoder counts.
pub const UNKNOWN_KEYS_TRACKED_MAX: usize = 1_000;

/// The number of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnknownName(usize);

#[derive(Debug, Default)]
pub(super) struct UnknownKeys {
    numbers: HashMap<String, usize>,
    /// By number.
    counts: Vec<u64>,
    /// Of the record that is being read.
    met: Vec<UnknownName>,
}

impl UnknownKeys {
    /// The number of a name; `None` if it is one too many.
    pub fn key(&mut self, prefix: &str, key: &str) -> Option<UnknownName> {
        let name = prefix.chars().chain(key.chars());
        let name: String = name.take(UNKNOWN_KEY_CHARS_MAX).collect();
        if let Some(number) = self.numbers.get(&name) {
            return Some(UnknownName(*number));
        }
        let number = self.counts.len();
        if number == UNKNOWN_KEYS_TRACKED_MAX {
            return None;
        }
        self.numbers.insert(name, number);
        self.counts.push(0);
        Some(UnknownName(number))
    }

    #[inline]
    pub fn met(&mut self, name: UnknownName) {
        self.met.push(name);
    }

    /// Forgets the keys of a record that is being read.
    #[inline]
    pub fn begin(&mut self) {
        self.met.clear();
    }

    /// How many keys were met of the record.
    pub fn mark(&self) -> usize {
        self.met.len()
    }

    /// Forgets those that were met since.
    pub fn back_to(&mut self, mark: usize) {
        self.met.truncate(mark);
    }

    /// Counts the keys of the record, which is a row.
    #[inline]
    pub fn count(&mut self) {
        for UnknownName(number) in self.met.drain(..) {
            self.counts[number] += 1;
        }
    }

    /// What was counted since the last call.
    pub fn take(&mut self) -> Vec<UnknownKey> {
        self.met.clear();
        let counts = &mut self.counts;
        let counted = self.numbers.iter().map(|(name, number)| UnknownKey {
            key: name.clone(),
            count: take(&mut counts[*number]),
        });
        let mut counted: Vec<UnknownKey> = counted.filter(|one| one.count > 0).collect();
        counted.sort_by(|one, other| one.key.cmp(&other.key));
        counted
    }
}
