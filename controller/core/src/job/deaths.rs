//! Workers that died while they had a task of the job.
//!
//! Owns: which shards were in those tasks, which of them are suspects, when the job is to blame.
//! Does not own: where suspects run ([`super::super::suspects`]).
//! Rule: if other jobs may have caused a death, it makes suspects but never fails a job. Only the
//! death of a worker that had tasks of this job alone counts.

use crate::CoreSettings;
use std::collections::{BTreeMap, BTreeSet};
use streamctl_proto::{ShardId, TaskId, WorkerId};

/// Deaths of workers that involve a shard before the shard runs on a worker of its own.
pub const SUSPECT_DEATHS: usize = 2;
/// Most deaths that are remembered of one job; the oldest is dropped first.
pub const DEATHS_MAX: usize = 256;
/// How long a death is remembered.
pub const DEATH_MEMORY_MS: i64 = 3_600_000;
/// How many times a probation doubles at most, once for each earlier acquittal.
const DOUBLINGS_MAX: u32 = 2;

/// The death of a worker that had this task.
#[derive(Clone, Debug)]
pub struct Death {
    pub at_ms: i64,
    pub task: TaskId,
    pub worker: WorkerId,
    /// The worker's process; 0: not sent.
    pub process: u64,
    /// Its shards, except those that were acquitted.
    pub shards: BTreeSet<ShardId>,
    /// How long the task had run.
    pub lived_ms: i64,
    /// The worker had no task of another job, and no other worker was lost with it.
    pub alone: bool,
}

/// The deaths that involve a job.
#[derive(Clone, Debug, Default)]
pub struct Deaths {
    all: Vec<Death>,
    /// When its suspects were last tried.
    pub tried_at_ms: i64,
    /// How many jobs are tried together at most, this one included. None: no limit.
    together_max: Option<usize>,
    /// Workers that died without its tasks, since the job was first blamed. The cause of deaths may
    /// be something else.
    elsewhere: usize,
    /// How many times the job was acquitted.
    acquittals: u32,
    /// When the job was last acquitted.
    acquitted_at_ms: i64,
}

impl Deaths {
    pub fn note(&mut self, death: Death) {
        if self.all.len() >= DEATHS_MAX {
            self.all.remove(0);
        }
        self.all.push(death);
    }

    /// A worker without a task of the job died.
    pub fn note_elsewhere(&mut self) {
        if self.blamed() > 0 {
            self.elsewhere += 1;
        }
    }

    /// Workers that died without its tasks, since the job was first blamed.
    pub fn elsewhere(&self) -> usize {
        self.elsewhere
    }

    /// The worker died while suspects of this many jobs were on trial there. The next trial takes
    /// half of them.
    pub fn split(&mut self, jobs: usize) {
        self.together_max = Some((jobs / 2).max(1));
    }

    /// How many jobs are tried together at most, this one included.
    pub fn tried_with_max(&self) -> usize {
        self.together_max.unwrap_or(usize::MAX)
    }

    /// The task lives after all: its worker was only disconnected. Returns true if it counted as
    /// dead.
    pub fn is_alive(&mut self, task: TaskId) -> bool {
        let before = self.all.len();
        self.all.retain(|death| death.task != task);
        self.all.len() < before
    }

    /// The process of a worker lives after all. Returns true if it counted as dead.
    pub fn is_back(&mut self, worker: &WorkerId, process: u64) -> bool {
        let before = self.all.len();
        self.all
            .retain(|death| death.worker != *worker || death.process != process);
        self.all.len() < before
    }

    /// Allows trials of its suspects in a group of any size again.
    pub fn regroup(&mut self) {
        self.together_max = None;
    }

    /// Drops old deaths. Returns true if there were any.
    pub fn forget(&mut self, now: i64) -> bool {
        let before = self.all.len();
        self.all
            .retain(|death| death.at_ms.saturating_add(DEATH_MEMORY_MS) > now);
        if self.acquitted_at_ms.saturating_add(DEATH_MEMORY_MS) <= now {
            self.acquittals = 0;
        }
        self.forget_what_follows();
        self.all.len() < before
    }

    /// The conclusions from deaths are dropped with the last of them.
    fn forget_what_follows(&mut self) {
        if self.all.is_empty() {
            self.together_max = None;
        }
        if self.blamed() == 0 {
            self.elsewhere = 0;
        }
    }

    /// The job makes progress, so it is not to blame for any earlier death. Its suspects stay
    /// suspects.
    pub fn forgive(&mut self) {
        for death in &mut self.all {
            death.alone = false;
        }
        self.elsewhere = 0;
    }

    /// Acquits shards that have run on trial for long enough.
    pub fn acquit(&mut self, now: i64, shards: &BTreeSet<ShardId>) {
        if shards.is_empty() {
            return;
        }
        for death in &mut self.all {
            death.shards.retain(|shard| !shards.contains(shard));
        }
        self.all.retain(|death| !death.shards.is_empty());
        self.acquittals = self.acquittals.saturating_add(1);
        self.acquitted_at_ms = now;
        self.forget_what_follows();
    }

    pub fn clear(&mut self) {
        *self = Self {
            tried_at_ms: self.tried_at_ms,
            ..Self::default()
        };
    }

    /// Shards that were in too many deaths to run beside others.
    pub fn suspects(&self) -> BTreeSet<ShardId> {
        let counts = self.per_shard(|_| true);
        counts
            .into_iter()
            .filter(|(_, deaths)| *deaths >= SUSPECT_DEATHS)
            .map(|(shard, _)| shard.clone())
            .collect()
    }

    /// For the shard with the most deaths: how many workers died with tasks of this job alone.
    pub fn blamed(&self) -> usize {
        self.per_shard(|death| death.alone)
            .into_values()
            .max()
            .unwrap_or(0)
    }

    /// How many times this worker died with tasks of the job.
    pub fn on(&self, worker: &WorkerId) -> usize {
        self.all
            .iter()
            .filter(|death| death.worker == *worker)
            .count()
    }

    /// The workers that died, oldest first, without duplicates.
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

    /// How long its suspects are tried: twice the shortest time in which a worker died with them,
    /// because the same input causes the same death again. The time is longer for a job that was
    /// acquitted and came under suspicion again.
    pub fn probation_ms(&self, settings: &CoreSettings) -> i64 {
        let shortest_ms = self
            .all
            .iter()
            .map(|death| death.lived_ms)
            .min()
            .unwrap_or(0);
        let twice_ms = shortest_ms.saturating_mul(2).max(settings.probation_ms);
        let doubled_ms = twice_ms.saturating_mul(1 << self.acquittals.min(DOUBLINGS_MAX));
        doubled_ms.min(settings.probation_max_ms)
    }

    fn per_shard(&self, counts: impl Fn(&Death) -> bool) -> BTreeMap<&ShardId, usize> {
        let mut deaths: BTreeMap<&ShardId, usize> = BTreeMap::new();
        for shard in self
            .all
            .iter()
            .filter(|death| counts(death))
            .flat_map(|death| &death.shards)
        {
            *deaths.entry(shard).or_default() += 1;
        }
        deaths
    }
}
