//! Exactly once on a cluster: the workshop's job, whatever is scaled, split, killed or restarted.
//!
//! Rule: every step waits until the job went on by itself; the verdict is a foreign reader's, at
//! the end.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use streamctl_proto::v1::{JobState, JobStatus};
use streamctl_tests::places::one_system_at_a_time;
use streamctl_tests::process::Process;
use streamctl_tests::python::Python;
use streamctl_tests::wait::until;
use streamctl_tests::{Cluster, Servers};

pub(super) const JOB: &str = "sales-by-country";
const STREAM: &str = "glueworkshop";
const SINK: &str = "s3://workshop/output/lab4/sales/";
const DEAD: &str = "s3://workshop/output/lab4/dead/";
/// Short, so that a minute of test has many.
const WINDOW_MS: u64 = 2_000;
/// Records per second that go on being written: the whole test stays below what kinesis-mock takes
/// with ease.
const RATE: &str = "12";
/// A step is one or two windows, a lost worker or leader a few seconds more; the machine may be
/// busy.
pub(super) const STEP: Duration = Duration::from_secs(60);

/// The example that users start from, with this test's bucket and a shorter window.
pub(super) fn job_file() -> String {
    let example = include_str!("../../../deploy/jobs/sales-by-country.toml");
    let changed = example
        .replace("my-bucket", "workshop")
        .replace("\"60s\"", &format!("\"{WINDOW_MS}ms\""));
    assert!(
        changed.contains(SINK) && changed.contains(DEAD) && changed.contains("2000ms"),
        "the example changed: {changed}"
    );
    changed
}

/// The system under test, and what was written to its stream.
pub(super) struct Scene {
    pub(super) cluster: Cluster,
    pub(super) python: Python,
    /// Each writer has its own: two may run at once.
    oracles: Vec<PathBuf>,
    pub(super) sinks: Vec<&'static str>,
    pub(super) servers: Servers,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self::on(Servers::start(), &[])
    }

    /// On these servers, with additional environment variables for the programs.
    pub(super) fn on(servers: Servers, env: &[(&str, &str)]) -> Self {
        // The table in the Data Catalog names the stream's address that the cluster reads from.
        let mut seen = servers.env();
        seen.extend(
            env.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let python = Python::new(servers.env());
        Python::new(seen).ask(
            "seed.py",
            &[
                "prepare", "--stream", STREAM, "--shards", "4", "--bucket", "workshop",
            ],
        );
        let mut cluster = Cluster::start_in(&servers, env);
        cluster.add_worker("worker-1");
        Self {
            cluster,
            python,
            oracles: vec![],
            sinks: vec![SINK],
            servers,
        }
    }

    /// Writes so many records at once; 0: at [`RATE`] until asked to end.
    pub(super) fn writer(&mut self, name: &str, first: u64, records: u64) -> Process {
        let oracle = self.servers.folder().join(format!("{name}.jsonl"));
        let rate = if records == 0 { RATE } else { "0" };
        let first = first.to_string();
        let records = records.to_string();
        let path = oracle.to_str().expect("a temporary folder's path is text");
        let what = [
            "write",
            "--stream",
            STREAM,
            "--seed",
            &first,
            "--first",
            &first,
            "--records",
            &records,
        ];
        let how = [
            "--bad-every",
            "20",
            "--unmatched-every",
            "15",
            "--rate",
            rate,
            "--oracle",
            path,
        ];
        let writer = self.python.start(
            name,
            "seed.py",
            &[&what[..], &how].concat(),
            self.servers.folder(),
        );
        self.oracles.push(oracle);
        writer
    }

    pub(super) fn submit(&self) -> String {
        self.cluster
            .cli_ok(&["submit", &self.file("job.toml", &job_file())])
    }

    /// A file of this text in the test's folder.
    pub(super) fn file(&self, name: &str, text: &str) -> String {
        let file = self.servers.folder().join(name);
        std::fs::write(&file, text).expect("the test's folder takes files");
        file.to_str()
            .expect("a temporary folder's path is text")
            .to_owned()
    }

    /// Waits until two more epochs than now are published: the job goes on after what was done to
    /// it.
    #[track_caller]
    pub(super) fn goes_on(&self, after: &str) -> JobStatus {
        let now = self
            .cluster
            .until_status(JOB, "a status", STEP, |_| true)
            .published;
        self.cluster
            .until_status(JOB, &format!("two epochs after {after}"), STEP, |status| {
                status.published >= now + 2
            })
    }

    /// How many records of each kind the stream acknowledged.
    fn sent(&self) -> BTreeMap<String, u64> {
        let mut kinds = BTreeMap::new();
        for oracle in &self.oracles {
            for line in std::fs::read_to_string(oracle).unwrap_or_default().lines() {
                let line: Value = serde_json::from_str(line).expect("the oracle is JSON lines");
                *kinds
                    .entry(line["kind"].as_str().expect("each has a kind").to_owned())
                    .or_default() += 1;
            }
        }
        kinds
    }

    /// Waits until all that was written is published, then compares what a foreign reader finds.
    #[track_caller]
    pub(super) fn everything_is_there_once(&self) -> JobStatus {
        let status = self.everything_is_published();
        self.rows_are_there_once(&self.sinks);
        status
    }

    /// Waits until all that was written is published, and balanced.
    #[track_caller]
    pub(super) fn everything_is_published(&self) -> JobStatus {
        let sent = self.sent();
        let all: u64 = sent.values().sum();
        let is_all =
            |status: &JobStatus| rows_in(status) >= all && status.published == status.epoch;
        let status =
            self.cluster
                .until_status(JOB, &format!("{all} records published"), STEP, is_all);
        let totals = status.totals.unwrap_or_default();
        let of = |kind: &str| sent.get(kind).copied().unwrap_or_default();
        assert_eq!((totals.rows_in, totals.rows_out), (all, of("match")));
        assert_eq!(
            (totals.rows_dead, totals.rows_unmatched),
            (of("bad"), of("unmatched"))
        );
        assert_eq!(totals.rows_decoded + totals.rows_dead, totals.rows_in);
        status
    }

    /// Compares what is in these folders with what was written.
    #[track_caller]
    pub(super) fn rows_are_there_once(&self, sinks: &[&str]) {
        let mut flags = vec!["--dead", DEAD];
        sinks.iter().for_each(|sink| flags.extend(["--sink", sink]));
        for oracle in &self.oracles {
            flags.extend([
                "--oracle",
                oracle.to_str().expect("a temporary folder's path is text"),
            ]);
        }
        let verdict = self.python.ask("check_output.py", &flags);
        assert_eq!(verdict["ok"], true, "{verdict:#}");
    }
}

fn rows_in(status: &JobStatus) -> u64 {
    status.totals.as_ref().map_or(0, |counts| counts.rows_in)
}

fn busy_workers(status: &JobStatus) -> BTreeSet<String> {
    status
        .tasks
        .iter()
        .map(|task| task.worker.clone())
        .collect()
}

#[test]
fn every_record_is_there_once_whatever_is_scaled_split_killed_or_restarted() {
    let _alone = one_system_at_a_time();
    let mut scene = Scene::new();
    let mut backlog = scene.writer("backlog", 1_000, 150);
    assert!(backlog.wait(STEP).success(), "{}", backlog.log());
    scene.submit();
    scene.submit();
    let mut writer = scene.writer("live", 10_000, 0);
    scene.goes_on("the submit");

    scale_up_and_down(&mut scene);
    split_and_merge(&scene);
    kill_a_worker_inside_a_window(&mut scene);
    kill_the_leader(&mut scene);
    kill_everything(&mut scene);
    // While it runs: what is committed meanwhile is no finding.
    scene.cluster.cli_ok(&["verify", JOB]);

    assert!(writer.terminate(STEP).success(), "{}", writer.log());
    let status = scene.everything_is_there_once();
    epochs_are_numbered_without_a_gap_and_balanced(&scene, &status);
    foreign_clients_see_the_same(&scene, &status);
    stop_and_submit_again_continues(&mut scene);
    it_can_be_proven(&scene);
}

fn scale_up_and_down(scene: &mut Scene) {
    scene.cluster.add_worker("worker-2");
    scene.cluster.add_worker("worker-3");
    let all_three = |status: &JobStatus| busy_workers(status).len() == 3;
    scene
        .cluster
        .until_status(JOB, "work for all three workers", STEP, all_three);
    scene.goes_on("scaling to three");
    assert!(
        scene.cluster.dismiss_worker("worker-3"),
        "SIGTERM is a clean end"
    );
    let two = BTreeSet::from(["worker-1".to_owned(), "worker-2".to_owned()]);
    scene.cluster.until_status(
        JOB,
        "the work of the one that left on the others",
        STEP,
        |s| busy_workers(s) == two,
    );
    scene.goes_on("scaling to two");
}

fn split_and_merge(scene: &Scene) {
    let split = scene.python.ask("reshard.py", &["split", STREAM]);
    let knows = |count: u32| {
        move |status: &JobStatus| status.shards_open == count && status.shards_ended >= 1
    };
    scene
        .cluster
        .until_status(JOB, &format!("the children of {split}"), STEP, knows(5));
    scene.goes_on("the split");
    let merge = scene.python.ask("reshard.py", &["merge", STREAM]);
    scene
        .cluster
        .until_status(JOB, &format!("the child of {merge}"), STEP, knows(4));
    scene.goes_on("the merge");
}

fn kill_a_worker_inside_a_window(scene: &mut Scene) {
    until("the middle of a window", STEP, || {
        let into_window = now_ms() % WINDOW_MS;
        (WINDOW_MS / 3..2 * WINDOW_MS / 3)
            .contains(&into_window)
            .then_some(())
    });
    scene.cluster.kill_worker("worker-2");
    let moved =
        |status: &JobStatus| busy_workers(status) == BTreeSet::from(["worker-1".to_owned()]);
    scene.cluster.until_status(
        JOB,
        "the lost worker's shards on the other one",
        STEP,
        moved,
    );
    scene.goes_on("the loss of a worker");
    scene.cluster.add_worker("worker-4");
    scene
        .cluster
        .until_status(JOB, "work for the new worker", STEP, |status| {
            busy_workers(status).len() == 2
        });
}

fn kill_the_leader(scene: &mut Scene) {
    let before = scene.cluster.until_status(JOB, "a status", STEP, |_| true);
    let lost = scene.cluster.kill_leader();
    let status = scene.goes_on("the loss of the leader");
    assert_ne!(scene.cluster.leader(), Some(lost));
    assert!(
        status.epoch >= before.epoch,
        "an epoch was forgotten: {} < {}",
        status.epoch,
        before.epoch
    );
}

fn kill_everything(scene: &mut Scene) {
    scene.cluster.kill_all();
    scene.servers.etcd.kill();
    scene.servers.etcd.start_again();
    scene.cluster.start_all_again();
    scene.goes_on("the restart of everything");
}

fn epochs_are_numbered_without_a_gap_and_balanced(scene: &Scene, status: &JobStatus) {
    let epochs = scene.cluster.epochs(JOB).expect("a leader answers");
    let numbers: Vec<_> = epochs.iter().map(|epoch| epoch.epoch).collect();
    assert_eq!(numbers, (1..=status.epoch).collect::<Vec<_>>());
    let windows: Vec<_> = epochs
        .iter()
        .map(|epoch| epoch.window.expect("an epoch has a window").start_ms)
        .collect();
    assert!(
        windows.is_sorted_by(|a, b| a < b),
        "windows in order, each once: {windows:?}"
    );
    let mut rows_in = 0;
    let mut rows_out = 0;
    for epoch in &epochs {
        let counts = epoch.counts.unwrap_or_default();
        assert_eq!(
            counts.rows_in,
            counts.rows_decoded + counts.rows_dead,
            "epoch {}",
            epoch.epoch
        );
        assert!(counts.rows_in > 0, "epoch {} is empty", epoch.epoch);
        rows_in += counts.rows_in;
        rows_out += counts.rows_out;
    }
    let totals = status.totals.unwrap_or_default();
    assert_eq!((rows_in, rows_out), (totals.rows_in, totals.rows_out));
    assert!(
        epochs
            .iter()
            .flat_map(|epoch| &epoch.unmatched)
            .all(|key| key.key == "Neverland")
    );
}

fn foreign_clients_see_the_same(scene: &Scene, status: &JobStatus) {
    let address = scene.cluster.leader_address().expect("a controller leads");
    let seen = scene.python.ask("grpc_status.py", &[&address, JOB]);
    assert_eq!(seen["health"], "SERVING");
    // Numbers of 64 bits are text in protobuf's JSON.
    assert_eq!(
        seen["status"]["epoch"],
        status.epoch.to_string(),
        "{seen:#}"
    );
    assert_eq!(seen["status"]["state"], "JOB_STATE_RUNNING");

    let last = status.last_epoch.as_ref().expect("there are epochs");
    let epoch = last.epoch.to_string();
    let read = scene
        .python
        .ask("flight_read.py", &[&address, JOB, &epoch, &epoch]);
    assert_eq!(
        read["rows"],
        last.counts.unwrap_or_default().rows_out,
        "{read:#}"
    );

    let tailed = scene
        .cluster
        .cli_ok(&["tail", JOB, "--from", &epoch, "--to", &epoch, "-o", "json"]);
    assert_eq!(
        tailed.lines().count() as u64,
        last.counts.unwrap_or_default().rows_out,
        "one row per line: {tailed}"
    );

    for verb in ["status", "epochs"] {
        let text = scene.cluster.cli_ok(&[verb, JOB, "-o", "json"]);
        // One value, or one per line.
        let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&text)
            .into_iter()
            .collect();
        assert!(
            values.is_ok_and(|values| !values.is_empty()),
            "{verb} -o json printed {text}"
        );
    }
}

fn stop_and_submit_again_continues(scene: &mut Scene) {
    scene.cluster.cli_ok(&["stop", JOB, "--drain"]);
    scene.cluster.until_status(JOB, "the stop", STEP, |status| {
        status.state() == JobState::Stopped
    });
    let mut more = scene.writer("more", 90_000, 40);
    assert!(more.wait(STEP).success(), "{}", more.log());
    let shown = scene.submit();
    assert!(shown.contains("resumed after its last epoch"), "{shown}");
    scene.everything_is_there_once();
}

/// After all that was done to it; row by row for the first epoch and the last.
fn it_can_be_proven(scene: &Scene) {
    let last = scene
        .cluster
        .status(JOB)
        .expect("a leader answers")
        .epoch
        .to_string();
    let replay = format!("1,{last}");
    let answer = scene
        .cluster
        .cli_ok(&["verify", JOB, "--replay", &replay, "-o", "json"]);
    let answer: Value = serde_json::from_str(&answer).expect("one document");
    assert_eq!(
        (&answer["proven"], &answer["listed"], &answer["replayed"]),
        (&true.into(), &true.into(), &2.into())
    );
    assert_eq!(answer["epochs"].to_string(), last);
}

fn now_ms() -> u64 {
    streamctl_engine::clock::now_ms()
        .try_into()
        .expect("we are past 1970")
}
