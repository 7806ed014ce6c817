//! A controller's program and its etcd with many real workers on the line.
//!
//! Owns: the workers in this process, what is measured of the controller. Does not own: its program ([`Cluster`]).
//! Rule: CPU time, not wall time: the machine does other things too.

use super::control::{SHARDS_PER_JOB, SHARDS_PER_WORKER};
use super::job::{JOB, JobText, Source, folder_with_lookup, text_of};
use super::sheet::{Mark, Sheet, percentile};
use crate::cluster::Cluster;
use crate::crowd::worker;
use crate::servers::Etcd;
use crate::wait::{http_get, until};
use std::path::Path;
use std::time::{Duration, Instant};
use streamctl_engine::aws::{Aws, AwsSettings};
use streamctl_engine::storage::Storages;
use streamctl_worker::meter::Meter;
use streamctl_worker::node::{self, Parts};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// Shards of all jobs together. Ten times as many are a thousand real workers, whose own work is more than two cores can
/// do: what the core does with them is in [`super::control`].
const CURVE: [usize; 2] = [100, 1_000];
/// In which a hundred workers are given a thousand shards.
const SETTLES_WITHIN: Duration = Duration::from_secs(180);

/// Workers of the real kind, in this process, each with its own session and Flight service; they end with it.
fn workers(count: usize, controller: &str) -> Runtime {
    let runtime = Runtime::new().expect("a runtime starts");
    let aws = Aws::new(AwsSettings::from_env());
    let storages = Storages::new(aws.clone());
    for n in 0..count {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("there are ports");
        let parts = Parts {
            worker: worker(n).to_string(),
            flight_address: listener.local_addr().expect("it listens").to_string(),
            controllers: vec![controller.to_owned()],
            aws: aws.clone(),
            storages: storages.clone(),
            memory_limit: "128MiB".parse().expect("it is a size"),
            compute: runtime.handle().clone(),
            meter: Meter::default(),
            security: Default::default(),
        };
        runtime.spawn(node::run(listener, parts, std::future::pending()));
    }
    runtime
}

/// A controller's program with real workers on the line: CPU time for each epoch and shard, writes of etcd for each epoch.
pub fn swarm(root: &Path, seconds: u64) -> Sheet {
    let mut sheet =
        Sheet::new("control plane: a controller with workers over gRPC, windows of 10 s, an object for each task");
    for shards in CURVE {
        one_swarm(&mut sheet, root, shards, seconds);
    }
    sheet
}

/// What a controller and its etcd did until a moment.
struct Moment {
    at: Instant,
    cpu_s: f64,
    revision: u64,
    epochs: u64,
}

fn one_swarm(sheet: &mut Sheet, root: &Path, shards: usize, seconds: u64) {
    let (folder, lookup) = folder_with_lookup(root, &format!("swarm-{shards}"));
    let mut etcd = Etcd::cluster(&folder, 1).remove(0);
    etcd.ready();
    let mut cluster = Cluster::empty(vec![], &folder, &format!("etcd://{}", etcd.address()), None);
    cluster.add_controller("controller-1");
    let (jobs, count) = (shards / SHARDS_PER_JOB, shards / SHARDS_PER_WORKER);
    let running = workers(count, &cluster.controller_urls());
    until("all workers on the line", SETTLES_WITHIN, || cluster.worker_list().filter(|list| list.len() == count));
    let names: Vec<String> = (0..jobs).map(|n| format!("{JOB}-{n:03}")).collect();
    for name in &names {
        let place = folder.join(name);
        std::fs::create_dir_all(&place).expect("the folder takes folders");
        let of_100 = SHARDS_PER_JOB as u32;
        let text = JobText {
            name,
            place: text_of(&place),
            lookup: &lookup,
            window: "10s",
            source: Source::Generator { shards: of_100, rate: 100, records: None },
        };
        cluster.cli_ok(&["submit", &text.written(&place)]);
    }
    for name in &names {
        cluster.until_status(name, "two published windows", SETTLES_WITHIN, |status| status.published >= 2);
    }
    let look = |cluster: &Cluster| Moment {
        at: Instant::now(),
        cpu_s: cluster.cpu_seconds("controller-1"),
        revision: revision(etcd.port()),
        epochs: names.iter().filter_map(|name| cluster.status(name)).map(|status| status.epoch).sum(),
    };
    let before = look(&cluster);
    std::thread::sleep(Duration::from_secs(seconds));
    let after = look(&cluster);
    running.shutdown_background();
    let (epochs, cpu) = ((after.epochs - before.epochs) as f64, after.cpu_s - before.cpu_s);
    let wall = (after.at - before.at).as_secs_f64();
    let mut commits: Vec<f64> = names.iter().filter_map(|name| cluster.epochs(name)).flat_map(commit_ms).collect();
    let who = format!("{shards} shards, {count} workers, {jobs} jobs");
    sheet.add(format!("{who}: epochs"), epochs, "", Mark::AtLeast(1.0));
    sheet.add(format!("{who}: controller's CPU"), cpu / wall * 100.0, "% of a core", Mark::None);
    sheet.add(format!("{who}: for each epoch and shard"), cpu * 1e6 / epochs / SHARDS_PER_JOB as f64, "us", Mark::None);
    let writes = (after.revision - before.revision) as f64 / epochs;
    // The commit, and the word that its objects are visible; the leader's lease is kept alive without a write.
    sheet.add(format!("{who}: writes of etcd for each epoch"), writes, "", Mark::AtMost(2.05));
    sheet.add(format!("{who}: commit p99"), percentile(&mut commits, 99.0), "ms", Mark::None);
}

fn commit_ms(epochs: Vec<streamctl_proto::v1::EpochSummary>) -> Vec<f64> {
    epochs.iter().filter_map(|epoch| epoch.stages).map(|stages| stages.commit_us as f64 / 1e3).collect()
}

/// How many transactions that write something an etcd has seen.
fn revision(port: u16) -> u64 {
    let name = "etcd_debugging_mvcc_current_revision ";
    let text = http_get(port, "/metrics").expect("etcd tells its figures");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    value.expect("etcd tells its revision") as u64
}
