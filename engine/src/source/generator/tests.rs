//! The generator's reader: due records, replay, end.
//!
//! Rule: the clock is set by hand; the only real waits are the reader's own milliseconds.

use super::*;
use crate::aws::{Aws, AwsSettings};
use crate::source::kinesis::Reading;
use crate::source::testing::{clock_at, job};
use crate::source::{Readers, ShardToRead};
use crate::storage::{MemoryStorage, Storages};
use std::sync::atomic::Ordering;
use streamctl_proto::spec::SourceKind;

fn source(rate: f64, records_per_shard: Option<u64>) -> GeneratorSource {
    GeneratorSource {
        seed: 1,
        shards: 2,
        rate,
        records_per_shard,
        bad_every: 0,
        unmatched_every: 0,
    }
}

fn open(
    source: GeneratorSource,
    submitted_ms: i64,
    shard: u32,
    from: Position,
    clock: &Clock,
) -> GeneratorReader {
    let job = job(SourceKind::Generator(source.clone()), submitted_ms);
    let readers = Readers {
        clock: clock.clone(),
        ..Readers::new(
            Aws::new(AwsSettings::default()),
            Storages::memory(MemoryStorage::default()),
        )
    };
    let opening = Opening {
        job: &job,
        shard: &ShardToRead::new(shard_name(shard), from, String::new()),
        reading: Reading::Live,
        readers: &readers,
    };
    GeneratorReader::open(&source, &opening).unwrap()
}

#[tokio::test]
async fn listed_shards_have_the_names_that_readers_know() {
    let clients = Clients {
        aws: Aws::new(AwsSettings::default()),
        storages: Storages::memory(MemoryStorage::default()),
        is_local: false,
    };
    let listing = source(1.0, None).list(&clients, None).await.unwrap();
    let numbers: Vec<_> = listing
        .shards
        .iter()
        .map(|shard| shard_number(&shard.id))
        .collect();
    assert_eq!(numbers, [Some(0), Some(1)]);
}

#[tokio::test]
async fn a_reader_returns_what_is_due_and_up_to_when_it_is_complete() {
    let (clock, time) = clock_at(10_000);
    let mut reader = open(source(200.0, None), 10_000, 1, Position::Start, &clock);
    assert_eq!(reader.next().await.unwrap().records.len(), 1);
    time.store(10_095, Ordering::SeqCst);
    let chunk = reader.next().await.unwrap();
    let arrivals: Vec<i64> = chunk.records.iter().map(|r| r.arrival_ms).collect();
    assert_eq!(
        arrivals,
        (1..10).map(|i| 10_000 + i * 10).collect::<Vec<_>>()
    );
    assert_eq!(
        (chunk.complete_to_ms, chunk.behind_ms, chunk.end),
        (Some(10_095), 0, None)
    );
}

#[tokio::test]
async fn a_backlog_is_given_in_full_chunks_and_the_end_is_named() {
    let (clock, _) = clock_at(1_000_000);
    let mut reader = open(source(2_000.0, Some(4_500)), 0, 0, Position::Start, &clock);
    let mut all = Vec::new();
    loop {
        let chunk = reader.next().await.unwrap();
        assert!(chunk.records.len() <= 2_000);
        assert!(chunk.complete_to_ms.unwrap() <= 1_000_000);
        all.extend(chunk.records);
        if chunk.end.is_some() {
            break;
        }
    }
    assert_eq!(all.len(), 4_500);
    assert!(
        all.iter()
            .enumerate()
            .all(|(i, r)| r.sequence.to_u64() == Some(i as u64))
    );
    assert_eq!(all[77].data, record(1, 0, 77, Options::default()));
    assert_eq!(reader.next().await.unwrap().end, Some(vec![]));
}

#[tokio::test]
async fn reading_from_a_position_gives_the_same_records_again() {
    let (clock, _) = clock_at(100_000);
    let read = async |from: Position| {
        let mut reader = open(source(200.0, Some(100)), 0, 0, from, &clock);
        reader.next().await.unwrap().records
    };
    let all = read(Position::Start).await;
    assert_eq!(read(all[41].position()).await, all[42..]);
    assert_eq!(
        read(Position::Timestamp(all[42].arrival_ms)).await,
        all[42..]
    );
    assert_eq!(read(Position::End).await, []);
}

#[test]
fn arrival_times_and_their_inverse_agree_at_every_rate() {
    for rate in [0.3, 1.0, 7.0, 333.0, 100_000.0] {
        let schedule = Schedule::new(5_000, 3, rate);
        for index in [0, 1, 2, 99, 1_000_000] {
            let count = schedule.count_before(schedule.arrival_ms(index));
            assert!(
                count <= index && schedule.arrival_ms(count) == schedule.arrival_ms(index),
                "{rate} {index}"
            );
            assert!(
                count == 0 || schedule.arrival_ms(count - 1) < schedule.arrival_ms(index),
                "{rate} {index}"
            );
        }
        assert_eq!(schedule.count_before(0), 0);
    }
}
