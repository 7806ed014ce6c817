//! The checkpoint location of a job: manifests before a commit, notes of publication after it, earlier
//! versions of the job.
//!
//! Owns: writing, reading and finding them. Does not own: when (driver), what becomes visible
//! ([`crate::sink`]).
//! Rule: every step is idempotent. A manifest that is not byte for byte the committed one is an
//! error.

use crate::restored::{Published, Written};
use crate::sink::Committer;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use streamctl_engine::storage::{PutOutcome, Storage, StorageError, Storages};
use streamctl_proto::manifest::{CheckpointNames, MANIFEST_BYTES_MAX, ManifestError, sha256_hex};
use streamctl_proto::resolved::{RESOLVED_BYTES_MAX, VersionError};
use streamctl_proto::spec::Location;
use streamctl_proto::{Epoch, JobName, JobVersion, Manifest, ManifestRef, ResolvedJob, VersionRef};

/// Largest note of a publication: the name of a manifest.
const NOTE_BYTES_MAX: u64 = 4_096;
/// Most manifests of one epoch that are checked; each is of another leader that died before its
/// commit.
const WRITTEN_MAX: usize = 64;

/// The only manifest of an epoch in a checkpoint location, by its name.
#[derive(Clone, Debug)]
pub struct WrittenOnce {
    pub epoch: Epoch,
    /// The first characters of its digest.
    digest: String,
    location: String,
}

/// Something in a checkpoint location could not be written or used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The storage error; [`StorageError::Unavailable`] may be retried.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The manifest exists but cannot be used.
    #[error("{location} cannot be used")]
    Manifest {
        location: String,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The manifest would be committed but could never be read again.
    #[error(
        "the manifest of epoch {epoch} has {bytes} bytes for {objects} objects and {shards} shards, the limit is \
         {MANIFEST_BYTES_MAX}"
    )]
    TooLarge {
        epoch: Epoch,
        bytes: u64,
        objects: usize,
        shards: usize,
    },
    /// A version of the job exists but cannot be used.
    #[error("{location} cannot be used")]
    Version {
        location: String,
        /// What is wrong with it.
        source: VersionError,
    },
    /// No version of the job has this number.
    #[error("job {job} has no version {job_version}")]
    NoVersion {
        job: JobName,
        job_version: JobVersion,
    },
    /// Something else has the name of the object to write.
    #[error(
        "{location} is there already with another content; give the job a checkpoint location \
         that is its own"
    )]
    Differs { location: String },
    /// A manifest names a previous one that is not of the previous epoch: the chain is broken.
    #[error("manifest of epoch {epoch} of job {job} does not continue the one before it")]
    Broken {
        job: JobName,
        /// The epoch of the manifest.
        epoch: Epoch,
    },
}

impl CheckpointError {
    /// Whether a retry may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Storage(StorageError::Unavailable { .. }))
    }
}

/// The checkpoints of one job.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    storage: Arc<dyn Storage>,
    folder: Location,
    job: JobName,
}

impl Checkpoints {
    /// Checkpoints of `job`, below `folder`, which `storage` serves.
    pub fn new(storage: Arc<dyn Storage>, folder: Location, job: JobName) -> Self {
        Self {
            storage,
            folder,
            job,
        }
    }

    /// Stores a manifest durably. If it already exists with other content, that is an error. A
    /// manifest that could not be read back is not written.
    pub async fn write_manifest(
        &self,
        manifest: &Manifest,
    ) -> Result<ManifestRef, CheckpointError> {
        let (bytes, reference) = manifest.encode();
        if bytes.len() as u64 > MANIFEST_BYTES_MAX {
            let objects = manifest.objects.len();
            let shards = manifest.frontier.len();
            return Err(CheckpointError::TooLarge {
                epoch: manifest.epoch,
                bytes: bytes.len() as u64,
                objects,
                shards,
            });
        }
        self.write_once(&reference.name, bytes, MANIFEST_BYTES_MAX)
            .await?;
        Ok(reference)
    }

    /// Reads the manifest that `reference` names: exactly those bytes, of this job and that epoch.
    pub async fn read_manifest(
        &self,
        reference: &ManifestRef,
    ) -> Result<Manifest, CheckpointError> {
        let location = self.folder.join(&reference.name);
        let bytes = self.storage.get(&location, MANIFEST_BYTES_MAX).await?;
        let manifest = Manifest::decode(&bytes, reference)
            .map_err(|source| CheckpointError::Manifest { location, source })?;
        if manifest.job != self.job || manifest.epoch != reference.epoch {
            return Err(CheckpointError::Broken {
                job: self.job.clone(),
                epoch: reference.epoch,
            });
        }
        Ok(manifest)
    }

    /// Stores a version of the job durably before another takes over: the epochs that it made refer
    /// to it.
    pub async fn write_version(&self, job: &ResolvedJob) -> Result<VersionRef, CheckpointError> {
        let (bytes, reference) = job.encode();
        self.write_once(&reference.name, bytes, RESOLVED_BYTES_MAX)
            .await?;
        Ok(reference)
    }

    /// Reads the version that `reference` names: exactly those bytes, of this job.
    pub async fn read_version(
        &self,
        reference: &VersionRef,
    ) -> Result<ResolvedJob, CheckpointError> {
        let location = self.folder.join(&reference.name);
        let bytes = self.storage.get(&location, RESOLVED_BYTES_MAX).await?;
        let job = ResolvedJob::decode(&bytes, reference)
            .map_err(|source| CheckpointError::Version { location, source })?;
        if job.spec.name != self.job || job.job_version != reference.job_version {
            return Err(CheckpointError::NoVersion {
                job: self.job.clone(),
                job_version: reference.job_version,
            });
        }
        Ok(job)
    }

    /// The version with this number; `last` is the one that the store holds. Each version names the
    /// previous one.
    pub async fn version(
        &self,
        last: &ResolvedJob,
        job_version: JobVersion,
    ) -> Result<ResolvedJob, CheckpointError> {
        let missing = || CheckpointError::NoVersion {
            job: self.job.clone(),
            job_version,
        };
        let mut found = last.clone();
        while found.job_version > job_version {
            let before = found
                .previous
                .take()
                .filter(|before| before.job_version.next() == found.job_version);
            found = self.read_version(&before.ok_or_else(missing)?).await?;
        }
        if found.job_version == job_version {
            Ok(found)
        } else {
            Err(missing())
        }
    }

    /// Manifests from `head` back to the one after `down_to` (the last published epoch), oldest
    /// first: in the order in which they are published. All of them are held in memory at once; a
    /// leader is never far behind.
    pub async fn read_back(
        &self,
        head: &ManifestRef,
        down_to: Epoch,
    ) -> Result<Vec<Manifest>, CheckpointError> {
        let mut found = Vec::new();
        let mut next = Some(head.clone());
        while let Some(reference) = next.filter(|reference| reference.epoch > down_to) {
            let manifest = self.read_manifest(&reference).await?;
            next = self.before(&manifest)?;
            found.push(manifest);
        }
        found.reverse();
        Ok(found)
    }

    /// The reference to the previous manifest; none before epoch 1.
    pub fn before(&self, manifest: &Manifest) -> Result<Option<ManifestRef>, CheckpointError> {
        let before = manifest
            .previous
            .as_ref()
            .map_or(Epoch(0), |previous| previous.epoch);
        if before.next() != manifest.epoch {
            return Err(CheckpointError::Broken {
                job: self.job.clone(),
                epoch: manifest.epoch,
            });
        }
        Ok(manifest.previous.clone())
    }

    /// A committed manifest at or soon after `epoch`, found by its name; `later` is one that is
    /// known to be committed. For every epoch before it, one manifest was committed; if only one
    /// was written for an epoch, it is that one.
    pub async fn find_near(
        &self,
        epoch: Epoch,
        later: &ManifestRef,
    ) -> Result<ManifestRef, CheckpointError> {
        let written = self.written_once(epoch..later.epoch).await?;
        match written.into_iter().next() {
            Some(once) => self.reference_of(&once).await,
            None => Ok(later.clone()),
        }
    }

    /// The manifests of those of these epochs for which only one was written, in their order.
    pub async fn written_once(
        &self,
        epochs: Range<Epoch>,
    ) -> Result<Vec<WrittenOnce>, CheckpointError> {
        let names = CheckpointNames::new(&self.job);
        let mut written: BTreeMap<Epoch, Option<WrittenOnce>> = BTreeMap::new();
        for location in self.list_epochs().await? {
            let file = location.rsplit('/').next().unwrap_or_default();
            let Some((epoch, digest)) = names.parse_manifest(file) else {
                continue;
            };
            if epochs.contains(&epoch) {
                let one = WrittenOnce {
                    epoch,
                    digest,
                    location,
                };
                let known = written.entry(epoch);
                known.and_modify(|known| *known = None).or_insert(Some(one));
            }
        }
        Ok(written.into_values().flatten().collect())
    }

    /// Reads a manifest for its reference.
    pub async fn reference_of(&self, once: &WrittenOnce) -> Result<ManifestRef, CheckpointError> {
        let WrittenOnce {
            epoch,
            digest,
            location,
        } = once;
        let name = CheckpointNames::new(&self.job).manifest(*epoch, digest);
        let found = sha256_hex(&self.storage.get(location, MANIFEST_BYTES_MAX).await?);
        if !found.starts_with(digest.as_str()) {
            let source = ManifestError::Digest {
                name,
                found,
                committed: digest.clone(),
            };
            return Err(CheckpointError::Manifest {
                location: location.clone(),
                source,
            });
        }
        Ok(ManifestRef {
            epoch: *epoch,
            name,
            digest: found,
        })
    }

    /// The checkpoints of a job, in its own checkpoint location.
    pub fn of(storages: &Storages, job: &ResolvedJob) -> Self {
        let folder = &job.spec.checkpoint;
        Self::new(
            storages.for_location(folder.as_str()),
            folder.clone(),
            job.spec.name.clone(),
        )
    }

    /// Locations of all existing manifests, by epoch; some may never have been committed.
    pub async fn list_epochs(&self) -> Result<Vec<String>, CheckpointError> {
        let folder = Location::folder(
            &self
                .folder
                .join(&CheckpointNames::new(&self.job).manifests()),
        );
        Ok(self
            .storage
            .list(&folder)
            .await?
            .into_iter()
            .map(|object| object.location)
            .collect())
    }

    /// Locations and sizes of all manifests of these epochs. Some may never have been committed.
    pub async fn list_sizes(
        &self,
        epochs: RangeInclusive<u64>,
    ) -> Result<BTreeMap<Epoch, Vec<(String, u64)>>, CheckpointError> {
        let names = CheckpointNames::new(&self.job);
        let folder = Location::folder(&self.folder.join(&names.manifests()));
        let after = self
            .folder
            .join(&names.before_manifests_of(Epoch(*epochs.start())));
        let mut found: BTreeMap<Epoch, Vec<(String, u64)>> = BTreeMap::new();
        for object in self.storage.list_after(&folder, &after).await? {
            let file = object.location.rsplit('/').next().unwrap_or_default();
            if let Some((epoch, _)) = names
                .parse_manifest(file)
                .filter(|(epoch, _)| epochs.contains(&epoch.0))
            {
                let sized = (object.location, object.size);
                found.entry(epoch).or_default().push(sized);
            }
        }
        Ok(found)
    }

    /// The manifest at this location, and the reference that its bytes give it. Nothing proves that
    /// it was committed.
    pub async fn read_named(
        &self,
        epoch: Epoch,
        location: &str,
    ) -> Option<(ManifestRef, Manifest)> {
        let bytes = self.storage.get(location, MANIFEST_BYTES_MAX).await.ok()?;
        let digest = sha256_hex(&bytes);
        let reference = ManifestRef {
            epoch,
            name: CheckpointNames::new(&self.job).manifest(epoch, &digest),
            digest,
        };
        let manifest = Manifest::decode(&bytes, &reference).ok()?;
        let is_its = manifest.job == self.job && manifest.epoch == epoch;
        is_its.then_some((reference, manifest))
    }

    /// Locations of manifests of epochs after this one, by epoch. Some may never have been
    /// committed.
    pub async fn list_after(
        &self,
        epoch: Epoch,
    ) -> Result<BTreeMap<Epoch, Vec<String>>, CheckpointError> {
        let names = CheckpointNames::new(&self.job);
        let folder = Location::folder(&self.folder.join(&names.manifests()));
        let after = self.folder.join(&names.before_manifests_of(epoch.next()));
        let mut found: BTreeMap<Epoch, Vec<String>> = BTreeMap::new();
        for object in self.storage.list_after(&folder, &after).await? {
            let file = object.location.rsplit('/').next().unwrap_or_default();
            if let Some((later, _)) = names
                .parse_manifest(file)
                .filter(|(later, _)| *later > epoch)
            {
                found.entry(later).or_default().push(object.location);
            }
        }
        Ok(found)
    }

    /// Manifests at these locations, and the evidence of their publication. Skips everything that
    /// is not a manifest of this job and epoch under the name that its content gives it.
    pub async fn read_written(
        &self,
        committer: &dyn Committer,
        epoch: Epoch,
        locations: &[String],
    ) -> Result<Vec<Written>, CheckpointError> {
        let names = CheckpointNames::new(&self.job);
        let mut found = Vec::new();
        for location in locations.iter().take(WRITTEN_MAX) {
            let bytes = self.storage.get(location, MANIFEST_BYTES_MAX).await?;
            let digest = sha256_hex(&bytes);
            let reference = ManifestRef {
                epoch,
                name: names.manifest(epoch, &digest),
                digest,
            };
            if self.folder.join(&reference.name) != *location {
                continue;
            }
            let manifest = match Manifest::decode(&bytes, &reference) {
                Ok(manifest) if manifest.job == self.job && manifest.epoch == epoch => manifest,
                Err(source @ ManifestError::Version(_)) => {
                    return Err(CheckpointError::Manifest {
                        location: location.clone(),
                        source,
                    });
                }
                Ok(_) | Err(_) => continue,
            };
            let published = match self.is_noted(&reference).await? {
                true => Published::Noted,
                false if committer.is_visible(&manifest).await? => Published::Objects,
                false => Published::Nothing,
            };
            found.push(Written {
                reference,
                manifest,
                published,
            });
        }
        Ok(found)
    }

    /// Notes durably that every object of a committed epoch was visible. After that, readers may
    /// move or delete the objects.
    pub async fn note_published(&self, reference: &ManifestRef) -> Result<(), CheckpointError> {
        let name = CheckpointNames::new(&self.job).published(reference.epoch, &reference.digest);
        self.write_once(&name, reference.name.clone().into_bytes(), NOTE_BYTES_MAX)
            .await
    }

    /// Whether an epoch is noted as published.
    pub async fn is_noted(&self, reference: &ManifestRef) -> Result<bool, CheckpointError> {
        let name = CheckpointNames::new(&self.job).published(reference.epoch, &reference.digest);
        match self.storage.head(&self.folder.join(&name)).await {
            Ok(_) => Ok(true),
            Err(StorageError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Existing manifests of an epoch under the name that their content gives them. Only the store
    /// or the manifest of the next epoch can decide which of them was committed, if any.
    pub async fn candidates(&self, epoch: Epoch) -> Result<Vec<ManifestRef>, CheckpointError> {
        let names = CheckpointNames::new(&self.job);
        let prefix = self
            .folder
            .join(&format!("{}{:012}-", names.manifests(), epoch.0));
        let mut found = Vec::new();
        for location in self
            .list_epochs()
            .await?
            .into_iter()
            .filter(|location| location.starts_with(&prefix))
        {
            let digest = sha256_hex(&self.storage.get(&location, MANIFEST_BYTES_MAX).await?);
            let name = names.manifest(epoch, &digest);
            if self.folder.join(&name) == location {
                found.push(ManifestRef {
                    epoch,
                    name,
                    digest,
                });
            }
        }
        Ok(found)
    }

    async fn write_once(
        &self,
        name: &str,
        bytes: Vec<u8>,
        limit: u64,
    ) -> Result<(), CheckpointError> {
        let location = self.folder.join(name);
        let bytes = Bytes::from(bytes);
        if self.storage.put_new(&location, bytes.clone()).await? == PutOutcome::Created {
            return Ok(());
        }
        match self.storage.get(&location, limit).await? == bytes {
            true => Ok(()),
            false => Err(CheckpointError::Differs { location }),
        }
    }
}

#[cfg(test)]
mod tests;
