//! Columns of objects and arrays: the cases of P17, and many made ones against a slow model.

use crate::catalog::arrow_schema;
use crate::format::json::scan::JSON_DEPTH_MAX;
use crate::format::{Decoded, Decoder, NESTED_VALUES_MAX};
use crate::source::{Foreign, Record};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::array_value_to_string;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use streamctl_proto::resolved::{ColumnType, NestedColumns};
use streamctl_proto::spec::{OnBadValue, PayloadFormat, ValueRules};

fn rules(on_bad_value: OnBadValue) -> ValueRules {
    ValueRules {
        on_bad_value,
        ..ValueRules::default()
    }
}

fn decoder(columns: &[(&str, &str)], on_bad_value: OnBadValue) -> Decoder {
    let column = |(name, type_name): &(&str, &str)| ColumnType {
        name: (*name).into(),
        type_name: (*type_name).into(),
    };
    let columns: Vec<ColumnType> = columns.iter().map(column).collect();
    let schema = arrow_schema(&columns, NestedColumns::Typed).unwrap();
    let wanted: Vec<usize> = (0..columns.len()).collect();
    Decoder::new(&PayloadFormat::default(), schema, &wanted)
        .unwrap()
        .with_values(&rules(on_bad_value))
}

fn decode(decoder: &mut Decoder, records: &[&str]) -> Decoded {
    decoder.decode_payloads(records.iter().map(|record| record.as_bytes()))
}

/// A value as a text that distinguishes NULL from a struct of NULLs.
fn shown(array: &ArrayRef, row: usize) -> String {
    if array.is_null(row) {
        return "NULL".into();
    }
    match array.data_type() {
        DataType::Struct(_) => {
            let columns = array.as_struct().columns().iter();
            let fields: Vec<String> = columns.map(|column| shown(column, row)).collect();
            format!("({})", fields.join(","))
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let items: Vec<String> = (0..items.len()).map(|item| shown(&items, item)).collect();
            format!("[{}]", items.join(","))
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let entry = |at| {
                let key = shown(entries.column(0), at);
                format!("{key}={}", shown(entries.column(1), at))
            };
            let entries: Vec<String> = (0..entries.len()).map(entry).collect();
            format!("{{{}}}", entries.join(","))
        }
        _ => array_value_to_string(array, row).unwrap(),
    }
}

/// The rows, a text for each.
fn rows(decoded: &Decoded) -> Vec<String> {
    let row = |row| {
        let columns = decoded.batch.columns().iter();
        let values: Vec<String> = columns.map(|column| shown(column, row)).collect();
        values.join(" | ")
    };
    (0..decoded.batch.num_rows()).map(row).collect()
}

fn reasons(decoded: &Decoded) -> Vec<(usize, &str)> {
    let bad = decoded.bad.iter();
    bad.map(|bad| (bad.index, bad.reason.as_str())).collect()
}

/// The table and the records of P17.
const EVENTS: [(&str, &str); 6] = [
    ("id", "int"),
    (
        "customer",
        "struct<id:string,address:struct<City:string,zip:int>>",
    ),
    (
        "items",
        "array<struct<sku:string,qty:int,price:decimal(10,2)>>",
    ),
    ("tags", "array<string>"),
    ("attrs", "map<string,string>"),
    ("raw", "string"),
];
const RECORDS: [&str; 6] = [
    r#"{"id":1,"customer":{"id":"c1","address":{"City":"Oslo","zip":"0150"}},"items":[{"sku":"a","qty":2,"price":1.10},{"sku":"b","qty":1,"price":20}],"tags":["red","big, \"new\""],"attrs":{"k 1":"v1","K 1":"V1"},"raw":"{\"x\":1}"}"#,
    r#"{"id":2,"customer":null,"items":[],"tags":[],"attrs":{}}"#,
    r#"{"id":3,"items":null,"tags":null}"#,
    r#"{"id":4,"customer":{"ID":"c4"},"items":{"sku":"not a list"},"tags":"not a list","attrs":[1]}"#,
    r#"{"id":5,"customer":{"id":12345678901234567890123,"address":{"City":1.0,"zip":9223372036854775808}},"tags":[1.0,1e3,null,true]}"#,
    r#"{"id":6,"customer":{"id":"first","id":"second"},"items":[ { "sku" : "spaced" } ],"raw":{"a": [1, 2.50]}}"#,
];

#[test]
fn p17_objects_and_arrays_are_structs_lists_and_maps() {
    let mut strict = decoder(&EVENTS, OnBadValue::DeadLetter);
    let decoded = decode(&mut strict, &RECORDS);
    assert_eq!(
        rows(&decoded),
        [
            r#"1 | (c1,(Oslo,150)) | [(a,2,1.10),(b,1,20.00)] | [red,big, "new"] | {k 1=v1,K 1=V1} | {"x":1}"#,
            "2 | NULL | [] | [] | {} | NULL",
            "3 | NULL | NULL | NULL | NULL | NULL",
            r#"6 | (second,NULL) | [(spaced,NULL,NULL)] | NULL | NULL | {"a": [1, 2.50]}"#,
        ]
    );
    assert_eq!(
        reasons(&decoded),
        [
            (
                3,
                r#"column items: {"sku":"not a list"} cannot become array<struct<sku:string,qty:int,price:decimal(10,2)>>"#
            ),
            (
                4,
                "column customer.address.zip: 9223372036854775808 cannot become int"
            ),
        ]
    );
    // As Spark 3.5 reads them in its permissive mode.
    let mut permissive = decoder(&EVENTS, OnBadValue::Null);
    let decoded = decode(&mut permissive, &RECORDS[3..5]);
    assert_eq!(
        rows(&decoded),
        [
            "4 | (c4,NULL) | NULL | NULL | NULL | NULL",
            "5 | (12345678901234567890123,(1.0,NULL)) | NULL | [1.0,1e3,NULL,true] | NULL | NULL",
        ]
    );
    let nulls: Vec<(&str, u64)> = decoded
        .nulls
        .iter()
        .map(|null| (null.column.as_str(), null.values))
        .collect();
    assert_eq!(
        nulls,
        [("customer", 1), ("items", 1), ("tags", 1), ("attrs", 1)]
    );
}

/// Answers of Spark 3.5.3, `from_json` with this schema; but of equal keys of a map, which Spark keeps
/// both, the last.
#[test]
fn p17_a_bad_value_is_null_where_spark_has_null() {
    let columns = [
        ("s", "struct<a:int,b:string,n:struct<x:int,y:string>>"),
        ("l", "array<int>"),
        ("ls", "array<struct<a:int,b:string>>"),
        ("m", "map<string,int>"),
        ("ms", "map<string,struct<a:int,b:string>>"),
        ("ll", "array<array<int>>"),
    ];
    let mut permissive = decoder(&columns, OnBadValue::Null);
    let none = "NULL | NULL | NULL | NULL | NULL | NULL";
    for (record, expected) in [
        (
            r#"{"s":{"a":"x","b":"k","n":{"x":"bad","y":"ok"}}}"#,
            "(NULL,k,(NULL,ok)) | NULL | NULL | NULL | NULL | NULL",
        ),
        (r#"{"l":[1,"x",3]}"#, none),
        (
            r#"{"l":[1,null,3]}"#,
            "NULL | [1,NULL,3] | NULL | NULL | NULL | NULL",
        ),
        (
            r#"{"ls":[{"a":"x","b":"k"},{"a":2},null,{"a":3}]}"#,
            "NULL | NULL | [(NULL,k),(2,NULL),NULL,(3,NULL)] | NULL | NULL | NULL",
        ),
        (r#"{"ls":[{"a":1},7]}"#, none),
        (r#"{"m":{"a":1,"b":"x","c":3}}"#, none),
        (
            r#"{"m":{"a":"x","b":2,"a":3}}"#,
            "NULL | NULL | NULL | {b=2,a=3} | NULL | NULL",
        ),
        (
            r#"{"ms":{"p":{"a":"x","b":"k"},"q":{"a":1}}}"#,
            "NULL | NULL | NULL | NULL | {p=(NULL,k),q=(1,NULL)} | NULL",
        ),
        (r#"{"ms":{"p":{"a":1},"r":5}}"#, none),
        (r#"{"ll":[[1,"x"],[2]]}"#, none),
        (r#"{"s":[{"a":1}]}"#, none),
        (r#"{"s":[]}"#, none),
        (r#"{"s":""}"#, none),
        (r#"{"s":"\t","l":" "}"#, none),
        (r#"{"s":5}"#, none),
        (
            r#"{"s":{}}"#,
            "(NULL,NULL,NULL) | NULL | NULL | NULL | NULL | NULL",
        ),
        (r#"{"s":null}"#, none),
        (
            r#"{"s":{"A":1,"a":null}}"#,
            "(NULL,NULL,NULL) | NULL | NULL | NULL | NULL | NULL",
        ),
        (
            r#"{"s":{"a":null,"A":1}}"#,
            "(NULL,NULL,NULL) | NULL | NULL | NULL | NULL | NULL",
        ),
        (
            r#"{"s":{"a":1,"a":2}}"#,
            "(2,NULL,NULL) | NULL | NULL | NULL | NULL | NULL",
        ),
        (
            r#"{"s":{"n":{"x":1},"n":{"y":"q"}}}"#,
            "(NULL,NULL,(NULL,q)) | NULL | NULL | NULL | NULL | NULL",
        ),
    ] {
        let decoded = decode(&mut permissive, &[record]);
        assert_eq!(decoded.bad, [], "{record}");
        assert_eq!(rows(&decoded), [expected], "{record}");
    }
}

#[test]
fn what_is_bad_is_named_with_its_path() {
    let columns = [
        ("items", "array<struct<sku:string,price:decimal(10,2)>>"),
        ("m", "map<string,array<int>>"),
        ("n", "map<int,string>"),
        ("s", "struct<at:timestamp,raw:binary>"),
    ];
    let mut strict = decoder(&columns, OnBadValue::DeadLetter);
    for (record, reason) in [
        (
            r#"{"items":[{},{"price":1},{"price":"dear"}]}"#,
            r#"column items[2].price: "dear" cannot become decimal(10,2)"#,
        ),
        (
            r#"{"items":[{},5]}"#,
            "column items[1]: 5 cannot become struct<sku:string,price:decimal(10,2)>",
        ),
        (
            r#"{"m":{"a":[1],"b c":[1,2,"x"]}}"#,
            r#"column m["b c"][2]: "x" cannot become int"#,
        ),
        (
            r#"{"n":{"1":"a","x":"b"}}"#,
            r#"column n: "x" cannot become int"#,
        ),
        (
            r#"{"s":{"at":"yesterday"}}"#,
            r#"column s.at: "yesterday" cannot become timestamp"#,
        ),
        (
            r#"{"s":{"raw":"%"}}"#,
            r#"column s.raw: "%" cannot become binary"#,
        ),
        (
            r#"{"s":"text"}"#,
            r#"column s: "text" cannot become struct<at:timestamp,raw:binary>"#,
        ),
    ] {
        let good =
            r#"{"items":[{"sku":"x"}],"m":{"k":[7]},"n":{"1":"a","01":"b"},"s":{"raw":"aGk="}}"#;
        let decoded = decode(&mut strict, &[good, record, good]);
        assert_eq!(reasons(&decoded), [(1, reason)]);
        let whole = "[(x,NULL)] | {k=[7]} | {1=b} | (NULL,6869)";
        assert_eq!(rows(&decoded), [whole, whole], "{record}");
    }
}

#[test]
fn keys_that_no_column_has_are_counted_once_their_record_is_a_row() {
    let columns = [("id", "int"), ("items", "array<struct<sku:string>>")];
    let mut strict = decoder(&columns, OnBadValue::DeadLetter);
    let record = r#"{"ID":1,"colour":"x","items":[{"sku":"a","size":1},{"Size":2,"size":3}]}"#;
    let bad = r#"{"id":"x","colour":"x","items":[{"size":1}]}"#;
    let also_bad = r#"{"colour":1,"items":[{"size":1,"sku":"a"},5]}"#;
    let several = r#"{"id":1,"colour":1}{"id":2,"colour":2}"#;
    let decoded = decode(&mut strict, &[record, bad, also_bad, several]);
    assert_eq!(decoded.bad.len(), 2);
    let unknown = |decoded: &Decoded| -> Vec<(String, u64)> {
        let keys = decoded.unknown_keys.iter();
        keys.map(|one| (one.key.clone(), one.count)).collect()
    };
    let expected = [("colour", 3), ("items.Size", 1), ("items.size", 2)];
    let expected = expected.map(|(key, count)| (key.to_owned(), count));
    assert_eq!(unknown(&decoded), expected);
    let decoded = decode(&mut strict, &[r#"{"id":1}"#]);
    assert_eq!(unknown(&decoded), []);
    // A column that the query does not read is none of them.
    let schema = Schema::new(vec![
        Field::new("a", DataType::Utf8, true),
        Field::new("b", DataType::Utf8, true),
    ]);
    let mut some = Decoder::new(&PayloadFormat::default(), Arc::new(schema), &[1]).unwrap();
    let decoded = decode(&mut some, &[r#"{"A":1,"b":2,"c":3}"#]);
    assert_eq!(unknown(&decoded), [("c".to_owned(), 1)]);
}

#[test]
fn the_values_of_a_record_are_bounded() {
    let fields: Vec<String> = (0..900).map(|number| format!("f{number}:int")).collect();
    let wide = format!("array<struct<{}>>", fields.join(","));
    let mut strict = decoder(&[("c", &wide)], OnBadValue::Null);
    let record = |items: usize| format!("{{\"c\":[{}{{}}]}}", "{},".repeat(items - 1));
    let most = NESTED_VALUES_MAX / 900;
    let good = record(most - 1);
    let bad = record(most + 2);
    let decoded = decode(&mut strict, &[&good, &bad, "{}"]);
    assert_eq!(decoded.batch.num_rows(), 2);
    assert_eq!(decoded.bad.len(), 1);
    assert!(
        decoded.bad[0].reason.contains("more than 1048576 values"),
        "{}",
        decoded.bad[0].reason
    );
    // A batch ends before its memory does.
    let records: Vec<_> = (0..40).map(|_| record_of(&good)).collect();
    let (taken, decoded) = strict.decode_first(&records, 40, 1 << 30);
    assert!((2..10).contains(&taken), "{taken}");
    assert_eq!(decoded.batch.num_rows(), taken);
}

fn record_of(text: &str) -> Record {
    Record {
        sequence: 1.into(),
        sub_sequence: 0,
        arrival_ms: 0,
        data: text.to_owned().into(),
        origin: None,
        extra: None,
        foreign: Foreign::No,
    }
}

/// A value of the model, shown as [`shown`] does.
#[derive(Clone, Debug, PartialEq)]
enum Slow {
    Null,
    Value(String),
    Struct(Vec<Slow>),
    List(Vec<Slow>),
    Map(Vec<(Slow, Slow)>),
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |all: &[Slow]| {
            let all: Vec<String> = all.iter().map(Slow::to_string).collect();
            all.join(",")
        };
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Value(text) => f.write_str(text),
            Self::Struct(fields) => write!(f, "({})", joined(fields)),
            Self::List(items) => write!(f, "[{}]", joined(items)),
            Self::Map(entries) => {
                let entry = |(key, value): &(Slow, Slow)| format!("{key}={value}");
                let entries: Vec<String> = entries.iter().map(entry).collect();
                write!(f, "{{{}}}", entries.join(","))
            }
        }
    }
}

/// The keys and values of an object in their order, duplicates included.
struct Pairs(Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Pairs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

/// Reads a value by the rules, one after the other, with another parser. Single values are those
/// that a flat column has.
struct Model {
    flat: HashMap<DataType, Decoder>,
    on_bad_value: OnBadValue,
}

struct IsBad;

impl Model {
    fn single(&mut self, raw: &str, kind: &DataType) -> Result<Slow, IsBad> {
        let flat = self.flat.entry(kind.clone()).or_insert_with(|| {
            let schema = Schema::new(vec![Field::new("c", kind.clone(), true)]);
            Decoder::new(&PayloadFormat::default(), Arc::new(schema), &[0]).unwrap()
        });
        let decoded = decode(flat, &[&format!("{{\"c\":{raw}}}")]);
        if !decoded.bad.is_empty() {
            return Err(IsBad);
        }
        let column = decoded.batch.column(0);
        if column.is_null(0) {
            return Ok(Slow::Null);
        }
        Ok(Slow::Value(shown(column, 0)))
    }

    fn value(&mut self, raw: &str, kind: &DataType) -> Result<Slow, IsBad> {
        let text = serde_json::from_str::<String>(raw);
        let is_blank = text.is_ok_and(|text| text.trim_ascii().is_empty());
        match kind {
            DataType::Struct(_) | DataType::List(_) | DataType::Map(..)
                if raw == "null" || is_blank =>
            {
                Ok(Slow::Null)
            }
            DataType::Struct(fields) if raw.starts_with('{') => {
                let Pairs(pairs) = serde_json::from_str(raw).unwrap();
                let mut values = vec![];
                for field in fields {
                    let name = field.name();
                    let found = pairs
                        .iter()
                        .rfind(|(key, _)| key == name)
                        .or_else(|| pairs.iter().rfind(|(key, _)| key.to_lowercase() == *name));
                    let value = match found {
                        None => Ok(Slow::Null),
                        Some((_, raw)) => self.value(raw.get(), field.data_type()),
                    };
                    values.push(match (value, self.on_bad_value) {
                        (Err(IsBad), OnBadValue::Null) => Slow::Null,
                        (value, _) => value?,
                    });
                }
                Ok(Slow::Struct(values))
            }
            DataType::List(item) if raw.starts_with('[') => {
                let items: Vec<Box<RawValue>> = serde_json::from_str(raw).unwrap();
                let items = items.iter();
                let items = items.map(|raw| self.value(raw.get(), item.data_type()));
                Ok(Slow::List(items.collect::<Result<_, _>>()?))
            }
            DataType::Map(entries, _) if raw.starts_with('{') => {
                let DataType::Struct(parts) = entries.data_type() else {
                    panic!("a map has entries")
                };
                let Pairs(pairs) = serde_json::from_str(raw).unwrap();
                let mut keys = vec![];
                for (key, _) in &pairs {
                    let quoted = serde_json::to_string(key).unwrap();
                    match self.single(&quoted, parts[0].data_type())? {
                        Slow::Null => return Err(IsBad),
                        key => keys.push(key),
                    }
                }
                let mut entries = vec![];
                for (place, (_, raw)) in pairs.iter().enumerate() {
                    if !keys[place + 1..].contains(&keys[place]) {
                        let value = self.value(raw.get(), parts[1].data_type())?;
                        entries.push((keys[place].clone(), value));
                    }
                }
                Ok(Slow::Map(entries))
            }
            DataType::Struct(_) | DataType::List(_) | DataType::Map(..) => Err(IsBad),
            single => self.single(raw, single),
        }
    }

    /// A row of one column, or none.
    fn row(&mut self, record: &str, kind: &DataType) -> Option<String> {
        let Pairs(pairs) = serde_json::from_str(record).unwrap();
        let value = match pairs.iter().rfind(|(key, _)| key == "c") {
            None => Ok(Slow::Null),
            Some((_, raw)) => self.value(raw.get(), kind),
        };
        match (value, self.on_bad_value) {
            (Ok(value), _) => Some(value.to_string()),
            (Err(IsBad), OnBadValue::Null) => Some("NULL".into()),
            (Err(IsBad), OnBadValue::DeadLetter) => None,
        }
    }
}

const NAMES: [&str; 6] = ["a", "b", "name", "größe", "user_id", "x"];

/// Makes types, and records that mostly fit them.
struct Made(fastrand::Rng);

impl Made {
    fn kind(&mut self, levels: usize) -> String {
        let most = if levels == 0 { 8 } else { 14 };
        match self.0.usize(..most) {
            0 | 1 => "string".into(),
            2 => "int".into(),
            3 => "decimal(6,2)".into(),
            4 => "boolean".into(),
            5 => "timestamp".into(),
            6 => "double".into(),
            7 => "binary".into(),
            8 | 9 => format!("array<{}>", self.kind(levels - 1)),
            10 => {
                let key = self.0.choice(["string", "string", "int", "date"]).unwrap();
                format!("map<{key},{}>", self.kind(levels - 1))
            }
            _ => {
                let mut names = NAMES;
                self.0.shuffle(&mut names);
                let count = self.0.usize(1..=4);
                let fields: Vec<String> = names[..count]
                    .iter()
                    .map(|name| format!("{name}:{}", self.kind(levels - 1)))
                    .collect();
                format!("struct<{}>", fields.join(","))
            }
        }
    }

    fn blank(&mut self) -> &'static str {
        self.0.choice(["", "", "", " ", "\t"]).unwrap()
    }

    fn text(&mut self, text: &str) -> String {
        let mut quoted = String::from('"');
        for letter in text.chars() {
            if self.0.u8(..) < 20 {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    quoted.push_str(&format!("\\u{unit:04x}"));
                }
            } else {
                quoted.push(letter);
            }
        }
        quoted.push('"');
        quoted
    }

    fn any(&mut self) -> String {
        let anything = [
            "null",
            "true",
            "false",
            "0",
            "-1.5e3",
            "12345678901234567890",
            "\"\"",
            "\" \"",
            "\"x\"",
            "\"\\t \\n\"",
            "[]",
            "{}",
            "[1,null]",
            "{\"a\":1}",
            "\"2026-11-24T10:20:30Z\"",
            "1795481100",
            "\"12\"",
            "[[{\"b\":[]}]]",
            "\"aGk=\"",
        ];
        self.0.choice(anything).unwrap().to_owned()
    }

    fn value(&mut self, kind: &DataType) -> String {
        if self.0.u8(..) < 14 {
            return self.any();
        }
        match kind {
            DataType::Struct(fields) => {
                let mut pairs = vec![];
                for field in fields {
                    let times = self.0.choice([0, 1, 1, 1, 1, 1, 1, 2]).unwrap();
                    for _ in 0..times {
                        let name = field.name();
                        let name = match self.0.u8(..8) {
                            0 => name.to_uppercase(),
                            _ => name.clone(),
                        };
                        pairs.push((name, self.value(field.data_type())));
                    }
                }
                if self.0.u8(..4) == 0 {
                    pairs.push(("unknown".into(), self.any()));
                }
                if self.0.u8(..4) == 0 {
                    self.0.shuffle(&mut pairs);
                }
                self.object(pairs)
            }
            DataType::List(item) => {
                let count = self.0.choice([0, 1, 2, 3, 20]).unwrap();
                let items: Vec<String> = (0..count).map(|_| self.value(item.data_type())).collect();
                format!("[{}{}]", self.blank(), items.join(","))
            }
            DataType::Map(entries, _) => {
                let DataType::Struct(parts) = entries.data_type() else {
                    panic!("a map has entries")
                };
                let count = self.0.choice([0, 1, 2, 3, 30]).unwrap();
                let pairs = (0..count).map(|_| {
                    let number = self.0.u8(..60);
                    let key = match parts[0].data_type() {
                        DataType::Date32 => format!("2026-01-{:02}", number % 33),
                        DataType::Utf8 => format!("k{number}"),
                        _ => format!("{}{number}", self.0.choice(["", "0", " "]).unwrap()),
                    };
                    (key, self.value(parts[1].data_type()))
                });
                let pairs = pairs.collect();
                self.object(pairs)
            }
            DataType::Utf8 => {
                let text = self
                    .0
                    .choice(["", "plain", "größe 😀", "a longer text than one block"]);
                self.text(text.unwrap())
            }
            DataType::Int32 => self.0.i16(..).to_string(),
            DataType::Decimal128(..) => format!("{}.{}", self.0.i8(..), self.0.u8(..)),
            DataType::Boolean => self
                .0
                .choice(["true", "false", "\"yes\"", "1"])
                .unwrap()
                .into(),
            DataType::Float64 => format!("{}.5e{}", self.0.i8(..), self.0.i8(-20..20)),
            DataType::Binary => self
                .0
                .choice(["\"aGk=\"", "\"\"", "\"aG\\u006b=\""])
                .unwrap()
                .into(),
            _ => self
                .0
                .choice(["\"2026-11-24 10:20:30\"", "1795481100.25"])
                .unwrap()
                .into(),
        }
    }

    fn object(&mut self, pairs: Vec<(String, String)>) -> String {
        let pair = |(key, value): (String, String)| {
            let blank = self.blank();
            format!("{blank}{}{blank}:{blank}{value}{blank}", self.text(&key))
        };
        let pairs: Vec<String> = pairs.into_iter().map(pair).collect();
        format!("{{{}}}", pairs.join(","))
    }
}

#[test]
fn p17_made_records_are_read_as_a_slow_model_reads_them() {
    let mut records_read = 0;
    let mut bad = 0;
    for seed in 0..120 {
        let mut made = Made(fastrand::Rng::with_seed(seed));
        let type_name = format!("struct<{}:{}>", NAMES[seed as usize % 6], made.kind(3));
        let type_name = match seed % 3 {
            0 => type_name,
            1 => format!("array<{type_name}>"),
            _ => format!("map<string,{}>", made.kind(3)),
        };
        for on_bad_value in [OnBadValue::DeadLetter, OnBadValue::Null] {
            let mut fast = decoder(&[("c", &type_name), ("id", "int")], on_bad_value);
            let kind = fast.schema().field(0).data_type().clone();
            let mut model = Model {
                flat: HashMap::new(),
                on_bad_value,
            };
            let records: Vec<String> = (0..30)
                .map(|_| format!("{{\"c\":{},\"id\":7}}", made.value(&kind)))
                .collect();
            let texts: Vec<&str> = records.iter().map(String::as_str).collect();
            let together = decode(&mut fast, &texts);
            let rows = rows(&together);
            let mut rows = rows.iter();
            for (index, record) in records.iter().enumerate() {
                records_read += 1;
                let is_bad = together.bad.iter().any(|bad| bad.index == index);
                let expected = model.row(record, &kind).map(|row| format!("{row} | 7"));
                let found = if is_bad { None } else { rows.next().cloned() };
                assert_eq!(found, expected, "seed {seed}, {type_name}: {record}");
                bad += u64::from(is_bad);
            }
            let again = decode(&mut fast, &texts);
            assert_eq!(
                again.batch, together.batch,
                "what is remembered changes nothing"
            );
        }
    }
    assert!(
        records_read == 7_200 && (300..4_000).contains(&bad),
        "{bad}"
    );
}

#[test]
fn records_are_as_deep_as_their_types_and_no_deeper_than_json_may_be() {
    let levels = 15;
    let deep = format!("{}int{}", "array<".repeat(levels), ">".repeat(levels));
    let mut strict = decoder(&[("c", &deep)], OnBadValue::DeadLetter);
    let record = |levels: usize| format!("{{\"c\":{}1{}}}", "[".repeat(levels), "]".repeat(levels));
    let decoded = decode(
        &mut strict,
        &[
            &record(levels),
            &record(levels - 1),
            &record(JSON_DEPTH_MAX),
        ],
    );
    assert_eq!(
        rows(&decoded),
        [format!("{}1{}", "[".repeat(levels), "]".repeat(levels))]
    );
    assert_eq!(decoded.bad.len(), 2);
    let ordered: BTreeMap<usize, &str> = reasons(&decoded).into_iter().collect();
    assert!(ordered[&2].contains("more than 64 objects"), "{ordered:?}");
}
