//! One soak, from the first record to the verdict.
//!
//! Owns: its parts, the steps, the sampling, the end. Does not own: when steps happen (`plan`), the
//! check for flatness (`flat`).
//! Rule: DuckDB checks over all of the output that every input record comes out exactly once.

use super::flat::{Flatness, Samples};
use super::plan::{BAD_EVERY, Plan, Step, UNMATCHED_EVERY};
use crate::chaos::scene::JobText;
use crate::chaos::watch::Watch;
use crate::cluster::Cluster;
use crate::places::{binary, country_lookup};
use crate::procfs;
use crate::python::Python;
use crate::servers::{self, Etcd, Server};
use crate::wait::until;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use streamctl_proto::v1::JobStatus;

pub(super) const JOB: &str = "soak";
const BUCKET: &str = "soak";
const STREAM: &str = "soak";
const CONTROLLERS: [&str; 2] = ["controller-1", "controller-2"];
/// The first one is never restarted.
pub(super) const WORKERS: [&str; 2] = ["worker-1", "worker-2"];
const WINDOW: &str = "2s";
/// The memory limit of each worker, if its program has the flag.
pub(super) const MEMORY_LIMIT: &str = "256MiB";
const SAMPLE_EVERY: Duration = Duration::from_secs(3);
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// Limit from the last record until all are published.
const DONE_WITHIN: Duration = Duration::from_secs(300);

#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// All of the following results are good.
    pub ok: bool,
    /// Records written per second, and in total.
    pub rate: u64,
    /// See `rate`.
    pub records: u64,
    /// Seconds of load, and from its end until all records are published.
    pub seconds: u64,
    /// See `seconds`.
    pub drained_seconds: f64,
    pub epochs: u64,
    /// Largest lag in the status, in milliseconds.
    pub lag_ms_max: u64,
    pub tasks: usize,
    /// The steps of the run: second, description.
    pub steps: Vec<(u64, String)>,
    pub processes: Vec<Flatness>,
    /// Records that are missing in the output, and those that occur once too often.
    pub lost: u64,
    /// See `lost`.
    pub twice: u64,
    pub verdict: Value,
}

pub(super) struct Soak {
    plan: Plan,
    pub(super) cluster: Cluster,
    pub(super) watch: Watch,
    etcd: Etcd,
    pub(super) s3: Server,
    /// The workers have a memory limit.
    pub(super) limited: bool,
    kinesis: Server,
    python: Python,
    samples: Samples,
    lag_ms_max: u64,
    steps: Vec<(u64, String)>,
}

/// Runs it; panics if a part does not start or records do not come out in time.
pub fn run(plan: &Plan) -> Outcome {
    let mut soak = Soak::start(plan);
    soak.submit();
    let begin = Instant::now();
    soak.go_on(begin);
    let ended = Instant::now();
    let status = soak.until_all_published();
    let drained_seconds = ended.elapsed().as_secs_f64();
    let verdict = soak.judge();
    let processes = soak.samples.judge(plan.lasts);
    let of = |what: &str| verdict[what].as_u64().unwrap_or(u64::MAX);
    let lost = of("lost");
    let twice = of("twice");
    let flat = processes
        .iter()
        .filter(|process| is_ours(process))
        .all(|process| process.flat || !process.whole);
    Outcome {
        ok: flat && lost == 0 && twice == 0 && verdict["ok"] == true,
        rate: plan.rate,
        records: plan.records(),
        seconds: plan.lasts.as_secs(),
        drained_seconds,
        epochs: status.epoch,
        lag_ms_max: soak.lag_ms_max,
        tasks: status.tasks.len(),
        steps: soak.steps,
        processes,
        lost,
        twice,
        verdict,
    }
}

/// Whether the worker's program supports a memory limit.
fn takes_a_limit() -> bool {
    let help = std::process::Command::new(binary("streamctl-worker"))
        .arg("--help")
        .output();
    help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--memory-limit"))
}

impl Soak {
    pub(super) fn start(plan: &Plan) -> Self {
        let folder = plan.folder.as_path();
        let mut etcd = Etcd::cluster(folder, 1);
        let etcd = etcd.pop().expect("one was asked for");
        let mut s3 = Server::s3(folder);
        s3.ready();
        let shards = plan.shards().to_string();
        let records = plan.records().to_string();
        let rate = plan.rate.to_string();
        let bad = BAD_EVERY.to_string();
        let unmatched = UNMATCHED_EVERY.to_string();
        let load = [
            ["--stream", STREAM],
            ["--shards", &shards],
            ["--produce", &rate],
            ["--records", &records],
            ["--bad-every", &bad],
            ["--unmatched-every", &unmatched],
            ["--retain-s", "600"],
        ];
        let mut kinesis = Server::kinesis_fake(folder, load.as_flattened());
        kinesis.ready();
        let env = servers::env(&[("S3", s3.port()), ("KINESIS", kinesis.port())]);
        let mut cluster = Cluster::empty(
            env.clone(),
            folder,
            &format!("etcd://{}", etcd.address()),
            None,
        );
        CONTROLLERS.iter().for_each(|id| cluster.add_controller(id));
        let limited = takes_a_limit();
        let flags: &[&str] = if limited {
            &["--memory-limit", MEMORY_LIMIT]
        } else {
            &[]
        };
        WORKERS
            .iter()
            .for_each(|id| cluster.add_worker_with(id, flags));
        let watch = Watch::start(&cluster.controller_addresses());
        watch.follow(JOB);
        until("a leader with both workers", STARTS_WITHIN, || {
            (watch.view().workers.len() == WORKERS.len()).then_some(())
        });
        let samples = Samples::default();
        let lag_ms_max = 0;
        let steps = vec![];
        let plan = plan.clone();
        let python = Python::new(env);
        Self {
            plan,
            cluster,
            watch,
            etcd,
            s3,
            limited,
            kinesis,
            python,
            samples,
            lag_ms_max,
            steps,
        }
    }

    /// Waits until all written records are published.
    pub(super) fn until_all_published(&self) -> JobStatus {
        let records = self.plan.records();
        self.cluster.until_status(
            JOB,
            &format!("all {records} records published"),
            DONE_WITHIN,
            |status| {
                status.totals.as_ref().map_or(0, |totals| totals.rows_in) >= records
                    && status.published == status.epoch
            },
        )
    }

    fn root(&self) -> String {
        if self.plan.local {
            self.plan.folder.display().to_string()
        } else {
            format!("s3://{BUCKET}")
        }
    }

    pub(super) fn submit(&self) {
        self.python.ask(
            "seed.py",
            &["prepare", "--no-stream", "--no-table", "--bucket", BUCKET],
        );
        let lookup = self.plan.folder.join("lookup");
        std::fs::create_dir_all(&lookup).expect("the folder takes folders");
        std::fs::copy(country_lookup(), lookup.join("country_lookup.csv"))
            .expect("the folder takes files");
        let file = self.plan.folder.join("soak.toml");
        std::fs::write(&file, self.job_file(&lookup)).expect("the folder takes files");
        self.cluster
            .cli_ok(&["submit", file.to_str().expect("the folder's path is text")]);
    }

    fn job_file(&self, lookup: &Path) -> String {
        let lookup = format!("{}/", lookup.display());
        let place = self.root();
        JobText {
            name: JOB,
            stream: STREAM,
            window: WINDOW,
            lookup: &lookup,
            place: &place,
        }
        .toml()
    }

    /// Samples, and executes due steps, until the load ends.
    fn go_on(&mut self, begin: Instant) {
        let mut steps = self.plan.steps().into_iter().peekable();
        while begin.elapsed() < self.plan.lasts {
            self.sample(begin.elapsed());
            if let Some((_, step)) = steps.next_if(|(due, _)| begin.elapsed() >= *due) {
                let words = self.step(step);
                self.steps.push((begin.elapsed().as_secs(), words));
            }
            std::thread::sleep(SAMPLE_EVERY);
        }
    }

    fn step(&mut self, step: Step) -> String {
        let second = WORKERS[1];
        match step {
            Step::Split => format!(
                "split {}",
                self.python.ask("reshard.py", &["split", STREAM])
            ),
            Step::Merge => format!(
                "merge {}",
                self.python.ask("reshard.py", &["merge", STREAM])
            ),
            Step::KillLeader => {
                let leader = self.cluster.kill_leader();
                self.cluster.start_again(&leader);
                format!("kill -9 of {leader}, which led")
            }
            Step::KillWorker => {
                self.cluster.kill(second);
                self.cluster.start_again(second);
                format!("kill -9 of {second}")
            }
            Step::RestartWorker => {
                let well = self.cluster.terminate(second);
                self.cluster.start_again(second);
                format!(
                    "SIGTERM to {second}, which ended {}",
                    if well { "well" } else { "badly" }
                )
            }
        }
    }

    fn sample(&mut self, at: Duration) {
        let mut pids = BTreeMap::from([
            ("etcd".to_owned(), self.etcd.process().pid()),
            ("s3".to_owned(), self.s3.process().pid()),
            ("kinesis-fake".to_owned(), self.kinesis.process().pid()),
        ]);
        for id in CONTROLLERS.iter().chain(&WORKERS) {
            if let Some(process) = self.cluster.process(id) {
                pids.insert((*id).to_owned(), process.pid());
            }
        }
        for (name, pid) in pids {
            if let Some(taken) = procfs::taken(pid) {
                self.samples.add(&name, at, pid, taken);
            }
        }
        let lag_ms = self.watch.view().job.map_or(0, |job| job.lag_ms);
        self.lag_ms_max = self.lag_ms_max.max(lag_ms);
    }

    pub(super) fn judge(&self) -> Value {
        let [sink, dead] = ["out", "dead"].map(|place| format!("{}/{place}/", self.root()));
        let records = self.plan.records().to_string();
        let bad = BAD_EVERY.to_string();
        let unmatched = UNMATCHED_EVERY.to_string();
        let what = ["--sink", &sink, "--dead", &dead, "--records", &records];
        let odd = ["--bad-every", &bad, "--unmatched-every", &unmatched];
        self.python
            .ask("check_made.py", &[&what[..], &odd].concat())
    }
}

/// Third-party programs, and a fake that keeps its input, may grow.
fn is_ours(process: &Flatness) -> bool {
    CONTROLLERS
        .iter()
        .chain(&WORKERS)
        .any(|name| process.process == *name)
}

pub fn table(outcome: &Outcome) -> String {
    let mut lines = vec![format!(
        "{} records/s for {} s: {} records, {} epochs, drained in {:.1} s, largest lag {} ms, lost {}, twice {}",
        outcome.rate,
        outcome.seconds,
        outcome.records,
        outcome.epochs,
        outcome.drained_seconds,
        outcome.lag_ms_max,
        outcome.lost,
        outcome.twice
    )];
    lines.extend(
        outcome
            .steps
            .iter()
            .map(|(second, what)| format!("  at {second} s: {what}")),
    );
    lines.push(format!(
        "{:14} {:>22} {:>18} {:>18} {:>12}  ",
        "process", "resident MiB 2nd>last", "files 2nd>last", "threads 2nd>last", "most MiB"
    ));
    for process in &outcome.processes {
        let pair = |what: usize| format!("{:.0} > {:.0}", process.second[what], process.last[what]);
        let words = match (is_ours(process), process.flat, process.whole) {
            (false, ..) => "not judged",
            (true, true, true) => "flat",
            (true, false, true) => "GROWS",
            (true, _, false) => "restarted",
        };
        lines.push(format!(
            "{:14} {:>22} {:>18} {:>18} {:>12.0}  {words}",
            process.process,
            pair(0),
            pair(1),
            pair(2),
            process.rss_max
        ));
    }
    lines.push(if outcome.ok {
        "ok".to_owned()
    } else {
        format!("MISSED: {}", outcome.verdict)
    });
    lines.join("\n")
}
