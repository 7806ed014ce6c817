//! `streamctl verify` on a local run: proven as it was left, and each thing that is damaged by hand
//! is named.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use streamctl_tests::places::{binary, country_lookup, inherited, one_system_at_a_time};

const RECORDS_PER_SHARD: u64 = 1_500;

/// A job that ran to its end in a folder of its own.
struct Run {
    folder: PathBuf,
}

impl Run {
    fn new(root: &Path, name: &str, sink: &str) -> Self {
        let run = Self {
            folder: root.join(name),
        };
        let lookup = run.folder.join("lookup");
        std::fs::create_dir_all(&lookup).unwrap();
        std::fs::copy(country_lookup(), lookup.join("country_lookup.csv")).unwrap();
        std::fs::write(run.job(), job_file(sink)).unwrap();
        let (code, out) = run.streamctl(&["run", run.job().to_str().unwrap()]);
        assert_eq!(code, Some(0), "{out}");
        run
    }

    fn job(&self) -> PathBuf {
        self.folder.join("job.toml")
    }

    fn streamctl(&self, args: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(binary("streamctl"));
        command
            .args(args)
            .env_clear()
            .envs(inherited())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        let output = command.output().expect("streamctl starts");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }

    fn verify(&self, more: &[&str]) -> (Option<i32>, Value) {
        let job = self.job();
        let (code, text) = self.streamctl(
            &[
                &["verify", "--local", job.to_str().unwrap(), "-o", "json"],
                more,
            ]
            .concat(),
        );
        (
            code,
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text:?}")),
        )
    }

    /// What is found: kind and subject, without what could only not be checked.
    fn faults(&self, more: &[&str]) -> Vec<(String, String)> {
        let (code, answer) = self.verify(more);
        assert_eq!(code, Some(1), "{answer:#}");
        assert_eq!(answer["proven"], false);
        let faults = answer["findings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|found| found["severity"] == "fault");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        faults
            .map(|found| (text(&found["kind"]), text(&found["subject"])))
            .collect()
    }

    /// Every file of a folder, in order.
    fn files(&self, folder: &str) -> Vec<PathBuf> {
        let mut found = vec![];
        let mut folders = vec![self.folder.join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path)
                } else {
                    found.push(path)
                }
            }
        }
        found.sort();
        found
    }

    #[track_caller]
    fn is_proven(&self, more: &[&str]) -> Value {
        let (code, answer) = self.verify(more);
        assert_eq!(
            (code, &answer["verdict"]),
            (Some(0), &Value::from("proven")),
            "{answer:#}"
        );
        answer
    }
}

fn job_file(sink: &str) -> String {
    format!(
        r#"
name = "sales"

[source]
type = "generator"
seed = 7
shards = 2
rate = 1500
records_per_shard = {RECORDS_PER_SHARD}
bad_every = 50
unmatched_every = 30

[window]
size = "500ms"

[[lookup]]
name = "country_lookup"
path = "lookup/"
format = "csv"

[transform]
sql = """
SELECT s.uuid, s.itemtype, s.orderdate, s.unitssold, c."Code" AS country_code
FROM source s JOIN country_lookup c ON s.country = c."CountryName"
"""

[sink]
path = "out/"
{sink}

[dead_letter]
path = "dead/"

[checkpoint]
location = "checkpoint/"
"#
    )
}

#[test]
fn every_epoch_of_every_format_is_proven_row_by_row() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    let by_type = "partition_by = [\"ingest_year\", \"itemtype\"]";
    for format in ["parquet", "json", "csv"] {
        for (name, partitions) in [("flat", ""), ("parted", by_type)] {
            let run = Run::new(
                root.path(),
                &format!("{format}-{name}"),
                &format!("format = \"{format}\"\n{partitions}"),
            );
            let epochs = run.is_proven(&[])["epochs"].as_u64().unwrap();
            let all: Vec<String> = (1..=epochs).map(|epoch| epoch.to_string()).collect();
            let answer = run.is_proven(&["--replay", &all.join(","), "--deep"]);
            let counts = &answer["counts"];
            assert_eq!(counts["rows_in"], 2 * RECORDS_PER_SHARD);
            let rows = counts["rows_out"].as_u64().unwrap() + counts["rows_dead"].as_u64().unwrap();
            assert_eq!(
                (&answer["rows_replayed"], &answer["listed"]),
                (&Value::from(rows), &Value::from(true))
            );
            assert_eq!(answer["objects_read"], answer["objects"]);
        }
    }
}

#[test]
fn whatever_is_damaged_is_named() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    let run = Run::new(
        root.path(),
        "job",
        "format = \"json\"\ncompression = \"none\"",
    );
    run.is_proven(&["--replay", "2"]);
    let objects = run.files("out");
    let dead = run.files("dead");
    let manifests = run.files("checkpoint/sales/epochs");
    let named = |kind: &str, path: &Path| vec![(kind.to_owned(), path.display().to_string())];

    for lost in [&objects[0], &dead[0]] {
        damaged(
            lost,
            |path| std::fs::remove_file(path).unwrap(),
            || {
                assert_eq!(run.faults(&[]), named("object_missing", lost));
            },
        );
    }
    let changed = &objects[1];
    damaged(
        changed,
        |path| flip(path, 40),
        || {
            assert_eq!(run.faults(&[]), named("object_checksum", changed));
        },
    );
    damaged(
        changed,
        |path| std::fs::write(path, "{}\n").unwrap(),
        || {
            assert_eq!(run.faults(&[]), named("object_size", changed));
        },
    );
    let stray = changed.with_file_name(file_name(changed).replace("-0000.", "-0007."));
    std::fs::copy(changed, &stray).unwrap();
    assert_eq!(run.faults(&[]), named("object_stray", &stray));
    std::fs::remove_file(&stray).unwrap();
    let others = changed.with_file_name("readme.txt");
    std::fs::write(&others, "not ours").unwrap();
    assert_eq!(run.is_proven(&[])["foreign_objects"], 1);

    let name = |path: &Path| format!("sales/epochs/{}", file_name(path));
    let head = manifests.len() - 1;
    for at in [1, head] {
        let manifest = &manifests[at];
        let one = |kind: &str| vec![(kind.to_owned(), name(manifest))];
        damaged(
            manifest,
            |path| std::fs::remove_file(path).unwrap(),
            || {
                assert_eq!(run.faults(&[]), one("manifest_missing"));
            },
        );
        damaged(
            manifest,
            |path| flip(path, 200),
            || assert_eq!(run.faults(&[]), one("manifest_changed")),
        );
        damaged(
            manifest,
            |path| _ = std::fs::copy(&manifests[0], path).unwrap(),
            || {
                assert_eq!(run.faults(&[]), one("manifest_changed"));
            },
        );
    }
    run.is_proven(&[]);
}

#[test]
fn a_row_that_was_changed_with_care_is_found_by_a_replay() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    let run = Run::new(
        root.path(),
        "job",
        "format = \"json\"\ncompression = \"none\"",
    );
    let object = run.files("out").remove(0);
    let text = std::fs::read_to_string(&object).unwrap();
    let at = text
        .find("\"unitssold\":\"")
        .expect("a column of the result")
        + "\"unitssold\":\"".len();
    let digit = if &text[at..=at] == "9" { "8" } else { "9" };
    damaged(
        &object,
        |path| std::fs::write(path, format!("{}{digit}{}", &text[..at], &text[at + 1..])).unwrap(),
        || {
            let (code, answer) = run.verify(&["--replay", "1"]);
            assert_eq!(code, Some(1));
            let found = answer["findings"].as_array().unwrap();
            let replay = found
                .iter()
                .find(|found| found["kind"] == "replay_rows")
                .expect("the replay finds it");
            let words = replay["text"].as_str().unwrap();
            assert!(
                words.contains("1 come out of the records only, 1 are in the objects only"),
                "{words}"
            );
            assert!(
                words.contains("only in the records: {")
                    && words.contains("only in the objects: {"),
                "{words}"
            );
        },
    );
    run.is_proven(&["--replay", "1"]);
}

#[test]
fn what_cannot_be_verified_is_no_finding() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    let run = Run::new(root.path(), "job", "format = \"csv\"");
    let job = run.job();
    let verify = |more: &[&str]| {
        run.streamctl(&[&["verify", "--local", job.to_str().unwrap()], more].concat())
            .0
    };
    let missing = root.path().join("no-such-state");
    assert_eq!(verify(&["--state", missing.to_str().unwrap()]), Some(5));
    assert!(!missing.exists(), "a verification makes nothing");
    assert_eq!(verify(&["--replay", "999"]), Some(3));
    assert_eq!(verify(&["--to", "999"]), Some(3));
    let lookups = run.folder.join("checkpoint/sales/lookups");
    std::fs::rename(&lookups, run.folder.join("away")).unwrap();
    assert_eq!(verify(&[]), Some(0));
    assert_eq!(
        verify(&["--replay", "1"]),
        Some(5),
        "without its lookup an epoch cannot be replayed"
    );
}

fn file_name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// One bit of one byte is another.
fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// Damages a file, looks, and mends it.
fn damaged(path: &Path, damage: impl FnOnce(&Path), look: impl FnOnce()) {
    let before = std::fs::read(path).unwrap();
    damage(path);
    look();
    std::fs::write(path, before).unwrap();
}
