//! A query from inside: the rows of its operators are those of the manifest.
//!
//! Rule: the figures of the command line and of the HTTP API are compared with the epochs, which are
//! counted by other code.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use streamctl_tests::cluster::Cluster;
use streamctl_tests::places::{country_lookup, one_system_at_a_time};
use streamctl_tests::servers::Etcd;
use streamctl_tests::wait;

const WITHIN: Duration = Duration::from_secs(60);
/// Rows of the example lookup.
const COUNTRIES: u64 = 249;

/// A join of generated records, some of them broken or without a partner; it may fail on a row.
fn job(folder: &Path) -> PathBuf {
    let lookup = folder.join("lookup");
    std::fs::create_dir_all(&lookup).unwrap();
    std::fs::copy(country_lookup(), lookup.join("country_lookup.csv")).unwrap();
    let file = folder.join("inside.toml");
    let root = folder.display();
    let text = format!(
        r#"
name = "inside"
[source]
type = "generator"
shards = 3
rate = 300
bad_every = 40
unmatched_every = 25
[window]
size = "1s"
[[lookup]]
name = "country_lookup"
path = "{root}/lookup/"
[transform]
sql = """
SELECT s.uuid, CAST(s.unitssold AS BIGINT) * 2 AS twice, c."Code" AS country_code
FROM source s JOIN country_lookup c ON s.country = c."CountryName"
"""
[sink]
path = "{root}/out/"
[dead_letter]
path = "{root}/dead/"
[checkpoint]
location = "{root}/checkpoint/"
"#
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn cluster(folder: &Path, etcd: &Etcd, workers: &[&str]) -> Cluster {
    let store = format!("etcd://{}", etcd.address());
    let mut cluster = Cluster::empty(vec![], folder, &store, None);
    cluster.add_controller("controller-1");
    wait::until("a leader", WITHIN, || cluster.leader());
    for worker in workers {
        cluster.add_worker(worker);
    }
    cluster
}

fn json(cluster: &Cluster, args: &[&str]) -> Value {
    let args = [args, &["-o", "json"]].concat();
    serde_json::from_str(&cluster.cli_ok(&args)).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn the_rows_of_a_querys_operators_are_those_of_the_epoch() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(folder.path());
    let cluster = cluster(folder.path(), &etcd, &["worker-1", "worker-2"]);
    let file = job(folder.path());
    cluster.cli_ok(&["submit", file.to_str().unwrap()]);
    let profile = wait::until("five windows", WITHIN, || {
        let profile = json(&cluster, &["explain", "--analyze", "inside"]);
        (number(&profile["windows"]) >= 5).then_some(profile)
    });

    let last = &profile["last"];
    let epoch = number(&last["epoch"]).to_string();
    let listed = json(
        &cluster,
        &["epochs", "inside", "--from", &epoch, "--limit", "1"],
    );
    let counts = &listed[0]["counts"];
    assert!(number(&counts["rows_in"]) > 0, "{listed}");
    let tasks = number(&last["tasks"]);
    assert!(
        (1..=2).contains(&tasks) && last["tasks_omitted"] == 0,
        "{last}"
    );

    let operators = last["operators"].as_array().unwrap();
    let rows = |name: &str| {
        let found = operators.iter().find(|operator| operator["name"] == name);
        number(&found.unwrap_or_else(|| panic!("no {name} in {last:#}"))["rows"])
    };
    assert_eq!(rows("read"), number(&counts["rows_in"]));
    assert_eq!(rows("decode"), number(&counts["rows_decoded"]));
    assert_eq!(rows("Source"), number(&counts["rows_decoded"]));
    assert_eq!(rows("stage"), number(&counts["rows_out"]));
    assert_eq!(number(&operators[1]["rows"]), number(&counts["rows_out"]));
    // The join keeps rows without a partner, so that they are counted; the operator above drops them.
    assert_eq!(rows("HashJoinExec"), number(&counts["rows_decoded"]));
    assert_eq!(rows("UnmatchedExec"), number(&counts["rows_out"]));
    assert_eq!(rows("Lookup"), COUNTRIES * tasks);
    let join = operators
        .iter()
        .find(|one| one["name"] == "HashJoinExec")
        .unwrap();
    assert!(number(&join["compute_us"]) > 0, "{join}");
    let spent: u64 = operators
        .iter()
        .filter_map(|one| one["compute_us"].as_u64())
        .sum();
    assert!(spent <= number(&last["total_us"]), "{last:#}");

    let sum = &profile["sum"];
    assert_eq!(sum["epoch"], last["epoch"]);
    assert!(
        number(&sum["operators"][0]["rows"]) > number(&operators[0]["rows"]),
        "{sum:#}"
    );
    let tree = cluster.cli_ok(&["explain", "--analyze", "inside"]);
    assert!(
        tree.contains("HashJoinExec") && tree.contains('%'),
        "{tree}"
    );
    let missing = cluster.cli(&["explain", "--analyze", "no-such-job"]);
    assert_eq!(missing.status.code(), Some(3));
}

/// The points of a job's history that have windows, and their rows.
fn windows(cluster: &Cluster, controller: &str) -> Option<(usize, u64)> {
    let history = api(cluster, controller, "jobs/inside/history?span_ms=900000")?;
    let points = history["points"].as_array()?.iter();
    let with_rows: Vec<u64> = points
        .filter(|point| point["epochs"].as_u64() > Some(0))
        .filter_map(|point| point["rows_in"].as_u64())
        .collect();
    Some((with_rows.len(), with_rows.iter().sum()))
}

fn api(cluster: &Cluster, controller: &str, path: &str) -> Option<Value> {
    let port = cluster
        .dashboard(controller)
        .rsplit(':')
        .next()?
        .parse()
        .ok()?;
    let response = wait::http_get(port, &format!("/api/v1/{path}"))?;
    let body = &response[response.find('{')?..=response.rfind('}')?];
    serde_json::from_str(body).ok()
}

#[test]
fn the_past_of_jobs_and_workers_survives_the_leader() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let etcd = Etcd::start(folder.path());
    let mut cluster = cluster(folder.path(), &etcd, &[]);
    cluster.add_controller("controller-2");
    // It knows both.
    cluster.add_worker("worker-1");
    let file = job(folder.path());
    cluster.cli_ok(&["submit", file.to_str().unwrap()]);
    wait::until("windows of two points", WITHIN, || {
        let (points, _) = windows(&cluster, "controller-1")?;
        (points >= 2).then_some(())
    });
    let history = api(&cluster, "controller-1", "jobs/inside/history").unwrap();
    let last = history["points"].as_array().unwrap().last().unwrap();
    assert_eq!(history["step_ms"], 10_000);
    assert!(last["lag_ms"].is_u64(), "{last}");
    let first = &history["points"][0]["stages"];
    assert!(first["closed_to_published"]["p95_us"].is_u64(), "{history}");
    cluster.cli_ok(&["stop", "inside", "--drain"]);
    let before = wait::until("the rows of all epochs", WITHIN, || {
        let totals = json(&cluster, &["status", "inside"])["totals"]["rows_in"].as_u64()?;
        let (_, rows) = windows(&cluster, "controller-1")?;
        (rows == totals).then_some(rows)
    });
    wait::until("the worker's load", WITHIN, || {
        let worker = api(&cluster, "controller-1", "workers/worker-1")?;
        let point = worker["load"].as_array()?.last()?;
        (point["cpu_permille"].is_u64() && number(&point["memory_bytes"]) > 0).then_some(())
    });

    cluster.kill("controller-1");
    wait::until("the past under the next leader", WITHIN, || {
        let (points, rows) = windows(&cluster, "controller-2")?;
        (points > 0 && rows == before).then_some(())
    });
    let history = api(&cluster, "controller-2", "jobs/inside/history").unwrap();
    assert_eq!(history["reading"], false);
    let stages = &history["points"][0]["stages"];
    assert!(stages["report"]["p50_us"].is_u64(), "{history}");
    assert!(
        stages["publish"].is_null(),
        "manifests do not say it: {history}"
    );
    let worker = wait::until("the worker", WITHIN, || {
        let day = api(
            &cluster,
            "controller-2",
            "workers/worker-1?span_ms=86400000",
        )?;
        day["worker"]["compute_threads"].is_u64().then_some(day)
    });
    assert!(!worker["load"].as_array().unwrap().is_empty(), "{worker}");
    assert!(!worker["worker"]["version"].as_str().unwrap().is_empty());
    let gone = api(&cluster, "controller-2", "workers/worker-9").unwrap();
    assert!(gone["error"].as_str().unwrap().contains("worker-9"));
    let refused = api(&cluster, "controller-2", "jobs/inside/history?span_ms=-1").unwrap();
    assert!(refused["error"].as_str().unwrap().contains("span_ms"));
}
