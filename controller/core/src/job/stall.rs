//! Stalls, for the status: a component that hangs does not report it.
//!
//! Owns: since when each task has finished no window, and since when the store and the sink have
//! not done what was requested.
//! Does not own: the reaction; no decision depends on this.
//! Rule: checked with every tick, and reported only after [`STANDSTILL_MS`].

use super::{Job, Shard};
use std::collections::BTreeMap;
use streamctl_proto::{Epoch, TaskId, Watermark, v1};

/// A longer stall of a task is reported, in addition to the length of a window.
const STANDSTILL_MS: i64 = 5_000;
/// A step that a service takes longer for is reported: it is named within 5 s.
const SERVICE_MS: i64 = 4_000;

/// The last progress, and since when.
#[derive(Clone, Debug, Default)]
pub struct Stall {
    /// The watermark of each task, and since when.
    tasks: BTreeMap<TaskId, (Watermark, i64)>,
    /// The epoch being committed, and whether its manifest is written.
    commit: Option<((Epoch, bool), i64)>,
    /// The epoch that is being published.
    publish: Option<(Epoch, i64)>,
    /// Since when a shard that could be read has no task.
    unread: Option<i64>,
    /// Since when a listing of the shards is in flight.
    listing: Option<i64>,
    /// Since when the store is recording the desired state.
    recording: Option<i64>,
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
            let noted = self.tasks.entry(*id).or_insert((task.watermark, now));
            if noted.0 != task.watermark {
                *noted = (task.watermark, now);
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
        let lists = job.is_live() && job.listing.asked > job.listing.answered;
        self.listing = lists.then(|| self.listing.unwrap_or(now));
        self.recording = job.recording.then(|| self.recording.unwrap_or(now));
        let publish = job.publishing.front().map(|manifest| manifest.epoch);
        self.commit = commit.map(|key| (key, since(self.commit, key, now)));
        self.publish = publish.map(|key| (key, since(self.publish, key, now)));
    }

    /// The slowest tasks, with the milliseconds since each finished a window, if that is too long.
    fn standing(&self, now: i64, job: &Job) -> impl Iterator<Item = (&TaskId, i64)> {
        let slowest = self.tasks.values().map(|(watermark, _)| *watermark).min();
        let limit_ms = job.resolved.spec.window.ms().saturating_add(STANDSTILL_MS);
        let slow = self
            .tasks
            .iter()
            .filter(move |(_, (watermark, _))| Some(*watermark) == slowest);
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

    /// Since when a shard that could be read has no task.
    pub fn unread_since(&self) -> Option<i64> {
        self.unread
    }

    /// What is stalled.
    pub fn waits(&self, now: i64, job: &Job) -> Vec<v1::Wait> {
        let stall = |(id, stood_ms): (&TaskId, i64)| {
            // A task that has ended since is no longer stalled.
            let task = job.tasks.get(id)?;
            let worker = &task.worker;
            let computes = task.computing.ms > STANDSTILL_MS.unsigned_abs();
            let why = match computes {
                true => format!(", {}", task.computing.text()),
                false => String::new(),
            };
            let text = format!(
                "task {id} on {worker}: it has finished no window for {} s{why}",
                stood_ms / 1_000
            );
            let (stage, on) = match computes {
                true => ("query", "query"),
                false => ("window", worker.as_str()),
            };
            Some(since_when(wait(stage, on, text), now - stood_ms))
        };
        let mut waits: Vec<v1::Wait> = self.standing(now, job).filter_map(stall).collect();
        let late = |since: i64| (now - since > SERVICE_MS).then_some((now - since) / 1_000);
        if let Some(((epoch, manifest), since)) = self.commit
            && let Some(seconds) = late(since)
        {
            let (on, what) = match manifest {
                true => ("store", "the store"),
                false => ("checkpoint", "the checkpoint location"),
            };
            let text = format!("{what}: the commit of epoch {epoch} takes {seconds} s");
            waits.push(since_when(wait("commit", on, text), since));
        }
        if let Some((epoch, since)) = self.publish
            && let Some(seconds) = late(since)
        {
            let text = format!("the sink: publishing epoch {epoch} takes {seconds} s");
            waits.push(since_when(wait("publish", "sink", text), since));
        }
        if let Some(since) = self.listing
            && let Some(seconds) = late(since)
        {
            let text = format!("the source: listing its shards takes {seconds} s");
            waits.push(since_when(wait("shards", "source", text), since));
        }
        if let Some(since) = self.recording
            && let Some(seconds) = late(since)
        {
            let text = format!("the store: recording the job's state takes {seconds} s");
            waits.push(since_when(wait("store", "store", text), since));
        }
        waits
    }
}

/// A wait that is not normal.
pub(crate) fn wait(stage: &str, on: &str, text: String) -> v1::Wait {
    v1::Wait {
        stage: stage.to_owned(),
        on: on.to_owned(),
        text,
        since_ms: None,
        normal: false,
    }
}

fn since_when(wait: v1::Wait, since_ms: i64) -> v1::Wait {
    v1::Wait {
        since_ms: Some(since_ms),
        ..wait
    }
}

fn since<K: PartialEq>(before: Option<(K, i64)>, key: K, now: i64) -> i64 {
    before
        .filter(|(same, _)| *same == key)
        .map_or(now, |(_, since)| since)
}
