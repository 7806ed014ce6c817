//! What is told to Prometheus is what the documentation says, and a Prometheus of its own makers
//! can read it.

use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use streamctl_controller::metrics as controller;
use streamctl_engine::metrics::{Kind, Metric};
use streamctl_tests::cluster::Cluster;
use streamctl_tests::places::{country_lookup, free_port, one_system_at_a_time, servers_folder};
use streamctl_tests::process::Launch;
use streamctl_tests::wait::{http_get, until};
use streamctl_worker::meter;

const SOON: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn program(name: &str) -> PathBuf {
    let path = servers_folder().join("prometheus").join(name);
    assert!(
        path.exists(),
        "{} is missing: run `tests/support/servers.sh tests`",
        path.display()
    );
    path
}

fn all() -> impl Iterator<Item = &'static Metric> {
    controller::METRICS
        .iter()
        .chain(controller::snapshot::METRICS)
        .chain(meter::METRICS)
}

#[test]
fn the_tables_of_metrics_are_those_of_the_programs() {
    let page = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let written: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| `streamctl_"))
        .collect();
    let rows: Vec<String> = all().map(Metric::row).collect();
    assert_eq!(
        written,
        rows,
        "docs/metrics.md should have these rows:\n{}",
        rows.join("\n")
    );
}

#[test]
fn every_metric_has_a_unit_or_is_a_number_of_things() {
    for metric in all() {
        assert_eq!(
            metric.name.ends_with("_total"),
            metric.kind == Kind::Counter,
            "{}",
            metric.name
        );
        assert!(
            metric.kind != Kind::Histogram || metric.name.ends_with("_seconds"),
            "{}",
            metric.name
        );
        let odd = ["_ms", "_us", "_millis", "_kb", "_mb", "_percent"];
        assert!(
            !odd.iter().any(|unit| metric.name.contains(unit)),
            "{} is not in base units",
            metric.name
        );
        assert!(
            !metric.labels.contains(&"job") && !metric.labels.contains(&"instance"),
            "{}: Prometheus sets these",
            metric.name
        );
    }
}

/// `promtool` of the Debian package; what it says when it is not content.
fn promtool(arguments: &[&str]) {
    let output = Command::new(program("promtool"))
        .current_dir(root().join("deploy/prometheus"))
        .args(arguments)
        .output();
    let output = output.expect("promtool starts");
    let reported = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "promtool {arguments:?}\n{}\n{}",
        reported(&output.stdout),
        reported(&output.stderr)
    );
}

#[test]
fn alert_rules_fire_when_they_should_and_only_then() {
    promtool(&["check", "config", "prometheus.yaml"]);
    promtool(&["test", "rules", "alerts_test.yaml"]);
}

/// `promtool check metrics` on an answer of `/metrics`.
fn lint(answer: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let mut checks = Command::new(program("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut input = checks.stdin.take().expect("its input is a pipe");
    input.write_all(body.as_bytes()).expect("promtool reads");
    drop(input);
    let output = checks.wait_with_output().expect("promtool ends");
    let found = [output.stdout, output.stderr].concat();
    let found = String::from_utf8_lossy(&found);
    assert!(
        output.status.success() && found.trim().is_empty(),
        "{found}"
    );
}

/// The alerts, each with the place of its runbook.
fn alerts() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("deploy/prometheus/alerts.yaml")).unwrap();
    let value = |line: &str, key: &str| {
        let value = line.trim_start().strip_prefix(key)?;
        Some(value.trim().to_owned())
    };
    let mut alerts: Vec<(String, String)> = vec![];
    for line in text.lines() {
        if let Some(name) = value(line, "- alert:") {
            alerts.push((name, String::new()));
        }
        if let Some(place) = value(line, "runbook_url:") {
            alerts.last_mut().expect("it belongs to an alert").1 = place;
        }
    }
    assert!(alerts.len() >= 16, "{alerts:?}");
    alerts
}

#[test]
fn each_alert_fires_in_a_test_and_is_quiet_in_another() {
    let tests = std::fs::read_to_string(root().join("deploy/prometheus/alerts_test.yaml")).unwrap();
    for (alert, _) in alerts() {
        let quiet = format!("alertname: {alert}, exp_alerts: []");
        assert!(tests.contains(&quiet), "{alert} is quiet in no test");
        let counted = format!("count(ALERTS{{alertname='{alert}', alertstate='firing'");
        let one = "exp_samples: [{ labels: \"{}\", value: 1 }]";
        let mut lines = tests.lines();
        let fires = lines.any(|line| line.contains(&counted) && line.contains(one))
            || tests.contains(&format!(
                "alertname: {alert}\n        exp_alerts:\n          - "
            ));
        assert!(fires, "{alert} fires in no test");
    }
}

#[test]
fn each_alert_leads_to_what_to_look_at_and_what_to_do() {
    let page = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    for (alert, place) in alerts() {
        let anchor = alert.to_lowercase();
        assert_eq!(place, format!("docs/operations.md#{anchor}"));
        let (_, section) = page
            .split_once(&format!("\n### {alert}\n"))
            .unwrap_or_else(|| panic!("docs/operations.md has no section {alert}"));
        let section = section.split("\n#").next().unwrap_or_default();
        for part in ["\n- Look at: ", "\n- Do: "] {
            assert!(section.contains(part), "{alert}: {part:?} is missing");
        }
    }
}

/// Every name of a metric in what is asked of Prometheus.
fn names(text: &str) -> BTreeSet<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !word(c))
        .filter(|name| name.starts_with("streamctl_"))
        .collect()
}

/// What an answer of `/metrics` tells, by the names of the documentation: a histogram's parts are
/// one.
fn reported(answer: &str) -> BTreeSet<String> {
    let families = answer
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let name = |family: &str| {
        let (name, kind) = family.split_once(' ').expect("a family has a type");
        // OpenMetrics names a family of counters without the ending of its samples.
        match kind == "counter" && !name.ends_with("_total") {
            true => format!("{name}_total"),
            false => name.to_owned(),
        }
    };
    families.map(name).collect()
}

#[test]
fn alerts_and_the_dashboard_query_only_existing_metrics() {
    let known: BTreeSet<String> = all().map(|metric| metric.name.to_owned()).collect();
    for file in [
        "deploy/prometheus/alerts.yaml",
        "deploy/prometheus/alerts_test.yaml",
        "deploy/grafana/streamctl.json",
    ] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        // A dashboard's own uid and title are no metrics.
        for name in names(&text) {
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(name);
            let there = known.contains(name) || known.contains(family);
            assert!(there, "{file} asks for {name}, which nobody tells");
        }
    }
}

/// Every question of the Grafana dashboard, with its variables filled in.
fn questions() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("deploy/grafana/streamctl.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let filled = |target: Value| {
        let asked = target["expr"]
            .as_str()
            .expect("a target asks something")
            .to_owned();
        asked
            .replace("$__rate_interval", "1m")
            .replace("$job_name", "sales")
    };
    targets.map(filled).collect()
}

fn job(folder: &Path) -> PathBuf {
    let lookup = folder.join("lookup");
    std::fs::create_dir_all(&lookup).unwrap();
    std::fs::copy(country_lookup(), lookup.join("country_lookup.csv")).unwrap();
    let file = folder.join("job.toml");
    let root = folder.display();
    let text = format!(
        r#"
name = "sales"
[source]
type = "generator"
rate = 500
bad_every = 20
unmatched_every = 25
[window]
size = "1s"
[[lookup]]
name = "country_lookup"
path = "{root}/lookup/"
[transform]
sql = "SELECT s.uuid, c.\"Code\" AS code FROM source s JOIN country_lookup c ON s.country = c.\"CountryName\""
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

#[test]
fn a_prometheus_reads_all_that_the_documentation_lists_and_answers_the_dashboard() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file://{}/store", folder.path().display());
    let mut cluster = Cluster::empty(vec![], folder.path(), &store, None);
    cluster.add_controller("controller-1");
    until("a leader", SOON, || cluster.leader());
    let worker = free_port();
    cluster.add_worker_with(
        "worker-1",
        &["--http-listen", &format!("127.0.0.1:{worker}")],
    );
    cluster.cli_ok(&["submit", job(folder.path()).to_str().unwrap()]);
    cluster.until_status("sales", "three published windows", SOON, |status| {
        status.published >= 3
    });

    let controller: u16 = cluster
        .dashboard("controller-1")
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    // A leader waits some seconds before it says how many workers there should be.
    until("the number of workers", SOON, || {
        http_get(controller, "/metrics")
            .filter(|answer| answer.contains("\nstreamctl_workers_desired "))
    });
    let answers = [
        http_get(controller, "/metrics").unwrap(),
        http_get(worker, "/metrics").unwrap(),
    ];
    for answer in &answers {
        lint(answer);
    }
    let reported = reported(&answers[0])
        .union(&reported(&answers[1]))
        .cloned()
        .collect::<BTreeSet<_>>();
    // Only jobs that write tables have rewritings.
    let known: BTreeSet<String> = all()
        .map(|metric| metric.name.to_owned())
        .filter(|name| !name.starts_with("streamctl_rewrit"))
        .collect();
    assert_eq!(reported, known);
    for metric in all().filter(|metric| metric.kind == Kind::Gauge) {
        let answer = answers.concat();
        let samples: Vec<_> = answer
            .lines()
            .filter(|line| line.starts_with(&format!("{}{{", metric.name)))
            .collect();
        let labelled = samples.iter().all(|line| {
            metric
                .labels
                .iter()
                .all(|label| line.contains(&format!("{label}=\"")))
        });
        assert!(
            labelled && samples.is_empty() == metric.labels.is_empty(),
            "{}: {samples:?}",
            metric.name
        );
    }

    let port = free_port();
    let config = folder.path().join("prometheus.yaml");
    let text = format!(
        "global: {{ scrape_interval: 500ms, evaluation_interval: 500ms }}\nrule_files: [\"{}\"]\nscrape_configs:\n\
         - {{ job_name: streamctl-controller, static_configs: [{{ targets: [\"127.0.0.1:{controller}\"] }}] }}\n\
         - {{ job_name: streamctl-worker, static_configs: [{{ targets: [\"127.0.0.1:{worker}\"] }}] }}\n",
        root()
            .join("deploy/prometheus/alerts.yaml")
            .canonicalize()
            .unwrap()
            .display()
    );
    std::fs::write(&config, text).unwrap();
    let data = folder.path().join("prometheus");
    let args = [
        &format!("--config.file={}", config.display()),
        &format!("--storage.tsdb.path={}", data.display()),
        &format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let _prometheus = Launch::new(
        "prometheus",
        program("prometheus"),
        &args.map(String::as_str),
        folder.path(),
    )
    .start();
    let ask = |query: &str| -> Option<Value> {
        let query: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = http_get(port, &format!("/api/v1/query?query={query}"))?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    };
    let value = |query: &str| {
        ask(query)?["data"]["result"][0]["value"][1]
            .as_str()?
            .parse::<f64>()
            .ok()
    };
    until("both are read", SOON, || {
        (value("sum(up)")? == 2.0).then_some(())
    });
    until("rows per second", SOON, || {
        let rate = value("sum(rate(streamctl_job_rows_in_total{job_name=\"sales\"}[10s]))")?;
        (rate > 0.0).then_some(())
    });
    assert_eq!(
        value("count(streamctl_job_state{job_name=\"sales\", state=\"running\"} == 1)"),
        Some(1.0)
    );
    let asked = questions();
    assert!(asked.len() > 15, "the dashboard has panels");
    for question in asked {
        // A rate needs two samples.
        until(&question, SOON, || {
            let answer = ask(&question)?;
            assert_eq!(answer["status"], "success", "{question}: {answer}");
            answer["data"]["result"]
                .as_array()
                .filter(|found| !found.is_empty())
                .map(|_| ())
        });
    }
}
