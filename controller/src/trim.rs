//! Removes what lies before the anchor of a job's history.
//!
//! Owns: what may go, in which order, how much at a time. Does not own: where the anchor stands (the
//! core), that the store holds it (the caller).
//! Rule: everything is listed first, then the anchor's manifest is read, then exactly the listed
//! names are deleted. So a leader that wakes up late deletes nothing of a later job of this name: a
//! name holds the digest of its content, and was there before the anchor was read.

mod purge;

pub use purge::{Purged, purge};

use crate::checkpoints::{CheckpointError, Checkpoints};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use streamctl_engine::storage::{Storage, StorageError, Storages};
use streamctl_proto::manifest::CheckpointNames;
use streamctl_proto::resolved::RESOLVED_BYTES_MAX;
use streamctl_proto::spec::Location;
use streamctl_proto::{Epoch, JobVersion, ManifestRef, ResolvedJob};

/// Objects that are deleted at the same time.
const DELETED_AT_ONCE_MAX: usize = 16;

/// What one turn removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    pub removed: usize,
    pub is_more_left: bool,
}

/// Removes up to `most` objects from before `anchor`: manifests and their notes, oldest first, then
/// versions of the job that no kept epoch names, and their job files.
///
/// # Errors
/// The location does not answer, or the anchor's manifest is not what was committed. What was
/// removed until then is removed; the next turn removes the rest.
pub async fn trim(
    storages: &Storages,
    job: &ResolvedJob,
    anchor: &ManifestRef,
    most: usize,
) -> Result<Trimmed, CheckpointError> {
    let checkpoints = Checkpoints::of(storages, job);
    let place = Place::of(storages, job);
    let names = CheckpointNames::new(&job.spec.name);
    let before_anchor = |epoch: Epoch| epoch < anchor.epoch;
    let of_epoch = |file: &str| epoch_of(file).is_some_and(before_anchor);
    let manifests = place.list(&names.manifests(), most, of_epoch).await?;
    let room = most - manifests.names.len();
    let notes = place.list(&names.notes(), room, of_epoch).await?;
    let room = room - notes.names.len();
    // A person made each of them: there are few.
    let versions = place.list(&names.versions(), usize::MAX, |_| true).await?;
    let first = checkpoints.read_manifest(anchor).await?;

    place.delete(&manifests.names).await?;
    place.delete(&notes.names).await?;
    let versions_removed = Versions {
        place: &place,
        checkpoints: &checkpoints,
        job,
        first: first.job_version(),
    }
    .remove(&versions.names, room)
    .await?;
    Ok(Trimmed {
        removed: manifests.names.len() + notes.names.len() + versions_removed,
        is_more_left: manifests.is_more_left || notes.is_more_left || versions_removed == room,
    })
}

/// The number before the dash of a manifest, a note or a version.
fn number_of(file: &str) -> Option<u64> {
    file.split_once('-')?.0.parse().ok()
}

fn epoch_of(file: &str) -> Option<Epoch> {
    number_of(file).map(Epoch)
}

/// A checkpoint location.
struct Place {
    storage: Arc<dyn Storage>,
    folder: Location,
}

/// Objects of a folder.
struct Listed {
    /// Their locations, by name.
    names: Vec<String>,
    is_more_left: bool,
}

impl Place {
    fn of(storages: &Storages, job: &ResolvedJob) -> Self {
        let folder = job.spec.checkpoint.clone();
        Self {
            storage: storages.for_location(folder.as_str()),
            folder,
        }
    }

    /// Up to `most` of the files in a folder that may go. A storage with ordered pages has the
    /// oldest ones on its first pages, so that few are read.
    async fn list(
        &self,
        folder: &str,
        most: usize,
        may_go: impl Fn(&str) -> bool,
    ) -> Result<Listed, StorageError> {
        let folder = Location::folder(&self.folder.join(folder));
        let mut names = vec![];
        let mut pages = self.storage.pages(&folder);
        while let Some(page) = pages.try_next().await? {
            let locations = page.into_iter().map(|object| object.location);
            names.extend(locations.filter(|location| {
                let file = location.strip_prefix(folder.as_str());
                file.is_some_and(&may_go)
            }));
            if names.len() > most {
                break;
            }
        }
        names.sort_unstable();
        let is_more_left = names.len() > most;
        names.truncate(most);
        Ok(Listed {
            names,
            is_more_left,
        })
    }

    async fn delete(&self, locations: &[String]) -> Result<(), StorageError> {
        let deletes: Vec<_> = locations
            .iter()
            .map(|location| self.storage.delete(location))
            .collect();
        stream::iter(deletes)
            .buffered(DELETED_AT_ONCE_MAX)
            .try_for_each(|()| std::future::ready(Ok(())))
            .await
    }
}

/// The part of a stored version that names its job file.
#[derive(Deserialize)]
struct OfFile {
    spec_digest: String,
}

struct Versions<'a> {
    place: &'a Place,
    checkpoints: &'a Checkpoints,
    job: &'a ResolvedJob,
    /// The version of the first kept epoch.
    first: JobVersion,
}

impl Versions<'_> {
    /// Removes up to `most` of those of these versions that no kept epoch names, each after its job
    /// file.
    async fn remove(&self, listed: &[String], most: usize) -> Result<usize, CheckpointError> {
        let is_old = |location: &&String| {
            let file = location.rsplit('/').next().unwrap_or_default();
            number_of(file).is_some_and(|version| version < self.first.0)
        };
        let old: Vec<&String> = listed.iter().filter(is_old).take(most).collect();
        if old.is_empty() {
            return Ok(0);
        }
        let kept = self.files_kept().await?;
        for location in &old {
            self.remove_file(location, &kept).await?;
            self.place.storage.delete(location).await?;
        }
        Ok(old.len())
    }

    /// The digests of the job files of the versions that are kept.
    async fn files_kept(&self) -> Result<BTreeSet<String>, CheckpointError> {
        let mut version = self.job.clone();
        let mut kept = BTreeSet::from([version.spec_digest.clone()]);
        while version.job_version > self.first
            && let Some(before) = version.previous.take()
        {
            version = self.checkpoints.read_version(&before).await?;
            kept.insert(version.spec_digest.clone());
        }
        Ok(kept)
    }

    async fn remove_file(
        &self,
        version: &str,
        kept: &BTreeSet<String>,
    ) -> Result<(), StorageError> {
        let bytes = match self.place.storage.get(version, RESOLVED_BYTES_MAX).await {
            Ok(bytes) => bytes,
            // An earlier turn, or another leader, has removed both.
            Err(StorageError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        // Of a version that cannot be read, the job file stays.
        let Ok(OfFile { spec_digest }) = serde_json::from_slice(&bytes) else {
            return Ok(());
        };
        if kept.contains(&spec_digest) {
            return Ok(());
        }
        let names = CheckpointNames::new(&self.job.spec.name);
        let file = self.place.folder.join(&names.job_file(&spec_digest));
        self.place.storage.delete(&file).await
    }
}

#[cfg(test)]
mod tests;
