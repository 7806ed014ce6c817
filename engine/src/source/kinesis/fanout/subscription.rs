//! SubscribeToShard: the request, and the events of its response.
//!
//! Owns: the SDK's request, the task that receives events. Does not own: their order with calls,
//! positions (`reader`).
//! Rule: the task holds one event that is not taken yet. If that lasts too long it ends the
//! subscription, because others wait behind it on their connection.

use super::connections::Connections;
use super::frames::{Frames, Incoming};
use super::renewal::{End, Times};
use crate::aws::Aws;
use crate::foreign_answer::Answering;
use crate::source::kinesis::api::{Api, Service, sample};
use crate::source::kinesis::cursor::{Failure, IteratorKind};
use crate::source::kinesis::service_clock::DateSample;
use crate::source::kinesis::service_date::DateInterceptor;
use aws_sdk_kinesis::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_kinesis::config::{
    ConfigBag, Intercept, RuntimeComponents, StalledStreamProtectionConfig,
};
use aws_sdk_kinesis::error::BoxError;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{ShardIteratorType, StartingPosition};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use streamctl_proto::describe;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// Events of one subscription that were received and not taken, besides the one that is being
/// received.
const EVENTS_AHEAD_MAX: usize = 1;

/// An event, in JSON.
#[derive(Clone, Debug)]
pub struct Event {
    pub payload: Bytes,
    pub received: Instant,
}

/// A subscription that stands.
pub struct Subscription {
    events: mpsc::Receiver<Event>,
    receiving: JoinHandle<End>,
}

/// A new subscription.
pub struct Granted {
    pub subscription: Subscription,
    /// The service's time, if it reported it.
    pub date: Option<DateSample>,
}

impl Subscription {
    fn of(body: SdkBody, times: Times, place: Option<OwnedSemaphorePermit>) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_AHEAD_MAX);
        let receive = async move {
            let _place = place;
            receive(ByteStream::new(body), sender, times).await
        };
        Self {
            events,
            receiving: tokio::spawn(receive),
        }
    }

    /// The next event, or why there is none any more. Cancel safe.
    pub async fn next(&mut self) -> Result<Event, End> {
        match self.events.recv().await {
            Some(event) => Ok(event),
            None => Err((&mut self.receiving)
                .await
                .unwrap_or_else(|error| End::Broken(error.to_string()))),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.receiving.abort();
    }
}

async fn receive(mut body: ByteStream, events: mpsc::Sender<Event>, times: Times) -> End {
    let mut frames = Frames::default();
    loop {
        match frames.next() {
            Ok(Some(Incoming::Event(payload))) => {
                let event = Event {
                    payload,
                    received: Instant::now(),
                };
                match timeout(times.stall_max, events.send(event)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => return End::Stalled,
                }
            }
            Ok(Some(Incoming::Exception { code, message })) => {
                return End::Refused(Failure {
                    code: Some(code),
                    message,
                    ..Failure::default()
                });
            }
            Ok(Some(Incoming::Other)) => {}
            Ok(None) => match timeout(times.silence_max, body.next()).await {
                Err(_) => return End::Silent,
                Ok(None) if frames.is_whole() => return End::Over,
                Ok(None) => return End::Broken("it broke off in an event".to_owned()),
                Ok(Some(Err(error))) => return End::Broken(describe(&error)),
                Ok(Some(Ok(bytes))) => {
                    if let Err(error) = frames.push(&bytes) {
                        return End::Broken(error.to_string());
                    }
                }
            },
            Err(error) => return End::Broken(error.to_string()),
        }
    }
}

/// Takes the body of a successful response before the SDK decodes it: `answer` reads events at twice
/// its speed.
#[derive(Clone, Debug, Default)]
struct BodyInterceptor(Arc<Mutex<Option<SdkBody>>>);

impl BodyInterceptor {
    fn taken(&self) -> Option<SdkBody> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Intercept for BodyInterceptor {
    fn name(&self) -> &'static str {
        "BodyInterceptor"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        if response.status().is_success() {
            let body = std::mem::replace(response.body_mut(), SdkBody::empty());
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
        Ok(())
    }
}

fn starting_position(from: IteratorKind) -> Result<StartingPosition, Failure> {
    let position = match from {
        IteratorKind::TrimHorizon => {
            StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon)
        }
        IteratorKind::AtTimestamp(ms) => StartingPosition::builder()
            .r#type(ShardIteratorType::AtTimestamp)
            .timestamp(DateTime::from_millis(ms)),
        IteratorKind::After(sequence) => StartingPosition::builder()
            .r#type(ShardIteratorType::AfterSequenceNumber)
            .sequence_number(sequence),
        IteratorKind::At(sequence) => StartingPosition::builder()
            .r#type(ShardIteratorType::AtSequenceNumber)
            .sequence_number(sequence),
    };
    position.build().map_err(|error| Failure {
        message: error.to_string(),
        ..Failure::default()
    })
}

/// Who subscribes, and over which connections.
#[derive(Clone)]
pub struct Subscriber {
    /// ARN of the consumer.
    pub consumer: String,
    pub aws: Aws,
    pub connections: Connections,
    pub times: Times,
}

/// Calls SubscribeToShard.
pub async fn subscribe(
    api: Api,
    subscriber: Subscriber,
    from: IteratorKind,
) -> Result<Granted, Failure> {
    let Service::Sdk(base) = &api.service else {
        return Err(Failure {
            message: "this service has no subscriptions".to_owned(),
            ..Failure::default()
        });
    };
    let position = starting_position(from)?;
    let Subscriber {
        consumer,
        aws,
        connections,
        times,
    } = subscriber;
    let (client, place) = connections.place(&aws, base, &api.stream);
    let _place_of_call = api.place().await;
    let left = Instant::now();
    let date = DateInterceptor::default();
    let body = BodyInterceptor::default();
    let settings = api
        .settings()
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .interceptor(body.clone())
        .interceptor(date.clone());
    let sent = client
        .subscribe_to_shard()
        .consumer_arn(consumer)
        .shard_id(api.shard.as_str())
        .starting_position(position)
        .customize()
        .config_override(settings)
        .send()
        .await;
    let date = sample(left, &date);
    match (body.taken(), sent) {
        (Some(body), _) => Ok(Granted {
            subscription: Subscription::of(body, times, place),
            date,
        }),
        (None, Err(error)) => Err(Failure {
            date,
            ..api.of_error(&error)
        }),
        (None, Ok(_)) => Err(Failure {
            message: Answering::at(&api.stream).answer(None, Some(200), "an answer without a body"),
            ..Failure::default()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_eventstream::frame::write_message_to;
    use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
    use std::time::Duration;

    fn events(count: usize) -> Vec<u8> {
        let text = |text: &'static str| HeaderValue::String(text.into());
        let message = Message::new(Bytes::from_static(b"{}"))
            .add_header(Header::new(":message-type", text("event")))
            .add_header(Header::new(":event-type", text("SubscribeToShardEvent")));
        let mut bytes = Vec::new();
        for _ in 0..count {
            write_message_to(&message, &mut bytes).unwrap();
        }
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn e07_events_that_are_not_taken_end_the_subscription_and_those_before_it_are_kept() {
        let body = SdkBody::from(events(5));
        let mut subscription = Subscription::of(body, Times::default(), None);
        subscription.next().await.unwrap();
        tokio::time::sleep(Duration::from_secs(120)).await;
        subscription.next().await.unwrap();
        assert_eq!(subscription.next().await.unwrap_err(), End::Stalled);
    }

    #[tokio::test(start_paused = true)]
    async fn e09_a_stream_that_ends_in_an_event_is_broken_and_one_that_ends_after_it_is_over() {
        let whole = events(1);
        let half = whole[..whole.len() - 3].to_vec();
        let mut over = Subscription::of(SdkBody::from(whole), Times::default(), None);
        over.next().await.unwrap();
        assert_eq!(over.next().await.unwrap_err(), End::Over);
        let mut broken = Subscription::of(SdkBody::from(half), Times::default(), None);
        assert!(matches!(broken.next().await.unwrap_err(), End::Broken(_)));
    }
}
