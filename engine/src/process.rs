//! The common process behaviour of our programs: logs to standard error, traces to a collector, an
//! orderly end on a stop signal.
//!
//! Rule: called from a `main` (or the local mode, which replaces one), never from a library.

mod log_limit;

use crate::traces::{Traces, TracesError};
use clap::{Args, ValueEnum};
use log_limit::LogLimit;
use std::error::Error;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use streamctl_proto::describe;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How a program is seen from outside while it runs.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logs and traces")]
pub struct Seen {
    /// Log format.
    #[arg(long, env = "STREAMCTL_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// The same as --log-format json.
    #[arg(long, env = "STREAMCTL_LOG_JSON", hide = true)]
    log_json: bool,
    /// Collector of traces, OTLP over gRPC: http://host:port (default: no traces).
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable text.
    Text,
    /// One JSON document per line, with the fields job, epoch, task and trace_id where known.
    Json,
}

impl Seen {
    /// Sends logs to standard error, filtered by `RUST_LOG`, or by `usual` if it is not set.
    pub fn log_to_stderr(&self, usual: &str) {
        log_to_stderr(self.log_json || self.log_format == LogFormat::Json, usual);
    }

    /// The destination of spans. Call it inside a Tokio runtime.
    pub fn traces(&self, service: &'static str, instance: &str) -> Result<Traces, TracesError> {
        match self
            .otlp_endpoint
            .as_deref()
            .filter(|endpoint| !endpoint.is_empty())
        {
            Some(endpoint) => Traces::to(endpoint, service, instance),
            None => Ok(Traces::default()),
        }
    }
}

/// Sends logs to standard error, as text or as JSON lines, filtered by `RUST_LOG`, or by `usual` if
/// it is not set.
pub fn log_to_stderr(json: bool, usual: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // Use colours only on a terminal, and respect NO_COLOR.
    let logs = if std::io::stderr().is_terminal() {
        logs
    } else {
        logs.with_ansi(false)
    };
    let limit = LogLimit::default();
    if json {
        logs.json().flatten_event(true).finish().with(limit).init()
    } else {
        logs.finish().with(limit).init()
    }
}

/// The exit code of a program with this result. An error is reported like on the command line: on
/// standard error, with its causes, and without the source locations of `RUST_BACKTRACE`, which do
/// not help users.
pub fn ended<E: AsRef<dyn Error + Send + Sync>>(result: Result<(), E>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    // If standard error is closed, the error cannot be reported.
    let _closed = writeln!(std::io::stderr(), "{}", error_text(error.as_ref()));
    ExitCode::FAILURE
}

fn error_text(error: &(dyn Error + 'static)) -> String {
    let text = describe(error);
    // A hint comes last, even if a cause follows its error.
    match text.split_once("\n  hint: ") {
        Some((what, hint)) => format!("error: {what}\nhint: {hint}"),
        None => format!("error: {text}"),
    }
}

/// A failure to listen on an address; the text contains advice.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {address} cannot be listened on: {reason}\n  hint: {}", self.hint())]
pub struct ListenError {
    flag: &'static str,
    address: SocketAddr,
    reason: io::Error,
}

impl ListenError {
    fn hint(&self) -> String {
        let Self {
            flag,
            address,
            reason,
        } = self;
        match reason.kind() {
            io::ErrorKind::AddrInUse => format!(
                "another program has this port (`ss -ltnp 'sport = :{}'` says which): end it, or \
                 name another port with {flag}",
                address.port()
            ),
            io::ErrorKind::AddrNotAvailable => format!(
                "{} is no address of this machine: name one that is with {flag} (`ip address` \
                 lists them), or {} for all of them",
                address.ip(),
                if address.is_ipv4() { "0.0.0.0" } else { "[::]" }
            ),
            io::ErrorKind::PermissionDenied => format!(
                "ports below 1024 take a right of their own (CAP_NET_BIND_SERVICE): name a higher \
                 port with {flag}"
            ),
            _ => format!("name another address with {flag}"),
        }
    }
}

/// Listens on the address of a flag.
///
/// # Errors
/// If another program uses the address, it is not one of this machine, or its port is not
/// permitted.
pub async fn listen(address: SocketAddr, flag: &'static str) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address)
        .await
        .map_err(|reason| ListenError {
            flag,
            address,
            reason,
        })
}

/// Waits for SIGTERM or SIGINT.
pub async fn stop_signal() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("--listen 127.0.0.1:1 cannot be listened on")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn an_error_is_printed_with_its_causes_and_its_hint() {
        let cause = std::io::Error::other("address in use\n  hint: name another one");
        let expected = "error: --listen 127.0.0.1:1 cannot be listened on: address in use\nhint: name another one";
        assert_eq!(error_text(&Outer(cause)), expected);
        assert_eq!(
            error_text(&Outer(std::io::Error::other("in use"))),
            format!("error: {}: in use", Outer(std::io::Error::other("")))
        );
    }
    #[tokio::test]
    async fn an_address_that_cannot_be_listened_on_is_an_error_with_a_hint() {
        let held = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = held.local_addr().unwrap();
        let text = error_text(&listen(address, "--listen").await.unwrap_err());
        let first = format!("error: --listen {address} cannot be listened on: ");
        assert!(text.starts_with(&first), "{text}");
        let hint = format!("`ss -ltnp 'sport = :{}'` says which", address.port());
        assert!(text.contains("\nhint: ") && text.contains(&hint), "{text}");
        // TEST-NET-1 belongs to no machine.
        let elsewhere = "192.0.2.1:7070".parse().unwrap();
        let text = error_text(&listen(elsewhere, "--http-listen").await.unwrap_err());
        assert!(
            text.contains("\nhint: 192.0.2.1 is no address of this machine")
                && text.contains("0.0.0.0"),
            "{text}"
        );
        let address = "127.0.0.1:80".parse().unwrap();
        let refused = ListenError {
            flag: "--listen",
            address,
            reason: io::ErrorKind::PermissionDenied.into(),
        };
        assert!(error_text(&refused).contains("below 1024"), "{refused}");
    }
}
