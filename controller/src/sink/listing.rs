//! What readers of a table see of a job's files.
//!
//! Owns: which files, how often, and which others have removed. Does not own: reading the table (the
//! kind).
//! Rule: memory is some 50 bytes per file.

use sha2::{Digest as _, Sha256};
use std::collections::{BTreeSet, HashMap};

/// Files of a table that are compared: about 200 MiB.
pub const LISTED_MAX: usize = 4_000_000;

/// The files that a table lists.
#[derive(Debug, Default)]
pub struct Listing {
    /// For messages.
    pub table: String,
    /// The last epoch of the job in the table.
    pub through: u64,
    /// Older snapshots are not kept: what they removed is not known.
    pub history_is_cut: bool,
    /// Rows of all files below the job's own folder, each as often as it is listed.
    pub rows_own: u64,
    /// Rows of all other files.
    pub rows_of_others: u64,
    /// There are more files than are compared.
    pub too_many: bool,
    /// The job's own folder.
    own: String,
    files: HashMap<u128, Seen>,
    gone: HashMap<u128, Gone>,
    stated: BTreeSet<u64>,
    stated_twice: BTreeSet<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    times: u32,
    rows: i64,
}

/// Why a file that was added is not listed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Its rows are in another file. Of what the job itself rewrote the rows were counted.
    Rewritten { by_job: bool },
    /// A snapshot of another writer removed it.
    Removed { snapshot: i64, operation: String },
    /// The snapshot that removed it is not kept.
    Unknown,
}

/// What a table shows of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    Once,
    Times(u32),
    /// Once, with another number of rows.
    Rows(i64),
    Gone(Gone),
    /// It is not listed, and nothing shows why.
    Missing,
}

impl Listing {
    /// `own`: the folder that no other writer uses.
    pub fn new(table: String, own: &str) -> Self {
        Self {
            table,
            own: own.to_owned(),
            ..Self::default()
        }
    }

    /// Whether a file is in the job's own folder.
    pub fn is_own(&self, location: &str) -> bool {
        location.starts_with(&self.own)
    }

    /// A file of the current snapshot.
    pub fn add(&mut self, location: &str, rows: i64) {
        let counted = match self.is_own(location) {
            true => &mut self.rows_own,
            false => &mut self.rows_of_others,
        };
        *counted = counted.saturating_add(u64::try_from(rows).unwrap_or(0));
        if self.files.len() >= LISTED_MAX {
            self.too_many = true;
            return;
        }
        let seen = self.files.entry(hash(location));
        seen.or_insert(Seen { times: 0, rows }).times += 1;
    }

    /// A file that another writer took out.
    pub fn gone(&mut self, location: &str, gone: Gone) {
        if self.gone.len() >= LISTED_MAX {
            self.too_many = true;
            return;
        }
        self.gone.insert(hash(location), gone);
    }

    /// A snapshot states that it adds this epoch.
    pub fn stated(&mut self, epoch: u64) {
        if !self.stated.insert(epoch) {
            self.stated_twice.insert(epoch);
        }
    }

    /// Epochs that two snapshots state.
    pub fn stated_twice(&self) -> impl Iterator<Item = u64> {
        self.stated_twice.iter().copied()
    }

    /// What is shown of a file with so many rows.
    pub fn shown(&self, location: &str, rows: u64) -> Shown {
        match self.files.get(&hash(location)) {
            Some(Seen { times: 1, rows: of }) if u64::try_from(*of) == Ok(rows) => Shown::Once,
            Some(Seen { times: 1, rows }) => Shown::Rows(*rows),
            Some(Seen { times, .. }) => Shown::Times(*times),
            None => match self.gone.get(&hash(location)) {
                Some(gone) => Shown::Gone(gone.clone()),
                None if self.history_is_cut => Shown::Gone(Gone::Unknown),
                None => Shown::Missing,
            },
        }
    }
}

fn hash(location: &str) -> u128 {
    let digest = Sha256::digest(location.as_bytes());
    let (first, _) = digest
        .split_first_chunk::<16>()
        .expect("a SHA-256 has 32 bytes");
    u128::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_shown_as_it_is_listed() {
        let mut listing = Listing::new("db.t".into(), "b");
        listing.add("a", 5);
        listing.add("b", 5);
        listing.add("b", 5);
        assert_eq!((listing.rows_own, listing.rows_of_others), (10, 5));
        let rewritten = Gone::Rewritten { by_job: true };
        listing.gone("c", rewritten.clone());
        assert_eq!(listing.shown("a", 5), Shown::Once);
        assert_eq!(listing.shown("a", 6), Shown::Rows(5));
        assert_eq!(listing.shown("b", 5), Shown::Times(2));
        assert_eq!(listing.shown("c", 5), Shown::Gone(rewritten));
        assert_eq!(listing.shown("d", 5), Shown::Missing);
        listing.history_is_cut = true;
        assert_eq!(listing.shown("d", 5), Shown::Gone(Gone::Unknown));
        for epoch in [1, 2, 2] {
            listing.stated(epoch);
        }
        assert_eq!(listing.stated_twice().collect::<Vec<_>>(), [2]);
    }
}
