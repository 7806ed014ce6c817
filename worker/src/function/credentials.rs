//! The credentials of a role, for a function.
//!
//! Owns: the variables in which a function finds them, and when they end too soon for another call.
//! Does not own: assuming the role (`engine::aws`).
//! Rule: a function is given the keys of its role and no others; the worker's own are never among
//! them. It keeps the keys that it was started with, and is started again before they end.

use std::collections::BTreeMap;
use std::time::Duration;
use streamctl_engine::aws::{Aws, RoleError, RoleKeys};
use streamctl_engine::clock::{Clock, system_clock};
use streamctl_proto::spec::AssumedRole;

/// Time that keys must hold after the longest call.
const MARGIN: Duration = Duration::from_secs(60);
/// Longest time that keys must hold at the begin of a call: sessions may be limited to an hour.
pub const KEYS_HOLD_MAX: Duration = Duration::from_secs(3_000);

/// The role of a function.
#[derive(Clone)]
pub struct FunctionRole {
    aws: Aws,
    role: AssumedRole,
    /// How long keys must hold at the begin of a call.
    least: Duration,
    clock: Clock,
}

impl std::fmt::Debug for FunctionRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FunctionRole").field(&self.role).finish()
    }
}

impl FunctionRole {
    /// `timeout`: the longest call.
    pub fn new(aws: Aws, role: AssumedRole, timeout: Duration) -> Self {
        Self {
            aws,
            role,
            least: timeout.saturating_add(MARGIN).min(KEYS_HOLD_MAX),
            clock: system_clock(),
        }
    }

    #[cfg(test)]
    pub(super) fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Keys for a function that is started now.
    ///
    /// # Errors
    /// The role is not assumed.
    pub async fn keys(&self) -> Result<FunctionKeys, RoleError> {
        let keys = self.aws.role_keys(&self.role, self.least).await?;
        let until_ms = keys.expires_ms.map(|expires_ms| {
            let least_ms = i64::try_from(self.least.as_millis()).unwrap_or(i64::MAX);
            expires_ms.saturating_sub(least_ms)
        });
        Ok(FunctionKeys {
            keys,
            region: self.aws.region().await,
            until_ms,
            clock: self.clock.clone(),
        })
    }
}

/// Keys that a function was started with.
#[derive(Clone)]
pub struct FunctionKeys {
    keys: RoleKeys,
    region: Option<String>,
    /// The last time at which a call may begin; `None`: any.
    until_ms: Option<i64>,
    clock: Clock,
}

impl std::fmt::Debug for FunctionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FunctionKeys").field(&self.keys).finish()
    }
}

impl FunctionKeys {
    /// Whether they hold for one more call.
    pub fn hold(&self) -> bool {
        self.until_ms
            .is_none_or(|until_ms| (self.clock)() < until_ms)
    }

    /// The variables of the function's environment.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let RoleKeys {
            access_key_id,
            secret_access_key,
            session_token,
            ..
        } = &self.keys;
        let region = || self.region.clone();
        let variables = [
            ("AWS_ACCESS_KEY_ID", Some(access_key_id.clone())),
            ("AWS_SECRET_ACCESS_KEY", Some(secret_access_key.clone())),
            ("AWS_SESSION_TOKEN", session_token.clone()),
            ("AWS_REGION", region()),
            // Of boto3, which does not read the other one.
            ("AWS_DEFAULT_REGION", region()),
            // A client that takes these for missing must not take the machine's own role.
            ("AWS_EC2_METADATA_DISABLED", Some("true".to_owned())),
        ];
        variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }
}
