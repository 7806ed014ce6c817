//! The files of a source: those below its folder now that are data ([`is_data`]).

use super::shard::FileShard;
use crate::source::{ListError, ListedShard};
use crate::storage::{ObjectInfo, StorageError, Storages, is_data};
use streamctl_proto::spec::Location;
use streamctl_proto::{DeadLetterShard, ShardId, names};

pub(super) async fn files(
    storages: &Storages,
    folder: &Location,
) -> Result<Vec<ListedShard>, ListError> {
    let objects = storages
        .for_location(folder.as_str())
        .list(folder)
        .await
        .map_err(of_storage)?;
    let shard = |file: FileShard| {
        let name = file
            .location
            .strip_prefix(folder.as_str())
            .unwrap_or(&file.location);
        ListedShard {
            id: ShardId::new(name),
            parents: Vec::new(),
            detail: file.to_detail(),
            closed: true,
        }
    };
    let is_read = |info: &ObjectInfo| {
        let name = info.location.strip_prefix(folder.as_str());
        is_data(name.unwrap_or(&info.location), info.size)
    };
    let files = objects.into_iter().filter(is_read);
    let shards: Vec<ListedShard> = files.map(FileShard::from).map(shard).collect();
    shards.iter().try_for_each(check_file_name)?;
    Ok(shards)
}

/// A file's name is its shard's name. A name that is invalid or already used by another shard is
/// refused before anything is read.
fn check_file_name(shard: &ListedShard) -> Result<(), ListError> {
    let refused = |reason: String| Err(ListError::request(reason, "give the file another name"));
    let name = shard.id.as_str();
    if let Err(why) = names::check_shard(name) {
        return refused(format!(
            "the file {name:?} has a name that cannot be a shard's: {why}"
        ));
    }
    if DeadLetterShard::parse(&shard.id).is_some() {
        return refused(format!(
            "the file {name} has a name that only replayed dead letters have"
        ));
    }
    Ok(())
}

fn of_storage(error: StorageError) -> ListError {
    let reason = error.to_string();
    match error {
        StorageError::Refused { cause, hint, .. } => ListError::Refused {
            cause,
            reason,
            hint,
        },
        StorageError::NotFound { .. } => {
            ListError::request(reason, "check `path` of the job's source")
        }
        _ => ListError::Unavailable { reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    #[tokio::test]
    async fn a_file_that_is_named_as_dead_letters_are_is_refused() {
        let memory = MemoryStorage::default();
        let storages = Storages::memory(memory.clone());
        let folder = Location::folder("memory://in");
        memory.put(&folder.join("dead-letters/2026-11-24.json"), "{}");
        assert_eq!(files(&storages, &folder).await.unwrap().len(), 1);
        memory.put(
            &folder.join("dead-letters/000000000007-0123456789abcdef"),
            "{}",
        );
        let error = files(&storages, &folder).await.unwrap_err().to_string();
        assert!(error.contains("000000000007"), "{error}");
    }

    #[tokio::test]
    async fn p29_what_other_programs_leave_beside_the_data_is_not_read() {
        let memory = MemoryStorage::default();
        let storages = Storages::memory(memory.clone());
        let folder = Location::folder("memory://_in");
        for name in [
            "part-0000.json",
            "_year=2026/part.json",
            "_SUCCESS",
            "_temporary/0/part-0001.json",
            ".hidden/part.json",
            ".part-0000.json.crc",
        ] {
            memory.put(&folder.join(name), "{}");
        }
        let shards = files(&storages, &folder).await.unwrap();
        let names: Vec<_> = shards.iter().map(|shard| shard.id.as_str()).collect();
        assert_eq!(names, ["_year=2026/part.json", "part-0000.json"]);
    }

    #[tokio::test]
    async fn a_file_whose_name_no_manifest_can_hold_is_refused_and_named() {
        let memory = MemoryStorage::default();
        let storages = Storages::memory(memory.clone());
        let folder = Location::folder("memory://in");
        memory.put(&folder.join("a b\u{a0}é.json"), "{}");
        assert_eq!(files(&storages, &folder).await.unwrap().len(), 1);
        for name in ["a\tb.json", "a\u{85}b.json", "a\u{7f}b.json"] {
            memory.put(&folder.join(name), "{}");
            let error = files(&storages, &folder).await.unwrap_err();
            let ListError::Refused { reason, hint, .. } = error else {
                panic!("{error}")
            };
            assert!(
                reason.contains(&format!("{name:?}")) && hint.contains("another name"),
                "{reason}"
            );
            memory.delete(&folder.join(name));
        }
    }

    #[test]
    fn a_missing_bucket_is_refused_and_a_service_that_is_down_is_not() {
        let missing = of_storage(StorageError::NotFound {
            location: "s3://b/".into(),
        });
        assert!(matches!(missing, ListError::Refused { .. }));
        let down = of_storage(StorageError::Unavailable {
            location: "s3://b/".into(),
            reason: "503".into(),
        });
        assert!(matches!(down, ListError::Unavailable { .. }));
    }
}
