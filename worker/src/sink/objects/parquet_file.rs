//! One unfinished Parquet file.
//!
//! Owns: settings of Parquet, the memory of its writer. Does not own: the destination of the bytes,
//! how much memory there is.
//! Rule: memory that the writer takes but does not report is estimated; the tests compare the
//! estimates with a counting allocator, so that a new version of the library cannot silently
//! invalidate them.

use super::encoding::Encoding;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression as ParquetCompression, GzipLevel, ZstdLevel};
use parquet::column::page_store::{
    InMemoryPageStore, PageKey, PageStore, PageStoreArgs, PageStoreFactory,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::{
    DEFAULT_DATA_PAGE_ROW_COUNT_LIMIT, DEFAULT_PAGE_SIZE, WriterProperties,
};
use std::sync::Arc;
use streamctl_proto::spec::Compression;

/// The key and the value by which Spark knows that days and times are of the proleptic Gregorian
/// calendar. Without it, Spark 3 and later refuse to read a file with a date before 1582-10-15 or a
/// time before 1900 (`READ_ANCIENT_DATETIME`): one `0001-01-01` would cost its readers the table.
const SPARK_VERSION: (&str, &str) = ("org.apache.spark.version", "3.5.0");
/// A row group is written when it has about this much, encoded.
const ROW_GROUP_BYTES: usize = 16 << 20;
/// Unreported memory of the writer, as measured: an open file, each of its columns, each column of
/// a written row group, each page of these, and each column of the unfinished row group.
const FILE_BYTES: usize = 10 << 10;
const FILE_COLUMN_BYTES: usize = 400;
const WRITTEN_COLUMN_BYTES: usize = 1 << 10;
const WRITTEN_PAGE_BYTES: usize = 200;
const OPEN_COLUMN_BYTES: usize = 4 << 10;
/// Memory that a column of fixed width takes for its dictionary from its first row on. The writer
/// reports it.
const DICTIONARY_BYTES: usize = 73 << 10;
/// Memory that zstd takes for each column of the unfinished row group, outside Rust's allocator: a
/// decompressor that the library creates too, a compressor, and its tables from its first page on.
const ZSTD_COLUMN_BYTES: usize = 100 << 10;
const ZSTD_PAGE_BYTES: usize = 1_280 << 10;

/// An unfinished Parquet file.
pub(crate) struct ParquetFile {
    writer: ArrowWriter<Vec<u8>>,
    columns: usize,
    encoding: Encoding,
    /// Bytes of rows in the unfinished row group, as received.
    taken: usize,
    /// Estimated number of pages in written row groups.
    pages: usize,
}

impl ParquetFile {
    /// For rows of this schema.
    pub fn new(encoding: Encoding, schema: &SchemaRef) -> Result<Self, ParquetError> {
        let options = ArrowWriterOptions::new()
            .with_properties(properties(encoding))
            .with_page_store_factory(Arc::new(ExactPages));
        let writer = ArrowWriter::try_new_with_options(Vec::new(), schema.clone(), options)?;
        Ok(Self {
            writer,
            columns: schema.flattened_fields().len(),
            encoding,
            taken: 0,
            pages: 0,
        })
    }

    /// Least memory of a file with one row.
    pub fn least(encoding: Encoding, schema: &SchemaRef) -> usize {
        let fields = schema.flattened_fields();
        let zstd = if encoding.compression == Compression::Zstd {
            ZSTD_COLUMN_BYTES
        } else {
            0
        };
        let all = fields.len() * (FILE_COLUMN_BYTES + OPEN_COLUMN_BYTES + zstd);
        let large = fields
            .iter()
            .filter(|field| has_large_dictionary(field))
            .count();
        FILE_BYTES
            + all
            + if encoding.dictionaries {
                large * DICTIONARY_BYTES
            } else {
                0
            }
    }

    /// Adds rows; returns the bytes that are final.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<Bytes, ParquetError> {
        self.writer.write(batch)?;
        self.taken += batch.get_array_memory_size();
        if self.held() > ROW_GROUP_BYTES {
            self.release()
        } else {
            Ok(self.ready())
        }
    }

    /// Writes the unfinished row group.
    pub fn release(&mut self) -> Result<Bytes, ParquetError> {
        let by_rows =
            self.writer.in_progress_rows() / DEFAULT_DATA_PAGE_ROW_COUNT_LIMIT * self.columns;
        self.pages += by_rows + self.taken / DEFAULT_PAGE_SIZE;
        self.taken = 0;
        self.writer.flush()?;
        Ok(self.ready())
    }

    fn ready(&mut self) -> Bytes {
        std::mem::take(self.writer.inner_mut()).into()
    }

    /// The last bytes, and the footer in them.
    pub fn finish(mut self) -> Result<(Bytes, ParquetMetaData), ParquetError> {
        let footer = self.writer.finish()?;
        Ok((self.ready(), footer))
    }

    /// Bytes of the unfinished row group: an estimate of their encoded size.
    pub fn held(&self) -> usize {
        self.writer.in_progress_size()
    }

    /// Total memory that it takes.
    pub fn memory(&self) -> usize {
        let row_groups = self.writer.flushed_row_groups().len() * WRITTEN_COLUMN_BYTES;
        let file = FILE_BYTES
            + self.columns * (FILE_COLUMN_BYTES + row_groups)
            + self.pages * WRITTEN_PAGE_BYTES;
        file + self.releasable()
    }

    /// Memory that [`ParquetFile::release`] would free.
    pub fn releasable(&self) -> usize {
        if self.writer.in_progress_rows() == 0 {
            return 0;
        }
        self.buffered() + self.columns * OPEN_COLUMN_BYTES + self.zstd_memory()
    }

    /// The size of the writer's buffers, as it reports them. Without a dictionary, values go into a
    /// page's buffer at once, which doubles as it grows.
    fn buffered(&self) -> usize {
        let reported = self.writer.memory_size();
        let spare = reported.min(self.columns * DEFAULT_PAGE_SIZE);
        if self.encoding.dictionaries {
            reported
        } else {
            reported + spare
        }
    }

    fn zstd_memory(&self) -> usize {
        if self.encoding.compression != Compression::Zstd {
            return 0;
        }
        // A page is compressed once it has this many rows or bytes.
        let all = self.writer.in_progress_rows() >= DEFAULT_DATA_PAGE_ROW_COUNT_LIMIT;
        let paged = if all {
            self.columns
        } else {
            (self.taken / DEFAULT_PAGE_SIZE).min(self.columns)
        };
        self.columns * ZSTD_COLUMN_BYTES + paged * ZSTD_PAGE_BYTES
    }
}

/// Dictionaries of texts begin empty; those of other types have room for thousands of values.
fn has_large_dictionary(field: &Field) -> bool {
    !matches!(
        field.data_type(),
        DataType::Boolean | DataType::Utf8 | DataType::Utf8View | DataType::Binary
    )
}

fn properties(encoding: Encoding) -> WriterProperties {
    let compression = match encoding.compression {
        Compression::None => ParquetCompression::UNCOMPRESSED,
        Compression::Snappy => ParquetCompression::SNAPPY,
        Compression::Gzip => ParquetCompression::GZIP(GzipLevel::default()),
        // The library's default is level 1; 3 is zstd's own, as for text formats.
        Compression::Zstd => ParquetCompression::ZSTD(ZstdLevel::try_new(3).unwrap_or_default()),
    };
    let (key, value) = SPARK_VERSION;
    let metadata = vec![KeyValue::new(key.to_owned(), value.to_owned())];
    WriterProperties::builder()
        .set_compression(compression)
        .set_key_value_metadata(Some(metadata))
        .set_dictionary_enabled(encoding.dictionaries)
        .set_created_by(concat!("streamctl ", env!("CARGO_PKG_VERSION")).to_owned())
        .build()
}

/// Makes stores that keep pages at their size. The library hands over buffers of up to twice that
/// (a dictionary's is 2 MiB, however well it is compressed), and reports only the pages' size.
#[derive(Debug)]
struct ExactPages;

impl PageStoreFactory for ExactPages {
    fn create(&self, _: &PageStoreArgs<'_>) -> Result<Box<dyn PageStore>, ParquetError> {
        Ok(Box::<ExactPageStore>::default())
    }
}

#[derive(Default)]
struct ExactPageStore(InMemoryPageStore);

impl PageStore for ExactPageStore {
    fn put(&mut self, page: Bytes) -> Result<PageKey, ParquetError> {
        self.0.put(Bytes::copy_from_slice(&page))
    }

    fn take(&mut self, key: PageKey) -> Result<Bytes, ParquetError> {
        self.0.take(key)
    }

    fn memory_size(&self) -> usize {
        self.0.memory_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::objects::{least, sparing};
    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
    use arrow::datatypes::Schema;
    use streamctl_proto::spec::SinkFormat;
    use zstd::zstd_safe::{CCtx, DCtx};

    fn schema(columns: usize) -> SchemaRef {
        let types = [DataType::Int64, DataType::Utf8, DataType::Float64];
        let field =
            |number: usize| Field::new(format!("column_{number}"), types[number % 3].clone(), true);
        Arc::new(Schema::new((0..columns).map(field).collect::<Vec<_>>()))
    }

    fn rows(schema: &SchemaRef, count: usize) -> RecordBatch {
        let array = |field: &Arc<Field>| -> ArrayRef {
            let numbers = 0..count;
            match field.data_type() {
                DataType::Int64 => Arc::new(Int64Array::from_iter_values(
                    numbers.map(|number| number as i64 * 7_919),
                )),
                DataType::Utf8 => Arc::new(StringArray::from_iter_values(
                    numbers.map(|n| format!("value {}", n * 31)),
                )),
                _ => Arc::new(Float64Array::from_iter_values(
                    numbers.map(|number| number as f64 / 3.0),
                )),
            }
        };
        RecordBatch::try_new(schema.clone(), schema.fields().iter().map(array).collect()).unwrap()
    }

    /// An encoder, and the memory that the allocator gave it.
    struct Counted {
        encoder: Option<ParquetFile>,
        bytes: i64,
    }

    impl Counted {
        fn step(&mut self, mut step: impl FnMut(&mut Option<ParquetFile>)) {
            self.bytes += allocation_counter::measure(|| step(&mut self.encoder)).bytes_current;
        }

        /// Checks that the reported memory is hardly less than the real one, and not much more;
        /// returns it.
        #[track_caller]
        fn check(&self) -> usize {
            let encoder = self.encoder.as_ref().unwrap();
            let is = usize::try_from(self.bytes).unwrap();
            // The next test covers compressors in C.
            let uncounted = if encoder.releasable() == 0 {
                0
            } else {
                encoder.zstd_memory()
            };
            let said = encoder.memory() - uncounted;
            let spare = if encoder.encoding.dictionaries {
                is / 4
            } else {
                is
            };
            let most = is + spare + encoder.columns * (3 << 10) + (4 << 10);
            assert!(
                is <= said + said / 8 && said <= most,
                "says {said}, takes {is}"
            );
            said + uncounted
        }
    }

    fn check_encoding(encoding: Encoding, columns: usize, count: usize) {
        let schema = schema(columns);
        let batch = rows(&schema, count);
        let mut counted = Counted {
            encoder: None,
            bytes: 0,
        };
        counted.step(|encoder| *encoder = Some(ParquetFile::new(encoding, &schema).unwrap()));
        counted.check();
        for round in 0..2 {
            counted.step(|encoder| drop(encoder.as_mut().unwrap().encode(&batch).unwrap()));
            let said = counted.check();
            let least = least(encoding, &schema);
            assert!(least <= said + said / 8, "at least {least}, says {said}");
            assert!(
                round > 0 || count > 1 || said <= least + columns * (2 << 10),
                "at least {least}, says {said}"
            );
            counted.step(|encoder| drop(encoder.as_mut().unwrap().release().unwrap()));
            counted.check();
        }
    }

    #[test]
    fn a_file_names_its_calendar_for_spark() {
        let schema = schema(1);
        let encoding = Encoding::new(SinkFormat::Parquet, Compression::None);
        let mut file = ParquetFile::new(encoding, &schema).unwrap();
        file.encode(&rows(&schema, 1)).unwrap();
        let (_, metadata) = file.finish().unwrap();
        let keys = metadata.file_metadata().key_value_metadata().unwrap();
        let spark = keys.iter().find(|pair| pair.key == SPARK_VERSION.0);
        assert_eq!(spark.unwrap().value.as_deref(), Some("3.5.0"));
    }

    #[test]
    fn an_open_parquet_file_takes_what_it_says() {
        let all = [
            Compression::None,
            Compression::Snappy,
            Compression::Gzip,
            Compression::Zstd,
        ];
        for compression in all {
            for (columns, count) in [(1, 1), (1, 5_000), (9, 1), (9, 100), (9, 5_000), (300, 1)] {
                for dictionaries in [true, false] {
                    let encoding = Encoding {
                        dictionaries,
                        ..Encoding::new(SinkFormat::Parquet, compression)
                    };
                    check_encoding(encoding, columns, count);
                }
            }
        }
        // Enough values that their dictionaries are abandoned and pages are compressed.
        for compression in [Compression::Snappy, Compression::Zstd] {
            check_encoding(Encoding::new(SinkFormat::Parquet, compression), 3, 150_000);
        }
    }

    /// The library allocates this memory, so the test queries the library.
    #[test]
    fn zstd_takes_no_more_for_a_column_than_is_counted() {
        let page: Vec<u8> = (0..DEFAULT_PAGE_SIZE)
            .map(|n| (n.wrapping_mul(n) / 7) as u8)
            .collect();
        let mut compressor = CCtx::create();
        assert!(compressor.sizeof() + DCtx::create().sizeof() <= ZSTD_COLUMN_BYTES);
        let mut out = Vec::with_capacity(2 * page.len());
        compressor.compress(&mut out, &page, 3).unwrap();
        assert!(
            compressor.sizeof() <= ZSTD_PAGE_BYTES,
            "{}",
            compressor.sizeof()
        );
    }

    #[test]
    fn where_memory_is_scarce_there_are_no_dictionaries() {
        let encoding = Encoding::new(SinkFormat::Parquet, Compression::Snappy);
        let few = schema(9);
        let many = schema(1_000);
        assert_eq!(sparing(encoding, &few, 12 << 20), encoding);
        let spared = sparing(encoding, &many, 12 << 20);
        assert!(
            !spared.dictionaries && least(spared, &many) < 6 << 20,
            "{}",
            least(spared, &many)
        );
        assert!(least(encoding, &many) > 40 << 20);
    }
}
