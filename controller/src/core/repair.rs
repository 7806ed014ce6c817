//! A committed epoch that has lost what it had staged: what takes its place is recorded in the
//! chain, and published.
//!
//! Owns: which epoch is stuck, the task that stages what takes the place of its lost objects, the
//! manifest that says so. Does not own: computing rows again (a worker), what is published in the
//! end ([`streamctl_proto::manifest::objects_after`]).
//! Rule: manifests are never changed. A repair is an epoch of its own, without records and with an
//! empty window at the head's end; the repaired epoch is published by both together, and what was
//! committed after it goes on then.

use super::event::DesiredState;
use super::job::{Committing, Job};
use super::{Core, Effect};
use crate::store::{Repair, Repaired, remembered};
use std::collections::BTreeMap;
use streamctl_proto::manifest::EpochRepair;
use streamctl_proto::{Epoch, JobName, Manifest, TaskId, Window};

/// The first unpublished epoch cannot be published: objects of it are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Which epoch.
    pub epoch: Epoch,
    /// Locations of the lost objects.
    pub lost: Vec<String>,
}

/// A repair on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repairing {
    /// Which epoch.
    pub epoch: Epoch,
    /// Stages what takes the place of what was lost.
    pub task: TaskId,
    /// What is to be recorded, once it is staged, or given up.
    ready: Option<Box<EpochRepair>>,
}

impl Job {
    /// What was repaired of the first unpublished epoch, oldest first.
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

    /// Publishes the first epoch that is not published, as it was repaired.
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
    /// The first unpublished epoch of a job has lost objects: it stops, until that is repaired.
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

    /// A user wants the stuck epoch repaired: a task is named that stages what takes the place of
    /// what it has lost. One that was named before gives way.
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

    /// What takes the place of the lost objects is staged, or they are given up.
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

    /// Commits a repair, once no epoch is on its way and no version waits to take over.
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

    /// A repair is committed: the epoch is published as it is now, and what comes after it goes on.
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
