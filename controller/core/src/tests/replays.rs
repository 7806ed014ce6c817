//! Stories of replayed dead letters.

use super::*;
use streamctl_proto::{DeadLetterShard, ManifestRef};

/// A job with two committed windows; its shard continues.
fn with_two_epochs(job: ResolvedJob) -> Story {
    let mut story = Story::running(job, "a", "w1");
    for n in 0..2 {
        story.asks("a", n);
        story.reports(n, &format!("a {}..{}", n * 5, n * 5 + 5));
        story.is_past("a", n + 1);
        story.store_works();
    }
    assert_eq!(story.committed(), [0, 1]);
    story
}

fn letters(epoch: u64) -> WantedReplay {
    let reference = ManifestRef {
        epoch: Epoch(epoch),
        name: String::new(),
        digest: "0123456789abcdef".repeat(4),
    };
    WantedReplay {
        since: Epoch(epoch),
        letters: DeadLetterShard::of(&reference),
    }
}

fn id(epoch: u64) -> String {
    letters(epoch).letters.to_string()
}

fn replay(story: &mut Story, epochs: &[u64]) -> Vec<Effect> {
    let job = story.name();
    story.tell(Event::Job {
        job,
        event: JobEvent::ReplayRequested {
            epochs: epochs.iter().map(|epoch| letters(*epoch)).collect(),
        },
    })
}

/// The task that reads the dead letters of an epoch reads three of them into a window, and they
/// end.
fn reads_three(story: &mut Story, epoch: u64, window: i64) {
    let id = id(epoch);
    let owner = story.owner(&id);
    story.asks(&id, window);
    story.shard_ends(&id, 3, window, &[]);
    story.reports(window, &format!("{id} 0..3"));
    story.is_past(&id, i64::from(u16::MAX));
    story.task_ends(owner, TaskEnd::Completed);
}

#[test]
fn a_replay_is_stored_before_anything_is_read_and_ends_as_a_shard_does() {
    let mut story = with_two_epochs(kinesis());
    let asked = replay(&mut story, &[1, 2]);
    assert!(
        matches!(&asked[..], [Effect::RecordReplays { replays, .. }] if replays.wanted.len() == 2),
        "{asked:?}"
    );
    assert!(
        !story.job().shards.contains_key(&shard(&id(1))),
        "the store does not know yet"
    );
    let given = started(&story.store_works());
    assert_eq!(
        given,
        [(
            "w1".into(),
            id(1),
            Position::Start,
            Watermark::At(w(2).start_ms)
        )],
        "one epoch after the other"
    );
    reads_three(&mut story, 1, 4);
    story.is_past("a", 5);
    story.store_works();
    assert_eq!(
        story.committed(),
        [0, 1],
        "the second epoch's are being read now"
    );
    reads_three(&mut story, 2, 4);
    story.is_past("a", 5);
    story.store_works();
    assert_eq!(story.committed(), [0, 1, 4]);
    assert_eq!(story.manifests[2].counts.rows_in, 6);
    assert_eq!(
        story.manifests[2].frontier[&shard(&id(2))].position,
        Position::End
    );
    assert_eq!(story.job().replays.stored.done, [(Epoch(1), Epoch(2))]);
    assert_eq!(
        story.job().shards.len(),
        1,
        "what is done is no shard any more"
    );
}

#[test]
fn windows_go_on_while_replays_wait_for_each_other() {
    let mut story = with_two_epochs(kinesis());
    replay(&mut story, &[1, 2]);
    story.store_works();
    story.asks("a", 2);
    story.reports(2, "a 10..12");
    story.is_past("a", 9);
    story.is_past(&id(1), 3);
    story.store_works();
    assert_eq!(
        story.committed(),
        [0, 1, 2],
        "the second replay waits for the first, not the job for it"
    );
}

#[test]
fn what_was_asked_for_twice_is_read_once() {
    let mut story = with_two_epochs(kinesis());
    replay(&mut story, &[1]);
    assert!(replay(&mut story, &[1]).is_empty(), "it is wanted already");
    story.store_works();
    reads_three(&mut story, 1, 4);
    story.is_past("a", 5);
    story.store_works();
    assert!(replay(&mut story, &[1]).is_empty(), "it is done");
    let mut next = story.next_leader(2);
    next.joins("w1", vec![]);
    assert!(replay(&mut next, &[1]).is_empty(), "the next leader knows");
    assert!(!next.job().shards.contains_key(&shard(&id(1))));
}

#[test]
fn a_new_leader_reads_what_is_stored_and_continues_at_the_head() {
    let mut story = with_two_epochs(kinesis());
    replay(&mut story, &[1]);
    assert!(
        !story
            .next_leader(2)
            .job()
            .shards
            .contains_key(&shard(&id(1))),
        "it was never acknowledged"
    );
    story.store_works();
    assert!(
        story
            .next_leader(2)
            .job()
            .shards
            .contains_key(&shard(&id(1))),
        "no head has it yet"
    );
    story.asks(&id(1), 4);
    story.reports(4, &format!("{} 0..2", id(1)));
    story.is_past(&id(1), 5);
    story.is_past("a", 5);
    story.store_works();
    let next = story.next_leader(2);
    assert_eq!(
        next.shard(&id(1)).reached,
        at(2),
        "two of them are committed"
    );
}

#[test]
fn a_completed_job_runs_until_its_replays_are_done_and_completes_again() {
    let mut story = with_two_epochs(bounded());
    let owner = story.owner("a");
    story.shard_ends("a", 10, 1, &[]);
    story.task_ends(owner, TaskEnd::Completed);
    story.store_works();
    assert_eq!(story.job().wanted, DesiredState::Completed);
    replay(&mut story, &[2]);
    story.store_works();
    assert_eq!(story.job().wanted, DesiredState::Running);
    reads_three(&mut story, 2, 7);
    story.store_works();
    assert_eq!(
        (story.committed(), story.job().wanted.clone()),
        (vec![0, 1, 7], DesiredState::Completed)
    );
    assert!(
        story
            .after(5_000)
            .iter()
            .all(|effect| !matches!(effect, Effect::RecordReplays { .. })),
        "it is calm"
    );
}

#[test]
fn a_completed_job_whose_leader_died_with_the_request_runs_under_the_next() {
    let mut story = with_two_epochs(bounded());
    let owner = story.owner("a");
    story.shard_ends("a", 10, 1, &[]);
    story.task_ends(owner, TaskEnd::Completed);
    story.store_works();
    let asked = replay(&mut story, &[2]);
    let Some(Effect::RecordReplays { replays, .. }) = asked.first() else {
        panic!("{asked:?}")
    };
    let mut next = Story::empty(2);
    next.manifests.clone_from(&story.manifests);
    let head = story.manifests.last().cloned().map(Box::new);
    let effects = next.tell(Event::loaded(LoadedJob {
        job: story.job().resolved.clone(),
        wanted: DesiredState::Completed,
        head,
        unpublished: vec![],
        published: Epoch(2),
        replays: replays.clone(),
        lookups: BTreeMap::new(),
        repairs: vec![],
        anchors: story.job().retention.stored.clone(),
    }));
    let runs = |effect: &Effect| {
        matches!(
            effect,
            Effect::RecordWanted {
                wanted: DesiredState::Running,
                ..
            }
        )
    };
    assert!(effects.iter().any(runs), "{effects:?}");
}

#[test]
fn a_stopped_job_takes_no_requests_and_continues_with_earlier_ones() {
    let mut story = with_two_epochs(kinesis());
    replay(&mut story, &[1]);
    story.store_works();
    story.tell(Event::Job {
        job: story.name(),
        event: JobEvent::StopRequested { drain: false },
    });
    story.store_works();
    assert!(replay(&mut story, &[2]).is_empty());
    story.tell(Event::Job {
        job: story.name(),
        event: JobEvent::ResumeRequested,
    });
    story.store_works();
    let given = started(&story.lists("a"));
    assert!(
        given
            .iter()
            .any(|(_, name, from, _)| *name == id(1) && *from == Position::Start),
        "{given:?}"
    );
}

#[test]
fn an_end_of_dead_letters_needs_no_listing() {
    let mut story = with_two_epochs(kinesis());
    replay(&mut story, &[1]);
    story.store_works();
    let needed = story.job().listing.needed;
    reads_three(&mut story, 1, 4);
    assert_eq!(story.job().listing.needed, needed);
}

#[test]
fn a_replay_joins_the_one_task_of_a_query_of_whole_windows() {
    let mut story = with_two_epochs(whole(kinesis()));
    let (owner, task) = story.owner("a");
    replay(&mut story, &[1]);
    let effects = story.store_works();
    assert!(released(&effects, task));
    let given = started(&story.task_ends((owner, task), TaskEnd::Released));
    assert_eq!(given.len(), 2);
    assert_eq!(story.owner("a"), story.owner(&id(1)));
}
