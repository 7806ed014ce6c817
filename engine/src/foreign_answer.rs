//! Decides what to show of an unexpected response at a stream's address.
//!
//! Owns: which parts of a response are shown. Does not own: the meaning of the response (the
//! reader, the listing), which addresses a job may name (`resolve::foreign`).
//! Rule: a job may name the address of another service. Nothing of that service's response is
//! shown, except error codes of Kinesis: otherwise a job could read internal services.

use crate::resolve::foreign::is_of_the_service;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use std::error::Error;
use std::io;
use streamctl_proto::describe;
use streamctl_proto::resolved::StreamAddress;

/// Error codes of Kinesis and of the layers that check its requests.
const KINESIS_CODES: [&str; 34] = [
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredIteratorException",
    "ExpiredNextTokenException",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InternalFailure",
    "InternalFailureException",
    "InvalidArgumentException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "KMSAccessDeniedException",
    "KMSDisabledException",
    "KMSInvalidStateException",
    "KMSNotFoundException",
    "KMSOptInRequired",
    "KMSThrottlingException",
    "LimitExceededException",
    "MissingAuthenticationTokenException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ResourceInUseException",
    "ResourceNotFoundException",
    "SerializationException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "TrimmedDataAccessException",
    "UnknownOperationException",
    "UnrecognizedClientException",
    "ValidationException",
];

/// The service at the address of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answering {
    /// Kinesis, or the operator's replacement: its messages are shown.
    Kinesis,
    /// Any service, at an address that the job or its table names.
    Foreign,
}

impl Answering {
    pub fn at(stream: &StreamAddress) -> Self {
        match &stream.endpoint {
            Some(endpoint) if !is_of_the_service(endpoint) => Self::Foreign,
            _ => Self::Kinesis,
        }
    }

    pub fn reason<E>(self, error: &SdkError<E>) -> String
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            SdkError::ServiceError(_) | SdkError::ResponseError(_) => {
                let status = error
                    .raw_response()
                    .map(|response| response.status().as_u16());
                self.answer(
                    error.code(),
                    status,
                    error.message().unwrap_or("no message"),
                )
            }
            SdkError::DispatchFailure(failure) if self == Self::Foreign && failure.is_io() => {
                no_connection(
                    failure
                        .as_connector_error()
                        .map(|error| error as &(dyn Error + 'static)),
                )
            }
            _ => describe(error),
        }
    }

    /// The same for a response in parts. Without code and status there was none, and `message` is
    /// our own.
    pub fn answer(self, code: Option<&str>, status: Option<u16>, message: &str) -> String {
        let code = code.filter(|code| !code.is_empty());
        match (self, code, status) {
            (_, None, None) => message.to_owned(),
            (Self::Kinesis, Some(code), _) => format!("{code}: {message}"),
            (Self::Foreign, Some(code), _) if KINESIS_CODES.contains(&code) => code.to_owned(),
            (_, _, status) => not_of("Kinesis", status),
        }
    }
}

/// The message for a response that is not one of `service`: contains no byte of it.
pub fn not_of(service: &str, status: Option<u16>) -> String {
    match status {
        Some(status) => format!("the answer is not one of {service} (HTTP status {status})"),
        None => format!("the answer is not one of {service}"),
    }
}

/// Describes what failed, without what the peer sent: the error of a handshake contains the names
/// in a certificate.
fn no_connection(mut cause: Option<&(dyn Error + 'static)>) -> String {
    while let Some(error) = cause {
        match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::InvalidData) => {
                return "no TLS connection: its certificate is not valid here, or it does not speak TLS".to_owned();
            }
            Some(kind) => return format!("no connection: {kind}"),
            None => cause = error.source(),
        }
    }
    "no connection".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Answering::{Foreign, Kinesis};

    fn at(endpoint: Option<&str>) -> Answering {
        Answering::at(&StreamAddress {
            endpoint: endpoint.map(str::to_owned),
            ..StreamAddress::default()
        })
    }

    #[test]
    fn only_the_service_s_own_addresses_are_kinesis() {
        for own in [
            None,
            Some("https://kinesis.eu-west-1.amazonaws.com"),
            Some("https://kinesis-fips.us-east-1.api.aws/"),
        ] {
            assert_eq!(at(own), Kinesis, "{own:?}");
        }
        for foreign in [
            "http://127.0.0.1:4567",
            "https://vpce-1.kinesis.us-east-1.vpce.amazonaws.com",
            "https://intern",
        ] {
            assert_eq!(at(Some(foreign)), Foreign, "{foreign}");
        }
    }

    #[test]
    fn a_message_is_shown_only_of_kinesis_and_a_code_of_a_foreign_answer_only_if_kinesis_has_it() {
        let known = Some("ResourceNotFoundException");
        assert_eq!(
            Kinesis.answer(known, Some(400), "Stream s"),
            "ResourceNotFoundException: Stream s"
        );
        assert_eq!(
            Foreign.answer(known, Some(400), "s3cret"),
            "ResourceNotFoundException"
        );
        for code in [Some("s3cret"), Some(""), None] {
            let shown = Foreign.answer(code, Some(404), "s3cret");
            assert_eq!(shown, "the answer is not one of Kinesis (HTTP status 404)");
        }
        assert_eq!(
            Kinesis.answer(None, Some(502), "<html>"),
            "the answer is not one of Kinesis (HTTP status 502)"
        );
        assert_eq!(
            Foreign.answer(None, None, "no answer within 3s"),
            "no answer within 3s"
        );
    }
}
