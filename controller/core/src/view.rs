//! What services see of a job.
//!
//! Owns: which facts of a job leave the core. Does not own: the status of a job (`status`), which
//! is made of more.
//! Rule: a view is read-only and of one moment; a service decides nothing by it that the core must
//! decide.

use crate::Core;
use crate::deletion::NoDeletion;
use crate::job::{EpochFigures, Job};
use crate::stored::{DesiredState, Repaired, Replays};
use crate::versions::NoTakeOver;
use std::collections::BTreeMap;
use streamctl_proto::manifest::EpochRepair;
use streamctl_proto::{
    Epoch, JobName, JobVersion, Manifest, ManifestRef, ResolvedJob, TaskId, WorkerId,
};

/// A job at one moment.
#[derive(Clone, Copy)]
pub struct JobView<'c> {
    job: &'c Job,
}

/// A version that was submitted, compared with those of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It makes the next epoch, and the store holds it.
    Current { after: Epoch },
    /// It waits to take over, or the store does not hold it yet.
    Pending,
    /// The store refused it.
    NotStored { reason: String },
    /// The job is at another version, for this reason if it cannot take this one over.
    Overtaken {
        version: JobVersion,
        reason: Option<NoTakeOver>,
    },
}

impl Core {
    pub fn job(&self, name: &JobName) -> Option<JobView<'_>> {
        self.jobs.get(name).map(|job| JobView { job })
    }

    pub fn job_names(&self) -> impl Iterator<Item = &JobName> {
        self.jobs.keys()
    }
}

impl<'c> JobView<'c> {
    /// The version that makes the next epoch.
    pub fn resolved(&self) -> &'c ResolvedJob {
        &self.job.resolved
    }

    /// The last committed epoch.
    pub fn head(&self) -> Option<&'c ManifestRef> {
        self.job.head.as_ref()
    }

    pub fn epoch(&self) -> Epoch {
        self.job.epoch()
    }

    pub fn published(&self) -> Epoch {
        self.job.published
    }

    /// The last epochs, oldest first.
    pub fn recent(&self) -> impl Iterator<Item = &'c EpochFigures> {
        self.job.recent.iter()
    }

    /// The workers of the remembered tasks.
    pub fn task_workers(&self) -> &'c BTreeMap<TaskId, WorkerId> {
        &self.job.task_workers
    }

    pub fn desired(&self) -> &'c DesiredState {
        &self.job.wanted
    }

    /// The desired state is being written to the store.
    pub fn is_recording(&self) -> bool {
        self.job.recording
    }

    /// How many times its position could not be read; `None`: it is readable.
    pub fn failed_reads(&self) -> Option<u64> {
        self.job.unreadable.as_ref().map(|one| one.reads)
    }

    /// The boundary at which another version would begin.
    pub fn boundary_ms(&self) -> Option<i64> {
        self.job.boundary_ms()
    }

    pub fn closed_to_changes(&self) -> Option<NoTakeOver> {
        self.job.closed_to_changes()
    }

    pub fn closed_to_deletion(&self, force: bool) -> Option<NoDeletion> {
        self.job.closed_to_deletion(force)
    }

    /// What became of a version that was submitted.
    pub fn submitted(&self, version: &ResolvedJob) -> Submitted {
        let job = self.job;
        let is_this = |other: &ResolvedJob| {
            (&other.spec_digest, other.changed_ms) == (&version.spec_digest, version.changed_ms)
        };
        let refused = job.refused_change.as_ref();
        if let Some(refused) = refused.filter(|one| one.changed_ms == version.changed_ms) {
            return Submitted::NotStored {
                reason: refused.reason.clone(),
            };
        }
        let waits = job.changing.as_ref().is_some_and(|one| is_this(&one.next));
        match is_this(&job.resolved) {
            true if !job.recording => Submitted::Current {
                after: job.took_over_after,
            },
            true => Submitted::Pending,
            false if waits => Submitted::Pending,
            false => Submitted::Overtaken {
                version: job.resolved.job_version,
                reason: job.may_change(version).err(),
            },
        }
    }

    /// The dead letters that are to be replayed: as of now, and as the store holds them.
    pub fn replays(&self) -> (&'c Replays, &'c Replays) {
        (&self.job.replays.now, &self.job.replays.stored)
    }

    /// The first epoch that is kept, as the store holds it or will.
    pub fn first_kept(&self) -> Epoch {
        self.job.retention.now.first_kept()
    }

    pub fn may_replay(&self) -> bool {
        self.job.may_replay()
    }

    /// What keeps its first unpublished epoch from being published, if objects are lost.
    pub fn stuck(&self) -> Option<&'c crate::event::Stuck> {
        self.job.stuck.as_ref()
    }

    /// Nothing is being published.
    pub fn is_settled(&self) -> bool {
        self.job.settled()
    }

    /// The manifest of an epoch whose repair has begun, and the task of the repair.
    pub fn repair_of(&self, epoch: Epoch) -> Option<(&'c Manifest, TaskId)> {
        let manifest = self.job.publishing.front();
        let manifest = manifest.filter(|manifest| manifest.epoch == epoch)?;
        let repairing = self.job.repairing.as_ref();
        let repairing = repairing.filter(|one| one.epoch == epoch)?;
        Some((manifest, repairing.task))
    }

    pub fn repairs_of(&self, epoch: Epoch) -> Vec<EpochRepair> {
        self.job.repairs_of(epoch)
    }

    /// The epoch that records the repair of this one, once no repair is under way.
    pub fn repair_recorded_in(&self, epoch: Epoch) -> Option<Epoch> {
        let repairs = self.job.repairs.iter().rev();
        let recorded = repairs.filter_map(|repair| match repair.what {
            Repaired::Recomputed {
                epoch: of,
                recorded_in,
            }
            | Repaired::Skipped {
                epoch: of,
                recorded_in,
            } => (of == epoch).then_some(recorded_in),
            Repaired::HeadMoved { .. } => None,
        });
        let recorded = recorded.into_iter().next();
        recorded.filter(|_| self.job.repairing.is_none())
    }
}
