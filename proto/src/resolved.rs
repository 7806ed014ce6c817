//! A job as resolved at submit: everything that the job file leaves open is pinned.
//!
//! Owns: its stored form, and how its versions refer to each other. Does not own: what a version
//! may change ([`crate::change`]).
//! Rule: workers, replays and later leaders see this and nothing newer; a changed catalog does not
//! change a job. The store holds the last version; each names the one before it by digest, which is
//! stored in the checkpoint location.

use crate::function_code::CodeDigest;
use crate::manifest::{CheckpointNames, sha256_hex};
pub use crate::stream::{StreamFacts, StreamIdentity};
use crate::{Epoch, JobSpec, JobVersion, Position};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The stored form that this build writes; it does not read later ones.
pub const RESOLVED_VERSION: u32 = 3;
/// Largest stored version of a job that is read: a job file, and the resolved values.
pub const RESOLVED_BYTES_MAX: u64 = 16 << 20;

/// A column of the source, as the catalog or the job file types it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnType {
    /// Compared without regard to case.
    pub name: String,
    /// A Hive type: `string`, `bigint`, `decimal(10,2)`, `timestamp` ...
    #[serde(rename = "type")]
    pub type_name: String,
}

/// Which keys of a record hold its columns, where the catalog says more than the columns' names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordKeys {
    /// Columns, in lower case, that records have under another key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<String, String>,
    /// A dot in a key of a record counts as `_`.
    #[serde(skip_serializing_if = "is_false")]
    pub dots_are_underscores: bool,
    /// Keys are compared with regard to case.
    #[serde(skip_serializing_if = "is_false")]
    pub case_counts: bool,
}

impl RecordKeys {
    /// Each column has its own name as its key, without regard to case.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The key of a column that is not its name.
    pub fn of_column(&self, column: &str) -> Option<&str> {
        self.names.get(&column.to_lowercase()).map(String::as_str)
    }
}

/// What a column of the type `array`, `map` or `struct` is in the query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NestedColumns {
    /// A text with its JSON, as in jobs of earlier builds, and in formats without objects.
    #[default]
    Text,
    /// A list, a map or a struct.
    Typed,
}

impl NestedColumns {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's interface")]
    fn is_text(&self) -> bool {
        *self == Self::Text
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's interface")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// The location of a Kinesis stream and the role of its reader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamAddress {
    /// The stream's name; taken from the ARN if only that is given.
    pub name: String,
    /// Its ARN; needed across accounts.
    pub arn: Option<String>,
    /// The service's address, if it is not the usual one.
    pub endpoint: Option<String>,
    /// From the ARN, the endpoint or the job file; else the environment's.
    pub region: Option<String>,
    /// A role to assume before reading.
    pub role_arn: Option<String>,
    /// Names the session of that role.
    pub session_name: Option<String>,
}

/// A registered consumer of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamConsumer {
    pub arn: String,
    /// Registered for the job: deregistered when the job is deleted or reads without it.
    pub is_own: bool,
}

/// A job as it was resolved at submit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResolvedJob {
    /// [`RESOLVED_VERSION`].
    pub version: u32,
    /// The user's job file, validated.
    pub spec: JobSpec,
    /// SHA-256 of the text of the job file.
    pub spec_digest: String,
    /// Which version of the job this is.
    #[serde(default)]
    pub job_version: JobVersion,
    /// The version that it took over from; `None` for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<VersionRef>,
    /// When this version was submitted; 0 for the first one.
    #[serde(default)]
    pub changed_ms: i64,
    /// The last epoch before this version. Absent in the first one, in one that has not taken over,
    /// and in versions of earlier builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_epoch: Option<Epoch>,
    /// When the job was submitted: its first version.
    pub submitted_ms: i64,
    /// The start of shards that existed at submit; `latest` has become a timestamp.
    pub start: Position,
    /// The source's columns, in order.
    pub columns: Vec<ColumnType>,
    /// What those of nested types are. Absent before they had types of their own.
    #[serde(default, skip_serializing_if = "NestedColumns::is_text")]
    pub nested: NestedColumns,
    /// Which keys of a record hold them. Absent before the catalog's mappings were read.
    #[serde(default, skip_serializing_if = "RecordKeys::is_plain")]
    pub keys: RecordKeys,
    /// The query reads the partition keys of records.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reads_partition_keys: bool,
    /// For a Kinesis source: the stream.
    pub stream: Option<StreamAddress>,
    /// The identity of the stream at submit. Absent before version 3, and if the service did not
    /// respond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_identity: Option<StreamIdentity>,
    /// The consumer that the stream is read through. Absent if shards are polled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<StreamConsumer>,
    /// The query needs all rows of a window together: one task reads all shards.
    pub whole_window: bool,
    /// SHA-256 of the query.
    pub query_digest: String,
    /// The result's columns: an Arrow IPC stream without batches, in base64.
    pub output_schema: String,
    /// The columns of each lookup at submit, in the same form. Absent in jobs of earlier builds:
    /// they plan with the version that a task meets first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lookup_columns: BTreeMap<String, String>,
    /// The code of the job's function, in the checkpoint location. Absent without a function, and
    /// for one that a server runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function_code: Option<CodeDigest>,
}

/// An earlier version of a job: its name in the checkpoint location and the SHA-256 of its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRef {
    pub job_version: JobVersion,
    pub name: String,
    /// SHA-256 of the stored bytes, in hexadecimal.
    pub digest: String,
}

/// A stored version of a job is not usable.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// Not JSON, or not in this form.
    #[error("not a job's version")]
    Form(#[from] serde_json::Error),
    /// Written by a later build.
    #[error(
        "it has the form {0}, this build reads up to {RESOLVED_VERSION}; use the build that wrote \
         it, or a later one"
    )]
    Later(u32),
    /// The bytes differ from those that were stored.
    #[error("{name} was changed since it was stored: digest is {found}, stored was {stored}")]
    Digest {
        name: String,
        /// The digest of the actual bytes.
        found: String,
        /// The digest in the version after it.
        stored: String,
    },
}

impl ResolvedJob {
    /// The first epoch that this version makes, as far as it is known.
    pub fn first_epoch(&self) -> Option<Epoch> {
        if self.job_version == JobVersion::FIRST {
            return Some(Epoch(1));
        }
        self.after_epoch.map(Epoch::next)
    }

    /// When this version was submitted.
    pub fn version_submitted_ms(&self) -> i64 {
        match self.changed_ms {
            0 => self.submitted_ms,
            changed_ms => changed_ms,
        }
    }

    /// The time from which arrivals are guaranteed to be read: the job's start time, else its
    /// submit, when it began at the oldest records left. A stream has none from before its
    /// creation.
    pub fn promised_from_ms(&self) -> i64 {
        let created_ms = self
            .stream_identity
            .as_ref()
            .map_or(i64::MIN, |identity| identity.created_ms);
        match self.start {
            Position::Timestamp(start_ms) => start_ms.max(created_ms),
            Position::Start | Position::After { .. } | Position::End => self.submitted_ms,
        }
    }

    /// The stored bytes of this version, and a reference to them.
    pub fn encode(&self) -> (Vec<u8>, VersionRef) {
        let bytes = serde_json::to_vec(self).expect("a job has only text keys");
        let digest = sha256_hex(&bytes);
        let name = CheckpointNames::new(&self.spec.name).version(self.job_version, &digest);
        (
            bytes,
            VersionRef {
                job_version: self.job_version,
                name,
                digest,
            },
        )
    }

    /// Parses stored bytes; they must be those that `reference` names.
    pub fn decode(bytes: &[u8], reference: &VersionRef) -> Result<Self, VersionError> {
        let found = sha256_hex(bytes);
        if found != reference.digest {
            let name = reference.name.clone();
            let stored = reference.digest.clone();
            return Err(VersionError::Digest {
                name,
                found,
                stored,
            });
        }
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(bytes)?;
        if version > RESOLVED_VERSION {
            return Err(VersionError::Later(version));
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        Compression, Dialect, FilesSink, Location, OnDataLoss, SchemaFrom, SinkFormat, SinkTypes,
        SourceSpec,
    };
    use crate::spec::{GeneratorSource, SourceKind, StartingPosition};
    use crate::{Position, WindowSize};

    fn changed() -> ResolvedJob {
        let kind = SourceKind::Generator(GeneratorSource {
            seed: 1,
            shards: 2,
            rate: 10.0,
            records_per_shard: None,
            bad_every: 0,
            unmatched_every: 0,
        });
        let schema = SchemaFrom::BuiltIn;
        let starting_position = StartingPosition::TrimHorizon;
        let sink = FilesSink {
            format: SinkFormat::Json,
            compression: Compression::None,
            target_size: 1 << 20,
            types: SinkTypes::Arrow,
            ..FilesSink::new(Location::folder("/out"))
        };
        let spec = JobSpec {
            name: "sales".parse().unwrap(),
            source: SourceSpec {
                kind,
                schema,
                starting_position,
                on_data_loss: OnDataLoss::Fail,
                values: Default::default(),
            },
            window: WindowSize::from_ms(60_000).unwrap(),
            lookups: vec![],
            sql: "SELECT uuid FROM source".into(),
            sink: sink.into(),
            dead_letter: None,
            checkpoint: Location::folder("/checkpoint"),
            dialect: Dialect::default(),
            function: None,
            retries_max: 3,
            query_errors: Default::default(),
            keep: Default::default(),
        };
        let previous = VersionRef {
            job_version: JobVersion(1),
            name: "sales/versions/000001-d.json".into(),
            digest: "d".into(),
        };
        ResolvedJob {
            version: RESOLVED_VERSION,
            spec,
            spec_digest: sha256_hex(b"name = 'sales'"),
            job_version: JobVersion(2),
            previous: Some(previous),
            changed_ms: 1_700_000_060_000,
            after_epoch: None,
            submitted_ms: 1_700_000_000_000,
            start: Position::Start,
            columns: vec![ColumnType {
                name: "uuid".into(),
                type_name: "string".into(),
            }],
            nested: Default::default(),
            keys: RecordKeys::default(),
            reads_partition_keys: false,
            stream: None,
            stream_identity: Some(StreamIdentity {
                arn: None,
                created_ms: 1_600_000_000_000,
            }),
            consumer: None,
            whole_window: false,
            query_digest: sha256_hex(b"SELECT uuid FROM source"),
            output_schema: "c2NoZW1h".into(),
            lookup_columns: Default::default(),
            function_code: None,
        }
    }

    /// The stored forms must stay readable: a change here is a new form, and these files must stay
    /// readable.
    #[test]
    fn the_stored_forms_are_the_golden_files() {
        let second = ResolvedJob {
            version: 2,
            stream_identity: None,
            consumer: None,
            ..changed()
        };
        let golden = [
            (changed(), include_str!("../golden/job-v3.json")),
            (second, include_str!("../golden/job-v2.json")),
        ];
        for (job, golden) in golden {
            assert_eq!(
                serde_json::to_string_pretty(&job).unwrap().trim(),
                golden.trim()
            );
            assert_eq!(serde_json::from_str::<ResolvedJob>(golden).unwrap(), job);
        }
        let first: ResolvedJob =
            serde_json::from_str(include_str!("../golden/job-v1.json")).unwrap();
        assert_eq!(
            (first.version, first.job_version, first.previous),
            (1, JobVersion::FIRST, None)
        );
    }

    #[test]
    fn keys_of_records_are_stored_only_where_they_are_not_the_names() {
        let keys = RecordKeys {
            names: BTreeMap::from([("ts".into(), "timestamp".into())]),
            dots_are_underscores: true,
            case_counts: false,
        };
        let job = ResolvedJob { keys, ..changed() };
        let text = serde_json::to_string(&job).unwrap();
        let stored = r#""keys":{"names":{"ts":"timestamp"},"dots_are_underscores":true},"#;
        assert!(text.contains(stored), "{text}");
        assert_eq!(serde_json::from_str::<ResolvedJob>(&text).unwrap(), job);
        assert!(!serde_json::to_string(&changed()).unwrap().contains("keys"));
    }

    #[test]
    fn p17_a_stored_job_has_texts_for_nested_columns_by_default() {
        let typed = ResolvedJob {
            nested: NestedColumns::Typed,
            ..changed()
        };
        let text = serde_json::to_string(&typed).unwrap();
        assert!(text.contains(r#""nested":"typed","#), "{text}");
        assert_eq!(serde_json::from_str::<ResolvedJob>(&text).unwrap(), typed);
        let before = serde_json::to_string(&changed()).unwrap();
        assert!(!before.contains("nested"));
        let before: ResolvedJob = serde_json::from_str(&before).unwrap();
        assert_eq!(before.nested, NestedColumns::Text);
    }

    #[test]
    fn what_is_read_is_what_was_stored_or_an_error() {
        let (mut bytes, reference) = changed().encode();
        assert!(
            reference.name.starts_with("sales/versions/000002-"),
            "{reference:?}"
        );
        assert_eq!(ResolvedJob::decode(&bytes, &reference).unwrap(), changed());
        bytes[40] ^= 1;
        assert!(matches!(
            ResolvedJob::decode(&bytes, &reference),
            Err(VersionError::Digest { .. })
        ));
        let (bytes, reference) = ResolvedJob {
            version: RESOLVED_VERSION + 1,
            ..changed()
        }
        .encode();
        assert!(matches!(
            ResolvedJob::decode(&bytes, &reference),
            Err(VersionError::Later(4))
        ));
    }
}
