//! How a controller is reached: a line that carries what is said, both ways, in order.
//!
//! Owns: the trait, and gRPC as the way it is done. Does not own: what is said (`session`),
//! dialling again.
//! Rule: a line that ends says so; nothing is said again by itself on another.

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
/// Time in which a controller must answer Hello, once its last part has left.
const HELLO_TIMEOUT: Duration = Duration::from_secs(3);
/// Pings that find a dead line.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);

pub type Outgoing = BoxStream<'static, v1::WorkerMessage>;
/// What a controller says; after an error, or without one, it ends with the line.
pub type Incoming = BoxStream<'static, Result<v1::ControllerMessage, Status>>;
/// Gives what is said, from Hello on; called once, when there is a connection.
pub type Begin = Box<dyn FnOnce() -> Outgoing + Send>;

#[async_trait]
pub trait Dial: Send + Sync {
    /// Connects to `http://host:port`, or `https://`, and opens a session. An error is the
    /// controller's refusal, or why there is no line; dropped, the line is given up.
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
    let mut answer = client.session(outgoing).boxed();
    let mut deadline = Instant::now() + HELLO_TIMEOUT;
    let mut hello_is_sent = false;
    let answer = loop {
        tokio::select! {
            answer = &mut answer => break answer,
            moved = hello_parts.changed(), if !hello_is_sent => {
                hello_is_sent = moved.is_err();
                deadline = Instant::now() + HELLO_TIMEOUT;
            }
            () = tokio::time::sleep_until(deadline) => return Err(Status::unavailable("no answer to Hello")),
        }
    };
    let incoming = answer.map_err(cause_of)?.into_inner();
    Ok(Held {
        incoming,
        assembler: Assembler::default(),
        _line: line,
    }
    .boxed())
}

/// Large messages as their parts. `sent` hears of each part of the first one, Hello, and is dropped
/// after it: a large one takes its time, and is on its way for as long as parts leave.
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

/// What comes over a line, and the line.
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
