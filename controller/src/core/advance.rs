//! Everything the core can do for a job now: list, check lookups, start tasks, open windows,
//! commit, sweep, finish.
//!
//! Rule: runs after every event, so no event needs to know what it unblocks. A calm job produces no
//! effects (I8).

use super::*;
use streamctl_proto::staged_name::Orphans;

/// Time between two orphan sweeps of a job.
const SWEEP_INTERVAL_MS: i64 = 600_000;

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
        self.read_when_due(now, name, out);
        self.list_when_due(now, name, out);
        self.check_lookups_when_due(now, name, out);
        if !self.adopting {
            self.assign(now, name, load, out);
        }
        self.open_windows(name, out);
        self.record_change(name, out);
        self.commit_repair(now, name, out);
        self.commit(now, name, out);
        self.record_replays(name, out);
        self.sweep_when_due(now, name, out);
        self.finish(now, name, out);
    }

    pub(super) fn sweep_when_due(&mut self, now: i64, name: &JobName, out: &mut Vec<Effect>) {
        let adopting = self.adopting;
        let terms_before = self.settings.earlier_terms_are_dead.then_some(self.term);
        let tasks_before = TaskId {
            term: self.term,
            counter: self.tasks_given + 1,
        };
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        if adopting || now < job.sweep_at_ms || !job.runs() {
            return;
        }
        job.sweep_at_ms = now + SWEEP_INTERVAL_MS;
        let orphans = Orphans {
            job: name.clone(),
            windows_before_ms: job.head_end_ms,
            tasks_before,
            terms_before,
            keep: job.staged(),
            live: job
                .repairing
                .iter()
                .map(|repairing| repairing.task)
                .collect(),
        };
        out.push(Effect::Sweep {
            job: name.clone(),
            orphans: Box::new(orphans),
        });
    }

    pub(super) fn list_when_due(&mut self, now: i64, name: &JobName, out: &mut Vec<Effect>) {
        let interval_ms = self.settings.listing_interval_ms;
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        let listing = &job.listing;
        let first = listing.asked == 0;
        let idle = listing.asked == listing.answered;
        let needed = listing.asked < listing.needed;
        let due = first || needed || (idle && job.lists_again() && now >= listing.again_at_ms);
        if (job.runs() || (job.drains() && needed)) && due {
            job.listing.asked += 1;
            job.listing.again_at_ms = now + interval_ms;
            out.push(Effect::ListShards {
                job: name.clone(),
                generation: job.listing.asked,
            });
        }
    }

    pub(super) fn check_lookups_when_due(
        &mut self,
        now: i64,
        name: &JobName,
        out: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        if !job.runs() {
            return;
        }
        let job_version = job.resolved.job_version;
        for spec in &job.resolved.spec.lookups {
            let lookup = job.lookups.entry(spec.name.clone()).or_default();
            if !lookup.checking && now >= lookup.check_at_ms {
                lookup.checking = true;
                lookup.check_at_ms =
                    now + i64::try_from(spec.refresh.as_millis()).unwrap_or(i64::MAX / 2);
                out.push(Effect::CheckLookup {
                    job: name.clone(),
                    job_version,
                    lookup: spec.name.clone(),
                    in_use: lookup.version.clone(),
                    // If this leader has not seen the version, it is read once.
                    rows_in_use: (lookup.seen_ms > 0).then_some(lookup.rows),
                    refused: lookup.refused.clone(),
                });
            }
        }
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

    pub(super) fn assign(
        &mut self,
        now: i64,
        name: &JobName,
        load: &mut Option<Load>,
        out: &mut Vec<Effect>,
    ) {
        let times = self.settings.avoid_times();
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        job.forgive_workers(now, times);
        let listed = job.listing.answered > 0 && job.listing.answered >= job.listing.needed;
        let reads = job.runs() || job.drains();
        if !job.plan_due || !reads || !listed || now < job.pause_until_ms {
            return;
        }
        let load = load.get_or_insert_with(|| self.load());
        let term = self.term;
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        job.forget_partial_windows();
        let plan = match job.without_avoided(now, load) {
            Some(others) => assign::plan(job, &others),
            None => assign::plan(job, load),
        };
        for id in plan.release {
            if let Some(task) = job.tasks.get_mut(&id) {
                task.state = TaskState::Releasing;
                out.push(Effect::ReleaseTask {
                    worker: task.worker.clone(),
                    task: id,
                });
            }
        }
        for (worker, shards) in plan.start {
            if let Some(has) = load.get_mut(&worker) {
                *has += shards.len();
            }
            self.tasks_given += 1;
            let id = TaskId {
                term,
                counter: self.tasks_given,
            };
            self.task_index.give(id, name);
            out.push(start(now, job, id, worker.clone(), shards));
            if let (Some(drain), Some(task)) = (job.drain, job.tasks.get_mut(&id)) {
                task.state = TaskState::Draining(drain.until_ms);
                out.push(Effect::DrainTask {
                    worker,
                    task: id,
                    until_ms: Some(drain.until_ms),
                });
            }
        }
        // Planning again after the plan is carried out must plan nothing (I8).
        job.plan_due = false;
    }

    pub(super) fn open_windows(&mut self, name: &JobName, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        let live = matches!(job.wanted, DesiredState::Running | DesiredState::Draining);
        if job.waiting.is_empty() {
            return;
        }
        let versions: Option<BTreeMap<_, _>> = job
            .lookups
            .iter()
            .map(|(name, lookup)| Some((name.clone(), lookup.version.clone()?)))
            .collect();
        let Some(versions) = versions.filter(|_| live) else {
            return;
        };
        while let Some((window, task)) = job.waiting.first().copied() {
            if !job.may_open(window) {
                return;
            }
            job.waiting.pop_first();
            let Some(owner) = job.tasks.get(&task) else {
                continue;
            };
            let open = job.windows.entry(window).or_default();
            if open.lookups.is_empty() && open.reports.is_empty() {
                open.lookups.clone_from(&versions);
            }
            open.readers.insert(task);
            let worker = owner.worker.clone();
            let lookups = open.lookups.clone();
            out.push(Effect::OpenWindow {
                worker,
                task,
                window,
                lookups,
            });
        }
    }

    pub(super) fn commit(&mut self, now: i64, name: &JobName, out: &mut Vec<Effect>) {
        let term = self.term;
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        let live = matches!(job.wanted, DesiredState::Running | DesiredState::Draining);
        if !live || self.adopting {
            return;
        }
        let Some(window) = job.committable(now) else {
            return;
        };
        let manifest = job.manifest(window, term, now);
        job.committing = Some(Committing {
            manifest: manifest.clone(),
            reference: None,
            since_ms: now,
        });
        out.push(Effect::WriteManifest {
            manifest: Box::new(manifest),
        });
    }

    /// Ends a job that has no work left.
    pub(super) fn finish(&mut self, now: i64, name: &JobName, out: &mut Vec<Effect>) {
        let adopting = self.adopting;
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        if job.complete() {
            return want(job, DesiredState::Completed, out);
        }
        if job.wanted != DesiredState::Draining || adopting {
            return;
        }
        let unfinished = job.unfinished();
        let has_time = job.drain.is_some_and(|drain| now < drain.give_up_ms);
        if unfinished.is_some() && has_time {
            return;
        }
        if job.tasks.is_empty() && job.settled() {
            job.not_drained = unfinished;
            job.drop_uncommitted();
            want(job, DesiredState::Stopped, out);
        } else if !has_time {
            job.not_drained = unfinished;
            self.halt(name, DesiredState::Stopped, out);
        }
    }
}

pub(super) fn start(
    now: i64,
    job: &mut Job,
    id: TaskId,
    worker: WorkerId,
    shards: BTreeSet<ShardId>,
) -> Effect {
    let mut given = vec![];
    for shard_id in &shards {
        let Some(shard) = job.shards.get_mut(shard_id) else {
            continue;
        };
        shard.stats = ShardStats::default();
        given.push(TaskShard {
            shard: shard_id.clone(),
            from: shard.reached.clone(),
            after: shard
                .parents
                .iter()
                .filter(|parent| shards.contains(*parent))
                .cloned()
                .collect(),
            detail: shard.detail.clone(),
            floor_ms: shard.floor_ms,
            read_to_ms: None,
        });
    }
    for shard in &mut given {
        shard.read_to_ms = job.read_to_ms(&shard.shard);
    }
    let retention_ms = job.stream.as_ref().map(|stream| stream.retention_ms);
    job.add_task(now, id, worker.clone(), shards, retention_ms);
    let name = job.name().clone();
    let job_version = job.resolved.job_version;
    Effect::StartTask {
        worker,
        task: id,
        job: name,
        job_version,
        shards: given,
        retention_ms,
    }
}
