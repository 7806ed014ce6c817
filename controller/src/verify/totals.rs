//! Whether a table holds as many rows as the epochs that are in it.
//!
//! Owns: which rows the files of the job must hold, what a difference means. Does not own: single
//! files (`tables`), reading the table (the kind of sink).
//! Rule: a fault is only what no rewriting by anyone, and nothing that lies before the anchor, can
//! explain.

use super::finding::{Finding, Kind};
use crate::sink::Listing;
use crate::sink::listing::{Gone, Shown};
use streamctl_proto::report::ObjectKind;
use streamctl_proto::{Manifest, StagedObject, count};

/// Rows that a table must hold. A file that is missing or there twice is a finding of its own, so it
/// counts as the table shows it.
#[derive(Debug, Default)]
pub struct Totals {
    /// Of the epochs before the first one that is known.
    before: u64,
    /// In files of the job.
    own: u64,
    /// In files that are known to be another writer's now.
    of_others: u64,
    /// Files that are not listed, because their rows were put into others.
    rewritten: u64,
    /// Those of which no kept snapshot of the job shows that.
    unproven: u64,
}

impl Totals {
    /// The walk has come to this epoch, from later ones.
    pub fn begin(&mut self, manifest: &Manifest) {
        let through = manifest.totals.rows_out;
        self.before = through.saturating_sub(manifest.counts.rows_out);
    }

    /// An object of an epoch.
    pub fn take(&mut self, listing: &Listing, epoch: u64, staged: &StagedObject) {
        if staged.kind != ObjectKind::Data || epoch > listing.through {
            return;
        }
        let rows = match listing.shown(&staged.location, staged.rows) {
            Shown::Once => staged.rows,
            Shown::Times(times) => staged.rows.saturating_mul(times.into()),
            Shown::Rows(rows) => u64::try_from(rows).unwrap_or(0),
            Shown::Missing | Shown::Gone(Gone::Removed { .. }) => return,
            Shown::Gone(Gone::Rewritten { by_job: false }) => {
                self.rewritten += 1;
                self.unproven += 1;
                self.of_others = self.of_others.saturating_add(staged.rows);
                return;
            }
            Shown::Gone(gone @ (Gone::Rewritten { by_job: true } | Gone::Unknown)) => {
                self.rewritten += 1;
                self.unproven += u64::from(gone == Gone::Unknown);
                self.own = self.own.saturating_add(staged.rows);
                return;
            }
        };
        // An earlier version of the job may have written into another folder.
        if listing.is_own(&staged.location) {
            self.own = self.own.saturating_add(rows);
        }
    }

    /// What the rows of the table prove, if every epoch that is kept was taken.
    pub fn compared(&self, listing: &Listing) -> Option<Finding> {
        let expected = self.own.saturating_add(self.before);
        let held = listing.rows_own;
        let table = &listing.table;
        if held > expected {
            let text = format!(
                "the job's files hold {held} rows, its epochs have {expected}: {} read twice",
                are(held - expected)
            );
            return Some(Finding::new(Kind::ObjectTwice, 0, table, text));
        }
        if self.rewritten == 0 {
            // Each file is listed. What is missing is of epochs whose files are not known.
            return None;
        }
        let away = (expected - held).saturating_add(self.of_others);
        let others = listing.rows_of_others;
        let explained = others.saturating_add(self.before);
        let files = count(self.rewritten, "file");
        if away == 0 {
            None
        } else if away > explained {
            let text = format!(
                "{files} of it were rewritten, and {} in no file of the job; files of others hold {others}",
                are(away)
            );
            Some(Finding::new(Kind::ObjectMissing, 0, table, text))
        } else {
            let before = match self.before {
                0 => "",
                _ => ", or were deleted with epochs before the anchor",
            };
            let text = format!(
                "{files} of it were rewritten, and {} in no file of the job: whether files of others hold them{before} \
                 is not known",
                are(away)
            );
            Some(Finding::new(Kind::NotChecked, 0, table, text))
        }
    }

    /// What is left open if not every epoch was taken.
    pub fn not_compared(&self) -> Option<Finding> {
        let text = format!(
            "{} of the table {} rewritten by another writer, or before the snapshots that are kept: verify all epochs to \
             compare their rows",
            count(self.unproven, "file"),
            if self.unproven == 1 { "was" } else { "were" }
        );
        (self.unproven > 0).then(|| Finding::new(Kind::NotChecked, 0, "", text))
    }
}

fn are(rows: u64) -> String {
    let verb = if rows == 1 { "is" } else { "are" };
    format!("{} {verb}", count(rows, "row"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamctl_proto::report::Staging;

    const REMOVED: Gone = Gone::Removed {
        snapshot: 7,
        operation: String::new(),
    };

    /// A table with these files, whose older snapshots are expired.
    fn table(files: &[(&str, i64)]) -> Listing {
        let mut listing = Listing::new("db.t".into(), "own/");
        listing.through = 9;
        listing.history_is_cut = true;
        for (location, rows) in files {
            listing.add(location, *rows);
        }
        listing
    }

    /// What is found of files with five rows each.
    fn found(listing: &Listing, before: u64, files: &[&str]) -> Option<Kind> {
        let mut totals = Totals {
            before,
            ..Totals::default()
        };
        for location in files {
            let staged = StagedObject {
                kind: ObjectKind::Data,
                location: (*location).into(),
                size: 1,
                crc32c: 0,
                rows: 5,
                table_file: None,
                staging: Staging::File {
                    staged_path: String::new(),
                },
            };
            totals.take(listing, 9, &staged);
            totals.take(listing, 10, &staged);
        }
        totals.compared(listing).map(|finding| finding.kind)
    }

    const ABC: [&str; 3] = ["own/a", "own/b", "own/c"];

    #[test]
    fn rewritten_rows_are_proven_by_their_number_after_the_snapshots_are_expired() {
        let whole = [("own/c", 5), ("own/rewritten/1", 10)];
        assert_eq!(found(&table(&whole), 0, &ABC), None);
        assert_eq!(
            found(&table(&whole[1..]), 0, &ABC),
            Some(Kind::ObjectMissing)
        );
        assert_eq!(
            found(&table(&whole[..1]), 0, &ABC),
            Some(Kind::ObjectMissing)
        );
        let again = [("own/c", 5), ("own/rewritten/1", 10), ("own/a", 5)];
        assert_eq!(found(&table(&again), 0, &ABC), Some(Kind::ObjectTwice));
        let twice = [
            ("own/rewritten/1", 10),
            ("own/rewritten/1", 10),
            ("own/c", 5),
        ];
        assert_eq!(found(&table(&twice), 0, &ABC), Some(Kind::ObjectTwice));
    }

    #[test]
    fn rows_that_files_of_others_may_hold_are_not_a_fault() {
        let foreign = |rows| table(&[("own/c", 5), ("spark/1", rows)]);
        assert_eq!(found(&foreign(10), 0, &ABC), Some(Kind::NotChecked));
        assert_eq!(found(&foreign(9), 0, &ABC), Some(Kind::ObjectMissing));
        let mut kept = foreign(10);
        for location in &ABC[..2] {
            kept.gone(location, Gone::Rewritten { by_job: false });
        }
        assert_eq!(found(&kept, 0, &ABC), Some(Kind::NotChecked));
        let all_own = table(&[("own/c", 5), ("own/rewritten/1", 10), ("spark/1", 99)]);
        assert_eq!(found(&all_own, 0, &ABC), None, "others only append");
    }

    #[test]
    fn what_single_files_show_is_not_found_again() {
        let mut removed = table(&[("own/a", 5), ("own/a", 5), ("own/c", 4)]);
        removed.gone("own/b", REMOVED);
        assert_eq!(found(&removed, 0, &ABC), None);
    }

    #[test]
    fn a_rewritten_file_that_was_removed_is_found_while_its_snapshot_is_kept() {
        let mut listing = table(&[("own/c", 5)]);
        listing.history_is_cut = false;
        for location in &ABC[..2] {
            listing.gone(location, Gone::Rewritten { by_job: true });
        }
        assert_eq!(found(&listing, 0, &ABC), Some(Kind::ObjectMissing));
    }

    #[test]
    fn rows_of_epochs_before_the_anchor_may_have_been_deleted_and_are_not_there_twice() {
        let before = [("own/0", 40), ("own/c", 5), ("own/rewritten/1", 10)];
        assert_eq!(found(&table(&before), 40, &ABC), None);
        assert_eq!(
            found(&table(&before[1..]), 40, &ABC),
            Some(Kind::NotChecked)
        );
        assert_eq!(found(&table(&before), 39, &ABC), Some(Kind::ObjectTwice));
        let none = table(&[]);
        assert_eq!(
            found(&none, 14, &ABC),
            Some(Kind::ObjectMissing),
            "29 of 29"
        );
        let listed = table(&[("own/a", 5), ("own/b", 5), ("own/c", 5)]);
        assert_eq!(found(&listed, 40, &ABC), None, "each file is listed");
    }

    #[test]
    fn files_of_an_earlier_folder_of_the_job_are_among_those_of_others() {
        let moved = table(&[("old/a", 5), ("own/c", 5), ("own/rewritten/1", 5)]);
        assert_eq!(found(&moved, 0, &["old/a", "own/b", "own/c"]), None);
    }

    #[test]
    fn a_part_of_the_epochs_leaves_open_what_no_snapshot_shows() {
        let totals = Totals {
            unproven: 2,
            ..Totals::default()
        };
        assert!(totals.not_compared().unwrap().text.contains("2 files"));
        assert_eq!(Totals::default().not_compared(), None);
    }
}
