//! The connection to the leading controller.
//!
//! Owns: finding the leader among the addresses. Does not own: the requests.
//! Rule: a call is tried at each address until the leader answers. A call that plans a query is the
//! exception: a request that broke one controller is not sent to the next.

mod lists;

use crate::error::{CliError, Unanswered, Unreached};
use std::collections::VecDeque;
use std::time::Duration;
use streamctl_engine::clock::now_ms;
use streamctl_engine::security::dial::{cause_of, like};
use streamctl_engine::security::{ClientConnection, Dialer, SecurityError, Token};
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::v1::jobs_client::JobsClient;
use streamctl_proto::v1::{ListWaitsRequest, Wait};
use streamctl_proto::{CALL_METADATA, MESSAGE_BYTES_MAX};
use tokio::sync::watch;
use tonic::codegen::http::HeaderValue;
use tonic::transport::Endpoint;
use tonic::{Code, Response, Status};

/// How many times one call follows a redirect to the leader: the leader may change meanwhile, but
/// not without end.
pub const LEADER_HOPS_MAX: usize = 3;
/// How long an address may take to accept a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a call may take to begin its answer: `submit` queries the catalog and plans the query.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a call that checks a job file is requested to state what it waits for: a service that
/// hangs is named within 5 s.
const WAITS_INTERVAL: Duration = Duration::from_millis(1_500);
/// HTTP/2 windows: the defaults of 64 KiB throttle Flight.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// The controllers of a cluster.
pub struct Controller {
    addresses: Vec<String>,
    dialer: Dialer,
    /// What the current call waits for, each time that this changes.
    waits: watch::Sender<String>,
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
            waits: watch::Sender::new(String::new()),
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

    /// What a call of [`Self::call_once`] waits for, while it waits.
    pub fn waits(&self) -> watch::Receiver<String> {
        self.waits.subscribe()
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
        self.call_with(call, CALL_TIMEOUT, AfterBreak::TryTheNext)
            .await
    }

    /// As [`Self::call`], for calls that plan a query. If the connection breaks, or the call times
    /// out, it is not sent to another controller, because it may be what broke the first.
    pub async fn call_once<T, A, F>(&self, call: A) -> Result<T, CliError>
    where
        A: Fn(ClientConnection) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_once_within(call, CALL_TIMEOUT).await
    }

    /// As [`Self::call_once`], for a call that may take up to `limit` to begin its answer.
    pub async fn call_once_within<T, A, F>(&self, call: A, limit: Duration) -> Result<T, CliError>
    where
        A: Fn(ClientConnection) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.call_with(call, limit, AfterBreak::Stop).await
    }

    async fn call_with<T, A, F>(
        &self,
        call: A,
        limit: Duration,
        after_break: AfterBreak,
    ) -> Result<T, CliError>
    where
        A: Fn(ClientConnection) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let mut waiting: VecDeque<String> = self.addresses.iter().cloned().collect();
        let mut hops = 0;
        let mut failures = Vec::new();
        let mut cause = Unanswered::NoServer;
        while let Some(address) = waiting.pop_front() {
            let (status, broke) = match self.connect(&address).await {
                Ok(channel) => match self.within(limit, channel, &call, after_break).await {
                    Ok(Ok(response)) => return Ok(response.into_inner()),
                    // A status that the controller itself returned has no source.
                    Ok(Err(status)) if std::error::Error::source(&status).is_none() => {
                        (status, false)
                    }
                    Ok(Err(status)) => (cause_of(status), true),
                    Err(late) => (Status::unavailable(late), true),
                },
                Err(status) => (status, false),
            };
            if broke && after_break == AfterBreak::Stop {
                return Err(CliError::Unreachable(Unreached {
                    text: format!("{address}: {}", CallRefusal::text_of(&status).0),
                    cause: Unanswered::Hint(NOT_REPEATED.to_owned()),
                }));
            }
            match (CallRefusal::leader_named(&status), status.code()) {
                (Some(leader), _) if hops < LEADER_HOPS_MAX => {
                    hops += 1;
                    waiting.push_front(like(&address, &leader));
                }
                // It is a standby or does not answer: another controller may lead.
                (Some(_), _) => {}
                (None, Code::Unavailable) if !is_answer(&status) => {}
                _ => return Err(status.into()),
            }
            cause = cause.or(Unanswered::of(&status));
            failures.push(format!("{address}: {}", CallRefusal::text_of(&status).0));
        }
        Err(CliError::Unreachable(Unreached {
            text: failures.join("; "),
            cause,
        }))
    }
}

impl Controller {
    /// A call within its time limit. While one waits that checks a job file, the controller is
    /// requested to state for what; an error is that, too.
    async fn within<T, A, F>(
        &self,
        limit: Duration,
        channel: ClientConnection,
        call: &A,
        after_break: AfterBreak,
    ) -> Result<Result<Response<T>, Status>, String>
    where
        A: Fn(ClientConnection) -> F,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let late = |waits: &str| {
            let after = if waits.is_empty() { "" } else { ": " };
            format!("no answer within {} s{after}{waits}", limit.as_secs())
        };
        if after_break == AfterBreak::TryTheNext {
            let answer = tokio::time::timeout(limit, call(channel)).await;
            return answer.map_err(|_| late(""));
        }
        let name = call_name();
        let mut answer = std::pin::pin!(call(marked(channel.clone(), &name)));
        let ends = tokio::time::Instant::now() + limit;
        let mut waits = String::new();
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return Ok(answer),
                () = tokio::time::sleep_until(ends) => return Err(late(&waits)),
                () = tokio::time::sleep(WAITS_INTERVAL) => {}
            }
            let requested = tokio::time::timeout(WAITS_INTERVAL, waits_of(&channel, &name));
            let found = tokio::select! {
                biased;
                answer = &mut answer => return Ok(answer),
                found = requested => found.ok().flatten(),
            };
            // An earlier controller does not have the method: nothing is known then.
            let Some(found) = found else { continue };
            let whom = |all: &[Wait]| all.iter().map(|wait| wait.on.clone()).collect::<Vec<_>>();
            let text = |wait: &Wait| wait.text.clone();
            waits = found.iter().map(text).collect::<Vec<_>>().join("; ");
            self.waits.send_if_modified(|shown| {
                let is_new = !found.is_empty() && !whom(&found).iter().all(|on| shown.contains(on));
                if is_new {
                    shown.clone_from(&waits);
                }
                is_new
            });
        }
    }
}

/// A name that no other call has.
fn call_name() -> String {
    format!("{}-{}", std::process::id(), now_ms())
}

fn marked(channel: ClientConnection, name: &str) -> ClientConnection {
    match HeaderValue::from_str(name) {
        Ok(value) => channel.marked(CALL_METADATA, value),
        Err(_) => channel,
    }
}

/// What a call waits for; `None`: the controller does not state it.
async fn waits_of(channel: &ClientConnection, name: &str) -> Option<Vec<Wait>> {
    let call = name.to_owned();
    let request = ListWaitsRequest { call };
    let answer = jobs(channel.clone()).list_waits(request).await;
    Some(answer.ok()?.into_inner().waits)
}

/// Whether the leader tried, and no worker could do it: another controller could do no more.
fn is_answer(status: &Status) -> bool {
    CallRefusal::read(status).is_some_and(|refusal| refusal.reason == Reason::WorkerUnavailable)
}

/// What to do if a connection breaks during a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AfterBreak {
    TryTheNext,
    Stop,
}

const NOT_REPEATED: &str = "the job file may be what the controller failed on, so it was not sent to another one; see with `streamctl list` \
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
