//! The service's CBOR, by a library that the product does not use.
//!
//! Owns: requests from CBOR to JSON, responses from JSON to CBOR. Does not own: what they contain.
//! Rule: as the real service: payloads are bytes, times are tagged milliseconds, maps and arrays have
//! no length.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ciborium::Value as Cbor;
use serde_json::{Map, Value};

/// Media type of the service's CBOR.
pub const MEDIA_TYPE: &str = "application/x-amz-cbor-1.1";
/// Tag of a time.
const TIME: u64 = 1;

/// The JSON of a request; null if it is no CBOR.
pub fn request(bytes: &[u8]) -> Value {
    ciborium::from_reader::<Cbor, _>(bytes).map_or(Value::Null, to_json)
}

/// A value in JSON: bytes become base64, tags are dropped.
pub fn to_json(value: Cbor) -> Value {
    match value {
        Cbor::Integer(number) => match i64::try_from(number) {
            Ok(number) => number.into(),
            Err(_) => u64::try_from(number).map_or(Value::Null, Value::from),
        },
        Cbor::Float(number) => number.into(),
        Cbor::Bytes(bytes) => STANDARD.encode(bytes).into(),
        Cbor::Text(text) => text.into(),
        Cbor::Bool(flag) => flag.into(),
        Cbor::Array(items) => items.into_iter().map(to_json).collect(),
        Cbor::Map(pairs) => {
            let pair = |(key, value): (Cbor, Cbor)| Some((key.into_text().ok()?, to_json(value)));
            Value::Object(pairs.into_iter().filter_map(pair).collect::<Map<_, _>>())
        }
        Cbor::Tag(_, value) => to_json(*value),
        _ => Value::Null,
    }
}

/// The CBOR of a response that is JSON, with payloads in base64.
pub fn loose_response(json: &[u8]) -> Vec<u8> {
    let value: Value = serde_json::from_slice(json).unwrap_or_default();
    let mut out = Vec::with_capacity(json.len());
    let value = Cbor::serialized(&value).expect("JSON has a form in CBOR");
    item(&value, &mut out);
    out
}

/// The CBOR of a response that is JSON.
pub fn response(json: &[u8]) -> Vec<u8> {
    let value: Value = serde_json::from_slice(json).unwrap_or_default();
    let mut out = Vec::with_capacity(json.len());
    write(&value, "", &mut out);
    out
}

/// Writes one value, by the name that it has in its map.
fn write(value: &Value, name: &str, out: &mut Vec<u8>) {
    match (name, value) {
        ("Data", Value::String(encoded)) => {
            let bytes = STANDARD.decode(encoded).expect("the fake encoded it");
            item(&Cbor::Bytes(bytes), out);
        }
        ("ApproximateArrivalTimestamp", Value::Number(seconds)) => {
            let seconds = seconds.as_f64().unwrap_or_default();
            let ms = Cbor::Integer(((seconds * 1_000.0).round() as i64).into());
            item(&Cbor::Tag(TIME, Box::new(ms)), out);
        }
        (_, Value::Array(items)) => {
            out.push(0x9f);
            items.iter().for_each(|each| write(each, "", out));
            out.push(0xff);
        }
        (_, Value::Object(pairs)) => {
            out.push(0xbf);
            for (key, value) in pairs {
                item(&Cbor::Text(key.clone()), out);
                write(value, key, out);
            }
            out.push(0xff);
        }
        (_, simple) => {
            let simple = Cbor::serialized(simple).expect("a simple value is an item");
            item(&simple, out);
        }
    }
}

fn item(item: &Cbor, out: &mut Vec<u8>) {
    ciborium::into_writer(item, out).expect("memory takes what is written");
}
