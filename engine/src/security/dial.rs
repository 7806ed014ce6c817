//! Outgoing connections: TLS if the address is https, and the token of the caller.
//!
//! Owns: trust, credentials, the token's header, all from the current files at each connection
//! attempt. Does not own: time-outs and windows (the caller).
//! Rule: a token is never sent over a connection that others can read.

use super::disconnect_reason::{DisconnectReason, Watched, trust_hint};
use super::files::Reloading;
use super::gate::CallerToken;
use super::tls::{self, ClientTls};
use super::{SecurityError, Token};
use crate::host::is_loopback;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderValue, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use streamctl_proto::refusal::{CallRefusal, Reason};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint};

/// The parts of a connection.
struct Prepared {
    endpoint: Endpoint,
    /// Connects with TLS; `None`: plain.
    secured: Option<Secured>,
    token: Option<HeaderValue>,
    disconnect_reason: DisconnectReason,
}

/// The credentials for outgoing connections, and the trusted authorities.
#[derive(Clone, Default)]
pub struct Dialer(Arc<Parts>);

#[derive(Default)]
struct Parts {
    tls: Option<ClientTls>,
    token: TokenSource,
    /// The name that the peer's certificate must have, instead of its address.
    peer_name: Option<String>,
}

#[derive(Default)]
enum TokenSource {
    #[default]
    None,
    File(Arc<Reloading<Token>>),
    Fixed(Token),
}

/// A connection that sends the token with every call.
#[derive(Clone)]
pub struct ClientConnection {
    channel: Channel,
    token: Option<HeaderValue>,
    /// Metadata of every call.
    marked: Option<(&'static str, HeaderValue)>,
    disconnect_reason: DisconnectReason,
}

/// The files of a dialer.
#[derive(Clone, Debug, Default)]
pub struct DialerFiles {
    /// The trusted authorities; the system's if it is `None`.
    pub ca: Option<PathBuf>,
    pub pair: Option<tls::Pair>,
    pub token: Option<PathBuf>,
    /// The name in the peer's certificate, if it is not its address.
    pub peer_name: Option<String>,
}

impl Dialer {
    /// From these files; they are read again at every connection attempt.
    ///
    /// # Errors
    /// If one of them is invalid.
    pub fn new(files: DialerFiles) -> Result<Self, SecurityError> {
        let DialerFiles {
            ca,
            pair,
            token,
            peer_name,
        } = files;
        let tls = match (&ca, &pair) {
            (None, None) => None,
            _ => Some(tls::client(ca.as_ref(), pair.as_ref())?),
        };
        let token = match token {
            Some(path) => TokenSource::File(token_file(&path)?),
            None => TokenSource::None,
        };
        Ok(Self(Arc::new(Parts {
            tls,
            token,
            peer_name,
        })))
    }

    /// The same, with a token that is not in a file.
    pub fn with_token(&self, token: Token) -> Self {
        let tls = self.0.tls.clone();
        let peer_name = self.0.peer_name.clone();
        Self(Arc::new(Parts {
            tls,
            token: TokenSource::Fixed(token),
            peer_name,
        }))
    }

    /// The same, without a token.
    pub fn without_token(&self) -> Self {
        let tls = self.0.tls.clone();
        let peer_name = self.0.peer_name.clone();
        Self(Arc::new(Parts {
            tls,
            token: TokenSource::None,
            peer_name,
        }))
    }

    /// A lazy connection that reconnects after it breaks. `tune` sets time-outs and windows.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the address is invalid, or must not get the token.
    pub fn connection(
        &self,
        url: &str,
        tune: impl FnOnce(Endpoint) -> Endpoint,
    ) -> Result<ClientConnection, Status> {
        let Prepared {
            endpoint,
            secured,
            token,
            disconnect_reason,
        } = self.prepare(url)?;
        let endpoint = tune(endpoint);
        let channel = match secured {
            Some(secured) => endpoint.connect_with_connector_lazy(secured),
            None => endpoint.connect_with_connector_lazy(Plain(disconnect_reason.clone())),
        };
        Ok(ClientConnection {
            channel,
            token,
            marked: None,
            disconnect_reason,
        })
    }

    /// Connects at once.
    ///
    /// # Errors
    /// Like [`Self::connection`]; `UNAVAILABLE` if no server responds there, or one that is not trusted.
    pub async fn connect(
        &self,
        url: &str,
        tune: impl FnOnce(Endpoint) -> Endpoint,
    ) -> Result<ClientConnection, Status> {
        let Prepared {
            endpoint,
            secured,
            token,
            disconnect_reason,
        } = self.prepare(url)?;
        let endpoint = tune(endpoint);
        let channel = match secured {
            Some(secured) => endpoint.connect_with_connector(secured).await,
            None => {
                endpoint
                    .connect_with_connector(Plain(disconnect_reason.clone()))
                    .await
            }
        };
        let channel = channel.map_err(|error| unreachable(&error))?;
        Ok(ClientConnection {
            channel,
            token,
            marked: None,
            disconnect_reason,
        })
    }

    /// The channel alone, for clients with their own authentication.
    ///
    /// # Errors
    /// Like [`Self::connection`].
    pub fn channel(
        &self,
        url: &str,
        tune: impl FnOnce(Endpoint) -> Endpoint,
    ) -> Result<Channel, Status> {
        self.connection(url, tune).map(|line| line.channel)
    }

    fn prepare(&self, url: &str) -> Result<Prepared, Status> {
        let wrong = |why: String| Status::invalid_argument(why);
        let (https, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => {
                return Err(wrong(format!(
                    "{url:?} is not an address: it begins with http:// or https://"
                )));
            }
        };
        let endpoint = Endpoint::from_shared(format!("http://{rest}"))
            .map_err(|error| wrong(error.to_string()))?;
        let token = self.token();
        let host = endpoint.uri().host().unwrap_or_default().to_owned();
        if !https && token.is_some() && !is_loopback(&host) {
            let text = format!("a token is not sent to {host} without TLS");
            let hint = "write https://, or ask without a token";
            return Err(Status::from(
                CallRefusal::new(Reason::InvalidArgument, text).hint(hint),
            ));
        }
        let header = |token: Token| {
            let mut value = HeaderValue::try_from(token.header()).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        let disconnect_reason = DisconnectReason::default();
        let secured = if https {
            Some(self.secured(&host, disconnect_reason.clone())?)
        } else {
            None
        };
        Ok(Prepared {
            endpoint,
            secured,
            token: token.and_then(header),
            disconnect_reason,
        })
    }

    fn secured(&self, host: &str, disconnect_reason: DisconnectReason) -> Result<Secured, Status> {
        let name = self
            .0
            .peer_name
            .as_deref()
            .unwrap_or(host.trim_matches(['[', ']']));
        let bad = |_| Status::invalid_argument(format!("{name:?} cannot stand in a certificate"));
        let name = ServerName::try_from(name.to_owned()).map_err(bad)?;
        let trust = match &self.0.tls {
            Some(files) => Trust::Files(Arc::clone(files)),
            None => Trust::System(
                tls::system_client()
                    .map_err(|error| Status::invalid_argument(error.to_string()))?,
            ),
        };
        Ok(Secured {
            trust,
            name,
            disconnect_reason,
        })
    }

    fn token(&self) -> Option<Token> {
        match &self.0.token {
            TokenSource::None => None,
            TokenSource::Fixed(token) => Some(token.clone()),
            TokenSource::File(file) => {
                file.reload();
                Some(Token::clone(&file.current()))
            }
        }
    }
}

/// A token in a file; follows changes of the file.
///
/// # Errors
/// If it contains no token.
pub fn token_file(path: &Path) -> Result<Arc<Reloading<Token>>, SecurityError> {
    Reloading::load("token", vec![path.to_owned()], |contents| {
        Token::parse(&String::from_utf8_lossy(&contents[0]))
    })
}

/// The URL of a leader named as host:port. Uses the scheme of the controller that named it: never
/// less protected.
pub fn like(base: &str, address: &str) -> String {
    let scheme = if base.starts_with("https://") {
        "https"
    } else {
        "http"
    };
    format!(
        "{scheme}://{}",
        address.split_once("://").map_or(address, |(_, rest)| rest)
    )
}

/// The address of a Flight service in the form of Flight clients: `grpc+tls://host:port`; without a
/// scheme it is plain.
pub fn flight_location(address: &str) -> String {
    if address.contains("://") {
        address.to_owned()
    } else {
        format!("grpc://{address}")
    }
}

/// The same as an HTTP URL.
pub fn flight_url(location: &str) -> String {
    if let Some(rest) = location.strip_prefix("grpc+tls://") {
        return format!("https://{rest}");
    }
    let rest = location
        .strip_prefix("grpc+tcp://")
        .or_else(|| location.strip_prefix("grpc://"))
        .unwrap_or(location);
    if rest.contains("://") {
        rest.to_owned()
    } else {
        format!("http://{rest}")
    }
}

/// A status with the root cause of an error, and a hint if it is about trust.
fn unreachable(error: &(dyn Error + 'static)) -> Status {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    unreachable_because(cause.to_string())
}

/// A status for a connection that could not be used, with a hint if it is about trust.
fn unreachable_because(text: String) -> Status {
    let hint = trust_hint(&text);
    let refusal = CallRefusal::new(Reason::Unreachable, text);
    Status::from(match hint {
        Some(hint) => refusal.hint(hint),
        None => refusal,
    })
}

/// Adds the cause of a connection that broke after it was established: with TLS 1.3 a client learns
/// only then that it was rejected. Statuses of the peer are unchanged.
pub fn cause_of(status: Status) -> Status {
    match Error::source(&status) {
        Some(source) => unreachable(source),
        None => status,
    }
}

enum Trust {
    Files(ClientTls),
    System(Arc<ClientConfig>),
}

impl Trust {
    fn now(&self) -> Arc<ClientConfig> {
        match self {
            Self::Files(files) => {
                files.reload();
                Arc::clone(&files.current())
            }
            Self::System(config) => Arc::clone(config),
        }
    }
}

/// Connects with TLS, using the current files.
pub struct Secured {
    trust: Trust,
    name: ServerName<'static>,
    disconnect_reason: DisconnectReason,
}

impl Service<Uri> for Secured {
    type Response = TokioIo<Watched<TlsStream<TcpStream>>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let config = self.trust.now();
        let name = self.name.clone();
        let disconnect_reason = self.disconnect_reason.clone();
        Box::pin(async move {
            let stream = connected(&uri, 443).await?;
            Ok(TokioIo::new(disconnect_reason.watch(
                TlsConnector::from(config).connect(name, stream).await?,
            )))
        })
    }
}

/// Connects without TLS, and detects a peer that uses it.
struct Plain(DisconnectReason);

impl Service<Uri> for Plain {
    type Response = TokioIo<Watched<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let disconnect_reason = self.0.clone();
        Box::pin(async move {
            Ok(TokioIo::new(
                disconnect_reason.watch_plain(connected(&uri, 80).await?),
            ))
        })
    }
}

async fn connected(uri: &Uri, port: u16) -> std::io::Result<TcpStream> {
    let host = uri
        .host()
        .unwrap_or_default()
        .trim_matches(['[', ']'])
        .to_owned();
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(port))).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl ClientConnection {
    /// The same connection on behalf of another caller.
    pub fn on_behalf_of(mut self, by: &CallerToken) -> Self {
        self.token = by.header().cloned();
        self
    }

    /// The same connection, whose calls carry this metadata.
    pub fn marked(mut self, name: &'static str, value: HeaderValue) -> Self {
        self.marked = Some((name, value));
        self
    }
}

impl Service<Request<Body>> for ClientConnection {
    type Response = Response<Body>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel
            .poll_ready(context)
            .map_err(|error| failed(error, &self.disconnect_reason))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        if let Some((name, value)) = &self.marked {
            request.headers_mut().insert(*name, value.clone());
        }
        let response = self.channel.call(request);
        let disconnect_reason = self.disconnect_reason.clone();
        Box::pin(async move {
            response
                .await
                .map_err(|error| failed(error, &disconnect_reason))
        })
    }
}

/// Why a call failed: the reason that the peer sent on the connection is more useful than the mere
/// fact that it is closed.
fn failed(
    error: tonic::transport::Error,
    disconnect_reason: &DisconnectReason,
) -> Box<dyn Error + Send + Sync> {
    match disconnect_reason.text() {
        Some(text) => Box::new(unreachable_because(text)),
        None => Box::new(error),
    }
}

#[cfg(test)]
mod tests;
