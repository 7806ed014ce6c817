//! The two calls of a reader, in plain types.
//!
//! Owns: requests, responses and failures in the SDK's form. Does not own: how they are handled.
//! Rule: SDK types do not leave this file; the SDK does not retry, so that every throttle is seen
//! and paced.

use super::answer::{self, ANSWER_BYTES_MAX, Answer, PartitionKeys};
use super::cursor::{Failure, IteratorKind};
use super::route::{Route, RouteInterceptor, Routes};
use super::service_clock::DateSample;
use super::wire::{RecordsRequest, Spoken, TakenResponse, Wire, WireError, WireInterceptor};
use crate::foreign_answer::Answering;
use crate::source::kinesis::service_date::{DateInterceptor, ServiceDate};

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{Builder, Config};
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::ShardIteratorType;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use std::sync::Arc;
use std::time::Duration;
use streamctl_proto::ShardId;
use streamctl_proto::resolved::StreamAddress;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Most bytes of an error in CBOR that are read.
const ERROR_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Default)]
pub struct MadeIterator {
    pub token: String,
    /// The service's time, if it reports it.
    pub date: Option<DateSample>,
}

impl From<String> for MadeIterator {
    fn from(token: String) -> Self {
        Self { token, date: None }
    }
}

/// The two calls of a service that replaces the real one.
#[async_trait]
pub trait Calls: Send + Sync {
    async fn iterator(
        &self,
        stream: &StreamAddress,
        shard: &ShardId,
        kind: IteratorKind,
    ) -> Result<MadeIterator, Failure>;
    /// Calls GetRecords with this limit of records.
    async fn records(&self, iterator: String, records_max: u32) -> Result<Answer, Failure>;
}

#[derive(Clone)]
pub enum Service {
    /// The service, through a client made for the stream's account and region.
    Sdk(Client),
    /// A replacement of the service.
    Given(Arc<dyn Calls>),
}

/// One shard of one stream.
#[derive(Clone)]
pub struct Api {
    pub service: Service,
    pub stream: StreamAddress,
    pub shard: ShardId,
    pub records_max: u32,
    pub partition_keys: PartitionKeys,
    pub timeout: Duration,
    /// Which form the service speaks. Shared by all readers of the service.
    pub spoken: Spoken,
    /// Where calls for records go. Shared by all readers of the stream.
    pub routes: Routes,
    /// Calls that may be in flight at once, for all shards of the worker together.
    pub calls: Arc<Semaphore>,
}

impl Api {
    /// One attempt, with the reader's time limit.
    pub(super) fn settings(&self) -> Builder {
        let timeouts = TimeoutConfig::builder()
            .operation_timeout(self.timeout)
            .build();
        Config::builder()
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
    }

    /// Waits for a place among the calls in flight. Never returns `None`: the semaphore is never
    /// closed.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.calls).acquire_owned().await.ok()
    }

    pub async fn iterator(self, kind: IteratorKind) -> Result<MadeIterator, Failure> {
        let client = match &self.service {
            Service::Sdk(client) => client,
            Service::Given(calls) => return calls.iterator(&self.stream, &self.shard, kind).await,
        };
        let request = client.get_shard_iterator().shard_id(self.shard.as_str());
        let request = match &self.stream.arn {
            Some(arn) => request.stream_arn(arn),
            None => request.stream_name(&self.stream.name),
        };
        let request = match kind {
            IteratorKind::TrimHorizon => {
                request.shard_iterator_type(ShardIteratorType::TrimHorizon)
            }
            IteratorKind::AtTimestamp(ms) => request
                .shard_iterator_type(ShardIteratorType::AtTimestamp)
                .timestamp(DateTime::from_millis(ms)),
            IteratorKind::After(sequence) => request
                .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
                .starting_sequence_number(sequence),
            IteratorKind::At(sequence) => request
                .shard_iterator_type(ShardIteratorType::AtSequenceNumber)
                .starting_sequence_number(sequence),
        };
        let _place = self.place().await;
        let left = Instant::now();
        let date = DateInterceptor::default();
        let settings = self.settings().interceptor(date.clone());
        let answer = request.customize().config_override(settings).send().await;
        let date = sample(left, &date);
        let answer = answer.map_err(|error| Failure {
            date,
            ..self.of_error(&error)
        })?;
        let token = answer
            .shard_iterator
            .ok_or_else(|| failure("an answer without an iterator".into()))?;
        Ok(MadeIterator { token, date })
    }

    /// GetRecords; `now_ms` is the arrival of records without one.
    pub async fn records(self, iterator: String, now_ms: i64) -> Result<Answer, Failure> {
        let client = match &self.service {
            Service::Sdk(client) => client,
            Service::Given(calls) => return calls.records(iterator, self.records_max).await,
        };
        // A stream's ARN routes the call to the stream's own account.
        let request = RecordsRequest {
            iterator,
            limit: self.records_max,
            stream_arn: self.stream.arn.clone(),
        };
        let _place = self.place().await;
        let left = Instant::now();
        let date = DateInterceptor::default();
        let call = self.answer(client, &request, &date, now_ms);
        let answered = tokio::time::timeout(self.timeout, call).await;
        let date = sample(left, &date);
        let answer = answered
            .unwrap_or_else(|_| Err(failure(format!("no answer within {:?}", self.timeout))));
        match answer {
            Ok(answer) => Ok(Answer {
                left: Some(left),
                date,
                ..answer
            }),
            Err(failure) => Err(Failure { date, ..failure }),
        }
    }

    /// The answer in the form that the service speaks. A request in CBOR whose answer is not CBOR is
    /// repeated in JSON: some services answer in CBOR and cannot write their errors in it.
    async fn answer(
        &self,
        client: &Client,
        request: &RecordsRequest,
        date: &DateInterceptor,
        now_ms: i64,
    ) -> Result<Answer, Failure> {
        let attempt = Attempt {
            request,
            wire: self.spoken.wire().unwrap_or(Wire::Cbor),
            date,
            now_ms,
        };
        let mut called = self.call(client, attempt).await;
        if attempt.wire == Wire::Cbor && called.is_foreign() {
            let wire = Wire::Json;
            called = self.call(client, Attempt { wire, ..attempt }).await;
        }
        if let Called::Answered { wire, answer } = &called {
            // A front door may refuse a call in JSON although the service behind it speaks CBOR.
            if *wire == Wire::Cbor || answer.is_ok() {
                self.spoken.settle(*wire);
            }
        }
        match called {
            Called::Answered { answer, .. } => answer,
            Called::Foreign(failure) | Called::NotAnswered(failure) => Err(failure),
        }
    }

    /// One call in one form.
    async fn call(&self, client: &Client, attempt: Attempt<'_>) -> Called {
        if let Some(route) = self.routes.known() {
            let called = self.call_by(&route, attempt).await;
            if !called.has_records() {
                self.routes.forget();
            }
            return called;
        }
        let learned = RouteInterceptor::default();
        let called = self.call_by_sdk(client, attempt, &learned).await;
        if called.has_records()
            && let Some(route) = learned.taken()
        {
            self.routes.learn(route);
        }
        called
    }

    /// One call as the SDK made one before.
    async fn call_by(&self, route: &Route, attempt: Attempt<'_>) -> Called {
        let Attempt {
            request,
            wire,
            date,
            now_ms,
        } = attempt;
        let response = match route.call(request, wire).await {
            Ok(response) => response,
            Err(reason) => return Called::NotAnswered(failure(reason)),
        };
        date.take(response.headers());
        let wire = Wire::of_response(response.headers());
        let status = response.status();
        if status.is_success() {
            let body = ByteStream::new(response.into_body());
            return match collected(body, ANSWER_BYTES_MAX).await {
                Ok(body) => self.decoded(wire, &body, now_ms),
                Err(failure) => Called::NotAnswered(failure),
            };
        }
        let headers = response.headers().clone();
        let body = ByteStream::new(response.into_body());
        let body = collected(body, ERROR_BYTES_MAX).await.unwrap_or_default();
        let WireError { code, message } = WireError::of_response(wire, &headers, &body);
        let status = status.as_u16();
        let failure = Failure {
            date: None,
            message: message.unwrap_or_else(|| format!("status {status}")),
            code,
            status: Some(status),
        };
        match wire {
            Some(wire) => Called::Answered {
                wire,
                answer: Err(failure),
            },
            None => Called::Foreign(failure),
        }
    }

    /// A response with records, in the form of its media type.
    fn decoded(&self, wire: Option<Wire>, body: &[u8], now_ms: i64) -> Called {
        // Some servers send no media type with JSON.
        let wire = wire.unwrap_or(Wire::Json);
        match answer::decode(wire, body, now_ms, self.partition_keys) {
            Ok(answer) => Called::Answered {
                wire,
                answer: Ok(answer),
            },
            Err(error) => Called::Foreign(failure(error.to_string())),
        }
    }

    /// One call by the SDK.
    async fn call_by_sdk(
        &self,
        client: &Client,
        attempt: Attempt<'_>,
        learned: &RouteInterceptor,
    ) -> Called {
        let Attempt {
            request,
            wire,
            date,
            now_ms,
        } = attempt;
        let interceptor = WireInterceptor::new(wire, request);
        let settings = self
            .settings()
            .interceptor(interceptor.clone())
            .interceptor(learned.clone())
            .interceptor(date.clone());
        let sent = client
            .get_records()
            .shard_iterator(&request.iterator)
            .limit(i32::try_from(request.limit).unwrap_or(i32::MAX))
            .set_stream_arn(request.stream_arn.clone())
            .customize()
            .config_override(settings)
            .send()
            .await;
        let TakenResponse { wire, body } = interceptor.taken();
        let body = match (sent, body) {
            (Ok(_), Some(body)) => collected(ByteStream::new(body), ANSWER_BYTES_MAX).await,
            (Ok(_), None) => Err(failure("an answer without a body".into())),
            (Err(error), taken) if error.raw_response().is_some() => {
                let failure = match taken {
                    Some(body) => self.of_cbor_error(&error, body).await,
                    None => self.of_error(&error),
                };
                return match wire {
                    Some(wire) => Called::Answered {
                        wire,
                        answer: Err(failure),
                    },
                    None => Called::Foreign(failure),
                };
            }
            (Err(error), _) => Err(self.of_error(&error)),
        };
        match body {
            Ok(body) => self.decoded(wire, &body, now_ms),
            Err(failure) => Called::NotAnswered(failure),
        }
    }

    /// The failure of a response whose error is in CBOR.
    async fn of_cbor_error<E>(&self, error: &SdkError<E>, body: SdkBody) -> Failure
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let known = self.of_error(error);
        let Ok(bytes) = collected(ByteStream::new(body), ERROR_BYTES_MAX).await else {
            return known;
        };
        let WireError { code, message } = WireError::of_cbor(&bytes);
        Failure {
            code: code.or(known.code),
            message: message.unwrap_or(known.message),
            ..known
        }
    }

    /// Converts an error into a failure to decide on; [`Answering`] decides which part of it is
    /// shown.
    pub(super) fn of_error<E>(&self, error: &SdkError<E>) -> Failure
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let message = match error.message() {
            Some(message) => message.to_owned(),
            None => Answering::at(&self.stream).reason(error),
        };
        Failure {
            date: None,
            code: error.code().map(str::to_owned),
            status: error
                .raw_response()
                .map(|response| response.status().as_u16()),
            message,
        }
    }
}

/// One call in one form.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    request: &'a RecordsRequest,
    wire: Wire,
    /// Takes the date of the response.
    date: &'a DateInterceptor,
    /// The arrival of records without one.
    now_ms: i64,
}

/// What came of one call.
enum Called {
    /// A response of the service, or an error of it, in this form.
    Answered {
        wire: Wire,
        answer: Result<Answer, Failure>,
    },
    /// A response in neither form, or one that cannot be decoded.
    Foreign(Failure),
    /// No response, or none that is whole.
    NotAnswered(Failure),
}

impl Called {
    fn has_records(&self) -> bool {
        matches!(self, Self::Answered { answer: Ok(_), .. })
    }

    /// Whether it was not answered as a service that speaks CBOR does.
    fn is_foreign(&self) -> bool {
        match self {
            Self::Answered { wire, .. } => *wire != Wire::Cbor,
            Self::Foreign(_) => true,
            Self::NotAnswered(_) => false,
        }
    }
}

/// The service's time in the response to a call that was sent then.
pub(super) fn sample(sent: Instant, date: &DateInterceptor) -> Option<DateSample> {
    let ServiceDate { received, date_ms } = date.date()?;
    Some(DateSample {
        sent,
        received,
        date_ms,
    })
}

async fn collected(mut body: ByteStream, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let hint = usize::try_from(body.size_hint().0).unwrap_or(bytes_max);
    let mut bytes = Vec::with_capacity(hint.min(bytes_max));
    while let Some(part) = body
        .try_next()
        .await
        .map_err(|error| failure(streamctl_proto::describe(&error)))?
    {
        if bytes.len() + part.len() > bytes_max {
            return Err(failure(format!("an answer of more than {bytes_max} bytes")));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

fn failure(message: String) -> Failure {
    Failure {
        message,
        ..Failure::default()
    }
}
