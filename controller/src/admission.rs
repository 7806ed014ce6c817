//! What workers are told of who may read their rows.
//!
//! Owns: the message, saying it again when the table changes, the token with which this controller asks workers.
//! Does not own: the table (`streamctl_engine::security`), the sessions.
//! Rule: a worker hears digests, never a token.

use crate::sessions::Sessions;
use std::sync::Arc;
use streamctl_engine::security::access::{Entry, Proof};
use streamctl_engine::security::{Dialer, Policy, Role, Security, Token};
use streamctl_proto::v1;
use streamctl_proto::v1::controller_message::Message;
use tokio::sync::watch;

/// Says who may come.
#[derive(Clone)]
pub struct Admission {
    policy: watch::Receiver<Arc<Policy>>,
    /// Made at this process's start; nobody else has it.
    own: Token,
}

impl Admission {
    /// By the table of this program.
    pub fn new(security: &Security) -> Self {
        let own = Token::generate().expect("a system without random numbers could not speak TLS either");
        Self { policy: security.policy(), own }
    }

    /// For asking workers.
    pub fn dialer(&self, security: &Security) -> Dialer {
        security.dialer.with_token(self.own.clone())
    }

    /// What a worker must know.
    pub fn message(&self) -> Message {
        Message::Access(match &**self.policy.borrow() {
            Policy::Table(table) => table.to_wire(Entry {
                name: "controller".to_owned(),
                role: Role::Operate,
                proof: Proof::Token(self.own.digest()),
            }),
            Policy::Open => v1::Access::default(),
            Policy::Closed(_) => v1::Access { required: true, entries: vec![] },
        })
    }

    /// Says it to all workers whenever it changes.
    pub async fn follow(mut self, sessions: Arc<Sessions>) {
        while self.policy.changed().await.is_ok() {
            sessions.say_to_all(&self.message());
        }
        // Without a file nothing ever changes.
        std::future::pending().await
    }
}
