//! What of a job's dead letters is replayed.

use crate::stored::Replays;
use streamctl_proto::{DeadLetterShard, ShardId};

/// The state of a job's replays.
#[derive(Clone, Debug, Default)]
pub struct ReplayState {
    /// The state to store.
    pub now: Replays,
    pub stored: Replays,
    /// It is being written to the store.
    pub recording: bool,
}

/// The shard is dead letters, not a shard of the source.
pub fn is_dead_letters(shard: &ShardId) -> bool {
    DeadLetterShard::parse(shard).is_some()
}
