//! CPU time of threads, as Linux counts it.
//!
//! Rule: a thread that never returns from its work is counted like any other. On systems other than
//! Linux nothing is counted.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Some threads of this process; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct ThreadTimes(Arc<Mutex<Vec<PathBuf>>>);

impl ThreadTimes {
    /// Adds the calling thread.
    pub fn add_this_thread(&self) {
        let Ok(thread) = std::fs::read_link("/proc/thread-self") else {
            return;
        };
        let Some(id) = thread.file_name() else { return };
        self.lock()
            .push(PathBuf::from("/proc/self/task").join(id).join("schedstat"));
    }

    /// The CPU time of all threads that have not ended, together.
    pub fn total(&self) -> Duration {
        let mut nanos = 0;
        self.lock().retain(|times| {
            let Ok(text) = std::fs::read_to_string(times) else {
                return false;
            };
            nanos += text
                .split_whitespace()
                .next()
                .and_then(|first| first.parse::<u64>().ok())
                .unwrap_or(0);
            true
        });
        Duration::from_nanos(nanos)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
