//! A controller's program and its etcd with a thousand connected workers.
//!
//! Owns: the measurements of the controller. Does not own: its program ([`Cluster`]), the workers
//! ([`light`]).
//! Rule: CPU time, not wall time: the workers run in this process, which does not count.

use super::control::{SHARDS_PER_JOB, SHARDS_PER_WORKER};
use super::job::{JOB, JobText, Source, folder_with_lookup, text_of};
use super::light;
use super::sheet::{Mark, Sheet, percentile};
use crate::cluster::Cluster;
use crate::crowd::worker;
use crate::servers::Etcd;
use crate::wait::{http_get, until};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};
use streamctl_proto::v1::EpochSummary;
use tokio::runtime::Runtime;
use tokio::task::{AbortHandle, JoinSet};

/// Shards of all jobs together, with 100 shards per job and 10 per worker.
const CURVE: [usize; 3] = [100, 1_000, 10_000];
/// Time to assign ten thousand shards, or those of a tenth of the workers, to a thousand workers.
const SETTLES_WITHIN: Duration = Duration::from_secs(120);
/// One worker in this many is lost.
const LOST_OF: usize = 10;

/// Workers in this process, each with its own connection; they end when these are dropped.
struct Lines {
    runtime: Runtime,
    running: JoinSet<()>,
    each: Vec<AbortHandle>,
}

impl Lines {
    fn to(controller: &str, count: usize) -> Self {
        let runtime = Runtime::new().expect("a runtime starts");
        let mut running = JoinSet::new();
        let mut run = |n| {
            running.spawn_on(
                light::run(worker(n).to_string(), controller.to_owned()),
                runtime.handle(),
            )
        };
        let each = (0..count).map(&mut run).collect();
        Self {
            runtime,
            running,
            each,
        }
    }

    /// Ends a part of them without notice; returns their names.
    fn lose(&self) -> BTreeSet<String> {
        let lost = |n: usize| {
            self.each[n].abort();
            worker(n).to_string()
        };
        (0..self.each.len()).step_by(LOST_OF).map(lost).collect()
    }

    fn end(self) {
        drop(self.running);
        self.runtime.shutdown_background();
    }
}

/// A controller's program with connected workers: CPU time for each epoch and shard, etcd writes
/// for each epoch, and what happens to the shards of lost workers.
pub fn swarm(root: &Path, seconds: u64) -> Sheet {
    let mut sheet =
        Sheet::new("control plane: a controller with workers over gRPC, windows of 10 s");
    for shards in CURVE {
        one_swarm(&mut sheet, root, shards, seconds);
    }
    sheet
}

/// Counters of a controller and its etcd at one moment.
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
    let jobs = shards / SHARDS_PER_JOB;
    let count = shards / SHARDS_PER_WORKER;
    let lines = Lines::to(&cluster.controller_urls(), count);
    until("all workers on the line", SETTLES_WITHIN, || {
        cluster.worker_list().filter(|list| list.len() == count)
    });
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
            source: Source::Generator {
                shards: of_100,
                rate: 100,
                records: None,
            },
        };
        cluster.cli_ok(&["submit", &text.written(&place)]);
    }
    for name in &names {
        cluster.until_status(name, "two published windows", SETTLES_WITHIN, |status| {
            status.published >= 2
        });
    }
    let look = |cluster: &Cluster| Moment {
        at: Instant::now(),
        cpu_s: cluster.cpu_seconds("controller-1"),
        revision: revision(etcd.port()),
        epochs: names
            .iter()
            .filter_map(|name| cluster.status(name))
            .map(|status| status.epoch)
            .sum(),
    };
    let before = look(&cluster);
    std::thread::sleep(Duration::from_secs(seconds));
    let after = look(&cluster);
    let epochs = (after.epochs - before.epochs) as f64;
    let cpu = after.cpu_s - before.cpu_s;
    let wall = (after.at - before.at).as_secs_f64();
    let mut commits: Vec<f64> = names
        .iter()
        .filter_map(|name| cluster.epochs(name))
        .flat_map(commit_ms)
        .collect();
    let who = format!("{shards} shards, {count} workers, {jobs} jobs");
    sheet.add(format!("{who}: epochs"), epochs, "", Mark::AtLeast(1.0));
    sheet.add(
        format!("{who}: controller's CPU"),
        cpu / wall * 100.0,
        "% of a core",
        Mark::None,
    );
    sheet.add(
        format!("{who}: for each epoch and shard"),
        cpu * 1e6 / epochs / SHARDS_PER_JOB as f64,
        "us",
        Mark::None,
    );
    let writes = (after.revision - before.revision) as f64 / epochs;
    // The commit, and the mark that its objects are visible; keeping the leader's lease alive needs
    // no write.
    sheet.add(
        format!("{who}: writes of etcd for each epoch"),
        writes,
        "",
        Mark::AtMost(2.05),
    );
    sheet.add(
        format!("{who}: commit p99"),
        percentile(&mut commits, 99.0),
        "ms",
        Mark::None,
    );
    if count > LOST_OF {
        a_part_is_lost(sheet, &who, &cluster, &names, &lines);
        the_leader_is_lost(sheet, &who, &mut cluster, &names);
    }
    lines.end();
}

/// Other workers take over the shards of lost workers, and all other shards keep their workers.
fn a_part_is_lost(
    sheet: &mut Sheet,
    who: &str,
    cluster: &Cluster,
    names: &[String],
    lines: &Lines,
) {
    let before = until(
        "the controller tells who reads what",
        SETTLES_WITHIN,
        || readers(cluster, names),
    );
    let lost = lines.lose();
    let began = Instant::now();
    let after = until(
        "shards of lost workers are read again",
        SETTLES_WITHIN,
        || {
            let now = readers(cluster, names)?;
            now.values()
                .all(|worker| !worker.is_empty() && !lost.contains(worker))
                .then_some(now)
        },
    );
    let seconds = began.elapsed().as_secs_f64();
    let moved = || {
        after
            .iter()
            .filter(|(shard, worker)| before.get(*shard) != Some(*worker))
    };
    let theirs = moved()
        .filter(|(shard, _)| {
            before
                .get(*shard)
                .is_some_and(|worker| lost.contains(worker))
        })
        .count();
    let others = (moved().count() - theirs) as f64;
    sheet.add(
        format!("{who}: a tenth is lost: read again after"),
        seconds,
        "s",
        Mark::AtMost(10.0),
    );
    sheet.add(
        format!("{who}: a tenth is lost: shards of theirs that moved"),
        theirs as f64,
        "",
        Mark::AtLeast(1.0),
    );
    sheet.add(
        format!("{who}: a tenth is lost: shards of others that moved"),
        others,
        "",
        Mark::AtMost(0.0),
    );
}

/// A new leader adopts the running tasks: no shard changes its worker.
fn the_leader_is_lost(sheet: &mut Sheet, who: &str, cluster: &mut Cluster, names: &[String]) {
    let before = until(
        "the controller tells who reads what",
        SETTLES_WITHIN,
        || readers(cluster, names),
    );
    let began = Instant::now();
    cluster.kill("controller-1");
    cluster.start_again("controller-1");
    let after = until(
        "a new leader has given out all shards",
        SETTLES_WITHIN,
        || {
            readers(cluster, names).filter(|now| {
                now.len() == before.len() && now.values().all(|worker| !worker.is_empty())
            })
        },
    );
    let seconds = began.elapsed().as_secs_f64();
    let moved = after
        .iter()
        .filter(|(shard, worker)| before.get(*shard) != Some(*worker))
        .count() as f64;
    sheet.add(
        format!("{who}: the leader is lost: all read under a new one after"),
        seconds,
        "s",
        Mark::AtMost(30.0),
    );
    sheet.add(
        format!("{who}: the leader is lost: shards that moved"),
        moved,
        "",
        Mark::AtMost(0.0),
    );
    let epochs = |cluster: &Cluster| {
        names
            .iter()
            .filter_map(|name| cluster.status(name))
            .map(|s| s.epoch)
            .sum::<u64>()
    };
    let stood_at = epochs(cluster);
    until("all jobs to commit again", SETTLES_WITHIN, || {
        (epochs(cluster) >= stood_at + names.len() as u64).then_some(())
    });
}

/// The worker of each shard of each job, an empty name if not assigned; `None` while the controller
/// does not respond.
fn readers(cluster: &Cluster, names: &[String]) -> Option<BTreeMap<(String, String), String>> {
    let mut readers = BTreeMap::new();
    for name in names {
        let shards = cluster.status(name)?.shards;
        readers.extend(
            shards
                .into_iter()
                .map(|shard| ((name.clone(), shard.shard), shard.worker)),
        );
    }
    Some(readers)
}

fn commit_ms(epochs: Vec<EpochSummary>) -> Vec<f64> {
    epochs
        .iter()
        .filter_map(|epoch| epoch.stages)
        .map(|stages| stages.commit_us as f64 / 1e3)
        .collect()
}

/// The number of write transactions of an etcd.
fn revision(port: u16) -> u64 {
    let name = "etcd_debugging_mvcc_current_revision ";
    let text = http_get(port, "/metrics").expect("etcd tells its figures");
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    value.expect("etcd tells its revision") as u64
}
