//! Bad input through the real parts: one bad record never costs its neighbours, and what is missing
//! is refused by name.

use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use streamctl_proto::v1::jobs_client::JobsClient;
use streamctl_proto::v1::{JobState, ListJobsRequest};
use streamctl_tests::kinesis::FakeKinesis;
use streamctl_tests::places::one_system_at_a_time;
use streamctl_tests::python::Python;
use streamctl_tests::wait::{in_time, until};
use streamctl_tests::{Cluster, Servers};

const STEP: Duration = Duration::from_secs(60);

/// What a job file of this file's tests says; each test changes one thing.
#[derive(Clone)]
struct Job {
    name: &'static str,
    stream: &'static str,
    table: &'static str,
    sink: &'static str,
    lookup: &'static str,
    column: &'static str,
}

const JOB: Job = Job {
    name: "edges",
    stream: "edges",
    table: "typed",
    sink: "s3://workshop/out/",
    lookup: "s3://workshop/input/lab4/country_lookup/",
    column: "unitssold",
};

impl Job {
    fn file(&self) -> String {
        let Self {
            name,
            stream,
            table,
            sink,
            lookup,
            column,
        } = self;
        format!(
            r#"
name = "{name}"

[source]
type = "kinesis"
stream = "{stream}"
catalog = {{ database = "glueworkshop_cloudformation", table = "{table}" }}
starting_position = "trim_horizon"

[window]
size = "1s"

[[lookup]]
name = "country_lookup"
path = "{lookup}"
format = "csv"
refresh = "1s"

[transform]
sql = """
SELECT s.uuid, s.itemtype, s.{column}, c."Code" AS country_code
FROM source s JOIN country_lookup c ON s.country = c."CountryName"
"""

[sink]
path = "{sink}"
format = "parquet"

[dead_letter]
path = "s3://workshop/dead/"

[checkpoint]
location = "s3://workshop/checkpoint/"
"#
        )
    }
}

struct Scene {
    cluster: Cluster,
    python: Python,
    servers: Servers,
}

impl Scene {
    fn new() -> Self {
        let servers = Servers::start();
        let python = Python::new(servers.env());
        let shape = [
            "--stream", "edges", "--shards", "2", "--bucket", "workshop", "--table", "typed",
            "--typed",
        ];
        python.ask("seed.py", &[&["prepare"], &shape[..]].concat());
        let mut cluster = Cluster::start(&servers);
        cluster.add_worker("worker-1");
        Self {
            cluster,
            python,
            servers,
        }
    }

    fn submit(&self, job: &Job) -> Result<(), String> {
        self.submit_text(&job.file())
    }

    fn submit_text(&self, text: &str) -> Result<(), String> {
        let file = self.servers.folder().join("job.toml");
        std::fs::write(&file, text).unwrap();
        let output = self.cluster.cli(&["submit", file.to_str().unwrap()]);
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

#[test]
fn awkward_records_become_rows_or_dead_letters_and_cost_no_neighbour() {
    let _alone = one_system_at_a_time();
    let mut scene = Scene::new();
    let oracle = scene.servers.folder().join("oracle.jsonl");
    let oracle = oracle.to_str().unwrap();
    let sent = scene.python.ask(
        "seed.py",
        &["edges", "--stream", "edges", "--oracle", oracle],
    )["sent"]
        .as_u64()
        .unwrap();
    scene.submit(&JOB).unwrap();
    let status = scene
        .cluster
        .until_status("edges", "all records published", STEP, |status| {
            status.totals.unwrap_or_default().rows_in >= sent && status.published == status.epoch
        });
    let totals = status.totals.unwrap_or_default();
    assert_eq!(
        (totals.rows_in, totals.rows_dead, totals.rows_out),
        (20, 7, 13)
    );
    let folders = [
        "--sink",
        JOB.sink,
        "--dead",
        "s3://workshop/dead/",
        "--oracle",
        oracle,
    ];
    let verdict = scene.python.ask("check_output.py", &folders);
    assert_eq!(verdict["ok"], true, "{verdict:#}");
    the_dead_letters_are_listed(&scene, oracle);
    they_are_replayed_once_whatever_is_killed(&mut scene, status.epoch);
}

/// The job is the same, so they are dead again: each once, with its first place in the stream.
fn they_are_replayed_once_whatever_is_killed(scene: &mut Scene, last_epoch: u64) {
    let said = scene.cluster.cli_ok(&["dead-letters", "edges", "--replay"]);
    assert!(said.starts_with("7 dead letters of "), "{said}");
    scene.cluster.kill_all();
    scene.cluster.start_all_again();
    let status =
        scene
            .cluster
            .until_status("edges", "the dead letters read again", STEP, |status| {
                let totals = status.totals.unwrap_or_default();
                totals.rows_in >= 27 && totals.rows_dead >= 14 && status.published == status.epoch
            });
    let totals = status.totals.unwrap_or_default();
    assert_eq!(
        (totals.rows_in, totals.rows_dead, totals.rows_out),
        (27, 14, 13)
    );
    let again = scene.cluster.cli_ok(&[
        "dead-letters",
        "edges",
        "--replay",
        "--to",
        &last_epoch.to_string(),
    ]);
    assert!(
        again.starts_with("nothing to do: ") && again.contains("replayed already"),
        "{again}"
    );
    let listed = scene
        .cluster
        .cli_ok(&["dead-letters", "edges", "-o", "json"]);
    let letters: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let place = |letter: &Value| {
        format!(
            "{} {} {}",
            letter["shard"], letter["sequence_number"], letter["arrival_ms"]
        )
    };
    let (second, first): (Vec<&Value>, Vec<&Value>) = letters
        .iter()
        .partition(|letter| letter["replayed_from"].is_u64());
    let places = |letters: &[&Value]| {
        letters
            .iter()
            .map(|letter| place(letter))
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        (first.len(), second.len(), places(&first)),
        (7, 7, places(&second)),
        "{listed}"
    );
    scene.cluster.cli_ok(&["stop", "edges"]);
    let refused = scene.cluster.cli(&["dead-letters", "edges", "--replay"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && words.contains("submit its job file again"),
        "{words}"
    );
    it_is_deleted_and_the_next_of_its_name_begins_anew(scene);
}

/// What it wrote stays, and its name is free where no manifests of it are.
fn it_is_deleted_and_the_next_of_its_name_begins_anew(scene: &mut Scene) {
    let oracle = scene.servers.folder().join("oracle.jsonl");
    let oracle = oracle.to_str().unwrap();
    let verdict = |scene: &Scene, sink: &str, dead: &str| {
        scene.python.ask(
            "check_output.py",
            &["--sink", sink, "--dead", dead, "--oracle", oracle],
        )
    };
    let before = verdict(scene, JOB.sink, "s3://workshop/dead/");
    scene.submit(&JOB).unwrap();
    let refused = scene.cluster.cli(&["delete", "edges"]);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(1) && words.contains("hint: stop it first"),
        "{words}"
    );
    scene.cluster.cli_ok(&["stop", "edges"]);
    let deleted = scene.cluster.cli_ok(&["delete", "edges"]);
    assert!(
        deleted.starts_with("job edges is deleted, ")
            && deleted.contains("s3://workshop/checkpoint/"),
        "{deleted}"
    );

    scene.cluster.kill_all();
    scene.cluster.start_all_again();
    until("a leader", STEP, || scene.cluster.leader());
    assert_eq!(
        scene.cluster.cli(&["status", "edges"]).status.code(),
        Some(3),
        "the next leader does not know it"
    );
    assert_eq!(
        verdict(scene, JOB.sink, "s3://workshop/dead/"),
        before,
        "what it wrote stays"
    );
    let refused = scene.submit(&JOB).expect_err("its manifests are there");
    assert!(
        refused.contains("holds epochs of a job edges that this cluster does not know"),
        "{refused}"
    );

    let elsewhere =
        ["out/", "dead/", "checkpoint/"]
            .into_iter()
            .fold(JOB.file(), |text, folder| {
                text.replace(
                    &format!("s3://workshop/{folder}"),
                    &format!("s3://workshop/second/{folder}"),
                )
            });
    scene.submit_text(&elsewhere).unwrap();
    scene
        .cluster
        .until_status("edges", "all records read anew", STEP, |status| {
            status.totals.unwrap_or_default().rows_in >= 20 && status.published == status.epoch
        });
    let anew = verdict(
        scene,
        "s3://workshop/second/out/",
        "s3://workshop/second/dead/",
    );
    assert_eq!(anew["ok"], true, "{anew:#}");

    scene.cluster.cli_ok(&["stop", "edges"]);
    let purged = scene.cluster.cli_ok(&["delete", "edges", "--purge"]);
    assert!(purged.contains(" removed)"), "{purged}");
    let stays = verdict(
        scene,
        "s3://workshop/second/out/",
        "s3://workshop/second/dead/",
    );
    assert_eq!(stays, anew, "rows and dead letters");
    scene
        .submit_text(&elsewhere)
        .expect("nothing of it is left in the checkpoint location");
}

/// Every bad record of the oracle, whole, with its place in the stream and a reason.
fn the_dead_letters_are_listed(scene: &Scene, oracle: &str) {
    let listed = scene
        .cluster
        .cli_ok(&["dead-letters", "edges", "-o", "json"]);
    let letters: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let text = |letter: &Value| match &letter["payload"] {
        Value::String(text) => text.clone(),
        _ => letter["payload_base64"].as_str().unwrap().to_owned(),
    };
    assert_eq!(letters.len(), 7, "{listed}");
    for letter in &letters {
        assert!(
            letter["shard"].as_str().unwrap().starts_with("shardId-"),
            "{letter}"
        );
        assert!(
            letter["sequence_number"].as_str().unwrap().len() > 20,
            "{letter}"
        );
        assert!(!letter["reason"].as_str().unwrap().is_empty(), "{letter}");
    }
    let sent = std::fs::read_to_string(oracle).unwrap();
    let sent = sent
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let bad = sent
        .filter(|record| record["kind"] == "bad")
        .filter_map(|record| Some(record["text"].as_str()?.to_owned()));
    let mut bad: Vec<String> = bad.collect();
    let mut found: Vec<String> = letters
        .iter()
        .map(text)
        .filter(|text| bad.contains(text))
        .collect();
    bad.sort();
    found.sort();
    assert_eq!(found, bad, "{listed}");
    let raw = scene.cluster.cli(&["dead-letters", "edges", "--raw", "-0"]);
    assert_eq!(
        raw.stdout.iter().filter(|byte| **byte == 0).count(),
        7 + raw_zeros(&letters)
    );
    let table = scene
        .cluster
        .cli(&["dead-letters", "edges", "--limit", "3"]);
    assert_eq!(
        String::from_utf8_lossy(&table.stdout).lines().count(),
        4,
        "a heading and three letters"
    );
    assert!(String::from_utf8_lossy(&table.stderr).contains("there are more: go on with --from"));
}

/// Zero bytes that are part of payloads.
fn raw_zeros(letters: &[Value]) -> usize {
    letters
        .iter()
        .filter_map(|letter| letter["payload"].as_str())
        .map(|text| text.matches('\0').count())
        .sum()
}

#[test]
fn what_is_missing_is_refused_at_submit_by_its_name() {
    let _alone = one_system_at_a_time();
    let scene = Scene::new();
    let cases = [
        (
            Job {
                table: "no-such-table",
                ..JOB
            },
            "no-such-table",
        ),
        (
            Job {
                stream: "no-such-stream",
                ..JOB
            },
            "no-such-stream",
        ),
        (
            Job {
                sink: "s3://no-such-bucket/out/",
                ..JOB
            },
            "no-such-bucket",
        ),
        (
            Job {
                lookup: "s3://workshop/no-such-folder/",
                ..JOB
            },
            "no-such-folder",
        ),
        (
            Job {
                column: "no_such_column",
                ..JOB
            },
            "no_such_column",
        ),
        (
            Job {
                name: "not a name",
                ..JOB
            },
            "name",
        ),
        (
            Job {
                sink: "s3://workshop/checkpoint/out/",
                ..JOB
            },
            "checkpoint",
        ),
    ];
    for (job, word) in cases {
        let words = scene.submit(&job).expect_err(word);
        assert!(words.contains(word), "nothing of {word} in: {words}");
        assert!(words.contains("hint"), "no hint in: {words}");
    }
    assert!(
        scene.cluster.status("edges").is_none(),
        "a refused job leaves nothing behind"
    );
    every_verb_finds_the_same_in_a_job_file(&scene);
    an_unknown_job_is_an_error_with_one_hint_in_every_verb(&scene);
}

/// All at once, with their lines, in the order of the file.
fn every_verb_finds_the_same_in_a_job_file(scene: &Scene) {
    let job = Job {
        stream: "no-such-stream",
        sink: "s3://no-such-bucket/out/",
        column: "unitsold",
        ..JOB
    }
    .file();
    let file = scene.servers.folder().join("wrong.toml");
    std::fs::write(&file, &job).unwrap();
    let file = file.to_str().unwrap();
    let line = |part: &str| 1 + job.lines().position(|line| line.contains(part)).unwrap();
    let problem = |part: &str, field: &str| format!("line {}: {field}: ", line(part));
    let source = problem("[source]", "source");
    let query = problem("s.unitsold", "transform.sql") + "there is no column \"unitsold\" in s";
    let sink = problem("s3://no-such-bucket", "sink.path");
    let all = [&source, &query, &sink];
    let verbs: [(&[&str], &[&String]); 5] = [
        (&["explain", file], &all),
        (&["submit", file], &all),
        (&["submit", "--dry-run", file], &all),
        (&["run", file], &all),
        (&["preview", file], &all[..2]),
    ];
    for (verb, problems) in verbs {
        let output = scene.cluster.cli(verb);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{verb:?}: {words}");
        assert!(
            words.starts_with(&format!("error: {file} is not a valid job file\n")),
            "{verb:?}: {words}"
        );
        let reported: Vec<&str> = words
            .lines()
            .filter(|line| line.starts_with("line "))
            .collect();
        assert_eq!(reported.len(), problems.len(), "{verb:?}: {words}");
        for (reported, problem) in reported.iter().zip(problems) {
            assert!(
                reported.starts_with(problem.as_str()),
                "{verb:?}: {problem} is not {reported}"
            );
        }
    }
}

fn an_unknown_job_is_an_error_with_one_hint_in_every_verb(scene: &Scene) {
    let file = scene.servers.folder().join("job.toml");
    std::fs::write(
        &file,
        Job {
            name: "nope",
            ..JOB
        }
        .file(),
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let change = ["submit", file, "--change", "--if-version", "3"];
    let verbs: [&[&str]; 15] = [
        &["status", "nope"],
        &["status", "nope", "--watch"],
        &["stop", "nope"],
        &["stop", "nope", "--drain"],
        &["epochs", "nope"],
        &["dead-letters", "nope"],
        &["dead-letters", "nope", "--replay"],
        &["scaling", "nope"],
        &["events", "nope"],
        &["why", "nope"],
        &["tail", "nope"],
        &["tail", "nope", "--from", "1"],
        &["verify", "nope"],
        &["diff", file],
        &change,
    ];
    for verb in verbs {
        let output = scene.cluster.cli(verb);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{verb:?}: {words}");
        assert!(
            words.contains("there is no job nope") && output.stdout.is_empty(),
            "{verb:?}: {words}"
        );
        let said = ["hint: ", "streamctl list"].map(|part| words.matches(part).count());
        assert_eq!(said, [1, 1], "{verb:?}: {words}");
    }
}

/// Job files whose queries cost as much as their writer likes: what it is, the file, what is told.
fn costly_jobs() -> Vec<(&'static str, String, &'static str)> {
    let select = r#"SELECT s.uuid, s.itemtype, s.unitssold, c."Code" AS country_code"#;
    let with = |columns: String| {
        JOB.file()
            .replace(select, &format!("SELECT s.uuid, {columns} AS costly"))
    };
    let chain = |term: &str, terms: usize| vec![term; terms].join("");
    vec![
        (
            "a sum of 20,000 terms",
            with(format!("1{}", chain(" + 1", 20_000))),
            "an expression is too deep",
        ),
        (
            "a text of 20,000 terms",
            with(format!("s.uuid{}", chain(" || s.uuid", 20_000))),
            "an expression is too deep",
        ),
        (
            "30,000 brackets",
            with(format!("{}1{}", chain("(", 30_000), chain(")", 30_000))),
            "nested too deeply",
        ),
        (
            "a long text",
            with("repeat('x', 500000000)".into()),
            "repeat() would make",
        ),
        (
            "a padded text",
            with("lpad('x', 2000000000, 'y')".into()),
            "lpad() would make",
        ),
        (
            "a long list",
            with("unnest(generate_series(1, 10000000))".into()),
            "generate_series() would make",
        ),
    ]
}

fn the_lookup_has_a_million_columns(scene: &Scene) {
    let wide = scene.servers.folder().join("wide.csv");
    let header: Vec<String> = (0..1_000_000).map(|column| format!("c{column}")).collect();
    std::fs::write(&wide, header.join(",")).unwrap();
    let wide = wide.to_str().unwrap();
    let put = [
        "prepare", "--stream", "edges", "--bucket", "workshop", "--table", "typed", "--typed",
        "--lookup", wide,
    ];
    scene.python.ask("seed.py", &put);
}

/// The slowest answer to `list`, asked again and again until told to stop.
fn slowest_list(address: &str, stop: &AtomicBool) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut slowest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let listed = runtime.block_on(async {
            let mut jobs = JobsClient::connect(format!("http://{address}"))
                .await
                .expect("the leader lives");
            jobs.list_jobs(ListJobsRequest::default()).await
        });
        listed.expect("the leader still leads");
        slowest = slowest.max(began.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    slowest
}

#[test]
fn a_job_that_costs_too_much_is_refused_in_time_and_nothing_waits_for_it() {
    let _alone = one_system_at_a_time();
    let scene = Scene::new();
    let address = until("a leader", STEP, || scene.cluster.leader_address());
    let listed = JOB.file().replace(
        "FROM source s JOIN",
        &format!("FROM (SELECT * FROM source WHERE {}) s JOIN", {
            let terms: Vec<String> = (0..1_000).map(|at| format!("country = 'c{at}'")).collect();
            terms.join(" OR ")
        }),
    );
    let dry_run = |text: &str| {
        let file = scene.servers.folder().join("costly.toml");
        std::fs::write(&file, text).unwrap();
        scene
            .cluster
            .cli(&["submit", "--dry-run", file.to_str().unwrap()])
    };
    let stop = AtomicBool::new(false);
    let slowest = std::thread::scope(|scope| {
        let asked = scope.spawn(|| slowest_list(&address, &stop));
        for (what, text, words) in costly_jobs() {
            let began = Instant::now();
            let output = dry_run(&text);
            let reported = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                !output.status.success() && reported.contains(words),
                "{what}: {reported}"
            );
            assert!(
                began.elapsed() < in_time(Duration::from_secs(20)),
                "{what}: {:?}",
                began.elapsed()
            );
        }
        assert!(
            dry_run(&listed).status.success(),
            "a list of 1,000 countries is no attack"
        );
        the_lookup_has_a_million_columns(&scene);
        let began = Instant::now();
        let output = dry_run(&JOB.file());
        let reported = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success()
                && reported.contains("it has 1000000 columns, the limit is 2000"),
            "{reported}"
        );
        assert!(
            began.elapsed() < in_time(Duration::from_secs(20)),
            "a wide lookup: {:?}",
            began.elapsed()
        );
        stop.store(true, Ordering::Relaxed);
        asked.join().unwrap()
    });
    assert!(
        slowest < in_time(Duration::from_secs(1)),
        "list was answered after {slowest:?}"
    );
    assert_eq!(
        scene.cluster.leader_address(),
        Some(address),
        "the leader is the same"
    );
}

#[test]
fn a_lookup_that_breaks_keeps_its_last_good_version_and_names_the_reason() {
    let _alone = one_system_at_a_time();
    let scene = Scene::new();
    scene.submit(&JOB).unwrap();
    let running = |status: &streamctl_proto::v1::JobStatus| {
        status.state() == JobState::Running && !status.lookups.is_empty()
    };
    let before = scene
        .cluster
        .until_status("edges", "a running job", STEP, running);
    let broken = scene.servers.folder().join("broken.csv");
    std::fs::write(&broken, "CountryName,Code\nNamibia,NA\nFrance\n").unwrap();
    let broken = broken.to_str().unwrap();
    let put = [
        "prepare", "--stream", "edges", "--bucket", "workshop", "--table", "typed", "--typed",
        "--lookup", broken,
    ];
    scene.python.ask("seed.py", &put);
    let says = |status: &streamctl_proto::v1::JobStatus| {
        status
            .lookups
            .iter()
            .any(|lookup| !lookup.problem.is_empty())
    };
    let after =
        scene
            .cluster
            .until_status("edges", "the lookup's problem in the status", STEP, says);
    assert_eq!(after.lookups[0].version, before.lookups[0].version);
    assert_eq!(after.lookups[0].rows, 249);
    assert!(
        after.lookups[0].problem.contains("country_lookup.csv"),
        "{}",
        after.lookups[0].problem
    );

    let refused = scene
        .submit(&Job {
            name: "second",
            ..JOB
        })
        .expect_err("a broken lookup is refused at submit");
    assert!(refused.contains("country_lookup.csv"), "{refused}");
}

/// P52, end to end: bad rows are dead letters, and go through after a change of the query.
#[test]
fn rows_that_the_query_cannot_take_are_kept_and_go_through_after_a_change() {
    let _alone = one_system_at_a_time();
    let mut scene = Scene::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let kinesis = runtime.block_on(FakeKinesis::start());
    let stream = kinesis.create("ratios", 2);
    for id in 1..=40 {
        let qty = if id % 20 == 0 { 0 } else { 2 };
        let payload = format!(r#"{{"id": {id}, "total": 10, "qty": {qty}}}"#);
        stream.put(&id.to_string(), payload.as_bytes());
    }
    stream.put("x", b"not json");
    let job = |divisor: &str| {
        format!(
            r#"
name = "ratios"
[source]
type = "kinesis"
stream = "ratios"
endpoint = "{}"
region = "us-east-1"
starting_position = "trim_horizon"
[source.schema]
id = "int"
total = "int"
qty = "int"
[window]
size = "1s"
[transform]
sql = "SELECT id, total / {divisor} AS ratio FROM source"
[sink]
path = "s3://workshop/ratios/"
format = "json"
[dead_letter]
path = "s3://workshop/ratios-dead/"
[checkpoint]
location = "s3://workshop/ratios-checkpoint/"
"#,
            kinesis.address()
        )
    };
    scene.submit_text(&job("qty")).unwrap();
    let status = scene
        .cluster
        .until_status("ratios", "all records published", STEP, |status| {
            status.totals.unwrap_or_default().rows_in >= 41 && status.published == status.epoch
        });
    let totals = status.totals.unwrap_or_default();
    assert_eq!(
        (totals.rows_out, totals.rows_dead, totals.rows_failed),
        (38, 3, 2)
    );
    let listed = scene
        .cluster
        .cli_ok(&["dead-letters", "ratios", "-o", "json"]);
    let failed: Vec<&str> = listed
        .lines()
        .filter(|line| line.contains("column ratio: total / qty fails: Divide by zero"))
        .collect();
    assert_eq!((failed.len(), listed.lines().count()), (2, 3), "{listed}");
    assert!(failed[0].contains("(total = 10, qty = 0)"), "{listed}");
    let shown = scene.cluster.cli_ok(&["status", "ratios"]);
    assert!(
        shown.contains("2 records that the query could not take"),
        "{shown}"
    );

    scene.cluster.kill_worker("worker-1");
    scene.cluster.add_worker("worker-2");
    let file = scene.servers.folder().join("changed.toml");
    std::fs::write(&file, job("nullif(qty, 0)")).unwrap();
    let file = file.to_str().unwrap();
    scene.cluster.cli_ok(&["submit", "--change", file]);
    scene
        .cluster
        .cli_ok(&["dead-letters", "ratios", "--replay"]);
    let status =
        scene
            .cluster
            .until_status("ratios", "the dead letters read again", STEP, |status| {
                status.totals.unwrap_or_default().rows_in >= 44 && status.published == status.epoch
            });
    let totals = status.totals.unwrap_or_default();
    assert_eq!(
        (totals.rows_out, totals.rows_dead, totals.rows_failed),
        (40, 4, 2),
        "only what is not JSON is bad again"
    );
    let epochs: Vec<String> = (1..=status.epoch).map(|epoch| epoch.to_string()).collect();
    let verified = scene
        .cluster
        .cli_ok(&["verify", "ratios", "--replay", &epochs.join(",")]);
    assert!(
        verified.contains("proven") && verified.contains("2 records that the query could not take"),
        "{verified}"
    );
}
