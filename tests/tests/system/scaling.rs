//! An autoscaler that follows the controllers: more workers while one cannot keep up, fewer when
//! that is over, and nothing is lost by it.
//!
//! Owns: a follower of KEDA's contract that starts and stops worker processes. Does not own: KEDA,
//! Kubernetes.
//! Rule: what one worker can do is limited as a container's CPU limit does it, so that more workers
//! are more work on any machine, and the load is a multiple of what one was seen to do there;
//! nothing is waited for by time alone.

use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use streamctl_proto::externalscaler::external_scaler_client::ExternalScalerClient;
use streamctl_proto::externalscaler::{GetMetricsRequest, IsActiveResponse, ScaledObjectRef};
use streamctl_proto::v1::jobs_client::JobsClient;
use streamctl_proto::v1::{GetScalingRequest, JobState, ScalingDecision};
use streamctl_tests::Cluster;
use streamctl_tests::places::one_system_at_a_time;
use streamctl_tests::process::Process;
use streamctl_tests::python::Python;
use streamctl_tests::servers::Etcd;
use streamctl_tests::wait::{http_get, in_time, until};
use tonic::transport::Channel;
use tonic::{Code, Streaming};

/// As short as they may be.
const FLAGS: [&str; 10] = [
    "--workers-max",
    "4",
    "--scale-busy",
    "60",
    "--scale-out-after",
    "2s",
    "--scale-in-after",
    "3s",
    "--scale-catch-up",
    "5s",
];
/// Of the time of one core that a worker has: all of them together have less than one.
const WORKER_PERCENT: &str = "10";
const SHARDS: u32 = 8;
/// Of what one such worker was seen to take, so much comes in: too much for one, also on a machine
/// that was half as fast when that was seen; and what four take, or will have taken soon after it
/// came in.
const TIMES_TOO_MUCH: u64 = 4;
const SECONDS: u64 = 10;
/// A job of fewer seconds says little of what a worker takes: most of it would be its beginning and
/// its end.
const GAUGED: Duration = Duration::from_secs(4);
/// Records of the first such job.
const GAUGED_RECORDS: u64 = 10_000;
/// Faster than a share of a core of any machine.
const GAUGED_RATE: u64 = 5_000_000;
const SOON: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(240);

fn job(folder: &Path, name: &str, source: &str) -> String {
    let file = folder.join(format!("{name}.toml"));
    let root = folder.join(name);
    let root = root.display();
    let text = format!(
        r#"
name = "{name}"
[source]
type = "generator"
{source}
[window]
size = "1s"
[transform]
sql = "SELECT uuid, country, unitssold FROM source"
[sink]
path = "{root}/out/"
[dead_letter]
path = "{root}/dead/"
[checkpoint]
location = "{root}/checkpoint/"
"#
    );
    std::fs::write(&file, text).unwrap();
    for place in ["out", "dead", "checkpoint"] {
        std::fs::create_dir_all(folder.join(name).join(place)).unwrap();
    }
    file.to_str().unwrap().to_owned()
}

fn worker_flags() -> [&'static str; 4] {
    ["--threads", "1", "--memory-limit", "256MiB"]
}

/// Limits what a worker of this cluster can do, as long as what is given back runs.
fn throttle(python: &Python, cluster: &mut Cluster, id: &str, logs: &Path) -> Process {
    let pid = cluster.process(id).unwrap().pid().to_string();
    python.start(
        &format!("throttle-{id}"),
        "throttle.py",
        &[&pid, WORKER_PERCENT],
        logs,
    )
}

/// Records per second that one worker takes here, of this build: as fast as it works off what lies
/// there, in a cluster of its own. What its jobs need to begin and to end is in it, so that it is
/// rather too low.
fn one_workers_rate(python: &Python, folder: &Path) -> u64 {
    let store = format!("file://{}", folder.join("gauge-store").display());
    let mut cluster = Cluster::empty(vec![], folder, &store, None);
    cluster.add_controller("gauge-controller");
    until("a leader", SOON, || cluster.leader());
    cluster.add_worker_with("gauge-worker", &worker_flags());
    until("its worker", SOON, || {
        cluster.worker_list().filter(|workers| !workers.is_empty())
    });
    let _limited = throttle(python, &mut cluster, "gauge-worker", folder);
    let mut records = GAUGED_RECORDS;
    loop {
        let name = format!("gauge-{records}");
        let each = records / u64::from(SHARDS);
        let source = format!("shards = {SHARDS}\nrate = {GAUGED_RATE}\nrecords_per_shard = {each}");
        let file = job(folder, &name, &source);
        cluster.cli_ok(&["submit", &file]);
        let began = Instant::now();
        cluster.until_status(&name, "its end", LIMIT, |status| {
            status.state() == JobState::Completed
        });
        let took = began.elapsed();
        if took >= GAUGED {
            return (records as f64 / took.as_secs_f64()) as u64;
        }
        // As many as would take long enough if none of it were beginning and end, and a little
        // more.
        let longer = GAUGED.as_secs_f64() / took.as_secs_f64() * 1.2;
        records = (records as f64 * longer.clamp(1.5, 8.0)) as u64;
    }
}

/// What KEDA would ask, and do.
struct Follower<'a> {
    cluster: &'a mut Cluster,
    python: Python,
    logs: &'a Path,
    runtime: tokio::runtime::Runtime,
    /// In turn: the one that leads, the one that stands by.
    controllers: Vec<String>,
    asked: usize,
    workers: Vec<(String, Process)>,
    started: u32,
    /// Every decision that was told, by term and time: a leader that is lost takes its list with
    /// it.
    decisions: BTreeMap<(u64, i64), ScalingDecision>,
}

impl Follower<'_> {
    fn client(&mut self) -> Option<ExternalScalerClient<Channel>> {
        self.asked += 1;
        let address = format!(
            "http://{}",
            self.controllers[self.asked % self.controllers.len()]
        );
        self.runtime
            .block_on(ExternalScalerClient::connect(address))
            .ok()
    }

    /// The metric, or none while nobody knows.
    fn desired(&mut self) -> Option<usize> {
        let mut client = self.client()?;
        let scaled_object_ref = Some(ScaledObjectRef {
            name: "worker".into(),
            ..Default::default()
        });
        let request = GetMetricsRequest {
            scaled_object_ref,
            metric_name: "workers_desired".into(),
        };
        match self.runtime.block_on(client.get_metrics(request)) {
            Ok(answer) => {
                let value = answer.into_inner().metric_values.remove(0);
                assert_eq!(value.metric_value_float, value.metric_value as f64);
                Some(usize::try_from(value.metric_value).unwrap())
            }
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status}");
                None
            }
        }
    }

    fn is_active(&mut self) -> bool {
        until("an answer whether there is work", SOON, || {
            let mut client = self.client()?;
            let asked = self
                .runtime
                .block_on(client.is_active(ScaledObjectRef::default()));
            asked.ok().map(|answer| answer.into_inner().result)
        })
    }

    /// The one metric, and its target for each pod.
    fn spec(&mut self) -> (String, f64) {
        let mut client = self.client().expect("a controller answers");
        let specs = self
            .runtime
            .block_on(client.get_metric_spec(ScaledObjectRef::default()))
            .unwrap()
            .into_inner();
        let [spec] = &specs.metric_specs[..] else {
            panic!("{specs:?}")
        };
        assert_eq!(spec.target_size as f64, spec.target_size_float);
        (spec.metric_name.clone(), spec.target_size_float)
    }

    /// Whether there is work, as it is told at every change.
    fn activity(&mut self) -> Streaming<IsActiveResponse> {
        let mut client = self.client().expect("a controller answers");
        self.runtime
            .block_on(client.stream_is_active(ScaledObjectRef::default()))
            .unwrap()
            .into_inner()
    }

    fn next(&self, activity: &mut Streaming<IsActiveResponse>) -> bool {
        let reported = self
            .runtime
            .block_on(async { tokio::time::timeout(SOON, activity.message()).await });
        reported
            .expect("something is told")
            .unwrap()
            .expect("the stream goes on")
            .result
    }

    /// One step: as many processes as there should be.
    fn follow(&mut self) -> Option<usize> {
        let desired = self.desired()?;
        while self.workers.len() < desired {
            self.start_worker();
        }
        while self.workers.len() > desired {
            let (id, throttle) = self.workers.pop().unwrap();
            drop(throttle);
            // The throttle may have left it stopped.
            self.cluster.process(&id).unwrap().resume();
            assert!(
                self.cluster.dismiss_worker(&id),
                "{id} hands its shards back and ends well"
            );
        }
        self.hear();
        Some(desired)
    }

    fn hear(&mut self) {
        for address in self.controllers.clone() {
            let asked = self.runtime.block_on(async {
                let mut client = JobsClient::connect(format!("http://{address}"))
                    .await
                    .ok()?;
                client.get_scaling(GetScalingRequest::default()).await.ok()
            });
            let reported = asked
                .map(|answer| answer.into_inner().decisions)
                .unwrap_or_default();
            self.decisions.extend(
                reported
                    .into_iter()
                    .map(|decision| ((decision.term, decision.at_ms), decision)),
            );
        }
    }

    /// The decisions, for a person who asks why a test failed.
    fn reported(&self) -> String {
        self.decisions
            .values()
            .map(|d| format!("t{} {} -> {}: {}\n", d.term, d.from, d.to, d.reason))
            .collect()
    }

    fn start_worker(&mut self) {
        self.started += 1;
        let id = format!("worker-{}", self.started);
        self.cluster.add_worker_with(&id, &worker_flags());
        let limited = throttle(&self.python, self.cluster, &id, self.logs);
        self.workers.push((id, limited));
    }
}

#[test]
fn workers_come_while_one_cannot_keep_up_and_go_when_that_is_over_and_nothing_is_lost() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let python = Python::new(vec![]);
    let each = one_workers_rate(&python, folder.path());
    let rate = (each * TIMES_TOO_MUCH).max(u64::from(SHARDS));
    let records = rate * SECONDS / u64::from(SHARDS) * u64::from(SHARDS);
    let etcd = Etcd::start(folder.path());
    let mut cluster = Cluster::empty(
        vec![],
        folder.path(),
        &format!("etcd://{}", etcd.address()),
        None,
    );
    cluster.add_controller_with("controller-1", &FLAGS);
    cluster.add_controller_with("controller-2", &FLAGS);
    until("a leader", SOON, || cluster.leader());
    let light = job(folder.path(), "light", "shards = 2\nrate = 20");
    let heavy = job(
        folder.path(),
        "heavy",
        &format!(
            "shards = {SHARDS}\nrate = {rate}\nrecords_per_shard = {}",
            records / u64::from(SHARDS)
        ),
    );
    let controllers = cluster
        .controller_addresses()
        .into_iter()
        .map(|(_, address)| address)
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let logs = folder.path();
    let workers = vec![];
    let decisions = BTreeMap::new();
    let cluster = &mut cluster;
    let mut follower = Follower {
        cluster,
        python,
        logs,
        runtime,
        controllers,
        asked: 0,
        workers,
        started: 0,
        decisions,
    };

    until("one worker to be asked for", SOON, || {
        follower.follow().filter(|desired| *desired == 1)
    });
    assert_eq!(follower.spec(), ("workers_desired".to_owned(), 1.0));
    assert!(!follower.is_active(), "nothing is to be read yet");
    let mut activities = [follower.activity(), follower.activity()];
    assert!(
        activities
            .iter_mut()
            .all(|activity| !follower.next(activity)),
        "both controllers say so"
    );
    follower.cluster.cli_ok(&["submit", &light]);
    follower.cluster.cli_ok(&["submit", &heavy]);
    follower
        .cluster
        .until_status("heavy", "its first records", SOON, |status| {
            status.shards.iter().any(|shard| shard.records > Some(0))
        });
    // The scaler looks at the jobs in intervals of its own.
    until("work to be seen", SOON, || {
        follower.is_active().then_some(())
    });
    assert!(
        activities
            .iter_mut()
            .all(|activity| follower.next(activity)),
        "and tell it by themselves"
    );

    let began = Instant::now();
    let mut lag_max_ms = 0;
    loop {
        follower.follow();
        let status = follower.cluster.status("heavy");
        if status
            .as_ref()
            .is_some_and(|status| status.state() == JobState::Completed)
        {
            break;
        }
        lag_max_ms = status.map_or(0, |status| status.lag_ms).max(lag_max_ms);
        assert!(
            began.elapsed() < in_time(LIMIT),
            "one worker took {each} a second\n{}",
            follower.reported()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(
        lag_max_ms > 1_000,
        "one worker could keep up, of which {each} a second was seen: {lag_max_ms} ms"
    );
    until("one worker again", LIMIT, || {
        follower.follow().filter(|desired| *desired == 1)
    });
    assert_eq!(follower.workers.len(), 1);
    follower
        .cluster
        .until_status("light", "no lag", SOON, |status| status.lag_ms < 2_000);

    the_log_explains_each_step(&follower.decisions, &follower.reported());
    the_status_and_prometheus_have_the_same_figures(follower.cluster);
    for job in ["heavy", "light"] {
        let proof: Value =
            serde_json::from_str(&follower.cluster.cli_ok(&["verify", job, "-o", "json"])).unwrap();
        assert_eq!(proof["proven"], true, "{proof:#}");
    }
    let totals = follower.cluster.status("heavy").unwrap().totals.unwrap();
    assert_eq!((totals.rows_in, totals.rows_out), (records, records));
}

fn the_log_explains_each_step(decisions: &BTreeMap<(u64, i64), ScalingDecision>, reported: &str) {
    let all: Vec<_> = decisions.values().collect();
    for pair in all.windows(2).filter(|pair| pair[0].term == pair[1].term) {
        assert_eq!(pair[0].to, pair[1].from, "{reported}");
    }
    assert!(
        all.iter().all(|decision| !decision.reason.is_empty()),
        "{reported}"
    );
    let first = all
        .iter()
        .find(|decision| decision.to > decision.from)
        .expect("more were asked for");
    assert!(first.reason.contains("heavy"), "{reported}");
    let figures = first.figures.as_ref().unwrap();
    assert_eq!(
        (figures.jobs[0].job.as_str(), figures.jobs[0].places),
        ("heavy", SHARDS),
        "{reported}"
    );
    assert!(
        figures.busy_permille > 600 && figures.jobs[0].work_needed > 0.6,
        "{reported}"
    );
    let last = all.last().unwrap();
    assert!(
        last.to == 1 && last.from > 1 && last.reason.contains("would have been enough"),
        "{reported}"
    );
}

fn the_status_and_prometheus_have_the_same_figures(cluster: &Cluster) {
    let said: Value =
        serde_json::from_str(&cluster.cli_ok(&["scaling", "light", "-o", "json"])).unwrap();
    assert_eq!(
        (&said["desired"], &said["max"]),
        (&1.into(), &4.into()),
        "{said:#}"
    );
    let text = cluster.cli_ok(&["scaling"]);
    assert!(
        text.starts_with("workers:    1 there, 1 wanted (from 1 to 4)\n"),
        "{text}"
    );
    let leader = cluster.leader().unwrap();
    for (id, _) in cluster.controller_addresses() {
        let port = cluster
            .dashboard(&id)
            .rsplit(':')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let metrics = http_get(port, "/metrics").unwrap();
        let reported = metrics
            .lines()
            .find(|line| line.starts_with("streamctl_workers_desired"));
        assert_eq!(
            reported,
            (id == leader).then_some("streamctl_workers_desired 1.0")
        );
        // The page of any of them has it.
        let answer = http_get(port, "/api/v1/scaling").unwrap();
        assert!(answer.contains("\"desired\":1"), "{answer}");
    }
}
