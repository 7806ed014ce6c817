//! The connection to a controller: carries messages both ways, in order.
//!
//! Owns: the trait, and its implementation with gRPC. Does not own: the content of messages
//! (`session`), reconnecting.
//! Rule: the end of a connection is reported; no message is resent automatically on another one.

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use streamctl_engine::security::dial::cause_of;
use streamctl_engine::security::{ClientConnection, Dialer};
use streamctl_proto::parts::{Assembler, cut};
use streamctl_proto::v1::workers_client::WorkersClient;
use streamctl_proto::{MESSAGE_BYTES_MAX, v1};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::Endpoint;
use tonic::{Status, Streaming};

/// Time to connect to a controller.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time in which a controller must respond to Hello after its last part is sent.
const HELLO_TIMEOUT: Duration = Duration::from_secs(3);
/// Pings that detect a dead connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);

pub type Outgoing = BoxStream<'static, v1::WorkerMessage>;
/// Messages of a controller; the stream ends with the connection, with or without an error.
pub type Incoming = BoxStream<'static, Result<v1::ControllerMessage, Status>>;
/// Returns the outgoing messages, from Hello on; called once, after connecting.
pub type Begin = Box<dyn FnOnce() -> Outgoing + Send>;

#[async_trait]
pub trait Dial: Send + Sync {
    /// Connects to `http://host:port`, or `https://`, and opens a session. An error is the
    /// controller's refusal, or the reason of the failed connection. If the result is dropped, the
    /// connection is closed.
    async fn dial(&self, address: &str, begin: Begin) -> Result<Incoming, Status>;
}

#[derive(Clone, Default)]
pub struct Grpc {
    pub dialer: Dialer,
}

#[async_trait]
impl Dial for Grpc {
    async fn dial(&self, address: &str, begin: Begin) -> Result<Incoming, Status> {
        open(self.dialer.clone(), address.to_owned(), begin)
            .boxed()
            .await
    }
}

async fn open(dialer: Dialer, address: String, begin: Begin) -> Result<Incoming, Status> {
    let line = dialer.connect(&address, tuned).boxed().await?;
    let mut client = WorkersClient::new(line.clone())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let (sent, mut hello_parts) = watch::channel(());
    let outgoing = in_parts(begin(), sent);
    let mut response = client.session(outgoing).boxed();
    let mut deadline = Instant::now() + HELLO_TIMEOUT;
    let mut hello_is_sent = false;
    let response = loop {
        tokio::select! {
            response = &mut response => break response,
            moved = hello_parts.changed(), if !hello_is_sent => {
                hello_is_sent = moved.is_err();
                deadline = Instant::now() + HELLO_TIMEOUT;
            }
            () = tokio::time::sleep_until(deadline) => return Err(Status::unavailable("no answer to Hello")),
        }
    };
    let incoming = response.map_err(cause_of)?.into_inner();
    Ok(Held {
        incoming,
        assembler: Assembler::default(),
        _line: line,
    }
    .boxed())
}

/// Splits large messages into parts. `sent` is notified of each part of the first message, Hello,
/// and is dropped after it: a large Hello takes time, and is in flight for as long as parts are
/// sent.
fn in_parts(outgoing: Outgoing, sent: watch::Sender<()>) -> Outgoing {
    let mut sent = Some(sent);
    let parts = move |message: v1::WorkerMessage| {
        let hello_sent = sent.take();
        let part_leaves = move |_: &v1::WorkerMessage| {
            if let Some(sent) = &hello_sent {
                sent.send_replace(());
            }
        };
        futures::stream::iter(cut(message).inspect(part_leaves))
    };
    outgoing.flat_map(parts).boxed()
}

/// The incoming messages of a connection, and the connection.
struct Held {
    incoming: Streaming<v1::ControllerMessage>,
    assembler: Assembler,
    _line: ClientConnection,
}

impl Stream for Held {
    type Item = Result<v1::ControllerMessage, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let message = match ready!(self.incoming.poll_next_unpin(context)) {
                Some(Ok(message)) => message,
                end => return Poll::Ready(end),
            };
            match self.assembler.take(message) {
                Ok(Some(whole)) => return Poll::Ready(Some(Ok(whole))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(Status::internal(error.to_string())))),
            }
        }
    }
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(HELLO_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
}
