//! Limits, folding, pages and the stored form of the journal.

use super::*;

const NOW: i64 = 1_795_481_115_000;

fn job(name: &str) -> JobName {
    name.parse().unwrap()
}

fn noted(journal: &mut Journal, at_ms: i64, kind: Kind, subject: &str) {
    let note = Note::new(kind, subject, format!("text at {at_ms}"));
    journal.note(at_ms, Term(3), Some(&job("sales")), note);
}

fn all(journal: &Journal) -> Vec<Entry> {
    let query = Query {
        limit: usize::MAX,
        ..Query::default()
    };
    journal.page(&query).entries
}

#[test]
fn what_happens_again_is_one_entry_with_a_count_and_the_last_text() {
    let mut journal = Journal::default();
    noted(&mut journal, NOW, Kind::TaskFailed, "w1");
    noted(&mut journal, NOW + 1, Kind::JobStopped, "");
    noted(&mut journal, NOW + 2, Kind::TaskFailed, "w1");
    noted(&mut journal, NOW + 2 + FOLD_MS, Kind::TaskFailed, "w1");
    let seen: Vec<_> = all(&journal)
        .into_iter()
        .map(|entry| {
            (
                entry.kind,
                entry.count,
                entry.first_ms - NOW,
                entry.last_ms - NOW,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (Kind::JobStopped, 1, 1, 1),
            (Kind::TaskFailed, 2, 0, 2),
            (Kind::TaskFailed, 1, 2 + FOLD_MS, 2 + FOLD_MS),
        ]
    );
}

#[test]
fn a_burst_of_one_kind_pushes_out_nothing_else() {
    let mut journal = Journal::default();
    noted(&mut journal, NOW, Kind::JobSubmitted, "");
    for n in 0..100_000 {
        noted(&mut journal, NOW + n, Kind::TaskFailed, &format!("w{n}"));
    }
    let entries = all(&journal);
    assert_eq!(entries[0].kind, Kind::JobSubmitted);
    assert_eq!(entries.len(), 1 + KIND_ENTRIES_MAX + 1);
    let last = entries.last().unwrap();
    assert_eq!(
        (last.subject.as_str(), last.count, &last.job),
        (FURTHER, 100_000 - KIND_ENTRIES_MAX as u64, &None)
    );
    // Over weeks, too.
    for n in 0..5_000 {
        let at_ms = NOW + FOLD_MS + n * 60_000;
        noted(&mut journal, at_ms, Kind::TaskFailed, &format!("x{n}"));
    }
    let entries = all(&journal);
    assert_eq!(entries.len(), ENTRIES_MAX);
    assert_eq!(entries[0].kind, Kind::JobSubmitted);
}

#[test]
fn old_entries_go() {
    let mut journal = Journal::default();
    noted(&mut journal, NOW, Kind::JobSubmitted, "");
    noted(&mut journal, NOW + AGE_MAX_MS + 1, Kind::JobStopped, "");
    assert_eq!(all(&journal).len(), 1);
}

#[test]
fn the_next_leader_continues_what_was_stored_and_a_token_stays_valid() {
    let mut journal = Journal::default();
    noted(&mut journal, NOW, Kind::JobSubmitted, "");
    assert_eq!(
        journal.take_changed(),
        [],
        "nothing is written before it is loaded"
    );
    journal.restore(NOW, vec![]);
    for n in 0..40 {
        noted(&mut journal, NOW + n, Kind::ShardEnded, &format!("s{n}"));
    }
    let blocks = journal.take_changed();
    assert_eq!(
        blocks
            .iter()
            .map(|(n, entries)| (*n, entries.len()))
            .collect::<Vec<_>>(),
        [(0, 31), (1, 10)]
    );
    assert!(!journal.is_stored(), "it is being written");
    journal.written();
    assert!(journal.is_stored());
    let token = journal.last_revision();
    noted(&mut journal, NOW + 41, Kind::JobStopped, "");
    // The old leader dies before it stores the last entry.
    let stored: Vec<Entry> = blocks
        .into_iter()
        .flat_map(|(_, entries)| entries)
        .collect();
    let mut next = Journal::default();
    noted(&mut next, NOW + 3_000, Kind::LeaderElected, "");
    next.restore(NOW + 3_001, stored.clone());
    assert_eq!(all(&next).len(), 42);
    let new: Vec<_> = next.after(token).iter().map(|entry| entry.kind).collect();
    assert_eq!(new, [Kind::LeaderElected]);
    assert_eq!(next.take_changed().len(), 1, "only what is new is written");
    assert_eq!(all(&next)[..41], stored[..]);
}

#[test]
fn what_could_not_be_written_is_written_later() {
    let mut journal = Journal::default();
    journal.restore(NOW, vec![]);
    noted(&mut journal, NOW, Kind::JobSubmitted, "");
    let first = journal.take_changed();
    journal.not_written();
    assert_eq!(journal.take_changed(), first);
    assert_eq!(journal.take_changed(), []);
}

#[test]
fn pages_hold_every_entry_once() {
    let mut journal = Journal::default();
    for n in 0..7 {
        noted(&mut journal, NOW + n, Kind::ShardEnded, &format!("s{n}"));
        let other = Note::new(Kind::JobStopped, format!("{n}"), "");
        journal.note(NOW + n, Term(3), Some(&job("other")), other);
    }
    let mut query = Query {
        job: Some(job("sales")),
        limit: 3,
        ..Query::default()
    };
    let mut found = vec![];
    loop {
        let page = journal.page(&query);
        found.extend(page.entries.into_iter().map(|entry| entry.subject));
        query.after = page.revision;
        if !page.more {
            break;
        }
    }
    assert_eq!(found, ["s0", "s1", "s2", "s3", "s4", "s5", "s6"]);
    assert_eq!(journal.page(&query).entries, [], "nothing is new");
    let since = Query {
        since_ms: NOW + 5,
        limit: 100,
        ..Query::default()
    };
    assert_eq!(journal.page(&since).entries.len(), 4);
}

#[test]
fn the_stored_form_stays_as_it_is() {
    let mut journal = Journal::default();
    noted(&mut journal, 7, Kind::TaskFailed, "w1");
    let entry = all(&journal).remove(0);
    let stored = r#"{"id":1,"revision":7,"kind":"task_failed","job":"sales","subject":"w1","text":"text at 7","term":3,"first_ms":7,"last_ms":7,"count":1}"#;
    assert_eq!(serde_json::to_string(&entry).unwrap(), stored);
    assert_eq!(serde_json::from_str::<Entry>(stored).unwrap(), entry);
    let later = stored.replace("task_failed", "of_a_later_build");
    let read: Entry = serde_json::from_str(&later).unwrap();
    assert_eq!(read.kind, Kind::Other);
    for kind in Kind::ALL {
        let label = format!("{:?}", kind.label());
        assert_eq!(serde_json::to_string(&kind).unwrap(), label);
    }
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let note = Note::new(Kind::TaskFailed, "", "ä".repeat(1_000));
    assert_eq!(note.text.len(), TEXT_BYTES_MAX);
}
