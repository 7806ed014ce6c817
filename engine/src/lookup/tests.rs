//! Lookups as people and tools write them: the cases of P22 and P23.

use super::rows::{parse, remarks};
use arrow::array::*;
use arrow::datatypes::*;
use arrow::util::display::array_value_to_string;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use std::sync::Arc;
use streamctl_proto::resolved::ColumnType;
use streamctl_proto::spec::{Location, LookupCsv, LookupFormat, LookupSpec, TextEncoding};

fn spec(format: LookupFormat) -> LookupSpec {
    LookupSpec::new("countries", Location::folder("/in/countries"), format)
}

fn csv_with(csv: LookupCsv, text: &[u8]) -> Result<RecordBatch, String> {
    let spec = LookupSpec {
        csv,
        ..spec(LookupFormat::Csv)
    };
    let files = [("c.csv".to_owned(), Bytes::copy_from_slice(text))];
    parse(&spec, &files).map_err(|error| error.to_string())
}

fn csv(text: &[u8]) -> Result<RecordBatch, String> {
    csv_with(LookupCsv::default(), text)
}

/// Each row as `a|b`, nulls as nothing.
fn lines(rows: &RecordBatch) -> Vec<String> {
    let cell = |column: &ArrayRef, row| match column.is_null(row) {
        true => String::new(),
        false => array_value_to_string(column, row).unwrap(),
    };
    (0..rows.num_rows())
        .map(|row| {
            let cells: Vec<_> = rows
                .columns()
                .iter()
                .map(|column| cell(column, row))
                .collect();
            cells.join("|")
        })
        .collect()
}

fn names(rows: &RecordBatch) -> Vec<String> {
    let schema = rows.schema();
    schema
        .fields()
        .iter()
        .map(|field| field.name().clone())
        .collect()
}

#[test]
fn p22_a_file_that_is_no_csv_with_a_header_is_refused_with_file_and_line() {
    let refused = |text: &[u8]| csv(text).unwrap_err();
    for (case, text, reason) in [
        (
            "ragged",
            &b"Name,Code\nGermany,DE,x\n"[..],
            "c.csv, line 2: 3 fields, the header has 2",
        ),
        (
            "trailing-delimiter",
            b"Name,Code,\n",
            "c.csv, line 1: column 3 has no name",
        ),
        (
            "duplicate-header",
            b"Name,Name\n",
            "c.csv, line 1: two columns are named \"Name\"",
        ),
        (
            "latin1",
            b"Name,Code\n\xc5land,AX\n",
            "c.csv, line 2: field 1 is not UTF-8",
        ),
        (
            "utf16",
            b"\xff\xfeN\0a\0",
            "c.csv, line 1: the name of column 1 is not UTF-8",
        ),
        (
            "empty-file",
            b"",
            "there is no table in its files: every one is empty",
        ),
    ] {
        let error = refused(text);
        assert!(error.contains(reason), "{case}: {error}");
    }
    let two = [
        ("a.csv".to_owned(), Bytes::from_static(b"Name,Code\nx,y\n")),
        ("b.csv".to_owned(), Bytes::from_static(b"Code,Name\ny,x\n")),
    ];
    assert_eq!(
        parse(&spec(LookupFormat::Csv), &two)
            .unwrap_err()
            .to_string(),
        "lookup countries: b.csv has the columns Code, Name, but a.csv has Name, Code",
        "two-files-other-order"
    );
}

#[test]
fn p22_delimiter_quote_encoding_and_null_text_are_keys() {
    let semicolon = LookupCsv {
        delimiter: ';',
        ..LookupCsv::default()
    };
    let rows = csv_with(semicolon, b"Name;Code\nGermany;DE\n").unwrap();
    assert_eq!(
        (names(&rows), lines(&rows)),
        (
            vec!["Name".into(), "Code".into()],
            vec!["Germany|DE".to_owned()]
        )
    );
    let quote = LookupCsv {
        quote: '\'',
        ..LookupCsv::default()
    };
    let rows = csv_with(quote, b"'Name','Code'\n'Korea, ''S''','KR'\n").unwrap();
    assert_eq!(lines(&rows), ["Korea, 'S'|KR"]);
    let latin = LookupCsv {
        encoding: TextEncoding::Windows1252,
        ..LookupCsv::default()
    };
    assert_eq!(
        lines(&csv_with(latin, b"Name\n\xc5land\n").unwrap()),
        ["Åland"]
    );
    let wide = LookupCsv {
        encoding: TextEncoding::Utf16,
        delimiter: '\t',
        ..LookupCsv::default()
    };
    let text: Vec<u8> = "\u{feff}Name\tCode\r\nÅland\tAX\r\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(lines(&csv_with(wide.clone(), &text).unwrap()), ["Åland|AX"]);
    let odd = csv_with(wide, &text[..text.len() - 1]).unwrap_err();
    assert!(
        odd.contains("c.csv: it has an odd number of bytes"),
        "{odd}"
    );
    let null = LookupCsv {
        null_text: "\\N".into(),
        ..LookupCsv::default()
    };
    let rows = csv_with(null, b"Name,Code\nx,\\N\ny,NULL\n,\"\"\n").unwrap();
    assert_eq!(lines(&rows), ["x|", "y|NULL", "|"]);
}

#[test]
fn p22_types_are_given_by_the_schema_and_a_value_that_does_not_fit_has_its_line() {
    let typed = |columns: &[(&str, &str)], text: &'static [u8]| {
        let column = |(name, kind): &(&str, &str)| ColumnType {
            name: (*name).into(),
            type_name: (*kind).into(),
        };
        let spec = LookupSpec {
            schema: columns.iter().map(column).collect(),
            ..spec(LookupFormat::Csv)
        };
        parse(&spec, &[("c.csv".to_owned(), Bytes::from_static(text))])
            .map_err(|error| error.to_string())
    };
    let columns = [
        ("Id", "bigint"),
        ("price", "decimal(10,2)"),
        ("since", "date"),
    ];
    let rows = typed(&columns, b"Id,price,since,name\n7,1.5,2026-11-24,x\n,,,\n").unwrap();
    assert_eq!(lines(&rows), ["7|1.50|2026-11-24|x", "|||"]);
    assert_eq!(rows.schema().field(0).data_type(), &DataType::Int64);
    assert_eq!(
        typed(&columns, b"Id,price,since\n1,,\n\"a\nb\",,\n").unwrap_err(),
        "lookup countries: c.csv, line 3: \"a\\nb\" in column \"Id\" is no bigint"
    );
    assert_eq!(
        typed(&columns, b"id,price,since\n").unwrap_err(),
        "lookup countries: schema.Id: there is no such column; its columns are: id, price, since"
    );
}

#[test]
fn p22_a_table_in_single_quotes_and_one_without_rows_are_remarked() {
    let remarked = |text: &[u8]| remarks(&spec(LookupFormat::Csv), &csv(text).unwrap());
    assert_eq!(remarked(b"Name,Code\nGermany,DE\n'x,y'\n").len(), 0);
    let quoted = remarked(b"Name,Code\n'Germany','DE'\n'Peru','PE'\n");
    assert!(
        quoted[0].contains("column \"Name\" are in single quotes"),
        "{quoted:?}"
    );
    assert!(remarked(b"Name,Code\n")[0].contains("it has no rows"));
    for (text, delimiter) in [
        (&b"Name;Code\nGermany;DE\n"[..], "`delimiter = \";\"`"),
        (b"Name\tCode\n", "`delimiter = \"\\t\"`"),
    ] {
        assert!(
            remarked(text)[0].contains(delimiter),
            "{:?}",
            remarked(text)
        );
    }
}

fn parquet(name: &str, columns: Vec<(&str, ArrayRef)>) -> (String, Bytes) {
    let columns = columns
        .into_iter()
        .map(|(name, column)| (name, column, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    (name.to_owned(), bytes.into())
}

fn tables(files: &[(String, Bytes)]) -> Result<RecordBatch, String> {
    parse(&spec(LookupFormat::Parquet), files).map_err(|error| error.to_string())
}

fn text(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

#[test]
fn p23_text_is_text_however_tools_store_it() {
    let kinds = [DataType::LargeUtf8, DataType::Utf8View];
    let mut files = vec![parquet(
        "0",
        vec![("Name", text(&["a"])), ("Code", text(&["x"]))],
    )];
    for (at, kind) in kinds.iter().enumerate() {
        let large = arrow::compute::cast(&text(&["b"]), kind).unwrap();
        let dictionary: DictionaryArray<Int32Type> = vec!["y"].into_iter().collect();
        let name = (at + 1).to_string();
        files.push(parquet(
            &name,
            vec![("Name", large), ("Code", Arc::new(dictionary))],
        ));
    }
    let rows = tables(&files).unwrap();
    assert_eq!(lines(&rows), ["a|x", "b|y", "b|y"]);
    assert!(
        rows.schema()
            .fields()
            .iter()
            .all(|field| field.data_type() == &DataType::Utf8)
    );
}

#[test]
fn p23_columns_belong_together_by_name_and_an_absent_one_is_null() {
    let rows = tables(&[
        parquet(
            "a",
            vec![("Name", text(&["Peru"])), ("Code", text(&["PE"]))],
        ),
        parquet(
            "b",
            vec![
                ("Code", text(&["DE"])),
                ("Name", text(&["Germany"])),
                ("Area", text(&["EU"])),
            ],
        ),
    ])
    .unwrap();
    assert_eq!(names(&rows), ["Name", "Code", "Area"]);
    assert_eq!(lines(&rows), ["Peru|PE|", "Germany|DE|EU"]);
}

#[test]
fn p23_an_all_null_column_and_a_narrower_number_take_the_type_of_the_others() {
    let rows = tables(&[
        parquet(
            "a",
            vec![
                ("Id", Arc::new(Int32Array::from(vec![1]))),
                ("Code", Arc::new(NullArray::new(1))),
            ],
        ),
        parquet(
            "b",
            vec![
                ("Id", Arc::new(Int64Array::from(vec![1 << 40]))),
                ("Code", text(&["DE"])),
            ],
        ),
    ])
    .unwrap();
    assert_eq!(lines(&rows), ["1|", "1099511627776|DE"]);
    let alone = tables(&[parquet("a", vec![("Code", Arc::new(NullArray::new(2)))])]).unwrap();
    assert_eq!(alone.schema().field(0).data_type(), &DataType::Utf8);
}

#[test]
fn p23_two_types_without_a_common_one_are_refused_with_both_types_and_files() {
    let error = tables(&[
        parquet(
            "a.parquet",
            vec![("Id", Arc::new(Int32Array::from(vec![1])))],
        ),
        parquet("b.parquet", vec![("Id", text(&["x"]))]),
    ])
    .unwrap_err();
    assert!(
        error.contains("column \"Id\" is Int32 in a.parquet and Utf8 in b.parquet"),
        "{error}"
    );
}

#[test]
fn p23_folders_are_columns_of_their_files() {
    let file = |folder: &str, name: &str| {
        parquet(
            &format!("{folder}/a.parquet"),
            vec![("Name", text(&[name]))],
        )
    };
    let files = [
        file("Code=DE/year=2026", "Germany"),
        file("Code=NA/year=2027", "Namibia"),
    ];
    let rows = tables(&files).unwrap();
    assert_eq!(names(&rows), ["Name", "Code", "year"]);
    assert_eq!(lines(&rows), ["Germany|DE|2026", "Namibia|NA|2027"]);
    assert_eq!(rows.schema().field(2).data_type(), &DataType::Int32);
    // As a submit names the files.
    let whole: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (format!("/in/countries/{name}"), bytes.clone()))
        .collect();
    assert_eq!(lines(&tables(&whole).unwrap()), lines(&rows));
    let old = LookupSpec {
        folder_columns: false,
        ..spec(LookupFormat::Parquet)
    };
    assert_eq!(
        names(&parse(&old, &files).unwrap()),
        ["Name"],
        "jobs of earlier builds"
    );
    let own = [parquet("Code=DE/a", vec![("Code", text(&["de"]))])];
    assert_eq!(
        lines(&tables(&own).unwrap()),
        ["de"],
        "a column of the file itself"
    );
}
