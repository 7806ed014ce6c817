//! How far reading has come in arrival time: not known, up to a time, or to the end.
//!
//! Owns: the order of these, and the integer that stands for each in messages.
//! Does not own: which windows exist ([`crate::window`]).
//! Rule: an integer stands for "unknown" or "ended" in messages alone.

use crate::Window;

/// No record of a window that ends at or before this can follow. As the floor of a shard: the
/// start of the earliest window that may still take its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watermark {
    /// Any window may still take records.
    #[default]
    Unknown,
    /// In milliseconds since the Unix epoch.
    At(i64),
    /// Everything was read: no record can follow.
    Ended,
}

/// Integers after this stand for the end: earlier builds round the end down to a window.
const ENDED_AFTER_MS: i64 = i64::MAX - 86_400_000;

impl Watermark {
    /// Whether no record of this window can follow.
    pub fn is_past(self, window: Window) -> bool {
        self >= Self::At(window.end_ms)
    }

    /// The time, if there is one.
    pub fn time_ms(self) -> Option<i64> {
        match self {
            Self::At(time_ms) => Some(time_ms),
            Self::Unknown | Self::Ended => None,
        }
    }

    /// From an integer of a message. Whether the time can be named is checked by the receiver.
    pub fn from_wire(ms: i64) -> Self {
        match ms {
            i64::MIN => Self::Unknown,
            time_ms if time_ms > ENDED_AFTER_MS => Self::Ended,
            time_ms => Self::At(time_ms),
        }
    }

    /// The integer that stands for it in messages.
    pub fn to_wire(self) -> i64 {
        match self {
            Self::Unknown => i64::MIN,
            Self::At(time_ms) => time_ms,
            Self::Ended => i64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_before_every_time_and_ended_after() {
        let times = [
            Watermark::Unknown,
            Watermark::At(i64::MIN + 1),
            Watermark::At(-1),
            Watermark::At(ENDED_AFTER_MS),
            Watermark::Ended,
        ];
        assert!(times.is_sorted());
        for watermark in times {
            assert_eq!(Watermark::from_wire(watermark.to_wire()), watermark);
        }
    }

    #[test]
    fn a_window_is_past_at_its_end_and_not_before() {
        let window = Window {
            start_ms: 0,
            end_ms: 60_000,
        };
        assert!(Watermark::At(60_000).is_past(window));
        assert!(!Watermark::At(59_999).is_past(window));
        assert!(!Watermark::Unknown.is_past(window));
        assert!(Watermark::Ended.is_past(window));
    }
}
