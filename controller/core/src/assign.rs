//! Which worker reads which shards: a pure plan with the fewest moves.
//!
//! Owns: the plan for one job at one moment; numbers of shards are equal, and among the workers with
//! room the one that gets least bytes takes the next. Does not own: when to plan (`Core`), moving
//! shards because of their bytes (`spread`).
//! Rule: planning again after the plan is carried out plans nothing (I8).

use super::job::{Job, Shard, TaskState};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use streamctl_proto::{ShardId, TaskId, WorkerId};

/// If a worker has more tasks of one job than this, they are merged into one.
pub const TASKS_PER_WORKER_MAX: usize = 4;

/// The plan for one job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// New tasks: the worker and its shards.
    pub start: Vec<(WorkerId, BTreeSet<ShardId>)>,
    /// Tasks whose shards belong to another worker.
    pub release: Vec<TaskId>,
}

/// Plans one job. `load` is the number of shards, over all jobs, of each worker that may take more.
pub fn plan(job: &Job, load: &BTreeMap<WorkerId, usize>) -> Plan {
    if load.is_empty() {
        return Plan::default();
    }
    if job.resolved.whole_window {
        plan_together(job, load)
    } else {
        plan_spread(job, load)
    }
}

/// Shards that a new task may take now. If a worker releases several tasks, their shards wait for
/// the last of them; otherwise they would return in as many pieces.
fn ready(job: &Job, load: &BTreeMap<WorkerId, usize>) -> BTreeSet<ShardId> {
    let releasing = job
        .tasks
        .values()
        .filter(|task| task.state == TaskState::Releasing)
        .map(|task| &task.worker);
    let releasing: BTreeSet<&WorkerId> = releasing
        .filter(|worker| load.contains_key(*worker))
        .collect();
    // Shards that are spread again are given out together.
    if job.is_spreading && !releasing.is_empty() {
        return BTreeSet::new();
    }
    let waits = |shard: &Shard| {
        shard
            .last_worker
            .as_ref()
            .is_some_and(|worker| releasing.contains(worker))
    };
    let free = |shard: &Shard| {
        shard.task.is_none() && !shard.done() && job.parents_ended(shard) && !waits(shard)
    };
    let suspects = job.deaths.suspects();
    let given = job
        .shards
        .iter()
        .filter(|(id, shard)| free(shard) && !job.is_drained(shard) && !suspects.contains(*id));
    given.map(|(id, _)| id.clone()).collect()
}

/// Assigns all shards that are not done to one task, children included: the task reads them after
/// their parents.
fn plan_together(job: &Job, load: &BTreeMap<WorkerId, usize>) -> Plan {
    let open: BTreeSet<ShardId> = job
        .shards
        .iter()
        .filter(|(_, s)| !s.done())
        .map(|(id, _)| id.clone())
        .collect();
    let outside = open
        .iter()
        .any(|id| job.shards[id].task.is_none() && !job.is_drained(&job.shards[id]));
    let is_suspect = job.tasks.is_empty() && !open.is_disjoint(&job.deaths.suspects());
    if !outside || is_suspect {
        return Plan::default();
    }
    if !job.tasks.is_empty() {
        let running = job
            .tasks
            .iter()
            .filter(|(_, task)| task.state == TaskState::Running);
        return Plan {
            start: vec![],
            release: running.map(|(id, _)| *id).collect(),
        };
    }
    let last = open
        .iter()
        .find_map(|id| job.shards[id].last_worker.clone())
        .filter(|worker| load.contains_key(worker));
    let least = || {
        load.iter()
            .min_by_key(|(worker, shards)| (**shards, (*worker).clone()))
            .map(|(w, _)| w.clone())
    };
    match last.or_else(least) {
        Some(worker) => Plan {
            start: vec![(worker, open)],
            release: vec![],
        },
        None => Plan::default(),
    }
}

fn plan_spread(job: &Job, load: &BTreeMap<WorkerId, usize>) -> Plan {
    let mut have: BTreeMap<&WorkerId, usize> = load.keys().map(|worker| (worker, 0)).collect();
    for task in job.tasks.values() {
        if let Some(count) = have.get_mut(&task.worker) {
            *count += task
                .shards
                .iter()
                .filter(|id| job.shards.get(*id).is_some_and(|s| !s.done()))
                .count();
        }
    }
    let ready = ready(job, load);
    if ready.is_empty() {
        return Plan {
            start: vec![],
            release: to_release(job, &have),
        };
    }
    let mut wish = have.clone();
    for last in ready
        .iter()
        .filter_map(|id| job.shards[id].last_worker.as_ref())
    {
        if let Some(count) = wish.get_mut(last) {
            *count += 1;
        }
    }
    let share = shares(&wish, have.values().sum::<usize>() + ready.len());
    let mut brings: BTreeMap<&WorkerId, u64> = BTreeMap::new();
    for task in job.tasks.values() {
        let rates = task.shards.iter().map(|id| job.rate_of(id));
        let bytes = brings.entry(&task.worker).or_default();
        *bytes = rates.fold(*bytes, u64::saturating_add);
    }
    let mut filling = Filling::new(
        have.iter().map(|(worker, count)| Filled {
            bytes: brings.get(worker).copied().unwrap_or(0),
            count: *count,
            load: load[*worker],
            worker: *worker,
        }),
        ready.len(),
    );
    let mut given: BTreeMap<WorkerId, BTreeSet<ShardId>> = BTreeMap::new();
    // The shards that bring most come first, so that the others even them out.
    let mut in_order: Vec<(Reverse<u64>, ShardId)> = ready
        .into_iter()
        .map(|id| (Reverse(job.rate_of(&id)), id))
        .collect();
    in_order.sort_unstable();
    for (Reverse(rate), id) in in_order {
        // A released shard begins anew wherever it goes: what it brings decides, if that is known.
        let shard = &job.shards[&id];
        let is_measured = job.is_spreading || shard.byte_rate.per_second().is_some();
        let last = shard.last_worker.as_ref().filter(|_| !is_measured);
        let last = last.and_then(|worker| have.get_key_value(worker));
        let last = last.map(|(worker, _)| *worker);
        let last = last.filter(|worker| filling.count(worker) < share[*worker]);
        if let Some(worker) = filling.take(last, rate) {
            given.entry(worker.clone()).or_default().insert(id);
        }
    }
    Plan {
        start: given.into_iter().collect(),
        release: vec![],
    }
}

/// A worker, and what it has of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Filled<W> {
    /// Bytes per second of its shards.
    pub bytes: u64,
    pub count: usize,
    /// Its shards over all jobs, when the filling began.
    pub load: usize,
    pub worker: W,
}

/// Workers that are given shards one after the other. In the end their numbers of shards are equal,
/// or differ by one. Of the workers with room, the one with the least bytes is next, then the one
/// with the fewest shards of the job, then of all jobs.
pub(super) struct Filling<W> {
    order: BTreeSet<Filled<W>>,
    of: BTreeMap<W, Filled<W>>,
    each: usize,
    /// How many workers have one more.
    left: usize,
    above: usize,
}

impl<W: Ord + Copy> Filling<W> {
    /// `shards` are to be given out.
    pub fn new(workers: impl Iterator<Item = Filled<W>>, shards: usize) -> Self {
        let of: BTreeMap<W, Filled<W>> = workers.map(|filled| (filled.worker, filled)).collect();
        let all = of.values().map(|filled| filled.count).sum::<usize>() + shards;
        let each = all / of.len().max(1);
        Self {
            order: of.values().copied().collect(),
            each,
            left: all % of.len().max(1),
            above: of.values().filter(|filled| filled.count > each).count(),
            of,
        }
    }

    pub fn count(&self, worker: &W) -> usize {
        self.of.get(worker).map_or(0, |filled| filled.count)
    }

    /// The worker with the most bytes.
    pub fn most(&self) -> u64 {
        self.of
            .values()
            .map(|filled| filled.bytes)
            .max()
            .unwrap_or(0)
    }

    /// Gives a shard to this worker, or else to the next one with room.
    pub fn take(&mut self, worker: Option<W>, rate: u64) -> Option<W> {
        let chosen = worker.or_else(|| self.next())?;
        let filled = self.of.get_mut(&chosen)?;
        self.order.remove(filled);
        filled.bytes = filled.bytes.saturating_add(rate);
        filled.count += 1;
        self.above += usize::from(filled.count == self.each + 1);
        self.order.insert(*filled);
        Some(chosen)
    }

    /// A worker without room never has room again.
    fn next(&mut self) -> Option<W> {
        loop {
            let first = *self.order.first()?;
            let is_last_one = first.count == self.each && self.above < self.left;
            if first.count < self.each || is_last_one {
                return Some(first.worker);
            }
            self.order.pop_first();
        }
    }
}

/// The number of shards that each worker should have: equal shares; the remainder goes to the
/// workers with the largest wish. Assigning and releasing use the same rule, so a shard that was
/// assigned is not released again.
fn shares(wish: &BTreeMap<&WorkerId, usize>, total: usize) -> BTreeMap<WorkerId, usize> {
    let mut order: Vec<(&WorkerId, usize)> = wish
        .iter()
        .map(|(worker, count)| (*worker, *count))
        .collect();
    order.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let each = total / order.len();
    let left = total % order.len();
    let share = |(index, (worker, _)): (usize, (&WorkerId, usize))| {
        (worker.clone(), each + usize::from(index < left))
    };
    order.into_iter().enumerate().map(share).collect()
}

/// Tasks to release. If a worker exceeds its share by more than a tenth while another has at least
/// two shards less, release as few tasks as bring it down to its share. If a worker has too many
/// small tasks, release those.
fn to_release(job: &Job, have: &BTreeMap<&WorkerId, usize>) -> Vec<TaskId> {
    let calm = job
        .tasks
        .values()
        .all(|task| task.state == TaskState::Running);
    if !calm {
        return vec![];
    }
    let share = shares(have, have.values().sum());
    let least = have.values().min().copied().unwrap_or(0);
    let mut tasks_of: BTreeMap<&WorkerId, Vec<(&TaskId, usize)>> = BTreeMap::new();
    for (id, task) in &job.tasks {
        tasks_of
            .entry(&task.worker)
            .or_default()
            .push((id, task.shards.len()));
    }
    let mut release = vec![];
    for (worker, count) in have {
        let tasks = tasks_of.remove(worker).unwrap_or_default();
        let over = count.saturating_sub(share[*worker]);
        if over * 10 > share[*worker] && *count > least + 1 {
            let mut spare = over;
            let mut smallest = tasks.clone();
            smallest.sort_by_key(|(id, shards)| (*shards, **id));
            for (id, shards) in smallest {
                release.push(*id);
                spare = spare.saturating_sub(shards);
                if spare == 0 {
                    break;
                }
            }
        } else if tasks.len() > TASKS_PER_WORKER_MAX {
            release.extend(tasks.iter().map(|(id, _)| **id));
        }
    }
    release
}
