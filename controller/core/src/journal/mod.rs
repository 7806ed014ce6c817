//! What happened to the cluster and its jobs: bounded, and in the store.
//!
//! Owns: the limits, folding, which blocks of the stored form have changed. Does not own: what is
//! noted (each decision), writing (the driver).
//! Rule: a burst of one kind pushes out nothing else. Repetitions are one entry with a count, and if
//! the journal is full, the oldest entry of the largest kind goes.

mod entry;

pub use entry::{Entry, Kind, Note, Severity, TEXT_BYTES_MAX};

use std::collections::{BTreeMap, BTreeSet};
use streamctl_proto::{JobName, Term};

/// Most entries. With the longest texts, their stored form is below 1 MiB.
pub const ENTRIES_MAX: usize = 1_024;
/// Older entries are dropped.
pub const AGE_MAX_MS: i64 = 7 * 24 * 3_600_000;
/// What happens again within this time is the same entry.
pub const FOLD_MS: i64 = 600_000;
/// Entries of one kind that may begin within [`FOLD_MS`]. Further ones are one entry together.
pub const KIND_ENTRIES_MAX: usize = 64;
/// Entries of a block, the unit of the stored form: 32 of the longest are below 32 KiB.
pub const BLOCK_ENTRIES: u64 = 32;
/// Blocks of one write.
pub const BLOCKS_WRITTEN_MAX: usize = 16;
/// Subject of the entry that takes further ones of a kind.
const FURTHER: &str = "further";

/// A block's number, and its entries; none: the block is to be removed.
pub type Block = (u64, Vec<Entry>);

#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// By revision.
    entries: Vec<Entry>,
    next_id: u64,
    last_revision: u64,
    /// Blocks that the store does not hold as they are.
    changed: BTreeSet<u64>,
    /// Of these, the ones that are being written.
    writing: BTreeSet<u64>,
    /// What the store holds is in `entries`. Before that, nothing may be written.
    loaded: bool,
    /// Why the store does not hold the last entries.
    pub problem: Option<String>,
}

/// Part of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In the order of their last change.
    pub entries: Vec<Entry>,
    /// Continues after the last of them.
    pub revision: u64,
    /// There are more.
    pub more: bool,
}

/// Which entries.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Of this job only; none: all, of the cluster too.
    pub job: Option<JobName>,
    /// Changed after this revision.
    pub after: u64,
    /// Happened at this time or later.
    pub since_ms: i64,
    pub limit: usize,
}

impl Journal {
    /// Notes what happened now.
    pub fn note(&mut self, now: i64, term: Term, job: Option<&JobName>, note: Note) {
        let Note {
            kind,
            subject,
            text,
        } = note;
        let is_recent = |ms: i64| now.saturating_sub(ms) < FOLD_MS;
        let same = |entry: &Entry, job: Option<&JobName>, subject: &str| {
            entry.kind == kind
                && entry.job.as_ref() == job
                && entry.subject == subject
                && is_recent(entry.last_ms)
        };
        let begun = self
            .entries
            .iter()
            .filter(|entry| entry.kind == kind && is_recent(entry.first_ms))
            .count();
        let known = self
            .entries
            .iter()
            .rposition(|entry| same(entry, job, &subject));
        let (at, job, subject) = match known {
            Some(at) => (Some(at), job, subject),
            None if begun < KIND_ENTRIES_MAX => (None, job, subject),
            None => {
                let at = self
                    .entries
                    .iter()
                    .rposition(|entry| same(entry, None, FURTHER));
                (at, None, FURTHER.to_owned())
            }
        };
        let mut entry = match at {
            Some(at) => self.entries.remove(at),
            None => {
                self.next_id += 1;
                Entry {
                    id: self.next_id,
                    revision: 0,
                    kind,
                    job: job.cloned(),
                    subject,
                    text: String::new(),
                    term,
                    first_ms: now,
                    last_ms: now,
                    count: 0,
                }
            }
        };
        entry.text = text;
        entry.term = term;
        entry.last_ms = now;
        entry.count += 1;
        self.append(now, entry);
        self.shorten(now);
    }

    /// The revision follows the clock, so that those of the next leader are higher even if this one
    /// could not store its last entries.
    fn append(&mut self, now: i64, mut entry: Entry) {
        self.last_revision = (self.last_revision + 1).max(now.unsigned_abs());
        entry.revision = self.last_revision;
        self.changed.insert(entry.id / BLOCK_ENTRIES);
        self.entries.push(entry);
    }

    fn shorten(&mut self, now: i64) {
        let is_old = |entry: &Entry| now.saturating_sub(entry.last_ms) > AGE_MAX_MS;
        // By revision, so the oldest are first.
        while self.entries.first().is_some_and(is_old) {
            self.drop_at(0);
        }
        while self.entries.len() > ENTRIES_MAX {
            let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
            for entry in &self.entries {
                *counts.entry(entry.kind).or_default() += 1;
            }
            let largest = counts.into_iter().max_by_key(|(_, count)| *count);
            let of_largest = |entry: &Entry| Some(entry.kind) == largest.map(|(kind, _)| kind);
            let oldest = self.entries.iter().position(of_largest);
            self.drop_at(oldest.unwrap_or(0));
        }
    }

    fn drop_at(&mut self, at: usize) {
        let dropped = self.entries.remove(at);
        self.changed.insert(dropped.id / BLOCK_ENTRIES);
    }

    /// Takes what earlier leaders stored. Entries that this leader noted meanwhile follow them.
    pub fn restore(&mut self, now: i64, mut stored: Vec<Entry>) {
        let own = std::mem::take(&mut self.entries);
        stored.sort_by_key(|entry| entry.revision);
        self.changed.clear();
        self.next_id = stored.iter().map(|entry| entry.id).max().unwrap_or(0);
        self.last_revision = stored.last().map_or(0, |entry| entry.revision);
        self.entries = stored;
        for mut entry in own {
            self.next_id += 1;
            entry.id = self.next_id;
            self.append(now, entry);
        }
        self.shorten(now);
        self.loaded = true;
    }

    /// Blocks to write, with their content. Empty before the journal was restored. [`Self::written`]
    /// or [`Self::not_written`] follows.
    pub fn take_changed(&mut self) -> Vec<Block> {
        if !self.loaded {
            return vec![];
        }
        let numbers: Vec<u64> = self
            .changed
            .iter()
            .copied()
            .take(BLOCKS_WRITTEN_MAX)
            .collect();
        let block = |number: u64| {
            let of_block = |entry: &&Entry| entry.id / BLOCK_ENTRIES == number;
            (
                number,
                self.entries.iter().filter(of_block).cloned().collect(),
            )
        };
        let blocks = numbers.iter().map(|number| block(*number)).collect();
        for number in numbers {
            self.changed.remove(&number);
            self.writing.insert(number);
        }
        blocks
    }

    /// The store holds the blocks that were taken.
    pub fn written(&mut self) {
        self.writing.clear();
    }

    /// The blocks that were taken could not be written.
    pub fn not_written(&mut self) {
        self.changed.append(&mut self.writing);
    }

    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// The store holds everything.
    pub fn is_stored(&self) -> bool {
        self.loaded && self.changed.is_empty() && self.writing.is_empty()
    }

    pub fn last_revision(&self) -> u64 {
        self.last_revision
    }

    /// Entries that changed after a revision, oldest first.
    pub fn after(&self, revision: u64) -> &[Entry] {
        let from = self
            .entries
            .partition_point(|entry| entry.revision <= revision);
        &self.entries[from..]
    }

    pub fn page(&self, query: &Query) -> Page {
        let wanted = |entry: &&Entry| {
            entry.last_ms >= query.since_ms && (query.job.is_none() || entry.job == query.job)
        };
        let mut found = self.after(query.after).iter().filter(wanted);
        let entries: Vec<Entry> = found.by_ref().take(query.limit).cloned().collect();
        let more = found.next().is_some();
        let revision = match entries.last() {
            Some(last) if more => last.revision,
            _ => self.last_revision.max(query.after),
        };
        Page {
            entries,
            revision,
            more,
        }
    }
}

#[cfg(test)]
mod tests;
