//! The small files of a table that this job may rewrite.
//!
//! Owns: reading our manifests, what is left out and why. Does not own: which files become one
//! (`choose`).
//! Rule: only files in manifests of our form, below the job's own folder, that no delete file can
//! apply to.

use super::choose::{choose, is_small};
use super::{ROW_IDS, RewriteGroup, deletes_through};
use crate::iceberg::commit::{
    Attempt, CommitError, Committer, MANIFEST_BYTES_MAX, MANIFESTS_READ_AT_ONCE, Trail, damaged,
};
use crate::iceberg::manifest::{self, LiveFile, ManifestKind};
use crate::iceberg::manifest_list::{Content, ManifestFile};
use crate::iceberg::partition::{BoundField, PartitionSpec};
use crate::iceberg::plan::{self, Stop};
use crate::iceberg::storage_location;
use futures::future::join_all;

/// Most small files that are looked at in one go: those of the first manifests.
const FILES_LOOKED_AT_MAX: usize = 1_000_000;

/// What a table has of small files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SmallFiles {
    /// Those that are worth a rewriting.
    pub groups: Vec<RewriteGroup>,
    /// The table's last epoch of the job.
    pub through: u64,
    /// The last snapshot's number when the table was looked at.
    pub base_sequence: i64,
    /// Small files to which a delete file may apply.
    pub with_deletes: u64,
    /// Why nothing of this table is rewritten.
    pub refused: Option<&'static str>,
}

/// Whose files are looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub listed: &'a [ManifestFile],
    pub spec_id: i32,
    pub fields: &'a [BoundField],
}

impl Committer<'_> {
    /// The small files below the folder `own` in partitions of this spec: one attempt.
    ///
    /// # Errors
    /// As for [`Self::merge_manifests`].
    pub async fn small_files(
        &self,
        own: &str,
        spec_id: i32,
        target_size: u64,
    ) -> Result<SmallFiles, CommitError> {
        let settled = |judged: Result<Attempt, CommitError>| self.settled(judged);
        let base = self.catalog.load(self.table).await;
        let base = base.map_err(|error| settled(self.judge(error)))?;
        plan::decide(&base, self.writer, &[]).map_err(|stop| self.stopped(stop))?;
        let through = plan::through(&base, self.writer).map_err(|stop| self.stopped(stop))?;
        let mut small = SmallFiles {
            through,
            base_sequence: base.last_sequence_number,
            ..SmallFiles::default()
        };
        if base.format_version >= 3 {
            small.refused = Some(ROW_IDS);
            return Ok(small);
        }
        let mut trail = Trail::default();
        let read = self.read_list(&base, &mut trail).await;
        read.map_err(|error| settled(self.judge_files(error)))?;
        let listed = trail.listed.as_ref().map_or(&[][..], |(_, listed)| listed);
        let schema = base
            .current_schema()
            .ok_or_else(|| self.stopped(Stop::NoSchema))?;
        let spec: &PartitionSpec = base
            .spec(spec_id)
            .ok_or_else(|| self.stopped(Stop::NoSpec(spec_id)))?;
        let fields = spec
            .bind(schema)
            .map_err(|bad| self.stopped(Stop::Partition(bad)))?;
        let kind = ManifestKind {
            format_version: base.format_version,
            schema,
            spec,
            fields: &fields,
        };
        let found = Found {
            listed,
            spec_id,
            fields: &fields,
        };
        let mut files: Vec<LiveFile> = vec![];
        let mut with_deletes = 0;
        let data = listed.iter().filter(|manifest| {
            manifest.content == Content::Data
                && manifest.spec_id == spec_id
                && manifest.key_metadata.is_none()
                && !manifest.is_spent()
        });
        let data: Vec<_> = data.collect();
        for some in data.chunks(MANIFESTS_READ_AT_ONCE) {
            let reads = some
                .iter()
                .map(|manifest| self.files.get(&manifest.location, MANIFEST_BYTES_MAX));
            for (manifest, read) in some.iter().zip(join_all(reads).await) {
                let bytes = read.map_err(|error| settled(self.judge_files(error)))?;
                let entries = manifest::entries_of_same_form(&kind, &bytes);
                let entries = entries.map_err(|error| {
                    let error = damaged(&manifest.location, &error.to_string());
                    settled(self.judge_files(error))
                })?;
                let inherited = manifest.sequence_number;
                let live = entries.iter().flatten();
                let live = live.filter_map(|entry| manifest::live_file(&fields, inherited, entry));
                let own = live.filter(|file| {
                    is_small(file.size, target_size)
                        && storage_location(&file.location).starts_with(own)
                });
                for file in own {
                    match found.is_free_of_deletes(&file) {
                        true => files.push(file),
                        false => with_deletes += 1,
                    }
                }
            }
            if files.len() >= FILES_LOOKED_AT_MAX {
                break;
            }
        }
        small.groups = choose(files, target_size);
        small.with_deletes = with_deletes;
        Ok(small)
    }
}

impl Found<'_> {
    /// Whether no delete file can apply to the file, now or by a snapshot that is in the list.
    pub fn is_free_of_deletes(&self, file: &LiveFile) -> bool {
        let deletes = deletes_through(self.listed, self.spec_id, self.fields, &file.partition);
        deletes.is_none_or(|through| through < file.sequence_number)
    }
}
