//! A job whose position is not known: it stands by, is read again from time to time, and may be
//! repaired.
//!
//! Owns: when it is read again, what blocks it meanwhile. Does not own: reading (`load`),
//! whether a store is older than its checkpoint location (`restored`).
//! Rule: the job continues only after it was read completely, as under a new leader. Other jobs are
//! not affected.

use super::Effect;
use super::effect::HeadRepair;
use super::job::{Job, Unreadable};
use super::journal::Kind;
use super::step::Step;
use crate::stored::{DesiredState, Repair, remembered};
use streamctl_proto::{ResolvedJob, v1};

/// Time between two attempts to read an unreadable job.
const READ_AGAIN_MS: i64 = 60_000;

impl Job {
    /// A job that could not be read. `before`: the same job, if it could not be read before.
    pub(super) fn new_unreadable(
        now: i64,
        job: ResolvedJob,
        (error, hint): (String, String),
        repairs: Vec<Repair>,
        before: Option<Unreadable>,
        out: &mut Vec<Effect>,
    ) -> Self {
        let is_new = before.is_none();
        let (reads, repair) = before.map_or((0, None), |before| (before.reads, before.repair));
        // The user who requested the repair waits for its result, not for this read.
        let reads = if repair.is_some() { reads } else { reads + 1 };
        let mut broken = Self::new(job);
        if is_new {
            broken.note(Kind::JobUnreadable, "", error.clone());
        }
        broken.wanted = DesiredState::Failed { error, hint };
        broken.repairs = repairs;
        broken.unreadable = Some(Unreadable {
            reads,
            reading: false,
            read_again_at_ms: now.saturating_add(READ_AGAIN_MS),
            repair: None,
        });
        if let Some(repair) = repair {
            broken.repair_head(repair, out);
        }
        broken
    }

    /// A job that is unreadable may be loaded again, unless it is being deleted.
    pub(super) fn may_be_loaded(&self) -> bool {
        self.unreadable.is_some() && self.wanted != DesiredState::Deleted
    }

    /// A user requested that it continue: read it again at once.
    pub(super) fn read_soon(&mut self, now: i64) {
        if let Some(unreadable) = &mut self.unreadable {
            unreadable.read_again_at_ms = now;
        }
    }

    pub(super) fn read_when_due(&mut self, step: &mut Step<'_>) {
        if self.wanted == DesiredState::Deleted {
            return;
        }
        let name = self.name().clone();
        if let Some(unreadable) = &mut self.unreadable
            && !unreadable.reading
            && step.now >= unreadable.read_again_at_ms
        {
            unreadable.reading = true;
            step.out.push(Effect::ReadJob { job: name });
        }
    }

    /// A user requested to move its head. This is possible only if the job is unreadable. While it
    /// is being read, the repair waits for the result.
    pub(super) fn repair_head(&mut self, to: Box<HeadRepair>, out: &mut Vec<Effect>) {
        let is_deleted = self.wanted == DesiredState::Deleted;
        let job = self.name().clone();
        let Some(unreadable) = self.unreadable.as_mut().filter(|_| !is_deleted) else {
            return;
        };
        if unreadable.reading {
            unreadable.repair = Some(to);
            return;
        }
        unreadable.reading = true;
        let repair = to.as_remembered();
        let text = v1::JobRepair::from(&repair).text;
        self.note(Kind::JobRepaired, format!("epoch {}", to.head.epoch), text);
        let repairs = remembered(&self.repairs, repair);
        out.push(Effect::RepairHead { job, to, repairs });
    }
}
