//! Points in time, bounded: fine ones of the last hour, coarse ones of the last day.
//!
//! Owns: buckets, and how many are kept. Does not own: what a point is.
//! Rule: pure; the caller gives the time. A bucket in which nothing was recorded is not there: a gap
//! is a gap.

use std::collections::VecDeque;

/// Length and number of the fine buckets: an hour.
pub const FINE_STEP_MS: i64 = 10_000;
pub const FINE_POINTS_MAX: usize = 360;
/// Length and number of the coarse buckets: a day.
pub const COARSE_STEP_MS: i64 = 60_000;
pub const COARSE_POINTS_MAX: usize = 1_440;

/// A bucket of a series.
pub trait Bucket: Clone {
    type Sample;

    fn begin(at_ms: i64) -> Self;
    fn at_ms(&self) -> i64;
    fn add(&mut self, sample: &Self::Sample);
    /// Adds what was recorded elsewhere of the same bucket, earlier.
    fn merge(&mut self, earlier: Self);
    /// Nothing more is added; what was needed to add can be dropped.
    fn close(&mut self) {}
}

/// Buckets of one length, oldest first.
#[derive(Clone, Debug)]
struct Ring<B> {
    step_ms: i64,
    most: usize,
    buckets: VecDeque<B>,
}

impl<B: Bucket> Ring<B> {
    fn new(step_ms: i64, most: usize) -> Self {
        Self {
            step_ms,
            most,
            buckets: VecDeque::new(),
        }
    }

    /// A time before the last bucket is added to that: clocks of leaders differ.
    fn add(&mut self, now_ms: i64, sample: &B::Sample) {
        let at_ms = now_ms - now_ms.rem_euclid(self.step_ms);
        let is_later = |last: &mut B| last.at_ms() < at_ms;
        if self.buckets.back_mut().is_none_or(is_later) {
            if let Some(last) = self.buckets.back_mut() {
                last.close();
            }
            self.buckets.push_back(B::begin(at_ms));
            if self.buckets.len() > self.most {
                self.buckets.pop_front();
            }
        }
        if let Some(last) = self.buckets.back_mut() {
            last.add(sample);
        }
    }

    /// Puts earlier buckets before its own, up to its first, which may be the same one.
    fn put_before(&mut self, earlier: impl Iterator<Item = B>) {
        let mut all: VecDeque<B> = VecDeque::new();
        for one in earlier {
            match self.buckets.front_mut() {
                Some(first) if one.at_ms() == first.at_ms() => first.merge(one),
                Some(first) if one.at_ms() > first.at_ms() => {}
                Some(_) | None => all.push_back(one),
            }
        }
        all.append(&mut self.buckets);
        while all.len() > self.most {
            all.pop_front();
        }
        self.buckets = all;
    }
}

/// The history of one job or worker.
#[derive(Clone, Debug)]
pub struct Series<B> {
    fine: Ring<B>,
    coarse: Ring<B>,
}

impl<B: Bucket> Default for Series<B> {
    fn default() -> Self {
        Self {
            fine: Ring::new(FINE_STEP_MS, FINE_POINTS_MAX),
            coarse: Ring::new(COARSE_STEP_MS, COARSE_POINTS_MAX),
        }
    }
}

impl<B: Bucket> Series<B> {
    pub fn add(&mut self, now_ms: i64, sample: &B::Sample) {
        self.fine.add(now_ms, sample);
        self.coarse.add(now_ms, sample);
    }

    /// Puts what was recorded elsewhere before what was recorded here.
    pub fn put_before(&mut self, earlier: Self) {
        self.fine.put_before(earlier.fine.buckets.into_iter());
        self.coarse.put_before(earlier.coarse.buckets.into_iter());
    }

    /// The same with coarse buckets alone.
    pub fn put_coarse_before(&mut self, earlier: impl Iterator<Item = B>) {
        self.coarse.put_before(earlier);
    }

    /// The buckets of this span of time up to now, oldest first, and their length. Fine ones if they
    /// reach back far enough.
    pub fn last(&self, now_ms: i64, span_ms: i64) -> (i64, impl Iterator<Item = &B>) {
        let ring = match span_ms <= FINE_STEP_MS * FINE_POINTS_MAX as i64 {
            true => &self.fine,
            false => &self.coarse,
        };
        let step_ms = ring.step_ms;
        let from_ms = now_ms.saturating_sub(span_ms);
        let is_wanted = move |one: &&B| one.at_ms().saturating_add(step_ms) > from_ms;
        (step_ms, ring.buckets.iter().filter(is_wanted))
    }

    /// All coarse buckets, oldest first.
    pub fn coarse(&self) -> impl Iterator<Item = &B> {
        self.coarse.buckets.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Sum(i64, u64, bool);

    impl Bucket for Sum {
        type Sample = u64;
        fn begin(at_ms: i64) -> Self {
            Self(at_ms, 0, false)
        }
        fn at_ms(&self) -> i64 {
            self.0
        }
        fn add(&mut self, sample: &u64) {
            self.1 += sample;
        }
        fn merge(&mut self, earlier: Self) {
            self.1 += earlier.1;
        }
        fn close(&mut self) {
            self.2 = true;
        }
    }

    const HOUR_MS: i64 = 3_600_000;

    fn points(series: &Series<Sum>, now_ms: i64, span_ms: i64) -> Vec<(i64, u64)> {
        let (_, found) = series.last(now_ms, span_ms);
        found.map(|one| (one.0, one.1)).collect()
    }

    #[test]
    fn samples_of_a_bucket_are_added_and_gaps_stay_gaps() {
        let mut series = Series::<Sum>::default();
        for (now_ms, rows) in [(5, 1), (9_999, 2), (10_000, 4), (95_000, 8), (94_000, 16)] {
            series.add(now_ms, &rows);
        }
        let fine = [(0, 3), (10_000, 4), (90_000, 24)];
        assert_eq!(points(&series, 100_000, HOUR_MS), fine);
        assert_eq!(points(&series, 100_000, 60_000), fine[2..]);
        assert_eq!(
            points(&series, 100_000, HOUR_MS + 1),
            [(0, 7), (60_000, 24)]
        );
        let closed: Vec<bool> = series.coarse().map(|one| one.2).collect();
        assert_eq!(closed, [true, false]);
    }

    #[test]
    fn a_day_is_kept_and_no_more() {
        let mut series = Series::<Sum>::default();
        for minute in 0..3_000_i64 {
            series.add(minute * COARSE_STEP_MS, &1);
        }
        assert_eq!(series.coarse().count(), COARSE_POINTS_MAX);
        assert_eq!(series.fine.buckets.len(), FINE_POINTS_MAX);
        assert_eq!(series.coarse().next().unwrap().0, 1_560 * COARSE_STEP_MS);
    }

    #[test]
    fn what_was_recorded_before_comes_first_and_a_shared_bucket_is_merged() {
        let mut earlier = Series::<Sum>::default();
        let mut own = Series::<Sum>::default();
        for at in [0, 10_000, 60_000, 120_000] {
            earlier.add(at, &1);
        }
        own.add(120_000, &5);
        own.put_before(earlier.clone());
        assert_eq!(
            points(&own, 130_000, HOUR_MS),
            [(0, 1), (10_000, 1), (60_000, 1), (120_000, 6)]
        );
        let mut coarse = Series::<Sum>::default();
        coarse.put_coarse_before(earlier.coarse().cloned());
        assert!(points(&coarse, 130_000, HOUR_MS).is_empty());
        assert_eq!(coarse.coarse().count(), 3);
    }
}
