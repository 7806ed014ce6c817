//! Consumers of enhanced fan-out: registered for a job, or there already.
//!
//! Owns: RegisterStreamConsumer and what belongs to it, in plain types. Does not own: subscriptions
//! (`fanout`), when a consumer is registered and deregistered (the controller).
//! Rule: a consumer that was there before is never registered, taken or deregistered by its name: it
//! may be another application's.

use crate::aws::{SenderRejection, sender_rejection};
use crate::foreign_answer::Answering;
use crate::source::ListError;
use crate::storage::RefusalCause;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::types::ConsumerStatus;
use std::time::Duration;
use streamctl_proto::resolved::{StreamAddress, StreamConsumer};
use streamctl_proto::spec::ConsumerName;
use tokio::time::{Instant, sleep};

/// How long a submit waits until its consumer is active, and until one of its name is gone.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Between two looks at a consumer: the service allows 20 a second.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Attempts of a call whose outcome is unknown or that is throttled; the service allows five
/// registrations a second.
const TRIES_MAX: u32 = 4;

/// A failed call, in plain types.
struct Failed {
    code: String,
    status: Option<u16>,
    reason: String,
}

impl Failed {
    fn of<E>(error: &SdkError<E>, stream: &StreamAddress) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let raw = error.raw_response();
        Self {
            code: error.code().unwrap_or_default().to_owned(),
            status: raw.map(|response| response.status().as_u16()),
            reason: Answering::at(stream).reason(error),
        }
    }

    fn is_limit(&self) -> bool {
        matches!(
            self.code.as_str(),
            "LimitExceededException" | "ThrottlingException" | "RequestLimitExceeded"
        )
    }

    /// Whether the same call may succeed soon.
    fn may_pass(&self) -> bool {
        self.is_limit() || self.status.is_none_or(|status| status >= 500)
    }

    /// The error for users; `operation` is the permission that the call needs.
    fn into_error(self, operation: &str) -> ListError {
        let reason = self.reason;
        let hint = match self.code.as_str() {
            "AccessDeniedException" => {
                format!(
                    "allow kinesis:{operation} on the stream's consumers to the controller's role, \
                     or take `consumer` out of the job file"
                )
            }
            "LimitExceededException" => "a stream has at most 20 consumers, and 5 that are being \
                 registered: deregister one, or take `consumer` out of the job file"
                .to_owned(),
            "ResourceNotFoundException" => {
                "is there a consumer with this ARN? Write a name to have one registered".to_owned()
            }
            "UnknownOperationException" => {
                "the service has no enhanced fan-out: take `consumer` out of the job file"
                    .to_owned()
            }
            code => match sender_rejection(Some(code), self.status) {
                Some(SenderRejection::Credentials) => {
                    "renew the AWS credentials that the controller runs with".to_owned()
                }
                Some(SenderRejection::Unspecified) => {
                    "check the controller's role and the endpoint's policy".to_owned()
                }
                None if self
                    .status
                    .is_some_and(|status| (400..500).contains(&status)) =>
                {
                    "check `consumer` in the job file".to_owned()
                }
                None => return ListError::Unavailable { reason },
            },
        };
        ListError::Refused {
            cause: RefusalCause::Request,
            reason,
            hint,
        }
    }
}

/// A consumer as the service describes it.
struct Described {
    arn: String,
    status: ConsumerStatus,
}

/// The consumer of a job, registered if the job names one. It is active, unless that takes very
/// long: readers poll until it is.
///
/// # Errors
/// There is no such consumer, or it cannot be registered.
pub async fn prepare(
    client: &Client,
    stream: &StreamAddress,
    stream_arn: Option<&str>,
    name: &ConsumerName,
) -> Result<StreamConsumer, ListError> {
    let deadline = Instant::now() + WAIT_MAX;
    let (arn, is_own) = match name {
        ConsumerName::Arn(arn) => (arn.clone(), false),
        ConsumerName::Name(name) => {
            let Some(stream_arn) = stream_arn else {
                return Err(ListError::request(
                    "a consumer is registered by the stream's ARN, which is not known",
                    "name the stream by `arn`, or allow kinesis:DescribeStreamSummary to the controller's role",
                ));
            };
            (
                register(client, stream, stream_arn, name, deadline).await?,
                true,
            )
        }
    };
    let consumer = StreamConsumer { arn, is_own };
    match active(client, stream, &consumer, deadline).await {
        Ok(()) => Ok(consumer),
        Err(error) => {
            if let Err(leftover) = release(client, stream, &consumer).await {
                tracing::warn!(consumer = consumer.arn, %leftover, "the consumer stays registered");
            }
            Err(error)
        }
    }
}

async fn register(
    client: &Client,
    stream: &StreamAddress,
    stream_arn: &str,
    name: &str,
    deadline: Instant,
) -> Result<String, ListError> {
    let mut tries = 0;
    loop {
        let request = client.register_stream_consumer().stream_arn(stream_arn);
        let failed = match request.consumer_name(name).send().await {
            Ok(answer) => match answer.consumer {
                Some(consumer) => return Ok(consumer.consumer_arn),
                None => {
                    let reason = "an answer without a consumer".to_owned();
                    return Err(ListError::Unavailable { reason });
                }
            },
            Err(error) => Failed::of(&error, stream),
        };
        tries += 1;
        if failed.code == "ResourceInUseException" {
            let found = named(client, stream, stream_arn, name).await?;
            match found {
                Some(Described { arn, status }) if status != ConsumerStatus::Deleting => {
                    return Err(ListError::Refused {
                        cause: RefusalCause::Request,
                        reason: format!("the stream has a consumer {name} already"),
                        hint: format!(
                            "choose another name, or write its ARN to read through it: {arn}"
                        ),
                    });
                }
                // It is being deleted: its name is free soon.
                Some(_) | None if Instant::now() < deadline => {}
                Some(_) | None => {
                    let reason = format!("the stream's consumer {name} is still being deleted");
                    return Err(ListError::Unavailable { reason });
                }
            }
        } else if !failed.may_pass() || tries >= TRIES_MAX {
            return Err(failed.into_error("RegisterStreamConsumer"));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The consumer with this name; `None`: there is none.
async fn named(
    client: &Client,
    stream: &StreamAddress,
    stream_arn: &str,
    name: &str,
) -> Result<Option<Described>, ListError> {
    let request = client.describe_stream_consumer().stream_arn(stream_arn);
    let failed = match request.consumer_name(name).send().await {
        Ok(answer) => return Ok(answer.consumer_description.map(described)),
        Err(error) => Failed::of(&error, stream),
    };
    match failed.code.as_str() {
        "ResourceNotFoundException" => Ok(None),
        _ => Err(failed.into_error("DescribeStreamConsumer")),
    }
}

fn described(description: aws_sdk_kinesis::types::ConsumerDescription) -> Described {
    Described {
        arn: description.consumer_arn,
        status: description.consumer_status,
    }
}

/// Waits until the consumer is active, for as long as a submit may take.
async fn active(
    client: &Client,
    stream: &StreamAddress,
    consumer: &StreamConsumer,
    deadline: Instant,
) -> Result<(), ListError> {
    let mut tries = 0;
    loop {
        let request = client.describe_stream_consumer();
        let status = match request.consumer_arn(&consumer.arn).send().await {
            Ok(answer) => answer.consumer_description.map(|it| it.consumer_status),
            Err(error) => {
                tries += 1;
                let failed = Failed::of(&error, stream);
                if !failed.may_pass() || tries >= TRIES_MAX {
                    return Err(failed.into_error("DescribeStreamConsumer"));
                }
                None
            }
        };
        match status {
            Some(ConsumerStatus::Active) => return Ok(()),
            Some(ConsumerStatus::Deleting) => {
                return Err(ListError::request(
                    format!("consumer {} is being deleted", consumer.arn),
                    "write the ARN of another one, or a name to have one registered",
                ));
            }
            _ if Instant::now() >= deadline => {
                tracing::warn!(
                    consumer = consumer.arn,
                    "the consumer is not active yet: shards are polled until it is"
                );
                return Ok(());
            }
            _ => sleep(LOOK_EVERY).await,
        }
    }
}

/// Deregisters a job's own consumer; one that is gone already is no failure.
///
/// # Errors
/// It is still registered, or that is not known.
pub async fn release(
    client: &Client,
    stream: &StreamAddress,
    consumer: &StreamConsumer,
) -> Result<(), ListError> {
    if !consumer.is_own {
        return Ok(());
    }
    let mut tries = 0;
    loop {
        let request = client.deregister_stream_consumer();
        let failed = match request.consumer_arn(&consumer.arn).send().await {
            Ok(_) => return Ok(()),
            Err(error) => Failed::of(&error, stream),
        };
        tries += 1;
        if failed.code == "ResourceNotFoundException" {
            return Ok(());
        }
        if !failed.may_pass() || tries >= TRIES_MAX {
            return Err(failed.into_error("DeregisterStreamConsumer"));
        }
        sleep(LOOK_EVERY).await;
    }
}
