//! Records into rows, against `serde_json` and the calendar of `chrono`.
//!
//! Input: payloads, one per line.
//! Rule: which record is a row, and every value of it, matches another parser; a record's row does
//! not depend on its neighbours.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{self as types, DataType, Field, Schema, TimeUnit};
use base64::Engine as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use std::sync::Arc;
use streamctl_engine::format::{Decoder, json::JSON_DEPTH_MAX};
use streamctl_proto::spec::PayloadFormat;

/// Most payloads of one input.
pub(super) const PAYLOADS_MAX: usize = 16;

fn columns() -> Vec<(&'static str, DataType)> {
    vec![
        ("text", DataType::Utf8),
        ("größe", DataType::Utf8),
        ("flag", DataType::Boolean),
        ("tiny", DataType::Int8),
        ("small", DataType::Int16),
        ("int", DataType::Int32),
        ("big", DataType::Int64),
        ("single", DataType::Float32),
        ("double", DataType::Float64),
        ("price", DataType::Decimal128(10, 2)),
        ("wide", DataType::Decimal128(38, 10)),
        ("day", DataType::Date32),
        ("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("raw", DataType::Binary),
    ]
}

fn decoder() -> Decoder {
    let fields: Vec<Field> = columns()
        .into_iter()
        .map(|(name, kind)| Field::new(name, kind, true))
        .collect();
    let wanted: Vec<usize> = (0..fields.len()).collect();
    let schema = Arc::new(Schema::new(fields));
    Decoder::new(&PayloadFormat::default(), schema, &wanted)
        .expect("all of these types are decoded")
}

/// Another parser's result for a value.
#[derive(Clone, Debug, PartialEq)]
enum Expected {
    Null,
    Text(String),
    Flag(bool),
    Exact(i128),
    Single(f32),
    Double(f64),
    Bytes(Vec<u8>),
    /// The other parser does not read it: it may be anything, or bad.
    Any,
}

/// Another parser's result for a record.
enum Opinion {
    Row(Vec<Expected>),
    Bad,
    /// None: it refuses a number that is valid JSON but too large for it.
    None,
}

pub fn json(data: &[u8]) {
    let payloads: Vec<&[u8]> = data
        .split(|byte| *byte == b'\n')
        .take(PAYLOADS_MAX)
        .collect();
    let mut remembering = decoder();
    let together = remembering.decode_payloads(payloads.iter().copied());
    let records = together.records_of_rows();
    let mut row = 0;
    for (index, payload) in payloads.iter().enumerate() {
        let alone = decoder().decode_payloads([*payload]);
        let bad = together.bad.iter().find(|bad| bad.index == index);
        assert_eq!(
            bad.map(|bad| &bad.reason),
            alone.bad.first().map(|bad| &bad.reason),
            "record {index}"
        );
        let rows = alone.batch.num_rows();
        assert_eq!(bad.is_none(), rows > 0, "record {index} is rows or bad");
        assert_eq!(
            together.batch.slice(row, rows),
            alone.batch,
            "record {index} has other neighbours"
        );
        assert!(records[row..row + rows].iter().all(|of| *of == index));
        row += rows;
        if rows > 1 {
            continue;
        }
        compare(
            payload,
            &alone.batch,
            alone.bad.first().map(|bad| bad.reason.as_str()),
        );
    }
    assert_eq!(row, together.batch.num_rows());
    let again = remembering.decode_payloads(payloads.iter().copied());
    assert_eq!(
        (again.batch, again.bad),
        (together.batch, together.bad),
        "what is remembered changes nothing"
    );
}

fn compare(payload: &[u8], batch: &RecordBatch, bad: Option<&str>) {
    let text = String::from_utf8_lossy(payload);
    match (opinion(payload), bad) {
        (Opinion::None, _) | (Opinion::Bad, Some(_)) => {}
        (Opinion::Bad, None) => panic!("{text:?} is no row, and was made one"),
        (Opinion::Row(row), Some(_)) if row.contains(&Expected::Any) => {}
        (Opinion::Row(row), Some(reason)) => {
            panic!("{text:?} is the row {row:?}, and was refused: {reason}")
        }
        (Opinion::Row(row), None) => {
            for ((expected, (name, _)), column) in row.iter().zip(columns()).zip(batch.columns()) {
                let found = value(column.as_ref());
                assert!(
                    same(expected, &found),
                    "{text:?}: {name} is {found:?}, should be {expected:?}"
                );
            }
        }
    }
}

fn same(one: &Expected, other: &Expected) -> bool {
    match (one, other) {
        (Expected::Any, _) => true,
        (Expected::Double(one), Expected::Double(other)) => one.to_bits() == other.to_bits(),
        (Expected::Single(one), Expected::Single(other)) => one.to_bits() == other.to_bits(),
        _ => one == other,
    }
}

fn value(column: &dyn Array) -> Expected {
    if column.is_null(0) {
        return Expected::Null;
    }
    match column.data_type() {
        DataType::Utf8 => Expected::Text(column.as_string::<i32>().value(0).to_owned()),
        DataType::Boolean => Expected::Flag(column.as_boolean().value(0)),
        DataType::Int8 => Expected::Exact(column.as_primitive::<types::Int8Type>().value(0).into()),
        DataType::Int16 => {
            Expected::Exact(column.as_primitive::<types::Int16Type>().value(0).into())
        }
        DataType::Int32 => {
            Expected::Exact(column.as_primitive::<types::Int32Type>().value(0).into())
        }
        DataType::Int64 => {
            Expected::Exact(column.as_primitive::<types::Int64Type>().value(0).into())
        }
        DataType::Float32 => Expected::Single(column.as_primitive::<types::Float32Type>().value(0)),
        DataType::Float64 => Expected::Double(column.as_primitive::<types::Float64Type>().value(0)),
        DataType::Decimal128(..) => {
            Expected::Exact(column.as_primitive::<types::Decimal128Type>().value(0))
        }
        DataType::Date32 => {
            Expected::Exact(column.as_primitive::<types::Date32Type>().value(0).into())
        }
        DataType::Timestamp(..) => Expected::Exact(
            column
                .as_primitive::<types::TimestampMicrosecondType>()
                .value(0)
                .into(),
        ),
        DataType::Binary => Expected::Bytes(column.as_binary::<i32>().value(0).to_vec()),
        other => panic!("no column has type {other}"),
    }
}

/// The keys and values of an object in their order, duplicates included.
pub(super) struct Pairs(pub Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Pairs;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = vec![];
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

fn opinion(payload: &[u8]) -> Opinion {
    let Ok(text) = std::str::from_utf8(payload) else {
        return Opinion::None;
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Pairs(pairs) = match serde_json::from_str(text) {
        Ok(pairs) => pairs,
        Err(_) if is_more_than_rfc_8259(text) => return Opinion::None,
        Err(_) => return Opinion::Bad,
    };
    if depth(text) > JSON_DEPTH_MAX {
        return Opinion::Bad;
    }
    for (_, raw) in &pairs {
        match serde_json::from_str::<serde_json::Value>(raw.get()) {
            Err(error) if error.to_string().contains("out of range") => return Opinion::None,
            Err(_) if is_more_than_rfc_8259(raw.get()) => return Opinion::None,
            Err(_) => return Opinion::Bad,
            Ok(_) => {}
        }
    }
    let mut row = vec![];
    for (name, kind) in columns() {
        let last = |same: &dyn Fn(&str) -> bool| pairs.iter().rfind(|(key, _)| same(key));
        let raw = last(&|key| key == name)
            .or_else(|| last(&|key| key.to_lowercase() == name))
            .map(|(_, raw)| raw.get());
        match raw.map_or(Some(Expected::Null), |raw| convert(raw, &kind)) {
            Some(expected) => row.push(expected),
            None => return Opinion::Bad,
        }
    }
    Opinion::Row(row)
}

/// Whether a text may have what the decoder takes and the other parser does not: halves of pairs of
/// surrogates, infinity, NaN.
pub(super) fn is_more_than_rfc_8259(text: &str) -> bool {
    let lower = text.to_lowercase();
    ["\\ud", "nan", "inf"]
        .iter()
        .any(|word| lower.contains(word))
}

/// Objects and arrays inside each other, in text that is JSON.
fn depth(text: &str) -> usize {
    let mut now = 0_usize;
    let mut most = 0;
    let mut quoted = false;
    let mut escaped = false;
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => now += 1,
            b'}' | b']' if !quoted => now -= 1,
            _ => {}
        }
        most = most.max(now);
    }
    most
}

/// The value of a column, if there is one.
fn convert(raw: &str, kind: &DataType) -> Option<Expected> {
    let first = raw.as_bytes()[0];
    let string =
        (first == b'"').then(|| serde_json::from_str::<String>(raw).expect("it was read before"));
    match (first, kind) {
        (b'n', _) => return Some(Expected::Null),
        (_, DataType::Utf8) => {
            return Some(Expected::Text(string.unwrap_or_else(|| raw.to_owned())));
        }
        (b'{' | b'[', _) => return None,
        (b't', DataType::Boolean) => return Some(Expected::Flag(true)),
        (b'f', DataType::Boolean) => return Some(Expected::Flag(false)),
        (b't' | b'f', _) => return None,
        _ => {}
    }
    let is_number = string.is_none();
    let owned = string.unwrap_or_else(|| raw.to_owned());
    let text = owned.trim_matches([' ', '\t', '\n', '\r', '\x0C']);
    if text.is_empty() && *kind != DataType::Binary {
        return Some(Expected::Null);
    }
    let within = |least: i64, most: i64| {
        let number = exact(text, 0)?;
        (i128::from(least)..=i128::from(most))
            .contains(&number)
            .then_some(Expected::Exact(number))
    };
    match kind {
        DataType::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" => Some(Expected::Flag(true)),
            "false" | "f" | "no" | "n" | "0" => Some(Expected::Flag(false)),
            _ => None,
        },
        DataType::Int8 => within(i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => within(i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => within(i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => within(i64::MIN, i64::MAX),
        DataType::Float32 => {
            let number: f32 = text.parse().ok()?;
            (number.is_finite() || !text.contains(|c: char| c.is_ascii_digit()))
                .then_some(Expected::Single(number))
        }
        DataType::Float64 => {
            let number: f64 = text.parse().ok()?;
            (number.is_finite() || !text.contains(|c: char| c.is_ascii_digit()))
                .then_some(Expected::Double(number))
        }
        DataType::Decimal128(precision, scale) => {
            // What is rounded has its tests beside the code.
            let Some(unscaled) = exact(text, (*scale).into()) else {
                return Some(Expected::Any);
            };
            (unscaled.unsigned_abs() < 10_u128.pow((*precision).into()))
                .then_some(Expected::Exact(unscaled))
        }
        DataType::Date32 if is_number => None,
        // Other forms have their tests beside the code.
        DataType::Date32 => Some(match date(text.as_bytes()) {
            Some(days) => Expected::Exact(days.into()),
            None => Expected::Any,
        }),
        DataType::Timestamp(..) if is_number => Some(match exact(text, 6) {
            Some(us) if us.unsigned_abs() < 100_000_000_000_000_000 => Expected::Exact(us),
            _ => Expected::Any,
        }),
        DataType::Timestamp(..) => Some(match timestamp_us(text) {
            Some(us) => Expected::Exact(us.into()),
            None => Expected::Any,
        }),
        DataType::Binary if is_number => None,
        DataType::Binary => base64::engine::general_purpose::STANDARD
            .decode(text)
            .ok()
            .map(Expected::Bytes),
        _ => None,
    }
}

/// A decimal number times `10^scale`, if that is a whole number of at most 38 digits: computed by
/// moving the point in the text.
fn exact(text: &str, scale: i64) -> Option<i128> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let exponent = match exponent {
        None => 0,
        Some(text) => {
            let size = text.strip_prefix(['+', '-']).unwrap_or(text);
            if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            // Values beyond a million make no difference to numbers of this length.
            let size = size.parse::<i64>().unwrap_or(1_000_000).min(1_000_000);
            if text.starts_with('-') { -size } else { size }
        }
    };
    let mut significant = digits.trim_start_matches('0').to_owned();
    if significant.is_empty() {
        return Some(0);
    }
    let mut point = exponent + scale - i64::try_from(fraction.len()).ok()?;
    while point < 0 && significant.ends_with('0') {
        significant.pop();
        point += 1;
    }
    if point < 0 || i64::try_from(significant.len()).ok()? + point > 39 {
        return None;
    }
    significant.extend(std::iter::repeat_n('0', usize::try_from(point).ok()?));
    let number: i128 = significant.parse().ok()?;
    Some(if text.starts_with('-') {
        -number
    } else {
        number
    })
}

fn number(digits: &[u8]) -> Option<u32> {
    let all = digits.iter().all(u8::is_ascii_digit);
    all.then(|| std::str::from_utf8(digits).ok()?.parse().ok())
        .flatten()
}

fn date(text: &[u8]) -> Option<i32> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *text else {
        return None;
    };
    let year = number(&[y1, y2, y3, y4]).filter(|year| *year > 0)?;
    let month = number(&[m1, m2])?;
    let day = number(&[d1, d2])?;
    let date = chrono::NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    i32::try_from(
        date.signed_duration_since(chrono::NaiveDate::default())
            .num_days(),
    )
    .ok()
}

fn timestamp_us(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let days = date(bytes.get(..10)?)?;
    let [b'T' | b't' | b' ', h1, h2, b':', m1, m2, b':', s1, s2] = *bytes.get(10..19)? else {
        return None;
    };
    let hours = number(&[h1, h2])?;
    let minutes = number(&[m1, m2])?;
    let seconds = number(&[s1, s2])?;
    let clock = chrono::NaiveTime::from_hms_opt(hours, minutes, seconds)?;
    let mut rest = &text[19..];
    let mut nanoseconds = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let end = fraction
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(fraction.len());
        if !(1..=9).contains(&end) {
            return None;
        }
        nanoseconds = format!("{:0<9}", &fraction[..end]).parse::<i64>().ok()?;
        rest = &fraction[end..];
    }
    let offset_s = match *rest.as_bytes() {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let hours = number(&[h1, h2])?;
            let minutes = number(&[m1, m2])?;
            if hours > 17 || minutes > 59 {
                return None;
            }
            let size = i64::from(hours * 3_600 + minutes * 60);
            if sign == b'-' { -size } else { size }
        }
        _ => return None,
    };
    let seconds = i64::from(chrono::Timelike::num_seconds_from_midnight(&clock));
    let utc_s = i64::from(days) * 86_400 + seconds - offset_s;
    let years = -62_135_596_800..253_402_300_800;
    years
        .contains(&utc_s)
        .then_some(utc_s * 1_000_000 + nanoseconds / 1_000)
}
