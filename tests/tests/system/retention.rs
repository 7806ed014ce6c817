//! Old epochs are removed, and nothing that is kept needs them: the job goes on under a next leader
//! and in a next version, is proven from its anchor on, and can be stopped and resumed.
//!
//! Rule: what is removed is judged by a foreign client's listing of the bucket.

use super::model_job::{JOB, STEP, Scene, job_file};
use serde_json::Value;
use std::time::Duration;
use streamctl_proto::v1::JobStatus;
use streamctl_tests::places::one_system_at_a_time;

const CHECKPOINT: &str = "s3://workshop/output/lab4/checkpoint/";
/// The shortest history, and time for a removal.
const KEPT: Duration = Duration::from_secs(180);

fn kept_shortly(query: &str) -> String {
    let location = format!("location = \"{CHECKPOINT}\"");
    let file = job_file();
    assert!(file.contains(&location), "the example changed: {file}");
    file.replace(&location, &format!("{location}\nkeep = \"1m\""))
        .replace("SELECT s.uuid,", query)
}

/// The epochs, or versions, whose objects are in a folder of the job.
fn numbers(scene: &Scene, folder: &str) -> Vec<u64> {
    let folder = format!("{CHECKPOINT}{JOB}/{folder}/");
    let listed = scene.python.ask("names.py", &[&folder]);
    let number = |name: &Value| name.as_str()?.split('-').next()?.parse().ok();
    let names = listed["names"].as_array().expect("a list");
    names.iter().filter_map(number).collect()
}

/// Waits until history begins after this epoch, and what lies before is removed.
fn cut_past(scene: &Scene, epoch: u64) -> JobStatus {
    let is_cut = |status: &JobStatus| {
        let first = status.first_kept_epoch;
        let begins = |folder| numbers(scene, folder).into_iter().min() >= Some(first);
        first > epoch && begins("epochs") && begins("published")
    };
    let what = format!("no epoch up to {epoch}");
    scene.cluster.until_status(JOB, &what, KEPT, is_cut)
}

fn proven(scene: &Scene) -> Value {
    let text = scene.cluster.cli_ok(&["verify", JOB, "-o", "json"]);
    let answer: Value = serde_json::from_str(&text).expect("one document");
    assert_eq!(answer["verdict"], "proven", "{answer:#}");
    answer
}

#[test]
fn old_epochs_are_removed_and_what_is_kept_needs_none_of_them() {
    let _alone = one_system_at_a_time();
    let mut scene = Scene::new();
    let first = scene.file("job.toml", &kept_shortly("SELECT s.uuid,"));
    scene.cluster.cli_ok(&["submit", &first]);
    let mut writer = scene.writer("live", 10_000, 0);
    let begun = scene.goes_on("the submit");
    let query = "SELECT s.uuid, upper(s.region) AS continent,";
    let second = scene.file("second.toml", &kept_shortly(query));
    scene.cluster.cli_ok(&["submit", "--change", &second]);
    let changed = scene.goes_on("the change");
    assert!(changed.job_version == 2 && begun.first_kept_epoch == 1);

    let cut = cut_past(&scene, changed.epoch);
    assert_eq!(
        numbers(&scene, "versions"),
        [] as [u64; 0],
        "no kept epoch is of version 1"
    );
    let answer = proven(&scene);
    let anchor = answer["anchor"].as_u64().expect("a number");
    assert!(
        anchor >= cut.first_kept_epoch && answer["from"] == anchor,
        "{answer:#}"
    );
    assert!(
        answer["objects_before_anchor"].as_u64() > Some(0),
        "{answer:#}"
    );
    what_is_not_kept_is_refused(&scene, anchor);

    scene.cluster.kill_leader();
    let next = scene.goes_on("the loss of the leader");
    assert!(next.first_kept_epoch >= anchor);
    let third = scene.file("third.toml", &kept_shortly("SELECT s.uuid, "));
    scene.cluster.cli_ok(&["submit", "--change", &third]);
    scene.goes_on("the next change");
    cut_past(&scene, cut.first_kept_epoch);

    scene.cluster.cli_ok(&["stop", JOB]);
    proven(&scene);
    scene.cluster.cli_ok(&["submit", &third]);
    scene.goes_on("the resumption");
    assert!(writer.terminate(STEP).success(), "{}", writer.log());
    scene.everything_is_there_once();
    proven(&scene);
}

fn what_is_not_kept_is_refused(scene: &Scene, anchor: u64) {
    for args in [
        &["tail", JOB, "--from", "1", "--to", "1"][..],
        &["verify", JOB, "--from", "1"],
    ] {
        let output = scene.cluster.cli(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {error}");
        assert!(
            error.contains("epoch 1 of job") && error.contains("not kept"),
            "{error}"
        );
    }
    let listed = scene.cluster.epochs(JOB).expect("a list");
    assert!(
        listed
            .iter()
            .all(|epoch| epoch.epoch >= anchor.min(listed[0].epoch))
    );
    let last = scene.cluster.until_status(JOB, "a status", STEP, |_| true);
    let epoch = last.published.to_string();
    let tail = ["tail", JOB, "--from", &epoch, "--to", &epoch, "-o", "json"];
    scene.cluster.cli_ok(&tail);
    let status = scene.cluster.cli_ok(&["status", JOB]);
    assert!(status.contains("kept from"), "{status}");
}
