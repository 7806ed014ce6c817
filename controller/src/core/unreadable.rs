//! A job whose place is not known: it stands still, is read again now and then, and may be
//! repaired.
//!
//! Owns: when it is read again, what is held against it meanwhile. Does not own: reading
//! ([`crate::load`]), the judgement whether a store is older than its checkpoint location
//! ([`crate::restored`]).
//! Rule: it goes on only after it was read as a whole, as under a new leader; other jobs do not
//! notice.

use super::event::DesiredState;
use super::job::Job;
use super::{Core, Effect};
use crate::store::{Repair, Repaired, remembered};
use streamctl_proto::{Epoch, JobName, ManifestRef, ResolvedJob};

/// Between two attempts to read a job that cannot be read.
const READ_AGAIN_MS: i64 = 60_000;

/// What is known of a job that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Attempts so far, of this leader.
    pub reads: u64,
    reading: bool,
    read_again_at_ms: i64,
    /// A repair that was requested while it was being read.
    repair: Option<Box<HeadRepair>>,
}

/// A head that is to be moved along what was committed after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadRepair {
    /// Must be the head now.
    pub previous: Option<ManifestRef>,
    pub head: ManifestRef,
    /// The last published epoch, as far as anything shows.
    pub published: Epoch,
    /// When it was asked for.
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
    /// It could not be read, for the first time or again. One that is being deleted stays so.
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
        // Who asked for the repair waits for what comes of it, not for this.
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

    /// Somebody wants it to go on: it is read again at once.
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

    /// A user wants its head moved: only where it cannot be read. While it is being read the repair
    /// waits for the answer.
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
