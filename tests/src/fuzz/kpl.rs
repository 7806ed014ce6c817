//! Aggregates of the Kinesis Producer Library, against an encoder that shares nothing with their
//! decoder.
//!
//! Input: a byte for the kind, a byte for the shard's range, then either the bytes of a record
//! (unchanged, or wrapped in magic and digest), or a choice of user records for an aggregate.
//! Rule: user records come out of their aggregate unchanged; any other record is kept or split, and
//! places only increase.

use bytes::Bytes;
use md5::{Digest, Md5};
use streamctl_engine::source::kinesis::HashRange;
use streamctl_engine::source::kinesis::kpl::take_apart;
use streamctl_engine::source::{Foreign, Record};
use streamctl_proto::spec::Aggregates;

const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
/// Most user records of a generated aggregate.
const USERS_MAX: usize = 64;

pub fn kpl(data: &[u8]) {
    let [kind, range, rest @ ..] = data else {
        return;
    };
    let range = match range {
        0 => None,
        part => {
            let first = u128::from(*part) << 120;
            HashRange::new(&first.to_string(), &(first | (u128::MAX >> 3)).to_string())
        }
    };
    match kind % 3 {
        0 => whatever(rest, range),
        1 => whatever(&sealed(rest), range),
        _ => made(rest, range),
    }
}

fn record(data: &[u8]) -> Record {
    Record {
        sequence: 7.into(),
        sub_sequence: 0,
        arrival_ms: 1_000,
        data: Bytes::copy_from_slice(data),
        origin: None,
        extra: None,
        foreign: Foreign::No,
    }
}

fn whatever(data: &[u8], range: Option<HashRange>) {
    let mut out = vec![];
    let dropped = take_apart(record(data), range, Aggregates::Drop, &mut out);
    if out == [record(data)] && dropped == 0 {
        return;
    }
    assert!(
        data.starts_with(&MAGIC),
        "an ordinary record was taken apart"
    );
    assert!(
        range.is_some() || dropped == 0,
        "nobody knows that a user record belongs elsewhere"
    );
    go_forward(&out);
}

/// Inside an aggregate the places increase, and the last one is that of the whole record.
fn go_forward(out: &[Record]) {
    let places: Vec<u64> = out.iter().map(|user| user.sub_sequence).collect();
    if let Some((last, before)) = places.split_last() {
        assert_eq!(*last, 0, "{places:?}");
        assert!(
            before.is_sorted_by(|a, b| a < b) && !before.contains(&0),
            "{places:?}"
        );
    }
    assert!(
        out.iter()
            .all(|user| user.sequence == 7.into() && user.arrival_ms == 1_000)
    );
}

/// A user record: partition key, explicit hash key, payload.
type User = (String, Option<u128>, Vec<u8>);

fn made(choices: &[u8], range: Option<HashRange>) {
    let users: Vec<User> = choices.chunks(4).take(USERS_MAX).map(user).collect();
    let belongs = |(key, explicit, _): &&User| {
        let hashed = u128::from_be_bytes(Md5::digest(key.as_bytes()).into());
        range.is_none_or(|range| range.contains(explicit.unwrap_or(hashed)))
    };
    let expected: Vec<&[u8]> = users
        .iter()
        .filter(belongs)
        .map(|(.., data)| data.as_slice())
        .collect();
    let mut out = vec![];
    let dropped = take_apart(
        record(&sealed(&encoded(&users))),
        range,
        Aggregates::Drop,
        &mut out,
    );
    let found: Vec<&[u8]> = out.iter().map(|user| user.data.as_ref()).collect();
    assert_eq!(found, expected);
    assert_eq!(dropped as usize + found.len(), users.len());
    go_forward(&out);
}

fn user(choice: &[u8]) -> User {
    let byte = |index: usize| choice.get(index).copied().unwrap_or_default();
    let explicit = (byte(1) % 2 == 1).then(|| u128::from(byte(1)) << 120 | u128::from(byte(2)));
    (
        format!("key-{}", byte(0)),
        explicit,
        vec![byte(2); usize::from(byte(3))],
    )
}

fn sealed(body: &[u8]) -> Vec<u8> {
    let digest: [u8; 16] = Md5::digest(body).into();
    [&MAGIC[..], body, &digest[..]].concat()
}

/// The protobuf by hand: tables of keys (1, 2), then the user records (3).
fn encoded(users: &[User]) -> Vec<u8> {
    let mut tables = vec![];
    let mut records = vec![];
    let mut explicit_keys = 0;
    for (index, (key, explicit, data)) in users.iter().enumerate() {
        field(&mut tables, 1, key.as_bytes());
        let mut record = vec![0x08];
        number(&mut record, index as u64);
        if let Some(explicit) = explicit {
            field(&mut tables, 2, explicit.to_string().as_bytes());
            record.push(0x10);
            number(&mut record, explicit_keys);
            explicit_keys += 1;
        }
        field(&mut record, 3, data);
        field(&mut records, 3, &record);
    }
    [tables, records].concat()
}

fn field(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag << 3 | 2);
    number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
