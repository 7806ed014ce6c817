//! When the next call for a shard may start.
//!
//! Owns: the bytes per second, the back-off, the share of replays
//! beside live readers of the same shard. Does not own: the interval between calls (`rhythm`),
//! clocks, randomness, the set of readers (`shared`).
//! Rule: pure; times are durations since a moment of the reader's choice, random numbers are
//! arguments in `0..1`.

use std::time::Duration;

/// What a shard is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// For windows that are not committed yet.
    Live,
    /// For an epoch that is computed again: it can wait.
    Replay,
}

/// What one call costs of the five per second that the service gives each shard.
const CALL_COST: Duration = Duration::from_millis(200);
/// Calls that replays may make at once if no other reader calls: the other two of a second are left
/// to live readers.
const REPLAY_BURST: u32 = 3;
/// One part in this many of the calls and bytes is reserved for replays, even if live readers would
/// use all of it.
const REPLAY_SHARE: u32 = 8;
/// Longest wait of replays for earlier use: it may exceed the limit if several jobs read a shard.
const DEBT_MAX: Duration = Duration::from_secs(10);
/// How long replays pause after the service throttled a live reader.
const THROTTLE_HOLD: Duration = Duration::from_secs(1);
/// Bytes that a replay requests at once beside a live reader: half a second of the service's rate.
const REPLAY_ANSWER_BYTES: u64 = 1_000_000;
/// Estimated bytes of a record before the first one is read.
const RECORD_BYTES_GUESS: u64 = 1_000;

/// The calls and bytes of one reader.
#[derive(Clone, Debug)]
pub struct Pace {
    bytes_per_second: u64,
    /// When the last call started; none before the first.
    last: Option<Duration>,
    /// No call before this time.
    held_until: Duration,
    /// When the bytes that were read are paid off.
    bytes_until: Duration,
}

impl Pace {
    /// On average at most this many bytes a second.
    pub fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            last: None,
            held_until: Duration::ZERO,
            bytes_until: Duration::ZERO,
        }
    }
    /// How long to wait at `now`; `due` is when the next call is due, by the time of the last.
    pub fn wait(&self, now: Duration, due: impl FnOnce(Duration) -> Duration) -> Duration {
        self.last
            .map_or(Duration::ZERO, due)
            .max(self.held_until)
            .max(self.bytes_until)
            .saturating_sub(now)
    }
    pub fn started(&mut self, now: Duration) {
        self.last = Some(now);
        self.bytes_until = self.bytes_until.max(now);
    }
    /// The response had this many bytes.
    pub fn answered(&mut self, bytes: usize) {
        self.bytes_until += Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
    }
    /// Makes no call for another `wait`.
    pub fn hold(&mut self, now: Duration, wait: Duration) {
        self.held_until = self.held_until.max(now + wait);
    }
}

/// The combined use of one shard by its readers in this process. Live readers keep their own pace;
/// a replay waits for what they leave.
#[derive(Clone, Debug)]
pub struct ShardPace {
    bytes_per_second: u64,
    /// When all calls are paid off.
    calls_until: Duration,
    /// When all bytes are paid off.
    bytes_until: Duration,
    /// What replays may always use.
    share: Pace,
    live: usize,
    record_bytes: u64,
}

impl ShardPace {
    /// The pace of a shard with this many bytes a second.
    pub fn new(bytes_per_second: u64) -> Self {
        let share = Pace::new(bytes_per_second / u64::from(REPLAY_SHARE));
        Self {
            bytes_per_second: bytes_per_second.max(1),
            calls_until: Duration::ZERO,
            bytes_until: Duration::ZERO,
            share,
            live: 0,
            record_bytes: RECORD_BYTES_GUESS,
        }
    }
    pub fn opened(&mut self, reading: Reading) {
        self.live += usize::from(reading == Reading::Live);
    }
    pub fn closed(&mut self, reading: Reading) {
        self.live -= usize::from(reading == Reading::Live);
    }
    /// How long a replay waits at `now`: until live readers leave enough, or until its reserved
    /// share is due.
    pub fn replay_wait(&self, now: Duration) -> Duration {
        let calls = self
            .calls_until
            .saturating_sub(CALL_COST * (REPLAY_BURST - 1));
        let left_over = calls.max(self.bytes_until).saturating_sub(now);
        left_over.min(self.share.wait(now, |last| last + CALL_COST * REPLAY_SHARE))
    }
    /// Records that a replay requests at once.
    pub fn replay_records_max(&self, records_max: u32) -> u32 {
        if self.live == 0 {
            return records_max;
        }
        u32::try_from(REPLAY_ANSWER_BYTES / self.record_bytes.max(1))
            .unwrap_or(u32::MAX)
            .clamp(1, records_max)
    }
    /// A call for records started.
    pub fn started(&mut self, reading: Reading, now: Duration) {
        self.calls_until = (self.calls_until.max(now) + CALL_COST).min(now + DEBT_MAX);
        if reading == Reading::Replay {
            self.share.started(now);
        }
    }
    /// The response had this many records and bytes.
    pub fn answered(&mut self, reading: Reading, now: Duration, records: usize, bytes: usize) {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        self.bytes_until = (self.bytes_until.max(now) + cost).min(now + DEBT_MAX);
        if reading == Reading::Replay {
            self.share.answered(bytes);
        }
        if records > 0 {
            self.record_bytes = (bytes as u64).div_ceil(records as u64);
        }
    }
    /// The service throttled a reader.
    pub fn throttled(&mut self, reading: Reading, now: Duration) {
        if reading == Reading::Live {
            self.calls_until = self
                .calls_until
                .max(now + THROTTLE_HOLD + CALL_COST * (REPLAY_BURST - 1));
        }
    }
}

/// Waits that double, with jitter; the number of retries is not limited.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// From `base` to `max`.
    pub fn new(base: Duration, max: Duration) -> Self {
        Self {
            base,
            max,
            failures: 0,
        }
    }
    /// The wait after one more failure: between half and all of the doubled wait.
    pub fn failed(&mut self, random: f64) -> Duration {
        let doubled = self
            .base
            .saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX))
            .min(self.max);
        self.failures = (self.failures + 1).min(31);
        doubled.mul_f64(0.5 + random / 2.0)
    }
    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn every_200_ms(last: Duration) -> Duration {
        last + MS(200)
    }

    #[test]
    fn line_06_calls_are_paced_when_answers_are_empty() {
        let mut pace = Pace::new(2_000_000);
        assert_eq!(pace.wait(MS(0), every_200_ms), MS(0));
        pace.started(MS(0));
        pace.answered(0);
        assert_eq!(pace.wait(MS(30), every_200_ms), MS(170));
        assert_eq!(pace.wait(MS(900), every_200_ms), MS(0));
        pace.hold(MS(900), MS(50));
        assert_eq!(pace.wait(MS(900), every_200_ms), MS(50));
    }

    #[test]
    fn line_06_a_full_answer_is_paid_for_at_two_megabytes_a_second() {
        let mut pace = Pace::new(2_000_000);
        pace.started(MS(1_000));
        pace.answered(10_000_000);
        assert_eq!(pace.wait(MS(1_000), every_200_ms), MS(5_000));
    }

    #[test]
    fn line_06_the_average_stays_below_both_limits() {
        let mut pace = Pace::new(2_000_000);
        let mut now = MS(0);
        let mut bytes = 0u64;
        for call in 0..100u64 {
            now += pace.wait(now, every_200_ms);
            pace.started(now);
            let answer = (call % 7) * 300_000;
            pace.answered(answer as usize);
            bytes += answer;
            assert!(now >= MS(200) * call as u32);
        }
        now += pace.wait(now, every_200_ms);
        assert!(bytes as f64 / now.as_secs_f64() <= 2_000_000.0 * 1.0001);
    }

    /// Calls of a replay within ten seconds beside live readers, each of which calls every
    /// `interval` for this many bytes.
    fn replayed_beside(
        live: u32,
        interval: Duration,
        bytes: usize,
        replay_bytes: usize,
    ) -> (u32, usize) {
        let mut pace = ShardPace::new(2_000_000);
        (0..live).for_each(|_| pace.opened(Reading::Live));
        let mut calls = 0;
        let mut read = 0;
        for now in (0..10_000).map(MS) {
            if live > 0 && now.as_millis() % interval.as_millis() == 0 {
                for _ in 0..live {
                    pace.started(Reading::Live, now);
                    pace.answered(Reading::Live, now, 1, bytes);
                }
            }
            if pace.replay_wait(now).is_zero() {
                pace.started(Reading::Replay, now);
                pace.answered(Reading::Replay, now, 1, replay_bytes);
                (calls, read) = (calls + 1, read + replay_bytes);
            }
        }
        (calls, read)
    }

    #[test]
    fn a_replay_takes_what_live_readers_leave_and_an_eighth_in_any_case() {
        let (alone, _) = replayed_beside(0, MS(250), 0, 0);
        assert!(
            (50..=53).contains(&alone),
            "all that there is, and a burst: {alone}"
        );
        let (beside_one, _) = replayed_beside(1, MS(250), 0, 0);
        assert!(
            (10..=13).contains(&beside_one),
            "the fifth call of each second: {beside_one}"
        );
        let (beside_two, _) = replayed_beside(2, MS(250), 0, 0);
        assert!((6..=9).contains(&beside_two), "its share: {beside_two}");
        let (_, all) = replayed_beside(0, MS(250), 0, 1_000_000);
        assert!(all <= 22_000_000, "{all}");
        let (_, beside_half) = replayed_beside(1, MS(1_000), 1_000_000, 500_000);
        assert!(
            (8_000_000..=12_000_000).contains(&beside_half),
            "the other half of the bytes: {beside_half}"
        );
        let (_, beside_all) = replayed_beside(1, MS(1_000), 2_000_000, 100_000);
        assert!(
            (500_000..=3_000_000).contains(&beside_all),
            "at most an eighth of the bytes: {beside_all}"
        );
    }

    #[test]
    fn a_replay_keeps_away_when_a_live_reader_was_throttled() {
        let mut pace = ShardPace::new(2_000_000);
        pace.opened(Reading::Live);
        pace.started(Reading::Replay, MS(0));
        pace.throttled(Reading::Replay, MS(0));
        assert_eq!(
            pace.replay_wait(MS(0)),
            MS(0),
            "its own throttles are its own back-off's matter"
        );
        pace.throttled(Reading::Live, MS(0));
        assert_eq!(pace.replay_wait(MS(0)), MS(1_000));
    }

    #[test]
    fn beside_a_live_reader_a_replay_reads_half_a_second_of_the_shard_at_once() {
        let mut pace = ShardPace::new(2_000_000);
        assert_eq!(pace.replay_records_max(10_000), 10_000);
        pace.opened(Reading::Live);
        assert_eq!(pace.replay_records_max(10_000), 1_000);
        pace.answered(Reading::Live, MS(0), 2, 1_000);
        assert_eq!(pace.replay_records_max(10_000), 2_000);
        pace.answered(Reading::Live, MS(0), 1, 3_000_000);
        assert_eq!(pace.replay_records_max(10_000), 1);
        pace.closed(Reading::Live);
        assert_eq!(pace.replay_records_max(10_000), 10_000);
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
