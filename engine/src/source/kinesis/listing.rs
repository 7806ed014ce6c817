//! ListShards, paged, and DescribeStreamSummary.
//!
//! Owns: paging, tokens that expire, retries, the retention and creation time of the stream. Does
//! not own: the use of the shards.
//! Rule: a page after the first is requested by its token alone: the service refuses name and token
//! together.

use crate::aws::{RoleError, SenderRejection, role_error, sender_rejection};
use crate::foreign_answer::Answering;
use crate::source::kinesis::HashRange;
use crate::source::kinesis::service_date::DateInterceptor;
use crate::source::{ListError, ListedShard};
use crate::storage::RefusalCause;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::describe_stream_summary::DescribeStreamSummaryError;
use aws_sdk_kinesis::operation::list_shards::{ListShardsError, ListShardsOutput};
use aws_sdk_kinesis::types::StreamDescriptionSummary;
use aws_sdk_kinesis::{Client, Config};
use std::time::Duration;
use streamctl_proto::SHARDS_MAX;
use streamctl_proto::ShardId;
use streamctl_proto::resolved::{StreamAddress, StreamFacts, StreamIdentity};

/// Most shards that the service returns at once.
const PAGE_SHARDS_MAX: i32 = 1_000;
const HOUR_MS: i64 = 3_600_000;
/// How often a listing restarts because a token expired (after 300 s).
const RESTARTS_MAX: u32 = 3;

/// How failures are retried.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    pub tries_max: u32,
    /// Wait after the first failure; doubles, with jitter.
    pub base: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            tries_max: 6,
            base: Duration::from_millis(200),
        }
    }
}

enum PageError {
    TokenExpired,
    List(ListError),
}

/// All shards of a stream, in the service's order.
pub async fn list(
    client: &Client,
    stream: &StreamAddress,
    retry: Retry,
) -> Result<Vec<ListedShard>, ListError> {
    for _ in 0..RESTARTS_MAX {
        match pages(client, stream, retry).await {
            Ok(shards) => return Ok(shards),
            Err(PageError::TokenExpired) => {}
            Err(PageError::List(error)) => return Err(error),
        }
    }
    Err(ListError::Unavailable {
        reason: "the listing's token expired again and again".to_owned(),
    })
}

async fn pages(
    client: &Client,
    stream: &StreamAddress,
    retry: Retry,
) -> Result<Vec<ListedShard>, PageError> {
    let mut shards = Vec::new();
    let mut token = None;
    loop {
        let page = page(client, stream, token.take(), retry).await?;
        shards.extend(page.shards.unwrap_or_default().into_iter().map(of_service));
        token = page.next_token;
        if token.is_none() || shards.len() > SHARDS_MAX {
            return Ok(shards);
        }
    }
}

async fn page(
    client: &Client,
    stream: &StreamAddress,
    token: Option<String>,
    retry: Retry,
) -> Result<ListShardsOutput, PageError> {
    let mut wait = retry.base;
    let mut tries = 0;
    loop {
        let request = client.list_shards().max_results(PAGE_SHARDS_MAX);
        let request = match (&token, &stream.arn) {
            (Some(token), _) => request.next_token(token),
            (None, Some(arn)) => request.stream_arn(arn),
            (None, None) => request.stream_name(&stream.name),
        };
        let error = match request.send().await {
            Ok(page) => return Ok(page),
            Err(error) => error,
        };
        tries += 1;
        match classify(&error, stream) {
            PageError::List(ListError::Unavailable { reason }) if tries < retry.tries_max => {
                tracing::warn!(
                    stream = stream.name,
                    reason,
                    tries,
                    "shards cannot be listed now"
                );
                tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                wait *= 2;
            }
            other => return Err(other),
        }
    }
}

/// The result of DescribeStreamSummary. The service allows 20 of these calls per second and
/// account, so controllers call it once with each listing, and workers never do.
pub struct Described {
    /// The facts of the stream; `None` for a service without the operation (emulators).
    pub facts: Result<Option<StreamFacts>, ListError>,
    /// The service's clock, in whole seconds.
    pub service_ms: Option<i64>,
}

/// Requests the stream's identity and retention.
pub async fn describe(client: &Client, stream: &StreamAddress, retry: Retry) -> Described {
    let mut wait = retry.base;
    let mut tries = 0;
    loop {
        let request = client.describe_stream_summary();
        let request = match &stream.arn {
            Some(arn) => request.stream_arn(arn),
            None => request.stream_name(&stream.name),
        };
        let date = DateInterceptor::default();
        let settings = Config::builder().interceptor(date.clone());
        let answer = request.customize().config_override(settings).send().await;
        let service_ms = date.date().map(|date| date.date_ms);
        tries += 1;
        match answer {
            Ok(answer) => {
                return Described {
                    facts: Ok(answer.stream_description_summary.map(facts)),
                    service_ms,
                };
            }
            Err(error) => match undescribed(&error, stream) {
                Err(ListError::Unavailable { reason }) if tries < retry.tries_max => {
                    tracing::debug!(
                        stream = stream.name,
                        reason,
                        tries,
                        "the stream cannot be described now"
                    );
                    tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    wait *= 2;
                }
                facts => return Described { facts, service_ms },
            },
        }
    }
}

fn facts(summary: StreamDescriptionSummary) -> StreamFacts {
    let created_ms = summary.stream_creation_timestamp.to_millis().unwrap_or(0);
    let retention_ms = i64::from(summary.retention_period_hours) * HOUR_MS;
    let arn = Some(summary.stream_arn).filter(|arn| !arn.is_empty());
    StreamFacts {
        identity: StreamIdentity { arn, created_ms },
        retention_ms,
    }
}

fn undescribed(
    error: &SdkError<DescribeStreamSummaryError>,
    stream: &StreamAddress,
) -> Result<Option<StreamFacts>, ListError> {
    if let Some(role) = role_error(error) {
        return Err(of_role(role));
    }
    let code = error.code().unwrap_or_default();
    let status = error
        .raw_response()
        .map(|response| response.status().as_u16());
    let reason = Answering::at(stream).reason(error);
    let allow = "allow kinesis:DescribeStreamSummary on the stream to the controller's role: without its retention and the time of \
                 its creation, records that expire unread and a stream that is created again go unnoticed";
    if code != "AccessDeniedException"
        && let Some(hint) = refused_here(code, status)
    {
        return Err(ListError::Refused {
            cause: RefusalCause::Environment,
            reason,
            hint: hint.to_owned(),
        });
    }
    match code {
        "UnknownOperationException" => Ok(None),
        "AccessDeniedException" => Err(ListError::Refused {
            cause: RefusalCause::Environment,
            reason,
            hint: allow.to_owned(),
        }),
        "LimitExceededException" | "ThrottlingException" => Err(ListError::Unavailable { reason }),
        _ if status.is_some_and(|status| {
            (400..500).contains(&status) && status != 408 && status != 429
        }) =>
        {
            let hint = "check the source of the job file".to_owned();
            Err(ListError::Refused {
                cause: RefusalCause::Request,
                reason,
                hint,
            })
        }
        _ => Err(ListError::Unavailable { reason }),
    }
}

fn of_service(shard: aws_sdk_kinesis::types::Shard) -> ListedShard {
    let parents = [shard.parent_shard_id, shard.adjacent_parent_shard_id];
    let range = shard
        .hash_key_range
        .and_then(|range| HashRange::new(&range.starting_hash_key, &range.ending_hash_key));
    ListedShard {
        id: ShardId::new(shard.shard_id),
        parents: parents.into_iter().flatten().map(ShardId::new).collect(),
        detail: range.map(HashRange::to_detail).unwrap_or_default(),
        closed: shard
            .sequence_number_range
            .is_some_and(|range| range.ending_sequence_number.is_some()),
    }
}

/// The hint if the service rejects this controller rather than its request.
fn refused_here(code: &str, status: Option<u16>) -> Option<&'static str> {
    if code == "AccessDeniedException" {
        return Some("allow kinesis:ListShards on the stream to this role");
    }
    Some(match sender_rejection(Some(code), status)? {
        SenderRejection::Credentials => {
            "renew the AWS credentials that the controller runs with, and set its clock"
        }
        SenderRejection::Unspecified => {
            "check the controller's role, the endpoint's policy and any proxy between it and \
             Kinesis"
        }
    })
}

/// The role of the stream is not assumed.
fn of_role(role: &RoleError) -> ListError {
    let reason = role.to_string();
    match role.may_pass() {
        true => ListError::Unavailable { reason },
        false => ListError::Refused {
            cause: RefusalCause::Environment,
            reason,
            hint: role.hint(),
        },
    }
}

fn classify(error: &SdkError<ListShardsError>, stream: &StreamAddress) -> PageError {
    if let Some(role) = role_error(error) {
        return PageError::List(of_role(role));
    }
    let status = error
        .raw_response()
        .map(|response| response.status().as_u16());
    let code = error.code().unwrap_or_default();
    let reason = Answering::at(stream).reason(error);
    if let Some(hint) = refused_here(code, status) {
        let cause = RefusalCause::Environment;
        return PageError::List(ListError::Refused {
            cause,
            reason,
            hint: hint.to_owned(),
        });
    }
    let cause = RefusalCause::Request;
    let hint = match code {
        "ExpiredNextTokenException" => return PageError::TokenExpired,
        "ResourceNotFoundException" => format!(
            "is there a stream {} in this account and region?",
            stream.name
        ),
        "LimitExceededException" | "ThrottlingException" | "ResourceInUseException" => {
            return PageError::List(ListError::Unavailable { reason });
        }
        _ if status.is_some_and(|status| {
            (400..500).contains(&status) && status != 408 && status != 429
        }) =>
        {
            "check the source of the job file".to_owned()
        }
        _ => return PageError::List(ListError::Unavailable { reason }),
    };
    PageError::List(ListError::Refused {
        cause,
        reason,
        hint,
    })
}

#[cfg(test)]
mod tests;
