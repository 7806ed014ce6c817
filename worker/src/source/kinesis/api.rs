//! The two calls of a reader, in plain types.
//!
//! Owns: requests, answers and failures as the SDK has them. Does not own: what to do with them.
//! Rule: SDK types do not leave this file; the SDK retries nothing by itself, so that every throttle is seen and paced.

use super::cursor::{Failure, IteratorKind};
use crate::source::{Child, Record};
use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{Builder, Config};
use aws_sdk_kinesis::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::get_records::GetRecordsOutput;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{HashKeyRange, ShardIteratorType};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::hash_range::HashRange;
use streamctl_proto::resolved::StreamAddress;
use streamctl_proto::{SequenceNumber, ShardId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// What GetRecords gave.
#[derive(Debug, Default)]
pub struct Answer {
    /// In the shard's order, aggregates whole.
    pub records: Vec<Record>,
    /// As the service counts them: payloads and partition keys.
    pub bytes: usize,
    /// `None`: the shard is closed and read to its end.
    pub next_iterator: Option<String>,
    /// `None`: the service did not say.
    pub behind_ms: Option<u64>,
    /// At the end of a shard.
    pub children: Vec<Child>,
    /// When the call left, which may be later than it was asked for.
    pub left: Option<Instant>,
}

/// The two calls of a service that stands in for the real one.
#[async_trait]
pub trait Calls: Send + Sync {
    /// GetShardIterator.
    async fn iterator(&self, shard: &ShardId, kind: IteratorKind) -> Result<String, Failure>;
    /// GetRecords, of at most so many records.
    async fn records(&self, iterator: String, records_max: u32) -> Result<Answer, Failure>;
}

/// Who answers.
#[derive(Clone)]
pub enum Service {
    /// The service, through a client made for the stream's account and region.
    Sdk(Client),
    /// What stands in for it.
    Given(Arc<dyn Calls>),
}

/// One shard of one stream.
#[derive(Clone)]
pub struct Api {
    /// Who answers.
    pub service: Service,
    /// Which stream.
    pub stream: StreamAddress,
    /// Which shard.
    pub shard: ShardId,
    /// Per call.
    pub records_max: u32,
    /// Per call.
    pub timeout: Duration,
    /// Calls that may be under way at once, all shards of the worker together.
    pub calls: Arc<Semaphore>,
}

impl Api {
    fn settings(&self) -> Builder {
        let timeouts = TimeoutConfig::builder().operation_timeout(self.timeout).build();
        Config::builder().retry_config(RetryConfig::disabled()).timeout_config(timeouts)
    }

    /// Waits for a place among the calls under way. `None` is never given: nobody closes them.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.calls).acquire_owned().await.ok()
    }

    /// GetShardIterator.
    pub async fn iterator(self, kind: IteratorKind) -> Result<String, Failure> {
        let client = match &self.service {
            Service::Sdk(client) => client,
            Service::Given(calls) => return calls.iterator(&self.shard, kind).await,
        };
        let request = client.get_shard_iterator().shard_id(self.shard.as_str());
        let request = match &self.stream.arn {
            Some(arn) => request.stream_arn(arn),
            None => request.stream_name(&self.stream.name),
        };
        let request = match kind {
            IteratorKind::TrimHorizon => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
            IteratorKind::AtTimestamp(ms) => {
                request.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(DateTime::from_millis(ms))
            }
            IteratorKind::After(sequence) => {
                request.shard_iterator_type(ShardIteratorType::AfterSequenceNumber).starting_sequence_number(sequence)
            }
            IteratorKind::At(sequence) => {
                request.shard_iterator_type(ShardIteratorType::AtSequenceNumber).starting_sequence_number(sequence)
            }
        };
        let _place = self.place().await;
        let sent = request.customize().config_override(self.settings()).send().await;
        let answer = sent.map_err(|error| of_error(&error))?;
        answer
            .shard_iterator
            .ok_or_else(|| Failure { message: "an answer without an iterator".into(), ..Failure::default() })
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
        match request.customize().config_override(self.settings()).send().await {
            Ok(output) => Ok(Answer { left: Some(left), ..of_output(output, now_ms)? }),
            Err(error) => Err(of_error(&error)),
        }
    }
}

fn of_output(output: GetRecordsOutput, now_ms: i64) -> Result<Answer, Failure> {
    let mut answer = Answer {
        next_iterator: output.next_shard_iterator,
        behind_ms: output.millis_behind_latest.map(|ms| u64::try_from(ms).unwrap_or(0)),
        ..Answer::default()
    };
    for record in output.records {
        let sequence = SequenceNumber::try_from(record.sequence_number)
            .map_err(|error| Failure { message: error.to_string(), ..Failure::default() })?;
        let arrival = record.approximate_arrival_timestamp.and_then(|time| time.to_millis().ok());
        let data = Bytes::from(record.data.into_inner());
        answer.bytes += data.len() + record.partition_key.map_or(0, |key| key.len());
        answer.records.push(Record {
            sequence,
            sub_sequence: 0,
            arrival_ms: arrival.unwrap_or(now_ms),
            data,
            origin: None,
        });
    }
    let child = |child: aws_sdk_kinesis::types::ChildShard| Child {
        detail: child.hash_key_range.and_then(|range| detail(&range)).unwrap_or_default(),
        shard: ShardId::new(child.shard_id),
        parents: child.parent_shards.into_iter().map(ShardId::new).collect(),
    };
    answer.children = output.child_shards.unwrap_or_default().into_iter().map(child).collect();
    Ok(answer)
}

fn detail(range: &HashKeyRange) -> Option<String> {
    HashRange::new(&range.starting_hash_key, &range.ending_hash_key).map(HashRange::to_detail)
}

fn of_error<E>(error: &SdkError<E>) -> Failure
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    let message = match error.message() {
        Some(message) => message.to_owned(),
        None => DisplayErrorContext(error).to_string(),
    };
    Failure {
        code: error.code().map(str::to_owned),
        status: error.raw_response().map(|response| response.status().as_u16()),
        message,
    }
}
