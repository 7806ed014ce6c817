//! Shards of one job that bring much, spread over its workers.
//!
//! Owns: whether the shards of two workers are to be given out again. Does not own: which worker
//! gets which (`assign`), what a shard brings (`job::byte_rate`).
//! Rule: numbers of shards stay equal, whatever shards bring. Shards are moved rarely and only for a
//! clear gain: each move costs a moment of the window.

use super::Load;
use super::assign::{Filled, Filling};
use super::job::{Job, TaskState};
use std::collections::{BTreeMap, BTreeSet};
use streamctl_proto::{ShardId, TaskId, WorkerId};

/// Shards that bring less in all are not moved: any worker carries them.
const BYTES_PER_SECOND_MIN: u64 = 1_000_000;
/// The busiest worker must bring at least this much more than its equal part, in hundredths.
const UNEVEN_PERCENT: u64 = 130;
/// What the busiest of the two would have afterwards must be at most this part of what it has.
const GAIN_PERCENT: u64 = 85;

/// The tasks to release so that the shards of the worker that gets most bytes, and of the one that
/// gets least, are given out again; empty if that would not help.
pub fn uneven(job: &Job, load: &Load) -> Vec<TaskId> {
    let is_calm = |state: TaskState| state == TaskState::Running;
    if job.resolved.whole_window || !job.tasks.values().all(|task| is_calm(task.state)) {
        return vec![];
    }
    let mut brings: BTreeMap<&WorkerId, u64> = BTreeMap::new();
    for task in job.tasks.values() {
        if !load.contains_key(&task.worker) {
            return vec![];
        }
        let brought = brings.entry(&task.worker).or_default();
        for shard in task.shards.iter().filter_map(|id| job.shards.get(id)) {
            if shard.done() {
                continue;
            }
            // What is not measured yet may be anything.
            let Some(rate) = shard.byte_rate.per_second() else {
                return vec![];
            };
            *brought = brought.saturating_add(rate);
        }
    }
    let all = brings
        .values()
        .fold(0_u64, |sum, more| sum.saturating_add(*more));
    let busiest = brings.iter().max_by_key(|(_, bytes)| **bytes);
    let idlest = brings.iter().min_by_key(|(_, bytes)| **bytes);
    let (Some((busiest, most)), Some((idlest, _))) = (busiest, idlest) else {
        return vec![];
    };
    let equal = all / brings.len().max(1) as u64;
    let is_uneven = most.saturating_mul(100) > equal.saturating_mul(UNEVEN_PERCENT);
    if all < BYTES_PER_SECOND_MIN || busiest == idlest || !is_uneven {
        return vec![];
    }
    let of_both = |worker: &WorkerId| worker == *busiest || worker == *idlest;
    let tasks = job.tasks.iter().filter(|(_, task)| of_both(&task.worker));
    let tasks: Vec<_> = tasks.collect();
    let shards: BTreeSet<&ShardId> = tasks.iter().flat_map(|(_, task)| &task.shards).collect();
    let afterwards = most_afterwards(job, &shards);
    if afterwards.saturating_mul(100) > most.saturating_mul(GAIN_PERCENT) {
        return vec![];
    }
    tasks.into_iter().map(|(id, _)| *id).collect()
}

/// What the busier of two workers has when these shards are given out between them.
fn most_afterwards(job: &Job, shards: &BTreeSet<&ShardId>) -> u64 {
    let is_open = |id: &&&ShardId| job.shards.get(**id).is_some_and(|shard| !shard.done());
    let open = shards.iter().filter(is_open);
    let mut rates: Vec<u64> = open.map(|id| job.rate_of(id)).collect();
    rates.sort_unstable_by(|a, b| b.cmp(a));
    let both = [0, 1].map(|worker| Filled {
        bytes: 0,
        count: 0,
        load: 0,
        worker,
    });
    let mut filling = Filling::new(both.into_iter(), rates.len());
    for rate in rates {
        filling.take(None, rate);
    }
    filling.most()
}
