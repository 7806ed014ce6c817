//! Replays of dead letters: the dead letters of each epoch are a shard of the job like any other.
//!
//! Owns: when such a shard is added and removed. Does not own: reading and committing it; these
//! work as for every shard, which also makes a replay happen once.
//! Rule: a shard is added when the store holds the request, and removed when the store holds its
//! completion. In between, every head records its position. The shards are read one after the
//! other, each the child of the previous one.

use super::Effect;
use super::job::{Job, Shard};
use crate::stored::{DesiredState, Replays, WantedReplay};
use streamctl_proto::{DeadLetterShard, Position, ShardId};

impl Shard {
    /// A head holds all of it.
    fn committed_to_its_end(&self) -> bool {
        self.committed == Position::End || self.end.as_ref() == Some(&self.committed)
    }
}

impl Job {
    /// The job may replay: it runs, or ran to the end of its source.
    pub fn may_replay(&self) -> bool {
        matches!(self.wanted, DesiredState::Running | DesiredState::Completed)
            && self.head.is_some()
    }

    /// Committed to its end, whatever older heads contain.
    pub fn is_replayed(&self, shard: &ShardId) -> bool {
        DeadLetterShard::parse(shard)
            .is_some_and(|letters| self.replays.stored.is_done(letters.epoch()))
    }

    /// Adds the shards that the store requests, and removes those that it records as done.
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

    /// Records the shards that are committed to their end.
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

    /// A user requested a replay of the dead letters of these epochs. Nothing happens until the
    /// store holds the request.
    pub(super) fn want_replays(&mut self, epochs: Vec<WantedReplay>) {
        if self.may_replay() {
            let kept = self.retain_kept(epochs);
            self.replays.now.want(kept);
        }
    }

    /// The store holds these replays.
    pub(super) fn replays_recorded(&mut self, replays: Replays, out: &mut Vec<Effect>) {
        self.replays.recording = false;
        self.replays.stored = replays;
        self.run_for_replays(out);
    }

    /// Writes the replay state to the store; only one such write is in flight at a time.
    pub(super) fn record_replays(&mut self, out: &mut Vec<Effect>) {
        self.finish_replays();
        if self.replays.recording || self.replays.now == self.replays.stored {
            return;
        }
        self.replays.recording = true;
        out.push(Effect::RecordReplays {
            job: self.name().clone(),
            replays: self.replays.now.clone(),
        });
    }

    /// Runs a job whose source has ended until its replays are done.
    pub(super) fn run_for_replays(&mut self, out: &mut Vec<Effect>) {
        self.follow_replays();
        if self.wanted == DesiredState::Completed && !self.replays.stored.wanted.is_empty() {
            self.forget_failures();
            self.want(DesiredState::Running, out);
        }
    }
}
