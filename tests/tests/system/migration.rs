//! Glue scripts as they are: imported, run on records in a folder, and compared with Spark.
//!
//! Owns: the comparison row by row. Does not own: what the importer makes of a script
//! (`cli/src/import`), Spark's rows (`tests/golden/glue/make.py` makes them with Spark).
//! Rule: of an imported job only the places change: the source is a folder of records, the sink
//! writes JSON below the test's folder, without folders for partitions, so that each row is whole.

use crate::formats::json_lines;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use streamctl_tests::places::{binary, inherited, one_system_at_a_time, servers_folder};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/glue")
}

fn read(name: &str) -> Value {
    let text = std::fs::read_to_string(golden().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn streamctl(folder: &Path, args: &[&str]) -> Output {
    Command::new(binary("streamctl"))
        .env_clear()
        .envs(inherited())
        .env(
            "STREAMCTL_FUNCTION_PYTHON",
            servers_folder().join("function/bin/python"),
        )
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout);
    format!("{out}\n{}", String::from_utf8_lossy(&output.stderr))
}

/// The job file with its places in the folder.
fn placed(job: &str, columns: &Value) -> String {
    let mut section = "";
    let mut lines: Vec<String> = vec![];
    for line in job.lines() {
        if line.starts_with('[') {
            section = line;
            match line {
                "[source]" => {
                    lines.push("[source]\ntype = \"files\"\npath = \"events/\"".into());
                    lines.push("format = \"json\"\n[source.schema]".into());
                    for column in columns.as_array().unwrap() {
                        lines.push(format!("{} = {}", column[0], column[1]));
                    }
                }
                "[sink]" => lines.push("[sink]\npath = \"out/\"\nformat = \"json\"".into()),
                "[checkpoint]" => lines.push("[checkpoint]\nlocation = \"checkpoint/\"".into()),
                "[source.schema]" => {}
                other => lines.push(other.into()),
            }
            continue;
        }
        let is_place = line.starts_with("path = ");
        match section {
            "[source]" | "[source.schema]" | "[sink]" | "[checkpoint]" => {}
            "[[lookup]]" if is_place => lines.push("path = \"lookup/\"".into()),
            _ => lines.push(line.to_owned()),
        }
    }
    lines.join("\n")
}

/// A value in one form: numbers by their value, times without zeros at their end.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::String(format!("{:?}", number.as_f64().unwrap())),
        Value::String(text) => {
            let is_time =
                text.len() >= 19 && text.as_bytes()[4] == b'-' && text.as_bytes()[13] == b':';
            if !is_time {
                return value.clone();
            }
            let text = text.replace('T', " ");
            let text = text.trim_end_matches('Z');
            match text.contains('.') {
                true => Value::String(text.trim_end_matches('0').trim_end_matches('.').into()),
                false => Value::String(text.into()),
            }
        }
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(fields) => {
            let known = fields.iter().filter(|(_, value)| !value.is_null());
            let known = known.map(|(name, value)| (name.clone(), plain(value)));
            Value::Object(known.collect())
        }
        other => other.clone(),
    }
}

fn sorted(rows: &[Value]) -> Vec<String> {
    let mut rows: Vec<String> = rows.iter().map(|row| plain(row).to_string()).collect();
    rows.sort();
    rows
}

/// Imports a script and runs its job. Returns the notes of the import, and the rows.
fn migrated(name: &str, script: &Path) -> (String, Vec<Value>) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    let case = read(&format!("{name}.json"));
    std::fs::create_dir(folder.join("events")).unwrap();
    let records = case["records"].as_array().unwrap();
    let records: Vec<String> = records.iter().map(Value::to_string).collect();
    std::fs::write(folder.join("events/a.json"), records.join("\n")).unwrap();
    let lookups = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/jobs/data/country_lookup");
    std::fs::create_dir(folder.join("lookup")).unwrap();
    for file in std::fs::read_dir(lookups).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.join("lookup").join(file.file_name())).unwrap();
    }
    let script = script.to_str().unwrap();
    let imported = streamctl(
        folder,
        &["import", "glue-script", script, "--to", "job.toml"],
    );
    assert!(imported.status.success(), "{name}: {}", text(&imported));
    let job = std::fs::read_to_string(folder.join("job.toml")).unwrap();
    let job = placed(&job, &case["columns"]).replace(TIME_OF_RUN, "");
    std::fs::write(folder.join("job.toml"), &job).unwrap();
    let ran = streamctl(folder, &["run", "job.toml"]);
    assert!(ran.status.success(), "{name}: {}\n{job}", text(&ran));
    (text(&imported), json_lines(&folder.join("out")))
}

fn testdata(name: &str) -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"));
    crates.join(format!("../cli/src/import/testdata/{name}.py"))
}

fn script(name: &str) -> PathBuf {
    match name {
        "studio" | "workshop" => testdata(name),
        "apply_mapping" => golden().join("../cases/P32_import_glue_scripts/apply_mapping.py"),
        _ => golden().join(format!("{name}.py")),
    }
}

/// A column that no job can have, as the import states: it differs in each run of a window.
const TIME_OF_RUN: &str = ", current_timestamp() AS loaded_at";

/// Scripts, and which of the folders that they write is the job's.
const SCRIPTS: [(&str, &str); 10] = [
    ("apply_mapping", "/out/"),
    ("g2_with_columns", "/orders_by_day/"),
    ("g3_latest_per_key", "/latest/"),
    ("g4_route_by_type", "/events/unknown/"),
    ("g5_sql_from_json", "/parsed/"),
    ("g6_minute_totals", "/totals/"),
    ("g7_rules_in_pandas", "/scores/"),
    ("g9_time_windows", "/windows/"),
    ("sql_double_quotes", "/out/"),
    ("studio", "/orders/"),
];

fn expected(name: &str, folder: &str) -> Vec<Value> {
    let written = read(&format!("{name}.rows.json"));
    let mut rows = vec![];
    for (path, of_path) in written.as_object().unwrap() {
        if path.contains(folder) {
            rows.extend(of_path.as_array().unwrap().clone());
        }
    }
    assert!(!rows.is_empty(), "{name} writes nothing to {folder}");
    rows
}

fn compare(name: &str, folder: &str, rows: &[Value], problems: &mut Vec<String>) {
    let ours = sorted(rows);
    let spark = sorted(&expected(name, folder));
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for row in &ours {
        *counts.entry(row).or_default() += 1;
    }
    for row in &spark {
        *counts.entry(row).or_default() -= 1;
    }
    for (row, count) in counts.iter().filter(|(_, count)| **count != 0).take(6) {
        let who = if *count > 0 {
            "here alone"
        } else {
            "in Spark alone"
        };
        problems.push(format!("{name}: {who}: {row}"));
    }
}

#[test]
fn an_imported_glue_script_gives_the_rows_that_spark_gives() {
    let _one = one_system_at_a_time();
    let mut problems = vec![];
    for (name, folder) in SCRIPTS {
        let (_, rows) = migrated(name, &script(name));
        compare(name, folder, &rows, &mut problems);
    }
    let (_, rows) = migrated("workshop", &script("workshop"));
    compare("workshop", "/output/lab4/", &rows, &mut problems);
    assert_eq!(problems, Vec::<String>::new(), "{}", problems.join("\n"));
}

#[test]
fn what_an_import_leaves_out_is_named_with_its_line() {
    let root = tempfile::tempdir().unwrap();
    for (name, words) in [
        (
            "apply_mapping",
            ["line 28: `dropDuplicates`", "current_timestamp()"],
        ),
        ("g1_hash_columns", ["line 27", "have no udf"]),
        ("g4_route_by_type", ["line 29", "a job has one output"]),
        ("g8_failed_rows_apart", ["line 40", "a job has one output"]),
    ] {
        let script = script(name);
        let imported = streamctl(
            root.path(),
            &["import", "glue-script", script.to_str().unwrap()],
        );
        let shown = text(&imported);
        for word in words {
            assert!(shown.contains(word), "{name}: {shown}");
        }
    }
}
