//! Many tasks in little memory: all of them end, and no record is lost or read twice.

use super::*;
use crate::memory::MemoryLimit;
use futures::future::join_all;
use std::io::Write as _;
use streamctl_proto::spec::{FilesSink, PayloadCompression, SinkFormat};

/// A record of about `bytes`.
fn large(id: u64, bytes: usize) -> String {
    format!(
        r#"{{"id": {id}, "k": "k", "pad": "{}"}}"#,
        "x".repeat(bytes)
    )
}

/// A task of shards that lag behind each other, with records of any size; returns how many records
/// each shard has.
fn random_task(random: &mut fastrand::Rng, budget: &MemoryBudget) -> (Bed, BTreeMap<ShardId, u64>) {
    let mut bed = Bed::new(job("SELECT id, k FROM source"));
    bed.budget = budget.clone();
    let names: Vec<String> = (0..random.usize(2..6))
        .map(|number| format!("s{number}"))
        .collect();
    let mut records = BTreeMap::new();
    for name in &names {
        let mut arrival_ms = random.i64(0..6_000);
        let largest = random.usize(10..3_000);
        let count = random.u64(1..250);
        for id in 0..count {
            bed.source.push(
                &shard(name),
                arrival_ms,
                large(id, random.usize(0..largest)),
            );
            arrival_ms = (arrival_ms + random.i64(-300..400)).max(0);
        }
        bed.source.close(&shard(name), vec![]);
        records.insert(shard(name), count);
    }
    bed.start(&names.iter().map(String::as_str).collect::<Vec<_>>());
    (bed, records)
}

#[tokio::test]
async fn all_windows_of_many_tasks_end_in_little_memory_and_no_record_is_lost_or_comes_twice() {
    let mut dropped = 0;
    for seed in 0..12 {
        let mut random = fastrand::Rng::with_seed(seed);
        let budget = MemoryBudget::new(MemoryLimit::leaving(random.u64(64 << 10..2 << 20)));
        let tasks: Vec<_> = (0..random.usize(2..9))
            .map(|_| random_task(&mut random, &budget))
            .collect();
        let ends = join_all(
            tasks
                .into_iter()
                .map(async |(mut bed, records)| (bed.finish().await, bed, records)),
        )
        .await;
        for (messages, bed, records) in ends {
            assert_eq!(
                ended(&messages).why(),
                v1::task_ended::Why::Completed,
                "seed {seed}"
            );
            let reports = reports(&messages);
            assert_eq!(chained(&reports, &Position::Start), records, "seed {seed}");
            let rows: u64 = reports.iter().map(|report| report.counts.rows_out).sum();
            assert_eq!(rows, records.values().sum::<u64>(), "seed {seed}");
            dropped += records
                .keys()
                .map(|id| bed.source.opened(id).len() - 1)
                .sum::<usize>();
        }
        assert_eq!(budget.reads().used(), 0, "seed {seed}: all room came back");
    }
    assert!(
        dropped > 0,
        "memory was never short: this test shows nothing"
    );
}

#[tokio::test]
async fn reading_stops_while_the_sink_stands_still_and_then_all_comes_once() {
    let mut bed = Bed::new(job("SELECT id, k, repeat(k, 500) AS long FROM source"));
    bed.budget = MemoryBudget::new(MemoryLimit::leaving(8 << 20));
    let room = bed.budget.reads().bytes_max();
    let names = ["a", "b", "c"];
    let count = 4_000;
    let size = 2_000;
    for name in names {
        for id in 0..count {
            bed.source.push(
                &shard(name),
                i64::try_from(id).unwrap() / 2,
                large(id, size),
            );
        }
        bed.source.close(&shard(name), vec![]);
    }
    bed.storage.stand_still(true);
    bed.start(&names);
    bed.until(
        |message| matches!(message, Message::Progress(p) if p.shards.iter().any(|s| s.records > 0)),
    )
    .await;
    // Two rounds of figures in which no task takes another record: all tasks are idle.
    let mut taken = 0;
    let mut rests = 0;
    while rests < 2 {
        let said = bed
            .until(|message| matches!(message, Message::Progress(_)))
            .await;
        let Some(Message::Progress(progress)) = said.last() else {
            continue;
        };
        let now: u64 = progress.shards.iter().map(|shard| shard.records).sum();
        rests = if now == taken { rests + 1 } else { 0 };
        taken = now;
    }
    let all = count * names.len() as u64;
    assert!(taken < all, "it goes on reading though nothing is written");
    let used = bed.budget.reads().used();
    assert!(
        used <= room + 2 * 1_000 * (size + 100),
        "{used} of {room}: more than one chunk beyond"
    );
    bed.storage.stand_still(false);
    let reports = reports(&bed.finish().await);
    assert_eq!(
        chained(&reports, &Position::Start)
            .into_values()
            .collect::<Vec<_>>(),
        [count; 3]
    );
    assert_eq!(
        reports
            .iter()
            .map(|report| report.counts.rows_out)
            .sum::<u64>(),
        all
    );
}

#[tokio::test]
async fn records_of_1_mib_and_of_10_mib_pass_a_filter_and_a_sink_in_the_memory_of_256_mib() {
    let mut bed = Bed::new(job("SELECT id, k FROM source WHERE id >= 0"));
    bed.job.columns.push(ColumnType {
        name: "pad".into(),
        type_name: "string".into(),
    });
    bed.job.spec.sql = "SELECT id, pad FROM source WHERE id >= 0".into();
    bed.budget = MemoryBudget::new("256MiB".parse().unwrap());
    for id in 0..20 {
        bed.source.push(&shard("a"), 10, large(id, 1 << 20));
    }
    bed.source.push(&shard("b"), 20, large(20, (10 << 20) - 60));
    for name in ["a", "b"] {
        bed.source.close(&shard(name), vec![]);
    }
    bed.start(&["a", "b"]);
    let reports = reports(&bed.finish().await);
    assert_eq!(
        reports
            .iter()
            .map(|report| report.counts.rows_out)
            .sum::<u64>(),
        21
    );
}

/// Thirty records with a value for each of this many columns, and a worker of this limit. A query
/// has at most 2,000 columns; the sink's own test covers 10,000.
fn wide(columns: usize, limit: &str) -> Bed {
    let columns: Vec<String> = (0..columns)
        .map(|number| format!("column_{number}"))
        .collect();
    let mut bed = Bed::new(job("SELECT * FROM source"));
    let format = SinkFormat::Parquet;
    bed.job.spec.sink = FilesSink { format, ..sink() }.into();
    bed.budget = MemoryBudget::new(limit.parse().unwrap());
    bed.job.columns = columns
        .iter()
        .map(|name| ColumnType {
            name: name.clone(),
            type_name: "bigint".into(),
        })
        .collect();
    let fields: Vec<String> = columns
        .iter()
        .map(|name| format!("\"{name}\": 7"))
        .collect();
    let record = format!("{{{}}}", fields.join(", "));
    for _ in 0..30 {
        bed.source.push(&shard("a"), 10, record.clone());
    }
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    bed
}

#[tokio::test]
async fn records_of_many_columns_come_through_or_are_refused_with_the_limit() {
    let report = reports(&wide(2_000, "256MiB").finish().await).remove(0);
    assert_eq!((report.counts.rows_out, report.counts.rows_dead), (30, 0));
    let ended = ended(&wide(2_000, "128MiB").finish().await);
    assert_eq!(
        ended.refused_by(),
        v1::task_ended::Place::Memory,
        "it can never fit here: {}",
        ended.error
    );
    assert!(
        ended.error.starts_with("an object of 2000 columns takes "),
        "{}",
        ended.error
    );
    assert!(
        ended.error.contains("--memory-limit leaves "),
        "{}",
        ended.error
    );
    assert!(ended.hint.contains("--memory-limit"), "{}", ended.hint);
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// A task of one record whose payload has this many bytes unpacked, on a worker of 128 MiB.
fn packed(bytes: usize) -> Bed {
    let mut bed = Bed::new(job("SELECT id, k FROM source"));
    bed.job.spec.source.kind = kinesis_source(PayloadCompression::Auto);
    bed.budget = MemoryBudget::new("128MiB".parse().unwrap());
    bed.source
        .push(&shard("a"), 10, gzip(large(1, bytes).as_bytes()));
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    bed
}

#[tokio::test]
async fn a_payload_that_is_large_unpacked_comes_through_or_is_refused_with_the_limit() {
    let budget = MemoryBudget::new("128MiB".parse().unwrap());
    let most = budget.unpacking().await.bytes();
    assert!(
        budget.decode_bytes() < most / 2,
        "it is more than what is decoded at once"
    );
    let report = reports(&packed(most / 2).finish().await).remove(0);
    assert_eq!((report.counts.rows_out, report.counts.rows_dead), (1, 0));
    let ended = ended(&packed(most + 1).finish().await);
    assert_eq!(
        ended.refused_by(),
        v1::task_ended::Place::Memory,
        "it can never fit here: {}",
        ended.error
    );
    assert!(
        ended.error.contains("memory limit of 128MiB"),
        "{}",
        ended.error
    );
    assert!(ended.hint.contains("--memory-limit"), "{}", ended.hint);
}
