//! Durations and sizes as people write them.

use std::time::Duration;

/// `60s`, `1m`, `500ms`, `2h`, `1d`.
pub fn parse_duration(_text: &str) -> Option<Duration> {
    None
}

/// `256MiB`, `1GB`, `4096`.
pub fn parse_bytes(_text: &str) -> Option<u64> {
    None
}
