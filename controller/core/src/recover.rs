//! What a new leader does with running tasks.
//!
//! Rule: a task is adopted only if its reports and its positions chain to the head without a gap.
//! Every other task is cancelled, and its shards are read again.

use super::event::RunningTask;
use super::job::{Job, Shard};
use std::collections::BTreeSet;
use streamctl_proto::{Position, ShardId, WorkerId};

/// Adopts the tasks that chain to the head; returns those to cancel.
///
/// If a task turns out not to chain half-way, it is left out and all others are adopted from the
/// start. This is rare, and a copy of the job for each of a thousand tasks is expensive.
pub fn adopt(
    now: i64,
    job: &mut Job,
    mut offered: Vec<(WorkerId, RunningTask)>,
) -> Vec<(WorkerId, RunningTask)> {
    offered.sort_by_key(|(_, running)| running.task);
    let mut refused = vec![];
    loop {
        let mut trial = job.clone();
        match adopt_all(now, &mut trial, &offered) {
            Ok(unfit) => {
                *job = trial;
                let of = |(index, offer)| unfit.contains(&index).then_some(offer);
                refused.extend(offered.into_iter().enumerate().filter_map(of));
                return refused;
            }
            Err(index) => refused.push(offered.remove(index)),
        }
    }
}

/// Adopts one task after the other, parents' before children's. `Ok`: the tasks that do not fit.
/// `Err`: the task that fits but does not chain, which leaves the job half changed.
fn adopt_all(
    now: i64,
    job: &mut Job,
    offered: &[(WorkerId, RunningTask)],
) -> Result<BTreeSet<usize>, usize> {
    let mut left: BTreeSet<usize> = (0..offered.len()).collect();
    while let Some(next) = left
        .iter()
        .copied()
        .find(|index| fits(job, &offered[*index].1))
    {
        let (worker, running) = &offered[next];
        take(now, job, worker, running).map_err(|_| next)?;
        left.remove(&next);
    }
    Ok(left)
}

/// The task's shards are free and at the position where the task began or where its reports up to
/// the head leave them, and none is read before its parents' end (I5).
fn fits(job: &Job, running: &RunningTask) -> bool {
    // A task must have shards, and its job has it only once, even if another worker also reports it
    // as running. A task of an earlier version of the job, or of an earlier job with its name, does
    // not fit, because its reports do not belong to this job (I9).
    let new = !running.base.is_empty()
        && !job.tasks.contains_key(&running.task)
        && running.is_of(&job.resolved);
    new && running.base.keys().all(|id| {
        let Some(shard) = job.shards.get(id) else {
            return job.is_replayed(id);
        };
        let after = |parent| {
            running.base.contains_key(parent) || job.shards.get(parent).is_none_or(Shard::ended)
        };
        shard.task.is_none()
            && shard.reached == stands_at(job, running, id)
            && shard.parents.iter().all(after)
    })
}

/// The position of a shard of the task after the reports that the head already holds.
fn stands_at(job: &Job, running: &RunningTask, id: &ShardId) -> Position {
    let held = running
        .reports
        .iter()
        .filter(|report| job.head_end.is_past(report.window));
    let last = held.filter_map(|report| report.ranges.get(id)).next_back();
    let position = last.map_or_else(
        || running.base.get(id).cloned(),
        |range| Some(range.to.clone()),
    );
    let position = position.unwrap_or(Position::Start);
    let ended = running
        .ended
        .iter()
        .any(|ended| ended.shard == *id && ended.last == position);
    let shard_ended = job
        .shards
        .get(id)
        .is_some_and(|shard| shard.reached == Position::End);
    if ended && shard_ended {
        Position::End
    } else {
        position
    }
}

fn take(
    now: i64,
    job: &mut Job,
    worker: &WorkerId,
    running: &RunningTask,
) -> Result<(), &'static str> {
    let shards = running.base.keys().cloned().collect();
    job.add_task(
        now,
        running.task,
        worker.clone(),
        shards,
        running.retention_ms,
    );
    for (id, gap) in &running.lost {
        if let Some(shard) = job.shards.get_mut(id) {
            shard.note_lost(Some(*gap));
        }
    }
    for (window, lookups) in running
        .windows
        .iter()
        .filter(|(window, _)| !job.head_end.is_past(*window))
    {
        if !job.has_room_for(*window) {
            return Err("too many windows are open");
        }
        let open = job.windows.entry(*window).or_default();
        if open.lookups.is_empty() {
            open.lookups.clone_from(lookups);
        } else if open.lookups != *lookups {
            return Err("it joins an open window with other lookup versions");
        }
        open.readers.insert(running.task);
    }
    for ended in &running.ended {
        job.end_shard(ended);
    }
    for report in &running.reports {
        job.accept(report)?;
    }
    job.progress(running.task, running.watermark);
    if running.released {
        job.remove_task(running.task);
    }
    Ok(())
}
