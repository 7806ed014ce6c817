//! The HTTP server of a program: health, metrics, and further pages.
//!
//! Owns: the limits on clients (connections, request heads, time), the headers of every response,
//! the check of `Host`. Does not own: the content, TLS and permissions (`security`).
//! Rule: read-only; no job depends on it, and no request here may delay a job.

use crate::metrics::Sheet;
use crate::security::accept::{ConfigNow, Connection, Limits, for_http, incoming};
use crate::security::gate::during;
use crate::security::{Gate, Peer, Security};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Most connections; for a further one, the connection that has been without a request for longest
/// is closed.
pub const CONNECTIONS_MAX: usize = 256;
/// Longest request line with all its headers.
pub const REQUEST_HEAD_BYTES_MAX: usize = 16 << 10;
/// Most headers of a request.
pub const REQUEST_HEADERS_MAX: usize = 64;
/// Most concurrent requests of one HTTP/2 connection.
pub const REQUESTS_AT_ONCE_MAX: u32 = 16;
/// Time for a request's head to arrive; a connection that is silent for this long is closed.
pub const REQUEST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the response.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest life of a connection; a browser opens another.
pub const CONNECTION_LIFE_MAX: Duration = Duration::from_secs(600);
/// Longest life of a connection to the port for probes: its clients are not authenticated.
pub const PROBE_LIFE_MAX: Duration = Duration::from_secs(30);

/// A page may load scripts, styles and data only from its own origin.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// The type that a reader of OpenMetrics names.
const OPEN_METRICS: &str = "application/openmetrics-text";
/// The text format of OpenMetrics, for those that name it in `Accept`.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The text format of Prometheus, for all others.
const PLAIN_METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns whether the program can do its work, or why it cannot.
pub type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// `/healthz`: the process responds. `/readyz`: it can do its work; else 503 and the reason.
pub fn health(ready: Ready) -> Router {
    let readyz = move || {
        let ready = ready();
        async move {
            match ready {
                Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
                Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
            }
        }
    };
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
}

/// The response to `/` of a program without pages.
pub fn index(text: &'static str) -> Router {
    Router::new().route("/", get(async move || text))
}

/// The response of `/metrics`, in the format that the request accepts.
pub fn metrics_answer(headers: &HeaderMap, sheet: &Sheet) -> Response {
    let accepts = headers.get_all(ACCEPT).iter();
    let mut accepts = accepts.filter_map(|value| value.to_str().ok());
    let (content_type, text) = match accepts.any(|value| value.contains(OPEN_METRICS)) {
        true => (METRICS_TYPE, sheet.text()),
        false => (PLAIN_METRICS_TYPE, sheet.plain_text()),
    };
    ([(CONTENT_TYPE, content_type), (VARY, "accept")], text).into_response()
}

/// An HTTP listener, and its protection.
pub struct Door {
    listener: TcpListener,
    tls: ConfigNow,
    gate: Option<Gate>,
    life: Duration,
    /// Accepts HTTP/2 too, as gRPC uses it.
    http2: bool,
}

impl From<TcpListener> for Door {
    /// Plain, and open to every client.
    fn from(listener: TcpListener) -> Self {
        Self {
            listener,
            tls: for_http(None),
            gate: None,
            life: CONNECTION_LIFE_MAX,
            http2: false,
        }
    }
}

impl Door {
    /// With the program's TLS, for callers with permission.
    pub fn secured(listener: TcpListener, security: &Security, gate: Gate) -> Self {
        Self {
            tls: security.http_tls(),
            gate: Some(gate),
            ..Self::from(listener)
        }
    }

    /// For probes: plain, without authentication, for short connections.
    pub fn for_probes(listener: TcpListener) -> Self {
        Self {
            life: PROBE_LIFE_MAX,
            http2: true,
            ..Self::from(listener)
        }
    }
}

/// Serves `app` at `door` until `stop`, within the limits above.
pub async fn serve(door: impl Into<Door>, app: Router, stop: impl Future<Output = ()>) {
    let Door {
        listener,
        tls,
        gate,
        life,
        http2,
    } = door.into();
    let local = listener
        .local_addr()
        .is_ok_and(|address| address.ip().is_loopback());
    let app = guarded(app, local, gate);
    let limits = Limits {
        connections: CONNECTIONS_MAX,
        first_call: None,
    };
    let mut connections = incoming(listener, tls, limits);
    tokio::pin!(stop);
    loop {
        let connection = tokio::select! {
            biased;
            () = &mut stop => return,
            connection = connections.next() => connection,
        };
        let Some(Ok(connection)) = connection else {
            return;
        };
        tokio::spawn(serve_connection(connection, app.clone(), life, http2));
    }
}

/// Serves one connection to its end, or to its longest life.
async fn serve_connection(connection: Connection, app: Router, life: Duration, http2: bool) {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_HEAD_TIMEOUT)
        .max_buf_size(REQUEST_HEAD_BYTES_MAX)
        .max_headers(REQUEST_HEADERS_MAX);
    http.http2()
        .max_header_list_size(REQUEST_HEAD_BYTES_MAX as u32)
        .max_concurrent_streams(REQUESTS_AT_ONCE_MAX);
    let http = if http2 { http } else { http.http1_only() };
    let app = app.layer(axum::Extension(connection.peer.clone()));
    let serving = http.serve_connection(TokioIo::new(connection), TowerToHyperService::new(app));
    tokio::pin!(serving);
    // Errors of a client's connection are ignored.
    tokio::select! {
        _ended = serving.as_mut() => return,
        () = tokio::time::sleep(life) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _late = tokio::time::timeout(ANSWER_TIMEOUT, serving).await;
}

/// The app with the time limit, the checks of the caller and of `Host`, and the headers of every
/// response. `local`: it listens on loopback.
fn guarded(app: Router, local: bool, gate: Option<Gate>) -> Router {
    let app = app.fallback(async || {
        (
            StatusCode::NOT_FOUND,
            "there is nothing at this path; /healthz and /readyz are at every port\n",
        )
    });
    let app = match gate {
        Some(gate) => gate.before_pages(app),
        None => app,
    };
    app.layer(from_fn(within_time))
        .layer(from_fn_with_state(local, right_host))
        .layer(from_fn(with_headers))
        .layer(from_fn(counted))
}

/// A connection with a request in flight is not closed to make room for others.
async fn counted(request: Request, next: Next) -> Response {
    let call = request.extensions().get::<Peer>().map(Peer::begin_call);
    next.run(request).await.map(|body| during(call, body))
}

async fn within_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (
            StatusCode::GATEWAY_TIMEOUT,
            "no answer in time; try again\n",
        )
            .into_response(),
    }
}

async fn right_host(State(local): State<bool>, request: Request, next: Next) -> Response {
    let named = request
        .headers()
        .get(HOST)
        .and_then(|host| host.to_str().ok());
    // HTTP/2 has it in the URI.
    let host = named.or(request.uri().host()).unwrap_or_default();
    if local && !is_this_machine(host) {
        // A foreign page whose host name was rebound to this address: its scripts would read the
        // served data.
        let reported = "this address is for programs of this machine: use http://127.0.0.1 or http://localhost\n";
        return (StatusCode::MISDIRECTED_REQUEST, reported).into_response();
    }
    next.run(request).await
}

/// Whether a `Host` header certainly means this machine: an address, or `localhost`; never a name,
/// which someone else may control.
fn is_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

async fn with_headers(request: Request, next: Next) -> Response<Body> {
    let mut response = next.run(request).await;
    let headers: &mut HeaderMap = response.headers_mut();
    let fixed: [(HeaderName, &str); 6] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn door() -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = health(Arc::new(|| Err("no line to a controller".to_owned())));
        tokio::spawn(serve(listener, app, std::future::pending()));
        address
    }

    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn request(path: &str, host: &str, more: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n")
    }

    #[tokio::test]
    async fn a_program_reports_that_it_lives_and_why_it_is_not_ready() {
        let address = door().await;
        let healthy = ask(address, &request("/healthz", "localhost:1", "")).await;
        assert!(
            healthy.starts_with("HTTP/1.1 200") && healthy.contains("default-src 'none'"),
            "{healthy}"
        );
        let ready = ask(address, &request("/readyz", "127.0.0.1", "")).await;
        assert!(
            ready.starts_with("HTTP/1.1 503") && ready.ends_with("no line to a controller\n"),
            "{ready}"
        );
        let nothing = ask(address, &request("/etc/passwd", "[::1]:80", "")).await;
        assert!(nothing.starts_with("HTTP/1.1 404"), "{nothing}");
    }

    #[tokio::test]
    async fn a_request_for_nothing_in_particular_lists_what_there_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = health(Arc::new(|| Ok(()))).merge(index("/healthz  the process answers\n"));
        tokio::spawn(serve(listener, app, std::future::pending()));
        let index = ask(address, &request("/", "localhost", "")).await;
        assert!(
            index.starts_with("HTTP/1.1 200")
                && index.ends_with("\n/healthz  the process answers\n"),
            "{index}"
        );
        let nothing = ask(address, &request("/metrics", "localhost", "")).await;
        assert!(
            nothing.starts_with("HTTP/1.1 404") && nothing.contains("/readyz are at every port"),
            "{nothing}"
        );
    }

    #[tokio::test]
    async fn a_name_that_another_site_gave_to_this_machine_is_refused() {
        let address = door().await;
        let answer = ask(address, &request("/healthz", "evil.example:7080", "")).await;
        assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
        assert!(!is_this_machine("") && !is_this_machine("127.0.0.1.evil.example"));
        assert!(
            is_this_machine("LOCALHOST:1")
                && is_this_machine("[::1]:7080")
                && is_this_machine("10.0.0.1")
        );
    }

    #[tokio::test]
    async fn a_head_that_is_too_long_is_refused() {
        let address = door().await;
        let long = format!("X-Long: {}\r\n", "x".repeat(REQUEST_HEAD_BYTES_MAX));
        let answer = ask(address, &request("/healthz", "localhost", &long)).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
        let many: String = (0..=REQUEST_HEADERS_MAX)
            .map(|n| format!("X-{n}: 1\r\n"))
            .collect();
        let answer = ask(address, &request("/healthz", "localhost", &many)).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }

    #[tokio::test]
    async fn one_connection_too_many_waits_for_another_to_end() {
        let address = door().await;
        let mut held = vec![];
        for _ in 0..CONNECTIONS_MAX {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut first = [0; 15];
            stream.read_exact(&mut first).await.unwrap();
            held.push(stream);
        }
        let late =
            tokio::spawn(async move { ask(address, &request("/healthz", "localhost", "")).await });
        tokio::task::yield_now().await;
        assert!(!late.is_finished());
        held.clear();
        assert!(late.await.unwrap().starts_with("HTTP/1.1 200"));
    }
}
