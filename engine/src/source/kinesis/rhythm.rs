//! How often a reader calls: by what its reads find, and at the end of a window.
//!
//! Owns: the interval at the tip, in a backlog, of a quiet shard and after throttles; moving a call
//! to the moment at which a window can close. Does not own: bytes per second, failures (`pace`),
//! clocks (`reader`).
//! Rule: pure. A shard may be read rarely, because no window waits for it: one read of each window
//! is sent when it can close.

use std::time::Duration;

/// Between two calls while records wait. The service allows 5 calls a second: one is left to others.
const BACKLOG_INTERVAL: Duration = Duration::from_millis(250);
/// Least time between two calls: what the service allows.
const GAP_MIN: Duration = Duration::from_millis(200);
/// Reads without records at the usual interval. After them the interval is twice as long.
const QUIET_AFTER: u32 = 3;
/// Further reads without records before the interval doubles again.
const QUIET_STEP: u32 = 10;
/// Longest interval of a quiet shard, as a multiple of the usual one.
const QUIET_FACTOR_MAX: u32 = 10;
/// Most doublings of the interval after throttles.
const SLOWED_MAX: u32 = 4;
/// Answers without a throttle that take one doubling back.
const CALM_AFTER: u32 = 20;

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// More than it returned.
    Backlog,
    /// Records up to the tip.
    Records,
    /// The tip, and no record.
    Nothing,
}

/// The interval between the calls for one shard.
#[derive(Clone, Debug)]
pub struct Rhythm {
    /// At the tip, while records come.
    usual: Duration,
    found: Found,
    /// Reads in a row that found nothing.
    quiet: u32,
    /// Doublings after throttles.
    slowed: u32,
    /// Answers since the last throttle.
    calm: u32,
}

impl Rhythm {
    /// With this interval at the tip.
    pub fn new(usual: Duration) -> Self {
        Self {
            usual,
            found: Found::Records,
            quiet: 0,
            slowed: 0,
            calm: 0,
        }
    }

    /// A read was answered.
    pub fn answered(&mut self, found: Found) {
        self.found = found;
        self.quiet = match found {
            Found::Nothing => self.quiet.saturating_add(1),
            Found::Backlog | Found::Records => 0,
        };
        self.calm += 1;
        if self.calm >= CALM_AFTER {
            self.calm = 0;
            self.slowed = self.slowed.saturating_sub(1);
        }
    }

    /// A call was throttled: others read the shard, too.
    pub fn throttled(&mut self) {
        self.calm = 0;
        self.slowed = (self.slowed + 1).min(SLOWED_MAX);
    }

    /// From one call to the next.
    pub fn interval(&self) -> Duration {
        let interval = match self.found {
            Found::Backlog => self.usual.min(BACKLOG_INTERVAL),
            Found::Records | Found::Nothing => self.usual * self.quiet_factor(),
        };
        interval * (1 << self.slowed)
    }

    fn quiet_factor(&self) -> u32 {
        if self.quiet < QUIET_AFTER {
            return 1;
        }
        let doublings = 1 + (self.quiet - QUIET_AFTER) / QUIET_STEP;
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        factor.min(QUIET_FACTOR_MAX)
    }

    /// When to call, if the last call was at `last` and a window can close at `closes`, all counted
    /// from one moment. A call that would be later is brought forward to that moment, but never closer
    /// to the last than half the usual interval: a job that reads rarely also does so with short
    /// windows. One that would be a little earlier waits for it.
    pub fn due(&self, last: Duration, closes: Option<Duration>) -> Duration {
        let interval = self.interval();
        let due = last + interval;
        let Some(closes) = closes else {
            return due;
        };
        if closes <= due {
            closes.max(last + self.gap().min(interval))
        } else if closes - due < interval / 2 {
            closes
        } else {
            due
        }
    }

    /// When to call if records come by themselves: only when a window can close.
    pub fn aimed(&self, last: Duration, closes: Duration) -> Duration {
        closes.max(last + self.gap())
    }

    /// Least time between two calls.
    fn gap(&self) -> Duration {
        GAP_MIN.max(self.usual / 2) * (1 << self.slowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    /// Calls within a minute that has one window, and how long after its end the last call was sent.
    fn minute(rhythm: &mut Rhythm, found: Found) -> (u32, Duration) {
        let end = MS(60_000);
        let mut last = MS(0);
        let mut calls = 0;
        while last < end {
            last = rhythm.due(last, Some(end));
            rhythm.answered(found);
            calls += 1;
        }
        (calls, last - end)
    }

    #[test]
    fn one_read_of_each_window_is_sent_when_it_can_close() {
        for interval in [200, 330, 500, 999, 7_000] {
            for found in [Found::Records, Found::Nothing] {
                let (_, late) = minute(&mut Rhythm::new(MS(interval)), found);
                assert_eq!(late, MS(0), "{interval} ms, {found:?}");
            }
        }
    }

    #[test]
    fn a_busy_shard_is_read_twice_a_second_and_a_quiet_one_every_five_seconds() {
        let mut rhythm = Rhythm::new(MS(500));
        assert_eq!(minute(&mut rhythm, Found::Records).0, 120);
        for _ in 0..2 {
            minute(&mut rhythm, Found::Nothing);
        }
        assert_eq!(rhythm.interval(), MS(5_000));
        assert_eq!(minute(&mut rhythm, Found::Nothing).0, 12);
        rhythm.answered(Found::Records);
        assert_eq!(rhythm.interval(), MS(500));
    }

    #[test]
    fn two_calls_are_never_closer_than_half_the_interval() {
        let rhythm = Rhythm::new(MS(500));
        assert_eq!(rhythm.due(MS(1_000), Some(MS(1_050))), MS(1_250));
        assert_eq!(rhythm.due(MS(1_000), Some(MS(900))), MS(1_250));
        assert_eq!(rhythm.due(MS(1_000), Some(MS(1_300))), MS(1_300));
        assert_eq!(rhythm.due(MS(1_000), Some(MS(1_700))), MS(1_700));
        assert_eq!(rhythm.due(MS(1_000), Some(MS(1_800))), MS(1_500));
    }

    #[test]
    fn beside_a_subscription_a_shard_is_called_once_for_each_window_at_most() {
        let rhythm = Rhythm::new(MS(500));
        assert_eq!(rhythm.aimed(MS(0), MS(60_000)), MS(60_000));
        assert_eq!(rhythm.aimed(MS(1_000), MS(1_100)), MS(1_250));
    }

    #[test]
    fn a_long_interval_is_kept_with_short_windows() {
        let rhythm = Rhythm::new(MS(10_000));
        let mut last = MS(0);
        let mut calls = 0;
        while last < MS(60_000) {
            let next_second = MS(last.as_millis() as u64 / 1_000 * 1_000 + 1_000);
            last = rhythm.due(last, Some(next_second));
            calls += 1;
        }
        assert_eq!(calls, 12);
    }

    #[test]
    fn a_backlog_is_read_fast_however_long_the_interval_at_the_tip_is() {
        let mut rhythm = Rhythm::new(MS(10_000));
        rhythm.answered(Found::Backlog);
        assert_eq!(rhythm.interval(), MS(250));
        rhythm.answered(Found::Records);
        assert_eq!(rhythm.interval(), MS(10_000));
    }

    #[test]
    fn a_throttle_halves_the_rate_until_the_service_is_calm() {
        let mut rhythm = Rhythm::new(MS(500));
        rhythm.throttled();
        rhythm.throttled();
        assert_eq!(rhythm.interval(), MS(2_000));
        for _ in 0..2 * CALM_AFTER {
            rhythm.answered(Found::Records);
        }
        assert_eq!(rhythm.interval(), MS(500));
        (0..100).for_each(|_| rhythm.throttled());
        assert_eq!(rhythm.interval(), MS(8_000));
    }
}
