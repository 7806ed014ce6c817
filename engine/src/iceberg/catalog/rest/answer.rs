//! What a catalog's answer means.
//!
//! Rule: pure. A status that does not surely state "nothing happened" is unknown.

use super::super::{CatalogError, TableName};
use super::transport::{Failure, Reply};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Characters of a message that are passed on.
const MESSAGE_MAX: usize = 500;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Done,
    /// The credentials are too old or wrong.
    Unauthorized,
    /// There is no such table or namespace.
    Missing(String),
    /// The server does not know the address.
    NoRoute,
    /// The table is not as required, or exists.
    Conflict(String),
    /// Surely not done, and a retry may succeed.
    Busy(String),
    /// It may be done, now or later.
    Unknown(String),
    /// Surely not done, and a retry changes nothing.
    Refused {
        reason: String,
        hint: String,
    },
}

pub(super) fn meaning(reply: &Reply) -> Meaning {
    let (kind, message) = error_of(reply);
    let reason = match kind.as_str() {
        "" => format!("{} {message}", reply.status),
        _ => format!("{} {kind}: {message}", reply.status),
    };
    let is = |part: &str| kind.contains(part);
    match reply.status {
        200..=299 => Meaning::Done,
        _ if is("CommitStateUnknown") => Meaning::Unknown(reason),
        401 | 419 => Meaning::Unauthorized,
        400 | 403 if is("ExpiredToken") || is("TokenExpired") => Meaning::Unauthorized,
        400 if is("CommitFailed") || is("ConcurrentModification") => Meaning::Conflict(reason),
        400 if is("Throttl") => Meaning::Busy(reason),
        403 => Meaning::Refused {
            reason,
            hint: "give the catalog's user or role the right to read and change the table".into(),
        },
        404 if kind.is_empty() => Meaning::NoRoute,
        404 => Meaning::Missing(reason),
        409 => Meaning::Conflict(reason),
        429 => Meaning::Busy(reason),
        408 | 425 | 500..=599 => Meaning::Unknown(reason),
        300..=399 => Meaning::Refused {
            reason,
            hint: "the catalog is at another address; use that one".into(),
        },
        _ => Meaning::Refused {
            reason,
            hint: "look at the catalog's log".into(),
        },
    }
}

/// The type and the message of an error, in Iceberg's or in AWS' form.
fn error_of(reply: &Reply) -> (String, String) {
    let json: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let error = &json["error"];
    let kind = text(&error["type"])
        .or_else(|| reply.error_type.clone())
        .or_else(|| text(&json["__type"]))
        .or_else(|| text(&json["code"]))
        .or_else(|| text(error))
        .unwrap_or_default();
    let message = text(&error["message"])
        .or_else(|| text(&json["message"]))
        .or_else(|| text(&json["Message"]))
        .or_else(|| text(&json["error_description"]))
        .unwrap_or_else(|| String::from_utf8_lossy(&reply.body).into_owned());
    let short = message.chars().filter(|c| !c.is_control());
    (kind, short.take(MESSAGE_MAX).collect())
}

impl Meaning {
    /// As an error of a request that changes nothing, or surely changed nothing.
    pub(super) fn error(self, table: Option<&TableName>) -> CatalogError {
        match (self, table) {
            (Self::Missing(_), Some(table)) => CatalogError::TableMissing {
                table: table.clone(),
            },
            (Self::Missing(reason), None) => CatalogError::Refused {
                reason,
                hint: "check the warehouse".into(),
            },
            (Self::NoRoute, _) => CatalogError::Refused {
                reason: "there is no Iceberg catalog at this address".into(),
                hint: "the address is that of the REST catalog without \"/v1\"".into(),
            },
            (Self::Unauthorized, _) => CatalogError::Refused {
                reason: "the credentials are not accepted".into(),
                hint: "check the token, or the client's id and secret".into(),
            },
            (Self::Refused { reason, hint }, _) => CatalogError::Refused { reason, hint },
            (Self::Busy(reason) | Self::Unknown(reason) | Self::Conflict(reason), _) => {
                CatalogError::Unavailable { reason }
            }
            (Self::Done, _) => CatalogError::Unavailable {
                reason: "the answer is not the expected one".into(),
            },
        }
    }
}

impl From<Failure> for Meaning {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(reason) => Self::Busy(reason),
            Failure::Impossible { reason, hint } => Self::Refused { reason, hint },
            Failure::Unknown(reason) => Self::Unknown(reason),
        }
    }
}

/// The error of a request that only reads.
pub(super) fn failed(failure: Failure) -> CatalogError {
    Meaning::from(failure).error(None)
}

pub(super) fn body<T: DeserializeOwned>(reply: &Reply) -> Result<T, CatalogError> {
    serde_json::from_slice(&reply.body).map_err(|error| CatalogError::Refused {
        reason: format!("its answer cannot be read: {error}"),
        hint: "check that the address is that of an Iceberg REST catalog".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reply(status: u16, body: &Value) -> Reply {
        Reply {
            status,
            error_type: None,
            body: body.to_string().into_bytes(),
        }
    }

    fn error(status: u16, kind: &str) -> Meaning {
        let error = json!({"error": {"type": kind, "message": "m\n", "code": status}});
        meaning(&reply(status, &error))
    }

    #[test]
    fn only_a_sure_refusal_is_one() {
        assert!(matches!(
            error(409, "CommitFailedException"),
            Meaning::Conflict(_)
        ));
        for status in [408, 500, 502, 503, 504, 599] {
            assert!(
                matches!(error(status, "X"), Meaning::Unknown(_)),
                "{status}"
            );
        }
        assert!(matches!(
            error(409, "CommitStateUnknownException"),
            Meaning::Unknown(_)
        ));
        assert!(matches!(error(429, "X"), Meaning::Busy(_)));
        assert!(matches!(
            error(400, "ThrottlingException"),
            Meaning::Busy(_)
        ));
        assert!(matches!(
            error(400, "BadRequestException"),
            Meaning::Refused { .. }
        ));
        assert_eq!(
            error(419, "AuthenticationTimeoutException"),
            Meaning::Unauthorized
        );
        assert_eq!(error(403, "ExpiredTokenException"), Meaning::Unauthorized);
        assert!(matches!(
            error(403, "AccessDeniedException"),
            Meaning::Refused { .. }
        ));
    }

    #[test]
    fn a_missing_table_and_a_wrong_address_are_different() {
        assert_eq!(
            error(404, "NoSuchTableException"),
            Meaning::Missing("404 NoSuchTableException: m".into())
        );
        assert_eq!(
            meaning(&reply(404, &json!("page not found"))),
            Meaning::NoRoute
        );
    }

    #[test]
    fn errors_in_the_form_of_aws_are_read() {
        let body = json!({"__type": "AccessDeniedException", "Message": "not you"});
        let Meaning::Refused { reason, .. } = meaning(&reply(403, &body)) else {
            panic!("it is refused");
        };
        assert_eq!(reason, "403 AccessDeniedException: not you");
    }
}
