//! Which partitions this process has registered a short time ago.
//!
//! Rule: it saves requests and decides nothing else: an entry expires, so that a partition that
//! others removed is registered again for later rows.

use super::Partition;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use streamctl_proto::spec::SinkCatalog;
use tokio::time::Instant;

/// Most partitions that are remembered, over all tables.
const KNOWN_MAX: usize = 10_000;
/// How long a registered partition is taken to be there.
const KNOWN_FOR: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, Default)]
pub(super) struct Known(Arc<Mutex<BTreeMap<String, Instant>>>);

impl Known {
    /// Those that are not known to be registered.
    pub fn unknown(&self, of: &SinkCatalog, mut partitions: Vec<Partition>) -> Vec<Partition> {
        let all = self.lock();
        let now = Instant::now();
        partitions.retain(|partition| {
            let until = all.get(&key(of, partition));
            until.is_none_or(|until| *until <= now)
        });
        partitions
    }

    pub fn registered(&self, of: &SinkCatalog, partitions: &[Partition]) {
        let mut all = self.lock();
        let now = Instant::now();
        if all.len() + partitions.len() > KNOWN_MAX {
            all.retain(|_, until| *until > now);
        }
        if all.len() + partitions.len() > KNOWN_MAX {
            all.clear();
        }
        for partition in partitions {
            all.insert(key(of, partition), now + KNOWN_FOR);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(of: &SinkCatalog, partition: &Partition) -> String {
    format!("{} {}", of.describe(), partition.location)
}
