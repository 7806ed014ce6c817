//! Which files of earlier rewritings nothing shows any more.
//!
//! Owns: reading what every kept snapshot shows. Does not own: deleting files, where records are (the
//! controller).
//! Rule: a file may be deleted only if no kept snapshot of any writer, branch or tag shows it, and no
//! request can come to add it: its rewriting is void.

use crate::iceberg::commit::{
    CommitError, Committer, LIST_BYTES_MAX, MANIFEST_BYTES_MAX, MANIFESTS_READ_AT_ONCE, damaged,
};
use crate::iceberg::files::FilesError;
use crate::iceberg::manifest::{self, DELETED};
use crate::iceberg::manifest_list::{self, Content};
use crate::iceberg::metadata::TableMetadata;
use crate::iceberg::plan;
use bytes::Bytes;
use futures::future::join_all;
use std::collections::BTreeSet;
use streamctl_proto::rewrite::RewriteRecord;

/// Most snapshots of a table whose files are looked for; of a table with more, nothing is deleted.
pub const SNAPSHOTS_READ_MAX: usize = 10_000;

/// What may be deleted of a rewriting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftovers {
    /// Which of the records.
    pub record: usize,
    /// Locations.
    pub files: Vec<String>,
    /// Without these files there is nothing left to decide: the record may go too.
    pub is_last: bool,
}

impl Committer<'_> {
    /// The files that may be deleted of these rewritings.
    ///
    /// # Errors
    /// The table cannot be read as a whole: nothing may be deleted.
    pub async fn leftovers(
        &self,
        records: &[RewriteRecord],
    ) -> Result<Vec<Leftovers>, CommitError> {
        let base = self.catalog.load(self.table).await;
        let base = base.map_err(|error| self.settled(self.judge(error)))?;
        plan::decide(&base, self.writer, &[]).map_err(|stop| self.stopped(stop))?;
        let through = plan::through(&base, self.writer).map_err(|stop| self.stopped(stop))?;
        let is_due = |record: &RewriteRecord| {
            record.table_uuid == base.table_uuid
                && through >= record.void_from_epoch
                && !may_show(&base, record)
        };
        let due = records.iter().enumerate();
        let due: Vec<_> = due.filter(|(_, record)| is_due(record)).collect();
        if due.is_empty() || base.snapshots.len() > SNAPSHOTS_READ_MAX {
            return Ok(vec![]);
        }
        let files = |record: &'_ RewriteRecord| {
            let files = record.inputs.iter().chain(&record.outputs);
            files.cloned().collect::<Vec<_>>()
        };
        let names = due.iter().flat_map(|(_, record)| files(record)).collect();
        let shown = self.shown(&base, &names).await;
        let shown = shown.map_err(|error| self.settled(self.judge_files(error)))?;
        let is_gone = |file: &String| !shown.contains(file);
        let leftovers = due.into_iter().map(|(at, record)| Leftovers {
            record: at,
            files: files(record).into_iter().filter(is_gone).collect(),
            is_last: record.inputs.iter().all(is_gone) || record.outputs.iter().all(is_gone),
        });
        Ok(leftovers.collect())
    }

    /// Which of these files some kept snapshot shows.
    async fn shown(
        &self,
        base: &TableMetadata,
        names: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, FilesError> {
        let lists = base.snapshots.iter();
        let lists: Vec<String> = lists
            .filter_map(|snapshot| snapshot.manifest_list.clone())
            .collect();
        let mut manifests = BTreeSet::new();
        self.each(&lists, LIST_BYTES_MAX, |location, bytes| {
            let listed = manifest_list::decode(&bytes);
            let listed = listed.map_err(|error| damaged(location, &error.to_string()))?;
            let data = listed
                .into_iter()
                .filter(|manifest| manifest.content == Content::Data && !manifest.is_spent());
            manifests.extend(data.map(|manifest| manifest.location));
            Ok(())
        })
        .await?;
        let manifests: Vec<String> = manifests.into_iter().collect();
        let mut shown = BTreeSet::new();
        self.each(&manifests, MANIFEST_BYTES_MAX, |location, bytes| {
            let entries = manifest::decode(&bytes);
            let entries = entries.map_err(|error| damaged(location, &error.to_string()))?;
            let live = entries.into_iter().filter(|entry| entry.status != DELETED);
            let live = live.map(|entry| entry.location);
            shown.extend(live.filter(|location| names.contains(location)));
            Ok(())
        })
        .await?;
        Ok(shown)
    }

    /// Reads these files, some at a time.
    async fn each(
        &self,
        locations: &[String],
        limit: u64,
        mut visit: impl FnMut(&str, Bytes) -> Result<(), FilesError>,
    ) -> Result<(), FilesError> {
        for some in locations.chunks(MANIFESTS_READ_AT_ONCE) {
            let reads = some.iter().map(|location| self.files.get(location, limit));
            for (location, bytes) in some.iter().zip(join_all(reads).await) {
                visit(location, bytes?)?;
            }
        }
        Ok(())
    }
}

/// Whether a snapshot is kept from the time between the first input and the rewriting: it shows
/// inputs.
fn may_show(base: &TableMetadata, record: &RewriteRecord) -> bool {
    let while_live = record.first_sequence..=record.base_sequence;
    let mut numbers = base.snapshots.iter();
    numbers.any(|snapshot| while_live.contains(&snapshot.sequence_number))
}
