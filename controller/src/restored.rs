//! Whether the store knows every epoch that was committed: its head against the manifests in the
//! checkpoint location.
//!
//! Owns: the judgement, from facts. Does not own: reading manifests and objects ([`crate::load`]),
//! moving the head.
//! Rule: pure. A manifest that is there proves nothing by itself: a leader writes it before it
//! commits, and may die in between. It was committed if a manifest of the next epoch names it,
//! because that one was begun after the head had moved; or if something of it was published,
//! because that happens after the commit only.

use crate::core::job::PUBLISH_BACKLOG_MAX;
use streamctl_proto::{Epoch, Manifest, ManifestRef};

/// A manifest of an epoch after the head.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    pub reference: ManifestRef,
    pub manifest: Manifest,
    /// What shows of its publication.
    pub published: Published,
}

/// What shows of an epoch's publication.
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

/// How a head stands to the manifests after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing shows that anything after it was committed.
    Current,
    /// Epochs after it were committed: the store is older than the checkpoint location.
    Behind,
    /// There are epochs after it that do not continue it: the store went on from an older copy of
    /// itself.
    Foreign,
}

/// Judges a head by the manifests of the next epoch, those of the epoch after that, and the highest
/// epoch that has one.
///
/// The last manifest of a leader that died before its commit is `next` without a successor and
/// without anything published: it is passed over. Where the store lost the commit of such a one,
/// with nothing published, that is no loss either: its records are read again, and what it staged
/// stays invisible.
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
    /// This one, which was published, at least in part.
    This(ManifestRef),
    /// None of them as far as anything shows, but the one that they continue.
    Before(ManifestRef),
    /// They cannot be told apart.
    Undecided,
}

/// Decides between manifests of one epoch, the highest. Two leaders may have written one each, with
/// the same objects: the second took over the tasks of the first. Where both hold the same ranges
/// of the same tasks they are the same epoch, and either will do.
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

/// Epochs up to this one were published when a manifest of this epoch was begun: no more than so
/// many may wait.
pub fn published_before(written: Epoch) -> Epoch {
    Epoch(written.0.saturating_sub(PUBLISH_BACKLOG_MAX as u64))
}

#[cfg(test)]
mod tests;
