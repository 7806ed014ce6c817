//! The frames between a worker and a runner.
//!
//! Owns: their bytes, the heads' JSON, rows as Arrow IPC streams. Does not own: which frame may
//! follow which ([`super::exchange`]).
//! Rule: a length that was announced is no reason to allocate it, and a body is looked through
//! before it is decoded: it has no compressed buffers and not more rows than bits.

use super::log::Level;
use super::sandbox::Protection;
use super::{Frame, Published};
use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use arrow::ipc::{Message, MessageHeader, root_as_message};
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read;
use std::panic::AssertUnwindSafe;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The version of the protocol.
pub const PROTOCOL: u32 = 1;
/// Most bytes of a head.
pub const HEAD_BYTES_MAX: u32 = 1 << 20;
/// Length of the head, and of the body.
const PREFIX_BYTES: usize = 12;
/// Most bytes that are allocated for a body before any of it has arrived.
const FIRST_BYTES_MAX: usize = 1 << 20;
/// In front of each message of an IPC stream.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// Of the messages of an IPC stream.
const ALIGNMENT: usize = 8;

/// What a worker sends.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Order<'a> {
    Open {
        protocol: u32,
        folder: &'a str,
        #[serde(flatten)]
        module: &'a super::Module,
        name: &'a str,
        frame: Option<Frame>,
        job: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        on_published: Option<&'a str>,
    },
    Lookup {
        name: &'a str,
        version: &'a str,
    },
    Call {
        batch_id: i64,
        window_start_ms: i64,
        window_end_ms: i64,
        attempt: u32,
        job: &'a str,
        lookups: BTreeMap<&'a str, &'a str>,
        empty: bool,
        /// One call for each value of these columns; empty: one call.
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        by: &'a [String],
    },
    Rows,
    End,
    Published(&'a Published),
}

/// What a child sends. The first is of the launcher, the others are of the runner.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Answer {
    Launched {
        protection: Protection,
    },
    NotLaunched {
        step: String,
        problem: String,
    },
    Ready(Ready),
    Log {
        level: Level,
        text: String,
    },
    Rows,
    Dead {
        reasons: Vec<String>,
    },
    Done {
        result: ResultKind,
        #[serde(default)]
        rows: Option<u64>,
        /// Calls per key; `None`: the rows were given to one call.
        #[serde(default)]
        keys: Option<u64>,
    },
    Error(RaisedHead),
}

/// The function was found.
#[derive(Clone, Debug, Deserialize)]
pub struct Ready {
    pub protocol: u32,
    #[serde(default)]
    pub frame: Option<Frame>,
    #[serde(default)]
    pub python: String,
    /// Number of the function's parameters.
    #[serde(default)]
    pub parameters: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResultKind {
    Frame,
    None,
}

/// An exception of the user's code.
#[derive(Debug, Deserialize)]
pub struct RaisedHead {
    pub kind: String,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub file: Option<String>,
    #[serde(default)]
    pub line: Option<u32>,
    #[serde(default)]
    pub traceback: String,
}

/// A frame that was received.
#[derive(Debug)]
pub struct Received<H = Answer> {
    pub head: H,
    pub body: Vec<u8>,
}

/// Bytes that are no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the connection was closed in the middle of a frame")]
    Cut,
    #[error("a head of {0} bytes; the most is {HEAD_BYTES_MAX}")]
    HeadTooLarge(u32),
    #[error("a body of {bytes} bytes; the most is {max}")]
    BodyTooLarge { bytes: u64, max: u64 },
    #[error("a head that is no message of the protocol: {0}")]
    NotAMessage(#[from] serde_json::Error),
}

/// A body that is not a valid IPC stream of rows.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("its rows are no Arrow IPC stream: {0}")]
    NotAStream(String),
    #[error("its rows have compressed buffers")]
    Compressed,
    #[error("a batch that announces {rows} rows in {bytes} bytes")]
    MoreRowsThanBits { rows: i64, bytes: usize },
    #[error("buffers that overlap, or that lie outside of their batch")]
    Outside,
    #[error("its rows cannot be decoded: {0}")]
    Arrow(#[from] ArrowError),
    #[error("its rows cannot be decoded")]
    Panicked,
}

struct Lengths {
    head: usize,
    body: u64,
}

fn lengths(prefix: [u8; PREFIX_BYTES], body_max: u64) -> Result<Lengths, FrameError> {
    let [a, b, c, d, body @ ..] = prefix;
    let head = u32::from_be_bytes([a, b, c, d]);
    let body = u64::from_be_bytes(body);
    if head > HEAD_BYTES_MAX {
        return Err(FrameError::HeadTooLarge(head));
    }
    if body > body_max {
        return Err(FrameError::BodyTooLarge {
            bytes: body,
            max: body_max,
        });
    }
    Ok(Lengths {
        head: head as usize,
        body,
    })
}

/// Prefix and head of a frame.
pub fn head_bytes(head: &impl Serialize, body_bytes: usize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = vec![0; PREFIX_BYTES];
    serde_json::to_writer(&mut bytes, head)?;
    let head_bytes = u32::try_from(bytes.len() - PREFIX_BYTES).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&head_bytes.to_be_bytes());
    bytes[4..PREFIX_BYTES].copy_from_slice(&(body_bytes as u64).to_be_bytes());
    Ok(bytes)
}

/// Writes a frame.
pub async fn write<W: AsyncWrite + Unpin>(
    writer: &mut W,
    head: &Order<'_>,
    body: &[u8],
) -> std::io::Result<()> {
    writer.write_all(&head_bytes(head, body.len())?).await?;
    writer.write_all(body).await
}

/// Reads a frame; `None` at the end of the stream.
pub async fn read<R: AsyncRead + Unpin>(
    reader: &mut R,
    body_max: u64,
) -> Result<Option<Received>, FrameError> {
    let mut prefix = [0; PREFIX_BYTES];
    if reader.read(&mut prefix[..1]).await? == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut prefix[1..]).await.map_err(cut)?;
    let lengths = lengths(prefix, body_max)?;
    let head = read_some(reader, lengths.head as u64).await?;
    let head = serde_json::from_slice(&head)?;
    let body = read_some(reader, lengths.body).await?;
    Ok(Some(Received { head, body }))
}

/// Reads a frame without a body, and not one byte more.
pub fn read_blocking<H: serde::de::DeserializeOwned>(
    reader: &mut impl Read,
) -> Result<H, FrameError> {
    let mut prefix = [0; PREFIX_BYTES];
    reader.read_exact(&mut prefix).map_err(cut)?;
    let mut head = vec![0; lengths(prefix, 0)?.head];
    reader.read_exact(&mut head).map_err(cut)?;
    Ok(serde_json::from_slice(&head)?)
}

fn cut(error: std::io::Error) -> FrameError {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => FrameError::Cut,
        _ => FrameError::Io(error),
    }
}

/// Memory grows with what arrives.
async fn read_some<R: AsyncRead + Unpin>(
    reader: &mut R,
    bytes: u64,
) -> Result<Vec<u8>, FrameError> {
    let first = FIRST_BYTES_MAX.min(usize::try_from(bytes).unwrap_or(usize::MAX));
    let mut read = Vec::with_capacity(first);
    let mut limited = reader.take(bytes);
    while (read.len() as u64) < bytes {
        if limited.read_buf(&mut read).await? == 0 {
            return Err(FrameError::Cut);
        }
    }
    Ok(read)
}

/// Rows as an IPC stream.
pub fn encode(schema: &Schema, batches: &[RecordBatch]) -> Result<Vec<u8>, ArrowError> {
    let bytes: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
    let mut writer = StreamWriter::try_new(Vec::with_capacity(bytes + 1_024), schema)?;
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    writer.into_inner()
}

/// The rows of an IPC stream. Their buffers stay where they are.
pub fn decode(body: Vec<u8>) -> Result<(SchemaRef, Vec<RecordBatch>), BodyError> {
    look_through(&body)?;
    // A library's assertion about its input must not end the task.
    std::panic::catch_unwind(AssertUnwindSafe(|| decode_all(body)))
        .map_err(|_| BodyError::Panicked)?
}

fn decode_all(body: Vec<u8>) -> Result<(SchemaRef, Vec<RecordBatch>), BodyError> {
    let mut rest = Buffer::from_vec(body);
    let mut decoder = StreamDecoder::new();
    let mut batches = Vec::new();
    while !rest.is_empty() {
        batches.extend(decoder.decode(&mut rest)?);
    }
    decoder.finish()?;
    let no_schema = || BodyError::NotAStream("it has no schema".into());
    let schema = decoder.schema().ok_or_else(no_schema)?;
    Ok((schema, batches))
}

/// Appends a message to an IPC stream.
pub fn append(stream: &mut Vec<u8>, metadata: &[u8], body: &[u8]) {
    let padded = metadata.len().next_multiple_of(ALIGNMENT);
    stream.extend_from_slice(&CONTINUATION);
    // What does not fit into a message of Flight does not come here.
    stream.extend_from_slice(&u32::try_from(padded).unwrap_or(u32::MAX).to_le_bytes());
    stream.extend_from_slice(metadata);
    stream.resize(stream.len() + padded - metadata.len(), 0);
    stream.extend_from_slice(body);
}

/// Appends the end of an IPC stream.
pub fn end(stream: &mut Vec<u8>) {
    stream.extend_from_slice(&CONTINUATION);
    stream.extend_from_slice(&[0; 4]);
}

/// Refuses what would take more memory than it has bytes.
fn look_through(body: &[u8]) -> Result<(), BodyError> {
    let broken = |problem: &str| BodyError::NotAStream(problem.to_owned());
    let mut rest = body;
    loop {
        let (prefix, tail) = rest
            .split_first_chunk::<8>()
            .ok_or_else(|| broken("it has no end"))?;
        let [continuation @ .., a, b, c, d] = *prefix;
        if continuation != CONTINUATION {
            return Err(broken("a message without its mark"));
        }
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length == 0 {
            return match tail.is_empty() {
                true => Ok(()),
                false => Err(broken("bytes behind its end")),
            };
        }
        let (metadata, tail) = tail
            .split_at_checked(length)
            .ok_or_else(|| broken("a message without its end"))?;
        let message = check(metadata, body.len())?;
        rest = usize::try_from(message.bodyLength())
            .ok()
            .and_then(|length| tail.get(length..))
            .ok_or_else(|| broken("a batch without its end"))?;
    }
}

/// Checks one message of a stream of so many bytes.
fn check(metadata: &[u8], stream_bytes: usize) -> Result<Message<'_>, BodyError> {
    let broken = |problem: String| BodyError::NotAStream(problem);
    let message = root_as_message(metadata).map_err(|error| broken(error.to_string()))?;
    let dictionary = message.header_as_dictionary_batch();
    let batch = match message.header_type() {
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        MessageHeader::DictionaryBatch => dictionary.and_then(|batch| batch.data()),
        MessageHeader::Schema => None,
        _ => return Err(broken("a message that holds no rows".into())),
    };
    let Some(batch) = batch else {
        return Ok(message);
    };
    if batch.compression().is_some() {
        return Err(BodyError::Compressed);
    }
    let body_bytes = message.bodyLength();
    // What one buffer is to several columns would be written as often.
    let mut left_bytes = body_bytes;
    for buffer in batch.buffers().into_iter().flatten() {
        let end = buffer.offset().checked_add(buffer.length());
        let is_inside = end.is_some_and(|end| end <= body_bytes);
        left_bytes = left_bytes.saturating_sub(buffer.length());
        if buffer.offset() < 0 || buffer.length() < 0 || !is_inside || left_bytes < 0 {
            return Err(BodyError::Outside);
        }
    }
    let rows = batch.length();
    let bits = stream_bytes as u64 * 8;
    match u64::try_from(rows).is_ok_and(|rows| rows <= bits) {
        true => Ok(message),
        false => Err(BodyError::MoreRowsThanBits {
            rows,
            bytes: stream_bytes,
        }),
    }
}

#[cfg(test)]
mod tests;
