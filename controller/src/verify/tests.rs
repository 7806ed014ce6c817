//! A small job in memory, verified after one change to it.

mod anchor;

use super::finding::{Kind, Severity};
use super::*;
use crate::checkpoints::Checkpoints;
use crate::store::{Leadership, MemoryStore, contract};
use async_trait::async_trait;
use std::collections::BTreeMap;
use streamctl_engine::storage::{MemoryStorage, Op, RefusalCause, StorageError};
use streamctl_proto::manifest::{EpochRepair, Frontier, MadeBy, ManifestObject, ManifestPart};
use streamctl_proto::report::{ObjectKind, StageTimes, Staging};
use streamctl_proto::spec::{FilesSink, Location};
use streamctl_proto::v1::verify_event::Event;
use streamctl_proto::verify::{Comparison, EpochOutcome, RebuildOrder, RebuildOutcome};
use streamctl_proto::{
    Counts, Epoch, JobVersion, Manifest, ManifestRef, Position, ResolvedJob, ShardRange,
    StagedObject, TaskId, Term, Window,
};

const ROWS: u64 = 3;
const TEXT: &[u8] = b"{}\n{}\n{}\n";
const TASK: TaskId = TaskId {
    term: Term(1),
    counter: 1,
};

/// A job with some epochs, each of one shard, three records and one object.
struct Scene {
    store: MemoryStore,
    storage: MemoryStorage,
    leadership: Leadership,
    job: ResolvedJob,
    epochs: Vec<Manifest>,
    outcome: EpochOutcome,
}

fn at(n: u64) -> Position {
    if n == 0 {
        Position::Start
    } else {
        Position::after(n.into())
    }
}

fn window(epoch: u64) -> Window {
    let start_ms = i64::try_from(epoch).unwrap() * 60_000;
    Window {
        start_ms,
        end_ms: start_ms + 60_000,
    }
}

fn location(epoch: u64, number: u32) -> String {
    format!(
        "memory://out/{}-sales-{TASK}-{number:04}.json",
        window(epoch).label()
    )
}

fn equal(rows: u64) -> EpochOutcome {
    let rows = Comparison {
        replayed: rows,
        stored: rows,
        ..Comparison::default()
    };
    EpochOutcome::Compared {
        rows,
        dead_letters: Comparison::default(),
        ranges: vec![],
    }
}

fn sink(path: &str) -> FilesSink {
    FilesSink {
        path: Location::folder(path),
        ..contract::sink()
    }
}

impl Scene {
    async fn new(epochs: u64) -> Self {
        let mut job = contract::job("sales");
        job.spec.sink = sink("memory://out").into();
        job.spec.dead_letter = None;
        job.spec.checkpoint = Location::folder("memory://checkpoint");
        let store = MemoryStore::new();
        let storage = MemoryStorage::default();
        let leadership = store.campaign(&contract::leader("x")).await.unwrap();
        store.create_job(leadership.term, &job).await.unwrap();
        let mut scene = Self {
            store,
            storage,
            leadership,
            job,
            epochs: vec![],
            outcome: equal(ROWS),
        };
        for _ in 0..epochs {
            scene.commit().await;
            scene.publish().await;
        }
        scene
    }

    fn storages(&self) -> Storages {
        Storages::memory(self.storage.clone())
    }

    fn head(&self) -> Option<ManifestRef> {
        self.epochs.last().map(|manifest| manifest.encode().1)
    }

    /// The location of the object of an epoch that is committed now.
    fn location(&self, epoch: u64) -> String {
        let name = location(epoch, 0);
        let (_, folder) = self.job.spec.sink.folders()[0];
        folder.join(name.rsplit('/').next().unwrap())
    }

    /// The manifest of the epoch after this one, with three more records and an object.
    fn manifest_after(&self, before: Option<&Manifest>, previous: Option<ManifestRef>) -> Manifest {
        let epoch = before.map_or(0, |before| before.epoch.0) + 1;
        let counts = Counts {
            rows_in: ROWS,
            bytes_in: 30,
            rows_decoded: ROWS,
            rows_out: ROWS,
            ..Counts::default()
        };
        let mut totals = before.map(|before| before.totals).unwrap_or_default();
        totals.add(&counts);
        let from = at((epoch - 1) * ROWS);
        let to = at(epoch * ROWS);
        let range = ShardRange {
            from,
            to: to.clone(),
            records: ROWS,
            bytes: 30,
        };
        let staged = StagedObject {
            kind: ObjectKind::Data,
            location: self.location(epoch),
            size: TEXT.len() as u64,
            crc32c: 0x0b56_57bd,
            rows: ROWS,
            table_file: None,
            staging: Staging::File {
                staged_path: String::new(),
            },
        };
        Manifest {
            version: 2,
            job: self.job.spec.name.clone(),
            epoch: Epoch(epoch),
            window: window(epoch),
            term: Term(1),
            created_ms: 0,
            previous,
            made_by: Some(MadeBy {
                job_version: self.job.job_version,
                spec_digest: self.job.spec_digest.clone(),
            }),
            stream: None,
            query_digest: self.job.query_digest.clone(),
            function_code: None,
            lookups: BTreeMap::new(),
            parts: vec![ManifestPart {
                task: TASK,
                ranges: BTreeMap::from([("a".into(), range)]),
                counts,
            }],
            frontier: BTreeMap::from([("a".into(), Frontier::at(to))]),
            objects: vec![ManifestObject { task: TASK, staged }],
            counts,
            totals,
            unmatched: vec![],
            null_values: vec![],
            unknown_keys: vec![],
            stages: StageTimes::default(),
            repair: None,
        }
    }

    async fn commit(&mut self) {
        let manifest = self.manifest_after(self.epochs.last(), self.head());
        let reference = Checkpoints::of(&self.storages(), &self.job)
            .write_manifest(&manifest)
            .await
            .unwrap();
        let term = self.leadership.term;
        let name = &self.job.spec.name;
        self.store
            .commit(term, name, self.head().as_ref(), &reference)
            .await
            .unwrap();
        self.epochs.push(manifest);
    }

    /// Records the repair of an epoch whose object was lost.
    async fn repair(&mut self, epoch: u64, objects: Vec<ManifestObject>, rows_given_up: u64) {
        let last = self.epochs.last().unwrap().clone();
        let repair = EpochRepair {
            epoch: Epoch(epoch),
            lost: vec![self.location(epoch)],
            objects,
            rows_given_up,
            by: "ann".into(),
        };
        let end_ms = last.window.end_ms;
        let manifest = Manifest {
            epoch: last.epoch.next(),
            window: Window {
                start_ms: end_ms,
                end_ms,
            },
            previous: self.head(),
            parts: vec![],
            objects: vec![],
            counts: Counts::default(),
            repair: Some(Box::new(repair)),
            ..last
        };
        let reference = Checkpoints::of(&self.storages(), &self.job)
            .write_manifest(&manifest)
            .await
            .unwrap();
        let term = self.leadership.term;
        let name = &self.job.spec.name;
        self.store
            .commit(term, name, self.head().as_ref(), &reference)
            .await
            .unwrap();
        self.store
            .set_published(term, name, manifest.epoch)
            .await
            .unwrap();
        self.epochs.push(manifest);
    }

    async fn publish(&self) {
        let manifest = self.epochs.last().unwrap();
        self.storage.put(&manifest.objects[0].staged.location, TEXT);
        self.store
            .set_published(self.leadership.term, &self.job.spec.name, manifest.epoch)
            .await
            .unwrap();
    }

    /// The job is changed: it continues with another query, in another folder.
    async fn change(&mut self) {
        let previous = Checkpoints::of(&self.storages(), &self.job)
            .write_version(&self.job)
            .await
            .unwrap();
        self.job.job_version = self.job.job_version.next();
        self.job.previous = Some(previous);
        self.job.query_digest = format!("q{}", self.job.job_version);
        self.job.spec_digest = format!("d{}", self.job.job_version);
        let path = format!("memory://out-{}", self.job.job_version);
        self.job.spec.sink = sink(&path).into();
        self.store
            .change_job(self.leadership.term, &self.job)
            .await
            .unwrap();
    }

    /// The location of the version before the last one.
    fn version_location(&self) -> String {
        self.job
            .spec
            .checkpoint
            .join(&self.job.previous.as_ref().unwrap().name)
    }

    fn manifest_location(&self, epoch: usize) -> String {
        self.job
            .spec
            .checkpoint
            .join(&self.epochs[epoch - 1].encode().1.name)
    }

    fn verifier(&self) -> Verifier {
        let replayer = Arc::new(FixedOutcome(self.outcome.clone()));
        Verifier::new(Arc::new(self.store.clone()), self.storages(), replayer)
    }

    async fn run_verify(
        &self,
        request: v1::VerifyRequest,
    ) -> (Vec<v1::VerifyFinding>, v1::VerifySummary) {
        all(self
            .verifier()
            .verify(&v1::VerifyRequest {
                job: "sales".into(),
                ..request
            })
            .await
            .unwrap())
        .await
    }

    /// Findings as kind, epoch and subject; the summary.
    async fn verify(&self) -> (Vec<(Kind, u64, String)>, v1::VerifySummary) {
        let (findings, summary) = self.run_verify(v1::VerifyRequest::default()).await;
        (
            findings
                .into_iter()
                .map(|found| (found.kind(), found.epoch, found.subject))
                .collect(),
            summary,
        )
    }
}

struct FixedOutcome(EpochOutcome);

#[async_trait]
impl Replayer for FixedOutcome {
    async fn replay(&self, _: &ResolvedJob, _: &Manifest, _: &[EpochRepair]) -> EpochOutcome {
        self.0.clone()
    }
    async fn rebuild(&self, _: &ResolvedJob, _: &Manifest, _: RebuildOrder) -> RebuildOutcome {
        unreachable!("a verification stages nothing")
    }
}

async fn all(mut events: Events) -> (Vec<v1::VerifyFinding>, v1::VerifySummary) {
    let mut findings = vec![];
    let mut summary = None;
    while let Some(event) = events.recv().await {
        match event.unwrap().event.unwrap() {
            Event::Progress(progress) => assert!(progress.epochs <= progress.of),
            Event::Finding(finding) => findings.push(finding),
            Event::Summary(last) => summary = Some(last),
        }
    }
    (findings, summary.expect("the summary is the last word"))
}

#[tokio::test]
async fn a_job_as_it_was_left_is_proven() {
    let scene = Scene::new(3).await;
    scene
        .storage
        .put("memory://out/20261124T000000Z-eu-sales-t1.1-0000.json", "x");
    let (found, summary) = scene.verify().await;
    assert_eq!(found, []);
    assert_eq!(
        (
            summary.from,
            summary.to,
            summary.epochs,
            summary.ranges,
            summary.shards
        ),
        (1, 3, 3, 3, 1)
    );
    assert_eq!(
        (summary.objects, summary.bytes, summary.objects_read),
        (3, 27, 3)
    );
    assert_eq!(
        (
            summary.listed,
            summary.foreign_objects,
            summary.counts.unwrap().rows_in
        ),
        (true, 1, 9)
    );
    assert_eq!(
        (summary.faults, summary.unchecked, summary.notes),
        (0, 0, 0)
    );
}

#[tokio::test]
async fn a_repaired_epoch_is_proven_by_what_took_the_place_of_its_objects_and_a_skipped_one_is_named()
 {
    let mut scene = Scene::new(3).await;
    scene.storage.delete(&location(2, 0));
    let mut instead = scene.epochs[1].objects[0].clone();
    instead.staged.location = location(2, 7);
    scene.storage.put(&location(2, 7), TEXT);
    scene.repair(2, vec![instead], 0).await;
    let (found, summary) = scene.verify().await;
    assert_eq!(found, [(Kind::EpochRepaired, 2, String::new())]);
    assert_eq!(
        (
            summary.faults,
            summary.unchecked,
            summary.notes,
            summary.objects
        ),
        (0, 0, 1, 3)
    );

    let mut scene = Scene::new(3).await;
    scene.storage.delete(&location(2, 0));
    scene.repair(2, vec![], ROWS).await;
    let (found, summary) = scene.verify().await;
    assert_eq!(found, [(Kind::EpochSkipped, 2, String::new())]);
    assert_eq!((summary.faults, summary.objects), (1, 2));
    scene.storage.put(&location(2, 0), TEXT);
    let (mut found, _) = scene.verify().await;
    found.sort_by_key(|found| found.1);
    assert_eq!(
        found[0],
        (Kind::ObjectStray, 0, location(2, 0)),
        "what was given up must not be there"
    );
}

#[tokio::test]
async fn a_job_without_an_epoch_is_proven_unless_something_is_there() {
    let scene = Scene::new(0).await;
    let (found, summary) = scene.verify().await;
    assert_eq!((found, summary.epochs, summary.listed), (vec![], 0, true));
    scene.storage.put(&location(1, 0), TEXT);
    assert_eq!(
        scene.verify().await.0,
        [(Kind::ObjectStray, 0, location(1, 0))]
    );
}

#[tokio::test]
async fn an_object_that_is_gone_or_another_is_named() {
    let scene = Scene::new(3).await;
    scene.storage.delete(&location(1, 0));
    scene.storage.put(&location(2, 0), "longer than it was");
    scene.storage.put(&location(3, 0), "{}\n{}\n[]\n");
    let (mut found, summary) = scene.verify().await;
    found.sort_by_key(|found| found.1);
    let expected = [
        (Kind::ObjectMissing, 1),
        (Kind::ObjectSize, 2),
        (Kind::ObjectChecksum, 3),
    ]
    .map(|(k, n)| (k, n, location(n, 0)));
    assert_eq!(found, expected);
    assert_eq!((summary.faults, summary.objects), (3, 2));
}

#[tokio::test]
async fn an_object_that_cannot_be_looked_at_is_not_called_lost() {
    let scene = Scene::new(1).await;
    let location = location(1, 0);
    // The first read is of the manifest, the others are retried until the fourth.
    let (found, summary) = {
        let away = || StorageError::Refused {
            cause: RefusalCause::Environment,
            location: location.clone(),
            reason: "no".into(),
            hint: "yes".into(),
        };
        let read = scene.run_verify(v1::VerifyRequest::default()).await;
        assert_eq!(read.0, []);
        // Of the manifests after the head, of those to read ahead, and of the objects.
        for _ in 0..3 {
            scene.storage.fail_next(Op::List, away(), false);
        }
        scene.verify().await
    };
    assert_eq!(found, [(Kind::NotChecked, 0, "memory://out/".to_owned())]);
    assert_eq!(
        (summary.faults, summary.unchecked, summary.listed),
        (0, 1, false)
    );
}

#[tokio::test]
async fn what_is_visible_under_the_job_s_name_and_in_no_manifest_is_a_stray() {
    let scene = Scene::new(2).await;
    scene.storage.put(&location(2, 1), TEXT);
    let dead = format!(
        "memory://checkpoint/sales/dead-letters/{}-sales-t9.9-0000.json.gz",
        window(1).label()
    );
    scene.storage.put(&dead, "x");
    let (found, summary) = scene.verify().await;
    assert_eq!(
        found,
        [
            (Kind::ObjectStray, 0, location(2, 1)),
            (Kind::ObjectStray, 0, dead)
        ]
    );
    assert_eq!(summary.faults, 2);
}

#[tokio::test]
async fn an_epoch_that_is_not_published_yet_waits() {
    let mut scene = Scene::new(2).await;
    scene.commit().await;
    let (found, summary) = scene.verify().await;
    assert_eq!(found, [(Kind::ObjectWaiting, 3, location(3, 0))]);
    assert_eq!(
        (summary.faults, summary.unchecked, summary.notes),
        (0, 0, 1)
    );
    let (found, _) = scene
        .run_verify(v1::VerifyRequest {
            replay: vec![3],
            ..Default::default()
        })
        .await;
    assert!(
        found
            .iter()
            .any(|found| found.kind() == Kind::NotChecked && found.epoch == 3)
    );
}

#[tokio::test]
async fn a_manifest_that_is_gone_is_named_and_the_others_are_checked_all_the_same() {
    let scene = Scene::new(4).await;
    scene.storage.delete(&scene.manifest_location(3));
    scene.storage.delete(&location(1, 0));
    let (found, summary) = scene.verify().await;
    let kinds: Vec<_> = found
        .iter()
        .map(|(kind, epoch, _)| (*kind, *epoch))
        .collect();
    assert_eq!(
        kinds,
        [
            (Kind::ManifestMissing, 3),
            (Kind::ObjectMissing, 1),
            (Kind::NotChecked, 0)
        ]
    );
    assert_eq!((summary.epochs, summary.listed), (3, false));
}

#[tokio::test]
async fn a_manifest_that_was_changed_or_swapped_is_named() {
    for head in [false, true] {
        let scene = Scene::new(3).await;
        let epoch = if head { 3 } else { 2 };
        let other = serde_json::to_vec(&scene.epochs[0]).unwrap();
        scene.storage.put(&scene.manifest_location(epoch), other);
        let (found, summary) = scene.verify().await;
        let kinds: Vec<_> = found
            .iter()
            .map(|(kind, epoch, _)| (*kind, *epoch))
            .collect();
        assert_eq!(
            kinds,
            [(Kind::ManifestChanged, epoch as u64), (Kind::NotChecked, 0)]
        );
        assert_eq!(summary.epochs, 2);
    }
}

#[tokio::test]
async fn an_unknown_committed_manifest_is_named_as_such() {
    let scene = Scene::new(3).await;
    scene.storage.delete(&scene.manifest_location(3));
    let never_committed = Manifest {
        created_ms: 9,
        ..scene.epochs[1].clone()
    };
    Checkpoints::of(&scene.storages(), &scene.job)
        .write_manifest(&never_committed)
        .await
        .unwrap();
    let (found, summary) = scene.verify().await;
    let kinds: Vec<_> = found
        .iter()
        .map(|(kind, epoch, _)| (*kind, *epoch))
        .collect();
    assert_eq!(
        kinds,
        [
            (Kind::ManifestMissing, 3),
            (Kind::NotChecked, 2),
            (Kind::NotChecked, 0)
        ]
    );
    assert_eq!(summary.epochs, 0);
}

#[tokio::test]
async fn an_object_that_two_manifests_name_is_named() {
    let mut scene = Scene::new(1).await;
    let object = scene.epochs[0].objects[0].clone();
    scene.commit().await;
    let mut twice = scene.epochs.pop().unwrap();
    twice.objects = vec![object];
    let checkpoints = Checkpoints::of(&scene.storages(), &scene.job);
    let reference = checkpoints.write_manifest(&twice).await.unwrap();
    let term = scene.leadership.term;
    let name = &scene.job.spec.name;
    let head = scene.store.load().await.unwrap().remove(0).head;
    scene
        .store
        .commit(term, name, head.as_ref(), &reference)
        .await
        .unwrap();
    assert_eq!(
        scene.verify().await.0,
        [(Kind::ObjectTwice, 1, location(1, 0))]
    );
}

#[tokio::test]
async fn a_range_of_epochs_is_checked_alone_and_without_the_listing() {
    let scene = Scene::new(5).await;
    scene.storage.delete(&location(1, 0));
    scene.storage.delete(&location(5, 0));
    scene.storage.put(&location(9, 9), TEXT);
    let (found, summary) = scene
        .run_verify(v1::VerifyRequest {
            from: 2,
            to: 4,
            ..Default::default()
        })
        .await;
    assert_eq!(found, []);
    assert_eq!(
        (summary.epochs, summary.objects, summary.listed),
        (3, 3, false)
    );
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_it_begins() {
    let scene = Scene::new(3).await;
    let run_verify = async |request: v1::VerifyRequest| {
        scene
            .verifier()
            .verify(&request)
            .await
            .err()
            .unwrap()
            .code()
    };
    let job = || "sales".to_owned();
    use tonic::Code::{InvalidArgument, NotFound};
    assert_eq!(
        run_verify(v1::VerifyRequest {
            job: "other".into(),
            ..Default::default()
        })
        .await,
        NotFound
    );
    assert_eq!(
        run_verify(v1::VerifyRequest {
            job: "../x".into(),
            ..Default::default()
        })
        .await,
        InvalidArgument
    );
    assert_eq!(
        run_verify(v1::VerifyRequest {
            job: job(),
            to: 4,
            ..Default::default()
        })
        .await,
        NotFound
    );
    assert_eq!(
        run_verify(v1::VerifyRequest {
            job: job(),
            from: 3,
            to: 2,
            ..Default::default()
        })
        .await,
        InvalidArgument
    );
    assert_eq!(
        run_verify(v1::VerifyRequest {
            job: job(),
            replay: vec![4],
            ..Default::default()
        })
        .await,
        NotFound
    );
    let missing = v1::VerifyRequest {
        job: job(),
        replay: vec![999],
        ..Default::default()
    };
    let refused = scene.verifier().verify(&missing).await.err().unwrap();
    assert_eq!(
        refused.message(),
        "job sales has no epoch 999\n  hint: epochs 1 to 3 are committed"
    );
    let outside = v1::VerifyRequest {
        job: job(),
        to: 2,
        replay: vec![3],
        ..Default::default()
    };
    assert_eq!(run_verify(outside).await, InvalidArgument);
}

#[tokio::test]
async fn a_verification_ends_with_its_caller_and_a_limited_number_run() {
    let scene = Scene::new(3).await;
    let verifier = scene.verifier();
    let request = v1::VerifyRequest {
        job: "sales".into(),
        ..Default::default()
    };
    let held: Vec<_> = (0..VERIFICATIONS_MAX)
        .map(|_| verifier.permits.clone().try_acquire_owned().unwrap())
        .collect();
    assert_eq!(
        verifier.verify(&request).await.err().unwrap().code(),
        tonic::Code::ResourceExhausted
    );
    drop(held);
    drop(verifier.verify(&request).await.unwrap());
    while verifier.permits.available_permits() < VERIFICATIONS_MAX {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_result_of_a_replay_becomes_a_finding() {
    let mut scene = Scene::new(2).await;
    let replay = || v1::VerifyRequest {
        replay: vec![2],
        ..Default::default()
    };
    let (found, summary) = scene.run_verify(replay()).await;
    assert_eq!(
        (found, summary.replayed, summary.rows_replayed),
        (vec![], 1, ROWS)
    );
    let rows = Comparison {
        replayed: ROWS,
        stored: ROWS,
        only_replayed: 1,
        only_stored: 1,
        at_least: false,
        samples_replayed: vec!["x".into()],
        samples_stored: vec!["y".into()],
    };
    let dead_letters = Comparison {
        replayed: 1,
        only_replayed: 1,
        ..Default::default()
    };
    let ranges = vec!["shard a".to_owned()];
    let outcomes = [
        (
            EpochOutcome::Compared {
                rows,
                dead_letters,
                ranges,
            },
            vec![
                Kind::ReplayRecords,
                Kind::ReplayRows,
                Kind::ReplayDeadLetters,
            ],
            Severity::Fault,
        ),
        (equal(ROWS - 1), vec![Kind::ReplayRows], Severity::Fault),
        (
            EpochOutcome::Gone {
                reason: "too old".into(),
            },
            vec![Kind::ReplayGone],
            Severity::Unchecked,
        ),
        (
            EpochOutcome::Failed {
                reason: "r".into(),
                hint: "h".into(),
            },
            vec![Kind::NotChecked],
            Severity::Unchecked,
        ),
    ];
    for (outcome, kinds, severity) in outcomes {
        scene.outcome = outcome;
        let (found, _) = scene.run_verify(replay()).await;
        assert_eq!(
            found
                .iter()
                .map(v1::VerifyFinding::kind)
                .collect::<Vec<_>>(),
            kinds
        );
        assert!(
            found
                .iter()
                .all(|found| found.severity() == severity && found.epoch == 2),
            "{found:?}"
        );
    }
}

/// Commits and publishes one more epoch while the replay runs.
struct Meanwhile(tokio::sync::Mutex<Scene>);

#[async_trait]
impl Replayer for Meanwhile {
    async fn replay(&self, _: &ResolvedJob, _: &Manifest, _: &[EpochRepair]) -> EpochOutcome {
        let mut scene = self.0.lock().await;
        scene.commit().await;
        scene.publish().await;
        equal(ROWS)
    }
    async fn rebuild(&self, _: &ResolvedJob, _: &Manifest, _: RebuildOrder) -> RebuildOutcome {
        unreachable!("a verification stages nothing")
    }
}

#[tokio::test]
async fn what_is_committed_meanwhile_is_no_stray() {
    let scene = Scene::new(2).await;
    let store = scene.store.clone();
    let storages = scene.storages();
    let replayer = Arc::new(Meanwhile(tokio::sync::Mutex::new(scene)));
    let verifier = Verifier::new(Arc::new(store), storages, replayer);
    let request = v1::VerifyRequest {
        job: "sales".into(),
        replay: vec![1],
        ..Default::default()
    };
    let (found, summary) = all(verifier.verify(&request).await.unwrap()).await;
    assert_eq!((found, summary.to, summary.listed), (vec![], 2, true));
}

#[tokio::test]
async fn more_findings_than_anybody_reads_are_only_counted() {
    let scene = Scene::new(1).await;
    let strays = strays::STRAYS_MAX as u32 + 5;
    (1..=strays).for_each(|number| scene.storage.put(&location(1, number), TEXT));
    scene.storage.delete(&location(1, 0));
    let (found, summary) = scene.verify().await;
    assert_eq!(
        (found.len() as u64, summary.faults),
        (reporter::FINDINGS_MAX, strays::STRAYS_MAX as u64 + 2)
    );
    assert_eq!(summary.findings_unsent, 2);
}

/// Two epochs of each of three versions.
async fn changed_twice() -> Scene {
    let mut scene = Scene::new(2).await;
    for _ in 0..2 {
        scene.change().await;
        for _ in 0..2 {
            scene.commit().await;
            scene.publish().await;
        }
    }
    scene
}

#[tokio::test]
async fn a_job_that_was_changed_is_proven_by_the_versions_that_its_epochs_name() {
    let scene = changed_twice().await;
    let (found, summary) = scene.verify().await;
    assert_eq!(
        (found, summary.epochs, summary.objects, summary.listed),
        (vec![], 6, 6, true)
    );
    // Every version's folder is listed.
    let stray = "memory://out-2/20261124T000000Z-sales-t1.1-0000.json";
    scene.storage.put(stray, "x");
    assert_eq!(
        scene.verify().await.0,
        [(Kind::ObjectStray, 0, stray.to_owned())]
    );
}

#[tokio::test]
async fn an_epoch_that_is_not_what_its_version_makes_is_named() {
    let mut scene = Scene::new(1).await;
    scene.change().await;
    let query = std::mem::replace(&mut scene.job.query_digest, "another".to_owned());
    scene.commit().await;
    scene.publish().await;
    scene.job.query_digest = query;
    assert_eq!(scene.verify().await.0, [(Kind::Query, 2, String::new())]);
}

#[tokio::test]
async fn a_version_that_is_gone_or_another_is_named_once_and_what_hangs_on_it_is_not_called_right()
{
    for changed in [false, true] {
        let scene = changed_twice().await;
        let location = scene.version_location();
        if changed {
            scene.storage.put(&location, "{}")
        } else {
            scene.storage.delete(&location)
        }
        let (found, summary) = scene.verify().await;
        let kinds: Vec<_> = found
            .iter()
            .map(|(kind, epoch, _)| (*kind, *epoch))
            .collect();
        // Version 2 names version 1, which cannot be found without it.
        assert_eq!(
            kinds,
            [
                (Kind::JobVersion, 4),
                (Kind::JobVersion, 2),
                (Kind::NotChecked, 0)
            ],
            "{changed}"
        );
        assert_eq!((summary.epochs, summary.listed), (6, false));
    }
}

#[tokio::test]
async fn a_version_that_comes_back_is_named() {
    let mut scene = changed_twice().await;
    let last = scene.job.clone();
    scene.job = Checkpoints::of(&scene.storages(), &last)
        .version(&last, JobVersion(2))
        .await
        .unwrap();
    scene.commit().await;
    scene.publish().await;
    scene.job = last;
    assert_eq!(
        scene.verify().await.0,
        [(Kind::JobVersion, 7, String::new())]
    );
}
