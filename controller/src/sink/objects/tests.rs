//! Publishing against a storage that fails on demand.

use super::*;
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use streamctl_engine::storage::{ObjectInfo, PutOutcome, StagedWriter};
use streamctl_proto::report::{ObjectKind, Staging};
use streamctl_proto::spec::Location;
use streamctl_proto::staged_name::Orphans;

/// Publishing fails `failures` times; records how many ran at once.
#[derive(Debug, Default)]
struct Fake {
    failures: Mutex<BTreeMap<String, u32>>,
    lost: BTreeSet<String>,
    running: Mutex<(usize, usize)>,
    published: Mutex<Vec<String>>,
}

#[async_trait]
impl Storage for Fake {
    async fn get(&self, _location: &str, _limit: u64) -> Result<Bytes, StorageError> {
        unreachable!()
    }
    async fn head(&self, _location: &str) -> Result<ObjectInfo, StorageError> {
        unreachable!()
    }
    async fn put_new(&self, _location: &str, _bytes: Bytes) -> Result<PutOutcome, StorageError> {
        unreachable!()
    }
    async fn list(&self, _folder: &Location) -> Result<Vec<ObjectInfo>, StorageError> {
        unreachable!()
    }
    async fn stage(&self, _location: &str) -> Result<Box<dyn StagedWriter>, StorageError> {
        unreachable!()
    }
    async fn publish(&self, object: &StagedObject) -> Result<(), StorageError> {
        let location = object.location.clone();
        if self.lost.contains(&location) {
            return Err(StorageError::StagedLost { location });
        }
        {
            let mut running = self.running.lock().unwrap();
            running.0 += 1;
            running.1 = running.1.max(running.0);
        }
        tokio::task::yield_now().await;
        self.running.lock().unwrap().0 -= 1;
        if let Some(left) = self
            .failures
            .lock()
            .unwrap()
            .get_mut(&location)
            .filter(|left| **left > 0)
        {
            *left -= 1;
            return Err(StorageError::Unavailable {
                location,
                reason: "slow down".into(),
            });
        }
        self.published.lock().unwrap().push(location);
        Ok(())
    }
    async fn abandon(&self, _object: &StagedObject) -> Result<(), StorageError> {
        unreachable!()
    }
    async fn sweep(&self, _folder: &Location, _orphans: &Orphans) -> Result<usize, StorageError> {
        unreachable!()
    }
}

fn object(location: String) -> StagedObject {
    let staging = Staging::File {
        staged_path: format!("{location}.staged"),
    };
    StagedObject {
        kind: ObjectKind::Data,
        location,
        size: 1,
        crc32c: 1,
        rows: 1,
        table_file: None,
        staging,
    }
}

/// Publishes so many objects of epoch 1.
async fn published(fake: Fake, objects: usize) -> (Arc<Fake>, Result<(), PublishError>) {
    let fake = Arc::new(fake);
    let pair = |n: usize| {
        (
            fake.clone() as Arc<dyn Storage>,
            object(format!("/out/1-{n}")),
        )
    };
    let pairs = (0..objects).map(pair).collect();
    let result = publish_all(pairs, &"j".parse().unwrap(), Epoch(1)).await;
    (fake, result)
}

#[tokio::test]
async fn all_objects_are_published_a_bounded_number_at_a_time() {
    let (fake, result) = published(Fake::default(), 100).await;
    result.unwrap();
    assert_eq!(fake.published.lock().unwrap().len(), 100);
    assert_eq!(fake.running.lock().unwrap().1, PUBLISH_PARALLEL_MAX);
}

#[tokio::test]
async fn an_object_whose_storage_is_unavailable_once_is_published_in_the_end() {
    let failures = Mutex::new(BTreeMap::from([("/out/1-1".to_owned(), 1)]));
    let (fake, result) = published(
        Fake {
            failures,
            ..Fake::default()
        },
        3,
    )
    .await;
    result.unwrap();
    assert_eq!(fake.published.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_storage_that_stays_unavailable_is_left_for_later_after_a_limit() {
    let failures = Mutex::new(BTreeMap::from([("/out/1-0".to_owned(), 1000)]));
    let (fake, result) = published(
        Fake {
            failures,
            ..Fake::default()
        },
        1,
    )
    .await;
    assert!(
        matches!(
            result,
            Err(PublishError::Later {
                epoch: Epoch(1),
                ..
            })
        ),
        "{result:?}"
    );
    assert_eq!(
        fake.failures.lock().unwrap()["/out/1-0"],
        1000 - PUBLISH_ATTEMPTS_MAX
    );
}

#[tokio::test]
async fn lost_objects_are_named_and_all_others_are_published() {
    let lost = BTreeSet::from(["/out/1-2".to_owned(), "/out/1-40".to_owned()]);
    let (fake, result) = published(
        Fake {
            lost,
            ..Fake::default()
        },
        50,
    )
    .await;
    let Err(error @ PublishError::Lost { .. }) = result else {
        panic!("{result:?}")
    };
    let text = streamctl_proto::describe(&error);
    assert!(
        text.contains("2 objects lost") && text.contains("/out/1-2"),
        "{text}"
    );
    assert!(
        error.hint().unwrap().contains("streamctl repair j"),
        "{error:?}"
    );
    assert_eq!(fake.published.lock().unwrap().len(), 48);
}
