//! The contract on the local disk, and what only a file system has: links, folders, staged files
//! beside data.

use super::*;
use crate::storage::contract;
use streamctl_proto::report::ObjectKind;

/// A folder of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("streamctl-local-{:016x}", fastrand::u64(..)));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    fn location(&self) -> Location {
        Location::folder(self.0.to_str().unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn the_local_disk_keeps_the_contract() {
    let scratch = Scratch::new();
    contract::contract(&LocalStorage, &scratch.location()).await;
}

#[tokio::test]
async fn a_link_out_of_the_folder_is_not_followed() {
    let scratch = Scratch::new();
    let outside = Scratch::new();
    fs::write(outside.0.join("secret"), b"x").unwrap();
    std::os::unix::fs::symlink(&outside.0, scratch.0.join("folder")).unwrap();
    std::os::unix::fs::symlink(outside.0.join("secret"), scratch.0.join("file")).unwrap();
    assert!(
        LocalStorage
            .list(&scratch.location())
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_link_inside_the_folder_is_a_file_as_in_a_mounted_config_map() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.0.join("..version-1")).unwrap();
    fs::write(scratch.0.join("..version-1/a.csv"), b"x\n").unwrap();
    std::os::unix::fs::symlink("..version-1", scratch.0.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/a.csv", scratch.0.join("a.csv")).unwrap();
    let listed = LocalStorage.list(&scratch.location()).await.unwrap();
    let location = scratch.location().join("a.csv");
    assert_eq!(listed, [LocalStorage.head(&location).await.unwrap()]);
    assert_eq!(listed[0].location, location);
}

#[tokio::test]
async fn a_listing_of_a_file_that_is_no_folder_is_refused() {
    let scratch = Scratch::new();
    fs::write(scratch.0.join("a"), b"x").unwrap();
    let listed = LocalStorage
        .list(&Location::folder(scratch.0.join("a").to_str().unwrap()))
        .await;
    assert!(
        matches!(listed, Err(StorageError::Refused { .. })),
        "{listed:?}"
    );
}

#[tokio::test]
async fn only_a_staged_file_of_the_object_can_be_moved_or_removed() {
    let scratch = Scratch::new();
    let other = scratch.0.join("other.json");
    fs::write(&other, b"x").unwrap();
    let object = StagedObject {
        kind: ObjectKind::Data,
        location: scratch.location().join("a.json"),
        size: 1,
        crc32c: crc32c::crc32c(b"x"),
        rows: 1,
        table_file: None,
        staging: Staging::File {
            staged_path: other.to_str().unwrap().into(),
        },
    };
    assert!(matches!(
        LocalStorage.publish(&object).await,
        Err(StorageError::Refused { .. })
    ));
    assert!(matches!(
        LocalStorage.abandon(&object).await,
        Err(StorageError::Refused { .. })
    ));
    assert!(other.exists());
}

#[tokio::test]
async fn a_relative_path_is_refused() {
    for location in ["out/a", "/out/../a"] {
        assert!(
            matches!(
                LocalStorage.head(location).await,
                Err(StorageError::Refused { .. })
            ),
            "{location}"
        );
    }
}

#[tokio::test]
async fn a_file_where_a_folder_is_wanted_is_refused_with_a_hint() {
    let scratch = Scratch::new();
    fs::write(scratch.0.join("a"), b"x").unwrap();
    let staged = LocalStorage
        .stage(&scratch.location().join("a/b.json"))
        .await;
    assert!(matches!(staged.err(), Some(StorageError::Refused { .. })));
}

#[tokio::test]
async fn no_reader_s_pattern_takes_a_staged_file() {
    let scratch = Scratch::new();
    let mut writer = LocalStorage
        .stage(&scratch.location().join("day=24/a.parquet"))
        .await
        .unwrap();
    writer.write(Bytes::from_static(b"rows")).await.unwrap();
    let object = writer.finish(ObjectKind::Data, 1).await.unwrap();
    let Staging::File { staged_path } = &object.staging else {
        panic!("{object:?}")
    };
    let staged = Path::new(staged_path);
    assert_eq!(
        staged.parent(),
        Path::new(&object.location).parent(),
        "a rename stays in its folder"
    );
    assert!(file_name(staged).starts_with('.') && staged.extension().unwrap() == "staged");
    LocalStorage.publish(&object).await.unwrap();
    let left: Vec<_> = fs::read_dir(scratch.0.join("day=24"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(
        left,
        [scratch.0.join("day=24/a.parquet")],
        "nothing is left beside it"
    );
}

#[tokio::test]
async fn a_writer_that_is_dropped_or_aborted_leaves_nothing() {
    let scratch = Scratch::new();
    for aborted in [false, true] {
        let mut writer = LocalStorage
            .stage(&scratch.location().join("a.parquet"))
            .await
            .unwrap();
        writer.write(Bytes::from_static(b"rows")).await.unwrap();
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1);
        if aborted {
            writer.abort().await
        } else {
            drop(writer)
        }
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_file_that_the_disk_begins_with_early_is_all_there() {
    let scratch = Scratch::new();
    let location = scratch.location().join("large.bin");
    let mut writer = LocalStorage.stage(&location).await.unwrap();
    let chunks: Vec<Bytes> = (0..=u8::MAX)
        .map(|n| Bytes::from(vec![n; 100_000]))
        .collect();
    for chunk in &chunks {
        writer.write(chunk.clone()).await.unwrap();
    }
    let object = writer.finish(ObjectKind::Data, 1).await.unwrap();
    LocalStorage.publish(&object).await.unwrap();
    assert_eq!(
        LocalStorage.get(&location, 1 << 30).await.unwrap(),
        chunks.concat()
    );
    assert_eq!(
        LocalStorage
            .inspect(&location, Look::AtContent)
            .await
            .unwrap()
            .crc32c,
        Some(object.crc32c)
    );
}

#[tokio::test]
async fn a_put_leaves_nothing_beside_its_object() {
    let scratch = Scratch::new();
    let location = scratch.location().join("a.json");
    for _ in 0..2 {
        LocalStorage
            .put_new(&location, Bytes::from_static(b"{}"))
            .await
            .unwrap();
    }
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1);
}

#[tokio::test]
async fn a_staged_file_that_lost_bytes_is_a_loss() {
    let scratch = Scratch::new();
    let mut writer = LocalStorage
        .stage(&scratch.location().join("a.json"))
        .await
        .unwrap();
    writer.write(Bytes::from_static(b"rows")).await.unwrap();
    let object = writer.finish(ObjectKind::Data, 1).await.unwrap();
    let Staging::File { staged_path } = &object.staging else {
        panic!("{object:?}")
    };
    fs::write(staged_path, b"row").unwrap();
    assert!(matches!(
        LocalStorage.publish(&object).await,
        Err(StorageError::StagedLost { .. })
    ));
    assert!(
        LocalStorage
            .list(&scratch.location())
            .await
            .unwrap()
            .is_empty()
    );
}
