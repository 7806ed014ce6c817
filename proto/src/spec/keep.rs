//! How long the history of a job is kept: `[checkpoint] keep`.
//!
//! Owns: the key and its stored form. Does not own: what is removed, and when (the controller).
//! Rule: the default is not stored, so jobs of earlier builds have it too.

use super::key::{Kind, Read, Span};
use super::raw::Entry;
use super::text::duration_text;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The shortest history. A copy of the store that is older than the history cannot be brought up to
/// date, and a replay or a reader must have time to finish.
pub const KEEP_MIN: Duration = Duration::from_secs(60);
/// The longest history with an end: 100 years.
const KEEP_MAX: Duration = Duration::from_secs(36_500 * 86_400);
pub(super) const KEEP_DEFAULT: Duration = Duration::from_secs(30 * 86_400);
const FOREVER: &str = "forever";

/// How long manifests and earlier versions of the job are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    Forever,
    For(Duration),
}

impl Default for Keep {
    fn default() -> Self {
        Self::For(KEEP_DEFAULT)
    }
}

impl Keep {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The value in the form of a job file.
    pub fn text(&self) -> String {
        match self {
            Self::Forever => FOREVER.to_owned(),
            Self::For(duration) => duration_text(*duration),
        }
    }

    /// In milliseconds; `None`: without an end.
    pub fn ms(&self) -> Option<i64> {
        match self {
            Self::Forever => None,
            Self::For(duration) => Some(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        }
    }
}

/// A duration, or `forever`.
pub(super) struct KeepKind;

const SPAN: Span = Span {
    least: KEEP_MIN,
    most: KEEP_MAX,
};

impl Kind for KeepKind {
    type Value = Keep;
    fn words(&self) -> String {
        format!("{}, or `{FOREVER}`", SPAN.words())
    }
    fn shown(&self, value: &Keep) -> String {
        value.text()
    }
}

impl Read for KeepKind {
    fn read(&self, entry: &Entry<'_>) -> Option<Keep> {
        if entry.text("a duration such as \"30d\", or \"forever\"")? == FOREVER {
            return Some(Keep::Forever);
        }
        SPAN.read(entry).map(Keep::For)
    }
}
