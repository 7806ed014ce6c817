//! A lookup's files as rows.
//!
//! Owns: all files into one batch, its columns and types. Does not own: which files a version has
//! (`version`), the two formats (`csv_file`, `parquet_file`), whether the rows are those that a
//! query needs (`query::fit`).
//! Rule: all files are one table, or none is taken: a column of two types, a broken line or too many
//! bytes refuse it, and the error names file and line.

use super::folders;
use super::room::Room;
pub use super::room::{RowsError, TEXT_BYTES_MAX};
use super::unite::unite;
use super::{csv_file, parquet_file};
use crate::query::lossless;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{Field, Schema, SchemaRef};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use streamctl_proto::spec::{LookupFormat, LookupSpec};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// Lookups whose files one process reads into rows at once.
pub const LOOKUPS_READ_MAX: usize = 2;

static READING: Semaphore = Semaphore::const_new(LOOKUPS_READ_MAX);

/// Like [`parse`], but off the runtime's threads. A runtime with a single thread runs it in place:
/// it could serve nothing else meanwhile.
///
/// # Errors
/// As [`parse`].
pub async fn read(
    spec: &LookupSpec,
    files: Vec<(String, Bytes)>,
) -> Result<RecordBatch, RowsError> {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return parse(spec, &files);
    }
    let _place = READING.acquire().await;
    let lookup = spec.name.clone();
    let spec = spec.clone();
    let reading = tokio::task::spawn_blocking(move || parse(&spec, &files)).await;
    reading.unwrap_or_else(|error| {
        let file = "its files".to_owned();
        Err(RowsError::File {
            lookup,
            file,
            reason: format!("reading them ended early: {error}"),
        })
    })
}

/// Reads all files of a lookup, given by name and content, into one batch. Unpacked content (and,
/// for Parquet, the rows in memory) may have `size_max` bytes.
///
/// # Errors
/// [`RowsError`]; retrying with the same files never helps.
pub fn parse(spec: &LookupSpec, files: &[(String, Bytes)]) -> Result<RecordBatch, RowsError> {
    let mut room = Room::new(&spec.name, spec.size_max);
    let mut read = Vec::with_capacity(files.len());
    for (file, bytes) in files.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        let rows = match spec.format {
            LookupFormat::Csv => csv_file::read(spec, file, bytes, &mut room)?,
            LookupFormat::Parquet => parquet_file::read(file, bytes.clone(), &mut room)?,
        };
        read.extend(rows.map(|rows| FileRows {
            file: file.strip_prefix(spec.path.as_str()).unwrap_or(file),
            rows,
        }));
    }
    if spec.format == LookupFormat::Csv {
        same_columns(&spec.name, &read)?;
    }
    if spec.folder_columns {
        add_folders(&mut read);
    }
    typed(spec, one_table(&spec.name, &read)?)
}

/// The rows of one file.
struct FileRows<'f> {
    /// Its name below the lookup's path.
    file: &'f str,
    rows: RecordBatch,
}

/// Fields of CSV belong to columns by their places, so that every file has the same header.
fn same_columns(lookup: &str, files: &[FileRows<'_>]) -> Result<(), RowsError> {
    let Some(first) = files.first() else {
        return Ok(());
    };
    match files
        .iter()
        .find(|other| names(&other.rows) != names(&first.rows))
    {
        Some(other) => Err(RowsError::OtherColumns {
            lookup: lookup.to_owned(),
            file: other.file.to_owned(),
            found: names(&other.rows).join(", "),
            first: first.file.to_owned(),
            expected: names(&first.rows).join(", "),
        }),
        None => Ok(()),
    }
}

fn names(rows: &RecordBatch) -> Vec<String> {
    let schema = rows.schema();
    let names = schema.fields().iter().map(|field| field.name().clone());
    names.collect()
}

/// Adds the columns that folders are to the rows of each file.
fn add_folders(files: &mut [FileRows<'_>]) {
    let mut values: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
    let mut order: Vec<String> = vec![];
    for (at, file) in files.iter().enumerate() {
        for (name, value) in folders::of(file.file) {
            if !order.contains(&name) {
                order.push(name.clone());
            }
            let column = values.entry(name).or_default();
            column.resize(at + 1, None);
            column[at] = value;
        }
    }
    order.retain(|name| {
        files
            .iter()
            .all(|file| file.rows.column_by_name(name).is_none())
    });
    for name in order {
        let mut column = values.remove(&name).unwrap_or_default();
        column.resize(files.len(), None);
        let data_type = folders::inferred(column.iter().flatten().map(String::as_str));
        for (file, value) in files.iter_mut().zip(&column) {
            let rows = &file.rows;
            let array = folders::column(value.as_deref(), &data_type, rows.num_rows());
            let schema = rows.schema();
            let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
            fields.push(Arc::new(Field::new(&name, data_type.clone(), true)));
            let mut columns = rows.columns().to_vec();
            columns.push(array);
            if let Ok(rows) = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns) {
                file.rows = rows;
            }
        }
    }
}

/// All files in one schema. A column that a file does not have is null in it.
fn one_table(lookup: &str, files: &[FileRows<'_>]) -> Result<RecordBatch, RowsError> {
    if files.is_empty() {
        return Err(RowsError::NoTable {
            lookup: lookup.into(),
        });
    }
    let schemas = files.iter().map(|file| (file.file, file.rows.schema()));
    let schema = unite(schemas).map_err(|clash| RowsError::OtherType {
        lookup: lookup.into(),
        clash: Box::new(clash),
    })?;
    let bad = |file: &str, reason: String| RowsError::File {
        lookup: lookup.into(),
        file: file.into(),
        reason,
    };
    let mut batches = Vec::with_capacity(files.len());
    for FileRows { file, rows } in files {
        let batch = in_schema(rows, &schema).map_err(|error| bad(file, error.to_string()))?;
        batches.push(batch);
    }
    concat_batches(&schema, &batches).map_err(|error| bad("its files", error.to_string()))
}

/// Nothing is lost: each type has room for those of all files.
fn in_schema(
    rows: &RecordBatch,
    schema: &SchemaRef,
) -> Result<RecordBatch, arrow::error::ArrowError> {
    let column = |field: &Arc<Field>| match rows.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
        Some(column) => cast(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), rows.num_rows())),
    };
    let columns = schema.fields().iter().map(column);
    let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
    let count = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &count)
}

/// The types that the job gives some columns; the others keep theirs.
fn typed(spec: &LookupSpec, rows: RecordBatch) -> Result<RecordBatch, RowsError> {
    if spec.schema.is_empty() {
        return Ok(rows);
    }
    let bad = |reason: String| RowsError::Schema {
        lookup: spec.name.clone(),
        reason,
    };
    let wanted = csv_file::wanted_types(spec).map_err(bad)?;
    let have = names(&rows);
    if let Some((name, _)) = wanted.iter().find(|(name, _)| !have.contains(name)) {
        return Err(bad(format!(
            "schema.{name}: there is no such column; its columns are: {}",
            have.join(", ")
        )));
    }
    let schema = rows.schema();
    let mut fields = vec![];
    let mut columns = vec![];
    for (field, column) in schema.fields().iter().zip(rows.columns()) {
        let data_type = wanted.get(field.name()).unwrap_or(field.data_type());
        let column = lossless(column, data_type).map_err(|lost| {
            let name = field.name();
            bad(format!(
                "column {name:?} has the value {}, which is no {data_type} without loss",
                lost.0
            ))
        })?;
        fields.push(Field::new(field.name(), data_type.clone(), true));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| bad(error.to_string()))
}

/// What the user should know of a table that can be read: it may not be the one that was meant.
pub fn remarks(spec: &LookupSpec, rows: &RecordBatch) -> Vec<String> {
    let is_csv = spec.format == LookupFormat::Csv;
    if let Some((name, delimiter)) = csv_file::other_delimiter(&names(rows)).filter(|_| is_csv) {
        return vec![format!(
            "its header is one column {name:?}; set `delimiter = {delimiter:?}` if it should be more"
        )];
    }
    if rows.num_rows() == 0 {
        return vec!["it has no rows: an inner join with it gives none".to_owned()];
    }
    if !is_csv {
        return vec![];
    }
    if spec.csv.quote == '\'' {
        return vec![];
    }
    csv_file::in_single_quotes(rows)
        .map(|column| {
            format!(
                "the values of column {column:?} are in single quotes, which are part of them here; \
                 set `quote = \"'\"` if they should not be"
            )
        })
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::COLUMNS_MAX;
    use arrow::array::{Array, AsArray, Int64Array};
    use arrow::datatypes::DataType;
    use std::io::Write;
    use streamctl_proto::spec::Location;

    fn spec(format: LookupFormat) -> LookupSpec {
        LookupSpec {
            size_max: 1 << 20,
            ..LookupSpec::new("countries", Location::folder("/in/countries"), format)
        }
    }

    fn csv(files: &[(&str, &[u8])]) -> Result<RecordBatch, RowsError> {
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Bytes::copy_from_slice(text)))
            .collect();
        parse(&spec(LookupFormat::Csv), &files)
    }

    fn find<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a str> {
        let names = batch.column(0).as_string::<i32>();
        let codes = batch.column(1).as_string::<i32>();
        let row = (0..batch.num_rows()).find(|&row| names.value(row) == name)?;
        codes.is_valid(row).then(|| codes.value(row))
    }

    #[test]
    fn the_workshop_s_countries_are_read_with_quotes_accents_and_namibia() {
        let batch = csv(&[(
            "country_lookup.csv",
            include_bytes!("../../testdata/country_lookup.csv"),
        )])
        .unwrap();
        assert_eq!(batch.num_rows(), 249);
        assert_eq!(
            batch
                .schema()
                .fields()
                .iter()
                .map(|f| f.name().as_str())
                .collect::<Vec<_>>(),
            ["CountryName", "Code"]
        );
        assert_eq!(find(&batch, "Namibia"), Some("NA"));
        assert_eq!(find(&batch, "Bolivia, Plurinational State of"), Some("BO"));
        assert_eq!(find(&batch, "Åland Islands"), Some("AX"));
        assert_eq!(batch.column(1).null_count(), 0);
    }

    #[test]
    fn files_are_one_table_and_an_empty_field_is_null() {
        let batch = csv(&[
            ("a", b"\xef\xbb\xbfn,c\r\nx,1\r\n"),
            ("empty", b""),
            ("b", b"n,c\ny,\n\"z\n2\",null"),
        ])
        .unwrap();
        assert_eq!(batch.num_rows(), 3);
        assert_eq!(
            (find(&batch, "x"), find(&batch, "y"), find(&batch, "z\n2")),
            (Some("1"), None, Some("null"))
        );
    }

    #[test]
    fn a_packed_file_is_unpacked_within_the_limit() {
        let pack = |text: &[u8]| {
            let mut packer =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            packer.write_all(text).unwrap();
            packer.finish().unwrap()
        };
        assert_eq!(
            find(&csv(&[("a.csv.gz", &pack(b"n,c\nx,1\n"))]).unwrap(), "x"),
            Some("1")
        );
        let bomb = pack(&vec![b'x'; 2 << 20]);
        assert!(
            matches!(csv(&[("a.csv.gz", &bomb)]), Err(RowsError::TooLarge { limit, .. }) if limit == 1 << 20)
        );
        assert!(matches!(
            csv(&[("a.csv.gz", b"n,c\n")]),
            Err(RowsError::File { .. })
        ));
    }

    #[test]
    fn what_is_broken_is_named_by_file_and_line() {
        let line = |text: &[u8]| csv(&[("f.csv", text)]).unwrap_err().to_string();
        assert_eq!(
            line(b"n,c\nx,1\ny\n"),
            "lookup countries: f.csv, line 3: 1 fields, the header has 2"
        );
        assert_eq!(
            line(b"n,c\n\"a\nb\",1\nx,\xff\n"),
            "lookup countries: f.csv, line 4: field 2 is not UTF-8"
        );
        assert!(line(b"n,\n").contains("column 2 has no name"));
        assert!(line(b"n,n\n").contains("two columns"));
        let wide = |columns: usize| {
            (0..columns)
                .map(|at| format!("c{at}"))
                .collect::<Vec<_>>()
                .join(",")
        };
        csv(&[("f.csv", wide(COLUMNS_MAX).as_bytes())]).expect("as many columns as may be");
        let began = std::time::Instant::now();
        assert!(
            line(wide(100_000).as_bytes()).contains("it has 100000 columns, the limit is 2000")
        );
        assert!(
            began.elapsed() < std::time::Duration::from_secs(10),
            "the header alone decides"
        );
        let other = csv(&[("a", b"n,c\n"), ("b", b"c,n\n")])
            .unwrap_err()
            .to_string();
        assert_eq!(
            other,
            "lookup countries: b has the columns c, n, but a has n, c"
        );
        assert!(matches!(csv(&[("a", b"")]), Err(RowsError::NoTable { .. })));
    }

    fn parquet(name: &str, column: ArrayRef) -> (String, Bytes) {
        let schema = Arc::new(Schema::new(vec![Field::new(
            "Id",
            column.data_type().clone(),
            false,
        )]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap();
        let mut bytes = Vec::new();
        let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, schema, None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        (name.to_owned(), bytes.into())
    }

    #[test]
    fn parquet_files_keep_their_types_and_must_agree() {
        let spec = spec(LookupFormat::Parquet);
        let ids = |ids: Vec<i64>| Arc::new(Int64Array::from(ids)) as ArrayRef;
        let batch = parse(
            &spec,
            &[parquet("a", ids(vec![1, 2])), parquet("b", ids(vec![3]))],
        )
        .unwrap();
        assert_eq!(
            batch.schema().field(0),
            &Field::new("Id", DataType::Int64, true)
        );
        assert_eq!(batch.num_rows(), 3);
        let text = parquet("b", Arc::new(arrow::array::StringArray::from(vec!["x"])));
        assert_eq!(
            parse(&spec, &[parquet("a", ids(vec![1])), text])
                .unwrap_err()
                .to_string(),
            "lookup countries: column \"Id\" is Int64 in a and Utf8 in b; write all files with one \
             type, or cast it by [lookup.schema]"
        );
        let broken = ("c".to_owned(), Bytes::from_static(b"PAR1 not really PAR1"));
        assert!(
            matches!(parse(&spec, &[broken]), Err(RowsError::File { file, .. }) if file == "c")
        );
    }
}
