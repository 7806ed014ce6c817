//! Stalls, for the status: a component that hangs does not report it.
//!
//! Owns: since when each task has finished no window, and since when the store and the sink have
//! not done what was requested.
//! Does not own: the reaction; no decision depends on this.
//! Rule: checked with every tick, and reported only after [`STANDSTILL_MS`].

use super::{Job, Shard};
use std::collections::BTreeMap;
use streamctl_proto::{Epoch, TaskId};

/// A longer stall is reported; a task has the length of a window in addition.
const STANDSTILL_MS: i64 = 5_000;

/// The last progress, and since when.
#[derive(Clone, Debug, Default)]
pub struct Stall {
    /// The watermark of each task.
    tasks: BTreeMap<TaskId, (i64, i64)>,
    /// The epoch being committed, and whether its manifest is written.
    commit: Option<((Epoch, bool), i64)>,
    /// The epoch that is being published.
    publish: Option<(Epoch, i64)>,
    /// Since when a shard that could be read has no task.
    unread: Option<i64>,
}

impl Job {
    /// Records what made progress.
    pub(crate) fn note_stalls(&mut self, now: i64) {
        let mut stall = std::mem::take(&mut self.stall);
        stall.note(now, self);
        self.stall = stall;
    }
}

impl Stall {
    /// Records the progress of the job.
    pub fn note(&mut self, now: i64, job: &Job) {
        self.tasks.retain(|id, _| job.tasks.contains_key(id));
        for (id, task) in &job.tasks {
            let noted = self.tasks.entry(*id).or_insert((task.watermark_ms, now));
            if noted.0 != task.watermark_ms {
                *noted = (task.watermark_ms, now);
            }
        }
        let commit = job
            .committing
            .as_ref()
            .map(|c| (c.manifest.epoch, c.reference.is_some()));
        let waits =
            |shard: &Shard| shard.task.is_none() && !shard.done() && job.parents_ended(shard);
        let unread = job.runs() && job.shards.values().any(waits);
        self.unread = unread.then(|| self.unread.unwrap_or(now));
        let publish = job.publishing.front().map(|manifest| manifest.epoch);
        self.commit = commit.map(|key| (key, since(self.commit, key, now)));
        self.publish = publish.map(|key| (key, since(self.publish, key, now)));
    }

    /// The slowest tasks, with the milliseconds since each finished a window, if that is too long.
    fn standing(&self, now: i64, job: &Job) -> impl Iterator<Item = (&TaskId, i64)> {
        let slowest = self
            .tasks
            .values()
            .map(|(watermark_ms, _)| *watermark_ms)
            .min();
        let limit_ms = job.resolved.spec.window.ms().saturating_add(STANDSTILL_MS);
        let slow = self
            .tasks
            .iter()
            .filter(move |(_, (watermark_ms, _))| Some(*watermark_ms) == slowest);
        slow.map(move |(id, (_, since))| (id, now - since))
            .filter(move |(_, stood_ms)| *stood_ms > limit_ms)
    }

    /// The minimum lag of a job whose tasks stall, or that is not assigned: the reported lag is
    /// from before the stall.
    pub fn lag_ms(&self, now: i64, job: &Job) -> u64 {
        let stood_ms = self
            .standing(now, job)
            .map(|(_, stood_ms)| stood_ms)
            .max()
            .unwrap_or(0);
        let unread_ms = self.unread.map_or(0, |since| now - since);
        stood_ms.max(unread_ms).unsigned_abs()
    }

    /// Descriptions of what is stalled.
    pub fn words(&self, now: i64, job: &Job) -> Vec<String> {
        let late =
            |since: i64, limit_ms: i64| (now - since > limit_ms).then_some((now - since) / 1_000);
        let stall = |(id, stood_ms): (&TaskId, i64)| {
            // A task that has ended since is no longer stalled.
            let task = job.tasks.get(id)?;
            let worker = &task.worker;
            let computing_ms = i64::try_from(task.computing_ms).unwrap_or(i64::MAX);
            let why = match computing_ms > STANDSTILL_MS {
                true => format!(
                    ", its query has been computing for {} s",
                    computing_ms / 1_000
                ),
                false => String::new(),
            };
            Some(format!(
                "task {id} on {worker}: it has finished no window for {} s{why}",
                stood_ms / 1_000
            ))
        };
        let mut words: Vec<String> = self.standing(now, job).filter_map(stall).collect();
        if let Some(((epoch, manifest), since)) = self.commit
            && let Some(seconds) = late(since, STANDSTILL_MS)
        {
            let what = if manifest {
                "the store"
            } else {
                "the checkpoint location"
            };
            words.push(format!(
                "{what}: the commit of epoch {epoch} takes {seconds} s"
            ));
        }
        if let Some((epoch, since)) = self.publish
            && let Some(seconds) = late(since, STANDSTILL_MS)
        {
            words.push(format!(
                "the sink: publishing epoch {epoch} takes {seconds} s"
            ));
        }
        words
    }
}

fn since<K: PartialEq>(before: Option<(K, i64)>, key: K, now: i64) -> i64 {
    before
        .filter(|(same, _)| *same == key)
        .map_or(now, |(_, since)| since)
}
