//! Tasks that may be what ends workers: each job's run alone on a worker until they are acquitted or convicted.
//!
//! Owns: which deaths of workers count, the one trial that is held at a time. Does not own: the count ([`super::job`]).
//! Rule: at most one worker is given to a trial, so that the other jobs go on; a job fails only by deaths of workers that
//! had its tasks alone. Nothing of this is stored: a new leader counts anew.

use super::job::{Death, SUSPECT_DEATHS};
use super::*;

/// So many workers that are cut off at once, and at least half of all, are a broken network and not dead.
pub const MASS_LOSS_MIN: usize = 3;

/// So long a worker may take to hand on what it has, before a trial is given up and the suspects run as all others do.
pub const TRIAL_WAIT_MS: i64 = 120_000;

/// A job's suspects on a worker of their own.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Whose.
    pub job: JobName,
    /// Where.
    pub worker: WorkerId,
    /// The task, once the worker has no other.
    pub task: Option<TaskId>,
    /// When its shards are acquitted: when they have run for long enough, or have waited too long for their turn.
    pub until_ms: i64,
}

/// Suspects, their trial, and losses that say nothing.
#[derive(Clone, Debug, Default)]
pub struct Suspects {
    /// The trial that is held.
    pub trial: Option<Trial>,
    /// Losses before this belong to a broken network.
    mass_loss_until_ms: i64,
}

impl Core {
    /// The trial that is held, for the invariants.
    pub(super) fn trial(&self) -> Option<&Trial> {
        self.suspects.trial.as_ref()
    }

    /// Whether workers that are lost now are cut off by a broken network, rather than dead.
    pub(super) fn is_mass_loss(&mut self, now: i64) -> bool {
        let cut_off = self.workers.values().filter(|worker| !worker.connected).count();
        if cut_off >= MASS_LOSS_MIN && cut_off * 2 >= self.workers.len() {
            self.suspects.mass_loss_until_ms = now + self.settings.worker_timeout_ms;
        }
        now < self.suspects.mass_loss_until_ms
    }

    /// The process of a worker has ended with all its tasks, and was not asked to. Fails jobs that are to blame.
    pub(super) fn note_death(&mut self, now: i64, worker: &WorkerId, out: &mut Vec<Effect>) {
        let of_worker = |job: &Job| job.tasks.values().any(|task| task.worker == *worker);
        let alone = self.jobs.values().filter(|job| of_worker(job)).count() == 1;
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
                    shards: task.shards.clone(),
                    lived_ms: now.saturating_sub(task.given_ms),
                    alone,
                })
                .collect();
            if died.is_empty() {
                continue;
            }
            for death in died {
                job.deaths.note(death);
            }
            job.plan_due = true;
            if job.deaths.blamed() > job.deaths_max() {
                to_blame.push(job.name().clone());
            }
        }
        self.suspects.trial.take_if(|trial| trial.worker == *worker);
        for name in to_blame {
            let Some(job) = self.jobs.get(&name) else { continue };
            let (ended, workers) = (job.deaths.blamed(), job.deaths.workers().join(", "));
            let error = format!(
                "its task ended {ended} workers ({workers}): each time their process died, and no other job ran there"
            );
            let hint = "look at the workers' logs for why (killed for want of memory, an abort), and at the query: a \
                        function that makes large values; submit the job again once this is fixed, a changed file with --change";
            self.fail(&name, error, hint.to_owned(), out);
        }
    }

    /// Tasks that a worker says it runs did not end with it.
    pub(super) fn note_alive(&mut self, tasks: &[RunningTask]) {
        for running in tasks {
            let Some(job) = self.jobs.get_mut(&running.job) else { continue };
            if job.deaths.is_alive(running.task) {
                job.plan_due = true;
            }
        }
    }

    /// Goes on with the trial that is held, or begins the next one.
    pub(super) fn hold_trial(&mut self, now: i64, out: &mut Vec<Effect>) {
        for job in self.jobs.values_mut() {
            if job.deaths.forget(now) {
                job.plan_due = true;
            }
        }
        if self.adopting {
            return;
        }
        if let Some(trial) = self.suspects.trial.clone()
            && !self.go_on(now, trial, out)
        {
            self.suspects.trial = None;
            self.plan_all_anew();
        }
        if self.suspects.trial.is_none() {
            self.begin_trial(now, out);
        }
    }

    /// False when the trial is over.
    fn go_on(&mut self, now: i64, trial: Trial, out: &mut Vec<Effect>) -> bool {
        let takes = self.workers.get(&trial.worker).is_some_and(Worker::takes_tasks);
        let heard_ms = self.workers.get(&trial.worker).map_or(i64::MIN, |worker| worker.heard_ms);
        let is_free = !self.jobs.values().flat_map(|job| job.tasks.values()).any(|task| task.worker == trial.worker);
        let Some(job) = self.jobs.get_mut(&trial.job).filter(|job| job.runs()) else { return false };
        let avoided = job.avoided_now(now).any(|(worker, _)| *worker == trial.worker);
        if let Some(task) = trial.task.and_then(|id| job.tasks.get(&id)) {
            // One that was not heard since may have died, and not be given up yet.
            if heard_ms < trial.until_ms {
                return true;
            }
            let shards = task.shards.clone();
            job.deaths.acquit(&shards);
            return false;
        }
        let shards = job.to_be_tried();
        if !takes || avoided || shards.is_empty() {
            return false;
        }
        if !is_free || now < job.pause_until_ms {
            if now >= trial.until_ms {
                job.deaths.acquit(&shards);
                return false;
            }
            return true;
        }
        self.tasks_given += 1;
        let id = TaskId { term: self.term, counter: self.tasks_given };
        // What took some time to end a worker takes it again.
        let twice_ms = job.deaths.last_lived_ms().saturating_mul(2);
        let until_ms = now + twice_ms.clamp(self.settings.probation_ms, self.settings.probation_max_ms);
        self.homes.give(id, &trial.job);
        out.push(advance::start(now, job, id, trial.worker.clone(), shards));
        self.suspects.trial = Some(Trial { task: Some(id), until_ms, ..trial });
        true
    }

    /// Gives the job that waited longest a worker of its own: one that did not die with it, if there is one, as the worker
    /// itself may be what is broken; of these the one that has least to hand on.
    fn begin_trial(&mut self, now: i64, out: &mut Vec<Effect>) {
        let waiting = self.jobs.values().filter(|job| job.runs() && !job.to_be_tried().is_empty());
        let next = waiting.min_by_key(|job| (job.deaths.tried_at_ms, job.name().clone()));
        let Some(name) = next.map(|job| job.name().clone()) else { return };
        let mut load = self.load();
        let Some(job) = self.jobs.get_mut(&name) else { return };
        if let Some(others) = job.without_avoided(now, &load) {
            load = others;
        }
        let order = |(worker, shards): &(&WorkerId, &usize)| (job.deaths.on(worker), **shards, (*worker).clone());
        let Some(worker) = load.iter().min_by_key(order).map(|(worker, _)| worker.clone()) else {
            return;
        };
        job.deaths.tried_at_ms = now;
        self.suspects.trial =
            Some(Trial { job: name, worker: worker.clone(), task: None, until_ms: now + TRIAL_WAIT_MS });
        self.release_all(&worker, out);
        self.plan_all_anew();
    }
}

impl Job {
    /// Workers that may die with its tasks alone before it fails: as many as its rounds of retries, but so many that they
    /// are no accident.
    fn deaths_max(&self) -> usize {
        (self.resolved.spec.retries_max as usize).max(SUSPECT_DEATHS)
    }

    /// Suspects that a task may take now, of a query of whole windows all that is left to read.
    pub(super) fn to_be_tried(&self) -> BTreeSet<ShardId> {
        let suspects = self.deaths.suspects();
        let open = self.shards.iter().filter(|(_, shard)| !shard.done());
        if self.resolved.whole_window {
            let all: BTreeSet<ShardId> = open.map(|(id, _)| id.clone()).collect();
            let is_suspect = self.tasks.is_empty() && !all.is_disjoint(&suspects);
            return if is_suspect { all } else { BTreeSet::new() };
        }
        let free =
            open.filter(|(id, shard)| suspects.contains(*id) && shard.task.is_none() && self.parents_ended(shard));
        free.map(|(id, _)| id.clone()).collect()
    }
}
