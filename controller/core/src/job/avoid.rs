//! Workers that are avoided for a job, because a system that the job needs does not answer them or
//! refuses them.
//!
//! Owns: which workers are avoided, for how long, and when refusals are the job's fault. Does not
//! own: where its tasks run instead ([`super::super::assign`]).
//! Rule: one worker, or one moment, never fails a job. It fails if all workers that could run it
//! are refused repeatedly.

use super::super::event::Place;
use super::Job;
use std::collections::{BTreeMap, BTreeSet};
use streamctl_proto::{WorkerId, v1};

/// Rounds in which every worker is refused before the job fails, if the same place refuses at least
/// two workers.
pub const REFUSAL_ROUNDS_AGREED_MAX: u32 = 5;
/// The same limit if only one worker is refused: its credentials may be about to be renewed.
pub const REFUSAL_ROUNDS_ALONE_MAX: u32 = 15;
/// If the same place refuses this many workers and no other worker has a task of the job, they
/// count as all workers.
pub const REFUSED_WORKERS_MAX: usize = 5;

/// Why a worker is avoided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AvoidedFor {
    /// A system that the task needs does not answer the worker.
    NoAnswer { error: String },
    Refused {
        place: Place,
        error: String,
        hint: String,
    },
}

/// An avoided worker.
#[derive(Clone, Debug)]
pub struct Avoided {
    pub why: AvoidedFor,
    /// Other workers are preferred until then.
    pub until_ms: i64,
    /// How many times in a row it was avoided, without a report in between.
    times: u32,
    /// The time is over, and its share of the shards was planned again.
    forgiven: bool,
}

/// How long a worker is avoided.
#[derive(Clone, Copy, Debug)]
pub struct AvoidTimes {
    pub first_ms: i64,
    /// The maximum; the time doubles with each repetition.
    pub max_ms: i64,
}

/// What a refusal means for the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Elsewhere,
    /// Every worker was refused. All are tried again after this many rounds of waiting.
    Round(u32),
    /// The limit of rounds is reached.
    Final,
}

impl Avoided {
    fn refused_by(&self) -> Option<Place> {
        match &self.why {
            AvoidedFor::Refused { place, .. } => Some(*place),
            AvoidedFor::NoAnswer { .. } => None,
        }
    }

    pub fn to_wire(&self, worker: &WorkerId) -> v1::AvoidedWorker {
        let (error, hint) = match &self.why {
            AvoidedFor::NoAnswer { error } => (error.clone(), String::new()),
            AvoidedFor::Refused { error, hint, .. } => (error.clone(), hint.clone()),
        };
        v1::AvoidedWorker {
            worker: worker.to_string(),
            error,
            hint,
            until_ms: self.until_ms,
        }
    }
}

impl Job {
    /// Avoids a worker for a while, longer with each repetition in a row, so that it does not take
    /// shards from healthy workers repeatedly.
    pub fn avoid(&mut self, worker: &WorkerId, now: i64, times: AvoidTimes, why: AvoidedFor) {
        if let Some(avoided) = self
            .avoided
            .get_mut(worker)
            .filter(|avoided| avoided.until_ms > now)
        {
            // Tasks that end together end for one reason, which counts once.
            avoided.why = why;
            return;
        }
        let before = self.avoided.get(worker).map_or(0, |avoided| avoided.times);
        let doubled = 1_i64.checked_shl(before).unwrap_or(i64::MAX);
        let until_ms = now + times.first_ms.saturating_mul(doubled).min(times.max_ms);
        let avoided = Avoided {
            why,
            until_ms,
            times: before + 1,
            forgiven: false,
        };
        self.avoided.insert(worker.clone(), avoided);
        self.plan_due = true;
    }

    /// Workers that are avoided now.
    pub fn avoided_now(&self, now: i64) -> impl Iterator<Item = (&WorkerId, &Avoided)> {
        self.avoided
            .iter()
            .filter(move |(_, avoided)| avoided.until_ms > now)
    }

    /// Weighs a refusal by this place. `takers`: the workers that may take tasks.
    pub fn weigh_refusals(
        &mut self,
        now: i64,
        place: Place,
        takers: &BTreeSet<WorkerId>,
    ) -> Refusal {
        let refused: BTreeMap<&WorkerId, Place> = self
            .avoided_now(now)
            .filter_map(|(worker, avoided)| Some((worker, avoided.refused_by()?)))
            .collect();
        let mut by_place: BTreeMap<Place, usize> = BTreeMap::new();
        for place in refused.values() {
            *by_place.entry(*place).or_default() += 1;
        }
        let agreeing = by_place.values().copied().max().unwrap_or(0);
        let runs_elsewhere = self
            .tasks
            .values()
            .any(|task| !refused.contains_key(&task.worker));
        let everybody =
            !takers.is_empty() && takers.iter().all(|worker| refused.contains_key(worker));
        let enough = agreeing >= REFUSED_WORKERS_MAX && !runs_elsewhere;
        if !everybody && !enough {
            return Refusal::Elsewhere;
        }
        self.refusal_rounds += 1;
        let rounds_max = match place {
            // Time does not change the memory limit of a worker.
            Place::Memory => 0,
            // A worker that runs functions may come, or come back.
            Place::Functions => u32::MAX,
            _ if agreeing >= 2 => REFUSAL_ROUNDS_AGREED_MAX,
            _ => REFUSAL_ROUNDS_ALONE_MAX,
        };
        if self.refusal_rounds > rounds_max {
            Refusal::Final
        } else {
            Refusal::Round(self.refusal_rounds)
        }
    }

    /// A worker sent a report, and `staged` an object: the systems that the job needs serve the
    /// worker. Without an object, the report proves nothing about the sink.
    pub fn vouch_for(&mut self, worker: &WorkerId, staged: bool) {
        // If one report succeeded and another was refused, the next may be refused too.
        if self
            .refusals
            .get(worker)
            .is_some_and(|refusals| refusals.since_commit)
        {
            return;
        }
        let Some(avoided) = self.avoided.get(worker) else {
            return;
        };
        if staged
            || avoided
                .refused_by()
                .is_some_and(|place| place != Place::Sink)
        {
            self.avoided.remove(worker);
            self.plan_due = true;
        }
    }

    /// Lets workers take tasks again once they were avoided for long enough. The repetitions are
    /// remembered for the same time again.
    pub fn forgive_workers(&mut self, now: i64, times: AvoidTimes) {
        for avoided in self
            .avoided
            .values_mut()
            .filter(|avoided| avoided.until_ms <= now && !avoided.forgiven)
        {
            avoided.forgiven = true;
            self.plan_due = true;
        }
        self.avoided
            .retain(|_, avoided| avoided.until_ms.saturating_add(times.max_ms) > now);
    }

    /// The load without the workers to avoid, unless these are all workers.
    pub fn without_avoided(
        &mut self,
        now: i64,
        load: &BTreeMap<WorkerId, usize>,
    ) -> Option<BTreeMap<WorkerId, usize>> {
        let avoided: BTreeSet<&WorkerId> =
            self.avoided_now(now).map(|(worker, _)| worker).collect();
        if avoided.is_empty() {
            return None;
        }
        let others: BTreeMap<WorkerId, usize> = load
            .iter()
            .filter(|(worker, _)| !avoided.contains(worker))
            .map(|(w, shards)| (w.clone(), *shards))
            .collect();
        if !others.is_empty() {
            return Some(others);
        }
        for avoided in self.avoided.values_mut() {
            avoided.until_ms = avoided.until_ms.min(now);
            avoided.forgiven = true;
        }
        None
    }
}
