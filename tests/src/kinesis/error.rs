//! The error responses of the service.

use super::ACCOUNT;
use serde_json::{Value, json};

/// An error response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: u16,
    pub code: String,
    pub message: String,
    /// A limit of the service refused it, not the script.
    pub by_limit: bool,
}

impl Refusal {
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.into(),
            by_limit: false,
        }
    }
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidArgumentException", message)
    }
    pub fn no_stream(name: &str) -> Self {
        let message = format!("Stream {name} under account {ACCOUNT} not found.");
        Self::new(400, "ResourceNotFoundException", message)
    }
    pub fn no_shard(shard: &str, stream: &str) -> Self {
        let message =
            format!("Shard {shard} in stream {stream} under account {ACCOUNT} does not exist");
        Self::new(400, "ResourceNotFoundException", message)
    }
    pub fn expired_iterator() -> Self {
        let message =
            "Iterator expired. The iterator was created more than 300000 milliseconds ago.";
        Self::new(400, "ExpiredIteratorException", message)
    }
    pub fn rate(what: &str, shard: &str, stream: &str) -> Self {
        let message = format!(
            "Rate exceeded for {what} of shard {shard} in stream {stream} under account {ACCOUNT}."
        );
        Self {
            by_limit: true,
            ..Self::new(400, "ProvisionedThroughputExceededException", message)
        }
    }
    pub fn limit(what: &str) -> Self {
        Self {
            by_limit: true,
            ..Self::new(
                400,
                "LimitExceededException",
                format!("Rate exceeded for {what}."),
            )
        }
    }
    pub fn body(&self) -> Value {
        json!({ "__type": self.code, "message": self.message })
    }
}
