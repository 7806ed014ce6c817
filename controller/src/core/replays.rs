//! Dead letters that are put through their job once more: each epoch's are a shard of the job like
//! any other.
//!
//! Owns: when such a shard comes and when it goes. Does not own: reading it, committing it: that is
//! as for every shard, and what makes it happen once.
//! Rule: a shard comes when the store knows that it is wanted, and goes when the store knows that
//! it is done; in between every head says how far it is. One after the other is read, each the
//! child of the one before.

use super::event::DesiredState;
use super::job::{Job, Shard};
use super::{Core, Effect, want};
use crate::store::{Replays, WantedReplay};
use streamctl_proto::{DeadLetterShard, JobName, Position, ShardId};

/// What is known of a job's replays.
#[derive(Clone, Debug, Default)]
pub struct ReplayState {
    /// As it should be stored.
    pub now: Replays,
    pub stored: Replays,
    /// It is being written to the store.
    pub recording: bool,
}

/// Not a shard of the source.
pub fn is_dead_letters(shard: &ShardId) -> bool {
    DeadLetterShard::parse(shard).is_some()
}

impl Shard {
    /// A head holds all of it.
    fn committed_to_its_end(&self) -> bool {
        self.committed == Position::End || self.end.as_ref() == Some(&self.committed)
    }
}

impl Job {
    /// It may be asked to replay: it runs, or ran to the end of its source.
    pub fn may_replay(&self) -> bool {
        matches!(self.wanted, DesiredState::Running | DesiredState::Completed)
            && self.head.is_some()
    }

    /// Committed to its end, whatever older heads say.
    pub fn is_replayed(&self, shard: &ShardId) -> bool {
        DeadLetterShard::parse(shard)
            .is_some_and(|letters| self.replays.stored.is_done(letters.epoch()))
    }

    /// Adds the shards that the store wants read, and forgets those that it knows to be done.
    pub fn follow_replays(&mut self) {
        let replayed: Vec<ShardId> = self
            .shards
            .keys()
            .filter(|id| self.is_replayed(id))
            .cloned()
            .collect();
        for id in replayed {
            self.shards.remove(&id);
        }
        let wanted: Vec<ShardId> = self
            .replays
            .stored
            .wanted
            .iter()
            .map(|wanted| wanted.letters.id())
            .collect();
        for (index, id) in wanted
            .iter()
            .enumerate()
            .filter(|(_, id)| !self.shards.contains_key(*id))
            .collect::<Vec<_>>()
        {
            let before = index.checked_sub(1).map(|before| wanted[before].clone());
            self.add_shard(
                id,
                Position::Start,
                before.into_iter().collect(),
                String::new(),
            );
        }
    }

    /// Takes note of what is committed to its end.
    fn finish_replays(&mut self) {
        let finished = |wanted: &&WantedReplay| {
            self.shards
                .get(&wanted.letters.id())
                .is_some_and(Shard::committed_to_its_end)
        };
        let finished: Vec<DeadLetterShard> = self
            .replays
            .now
            .wanted
            .iter()
            .filter(finished)
            .map(|wanted| wanted.letters.clone())
            .collect();
        for letters in finished {
            self.replays.now.finish(&letters);
        }
    }
}

impl Core {
    /// A user wants the dead letters of these epochs read once more; nothing happens before the
    /// store knows.
    pub(super) fn want_replays(&mut self, name: &JobName, epochs: Vec<WantedReplay>) {
        let Some(job) = self.jobs.get_mut(name).filter(|job| job.may_replay()) else {
            return;
        };
        job.replays.now.want(epochs);
    }

    pub(super) fn replays_recorded(
        &mut self,
        name: &JobName,
        replays: Replays,
        out: &mut Vec<Effect>,
    ) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        job.replays.recording = false;
        job.replays.stored = replays;
        run_for_replays(job, out);
    }

    /// Has the store know what should be known; one such write at a time.
    pub(super) fn record_replays(&mut self, name: &JobName, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        job.finish_replays();
        if job.replays.recording || job.replays.now == job.replays.stored {
            return;
        }
        job.replays.recording = true;
        out.push(Effect::RecordReplays {
            job: name.clone(),
            replays: job.replays.now.clone(),
        });
    }
}

/// A job whose source has ended runs again until its replays are done.
pub(super) fn run_for_replays(job: &mut Job, out: &mut Vec<Effect>) {
    job.follow_replays();
    if job.wanted == DesiredState::Completed && !job.replays.stored.wanted.is_empty() {
        job.forget_failures();
        want(job, DesiredState::Running, out);
    }
}
