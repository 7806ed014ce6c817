//! Bringing a rewriting into the table.
//!
//! Owns: the loop of look, check, write, send. Does not own: what the request holds (`swap`).
//! Rule: after each answer but "committed" the table is loaded again and decides: outputs that it
//! shows are in it, inputs that it does not show any more end the rewriting.

use super::swap::{self, Holder};
use super::{ROW_IDS, Rewriting, find::Found, may_hold};
use crate::iceberg::avro::Value;
use crate::iceberg::catalog::CommitOutcome;
use crate::iceberg::commit::{
    ATTEMPTS_MAX, Attempt, CommitError, Committer, MANIFEST_BYTES_MAX, MANIFESTS_READ_AT_ONCE,
    Trail, damaged,
};
use crate::iceberg::files::FilesError;
use crate::iceberg::manifest::{self, ManifestKind};
use crate::iceberg::manifest_list::{Content, ManifestFile};
use crate::iceberg::metadata::TableMetadata;
use crate::iceberg::plan::{self, Stop};
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What became of a rewriting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RewritingOutcome {
    /// The table shows the outputs.
    Committed,
    /// The table has changed, and the rewriting does not fit it any more.
    GaveUp {
        reason: String,
        /// A request of it may still arrive, so its outputs must stay for now.
        is_unsure: bool,
    },
}

/// One attempt.
enum Tried {
    Committed(Arc<TableMetadata>),
    GaveUp(Arc<TableMetadata>, String),
    Again(String),
}

/// Manifests that were read: they never change.
#[derive(Default)]
struct Read {
    /// Those that list inputs or outputs, with their entries.
    holding: BTreeMap<String, Vec<Value>>,
    /// Those that list none.
    others: BTreeSet<String>,
}

impl Committer<'_> {
    /// Replaces the inputs by the outputs, which are complete. It may be called again at any time,
    /// by any process: the rows are in the table once.
    ///
    /// # Errors
    /// The table must not be written, or the catalog does not serve; a request may have been
    /// applied.
    pub async fn commit_rewriting(
        &self,
        rewriting: &Rewriting,
        now_ms: &(dyn Fn() -> i64 + Send + Sync),
    ) -> Result<RewritingOutcome, CommitError> {
        let mut trail = Trail::default();
        let mut read = Read::default();
        let mut failures = 0;
        loop {
            let tried = self
                .try_rewriting(rewriting, now_ms(), &mut trail, &mut read)
                .await?;
            let last = match tried {
                Tried::Committed(table) => {
                    self.tidy(&table, &trail).await;
                    return Ok(RewritingOutcome::Committed);
                }
                Tried::GaveUp(table, reason) => {
                    self.tidy(&table, &trail).await;
                    let is_unsure = !trail.unsure.is_empty();
                    return Ok(RewritingOutcome::GaveUp { reason, is_unsure });
                }
                Tried::Again(last) => last,
            };
            failures += 1;
            if failures >= ATTEMPTS_MAX {
                return Err(CommitError::Unavailable {
                    table: self.table.clone(),
                    attempts: failures,
                    last,
                });
            }
            tokio::time::sleep(self.backoff(failures)).await;
        }
    }

    async fn try_rewriting(
        &self,
        rewriting: &Rewriting,
        now_ms: i64,
        trail: &mut Trail,
        read: &mut Read,
    ) -> Result<Tried, CommitError> {
        let base = match self.catalog.load(self.table).await {
            Ok(base) => base,
            Err(error) => return again(self.judge(error)),
        };
        plan::decide(&base, self.writer, &[]).map_err(|stop| self.stopped(stop))?;
        let through = plan::through(&base, self.writer).map_err(|stop| self.stopped(stop))?;
        if let Err(error) = self.read_list(&base, trail).await {
            return again(self.judge_files(error));
        }
        let listed = trail.listed.as_ref().map_or(&[][..], |(_, listed)| listed);
        let schema = base
            .current_schema()
            .ok_or_else(|| self.stopped(Stop::NoSchema))?;
        let spec = base
            .spec(rewriting.spec_id)
            .ok_or_else(|| self.stopped(Stop::NoSpec(rewriting.spec_id)))?;
        let fields = spec
            .bind(schema)
            .map_err(|bad| self.stopped(Stop::Partition(bad)))?;
        let kind = ManifestKind {
            format_version: base.format_version,
            schema,
            spec,
            fields: &fields,
        };
        let of_partition = listed.iter().filter(|manifest| {
            manifest.content == Content::Data
                && manifest.spec_id == rewriting.spec_id
                && !manifest.is_spent()
                && may_hold(manifest, &fields, &rewriting.partition)
        });
        let of_partition: Vec<_> = of_partition.collect();
        if let Err(error) = self
            .read_manifests(&kind, &of_partition, rewriting, read)
            .await
        {
            return again(self.judge_files(error));
        }
        let found = Found {
            listed,
            spec_id: rewriting.spec_id,
            fields: &fields,
        };
        let shown = Shown::of(&of_partition, read, rewriting, &found);
        let gave_up = |reason: &str| Ok(Tried::GaveUp(Arc::clone(&base), reason.to_owned()));
        if shown.has_outputs {
            return Ok(Tried::Committed(base));
        }
        if through >= rewriting.void_from_epoch {
            return gave_up("it took too long: many epochs were committed meanwhile");
        }
        if base.format_version >= 3 {
            return gave_up(ROW_IDS);
        }
        if shown.inputs.len() < rewriting.inputs.len() {
            return gave_up("another writer has rewritten or removed some of the files");
        }
        if shown.is_twice {
            return gave_up("the table lists some of the files twice");
        }
        if shown.has_deletes {
            return gave_up("another writer has deleted rows of the files");
        }
        let prepared = swap::prepare(
            &base,
            listed,
            self.writer,
            rewriting,
            &shown.holders,
            now_ms,
        );
        let prepared = prepared.map_err(|stop| self.stopped(stop))?;
        for file in prepared.manifests.iter().chain([&prepared.list]) {
            let put = self.files.put_new(&file.location, file.bytes.clone()).await;
            if let Err(error) = put {
                return again(self.judge_files(error));
            }
        }
        let list = prepared.list.location;
        match self.catalog.commit(self.table, &prepared.request).await {
            Ok(CommitOutcome::Committed(table)) => Ok(Tried::Committed(table)),
            Ok(CommitOutcome::Conflict { reason }) => {
                trail.refused.insert(list);
                Ok(Tried::Again(reason))
            }
            Ok(CommitOutcome::Unknown { reason }) => {
                trail.unsure.insert(list);
                Ok(Tried::Again(reason))
            }
            Err(error) => {
                trail.refused.insert(list);
                again(self.judge(error))
            }
        }
    }

    /// Reads the manifests that are not known yet.
    async fn read_manifests(
        &self,
        kind: &ManifestKind<'_>,
        manifests: &[&ManifestFile],
        rewriting: &Rewriting,
        read: &mut Read,
    ) -> Result<(), FilesError> {
        let names: BTreeSet<&str> = rewriting
            .inputs
            .iter()
            .chain(rewriting.outputs.iter().map(|output| &output.location))
            .map(String::as_str)
            .collect();
        let new = manifests.iter().filter(|manifest| {
            !read.others.contains(&manifest.location)
                && !read.holding.contains_key(&manifest.location)
        });
        let new: Vec<&ManifestFile> = new.copied().collect();
        for some in new.chunks(MANIFESTS_READ_AT_ONCE) {
            let reads = some
                .iter()
                .map(|manifest| self.files.get(&manifest.location, MANIFEST_BYTES_MAX));
            for (manifest, bytes) in some.iter().zip(join_all(reads).await) {
                let location = manifest.location.clone();
                let entries = manifest::entries_of_same_form(kind, &bytes?);
                let entries = entries.map_err(|error| damaged(&location, &error.to_string()))?;
                let entries = entries.unwrap_or_default();
                let is_named = |entry: &Value| {
                    manifest::location_of(entry).is_some_and(|location| names.contains(location))
                };
                if entries.iter().any(is_named) {
                    read.holding.insert(location, entries);
                } else {
                    read.others.insert(location);
                }
            }
        }
        Ok(())
    }
}

/// What a snapshot shows of a rewriting's files.
struct Shown<'a> {
    holders: Vec<Holder<'a>>,
    inputs: BTreeSet<String>,
    /// An input is listed again: its rows are read twice.
    is_twice: bool,
    has_outputs: bool,
    has_deletes: bool,
}

impl<'a> Shown<'a> {
    fn of(
        manifests: &[&'a ManifestFile],
        read: &'a Read,
        rewriting: &Rewriting,
        found: &Found<'_>,
    ) -> Self {
        let mut shown = Self {
            holders: vec![],
            inputs: BTreeSet::new(),
            is_twice: false,
            has_outputs: false,
            has_deletes: false,
        };
        let inputs: BTreeSet<&str> = rewriting.inputs.iter().map(String::as_str).collect();
        let outputs: BTreeSet<&str> = rewriting
            .outputs
            .iter()
            .map(|output| output.location.as_str())
            .collect();
        for &manifest in manifests {
            let Some(entries) = read.holding.get(&manifest.location) else {
                continue;
            };
            let inherited = manifest.sequence_number;
            let live = entries
                .iter()
                .filter_map(|entry| manifest::live_file(found.fields, inherited, entry));
            let mut holds = false;
            for file in live {
                shown.has_outputs |= outputs.contains(file.location.as_str());
                if inputs.contains(file.location.as_str()) {
                    holds = true;
                    shown.has_deletes |= !found.is_free_of_deletes(&file);
                    shown.is_twice |= !shown.inputs.insert(file.location);
                }
            }
            if holds {
                shown.holders.push(Holder { manifest, entries });
            }
        }
        shown
    }
}

fn again(judged: Result<Attempt, CommitError>) -> Result<Tried, CommitError> {
    match judged? {
        Attempt::Again(last) => Ok(Tried::Again(last)),
        Attempt::Added | Attempt::Done(_) => Ok(Tried::Again(String::new())),
    }
}
