//! A GetRecords response in JSON.
//!
//! Owns: the names and kinds of its values, base64. Does not own: checks.
//! Rule: one pass over the text; payloads are decoded from base64 into the buffer of all of them.

use super::{Answer, Found, Malformed, PartitionKeys, child, sequence};
use crate::format::json::scan::{Scanner, unescape};
use crate::format::{Kind, Span};
use crate::source::{Child, Record};
use base64_simd::{Out, STANDARD};
use serde::Deserialize;
use std::borrow::Cow;

pub(super) fn decode(body: &[u8], now_ms: i64, keys: PartitionKeys) -> Result<Answer, Malformed> {
    let text = std::str::from_utf8(body)?;
    let mut scanner = Scanner::new(text);
    let mut answer = Answer::default();
    let mut found = None;
    let mut more = scanner.begin_object()?;
    while more {
        match scanner.key()?.of(text) {
            "Records" => found = Some(records(&mut scanner, text, keys)?),
            "NextShardIterator" => {
                answer.next_iterator = optional_text(scanner.value()?, text)?.map(Cow::into_owned)
            }
            "ContinuationSequenceNumber" => {
                answer.continuation = optional_text(scanner.value()?, text)?.map(Cow::into_owned)
            }
            "MillisBehindLatest" => answer.behind_ms = milliseconds_behind(scanner.value()?, text)?,
            "ChildShards" => answer.children = children(scanner.value()?, text)?,
            _ => _ = scanner.value()?,
        }
        more = scanner.more()?;
    }
    scanner.end()?;
    let found = found.ok_or(Malformed::Missing("records"))?;
    let key_bytes: usize = found.iter().map(|record| record.key_bytes).sum();
    answer.records = with_payloads(found, text, now_ms)?;
    let payload_bytes: usize = answer.records.iter().map(|record| record.data.len()).sum();
    answer.bytes = payload_bytes + key_bytes;
    Ok(answer)
}

fn records(
    scanner: &mut Scanner<'_>,
    text: &str,
    keys: PartitionKeys,
) -> Result<Vec<Found<Span>>, Malformed> {
    let mut found = Vec::new();
    let mut more = scanner.begin_array()?;
    while more {
        found.push(record(scanner, text, keys)?);
        more = scanner.more_items()?;
    }
    Ok(found)
}

fn record(
    scanner: &mut Scanner<'_>,
    text: &str,
    keys: PartitionKeys,
) -> Result<Found<Span>, Malformed> {
    let mut number = None;
    let mut arrival_ms = None;
    let mut data = None;
    let mut partition_key = None;
    let mut more = scanner.begin_object()?;
    while more {
        let key = scanner.key()?;
        let value = scanner.value()?;
        match key.of(text) {
            "SequenceNumber" => number = optional_text(value, text)?,
            "ApproximateArrivalTimestamp" => arrival_ms = arrival(value, text)?,
            "Data" => data = Some(value),
            "PartitionKey" => partition_key = optional_text(value, text)?,
            _ => {}
        }
        more = scanner.more()?;
    }
    let sequence = sequence(number.as_deref())?;
    let data = data.filter(|data| matches!(data.kind, Kind::Plain | Kind::Escaped));
    let key_bytes = partition_key.as_ref().map_or(0, |key| key.len());
    Ok(Found {
        sequence,
        arrival_ms,
        payload: data.ok_or(Malformed::Missing("a record's data"))?,
        key: partition_key
            .filter(|_| keys == PartitionKeys::Kept)
            .map(Cow::into_owned),
        key_bytes,
    })
}

/// Decodes all payloads into one buffer.
fn with_payloads(
    found: Vec<Found<Span>>,
    text: &str,
    now_ms: i64,
) -> Result<Vec<Record>, Malformed> {
    let wrong = |_| Malformed::Wrong("payload in base64");
    let mut ends = Vec::with_capacity(found.len());
    // The quotient is the exact length but for padding, which is at most two bytes a record.
    let length = |record: &Found<Span>| (record.payload.end - record.payload.start) / 4 * 3;
    let mut payloads = vec![0; found.iter().map(length).sum()];
    let mut at = 0;
    for record in &found {
        let encoded = plain(record.payload, text);
        let out = Out::from_slice(&mut payloads[at..]);
        at += STANDARD
            .decode(encoded.as_bytes(), out)
            .map_err(wrong)?
            .len();
        ends.push(at);
    }
    payloads.truncate(at);
    Ok(super::records(found, payloads, ends, now_ms))
}

/// The text of a string. Some servers escape a slash with a backslash.
fn plain(span: Span, text: &str) -> Cow<'_, str> {
    if span.kind == Kind::Plain {
        return Cow::Borrowed(span.of(text));
    }
    let mut out = String::with_capacity(span.end - span.start);
    unescape(span.of(text), &mut out).expect("a string takes text");
    Cow::Owned(out)
}

fn optional_text(span: Span, text: &str) -> Result<Option<Cow<'_, str>>, Malformed> {
    match span.kind {
        Kind::Null => Ok(None),
        Kind::Plain | Kind::Escaped => Ok(Some(plain(span, text))),
        Kind::Number | Kind::Boolean | Kind::Nested => Err(Malformed::Wrong("text")),
    }
}

/// Seconds since the epoch, in any notation of a number.
fn arrival(span: Span, text: &str) -> Result<Option<i64>, Malformed> {
    const WRONG: Malformed = Malformed::Wrong("time of arrival");
    match span.kind {
        Kind::Null => Ok(None),
        Kind::Number => {
            let seconds: f64 = span.of(text).parse().map_err(|_| WRONG)?;
            super::arrival(seconds).map(Some)
        }
        _ => Err(WRONG),
    }
}

fn milliseconds_behind(span: Span, text: &str) -> Result<Option<u64>, Malformed> {
    match span.kind {
        Kind::Null => Ok(None),
        Kind::Number => {
            let ms: i64 = span.of(text).parse().map_err(|_| Malformed::Wrong("lag"))?;
            Ok(Some(u64::try_from(ms).unwrap_or(0)))
        }
        _ => Err(Malformed::Wrong("lag")),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ChildShard {
    shard_id: String,
    parent_shards: Vec<String>,
    hash_key_range: Option<HashKeyRange>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HashKeyRange {
    starting_hash_key: String,
    ending_hash_key: String,
}

/// The end of a shard's life has one or two children, so a JSON library is fast enough.
fn children(span: Span, text: &str) -> Result<Vec<Child>, Malformed> {
    let wrong = |_| Malformed::Wrong("list of child shards");
    let children: Option<Vec<ChildShard>> = match span.kind {
        Kind::Null => None,
        _ => serde_json::from_str(span.of(text)).map_err(wrong)?,
    };
    let child = |it: ChildShard| {
        let range = it.hash_key_range.as_ref();
        let range = range.map(|range| {
            (
                range.starting_hash_key.as_str(),
                range.ending_hash_key.as_str(),
            )
        });
        child(it.shard_id, it.parent_shards, range)
    };
    Ok(children
        .unwrap_or_default()
        .into_iter()
        .map(child)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kinesis::HashRange;
    use base64::Engine as _;
    use serde_json::{Value, json};

    fn of(answer: &Value) -> Result<Answer, Malformed> {
        decode(answer.to_string().as_bytes(), 77, PartitionKeys::Counted)
    }

    fn encoded(payload: &[u8]) -> String {
        base64::engine::general_purpose::STANDARD.encode(payload)
    }

    #[test]
    fn an_answer_has_its_records_in_order_and_all_else() {
        let payloads = [&b"{\"id\":1}"[..], b"", b"\x00\xff\xfe", "Åland".as_bytes()];
        let one = |(number, payload): (usize, &&[u8])| {
            json!({"SequenceNumber": format!("4962{number}"), "ApproximateArrivalTimestamp": 1_795_481_100.123,
                   "Data": encoded(payload), "PartitionKey": "key", "EncryptionType": "NONE"})
        };
        let records: Vec<Value> = payloads.iter().enumerate().map(one).collect();
        let answer =
            of(&json!({"Records": records, "NextShardIterator": "AAA=", "MillisBehindLatest": 5}))
                .unwrap();
        let data: Vec<&[u8]> = answer
            .records
            .iter()
            .map(|record| record.data.as_ref())
            .collect();
        assert_eq!(data, payloads);
        assert_eq!(answer.records[3].sequence.as_str(), "49623");
        assert!(
            answer
                .records
                .iter()
                .all(|record| record.arrival_ms == 1_795_481_100_123)
        );
        assert_eq!(
            answer.bytes,
            payloads
                .iter()
                .map(|payload| payload.len() + 3)
                .sum::<usize>()
        );
        assert_eq!(
            (answer.next_iterator.as_deref(), answer.behind_ms),
            (Some("AAA="), Some(5))
        );
        assert!(answer.children.is_empty());
    }

    #[test]
    fn what_the_service_leaves_out_is_not_made_up() {
        let record = json!({"SequenceNumber": "1", "Data": "", "PartitionKey": null});
        let answer =
            of(&json!({"Records": [record], "NextShardIterator": null, "ChildShards": null}))
                .unwrap();
        assert_eq!(
            (answer.next_iterator, answer.behind_ms, answer.bytes),
            (None, None, 0)
        );
        assert_eq!(answer.records[0].arrival_ms, 77);
        assert!(of(&json!({"Records": []})).unwrap().records.is_empty());
    }

    #[test]
    fn the_end_of_a_shard_names_its_children() {
        let range = json!({"StartingHashKey": "0", "EndingHashKey": "15"});
        let child = json!({"ShardId": "shard-2", "ParentShards": ["shard-0", "shard-1"], "HashKeyRange": range});
        let answer =
            of(&json!({"Records": [], "ChildShards": [child], "MillisBehindLatest": 0})).unwrap();
        let [child] = answer.children.try_into().unwrap();
        assert_eq!(
            (child.shard, child.parents),
            ("shard-2".into(), vec!["shard-0".into(), "shard-1".into()])
        );
        assert_eq!(child.detail, HashRange::new("0", "15").unwrap().to_detail());
    }

    #[test]
    fn escapes_exponents_and_strange_order_are_read() {
        let text = r#" { "MillisBehindLatest" : 12 , "Strange" : {"a":[1,{}]},
            "Records" : [ {"Data":"\/\u002f8=","PartitionKey":"\u00c5","SequenceNumber":"7","ApproximateArrivalTimestamp":1.795481100123E9} ] } "#;
        let answer = decode(text.as_bytes(), 0, PartitionKeys::Counted).unwrap();
        assert_eq!(answer.records[0].data.as_ref(), [0xff, 0xff]);
        assert_eq!(
            (answer.records[0].arrival_ms, answer.bytes),
            (1_795_481_100_123, 4)
        );
    }

    #[test]
    fn what_is_no_answer_is_refused_with_its_fault() {
        let good = json!({"SequenceNumber": "1", "Data": "YQ==", "PartitionKey": "k"});
        let with = |key: &str, value: Value| {
            let mut record = good.clone();
            record[key] = value;
            json!({ "Records": [record] })
        };
        let bad = [
            (json!({}), "an answer without records"),
            (
                json!({ "Records": [{}] }),
                "an answer without a record's sequence number",
            ),
            (
                json!({ "Records": [{"SequenceNumber": "1"}] }),
                "an answer without a record's data",
            ),
            (
                with("Data", json!("YQ=")),
                "an answer with a payload in base64 that is none",
            ),
            (
                with("Data", json!("Y*==")),
                "an answer with a payload in base64 that is none",
            ),
            (with("Data", json!(1)), "an answer without a record's data"),
            (
                with("SequenceNumber", json!("x1")),
                "an answer with a sequence number that is none",
            ),
            (
                with("ApproximateArrivalTimestamp", json!("now")),
                "an answer with a time of arrival that is none",
            ),
            (
                with("ApproximateArrivalTimestamp", json!(1e300)),
                "an answer with a time of arrival that is none",
            ),
            (
                with("ApproximateArrivalTimestamp", json!(-1)),
                "an answer with a time of arrival that is none",
            ),
            (
                json!({"Records": [], "MillisBehindLatest": 1.5}),
                "an answer with a lag that is none",
            ),
            (
                json!({"Records": [], "ChildShards": [{}]}),
                "an answer with a list of child shards that is none",
            ),
            (
                json!({"Records": null}),
                "an answer that cannot be read: not JSON at byte 11: expected an array",
            ),
        ];
        for (answer, message) in bad {
            assert_eq!(of(&answer).unwrap_err().to_string(), message, "{answer}");
        }
        assert!(matches!(
            decode(b"{\"Records\":[\xff]}", 0, PartitionKeys::Counted),
            Err(Malformed::Utf8(_))
        ));
        assert!(matches!(
            decode(b"{\"Records\":[", 0, PartitionKeys::Counted),
            Err(Malformed::Json(_))
        ));
        assert!(matches!(
            decode(b"", 0, PartitionKeys::Counted),
            Err(Malformed::Json(_))
        ));
    }

    #[test]
    fn payloads_of_every_length_come_out_as_they_went_in() {
        let mut random = fastrand::Rng::with_seed(3);
        let payloads: Vec<Vec<u8>> = (0..200)
            .map(|n| std::iter::repeat_with(|| random.u8(..)).take(n).collect())
            .collect();
        let one = |payload: &Vec<u8>| json!({"SequenceNumber": "1", "Data": encoded(payload)});
        let answer = of(&json!({"Records": payloads.iter().map(one).collect::<Vec<_>>()})).unwrap();
        assert!(
            answer
                .records
                .iter()
                .map(|record| &record.data[..])
                .eq(payloads.iter().map(Vec::as_slice))
        );
    }

    #[test]
    fn partition_keys_are_kept_where_they_are_asked_for() {
        let record = json!({"SequenceNumber": "1", "Data": "YQ==", "PartitionKey": "k\u{e9}y"});
        let without = json!({"SequenceNumber": "2", "Data": "YQ==", "PartitionKey": null});
        let body = json!({"Records": [record, without]}).to_string();
        let key = |record: &Record| record.extra.as_ref()?.partition_key.clone();
        let kept = decode(body.as_bytes(), 0, PartitionKeys::Kept).unwrap();
        let keys: Vec<_> = kept.records.iter().map(key).collect();
        assert_eq!(keys, [Some("k\u{e9}y".to_owned()), None]);
        let counted = decode(body.as_bytes(), 0, PartitionKeys::Counted).unwrap();
        assert!(counted.records.iter().all(|record| record.extra.is_none()));
        assert_eq!(counted.bytes, kept.bytes);
    }
}
