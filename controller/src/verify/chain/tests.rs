//! A valid chain has no findings; each manual change of it is reported.

use super::*;
use crate::store::contract;
use streamctl_proto::manifest::{ManifestObject, TimeGap};
use streamctl_proto::report::{StageTimes, Staging};
use streamctl_proto::{Epoch, ManifestRef, ShardRange, StagedObject, Term, Window};

const WINDOW_MS: i64 = 60_000;

fn task(counter: u64) -> TaskId {
    TaskId {
        term: Term(1),
        counter,
    }
}

/// After the n-th record; 0 is the start.
fn at(n: u64) -> Position {
    if n == 0 {
        Position::Start
    } else {
        Position::after(n.into())
    }
}

fn counts(records: u64, dead: u64) -> Counts {
    Counts {
        rows_in: records,
        bytes_in: 10 * records,
        rows_decoded: records - dead,
        rows_dead: dead,
        rows_unmatched: 0,
        rows_out: records - dead,
        rows_late: 0,
        rows_rejected: 0,
        rows_without_arrival: 0,
        rows_failed: 0,
        rows_foreign: None,
        ..Counts::default()
    }
}

fn object(counter: u64, kind: ObjectKind, rows: u64, location: String) -> ManifestObject {
    let staging = Staging::File {
        staged_path: String::new(),
    };
    ManifestObject {
        task: task(counter),
        staged: StagedObject {
            kind,
            location,
            size: 1,
            crc32c: 1,
            rows,
            table_file: None,
            staging,
        },
    }
}

/// A part of one task: shard, from, to.
fn part(counter: u64, ranges: &[(&str, u64, u64)]) -> ManifestPart {
    let range = |(_, from, to): &(&str, u64, u64)| {
        let records = to.saturating_sub(*from);
        let from = at(*from);
        let to = at(*to);
        ShardRange {
            from,
            to,
            records,
            bytes: 10 * records,
        }
    };
    let ranges: BTreeMap<ShardId, ShardRange> = ranges
        .iter()
        .map(|each| (ShardId::from(each.0), range(each)))
        .collect();
    let records = ranges.values().map(|range| range.records).sum();
    ManifestPart {
        task: task(counter),
        ranges,
        counts: counts(records, u64::from(counter == 1)),
    }
}

/// The next epoch after `before`, of these parts.
fn next(before: Option<&Manifest>, parts: Vec<ManifestPart>) -> Manifest {
    let epoch = before.map_or(1, |before| before.epoch.0 + 1);
    let start_ms = i64::try_from(epoch).unwrap() * WINDOW_MS;
    let mut counts = Counts::default();
    let mut objects = vec![];
    let mut frontier = before
        .map(|before| before.frontier.clone())
        .unwrap_or_default();
    for part in &parts {
        counts.add(&part.counts);
        let name = |kind: &str| format!("/out/{epoch}-{}-{kind}", part.task);
        objects.push(object(
            part.task.counter,
            ObjectKind::Data,
            part.counts.rows_out,
            name("data"),
        ));
        objects.push(object(
            part.task.counter,
            ObjectKind::DeadLetter,
            part.counts.rows_dead,
            name("dead"),
        ));
        for (shard, range) in &part.ranges {
            let stands = frontier.entry(shard.clone()).or_insert(Frontier::at(at(0)));
            stands.position = range.to.clone();
        }
    }
    let mut totals = before.map(|before| before.totals).unwrap_or_default();
    totals.add(&counts);
    Manifest {
        version: 1,
        job: "sales".parse().unwrap(),
        epoch: Epoch(epoch),
        window: Window {
            start_ms,
            end_ms: start_ms + WINDOW_MS,
        },
        term: Term(1),
        created_ms: 0,
        previous: before.map(|before| before.encode().1),
        made_by: None,
        stream: None,
        query_digest: contract::job("sales").query_digest,
        function_code: None,
        lookups: BTreeMap::new(),
        parts,
        frontier,
        objects,
        counts,
        totals,
        unmatched: vec![],
        null_values: vec![],
        unknown_keys: vec![],
        stages: StageTimes::default(),
        repair: None,
    }
}

/// Four epochs: a shard that moves from task to task, a second one that pauses and ends, a child
/// that continues it.
fn good() -> Vec<Manifest> {
    let mut first = next(None, vec![part(1, &[("a", 0, 5), ("b", 0, 3)])]);
    let child = Frontier {
        parents: vec!["b".into()],
        ..Frontier::at(at(0))
    };
    let second = next(
        Some(&first),
        vec![part(1, &[("a", 5, 7)]), part(2, &[("a", 7, 9)])],
    );
    let mut third = next(Some(&second), vec![part(2, &[("b", 3, 4)])]);
    third
        .frontier
        .get_mut(&ShardId::from("b"))
        .unwrap()
        .position = Position::End;
    third.frontier.insert("c".into(), child.clone());
    let mut fourth = next(Some(&third), vec![part(2, &[("a", 9, 12), ("c", 0, 2)])]);
    // A shard that ended and is no longer listed is forgotten.
    fourth.frontier.remove(&ShardId::from("b"));
    // A known shard without a record.
    first.frontier.insert("d".into(), Frontier::at(at(0)));
    for later in [&mut third, &mut fourth] {
        later.frontier.insert("d".into(), Frontier::at(at(0)));
    }
    let mut second = second;
    second.frontier.insert("d".into(), Frontier::at(at(0)));
    vec![first, second, third, fourth]
}

/// The findings of a walk over these manifests, kinds and epochs.
fn walk(manifests: &[Manifest]) -> Vec<(Kind, u64)> {
    let job = contract::job("sales");
    let mut chain = Chain::new(&job);
    let mut found = vec![];
    for manifest in manifests.iter().rev() {
        found.extend(chain.take(manifest.clone(), Some(&job)));
    }
    found.extend(chain.begin());
    found
        .into_iter()
        .map(|finding| (finding.kind, finding.epoch))
        .collect()
}

/// The findings after `break_it` changed one epoch of the valid chain.
fn broken(epoch: usize, break_it: impl FnOnce(&mut Manifest)) -> Vec<(Kind, u64)> {
    let mut manifests = good();
    break_it(&mut manifests[epoch - 1]);
    walk(&manifests)
}

fn range<'m>(manifest: &'m mut Manifest, part: usize, shard: &str) -> &'m mut ShardRange {
    manifest.parts[part]
        .ranges
        .get_mut(&ShardId::from(shard))
        .unwrap()
}

fn stand(manifest: &mut Manifest, shard: &str, position: Position) {
    manifest
        .frontier
        .get_mut(&ShardId::from(shard))
        .unwrap()
        .position = position;
}

#[test]
fn a_good_chain_has_no_finding_and_its_figures_are_summed() {
    assert_eq!(walk(&good()), []);
    let job = contract::job("sales");
    let mut chain = Chain::new(&job);
    good()
        .into_iter()
        .rev()
        .for_each(|manifest| assert_eq!(chain.take(manifest, Some(&job)), []));
    let seen = &chain.seen;
    assert_eq!(
        (
            seen.epochs,
            seen.ranges,
            seen.shards.len(),
            seen.counts.rows_in
        ),
        (4, 7, 3, 18)
    );
}

#[test]
fn only_the_steps_that_were_asked_for_are_judged() {
    let job = contract::job("sales");
    let mut manifests = good();
    manifests[0].totals.rows_in = 99;
    let mut chain = Chain::new(&job);
    assert_eq!(chain.take(manifests[3].clone(), Some(&job)), []);
    assert_eq!(
        chain.neighbour(&manifests[2]),
        [],
        "epochs before 4 were not asked for"
    );
    assert_eq!(chain.seen.epochs, 1);
    let mut chain = Chain::new(&job);
    assert_eq!(chain.take(manifests[3].clone(), Some(&job)), []);
    chain.break_off();
    assert_eq!(
        chain.take(manifests[1].clone(), Some(&job)),
        [],
        "over a gap nothing can be judged"
    );
}

#[test]
fn records_between_two_ranges_are_a_gap() {
    let moved = |manifest: &mut Manifest| {
        *range(manifest, 0, "a") = ShardRange {
            from: at(6),
            to: at(7),
            records: 2,
            bytes: 20,
        }
    };
    assert_eq!(broken(2, moved), [(Kind::RangeGap, 2)]);
    let between_tasks = |manifest: &mut Manifest| range(manifest, 1, "a").from = at(8);
    assert_eq!(broken(2, between_tasks), [(Kind::RangeGap, 2)]);
    let new = |manifest: &mut Manifest| range(manifest, 0, "a").from = at(1);
    assert_eq!(broken(1, new), [(Kind::RangeGap, 1)]);
}

#[test]
fn records_in_two_ranges_are_an_overlap() {
    assert_eq!(
        broken(2, |manifest| range(manifest, 0, "a").from = at(4)),
        [(Kind::RangeOverlap, 2)]
    );
    assert_eq!(
        broken(2, |manifest| range(manifest, 1, "a").from = at(6)),
        [(Kind::RangeOverlap, 2)]
    );
    let back = broken(4, |manifest| range(manifest, 0, "a").to = at(8));
    assert_eq!(back, [(Kind::RangeOverlap, 4), (Kind::Frontier, 4)]);
    let after_its_end = broken(2, |manifest| stand(manifest, "b", Position::End));
    assert_eq!(after_its_end, [(Kind::RangeOverlap, 3)]);
}

#[test]
fn a_shard_that_begins_a_second_time_is_an_overlap() {
    let mut manifests = good();
    let mut again = next(Some(&manifests[3]), vec![part(2, &[("b", 0, 3)])]);
    again.frontier.insert(
        "c".into(),
        manifests[3].frontier[&ShardId::from("c")].clone(),
    );
    manifests.push(again);
    assert_eq!(
        walk(&manifests),
        [(Kind::ChildBeforeParent, 5), (Kind::RangeOverlap, 5)]
    );
}

#[test]
fn a_parent_whose_records_come_after_its_child_s_is_named() {
    let mut manifests = good();
    stand(&mut manifests[2], "b", at(4));
    manifests[3]
        .frontier
        .insert("b".into(), Frontier::at(at(4)));
    let later = next(Some(&manifests[3]), vec![part(2, &[("b", 4, 6)])]);
    assert_eq!(walk(&manifests), []);
    manifests.push(later);
    assert_eq!(walk(&manifests), [(Kind::ChildBeforeParent, 5)]);
}

#[test]
fn a_frontier_that_is_not_where_the_ranges_end_is_named() {
    assert_eq!(
        broken(4, |manifest| stand(manifest, "a", at(13))),
        [(Kind::Frontier, 4)]
    );
    assert_eq!(
        broken(4, |manifest| stand(manifest, "d", at(1))),
        [(Kind::Frontier, 4)]
    );
    assert_eq!(
        broken(4, |manifest| _ =
            manifest.frontier.remove(&ShardId::from("d"))),
        [(Kind::Frontier, 4)]
    );
    let unknown = broken(4, |manifest| {
        _ = manifest.frontier.remove(&ShardId::from("c"))
    });
    assert_eq!(unknown, [(Kind::Frontier, 4), (Kind::Frontier, 4)]);
    let new = Frontier::at(at(3));
    assert_eq!(
        broken(4, |manifest| _ = manifest.frontier.insert("e".into(), new)),
        [(Kind::Frontier, 4)]
    );
}

#[test]
fn windows_are_aligned_and_in_order() {
    assert_eq!(
        broken(4, |manifest| manifest.window.start_ms += 1),
        [(Kind::Window, 4)]
    );
    let second = good()[1].window;
    assert_eq!(
        broken(3, |manifest| manifest.window = second),
        [(Kind::Window, 3)]
    );
}

#[test]
fn epochs_are_numbered_without_a_gap() {
    let previous = ManifestRef {
        epoch: Epoch(1),
        ..good()[1].encode().1
    };
    assert_eq!(
        broken(3, |manifest| manifest.previous = Some(previous)),
        [(Kind::EpochGap, 3)]
    );
    let begins_late = broken(1, |manifest| manifest.epoch = Epoch(2));
    assert_eq!(begins_late, [(Kind::EpochGap, 2)]);
}

#[test]
fn counts_that_do_not_add_up_are_named() {
    let kinds =
        |found: Vec<(Kind, u64)>| found.into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
    let unbalanced = broken(4, |manifest| manifest.parts[0].counts.rows_decoded -= 1);
    assert_eq!(
        kinds(unbalanced),
        [Kind::Counts, Kind::Counts],
        "the part, and the sum of the parts"
    );
    assert_eq!(
        kinds(broken(4, |manifest| range(manifest, 0, "a").records += 1)),
        [Kind::Counts]
    );
    assert_eq!(
        kinds(broken(4, |manifest| range(manifest, 0, "a").bytes += 1)),
        [Kind::Counts]
    );
    assert_eq!(
        kinds(broken(4, |manifest| manifest.counts.rows_unmatched += 1)),
        [Kind::Counts, Kind::Totals]
    );
    assert_eq!(
        kinds(broken(4, |manifest| manifest.objects[0].staged.rows += 1)),
        [Kind::Counts]
    );
    assert_eq!(
        kinds(broken(4, |manifest| manifest.objects[1].staged.rows += 1)),
        [Kind::Counts]
    );
    let nobody_s = |manifest: &mut Manifest| {
        manifest
            .objects
            .push(object(9, ObjectKind::Data, 1, "/out/x".into()))
    };
    assert_eq!(kinds(broken(4, nobody_s)), [Kind::Counts]);
}

#[test]
fn totals_are_running_sums() {
    assert_eq!(
        broken(1, |manifest| manifest.totals.rows_in += 1),
        [(Kind::Totals, 2), (Kind::Totals, 1)]
    );
    assert_eq!(
        broken(4, |manifest| manifest.totals.rows_out -= 1),
        [(Kind::Totals, 4)]
    );
}

#[test]
fn another_query_than_the_job_s_is_named() {
    assert_eq!(
        broken(2, |manifest| manifest.query_digest = "other".into()),
        [(Kind::Query, 2)]
    );
}

#[test]
fn a_gap_that_a_manifest_names_is_found_once_and_an_epoch_without_records_is_good() {
    let gap = Some(TimeGap {
        from_ms: 5,
        to_ms: 9,
    });
    let mut manifests = good();
    for manifest in &mut manifests[2..] {
        manifest.frontier.get_mut(&ShardId::from("a")).unwrap().lost = gap;
    }
    assert_eq!(walk(&manifests), [(Kind::DataLoss, 3)]);

    let mut manifests = good();
    let last = manifests[3].clone();
    let window = Window {
        start_ms: last.window.end_ms,
        end_ms: 2 * last.window.end_ms - last.window.start_ms,
    };
    let (_, previous) = last.encode();
    let (parts, objects) = Default::default();
    let epoch = last.epoch.next();
    let counts = Counts::default();
    manifests.push(Manifest {
        epoch,
        window,
        parts,
        objects,
        counts,
        previous: Some(previous),
        ..last
    });
    assert_eq!(walk(&manifests), []);
}
