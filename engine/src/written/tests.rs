//! Every type that a query can yield, in every format.

use super::*;
use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::*;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{LogicalType, TimeUnit as ParquetUnit, Type as Physical};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::schema::types::Type;
use std::sync::Arc;
use streamctl_proto::spec::Location;

fn sink(format: SinkFormat) -> FilesSink {
    FilesSink {
        format,
        ..FilesSink::new(Location::folder("/out"))
    }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let columns = columns
        .into_iter()
        .map(|(name, column)| (name, column, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn formed(batch: &RecordBatch, format: SinkFormat) -> Formed {
    Form::new(&batch.schema(), &sink(format))
        .rows(batch)
        .unwrap()
}

fn list(item: DataType, items: ArrayRef) -> ArrayRef {
    let field = Arc::new(Field::new("item", item, true));
    let offsets = OffsetBuffer::from_lengths([items.len()]);
    Arc::new(ListArray::new(field, offsets, items, None))
}

/// One row with a value of every type that a query can yield and files can hold.
fn every_type() -> Vec<(&'static str, ArrayRef)> {
    let text = || StringArray::from(vec!["a"]);
    let dictionary: DictionaryArray<Int32Type> = vec!["a"].into_iter().collect();
    let texts = cast_to(Arc::new(text()), DataType::Utf8View);
    let decimal = |kind| cast_to(Arc::new(Int32Array::from(vec![1])), kind);
    let mut map = MapBuilder::new(None, Int32Builder::new(), LargeStringBuilder::new());
    map.keys().append_value(1);
    map.values().append_value("one");
    map.append(true).unwrap();
    let fields = vec![
        Arc::new(Field::new(
            "at",
            DataType::Timestamp(TimeUnit::Nanosecond, None),
            false,
        )),
        Arc::new(Field::new("n", DataType::UInt64, false)),
    ];
    let of_struct: Vec<ArrayRef> = vec![
        Arc::new(TimestampNanosecondArray::from(vec![1_500])),
        Arc::new(UInt64Array::from(vec![7])),
    ];
    vec![
        ("bool", Arc::new(BooleanArray::from(vec![true]))),
        ("i8", Arc::new(Int8Array::from(vec![1]))),
        ("i16", Arc::new(Int16Array::from(vec![1]))),
        ("i32", Arc::new(Int32Array::from(vec![1]))),
        ("i64", Arc::new(Int64Array::from(vec![1]))),
        ("u8", Arc::new(UInt8Array::from(vec![255]))),
        ("u16", Arc::new(UInt16Array::from(vec![65_535]))),
        ("u32", Arc::new(UInt32Array::from(vec![u32::MAX]))),
        ("u64", Arc::new(UInt64Array::from(vec![i64::MAX as u64]))),
        (
            "f16",
            cast_to(Arc::new(Float32Array::from(vec![0.5])), DataType::Float16),
        ),
        ("f32", Arc::new(Float32Array::from(vec![0.1]))),
        ("f64", Arc::new(Float64Array::from(vec![0.1]))),
        ("text", Arc::new(text())),
        ("large_text", cast_to(Arc::new(text()), DataType::LargeUtf8)),
        ("text_view", texts),
        ("dictionary", Arc::new(dictionary)),
        ("bytes", Arc::new(BinaryArray::from(vec![b"hi".as_slice()]))),
        (
            "large_bytes",
            cast_to(Arc::new(text()), DataType::LargeBinary),
        ),
        (
            "bytes_view",
            cast_to(Arc::new(text()), DataType::BinaryView),
        ),
        (
            "fixed_bytes",
            Arc::new(FixedSizeBinaryArray::try_from_iter(["hi"].iter()).unwrap()),
        ),
        ("date", Arc::new(Date32Array::from(vec![-1]))),
        ("date64", Arc::new(Date64Array::from(vec![-1]))),
        ("at_s", Arc::new(TimestampSecondArray::from(vec![-1]))),
        ("at_ms", Arc::new(TimestampMillisecondArray::from(vec![-1]))),
        ("at_us", Arc::new(TimestampMicrosecondArray::from(vec![-1]))),
        ("at_ns", Arc::new(TimestampNanosecondArray::from(vec![-1]))),
        (
            "instant",
            Arc::new(TimestampNanosecondArray::from(vec![1_500]).with_timezone("+01:00")),
        ),
        ("time_s", Arc::new(Time32SecondArray::from(vec![3_661]))),
        (
            "time_ns",
            Arc::new(Time64NanosecondArray::from(vec![3_661_000_000_000])),
        ),
        ("length_s", Arc::new(DurationSecondArray::from(vec![-2]))),
        (
            "length_ms",
            Arc::new(DurationMillisecondArray::from(vec![2])),
        ),
        (
            "length_us",
            Arc::new(DurationMicrosecondArray::from(vec![2])),
        ),
        (
            "length_ns",
            Arc::new(DurationNanosecondArray::from(vec![-1])),
        ),
        ("decimal32", decimal(DataType::Decimal32(5, 2))),
        ("decimal64", decimal(DataType::Decimal64(10, 2))),
        ("decimal128", decimal(DataType::Decimal128(38, 2))),
        ("decimal256", decimal(DataType::Decimal256(38, 2))),
        ("hundreds", decimal(DataType::Decimal128(5, -2))),
        (
            "list",
            list(
                DataType::Timestamp(TimeUnit::Nanosecond, None),
                Arc::new(TimestampNanosecondArray::from(vec![Some(-1), None])),
            ),
        ),
        (
            "large_list",
            cast_to(
                list(DataType::UInt32, Arc::new(UInt32Array::from(vec![1, 2]))),
                DataType::LargeList(Arc::new(Field::new("item", DataType::UInt32, true))),
            ),
        ),
        (
            "struct",
            Arc::new(StructArray::new(fields.into(), of_struct, None)),
        ),
        ("map", Arc::new(map.finish())),
    ]
}

fn cast_to(array: ArrayRef, kind: DataType) -> ArrayRef {
    arrow::compute::cast(&array, &kind).unwrap()
}

/// What Hive, Spark 3 and Trino refuse in the footer of a Parquet file, written down as rules.
fn illegal(column: &Type, found: &mut Vec<String>) {
    let name = column.name();
    if let Type::GroupType { fields, .. } = column {
        fields.iter().for_each(|field| illegal(field, found));
        return;
    }
    let info = column.get_basic_info();
    match (info.logical_type_ref(), column.get_physical_type()) {
        (Some(LogicalType::Timestamp(timestamp)), _) if timestamp.unit == ParquetUnit::NANOS => {
            found.push(format!("{name}: nanoseconds"));
        }
        (Some(LogicalType::Time(_)), _) => found.push(format!("{name}: a time of the day")),
        (Some(LogicalType::Integer(integer)), _) if !integer.is_signed => {
            found.push(format!("{name}: unsigned"));
        }
        (Some(LogicalType::Float16), _) => found.push(format!("{name}: a half")),
        (None, Physical::FIXED_LEN_BYTE_ARRAY) => found.push(format!("{name}: bytes of a length")),
        (_, Physical::INT96) => found.push(format!("{name}: INT96")),
        _ => {}
    }
}

#[test]
fn p18_every_type_of_a_query_is_a_type_of_hive_in_parquet_and_reads_back() {
    let all = batch(every_type());
    let Formed { rows, refused } = formed(&all, SinkFormat::Parquet);
    assert!(refused.is_empty(), "{refused:?}");
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    let schema = reader.metadata().file_metadata().schema_descr();
    let mut found = vec![];
    illegal(schema.root_schema(), &mut found);
    assert_eq!(found, Vec::<String>::new());
    // The same rules refuse what the query itself returns.
    let raw = batch(
        every_type()
            .into_iter()
            .filter(|(name, _)| ["u64", "at_ns", "time_ns", "f16", "fixed_bytes"].contains(name))
            .collect(),
    );
    let raw = ArrowSchemaConverter::new().convert(&raw.schema()).unwrap();
    let mut found = vec![];
    illegal(raw.root_schema(), &mut found);
    assert_eq!(found.len(), 5, "{found:?}");
}

fn shown(rows: &RecordBatch, column: &str) -> String {
    let column = rows.column_by_name(column).unwrap();
    arrow::util::display::array_value_to_string(column, 0).unwrap()
}

#[test]
fn p18_values_keep_their_value_and_fractions_of_a_microsecond_are_cut_down() {
    let Formed { rows, .. } = formed(&batch(every_type()), SinkFormat::Parquet);
    for (column, value) in [
        ("u8", "255"),
        ("u16", "65535"),
        ("u32", "4294967295"),
        ("u64", "9223372036854775807"),
        ("f16", "0.5"),
        ("date64", "1969-12-31"),
        ("at_s", "1969-12-31T23:59:59"),
        ("at_ms", "1969-12-31T23:59:59.999"),
        ("at_ns", "1969-12-31T23:59:59.999999"),
        ("instant", "1970-01-01T00:00:00.000001Z"),
        ("time_s", "01:01:01"),
        ("length_s", "-2000000"),
        ("length_ms", "2000"),
        ("length_ns", "-1"),
        ("decimal32", "1.00"),
        ("decimal256", "1.00"),
        ("list", "[1969-12-31T23:59:59.999999, ]"),
        ("large_list", "[1, 2]"),
        ("struct", "{at: 1970-01-01T00:00:00.000001, n: 7}"),
        ("map", "{1: one}"),
    ] {
        assert_eq!(shown(&rows, column), value, "{column}");
    }
    let schema = rows.schema();
    let kind = |name: &str| schema.field_with_name(name).unwrap().data_type().clone();
    assert_eq!(kind("dictionary"), DataType::Utf8);
    assert_eq!(kind("hundreds"), DataType::Decimal128(7, 0));
    assert_eq!(kind("decimal64"), DataType::Decimal128(10, 2));
}

#[test]
fn p18_a_value_without_a_place_in_its_type_makes_a_refused_row_and_the_others_stay() {
    let big = batch(vec![
        (
            "n",
            Arc::new(UInt64Array::from(vec![Some(1), Some(u64::MAX), None])) as ArrayRef,
        ),
        (
            "at",
            Arc::new(TimestampSecondArray::from(vec![
                Some(i64::MAX),
                Some(0),
                None,
            ])),
        ),
        ("id", Arc::new(Int32Array::from(vec![1, 2, 3]))),
    ]);
    let Formed { rows, refused } = formed(&big, SinkFormat::Json);
    assert_eq!(rows.num_rows(), 1);
    assert_eq!(shown(&rows, "id"), "3", "a null is a null");
    let reasons: Vec<_> = refused.iter().map(|(reason, _)| reason.as_str()).collect();
    assert_eq!(
        reasons[0],
        "column \"n\" is written as Int64, which cannot hold 18446744073709551615"
    );
    assert!(
        reasons[1].starts_with("column \"at\" is written as Timestamp"),
        "{reasons:?}"
    );
    assert_eq!(
        shown(&refused[0].1, "n"),
        "18446744073709551615",
        "as the query returned it"
    );
    let nested = batch(vec![(
        "all",
        list(
            DataType::UInt64,
            Arc::new(UInt64Array::from(vec![1, u64::MAX])),
        ),
    )]);
    assert_eq!(formed(&nested, SinkFormat::Parquet).refused.len(), 1);
}

#[test]
fn p18_what_no_reader_has_a_type_for_is_refused_with_a_cast_as_the_hint() {
    let kinds = [
        DataType::Null,
        DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Decimal256(50, 2),
        DataType::List(Arc::new(Field::new("item", DataType::Null, true))),
    ];
    for kind in kinds {
        let schema = Schema::new(vec![Field::new("x", kind.clone(), true)]);
        let refused = unwritable(&schema, &sink(SinkFormat::Parquet));
        assert_eq!(refused.len(), 1, "{kind}");
        assert!(
            refused[0].2.hint("x").starts_with("cast it: CAST(x AS "),
            "{kind}"
        );
        // A job that runs already keeps the type.
        let schema = Arc::new(schema);
        let form = Form::new(&schema, &sink(SinkFormat::Parquet));
        assert_eq!(*form.schema(), schema);
    }
    let list = DataType::List(Arc::new(Field::new("item", DataType::Int32, true)));
    let schema = Schema::new(vec![Field::new("x", list, true)]);
    assert_eq!(unwritable(&schema, &sink(SinkFormat::Parquet)).len(), 0);
    assert_eq!(unwritable(&schema, &sink(SinkFormat::Json)).len(), 0);
    assert_eq!(
        unwritable(&schema, &sink(SinkFormat::Csv))[0].2,
        Unwritable::Nested
    );
}

#[test]
fn a_job_of_an_earlier_build_writes_the_types_and_texts_that_it_wrote() {
    let old = FilesSink {
        types: SinkTypes::Arrow,
        ..sink(SinkFormat::Json)
    };
    let all = batch(every_type());
    assert_eq!(*Form::new(&all.schema(), &old).schema(), all.schema());
    let bytes = batch(vec![(
        "b",
        Arc::new(BinaryArray::from(vec![b"hi".as_slice()])) as ArrayRef,
    )]);
    let mut line = vec![];
    json::write_lines(&bytes, TextForm::of(&old), false, &mut line).unwrap();
    assert_eq!(line, b"{\"b\":\"6869\"}\n");
    let mut lines = vec![];
    csv::write_rows(&bytes, TextForm::of(&old), true, &mut lines).unwrap();
    assert_eq!(lines, b"b\n6869\n");
}

/// As the case's records have them.
fn p33() -> RecordBatch {
    batch(vec![
        ("id", Arc::new(Int32Array::from(vec![1, 2, 3])) as ArrayRef),
        (
            "s",
            Arc::new(StringArray::from(vec![Some(""), None, Some("a,\"b\"\nc")])),
        ),
        (
            "at",
            Arc::new(TimestampMicrosecondArray::from(vec![
                Some(1_795_481_100_500_000),
                None,
                Some(-1),
            ])),
        ),
        (
            "b",
            Arc::new(BinaryArray::from(vec![
                Some(b"hi".as_slice()),
                None,
                Some(b"".as_slice()),
            ])),
        ),
        (
            "f",
            Arc::new(Float64Array::from(vec![f64::INFINITY, f64::NAN, 1e21])),
        ),
        (
            "g",
            Arc::new(Float32Array::from(vec![f32::NEG_INFINITY, 0.1, 100.0])),
        ),
    ])
}

#[test]
fn p33_json_has_base64_java_s_infinity_and_no_null() {
    let mut lines = vec![];
    json::write_lines(
        &p33(),
        TextForm::of(&sink(SinkFormat::Json)),
        false,
        &mut lines,
    )
    .unwrap();
    let expected = "{\"id\":1,\"s\":\"\",\"at\":\"2026-11-24T00:45:00.500\",\"b\":\"aGk=\",\"f\":\"Infinity\",\"g\":\"-Infinity\"}\n\
                    {\"id\":2,\"f\":\"NaN\",\"g\":0.1}\n\
                    {\"id\":3,\"s\":\"a,\\\"b\\\"\\nc\",\"at\":\"1969-12-31T23:59:59.999999\",\"b\":\"\",\"f\":1e+21,\"g\":100.0}\n";
    assert_eq!(String::from_utf8(lines).unwrap(), expected);
}

#[test]
fn json_keeps_the_keys_of_maps_whose_values_are_null() {
    let mut maps = MapBuilder::new(None, Int32Builder::new(), StringBuilder::new());
    maps.keys().append_value(1);
    maps.values().append_value("a");
    maps.keys().append_value(2);
    maps.values().append_null();
    maps.append(true).unwrap();
    maps.append(true).unwrap();
    maps.append(false).unwrap();
    let rows = RecordBatch::try_from_iter([("m", Arc::new(maps.finish()) as ArrayRef)]).unwrap();
    let form = TextForm::of(&sink(SinkFormat::Json));
    let mut lines = vec![];
    json::write_lines(&rows, form, false, &mut lines).unwrap();
    let expected = "{\"m\":{\"1\":\"a\",\"2\":null}}\n{\"m\":{}}\n{}\n";
    assert_eq!(String::from_utf8(lines).unwrap(), expected);
}

#[test]
fn p33_csv_distinguishes_null_from_the_empty_text_and_has_base64_and_infinity() {
    let text = |form: TextForm| {
        let mut lines = vec![];
        csv::write_rows(&p33(), form, true, &mut lines).unwrap();
        String::from_utf8(lines).unwrap()
    };
    let form = TextForm::of(&sink(SinkFormat::Csv));
    let expected = "id,s,at,b,f,g\n1,\"\",2026-11-24T00:45:00.500,aGk=,Infinity,-Infinity\n2,,,,NaN,0.1\n\
                    3,\"a,\"\"b\"\"\nc\",1969-12-31T23:59:59.999999,\"\",1e+21,100.0\n";
    assert_eq!(text(form), expected);
    let hive = text(TextForm {
        timestamps: TimestampFormat::Hive,
        ..form
    });
    assert!(
        hive.contains("\n1,\"\",2026-11-24 00:45:00.500,aGk="),
        "{hive}"
    );
    let alone = batch(vec![(
        "s",
        Arc::new(StringArray::from(vec![None, Some("x")])) as ArrayRef,
    )]);
    let mut lines = vec![];
    csv::write_rows(&alone, form, false, &mut lines).unwrap();
    assert_eq!(lines, b"\"\"\nx\n", "readers pass over an empty line");
}

#[test]
fn p37_names_that_readers_refuse_are_refused_with_one_that_they_take() {
    let check = |names: &[&str], folders: &[&str]| {
        let field = |name: &&str| Field::new(*name, DataType::Utf8, true);
        let schema = Schema::new(names.iter().map(field).collect::<Vec<_>>());
        check_names(&schema, folders)
    };
    let long = "x".repeat(256);
    for (name, hint) in [
        (
            "upper(Utf8(\"a\"))",
            "name it: ... AS upper_utf8_a".replace("utf8", "Utf8"),
        ),
        ("count(*)", "name it: ... AS count".to_owned()),
        ("a b", "name it: ... AS a_b".to_owned()),
        ("a,b", "name it: ... AS a_b".to_owned()),
        ("a;b", "name it: ... AS a_b".to_owned()),
        ("a=b", "name it: ... AS a_b".to_owned()),
        ("{a}", "name it: ... AS a".to_owned()),
        ("a\tb\n", "name it: ... AS a_b".to_owned()),
        ("a\u{7f}", "name it: ... AS a".to_owned()),
        ("", "name it: ... AS column_1".to_owned()),
        ("  ", "name it: ... AS column_1".to_owned()),
        ("(1)", "name it: ... AS column_1".to_owned()),
        (&long, format!("name it: ... AS {}", "x".repeat(60))),
    ] {
        let found = check(&[name], &[]);
        assert_eq!(found.len(), 1, "{name:?}");
        let quoted = hint.replace("upper_Utf8_a", "\"upper_Utf8_a\"");
        assert_eq!(found[0].1, quoted, "{name:?}");
    }
    let good = [
        "user", "order", "a.b", "Größe", "a-b", "_x", "1st", "a\"b", "Code",
    ];
    assert_eq!(check(&good, &[]), []);
    assert_eq!(
        check(&["id", "Folder Name"], &["Folder Name"]),
        [],
        "it is in no file"
    );
    let fields = vec![
        Field::new("a b", DataType::Int32, true),
        Field::new("c", DataType::Int32, true),
        Field::new("C", DataType::Int32, true),
    ];
    let schema = Schema::new(vec![Field::new("s", DataType::Struct(fields.into()), true)]);
    assert_eq!(check_names(&schema, &[]).len(), 2, "fields of structs too");
}
