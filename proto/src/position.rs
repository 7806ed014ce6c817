//! A position in a shard.
//!
//! Rule: a position names the record *after* which reading continues; it never names the next
//! record.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Most digits that a sequence number may have (Kinesis: 56; the service's documentation allows
/// 128).
pub const SEQUENCE_DIGITS_MAX: usize = 128;

/// A decimal number of any length, stored as its service wrote it and compared as a number: `007`
/// is `7`. Cheap to clone: every user record of an aggregate has that of the aggregate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SequenceNumber(Arc<str>);

/// A text that is not a sequence number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a sequence number has 1 to {SEQUENCE_DIGITS_MAX} decimal digits; this is not one: {0:?}")]
pub struct BadSequenceNumber(pub String);

impl SequenceNumber {
    /// The text, as the service wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The number itself, if it fits: those of files and the generator do.
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
        Self(number.to_string().into())
    }
}

impl TryFrom<String> for SequenceNumber {
    type Error = BadSequenceNumber;

    fn try_from(text: String) -> Result<Self, BadSequenceNumber> {
        Self::try_from(text.as_str())
    }
}

impl TryFrom<&str> for SequenceNumber {
    type Error = BadSequenceNumber;

    fn try_from(text: &str) -> Result<Self, BadSequenceNumber> {
        let good = !text.is_empty()
            && text.len() <= SEQUENCE_DIGITS_MAX
            && text.bytes().all(|b| b.is_ascii_digit());
        if good {
            Ok(Self(text.into()))
        } else {
            Err(BadSequenceNumber(text.to_owned()))
        }
    }
}

impl From<SequenceNumber> for String {
    fn from(number: SequenceNumber) -> Self {
        number.0.as_ref().to_owned()
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
        let a = self.digits();
        let b = other.digits();
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

/// Where reading of a shard continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// The oldest record that the source still has.
    Start,
    /// The first record that arrived at or after this time, in milliseconds since the Unix epoch.
    Timestamp(i64),
    /// The record after this one.
    After {
        sequence: SequenceNumber,
        /// 0: the whole record is read. `k > 0`: it is a KPL aggregate, and its first `k` user
        /// records are read. The last one of an aggregate is written as 0, so that each place has a
        /// single form.
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
    /// After a whole record.
    pub fn after(sequence: SequenceNumber) -> Self {
        Self::After {
            sequence,
            sub_sequence: 0,
        }
    }

    /// Whether `later` is at or beyond this (I3: committed positions never go back).
    pub fn reaches(&self, later: &Self) -> bool {
        self.rank() <= later.rank()
    }

    /// The whole record comes after each of its parts.
    fn rank(&self) -> (u8, Option<(&SequenceNumber, u64)>) {
        match self {
            Self::Start | Self::Timestamp(_) => (0, None),
            Self::After {
                sequence,
                sub_sequence: 0,
            } => (1, Some((sequence, u64::MAX))),
            Self::After {
                sequence,
                sub_sequence,
            } => (1, Some((sequence, *sub_sequence))),
            Self::End => (2, None),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Timestamp(ms) => write!(f, "at {ms} ms"),
            Self::After {
                sequence,
                sub_sequence: 0,
            } => write!(f, "after {sequence}"),
            Self::After {
                sequence,
                sub_sequence,
            } => write!(f, "after {sequence}/{sub_sequence}"),
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
        assert!(
            number("49590338271490256608559692538361571095921575989136588898") > number("9999")
        );
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
        let five = Position::after(5.into());
        let six = Position::after(6.into());
        assert!(
            Position::Start.reaches(&five) && five.reaches(&six) && six.reaches(&Position::End)
        );
        assert!(
            !six.reaches(&five) && !Position::End.reaches(&six) && !five.reaches(&Position::Start)
        );
    }

    #[test]
    fn a_whole_record_follows_its_parts() {
        let part = |sequence: u64, sub_sequence| Position::After {
            sequence: sequence.into(),
            sub_sequence,
        };
        let order = [
            part(4, 0),
            part(5, 1),
            part(5, 2),
            part(5, u64::MAX - 1),
            part(5, 0),
            part(6, 1),
        ];
        for (i, earlier) in order.iter().enumerate() {
            for (j, later) in order.iter().enumerate() {
                assert_eq!(earlier.reaches(later), i <= j, "{earlier} and {later}");
            }
        }
    }
}
