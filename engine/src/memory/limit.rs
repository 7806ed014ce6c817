//! How much memory a worker may take.
//!
//! Owns: the flag's text, its default. Does not own: how it is shared out.
//! Rule: a limit too small to work with is rejected when it is set.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use streamctl_proto::spec::parse_bytes;

/// Memory of the process before it has a task: code, clients, threads, buffers of connections.
pub const PROCESS_BYTES: u64 = 64 << 20;
/// The least limit that a worker starts with.
pub const MEMORY_LIMIT_MIN: u64 = 128 << 20;
/// The largest default limit of a worker.
pub const MEMORY_LIMIT_DEFAULT_MAX: u64 = 16 << 30;
/// The default share of the machine's memory, in percent.
const DEFAULT_PERCENT: u64 = 75;

/// How much memory a worker may take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit(u64);

/// A text that is not a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLimit {
    #[error("{0:?} is not a size; write it as 256MiB or 4GiB")]
    Text(String),
    /// Too little to work with.
    #[error("{} is less than a worker needs: the least is {}", mib(*.0), mib(MEMORY_LIMIT_MIN))]
    TooSmall(u64),
}

impl MemoryLimit {
    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// Three quarters of what this machine, or the control group of this process, has; at most
    /// [`MEMORY_LIMIT_DEFAULT_MAX`].
    pub fn of_this_machine() -> Self {
        let found = [meminfo(), control_group()].into_iter().flatten().min();
        let bytes = found.map_or(MEMORY_LIMIT_DEFAULT_MAX, |bytes| {
            bytes / 100 * DEFAULT_PERCENT
        });
        Self(bytes.clamp(MEMORY_LIMIT_MIN, MEMORY_LIMIT_DEFAULT_MAX))
    }
}

#[cfg(any(test, feature = "test-util"))]
impl MemoryLimit {
    /// The limit that leaves this many bytes for the shares; may be less than a worker starts with.
    pub fn leaving(bytes: u64) -> Self {
        Self(PROCESS_BYTES + bytes)
    }
}

impl Default for MemoryLimit {
    /// [`MEMORY_LIMIT_DEFAULT_MAX`].
    fn default() -> Self {
        Self(MEMORY_LIMIT_DEFAULT_MAX)
    }
}

impl FromStr for MemoryLimit {
    type Err = BadLimit;

    fn from_str(text: &str) -> Result<Self, BadLimit> {
        let bytes = parse_bytes(text).ok_or_else(|| BadLimit::Text(text.to_owned()))?;
        if bytes < MEMORY_LIMIT_MIN {
            Err(BadLimit::TooSmall(bytes))
        } else {
            Ok(Self(bytes))
        }
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mib(self.0))
    }
}

/// Formats the value rounded up, so that a size that does not fit never looks as if it did.
pub fn mib(bytes: u64) -> String {
    format!("{}MiB", bytes.div_ceil(1 << 20))
}

fn meminfo() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1 << 10)
}

/// The least limit of this process's control group (version 2) and those above it.
fn control_group() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let limit = |group: &Path| {
        std::fs::read_to_string(group.join("memory.max"))
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    Path::new("/sys/fs/cgroup")
        .join(path)
        .ancestors()
        .filter_map(limit)
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_size_of_at_least_the_least() {
        assert_eq!("256MiB".parse::<MemoryLimit>().unwrap().bytes(), 256 << 20);
        let error = "64MiB".parse::<MemoryLimit>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "64MiB is less than a worker needs: the least is 128MiB"
        );
        assert!(matches!(
            "much".parse::<MemoryLimit>(),
            Err(BadLimit::Text(_))
        ));
    }

    #[test]
    fn the_default_fits_this_machine() {
        let limit = MemoryLimit::of_this_machine().bytes();
        assert!((MEMORY_LIMIT_MIN..=MEMORY_LIMIT_DEFAULT_MAX).contains(&limit));
    }
}
