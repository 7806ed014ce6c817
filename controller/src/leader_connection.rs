//! The connection to the leader, when it is another process.
//!
//! Rule: one connection, to the address that the store names; a new leader gets a new one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use streamctl_engine::security::dial::cause_of;
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

/// The status of a call to the leader. If the connection failed, the leader is named, and what to do.
pub fn of_leader(address: &str, status: Status) -> Status {
    // A status of the leader itself has no source.
    if std::error::Error::source(&status).is_none() {
        return status;
    }
    let (cause, hint) = CallRefusal::text_of(&cause_of(status));
    let hint = hint.unwrap_or_else(|| {
        "if it is gone, another controller leads within seconds: try again".to_owned()
    });
    let text = format!("the leader at {address} does not answer: {cause}");
    Status::from(CallRefusal::new(Reason::NoLeader, text).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamctl_proto::v1::{ListJobsRequest, jobs_client::JobsClient};

    #[tokio::test]
    async fn a_leader_that_is_gone_is_named_and_its_own_refusals_are_unchanged() {
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = gone.local_addr().unwrap().to_string();
        drop(gone);
        let leader = LeaderConnection::new(Dialer::default(), false, None);
        let mut client = JobsClient::new(leader.to(&address).unwrap());
        let failed = client.list_jobs(ListJobsRequest::default()).await;
        let shown = of_leader(&address, failed.unwrap_err());
        let (text, hint) = CallRefusal::text_of(&shown);
        let begin = format!("the leader at {address} does not answer: ");
        assert!(
            text.starts_with(&begin) && text.len() > begin.len(),
            "{text}"
        );
        assert!(hint.unwrap().contains("try again"));

        let refused = of_leader(&address, Status::not_found("there is no job x"));
        assert_eq!(refused.message(), "there is no job x");
    }
}
