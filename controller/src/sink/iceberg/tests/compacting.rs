//! Small files of a table become few, beside its epochs.

use super::*;
use crate::sink::compact::{Compacted, CompactionTurn, Left, NotCompacted, RewriteNames, Rewriter};
use std::sync::Mutex;
use std::time::Duration;
use streamctl_proto::report::object_name;
use streamctl_proto::rewrite::{REWRITTEN_FOLDER, RewriteOrder, RewriteOutcome, records_folder};
use streamctl_proto::spec::{SinkKind, TableMaintenance};

/// Writes one file for each order, as a worker does.
struct Worker<'a> {
    scene: &'a Scene,
    behaviour: Behaviour,
    orders: Mutex<Vec<RewriteOrder>>,
}

pub(super) enum Behaviour {
    Honest,
    LosesARow,
    WritesElsewhere,
    Fails,
    /// Another writer appends meanwhile.
    BesideAnAppend(u64),
}

#[async_trait]
impl Rewriter for Worker<'_> {
    async fn rewrite(&self, order: RewriteOrder) -> RewriteOutcome {
        self.orders.lock().unwrap().push(order.clone());
        let pinned = self.scene.pinned();
        let rows: u64 = order.inputs.iter().map(|input| input.rows).sum();
        let name = object_name(order.window, &order.job.spec.name, order.task, 0, "parquet");
        let folder = match self.behaviour {
            Behaviour::WritesElsewhere => pinned.data.join(""),
            _ => pinned.data.join(REWRITTEN_FOLDER),
        };
        match self.behaviour {
            Behaviour::Fails => {
                return RewriteOutcome::Failed {
                    reason: "no memory".to_owned(),
                };
            }
            Behaviour::BesideAnAppend(epoch) => {
                self.scene
                    .publish(&self.scene.manifest(epoch).await)
                    .await
                    .unwrap();
            }
            Behaviour::Honest | Behaviour::LosesARow | Behaviour::WritesElsewhere => {}
        }
        let rows = match self.behaviour {
            Behaviour::LosesARow => rows - 1,
            _ => rows,
        };
        let location = Location::folder(&folder).join(&name);
        let object = self.scene.staged_at(&location, rows).await;
        RewriteOutcome::Rewritten {
            objects: vec![object],
        }
    }
}

impl Scene {
    /// A table whose job rewrites small files, with so many epochs.
    pub(super) async fn compacting(epochs: u64) -> Self {
        let mut scene = Self::new().await;
        let SinkKind::Iceberg(sink) = &mut scene.job.spec.sink else {
            panic!("a table")
        };
        sink.maintenance = Some(TableMaintenance {
            compact: Duration::from_secs(10),
            target_size: 1 << 20,
        });
        let folder = scene._folder.path().to_str().unwrap().to_owned();
        scene.job.spec.checkpoint = Location::folder(&format!("{folder}/checkpoint"));
        for epoch in 1..=epochs {
            scene.publish(&scene.manifest(epoch).await).await.unwrap();
        }
        scene
    }

    pub(super) fn pinned(&self) -> PinnedTable {
        match &self.job.spec.sink {
            SinkKind::Iceberg(sink) => *sink.pinned.clone().unwrap(),
            SinkKind::Files(_) => panic!("a table"),
        }
    }

    async fn staged_at(&self, location: &str, rows: u64) -> StagedObject {
        let storage = self.storages.for_location(location);
        let mut writer = storage.stage(location).await.unwrap();
        writer
            .write(Bytes::from(location.to_owned()))
            .await
            .unwrap();
        let mut staged = writer.finish(ObjectKind::Data, rows).await.unwrap();
        staged.table_file = Some(Box::new(TableFile::default()));
        staged
    }

    fn worker(&self, behaviour: Behaviour) -> Worker<'_> {
        Worker {
            scene: self,
            behaviour,
            orders: Mutex::default(),
        }
    }

    pub(super) async fn turn(
        &self,
        behaviour: Behaviour,
        term: u64,
    ) -> Result<Compacted, NotCompacted> {
        let worker = self.worker(behaviour);
        let names = RewriteNames::new(Term(term));
        let turn = CompactionTurn {
            job: &self.job,
            rewriter: &worker,
            names: &names,
        };
        self.committer().compact(turn).await
    }

    /// How many files the table shows, and their rows.
    async fn shown(&self) -> (String, String) {
        let table = self.table().await;
        let summary = &table.current().unwrap().summary;
        let total = |name: &str| summary[&format!("total-{name}")].clone();
        (total("data-files"), total("records"))
    }

    async fn records(&self) -> usize {
        let folder = self
            .job
            .spec
            .checkpoint
            .join(&records_folder(&self.job.spec.name));
        let folder = Location::folder(&folder);
        let storage = self.storages.for_location(folder.as_str());
        storage.list(&folder).await.unwrap().len()
    }

    async fn files(&self) -> usize {
        let data = self.pinned().data;
        let storage = self.storages.for_location(data.as_str());
        storage.list(&data).await.unwrap().len()
    }
}

#[tokio::test]
async fn small_files_become_one_and_are_deleted_when_no_snapshot_shows_them() {
    let mut scene = Scene::compacting(8).await;
    // One window of an hour: three epochs make a rewriting void.
    scene.job.spec.window = streamctl_proto::WindowSize::from_ms(3_600_000).unwrap();
    let done = scene.turn(Behaviour::Honest, 1).await.unwrap();
    let expected = Compacted {
        rewritings: 1,
        files_before: 8,
        files_after: 1,
        rows: 36,
        bytes: 8,
        ..Compacted::default()
    };
    assert_eq!(done, expected);
    assert_eq!(scene.shown().await, ("1".to_owned(), "36".to_owned()));
    assert_eq!((scene.files().await, scene.records().await), (9, 1));
    assert_eq!(
        scene.turn(Behaviour::Honest, 1).await.unwrap(),
        Compacted::default(),
        "nothing is left to do"
    );
    // The table keeps three snapshots.
    for epoch in 9..=13 {
        scene.publish(&scene.manifest(epoch).await).await.unwrap();
    }
    let cleaned = scene.turn(Behaviour::Honest, 2).await.unwrap();
    assert_eq!(cleaned.deleted, 8);
    assert_eq!((scene.files().await, scene.records().await), (6, 0));
    let listing = scene.committer().listing().await.unwrap().unwrap();
    let first = scene.manifest(1).await.objects.remove(0).staged;
    assert_eq!(
        listing.shown(&first.location, 1),
        Shown::Gone(crate::sink::listing::Gone::Unknown),
        "a verification does not miss it, and does not know who rewrote it"
    );
}

#[tokio::test]
async fn an_epoch_that_is_published_meanwhile_stays() {
    let scene = Scene::compacting(8).await;
    let done = scene.turn(Behaviour::BesideAnAppend(9), 1).await.unwrap();
    assert_eq!(done.rewritings, 1);
    assert_eq!(scene.shown().await, ("2".to_owned(), "45".to_owned()));
    let listing = scene.committer().listing().await.unwrap().unwrap();
    let ninth = format!(
        "{}20261124T004500Z-sales-t1.1-0009.parquet",
        scene.pinned().data
    );
    assert_eq!(listing.shown(&ninth, 9), Shown::Once);
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_ordered_changes_nothing() {
    let scene = Scene::compacting(8).await;
    for (behaviour, problem) in [
        (Behaviour::LosesARow, "35 rows, ordered were 36"),
        (Behaviour::WritesElsewhere, "is not where"),
    ] {
        let error = scene.turn(behaviour, 1).await.unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
        assert_eq!(scene.shown().await, ("8".to_owned(), "36".to_owned()));
        assert_eq!((scene.files().await, scene.records().await), (8, 0));
    }
    let failed = scene.turn(Behaviour::Fails, 2).await.unwrap();
    assert_eq!(failed.left, Some(Left::Failed("no memory".to_owned())));
    assert_eq!(
        scene.turn(Behaviour::Honest, 3).await.unwrap().rewritings,
        1
    );
}

#[tokio::test]
async fn an_order_names_the_files_oldest_first_and_a_window_of_the_future() {
    let scene = Scene::compacting(8).await;
    let worker = scene.worker(Behaviour::Honest);
    let names = RewriteNames::new(Term(5));
    let turn = CompactionTurn {
        job: &scene.job,
        rewriter: &worker,
        names: &names,
    };
    scene.committer().compact(turn).await.unwrap();
    let orders = worker.orders.lock().unwrap();
    assert_eq!(orders.len(), 1);
    let rows: Vec<_> = orders[0].inputs.iter().map(|input| input.rows).collect();
    assert_eq!(rows, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(
        (orders[0].task.term, orders[0].target_size),
        (Term(5), 1 << 20)
    );
    let now_ms = scene.storages.tables().clock()();
    assert!(orders[0].window.start_ms > now_ms + 3_000_000);
}

#[tokio::test]
async fn a_job_without_maintenance_rewrites_nothing() {
    let scene = Scene::new().await;
    for epoch in 1..=8 {
        scene.publish(&scene.manifest(epoch).await).await.unwrap();
    }
    let done = scene.turn(Behaviour::Honest, 1).await.unwrap();
    assert_eq!(done, Compacted::default());
    assert_eq!(scene.shown().await.0, "8");
}
