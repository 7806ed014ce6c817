//! Names and numbers that must not be mixed up.
//!
//! Rule: a value of these types is valid; text from outside becomes one only through `FromStr` or
//! `TryFrom`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest name of a job: it is part of object names and etcd keys.
pub const JOB_NAME_CHARS_MAX: usize = 63;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps text that is known to be valid.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

text_id!(
    /// A shard's name as its source gives it: `shardId-000000000001`, a file's path, `generator-3`.
    ShardId
);
text_id!(
    /// A worker's name, unique while it lives: host name and a random part.
    WorkerId
);
text_id!(
    /// Digest of a lookup's objects (names and ETags).
    LookupVersion
);

/// A job's name: lower-case letters, digits and single dashes, as in Kubernetes, at most
/// [`JOB_NAME_CHARS_MAX`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobName(String);

/// A text that is not a job's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a job's name has 1 to {JOB_NAME_CHARS_MAX} lower-case letters, digits and dashes, and begins \
     and ends with a letter or digit; this is not one: {0:?}"
)]
pub struct BadJobName(pub String);

impl JobName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for JobName {
    type Error = BadJobName;

    fn try_from(text: String) -> Result<Self, BadJobName> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let good = !text.is_empty()
            && text.len() <= JOB_NAME_CHARS_MAX
            && text.chars().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if good {
            Ok(Self(text))
        } else {
            Err(BadJobName(text))
        }
    }
}

impl std::str::FromStr for JobName {
    type Err = BadJobName;

    fn from_str(text: &str) -> Result<Self, BadJobName> {
        Self::try_from(text.to_owned())
    }
}

impl From<JobName> for String {
    fn from(name: JobName) -> Self {
        name.0
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The leader's number: it rises with every election. Only the current term can commit.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Term(pub u64);

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The number of a commit of one job: 1, 2, 3 ...; 0 is "before the first".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The version of a job: 1 when it is new, incremented with each change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobVersion(pub u64);

impl JobVersion {
    /// The version of a job that was never changed.
    pub const FIRST: Self = Self(1);

    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Default for JobVersion {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for JobVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Names a task, and is its attempt: a task is assigned once, with a number that was never used
/// before, not even by an earlier leader. Anything that carries an older number for the same shards
/// is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// The term of the leader that assigned it.
    pub term: Term,
    pub counter: u64,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}.{}", self.term, self.counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_names_are_those_of_kubernetes() {
        for good in ["a", "sales-by-country", "x1", &"a".repeat(63)] {
            assert!(good.parse::<JobName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a_b",
            "a/b",
            "..",
            &"a".repeat(64),
            "é",
        ] {
            assert!(bad.parse::<JobName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_later_term_makes_a_later_task_whatever_the_counter() {
        let early = TaskId {
            term: Term(3),
            counter: 900,
        };
        let late = TaskId {
            term: Term(4),
            counter: 1,
        };
        assert!(early < late);
    }
}
