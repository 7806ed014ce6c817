//! Maps the errors of S3 to the caller's errors.
//!
//! Owns: the mapping from the SDK's errors to [`StorageError`], and the hints.
//! Rule: a transient failure is `Unavailable`; one that only a person can fix is `Refused`, with a
//! hint.

use super::{RefusalCause, StorageError};
use crate::aws::role_error;
use crate::foreign_answer::not_of;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use std::error::Error;

/// The service's code for an error.
pub(super) fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<String> {
    error.as_service_error()?.code().map(str::to_owned)
}

/// The HTTP status of the response.
pub(super) fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|answer| answer.status().as_u16())
}

/// Maps the SDK's error to the error that the caller handles.
pub(super) fn meaning<E>(location: &str, error: &SdkError<E>) -> StorageError
where
    E: Error + ProvideErrorMetadata + 'static,
{
    if let Some(role) = role_error(error) {
        return match role.may_pass() {
            true => unavailable(location, role.to_string()),
            false => refused(
                RefusalCause::Environment,
                location,
                &role.to_string(),
                &role.hint(),
            ),
        };
    }
    let code = code(error).unwrap_or_default();
    let reason = words(&code, error);
    let mut cause = RefusalCause::Environment;
    let hint = match (code.as_str(), status(error)) {
        ("NoSuchKey" | "NoSuchBucket" | "NotFound", _) => {
            return StorageError::NotFound {
                location: location.to_owned(),
            };
        }
        ("InvalidAccessKeyId" | "SignatureDoesNotMatch", _) => {
            "the access key is wrong: look at AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and \
             AWS_PROFILE"
        }
        ("ExpiredToken" | "InvalidToken", _) => "the session has expired: log in again",
        ("RequestTimeTooSkewed", _) => "set this machine's clock",
        ("PermanentRedirect" | "AuthorizationHeaderMalformed", _) | (_, Some(301)) => {
            "the bucket is in another region: set AWS_REGION to it"
        }
        ("RequestTimeout" | "SlowDown" | "OperationAborted" | "ConditionalRequestConflict", _) => {
            return unavailable(location, reason);
        }
        ("NoSuchUpload", _) => {
            return StorageError::StagedLost {
                location: location.to_owned(),
            };
        }
        (_, Some(404)) => {
            return StorageError::NotFound {
                location: location.to_owned(),
            };
        }
        // Checked by code too: an error inside a 200 response counts as status 500.
        ("AccessDenied", _) | (_, Some(401 | 403)) => {
            "allow s3:GetObject, s3:PutObject, s3:AbortMultipartUpload, s3:ListBucket and \
             s3:ListBucketMultipartUploads there"
        }
        (_, Some(408 | 409 | 429 | 500..)) => return unavailable(location, reason),
        (code, Some(400..)) if code.starts_with(KMS_CODES) => {
            "the bucket's KMS key cannot be used: enable it, and allow kms:GenerateDataKey and \
             kms:Decrypt on it"
        }
        ("RequestExpired" | "TokenRefreshRequired", _) => "the session has expired: log in again",
        (_, Some(400..)) => {
            cause = RefusalCause::Request;
            "the service does not take this request: look at the bucket's name and the endpoint"
        }
        _ if NO_CREDENTIALS.iter().any(|words| reason.contains(words)) => {
            "no credentials: set AWS_PROFILE or AWS_ACCESS_KEY_ID, or give the machine a role"
        }
        _ if reason.contains(NO_REGION) => "set AWS_REGION to the bucket's region",
        _ if matches!(error, SdkError::ConstructionFailure(_)) => {
            "look at the bucket's name, the region and the endpoint"
        }
        _ => return unavailable(location, reason),
    };
    refused(cause, location, &reason, hint)
}

/// Prefix of the codes about a bucket's encryption key.
const KMS_CODES: &str = "KMS.";
/// How the SDK reports missing credentials. A provider that does not respond may respond later.
const NO_CREDENTIALS: [&str; 2] = [
    "credential provider was not enabled",
    "credentials provider was not properly configured",
];
/// How the SDK reports a missing region.
const NO_REGION: &str = "A region must be set";

/// The service's error text, with the ids that its support needs.
fn words<E>(code: &str, error: &SdkError<E>) -> String
where
    E: Error + ProvideErrorMetadata + 'static,
{
    let Some(service) = error.as_service_error() else {
        return match error {
            SdkError::ResponseError(_) => not_of("S3", status(error)),
            _ => chain(error),
        };
    };
    let said = match (code, status(error)) {
        // A response to HEAD has no error text.
        ("", Some(status)) => format!("the service answered {status}"),
        _ => format!("{code}: {}", service.message().unwrap_or("no message")),
    };
    let request = error
        .raw_response()
        .and_then(|answer| answer.headers().get("x-amz-request-id"));
    request
        .map(|id| format!("{said} (request {id})"))
        .unwrap_or(said)
}

/// An error and its causes, in one line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.replace('\n', ";")
}

pub(super) fn refused(
    cause: RefusalCause,
    location: &str,
    reason: &str,
    hint: &str,
) -> StorageError {
    StorageError::Refused {
        cause,
        location: location.to_owned(),
        reason: reason.to_owned(),
        hint: hint.to_owned(),
    }
}

fn unavailable(location: &str, reason: String) -> StorageError {
    StorageError::Unavailable {
        location: location.to_owned(),
        reason,
    }
}
