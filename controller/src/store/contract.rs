//! What every store must do, tested on each: in memory, on a disk, on a real etcd.
//!
//! Rule: the contract uses only the trait. The tests of one candidate need one process;
//! [`for_several`] needs a store that several processes share. Both panic with what is broken.

use super::{
    CommitOutcome, CreateOutcome, LeaderRecord, Leadership, Store, StoredJob, WriteOutcome,
};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use streamctl_core::journal::{Journal, Kind, Note};
use streamctl_core::stored::{
    Anchors, DesiredState, Repair, Repaired, Replays, WantedReplay, Waypoint,
};
pub use streamctl_core::testing::{head, job, reading_kinesis, sink};
use streamctl_proto::{DeadLetterShard, Epoch, JobVersion, ResolvedJob, Term};

/// A shared store under test.
#[async_trait]
pub trait Bench: Send + Sync {
    /// Another candidate on the same store, as another process would open it.
    async fn candidate(&self) -> Arc<dyn Store>;
    /// Ends the current term from outside, as an expired lease does.
    async fn depose(&self);
}

/// Longest wait in the contract; a slower store breaks the promise to take over within 6 s.
const PATIENCE: Duration = Duration::from_secs(6);

pub fn leader(id: &str) -> LeaderRecord {
    LeaderRecord {
        id: id.to_owned(),
        address: format!("{id}:7400"),
    }
}

/// One requested epoch, and one that is done.
fn replays() -> Replays {
    let letters = DeadLetterShard::of(&head(7));
    Replays {
        wanted: vec![WantedReplay {
            since: Epoch(4),
            letters,
        }],
        done: vec![(Epoch(1), Epoch(3))],
    }
}

/// The contract of one candidate: round trips, idempotent commits, conflicts, a term that is over.
pub async fn for_one(store: Arc<dyn Store>) {
    assert_eq!(
        store.leader().await.unwrap(),
        None,
        "nobody leads a new store"
    );
    let leading = lead(&*store, "one").await;
    assert_eq!(
        store.leader().await.unwrap(),
        Some((leading.term, leader("one")))
    );
    jobs_are_loaded_as_they_were_stored(&*store, leading.term).await;
    heads_move_one_by_one(&*store, leading.term).await;
    forgotten_jobs_are_gone(&*store, leading.term).await;
    the_journal_is_kept_in_blocks(&*store, leading.term).await;
    resigning_ends_the_term(&*store, leading).await;
    terms_are_raised_above_those_of_a_lost_history(&*store).await;
}

/// The contract of several candidates: one leads, the next waits, the deposed one is notified and
/// fenced.
pub async fn for_several(bench: &dyn Bench) {
    let first = bench.candidate().await;
    let second = bench.candidate().await;
    let one = lead(&*first, "one").await;
    let waiting = second.clone();
    let waiter = leader("two");
    let mut waiting = tokio::spawn(async move { waiting.campaign(&waiter).await.unwrap() });
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(
        early.is_err(),
        "a second candidate leads while the first does"
    );
    assert_eq!(
        second.leader().await.unwrap(),
        Some((one.term, leader("one"))),
        "standbys see the leader"
    );

    let old = one.term;
    one.resign().await;
    let two = within("a standby leads after the leader resigned", waiting)
        .await
        .unwrap();
    assert!(two.term > old, "terms rise: {} after {old}", two.term);
    fenced(&*first, old).await;

    bench.depose().await;
    within("a deposed leader is told", two.lost()).await;
    let three = lead(&*first, "three").await;
    assert!(
        three.term > two.term,
        "terms rise: {} after {}",
        three.term,
        two.term
    );
    fenced(&*second, two.term).await;
    two.resign().await;
    assert!(!three.is_lost(), "a late resignation ends another's term");
    assert_eq!(
        second.leader().await.unwrap(),
        Some((three.term, leader("three")))
    );
    writes_of_a_successor_stand(&*first, &*second, three.term, old).await;
    three.resign().await;
}

async fn within<T>(what: &str, waited: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, waited)
        .await
        .unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

async fn lead(store: &dyn Store, id: &str) -> Leadership {
    within(
        "a candidate without a rival leads",
        store.campaign(&leader(id)),
    )
    .await
    .unwrap()
}

async fn jobs_are_loaded_as_they_were_stored(store: &dyn Store, term: Term) {
    assert_eq!(
        store.load().await.unwrap(),
        vec![],
        "a new store has no jobs"
    );
    for name in ["b", "a", "a-2"] {
        assert_eq!(
            store.create_job(term, &job(name)).await.unwrap(),
            CreateOutcome::Created
        );
    }
    let failed = DesiredState::Failed {
        error: "no".into(),
        hint: "do".into(),
    };
    assert_eq!(
        store
            .set_wanted(term, &job("a").spec.name, &failed)
            .await
            .unwrap(),
        WriteOutcome::Written
    );
    assert_eq!(
        store
            .set_published(term, &job("b").spec.name, Epoch(4))
            .await
            .unwrap(),
        WriteOutcome::Written
    );
    assert_eq!(
        store
            .set_replays(term, &job("b").spec.name, &replays())
            .await
            .unwrap(),
        WriteOutcome::Written
    );
    let stored = |name: &str| StoredJob::new(job(name));
    let a = StoredJob {
        wanted: failed,
        ..stored("a")
    };
    let repair = Repair {
        at_ms: 5,
        by: "ann".into(),
        what: Repaired::HeadMoved {
            from: Epoch(2),
            to: Epoch(4),
        },
    };
    let repairs = vec![repair];
    assert_eq!(
        store
            .set_repairs(term, &job("b").spec.name, &repairs)
            .await
            .unwrap(),
        WriteOutcome::Written
    );
    let anchors = Anchors {
        anchor: Some(Waypoint {
            head: head(2),
            at_ms: 9,
        }),
        ..Anchors::of(job("b").submitted_ms)
    };
    assert_eq!(
        store
            .set_anchors(term, &job("b").spec.name, &anchors)
            .await
            .unwrap(),
        WriteOutcome::Written
    );
    let b = StoredJob {
        anchors,
        published: Epoch(4),
        replays: replays(),
        repairs,
        ..stored("b")
    };
    assert_eq!(
        store.load().await.unwrap(),
        vec![a.clone(), stored("a-2"), b.clone()],
        "jobs, by name"
    );

    let changed = ResolvedJob {
        job_version: JobVersion(2),
        ..job("b")
    };
    for again in 0..2 {
        let written = store.change_job(term, &changed).await.unwrap();
        assert_eq!(written, WriteOutcome::Written, "a change, time {again}");
    }
    let expected = StoredJob { job: changed, ..b };
    assert_eq!(
        store.load().await.unwrap()[2],
        expected,
        "the next version, and nothing else is another"
    );

    let other = ResolvedJob {
        submitted_ms: 5,
        ..job("a")
    };
    let exists = store.create_job(term, &other).await.unwrap();
    assert_eq!(
        exists,
        CreateOutcome::Exists(Box::new(a)),
        "a job is never replaced"
    );
}

async fn heads_move_one_by_one(store: &dyn Store, term: Term) {
    let name = job("a").spec.name;
    for again in 0..2 {
        let outcome = store.commit(term, &name, None, &head(1)).await.unwrap();
        assert_eq!(
            outcome,
            CommitOutcome::Committed,
            "first commit, time {again}"
        );
    }
    for again in 0..2 {
        let outcome = store
            .commit(term, &name, Some(&head(1)), &head(2))
            .await
            .unwrap();
        assert_eq!(
            outcome,
            CommitOutcome::Committed,
            "second commit, time {again}"
        );
    }
    let actual = Some(head(2));
    for previous in [None, Some(head(1)), Some(head(7))] {
        let outcome = store
            .commit(term, &name, previous.as_ref(), &head(3))
            .await
            .unwrap();
        assert_eq!(
            outcome,
            CommitOutcome::Conflict {
                actual: actual.clone()
            },
            "from {previous:?}"
        );
    }
    let other = job("b").spec.name;
    let outcome = store
        .commit(term, &other, Some(&head(1)), &head(2))
        .await
        .unwrap();
    assert_eq!(
        outcome,
        CommitOutcome::Conflict { actual: None },
        "a job without a head"
    );
    assert_eq!(store.load().await.unwrap()[0].head, actual);
}

async fn forgotten_jobs_are_gone(store: &dyn Store, term: Term) {
    for _again in 0..2 {
        assert_eq!(
            store.delete_job(term, &job("a").spec.name).await.unwrap(),
            WriteOutcome::Written
        );
    }
    let left: Vec<_> = store
        .load()
        .await
        .unwrap()
        .into_iter()
        .map(|stored| stored.job.spec.name.to_string())
        .collect();
    assert_eq!(left, ["a-2", "b"], "only the named job is forgotten");
    let late = store
        .commit(term, &job("a").spec.name, None, &head(1))
        .await
        .unwrap();
    assert_eq!(
        late,
        CommitOutcome::Committed,
        "the store does not ask whether the job is there"
    );
    assert_eq!(
        store
            .set_replays(term, &job("a").spec.name, &replays())
            .await
            .unwrap(),
        WriteOutcome::Written
    );
    assert_eq!(
        store
            .set_repairs(term, &job("a").spec.name, &[])
            .await
            .unwrap(),
        WriteOutcome::Written
    );
    assert_eq!(
        store
            .set_anchors(term, &job("a").spec.name, &Anchors::of(1))
            .await
            .unwrap(),
        WriteOutcome::Written
    );
    assert_eq!(
        store.create_job(term, &job("a")).await.unwrap(),
        CreateOutcome::Created
    );
    assert_eq!(
        store.load().await.unwrap()[0],
        StoredJob::new(job("a")),
        "a job made anew begins before its first epoch"
    );
}

/// A journal with this many entries.
fn journal(entries: usize) -> Journal {
    let mut journal = Journal::default();
    journal.restore(1_000, vec![]);
    for n in 0..entries {
        let note = Note::new(Kind::WorkerJoined, format!("w{n}"), "it is there");
        journal.note(1_000, Term(1), None, note);
    }
    journal
}

async fn the_journal_is_kept_in_blocks(store: &dyn Store, term: Term) {
    assert_eq!(store.load_journal().await.unwrap(), []);
    let jobs = store.load().await.unwrap();
    let blocks = journal(40).take_changed();
    let all: Vec<_> = blocks
        .iter()
        .flat_map(|(_, entries)| entries)
        .cloned()
        .collect();
    for _again in 0..2 {
        let written = store.write_journal(term, &blocks).await.unwrap();
        assert_eq!(written, WriteOutcome::Written);
        assert_eq!(store.load_journal().await.unwrap(), all);
    }
    let removed = [(blocks[0].0, vec![])];
    store.write_journal(term, &removed).await.unwrap();
    assert_eq!(store.load_journal().await.unwrap(), blocks[1].1);
    assert_eq!(store.load().await.unwrap(), jobs, "jobs are apart from it");
}

async fn resigning_ends_the_term(store: &dyn Store, leading: Leadership) {
    let old = leading.term;
    let lost = leading.lost();
    leading.resign().await;
    within("who resigns is told so", lost).await;
    assert_eq!(store.leader().await.unwrap(), None, "nobody leads");
    fenced(store, old).await;
    let next = lead(store, "one").await;
    assert!(next.term > old, "terms rise: {} after {old}", next.term);
    fenced(store, old).await;
    next.resign().await;
}

/// A store that was restored from a copy counts terms again, and its leader finds higher ones in
/// what was committed.
async fn terms_are_raised_above_those_of_a_lost_history(store: &dyn Store) {
    let mut above = Term(1_000_000);
    for round in 0..2 {
        let leading = lead(store, "one").await;
        let term = leading.term;
        assert_eq!(
            store.raise_terms(term, above).await.unwrap(),
            WriteOutcome::Written,
            "round {round}"
        );
        assert_eq!(
            store
                .create_job(term, &job(&format!("r{round}")))
                .await
                .unwrap(),
            CreateOutcome::Created,
            "it leads on"
        );
        leading.resign().await;
        let next = lead(store, "one").await;
        assert!(next.term > above, "{} after {above}", next.term);
        assert_eq!(
            store.leader().await.unwrap(),
            Some((next.term, leader("one")))
        );
        fenced(store, term).await;
        assert_eq!(
            store.raise_terms(next.term, Term(5)).await.unwrap(),
            WriteOutcome::Written,
            "a lower one is passed over"
        );
        let last = next.term;
        next.resign().await;
        let after = lead(store, "one").await;
        assert!(after.term > last, "terms rise: {} after {last}", after.term);
        above = Term(after.term.0 * 2);
        after.resign().await;
    }
}

/// Nothing can be written under this term, and nothing was.
async fn fenced(store: &dyn Store, term: Term) {
    let before = store.load().await.unwrap();
    let events = store.load_journal().await.unwrap();
    let late = journal(70).take_changed();
    assert_eq!(
        store.write_journal(term, &late).await.unwrap(),
        WriteOutcome::Fenced
    );
    assert_eq!(store.load_journal().await.unwrap(), events);
    let name = job("a").spec.name;
    assert_eq!(
        store.create_job(term, &job("late")).await.unwrap(),
        CreateOutcome::Fenced
    );
    assert_eq!(
        store.create_job(term, &job("a")).await.unwrap(),
        CreateOutcome::Fenced
    );
    assert_eq!(
        store.change_job(term, &job("a")).await.unwrap(),
        WriteOutcome::Fenced
    );
    assert_eq!(
        store
            .set_wanted(term, &name, &DesiredState::Stopped)
            .await
            .unwrap(),
        WriteOutcome::Fenced
    );
    assert_eq!(
        store.set_published(term, &name, Epoch(99)).await.unwrap(),
        WriteOutcome::Fenced
    );
    assert_eq!(
        store.set_replays(term, &name, &replays()).await.unwrap(),
        WriteOutcome::Fenced
    );
    assert_eq!(
        store.set_repairs(term, &name, &[]).await.unwrap(),
        WriteOutcome::Fenced
    );
    assert_eq!(
        store.raise_terms(term, Term(u64::MAX / 2)).await.unwrap(),
        WriteOutcome::Fenced
    );
    assert_eq!(
        store.commit(term, &name, None, &head(1)).await.unwrap(),
        CommitOutcome::Fenced
    );
    assert_eq!(
        store.delete_job(term, &name).await.unwrap(),
        WriteOutcome::Fenced
    );
    assert_eq!(
        store.load().await.unwrap(),
        before,
        "a term that is over changes nothing"
    );
}

/// A late repetition of a commit by an earlier leader is fenced even if it would have matched.
async fn writes_of_a_successor_stand(writer: &dyn Store, other: &dyn Store, term: Term, old: Term) {
    let name = job("shared").spec.name;
    assert_eq!(
        writer.create_job(term, &job("shared")).await.unwrap(),
        CreateOutcome::Created
    );
    assert_eq!(
        other.commit(old, &name, None, &head(1)).await.unwrap(),
        CommitOutcome::Fenced
    );
    assert_eq!(
        writer.commit(term, &name, None, &head(1)).await.unwrap(),
        CommitOutcome::Committed
    );
    assert_eq!(
        other
            .commit(old, &name, Some(&head(1)), &head(2))
            .await
            .unwrap(),
        CommitOutcome::Fenced
    );
    assert_eq!(
        other.load().await.unwrap()[0].head,
        Some(head(1)),
        "every candidate sees what was committed"
    );
}
