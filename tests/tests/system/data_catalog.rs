//! Files that are a table of the Data Catalog: contract, and a cluster that keeps the table true.
//!
//! Rule: the table is judged by a client that takes no part, which reads the files by the registered
//! partitions.

use crate::iceberg::with_sink;
use crate::model_job::{JOB, STEP, Scene, job_file};
use serde_json::{Value, json};
use streamctl_engine::aws::Aws;
use streamctl_engine::data_catalog::DataCatalogs;
use streamctl_engine::data_catalog::contract::contract;
use streamctl_proto::spec::SinkCatalog;
use streamctl_proto::v1::JobStatus;
use streamctl_tests::Servers;
use streamctl_tests::places::one_system_at_a_time;
use streamctl_tests::proxy::{Links, Mode};
use streamctl_tests::python::Python;

const TABLE: &str = "sales.by_country";
const SCRIPT: &str = "glue_table.py";

#[test]
fn the_data_catalog_keeps_its_contract_on_a_server() {
    let _alone = one_system_at_a_time();
    let servers = Servers::start();
    Python::new(servers.env()).ask(SCRIPT, &["database", "contract"]);
    let of = SinkCatalog {
        role: None,
        database: "contract".into(),
        table: "sales".into(),
        catalog_id: None,
        region: None,
        projection: false,
        add_columns: true,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let aws = Aws::with_fake(&servers.glue_address(), "test").await;
        let catalog = DataCatalogs::new(aws).catalog(&of).await;
        contract(&*catalog, "contract").await;
    });
}

/// The model job, whose files are the table.
fn job(more: &str) -> String {
    let sink = format!(
        "[sink]\npath = \"s3://workshop/output/lab4/sales/\"\nformat = \"parquet\"\n\
         partition_by = [\"ingest_hour\", \"itemtype\"]\n\
         catalog = {{ database = \"sales\", table = \"by_country\"{more} }}\n"
    );
    with_sink(&job_file(), &sink)
}

fn refused(scene: &Scene, words: &[&str], parts: &[&str]) {
    let output = scene.cluster.cli(words);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn each_partition_is_registered_before_its_epoch_counts_as_published() {
    let _alone = one_system_at_a_time();
    let servers = Servers::start();
    let links = Links::default();
    let port = servers.glue_address();
    let port = port.rsplit(':').next().unwrap().parse().unwrap();
    let glue = format!("http://127.0.0.1:{}", links.open("glue", port));
    let mut scene = Scene::on(servers, &[("AWS_ENDPOINT_URL_GLUE", &glue)]);
    let describe = |scene: &Scene| scene.python.ask(SCRIPT, &["describe", TABLE]);

    let file = scene.file("job.toml", &job(""));
    refused(
        &scene,
        &["submit", &file],
        &["sink.catalog", "no database \"sales\"", "create-database"],
    );
    scene.python.ask(SCRIPT, &["database", "sales"]);
    let checked = scene.cluster.cli_ok(&["explain", &file]);
    assert!(checked.contains("a submit makes it"), "{checked}");
    scene.cluster.cli_ok(&["submit", "--dry-run", &file]);
    assert_eq!(describe(&scene), json!({}), "a dry run makes nothing");
    scene.cluster.cli_ok(&["submit", &file]);
    let made = describe(&scene);
    assert_eq!(
        made["keys"],
        json!({"ingest_hour": "string", "itemtype": "string"})
    );
    let keys = made["columns"].as_object().unwrap().keys();
    let columns: Vec<_> = keys.map(String::as_str).collect();
    assert!(columns.contains(&"country_code"), "{made:#}");
    assert!(!columns.contains(&"itemtype"), "it is a key: {made:#}");

    let mut writer = scene.writer("live", 1_000, 0);
    scene.goes_on("the submit");
    // Nothing counts as published that the catalog does not show.
    scene.python.ask(SCRIPT, &["read", TABLE]);
    links.set(None, "glue", Mode::Reset);
    // A new leader has registered nothing yet.
    scene.cluster.kill_leader();
    let waits = |status: &JobStatus| status.epoch > status.published + 1;
    let waiting =
        scene
            .cluster
            .until_status(JOB, "an epoch that waits for the catalog", STEP, |status| {
                let is_named = |reason: &String| reason.contains("not registered yet");
                waits(status) && status.waiting_on.iter().any(is_named)
            });
    assert!(waits(&waiting));
    links.heal();
    scene.cluster.start_all_again();
    scene.goes_on("the catalog's return");

    // A column that a change adds reaches the table, and the rows after it.
    let changed = job("").replace("s.unitssold,", "s.unitssold, s.uuid AS again,");
    let file = scene.file("changed.toml", &changed);
    scene.cluster.cli_ok(&["submit", "--change", &file]);
    assert_eq!(describe(&scene)["columns"]["again"], "string");
    scene.goes_on("the change");
    let other = job("").replace("s.unitssold,", "CAST(s.unitssold AS DATE) AS unitssold,");
    let file = scene.file("other.toml", &other);
    refused(
        &scene,
        &["submit", "--change", &file],
        &["column \"unitssold\" is string in table", "CAST"],
    );

    assert!(writer.terminate(STEP).success(), "{}", writer.log());
    let status = scene.everything_is_published();
    let read = scene.python.ask(SCRIPT, &["read", TABLE]);
    let rows = status.totals.unwrap_or_default().rows_out;
    assert_eq!(read["rows"].as_u64(), Some(rows), "{read:#}");
    let shown = describe(&scene);
    let partitions = shown["partitions"].as_array().unwrap();
    let is_item = |partition: &Value| partition["values"][1] == "Baby Food";
    assert!(partitions.iter().any(is_item), "{shown:#}");
    scene.cluster.cli_ok(&["verify", JOB]);
}
