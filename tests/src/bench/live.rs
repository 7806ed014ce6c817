//! The running programs: start time, memory, and scaling with a second worker.
//!
//! Owns: the measurements. Does not own: the jobs (`job`), the programs and servers ([`Cluster`]).
//! Rule: figures come from what users can see: the status, the files, `/proc`.

use super::job::{JOB, JobText, Source, folder_with_lookup, text_of};
use super::sheet::{Mark, Sheet, percentile};
use crate::cluster::Cluster;
use crate::places::binary;
use crate::process::Launch;
use crate::servers;
use crate::wait::until;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use streamctl_proto::v1::JobStatus;

/// Average bytes of the generator's records.
const RECORD_BYTES: f64 = 324.0;
pub(super) const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// Measured starts; the median counts.
const STARTS: usize = 7;
/// Shards of the job in the memory measurement.
const SHARDS: u32 = 64;

/// One controller with its own store, and this many workers.
pub(super) fn local_cluster(folder: &Path, workers: usize, flags: &[&str]) -> Cluster {
    let store = format!("file://{}", folder.join("store.redb").display());
    let mut cluster = Cluster::empty(servers::env(&[]), folder, &store, None);
    cluster.add_controller("controller-1");
    (1..=workers).for_each(|number| cluster.add_worker_with(&format!("worker-{number}"), flags));
    all_there(&cluster, workers);
    cluster
}

pub(super) fn all_there(cluster: &Cluster, workers: usize) {
    let there = || cluster.worker_list().filter(|list| list.len() == workers);
    until("a controller that knows its workers", STARTS_WITHIN, there);
}

/// Time of `streamctl run` to the first visible object, and of `submit` to the first read.
pub fn start(root: &Path) -> Sheet {
    let mut sheet = Sheet::new("start");
    let mut seconds: Vec<f64> = (0..STARTS)
        .map(|number| run_to_first_object(root, number))
        .collect();
    let median = percentile(&mut seconds, 50.0);
    let worst = percentile(&mut seconds, 100.0);
    sheet.add(
        "run to the first committed epoch, windows of 1 s: median",
        median,
        "s",
        Mark::AtMost(1.5),
    );
    sheet.add("the slowest", worst, "s", Mark::AtMost(1.5));
    let mut seconds: Vec<f64> = (0..STARTS)
        .map(|number| submit_to_first_read(root, number))
        .collect();
    let median = percentile(&mut seconds, 50.0);
    let worst = percentile(&mut seconds, 100.0);
    sheet.add(
        "submit to the first records read: median",
        median,
        "s",
        Mark::AtMost(1.0),
    );
    sheet.add("the slowest", worst, "s", Mark::AtMost(1.0));
    sheet
}

fn run_to_first_object(root: &Path, number: usize) -> f64 {
    let (folder, lookup) = folder_with_lookup(root, &format!("run-{number}"));
    let job = JobText {
        name: JOB,
        place: text_of(&folder),
        lookup: &lookup,
        window: "1s",
        source: Source::Generator {
            shards: 2,
            rate: 1_000,
            records: None,
        },
    };
    let file = job.written(&folder);
    let state = folder.join("state");
    let launch = Launch::new(
        "run",
        binary("streamctl"),
        &["run", &file, "--state", text_of(&state)],
        &folder,
    );
    let begin = Instant::now();
    let _process = launch.start();
    until("an object", STARTS_WITHIN, || {
        first_object(&folder.join("out"))
    });
    begin.elapsed().as_secs_f64()
}

/// A visible file below this folder: a staged file has a name that begins with a dot or is in a
/// folder with one.
fn first_object(folder: &Path) -> Option<()> {
    let hidden = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(['.', '_']);
    std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter(|entry| !hidden(&entry.file_name()))
        .find_map(|entry| {
            if entry.path().is_dir() {
                first_object(&entry.path())
            } else {
                Some(())
            }
        })
}

fn submit_to_first_read(root: &Path, number: usize) -> f64 {
    let (folder, lookup) = folder_with_lookup(root, &format!("submit-{number}"));
    let cluster = local_cluster(&folder, 1, &[]);
    let job = JobText {
        name: JOB,
        place: text_of(&folder),
        lookup: &lookup,
        window: "60s",
        source: Source::Generator {
            shards: 2,
            rate: 1_000,
            records: None,
        },
    };
    let file = job.written(&folder);
    let begin = Instant::now();
    cluster.cli_ok(&["submit", &file]);
    let read = |status: &JobStatus| {
        status
            .shards
            .iter()
            .any(|shard| shard.records > Some(0))
            .then_some(())
    };
    until("records read", STARTS_WITHIN, || {
        read(&cluster.status(JOB)?)
    });
    begin.elapsed().as_secs_f64()
}

/// The most memory of a worker at 50 MB/s with windows of 60 s.
pub fn memory(root: &Path, seconds: u64) -> Sheet {
    let mut sheet = Sheet::new("memory: one worker, 50 MB/s, 60 s windows, 64 shards");
    let (folder, lookup) = folder_with_lookup(root, "memory");
    let cluster = local_cluster(&folder, 1, &[]);
    let rate = (50e6 / RECORD_BYTES) as u64;
    let job = JobText {
        name: JOB,
        place: text_of(&folder),
        lookup: &lookup,
        window: "60s",
        source: Source::Generator {
            shards: SHARDS,
            rate,
            records: None,
        },
    };
    cluster.cli_ok(&["submit", &job.written(&folder)]);
    let begin = Instant::now();
    let mut most = 0;
    while begin.elapsed() < Duration::from_secs(seconds) {
        most = most.max(cluster.worker_rss("worker-1"));
        std::thread::sleep(Duration::from_millis(250));
    }
    let status = cluster.status(JOB).expect("a controller answers");
    let lag = status
        .shards
        .iter()
        .map(|shard| shard.lag_ms)
        .max()
        .unwrap_or(0);
    let read = status
        .shards
        .iter()
        .filter_map(|shard| shard.bytes)
        .sum::<u64>() as f64
        / 1e6
        / begin.elapsed().as_secs_f64();
    sheet.add("payload read", read, "MB/s", Mark::AtLeast(45.0));
    sheet.add(
        "largest lag at the end",
        lag as f64,
        "ms",
        Mark::AtMost(2_000.0),
    );
    sheet.add(
        "windows published",
        status.published as f64,
        "",
        Mark::AtLeast(1.0),
    );
    sheet.add(
        "largest resident memory",
        most as f64 / 1e6,
        "MB",
        Mark::AtMost(150.0),
    );
    sheet
}

/// Records per second of one worker process on its own core, and of two, with a large backlog of
/// the same source.
pub fn scale_out(root: &Path, seconds: u64) -> Sheet {
    let mut sheet = Sheet::new("scale-out: workers on one core each, behind their source");
    let one = backlog_rate(root, 1, seconds);
    let two = backlog_rate(root, 2, seconds);
    sheet.add("1 worker", one * RECORD_BYTES / 1e6, "MB/s", Mark::None);
    sheet.add("2 workers", two * RECORD_BYTES / 1e6, "MB/s", Mark::None);
    sheet.add("2 workers beside 1", two / one, "times", Mark::AtLeast(1.8));
    sheet
}

/// Pins all threads and later children of a process to this core: one worker alone must not use the
/// second worker's core.
fn on_core(core: usize, pid: u32) {
    let args = ["-a", "-p", "-c", &core.to_string(), &pid.to_string()].map(str::to_owned);
    let done = Command::new("taskset")
        .args(args)
        .output()
        .expect("util-linux is installed");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

fn backlog_rate(root: &Path, workers: usize, seconds: u64) -> f64 {
    let (folder, lookup) = folder_with_lookup(root, &format!("scale-{workers}"));
    let mut cluster = local_cluster(&folder, workers, &["--threads", "1"]);
    for (core, worker) in cluster.worker_ids().iter().enumerate() {
        on_core(core, cluster.process(worker).expect("it runs").pid());
    }
    // More than any of them can read: they have a backlog from the first second.
    let rate = 5_000_000;
    let job = JobText {
        name: JOB,
        place: text_of(&folder),
        lookup: &lookup,
        window: "1s",
        source: Source::Generator {
            shards: 16,
            rate,
            records: None,
        },
    };
    cluster.cli_ok(&["submit", &job.written(&folder)]);
    let read = |status: &JobStatus| {
        status
            .shards
            .iter()
            .filter_map(|shard| shard.records)
            .sum::<u64>()
    };
    let now = || {
        cluster
            .status(JOB)
            .as_ref()
            .map(read)
            .expect("a controller answers")
    };
    cluster.until_status(JOB, "its first windows", STARTS_WITHIN, |status| {
        status.published >= 1
    });
    let before = now();
    let begin = Instant::now();
    std::thread::sleep(Duration::from_secs(seconds));
    (now() - before) as f64 / begin.elapsed().as_secs_f64()
}
