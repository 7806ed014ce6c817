//! The contract: the messages between controller, workers and clients, and their shared types.
//!
//! Owns: services and messages ([`v1`]), the job file ([`spec`]), ids, positions, windows, reports,
//! manifests and their stored form. Does not own: any I/O.
//! Rule: input from outside is validated here, once; behind this crate every value is valid.

mod bad_message;
pub mod change;
pub mod convert;
pub mod count;
pub mod dead_letter_shard;
pub mod describe;
pub mod digest;
mod duplicates;
pub mod flight;
pub mod function_code;
pub mod id;
pub mod json;
pub mod load;
pub mod manifest;
pub mod names;
pub mod nearest;
pub mod parts;
pub mod position;
pub mod preview;
pub mod profile;
pub mod refusal;
pub mod report;
pub mod resolved;
pub mod rewrite;
pub mod ring;
pub mod spec;
pub mod staged_name;
pub mod staged_place;
mod stream;
pub mod table_file;
pub mod time_pattern;
pub mod verify;
pub mod watermark;
pub mod window;

pub use count::count;
pub use dead_letter_shard::DeadLetterShard;
pub use describe::describe;
pub use duplicates::Duplicates;
pub use id::{Epoch, JobName, JobVersion, LookupVersion, ShardId, TaskId, Term, WorkerId};
pub use manifest::{Manifest, ManifestRef};
pub use nearest::nearest;
pub use position::{Position, SequenceNumber};
pub use report::{Counts, Report, ShardRange, StagedObject};
pub use resolved::{ResolvedJob, VersionRef};
pub use spec::JobSpec;
pub use time_pattern::TimePattern;
pub use watermark::Watermark;
pub use window::{Clamp, Window, WindowSize};

/// Generated from `streamctl/v1/*.proto`.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("streamctl.v1");

    /// The descriptors of every service here, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("streamctl");
}

/// KEDA's contract for external scalers, generated from `externalscaler/externalscaler.proto`.
#[allow(missing_docs, clippy::all)]
pub mod externalscaler {
    tonic::include_proto!("externalscaler");
}

/// The largest gRPC message that either side accepts: a report or a status of 10,000 shards is
/// about 2 MiB.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The largest response to a worker's request for an epoch: the largest manifest, the largest job,
/// and their envelope.
pub const EPOCH_ANSWER_BYTES_MAX: usize =
    (manifest::MANIFEST_BYTES_MAX + resolved::RESOLVED_BYTES_MAX) as usize + 4_096;

/// Metadata with the name that a client gives a call, to learn from `ListWaits` what it waits for.
pub const CALL_METADATA: &str = "x-streamctl-call";
/// Most shards of one source: far beyond what one job can read.
pub const SHARDS_MAX: usize = 100_000;
