//! Repairs of a committed epoch that has lost staged objects: the repair is recorded in the chain
//! and published.
//!
//! Owns: which epoch is stuck, the task that stages the replacements, the manifest of the repair.
//! Does not own: computing rows again (a worker), which objects are published in the end
//! ([`streamctl_proto::manifest::objects_after`]).
//! Rule: manifests never change. A repair is an epoch of its own, without records and with an empty
//! window at the head's end. Both manifests together publish the repaired epoch; then the epochs
//! committed after it continue.

use super::event::DesiredState;
use super::job::{Committing, Job};
use super::{Core, Effect};
use crate::store::{Repair, Repaired, remembered};
use std::collections::BTreeMap;
use streamctl_proto::manifest::EpochRepair;
use streamctl_proto::{Epoch, JobName, Manifest, TaskId, Window};

/// The first unpublished epoch cannot be published because objects of it are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    pub epoch: Epoch,
    /// Locations of the lost objects.
    pub lost: Vec<String>,
}

/// A repair in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repairing {
    pub epoch: Epoch,
    /// The task that stages the replacements.
    pub task: TaskId,
    /// The repair to record, once it is staged or given up.
    ready: Option<Box<EpochRepair>>,
}

impl Job {
    /// Repairs of the first unpublished epoch, oldest first.
    pub fn repairs_of(&self, epoch: Epoch) -> Vec<EpochRepair> {
        let repairs = self
            .publishing
            .iter()
            .filter_map(|manifest| manifest.repair.as_deref());
        repairs
            .filter(|repair| repair.epoch == epoch)
            .cloned()
            .collect()
    }

    /// Publishes the first unpublished epoch, with its repairs.
    pub(super) fn publish_next(&self, out: &mut Vec<Effect>) {
        if let Some(manifest) = self.publishing.front() {
            let repairs = self.repairs_of(manifest.epoch);
            out.push(Effect::Publish {
                manifest: Box::new(manifest.clone()),
                repairs,
            });
        }
    }

    /// The manifest of a repair: no record is read, no shard moves.
    fn repairing_manifest(&self, mut manifest: Manifest, repair: EpochRepair) -> Manifest {
        let end_ms = self.head_end_ms;
        manifest.window = Window {
            start_ms: end_ms,
            end_ms,
        };
        manifest.stages = Default::default();
        let in_use = self
            .lookups
            .iter()
            .filter_map(|(name, lookup)| Some((name.clone(), lookup.version.clone()?)));
        manifest.lookups = in_use.collect::<BTreeMap<_, _>>();
        manifest.repair = Some(Box::new(repair));
        manifest
    }
}

impl Core {
    /// The first unpublished epoch of a job has lost objects. The job stops until it is repaired.
    pub(super) fn objects_lost(
        &mut self,
        name: &JobName,
        stuck: Stuck,
        (error, hint): (String, String),
        out: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        if job
            .publishing
            .front()
            .is_none_or(|manifest| manifest.epoch != stuck.epoch)
        {
            return;
        }
        job.stuck = Some(stuck);
        self.fail(name, error, hint, out);
    }

    /// A user requested a repair of the stuck epoch. Names the task that stages the replacements;
    /// it supersedes an earlier one.
    pub(super) fn begin_repair(&mut self, name: &JobName, epoch: Epoch) {
        let task = TaskId {
            term: self.term,
            counter: self.tasks_given + 1,
        };
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        let is_stuck = job.stuck.as_ref().is_some_and(|stuck| stuck.epoch == epoch);
        let recorded = job
            .repairing
            .as_ref()
            .is_some_and(|repairing| repairing.ready.is_some());
        if is_stuck && !recorded && job.wanted != DesiredState::Deleted {
            self.tasks_given += 1;
            job.repairing = Some(Repairing {
                epoch,
                task,
                ready: None,
            });
        }
    }

    /// Replacements for the lost objects are staged, or the objects are given up.
    pub(super) fn epoch_repaired(
        &mut self,
        name: &JobName,
        task: TaskId,
        repair: Box<EpochRepair>,
    ) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        let Some(repairing) = job
            .repairing
            .as_mut()
            .filter(|repairing| repairing.task == task)
        else {
            return;
        };
        if repairing.ready.is_none() && repairing.epoch == repair.epoch {
            repairing.ready = Some(repair);
        }
    }

    /// Commits a repair, once no epoch is being committed and no version waits to take over.
    pub(super) fn commit_repair(&mut self, now: i64, name: &JobName, out: &mut Vec<Effect>) {
        let term = self.term;
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        if job.committing.is_some() || job.changing.as_ref().is_some_and(|change| change.recording)
        {
            return;
        }
        let Some(repair) = job
            .repairing
            .as_mut()
            .and_then(|repairing| repairing.ready.take())
        else {
            return;
        };
        let end_ms = job.head_end_ms;
        let empty = job.manifest(
            Window {
                start_ms: end_ms,
                end_ms,
            },
            term,
            now,
        );
        let manifest = job.repairing_manifest(empty, *repair);
        job.committing = Some(Committing {
            manifest: manifest.clone(),
            reference: None,
            since_ms: now,
        });
        out.push(Effect::WriteManifest {
            manifest: Box::new(manifest),
        });
    }

    /// A repair is committed: the epoch is published as repaired, and the epochs after it continue.
    pub(super) fn repair_committed(
        &mut self,
        now: i64,
        name: &JobName,
        manifest: &Manifest,
        out: &mut Vec<Effect>,
    ) {
        let Some(repair) = manifest.repair.as_deref() else {
            return;
        };
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        job.repairing = None;
        let epoch = repair.epoch;
        let recorded_in = manifest.epoch;
        let what = match repair.rows_given_up {
            0 => Repaired::Recomputed { epoch, recorded_in },
            _ => Repaired::Skipped { epoch, recorded_in },
        };
        job.repairs = remembered(
            &job.repairs,
            Repair {
                at_ms: now,
                by: repair.by.clone(),
                what,
            },
        );
        out.push(Effect::RecordRepairs {
            job: name.clone(),
            repairs: job.repairs.clone(),
        });
        if job
            .stuck
            .take_if(|stuck| stuck.epoch == repair.epoch)
            .is_some()
        {
            job.publish_next(out);
        }
    }
}
