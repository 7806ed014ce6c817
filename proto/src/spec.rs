//! The job file: `job.toml` as types that hold only valid values.
//!
//! Owns: the keys, their defaults and their descriptions, every check that needs no outside system.
//! Does not own: what depends on outside systems (tables, columns, buckets):
//! `streamctl_engine::resolve`.
//! Rule: this is the only validation; the command line and the controller both call
//! [`JobSpec::parse`].

mod format;
mod function;
mod hive;
mod keep;
mod key;
mod keys;
mod left_out;
mod locate;
mod location;
mod parse;
mod problem;
mod raw;
mod reference;
mod role;
mod sink;
mod source;
pub mod summary;
#[cfg(test)]
mod tests;
mod text;
mod values;

pub use format::{CsvFormat, FormatFacts, JsonFormat, PayloadFormat};
pub use function::{
    FUNCTION_NAME_DEFAULT, Frame, FunctionPlace, FunctionSpec, Per, Requirements, RequirementsKind,
};
pub use hive::{HiveField, HiveType, Inside, NotAType, TYPE_LEVELS_MAX, TYPE_PARTS_MAX};
pub use keep::{KEEP_MIN, Keep};
pub use keys::LOOKUPS_MAX;
use keys::{LOOKUP_BYTES_DEFAULT, REFRESH_DEFAULT};
pub use left_out::left_out;
pub use locate::line_of;
pub use parse::JOB_FILE_BYTES_MAX;
pub use problem::{Part, Problem, Problems};
pub use reference::{KeyReference, TableReference, Without, reference};
pub use role::{AssumedRole, NamedRole};
pub use sink::{
    Compression, DATA_FILE_EXTENSION, FilesSink, IcebergSink, PARTITION_COLUMNS_MAX, PartitionBy,
    PartitionColumn, PartitionTransform, PinnedTable, SinkCatalog, SinkFacts, SinkFormat, SinkKind,
    SinkTypes, TableCatalog, TableMaintenance, TimestampFormat,
};
pub use source::{
    Aggregates, ConsumerName, FilesSource, GENERATOR_COLUMNS, GENERATOR_RATE_MAX,
    GENERATOR_SHARDS_MAX, GRACE_DEFAULT, GeneratorSource, KinesisSource, OnBadArrival,
    POLL_INTERVAL_MIN, RECORDS_PER_READ_MAX, RecordForm, SourceFacts, SourceKind, StdinSource,
};
pub use text::{bytes_text, duration_text, parse_bytes, parse_duration};
pub use values::{Decimals, OnBadValue, TIME_FORMATS_MAX, TimestampNumbers, ValueRules};

use crate::bad_message::BadMessage;
use crate::manifest::CheckpointNames;
use crate::report::{DEAD_LETTER_EXTENSION, ObjectKind, REJECTED_ROW_EXTENSION};
use crate::resolved::ColumnType;
use crate::staged_place::{StagedBy, StagedPlace};
use crate::{JobName, StagedObject, TaskId, Window, WindowSize};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    pub name: JobName,
    pub source: SourceSpec,
    pub window: WindowSize,
    pub lookups: Vec<LookupSpec>,
    /// The query over `source` and the lookups.
    pub sql: String,
    /// The dialect in which the query is written.
    #[serde(default, skip_serializing_if = "Dialect::is_default")]
    pub dialect: Dialect,
    /// The function that takes the query's rows. Jobs of earlier builds have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionSpec>,
    pub sink: SinkKind,
    /// The location of records that cannot be decoded; `None`: below the checkpoint location.
    pub dead_letter: Option<Location>,
    /// The location of manifests and lookup versions.
    pub checkpoint: Location,
    /// How often a failing epoch is retried before the job stops as failed.
    pub retries_max: u32,
    /// What becomes of records that the query cannot take. Not stored if it is the default: jobs of
    /// earlier builds do not have it, and none of their epochs has such a record.
    #[serde(default, skip_serializing_if = "QueryErrors::is_default")]
    pub query_errors: QueryErrors,
    /// How long its history is kept. Not stored if it is the default.
    #[serde(default, skip_serializing_if = "Keep::is_default")]
    pub keep: Keep,
}

/// What becomes of records that the query cannot take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryErrors {
    pub on: OnQueryError,
    /// Above this share of a window's records, in millionths, the job stops.
    pub max_bad_ppm: u32,
}

/// `on_query_error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnQueryError {
    /// The record becomes a dead letter.
    DeadLetter,
    /// The window fails.
    Fail,
}

pub(super) const BAD_SHARE_PPM_DEFAULT: u32 = 100_000;
/// So many bad records of a window never stop a job, whatever their share: one of three is no sign
/// of a wrong query.
pub const BAD_RECORDS_FREE: u64 = 10;

impl Default for QueryErrors {
    fn default() -> Self {
        Self {
            on: OnQueryError::DeadLetter,
            max_bad_ppm: BAD_SHARE_PPM_DEFAULT,
        }
    }
}

impl QueryErrors {
    /// Whether so many bad ones of so many records stop the job.
    pub fn are_too_many(&self, bad: u64, records: u64) -> bool {
        let allowed = u128::from(records) * u128::from(self.max_bad_ppm);
        bad > BAD_RECORDS_FREE && u128::from(bad) * 1_000_000 > allowed
    }

    /// `max_bad_share` as a job file has it.
    pub fn max_bad_share(&self) -> String {
        key::share_text(self.max_bad_ppm)
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl JobSpec {
    /// Why one task reads all shards of the job, if one does.
    pub fn whole_window_reason(&self) -> &'static str {
        let function = self.function.as_ref();
        match function.is_some_and(|function| function.per.needs_whole_window()) {
            true => "the function takes whole windows",
            false => "the query needs whole windows",
        }
    }

    /// The location of dead letters: below the checkpoint location if the job names none.
    pub fn dead_letters(&self) -> Location {
        let below = || {
            Location::folder(
                &self
                    .checkpoint
                    .join(&CheckpointNames::new(&self.name).dead_letters()),
            )
        };
        self.dead_letter.clone().unwrap_or_else(below)
    }

    /// Checks what a task of this job reports as staged for this window.
    ///
    /// # Errors
    /// [`BadMessage`] names the field.
    pub fn check_staged(
        &self,
        window: Window,
        task: TaskId,
        staged: &StagedObject,
    ) -> Result<(), BadMessage> {
        let job = &self.name;
        let by = StagedBy { job, window, task };
        let extension = match staged.kind {
            ObjectKind::Data => return self.sink.check(&by, staged),
            ObjectKind::DeadLetter => DEAD_LETTER_EXTENSION,
            ObjectKind::RejectedRow => REJECTED_ROW_EXTENSION,
        };
        let dead_letters = self.dead_letters();
        let beside_rows = StagedPlace {
            folder: dead_letters.as_str(),
            partitions: &[],
            extension,
        };
        by.check(&beside_rows, staged)
    }

    /// A location of the job on local disks rather than in S3; `None` if there is none.
    pub fn local_place(&self) -> Option<&str> {
        let source = self.source.kind.input_folder().map(Location::as_str);
        let schema = match &self.source.schema {
            SchemaFrom::File(path) => Some(path.as_str()),
            SchemaFrom::Catalog { .. } | SchemaFrom::Inline(_) | SchemaFrom::BuiltIn => None,
        };
        let lookups = self.lookups.iter().map(|lookup| lookup.path.as_str());
        let sink = self.sink.folders().into_iter().map(|(_, folder)| folder);
        let written = sink
            .chain([&self.checkpoint])
            .chain(&self.dead_letter)
            .map(Location::as_str);
        let all = source
            .into_iter()
            .chain(schema)
            .chain(lookups)
            .chain(written);
        all.into_iter().find(|place| !place.starts_with("s3://"))
    }
}

/// A folder: `s3://bucket/prefix/` or an absolute local path. Always ends in a slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Location(String);

impl Location {
    /// Wraps text that [`parse`] has checked; adds the last slash.
    pub fn folder(text: &str) -> Self {
        Self(if text.ends_with('/') {
            text.to_owned()
        } else {
            format!("{text}/")
        })
    }
    /// The text, with its last slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    pub fn join(&self, name: &str) -> String {
        format!("{}{name}", self.0)
    }
    /// Bucket and prefix, if it is in S3.
    pub fn bucket_and_prefix(&self) -> Option<(&str, &str)> {
        self.0.strip_prefix("s3://")?.split_once('/')
    }
    /// Whether one is inside the other.
    pub fn overlaps(&self, other: &Location) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceSpec {
    /// The kind of source, with its settings.
    pub kind: SourceKind,
    /// The source of the column types.
    pub schema: SchemaFrom,
    /// The start of shards that exist at submit.
    pub starting_position: StartingPosition,
    /// What to do if records were lost before they could be read.
    pub on_data_loss: OnDataLoss,
    /// How values become those of their columns. Not stored if it is the default.
    #[serde(default, skip_serializing_if = "ValueRules::is_default")]
    pub values: ValueRules,
}

/// Whether payloads may be compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayloadCompression {
    /// Payloads are used unchanged.
    #[default]
    None,
    /// gzip, zstd and snappy's framing format are detected by their magic and decompressed; other
    /// payloads are unchanged.
    Auto,
}

/// The format of records in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordFormat {
    /// One JSON object per line.
    Json,
    Csv,
}

/// The source of the column types.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaFrom {
    /// A table of the Glue Data Catalog.
    Catalog {
        /// The account that owns it, if not the caller's.
        catalog_id: Option<String>,
        database: String,
        table: String,
        region: Option<String>,
        /// The role by which it is read; `None`: the controllers' own credentials.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<AssumedRole>,
    },
    /// A file in the format of a GetTable response.
    File(String),
    /// Written in the job file.
    Inline(Vec<ColumnType>),
    /// The source defines them itself (the generator).
    BuiltIn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartingPosition {
    /// At the time of submit.
    Latest,
    TrimHorizon,
    /// At a time, milliseconds since the Unix epoch.
    Timestamp(i64),
}

/// What the words, operators and functions of a query mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    #[default]
    Datafusion,
    /// Spark SQL 3.5, with ANSI off and the time zone UTC.
    Spark,
}

impl Dialect {
    /// The word in a job file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Datafusion => "datafusion",
            Self::Spark => "spark",
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What to do if records were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDataLoss {
    /// The job stops as failed; the error names shard and gap.
    Fail,
    /// The loss is counted, and reading continues at the oldest record.
    Continue,
}

/// Keys that jobs of earlier builds do not have are not stored with their defaults: a stored job
/// keeps its bytes.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A table to join with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LookupSpec {
    /// Its name in the query.
    pub name: String,
    /// Every file below is part of the lookup.
    pub path: Location,
    /// The role by which its files are read; `None`: the programs' own credentials. Copies of them
    /// in the checkpoint location are written and read without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<AssumedRole>,
    /// The format of its files.
    pub format: LookupFormat,
    /// How often to look for a new version.
    pub refresh: Duration,
    /// Most bytes that it may have.
    pub size_max: u64,
    /// Whether a version without rows may replace one with rows.
    #[serde(default, skip_serializing_if = "is_default")]
    pub allow_empty: bool,
    /// How its CSV files are written.
    #[serde(default, skip_serializing_if = "is_default")]
    pub csv: LookupCsv,
    /// The types of some of its columns; the others have those of the files.
    #[serde(default, skip_serializing_if = "is_default")]
    pub schema: Vec<ColumnType>,
    /// Whether folders `Code=DE/` are columns. Jobs that were stored before they could be have only
    /// the columns of the files.
    #[serde(default, skip_serializing_if = "is_default")]
    pub folder_columns: bool,
}

impl LookupSpec {
    /// A lookup with the default of every other key, as a job file gives it.
    pub fn new(name: &str, path: Location, format: LookupFormat) -> Self {
        Self {
            name: name.to_owned(),
            path,
            role: None,
            format,
            refresh: REFRESH_DEFAULT,
            size_max: LOOKUP_BYTES_DEFAULT,
            allow_empty: false,
            csv: LookupCsv::default(),
            schema: vec![],
            folder_columns: true,
        }
    }

    /// Whether the files of both are the same table: only then may one go on with a version that
    /// the other read.
    pub fn reads_as(&self, other: &Self) -> bool {
        let of = |spec: &Self| {
            (
                spec.path.clone(),
                spec.format,
                spec.csv.clone(),
                spec.schema.clone(),
                spec.folder_columns,
            )
        };
        of(self) == of(other)
    }
}

/// How the CSV files of a lookup are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupCsv {
    /// Between two fields; ASCII.
    pub delimiter: char,
    /// Around a field that holds the delimiter, a line end, or itself, doubled; ASCII.
    pub quote: char,
    pub encoding: TextEncoding,
    /// A field with this text is null, in quotes too; an empty field is null in any case.
    pub null_text: String,
}

impl Default for LookupCsv {
    fn default() -> Self {
        Self {
            delimiter: ',',
            quote: '"',
            encoding: TextEncoding::Utf8,
            null_text: String::new(),
        }
    }
}

/// How text is written in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TextEncoding {
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// Windows-1252, which readers take for Latin-1 too.
    #[serde(rename = "windows-1252")]
    Windows1252,
    /// UTF-16 with a byte-order mark; little-endian without one.
    #[serde(rename = "utf-16")]
    Utf16,
}

/// The format of a lookup's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LookupFormat {
    /// With a header; all columns are text.
    Csv,
    Parquet,
}
