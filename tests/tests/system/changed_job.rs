//! A job that is changed while its records flow: each version takes over after an epoch, every
//! record is there once, and every epoch can be proven with the version that made it.
//!
//! Rule: the job is changed where it hurts (a worker is killed, then the leader); the verdict is a
//! foreign reader's.

use super::model_job::{JOB, STEP, Scene, job_file};
use serde_json::Value;
use std::process::Output;
use streamctl_proto::v1::{EpochSummary, JobStatus};
use streamctl_tests::places::one_system_at_a_time;

/// Where rows of the changed job go.
const SINK: &str = "s3://workshop/output/lab4/changed/";

/// Another query, another folder, another format.
fn changed() -> String {
    let before = job_file();
    let sink = before
        .split("[sink]")
        .nth(1)
        .and_then(|rest| rest.split("\n[").next())
        .expect("the example has a sink");
    let after = before
        .replace(
            sink,
            &format!("\npath = \"{SINK}\"\nformat = \"json\"\ncompression = \"none\"\n"),
        )
        .replace(
            "SELECT s.uuid,",
            "SELECT s.uuid, upper(s.region) AS continent,",
        );
    assert!(
        after.contains("AS continent") && !after.contains("parquet"),
        "the example changed: {after}"
    );
    after
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn versions(epochs: &[EpochSummary]) -> Vec<u64> {
    epochs.iter().map(|epoch| epoch.job_version).collect()
}

#[test]
fn a_job_that_is_changed_under_load_loses_and_doubles_nothing_and_can_be_proven() {
    let _alone = one_system_at_a_time();
    let mut scene = Scene::new();
    scene.cluster.add_worker("worker-2");
    let mut writer = scene.writer("live", 10_000, 0);
    scene.submit();
    scene.goes_on("the submit");

    let second = scene.file("changed.toml", &changed());
    a_changed_file_is_compared_and_not_taken_by_mistake(&scene, &second);
    the_change_takes_over_while_a_worker_is_killed(&mut scene, &second);
    what_cannot_take_over_is_refused(&scene);
    the_leader_is_killed_after_the_next_change(&mut scene);

    assert!(writer.terminate(STEP).success(), "{}", writer.log());
    scene.sinks.push(SINK);
    let status = scene.everything_is_there_once();
    every_epoch_is_proven_with_the_version_that_made_it(&mut scene, &status);
}

fn a_changed_file_is_compared_and_not_taken_by_mistake(scene: &Scene, file: &str) {
    let (code, text, _) = said(&scene.cluster.cli(&["diff", file]));
    assert_eq!(code, Some(1), "{text}");
    for shown in [
        "transform.sql (changed)",
        "sink.format (changed)",
        "    - parquet",
        "    + json",
        "result.continent (added)",
    ] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    assert!(
        text.contains("as version 2: streamctl submit --change"),
        "{text}"
    );
    let (code, text, _) = said(&scene.cluster.cli(&["diff", file, "-o", "json"]));
    let answer: Value = serde_json::from_str(&text).expect("one document");
    let taken_over = |change: &Value| change["taken_over"] == true;
    assert!(
        code == Some(1)
            && answer["changes"]
                .as_array()
                .is_some_and(|all| all.iter().all(taken_over)),
        "{answer:#}"
    );

    let (code, _, error) = said(&scene.cluster.cli(&["submit", file]));
    assert_eq!(code, Some(1), "{error}");
    assert!(
        error.contains("sink.format: parquet becomes json") && error.contains("`--change`"),
        "{error}"
    );
    let same = scene.file("same.toml", &format!("# Another comment.\n{}", job_file()));
    scene.cluster.cli_ok(&["diff", &same]);
    assert!(
        scene
            .cluster
            .cli_ok(&["submit", &same])
            .contains("was there already, unchanged")
    );
    assert_eq!(
        scene
            .cluster
            .status(JOB)
            .expect("a leader answers")
            .job_version,
        1
    );
}

fn the_change_takes_over_while_a_worker_is_killed(scene: &mut Scene, file: &str) {
    scene.cluster.kill_worker("worker-2");
    let answer = scene.cluster.cli_ok(&[
        "submit",
        "--change",
        "--if-version",
        "1",
        file,
        "-o",
        "json",
    ]);
    let answer: Value = serde_json::from_str(&answer).expect("one document");
    assert_eq!(
        (&answer["changed"], &answer["job_version"]),
        (&true.into(), &2.into()),
        "{answer:#}"
    );
    let status = scene.goes_on("the change");
    assert_eq!(status.job_version, 2);
    let after = answer["after_epoch"]
        .as_u64()
        .expect("it says after which epoch");
    let epochs = scene.cluster.epochs(JOB).expect("a leader answers");
    let expected: Vec<u64> = epochs
        .iter()
        .map(|epoch| if epoch.epoch <= after { 1 } else { 2 })
        .collect();
    assert_eq!(versions(&epochs), expected);
    scene.cluster.cli_ok(&["diff", file]);
    assert!(
        scene
            .cluster
            .cli_ok(&["submit", file])
            .contains("was there already, unchanged")
    );
    scene.cluster.add_worker("worker-3");
}

fn what_cannot_take_over_is_refused(scene: &Scene) {
    let elsewhere = changed().replace("lab4/checkpoint/", "lab4/elsewhere/");
    let file = scene.file("elsewhere.toml", &elsewhere);
    let (code, _, error) = said(&scene.cluster.cli(&["submit", "--change", &file]));
    assert!(
        code == Some(1) && error.contains("checkpoint.location: ") && error.contains("hint: "),
        "{code:?} {error}"
    );
    let stale = scene.file("stale.toml", &changed().replace("upper(", "lower("));
    let (code, _, error) =
        said(
            &scene
                .cluster
                .cli(&["submit", "--change", "--if-version", "1", &stale]),
        );
    assert!(
        code == Some(1) && error.contains("is at version 2, not 1"),
        "{code:?} {error}"
    );
    assert_eq!(
        scene
            .cluster
            .status(JOB)
            .expect("a leader answers")
            .job_version,
        2
    );
}

fn the_leader_is_killed_after_the_next_change(scene: &mut Scene) {
    let shorter = changed().replace("\"2000ms\"", "\"1000ms\"");
    let file = scene.file("shorter.toml", &shorter);
    scene
        .cluster
        .cli_ok(&["submit", "--change", "--if-version", "2", &file]);
    scene.cluster.kill_leader();
    let status = scene.goes_on("the loss of the leader that took the change");
    assert_eq!(status.job_version, 3);
    scene.cluster.start_all_again();
}

fn every_epoch_is_proven_with_the_version_that_made_it(scene: &mut Scene, status: &JobStatus) {
    let epochs = scene.cluster.epochs(JOB).expect("a leader answers");
    let made_by = versions(&epochs);
    assert!(
        made_by.is_sorted() && [1, 2, 3].iter().all(|version| made_by.contains(version)),
        "{made_by:?}"
    );
    let first_of = |version: u64| {
        epochs
            .iter()
            .find(|epoch| epoch.job_version == version)
            .expect("it made one")
    };
    let window_ms =
        |epoch: &EpochSummary| epoch.window.map(|window| window.end_ms - window.start_ms);
    assert_eq!(
        [1, 2, 3].map(|version| window_ms(first_of(version))),
        [Some(2_000), Some(2_000), Some(1_000)]
    );

    let replay = [1, 2, 3]
        .map(|version| first_of(version).epoch.to_string())
        .join(",");
    let answer = scene
        .cluster
        .cli_ok(&["verify", JOB, "--replay", &replay, "-o", "json"]);
    let answer: Value = serde_json::from_str(&answer).expect("one document");
    assert_eq!(
        (&answer["proven"], &answer["listed"], &answer["replayed"]),
        (&true.into(), &true.into(), &3.into())
    );
    assert_eq!(answer["epochs"].as_u64(), Some(status.epoch));

    // No worker has the rows of old epochs any more: they are computed again, by the query of their
    // version.
    for id in scene.cluster.worker_ids() {
        scene.cluster.kill(&id);
        scene.cluster.start_again(&id);
    }
    scene
        .cluster
        .until_status(JOB, "workers that are back", STEP, |status| {
            !status.tasks.is_empty()
        });
    let address = scene.cluster.leader_address().expect("a controller leads");
    let last_of_first = made_by.iter().filter(|version| **version == 1).count() as u64;
    let read = |from: u64, to: u64| {
        scene.python.ask(
            "flight_read.py",
            &[&address, JOB, &from.to_string(), &to.to_string()],
        )
    };
    let rows = |epoch: u64| {
        epochs[epoch as usize - 1]
            .counts
            .unwrap_or_default()
            .rows_out
    };
    let old = read(last_of_first, last_of_first);
    let has = |read: &Value, column: &str| {
        read["columns"]
            .as_array()
            .is_some_and(|all| all.iter().any(|c| c == column))
    };
    assert!(
        !has(&old, "continent") && old["rows"] == rows(last_of_first),
        "{old:#}"
    );
    let new = read(last_of_first + 1, last_of_first + 1);
    assert!(
        has(&new, "continent") && new["rows"] == rows(last_of_first + 1),
        "{new:#}"
    );
    // One answer has one schema: asked for both, it ends with the version.
    assert_eq!(read(last_of_first, last_of_first + 1)["rows"], old["rows"]);
    let from = last_of_first.to_string();
    let to = (last_of_first + 1).to_string();
    let tailed = scene
        .cluster
        .cli_ok(&["tail", JOB, "--from", &from, "--to", &to, "-o", "json"]);
    assert_eq!(
        tailed.lines().count() as u64,
        rows(last_of_first) + rows(last_of_first + 1)
    );
}
