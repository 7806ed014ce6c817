//! Bringing committed epochs into a table.
//!
//! Owns: the loop of look, write, send; retries; what is removed afterwards. Does not own: the
//! decision (`plan`), the protocol (`catalog`).
//! Rule: after each answer but "committed" the table is loaded again and decides; a file is removed
//! only when no snapshot can come to name it.

use super::catalog::{Catalog, CatalogError, CommitOutcome, TableName};
use super::files::{Files, FilesError};
use super::manifest_list::{self, ManifestFile};
use super::merge;
use super::metadata::TableMetadata;
use super::plan::{self, Decision, EpochFiles, NewFile, Prepared, Stop, Writer};
use futures::future::join_all;
use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// Attempts of one call, including the first; the caller calls again later.
pub const ATTEMPTS_MAX: u32 = 12;
/// First and longest wait between two attempts.
pub const BACKOFF_MIN: Duration = Duration::from_millis(20);
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Largest manifest list that is read, in bytes.
pub const LIST_BYTES_MAX: u64 = 64 << 20;
/// Largest manifest of ours that is read to be merged, in bytes.
pub(super) const MANIFEST_BYTES_MAX: u64 = 64 << 20;
pub(super) const MANIFESTS_READ_AT_ONCE: usize = 16;

/// How epochs are committed.
#[derive(Clone, Debug)]
pub struct CommitSettings {
    /// How many of the job's own snapshots stay; `None`: all.
    pub keep_snapshots: Option<NonZeroU32>,
    /// So many manifests of one level become one of the next.
    pub merge_at: usize,
}

impl Default for CommitSettings {
    fn default() -> Self {
        Self {
            keep_snapshots: None,
            merge_at: merge::MERGE_AT,
        }
    }
}

/// The epochs are in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Snapshots that this call added.
    pub added: Vec<i64>,
    /// Commits sent, including refused ones.
    pub sent: u32,
    /// Metadata files that were removed.
    pub removed: usize,
}

/// What became of the small manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// They are few, or of a form of others.
    NotDue,
    /// So many became one; there may be more.
    Merged(usize),
}

/// Why epochs could not be brought into the table now. Each may nevertheless be in it.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Retries change nothing.
    #[error("table {table}: {stop}")]
    Stopped { table: TableName, stop: Stop },
    #[error("table {table} is gone")]
    TableMissing { table: TableName },
    #[error("table {table}: {reason}")]
    Refused {
        table: TableName,
        reason: String,
        hint: String,
    },
    /// Call again later.
    #[error("table {table}: no commit succeeded in {attempts} attempts; the last answer: {last}")]
    Unavailable {
        table: TableName,
        attempts: u32,
        last: String,
    },
}

impl CommitError {
    /// What the user can do.
    pub fn hint(&self) -> &str {
        match self {
            Self::Stopped { stop, .. } => stop.hint(),
            Self::TableMissing { .. } => {
                "the table was dropped or renamed; restore it, or stop the job"
            }
            Self::Refused { hint, .. } => hint,
            Self::Unavailable { .. } => {
                "it is tried again; if it stays, look at the catalog and at who else writes the \
                 table"
            }
        }
    }
}

/// Commits epochs of one job to one table. It keeps nothing between calls.
#[derive(Clone, Copy, Debug)]
pub struct Committer<'a> {
    pub catalog: &'a dyn Catalog,
    pub files: &'a dyn Files,
    pub table: &'a TableName,
    pub writer: &'a Writer,
    pub settings: &'a CommitSettings,
}

/// What became of one attempt.
pub(super) enum Attempt {
    /// All epochs are in this table.
    Done(Arc<TableMetadata>),
    /// Epochs were added; there may be more of them.
    Added,
    Again(String),
}

/// What the attempts of one call have left.
#[derive(Default)]
pub(super) struct Trail {
    added: Vec<i64>,
    sent: u32,
    /// Lists of requests that were refused.
    pub refused: BTreeSet<String>,
    /// Lists of requests that may still take effect.
    pub unsure: BTreeSet<String>,
    /// Lists of snapshots that our commits removed from the table.
    expired: Vec<String>,
    /// The manifests below a base.
    pub listed: Option<(String, Vec<ManifestFile>)>,
    /// The catalog does not remove snapshots.
    keeps_all: bool,
}

impl Committer<'_> {
    /// Brings all these epochs, in ascending order, into the table. It may be called again at any
    /// time, by any process, also at the same time: each epoch is added once.
    ///
    /// # Errors
    /// The table must not be written, or the catalog does not serve.
    pub async fn commit(
        &self,
        epochs: &[EpochFiles],
        now_ms: &(dyn Fn() -> i64 + Send + Sync),
    ) -> Result<Committed, CommitError> {
        let mut trail = Trail::default();
        let mut failures = 0;
        loop {
            match self.attempt(epochs, now_ms(), &mut trail).await? {
                Attempt::Done(table) => {
                    let removed = self.tidy(&table, &trail).await;
                    return Ok(Committed {
                        added: trail.added,
                        sent: trail.sent,
                        removed,
                    });
                }
                Attempt::Added => failures = 0,
                Attempt::Again(last) => {
                    failures += 1;
                    if failures >= ATTEMPTS_MAX {
                        return Err(CommitError::Unavailable {
                            table: self.table.clone(),
                            attempts: failures,
                            last,
                        });
                    }
                    tracing::debug!(table = %self.table, attempt = failures, last, "commit again");
                    tokio::time::sleep(self.backoff(failures)).await;
                }
            }
        }
    }

    /// Merges our small manifests if there are many of them: one attempt, away from the path of an
    /// epoch. The data stays as it is, and so does the marker.
    ///
    /// # Errors
    /// As for [`Self::commit`]. The manifests stay as they are, or the request takes effect later.
    pub async fn merge_manifests(&self, now_ms: i64) -> Result<Merged, CommitError> {
        let settled = |judged: Result<Attempt, CommitError>| self.settled(judged);
        let base = self.catalog.load(self.table).await;
        let base = base.map_err(|error| settled(self.judge(error)))?;
        plan::decide(&base, self.writer, &[]).map_err(|stop| self.stopped(stop))?;
        let mut trail = Trail::default();
        let read = self.read_list(&base, &mut trail).await;
        read.map_err(|error| settled(self.judge_files(error)))?;
        let listed = trail.listed.as_ref().map_or(&[][..], |(_, listed)| listed);
        let Some(due) = merge::due(listed, self.settings.merge_at) else {
            return Ok(Merged::NotDue);
        };
        let mut old = vec![];
        for some in due.chunks(MANIFESTS_READ_AT_ONCE) {
            let reads = some
                .iter()
                .map(|manifest| self.files.get(&manifest.location, MANIFEST_BYTES_MAX));
            for (manifest, read) in some.iter().zip(join_all(reads).await) {
                let bytes = read.map_err(|error| settled(self.judge_files(error)))?;
                old.push((*manifest, bytes.to_vec()));
            }
        }
        let replacement = merge::replace(&base, listed, self.writer, &old, now_ms);
        let Some(replacement) = replacement.map_err(|stop| self.stopped(stop))? else {
            return Ok(Merged::NotDue);
        };
        for file in [&replacement.manifest, &replacement.list] {
            let put = self.files.put_new(&file.location, file.bytes.clone()).await;
            put.map_err(|error| settled(self.judge_files(error)))?;
        }
        match self.catalog.commit(self.table, &replacement.request).await {
            Ok(CommitOutcome::Committed(_)) => Ok(Merged::Merged(old.len())),
            Ok(CommitOutcome::Conflict { reason } | CommitOutcome::Unknown { reason }) => {
                Err(self.settled(Ok(Attempt::Again(reason))))
            }
            Err(error) => Err(settled(self.judge(error))),
        }
    }

    async fn attempt(
        &self,
        epochs: &[EpochFiles],
        now_ms: i64,
        trail: &mut Trail,
    ) -> Result<Attempt, CommitError> {
        let base = match self.catalog.load(self.table).await {
            Ok(base) => base,
            Err(error) => return self.judge(error),
        };
        let pending = match plan::decide(&base, self.writer, epochs) {
            Ok(Decision::Done) => return Ok(Attempt::Done(base)),
            Ok(Decision::Append(pending)) => pending,
            Err(stop) => return Err(self.stopped(stop)),
        };
        if let Err(error) = self.read_list(&base, trail).await {
            return self.judge_files(error);
        }
        let listed = trail.listed.as_ref().map_or(&[][..], |(_, listed)| listed);
        let keep = match trail.keeps_all {
            true => None,
            false => self.settings.keep_snapshots,
        };
        let prepared = plan::prepare(&base, listed, self.writer, &pending, keep, now_ms);
        let prepared = prepared.map_err(|stop| self.stopped(stop))?;
        for file in prepared.manifests.iter().chain([&prepared.list]) {
            let NewFile { location, bytes } = file;
            if let Err(error) = self.files.put_new(location, bytes.clone()).await {
                return self.judge_files(error);
            }
        }
        let last = pending.last().map_or(0, |epoch| epoch.epoch);
        let is_all = epochs
            .iter()
            .all(|epoch| epoch.epoch <= last || epoch.files.is_empty());
        self.send(prepared, is_all, trail).await
    }

    async fn send(
        &self,
        prepared: Prepared,
        is_all: bool,
        trail: &mut Trail,
    ) -> Result<Attempt, CommitError> {
        let list = prepared.list.location;
        trail.sent += 1;
        match self.catalog.commit(self.table, &prepared.request).await {
            Ok(CommitOutcome::Committed(table)) => {
                trail.added.push(prepared.snapshot_id);
                trail.expired.extend(prepared.expired_lists);
                Ok(match is_all {
                    true => Attempt::Done(table),
                    false => Attempt::Added,
                })
            }
            Ok(CommitOutcome::Conflict { reason }) => {
                trail.refused.insert(list);
                Ok(Attempt::Again(reason))
            }
            Ok(CommitOutcome::Unknown { reason }) => {
                trail.unsure.insert(list);
                Ok(Attempt::Again(reason))
            }
            Err(error) => {
                trail.refused.insert(list);
                if matches!(error, CatalogError::Refused { .. })
                    && !prepared.expired_lists.is_empty()
                {
                    // The append matters more than the removal.
                    trail.keeps_all = true;
                    return Ok(Attempt::Again(error.to_string()));
                }
                self.judge(error)
            }
        }
    }

    /// The manifests below the base, read once per base.
    pub(super) async fn read_list(
        &self,
        base: &TableMetadata,
        trail: &mut Trail,
    ) -> Result<(), FilesError> {
        let Some(current) = base.current() else {
            trail.listed = None;
            return match base.current_id() {
                None => Ok(()),
                Some(id) => Err(damaged(
                    &base.location,
                    &format!("snapshot {id} is not in it"),
                )),
            };
        };
        let Some(location) = &current.manifest_list else {
            let reason = "its current snapshot has no manifest list";
            return Err(damaged(&base.location, reason));
        };
        if trail
            .listed
            .as_ref()
            .is_some_and(|(known, _)| known == location)
        {
            return Ok(());
        }
        let bytes = self.files.get(location, LIST_BYTES_MAX).await?;
        let listed = manifest_list::decode(&bytes);
        let listed = listed.map_err(|error| damaged(location, &error.to_string()))?;
        trail.listed = Some((location.clone(), listed));
        Ok(())
    }

    pub(super) fn judge(&self, error: CatalogError) -> Result<Attempt, CommitError> {
        match error {
            CatalogError::Unavailable { .. } => Ok(Attempt::Again(error.to_string())),
            CatalogError::TableMissing { table } => Err(CommitError::TableMissing { table }),
            CatalogError::Refused { ref hint, .. } => Err(CommitError::Refused {
                table: self.table.clone(),
                reason: error.to_string(),
                hint: hint.clone(),
            }),
        }
    }

    /// One attempt's outcome as an error: the caller tries again later.
    pub(super) fn settled(&self, judged: Result<Attempt, CommitError>) -> CommitError {
        let unavailable = |last: String| CommitError::Unavailable {
            table: self.table.clone(),
            attempts: 1,
            last,
        };
        match judged {
            Ok(Attempt::Again(last)) => unavailable(last),
            Ok(Attempt::Added | Attempt::Done(_)) => unavailable(String::new()),
            Err(error) => error,
        }
    }

    pub(super) fn judge_files(&self, error: FilesError) -> Result<Attempt, CommitError> {
        let reason = error.to_string();
        match error {
            // The list may belong to a snapshot that was removed since the table was loaded.
            FilesError::Unavailable { .. } | FilesError::Missing { .. } => {
                Ok(Attempt::Again(reason))
            }
            FilesError::Refused { hint, .. } => Err(CommitError::Refused {
                table: self.table.clone(),
                reason,
                hint,
            }),
        }
    }

    pub(super) fn stopped(&self, stop: Stop) -> CommitError {
        CommitError::Stopped {
            table: self.table.clone(),
            stop,
        }
    }

    /// Grows with each failure; spread, so that two writers do not meet again.
    pub(super) fn backoff(&self, failures: u32) -> Duration {
        let longest = BACKOFF_MIN
            .saturating_mul(1 << failures.min(16))
            .min(BACKOFF_MAX);
        longest.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Removes lists that no snapshot names and none can come to name: the request was refused,
    /// and main has left the snapshot that it required. Manifests stay: another leader's commit may
    /// name the very same one.
    pub(super) async fn tidy(&self, table: &TableMetadata, trail: &Trail) -> usize {
        let named: BTreeSet<_> = table
            .snapshots
            .iter()
            .filter_map(|snapshot| snapshot.manifest_list.as_deref())
            .collect();
        let refused = trail.refused.iter().chain(&trail.expired);
        let unused =
            refused.filter(|list| !named.contains(list.as_str()) && !trail.unsure.contains(*list));
        let mut removed = 0;
        for list in unused {
            match self.files.remove(list).await {
                Ok(()) => removed += 1,
                Err(error) => tracing::debug!(%error, "an unused manifest list stays"),
            }
        }
        removed
    }
}

pub(super) fn damaged(location: &str, reason: &str) -> FilesError {
    FilesError::Refused {
        location: location.to_owned(),
        reason: reason.to_owned(),
        hint: "the table is damaged; look at it with another reader, and roll it back if need be"
            .to_owned(),
    }
}

#[cfg(test)]
pub(super) mod conformance;
#[cfg(test)]
mod month;
#[cfg(test)]
mod simulation;
