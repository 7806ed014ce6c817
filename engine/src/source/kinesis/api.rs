//! The two calls of a reader, in plain types.
//!
//! Owns: requests, responses and failures in the SDK's form. Does not own: how they are handled.
//! Rule: SDK types do not leave this file; the SDK does not retry, so that every throttle is seen
//! and paced.

use super::answer::{self, ANSWER_BYTES_MAX, Answer, PartitionKeys};
use super::cursor::{Failure, IteratorKind};
use super::service_clock::DateSample;
use crate::foreign_answer::Answering;
use crate::source::kinesis::service_date::{DateInterceptor, ServiceDate};

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{Builder, Config, ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::get_records::builders::GetRecordsFluentBuilder;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::ShardIteratorType;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use streamctl_proto::ShardId;
use streamctl_proto::resolved::StreamAddress;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The body that the SDK decodes instead of that of a successful response.
const NO_RECORDS: &str = r#"{"Records":[]}"#;

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
    /// Calls that may be in flight at once, for all shards of the worker together.
    pub calls: Arc<Semaphore>,
}

impl Api {
    fn settings(&self) -> Builder {
        let timeouts = TimeoutConfig::builder()
            .operation_timeout(self.timeout)
            .build();
        Config::builder()
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
    }

    /// Waits for a place among the calls in flight. Never returns `None`: the semaphore is never
    /// closed.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
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
        let limit = i32::try_from(self.records_max).unwrap_or(i32::MAX);
        let request = client.get_records().shard_iterator(iterator).limit(limit);
        // A stream's ARN routes the call to the stream's own account.
        let request = request.set_stream_arn(self.stream.arn.clone());
        let _place = self.place().await;
        let left = Instant::now();
        let date = DateInterceptor::default();
        let answered = tokio::time::timeout(self.timeout, self.body(request, &date)).await;
        let date = sample(left, &date);
        let body = answered
            .unwrap_or_else(|_| Err(failure(format!("no answer within {:?}", self.timeout))));
        let body = body.map_err(|failure| Failure { date, ..failure })?;
        let answer = answer::decode_with(&body, now_ms, self.partition_keys)
            .map_err(|error| failure(error.to_string()))?;
        Ok(Answer {
            left: Some(left),
            date,
            ..answer
        })
    }

    /// Converts an error into a failure to decide on; [`Answering`] decides which part of it is
    /// shown.
    fn of_error<E>(&self, error: &SdkError<E>) -> Failure
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

    /// The bytes of a successful response.
    async fn body(
        &self,
        request: GetRecordsFluentBuilder,
        date: &DateInterceptor,
    ) -> Result<Vec<u8>, Failure> {
        let taken = TakenBody::default();
        let settings = self
            .settings()
            .interceptor(taken.clone())
            .interceptor(date.clone());
        request
            .customize()
            .config_override(settings)
            .send()
            .await
            .map_err(|error| self.of_error(&error))?;
        let body = taken
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        collected(ByteStream::new(
            body.ok_or_else(|| failure("an answer without a body".into()))?,
        ))
        .await
    }
}

/// Takes the body of a successful response before the SDK decodes it. The SDK allocates for each
/// text and each payload and has half the speed of [`answer::decode`]. Requests, signatures,
/// connections and errors stay the SDK's.
#[derive(Clone, Debug, Default)]
struct TakenBody(Arc<Mutex<Option<SdkBody>>>);

impl Intercept for TakenBody {
    fn name(&self) -> &'static str {
        "TakenBody"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        if response.status().is_success() {
            let body = std::mem::replace(response.body_mut(), SdkBody::from(NO_RECORDS));
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
        Ok(())
    }
}

fn sample(sent: Instant, date: &DateInterceptor) -> Option<DateSample> {
    let ServiceDate { received, date_ms } = date.date()?;
    Some(DateSample {
        sent,
        received,
        date_ms,
    })
}

async fn collected(mut body: ByteStream) -> Result<Vec<u8>, Failure> {
    let hint = usize::try_from(body.size_hint().0).unwrap_or(ANSWER_BYTES_MAX);
    let mut bytes = Vec::with_capacity(hint.min(ANSWER_BYTES_MAX));
    while let Some(part) = body
        .try_next()
        .await
        .map_err(|error| failure(streamctl_proto::describe(&error)))?
    {
        if bytes.len() + part.len() > ANSWER_BYTES_MAX {
            return Err(failure(format!(
                "an answer of more than {ANSWER_BYTES_MAX} bytes"
            )));
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
