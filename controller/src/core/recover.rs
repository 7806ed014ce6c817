//! What a new leader does with tasks that already run.
//!
//! Rule: a task is adopted only if what it reported, and what it goes on from, chains on to the head without a gap;
//! everything else is cancelled and read again.

use super::event::RunningTask;
use super::job::{Job, Shard};
use streamctl_proto::{Position, ShardId, WorkerId};

/// Adopts what chains on to the head; gives back what must be cancelled.
pub fn adopt(job: &mut Job, mut offered: Vec<(WorkerId, RunningTask)>) -> Vec<(WorkerId, RunningTask)> {
    offered.sort_by_key(|(_, running)| running.task);
    let mut refused = vec![];
    loop {
        let Some(next) = offered.iter().position(|(_, running)| fits(job, running)) else {
            refused.extend(offered);
            return refused;
        };
        let (worker, running) = offered.remove(next);
        let mut trial = job.clone();
        if take(&mut trial, &worker, &running).is_ok() {
            *job = trial;
        } else {
            refused.push((worker, running));
        }
    }
}

/// The task's shards are free, stand where it began or where its reports up to the head leave them, and none is read
/// before its parents' end (I5).
fn fits(job: &Job, running: &RunningTask) -> bool {
    // A task has shards, and is one of them only once, whoever else says that it runs it.
    let new = !running.base.is_empty() && !job.tasks.contains_key(&running.task);
    new && running.base.keys().all(|id| {
        let Some(shard) = job.shards.get(id) else { return false };
        let after = |parent| running.base.contains_key(parent) || job.shards.get(parent).is_none_or(Shard::ended);
        shard.task.is_none() && shard.reached == stands_at(job, running, id) && shard.parents.iter().all(after)
    })
}

/// Where a shard of the task stands after the reports that the head holds already.
fn stands_at(job: &Job, running: &RunningTask, id: &ShardId) -> Position {
    let held = running.reports.iter().filter(|report| report.window.end_ms <= job.head_end_ms);
    let last = held.filter_map(|report| report.ranges.get(id)).next_back();
    let position = last.map_or_else(|| running.base.get(id).cloned(), |range| Some(range.to.clone()));
    let position = position.unwrap_or(Position::Start);
    let ended = running.ended.iter().any(|ended| ended.shard == *id && ended.last == position);
    let shard_ended = job.shards.get(id).is_some_and(|shard| shard.reached == Position::End);
    if ended && shard_ended { Position::End } else { position }
}

fn take(job: &mut Job, worker: &WorkerId, running: &RunningTask) -> Result<(), &'static str> {
    job.add_task(running.task, worker.clone(), running.base.keys().cloned().collect());
    for (window, lookups) in running.windows.iter().filter(|(window, _)| window.end_ms > job.head_end_ms) {
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
    job.progress(running.task, running.watermark_ms);
    if running.released {
        job.remove_task(running.task);
    }
    Ok(())
}
