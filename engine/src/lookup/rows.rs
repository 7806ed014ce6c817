//! A lookup's files as rows.
//!
//! Owns: CSV and Parquet into one batch. Does not own: which files a version has (`version`).
//! Rule: all files are one table, or none is taken: another header, a broken line or too many bytes
//! refuse it, and the error names file and line.
//!
//! CSV: the first line is the header, every column is text, names keep their case, `"` quotes. An
//! empty field is null, as Spark reads it; `NA`, `null` and the like are text. A byte-order mark is
//! skipped, a `.gz` file is unpacked.

use crate::query::COLUMNS_MAX;
use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::HashSet;
use std::io::Read;
use std::sync::Arc;
use streamctl_proto::spec::{LookupFormat, LookupSpec};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// Largest text of one column in bytes, regardless of `size_max`: offsets have 31 bits.
pub const TEXT_BYTES_MAX: u64 = i32::MAX as u64;

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

/// Why a lookup's files are not a table.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// No file has a header or a schema.
    #[error("lookup {lookup}: there is no table in its files: every one is empty")]
    NoTable { lookup: String },
    /// The header cannot be used.
    #[error("lookup {lookup}: {file}, line 1: {reason}")]
    Header {
        lookup: String,
        file: String,
        reason: String,
    },
    /// Two files have different columns.
    #[error("lookup {lookup}: {file} has the columns {found}, but {first} has {expected}")]
    OtherColumns {
        lookup: String,
        file: String,
        found: String,
        first: String,
        expected: String,
    },
    /// A line of a CSV file is broken.
    #[error("lookup {lookup}: {file}, line {line}: {reason}")]
    Line {
        lookup: String,
        file: String,
        /// From 1; the line where the record begins.
        line: u64,
        reason: String,
    },
    /// A file is not of its format.
    #[error("lookup {lookup}: {file}: {reason}")]
    File {
        lookup: String,
        file: String,
        reason: String,
    },
    /// Unpacked, it is larger than the job allows.
    #[error(
        "lookup {lookup}: its rows have more than {limit} bytes; raise `size_max`, or keep fewer \
         columns and rows in it"
    )]
    TooLarge { lookup: String, limit: u64 },
}

/// Reads all files of a lookup, given by name and content, into one batch. Unpacked content (and,
/// for Parquet, the rows in memory) may have `size_max` bytes.
///
/// # Errors
/// [`RowsError`]; retrying with the same files never helps.
pub fn parse(spec: &LookupSpec, files: &[(String, Bytes)]) -> Result<RecordBatch, RowsError> {
    let mut table = Table {
        lookup: &spec.name,
        left: spec.size_max,
        limit: spec.size_max,
        first: None,
        batches: vec![],
    };
    for (file, bytes) in files.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        match spec.format {
            LookupFormat::Csv => table.csv(file, bytes)?,
            LookupFormat::Parquet => table.parquet(file, bytes.clone())?,
        }
    }
    table.finish()
}

/// The rows read so far.
struct Table<'a> {
    lookup: &'a str,
    /// Bytes that may still follow.
    left: u64,
    limit: u64,
    /// The first file's name and columns.
    first: Option<(String, SchemaRef)>,
    batches: Vec<RecordBatch>,
}

impl Table<'_> {
    fn csv(&mut self, file: &str, bytes: &Bytes) -> Result<(), RowsError> {
        let unpacked;
        let text: &[u8] = if file.ends_with(".gz") {
            unpacked = self.unpacked(file, bytes)?;
            &unpacked
        } else {
            bytes
        };
        self.take(text.len() as u64)?;
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .from_reader(text);
        let mut record = csv::ByteRecord::new();
        if !reader
            .read_byte_record(&mut record)
            .map_err(|error| self.broken(file, 1, &error.to_string()))?
        {
            return Ok(());
        }
        let schema = self.header(file, &record)?;
        let mut columns: Vec<StringBuilder> = schema
            .fields()
            .iter()
            .map(|_| StringBuilder::new())
            .collect();
        while reader
            .read_byte_record(&mut record)
            .map_err(|error| self.broken(file, 0, &error.to_string()))?
        {
            self.line(file, &record, &mut columns)?;
        }
        let columns = columns
            .iter_mut()
            .map(|column| Arc::new(column.finish()) as ArrayRef)
            .collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns);
        self.add(file, batch.map_err(|error| self.bad_file(file, error))?)
    }

    fn header(&self, file: &str, record: &csv::ByteRecord) -> Result<SchemaRef, RowsError> {
        let bad = |reason: String| RowsError::Header {
            lookup: self.lookup.into(),
            file: file.into(),
            reason,
        };
        if record.len() > COLUMNS_MAX {
            return Err(bad(format!(
                "it has {} columns, the limit is {COLUMNS_MAX}",
                record.len()
            )));
        }
        let mut fields: Vec<Field> = Vec::with_capacity(record.len());
        let mut names = HashSet::with_capacity(record.len());
        for (at, name) in record.iter().enumerate() {
            let name = std::str::from_utf8(name)
                .map_err(|_| bad(format!("the name of column {} is not UTF-8", at + 1)))?;
            if name.is_empty() {
                return Err(bad(format!(
                    "column {} has no name; the first line must be the header",
                    at + 1
                )));
            }
            if !names.insert(name) {
                return Err(bad(format!("two columns are named {name:?}")));
            }
            fields.push(Field::new(name, DataType::Utf8, true));
        }
        Ok(Arc::new(Schema::new(fields)))
    }

    fn line(
        &self,
        file: &str,
        record: &csv::ByteRecord,
        columns: &mut [StringBuilder],
    ) -> Result<(), RowsError> {
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != columns.len() {
            let reason = format!("{} fields, the header has {}", record.len(), columns.len());
            return Err(self.broken(file, line, &reason));
        }
        for (at, (field, column)) in record.iter().zip(columns).enumerate() {
            let not_text = |_| self.broken(file, line, &format!("field {} is not UTF-8", at + 1));
            let field = std::str::from_utf8(field).map_err(not_text)?;
            column.append_option((!field.is_empty()).then_some(field));
        }
        Ok(())
    }

    fn unpacked(&self, file: &str, bytes: &Bytes) -> Result<Vec<u8>, RowsError> {
        let mut text = Vec::new();
        let most = self.left.min(TEXT_BYTES_MAX) + 1;
        let packed = flate2::read::MultiGzDecoder::new(bytes.as_ref());
        packed
            .take(most)
            .read_to_end(&mut text)
            .map_err(|error| self.bad_file(file, error))?;
        Ok(text)
    }

    fn parquet(&mut self, file: &str, bytes: Bytes) -> Result<(), RowsError> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .map_err(|error| self.bad_file(file, error))?;
        let columns = reader.schema().fields().len();
        if columns > COLUMNS_MAX {
            return Err(self.bad_file(
                file,
                format!("it has {columns} columns, the limit is {COLUMNS_MAX}"),
            ));
        }
        let reader = reader.build().map_err(|error| self.bad_file(file, error))?;
        let schema = plain(&arrow::array::RecordBatchReader::schema(&reader));
        self.add(file, RecordBatch::new_empty(Arc::clone(&schema)))?;
        for batch in reader {
            let batch = batch.map_err(|error| self.bad_file(file, error))?;
            self.take(batch.get_array_memory_size() as u64)?;
            let batch = batch
                .with_schema(Arc::clone(&schema))
                .map_err(|error| self.bad_file(file, error))?;
            self.add(file, batch)?;
        }
        Ok(())
    }

    fn add(&mut self, file: &str, batch: RecordBatch) -> Result<(), RowsError> {
        let (first, expected) = self
            .first
            .get_or_insert_with(|| (file.to_owned(), batch.schema()));
        if *expected != batch.schema() {
            let lookup = self.lookup.to_owned();
            let file = file.to_owned();
            let first = first.clone();
            let found = shape(&batch.schema());
            let expected = shape(expected);
            return Err(RowsError::OtherColumns {
                lookup,
                file,
                found,
                first,
                expected,
            });
        }
        self.batches.push(batch);
        Ok(())
    }

    fn finish(self) -> Result<RecordBatch, RowsError> {
        let Some((first, schema)) = &self.first else {
            return Err(RowsError::NoTable {
                lookup: self.lookup.into(),
            });
        };
        concat_batches(schema, &self.batches).map_err(|error| self.bad_file(first, error))
    }

    fn take(&mut self, bytes: u64) -> Result<(), RowsError> {
        let most = self.limit.min(TEXT_BYTES_MAX);
        let used = self.limit - self.left;
        if used.saturating_add(bytes) > most {
            return Err(RowsError::TooLarge {
                lookup: self.lookup.into(),
                limit: most,
            });
        }
        self.left -= bytes;
        Ok(())
    }

    fn broken(&self, file: &str, line: u64, reason: &str) -> RowsError {
        RowsError::Line {
            lookup: self.lookup.into(),
            file: file.into(),
            line,
            reason: reason.into(),
        }
    }

    fn bad_file(&self, file: &str, reason: impl std::fmt::Display) -> RowsError {
        RowsError::File {
            lookup: self.lookup.into(),
            file: file.into(),
            reason: reason.to_string(),
        }
    }
}

/// The columns without what is irrelevant here: metadata and nullability.
fn plain(schema: &Schema) -> SchemaRef {
    let field = |field: &Arc<Field>| Field::new(field.name(), field.data_type().clone(), true);
    Arc::new(Schema::new(
        schema.fields().iter().map(field).collect::<Vec<_>>(),
    ))
}

fn shape(schema: &Schema) -> String {
    let all_text = schema
        .fields()
        .iter()
        .all(|field| field.data_type() == &DataType::Utf8);
    let column = |field: &Arc<Field>| match all_text {
        true => field.name().clone(),
        false => format!("{} {}", field.name(), field.data_type()),
    };
    schema
        .fields()
        .iter()
        .map(column)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray, Int64Array};
    use std::io::Write;
    use streamctl_proto::spec::Location;

    fn spec(format: LookupFormat) -> LookupSpec {
        let path = Location::folder("/in/countries");
        let refresh = std::time::Duration::from_secs(60);
        LookupSpec {
            name: "countries".into(),
            path,
            format,
            refresh,
            size_max: 1 << 20,
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
        assert!(matches!(
            parse(&spec, &[parquet("a", ids(vec![1])), text]),
            Err(RowsError::OtherColumns { .. })
        ));
        let broken = ("c".to_owned(), Bytes::from_static(b"PAR1 not really PAR1"));
        assert!(
            matches!(parse(&spec, &[broken]), Err(RowsError::File { file, .. }) if file == "c")
        );
    }
}
