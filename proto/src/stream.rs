//! Which stream a job reads, as its service knows it.

use serde::{Deserialize, Serialize};

/// Which stream it is: one that is deleted and created again has the same name, and other records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamIdentity {
    /// As the service names it.
    pub arn: Option<String>,
    /// When the service created it.
    pub created_ms: i64,
}

impl StreamIdentity {
    /// Whether both can be the same stream. An ARN that is not known says nothing.
    pub fn is(&self, other: &Self) -> bool {
        let same_arn = match (&self.arn, &other.arn) {
            (Some(one), Some(another)) => one == another,
            _ => true,
        };
        same_arn && self.created_ms == other.created_ms
    }
}

/// What a service says of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamFacts {
    pub identity: StreamIdentity,
    /// How long it keeps records.
    pub retention_ms: i64,
}
