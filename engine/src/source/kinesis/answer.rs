//! What a GetRecords response contains, whichever form it has.
//!
//! Owns: the response, its checks, the buffer of payloads. Does not own: the forms ([`cbor`],
//! [`json`]), the call (`api`), aggregates.
//! Rule: pure; the payloads of a response are slices of one buffer, which is as large as they are
//! together.

mod cbor;
mod json;

use super::cbor::Syntax as CborSyntax;
use super::service_clock::DateSample;
use super::wire::Wire;
use crate::format::json::Syntax as JsonSyntax;
use crate::source::kinesis::HashRange;
use crate::source::{Child, Extra, Foreign, Record};
use bytes::Bytes;
use streamctl_proto::{SequenceNumber, ShardId};
use tokio::time::Instant;

#[derive(Debug, Default)]
pub struct Answer {
    /// In the shard's order, aggregates whole.
    pub records: Vec<Record>,
    /// As the service counts them: payloads and partition keys.
    pub bytes: usize,
    /// `None`: the shard is closed and read to its end.
    pub next_iterator: Option<String>,
    /// `None`: not in the response.
    pub behind_ms: Option<u64>,
    /// At the end of a shard.
    pub children: Vec<Child>,
    /// Where an event of a subscription ended; `None`: not in the response.
    pub continuation: Option<String>,
    /// When the call left, which may be later than it was asked for.
    pub left: Option<Instant>,
    /// The service's time, where it gives it.
    pub date: Option<DateSample>,
}

/// Most bytes of a response. The service returns up to 10 MiB of payload and 10,000 records at
/// once: as JSON, in base64, some 18 MiB.
pub const ANSWER_BYTES_MAX: usize = 32 << 20;
/// The end of the year 9999 in milliseconds since the Unix epoch: no window name exists for a later
/// arrival.
const ARRIVAL_MS_MAX: i64 = 253_402_300_799_999;

/// The bytes are not a GetRecords response.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error("an answer that is not text: {0}")]
    Utf8(#[from] std::str::Utf8Error),
    #[error("an answer that cannot be read: {0}")]
    Json(#[from] JsonSyntax),
    #[error("an answer that cannot be read: {0}")]
    Cbor(#[from] CborSyntax),
    /// A field that every response has is missing.
    #[error("an answer without {0}")]
    Missing(&'static str),
    /// A field has an invalid value.
    #[error("an answer with a {0} that is none")]
    Wrong(&'static str),
}

/// What becomes of partition keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionKeys {
    Counted,
    /// Each record has its own.
    Kept,
}

/// Decodes a response; `now_ms` is the arrival of records without one.
///
/// # Errors
/// The bytes are not a response in this form.
pub fn decode(
    wire: Wire,
    body: &[u8],
    now_ms: i64,
    keys: PartitionKeys,
) -> Result<Answer, Malformed> {
    match wire {
        Wire::Cbor => cbor::decode(body, now_ms, keys),
        Wire::Json => json::decode(body, now_ms, keys),
    }
}

/// A record before its payload is copied.
struct Found<P> {
    sequence: SequenceNumber,
    arrival_ms: Option<i64>,
    payload: P,
    /// With [`PartitionKeys::Kept`] only.
    key: Option<String>,
    key_bytes: usize,
}

fn sequence(text: Option<&str>) -> Result<SequenceNumber, Malformed> {
    let text = text.ok_or(Malformed::Missing("a record's sequence number"))?;
    SequenceNumber::try_from(text).map_err(|_| Malformed::Wrong("sequence number"))
}

/// From seconds since the epoch.
fn arrival(seconds: f64) -> Result<i64, Malformed> {
    possible_arrival((seconds * 1_000.0).round() as i64)
}

/// From milliseconds since the epoch.
fn possible_arrival(arrival_ms: i64) -> Result<i64, Malformed> {
    if (0..=ARRIVAL_MS_MAX).contains(&arrival_ms) {
        Ok(arrival_ms)
    } else {
        Err(Malformed::Wrong("time of arrival"))
    }
}

/// The records of a response. `payloads` has all payloads, and `ends` where each ends in it.
fn records<P>(
    found: Vec<Found<P>>,
    payloads: Vec<u8>,
    ends: Vec<usize>,
    now_ms: i64,
) -> Vec<Record> {
    let payloads = Bytes::from(payloads);
    let mut begin = 0;
    let record = |(found, end): (Found<P>, usize)| {
        let data = payloads.slice(begin..end);
        begin = end;
        let extra = found.key.map(|key| {
            Box::new(Extra {
                partition_key: Some(key),
                ..Extra::default()
            })
        });
        Record {
            sequence: found.sequence,
            sub_sequence: 0,
            arrival_ms: found.arrival_ms.unwrap_or(now_ms),
            data,
            origin: None,
            extra,
            foreign: Foreign::No,
        }
    };
    found.into_iter().zip(ends).map(record).collect()
}

/// A child of a shard that ended, with the first and last of its hash keys.
fn child(shard: String, parents: Vec<String>, range: Option<(&str, &str)>) -> Child {
    let detail = range
        .and_then(|(first, last)| HashRange::new(first, last))
        .map(HashRange::to_detail);
    Child {
        shard: ShardId::new(shard),
        parents: parents.into_iter().map(ShardId::new).collect(),
        detail: detail.unwrap_or_default(),
    }
}
