//! Everything the core can do for a job now: list, check lookups, start tasks, open windows,
//! commit, sweep, finish.
//!
//! Rule: runs after every event, so no event needs to know what it unblocks. A calm job produces no
//! effects (I8).

use super::job::{Committing, count_try};
use super::journal::Kind;
use super::*;
use crate::refusals::shard_names;
use streamctl_proto::Manifest;
use streamctl_proto::staged_name::Orphans;

/// Time between two orphan sweeps of a job.
const SWEEP_INTERVAL_MS: i64 = 600_000;
/// The same of a job that does not run: a worker that was cut off may stage something late.
const IDLE_SWEEP_INTERVAL_MS: i64 = 3_600_000;

/// Number of shards, over all jobs, of each worker that may take tasks. Computed at most once per
/// step, on first use.
pub(super) type Load = BTreeMap<WorkerId, usize>;

impl Core {
    /// Does everything that is possible now for one job.
    pub(super) fn advance(
        &mut self,
        now: i64,
        name: &JobName,
        load: &mut Option<Load>,
        out: &mut Vec<Effect>,
    ) {
        let (jobs, mut step) = self.parts(now, out);
        let Some(job) = jobs.get_mut(name) else {
            return;
        };
        job.request_facts(&mut step);
        job.spread_when_due(&step);
        if job.is_plan_due(&step) {
            let load = load.get_or_insert_with(|| self.load());
            self.decide(now, name, out, |job, step| job.assign(load, step));
        }
        self.decide(now, name, out, Job::proceed);
    }

    /// The load without the workers that are reserved for trials.
    pub(super) fn load(&self) -> Load {
        let is_tried_on = |id: &WorkerId| self.suspects.trials.contains_key(id);
        let takes = self
            .workers
            .iter()
            .filter(|(id, worker)| worker.takes_tasks() && !is_tried_on(id));
        let mut load: Load = takes.map(|(id, _)| (id.clone(), 0)).collect();
        for task in self.jobs.values().flat_map(|job| job.tasks.values()) {
            if let Some(shards) = load.get_mut(&task.worker) {
                *shards += task.shards.len();
            }
        }
        load
    }
}

impl Job {
    /// Requests what the job must know: its position, its shards, its lookups.
    fn request_facts(&mut self, step: &mut Step<'_>) {
        self.read_when_due(step);
        self.list_when_due(step);
        self.check_lookups_when_due(step);
        if !step.adopting {
            self.forgive_workers(step.now, step.settings.avoid_times());
        }
    }

    /// Does what the facts allow, once its shards are assigned.
    fn proceed(&mut self, step: &mut Step<'_>) {
        self.open_windows(step.out);
        self.record_change(step.out);
        self.commit_repair(step);
        self.commit(step);
        self.record_replays(step.out);
        self.sweep_when_due(step);
        self.keep_epochs(step);
        self.finish(step);
    }

    fn list_when_due(&mut self, step: &mut Step<'_>) {
        let listing = &self.listing;
        let first = listing.asked == 0;
        let idle = listing.asked == listing.answered;
        let needed = listing.asked < listing.needed;
        let again = idle && self.lists_again() && step.now >= listing.again_at_ms;
        if !(first || needed || again) {
            return;
        }
        if self.runs() || (self.drains() && needed) {
            self.listing.asked += 1;
            self.listing.again_at_ms = step.now + step.settings.listing_interval_ms;
            step.out.push(Effect::ListShards {
                job: self.name().clone(),
                generation: self.listing.asked,
            });
        }
    }

    fn check_lookups_when_due(&mut self, step: &mut Step<'_>) {
        if !self.runs() {
            return;
        }
        let job_version = self.resolved.job_version;
        for spec in &self.resolved.spec.lookups {
            let lookup = self.lookups.entry(spec.name.clone()).or_default();
            if lookup.checking || step.now < lookup.check_at_ms {
                continue;
            }
            lookup.checking = true;
            let refresh_ms = i64::try_from(spec.refresh.as_millis()).unwrap_or(i64::MAX / 2);
            lookup.check_at_ms = step.now + refresh_ms;
            step.out.push(Effect::CheckLookup {
                job: self.resolved.spec.name.clone(),
                job_version,
                lookup: spec.name.clone(),
                in_use: lookup.version.clone(),
                // If this leader has not seen the version, it is read once.
                rows_in_use: (lookup.seen_ms > 0).then_some(lookup.rows),
                refused: lookup.refused.clone(),
            });
        }
    }

    /// The shards must be assigned again, and what that depends on is known.
    fn is_plan_due(&self, step: &Step<'_>) -> bool {
        let listed = self.listing.answered > 0 && self.listing.answered >= self.listing.needed;
        let reads = self.runs() || self.drains();
        self.plan_due && reads && listed && !step.adopting && !self.is_paused(step.now)
    }

    /// Gives shards to workers, and takes them back.
    fn assign(&mut self, load: &mut Load, step: &mut Step<'_>) {
        self.forget_partial_windows();
        let plan = match self.without_avoided(step.now, load) {
            Some(others) => self.plan(&others),
            None => self.plan(load),
        };
        if !plan.start.is_empty() {
            self.is_spreading = false;
        }
        for id in plan.release {
            if let Some(task) = self.tasks.get_mut(&id) {
                task.state = TaskState::Releasing;
                step.out.push(Effect::ReleaseTask {
                    worker: task.worker.clone(),
                    task: id,
                });
            }
        }
        for (worker, shards) in plan.start {
            if let Some(has) = load.get_mut(&worker) {
                *has += shards.len();
            }
            let id = step.tasks.name_for(self.name());
            let start = self.start(step.now, id, worker.clone(), shards);
            step.out.push(start);
            if let (Some(drain), Some(task)) = (self.drain, self.tasks.get_mut(&id)) {
                task.state = TaskState::Draining(drain.until_ms);
                step.out.push(Effect::DrainTask {
                    worker,
                    task: id,
                    until_ms: Some(drain.until_ms),
                });
            }
        }
        // Planning again after the plan is carried out must plan nothing (I8).
        self.plan_due = false;
    }

    /// The plan, or shards to give out again because of what they bring.
    fn plan(&mut self, load: &Load) -> assign::Plan {
        let plan = assign::plan(self, load);
        let is_wanted = std::mem::take(&mut self.spread_wanted);
        if !is_wanted || plan != assign::Plan::default() {
            return plan;
        }
        let release = spread::uneven(self, load);
        self.is_spreading = !release.is_empty();
        assign::Plan {
            start: vec![],
            release,
        }
    }

    /// Has the shards looked at from time to time for workers that get much more than others.
    fn spread_when_due(&mut self, step: &Step<'_>) {
        let due_ms = *self
            .spread_at_ms
            .get_or_insert(step.now + step.settings.spread_interval_ms);
        let is_alone = self.tasks.len() < 2 || !self.runs();
        if step.now < due_ms || is_alone || step.adopting || self.drain.is_some() {
            return;
        }
        self.spread_at_ms = Some(step.now + step.settings.spread_interval_ms);
        self.spread_wanted = true;
        self.plan_due = true;
    }

    /// Adds a task; returns the effect that starts it.
    pub(super) fn start(
        &mut self,
        now: i64,
        id: TaskId,
        worker: WorkerId,
        shards: BTreeSet<ShardId>,
    ) -> Effect {
        let given = shards
            .iter()
            .filter_map(|id| self.shard_to_start(id, &shards))
            .collect();
        let retention_ms = self.stream.as_ref().map(|stream| stream.retention_ms);
        let reads = format!("{id} reads {}", shard_names(&shards));
        self.note(Kind::TaskStarted, worker.to_string(), reads);
        self.add_task(now, id, worker.clone(), shards, retention_ms);
        Effect::StartTask {
            worker,
            task: id,
            job: self.name().clone(),
            job_version: self.resolved.job_version,
            shards: given,
            retention_ms,
        }
    }

    fn shard_to_start(&mut self, id: &ShardId, shards: &BTreeSet<ShardId>) -> Option<TaskShard> {
        let read_to_ms = self.read_to_ms(id);
        let shard = self.shards.get_mut(id)?;
        shard.stats = ShardStats::default();
        let after = shard.parents.iter().filter(|it| shards.contains(*it));
        Some(TaskShard {
            shard: id.clone(),
            from: shard.reached.clone(),
            after: after.cloned().collect(),
            detail: shard.detail.clone(),
            floor: shard.floor,
            read_to_ms,
        })
    }

    fn open_windows(&mut self, out: &mut Vec<Effect>) {
        if self.waiting.is_empty() || !self.is_live() {
            return;
        }
        let versions: Option<BTreeMap<_, _>> = self
            .lookups
            .iter()
            .map(|(name, lookup)| Some((name.clone(), lookup.version.clone()?)))
            .collect();
        let Some(versions) = versions else {
            return;
        };
        while let Some((window, task)) = self.waiting.first().copied() {
            if !self.may_open(window) {
                return;
            }
            self.waiting.pop_first();
            let Some(owner) = self.tasks.get(&task) else {
                continue;
            };
            let open = self.windows.entry(window).or_default();
            if open.lookups.is_empty() && open.reports.is_empty() {
                open.lookups.clone_from(&versions);
            }
            if !open.readers.insert(task) {
                // It dropped its work on the window, and begins again.
                count_try(&mut self.tries, window);
            }
            let tries = self.tries.get(&window).copied().unwrap_or(0);
            out.push(Effect::OpenWindow {
                worker: owner.worker.clone(),
                task,
                window,
                lookups: open.lookups.clone(),
                attempt: tries.saturating_add(1),
            });
        }
    }

    fn commit(&mut self, step: &mut Step<'_>) {
        if !self.is_live() || step.adopting {
            return;
        }
        if let Some(window) = self.committable(step.now) {
            let manifest = self.manifest(window, step.term, step.now);
            self.begin_commit(manifest, step);
        }
    }

    pub(super) fn begin_commit(&mut self, manifest: Manifest, step: &mut Step<'_>) {
        self.committing = Some(Committing {
            manifest: manifest.clone(),
            reference: None,
            since_ms: step.now,
        });
        step.out.push(Effect::WriteManifest {
            manifest: Box::new(manifest),
        });
    }

    fn sweep_when_due(&mut self, step: &mut Step<'_>) {
        let waits = self.sweep_at_ms.is_some_and(|at_ms| step.now < at_ms);
        let is_unsure = self.unreadable.is_some() || self.wanted == DesiredState::Deleted;
        if step.adopting || waits || is_unsure {
            return;
        }
        let interval_ms = if self.runs() {
            SWEEP_INTERVAL_MS
        } else {
            IDLE_SWEEP_INTERVAL_MS
        };
        self.sweep_at_ms = Some(step.now + interval_ms);
        let dead = step.settings.earlier_terms_are_dead.then_some(step.term);
        let orphans = self.orphans(step.tasks.next(), dead);
        step.out.push(Effect::Sweep {
            job: self.name().clone(),
            orphans: Box::new(orphans),
        });
    }

    /// What the job has staged in vain.
    pub(super) fn orphans(&self, tasks_before: TaskId, terms_before: Option<Term>) -> Orphans {
        let live = self.repairing.iter().map(|repairing| repairing.task);
        Orphans {
            job: self.name().clone(),
            windows_before_ms: self.head_end.time_ms(),
            tasks_before,
            terms_before,
            keep: self.staged(),
            live: live.collect(),
        }
    }

    /// Ends a job that has no work left.
    fn finish(&mut self, step: &mut Step<'_>) {
        if self.complete() {
            return self.want(DesiredState::Completed, step.out);
        }
        if self.wanted != DesiredState::Draining || step.adopting {
            return;
        }
        let unfinished = self.unfinished();
        let has_time = self.drain.is_some_and(|drain| step.now < drain.give_up_ms);
        if unfinished.is_some() && has_time {
            return;
        }
        if self.tasks.is_empty() && self.settled() {
            self.not_drained = unfinished;
            self.drop_uncommitted();
            self.want(DesiredState::Stopped, step.out);
        } else if !has_time {
            self.not_drained = unfinished;
            self.halt(DesiredState::Stopped, step.out);
        }
    }
}
