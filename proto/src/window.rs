//! Windows of arrival time, and the window of each record.
//!
//! Rule: the window of a record depends on its shard's records alone, never on when it was read
//! (Promise 2).

use crate::Watermark;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The length of a job's windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct WindowSize {
    ms: i64,
}

/// A number that is not a valid length of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a window has at least one millisecond, not {0}")]
pub struct BadWindowSize(pub i64);

impl TryFrom<i64> for WindowSize {
    type Error = BadWindowSize;

    fn try_from(ms: i64) -> Result<Self, BadWindowSize> {
        Self::from_ms(ms).ok_or(BadWindowSize(ms))
    }
}

impl From<WindowSize> for i64 {
    fn from(size: WindowSize) -> Self {
        size.ms
    }
}

impl WindowSize {
    /// From milliseconds; `None` unless positive.
    pub fn from_ms(ms: i64) -> Option<Self> {
        (ms > 0).then_some(Self { ms })
    }
    /// In milliseconds.
    pub fn ms(self) -> i64 {
        self.ms
    }
    /// The window that contains this time. At the ends of the integer range it is shorter: no clock
    /// gets there.
    pub fn window_of(self, time_ms: i64) -> Window {
        let start_ms = time_ms.div_euclid(self.ms).saturating_mul(self.ms);
        Window {
            start_ms,
            end_ms: start_ms.saturating_add(self.ms),
        }
    }
    /// Whether this is one of the windows of this size, and has a name.
    pub fn has(self, window: Window) -> bool {
        is_nameable(window.start_ms)
            && is_nameable(window.end_ms)
            && self.window_of(window.start_ms) == window
    }
}

/// Whether a time is in a year that a name can represent ([`Window::label`]).
pub fn is_nameable(time_ms: i64) -> bool {
    chrono::DateTime::from_timestamp_millis(time_ms).is_some()
}

/// `[start, end)`, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Window {
    /// First millisecond inside.
    pub start_ms: i64,
    /// First millisecond after.
    pub end_ms: i64,
}

impl Window {
    /// Its start as a name: `20261124T004500Z`, with milliseconds if windows may begin within a
    /// second. Names of windows of one length sort by time.
    pub fn label(&self) -> String {
        let time = chrono::DateTime::from_timestamp_millis(self.start_ms).unwrap_or_default();
        let whole = self.start_ms.rem_euclid(1000) == 0 && self.end_ms.rem_euclid(1000) == 0;
        let format = if whole {
            "%Y%m%dT%H%M%SZ"
        } else {
            "%Y%m%dT%H%M%S.%3fZ"
        };
        time.format(format).to_string()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label())
    }
}

/// Assigns a window to each record of one shard: that of its arrival time, but never one before
/// `floor`, and never one before that of the previous record. Arrival times may go back inside a
/// shard; windows do not.
#[derive(Clone, Copy, Debug)]
pub struct Clamp {
    size: WindowSize,
    floor: Watermark,
}

impl Clamp {
    /// `floor` is the start of the earliest window that is still open for this shard.
    pub fn new(size: WindowSize, floor: Watermark) -> Self {
        Self { size, floor }
    }
    /// The window of the shard's next record.
    pub fn place(&mut self, arrival_ms: i64) -> Window {
        let floor_ms = self.floor.time_ms().unwrap_or(arrival_ms);
        let window = self.size.window_of(arrival_ms.max(floor_ms));
        self.floor = Watermark::At(window.start_ms);
        window
    }
    /// Windows that end at or before this take no more records. The end of reading closes nothing:
    /// no window begins there.
    pub fn close_before(&mut self, floor: Watermark) {
        if floor != Watermark::Ended {
            self.floor = self.floor.max(floor);
        }
    }
    /// The start of the earliest window that is still open.
    pub fn floor(&self) -> Watermark {
        self.floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(ms: i64) -> WindowSize {
        WindowSize::from_ms(ms).unwrap()
    }

    #[test]
    fn windows_are_aligned_to_the_unix_epoch() {
        assert_eq!(
            size(60_000).window_of(61_000),
            Window {
                start_ms: 60_000,
                end_ms: 120_000
            }
        );
        assert_eq!(size(60_000).window_of(59_999).start_ms, 0);
        assert_eq!(size(60_000).window_of(-1).start_ms, -60_000);
    }

    #[test]
    fn times_at_the_ends_of_their_range_have_a_window_too() {
        for ms in [1, 7, 60_000, 86_400_000, i64::MAX] {
            for time in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
                let window = size(ms).window_of(time);
                assert!(
                    window.start_ms <= time && time <= window.end_ms,
                    "{ms} {time}: {window:?}"
                );
            }
        }
    }

    #[test]
    fn a_window_that_is_not_one_of_the_job_s_is_known() {
        let good = size(60_000).window_of(61_000);
        assert!(size(60_000).has(good));
        for (start_ms, end_ms) in [
            (1, 60_001),
            (0, 120_000),
            (60_000, 60_001),
            (0, 1_000_000_000_000_000_000),
        ] {
            assert!(
                !size(60_000).has(Window { start_ms, end_ms }),
                "{start_ms} {end_ms}"
            );
        }
        assert!(
            !size(1).has(size(1).window_of(i64::MAX - 5)),
            "its name would be that of 1970"
        );
    }

    #[test]
    fn a_length_that_is_none_is_not_read_from_a_stored_job() {
        assert_eq!(
            serde_json::from_str::<WindowSize>("60000").unwrap(),
            size(60_000)
        );
        assert!(
            serde_json::from_str::<WindowSize>("0").is_err()
                && serde_json::from_str::<WindowSize>("-5").is_err()
        );
    }

    #[test]
    fn a_record_never_goes_back_within_its_shard() {
        let mut clamp = Clamp::new(size(10), Watermark::At(0));
        let starts: Vec<i64> = [5, 12, 9, 31, 18].map(|t| clamp.place(t).start_ms).to_vec();
        assert_eq!(starts, [0, 10, 10, 30, 30]);
    }

    #[test]
    fn a_closed_window_takes_nothing_any_more() {
        let mut clamp = Clamp::new(size(10), Watermark::At(0));
        clamp.close_before(Watermark::At(20));
        assert_eq!(clamp.place(5).start_ms, 20);
    }

    #[test]
    fn labels_sort_as_the_windows_do() {
        let labels =
            [0, 1_000, 60_000, 1_795_481_100_000].map(|t| size(1_000).window_of(t).label());
        assert!(labels.is_sorted());
        for size_ms in [100, 250, 500, 1_500] {
            let starts = (0..40).map(|n| n * size_ms);
            let labels: Vec<_> = starts
                .map(|start| size(size_ms).window_of(start).label())
                .collect();
            assert!(labels.is_sorted(), "{labels:?}");
        }
        assert_eq!(labels[3], "20261124T004500Z");
    }
}
