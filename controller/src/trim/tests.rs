//! A chain in memory whose beginning is removed, with a fault at each step.

use super::*;
use crate::store::contract;
use streamctl_engine::storage::{MemoryStorage, Op, RefusalCause};
use streamctl_proto::manifest::MadeBy;
use streamctl_proto::spec::FilesSink;
use streamctl_proto::{Manifest, Term, WindowSize};

const FOLDER: &str = "memory://checkpoint/";

struct Scene {
    memory: MemoryStorage,
    job: ResolvedJob,
    /// By epoch, from 1.
    chain: Vec<ManifestRef>,
}

impl Scene {
    /// Ten epochs; version 1 made the first four, version 2 the next two, version 3 the others.
    /// Epoch 3 and epoch 9 have a second manifest that was never committed.
    async fn new() -> Self {
        let memory = MemoryStorage::default();
        let storages = Storages::memory(memory.clone());
        let mut job = contract::job("sales");
        job.spec.checkpoint = Location::folder(FOLDER);
        let checkpoints = Checkpoints::of(&storages, &job);
        for version in 1..3 {
            job.spec_digest = format!("file-{version}");
            memory.put(&file(version), "name = 'sales'");
            let before = checkpoints.write_version(&job).await.unwrap();
            job.job_version = before.job_version.next();
            job.previous = Some(before);
        }
        job.spec_digest = "file-3".into();
        memory.put(&file(3), "name = 'sales'");
        let mut scene = Self {
            memory,
            job,
            chain: vec![],
        };
        for epoch in 1..=10 {
            scene.commit(&checkpoints, epoch).await;
        }
        scene
    }

    async fn commit(&mut self, checkpoints: &Checkpoints, epoch: u64) {
        let window = WindowSize::from_ms(1_000).unwrap();
        let window = window.window_of(epoch as i64 * 1_000);
        let mut manifest = streamctl_core::Job::new(self.job.clone()).manifest(window, Term(1), 0);
        manifest.epoch = Epoch(epoch);
        manifest.previous = self.chain.last().cloned();
        let version = [1, 1, 1, 1, 2, 2, 3, 3, 3, 3][epoch as usize - 1];
        manifest.made_by = Some(MadeBy {
            job_version: JobVersion(version),
            spec_digest: format!("file-{version}"),
        });
        if epoch % 6 == 3 {
            let stray = Manifest {
                created_ms: 7,
                ..manifest.clone()
            };
            checkpoints.write_manifest(&stray).await.unwrap();
        }
        let reference = checkpoints.write_manifest(&manifest).await.unwrap();
        checkpoints.note_published(&reference).await.unwrap();
        self.chain.push(reference);
    }

    fn anchor(&self, epoch: usize) -> &ManifestRef {
        &self.chain[epoch - 1]
    }

    async fn trim(&self, epoch: usize, most: usize) -> Result<Trimmed, CheckpointError> {
        let storages = Storages::memory(self.memory.clone());
        trim(&storages, &self.job, self.anchor(epoch), most).await
    }

    /// File names below a folder of the job.
    async fn files(&self, folder: &str) -> Vec<String> {
        let folder = Location::folder(&format!("{FOLDER}sales/{folder}/"));
        let listed = self.memory.list(&folder).await.unwrap();
        let file = |location: String| location[folder.as_str().len()..].to_owned();
        listed.into_iter().map(|it| file(it.location)).collect()
    }

    async fn epochs(&self, folder: &str) -> Vec<u64> {
        let files = self.files(folder).await;
        files.iter().filter_map(|file| number_of(file)).collect()
    }

    /// Everything from this epoch on can be read, by its digest.
    async fn assert_whole(&self, first: u64) {
        let storages = Storages::memory(self.memory.clone());
        let checkpoints = Checkpoints::of(&storages, &self.job);
        let head = self.chain.last().unwrap();
        let read = checkpoints.read_back(head, Epoch(first - 1)).await.unwrap();
        assert_eq!(read.len() as u64, 11 - first);
        for manifest in read {
            let version = manifest.job_version();
            checkpoints.version(&self.job, version).await.unwrap();
        }
    }
}

fn file(version: u64) -> String {
    format!("{FOLDER}sales/job-files/file-{version}.toml")
}

#[tokio::test]
async fn what_lies_before_the_anchor_is_removed_and_nothing_else() {
    let scene = Scene::new().await;
    let trimmed = scene.trim(6, 1_000).await.unwrap();
    // Five epochs with a stray, their notes, and version 1.
    assert_eq!(trimmed.removed, 6 + 5 + 1);
    assert!(!trimmed.is_more_left);
    assert_eq!(scene.epochs("epochs").await, [6, 7, 8, 9, 9, 10]);
    assert_eq!(scene.epochs("published").await, [6, 7, 8, 9, 10]);
    assert_eq!(scene.epochs("versions").await, [2]);
    assert_eq!(
        scene.files("job-files").await,
        ["file-2.toml", "file-3.toml"]
    );
    scene.assert_whole(6).await;
    assert_eq!(scene.trim(6, 1_000).await.unwrap(), Trimmed::default());
}

#[tokio::test]
async fn a_turn_is_bounded_and_begins_with_the_oldest() {
    let scene = Scene::new().await;
    let turn = scene.trim(6, 2).await.unwrap();
    let more = Trimmed {
        removed: 2,
        is_more_left: true,
    };
    assert_eq!(turn, more);
    assert_eq!(
        scene.epochs("epochs").await,
        [3, 3, 4, 5, 6, 7, 8, 9, 9, 10]
    );
    let mut turns = 1;
    while scene.trim(6, 2).await.unwrap().is_more_left {
        turns += 1;
    }
    assert!(turns < 10);
    assert_eq!(scene.epochs("versions").await, [2]);
    scene.assert_whole(6).await;
}

#[tokio::test]
async fn a_job_file_that_a_kept_version_has_too_stays() {
    let mut scene = Scene::new().await;
    // The first version was submitted again as the third.
    scene.job.spec_digest = "file-1".into();
    scene.trim(6, 1_000).await.unwrap();
    assert_eq!(scene.epochs("versions").await, [2]);
    assert!(
        scene
            .files("job-files")
            .await
            .contains(&"file-1.toml".to_owned())
    );
}

#[tokio::test]
async fn nothing_is_removed_unless_the_anchor_is_what_was_committed() {
    let scene = Scene::new().await;
    let anchor = format!("{FOLDER}{}", scene.anchor(6).name);
    scene.memory.put(&anchor, "{}");
    assert!(scene.trim(6, 1_000).await.is_err());
    scene.memory.delete(&anchor);
    assert!(scene.trim(6, 1_000).await.is_err());
    assert_eq!(scene.epochs("epochs").await.len(), 11);
    assert_eq!(scene.epochs("published").await.len(), 10);
}

/// A kill at any step, before or after it took effect, loses nothing that is kept; the next turn
/// removes the rest.
#[tokio::test]
async fn a_kill_at_each_step_loses_nothing_and_the_next_turn_ends_the_work() {
    let ops = [(Op::List, 3), (Op::Get, 3), (Op::Delete, 13)];
    for (op, calls) in ops {
        for at in 0..calls {
            for after_success in [false, true] {
                let scene = Scene::new().await;
                let refused = || StorageError::Refused {
                    cause: RefusalCause::Environment,
                    location: String::new(),
                    reason: "killed".into(),
                    hint: String::new(),
                };
                scene.memory.fail_after(at, op, refused(), after_success);
                let killed = scene.trim(6, 1_000).await;
                assert!(killed.is_err(), "{op:?} {at}");
                scene.assert_whole(6).await;
                scene.trim(6, 1_000).await.unwrap();
                scene.assert_whole(6).await;
                assert_eq!(scene.epochs("epochs").await, [6, 7, 8, 9, 9, 10]);
                assert_eq!(scene.epochs("published").await, [6, 7, 8, 9, 10]);
                assert_eq!(scene.epochs("versions").await, [2]);
                assert_eq!(scene.files("job-files").await.len(), 2);
            }
        }
    }
}

#[tokio::test]
async fn a_purge_leaves_dead_letters_and_results_and_removes_manifests_last() {
    let mut scene = Scene::new().await;
    scene.job.spec.sink = FilesSink {
        path: Location::folder("memory://checkpoint/sales/out/"),
        ..streamctl_core::testing::sink()
    }
    .into();
    let stay = [
        "memory://checkpoint/sales/dead-letters/a.json",
        "memory://checkpoint/sales/out/b.parquet",
        "memory://checkpoint/sales-2/epochs/000000000001-0123456789abcdef.json",
    ];
    let lookup = "memory://checkpoint/sales/lookups/country/v1/a.csv";
    for location in stay.into_iter().chain([lookup]) {
        scene.memory.put(location, "x");
    }
    let storages = Storages::memory(scene.memory.clone());
    let left = async |folder: &str| {
        let storage = storages.for_location(FOLDER);
        let found = storage.list(&Location::folder(folder)).await.unwrap();
        found
            .into_iter()
            .map(|object| object.location)
            .collect::<Vec<_>>()
    };
    let manifests = left("memory://checkpoint/sales/epochs/").await;
    let refused = StorageError::Refused {
        location: lookup.into(),
        cause: RefusalCause::Environment,
        reason: "no permission".into(),
        hint: String::new(),
    };
    scene.memory.fail_next(Op::Delete, refused, false);
    let broken = purge(&storages, &scene.job).await;
    assert!(broken.problem.unwrap().contains("no permission"));
    assert_eq!(
        left("memory://checkpoint/sales/epochs/").await,
        manifests,
        "they go last"
    );
    let purged = purge(&storages, &scene.job).await;
    assert_eq!(purged.problem, None);
    assert!(purged.removed >= manifests.len(), "{purged:?}");
    let mut stayed = left("memory://checkpoint/").await;
    stayed.sort_by_key(|location| stay.iter().position(|one| one == location));
    assert_eq!(stayed, stay);
}

#[tokio::test]
async fn a_purge_without_a_manifest_takes_nothing_that_a_new_job_may_name() {
    let scene = Scene::new().await;
    let storages = Storages::memory(scene.memory.clone());
    let storage = storages.for_location(FOLDER);
    let manifests = Location::folder("memory://checkpoint/sales/epochs/");
    for object in storage.list(&manifests).await.unwrap() {
        scene.memory.delete(&object.location);
    }
    let all = Location::folder(FOLDER);
    let before = storage.list(&all).await.unwrap().len();
    assert!(before > 0);
    let purged = purge(&storages, &scene.job).await;
    assert_eq!(purged.removed, 0);
    assert!(purged.problem.unwrap().contains("no manifest"));
    assert_eq!(storage.list(&all).await.unwrap().len(), before);
}
