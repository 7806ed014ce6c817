//! Manifests of a walk, read before the walk needs them.
//!
//! Owns: which manifests are read ahead, and how many. Does not own: the walk, and which manifest is
//! the committed one (`run`).
//! Rule: nothing that was read ahead is believed: it is used only if its digest is the one that its
//! successor, or the store, names. Otherwise it is read again, alone.

use crate::checkpoints::{CheckpointError, Checkpoints};
use std::collections::{BTreeMap, VecDeque};
use streamctl_proto::{Epoch, Manifest, ManifestRef};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Manifests that are read at the same time, or wait for the walk.
pub const READ_AHEAD_MAX: usize = 64;
/// Their size together; one manifest may be larger.
pub const READ_AHEAD_BYTES_MAX: u64 = 64 << 20;

/// A manifest that is being read, or was.
struct Pending {
    epoch: Epoch,
    size: u64,
    read: oneshot::Receiver<Option<(ManifestRef, Manifest)>>,
}

/// Reads the manifests before an epoch ahead of a walk back.
pub struct Ahead {
    checkpoints: Checkpoints,
    /// Manifests that are not being read yet, of epochs that have only one.
    left: BTreeMap<Epoch, (String, u64)>,
    pending: VecDeque<Pending>,
    /// Ends the reads when the walk ends.
    reads: JoinSet<()>,
}

impl Ahead {
    /// Reads ahead of a walk over these epochs. If the folder cannot be listed, nothing is read
    /// ahead.
    pub async fn new(checkpoints: &Checkpoints, epochs: std::ops::RangeInclusive<u64>) -> Self {
        let listed = checkpoints
            .list_sizes(epochs)
            .await
            .unwrap_or_else(|error| {
                tracing::debug!(%error, "manifests are read one by one");
                BTreeMap::new()
            });
        let only = |(epoch, all): (Epoch, Vec<(String, u64)>)| {
            let [one] = <[_; 1]>::try_from(all).ok()?;
            Some((epoch, one))
        };
        Self {
            checkpoints: checkpoints.clone(),
            left: listed.into_iter().filter_map(only).collect(),
            pending: VecDeque::new(),
            reads: JoinSet::new(),
        }
    }

    /// The manifest that `reference` names.
    ///
    /// # Errors
    /// As [`Checkpoints::read_manifest`].
    pub async fn read(&mut self, reference: &ManifestRef) -> Result<Manifest, CheckpointError> {
        while self
            .pending
            .front()
            .is_some_and(|first| first.epoch > reference.epoch)
        {
            self.pending.pop_front();
        }
        self.left.split_off(&reference.epoch.next());
        self.fill();
        let is_next = |first: &&Pending| first.epoch == reference.epoch;
        if self.pending.front().filter(is_next).is_some()
            && let Some(first) = self.pending.pop_front()
            && let Ok(Some((read, manifest))) = first.read.await
            && read == *reference
        {
            return Ok(manifest);
        }
        self.checkpoints.read_manifest(reference).await
    }

    /// Begins reads, the latest epochs first, as far as there is room.
    fn fill(&mut self) {
        while self.reads.try_join_next().is_some() {}
        let mut bytes: u64 = self.pending.iter().map(|pending| pending.size).sum();
        while self.pending.len() < READ_AHEAD_MAX
            && let Some(entry) = self.left.last_entry()
        {
            let size = entry.get().1;
            if !self.pending.is_empty() && bytes.saturating_add(size) > READ_AHEAD_BYTES_MAX {
                return;
            }
            bytes = bytes.saturating_add(size);
            let (epoch, (location, _)) = entry.remove_entry();
            let (sender, read) = oneshot::channel();
            let checkpoints = self.checkpoints.clone();
            self.reads.spawn(async move {
                let _walk_is_over = sender.send(checkpoints.read_named(epoch, &location).await);
            });
            self.pending.push_back(Pending { epoch, size, read });
        }
    }
}

#[cfg(test)]
mod tests;
