//! GetRecords responses in CBOR, against the `ciborium` crate.
//!
//! Input: the bytes of a response.
//! Rule: a response that the other parser reads, and that is one, gives the same records or names
//! what is wrong with a field; what the other parser refuses is no response for ours either.

use crate::kinesis::cbor::to_json;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ciborium::Value;
use streamctl_engine::source::Record;
use streamctl_engine::source::kinesis::Wire;
use streamctl_engine::source::kinesis::answer::{Malformed, PartitionKeys, decode};

/// Arrival of records without one.
const NOW_MS: i64 = 77;
/// Nesting that every parser of such responses bears.
const DEPTH_BORNE: usize = 16;

pub fn answer_cbor(data: &[u8]) {
    let ours = decode(Wire::Cbor, data, NOW_MS, PartitionKeys::Kept);
    let mut rest = data;
    let theirs: Result<Value, _> = ciborium::from_reader(&mut rest);
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            let theirs = to_json(theirs);
            let records = theirs["Records"].as_array().cloned().unwrap_or_default();
            assert_eq!(ours.records.len(), records.len(), "records of {data:x?}");
            for (ours, theirs) in ours.records.iter().zip(&records) {
                compare(ours, theirs);
            }
            let next = theirs["NextShardIterator"].as_str();
            assert_eq!(ours.next_iterator.as_deref(), next);
        }
        // The other parser knows four simple values, and ours skips the others.
        (Ok(_), Err(error)) => {
            let message = error.to_string();
            assert!(message.contains("simple"), "{data:x?} was read: {message}");
        }
        (Err(Malformed::Cbor(syntax)), Ok(theirs)) => {
            assert!(
                !rest.is_empty() || !is_response(&theirs),
                "{data:x?} was refused: {syntax}"
            );
        }
        (Err(_), _) => {}
    }
}

fn compare(ours: &Record, theirs: &serde_json::Value) {
    let sequence = theirs["SequenceNumber"].as_str();
    assert_eq!(Some(ours.sequence.as_str()), sequence);
    let data = theirs["Data"].as_str().map(|data| STANDARD.decode(data));
    assert_eq!(data, Some(Ok(ours.data.to_vec())));
    let key = ours
        .extra
        .as_ref()
        .and_then(|it| it.partition_key.as_deref());
    assert_eq!(key, theirs["PartitionKey"].as_str());
    if theirs["ApproximateArrivalTimestamp"].is_null() {
        assert_eq!(ours.arrival_ms, NOW_MS);
    }
}

/// A map of texts, with an array of such maps as its records, and without children: their items are
/// read one by one, so a wrong one is unreadable.
fn is_response(value: &Value) -> bool {
    let is_map = |value: &Value| {
        let pairs = value.as_map().into_iter().flatten();
        value.is_map() && pairs.clone().all(|(key, _)| key.is_text())
    };
    let of = |name: &str| {
        let mut pairs = value.as_map().into_iter().flatten();
        pairs.find(|(key, _)| key.as_text() == Some(name))
    };
    let records = of("Records").and_then(|(_, records)| records.as_array());
    is_map(value)
        && of("ChildShards").is_none()
        && depth(value) <= DEPTH_BORNE
        && records.is_some_and(|records| records.iter().all(is_map))
}

fn depth(value: &Value) -> usize {
    let deepest = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Map(pairs) => pairs
            .iter()
            .map(|(key, value)| depth(key).max(depth(value)))
            .max(),
        Value::Tag(_, value) => Some(depth(value)),
        _ => None,
    };
    1 + deepest.unwrap_or(0)
}
