//! Consumers of enhanced fan-out: registered, active, deleted, and which shards they read.
//!
//! Owns: the limits of consumers and of SubscribeToShard. Does not own: events (`subscriptions`).
//! Rule: times are those of the fake's clock, so that a test can jump over them.

use super::error::Refusal;
use super::operations::{Answered, text};
use super::{ACCOUNT, Service};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// The service's times and numbers, which a test may shorten.
#[derive(Clone, Copy, Debug)]
pub struct FanoutLimits {
    /// How long a subscription lasts.
    pub lasts: Duration,
    /// For so long after a subscription began another one of its shard is refused.
    pub take_over: Duration,
    /// Between two calls for one shard of a consumer.
    pub call_gap: Duration,
    /// From registration to ACTIVE.
    pub activation: Duration,
    /// From deregistration until the name is free.
    pub deletion: Duration,
    /// Between two events of an idle shard.
    pub heartbeat: Duration,
    pub consumers_max: usize,
    /// Of one subscription.
    pub bytes_per_second: usize,
}

impl Default for FanoutLimits {
    fn default() -> Self {
        Self {
            lasts: Duration::from_secs(300),
            take_over: Duration::from_secs(5),
            call_gap: Duration::from_secs(1),
            activation: Duration::ZERO,
            deletion: Duration::ZERO,
            heartbeat: Duration::from_secs(5),
            consumers_max: 20,
            bytes_per_second: 2 << 20,
        }
    }
}

struct Consumer {
    name: String,
    stream: String,
    created_ms: i64,
    active_us: i64,
    /// When it is gone; `None`: it is not being deleted.
    gone_us: Option<i64>,
    shards: BTreeMap<String, Subscribed>,
}

/// The last calls for one shard.
#[derive(Default)]
struct Subscribed {
    called_us: Option<i64>,
    granted_us: Option<i64>,
    /// Ends the subscription that stands.
    end: Option<oneshot::Sender<()>>,
}

#[derive(Default)]
pub(super) struct Consumers {
    limits: Mutex<FanoutLimits>,
    all: Mutex<BTreeMap<String, Consumer>>,
}

/// A subscription that was granted.
pub(super) struct Grant {
    pub stream: String,
    /// Resolves when another one takes over, or the consumer is deleted.
    pub ended: oneshot::Receiver<()>,
}

impl Consumers {
    pub fn limits(&self) -> FanoutLimits {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_limits(&self, limits: FanoutLimits) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// The consumers that are not gone.
    fn lock(&self, now_us: i64) -> MutexGuard<'_, BTreeMap<String, Consumer>> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, consumer| consumer.gone_us.is_none_or(|gone_us| now_us < gone_us));
        all
    }

    /// Grants a subscription, or refuses it as the service does.
    pub fn grant(&self, arn: &str, shard: &str, now_us: i64) -> Result<Grant, Refusal> {
        let limits = self.limits();
        let mut all = self.lock(now_us);
        let consumer = all.get_mut(arn).ok_or_else(|| not_found(arn))?;
        let subscribed = consumer.shards.entry(shard.to_owned()).or_default();
        let since = |at_us: Option<i64>| at_us.map(|at_us| now_us - at_us);
        let early = since(subscribed.called_us).is_some_and(|us| us < micros(limits.call_gap));
        if early {
            return Err(Refusal::limit(&format!("SubscribeToShard of {shard}")));
        }
        subscribed.called_us = Some(now_us);
        if consumer.gone_us.is_some() || now_us < consumer.active_us {
            let message = format!("Consumer {arn} is not ACTIVE.");
            return Err(Refusal::new(400, "ResourceInUseException", message));
        }
        if since(subscribed.granted_us).is_some_and(|us| us < micros(limits.take_over)) {
            let message =
                format!("Another active subscription exists for this consumer: {arn} {shard}");
            return Err(Refusal::new(400, "ResourceInUseException", message));
        }
        subscribed.granted_us = Some(now_us);
        let (end, ended) = oneshot::channel();
        if let Some(earlier) = subscribed.end.replace(end) {
            let _over = earlier.send(());
        }
        let stream = consumer.stream.clone();
        Ok(Grant { stream, ended })
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 4)
}

fn not_found(what: &str) -> Refusal {
    let message = format!("Consumer {what} under account {ACCOUNT} not found.");
    Refusal::new(400, "ResourceNotFoundException", message)
}

impl Consumer {
    fn status(&self, now_us: i64) -> &'static str {
        match self.gone_us {
            Some(_) => "DELETING",
            None if now_us < self.active_us => "CREATING",
            None => "ACTIVE",
        }
    }

    fn json(&self, arn: &str, now_us: i64) -> Value {
        json!({
            "ConsumerName": self.name, "ConsumerARN": arn, "ConsumerStatus": self.status(now_us),
            "ConsumerCreationTimestamp": self.created_ms as f64 / 1_000.0,
        })
    }
}

impl Service {
    pub(super) fn register_consumer(&self, body: &Value) -> Answered {
        let stream = self.named(body)?;
        let name = text(body, "ConsumerName")?;
        let now_us = self.clock.now_us();
        let limits = self.consumers.limits();
        let mut all = self.consumers.lock(now_us);
        let of_stream = all.values().filter(|other| other.stream == stream.name);
        if of_stream.clone().any(|other| other.name == name) {
            let message = format!("Consumer {name} already exists in stream {}.", stream.name);
            return Err(Refusal::new(400, "ResourceInUseException", message));
        }
        if of_stream.count() >= limits.consumers_max {
            return Err(Refusal::limit("consumers of this stream"));
        }
        let created_ms = now_us / 1_000;
        let arn = format!("{}/consumer/{name}:{}", stream.arn(), created_ms / 1_000);
        let consumer = Consumer {
            name: name.to_owned(),
            stream: stream.name.clone(),
            created_ms,
            active_us: now_us + micros(limits.activation),
            gone_us: None,
            shards: BTreeMap::new(),
        };
        let answer = json!({ "Consumer": consumer.json(&arn, now_us) });
        all.insert(arn, consumer);
        Ok(answer.into())
    }

    pub(super) fn describe_consumer(&self, body: &Value) -> Answered {
        let now_us = self.clock.now_us();
        let all = self.consumers.lock(now_us);
        let arn = self.consumer_arn(&all, body)?;
        let mut description = all[&arn].json(&arn, now_us);
        let stream_arn = arn.split("/consumer/").next();
        description["StreamARN"] = stream_arn.into();
        Ok(json!({ "ConsumerDescription": description }).into())
    }

    pub(super) fn list_consumers(&self, body: &Value) -> Answered {
        let stream = self.named(body)?;
        let now_us = self.clock.now_us();
        let all = self.consumers.lock(now_us);
        let of_stream = all.iter().filter(|(_, each)| each.stream == stream.name);
        let consumers: Vec<Value> = of_stream
            .map(|(arn, each)| each.json(arn, now_us))
            .collect();
        Ok(json!({ "Consumers": consumers }).into())
    }

    pub(super) fn deregister_consumer(&self, body: &Value) -> Answered {
        let now_us = self.clock.now_us();
        let mut all = self.consumers.lock(now_us);
        let arn = self.consumer_arn(&all, body)?;
        let gone_us = now_us + micros(self.consumers.limits().deletion);
        if let Some(consumer) = all.get_mut(&arn) {
            consumer.gone_us = Some(gone_us);
            for subscribed in consumer.shards.values_mut() {
                subscribed.end = None;
            }
        }
        Ok(json!({}).into())
    }

    fn consumer_arn(
        &self,
        all: &BTreeMap<String, Consumer>,
        body: &Value,
    ) -> Result<String, Refusal> {
        if let Some(arn) = body["ConsumerARN"].as_str() {
            return match all.contains_key(arn) {
                true => Ok(arn.to_owned()),
                false => Err(not_found(arn)),
            };
        }
        let stream = self.named(body)?;
        let name = text(body, "ConsumerName")?;
        let is_named =
            |(_, each): &(&String, &Consumer)| each.stream == stream.name && each.name == name;
        let found = all.iter().find(is_named).map(|(arn, _)| arn.clone());
        found.ok_or_else(|| not_found(name))
    }
}
