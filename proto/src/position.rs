//! Where in a shard.
//!
//! Rule: a position names the record *after* which reading goes on; it never names the next record.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

/// Most digits that a sequence number may have (Kinesis: 56; the service's documentation allows 128).
pub const SEQUENCE_DIGITS_MAX: usize = 128;

/// A decimal number of any length, kept as its service wrote it and compared as a number: `007` is `7`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SequenceNumber(String);

/// A text is not a sequence number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a sequence number has 1 to {SEQUENCE_DIGITS_MAX} decimal digits; this is not one: {0:?}")]
pub struct BadSequenceNumber(pub String);

impl SequenceNumber {
    /// The text, as the service wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The number itself, where it fits: those of files and the generator do.
    pub fn to_u64(&self) -> Option<u64> {
        self.0.parse().ok()
    }
    fn digits(&self) -> &str {
        let digits = self.0.trim_start_matches('0');
        if digits.is_empty() { "0" } else { digits }
    }
}

impl From<u64> for SequenceNumber {
    fn from(number: u64) -> Self {
        Self(number.to_string())
    }
}

impl TryFrom<String> for SequenceNumber {
    type Error = BadSequenceNumber;

    fn try_from(text: String) -> Result<Self, BadSequenceNumber> {
        let good = !text.is_empty() && text.len() <= SEQUENCE_DIGITS_MAX && text.bytes().all(|b| b.is_ascii_digit());
        if good { Ok(Self(text)) } else { Err(BadSequenceNumber(text)) }
    }
}

impl From<SequenceNumber> for String {
    fn from(number: SequenceNumber) -> Self {
        number.0
    }
}

impl PartialEq for SequenceNumber {
    fn eq(&self, other: &Self) -> bool {
        self.digits() == other.digits()
    }
}

impl Eq for SequenceNumber {}

impl Hash for SequenceNumber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digits().hash(state);
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.digits(), other.digits());
        a.len().cmp(&b.len()).then_with(|| a.cmp(b))
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where reading of a shard goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// The oldest record that the source still has.
    Start,
    /// The first record that arrived at or after this time, in milliseconds since the Unix epoch.
    Timestamp(i64),
    /// The record after this one.
    After {
        /// Of the source's record.
        sequence: SequenceNumber,
        /// Of the user record inside a KPL aggregate, counted from 0.
        #[serde(default, skip_serializing_if = "is_zero")]
        sub_sequence: u64,
    },
    /// The shard is closed and read to its end.
    End,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Position {
    /// After a record that is not part of an aggregate.
    pub fn after(sequence: SequenceNumber) -> Self {
        Self::After { sequence, sub_sequence: 0 }
    }

    /// Whether `later` lies at or beyond this (I3: committed positions never go back).
    pub fn reaches(&self, later: &Self) -> bool {
        self.rank() <= later.rank()
    }

    fn rank(&self) -> (u8, Option<(&SequenceNumber, u64)>) {
        match self {
            Self::Start | Self::Timestamp(_) => (0, None),
            Self::After { sequence, sub_sequence } => (1, Some((sequence, *sub_sequence))),
            Self::End => (2, None),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Timestamp(ms) => write!(f, "at {ms} ms"),
            Self::After { sequence, sub_sequence: 0 } => write!(f, "after {sequence}"),
            Self::After { sequence, sub_sequence } => write!(f, "after {sequence}/{sub_sequence}"),
            Self::End => f.write_str("end"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> SequenceNumber {
        SequenceNumber::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn sequence_numbers_compare_as_numbers() {
        assert!(number("9") < number("10"));
        assert!(number("49590338271490256608559692538361571095921575989136588898") > number("9999"));
        assert_eq!(number("007").cmp(&number("7")), Ordering::Equal);
        assert_eq!(number("007"), number("7"));
        assert_ne!(number("70"), number("7"));
    }

    #[test]
    fn text_that_is_no_number_is_refused() {
        for bad in ["", "-1", "1a", "1 ", "TRIM_HORIZON"] {
            assert!(SequenceNumber::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn positions_only_go_forward() {
        let (five, six) = (Position::after(5.into()), Position::after(6.into()));
        let inside = Position::After { sequence: 5.into(), sub_sequence: 3 };
        assert!(
            Position::Start.reaches(&five)
                && five.reaches(&inside)
                && inside.reaches(&six)
                && six.reaches(&Position::End)
        );
        assert!(!six.reaches(&five) && !Position::End.reaches(&six) && !five.reaches(&Position::Start));
    }
}
