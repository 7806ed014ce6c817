//! The resources of a process, from `/proc`.
//!
//! Rule: a process that is gone uses nothing, and is not an error.

use serde::Serialize;
use std::fs;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Taken {
    pub rss_bytes: u64,
    /// Open file handles, connections included.
    pub files: u64,
    pub threads: u64,
}

/// The resources of the process with this id; `None` if there is none.
pub fn taken(pid: u32) -> Option<Taken> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    let rss_bytes = number(&status, "VmRSS:")? * 1_024;
    Some(Taken {
        rss_bytes,
        files,
        threads: number(&status, "Threads:")?,
    })
}

/// CPU time of the process with this id so far, in seconds; `None` if there is none.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    /// The unit of `/proc`, on every Linux.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in brackets, may contain anything; user and system time are the 12th and
    // 13th field after it.
    let (_, behind_name) = stat.rsplit_once(") ")?;
    let ticks = behind_name
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>();
    Some(ticks / TICKS_PER_SECOND)
}

fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
