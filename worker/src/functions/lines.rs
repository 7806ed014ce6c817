//! The lines of a function in the worker's log.
//!
//! Owns: the level of each. Does not own: which lines are kept (`function::log`).
//! Rule: `context.log` has the level that the function gives; what it prints is information.

use crate::function::{Level, LogLine, LogSource};
use streamctl_proto::JobName;

/// Logs the lines of a call, and how many were left out.
pub fn log_lines(job: &JobName, lines: &[LogLine], dropped: u64) {
    for line in lines {
        let level = match line.source {
            LogSource::Context(level) => level,
            LogSource::Stdout | LogSource::Stderr => Level::Info,
        };
        let line = line.text.as_str();
        match level {
            Level::Info => tracing::info!(job = %job, line, "function"),
            Level::Warning => tracing::warn!(job = %job, line, "function"),
            Level::Error => tracing::error!(job = %job, line, "function"),
        }
    }
    if dropped > 0 {
        tracing::warn!(job = %job, dropped, "lines of the function were left out");
    }
}
