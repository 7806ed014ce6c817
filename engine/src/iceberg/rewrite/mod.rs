//! Rewriting small data files of one partition into fewer ones.
//!
//! Owns: which files are worth it, the request that replaces them, which files no snapshot shows any
//! more. Does not own: rows (the worker), when it happens (the controller).
//! Rule: the table decides. A file is replaced only if the snapshot that the request requires shows
//! it and no delete file can apply to it. The marker of the epochs is not touched.

mod choose;
mod commit;
mod find;
mod shown;
mod swap;
#[cfg(test)]
pub(super) mod tests;

pub use choose::{GROUP_FILES_MAX, GROUP_FILES_MIN, RewriteGroup, SMALL_PERCENT};
pub use commit::RewritingOutcome;
pub use find::SmallFiles;
pub use shown::{Leftovers, SNAPSHOTS_READ_MAX};

use super::data_file::DataFile;
use super::datum::Datum;
use super::manifest_list::{Content, ManifestFile};
use super::partition::{BoundField, PartitionValues};

/// Files of one partition, and those with the same rows that are to take their place.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewriting {
    pub spec_id: i32,
    pub partition: PartitionValues,
    /// Locations, as the table lists them.
    pub inputs: Vec<String>,
    pub outputs: Vec<DataFile>,
    /// Once the table holds this epoch of the job, nothing is replaced any more: the outputs may be
    /// deleted.
    pub void_from_epoch: u64,
}

/// Why version 3 is left alone.
const ROW_IDS: &str = "the table has version 3 of the format, whose rows have ids: a rewriting would \
                       give them new ones";

/// Whether a file with these partition values may be in the manifest.
fn may_hold(manifest: &ManifestFile, fields: &[BoundField], values: &[Option<Datum>]) -> bool {
    let Some(summaries) = &manifest.partitions else {
        return true;
    };
    let mut each = fields.iter().zip(summaries).zip(values);
    each.all(|((field, summary), value)| {
        let bound = |bytes: &Option<Vec<u8>>| {
            let value = Datum::from_bytes(&field.result, bytes.as_deref()?)?;
            Some(value.key())
        };
        match value {
            None => summary.contains_null,
            Some(value) if value.is_nan() => true,
            Some(value) => match (bound(&summary.lower), bound(&summary.upper)) {
                (Some(lower), Some(upper)) => (lower..=upper).contains(&value.key()),
                _ => true,
            },
        }
    })
}

/// The highest sequence number of a delete file that may apply to files of a partition. It applies
/// to data files up to its own number.
fn deletes_through(
    listed: &[ManifestFile],
    spec_id: i32,
    fields: &[BoundField],
    values: &[Option<Datum>],
) -> Option<i64> {
    let applies = |manifest: &&ManifestFile| {
        manifest.content == Content::Deletes
            && !manifest.is_spent()
            // Deletes of another spec may hold for every partition.
            && (manifest.spec_id != spec_id || may_hold(manifest, fields, values))
    };
    let numbers = listed.iter().filter(applies);
    numbers.map(|manifest| manifest.sequence_number).max()
}
