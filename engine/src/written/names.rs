//! Names of columns that every reader takes.
//!
//! Rule: a name is refused at submit, or it is written as it is; none is ever changed.

use arrow::datatypes::{DataType, Field, Schema};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Longest name of a column, in bytes: the limit of Glue and Athena.
pub const NAME_BYTES_MAX: usize = 255;

/// Characters that Spark refuses in the names of a Parquet file's columns.
const REFUSED: [char; 9] = [' ', ',', ';', '{', '}', '(', ')', '=', '\t'];

/// The problems of a result's names, each with a hint. Columns of `folders` become folders and are
/// in no file: Hive escapes what their names hold.
pub fn check_names(result: &Schema, folders: &[&str]) -> Vec<(String, String)> {
    let mut problems = vec![];
    for (at, field) in result.fields().iter().enumerate() {
        let name = field.name();
        if !folders.contains(&name.as_str())
            && let Some(reason) = refused(name)
        {
            let message = match name.is_empty() {
                true => format!("column {} of the result has no name", at + 1),
                false => format!("column {name:?} of the result {reason}"),
            };
            let hint = format!("name it: ... AS {}", plain(name, at));
            problems.push((message, hint));
        }
        nested(name, field.data_type(), &mut problems);
    }
    problems
}

/// The fields of structs, at any depth.
fn nested(column: &str, data_type: &DataType, problems: &mut Vec<(String, String)>) {
    match data_type {
        DataType::Struct(fields) => {
            let mut seen = BTreeSet::new();
            for field in fields {
                let reason = if seen.insert(field.name().to_lowercase()) {
                    refused(field.name())
                } else {
                    Some("is there twice: case makes no difference to readers".to_owned())
                };
                if let Some(reason) = reason {
                    let message = format!("field {:?} of column {column:?} {reason}", field.name());
                    problems.push((message, "give the field another name".to_owned()));
                }
                nested(column, field.data_type(), problems);
            }
        }
        DataType::Map(entries, _) => {
            if let DataType::Struct(fields) = entries.data_type() {
                let each = |field: &Arc<Field>| nested(column, field.data_type(), problems);
                fields.iter().for_each(each);
            }
        }
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => nested(column, item.data_type(), problems),
        DataType::Dictionary(_, value) => nested(column, value, problems),
        _ => {}
    }
}

/// Why readers do not take the name.
fn refused(name: &str) -> Option<String> {
    if name.trim().is_empty() {
        return Some("has no name".to_owned());
    }
    if name.len() > NAME_BYTES_MAX {
        let bytes = name.len();
        return Some(format!(
            "has a name of {bytes} bytes, the limit of readers is {NAME_BYTES_MAX}"
        ));
    }
    let bad = |c: &char| REFUSED.contains(c) || c.is_control();
    name.chars()
        .find(bad)
        .map(|c| format!("has {c:?} in its name, which Spark and Athena do not take"))
}

/// A name of letters, digits and `_` that resembles this one.
fn plain(name: &str, at: usize) -> String {
    let mut plain = String::new();
    for c in name.chars().take(60) {
        if c.is_alphanumeric() {
            plain.push(c);
        } else if !plain.is_empty() && !plain.ends_with('_') {
            plain.push('_');
        }
    }
    let plain = plain.trim_end_matches('_');
    let begins = plain.chars().next().is_some_and(char::is_alphabetic);
    if !begins {
        return format!("column_{}", at + 1);
    }
    match plain.chars().any(char::is_uppercase) {
        true => format!("{plain:?}"),
        false => plain.to_owned(),
    }
}
