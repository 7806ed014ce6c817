//! Records into rows with lists, maps and structs, against `serde_json`.
//!
//! Input: payloads, one per line.
//! Rule: a record of valid JSON is a row if bad values become null; a record's row does not depend on
//! its neighbours, nor on what the decoder remembers; a list of texts is what another parser reads.

use super::json::{PAYLOADS_MAX, Pairs, is_more_than_rfc_8259};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use serde_json::value::RawValue;
use streamctl_engine::catalog::arrow_schema;
use streamctl_engine::format::{Decoded, Decoder};
use streamctl_proto::resolved::{ColumnType, NestedColumns};
use streamctl_proto::spec::{OnBadValue, PayloadFormat, ValueRules};

const COLUMNS: [(&str, &str); 5] = [
    ("texts", "array<string>"),
    (
        "s",
        "struct<a:int,größe:string,n:struct<x:double,at:timestamp>>",
    ),
    ("ls", "array<struct<a:int,tags:array<string>,raw:binary>>"),
    ("m", "map<string,array<decimal(5,2)>>"),
    ("days", "map<date,boolean>"),
];

fn schema(types: impl Fn(&'static str) -> &'static str) -> SchemaRef {
    let column = |(name, type_name): (&str, &'static str)| ColumnType {
        name: name.to_owned(),
        type_name: types(type_name).to_owned(),
    };
    arrow_schema(&COLUMNS.map(column), NestedColumns::Typed).expect("these are types")
}

fn decoder(schema: SchemaRef, on_bad_value: OnBadValue) -> Decoder {
    let wanted: Vec<usize> = (0..COLUMNS.len()).collect();
    let rules = ValueRules {
        on_bad_value,
        ..ValueRules::default()
    };
    Decoder::new(&PayloadFormat::default(), schema, &wanted)
        .expect("all of these types are decoded")
        .with_values(&rules)
}

fn decode(decoder: &mut Decoder, payloads: &[&[u8]]) -> Decoded {
    decoder.decode_payloads(payloads.iter().copied())
}

pub fn nested(data: &[u8]) {
    let lines = data.split(|byte| *byte == b'\n');
    let payloads: Vec<&[u8]> = lines.take(PAYLOADS_MAX).collect();
    check(&payloads);
}

fn check(payloads: &[&[u8]]) {
    for rule in [OnBadValue::DeadLetter, OnBadValue::Null] {
        let mut remembering = decoder(schema(|type_name| type_name), rule);
        let together = decode(&mut remembering, payloads);
        let mut row = 0;
        for (index, payload) in payloads.iter().enumerate() {
            let alone = decode(&mut decoder(schema(|name| name), rule), &[*payload]);
            let bad = together.bad.iter().find(|bad| bad.index == index);
            assert_eq!(
                bad.map(|bad| &bad.reason),
                alone.bad.first().map(|bad| &bad.reason),
                "record {index}"
            );
            let rows = alone.batch.num_rows();
            assert_eq!(
                together.batch.slice(row, rows),
                alone.batch,
                "record {index} has other neighbours"
            );
            row += rows;
            if rule == OnBadValue::Null {
                let texts = decode(&mut decoder(schema(|_| "string"), rule), &[*payload]);
                assert_eq!(
                    texts.batch.num_rows(),
                    rows,
                    "a record of JSON is a row, whatever its values are"
                );
                if rows == 1 {
                    compare(payload, &alone.batch);
                }
            }
        }
        assert_eq!(row, together.batch.num_rows());
        let again = decode(&mut remembering, payloads);
        assert_eq!(
            (again.batch, again.bad),
            (together.batch, together.bad),
            "what is remembered changes nothing"
        );
    }
}

/// The list of texts of a record, and which columns are null.
fn compare(payload: &[u8], batch: &RecordBatch) {
    let Ok(text) = std::str::from_utf8(payload) else {
        return;
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if is_more_than_rfc_8259(text) {
        return;
    }
    let Ok(Pairs(pairs)) = serde_json::from_str(text) else {
        return;
    };
    let last = |same: &dyn Fn(&str) -> bool| pairs.iter().rfind(|(key, _)| same(key));
    let raw = |name: &str| {
        let found = last(&|key| key == name).or_else(|| last(&|key| key.to_lowercase() == name));
        found.map_or("null", |(_, raw)| raw.get())
    };
    assert_eq!(
        batch.column(1).is_valid(0),
        raw("s").starts_with('{'),
        "{text:?}: an object is a struct, and nothing else is"
    );
    let texts = batch.column(0).as_list::<i32>();
    let expected = raw("texts").starts_with('[');
    assert_eq!(texts.is_valid(0), expected, "{text:?}: an array is a list");
    if expected {
        let Ok(items) = serde_json::from_str::<Vec<Box<RawValue>>>(raw("texts")) else {
            return;
        };
        let found = texts.value(0);
        let found: Vec<Option<&str>> = found.as_string::<i32>().iter().collect();
        let items: Vec<Option<String>> = items.iter().map(|item| text_of(item.get())).collect();
        let items: Vec<Option<&str>> = items.iter().map(Option::as_deref).collect();
        assert_eq!(found, items, "{text:?}");
    }
}

fn text_of(raw: &str) -> Option<String> {
    match raw.as_bytes()[0] {
        b'n' => None,
        b'"' => serde_json::from_str(raw).ok(),
        _ => Some(raw.to_owned()),
    }
}
