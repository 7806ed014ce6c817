//! Columns from the names of folders: `Code=DE/part-0.parquet`.
//!
//! Rule: names and types as Spark and Hive read them. A column that the files have themselves is
//! the files'.

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use std::sync::Arc;
use streamctl_proto::names::NO_VALUE;

/// The columns in the folders of a file below the lookup's path, outermost first; no value: null.
pub(super) fn of(file: &str) -> Vec<(String, Option<String>)> {
    let folders = file.rsplit_once('/').map_or("", |(folders, _)| folders);
    folders
        .split('/')
        .filter_map(|folder| folder.split_once('='))
        .filter(|(name, _)| !name.is_empty())
        .map(|(name, value)| {
            let value = (value != NO_VALUE).then(|| decoded(value));
            (decoded(name), value)
        })
        .collect()
}

/// Undoes the escapes of Hive: `%2F` is a slash.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let escaped = (*byte == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(*byte));
        rest = match escaped {
            Some(_) => &after[2..],
            None => after,
        };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// The type that all values have: a whole number, a number, a date, else text.
pub(super) fn inferred<'v>(values: impl Iterator<Item = &'v str> + Clone) -> DataType {
    let all = |fits: fn(&str) -> bool| values.clone().all(fits);
    if values.clone().next().is_none() {
        DataType::Utf8
    } else if all(|text| text.parse::<i32>().is_ok()) {
        DataType::Int32
    } else if all(|text| text.parse::<i64>().is_ok()) {
        DataType::Int64
    } else if all(is_number) {
        DataType::Float64
    } else if all(|text| chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok()) {
        DataType::Date32
    } else {
        DataType::Utf8
    }
}

/// Not `inf` or `NaN`, which may be words.
fn is_number(text: &str) -> bool {
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    digits && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// A column of `rows` times this value. A value that is none of the type is null; `inferred` gives
/// no such type.
pub(super) fn column(value: Option<&str>, data_type: &DataType, rows: usize) -> ArrayRef {
    let text: ArrayRef = Arc::new(StringArray::from(vec![value; rows]));
    cast(&text, data_type).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p23_folders_are_columns_as_hive_names_them() {
        let named = |file: &str| of(file);
        let column = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        assert_eq!(named("a.parquet"), []);
        assert_eq!(
            named("y=2026/Code=DE/a=b.parquet"),
            [column("y", Some("2026")), column("Code", Some("DE"))]
        );
        assert_eq!(
            named("c=a%2Fb%/__HIVE/d=__HIVE_DEFAULT_PARTITION__/x"),
            [column("c", Some("a/b%")), column("d", None)]
        );
    }

    #[test]
    fn p23_the_type_of_a_folder_s_column_is_that_of_all_its_values() {
        let kind = |values: &[&str]| inferred(values.iter().copied());
        assert_eq!(kind(&["DE", "NA"]), DataType::Utf8);
        assert_eq!(kind(&["01", "12"]), DataType::Int32);
        assert_eq!(kind(&["1", "9999999999"]), DataType::Int64);
        assert_eq!(kind(&["1", "2.5"]), DataType::Float64);
        assert_eq!(kind(&["2026-11-24"]), DataType::Date32);
        assert_eq!(kind(&["1", "DE"]), DataType::Utf8);
        assert_eq!(kind(&["NaN", "inf"]), DataType::Utf8);
        assert_eq!(kind(&[]), DataType::Utf8);
    }
}
