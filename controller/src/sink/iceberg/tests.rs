//! Epochs published into a table of a folder's catalog.

use super::*;
use crate::sink::listing::Shown;
use crate::store::contract;
use bytes::Bytes;
use std::num::NonZeroU32;
use streamctl_engine::iceberg::catalog::request::NewTable;
use streamctl_engine::iceberg::metadata::TableMetadata;
use streamctl_engine::iceberg::partition::PartitionSpec;
use streamctl_engine::iceberg::types::{Field, Primitive, Schema, Type};
use streamctl_proto::manifest::{EpochRepair, ManifestObject};
use streamctl_proto::spec::{Compression, TableCatalog};
use streamctl_proto::table_file::TableFile;
use streamctl_proto::{Counts, Epoch, TaskId, Term, Window};

struct Scene {
    _folder: tempfile::TempDir,
    storages: Storages,
    job: ResolvedJob,
    catalog: Arc<dyn Catalog>,
    name: TableName,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let storages = Storages::local();
        let of = TableCatalog::Local {
            warehouse: Location::folder(&path),
        };
        let catalog = storages.tables().catalog(&of).await.unwrap();
        let name = TableName::parse("db.sales").unwrap();
        let column = Field::new(1, "id", false, Type::Primitive(Primitive::Long));
        let new = NewTable {
            name: name.clone(),
            location: None,
            schema: Schema::new(vec![column]),
            spec: PartitionSpec::default(),
            properties: Default::default(),
        };
        catalog.create(&new).await.unwrap();
        let table = catalog.load(&name).await.unwrap();
        let mut job = contract::job("sales");
        job.spec.dead_letter = Some(Location::folder(&format!("{path}/dead")));
        job.spec.sink = IcebergSink {
            role: None,
            catalog: of,
            table: name.to_string(),
            create: false,
            location: None,
            partition: None,
            keep_snapshots: NonZeroU32::new(3).unwrap(),
            compression: Compression::Zstd,
            target_size: 1 << 20,
            maintenance: None,
            pinned: Some(Box::new(PinnedTable {
                cluster: "test".into(),
                uuid: table.table_uuid.clone(),
                data: Location::folder(&table.data_folder()),
                schema_id: 0,
                spec_id: 0,
                partition_fields: vec![],
                schema: serde_json::to_value(table.current_schema().unwrap()).unwrap(),
                spec: serde_json::to_value(table.spec(0).unwrap()).unwrap(),
            })),
        }
        .into();
        Self {
            _folder: folder,
            storages,
            job,
            catalog,
            name,
        }
    }

    fn committer(&self) -> Arc<dyn Committer> {
        crate::sink::committer(&self.storages, &self.job)
    }

    async fn table(&self) -> Arc<TableMetadata> {
        self.catalog.load(&self.name).await.unwrap()
    }

    /// A file that is staged and not visible.
    async fn staged(&self, epoch: u64, rows: u64) -> StagedObject {
        let folder = self.table().await.data_folder();
        let location = format!("{folder}/20261124T004500Z-sales-t1.1-{epoch:04}.parquet");
        let storage = self.storages.for_location(&location);
        let mut writer = storage.stage(&location).await.unwrap();
        writer.write(Bytes::from(format!("{epoch}"))).await.unwrap();
        let mut staged = writer.finish(ObjectKind::Data, rows).await.unwrap();
        staged.table_file = Some(Box::new(TableFile::default()));
        staged
    }

    async fn manifest(&self, epoch: u64) -> Manifest {
        let object = ManifestObject {
            task: TaskId {
                term: Term(1),
                counter: 1,
            },
            staged: self.staged(epoch, epoch).await,
        };
        Manifest {
            version: 3,
            job: self.job.spec.name.clone(),
            epoch: Epoch(epoch),
            window: Window {
                start_ms: 0,
                end_ms: 60_000,
            },
            term: Term(1),
            created_ms: 0,
            previous: None,
            made_by: None,
            stream: None,
            query_digest: "q".into(),
            function_code: None,
            lookups: Default::default(),
            parts: vec![],
            frontier: Default::default(),
            objects: vec![object],
            counts: Counts::default(),
            totals: Counts::default(),
            unmatched: vec![],
            null_values: vec![],
            unknown_keys: vec![],
            stages: Default::default(),
            repair: None,
        }
    }

    async fn publish(&self, manifest: &Manifest) -> Result<(), PublishError> {
        let repairs = &[];
        let epoch = Committed { manifest, repairs };
        self.committer().publish(&[epoch]).await
    }
}

fn rows(table: &TableMetadata) -> &str {
    &table.current().unwrap().summary["total-records"]
}

#[tokio::test]
async fn an_epoch_that_is_published_again_is_in_the_table_once() {
    let scene = Scene::new().await;
    for epoch in 1..=5 {
        let manifest = scene.manifest(epoch).await;
        assert!(!scene.committer().is_visible(&manifest).await.unwrap());
        for _ in 0..2 {
            scene.publish(&manifest).await.unwrap();
        }
        assert!(scene.committer().is_visible(&manifest).await.unwrap());
    }
    let table = scene.table().await;
    assert_eq!(rows(&table), "15");
    assert_eq!(table.snapshots.len(), 3, "what is kept, with the newest");
    assert_eq!(table.properties["streamctl.test.sales"], "5");
    let summary = &table.current().unwrap().summary;
    let (_, reference) = scene.manifest(6).await.encode();
    assert!(!summary["streamctl.manifests"].contains(&reference.digest));
}

#[tokio::test]
async fn several_epochs_are_one_snapshot_and_an_empty_one_adds_none() {
    let scene = Scene::new().await;
    let first = scene.manifest(1).await;
    let mut empty = scene.manifest(2).await;
    empty.objects.clear();
    let third = scene.manifest(3).await;
    let all = [&first, &empty, &third].map(|manifest| Committed {
        manifest,
        repairs: &[],
    });
    scene.committer().publish(&all).await.unwrap();
    scene.publish(&empty).await.unwrap();
    let table = scene.table().await;
    assert_eq!(table.snapshots.len(), 1);
    assert_eq!(rows(&table), "4");
    let summary = &table.current().unwrap().summary;
    assert_eq!(summary["streamctl.epochs"], "1,3");
}

#[tokio::test]
async fn a_lost_file_stops_the_epoch_until_it_is_repaired_and_a_compacted_one_does_not() {
    let scene = Scene::new().await;
    let manifest = scene.manifest(1).await;
    let lost = manifest.objects[0].staged.clone();
    let storage = scene.storages.for_location(&lost.location);
    storage.abandon(&lost).await.unwrap();
    let error = scene.publish(&manifest).await.unwrap_err();
    assert!(matches!(error, PublishError::Lost { .. }), "{error:?}");
    assert!(scene.table().await.current().is_none());
    let repair = EpochRepair {
        epoch: Epoch(1),
        lost: vec![lost.location.clone()],
        objects: vec![ManifestObject {
            task: manifest.objects[0].task,
            staged: scene.staged(77, 1).await,
        }],
        rows_given_up: 0,
        by: String::new(),
    };
    let repairs = &[repair];
    let epoch = Committed {
        manifest: &manifest,
        repairs,
    };
    scene.committer().publish(&[epoch]).await.unwrap();
    assert_eq!(rows(&*scene.table().await), "1");
    // What the table took and others removed since is theirs.
    let second = scene.manifest(2).await;
    scene.publish(&second).await.unwrap();
    storage
        .delete(&second.objects[0].staged.location)
        .await
        .unwrap();
    scene.publish(&second).await.unwrap();
    assert_eq!(rows(&*scene.table().await), "3");
}

#[tokio::test]
async fn a_dropped_table_refuses_the_epoch_with_a_hint() {
    let scene = Scene::new().await;
    let manifest = scene.manifest(1).await;
    let mut other = scene.job.clone();
    if let streamctl_proto::spec::SinkKind::Iceberg(sink) = &mut other.spec.sink
        && let Some(pinned) = &mut sink.pinned
    {
        pinned.uuid = "another".into();
    }
    let committer = crate::sink::committer(&scene.storages, &other);
    let epoch = Committed {
        manifest: &manifest,
        repairs: &[],
    };
    let error = committer.publish(&[epoch]).await.unwrap_err();
    let hint = error.hint().unwrap();
    assert!(matches!(error, PublishError::Refused { .. }), "{error:?}");
    assert!(hint.contains("made again"), "{hint}");
    // Nothing of it is in the table, and the right job goes on.
    assert!(scene.table().await.current().is_none());
    scene.publish(&manifest).await.unwrap();
    assert_eq!(rows(&*scene.table().await), "1");
}

#[tokio::test]
async fn a_listing_shows_each_file_once() {
    let scene = Scene::new().await;
    let manifest = scene.manifest(1).await;
    scene.publish(&manifest).await.unwrap();
    let listing = scene.committer().listing().await.unwrap().unwrap();
    let location = &manifest.objects[0].staged.location;
    assert_eq!(listing.shown(location, 1), Shown::Once);
    assert_eq!(listing.shown(location, 2), Shown::Rows(1));
    assert_eq!(listing.shown("/elsewhere", 1), Shown::Missing);
    assert_eq!(listing.stated_twice().count(), 0);
}

mod compacting;
mod verified;
