//! A team's own function: its rows, its errors, its code, on real processes and real Python.
//!
//! The records are of the generator, so that every expectation is computed from its lines.

use crate::formats::{dead_letters, json_lines};
use crate::model_job::{self, JOB, STEP};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use streamctl_tests::places::{binary, function_python as python, inherited, one_system_at_a_time};
use streamctl_tests::process::{children_of, signal};

/// A folder with a job of the generator and a function.
pub(super) struct Scene {
    root: tempfile::TempDir,
}

pub(super) const RECORDS: u64 = 400;

impl Scene {
    pub(super) fn new(transform: &str, function: &str, more: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let scene = Self { root };
        scene.write("transform.py", transform);
        scene.write("job.toml", &Self::job(function, more));
        scene
    }

    pub(super) fn job(function: &str, more: &str) -> String {
        format!(
            "name = \"own\"\n[source]\ntype = \"generator\"\nseed = 7\nshards = 2\nrate = 4000\nrecords_per_shard = {}\n\
             [window]\nsize = \"1s\"\n[function]\n{function}\n[sink]\npath = \"out/\"\nformat = \"json\"\n\
             [checkpoint]\nlocation = \"checkpoint/\"\n{more}\n",
            RECORDS / 2
        )
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The program on the job file.
    pub(super) fn command(&self, verb: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(binary("streamctl"));
        command.env_clear().envs(inherited());
        command.env("STREAMCTL_FUNCTION_PYTHON", python());
        command.args([verb, "job.toml"]).args(flags);
        command.current_dir(self.root.path());
        command
    }

    pub(super) fn streamctl(&self, verb: &str, flags: &[&str]) -> Output {
        self.command(verb, flags).output().unwrap()
    }

    pub(super) fn run(&self, flags: &[&str]) -> Output {
        self.streamctl("run", flags)
    }

    pub(super) fn run_with(&self, env: &[(&str, &str)]) -> Output {
        let mut command = self.command("run", &[]);
        command.envs(env.iter().copied()).output().unwrap()
    }

    pub(super) fn rows(&self) -> Vec<Value> {
        rows(&self.path("out"))
    }
}

fn rows(folder: &Path) -> Vec<Value> {
    json_lines(folder)
}

pub(super) fn text(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn a_window_goes_through_the_function_and_its_rows_are_the_result() {
    let transform = "\
import pandas as pd

def process_batch(frame: pd.DataFrame, batch_id):
    frame = frame.groupby('country', as_index=False).agg(sales=('uuid', 'count'))
    frame['batch'] = batch_id
    return frame
";
    let scene = Scene::new(transform, "file = \"transform.py\"", "");
    let ran = scene.run(&[]);
    assert!(ran.status.success(), "{}", text(&ran));
    let rows = scene.rows();
    let sales: u64 = rows.iter().filter_map(|row| row["sales"].as_u64()).sum();
    assert_eq!(sales, RECORDS, "{rows:?}");
    assert!(
        rows.iter()
            .all(|row| row["batch"].as_i64().unwrap() > 1_000_000)
    );
    // The manifests name the code, and it is in the checkpoint location.
    let stored = std::fs::read_dir(scene.path("checkpoint/own/functions")).unwrap();
    let codes: Vec<String> = stored
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(codes.len(), 1);
    let epochs = std::fs::read_dir(scene.path("checkpoint/own/epochs")).unwrap();
    for epoch in epochs {
        let manifest = std::fs::read(epoch.unwrap().path()).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["function_code"], json!(codes[0]));
    }
}

#[test]
fn explain_shows_the_columns_that_the_function_returns_and_errors_come_at_submit() {
    let good = "def process_batch(frame, batch_id):\n    return frame[['uuid']]\n";
    let scene = Scene::new(good, "file = \"transform.py\"", "");
    let explained = scene.streamctl("explain", &["-o", "json"]);
    assert!(explained.status.success(), "{}", text(&explained));
    let explained: Value = serde_json::from_slice(&explained.stdout).unwrap();
    let columns: Vec<&str> = explained["output_columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(columns, ["uuid"]);
    let refused = [
        (
            "def process_batch(frame, batch_id):\n    return frame['no such']\n",
            "transform.py",
        ),
        (
            "def other(frame, batch_id):\n    return frame\n",
            "process_batch",
        ),
        ("import no_such_module\n", "no_such_module"),
        (
            "def process_batch(frame, batch_id):\n    return None\n",
            "[function.schema]",
        ),
        ("def process_batch(frame, batch_id)\n", "transform.py"),
    ];
    for (transform, expected) in refused {
        scene.write("transform.py", transform);
        let ran = scene.run(&[]);
        assert_eq!(ran.status.code(), Some(2), "{transform}: {}", text(&ran));
        assert!(text(&ran).contains(expected), "{transform}: {}", text(&ran));
    }
    std::fs::remove_file(scene.path("transform.py")).unwrap();
    let ran = scene.run(&[]);
    assert_eq!(ran.status.code(), Some(2), "{}", text(&ran));
    assert!(
        text(&ran).contains("function.file: there is no file"),
        "{}",
        text(&ran)
    );
}

#[test]
fn rows_that_the_function_puts_aside_are_counted_and_kept_with_their_reason() {
    let transform = "\
def process_batch(frame, batch_id, context):
    bad = frame['country'] == frame['country'].min()
    for index in frame.index[bad]:
        context.dead_letter(frame.loc[index], 'first of its names')
    return frame.loc[~bad, ['uuid', 'country']]
";
    let scene = Scene::new(transform, "file = \"transform.py\"", "");
    let ran = scene.run(&["-o", "json"]);
    assert!(ran.status.success(), "{}", text(&ran));
    let kept = scene.rows().len() as u64;
    let letters = dead_letters(&scene.path("checkpoint/own/dead-letters"));
    let letters: Vec<Value> = letters
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(kept > 0 && !letters.is_empty());
    assert_eq!(kept + letters.len() as u64, RECORDS);
    for letter in &letters {
        assert!(
            letter["reason"]
                .as_str()
                .unwrap()
                .contains("first of its names")
        );
        assert!(letter["row"]["uuid"].is_string(), "{letter}");
    }
}

#[test]
fn a_failing_function_stops_the_job_with_its_line_and_the_position_is_kept() {
    let bad = "\
def process_batch(frame, batch_id):
    if len(frame) > 0:
        raise ValueError('no rate for this country')
    return frame[['uuid']]
";
    let scene = Scene::new(bad, "file = \"transform.py\"", "[retry]\nmax = 1\n");
    let ran = scene.run(&[]);
    assert_eq!(ran.status.code(), Some(1), "{}", text(&ran));
    for expected in [
        "ValueError",
        "no rate for this country",
        "transform.py",
        "3",
    ] {
        assert!(text(&ran).contains(expected), "{expected}: {}", text(&ran));
    }
    assert!(scene.rows().is_empty());
    // Other code is another version: it takes over where the job stood.
    scene.write(
        "transform.py",
        "def process_batch(frame, batch_id):\n    return frame[['uuid']]\n",
    );
    let refused = scene.run(&[]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    let ran = scene.run(&["--change"]);
    assert!(ran.status.success(), "{}", text(&ran));
    assert_eq!(scene.rows().len() as u64, RECORDS);
}

/// Returns what it gets, and counts what was published.
const IDENTITY: &str = "\
def process_batch(frame, batch_id, context):
    assert batch_id == context.window_start.timestamp() // 2
    return frame

def note(epoch, objects):
    print('published', epoch, sum(object['rows'] for object in objects))
";

#[test]
fn a_function_loses_and_doubles_nothing_when_its_process_its_worker_and_the_leader_are_killed() {
    let _alone = one_system_at_a_time();
    // Its worker runs no functions: it never gets this job.
    let mut scene = model_job::Scene::new();
    let python = python();
    let flags = ["--functions", "--function-python", python.to_str().unwrap()];
    scene.cluster.add_worker_with("worker-2", &flags);
    scene.cluster.add_worker_with("worker-3", &flags);
    let mut writer = scene.writer("live", 10_000, 0);
    scene.file("transform.py", IDENTITY);
    let function = "[function]\nfile = \"transform.py\"\nframe = \"pyarrow\"\ndeterministic = true\non_published = \"note\"\n";
    let file = scene.file(
        "job.toml",
        &format!("{}\n{function}", model_job::job_file()),
    );
    scene.cluster.cli_ok(&["submit", &file]);
    let status = scene.goes_on("the submit");
    let busy: Vec<&str> = status
        .tasks
        .iter()
        .map(|task| task.worker.as_str())
        .collect();
    assert!(!busy.contains(&"worker-1"), "{busy:?}");

    let victim = busy[0].to_owned();
    let pid = scene.cluster.process(&victim).unwrap().pid();
    let children = children_of(pid);
    assert!(
        !children.is_empty(),
        "the function has a process of its own"
    );
    for child in children {
        signal(child, "KILL");
    }
    scene.goes_on("the death of the function's process");
    scene.cluster.kill(&victim);
    scene.goes_on("the death of its worker");
    scene.cluster.start_again(&victim);
    scene.cluster.kill_leader();
    scene.goes_on("the death of the leader");

    assert!(writer.terminate(STEP).success(), "{}", writer.log());
    let status = scene.everything_is_there_once();
    let replay = format!("1,{}", status.epoch);
    let answer = scene
        .cluster
        .cli_ok(&["verify", JOB, "--replay", &replay, "-o", "json"]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["proven"], true, "{answer:#}");
    let logs: String = ["worker-2", "worker-3"]
        .iter()
        .map(|id| {
            std::fs::read_to_string(scene.servers.folder().join(format!("{id}.log"))).unwrap()
        })
        .collect();
    for epoch in 1..=status.published {
        assert!(
            logs.contains(&format!("published {epoch} ")),
            "epoch {epoch}"
        );
    }
}
