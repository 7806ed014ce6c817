//! Workers that are passed over for a job: what it needs does not answer them, or refuses them.
//!
//! Owns: who is avoided, for how long, and when refusals are the job's fault. Does not own: where
//! its tasks go instead ([`super::super::assign`]).
//! Rule: one worker, or one moment, never ends a job. It fails when all who could run it are
//! refused, again and again.

use super::super::event::Place;
use super::Job;
use std::collections::{BTreeMap, BTreeSet};
use streamctl_proto::{WorkerId, v1};

/// Rounds in which every worker is refused before the job fails, when at least two workers are
/// refused by the same place.
pub const REFUSAL_ROUNDS_AGREED_MAX: u32 = 5;
/// The same when only one worker says so: its credentials may just be renewed.
pub const REFUSAL_ROUNDS_ALONE_MAX: u32 = 15;
/// So many workers refused by the same place count as all of them, if nobody else has a task of the
/// job.
pub const REFUSED_WORKERS_MAX: usize = 5;

/// Why a worker is passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AvoidedFor {
    /// What the task needs does not answer it.
    NoAnswer { error: String },
    Refused {
        place: Place,
        error: String,
        hint: String,
    },
}

/// A worker that is passed over.
#[derive(Clone, Debug)]
pub struct Avoided {
    pub why: AvoidedFor,
    /// Others are preferred to it until then.
    pub until_ms: i64,
    /// How often it came to this without a report in between.
    times: u32,
    /// The time is over, and its share of the shards was planned anew.
    forgiven: bool,
}

/// How long a worker is passed over.
#[derive(Clone, Copy, Debug)]
pub struct AvoidTimes {
    pub first_ms: i64,
    /// At most; it doubles each time.
    pub max_ms: i64,
}

/// What a refusal means for the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Elsewhere,
    /// Every worker was refused: all are asked again after this many rounds of waiting.
    Round(u32),
    /// It was so too often.
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
    /// Passes a worker over for a while, longer each time in a row: it must not take shards from
    /// healthy workers again and again.
    pub fn avoid(&mut self, worker: &WorkerId, now: i64, times: AvoidTimes, why: AvoidedFor) {
        if let Some(avoided) = self
            .avoided
            .get_mut(worker)
            .filter(|avoided| avoided.until_ms > now)
        {
            // Tasks that end together end for one reason: it counts once.
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

    /// Workers that are passed over at the moment.
    pub fn avoided_now(&self, now: i64) -> impl Iterator<Item = (&WorkerId, &Avoided)> {
        self.avoided
            .iter()
            .filter(move |(_, avoided)| avoided.until_ms > now)
    }

    /// What a refusal by this place means; `takers`: the workers that may take tasks.
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
            // Time does not change it.
            Place::Memory => 0,
            _ if agreeing >= 2 => REFUSAL_ROUNDS_AGREED_MAX,
            _ => REFUSAL_ROUNDS_ALONE_MAX,
        };
        if self.refusal_rounds > rounds_max {
            Refusal::Final
        } else {
            Refusal::Round(self.refusal_rounds)
        }
    }

    /// A worker reports, and `staged` something: what the job needs serves it. Without an object
    /// this says nothing of the sink.
    pub fn vouch_for(&mut self, worker: &WorkerId, staged: bool) {
        // One report is good, and another one was refused: the next may be again.
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

    /// Workers that were avoided for long enough may take tasks again. How often it came to that is
    /// remembered for as long again.
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

    /// The load without workers that are to be avoided, if there are any. When that leaves nobody,
    /// all are asked again.
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
