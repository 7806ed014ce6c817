//! The access rules that workers get: who may read their rows.
//!
//! Owns: the message, sending it again when the table changes, grants for reading from workers.
//! Does not own: the table and what a grant is (`streamctl_engine::security`), the sessions.
//! Rule: a worker gets digests and a public key. The only secrets that it ever sees are grants, for
//! requests to itself.

use crate::sessions::Sessions;
use std::sync::Arc;
use streamctl_engine::clock::now_ms;
use streamctl_engine::security::grant::{Granter, Use};
use streamctl_engine::security::token::Proof;
use streamctl_engine::security::{Policy, Security, Token};
use streamctl_proto::JobName;
use streamctl_proto::v1;
use streamctl_proto::v1::controller_message::Message;
use tokio::sync::watch;

#[derive(Clone)]
pub struct Admission {
    policy: watch::Receiver<Arc<Policy>>,
    granter: Granter,
}

impl Admission {
    /// Uses the table of this program.
    pub fn new(security: &Security) -> Self {
        let granter =
            Granter::new().expect("a system without random numbers could not speak TLS either");
        Self {
            policy: security.policy(),
            granter,
        }
    }

    /// A grant for a caller who is known by `proof`; none means this controller itself. Returns
    /// none if no authentication is required.
    pub fn grant(&self, job: &JobName, r#use: Use, proof: Option<&Proof>) -> Option<Token> {
        match &**self.policy.borrow() {
            Policy::Table(_) => self.granter.grant(job.clone(), r#use, proof, now_ms()),
            Policy::Open | Policy::Closed(_) => None,
        }
    }

    /// The message to a worker.
    pub fn message(&self) -> Message {
        Message::Access(match &**self.policy.borrow() {
            Policy::Table(table) => table.to_wire(self.granter.public_key()),
            Policy::Open => v1::Access::default(),
            Policy::Closed(_) => v1::Access {
                required: true,
                ..v1::Access::default()
            },
        })
    }

    /// Sends it to all workers whenever it changes.
    pub async fn follow(mut self, sessions: Arc<Sessions>) {
        while self.policy.changed().await.is_ok() {
            sessions.broadcast(&self.message());
        }
        // Without a file, nothing ever changes.
        std::future::pending().await
    }
}
