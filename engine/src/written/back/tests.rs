//! Every written form, read back.

use super::*;
use crate::written::back::lines::{CsvRows, JsonLines};
use crate::written::{csv, json};
use arrow::array::*;
use arrow::datatypes::*;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use streamctl_proto::spec::{FilesSink, Location, TimestampFormat};

fn sink(format: SinkFormat, timestamp_format: TimestampFormat) -> FilesSink {
    FilesSink {
        format,
        timestamp_format,
        types: SinkTypes::Hive,
        ..FilesSink::new(Location::folder("/out"))
    }
}

fn back(batch: &RecordBatch, sink: &FilesSink) -> Result<(Back, RecordBatch), NotExact> {
    let form = Form::new(&batch.schema(), sink);
    let back = Back::new(&form, sink.format, TextForm::of(sink), &[])?;
    Ok((back, form.rows(batch).unwrap().rows))
}

/// Writes rows as the sink does, and reads them back.
fn again(batch: &RecordBatch, sink: &FilesSink) -> RecordBatch {
    let (back, written) = back(batch, sink).unwrap();
    let text = TextForm::of(sink);
    let mut bytes = vec![];
    let read = match sink.format {
        SinkFormat::Parquet => {
            let mut writer = ArrowWriter::try_new(&mut bytes, written.schema(), None).unwrap();
            writer.write(&written).unwrap();
            writer.close().unwrap();
            let file = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap();
            file.build().unwrap().next().unwrap().unwrap()
        }
        SinkFormat::Json => {
            json::write_lines(&written, text, false, &mut bytes).unwrap();
            let mut lines = JsonLines::new(&back).unwrap();
            for line in bytes
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
            {
                assert!(lines.add(line).unwrap().is_none());
            }
            lines.flush().unwrap().unwrap()
        }
        SinkFormat::Csv => {
            csv::write_rows(&written, text, true, &mut bytes).unwrap();
            let mut rows = CsvRows::new(&back);
            let text = String::from_utf8(bytes).unwrap();
            let mut lines = text.split_terminator('\n');
            assert!(rows.is_header(lines.next().unwrap().as_bytes()).unwrap());
            for line in lines {
                assert!(rows.add(line.as_bytes()).unwrap().is_none());
            }
            rows.flush().unwrap().unwrap()
        }
    };
    back.rows(&read, &[]).unwrap()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let columns = columns
        .into_iter()
        .map(|(name, column)| (name, column, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn in_type(values: impl Array + 'static, to: &DataType) -> ArrayRef {
    arrow::compute::cast(&values, to).unwrap()
}

/// Columns of every plain type that a text can hold, each with a null.
fn plain() -> Vec<(&'static str, ArrayRef)> {
    use DataType::*;
    let numbers = || Int64Array::from(vec![Some(1), None, Some(0)]);
    let texts = || StringArray::from(vec![Some("a,\"b\"\\ ü"), None, Some("")]);
    let floats = Float64Array::from(vec![Some(0.1 + 0.2), None, Some(-0.0)]);
    let odd = Float64Array::from(vec![
        Some(f64::NAN),
        Some(f64::INFINITY),
        Some(-f64::INFINITY),
    ]);
    let micros =
        || TimestampMicrosecondArray::from(vec![Some(-1), None, Some(1_700_000_000_123_456)]);
    let instants = TimestampMillisecondArray::from(vec![Some(-1), None, Some(1_700_000_000_123)]);
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("text", Arc::new(texts())),
        ("text_view", in_type(texts(), &Utf8View)),
        ("large_text", in_type(texts(), &LargeUtf8)),
        (
            "dictionary",
            in_type(texts(), &Dictionary(Box::new(Int32), Box::new(Utf8))),
        ),
        ("bytes", in_type(texts(), &Binary)),
        ("large_bytes", in_type(texts(), &LargeBinary)),
        (
            "bool",
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        ),
        (
            "f32",
            Arc::new(Float32Array::from(vec![Some(0.1), None, Some(f32::MAX)])),
        ),
        ("f64", Arc::new(floats)),
        ("odd", Arc::new(odd)),
        (
            "day",
            Arc::new(Date32Array::from(vec![Some(-1), None, Some(20_000)])),
        ),
        ("at_us", Arc::new(micros())),
        (
            "at_s",
            Arc::new(TimestampSecondArray::from(vec![Some(-1), None, Some(1)])),
        ),
        ("instant", Arc::new(instants.with_timezone("+01:00"))),
        ("utc", Arc::new(micros().with_timezone("UTC"))),
        (
            "length",
            Arc::new(DurationMicrosecondArray::from(vec![
                Some(-2),
                None,
                Some(2),
            ])),
        ),
        (
            "time",
            Arc::new(Time64NanosecondArray::from(vec![
                Some(3_661_000_000_001),
                None,
                Some(0),
            ])),
        ),
        (
            "u64",
            Arc::new(UInt64Array::from(vec![
                Some(i64::MAX as u64),
                None,
                Some(0),
            ])),
        ),
        (
            "decimal",
            Arc::new(
                Decimal128Array::from(vec![Some(-12_345), None, Some(10)])
                    .with_precision_and_scale(38, 3)
                    .unwrap(),
            ),
        ),
    ];
    for (name, kind) in [
        ("i8", Int8),
        ("i64", Int64),
        ("u8", UInt8),
        ("u32", UInt32),
        ("f16", Float16),
    ] {
        columns.push((name, in_type(numbers(), &kind)));
    }
    columns
}

fn nested() -> Vec<(&'static str, ArrayRef)> {
    let mut list = ListBuilder::new(LargeStringBuilder::new());
    list.values().append_value("a");
    list.values().append_null();
    list.append(true);
    list.append(false);
    list.append(true);
    let list: ArrayRef = Arc::new(list.finish());
    let item = Arc::new(Field::new("item", DataType::LargeUtf8, true));
    let large = arrow::compute::cast(&list, &DataType::LargeList(item)).unwrap();
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    map.keys().append_value("one");
    map.values().append_value(1);
    map.keys().append_value("none");
    map.values().append_null();
    map.append(true).unwrap();
    map.append(false).unwrap();
    map.append(true).unwrap();
    let fields: Fields = vec![
        Field::new("n", DataType::UInt16, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
    ]
    .into();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt16Array::from(vec![1, 2, 3])),
        Arc::new(TimestampMillisecondArray::from(vec![
            Some(1),
            None,
            Some(-1),
        ])),
    ];
    let valid = vec![true, false, true].into();
    vec![
        ("list", list),
        ("large_list", large),
        ("map", Arc::new(map.finish())),
        (
            "struct",
            Arc::new(StructArray::new(fields, columns, Some(valid))),
        ),
        ("id", Arc::new(Int32Array::from(vec![1, 2, 3]))),
    ]
}

#[test]
fn what_is_read_back_is_what_was_written_in_all_formats() {
    for timestamps in [TimestampFormat::Iso, TimestampFormat::Hive] {
        for format in [SinkFormat::Parquet, SinkFormat::Json, SinkFormat::Csv] {
            let rows = batch(plain());
            assert_eq!(again(&rows, &sink(format, timestamps)), rows, "{format:?}");
        }
    }
    for format in [SinkFormat::Parquet, SinkFormat::Json] {
        let rows = batch(nested());
        let sink = sink(format, TimestampFormat::Iso);
        assert_eq!(again(&rows, &sink), rows, "{format:?}");
    }
}

#[test]
fn what_a_form_does_not_give_back_is_refused() {
    let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1]));
    let dates: ArrayRef = Arc::new(Date64Array::from(vec![1]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let iso = |format| sink(format, TimestampFormat::Iso);
    let refused = |column: &ArrayRef, sink: &FilesSink| {
        let rows = batch(vec![("c", Arc::clone(column))]);
        back(&rows, sink).err().map(|error| error.reason)
    };
    for format in [SinkFormat::Parquet, SinkFormat::Json, SinkFormat::Csv] {
        assert!(
            refused(&nanos, &iso(format))
                .unwrap()
                .contains("nanoseconds")
        );
        assert!(refused(&dates, &iso(format)).unwrap().contains("day"));
    }
    assert_eq!(refused(&texts, &iso(SinkFormat::Parquet)), None);
    assert_eq!(refused(&texts, &iso(SinkFormat::Json)), None);
    let alone = refused(&texts, &iso(SinkFormat::Csv)).unwrap();
    assert!(alone.contains("one column"), "{alone}");
    let of_arrow = |format| FilesSink {
        types: SinkTypes::Arrow,
        ..iso(format)
    };
    assert_eq!(refused(&nanos, &of_arrow(SinkFormat::Parquet)), None);
    assert!(refused(&texts, &of_arrow(SinkFormat::Json)).is_some());
}

#[test]
fn a_file_of_other_columns_is_no_file_of_these_rows() {
    let rows = batch(vec![("a", Arc::new(Int32Array::from(vec![1])))]);
    let (back, _) = back(&rows, &sink(SinkFormat::Parquet, TimestampFormat::Iso)).unwrap();
    for other in [
        ("b", Arc::new(Int32Array::from(vec![1])) as ArrayRef),
        ("a", Arc::new(Int64Array::from(vec![1]))),
    ] {
        assert!(back.rows(&batch(vec![other]), &[]).is_err());
    }
}

#[test]
fn values_of_folders_are_columns_again() {
    let day = Date32Array::from(vec![19_000]);
    let rows = batch(vec![
        ("id", Arc::new(Int32Array::from(vec![1]))),
        (
            "code",
            in_type(StringArray::from(vec!["x"]), &DataType::Utf8View),
        ),
        ("day", Arc::new(day)),
    ]);
    let sink = sink(SinkFormat::Json, TimestampFormat::Iso);
    let form = Form::new(&rows.schema(), &sink);
    let back = Back::new(&form, sink.format, TextForm::of(&sink), &[1, 2]).unwrap();
    assert_eq!(back.file_schema().fields().len(), 1);
    let folders = [
        (1, back.folder_value(1, "x").unwrap()),
        (2, back.folder_value(2, "2022-01-08").unwrap()),
    ];
    let file = rows.project(&[0]).unwrap();
    assert_eq!(back.rows(&file, &folders).unwrap(), rows);
    assert!(back.folder_value(2, NO_VALUE).unwrap().is_null(0));
    assert!(
        back.folder_value(1, NO_VALUE).is_err(),
        "null or the empty text"
    );
    assert!(back.folder_value(2, "yesterday").is_err());
}
