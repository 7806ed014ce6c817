//! Stories: what happens to one job, step by step.

use super::*;
use crate::deletion::NoDeletion;
use crate::effect::{HeadRepair, Unpublished};
use crate::event::Stuck;
use crate::job::PUBLISH_BACKLOG_MAX;
use crate::stored::{Repair, Repaired};
use crate::versions::NoTakeOver;
use streamctl_proto::ManifestRef;
use streamctl_proto::manifest::{EpochRepair, ManifestObject, objects_after};
use streamctl_proto::report::{ObjectKind, StagedObject, Staging, object_name};
use streamctl_proto::staged_name::Orphans;

const FROM_THE_START: Watermark = Watermark::Unknown;

#[test]
fn a_job_is_listed_assigned_reported_committed_and_published() {
    let mut story = Story::of(bounded());
    assert!(matches!(
        story.effects[..],
        [Effect::ListShards { generation: 1, .. }]
    ));
    story.joins("w1", vec![]);
    let given = started(&story.lists("a"));
    assert_eq!(
        given,
        [("w1".into(), "a".into(), Position::Start, FROM_THE_START)]
    );
    let opened = story.asks("a", 3);
    assert!(matches!(&opened[..], [Effect::OpenWindow { window, .. }] if *window == w(3)));
    story.reports(3, "a 0..5");
    assert!(story.store.is_empty(), "the shard is not past the window");
    story.is_past("a", 4);
    assert!(matches!(story.store[..], [Effect::WriteManifest { .. }]));
    let effects = story.store_works();
    assert!(
        effects.iter().any(
            |effect| matches!(effect, Effect::AnnounceCommit { window, .. } if *window == w(3))
        )
    );
    assert_eq!(
        (story.committed(), story.job().published),
        (vec![3], Epoch(1))
    );
    assert_eq!(story.manifests[0].frontier[&shard("a")].position, at(5));
}

#[test]
fn a_window_counts_its_tries_on_all_workers_until_it_is_committed() {
    let mut story = Story::running(bounded(), "a", "w1 w2");
    let attempt = |effects: &[Effect]| match effects {
        [Effect::OpenWindow { attempt, .. }] => *attempt,
        other => panic!("{other:?}"),
    };
    assert_eq!(attempt(&story.asks("a", 0)), 1);
    let (first, _) = story.owner("a");
    story.falls_silent(first.as_str());
    story.after(3_100);
    assert_ne!(story.owner("a").0, first);
    assert_eq!(attempt(&story.asks("a", 0)), 2);
    story.reports(0, "a 0..5");
    story.is_past("a", 1);
    story.store_works();
    assert_eq!(attempt(&story.asks("a", 1)), 1, "another window");
    assert!(
        story.job().tries.is_empty(),
        "what is committed is forgotten"
    );
}

#[test]
fn only_workers_that_had_a_task_of_a_job_are_notified_of_its_commits() {
    let mut story = Story::running(bounded(), "a", "w1 w2");
    let commit = |story: &mut Story, n: i64, range: &str| {
        story.asks("a", n);
        story.reports(n, range);
        story.is_past("a", n + 1);
        let mut heard = vec![];
        for effect in story.store_works() {
            if let Effect::AnnounceCommit { worker, .. } = effect {
                heard.push(worker);
            }
        }
        heard
    };
    let (first, _) = story.owner("a");
    assert_eq!(
        commit(&mut story, 0, "a 0..5"),
        std::slice::from_ref(&first)
    );
    // Its connection is open, and it may still hold a report that was refused.
    story.falls_silent(first.as_str());
    story.after(3_100);
    assert_ne!(story.owner("a").0, first);
    assert_eq!(
        commit(&mut story, 1, "a 5..7"),
        [worker("w1"), worker("w2")]
    );
}

#[test]
fn a_job_is_forgotten_when_it_has_ended_and_the_store_has_forgotten_it() {
    let mut story = Story::running(bounded(), "a", "w1");
    let name = story.name();
    let delete = || Event::Job {
        job: name.clone(),
        event: JobEvent::DeleteRequested { force: false },
    };
    story.asks("a", 0);
    story.reports(0, "a 0..5");
    assert!(story.tell(delete()).is_empty(), "it is running");
    let task = story.task("a");
    story.is_past("a", 1);
    story.tell(Event::Job {
        job: name.clone(),
        event: JobEvent::StopRequested { drain: false },
    });
    assert_eq!(
        story.job().closed_to_deletion(false),
        Some(NoDeletion::Unpublished)
    );
    assert!(story.tell(delete()).is_empty(), "an epoch is on its way");
    story.store_works();
    assert_eq!(
        (story.committed(), story.job().published),
        (vec![0], Epoch(1))
    );

    let reported = story.tell(delete());
    assert!(
        matches!(
            &reported[..],
            [Effect::RecordWanted {
                wanted: DesiredState::Deleted,
                ..
            }]
        ),
        "{reported:?}"
    );
    assert!(story.tell(delete()).is_empty(), "once is enough");
    assert!(
        story
            .tell(Event::Job {
                job: name.clone(),
                event: JobEvent::ResumeRequested
            })
            .is_empty(),
        "it is too late"
    );
    assert_eq!(story.job().closed_to_changes(), Some(NoTakeOver::Deleted));
    let next = story.next_leader(2);
    assert_eq!(
        next.job().epoch(),
        Epoch(1),
        "until the store has forgotten it, it is there"
    );

    story.store_works();
    assert!(story.core.jobs.is_empty());
    let answer = story.tell(Event::reported(worker("w1"), report(task, w(1), "a 5..9")));
    assert!(
        cancelled(&answer, task),
        "later messages about it do not count"
    );
    story.tell(Event::created(bounded()));
    assert_eq!(
        story.job().epoch(),
        Epoch(0),
        "the next of its name begins anew"
    );
}

#[test]
fn a_window_waits_for_the_task_that_is_behind() {
    let mut story = Story::running(bounded(), "a b", "w1 w2");
    story.asks("a", 0);
    story.reports(0, "a 0..5");
    story.is_past("a", 9);
    assert!(story.store.is_empty(), "b may still have records of it");
    story.asks("b", 0);
    story.reports(0, "b 0..2");
    story.is_past("b", 1);
    story.store_works();
    assert_eq!(story.committed(), [0]);
    assert_eq!(story.manifests[0].counts.rows_in, 7);
}

#[test]
fn a_late_report_of_a_lost_worker_is_refused() {
    let mut story = Story::running(bounded(), "a", "w1 w2");
    let (lost, task) = story.owner("a");
    story.falls_silent(lost.as_str());
    story.after(3_100);
    assert_ne!(story.owner("a").0, lost);
    let late = report(task, w(0), "a 0..5");
    let answer = story.tell(Event::reported(lost, late));
    assert!(cancelled(&answer, task));
    assert_eq!(story.shard("a").reached, at(0));
}

#[test]
fn a_stale_session_changes_nothing() {
    let mut story = Story::running(bounded(), "a", "w1");
    let stale = story.session("w1");
    let task = story.task("a");
    story.joins("w1", vec![runs(task, "a 0..0")]);
    story.tell(Event::Worker {
        worker: worker("w1"),
        session: stale,
        event: WorkerEvent::Disconnected,
    });
    story.tell(Event::Worker {
        worker: worker("w1"),
        session: stale,
        event: WorkerEvent::Leaving,
    });
    assert!(
        story.core.workers[&worker("w1")].connected && !story.core.workers[&worker("w1")].leaving
    );
    story.falls_silent("w1");
    for _ in 0..40 {
        story.after(100);
        story.tell(Event::Worker {
            worker: worker("w1"),
            session: stale,
            event: WorkerEvent::Heard {
                cpu_permille: None,
                memory_bytes: 1,
                busy_permille: None,
                clock_skew_ms: None,
            },
        });
    }
    assert!(
        story.job().tasks.is_empty(),
        "a stale heartbeat keeps nobody alive"
    );
}

#[test]
fn what_a_silent_worker_reported_survives_it() {
    let mut story = Story::running(bounded(), "a", "w1 w2");
    let (lost, _) = story.owner("a");
    story.asks("a", 0);
    story.reports(0, "a 0..5");
    story.falls_silent(lost.as_str());
    let given = started(&story.after(3_100));
    assert_eq!(given, [("w2".into(), "a".into(), at(5), Watermark::At(0))]);
    story.asks("a", 0);
    story.reports(0, "a 5..7");
    story.is_past("a", 1);
    story.store_works();
    assert_eq!(
        story.manifests[0].parts.len(),
        2,
        "two tasks join without a gap"
    );
}

#[test]
fn a_worker_that_was_silent_on_a_line_that_stood_gets_work_again() {
    let mut story = Story::running(bounded(), "a", "w1");
    let task = story.task("a");
    story.falls_silent("w1");
    let effects = story.after(3_100);
    assert!(cancelled(&effects, task), "what it reads will not be used");
    assert!(story.job().tasks.is_empty());
    story.silent.clear();
    let given = started(&story.after(500));
    assert_eq!(given.len(), 1, "its heartbeat says that it is back");
}

#[test]
fn a_leaving_worker_hands_its_shards_on_where_they_stand() {
    let mut story = Story::running(bounded(), "a b", "w1 w2");
    let owner = story.owner("a");
    story.asks("a", 4);
    let effects = story.leaves(owner.0.as_str());
    assert!(released(&effects, owner.1));
    story.reports(4, "a 0..3");
    let given = started(&story.task_ends(owner.clone(), TaskEnd::Released));
    let heir = story.owner("b").0;
    assert_eq!(
        given,
        [(
            heir.to_string(),
            "a".into(),
            at(3),
            Watermark::At(4 * WINDOW_MS)
        )]
    );
}

#[test]
fn three_workers_take_over_from_one_and_no_more_moves_than_must() {
    let mut story = Story::running(bounded(), "a b c d e f", "w1");
    let owner = story.owner("a");
    story.after(300);
    let effects = story.joins("w2", vec![]);
    assert!(released(&effects, owner.1), "seen to at once");
    assert_eq!(story.joins("w3", vec![]), []);
    let given = started(&story.task_ends(owner, TaskEnd::Released));
    for name in ["w1", "w2", "w3"] {
        assert_eq!(
            given.iter().filter(|(to, ..)| to == name).count(),
            2,
            "{name} of {given:?}"
        );
    }
    assert!(story.after(2_000).is_empty());
}

#[test]
fn workers_that_come_and_go_together_are_planned_for_together() {
    let mut story = Story::running(bounded(), "a b c d e f", "w1");
    story.after(300);
    assert_eq!(
        story.joins("w2", vec![]).len(),
        1,
        "the first is seen to at once"
    );
    let owner = story.owner("a");
    story.task_ends(owner, TaskEnd::Released);
    for name in ["w3", "w4", "w5", "w6"] {
        assert_eq!(story.joins(name, vec![]), []);
    }
    assert_eq!(story.after(100), []);
    let effects = story.after(200);
    assert_eq!(
        effects.len(),
        2,
        "both that have shards are asked for some, once: {effects:?}"
    );
}

#[test]
fn a_calm_core_plans_nothing() {
    let mut story = Story::running(bounded(), "a b c", "w1 w2");
    assert_eq!(story.after(30_000), []);
}

#[test]
fn many_small_tasks_of_a_worker_become_one_and_stay_so() {
    let mut story = Story::running(kinesis(), "a b c d e f", "w1 w2 w3 w4 w5 w6");
    for lost in ["w2", "w3", "w4", "w5", "w6"] {
        story.breaks(lost);
        story.after(3_100);
    }
    let mut restarts = 0;
    while let Some(released) = story
        .effects
        .iter()
        .position(|effect| matches!(effect, Effect::ReleaseTask { .. }))
    {
        let Effect::ReleaseTask { worker, task } = story.effects.remove(released) else {
            unreachable!()
        };
        story.task_ends((worker, task), TaskEnd::Released);
        restarts += 1;
        assert!(restarts < 20, "tasks are put together again and again");
    }
    assert!(story.job().tasks.len() <= assign::TASKS_PER_WORKER_MAX);
}

#[test]
fn children_of_a_split_are_read_after_their_parent() {
    let mut story = Story::running(kinesis(), "a", "w1");
    let given = started(&story.shard_ends("a", 9, 5, &["b<a", "c<a"]));
    let floor = Watermark::At(5 * WINDOW_MS);
    assert_eq!(
        given,
        [
            ("w1".into(), "b".into(), at(0), floor),
            ("w1".into(), "c".into(), at(0), floor)
        ]
    );
}

#[test]
fn a_child_that_waits_for_its_parent_holds_back_no_window() {
    let mut story = Story::running(kinesis(), "a b<a", "w1");
    story.asks("a", 0);
    story.reports(0, "a 0..5");
    story.is_past("a", 1);
    story.store_works();
    assert_eq!(
        story.committed(),
        [0],
        "the parent has a backlog; its child is listed already"
    );
    story.shard_ends("a", 5, 3, &["b<a"]);
    assert!(
        story.job().watermark() <= Watermark::At(w(3).start_ms),
        "from its parent's end on the child counts"
    );
}

#[test]
fn a_child_of_a_merge_waits_for_both_parents() {
    let mut story = Story::running(kinesis(), "a b", "w1 w2");
    assert_eq!(started(&story.shard_ends("a", 9, 5, &["c<a+b"])), []);
    let given = started(&story.shard_ends("b", 4, 7, &["c<a+b"]));
    assert_eq!(given.len(), 1);
    assert_eq!(
        given[0].3,
        Watermark::At(7 * WINDOW_MS),
        "the later of its parents' last windows"
    );
}

#[test]
fn a_parent_that_is_many_windows_behind_does_not_wait_for_its_children() {
    let mut story = Story::running(kinesis(), "a b<a c<a", "w1 w2");
    for n in 0..2 * super::job::WINDOWS_AHEAD_MAX as u64 {
        let window = 5 + n as i64;
        story.asks("a", window);
        story.reports(window, &format!("a {n}..{}", n + 1));
        story.is_past("a", window + 1);
        story.store_works();
        assert_eq!(
            story.committed().last(),
            Some(&window),
            "its children are known and not yet read"
        );
    }
    let last = 2 * super::job::WINDOWS_AHEAD_MAX as u64;
    let given = started(&story.shard_ends("a", last, 5 + last as i64, &["b<a", "c<a"]));
    assert_eq!(given.len(), 2);
    assert!(
        given
            .iter()
            .all(|(.., floor)| floor.is_past(w(5 + last as i64 - 1))),
        "{given:?}"
    );
}

#[test]
fn a_child_whose_other_parent_is_not_known_yet_waits_for_a_listing() {
    let mut story = Story::running(kinesis(), "a b", "w1");
    let effects = story.shard_ends("b", 4, 7, &["d<b+c"]);
    assert_eq!(
        started(&effects),
        [],
        "seed 4419: c is a child of a and not listed yet"
    );
    assert_eq!(started(&story.lists("a b c<a d<b+c")), []);
    let given = started(&story.shard_ends("a", 4, 8, &["c<a"]));
    assert_eq!(
        given
            .iter()
            .map(|(_, id, ..)| id.as_str())
            .collect::<Vec<_>>(),
        ["c"]
    );
}

#[test]
fn a_split_of_a_split_is_found_in_an_old_lineage() {
    let mut story = Story::of(kinesis());
    story.joins("w1", vec![]);
    let given = started(&story.lists("a b<a c<a d<c e<c"));
    assert_eq!(
        given
            .iter()
            .map(|(_, id, ..)| id.as_str())
            .collect::<Vec<_>>(),
        ["a"],
        "a closed parent is drained"
    );
    let given = started(&story.shard_ends("a", 9, 5, &["b<a", "c<a"]));
    assert_eq!(
        given
            .iter()
            .map(|(_, id, ..)| id.as_str())
            .collect::<Vec<_>>(),
        ["b", "c"]
    );
    let given = started(&story.shard_ends("c", 2, 6, &["d<c", "e<c"]));
    assert_eq!(
        given
            .iter()
            .map(|(_, id, ..)| id.as_str())
            .collect::<Vec<_>>(),
        ["d", "e"]
    );
}

#[test]
fn a_parent_that_is_gone_counts_as_read() {
    let story = Story::running(kinesis(), "b<gone", "w1");
    assert_eq!(story.owner("b").0, worker("w1"));
}

#[test]
fn an_end_without_children_is_listed_before_the_next_commit() {
    let mut story = Story::running(kinesis(), "a", "w1");
    story.asks("a", 5);
    let effects = story.shard_ends("a", 9, 5, &[]);
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::ListShards { generation: 2, .. }))
    );
    story.reports(5, "a 0..9");
    story.is_past("a", 99);
    assert!(story.store.is_empty(), "children may be missing");
    let given = started(&story.lists("a b<a"));
    assert_eq!(
        given[0].3,
        Watermark::At(5 * WINDOW_MS),
        "the child takes no window before that of its parent's last record"
    );
    story.is_past("b", 6);
    story.store_works();
    assert_eq!(story.committed(), [5]);
    assert_eq!(
        story.manifests[0].frontier[&shard("a")].position,
        Position::End
    );
}

#[test]
fn an_end_that_was_sent_on_a_broken_connection_is_listed_too() {
    let mut story = Story::running(kinesis(), "a", "w1");
    let task = story.task("a");
    story.asks("a", 5);
    story.breaks("w1");
    let mut running = runs(task, "a 0..9");
    running.reports = vec![report(task, w(5), "a 0..9")];
    running.ended = vec![ended("a", 9, 5, &[])];
    running.watermark = Watermark::Ended;
    story.joins("w1", vec![running]);
    assert!(story.store.is_empty(), "children may be missing");
    assert_eq!(story.job().listing.asked, 2);
}

#[test]
fn a_child_that_is_found_while_an_epoch_is_committed_begins_after_it() {
    let mut story = Story::running(kinesis(), "a", "w1");
    story.asks("a", 5);
    story.reports(5, "a 0..5");
    story.is_past("a", 6);
    assert!(story.job().committing.is_some());
    story.shard_ends("a", 5, 5, &["b<a"]);
    story.store_works();
    assert!(story.shard("b").floor.is_past(w(5)));
}

#[test]
fn a_forgotten_shard_was_read_to_its_end_and_is_no_longer_listed() {
    let mut story = Story::running(kinesis(), "a", "w1");
    story.asks("a", 5);
    story.shard_ends("a", 9, 5, &["b<a"]);
    story.reports(5, "a 0..9");
    story.is_past("a", 99);
    let parent = story.owner("a");
    story.task_ends(parent, TaskEnd::Completed);
    story.is_past("b", 6);
    story.store_works();
    assert_eq!(story.shard("a").committed, Position::End);
    story.after(10_100);
    story.lists("a b<a");
    story.asks("b", 6);
    story.reports(6, "b 0..1");
    story.is_past("b", 7);
    story.store_works();
    assert!(
        story.manifests[1].frontier.contains_key(&shard("a")),
        "it is still listed"
    );
    story.after(10_100);
    story.lists("b<a");
    story.asks("b", 7);
    story.reports(7, "b 1..2");
    story.is_past("b", 8);
    story.store_works();
    assert!(
        !story.manifests[2].frontier.contains_key(&shard("a")),
        "it is gone"
    );
    assert_eq!(story.committed(), [5, 6, 7]);
}

#[test]
fn a_query_of_whole_windows_has_one_task_and_a_reshard_restarts_it() {
    let mut story = Story::running(whole(kinesis()), "a b", "w1 w2");
    let owner = story.owner("a");
    assert_eq!(story.job().tasks.len(), 1);
    let effects = story.shard_ends("a", 9, 5, &["c<a"]);
    assert!(released(&effects, owner.1));
    let effects = story.task_ends(owner, TaskEnd::Released);
    let Some(Effect::StartTask { shards, .. }) = effects
        .iter()
        .find(|e| matches!(e, Effect::StartTask { .. }))
    else {
        panic!("{effects:?}")
    };
    let child = shards
        .iter()
        .find(|given| given.shard == shard("c"))
        .unwrap();
    assert_eq!((shards.len(), &child.after[..]), (3, &[shard("a")][..]));
}

#[test]
fn a_window_that_was_reported_without_a_child_is_read_again_as_a_whole() {
    let mut story = Story::running(whole(kinesis()), "a b", "w1");
    let owner = story.owner("a");
    story.asks("a", 5);
    story.shard_ends("a", 9, 5, &["c<a"]);
    story.reports(5, "a 0..9, b 0..4");
    story.is_past("a", 6);
    let given = started(&story.task_ends(owner, TaskEnd::Released));
    assert_eq!(
        given.iter().filter(|(.., from, _)| *from == at(0)).count(),
        3,
        "{given:?}"
    );
    story.asks("b", 5);
    story.reports(5, "a 0..9, b 0..4, c 0..2");
    story.is_past("b", 6);
    story.store_works();
    assert_eq!(
        (story.committed(), story.manifests[0].parts.len()),
        (vec![5], 1)
    );
}

#[test]
fn a_stop_drops_what_is_not_committed_and_a_resume_reads_it_again() {
    let mut story = Story::running(bounded(), "a", "w1");
    story.asks("a", 0);
    story.reports(0, "a 0..5");
    let name = story.name();
    let task = story.task("a");
    let effects = story.tell(Event::Job {
        job: name.clone(),
        event: JobEvent::StopRequested { drain: false },
    });
    assert!(cancelled(&effects, task));
    assert_eq!(story.job().wanted, DesiredState::Stopped);
    story.after(1_000);
    story.tell(Event::Job {
        job: name,
        event: JobEvent::ResumeRequested,
    });
    story.lists("a");
    assert_eq!(story.shard("a").reached, at(0));
    assert_ne!(story.task("a"), task);
}

#[test]
fn a_drain_finishes_the_windows_that_are_open_or_asked_for() {
    let mut story = Story::running(bounded(), "a b", "w1 w2");
    story.asks("a", 0);
    let name = story.name();
    let effects = story.tell(Event::Job {
        job: name.clone(),
        event: JobEvent::StopRequested { drain: true },
    });
    let until = |effect: &Effect| matches!(effect, Effect::DrainTask { until_ms, .. } if *until_ms == Some(w(0).end_ms));
    assert_eq!(effects.iter().filter(|effect| until(effect)).count(), 2);
    story.tell(Event::Job {
        job: name,
        event: JobEvent::StopRequested { drain: true },
    });
    assert_eq!(
        story.job().wanted,
        DesiredState::Draining,
        "asking twice is asking once"
    );
    let effects = story.asks("b", 1);
    let until = |effect: &Effect| matches!(effect, Effect::DrainTask { until_ms, .. } if *until_ms == Some(w(1).end_ms));
    assert_eq!(
        effects.iter().filter(|effect| until(effect)).count(),
        2,
        "it asked before it knew: {effects:?}"
    );
    for (id, last) in [("a", 3), ("b", 2)] {
        let owner = story.owner(id);
        story.reports(0, &format!("{id} 0..{last}"));
        story.is_past(id, 2);
        story.task_ends(owner, TaskEnd::Released);
    }
    story.store_works();
    story.after(100);
    assert_eq!(
        (story.committed(), &story.job().wanted),
        (vec![0], &DesiredState::Stopped)
    );
}

#[test]
fn a_drain_continues_on_another_worker_when_one_is_lost_or_must_wait() {
    for lost in [true, false] {
        let mut story = Story::running(bounded(), "a b", "w1 w2");
        story.asks("a", 0);
        let name = story.name();
        story.tell(Event::Job {
            job: name,
            event: JobEvent::StopRequested { drain: true },
        });
        let (worker, task) = story.owner("a");
        let effects = if lost {
            story.falls_silent(&worker.to_string());
            story.after(4_000)
        } else {
            story.task_ends(
                (worker, task),
                TaskEnd::Wait {
                    error: "no answer".into(),
                },
            );
            story.after(1_000)
        };
        assert_eq!(
            story.job().wanted,
            DesiredState::Draining,
            "it is not over: lost={lost}"
        );
        let next = story.task("a");
        assert_ne!(next, task);
        let until = |effect: &Effect| matches!(effect, Effect::DrainTask { task, until_ms, .. } if *task == next && *until_ms == Some(w(0).end_ms));
        assert!(
            effects.iter().any(until),
            "the next task drains too: {effects:?}"
        );
        story.asks("a", 0);
        for (id, last) in [("a", 3), ("b", 2)] {
            let owner = story.owner(id);
            story.reports(0, &format!("{id} 0..{last}"));
            story.is_past(id, 1);
            story.task_ends(owner, TaskEnd::Released);
            assert_eq!(
                started(&story.after(100)),
                [],
                "what is drained is not given out again"
            );
        }
        story.store_works();
        story.after(100);
        assert_eq!(
            (story.committed(), &story.job().wanted),
            (vec![0], &DesiredState::Stopped)
        );
        assert_eq!(story.job().not_drained, None);
    }
}

#[test]
fn a_drain_that_cannot_finish_is_given_up_and_reports_what_it_leaves() {
    let mut story = Story::running(bounded(), "a", "w1");
    story.asks("a", 0);
    let name = story.name();
    story.tell(Event::Job {
        job: name.clone(),
        event: JobEvent::StopRequested { drain: true },
    });
    let owner = story.owner("a");
    story.task_ends(
        owner,
        TaskEnd::Wait {
            error: "no answer".into(),
        },
    );
    story.breaks("w1");
    story.after(w(0).end_ms + crate::job::DRAIN_GRACE_MS - 5_000);
    assert_eq!(
        story.job().wanted,
        DesiredState::Draining,
        "it may still be finished"
    );
    story.after(10_000);
    assert_eq!(story.job().wanted, DesiredState::Stopped);
    let left = story.job().not_drained.expect("a window was not finished");
    assert_eq!(left.until_ms, Some(w(0).end_ms));
    let status = story.core.status(&name, true).unwrap();
    assert_eq!(status.not_drained.unwrap().until_ms, w(0).end_ms);
    story.tell(Event::Job {
        job: name,
        event: JobEvent::ResumeRequested,
    });
    assert_eq!(story.job().not_drained, None);
    assert_eq!(story.shard("a").reached, at(0), "it is read again");
}

#[test]
fn a_resume_takes_a_drain_back() {
    let mut story = Story::running(kinesis(), "a", "w1");
    story.asks("a", 5);
    let name = story.name();
    let task = story.owner("a");
    story.tell(Event::Job {
        job: name.clone(),
        event: JobEvent::StopRequested { drain: true },
    });
    assert_eq!(story.job().wanted, DesiredState::Draining);
    let effects = story.tell(Event::Job {
        job: name,
        event: JobEvent::ResumeRequested,
    });
    assert_eq!(
        story.job().wanted,
        DesiredState::Running,
        "who submits is told that the job runs"
    );
    assert!(
        released(&effects, task.1),
        "what it has dropped is read again by another"
    );
    story.lists("a");
    story.reports(5, "a 0..3");
    let given = started(&story.task_ends(task, TaskEnd::Released));
    assert_eq!(given[0].2, at(3));
    story.is_past("a", 6);
    story.store_works();
    assert_eq!(
        (story.committed(), &story.job().wanted),
        (vec![5], &DesiredState::Running)
    );
}

#[test]
fn tasks_that_fail_are_tried_again_after_longer_and_longer_waits_then_the_job_fails() {
    let mut story = Story::running(bounded(), "a", "w1");
    for wait in [1_000, 2_000, 5_000] {
        let owner = story.owner("a");
        story.task_ends(
            owner,
            TaskEnd::Retry {
                error: "no answer".into(),
            },
        );
        assert_eq!(started(&story.after(wait - 100)), []);
        assert_eq!(started(&story.after(100)).len(), 1);
    }
    let owner = story.owner("a");
    story.task_ends(
        owner,
        TaskEnd::Retry {
            error: "no answer".into(),
        },
    );
    assert!(matches!(story.job().wanted, DesiredState::Failed { .. }));
}

#[test]
fn a_refused_listing_fails_the_job_and_a_resume_lists_again() {
    let mut story = Story::of(bounded());
    story.joins("w1", vec![]);
    let name = story.name();
    let error = "no such stream".to_owned();
    let hint = "make it".to_owned();
    story.tell(Event::Job {
        job: name.clone(),
        event: JobEvent::ListingRefused { error, hint },
    });
    assert!(matches!(story.job().wanted, DesiredState::Failed { .. }));
    let effects = story.tell(Event::Job {
        job: name,
        event: JobEvent::ResumeRequested,
    });
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::ListShards { .. })),
        "{effects:?}"
    );
    assert_eq!(started(&story.lists("a")).len(), 1);
}

#[test]
fn all_tasks_of_a_window_join_with_the_version_that_its_first_one_got() {
    let mut story = Story::running(with_lookup(bounded()), "a b", "w1 w2");
    assert_eq!(story.asks("a", 0), [], "no version is known yet");
    let version = |effects: &[Effect]| match effects.first() {
        Some(Effect::OpenWindow { lookups, .. }) => lookups["country"].to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(version(&story.sees_lookup("v1")), "v1");
    story.sees_lookup("v2");
    assert_eq!(version(&story.asks("b", 0)), "v1");
    assert_eq!(version(&story.asks("a", 1)), "v2");
    let answer = story.reports(0, "a 0..1");
    assert!(
        cancelled(&answer, answer_task(&answer)),
        "it joined with nothing"
    );
}

fn answer_task(effects: &[Effect]) -> TaskId {
    match effects.first() {
        Some(Effect::CancelTask { task, .. }) => *task,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fast_task_waits_when_too_many_windows_are_ahead_of_the_slow_one() {
    let mut story = Story::running(bounded(), "a b", "w1 w2");
    story.asks("b", 0);
    for n in 1..job::WINDOWS_AHEAD_MAX as i64 {
        assert_eq!(story.asks("a", n).len(), 1);
        story.reports(n, &format!("a {}..{n}", n - 1));
    }
    assert_eq!(story.asks("a", 16), []);
    story.reports(0, "b 0..1");
    story.is_past("a", 16);
    story.is_past("b", 1);
    story.store_works();
    assert!(
        story
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::OpenWindow { window, .. } if *window == w(16)))
    );
}

#[test]
fn a_slow_task_opens_no_more_windows_below_those_of_a_fast_one_while_nothing_is_published() {
    let mut story = Story::running(bounded(), "a b", "w1 w2");
    for n in 0..16 {
        story.asks("a", 100 + n);
        story.reports(100 + n, &format!("a {n}..{}", n + 1));
    }
    story.is_past("a", 116);
    let mut opened = 0;
    for n in 0..30 {
        if story
            .asks("b", n)
            .iter()
            .any(|effect| matches!(effect, Effect::OpenWindow { .. }))
        {
            opened += 1;
            story.reports(n, &format!("b {n}..{}", n + 1));
            story.is_past("b", n + 1);
            story.store_commits();
        }
    }
    assert!(opened < 12, "{opened} windows");
    story.store_works();
    let next = story.effects.iter().rev().find_map(|effect| match effect {
        Effect::OpenWindow { window, .. } => Some(window.start_ms / WINDOW_MS),
        _ => None,
    });
    assert_eq!(
        next,
        Some(opened),
        "what is published makes room for the lowest one"
    );
}

#[test]
fn a_window_that_no_task_reads_any_more_does_not_hold_up_others() {
    let mut story = Story::running(bounded(), "a", "w1");
    for n in 0..2 {
        story.asks("a", n);
    }
    let owner = story.owner("a");
    story.task_ends(
        owner,
        TaskEnd::Retry {
            error: "no answer".into(),
        },
    );
    assert!(story.job().windows.is_empty());
}

/// One window committed and not published, one reported, one open.
fn a_leader_that_dies() -> (Story, WorkerId, TaskId) {
    let mut story = Story::running(bounded(), "a", "w1");
    let (worker, task) = story.owner("a");
    story.asks("a", 0);
    story.reports(0, "a 0..5");
    story.is_past("a", 1);
    story.store_commits();
    story.asks("a", 1);
    story.reports(1, "a 5..7");
    (story, worker, task)
}

#[test]
fn a_new_leader_publishes_first_and_adopts_what_chains_on_to_the_head() {
    let (old, _, task) = a_leader_that_dies();
    let mut new = old.next_leader(2);
    assert!(
        matches!(&new.store[..], [Effect::Publish { epochs, .. }] if epochs[0].manifest.epoch == Epoch(1))
    );
    let mut running = runs(task, "a 0..0");
    running.reports = vec![report(task, w(0), "a 0..5"), report(task, w(1), "a 5..7")];
    new.joins("w1", vec![running]);
    new.lists("a");
    assert_eq!(started(&new.after(1_500)), []);
    assert_eq!(
        (new.task("a"), new.shard("a").reached.clone()),
        (task, at(7))
    );
    new.is_past("a", 2);
    new.store_works();
    assert_eq!(new.committed(), [0, 1]);
    assert_eq!(new.published, [Epoch(1), Epoch(2)]);
}

#[test]
fn messages_of_a_task_before_its_adoption_count() {
    let (old, id, task) = a_leader_that_dies();
    let mut new = old.next_leader(2);
    let mut running = runs(task, "a 5..5");
    running.reports = vec![report(task, w(1), "a 5..7")];
    new.joins("w1", vec![running]);
    new.lists("a");
    let worker = id.clone();
    let window = w(2);
    let mut effects = new.tell(Event::Task {
        worker,
        task,
        event: TaskEvent::WindowRequested(window),
    });
    let worker = id.clone();
    let shards = vec![];
    effects.extend(new.tell(Event::Task {
        worker,
        task,
        event: TaskEvent::Progressed {
            watermark: Watermark::At(w(2).start_ms),
            work_us: 0,
            computing: Computing::default(),
            hanging: vec![],
            shards,
        },
    }));
    effects.extend(new.after(1_500));
    assert!(!cancelled(&effects, task), "{effects:?}");
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::OpenWindow { window, .. } if *window == w(2)))
    );
    new.store_works();
    assert_eq!(new.committed(), [0, 1]);
}

#[test]
fn a_task_that_ends_before_it_is_adopted_is_not_waited_for() {
    let (old, worker, task) = a_leader_that_dies();
    let mut new = old.next_leader(2);
    new.joins("w1", vec![runs(task, "a 5..5")]);
    new.lists("a");
    new.tell(Event::Task {
        worker,
        task,
        event: TaskEvent::Ended(TaskEnd::Retry {
            error: "no answer".into(),
        }),
    });
    let given = started(&new.after(4_000));
    assert_eq!(
        given,
        [("w1".into(), "a".into(), at(5), Watermark::At(w(0).end_ms))]
    );
}

#[test]
fn a_worker_that_joins_twice_before_adoption_keeps_its_task() {
    let (old, _, task) = a_leader_that_dies();
    let mut new = old.next_leader(2);
    new.joins("w1", vec![runs(task, "a 5..5")]);
    new.joins("w1", vec![runs(task, "a 5..5")]);
    new.lists("a");
    let effects = new.after(1_500);
    assert!(!cancelled(&effects, task));
    assert_eq!(new.task("a"), task);
}

#[test]
fn a_new_leader_takes_back_the_drain_of_a_task_that_it_adopts() {
    let (old, _, task) = a_leader_that_dies();
    let mut new = old.next_leader(2);
    new.joins("w1", vec![runs(task, "a 5..5")]);
    new.lists("a");
    let effects = new.after(1_500);
    let goes_on = |effect: &Effect| matches!(effect, Effect::DrainTask { until_ms: None, .. });
    assert!(
        effects.iter().any(goes_on),
        "seed 221: drained, crashed, resumed, crashed"
    );
}

#[test]
fn a_worker_that_leaves_before_its_task_is_adopted_is_asked_for_it() {
    let (old, _, task) = a_leader_that_dies();
    let mut new = old.next_leader(2);
    new.joins("w1", vec![runs(task, "a 5..5")]);
    new.leaves("w1");
    new.lists("a");
    assert!(
        released(&new.after(1_500), task),
        "seed 3636: it waited for that for ever"
    );
}

#[test]
fn a_new_leader_cancels_what_does_not_chain_on() {
    let (old, _, task) = a_leader_that_dies();
    let mut new = old.next_leader(2);
    new.joins("w1", vec![runs(task, "a 3..3")]);
    new.lists("a");
    let effects = new.after(1_500);
    assert!(cancelled(&effects, task));
    assert_eq!(
        started(&effects),
        [("w1".into(), "a".into(), at(5), Watermark::At(w(0).end_ms))]
    );
}

#[test]
fn a_new_leader_takes_the_reports_of_a_task_that_was_released() {
    let (old, _, task) = a_leader_that_dies();
    let mut new = old.next_leader(2);
    let mut first = runs(task, "a 5..5");
    first.released = true;
    first.reports = vec![report(task, w(1), "a 5..7")];
    let heir = TaskId {
        term: Term(1),
        counter: 9,
    };
    new.joins("w1", vec![first]);
    new.joins("w2", vec![runs(heir, "a 7..7")]);
    new.lists("a");
    assert_eq!(started(&new.after(1_500)), []);
    assert_eq!(
        (new.task("a"), new.job().windows[&w(1)].reports.len()),
        (heir, 1)
    );
}

#[test]
fn a_new_leader_cancels_one_of_two_tasks_that_joined_with_different_versions_and_no_third() {
    let old = Story::running(with_lookup(bounded()), "a b c", "w1 w2 w3");
    let mut new = old.next_leader(2);
    new.lists("a b c");
    let task = |counter| TaskId {
        term: Term(1),
        counter,
    };
    let lookups =
        |version: &str| BTreeMap::from([("country".to_owned(), LookupVersion::new(version))]);
    for (counter, id, version) in [(1, "a", "v1"), (2, "b", "v2"), (3, "c", "v1")] {
        let mut running = runs(task(counter), &format!("{id} 0..0"));
        running.windows = vec![(w(0), lookups(version))];
        new.joins(&format!("w{counter}"), vec![running]);
    }
    let effects = new.after(1_500);
    assert_eq!(
        [1, 2, 3].map(|n| cancelled(&effects, task(n))),
        [false, true, false]
    );
}

#[test]
fn messages_of_a_broken_connection_are_taken_when_the_worker_is_back() {
    let mut story = Story::running(bounded(), "a", "w1");
    let task = story.task("a");
    story.asks("a", 0);
    story.breaks("w1");
    let mut running = runs(task, "a 0..0");
    running.reports = vec![report(task, w(0), "a 0..5")];
    running.watermark = Watermark::At(w(0).end_ms);
    story.joins("w1", vec![running.clone()]);
    story.joins("w1", vec![running]);
    story.store_works();
    assert_eq!((story.committed(), story.task("a")), (vec![0], task));
}

#[test]
fn a_hello_that_a_later_one_overtook_changes_nothing() {
    let (old, _, task) = a_leader_that_dies();
    let mut new = old.next_leader(2);
    let mut running = runs(task, "a 5..5");
    let stale = running.clone();
    running.reports = vec![report(task, w(1), "a 5..7")];
    new.joins("w1", vec![running]);
    let session = new.session("w1") - 1;
    let flight_address = String::new();
    new.tell(Event::Worker {
        worker: worker("w1"),
        session,
        event: WorkerEvent::Joined {
            facts: Default::default(),
            process: 0,
            flight_address,
            tasks: vec![stale],
        },
    });
    new.lists("a");
    new.after(1_500);
    assert_eq!(
        new.shard("a").reached,
        at(7),
        "seed 1537: its watermark went on without its report"
    );
}

#[test]
fn a_release_that_was_lost_with_the_connection_is_sent_again() {
    let mut story = Story::running(whole(kinesis()), "a", "w1");
    let task = story.task("a");
    let effects = story.shard_ends("a", 9, 5, &["c<a"]);
    assert!(released(&effects, task));
    story.breaks("w1");
    let mut running = runs(task, "a 0..0");
    running.ended = vec![ended("a", 9, 5, &["c<a"])];
    let effects = story.joins("w1", vec![running]);
    assert!(released(&effects, task));
}

#[test]
fn a_report_that_is_refused_after_a_broken_line_takes_no_watermark_with_it() {
    let mut story = Story::running(bounded(), "a", "w1");
    let task = story.task("a");
    story.asks("a", 0);
    story.breaks("w1");
    let mut running = runs(task, "a 0..0");
    running.reports = vec![report(task, w(0), "a 2..5")];
    running.watermark = Watermark::At(w(7).end_ms);
    let effects = story.joins("w1", vec![running]);
    assert!(cancelled(&effects, task));
    assert_eq!(started(&effects)[0].3, FROM_THE_START);
}

#[test]
fn an_unknown_task_is_cancelled_when_it_reports_progress() {
    let mut story = Story::running(bounded(), "a", "w1");
    let task = TaskId {
        term: Term(1),
        counter: 77,
    };
    let effects = story.tell(Event::Task {
        worker: worker("w1"),
        task,
        event: TaskEvent::Progressed {
            watermark: Watermark::At(0),
            work_us: 0,
            computing: Computing::default(),
            hanging: vec![],
            shards: vec![],
        },
    });
    assert!(cancelled(&effects, task), "{effects:?}");
}

#[test]
fn a_bounded_job_completes_once_when_its_last_epoch_is_published() {
    let mut story = Story::running(bounded(), "a", "w1");
    let owner = story.owner("a");
    story.asks("a", 0);
    story.shard_ends("a", 5, 0, &[]);
    story.reports(0, "a 0..5");
    story.is_past("a", 99);
    story.task_ends(owner, TaskEnd::Completed);
    story.after(1_000);
    assert_eq!(
        story.job().wanted,
        DesiredState::Running,
        "nothing is published"
    );
    let effects = story.store_works();
    let completed = |effect: &&Effect| {
        matches!(
            effect,
            Effect::RecordWanted {
                wanted: DesiredState::Completed,
                ..
            }
        )
    };
    assert_eq!(effects.iter().filter(completed).count(), 1);
    assert_eq!(story.after(5_000), []);
    let mut next = story.next_leader(2);
    assert_eq!(next.after(5_000), []);
}

#[test]
fn tasks_that_fail_together_count_as_one_failure() {
    let mut story = Story::running(bounded(), "a b c d", "w1 w2 w3 w4");
    for name in ["a", "b", "c", "d"] {
        let owner = story.owner(name);
        story.task_ends(
            owner,
            TaskEnd::Retry {
                error: "a cast failed".into(),
            },
        );
    }
    assert_eq!((story.job().failures, story.job().retries), (1, 4));
    assert!(story.job().runs());
    assert_eq!(
        started(&story.after(1_000)).len(),
        4,
        "all of them are tried again after one wait"
    );
}

#[test]
fn a_service_that_does_not_answer_is_waited_for_without_end() {
    let mut story = Story::running(bounded(), "a", "w1");
    for _ in 0..50 {
        let owner = story.owner("a");
        story.task_ends(
            owner,
            TaskEnd::Wait {
                error: "503 Slow Down".into(),
            },
        );
        let status = story.core.status(&story.name(), true).unwrap();
        assert!(
            status.waiting_on.iter().any(|wait| wait.contains("503")),
            "{:?}",
            status.waiting_on
        );
        assert_eq!(started(&story.after(1_000)).len(), 1);
    }
    assert!(story.job().runs());
}

#[test]
fn a_worker_keeps_the_reports_of_a_released_task_when_it_dials_again() {
    let mut story = Story::running(bounded(), "a", "w1");
    let (worker, task) = story.owner("a");
    story.asks("a", 0);
    story.reports(0, "a 0..5");
    story.task_ends((worker, task), TaskEnd::Released);
    let mut running = runs(task, "a 0..0");
    running.released = true;
    running.reports = vec![report(task, w(0), "a 0..5")];
    let effects = story.joins("w1", vec![running.clone()]);
    assert!(
        !cancelled(&effects, task),
        "the next leader may need them: {effects:?}"
    );
    running.reports = vec![report(task, w(0), "a 0..5"), report(task, w(1), "a 5..6")];
    let effects = story.joins("w1", vec![running]);
    assert!(
        cancelled(&effects, task),
        "a report that was not taken in time is refused"
    );
}

fn unreadable(job: &ResolvedJob) -> Event {
    let error = "manifest is gone".to_owned();
    let hint = "restore it".to_owned();
    Event::Job {
        job: job.spec.name.clone(),
        event: JobEvent::Unreadable {
            job: Box::new(job.clone()),
            error,
            hint,
            repairs: vec![],
        },
    }
}

fn loaded(job: &ResolvedJob, wanted: DesiredState) -> Event {
    Event::loaded(LoadedJob {
        job: job.clone(),
        wanted,
        head: None,
        unpublished: vec![],
        published: Epoch(0),
        replays: Default::default(),
        lookups: BTreeMap::new(),
        repairs: vec![],
        anchors: Default::default(),
    })
}

fn reads_job(effects: &[Effect]) -> bool {
    effects
        .iter()
        .any(|effect| matches!(effect, Effect::ReadJob { .. }))
}

#[test]
fn a_job_whose_head_cannot_be_read_stands_still_and_the_others_go_on() {
    let mut story = Story::running(bounded(), "a", "w1");
    let mut broken = bounded();
    broken.spec.name = "zz-broken".parse().unwrap();
    let name = broken.spec.name.clone();
    story.tell(unreadable(&broken));
    assert!(matches!(
        story.core.jobs[&name].wanted,
        DesiredState::Failed { .. }
    ));
    story.asks("a", 0);
    story.reports(0, "a 0..5");
    story.is_past("a", 1);
    story.store_works();
    assert_eq!(story.committed(), [0]);
}

#[test]
fn a_job_that_could_not_be_read_is_read_again_when_it_is_resumed_and_every_minute() {
    let mut story = Story::running(bounded(), "a", "w1");
    let task = story.task("a");
    let mut broken = bounded();
    broken.spec.name = "zz-broken".parse().unwrap();
    let name = broken.spec.name.clone();
    story.tell(unreadable(&broken));
    assert!(!reads_job(&story.after(1_000)), "not at once");
    assert!(
        reads_job(&story.tell(Event::Job {
            job: name.clone(),
            event: JobEvent::ResumeRequested
        })),
        "but when it is asked to go on"
    );
    assert!(
        !reads_job(&story.tell(Event::Job {
            job: name.clone(),
            event: JobEvent::ResumeRequested
        })),
        "once at a time"
    );
    story.tell(unreadable(&broken));
    assert_eq!(
        story.core.jobs[&name]
            .unreadable
            .as_ref()
            .map(|known| known.reads),
        Some(2)
    );
    assert!(reads_job(&story.after(61_000)));
    story.tell(loaded(&broken, DesiredState::Running));
    let job = &story.core.jobs[&name];
    assert!(job.runs() && job.unreadable.is_none());
    assert_eq!(story.task("a"), task, "the others did not notice");
    story.tell(unreadable(&broken));
    assert!(
        story.core.jobs[&name].runs(),
        "what was read late changes nothing"
    );
}

#[test]
fn a_head_that_an_older_store_lost_is_moved_once_and_the_job_continues_from_there() {
    let mut story = Story::empty(2);
    let job = bounded();
    story.tell(unreadable(&job));
    let head = ManifestRef {
        epoch: Epoch(7),
        name: "sales/epochs/7".into(),
        digest: "d".into(),
    };
    let to = HeadRepair {
        previous: None,
        head,
        published: Epoch(7),
        at_ms: 5,
        by: "ann".into(),
    };
    let ask = || Event::Job {
        job: job.spec.name.clone(),
        event: JobEvent::HeadRepairRequested {
            to: Box::new(to.clone()),
        },
    };
    let effects = story.tell(ask());
    let [Effect::RepairHead { repairs, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    let moved = Repaired::HeadMoved {
        from: Epoch(0),
        to: Epoch(7),
    };
    assert_eq!(
        repairs,
        &[Repair {
            at_ms: 5,
            by: "ann".into(),
            what: moved
        }]
    );
    assert_eq!(story.tell(ask()), [], "one at a time");
    story.tell(loaded(&job, DesiredState::Running));
    assert!(story.job().runs());
    assert_eq!(story.tell(ask()), [], "it needs none any more");
}

#[test]
fn a_repair_that_is_requested_while_the_job_is_read_follows_the_read() {
    let mut story = Story::empty(2);
    let job = bounded();
    story.tell(unreadable(&job));
    let name = job.spec.name.clone();
    let reads = |story: &Story| {
        story.core.jobs[&name]
            .unreadable
            .as_ref()
            .map(|unreadable| unreadable.reads)
    };
    let before = reads(&story);
    assert!(reads_job(&story.tell(Event::Job {
        job: name.clone(),
        event: JobEvent::ResumeRequested
    })));
    let head = ManifestRef {
        epoch: Epoch(7),
        name: "sales/epochs/7".into(),
        digest: "d".into(),
    };
    let to = Box::new(HeadRepair {
        previous: None,
        head,
        published: Epoch(7),
        at_ms: 5,
        by: "ann".into(),
    });
    assert_eq!(
        story.tell(Event::Job {
            job: name.clone(),
            event: JobEvent::HeadRepairRequested { to }
        }),
        []
    );
    let effects = story.tell(unreadable(&job));
    assert!(
        matches!(&effects[..], [Effect::RepairHead { .. }]),
        "{effects:?}"
    );
    assert_eq!(
        reads(&story),
        before,
        "who asked for the repair is not told what the read said"
    );
    story.tell(unreadable(&job));
    assert_ne!(reads(&story), before, "but that the repair changed nothing");
}

/// Two epochs are committed, and the first has lost an object.
fn stuck() -> Story {
    let mut story = Story::running(bounded(), "a", "w1");
    let (worker, task) = story.owner("a");
    for window in [0, 1] {
        story.asks("a", window);
        let from = u64::try_from(window).unwrap();
        let mut report = report(task, w(window), &format!("a {from}..{}", from + 1));
        report.objects = vec![staged(task, window)];
        story.tell(Event::reported(worker.clone(), report));
        story.is_past("a", window + 1);
        story.store_commits();
    }
    assert_eq!(story.job().publishing.len(), 2);
    story.loses(1, &staged_at(task, 0));
    story
}

impl Story {
    fn loses(&mut self, epoch: u64, location: &str) {
        self.store
            .retain(|effect| !matches!(effect, Effect::Publish { .. }));
        let stuck = Stuck {
            epoch: Epoch(epoch),
            lost: vec![location.to_owned()],
        };
        let error = "it is lost".into();
        let hint = "repair it".into();
        self.tell(Event::Job {
            job: self.name(),
            event: JobEvent::ObjectsLost { stuck, error, hint },
        });
    }

    /// Requests a repair; returns the task that stages it.
    fn begins_repair(&mut self, epoch: u64) -> TaskId {
        self.tell(Event::Job {
            job: self.name(),
            event: JobEvent::EpochRepairRequested {
                epoch: Epoch(epoch),
            },
        });
        self.job()
            .repairing
            .as_ref()
            .expect("it is being repaired")
            .task
    }

    fn is_repaired(&mut self, task: TaskId, lost: &str, n: i64) -> Vec<Effect> {
        let objects = vec![ManifestObject {
            task,
            staged: staged(task, n),
        }];
        let repair = EpochRepair {
            epoch: Epoch(1),
            lost: vec![lost.into()],
            objects,
            rows_given_up: 0,
            by: "ann".into(),
        };
        self.tell(Event::Job {
            job: self.name(),
            event: JobEvent::EpochRepaired {
                task,
                repair: Box::new(repair),
            },
        })
    }
}

#[test]
fn an_epoch_that_has_lost_objects_stops_its_job_and_is_published_as_it_was_repaired() {
    let mut story = stuck();
    assert!(matches!(story.job().wanted, DesiredState::Failed { .. }));
    let lost = staged_at(story.job().publishing[0].objects[0].task, 0);
    let task = story.begins_repair(1);
    assert!(story.job().tasks.is_empty() && task.term == story.core.term);
    let effects = story.is_repaired(task, &lost, 0);
    let [Effect::WriteManifest { manifest }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(
        (manifest.epoch, manifest.counts, manifest.window.start_ms),
        (Epoch(3), Counts::default(), 2 * WINDOW_MS)
    );
    assert_eq!(manifest.window.start_ms, manifest.window.end_ms);
    assert!(
        story.job().staged().contains(&staged_at(task, 0)),
        "what it staged is not swept"
    );
    let before = story.manifests.last().unwrap().clone();
    assert_eq!(
        (&manifest.frontier, manifest.totals),
        (&before.frontier, before.totals)
    );

    let effects = story.store_works();
    let published = effects.iter().find_map(|effect| match effect {
        Effect::Publish { epochs, .. } => Some(epochs),
        _ => None,
    });
    let objects = |epoch: &Unpublished| {
        let objects = objects_after(&epoch.manifest, &epoch.repairs);
        (epoch.manifest.epoch.0, objects)
    };
    let published: Vec<_> = published.unwrap().iter().map(objects).collect();
    let numbers: Vec<_> = published.iter().map(|(epoch, _)| *epoch).collect();
    assert_eq!(numbers, [1, 2, 3], "and what came after it goes on");
    let [object] = &published[0].1[..] else {
        panic!("{published:?}")
    };
    assert_eq!(object.staged.location, staged_at(task, 0));
    assert!(published[2].1.is_empty());
    assert_eq!(
        (story.job().published, story.job().stuck.clone()),
        (Epoch(3), None)
    );
    let recomputed = Repaired::Recomputed {
        epoch: Epoch(1),
        recorded_in: Epoch(3),
    };
    assert_eq!(
        story
            .job()
            .repairs
            .last()
            .map(|repair| (&repair.what, repair.by.as_str())),
        Some((&recomputed, "ann"))
    );
    story.tell(Event::Job {
        job: story.name(),
        event: JobEvent::ResumeRequested,
    });
    story.after(100);
    assert!(story.job().runs());
}

/// The epochs of each request to publish.
fn requested(effects: &[Effect]) -> Vec<Vec<u64>> {
    let numbers = |epochs: &[Unpublished]| epochs.iter().map(|it| it.manifest.epoch.0).collect();
    let of = |effect: &Effect| match effect {
        Effect::Publish { epochs, .. } => Some(numbers(epochs)),
        _ => None,
    };
    effects.iter().filter_map(of).collect()
}

#[test]
fn a_backlog_is_published_together_and_recorded_once() {
    let mut story = Story::running(bounded(), "a", "w1");
    let backlog = i64::try_from(PUBLISH_BACKLOG_MAX).unwrap();
    for window in 0..=backlog {
        story.asks("a", window);
        let from = u64::try_from(window).unwrap();
        story.reports(window, &format!("a {from}..{}", from + 1));
        story.is_past("a", window + 1);
        story.store_commits();
    }
    assert_eq!(story.job().publishing.len(), PUBLISH_BACKLOG_MAX);
    assert_eq!(requested(&story.store), [[1]], "the sink is busy with it");
    let publish = story.store.remove(0);
    story.store_does(publish);
    let record = story.store.remove(0);
    let next = story.store_does(record);
    assert_eq!(requested(&next), [(2..=8).collect::<Vec<_>>()]);

    // The sink takes the first three, and a repeated outcome counts once.
    let taken = Event::Job {
        job: story.name(),
        event: JobEvent::EpochsPublished { through: Epoch(4) },
    };
    story.store.clear();
    let effects = story.tell(taken.clone());
    let [Effect::RecordPublished { manifests, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    let numbers: Vec<_> = manifests.iter().map(|it| it.epoch.0).collect();
    assert_eq!(numbers, [2, 3, 4]);
    let of = |manifest: &Manifest| manifest.encode().1;
    let expected: Vec<_> = story.manifests[1..4].iter().map(of).collect();
    assert_eq!(*manifests, expected, "each by its own manifest");
    let record = story.store.remove(0);
    let next = story.store_does(record);
    assert_eq!(requested(&next), [[5, 6, 7, 8]]);
    assert_eq!(story.job().published, Epoch(4));
    assert_eq!(story.tell(taken), []);

    // The answer is lost with the leader: the next one hands over the same epochs.
    let mut next = story.next_leader(2);
    assert_eq!(requested(&next.store), [[5, 6, 7, 8]]);
    next.store_works();
    assert_eq!(next.job().published, Epoch(8));
    let once: Vec<_> = (1..=8).map(Epoch).collect();
    assert_eq!(next.published, once);
}

#[test]
fn a_new_leader_publishes_an_epoch_as_it_was_repaired_and_a_repair_may_be_lost_too() {
    let mut story = stuck();
    let lost = staged_at(story.job().publishing[0].objects[0].task, 0);
    let task = story.begins_repair(1);
    let late = story.begins_repair(1);
    assert_ne!(task, late, "who asks again has a task of its own");
    assert_eq!(
        story.is_repaired(task, &lost, 0),
        [],
        "what the first one staged does not count"
    );
    story.is_repaired(late, &lost, 0);
    story.store_commits();

    let mut next = story.next_leader(2);
    let [Effect::Publish { epochs, .. }] = &next.store[..] else {
        panic!("{:?}", next.store)
    };
    let first = &epochs[0];
    assert_eq!((first.manifest.epoch, first.repairs.len()), (Epoch(1), 1));
    next.loses(1, &staged_at(late, 0));
    let again = next.begins_repair(1);
    next.is_repaired(again, &staged_at(late, 0), 0);
    next.store_works();
    assert_eq!(next.job().published, next.job().epoch());
}

#[test]
fn nothing_is_repaired_that_is_not_lost_and_what_is_lost_is_deleted_by_force_only() {
    let mut story = Story::running(bounded(), "a", "w1");
    story.tell(Event::Job {
        job: story.name(),
        event: JobEvent::EpochRepairRequested { epoch: Epoch(1) },
    });
    assert_eq!(story.job().repairing, None);
    let mut story = stuck();
    story.tell(Event::Job {
        job: story.name(),
        event: JobEvent::EpochRepairRequested { epoch: Epoch(2) },
    });
    assert_eq!(story.job().repairing, None);
    story.store_works();
    assert_eq!(
        story.job().closed_to_deletion(false),
        Some(NoDeletion::Unpublished)
    );
    let reported = story.tell(Event::Job {
        job: story.name(),
        event: JobEvent::DeleteRequested { force: true },
    });
    assert!(
        matches!(
            &reported[..],
            [Effect::RecordWanted {
                wanted: DesiredState::Deleted,
                ..
            }]
        ),
        "{reported:?}"
    );
}

#[test]
fn a_new_leader_opens_windows_with_the_lookups_of_the_head_though_their_files_are_broken() {
    let mut story = Story::running(with_lookup(bounded()), "a", "w1");
    story.sees_lookup("v1");
    story.asks("a", 0);
    let lookups = BTreeMap::from([("country".to_owned(), LookupVersion::new("v1"))]);
    let (worker, task) = story.owner("a");
    let report = Report {
        lookups: lookups.clone(),
        ..report(task, w(0), "a 0..5")
    };
    story.tell(Event::reported(worker, report));
    story.is_past("a", 1);
    story.store_works();
    assert_eq!(story.committed(), [0]);

    let mut next = story.next_leader(2);
    let broken = Event::Job {
        job: next.name(),
        event: JobEvent::LookupFailed {
            job_version: JobVersion::FIRST,
            lookup: "country".into(),
            problem: "it is no CSV".into(),
        },
    };
    next.tell(broken);
    next.joins("w1", vec![]);
    next.after(2_000);
    next.lists("a");
    let opened = next.asks("a", 1);
    let with = |effect: &Effect| matches!(effect, Effect::OpenWindow { lookups: with, .. } if *with == lookups);
    assert!(opened.iter().any(with), "{opened:?}");
    assert!(
        next.job().lookups["country"].problem.is_some(),
        "and its status says so"
    );
}

#[test]
fn p43_a_refused_version_is_named_and_not_asked_about_until_the_files_change() {
    let mut story = Story::running(with_lookup(bounded()), "a", "w1");
    story.sees_lookup("good");
    let refused = |story: &Story, problem: Option<&str>| Event::Job {
        job: story.name(),
        event: JobEvent::LookupRefused {
            job_version: JobVersion::FIRST,
            lookup: "country".into(),
            version: LookupVersion::new("bad"),
            problem: problem.map(str::to_owned),
        },
    };
    let first = refused(&story, Some("it has no rows"));
    story.tell(first);
    let checks = |effects: &[Effect]| {
        effects.iter().find_map(|effect| match effect {
            Effect::CheckLookup {
                in_use,
                rows_in_use,
                refused,
                ..
            } => Some((in_use.clone(), *rows_in_use, refused.clone())),
            _ => None,
        })
    };
    let effects = story.after(2_000);
    let version = |name| Some(LookupVersion::new(name));
    assert_eq!(
        checks(&effects),
        Some((version("good"), Some(1), version("bad")))
    );
    let again = refused(&story, None);
    story.tell(again);
    let lookup = &story.job().lookups["country"];
    assert_eq!(lookup.version, version("good"), "windows go on with it");
    assert_eq!(lookup.problem.as_deref(), Some("it has no rows"));
    story.sees_lookup("better");
    let lookup = &story.job().lookups["country"];
    assert_eq!(
        (&lookup.problem, &lookup.refused, &lookup.version),
        (&None, &None, &version("better"))
    );
}

#[test]
fn a_worker_that_joins_after_the_others_were_balanced_gets_its_share_too() {
    let mut story = Story::running(bounded(), "a b c d", "w1 w2");
    let count = |story: &Story, name: &str| {
        ["a", "b", "c", "d"]
            .iter()
            .filter(|shard| story.owner(shard).0 == worker(name))
            .count()
    };
    assert_eq!((count(&story, "w1"), count(&story, "w2")), (2, 2));
    story.after(1_000);
    let effects = story.joins("w3", vec![]);
    let [
        Effect::ReleaseTask {
            worker: owner,
            task,
        },
    ] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    story.task_ends((owner.clone(), *task), TaskEnd::Released);
    let mut counts = [
        count(&story, "w1"),
        count(&story, "w2"),
        count(&story, "w3"),
    ];
    counts.sort();
    assert_eq!(counts, [1, 1, 2]);
    assert_eq!(
        story.after(100),
        [],
        "what was given is not taken back (I8)"
    );
}

#[test]
fn a_worker_that_cannot_reach_what_a_task_needs_gives_way_to_the_others_for_a_while() {
    let mut story = Story::running(bounded(), "a b", "w1 w2");
    let (cut_off, task) = story.owner("a");
    story.task_ends(
        (cut_off.clone(), task),
        TaskEnd::Wait {
            error: "connection reset".into(),
        },
    );
    story.after(1_000);
    assert_ne!(story.owner("a").0, cut_off, "the other one is asked");
    let effects = story.after(CoreSettings::default().avoid_ms);
    assert_eq!(
        effects.len(),
        1,
        "then the shards are shared again: {effects:?}"
    );
}

#[test]
fn when_no_worker_can_reach_what_a_task_needs_all_of_them_are_asked_again() {
    let mut story = Story::running(bounded(), "a b", "w1 w2");
    for name in ["a", "b"] {
        let owner = story.owner(name);
        story.task_ends(
            owner,
            TaskEnd::Wait {
                error: "503".into(),
            },
        );
    }
    story.after(1_000);
    assert_ne!(
        story.owner("a").0,
        story.owner("b").0,
        "it is not the workers' fault"
    );
    assert_eq!(story.after(CoreSettings::default().avoid_ms), []);
}

#[test]
fn a_task_that_finishes_no_window_is_named_in_the_status_and_only_while_it_stands() {
    let mut story = Story::running(bounded(), "a b", "w1 w2");
    let (slow, task) = story.owner("a");
    let waits = |story: &Story| story.core.status(&story.name(), true).unwrap().waiting_on;
    for window in 1..10 {
        story.is_past("b", window);
        story.after(1_000);
    }
    let reported = waits(&story);
    assert_eq!(
        reported.len(),
        1,
        "the one that is ahead waits for the other: {reported:?}"
    );
    assert!(
        reported[0].contains(&task.to_string()) && reported[0].contains(slow.as_str()),
        "{reported:?}"
    );
    let lag_ms = |story: &Story| story.core.status(&story.name(), true).unwrap().lag_ms;
    assert!(
        lag_ms(&story) >= 8_900,
        "nobody reads, so nobody says how far behind it is"
    );
    story.is_past("a", 10);
    story.after(100);
    assert_eq!(lag_ms(&story), 0);
    assert_eq!(waits(&story), Vec::<String>::new());
}

#[test]
fn a_store_and_a_sink_that_hang_are_named_in_the_status() {
    let mut story = Story::running(bounded(), "a", "w1");
    let waits = |story: &Story| {
        story
            .core
            .status(&story.name(), true)
            .unwrap()
            .waiting_on
            .join("; ")
    };
    story.asks("a", 0);
    story.reports(0, "a 0..5");
    story.is_past("a", 1);
    story.after(4_000);
    assert_eq!(waits(&story), "");
    story.after(1_500);
    assert!(
        waits(&story).contains("the checkpoint location: the commit of epoch 1"),
        "{}",
        waits(&story)
    );
}

#[test]
fn an_end_that_is_reported_before_the_shards_have_ended_is_ignored() {
    let mut story = Story::running(kinesis(), "a b", "w1");
    let (worker, task) = story.owner("a");
    story.tell(Event::Task {
        worker,
        task,
        event: TaskEvent::Progressed {
            watermark: Watermark::Ended,
            work_us: 0,
            computing: Computing::default(),
            hanging: vec![],
            shards: vec![],
        },
    });
    assert!(
        story.shard("a").floor < Watermark::Ended,
        "no window would be left to it"
    );
}

#[test]
fn a_report_of_a_child_before_its_parents_end_is_not_taken() {
    let mut story = Story::running(whole(kinesis()), "a d<a", "w1");
    let task = story.task("d");
    assert!(cancelled(&story.reports(0, "a 0..1, d 0..2"), task));
}

#[test]
fn a_report_that_goes_back_is_not_taken() {
    let mut story = Story::running(bounded(), "a", "w1");
    story.reports(0, "a 0..5");
    let task = story.task("a");
    let mut back = report(task, w(1), "a 5..6");
    back.ranges.values_mut().for_each(|range| range.to = at(3));
    let (worker, _) = story.owner("a");
    assert!(cancelled(&story.tell(Event::reported(worker, back)), task));
}

#[test]
fn a_worker_that_opens_ever_earlier_windows_opens_few() {
    let mut story = Story::running(bounded(), "a", "w1");
    for n in 0..100 {
        let (worker, task) = story.owner("a");
        let window = w(1_000 - n);
        story.tell(Event::Task {
            worker,
            task,
            event: TaskEvent::WindowRequested(window),
        });
        if story.shard("a").task.is_none_or(|now| now != task) {
            return;
        }
    }
    assert!(story.job().windows.len() <= story.job().windows_max());
}

#[test]
fn a_task_that_two_workers_claim_is_one_s() {
    let story = Story::running(bounded(), "a", "w1");
    let task = story.task("a");
    let mut next = story.next_leader(2);
    next.lists("a");
    next.joins("w1", vec![runs(task, "a 0..0")]);
    next.joins("w2", vec![runs(task, "")]);
    next.after(2_000);
    assert_eq!(next.owner("a").1, task);
    assert_eq!(next.job().tasks.len(), 1);
}

#[test]
fn line_02_a_child_begins_at_its_own_beginning_whatever_the_start_of_the_job() {
    let mut job = kinesis();
    job.start = Position::Timestamp(BEGIN_MS);
    let mut story = Story::running(job, "a", "w1");
    story.after(10_000);
    story.lists("a b<a c");
    assert_eq!(story.shard("a").reached, Position::Timestamp(BEGIN_MS));
    assert_eq!(story.shard("b").reached, Position::Start);
    assert_eq!(
        story.shard("c").reached,
        Position::Start,
        "it came after the job"
    );
}

/// What the next orphan sweep of a running job removes.
fn orphans(story: &mut Story) -> Orphans {
    story.now += 24 * 3_600_000;
    let effects = story.core.step(story.now, Event::Ticked);
    let swept = effects.into_iter().find_map(|effect| match effect {
        Effect::Sweep { orphans, .. } => Some(*orphans),
        _ => None,
    });
    swept.expect("orphans are looked for")
}

#[test]
fn what_a_stopped_job_left_of_committed_windows_is_swept_too() {
    let mut story = Story::running(bounded(), "a", "w1");
    story.asks("a", 0);
    story.reports(0, "a 0..5");
    story.is_past("a", 1);
    story.store_works();
    assert_eq!(story.committed(), [0]);
    let (_, lost) = story.owner("a");
    let job = story.name();
    let drain = false;
    story.tell(Event::Job {
        job,
        event: JobEvent::StopRequested { drain },
    });
    story.store_works();
    assert_eq!(story.job().wanted, DesiredState::Stopped);
    let orphans = orphans(&mut story);
    assert!(
        orphans.include(&staged_at(lost, 0)),
        "its window is committed"
    );
    assert!(
        !orphans.include(&staged_at(lost, 1)),
        "the job may be resumed"
    );
}

/// The location where a task stages its first object of the n-th window.
fn staged_at(task: TaskId, n: i64) -> String {
    format!(
        "/out/{}",
        object_name(w(n), &"sales".parse().unwrap(), task, 0, "json")
    )
}

fn staged(task: TaskId, n: i64) -> StagedObject {
    let location = staged_at(task, n);
    let staging = Staging::File {
        staged_path: format!("{location}.staged"),
    };
    StagedObject {
        kind: ObjectKind::Data,
        location,
        size: 1,
        crc32c: 1,
        rows: 1,
        table_file: None,
        staging,
    }
}

#[test]
fn a_sweep_spares_open_windows_and_unpublished_epochs_whatever_the_time() {
    let mut story = Story::running(bounded(), "a", "w1");
    let (worker, task) = story.owner("a");
    let dead = TaskId {
        term: Term(0),
        counter: 7,
    };
    for window in [0, 1] {
        story.asks("a", window);
        let from = u64::try_from(window).unwrap();
        let mut report = report(task, w(window), &format!("a {from}..{}", from + 1));
        report.objects = vec![staged(task, window)];
        story.tell(Event::reported(worker.clone(), report));
        story.is_past("a", window + 1);
        if window == 0 {
            story.store_commits();
        }
    }
    let orphans = orphans(&mut story);
    assert!(
        !orphans.include(&staged_at(task, 0)),
        "it is committed and not published"
    );
    assert!(!orphans.include(&staged_at(task, 1)), "it is reported");
    assert!(!orphans.include(&staged_at(task, 2)), "it is being written");
    assert!(
        orphans.include(&staged_at(dead, 0)),
        "its window is closed without it"
    );
    assert!(!orphans.include(&staged_at(dead, 1)), "its window is open");
}

/// Its worker is cut off, the leader assigns its shard to another and then dies. The next leader
/// adopts the task again, with everything that it has staged meanwhile.
#[test]
fn what_a_task_of_a_partitioned_worker_staged_is_there_when_a_later_leader_adopts_it() {
    let mut story = Story::running(bounded(), "a", "w1 w2");
    let (cut_off, task) = story.owner("a");
    story.asks("a", 0);
    story.breaks(cut_off.as_str());
    story.after(3_100);
    assert_ne!(story.owner("a").0, cut_off, "its task is given up");
    let orphans_then = orphans(&mut story);
    assert!(
        !orphans_then.include(&staged_at(task, 0)),
        "the task may still be adopted"
    );

    let mut next = story.next_leader(2);
    next.lists("a");
    let mut running = runs(task, "a 0..0");
    running.reports = vec![report(task, w(0), "a 0..5")];
    running.reports[0].objects = vec![staged(task, 0)];
    running.watermark = Watermark::At(WINDOW_MS);
    next.joins(cut_off.as_str(), vec![running]);
    next.after(2_000);
    assert_eq!(next.owner("a"), (cut_off, task), "it is adopted");
    next.store_works();
    assert_eq!(next.committed(), [0]);
}

#[test]
fn where_tasks_die_with_their_leader_those_of_earlier_terms_are_swept_before_the_first_task_is_given_out()
 {
    let mut story = Story::empty(3);
    let settings = CoreSettings {
        adoption_ms: 0,
        earlier_terms_are_dead: true,
        ..CoreSettings::default()
    };
    story.core = Core::new(Term(3), BEGIN_MS, settings);
    let effects = story.core.step(BEGIN_MS, Event::created(bounded()));
    let swept = effects.iter().find_map(|effect| match effect {
        Effect::Sweep { orphans, .. } => Some(orphans.clone()),
        _ => None,
    });
    let orphans = swept.expect("orphans are looked for at once");
    assert!(orphans.include(&staged_at(
        TaskId {
            term: Term(2),
            counter: 9
        },
        5
    )));
    assert!(
        !orphans.include(&staged_at(
            TaskId {
                term: Term(3),
                counter: 1
            },
            0
        )),
        "the first of this term"
    );
}

#[test]
fn a_task_speaks_only_through_its_own_worker() {
    let mut story = Story::running(bounded(), "a b", "w1 w2");
    let (owner, task) = story.owner("a");
    let other = worker(if owner == worker("w1") { "w2" } else { "w1" });
    let effects = story.tell(Event::reported(other, report(task, w(0), "a 0..5")));
    assert!(cancelled(&effects, task));
    assert_eq!(story.shard("a").reached, at(0));
    assert_eq!(story.owner("a"), (owner, task), "it goes on");
}

#[test]
fn what_is_tried_again_is_waited_for_until_it_is_done_whatever_it_is() {
    for kind in EffectKind::ALL {
        let mut story = Story::running(bounded(), "a", "w1");
        let job = story.name();
        let waits = |story: &Story| story.core.status(&job, true).unwrap().waiting_on;
        assert!(waits(&story).is_empty());
        story.tell(Event::Job {
            job: job.clone(),
            event: JobEvent::EffectDelayed {
                kind,
                reason: "no answer".into(),
            },
        });
        assert_eq!(waits(&story), [format!("{}: no answer", kind.label())]);
        story.tell(Event::Job {
            job: job.clone(),
            event: JobEvent::EffectDone { kind },
        });
        assert!(waits(&story).is_empty(), "{kind:?}");
    }
}
