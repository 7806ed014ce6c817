//! What a soak is asked for, and what happens when.
//!
//! Rule: everything that restarts a process which is judged lies in the first quarter.

use std::path::PathBuf;
use std::time::Duration;

/// Records per second that a machine of two cores holds with programs that are not optimised.
pub const RATE_DEFAULT: u64 = 2_000;
/// The service takes 1,000 records per second and shard.
const RATE_PER_SHARD: u64 = 1_000;
const SHARDS_MIN: u64 = 4;
/// Every how many records one is bad.
pub const BAD_EVERY: u64 = 500;
/// Every how many records one has no partner in the lookup.
pub const UNMATCHED_EVERY: u64 = 300;

#[derive(Clone, Debug)]
pub struct Plan {
    /// How long records are written.
    pub lasts: Duration,
    /// Records per second.
    pub rate: u64,
    /// Output, dead letters and checkpoint are folders of this machine instead of S3.
    pub local: bool,
    /// Where data and logs are.
    pub folder: PathBuf,
}

/// What happens on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `kill -9` of the controller that leads; it is back at once.
    KillLeader,
    /// `kill -9` of the second worker; it is back at once.
    KillWorker,
    /// SIGTERM to the second worker; it is back at once.
    RestartWorker,
    /// The first open shard becomes two.
    Split,
    /// The first two become one.
    Merge,
}

impl Plan {
    /// How many records are written.
    pub fn records(&self) -> u64 {
        self.rate * self.lasts.as_secs()
    }

    /// Shards that take the rate.
    pub fn shards(&self) -> u64 {
        (self.rate / RATE_PER_SHARD + 1).max(SHARDS_MIN)
    }

    /// Every step and when, in order: splits and merges all the way, the leader early, the second
    /// worker twice later.
    pub fn steps(&self) -> Vec<(Duration, Step)> {
        let at = |part: f64| self.lasts.mul_f64(part);
        vec![
            (at(0.05), Step::Split),
            (at(0.10), Step::KillLeader),
            (at(0.15), Step::RestartWorker),
            (at(0.20), Step::Merge),
            (at(0.35), Step::KillWorker),
            (at(0.45), Step::Split),
            (at(0.55), Step::RestartWorker),
            (at(0.60), Step::Merge),
            (at(0.70), Step::KillWorker),
            (at(0.80), Step::Split),
            (at(0.85), Step::Merge),
        ]
    }
}
