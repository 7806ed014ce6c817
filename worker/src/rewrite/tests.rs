//! Data files of a table in a storage in memory, rewritten.

use super::*;
use crate::memory::MemoryBudget;
use crate::sink::Sink as _;
use crate::task::tests::job;
use arrow::array::{
    Array as _, ArrayRef, AsArray as _, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;
use std::num::NonZeroU32;
use streamctl_engine::storage::MemoryStorage;
use streamctl_proto::rewrite::RewriteInput;
use streamctl_proto::spec::{Compression, Location, PinnedTable, TableCatalog};
use streamctl_proto::table_file::Bytes;
use streamctl_proto::{TaskId, Term, Window};

const OWN: &str = "memory://w/db/sales/data/";

/// A table of the job, partitioned by region; later it has a column more.
fn sink(has_note: bool) -> IcebergSink {
    let mut fields = vec![
        json!({"id": 1, "name": "id", "required": false, "type": "long"}),
        json!({"id": 2, "name": "region", "required": false, "type": "string"}),
    ];
    if has_note {
        fields.push(json!({"id": 3, "name": "note", "required": false, "type": "string"}));
    }
    let spec = json!({"spec-id": 2, "fields": [
        {"source-id": 2, "field-id": 1000, "name": "region", "transform": "identity"},
    ]});
    IcebergSink {
        catalog: TableCatalog::Local {
            warehouse: Location::folder("memory://w"),
        },
        table: "db.sales".into(),
        create: false,
        location: None,
        partition: None,
        keep_snapshots: NonZeroU32::MIN,
        compression: Compression::Zstd,
        target_size: 1 << 20,
        maintenance: None,
        role: None,
        pinned: Some(Box::new(PinnedTable {
            cluster: "c".into(),
            uuid: "u".into(),
            data: Location::folder(OWN),
            schema_id: 3,
            spec_id: 2,
            partition_fields: vec!["region".into()],
            schema: json!({"type": "struct", "schema-id": 3, "fields": fields}),
            spec,
        })),
    }
}

struct Bed {
    storage: MemoryStorage,
    storages: Storages,
    memory: WindowMemory,
    inputs: Vec<RewriteInput>,
}

impl Bed {
    fn new() -> Self {
        let storage = MemoryStorage::default();
        Self {
            storages: Storages::memory(storage.clone()),
            storage,
            memory: MemoryBudget::default().window(false, false).unwrap(),
            inputs: vec![],
        }
    }

    fn context(&self, task: u64) -> WriterContext {
        WriterContext {
            job: "sales".parse().unwrap(),
            task: TaskId {
                term: Term(1),
                counter: task,
            },
            window: Window {
                start_ms: 0,
                end_ms: 60_000,
            },
            storages: self.storages.clone(),
            rejected: Location::folder("memory://dead"),
            memory: Arc::clone(&self.memory.sink),
        }
    }

    /// A published file with these rows, all of region PE.
    async fn file(&mut self, sink: &IcebergSink, rows: RecordBatch) {
        let context = self.context(self.inputs.len() as u64 + 1);
        let mut writer = sink.writer(context, rows.schema()).unwrap();
        writer.write(rows).await.unwrap();
        for object in writer.finish().await.unwrap().objects {
            self.publish(&object).await;
            self.inputs.push(RewriteInput {
                location: object.location,
                size: object.size,
                rows: object.rows,
            });
        }
    }

    async fn publish(&self, object: &StagedObject) {
        let storage = self.storages.for_location(&object.location);
        storage.publish(object).await.unwrap();
    }

    fn order(&self, sink: IcebergSink) -> RewriteOrder {
        let mut job = job("SELECT 1");
        job.spec.name = "sales".parse().unwrap();
        job.spec.sink = sink.into();
        RewriteOrder {
            job,
            task: TaskId {
                term: Term(7),
                counter: 1,
            },
            window: Window {
                start_ms: 3_600_000,
                end_ms: 3_660_000,
            },
            partition: vec![Some(Bytes(b"PE".to_vec()))],
            target_size: 1 << 20,
            inputs: self.inputs.clone(),
        }
    }

    async fn rewritten(&self, order: &RewriteOrder) -> Result<Vec<StagedObject>, RewriteError> {
        rewrite(&self.storages, order, &self.memory, &Arc::default()).await
    }

    /// The rows of published objects, in their order.
    async fn rows(&self, objects: &[StagedObject]) -> RecordBatch {
        let mut batches = vec![];
        for object in objects {
            self.publish(object).await;
            let storage = self.storages.for_location(&object.location);
            let bytes = storage.get(&object.location, u64::MAX).await.unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
            let columns = reader.parquet_schema().root_schema().get_fields().iter();
            let ids: Vec<_> = columns.map(|column| column.get_basic_info().id()).collect();
            assert!(ids == [1, 2, 3] || ids == [1, 2], "{ids:?}");
            batches.extend(reader.build().unwrap().map(Result::unwrap));
        }
        concat_batches(&batches[0].schema(), &batches).unwrap()
    }
}

fn plain(ids: ArrayRef) -> RecordBatch {
    let regions: ArrayRef = Arc::new(StringArray::from(vec!["PE"; ids.len()]));
    RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("region", regions, true)])
        .unwrap()
}

fn with_note(ids: Vec<i64>) -> RecordBatch {
    let notes: ArrayRef = Arc::new(StringArray::from(vec!["n"; ids.len()]));
    let plain = plain(Arc::new(Int64Array::from(ids)));
    RecordBatch::try_from_iter_with_nullable([
        ("id", plain.column(0).clone(), true),
        ("region", plain.column(1).clone(), true),
        ("note", notes, true),
    ])
    .unwrap()
}

#[tokio::test]
async fn rows_of_many_files_are_in_one_in_their_order_with_ids_and_statistics() {
    let mut bed = Bed::new();
    bed.file(&sink(false), plain(Arc::new(Int32Array::from(vec![4, 5]))))
        .await;
    bed.file(&sink(false), plain(Arc::new(Int64Array::from(vec![3]))))
        .await;
    // The table has a column more since then.
    bed.file(&sink(true), with_note(vec![2, 1])).await;
    let objects = bed.rewritten(&bed.order(sink(true))).await.unwrap();
    assert_eq!(objects.len(), 1);
    let one = &objects[0];
    assert!(
        one.location.starts_with(&format!(
            "{OWN}rewritten/region=PE/19700101T010000Z-sales-t7.1-0000."
        )),
        "{}",
        one.location
    );
    let file = one.table_file.as_ref().unwrap();
    assert_eq!((file.spec_id, one.rows), (2, 5));
    assert_eq!(file.partition, [Some(Bytes(b"PE".to_vec()))]);
    let of_id = file.columns.iter().find(|column| column.id == 1).unwrap();
    assert_eq!(of_id.lower, Some(Bytes(1_i64.to_le_bytes().to_vec())));
    let rows = bed.rows(&objects).await;
    let ids = rows.column(0).as_primitive::<Int64Type>();
    assert_eq!(ids.values(), &[4, 5, 3, 2, 1]);
    assert_eq!(rows.column(2).null_count(), 3);
    assert_eq!(*rows.schema().field(0).data_type(), DataType::Int64);
}

#[tokio::test]
async fn large_files_are_read_by_row_groups_and_outputs_are_cut() {
    let mut bed = Bed::new();
    let mut random = fastrand::Rng::with_seed(1);
    let mut expected = vec![];
    for _ in 0..3 {
        let ids: Vec<i64> = (0..120_000).map(|_| random.i64(..)).collect();
        expected.extend_from_slice(&ids);
        bed.file(&sink(false), plain(Arc::new(Int64Array::from(ids))))
            .await;
    }
    let objects = bed.rewritten(&bed.order(sink(false))).await.unwrap();
    assert!(objects.len() > 1, "{} files", objects.len());
    let rows = bed.rows(&objects).await;
    let ids = rows.column(0).as_primitive::<Int64Type>();
    assert_eq!(ids.values(), &expected[..]);
}

#[tokio::test]
async fn what_is_not_as_the_table_states_leaves_nothing_staged() {
    let mut bed = Bed::new();
    bed.file(&sink(false), plain(Arc::new(Int64Array::from(vec![1, 2]))))
        .await;
    let good = bed.order(sink(false));
    let mut more_rows = good.clone();
    more_rows.inputs[0].rows += 1;
    let mut another_size = good.clone();
    another_size.inputs[0].size -= 1;
    let mut elsewhere = good.clone();
    elsewhere.inputs[0].location = "memory://other/a.parquet".into();
    let mut missing = good.clone();
    missing.inputs[0].location = format!("{OWN}gone.parquet");
    let mut too_many = good.clone();
    too_many.inputs = vec![good.inputs[0].clone(); GROUP_FILES_MAX + 1];
    let mut no_partition = good.clone();
    no_partition.partition.clear();
    let mut files = good.clone();
    files.job.spec.sink = job("SELECT 1").spec.sink;
    for (order, problem) in [
        (more_rows, "have 2 rows, the table states 3"),
        (another_size, "cannot be read"),
        (elsewhere, "is not a file of the job"),
        (missing, "does not exist"),
        (too_many, "1001 files"),
        (no_partition, "partition is not one"),
        (files, "the job writes files"),
    ] {
        let error = bed.rewritten(&order).await.unwrap_err();
        let text = describe(&error);
        assert!(text.contains(problem), "{problem}: {text}");
        assert_eq!(bed.storage.staged_locations(), Vec::<String>::new());
    }
    assert_eq!(bed.rewritten(&good).await.unwrap().len(), 1);
}
