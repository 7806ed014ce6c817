//! `streamctl top` on a real terminal: it draws, listens, and leaves the terminal as it was.

use super::model_job::{JOB, Scene};
use std::process::{Command, Stdio};
use streamctl_tests::places::{binary, inherited, one_system_at_a_time};

#[test]
fn top_shows_the_job_on_a_terminal_and_gives_it_back() {
    let _alone = one_system_at_a_time();
    let scene = Scene::new();
    scene.submit();
    let program = binary("streamctl");
    let program = program.to_str().expect("the program's path is text");
    let seen = scene.python.ask("top.py", &[program, &scene.cluster.controller_urls(), JOB]);
    assert_eq!(
        (&seen["exit"], &seen["restored"], &seen["interrupted"]),
        (&0.into(), &true.into(), &0.into()),
        "{seen:#}"
    );
    assert!(seen["jobs"].as_str().is_some_and(|screen| screen.contains("streamctl top")), "{seen:#}");

    // A pipe is no terminal; programs are given the same as JSON.
    let mut command = Command::new(program);
    command.args(["--controller", &scene.cluster.controller_urls(), "top"]).env_clear().envs(inherited());
    let piped = command.stdin(Stdio::null()).output().expect("streamctl starts");
    let error = String::from_utf8_lossy(&piped.stderr);
    assert_eq!(piped.status.code(), Some(2), "{error}");
    assert!(error.contains("top draws on a terminal") && error.contains("hint: for programs: "), "{error}");
    let json: serde_json::Value =
        serde_json::from_str(&scene.cluster.cli_ok(&["top", "-o", "json"])).expect("one document");
    assert_eq!((&json["jobs"][0]["job"], &json["workers"][0]["worker"]), (&JOB.into(), &"worker-1".into()));
}
