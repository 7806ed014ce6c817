//! The contract of every storage, as a test that accepts any implementation.
//!
//! Owns: the promises of [`Storage`].
//! Rule: it runs against the fake, the local disk and a real S3 server alike, and panics with the
//! broken promise; it is not part of the running system.

use super::{Inspected, Look, PutOutcome, Storage, StorageError};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::join_all;
use std::collections::BTreeSet;
use streamctl_proto::report::{ObjectKind, StagedObject};
use streamctl_proto::spec::Location;
use streamctl_proto::staged_name::Orphans;
use streamctl_proto::{TaskId, Term};

/// Larger than one part of an upload, and no multiple of it.
const LARGE_BYTES: usize = 20 * 1024 * 1024 + 7;
/// How many callers race for one name.
const RACERS: u8 = 8;

/// Panics where `storage` breaks a promise. `root` must be an empty folder.
pub async fn contract(storage: &dyn Storage, root: &Location) {
    a_staged_object_is_invisible_until_it_is_published(storage, &below(root, "visible")).await;
    publishing_again_changes_nothing(storage, &below(root, "again")).await;
    another_content_under_the_name_is_a_loss(storage, &below(root, "loss")).await;
    the_first_put_wins(storage, &below(root, "put")).await;
    one_of_many_racing_puts_wins(storage, &below(root, "race")).await;
    a_listing_is_whole_and_in_order(storage, &below(root, "list")).await;
    strange_names_work(storage, &below(root, "names")).await;
    large_and_empty_objects_work(storage, &below(root, "sizes")).await;
    a_part_of_an_object_is_read(storage, &below(root, "part")).await;
    what_is_missing_is_named(storage, &below(root, "absent")).await;
    an_abandoned_object_never_becomes_visible(storage, &below(root, "abandon")).await;
    a_sweep_takes_only_the_orphans_of_its_job(storage, &below(root, "sweep")).await;
    a_deleted_object_is_gone(storage, &below(root, "delete")).await;
}

fn below(root: &Location, name: &str) -> Location {
    Location::folder(&root.join(name))
}

async fn stage(storage: &dyn Storage, location: &str, content: &[u8]) -> StagedObject {
    let mut writer = storage
        .stage(location)
        .await
        .expect("an object can be staged");
    for chunk in content.chunks(3_000_000) {
        writer
            .write(Bytes::copy_from_slice(chunk))
            .await
            .expect("a staged object takes bytes");
    }
    let object = writer
        .finish(ObjectKind::Data, 3)
        .await
        .expect("a staged object can be finished");
    assert_eq!(object.location, location);
    assert_eq!(
        object.size,
        content.len() as u64,
        "the size is that of the content"
    );
    assert_eq!(
        object.crc32c,
        crc32c::crc32c(content),
        "the checksum is that of the content"
    );
    assert_eq!(object.rows, 3);
    object
}

async fn names(storage: &dyn Storage, folder: &Location) -> Vec<String> {
    let listed = storage.list(folder).await.expect("a folder can be listed");
    listed.into_iter().map(|object| object.location).collect()
}

async fn a_staged_object_is_invisible_until_it_is_published(
    storage: &dyn Storage,
    root: &Location,
) {
    let location = root.join("day=24/20261124T012600Z-sales-t1.1-0.json");
    let object = stage(storage, &location, b"{}\n").await;
    assert!(
        names(storage, root).await.is_empty(),
        "a staged object is not listed"
    );
    assert!(
        matches!(
            storage.head(&location).await,
            Err(StorageError::NotFound { .. })
        ),
        "a staged object has no size"
    );
    storage
        .publish(&object)
        .await
        .expect("a staged object can be published");
    assert_eq!(names(storage, root).await, std::slice::from_ref(&location));
    assert_eq!(
        storage.get(&location, 3).await.expect("it can be read"),
        "{}\n"
    );
}

async fn publishing_again_changes_nothing(storage: &dyn Storage, root: &Location) {
    let object = stage(storage, &root.join("a.json"), b"first").await;
    storage.publish(&object).await.expect("the first time");
    let before = storage.head(&object.location).await.expect("it is there");
    for _ in 0..2 {
        storage.publish(&object).await.expect("the same again");
    }
    assert_eq!(
        storage
            .head(&object.location)
            .await
            .expect("it is still there"),
        before
    );
    assert_eq!(
        storage
            .get(&object.location, 5)
            .await
            .expect("it can be read"),
        "first"
    );
    assert_eq!(names(storage, root).await.len(), 1);
}

async fn another_content_under_the_name_is_a_loss(storage: &dyn Storage, root: &Location) {
    let object = stage(storage, &root.join("a.json"), b"first").await;
    storage.publish(&object).await.expect("the first time");
    let longer = StagedObject {
        size: object.size + 1,
        ..object.clone()
    };
    assert!(
        matches!(
            storage.publish(&longer).await,
            Err(StorageError::StagedLost { .. })
        ),
        "another size is a loss"
    );
    let other = StagedObject {
        crc32c: object.crc32c ^ 1,
        ..object.clone()
    };
    assert!(
        matches!(
            storage.publish(&other).await,
            Err(StorageError::StagedLost { .. })
        ),
        "another content is a loss"
    );
    let gone = stage(storage, &root.join("b.json"), b"second").await;
    storage.abandon(&gone).await.expect("it can be thrown away");
    assert!(
        matches!(
            storage.publish(&gone).await,
            Err(StorageError::StagedLost { .. })
        ),
        "nothing there is a loss"
    );
}

async fn the_first_put_wins(storage: &dyn Storage, root: &Location) {
    let location = root.join("epochs/1.json");
    let first = storage
        .put_new(&location, Bytes::from_static(b"one"))
        .await
        .expect("a new object");
    let second = storage
        .put_new(&location, Bytes::from_static(b"two"))
        .await
        .expect("an answer, no error");
    assert_eq!((first, second), (PutOutcome::Created, PutOutcome::Exists));
    assert_eq!(
        storage.get(&location, 3).await.expect("it can be read"),
        "one"
    );
}

async fn one_of_many_racing_puts_wins(storage: &dyn Storage, root: &Location) {
    let location = root.join("one");
    let puts =
        (0..RACERS).map(|racer| storage.put_new(&location, Bytes::copy_from_slice(&[racer])));
    let outcomes = join_all(puts).await;
    let winners: Vec<usize> = (0..outcomes.len())
        .filter(|at| matches!(outcomes[*at], Ok(PutOutcome::Created)))
        .collect();
    assert_eq!(winners.len(), 1, "exactly one wins: {outcomes:?}");
    assert!(
        outcomes.iter().all(Result::is_ok),
        "the others are told so: {outcomes:?}"
    );
    let content = storage.get(&location, 1).await.expect("it can be read");
    assert_eq!(
        usize::from(content[0]),
        winners[0],
        "the winner's content stays"
    );
}

async fn a_listing_is_whole_and_in_order(storage: &dyn Storage, root: &Location) {
    assert!(
        names(storage, root).await.is_empty(),
        "a folder that is not there is empty"
    );
    let mut expected: Vec<String> = (0..40)
        .map(|n| root.join(&format!("f{}/x{n:03}", n % 3)))
        .collect();
    for location in &expected {
        storage
            .put_new(location, Bytes::from_static(b"x"))
            .await
            .expect("a new object");
    }
    expected.sort();
    assert_eq!(names(storage, root).await, expected);
    let mut paged = Vec::new();
    let mut pages = storage.pages(root);
    while let Some(page) = pages.next().await {
        paged.extend(
            page.expect("a folder can be listed page by page")
                .into_iter()
                .map(|object| object.location),
        );
    }
    paged.sort();
    assert_eq!(paged, expected, "the pages together are the listing");
    let after = storage
        .list_after(root, &expected[30])
        .await
        .expect("the rest of a folder can be listed");
    let after: Vec<String> = after.into_iter().map(|object| object.location).collect();
    assert_eq!(after, expected[31..], "what comes after a name");
    let inner = names(storage, &below(root, "f1")).await;
    assert_eq!(inner.len(), 13, "a folder's listing has what is below it");
    let listed = storage.list(root).await.expect("a folder can be listed");
    let head = storage.head(&expected[7]).await.expect("it is there");
    assert!(listed.contains(&head), "listing and head agree");
}

async fn strange_names_work(storage: &dyn Storage, root: &Location) {
    let mut expected = Vec::new();
    for name in [
        "k=v/a.json",
        "with blank.json",
        "a+b.json",
        "100%.json",
        "%2F.json",
        "é.json",
        "a&b=c?d#e.json",
    ] {
        let location = root.join(name);
        let object = stage(storage, &location, name.as_bytes()).await;
        storage
            .publish(&object)
            .await
            .expect("a strange name can be published");
        storage.publish(&object).await.expect("and again");
        let content = storage.get(&location, 100).await.expect("and read");
        assert_eq!(content, name.as_bytes(), "{name}");
        expected.push(location);
    }
    expected.sort();
    assert_eq!(names(storage, root).await, expected);
}

async fn large_and_empty_objects_work(storage: &dyn Storage, root: &Location) {
    let large: Vec<u8> = (0..LARGE_BYTES).map(|at| (at % 251) as u8).collect();
    for (name, content) in [("large", large.as_slice()), ("empty", b"")] {
        let object = stage(storage, &root.join(name), content).await;
        storage
            .publish(&object)
            .await
            .expect("any size can be published");
        storage.publish(&object).await.expect("and again");
        let read = storage
            .get(&object.location, content.len() as u64)
            .await
            .expect("and read");
        assert!(read == content, "{name}: what is read is what was written");
        let inspected = storage
            .inspect(&object.location, Look::AtContent)
            .await
            .expect("and inspected");
        let expected = Inspected {
            size: object.size,
            crc32c: Some(object.crc32c),
            read: true,
        };
        assert_eq!(
            inspected, expected,
            "{name}: its content has size and checksum of what was staged"
        );
        let inspected = storage
            .inspect(&object.location, Look::Cheaply)
            .await
            .expect("and inspected");
        assert_eq!(
            inspected.size, object.size,
            "{name}: a cheap look sees the size"
        );
    }
    let limit = LARGE_BYTES as u64 - 1;
    let refused = storage.get(&root.join("large"), limit).await;
    assert!(
        matches!(refused, Err(StorageError::TooLarge { size, limit: at, .. }) if size == limit + 1 && at == limit),
        "an object above the limit is refused with both figures"
    );
}

async fn a_part_of_an_object_is_read(storage: &dyn Storage, root: &Location) {
    let object = stage(storage, &root.join("a"), b"0123456789").await;
    let location = &object.location;
    storage.publish(&object).await.expect("it can be published");
    for (start, length, part) in [(0, 10, "0123456789"), (3, 4, "3456"), (9, 1, "9")] {
        let read = storage.get_range(location, start, length).await;
        assert_eq!(read.expect("a part is read"), part);
    }
    for (start, length) in [(8, 3), (10, 1)] {
        let beyond = storage.get_range(location, start, length).await;
        assert!(beyond.is_err(), "{start} and {length}: {beyond:?}");
    }
    let missing = storage.get_range(&root.join("b"), 0, 1).await;
    assert!(matches!(missing, Err(StorageError::NotFound { .. })));
}

async fn what_is_missing_is_named(storage: &dyn Storage, root: &Location) {
    let location = root.join("nothing/here");
    assert!(matches!(
        storage.get(&location, 10).await,
        Err(StorageError::NotFound { .. })
    ));
    assert!(matches!(
        storage.head(&location).await,
        Err(StorageError::NotFound { .. })
    ));
    for look in [Look::Cheaply, Look::AtContent] {
        assert!(matches!(
            storage.inspect(&location, look).await,
            Err(StorageError::NotFound { .. })
        ));
    }
}

async fn a_deleted_object_is_gone(storage: &dyn Storage, root: &Location) {
    let location = root.join("a");
    let bytes = Bytes::from_static(b"a");
    let put = storage.put_new(&location, bytes.clone()).await;
    assert_eq!(put.expect("a put"), PutOutcome::Created);
    storage.delete(&location).await.expect("it can be deleted");
    assert!(matches!(
        storage.head(&location).await,
        Err(StorageError::NotFound { .. })
    ));
    storage.delete(&location).await.expect("twice");
    let put = storage.put_new(&location, bytes).await;
    assert_eq!(put.expect("a put"), PutOutcome::Created);
}

async fn an_abandoned_object_never_becomes_visible(storage: &dyn Storage, root: &Location) {
    let object = stage(storage, &root.join("a"), b"a").await;
    storage
        .abandon(&object)
        .await
        .expect("it can be thrown away");
    storage.abandon(&object).await.expect("twice");
    let mut writer = storage
        .stage(&root.join("b"))
        .await
        .expect("an object can be staged");
    writer
        .write(Bytes::from_static(b"b"))
        .await
        .expect("a staged object takes bytes");
    writer.abort().await;
    assert!(names(storage, root).await.is_empty());
    let published = stage(storage, &root.join("c"), b"c").await;
    storage
        .publish(&published)
        .await
        .expect("it can be published");
    storage
        .abandon(&published)
        .await
        .expect("throwing away what is published is no error");
    assert_eq!(
        storage
            .get(&published.location, 1)
            .await
            .expect("and leaves it"),
        "c"
    );
}

async fn a_sweep_takes_only_the_orphans_of_its_job(storage: &dyn Storage, root: &Location) {
    let named = |start: &str, task: &str, n: u32| {
        root.join(&format!("day=24/{start}-sales-{task}-{n}.json"))
    };
    let closed = "20261124T012600Z";
    let orphan = stage(storage, &named(closed, "t1.1", 0), b"0").await;
    let committed = stage(storage, &named(closed, "t1.1", 1), b"1").await;
    let open = stage(storage, &named("20261124T012700Z", "t1.1", 0), b"2").await;
    let later = stage(storage, &named(closed, "t2.7", 0), b"3").await;
    let other_job = stage(
        storage,
        &root.join("20261124T012600Z-eu-sales-t1.1-0.json"),
        b"4",
    )
    .await;
    let published = stage(storage, &named(closed, "t1.1", 2), b"5").await;
    storage
        .publish(&published)
        .await
        .expect("it can be published");
    let orphans = Orphans {
        job: "sales".parse().expect("a name"),
        windows_before_ms: Some(1_795_483_620_000),
        tasks_before: TaskId {
            term: Term(2),
            counter: 7,
        },
        terms_before: None,
        keep: [committed.location.clone()].into(),
        live: BTreeSet::new(),
    };
    assert_eq!(
        storage.sweep(root, &orphans).await.expect("a sweep"),
        1,
        "one orphan goes"
    );
    assert!(matches!(
        storage.publish(&orphan).await,
        Err(StorageError::StagedLost { .. })
    ));
    for kept in [&committed, &open, &later, &other_job] {
        storage
            .publish(kept)
            .await
            .expect("what a sweep kept can be published");
    }
    let missing = below(root, "never-made");
    assert_eq!(storage.sweep(&missing, &orphans).await.expect("a sweep"), 0);
}
