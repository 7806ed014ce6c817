//! Histories that a checkpoint location can show, and the head's relation to each.

use super::*;
use std::collections::BTreeMap;
use streamctl_proto::manifest::ManifestPart;
use streamctl_proto::{Counts, TaskId, Term, Window};

/// A manifest after `previous`, by the leader of `term`.
fn written(previous: Option<&Written>, term: u64) -> Written {
    let epoch = epoch_of(previous.map(|previous| &previous.reference)).next();
    let window_ms = i64::try_from(epoch.0).unwrap() * 1_000;
    let manifest = Manifest {
        version: 2,
        job: "sales".parse().unwrap(),
        epoch,
        window: Window {
            start_ms: window_ms,
            end_ms: window_ms + 1_000,
        },
        term: Term(term),
        created_ms: 0,
        previous: previous.map(|previous| previous.reference.clone()),
        made_by: None,
        stream: None,
        query_digest: String::new(),
        function_code: None,
        lookups: BTreeMap::new(),
        parts: vec![],
        frontier: BTreeMap::new(),
        objects: vec![],
        counts: Counts::default(),
        totals: Counts::default(),
        unmatched: vec![],
        null_values: vec![],
        unknown_keys: vec![],
        stages: Default::default(),
        repair: None,
    };
    let (_, reference) = manifest.encode();
    Written {
        reference,
        manifest,
        published: Published::Nothing,
    }
}

fn published(written: Written) -> Written {
    Written {
        published: Published::Objects,
        ..written
    }
}

/// By a task of its own.
fn with_task(written: Written, counter: u64) -> Written {
    let task = TaskId {
        term: Term(1),
        counter,
    };
    let parts = vec![ManifestPart {
        task,
        ranges: BTreeMap::new(),
        counts: Counts::default(),
    }];
    let manifest = Manifest {
        parts,
        ..written.manifest
    };
    let (_, reference) = manifest.encode();
    Written {
        reference,
        manifest,
        ..written
    }
}

fn judged(head: &Written, next: &[Written], after_next: &[Written]) -> Standing {
    let all = next
        .iter()
        .chain(after_next)
        .map(|written| written.reference.epoch);
    judge(
        Some(&head.reference),
        next,
        after_next,
        all.max().unwrap_or(head.reference.epoch),
    )
}

#[test]
fn a_head_that_nothing_follows_is_current() {
    let head = written(None, 1);
    assert_eq!(judged(&head, &[], &[]), Standing::Current);
    assert_eq!(judge(None, &[], &[], Epoch(0)), Standing::Current);
}

#[test]
fn manifests_that_dead_leaders_wrote_and_never_committed_trip_nothing() {
    let head = written(None, 1);
    let one = written(Some(&head), 2);
    let other = written(Some(&head), 3);
    assert_eq!(
        judged(&head, std::slice::from_ref(&one), &[]),
        Standing::Current
    );
    assert_eq!(judged(&head, &[one, other], &[]), Standing::Current);
    assert_eq!(
        judge(None, &[written(None, 1)], &[], Epoch(1)),
        Standing::Current,
        "before the first epoch too"
    );
}

#[test]
fn an_epoch_that_a_later_one_names_or_that_is_visible_was_committed() {
    let head = written(None, 1);
    let dead = written(Some(&head), 2);
    let next = written(Some(&head), 3);
    let later = written(Some(&next), 3);
    assert_eq!(
        judged(
            &head,
            &[dead.clone(), next.clone()],
            std::slice::from_ref(&later)
        ),
        Standing::Behind
    );
    assert_eq!(
        judged(&head, &[dead, published(next.clone())], &[]),
        Standing::Behind
    );
    let noted = Written {
        published: Published::Noted,
        ..next
    };
    assert_eq!(judged(&head, &[noted], &[]), Standing::Behind);
    let first = written(None, 1);
    assert_eq!(
        judge(
            None,
            std::slice::from_ref(&first),
            &[written(Some(&first), 1)],
            Epoch(2)
        ),
        Standing::Behind
    );
}

#[test]
fn epochs_that_do_not_continue_the_head_are_of_another_history() {
    let head = written(None, 1);
    let other = written(None, 2);
    let next = written(Some(&other), 2);
    let later = written(Some(&next), 2);
    assert_eq!(
        judged(&head, std::slice::from_ref(&next), &[]),
        Standing::Foreign
    );
    assert_eq!(
        judged(&head, std::slice::from_ref(&next), &[later]),
        Standing::Foreign
    );
    assert_eq!(judged(&head, &[published(next)], &[]), Standing::Foreign);
    assert_eq!(
        judge(Some(&head.reference), &[], &[], Epoch(9)),
        Standing::Foreign,
        "what lies between is missing"
    );
}

#[test]
fn the_last_epoch_is_the_published_one_or_the_one_before_all_that_were_only_written() {
    let head = written(None, 1);
    let one = written(Some(&head), 2);
    let other = written(Some(&head), 3);
    assert_eq!(
        last_of(&[one.clone(), other.clone()]),
        Last::Before(head.reference.clone())
    );
    assert_eq!(
        last_of(&[published(one.clone()), other.clone()]),
        Last::This(one.reference.clone())
    );
    let both = [published(one.clone()), published(other.clone())];
    assert_eq!(
        last_of(&both),
        Last::This(other.reference.clone()),
        "they are the same epoch"
    );
    let noted = Written {
        published: Published::Noted,
        ..one.clone()
    };
    assert_eq!(
        last_of(&[noted, published(other.clone())]),
        Last::This(one.reference.clone())
    );
    let apart = [published(with_task(one, 1)), published(with_task(other, 2))];
    assert_eq!(last_of(&apart), Last::Undecided);
    assert_eq!(last_of(&[]), Last::Undecided);
}

#[test]
fn no_more_epochs_wait_for_their_publication_than_may() {
    assert_eq!(published_before(Epoch(14)), Epoch(6));
    assert_eq!(published_before(Epoch(3)), Epoch(0));
}
