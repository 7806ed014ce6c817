//! Many small manifests into one.
//!
//! Owns: which of our manifests are merged, and the request that replaces them. Does not own:
//! compaction of data files.
//! Rule: the table holds the same files before and after, each with the sequence number that it
//! had. The number of our manifests grows with the logarithm of the number of commits.

use super::avro::{AvroError, Value};
use super::catalog::request::{CommitRequest, Requirement, Update};
use super::manifest::{self, EXISTING, ManifestKind, PartitionSummary};
use super::manifest_list::{self, Content, ListHeader, ManifestFile};
use super::metadata::{MAIN, Snapshot, TableMetadata};
use super::plan::{NewFile, Stop, Writer, digest, summary};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// So many manifests of one level become one of the next, unless the settings state otherwise.
pub const MERGE_AT: usize = 100;
/// Files of one merged manifest; a manifest with more is left alone.
pub(super) const FILES_MAX: i64 = 100_000;

/// How often a manifest's entries were merged already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Level(pub u32);

impl Level {
    /// Our manifests state it in their names; others have none.
    pub fn of(location: &str) -> Option<Self> {
        let name = location.rsplit('/').next()?;
        let rest = name.strip_prefix("streamctl-")?;
        match rest.strip_prefix("merged") {
            Some(rest) => Some(Self(rest.split('-').next()?.parse().ok()?)),
            None => Some(Self(0)),
        }
    }
}

/// Our manifests that are to become one: of one spec and level, the oldest ones.
pub fn due(listed: &[ManifestFile], merge_at: usize) -> Option<Vec<&ManifestFile>> {
    let mut groups: BTreeMap<(Level, i32), Vec<&ManifestFile>> = BTreeMap::new();
    for manifest in listed {
        let plain = manifest.content == Content::Data
            && manifest.deleted_files == 0
            && manifest.key_metadata.is_none();
        if let Some(level) = Level::of(&manifest.location)
            && plain
        {
            groups
                .entry((level, manifest.spec_id))
                .or_default()
                .push(manifest);
        }
    }
    let merge_at = merge_at.max(2);
    let files =
        |manifest: &&ManifestFile| i64::from(manifest.added_files + manifest.existing_files);
    groups.into_values().find_map(|mut group| {
        group.sort_by_key(|manifest| manifest.sequence_number);
        group.truncate(merge_at);
        let full = group.len() == merge_at;
        let fits = group.iter().map(files).sum::<i64>() <= FILES_MAX;
        (full && fits).then_some(group)
    })
}

/// A replacement that is ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Replacement {
    pub manifest: NewFile,
    pub list: NewFile,
    pub request: CommitRequest,
}

/// The request that puts one manifest in the place of `old`, whose contents are given; `None`: one
/// of them is of another form, and all stay.
///
/// # Errors
/// A file that is not a manifest.
pub fn replace(
    base: &TableMetadata,
    listed: &[ManifestFile],
    writer: &Writer,
    old: &[(&ManifestFile, Vec<u8>)],
    now_ms: i64,
) -> Result<Option<Replacement>, Stop> {
    let schema = base.current_schema().ok_or(Stop::NoSchema)?;
    let spec_id = old.first().map_or(0, |(manifest, _)| manifest.spec_id);
    let spec = base.spec(spec_id).ok_or(Stop::NoSpec(spec_id))?;
    let fields = spec.bind(schema)?;
    let kind = ManifestKind {
        format_version: base.format_version,
        schema,
        spec,
        fields: &fields,
    };
    let mut entries = vec![];
    for (manifest, bytes) in old {
        let Some(found) = manifest::entries_of_same_form(&kind, bytes)? else {
            return Ok(None);
        };
        existing(manifest, found, &mut entries)?;
    }
    let parent = base.current_id();
    let sequence_number = base.last_sequence_number + 1;
    let bytes = manifest::encode(&kind, &entries)?;
    let digest_of_manifest = digest(&bytes);
    let snapshot_id = snapshot_id(parent, &digest_of_manifest);
    let folder = base.metadata_folder();
    let level = old
        .iter()
        .filter_map(|(manifest, _)| Level::of(&manifest.location))
        .max();
    let level = level.map_or(1, |Level(level)| level + 1);
    let location = format!("{folder}/streamctl-merged{level}-{spec_id}-{digest_of_manifest}.avro");
    let sum = |count: fn(&ManifestFile) -> i64| old.iter().map(|(old, _)| count(old)).sum::<i64>();
    let files = sum(|old| i64::from(old.added_files + old.existing_files));
    let partitions: Option<Vec<_>> = old
        .iter()
        .map(|(manifest, _)| manifest.partitions.as_deref())
        .collect();
    let partitions = partitions.map(|all| PartitionSummary::united(&fields, &all));
    let smallest = old.iter().map(|(manifest, _)| manifest.min_sequence_number);
    let mut all = vec![ManifestFile {
        location: location.clone(),
        length: bytes.len().try_into().unwrap_or(i64::MAX),
        spec_id,
        content: Content::Data,
        sequence_number,
        min_sequence_number: smallest.min().unwrap_or(sequence_number),
        added_snapshot_id: snapshot_id,
        added_files: 0,
        existing_files: files.try_into().unwrap_or(i32::MAX),
        deleted_files: 0,
        added_rows: 0,
        existing_rows: sum(|old| old.added_rows + old.existing_rows),
        deleted_rows: 0,
        partitions,
        key_metadata: None,
        first_row_id: None,
    }];
    let gone =
        |manifest: &ManifestFile| old.iter().any(|(old, _)| old.location == manifest.location);
    let stay = manifest_list::kept(listed).filter(|manifest| !gone(manifest));
    all.extend(stay.cloned());
    let kept = all.len() - 1;
    let row_ids = super::plan::assign_row_ids(base, &mut all);
    let header = ListHeader {
        format_version: base.format_version,
        snapshot_id,
        parent_snapshot_id: parent,
        sequence_number,
        first_row_id: row_ids.map(|(first, _)| first),
    };
    let list = manifest_list::encode(&header, &all)?;
    let list = NewFile {
        location: format!("{folder}/snap-{snapshot_id}-{}.avro", digest(&list)),
        bytes: list.into(),
    };
    let snapshot = Snapshot {
        snapshot_id,
        parent_snapshot_id: parent,
        sequence_number,
        timestamp_ms: now_ms.max(base.last_updated_ms.saturating_add(1)),
        manifest_list: Some(list.location.clone()),
        summary: summary::of_replacement(base, writer, old.len(), kept),
        schema_id: Some(schema.schema_id),
        first_row_id: row_ids.map(|(first, _)| first),
        added_rows: row_ids.map(|(_, added)| added),
        rest: serde_json::Map::new(),
    };
    Ok(Some(Replacement {
        manifest: NewFile {
            location,
            bytes: bytes.into(),
        },
        list,
        request: CommitRequest {
            requirements: vec![
                Requirement::AssertTableUuid {
                    uuid: base.table_uuid.clone(),
                },
                Requirement::AssertRefSnapshotId {
                    r#ref: MAIN.to_owned(),
                    snapshot_id: parent,
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
        },
    }))
}

/// The entries of a manifest as entries of another one: what they inherited is written out.
pub(super) fn existing(
    manifest: &ManifestFile,
    found: Vec<Value>,
    entries: &mut Vec<Value>,
) -> Result<(), AvroError> {
    let wrong = || AvroError(format!("{} has another form", manifest.location));
    let mut next_row = manifest.first_row_id;
    for entry in found {
        let Value::Record(mut values) = entry else {
            return Err(wrong());
        };
        let [
            status,
            snapshot_id,
            sequence_number,
            file_sequence_number,
            file,
        ] = values.as_mut_slice()
        else {
            return Err(wrong());
        };
        if status.number() == Some(i64::from(manifest::DELETED)) {
            continue;
        }
        *status = Value::Int(EXISTING);
        let inherit = |value: &mut Value, from: i64| {
            if *value == Value::Null {
                *value = Value::Long(from);
            }
        };
        inherit(snapshot_id, manifest.added_snapshot_id);
        inherit(sequence_number, manifest.sequence_number);
        inherit(file_sequence_number, manifest.sequence_number);
        manifest::give_row_id(file, &mut next_row).ok_or_else(wrong)?;
        entries.push(Value::Record(values));
    }
    Ok(())
}

fn snapshot_id(parent: Option<i64>, digest: &str) -> i64 {
    let mut hash = Sha256::new();
    hash.update(b"streamctl replacement\0");
    hash.update(parent.unwrap_or(0).to_be_bytes());
    hash.update(digest.as_bytes());
    let hash = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    (i64::from_be_bytes(first) & i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_read_from_our_names_only() {
        assert_eq!(Level::of("s3://b/m/streamctl-77-0-ab.avro"), Some(Level(0)));
        assert_eq!(
            Level::of("s3://b/m/streamctl-merged2-0-ab.avro"),
            Some(Level(2))
        );
        assert_eq!(Level::of("s3://streamctl-b/m/0000-m0.avro"), None);
    }
}
