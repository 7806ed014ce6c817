//! What comes out is what Hive, Spark and Trino read: types, texts, names and folders.
//!
//! Spark itself is asked by hand (`tests/support/py/written_types.py` has its rules); DuckDB and
//! pyarrow read the files of every run.

use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use streamctl_tests::places::{binary, one_system_at_a_time};
use streamctl_tests::process::Launch;
use streamctl_tests::python::Python;

const STEP: Duration = Duration::from_secs(60);

/// A job over the files in `events/`, whose sink is `out/`.
fn job(folder: &Path, columns: &str, sql: &str, sink: &str) -> String {
    let folder = folder.display();
    format!(
        "name = \"files\"\n[source]\ntype = \"files\"\npath = \"{folder}/events/\"\n\
         format = \"json\"\n[source.schema]\n{columns}\n[window]\nsize = \"1h\"\n[transform]\nsql = '''{sql}'''\n\
         [sink]\npath = \"{folder}/out/\"\n{sink}\n[dead_letter]\npath = \"{folder}/dead/\"\n\
         [checkpoint]\nlocation = \"{folder}/checkpoint/\"\n"
    )
}

/// Runs `streamctl <verb> job.toml` to its end: the exit code, and everything that it prints.
fn streamctl(folder: &Path, verb: &str, job: &str) -> (Option<i32>, String) {
    let file = folder.join("job.toml");
    std::fs::write(&file, job).unwrap();
    let args = [verb, file.to_str().unwrap()];
    let mut process = Launch::new(verb, binary("streamctl"), &args, folder).start();
    let code = process.wait(STEP).code();
    (code, process.log())
}

/// A folder with these lines as its events.
fn events(root: &Path, name: &str, lines: &[Value]) -> std::path::PathBuf {
    let folder = root.join(name);
    std::fs::create_dir_all(folder.join("events")).unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.join("events/a.json"), text).unwrap();
    folder
}

/// One column of each type that functions and casts give.
const EVERY_TYPE: &str = "
    SELECT id, at, d, m, b, f, s, CAST(id AS SMALLINT) AS i16, CAST(f AS REAL) AS f32,
           row_number() OVER (ORDER BY id) AS rn, rank() OVER (ORDER BY id) AS rk,
           json_length('[1,2]') AS jl, cardinality(make_array(1, 2)) AS card,
           CAST(id AS TINYINT UNSIGNED) AS u8, CAST(id AS INT UNSIGNED) AS u32,
           from_unixtime(id) AS unix, to_timestamp('2026-11-24 10:00:00.123456789') AS ns,
           date_trunc('hour', at) AS hour, at - lag(at) OVER (ORDER BY id) AS gap,
           sha256('x') AS digest, to_timestamp_millis(id) AS ms,
           at AT TIME ZONE 'UTC' AS instant, CAST(at AS TIME) AS clock
    FROM source";

#[test]
fn p18_p33_every_type_of_a_query_is_read_in_every_format() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    let lines = [
        json!({"id": 1, "s": "", "at": "2026-11-24T00:45:00.123456Z", "d": "2026-11-24", "m": "1.10", "b": "aGk=", "f": 0.1}),
        json!({"id": 2, "at": "1969-12-31T23:59:59.999999Z", "b": "//79", "f": 1e21, "s": "a,\"b\""}),
        json!({"id": 3, "at": "2026-11-24T00:46:00Z", "f": "Infinity"}),
    ];
    let columns = "id = \"int\"\ns = \"string\"\nat = \"timestamp\"\nd = \"date\"\n\
                   m = \"decimal(10,2)\"\nb = \"binary\"\nf = \"double\"";
    let mut outs = vec![];
    for format in ["parquet", "json", "csv"] {
        let folder = events(root.path(), format, &lines);
        let job = job(
            &folder,
            columns,
            EVERY_TYPE,
            &format!("format = \"{format}\""),
        );
        let (code, log) = streamctl(&folder, "run", &job);
        assert_eq!(code, Some(0), "{log}");
        outs.push(folder.join("out").display().to_string());
        let (code, log) = streamctl(&folder, "explain", &job);
        assert_eq!(code, Some(0), "{log}");
        assert!(
            log.contains("rn       Int64"),
            "the written type is shown: {log}"
        );
    }
    let read = Python::new(vec![]).ask("written_types.py", &[&outs[0], &outs[1], &outs[2]]);
    assert_eq!(read["illegal"], json!([]), "{read:#}");
    let columns = &read["columns"];
    for (column, kind) in [
        ("rn", "int64"),
        ("rk", "int64"),
        ("jl", "int64"),
        ("card", "int64"),
        ("u8", "int16"),
        ("u32", "int64"),
        ("unix", "timestamp[us]"),
        ("ns", "timestamp[us]"),
        ("hour", "timestamp[us]"),
        ("gap", "int64"),
        ("digest", "binary"),
        ("ms", "timestamp[us]"),
        ("instant", "timestamp[us, tz=UTC]"),
        ("clock", "string"),
    ] {
        assert_eq!(columns[column], kind, "{column}");
    }
    let rows = |format: &str| read["duckdb"][format].as_array().unwrap().clone();
    for format in ["parquet", "json", "csv"] {
        let rows = rows(format);
        assert_eq!(rows.len(), 3, "{format}");
        assert_eq!(
            rows[1]["gap"], "-1795481100123457",
            "{format}: microseconds"
        );
        assert_eq!(rows[2]["rn"], "3", "{format}");
        assert_eq!(rows[0]["m"].as_str().unwrap().parse(), Ok(1.1), "{format}");
    }
    let ns: Vec<_> = rows("parquet")
        .iter()
        .map(|row| row["ns"].clone())
        .collect();
    assert_eq!(ns[0], "2026-11-24 10:00:00.123456");
    assert_eq!(rows("parquet")[1]["at"], "1969-12-31 23:59:59.999999");
    let csv = rows("csv");
    assert_eq!(
        (&csv[0]["s"], &csv[2]["s"]),
        (&json!(""), &Value::Null),
        "'' is not NULL"
    );
    assert_eq!(
        (&csv[0]["b"], &csv[1]["b"], &csv[2]["b"]),
        (&json!("aGk="), &json!("//79"), &Value::Null)
    );
    assert_eq!(csv[2]["f"], "Infinity");
    assert_eq!(csv[0]["at"], "2026-11-24T00:45:00.123456");
    assert_eq!(rows("json")[0]["b"], "aGk=");
    assert_eq!(
        rows("json")[2]["f"],
        "\"Infinity\"",
        "a text, as in Jackson"
    );
}

#[test]
fn p24_a_partition_value_that_names_no_folder_costs_its_row_alone() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    // `p=` and the value: 255 bytes are the longest name of a folder.
    let lengths = [1, 240, 253, 254, 300, 5_000];
    let line = |(id, length): (usize, &usize)| json!({"id": id, "p": "x".repeat(*length)});
    let lines: Vec<_> = lengths.iter().enumerate().map(line).collect();
    let folder = events(root.path(), "long", &lines);
    let sink = "format = \"json\"\npartition_by = [\"p\"]";
    let job = job(
        &folder,
        "id = \"int\"\np = \"string\"",
        "SELECT id, p FROM source",
        sink,
    );
    let (code, log) = streamctl(&folder, "run", &job);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("6 in, 3 out"), "{log}");
    assert!(
        log.contains("3 rows whose partition cannot be the name of a folder"),
        "{log}"
    );
    let (code, log) = streamctl(&folder, "run", &job);
    assert_eq!(code, Some(0), "and it can be run again: {log}");
}

#[test]
fn p37_names_that_readers_refuse_are_refused_at_submit_with_a_line_and_a_hint() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    let folder = events(root.path(), "names", &[json!({"id": 1, "a": "x"})]);
    let explained = |sql: &str, sink: &str| {
        let job = job(&folder, "id = \"int\"\na = \"string\"", sql, sink);
        streamctl(&folder, "explain", &job)
    };
    for (sql, name, hint) in [
        ("SELECT id, a AS \"a b\" FROM source", "a b", "AS a_b"),
        ("SELECT id, a AS \"a=b;\" FROM source", "a=b;", "AS a_b"),
    ] {
        let (code, log) = explained(sql, "");
        assert_eq!(code, Some(2), "{log}");
        assert!(
            log.contains(&format!("line 12: transform.sql: column \"{name}\"")),
            "{log}"
        );
        assert!(log.contains(hint), "{log}");
    }
    for (sql, place) in [
        ("SELECT id, upper(a) FROM source", "column 2"),
        ("SELECT count(*) FROM source", "column 1"),
    ] {
        let (code, log) = explained(sql, "");
        assert_eq!(code, Some(2), "{log}");
        let words = format!("line 12: transform.sql: {place} of the result has no name");
        assert!(log.contains(&words) && log.contains(") AS name"), "{log}");
    }
    let (code, log) = explained("SELECT id, a AS \"\" FROM source", "");
    assert_eq!(
        (code, log.contains("column 2 of the result has no name")),
        (Some(2), true),
        "{log}"
    );
    let (code, log) = explained("SELECT id, INTERVAL '1' DAY AS day FROM source", "");
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("cast it: CAST(day AS VARCHAR)"), "{log}");
    let folder_name = "partition_by = [\"Folder Name\"]";
    let (code, log) = explained("SELECT id, a AS \"Folder Name\" FROM source", folder_name);
    assert_eq!(code, Some(0), "it is in no file: {log}");
}
