//! An observation of the cluster: counters that only grow; the scaler uses their differences.
//!
//! Owns: the form. Does not own: where it comes from (`core::scale`).

use std::collections::BTreeMap;
use streamctl_proto::{JobName, TaskId, WorkerId};

/// The cluster at one moment.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub workers: BTreeMap<WorkerId, WorkerSeen>,
    pub jobs: BTreeMap<JobName, JobSeen>,
    /// Shards are moving from one worker to another, or are not assigned.
    pub moving: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerSeen {
    /// The sum of its reported utilizations, in thousandths.
    pub busy_permille_sum: u64,
    /// How many times it reported.
    pub times: u64,
}

impl WorkerSeen {
    /// Adds a reported utilization; a worker of an earlier version does not report it. Capped at
    /// 1,000.
    pub fn add(&mut self, busy_permille: Option<u32>) {
        let Some(permille) = busy_permille else {
            return;
        };
        self.busy_permille_sum += u64::from(permille.min(1_000));
        self.times += 1;
    }
}

#[derive(Clone, Debug, Default)]
pub struct JobSeen {
    /// Shards that different workers could read at the same time; 1 for a query that needs the
    /// whole window.
    pub places: usize,
    pub tasks: BTreeMap<TaskId, TaskSeen>,
}

#[derive(Clone, Debug)]
pub struct TaskSeen {
    pub worker: WorkerId,
    /// Time spent working on it, since it started.
    pub work_us: u64,
    /// In the same order in every observation.
    pub shards: Vec<ShardSeen>,
}

/// A shard of a task.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardSeen {
    /// Read since its task started.
    pub bytes: u64,
    pub lag_ms: u64,
}

impl Seen {
    /// Workers beyond this number would have nothing to read.
    pub fn places(&self) -> u32 {
        let places = self.jobs.values().map(|job| job.places).sum::<usize>();
        u32::try_from(places).unwrap_or(u32::MAX)
    }
}
