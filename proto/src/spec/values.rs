//! How values of records become values of columns: the keys of `[source]` that every kind has.
//!
//! Owns: these keys, and their stored form. Does not own: the conversion
//! (`streamctl_engine::format`).
//! Rule: what a key leaves open is as in Spark, or a bad value; never a guess.

use super::key::{Absent, Fields, Key, Kind, Read, Word};
use super::keys::key;
use super::raw::{Entry, Table};
use crate::TimePattern;
use crate::change::value_text;
use serde::{Deserialize, Serialize};

/// Most patterns of one source: a value is compared with each until one fits.
pub const TIME_FORMATS_MAX: usize = 16;

/// How values of records become values of columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ValueRules {
    /// The unit of numbers in columns of times.
    pub timestamp_numbers: TimestampNumbers,
    /// Java's patterns, tried in this order before the forms that are always read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub timestamp_formats: Vec<String>,
    pub decimals: Decimals,
    pub on_bad_value: OnBadValue,
}

/// The unit of a number in a column of times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestampNumbers {
    /// By the number's size, as Firehose does.
    #[default]
    Auto,
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

/// What a number with more digits behind the point than its decimal column becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decimals {
    /// The nearest one, half away from zero, as in Spark and Hive.
    #[default]
    Round,
    /// A bad value.
    Exact,
}

/// What becomes of a record with a value that does not fit its column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadValue {
    /// It is a dead letter.
    #[default]
    DeadLetter,
    /// The value is null, and counted.
    Null,
}

/// A list of Java's patterns.
pub(super) struct TimeFormats;

pub(super) static TIMESTAMP_NUMBERS: Key<Word<TimestampNumbers>> = key(
    "timestamp_numbers",
    Word(&[
        ("auto", TimestampNumbers::Auto),
        ("seconds", TimestampNumbers::Seconds),
        ("milliseconds", TimestampNumbers::Milliseconds),
        ("microseconds", TimestampNumbers::Microseconds),
        ("nanoseconds", TimestampNumbers::Nanoseconds),
    ]),
    Absent::Is(TimestampNumbers::Auto),
    "the unit of numbers in `timestamp` columns, since 1970; `auto`: seconds below 1e11, milliseconds below 1e14, microseconds below \
     1e17, else nanoseconds, as Firehose does (Spark takes all for seconds). With a unit, numbers in texts are read too",
);
pub(super) static TIMESTAMP_FORMATS: Key<TimeFormats> = key(
    "timestamp_formats",
    TimeFormats,
    Absent::Means("only the forms that are always read"),
    "patterns for texts in `timestamp` and `date` columns, as Java writes them, such as `dd.MM.yyyy HH:mm`; tried in their order, before \
     the forms that are always read",
);
pub(super) static DECIMALS: Key<Word<Decimals>> = key(
    "decimals",
    Word(&[("round", Decimals::Round), ("exact", Decimals::Exact)]),
    Absent::Is(Decimals::Round),
    "a number with more digits behind the point than its `decimal` column: rounded half up, as in Spark, or a bad value",
);
pub(super) static ON_BAD_VALUE: Key<Word<OnBadValue>> = key(
    "on_bad_value",
    Word(&[
        ("dead_letter", OnBadValue::DeadLetter),
        ("null", OnBadValue::Null),
    ]),
    Absent::Is(OnBadValue::DeadLetter),
    "a value that does not fit its column: the record is a dead letter, or the value is NULL, as in Spark and Glue, and counted",
);

/// Reads the keys. `None`: there is a problem, which is logged.
pub(super) fn read(table: &mut Table<'_>) -> Option<ValueRules> {
    let timestamp_numbers = table.value(&TIMESTAMP_NUMBERS);
    let timestamp_formats = table.optional(&TIMESTAMP_FORMATS);
    let decimals = table.value(&DECIMALS);
    let on_bad_value = table.value(&ON_BAD_VALUE);
    Some(ValueRules {
        timestamp_numbers: timestamp_numbers?,
        timestamp_formats: timestamp_formats?.unwrap_or_default(),
        decimals: decimals?,
        on_bad_value: on_bad_value?,
    })
}

impl ValueRules {
    /// Jobs of earlier builds have no rules; the default is not stored.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Each key that has a value.
    pub fn fields(&self) -> Fields {
        let mut fields = vec![(TIMESTAMP_NUMBERS.name, value_text(&self.timestamp_numbers))];
        if !self.timestamp_formats.is_empty() {
            fields.push((TIMESTAMP_FORMATS.name, self.timestamp_formats.join(", ")));
        }
        fields.push((DECIMALS.name, value_text(&self.decimals)));
        fields.push((ON_BAD_VALUE.name, value_text(&self.on_bad_value)));
        fields
    }

    /// Whether a key is one of these. All of them say how records are read, not which.
    pub(crate) fn has(key: &str) -> bool {
        [
            TIMESTAMP_NUMBERS.name,
            TIMESTAMP_FORMATS.name,
            DECIMALS.name,
            ON_BAD_VALUE.name,
        ]
        .contains(&key)
    }
}

impl Kind for TimeFormats {
    type Value = Vec<String>;
    fn words(&self) -> String {
        format!("a list of up to {TIME_FORMATS_MAX} patterns")
    }
    fn shown(&self, value: &Vec<String>) -> String {
        value.join(", ")
    }
}

impl Read for TimeFormats {
    fn read(&self, entry: &Entry<'_>) -> Option<Vec<String>> {
        let example = "for example [\"yyyy/MM/dd HH:mm:ss\"]";
        let elements = entry.elements(example)?;
        if elements.len() > TIME_FORMATS_MAX {
            entry.refuse(
                format_args!(
                    "there are {} patterns, at most {TIME_FORMATS_MAX} are possible",
                    elements.len()
                ),
                "",
            );
            return None;
        }
        let read: Vec<_> = elements.iter().map(pattern).collect();
        read.into_iter().collect()
    }
}

fn pattern(entry: &Entry<'_>) -> Option<String> {
    let text = entry.text("for example \"yyyy/MM/dd HH:mm:ss\"")?;
    if let Err(error) = TimePattern::parse(text) {
        entry.refuse(
            format_args!("{text:?} is not a pattern of times: {error}"),
            "letters as in Java: yyyy MM dd HH mm ss SSS a XXX z; a letter that is meant itself in single quotes: yyyy-MM-dd'T'HH:mm",
        );
        return None;
    }
    Some(text.to_owned())
}
