//! Kinesis shards by polling.
//!
//! Owns: when to call ([`pace`]), what to ask and what a failure means ([`cursor`]), whether
//! records expired unread ([`expiry`]), the service's time ([`service_clock`]), the calls
//! ([`api`]), what readers share ([`shared`]), what they bring ([`answer`]), the reader, aggregates
//! ([`kpl`]). Does not own: which shards are read and in which order (the controller), enhanced
//! fan-out.
//! Rule: pure decisions are apart from calls; a reader waits out what can be waited out, for as
//! long as it takes.

pub mod answer;
mod api;
mod cursor;
mod expiry;
#[cfg(test)]
mod fake;
pub mod kpl;
mod pace;
mod reader;
mod service_clock;
mod shared;

pub use api::{Answer, Api, Calls, MadeIterator, Service};
pub use cursor::{Failure, IteratorKind};
pub use reader::KinesisReader;
pub use service_clock::DateSample;
pub use shared::{Reading, Shared};

use std::time::Duration;

/// Calls of a worker that are under way at once, each on a connection of its own.
pub const CALLS_AT_ONCE_MAX: usize = 256;

/// Allowances that no job sets, but for `grace`.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Instead of the `grace` of the job: for tests.
    pub grace: Option<Duration>,
    /// Longest wait of one read before it gives an empty chunk.
    pub wait_max: Duration,
    /// Wait after the first failure; doubles, with jitter.
    pub backoff_base: Duration,
    /// Longest wait after a failure.
    pub backoff_max: Duration,
    /// An iterator that was not used for so long is renewed beforehand; the service keeps them for
    /// 5 minutes.
    pub iterator_age_max: Duration,
    /// Bytes per second and shard; the service gives 2 MB.
    pub bytes_per_second: u64,
    /// A call that takes longer is given up and tried again.
    pub call_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            grace: None,
            wait_max: Duration::from_secs(1),
            backoff_base: Duration::from_millis(250),
            backoff_max: Duration::from_secs(10),
            iterator_age_max: Duration::from_secs(270),
            bytes_per_second: 2_000_000,
            call_timeout: Duration::from_secs(30),
        }
    }
}
