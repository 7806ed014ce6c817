//! Checkpoints in a storage in memory.

use super::*;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Mutex;
use streamctl_engine::storage::{ObjectInfo, StagedWriter};
use streamctl_proto::manifest::ManifestObject;
use streamctl_proto::report::{ObjectKind, StageTimes, Staging};
use streamctl_proto::staged_name::Orphans;
use streamctl_proto::{Counts, StagedObject, TaskId, Term, Window};

/// Objects in a map.
#[derive(Debug, Default)]
struct Fake {
    objects: Mutex<BTreeMap<String, Bytes>>,
}

#[async_trait]
impl Storage for Fake {
    async fn get(&self, location: &str, _limit: u64) -> Result<Bytes, StorageError> {
        let found = self.objects.lock().unwrap().get(location).cloned();
        found.ok_or_else(|| StorageError::NotFound {
            location: location.to_owned(),
        })
    }
    async fn head(&self, _location: &str) -> Result<ObjectInfo, StorageError> {
        unreachable!()
    }
    async fn put_new(&self, location: &str, bytes: Bytes) -> Result<PutOutcome, StorageError> {
        let mut objects = self.objects.lock().unwrap();
        if objects.contains_key(location) {
            return Ok(PutOutcome::Exists);
        }
        objects.insert(location.to_owned(), bytes);
        Ok(PutOutcome::Created)
    }
    async fn list(&self, folder: &Location) -> Result<Vec<ObjectInfo>, StorageError> {
        let objects = self.objects.lock().unwrap();
        let below = objects
            .iter()
            .filter(|(location, _)| location.starts_with(folder.as_str()));
        let info = |(location, bytes): (&String, &Bytes)| ObjectInfo {
            location: location.clone(),
            size: bytes.len() as u64,
            etag: String::new(),
        };
        Ok(below.map(info).collect())
    }
    async fn stage(&self, _location: &str) -> Result<Box<dyn StagedWriter>, StorageError> {
        unreachable!()
    }
    async fn publish(&self, _object: &StagedObject) -> Result<(), StorageError> {
        unreachable!()
    }
    async fn abandon(&self, _object: &StagedObject) -> Result<(), StorageError> {
        unreachable!()
    }
    async fn sweep(&self, _folder: &Location, _orphans: &Orphans) -> Result<usize, StorageError> {
        unreachable!()
    }
}

fn object(location: String) -> ManifestObject {
    let staging = Staging::File {
        staged_path: format!("{location}.staged"),
    };
    let staged = StagedObject {
        kind: ObjectKind::Data,
        location,
        size: 1,
        crc32c: 1,
        rows: 1,
        table_file: None,
        staging,
    };
    ManifestObject {
        task: TaskId {
            term: Term(1),
            counter: 1,
        },
        staged,
    }
}

fn manifest(epoch: u64, previous: Option<ManifestRef>, objects: usize) -> Manifest {
    Manifest {
        version: 1,
        job: "j".parse().unwrap(),
        epoch: Epoch(epoch),
        window: Window {
            start_ms: 0,
            end_ms: 60_000,
        },
        term: Term(1),
        created_ms: 0,
        previous,
        made_by: None,
        stream: None,
        query_digest: "q".into(),
        function_code: None,
        lookups: BTreeMap::new(),
        parts: vec![],
        frontier: BTreeMap::new(),
        objects: (0..objects)
            .map(|n| object(format!("/out/{epoch}-{n}")))
            .collect(),
        counts: Counts::default(),
        totals: Counts::default(),
        unmatched: vec![],
        null_values: vec![],
        unknown_keys: vec![],
        stages: StageTimes::default(),
        repair: None,
    }
}

fn checkpoints(fake: &Arc<Fake>) -> Checkpoints {
    Checkpoints::new(fake.clone(), Location::folder("/cp"), "j".parse().unwrap())
}

#[tokio::test]
async fn a_manifest_written_twice_is_one_and_is_read_as_it_was_written() {
    let fake = Arc::new(Fake::default());
    let checkpoints = checkpoints(&fake);
    let first = manifest(1, None, 2);
    let reference = checkpoints.write_manifest(&first).await.unwrap();
    assert_eq!(checkpoints.write_manifest(&first).await.unwrap(), reference);
    assert_eq!(checkpoints.read_manifest(&reference).await.unwrap(), first);
    assert_eq!(
        checkpoints.list_epochs().await.unwrap(),
        [format!("/cp/{}", reference.name)]
    );
}

#[tokio::test]
async fn a_manifest_that_could_not_be_read_again_is_not_written() {
    let fake = Arc::new(Fake::default());
    let checkpoints = checkpoints(&fake);
    let each = serde_json::to_vec(&manifest(1, None, 1).objects[0])
        .unwrap()
        .len();
    let objects = usize::try_from(MANIFEST_BYTES_MAX).unwrap() / each + 1;
    let large = manifest(1, None, objects);
    let refused = checkpoints.write_manifest(&large).await.unwrap_err();
    assert!(
        matches!(
            refused,
            CheckpointError::TooLarge {
                epoch: Epoch(1),
                ..
            }
        ),
        "{refused:?}"
    );
    assert!(
        refused.to_string().contains(&format!("{objects} objects")),
        "{refused}"
    );
    assert!(fake.objects.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_changed_manifest_is_refused_when_written_over_and_when_read() {
    let fake = Arc::new(Fake::default());
    let checkpoints = checkpoints(&fake);
    let first = manifest(1, None, 2);
    let reference = checkpoints.write_manifest(&first).await.unwrap();
    fake.objects
        .lock()
        .unwrap()
        .insert(format!("/cp/{}", reference.name), Bytes::from_static(b"{}"));
    let again = checkpoints.write_manifest(&first).await;
    assert!(
        matches!(again, Err(CheckpointError::Differs { .. })),
        "{again:?}"
    );
    let read = checkpoints.read_manifest(&reference).await;
    assert!(
        matches!(read, Err(CheckpointError::Manifest { .. })),
        "{read:?}"
    );
}

#[tokio::test]
async fn reading_back_gives_what_is_not_published_oldest_first() {
    let fake = Arc::new(Fake::default());
    let checkpoints = checkpoints(&fake);
    let mut head = None;
    for epoch in 1..=5 {
        head = Some(
            checkpoints
                .write_manifest(&manifest(epoch, head, 1))
                .await
                .unwrap(),
        );
    }
    let head = head.unwrap();
    for (published, expected) in [(0, vec![1, 2, 3, 4, 5]), (3, vec![4, 5]), (5, vec![])] {
        let found = checkpoints
            .read_back(&head, Epoch(published))
            .await
            .unwrap();
        let epochs: Vec<_> = found.iter().map(|manifest| manifest.epoch.0).collect();
        assert_eq!(epochs, expected, "published up to {published}");
    }
}

#[tokio::test]
async fn manifests_of_an_epoch_are_found_by_their_names_and_only_as_they_were_written() {
    let fake = Arc::new(Fake::default());
    let checkpoints = checkpoints(&fake);
    let one = checkpoints
        .write_manifest(&manifest(2, None, 1))
        .await
        .unwrap();
    let other = checkpoints
        .write_manifest(&manifest(2, None, 2))
        .await
        .unwrap();
    checkpoints
        .write_manifest(&manifest(20, None, 1))
        .await
        .unwrap();
    let mut found = checkpoints.candidates(Epoch(2)).await.unwrap();
    found.sort_by_key(|reference| reference.digest != one.digest);
    assert_eq!(found, [one, other.clone()]);
    fake.objects
        .lock()
        .unwrap()
        .insert(format!("/cp/{}", other.name), Bytes::from_static(b"{}"));
    assert_eq!(checkpoints.candidates(Epoch(2)).await.unwrap().len(), 1);
    assert_eq!(checkpoints.candidates(Epoch(7)).await.unwrap(), []);
}

#[tokio::test]
async fn a_chain_with_a_gap_is_broken() {
    let fake = Arc::new(Fake::default());
    let checkpoints = checkpoints(&fake);
    let first = checkpoints
        .write_manifest(&manifest(1, None, 1))
        .await
        .unwrap();
    let third = checkpoints
        .write_manifest(&manifest(3, Some(first), 1))
        .await
        .unwrap();
    let found = checkpoints.read_back(&third, Epoch(0)).await;
    assert!(
        matches!(
            found,
            Err(CheckpointError::Broken {
                epoch: Epoch(3),
                ..
            })
        ),
        "{found:?}"
    );
}

#[tokio::test]
async fn every_earlier_version_is_found_from_the_last_one_and_one_that_was_changed_is_not_taken() {
    let fake = Arc::new(Fake::default());
    let first = crate::store::contract::job("sales");
    let checkpoints = Checkpoints::new(
        Arc::clone(&fake) as Arc<dyn Storage>,
        Location::folder("memory://c"),
        first.spec.name.clone(),
    );
    let mut versions = vec![first];
    for number in 2..=4_u64 {
        let before = versions.last().unwrap();
        let previous = Some(checkpoints.write_version(before).await.unwrap());
        // Writing it again, as after a lost answer, gives the same reference.
        assert_eq!(
            Some(checkpoints.write_version(before).await.unwrap()),
            previous
        );
        versions.push(ResolvedJob {
            job_version: JobVersion(number),
            previous,
            ..before.clone()
        });
    }
    let last = versions.last().unwrap().clone();
    for version in &versions {
        assert_eq!(
            checkpoints
                .version(&last, version.job_version)
                .await
                .unwrap(),
            *version
        );
    }
    for unknown in [0, 5] {
        let missing = checkpoints.version(&last, JobVersion(unknown)).await;
        assert!(
            matches!(missing, Err(CheckpointError::NoVersion { .. })),
            "{unknown}: {missing:?}"
        );
    }
    let second = format!("memory://c/{}", versions[2].previous.as_ref().unwrap().name);
    fake.objects
        .lock()
        .unwrap()
        .insert(second, Bytes::from_static(b"{}"));
    let changed = checkpoints.version(&last, JobVersion(1)).await;
    assert!(
        matches!(changed, Err(CheckpointError::Version { .. })),
        "{changed:?}"
    );
    assert!(checkpoints.version(&last, JobVersion(3)).await.is_ok());
}
