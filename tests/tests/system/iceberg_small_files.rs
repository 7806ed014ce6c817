//! Small files of a table of a REST catalog that is not ours are rewritten by a worker, beside the job's
//! epochs and another writer's appends.
//!
//! Rule: the table is judged by pyiceberg, and its rows by the records that were written.

use crate::iceberg::{TABLE, Tables, scene_with_tables};
use crate::model_job::{JOB, STEP, Scene};
use std::time::Duration;
use streamctl_proto::v1::{CompactionStatus, JobStatus};
use streamctl_tests::Servers;
use streamctl_tests::places::one_system_at_a_time;
use streamctl_tests::wait::{http_get, until};

/// Time for some rewritings, which are looked for every ten seconds.
const REWRITTEN: Duration = Duration::from_secs(240);

fn compaction(status: &JobStatus) -> CompactionStatus {
    status.compaction.clone().unwrap_or_default()
}

/// Waits until small files were rewritten since the leader was elected.
fn rewritten(scene: &Scene, what: &str, least: u64) -> CompactionStatus {
    let done = |status: &JobStatus| compaction(status).rewritings >= least;
    compaction(&scene.cluster.until_status(JOB, what, REWRITTEN, done))
}

fn rows_are_exact(tables: &Tables, foreign: u64, status: &JobStatus) {
    let table = tables.ask(TABLE, &["describe"]);
    assert_eq!(table["twice"], 0, "{table:#}");
    assert_eq!(table["rows"], table["counted"], "{table:#}");
    let rows = status.totals.unwrap_or_default().rows_out;
    assert_eq!(table["rows"].as_u64(), Some(rows + foreign), "{table:#}");
    assert_eq!(table["bounds"], true, "{table:#}");
}

/// The metrics that only a job with a table has; the test of all metrics has none.
fn rewritings_are_counted(scene: &Scene) {
    let samples = [
        "\nstreamctl_rewritings_total{",
        "\nstreamctl_rewritten_files_total{",
        "\nstreamctl_rewritten_bytes_total{",
    ];
    until("metrics of the rewriting", STEP, || {
        let leader = scene.cluster.leader()?;
        let port = scene.cluster.dashboard(&leader).rsplit(':').next()?;
        let answer = http_get(port.parse().ok()?, "/metrics")?;
        let has_all = samples.iter().all(|sample| answer.contains(sample));
        has_all.then_some(())
    });
}

/// Another writer expires what shows the rewritings, and then removes a rewritten file. Its rows might
/// be in the files of that writer, so they are not proven to be lost: they are counted.
fn rewritten_rows_are_proven_without_snapshots(scene: &Scene, tables: &Tables) {
    tables.ask(TABLE, &["expire"]);
    let proven = scene.cluster.cli_ok(&["verify", JOB]);
    assert!(proven.contains("proven"), "{proven}");
    let dropped = tables.ask(TABLE, &["drop-file", "/rewritten/"]);
    tables.ask(TABLE, &["expire"]);
    let verified = scene.cluster.cli(&["verify", JOB]);
    let words = String::from_utf8_lossy(&verified.stdout);
    assert!(!verified.status.success(), "{dropped}: {words}");
    let missing = match dropped["rows"].as_u64().unwrap() {
        1 => "1 row is in no file of the job".to_owned(),
        rows => format!("{rows} rows are in no file of the job"),
    };
    assert!(words.contains(&missing), "{dropped}: {words}");
}

#[test]
fn small_files_are_rewritten_beside_epochs_and_a_foreign_append() {
    let _alone = one_system_at_a_time();
    let (servers, port) = Servers::start_with_tables();
    let (mut scene, tables, job) = scene_with_tables(servers, port, port);
    let job = job.replace(
        "create = true\n",
        "create = true\nmaintenance = { compact = \"10s\", target_size = \"16MiB\" }\n",
    );
    let file = scene.file("job.toml", &job);
    scene.cluster.cli_ok(&["submit", &file]);
    let mut writer = scene.writer("live", 1_000, 0);
    scene.goes_on("the submit");
    tables.ask(TABLE, &["append", "7"]);
    let first = rewritten(&scene, "a rewriting", 1);
    assert!(first.files_after < first.files_before, "{first:?}");
    rewritings_are_counted(&scene);
    tables.ask(TABLE, &["append", "5"]);
    rewritten(&scene, "more rewritings", first.rewritings + 1);
    scene.goes_on("rewritings");
    // The next leader knows nothing of them.
    scene.cluster.kill_leader();
    rewritten(&scene, "a rewriting of the next leader", 1);
    scene.cluster.start_all_again();
    scene.goes_on("the next leader's rewriting");

    assert!(writer.terminate(STEP).success(), "{}", writer.log());
    let status = scene.everything_is_published();
    rows_are_exact(&tables, 12, &status);
    let table = tables.ask(TABLE, &["describe"]);
    let replaced = table["snapshots"].as_array().unwrap().iter();
    let mut replaced = replaced.filter(|snapshot| snapshot["deleted-data-files"].is_string());
    let one = replaced.next().expect("a snapshot of a rewriting");
    assert_eq!(one["operation"], "replace", "{one}");
    assert_eq!(one["added-records"], one["deleted-records"], "{one}");
    let rows = scene.servers.folder().join("rows");
    std::fs::create_dir_all(&rows).unwrap();
    let exported = rows.join("rows.parquet");
    tables.ask(TABLE, &["export", exported.to_str().unwrap()]);
    scene.rows_are_there_once(&[&format!("{}/", rows.display())]);
    let events = scene.cluster.cli_ok(&["events", JOB]);
    assert!(events.contains("table_compacted"), "{events}");
    scene.cluster.cli_ok(&["verify", JOB]);
    rewritten_rows_are_proven_without_snapshots(&scene, &tables);
}
