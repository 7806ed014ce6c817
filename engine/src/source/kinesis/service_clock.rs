//! The service's time, from the `Date` of its responses.
//!
//! Owns: the bounds of the service's clock. Does not own: parsing a header (`api`), the
//! use of the time (`reader`).
//! Rule: pure; the service sets arrival times, so its clock decides windows, and only certain
//! bounds are reported.

use tokio::time::Instant;

/// `Date` counts whole seconds: the service's clock may be ahead by up to this much.
const DATE_GRANULARITY_MS: i64 = 1_000;
/// How fast two clocks may drift apart: 1 ms in this many milliseconds (500 ppm, the most that NTP
/// corrects).
const DRIFT_MS_PER_MS: i64 = 2_000;

/// The `Date` of one response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateSample {
    /// When the call was sent.
    pub sent: Instant,
    pub received: Instant,
    /// The service's time in the response, milliseconds since the Unix epoch.
    pub date_ms: i64,
}

/// The service's clock lies this far ahead of the monotonic one, which counts from
/// [`ServiceClock::origin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    least_ms: i64,
    most_ms: i64,
    at_ms: i64,
}

impl Bounds {
    /// The bounds at a later time: they widen, because the clocks may have drifted since.
    fn at(self, at_ms: i64) -> Self {
        let drift_ms = at_ms.saturating_sub(self.at_ms).max(0) / DRIFT_MS_PER_MS;
        Self {
            least_ms: self.least_ms - drift_ms,
            most_ms: self.most_ms + drift_ms,
            at_ms: at_ms.max(self.at_ms),
        }
    }
}

/// The bounds of the service's clock. Many responses narrow a second down to the round trip.
#[derive(Clone, Copy, Debug)]
pub struct ServiceClock {
    origin: Instant,
    bounds: Option<Bounds>,
}

impl ServiceClock {
    /// The clock of a service that has not responded yet.
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
            bounds: None,
        }
    }

    fn monotonic_ms(&self, at: Instant) -> i64 {
        let since = |later: Instant, earlier: Instant| {
            i64::try_from(later.saturating_duration_since(earlier).as_millis())
                .unwrap_or(i64::MAX / 4)
        };
        since(at, self.origin) - since(self.origin, at)
    }

    /// Takes a response into account. One that contradicts those before it replaces them: a clock
    /// was set, or this machine slept.
    pub fn learn(&mut self, sample: DateSample) {
        let sent_ms = self.monotonic_ms(sample.sent);
        let received_ms = self.monotonic_ms(sample.received);
        let new = Bounds {
            least_ms: sample.date_ms - received_ms,
            most_ms: sample.date_ms + DATE_GRANULARITY_MS - sent_ms,
            at_ms: received_ms,
        };
        let both = self.bounds.map(|old| {
            let old = old.at(received_ms);
            Bounds {
                least_ms: old.least_ms.max(new.least_ms),
                most_ms: old.most_ms.min(new.most_ms),
                ..new
            }
        });
        self.bounds = both
            .filter(|both| both.least_ms <= both.most_ms)
            .or(Some(new));
    }

    /// A lower bound of the service's clock at this moment. `None`: no response had a date.
    pub fn earliest_ms(&self, at: Instant) -> Option<i64> {
        let at_ms = self.monotonic_ms(at);
        self.bounds.map(|bounds| at_ms + bounds.at(at_ms).least_ms)
    }

    /// An upper bound of the service's clock at this moment.
    pub fn latest_ms(&self, at: Instant) -> Option<i64> {
        let at_ms = self.monotonic_ms(at);
        self.bounds.map(|bounds| at_ms + bounds.at(at_ms).most_ms)
    }

    /// How far a local clock that shows `local_ms` at this moment is ahead of the service's, at
    /// least; negative: behind; 0: no difference is known.
    pub fn skew_ms(&self, at: Instant, local_ms: i64) -> Option<i64> {
        let earliest_ms = self.earliest_ms(at)?;
        let latest_ms = self.latest_ms(at)?;
        Some((local_ms - latest_ms).max(0) + (local_ms - earliest_ms).min(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// A response that took `trip_ms`, half of it each way, from a service whose clock is
    /// `ahead_ms` ahead of the monotonic one.
    fn sample(clock: &ServiceClock, at_ms: u64, trip_ms: u64, ahead_ms: i64) -> DateSample {
        let answered_ms = i64::try_from(at_ms + trip_ms / 2).unwrap() + ahead_ms;
        let date_ms = answered_ms.div_euclid(1_000) * 1_000;
        DateSample {
            sent: clock.origin + MS(at_ms),
            received: clock.origin + MS(at_ms + trip_ms),
            date_ms,
        }
    }

    #[tokio::test]
    async fn one_answer_gives_the_time_to_the_second_and_many_to_the_round_trip() {
        let mut clock = ServiceClock::new();
        assert_eq!(clock.earliest_ms(clock.origin), None);
        clock.learn(sample(&clock, 0, 20, 1_000_000_900));
        assert_eq!(
            (
                clock.earliest_ms(clock.origin),
                clock.latest_ms(clock.origin)
            ),
            (Some(999_999_980), Some(1_000_001_000))
        );
        for at_ms in (0..3_000).step_by(50) {
            clock.learn(sample(&clock, at_ms, 20, 1_000_000_900));
            let now = clock.origin + MS(at_ms);
            let truth_ms = i64::try_from(at_ms).unwrap() + 1_000_000_900;
            assert!(
                clock.earliest_ms(now).unwrap() <= truth_ms
                    && truth_ms <= clock.latest_ms(now).unwrap()
            );
        }
        let now = clock.origin + MS(3_000);
        assert!(clock.latest_ms(now).unwrap() - clock.earliest_ms(now).unwrap() <= 100);
    }

    #[tokio::test]
    async fn a_clock_that_was_set_is_believed_again_at_once() {
        let mut clock = ServiceClock::new();
        for at_ms in (0..2_000).step_by(50) {
            clock.learn(sample(&clock, at_ms, 20, 1_000_000_000));
        }
        for ahead_ms in [1_090_000_000, 900_000_000] {
            clock.learn(sample(&clock, 2_100, 20, ahead_ms));
            let now = clock.origin + MS(2_100);
            let truth_ms = 2_100 + ahead_ms;
            assert!(
                clock.earliest_ms(now).unwrap() <= truth_ms
                    && truth_ms <= clock.latest_ms(now).unwrap()
            );
            assert!(clock.latest_ms(now).unwrap() - truth_ms <= 1_020);
        }
    }

    #[tokio::test]
    async fn what_was_learned_long_ago_is_less_certain() {
        let mut clock = ServiceClock::new();
        clock.learn(sample(&clock, 0, 0, 1_000_000_000));
        let later = clock.origin + Duration::from_secs(3_600);
        assert_eq!(
            clock.earliest_ms(later),
            Some(1_000_000_000 + 3_600_000 - 1_800)
        );
        assert_eq!(
            clock.latest_ms(later),
            Some(1_000_001_000 + 3_600_000 + 1_800)
        );
    }

    #[tokio::test]
    async fn a_local_clock_is_compared_with_what_is_certain() {
        let mut clock = ServiceClock::new();
        clock.learn(sample(&clock, 0, 0, 1_000_000_000));
        let skew = |local_ms| clock.skew_ms(clock.origin, local_ms);
        assert_eq!(skew(1_000_000_500), Some(0));
        assert_eq!(skew(1_000_121_000), Some(120_000));
        assert_eq!(skew(999_880_000), Some(-120_000));
    }
}
