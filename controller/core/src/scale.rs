//! What the core shows to the scaler.
//!
//! Owns: which workers, jobs and shards count. Does not own: what the scaler makes of it
//! ([`crate::scaling`]).
//! Rule: nothing else in the core depends on the desired number of workers.

use super::*;
use crate::scaling::seen::{JobSeen, Seen, ShardSeen, TaskSeen};
use job::{Shard, Task};
use streamctl_proto::v1;

impl Core {
    /// Passes the current state to the scaler, if it is due.
    pub(super) fn scale(&mut self, now: i64) {
        if self.scaling.is_due(now) {
            let seen = self.seen();
            self.scaling.look(now, seen);
        }
    }

    /// The desired number of workers, and why, with the part of one job alone. None if there is no
    /// such job.
    pub fn scaling_status(&self, job: Option<&JobName>, limit: u32) -> Option<v1::ScalingStatus> {
        if job.is_some_and(|name| !self.jobs.contains_key(name)) {
            return None;
        }
        let workers = self
            .workers
            .values()
            .filter(|worker| worker.takes_tasks())
            .count();
        Some(self.scaling.status(workers, job, limit))
    }

    fn seen(&self) -> Seen {
        let takes = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.takes_tasks());
        let reads =
            |job: &&Job| matches!(job.wanted, DesiredState::Running | DesiredState::Draining);
        let jobs = || self.jobs.values().filter(reads);
        Seen {
            workers: takes
                .map(|(id, worker)| (id.clone(), worker.busy))
                .collect(),
            moving: self.adopting || jobs().any(|job| self.moves(job)),
            jobs: jobs().map(|job| (job.name().clone(), seen(job))).collect(),
        }
    }

    /// Some of its shards are moving, or are not assigned. A job that could not run for a while
    /// does not count.
    fn moves(&self, job: &Job) -> bool {
        let released = job
            .tasks
            .values()
            .any(|task| task.state == TaskState::Releasing);
        let pauses = !job.runs() || job.is_paused(self.now_ms) || !job.delays.is_empty();
        let free = || {
            job.shards
                .values()
                .any(|shard| is_open(job, shard) && shard.task.is_none())
        };
        released || (!pauses && free())
    }
}

/// The shard can be read now.
fn is_open(job: &Job, shard: &Shard) -> bool {
    !shard.done() && job.parents_ended(shard)
}

fn seen(job: &Job) -> JobSeen {
    let open = job
        .shards
        .values()
        .filter(|shard| is_open(job, shard))
        .count();
    let places = if job.resolved.whole_window {
        open.min(1)
    } else {
        open
    };
    let shards = |task: &Task| {
        let shard = |id| {
            job.shards
                .get(id)
                .map_or_else(ShardSeen::default, shard_seen)
        };
        task.shards.iter().map(shard).collect()
    };
    let task = |(id, task): (&TaskId, &Task)| {
        (
            *id,
            TaskSeen {
                worker: task.worker.clone(),
                work_us: task.work_us,
                shards: shards(task),
            },
        )
    };
    JobSeen {
        places,
        tasks: job.tasks.iter().map(task).collect(),
    }
}

fn shard_seen(shard: &Shard) -> ShardSeen {
    let lag_ms = if shard.ended() { 0 } else { shard.stats.lag_ms };
    ShardSeen {
        bytes: shard.stats.bytes,
        lag_ms,
    }
}
