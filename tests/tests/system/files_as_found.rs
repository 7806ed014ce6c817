//! Files as other tools leave them, on a catalog table with SerDe properties, end to end: what is
//! read, what becomes a dead letter, and that a replay gives the same.

use crate::formats::{dead_letters, json_lines};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use streamctl_tests::places::{binary, inherited};

/// Each with its name below the folder.
const FILES: [(&str, &str); 5] = [
    (
        "part-0000.json",
        "{\"id\":0,\"timestamp\":\"soon\",\"Request-Id\":\"r-0\"}\n\
         {\"id\":1,\"timestamp\":\"2026-11-24T00:45:00Z\",\"a.b\":\"dotted\",\"Request-Id\":\"r-1\"}\n\
         {\"id\":2,\"timestamp\":\"2106-02-07T06:28:15Z\",\"a.b\":\"x\"}\n\
         {\"id\":3,\"timestamp\":\"2026-11-24T00:46:00Z\",\"a.b\":\"y\"}\n\
         {\"id\":4,\"a.b\":\"no time\"}\n",
    ),
    (
        "dt=2026-11-24/part.json",
        "{\"id\":5,\"timestamp\":\"2026-11-24T00:45:30Z\"}\n",
    ),
    ("_SUCCESS", ""),
    (
        "_temporary/0/part-0001.json",
        "{\"id\":666,\"timestamp\":\"2026-11-24T00:45:00Z\"}\n",
    ),
    (".part-0000.json.crc", "crc"),
];

const TABLE: &str = r#"{"Table": {"Name": "events", "DatabaseName": "lake",
    "StorageDescriptor": {"Columns": [{"Name": "id", "Type": "int"}, {"Name": "ts", "Type": "timestamp"},
            {"Name": "a_b", "Type": "varchar(3)"}, {"Name": "req_id", "Type": "string"}],
        "SerdeInfo": {"SerializationLibrary": "org.openx.data.jsonserde.JsonSerDe", "Parameters": {
            "mapping.ts": "timestamp", "mapping.req_id": "Request-Id", "dots.in.keys": "true", "case.insensitive": "false"}}},
    "Parameters": {"classification": "json"}}}"#;

const JOB: &str = r#"
name = "as-found"
[source]
type = "files"
path = "events/"
format = "json"
schema_file = "table.json"
arrival_time = "ts"
[window]
size = "1h"
[transform]
sql = "SELECT id, a_b, req_id, window_start, _arrival_time, _shard, _sequence_number, _partition_key, _file, _ingest_id FROM source"
[sink]
path = "out/"
format = "json"
[dead_letter]
path = "dead/"
[checkpoint]
location = "checkpoint/"
"#;

fn streamctl(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(binary("streamctl"));
    command.args(args).current_dir(folder);
    command.env_clear().envs(inherited());
    command.output().expect("it starts")
}

fn text(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy);
    text.concat()
}

fn write(folder: &Path, name: &str, content: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).unwrap();
    std::fs::write(path, content).unwrap();
}

#[test]
fn p15_p26_p28_p29_what_is_found_is_a_row_a_dead_letter_or_not_read_and_a_replay_agrees() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    for (name, content) in FILES {
        write(&folder.join("events"), name, content);
    }
    write(folder, "table.json", TABLE);
    write(folder, "job.toml", JOB);
    let explained = text(&streamctl(folder, &["explain", "job.toml"]));
    for words in [
        "key \"Request-Id\"",
        "a_b varchar(3): texts stay as they are",
        "_ingest_id",
    ] {
        assert!(explained.contains(words), "{words}\n{explained}");
    }
    let previewed = text(&streamctl(folder, &["preview", "job.toml", "-o", "json"]));
    assert!(
        previewed.contains("as-found/part-0000.json/2/0"),
        "{previewed}"
    );

    let ran = streamctl(folder, &["run", "job.toml"]);
    let told = text(&ran);
    assert!(ran.status.success(), "{told}");
    assert!(
        told.contains("3 records without an arrival time that can be used"),
        "{told}"
    );

    let mut rows = json_lines(&folder.join("out"));
    rows.sort_by_key(|row| row["id"].as_i64());
    let ids: Vec<_> = rows.iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, [1, 3, 5]);
    let file = folder.join("events/part-0000.json");
    let of_time = |key: &str| rows[0][key].as_str().unwrap_or_default().replace(' ', "T");
    assert!(
        of_time("window_start").starts_with("2026-11-24T00:00:00"),
        "{}",
        rows[0]
    );
    assert!(
        of_time("_arrival_time").starts_with("2026-11-24T00:45:00"),
        "{}",
        rows[0]
    );
    assert_eq!(
        [
            &rows[0]["a_b"],
            &rows[0]["req_id"],
            &rows[0]["_shard"],
            &rows[0]["_sequence_number"]
        ],
        ["dotted", "r-1", "part-0000.json", "2"]
            .map(|text| json!(text))
            .each_ref()
    );
    let file = Value::from(file.canonicalize().unwrap().to_string_lossy());
    assert_eq!(
        [&rows[0]["_file"], &rows[0]["_partition_key"]],
        [&file, &Value::Null]
    );
    assert_eq!(
        rows[2]["_ingest_id"],
        "as-found/dt=2026-11-24/part.json/1/0"
    );

    let letters = dead_letters(&folder.join("dead"));
    for reason in [
        "\\\"soon\\\" in timestamp is not a time",
        "2106-02-07T06:28:15.000Z is more than 1d after",
        "the record has no timestamp",
    ] {
        assert!(letters.contains(reason), "{reason}\n{letters}");
    }
    let verified = streamctl(
        folder,
        &["verify", "--local", "job.toml", "--replay", "1", "--deep"],
    );
    assert!(verified.status.success(), "{}", text(&verified));
}

#[test]
fn p47_and_properties_that_are_not_honoured_refuse_the_job() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path();
    write(folder, "events/a.json", "{\"id\":1}\n");
    write(
        folder,
        "job.toml",
        &JOB.replace("SELECT id,", "SELECT id, dt,"),
    );
    let keys = "\"PartitionKeys\": [{\"Name\": \"dt\", \"Type\": \"string\"}], \"Parameters\": {\"classification\"";
    let table = TABLE.replace("\"Parameters\": {\"classification\"", keys);
    write(folder, "table.json", &table);
    let ran = streamctl(folder, &["run", "job.toml"]);
    assert_eq!(ran.status.code(), Some(2), "{}", text(&ran));
    assert!(
        text(&ran).contains("dt: partition keys of the catalog's table"),
        "{}",
        text(&ran)
    );

    write(folder, "job.toml", JOB);
    write(
        folder,
        "table.json",
        &TABLE.replace("dots.in.keys", "strip.outer.array"),
    );
    for verb in ["explain", "run"] {
        let refused = streamctl(folder, &[verb, "job.toml"]);
        assert_eq!(refused.status.code(), Some(2), "{verb}: {}", text(&refused));
        assert!(
            text(&refused).contains("strip.outer.array"),
            "{verb}: {}",
            text(&refused)
        );
    }
}
