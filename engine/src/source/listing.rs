//! The shards of a source, as it lists them.
//!
//! Rule: a listing is whole or an error; a partial one would lose shards.

use crate::storage::RefusalCause;
use streamctl_proto::ShardId;
use streamctl_proto::resolved::StreamFacts;

/// Their names and details together: one task may get all of them, in one message.
pub const LISTED_BYTES_MAX: usize = 64 << 20;

/// A shard as its source lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedShard {
    pub id: ShardId,
    /// The parents of the shard; the listing may no longer contain them.
    pub parents: Vec<ShardId>,
    /// The data that its reader needs besides the name (files: `FileShard`; Kinesis: `HashRange`);
    /// else empty.
    pub detail: String,
    /// Takes no more records; it may still hold some.
    pub closed: bool,
}

/// The response of a source to a listing request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// All shards that the source still has, including closed ones, by name.
    pub shards: Vec<ListedShard>,
    /// Its stream; `None` if it has no stream or its service does not describe it.
    pub stream: Result<Option<StreamFacts>, ListError>,
    /// The service's clock at the time of the response, in whole seconds, if the service reports
    /// it.
    pub service_ms: Option<i64>,
}

impl Listing {
    /// Shards of a source that has no stream.
    pub fn of(shards: Vec<ListedShard>) -> Self {
        Self {
            shards,
            stream: Ok(None),
            service_ms: None,
        }
    }
}

/// The shards cannot be listed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// A later retry may succeed.
    #[error("shards cannot be listed now: {reason}")]
    Unavailable { reason: String },
    /// The same request from this process, at this moment, is refused again.
    #[error("shards cannot be listed: {reason}")]
    Refused {
        /// What determines the refusal.
        cause: RefusalCause,
        reason: String,
        hint: String,
    },
}

impl ListError {
    /// The job refers to something that does not exist.
    pub(super) fn request(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused {
            cause: RefusalCause::Request,
            reason: reason.into(),
            hint: hint.into(),
        }
    }
}
