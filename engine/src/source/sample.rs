//! Which records of a source a preview reads.

use streamctl_proto::spec::StartingPosition;
use streamctl_proto::{Position, v1};

/// Which end of a source is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleFrom {
    /// The newest records.
    Latest,
    /// The oldest records.
    Earliest,
}

impl SampleFrom {
    /// The requested end; the end at which the job would start if none is requested.
    pub fn of(requested: v1::PreviewFrom, start: StartingPosition) -> Self {
        match (requested, start) {
            (v1::PreviewFrom::Latest, _)
            | (v1::PreviewFrom::Unspecified, StartingPosition::Latest) => Self::Latest,
            (v1::PreviewFrom::Earliest | v1::PreviewFrom::Unspecified, _) => Self::Earliest,
        }
    }
}

/// Which records of a shard are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The first ones from the position on.
    First,
    /// The last ones before the tip.
    Last,
}

/// Where a preview reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// The assumed start of the job; `None`: its own start.
    pub start: Option<Position>,
    /// Tried one after the other until there are enough records.
    pub reads: Vec<(Position, End)>,
}

impl Sampling {
    /// The first records of each shard.
    pub fn first() -> Self {
        Self::of(vec![(Position::Start, End::First)])
    }

    pub fn of(reads: Vec<(Position, End)>) -> Self {
        Self { start: None, reads }
    }
}
