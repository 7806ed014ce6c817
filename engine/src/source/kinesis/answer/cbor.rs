//! A GetRecords response in CBOR.
//!
//! Owns: the names and kinds of its items. Does not own: items (`super::super::cbor`), checks.
//! Rule: one pass; payloads are raw bytes, and are copied once into the buffer of all of them.

use super::{Answer, Found, Malformed, PartitionKeys, arrival, child, possible_arrival, sequence};
use crate::source::Child;
use crate::source::kinesis::cbor::{Left, Reader, Value};
use base64_simd::STANDARD;
use std::borrow::Cow;

/// The service writes times in milliseconds; others that write CBOR may use seconds, as the
/// standard does. This many seconds are in the year 5138, this many milliseconds in 1973.
const SECONDS_MAX: u64 = 100_000_000_000;
/// Most records that the service puts into a response.
const RECORDS_MAX: usize = 10_000;

type Payload<'a> = Cow<'a, [u8]>;

pub(super) fn decode(body: &[u8], now_ms: i64, keys: PartitionKeys) -> Result<Answer, Malformed> {
    let mut reader = Reader::new(body);
    let mut answer = Answer::default();
    let mut found = None;
    let mut left = reader.map()?;
    while reader.more(&mut left)? {
        match &*reader.key()? {
            b"Records" => found = Some(records(&mut reader, keys)?),
            b"NextShardIterator" => {
                answer.next_iterator = optional_text(reader.value()?)?.map(Cow::into_owned);
            }
            b"MillisBehindLatest" => answer.behind_ms = milliseconds_behind(&reader.value()?)?,
            b"ChildShards" => answer.children = children(&mut reader)?,
            unknown => reader.skip(unknown)?,
        }
    }
    reader.end()?;
    let found = found.ok_or(Malformed::Missing("records"))?;
    let mut payloads = Vec::with_capacity(found.iter().map(|record| record.payload.len()).sum());
    let mut ends = Vec::with_capacity(found.len());
    for record in &found {
        payloads.extend_from_slice(&record.payload);
        ends.push(payloads.len());
    }
    let key_bytes: usize = found.iter().map(|record| record.key_bytes).sum();
    answer.bytes = payloads.len() + key_bytes;
    answer.records = super::records(found, payloads, ends, now_ms);
    Ok(answer)
}

fn records<'a>(
    reader: &mut Reader<'a>,
    keys: PartitionKeys,
) -> Result<Vec<Found<Payload<'a>>>, Malformed> {
    let mut left = reader.array()?;
    let mut found = Vec::with_capacity(match left {
        Left::Known(count) => usize::try_from(count).map_or(RECORDS_MAX, |it| it.min(RECORDS_MAX)),
        Left::UntilBreak => 0,
    });
    while reader.more(&mut left)? {
        found.push(record(reader, keys)?);
    }
    Ok(found)
}

fn record<'a>(
    reader: &mut Reader<'a>,
    keys: PartitionKeys,
) -> Result<Found<Payload<'a>>, Malformed> {
    let mut number = None;
    let mut arrival_ms = None;
    let mut payload = None;
    let mut key = None;
    let mut left = reader.map()?;
    while reader.more(&mut left)? {
        match &*reader.key()? {
            b"SequenceNumber" => number = optional_text(reader.value()?)?,
            b"ApproximateArrivalTimestamp" => arrival_ms = time(&reader.value()?)?,
            b"Data" => payload = bytes(reader.value()?)?,
            b"PartitionKey" => key = optional_text(reader.value()?)?,
            unknown => reader.skip(unknown)?,
        }
    }
    let sequence = sequence(number.as_deref())?;
    let key_bytes = key.as_ref().map_or(0, |key| key.len());
    Ok(Found {
        sequence,
        arrival_ms,
        payload: payload.ok_or(Malformed::Missing("a record's data"))?,
        key: key
            .filter(|_| keys == PartitionKeys::Kept)
            .map(Cow::into_owned),
        key_bytes,
    })
}

/// The service writes bytes; some emulators write the base64 that they have for JSON.
fn bytes(value: Value<'_>) -> Result<Option<Payload<'_>>, Malformed> {
    match value {
        Value::Bytes(bytes) => Ok(Some(bytes)),
        Value::Text(text) => STANDARD
            .decode_to_vec(text.as_bytes())
            .map(|bytes| Some(Cow::Owned(bytes)))
            .map_err(|_| Malformed::Wrong("payload in base64")),
        _ => Ok(None),
    }
}

fn optional_text(value: Value<'_>) -> Result<Option<Cow<'_, str>>, Malformed> {
    match value {
        Value::Null => Ok(None),
        Value::Text(text) => Ok(Some(text)),
        _ => Err(Malformed::Wrong("text")),
    }
}

fn time(value: &Value<'_>) -> Result<Option<i64>, Malformed> {
    match value {
        Value::Null => Ok(None),
        Value::Float(time) if !time.is_finite() => Err(Malformed::Wrong("time of arrival")),
        Value::Float(seconds) if *seconds < SECONDS_MAX as f64 => arrival(*seconds).map(Some),
        Value::Float(ms) => possible_arrival(*ms as i64).map(Some),
        Value::Unsigned(seconds) if *seconds < SECONDS_MAX => arrival(*seconds as f64).map(Some),
        Value::Unsigned(ms) => {
            let ms = i64::try_from(*ms).map_err(|_| Malformed::Wrong("time of arrival"))?;
            possible_arrival(ms).map(Some)
        }
        _ => Err(Malformed::Wrong("time of arrival")),
    }
}

fn milliseconds_behind(value: &Value<'_>) -> Result<Option<u64>, Malformed> {
    match value {
        Value::Null => Ok(None),
        Value::Unsigned(ms) => Ok(Some(*ms)),
        Value::Negative(_) => Ok(Some(0)),
        _ => Err(Malformed::Wrong("lag")),
    }
}

fn children(reader: &mut Reader<'_>) -> Result<Vec<Child>, Malformed> {
    let mut children = Vec::new();
    let Some(mut left) = reader.array_or_null()? else {
        return Ok(children);
    };
    while reader.more(&mut left)? {
        children.push(child_shard(reader)?);
    }
    Ok(children)
}

fn child_shard(reader: &mut Reader<'_>) -> Result<Child, Malformed> {
    const WRONG: Malformed = Malformed::Wrong("list of child shards");
    let mut shard = None;
    let mut parents = None;
    let mut range = None;
    let mut left = reader.map()?;
    while reader.more(&mut left)? {
        match &*reader.key()? {
            b"ShardId" => shard = optional_text(reader.value()?)?.map(Cow::into_owned),
            b"ParentShards" => parents = Some(texts(reader)?),
            b"HashKeyRange" => range = hash_keys(reader)?,
            unknown => reader.skip(unknown)?,
        }
    }
    let range = range
        .as_ref()
        .map(|(first, last)| (first.as_str(), last.as_str()));
    Ok(child(shard.ok_or(WRONG)?, parents.ok_or(WRONG)?, range))
}

fn texts(reader: &mut Reader<'_>) -> Result<Vec<String>, Malformed> {
    let mut texts = Vec::new();
    let mut left = reader.array()?;
    while reader.more(&mut left)? {
        texts.push(reader.text()?.into_owned());
    }
    Ok(texts)
}

/// The first and last hash key.
fn hash_keys(reader: &mut Reader<'_>) -> Result<Option<(String, String)>, Malformed> {
    let mut first = None;
    let mut last = None;
    let mut left = reader.map()?;
    while reader.more(&mut left)? {
        match &*reader.key()? {
            b"StartingHashKey" => first = optional_text(reader.value()?)?.map(Cow::into_owned),
            b"EndingHashKey" => last = optional_text(reader.value()?)?.map(Cow::into_owned),
            unknown => reader.skip(unknown)?,
        }
    }
    Ok(first.zip(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kinesis::HashRange;

    /// Items in the notation of RFC 8949, section 8, for tests.
    #[derive(Clone)]
    enum Item {
        Number(i64),
        Float(f64),
        Text(&'static str),
        Bytes(&'static [u8]),
        List(Vec<Item>),
        /// Of indefinite length, as the service writes them.
        Map(Vec<(&'static str, Item)>),
        Tagged(u8, Box<Item>),
        Null,
    }

    impl Item {
        fn write(&self, out: &mut Vec<u8>) {
            match self {
                Self::Number(number) if *number < 0 => {
                    out.push(0x3b);
                    out.extend_from_slice(&(-1 - number).to_be_bytes());
                }
                Self::Number(number) => {
                    out.push(0x1b);
                    out.extend_from_slice(&number.to_be_bytes());
                }
                Self::Float(number) => {
                    out.push(0xfb);
                    out.extend_from_slice(&number.to_be_bytes());
                }
                Self::Text(text) => {
                    out.push(0x7a);
                    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
                Self::Bytes(bytes) => {
                    out.push(0x5a);
                    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                    out.extend_from_slice(bytes);
                }
                Self::List(items) => {
                    out.push(0x9f);
                    items.iter().for_each(|item| item.write(out));
                    out.push(0xff);
                }
                Self::Map(pairs) => {
                    out.push(0xbf);
                    for (key, value) in pairs {
                        Self::Text(key).write(out);
                        value.write(out);
                    }
                    out.push(0xff);
                }
                Self::Tagged(tag, item) => {
                    out.push(0xc0 | tag);
                    item.write(out);
                }
                Self::Null => out.push(0xf6),
            }
        }
    }

    use Item::{Bytes, Float, List, Map, Null, Number, Tagged, Text};

    fn of(item: &Item, keys: PartitionKeys) -> Result<Answer, Malformed> {
        let mut body = Vec::new();
        item.write(&mut body);
        decode(&body, 77, keys)
    }

    fn with(name: &'static str, value: Item) -> Item {
        let mut record = vec![
            ("SequenceNumber", Text("1")),
            ("Data", Bytes(b"a")),
            ("PartitionKey", Text("k")),
        ];
        record.retain(|(key, _)| *key != name);
        record.push((name, value));
        Map(vec![("Records", List(vec![Map(record)]))])
    }

    fn arrival_of(value: Item) -> Result<i64, String> {
        of(
            &with("ApproximateArrivalTimestamp", value),
            PartitionKeys::Counted,
        )
        .map(|answer| answer.records[0].arrival_ms)
        .map_err(|error| error.to_string())
    }

    #[test]
    fn a_response_has_its_records_in_order_and_all_else() {
        let record = |sequence, payload: &'static [u8]| {
            Map(vec![
                ("SequenceNumber", Text(sequence)),
                (
                    "ApproximateArrivalTimestamp",
                    Tagged(1, Box::new(Number(1_795_481_100_123))),
                ),
                ("Data", Bytes(payload)),
                ("PartitionKey", Text("k\u{e9}y")),
                ("EncryptionType", Text("NONE")),
            ])
        };
        let records = vec![
            record("1", b"{}"),
            record("2", b""),
            record("3", b"\x00\xff"),
        ];
        let whole = Map(vec![
            ("Strange", Map(vec![("a", List(vec![Number(1), Null]))])),
            ("Records", List(records)),
            ("NextShardIterator", Text("AAA=")),
            ("MillisBehindLatest", Number(5)),
        ]);
        let answer = of(&whole, PartitionKeys::Kept).unwrap();
        let data: Vec<&[u8]> = answer.records.iter().map(|it| it.data.as_ref()).collect();
        assert_eq!(data, [&b"{}"[..], b"", b"\x00\xff"]);
        assert!(
            answer
                .records
                .iter()
                .all(|it| it.arrival_ms == 1_795_481_100_123)
        );
        let key = |record: &crate::source::Record| record.extra.as_ref()?.partition_key.clone();
        assert_eq!(key(&answer.records[0]).as_deref(), Some("k\u{e9}y"));
        assert_eq!(answer.bytes, 4 + 3 * 4);
        assert_eq!(answer.next_iterator.as_deref(), Some("AAA="));
        assert_eq!(answer.behind_ms, Some(5));
        let counted = of(&whole, PartitionKeys::Counted).unwrap();
        assert!(counted.records.iter().all(|record| record.extra.is_none()));
    }

    #[test]
    fn times_are_milliseconds_or_seconds_by_their_size() {
        assert_eq!(arrival_of(Number(1_795_481_100_123)), Ok(1_795_481_100_123));
        assert_eq!(arrival_of(Number(1_795_481_100)), Ok(1_795_481_100_000));
        assert_eq!(arrival_of(Float(1_795_481_100.5)), Ok(1_795_481_100_500));
        assert_eq!(
            arrival_of(Float(1_795_481_100_500.0)),
            Ok(1_795_481_100_500)
        );
        assert_eq!(arrival_of(Null), Ok(77));
        for wrong in [
            Number(-1),
            Number(i64::MAX),
            Float(f64::NAN),
            Float(-1.0),
            Float(1e300),
            Text("now"),
        ] {
            assert_eq!(
                arrival_of(wrong).unwrap_err(),
                "an answer with a time of arrival that is none"
            );
        }
    }

    #[test]
    fn payloads_in_base64_are_decoded() {
        let answer = of(&with("Data", Text("AP8=")), PartitionKeys::Counted).unwrap();
        assert_eq!(answer.records[0].data.as_ref(), b"\x00\xff");
    }

    #[test]
    fn the_end_of_a_shard_names_its_children() {
        let range = Map(vec![
            ("StartingHashKey", Text("0")),
            ("EndingHashKey", Text("15")),
        ]);
        let child = Map(vec![
            ("ShardId", Text("shard-2")),
            ("ParentShards", List(vec![Text("shard-0"), Text("shard-1")])),
            ("HashKeyRange", range),
        ]);
        let whole = Map(vec![
            ("Records", List(vec![])),
            ("ChildShards", List(vec![child])),
        ]);
        let answer = of(&whole, PartitionKeys::Counted).unwrap();
        assert_eq!(answer.next_iterator, None);
        let [child] = answer.children.try_into().unwrap();
        assert_eq!(child.shard, "shard-2".into());
        assert_eq!(child.parents, ["shard-0".into(), "shard-1".into()]);
        assert_eq!(child.detail, HashRange::new("0", "15").unwrap().to_detail());
    }

    #[test]
    fn what_is_no_response_is_refused_with_its_fault() {
        let refused = [
            (Map(vec![]), "an answer without records"),
            (
                with("Data", Text("YQ=")),
                "an answer with a payload in base64 that is none",
            ),
            (with("Data", Null), "an answer without a record's data"),
            (
                with("SequenceNumber", Null),
                "an answer without a record's sequence number",
            ),
            (
                with("SequenceNumber", Text("x1")),
                "an answer with a sequence number that is none",
            ),
            (
                with("PartitionKey", Number(1)),
                "an answer with a text that is none",
            ),
            (
                Map(vec![
                    ("Records", List(vec![])),
                    ("MillisBehindLatest", Float(1.5)),
                ]),
                "an answer with a lag that is none",
            ),
            (
                Map(vec![
                    ("Records", List(vec![])),
                    ("ChildShards", List(vec![Map(vec![])])),
                ]),
                "an answer with a list of child shards that is none",
            ),
            (
                Map(vec![("Records", Null)]),
                "an answer that cannot be read: not CBOR at byte 14: expected an array",
            ),
        ];
        for (item, message) in refused {
            let error = of(&item, PartitionKeys::Counted).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
        assert!(matches!(
            decode(b"{\"Records\":[]}", 0, PartitionKeys::Counted),
            Err(Malformed::Cbor(_))
        ));
    }
}
