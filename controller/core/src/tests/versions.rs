//! Stories of job changes: of a version that takes over, and of one that cannot.

use super::*;
use crate::versions::NoTakeOver;
use streamctl_proto::ResolvedJob;

/// The version after the running one, with this query.
fn next(story: &Story, query: &str) -> ResolvedJob {
    let mut next = story.job().resolved.clone();
    next.job_version = next.job_version.next();
    next.spec.sql = format!("SELECT {query} FROM source");
    (next.query_digest, next.spec_digest) = (format!("q-{query}"), format!("d-{query}"));
    next
}

fn sized(mut job: ResolvedJob, windows: i64) -> ResolvedJob {
    job.spec.window = WindowSize::from_ms(windows * WINDOW_MS).unwrap();
    job
}

impl Story {
    fn changes(&mut self, next: ResolvedJob) -> Vec<Effect> {
        self.tell(Event::change_requested(next))
    }

    fn version(&self) -> u64 {
        self.job().resolved.job_version.0
    }

    /// Which version made each epoch.
    fn made_by(&self) -> Vec<u64> {
        self.manifests
            .iter()
            .map(|manifest| manifest.job_version().0)
            .collect()
    }
}

/// Two shards; the first window is committed, the second reported, the third requested.
fn under_way() -> Story {
    let mut story = Story::running(kinesis(), "a b", "w1 w2");
    for n in 1_000..1_003 {
        story.asks("a", n);
    }
    story.reports(1_000, "a 0..5");
    story.reports(1_000, "b 0..3");
    story.is_past("a", 1_001);
    story.is_past("b", 1_001);
    story.store_works();
    story.reports(1_001, "a 5..7");
    assert_eq!(story.committed(), [1_000]);
    story
}

#[test]
fn a_version_takes_over_after_the_last_epoch_and_from_where_that_stands() {
    let mut story = under_way();
    let a = story.owner("a");
    let b = story.owner("b");
    let changed = next(&story, "id");
    let effects = story.changes(changed.clone());
    assert_eq!(
        (story.version(), cancelled(&effects, a.1)),
        (1, false),
        "nothing happens before the store knows"
    );
    let effects = story.store_works();
    assert!(
        cancelled(&effects, a.1) && cancelled(&effects, b.1),
        "{effects:?}"
    );
    assert_eq!(
        (story.version(), story.job().took_over_after),
        (2, Epoch(1))
    );
    assert_eq!(story.job().resolved.first_epoch(), Some(Epoch(2)));
    let begins = started(&effects);
    assert!(
        begins
            .iter()
            .any(|(_, shard, from, floor)| (shard.as_str(), from, *floor)
                == ("a", &at(5), Watermark::At(w(1_000).end_ms)))
    );
    assert!(
        begins
            .iter()
            .any(|(_, shard, from, _)| (shard.as_str(), from) == ("b", &at(3))),
        "{begins:?}"
    );

    // The next version reads again what the previous version reported for a window that no head
    // holds.
    let late = Event::reported(a.0, report(a.1, w(1_001), "a 5..7"));
    assert!(cancelled(&story.tell(late), a.1));
    story.reports(1_001, "a 5..8");
    story.is_past("a", 1_002);
    story.is_past("b", 1_002);
    story.store_works();
    assert_eq!(
        (story.committed(), story.made_by()),
        (vec![1_000, 1_001], vec![1, 2])
    );
    let made_by = story.manifests[1].made_by.clone().unwrap();
    assert_eq!(
        (made_by.spec_digest, &story.manifests[1].query_digest),
        (changed.spec_digest, &changed.query_digest)
    );
}

#[test]
fn an_epoch_on_its_way_is_the_last_of_its_version() {
    let mut story = under_way();
    story.is_past("a", 1_002);
    story.is_past("b", 1_002);
    assert!(story.job().committing.is_some());
    let effects = story.changes(next(&story, "id"));
    assert_eq!(effects, [], "it waits for the commit");
    story.store_works();
    assert_eq!(
        (story.version(), story.committed(), story.made_by()),
        (2, vec![1_000, 1_001], vec![1, 1])
    );
    assert_eq!(story.job().took_over_after, Epoch(2));
    assert_eq!(story.job().resolved.after_epoch, Some(Epoch(2)));
}

#[test]
fn while_a_version_is_being_stored_no_epoch_begins() {
    let mut story = under_way();
    story.changes(next(&story, "id"));
    assert!(
        matches!(story.store.as_slice(), [Effect::RecordVersion { .. }]),
        "{:?}",
        story.store
    );
    story.is_past("a", 1_002);
    story.is_past("b", 1_002);
    assert!(story.job().committing.is_none());
    let status = story.core.status(&story.name(), true).unwrap();
    assert!(
        status
            .waiting_on
            .iter()
            .any(|what| what.contains("version 2 of the job takes over")),
        "{status:?}"
    );
}

#[test]
fn a_leader_that_dies_before_the_store_knew_leaves_the_version_that_ran() {
    let mut story = under_way();
    story.changes(next(&story, "id"));
    let next = story.next_leader(2);
    assert_eq!((next.version(), next.job().changing.is_none()), (1, true));
}

#[test]
fn a_new_leader_adopts_no_task_of_an_earlier_version() {
    let mut story = under_way();
    let old = story.task("a");
    story.changes(next(&story, "id"));
    story.store_works();
    let mut leader = story.next_leader(2);
    let of_old = runs(old, "a 5..5");
    let effects = leader.joins("w1", vec![of_old.clone()]);
    assert!(cancelled(&effects, old), "{effects:?}");
    // A worker of the version that the store holds is adopted.
    let new = story.task("a");
    let mut leader = story.next_leader(3);
    leader.joins(
        "w1",
        vec![
            RunningTask {
                job_version: JobVersion(2),
                ..runs(new, "a 5..5")
            },
            of_old,
        ],
    );
    leader.after(2_000);
    assert_eq!(leader.job().tasks.keys().collect::<Vec<_>>(), [&new]);
}

#[test]
fn tasks_that_wait_for_adoption_go_with_the_version_that_they_are_of() {
    let mut story = under_way();
    let old = story.task("a");
    story.store_works();
    let mut leader = story.next_leader(2);
    leader.joins("w1", vec![runs(old, "a 5..5")]);
    leader.changes(next(&leader, "id"));
    let effects = leader.store_works();
    assert!(cancelled(&effects, old), "{effects:?}");
    leader.after(2_000);
    assert!(leader.job().tasks.keys().all(|id| *id != old));
}

#[test]
fn a_failed_job_continues_with_a_version_that_fixes_it() {
    let mut story = under_way();
    let owner = story.owner("a");
    story.task_ends(
        owner,
        TaskEnd::Fatal {
            error: "division by zero".into(),
            hint: "mend it".into(),
        },
    );
    story.store_works();
    assert!(matches!(story.job().wanted, DesiredState::Failed { .. }));
    story.changes(next(&story, "id"));
    let effects = story.store_works();
    assert_eq!(
        (story.version(), &story.job().wanted),
        (2, &DesiredState::Running)
    );
    assert!(effects.iter().any(|effect| matches!(
        effect,
        Effect::RecordWanted {
            wanted: DesiredState::Running,
            ..
        }
    )));
}

#[test]
fn a_drain_and_a_stop_are_taken_back_by_a_change() {
    for drain in [true, false] {
        let mut story = under_way();
        let job = story.name();
        story.tell(Event::Job {
            job,
            event: JobEvent::StopRequested { drain },
        });
        story.changes(next(&story, "id"));
        story.store_works();
        assert_eq!(
            (story.version(), &story.job().wanted),
            (2, &DesiredState::Running)
        );
    }
}

#[test]
fn windows_shrink_to_a_part_at_any_epoch_and_grow_only_where_both_end() {
    let mut story = under_way();
    let three = sized(next(&story, "id"), 3);
    // Window 1000 ends at 1001, which is no multiple of 3 windows; that of 1001 ends at 1002, which
    // is one.
    let refused = story.job().may_change(&three).unwrap_err();
    assert!(matches!(refused, NoTakeOver::Fields(_)), "{refused}");
    assert_eq!(story.changes(three.clone()), []);
    assert!(story.job().changing.is_none());
    story.is_past("a", 1_002);
    story.is_past("b", 1_002);
    assert!(
        story.job().may_change(&three).is_ok(),
        "the epoch on its way ends at a boundary of both"
    );
    story.changes(three);
    story.store_works();
    assert_eq!(
        (story.version(), story.shard("a").floor),
        (2, Watermark::At(1_002 * WINDOW_MS))
    );
    story.changes(sized(next(&story, "k"), 1));
    story.store_works();
    assert_eq!(story.version(), 3);
}

#[test]
fn ends_of_shards_that_no_head_holds_are_found_again_in_the_windows_of_the_next_version() {
    let mut story = under_way();
    story.shard_ends("a", 9, 1_002, &["c<a"]);
    assert!(story.shard("a").ended());
    story.changes(next(&story, "id"));
    let effects = story.store_works();
    assert!(!story.shard("a").ended());
    assert!(
        started(&effects).iter().all(|(_, shard, ..)| shard != "c"),
        "the child waits again (I5)"
    );
}

#[test]
fn what_was_found_out_for_the_version_before_is_not_taken_for_the_next_one() {
    let mut story = Story::running(with_lookup(kinesis()), "a", "w1");
    story.sees_lookup("old");
    story.asks("a", 1_000);
    let mut changed = next(&story, "id");
    changed.spec.lookups[0].path = Location::folder("/elsewhere");
    story.changes(changed);
    story.store_works();
    assert_eq!(story.job().lookups["country"].version, None);
    let late = LookupVersion::new("late");
    let job = story.name();
    let lookup = "country".to_owned();
    story.tell(Event::Job {
        job,
        event: JobEvent::LookupSeen {
            job_version: JobVersion(1),
            lookup,
            version: late,
            read: None,
        },
    });
    assert_eq!(
        story.job().lookups["country"].version,
        None,
        "it is another lookup"
    );
    story.sees_lookup("new");
    // An unchanged lookup is known.
    story.changes(next(&story, "k"));
    story.store_works();
    assert_eq!(
        story.job().lookups["country"].version,
        Some(LookupVersion::new("new"))
    );
}

#[test]
fn another_stream_a_stale_comparison_and_a_job_at_its_end_are_refused() {
    let mut story = under_way();
    let mut other = next(&story, "id");
    other.spec.checkpoint = Location::folder("/elsewhere");
    assert!(
        matches!(story.job().may_change(&other), Err(NoTakeOver::Fields(fields)) if fields.len() == 1)
    );
    let stale = next(&story, "id");
    story.changes(stale.clone());
    story.store_works();
    let moved = story.job().may_change(&stale);
    assert_eq!(moved, Err(NoTakeOver::Moved { is: JobVersion(2) }));
    assert_eq!(story.changes(stale), []);

    let mut story = Story::running(bounded(), "a", "w1");
    let task = story.owner("a");
    story.shard_ends("a", 0, 1_000, &[]);
    story.task_ends(task, TaskEnd::Completed);
    story.store_works();
    assert_eq!(story.job().wanted, DesiredState::Completed);
    assert_eq!(
        story.job().may_change(&next(&story, "id")),
        Err(NoTakeOver::Completed)
    );
}
