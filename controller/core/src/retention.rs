//! How much of a job's history is kept.
//!
//! Owns: which epochs are still needed, when the anchor moves, when what lies before it is removed.
//! Does not own: where the anchor stands (`stored::Anchors`), the removal (the driver).
//! Rule: nothing is removed before the store holds the anchor, and nothing at or after the anchor is
//! removed. An epoch that is unpublished, or whose dead letters wait for a replay, holds the anchor.

use super::Effect;
use super::job::{Job, RetentionState};
use super::journal::Kind;
use super::step::Step;
use crate::stored::{Anchors, DesiredState, WantedReplay};
use streamctl_proto::{DeadLetterShard, Epoch};

/// Time between two decisions about the anchor of a job.
const CHECK_INTERVAL_MS: i64 = 1_000;
/// Time between two removals of a job while more is left: with
/// [`TRIM_OBJECTS_MAX`](crate::effect::TRIM_OBJECTS_MAX) it bounds their rate.
const TRIM_INTERVAL_MS: i64 = 10_000;

impl Job {
    /// Restores what the store holds.
    pub(super) fn restore_retention(&mut self, stored: Anchors) {
        let stored = stored.if_of(self.resolved.submitted_ms, self.head.as_ref());
        self.retention = RetentionState::new(stored);
    }

    /// The first epoch that something needs.
    fn needed(&self) -> Epoch {
        let replays = &self.replays;
        let waits = |wanted: &WantedReplay| wanted.letters.epoch();
        let wanted = replays.now.wanted.iter().map(waits);
        let stored = replays.stored.wanted.iter().map(waits);
        let read = self.shards.keys().filter_map(DeadLetterShard::parse);
        wanted
            .chain(stored)
            .chain(read.map(|letters| letters.epoch()))
            .min()
            .map_or(self.published, |first| first.min(self.published))
    }

    /// Moves the anchor, and has removed what lies before it.
    pub(super) fn keep_epochs(&mut self, step: &mut Step<'_>) {
        let is_unsure = self.unreadable.is_some() || self.wanted == DesiredState::Deleted;
        if step.adopting || is_unsure {
            return;
        }
        self.move_anchor(step.now);
        self.record_anchors(step.out);
        self.trim_when_due(step);
    }

    fn move_anchor(&mut self, now_ms: i64) {
        let waits = self
            .retention
            .check_at_ms
            .is_some_and(|at_ms| now_ms < at_ms);
        let Some(keep_ms) = self.resolved.spec.keep.ms() else {
            return;
        };
        if waits || self.retention.recording {
            return;
        }
        self.retention.check_at_ms = Some(now_ms.saturating_add(CHECK_INTERVAL_MS));
        let head = self.head.as_ref();
        let next = self
            .retention
            .now
            .next(now_ms, keep_ms, head, self.needed());
        if let Some(next) = next {
            self.retention.now = next;
        }
    }

    fn record_anchors(&mut self, out: &mut Vec<Effect>) {
        if self.retention.recording || self.retention.now == self.retention.stored {
            return;
        }
        self.retention.recording = true;
        out.push(Effect::RecordAnchors {
            job: self.name().clone(),
            anchors: self.retention.now.clone(),
        });
    }

    /// The store holds these anchors.
    pub(super) fn anchors_recorded(&mut self, now_ms: i64, anchors: Anchors) {
        self.retention.recording = false;
        if anchors.anchor != self.retention.stored.anchor {
            self.retention.trim_at_ms = Some(now_ms);
            let text = format!(
                "epochs before {} are removed: keep is {}",
                anchors.first_kept(),
                self.resolved.spec.keep.text()
            );
            self.note(Kind::HistoryCut, "", text);
        }
        self.retention.stored = anchors;
    }

    fn trim_when_due(&mut self, step: &mut Step<'_>) {
        let is_due = self.retention.trim_at_ms.is_some_and(|at| step.now >= at);
        let Some(anchor) = self.retention.stored.anchor().filter(|_| is_due) else {
            return;
        };
        if self.retention.trimming {
            return;
        }
        let anchor = anchor.clone();
        self.retention.trimming = true;
        self.retention.trim_at_ms = None;
        step.out.push(Effect::Trim {
            job: self.name().clone(),
            anchor,
        });
    }

    /// Some of what lay before an anchor is removed.
    pub(super) fn trimmed(&mut self, now_ms: i64, is_more_left: bool) {
        self.retention.trimming = false;
        if is_more_left {
            let again_at_ms = now_ms.saturating_add(TRIM_INTERVAL_MS);
            self.retention.trim_at_ms.get_or_insert(again_at_ms);
        }
    }

    /// Drops requested replays of epochs that may be gone: the anchor moved past them since their
    /// request was made.
    pub(super) fn retain_kept(&self, epochs: Vec<WantedReplay>) -> Vec<WantedReplay> {
        let first = self.retention.now.first_kept();
        let is_kept = |wanted: &WantedReplay| wanted.letters.epoch() >= first;
        epochs.into_iter().filter(is_kept).collect()
    }
}
