//! Rows over Arrow Flight: from every controller, as long as the objects are there.
//!
//! Rule: the reader is pyarrow; what it reads later is compared with what it read from memory.

use super::model_job::{JOB, STEP, Scene, job_file};
use serde_json::Value;
use streamctl_proto::v1::JobState;
use streamctl_tests::places::one_system_at_a_time;

/// The first epoch with rows.
fn epoch_with_rows(scene: &Scene) -> (String, u64) {
    let epochs = scene.cluster.epochs(JOB).expect("a leader answers");
    let with_rows = epochs
        .iter()
        .map(|epoch| (epoch.epoch, epoch.counts.unwrap_or_default().rows_out))
        .find(|(_, rows)| *rows > 0);
    let (epoch, rows) = with_rows.expect("an epoch has rows");
    (epoch.to_string(), rows)
}

fn standby(scene: &Scene) -> String {
    let leader = scene.cluster.leader().expect("a controller leads");
    let mut all = scene.cluster.controller_addresses().into_iter();
    let other = all.find(|(id, _)| *id != leader);
    other.expect("two controllers run").1
}

#[test]
fn rows_are_read_at_any_controller_and_outlive_the_worker_and_the_stream() {
    let _alone = one_system_at_a_time();
    let mut scene = Scene::new();
    let job = job_file().replace("\"ingest_hour\"]", "\"ingest_hour\", \"country_code\"]");
    assert!(
        job.contains("country_code\"]"),
        "the example changed: {job}"
    );
    let file = scene.file("partitioned.toml", &job);
    scene.cluster.cli_ok(&["submit", &file]);
    let mut writer = scene.writer("some", 1_000, 150);
    assert!(writer.wait(STEP).success(), "{}", writer.log());
    scene.everything_is_published();
    let (epoch, rows) = epoch_with_rows(&scene);
    let read = |scene: &Scene, address: &str| {
        let args = [address, JOB, &epoch];
        scene.python.ask("flight_rows.py", &args)
    };

    let leader = scene.cluster.leader_address().expect("a controller leads");
    let in_memory = read(&scene, &leader);
    assert_eq!(
        in_memory["rows"].as_array().map(|rows| rows.len() as u64),
        Some(rows)
    );
    assert!(
        in_memory["listed"][JOB]
            .as_array()
            .unwrap()
            .contains(&Value::from("country_code")),
        "{in_memory:#}"
    );
    let standby = standby(&scene);
    assert_eq!(
        read(&scene, &standby),
        in_memory,
        "a standby sends reads on"
    );
    let seen = scene.python.ask("grpc_status.py", &[&standby, JOB]);
    assert_eq!(seen["status"]["job"], JOB, "{seen:#}");

    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/flight.md");
    let args = [page, &leader, JOB, &epoch];
    let examples = scene.python.try_ask_in("function", "flight_docs.py", &args);
    let examples = examples.unwrap_or_else(|error| panic!("{error}"));
    let examples = examples["examples"].as_array().expect("examples");
    assert_eq!(examples.len(), 4, "{examples:?}");
    for example in examples {
        assert_eq!(example["rows"], rows, "{example:#}");
    }

    scene.cluster.cli_ok(&["stop", JOB, "--drain"]);
    scene.cluster.until_status(JOB, "the stop", STEP, |status| {
        status.state() == JobState::Stopped
    });
    scene.python.ask("stream_expires.py", &["glueworkshop"]);
    scene.cluster.kill_worker("worker-1");
    scene.cluster.add_worker("worker-2");
    streamctl_tests::wait::until("the other worker", STEP, || {
        let workers = scene.cluster.worker_list()?;
        workers
            .iter()
            .any(|worker| worker.worker == "worker-2")
            .then_some(())
    });
    let mut later = read(&scene, &leader);
    let mut first = in_memory.clone();
    for answer in [&mut later, &mut first] {
        answer["endpoints"] = Value::Null;
    }
    assert_eq!(later, first, "the objects give the same rows");
    let tail = ["tail", JOB, "--from", &epoch, "--to", &epoch, "-o", "json"];
    assert_eq!(scene.cluster.cli_ok(&tail).lines().count() as u64, rows);
    let again = scene.cluster.cli(&[&tail[..], &["--reread"]].concat());
    assert!(!again.status.success(), "the stream is gone: {again:?}");
}
