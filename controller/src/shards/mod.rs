//! Which shards a job's source has.
//!
//! Owns: the trait, the listing of each kind of source, the fake, the look at all that a job needs
//! ([`look`]). Does not own: lineage and assignment (`core`).
//! Rule: a listing is whole or an error; a partial one would lose shards.

mod kinesis;
mod look;
mod memory;

pub use look::look;
pub use memory::MemoryShards;

use async_trait::async_trait;
use streamctl_engine::aws::Aws;
use streamctl_engine::file_shard::FileShard;
use streamctl_engine::storage::{RefusalCause, StorageError, Storages};
use streamctl_proto::resolved::{StreamAddress, StreamFacts};
use streamctl_proto::spec::{Location, SourceKind};
use streamctl_proto::{DeadLetterShard, ShardId, names};

/// Most shards of one source: far beyond what one job can read.
pub const SHARDS_MAX: usize = 100_000;
/// Their names and details together: one task may get all of them, in one message.
pub const LISTED_BYTES_MAX: usize = 64 << 20;

/// A shard as its source lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedShard {
    pub id: ShardId,
    /// Those it comes from; they may be gone from the listing.
    pub parents: Vec<ShardId>,
    /// What its reader needs besides the name (files: `FileShard`; Kinesis: `HashRange`); else
    /// empty.
    pub detail: String,
    /// Takes no more records; it may still hold some.
    pub closed: bool,
}

/// What a source answers when it is asked for its shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// All shards that it still has, closed ones too, by name.
    pub shards: Vec<ListedShard>,
    /// Its stream; none where it has no stream, or a service that does not describe it.
    pub stream: Result<Option<StreamFacts>, ListError>,
    /// The service's clock when it answered, in whole seconds, where it gives its time.
    pub service_ms: Option<i64>,
}

impl Listing {
    /// Shards of a source that has no stream.
    pub fn of(shards: Vec<ListedShard>) -> Self {
        Self {
            shards,
            stream: Ok(None),
            service_ms: None,
        }
    }
}

/// The shards cannot be listed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// It may work if tried again later.
    #[error("shards cannot be listed now: {reason}")]
    Unavailable { reason: String },
    /// The same request from this process, at this moment, is refused again.
    #[error("shards cannot be listed: {reason}")]
    Refused {
        /// What decides that it is refused.
        cause: RefusalCause,
        reason: String,
        hint: String,
    },
}

/// Lists the shards of a job's source.
#[async_trait]
pub trait ShardLister: Send + Sync {
    /// The source's shards, and what its service says of the stream. `stream` is that of a Kinesis
    /// source. Transient failures were retried a few times.
    async fn list(
        &self,
        source: &SourceKind,
        stream: Option<&StreamAddress>,
    ) -> Result<Listing, ListError>;
}

#[derive(Clone)]
pub struct SourceShards {
    aws: Aws,
    storages: Storages,
}

impl SourceShards {
    pub fn new(aws: Aws, storages: Storages) -> Self {
        Self { aws, storages }
    }

    async fn files(&self, folder: &Location) -> Result<Vec<ListedShard>, ListError> {
        let objects = self
            .storages
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
        // Console-made "folders" are empty objects with a slash at the end.
        let files = objects
            .into_iter()
            .filter(|info| !info.location.ends_with('/'));
        let shards: Vec<ListedShard> = files.map(FileShard::from).map(shard).collect();
        shards.iter().try_for_each(check_file_name)?;
        Ok(shards)
    }
}

/// A file's name is its shard's: one that cannot be, or is another shard's, is refused before
/// anything of it is read.
fn check_file_name(shard: &ListedShard) -> Result<(), ListError> {
    let refused = |reason: String| {
        let hint = "give the file another name".to_owned();
        Err(ListError::Refused {
            cause: RefusalCause::Request,
            reason,
            hint,
        })
    };
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

fn generated(shards: u32) -> Vec<ListedShard> {
    let shard = |i| ListedShard {
        id: ShardId::new(format!("generator-{i:04}")),
        parents: Vec::new(),
        detail: String::new(),
        closed: false,
    };
    (0..shards).map(shard).collect()
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
            let hint = "check `path` of the job's source".to_owned();
            ListError::Refused {
                cause: RefusalCause::Request,
                reason,
                hint,
            }
        }
        _ => ListError::Unavailable { reason },
    }
}

#[async_trait]
impl ShardLister for SourceShards {
    async fn list(
        &self,
        source: &SourceKind,
        stream: Option<&StreamAddress>,
    ) -> Result<Listing, ListError> {
        let mut listing = match (source, stream) {
            (SourceKind::Generator { shards, .. }, _) => Listing::of(generated(*shards)),
            (SourceKind::Files { path, .. }, _) => Listing::of(self.files(path).await?),
            (SourceKind::Kinesis { .. }, Some(stream)) => {
                let client = self.aws.kinesis(stream).await;
                let retry = kinesis::Retry::default();
                let (shards, described) = tokio::join!(
                    kinesis::list(&client, stream, retry),
                    kinesis::describe(&client, stream, retry)
                );
                Listing {
                    shards: shards?,
                    stream: described.facts,
                    service_ms: described.service_ms,
                }
            }
            (SourceKind::Kinesis { .. }, None) => {
                let reason = "the job does not say which stream".to_owned();
                let hint = "name `stream` or `arn` in its source".to_owned();
                return Err(ListError::Refused {
                    cause: RefusalCause::Request,
                    reason,
                    hint,
                });
            }
        };
        if listing.shards.len() > SHARDS_MAX {
            let reason = format!(
                "the source has {} shards, the limit is {SHARDS_MAX}",
                listing.shards.len()
            );
            let hint = "read it with several jobs".to_owned();
            return Err(ListError::Refused {
                cause: RefusalCause::Request,
                reason,
                hint,
            });
        }
        let names_bytes = |shard: &ListedShard| {
            let parents = shard
                .parents
                .iter()
                .map(|parent| parent.as_str().len())
                .sum::<usize>();
            shard.id.as_str().len() + parents + shard.detail.len()
        };
        let bytes = listing.shards.iter().map(names_bytes).sum::<usize>();
        if bytes > LISTED_BYTES_MAX {
            let reason = format!(
                "the names of the source's shards have {bytes} bytes, the limit is {LISTED_BYTES_MAX}"
            );
            let hint = "read it with several jobs".to_owned();
            return Err(ListError::Refused {
                cause: RefusalCause::Request,
                reason,
                hint,
            });
        }
        listing.shards.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(listing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamctl_engine::aws::AwsSettings;
    use streamctl_engine::storage::MemoryStorage;

    #[test]
    fn generated_shards_have_the_names_that_readers_know() {
        let names: Vec<String> = generated(3).into_iter().map(|s| s.id.to_string()).collect();
        assert_eq!(
            names,
            ["generator-0000", "generator-0001", "generator-0002"]
        );
    }

    #[tokio::test]
    async fn a_file_that_is_named_as_dead_letters_are_is_refused() {
        let memory = MemoryStorage::default();
        let lister = SourceShards::new(
            Aws::new(AwsSettings::default()),
            Storages::memory(memory.clone()),
        );
        let folder = Location::folder("memory://in");
        memory.put(&folder.join("dead-letters/2026-11-24.json"), "{}");
        assert_eq!(lister.files(&folder).await.unwrap().len(), 1);
        memory.put(
            &folder.join("dead-letters/000000000007-0123456789abcdef"),
            "{}",
        );
        let error = lister.files(&folder).await.unwrap_err().to_string();
        assert!(error.contains("000000000007"), "{error}");
    }

    #[tokio::test]
    async fn a_file_whose_name_no_manifest_can_hold_is_refused_and_named() {
        let memory = MemoryStorage::default();
        let lister = SourceShards::new(
            Aws::new(AwsSettings::default()),
            Storages::memory(memory.clone()),
        );
        let folder = Location::folder("memory://in");
        memory.put(&folder.join("a b\u{a0}é.json"), "{}");
        assert_eq!(lister.files(&folder).await.unwrap().len(), 1);
        for name in ["a\tb.json", "a\u{85}b.json", "a\u{7f}b.json"] {
            memory.put(&folder.join(name), "{}");
            let error = lister.files(&folder).await.unwrap_err();
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
