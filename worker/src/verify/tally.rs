//! Two multisets of rows, compared in bounded memory.
//!
//! Owns: sums of hashes, the difference where they disagree. Does not own: what a row is.
//! Rule: equal sums of 128-bit hashes in every bucket mean equal rows (except for a chance of
//! 2^-100). Sums are kept for any number of rows; rows themselves only if sums differ, up to a
//! limit.

use crate::sink::stored::Keyed;
use md5::{Digest as _, Md5};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use streamctl_proto::verify::{Comparison, SAMPLE_CHARS_MAX, SAMPLES_MAX};

/// Rows are distributed over this many sums: a difference is searched only in its own buckets.
const BUCKETS: usize = 4_096;
/// Most distinct rows that differ; about 100 MiB with their texts.
pub const DIFFERENT_ROWS_MAX: usize = 1 << 20;
/// Text of different rows that is kept, to show samples.
const TEXT_BYTES_MAX: usize = 32 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Computed again from the records.
    Replayed,
    /// Read from an object.
    Stored,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    hashes: u128,
}

#[derive(Debug)]
pub struct Tally {
    replayed: Vec<Sum>,
    stored: Vec<Sum>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            replayed: vec![Sum::default(); BUCKETS],
            stored: vec![Sum::default(); BUCKETS],
        }
    }
}

fn hash(key: &[u8]) -> u128 {
    u128::from_be_bytes(Md5::digest(key).into())
}

fn bucket(hash: u128) -> usize {
    // The remainder is below BUCKETS.
    (hash % BUCKETS as u128) as usize
}

impl Tally {
    pub fn add(&mut self, side: Side, key: &[u8]) {
        let hash = hash(key);
        let sums = match side {
            Side::Replayed => &mut self.replayed,
            Side::Stored => &mut self.stored,
        };
        let sum = &mut sums[bucket(hash)];
        sum.rows += 1;
        sum.hashes = sum.hashes.wrapping_add(hash);
    }
}

/// The rows that one side has more of than the other.
#[derive(Debug)]
pub struct Differences {
    /// Which buckets differ; empty: none.
    buckets: Vec<bool>,
    /// How many more are replayed than stored; never zero.
    rows: HashMap<u128, (i64, Option<String>)>,
    text_bytes: usize,
    too_many: bool,
}

impl Differences {
    /// The buckets to search.
    pub fn of(tally: &Tally) -> Self {
        let mut buckets: Vec<bool> = tally
            .replayed
            .iter()
            .zip(&tally.stored)
            .map(|(one, other)| one != other)
            .collect();
        if !buckets.contains(&true) {
            buckets.clear();
        }
        Self {
            buckets,
            rows: HashMap::new(),
            text_bytes: 0,
            too_many: false,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Visits a row in the second pass.
    pub fn add(&mut self, side: Side, keyed: Keyed<'_>) {
        if self.is_empty() {
            return;
        }
        let hash = hash(keyed.key);
        if !self.buckets[bucket(hash)] {
            return;
        }
        let step = if side == Side::Replayed { 1 } else { -1 };
        let full = self.rows.len() >= DIFFERENT_ROWS_MAX;
        match self.rows.entry(hash) {
            Entry::Occupied(mut entry) => {
                entry.get_mut().0 += step;
                if entry.get().0 == 0 {
                    let (_, text) = entry.remove();
                    self.text_bytes -= text.map_or(0, |text| text.len());
                }
            }
            Entry::Vacant(_) if full => self.too_many = true,
            Entry::Vacant(entry) => {
                let text = (self.text_bytes < TEXT_BYTES_MAX).then(|| cut((keyed.text)()));
                self.text_bytes += text.as_ref().map_or(0, String::len);
                entry.insert((step, text));
            }
        }
    }

    pub fn compared(self, tally: &Tally) -> Comparison {
        let rows = |sums: &[Sum]| sums.iter().map(|sum| sum.rows).sum();
        let mut compared = Comparison {
            replayed: rows(&tally.replayed),
            stored: rows(&tally.stored),
            at_least: self.too_many,
            ..Comparison::default()
        };
        let mut different: Vec<(u128, (i64, Option<String>))> = self.rows.into_iter().collect();
        // The same samples every time.
        different.sort_unstable_by_key(|(hash, _)| *hash);
        for (_, (more, text)) in different {
            let (count, samples) = match more > 0 {
                true => (&mut compared.only_replayed, &mut compared.samples_replayed),
                false => (&mut compared.only_stored, &mut compared.samples_stored),
            };
            *count += more.unsigned_abs();
            if samples.len() < SAMPLES_MAX {
                samples.extend(text);
            }
        }
        compared
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(SAMPLE_CHARS_MAX) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(replayed: &[&str], stored: &[&str]) -> Comparison {
        let both = || {
            let of = |side, rows: &'_ [&'_ str]| {
                rows.iter()
                    .map(|row| (side, (*row).to_owned()))
                    .collect::<Vec<_>>()
            };
            [of(Side::Stored, stored), of(Side::Replayed, replayed)].concat()
        };
        let mut tally = Tally::default();
        both()
            .iter()
            .for_each(|(side, row)| tally.add(*side, row.as_bytes()));
        let mut differences = Differences::of(&tally);
        for (side, row) in both() {
            differences.add(
                side,
                Keyed {
                    key: row.as_bytes(),
                    text: &|| row.clone(),
                },
            );
        }
        differences.compared(&tally)
    }

    #[test]
    fn the_same_rows_in_another_order_are_equal_and_each_counts_as_often_as_it_is_there() {
        assert!(compared(&["a", "b", "b"], &["b", "a", "b"]).equal());
        let twice = compared(&["a", "b", "b"], &["a", "b"]);
        assert_eq!(
            (
                twice.replayed,
                twice.stored,
                twice.only_replayed,
                twice.only_stored
            ),
            (3, 2, 1, 0)
        );
        assert_eq!(twice.samples_replayed, ["b"]);
        assert!(!twice.equal());
    }

    #[test]
    fn a_row_that_changed_is_named_on_both_sides() {
        let changed = compared(&["a", "b", "c"], &["a", "B", "c"]);
        assert_eq!((changed.only_replayed, changed.only_stored), (1, 1));
        assert_eq!(
            (changed.samples_replayed, changed.samples_stored),
            (vec!["b".to_owned()], vec!["B".to_owned()])
        );
    }

    #[test]
    fn samples_are_few_and_short() {
        let rows: Vec<String> = (0..50)
            .map(|n| format!("{n}{}", "x".repeat(2 * SAMPLE_CHARS_MAX)))
            .collect();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let compared = compared(&rows, &[]);
        assert_eq!(
            (compared.only_replayed, compared.samples_replayed.len()),
            (50, SAMPLES_MAX)
        );
        assert!(compared.samples_replayed[0].chars().count() <= SAMPLE_CHARS_MAX + 3);
    }
}
