//! The connection to the leading controller.
//!
//! Owns: finding the leader among the addresses. Does not own: the requests.
//! Rule: a call is tried at each address until the leader answers. A call that plans a query is the
//! exception: a request that broke one controller is not sent to the next.

use crate::error::CliError;
use std::collections::VecDeque;
use std::time::Duration;
use streamctl_engine::security::dial::{cause_of, like};
use streamctl_engine::security::{ClientConnection, Dialer, SecurityError, Token};
use streamctl_proto::MESSAGE_BYTES_MAX;
use streamctl_proto::v1::jobs_client::JobsClient;
use tonic::transport::Endpoint;
use tonic::{Code, Response, Status};

/// Carries the leader's address in a refusal.
pub const LEADER_METADATA: &str = "streamctl-leader";
/// How many times one call follows a redirect to the leader: the leader may change meanwhile, but
/// not without end.
pub const LEADER_HOPS_MAX: usize = 3;
/// How long an address may take to accept a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a call may take to begin its answer: `submit` queries the catalog and plans the query.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// HTTP/2 windows: the defaults of 64 KiB throttle Flight.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// The controllers of a cluster.
pub struct Controller {
    addresses: Vec<String>,
    dialer: Dialer,
}

impl Controller {
    /// Takes one or more addresses, separated by commas.
    pub fn new(addresses: &str) -> Result<Self, CliError> {
        let addresses = addresses
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(url);
        let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            return Err(bad_address(""));
        }
        Ok(Self {
            addresses,
            dialer: Dialer::default(),
        })
    }

    /// The same controllers, with this dialer.
    pub fn through(mut self, dialer: Dialer) -> Self {
        self.dialer = dialer;
        self
    }

    /// A connection to a controller.
    ///
    /// # Errors
    /// As [`Dialer::connect`].
    pub async fn connect(&self, url: &str) -> Result<ClientConnection, Status> {
        connect(&self.dialer, url).await
    }

    /// A connection to a worker that a controller named. It carries the grant that came with the
    /// worker's address, and never the caller's token: workers are not trusted with that.
    ///
    /// # Errors
    /// As [`Dialer::connect`].
    pub async fn connect_to_worker(
        &self,
        url: &str,
        grant: Option<&str>,
    ) -> Result<ClientConnection, Status> {
        let no_grant = |error: SecurityError| {
            Status::internal(format!("the controller's grant: {}", error.problem))
        };
        let dialer = match grant {
            Some(grant) => self
                .dialer
                .with_token(Token::of_grant(grant).map_err(no_grant)?),
            None => self.dialer.without_token(),
        };
        connect(&dialer, url).await
    }

    pub fn names(&self) -> String {
        self.addresses.join(", ")
    }

    /// Checks the form of controller addresses.
    ///
    /// # Errors
    /// What to write instead.
    pub fn check(addresses: &str) -> Result<(), CliError> {
        let mut texts = addresses
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .peekable();
        if texts.peek().is_none() {
            return Err(bad_address(addresses));
        }
        texts.try_for_each(|text| {
            let rest = text
                .strip_prefix("https://")
                .or_else(|| text.strip_prefix("http://"))
                .unwrap_or(text);
            let good =
                !rest.contains("://") && Endpoint::from_shared(format!("http://{rest}")).is_ok();
            if good { Ok(()) } else { Err(bad_address(text)) }
        })
    }

    /// Sends a request to the leader: tries the addresses in turn, and follows the redirect to the
    /// leader if there is one.
    pub async fn call<T, A, F>(&self, call: A) -> Result<T, CliError>
    where
        A: Fn(ClientConnection) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_with(call, AfterBreak::TryTheNext).await
    }

    /// As [`Self::call`], for calls that plan a query. If the connection breaks, or the call times
    /// out, it is not sent to another controller, because it may be what broke the first.
    pub async fn call_once<T, A, F>(&self, call: A) -> Result<T, CliError>
    where
        A: Fn(ClientConnection) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_with(call, AfterBreak::Stop).await
    }

    async fn call_with<T, A, F>(&self, call: A, after_break: AfterBreak) -> Result<T, CliError>
    where
        A: Fn(ClientConnection) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut waiting: VecDeque<String> = self.addresses.iter().cloned().collect();
        let mut hops = 0;
        let mut failures = Vec::new();
        while let Some(address) = waiting.pop_front() {
            let (status, broke) = match self.connect(&address).await {
                Ok(channel) => match tokio::time::timeout(CALL_TIMEOUT, call(channel)).await {
                    Ok(Ok(response)) => return Ok(response.into_inner()),
                    // A status that the controller itself returned has no source.
                    Ok(Err(status)) if std::error::Error::source(&status).is_none() => {
                        (status, false)
                    }
                    Ok(Err(status)) => (cause_of(status), true),
                    Err(_) => {
                        let late = format!("no answer within {} s", CALL_TIMEOUT.as_secs());
                        (Status::unavailable(late), true)
                    }
                },
                Err(status) => (status, false),
            };
            if broke && after_break == AfterBreak::Stop {
                return Err(CliError::Unreachable(format!(
                    "{address}: {}\n{NOT_REPEATED}",
                    status.message()
                )));
            }
            match (leader_named(&status), status.code()) {
                (Some(leader), _) if hops < LEADER_HOPS_MAX => {
                    hops += 1;
                    waiting.push_front(like(&address, &leader));
                }
                // It is a standby or does not answer: another controller may lead.
                (Some(_), _) | (None, Code::Unavailable) => {}
                _ => return Err(status.into()),
            }
            failures.push(format!("{address}: {}", status.message()));
        }
        Err(CliError::Unreachable(failures.join("; ")))
    }
}

/// What to do if a connection breaks during a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AfterBreak {
    TryTheNext,
    Stop,
}

const NOT_REPEATED: &str = "  hint: the job file may be what the controller failed on, so it was not sent to another one; see with `streamctl list` \
                            whether it was taken, and run `streamctl explain` before you send it again";

/// The client of the `Jobs` service on a connection.
pub fn jobs(line: ClientConnection) -> JobsClient<ClientConnection> {
    JobsClient::new(line)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Connects to `http://host:port` or `https://host:port`. Returns `Unavailable` if no trusted
/// server answers.
pub async fn connect(dialer: &Dialer, url: &str) -> Result<ClientConnection, Status> {
    let tune = |endpoint: Endpoint| {
        endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
    };
    dialer.connect(url, tune).await
}

fn leader_named(status: &Status) -> Option<String> {
    let named = status.metadata().get(LEADER_METADATA)?.to_str().ok()?;
    (status.code() == Code::FailedPrecondition && !named.is_empty()).then(|| named.to_owned())
}

fn url(text: &str) -> Result<String, CliError> {
    let url = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let known = ["http://", "https://"]
        .iter()
        .any(|scheme| url.starts_with(scheme));
    if !known || Endpoint::from_shared(url.clone()).is_err() {
        return Err(bad_address(text));
    }
    Ok(url)
}

fn bad_address(text: &str) -> CliError {
    CliError::Usage {
        message: format!("{text:?} is not the address of a controller"),
        hint: "for example --controller http://127.0.0.1:7070, or https://host:7070".into(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
