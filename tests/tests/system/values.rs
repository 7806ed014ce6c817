//! Values end to end: what a record holds is in the sink as Spark reads it, in a dead letter, or
//! NULL and counted. Which value becomes which is tested beside the code.

use crate::formats::json_lines;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Output;
use streamctl_tests::places::{binary, inherited, one_system_at_a_time};

/// `streamctl run` over one file, with these keys of `[source]` and these columns.
fn run(root: &Path, name: &str, file: &[u8], keys: &str, columns: &str) -> Output {
    let folder = root.join(name);
    std::fs::create_dir_all(folder.join("in")).unwrap();
    std::fs::write(folder.join("in/a"), file).unwrap();
    let text = format!(
        r#"
name = "{name}"
[source]
type = "files"
path = "in/"
{keys}
[source.schema]
{columns}
[window]
size = "1h"
[transform]
sql = "SELECT * FROM source"
[sink]
path = "out/"
format = "json"
[checkpoint]
location = "checkpoint/"
"#
    );
    let job = folder.join("job.toml");
    std::fs::write(&job, text).unwrap();
    let mut command = std::process::Command::new(binary("streamctl"));
    command.args(["run", job.to_str().unwrap()]);
    command.env_clear().envs(inherited());
    command.output().unwrap()
}

fn rows(root: &Path, name: &str) -> Vec<Value> {
    let mut rows = json_lines(&root.join(name).join("out"));
    rows.sort_by_key(|row| row["id"].as_i64());
    rows
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn values_that_do_not_fit_are_null_and_counted_if_the_job_allows_it() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    let records = concat!(
        "\u{feff}{\"id\":1,\"ID\":9,\"price\":19.990000000000002,\"ts\":1795481100}\n",
        "{\"id\":2,\"price\":\"\",\"ts\":\"24.11.2026 00:45\"}{\"id\":3,\"ts\":\"2026-11-24T01:45:00+0100\"}\n",
        "{\"id\":4,\"price\":\"x\",\"ts\":\"soon\"}\n",
        "{\"id\":5,\"price\":\"y\"}\n",
        "no JSON\n",
    );
    let keys =
        "format = \"json\"\ntimestamp_formats = [\"dd.MM.yyyy HH:mm\"]\non_bad_value = \"null\"";
    let columns = "id = \"int\"\nprice = \"decimal(10,2)\"\nts = \"timestamp\"";
    let output = run(root.path(), "null", records.as_bytes(), keys, columns);
    let status = text(&output.stdout);
    let log = text(&output.stderr);
    assert!(output.status.success(), "{log}");
    let time = |row: &Value| row["ts"].as_str().map(|ts| ts[..10].to_owned());
    let rows = rows(root.path(), "null");
    assert_eq!(rows.len(), 5, "{rows:?}");
    assert_eq!(rows[0]["price"], json!(19.99));
    assert_eq!(rows[1].get("price"), None);
    for row in &rows[..3] {
        assert_eq!(time(row).as_deref(), Some("2026-11-24"), "{row}");
    }
    assert_eq!(rows[3], json!({"id": 4}));
    for expected in [
        "5 in, 5 out, 1 dead",
        "3 values did not fit and became NULL",
        "2 values of column price did not fit",
        "1 value of column ts did not fit",
    ] {
        assert!(status.contains(expected), "{expected}: {status}");
    }
    let output = run(
        root.path(),
        "dead",
        records.as_bytes(),
        "format = \"json\"",
        columns,
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let status = text(&output.stdout);
    assert!(status.contains("5 in, 1 out, 4 dead"), "{status}");
}

#[test]
fn p09_empty_fields_of_a_csv_file_are_null_and_short_rows_are_named() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    let file =
        "\u{feff}id,qty,city\r\n1,3,Oslo\r\n2,,\r\n3,\"\",\"\"\r\n4,1\r\n5, 4 ,\"Rome, Lazio\"\r\n";
    let columns = "id = \"bigint\"\nqty = \"int\"\ncity = \"string\"";
    let output = run(
        root.path(),
        "csv",
        file.as_bytes(),
        "format = \"csv\"",
        columns,
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(
        rows(root.path(), "csv"),
        [
            json!({"id": 1, "qty": 3, "city": "Oslo"}),
            json!({"id": 2}),
            json!({"id": 3}),
            json!({"id": 5, "qty": 4, "city": "Rome, Lazio"}),
        ]
    );
    let status = text(&output.stdout);
    assert!(status.contains("5 in, 4 out, 1 dead"), "{status}");
}

#[test]
fn p12_a_file_that_is_one_json_document_fails_the_run_with_one_message() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    for (name, file) in [
        ("array", "[{\"id\": 3, \"city\": \"Oslo\"}, {\"id\": 4}]"),
        ("pretty", "[\n  {\n    \"id\": 1\n  }\n]\n"),
        ("object", "{\n  \"id\": 1\n}\n"),
    ] {
        let output = run(
            root.path(),
            name,
            file.as_bytes(),
            "format = \"json\"",
            "id = \"int\"",
        );
        let log = text(&output.stderr);
        assert!(!output.status.success(), "{name}");
        assert!(log.contains("one JSON object per line"), "{name}: {log}");
        assert!(rows(root.path(), name).is_empty(), "{name}");
    }
}
