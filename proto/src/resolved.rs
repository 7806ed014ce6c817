//! A job as it was resolved at submit: what the job file leaves to the world, pinned.
//!
//! Rule: workers, replays and later leaders see this and nothing newer; a catalog that changes does not change a job.

use crate::{JobSpec, Position};
use serde::{Deserialize, Serialize};

/// The stored form that this build writes; it reads no later one.
pub const RESOLVED_VERSION: u32 = 1;

/// A column of the source, as the catalog or the job file types it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnType {
    /// Compared without regard to case.
    pub name: String,
    /// A Hive type: `string`, `bigint`, `decimal(10,2)`, `timestamp` ...
    #[serde(rename = "type")]
    pub type_name: String,
}

/// Where a Kinesis stream is and who reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamAddress {
    /// The stream's name; taken from the ARN where only that is given.
    pub name: String,
    /// Its ARN; needed across accounts.
    pub arn: Option<String>,
    /// Where the service answers, when not at its usual address.
    pub endpoint: Option<String>,
    /// From the ARN, the endpoint or the job file; else the environment's.
    pub region: Option<String>,
    /// A role to assume before reading.
    pub role_arn: Option<String>,
    /// Names the session of that role.
    pub session_name: Option<String>,
}

/// A job as it was resolved at submit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResolvedJob {
    /// [`RESOLVED_VERSION`].
    pub version: u32,
    /// What the user wrote, checked.
    pub spec: JobSpec,
    /// SHA-256 of the text of the job file.
    pub spec_digest: String,
    /// When it was submitted.
    pub submitted_ms: i64,
    /// Where shards begin that were there at submit; `latest` has become a timestamp.
    pub start: Position,
    /// The source's columns, in order.
    pub columns: Vec<ColumnType>,
    /// For a Kinesis source: the stream.
    pub stream: Option<StreamAddress>,
    /// The query needs all rows of a window together: one task reads all shards.
    pub whole_window: bool,
    /// SHA-256 of the query.
    pub query_digest: String,
    /// The result's columns: an Arrow IPC stream without batches, in base64.
    pub output_schema: String,
}
