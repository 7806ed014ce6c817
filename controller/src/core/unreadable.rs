//! A job whose position is not known: it stands by, is read again from time to time, and may be
//! repaired.
//!
//! Owns: when it is read again, what blocks it meanwhile. Does not own: reading (`load`),
//! whether a store is older than its checkpoint location (`restored`).
//! Rule: the job continues only after it was read completely, as under a new leader. Other jobs are
//! not affected.

use super::event::DesiredState;
use super::job::Job;
use super::{Core, Effect};
use crate::store::{Repair, Repaired, remembered};
use streamctl_proto::{Epoch, JobName, ManifestRef, ResolvedJob};

/// Time between two attempts to read an unreadable job.
const READ_AGAIN_MS: i64 = 60_000;

/// The state of an unreadable job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Attempts of this leader so far.
    pub reads: u64,
    reading: bool,
    read_again_at_ms: i64,
    /// A repair that was requested while it was being read.
    repair: Option<Box<HeadRepair>>,
}

/// A head to move along the epochs that were committed after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadRepair {
    /// The head must equal this.
    pub previous: Option<ManifestRef>,
    pub head: ManifestRef,
    /// The last published epoch, as far as it can be determined.
    pub published: Epoch,
    /// When it was requested.
    pub at_ms: i64,
    pub by: String,
}

impl HeadRepair {
    fn as_remembered(&self) -> Repair {
        let from = self
            .previous
            .as_ref()
            .map_or(Epoch(0), |previous| previous.epoch);
        let what = Repaired::HeadMoved {
            from,
            to: self.head.epoch,
        };
        Repair {
            at_ms: self.at_ms,
            by: self.by.clone(),
            what,
        }
    }
}

impl Core {
    /// The job could not be read, for the first time or again. A job that is being deleted stays
    /// so.
    pub(super) fn note_unreadable(
        &mut self,
        now: i64,
        job: ResolvedJob,
        (error, hint): (String, String),
        repairs: Vec<Repair>,
        out: &mut Vec<Effect>,
    ) {
        let known = self.jobs.get_mut(&job.spec.name);
        if known.as_ref().is_some_and(|known| {
            known.wanted == DesiredState::Deleted || known.unreadable.is_none()
        }) {
            return;
        }
        let before = known.and_then(|known| known.unreadable.take());
        let (reads, repair) = before.map_or((0, None), |before| (before.reads, before.repair));
        // The user who requested the repair waits for its result, not for this read.
        let reads = if repair.is_some() { reads } else { reads + 1 };
        let name = job.spec.name.clone();
        let mut broken = Job::new(job);
        broken.wanted = DesiredState::Failed { error, hint };
        broken.repairs = repairs;
        broken.unreadable = Some(Unreadable {
            reads,
            reading: false,
            read_again_at_ms: now.saturating_add(READ_AGAIN_MS),
            repair: None,
        });
        self.jobs.insert(name.clone(), broken);
        if let Some(repair) = repair {
            self.repair_head(&name, repair, out);
        }
    }

    /// A user requested that it continue: read it again at once.
    pub(super) fn read_soon(&mut self, now: i64, name: &JobName) {
        if let Some(unreadable) = self
            .jobs
            .get_mut(name)
            .and_then(|job| job.unreadable.as_mut())
        {
            unreadable.read_again_at_ms = now;
        }
    }

    pub(super) fn read_when_due(&mut self, now: i64, name: &JobName, out: &mut Vec<Effect>) {
        let Some(job) = self
            .jobs
            .get_mut(name)
            .filter(|job| job.wanted != DesiredState::Deleted)
        else {
            return;
        };
        let Some(unreadable) = job.unreadable.as_mut() else {
            return;
        };
        if !unreadable.reading && now >= unreadable.read_again_at_ms {
            unreadable.reading = true;
            out.push(Effect::ReadJob { job: name.clone() });
        }
    }

    /// A user requested to move its head. This is possible only if the job is unreadable. While it
    /// is being read, the repair waits for the result.
    pub(super) fn repair_head(
        &mut self,
        name: &JobName,
        to: Box<HeadRepair>,
        out: &mut Vec<Effect>,
    ) {
        let Some(job) = self
            .jobs
            .get_mut(name)
            .filter(|job| job.wanted != DesiredState::Deleted)
        else {
            return;
        };
        let Some(unreadable) = job.unreadable.as_mut() else {
            return;
        };
        if unreadable.reading {
            unreadable.repair = Some(to);
            return;
        }
        unreadable.reading = true;
        let repairs = remembered(&job.repairs, to.as_remembered());
        out.push(Effect::RepairHead {
            job: name.clone(),
            to,
            repairs,
        });
    }
}
