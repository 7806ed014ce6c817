//! When the next subscription may be requested.
//!
//! Owns: the limits of SubscribeToShard, the waits after each kind of refusal and end. Does not own:
//! calls, clocks, randomness.
//! Rule: pure; times are durations since a moment of the reader's choice, random numbers are
//! arguments in `0..1`. Nothing waits for a subscription: the reader polls meanwhile.

use crate::source::kinesis::cursor::Failure;
use crate::source::kinesis::pace::Backoff;
use std::time::Duration;

/// The times of a subscription.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Between two calls for one shard: the service allows one a second.
    pub call_gap: Duration,
    /// For so long after a subscription began the service refuses another one of its shard; later, a
    /// new one takes over and the old one ends.
    pub take_over: Duration,
    /// After an end that may be a take-over by another reader, which is the shard's owner now.
    pub yield_for: Duration,
    /// A subscription that stood for so long did not fail, however it ended. The service ends each
    /// after 5 minutes.
    pub steady: Duration,
    /// Without anything from the service for so long, the subscription is dead. It sends an event
    /// every few seconds, with records or without.
    pub silence_max: Duration,
    /// An event that is not taken for so long ends the subscription: what it holds in memory, and
    /// in the window of its connection, is free for others.
    pub stall_max: Duration,
    /// Wait after the first failure; doubles, with jitter.
    pub backoff_base: Duration,
    pub backoff_max: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            call_gap: Duration::from_millis(1_100),
            take_over: Duration::from_millis(5_100),
            yield_for: Duration::from_secs(10),
            steady: Duration::from_secs(60),
            silence_max: Duration::from_secs(15),
            stall_max: Duration::from_secs(5),
            backoff_base: Duration::from_secs(1),
            backoff_max: Duration::from_secs(30),
        }
    }
}

/// How a subscription ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The service ended it: after five minutes, at the end of the shard, or because another reader
    /// took over.
    Over,
    /// The service ended it with an error.
    Refused(Failure),
    /// The connection broke, or brought what is no event.
    Broken(String),
    /// Nothing came for too long.
    Silent,
    /// Events were not taken for too long.
    Stalled,
}

/// Why a subscription was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another one of this shard began less than five seconds ago, or the consumer is not active.
    InUse,
    Throttled,
    /// The worker may not subscribe.
    Denied {
        hint: &'static str,
    },
    /// Anything else. If it is about the shard, its position or the worker's credentials, a call
    /// meets it too.
    Other,
}

/// What a failed request means.
pub fn refused(failure: &Failure) -> Refused {
    match failure.code.as_deref() {
        Some("ResourceInUseException") => Refused::InUse,
        Some(
            "LimitExceededException"
            | "ProvisionedThroughputExceededException"
            | "ThrottlingException"
            | "Throttling"
            | "RequestLimitExceeded"
            | "TooManyRequestsException",
        ) => Refused::Throttled,
        Some("AccessDeniedException" | "AccessDenied") => Refused::Denied {
            hint: "allow kinesis:SubscribeToShard on the consumer to the worker's role, or take \
                   `consumer` out of the job file",
        },
        _ => Refused::Other,
    }
}

/// The requests for one shard.
#[derive(Clone, Debug)]
pub struct Renewal {
    times: Times,
    backoff: Backoff,
    due: Duration,
    /// When the last subscription began; `None`: there was none.
    granted: Option<Duration>,
}

impl Renewal {
    /// The first request waits for as long as two requests are apart: a shard that moves from worker
    /// to worker has a reader before this one, which may have made a request just now.
    pub fn new(times: Times) -> Self {
        Self {
            times,
            backoff: Backoff::new(times.backoff_base, times.backoff_max),
            due: times.call_gap,
            granted: None,
        }
    }

    pub fn due(&self) -> Duration {
        self.due
    }

    pub fn requested(&mut self, now: Duration) {
        self.hold(now + self.times.call_gap);
    }

    pub fn granted(&mut self, now: Duration) {
        self.granted = Some(now);
        self.hold(now + self.times.take_over);
    }

    pub fn refused(&mut self, refused: &Refused, now: Duration, random: f64) {
        match refused {
            // The subscription that is in the way began before the request.
            Refused::InUse => self.hold(now + self.times.take_over.mul_f64(1.0 + random / 10.0)),
            Refused::Throttled | Refused::Denied { .. } | Refused::Other => {
                let wait = self.backoff.failed(random);
                self.hold(now + wait);
            }
        }
    }

    pub fn ended(&mut self, end: &End, now: Duration, random: f64) {
        let stood = now.saturating_sub(self.granted.unwrap_or(now));
        let was_steady = stood >= self.times.steady;
        if was_steady {
            self.backoff.succeeded();
        }
        match end {
            End::Stalled => {}
            End::Over if was_steady => {}
            End::Over | End::Refused(_) => {
                let wait = self.backoff.failed(random).max(self.times.yield_for);
                self.hold(now + wait);
            }
            End::Silent | End::Broken(_) => {
                let wait = self.backoff.failed(random);
                self.hold(now + wait);
            }
        }
    }

    fn hold(&mut self, until: Duration) {
        self.due = self.due.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    /// A subscription that was granted by the first request.
    fn granted() -> Renewal {
        let mut renewal = Renewal::new(Times::default());
        renewal.requested(S(0));
        renewal.granted(S(0));
        renewal
    }

    fn code(code: &str) -> Failure {
        Failure {
            code: Some(code.to_owned()),
            ..Failure::default()
        }
    }

    #[test]
    fn e01_a_request_that_is_in_use_is_repeated_when_it_takes_over() {
        let mut renewal = Renewal::new(Times::default());
        renewal.requested(S(1));
        renewal.refused(&refused(&code("ResourceInUseException")), S(1), 0.0);
        assert_eq!(renewal.due(), S(1) + Times::default().take_over);
        renewal.requested(S(7));
        renewal.refused(&Refused::InUse, S(7), 1.0);
        assert!(renewal.due() < S(13), "the wait does not grow");
    }

    #[test]
    fn e03_the_end_after_five_minutes_is_followed_by_a_request_at_once() {
        let mut renewal = granted();
        renewal.ended(&End::Over, S(300), 0.5);
        assert!(renewal.due() <= S(300));
    }

    #[test]
    fn e02_an_early_end_is_left_to_the_reader_that_took_over() {
        for end in [End::Over, End::Refused(code("ResourceInUseException"))] {
            let mut renewal = granted();
            renewal.ended(&end, S(6), 0.0);
            assert_eq!(renewal.due(), S(16), "{end:?}");
        }
    }

    #[test]
    fn e07_after_back_pressure_only_the_service_s_limit_is_waited_for() {
        let mut renewal = granted();
        renewal.ended(&End::Stalled, S(2), 1.0);
        assert_eq!(renewal.due(), Times::default().take_over);
        renewal.ended(&End::Stalled, S(120), 1.0);
        assert!(renewal.due() < S(120));
    }

    #[test]
    fn e12_a_subscription_that_breaks_again_and_again_is_requested_more_rarely() {
        let mut renewal = Renewal::new(Times::default());
        let mut waits = Vec::new();
        for _ in 0..8 {
            let granted = renewal.due();
            let now = granted + S(1);
            renewal.requested(granted);
            renewal.granted(granted);
            renewal.ended(&End::Broken("reset".to_owned()), now, 1.0);
            waits.push(renewal.due() - now);
        }
        assert!(waits[7] > S(10) && waits[7] <= S(30), "{waits:?}");
        let granted = renewal.due();
        let now = granted + S(61);
        renewal.granted(granted);
        renewal.ended(&End::Broken("reset".to_owned()), now, 1.0);
        assert_eq!(renewal.due() - now, S(1), "it stood for a minute");
    }

    #[test]
    fn e08_two_requests_are_never_closer_than_the_service_allows() {
        let mut renewal = Renewal::new(Times::default());
        assert!(
            renewal.due() > S(1),
            "another reader may have made one just now"
        );
        renewal.requested(S(3));
        renewal.refused(&refused(&code("LimitExceededException")), S(3), 0.0);
        assert!(renewal.due() > S(4));
    }

    #[test]
    fn a_denied_request_has_a_hint_and_others_are_left_to_the_calls() {
        assert!(matches!(
            refused(&code("AccessDeniedException")),
            Refused::Denied { .. }
        ));
        for other in [
            "ResourceNotFoundException",
            "InvalidArgumentException",
            "ExpiredTokenException",
        ] {
            assert_eq!(refused(&code(other)), Refused::Other);
        }
        assert_eq!(refused(&Failure::default()), Refused::Other);
    }
}
