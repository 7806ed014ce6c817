//! The errors of a query, distinguished by what the caller does.
//!
//! Rule: the user must fix [`QueryError::Sql`] at submit; [`QueryError::Rows`] is about a row's
//! data; [`QueryError::Memory`] names the limit.

use super::phrase::plain;
use datafusion::error::DataFusionError;
use std::time::Duration;
use streamctl_proto::spec::{Part, Problem};

/// A query cannot be planned or executed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The text of the query is wrong. Reported to the user at submit.
    #[error("{message}")]
    Sql {
        message: String,
        hint: Option<String>,
        /// The line of the text, from 1, if known.
        line: Option<usize>,
    },
    /// A lookup's rows are missing, or lack columns that the query was planned with.
    #[error("lookup {name}: {reason}")]
    Lookup {
        name: String,
        /// The reason.
        reason: String,
    },
    /// A pushed batch has other columns than the query reads: a bug in the caller.
    #[error("a batch of the source has other columns than the query reads: {0}")]
    Input(String),
    /// A value of some row: a cast, a division, an overflow. Fatal for the window: the record is
    /// unknown, or the failure is of no single record.
    #[error("the query failed on a row's data: {0}")]
    Rows(String),
    /// More memory was needed than allowed.
    #[error("the query needs more than its limit of {limit_bytes} bytes: {detail}")]
    Memory {
        limit_bytes: usize,
        /// The operator, and how much it requested.
        detail: String,
    },
    /// Planning took too long.
    #[error("planning took too long: the limit is {} s", limit.as_secs())]
    Late { limit: Duration },
    /// Too many other queries are being planned: the same query may be planned later.
    #[error("too many queries are being planned at the moment")]
    Busy,
    /// The planner failed on a query that it had accepted: a bug in this program.
    #[error("the query cannot be executed: {0}")]
    Plan(String),
}

impl QueryError {
    /// As a problem of the job file.
    pub fn problem(&self) -> Problem {
        let (message, hint, line) = match self {
            Self::Sql {
                message,
                hint,
                line,
            } => (message.clone(), hint.clone(), *line),
            Self::Late { .. } => (self.to_string(), Some(LATE_HINT.to_owned()), None),
            other => (other.to_string(), None, None),
        };
        Problem {
            part: line.map(Part::Line),
            ..Problem::new("transform.sql", message, hint)
        }
    }

    pub(super) fn sql(message: impl Into<String>, hint: Option<String>) -> Self {
        Self::Sql {
            message: message.into(),
            hint,
            line: None,
        }
    }

    /// The same error with the line, if it has none yet.
    pub(super) fn on_line(self, at: Option<usize>) -> Self {
        match self {
            Self::Sql {
                message,
                hint,
                line,
            } => Self::Sql {
                message,
                hint,
                line: line.or(at),
            },
            other => other,
        }
    }

    /// From an error before the first row.
    pub(super) fn at_start(error: &DataFusionError, limit_bytes: usize) -> Self {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(detail) => Self::Memory {
                limit_bytes,
                detail: detail.clone(),
            },
            root => Self::Plan(plain(&root.message())),
        }
    }

    /// From an error while rows are processed.
    pub(super) fn at_run_time(error: &DataFusionError, limit_bytes: usize) -> Self {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(detail) => Self::Memory {
                limit_bytes,
                detail: detail.clone(),
            },
            DataFusionError::Internal(detail) | DataFusionError::NotImplemented(detail) => {
                Self::Plan(detail.clone())
            }
            root => Self::Rows(with_advice(plain(&root.message()))),
        }
    }
}

/// Advice for a query that takes too long to plan.
const LATE_HINT: &str =
    "write fewer terms, columns and joins; put long lists of values into a lookup, and join it";

/// Advice for what fails most often.
pub(super) fn with_advice(text: String) -> String {
    let advice = [
        ("Cannot cast", "; TRY_CAST gives NULL in place of it"),
        (
            "Divide by zero",
            "; NULLIF(divisor, 0) gives NULL in place of it",
        ),
    ];
    match advice.iter().find(|(error, _)| text.contains(error)) {
        Some((_, advice)) if !text.contains(advice) => text + advice,
        _ => text,
    }
}
