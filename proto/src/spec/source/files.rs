//! `type = "files"`: files below a folder; each is a shard.

use super::{Registered, SourceContext, SourceFacts, SourceKind, StartingPosition, fields_text};
use crate::change::{Refusal, SourceChange, refuse};
use crate::resolved::StreamAddress;
use crate::spec::key::{Absent, Fields, Key, Part, Special, Text, Word};
use crate::spec::keys::{folder, key};
use crate::spec::location::{self, Named};
use crate::spec::raw::Table;
use crate::spec::{JsonFormat, Location, PayloadFormat, RecordFormat, SourceSpec};
use serde::{Deserialize, Serialize};

/// Files below a folder; each is a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilesSource {
    pub path: Location,
    pub format: RecordFormat,
    /// The column with the arrival time; without it, the time of reading.
    pub arrival_time: Option<String>,
}

static PATH: Key<Special> = key(
    "path",
    Special(folder),
    Absent::Refused("for example path = \"s3://my-bucket/events/\""),
    "every file below it is read, and is a shard",
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
    "the column that holds a record's arrival time; a record without one, or with one that is no \
     time, has that of the record before it",
);
static PART: Part = Part {
    title: "[source] with type = \"files\"",
    about: "The job ends when all files are read.",
    keys: &[&PATH, &FORMAT, &ARRIVAL_TIME],
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
    let format = table.value(&FORMAT);
    let arrival_time = table.optional(&ARRIVAL_TIME);
    let source = FilesSource {
        path: path?,
        format: format?,
        arrival_time: arrival_time?,
    };
    Some((SourceKind::Files(source), StartingPosition::TrimHorizon))
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
        fields.extend(
            self.arrival_time
                .clone()
                .map(|column| ("arrival_time", column)),
        );
        fields
    }

    fn defaults(&self, _: &SourceSpec) -> Fields {
        let arrival = self.arrival_time.clone();
        vec![(
            "arrival_time",
            arrival.unwrap_or_else(|| "the time of reading".into()),
        )]
    }

    fn refuses(&self, key: &str, change: &SourceChange<'_>) -> Option<Refusal> {
        match key {
            "arrival_time" => None,
            "format" => refuse(
                "positions count the records of this format",
                crate::change::ANOTHER_NAME,
            ),
            _ => change.another_source(),
        }
    }
}
