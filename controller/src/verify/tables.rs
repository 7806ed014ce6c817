//! Whether a table holds each published file once.
//!
//! Owns: what a difference means. Does not own: reading the table (the kind of sink).
//! Rule: a file that is missing, or there twice, is always named. Rows that were put into other files
//! are counted ([`super::totals`]).

use super::finding::{Finding, Kind};
use crate::sink::Listing;
use crate::sink::listing::{Gone, Shown};
use std::ops::RangeInclusive;
use streamctl_proto::StagedObject;
use streamctl_proto::report::ObjectKind;

/// What a table shows of an object.
pub(super) enum InTable {
    /// Its rows may be in another file, so it may be gone.
    Rewritten,
    Found(Option<Finding>),
}

/// The findings about the table as a whole.
pub(super) fn of_table(listing: &Listing, epochs: RangeInclusive<u64>) -> Vec<Finding> {
    let table = &listing.table;
    let mut found = vec![];
    for epoch in listing
        .stated_twice()
        .filter(|epoch| epochs.contains(epoch))
    {
        let text = "two snapshots of the table state that they add it";
        found.push(Finding::new(Kind::ObjectTwice, epoch, table, text));
    }
    if listing.too_many {
        let text = "the table has more files than are compared";
        found.push(Finding::new(Kind::NotChecked, 0, table, text));
    }
    found
}

/// What the table shows of a published object.
pub(super) fn of_object(listing: &Listing, epoch: u64, staged: &StagedObject) -> InTable {
    if staged.kind != ObjectKind::Data {
        return InTable::Found(None);
    }
    let table = &listing.table;
    let finding = |kind, text: String| {
        InTable::Found(Some(Finding::new(kind, epoch, &staged.location, text)))
    };
    match listing.shown(&staged.location, staged.rows) {
        Shown::Once => InTable::Found(None),
        _ if listing.too_many => InTable::Found(None),
        Shown::Gone(Gone::Rewritten { .. } | Gone::Unknown) => InTable::Rewritten,
        Shown::Times(times) => finding(
            Kind::ObjectTwice,
            format!("table {table} lists it {times} times: its rows are read so often"),
        ),
        Shown::Rows(rows) => finding(
            Kind::ObjectSize,
            format!(
                "table {table} states {rows} rows, committed were {}",
                staged.rows
            ),
        ),
        Shown::Gone(Gone::Removed {
            snapshot,
            operation,
        }) => finding(
            Kind::ObjectMissing,
            format!(
                "table {table} does not hold it: snapshot {snapshot} of another writer removed it \
                 ({operation})"
            ),
        ),
        Shown::Missing => finding(
            Kind::ObjectMissing,
            format!("table {table} does not hold it, and no snapshot of it shows why"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamctl_proto::report::Staging;

    fn staged(location: &str) -> StagedObject {
        StagedObject {
            kind: ObjectKind::Data,
            location: location.into(),
            size: 1,
            crc32c: 0,
            rows: 5,
            table_file: None,
            staging: Staging::File {
                staged_path: String::new(),
            },
        }
    }

    fn finding(listing: &Listing, location: &str) -> Option<Finding> {
        match of_object(listing, 1, &staged(location)) {
            InTable::Rewritten => None,
            InTable::Found(found) => found,
        }
    }

    #[test]
    fn what_is_missing_or_twice_is_a_finding_and_what_was_compacted_is_not() {
        let mut listing = Listing::new("db.t".into(), "");
        listing.add("once", 5);
        listing.add("twice", 5);
        listing.add("twice", 5);
        listing.gone("compacted", Gone::Rewritten { by_job: false });
        let operation = "delete".to_owned();
        listing.gone(
            "removed",
            Gone::Removed {
                snapshot: 7,
                operation,
            },
        );
        assert!(finding(&listing, "once").is_none());
        assert!(finding(&listing, "compacted").is_none());
        let text = |location: &str| finding(&listing, location).unwrap().text;
        assert!(text("twice").contains("2 times"));
        assert!(text("removed").contains("snapshot 7 of another writer removed it (delete)"));
        assert!(text("lost").contains("no snapshot of it shows why"));
        listing.history_is_cut = true;
        assert!(finding(&listing, "lost").is_none(), "its rows are counted");
    }

    #[test]
    fn an_epoch_that_two_snapshots_state_is_a_finding() {
        let mut listing = Listing::new("db.t".into(), "");
        for epoch in [3, 3] {
            listing.stated(epoch);
        }
        assert_eq!(of_table(&listing, 1..=9).len(), 1);
        assert_eq!(of_table(&listing, 4..=9).len(), 0);
    }
}
