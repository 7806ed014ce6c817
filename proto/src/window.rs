//! Windows of arrival time, and which one a record belongs to.
//!
//! Rule: the window of a record depends on its shard's records alone, never on when it was read (Promise 2).

use serde::{Deserialize, Serialize};
use std::fmt;

/// The length of a job's windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WindowSize {
    ms: i64,
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
    /// The window that holds this time.
    pub fn window_of(self, time_ms: i64) -> Window {
        let start_ms = time_ms.div_euclid(self.ms) * self.ms;
        Window { start_ms, end_ms: start_ms + self.ms }
    }
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
    /// Its start as a name: `20261124T004500Z`, with milliseconds when start or end have any. All windows of a size are
    /// named alike, so their names sort as they do.
    pub fn label(&self) -> String {
        let time = chrono::DateTime::from_timestamp_millis(self.start_ms).unwrap_or_default();
        let whole = self.start_ms.rem_euclid(1000) == 0 && self.end_ms.rem_euclid(1000) == 0;
        let format = if whole { "%Y%m%dT%H%M%SZ" } else { "%Y%m%dT%H%M%S.%3fZ" };
        time.format(format).to_string()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label())
    }
}

/// Gives each record of one shard its window: that of its arrival time, but never one before `floor`, and never one
/// before that of the record in front of it. Arrival times may step back inside a shard; windows do not.
#[derive(Clone, Copy, Debug)]
pub struct Clamp {
    size: WindowSize,
    floor_ms: i64,
}

impl Clamp {
    /// `floor_ms` is the start of the earliest window that is still open for this shard.
    pub fn new(size: WindowSize, floor_ms: i64) -> Self {
        Self { size, floor_ms }
    }
    /// The window of the shard's next record.
    pub fn place(&mut self, arrival_ms: i64) -> Window {
        let window = self.size.window_of(arrival_ms.max(self.floor_ms));
        self.floor_ms = window.start_ms;
        window
    }
    /// Windows that end at or before `time_ms` take nothing any more.
    pub fn close_before(&mut self, time_ms: i64) {
        self.floor_ms = self.floor_ms.max(time_ms);
    }
    /// The start of the earliest window that is still open.
    pub fn floor_ms(&self) -> i64 {
        self.floor_ms
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
        assert_eq!(size(60_000).window_of(61_000), Window { start_ms: 60_000, end_ms: 120_000 });
        assert_eq!(size(60_000).window_of(59_999).start_ms, 0);
        assert_eq!(size(60_000).window_of(-1).start_ms, -60_000);
    }

    #[test]
    fn a_record_never_goes_back_within_its_shard() {
        let mut clamp = Clamp::new(size(10), 0);
        let starts: Vec<i64> = [5, 12, 9, 31, 18].map(|t| clamp.place(t).start_ms).to_vec();
        assert_eq!(starts, [0, 10, 10, 30, 30]);
    }

    #[test]
    fn a_closed_window_takes_nothing_any_more() {
        let mut clamp = Clamp::new(size(10), 0);
        clamp.close_before(20);
        assert_eq!(clamp.place(5).start_ms, 20);
    }

    #[test]
    fn labels_sort_as_the_windows_do() {
        let labels = [0, 1_000, 60_000, 1_795_481_100_000].map(|t| size(1_000).window_of(t).label());
        assert!(labels.is_sorted());
        assert_eq!(labels[3], "20261124T004500Z");
        for size_ms in [100, 200, 500, 1_500] {
            let windows = (0..50).map(|i| size(size_ms).window_of(i * size_ms).label());
            assert!(windows.is_sorted(), "of {size_ms} ms");
        }
    }
}
