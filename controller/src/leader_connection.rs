//! The connection to the leader, when it is another process.
//!
//! Rule: one connection, to the address that the store names; a new leader gets a new one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use streamctl_engine::security::{ClientConnection, Dialer};
use streamctl_proto::refusal::{CallRefusal, Reason};
use tonic::Status;
use tonic::transport::Endpoint;

/// Time limit of a connection to the leader.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// A leader that does not answer a ping for this long is gone, and so are the calls to it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);

/// Connects to leaders; clones share the connection.
#[derive(Clone)]
pub struct LeaderConnection {
    dialer: Dialer,
    /// The other controllers use TLS if this one does.
    tls: bool,
    /// Of each call, to its end.
    timeout: Option<Duration>,
    connection: Arc<Mutex<Option<(String, ClientConnection)>>>,
}

impl LeaderConnection {
    pub fn new(dialer: Dialer, tls: bool, timeout: Option<Duration>) -> Self {
        Self {
            dialer,
            tls,
            timeout,
            connection: Arc::default(),
        }
    }

    /// The connection to the leader at this address.
    ///
    /// # Errors
    /// It is not an address.
    pub fn to(&self, address: &str) -> Result<ClientConnection, Status> {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connection)) = connection.as_ref().filter(|(known, _)| known == address) {
            return Ok(connection.clone());
        }
        let bad = |error: Status| {
            Status::from(CallRefusal::new(
                Reason::NoLeader,
                format!("the leader at {address:?}: {}", error.message()),
            ))
        };
        let url = format!("{}://{address}", if self.tls { "https" } else { "http" });
        let tune = |endpoint: Endpoint| {
            let endpoint = endpoint
                .connect_timeout(DIAL_TIMEOUT)
                .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT);
            match self.timeout {
                Some(timeout) => endpoint.timeout(timeout),
                None => endpoint,
            }
        };
        let dialled = self.dialer.connection(&url, tune).map_err(bad)?;
        *connection = Some((address.to_owned(), dialled.clone()));
        Ok(dialled)
    }
}
