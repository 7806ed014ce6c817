//! The members of an etcd cluster: which one gets requests, time limits, the meaning of their
//! errors.
//!
//! Owns: authentication, if etcd requires it. Does not own: certificates and their files
//! (`Dialer`).
//! Rule: one member gets all requests until it fails to answer, then the next. A balanced channel
//! would keep using a member that hangs: it keeps its connection and looks idle.

use crate::store::StoreError;
use etcd_client::{BalancedChannelBuilder, Channel, Client, ConnectOptions, Error};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use streamctl_engine::calls::noted;
use streamctl_engine::security::files::Reloading;
use streamctl_engine::security::{Dialer, SecurityError, tls};
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic::transport::channel::Change;

/// Longest wait for an answer; then the outcome is unknown.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for a connection to one member.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A user of etcd and its password, reloaded when their file changes.
#[derive(Clone)]
pub struct EtcdLogin(Arc<Reloading<(String, String)>>);

impl EtcdLogin {
    /// Reads a file of one line, `name:password`.
    ///
    /// # Errors
    /// The file has another form.
    pub fn open(path: PathBuf) -> Result<Self, SecurityError> {
        let file = Reloading::load("user of etcd", vec![path], |contents| {
            tls::login(&contents[0])
        })?;
        file.keep_fresh();
        Ok(Self(file))
    }
}

/// The user that a client has logged in as.
type LoggedIn = Mutex<Option<Arc<(String, String)>>>;

/// Our channel in the form that the library requires: with its own TLS, it would read the files
/// only once.
struct OneMember(tonic::transport::Channel);

impl BalancedChannelBuilder for OneMember {
    type Error = tonic::transport::Error;

    fn balanced_channel(
        self,
        size: usize,
    ) -> Result<(Channel, mpsc::Sender<Change<axum::http::Uri, Endpoint>>), Self::Error> {
        let (changes, mut unused) = mpsc::channel(size);
        // The library adds its endpoint, and reports an error if the receiver is gone.
        tokio::spawn(async move { while unused.recv().await.is_some() {} });
        Ok((Channel::Tonic(self.0), changes))
    }
}

pub(super) struct Members {
    clients: Vec<Client>,
    login: Option<EtcdLogin>,
    logged_in: Vec<LoggedIn>,
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
    /// Prepares connections; they are opened on first use.
    pub(super) async fn connect(
        endpoints: Vec<String>,
        dialer: &Dialer,
        login: Option<EtcdLogin>,
    ) -> Result<Self, StoreError> {
        if endpoints.is_empty() {
            return Err(store_error(
                "",
                &Failure::Etcd(Error::InvalidArgs("no endpoint is named".into())),
            ));
        }
        let mut clients = Vec::new();
        for endpoint in &endpoints {
            let options = ConnectOptions::new()
                .with_connect_timeout(CONNECT_TIMEOUT)
                .with_auto_token_refresh(true);
            let connected = match endpoint.strip_prefix("https://") {
                None => Client::connect([endpoint], Some(options)).await,
                Some(rest) => {
                    let line = dialer.channel(endpoint, |endpoint| {
                        endpoint.connect_timeout(CONNECT_TIMEOUT)
                    });
                    let line = line.map_err(|refused| StoreError::Refused {
                        reason: format!("etcd at {endpoint}: {}", refused.message()),
                        hint: "name each member as etcds://host:port, and its authority with --etcd-ca".to_owned(),
                    })?;
                    let plain = [format!("http://{rest}")];
                    Client::connect_with_balanced_channel(plain, Some(options), OneMember(line))
                        .await
                }
            };
            clients.push(connected.map_err(|error| store_error(endpoint, &Failure::Etcd(error)))?);
        }
        let logged_in = clients.iter().map(|_| Mutex::default()).collect();
        Ok(Self {
            clients,
            login,
            logged_in,
            endpoints,
            current: AtomicUsize::new(0),
        })
    }

    /// A client of the current member, for streams that last longer than a call.
    pub(super) fn client(&self) -> Client {
        self.clients[self.current()].clone()
    }

    fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed) % self.clients.len()
    }

    /// Sends a request to the current member. If it does not answer within `limit`, the next
    /// request goes to the next member.
    pub(super) async fn call_current<T, F: Future<Output = Result<T, Error>>>(
        &self,
        limit: Duration,
        request: impl FnOnce(Client) -> F,
    ) -> Result<T, Failure> {
        self.call_member(self.current(), limit, request).await
    }

    async fn call_member<T, F: Future<Output = Result<T, Error>>>(
        &self,
        member: usize,
        limit: Duration,
        request: impl FnOnce(Client) -> F,
    ) -> Result<T, Failure> {
        let requested = async {
            self.log_in(member).await?;
            request(self.clients[member].clone()).await
        };
        let response = match timeout(limit, noted("etcd", "a request", requested)).await {
            Ok(response) => response.map_err(Failure::Etcd),
            Err(_late) => Err(Failure::Late(limit)),
        };
        if response.as_ref().is_err_and(Failure::may_be_the_members) {
            // If several calls fail at once, only one moves to the next member.
            let next = (member + 1) % self.clients.len();
            let _moved =
                self.current
                    .compare_exchange(member, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        response
    }

    /// Logs in, if there is a user that this client has not logged in as yet: all its calls carry
    /// the token that it gets.
    async fn log_in(&self, member: usize) -> Result<(), Error> {
        let Some(EtcdLogin(login)) = &self.login else {
            return Ok(());
        };
        let user = login.current();
        let mut known = self.logged_in[member].lock().await;
        if known.as_ref() != Some(&user) {
            self.clients[member]
                .clone()
                .update_user(Some((*user).clone()))
                .await?;
            *known = Some(user);
        }
        Ok(())
    }

    /// Sends a request with the usual limit.
    pub(super) async fn call<T, F: Future<Output = Result<T, Error>>>(
        &self,
        request: impl FnOnce(Client) -> F,
    ) -> Result<T, StoreError> {
        let member = self.current();
        let response = self.call_member(member, CALL_TIMEOUT, request).await;
        response.map_err(|failure| store_error(&self.endpoints[member], &failure))
    }
}

impl Failure {
    fn may_be_the_members(&self) -> bool {
        match self {
            Self::Late(_) => true,
            Self::Etcd(error) => {
                hint(error).is_none() && !matches!(error, Error::LeaseKeepAliveError(_))
            }
        }
    }
}

const ABOUT_USERS: &str = "this etcd asks for a user: name a file with name:password (--etcd-login-file), or a certificate \
                           whose common name is one, and give it the rights on /streamctl/";

/// What to do about an error that does not go away by itself.
fn hint(error: &Error) -> Option<&'static str> {
    use tonic::Code::{InvalidArgument, PermissionDenied, Unauthenticated};
    match error {
        Error::InvalidArgs(_) | Error::InvalidUri(_) => {
            Some("name each member as etcd://host:port, or etcds:// where it speaks TLS")
        }
        Error::GRpcStatus(status) => match status.code() {
            Unauthenticated | PermissionDenied => Some(ABOUT_USERS),
            // etcd's code for a wrong password, or for a missing one.
            InvalidArgument
                if ["authentication", "user name"]
                    .iter()
                    .any(|words| status.message().contains(words)) =>
            {
                Some(ABOUT_USERS)
            }
            InvalidArgument => {
                Some("see etcd's log; a value may be larger than its --max-request-bytes")
            }
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
        Some(hint) => StoreError::Refused {
            reason,
            hint: hint.to_owned(),
        },
        None => StoreError::Unavailable { reason },
    }
}
