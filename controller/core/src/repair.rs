//! Repairs of a committed epoch that has lost staged objects: the repair is recorded in the chain
//! and published.
//!
//! Owns: which epoch is stuck, the task that stages the replacements, the manifest of the repair.
//! Does not own: computing rows again (a worker), which objects are published in the end
//! ([`streamctl_proto::manifest::objects_after`]).
//! Rule: manifests never change. A repair is an epoch of its own, without records and with an empty
//! window at the head's end. Both manifests together publish the repaired epoch; then the epochs
//! committed after it continue.

use super::Effect;
use super::effect::Unpublished;
use super::event::Stuck;
use super::job::{Job, PUBLISH_TOGETHER_MAX, Repairing};
use super::journal::Kind;
use super::step::Step;
use super::task_index::TaskIndex;
use crate::stored::{DesiredState, Repair, Repaired, remembered};
use std::collections::BTreeMap;
use streamctl_proto::manifest::EpochRepair;
use streamctl_proto::{Epoch, Manifest, TaskId, Window, v1};

impl Job {
    /// Repairs of an unpublished epoch, oldest first.
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

    /// Publishes the first unpublished epochs, each with its repairs.
    pub(super) fn publish_next(&self, out: &mut Vec<Effect>) {
        let next = self.publishing.iter().take(PUBLISH_TOGETHER_MAX);
        let epochs: Vec<_> = next
            .map(|manifest| Unpublished {
                manifest: manifest.clone(),
                repairs: self.repairs_of(manifest.epoch),
            })
            .collect();
        if !epochs.is_empty() {
            out.push(Effect::Publish {
                job: self.name().clone(),
                epochs,
            });
        }
    }

    /// The manifest of a repair: no record is read, no shard moves.
    fn repairing_manifest(&self, mut manifest: Manifest, repair: EpochRepair) -> Manifest {
        manifest.stages = Default::default();
        let in_use = self
            .lookups
            .iter()
            .filter_map(|(name, lookup)| Some((name.clone(), lookup.version.clone()?)));
        manifest.lookups = in_use.collect::<BTreeMap<_, _>>();
        manifest.repair = Some(Box::new(repair));
        manifest
    }

    /// The first unpublished epoch has lost objects. The job stops until it is repaired.
    pub(super) fn lose_objects(
        &mut self,
        stuck: Stuck,
        error: String,
        hint: String,
        out: &mut Vec<Effect>,
    ) {
        let first = self.publishing.front().map(|manifest| manifest.epoch);
        if first == Some(stuck.epoch) {
            self.stuck = Some(stuck);
            self.fail(error, hint, out);
        }
    }

    /// A user requested a repair of the stuck epoch. Names the task that stages the replacements;
    /// it supersedes an earlier one.
    pub(super) fn begin_repair(&mut self, epoch: Epoch, tasks: &mut TaskIndex) {
        let is_stuck = self
            .stuck
            .as_ref()
            .is_some_and(|stuck| stuck.epoch == epoch);
        let recorded = self
            .repairing
            .as_ref()
            .is_some_and(|repairing| repairing.ready.is_some());
        if is_stuck && !recorded && self.wanted != DesiredState::Deleted {
            self.repairing = Some(Repairing {
                epoch,
                task: tasks.name(),
                ready: None,
            });
        }
    }

    /// Replacements for the lost objects are staged, or the objects are given up.
    pub(super) fn epoch_repaired(&mut self, task: TaskId, repair: Box<EpochRepair>) {
        if let Some(repairing) = &mut self.repairing
            && repairing.task == task
            && repairing.ready.is_none()
            && repairing.epoch == repair.epoch
        {
            repairing.ready = Some(repair);
        }
    }

    /// Commits a repair, once no epoch is being committed and no version waits to take over.
    pub(super) fn commit_repair(&mut self, step: &mut Step<'_>) {
        let waits = self
            .changing
            .as_ref()
            .is_some_and(|change| change.recording);
        if self.committing.is_some() || waits {
            return;
        }
        // Only epochs are repaired: there is a head.
        let Some(end_ms) = self.head_end.time_ms() else {
            return;
        };
        let Some(repair) = self
            .repairing
            .as_mut()
            .and_then(|repairing| repairing.ready.take())
        else {
            return;
        };
        let window = Window {
            start_ms: end_ms,
            end_ms,
        };
        let empty = self.manifest(window, step.term, step.now);
        let manifest = self.repairing_manifest(empty, *repair);
        self.begin_commit(manifest, step);
    }

    /// A repair is committed: the epoch is published as repaired, and the epochs after it continue.
    pub(super) fn repair_committed(&mut self, manifest: &Manifest, step: &mut Step<'_>) {
        let Some(repair) = manifest.repair.as_deref() else {
            return;
        };
        self.repairing = None;
        let epoch = repair.epoch;
        let recorded_in = manifest.epoch;
        let what = match repair.rows_given_up {
            0 => Repaired::Recomputed { epoch, recorded_in },
            _ => Repaired::Skipped { epoch, recorded_in },
        };
        let repaired = Repair {
            at_ms: step.now,
            by: repair.by.clone(),
            what,
        };
        let text = v1::JobRepair::from(&repaired).text;
        self.note(Kind::JobRepaired, format!("epoch {epoch}"), text);
        self.repairs = remembered(&self.repairs, repaired);
        step.out.push(Effect::RecordRepairs {
            job: self.name().clone(),
            repairs: self.repairs.clone(),
        });
        if self.stuck.take_if(|stuck| stuck.epoch == epoch).is_some() {
            self.publish_next(step.out);
        }
    }
}
