//! The printed forms.

use super::*;
use crate::output::tests::captured;
use std::sync::Arc;
use streamctl_engine::dead_letters::dead_letter_schema;

fn batch(payloads: &[&[u8]]) -> RecordBatch {
    let n = payloads.len();
    let times = TimestampMillisecondArray::from(vec![1_795_481_101_250; n]).with_timezone("UTC");
    let replayed = UInt64Array::from((0..n).map(|i| (i == 1).then_some(3)).collect::<Vec<_>>());
    RecordBatch::try_new(
        dead_letter_schema(),
        vec![
            Arc::new(UInt64Array::from(vec![7; n])),
            Arc::new(StringArray::from(vec!["shardId-0"; n])),
            Arc::new(StringArray::from_iter_values(
                (0..n).map(|i| format!("4{i}")),
            )),
            Arc::new(UInt64Array::from(vec![0; n])),
            Arc::new(times),
            Arc::new(StringArray::from_iter_values(
                (0..n).map(|i| if i == 0 { "not JSON" } else { "no number" }),
            )),
            Arc::new(BinaryArray::from_iter_values(payloads)),
            Arc::new(replayed),
            Arc::new(StringArray::from(vec!["record"; n])),
        ],
    )
    .unwrap()
}

fn printed(args: DeadLettersArgs, format: Format, batches: &[RecordBatch]) -> (String, String) {
    let (mut out, data, notes) = captured(format);
    let mut printer = Printer::new(&args, &mut out);
    let _cut_off = batches
        .iter()
        .any(|batch| printer.batch(batch).unwrap().is_break());
    printer.end().unwrap();
    (data.text(), notes.text())
}

#[test]
fn the_table_shows_where_a_record_stood_why_it_is_dead_and_how_it_begins() {
    let long = "x".repeat(200);
    let batch = batch(&[b"a\n\x1b[31m", b"b", long.as_bytes()]);
    let (data, notes) = printed(DeadLettersArgs::default(), Format::Table, &[batch]);
    let expected = format!(
        "\
EPOCH     SHARD      SEQUENCE NUMBER  ARRIVED                   REASON     PAYLOAD
7         shardId-0  40               2026-11-24T00:45:01.250Z  not JSON   a\\n\\u{{1b}}[31m
7 (of 3)  shardId-0  41               2026-11-24T00:45:01.250Z  no number  b
7         shardId-0  42               2026-11-24T00:45:01.250Z  no number  {}… (200 bytes)
",
        "x".repeat(80)
    );
    assert_eq!(data, expected);
    assert_eq!(
        notes,
        "3 dead letters\n       2  no number\n       1  not JSON\n"
    );
}

#[test]
fn json_has_the_whole_payload_and_base64_where_it_is_no_text() {
    let (data, _) = printed(
        DeadLettersArgs::default(),
        Format::Json,
        &[batch(&[b"{\"a\": 1", b"\xFF"])],
    );
    let lines: Vec<Value> = data
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for line in &lines {
        let mut whole = line.clone();
        // Each line has one of the two.
        for payload in ["payload", "payload_base64"] {
            whole[payload] = "".into();
        }
        crate::output::tests::documented("dead-letters", &whole);
    }
    assert_eq!(
        (&lines[0]["payload"], &lines[0]["replayed_from"]),
        (&json!("{\"a\": 1"), &Value::Null)
    );
    assert_eq!(
        (&lines[1]["payload_base64"], &lines[1]["replayed_from"]),
        (&json!("/w=="), &json!(3))
    );
    assert_eq!(lines[0]["arrival_time"], "2026-11-24T00:45:01.250Z");
}

#[test]
fn raw_gives_the_bytes_and_nothing_else() {
    let raw = DeadLettersArgs {
        raw: true,
        null: true,
        ..DeadLettersArgs::default()
    };
    assert_eq!(
        printed(raw, Format::Table, &[batch(&[b"a\n", b"b"])]).0,
        "a\n\0b\0"
    );
}

#[test]
fn a_limit_cuts_off_and_names_where_to_continue() {
    let limited = DeadLettersArgs {
        limit: Some(3),
        raw: true,
        ..DeadLettersArgs::default()
    };
    let two = || batch(&[b"a", b"b"]);
    let (data, notes) = printed(limited, Format::Table, &[two(), two(), two()]);
    assert_eq!(data, "a\nb\na\n");
    assert!(
        notes
            .starts_with("there are more: go on with --from 7, or raise --limit\n3 dead letters\n"),
        "{notes}"
    );
}
