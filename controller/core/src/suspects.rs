//! Tasks that may be what kills workers: they run apart from all others until they are acquitted or
//! convicted.
//!
//! Owns: which deaths of workers count, the running trials. Does not own: the count
//! (`job`).
//! Rule: a job fails only by deaths of workers that had its tasks alone. Trials leave at least half
//! of the workers to shards that are under no suspicion; with one worker, they take turns. Nothing
//! of this is stored: a new leader counts from zero.
//!
//! Suspects are tested in groups: all that died together run together, on a worker that has nothing
//! else, so that no suspect waits. If the worker of a group dies, the group is tried again in
//! halves, until one job alone on a worker is the cause. If a group lives, the waiting suspects are
//! tried together again.

use super::advance::Load;
use super::job::{Death, SUSPECT_DEATHS, Task};
use super::*;

/// If this many workers, and at least half of all, are cut off at once, the cause is a network
/// partition or a power failure. No job is blamed, though all become suspects if it happens again.
pub const MASS_LOSS_MIN: usize = 3;

/// How long a worker may take to release its tasks. After that, the trial is given up and the
/// suspects run as all others do.
pub const TRIAL_WAIT_MS: i64 = 120_000;

/// Suspects of one job or of several, on a worker that has nothing else.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The jobs of the suspects, and their task, once the worker has no other.
    pub jobs: BTreeMap<JobName, Option<TaskId>>,
    /// When its shards are acquitted: after they have run for long enough, or have waited too long
    /// for their turn.
    pub until_ms: i64,
}

/// Suspects, their trials, and losses that do not count.
#[derive(Clone, Debug, Default)]
pub struct Suspects {
    /// The running trials by worker.
    pub trials: BTreeMap<WorkerId, Trial>,
    /// Losses before this time belong to a mass loss.
    mass_loss_until_ms: i64,
    /// Before this time, no trial may take the last worker from shards that are under no suspicion.
    others_until_ms: i64,
}

impl Core {
    /// The running trials, for the invariants.
    pub(super) fn trials(&self) -> &BTreeMap<WorkerId, Trial> {
        &self.suspects.trials
    }

    /// Whether workers that are lost now are cut off by a network partition, rather than dead.
    pub(super) fn is_mass_loss(&mut self, now: i64) -> bool {
        let cut_off = self
            .workers
            .values()
            .filter(|worker| !worker.connected)
            .count();
        if cut_off >= MASS_LOSS_MIN && cut_off * 2 >= self.workers.len() {
            self.suspects.mass_loss_until_ms = now + self.settings.worker_timeout_ms;
        }
        now < self.suspects.mass_loss_until_ms
    }

    /// The process of a worker ended unexpectedly with all its tasks. Fails jobs that are to blame.
    pub(super) fn note_death(&mut self, now: i64, worker: &WorkerId, out: &mut Vec<Effect>) {
        let of_worker = |job: &Job| job.tasks.values().any(|task| task.worker == *worker);
        let alone =
            !self.is_mass_loss(now) && self.jobs.values().filter(|job| of_worker(job)).count() == 1;
        let process = self.workers.get(worker).map_or(0, |worker| worker.process);
        let tried_together = self.suspects.trials.remove(worker).map(|trial| trial.jobs);
        if tried_together.is_some() {
            self.give_others_a_turn(now);
        }
        let mut to_blame = vec![];
        for job in self.jobs.values_mut() {
            let died: Vec<Death> = job
                .tasks
                .iter()
                .filter(|(_, task)| task.worker == *worker)
                .map(|(id, task)| Death {
                    at_ms: now,
                    task: *id,
                    worker: worker.clone(),
                    process,
                    shards: task.shards.clone(),
                    lived_ms: now.saturating_sub(task.given_ms),
                    alone,
                })
                .collect();
            if died.is_empty() {
                job.deaths.note_elsewhere();
                continue;
            }
            if let Some(jobs) = tried_together
                .as_ref()
                .filter(|jobs| jobs.contains_key(job.name()))
            {
                job.deaths.split(jobs.len());
            }
            for death in died {
                job.deaths.note(death);
            }
            job.plan_due = true;
            if job.deaths.blamed() > job.deaths_max() + job.deaths.elsewhere().min(job.deaths_max())
            {
                to_blame.push(job.name().clone());
            }
        }
        for name in to_blame {
            let Some(job) = self.jobs.get_mut(&name) else {
                continue;
            };
            let ended = job.deaths.blamed();
            let workers = job.deaths.workers().join(", ");
            let error = format!(
                "its task ended {ended} workers ({workers}): each time their process died, and no \
                 other job ran there"
            );
            let hint = "look at the workers' logs for why (killed for want of memory, an abort), and at the query: a \
                        function that makes large values; submit the job again once this is fixed, a changed file with --change";
            job.fail(error, hint.to_owned(), out);
        }
    }

    /// Drops deaths that did not happen: of tasks that a worker still runs, and of a process that
    /// reconnected.
    pub(super) fn note_alive(&mut self, worker: &WorkerId, process: u64, tasks: &[RunningTask]) {
        for job in self.jobs.values_mut() {
            if process != 0 && job.deaths.is_back(worker, process) {
                job.plan_due = true;
            }
        }
        for running in tasks {
            let Some(job) = self.jobs.get_mut(&running.job) else {
                continue;
            };
            if job.deaths.is_alive(running.task) {
                job.plan_due = true;
            }
        }
    }

    /// Continues the running trials, and starts new ones.
    pub(super) fn hold_trials(&mut self, now: i64, out: &mut Vec<Effect>) {
        for job in self.jobs.values_mut() {
            if job.deaths.forget(now) {
                job.plan_due = true;
            }
        }
        if self.adopting {
            return;
        }
        for (worker, mut trial) in std::mem::take(&mut self.suspects.trials) {
            if self.go_on(now, &worker, &mut trial, out) {
                self.suspects.trials.insert(worker, trial);
            } else {
                self.give_others_a_turn(now);
                self.plan_all_anew();
            }
        }
        self.end_surplus_trials();
        self.begin_trials(now, out);
    }

    fn give_others_a_turn(&mut self, now: i64) {
        self.suspects.others_until_ms = now + self.settings.probation_ms;
    }

    /// How many trials may run at a time, and whether shards that are under no suspicion need
    /// workers.
    fn trials_max(&self) -> (usize, bool) {
        let workers = self.load().len() + self.suspects.trials.len();
        let others_read = self
            .jobs
            .values()
            .any(|job| (job.runs() || job.drains()) && job.reads_beside_suspects());
        (
            if others_read {
                (workers / 2).max(1)
            } else {
                workers
            },
            others_read,
        )
    }

    /// If shards that appeared since have no worker, the trials that would take longest are given
    /// up: their tasks continue, and others run beside them.
    fn end_surplus_trials(&mut self) {
        if self.suspects.trials.is_empty() || !self.load().is_empty() {
            return;
        }
        let (trials_max, _) = self.trials_max();
        while self.suspects.trials.len() > trials_max {
            let last = self
                .suspects
                .trials
                .iter()
                .max_by_key(|(_, trial)| trial.until_ms);
            let Some(worker) = last.map(|(worker, _)| worker.clone()) else {
                return;
            };
            self.suspects.trials.remove(&worker);
            self.plan_all_anew();
        }
    }

    /// Returns false when the trial is over.
    fn go_on(
        &mut self,
        now: i64,
        worker: &WorkerId,
        trial: &mut Trial,
        out: &mut Vec<Effect>,
    ) -> bool {
        let takes = self.workers.get(worker).is_some_and(Worker::takes_tasks);
        // A worker that has sent nothing since may have died without being lost yet.
        let was_heard = self
            .workers
            .get(worker)
            .is_some_and(|worker| worker.heard_ms >= trial.until_ms);
        for (name, tried) in &mut trial.jobs {
            *tried = tried.filter(|id| {
                self.jobs
                    .get(name)
                    .is_some_and(|job| job.tasks.contains_key(id))
            });
        }
        // The task of a job that drains stays on trial until it has ended.
        trial
            .jobs
            .retain(|name, tried| tried.is_some() || self.jobs.get(name).is_some_and(Job::runs));
        let runs = trial.jobs.values().any(Option::is_some);
        if runs && was_heard {
            for (name, tried) in &trial.jobs {
                let Some(job) = self.jobs.get_mut(name) else {
                    continue;
                };
                // If a task was started again in the meantime, it gets another trial.
                let lives_ms = job.deaths.probation_ms(&self.settings);
                let has_lived = |task: &&Task| now.saturating_sub(task.given_ms) >= lives_ms;
                let tried = tried.and_then(|id| job.tasks.get(&id)).filter(has_lived);
                if let Some(shards) = tried.map(|task| task.shards.clone()) {
                    job.deaths.acquit(now, &shards);
                }
            }
            for job in self.jobs.values_mut() {
                job.deaths.regroup();
            }
            return false;
        }
        trial.jobs.retain(|name, tried| {
            let job = &self.jobs[name];
            let avoids = job.avoided_now(now).any(|(avoided, _)| avoided == worker);
            tried.is_some() || (takes && !avoids && !job.to_be_tried().is_empty())
        });
        if trial.jobs.is_empty() {
            return false;
        }
        let given = self
            .jobs
            .values()
            .flat_map(|job| &job.tasks)
            .filter(|(_, task)| task.worker == *worker);
        let is_free = given
            .map(|(id, _)| *id)
            .all(|id| trial.jobs.values().any(|tried| *tried == Some(id)));
        let mut longest_ms = now;
        for (name, tried) in trial.jobs.iter_mut().filter(|(_, tried)| tried.is_none()) {
            let may_begin = |job: &&mut Job| is_free && job.runs() && !job.is_paused(now);
            let Some(job) = self.jobs.get_mut(name).filter(may_begin) else {
                continue;
            };
            let id = self.task_index.name_for(name);
            longest_ms = longest_ms.max(now + job.deaths.probation_ms(&self.settings));
            *tried = Some(id);
            let shards = job.to_be_tried();
            out.push(job.start(now, id, worker.clone(), shards));
        }
        let has_begun = trial.jobs.values().any(Option::is_some);
        if has_begun && !runs {
            // Tasks that are started again do not extend it.
            trial.until_ms = longest_ms;
        }
        if has_begun || now < trial.until_ms {
            return true;
        }
        for name in trial.jobs.keys() {
            let Some(job) = self.jobs.get_mut(name) else {
                continue;
            };
            let shards = job.to_be_tried();
            job.deaths.acquit(now, &shards);
        }
        false
    }

    /// Spreads the waiting jobs over the workers that are free for trials. Each gets a worker that
    /// did not die with them, if there is one, because the worker itself may be broken; of these,
    /// the one with the least to release.
    fn begin_trials(&mut self, now: i64, out: &mut Vec<Effect>) {
        let is_tried = |job: &Job| {
            self.suspects
                .trials
                .values()
                .any(|trial| trial.jobs.contains_key(job.name()))
        };
        let waits = |job: &&Job| job.runs() && !is_tried(job) && !job.to_be_tried().is_empty();
        let mut waiting: Vec<&Job> = self.jobs.values().filter(waits).collect();
        if waiting.is_empty() {
            return;
        }
        waiting.sort_by_key(|job| (job.deaths.tried_at_ms, job.name().clone()));
        let mut load = self.load();
        let (trials_max, others_read) = self.trials_max();
        if others_read && load.len() <= 1 && now < self.suspects.others_until_ms {
            return;
        }
        let free = trials_max
            .saturating_sub(self.suspects.trials.len())
            .min(load.len());
        for group in groups(&waiting, free) {
            self.begin_trial(now, group, &mut load, out);
        }
    }

    fn begin_trial(
        &mut self,
        now: i64,
        group: Vec<JobName>,
        load: &mut Load,
        out: &mut Vec<Effect>,
    ) {
        let mut places = load.clone();
        for name in &group {
            let Some(job) = self.jobs.get_mut(name) else {
                continue;
            };
            if let Some(others) = job.without_avoided(now, &places) {
                places = others;
            }
            job.deaths.tried_at_ms = now;
        }
        let died = |worker: &WorkerId| {
            group
                .iter()
                .map(|name| self.jobs[name].deaths.on(worker))
                .sum::<usize>()
        };
        let least = places
            .iter()
            .min_by_key(|(worker, shards)| (died(worker), **shards, (*worker).clone()));
        let Some(worker) = least.map(|(worker, _)| worker.clone()) else {
            return;
        };
        load.remove(&worker);
        let jobs = group.into_iter().map(|name| (name, None)).collect();
        self.suspects.trials.insert(
            worker.clone(),
            Trial {
                jobs,
                until_ms: now + TRIAL_WAIT_MS,
            },
        );
        self.release_all(&worker, out);
        self.plan_all_anew();
    }
}

/// Divides jobs into at most `groups_max` groups of about equal size. No group is larger than the
/// limit of any of its jobs; jobs that are in none wait.
fn groups(waiting: &[&Job], groups_max: usize) -> Vec<Vec<JobName>> {
    let mut waiting = waiting.to_vec();
    let mut made = vec![];
    for left in (1..=groups_max).rev() {
        let mut room = waiting.len().div_ceil(left);
        let mut group = vec![];
        waiting.retain(|job| {
            let joins = group.len() < room.min(job.deaths.tried_with_max());
            if joins {
                room = room.min(job.deaths.tried_with_max());
                group.push(job.name().clone());
            }
            !joins
        });
        if !group.is_empty() {
            made.push(group);
        }
    }
    made
}

impl Job {
    /// Workers that may die with its tasks alone before the job fails: as many as its rounds of
    /// retries, but enough to rule out an accident.
    fn deaths_max(&self) -> usize {
        (self.resolved.spec.retries_max as usize).max(SUSPECT_DEATHS)
    }

    /// Suspects that a task may take now; for a query of whole windows, everything that is left to
    /// read.
    pub(super) fn to_be_tried(&self) -> BTreeSet<ShardId> {
        let suspects = self.deaths.suspects();
        let open = self.shards.iter().filter(|(_, shard)| !shard.done());
        if self.resolved.whole_window {
            let all: BTreeSet<ShardId> = open.map(|(id, _)| id.clone()).collect();
            let is_suspect = self.tasks.is_empty() && !all.is_disjoint(&suspects);
            return if is_suspect { all } else { BTreeSet::new() };
        }
        let free = open.filter(|(id, shard)| {
            suspects.contains(*id) && shard.task.is_none() && self.parents_ended(shard)
        });
        free.map(|(id, _)| id.clone()).collect()
    }

    /// It has something to read that is under no suspicion.
    fn reads_beside_suspects(&self) -> bool {
        let suspects = self.deaths.suspects();
        let mut open = self.shards.iter().filter(|(_, shard)| !shard.done());
        if self.resolved.whole_window {
            return open.clone().next().is_some() && !open.any(|(id, _)| suspects.contains(id));
        }
        open.any(|(id, _)| !suspects.contains(id))
    }
}
