//! Why a message is refused.

/// A message with missing or invalid content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("message field {field}: {problem}")]
pub struct BadMessage {
    pub field: &'static str,
    /// The problem.
    pub problem: String,
}
