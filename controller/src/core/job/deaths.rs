//! Workers that died while they had a task of the job.
//!
//! Owns: which shards were in those tasks, which of them are suspects, when the job is to blame. Does not own: where
//! suspects run ([`super::super::suspects`]).
//! Rule: a death that other jobs may have caused makes a suspect and never fails a job; one of a worker that had tasks of
//! this job alone counts.

use std::collections::{BTreeMap, BTreeSet};
use streamctl_proto::{ShardId, TaskId, WorkerId};

/// Deaths of workers that a shard must have been in before it runs on a worker of its own.
pub const SUSPECT_DEATHS: usize = 2;
/// Deaths that are remembered of one job; the oldest is forgotten first.
pub const DEATHS_MAX: usize = 256;
/// For how long a death is remembered.
pub const DEATH_MEMORY_MS: i64 = 3_600_000;

/// A worker died and had this task.
#[derive(Clone, Debug)]
pub struct Death {
    /// When that was noticed.
    pub at_ms: i64,
    /// The task.
    pub task: TaskId,
    /// Its worker.
    pub worker: WorkerId,
    /// Its shards, as far as they are not acquitted.
    pub shards: BTreeSet<ShardId>,
    /// For how long the task had run.
    pub lived_ms: i64,
    /// The worker had no task of another job.
    pub alone: bool,
}

/// The deaths that a job was in.
#[derive(Clone, Debug, Default)]
pub struct Deaths {
    all: Vec<Death>,
    /// When its suspects were last given a worker of their own.
    pub tried_at_ms: i64,
}

impl Deaths {
    /// A worker died.
    pub fn note(&mut self, death: Death) {
        if self.all.len() >= DEATHS_MAX {
            self.all.remove(0);
        }
        self.all.push(death);
    }

    /// The task lives after all: its worker had only been cut off. True when it counted as dead.
    pub fn is_alive(&mut self, task: TaskId) -> bool {
        let before = self.all.len();
        self.all.retain(|death| death.task != task);
        self.all.len() < before
    }

    /// Forgets what was long ago. True when there was something.
    pub fn forget(&mut self, now: i64) -> bool {
        let before = self.all.len();
        self.all.retain(|death| death.at_ms.saturating_add(DEATH_MEMORY_MS) > now);
        self.all.len() < before
    }

    /// The job commits: it makes progress, so that no death before is its fault. Its suspects stay suspects.
    pub fn committed(&mut self) {
        for death in &mut self.all {
            death.alone = false;
        }
    }

    /// These shards have run alone for long enough.
    pub fn acquit(&mut self, shards: &BTreeSet<ShardId>) {
        for death in &mut self.all {
            death.shards.retain(|shard| !shards.contains(shard));
        }
        self.all.retain(|death| !death.shards.is_empty());
    }

    /// Everything begins anew.
    pub fn clear(&mut self) {
        self.all.clear();
    }

    /// Shards that were in too many deaths to run beside others.
    pub fn suspects(&self) -> BTreeSet<ShardId> {
        let counts = self.per_shard(|_| true);
        counts.into_iter().filter(|(_, deaths)| *deaths >= SUSPECT_DEATHS).map(|(shard, _)| shard.clone()).collect()
    }

    /// How many workers died with tasks of this job alone, of the shard that has the most.
    pub fn blamed(&self) -> usize {
        self.per_shard(|death| death.alone).into_values().max().unwrap_or(0)
    }

    /// How often this worker died with tasks of the job.
    pub fn on(&self, worker: &WorkerId) -> usize {
        self.all.iter().filter(|death| death.worker == *worker).count()
    }

    /// The workers that died, oldest first, each once.
    pub fn workers(&self) -> Vec<String> {
        let mut names: Vec<String> = vec![];
        for death in &self.all {
            let name = death.worker.to_string();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// For how long the task of the last death had run.
    pub fn last_lived_ms(&self) -> i64 {
        self.all.last().map_or(0, |death| death.lived_ms)
    }

    fn per_shard(&self, counts: impl Fn(&Death) -> bool) -> BTreeMap<&ShardId, usize> {
        let mut deaths: BTreeMap<&ShardId, usize> = BTreeMap::new();
        for shard in self.all.iter().filter(|death| counts(death)).flat_map(|death| &death.shards) {
            *deaths.entry(shard).or_default() += 1;
        }
        deaths
    }
}
