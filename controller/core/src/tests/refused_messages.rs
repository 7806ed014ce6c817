//! Stories of workers whose messages are refused: the consequences for the workers, their tasks and
//! their jobs.

use super::*;
use crate::refusals::SUSPECT_WORKERS_MAX;
use streamctl_proto::convert::BadMessage;

fn bad_window() -> Window {
    Window {
        start_ms: 1,
        end_ms: 1 + WINDOW_MS,
    }
}

impl Story {
    fn tell_admitted(&mut self, event: Event) -> Vec<Effect> {
        self.core
            .admit(event)
            .into_iter()
            .flat_map(|event| self.tell(event))
            .collect()
    }

    /// The task that reads `name` sends an invalid report.
    fn lies(&mut self, name: &str) -> Vec<Effect> {
        let (worker, task) = self.owner(name);
        let reported = report(task, bad_window(), &format!("{name} 0..5"));
        self.tell_admitted(Event::reported(worker, reported))
    }

    fn is_read(&self, name: &str) -> bool {
        self.shard(name).task.is_some()
    }
}

#[test]
fn a_refused_report_costs_its_task_and_no_worker() {
    let mut story = Story::running(bounded(), "a b", "w1 w2");
    let ((liar, task), (other, kept)) = (story.owner("a"), story.owner("b"));
    let effects = story.lies("a");
    assert!(
        cancelled(&effects, task) && !cancelled(&effects, kept),
        "{effects:?}"
    );
    assert!(story.core.workers[&liar].takes_tasks());
    assert_eq!(
        (story.owner("b"), story.shard("a").reached.clone()),
        ((other.clone(), kept), at(0))
    );
    story.after(1_000);
    assert_eq!(story.owner("a").0, other, "another worker is tried");
    assert_eq!((story.job().failures, story.job().retries), (0, 1));
    assert!(
        story.core.status(&story.name(), true).unwrap().waiting_on[0]
            .contains("message field window")
    );
}

#[test]
fn every_kind_of_message_about_a_task_is_refused_alike() {
    let task_of = |story: &Story| story.owner("a");
    type Lie = fn(WorkerId, TaskId) -> Event;
    let lies: [Lie; 3] = [
        |worker, task| Event::Task {
            worker,
            task,
            event: TaskEvent::WindowRequested(bad_window()),
        },
        |worker, task| Event::Task {
            worker,
            task,
            event: TaskEvent::Progressed {
                watermark: Watermark::Ended,
                work_us: 0,
                computing: Computing::default(),
                hanging: vec![],
                shards: vec![],
            },
        },
        |worker, task| Event::Task {
            worker,
            task,
            event: TaskEvent::ShardEnded(ended("foreign", 5, 3, &[])),
        },
    ];
    for lie in lies {
        let mut story = Story::running(bounded(), "a", "w1");
        let (worker, task) = task_of(&story);
        let effects = story.tell_admitted(lie(worker.clone(), task));
        assert!(cancelled(&effects, task), "{effects:?}");
        assert!(story.core.workers[&worker].takes_tasks() && !story.is_read("a"));
    }
}

#[test]
fn a_worker_that_is_refused_again_and_again_does_not_fail_a_job_that_another_can_do() {
    let mut story = Story::running(bounded(), "a b", "w1 w2");
    let (liar, _) = story.owner("a");
    let mut refused = 0;
    for _ in 0..1_200 {
        for name in ["a", "b"] {
            if story.is_read(name) && story.owner(name).0 == liar {
                story.lies(name);
                refused += 1;
            }
        }
        for effect in story.after(1_000) {
            if let Effect::ReleaseTask { worker, task } = effect {
                story.task_ends((worker, task), TaskEnd::Released);
            }
        }
    }
    assert!(
        (3..=10).contains(&refused),
        "it is tried again {refused} times, later and later"
    );
    assert_eq!(
        (&story.job().wanted, story.job().failures),
        (&DesiredState::Running, 0)
    );
}

/// How many reports are refused, whichever worker has the shard, until the job fails.
fn refused_until_it_fails(workers: &str) -> (usize, Story) {
    let mut story = Story::running(bounded(), "a", workers);
    for refused in 0..100 {
        if matches!(story.job().wanted, DesiredState::Failed { .. }) {
            return (refused, story);
        }
        story.lies("a");
        story.after(5_000);
    }
    panic!("it goes round for ever");
}

#[test]
fn what_every_worker_is_refused_for_fails_the_job_and_is_named() {
    let retries_max = bounded().spec.retries_max as usize;
    let (refused, story) = refused_until_it_fails("w1 w2 w3 w4 w5 w6 w7 w8");
    assert_eq!(refused, SUSPECT_WORKERS_MAX + retries_max);
    let DesiredState::Failed { error, hint } = &story.job().wanted else {
        panic!("it has failed")
    };
    for part in ["worker w", "(a)", "field window", "[1, 1001)"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(
        hint.contains("--change") && hint.contains("restart"),
        "{hint}"
    );
    assert_eq!(story.core.workers.len(), 8);
    assert_eq!(
        refused_until_it_fails("w1").0,
        retries_max + 1,
        "a single worker has nobody beside it"
    );
}

#[test]
fn a_commit_and_a_resume_forget_what_was_refused_before() {
    let mut story = Story::running(bounded(), "a", "w1");
    for _ in 0..3 {
        story.lies("a");
        story.after(5_000);
    }
    assert_eq!(story.job().failures, 3);
    story.asks("a", 0);
    story.reports(0, "a 0..5");
    story.is_past("a", 1);
    story.store_works();
    assert_eq!((story.committed(), story.job().failures), (vec![0], 0));
    for _ in 0..4 {
        story.lies("a");
        story.after(5_000);
    }
    assert!(matches!(story.job().wanted, DesiredState::Failed { .. }));
    story.store_works();
    let job = story.name();
    story.tell(Event::Job {
        job,
        event: JobEvent::ResumeRequested,
    });
    story.lists("a");
    story.lies("a");
    assert_eq!(
        (&story.job().wanted, story.job().failures),
        (&DesiredState::Running, 1)
    );
}

#[test]
fn a_message_about_a_task_of_another_worker_changes_nothing_for_it() {
    let mut story = Story::running(bounded(), "a b", "w1 w2");
    let ((liar, _), (_, other)) = (story.owner("a"), story.owner("b"));
    let problem = BadMessage {
        field: "window",
        problem: "is none".into(),
    };
    let refused = RefusedTask {
        task: other,
        job: Some(story.name()),
        problem,
    };
    story.tell(Event::refused(liar, refused));
    assert_eq!((story.task("b"), story.job().retries), (other, 0));
}

/// A task of the previous leader that a worker reports as running.
fn of_before(counter: u64, base: &str) -> RunningTask {
    runs(
        TaskId {
            term: Term(1),
            counter,
        },
        base,
    )
}

fn joined(worker: &str, tasks: Vec<RunningTask>) -> Event {
    Event::Worker {
        worker: WorkerId::new(worker),
        session: 1_000,
        event: WorkerEvent::Joined {
            facts: Default::default(),
            process: 0,
            flight_address: String::new(),
            tasks,
        },
    }
}

#[test]
fn at_a_hello_only_the_refused_task_is_cancelled() {
    let mut new = Story::of(bounded()).next_leader(2);
    let good = of_before(1, "a 0..0");
    let mut bad = of_before(2, "b 0..0");
    let twice = of_before(3, "c 0..0");
    bad.windows = vec![(bad_window(), BTreeMap::new())];
    let hello = joined(
        "w1",
        vec![good.clone(), bad.clone(), twice.clone(), twice.clone()],
    );
    let mut effects = new.tell_admitted(hello);
    new.lists("a b c");
    effects.extend(new.after(1_500));
    assert!(
        !cancelled(&effects, good.task)
            && cancelled(&effects, bad.task)
            && cancelled(&effects, twice.task)
    );
    assert_eq!(new.task("a"), good.task, "it is adopted");
    assert_eq!(new.job().refusals[&worker("w1")].times, 2);
    new.after(5_000);
    assert!(
        new.is_read("b") && new.is_read("c"),
        "the others are given out anew"
    );
}

#[test]
fn messages_of_an_offered_task_are_refused_before_its_adoption_too() {
    let mut new = Story::of(bounded()).next_leader(2);
    let offered = of_before(1, "a 0..0");
    new.tell_admitted(joined("w1", vec![offered.clone()]));
    new.lists("a");
    let worker = worker("w1");
    let task = offered.task;
    let effects = new.tell_admitted(Event::Task {
        worker,
        task,
        event: TaskEvent::WindowRequested(bad_window()),
    });
    assert!(cancelled(&effects, task));
    new.after(5_000);
    assert_ne!(new.task("a"), task, "it is not adopted");
}

#[test]
fn a_report_of_a_deleted_job_never_enters_another_of_its_name() {
    let deleted = bounded();
    let again = ResolvedJob {
        submitted_ms: deleted.submitted_ms + 1,
        ..deleted.clone()
    };
    let adopted = |submitted_ms: i64| {
        let mut leader = Story::empty(2);
        leader.tell(Event::loaded(LoadedJob {
            job: again.clone(),
            wanted: DesiredState::Running,
            head: None,
            unpublished: vec![],
            published: Epoch(0),
            replays: Default::default(),
            lookups: BTreeMap::new(),
            repairs: vec![],
            anchors: Default::default(),
        }));
        let mut running = RunningTask {
            submitted_ms: Some(submitted_ms),
            ..of_before(1, "a 0..0")
        };
        running.reports = vec![report(running.task, w(0), "a 0..5")];
        let mut effects = leader.joins("w1", vec![running.clone()]);
        leader.lists("a");
        effects.extend(leader.after(1_500));
        (
            cancelled(&effects, running.task),
            leader.shard("a").reached.clone(),
        )
    };
    assert_eq!(adopted(deleted.submitted_ms), (true, at(0)));
    assert_eq!(adopted(again.submitted_ms), (false, at(5)));
}

#[test]
fn a_manifest_that_could_not_be_read_again_fails_the_job_and_its_window_is_read_anew() {
    let refuse = |story: &mut Story| {
        story.store.clear();
        let job = story.name();
        let epoch = Epoch(1);
        let error = "the manifest has too many bytes".to_owned();
        let hint = "fewer partitions".to_owned();
        story.tell(Event::Job {
            job,
            event: JobEvent::ManifestRefused { epoch, error, hint },
        })
    };
    for stopped in [false, true] {
        let mut story = Story::running(bounded(), "a", "w1");
        story.asks("a", 0);
        story.reports(0, "a 0..5");
        story.is_past("a", 1);
        assert!(matches!(story.store[..], [Effect::WriteManifest { .. }]));
        let job = story.name();
        if stopped {
            story.tell(Event::Job {
                job: job.clone(),
                event: JobEvent::StopRequested { drain: false },
            });
        }
        refuse(&mut story);
        assert!(story.job().committing.is_none() && story.job().windows.is_empty());
        assert_eq!(
            (story.shard("a").reached.clone(), story.job().epoch()),
            (at(0), Epoch(0))
        );
        assert_eq!(
            matches!(story.job().wanted, DesiredState::Failed { .. }),
            !stopped
        );
        story.tell(Event::Job {
            job,
            event: JobEvent::ResumeRequested,
        });
        story.lists("a");
        story.after(1_000);
        assert_eq!(story.shard("a").reached, at(0), "it is read again");
        assert!(story.is_read("a"));
    }
}
