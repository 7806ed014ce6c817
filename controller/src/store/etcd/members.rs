//! The members of an etcd cluster: which one is asked, how long, what their errors mean.
//!
//! Rule: one member is asked until it fails to answer, then the next. A balanced channel would go on asking one that
//! hangs: it keeps its connection and looks idle.

use crate::store::StoreError;
use etcd_client::{Client, ConnectOptions, Error};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// Longest wait for an answer; then the outcome is unknown.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for a connection to one member.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// One client per member.
pub(super) struct Members {
    clients: Vec<Client>,
    endpoints: Vec<String>,
    current: AtomicUsize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error(transparent)]
    Etcd(Error),
}

impl Members {
    /// Prepares connections; they are made when they are needed.
    pub(super) async fn connect(endpoints: Vec<String>) -> Result<Self, StoreError> {
        if endpoints.is_empty() {
            return Err(store_error("", &Failure::Etcd(Error::InvalidArgs("no endpoint is named".into()))));
        }
        let mut clients = Vec::new();
        for endpoint in &endpoints {
            let options = ConnectOptions::new().with_connect_timeout(CONNECT_TIMEOUT);
            let connected = Client::connect([endpoint], Some(options)).await;
            clients.push(connected.map_err(|error| store_error(endpoint, &Failure::Etcd(error)))?);
        }
        Ok(Self { clients, endpoints, current: AtomicUsize::new(0) })
    }

    /// A client of the member that is asked now, for what lasts longer than a call.
    pub(super) fn client(&self) -> Client {
        self.clients[self.current()].clone()
    }

    fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed) % self.clients.len()
    }

    /// Asks the current member; when it does not answer within `limit`, the next question goes to the next one.
    pub(super) async fn ask<T, F: Future<Output = Result<T, Error>>>(
        &self,
        limit: Duration,
        question: impl FnOnce(Client) -> F,
    ) -> Result<T, Failure> {
        self.ask_one(self.current(), limit, question).await
    }

    async fn ask_one<T, F: Future<Output = Result<T, Error>>>(
        &self,
        member: usize,
        limit: Duration,
        question: impl FnOnce(Client) -> F,
    ) -> Result<T, Failure> {
        let answer = match timeout(limit, question(self.clients[member].clone())).await {
            Ok(answer) => answer.map_err(Failure::Etcd),
            Err(_late) => Err(Failure::Late(limit)),
        };
        if answer.as_ref().is_err_and(Failure::may_be_the_members) {
            // Of several calls that failed at once, one moves on.
            let next = (member + 1) % self.clients.len();
            let _moved = self.current.compare_exchange(member, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        answer
    }

    /// Asks with the usual limit.
    pub(super) async fn call<T, F: Future<Output = Result<T, Error>>>(
        &self,
        question: impl FnOnce(Client) -> F,
    ) -> Result<T, StoreError> {
        let member = self.current();
        let answer = self.ask_one(member, CALL_TIMEOUT, question).await;
        answer.map_err(|failure| store_error(&self.endpoints[member], &failure))
    }
}

impl Failure {
    fn may_be_the_members(&self) -> bool {
        match self {
            Self::Late(_) => true,
            Self::Etcd(error) => hint(error).is_none() && !matches!(error, Error::LeaseKeepAliveError(_)),
        }
    }
}

/// What to do about an error that will not go away by itself.
fn hint(error: &Error) -> Option<&'static str> {
    use tonic::Code::{InvalidArgument, PermissionDenied, Unauthenticated};
    match error {
        Error::InvalidArgs(_) | Error::InvalidUri(_) => Some("name each member as http://host:port"),
        Error::GRpcStatus(status) => match status.code() {
            Unauthenticated | PermissionDenied => {
                Some("this etcd asks for a user, which streamctl does not have: let it listen where no user is needed")
            }
            InvalidArgument => Some("see etcd's log; a value may be larger than its --max-request-bytes"),
            _ => None,
        },
        _ => None,
    }
}

fn store_error(endpoint: &str, failure: &Failure) -> StoreError {
    let reason = format!("etcd at {endpoint}: {failure}");
    let hint = match failure {
        Failure::Etcd(error) => hint(error),
        Failure::Late(_) => None,
    };
    match hint {
        Some(hint) => StoreError::Refused { reason, hint: hint.to_owned() },
        None => StoreError::Unavailable { reason },
    }
}
