//! Previews: the limits that controllers, workers and clients agree on.
//!
//! Owns: the name of the Flight action whose body is `v1::PreviewJob`. Does not own: reading and
//! computing (the worker).

use std::time::Duration;

/// The type of the Flight action of a worker that previews a job.
pub const PREVIEW_ACTION: &str = "preview-job";
/// Most records of a preview: all of them are held in memory.
pub const PREVIEW_RECORDS_MAX: u32 = 10_000;
/// Shards that a preview reads, at most.
pub const PREVIEW_SHARDS_MAX: usize = 8;
/// Longest time that a preview waits for records.
pub const PREVIEW_TIMEOUT_MAX: Duration = Duration::from_secs(300);
