//! A worker in 256 MiB whose sink stands still: it stops reading, stays within its memory, and
//! catches up.
//!
//! Rule: what is measured is the process, as the system counts it (`VmRSS`), not what the program
//! says of itself.

use std::time::{Duration, Instant};
use streamctl_proto::v1::{JobState, JobStatus};
use streamctl_tests::places::one_system_at_a_time;
use streamctl_tests::python::Python;
use streamctl_tests::{Cluster, Servers};

const LIMIT: &str = "256MiB";
const LIMIT_BYTES: u64 = 256 << 20;
const RECORDS_PER_SHARD: u64 = 60_000;
const SHARDS: u64 = 4;
/// More than a worker may hold comes in while S3 stands still: 350 bytes each.
const RATE: u64 = 8_000;
const STANDS_STILL: Duration = Duration::from_secs(15);
const REST: Duration = Duration::from_secs(240);

fn job_file() -> String {
    format!(
        r#"
name = "standstill"
[source]
type = "generator"
seed = 11
shards = {SHARDS}
rate = {RATE}
records_per_shard = {RECORDS_PER_SHARD}
[window]
size = "2s"
[transform]
sql = "SELECT * FROM source"
[sink]
path = "s3://workshop/standstill/out/"
[dead_letter]
path = "s3://workshop/standstill/dead/"
[checkpoint]
location = "s3://workshop/standstill/checkpoint/"
"#
    )
}

/// Looks at the worker's memory for so long; the most it had.
fn most_within(cluster: &Cluster, time: Duration) -> u64 {
    let begin = Instant::now();
    let mut most = 0;
    while begin.elapsed() < time {
        most = most.max(cluster.worker_rss("worker-1"));
        std::thread::sleep(Duration::from_millis(100));
    }
    most
}

#[test]
fn a_worker_of_256_mib_whose_sink_stands_still_stays_below_it_and_catches_up() {
    let _alone = one_system_at_a_time();
    let servers = Servers::start();
    let python = Python::new(servers.env());
    python.ask(
        "seed.py",
        &[
            "prepare", "--stream", "unused", "--shards", "1", "--bucket", "workshop",
        ],
    );
    let mut cluster = Cluster::start(&servers);
    cluster.add_worker_with("worker-1", &["--memory-limit", LIMIT]);
    let at_start = most_within(&cluster, Duration::from_secs(1));
    let file = servers.folder().join("job.toml");
    std::fs::write(&file, job_file()).expect("the test's folder takes files");
    cluster.cli_ok(&[
        "submit",
        file.to_str().expect("a temporary folder's path is text"),
    ]);
    let goes = |status: &JobStatus| status.published >= 2;
    cluster.until_status("standstill", "two epochs", REST, goes);
    let under_load = most_within(&cluster, Duration::from_secs(2));
    servers.pause_s3();
    let standing = most_within(&cluster, STANDS_STILL);
    servers.resume_s3();
    let catching_up = most_within(&cluster, Duration::from_secs(8));
    let is_over = |status: &JobStatus| {
        status.state() == JobState::Completed && status.published == status.epoch
    };
    let last = cluster.until_status("standstill", "the job's end", REST, is_over);
    let after = cluster.worker_rss("worker-1");
    let all = SHARDS * RECORDS_PER_SHARD;
    let totals = last.totals.unwrap_or_default();
    assert_eq!((totals.rows_in, totals.rows_out), (all, all));
    let figures = [at_start, under_load, standing, catching_up, after].map(|bytes| bytes >> 20);
    let within = [under_load, standing, catching_up, after]
        .iter()
        .all(|bytes| *bytes < LIMIT_BYTES);
    assert!(
        within,
        "MiB at the start, under load, standing still, catching up, after: {figures:?}"
    );
}
