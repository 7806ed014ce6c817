//! Ends calls whose token is revoked.
//!
//! Owns: checking a running call again when the table changes, ending it in both directions. Does
//! not own: the first check (`gate`), when the table changes (`files`, the worker's session).
//! Rule: a caller whose token no longer gives access gets the same status as at admission; no more
//! data is sent to it or read from it. Calls authorized by a certificate continue until they end.

use super::access::Policy;
use super::files::RELOAD_INTERVAL;
use super::judge::{Shown, judge};
use super::methods::Need;
use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use futures::future::BoxFuture;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tonic::{Code, Status};

/// When a token or its role is revoked in the file, its calls end within this time, on controllers
/// and workers: files are checked every [`RELOAD_INTERVAL`], the rest is for notifying workers.
pub const REVOKED_WITHIN: Duration = Duration::from_secs(5);
const _: () = assert!(RELOAD_INTERVAL.as_millis() < REVOKED_WITHIN.as_millis());

/// The token or grant that authorized a call, and the need of the call.
#[derive(Clone)]
pub(super) struct Pass {
    pub(super) policy: watch::Receiver<Arc<Policy>>,
    pub(super) shown: Shown,
    pub(super) need: Need,
}

/// How the end of a call is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// To a gRPC client: the status follows the data sent so far.
    Trailers,
    /// To an HTTP client: the data ends, and further requests are refused.
    Silence,
    /// To the service that reads the caller's data.
    Error,
}

impl Pass {
    /// The data of this call, until the token is revoked.
    pub(super) fn watched(&self, body: Body, end: End) -> Body {
        Body::new(Watched {
            body,
            revoked: Box::pin(self.clone().revoked()),
            end,
            over: false,
        })
    }

    /// Waits until the token is revoked, and returns the reason.
    async fn revoked(mut self) -> Status {
        loop {
            let policy = Arc::clone(&self.policy.borrow_and_update());
            if let Policy::Table(table) = &*policy
                && let Err(status) = judge(table, &self.shown, self.need)
                // Any other status means that the check failed, not that the token is invalid.
                && matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied)
            {
                tracing::info!(
                    reason = status.message().lines().next(),
                    "what a token opened ends"
                );
                return status;
            }
            if self.policy.changed().await.is_err() {
                // The sender is gone: the policy cannot change any more.
                return std::future::pending().await;
            }
        }
    }
}

struct Watched {
    body: Body,
    revoked: BoxFuture<'static, Status>,
    end: End,
    over: bool,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        // Check this first: data that is ready is not sent any more.
        let Poll::Ready(status) = self.revoked.as_mut().poll(context) else {
            return Pin::new(&mut self.body)
                .poll_frame(context)
                .map_err(Into::into);
        };
        self.over = true;
        // Dropping it notifies the producer that there is no reader.
        self.body = Body::empty();
        Poll::Ready(match self.end {
            End::Trailers => {
                let mut trailers = HeaderMap::new();
                Some(
                    status
                        .add_header(&mut trailers)
                        .map(|()| Frame::trailers(trailers))
                        .map_err(Into::into),
                )
            }
            End::Silence => None,
            End::Error => Some(Err(status.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::super::access::{AccessTable, Role, line_for};
    use super::super::files::Reloading;
    use super::super::token::Token;
    use super::*;
    use futures::StreamExt as _;
    use futures::future::poll_fn;

    const VIEW: Need = Need::Least(Role::View);

    fn table(text: &str) -> Arc<Policy> {
        Arc::new(Policy::Table(AccessTable::parse(text).unwrap()))
    }

    fn line(name: &str, role: Role, token: &Token) -> String {
        line_for(name, role, token.digest()).unwrap()
    }

    /// One chunk, and then nothing for ever.
    fn endless() -> Body {
        let first = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"first"))]);
        Body::from_stream(first.chain(futures::stream::pending()))
    }

    async fn next(body: &mut Body) -> Option<Result<Frame<Bytes>, axum::Error>> {
        poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
    }

    /// The status that a call gets, or `None` while it continues.
    async fn end(body: &mut Body) -> Option<Code> {
        let frame = tokio::time::timeout(Duration::from_millis(1), next(body))
            .await
            .ok()??;
        let trailers = frame
            .unwrap()
            .into_trailers()
            .expect("the end is in the trailers");
        assert!(
            trailers["grpc-message"].to_str().unwrap().contains("hint"),
            "{trailers:?}"
        );
        Status::from_header_map(&trailers).map(|status| status.code())
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_token_opened_ends_when_it_is_gone_or_has_another_role() {
        for (after, code) in [
            ("", Code::Unauthenticated),
            ("worker", Code::PermissionDenied),
        ] {
            let token = Token::generate().unwrap();
            let other = Token::generate().unwrap();
            let others = line("b", Role::View, &other);
            let (policy, watched) =
                watch::channel(table(&(line("a", Role::View, &token) + &others)));
            let pass = |token: &Token| Pass {
                policy: watched.clone(),
                shown: Shown::Token(token.digest()),
                need: VIEW,
            };
            let mut bodies =
                [&token, &other].map(|token| pass(token).watched(endless(), End::Trailers));
            for body in &mut bodies {
                assert_eq!(
                    next(body).await.unwrap().unwrap().into_data().unwrap(),
                    "first"
                );
                assert_eq!(end(body).await, None, "it goes on");
            }
            // A change that keeps the role, and one that removes all authentication, end no call.
            policy.send_replace(table(&(line("a", Role::Admin, &token) + &others)));
            assert_eq!(end(&mut bodies[0]).await, None);
            policy.send_replace(Arc::new(Policy::Closed("not yet")));
            assert_eq!(end(&mut bodies[0]).await, None);
            let left = if after.is_empty() {
                String::new()
            } else {
                line("a", after.parse().unwrap(), &token)
            };
            policy.send_replace(table(&(left + &others)));
            assert_eq!(end(&mut bodies[0]).await, Some(code));
            assert!(
                next(&mut bodies[0]).await.is_none() && bodies[0].is_end_stream(),
                "and nothing follows"
            );
            assert_eq!(end(&mut bodies[1]).await, None, "others go on");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_ready_to_send_is_dropped_and_nothing_more_is_taken() {
        let token = Token::generate().unwrap();
        let (policy, watched) = watch::channel(table(&line("w", Role::Worker, &token)));
        let pass = Pass {
            policy: watched,
            shown: Shown::Token(token.digest()),
            need: Need::Worker,
        };
        let [mut body, mut page] =
            [End::Error, End::Silence].map(|end| pass.watched(endless(), end));
        policy.send_replace(table(""));
        let error = next(&mut body).await.unwrap().unwrap_err();
        assert_eq!(
            Status::from_error(error.into()).code(),
            Code::Unauthenticated
        );
        assert!(next(&mut body).await.is_none());
        assert!(next(&mut page).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_without_the_token_ends_it_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.toml");
        let token = Token::generate().unwrap();
        std::fs::write(&file, line("a", Role::View, &token)).unwrap();
        let read = |contents: &[Vec<u8>]| {
            let text = String::from_utf8_lossy(&contents[0]).into_owned();
            AccessTable::parse(&text).map(Policy::Table)
        };
        let access = Reloading::load("roles", vec![file.clone()], read).unwrap();
        access.keep_fresh();
        let pass = Pass {
            policy: access.subscribe(),
            shown: Shown::Token(token.digest()),
            need: VIEW,
        };
        let mut body = pass.watched(endless(), End::Trailers);
        next(&mut body).await.unwrap().unwrap();
        tokio::time::sleep(REVOKED_WITHIN).await;
        assert_eq!(end(&mut body).await, None);
        std::fs::write(&file, "").unwrap();
        let ended = tokio::time::timeout(REVOKED_WITHIN, next(&mut body))
            .await
            .expect("in time");
        assert!(ended.unwrap().unwrap().is_trailers());
    }
}
