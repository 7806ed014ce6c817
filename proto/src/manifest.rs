//! The immutable record of one epoch, as stored in the checkpoint location.
//!
//! Owns: the stored form (JSON, with a version) and the names of the objects in a checkpoint
//! location.
//! Rule: a manifest contains everything that recovery needs; its digest in the store identifies it.

pub use crate::digest::sha256_hex;
use crate::function_code::CodeDigest;
use crate::report::{NullValues, ObjectKind, StageTimes, StagedObject, UnknownKey, UnmatchedKey};
use crate::stream::StreamIdentity;
use crate::{
    Counts, Epoch, JobName, JobVersion, LookupVersion, Position, ShardId, ShardRange, TaskId, Term,
    Window,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The stored form that this build writes; it does not read later ones. Fields that version 3 added
/// are optional: manifests of versions 1 and 2 are read, and written again byte for byte.
pub const MANIFEST_VERSION: u32 = 3;

/// Largest manifest that is read: 10,000 shards and 10,000 objects are about 12 MiB.
pub const MANIFEST_BYTES_MAX: u64 = 64 << 20;
/// Digits of a manifest's digest in its name.
pub(crate) const DIGEST_CHARS: usize = 16;

/// Identifies a manifest: its name in the checkpoint location and the SHA-256 of its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRef {
    /// The epoch of the manifest.
    pub epoch: Epoch,
    pub name: String,
    /// SHA-256 of the stored bytes, in hexadecimal.
    pub digest: String,
}

/// The state of a shard when the epoch is committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frontier {
    pub position: Position,
    /// Shards that must be read to their end first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<ShardId>,
    /// The data that its reader needs beyond the name, if a replay cannot request it again
    /// (Kinesis: the hash range).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Every record that arrived before this time, by the clock of its source, is read or is part
    /// of `lost`. Only for a source that expires its records; absent before version 3, where the
    /// end of the manifest's window takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_to_ms: Option<i64>,
    /// The last gap in the records read: records that arrived within it may have expired unread.
    /// Since version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<TimeGap>,
}

impl Frontier {
    /// A shard without parents at this position.
    pub fn at(position: Position) -> Self {
        Self {
            position,
            parents: Vec::new(),
            detail: String::new(),
            read_to_ms: None,
            lost: None,
        }
    }
}

/// A span of arrival time, `[from_ms, to_ms)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TimeGap {
    /// First millisecond inside.
    pub from_ms: i64,
    /// First millisecond after.
    pub to_ms: i64,
}

impl TimeGap {
    /// The smallest gap that holds both.
    pub fn merged(self, other: Self) -> Self {
        Self {
            from_ms: self.from_ms.min(other.from_ms),
            to_ms: self.to_ms.max(other.to_ms),
        }
    }
}

impl std::fmt::Display for TimeGap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "between {} and {}",
            time_text(self.from_ms),
            time_text(self.to_ms)
        )
    }
}

/// A time as text: RFC 3339 in UTC, to the millisecond.
pub fn time_text(time_ms: i64) -> String {
    match chrono::DateTime::from_timestamp_millis(time_ms) {
        Some(time) => time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        None => format!("{time_ms} ms"),
    }
}

/// An object of the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestObject {
    /// The task that staged it.
    pub task: TaskId,
    #[serde(flatten)]
    pub staged: StagedObject,
}

/// The version of a job that made an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeBy {
    pub job_version: JobVersion,
    /// SHA-256 of the text of its job file.
    pub spec_digest: String,
}

/// One epoch of one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub version: u32,
    pub job: JobName,
    pub epoch: Epoch,
    /// The window of its records.
    pub window: Window,
    /// The leader that wrote it.
    pub term: Term,
    pub created_ms: i64,
    /// The previous one; `None` for epoch 1.
    pub previous: Option<ManifestRef>,
    /// The version of the job that made it. Absent in manifests of version 1, which belong to the
    /// first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<MadeBy>,
    /// The stream that was read. Since version 3, and only for a Kinesis source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamIdentity>,
    /// SHA-256 of the job's query.
    pub query_digest: String,
    /// The code of the job's function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function_code: Option<CodeDigest>,
    /// The lookup versions that every task used.
    pub lookups: BTreeMap<String, LookupVersion>,
    /// The ranges read, per shard and task, in order: a shard that moved has several that join
    /// without a gap.
    pub parts: Vec<ManifestPart>,
    /// The state of every known shard after this epoch.
    pub frontier: BTreeMap<ShardId, Frontier>,
    pub objects: Vec<ManifestObject>,
    /// The counts of this epoch.
    pub counts: Counts,
    pub totals: Counts,
    /// The most frequent keys without a match.
    pub unmatched: Vec<UnmatchedKey>,
    /// The columns with most bad values that became null in this epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub null_values: Vec<NullValues>,
    /// The keys that no column has, those that were met most often in this epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown_keys: Vec<UnknownKey>,
    pub stages: StageTimes,
    /// The repair of an earlier epoch that had lost objects; then this epoch has no records.
    /// `None`: an epoch of records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<Box<EpochRepair>>,
}

/// The repair of a committed epoch that could not be published unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRepair {
    /// Which epoch.
    pub epoch: Epoch,
    /// Locations of its objects that were lost before they were visible: they stay empty.
    pub lost: Vec<String>,
    /// Their replacements, computed again from the same ranges; empty if they were given up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ManifestObject>,
    /// Rows and dead letters that were given up; 0 if none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows_given_up: u64,
    /// The user who requested it; empty without authentication.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

fn is_zero(figure: &u64) -> bool {
    *figure == 0
}

/// The objects of an epoch after these repairs, oldest first.
pub fn objects_after(manifest: &Manifest, repairs: &[EpochRepair]) -> Vec<ManifestObject> {
    let mut objects = manifest.objects.clone();
    for repair in repairs
        .iter()
        .filter(|repair| repair.epoch == manifest.epoch)
    {
        let lost: BTreeSet<&str> = repair.lost.iter().map(String::as_str).collect();
        objects.retain(|object| !lost.contains(object.staged.location.as_str()));
        objects.extend(repair.objects.iter().cloned());
    }
    objects
}

/// The ranges that one task read of the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestPart {
    pub task: TaskId,
    pub ranges: BTreeMap<ShardId, ShardRange>,
    pub counts: Counts,
}

/// A stored manifest is not usable.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or not in this form.
    #[error("not a manifest")]
    Form(#[from] serde_json::Error),
    /// Written by a later build.
    #[error(
        "manifest has version {0}, this build reads up to {MANIFEST_VERSION}; use the build that \
         wrote it, or a later one"
    )]
    Version(u32),
    /// The bytes differ from those that were committed.
    #[error(
        "manifest {name} was changed after its commit: digest is {found}, committed was {committed}"
    )]
    Digest {
        name: String,
        /// The digest of the actual bytes.
        found: String,
        committed: String,
    },
}

impl Manifest {
    /// The stored bytes, and a reference to them.
    pub fn encode(&self) -> (Vec<u8>, ManifestRef) {
        let bytes = serde_json::to_vec(self).expect("a manifest has only text keys");
        let digest = sha256_hex(&bytes);
        let name = CheckpointNames::new(&self.job).manifest(self.epoch, &digest);
        let reference = ManifestRef {
            epoch: self.epoch,
            name,
            digest,
        };
        (bytes, reference)
    }

    /// Parses stored bytes; they must be those that `reference` names.
    pub fn decode(bytes: &[u8], reference: &ManifestRef) -> Result<Self, ManifestError> {
        let found = sha256_hex(bytes);
        if found != reference.digest {
            let name = reference.name.clone();
            let committed = reference.digest.clone();
            return Err(ManifestError::Digest {
                name,
                found,
                committed,
            });
        }
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(bytes)?;
        if version > MANIFEST_VERSION {
            return Err(ManifestError::Version(version));
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The version of the job that made it.
    pub fn job_version(&self) -> JobVersion {
        self.made_by
            .as_ref()
            .map_or(JobVersion::FIRST, |made_by| made_by.job_version)
    }

    /// The dead-letter objects, in the order in which a replay reads them.
    pub fn dead_letter_objects(&self) -> impl Iterator<Item = &StagedObject> {
        let staged = self.objects.iter().map(|object| &object.staged);
        staged.filter(|staged| staged.kind == ObjectKind::DeadLetter)
    }

    /// The objects of rows that are in no object of the result.
    pub fn rejected_row_objects(&self) -> impl Iterator<Item = &StagedObject> {
        let staged = self.objects.iter().map(|object| &object.staged);
        staged.filter(|staged| staged.kind == ObjectKind::RejectedRow)
    }

    /// The objects that readers see.
    pub fn data_objects(&self) -> impl Iterator<Item = &ManifestObject> {
        self.objects
            .iter()
            .filter(|object| object.staged.kind == ObjectKind::Data)
    }
}

/// Every name below a checkpoint location, relative to it. All begin with the job's name: two jobs
/// may share a location without seeing each other's checkpoints.
#[derive(Clone, Debug)]
pub struct CheckpointNames {
    job: JobName,
}

impl CheckpointNames {
    pub fn new(job: &JobName) -> Self {
        Self { job: job.clone() }
    }
    /// The folder of all names.
    pub fn root(&self) -> String {
        format!("{}/", self.job)
    }
    /// The folder of the manifests.
    pub fn manifests(&self) -> String {
        format!("{}/epochs/", self.job)
    }
    /// A manifest; named by its content, so that writing it again is harmless and two leaders never
    /// collide.
    pub fn manifest(&self, epoch: Epoch, digest: &str) -> String {
        format!(
            "{}/epochs/{:012}-{}.json",
            self.job,
            epoch.0,
            &digest[..digest.len().min(DIGEST_CHARS)]
        )
    }
    /// Sorts before the manifests of this and all later epochs, and after all earlier ones.
    pub fn before_manifests_of(&self, epoch: Epoch) -> String {
        format!("{}/epochs/{:012}", self.job, epoch.0)
    }
    /// The folder of the marks of published epochs.
    pub fn notes(&self) -> String {
        format!("{}/published/", self.job)
    }
    /// The folder of earlier versions of the job.
    pub fn versions(&self) -> String {
        format!("{}/versions/", self.job)
    }
    /// The folder of the versions of lookups.
    pub fn lookups(&self) -> String {
        format!("{}/lookups/", self.job)
    }
    /// Marks that every object of an epoch was visible.
    pub fn published(&self, epoch: Epoch, digest: &str) -> String {
        format!(
            "{}/published/{:012}-{}",
            self.job,
            epoch.0,
            &digest[..digest.len().min(DIGEST_CHARS)]
        )
    }
    /// Epoch and digest of a manifest, from its name without folders.
    pub fn parse_manifest(&self, file: &str) -> Option<(Epoch, String)> {
        let (epoch, digest) = file.strip_suffix(".json")?.split_once('-')?;
        Some((Epoch(epoch.parse().ok()?), digest.to_owned()))
    }
    /// The folder of one version of a lookup.
    pub fn lookup(&self, lookup: &str, version: &LookupVersion) -> String {
        format!("{}/lookups/{lookup}/{version}/", self.job)
    }
    /// An earlier version of the job; named by its content, as a manifest is.
    pub fn version(&self, version: JobVersion, digest: &str) -> String {
        format!(
            "{}/versions/{:06}-{}.json",
            self.job,
            version.0,
            &digest[..digest.len().min(DIGEST_CHARS)]
        )
    }
    /// The text of a job file; named by the digest of what was submitted.
    pub fn job_file(&self, spec_digest: &str) -> String {
        format!("{}/job-files/{spec_digest}.toml", self.job)
    }
    /// The folder of the packed code of a function.
    pub fn function_code(&self, code: &CodeDigest) -> String {
        format!("{}/functions/{code}/", self.job)
    }
    /// The location of dead letters if the job has none.
    pub fn dead_letters(&self) -> String {
        format!("{}/dead-letters/", self.job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            version: MANIFEST_VERSION,
            job: "sales".parse().unwrap(),
            epoch: Epoch(7),
            window: Window {
                start_ms: 60_000,
                end_ms: 120_000,
            },
            term: Term(3),
            created_ms: 120_250,
            previous: None,
            made_by: Some(MadeBy {
                job_version: JobVersion(3),
                spec_digest: sha256_hex(b"name = 'sales'"),
            }),
            stream: Some(StreamIdentity {
                arn: Some("arn:aws:kinesis:eu-west-1:123456789012:stream/sales".into()),
                created_ms: 1_700_000_000_000,
            }),
            query_digest: sha256_hex(b"select 1"),
            function_code: None,
            lookups: BTreeMap::from([("country_lookup".into(), LookupVersion::new("v1"))]),
            parts: vec![ManifestPart {
                task: TaskId {
                    term: Term(3),
                    counter: 1,
                },
                ranges: BTreeMap::from([(
                    "shardId-000000000000".into(),
                    ShardRange {
                        from: Position::Start,
                        to: Position::after(41.into()),
                        records: 42,
                        bytes: 13_000,
                    },
                )]),
                counts: Counts {
                    rows_in: 42,
                    bytes_in: 13_000,
                    rows_decoded: 41,
                    rows_dead: 1,
                    rows_unmatched: 2,
                    rows_out: 39,
                    rows_late: 3,
                    rows_rejected: 0,
                    rows_without_arrival: 0,
                    rows_failed: 0,
                    rows_foreign: None,
                    ..Counts::default()
                },
            }],
            frontier: BTreeMap::from([
                (
                    "shardId-000000000000".into(),
                    Frontier {
                        position: Position::after(41.into()),
                        parents: vec![],
                        detail: String::new(),
                        read_to_ms: Some(120_000),
                        lost: Some(TimeGap {
                            from_ms: 60_000,
                            to_ms: 90_000,
                        }),
                    },
                ),
                (
                    "shardId-000000000001".into(),
                    Frontier {
                        position: Position::Start,
                        parents: vec!["shardId-000000000000".into()],
                        detail: String::new(),
                        read_to_ms: None,
                        lost: None,
                    },
                ),
            ]),
            objects: vec![ManifestObject {
                task: TaskId {
                    term: Term(3),
                    counter: 1,
                },
                staged: StagedObject {
                    kind: ObjectKind::Data,
                    location: "s3://b/out/x.parquet".into(),
                    size: 900,
                    crc32c: 17,
                    rows: 39,
                    table_file: None,
                    staging: crate::report::Staging::Multipart {
                        upload_id: "u".into(),
                        etags: vec!["e1".into()],
                    },
                },
            }],
            counts: Counts {
                rows_in: 42,
                bytes_in: 13_000,
                rows_decoded: 41,
                rows_dead: 1,
                rows_unmatched: 2,
                rows_out: 39,
                rows_late: 3,
                rows_rejected: 0,
                rows_without_arrival: 0,
                rows_failed: 0,
                rows_foreign: None,
                ..Counts::default()
            },
            totals: Counts {
                rows_in: 420,
                bytes_in: 130_000,
                rows_decoded: 410,
                rows_dead: 10,
                rows_unmatched: 20,
                rows_out: 390,
                rows_late: 5,
                rows_rejected: 0,
                rows_without_arrival: 0,
                rows_failed: 0,
                rows_foreign: None,
                ..Counts::default()
            },
            unmatched: vec![UnmatchedKey {
                lookup: "country_lookup".into(),
                key: "Russia".into(),
                rows: 2,
            }],
            null_values: vec![],
            unknown_keys: vec![],
            stages: StageTimes {
                decode_us: 1,
                transform_us: 2,
                stage_us: 3,
                ..StageTimes::default()
            },
            repair: None,
        }
    }

    /// The manifest as version 2 wrote it.
    fn of_version_2() -> Manifest {
        let mut old = Manifest {
            version: 2,
            stream: None,
            ..manifest()
        };
        for frontier in old.frontier.values_mut() {
            frontier.read_to_ms = None;
            frontier.lost = None;
        }
        let counts = old
            .parts
            .iter_mut()
            .map(|part| &mut part.counts)
            .chain([&mut old.counts, &mut old.totals]);
        counts.for_each(|counts| counts.rows_late = 0);
        old
    }

    fn assert_golden(manifest: &Manifest, golden: &str) {
        assert_eq!(
            serde_json::to_string_pretty(manifest).unwrap().trim(),
            golden.trim()
        );
        assert_eq!(&serde_json::from_str::<Manifest>(golden).unwrap(), manifest);
    }

    /// The stored form must stay readable: a change here needs a new version, and these files must
    /// stay readable.
    #[test]
    fn the_stored_form_is_the_golden_file() {
        assert_golden(&manifest(), include_str!("../golden/manifest-v3.json"));
    }

    /// Its digest is that of its bytes: it must be written again exactly as it was read.
    #[test]
    fn a_manifest_of_an_earlier_build_is_read_and_is_written_again_byte_for_byte() {
        let second = of_version_2();
        assert_golden(&second, include_str!("../golden/manifest-v2.json"));
        let first = Manifest {
            version: 1,
            made_by: None,
            ..second
        };
        assert_eq!(first.job_version(), JobVersion::FIRST);
        assert_golden(&first, include_str!("../golden/manifest-v1.json"));
    }

    #[test]
    fn what_is_read_is_what_was_committed_or_an_error() {
        let (mut bytes, reference) = manifest().encode();
        assert_eq!(Manifest::decode(&bytes, &reference).unwrap(), manifest());
        bytes[40] ^= 1;
        assert!(matches!(
            Manifest::decode(&bytes, &reference),
            Err(ManifestError::Digest { .. })
        ));
    }

    #[test]
    fn a_manifest_of_a_later_build_is_named_as_such() {
        let (bytes, mut reference) = Manifest {
            version: MANIFEST_VERSION + 1,
            ..manifest()
        }
        .encode();
        reference.digest = sha256_hex(&bytes);
        assert!(matches!(
            Manifest::decode(&bytes, &reference),
            Err(ManifestError::Version(4))
        ));
    }

    #[test]
    fn an_epoch_has_the_objects_that_its_repairs_left_it() {
        let manifest = manifest();
        let renamed = |object: &ManifestObject, name: &str| {
            let staged = StagedObject {
                location: name.into(),
                ..object.staged.clone()
            };
            ManifestObject {
                task: object.task,
                staged,
            }
        };
        let [object] = &manifest.objects[..] else {
            panic!("{:?}", manifest.objects)
        };
        let repair = |lost: &str, objects: Vec<ManifestObject>| EpochRepair {
            epoch: manifest.epoch,
            lost: vec![lost.into()],
            objects,
            rows_given_up: 0,
            by: String::new(),
        };
        let first = repair(
            &object.staged.location,
            vec![renamed(object, "s3://b/out/y.parquet")],
        );
        let other_epoch = EpochRepair {
            epoch: Epoch(8),
            ..first.clone()
        };
        assert_eq!(objects_after(&manifest, &[other_epoch]), manifest.objects);
        assert_eq!(
            objects_after(&manifest, std::slice::from_ref(&first)),
            first.objects
        );
        let second = repair("s3://b/out/y.parquet", vec![]);
        assert_eq!(objects_after(&manifest, &[first.clone(), second]), []);
        let repaired = Manifest {
            repair: Some(Box::new(first)),
            ..manifest
        };
        let (bytes, reference) = repaired.encode();
        assert_eq!(Manifest::decode(&bytes, &reference).unwrap(), repaired);
    }
}
