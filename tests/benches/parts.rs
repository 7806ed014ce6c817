//! The parts of a record's way and of a decision, each alone: `cargo bench --workspace --bench
//! parts`.
//!
//! Owns: what is timed. Does not own: the inputs (`streamctl_tests::bench`). Rule: `cargo test`
//! runs each once, so that they compile and do what they say; times are only compared by people.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use streamctl_engine::source::kinesis::Wire;
use streamctl_engine::source::kinesis::answer::{PartitionKeys, decode};
use streamctl_tests::bench::answers::Answers;
use streamctl_tests::bench::data::{CHUNK_RECORDS, Sales};
use streamctl_tests::bench::nested;
use streamctl_tests::bench::pipeline::Pipeline;
use streamctl_tests::crowd::Crowd;

fn records(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let sales = Sales::made(CHUNK_RECORDS as u64);
    let pipeline = Pipeline::of_the_model_job(folder.path()).unwrap();
    let chunk = sales.chunks().next().expect("one was made");

    let mut group = criterion.benchmark_group("records");
    group.throughput(Throughput::Bytes(sales.bytes()));
    for wire in [Wire::Cbor, Wire::Json] {
        let answers = Answers::of(&sales, wire);
        let body = answers.first().expect("one was made");
        group.bench_function(format!("answer of GetRecords, {wire:?}"), |bencher| {
            bencher.iter(|| {
                let answer = decode(wire, black_box(body), 0, PartitionKeys::Counted).unwrap();
                assert_eq!(answer.records.len(), CHUNK_RECORDS)
            });
        });
    }
    let mut decoder = pipeline.decoder().unwrap();
    group.bench_function("decode, 9 of 14 columns", |bencher| {
        bencher.iter(|| {
            let (count, decoded) =
                decoder.decode_first(black_box(chunk), CHUNK_RECORDS, usize::MAX);
            assert_eq!(
                (count, decoded.batch.num_rows()),
                (CHUNK_RECORDS, CHUNK_RECORDS)
            );
        });
    });
    let mut round = 0;
    group.bench_function("a window: decode, lookup, Parquet on disk", |bencher| {
        bencher.iter(|| {
            round += 1;
            assert_eq!(
                pipeline.run(&sales, round).unwrap().rows_out,
                CHUNK_RECORDS as u64
            );
        });
    });
}

fn nested_records(criterion: &mut Criterion) {
    let records = nested::records(CHUNK_RECORDS);
    let bytes = records.iter().map(|record| record.data.len() as u64).sum();
    let mut decoder = nested::decoder().unwrap();
    let mut group = criterion.benchmark_group("nested records");
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("decode, all of three levels", |bencher| {
        bencher.iter(|| {
            let decoded = decoder.decode(black_box(&records));
            assert_eq!(decoded.batch.num_rows(), CHUNK_RECORDS);
        });
    });
}

fn decisions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decisions");
    for shards in [100, 1_000] {
        group.throughput(Throughput::Elements(shards as u64));
        group.bench_function(format!("share out {shards} shards"), |bencher| {
            bencher.iter_batched(
                || Crowd::waiting(shards / 10),
                |crowd| crowd.given(shards),
                BatchSize::LargeInput,
            );
        });
        let mut crowd = Crowd::waiting(shards / 10).given(shards);
        let mut n = 0;
        group.bench_function(format!("a window of {shards} shards"), |bencher| {
            bencher.iter(|| {
                crowd.window(n);
                n += 1;
                assert_eq!(crowd.epochs(), n);
            });
        });
    }
}

criterion_group!(parts, records, nested_records, decisions);
criterion_main!(parts);
