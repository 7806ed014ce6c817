//! Ways to call a function: per key, per batch on several workers, in a server of the team's own.
//!
//! Owns: that each gives every row once, and what a repair of a function takes over. Does not own:
//! a call per window (`functions`), packages (`function_packages`).
//! Rule: each runs end to end, with real processes and readers that are not ours.

use crate::functions::{RECORDS, Scene, text};
use crate::model_job::{self, JOB, STEP};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};
use streamctl_proto::v1::{JobState, JobStatus};
use streamctl_tests::pki::Authority;
use streamctl_tests::places::{free_port, function_python as python, one_system_at_a_time};
use streamctl_tests::process::{Launch, children_of, signal};
use streamctl_tests::wait::{in_time, until};

#[test]
fn a_call_per_key_gets_the_rows_of_one_key_and_every_row_is_in_one_call() {
    let transform = "\
import pandas as pd

def process_batch(frame: pd.DataFrame, batch_id, context):
    assert (frame['country'] == context.key['country']).all()
    return pd.DataFrame({'batch': [batch_id], 'country': [context.key['country']], 'sales': [len(frame)]})
";
    let schema =
        "\n[function.schema]\nbatch = \"bigint\"\ncountry = \"string\"\nsales = \"bigint\"";
    let keys = format!("file = \"transform.py\"\nper = \"key\"\nby = [\"country\"]{schema}");
    let scene = Scene::new(transform, &keys, "");
    let ran = scene.run(&[]);
    assert!(ran.status.success(), "{}", text(&ran));
    let mut calls: BTreeMap<(i64, String), u64> = BTreeMap::new();
    for row in scene.rows() {
        let key = (
            row["batch"].as_i64().unwrap(),
            row["country"].as_str().unwrap().to_owned(),
        );
        let before = calls.insert(key, row["sales"].as_u64().unwrap());
        assert_eq!(before, None, "one call per key and window: {row}");
    }
    assert_eq!(calls.values().sum::<u64>(), RECORDS);
    assert!(calls.len() > 2);
    for (by, expected) in [
        ("[\"no such\"]", "the rows have no column"),
        ("[\"price\"]", "CAST it in the SQL"),
    ] {
        let keys = format!("file = \"transform.py\"\nper = \"key\"\nby = {by}{schema}");
        let sql = "[transform]\nsql = \"SELECT country, CAST(unitprice AS DOUBLE) AS price FROM source\"\n";
        scene.write("job.toml", &Scene::job(&keys, sql));
        let refused = scene.streamctl("explain", &[]);
        assert!(text(&refused).contains(expected), "{}", text(&refused));
    }
}

/// Returns what it gets; fails after publishing as long as its first line is there.
const FAILING_HOOK: &str = "\
is_broken = True
def process_batch(frame, batch_id, context):
    return frame

def note(epoch, objects):
    if is_broken:
        raise ValueError('no table to refresh')
    print('published', epoch)
";

fn repaired() -> String {
    FAILING_HOOK.replace("is_broken = True", "is_broken = False")
}

#[test]
fn a_process_that_is_stopped_ends_though_an_epoch_cannot_be_published() {
    let function = "file = \"transform.py\"\non_published = \"note\"";
    let scene = Scene::new(FAILING_HOOK, function, "");
    let run = scene
        .command("run", &[])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Its objects are visible before the hook is called.
    until("rows of the first epoch", STEP, || {
        (!scene.rows().is_empty()).then_some(())
    });
    let began = Instant::now();
    signal(run.id(), "TERM");
    let ended = run.wait_with_output().unwrap();
    assert!(
        began.elapsed() < in_time(Duration::from_secs(40)),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(ended.status.code(), Some(1), "{}", text(&ended));
    assert!(text(&ended).contains("not published"), "{}", text(&ended));
    assert!(
        text(&ended).contains("no table to refresh"),
        "{}",
        text(&ended)
    );
    scene.write("transform.py", &repaired());
    let ran = scene.run(&["--change"]);
    assert!(ran.status.success(), "{}", text(&ran));
    assert_eq!(scene.rows().len() as u64, RECORDS);
    // A name in a comment is no function.
    scene.write(
        "transform.py",
        "# note\ndef process_batch(frame, batch_id):\n    return frame\n",
    );
    let refused = scene.streamctl("explain", &[]);
    assert!(
        text(&refused).contains("has no function 'note'"),
        "{}",
        text(&refused)
    );
}

fn flags(python: &str) -> Vec<&str> {
    vec!["--functions", "--function-python", python]
}

#[test]
fn a_function_per_batch_runs_on_all_workers_and_a_repaired_hook_takes_over() {
    let _alone = one_system_at_a_time();
    let mut scene = model_job::Scene::new();
    let python = python().to_str().unwrap().to_owned();
    scene.cluster.add_worker_with("worker-2", &flags(&python));
    scene.cluster.add_worker_with("worker-3", &flags(&python));
    let mut writer = scene.writer("live", 30_000, 0);
    scene.file("transform.py", FAILING_HOOK);
    let function = "[function]\nfile = \"transform.py\"\nframe = \"polars\"\nper = \"batch\"\n\
                    deterministic = true\non_published = \"note\"\n";
    let file = scene.file(
        "job.toml",
        &format!("{}\n{function}", model_job::job_file()),
    );
    scene.cluster.cli_ok(&["submit", &file]);
    let waits = |status: &JobStatus| {
        let waiting = status.waiting_on.join(" ");
        status.epoch > 0 && waiting.contains("no table to refresh")
    };
    let status = scene
        .cluster
        .until_status(JOB, "the hook's error in the status", STEP, waits);
    assert_eq!(status.published, 0);
    scene.file("transform.py", &repaired());
    let changed = scene.cluster.cli_ok(&["submit", "--change", &file]);
    assert!(changed.contains("version 2"), "{changed}");
    let status = scene.goes_on("the repair of the hook");
    let mut busy: Vec<&str> = status
        .tasks
        .iter()
        .map(|task| task.worker.as_str())
        .collect();
    busy.sort_unstable();
    busy.dedup();
    assert_eq!(
        busy,
        ["worker-2", "worker-3"],
        "all workers that run functions"
    );
    for id in busy {
        let pid = scene.cluster.process(id).unwrap().pid();
        assert!(!children_of(pid).is_empty(), "{id} calls the function");
    }
    assert!(writer.terminate(STEP).success(), "{}", writer.log());
    let status = scene.everything_is_there_once();
    let replay = format!("1,{}", status.epoch);
    let answer = scene
        .cluster
        .cli_ok(&["verify", JOB, "--replay", &replay, "-o", "json"]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["proven"], true, "{answer:#}");
    rows_that_a_function_put_aside_are_listed(&scene);
}

/// They are dead letters of another kind.
fn rows_that_a_function_put_aside_are_listed(scene: &model_job::Scene) {
    let transform = "\
def process_batch(frame, batch_id, context):
    context.log('a quiet line')
    context.log('a loud line', level='error')
    context.dead_letter(0, 'the first of its window')
    return frame.iloc[1:]
";
    scene.file("aside.py", transform);
    let job = "name = \"aside\"\n[source]\ntype = \"generator\"\nseed = 7\nshards = 1\nrate = 4000\n\
               records_per_shard = 400\n[window]\nsize = \"1s\"\n[function]\nfile = \"aside.py\"\n\
               [function.schema]\nuuid = \"string\"\n\
               [sink]\npath = \"s3://workshop/aside/out/\"\nformat = \"json\"\n\
               [checkpoint]\nlocation = \"s3://workshop/aside/checkpoint/\"\n";
    let job = job.replace(
        "[function]",
        "[transform]\nsql = \"SELECT uuid FROM source\"\n[function]",
    );
    let file = scene.file("aside.toml", &job);
    scene.cluster.cli_ok(&["submit", &file]);
    let is_over = |status: &JobStatus| status.state() == JobState::Completed;
    let status = scene
        .cluster
        .until_status("aside", "the end of the job", STEP, is_over);
    let totals = status.totals.unwrap();
    assert!(totals.rows_rejected > 0);
    let listed = scene
        .cluster
        .cli_ok(&["dead-letters", "aside", "-o", "json"]);
    let listed: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(listed.len() as u64, totals.rows_rejected);
    for letter in &listed {
        assert_eq!(letter["kind"], "row", "{letter}");
        assert_eq!(letter["reason"], "the first of its window");
        let row: Value = serde_json::from_str(letter["payload"].as_str().unwrap()).unwrap();
        assert!(row["uuid"].is_string(), "{letter}");
    }
    let log = |id: &str| {
        let path = scene.servers.folder().join(format!("{id}.log"));
        std::fs::read_to_string(path).unwrap()
    };
    let logs = log("worker-2") + &log("worker-3");
    let line = |text: &str| {
        let found = logs.lines().find(|line| line.contains(text));
        found
            .unwrap_or_else(|| panic!("{text} in {logs}"))
            .to_owned()
    };
    assert!(line("a quiet line").contains("INFO"));
    assert!(line("a loud line").contains("ERROR"));
}

#[test]
fn a_server_of_the_teams_own_is_called_over_tls_with_its_token_and_outlives_a_kill() {
    let _alone = one_system_at_a_time();
    let mut scene = model_job::Scene::new();
    let folder = scene.servers.folder().to_owned();
    let authority = Authority::new(&folder, "functions");
    let files = authority.issue("server", &[]);
    let token = scene.file("server.token", "a-token-of-functions-of-32-or-more\n");
    let wrong = scene.file("wrong.token", "another-token-of-32-characters-or-more\n");
    scene.file(
        "transform.py",
        "def process_batch(frame, batch_id):\n    return frame\n",
    );
    let url = format!("grpc+tls://127.0.0.1:{}", free_port());
    let package = concat!(env!("CARGO_MANIFEST_DIR"), "/../python");
    let transform = folder.join("transform.py");
    let words = [
        "-m",
        "streamctl.serve",
        "serve",
        transform.to_str().unwrap(),
        "--frame",
        "pyarrow",
        "--listen",
        &url,
        "--tls-cert",
        &files.cert,
        "--tls-key",
        &files.key,
        "--token-file",
        &token,
    ];
    let server = Launch::new("function-server", python(), &words, &folder)
        .env([("PYTHONPATH", package), ("PYTHONDONTWRITEBYTECODE", "1")]);
    let mut running = server.start();
    until("the server listens", STEP, || {
        running.log().contains("listens on").then_some(())
    });
    let ca = authority.file();
    let trust = ["--functions", "--function-server-ca-file", &ca];
    let with_wrong = [&trust[..], &["--function-server-token-file", &wrong]].concat();
    scene.cluster.add_worker_with("worker-2", &with_wrong);
    let function = format!("[function]\nurl = \"{url}\"\nper = \"batch\"\ntimeout = \"10s\"\n");
    let file = scene.file(
        "job.toml",
        &format!("{}\n{function}", model_job::job_file()),
    );
    let refused = scene.cluster.cli(&["submit", &file]);
    let reported = text(&refused);
    assert!(!refused.status.success(), "{reported}");
    assert!(
        reported.contains("token of this function server"),
        "{reported}"
    );
    scene.cluster.kill("worker-2");
    let with_token = [&trust[..], &["--function-server-token-file", &token]].concat();
    for id in ["worker-3", "worker-4"] {
        scene.cluster.add_worker_with(id, &with_token);
    }
    let mut writer = scene.writer("live", 40_000, 0);
    let submitted = || {
        let submitted = scene.cluster.cli(&["submit", &file]);
        submitted.status.success().then_some(())
    };
    until("the submit", STEP, submitted);
    let status = scene.goes_on("the submit");
    assert!(
        status
            .tasks
            .iter()
            .all(|task| task.worker.as_str() > "worker-2"),
        "{:?}",
        status.tasks
    );
    running.kill();
    let waits = |status: &JobStatus| status.waiting_on.join(" ").contains("cannot be reached");
    scene
        .cluster
        .until_status(JOB, "the server is missed", STEP, waits);
    let _again = server.start();
    scene.goes_on("the server is there again");
    assert!(writer.terminate(STEP).success(), "{}", writer.log());
    scene.everything_is_there_once();
}
