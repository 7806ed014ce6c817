//! Every invariant is broken by hand once, and detected.

use super::*;
use crate::invariants::{check, check_step};
use crate::stored::Waypoint;
use streamctl_proto::ManifestRef;

fn named(core: &Core) -> &'static str {
    check(core).expect_err("the state is broken").rule
}

/// Two shards of two tasks, window 0 reported by both and being committed.
fn good() -> Story {
    let mut story = Story::running(bounded(), "a b", "w1 w2");
    for id in ["a", "b"] {
        story.asks(id, 0);
        story.reports(0, &format!("{id} 0..5"));
        story.is_past(id, 1);
    }
    assert!(story.job().committing.is_some());
    story
}

fn broken(change: impl FnOnce(&mut Job)) -> Core {
    let mut core = good().core;
    change(core.jobs.values_mut().next().unwrap());
    core
}

#[test]
fn i1_is_broken_by_a_shard_in_two_tasks() {
    let core = broken(|job| {
        let id = TaskId {
            term: Term(1),
            counter: 9,
        };
        let both = job.shards.keys().cloned().collect();
        job.add_task(0, id, worker("w1"), both, None);
    });
    assert_eq!(named(&core), "I1");
}

#[test]
fn i1_is_broken_by_a_shard_whose_task_is_no_more() {
    let core = broken(|job| job.tasks.clear());
    assert_eq!(named(&core), "I1");
}

#[test]
fn i2_is_broken_by_a_gap_between_reports() {
    let core = broken(|job| {
        let open = job.windows.values_mut().next().unwrap();
        for range in open.reports[0].ranges.values_mut() {
            range.from = at(1);
        }
    });
    assert_eq!(named(&core), "I2");
}

#[test]
fn i2_is_broken_by_a_shard_that_reached_more_than_was_reported() {
    let core = broken(|job| job.shards.values_mut().next().unwrap().reached = at(6));
    assert_eq!(named(&core), "I2");
}

#[test]
fn i2_is_broken_by_an_epoch_that_is_left_out() {
    let before = good().core;
    let mut after = before.clone();
    let job = after.jobs.values_mut().next().unwrap();
    job.head = Some(testing::head(2));
    assert_eq!(check_step(&before, &after).unwrap_err().rule, "I2");
}

#[test]
fn i3_is_broken_by_a_position_that_goes_back() {
    let mut story = good();
    story.store_works();
    let before = story.core.clone();
    story
        .core
        .jobs
        .values_mut()
        .next()
        .unwrap()
        .shards
        .values_mut()
        .next()
        .unwrap()
        .committed = at(4);
    assert_eq!(check_step(&before, &story.core).unwrap_err().rule, "I3");
}

#[test]
fn i4_is_broken_by_a_commit_that_a_shard_is_not_past() {
    let core = broken(|job| {
        job.tasks.values_mut().next().unwrap().watermark = Watermark::At(0);
        job.shards.values_mut().next().unwrap().floor = Watermark::At(0);
    });
    assert_eq!(named(&core), "I4");
}

#[test]
fn i5_is_broken_by_a_child_that_is_read_before_its_parents_end() {
    let core = broken(|job| job.shards.get_mut(&shard("b")).unwrap().parents = vec![shard("a")]);
    assert_eq!(named(&core), "I5");
}

#[test]
fn i5_is_broken_by_an_epoch_with_a_child_and_not_its_parents_end() {
    let core = broken(|job| {
        let manifest = &mut job.committing.as_mut().unwrap().manifest;
        manifest.frontier.get_mut(&shard("b")).unwrap().parents = vec![shard("a")];
    });
    assert_eq!(named(&core), "I5");
}

#[test]
fn i6_is_broken_by_a_task_of_a_term_that_is_still_to_come() {
    let core = broken(|job| {
        let (id, task) = job.tasks.pop_first().unwrap();
        let later = TaskId {
            term: Term(2),
            counter: 1,
        };
        for shard in job
            .shards
            .values_mut()
            .filter(|shard| shard.task == Some(id))
        {
            shard.task = Some(later);
        }
        job.tasks.insert(later, task);
    });
    assert_eq!(named(&core), "I6");
}

#[test]
fn i7_is_broken_by_windows_without_end() {
    let core = broken(|job| {
        job.windows
            .extend((1..999).map(|n| (w(n), job::OpenWindow::default())))
    });
    assert_eq!(named(&core), "I7");
}

#[test]
fn i7_is_broken_by_epochs_that_pile_up_unpublished() {
    let core = broken(|job| {
        let manifest = job.committing.as_ref().unwrap().manifest.clone();
        job.publishing
            .extend(std::iter::repeat_n(manifest, job::PUBLISH_BACKLOG_MAX + 1));
    });
    assert_eq!(named(&core), "I7");
}

#[test]
fn i9_is_broken_by_a_task_or_an_epoch_of_another_version() {
    let task = broken(|job| job.tasks.values_mut().next().unwrap().job_version = JobVersion(2));
    let epoch = broken(|job| {
        let committing = job.committing.as_mut().unwrap();
        committing.manifest.made_by.as_mut().unwrap().job_version = JobVersion(2);
    });
    assert_eq!((named(&task), named(&epoch)), ("I9", "I9"));
}

#[test]
fn i9_is_broken_by_a_version_that_keeps_something_of_the_one_before() {
    let before = good().core;
    for to in [JobVersion(2), JobVersion(3)] {
        let mut after = before.clone();
        let job = after.jobs.values_mut().next().unwrap();
        job.resolved.job_version = to;
        assert_eq!(
            check_step(&before, &after)
                .expect_err("it has its tasks")
                .rule,
            "I9"
        );
    }
}

#[test]
fn i11_is_broken_by_an_anchor_past_what_is_published_and_by_one_that_goes_back() {
    let anchor = || {
        let head = ManifestRef {
            epoch: Epoch(9),
            name: String::new(),
            digest: String::new(),
        };
        Some(Waypoint { head, at_ms: 0 })
    };
    let cut = broken(|job| job.retention.now.anchor = anchor());
    assert_eq!(named(&cut), "I11");
    let later = broken(|job| job.retention.stored.anchor = anchor());
    let back = check_step(&later, &good().core).expect_err("it went back");
    assert_eq!(back.rule, "I11");
}
