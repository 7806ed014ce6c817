//! The request that puts files in the place of others.
//!
//! Rule: no I/O, clock or randomness. Files that are not replaced keep their sequence numbers; the
//! request holds only for the snapshot that was looked at.

use super::Rewriting;
use crate::iceberg::avro::Value;
use crate::iceberg::catalog::request::{CommitRequest, Requirement, Update};
use crate::iceberg::data_file::DataFile;
use crate::iceberg::manifest::{self, ManifestKind};
use crate::iceberg::manifest_list::{self, Content, ListHeader, ManifestFile};
use crate::iceberg::merge::{self, FILES_MAX, Level};
use crate::iceberg::metadata::{MAIN, Snapshot, TableMetadata};
use crate::iceberg::partition::BoundField;
use crate::iceberg::plan::{NewFile, Stop, Writer, digest, summary};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// A manifest that lists inputs, with its entries in our form.
pub(super) struct Holder<'a> {
    pub manifest: &'a ManifestFile,
    pub entries: &'a [Value],
}

/// A replacement of files that is ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PreparedRewriting {
    pub manifests: Vec<NewFile>,
    pub list: NewFile,
    pub request: CommitRequest,
}

/// What a manifest holds, for the list.
#[derive(Clone, Copy, Default)]
struct Tally {
    files: i32,
    rows: i64,
}

/// The request that replaces the inputs, all of which the holders list.
pub(super) fn prepare(
    base: &TableMetadata,
    listed: &[ManifestFile],
    writer: &Writer,
    rewriting: &Rewriting,
    holders: &[Holder<'_>],
    now_ms: i64,
) -> Result<PreparedRewriting, Stop> {
    let schema = base.current_schema().ok_or(Stop::NoSchema)?;
    let spec_id = rewriting.spec_id;
    let spec = base.spec(spec_id).ok_or(Stop::NoSpec(spec_id))?;
    let fields = spec.bind(schema)?;
    let kind = ManifestKind {
        format_version: base.format_version,
        schema,
        spec,
        fields: &fields,
    };
    let parent = base.current_id();
    let snapshot_id = snapshot_id(parent, rewriting);
    let sequence_number = base.last_sequence_number + 1;
    let folder = base.metadata_folder();

    let inputs: BTreeSet<&str> = rewriting.inputs.iter().map(String::as_str).collect();
    let mut removed = vec![];
    let mut stay = vec![];
    for holder in holders {
        let mut entries = vec![];
        merge::existing(holder.manifest, holder.entries.to_vec(), &mut entries)?;
        for entry in entries {
            let location = manifest::location_of(&entry).unwrap_or_default();
            if inputs.contains(location) {
                removed.extend(manifest::removed_by(entry, snapshot_id));
            } else {
                stay.push(entry);
            }
        }
    }
    let level = holders
        .iter()
        .filter_map(|holder| Level::of(&holder.manifest.location))
        .map(|Level(level)| level)
        .max();
    let level = level.unwrap_or(0).max(1);
    let smallest = holders
        .iter()
        .map(|holder| holder.manifest.min_sequence_number)
        .min();
    let lowest = smallest.unwrap_or(sequence_number);

    let outputs: Vec<&DataFile> = rewriting.outputs.iter().collect();
    let mut manifests = vec![];
    let mut all = vec![];
    let mut add = |bytes: Vec<u8>, name: &str, of: Of| {
        let location = format!(
            "{folder}/streamctl-{name}-{spec_id}-{}.avro",
            digest(&bytes)
        );
        let (added, existing, deleted) = of.tallies();
        all.push(ManifestFile {
            location: location.clone(),
            length: bytes.len().try_into().unwrap_or(i64::MAX),
            spec_id,
            content: Content::Data,
            sequence_number,
            min_sequence_number: match of {
                Of::Added(_) => sequence_number,
                Of::Existing(_) | Of::Removed(_) => lowest,
            },
            added_snapshot_id: snapshot_id,
            added_files: added.files,
            existing_files: existing.files,
            deleted_files: deleted.files,
            added_rows: added.rows,
            existing_rows: existing.rows,
            deleted_rows: deleted.rows,
            // Of a subset of the holders' files: their own ranges may be wider than needed.
            partitions: match of {
                Of::Added(_) => Some(manifest::summaries(&fields, &outputs)),
                Of::Existing(_) | Of::Removed(_) => united(&fields, holders),
            },
            key_metadata: None,
            first_row_id: None,
        });
        let bytes = bytes.into();
        manifests.push(NewFile { location, bytes });
    };
    let bytes = manifest::encode_added(&kind, snapshot_id, &outputs)?;
    let rows: u64 = outputs.iter().map(|file| file.rows).sum();
    let added = Tally {
        files: outputs.len().try_into().unwrap_or(i32::MAX),
        rows: rows.try_into().unwrap_or(i64::MAX),
    };
    add(bytes, &snapshot_id.to_string(), Of::Added(added));
    for some in stay.chunks(usize::try_from(FILES_MAX).unwrap_or(usize::MAX)) {
        let bytes = manifest::encode(&kind, some)?;
        add(bytes, &format!("merged{level}"), Of::Existing(tally(some)));
    }
    let gone = tally(&removed);
    let bytes = manifest::encode(&kind, &removed)?;
    add(bytes, "removed", Of::Removed(gone));

    let is_held = |manifest: &&ManifestFile| {
        let same = |holder: &Holder<'_>| holder.manifest.location == manifest.location;
        holders.iter().any(same)
    };
    all.extend(
        manifest_list::kept(listed)
            .filter(|one| !is_held(one))
            .cloned(),
    );
    let header = ListHeader {
        format_version: base.format_version,
        snapshot_id,
        parent_snapshot_id: parent,
        sequence_number,
        first_row_id: None,
    };
    let list = manifest_list::encode(&header, &all)?;
    let list = NewFile {
        location: format!("{folder}/snap-{snapshot_id}-{}.avro", digest(&list)),
        bytes: list.into(),
    };
    let bytes_removed = removed.iter().filter_map(size_of).sum();
    let change = summary::FilesChange {
        added: rewriting.outputs.len() as u64,
        added_bytes: rewriting.outputs.iter().map(|file| file.size).sum(),
        removed: u64::try_from(gone.files).unwrap_or(0),
        removed_bytes: bytes_removed,
        rows,
    };
    let snapshot = Snapshot {
        snapshot_id,
        parent_snapshot_id: parent,
        sequence_number,
        timestamp_ms: now_ms.max(base.last_updated_ms.saturating_add(1)),
        manifest_list: Some(list.location.clone()),
        summary: summary::of_rewriting(base, writer, change),
        schema_id: Some(schema.schema_id),
        first_row_id: None,
        added_rows: None,
        rest: serde_json::Map::new(),
    };
    Ok(PreparedRewriting {
        manifests,
        list,
        request: request(base, snapshot),
    })
}

/// Which entries a manifest has, all of one kind.
#[derive(Clone, Copy)]
enum Of {
    Added(Tally),
    Existing(Tally),
    Removed(Tally),
}

impl Of {
    fn tallies(self) -> (Tally, Tally, Tally) {
        let none = Tally::default();
        match self {
            Self::Added(tally) => (tally, none, none),
            Self::Existing(tally) => (none, tally, none),
            Self::Removed(tally) => (none, none, tally),
        }
    }
}

fn tally(entries: &[Value]) -> Tally {
    Tally {
        files: entries.len().try_into().unwrap_or(i32::MAX),
        rows: entries.iter().filter_map(manifest::rows_of).sum(),
    }
}

fn size_of(entry: &Value) -> Option<u64> {
    manifest::size_of(entry)?.try_into().ok()
}

fn united(
    fields: &[BoundField],
    holders: &[Holder<'_>],
) -> Option<Vec<manifest::PartitionSummary>> {
    let all: Option<Vec<_>> = holders
        .iter()
        .map(|holder| holder.manifest.partitions.as_deref())
        .collect();
    all.map(|all| manifest::PartitionSummary::united(fields, &all))
}

fn request(base: &TableMetadata, snapshot: Snapshot) -> CommitRequest {
    let snapshot_id = snapshot.snapshot_id;
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
        updates: vec![
            Update::AddSnapshot { snapshot },
            Update::SetSnapshotRef {
                ref_name: MAIN.to_owned(),
                r#type: "branch".to_owned(),
                snapshot_id,
            },
        ],
    }
}

/// The names of the outputs are used once, so the id is too.
fn snapshot_id(parent: Option<i64>, rewriting: &Rewriting) -> i64 {
    let mut hash = Sha256::new();
    hash.update(b"streamctl rewriting\0");
    hash.update(parent.unwrap_or(0).to_be_bytes());
    for output in &rewriting.outputs {
        hash.update(output.location.as_bytes());
        hash.update([0]);
    }
    let hash = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    (i64::from_be_bytes(first) & i64::MAX).max(1)
}
