//! When the next call for a shard may start.
//!
//! Owns: the interval between calls, the bytes per second, the back-off. Does not own: clocks, randomness.
//! Rule: pure; times are durations since a moment of the reader's choice, random numbers are arguments in `0..1`.

use std::time::Duration;

/// Limits of one shard.
#[derive(Clone, Debug)]
pub struct Pace {
    interval: Duration,
    bytes_per_second: u64,
    /// No call before this.
    next: Duration,
    /// When the bytes that were read are paid for.
    bytes_until: Duration,
}

impl Pace {
    /// At most one call per `interval`, and on average at most so many bytes a second.
    pub fn new(interval: Duration, bytes_per_second: u64) -> Self {
        Self { interval, bytes_per_second: bytes_per_second.max(1), next: Duration::ZERO, bytes_until: Duration::ZERO }
    }
    /// How long to wait at `now`.
    pub fn wait(&self, now: Duration) -> Duration {
        self.next.max(self.bytes_until).saturating_sub(now)
    }
    /// A call started.
    pub fn started(&mut self, now: Duration) {
        self.next = now + self.interval;
        self.bytes_until = self.bytes_until.max(now);
    }
    /// Its answer had so many bytes.
    pub fn answered(&mut self, bytes: usize) {
        self.bytes_until += Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
    }
    /// No call for another `wait`.
    pub fn hold(&mut self, now: Duration, wait: Duration) {
        self.next = self.next.max(now + wait);
    }
}

/// Waits that double, with jitter, and never end.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// From `base` to `max`.
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, failures: 0 }
    }
    /// The wait after one more failure: between half and all of the doubled one.
    pub fn failed(&mut self, random: f64) -> Duration {
        let doubled = self.base.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX)).min(self.max);
        self.failures = (self.failures + 1).min(31);
        doubled.mul_f64(0.5 + random / 2.0)
    }
    /// Failures since it last worked.
    pub fn failures(&self) -> u32 {
        self.failures
    }
    /// It worked.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn line_06_calls_are_paced_when_answers_are_empty() {
        let mut pace = Pace::new(MS(200), 2_000_000);
        assert_eq!(pace.wait(MS(0)), MS(0));
        pace.started(MS(0));
        pace.answered(0);
        assert_eq!(pace.wait(MS(30)), MS(170));
        assert_eq!(pace.wait(MS(900)), MS(0));
    }

    #[test]
    fn line_06_a_full_answer_is_paid_for_at_two_megabytes_a_second() {
        let mut pace = Pace::new(MS(200), 2_000_000);
        pace.started(MS(1_000));
        pace.answered(10_000_000);
        assert_eq!(pace.wait(MS(1_000)), MS(5_000));
    }

    #[test]
    fn line_06_the_average_stays_below_both_limits() {
        let (mut pace, mut now, mut bytes) = (Pace::new(MS(200), 2_000_000), MS(0), 0u64);
        for call in 0..100u64 {
            now += pace.wait(now);
            pace.started(now);
            let answer = (call % 7) * 300_000;
            pace.answered(answer as usize);
            bytes += answer;
            assert!(now >= MS(200) * call as u32);
        }
        now += pace.wait(now);
        assert!(bytes as f64 / now.as_secs_f64() <= 2_000_000.0 * 1.0001);
    }

    #[test]
    fn line_07_waits_double_with_jitter_up_to_a_limit_and_never_end() {
        let mut backoff = Backoff::new(MS(100), MS(1_000));
        let waits: Vec<Duration> = (0..100).map(|_| backoff.failed(1.0)).collect();
        assert_eq!(waits[..5], [MS(100), MS(200), MS(400), MS(800), MS(1_000)]);
        assert_eq!(waits[99], MS(1_000));
        backoff.succeeded();
        assert_eq!(backoff.failed(0.0), MS(50));
    }
}
