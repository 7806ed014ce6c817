//! A change of a job: when its next version takes over, and from where.
//!
//! Owns: the moment, and what of the running version is dropped. Does not own: which fields may
//! change ([`streamctl_proto::change`]), the stored form, old versions (the checkpoint location).
//! Rule: the store records the version first. While a change waits, no epoch begins, so that a
//! version ends at an epoch boundary: the next version continues from that head, and nothing that
//! was read beyond it counts (I9).

use super::Effect;
use super::job::{Change, Job, Lookup, RefusedChange};
use super::step::Step;
use crate::stored::DesiredState;
use streamctl_proto::change::{FieldChange, compare};
use streamctl_proto::{JobVersion, Position, ResolvedJob, Watermark};

/// Why a version cannot take over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTakeOver {
    /// The job has changed since the comparison.
    #[error("the job is at version {is} by now")]
    Moved { is: JobVersion },
    /// It has nothing left to read.
    #[error("the job has read its source to the end")]
    Completed,
    #[error("the job is being deleted")]
    Deleted,
    /// Its position is not known.
    #[error("the job's head cannot be read")]
    Unreadable,
    /// Committed data depends on these fields.
    #[error("{} of its changes cannot be taken over by a running job", .0.len())]
    Fields(Vec<FieldChange>),
}

impl Job {
    /// The end of the last window that is committed or being committed; none before the first.
    pub fn boundary_ms(&self) -> Option<i64> {
        self.base_end().time_ms()
    }

    /// Why no version can take over, whatever it changes.
    pub fn closed_to_changes(&self) -> Option<NoTakeOver> {
        match self.wanted {
            _ if self.unreadable.is_some() => Some(NoTakeOver::Unreadable),
            DesiredState::Completed => Some(NoTakeOver::Completed),
            DesiredState::Deleted => Some(NoTakeOver::Deleted),
            _ => None,
        }
    }

    /// Whether this version could take over now.
    ///
    /// # Errors
    /// The reason why it cannot.
    pub fn may_change(&self, next: &ResolvedJob) -> Result<(), NoTakeOver> {
        let is = self.resolved.job_version;
        if let Some(closed) = self.closed_to_changes() {
            return Err(closed);
        }
        if next.job_version != is.next() {
            return Err(NoTakeOver::Moved { is });
        }
        let mut changes = compare(&self.resolved, next, self.boundary_ms());
        changes.retain(|change| change.refused.is_some());
        if changes.is_empty() {
            Ok(())
        } else {
            Err(NoTakeOver::Fields(changes))
        }
    }

    /// Drops the ends of shards that no head holds; they are found again, as under a new leader.
    /// They are expressed in windows of the previous version, which may differ.
    fn forget_ends(&mut self) {
        for shard in self
            .shards
            .values_mut()
            .filter(|shard| shard.committed != Position::End)
        {
            shard.end = None;
            shard.end_floor = Watermark::Unknown;
        }
    }

    /// The version makes the next epoch. The state of unchanged lookups stays.
    fn take_over(&mut self, now: i64, next: ResolvedJob) {
        let mut known = std::mem::take(&mut self.lookups);
        for spec in &next.spec.lookups {
            let before = self
                .resolved
                .spec
                .lookups
                .iter()
                .find(|before| before.name == spec.name);
            let planned = |job: &ResolvedJob| job.lookup_columns.get(&spec.name).cloned();
            let same = before.is_some_and(|before| before.reads_as(spec))
                && planned(&self.resolved) == planned(&next);
            let lookup = known
                .remove(&spec.name)
                .filter(|_| same)
                .unwrap_or_default();
            // A result in flight belongs to the previous version and does not count.
            self.lookups.insert(
                spec.name.clone(),
                Lookup {
                    checking: false,
                    check_at_ms: now,
                    // Another query may use what the one before could not.
                    refused: None,
                    ..lookup
                },
            );
        }
        self.resolved = next;
        self.took_over_after = self.epoch();
        self.forget_failures();
        self.delays.clear();
        self.avoided.clear();
        self.refusal_rounds = 0;
        self.deaths.clear();
        self.pause_until_ms = Some(now);
        self.plan_due = true;
    }

    /// A user requested that a version take over. Nothing happens until the store holds it. It
    /// supersedes a version that already waits.
    pub(super) fn want_change(&mut self, next: Box<ResolvedJob>) {
        let recording = self
            .changing
            .as_ref()
            .is_some_and(|change| change.recording);
        if !recording && self.may_change(&next).is_ok() {
            self.changing = Some(Change {
                next,
                recording: false,
            });
        }
    }

    /// Writes the next version to the store once no epoch is being committed. The current version
    /// ends at the head, which may be no boundary of its windows any more.
    pub(super) fn record_change(&mut self, out: &mut Vec<Effect>) {
        if self.committing.is_some() {
            return;
        }
        let Some(mut change) = self.changing.take_if(|change| !change.recording) else {
            return;
        };
        // No epoch begins before the store holds the version.
        change.next.after_epoch = Some(self.epoch());
        if self.may_change(&change.next).is_ok() {
            out.push(Effect::RecordVersion {
                job: self.name().clone(),
                version: change.next.clone(),
            });
            self.changing = Some(Change {
                recording: true,
                ..change
            });
        }
    }

    /// The store refused the version: the previous version continues, and the caller gets the
    /// reason.
    pub(super) fn version_refused(&mut self, version: JobVersion, reason: String) {
        if let Some(next) = self.take_recorded(version) {
            self.refused_change = Some(RefusedChange {
                changed_ms: next.changed_ms,
                reason,
            });
        }
    }

    /// The store holds the version: it takes over. All tasks belong to the previous version, and so
    /// does everything that they reported beyond the head. Returns false if it was not waited for.
    pub(super) fn version_recorded(&mut self, version: JobVersion, step: &mut Step<'_>) -> bool {
        let Some(next) = self.take_recorded(version) else {
            return false;
        };
        self.cancel_tasks(step.out);
        self.forget_ends();
        self.drop_uncommitted();
        self.take_over(step.now, *next);
        self.resume(step.now, step.out);
        true
    }

    /// The change whose version the store was asked to hold.
    fn take_recorded(&mut self, version: JobVersion) -> Option<Box<ResolvedJob>> {
        self.changing
            .take_if(|change| change.recording && change.next.job_version == version)
            .map(|change| change.next)
    }
}
