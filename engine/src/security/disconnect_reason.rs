//! The reason that the peer gave for closing a connection, and whether the peer uses TLS as
//! expected.
//!
//! Owns: observing the connection. Does not own: connecting (`dial`).
//! Rule: with TLS 1.3 a client is rejected only after it considers itself connected, and a call
//! that is not yet sent gets only "no connection". So the reason is kept for it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// First bytes of a plain connection whose peer uses TLS and could not parse the request: an alert,
/// of any version. HTTP/2 begins with the length of its settings, whose first byte is 0.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];
pub(super) const SPEAKS_TLS: &str = "it speaks TLS there";
/// As a server of HTTP/1 does.
const NO_ANSWER: &str = "it closed the connection without an answer";

/// Why the newest connection ended, as far as it is about trust.
#[derive(Clone, Default)]
pub(super) struct DisconnectReason(Arc<Mutex<Option<String>>>);

impl DisconnectReason {
    /// The reason, once the connection ended.
    pub fn text(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A connection without a known reason yet.
    pub fn watch<S>(&self, stream: S) -> Watched<S> {
        self.set(None);
        Watched {
            stream,
            disconnect_reason: self.clone(),
            unread: false,
        }
    }

    /// The same without TLS: checks the first bytes.
    pub fn watch_plain<S>(&self, stream: S) -> Watched<S> {
        Watched {
            unread: true,
            ..self.watch(stream)
        }
    }

    fn set(&self, text: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    fn observe<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result {
            let text = error.to_string();
            if trust_hint(&text).is_some() {
                self.set(Some(text));
            }
        }
        result
    }
}

/// An observed connection.
pub struct Watched<S> {
    stream: S,
    disconnect_reason: DisconnectReason,
    /// Plain, and no bytes received yet.
    unread: bool,
}

/// What to do about an error of TLS.
pub(super) fn trust_hint(text: &str) -> Option<&'static str> {
    let hints = [
        (
            "UnknownIssuer",
            "name the certificate of who signed it (--ca, or --tls-ca)",
        ),
        // An authority of the same name, with another key.
        (
            "BadSignature",
            "name the certificate of who signed it (--ca, or --tls-ca)",
        ),
        (
            "NotValidForName",
            "its certificate carries other names: use one of them as address, or name it \
             (--server-name, or --tls-name)",
        ),
        (
            "not valid for name",
            "its certificate carries other names: use one of them as address, or name it \
             (--server-name, or --tls-name)",
        ),
        (
            "CertificateRequired",
            "it asks for a certificate: name one that it knows (--cert and --key, or --tls-cert \
             and --tls-key)",
        ),
        ("UnknownCA", "it does not know who signed this certificate"),
        ("Expired", "a certificate is past its time: replace it"),
        (
            "InvalidContentType",
            "it does not speak TLS there: write http:// if it is meant to be so",
        ),
        (SPEAKS_TLS, "write https:// instead of http://"),
        (
            NO_ANSWER,
            "is it the port of gRPC (--listen)? That of the dashboard (--http-listen) is for \
             browsers",
        ),
    ];
    hints
        .into_iter()
        .find(|(pattern, _)| text.contains(pattern))
        .map(|(_, hint)| hint)
}

#[cfg(test)]
impl<S> Watched<S> {
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let has_room = buffer.remaining() > 0;
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        let received = &buffer.filled()[before..];
        let is_over = has_room && received.is_empty() && matches!(result, Poll::Ready(Ok(())));
        if self.unread && is_over {
            self.unread = false;
            self.disconnect_reason.set(Some(NO_ANSWER.to_owned()));
        }
        if self.unread && !received.is_empty() {
            self.unread = false;
            if received.starts_with(&TLS_ALERT) {
                self.disconnect_reason.set(Some(SPEAKS_TLS.to_owned()));
            }
        }
        self.disconnect_reason.observe(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.disconnect_reason.observe(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.disconnect_reason.observe(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.disconnect_reason.observe(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
