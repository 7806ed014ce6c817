//! Cases that people reported about tools of this kind: each job is run on its files, and what comes out is
//! compared with what was judged to be right.
//!
//! Owns: the comparison. Does not own: the cases (`tests/golden/cases`; what is right, and why, is in
//! its README). Cases that need servers have tests of their own, which the README names.
//! Rule: every job of a case has an answer, and every answer a job. `STREAMCTL_CASES=write` writes the
//! answers of this build: read the difference before you keep it.

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use streamctl_tests::places::{binary, inherited, one_system_at_a_time};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/cases")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

/// The folder of a partition, without the time of this run.
fn place(path: &str) -> String {
    let parts = path.split('/').map(|part| match part.split_once('=') {
        Some((name, _)) if name.starts_with("ingest_") => format!("{name}=*"),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("/")
}

/// What lies below a folder: each line of a text, or the columns and the rows of a Parquet file, with
/// its folder.
fn lines(root: &Path, folder: &Path, found: &mut Vec<String>) {
    if !folder.is_dir() {
        return;
    }
    for name in names(folder) {
        let path = folder.join(&name);
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            lines(root, &path, found);
            continue;
        }
        let within = folder.strip_prefix(root).unwrap().to_string_lossy();
        let within = place(&within);
        let bytes = std::fs::read(&path).unwrap();
        if name.ends_with(".parquet") {
            found.extend(
                parquet_rows(bytes)
                    .into_iter()
                    .map(|row| format!("{within}: {row}")),
            );
            continue;
        }
        let text = if name.ends_with(".gz") {
            let mut text = String::new();
            let mut unpacked = flate2::read::MultiGzDecoder::new(bytes.as_slice());
            std::io::Read::read_to_string(&mut unpacked, &mut text).unwrap();
            text
        } else {
            String::from_utf8(bytes).unwrap()
        };
        found.extend(
            text.lines()
                .map(|line| format!("{within}: {}", stable(line))),
        );
    }
}

/// A line without the time of this run: the fields of a dead letter that say what and why.
fn stable(line: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(line) else {
        return line.to_owned();
    };
    if !fields.contains_key("reason") {
        return line.to_owned();
    }
    let kept = ["payload", "payload_base64", "reason"];
    let kept = kept.iter().filter_map(|name| {
        let value = fields.get(*name)?;
        Some(((*name).to_owned(), value.clone()))
    });
    Value::Object(kept.collect::<Map<_, _>>()).to_string()
}

fn parquet_rows(bytes: Vec<u8>) -> Vec<String> {
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
    let schema = reader.schema().clone();
    let columns = schema.fields().iter();
    let columns: Vec<String> = columns
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect();
    let mut rows = vec![columns.join(", ")];
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        let options = arrow::util::display::FormatOptions::new().with_null("NULL");
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|column| {
                let shown = arrow::util::display::ArrayFormatter::try_new(column, &options);
                shown.unwrap().value(row).to_string()
            });
            rows.push(values.collect::<Vec<_>>().join(", "));
        }
    }
    rows
}

/// Runs a job in a copy of its case.
fn answer(case: &str, job: &str) -> Value {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    copy(&golden().join(case), folder);
    let output = Command::new(binary("streamctl"))
        .env_clear()
        .envs(inherited())
        .args(["run", job])
        .current_dir(folder)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = folder.to_string_lossy();
    // What was not right, and what is remarked; the rest names times and processes.
    let remarks: BTreeSet<String> = log
        .lines()
        .chain(out.lines())
        .map(|line| line.replace(path.as_ref(), ""))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|line| {
            ["error:", "hint:", "note:", "warning:", "line "]
                .iter()
                .any(|word| line.starts_with(word))
        })
        .collect();
    let mut found = vec![];
    for name in names(folder) {
        if name.starts_with("out") {
            for part in ["rows", "dead"] {
                lines(folder, &folder.join(&name).join(part), &mut found);
            }
        }
    }
    found.sort();
    json!({"done": output.status.success(), "remarks": remarks, "found": found})
}

#[test]
fn every_reported_case_gives_what_was_judged_to_be_right() {
    let _alone = one_system_at_a_time();
    let path = golden().join("answers.json");
    let is_written =
        std::env::vars().any(|(name, value)| name == "STREAMCTL_CASES" && value == "write");
    let known: Map<String, Value> = std::fs::read_to_string(&path)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let mut answers = Map::new();
    let mut problems = vec![];
    for case in names(&golden()) {
        if !golden().join(&case).is_dir() {
            continue;
        }
        for job in names(&golden().join(&case)) {
            if !job.starts_with("job") || !job.ends_with(".toml") {
                continue;
            }
            let name = format!("{case}/{job}");
            let ours = answer(&case, &job);
            let judged = known.get(&name).cloned().unwrap_or_default();
            // Of several faults, the first that is found ends the job: there is an answer for each.
            let is_right = match &judged {
                Value::Array(several) => several.contains(&ours),
                one => *one == ours,
            };
            if !is_right {
                problems.push(format!("{name}:\n  ours:   {ours}\n  judged: {judged}"));
            }
            answers.insert(name, if is_right { judged } else { ours });
        }
    }
    if is_written {
        let text = serde_json::to_string_pretty(&answers).unwrap();
        std::fs::write(&path, text + "\n").unwrap();
        return;
    }
    for name in known.keys().filter(|name| !answers.contains_key(*name)) {
        problems.push(format!("{name}: there is no such job"));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn streamctl(folder: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new(binary("streamctl"))
        .env_clear()
        .envs(inherited())
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    (output.status.success(), format!("{out}\n{log}"))
}

/// The files of rows, with what they hold.
fn rows(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut files: Vec<PathBuf> = vec![];
    let mut folders = vec![folder.join("out/rows")];
    while let Some(folder) = folders.pop() {
        for name in names(&folder) {
            let path = folder.join(&name);
            if path.is_dir() {
                folders.push(path);
            } else if !name.starts_with('.') {
                files.push(path);
            }
        }
    }
    files.sort();
    let text = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path, text)
    };
    files.into_iter().map(text).collect()
}

#[test]
fn p30_files_that_come_later_are_remarked_and_a_missing_object_is_found() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    copy(&golden().join("P30_new_and_changed_files"), folder);
    let texts = |folder: &Path| {
        let texts = rows(folder).into_iter().map(|(_, text)| text);
        texts.collect::<String>()
    };
    let (is_done, log) = streamctl(folder, &["run", "job.toml"]);
    assert!(is_done, "{log}");
    assert_eq!(texts(folder), "{\"id\":1}\n");
    std::fs::write(folder.join("events/b.json"), "{\"id\": 2}\n").unwrap();
    let (is_done, log) = streamctl(folder, &["run", "job.toml"]);
    assert!(is_done, "{log}");
    assert!(
        log.contains("files that came since are not read by it"),
        "{log}"
    );
    assert_eq!(texts(folder), "{\"id\":1}\n");
    let (is_proven, log) = streamctl(folder, &["verify", "--local", "job.toml"]);
    assert!(is_proven, "{log}");
    std::fs::remove_file(&rows(folder)[0].0).unwrap();
    let (is_proven, log) = streamctl(folder, &["verify", "--local", "job.toml"]);
    assert!(!is_proven, "{log}");
    assert!(log.contains("object_missing"), "{log}");
}

#[test]
fn every_case_is_named_by_a_test() {
    let page = std::fs::read_to_string(golden().join("README.md")).unwrap();
    let tests = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let mut missing = vec![];
    for line in page.lines().filter(|line| line.starts_with("| P")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let case = cells[1];
        let named: Vec<&str> = cells[3].split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            missing.push(format!("{case} has no test"));
        }
        for test in named {
            if !tests.contains(&format!("fn {test}(")) {
                missing.push(format!("{case}: there is no test {test}"));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

/// The text of all source files below the crates.
fn sources(root: &Path) -> String {
    let mut text = String::new();
    for folder in [
        "engine",
        "controller",
        "worker",
        "proto",
        "cli",
        "tests/tests",
    ] {
        add_sources(&root.join(folder), &mut text);
    }
    text
}

fn add_sources(folder: &Path, text: &mut String) {
    for name in names(folder) {
        let path = folder.join(&name);
        if path.is_dir() {
            add_sources(&path, text);
        } else if name.ends_with(".rs") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}
