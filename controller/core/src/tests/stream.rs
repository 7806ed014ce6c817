//! Stories about the stream: its identity, its retention, records that expired unread.

use super::*;
use streamctl_proto::manifest::TimeGap;
use streamctl_proto::resolved::StreamIdentity;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

fn facts(created_ms: i64, retention_ms: i64) -> Option<StreamFacts> {
    let identity = StreamIdentity {
        arn: Some("arn:aws:kinesis:eu-west-1:1:stream/sales".into()),
        created_ms,
    };
    Some(StreamFacts {
        identity,
        retention_ms,
    })
}

/// Shard a of a stream that keeps records for a day, with one worker; submitted at 900,000.
fn reading(stream: Option<StreamFacts>) -> Story {
    let mut story = Story::of(ResolvedJob {
        submitted_ms: 900_000,
        ..kinesis()
    });
    story.stream = stream;
    story.joins("w1", vec![]);
    story.lists("a");
    story
}

/// Of the started tasks: up to when each shard is read, and the retention, as sent to the task.
fn reported(effects: &[Effect]) -> Vec<(String, Option<i64>, Option<i64>)> {
    let mut all = vec![];
    for effect in effects {
        if let Effect::StartTask {
            shards,
            retention_ms,
            ..
        } = effect
        {
            all.extend(
                shards
                    .iter()
                    .map(|shard| (shard.shard.to_string(), shard.read_to_ms, *retention_ms)),
            );
        }
    }
    all
}

fn reads(story: &mut Story, n: i64, range: &str) {
    story.asks("a", n);
    story.reports(n, range);
    story.is_past("a", n + 1);
    story.store_works();
}

#[test]
fn a_task_is_sent_up_to_when_its_shards_are_read_and_how_long_records_are_kept() {
    let mut story = reading(facts(1, DAY_MS));
    assert_eq!(
        reported(&story.effects),
        [("a".into(), Some(900_000), Some(DAY_MS))],
        "the submit is the first promise"
    );
    reads(&mut story, 1_000, "a 0..5");
    assert_eq!(
        story.manifests[0].frontier[&shard("a")].read_to_ms,
        Some(1_001_000)
    );
    story.is_past("a", 1_030);
    let task = story.owner("a");
    let again = story.task_ends(task, TaskEnd::Released);
    assert_eq!(
        reported(&again),
        [("a".into(), Some(1_030_000), Some(DAY_MS))],
        "an idle shard is read as time passes"
    );

    let mut next = story.next_leader(2);
    next.joins("w2", vec![]);
    next.after(10_000);
    let given = next.lists("a");
    assert_eq!(
        reported(&given),
        [("a".into(), Some(1_001_000), Some(DAY_MS))],
        "a new leader knows what the head says"
    );
}

#[test]
fn a_child_is_read_up_to_the_end_of_its_parents() {
    let mut story = reading(facts(1, DAY_MS));
    story.asks("a", 1_000);
    let given = story.shard_ends("a", 5, 1_000, &["b<a"]);
    let given = [given, story.lists("a b<a")].concat();
    assert_eq!(
        reported(&given),
        [("b".into(), Some(1_000_000), Some(DAY_MS))]
    );
}

#[test]
fn a_stream_that_was_created_again_is_refused_however_long_ago_it_was_pinned() {
    let mut story = reading(facts(1, DAY_MS));
    assert!(
        story.job().resolved.stream_identity.is_none(),
        "a job of an earlier build"
    );
    reads(&mut story, 1_000, "a 0..5");
    assert_eq!(
        story.manifests[0].stream,
        Some(facts(1, DAY_MS).unwrap().identity)
    );
    let mut next = story.next_leader(2);
    for story in [&mut story, &mut next] {
        story.after(10_000);
        story.stream = facts(2, DAY_MS);
        story.lists("a");
        let DesiredState::Failed { error, hint } = &story.job().wanted else {
            panic!("{:?}", story.job().wanted)
        };
        assert!(
            error.contains("deleted and created again")
                && error.contains("1970-01-01T00:00:00.002Z"),
            "{error}"
        );
        assert!(hint.contains("another name"), "{hint}");
    }
}

#[test]
fn a_listing_without_stream_facts_leaves_what_is_known() {
    let mut story = reading(facts(1, DAY_MS));
    story.stream = None;
    story.after(10_000);
    story.lists("a");
    assert_eq!(story.job().stream, facts(1, DAY_MS));
    assert!(story.job().runs());
}

#[test]
fn a_changed_retention_is_sent_to_tasks_at_once() {
    let mut story = reading(facts(1, DAY_MS));
    let (worker, task) = story.owner("a");
    story.after(10_000);
    assert!(!released(&story.lists("a"), task), "it is the same");
    story.stream = facts(1, HOUR_MS);
    story.after(10_000);
    assert!(released(&story.lists("a"), task));
    let again = story.task_ends((worker, task), TaskEnd::Released);
    assert_eq!(
        reported(&again),
        [("a".into(), Some(900_000), Some(HOUR_MS))]
    );
}

#[test]
fn a_task_that_a_new_leader_adopts_is_sent_a_changed_retention() {
    let mut story = reading(facts(1, DAY_MS));
    reads(&mut story, 1_000, "a 0..5");
    let task = story.task("a");
    let mut next = story.next_leader(2);
    next.stream = facts(1, HOUR_MS);
    next.joins(
        "w1",
        vec![RunningTask {
            retention_ms: Some(DAY_MS),
            ..runs(task, "a 5..5")
        }],
    );
    next.after(10_000);
    assert!(released(&next.lists("a"), task));
}

#[test]
fn a_known_gap_is_in_the_manifests_under_any_leader() {
    let mut story = reading(facts(1, DAY_MS));
    let gap = TimeGap {
        from_ms: 5_000,
        to_ms: 9_000,
    };
    let progressed = |story: &Story, watermark| {
        let (worker, task) = story.owner("a");
        let stats = ShardStats {
            lost: Some(gap),
            ..ShardStats::default()
        };
        Event::Task {
            worker,
            task,
            event: TaskEvent::Progressed {
                watermark: Watermark::At(watermark),
                work_us: 0,
                computing: Computing::default(),
                hanging: vec![],
                shards: vec![(shard("a"), stats)],
            },
        }
    };
    let event = progressed(&story, i64::MIN);
    let task = story.task("a");
    story.tell(event);
    reads(&mut story, 1_000, "a 0..5");
    assert_eq!(story.manifests[0].frontier[&shard("a")].lost, Some(gap));
    let event = progressed(&story, 1_001_000);
    story.tell(event);
    reads(&mut story, 1_001, "a 5..6");
    assert_eq!(
        story.manifests[1].frontier[&shard("a")].lost,
        Some(gap),
        "it is the same one"
    );

    let wider = TimeGap {
        from_ms: 20_000,
        to_ms: 30_000,
    };
    let mut next = story.next_leader(2);
    let lost = BTreeMap::from([(shard("a"), wider)]);
    next.joins(
        "w1",
        vec![RunningTask {
            lost,
            ..runs(task, "a 6..6")
        }],
    );
    next.after(10_000);
    next.lists("a");
    reads(&mut next, 1_002, "a 6..7");
    assert_eq!(next.manifests[2].frontier[&shard("a")].lost, Some(wider));
}

#[test]
fn gaps_that_no_head_holds_grow_together() {
    let mut one = job::Shard::new(Position::Start, vec![], String::new(), Watermark::At(0));
    let gap = |from_ms, to_ms| Some(TimeGap { from_ms, to_ms });
    one.note_lost(gap(10, 20));
    one.note_lost(gap(30, 40));
    one.note_lost(gap(10, 20));
    one.note_lost(None);
    assert_eq!(one.lost, gap(10, 40));
    one.committed_lost = one.lost;
    one.note_lost(gap(30, 40));
    assert_eq!(one.lost, gap(10, 40), "a task names it again and again");
    one.note_lost(gap(50, 60));
    assert_eq!(one.lost, gap(50, 60), "the next one");
}

#[test]
fn an_idle_job_records_four_times_per_retention_up_to_when_it_has_read() {
    let mut story = reading(facts(1, 40_000_000));
    story.is_past("a", 10_800);
    story.after(10_000);
    assert_eq!(
        story.committed(),
        Vec::<i64>::new(),
        "a quarter has not passed since the submit"
    );
    story.is_past("a", 10_901);
    story.after(10_000);
    story.store_works();
    assert_eq!(story.committed(), [10_900]);
    let manifest = &story.manifests[0];
    assert_eq!(
        (
            manifest.counts,
            manifest.parts.len(),
            manifest.objects.len()
        ),
        (Counts::default(), 0, 0)
    );
    assert_eq!(manifest.frontier[&shard("a")].read_to_ms, Some(10_901_000));
    story.after(10_000);
    assert_eq!(story.committed(), [10_900], "once is enough");
    story.asks("a", 10_901);
    story.reports(10_901, "a 0..5");
    story.is_past("a", 10_902);
    story.store_works();
    assert_eq!(story.committed(), [10_900, 10_901]);
}

#[test]
fn a_job_whose_stream_is_not_described_commits_nothing_while_it_is_idle() {
    let mut story = reading(None);
    story.is_past("a", 1_000_000);
    story.after(10_000);
    assert!(story.store.is_empty());
}
