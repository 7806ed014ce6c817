//! From which epoch on the history of a job is kept.
//!
//! Owns: the stored form, and when the anchor moves. Does not own: what still needs an old epoch
//! (`retention`), removing what lies before it (the driver).
//! Rule: an anchor was the head of its job once, so the store itself has proven it; no walk has to.
//! It moves only forward.

use serde::{Deserialize, Serialize};
use streamctl_proto::{Epoch, ManifestRef};

/// Heads that are remembered to become the anchor: about 10 KiB of JSON.
pub const WAYPOINTS_MAX: usize = 32;
/// So many heads are remembered per `keep`: history is kept up to a sixteenth longer.
const WAYPOINTS_PER_KEEP: i64 = 16;

/// A head at some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waypoint {
    pub head: ManifestRef,
    /// When it was the head.
    pub at_ms: i64,
}

/// What a store holds of a job's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchors {
    /// When the job was submitted first. A job that was deleted may have a successor with its name.
    pub submitted_ms: i64,
    /// The first epoch that is kept; `None`: all are. What lies before may be gone already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Waypoint>,
    /// Later heads that may become the anchor, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waypoints: Vec<Waypoint>,
}

impl Anchors {
    /// Nothing was removed yet of a job that was submitted then.
    pub fn of(submitted_ms: i64) -> Self {
        Self {
            submitted_ms,
            ..Self::default()
        }
    }

    pub fn anchor(&self) -> Option<&ManifestRef> {
        self.anchor.as_ref().map(|anchor| &anchor.head)
    }

    /// The first epoch that is kept.
    pub fn first_kept(&self) -> Epoch {
        self.anchor().map_or(Epoch(1), |anchor| anchor.epoch)
    }

    /// These anchors, if they belong to the job that was submitted then and has this head.
    pub fn if_of(self, submitted_ms: i64, head: Option<&ManifestRef>) -> Self {
        let head = head.map_or(Epoch(0), |head| head.epoch);
        let anchor = self.anchor().map_or(Epoch(0), |anchor| anchor.epoch);
        if self.submitted_ms != submitted_ms || anchor > head {
            return Self::of(submitted_ms);
        }
        let mut fit = self;
        fit.waypoints.retain(|waypoint| waypoint.head.epoch <= head);
        fit
    }

    /// What to hold now. `needed`: the first epoch that something still needs.
    pub fn next(
        &self,
        now_ms: i64,
        keep_ms: i64,
        head: Option<&ManifestRef>,
        needed: Epoch,
    ) -> Option<Self> {
        let is_old = |waypoint: &Waypoint| now_ms.saturating_sub(waypoint.at_ms) >= keep_ms;
        let passed = self
            .waypoints
            .iter()
            .take_while(|waypoint| is_old(waypoint) && waypoint.head.epoch <= needed)
            .count();
        let mut next = self.clone();
        if let Some(anchor) = next.waypoints.drain(..passed).next_back() {
            next.anchor = Some(anchor);
        }
        let last = next.waypoints.last().or(next.anchor.as_ref());
        let since_ms = last.map_or(self.submitted_ms, |last| last.at_ms);
        let is_due = now_ms.saturating_sub(since_ms) >= keep_ms / WAYPOINTS_PER_KEEP;
        let is_later = |head: &&ManifestRef| last.is_none_or(|last| last.head.epoch < head.epoch);
        if let Some(head) = head.filter(is_later)
            && is_due
            && next.waypoints.len() < WAYPOINTS_MAX
        {
            next.waypoints.push(Waypoint {
                head: head.clone(),
                at_ms: now_ms,
            });
        }
        (next != *self).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_MS: i64 = 1_600;

    fn head(epoch: u64) -> ManifestRef {
        ManifestRef {
            epoch: Epoch(epoch),
            name: format!("j/epochs/{epoch}"),
            digest: "d".into(),
        }
    }

    /// Anchors after a head per 100 ms from epoch 1 on.
    fn after(ms: std::ops::RangeInclusive<i64>, anchors: Anchors, needed: u64) -> Anchors {
        let mut all = anchors;
        for now_ms in ms.filter(|ms| ms % 100 == 0) {
            let head = head(now_ms as u64 / 100);
            if let Some(next) = all.next(now_ms, KEEP_MS, Some(&head), Epoch(needed)) {
                all = next;
            }
        }
        all
    }

    #[test]
    fn an_anchor_is_a_head_as_old_as_the_history_that_is_kept() {
        let young = after(100..=1_600, Anchors::of(0), u64::MAX);
        assert_eq!((young.first_kept(), young.waypoints.len()), (Epoch(1), 16));
        let old = after(1_700..=5_000, young, u64::MAX);
        assert_eq!(old.first_kept(), Epoch(34));
        assert!(old.waypoints.len() <= 17);
    }

    #[test]
    fn an_epoch_that_is_needed_holds_the_anchor_and_the_waypoints_stay_bounded() {
        let held = after(100..=60_000, Anchors::of(0), 7);
        assert_eq!(held.first_kept(), Epoch(7));
        assert_eq!(held.waypoints.len(), WAYPOINTS_MAX);
        let free = after(60_100..=64_000, held, u64::MAX);
        assert!(free.first_kept() > Epoch(600), "{:?}", free.anchor);
    }

    #[test]
    fn an_idle_job_writes_nothing_more_and_keeps_its_head() {
        let mut anchors = after(100..=1_000, Anchors::of(0), u64::MAX);
        let last = head(10);
        while let Some(next) = anchors.next(i64::MAX, KEEP_MS, Some(&last), Epoch(10)) {
            anchors = next;
        }
        assert_eq!(anchors.anchor(), Some(&last));
        assert_eq!(anchors.waypoints, []);
    }

    #[test]
    fn what_another_job_left_is_not_used() {
        let left = after(100..=5_000, Anchors::of(0), u64::MAX);
        assert_eq!(left.clone().if_of(0, Some(&head(50))), left);
        assert_eq!(left.clone().if_of(1, Some(&head(50))), Anchors::of(1));
        assert_eq!(
            left.if_of(0, Some(&head(2))),
            Anchors::of(0),
            "another history"
        );
    }

    #[test]
    fn the_stored_form_stays_as_it_is() {
        let text = r#"{"submitted_ms":5,"anchor":{"head":{"epoch":2,"name":"j/epochs/2","digest":"d"},"at_ms":7},"waypoints":[{"head":{"epoch":3,"name":"j/epochs/3","digest":"d"},"at_ms":9}]}"#;
        let at = |epoch, at_ms| Waypoint {
            head: head(epoch),
            at_ms,
        };
        let anchors = Anchors {
            submitted_ms: 5,
            anchor: Some(at(2, 7)),
            waypoints: vec![at(3, 9)],
        };
        assert_eq!(serde_json::to_string(&anchors).unwrap(), text);
        assert_eq!(serde_json::from_str::<Anchors>(text).unwrap(), anchors);
        let least: Anchors = serde_json::from_str(r#"{"submitted_ms":5}"#).unwrap();
        assert_eq!(least, Anchors::of(5));
    }
}
