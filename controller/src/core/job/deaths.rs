//! Workers that died while they had a task of the job.
//!
//! Owns: which shards were in those tasks, which of them are suspects, when the job is to blame.
//! Does not own: where suspects run ([`super::super::suspects`]).
//! Rule: a death that other jobs may have caused makes a suspect and never fails a job; one of a
//! worker that had tasks of this job alone counts.

use crate::core::CoreSettings;
use std::collections::{BTreeMap, BTreeSet};
use streamctl_proto::{ShardId, TaskId, WorkerId};

/// Deaths of workers that a shard must have been in before it runs on a worker of its own.
pub const SUSPECT_DEATHS: usize = 2;
/// Deaths that are remembered of one job; the oldest is forgotten first.
pub const DEATHS_MAX: usize = 256;
/// For how long a death is remembered.
pub const DEATH_MEMORY_MS: i64 = 3_600_000;
/// How often a probation doubles, once for each acquittal before.
const DOUBLINGS_MAX: u32 = 2;

/// A worker died and had this task.
#[derive(Clone, Debug)]
pub struct Death {
    pub at_ms: i64,
    pub task: TaskId,
    pub worker: WorkerId,
    /// The worker's process; 0: it did not say.
    pub process: u64,
    /// Its shards, as far as they are not acquitted.
    pub shards: BTreeSet<ShardId>,
    /// For how long the task had run.
    pub lived_ms: i64,
    /// The worker had no task of another job, and no others were lost with it.
    pub alone: bool,
}

/// The deaths that a job was in.
#[derive(Clone, Debug, Default)]
pub struct Deaths {
    all: Vec<Death>,
    /// When its suspects were last tried.
    pub tried_at_ms: i64,
    /// How many jobs are tried together with it at most, itself included. None: any number.
    together_max: Option<usize>,
    /// Workers that died without its tasks, since it was first blamed: what ends workers may be
    /// something else.
    elsewhere: usize,
    /// How often it was acquitted.
    acquittals: u32,
    /// When it was last acquitted.
    acquitted_at_ms: i64,
}

impl Deaths {
    pub fn note(&mut self, death: Death) {
        if self.all.len() >= DEATHS_MAX {
            self.all.remove(0);
        }
        self.all.push(death);
    }

    /// A worker died that had no task of the job.
    pub fn note_elsewhere(&mut self) {
        if self.blamed() > 0 {
            self.elsewhere += 1;
        }
    }

    /// Workers that died without its tasks since it was first blamed.
    pub fn elsewhere(&self) -> usize {
        self.elsewhere
    }

    /// Its worker died while suspects of so many jobs were tried there together: half of them are,
    /// the next time.
    pub fn split(&mut self, jobs: usize) {
        self.together_max = Some((jobs / 2).max(1));
    }

    /// How many jobs are tried together with it at most, itself included.
    pub fn tried_with_max(&self) -> usize {
        self.together_max.unwrap_or(usize::MAX)
    }

    /// The task lives after all: its worker had only been cut off. True when it counted as dead.
    pub fn is_alive(&mut self, task: TaskId) -> bool {
        let before = self.all.len();
        self.all.retain(|death| death.task != task);
        self.all.len() < before
    }

    /// The process of a worker lives after all. True when it counted as dead.
    pub fn is_back(&mut self, worker: &WorkerId, process: u64) -> bool {
        let before = self.all.len();
        self.all
            .retain(|death| death.worker != *worker || death.process != process);
        self.all.len() < before
    }

    /// Allows its suspects to be tried in a group of any size again.
    pub fn regroup(&mut self) {
        self.together_max = None;
    }

    /// Forgets what was long ago. True when there was something.
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

    /// What was learned by deaths goes with the last of them.
    fn forget_what_follows(&mut self) {
        if self.all.is_empty() {
            self.together_max = None;
        }
        if self.blamed() == 0 {
            self.elsewhere = 0;
        }
    }

    /// The job makes progress, so that no death before is its fault. Its suspects stay suspects.
    pub fn forgive(&mut self) {
        for death in &mut self.all {
            death.alone = false;
        }
        self.elsewhere = 0;
    }

    /// These shards have run on trial for long enough.
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

    /// How many workers died with tasks of this job alone, of the shard that has the most.
    pub fn blamed(&self) -> usize {
        self.per_shard(|death| death.alone)
            .into_values()
            .max()
            .unwrap_or(0)
    }

    /// How often this worker died with tasks of the job.
    pub fn on(&self, worker: &WorkerId) -> usize {
        self.all
            .iter()
            .filter(|death| death.worker == *worker)
            .count()
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

    /// For how long its suspects are tried: twice the shortest time in which a worker died with
    /// them, as what ends workers does so again when it reads the same again. Longer for those that
    /// were acquitted, and came under suspicion again.
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
