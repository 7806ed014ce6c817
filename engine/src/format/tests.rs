//! Decoding of records: a table of values, hostile inputs, and random JSON against serde_json.

use super::json::JSON_DEPTH_MAX;
use super::*;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, TimeUnit};
use streamctl_proto::spec::Decimals;

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, kind)| Field::new(*name, kind.clone(), false))
        .collect();
    Arc::new(Schema::new(fields))
}

fn text_schema(names: &[&str]) -> SchemaRef {
    schema(
        &names
            .iter()
            .map(|name| (*name, DataType::Utf8))
            .collect::<Vec<_>>(),
    )
}

fn json_decoder(schema: SchemaRef, wanted: &[usize]) -> Result<Decoder, DecodeError> {
    Decoder::new(&PayloadFormat::default(), schema, wanted)
}

fn all(schema: &SchemaRef) -> Decoder {
    json_decoder(
        schema.clone(),
        &(0..schema.fields().len()).collect::<Vec<_>>(),
    )
    .unwrap()
}

fn decode(decoder: &mut Decoder, payloads: &[&[u8]]) -> Decoded {
    decoder.decode_payloads(payloads.iter().copied())
}

fn texts(batch: &RecordBatch, column: usize) -> Vec<Option<String>> {
    let array = batch.column(column).as_string::<i32>();
    array.iter().map(|value| value.map(str::to_owned)).collect()
}

/// One value into one column: its display, `null`, or `bad`.
fn one(kind: &DataType, json: &str) -> String {
    let mut decoder = all(&schema(&[("c", kind.clone())]));
    let decoded = decode(&mut decoder, &[format!("{{\"c\":{json}}}").as_bytes()]);
    if !decoded.bad.is_empty() {
        assert_eq!(decoded.batch.num_rows(), 0);
        return "bad".into();
    }
    let column = decoded.batch.column(0);
    if column.is_null(0) {
        return "null".into();
    }
    arrow::util::display::array_value_to_string(column, 0).unwrap()
}

#[test]
fn a_sales_record_becomes_a_row() {
    let record = br#"{"uuid":"807206571","Country":"C\u00f4te d'Ivoire","ItemType":"Clothes","UnitsSold":"9217"}"#;
    let mut decoder = all(&text_schema(&[
        "uuid",
        "country",
        "itemtype",
        "unitssold",
        "absent",
    ]));
    let decoded = decode(&mut decoder, &[record, record]);
    assert!(decoded.bad.is_empty());
    let row: Vec<_> = (0..5)
        .map(|column| texts(&decoded.batch, column)[1].clone())
        .collect();
    let expected = [
        Some("807206571"),
        Some("Côte d'Ivoire"),
        Some("Clothes"),
        Some("9217"),
        None,
    ];
    assert_eq!(row, expected.map(|text| text.map(str::to_owned)));
}

#[test]
fn a_bad_record_never_costs_its_neighbours() {
    let kinds = [
        ("a", DataType::Utf8),
        ("n", DataType::Int32),
        ("b", DataType::Utf8),
    ];
    let mut decoder = all(&schema(&kinds));
    let payloads: [&[u8]; 5] = [
        br#"{"a":"1","n":1,"b":"x"}"#,
        br#"{"a":"2","n":"two","b":"x"}"#,
        br#"{"a":"3","n":3,"b":"x"#,
        b"",
        br#"{"a":"5","n":5,"b":"y"}"#,
    ];
    let decoded = decode(&mut decoder, &payloads);
    assert_eq!(
        texts(&decoded.batch, 0),
        [Some("1".into()), Some("5".into())]
    );
    assert_eq!(
        texts(&decoded.batch, 2),
        [Some("x".into()), Some("y".into())]
    );
    let bad: Vec<_> = decoded
        .bad
        .iter()
        .map(|bad| (bad.index, bad.reason.as_str()))
        .collect();
    assert_eq!(
        bad,
        [
            (1, "column n: \"two\" cannot become int"),
            (
                2,
                "not JSON: ends at byte 21 where the end of a string was expected"
            ),
            (3, "record is empty"),
        ]
    );
}

#[test]
fn values_become_their_columns_type_or_the_record_is_bad() {
    let decimal = DataType::Decimal128(5, 2);
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let table: &[(&DataType, &str, &str)] = &[
        (&DataType::Utf8, r#""a\"b""#, "a\"b"),
        (&DataType::Utf8, "1.50e+01", "1.50e+01"),
        (&DataType::Utf8, "true", "true"),
        (
            &DataType::Utf8,
            r#"[1, {"a" : "\n"}]"#,
            r#"[1, {"a" : "\n"}]"#,
        ),
        (&DataType::Utf8, "{}", "{}"),
        (&DataType::Utf8, r#""""#, ""),
        (&DataType::Utf8, "null", "null"),
        (&DataType::Int8, "127", "127"),
        (&DataType::Int8, "128", "bad"),
        (&DataType::Int16, "\"-32768\"", "-32768"),
        (&DataType::Int16, "32768", "bad"),
        (&DataType::Int32, "\" 12\\n\"", "12"),
        (&DataType::Int32, "12.0", "12"),
        (&DataType::Int32, "1.2e1", "12"),
        (&DataType::Int32, "12.5", "bad"),
        (&DataType::Int32, "\"NULL\"", "bad"),
        (&DataType::Int32, "true", "bad"),
        (&DataType::Int32, "[1]", "bad"),
        (&DataType::Int32, "2147483648", "bad"),
        (
            &DataType::Int64,
            "-9223372036854775808",
            "-9223372036854775808",
        ),
        (&DataType::Int64, "9223372036854775808", "bad"),
        (&DataType::Int64, "\"12abc\"", "bad"),
        (&DataType::Int64, "null", "null"),
        (&DataType::Float64, "0.1", "0.1"),
        (&DataType::Float64, "\"-1e3\"", "-1000.0"),
        (&DataType::Float64, "1e999", "bad"),
        (&DataType::Float64, "\"NaN\"", "NaN"),
        (&DataType::Float64, "\"-Infinity\"", "-inf"),
        (&DataType::Float32, "1e39", "bad"),
        (&DataType::Float32, "1.5", "1.5"),
        (&decimal, "\"109.28\"", "109.28"),
        (&decimal, "999.99", "999.99"),
        (&decimal, "1000", "bad"),
        (&decimal, "1.234", "1.23"),
        (&decimal, "999.995", "bad"),
        (&decimal, "1.230", "1.23"),
        (&decimal, "-0.05", "-0.05"),
        (&DataType::Boolean, "true", "true"),
        (&DataType::Boolean, "\"No\"", "false"),
        (&DataType::Boolean, "1", "true"),
        (&DataType::Boolean, "2", "bad"),
        (&DataType::Boolean, "\"maybe\"", "bad"),
        (&DataType::Date32, "\"2024-02-29\"", "2024-02-29"),
        (&DataType::Date32, "\"2023-02-29\"", "bad"),
        (&DataType::Date32, "19000", "bad"),
        (&time, "\"2026-11-24T00:45:00Z\"", "2026-11-24T00:45:00"),
        (
            &time,
            "\"2026-11-24 00:45:00.250\"",
            "2026-11-24T00:45:00.250",
        ),
        (
            &time,
            "\"2026-11-24T00:45:00+01:00\"",
            "2026-11-23T23:45:00",
        ),
        (&time, "1000", "1970-01-01T00:16:40"),
        (&time, "1000.25", "1970-01-01T00:16:40.250"),
        (&time, "\"1795481100\"", "bad"),
        (&time, "253402300799", "1978-01-11T21:31:40.799"),
        (&time, "true", "bad"),
        (&DataType::Binary, "\"AQI=\"", "0102"),
        (&DataType::Binary, "\"?\"", "bad"),
    ];
    for (kind, json, expected) in table {
        assert_eq!(one(kind, json), *expected, "{json} into {kind}");
    }
}

#[test]
fn hostile_records_are_bad_and_have_a_reason() {
    let deep = |levels: usize| format!("{{\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    let endless = format!("{{\"x\":{}", "[".repeat(100_000));
    let objects = format!("{{\"x\":{}1{}}}", "{\"a\":".repeat(64), "}".repeat(64));
    let too_deep = deep(JSON_DEPTH_MAX);
    let deepest = deep(JSON_DEPTH_MAX - 1);
    let bad: &[&[u8]] = &[
        b"",
        b"  \n",
        b"null",
        b"1",
        b"\"a\"",
        b"[]",
        b"[{}]",
        b"{",
        b"}",
        b"{} x",
        b"{}\0",
        b"\0{}",
        b"{\"a\"}",
        b"{\"a\":}",
        b"{\"a\":1,}",
        b"{,\"a\":1}",
        b"{\"a\":1 \"b\":2}",
        b"{a:1}",
        b"{'a':1}",
        b"{1:1}",
        b"{\"a\":\xFF}",
        br#"{"x":"\u12g4"}"#,
        br#"{"x":"\u12"#,
        br#"{"x":"\q"}"#,
        br#"{"x":"\"#,
        b"{\"x\":\"\n\"}",
        b"{\"x\":\"\x1F\"}",
        b"{\"x\":01}",
        b"{\"x\":1.}",
        b"{\"x\":.5}",
        b"{\"x\":-}",
        b"{\"x\":+1}",
        b"{\"x\":1e}",
        b"{\"x\":0x10}",
        b"{\"x\":nan}",
        b"{\"x\":INF}",
        b"{\"x\":-Inf}",
        b"{\"x\":+1}",
        b"{},{}",
        b"{}{}x",
        b"{}[]",
        b"{\"x\":tru}",
        b"{\"x\":True}",
        b"{\"x\":nulll}",
        b"{\"x\":[1,]}",
        b"{\"x\":[,1]}",
        b"{\"x\":[1}}",
        b"{\"x\":{\"y\":1]}",
        b"{\"x\":{\"y\"}}",
        b"{\"x\":{,}}",
        b"{\"x\":[1 2]}",
        b"{\"x\":1",
        b"{\"x\":[1",
        b"{\"x\":{\"y\":1",
        b"{\"x\":\"",
        b"{\"x\":1}\x0B",
        b"{\"x\":/**/1}",
        too_deep.as_bytes(),
        endless.as_bytes(),
        objects.as_bytes(),
    ];
    let mut decoder = all(&text_schema(&["a"]));
    let decoded = decode(&mut decoder, bad);
    let found: Vec<usize> = decoded.bad.iter().map(|bad| bad.index).collect();
    assert_eq!(found, (0..bad.len()).collect::<Vec<_>>());
    assert!(
        decoded
            .bad
            .iter()
            .all(|bad| !bad.reason.is_empty() && bad.reason.len() < 200)
    );
    let fine = decode(
        &mut decoder,
        &[
            deepest.as_bytes(),
            b" \r\n\t{ } \n",
            br#"{"":"","x":[{},[],{"a":[]}]}"#,
        ],
    );
    assert_eq!(
        (fine.batch.num_rows(), fine.bad.len()),
        (3, 0),
        "{:?}",
        fine.bad
    );
}

#[test]
fn p10_the_exact_name_counts_and_without_it_the_last_that_differs_in_case() {
    let mut decoder = all(&text_schema(&["country", "größe", "Id"]));
    let payloads: [&[u8]; 9] = [
        br#"{"Country":"a","COUNTRY":"b"}"#,
        "{\"GRÖSSE\":\"no\",\"Größe\":\"1\",\"countr\\u0059\":\"c\"}".as_bytes(),
        br#"{"country":"x","country":null}"#,
        br#"{"count":"1","countryy":"2"," country":"3"}"#,
        br#"{"country":"d","COUNTRY":"e"}"#,
        br#"{"COUNTRY":"e","country":"f","Country":"e"}"#,
        br#"{"country":null,"COUNTRY":"e"}"#,
        br#"{"Id":"1","id":"2","ID":"3"}"#,
        br#"{"id":"2","ID":"3"}"#,
    ];
    // What the decoder has met makes no difference.
    for _ in 0..2 {
        let decoded = decode(&mut decoder, &payloads);
        assert!(decoded.bad.is_empty());
        let texts = |column| texts(&decoded.batch, column);
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            texts(0)[..7],
            [some("b"), some("c"), None, None, some("d"), some("f"), None]
        );
        assert_eq!(texts(1)[1], some("1"));
        assert_eq!(texts(2)[7..], [some("1"), some("3")]);
    }
}

#[test]
fn p10_the_exact_name_is_that_of_the_source_not_the_query_s() {
    let schema = text_schema(&["id"]);
    let json = PayloadFormat::default();
    let mut decoder = Decoder::named(&json, &schema, &["Id"], &[0]).unwrap();
    let payloads: [&[u8]; 2] = [br#"{"Id":"1","id":"2"}"#, br#"{"id":"3","ID":"4"}"#];
    let decoded = decode(&mut decoder, &payloads);
    assert_eq!(
        texts(&decoded.batch, 0),
        [Some("1".into()), Some("4".into())]
    );
}

#[test]
fn p10_the_records_of_the_case_are_read_as_by_spark() {
    let mut decoder = all(&schema(&[
        ("id", DataType::Int32),
        ("note", DataType::Utf8),
    ]));
    let payloads: [&[u8]; 6] = [
        br#"{"id":1,"ID":2,"note":"both, upper last"}"#,
        br#"{"ID":2,"id":1,"note":"both, lower last"}"#,
        br#"{"id":3,"Id":null,"note":"null last"}"#,
        // Spark has NULL here: names differ in case in Glue's tables and records.
        br#"{"Id":4,"note":"one, mixed"}"#,
        br#"{"id":5,"id":6,"note":"true duplicate"}"#,
        br#"{"id":7,"ID":"x-7","note":"other type last"}"#,
    ];
    let decoded = decode(&mut decoder, &payloads);
    assert_eq!(decoded.bad, []);
    let ids = decoded
        .batch
        .column(0)
        .as_primitive::<arrow::datatypes::Int32Type>();
    assert_eq!(ids.values()[..], [1, 1, 3, 4, 6, 7]);
}

/// One record's outcome: its rows of an `id` and an `s`, or the reason.
fn outcome(payload: &[u8]) -> String {
    let mut decoder = all(&schema(&[("id", DataType::Int32), ("s", DataType::Utf8)]));
    let decoded = decode(&mut decoder, &[payload]);
    if let [bad] = &decoded.bad[..] {
        assert_eq!(decoded.batch.num_rows(), 0);
        return bad.reason.clone();
    }
    let shown = |row, column: usize| {
        let column = decoded.batch.column(column);
        match column.is_null(row) {
            true => "-".to_owned(),
            false => arrow::util::display::array_value_to_string(column, row).unwrap(),
        }
    };
    let rows =
        (0..decoded.batch.num_rows()).map(|row| format!("{} {}", shown(row, 0), shown(row, 1)));
    rows.collect::<Vec<_>>().join(", ")
}

#[test]
fn p11_each_object_of_a_record_is_a_row() {
    for (payload, expected) in [
        (&br#"{"id":1}"#[..], "1 -"),
        (br#"{"id":2}{"id":3}"#, "2 -, 3 -"),
        (br#"{"id":4} {"id":5}"#, "4 -, 5 -"),
        (
            b"{\"id\":1,\"s\":\"}{\"}\n{\"ID\":2}\r\n\t{}\n",
            "1 }{, 2 -, - -",
        ),
        (
            br#"{"id":6},{"id":7}"#,
            "something follows the JSON object at byte 8",
        ),
        (br#"[{"id":8},{"id":9}]"#, "a JSON array, not an object"),
        (
            b"{\"id\":11}\0",
            "something follows the JSON object at byte 9",
        ),
        (br#""{\"id\":12}""#, "not a JSON object"),
        (b"eyJpZCI6MTN9", "not a JSON object"),
        // Of a record with one bad object, no row is made.
        (
            br#"{"id":1}{"id":"x"}{"id":3}"#,
            "object 2, at byte 8: column id: \"x\" cannot become int",
        ),
        (
            br#"{"id":"x"} {"id":2}"#,
            "object 1, at byte 0: column id: \"x\" cannot become int",
        ),
        (
            br#"{"id":1}{"id":2"#,
            "object 2, at byte 8: not JSON: ends at byte 7 where a comma or the end of the object was expected",
        ),
        (
            br#"{"id":1}{"id":2}x"#,
            "object 2, at byte 8: something follows the JSON object at byte 8",
        ),
    ] {
        assert_eq!(
            outcome(payload),
            expected,
            "{}",
            String::from_utf8_lossy(payload)
        );
    }
    assert_eq!(
        outcome("{}".repeat(RECORD_OBJECTS_MAX).as_bytes())
            .matches("- -")
            .count(),
        RECORD_OBJECTS_MAX
    );
    assert_eq!(
        outcome("{}".repeat(RECORD_OBJECTS_MAX + 1).as_bytes()),
        "more than 10000 objects"
    );
}

#[test]
fn p11_the_record_of_each_row_is_known_and_rows_are_bounded() {
    let mut decoder = all(&text_schema(&["a"]));
    let payloads: [&[u8]; 5] = [b"{}{}{}", b"x", b"{}", b"{}{}", b"{}"];
    let decoded = decode(&mut decoder, &payloads);
    assert_eq!(decoded.further_rows(), 3);
    assert_eq!(decoded.records_of_rows(), [0, 0, 0, 2, 3, 3, 4]);
    let records = payloads.map(|data| Record {
        sequence: 1.into(),
        sub_sequence: 0,
        arrival_ms: 0,
        data: data.into(),
        origin: None,
        extra: None,
        foreign: crate::source::Foreign::No,
    });
    let (taken, decoded) = decoder.decode_first(&records, 4, usize::MAX);
    assert_eq!(
        (taken, decoded.batch.num_rows(), decoded.bad.len()),
        (3, 4, 1)
    );
    let mut decoder = decoder.with_compression(PayloadCompression::Auto);
    let (taken, decoded) = decoder.decode_first(&records, 4, usize::MAX);
    assert_eq!(
        (taken, decoded.batch.num_rows(), decoded.bad.len()),
        (3, 4, 1)
    );
}

#[test]
fn p13_a_byte_order_mark_is_skipped_and_another_encoding_named() {
    assert_eq!(outcome(b"\xEF\xBB\xBF{\"id\":1}"), "1 -");
    assert_eq!(outcome(b"\xEF\xBB\xBF {\"id\":1}{\"id\":2}"), "1 -, 2 -");
    assert_eq!(outcome(b"{\"id\":5}\r{\"id\":6}\r"), "5 -, 6 -");
    let utf_16 = "UTF-16; records are read as UTF-8";
    let little: Vec<u8> = "\u{feff}{\"id\":1}\n{\"id\":2}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let big: Vec<u8> = "\u{feff}{\"id\":1}\n{\"id\":2}"
        .encode_utf16()
        .flat_map(u16::to_be_bytes)
        .collect();
    for bytes in [little, big] {
        for line in bytes.split(|byte| *byte == b'\n') {
            assert_eq!(outcome(line), utf_16, "{line:x?}");
        }
    }
    // Elsewhere it is no mark.
    assert_eq!(
        outcome("{\"id\":1}\u{feff}".as_bytes()),
        "something follows the JSON object at byte 8"
    );
}

/// Answers of Spark 3.5.3 (`from_json` of text); it passes over what follows an object.
#[test]
fn p14_text_that_is_not_unicode_has_replacement_characters() {
    for (payload, expected) in [
        (&br#"{"id":1,"s":"pair \ud83d\ude00"}"#[..], "1 pair 😀"),
        (br#"{"id":2,"s":"cut \ud83d"}"#, "2 cut ?"),
        (
            br#"{"id":3,"s":"low first \ude00\ud83d"}"#,
            "3 low first ??",
        ),
        (b"{\"id\":5,\"s\":\"bad utf8 \xff\"}", "5 bad utf8 \u{fffd}"),
        (br#"{"id":6,"s":"nul \u0000 in it"}"#, "6 nul \0 in it"),
        (b"{\"id\":7,\"s\":\"latin \xe9\"}", "7 latin \u{fffd}"),
        (br#"{"id":9,"s":"line\u2028sep"}"#, "9 line\u{2028}sep"),
        (br#"{"id":10,"unread":"cut \ud83d"}"#, "10 -"),
        (b"{\"id\":11,\"unread\":\"\xff\"}", "11 -"),
        (b"{\"\xff\":1,\"id\":14}", "14 -"),
        (br#"{"id":21,"s":{"x":"\ud83d"}}"#, "21 {\"x\":\"\\ud83d\"}"),
        (
            b"{\"id\":4,\"s\":\"raw tab\there\"}",
            "not JSON at byte 20: expected no bare control character in a string",
        ),
        (
            br#"{"id":8,"s":"esc \x41"}"#,
            "not JSON at byte 18: expected a character that can be escaped",
        ),
    ] {
        assert_eq!(
            outcome(payload),
            expected,
            "{}",
            String::from_utf8_lossy(payload)
        );
    }
}

/// Answers of Spark 3.5.3, whose text of a bare one is in quotes; here it is as it is written.
#[test]
fn p06_infinity_and_not_a_number_need_no_quotes() {
    for (json, expected) in [
        ("NaN", "NaN"),
        ("Infinity", "inf"),
        ("-Infinity", "-inf"),
        ("+Infinity", "inf"),
        ("+INF", "inf"),
        ("-INF", "-inf"),
        ("\"NaN\"", "NaN"),
        ("\"-Infinity\"", "-inf"),
        ("1e309", "bad"),
        ("nan", "bad"),
        ("INF", "bad"),
        ("NaNx", "bad"),
    ] {
        assert_eq!(one(&DataType::Float64, json), expected, "{json}");
        assert_eq!(one(&DataType::Float32, json), expected, "{json}");
    }
    for kind in [
        DataType::Int32,
        DataType::Boolean,
        DataType::Decimal128(10, 2),
        DataType::Date32,
        DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Binary,
    ] {
        assert_eq!(one(&kind, "NaN"), "bad", "{kind}");
        assert_eq!(one(&kind, "-Infinity"), "bad", "{kind}");
    }
    assert_eq!(one(&DataType::Utf8, "NaN"), "NaN");
    assert_eq!(one(&DataType::Utf8, "[NaN, -INF]"), "[NaN, -INF]");
}

/// Spark 3.5.3 has NULL for all of these, and an empty value for binary.
#[test]
fn p08_an_empty_text_is_null_for_every_type_but_text_and_binary() {
    for kind in [
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::Float32,
        DataType::Float64,
        DataType::Boolean,
        DataType::Decimal128(10, 2),
        DataType::Date32,
        DataType::Timestamp(TimeUnit::Microsecond, None),
    ] {
        for empty in ["\"\"", "\" \"", "\"\\t\""] {
            assert_eq!(one(&kind, empty), "null", "{empty} into {kind}");
        }
    }
    assert_eq!(one(&DataType::Utf8, "\"\""), "");
    assert_eq!(one(&DataType::Binary, "\"\""), "");
}

fn with_rules(columns: &[(&str, DataType)], rules: ValueRules) -> Decoder {
    all(&schema(columns)).with_values(&rules)
}

#[test]
fn p04_decimals_are_rounded_or_exact() {
    let of = |decimals, json: &str| {
        let rules = ValueRules {
            decimals,
            ..ValueRules::default()
        };
        let mut decoder = with_rules(&[("c", DataType::Decimal128(10, 2))], rules);
        let decoded = decode(&mut decoder, &[format!("{{\"c\":{json}}}").as_bytes()]);
        match decoded.bad.is_empty() {
            true => {
                arrow::util::display::array_value_to_string(decoded.batch.column(0), 0).unwrap()
            }
            false => "bad".to_owned(),
        }
    };
    for (json, rounded, exact) in [
        ("19.99", "19.99", "19.99"),
        ("19.990000000000002", "19.99", "bad"),
        ("0.30000000000000004", "0.30", "bad"),
        ("12.505", "12.51", "bad"),
        ("-12.505", "-12.51", "bad"),
        ("\"12.505\"", "12.51", "bad"),
        ("\"12.50 \"", "12.50", "12.50"),
        ("1e2", "100.00", "100.00"),
        ("1.5E-1", "0.15", "0.15"),
        ("99999999.99", "99999999.99", "99999999.99"),
        ("99999999.995", "bad", "bad"),
        ("100000000.00", "bad", "bad"),
        ("-0.0", "0.00", "0.00"),
        ("1e-400", "0.00", "bad"),
        ("1234567890123456789012345678901234567890", "bad", "bad"),
        // Spark takes out every comma: 1,5 would be 15.
        ("\"1,234.50\"", "bad", "bad"),
        ("\"$3\"", "bad", "bad"),
    ] {
        assert_eq!(of(Decimals::Round, json), rounded, "{json}");
        assert_eq!(of(Decimals::Exact, json), exact, "{json}");
    }
}

#[test]
fn a_bad_value_is_null_and_counted_if_the_job_allows_it() {
    let columns = [
        ("id", DataType::Int32),
        ("price", DataType::Decimal128(10, 2)),
        ("s", DataType::Utf8),
    ];
    let rules = ValueRules {
        on_bad_value: OnBadValue::Null,
        ..ValueRules::default()
    };
    let mut decoder = with_rules(&columns, rules);
    let payloads: [&[u8]; 7] = [
        br#"{"id":1,"price":"1.10","s":"a"}"#,
        br#"{"id":"x","price":"1.10","s":"b"}"#,
        br#"{"id":"x","price":"y"}"#,
        br#"{"id":"","price":null}"#,
        br#"{"id":"x""#,
        br#"{"id":"x"}{"id":2}"#,
        br#"{"id":"x"}{"id":"y"}z"#,
    ];
    for _ in 0..2 {
        let decoded = decode(&mut decoder, &payloads);
        let null = |column: &str, values| NullValues {
            column: column.to_owned(),
            values,
        };
        assert_eq!(decoded.nulls, [null("id", 3), null("price", 1)]);
        assert_eq!(
            decoded.bad.iter().map(|bad| bad.index).collect::<Vec<_>>(),
            [4, 6]
        );
        let ids = decoded
            .batch
            .column(0)
            .as_primitive::<arrow::datatypes::Int32Type>();
        assert_eq!(
            ids.iter().collect::<Vec<_>>(),
            [Some(1), None, None, None, None, Some(2)]
        );
    }
}

#[test]
fn p09_a_row_of_a_file_that_does_not_fit_is_named() {
    let format = PayloadFormat::Json(streamctl_proto::spec::JsonFormat { of_rows: true });
    let mut decoder = Decoder::new(&format, text_schema(&["a"]), &[0]).unwrap();
    let payloads: [&[u8]; 4] = [
        br#"{"a":"1"}"#,
        b"8,1,2.00,Oslo",
        b"9,1,2.00,Oslo,\"extra,\",field",
        b"x",
    ];
    let decoded = decode(&mut decoder, &payloads);
    let reasons: Vec<_> = decoded.bad.iter().map(|bad| bad.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "the row has 4 fields, not as many as the header of its file",
            "the row has 6 fields, not as many as the header of its file",
            "the row has 1 field, not as many as the header of its file",
        ]
    );
}

#[test]
fn keys_that_were_seen_are_known_again_however_they_are_written() {
    let mut decoder = all(&text_schema(&[
        "a",
        "ab",
        "a_key_of_more_than_sixteen_bytes",
    ]));
    let written = [
        r#"{"a":"1","ab":"2","a_key_of_more_than_sixteen_bytes":"3"}"#,
        r#"{"a": "1", "ab":   "2", "a_key_of_more_than_sixteen_bytes" : "3" }"#,
        "{ \"a\"\n:\t\"1\",\"ab\" :\"2\",\r\n\"a_key_of_more_than_sixteen_bytes\":\"3\"}",
        r#"{"ab":"2","a":"1","a_key_of_more_than_sixteen_bytes":"3"}"#,
        r#"{"a_key_of_more_than_sixteen_bytez":"0","A":"1","\u0061b":"2","a_key_of_more_than_sixteen_byteS":"3"}"#,
    ];
    let payloads: Vec<&[u8]> = written
        .iter()
        .chain(&written)
        .map(|text| text.as_bytes())
        .collect();
    let decoded = decode(&mut decoder, &payloads);
    assert_eq!(
        (decoded.batch.num_rows(), decoded.bad),
        (payloads.len(), vec![])
    );
    for (column, value) in ["1", "2", "3"].into_iter().enumerate() {
        assert_eq!(
            texts(&decoded.batch, column),
            vec![Some(value.to_owned()); payloads.len()]
        );
    }
    // A key that begins like one that is known, and a known one without its colon.
    let others: [&[u8]; 2] = [br#"{"a""#, br#"{"a"#];
    assert_eq!(decode(&mut decoder, &others).bad.len(), 2);
}

#[test]
fn a_value_that_is_overwritten_need_not_fit() {
    assert_eq!(one(&DataType::Int32, "\"x\",\"c\":5"), "5");
    assert_eq!(one(&DataType::Int32, "5,\"c\":\"x\""), "bad");
    assert_eq!(one(&DataType::Int32, "5,\"C\":\"x\""), "5");
}

#[test]
fn unused_columns_are_skipped_but_must_be_json() {
    let schema = schema(&[
        ("a", DataType::Utf8),
        ("n", DataType::Int32),
        ("b", DataType::Utf8),
    ]);
    let mut decoder = json_decoder(schema.clone(), &[2, 0]).unwrap();
    let decoded = decode(
        &mut decoder,
        &[br#"{"a":"1","n":"two","b":"3"}"#, br#"{"a":"1","n":two}"#],
    );
    assert_eq!(
        decoded
            .batch
            .schema()
            .fields()
            .iter()
            .map(|f| f.name().as_str())
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!((decoded.batch.num_rows(), decoded.bad.len()), (1, 1));
    let mut none = json_decoder(schema, &[]).unwrap();
    let decoded = decode(&mut none, &[b"{}", b"{\"a\":1}", b"x"]);
    assert_eq!(
        (
            decoded.batch.num_rows(),
            decoded.batch.num_columns(),
            decoded.bad.len()
        ),
        (2, 0, 1)
    );
}

#[test]
fn a_schema_that_cannot_be_decoded_into_is_refused() {
    let list = DataType::List(Arc::new(Field::new("item", DataType::UInt32, true)));
    for refused in [list, DataType::UInt32] {
        assert!(matches!(
            json_decoder(schema(&[("a", refused)]), &[0]),
            Err(DecodeError::Type { .. })
        ));
    }
    assert!(matches!(
        json_decoder(text_schema(&["a", "A"]), &[0, 1]),
        Err(DecodeError::Twice { .. })
    ));
    assert!(matches!(
        json_decoder(text_schema(&["a"]), &[1]),
        Err(DecodeError::Index { .. })
    ));
}

#[test]
fn a_bad_value_is_shown_shortened() {
    let mut decoder = all(&schema(&[("n", DataType::Int64)]));
    let decoded = decode(
        &mut decoder,
        &[format!("{{\"n\":\"{}\"}}", "é".repeat(10_000)).as_bytes()],
    );
    assert_eq!(
        decoded.bad[0].reason,
        format!(
            "column n: \"{}…\" cannot become bigint",
            "é".repeat(VALUE_CHARS_MAX)
        )
    );
}

#[test]
fn a_record_of_a_mebibyte_is_a_row() {
    let long = "0123456789abcde\\n".repeat(1 << 16);
    let record = format!("{{\"a\":\"{long}\",\"b\":1}}");
    let decoded = decode(&mut all(&text_schema(&["b", "a"])), &[record.as_bytes()]);
    assert_eq!(
        texts(&decoded.batch, 1)[0].as_ref().unwrap(),
        &long.replace("\\n", "\n")
    );
    let keys: String = (0..50_000).map(|n| format!("\"k{n}\":{n},")).collect();
    let record = format!("{{{keys}\"b\":\"last\"}}");
    let decoded = decode(
        &mut all(&text_schema(&["b"])),
        &[record.as_bytes(), record.as_bytes()],
    );
    assert_eq!(
        texts(&decoded.batch, 0),
        [Some("last".into()), Some("last".into())]
    );
}

/// Strings of every length and offset, so that each lane of the eight-byte step is hit.
#[test]
fn a_quote_is_found_wherever_it_stands() {
    let mut decoder = all(&text_schema(&["a"]));
    for length in 0..40 {
        for filler in [
            'x', ' ', '!', '#', '[', ']', '\u{7f}', 'é', '\u{2028}', '😀',
        ] {
            let text: String = std::iter::repeat_n(filler, length).collect();
            let record = format!("{{\"a\":\"{text}\",\"z\":\"{text}\\\\\"}}");
            let decoded = decode(&mut decoder, &[record.as_bytes()]);
            assert_eq!(texts(&decoded.batch, 0), [Some(text)], "{record}");
        }
    }
}

mod random {
    //! Random JSON: what serde_json takes we take, and the values are the same.

    use super::*;
    use serde_json::value::RawValue;

    fn string(rng: &mut fastrand::Rng, out: &mut String) {
        let pieces = [
            "a",
            "B",
            "Country",
            " ",
            "é",
            "日本",
            "😀",
            "\\n",
            "\\\"",
            "\\\\",
            "\\/",
            "\\u0041",
            "\\u00e9",
            "\\ud83d\\ude00",
            "\\b\\f\\r\\t",
            "{",
            "]",
            ":",
            ",",
        ];
        out.push('"');
        for _ in 0..rng.usize(0..6) {
            out.push_str(pieces[rng.usize(0..pieces.len())]);
        }
        out.push('"');
    }

    fn blank(rng: &mut fastrand::Rng, out: &mut String) {
        out.push_str(["", "", "", " ", "\n", "\t ", "\r\n"][rng.usize(0..7)]);
    }

    fn value(rng: &mut fastrand::Rng, depth: usize, out: &mut String) {
        match rng.u8(0..if depth == 0 { 6 } else { 8 }) {
            0 => out.push_str("null"),
            1 => out.push_str(if rng.bool() { "true" } else { "false" }),
            2 => out.push_str(&rng.i64(..).to_string()),
            3 => {
                out.push_str(["0", "-0", "1.5", "-1.25e-3", "1E+2", "0.0", "10e0"][rng.usize(0..7)])
            }
            4 | 5 => string(rng, out),
            6 => {
                out.push('[');
                for index in 0..rng.usize(0..4) {
                    out.push_str(if index > 0 { "," } else { "" });
                    blank(rng, out);
                    value(rng, depth - 1, out);
                    blank(rng, out);
                }
                out.push(']');
            }
            _ => object(rng, depth - 1, out),
        }
    }

    fn object(rng: &mut fastrand::Rng, depth: usize, out: &mut String) {
        out.push('{');
        blank(rng, out);
        for index in 0..rng.usize(0..6) {
            out.push_str(if index > 0 { "," } else { "" });
            blank(rng, out);
            match rng.u8(0..4) {
                0 => out.push_str(["\"a\"", "\"A\"", "\"\\u0061\""][rng.usize(0..3)]),
                1 => out.push_str(["\"bb\"", "\"Bb\"", "\"bB\""][rng.usize(0..3)]),
                _ => string(rng, out),
            }
            blank(rng, out);
            out.push(':');
            blank(rng, out);
            value(rng, depth, out);
            blank(rng, out);
        }
        out.push('}');
    }

    /// Key and value pairs in order, duplicates kept.
    struct Pairs(Vec<(String, Box<RawValue>)>);

    impl<'de> serde::Deserialize<'de> for Pairs {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Pairs;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(
                    self,
                    mut map: A,
                ) -> Result<Pairs, A::Error> {
                    let mut pairs = Vec::new();
                    while let Some(pair) = map.next_entry()? {
                        pairs.push(pair);
                    }
                    Ok(Pairs(pairs))
                }
            }
            deserializer.deserialize_map(Visitor)
        }
    }

    /// The expected value of a text column.
    fn expected(pairs: &Pairs, column: &str) -> Option<String> {
        let all = || pairs.0.iter();
        let last = all()
            .rfind(|(key, _)| key == column)
            .or_else(|| all().rfind(|(key, _)| key.to_lowercase() == column))?;
        match last.1.get() {
            "null" => None,
            text if text.starts_with('"') => Some(serde_json::from_str(text).unwrap()),
            text => Some(text.to_owned()),
        }
    }

    fn compare(decoder: &mut Decoder, payload: &[u8], seed: u64) {
        let decoded = decode(decoder, &[payload]);
        let shown = replaced(payload);
        let payload = shown.as_bytes();
        let value = serde_json::from_slice::<serde_json::Value>(payload);
        // Valid JSON: the column decides whether 1e999 fits, half a pair of surrogates is replaced,
        // and several objects are several rows.
        let differs = ["number out of range", "surrogate", "hex escape"];
        let message = value.as_ref().err().map(ToString::to_string);
        if message.is_some_and(|message| differs.iter().any(|word| message.contains(word)))
            || !decoded.several.is_empty()
        {
            return;
        }
        let valid = value.is_ok_and(|value| value.is_object());
        assert_eq!(
            decoded.bad.is_empty(),
            valid,
            "seed {seed}: {shown}: {:?}",
            decoded.bad
        );
        if valid {
            let pairs: Pairs = serde_json::from_slice(payload).unwrap();
            for (index, name) in ["a", "bb"].into_iter().enumerate() {
                assert_eq!(
                    texts(&decoded.batch, index)[0],
                    expected(&pairs, name),
                    "seed {seed}: {name} of {shown}"
                );
            }
        }
    }

    #[test]
    fn random_objects_decode_as_serde_json_reads_them() {
        let mut decoder = all(&text_schema(&["a", "bb"]));
        for seed in 0..20_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut text = String::new();
            object(&mut rng, 4, &mut text);
            compare(&mut decoder, text.as_bytes(), seed);
        }
    }

    /// I.e. whether its neighbours are good or bad changes nothing for a record.
    #[test]
    fn records_decode_together_as_they_do_alone() {
        let kinds = [
            ("a", DataType::Utf8),
            ("bb", DataType::Int64),
            ("country", DataType::Boolean),
        ];
        let schema = schema(&kinds);
        let mut together = all(&schema);
        let mut good = 0;
        for seed in 0..300 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let payloads: Vec<Vec<u8>> = (0..rng.usize(0..60))
                .map(|_| {
                    let mut text = String::new();
                    object(&mut rng, 2, &mut text);
                    text.truncate(if rng.u8(0..8) == 0 { 1 } else { text.len() });
                    text.into_bytes()
                })
                .collect();
            let decoded = together.decode_payloads(payloads.iter().map(Vec::as_slice));
            let alone: Vec<Decoded> = payloads
                .iter()
                .map(|payload| decode(&mut all(&schema), &[payload]))
                .collect();
            let rows = arrow::compute::concat_batches(
                together.schema(),
                alone.iter().map(|one| &one.batch),
            )
            .unwrap();
            assert_eq!(decoded.batch, rows, "seed {seed}");
            let bad = alone
                .iter()
                .enumerate()
                .flat_map(|(index, one)| one.bad.iter().map(move |bad| (index, &bad.reason)));
            assert!(
                bad.eq(decoded.bad.iter().map(|bad| (bad.index, &bad.reason))),
                "seed {seed}"
            );
            good += rows.num_rows();
        }
        assert!(good > 1_000, "{good}");
    }

    /// Changes, removes or inserts one byte, or truncates the rest.
    #[test]
    fn damaged_objects_are_refused_exactly_where_serde_json_refuses_them() {
        let mut decoder = all(&text_schema(&["a", "bb"]));
        for seed in 0..40_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut text = String::new();
            object(&mut rng, 3, &mut text);
            let mut bytes = text.into_bytes();
            let at = rng.usize(0..bytes.len());
            let byte = *b"{}[]:,\"\\u0aeE+-. \n\x01\x80\xC3\xFF"
                .get(rng.usize(0..24))
                .unwrap_or(&b'x');
            match rng.u8(0..4) {
                0 => bytes[at] = byte,
                1 => _ = bytes.remove(at),
                2 => bytes.insert(at, byte),
                _ => bytes.truncate(at),
            }
            compare(&mut decoder, &bytes, seed);
        }
    }
}

#[test]
fn a_payload_that_is_large_unpacked_waits_for_room_and_its_neighbours_do_not() {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, true)]));
    let decoder = json_decoder(schema, &[0])
        .unwrap()
        .with_compression(PayloadCompression::Auto);
    let mut decoder = decoder.with_unpacked_bytes(1_000);
    let large = format!(r#"{{"id": "{}"}}"#, "x".repeat(100_000));
    let packed = |data: &[u8]| unpack::tests::gzip(data).into();
    let record = |data| Record {
        sequence: 1.into(),
        sub_sequence: 0,
        arrival_ms: 0,
        data,
        origin: None,
        extra: None,
        foreign: crate::source::Foreign::No,
    };
    let records = [
        record(packed(br#"{"id": "a"}"#)),
        record(packed(large.as_bytes())),
        record(packed(b"{}")),
    ];
    let (count, decoded) = decoder.decode_first(&records, 10, 1 << 20);
    assert_eq!(
        (count, decoded.batch.num_rows()),
        (1, 1),
        "up to the large one"
    );
    let (count, decoded) = decoder.decode_first(&records[1..], 10, 1 << 20);
    assert_eq!(
        (count, decoded.batch.num_rows(), decoded.bad.len()),
        (0, 0, 0)
    );
    assert!(
        decoder.decode_large(&records[1], 50_000).is_none(),
        "another worker has more room"
    );
    assert_eq!(
        decoder
            .decode_large(&records[1], 200_000)
            .unwrap()
            .batch
            .num_rows(),
        1
    );
    let bomb = record(packed(&vec![b' '; unpack::UNPACKED_BYTES_MAX + 1]));
    let mut broken = unpack::tests::gzip(large.as_bytes());
    broken.truncate(broken.len() - 3);
    for bad in [bomb, record(broken.into())] {
        for bytes_max in [50_000, usize::MAX] {
            let refused = decoder.decode_large(&bad, bytes_max).unwrap();
            assert_eq!(
                refused.bad.len(),
                1,
                "no worker can decode it: it is a dead letter on each"
            );
        }
    }
    let (count, decoded) = decoder.decode_first(&records[2..], 10, 1 << 20);
    assert_eq!((count, decoded.batch.num_rows()), (1, 1));
}

#[test]
fn rows_of_csv_become_the_types_of_their_columns() {
    let format = PayloadFormat::Csv(streamctl_proto::spec::CsvFormat {
        delimiter: ',',
        quote: '"',
        null_text: String::new(),
    });
    let schema = schema(&[
        ("name", DataType::Utf8),
        ("amount", DataType::Decimal128(10, 2)),
        ("at", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("good", DataType::Boolean),
        ("count", DataType::Int32),
    ]);
    let mut decoder = Decoder::new(&format, schema, &[0, 1, 2, 4]).unwrap();
    let decoded = decode(
        &mut decoder,
        &[
            b"\"a, b\",12.50,2026-11-24 00:45:00,yes,7",
            b",,,,",
            b"c,1,2026-11-24T00:45:00Z,no,x",
            b"too,few",
            b"d,\xff,,,",
            b"\xff,1,,,1",
            b"e,,,never read,8\n",
        ],
    );
    let texts = texts(&decoded.batch, 0);
    assert_eq!(
        texts,
        [
            Some("a, b".into()),
            None,
            Some("\u{fffd}".into()),
            Some("e".into())
        ]
    );
    let counts = decoded
        .batch
        .column(3)
        .as_primitive::<arrow::datatypes::Int32Type>();
    assert_eq!(
        counts.iter().collect::<Vec<_>>(),
        [Some(7), None, Some(1), Some(8)]
    );
    let amounts = decoded
        .batch
        .column(1)
        .as_primitive::<arrow::datatypes::Decimal128Type>();
    assert_eq!(amounts.value(0), 1_250);
    let bad: Vec<_> = decoded
        .bad
        .iter()
        .map(|bad| (bad.index, bad.reason.as_str()))
        .collect();
    assert_eq!(
        bad,
        [
            (2, "column count: \"x\" cannot become int"),
            (3, "the row has 2 fields, the source 5 columns"),
            (4, "column amount: \"\u{fffd}\" cannot become decimal(10,2)"),
        ]
    );
}
