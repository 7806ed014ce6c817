//! The security of a worker's connections: its own credentials, and the callers that it admits.
//!
//! Owns: the policy of its listeners, which the leading controller sends over the session. Does not
//! own: the checks (`streamctl_engine::security`).
//! Rule: until a controller sends the policy, every caller is rejected. The last policy stays in
//! force while there is no connection.

use std::sync::Arc;
use streamctl_engine::security::{Dialer, Gate, Policy, Security};
use streamctl_proto::convert::BadMessage;
use streamctl_proto::v1;
use tokio::sync::watch;

const NOT_YET: &str =
    "this worker has not received the access policy from a controller yet: try again in a moment";
const NO_AUTHENTICATION: &str = "this worker can be reached from other machines, and its controllers do not authenticate callers\n  \
                           hint: start the controllers with --access, or the worker with --tls-client-ca or --insecure";

/// A worker's own credentials, and the callers that it admits.
#[derive(Clone)]
pub struct Protection {
    pub dialer: Dialer,
    policy: watch::Sender<Arc<Policy>>,
    /// Callers must authenticate.
    must_authenticate: bool,
    /// Without token authentication, only the user who runs this worker is served.
    own_user_only: bool,
}

impl Default for Protection {
    fn default() -> Self {
        Self::new(&Security::default(), false)
    }
}

impl Protection {
    /// `exposed`: other machines can reach this worker.
    pub fn new(security: &Security, exposed: bool) -> Self {
        let (policy, _) = watch::channel(Arc::new(Policy::Closed(NOT_YET)));
        let own_user_only = security.own_user_only();
        Self {
            dialer: security.dialer.clone(),
            policy,
            must_authenticate: exposed && security.must_authenticate,
            own_user_only,
        }
    }

    pub fn gate(&self) -> Gate {
        let gate = Gate::new(self.policy.subscribe());
        if self.own_user_only {
            gate.for_own_user()
        } else {
            gate
        }
    }

    /// Applies the policy that the leading controller sent.
    ///
    /// # Errors
    /// If it is not a valid table.
    pub fn reported(&self, access: v1::Access) -> Result<(), BadMessage> {
        let policy = Policy::from_wire(access).map_err(|problem| BadMessage {
            field: "access",
            problem,
        })?;
        let policy = match policy {
            Policy::Open if self.must_authenticate => Policy::Closed(NO_AUTHENTICATION),
            policy => policy,
        };
        self.policy.send_replace(Arc::new(policy));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(protection: &Protection) -> Policy {
        (**protection.policy.borrow()).clone()
    }

    #[test]
    fn no_caller_is_admitted_before_a_controller_has_named_the_callers() {
        let protection = Protection::default();
        assert!(matches!(now(&protection), Policy::Closed(NOT_YET)));
        protection.reported(v1::Access::default()).unwrap();
        assert!(matches!(now(&protection), Policy::Open));
        let bad = v1::AccessEntry {
            role: "king".into(),
            ..Default::default()
        };
        assert!(
            protection
                .reported(v1::Access {
                    required: true,
                    entries: vec![bad],
                    grant_key: vec![]
                })
                .is_err()
        );
        assert!(
            matches!(now(&protection), Policy::Open),
            "what is no table changes nothing"
        );
    }

    #[test]
    fn a_reachable_worker_is_not_opened_by_a_controller_without_authentication() {
        let mut security = Security::default();
        security.must_authenticate = true;
        let [exposed, here] = [true, false].map(|exposed| Protection::new(&security, exposed));
        [&exposed, &here]
            .into_iter()
            .for_each(|protection| protection.reported(v1::Access::default()).unwrap());
        assert!(matches!(now(&exposed), Policy::Closed(NO_AUTHENTICATION)));
        assert!(matches!(now(&here), Policy::Open));
    }
}
