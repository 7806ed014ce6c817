//! The protocol over a connection: which frame follows which.
//!
//! Owns: sending a call while it is answered, and the limits of both. Does not own: the bytes of a
//! frame ([`super::frame`]), the process behind the connection.
//! Rule: an exchange that is not complete leaves the connection unusable.

use super::frame::{
    self, Answer, BodyError, FrameError, Order, PROTOCOL, RaisedHead, Ready, Received, ResultKind,
};
use super::launch::Launch;
use super::log::{Log, plain};
use super::sandbox::Protection;
use super::{
    Call, Code, DeadLetterRows, DeadRows, Input, InputError, NoRoom, Published, ResultRoom,
};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;
use streamctl_proto::{JobName, LookupVersion};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout};

/// Most characters of the version of Python that are kept.
const VERSION_CHARS_MAX: usize = 64;

/// Why an exchange is not complete.
#[derive(Debug)]
pub enum Broken {
    /// The other end is closed.
    Closed,
    Raised(RaisedHead),
    NotLaunched {
        step: String,
        problem: String,
    },
    Protocol(String),
    TimeLimit,
    /// More memory than allowed is used.
    Memory,
    Input(InputError),
    InputTooLarge {
        bytes: u64,
    },
    ResultTooLarge {
        bytes: u64,
    },
    Encode(ArrowError),
    NoRoom(NoRoom),
}

impl From<NoRoom> for Broken {
    fn from(error: NoRoom) -> Self {
        Self::NoRoom(error)
    }
}

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Self {
        Self::Closed
    }
}

impl From<FrameError> for Broken {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(_) | FrameError::Cut => Self::Closed,
            error => Self::Protocol(error.to_string()),
        }
    }
}

impl From<BodyError> for Broken {
    fn from(error: BodyError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// What one call may take.
#[derive(Clone, Copy, Debug)]
pub struct CallLimits {
    pub timeout: Duration,
    /// Of the input, and of the result.
    pub bytes: u64,
}

/// What was sent in a call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    pub rows: u64,
    pub bytes: u64,
}

/// What came back.
#[derive(Debug, Default)]
pub struct Returned {
    pub result: Option<(SchemaRef, Vec<RecordBatch>)>,
    pub result_bytes: u64,
    pub room: ResultRoom,
    pub dead: Vec<DeadRows>,
}

/// A connection to a runner.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    log: Log,
    /// The lookups that the runner has.
    lookups: BTreeMap<String, LookupVersion>,
    /// No exchange is incomplete.
    is_usable: bool,
}

impl Connection {
    pub fn new(stream: UnixStream, log: Log) -> Self {
        Self {
            stream,
            log,
            lookups: BTreeMap::new(),
            is_usable: true,
        }
    }

    pub fn is_usable(&self) -> bool {
        self.is_usable
    }

    /// Sends the launcher its settings.
    pub async fn launch(&mut self, launch: &Launch) -> Result<Protection, Broken> {
        self.is_usable = false;
        let bytes = frame::head_bytes(launch, 0).map_err(std::io::Error::from)?;
        self.stream.write_all(&bytes).await?;
        let received = frame::read(&mut self.stream, 0).await?;
        match received.ok_or(Broken::Closed)?.head {
            Answer::Launched { protection } => {
                self.is_usable = true;
                Ok(protection)
            }
            Answer::NotLaunched { step, problem } => Err(Broken::NotLaunched { step, problem }),
            other => Err(unexpected(&other, "at its start")),
        }
    }

    /// Has the runner import the code.
    pub async fn open(&mut self, code: &Code, job: &JobName) -> Result<Ready, Broken> {
        self.is_usable = false;
        let folder = std::path::absolute(&code.folder)?;
        let folder = folder.to_string_lossy();
        let order = Order::Open {
            protocol: PROTOCOL,
            folder: &folder,
            module: &code.module,
            name: &code.name,
            frame: code.frame,
            job: job.as_str(),
            on_published: code.on_published.as_deref(),
        };
        // If it is closed already, the reason can still be read.
        let _ = frame::write(&mut self.stream, &order, &[]).await;
        let answer = next(&mut self.stream, 0, &self.log).await?.head;
        let ready = match answer {
            Answer::Ready(ready) => Ready {
                python: plain(
                    &ready
                        .python
                        .chars()
                        .take(VERSION_CHARS_MAX)
                        .collect::<String>(),
                ),
                ..ready
            },
            Answer::Error(raised) => return Err(Broken::Raised(raised)),
            Answer::NotLaunched { step, problem } => {
                return Err(Broken::NotLaunched { step, problem });
            }
            other => return Err(unexpected(&other, "to open")),
        };
        if ready.protocol != PROTOCOL {
            let version = ready.protocol;
            return Err(Broken::Protocol(format!("it speaks version {version}")));
        }
        self.is_usable = true;
        Ok(ready)
    }

    /// Calls the function. Returns also how long it took after its last row.
    pub async fn call(
        &mut self,
        call: &Call,
        schema: &SchemaRef,
        input: Input<'_>,
        limits: CallLimits,
    ) -> Result<(Sent, Returned, Duration), Broken> {
        self.is_usable = false;
        let (mut reader, mut writer) = self.stream.split();
        let sending = send(&mut writer, &mut self.lookups, call, schema, input, limits);
        let mut answer = pin!(receive(&mut reader, call, schema, limits.bytes, &self.log));
        let sent = tokio::select! {
            sent = sending => match sent {
                // Its last frame may have the reason.
                Err(Broken::Closed) => {
                    let last = timeout(limits.timeout, answer).await;
                    return Err(last.ok().and_then(Result::err).unwrap_or(Broken::Closed));
                }
                sent => sent?,
            },
            early = &mut answer => {
                early?;
                return Err(Broken::Protocol("it answered before the last row".into()));
            }
        };
        let begun = Instant::now();
        let returned = timeout(limits.timeout, answer).await;
        let returned = returned.map_err(|_| Broken::TimeLimit)?;
        // An exception of the user is a complete answer.
        self.is_usable = matches!(returned, Ok(_) | Err(Broken::Raised(_)));
        Ok((sent, returned?, begun.elapsed()))
    }

    /// Reports a published epoch.
    pub async fn published(
        &mut self,
        published: &Published,
        limit: Duration,
    ) -> Result<(), Broken> {
        self.is_usable = false;
        let order = Order::Published(published);
        let exchange = async {
            frame::write(&mut self.stream, &order, &[]).await?;
            match next(&mut self.stream, 0, &self.log).await?.head {
                Answer::Done { .. } => Ok(()),
                Answer::Error(raised) => Err(Broken::Raised(raised)),
                other => Err(unexpected(&other, "to published")),
            }
        };
        let answered = timeout(limit, exchange).await;
        let answered = answered.map_err(|_| Broken::TimeLimit)?;
        self.is_usable = matches!(answered, Ok(()) | Err(Broken::Raised(_)));
        answered
    }

    /// Sends the end of the stream.
    pub async fn close(&mut self) {
        self.is_usable = false;
        let _ = self.stream.shutdown().await;
    }
}

async fn send(
    writer: &mut WriteHalf<'_>,
    known: &mut BTreeMap<String, LookupVersion>,
    call: &Call,
    schema: &SchemaRef,
    input: Input<'_>,
    limits: CallLimits,
) -> Result<Sent, Broken> {
    for (name, rows) in &call.lookups {
        if known.get(name) == Some(&rows.version) {
            continue;
        }
        let body = frame::encode(&rows.schema, &rows.batches).map_err(Broken::Encode)?;
        fits(body.len() as u64, limits)?;
        let version = rows.version.as_str();
        write(writer, &Order::Lookup { name, version }, &body, limits).await?;
        known.insert(name.clone(), rows.version.clone());
    }
    let versions = call.lookups.iter();
    let order = Order::Call {
        batch_id: call.batch_id,
        window_start_ms: call.window.start_ms,
        window_end_ms: call.window.end_ms,
        attempt: call.attempt,
        job: call.job.as_str(),
        lookups: versions
            .map(|(name, rows)| (name.as_str(), rows.version.as_str()))
            .collect(),
        empty: call.empty,
        by: &call.by,
    };
    write(writer, &order, &[], limits).await?;
    let mut sent = Sent::default();
    while let Some(batch) = input.next().await {
        let batch = batch.map_err(Broken::Input)?;
        if batch.num_rows() == 0 {
            continue;
        }
        let rows = batch.num_rows() as u64;
        send_rows(writer, schema, &[batch], &mut sent, limits).await?;
        sent.rows += rows;
    }
    if sent.rows == 0 {
        send_rows(writer, schema, &[], &mut sent, limits).await?;
    }
    write(writer, &Order::End, &[], limits).await?;
    Ok(sent)
}

async fn send_rows(
    writer: &mut WriteHalf<'_>,
    schema: &Schema,
    batches: &[RecordBatch],
    sent: &mut Sent,
    limits: CallLimits,
) -> Result<(), Broken> {
    let body = frame::encode(schema, batches).map_err(Broken::Encode)?;
    sent.bytes += body.len() as u64;
    fits(sent.bytes, limits)?;
    write(writer, &Order::Rows, &body, limits).await
}

fn fits(bytes: u64, limits: CallLimits) -> Result<(), Broken> {
    match bytes > limits.bytes {
        true => Err(Broken::InputTooLarge { bytes }),
        false => Ok(()),
    }
}

/// A runner that does not read is stuck.
async fn write<W: AsyncWrite + Unpin>(
    writer: &mut W,
    order: &Order<'_>,
    body: &[u8],
    limits: CallLimits,
) -> Result<(), Broken> {
    let written = timeout(limits.timeout, frame::write(writer, order, body)).await;
    written.map_err(|_| Broken::TimeLimit)??;
    Ok(())
}

/// The next frame that is no line of the log.
async fn next<R: AsyncRead + Unpin>(
    reader: &mut R,
    body_max: u64,
    log: &Log,
) -> Result<Received, Broken> {
    loop {
        let received = frame::read(reader, body_max).await?;
        let received = received.ok_or(Broken::Closed)?;
        match &received.head {
            Answer::Log { level, text } => log.ring().add_text(*level, text),
            _ => return Ok(received),
        }
    }
}

async fn receive(
    reader: &mut ReadHalf<'_>,
    call: &Call,
    input: &SchemaRef,
    bytes_max: u64,
    log: &Log,
) -> Result<Returned, Broken> {
    let mut returned = Returned {
        room: ResultRoom::new(call.memory.clone()),
        ..Returned::default()
    };
    let mut bytes = 0;
    loop {
        let received = next(reader, bytes_max, log).await?;
        bytes += received.body.len() as u64;
        if bytes > bytes_max {
            return Err(Broken::ResultTooLarge { bytes });
        }
        returned.room.take(received.body.len())?;
        match received.head {
            Answer::Rows => returned.add_rows(received.body, call)?,
            Answer::Dead { reasons } => returned.add_dead(reasons, received.body, input)?,
            Answer::Done { result, rows, keys } => {
                check_keys(call, keys).map_err(Broken::Protocol)?;
                returned.check(result, rows)?;
                return Ok(returned);
            }
            Answer::Error(raised) => return Err(Broken::Raised(raised)),
            other => return Err(unexpected(&other, "to a call")),
        }
    }
}

/// A runner that does not know keys would give the function the rows of all of them.
pub fn check_keys(call: &Call, keys: Option<u64>) -> Result<(), String> {
    match call.by.is_empty() == keys.is_none() {
        true => Ok(()),
        false if keys.is_none() => Err("it is too old to call the function per key".to_owned()),
        false => Err("it called the function per key".to_owned()),
    }
}

impl Returned {
    fn add_rows(&mut self, body: Vec<u8>, call: &Call) -> Result<(), Broken> {
        self.result_bytes += body.len() as u64;
        let (schema, batches) = frame::decode(body)?;
        let (first, all) = self.result.get_or_insert_with(|| (schema.clone(), vec![]));
        // Calls of several keys may return several types; each must fit the job's columns.
        if call.by.is_empty() && first.fields() != schema.fields() {
            let problem = "rows of one result have different schemas";
            return Err(Broken::Protocol(problem.into()));
        }
        all.extend(batches.into_iter().filter(|batch| batch.num_rows() > 0));
        Ok(())
    }

    fn add_dead(
        &mut self,
        reasons: Vec<String>,
        body: Vec<u8>,
        input: &SchemaRef,
    ) -> Result<(), Broken> {
        let not_input =
            |error: &dyn std::fmt::Display| Broken::Protocol(format!("dead letters: {error}"));
        let (schema, batches) = frame::decode(body)?;
        let all = arrow::compute::concat_batches(&schema, &batches);
        let all = all.map_err(|error| not_input(&error))?;
        if all.num_rows() != reasons.len() {
            let problem = format!("{} rows with {} reasons", all.num_rows(), reasons.len());
            return Err(not_input(&problem));
        }
        let named_alike = schema.fields().len() == input.fields().len()
            && schema
                .fields()
                .iter()
                .zip(input.fields())
                .all(|(one, other)| one.name() == other.name());
        if !named_alike {
            return Err(not_input(&"their columns are not those of the input"));
        }
        let batch = RecordBatch::try_new(input.clone(), all.columns().to_vec());
        let batch = batch.map_err(|error| not_input(&error))?;
        self.dead.push(DeadRows {
            reasons,
            rows: DeadLetterRows::Batch(batch),
        });
        Ok(())
    }

    /// Whether what was announced has come.
    fn check(&self, result: ResultKind, announced: Option<u64>) -> Result<(), Broken> {
        let rows = self.result.iter().flat_map(|(_, batches)| batches);
        let rows: u64 = rows.map(|batch| batch.num_rows() as u64).sum();
        let problem = match (result, &self.result) {
            (ResultKind::Frame, None) => "a frame without rows of any schema".to_owned(),
            (ResultKind::None, Some(_)) => "rows of no frame".to_owned(),
            _ => match announced.filter(|announced| *announced != rows) {
                Some(announced) => format!("{rows} rows of {announced}"),
                None => return Ok(()),
            },
        };
        Err(Broken::Protocol(problem))
    }
}

fn unexpected(answer: &Answer, place: &str) -> Broken {
    let kind = match answer {
        Answer::Launched { .. } => "launched",
        Answer::NotLaunched { .. } => "not_launched",
        Answer::Ready(_) => "ready",
        Answer::Log { .. } => "log",
        Answer::Rows => "rows",
        Answer::Dead { .. } => "dead",
        Answer::Done { .. } => "done",
        Answer::Error(_) => "error",
    };
    Broken::Protocol(format!("{kind:?} is no answer {place}"))
}
