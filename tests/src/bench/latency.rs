//! How long a window takes from being closed to being visible, by stage.
//!
//! Owns: the load, the epochs that count. Does not own: the times: they are the job's own, from its
//! epochs.
//! Rule: the wait for the last read depends on the source (polling, pacing) and is reported
//! separately.

use super::job::{JOB, JobText, STREAM, Source, folder_with_lookup, text_of};
use super::live::{STARTS_WITHIN, all_there, local_cluster};
use super::sheet::{Mark, Sheet, percentile};
use crate::cluster::Cluster;
use crate::kinesis::FakeKinesis;
use crate::kinesis::produce::{Order, produce};
use crate::python::Python;
use crate::servers::{self, Etcd, Server};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use streamctl_engine::source::generator::Options;
use streamctl_proto::report::StageTimes;
use streamctl_proto::v1::{EpochSummary, JobStatus};
use tokio::runtime::Builder;

const BUCKET: &str = "bench";
const SHARDS: u32 = 64;
const RATE: u64 = 50_000;
/// Epochs that are not counted: they set up connections and tables.
const WARM_UP_EPOCHS: usize = 5;

/// From a window being closed to its objects being visible: with local folders and the embedded
/// store.
pub fn latency(root: &Path, seconds: u64) -> Sheet {
    let mut sheet =
        Sheet::new("latency, local folders: 64 shards, 2 workers, 50,000 records/s, 1 s windows");
    let (folder, lookup) = folder_with_lookup(root, "latency");
    let cluster = local_cluster(&folder, 2, &[]);
    submit(
        &cluster,
        &folder,
        text_of(&folder),
        &lookup,
        made_up(seconds),
    );
    tell(
        &mut sheet,
        &windows(&cluster, seconds),
        Mark::AtMost(20.0),
        Mark::AtMost(100.0),
    );
    sheet
}

/// The same with our own Kinesis service, which responds from memory within this process and
/// enforces the limits.
pub fn latency_kinesis(root: &Path, seconds: u64) -> Sheet {
    let name =
        "latency, Kinesis: 64 shards, 2 workers, 50,000 records/s, 1 s windows, local folders";
    of_stream(root, seconds, name, None)
}

/// The same with enhanced fan-out.
pub fn latency_fanout(root: &Path, seconds: u64) -> Sheet {
    let name =
        "latency, fan-out: 64 shards, 2 workers, 50,000 records/s, 1 s windows, local folders";
    of_stream(root, seconds, name, Some("bench"))
}

fn of_stream(root: &Path, seconds: u64, name: &'static str, consumer: Option<&str>) -> Sheet {
    let mut sheet = Sheet::new(name);
    let kind = consumer.map_or("latency-kinesis", |_| "latency-fanout");
    let (folder, lookup) = folder_with_lookup(root, kind);
    let cluster = local_cluster(&folder, 2, &[]);
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime starts");
    let fake = runtime.block_on(FakeKinesis::start());
    let stream = fake.create(STREAM, SHARDS as usize);
    submit(
        &cluster,
        &folder,
        text_of(&folder),
        &lookup,
        Source::Kinesis {
            endpoint: fake.address(),
            poll: None,
            consumer,
        },
    );
    let order = Order {
        seed: 7,
        rate: RATE as f64,
        records_max: records(seconds),
        options: Options::default(),
    };
    runtime.spawn(produce(
        Arc::clone(&stream),
        order,
        Arc::new(AtomicU64::new(0)),
    ));
    tell(
        &mut sheet,
        &windows(&cluster, seconds),
        Mark::AtMost(20.0),
        Mark::AtMost(100.0),
    );
    let calls = fake.counts().get("GetRecords").copied().unwrap_or(0) as f64;
    let each = calls / f64::from(SHARDS) / seconds as f64;
    sheet.add("GetRecords for each shard", each, "per second", Mark::None);
    let refused: u64 = fake.violations().values().sum();
    sheet.add(
        "calls that the service's limits refused",
        refused as f64,
        "",
        Mark::AtMost(0.0),
    );
    sheet
}

/// The same with etcd and an S3 server.
pub fn latency_s3(root: &Path, seconds: u64) -> Sheet {
    let mut sheet =
        Sheet::new("latency, etcd and S3: 64 shards, 2 workers, 50,000 records/s, 1 s windows");
    let (folder, _) = folder_with_lookup(root, "latency-s3");
    let mut etcd = Etcd::cluster(&folder, 1).remove(0);
    let mut s3 = Server::s3(&folder);
    etcd.ready();
    s3.ready();
    let env = servers::env(&[("S3", s3.port())]);
    let lookup = bucket_with_lookup(&env);
    let mut cluster = Cluster::empty(env, &folder, &format!("etcd://{}", etcd.address()), None);
    cluster.add_controller("controller-1");
    cluster.add_worker("worker-1");
    cluster.add_worker("worker-2");
    all_there(&cluster, 2);
    submit(
        &cluster,
        &folder,
        &format!("s3://{BUCKET}/bench"),
        &lookup,
        made_up(seconds),
    );
    tell(
        &mut sheet,
        &windows(&cluster, seconds),
        Mark::None,
        Mark::AtMost(250.0),
    );
    sheet
}

/// The lookup's folder in a new bucket.
fn bucket_with_lookup(env: &[(String, String)]) -> String {
    let prepare = [
        "prepare",
        "--stream",
        "x",
        "--shards",
        "1",
        "--table",
        "x",
        "--no-table",
        "--no-stream",
    ];
    let prepared =
        Python::new(env.to_vec()).ask("seed.py", &[&prepare[..], &["--bucket", BUCKET]].concat());
    let file = prepared["lookup"]
        .as_str()
        .expect("it says where the lookup is");
    format!(
        "{}/",
        file.rsplit_once('/').map_or(file, |(folder, _)| folder)
    )
}

fn made_up(seconds: u64) -> Source<'static> {
    Source::Generator {
        shards: SHARDS,
        rate: RATE,
        records: Some(records(seconds) / u64::from(SHARDS)),
    }
}

/// Each shard gets the same number.
fn records(seconds: u64) -> u64 {
    RATE / u64::from(SHARDS) * seconds * u64::from(SHARDS)
}

fn submit(cluster: &Cluster, folder: &Path, place: &str, lookup: &str, source: Source<'_>) {
    let job = JobText {
        name: JOB,
        place,
        lookup,
        window: "1s",
        source,
    };
    cluster.cli_ok(&["submit", &job.written(folder)]);
}

/// The epochs of this many seconds under load.
fn windows(cluster: &Cluster, seconds: u64) -> Vec<EpochSummary> {
    let rows_in = |status: &JobStatus| status.totals.as_ref().map_or(0, |totals| totals.rows_in);
    cluster.until_status(
        JOB,
        "all windows published",
        Duration::from_secs(seconds) + STARTS_WITHIN,
        |status| rows_in(status) >= records(seconds) && status.published == status.epoch,
    );
    let epochs = cluster.epochs(JOB).expect("a controller answers");
    // The last window may hold less than a second.
    epochs[WARM_UP_EPOCHS..epochs.len() - 1].to_vec()
}

/// One of a window's times, in microseconds.
type Figure = fn(&StageTimes) -> u64;

fn tell(sheet: &mut Sheet, epochs: &[EpochSummary], p50: Mark, p99: Mark) {
    let times: Vec<StageTimes> = epochs
        .iter()
        .filter_map(|epoch| epoch.stages)
        .map(StageTimes::from)
        .collect();
    let of = |figure: Figure, percent: f64| {
        let mut figures: Vec<f64> = times
            .iter()
            .map(|times| figure(times) as f64 / 1e3)
            .collect();
        percentile(&mut figures, percent)
    };
    sheet.add("windows", times.len() as f64, "", Mark::None);
    sheet.add(
        "closed to published: p50",
        of(StageTimes::closed_to_published_us, 50.0),
        "ms",
        p50,
    );
    sheet.add(
        "closed to published: p99",
        of(StageTimes::closed_to_published_us, 99.0),
        "ms",
        p99,
    );
    let stages: [(&str, Figure); 8] = [
        ("a window's end to published", |times| {
            times
                .last_read_us
                .saturating_add(times.closed_to_published_us())
        }),
        ("before that, waiting for the last read", |times| {
            times.last_read_us
        }),
        ("decode", |times| times.last_decode_us),
        ("transform", |times| times.last_transform_us),
        ("stage", |times| times.last_stage_us),
        ("report", |times| times.report_us),
        ("commit", |times| times.commit_us),
        ("publish", |times| times.publish_us),
    ];
    for (name, figure) in stages {
        sheet.add(format!("{name}: p50"), of(figure, 50.0), "ms", Mark::None);
        sheet.add(format!("{name}: p99"), of(figure, 99.0), "ms", Mark::None);
    }
}
