//! The report of a task about one window: ranges, counts, staged objects.
//!
//! Rule: a report is atomic. Its objects contain exactly the rows of its ranges, so it is accepted
//! or refused as a whole.

use crate::profile::OperatorFigures;
use crate::table_file::TableFile;
use crate::{JobName, LookupVersion, Position, ShardId, TaskId, Window};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The records read of one shard: those after `from`, up to and including `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRange {
    pub from: Position,
    pub to: Position,
    pub records: u64,
    pub bytes: u64,
}

/// The outcome of the records. Always `rows_in + rows_further = rows_decoded + rows_dead`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    pub rows_in: u64,
    pub bytes_in: u64,
    pub rows_decoded: u64,
    /// Records in a dead-letter object: not decoded, not taken by the query, or of another shard's
    /// part of an aggregate.
    pub rows_dead: u64,
    /// Rows without a match in a lookup.
    pub rows_unmatched: u64,
    pub rows_out: u64,
    /// Records whose window is not that of their arrival: they were readable only after it was
    /// closed, or arrived out of order. Part of `rows_in`. Not counted before manifests of version
    /// 3.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_late: u64,
    /// Rows that could not be written because their partition is not a valid folder name: they are
    /// stored in objects beside the dead letters.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_rejected: u64,
    /// Records that have no usable arrival time of their own: dead letters, or with the time of the
    /// record before them. Part of `rows_in`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_without_arrival: u64,
    /// Records that were decoded, and that the query could not take. Part of `rows_dead`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_failed: u64,
    /// User records of aggregates of another shard's hash range, whatever became of them. `None`:
    /// not counted; they were dropped unseen (before `[source] aggregates`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_foreign: Option<u64>,
    /// Rows beyond the first of each record that holds several objects.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_further: u64,
    /// Values that did not fit their column and became null (`on_bad_value = "null"`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub values_null: u64,
}

impl Counts {
    /// Adds another's figures to these, saturating at the largest number.
    pub fn add(&mut self, other: &Counts) {
        self.rows_in = self.rows_in.saturating_add(other.rows_in);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.rows_decoded = self.rows_decoded.saturating_add(other.rows_decoded);
        self.rows_dead = self.rows_dead.saturating_add(other.rows_dead);
        self.rows_unmatched = self.rows_unmatched.saturating_add(other.rows_unmatched);
        self.rows_out = self.rows_out.saturating_add(other.rows_out);
        self.rows_late = self.rows_late.saturating_add(other.rows_late);
        self.rows_rejected = self.rows_rejected.saturating_add(other.rows_rejected);
        self.rows_without_arrival = self
            .rows_without_arrival
            .saturating_add(other.rows_without_arrival);
        self.rows_failed = self.rows_failed.saturating_add(other.rows_failed);
        self.rows_foreign = match (self.rows_foreign, other.rows_foreign) {
            (Some(mine), Some(others)) => Some(mine.saturating_add(others)),
            (known, None) | (None, known) => known,
        };
        self.rows_further = self.rows_further.saturating_add(other.rows_further);
        self.values_null = self.values_null.saturating_add(other.values_null);
    }
    /// Whether every record became a row, several, or a dead letter.
    pub fn balanced(&self) -> bool {
        let out = self.rows_decoded.checked_add(self.rows_dead);
        out.is_some() && out == self.rows_in.checked_add(self.rows_further)
    }
}

/// Time per stage of a window, in microseconds. The first three are computing time, summed over the
/// tasks. The others are the window's way out, one stage after the other: each ends when the last
/// task is through.
/// task is through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTimes {
    pub decode_us: u64,
    pub transform_us: u64,
    pub stage_us: u64,
    /// From the window's end until its last shard has passed it: then it is closed. Includes the
    /// delay of a polled source; for a backlog it is its age. 0: not measured, for example if a
    /// column of old files has the arrival time.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub last_read_us: u64,
    /// From there until the last record is decoded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub last_decode_us: u64,
    /// Until the query has returned its last row.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub last_transform_us: u64,
    /// Until all objects are staged.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub last_stage_us: u64,
    /// Until the controller knows that nothing is missing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub report_us: u64,
    /// Until the store has the epoch. Not in manifests, which are written before. 0: not yet, or
    /// under an earlier leader.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub commit_us: u64,
    /// Until its objects are visible, and the store knows that. 0 as above.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub publish_us: u64,
}

/// The stored form omits unmeasured figures, so that it stays compatible.
fn is_zero(figure: &u64) -> bool {
    *figure == 0
}

impl StageTimes {
    /// Adds another task's times of the same window: computing times are summed, waits take the
    /// later one. Saturates at the largest number.
    pub fn add(&mut self, other: &StageTimes) {
        self.decode_us = self.decode_us.saturating_add(other.decode_us);
        self.transform_us = self.transform_us.saturating_add(other.transform_us);
        self.stage_us = self.stage_us.saturating_add(other.stage_us);
        let mine = self.reached();
        let others = other.reached();
        let mut before = 0;
        let mut stage = |index: usize| {
            let reached = mine[index].max(others[index]);
            reached.saturating_sub(std::mem::replace(&mut before, reached))
        };
        self.last_read_us = stage(0);
        self.last_decode_us = stage(1);
        self.last_transform_us = stage(2);
        self.last_stage_us = stage(3);
    }

    /// How long after the window's end each stage of the tasks ended.
    fn reached(&self) -> [u64; 4] {
        let mut sum = 0u64;
        [
            self.last_read_us,
            self.last_decode_us,
            self.last_transform_us,
            self.last_stage_us,
        ]
        .map(|stage| {
            sum = sum.saturating_add(stage);
            sum
        })
    }

    /// How long after the window's end everything was staged.
    pub fn staged_us(&self) -> u64 {
        self.reached()[3]
    }

    /// From the window being closed (its last shard has passed its end) until its objects are
    /// visible and the store knows that; without stages that are not over yet.
    pub fn closed_to_published_us(&self) -> u64 {
        let after = [self.report_us, self.commit_us, self.publish_us];
        let staged = self.staged_us().saturating_sub(self.last_read_us);
        after.into_iter().fold(staged, u64::saturating_add)
    }
}

/// A key that no row of a lookup has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnmatchedKey {
    pub lookup: String,
    /// The key as text; several columns are joined by a comma.
    pub key: String,
    /// How many rows carried it.
    pub rows: u64,
}

/// Values of a column that did not fit it and became null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NullValues {
    pub column: String,
    /// At least 1.
    pub values: u64,
}

/// The sums of each column, by its name.
pub fn sum_null<'a>(all: impl Iterator<Item = &'a NullValues>) -> Vec<NullValues> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for one in all {
        let sum = sums.entry(&one.column).or_default();
        *sum = sum.saturating_add(one.values);
    }
    let named = |(column, values): (&str, u64)| NullValues {
        column: column.to_owned(),
        values,
    };
    sums.into_iter().map(named).collect()
}

/// The columns with most of such values, most first, at most [`NULL_COLUMNS_MAX`].
pub fn most_null<'a>(all: impl Iterator<Item = &'a NullValues>) -> Vec<NullValues> {
    let mut sums = sum_null(all);
    sums.sort_by_key(|null| std::cmp::Reverse(null.values));
    sums.truncate(NULL_COLUMNS_MAX);
    sums
}

/// The extension of objects of dead letters: JSON lines, gzip.
pub const DEAD_LETTER_EXTENSION: &str = "json.gz";
/// The extension of objects of rejected rows: JSON lines, gzip.
pub const REJECTED_ROW_EXTENSION: &str = "rejected.json.gz";
/// A key of records that no column has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownKey {
    /// Its name as it is written; that of a field inside of a column with the column's:
    /// `items.colour`.
    pub key: String,
    /// How often it was met, at least 1.
    pub count: u64,
}

/// The sums of each key, by its name.
pub fn sum_unknown<'a>(all: impl Iterator<Item = &'a UnknownKey>) -> Vec<UnknownKey> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for one in all {
        let sum = sums.entry(&one.key).or_default();
        *sum = sum.saturating_add(one.count);
    }
    let named = |(key, count): (&str, u64)| UnknownKey {
        key: key.to_owned(),
        count,
    };
    sums.into_iter().map(named).collect()
}

/// The keys that were met most often, those first, at most [`UNKNOWN_KEYS_MAX`].
pub fn most_unknown<'a>(all: impl Iterator<Item = &'a UnknownKey>) -> Vec<UnknownKey> {
    let mut sums = sum_unknown(all);
    sums.sort_by_key(|one| std::cmp::Reverse(one.count));
    sums.truncate(UNKNOWN_KEYS_MAX);
    sums
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    Data,
    /// Records that could not be decoded.
    DeadLetter,
    /// Rows of the result whose partition is not a valid folder name.
    RejectedRow,
}

/// The place of an object's bytes while it is invisible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Staging {
    /// A multipart upload that is not completed.
    Multipart {
        /// The service's id of the upload.
        upload_id: String,
        /// One per part, in order from part 1.
        etags: Vec<String>,
    },
    /// A file under a name that no reader's pattern matches.
    File { staged_path: String },
}

/// An output object that is written but not yet visible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedObject {
    pub kind: ObjectKind,
    /// The name under which it becomes visible: an `s3://` URL or an absolute path.
    pub location: String,
    /// In bytes.
    pub size: u64,
    pub crc32c: u32,
    /// Rows or dead letters in it.
    pub rows: u64,
    /// The current place of its bytes.
    pub staging: Staging,
    /// What a table must know of it. Absent in sinks of plain files, and for dead letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_file: Option<Box<TableFile>>,
}

impl StagedObject {
    /// What distinguishes it from every other object of its job.
    pub fn key(&self) -> &str {
        &self.location
    }
}

/// The last part of an object's location: the window's start, the job, the task, and a number
/// within the task.
pub fn object_name(
    window: Window,
    job: &JobName,
    task: TaskId,
    number: u32,
    extension: &str,
) -> String {
    format!("{}-{job}-{task}-{number:04}.{extension}", window.label())
}

/// The report of a task about one window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub task: TaskId,
    pub job: JobName,
    pub window: Window,
    /// The ranges read; a shard without a record in the window is absent.
    pub ranges: BTreeMap<ShardId, ShardRange>,
    pub counts: Counts,
    /// The lookups it was joined with.
    pub lookups: BTreeMap<String, LookupVersion>,
    pub objects: Vec<StagedObject>,
    /// The most frequent keys without a match, most frequent first, at most [`UNMATCHED_KEYS_MAX`].
    pub unmatched: Vec<UnmatchedKey>,
    /// The columns whose bad values became null, as [`most_null`] orders them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub null_values: Vec<NullValues>,
    /// The keys that no column has, as [`most_unknown`] orders them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown_keys: Vec<UnknownKey>,
    pub stages: StageTimes,
    /// The operators of the query, from the result down, at most
    /// [`OPERATORS_MAX`](crate::profile::OPERATORS_MAX). Empty in reports of earlier builds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<OperatorFigures>,
}

/// Columns with bad values that became null, named per report and per manifest.
pub const NULL_COLUMNS_MAX: usize = 100;
/// Keys that no column has, named per report and per manifest.
pub const UNKNOWN_KEYS_MAX: usize = 20;
/// Characters of such a key that are kept.
pub const UNKNOWN_KEY_CHARS_MAX: usize = 200;
/// Unmatched keys named per report and per manifest.
pub const UNMATCHED_KEYS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_waits_for_the_last_task_in_every_stage() {
        let early = StageTimes {
            last_read_us: 5,
            last_decode_us: 20,
            last_stage_us: 5,
            ..StageTimes::default()
        };
        let late = StageTimes {
            last_read_us: 10,
            last_transform_us: 1,
            last_stage_us: 30,
            ..StageTimes::default()
        };
        let mut both = early;
        both.add(&late);
        assert_eq!(
            (
                both.last_read_us,
                both.last_decode_us,
                both.last_transform_us,
                both.last_stage_us
            ),
            (10, 15, 0, 16)
        );
        assert_eq!(both.staged_us(), 41, "what the later of the two needed");
        let done = StageTimes {
            report_us: 1,
            commit_us: 2,
            publish_us: 3,
            ..both
        };
        assert_eq!(done.closed_to_published_us(), 31 + 6);
    }

    #[test]
    fn the_columns_with_most_null_values_are_named_first() {
        let null = |column: &str, values| NullValues {
            column: column.to_owned(),
            values,
        };
        let all = [null("b", 1), null("a", 1), null("c", 2), null("b", 3)];
        assert_eq!(
            most_null(all.iter()),
            [null("b", 4), null("c", 2), null("a", 1)]
        );
        let many: Vec<_> = (0..200).map(|n| null(&format!("c{n}"), n + 1)).collect();
        assert_eq!(most_null(many.iter()).len(), NULL_COLUMNS_MAX);
        assert_eq!(most_null(many.iter())[0], null("c199", 200));
    }

    #[test]
    fn what_was_computed_is_added_and_never_overflows() {
        let mut times = StageTimes {
            decode_us: u64::MAX,
            stage_us: 1,
            ..StageTimes::default()
        };
        times.add(&StageTimes {
            decode_us: 1,
            stage_us: 2,
            last_read_us: u64::MAX,
            ..StageTimes::default()
        });
        times.add(&StageTimes {
            last_decode_us: u64::MAX,
            ..StageTimes::default()
        });
        assert_eq!(
            (
                times.decode_us,
                times.stage_us,
                times.closed_to_published_us()
            ),
            (u64::MAX, 3, 0)
        );
    }
}
