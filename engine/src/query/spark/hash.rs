//! `hash(a, b, ...)`: Murmur3 as Spark computes it.
//!
//! Rule: the bytes of a value are those of Spark's own form of it; NULL changes nothing.

use super::call::{Row, Rows};
use super::types::decimal_of;
use super::value::Value;
use arrow::array::ArrayRef;
use datafusion::common::Result;

const SEED: u32 = 42;

/// Decimals with more digits are hashed as bytes.
const LONG_DIGITS_MAX: u8 = 18;

/// The bytes of a value that are hashed.
pub(super) enum Form<'a> {
    Int(i32),
    Long(i64),
    Bytes(&'a [u8]),
}

/// The hash of a row, of the form of each of its values.
pub(super) fn each_form<'r, H: Copy + 'r>(
    rows: &'r Rows<'r>,
    seed: H,
    with: impl Fn(Form<'_>, H) -> H + 'r,
) -> impl Fn(Row<'_>) -> Option<H> + 'r {
    let is_wide: Vec<bool> = (0..rows.args())
        .map(|place| decimal_of(&rows.kind(place)).is_some_and(|(most, _)| most > LONG_DIGITS_MAX))
        .collect();
    let is_long: Vec<bool> = (0..rows.args())
        .map(|place| rows.kind(place) == arrow::datatypes::DataType::Int64)
        .collect();
    move |row| {
        let hash = (0..row.args()).fold(seed, |seed, place| match row.value(place) {
            None => seed,
            Some(value) => of_value(value, is_long[place], is_wide[place], |form| {
                with(form, seed)
            }),
        });
        Some(hash)
    }
}

pub(super) fn hash(rows: &Rows<'_>) -> Result<ArrayRef> {
    let hashes = each_form(rows, SEED, |form, seed| match form {
        Form::Int(value) => of_int(value, seed),
        Form::Long(value) => of_long(value, seed),
        Form::Bytes(bytes) => of_bytes(bytes, seed),
    });
    rows.ints(|row| hashes(row).map(|hash| hash as i32))
}

fn of_value<H>(value: Value<'_>, is_long: bool, is_wide: bool, of: impl Fn(Form<'_>) -> H) -> H {
    match value {
        Value::Bool(value) => of(Form::Int(i32::from(value))),
        Value::Whole(value) if is_long => of(Form::Long(value)),
        Value::Whole(value) => of(Form::Int(value as i32)),
        Value::Date(days) => of(Form::Int(days)),
        Value::Time(micros) => of(Form::Long(micros)),
        Value::Float(value) => {
            let value = if value.is_nan() {
                f32::NAN.abs()
            } else {
                value + 0.0
            };
            of(Form::Int(value.to_bits() as i32))
        }
        Value::Double(value) => {
            let value = if value.is_nan() {
                f64::NAN.abs()
            } else {
                value + 0.0
            };
            of(Form::Long(value.to_bits() as i64))
        }
        Value::Decimal(value, _) if is_wide => of(Form::Bytes(least_bytes(&value.to_be_bytes()))),
        Value::Decimal(value, _) => of(Form::Long(value as i64)),
        Value::Text(text) => of(Form::Bytes(text.as_bytes())),
        Value::Bytes(bytes) => of(Form::Bytes(bytes)),
    }
}

/// The bytes of a number without those that its sign repeats, as `BigInteger` has them.
fn least_bytes(bytes: &[u8]) -> &[u8] {
    let mut bytes = bytes;
    while let [first, rest @ ..] = bytes {
        let repeats = match rest.first() {
            Some(next) => (*first == 0 && *next < 0x80) || (*first == 0xff && *next >= 0x80),
            None => false,
        };
        if !repeats {
            break;
        }
        bytes = rest;
    }
    bytes
}

fn mixed(word: u32) -> u32 {
    let word = word.wrapping_mul(0xcc9e_2d51).rotate_left(15);
    word.wrapping_mul(0x1b87_3593)
}

fn with(hash: u32, word: u32) -> u32 {
    let hash = (hash ^ mixed(word)).rotate_left(13);
    hash.wrapping_mul(5).wrapping_add(0xe654_6b64)
}

fn finished(hash: u32, length: u32) -> u32 {
    let mut hash = hash ^ length;
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

pub(super) fn of_int(value: i32, seed: u32) -> u32 {
    finished(with(seed, value as u32), 4)
}

fn of_long(value: i64, seed: u32) -> u32 {
    let low = value as u32;
    let high = (value >> 32) as u32;
    finished(with(with(seed, low), high), 8)
}

pub(super) fn of_bytes(bytes: &[u8], seed: u32) -> u32 {
    let mut words = bytes.chunks_exact(4);
    let mut hash = seed;
    for word in &mut words {
        let word = [word[0], word[1], word[2], word[3]];
        hash = with(hash, u32::from_le_bytes(word));
    }
    // Spark mixes each byte of the rest as a word of its own.
    for byte in words.remainder() {
        hash = with(hash, i32::from(*byte as i8) as u32);
    }
    finished(hash, bytes.len() as u32)
}
