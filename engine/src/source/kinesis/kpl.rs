//! Aggregates of the Kinesis Producer Library: one record of the stream that holds many of its
//! users' records.
//!
//! Owns: the format (magic, protobuf, MD5), which user records belong to the shard, their places.
//! Does not own: payloads, reading, what becomes of those of another shard (the worker's
//! `pipeline`), unless they are dropped.
//! Rule: pure; a record that is not a whole aggregate is an ordinary record. Payloads are slices of
//! the record, not copies.

use crate::source::kinesis::HashRange;
use crate::source::{Extra, Foreign, Record};
use bytes::Bytes;
use md5::{Digest, Md5};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use streamctl_proto::spec::Aggregates;

/// Prefix of every aggregate.
const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
/// The MD5 of the protobuf, at the end.
const DIGEST_BYTES: usize = 16;
/// Most user records of one aggregate; one that declares more is an ordinary record. 1 MiB holds no
/// more than this.
const USER_RECORDS_MAX: usize = 1 << 18;
/// The field of `Aggregated` that repeats once per user record.
const RECORDS_FIELD: u32 = 3;

#[derive(Clone, PartialEq, Message)]
struct Aggregated {
    #[prost(string, repeated, tag = "1")]
    partition_keys: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_hash_keys: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<User>,
}

/// Tags (field 4) are not needed and are skipped.
#[derive(Clone, PartialEq, Message)]
struct User {
    #[prost(uint64, required, tag = "1")]
    partition_key: u64,
    #[prost(uint64, optional, tag = "2")]
    explicit_hash_key: Option<u64>,
    #[prost(bytes = "bytes", required, tag = "3")]
    data: Bytes,
}

/// Splits a record of the stream and appends the result to `out`: its user records, or the record
/// itself if it is not an aggregate. Those that do not belong to a shard of this range are marked,
/// or dropped and counted in the next one that is left, the last of them in the one before. Returns
/// how many there are; 0 if the range is unknown.
///
/// User record `k` of the aggregate has the sub-sequence `k`, counted from 1 and including dropped
/// ones. The last returned one has 0: with it the whole record is read.
pub fn take_apart(
    record: Record,
    range: Option<HashRange>,
    aggregates: Aggregates,
    out: &mut Vec<Record>,
) -> u64 {
    let Some(users) = users(&record.data, range) else {
        out.push(record);
        return 0;
    };
    let first = out.len();
    let keys = record.extra.is_some().then(|| user_keys(&record.data));
    let mut all_foreign = 0;
    let mut dropped = 0;
    for (index, (data, is_own)) in users.into_iter().enumerate() {
        all_foreign += u64::from(!is_own);
        if !is_own && aggregates == Aggregates::Drop {
            dropped += 1;
            continue;
        }
        let foreign = match (is_own, std::mem::take(&mut dropped)) {
            (false, _) => Foreign::Yes,
            (true, 0) => Foreign::No,
            (true, dropped) => Foreign::Dropped(dropped),
        };
        out.push(Record {
            sequence: record.sequence.clone(),
            sub_sequence: index as u64 + 1,
            arrival_ms: record.arrival_ms,
            data,
            origin: None,
            extra: keys.as_ref().and_then(|keys| keyed(keys, index)),
            foreign,
        });
    }
    if let Some(last) = out[first..].last_mut() {
        last.sub_sequence = 0;
        last.foreign.add_dropped(dropped);
    }
    all_foreign
}

/// The payloads, and whether each belongs to the shard. `None`: not an aggregate.
fn users(data: &Bytes, range: Option<HashRange>) -> Option<Vec<(Bytes, bool)>> {
    if data.len() < MAGIC.len() + DIGEST_BYTES || data[..MAGIC.len()] != MAGIC {
        return None;
    }
    let body = data.slice(MAGIC.len()..data.len() - DIGEST_BYTES);
    let digest: [u8; DIGEST_BYTES] = Md5::digest(&body).into();
    if digest != data[data.len() - DIGEST_BYTES..] || !is_bounded(&body) {
        return None;
    }
    let aggregated = Aggregated::decode(body).ok()?;
    let partition_keys: Vec<u128> = aggregated
        .partition_keys
        .iter()
        .map(|key| hash_key(key))
        .collect();
    let explicit: Option<Vec<u128>> = aggregated
        .explicit_hash_keys
        .iter()
        .map(|key| key.parse().ok())
        .collect();
    let explicit = explicit?;
    let user = |user: User| {
        let at = |keys: &[u128], index: u64| keys.get(usize::try_from(index).ok()?).copied();
        let by_partition = at(&partition_keys, user.partition_key)?;
        let key = match user.explicit_hash_key {
            Some(index) => at(&explicit, index)?,
            None => by_partition,
        };
        Some((user.data, range.is_none_or(|range| range.contains(key))))
    };
    aggregated.records.into_iter().map(user).collect()
}

/// The partition key of each user record of an aggregate.
fn user_keys(data: &Bytes) -> Vec<Option<String>> {
    let body = data.slice(MAGIC.len()..data.len() - DIGEST_BYTES);
    let Ok(aggregated) = Aggregated::decode(body) else {
        return Vec::new();
    };
    let keys = &aggregated.partition_keys;
    let key = |user: &User| keys.get(usize::try_from(user.partition_key).ok()?).cloned();
    aggregated.records.iter().map(key).collect()
}

/// What a user record has beside its payload.
fn keyed(keys: &[Option<String>], index: usize) -> Option<Box<Extra>> {
    Some(Box::new(Extra {
        partition_key: keys.get(index)?.clone(),
        ..Extra::default()
    }))
}

/// The hash key of a partition key, as the service computes it.
fn hash_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

/// Whether it has at most [`USER_RECORDS_MAX`] user records: they are counted before memory for
/// them is allocated.
fn is_bounded(mut body: &[u8]) -> bool {
    let mut records = 0;
    while !body.is_empty() {
        let Ok((field, wire)) = decode_key(&mut body) else {
            return false;
        };
        records += usize::from(field == RECORDS_FIELD && wire == WireType::LengthDelimited);
        if records > USER_RECORDS_MAX
            || skip_field(wire, field, &mut body, DecodeContext::default()).is_err()
        {
            return false;
        }
    }
    true
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Made by `aws-kinesis-agg` for Python, see `tests/support/py/kpl_golden.py`.
    const GOLDEN: &[u8] = include_bytes!("../../../testdata/kpl-aggregate-v1.bin");

    /// An aggregate of such (partition key, explicit hash key, payload).
    pub(in crate::source) fn aggregate(users: &[(&str, Option<u128>, &str)]) -> Bytes {
        let record = |(index, (_, explicit, data)): (usize, &(&str, Option<u128>, &str))| User {
            partition_key: index as u64,
            explicit_hash_key: explicit.map(|_| {
                users[..index]
                    .iter()
                    .filter(|user| user.1.is_some())
                    .count() as u64
            }),
            data: Bytes::copy_from_slice(data.as_bytes()),
        };
        let aggregated = Aggregated {
            partition_keys: users.iter().map(|user| user.0.to_owned()).collect(),
            explicit_hash_keys: users
                .iter()
                .filter_map(|user| Some(user.1?.to_string()))
                .collect(),
            records: users.iter().enumerate().map(record).collect(),
        };
        sealed(&aggregated.encode_to_vec())
    }

    fn sealed(body: &[u8]) -> Bytes {
        [&MAGIC[..], body, &Md5::digest(body)].concat().into()
    }

    fn record(data: impl Into<Bytes>) -> Record {
        Record {
            sequence: 7.into(),
            sub_sequence: 0,
            arrival_ms: 5,
            data: data.into(),
            origin: None,
            extra: None,
            foreign: Foreign::No,
        }
    }

    fn apart(data: impl Into<Bytes>, range: Option<HashRange>) -> (Vec<(u64, String)>, u64) {
        let mut out = vec![];
        let dropped = take_apart(record(data), range, Aggregates::Drop, &mut out);
        let text = |record: Record| {
            (
                record.sub_sequence,
                String::from_utf8_lossy(&record.data).into_owned(),
            )
        };
        (out.into_iter().map(text).collect(), dropped)
    }

    fn pairs(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
        expected
            .iter()
            .map(|(sub, text)| (*sub, (*text).to_owned()))
            .collect()
    }

    #[test]
    fn line_14_an_aggregate_of_an_independent_encoder_is_taken_apart() {
        let expected = [
            (1, "{\"id\":1}"),
            (2, "{\"id\":2}"),
            (3, "first line\nsecond line"),
            (0, "Åland"),
        ];
        assert_eq!(apart(GOLDEN, None), (pairs(&expected), 0));
        // The third has the explicit hash key 1, the last 2^127.
        let low = HashRange::new("0", "1").unwrap();
        assert_eq!(
            apart(GOLDEN, Some(low)),
            (pairs(&[(0, "first line\nsecond line")]), 3)
        );
    }

    #[test]
    fn line_14_user_records_of_other_shards_are_dropped_and_the_last_one_left_ends_the_record() {
        let data = aggregate(&[
            ("a", Some(5), "A"),
            ("b", Some(50), "B"),
            ("c", Some(6), "C"),
            ("d", Some(51), "D"),
        ]);
        let of = |first: &str, last: &str| apart(data.clone(), HashRange::new(first, last));
        assert_eq!(of("0", "9"), (pairs(&[(1, "A"), (0, "C")]), 2));
        assert_eq!(of("10", "99"), (pairs(&[(2, "B"), (0, "D")]), 2));
        assert_eq!(of("1000", "2000"), (vec![], 4));
        assert_eq!(
            apart(data.clone(), None).0.len(),
            4,
            "an unknown range excludes nothing"
        );
    }

    #[test]
    fn p38_user_records_of_other_shards_are_marked_or_dropped_and_counted_either_way() {
        let data = aggregate(&[
            ("a", Some(50), "A"),
            ("b", Some(5), "B"),
            ("c", Some(51), "C"),
            ("d", Some(6), "D"),
            ("e", Some(52), "E"),
        ]);
        let of = |aggregates| {
            let mut out = vec![];
            let foreign = take_apart(
                record(data.clone()),
                HashRange::new("0", "9"),
                aggregates,
                &mut out,
            );
            assert_eq!(foreign, 3);
            assert_eq!(out.iter().map(|one| one.foreign.count()).sum::<u64>(), 3);
            let marks: Vec<_> = out
                .iter()
                .map(|one| (one.sub_sequence, one.foreign))
                .collect();
            marks
        };
        let yes = Foreign::Yes;
        let no = Foreign::No;
        let all = vec![(1, yes), (2, no), (3, yes), (4, no), (0, yes)];
        assert_eq!(of(Aggregates::DeadLetter), all);
        assert_eq!(of(Aggregates::Keep), all);
        let left = vec![(2, Foreign::Dropped(1)), (0, Foreign::Dropped(2))];
        assert_eq!(of(Aggregates::Drop), left);
    }

    #[test]
    fn user_records_have_their_own_partition_keys_if_these_are_kept() {
        let data = aggregate(&[("a", None, "1"), ("b", None, "2")]);
        let kept = Record {
            extra: Some(Box::default()),
            ..record(data.clone())
        };
        let mut users = Vec::new();
        take_apart(kept, None, Aggregates::default(), &mut users);
        let key = |record: &Record| record.extra.as_ref()?.partition_key.clone();
        let keys: Vec<_> = users.iter().filter_map(key).collect();
        assert_eq!(keys, ["a", "b"]);
        let mut users = Vec::new();
        take_apart(record(data), None, Aggregates::default(), &mut users);
        assert!(users.iter().all(|user| user.extra.is_none()));
    }

    #[test]
    fn line_14_a_partition_key_counts_by_its_md5() {
        let data = aggregate(&[("a", None, "A"), ("b", None, "B")]);
        // md5("a") = 0cc1..., md5("b") = 92eb...
        let low = HashRange::from_detail("0-7fffffffffffffffffffffffffffffff");
        assert_eq!(apart(data, low), (pairs(&[(0, "A")]), 1));
    }

    #[test]
    fn line_14_what_is_no_whole_aggregate_is_an_ordinary_record() {
        let good = aggregate(&[("a", None, "A"), ("b", None, "B")]);
        let mut wrong_digest = good.to_vec();
        *wrong_digest.last_mut().unwrap() ^= 1;
        let no_such_key = Aggregated {
            records: vec![User {
                partition_key: 0,
                explicit_hash_key: None,
                data: Bytes::new(),
            }],
            ..Aggregated::default()
        };
        let bad: [Vec<u8>; 7] = [
            wrong_digest,
            MAGIC.to_vec(),
            good[..good.len() - 1].to_vec(),
            sealed(b"this is not protobuf").to_vec(),
            sealed(&no_such_key.encode_to_vec()).to_vec(),
            b"{\"id\":1}".to_vec(),
            vec![],
        ];
        for data in bad {
            let mut out = vec![];
            assert_eq!(
                take_apart(
                    record(data.clone()),
                    HashRange::new("0", "0"),
                    Aggregates::Drop,
                    &mut out
                ),
                0
            );
            assert_eq!(out, [record(data)]);
        }
    }

    #[test]
    fn an_aggregate_of_too_many_is_an_ordinary_record_and_takes_no_room() {
        let keys = Aggregated {
            partition_keys: vec!["a".into()],
            ..Aggregated::default()
        }
        .encode_to_vec();
        let user = User {
            partition_key: 0,
            explicit_hash_key: None,
            data: Bytes::new(),
        };
        let one = Aggregated {
            records: vec![user],
            ..Aggregated::default()
        }
        .encode_to_vec();
        let of = |count: usize| {
            apart(sealed(&[keys.clone(), one.repeat(count)].concat()), None)
                .0
                .len()
        };
        assert_eq!(of(USER_RECORDS_MAX), USER_RECORDS_MAX);
        assert_eq!(of(USER_RECORDS_MAX + 1), 1);
    }

    #[test]
    fn an_empty_aggregate_gives_nothing() {
        assert_eq!(apart(sealed(&[]), None), (vec![], 0));
    }
}
