//! From a position to an iterator, and the action after each kind of failure.
//!
//! Owns: the meaning of the service's error codes. Does not own: calls, waits.
//! Rule: pure; a failure that is not known to be permanent is retried.

use super::service_clock::DateSample;
use crate::aws::{SenderRejection, sender_rejection};
use crate::storage::RefusalCause;
use streamctl_proto::Position;

/// Renewals without a response in between after which a refused iterator is no longer considered
/// expired.
const RENEWALS_MAX: u32 = 3;

/// The kind of iterator to request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IteratorKind {
    /// `TRIM_HORIZON`.
    TrimHorizon,
    /// `AT_TIMESTAMP`, milliseconds since the Unix epoch.
    AtTimestamp(i64),
    /// `AFTER_SEQUENCE_NUMBER`.
    After(String),
    /// `AT_SEQUENCE_NUMBER`: an aggregate of which only a part was read.
    At(String),
}

/// The kind of iterator that continues from a position; `None` at the shard's end.
pub fn iterator_kind(position: &Position) -> Option<IteratorKind> {
    match position {
        Position::Start => Some(IteratorKind::TrimHorizon),
        Position::Timestamp(ms) => Some(IteratorKind::AtTimestamp(*ms)),
        Position::After {
            sequence,
            sub_sequence: 0,
        } => Some(IteratorKind::After(sequence.as_str().to_owned())),
        Position::After { sequence, .. } => Some(IteratorKind::At(sequence.as_str().to_owned())),
        Position::End => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Iterator,
    Records,
}

/// A failed call, as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// The service's error code; `None`: no such response (time-out, connection).
    pub code: Option<String>,
    /// HTTP status, if there was a response.
    pub status: Option<u16>,
    pub message: String,
    /// The service's time, if it reported it.
    pub date: Option<DateSample>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    BackOff {
        /// The service throttled the call.
        throttled: bool,
    },
    /// Request a new iterator from the position.
    Renew,
    /// Records after the position are gone; there may be later ones in the shard.
    Lost,
    /// The shard is gone as a whole.
    ShardGone,
    /// The same call from here, at this moment, is refused again.
    Refuse {
        /// What determines the refusal.
        cause: RefusalCause,
        hint: String,
    },
}

/// Decides the next action; `renewals` counts iterators made since the last response, with records
/// or without.
pub fn after_failure(
    call: Call,
    position: &Position,
    failure: &Failure,
    shard: &str,
    renewals: u32,
) -> Next {
    let Some(code) = failure.code.as_deref() else {
        return without_code(failure);
    };
    match code {
        "ProvisionedThroughputExceededException"
        | "LimitExceededException"
        | "KMSThrottlingException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "SlowDown" => Next::BackOff { throttled: true },
        "ExpiredIteratorException" => Next::Renew,
        "TrimmedDataAccessException" | "TrimmedDataAccess" => Next::Lost,
        "InvalidArgumentException" => invalid_argument(call, position, failure, renewals),
        // "Shard shardId-000000000003 in stream s under account a does not exist" against "Stream s
        // under account ...".
        "ResourceNotFoundException" if failure.message.contains(shard) => Next::ShardGone,
        // The account and region of the request also depend on this machine.
        "ResourceNotFoundException" => {
            refused_here("is the stream still there, in this account and region?")
        }
        "InternalFailureException" | "InternalFailure" | "ServiceUnavailable" => {
            Next::BackOff { throttled: false }
        }
        _ => match denied_hint(code) {
            Some(hint) => refused_here(hint),
            None => without_code(failure),
        },
    }
}

fn refused_here(hint: &str) -> Next {
    Next::Refuse {
        cause: RefusalCause::Environment,
        hint: hint.to_owned(),
    }
}

fn refused_everywhere(hint: &str) -> Next {
    Next::Refuse {
        cause: RefusalCause::Request,
        hint: hint.to_owned(),
    }
}

fn without_code(failure: &Failure) -> Next {
    match sender_rejection(failure.code.as_deref(), failure.status) {
        Some(SenderRejection::Credentials) => {
            return refused_here("renew the AWS credentials that the workers run with");
        }
        Some(SenderRejection::Unspecified) => {
            return refused_here(
                "check the worker's role, the endpoint's policy and any proxy between it and \
                 Kinesis",
            );
        }
        None => {}
    }
    match failure.status {
        Some(429) => Next::BackOff { throttled: true },
        Some(400 | 404..=406 | 409..=499) if failure.code.is_some() => refused_everywhere(
            "the service does not take this request; check stream, region and endpoint of the \
             source",
        ),
        _ => Next::BackOff { throttled: false },
    }
}

fn invalid_argument(call: Call, position: &Position, failure: &Failure, renewals: u32) -> Next {
    match (call, position) {
        // An iterator that the service no longer knows: renew it, up to a limit.
        (Call::Records, _) if renewals < RENEWALS_MAX => Next::Renew,
        (_, Position::After { .. }) => Next::Lost,
        // A time that is in the future for the service's clock.
        (Call::Iterator, Position::Timestamp(_))
            if failure.message.to_ascii_lowercase().contains("timestamp") =>
        {
            Next::BackOff { throttled: false }
        }
        _ => refused_everywhere(
            "the service does not take this request; check stream, region and endpoint of the \
             source",
        ),
    }
}

fn denied_hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "AccessDeniedException" | "AccessDenied" => {
            "allow kinesis:GetShardIterator and kinesis:GetRecords on the stream to the worker's \
             role"
        }
        "KMSAccessDeniedException" => "allow kms:Decrypt on the stream's key to the worker's role",
        "KMSDisabledException"
        | "KMSInvalidStateException"
        | "KMSNotFoundException"
        | "KMSOptInRequired" => "the stream's KMS key cannot be used; enable or restore it",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: &str = "shardId-000000000003";

    fn failure(code: &str, message: &str) -> Failure {
        Failure {
            code: Some(code.to_owned()),
            status: Some(400),
            message: message.to_owned(),
            date: None,
        }
    }

    fn decide(call: Call, position: &Position, code: &str, message: &str) -> Next {
        after_failure(call, position, &failure(code, message), SHARD, 0)
    }

    #[test]
    fn line_01_a_stored_position_is_read_from_the_record_after_it() {
        assert_eq!(
            iterator_kind(&Position::after(7.into())),
            Some(IteratorKind::After("7".into()))
        );
        let inside = Position::After {
            sequence: 7.into(),
            sub_sequence: 2,
        };
        assert_eq!(iterator_kind(&inside), Some(IteratorKind::At("7".into())));
        assert_eq!(iterator_kind(&Position::End), None);
    }

    #[test]
    fn line_02_a_child_begins_at_its_beginning() {
        assert_eq!(
            iterator_kind(&Position::Start),
            Some(IteratorKind::TrimHorizon)
        );
    }

    #[test]
    fn line_03_a_pinned_latest_is_a_timestamp() {
        assert_eq!(
            iterator_kind(&Position::Timestamp(5)),
            Some(IteratorKind::AtTimestamp(5))
        );
    }

    #[test]
    fn line_07_every_kind_of_throttling_is_waited_out() {
        for code in [
            "ProvisionedThroughputExceededException",
            "LimitExceededException",
            "KMSThrottlingException",
        ] {
            for call in [Call::Iterator, Call::Records] {
                assert_eq!(
                    decide(call, &Position::Start, code, ""),
                    Next::BackOff { throttled: true },
                    "{code}"
                );
            }
        }
    }

    #[test]
    fn line_12_lost_data_is_distinguished_from_everything_else() {
        let stored = Position::after(7.into());
        assert_eq!(
            decide(
                Call::Iterator,
                &stored,
                "InvalidArgumentException",
                "sequence"
            ),
            Next::Lost
        );
        assert_eq!(
            decide(Call::Records, &stored, "TrimmedDataAccessException", ""),
            Next::Lost
        );
        let gone = "Shard shardId-000000000003 in stream s under account 1 does not exist";
        assert_eq!(
            decide(Call::Iterator, &stored, "ResourceNotFoundException", gone),
            Next::ShardGone
        );
        let stream = decide(
            Call::Iterator,
            &stored,
            "ResourceNotFoundException",
            "Stream s under account 1 not found.",
        );
        assert!(matches!(
            stream,
            Next::Refuse {
                cause: RefusalCause::Environment,
                ..
            }
        ));
    }

    #[test]
    fn a_refused_iterator_is_made_again_but_not_for_ever() {
        let stored = Position::after(7.into());
        let invalid = failure("InvalidArgumentException", "invalid iterator");
        assert_eq!(
            after_failure(Call::Records, &stored, &invalid, SHARD, 0),
            Next::Renew
        );
        assert_eq!(
            after_failure(Call::Records, &stored, &invalid, SHARD, RENEWALS_MAX),
            Next::Lost
        );
    }

    #[test]
    fn a_time_to_come_is_waited_for() {
        let next = decide(
            Call::Iterator,
            &Position::Timestamp(9),
            "InvalidArgumentException",
            "The Timestamp is ahead",
        );
        assert_eq!(next, Next::BackOff { throttled: false });
    }

    #[test]
    fn failures_without_an_answer_and_of_the_service_are_waited_out() {
        let silent = Failure {
            message: "timed out".into(),
            ..Failure::default()
        };
        let broken = Failure {
            code: Some("Whatever".into()),
            status: Some(503),
            ..Failure::default()
        };
        for failure in [silent, broken, failure("InternalFailureException", "")] {
            let next = after_failure(Call::Records, &Position::Start, &failure, SHARD, 0);
            assert_eq!(next, Next::BackOff { throttled: false }, "{failure:?}");
        }
    }

    #[test]
    fn a_machine_that_something_on_the_way_refuses_may_be_avoided() {
        for (status, code) in [
            (403, None),
            (401, None),
            (403, Some("Whatever".to_owned())),
            (407, None),
        ] {
            let failure = Failure {
                code,
                status: Some(status),
                ..Failure::default()
            };
            let next = after_failure(Call::Records, &Position::Start, &failure, SHARD, 0);
            assert!(
                matches!(
                    next,
                    Next::Refuse {
                        cause: RefusalCause::Environment,
                        ..
                    }
                ),
                "{failure:?}: {next:?}"
            );
        }
    }

    #[test]
    fn line_20_missing_rights_are_refused_and_the_right_is_named() {
        let hint = |code| match decide(Call::Records, &Position::Start, code, "") {
            Next::Refuse { hint, .. } => hint,
            other => panic!("{code}: {other:?}"),
        };
        assert!(hint("AccessDeniedException").contains("kinesis:GetRecords"));
        assert!(hint("KMSAccessDeniedException").contains("kms:Decrypt"));
        assert!(hint("ExpiredTokenException").contains("credentials"));
        assert!(hint("ValidationException").contains("check"));
    }
}
