//! Authentication, protection of connections, and how both change without a restart.
//!
//! Owns: certificates and tokens as files ([`files`], [`tls`], [`token`], [`access`]), listening
//! ([`accept`]), outgoing connections ([`dial`]), grants for requests to workers ([`grant`]), the
//! check of every call ([`gate`], [`methods`], [`refusals`], [`revoked`], [`same_user`],
//! [`turns`]), the flags of the programs ([`flags`]). Does not own: what a call does.
//! Rule: a secret is read from a file and never printed; anything unknown is refused.

pub mod accept;
pub mod access;
pub mod dial;
mod disconnect_reason;
pub mod files;
pub mod flags;
pub mod gate;
pub mod grant;
mod judge;
pub mod methods;
pub mod refusals;
pub mod revoked;
pub mod same_user;
pub mod tls;
pub mod token;
pub mod turns;

pub use accept::{Connection, Peer};
pub use access::{AccessTable, Caller, Policy, Role};
pub use dial::{ClientConnection, Dialer};
pub use flags::{Security, SecurityFlags};
pub use gate::Gate;
pub use token::Token;
pub use turns::{CountedFor, Turn, Turns};

/// Why a file with certificates, a token or roles is not usable, or a program does not start with
/// them.
#[derive(Debug, thiserror::Error)]
#[error("{problem}\n  hint: {hint}")]
pub struct SecurityError {
    /// The problem; never contains a secret.
    pub problem: String,
    pub hint: String,
}

impl SecurityError {
    pub fn new(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            hint: hint.into(),
        }
    }
}
