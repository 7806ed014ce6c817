//! Whether a caller may do what it requests.
//!
//! Owns: the decision. Does not own: where the proof comes from (`gate`), calls that go on (`revoked`).
//! Rule: pure, but for the time by which grants expire.

use super::access::{AccessTable, Caller, Role};
use super::grant::Grant;
use super::methods::Need;
use super::token::{GRANT_PREFIX, TokenDigest};
use crate::clock::now_ms;
use streamctl_proto::refusal::{CallRefusal, Reason};
use tonic::Status;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// A token of this digest.
    Token(TokenDigest),
    /// A grant signed by a controller.
    Grant(Box<Grant>),
}

impl Shown {
    /// Parses a header's text: a grant is valid only with its signature, and before it expires.
    pub(super) fn of(text: &[u8], table: &AccessTable) -> Result<Self, Status> {
        if !text.starts_with(GRANT_PREFIX.as_bytes()) {
            return Ok(Self::Token(TokenDigest::of(text)));
        }
        let text = std::str::from_utf8(text).unwrap_or_default();
        let hint = "request the location of the rows from a controller again (GetFlightInfo)";
        let grant = table.grant_key().and_then(|key| key.verify(text));
        let grant = grant.ok_or_else(|| {
            unauthenticated("this grant is not of a controller that leads here", hint)
        })?;
        if grant.until_ms <= now_ms() {
            return Err(unauthenticated("this grant has expired", hint));
        }
        Ok(Self::Grant(Box::new(grant)))
    }
}

/// The caller with this proof, if it has permission. For a grant, checks that its caller still has
/// permission.
pub(super) fn judge(table: &AccessTable, shown: &Shown, need: Need) -> Result<Caller, Status> {
    let unknown = || {
        unauthenticated(
            "this token is not known here",
            "request a new one, it may have been replaced; workers know no tokens of the role worker",
        )
    };
    match shown {
        Shown::Token(digest) => permitted(table.by_token(digest).ok_or_else(unknown)?, need),
        Shown::Grant(grant) => {
            let caller = match grant.proof() {
                Some(proof) => permitted(
                    table.by_proof(&proof).ok_or_else(unknown)?,
                    Need::Least(grant.r#use.role()),
                )?,
                None if grant.is_a_controllers() => Caller {
                    name: Some("controller".to_owned()),
                    role: None,
                },
                None => return Err(unknown()),
            };
            let caller = Caller {
                role: Some(grant.r#use.role()),
                ..caller
            };
            if need == Need::Granted(grant.r#use.role()) {
                Ok(caller)
            } else {
                Err(forbidden_to_grants())
            }
        }
    }
}

fn forbidden_to_grants() -> Status {
    Status::from(
        CallRefusal::new(Reason::PermissionDenied, "a grant is not for this method")
            .hint("show it to workers, for what GetFlightInfo named"),
    )
}

pub(super) fn permitted(caller: Caller, need: Need) -> Result<Caller, Status> {
    if need.met_by(&caller) {
        Ok(caller)
    } else {
        Err(forbidden(&caller, need))
    }
}

pub(super) fn unauthenticated(what: &str, hint: &str) -> Status {
    Status::from(CallRefusal::new(Reason::Unauthenticated, what.to_string()).hint(hint))
}

fn forbidden(caller: &Caller, need: Need) -> Status {
    let needed = match need {
        Need::Least(role) | Need::WorkerOr(role) | Need::Granted(role) => role,
        Need::Worker => Role::Worker,
    };
    let name = caller.name.as_deref().unwrap_or_default();
    let role = caller.role.map_or("", Role::as_str);
    let hint =
        "use a token that has it, or have the role changed in the controllers' --access file";
    Status::from(
        CallRefusal::new(
            Reason::PermissionDenied,
            format!("{name} has the role {role}; this needs {needed}"),
        )
        .hint(hint),
    )
}
