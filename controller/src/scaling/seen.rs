//! What the scaler sees of the cluster at one moment: sums that only grow, of which it takes
//! differences.
//!
//! Owns: the form. Does not own: where it comes from (`core::scale`).

use std::collections::BTreeMap;
use streamctl_proto::{JobName, TaskId, WorkerId};

/// The cluster at one moment.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub workers: BTreeMap<WorkerId, WorkerSeen>,
    pub jobs: BTreeMap<JobName, JobSeen>,
    /// Shards are on their way from one worker to another, or nobody has them.
    pub moving: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerSeen {
    /// How busy it said that it was, in thousandths, added up.
    pub busy_permille_sum: u64,
    /// How often it said so.
    pub times: u64,
}

impl WorkerSeen {
    /// It said how busy it was; a worker of an earlier version does not. No share is more than all.
    pub fn said(&mut self, busy_permille: Option<u32>) {
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
    /// Time for which it was worked on, since it began.
    pub work_us: u64,
    /// In the same order every time.
    pub shards: Vec<ShardSeen>,
}

/// A shard of a task.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShardSeen {
    /// Read since its task began.
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
