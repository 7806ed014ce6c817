//! Removes what a deleted job has in its checkpoint location.
//!
//! Owns: what goes and what stays, in which order. Does not own: that the store has deleted the job
//! (the caller).
//! Rule: manifests go last. A submit of this name with this location is refused while one is there,
//! so nothing of a later job is among what is removed. Without a manifest nothing is removed: a
//! later job may name the same lookup version, job file or code, because these are named by content.

use super::Place;
use futures::TryStreamExt as _;
use streamctl_engine::storage::{StorageError, Storages};
use streamctl_proto::ResolvedJob;
use streamctl_proto::manifest::CheckpointNames;
use streamctl_proto::spec::Location;

/// Objects that one purge lists: their names are held in memory.
const LISTED_MAX: usize = 1_000_000;

/// What a purge did.
#[derive(Debug, Default)]
pub struct Purged {
    pub removed: usize,
    /// Why objects are left.
    pub problem: Option<String>,
}

/// Removes manifests, marks of publication, lookup versions, versions of the job, job files and
/// packed code. Dead letters stay, and so do the results.
pub async fn purge(storages: &Storages, job: &ResolvedJob) -> Purged {
    let mut purged = Purged::default();
    if let Err(error) = remove(storages, job, &mut purged).await {
        purged.problem = Some(streamctl_proto::describe(&error));
    }
    purged
}

async fn remove(
    storages: &Storages,
    job: &ResolvedJob,
    purged: &mut Purged,
) -> Result<(), StorageError> {
    let place = Place::of(storages, job);
    let names = CheckpointNames::new(&job.spec.name);
    let below = |folder: &str| Location::folder(&place.folder.join(folder));
    let root = below(&names.root());
    let manifests = below(&names.manifests());
    let mut stay = vec![
        below(&names.dead_letters()).to_string(),
        job.spec.dead_letters().to_string(),
    ];
    let written = job.spec.sink.folders().into_iter();
    stay.extend(written.map(|(_, folder)| folder.to_string()));
    let mut first = vec![];
    let mut last = vec![];
    let mut pages = place.storage.pages(&root);
    'listed: while let Some(page) = pages.try_next().await? {
        for location in page.into_iter().map(|object| object.location) {
            if first.len() + last.len() >= LISTED_MAX {
                purged.problem = Some(format!("more than {LISTED_MAX} objects"));
                break 'listed;
            }
            if location.starts_with(manifests.as_str()) {
                last.push(location);
            } else if !stay
                .iter()
                .any(|folder| location.starts_with(folder.as_str()))
            {
                first.push(location);
            }
        }
    }
    drop(pages);
    if last.is_empty() && !first.is_empty() {
        purged.problem = Some("there is no manifest that keeps a new submit away".to_owned());
        return Ok(());
    }
    place.delete(&first).await?;
    purged.removed += first.len();
    if purged.problem.is_none() {
        place.delete(&last).await?;
        purged.removed += last.len();
    }
    Ok(())
}
