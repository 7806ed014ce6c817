//! Credentials of roles that the programs assume.
//!
//! Owns: renewing the keys of a role before they expire, why a role is not assumed. Does not own:
//! which place has which role (the job file), who may name one (`resolve::foreign`).
//! Rule: keys are in memory only. All users of a role and session share its keys, and one call
//! renews them.

use super::{SenderRejection, sender_rejection};
use crate::clock::Clock;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_types::error::metadata::ErrorMetadata;
use std::error::Error;
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::Mutex;

/// Roles and sessions whose keys are kept, and clients of each service that use them.
pub const ROLES_MAX: usize = 64;
/// Keys are renewed this long before they expire; keys of a short life at half of it.
pub const ROLE_RENEW_BEFORE: Duration = Duration::from_secs(300);
/// After a renewal that failed while the keys still hold, the next one.
const RENEW_AGAIN: Duration = Duration::from_secs(30);
/// A refusal is repeated to other users of the role for this long, instead of one call for each.
const REFUSAL_HOLDS: Duration = Duration::from_secs(2);

/// A role is not assumed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{program} cannot assume the role {role}: sts:AssumeRole: {reason}")]
pub struct RoleError {
    /// Which program called: `worker w-1`.
    pub program: String,
    /// Its ARN.
    pub role: String,
    pub cause: RoleCause,
    pub reason: String,
}

/// What keeps a program from assuming a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleCause {
    /// The role's trust policy, or the rights of the program.
    Denied,
    /// The program's own credentials are not accepted.
    OwnCredentials,
    /// The request: the same one is refused again.
    Request,
    /// There is no answer: a retry may succeed.
    NoAnswer,
}

impl RoleError {
    /// Whether a retry may succeed without a change of rights or settings.
    pub fn may_pass(&self) -> bool {
        self.cause == RoleCause::NoAnswer
    }

    /// What to do.
    pub fn hint(&self) -> String {
        let role = &self.role;
        match self.cause {
            RoleCause::Denied => format!(
                "let the trust policy of {role} name the role of the controllers and workers, and allow \
                 that role sts:AssumeRole on it"
            ),
            RoleCause::OwnCredentials => {
                "check the AWS credentials of this program, and its clock".to_owned()
            }
            RoleCause::Request => "check the role's ARN and the session's name".to_owned(),
            RoleCause::NoAnswer => {
                "check that this program reaches STS, and that AWS_REGION is set".to_owned()
            }
        }
    }
}

/// The error of a role below an error of a client.
pub fn role_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e RoleError> {
    below(error)
}

fn below<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Keys of a role, for a program that cannot renew them itself.
#[derive(Clone, PartialEq, Eq)]
pub struct RoleKeys {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
    /// When they end, in milliseconds since the Unix epoch; `None`: never.
    pub expires_ms: Option<i64>,
}

impl fmt::Debug for RoleKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleKeys")
            .field("access_key_id", &self.access_key_id)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}

impl From<Credentials> for RoleKeys {
    fn from(keys: Credentials) -> Self {
        Self {
            access_key_id: keys.access_key_id().to_owned(),
            secret_access_key: keys.secret_access_key().to_owned(),
            session_token: keys.session_token().map(str::to_owned),
            expires_ms: expires_ms(&keys),
        }
    }
}

fn expires_ms(keys: &Credentials) -> Option<i64> {
    let since = keys.expiry()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The keys of one role and session.
pub(super) struct RoleProvider {
    program: String,
    role: String,
    source: SharedCredentialsProvider,
    clock: Clock,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    keys: Option<Held>,
    refusal: Option<(i64, RoleError)>,
}

#[derive(Clone)]
struct Held {
    keys: Credentials,
    expires_ms: Option<i64>,
    renew_ms: i64,
}

impl fmt::Debug for RoleProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RoleProvider").field(&self.role).finish()
    }
}

impl RoleProvider {
    /// `source` calls STS each time.
    pub(super) fn new(
        program: String,
        role: String,
        source: SharedCredentialsProvider,
        clock: Clock,
    ) -> Self {
        Self {
            program,
            role,
            source,
            clock,
            kept: Mutex::default(),
        }
    }

    /// Keys that hold for at least this long, if the role has such.
    pub(super) async fn keys(&self, least: Duration) -> Result<Credentials, RoleError> {
        self.held(least).await.map(|held| held.keys)
    }

    async fn held(&self, least: Duration) -> Result<Held, RoleError> {
        // Callers that come meanwhile wait for the same answer.
        let mut kept = self.kept.lock().await;
        let now_ms = (self.clock)();
        if let Some(held) = &kept.keys
            && now_ms < held.renew_ms
            && held.lives(now_ms, least)
        {
            return Ok(held.clone());
        }
        if let Some((until_ms, refusal)) = &kept.refusal
            && now_ms < *until_ms
        {
            return Err(refusal.clone());
        }
        match self.source.provide_credentials().await {
            Ok(keys) => {
                let held = Held::new(keys, now_ms);
                *kept = Kept {
                    keys: Some(held.clone()),
                    refusal: None,
                };
                Ok(held)
            }
            Err(error) => {
                let error = self.refusal(&error);
                if let Some(held) = &mut kept.keys
                    && held.lives(now_ms, least)
                {
                    tracing::warn!(role = self.role, %error, "the keys of a role are not renewed; they still hold");
                    held.renew_ms = now_ms.saturating_add(ms(RENEW_AGAIN));
                    return Ok(held.clone());
                }
                let until_ms = now_ms.saturating_add(ms(REFUSAL_HOLDS));
                kept.refusal = Some((until_ms, error.clone()));
                Err(error)
            }
        }
    }

    fn refusal(&self, error: &CredentialsError) -> RoleError {
        let meta = below::<ErrorMetadata>(error);
        let code = meta.and_then(ErrorMetadata::code);
        let cause = match code {
            None => RoleCause::NoAnswer,
            Some("AccessDenied" | "AccessDeniedException") => RoleCause::Denied,
            Some(code)
                if code.starts_with("Throttl")
                    || code.starts_with("Internal")
                    || code.starts_with("ServiceUnavailable")
                    || code.starts_with("RequestLimit") =>
            {
                RoleCause::NoAnswer
            }
            Some(code) => match sender_rejection(Some(code), None) {
                Some(SenderRejection::Credentials | SenderRejection::Unspecified) => {
                    RoleCause::OwnCredentials
                }
                None => RoleCause::Request,
            },
        };
        let reason = match (code, meta.and_then(ErrorMetadata::message)) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            (None, _) => streamctl_proto::describe(error),
        };
        RoleError {
            program: self.program.clone(),
            role: self.role.clone(),
            cause,
            reason,
        }
    }
}

/// Servers other than AWS may issue none: then none is sent.
fn without_empty_token(keys: Credentials) -> Credentials {
    if keys.session_token() != Some("") {
        return keys;
    }
    let id = keys.access_key_id();
    Credentials::new(id, keys.secret_access_key(), None, keys.expiry(), "role")
}

impl Held {
    fn new(keys: Credentials, now_ms: i64) -> Self {
        let keys = without_empty_token(keys);
        let expires_ms = expires_ms(&keys);
        let renew_ms = expires_ms.map_or(i64::MAX, |expires_ms| {
            let half = expires_ms.saturating_sub(now_ms) / 2;
            expires_ms.saturating_sub(ms(ROLE_RENEW_BEFORE).min(half))
        });
        Self {
            keys,
            expires_ms,
            renew_ms,
        }
    }

    /// As keys that end when they are to be renewed: clients of the SDK keep them until shortly before
    /// their end, too late for a renewal that must be tried twice.
    fn until_renewal(self) -> Credentials {
        let mut keys = self.keys;
        if self.expires_ms.is_some() {
            let renew_ms = u64::try_from(self.renew_ms).unwrap_or_default();
            *keys.expiry_mut() = Some(UNIX_EPOCH + Duration::from_millis(renew_ms));
        }
        keys
    }

    fn lives(&self, now_ms: i64, least: Duration) -> bool {
        let needed_ms = now_ms.saturating_add(ms(least));
        self.expires_ms
            .is_none_or(|expires_ms| needed_ms < expires_ms)
    }
}

impl ProvideCredentials for RoleProvider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let keys = async {
            let held = self.held(Duration::ZERO).await;
            let held = held.map_err(CredentialsError::provider_error)?;
            Ok(held.until_renewal())
        };
        future::ProvideCredentials::new(keys)
    }
}

#[cfg(test)]
mod tests;
