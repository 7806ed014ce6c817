//! Versions of a lookup: named by a digest of its objects, kept in the checkpoint location.
//!
//! Owns: listing, the digest, the copy and its seal. Does not own: rows.
//! Rule: a kept version is complete when its seal (`_complete.json`) exists, which is written last;
//! content that is read back must have the digests of the seal.

use crate::storage::{ObjectInfo, PutOutcome, StorageError, Storages, is_data};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use streamctl_proto::manifest::{CheckpointNames, sha256_hex};
use streamctl_proto::spec::{AssumedRole, Location, LookupSpec};
use streamctl_proto::{JobName, LookupVersion};

/// Hexadecimal digits of a version's name.
const VERSION_DIGITS: usize = 32;
/// How often a copy is retried if the files change meanwhile.
const COPY_TRIES_MAX: u32 = 3;
/// Most objects of a lookup: they are read one after the other.
pub const OBJECTS_MAX: usize = 10_000;
/// Largest seal that is read: [`OBJECTS_MAX`] names of 1 KiB, and digests.
const SEAL_BYTES_MAX: u64 = 16 << 20;
const SEAL_NAME: &str = "_complete.json";
/// The version of the seal's format that this build writes; it does not read later versions.
const SEAL_VERSION: u32 = 1;

/// The current state of a lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The digest of its objects' names and ETags.
    pub version: LookupVersion,
    pub objects: Vec<ObjectInfo>,
    pub bytes: u64,
}

/// Why a version is not available.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// There are no files below its path.
    #[error(
        "lookup {lookup}: there is no file below {path} (files and folders whose names begin with \
         `_` or `.` do not count)"
    )]
    Empty {
        lookup: String,
        /// The path that was searched.
        path: String,
    },
    /// The lookup is too large to be held in memory.
    #[error(
        "lookup {lookup}: its files have {bytes} bytes, `size_max` is {limit}; raise `size_max`, \
         or keep fewer columns and rows in it"
    )]
    TooLarge {
        lookup: String,
        bytes: u64,
        limit: u64,
    },
    /// Too many files to read one after the other.
    #[error(
        "lookup {lookup}: {objects} files are below its path, the limit is {OBJECTS_MAX}; write \
         fewer and larger ones"
    )]
    TooMany { lookup: String, objects: usize },
    /// A retry with a new listing may succeed.
    #[error("lookup {lookup}: {location} was changed while it was read")]
    Changed { lookup: String, location: String },
    /// The version was never kept, or its files have been deleted.
    #[error(
        "lookup {lookup}: version {version} is not in {folder}; it was deleted, and what used it \
         cannot be computed again"
    )]
    NotKept {
        lookup: String,
        version: LookupVersion,
        folder: String,
    },
    /// The kept content differs from what was written.
    #[error(
        "lookup {lookup}: {location} was changed after it was kept; nothing but this program may \
         write there"
    )]
    Damaged { lookup: String, location: String },
    #[error("lookup {lookup}")]
    Storage {
        lookup: String,
        source: StorageError,
    },
}

impl LookupError {
    /// Whether a retry may succeed without a fix by the user.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Changed { .. }
                | Self::Storage {
                    source: StorageError::Unavailable { .. },
                    ..
                }
        )
    }
}

/// Written last: marks the version as complete.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seal {
    /// [`SEAL_VERSION`].
    version: u32,
    objects: Vec<SealedObject>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SealedObject {
    /// Relative to the lookup's path.
    name: String,
    stored: String,
    /// In bytes.
    size: u64,
    sha256: String,
}

/// Lists the files below the lookup's path.
///
/// # Errors
/// No file, more bytes than `size_max`, more than [`OBJECTS_MAX`] files, or the storage's.
pub async fn current_version(
    storages: &Storages,
    spec: &LookupSpec,
) -> Result<Listed, LookupError> {
    let lookup = || spec.name.clone();
    let listed = storages
        .as_role(spec.role.as_ref())
        .for_location(spec.path.as_str())
        .list(&spec.path)
        .await;
    let mut objects = listed.map_err(|source| LookupError::Storage {
        lookup: lookup(),
        source,
    })?;
    objects.retain(|object| is_part(&spec.path, object));
    let bytes = objects.iter().map(|object| object.size).sum();
    if objects.is_empty() {
        return Err(LookupError::Empty {
            lookup: lookup(),
            path: spec.path.to_string(),
        });
    }
    if objects.len() > OBJECTS_MAX {
        return Err(LookupError::TooMany {
            lookup: lookup(),
            objects: objects.len(),
        });
    }
    if bytes > spec.size_max {
        return Err(LookupError::TooLarge {
            lookup: lookup(),
            bytes,
            limit: spec.size_max,
        });
    }
    Ok(Listed {
        version: digest(&spec.path, &objects),
        objects,
        bytes,
    })
}

/// Copies a version into the checkpoint location, so that it outlives its files. Idempotent.
///
/// # Errors
/// [`LookupError::Changed`] when the files are no longer those that were listed: list again.
pub async fn keep(
    storages: &Storages,
    checkpoint: &Location,
    job: &JobName,
    spec: &LookupSpec,
    listed: &Listed,
) -> Result<(), LookupError> {
    let folder = folder_of(checkpoint, job, &spec.name, &listed.version);
    let kept = Kept {
        storages,
        lookup: &spec.name,
        version: &listed.version,
        folder: &folder,
    };
    match kept.seal().await {
        Ok(_) => return Ok(()),
        Err(LookupError::NotKept { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut objects = Vec::with_capacity(listed.objects.len());
    for (number, object) in listed.objects.iter().enumerate() {
        let bytes = kept.read_unchanged(object, spec.role.as_ref()).await?;
        let sha256 = sha256_hex(&bytes);
        // Named by content: an interrupted or repeated copy never leaves different content under
        // the name.
        let stored = format!("{number:05}-{}", &sha256[..VERSION_DIGITS]);
        let size = bytes.len() as u64;
        kept.put(&stored, bytes).await?;
        objects.push(SealedObject {
            name: relative(&spec.path, object).to_owned(),
            stored,
            size,
            sha256,
        });
    }
    let seal = Seal {
        version: SEAL_VERSION,
        objects,
    };
    kept.put(
        SEAL_NAME,
        serde_json::to_vec(&seal)
            .expect("a seal is text and numbers")
            .into(),
    )
    .await?;
    Ok(())
}

/// The size of a kept version's files, before they are read.
///
/// # Errors
/// Not kept, or damaged.
pub async fn kept_bytes(
    storages: &Storages,
    checkpoint: &Location,
    job: &JobName,
    lookup: &str,
    version: &LookupVersion,
) -> Result<u64, LookupError> {
    let folder = folder_of(checkpoint, job, lookup, version);
    let seal = Kept {
        storages,
        lookup,
        version,
        folder: &folder,
    }
    .seal()
    .await?;
    Ok(seal
        .objects
        .iter()
        .map(|object| object.size)
        .fold(0, u64::saturating_add))
}

/// Reads a kept version: names relative to the lookup's path, and contents, by name.
///
/// # Errors
/// Not kept, damaged, or larger than `size_max` bytes.
pub async fn fetch(
    storages: &Storages,
    checkpoint: &Location,
    job: &JobName,
    lookup: &str,
    version: &LookupVersion,
    size_max: u64,
) -> Result<Vec<(String, Bytes)>, LookupError> {
    let folder = folder_of(checkpoint, job, lookup, version);
    let kept = Kept {
        storages,
        lookup,
        version,
        folder: &folder,
    };
    let seal = kept.seal().await?;
    let bytes = seal.objects.iter().map(|object| object.size).sum();
    if bytes > size_max {
        return Err(LookupError::TooLarge {
            lookup: lookup.to_owned(),
            bytes,
            limit: size_max,
        });
    }
    let mut contents = Vec::with_capacity(seal.objects.len());
    for object in seal.objects {
        let bytes = kept.read_sealed(&object).await?;
        contents.push((object.name, bytes));
    }
    Ok(contents)
}

/// The storage location of one version of one lookup.
struct Kept<'a> {
    storages: &'a Storages,
    lookup: &'a str,
    version: &'a LookupVersion,
    folder: &'a Location,
}

impl Kept<'_> {
    fn storage_error(&self, source: StorageError) -> LookupError {
        LookupError::Storage {
            lookup: self.lookup.to_owned(),
            source,
        }
    }

    fn damaged(&self, location: String) -> LookupError {
        LookupError::Damaged {
            lookup: self.lookup.to_owned(),
            location,
        }
    }

    fn not_kept(&self) -> LookupError {
        let lookup = self.lookup.to_owned();
        let version = self.version.clone();
        LookupError::NotKept {
            lookup,
            version,
            folder: self.folder.to_string(),
        }
    }

    async fn get(&self, location: &str, limit: u64) -> Result<Bytes, StorageError> {
        self.storages
            .for_location(location)
            .get(location, limit)
            .await
    }

    async fn seal(&self) -> Result<Seal, LookupError> {
        let location = self.folder.join(SEAL_NAME);
        let bytes = match self.get(&location, SEAL_BYTES_MAX).await {
            Ok(bytes) => bytes,
            Err(StorageError::NotFound { .. }) => return Err(self.not_kept()),
            Err(error) => return Err(self.storage_error(error)),
        };
        match serde_json::from_slice::<Seal>(&bytes) {
            Ok(seal) if seal.version <= SEAL_VERSION => Ok(seal),
            _ => Err(self.damaged(location)),
        }
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<PutOutcome, LookupError> {
        let location = self.folder.join(name);
        let put = self
            .storages
            .for_location(&location)
            .put_new(&location, bytes)
            .await;
        put.map_err(|error| self.storage_error(error))
    }

    /// The content of a listed object, if the object is the listed one before and after the read.
    async fn read_unchanged(
        &self,
        object: &ObjectInfo,
        role: Option<&AssumedRole>,
    ) -> Result<Bytes, LookupError> {
        let storage = self.storages.as_role(role).for_location(&object.location);
        let changed = || LookupError::Changed {
            lookup: self.lookup.to_owned(),
            location: object.location.clone(),
        };
        for _ in 0..COPY_TRIES_MAX {
            let bytes = match storage.get(&object.location, object.size).await {
                Ok(bytes) => bytes,
                Err(StorageError::NotFound { .. } | StorageError::TooLarge { .. }) => {
                    return Err(changed());
                }
                Err(error) => return Err(self.storage_error(error)),
            };
            match storage.head(&object.location).await {
                Ok(now) if now != *object => return Err(changed()),
                // The object is still the listed one, so the short read came from a replacement
                // that was itself replaced: read again.
                Ok(_) if bytes.len() as u64 != object.size => {}
                Ok(_) => return Ok(bytes),
                Err(StorageError::NotFound { .. }) => return Err(changed()),
                Err(error) => return Err(self.storage_error(error)),
            }
        }
        Err(changed())
    }

    async fn read_sealed(&self, object: &SealedObject) -> Result<Bytes, LookupError> {
        let location = self.folder.join(&object.stored);
        match self.get(&location, object.size).await {
            Ok(bytes) if sha256_hex(&bytes) == object.sha256 => Ok(bytes),
            Ok(_) | Err(StorageError::TooLarge { .. }) => Err(self.damaged(location)),
            Err(StorageError::NotFound { .. }) => Err(self.not_kept()),
            Err(error) => Err(self.storage_error(error)),
        }
    }
}

fn folder_of(
    checkpoint: &Location,
    job: &JobName,
    lookup: &str,
    version: &LookupVersion,
) -> Location {
    Location::folder(&checkpoint.join(&CheckpointNames::new(job).lookup(lookup, version)))
}

fn relative<'a>(path: &Location, object: &'a ObjectInfo) -> &'a str {
    object
        .location
        .strip_prefix(path.as_str())
        .unwrap_or(&object.location)
}

fn is_part(path: &Location, object: &ObjectInfo) -> bool {
    is_data(relative(path, object), object.size)
}

fn digest(path: &Location, objects: &[ObjectInfo]) -> LookupVersion {
    let lines: Vec<_> = objects
        .iter()
        .map(|object| (relative(path, object), &object.etag, object.size))
        .collect();
    // JSON, so that no name can be mistaken for a separator.
    let text = serde_json::to_vec(&lines).expect("text and numbers");
    LookupVersion::new(&sha256_hex(&text)[..VERSION_DIGITS])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MemoryStorage, Op};
    use std::time::Duration;
    use streamctl_proto::spec::LookupFormat;

    const COUNTRIES: &str = "memory://data/countries/";

    struct Bed {
        memory: MemoryStorage,
        storages: Storages,
        spec: LookupSpec,
        checkpoint: Location,
        job: JobName,
    }

    fn bed() -> Bed {
        let memory = MemoryStorage::default();
        memory.put(&format!("{COUNTRIES}part=1/a.csv"), "CountryName\nMalta\n");
        memory.put(&format!("{COUNTRIES}b.csv"), "CountryName\nPeru\n");
        memory.put(&format!("{COUNTRIES}_SUCCESS"), "");
        memory.put(&format!("{COUNTRIES}.hidden"), "x");
        memory.put(&format!("{COUNTRIES}_temporary/0/c.csv"), "x");
        memory.put(&format!("{COUNTRIES}part=1_$folder$"), "");
        memory.put(COUNTRIES, "");
        Bed {
            storages: Storages::memory(memory.clone()),
            memory,
            spec: LookupSpec {
                name: "country_lookup".into(),
                path: Location::folder(COUNTRIES),
                format: LookupFormat::Csv,
                refresh: Duration::from_secs(60),
                size_max: 1000,
                ..LookupSpec::new("l", Location::folder("/l"), LookupFormat::Csv)
            },
            checkpoint: Location::folder("memory://data/checkpoint"),
            job: "sales".parse().unwrap(),
        }
    }

    impl Bed {
        async fn list(&self) -> Result<Listed, LookupError> {
            current_version(&self.storages, &self.spec).await
        }
        async fn keep(&self, listed: &Listed) -> Result<(), LookupError> {
            keep(
                &self.storages,
                &self.checkpoint,
                &self.job,
                &self.spec,
                listed,
            )
            .await
        }
        async fn fetch(&self, listed: &Listed) -> Result<Vec<(String, Bytes)>, LookupError> {
            fetch(
                &self.storages,
                &self.checkpoint,
                &self.job,
                &self.spec.name,
                &listed.version,
                1000,
            )
            .await
        }
        fn stored(&self, listed: &Listed, name: &str) -> String {
            folder_of(
                &self.checkpoint,
                &self.job,
                &self.spec.name,
                &listed.version,
            )
            .join(name)
        }
    }

    #[tokio::test]
    async fn a_version_changes_with_any_file_and_only_then() {
        let bed = bed();
        let first = bed.list().await.unwrap();
        assert_eq!(
            first.objects.len(),
            2,
            "markers and hidden files are no part of it"
        );
        assert_eq!(first.bytes, 35);
        assert_eq!(first.version.as_str().len(), VERSION_DIGITS);
        bed.memory.put(&format!("{COUNTRIES}_started"), "x");
        assert_eq!(bed.list().await.unwrap(), first);
        bed.memory
            .put(&format!("{COUNTRIES}b.csv"), "CountryName\nChad\n");
        assert_ne!(bed.list().await.unwrap().version, first.version);
    }

    #[tokio::test]
    async fn a_kept_version_outlives_its_files() {
        let bed = bed();
        let listed = bed.list().await.unwrap();
        bed.keep(&listed).await.unwrap();
        bed.memory
            .put(&format!("{COUNTRIES}b.csv"), "CountryName\nChad\n");
        bed.memory.delete(&format!("{COUNTRIES}part=1/a.csv"));
        bed.keep(&listed)
            .await
            .expect("what is kept needs no files");
        let contents = bed.fetch(&listed).await.unwrap();
        let expected = [
            ("b.csv", "CountryName\nPeru\n"),
            ("part=1/a.csv", "CountryName\nMalta\n"),
        ];
        assert_eq!(
            contents,
            expected.map(|(name, text)| (name.to_owned(), Bytes::from(text)))
        );
    }

    #[tokio::test]
    async fn files_that_change_between_listing_and_copy_are_not_kept() {
        let bed = bed();
        let listed = bed.list().await.unwrap();
        bed.memory
            .put(&format!("{COUNTRIES}b.csv"), "CountryName\nChad\n");
        let error = bed.keep(&listed).await.unwrap_err();
        assert!(
            matches!(&error, LookupError::Changed { location, .. } if location.ends_with("b.csv"))
        );
        assert!(error.may_pass());
        assert!(matches!(
            bed.fetch(&listed).await,
            Err(LookupError::NotKept { .. })
        ));
    }

    #[tokio::test]
    async fn a_copy_that_broke_off_is_finished_by_the_next() {
        let bed = bed();
        let listed = bed.list().await.unwrap();
        let lost = StorageError::Unavailable {
            location: String::new(),
            reason: "timed out".into(),
        };
        bed.memory.fail_next(Op::PutNew, lost, true);
        assert!(bed.keep(&listed).await.unwrap_err().may_pass());
        bed.keep(&listed).await.unwrap();
        assert_eq!(bed.fetch(&listed).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_kept_file_that_was_changed_is_not_used() {
        let bed = bed();
        let listed = bed.list().await.unwrap();
        bed.keep(&listed).await.unwrap();
        let kept = format!(
            "00000-{}",
            &sha256_hex(b"CountryName\nPeru\n")[..VERSION_DIGITS]
        );
        bed.memory
            .put(&bed.stored(&listed, &kept), "CountryName\nFiji\n");
        assert!(matches!(
            bed.fetch(&listed).await,
            Err(LookupError::Damaged { .. })
        ));
        bed.memory.delete(&bed.stored(&listed, &kept));
        assert!(matches!(
            bed.fetch(&listed).await,
            Err(LookupError::NotKept { .. })
        ));
    }

    #[tokio::test]
    async fn no_file_and_too_many_bytes_are_refused_with_the_way_out() {
        let mut bed = bed();
        bed.spec.size_max = 34;
        let error = bed.list().await.unwrap_err();
        assert!(matches!(
            error,
            LookupError::TooLarge {
                bytes: 35,
                limit: 34,
                ..
            }
        ));
        assert!(error.to_string().contains("size_max"));
        bed.spec.path = Location::folder("memory://data/nowhere");
        let error = bed.list().await.unwrap_err();
        assert!(matches!(error, LookupError::Empty { .. }));
        assert!(error.to_string().contains("memory://data/nowhere/"));
    }

    #[tokio::test]
    async fn a_version_of_a_later_build_is_not_read() {
        let bed = bed();
        let listed = bed.list().await.unwrap();
        bed.memory.put(
            &bed.stored(&listed, SEAL_NAME),
            r#"{"version":2,"objects":[]}"#,
        );
        assert!(matches!(
            bed.fetch(&listed).await,
            Err(LookupError::Damaged { .. })
        ));
    }
}
