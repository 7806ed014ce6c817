//! What ended a connection, in the words of who ended it.
//!
//! Owns: listening for it. Does not own: connecting ([`super::dial`]).
//! Rule: with TLS 1.3 a dialler is told that it was not let in after it believes to be connected, and a call that was not
//! yet sent by then hears only that there is no connection: so what was told is kept for it.

use super::dial::trust_hint;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Why the newest connection of a line ended, as far as it is about trust.
#[derive(Clone, Default)]
pub(super) struct Fate(Arc<Mutex<Option<String>>>);

impl Fate {
    /// The words, once it ended.
    pub fn words(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A connection of which nothing is known yet.
    pub fn watch<S>(&self, stream: S) -> Watched<S> {
        self.set(None);
        Watched { stream, fate: self.clone() }
    }

    fn set(&self, words: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }

    fn heard<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result {
            let words = error.to_string();
            if trust_hint(&words).is_some() {
                self.set(Some(words));
            }
        }
        result
    }
}

/// A connection that is listened to.
pub struct Watched<S> {
    stream: S,
    fate: Fate,
}

#[cfg(test)]
impl<S> Watched<S> {
    /// The connection.
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
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.fate.heard(result)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.fate.heard(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.fate.heard(result)
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
        self.fate.heard(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
