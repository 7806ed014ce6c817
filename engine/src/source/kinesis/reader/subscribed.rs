//! The reader of a job with a consumer: events of a subscription, and calls beside them.
//!
//! Owns: which of the two is waited for, what an event becomes. Does not own: when a subscription is
//! requested (`fanout`), the position, the records after it (`reader`).
//! Rule: events and calls move one position. An event has no time of the service, so that only a call
//! proves that a window is complete: one is sent when a window can close and no later record came.

use super::{Anchor, KinesisReader, Outcome, outcome};
use crate::source::kinesis::answer::{self, Answer};
use crate::source::kinesis::cursor::IteratorKind;
use crate::source::kinesis::expiry::{Evidence, Whole};
use crate::source::kinesis::fanout::{Event, Refused, Step, refused};
use crate::source::kinesis::wire::Wire;
use crate::source::{Chunk, ReadError};
use crate::storage::RefusalCause;
use std::time::Duration;
use streamctl_proto::{Position, SequenceNumber};
use tokio::time::{Instant, sleep_until};

enum Happened {
    Step(Step),
    Outcome(Outcome),
    Nothing,
}

impl KinesisReader {
    /// As `next`, for a reader with a subscription. Cancel safe: what is in flight stays there, and
    /// what arrived is taken without an await.
    pub(super) async fn next_subscribed(&mut self) -> Result<Chunk, ReadError> {
        let deadline = Instant::now() + self.settings.wait_max;
        while self.end.is_none() {
            self.request_subscription();
            let wake = self.send_beside(deadline);
            let Self { fan, under_way, .. } = self;
            let called = under_way.is_some();
            let step = async {
                match fan {
                    Some(fan) => fan.step().await,
                    None => std::future::pending().await,
                }
            };
            let happened = tokio::select! {
                biased;
                step = step => Happened::Step(step),
                Some(outcome) = outcome(under_way, wake), if called => Happened::Outcome(outcome),
                () = sleep_until(wake) => Happened::Nothing,
            };
            let chunk = match happened {
                Happened::Step(step) => self.take_step(step)?,
                Happened::Outcome(outcome) => self.take(outcome)?,
                Happened::Nothing if Instant::now() >= deadline => break,
                Happened::Nothing => None,
            };
            if let Some(chunk) = chunk {
                return Ok(chunk);
            }
        }
        Ok(self.empty())
    }

    /// Requests a subscription if one is due.
    fn request_subscription(&mut self) {
        let now = self.now();
        let from = self.subscription_start();
        let Some(fan) = &mut self.fan else { return };
        let is_due = fan.due().is_some_and(|due| due <= now);
        if let Some(from) = from.filter(|_| is_due) {
            self.stats.calls += 1;
            fan.request(self.api.clone(), from, now);
        }
    }

    /// Where a subscription begins: after the last event, if no later record is read. Its place
    /// moves while the shard is idle, so that it never expires.
    fn subscription_start(&self) -> Option<IteratorKind> {
        let continuation = self.fan.as_ref().and_then(|fan| fan.continuation.as_ref());
        let is_later = |continuation: &&SequenceNumber| match &self.position {
            Position::After { sequence, .. } => sequence < *continuation,
            Position::Start | Position::Timestamp(_) => true,
            Position::End => false,
        };
        match continuation.filter(is_later) {
            Some(continuation) if self.anchor == Anchor::Position => {
                Some(IteratorKind::After(continuation.as_str().to_owned()))
            }
            _ => self.iterator_kind(),
        }
    }

    /// Sends the next call if it is due; returns when to look again.
    fn send_beside(&mut self, deadline: Instant) -> Instant {
        let mut wake = deadline;
        if self.under_way.is_none()
            && let Some(wait) = self.wait_beside()
        {
            if wait.is_zero() {
                self.send();
            } else {
                wake = wake.min(Instant::now() + wait);
            }
        }
        let due = self.fan.as_ref().and_then(|fan| fan.due());
        due.map_or(wake, |due| wake.min(self.opened + due))
    }

    /// How long to wait before the next call; `None`: no call is needed.
    fn wait_beside(&self) -> Option<Duration> {
        let fan = self.fan.as_ref().filter(|fan| fan.is_standing());
        let Some(fan) = fan else {
            return Some(self.wait());
        };
        if fan.at_tip == Some(false) {
            return None;
        }
        let now = self.now();
        let late_ms = i64::try_from(self.aim_late.as_millis()).unwrap_or(0);
        let closes_in = |ms: i64| Duration::from_millis((ms + late_ms).max(0).unsigned_abs());
        let closes = now + self.closes_in_ms().map_or(Duration::ZERO, closes_in);
        Some(self.pace.wait(now, |last| self.rhythm.aimed(last, closes)))
    }

    fn take_step(&mut self, step: Step) -> Result<Option<Chunk>, ReadError> {
        let now = self.now();
        let random = fastrand::f64();
        let Some(fan) = &mut self.fan else {
            return Ok(None);
        };
        match step {
            Step::Granted(date) => {
                fan.granted(now);
                self.stats.subscriptions += 1;
                if let Some(date) = date {
                    self.service_clock.learn(date);
                }
            }
            Step::Refused(failure) => {
                let refused = refused(&failure);
                let is_named = fan.refused(&refused, now, random);
                if let Some(date) = failure.date {
                    self.service_clock.learn(date);
                }
                let reason = self.reason(&failure);
                tracing::debug!(shard = %self.shard, reason, ?refused, "no subscription");
                if is_named {
                    tracing::warn!(shard = %self.shard, reason, "there is no subscription: the shard is polled");
                }
                match refused {
                    Refused::Throttled => self.stats.throttles += 1,
                    Refused::Denied { hint } => {
                        return Err(ReadError::Refused {
                            cause: RefusalCause::Environment,
                            shard: self.shard.clone(),
                            reason,
                            hint: hint.to_owned(),
                        });
                    }
                    Refused::InUse | Refused::Other => {}
                }
            }
            Step::Ended(end) => {
                fan.ended(&end, now, random);
                tracing::debug!(shard = %self.shard, ?end, "the subscription ended");
            }
            Step::Event(event) => return self.give_event(event),
        }
        Ok(None)
    }

    /// Converts an event into a chunk; moves the position. `None`: it has no record.
    fn give_event(&mut self, event: Event) -> Result<Option<Chunk>, ReadError> {
        let local_ms = (self.clock)();
        let keys = self.api.partition_keys;
        let answer = match answer::decode(Wire::Json, &event.payload, local_ms, keys) {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(shard = %self.shard, %error, "an event cannot be read: the shard is polled");
                self.give_up_subscription();
                return Ok(None);
            }
        };
        let evidence = Evidence {
            first_arrival_ms: answer.records.first().map(|record| record.arrival_ms),
            behind_ms: answer.behind_ms,
        };
        let received_ms = self.service_clock.latest_ms(event.received);
        let received_ms = received_ms.unwrap_or(local_ms);
        if let Whole::No(_) = self.expiry.judge(&self.position, evidence, received_ms) {
            // A call finds out what is lost, and the job's file decides what follows.
            self.give_up_subscription();
            return Ok(None);
        }
        let Answer {
            records,
            behind_ms,
            children,
            continuation,
            ..
        } = answer;
        let last_arrival_ms = records.last().map(|record| record.arrival_ms);
        if let Some(arrival_ms) = last_arrival_ms {
            self.service_clock.learn_arrival(event.received, arrival_ms);
        }
        let records = self.unread(records);
        if let Some(arrival_ms) = last_arrival_ms {
            self.expiry.advance(arrival_ms);
            // The next call continues after these records.
            self.iterator = None;
        }
        let at_tip = behind_ms == Some(0);
        self.behind_ms = behind_ms.unwrap_or(self.behind_ms);
        // Windows before that of a record are past with it.
        self.complete_ms = match last_arrival_ms {
            _ if !at_tip => None,
            Some(arrival_ms) => self.complete_ms.max(Some(arrival_ms)),
            None => self.complete_ms,
        };
        if !children.is_empty() {
            self.end = Some(children);
        }
        let place = continuation.and_then(|text| SequenceNumber::try_from(text.as_str()).ok());
        match (&mut self.fan, place) {
            (Some(fan), Some(place)) => {
                fan.at_tip = Some(at_tip);
                fan.continuation = Some(place);
            }
            // The end of the shard, or an event that cannot be continued.
            _ if self.end.is_none() => self.give_up_subscription(),
            _ => {}
        }
        if records.is_empty() && self.end.is_none() {
            return Ok(None);
        }
        Ok(Some(Chunk {
            records,
            complete_to_ms: None,
            behind_ms: self.behind_ms,
            end: self.end.clone(),
        }))
    }

    fn give_up_subscription(&mut self) {
        let now = self.now();
        if let Some(fan) = &mut self.fan {
            fan.give_up(now, fastrand::f64());
        }
    }
}
