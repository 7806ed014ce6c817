//! What a process takes, as `/proc` tells it.
//!
//! Rule: a process that is gone takes nothing, and is not an error.

use serde::Serialize;
use std::fs;

/// At one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// Resident memory.
    pub rss_bytes: u64,
    /// Open file handles, connections included.
    pub files: u64,
    /// Threads.
    pub threads: u64,
}

/// Of the process of this id; `None` when there is none.
pub fn taken(pid: u32) -> Option<Taken> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    let rss_bytes = number(&status, "VmRSS:")? * 1_024;
    Some(Taken { rss_bytes, files, threads: number(&status, "Threads:")? })
}

fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
