//! A job whose position is not known.

use super::super::effect::HeadRepair;

/// The state of an unreadable job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Attempts of this leader so far.
    pub reads: u64,
    pub(crate) reading: bool,
    pub(crate) read_again_at_ms: i64,
    /// A repair that was requested while it was being read.
    pub(crate) repair: Option<Box<HeadRepair>>,
}
