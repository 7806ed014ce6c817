//! The command line on a real terminal: `streamctl top` draws, listens, and leaves the terminal as
//! it was; verbs that wait say so, there and nowhere else.

use super::model_job::{JOB, Scene};
use serde_json::json;
use std::process::{Command, Stdio};
use streamctl_tests::places::{binary, inherited, one_system_at_a_time};
use streamctl_tests::python::Python;

#[test]
fn top_shows_the_job_on_a_terminal_and_gives_it_back() {
    let _alone = one_system_at_a_time();
    let scene = Scene::new();
    scene.submit();
    let program = binary("streamctl");
    let program = program.to_str().expect("the program's path is text");
    let seen = scene
        .python
        .ask("top.py", &[program, &scene.cluster.controller_urls(), JOB]);
    assert_eq!(
        (&seen["exit"], &seen["restored"], &seen["interrupted"]),
        (&0.into(), &true.into(), &0.into()),
        "{seen:#}"
    );
    assert!(
        seen["jobs"]
            .as_str()
            .is_some_and(|screen| screen.contains("streamctl top")),
        "{seen:#}"
    );

    // A pipe is no terminal; programs are given the same as JSON.
    let mut command = Command::new(program);
    command
        .args(["--controller", &scene.cluster.controller_urls(), "top"])
        .env_clear()
        .envs(inherited());
    let piped = command
        .stdin(Stdio::null())
        .output()
        .expect("streamctl starts");
    let error = String::from_utf8_lossy(&piped.stderr);
    assert_eq!(piped.status.code(), Some(2), "{error}");
    assert!(
        error.contains("top draws on a terminal") && error.contains("hint: for programs: "),
        "{error}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&scene.cluster.cli_ok(&["top", "-o", "json"])).expect("one document");
    assert_eq!(
        (&json["jobs"][0]["job"], &json["workers"][0]["worker"]),
        (&JOB.into(), &"worker-1".into())
    );
}

/// The words that a terminal shows meanwhile, before the seconds that have passed.
const VERBS: [(&[&str], &str); 13] = [
    (&["status"], "asking for the jobs"),
    (&["status", "sales"], "asking for the job"),
    (&["list"], "asking for the jobs"),
    (&["workers"], "asking for the workers"),
    (&["scaling"], "asking what was measured and decided"),
    (&["why", "sales"], "asking for the job"),
    (&["events"], "reading the events"),
    (&["epochs", "sales"], "asking for the epochs"),
    (&["stop", "sales"], "stopping"),
    (&["dead-letters", "sales"], "looking for dead letters"),
    (&["tail", "sales", "--from", "7"], "waiting for epoch 7"),
    (&["verify", "sales"], "asking for the proof"),
    (&["catalog", "show", "d.t"], "asking the Data Catalog"),
];

#[test]
fn a_verb_that_waits_prints_so_on_a_terminal_and_nowhere_else() {
    let program = binary("streamctl");
    let verbs = json!(VERBS.map(|(words, _)| words)).to_string();
    let seen = Python::new(vec![]).ask(
        "progress.py",
        &[
            program.to_str().expect("the program's path is text"),
            &verbs,
        ],
    );
    for ((words, says), seen) in VERBS.iter().zip(seen.as_array().expect("a list")) {
        let text = |key: &str| seen[key].as_str().expect("text").to_owned();
        assert!(text("terminal").contains(says), "{words:?}: {seen:#}");
        for quiet in ["json", "pipe", "left"] {
            assert!(
                !text(quiet).contains(says),
                "{words:?} in {quiet}: {seen:#}"
            );
            assert!(
                text(quiet).contains("error: ") && text(quiet).contains("hint: "),
                "{words:?} in {quiet}: {seen:#}"
            );
        }
        let codes: Vec<_> = seen["exits"]
            .as_array()
            .expect("three codes")
            .iter()
            .collect();
        assert!(
            codes
                .iter()
                .all(|code| **code == codes[0].clone() && **code != 0),
            "{words:?}: {seen:#}"
        );
    }
}
