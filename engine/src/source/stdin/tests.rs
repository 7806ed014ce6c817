//! Lines of an input, read once and read again.

use super::*;
use crate::aws::{Aws, AwsSettings};
use crate::source::kinesis::Reading;
use crate::source::testing::{clock_at, job};
use crate::source::{Readers, ShardToRead};
use crate::storage::{MemoryStorage, Storages};
use std::io::{Read, Write};
use streamctl_proto::spec::{PayloadFormat, SourceKind};

fn source() -> StdinSource {
    StdinSource {
        format: PayloadFormat::default(),
    }
}

fn reader(spool: Option<Arc<Spool>>, from: Position, on_data_loss: OnDataLoss) -> StdinReader {
    let mut job = job(SourceKind::Stdin(source()), 0);
    job.spec.source.on_data_loss = on_data_loss;
    let storages = Storages::memory(MemoryStorage::default());
    let readers = Readers {
        clock: clock_at(5_000).0,
        ..Readers::new(Aws::new(AwsSettings::default()), storages)
    };
    let opening = Opening {
        job: &job,
        shard: &ShardToRead::new("stdin-1".into(), from, String::new()),
        reading: Reading::Live,
        readers: &readers,
    };
    StdinReader::new(spool, &opening)
}

fn spool(input: impl Read + Send + 'static) -> Option<Arc<Spool>> {
    Some(Arc::new(Spool::new(input).unwrap()))
}

/// Number and text of each line to the end.
async fn lines(mut reader: StdinReader) -> Vec<(u64, String)> {
    let mut lines = Vec::new();
    loop {
        let chunk = reader.next().await.unwrap();
        let line = |record: Record| {
            let text = String::from_utf8(record.data.to_vec()).unwrap();
            (record.sequence.to_u64().unwrap(), text)
        };
        lines.extend(chunk.records.into_iter().map(line));
        if chunk.end.is_some() {
            return lines;
        }
    }
}

fn after(number: u64) -> Position {
    Position::After {
        sequence: number.into(),
        sub_sequence: 0,
    }
}

#[tokio::test]
async fn each_line_is_a_record_and_the_last_needs_no_end() {
    let input = spool(&b"a\r\n\n b \n \nc"[..]);
    let read = lines(reader(input, Position::Start, OnDataLoss::Fail)).await;
    assert_eq!(
        read,
        [
            (1, "a".into()),
            (3, " b ".into()),
            (4, " ".into()),
            (5, "c".into())
        ]
    );
}

#[tokio::test]
async fn lines_are_read_again_from_a_position() {
    let text: String = (1..=20_000)
        .map(|number| format!("line {number}\n"))
        .collect();
    let input = spool(std::io::Cursor::new(text));
    let first = lines(reader(input.clone(), Position::Start, OnDataLoss::Fail)).await;
    assert_eq!(first.len(), 20_000);
    let again = lines(reader(input.clone(), after(12_345), OnDataLoss::Fail)).await;
    assert_eq!(again, first[12_345..]);
    assert_eq!(
        lines(reader(input, Position::End, OnDataLoss::Fail)).await,
        []
    );
}

#[tokio::test]
async fn a_waiting_reader_reports_up_to_when_it_is_complete_and_continues_where_it_was() {
    let (output, mut input) = std::io::pipe().unwrap();
    let spool = spool(output);
    let mut reader = reader(spool, Position::Start, OnDataLoss::Fail);
    input.write_all(b"half").unwrap();
    let chunk = loop {
        let chunk = reader.next().await.unwrap();
        assert_eq!(chunk.records, []);
        if chunk.complete_to_ms.is_some() {
            break chunk;
        }
    };
    assert_eq!((chunk.complete_to_ms, chunk.end), (Some(5_000), None));
    input.write_all(b" and half\n").unwrap();
    drop(input);
    assert_eq!(lines(reader).await, [(1, "half and half".into())]);
}

#[tokio::test]
async fn a_line_that_is_too_long_stays_too_long_and_the_next_one_is_whole() {
    // Whatever byte stands where it is cut off.
    for tail in ["xxxxx", "\rxxxx", "x\rxxx", "xx\rxx", "\r\rxxx"] {
        let text = format!("{}{tail}\nnext\n", "x".repeat(RECORD_BYTES_MAX));
        let input = spool(std::io::Cursor::new(text));
        let read = lines(reader(input, Position::Start, OnDataLoss::Fail)).await;
        assert!(read[0].1.len() > RECORD_BYTES_MAX, "{tail:?}");
        assert_eq!(read[1], (2, "next".into()));
    }
}

#[tokio::test]
async fn the_longest_record_is_whole_whatever_ends_its_line() {
    for end in ["", "\n", "\r\n"] {
        let text = format!("{}{end}", "x".repeat(RECORD_BYTES_MAX));
        let input = spool(std::io::Cursor::new(text));
        let read = lines(reader(input, Position::Start, OnDataLoss::Fail)).await;
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].1.len(), RECORD_BYTES_MAX, "{end:?}");
    }
}

#[tokio::test]
async fn the_input_of_an_earlier_run_is_data_loss() {
    let error = reader(None, after(3), OnDataLoss::Fail)
        .next()
        .await
        .unwrap_err();
    assert!(matches!(error, ReadError::DataLoss { .. }), "{error}");
    let mut reader = reader(None, after(3), OnDataLoss::Continue);
    assert_eq!(reader.next().await.unwrap().end, Some(vec![]));
    let stats = reader.stats();
    let gap = stats.lost.map(|gap| (gap.from_ms, gap.to_ms));
    assert_eq!((stats.data_losses, gap), (1, Some((0, 5_000))));
}

#[tokio::test]
async fn a_cluster_refuses_it_with_the_reason() {
    let clients = |is_local| Clients {
        aws: Aws::new(AwsSettings::default()),
        storages: Storages::memory(MemoryStorage::default()),
        is_local,
    };
    assert_eq!(
        source()
            .list(&clients(true), None)
            .await
            .unwrap()
            .shards
            .len(),
        1
    );
    let error = source().list(&clients(false), None).await.unwrap_err();
    let ListError::Refused { reason, hint, .. } = error else {
        panic!("{error}")
    };
    assert!(
        reason.contains("cannot read it again") && hint.contains("streamctl run"),
        "{reason}: {hint}"
    );
}

/// Gives a line, then an error, then would give more.
struct Broken(u8);

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0 += 1;
        match self.0 {
            1 => {
                buffer[..7].copy_from_slice(b"a\npart ");
                Ok(7)
            }
            2 => Err(std::io::ErrorKind::WouldBlock.into()),
            3 => Err(std::io::ErrorKind::ConnectionReset.into()),
            _ => Ok(0),
        }
    }
}

#[tokio::test]
async fn an_input_that_breaks_is_an_error_for_every_reader_and_never_an_end() {
    let spool = spool(Broken(0));
    for _ in 0..2 {
        let mut reader = reader(spool.clone(), Position::Start, OnDataLoss::Fail);
        let mut lines = 0;
        let error = loop {
            match reader.next().await {
                Ok(chunk) => {
                    assert_eq!(chunk.end, None);
                    lines += chunk.records.len();
                }
                Err(error) => break error,
            }
        };
        assert_eq!(lines, 1, "the half line is no record");
        assert!(
            error.to_string().contains("standard input cannot be read"),
            "{error}"
        );
    }
}
