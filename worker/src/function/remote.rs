//! A function in a server that the user runs.
//!
//! Owns: one exchange per call over Arrow Flight. Does not own: the connection's security
//! (`streamctl_engine::security`).
//! Rule: the rows of a call end only after the last one. If a call breaks off, its stream stays open
//! until the server's deadline or the connection's end, so that a server never works on half a
//! window.

use super::error::Phase;
use super::exchange::check_keys;
use super::frame::{self, Order, RaisedHead, ResultKind};
use super::log::{Level, Log, LogLine};
use super::{
    Call, Code, DeadLetterRows, DeadRows, Function, FunctionError, Input, Limits, NoRoom, Outcome,
    Published, ResultRoom,
};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{FlightData, FlightDescriptor};
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::future::ready;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use streamctl_engine::calls::noted;
use streamctl_engine::security::dial::flight_url;
use streamctl_engine::security::{ClientConnection, Dialer};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code as StatusCode, Request, Status};

/// How a call that hangs names the server.
const SERVICE: &str = "the function's server";

/// Largest message in either direction.
pub const SERVER_MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Deadline that the server learns: a call's rows come as long as its window is open.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Batches between the query and the connection.
const QUEUE_BATCHES: usize = 2;
/// An idle connection is probed this often, so that a server that is gone is noticed.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a function server is.
#[derive(Clone)]
pub struct RemoteSettings {
    /// `grpc://host:port` or `grpc+tls://host:port`.
    pub url: String,
    /// Trusted authorities, and what is shown to the server: not the worker's own token.
    pub dialer: Dialer,
    pub connect_timeout: Duration,
}

impl std::fmt::Debug for RemoteSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteSettings")
            .field("url", &self.url)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

/// A connection to a function server.
pub struct Remote {
    url: String,
    client: FlightServiceClient<ClientConnection>,
    /// The function's name.
    name: String,
    limits: Limits,
    is_usable: bool,
}

/// JSON beside the rows of an answer.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Note {
    Done {
        result: ResultKind,
        #[serde(default)]
        keys: Option<u64>,
    },
    Dead {
        reasons: Vec<String>,
        /// A row per line.
        rows_json: String,
    },
    Log {
        level: Level,
        text: String,
    },
}

/// Why a call broke off.
enum Broken {
    Status(Status),
    Protocol(String),
    ResultTooLarge { bytes: u64 },
    NoRoom(NoRoom),
}

/// What came back.
#[derive(Default)]
struct Answer {
    /// The rows, as an IPC stream.
    stream: Vec<u8>,
    /// Of dead letters.
    bytes: u64,
    done: Option<ResultKind>,
    dead: Vec<DeadRows>,
    room: ResultRoom,
}

impl Remote {
    /// Connects to the server.
    ///
    /// # Errors
    /// There is none, or it is not trusted.
    pub async fn connect(
        settings: &RemoteSettings,
        code: &Code,
        limits: &Limits,
    ) -> Result<Self, FunctionError> {
        let connect_timeout = settings.connect_timeout;
        let tune = |endpoint: Endpoint| {
            endpoint
                .connect_timeout(connect_timeout)
                .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .tcp_nodelay(true)
        };
        let url = flight_url(&settings.url);
        let connecting = settings.dialer.connect(&url, tune);
        let failed = |problem: String| FunctionError::NotReached {
            url: settings.url.clone(),
            problem,
        };
        let connection = timeout(connect_timeout, connecting)
            .await
            .map_err(|_| failed(format!("no connection within {connect_timeout:?}")))?
            .map_err(|status| failed(status.message().to_owned()))?;
        let client = FlightServiceClient::new(connection)
            .max_decoding_message_size(SERVER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(SERVER_MESSAGE_BYTES_MAX);
        Ok(Self {
            url: settings.url.clone(),
            client,
            name: code.name.clone(),
            limits: limits.clone(),
            is_usable: true,
        })
    }

    /// The message that begins a call.
    fn command(&self, call: &Call) -> FlightDescriptor {
        #[derive(serde::Serialize)]
        struct Named<'a> {
            #[serde(flatten)]
            order: Order<'a>,
            name: &'a str,
        }
        let command = Named {
            order: Order::Call {
                batch_id: call.batch_id,
                window_start_ms: call.window.start_ms,
                window_end_ms: call.window.end_ms,
                attempt: call.attempt,
                job: call.job.as_str(),
                lookups: BTreeMap::new(),
                empty: call.empty,
                by: &call.by,
            },
            name: &self.name,
        };
        FlightDescriptor::new_cmd(serde_json::to_vec(&command).unwrap_or_default())
    }

    fn explain(&self, broken: Broken, log: Vec<LogLine>) -> FunctionError {
        let url = self.url.clone();
        let limit = self.limits.memory_bytes;
        let status = match broken {
            Broken::Status(status) => status,
            Broken::Protocol(problem) => return FunctionError::Protocol { problem, log },
            Broken::ResultTooLarge { bytes } => {
                return FunctionError::ResultTooLarge { bytes, limit };
            }
            Broken::NoRoom(error) => return FunctionError::NoRoom(error),
        };
        if let Some(head) = raised(status.message()) {
            return FunctionError::Raised {
                raised: head.into(),
                phase: Phase::Call,
                log,
            };
        }
        let problem = status.message().to_owned();
        match status.code() {
            StatusCode::Unavailable => FunctionError::NotReached { url, problem },
            code => FunctionError::Server {
                url,
                problem: format!("{code:?}: {problem}"),
            },
        }
    }
}

/// The exception in a server's message. A Flight server adds text around what was raised.
fn raised(message: &str) -> Option<RaisedHead> {
    let start = message.find('{')?;
    let mut values = serde_json::Deserializer::from_str(&message[start..]).into_iter();
    values.next()?.ok()
}

/// The batches of a call, as they are sent. `None` in the queue is their end: without it the stream
/// stays open.
fn outgoing(
    queue: Receiver<Option<RecordBatch>>,
) -> impl Stream<Item = Result<RecordBatch, FlightError>> {
    ReceiverStream::new(queue)
        .chain(stream::pending())
        .take_while(|batch| ready(batch.is_some()))
        .filter_map(|batch| ready(batch.map(Ok)))
}

/// The messages of a call. A type with a name: the compiler does not see that a call with a boxed
/// stream can be sent between threads.
struct Outgoing(BoxStream<'static, FlightData>);

impl Stream for Outgoing {
    type Item = FlightData;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<FlightData>> {
        self.0.poll_next_unpin(context)
    }
}

/// Queues all rows. Returns their number and bytes.
async fn send(
    queue: Sender<Option<RecordBatch>>,
    input: Input<'_>,
    bytes_max: u64,
) -> Result<(u64, u64), FunctionError> {
    let mut rows = 0;
    let mut bytes = 0;
    while let Some(batch) = input.next().await {
        let batch = batch.map_err(FunctionError::Input)?;
        rows += batch.num_rows() as u64;
        bytes += batch.get_array_memory_size() as u64;
        if bytes > bytes_max {
            let limit = bytes_max;
            return Err(FunctionError::InputTooLarge { bytes, limit });
        }
        if batch.num_rows() > 0 && queue.send(Some(batch)).await.is_err() {
            // The exchange has ended; its answer has the reason.
            return std::future::pending().await;
        }
    }
    if queue.send(None).await.is_err() {
        return std::future::pending().await;
    }
    Ok((rows, bytes))
}

async fn receive(
    mut client: FlightServiceClient<ClientConnection>,
    request: Outgoing,
    call: &Call,
    bytes_max: u64,
    log: &Log,
) -> Result<Answer, Broken> {
    let mut request = Request::new(request);
    request.set_timeout(EXCHANGE_TIMEOUT);
    let response = client.do_exchange(request).await.map_err(Broken::Status)?;
    let mut messages = response.into_inner();
    let mut answer = Answer {
        room: ResultRoom::new(call.memory.clone()),
        ..Answer::default()
    };
    while let Some(message) = messages.try_next().await.map_err(Broken::Status)? {
        if !message.app_metadata.is_empty() {
            answer.note(&message.app_metadata, call, log)?;
        }
        if !message.data_header.is_empty() {
            frame::append(&mut answer.stream, &message.data_header, &message.data_body);
        }
        let part = message.data_header.len() + message.data_body.len();
        answer.room.take(part).map_err(Broken::NoRoom)?;
        let bytes = answer.bytes + answer.stream.len() as u64;
        if bytes > bytes_max {
            return Err(Broken::ResultTooLarge { bytes });
        }
    }
    Ok(answer)
}

impl Answer {
    fn note(&mut self, json: &[u8], call: &Call, log: &Log) -> Result<(), Broken> {
        let note = serde_json::from_slice(json)
            .map_err(|error| Broken::Protocol(format!("a note that is none: {error}")))?;
        match note {
            Note::Done { result, keys } => {
                check_keys(call, keys).map_err(Broken::Protocol)?;
                self.done = Some(result);
            }
            Note::Log { level, text } => log.ring().add_text(level, &text),
            Note::Dead { reasons, rows_json } => {
                self.bytes += rows_json.len() as u64;
                let rows = rows_json.lines().count();
                if rows != reasons.len() {
                    let problem = format!("{rows} dead letters with {} reasons", reasons.len());
                    return Err(Broken::Protocol(problem));
                }
                self.dead.push(DeadRows {
                    reasons,
                    rows: DeadLetterRows::JsonLines(rows_json),
                });
            }
        }
        Ok(())
    }

    fn result(&mut self) -> Result<Option<(SchemaRef, Vec<RecordBatch>)>, Broken> {
        let protocol = |problem: &str| Err(Broken::Protocol(problem.to_owned()));
        match (self.done, self.stream.is_empty()) {
            (Some(ResultKind::None), true) => return Ok(None),
            (Some(ResultKind::None), false) => return protocol("rows of a result of None"),
            (None | Some(ResultKind::Frame), true) => {
                return protocol("it ended without rows and without a result of None");
            }
            (None | Some(ResultKind::Frame), false) => {}
        }
        frame::end(&mut self.stream);
        let decoded = frame::decode(std::mem::take(&mut self.stream));
        let (schema, mut batches) = decoded.map_err(|error| Broken::Protocol(error.to_string()))?;
        batches.retain(|batch| batch.num_rows() > 0);
        Ok(Some((schema, batches)))
    }
}

#[async_trait]
impl Function for Remote {
    async fn call(
        &mut self,
        call: Call,
        schema: SchemaRef,
        input: Input<'_>,
    ) -> Result<Outcome, FunctionError> {
        if !call.lookups.is_empty() {
            return Err(FunctionError::NotForServers("lookups"));
        }
        self.is_usable = false;
        let limit = self.limits.timeout;
        let bytes_max = self.limits.memory_bytes;
        let log = Log::default();
        let (queue, queued) = channel(QUEUE_BATCHES);
        let encoded = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .with_flight_descriptor(Some(self.command(&call)))
            .build(outgoing(queued).boxed());
        // A batch that cannot be encoded leaves the stream open, too.
        let request = encoded.flat_map(|message| match message {
            Ok(message) => stream::once(ready(message)).left_stream(),
            Err(_) => stream::pending().right_stream(),
        });
        let sending = send(queue, input, bytes_max).boxed();
        let client = self.client.clone();
        let mut answer = receive(client, Outgoing(request.boxed()), &call, bytes_max, &log).boxed();
        let early = tokio::select! {
            sent = sending => Ok(sent?),
            early = &mut answer => Err(early),
        };
        let begun = Instant::now();
        let (sent, answered) = match early {
            Ok(sent) => match timeout(limit, noted(SERVICE, "DoExchange", answer)).await {
                Ok(answered) => (sent, answered),
                Err(_) => {
                    return Err(FunctionError::TimeLimit {
                        limit,
                        phase: Phase::Call,
                        log: log.ring().take().lines,
                    });
                }
            },
            Err(Ok(_)) => {
                let problem = "it answered before the last row".into();
                return Err(FunctionError::Protocol {
                    problem,
                    log: log.ring().take().lines,
                });
            }
            Err(Err(broken)) => ((0, 0), Err(broken)),
        };
        let kept = log.ring().take();
        let mut answer = match answered {
            Ok(answer) => answer,
            Err(broken) => {
                let error = self.explain(broken, kept.lines);
                self.is_usable = error.raised().is_some();
                return Err(error);
            }
        };
        let result_bytes = answer.stream.len() as u64;
        let result = match answer.result() {
            Ok(result) => result,
            Err(broken) => return Err(self.explain(broken, kept.lines)),
        };
        self.is_usable = true;
        let (rows_in, bytes_in) = sent;
        Ok(Outcome {
            result,
            result_bytes,
            room: answer.room,
            dead: answer.dead,
            log: kept.lines,
            log_lines_dropped: kept.dropped,
            rows_in,
            bytes_in,
            elapsed: begun.elapsed(),
            peak_memory: None,
        })
    }

    async fn published(&mut self, _: Published) -> Result<Vec<LogLine>, FunctionError> {
        Err(FunctionError::NotForServers("on_published"))
    }

    fn is_usable(&self) -> bool {
        self.is_usable
    }

    async fn close(self: Box<Self>) {}
}

#[cfg(test)]
mod tests;
