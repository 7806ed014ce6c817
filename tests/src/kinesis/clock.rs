//! The fake's time: the machine's, plus what a test adds to it.
//!
//! Rule: it determines `Date` and arrival times; a test may set it back only before the first put.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use streamctl_engine::clock::now_ms;

/// A clock that can jump; clones jump together.
#[derive(Clone, Debug)]
pub struct FakeClock {
    began: Instant,
    began_us: i64,
    added_us: Arc<AtomicI64>,
}

impl Default for FakeClock {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            began_us: now_ms() * 1_000,
            added_us: Arc::default(),
        }
    }
}

impl FakeClock {
    /// Microseconds since the Unix epoch.
    pub fn now_us(&self) -> i64 {
        let elapsed = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX / 4);
        self.began_us + elapsed + self.added_us.load(Ordering::Relaxed)
    }
    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        self.now_us() / 1_000
    }
    pub fn set_back(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX / 4);
        self.added_us.fetch_sub(by, Ordering::Relaxed);
    }
    /// The time in an HTTP header, in whole seconds.
    pub fn http_date(&self) -> String {
        let time = chrono::DateTime::from_timestamp_micros(self.now_us()).unwrap_or_default();
        time.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).unwrap_or(i64::MAX / 4);
        self.added_us.fetch_add(by, Ordering::Relaxed);
    }
}
