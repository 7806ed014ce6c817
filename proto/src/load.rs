//! A worker's CPU time and memory over time.
//!
//! Owns: what a bucket holds. Does not own: measuring (the worker), buckets ([`crate::ring`]).
//! Rule: a worker keeps its own history, so that the next leader gets it with the Hello; no store has
//! it.

use crate::ring::{Bucket, COARSE_POINTS_MAX, COARSE_STEP_MS, Series};
use crate::v1;

/// What a worker keeps.
const DAY_MS: i64 = COARSE_STEP_MS * COARSE_POINTS_MAX as i64;

/// One look at a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadSample {
    /// CPU time of the process, in thousandths of one processor. `None`: not known.
    pub cpu_permille: Option<u32>,
    pub memory_bytes: u64,
    pub busy_permille: Option<u32>,
}

/// Averages of CPU time and business, the most memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadPoint {
    pub at_ms: i64,
    pub memory_bytes: u64,
    cpu: Average,
    busy: Average,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Average {
    sum: u64,
    times: u32,
}

impl Average {
    fn add(&mut self, value: Option<u32>) {
        if let Some(value) = value {
            self.sum = self.sum.saturating_add(u64::from(value));
            self.times = self.times.saturating_add(1);
        }
    }

    fn merge(&mut self, other: Self) {
        self.sum = self.sum.saturating_add(other.sum);
        self.times = self.times.saturating_add(other.times);
    }

    fn value(self) -> Option<u32> {
        let average = self.sum.checked_div(u64::from(self.times))?;
        u32::try_from(average).ok()
    }
}

impl LoadPoint {
    pub fn cpu_permille(&self) -> Option<u32> {
        self.cpu.value()
    }

    pub fn busy_permille(&self) -> Option<u32> {
        self.busy.value()
    }
}

impl Bucket for LoadPoint {
    type Sample = LoadSample;

    fn begin(at_ms: i64) -> Self {
        Self {
            at_ms,
            ..Self::default()
        }
    }

    fn at_ms(&self) -> i64 {
        self.at_ms
    }

    fn add(&mut self, sample: &LoadSample) {
        self.memory_bytes = self.memory_bytes.max(sample.memory_bytes);
        self.cpu.add(sample.cpu_permille);
        self.busy.add(sample.busy_permille);
    }

    fn merge(&mut self, earlier: Self) {
        self.memory_bytes = self.memory_bytes.max(earlier.memory_bytes);
        self.cpu.merge(earlier.cpu);
        self.busy.merge(earlier.busy);
    }
}

/// The history of one worker.
pub type LoadHistory = Series<LoadPoint>;

impl From<&LoadPoint> for v1::LoadPoint {
    fn from(point: &LoadPoint) -> Self {
        Self {
            at_ms: point.at_ms,
            cpu_permille: point.cpu_permille(),
            memory_bytes: point.memory_bytes,
            busy_permille: point.busy_permille(),
        }
    }
}

impl From<&v1::LoadPoint> for LoadPoint {
    fn from(point: &v1::LoadPoint) -> Self {
        let mut read = Self::begin(point.at_ms);
        read.add(&LoadSample {
            cpu_permille: point.cpu_permille,
            memory_bytes: point.memory_bytes,
            busy_permille: point.busy_permille,
        });
        read
    }
}

/// The minutes of a history, with times that count back from `now_ms`.
pub fn to_hello(history: &LoadHistory, now_ms: i64) -> Vec<v1::LoadPoint> {
    let point = |point: &LoadPoint| v1::LoadPoint {
        at_ms: point.at_ms.saturating_sub(now_ms).min(0),
        ..point.into()
    };
    history.coarse().map(point).collect()
}

/// The points of a Hello: no more than a worker keeps, in order, none of the future.
pub fn from_hello(points: &[v1::LoadPoint]) -> Vec<LoadPoint> {
    let mut read: Vec<LoadPoint> = points
        .iter()
        .take(COARSE_POINTS_MAX)
        .filter(|point| (-DAY_MS..=0).contains(&point.at_ms))
        .map(Into::into)
        .collect();
    read.sort_by_key(|point| point.at_ms);
    read
}

/// The points of a Hello that came at `now_ms`, with their times.
pub fn ending_at(points: Vec<LoadPoint>, now_ms: i64) -> Vec<LoadPoint> {
    let mut timed = points;
    for point in &mut timed {
        let at_ms = now_ms.saturating_add(point.at_ms);
        point.at_ms = at_ms - at_ms.rem_euclid(COARSE_STEP_MS);
    }
    timed.dedup_by_key(|point| point.at_ms);
    timed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_has_the_average_time_and_the_most_memory() {
        let mut history = LoadHistory::default();
        for (cpu, memory_bytes) in [(Some(100), 5), (None, 9), (Some(300), 7)] {
            let sample = LoadSample {
                cpu_permille: cpu,
                memory_bytes,
                busy_permille: None,
            };
            history.add(1_000, &sample);
        }
        let point = history.coarse().next().unwrap();
        assert_eq!((point.cpu_permille(), point.memory_bytes), (Some(200), 9));
        assert_eq!(point.busy_permille(), None);
        let wire = v1::LoadPoint::from(point);
        assert_eq!(v1::LoadPoint::from(&LoadPoint::from(&wire)), wire);
    }

    #[test]
    fn a_history_travels_by_age_because_clocks_differ() {
        let mut history = LoadHistory::default();
        for minute in [1_i64, 2, 5] {
            let sample = LoadSample {
                memory_bytes: minute.unsigned_abs(),
                ..LoadSample::default()
            };
            history.add(minute * COARSE_STEP_MS, &sample);
        }
        let sent = to_hello(&history, 5 * COARSE_STEP_MS + 10);
        let arrived_ms = 1_795_481_100_000;
        let read = ending_at(from_hello(&sent), arrived_ms);
        let ages: Vec<i64> = read
            .iter()
            .map(|point| (arrived_ms - point.at_ms) / COARSE_STEP_MS)
            .collect();
        assert_eq!(ages, [5, 4, 1]);
        assert_eq!(read[2].memory_bytes, 5);
    }

    #[test]
    fn points_of_a_hello_are_bounded_ordered_and_not_of_the_future() {
        let point = |at_ms| v1::LoadPoint {
            at_ms,
            ..Default::default()
        };
        let read = from_hello(&[point(-3), point(-9), point(1)]);
        let times: Vec<i64> = read.iter().map(|point| point.at_ms).collect();
        assert_eq!(times, [-9, -3]);
        let many: Vec<_> = (0..5_000).map(|n| point(-n)).collect();
        assert_eq!(from_hello(&many).len(), COARSE_POINTS_MAX);
        assert_eq!(from_hello(&[point(i64::MIN), point(-2 * DAY_MS)]), []);
    }
}
