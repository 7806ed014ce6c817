//! Enhanced fan-out on a cluster, from a service that others wrote (kinesis-mock): workers die, the job
//! is changed to polling and back, and every record is there once.
//!
//! Rule: the verdict is a foreign reader's; the consumers are those that the service lists.

use super::model_job::{JOB, STEP, Scene, job_file};
use streamctl_engine::aws::Aws;
use streamctl_proto::resolved::StreamAddress;
use streamctl_tests::places::one_system_at_a_time;
use streamctl_tests::wait::until;

const STREAM: &str = "glueworkshop";
const CONSUMER: &str = "reports";

fn fanned() -> String {
    let polled = job_file();
    let fanned = polled.replace(
        "starting_position",
        &format!("consumer = \"{CONSUMER}\"\nstarting_position"),
    );
    assert!(fanned.contains(CONSUMER), "the example changed: {polled}");
    fanned
}

/// Names of the stream's consumers that are not being deleted.
fn consumers(scene: &Scene) -> Vec<String> {
    let env = scene.servers.env();
    let endpoint = env
        .iter()
        .find(|(name, _)| name == "AWS_ENDPOINT_URL_KINESIS")
        .map(|(_, address)| address.clone())
        .expect("the servers have a stream");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    runtime.block_on(async {
        let aws = Aws::with_fake(&endpoint, "WRITER").await;
        let client = aws.kinesis(&StreamAddress::default()).await;
        let summary = client
            .describe_stream_summary()
            .stream_name(STREAM)
            .send()
            .await;
        let summary = summary.expect("it answers").stream_description_summary;
        let arn = summary.expect("there is a summary").stream_arn;
        let listed = client.list_stream_consumers().stream_arn(arn).send().await;
        let listed = listed.expect("it answers").consumers.unwrap_or_default();
        let lasting = listed
            .into_iter()
            .filter(|consumer| consumer.consumer_status.as_str() != "DELETING");
        lasting.map(|consumer| consumer.consumer_name).collect()
    })
}

#[test]
fn a_job_with_a_consumer_loses_and_doubles_nothing_when_workers_die_and_when_it_is_changed() {
    let _alone = one_system_at_a_time();
    let mut scene = Scene::new();
    scene.cluster.add_worker("worker-2");
    let mut writer = scene.writer("live", 10_000, 0);
    let by_consumer = scene.file("fanned.toml", &fanned());
    let polled = scene.file("polled.toml", &job_file());

    scene.cluster.cli_ok(&["submit", &by_consumer]);
    assert_eq!(consumers(&scene), [CONSUMER]);
    scene.goes_on("the submit");
    let status = scene.cluster.cli_ok(&["status", JOB]);
    assert!(status.contains("/consumer/reports:"), "{status}");

    scene.cluster.kill_worker("worker-2");
    scene.goes_on("the loss of a worker");
    scene.cluster.add_worker("worker-3");

    scene.cluster.cli_ok(&["submit", "--change", &polled]);
    scene.goes_on("the change to polling");
    assert!(consumers(&scene).is_empty());

    scene.cluster.cli_ok(&["submit", "--change", &by_consumer]);
    scene.goes_on("the change back");
    assert_eq!(consumers(&scene), [CONSUMER]);
    scene.cluster.kill_leader();
    scene.goes_on("the loss of the leader");

    assert!(writer.terminate(STEP).success(), "{}", writer.log());
    scene.everything_is_there_once();
    scene.cluster.cli_ok(&["verify", JOB]);
    scene.cluster.cli_ok(&["stop", JOB, "--drain"]);
    scene.cluster.cli_ok(&["delete", JOB]);
    until("the consumer to go", STEP, || {
        consumers(&scene).is_empty().then_some(())
    });
}
