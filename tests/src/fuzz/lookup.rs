//! The CSV files of a lookup, against the `csv` crate with its usual settings.
//!
//! Input: two files, separated by the byte 0x1E.
//! Rule: there is a table exactly if both files are tables with the same columns; an empty field is
//! null and every other is unchanged.

use arrow::array::{Array, AsArray};
use bytes::Bytes;
use std::time::Duration;
use streamctl_engine::lookup::rows::{self, RowsError};
use streamctl_proto::spec::{Location, LookupFormat, LookupSpec};

const SIZE_MAX: u64 = 1 << 20;

pub fn lookup(data: &[u8]) {
    let files: Vec<&[u8]> = data.splitn(2, |byte| *byte == 0x1E).collect();
    let path = Location::folder("/countries");
    let refresh = Duration::from_secs(60);
    let spec = LookupSpec {
        name: "countries".into(),
        path,
        format: LookupFormat::Csv,
        refresh,
        size_max: SIZE_MAX,
        ..LookupSpec::new("l", Location::folder("/l"), LookupFormat::Csv)
    };
    let name = |(index, content): (usize, &&[u8])| {
        (format!("{index}.csv"), Bytes::copy_from_slice(content))
    };
    let named: Vec<_> = files.iter().enumerate().map(name).collect();
    let expected = tables(&files);
    match (rows::parse(&spec, &named), expected) {
        (Ok(batch), Some((header, rows))) => {
            let names: Vec<_> = batch
                .schema()
                .fields()
                .iter()
                .map(|field| field.name().clone())
                .collect();
            assert_eq!(names, header);
            assert_eq!(batch.num_rows(), rows.len());
            for (row, fields) in rows.iter().enumerate() {
                for (column, field) in fields.iter().enumerate() {
                    let column = batch.column(column).as_string::<i32>();
                    let found = column.is_valid(row).then(|| column.value(row));
                    assert_eq!(
                        found,
                        Some(field.as_str()).filter(|field| !field.is_empty()),
                        "row {row}"
                    );
                }
            }
        }
        (Ok(batch), None) => panic!("no table, and {} rows were read", batch.num_rows()),
        (Err(error), Some((_, rows))) => panic!("{} rows were refused: {error}", rows.len()),
        (Err(error), None) => judge(&error, &files),
    }
}

/// A reported line exists in its file.
fn judge(error: &RowsError, files: &[&[u8]]) {
    let RowsError::Line { file, line, .. } = error else {
        return;
    };
    let index: usize = file
        .trim_end_matches(".csv")
        .parse()
        .expect("files are numbered");
    let lines = 1 + files[index]
        .iter()
        .filter(|byte| matches!(byte, b'\n' | b'\r'))
        .count() as u64;
    assert!(
        (1..=lines).contains(line),
        "line {line} of {lines}: {error}"
    );
}

type Table = (Vec<String>, Vec<Vec<String>>);

/// Header and rows of all files, or `None` if they are not a table.
fn tables(files: &[&[u8]]) -> Option<Table> {
    let mut all: Option<Table> = None;
    for content in files {
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(content);
        let records = reader.records().collect::<Result<Vec<_>, _>>().ok()?;
        let mut records = records
            .into_iter()
            .map(|record| record.iter().map(str::to_owned).collect::<Vec<_>>());
        let Some(header) = records.next() else {
            continue;
        };
        let twice = |(at, name): (usize, &String)| header[..at].contains(name);
        if header.iter().any(String::is_empty) || header.iter().enumerate().any(twice) {
            return None;
        }
        match &mut all {
            Some((first, _)) if *first != header => return None,
            Some((_, rows)) => rows.extend(records),
            None => all = Some((header, records.collect())),
        }
    }
    all
}
