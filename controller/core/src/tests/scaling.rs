//! What the core shows to the scaler, and the scaler's status.

use super::*;
use streamctl_proto::v1;

/// What every shard has delivered so far.
#[derive(Default)]
struct Load {
    bytes: u64,
    lag_ms: u64,
    work_us: u64,
}

impl Story {
    /// For this many seconds, all workers are saturated, and all shards fall behind by half of the
    /// time.
    fn is_too_much(&mut self, load: &mut Load, seconds: u64) {
        for _ in 0..seconds {
            load.bytes += 1_000;
            load.lag_ms += 500;
            load.work_us += 1_000_000;
            let sessions: Vec<_> = self
                .core
                .workers
                .iter()
                .map(|(id, worker)| (id.clone(), worker.session))
                .collect();
            for (worker, session) in sessions {
                self.tell(Event::Worker {
                    worker,
                    session,
                    event: WorkerEvent::Heard {
                        cpu_permille: None,
                        memory_bytes: 0,
                        busy_permille: Some(1_000),
                        clock_skew_ms: None,
                    },
                });
            }
            let tasks: Vec<_> = self
                .job()
                .tasks
                .iter()
                .map(|(id, task)| (*id, task.clone()))
                .collect();
            for (id, task) in tasks {
                let stats = ShardStats {
                    bytes: load.bytes,
                    lag_ms: load.lag_ms,
                    ..ShardStats::default()
                };
                let shards = task
                    .shards
                    .iter()
                    .map(|shard| (shard.clone(), stats.clone()))
                    .collect();
                let worker = task.worker;
                let work_us = load.work_us;
                self.tell(Event::Task {
                    worker,
                    task: id,
                    event: TaskEvent::Progressed {
                        watermark: Watermark::At(0),
                        work_us,
                        computing: Computing::default(),
                        hanging: vec![],
                        shards,
                    },
                });
            }
            self.after(1_000);
        }
    }

    fn scaling(&self) -> v1::ScalingStatus {
        self.core.scaling_status(None, 0).unwrap()
    }
}

#[test]
fn a_job_that_is_too_much_for_its_worker_gets_more_and_its_share_is_shown() {
    let mut story = Story::running(kinesis(), "a b c d", "w1");
    assert_eq!(
        story.scaling().desired,
        None,
        "no number is given in the first seconds of a leader"
    );
    let mut load = Load::default();
    story.is_too_much(&mut load, 50);
    let status = story.scaling();
    assert_eq!(
        (status.desired, status.workers, status.active),
        (Some(2), 1, true),
        "{status:#?}"
    );
    assert!(
        status.doing.contains("1 more worker to come"),
        "{}",
        status.doing
    );
    let numbers: Vec<_> = status
        .decisions
        .iter()
        .map(|decision| (decision.from, decision.to))
        .collect();
    assert_eq!(numbers, [(1, 1), (1, 2)]);
    let part = &status.decisions[1].figures.as_ref().unwrap().jobs[0];
    assert_eq!(
        (
            part.places,
            part.bytes_per_second,
            part.arriving_bytes_per_second
        ),
        (4, 4_000, 8_000)
    );
    assert!(part.work > 0.99 && part.work_needed > 2.0, "{part:?}");
    let of_job = story.core.scaling_status(Some(&story.name()), 1).unwrap();
    assert_eq!(
        (
            of_job.decisions.len(),
            of_job.figures.unwrap().jobs[0].job.as_str()
        ),
        (1, "sales")
    );
    assert!(
        story
            .core
            .scaling_status(Some(&"other".parse().unwrap()), 0)
            .is_none()
    );

    // The second worker joins, and shards move: a measurement across the move does not count.
    story.joins("w2", vec![]);
    story.after(1_000);
    assert!(
        story.scaling().doing.contains("moved"),
        "{}",
        story.scaling().doing
    );
}

#[test]
fn a_query_that_needs_the_whole_window_is_one_place_whatever_its_shards() {
    let mut story = Story::running(whole(kinesis()), "a b c d", "w1");
    story.is_too_much(&mut Load::default(), 90);
    let status = story.scaling();
    assert_eq!(status.desired, Some(1), "{status:#?}");
    assert_eq!(status.figures.unwrap().jobs[0].places, 1);
    assert!(
        status.doing.contains("no more shards for others"),
        "{}",
        status.doing
    );
}

#[test]
fn without_a_worker_one_is_wanted_and_without_a_job_nothing_is_to_be_read() {
    let mut story = Story::running(kinesis(), "a", "w1");
    story.after(6_000);
    story.falls_silent("w1");
    story.breaks("w1");
    story.after(10_000);
    let status = story.scaling();
    assert_eq!(
        (status.desired, status.workers, status.active),
        (Some(1), 0, true)
    );
    assert_eq!(status.doing, "no worker is there");
    story.tell(Event::Job {
        job: story.name(),
        event: JobEvent::StopRequested { drain: false },
    });
    story.after(2_000);
    assert!(!story.scaling().active);
}

#[test]
fn a_new_leader_takes_over_as_many_workers_as_there_are() {
    let story = Story::running(kinesis(), "a b c d", "w1 w2 w3");
    let mut next = story.next_leader(2);
    for name in ["w1", "w2", "w3"] {
        next.joins(name, vec![]);
    }
    next.after(4_000);
    assert_eq!(next.scaling().desired, None);
    next.after(2_000);
    let status = next.scaling();
    assert_eq!(status.desired, Some(3));
    assert_eq!(
        (status.decisions.len(), status.decisions[0].term),
        (1, 2),
        "the list begins anew"
    );
}

#[test]
fn a_worker_is_as_busy_as_it_last_reported() {
    let mut story = Story::running(bounded(), "a", "w1 w2");
    let says = |story: &mut Story, name: &str, busy_permille| {
        let session = story.session(name);
        story.tell(Event::Worker {
            worker: worker(name),
            session,
            event: WorkerEvent::Heard {
                cpu_permille: None,
                memory_bytes: 0,
                busy_permille,
                clock_skew_ms: None,
            },
        });
    };
    for busy in [Some(900), Some(714), None] {
        says(&mut story, "w1", busy);
    }
    let busy: Vec<_> = story
        .core
        .worker_status()
        .into_iter()
        .map(|worker| worker.busy_permille)
        .collect();
    assert_eq!(
        busy,
        [Some(714), None],
        "a worker that never reports it has no share"
    );
    says(&mut story, "w2", Some(70_000));
    assert_eq!(
        story.core.worker_status()[1].busy_permille,
        Some(1_000),
        "no share is more than all"
    );
}
