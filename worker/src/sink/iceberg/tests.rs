//! Data files of a table, read back from a storage in memory.

use super::*;
use crate::sink::Staged;
use crate::sink::tests::{FakeStorage, WINDOW, gunzip, memory, task};
use arrow::array::{
    ArrayRef, AsArray as _, Int32Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Fields, Int64Type};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::num::NonZeroU32;
use streamctl_engine::iceberg::data_file::DataFile;
use streamctl_engine::iceberg::datum::Datum;
use streamctl_engine::sink::pinned_fields;
use streamctl_engine::storage::Storages;
use streamctl_proto::report::ObjectKind;
use streamctl_proto::spec::{Compression, Location, SinkKind, TableCatalog};
use streamctl_proto::table_file::PARTITION_VALUE_BYTES_MAX;

const DAY_MS: i64 = 86_400_000;

/// A table partitioned by day and region, with wider types than the query's.
fn sink() -> IcebergSink {
    let schema = serde_json::json!({"type": "struct", "schema-id": 3, "fields": [
        {"id": 1, "name": "id", "required": false, "type": "long"},
        {"id": 2, "name": "region", "required": false, "type": "string"},
        {"id": 7, "name": "at", "required": false, "type": "timestamptz"},
        {"id": 8, "name": "item", "required": false, "type": {"type": "struct", "fields": [
            {"id": 9, "name": "n", "required": false, "type": "long"}]}},
        {"id": 12, "name": "big", "required": false, "type": "long"},
    ]});
    let spec = serde_json::json!({"spec-id": 2, "fields": [
        {"source-id": 7, "field-id": 1000, "name": "at_day", "transform": "day"},
        {"source-id": 2, "field-id": 1001, "name": "region", "transform": "identity"},
    ]});
    IcebergSink {
        role: None,
        catalog: TableCatalog::Local {
            warehouse: Location::folder("s3://b/w"),
        },
        table: "db.sales".into(),
        create: false,
        location: None,
        partition: None,
        keep_snapshots: NonZeroU32::MIN,
        compression: Compression::Zstd,
        target_size: 1 << 20,
        maintenance: None,
        pinned: Some(Box::new(PinnedTable {
            cluster: "c".into(),
            uuid: "u".into(),
            data: Location::folder("s3://b/w/db/sales/data"),
            schema_id: 3,
            spec_id: 2,
            partition_fields: vec!["at_day".into(), "region".into()],
            schema,
            spec,
        })),
    }
}

fn batch(regions: Vec<Option<&str>>, big: Vec<u64>) -> RecordBatch {
    let count = i32::try_from(regions.len()).unwrap();
    let ids = Int32Array::from_iter_values(0..count);
    let times = TimestampMillisecondArray::from_iter_values(
        (0..count).map(|n| DAY_MS * i64::from(n % 2) + 1),
    );
    let inner = Fields::from(vec![Field::new("n", DataType::Int32, true)]);
    let numbers: ArrayRef = Arc::new(Int32Array::from_iter_values(10..10 + count));
    let items = StructArray::new(inner, vec![numbers], None);
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(ids) as ArrayRef, true),
        ("region", Arc::new(StringArray::from(regions)), true),
        ("at", Arc::new(times.with_timezone("UTC")), true),
        ("item", Arc::new(items), true),
        ("big", Arc::new(UInt64Array::from(big)), true),
    ])
    .unwrap()
}

async fn written(storage: &FakeStorage, batches: Vec<RecordBatch>) -> Staged {
    let context = WriterContext {
        job: "sales".parse().unwrap(),
        task: task(),
        window: WINDOW,
        storages: Storages::only(Arc::new(storage.clone())),
        rejected: Location::folder("s3://b/dead"),
        memory: memory(1 << 40),
    };
    let mut writer = sink().writer(context, batches[0].schema()).unwrap();
    for batch in batches {
        writer.write(batch).await.unwrap();
    }
    writer.finish().await.unwrap()
}

fn read(bytes: Bytes) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
}

#[tokio::test]
async fn moments_of_a_query_are_the_same_moments_in_a_column_with_a_zone() {
    let storage = FakeStorage::default();
    let zoned = batch(vec![Some("PE"), Some("PE")], vec![1, 2]);
    let mut columns: Vec<_> = zoned.columns().to_vec();
    let times: &TimestampMillisecondArray = columns[2].as_primitive();
    columns[2] = Arc::new(times.clone().with_timezone_opt::<String>(None));
    let schema = zoned.schema();
    let names = schema.fields().iter().map(|field| field.name().as_str());
    let plain = RecordBatch::try_from_iter_with_nullable(
        names
            .zip(columns)
            .map(|(name, column)| (name, column, true)),
    );
    let staged = written(&storage, vec![plain.unwrap()]).await;
    assert_eq!((staged.objects.len(), staged.rows_rejected), (2, 0));
    let micros: Vec<i64> = staged
        .objects
        .iter()
        .map(|object| {
            let rows = read(storage.content(&object.location));
            let times: &TimestampMicrosecondArray = rows.column(2).as_primitive();
            assert_eq!(times.timezone(), Some("UTC"));
            times.value(0)
        })
        .collect();
    assert_eq!(micros, [1_000, DAY_MS * 1_000 + 1_000]);
}

#[tokio::test]
async fn each_partition_has_its_files_with_values_and_bounds_in_the_tables_types() {
    let storage = FakeStorage::default();
    // Null and an empty text share a folder.
    let regions = vec![Some("PE"), Some("PE"), None, Some("x"), Some("")];
    let rows = batch(regions, vec![1, 2, 3, 4, 5]);
    let staged = written(&storage, vec![rows]).await;
    assert_eq!((staged.objects.len(), staged.rows_rejected), (5, 0));
    let fields = pinned_fields(sink().pinned.as_deref().unwrap()).unwrap();
    let mut found: Vec<_> = staged
        .objects
        .iter()
        .map(|object| DataFile::reported(object, &fields).unwrap())
        .collect();
    found.sort_by_key(|file| file.metrics.lower_bounds[&1].clone());
    let text = |text: &str| Some(Datum::Text(text.into()));
    let day = |day| Some(Datum::Int(day));
    let partitions: Vec<_> = found.iter().map(|file| file.partition.clone()).collect();
    assert_eq!(
        partitions,
        [
            vec![day(0), text("PE")],
            vec![day(1), text("PE")],
            vec![day(0), None],
            vec![day(1), text("x")],
            vec![day(0), text("")],
        ]
    );
    // An int of the query is the table's long.
    assert_eq!(found[3].metrics.upper_bounds[&1], 3_i64.to_le_bytes());
    assert_eq!(found[3].metrics.upper_bounds[&9], 13_i64.to_le_bytes());
    assert_eq!(found[0].spec_id, 2);
    assert!(!found[0].split_offsets.is_empty());
    let names: std::collections::BTreeSet<_> = staged
        .objects
        .iter()
        .map(|object| object.location.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(
        names.len(),
        5,
        "no name is taken twice, whatever the folder"
    );
    for object in &staged.objects {
        let by = streamctl_proto::staged_place::StagedBy {
            job: &"sales".parse().unwrap(),
            window: WINDOW,
            task: task(),
        };
        let kind = SinkKind::from(sink());
        // The fake stages nothing beside it.
        let error = kind.check(&by, object).unwrap_err();
        assert_eq!(error.field, "object.staging", "{error:?}");
    }
}

#[tokio::test]
async fn columns_have_the_tables_ids_at_every_level() {
    let storage = FakeStorage::default();
    let staged = written(&storage, vec![batch(vec![Some("PE")], vec![1])]).await;
    let object = &staged.objects[0];
    assert!(
        object
            .location
            .starts_with("s3://b/w/db/sales/data/at_day=1970-01-01/region=PE/"),
        "{}",
        object.location
    );
    let bytes = storage.content(&object.location);
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
    let columns = reader.parquet_schema().root_schema().get_fields();
    let ids: Vec<_> = columns
        .iter()
        .map(|column| column.get_basic_info().id())
        .collect();
    assert_eq!(ids, [1, 2, 7, 8, 12]);
    assert_eq!(columns[3].get_fields()[0].get_basic_info().id(), 9);
    let rows = read(bytes);
    let inner = rows.column(3).as_struct().column(0).clone();
    assert_eq!(inner.as_primitive::<Int64Type>().value(0), 10);
}

#[tokio::test]
async fn rows_that_the_table_cannot_hold_are_rejected_and_counted() {
    let storage = FakeStorage::default();
    let long = "x".repeat(PARTITION_VALUE_BYTES_MAX + 1);
    let rows = batch(
        vec![Some("PE"), Some(&long), Some("PE")],
        vec![1, 2, u64::MAX],
    );
    let staged = written(&storage, vec![rows]).await;
    assert_eq!(staged.rows_rejected, 2);
    let data = staged.objects.iter();
    let data: Vec<_> = data
        .filter(|object| object.kind == ObjectKind::Data)
        .collect();
    assert_eq!(data.iter().map(|object| object.rows).sum::<u64>(), 1);
    let rejected = staged.objects.iter();
    let mut rejected = rejected.filter(|object| object.kind == ObjectKind::RejectedRow);
    let lines = gunzip(&storage.content(&rejected.next().unwrap().location));
    assert!(lines.contains("partition field \\\"region\\\""), "{lines}");
    assert!(
        lines.contains("cannot hold 18446744073709551615"),
        "{lines}"
    );
}

#[tokio::test]
async fn stored_rows_compare_with_computed_ones() {
    let storage = FakeStorage::default();
    let rows = batch(vec![Some("PE"), None], vec![1, 2]);
    let staged = written(&storage, vec![rows.clone()]).await;
    let sink = sink();
    let mut keys = vec![];
    let mut stored = sink.rows(&rows.schema(), WINDOW).unwrap();
    for object in &staged.objects {
        let bytes = storage.content(&object.location);
        let give = &mut |row: crate::sink::stored::Keyed<'_>| keys.push(row.key.to_vec());
        stored.of_object(&object.location, bytes, give).unwrap();
    }
    let mut computed = vec![];
    let give = &mut |row: crate::sink::stored::Keyed<'_>| computed.push(row.key.to_vec());
    stored.of_batch(&rows, give).unwrap();
    keys.sort();
    computed.sort();
    assert_eq!((keys.len(), &keys), (2, &computed));
}

#[test]
fn a_job_without_a_pinned_table_writes_nothing() {
    let sink = IcebergSink {
        pinned: None,
        ..sink()
    };
    let rows = sink.rows(&batch(vec![None], vec![1]).schema(), WINDOW);
    let error = rows.err().unwrap().to_string();
    assert!(error.contains("not pinned"), "{error}");
}
