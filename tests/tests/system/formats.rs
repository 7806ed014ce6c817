//! Payload formats end to end: what a record holds is in the sink or a dead letter.

use serde_json::{Value, json};
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;
use streamctl_tests::kinesis::FakeKinesis;
use streamctl_tests::places::{binary, one_system_at_a_time};
use streamctl_tests::process::Launch;
use streamctl_tests::wait::until;

const STEP: Duration = Duration::from_secs(60);

/// All dead letters below a folder, as text.
pub(crate) fn dead_letters(folder: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(".json.gz") {
            let bytes = std::fs::read(path).unwrap();
            let mut unpacked = flate2::read::MultiGzDecoder::new(bytes.as_slice());
            unpacked.read_to_string(&mut text).unwrap();
        }
    }
    text
}

/// The lines of all JSON files that are visible below a folder.
pub(crate) fn json_lines(folder: &Path) -> Vec<Value> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return vec![];
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let is_visible = |file: &&std::path::PathBuf| {
        let name = file.file_name().unwrap().to_string_lossy();
        !name.starts_with('.') && name.ends_with(".json")
    };
    let texts = files
        .iter()
        .filter(is_visible)
        .map(|file| std::fs::read_to_string(file).unwrap());
    let lines: Vec<String> = texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn rows_of_csv_in_a_stream_are_rows_of_the_sink() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let kinesis = runtime.block_on(FakeKinesis::start());
    let stream = kinesis.create("rows", 2);
    let payloads = [
        "1;\"a; \"\"b\"\"\";2.50",
        "2;;\\N\n",
        "3;too;many;fields",
        "x;not a number;1",
        "5;é;7",
    ];
    for (key, payload) in payloads.iter().enumerate() {
        stream.put(&key.to_string(), payload.as_bytes());
    }
    let folder = root.path().display();
    let job = root.path().join("job.toml");
    let address = kinesis.address();
    let text = format!(
        r#"
name = "rows"
[source]
type = "kinesis"
stream = "rows"
endpoint = "{address}"
region = "us-east-1"
starting_position = "trim_horizon"
format = "csv"
delimiter = ";"
null_text = "\\N"
[source.schema]
id = "bigint"
name = "string"
amount = "decimal(10,2)"
[window]
size = "1s"
[transform]
sql = "SELECT amount, id, name FROM source"
[sink]
path = "{folder}/out/"
format = "json"
[dead_letter]
path = "{folder}/dead/"
[checkpoint]
location = "{folder}/checkpoint/"
"#
    );
    std::fs::write(&job, text).unwrap();
    let job = job.to_str().unwrap();
    let state = root.path().join("state");
    let args = ["run", job, "--state", state.to_str().unwrap()];
    let launch = Launch::new("run", binary("streamctl"), &args, root.path());
    let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    let mut process = launch.env(keys).start();
    let out = root.path().join("out");
    let mut rows = until("three rows", STEP, || {
        let rows = json_lines(&out);
        assert!(process.is_running(), "{}", process.log());
        (rows.len() == 3).then_some(rows)
    });
    process.terminate(STEP);
    rows.sort_by_key(|row| row["id"].as_i64());
    assert_eq!(
        rows,
        [
            json!({"amount": 2.50, "id": 1, "name": "a; \"b\""}),
            json!({"id": 2}),
            json!({"amount": 7.00, "id": 5, "name": "é"}),
        ]
    );
    let letters = dead_letters(&root.path().join("dead"));
    for reason in [
        "the row has 4 fields, the source 3 columns",
        "column id: \"x\" cannot become bigint",
    ] {
        assert!(letters.contains(&json!(reason).to_string()), "{letters}");
    }
}
