//! Exactly once into Iceberg tables: local mode with a folder as catalog, and a cluster with a REST
//! catalog that is not ours.
//!
//! Rule: the table is judged by pyiceberg, and its rows by the records that were written.

use crate::model_job::{JOB, STEP, Scene, job_file};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use streamctl_proto::v1::JobStatus;
use streamctl_tests::Servers;
use streamctl_tests::local_run::{Run, oracle_lines};
use streamctl_tests::places::{binary, one_system_at_a_time};
use streamctl_tests::process::Launch;
use streamctl_tests::proxy::{Links, Mode};
use streamctl_tests::python::Python;
use streamctl_tests::servers::WAREHOUSE;

const REST: Duration = Duration::from_secs(240);
pub(super) const TABLE: &str = "sales.by_country";

/// The sink of a job file replaced.
pub(super) fn with_sink(job: &str, sink: &str) -> String {
    let begin = job.find("[sink]").expect("a job has a sink");
    let rest = &job[begin + 1..];
    let end = rest.find("\n[").expect("a table follows");
    format!("{}{sink}\n{}", &job[..begin], &rest[end..])
}

/// A client of tables that is not ours.
pub(super) struct Tables {
    python: Python,
    place: Vec<String>,
}

impl Tables {
    fn local(warehouse: &Path) -> Self {
        Self {
            python: Python::new(vec![]),
            place: vec!["--local".into(), warehouse.display().to_string()],
        }
    }

    fn rest(env: Vec<(String, String)>, port: u16) -> Self {
        let place = [
            "--uri".to_owned(),
            format!("http://127.0.0.1:{port}"),
            "--warehouse".to_owned(),
            WAREHOUSE.to_owned(),
        ];
        Self {
            python: Python::new(env),
            place: place.into(),
        }
    }

    #[track_caller]
    pub(super) fn ask(&self, table: &str, words: &[&str]) -> Value {
        let mut all: Vec<&str> = self.place.iter().map(String::as_str).collect();
        all.extend(["--table", table]);
        all.extend(words);
        self.python
            .try_ask_in("tables", "tables.py", &all)
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }
}

/// The table's epochs, from the summaries of its snapshots.
fn epochs(table: &Value) -> Vec<u64> {
    let snapshots = table["snapshots"].as_array().expect("a list");
    let of = |snapshot: &Value| -> Vec<u64> {
        let text = snapshot["streamctl.epochs"].as_str().unwrap_or_default();
        text.split(',')
            .filter_map(|epoch| epoch.parse().ok())
            .collect()
    };
    snapshots.iter().flat_map(of).collect()
}

#[test]
fn a_local_run_writes_its_table_once_whatever_is_killed() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    let run = Run::new(root.path(), "local", 400);
    let sink = "[sink]\ntype = \"iceberg\"\ncatalog = \"local\"\nwarehouse = \"./warehouse\"\n\
                table = \"sales.by_country\"\ncreate = true\n\
                partition = [\"itemtype\"]\nkeep_snapshots = 5\n";
    run.rewrite(|job| with_sink(job, sink));
    for life in [900, 300, 1_500, 2_000] {
        let mut process = run.start();
        let ended = process.ended_within(Duration::from_millis(life));
        assert_eq!(ended, None, "it ended too early: {}", process.log());
        process.kill();
    }
    let mut process = run.start();
    assert!(process.wait(REST).success(), "{}", process.log());

    let tables = Tables::local(&run.folder.join("warehouse"));
    let table = tables.ask(TABLE, &["describe"]);
    assert_eq!(table["twice"], 0, "{table:#}");
    assert_eq!(table["rows"], table["counted"], "{table:#}");
    assert_eq!(table["bounds"], true, "{table:#}");
    assert_eq!(table["partition_fields"], serde_json::json!(["itemtype"]));
    assert!(
        table["snapshots"].as_array().unwrap().len() <= 6,
        "own snapshots expire: {table:#}"
    );
    let read = tables.ask(TABLE, &["scan", "itemtype = 'Fruits'"]);
    assert!(
        read["read"].as_u64() < read["all"].as_u64(),
        "a filter prunes: {read}"
    );

    rows_are_there_once(root.path(), &tables, &run.place("dead"));
    let mut verify = run.verify();
    assert!(verify.wait(REST).success(), "{}", verify.log());
}

/// A run of 50 records with these first ids, all of one window, with a state and a checkpoint of its
/// own, into a table of the warehouse beside it.
fn run_of_one_window(root: &Path, name: &str, first: u64) {
    let folder = root.join(name);
    let events = folder.join("events");
    std::fs::create_dir_all(&events).unwrap();
    let record = |id: u64| format!("{{\"at\": \"2026-11-24 10:00:01\", \"id\": {id}}}\n");
    let records: String = (first..first + 50).map(record).collect();
    std::fs::write(events.join("events.json"), records).unwrap();
    let job = "name = \"nightly\"\n\
               [source]\ntype = \"files\"\npath = \"events/\"\nformat = \"json\"\narrival_time = \"at\"\n\
               [source.schema]\nat = \"timestamp\"\nid = \"bigint\"\n\
               [window]\nsize = \"1m\"\n\
               [transform]\nsql = \"SELECT id FROM source\"\n\
               [sink]\ntype = \"iceberg\"\ncatalog = \"local\"\nwarehouse = \"../warehouse\"\n\
               table = \"sales.nightly\"\ncreate = true\n\
               [checkpoint]\nlocation = \"checkpoint/\"\n";
    let file = folder.join("job.toml");
    std::fs::write(&file, job).unwrap();
    let state = folder.join("state");
    let words = [
        "run",
        file.to_str().unwrap(),
        "--state",
        state.to_str().unwrap(),
    ];
    let mut process = Launch::new(name, binary("streamctl"), &words, root).start();
    assert!(process.wait(REST).success(), "{}", process.log());
}

#[test]
fn jobs_of_one_name_never_write_the_same_file() {
    let root = tempfile::tempdir().unwrap();
    run_of_one_window(root.path(), "first", 0);
    run_of_one_window(root.path(), "second", 50);
    let tables = Tables::local(&root.path().join("warehouse"));
    let table = tables.ask("sales.nightly", &["describe"]);
    assert_eq!(table["twice"], 0, "{table:#}");
    assert_eq!(table["rows"], 100, "{table:#}");
    for filter in ["id < 50", "id >= 50"] {
        let read = tables.ask("sales.nightly", &["scan", filter]);
        assert_eq!(read["rows"], 50, "{filter}: {read}");
    }
}

/// Another job for the same table, whose columns are not the table's.
fn a_result_that_differs_is_refused(scene: &Scene, job: &str) {
    let other = job
        .replace("name = \"sales-by-country\"", "name = \"other\"")
        .replace("s.itemtype", "42 AS itemtype")
        .replace("/checkpoint/", "/other-checkpoint/");
    let file = scene.file("other.toml", &other);
    let refused = scene.cluster.cli(&["submit", &file]);
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{words}");
    for part in [
        "sink.table",
        "column \"itemtype\" is long in the query and string in the table",
        "CAST(itemtype AS VARCHAR)",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
}

/// All rows of the table, compared with the generator's records.
fn rows_are_there_once(folder: &Path, tables: &Tables, dead: &str) {
    let rows = folder.join("rows");
    std::fs::create_dir_all(&rows).unwrap();
    tables.ask(
        TABLE,
        &["export", rows.join("rows.parquet").to_str().unwrap()],
    );
    let oracle = folder.join("oracle.jsonl");
    std::fs::write(&oracle, oracle_lines()).unwrap();
    let sink = format!("{}/", rows.display());
    let flags = [
        "--sink",
        &sink,
        "--dead",
        dead,
        "--oracle",
        oracle.to_str().unwrap(),
    ];
    let verdict = Python::new(vec![]).ask("check_output.py", &flags);
    assert_eq!(verdict["ok"], true, "{verdict:#}");
}

/// A cluster that reaches the catalog on the port `used`, which leads to `port`; the table's
/// namespace; and a job that writes to it.
pub(super) fn scene_with_tables(servers: Servers, port: u16, used: u16) -> (Scene, Tables, String) {
    let tables = Tables::rest(servers.env(), port);
    let uri = format!("http://127.0.0.1:{used}");
    let credentials = servers.folder().join("credentials");
    std::fs::create_dir_all(&credentials).unwrap();
    let text = format!("uri = \"{uri}\"\nclient_id = \"test\"\nclient_secret = \"test\"\n");
    std::fs::write(credentials.join("weed.toml"), text).unwrap();
    let folder = credentials.to_str().unwrap();
    let scene = Scene::on(servers, &[("STREAMCTL_CATALOG_CREDENTIALS", folder)]);
    tables.ask(TABLE, &["namespace"]);
    let sink = format!(
        "[sink]\ntype = \"iceberg\"\ncatalog = \"rest\"\nuri = \"{uri}\"\n\
         warehouse = \"{WAREHOUSE}\"\ncredentials = \"weed\"\ntable = \"{TABLE}\"\ncreate = true\n\
         partition = [\"country_code\"]\n"
    );
    let job = with_sink(&job_file(), &sink);
    (scene, tables, job)
}

/// Committed epochs that are published together in the test below, besides the one that was being
/// published when the catalog went away.
const BACKLOG: u64 = 5;

#[test]
fn a_backlog_of_epochs_is_one_snapshot_when_the_catalog_comes_back() {
    let _alone = one_system_at_a_time();
    let (servers, port) = Servers::start_with_tables();
    let links = Links::default();
    let used = links.open("catalog", port);
    let (mut scene, tables, job) = scene_with_tables(servers, port, used);
    let file = scene.file("job.toml", &job);
    scene.cluster.cli_ok(&["submit", &file]);
    let mut writer = scene.writer("live", 1_000, 0);
    scene.goes_on("the submit");

    links.set(None, "catalog", Mode::Reset);
    let waits = |status: &JobStatus| status.epoch > status.published + BACKLOG;
    scene
        .cluster
        .until_status(JOB, "a backlog of epochs", STEP, waits);
    // Its successor begins with all of them.
    scene.cluster.kill_leader();
    let waiting = scene
        .cluster
        .until_status(JOB, "the next leader", STEP, waits);
    assert!(writer.terminate(STEP).success(), "{}", writer.log());
    scene.cluster.start_all_again();
    links.heal();
    let status = scene.everything_is_published();

    let table = tables.ask(TABLE, &["describe"]);
    assert_eq!(table["twice"], 0, "{table:#}");
    assert_eq!(table["rows"], table["counted"], "{table:#}");
    let rows = status.totals.unwrap_or_default().rows_out;
    assert_eq!(table["rows"].as_u64(), Some(rows), "{table:#}");
    let seen = epochs(&table);
    let in_order: Vec<_> = seen
        .iter()
        .copied()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    assert_eq!(seen, in_order, "each epoch once, in order: {table:#}");
    let backlog = (waiting.published + 1..=waiting.epoch).collect::<Vec<_>>();
    let snapshots = table["snapshots"].as_array().unwrap();
    let with_backlog = snapshots
        .iter()
        .filter(|snapshot| {
            let own = epochs(&serde_json::json!({ "snapshots": [snapshot] }));
            own.iter().any(|epoch| backlog.contains(epoch))
        })
        .count();
    // What the old leader had sent may be in the table without it.
    assert!(
        with_backlog <= 2,
        "{with_backlog} snapshots for the epochs {backlog:?}: {table:#}"
    );
    scene.cluster.cli_ok(&["verify", JOB]);
}

#[test]
fn a_cluster_adds_each_epoch_once_to_a_table_of_a_rest_catalog_whatever_is_killed() {
    let _alone = one_system_at_a_time();
    let (servers, port) = Servers::start_with_tables();
    let (mut scene, tables, job) = scene_with_tables(servers, port, port);
    let mut backlog = scene.writer("backlog", 1_000, 150);
    assert!(backlog.wait(STEP).success(), "{}", backlog.log());
    let file = scene.file("job.toml", &job);
    // A dry run makes nothing.
    scene.cluster.cli_ok(&["submit", "--dry-run", &file]);
    scene.cluster.cli_ok(&["submit", &file]);
    let mut writer = scene.writer("live", 10_000, 0);
    scene.goes_on("the submit");
    tables.ask(TABLE, &["append", "7"]);
    scene.goes_on("a foreign append");
    a_result_that_differs_is_refused(&scene, &job);
    let changed = job.replace(
        "c.\"CountryName\"",
        "c.\"CountryName\" AND s.uuid IS NOT NULL",
    );
    assert_ne!(changed, job);
    let changed = scene.file("changed.toml", &changed);
    scene.cluster.cli_ok(&["submit", "--change", &changed]);
    scene.goes_on("a change of the query");
    scene.cluster.add_worker("worker-2");
    for round in 0..3 {
        scene.cluster.kill("worker-1");
        scene.cluster.kill_leader();
        scene.goes_on(&format!("a killed worker and leader, {round}"));
        scene.cluster.start_all_again();
    }
    scene.cluster.kill_all();
    scene.cluster.start_all_again();
    scene.goes_on("the restart of everything");

    assert!(writer.terminate(STEP).success(), "{}", writer.log());
    let status = scene.everything_is_published();
    let table = tables.ask(TABLE, &["describe"]);
    assert_eq!(table["twice"], 0, "{table:#}");
    assert_eq!(table["rows"], table["counted"], "{table:#}");
    let mut seen = epochs(&table);
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), all, "no epoch is in two snapshots: {table:#}");
    let totals = status.totals.unwrap_or_default();
    assert_eq!(table["rows"].as_u64(), Some(totals.rows_out + 7));
    let rows = scene.servers.folder().join("rows");
    std::fs::create_dir_all(&rows).unwrap();
    tables.ask(
        TABLE,
        &["export", rows.join("rows.parquet").to_str().unwrap()],
    );
    scene.rows_are_there_once(&[&format!("{}/", rows.display())]);
    let read = tables.ask(TABLE, &["scan", "country_code = 'DE'"]);
    assert!(
        read["read"].as_u64() < read["all"].as_u64(),
        "a filter prunes: {read}"
    );
    let first = tables.ask(TABLE, &["at", "1"]);
    assert_eq!(first["summary"]["streamctl.job"], JOB, "{first}");
    scene.cluster.cli_ok(&["verify", JOB]);
}
