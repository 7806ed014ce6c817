//! Epochs published into a folder whose table is in a catalog in memory.

use super::*;
use crate::sink::{Committer, committer};
use crate::store::contract;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use streamctl_engine::data_catalog::contract::{name, table};
use streamctl_engine::data_catalog::memory::{Fault, MemoryCatalog};
use streamctl_engine::data_catalog::{DataCatalog as _, DataCatalogs, TableName};
use streamctl_engine::storage::MemoryStorage;
use streamctl_proto::manifest::{EpochRepair, ManifestObject};
use streamctl_proto::spec::{Location, SinkCatalog};
use streamctl_proto::{Counts, Epoch, Manifest, ResolvedJob, TaskId, Term, Window};

const TASK: TaskId = TaskId {
    term: Term(1),
    counter: 1,
};

struct Scene {
    catalog: Arc<MemoryCatalog>,
    storages: Storages,
    job: ResolvedJob,
}

impl Scene {
    async fn new(projection: bool) -> Self {
        let catalog = Arc::new(MemoryCatalog::with_database("db"));
        catalog
            .create(&sales(), &table("memory://out/"))
            .await
            .unwrap();
        let storages = Storages::memory(MemoryStorage::default())
            .with_data_catalogs(DataCatalogs::only(catalog.clone()));
        let mut job = contract::job("sales");
        let column = |name: &str| PartitionColumn::Column(name.to_owned());
        job.spec.sink = FilesSink {
            partition_by: vec![column("Country"), PartitionColumn::IngestDay],
            catalog: Some(SinkCatalog {
                role: None,
                database: "db".into(),
                table: "sales".into(),
                catalog_id: None,
                region: None,
                projection,
                add_columns: true,
            }),
            ..FilesSink::new(Location::folder("memory://out/"))
        }
        .into();
        Self {
            catalog,
            storages,
            job,
        }
    }

    fn committer(&self) -> Arc<dyn Committer> {
        committer(&self.storages, &self.job)
    }

    /// An object that is staged and not visible.
    async fn staged(&self, location: &str, kind: ObjectKind) -> ManifestObject {
        let storage = self.storages.for_location(location);
        let mut writer = storage.stage(location).await.unwrap();
        writer.write(Bytes::from_static(b"x")).await.unwrap();
        ManifestObject {
            task: TASK,
            staged: writer.finish(kind, 1).await.unwrap(),
        }
    }

    /// An epoch with an object in each of these folders.
    async fn manifest(&self, epoch: u64, folders: &[&str]) -> Manifest {
        let mut objects = vec![];
        for folder in folders {
            let location = format!("memory://out/{folder}/{epoch}.parquet");
            objects.push(self.staged(&location, ObjectKind::Data).await);
        }
        let dead = format!("memory://dead/{epoch}.json.gz");
        objects.push(self.staged(&dead, ObjectKind::DeadLetter).await);
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
            objects,
            counts: Counts::default(),
            totals: Counts::default(),
            unmatched: vec![],
            null_values: vec![],
            unknown_keys: vec![],
            stages: Default::default(),
            repair: None,
        }
    }

    fn partitions(&self) -> BTreeMap<Vec<String>, String> {
        self.catalog.partitions(&sales())
    }
}

fn sales() -> TableName {
    name("db", "sales")
}

fn one<'a>(manifest: &'a Manifest, repairs: &'a [EpochRepair]) -> [Committed<'a>; 1] {
    [Committed { manifest, repairs }]
}

#[tokio::test]
async fn the_folders_of_a_backlog_are_registered_together_and_again_changes_nothing() {
    let scene = Scene::new(false).await;
    let manifests = [
        scene.manifest(1, &["Country=DE/ingest_day=24"]).await,
        scene
            .manifest(
                2,
                &["Country=DE/ingest_day=24", "Country=a%2Fb/ingest_day=25"],
            )
            .await,
    ];
    let epochs: Vec<_> = manifests
        .iter()
        .map(|manifest| Committed {
            manifest,
            repairs: &[],
        })
        .collect();
    for _ in 0..2 {
        scene.committer().publish(&epochs).await.unwrap();
    }
    assert_eq!(scene.catalog.registrations(), [2]);
    let values = |country: &str, day: &str| vec![country.to_owned(), day.to_owned()];
    let expected = BTreeMap::from([
        (
            values("DE", "24"),
            "memory://out/Country=DE/ingest_day=24/".to_owned(),
        ),
        (
            values("a/b", "25"),
            "memory://out/Country=a%2Fb/ingest_day=25/".to_owned(),
        ),
    ]);
    assert_eq!(scene.partitions(), expected);
}

#[tokio::test]
async fn an_epoch_is_not_published_before_its_partitions_are_registered() {
    for fault in [Fault::Unavailable, Fault::AnswerLost, Fault::Denied] {
        let scene = Scene::new(false).await;
        let manifest = scene.manifest(1, &["Country=DE/ingest_day=24"]).await;
        let committer = scene.committer();
        scene.catalog.fail([fault]);
        let error = committer.publish(&one(&manifest, &[])).await.unwrap_err();
        assert!(
            matches!(
                error,
                PublishError::Partitions {
                    epoch: Epoch(1),
                    ..
                }
            ),
            "{error:?}"
        );
        assert_eq!(error.hint().is_some(), fault == Fault::Denied);
        committer.publish(&one(&manifest, &[])).await.unwrap();
        assert_eq!(scene.partitions().len(), 1, "{fault:?}");
    }
    let scene = Scene::new(false).await;
    let manifest = scene.manifest(1, &["Country=DE/ingest_day=24"]).await;
    scene.catalog.drop_table(&sales());
    let error = scene.committer().publish(&one(&manifest, &[])).await;
    let error = error.unwrap_err();
    assert!(matches!(error, PublishError::Refused { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("--change"));
}

#[tokio::test]
async fn the_folder_of_a_repaired_object_is_registered_and_with_projection_none() {
    let scene = Scene::new(false).await;
    let manifest = scene.manifest(1, &["Country=DE/ingest_day=24"]).await;
    let lost = manifest.objects[0].staged.clone();
    let storage = scene.storages.for_location(&lost.location);
    storage.abandon(&lost).await.unwrap();
    let again = "memory://out/Country=FR/ingest_day=24/again.parquet";
    let repair = EpochRepair {
        epoch: Epoch(1),
        lost: vec![lost.location],
        objects: vec![scene.staged(again, ObjectKind::Data).await],
        rows_given_up: 0,
        by: String::new(),
    };
    let repairs = [repair];
    let committer = scene.committer();
    committer.publish(&one(&manifest, &repairs)).await.unwrap();
    let registered: Vec<_> = scene.partitions().into_keys().collect();
    assert_eq!(registered, [["FR", "24"]]);

    let scene = Scene::new(true).await;
    let manifest = scene.manifest(1, &["Country=DE/ingest_day=24"]).await;
    scene.catalog.drop_table(&sales());
    scene
        .committer()
        .publish(&one(&manifest, &[]))
        .await
        .unwrap();
    assert!(scene.catalog.registrations().is_empty());
}
