//! The settings of a soak, and its schedule.
//!
//! Rule: every restart of a process that is judged is in the first quarter.

use std::path::PathBuf;
use std::time::Duration;

/// Records per second that a machine with two cores sustains with unoptimised programs.
pub const RATE_DEFAULT: u64 = 2_000;
/// The service accepts 1,000 records per second and shard.
const RATE_PER_SHARD: u64 = 1_000;
const SHARDS_MIN: u64 = 4;
/// One record in this many is bad.
pub const BAD_EVERY: u64 = 500;
/// One record in this many has no match in the lookup.
pub const UNMATCHED_EVERY: u64 = 300;

#[derive(Clone, Debug)]
pub struct Plan {
    /// How long records are written.
    pub lasts: Duration,
    /// Records per second.
    pub rate: u64,
    /// Output, dead letters and checkpoint are local folders instead of S3.
    pub local: bool,
    /// The folder of data and logs.
    pub folder: PathBuf,
}

/// An event of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `kill -9` of the leading controller; it restarts at once.
    KillLeader,
    /// `kill -9` of the second worker; it restarts at once.
    KillWorker,
    /// SIGTERM to the second worker; it restarts at once.
    RestartWorker,
    /// Splits the first open shard.
    Split,
    /// Merges the first two.
    Merge,
}

impl Plan {
    /// How many records are written.
    pub fn records(&self) -> u64 {
        self.rate * self.lasts.as_secs()
    }

    /// The number of shards for the rate.
    pub fn shards(&self) -> u64 {
        (self.rate / RATE_PER_SHARD + 1).max(SHARDS_MIN)
    }

    /// Every step with its time, in order: splits and merges throughout, the leader early, the
    /// second worker twice later.
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
