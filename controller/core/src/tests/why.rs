//! What the journal notes, and what a job waits for.

use super::*;
use crate::hanging::HangingCall;
use crate::journal::Query;
use streamctl_proto::profile::OperatorFigures;

impl Story {
    /// Kinds of the journal with their subjects, oldest first.
    fn noted(&self) -> Vec<(&'static str, String)> {
        let query = Query {
            limit: usize::MAX,
            ..Query::default()
        };
        let entries = self.core.journal.page(&query).entries.into_iter();
        entries
            .map(|entry| (entry.kind.label(), entry.subject))
            .collect()
    }

    fn waits(&self) -> Vec<(String, String, bool)> {
        let status = self.core.status(&self.name(), true).unwrap();
        let waits = status.waits.into_iter();
        waits
            .map(|wait| (wait.stage, wait.text, wait.normal))
            .collect()
    }

    /// The task of `name` reports that a call has no answer.
    fn hangs(&mut self, name: &str, age_ms: u64) {
        let (worker, task) = self.owner(name);
        let call = HangingCall {
            service: "Kinesis".into(),
            operation: "GetRecords".into(),
            count: 2,
            age_ms,
            reads: true,
        };
        self.tell(Event::Task {
            worker,
            task,
            event: TaskEvent::Progressed {
                watermark: Watermark::Unknown,
                work_us: 0,
                computing: Computing::default(),
                hanging: vec![call],
                shards: vec![],
            },
        });
    }
}

#[test]
fn what_happens_to_a_job_and_its_workers_is_noted_once() {
    let mut story = Story::running(bounded(), "a", "w1 w2");
    story.after(100);
    let (lost, task) = story.owner("a");
    let expected = [
        ("job_submitted", ""),
        ("worker_joined", "w1"),
        ("worker_joined", "w2"),
        ("task_started", lost.as_str()),
    ];
    let expected = expected.map(|(kind, subject)| (kind, subject.to_owned()));
    assert_eq!(story.noted(), expected);
    story.task_ends(
        (lost.clone(), task),
        TaskEnd::Retry {
            error: "the query failed".into(),
        },
    );
    story.after(2_000);
    let (lost, _) = story.owner("a");
    story.breaks(lost.as_str());
    story.after(3_100);
    let job = story.name();
    story.tell(Event::Job {
        job,
        event: JobEvent::StopRequested { drain: false },
    });
    story.after(100);
    let kinds: Vec<_> = story.noted()[3..].iter().map(|(kind, _)| *kind).collect();
    for kind in ["task_failed", "worker_lost", "task_started", "job_stopped"] {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
    assert_eq!(kinds.last(), Some(&"job_stopped"));
    let before = story.core.journal.last_revision();
    story.after(5_000);
    assert_eq!(
        story.core.journal.last_revision(),
        before,
        "a calm core notes nothing"
    );
}

#[test]
fn a_lookup_is_noted_when_its_version_changes() {
    let mut story = Story::running(with_lookup(bounded()), "a", "w1");
    story.sees_lookup("1");
    story.sees_lookup("1");
    story.sees_lookup("2");
    story.after(100);
    let noted = story.noted();
    let taken = noted.iter().filter(|(kind, _)| *kind == "lookup_taken");
    assert_eq!(taken.count(), 1, "two versions, one entry: {noted:?}");
    let entry = story.core.journal.after(0).iter();
    let counts = entry.filter(|entry| entry.kind == crate::journal::Kind::LookupTaken);
    assert_eq!(counts.map(|entry| entry.count).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_service_that_hangs_is_named_until_it_answers() {
    let mut story = Story::running(kinesis(), "a", "w1");
    story.hangs("a", 2_000);
    story.after(1_000);
    assert!(
        story.waits().iter().all(|(.., normal)| *normal),
        "{:?}",
        story.waits()
    );
    story.hangs("a", 3_000);
    story.after(1_000);
    let text = "Kinesis has not answered GetRecords of 2 shards for 4 s (w1)";
    let waits = story.waits();
    assert!(
        waits.contains(&("read".into(), text.into(), false)),
        "{waits:?}"
    );
    let status = story.core.status(&story.name(), true).unwrap();
    assert_eq!(status.waiting_on, [text]);
    assert_eq!(status.state(), streamctl_proto::v1::JobState::Waiting);
    story.after(3_600);
    let waits = story.waits();
    assert!(
        !waits.iter().any(|(_, text, _)| text.contains("Kinesis")),
        "{waits:?}"
    );
}

#[test]
fn waiting_for_a_parent_shard_or_for_a_window_is_normal() {
    let mut story = Story::running(kinesis(), "a b<a", "w1");
    story.after(1_000);
    let waits = story.waits();
    let parents = waits.iter().find(|(_, text, _)| text.contains("parent"));
    assert_eq!(
        parents.map(|(stage, _, normal)| (stage.as_str(), *normal)),
        Some(("read", true))
    );
    let window = story.now / WINDOW_MS + 5;
    story.asks("a", window);
    let waits = story.waits();
    let ends = waits.iter().find(|(stage, ..)| stage == "window");
    let (_, text, normal) = ends.expect("an open window");
    assert!(
        *normal && text.starts_with("the end of the window from "),
        "{waits:?}"
    );
    let status = story.core.status(&story.name(), true).unwrap();
    assert_eq!(status.waiting_on, Vec::<String>::new());
}

#[test]
fn a_lag_that_is_not_reported_any_more_grows() {
    let mut story = Story::running(kinesis(), "a", "w1");
    let (worker, task) = story.owner("a");
    let stats = ShardStats {
        lag_ms: 700,
        records: 5,
        ..ShardStats::default()
    };
    story.tell(Event::Task {
        worker,
        task,
        event: TaskEvent::Progressed {
            watermark: Watermark::Unknown,
            work_us: 0,
            computing: Computing::default(),
            hanging: vec![],
            shards: vec![(shard("a"), stats)],
        },
    });
    let lag = |story: &Story| story.core.status(&story.name(), false).unwrap().shards[0].lag_ms;
    assert_eq!(lag(&story), 700);
    let job = story.name();
    story.tell(Event::Job {
        job,
        event: JobEvent::StopRequested { drain: false },
    });
    story.after(60_000);
    assert_eq!(lag(&story), 60_700, "nothing is read");
}

#[test]
fn a_query_that_computes_is_shown_with_the_operator_that_takes_longest() {
    let mut story = Story::running(bounded(), "a", "w1");
    let (worker, task) = story.owner("a");
    let busiest = OperatorFigures {
        compute_us: Some(4_200_000),
        ..OperatorFigures::new(2, "CrossJoinExec", "")
    };
    let computing = |ms, busiest| TaskEvent::Progressed {
        watermark: Watermark::Unknown,
        work_us: 0,
        computing: Computing { ms, busiest },
        hanging: vec![],
        shards: vec![],
    };
    let query = |story: &mut Story, event| {
        let worker = worker.clone();
        story.tell(Event::Task {
            worker,
            task,
            event,
        });
        let waits = story.waits().into_iter();
        let of_query = waits.filter(|(stage, ..)| stage == "query");
        of_query.map(|(_, text, _)| text).collect::<Vec<_>>()
    };
    let long = query(&mut story, computing(5_000, Some(busiest)));
    assert_eq!(
        long,
        [format!(
            "task {task} on w1: its query has been computing for 5 s; 4 s of the window were spent in CrossJoinExec"
        )]
    );
    let unmeasured = query(&mut story, computing(5_000, None));
    assert!(
        unmeasured[0].ends_with("computing for 5 s"),
        "{unmeasured:?}"
    );
    assert!(query(&mut story, computing(1_000, None)).is_empty());
}
