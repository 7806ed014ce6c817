//! `explain` and `preview` are done by the cluster, with its catalog, credentials and workers.
//!
//! The caller of these tests has no AWS settings at all.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use streamctl_tests::places::{binary, inherited, one_system_at_a_time};
use streamctl_tests::python::Python;
use streamctl_tests::{Cluster, Servers};

const JOB: &str = r#"
name = "looks"

[source]
type = "kinesis"
stream = "looks"
catalog = { database = "glueworkshop_cloudformation", table = "typed" }
starting_position = "trim_horizon"

[window]
size = "1s"

[[lookup]]
name = "country_lookup"
path = "s3://workshop/input/lab4/country_lookup/"
format = "csv"

[transform]
sql = """
SELECT s.uuid, s.itemtype, s.unitssold, c."Code" AS country_code
FROM source s JOIN country_lookup c ON s.country = c."CountryName"
"""

[sink]
path = "s3://workshop/out/"
format = "parquet"

[checkpoint]
location = "s3://workshop/checkpoint/"
"#;

struct Scene {
    cluster: Cluster,
    python: Python,
    servers: Servers,
    file: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let servers = Servers::start();
        let python = Python::new(servers.env());
        let shape = [
            "--stream", "looks", "--shards", "2", "--bucket", "workshop", "--table", "typed",
            "--typed",
        ];
        python.ask("seed.py", &[&["prepare"], &shape[..]].concat());
        let file = servers.folder().join("job.toml");
        std::fs::write(&file, JOB).unwrap();
        let mut cluster = Cluster::start(&servers);
        cluster.add_worker("worker-1");
        Self {
            cluster,
            python,
            servers,
            file,
        }
    }

    /// Runs `streamctl` without AWS settings, on the job file.
    fn stranger(&self, verb: &str, flags: &[&str]) -> Output {
        let mut command = Command::new(binary("streamctl"));
        command.env_clear().envs(inherited()).envs(nothing_of_aws());
        command.env("STREAMCTL_CONFIG", "/nonexistent/config.toml");
        command
            .args([verb, self.file.to_str().unwrap()])
            .args(flags);
        command.output().unwrap()
    }

    fn by_the_cluster(&self, verb: &str, flags: &[&str]) -> Value {
        let urls = self.cluster.controller_urls();
        let flags = [flags, &["-o", "json", "--controller", &urls]].concat();
        let output = self.stranger(verb, &flags);
        assert!(output.status.success(), "{}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// No credentials, and none are looked for elsewhere.
fn nothing_of_aws() -> Vec<(&'static str, &'static str)> {
    vec![
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_CONFIG_FILE", "/nonexistent"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent"),
        ("AWS_REGION", "eu-west-1"),
    ]
}

fn text(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn the_cluster_explains_and_previews_what_the_caller_may_not_read() {
    let _alone = one_system_at_a_time();
    let mut scene = Scene::new();
    let oracle = scene.servers.folder().join("oracle.jsonl");
    let oracle = oracle.to_str().unwrap();
    let edges = ["edges", "--stream", "looks", "--oracle", oracle];
    let sent = scene.python.ask("seed.py", &edges)["sent"]
        .as_u64()
        .unwrap();

    let explained = scene.by_the_cluster("explain", &[]);
    assert_eq!(explained["shards"], 2, "{explained:#}");
    assert_eq!(explained["lookups"][0]["rows"], 249);
    assert_eq!(explained["output_columns"].as_array().unwrap().len(), 4);
    assert_eq!(explained["not_asked"], Value::Array(vec![]));

    let previewed = scene.by_the_cluster("preview", &["--records", "100"]);
    assert_eq!(previewed["records"], sent, "{previewed:#}");
    assert_eq!(previewed["shards_read"], 2);
    assert_eq!(previewed["dead_letters"].as_array().unwrap().len(), 7);
    let rows = previewed["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 13);
    assert!(rows.iter().all(|row| row["country_code"].is_string()));

    nothing_was_written(&scene);
    the_callers_own_process_may_read_nothing(&scene);
    a_context_is_used_and_named(&scene);
    a_submitted_file_is_read_back_in_each_version(&scene);
    without_a_worker_nothing_is_previewed(&mut scene);
}

fn nothing_was_written(scene: &Scene) {
    assert!(scene.cluster.status("looks").is_none());
    for folder in ["s3://workshop/out/", "s3://workshop/checkpoint/"] {
        let listed = scene.python.ask("list.py", &[folder]);
        assert_eq!(listed["names"], Value::Array(vec![]), "{folder}");
    }
}

fn the_callers_own_process_may_read_nothing(scene: &Scene) {
    let urls = scene.cluster.controller_urls();
    let output = scene.stranger("explain", &["--local", "--controller", &urls]);
    assert!(!output.status.success(), "{}", text(&output));
    let output = scene.stranger("explain", &[]);
    assert!(!output.status.success(), "{}", text(&output));
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(notes.contains("no controller is configured"), "{notes}");
}

fn a_context_is_used_and_named(scene: &Scene) {
    let config = scene.servers.folder().join("contexts.toml");
    let urls = scene.cluster.controller_urls();
    let streamctl = |args: &[&str]| {
        let mut command = Command::new(binary("streamctl"));
        command.env_clear().envs(inherited()).envs(nothing_of_aws());
        command.env("STREAMCTL_CONFIG", &config).args(args);
        command.output().unwrap()
    };
    let added = streamctl(&["context", "add", "prod", "--controller", &urls, "--use"]);
    assert!(added.status.success(), "{}", text(&added));
    let output = streamctl(&["explain", path(&scene.file)]);
    assert!(output.status.success(), "{}", text(&output));
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(notes.contains("context prod"), "{notes}");
}

fn a_submitted_file_is_read_back_in_each_version(scene: &Scene) {
    let cluster = &scene.cluster;
    let file = path(&scene.file);
    cluster.cli_ok(&["submit", file]);
    assert_eq!(cluster.cli_ok(&["get", "looks", "--spec"]), JOB);
    let changed = JOB.replace("\"parquet\"", "\"json\"");
    std::fs::write(&scene.file, &changed).unwrap();
    cluster.cli_ok(&["submit", "--change", file]);
    assert_eq!(cluster.cli_ok(&["get", "looks", "--spec"]), changed);
    let first = cluster.cli_ok(&["get", "looks", "--spec", "--version", "1"]);
    assert_eq!(first, JOB);
    let about: Value =
        serde_json::from_str(&cluster.cli_ok(&["get", "looks", "-o", "json"])).unwrap();
    assert_eq!(
        (&about["job_version"], &about["spec"]),
        (&2.into(), &changed.clone().into())
    );
    let second = cluster.cli_ok(&["get", "looks", "--version", "2"]);
    assert_eq!(second, changed);
    versions_are_listed_and_compared(scene);
    let missing = cluster.cli(&["get", "looks", "--version", "3"]);
    assert_eq!(missing.status.code(), Some(3), "{}", text(&missing));
}

fn versions_are_listed_and_compared(scene: &Scene) {
    let cluster = &scene.cluster;
    let json = |args: &[&str]| -> Value {
        let args = [args, &["-o", "json"]].concat();
        serde_json::from_str(&cluster.cli_ok(&args)).unwrap()
    };
    let versions = json(&["get", "looks", "--versions"]);
    let numbers: Vec<_> = versions.as_array().unwrap().iter().collect();
    assert_eq!(numbers.len(), 2, "{versions}");
    assert_eq!(
        (&numbers[0]["job_version"], &numbers[1]["job_version"]),
        (&2.into(), &1.into())
    );
    assert_eq!(numbers[1]["first_epoch"], 1, "{versions}");
    let after = json(&["status", "looks"])["epoch"].as_u64().unwrap();
    let first = numbers[0]["first_epoch"].as_u64().unwrap();
    assert!((1..=after + 1).contains(&first), "{versions}");
    assert_ne!(numbers[0]["spec_digest"], numbers[1]["spec_digest"]);
    let diff = json(&["get", "looks", "--diff", "1..2"]);
    let change = &diff["changes"][0];
    assert_eq!(
        (&change["field"], &change["was"], &change["will_be"]),
        (&"sink.format".into(), &"parquet".into(), &"json".into()),
        "{diff}"
    );
    let back = json(&["get", "looks", "--diff", "2..1"]);
    assert_eq!(back["changes"][0]["was"], "json", "{back}");
    let missing = cluster.cli(&["get", "looks", "--diff", "1..9"]);
    assert_eq!(missing.status.code(), Some(3), "{}", text(&missing));
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn without_a_worker_nothing_is_previewed(scene: &mut Scene) {
    scene.cluster.kill_worker("worker-1");
    streamctl_tests::wait::until("no worker", std::time::Duration::from_secs(30), || {
        scene.cluster.worker_list().filter(Vec::is_empty)
    });
    let urls = scene.cluster.controller_urls();
    let output = scene.stranger("preview", &["--controller", &urls]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("no worker is connected"), "{words}");
}
