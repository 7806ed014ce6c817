//! `type = "iceberg"`: rows of a table in an Iceberg catalog.
//!
//! Owns: the settings and facts of this kind, the table as it was pinned at submit. Does not own:
//! its keys in the job file ([`keys`]), catalogs and what a commit holds (the engine), when an epoch
//! is committed (the controller).
//! Rule: a job writes one table, known by its UUID; what a worker must know of it is pinned, so that
//! no worker calls a catalog.

mod keys;
mod maintenance;
mod partition;

pub(super) use keys::KIND;
pub use maintenance::TableMaintenance;
pub use partition::{PartitionBy, PartitionTransform};

use super::{SinkFacts, SinkKind};
use crate::bad_message::BadMessage;
use crate::change::{ANOTHER_NAME, Refusal, SinkChange, refuse, value_text};
use crate::digest::sha256_hex;
use crate::report::StagedObject;
use crate::spec::key::Fields;
use crate::spec::sink::{Compression, SinkFormat};
use crate::spec::{AssumedRole, Location, bytes_text};
use crate::staged_place::{StagedBy, StagedPlace};
use crate::{JobName, count};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::time::Duration;

/// The extension of data files.
pub const DATA_FILE_EXTENSION: &str = "parquet";

/// Rows of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IcebergSink {
    pub catalog: TableCatalog,
    /// The role that calls the catalog, if it is of AWS, and that writes and reads the table's files;
    /// `None`: the programs' own credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<AssumedRole>,
    /// `database.table`.
    pub table: String,
    /// Whether a missing table is made at submit.
    #[serde(default)]
    pub create: bool,
    /// Where a new table is; `None`: the catalog chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// How the table is partitioned. `None`: as it is; a new one is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Vec<PartitionBy>>,
    /// How many snapshots of this job stay.
    pub keep_snapshots: NonZeroU32,
    pub compression: Compression,
    /// Files are cut at about this size.
    pub target_size: u64,
    /// `None`: small files stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<TableMaintenance>,
    /// The table at submit. `None`: only in a job that is not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Box<PinnedTable>>,
}

/// Which catalog has the table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableCatalog {
    Rest {
        /// Up to and without `/v1`.
        uri: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warehouse: Option<String>,
        /// The name of the operator's credentials for this catalog.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        credentials: Option<String>,
    },
    Glue {
        /// The account of the catalog; `None`: the caller's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warehouse: Option<String>,
        /// `None`: the environment's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        region: Option<String>,
        /// `None`: the service's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uri: Option<String>,
    },
    S3Tables {
        /// The ARN of the table bucket.
        warehouse: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        region: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uri: Option<String>,
    },
    Local {
        /// A folder of this machine.
        warehouse: Location,
    },
}

/// Digits of the digest in the name of a job's folder: enough to tell apart all jobs of one name.
const OWN_FOLDER_DIGITS: usize = 12;

/// A table as a submit found it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PinnedTable {
    /// The cluster whose job writes: part of the name of the table's marker.
    pub cluster: String,
    pub uuid: String,
    /// The folder of the job's data files, below that of the table. Jobs of one name, in other
    /// clusters or one after the other, have others, so no file is written twice.
    pub data: Location,
    pub schema_id: i32,
    pub spec_id: i32,
    /// The names of the partition fields.
    pub partition_fields: Vec<String>,
    /// The table's columns, in Iceberg's JSON form.
    pub schema: serde_json::Value,
    /// Its partition spec, in Iceberg's JSON form.
    pub spec: serde_json::Value,
}

impl TableCatalog {
    /// The value of the key `catalog`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Rest { .. } => "rest",
            Self::Glue { .. } => "glue",
            Self::S3Tables { .. } => "s3tables",
            Self::Local { .. } => "local",
        }
    }

    /// As text: `the Glue Data Catalog`.
    pub fn describe(&self) -> String {
        match self {
            Self::Rest { uri, .. } => format!("the REST catalog {uri}"),
            Self::Glue { .. } => "the Glue Data Catalog".to_owned(),
            Self::S3Tables { warehouse, .. } => format!("the table bucket {warehouse}"),
            Self::Local { warehouse } => format!("the folder {warehouse}"),
        }
    }

    fn fields(&self) -> Fields {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let word = ("catalog", self.word().to_owned());
        match self {
            Self::Rest {
                uri,
                warehouse,
                credentials,
            } => vec![
                word,
                ("uri", uri.clone()),
                ("warehouse", text(warehouse)),
                ("credentials", text(credentials)),
            ],
            Self::Glue {
                warehouse,
                region,
                uri,
            } => vec![
                word,
                ("uri", text(uri)),
                ("warehouse", text(warehouse)),
                ("region", text(region)),
            ],
            Self::S3Tables {
                warehouse,
                region,
                uri,
            } => vec![
                word,
                ("uri", text(uri)),
                ("warehouse", warehouse.clone()),
                ("region", text(region)),
            ],
            Self::Local { warehouse } => vec![word, ("warehouse", warehouse.to_string())],
        }
    }
}

impl IcebergSink {
    /// The partition as in a job file: `day(sold_at), region`.
    fn partition_text(&self) -> String {
        let all = self.partition.iter().flatten().map(ToString::to_string);
        all.collect::<Vec<_>>().join(", ")
    }
}

impl SinkFacts for IcebergSink {
    fn type_name(&self) -> &'static str {
        KIND.word
    }

    fn describe(&self) -> String {
        let fields = self.pinned.as_ref().map_or_else(
            || self.partition.as_ref().map_or(0, Vec::len),
            |pinned| pinned.partition_fields.len(),
        );
        let partitions = match fields {
            0 => String::new(),
            fields => format!(", {}", count(fields, "partition field")),
        };
        let Self { table, catalog, .. } = self;
        format!(
            "Iceberg table {table} in {}{partitions}",
            catalog.describe()
        )
    }

    fn format(&self) -> SinkFormat {
        SinkFormat::Parquet
    }

    fn place(&self) -> String {
        format!("{} in {}", self.table, self.catalog.describe())
    }

    fn role(&self) -> Option<&AssumedRole> {
        self.role.as_ref()
    }

    fn roles(&self) -> Vec<(&'static str, &AssumedRole)> {
        let role = self.role.iter();
        role.map(|role| ("sink.role_arn", role)).collect()
    }

    fn folders(&self) -> Vec<(&'static str, &Location)> {
        match (&self.pinned, &self.catalog) {
            (Some(pinned), _) => vec![("table", &pinned.data)],
            (None, TableCatalog::Local { warehouse }) => vec![("warehouse", warehouse)],
            (
                None,
                TableCatalog::Rest { .. }
                | TableCatalog::Glue { .. }
                | TableCatalog::S3Tables { .. },
            ) => vec![],
        }
    }

    fn object_names(&self, job: &JobName) -> String {
        let folder = match &self.pinned {
            Some(pinned) => pinned.data.to_string(),
            None => format!("<data folder of {}>/", self.table),
        };
        let partitioned = self.pinned.as_ref().map_or_else(
            || self.partition.as_ref().is_some_and(|all| !all.is_empty()),
            |pinned| !pinned.partition_fields.is_empty(),
        );
        let partition = if partitioned { "<partition>/" } else { "" };
        // A submit gives the job a folder of its own.
        format!("{folder}{job}-<id>/{partition}<window>-{job}-<task>-<n>.{DATA_FILE_EXTENSION}")
    }

    fn fields(&self) -> Fields {
        let mut fields = self.catalog.fields();
        let location = self.location.as_ref().map(ToString::to_string);
        fields.extend([
            ("table", self.table.clone()),
            ("create", self.create.to_string()),
            ("location", location.unwrap_or_default()),
            ("partition", self.partition_text()),
            ("keep_snapshots", self.keep_snapshots.to_string()),
            ("compression", value_text(&self.compression)),
            ("target_size", bytes_text(self.target_size)),
            (
                "maintenance",
                self.maintenance
                    .as_ref()
                    .map_or_else(String::new, TableMaintenance::describe),
            ),
        ]);
        fields.extend(AssumedRole::fields(self.role.as_ref()));
        if let Some(pinned) = &self.pinned {
            fields.extend([
                ("table_uuid", pinned.uuid.clone()),
                ("table_schema", pinned.schema_id.to_string()),
                ("table_partition_spec", pinned.spec_id.to_string()),
            ]);
        }
        fields.retain(|(_, value)| !value.is_empty());
        fields
    }

    fn defaults(&self) -> Fields {
        vec![
            ("create", self.create.to_string()),
            ("partition", "as the table is".to_owned()),
            ("keep_snapshots", self.keep_snapshots.to_string()),
            ("compression", value_text(&self.compression)),
            ("target_size", bytes_text(self.target_size)),
        ]
    }

    /// The epochs are in one table, known by its UUID. Its address and how it is written may change.
    fn refuses(&self, key: &str, change: &SinkChange<'_>) -> Option<Refusal> {
        match key {
            "catalog" | "warehouse" | "table" => {
                refuse("the job's epochs are in that table", ANOTHER_NAME)
            }
            "table_uuid" => refuse(
                "the table was dropped and made again: the job's epochs were in the old one",
                "give the new job another name, or put the old table back",
            ),
            "table_schema" | "table_partition_spec" => change.another_place(),
            _ => None,
        }
    }

    fn check(&self, by: &StagedBy<'_>, staged: &StagedObject) -> Result<(), BadMessage> {
        let bad = |field, problem: &str| {
            Err(BadMessage {
                field,
                problem: problem.to_owned(),
            })
        };
        let Some(pinned) = &self.pinned else {
            return bad("object.location", "the job has no table");
        };
        let Some(file) = &staged.table_file else {
            return bad("object.table_file", "is missing");
        };
        file.check(pinned.spec_id, pinned.partition_fields.len())?;
        let names: Vec<&str> = pinned.partition_fields.iter().map(String::as_str).collect();
        let place = |partitions| StagedPlace {
            folder: pinned.data.as_str(),
            partitions,
            extension: DATA_FILE_EXTENSION,
        };
        // A partition whose values name no folder has its files beside the folders.
        by.check(&place(&names), staged)
            .or_else(|error| by.check(&place(&[]), staged).map_err(|_| error))
    }

    fn set_apart(&self, job: &JobName, submitted_ms: i64) -> Option<SinkKind> {
        let pinned = self.pinned.as_deref()?;
        let text = format!("{}\0{job}\0{submitted_ms}", pinned.cluster);
        let digest = sha256_hex(text.as_bytes());
        let own = &digest[..OWN_FOLDER_DIGITS];
        let pinned = PinnedTable {
            data: Location::folder(&format!("{}{job}-{own}/", pinned.data)),
            ..pinned.clone()
        };
        let sink = Self {
            pinned: Some(Box::new(pinned)),
            ..self.clone()
        };
        Some(sink.into())
    }

    fn compacts_every(&self) -> Option<Duration> {
        let maintenance = self.maintenance.as_ref()?;
        Some(maintenance.compact)
    }

    fn fewer_objects(&self) -> &'static str {
        "partition the table by fewer values, raise sink.target_size"
    }
}

#[cfg(test)]
mod tests;
