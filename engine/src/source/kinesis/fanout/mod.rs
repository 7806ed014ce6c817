//! Enhanced fan-out of one shard: a subscription beside the calls of its reader.
//!
//! Owns: the state of the subscription, the last continuation. Does not own: when one is requested
//! ([`renewal`]), the call and the connection ([`subscription`], [`connections`]), the records and the
//! position (`reader`).
//! Rule: a subscription only brings records sooner. What it brings, loses or brings twice is judged
//! by the reader's position, and without it the reader polls.

mod connections;
mod frames;
mod renewal;
mod subscription;

pub(super) use connections::Connections;
pub use renewal::Times;
pub(super) use renewal::{End, Refused, refused};
pub(super) use subscription::{Event, Subscriber};

use super::api::Api;
use super::cursor::{Failure, IteratorKind};
use super::service_clock::DateSample;
use renewal::Renewal;
use std::time::Duration;
use streamctl_proto::SequenceNumber;
use subscription::{Granted, Subscription, subscribe};
use tokio::task::JoinHandle;

/// Requests in a row that are not granted, after which the operator is informed, once.
const REFUSALS_NAMED: u32 = 4;

/// What happened to the subscription.
pub(super) enum Step {
    /// It stands; the service's time, if it reported it.
    Granted(Option<DateSample>),
    /// It was not granted.
    Refused(Failure),
    Event(Event),
    Ended(End),
}

enum State {
    /// There is none.
    None,
    /// It was requested.
    Requested(JoinHandle<Result<Granted, Failure>>),
    Standing(Subscription),
}

/// The subscription of one shard by one consumer.
pub(super) struct Fan {
    subscriber: Subscriber,
    state: State,
    renewal: Renewal,
    /// Where the last event ended. It moves although no record arrives.
    pub continuation: Option<SequenceNumber>,
    /// Whether the last event was at the tip; `None`: no event yet.
    pub at_tip: Option<bool>,
    /// Requests in a row that were not granted.
    refusals: u32,
}

impl Fan {
    pub fn new(subscriber: Subscriber) -> Self {
        Self {
            renewal: Renewal::new(subscriber.times),
            subscriber,
            state: State::None,
            continuation: None,
            at_tip: None,
            refusals: 0,
        }
    }

    pub fn is_standing(&self) -> bool {
        matches!(self.state, State::Standing(_))
    }

    /// When to request a subscription; `None`: there is one.
    pub fn due(&self) -> Option<Duration> {
        match self.state {
            State::None => Some(self.renewal.due()),
            State::Requested(_) | State::Standing(_) => None,
        }
    }

    /// Requests a subscription that begins there.
    pub fn request(&mut self, api: Api, from: IteratorKind, now: Duration) {
        self.renewal.requested(now);
        let call = subscribe(api, self.subscriber.clone(), from);
        self.state = State::Requested(tokio::spawn(call));
    }

    /// The next thing that happens. Cancel safe; never returns while there is no subscription.
    pub async fn step(&mut self) -> Step {
        match &mut self.state {
            State::None => std::future::pending().await,
            State::Requested(call) => {
                let joined = call.await;
                self.state = State::None;
                match joined {
                    Ok(Ok(Granted { subscription, date })) => {
                        self.state = State::Standing(subscription);
                        self.at_tip = None;
                        Step::Granted(date)
                    }
                    Ok(Err(failure)) => Step::Refused(failure),
                    Err(error) => Step::Refused(Failure {
                        message: error.to_string(),
                        ..Failure::default()
                    }),
                }
            }
            State::Standing(subscription) => match subscription.next().await {
                Ok(event) => Step::Event(event),
                Err(end) => {
                    self.state = State::None;
                    Step::Ended(end)
                }
            },
        }
    }

    pub fn granted(&mut self, now: Duration) {
        self.refusals = 0;
        self.renewal.granted(now);
    }

    /// Returns whether the operator should learn of it: once for a row of refusals.
    pub fn refused(&mut self, refused: &Refused, now: Duration, random: f64) -> bool {
        self.refusals = self.refusals.saturating_add(1);
        self.renewal.refused(refused, now, random);
        self.refusals == REFUSALS_NAMED
    }

    pub fn ended(&mut self, end: &End, now: Duration, random: f64) {
        self.renewal.ended(end, now, random);
    }

    /// Ends the subscription: calls find out what is there.
    pub fn give_up(&mut self, now: Duration, random: f64) {
        self.state = State::None;
        let end = End::Broken("an event that proves nothing".to_owned());
        self.renewal.ended(&end, now, random);
    }
}

impl Drop for Fan {
    fn drop(&mut self) {
        if let State::Requested(call) = &self.state {
            call.abort();
        }
    }
}
