//! Objects in a storage: publishing what is staged, and looking at what is visible.
//!
//! Owns: how many at a time, retries, which objects are lost. Does not own: which objects an epoch has
//! (the kind of sink), how one object becomes visible (`engine::storage`).
//! Rule: a lost object does not block the others.

use super::{Committed, PublishError};
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::storage::{Look, Storage, StorageError, Storages};
use streamctl_proto::manifest::{ManifestObject, objects_after};
use streamctl_proto::report::StagedObject;
use streamctl_proto::spec::AssumedRole;
use streamctl_proto::{Epoch, JobName, Manifest};

/// Objects of one epoch that are published at the same time.
pub const PUBLISH_PARALLEL_MAX: usize = 16;
/// Attempts per object; then the driver gets an error and retries later.
pub const PUBLISH_ATTEMPTS_MAX: u32 = 5;
/// First back-off between two attempts. It doubles each time, and the actual wait is random between
/// half and all of it.
const BACKOFF: Duration = Duration::from_millis(100);

/// Makes every object of a committed epoch visible, with its repairs, [`PUBLISH_PARALLEL_MAX`] at a
/// time. `role`: that of the sink. Idempotent.
pub(super) async fn publish(
    storages: &Storages,
    role: Option<&AssumedRole>,
    epoch: &Committed<'_>,
) -> Result<(), PublishError> {
    let Committed { manifest, repairs } = epoch;
    let pair = |object: ManifestObject| {
        let storage = storages.for_staged(role, &object.staged);
        (storage, object.staged)
    };
    let objects = objects_after(manifest, repairs).into_iter().map(pair);
    publish_all(objects.collect(), &manifest.job, manifest.epoch).await
}

/// Publishes objects, each with its storage. A lost object does not block the others.
async fn publish_all(
    pairs: Vec<(Arc<dyn Storage>, StagedObject)>,
    job: &JobName,
    epoch: Epoch,
) -> Result<(), PublishError> {
    let objects: Vec<BoxFuture<'static, _>> = pairs.into_iter().map(publish_or_lose).collect();
    let published = stream::iter(objects)
        .buffer_unordered(PUBLISH_PARALLEL_MAX)
        .try_collect::<Vec<_>>()
        .await;
    let job = job.clone();
    let mut lost: Vec<String> = match published {
        Ok(outcomes) => outcomes.into_iter().flatten().collect(),
        Err(source) => return Err(PublishError::Later { job, epoch, source }),
    };
    lost.sort();
    if lost.is_empty() {
        Ok(())
    } else {
        Err(PublishError::Lost { job, epoch, lost })
    }
}

/// Returns the location if the object is lost.
fn publish_or_lose(
    (storage, staged): (Arc<dyn Storage>, StagedObject),
) -> BoxFuture<'static, Result<Option<String>, StorageError>> {
    Box::pin(async move {
        match publish_object(&*storage, &staged).await {
            Ok(()) => Ok(None),
            Err(StorageError::StagedLost { location }) => Ok(Some(location)),
            Err(error) => Err(error),
        }
    })
}

/// Makes one object visible, with retries.
pub(super) async fn publish_object(
    storage: &dyn Storage,
    object: &StagedObject,
) -> Result<(), StorageError> {
    let mut backoff = BACKOFF;
    for _attempt in 1..PUBLISH_ATTEMPTS_MAX {
        match storage.publish(object).await {
            Err(StorageError::Unavailable { reason, .. }) => {
                tracing::debug!(
                    location = object.location,
                    reason,
                    "not published this time"
                );
                tokio::time::sleep(backoff.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                backoff *= 2;
            }
            done => return done,
        }
    }
    storage.publish(object).await
}

/// How many objects of a committed epoch are checked to see whether any was published: publishing
/// goes in this order, and no later one begins before one of this many is done.
const INSPECTED_MAX: usize = PUBLISH_PARALLEL_MAX;

/// Whether an object of an epoch is visible.
pub(super) async fn is_visible(
    storages: &Storages,
    role: Option<&AssumedRole>,
    manifest: &Manifest,
) -> Result<bool, StorageError> {
    for object in manifest.objects.iter().take(INSPECTED_MAX) {
        let staged = &object.staged;
        match storages
            .for_staged(role, staged)
            .inspect(&staged.location, Look::Cheaply)
            .await
        {
            Ok(found)
                if found.size == staged.size
                    && found.crc32c.is_none_or(|crc32c| crc32c == staged.crc32c) =>
            {
                return Ok(true);
            }
            Ok(_) | Err(StorageError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
