//! Stories of a job's retention: when its anchor moves, and what holds it.

use super::*;
use crate::stored::Anchors;
use streamctl_proto::spec::Keep;
use streamctl_proto::{DeadLetterShard, ManifestRef};

const KEEP_MS: i64 = 16 * WINDOW_MS;

/// A job that keeps 16 windows.
fn kept_shortly() -> ResolvedJob {
    let mut job = kinesis();
    job.submitted_ms = BEGIN_MS;
    job.spec.keep = Keep::For(std::time::Duration::from_millis(KEEP_MS as u64));
    job
}

/// Commits these windows, one per window's time. Not published unless `publishes`.
fn commits(story: &mut Story, windows: std::ops::Range<i64>, publishes: bool) {
    for n in windows {
        story.after(WINDOW_MS);
        story.asks("a", n);
        story.reports(n, &format!("a {}..{}", n * 5, n * 5 + 5));
        story.is_past("a", n + 1);
        if publishes {
            story.store_works();
        } else {
            story.store_commits();
        }
    }
}

fn after(windows: i64) -> Story {
    let mut story = Story::running(kept_shortly(), "a", "w1");
    commits(&mut story, 0..windows, true);
    story
}

fn first_kept(story: &Story) -> u64 {
    story.job().retention.stored.first_kept().0
}

#[test]
fn old_epochs_are_removed_once_the_store_holds_the_anchor() {
    let young = after(14);
    assert_eq!((first_kept(&young), young.manifests.len()), (1, 14));
    let old = after(30);
    let first = first_kept(&old);
    assert!((12..=16).contains(&first), "{first}");
    assert_eq!(old.manifests.first().map(|it| it.epoch.0), Some(first));
}

#[test]
fn a_trim_waits_for_the_store_and_names_what_it_holds() {
    let mut story = after(15);
    let (recorded, anchor) = loop {
        story.after(100);
        let Some(effect) = story.store.pop() else {
            continue;
        };
        match &effect {
            Effect::RecordAnchors { anchors, .. } if anchors.anchor().is_some() => {
                let anchor = anchors.anchor().cloned();
                break (effect, anchor.unwrap());
            }
            Effect::Trim { .. } => panic!("no anchor is stored"),
            _ => _ = story.store_does(effect),
        }
    };
    let next = story.store_does(recorded);
    let trims =
        |effect: &Effect| matches!(effect, Effect::Trim { anchor: it, .. } if *it == anchor);
    assert!(next.iter().any(trims), "{next:?}");
}

#[test]
fn what_is_not_published_holds_the_anchor() {
    let mut story = after(3);
    commits(&mut story, 3..11, false);
    story.after(100 * KEEP_MS);
    story.store_commits();
    assert!(first_kept(&story) <= 3, "{}", first_kept(&story));
    story.store_works();
    story.after(2_000);
    story.store_works();
    assert!(first_kept(&story) > 3);
}

#[test]
fn dead_letters_that_wait_for_a_replay_hold_the_anchor_and_no_later_request_is_for_what_is_gone() {
    let mut story = after(4);
    let letters = |epoch: u64| {
        let reference = ManifestRef {
            epoch: Epoch(epoch),
            name: String::new(),
            digest: "0123456789abcdef".repeat(4),
        };
        WantedReplay {
            since: Epoch(epoch),
            letters: DeadLetterShard::of(&reference),
        }
    };
    let replay = |story: &mut Story, epoch: u64| {
        let job = story.name();
        let epochs = vec![letters(epoch)];
        story.tell(Event::Job {
            job,
            event: JobEvent::ReplayRequested { epochs },
        });
        story.store_works();
    };
    replay(&mut story, 2);
    story.after(100 * KEEP_MS);
    story.store_works();
    assert!(first_kept(&story) <= 2);

    let mut old = after(30);
    replay(&mut old, 2);
    assert!(old.job().replays.now.wanted.is_empty(), "epoch 2 is gone");
}

#[test]
fn a_new_leader_goes_on_removing_and_an_unreadable_or_deleted_job_is_left_alone() {
    let story = after(30);
    let mut next = story.next_leader(2);
    next.after(10_000);
    let trims = |story: &Story| {
        story
            .store
            .iter()
            .any(|effect| matches!(effect, Effect::Trim { .. }))
    };
    assert!(trims(&next), "it does not know what is removed already");
    assert_eq!(next.job().retention.stored, story.job().retention.stored);
}

#[test]
fn forever_removes_nothing_and_writes_nothing() {
    let mut job = kept_shortly();
    job.spec.keep = Keep::Forever;
    let mut story = Story::running(job, "a", "w1");
    commits(&mut story, 0..30, true);
    assert_eq!(story.manifests.len(), 30);
    assert_eq!(story.job().retention.stored, Anchors::of(BEGIN_MS));
}
