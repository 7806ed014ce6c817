//! A refusal as an HTTP answer.
//!
//! Rule: all of the API has errors of one form.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use streamctl_proto::refusal::{CallRefusal, Reason};
use tonic::{Code, Status};

/// An error: `{"error": ..., "hint": ...}`.
pub(super) struct Refused(pub(super) Status);

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

impl Refused {
    /// A query string that cannot be used.
    pub(super) fn query(rejected: &QueryRejection, hint: &str) -> Self {
        let refusal = CallRefusal::new(Reason::InvalidArgument, rejected.body_text());
        Self(Status::from(refusal.hint(hint)))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let code = match self.0.code() {
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::InvalidArgument => StatusCode::BAD_REQUEST,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let (error, hint) = CallRefusal::text_of(&self.0);
        let hint = hint.unwrap_or_default();
        (code, Json(json!({ "error": error, "hint": hint }))).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_its_hint_apart() {
        let refused = Refused(Status::not_found(
            "no job\n  hint: `streamctl list` shows those there are",
        ));
        assert_eq!(refused.into_response().status(), StatusCode::NOT_FOUND);
    }
}
