//! Objects written by the sinks, read back from a storage in memory.

use super::*;
use crate::memory::{Holding, MemoryBudget};
use crate::sink::objects::{Folder, MEMORY_BYTES_MAX, PARTITIONS_MAX};
use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use async_trait::async_trait;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::sync::Mutex;
use streamctl_engine::storage::{
    ObjectInfo, PutOutcome, StagedWriter, Storage, StorageError, Storages,
};
use streamctl_proto::report::{ObjectKind, Staging};
use streamctl_proto::spec::{Compression, Location, PartitionColumn, SinkFormat};
use streamctl_proto::staged_name::Orphans;
use streamctl_proto::{TaskId, Term};

/// Staged objects by location; implements only what a sink calls.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeStorage {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    staged: BTreeMap<String, Bytes>,
    /// Opened but neither finished nor aborted.
    open: BTreeSet<String>,
    largest_write: usize,
    /// Finishing an object whose location contains this fails.
    fail_on: Option<String>,
    /// Writers buffer their input, like those that fill a part of an upload.
    holds: bool,
}

/// Memory of a window that is not shared.
pub(crate) fn memory(bytes: usize) -> Arc<Holding> {
    Arc::new(Holding::with_minimum(Arc::new(crate::memory::Share::new(
        bytes, 1,
    ))))
}

struct FakeWriter {
    state: Arc<Mutex<State>>,
    location: String,
    content: Vec<u8>,
}

impl FakeStorage {
    pub fn content(&self, location: &str) -> Bytes {
        self.state.lock().unwrap().staged[location].clone()
    }

    pub fn locations(&self) -> Vec<String> {
        self.state.lock().unwrap().staged.keys().cloned().collect()
    }

    fn open_count(&self) -> usize {
        self.state.lock().unwrap().open.len()
    }

    pub fn is_clean(&self) -> bool {
        self.locations().is_empty() && self.open_count() == 0
    }

    pub fn hold(&self) {
        self.state.lock().unwrap().holds = true;
    }

    pub fn fail_on(&self, part: &str) {
        self.state.lock().unwrap().fail_on = Some(part.to_owned());
    }
}

fn unavailable(location: &str) -> StorageError {
    StorageError::Unavailable {
        location: location.to_owned(),
        reason: "not in this fake".to_owned(),
    }
}

#[async_trait]
impl Storage for FakeStorage {
    async fn get(&self, location: &str, _: u64) -> Result<Bytes, StorageError> {
        Err(unavailable(location))
    }
    async fn head(&self, location: &str) -> Result<ObjectInfo, StorageError> {
        Err(unavailable(location))
    }
    async fn put_new(&self, location: &str, _: Bytes) -> Result<PutOutcome, StorageError> {
        Err(unavailable(location))
    }
    async fn list(&self, folder: &Location) -> Result<Vec<ObjectInfo>, StorageError> {
        Err(unavailable(folder.as_str()))
    }
    async fn stage(&self, location: &str) -> Result<Box<dyn StagedWriter>, StorageError> {
        assert!(
            self.state.lock().unwrap().open.insert(location.to_owned()),
            "{location} was opened twice"
        );
        let state = self.state.clone();
        let location = location.to_owned();
        Ok(Box::new(FakeWriter {
            state,
            location,
            content: Vec::new(),
        }))
    }
    async fn publish(&self, object: &StagedObject) -> Result<(), StorageError> {
        Err(unavailable(&object.location))
    }
    async fn abandon(&self, object: &StagedObject) -> Result<(), StorageError> {
        self.state.lock().unwrap().staged.remove(&object.location);
        Ok(())
    }
    async fn sweep(&self, folder: &Location, _: &Orphans) -> Result<usize, StorageError> {
        Err(unavailable(folder.as_str()))
    }
}

#[async_trait]
impl StagedWriter for FakeWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        let mut state = self.state.lock().unwrap();
        state.largest_write = state.largest_write.max(bytes.len());
        self.content.extend_from_slice(&bytes);
        Ok(())
    }
    fn held(&self) -> usize {
        if self.state.lock().unwrap().holds {
            self.content.len()
        } else {
            0
        }
    }
    async fn finish(
        self: Box<Self>,
        kind: ObjectKind,
        rows: u64,
    ) -> Result<StagedObject, StorageError> {
        let mut state = self.state.lock().unwrap();
        state.open.remove(&self.location);
        if state
            .fail_on
            .as_ref()
            .is_some_and(|part| self.location.contains(part))
        {
            return Err(unavailable(&self.location));
        }
        let size = self.content.len() as u64;
        assert!(
            state
                .staged
                .insert(self.location.clone(), self.content.into())
                .is_none()
        );
        let staging = Staging::File {
            staged_path: self.location.clone(),
        };
        Ok(StagedObject {
            kind,
            location: self.location,
            size,
            crc32c: 0,
            rows,
            table_file: None,
            staging,
        })
    }
    async fn abort(self: Box<Self>) {
        self.state.lock().unwrap().open.remove(&self.location);
    }
}

/// 2026-11-24T00:45:00Z.
pub(crate) const WINDOW: Window = Window {
    start_ms: 1_795_481_100_000,
    end_ms: 1_795_481_160_000,
};

pub(crate) fn task() -> TaskId {
    TaskId {
        term: Term(3),
        counter: 7,
    }
}

fn spec(format: SinkFormat, compression: Compression) -> FilesSink {
    FilesSink {
        format,
        compression,
        ..FilesSink::new(Location::folder("s3://b/out"))
    }
}

fn sink(storage: &FakeStorage, spec: FilesSink, schema: &SchemaRef) -> Box<ObjectsWriter> {
    sink_in(storage, &spec, schema, memory(1 << 40)).unwrap()
}

fn sink_in(
    storage: &FakeStorage,
    spec: &FilesSink,
    schema: &SchemaRef,
    memory: Arc<Holding>,
) -> Result<Box<ObjectsWriter>, SinkError> {
    let job = "sales".parse().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    let context = WriterContext {
        job,
        task: task(),
        window: WINDOW,
        storages: Storages::only(storage),
        rejected: Location::folder("s3://b/dead"),
        memory,
    };
    files_writer(spec, context, schema).map(Box::new)
}

/// Rows `from..to`; every third text is null.
fn rows(from: i64, to: i64) -> RecordBatch {
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("price", DataType::Float64, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]);
    let name = |id: i64| (id % 3 != 0).then(|| format!("name \"{id}\", é\n"));
    let ids = Int64Array::from_iter_values(from..to);
    let names: StringArray = (from..to).map(name).collect();
    let prices = Float64Array::from_iter_values((from..to).map(|id| id as f64 / 4.0));
    let times = TimestampMicrosecondArray::from_iter_values((from..to).map(|id| id * 1_000_000));
    let columns = vec![
        Arc::new(ids) as _,
        Arc::new(names) as _,
        Arc::new(prices) as _,
        Arc::new(times) as _,
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

async fn write_all(mut sink: Box<ObjectsWriter>, batches: Vec<RecordBatch>) -> Vec<StagedObject> {
    for batch in batches {
        sink.write(batch).await.unwrap();
    }
    sink.finish().await.unwrap().objects
}

fn read_parquet(bytes: Bytes) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .unwrap()
        .build()
        .unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
}

pub(crate) fn gunzip(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes)
        .read_to_string(&mut text)
        .unwrap();
    text
}

#[tokio::test]
async fn parquet_is_read_back_as_it_was_written_with_every_compression() {
    for compression in [
        Compression::None,
        Compression::Snappy,
        Compression::Gzip,
        Compression::Zstd,
    ] {
        let storage = FakeStorage::default();
        let batches = vec![rows(0, 100), rows(100, 100), rows(100, 1000)];
        let sink = sink(
            &storage,
            spec(SinkFormat::Parquet, compression),
            &batches[0].schema(),
        );
        let objects = write_all(sink, batches).await;
        assert_eq!(
            storage.locations(),
            ["s3://b/out/20261124T004500Z-sales-t3.7-0000.parquet"]
        );
        assert_eq!(
            (objects.len(), objects[0].rows, objects[0].kind),
            (1, 1000, ObjectKind::Data)
        );
        let content = storage.content(&objects[0].location);
        assert_eq!(objects[0].size, content.len() as u64);
        assert_eq!(read_parquet(content), rows(0, 1000), "{compression:?}");
    }
}

fn decompress(content: &[u8], compression: Compression) -> String {
    match compression {
        Compression::Gzip => gunzip(content),
        Compression::Zstd => String::from_utf8(zstd::decode_all(content).unwrap()).unwrap(),
        Compression::None | Compression::Snappy => String::from_utf8(content.to_vec()).unwrap(),
    }
}

#[tokio::test]
async fn json_lines_leave_out_nulls_and_are_read_back() {
    for (compression, end) in [
        (Compression::None, "json"),
        (Compression::Gzip, "json.gz"),
        (Compression::Zstd, "json.zst"),
    ] {
        let storage = FakeStorage::default();
        let sink = sink(
            &storage,
            spec(SinkFormat::Json, compression),
            &rows(0, 1).schema(),
        );
        let objects = write_all(sink, vec![rows(0, 4), rows(4, 500)]).await;
        assert_eq!(
            objects[0].location,
            format!("s3://b/out/20261124T004500Z-sales-t3.7-0000.{end}")
        );
        let text = decompress(&storage.content(&objects[0].location), compression);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 500);
        assert_eq!(
            lines[0],
            r#"{"id":0,"price":0.0,"at":"1970-01-01T00:00:00"}"#
        );
        assert_eq!(
            lines[1],
            r#"{"id":1,"name":"name \"1\", é\n","price":0.25,"at":"1970-01-01T00:00:01"}"#
        );
    }
}

#[tokio::test]
async fn csv_has_one_header_per_object_and_is_read_back() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let storage = FakeStorage::default();
        let sink = sink(
            &storage,
            spec(SinkFormat::Csv, compression),
            &rows(0, 1).schema(),
        );
        let objects = write_all(sink, vec![rows(0, 4), rows(4, 500)]).await;
        let text = decompress(&storage.content(&objects[0].location), compression);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().unwrap(), vec!["id", "name", "price", "at"]);
        let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), 500);
        assert_eq!(records[3], vec!["3", "", "0.75", "1970-01-01T00:00:03"]);
        assert_eq!(&records[499][1], "name \"499\", é\n");
    }
}

#[tokio::test]
async fn without_rows_there_is_no_object() {
    let storage = FakeStorage::default();
    let sink = sink(
        &storage,
        spec(SinkFormat::Parquet, Compression::Snappy),
        &rows(0, 1).schema(),
    );
    assert_eq!(write_all(sink, vec![rows(0, 0)]).await, []);
    assert!(storage.is_clean());
}

#[tokio::test]
async fn every_row_is_in_the_folder_of_its_value_and_nowhere_else() {
    let storage = FakeStorage::default();
    let mut spec = spec(SinkFormat::Parquet, Compression::Snappy);
    spec.partition_by = vec![
        PartitionColumn::IngestHour,
        PartitionColumn::Column("name".into()),
    ];
    let sink = sink(&storage, spec, &rows(0, 1).schema());
    let objects = write_all(sink, vec![rows(0, 5), rows(2, 8)]).await;
    let folder = |object: &StagedObject| object.location.split('/').nth(5).unwrap().to_owned();
    let mut found: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for object in &objects {
        assert!(
            object.location.starts_with("s3://b/out/ingest_hour=00/"),
            "{}",
            object.location
        );
        let batch = read_parquet(storage.content(&object.location));
        assert!(batch.column_by_name("name").is_none() && batch.num_columns() == 3);
        let ids = batch
            .column(0)
            .as_primitive::<Int64Type>()
            .values()
            .to_vec();
        assert_eq!(object.rows, ids.len() as u64);
        found.entry(folder(object)).or_default().extend(ids);
    }
    assert_eq!(found["name=__HIVE_DEFAULT_PARTITION__"], [0, 3, 3, 6]);
    assert_eq!(found["name=name %222%22, é%0A"], [2, 2]);
    assert_eq!(found.values().map(Vec::len).sum::<usize>(), 11);
    assert_eq!(found.len(), objects.len());
}

#[tokio::test]
async fn too_many_partitions_are_refused_and_leave_nothing() {
    let storage = FakeStorage::default();
    let mut spec = spec(SinkFormat::Json, Compression::None);
    spec.partition_by = vec![PartitionColumn::Column("id".into())];
    let mut sink = sink(&storage, spec, &rows(0, 1).schema());
    let limit = PARTITIONS_MAX as i64;
    sink.write(rows(0, limit)).await.unwrap();
    sink.write(rows(0, limit)).await.unwrap();
    let error = sink.write(rows(limit, limit + 1)).await.unwrap_err();
    assert!(matches!(
        error,
        SinkError::TooManyPartitions {
            limit: PARTITIONS_MAX
        }
    ));
    sink.abort().await;
    assert!(storage.is_clean());
}

#[tokio::test]
async fn objects_are_cut_at_their_target_size_and_no_row_is_lost() {
    for format in [SinkFormat::Parquet, SinkFormat::Json, SinkFormat::Csv] {
        let storage = FakeStorage::default();
        let target_size = 20_000;
        let spec = FilesSink {
            target_size,
            ..spec(format, Compression::None)
        };
        let sink = sink(&storage, spec, &rows(0, 1).schema());
        let objects = write_all(
            sink,
            (0..40).map(|n| rows(n * 100, (n + 1) * 100)).collect(),
        )
        .await;
        assert!(objects.len() > 3, "{format:?}: {}", objects.len());
        assert_eq!(objects.iter().map(|object| object.rows).sum::<u64>(), 4_000);
        for (number, object) in objects.iter().enumerate() {
            assert!(
                object.location.contains(&format!("-{number:04}.")),
                "{}",
                object.location
            );
            assert!(object.size < 2 * target_size, "{format:?}: {}", object.size);
        }
        if format == SinkFormat::Parquet {
            let ids = objects.iter().flat_map(|object| {
                let batch = read_parquet(storage.content(&object.location));
                batch
                    .column(0)
                    .as_primitive::<Int64Type>()
                    .values()
                    .to_vec()
            });
            assert!(ids.eq(0..4_000));
        }
    }
}

/// Memory: row groups are sent while the object is being written.
#[tokio::test]
async fn a_large_object_goes_out_in_row_groups() {
    let storage = FakeStorage::default();
    let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, false)]));
    let mut sink = sink(
        &storage,
        spec(SinkFormat::Parquet, Compression::None),
        &schema,
    );
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..40 {
        let texts = (0..1_000).map(|_| {
            std::iter::repeat_with(|| rng.alphanumeric())
                .take(1_000)
                .collect::<String>()
        });
        let column = StringArray::from_iter_values(texts);
        sink.write(RecordBatch::try_new(schema.clone(), vec![Arc::new(column)]).unwrap())
            .await
            .unwrap();
    }
    let objects = sink.finish().await.unwrap().objects;
    let content = storage.content(&objects[0].location);
    let largest = storage.state.lock().unwrap().largest_write;
    let groups = ParquetRecordBatchReaderBuilder::try_new(content.clone())
        .unwrap()
        .metadata()
        .num_row_groups();
    assert!(
        (2..=4).contains(&groups) && largest < content.len() / 2,
        "{groups} groups, {largest} bytes at once"
    );
    assert_eq!(read_parquet(content).column(0).len(), 40_000);
}

/// Memory of many partitions: none of them is large enough for a row group of its own.
#[tokio::test]
async fn many_partitions_together_hold_no_more_than_one_large_one() {
    let storage = FakeStorage::default();
    let field = |name: &str| Field::new(name, DataType::Utf8, false);
    let schema = Arc::new(Schema::new(vec![field("folder"), field("text")]));
    let mut spec = spec(SinkFormat::Parquet, Compression::None);
    spec.partition_by = vec![PartitionColumn::Column("folder".into())];
    let mut sink = sink(&storage, spec, &schema);
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..8 {
        let folders = StringArray::from_iter_values((0..1_000).map(|row| (row % 20).to_string()));
        let text = |_| {
            std::iter::repeat_with(|| rng.alphanumeric())
                .take(10_000)
                .collect::<String>()
        };
        let texts = StringArray::from_iter_values((0..1_000).map(text));
        let columns = vec![Arc::new(folders) as _, Arc::new(texts) as _];
        sink.write(RecordBatch::try_new(schema.clone(), columns).unwrap())
            .await
            .unwrap();
        assert!(sink.memory <= MEMORY_BYTES_MAX && sink.memory == counted(&sink));
    }
    let objects = sink.finish().await.unwrap().objects;
    let rows = |object: &StagedObject| read_parquet(storage.content(&object.location)).num_rows();
    assert_eq!(
        (objects.len(), objects.iter().map(rows).sum::<usize>()),
        (20, 8_000)
    );
}

#[tokio::test]
async fn a_failure_at_the_end_throws_everything_away() {
    let storage = FakeStorage::default();
    storage.fail_on("id=3/");
    let mut spec = FilesSink {
        target_size: 1,
        ..spec(SinkFormat::Json, Compression::None)
    };
    spec.partition_by = vec![PartitionColumn::Column("id".into())];
    let mut cut = sink(&storage, spec.clone(), &rows(0, 1).schema());
    assert!(cut.write(rows(0, 5)).await.is_err());
    cut.abort().await;
    assert!(storage.is_clean());
    let mut whole = sink(
        &storage,
        FilesSink {
            target_size: 1 << 20,
            ..spec
        },
        &rows(0, 1).schema(),
    );
    whole.write(rows(0, 5)).await.unwrap();
    assert!(matches!(whole.finish().await, Err(SinkError::Storage(_))));
    assert!(storage.is_clean());
}

/// One row for each of this many partitions.
fn spread(partitions: i64) -> RecordBatch {
    let batch = rows(0, partitions);
    let country: StringArray = (0..partitions)
        .map(|number| Some(format!("c{number}")))
        .collect();
    let mut fields: Vec<_> = batch.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("country", DataType::Utf8, false)));
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(country));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// The memory that all folders report.
fn counted(sink: &ObjectsWriter) -> usize {
    sink.folders.values().map(Folder::memory).sum()
}

#[tokio::test]
async fn a_thousand_partitions_in_little_memory_become_more_objects_and_one_more_is_refused_with_the_limit()
 {
    for format in [SinkFormat::Parquet, SinkFormat::Json] {
        let storage = FakeStorage::default();
        let batch = spread(1_000);
        let mut spec = spec(format, Compression::Gzip);
        spec.partition_by = vec![PartitionColumn::Column("country".into())];
        let mut sink = sink(&storage, spec, &batch.schema());
        let most = 4 << 20;
        sink.context.memory = memory(most);
        for _ in 0..20 {
            sink.write(batch.clone()).await.unwrap();
            assert_eq!(sink.memory, counted(&sink));
            assert!(
                sink.context.memory.used() == sink.memory && sink.memory <= most,
                "{} bytes",
                sink.memory
            );
        }
        let error = sink.write(spread(1_001)).await.unwrap_err();
        assert!(
            error.to_string().contains("more than 1000 partitions"),
            "{error}"
        );
        let objects = sink.finish().await.unwrap().objects;
        assert!(
            objects.len() > 1_000,
            "some were finished early: {}",
            objects.len()
        );
        let rows: u64 = objects.iter().map(|object| object.rows).sum();
        assert_eq!(rows, 21_000, "of {} objects", objects.len());
    }
}

/// The sink of a window of a worker with this limit.
fn sink_of_worker(
    limit: &str,
    storage: &FakeStorage,
    schema: &SchemaRef,
) -> Result<Box<ObjectsWriter>, SinkError> {
    let budget = MemoryBudget::new(limit.parse().unwrap());
    let memory = budget.window(false, false).unwrap().sink;
    let spec = spec(SinkFormat::Parquet, Compression::Snappy);
    sink_in(storage, &spec, schema, memory)
}

#[tokio::test]
async fn ten_thousand_columns_are_written_by_a_worker_of_1_gib_and_refused_by_one_of_256_mib() {
    let storage = FakeStorage::default();
    let fields: Vec<_> = (0..10_000)
        .map(|n| Field::new(format!("column_{n}"), DataType::Int64, false))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let column: Arc<dyn Array> = Arc::new(Int64Array::from_iter_values(0..30));
    let batch = RecordBatch::try_new(schema.clone(), vec![column; 10_000]).unwrap();
    let mut sink = sink_of_worker("1GiB", &storage, &schema).unwrap();
    for _ in 0..2 {
        sink.write(batch.clone()).await.unwrap();
        assert_eq!(sink.memory, counted(&sink));
        assert!(
            sink.memory <= sink.context.memory.most(),
            "{} bytes",
            sink.memory
        );
    }
    let objects = sink.finish().await.unwrap().objects;
    assert_eq!(objects.iter().map(|object| object.rows).sum::<u64>(), 60);
    let Err(error) = sink_of_worker("256MiB", &storage, &schema) else {
        panic!("it was not refused")
    };
    let text = "an object of 10000 columns takes 43MiB while it is written, and the worker's --memory-limit leaves 12MiB to it";
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn small_partitions_are_one_object_each_where_there_is_memory() {
    let storage = FakeStorage::default();
    let mut spec = spec(SinkFormat::Parquet, Compression::Snappy);
    spec.partition_by = vec![PartitionColumn::Column("country".into())];
    let batches: Vec<_> = (0..5).map(|_| spread(1_000)).collect();
    let objects = write_all(sink(&storage, spec, &batches[0].schema()), batches).await;
    assert_eq!(objects.len(), 1_000);
    let first = read_parquet(storage.content(&objects[0].location));
    assert_eq!((objects[0].rows, first.num_rows()), (5, 5));
}

#[tokio::test]
async fn a_row_that_no_folder_can_be_named_for_is_kept_whole_and_costs_no_neighbour() {
    let storage = FakeStorage::default();
    let long = "x".repeat(2_000);
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("k", DataType::Utf8, true),
    ]));
    let keys = StringArray::from(vec![Some("DE"), Some(long.as_str()), None, Some("DE")]);
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![Arc::new(Int64Array::from(vec![1, 2, 3, 4])), Arc::new(keys)],
    )
    .unwrap();
    let mut spec = spec(SinkFormat::Json, Compression::None);
    spec.partition_by = vec![PartitionColumn::Column("k".into())];
    let mut writing = sink(&storage, spec.clone(), &schema);
    writing.write(batch.clone()).await.unwrap();
    let objects = writing.finish().await.unwrap().objects;
    let of = |kind| objects.iter().filter(move |object| object.kind == kind);
    assert_eq!(
        of(ObjectKind::Data).map(|object| object.rows).sum::<u64>(),
        3
    );
    let rejected: Vec<_> = of(ObjectKind::RejectedRow).collect();
    assert_eq!((rejected.len(), rejected[0].rows), (1, 1));
    assert_eq!(
        rejected[0].location,
        "s3://b/dead/20261124T004500Z-sales-t3.7-0000.rejected.json.gz"
    );
    let text = gunzip(&storage.content(&rejected[0].location));
    let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(line["row"], serde_json::json!({"id": 2, "k": long}));
    assert_eq!(line["window_start"], "2026-11-24T00:45:00.000Z");
    let reason = line["reason"].as_str().unwrap();
    assert!(reason.contains("the limit is 1024"), "{reason}");

    let storage = FakeStorage::default();
    let mut aborted = sink(&storage, spec, &schema);
    aborted.write(batch).await.unwrap();
    aborted.abort().await;
    assert!(storage.is_clean());
}

#[tokio::test]
async fn p18_a_row_with_a_value_that_hive_cannot_hold_is_rejected_and_the_others_are_written() {
    let batch = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
        ("rank", Arc::new(UInt64Array::from(vec![u64::MAX, 5]))),
    ])
    .unwrap();
    let storage = FakeStorage::default();
    let sink = sink(
        &storage,
        spec(SinkFormat::Parquet, Compression::None),
        &batch.schema(),
    );
    let objects = write_all(sink, vec![batch]).await;
    let of = |kind| objects.iter().find(|object| object.kind == kind).unwrap();
    let data = of(ObjectKind::Data);
    let rejected = of(ObjectKind::RejectedRow);
    assert_eq!((data.rows, rejected.rows), (1, 1));
    let rows = read_parquet(storage.content(&data.location));
    assert_eq!(rows.schema().field(1).data_type(), &DataType::Int64);
    let text = gunzip(&storage.content(&rejected.location));
    assert!(
        text.contains("which cannot hold 18446744073709551615")
            && text.contains(r#""row":{"id":1,"rank":18446744073709551615}"#),
        "{text}"
    );
}
