//! Whether the store has every epoch that was committed: compares its head with the manifests in
//! the checkpoint location.
//!
//! Owns: the decision, from facts. Does not own: reading manifests and objects (`load`),
//! moving the head.
//! Rule: pure. The existence of a manifest proves nothing: a leader writes it before it commits,
//! and may die in between. The manifest was committed if a manifest of the next epoch names it,
//! because that one was begun after the head had moved, or if something of it was published,
//! because that happens only after the commit.

use streamctl_core::job::PUBLISH_BACKLOG_MAX;
use streamctl_proto::{Epoch, Manifest, ManifestRef};

/// A manifest of an epoch after the head.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    pub reference: ManifestRef,
    pub manifest: Manifest,
    /// The evidence of its publication.
    pub published: Published,
}

/// The evidence of an epoch's publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Published {
    Nothing,
    /// Some of its objects are visible, with their size and checksum.
    Objects,
    /// It is noted as published as a whole.
    Noted,
}

impl Written {
    fn is_published(&self) -> bool {
        self.published != Published::Nothing
    }

    fn follows(&self, previous: Option<&ManifestRef>) -> bool {
        self.manifest.previous.as_ref() == previous
    }
}

/// The relation of a head to the manifests after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is no evidence that anything after it was committed.
    Current,
    /// Epochs after it were committed: the store is older than the checkpoint location.
    Behind,
    /// There are epochs after it that do not continue it: the store continued from an older copy of
    /// itself.
    Foreign,
}

/// Judges a head by the manifests of the next epoch, those of the epoch after that, and the highest
/// epoch that has one.
///
/// The last manifest of a leader that died before its commit is `next` without a successor and
/// without anything published: it is ignored. If the store lost the commit of such a manifest, with
/// nothing published, that is no loss either: its records are read again, and its staged objects
/// stay invisible.
pub fn judge(
    head: Option<&ManifestRef>,
    next: &[Written],
    after_next: &[Written],
    highest: Epoch,
) -> Standing {
    let is_named = |written: &Written| {
        after_next
            .iter()
            .any(|later| later.follows(Some(&written.reference)))
    };
    let mut continuing = next.iter().filter(|written| written.follows(head));
    if continuing.any(|written| written.is_published() || is_named(written)) {
        return Standing::Behind;
    }
    let goes_on = highest > epoch_of(head).next();
    if goes_on || next.iter().any(|written| !written.follows(head)) {
        Standing::Foreign
    } else {
        Standing::Current
    }
}

/// The epoch of a head; 0 without one.
pub fn epoch_of(head: Option<&ManifestRef>) -> Epoch {
    head.map_or(Epoch(0), |head| head.epoch)
}

/// The last committed manifest among those of the highest epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Last {
    /// This one; at least part of it was published.
    This(ManifestRef),
    /// None of them, as far as the evidence shows, but the one that they continue.
    Before(ManifestRef),
    /// It is undecided which of them was committed.
    Undecided,
}

/// Decides between manifests of the highest epoch. Two leaders may have written one each, with the
/// same objects: the second adopted the tasks of the first. If both hold the same ranges of the
/// same tasks, they are the same epoch, and either one works.
pub fn last_of(written: &[Written]) -> Last {
    let most = written
        .iter()
        .map(|written| written.published)
        .max()
        .unwrap_or(Published::Nothing);
    let mut best: Vec<&Written> = written
        .iter()
        .filter(|written| written.published == most)
        .collect();
    best.sort_by_key(|written| (written.manifest.term, written.reference.name.clone()));
    let Some(last) = best.last() else {
        return Last::Undecided;
    };
    if most == Published::Nothing {
        let same = best
            .iter()
            .all(|written| written.follows(last.manifest.previous.as_ref()));
        return match &last.manifest.previous {
            Some(previous) if same => Last::Before(previous.clone()),
            _ => Last::Undecided,
        };
    }
    let is_same = |written: &&Written| {
        let one = &written.manifest;
        let other = &last.manifest;
        one.parts == other.parts && one.objects == other.objects && one.previous == other.previous
    };
    if best.iter().all(is_same) {
        Last::This(last.reference.clone())
    } else {
        Last::Undecided
    }
}

/// Epochs up to this one were published when a manifest of this epoch was begun, because the
/// publish backlog is limited.
pub fn published_before(written: Epoch) -> Epoch {
    Epoch(written.0.saturating_sub(PUBLISH_BACKLOG_MAX as u64))
}

#[cfg(test)]
mod tests;
