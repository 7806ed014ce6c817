//! One window is one trace across processes, and logs name it.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use streamctl_tests::cluster::Cluster;
use streamctl_tests::collector::{Collector, Seen};
use streamctl_tests::places::one_system_at_a_time;
use streamctl_tests::wait::until;

const SOON: Duration = Duration::from_secs(60);

fn job(folder: &Path) -> PathBuf {
    let file = folder.join("job.toml");
    let root = folder.display();
    let text = format!(
        "name = \"sales\"\n[source]\ntype = \"generator\"\nshards = 4\nrate = 400\n[window]\nsize = \"1s\"\n\
         [transform]\nsql = \"SELECT uuid, country FROM source\"\n[sink]\npath = \"{root}/out/\"\n\
         [checkpoint]\nlocation = \"{root}/checkpoint/\"\n"
    );
    std::fs::write(&file, text).unwrap();
    file
}

/// The spans of the first trace that has its root.
fn a_whole_trace(spans: Vec<Seen>) -> Option<Vec<Seen>> {
    let mut traces: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
    for span in spans {
        traces.entry(span.trace.clone()).or_default().push(span);
    }
    let services = |spans: &[Seen]| {
        spans
            .iter()
            .map(|span| span.service.clone())
            .collect::<BTreeSet<_>>()
            .len()
    };
    let tasks = |spans: &[Seen]| spans.iter().filter(|span| span.name == "task").count();
    traces.into_values().find(|spans| {
        spans.iter().any(|span| span.name == "epoch") && services(spans) == 2 && tasks(spans) == 2
    })
}

#[test]
fn a_window_is_one_trace_across_a_controller_and_two_workers_and_logs_carry_its_id() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start();
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()),
        ("STREAMCTL_LOG_FORMAT", "json".to_owned()),
        ("RUST_LOG", "info,streamctl_worker=debug".to_owned()),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value)).into();
    let mut cluster = Cluster::empty(
        env,
        folder.path(),
        &format!("file://{}/store", folder.path().display()),
        None,
    );
    cluster.add_controller("controller-1");
    until("a leader", SOON, || cluster.leader());
    cluster.add_worker("worker-1");
    cluster.add_worker("worker-2");
    until("two workers", SOON, || {
        (cluster.worker_list()?.len() == 2).then_some(())
    });
    cluster.cli_ok(&["submit", job(folder.path()).to_str().unwrap()]);

    let spans = until("a trace with its root", SOON, || {
        a_whole_trace(collector.spans())
    });
    let roots: Vec<_> = spans.iter().filter(|span| span.parent.is_empty()).collect();
    assert_eq!(roots.len(), 1, "{spans:#?}");
    let root = roots[0];
    assert_eq!(
        (root.name.as_str(), root.service.as_str()),
        ("epoch", "streamctl-controller")
    );
    assert_eq!(root.attributes["streamctl.job"], "sales");
    let ids: BTreeSet<_> = spans.iter().map(|span| span.id.as_str()).collect();
    assert_eq!(ids.len(), spans.len(), "an id is given once");
    for span in &spans {
        assert!(
            span.parent.is_empty() || ids.contains(span.parent.as_str()),
            "{span:?} hangs in the air"
        );
        assert!(span.error.is_none() && span.begin <= span.end, "{span:?}");
    }
    let named = |name: &str| {
        spans
            .iter()
            .filter(|span| span.name == name)
            .collect::<Vec<_>>()
    };
    for (name, parent) in [
        ("write manifest", "epoch"),
        ("commit", "epoch"),
        ("publish", "epoch"),
        ("task", "epoch"),
        ("read", "task"),
        ("decode", "task"),
        ("transform", "task"),
        ("stage", "task"),
    ] {
        let parents: BTreeSet<_> = named(parent).iter().map(|span| span.id.as_str()).collect();
        let found = named(name);
        assert!(
            !found.is_empty()
                && found
                    .iter()
                    .all(|span| parents.contains(span.parent.as_str())),
            "{name}: {spans:#?}"
        );
    }
    let rows: u64 = named("task")
        .iter()
        .map(|span| span.attributes["streamctl.rows_in"].parse::<u64>().unwrap())
        .sum();
    assert_eq!(
        rows.to_string(),
        root.attributes["streamctl.rows_in"],
        "the tasks read what the epoch holds"
    );

    let log = |cluster: &mut Cluster, id: &str| -> Vec<Value> {
        cluster
            .process(id)
            .unwrap()
            .log()
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    };
    let published = log(&mut cluster, "controller-1");
    let line = published
        .iter()
        .find(|line| line["trace_id"] == root.trace.as_str())
        .expect("its line");
    assert_eq!(
        (&line["job"], &line["message"]),
        (&"sales".into(), &"epoch published".into())
    );
    assert_eq!(
        line["epoch"].to_string(),
        root.attributes["streamctl.epoch"]
    );
    for worker in ["worker-1", "worker-2"] {
        let reported = log(&mut cluster, worker);
        let line = reported
            .iter()
            .find(|line| line["trace_id"] == root.trace.as_str())
            .expect("its line");
        let task = named("task")
            .iter()
            .any(|span| line["task"] == span.attributes["streamctl.task"].as_str());
        assert!(task && line["job"] == "sales", "{line}");
    }
}

#[test]
fn a_collector_that_is_not_there_holds_nothing_up() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let env = vec![(
        "OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(),
        "http://127.0.0.1:9".to_owned(),
    )];
    let mut cluster = Cluster::empty(
        env,
        folder.path(),
        &format!("file://{}/store", folder.path().display()),
        None,
    );
    cluster.add_controller("controller-1");
    until("a leader", SOON, || cluster.leader());
    cluster.add_worker("worker-1");
    cluster.cli_ok(&["submit", job(folder.path()).to_str().unwrap()]);
    cluster.until_status("sales", "three published windows", SOON, |status| {
        status.published >= 3
    });
    assert!(
        cluster.dismiss_worker("worker-1") && cluster.terminate("controller-1"),
        "they end when they are asked to"
    );
}
