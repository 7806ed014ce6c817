//! GetRecords responses, against `serde_json` and the `base64` crate.
//!
//! Input: the bytes of a response.
//! Rule: if another parser reads a response, ours reads the same records or names the problem; if
//! the other finds no JSON, ours returns no response.

use super::json::is_more_than_rfc_8259;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use streamctl_engine::source::Record;
use streamctl_engine::source::kinesis::Wire;
use streamctl_engine::source::kinesis::answer::{Malformed, PartitionKeys, decode};
use streamctl_proto::{Window, WindowSize};

/// Arrival of records without one.
const NOW_MS: i64 = 77;

pub fn answer(data: &[u8]) {
    let theirs: Result<Value, _> = serde_json::from_slice(data);
    let ours = decode(Wire::Json, data, NOW_MS, PartitionKeys::Counted);
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            let records = theirs["Records"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            assert_eq!(
                ours.records.len(),
                records.len(),
                "records of {}",
                text(data)
            );
            for (ours, theirs) in ours.records.iter().zip(records) {
                compare(ours, theirs);
            }
            assert_eq!(
                ours.next_iterator.as_deref(),
                theirs["NextShardIterator"].as_str()
            );
        }
        // Numbers that are valid JSON but too large for the other parser, and values that are
        // nested deeper than they look.
        (Ok(_), Err(error)) => {
            let message = error.to_string();
            let its_limits = message.starts_with("number out of range")
                || message.starts_with("recursion limit")
                || is_more_than_rfc_8259(&text(data));
            assert!(
                its_limits,
                "{} was read, and is no JSON: {message}",
                text(data)
            );
        }
        (Err(Malformed::Json(syntax)), Ok(theirs)) => {
            // A response is an object with an array of objects; everything else is refused as
            // unreadable.
            let deeper = syntax.to_string().starts_with("more than");
            let objects = theirs["Records"]
                .as_array()
                .is_some_and(|records| records.iter().all(Value::is_object));
            assert!(deeper || !objects, "{} was refused: {syntax}", text(data));
        }
        (Err(_), _) => {}
    }
}

fn compare(ours: &Record, theirs: &Value) {
    assert_eq!(
        Some(ours.sequence.as_str()),
        theirs["SequenceNumber"].as_str()
    );
    let data = theirs["Data"]
        .as_str()
        .map(|data| STANDARD.decode(data).expect("ours has decoded it"));
    assert_eq!(Some(&ours.data[..]), data.as_deref());
    if theirs["ApproximateArrivalTimestamp"].is_null() {
        assert_eq!(ours.arrival_ms, NOW_MS);
    }
    let size = WindowSize::from_ms(60_000).expect("a minute is a window");
    let Window { start_ms, end_ms } = size.window_of(ours.arrival_ms);
    assert!((start_ms..end_ms).contains(&ours.arrival_ms));
}

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}
