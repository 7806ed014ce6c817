//! What to commit to a table as it is.
//!
//! Owns: whether an epoch is in the table, and the one request that adds it. Does not own: sending
//! it (`commit`).
//! Rule: no I/O, clock or randomness. The marker that states "this epoch is in the table" is set
//! by the request that adds the epoch's files, and the request holds only for the snapshot that was
//! looked at.

mod expire;
pub(super) mod summary;

use super::avro::AvroError;
use super::catalog::request::{CommitRequest, Requirement, Update};
use super::data_file::DataFile;
use super::manifest::{self, ManifestKind};
use super::manifest_list::{self, Content, ListHeader, ManifestFile};
use super::metadata::{FORMAT_VERSION_MAX, MAIN, Snapshot, TableMetadata};
use super::partition::BadPartition;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// Most epochs in one snapshot: their digests are in its summary, which every reader loads.
pub const EPOCHS_PER_SNAPSHOT_MAX: usize = 64;
/// Most data files that one commit adds.
pub const FILES_PER_COMMIT_MAX: usize = 100_000;
/// Digits of a file's digest in its name.
const DIGEST_DIGITS: usize = 16;

/// The job that writes, and the table that it was submitted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    pub cluster: String,
    pub job: String,
    /// When the job was submitted: a job of the same name that is submitted later counts its
    /// epochs from 1 again.
    pub submitted_ms: i64,
    /// The table's UUID at submit.
    pub table_uuid: String,
}

/// A committed epoch whose data files are visible and not yet in the table.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochFiles {
    pub epoch: u64,
    pub window_start_ms: i64,
    pub window_end_ms: i64,
    /// SHA-256 of the epoch's manifest in the checkpoint location.
    pub manifest_digest: String,
    pub files: Vec<DataFile>,
}

/// Why nothing more can be committed to this table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    #[error(
        "the table is not the one that the job was submitted for: its UUID was {pinned} and is {found}"
    )]
    TableReplaced { pinned: String, found: String },
    #[error("the table holds epochs of a job of the same name that was submitted later")]
    NewerJob,
    #[error("the table has version {0} of the format")]
    Version(u8),
    #[error("the table has no current schema")]
    NoSchema,
    #[error("the table has no partition spec {0} any more")]
    NoSpec(i32),
    #[error(transparent)]
    Partition(#[from] BadPartition),
    #[error("a manifest cannot be written: {0}")]
    Manifest(#[from] AvroError),
    #[error("the table has {found} manifests, the limit is {limit}")]
    TooMany { found: usize, limit: usize },
}

impl Stop {
    /// What the user can do.
    pub fn hint(&self) -> &str {
        match self {
            Self::TableReplaced { .. } => {
                "the table was dropped and made again; submit the job under another name, or put \
                 the old table back"
            }
            Self::NewerJob => "stop this job: another one of its name writes the table",
            Self::Version(1) => {
                "upgrade it: ALTER TABLE ... SET TBLPROPERTIES ('format-version' = '2')"
            }
            Self::Version(_) => "versions 2 and 3 are written; use a table of one of these",
            Self::NoSchema => "the catalog's answer is damaged; look at the table's metadata file",
            Self::NoSpec(_) => {
                "submit the job again, so that it writes by the table's current spec"
            }
            Self::Partition(bad) => &bad.hint,
            Self::Manifest(_) => "this is a fault of streamctl; please report it",
            Self::TooMany { .. } => {
                "rewrite the table's manifests: CALL system.rewrite_manifests(...)"
            }
        }
    }
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision<'a> {
    /// All epochs are in the table, or have no files.
    Done,
    /// These epochs are not.
    Append(Vec<&'a EpochFiles>),
}

/// Which of the epochs, in ascending order, are not in the table.
///
/// # Errors
/// A table that must not be written.
pub fn decide<'a>(
    base: &TableMetadata,
    writer: &Writer,
    epochs: &'a [EpochFiles],
) -> Result<Decision<'a>, Stop> {
    if base.table_uuid != writer.table_uuid {
        return Err(Stop::TableReplaced {
            pinned: writer.table_uuid.clone(),
            found: base.table_uuid.clone(),
        });
    }
    if !(2..=FORMAT_VERSION_MAX).contains(&base.format_version) {
        return Err(Stop::Version(base.format_version));
    }
    let through = through(base, writer)?;
    let mut files = 0;
    let pending: Vec<_> = epochs
        .iter()
        .filter(|epoch| epoch.epoch > through && !epoch.files.is_empty())
        .take(EPOCHS_PER_SNAPSHOT_MAX)
        .take_while(|epoch| {
            let first = files == 0;
            files += epoch.files.len();
            first || files <= FILES_PER_COMMIT_MAX
        })
        .collect();
    if pending.is_empty() {
        Ok(Decision::Done)
    } else {
        Ok(Decision::Append(pending))
    }
}

/// The last epoch in the table; 0: none is.
///
/// # Errors
/// The table holds epochs of a later job of this name.
pub fn through(base: &TableMetadata, writer: &Writer) -> Result<u64, Stop> {
    match summary::progress(base, writer) {
        summary::Progress::Newer => Err(Stop::NewerJob),
        summary::Progress::None => Ok(0),
        summary::Progress::Through(epoch) => Ok(epoch),
    }
}

/// Whether a snapshot is of this job, whatever it does.
pub fn is_own(snapshot: &Snapshot, writer: &Writer) -> bool {
    summary::is_ours(snapshot, writer)
}

/// Whether a snapshot of this job has put data files in the place of others.
pub fn has_rewritten(snapshot: &Snapshot, writer: &Writer) -> bool {
    is_own(snapshot, writer) && snapshot.summary.contains_key(summary::REMOVED_FILES)
}

/// The epochs of this job that a snapshot states to add.
pub fn epochs_of(snapshot: &Snapshot, writer: &Writer) -> Vec<u64> {
    match is_own(snapshot, writer) {
        true => summary::epochs(snapshot, writer),
        false => vec![],
    }
}

/// A file to be written before the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    pub location: String,
    pub bytes: Bytes,
}

/// A commit that is ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    pub snapshot_id: i64,
    /// The same at each try with the same epochs.
    pub manifests: Vec<NewFile>,
    /// Another one for each base.
    pub list: NewFile,
    pub request: CommitRequest,
    /// Lists of snapshots that the request removes.
    pub expired_lists: Vec<String>,
}

/// Makes the commit of the pending epochs on top of `base`, whose manifests are `listed`.
///
/// # Errors
/// Files that do not fit the table.
pub fn prepare(
    base: &TableMetadata,
    listed: &[ManifestFile],
    writer: &Writer,
    pending: &[&EpochFiles],
    keep_snapshots: Option<NonZeroU32>,
    now_ms: i64,
) -> Result<Prepared, Stop> {
    let schema = base.current_schema().ok_or(Stop::NoSchema)?;
    let last = pending.last().map_or(0, |epoch| epoch.epoch);
    let snapshot_id = snapshot_id(writer, last);
    let parent = base.current_id();
    let sequence_number = base.last_sequence_number + 1;
    let folder = base.metadata_folder();

    let mut by_spec: BTreeMap<i32, Vec<&DataFile>> = BTreeMap::new();
    for file in pending.iter().flat_map(|epoch| &epoch.files) {
        by_spec.entry(file.spec_id).or_default().push(file);
    }
    let mut manifests = vec![];
    let mut all = vec![];
    for (spec_id, files) in &by_spec {
        let spec = base.spec(*spec_id).ok_or(Stop::NoSpec(*spec_id))?;
        let fields = spec.bind(schema)?;
        let kind = ManifestKind {
            format_version: base.format_version,
            schema,
            spec,
            fields: &fields,
        };
        let bytes = manifest::encode_added(&kind, snapshot_id, files)?;
        let digest = digest(&bytes);
        let location = format!("{folder}/streamctl-{snapshot_id}-{spec_id}-{digest}.avro");
        let rows: u64 = files.iter().map(|file| file.rows).sum();
        all.push(ManifestFile {
            location: location.clone(),
            length: bytes.len().try_into().unwrap_or(i64::MAX),
            spec_id: *spec_id,
            content: Content::Data,
            sequence_number,
            min_sequence_number: sequence_number,
            added_snapshot_id: snapshot_id,
            added_files: files.len().try_into().unwrap_or(i32::MAX),
            existing_files: 0,
            deleted_files: 0,
            added_rows: rows.try_into().unwrap_or(i64::MAX),
            existing_rows: 0,
            deleted_rows: 0,
            partitions: Some(manifest::summaries(&fields, files)),
            key_metadata: None,
            first_row_id: None,
        });
        manifests.push(NewFile {
            location,
            bytes: bytes.into(),
        });
    }
    all.extend(manifest_list::kept(listed).cloned());
    if all.len() > manifest_list::MANIFESTS_MAX {
        return Err(Stop::TooMany {
            found: all.len(),
            limit: manifest_list::MANIFESTS_MAX,
        });
    }
    let row_ids = assign_row_ids(base, &mut all);
    let header = ListHeader {
        format_version: base.format_version,
        snapshot_id,
        parent_snapshot_id: parent,
        sequence_number,
        first_row_id: row_ids.map(|(first, _)| first),
    };
    let bytes = manifest_list::encode(&header, &all)?;
    let list = NewFile {
        location: format!(
            "{folder}/snap-{snapshot_id}-{}-{}.avro",
            parent.unwrap_or(0),
            digest(&bytes)
        ),
        bytes: bytes.into(),
    };
    let snapshot = Snapshot {
        snapshot_id,
        parent_snapshot_id: parent,
        sequence_number,
        // A table's history must not run backwards, whatever this machine's clock shows.
        timestamp_ms: now_ms.max(base.last_updated_ms.saturating_add(1)),
        manifest_list: Some(list.location.clone()),
        summary: summary::summary(base, writer, pending),
        schema_id: Some(schema.schema_id),
        first_row_id: row_ids.map(|(first, _)| first),
        added_rows: row_ids.map(|(_, added)| added),
        rest: serde_json::Map::new(),
    };
    let expired = expire::expired(base, writer, keep_snapshots);
    let expired_lists = expired
        .iter()
        .filter_map(|snapshot| snapshot.manifest_list.clone());
    let expired_lists = expired_lists.collect();
    let expired: Vec<_> = expired
        .iter()
        .map(|snapshot| snapshot.snapshot_id)
        .collect();
    Ok(Prepared {
        snapshot_id,
        manifests,
        list,
        request: request(base, snapshot, summary::marker(writer, last), expired),
        expired_lists,
    })
}

fn request(
    base: &TableMetadata,
    snapshot: Snapshot,
    marker: BTreeMap<String, String>,
    expired: Vec<i64>,
) -> CommitRequest {
    let snapshot_id = snapshot.snapshot_id;
    let mut updates = vec![
        Update::AddSnapshot { snapshot },
        Update::SetSnapshotRef {
            ref_name: MAIN.to_owned(),
            r#type: "branch".to_owned(),
            snapshot_id,
        },
        Update::SetProperties { updates: marker },
    ];
    if !expired.is_empty() {
        updates.push(Update::RemoveSnapshots {
            snapshot_ids: expired,
        });
    }
    CommitRequest {
        requirements: vec![
            Requirement::AssertTableUuid {
                uuid: base.table_uuid.clone(),
            },
            Requirement::AssertRefSnapshotId {
                r#ref: MAIN.to_owned(),
                snapshot_id: base.current_id(),
            },
        ],
        updates,
    }
}

/// Version 3: gives ids to the rows of each manifest that has none, those of an upgraded table
/// among them. Returns the first id and how many were given.
pub(super) fn assign_row_ids(
    base: &TableMetadata,
    manifests: &mut [ManifestFile],
) -> Option<(i64, i64)> {
    if base.format_version < 3 {
        return None;
    }
    let first = base.next_row_id.unwrap_or(0);
    let mut next = first;
    for manifest in manifests {
        if manifest.content == Content::Data && manifest.first_row_id.is_none() {
            manifest.first_row_id = Some(next);
            next += manifest.added_rows + manifest.existing_rows;
        }
    }
    Some((first, next - first))
}

/// The id of the snapshot whose last epoch this is.
pub fn snapshot_id(writer: &Writer, epoch: u64) -> i64 {
    let mut hash = Sha256::new();
    for part in ["streamctl snapshot", &writer.cluster, &writer.job] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.update(writer.submitted_ms.to_be_bytes());
    hash.update(epoch.to_be_bytes());
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    // Ids are positive in every catalog.
    (i64::from_be_bytes(first) & i64::MAX).max(1)
}

/// The part of a file's digest that is in its name.
pub(super) fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex = digest.iter().map(|byte| format!("{byte:02x}"));
    hex.take(DIGEST_DIGITS / 2).collect()
}

#[cfg(test)]
pub(super) mod tests;
