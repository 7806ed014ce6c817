//! What happened is still known when the processes that saw it are gone.
//!
//! Rule: every event is caused from outside, by a user or by the end of a process; it is read by the
//! command line and over HTTP, from the leader and from a standby.

use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use streamctl_proto::v1::JobState;
use streamctl_tests::Cluster;
use streamctl_tests::places::{binary, one_system_at_a_time};
use streamctl_tests::process::Launch;
use streamctl_tests::servers::Etcd;
use streamctl_tests::wait::{http_get, until};

const STEP: Duration = Duration::from_secs(60);
const JOB: &str = "numbers";

fn job(folder: &Path) -> String {
    let root = folder.display();
    let text = format!(
        r#"
name = "{JOB}"
[source]
type = "generator"
shards = 2
rate = 50
[window]
size = "1s"
[transform]
sql = "SELECT s.uuid FROM source s"
[sink]
path = "{root}/out/"
[dead_letter]
path = "{root}/dead/"
[checkpoint]
location = "{root}/checkpoint/"
"#
    );
    let file = folder.join("job.toml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

fn events(cluster: &Cluster, args: &[&str]) -> Vec<Value> {
    let args = [&["events", "-o", "json"], args].concat();
    serde_json::from_str(&cluster.cli_ok(&args)).expect("a list of events")
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events
        .iter()
        .filter(|event| event["kind"] == kind)
        .collect()
}

fn port(address: &str) -> u16 {
    address.rsplit(':').next().unwrap().parse().unwrap()
}

/// Waits until there is an event of this kind about this subject.
fn noted(cluster: &Cluster, kind: &str, subject: &str) {
    until(&format!("{kind} of {subject}"), STEP, || {
        events(cluster, &[])
            .iter()
            .any(|event| event["kind"] == kind && event["subject"] == subject)
            .then_some(())
    });
}

#[test]
fn events_survive_the_worker_and_the_leader_that_they_are_about() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(folder.path());
    let store = format!("etcd://{}", etcd.address());
    let mut cluster = Cluster::empty(vec![], folder.path(), &store, None);
    cluster.add_controller("c1");
    cluster.add_controller("c2");
    until("a leader", STEP, || cluster.leader());
    cluster.add_worker("w1");
    let file = job(folder.path());
    cluster.cli_ok(&["submit", &file]);
    cluster.until_status(JOB, "an epoch", STEP, |status| status.published >= 1);

    let args = [
        "--controller",
        &cluster.controller_urls(),
        "events",
        "--watch",
        "-o",
        "json",
    ];
    let watch = Launch::new("watch", binary("streamctl"), &args, folder.path()).start();
    until("the first events", STEP, || {
        watch.log().contains("job_submitted").then_some(())
    });
    cluster.kill("w1");
    noted(&cluster, "worker_lost", "w1");
    cluster.add_worker("w2");
    noted(&cluster, "task_started", "w2");
    // The last ones are written within two seconds; a leader that is killed before loses them.
    until("that the store holds them", STEP, || {
        let leader = cluster.leader()?;
        let page = http_get(port(cluster.dashboard(&leader)), "/api/v1/events?limit=1")?;
        page.contains("\"stored\":true").then_some(())
    });
    let first = cluster.kill_leader();
    until("another leader", STEP, || {
        cluster.leader().filter(|leader| *leader != first)
    });
    cluster.cli_ok(&["stop", JOB]);
    cluster.cli_ok(&["submit", &file]);
    cluster.until_status(JOB, "running", STEP, |status| {
        status.state() == JobState::Running
    });

    let all = events(&cluster, &[]);
    for (kind, severity) in [
        ("leader_elected", "info"),
        ("worker_joined", "info"),
        ("worker_lost", "error"),
        ("job_submitted", "info"),
        ("task_started", "info"),
        ("job_stopped", "info"),
        ("job_resumed", "info"),
    ] {
        let found = of_kind(&all, kind);
        assert!(!found.is_empty(), "no {kind}: {all:#?}");
        assert_eq!(found[0]["severity"], severity, "{kind}");
    }
    assert_eq!(of_kind(&all, "leader_elected").len(), 2, "{all:#?}");
    let mut times: Vec<i64> = all
        .iter()
        .map(|event| event["last_ms"].as_i64().unwrap())
        .collect();
    let newest = times[times.len() - 1];
    assert!(times.is_sorted(), "{times:?}");
    times.dedup();
    let since = events(&cluster, &["--since", "1ms"]);
    assert!(
        since.len() < all.len(),
        "events of {newest} and before are left out"
    );

    let own = events(&cluster, &[JOB]);
    assert!(!own.is_empty() && own.iter().all(|event| event["job"] == JOB));
    assert!(own.len() < all.len());
    let table = cluster.cli_ok(&["events", JOB]);
    assert!(
        table.starts_with("TIME") && table.contains("job_resumed"),
        "{table}"
    );
    until("the watch goes on with the next leader", STEP, || {
        watch.log().contains("job_resumed").then_some(())
    });

    // A standby shows the leader's; a page continues the one before.
    cluster.start_again(&first);
    let standby = cluster.dashboard(&first).to_owned();
    let page = |query: &str| -> Option<Value> {
        let answer = http_get(port(&standby), query)?;
        serde_json::from_str(answer.split("\r\n\r\n").last()?).ok()
    };
    let page = |query: &str| {
        until("events of a standby", STEP, || {
            page(query).filter(|page| page["events"].is_array())
        })
    };
    let one = page("/api/v1/events?limit=1");
    assert_eq!((&one["more"], &one["events"][0]), (&true.into(), &all[0]));
    let token = one["next_page_token"].as_str().unwrap();
    let next = page(&format!("/api/v1/events?limit=1&after={token}"));
    assert_eq!(next["events"][0], all[1]);
    let own = page(&format!("/api/v1/jobs/{JOB}/events"));
    assert_eq!(own["problem"], "", "{own}");
    assert_eq!(own["events"][0]["kind"], "job_submitted");
    let wrong = http_get(port(&standby), "/api/v1/events?since=1h").unwrap();
    assert!(
        wrong.contains("400") && wrong.contains("since_ms and limit are numbers"),
        "{wrong}"
    );
    // The log has the same names.
    let leader = cluster.leader().unwrap();
    let log = cluster.process(&leader).unwrap().log();
    assert!(log.contains("job_stopped"), "{log}");
}
