//! Whether each object of a published epoch exists, with its size and checksum.
//!
//! Owns: checking objects, with limited parallelism. Does not own: objects that no manifest names
//! (`strays`).
//! Rule: a checksum that the storage keeps is trusted if it matches; before an object is reported
//! as damaged, it is read.

use super::finding::{Finding, Kind};
use crate::sink::Committer;
use futures::stream::{self, StreamExt as _};
use std::sync::Arc;
use streamctl_engine::storage::{Inspected, Look, StorageError};
use streamctl_proto::StagedObject;
use streamctl_proto::describe;

/// Objects that are checked at the same time.
pub const INSPECT_PARALLEL_MAX: usize = 32;
/// Objects that are collected before they are checked together: small epochs have one or two each.
pub const INSPECT_BATCH: usize = 1_024;

pub struct Objects {
    committer: Arc<dyn Committer>,
    inspect_all: Look,
    /// The last epoch whose objects must be visible.
    published: u64,
    waiting: Vec<(u64, StagedObject)>,
    pub seen: u64,
    pub bytes: u64,
    /// How many of these were read.
    pub read: u64,
}

impl Objects {
    /// `deep`: every object is read.
    pub fn new(committer: Arc<dyn Committer>, published: u64, deep: bool) -> Self {
        let inspect_all = if deep { Look::AtContent } else { Look::Cheaply };
        Self {
            committer,
            inspect_all,
            published,
            waiting: vec![],
            seen: 0,
            bytes: 0,
            read: 0,
        }
    }

    /// Adds an object of an epoch, to be checked later.
    pub fn add(&mut self, epoch: u64, object: StagedObject) {
        self.waiting.push((epoch, object));
    }

    pub fn is_full(&self) -> bool {
        self.waiting.len() >= INSPECT_BATCH
    }

    /// Checks all collected objects.
    pub async fn inspect_all(&mut self) -> Vec<Finding> {
        let committer = &*self.committer;
        let inspect_all = self.inspect_all;
        let published = self.published;
        let looks =
            std::mem::take(&mut self.waiting)
                .into_iter()
                .map(|(epoch, object)| async move {
                    let inspected = inspect(committer, &object, inspect_all).await;
                    let finding = judge(epoch, &object, &inspected, published);
                    (inspected.ok(), finding)
                });
        let looked: Vec<_> = stream::iter(looks)
            .buffered(INSPECT_PARALLEL_MAX)
            .collect()
            .await;
        let mut found = vec![];
        for (inspected, finding) in looked {
            if let Some(Inspected { size, read, .. }) = inspected {
                self.seen += 1;
                self.bytes += size;
                self.read += u64::from(read);
            }
            found.extend(finding);
        }
        found
    }
}

async fn inspect(
    committer: &dyn Committer,
    object: &StagedObject,
    inspect_all: Look,
) -> Result<Inspected, StorageError> {
    let inspected = committer.inspect(object, inspect_all).await?;
    let doubtful =
        inspected.size == object.size && inspected.crc32c.is_some_and(|kept| kept != object.crc32c);
    // Some servers keep another checksum under that name.
    if doubtful && !inspected.read {
        committer.inspect(object, Look::AtContent).await
    } else {
        Ok(inspected)
    }
}

fn judge(
    epoch: u64,
    object: &StagedObject,
    inspected: &Result<Inspected, StorageError>,
    published: u64,
) -> Option<Finding> {
    let finding = |kind, text: String| Some(Finding::new(kind, epoch, &object.location, text));
    match inspected {
        Err(StorageError::NotFound { .. }) if epoch > published => finding(
            Kind::ObjectWaiting,
            "its epoch is committed and not published yet".to_owned(),
        ),
        Err(StorageError::NotFound { .. }) => finding(
            Kind::ObjectMissing,
            format!("it is not there; it had {} bytes", object.size),
        ),
        Err(error) => finding(Kind::NotChecked, describe(error)),
        Ok(found) if found.size != object.size => finding(
            Kind::ObjectSize,
            format!(
                "it has {} bytes, committed were {}",
                found.size, object.size
            ),
        ),
        Ok(Inspected {
            crc32c: Some(crc32c),
            ..
        }) if *crc32c != object.crc32c => {
            let text = format!(
                "its content has CRC-32C {crc32c:08x}, committed was {:08x}",
                object.crc32c
            );
            finding(Kind::ObjectChecksum, text)
        }
        Ok(Inspected { crc32c: None, .. }) => {
            let text = "the storage keeps no checksum of it, and it is too large to be read without `--deep`";
            finding(Kind::NotChecked, text.to_owned())
        }
        Ok(_) => None,
    }
}
