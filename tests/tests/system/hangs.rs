//! A service that hangs, without an error, is named within seconds, and only while it hangs.
//!
//! Rule: the links to the service are cut so that bytes neither pass nor end; the status alone is
//! looked at.

use super::model_job::{JOB, STEP, Scene, job_file};
use serde_json::Value;
use std::time::{Duration, Instant};
use streamctl_proto::v1::JobStatus;
use streamctl_tests::Servers;
use streamctl_tests::places::one_system_at_a_time;
use streamctl_tests::proxy::{Links, Mode};
use streamctl_tests::wait::in_time;

/// The promise is five seconds; a busy machine may take twice as long to show it.
const NAMED_WITHIN: Duration = Duration::from_secs(10);

fn names(status: &JobStatus, stage: &str, service: &str) -> bool {
    let mut waits = status.waits.iter();
    waits.any(|wait| wait.stage == stage && wait.on == service && !wait.normal)
}

#[test]
fn a_hanging_kinesis_and_a_hanging_s3_are_named_by_stage_and_call() {
    let _alone = one_system_at_a_time();
    let servers = Servers::start();
    let links = Links::default();
    let env = servers.env();
    let fronts: Vec<(String, String)> = ["S3", "KINESIS"]
        .iter()
        .map(|service| {
            let name = format!("AWS_ENDPOINT_URL_{service}");
            let (_, url) = env.iter().find(|(key, _)| *key == name).expect(&name);
            let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
            let front = links.open(&service.to_lowercase(), port.expect("a port"));
            (name, format!("http://127.0.0.1:{front}"))
        })
        .collect();
    let fronts: Vec<(&str, &str)> = fronts
        .iter()
        .map(|(name, url)| (name.as_str(), url.as_str()))
        .collect();
    let mut scene = Scene::on(servers, &fronts);
    // Known before it connects: a link has the name that its process had then.
    links.know(
        scene.cluster.process("worker-1").expect("it runs").pid(),
        "worker-1",
    );
    scene.submit();
    let _writer = scene.writer("live", 1, 0);
    scene.goes_on("the start");

    links.set(None, "kinesis", Mode::Hole);
    let began = Instant::now();
    scene
        .cluster
        .until_status(JOB, "that Kinesis hangs", STEP, |status| {
            names(status, "read", "Kinesis")
        });
    assert!(
        began.elapsed() < in_time(NAMED_WITHIN),
        "{:?}",
        began.elapsed()
    );
    let shown = scene.cluster.cli_ok(&["why", JOB]);
    assert!(
        shown.contains("it cannot continue without:")
            && shown.contains("Kinesis has not answered Get")
            && shown.contains("(worker-1)"),
        "{shown}"
    );
    links.heal();
    scene.goes_on("Kinesis answers again");

    links.set(Some("worker-1"), "s3", Mode::Hole);
    let began = Instant::now();
    scene
        .cluster
        .until_status(JOB, "that S3 hangs", STEP, |status| {
            names(status, "stage", "S3")
        });
    let json: Value =
        serde_json::from_str(&scene.cluster.cli_ok(&["why", JOB, "-o", "json"])).unwrap();
    let waits = json["waits"].as_array().unwrap();
    let of_s3 = waits.iter().find(|wait| wait["on"] == "S3").expect("S3");
    assert!(
        of_s3["since_ms"].is_i64() && of_s3["text"].as_str().unwrap().contains(" for "),
        "{json}"
    );
    // A window ends within two seconds; then its rows are written.
    assert!(
        began.elapsed() < in_time(NAMED_WITHIN + Duration::from_secs(2)),
        "{:?}",
        began.elapsed()
    );
    links.heal();
    scene.goes_on("S3 answers again");
    let status = scene
        .cluster
        .until_status(JOB, "that nothing hangs", STEP, |status| {
            status.waits.iter().all(|wait| wait.normal)
        });
    assert!(status.waiting_on.is_empty(), "{status:?}");

    links.set(None, "s3", Mode::Hole);
    let file = scene.file("again.toml", &job_file().replace(JOB, "another"));
    let began = Instant::now();
    let output = scene.cluster.cli(&["submit", "--dry-run", &file]);
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        printed.contains("waiting: S3 has not answered"),
        "what a submit waits for: {printed}"
    );
    let in_time = began.elapsed() < Duration::from_secs(65);
    assert!(in_time && !output.status.success(), "{printed}");
    let (_, error) = printed.split_once("error: ").expect("an error");
    assert!(error.contains("S3"), "{printed}");
    links.heal();
}
