//! Whether a table of the Data Catalog that is there fits the files.
//!
//! Rule: each difference is refused with what to write instead; only missing columns are no
//! difference, because a submit adds them.

use super::serde::read_by;
use crate::data_catalog::{FilesTable, TableName};
use streamctl_proto::resolved::ColumnType;
use streamctl_proto::spec::{FilesSink, HiveType, Problem, SinkCatalog, SinkFormat};

/// The key that problems are about.
pub(super) const FIELD: &str = "sink.catalog";

/// For users: `id bigint, name string`.
pub(super) fn columns_text(columns: &[ColumnType]) -> String {
    let text = |column: &ColumnType| format!("{} {}", column.name, column.type_name);
    columns.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// The columns that a submit adds to a table that is there.
///
/// # Errors
/// What is another one there than the files need, and columns that may not be added.
pub(super) fn missing_columns(
    sink: &FilesSink,
    of: &SinkCatalog,
    wanted: &FilesTable,
    table: &FilesTable,
) -> Result<Vec<ColumnType>, Vec<Problem>> {
    let name = TableName::of(of);
    let mut problems = vec![];
    let mut refuse = |message: String, hint: String| {
        problems.push(Problem::new(FIELD, message, Some(hint)));
    };
    if !read_by(sink.format, &table.library) {
        refuse(
            format!(
                "table {name} is read by {:?}, which does not read the sink's format",
                table.library
            ),
            format!(
                "set the sink's format, or name a table with {}",
                wanted.library
            ),
        );
    }
    if place_of(&table.location) != place_of(&wanted.location) {
        refuse(
            format!(
                "table {name} is at {}, and the files are not",
                table.location
            ),
            format!(
                "set path = {:?}, or name another table",
                place_of(&table.location)
            ),
        );
    }
    keys_fit(&name, wanted, table, &mut refuse);
    let projected = |table: &FilesTable| {
        let enabled = table.parameters.get("projection.enabled");
        enabled.is_some_and(|text| text.eq_ignore_ascii_case("true"))
    };
    if projected(table) != of.projection {
        refuse(
            format!(
                "table {name} has partition projection {}",
                if of.projection { "off" } else { "on" }
            ),
            format!("set projection = {}", !of.projection),
        );
    }
    let missing = columns_fit(&name, sink.format, wanted, table, &mut refuse);
    if !(missing.is_empty() || of.add_columns) {
        let columns = columns_text(&missing);
        refuse(
            format!("table {name} has no column for {columns}"),
            format!(
                "ALTER TABLE {name} ADD COLUMNS ({columns}), leave add_columns = false out, or leave the columns out of \
                 the query"
            ),
        );
    }
    match problems.is_empty() {
        true => Ok(missing),
        false => Err(problems),
    }
}

/// Hadoop's other names of S3, and the last slash, make no difference.
fn place_of(location: &str) -> String {
    let path = ["s3a://", "s3n://", "s3://"]
        .iter()
        .find_map(|scheme| location.strip_prefix(scheme));
    let path = path.map_or_else(|| location.to_owned(), |path| format!("s3://{path}"));
    format!("{}/", path.trim_end_matches('/'))
}

fn keys_fit(
    name: &TableName,
    wanted: &FilesTable,
    table: &FilesTable,
    refuse: &mut impl FnMut(String, String),
) {
    let lower = |columns: &[ColumnType]| -> Vec<String> {
        columns.iter().map(|it| it.name.to_lowercase()).collect()
    };
    let theirs = lower(&table.partition_keys);
    if theirs != lower(&wanted.partition_keys) {
        let list = |names: &[String]| match names.is_empty() {
            true => "nothing".to_owned(),
            false => names.join(", "),
        };
        refuse(
            format!(
                "table {name} is partitioned by {}, and the files by {}",
                list(&theirs),
                list(&lower(&wanted.partition_keys))
            ),
            format!("set partition_by = {theirs:?}, or name another table"),
        );
        return;
    }
    for (ours, theirs) in wanted.partition_keys.iter().zip(&table.partition_keys) {
        let is_text = |of: &HiveType| {
            matches!(
                of,
                HiveType::String | HiveType::Varchar(_) | HiveType::Char(_)
            )
        };
        let is_whole = |of: &HiveType| {
            use HiveType::{BigInt, Int, SmallInt, TinyInt};
            matches!(of, TinyInt | SmallInt | Int | BigInt)
        };
        let is_ingest = ours.name.starts_with("ingest_");
        let fits = match (hive(ours), hive(theirs)) {
            (Some(ours), Some(theirs)) => {
                ours == theirs
                    || is_text(&theirs)
                    || (is_whole(&theirs) && (is_ingest || is_whole(&ours)))
            }
            _ => false,
        };
        if !fits {
            refuse(
                format!(
                    "partition key {:?} of table {name} is {}, and the folders are {}",
                    theirs.name, theirs.type_name, ours.type_name
                ),
                "cast the column in the query, or make the table anew".to_owned(),
            );
        }
    }
}

fn hive(column: &ColumnType) -> Option<HiveType> {
    HiveType::parse(&column.type_name).ok()
}

/// The columns that the table lacks.
fn columns_fit(
    name: &TableName,
    format: SinkFormat,
    wanted: &FilesTable,
    table: &FilesTable,
    refuse: &mut impl FnMut(String, String),
) -> Vec<ColumnType> {
    let mut missing = vec![];
    for (place, ours) in wanted.columns.iter().enumerate() {
        let found = table
            .columns
            .iter()
            .position(|theirs| theirs.name.eq_ignore_ascii_case(&ours.name));
        let Some(at) = found else {
            missing.push(ours.clone());
            continue;
        };
        let theirs = &table.columns[at];
        // A line of CSV has no names: the place of a value is its column.
        if format == SinkFormat::Csv && at != place {
            refuse(
                format!(
                    "column {:?} is number {} of table {name}, and number {} of the files",
                    ours.name,
                    at + 1,
                    place + 1
                ),
                "name the query's columns in the order of the table, new ones last".to_owned(),
            );
        } else if !type_fits(format, ours, theirs) {
            refuse(
                format!(
                    "column {:?} is {} in table {name}, and {} in the files",
                    ours.name, theirs.type_name, ours.type_name
                ),
                format!(
                    "write CAST({} AS ...) in the query, or alter the table",
                    ours.name
                ),
            );
        }
    }
    if format == SinkFormat::Csv
        && let Some(first) = missing.first()
        && wanted.columns.len() - missing.len() < table.columns.len()
    {
        refuse(
            format!(
                "column {:?} would come behind columns of table {name} that the files do not have",
                first.name
            ),
            "name every column of the table in the query, in its order, new ones last".to_owned(),
        );
    }
    missing
}

fn type_fits(format: SinkFormat, ours: &ColumnType, theirs: &ColumnType) -> bool {
    let (Some(ours), Some(theirs)) = (hive(ours), hive(theirs)) else {
        return false;
    };
    let text = |of: HiveType| match of {
        HiveType::Varchar(_) | HiveType::Char(_) => HiveType::String,
        other => other,
    };
    let is_nested = matches!(
        ours,
        HiveType::Array(_) | HiveType::Map(..) | HiveType::Struct(_)
    );
    let ours = text(ours);
    let theirs = text(theirs);
    match format {
        SinkFormat::Parquet => ours == theirs,
        // A text column takes any value of a line as it is written there.
        SinkFormat::Json => ours == theirs || (theirs == HiveType::String && !is_nested),
        SinkFormat::Csv => true,
    }
}
