//! Records that cannot be decoded, stored for inspection and replay.
//!
//! Owns: the format of a dead letter. Does not own: which record is one (`decode`), when they
//! become visible (the commit), reading them back ([`read`]).
//! Rule: exactly one line per bad record, in the same epoch as its neighbours' rows; the raw bytes
//! are always complete. A replayed record that is bad again carries its original place and the
//! epoch that it was replayed from.

pub mod read;
pub mod rows;

use crate::memory::Holding;
use crate::sink::{EncodeError, GzipLines, LinesPlace, SinkError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;
use streamctl_engine::source::Record;
use streamctl_engine::storage::Storage;
use streamctl_proto::report::{ObjectKind, StagedObject};
use streamctl_proto::spec::Location;
use streamctl_proto::{JobName, ShardId, TaskId, Window};

/// If memory is short, a partly filled part of this size is worth its own object.
const WORTH_AN_OBJECT_BYTES: usize = 512 << 10;
/// A dead letter also contains shorter payloads as text, if they are text.
const RAW_TEXT_BYTES_MAX: usize = 4 << 10;

/// The context of the dead letters of one window.
#[derive(Clone, Debug)]
pub struct DeadLetterContext {
    pub path: Location,
    pub job: JobName,
    pub task: TaskId,
    /// Part of the names and of each letter.
    pub window: Window,
    /// The storage of `path`.
    pub storage: Arc<dyn Storage>,
    /// Memory for the compressor and the part being filled.
    pub memory: Arc<Holding>,
}

#[derive(Serialize, Deserialize)]
struct DeadLetter<'a> {
    shard: Cow<'a, str>,
    sequence_number: Cow<'a, str>,
    sub_sequence: u64,
    /// RFC 3339 with milliseconds, UTC.
    arrival_time: String,
    arrival_ms: i64,
    /// RFC 3339 with milliseconds, UTC.
    window_start: String,
    reason: Cow<'a, str>,
    raw_base64: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw: Option<Cow<'a, str>>,
    /// The epoch whose dead letter it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replayed_from: Option<u64>,
    /// Of a record whose job's query reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partition_key: Option<Cow<'a, str>>,
}

/// A line that is not a dead letter.
#[derive(Debug, thiserror::Error)]
enum BadLetter {
    #[error("not a dead letter: {0}")]
    Form(#[from] serde_json::Error),
    #[error("raw_base64 is not base64: {0}")]
    Payload(#[from] base64::DecodeError),
    #[error("sequence_number: {0}")]
    Sequence(#[from] streamctl_proto::position::BadSequenceNumber),
}

fn payload(raw_base64: &str) -> Result<Bytes, base64::DecodeError> {
    STANDARD.decode(raw_base64).map(Bytes::from)
}

/// Writes the dead letters of one window of one task: JSON lines, gzip.
pub struct DeadLetterSink {
    window: Window,
    memory: Arc<Holding>,
    lines: GzipLines,
}

impl DeadLetterSink {
    /// Opens nothing before the first letter.
    pub fn new(context: DeadLetterContext) -> Self {
        let DeadLetterContext {
            path: folder,
            job,
            task,
            window,
            storage,
            memory,
        } = context;
        let kind = ObjectKind::DeadLetter;
        let extension = "json.gz";
        let lines = GzipLines::new(LinesPlace {
            folder,
            storage,
            job,
            task,
            window,
            kind,
            extension,
        });
        Self {
            window,
            memory,
            lines,
        }
    }

    /// Adds one record. After an error only [`DeadLetterSink::abort`] may be called.
    pub async fn write(
        &mut self,
        shard: &ShardId,
        record: &Record,
        reason: &str,
    ) -> Result<(), SinkError> {
        let mut line = serde_json::to_vec(&self.letter(shard, record, reason))
            .map_err(std::io::Error::from)
            .map_err(EncodeError::from)?;
        line.push(b'\n');
        self.lines.write(&line, 1).await?;
        if self.memory.try_set(self.lines.memory()) {
            return Ok(());
        }
        if self.lines.held() >= WORTH_AN_OBJECT_BYTES {
            self.lines.close().await?;
        }
        // The rest is in memory in any case: an object has a minimum size.
        self.memory.set(self.lines.memory());
        Ok(())
    }

    /// Stages the rest. On an error everything of this window is deleted.
    pub async fn finish(mut self) -> Result<Vec<StagedObject>, SinkError> {
        if let Err(error) = self.lines.close().await {
            self.abort().await;
            return Err(error);
        }
        self.memory.set(0);
        Ok(self.lines.take())
    }

    /// Deletes everything of this window.
    pub async fn abort(self) {
        self.lines.abort().await;
    }

    fn letter<'a>(
        &self,
        shard: &'a ShardId,
        record: &'a Record,
        reason: &'a str,
    ) -> DeadLetter<'a> {
        let text = std::str::from_utf8(&record.data).ok();
        let origin = record.origin.as_deref();
        let sequence = origin.map_or(&record.sequence, |origin| &origin.sequence);
        let arrival_ms = origin.map_or(record.arrival_ms, |origin| origin.arrival_ms);
        DeadLetter {
            shard: origin.map_or(shard, |origin| &origin.shard).as_str().into(),
            sequence_number: sequence.as_str().into(),
            sub_sequence: origin.map_or(record.sub_sequence, |origin| origin.sub_sequence),
            arrival_time: rfc3339(arrival_ms),
            arrival_ms,
            window_start: rfc3339(self.window.start_ms),
            reason: reason.into(),
            raw_base64: STANDARD.encode(&record.data).into(),
            raw: text
                .filter(|text| text.len() < RAW_TEXT_BYTES_MAX)
                .map(Cow::from),
            replayed_from: origin.map(|origin| origin.epoch.0),
            partition_key: record
                .extra
                .as_ref()
                .and_then(|extra| extra.partition_key.as_deref())
                .map(Cow::from),
        }
    }
}

/// RFC 3339 with milliseconds, UTC.
pub(crate) fn rfc3339(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).unwrap_or_default();
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::tests::{FakeStorage, WINDOW, gunzip, memory, task};
    use bytes::Bytes;
    use serde_json::{Value, json};
    use streamctl_engine::source::Foreign;

    fn sink(storage: &FakeStorage) -> DeadLetterSink {
        sink_within(storage, memory(1 << 30))
    }

    fn sink_within(storage: &FakeStorage, memory: Arc<Holding>) -> DeadLetterSink {
        let path = Location::folder("/dead");
        let storage = Arc::new(storage.clone());
        let job = "sales".parse().unwrap();
        DeadLetterSink::new(DeadLetterContext {
            path,
            job,
            task: task(),
            window: WINDOW,
            storage,
            memory,
        })
    }

    fn record(sequence: u64, data: impl Into<Bytes>) -> Record {
        let arrival_ms = WINDOW.start_ms + 1_250;
        Record {
            sequence: sequence.into(),
            sub_sequence: 2,
            arrival_ms,
            data: data.into(),
            origin: None,
            extra: None,
            foreign: Foreign::No,
        }
    }

    #[tokio::test]
    async fn each_bad_record_is_one_line_with_its_reason_and_raw_bytes() {
        let storage = FakeStorage::default();
        let mut sink = sink(&storage);
        let long = vec![b'x'; 1 << 20];
        let records = [
            record(5, "not json\n"),
            record(6, &b"\xFF\x00"[..]),
            record(7, long.clone()),
        ];
        for record in &records {
            sink.write(&"shardId-1".into(), record, "not a JSON object")
                .await
                .unwrap();
        }
        let objects = sink.finish().await.unwrap();
        assert_eq!(
            (objects.len(), objects[0].rows, objects[0].kind),
            (1, 3, ObjectKind::DeadLetter)
        );
        assert_eq!(
            objects[0].location,
            "/dead/20261124T004500Z-sales-t3.7-0000.json.gz"
        );
        let text = gunzip(&storage.content(&objects[0].location));
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let expected = json!({
            "shard": "shardId-1", "sequence_number": "5", "sub_sequence": 2,
            "arrival_time": "2026-11-24T00:45:01.250Z", "arrival_ms": 1_795_481_101_250_i64,
            "window_start": "2026-11-24T00:45:00.000Z", "reason": "not a JSON object",
            "raw_base64": "bm90IGpzb24K", "raw": "not json\n",
        });
        assert_eq!((lines.len(), &lines[0]), (3, &expected));
        assert!(lines[1].get("raw").is_none() && lines[2].get("raw").is_none());
        assert_eq!(
            STANDARD
                .decode(lines[2]["raw_base64"].as_str().unwrap())
                .unwrap(),
            long
        );
    }

    #[tokio::test]
    async fn without_a_bad_record_there_is_no_object_and_what_is_aborted_is_gone() {
        let storage = FakeStorage::default();
        assert_eq!(sink(&storage).finish().await.unwrap(), []);
        let mut aborted = sink(&storage);
        aborted
            .write(&"s".into(), &record(1, "x"), "why")
            .await
            .unwrap();
        aborted.abort().await;
        let mut failing = sink(&storage);
        storage.fail_on("/dead/");
        failing
            .write(&"s".into(), &record(1, "x"), "why")
            .await
            .unwrap();
        assert!(failing.finish().await.is_err());
        assert!(storage.is_clean());
    }

    #[tokio::test]
    async fn what_is_held_is_counted_and_in_little_memory_becomes_more_objects() {
        let storage = FakeStorage::default();
        storage.hold();
        let most = 1 << 20;
        let budget = memory(most);
        let mut sink = sink_within(&storage, Arc::clone(&budget));
        let mut random = fastrand::Rng::with_seed(1);
        let mut largest = 0;
        for number in 0..400 {
            let text: String = std::iter::repeat_with(|| random.alphanumeric())
                .take(20_000)
                .collect();
            sink.write(&"s".into(), &record(number, text), "not a JSON object")
                .await
                .unwrap();
            assert!(budget.used() <= most, "{} bytes", budget.used());
            largest = largest.max(budget.used());
        }
        assert!(largest > most / 2, "{largest} bytes");
        let objects = sink.finish().await.unwrap();
        assert!(
            (4..40).contains(&objects.len()),
            "{} objects",
            objects.len()
        );
        assert_eq!(objects.iter().map(|object| object.rows).sum::<u64>(), 400);
        assert_eq!(budget.used(), 0);
    }
}
