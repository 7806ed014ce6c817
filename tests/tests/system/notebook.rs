//! The notebook does what it says: from top to bottom on a cluster and real servers, nothing in it
//! changed.
//!
//! Owns: its run, and its data frame beside what was written to the stream. Does not own: how it is
//! run (`support/py/run_notebook.py`).
//! Rule: it is told where things are by the environment alone, as on AWS. With `DOCS=write` the
//! outputs of this run are stored in it (`make docs`).

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use streamctl_tests::places::{binary, docs_are_written, inherited, one_system_at_a_time};
use streamctl_tests::python::Python;
use streamctl_tests::{Cluster, Servers};

const BUCKET: &str = "my-bucket";
/// What the notebook reads of each of the two shards is at least as much.
const RECORDS: &str = "80";

fn notebook() -> String {
    format!(
        "{}/../deploy/notebook/sales-by-country.ipynb",
        env!("CARGO_MANIFEST_DIR")
    )
}

/// What the kernel finds: our programs and our package, the servers, the controllers, and a home of
/// its own.
fn environment(servers: &Servers, cluster: &Cluster) -> Vec<(String, String)> {
    let programs = binary("streamctl");
    let programs = programs
        .parent()
        .expect("it lies in a folder")
        .display()
        .to_string();
    let (_, path) = inherited()
        .into_iter()
        .find(|(name, _)| name == "PATH")
        .expect("a shell has one");
    let home = servers.folder().join("home").display().to_string();
    let mut env = servers.env();
    env.extend(
        [
            ("PATH", format!("{programs}:{path}")),
            ("PYTHONPATH", unpacked_package(servers.folder())),
            ("HOME", home.clone()),
            ("IPYTHONDIR", home.clone()),
            ("JUPYTER_RUNTIME_DIR", home),
            ("STREAMCTL_CONTROLLER", cluster.controller_urls()),
            ("BUCKET", BUCKET.to_owned()),
            ("WINDOW", "2s".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    env
}

/// The package, built without a program and unpacked.
fn unpacked_package(folder: &Path) -> String {
    let backend = format!("{}/../python/backend.py", env!("CARGO_MANIFEST_DIR"));
    let wheels = folder.join("wheels");
    let package = folder.join("package").display().to_string();
    let python = |words: &[&str]| {
        let output = Command::new("python3").args(words).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {err}");
        String::from_utf8(output.stdout).unwrap()
    };
    let built = python(&[&backend, "wheel", wheels.to_str().unwrap()]);
    python(&["-m", "zipfile", "-e", built.trim(), &package]);
    package
}

/// Key and code of each row, sorted.
fn pairs<'v>(rows: impl Iterator<Item = &'v Value>, code: &str) -> Vec<(String, String)> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let mut pairs: Vec<_> = rows
        .map(|row| (text(row, "uuid"), text(row, code)))
        .collect();
    pairs.sort();
    pairs
}

fn oracle(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_notebook_runs_from_top_to_bottom_and_its_frame_is_what_was_written() {
    let _alone = one_system_at_a_time();
    let servers = Servers::start();
    let seed = Python::new(servers.env());
    seed.ask(
        "seed.py",
        &[
            "prepare",
            "--stream",
            "glueworkshop",
            "--shards",
            "2",
            "--bucket",
            BUCKET,
        ],
    );
    let path = servers.folder().join("oracle.jsonl");
    let kinds = [
        "--bad-every",
        "20",
        "--unmatched-every",
        "15",
        "--oracle",
        path.to_str().unwrap(),
    ];
    seed.ask(
        "seed.py",
        &[
            &[
                "write",
                "--stream",
                "glueworkshop",
                "--records",
                RECORDS,
                "--seed",
                "1",
            ],
            &kinds[..],
        ]
        .concat(),
    );
    let mut cluster = Cluster::start(&servers);
    cluster.add_worker("worker-1");
    std::fs::create_dir(servers.folder().join("home")).unwrap();

    let notebook = notebook();
    let frame = "sales.to_json(orient='records')";
    let mut words = vec!["run", notebook.as_str(), frame];
    if docs_are_written() {
        words.push("--store");
    }
    let python = Python::new(environment(&servers, &cluster));
    let answer = python
        .try_ask_in("notebook", "run_notebook.py", &words)
        .unwrap_or_else(|words| panic!("{words}"));

    let written = oracle(&path);
    let matched = written.iter().filter(|line| line["kind"] == "match");
    let rows = answer["value"].as_array().unwrap();
    assert_eq!(
        pairs(rows.iter(), "country_code"),
        pairs(matched, "code"),
        "{answer:#}"
    );
    let columns: BTreeSet<_> = rows[0]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(columns.len(), 9, "{columns:?}");
    assert!(
        rows.iter().all(|row| row["unitssold"].is_u64()),
        "the notebook makes numbers of units"
    );

    let said = answer["outputs"].to_string();
    let dead = written.iter().filter(|line| line["kind"] == "bad").count();
    let unmatched = written
        .iter()
        .filter(|line| line["kind"] == "unmatched")
        .count();
    let tried = format!(
        "{RECORDS} records, {} rows, {unmatched} without a partner, {dead} not decoded",
        rows.len()
    );
    for words in [
        tried.as_str(),
        "saleschannel",
        "shardId-000000000001",
        "Neverland",
        "broken",
        "'stopped'",
    ] {
        assert!(
            said.contains(words),
            "{words:?} is nowhere in what it shows: {said}"
        );
    }
}

#[test]
fn the_outputs_in_the_notebook_are_those_of_its_cells() {
    let python = Python::new(vec![]);
    let notebook = notebook();
    let answer = python.try_ask_in("notebook", "run_notebook.py", &["check", notebook.as_str()]);
    let answer = answer.unwrap_or_else(|words| panic!("{words}"));
    assert_eq!(
        answer["fresh"], true,
        "{}; `make docs` runs it and stores what it shows",
        answer["problems"]
    );
}
