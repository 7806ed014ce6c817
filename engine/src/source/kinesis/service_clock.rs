//! The service's time, from the `Date` of its responses and from the arrival times that it sets.
//!
//! Owns: the bounds of the service's clock. Does not own: parsing a header (`api`), the
//! use of the time (`reader`).
//! Rule: the service sets arrival times, so its clock decides windows, and only certain bounds are
//! reported. A `Date` counts for all shards of a service, an arrival time for its shard alone.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// `Date` counts whole seconds: the service's clock may be ahead by up to this much.
const DATE_GRANULARITY_MS: i64 = 1_000;
/// How fast two clocks may drift apart: 1 ms in this many milliseconds (500 ppm, the most that NTP
/// corrects).
const DRIFT_MS_PER_MS: i64 = 2_000;
/// Responses come from several hosts. Bounds that contradict each other by no more than this are
/// taken for those of hosts whose clocks differ.
const HOSTS_DIFFER_MS: i64 = 50;

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
    /// What holds by both at a time. `None`: they contradict each other.
    fn and(self, other: Self, at_ms: i64) -> Option<Self> {
        let (one, other) = (self.at(at_ms), other.at(at_ms));
        let least_ms = one.least_ms.max(other.least_ms);
        let most_ms = one.most_ms.min(other.most_ms);
        // Hosts differ: the clock is between theirs.
        let bounds = Self {
            least_ms: least_ms.min(most_ms),
            most_ms: least_ms.max(most_ms),
            at_ms,
        };
        (least_ms - most_ms <= HOSTS_DIFFER_MS).then_some(bounds)
    }

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

/// The bounds of the service's clock as one reader knows them. Many responses narrow a second down
/// to the round trip, unless they always come at the same part of a second; then the responses of
/// other readers do, or the arrival times of records, which are exact to the millisecond.
#[derive(Clone, Debug)]
pub struct ServiceClock {
    origin: Instant,
    bounds: Option<Bounds>,
    service: SharedClock,
}

/// What all readers of a service know of its clock by its `Date`.
#[derive(Clone, Debug)]
pub struct SharedClock {
    origin: Instant,
    bounds: Arc<Mutex<Option<Bounds>>>,
}

impl Default for SharedClock {
    /// The clock of a service that has not responded yet.
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            bounds: Arc::default(),
        }
    }
}

impl SharedClock {
    fn learn(&self, new: Bounds) {
        let mut bounds = self.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        *bounds = merged(*bounds, new);
    }

    fn bounds(&self) -> Option<Bounds> {
        *self.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bounds by a further response. One that contradicts those before it replaces them: a clock was
/// set, or this machine slept.
fn merged(old: Option<Bounds>, new: Bounds) -> Option<Bounds> {
    old.and_then(|old| old.and(new, new.at_ms)).or(Some(new))
}

impl ServiceClock {
    /// A reader's view of the clock of its service.
    pub fn of(service: SharedClock) -> Self {
        Self {
            origin: service.origin,
            bounds: None,
            service,
        }
    }

    fn monotonic_ms(&self, at: Instant) -> i64 {
        let since = |later: Instant, earlier: Instant| {
            i64::try_from(later.saturating_duration_since(earlier).as_millis())
                .unwrap_or(i64::MAX / 4)
        };
        since(at, self.origin) - since(self.origin, at)
    }

    /// Takes a response into account.
    pub fn learn(&mut self, sample: DateSample) {
        let sent_ms = self.monotonic_ms(sample.sent);
        let received_ms = self.monotonic_ms(sample.received);
        let new = Bounds {
            least_ms: sample.date_ms - received_ms,
            most_ms: sample.date_ms + DATE_GRANULARITY_MS - sent_ms,
            at_ms: received_ms,
        };
        self.bounds = merged(self.bounds, new);
        self.service.learn(new);
    }

    /// Takes the arrival time of a record into account: the shard's clock has passed it. One that is
    /// later than a `Date` allows proves nothing.
    pub fn learn_arrival(&mut self, received: Instant, arrival_ms: i64) {
        let at_ms = self.monotonic_ms(received);
        let Some(old) = self.bounds else {
            return;
        };
        let old = old.at(at_ms);
        let least_ms = arrival_ms.saturating_sub(at_ms);
        if (old.least_ms..=old.most_ms).contains(&least_ms) {
            self.bounds = Some(Bounds { least_ms, ..old });
        }
    }

    /// By this reader's responses and those of others of the service.
    fn bounds(&self, at_ms: i64) -> Option<Bounds> {
        let own = self.bounds?.at(at_ms);
        let both = self
            .service
            .bounds()
            .and_then(|service| own.and(service, at_ms));
        both.or(Some(own))
    }

    /// A lower bound of the service's clock at this moment. `None`: no response had a date.
    pub fn earliest_ms(&self, at: Instant) -> Option<i64> {
        let at_ms = self.monotonic_ms(at);
        self.bounds(at_ms).map(|bounds| at_ms + bounds.least_ms)
    }

    /// An upper bound of the service's clock at this moment.
    pub fn latest_ms(&self, at: Instant) -> Option<i64> {
        let at_ms = self.monotonic_ms(at);
        self.bounds(at_ms).map(|bounds| at_ms + bounds.most_ms)
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
        let mut clock = ServiceClock::of(SharedClock::default());
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

    /// What a reader knows whose calls always come at the same part of a second.
    fn locked(clock: &mut ServiceClock) -> i64 {
        for at_ms in (0..5_000).step_by(500) {
            clock.learn(sample(clock, at_ms, 4, 1_000_000_300));
        }
        truth_less_earliest(clock, 5_000)
    }

    fn truth_less_earliest(clock: &ServiceClock, at_ms: u64) -> i64 {
        let earliest_ms = clock.earliest_ms(clock.origin + MS(at_ms)).unwrap();
        i64::try_from(at_ms).unwrap() + 1_000_000_300 - earliest_ms
    }

    #[tokio::test]
    async fn a_reader_at_one_part_of_a_second_learns_from_others_and_from_arrivals() {
        let service = SharedClock::default();
        let mut clock = ServiceClock::of(service.clone());
        assert!(locked(&mut clock) > 250, "it learns no more by itself");
        let mut other = ServiceClock::of(service);
        for at_ms in (5_003..9_000).step_by(437) {
            other.learn(sample(&other, at_ms, 4, 1_000_000_300));
        }
        let late_ms = truth_less_earliest(&clock, 9_000);
        assert!((0..150).contains(&late_ms), "{late_ms}");

        let mut alone = ServiceClock::of(SharedClock::default());
        assert!(locked(&mut alone) > 250);
        let received = alone.origin + MS(5_000);
        alone.learn_arrival(received, 5_000 + 1_000_000_300 - 7);
        assert_eq!(truth_less_earliest(&alone, 5_000), 7);
        // Older records and times that no `Date` allows prove nothing.
        alone.learn_arrival(received, 5_000 + 1_000_000_300 - 90);
        alone.learn_arrival(received, 5_000 + 1_000_000_300 + 5_000);
        assert_eq!(truth_less_earliest(&alone, 5_000), 7);
    }

    #[tokio::test]
    async fn hosts_whose_clocks_differ_by_little_contradict_nothing() {
        let mut clock = ServiceClock::of(SharedClock::default());
        for at_ms in (0..20_000).step_by(37) {
            let ahead_ms = 1_000_000_300 + i64::try_from(at_ms % 3).unwrap() * 8;
            clock.learn(sample(&clock, at_ms, 2, ahead_ms));
        }
        let late_ms = truth_less_earliest(&clock, 20_000);
        assert!((-20..=20).contains(&late_ms), "{late_ms}");
    }

    #[tokio::test]
    async fn a_clock_that_was_set_is_believed_again_at_once() {
        let mut clock = ServiceClock::of(SharedClock::default());
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
        let mut clock = ServiceClock::of(SharedClock::default());
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
        let mut clock = ServiceClock::of(SharedClock::default());
        clock.learn(sample(&clock, 0, 0, 1_000_000_000));
        let skew = |local_ms| clock.skew_ms(clock.origin, local_ms);
        assert_eq!(skew(1_000_000_500), Some(0));
        assert_eq!(skew(1_000_121_000), Some(120_000));
        assert_eq!(skew(999_880_000), Some(-120_000));
    }
}
