//! Stories of workers that are refused what a task needs: other workers run the job, and it fails
//! when none can.

use super::*;
use crate::event::Place;
use crate::job::{REFUSAL_ROUNDS_AGREED_MAX, REFUSAL_ROUNDS_ALONE_MAX, REFUSED_WORKERS_MAX};

fn refused(place: Place) -> TaskEnd {
    TaskEnd::Refused {
        place,
        error: "403 AccessDenied".into(),
        hint: "allow s3:PutObject".into(),
    }
}

fn avoided(story: &Story) -> Vec<String> {
    let status = story.core.status(&story.name(), true).unwrap();
    status
        .avoided
        .into_iter()
        .map(|avoided| avoided.worker)
        .collect()
}

/// A report of one record that staged an object.
fn stages(story: &mut Story, name: &str, n: i64, from: u64) {
    story.asks(name, n);
    let (worker, task) = story.owner(name);
    let mut report = report(task, w(n), &format!("{name} {from}..{}", from + 1));
    report.objects = vec![streamctl_proto::StagedObject {
        location: "/out/a".into(),
        size: 1,
        crc32c: 1,
        rows: 1,
        kind: streamctl_proto::report::ObjectKind::Data,
        table_file: None,
        staging: streamctl_proto::report::Staging::File {
            staged_path: "/out/.a.staged".into(),
        },
    }];
    story.tell(Event::reported(worker, report));
}

#[test]
fn a_worker_that_is_refused_is_named_and_its_shards_go_to_another_at_once() {
    let mut story = Story::running(bounded(), "a b", "w1 w2");
    let (bad, task) = story.owner("a");
    let effects = story.task_ends((bad.clone(), task), refused(Place::Sink));
    assert_eq!(started(&effects).len(), 1, "no wait: {effects:?}");
    assert_ne!(story.owner("a").0, bad);
    let status = story.core.status(&story.name(), true).unwrap();
    assert_eq!(
        status.state(),
        streamctl_proto::v1::JobState::Running,
        "{:?}",
        status.waiting_on
    );
    let named = &status.avoided[0];
    assert_eq!(
        (named.worker.as_str(), named.error.as_str()),
        (bad.as_str(), "403 AccessDenied")
    );
    assert_eq!(named.hint, "allow s3:PutObject");
}

#[test]
fn a_worker_that_is_refused_again_takes_shards_from_the_others_less_and_less_often() {
    let mut story = Story::running(bounded(), "a b", "w1 w2");
    let bad = story.owner("a").0;
    let mut waits = vec![];
    for _ in 0..6 {
        let tasks = &story.job().tasks;
        let of_bad = tasks
            .iter()
            .find(|(_, task)| task.worker == bad)
            .map(|(id, _)| *id);
        story.task_ends(
            (bad.clone(), of_bad.expect("it has its share")),
            refused(Place::Sink),
        );
        assert!(story.job().tasks.values().all(|task| task.worker != bad));
        let since = story.now;
        let handed_back = loop {
            let tasks = &story.job().tasks;
            if let Some((id, task)) = tasks
                .iter()
                .find(|(_, task)| task.state == TaskState::Releasing)
            {
                break (task.worker.clone(), *id);
            }
            assert!(story.now - since <= CoreSettings::default().avoid_max_ms);
            story.after(100);
        };
        waits.push(story.now - since);
        story.task_ends(handed_back, TaskEnd::Released);
    }
    let settings = CoreSettings::default();
    assert_eq!(waits[0], settings.avoid_ms);
    assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
    assert_eq!(waits.last(), Some(&settings.avoid_max_ms), "{waits:?}");
}

#[test]
fn a_job_fails_when_all_its_workers_are_refused_by_the_same_place_again_and_again() {
    let mut story = Story::running(bounded(), "a", "w1 w2");
    for round in 0..=REFUSAL_ROUNDS_AGREED_MAX {
        for _ in 0..2 {
            assert!(story.job().runs(), "round {round}");
            let owner = story.owner("a");
            story.task_ends(owner, refused(Place::Sink));
            if story.job().runs() && story.shard("a").task.is_none() {
                let effects = story.core.status(&story.name(), true).unwrap().waiting_on;
                assert!(
                    effects
                        .iter()
                        .any(|wait| wait.contains("403") && wait.contains("s3:PutObject")),
                    "{effects:?}"
                );
                story.after(5_000);
            }
        }
    }
    let DesiredState::Failed { error, hint } = &story.job().wanted else {
        panic!("{:?}", story.job().wanted)
    };
    assert!(
        error.contains("403 AccessDenied") && error.contains("worker w"),
        "{error}"
    );
    assert_eq!(hint, "allow s3:PutObject");
}

#[test]
fn the_only_worker_of_a_job_may_be_refused_for_a_while() {
    let mut story = Story::running(bounded(), "a", "w1");
    let refuse = |story: &mut Story, rounds: u32| {
        for _ in 0..rounds {
            let owner = story.owner("a");
            story.task_ends(owner, refused(Place::Source));
            assert!(story.job().runs());
            assert_eq!(started(&story.after(5_000)).len(), 1, "it is asked again");
        }
    };
    refuse(&mut story, REFUSAL_ROUNDS_ALONE_MAX);
    // The credentials are renewed: a commit resets the count.
    stages(&mut story, "a", 0, 0);
    story.is_past("a", 1);
    story.store_works();
    assert_eq!(story.committed(), [0]);
    assert_eq!(avoided(&story), Vec::<String>::new());
    refuse(&mut story, REFUSAL_ROUNDS_ALONE_MAX);
    let owner = story.owner("a");
    story.task_ends(owner, refused(Place::Source));
    assert!(matches!(story.job().wanted, DesiredState::Failed { .. }));
}

#[test]
fn refusals_by_different_places_do_not_agree() {
    let mut story = Story::running(bounded(), "a", "w1 w2");
    for _ in 0..=REFUSAL_ROUNDS_AGREED_MAX {
        for place in [Place::Sink, Place::Source] {
            let owner = story.owner("a");
            story.task_ends(owner, refused(place));
            if story.shard("a").task.is_none() {
                story.after(5_000);
            }
        }
    }
    assert!(story.job().runs());
}

#[test]
fn not_every_worker_of_many_has_to_be_refused_before_it_is_the_jobs_fault() {
    let names: Vec<String> = (0..20).map(|n| format!("w{n:02}")).collect();
    let mut story = Story::running(bounded(), "a", &names.join(" "));
    for asked in 1..REFUSED_WORKERS_MAX {
        let owner = story.owner("a");
        story.task_ends(owner, refused(Place::Sink));
        assert!(
            story.shard("a").task.is_some(),
            "after {asked} the next one is asked at once"
        );
    }
    let owner = story.owner("a");
    story.task_ends(owner, refused(Place::Sink));
    assert_eq!(story.job().refusal_rounds, 1);
}

#[test]
fn bad_workers_never_end_a_job_that_another_worker_runs() {
    let mut story = Story::running(bounded(), "a b", "w1 w2 w3");
    let healthy = story.owner("b").0;
    for _ in 0..50 {
        let owner = story.owner("a");
        if owner.0 == healthy {
            break;
        }
        story.task_ends(owner, refused(Place::Sink));
    }
    assert_eq!(story.owner("a").0, healthy, "both others were refused");
    assert!(story.job().runs());
    assert_eq!((story.job().refusal_rounds, avoided(&story).len()), (0, 2));
}

#[test]
fn what_no_worker_can_ever_hold_fails_the_job_once_all_were_asked() {
    let mut story = Story::running(bounded(), "a", "w1 w2");
    let small = story.owner("a");
    story.task_ends(small, refused(Place::Memory));
    assert!(story.job().runs(), "the other one may be larger");
    let other = story.owner("a");
    story.task_ends(other, refused(Place::Memory));
    assert!(matches!(story.job().wanted, DesiredState::Failed { .. }));
}

#[test]
fn a_job_with_a_function_waits_for_a_worker_that_runs_functions() {
    let mut story = Story::running(bounded(), "a", "w1");
    for _ in 0..2 * REFUSAL_ROUNDS_ALONE_MAX {
        let (worker, task) = story.owner("a");
        story.task_ends((worker, task), refused(Place::Functions));
        assert!(story.job().runs(), "such a worker may come");
        if story.shard("a").task.is_none() {
            story.after(5_000);
        }
    }
}
