//! `type = "files"`: objects below a folder, in S3 or on a local disk.
//!
//! Owns: the settings and facts of this kind. Does not own: its keys in the job file ([`keys`]), how
//! rows become objects (the worker), how they become visible (the controller).
//! Rule: an object's folder and name follow from the settings, the window and the task alone.

mod catalog;
mod keys;

pub use catalog::SinkCatalog;
pub(super) use keys::KIND;
pub use keys::PARTITION_COLUMNS_MAX;

use super::SinkFacts;
use crate::bad_message::BadMessage;
use crate::change::{Refusal, SinkChange, value_text};
use crate::report::StagedObject;
use crate::spec::key::Fields;
use crate::spec::{AssumedRole, Location, bytes_text, is_default};
use crate::staged_place::{StagedBy, StagedPlace};
use crate::{JobName, count};
use serde::{Deserialize, Serialize};

/// Files below a folder; they become visible when their epoch is published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilesSink {
    pub path: Location,
    /// The role that writes and reads its objects; `None`: the programs' own credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<AssumedRole>,
    pub format: SinkFormat,
    pub compression: Compression,
    /// Columns of the result, or of the window's start, that become folders.
    pub partition_by: Vec<PartitionColumn>,
    /// Objects are cut at about this size.
    pub target_size: u64,
    /// Which types and text forms the rows are written in. Jobs that were stored before there was a
    /// choice continue with Arrow's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub types: SinkTypes,
    /// How JSON and CSV write a timestamp.
    #[serde(default, skip_serializing_if = "is_default")]
    pub timestamp_format: TimestampFormat,
    /// The table by which readers find the files, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<SinkCatalog>,
}

/// The types and text forms in which rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkTypes {
    /// Those that Hive, Spark and Trino read.
    Hive,
    /// Those of the query's result, as Arrow's writers write them.
    #[default]
    Arrow,
}

/// How JSON and CSV write a timestamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestampFormat {
    /// `2026-11-24T00:45:00.5`, with a `Z` if it is a point in time.
    #[default]
    Iso,
    /// `2026-11-24 00:45:00.5`, in UTC.
    Hive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SinkFormat {
    Parquet,
    Json,
    Csv,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    None,
    Snappy,
    /// JSON lines, CSV and Parquet.
    Gzip,
    /// JSON lines, CSV and Parquet.
    Zstd,
}

/// The value that names a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionColumn {
    /// `ingest_year` of the window's start, UTC.
    IngestYear,
    /// `ingest_month`, two digits.
    IngestMonth,
    /// `ingest_day`, two digits.
    IngestDay,
    /// `ingest_hour`, two digits.
    IngestHour,
    /// A column of the result; it is not written into the object.
    Column(String),
}

impl PartitionColumn {
    /// The folder's name before its `=`.
    pub fn name(&self) -> &str {
        match self {
            Self::IngestYear => "ingest_year",
            Self::IngestMonth => "ingest_month",
            Self::IngestDay => "ingest_day",
            Self::IngestHour => "ingest_hour",
            Self::Column(name) => name,
        }
    }
}

impl FilesSink {
    /// A sink with the default of every other key, as a job file gives it.
    pub fn new(path: Location) -> Self {
        Self {
            path,
            role: None,
            format: SinkFormat::Parquet,
            compression: Compression::Snappy,
            partition_by: vec![],
            target_size: keys::TARGET_SIZE_DEFAULT,
            types: SinkTypes::Hive,
            timestamp_format: TimestampFormat::Iso,
            catalog: None,
        }
    }

    /// The extension of the names of objects with rows.
    pub fn extension(&self) -> &'static str {
        match (self.format, self.compression) {
            (SinkFormat::Parquet, _) => "parquet",
            (SinkFormat::Json, Compression::Gzip) => "json.gz",
            (SinkFormat::Json, Compression::Zstd) => "json.zst",
            (SinkFormat::Json, _) => "json",
            (SinkFormat::Csv, Compression::Gzip) => "csv.gz",
            (SinkFormat::Csv, Compression::Zstd) => "csv.zst",
            (SinkFormat::Csv, _) => "csv",
        }
    }
}

impl SinkFacts for FilesSink {
    fn type_name(&self) -> &'static str {
        KIND.word
    }

    fn describe(&self) -> String {
        let compression = match self.compression {
            Compression::None => "not compressed".to_owned(),
            other => value_text(&other),
        };
        let partitions = match self.partition_by.len() {
            0 => String::new(),
            columns => format!(", {}", count(columns, "partition column")),
        };
        let path = &self.path;
        let format = value_text(&self.format);
        let table = self.catalog.as_ref();
        let table = table.map_or_else(String::new, |of| format!(", table {}", of.describe()));
        format!("{path} as {format}, {compression}{partitions}{table}")
    }

    fn format(&self) -> SinkFormat {
        self.format
    }

    fn place(&self) -> String {
        self.path.to_string()
    }

    fn role(&self) -> Option<&AssumedRole> {
        self.role.as_ref()
    }

    fn roles(&self) -> Vec<(&'static str, &AssumedRole)> {
        let of_catalog = self.catalog.as_ref();
        let of_catalog = of_catalog.and_then(|catalog| catalog.role.as_ref());
        let own = self.role.as_ref().map(|role| ("sink.role_arn", role));
        let of_catalog = of_catalog.map(|role| ("sink.catalog.role_arn", role));
        own.into_iter().chain(of_catalog).collect()
    }

    fn folders(&self) -> Vec<(&'static str, &Location)> {
        vec![("path", &self.path)]
    }

    fn object_names(&self, job: &JobName) -> String {
        let level = |column: &PartitionColumn| format!("{}=.../", column.name());
        let folders: String = self.partition_by.iter().map(level).collect();
        let path = &self.path;
        let extension = self.extension();
        format!("{path}{folders}<window>-{job}-<task>-<n>.{extension}")
    }

    fn fields(&self) -> Fields {
        let columns = self.partition_by.iter().map(PartitionColumn::name);
        let columns: Vec<&str> = columns.collect();
        let timestamp_format = match self.timestamp_format {
            TimestampFormat::Iso => String::new(),
            TimestampFormat::Hive => value_text(&self.timestamp_format),
        };
        let mut fields = vec![
            ("path", self.path.to_string()),
            ("format", value_text(&self.format)),
            ("compression", value_text(&self.compression)),
            ("partition_by", columns.join(", ")),
            ("target_size", bytes_text(self.target_size)),
            ("types", value_text(&self.types)),
            ("timestamp_format", timestamp_format),
            (
                "catalog",
                self.catalog
                    .as_ref()
                    .map_or_else(String::new, SinkCatalog::describe),
            ),
        ];
        fields.extend(AssumedRole::fields(self.role.as_ref()));
        fields.retain(|(_, value)| !value.is_empty());
        fields
    }

    fn defaults(&self) -> Fields {
        let target_size = format!("{} MiB", self.target_size >> 20);
        vec![
            ("format", value_text(&self.format)),
            ("compression", value_text(&self.compression)),
            ("partition_by", "no folders".to_owned()),
            ("target_size", target_size),
            ("types", value_text(&self.types)),
        ]
    }

    /// Objects are named in manifests: what is there stays there, in its form.
    fn refuses(&self, key: &str, change: &SinkChange<'_>) -> Option<Refusal> {
        match key {
            "path" => change.another_place(),
            "role_arn" => change.another_role(),
            _ => None,
        }
    }

    fn check(&self, by: &StagedBy<'_>, staged: &StagedObject) -> Result<(), BadMessage> {
        let partitions = self.partition_by.iter().map(PartitionColumn::name);
        let partitions: Vec<&str> = partitions.collect();
        by.check(
            &StagedPlace {
                folder: self.path.as_str(),
                partitions: &partitions,
                extension: self.extension(),
            },
            staged,
        )
    }

    fn fewer_objects(&self) -> &'static str {
        "partition by columns with fewer values, raise sink.target_size"
    }
}

#[cfg(test)]
mod tests;
