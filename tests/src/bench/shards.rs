//! What shards cost that have few records or none, and a cluster that has nothing to do.
//!
//! Owns: the load, the spans that count. Does not own: the programs ([`Cluster`]), the service
//! ([`FakeKinesis`]).
//! Rule: the service is in this process, so that none of its time counts as the worker's; calls are
//! real ones over HTTP, under the service's limits.

use super::job::{JOB, JobText, STREAM, Source, folder_with_lookup, text_of};
use super::live::{STARTS_WITHIN, local_cluster};
use super::sheet::{Mark, Sheet};
use crate::cluster::Cluster;
use crate::kinesis::{FakeKinesis, Stream};
use crate::wait::until;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use streamctl_engine::source::generator::{Options, record};
use streamctl_proto::v1::JobStatus;
use tokio::runtime::{Builder, Runtime};

/// Shards of the streams that are measured one after the other.
const SHARDS: [usize; 3] = [100, 1_000, 10_000];
/// One shard in this many has records.
const BUSY_PART: usize = 100;
/// Records per second of all of them.
const RATE: u64 = 200;
const WINDOW_MS: i64 = 60_000;
/// The quiet shards are read rarely after this time.
const SETTLED_AFTER: Duration = Duration::from_secs(75);
/// Jobs of the cluster that has nothing to do.
const IDLE_JOBS: usize = 10;
const PUT_EVERY: Duration = Duration::from_millis(50);

/// Quiet shards by number: processor, memory, calls, and when their windows are over.
pub fn shards(root: &Path, seconds: u64) -> Sheet {
    let mut sheet = Sheet::new(
        "shards: 1 % of them busy, 200 records/s in all, 60 s windows, one worker, HTTP",
    );
    for count in SHARDS {
        measure(&mut sheet, root, count, seconds);
    }
    sheet
}

fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    let built = builder.worker_threads(1).enable_all().build();
    built.expect("a runtime starts")
}

fn measure(sheet: &mut Sheet, root: &Path, count: usize, seconds: u64) {
    let (folder, lookup) = folder_with_lookup(root, &format!("shards-{count}"));
    let cluster = local_cluster(&folder, 1, &[]);
    let runtime = runtime();
    let fake = runtime.block_on(FakeKinesis::start());
    let stream = fake.create(STREAM, count);
    submit(&cluster, &folder, &lookup, JOB, fake.address());
    runtime.spawn(put(stream, (count / BUSY_PART).max(1)));
    let is_read = |status: &JobStatus| status.shards_open as usize == count && status.epoch > 0;
    cluster.until_status(JOB, "its first window", SETTLED_AFTER * 4, is_read);
    std::thread::sleep(SETTLED_AFTER);

    fake.forget_calls();
    let used = Used::so_far(&cluster, "worker-1");
    let of_controller = Used::so_far(&cluster, "controller-1");
    let first = cluster.status(JOB).map_or(0, |status| status.epoch);
    let mut most = 0;
    let end = Instant::now() + Duration::from_secs(seconds.max(65));
    while Instant::now() < end {
        most = most.max(cluster.worker_rss("worker-1"));
        std::thread::sleep(Duration::from_millis(250));
    }
    let calls = fake.counts().get("GetRecords").copied().unwrap_or(0) as f64;
    let refused: u64 = fake.violations().values().sum();
    let used = used.percent(&cluster, "worker-1");
    let of_controller = of_controller.percent(&cluster, "controller-1");
    let per_second = calls / seconds.max(65) as f64;
    let late = later_than_end(&cluster, first);
    let goal = |wanted: bool, mark| if wanted { mark } else { Mark::None };
    let largest = count == SHARDS[SHARDS.len() - 1];
    let mut add = |what: &str, value, unit, mark| {
        sheet.add(format!("{count} shards: {what}"), value, unit, mark);
    };
    add(
        "worker's CPU",
        used,
        "% of a core",
        goal(largest, Mark::AtMost(30.0)),
    );
    add("controller's CPU", of_controller, "% of a core", Mark::None);
    add(
        "worker's memory, most",
        most as f64 / 1e6,
        "MB",
        goal(largest, Mark::AtMost(268.0)),
    );
    add("GetRecords", per_second, "per second", Mark::None);
    add(
        "CPU for each call",
        used * 1e4 / per_second,
        "us",
        Mark::AtMost(80.0),
    );
    add(
        "calls refused by the limits",
        refused as f64,
        "",
        Mark::AtMost(0.0),
    );
    add(
        "a window's end to its commit, slowest",
        late,
        "ms",
        Mark::None,
    );
}

fn submit(cluster: &Cluster, folder: &Path, lookup: &str, name: &str, endpoint: &str) {
    let place = folder.join(name);
    std::fs::create_dir_all(&place).expect("the folder takes folders");
    let job = JobText {
        name,
        place: text_of(&place),
        lookup,
        window: "60s",
        source: Source::Kinesis {
            endpoint,
            poll: None,
            consumer: None,
        },
    };
    cluster.cli_ok(&["submit", &job.written(&place)]);
}

/// Puts records into the first `busy` shards, in turn, for ever.
async fn put(stream: Arc<Stream>, busy: usize) {
    let began = Instant::now();
    let names: Vec<String> = stream.open_shards().into_iter().take(busy).collect();
    let mut next = 0;
    let mut ticks = tokio::time::interval(PUT_EVERY);
    loop {
        ticks.tick().await;
        let due = began.elapsed().as_millis() as u64 * RATE / 1_000;
        while next < due {
            let shard = &names[next as usize % names.len()];
            let now_ms = (streamctl_engine::clock::system_clock())();
            stream.put_in(shard, &record(7, 0, next, Options::default()), now_ms);
            next += 1;
        }
    }
}

/// The processor time of a process at one moment.
struct Used {
    seconds: f64,
    at: Instant,
}

impl Used {
    fn so_far(cluster: &Cluster, id: &str) -> Self {
        Self {
            seconds: cluster.cpu_seconds(id),
            at: Instant::now(),
        }
    }

    /// Of a core, since then.
    fn percent(&self, cluster: &Cluster, id: &str) -> f64 {
        let seconds = cluster.cpu_seconds(id) - self.seconds;
        100.0 * seconds / self.at.elapsed().as_secs_f64()
    }
}

/// How long after its end the slowest window since this epoch was committed.
fn later_than_end(cluster: &Cluster, epoch: u64) -> f64 {
    let epochs = cluster.epochs(JOB).expect("a controller answers");
    let late = |committed_ms: i64, end_ms: i64| (committed_ms - end_ms) as f64;
    let counted = epochs.iter().filter(|one| one.epoch > epoch);
    let all = counted.map(|one| {
        let end_ms = one.window.map_or(0, |window| window.start_ms + WINDOW_MS);
        late(one.committed_ms, end_ms)
    });
    all.fold(f64::NAN, f64::max)
}

/// A controller, two workers, and jobs without a record.
pub fn idle(root: &Path, seconds: u64) -> Sheet {
    let mut sheet = Sheet::new("idle: a controller, two workers, ten jobs without a record");
    let (folder, lookup) = folder_with_lookup(root, "idle");
    let cluster = local_cluster(&folder, 2, &[]);
    let runtime = runtime();
    let fake = runtime.block_on(FakeKinesis::start());
    fake.create(STREAM, 2);
    let names: Vec<String> = (0..IDLE_JOBS).map(|n| format!("{JOB}-{n}")).collect();
    for name in &names {
        submit(&cluster, &folder, &lookup, name, fake.address());
    }
    for name in &names {
        let is_read = |status: &JobStatus| status.shards_open == 2;
        cluster.until_status(name, "its shards", STARTS_WITHIN, is_read);
    }
    std::thread::sleep(SETTLED_AFTER);
    let ids = ["controller-1", "worker-1", "worker-2"];
    let before = ids.map(|id| Used::so_far(&cluster, id));
    std::thread::sleep(Duration::from_secs(seconds));
    for (id, before) in ids.into_iter().zip(before) {
        let used = before.percent(&cluster, id);
        let memory = cluster.worker_rss(id) as f64 / 1e6;
        sheet.add(format!("{id}: CPU"), used, "% of a core", Mark::None);
        sheet.add(format!("{id}: memory"), memory, "MB", Mark::AtMost(60.0));
    }
    let all: f64 = ids.iter().map(|id| cluster.cpu_seconds(id)).sum();
    sheet.add("CPU of all three since their start", all, "s", Mark::None);
    sheet
}

/// From a second worker's start to its first records.
pub fn join(root: &Path) -> Sheet {
    let mut sheet = Sheet::new("join: a second worker beside a busy one");
    let (folder, lookup) = folder_with_lookup(root, "join");
    let mut cluster = local_cluster(&folder, 1, &[]);
    let job = JobText {
        name: JOB,
        place: text_of(&folder),
        lookup: &lookup,
        window: "1s",
        source: Source::Generator {
            shards: 8,
            rate: 8_000,
            records: None,
        },
    };
    cluster.cli_ok(&["submit", &job.written(&folder)]);
    cluster.until_status(JOB, "its first windows", STARTS_WITHIN, |status| {
        status.published >= 3
    });
    let begin = Instant::now();
    cluster.add_worker("worker-2");
    until("records of the second worker", STARTS_WITHIN, || {
        let status = cluster.status(JOB)?;
        let mut shards = status.shards.iter();
        shards
            .any(|shard| shard.worker == "worker-2" && shard.records > Some(0))
            .then_some(())
    });
    let seconds = begin.elapsed().as_secs_f64();
    sheet.add(
        "process started to its first records",
        seconds,
        "s",
        Mark::AtMost(0.5),
    );
    sheet
}
