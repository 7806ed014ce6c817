//! `type = "files"`: files below a folder; each is a shard.

use super::{
    RecordForm, Registered, SourceContext, SourceFacts, SourceKind, StartingPosition, fields_text,
};
use crate::change::{Refusal, SourceChange, refuse};
use crate::resolved::StreamAddress;
use crate::spec::key::{Absent, Fields, Key, Part, Read, Span, Special, Text, Word};
use crate::spec::keys::{folder, key};
use crate::spec::location::{self, Named};
use crate::spec::raw::Table;
use crate::spec::role;
use crate::spec::{
    AssumedRole, JsonFormat, Location, PayloadFormat, RecordFormat, SourceSpec, duration_text,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Files below a folder; each is a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilesSource {
    pub path: Location,
    /// The role that lists and reads the files; `None`: the programs' own credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<AssumedRole>,
    pub format: RecordFormat,
    /// The column with the arrival time; without it, the time of reading.
    pub arrival_time: Option<String>,
    /// What becomes of a record whose arrival time cannot be used. Jobs of earlier builds have no
    /// such key and take that of the record before.
    #[serde(default, skip_serializing_if = "OnBadArrival::is_previous")]
    pub on_bad_arrival_time: OnBadArrival,
    /// How far after its submit a job takes arrival times for possible; `None`: in jobs of earlier
    /// builds, any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_arrival_ahead: Option<Duration>,
}

/// What becomes of a record whose arrival time cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadArrival {
    /// It is a dead letter.
    DeadLetter,
    /// It has the arrival time of the record before it; before the first, that of the submit.
    #[default]
    Previous,
}

impl OnBadArrival {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's interface")]
    fn is_previous(&self) -> bool {
        *self == Self::Previous
    }
}

static PATH: Key<Special> = key(
    "path",
    Special(folder),
    Absent::Refused("for example path = \"s3://my-bucket/events/\""),
    "every file below it is read, and is a shard; not those whose name, or a folder's, begins with `_` or `.` \
     (`_SUCCESS`, `_temporary/`), but `_year=2026/` is",
);
static FORMAT: Key<Word<RecordFormat>> = key(
    "format",
    Word(&[("json", RecordFormat::Json), ("csv", RecordFormat::Csv)]),
    Absent::Refused("for example format = \"json\"; also: csv"),
    "one JSON object per line, or CSV with a header; either may be compressed by gzip or zstd",
);
static ARRIVAL_TIME: Key<Text> = key(
    "arrival_time",
    Text,
    Absent::Means("the time of reading"),
    "the column that holds a record's arrival time: a text or a number that a timestamp column takes, of the years 1970 to \
     9999. Records should lie in its order: one that steps back goes to the window of the one before it, and counts as late",
);
static ON_BAD_ARRIVAL_TIME: Key<Word<OnBadArrival>> = key(
    "on_bad_arrival_time",
    Word(&[
        ("dead_letter", OnBadArrival::DeadLetter),
        ("previous", OnBadArrival::Previous),
    ]),
    Absent::Is(OnBadArrival::DeadLetter),
    "what becomes of a record whose arrival time is missing, null, no time, or out of bounds: a dead letter, or a record with the \
     time of the one before it (the first: of the submit); both are counted",
);
static MAX_ARRIVAL_AHEAD: Key<Span> = key(
    "max_arrival_ahead",
    Span {
        least: Duration::ZERO,
        most: Duration::from_secs(36_500 * 86_400),
    },
    Absent::Is(Duration::from_secs(86_400)),
    "how long after the submit an arrival time may be; later ones are out of bounds, or one wrong clock would take all records \
     behind it along",
);
static PART: Part = Part {
    title: "[source] with type = \"files\"",
    about: "The job ends when all files are read.",
    keys: &[
        &PATH,
        &role::ROLE_ARN,
        &role::SESSION_NAME,
        &FORMAT,
        &ARRIVAL_TIME,
        &ON_BAD_ARRIVAL_TIME,
        &MAX_ARRIVAL_AHEAD,
    ],
};

pub(super) static KIND: Registered = Registered {
    word: "files",
    part: &PART,
    has_own_columns: false,
    read,
};

fn read<'a>(
    table: &mut Table<'a>,
    context: &mut SourceContext<'a, '_>,
) -> Option<(SourceKind, StartingPosition)> {
    let path = table.entry(&PATH).and_then(|entry| {
        let place = location::input_folder(&entry, context.base_dir)?;
        context.places.push(Named {
            entry,
            place: place.clone(),
            written: false,
        });
        Some(place)
    });
    let role = role::read(table, location::is_local(path.as_ref()));
    let format = table.value(&FORMAT);
    let arrival_time = table.optional(&ARRIVAL_TIME);
    let on_bad_arrival_time = arrival_key(table, &ON_BAD_ARRIVAL_TIME, &arrival_time);
    let max_arrival_ahead = arrival_key(table, &MAX_ARRIVAL_AHEAD, &arrival_time);
    let has_column = matches!(arrival_time, Some(Some(_)));
    let source = FilesSource {
        path: path?,
        role: role?,
        format: format?,
        arrival_time: arrival_time?,
        // Without a column there is nothing to store.
        on_bad_arrival_time: on_bad_arrival_time
            .filter(|_| has_column)
            .unwrap_or_default(),
        max_arrival_ahead: max_arrival_ahead.filter(|_| has_column),
    };
    Some((SourceKind::Files(source), StartingPosition::TrimHorizon))
}

/// The value of a key that is about `arrival_time`. `None`: there is a problem, which is logged.
fn arrival_key<K: Read>(
    table: &mut Table<'_>,
    key: &Key<K>,
    column: &Option<Option<String>>,
) -> Option<K::Value> {
    let entry = table.entry(key);
    if let (Some(entry), Some(None)) = (&entry, column) {
        entry.refuse(
            "is about arrival_time, which is not there",
            "add arrival_time, or remove this key",
        );
        return None;
    }
    match entry {
        Some(entry) => key.kind.read(&entry),
        None => key.default(),
    }
}

impl SourceFacts for FilesSource {
    fn type_name(&self) -> &'static str {
        KIND.word
    }

    fn describe(&self) -> String {
        format!("files below {}", self.path)
    }

    fn describe_shards(&self, shards: usize) -> String {
        match shards {
            1 => "1 shard".to_owned(),
            files => format!("{files} files, each a shard"),
        }
    }

    fn is_bounded(&self) -> bool {
        true
    }

    fn role(&self) -> Option<&AssumedRole> {
        self.role.as_ref()
    }

    fn input_folder(&self) -> Option<&Location> {
        Some(&self.path)
    }

    fn arrival_column(&self) -> Option<&str> {
        self.arrival_time.as_deref()
    }

    /// Rows of CSV become objects.
    fn payload_format(&self) -> PayloadFormat {
        PayloadFormat::Json(JsonFormat {
            of_rows: self.format == RecordFormat::Csv,
        })
    }

    /// A column may hold arrivals that are years old.
    fn is_read_on_arrival(&self) -> bool {
        self.arrival_time.is_none()
    }

    /// Without such a column, records arrive when they are read.
    fn keeps_arrival(&self) -> bool {
        self.arrival_time.is_some()
    }

    fn fields(&self, _: &SourceSpec, _: Option<&StreamAddress>) -> Fields {
        let mut fields = vec![
            ("path", self.path.to_string()),
            ("format", fields_text(&self.format)),
        ];
        fields.extend(AssumedRole::fields(self.role.as_ref()));
        fields.retain(|(_, value)| !value.is_empty());
        fields.extend(self.arrival_fields());
        fields
    }

    fn defaults(&self, _: &SourceSpec) -> Fields {
        match self.arrival_time {
            Some(_) => self.arrival_fields(),
            None => vec![("arrival_time", "the time of reading".into())],
        }
    }

    /// Rows of CSV have a header and commas; both formats are unpacked by their first bytes.
    fn record_form(&self) -> RecordForm {
        let is_csv = self.format == RecordFormat::Csv;
        let fixed = [("delimiter", ","), ("quote", "\""), ("null_text", "")];
        let fixed = fixed.map(|(key, value)| (key, value.to_owned()));
        RecordForm {
            format: if is_csv { "csv" } else { "json" },
            keys: Fields::new(),
            fixed: if is_csv { fixed.into() } else { Fields::new() },
            header_lines: u64::from(is_csv),
            unpacks: &["gzip", "zstd"],
            may_unpack: false,
        }
    }

    fn refuses(&self, key: &str, change: &SourceChange<'_>) -> Option<Refusal> {
        match key {
            // How they are reached, not which files they are.
            "role_arn" | "session_name" => None,
            "arrival_time" | "on_bad_arrival_time" | "max_arrival_ahead" => None,
            "format" => refuse(
                "positions count the records of this format",
                crate::change::ANOTHER_NAME,
            ),
            _ => change.another_source(),
        }
    }
}

impl FilesSource {
    /// The keys about arrival times, if there is a column of them.
    fn arrival_fields(&self) -> Fields {
        let Some(column) = &self.arrival_time else {
            return Fields::new();
        };
        let mut fields = vec![
            ("arrival_time", column.clone()),
            (
                "on_bad_arrival_time",
                fields_text(&self.on_bad_arrival_time),
            ),
        ];
        let ahead = self.max_arrival_ahead.map(duration_text);
        fields.extend(ahead.map(|ahead| ("max_arrival_ahead", ahead)));
        fields
    }
}
