//! The reader over objects in memory that real tasks wrote, and whole tasks over the reader.

use super::*;
use crate::dead_letter::read::Letters;
use crate::replay::replay;
use crate::replay::tests::texts;
use crate::source::Sources;
use crate::task::tests::{Bed, job, reports, shard};
use streamctl_engine::aws::{Aws, AwsSettings};
use streamctl_engine::source::testing::clock_at;
use streamctl_engine::storage::Op;
use streamctl_proto::{Epoch, Manifest, Report};

const NOW_MS: i64 = 50_500;

/// Independent of a bed's memory: dead letters need none.
fn sources(bed: &Bed) -> Sources {
    let (clock, _) = clock_at(NOW_MS);
    Sources::new(Aws::new(AwsSettings::default()), bed.storages()).with_clock(clock)
}

/// An epoch of these bad records, each with one good one before it.
async fn epoch(bed: &mut Bed, bad: &[&str]) -> (Report, Manifest) {
    for (n, text) in (0..).zip(bad) {
        bed.push("a", 2 * n, &[10]);
        bed.source.push(&shard("a"), 20, (*text).to_owned());
    }
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    let report = reports(&bed.finish().await).remove(0);
    let manifest = bed.publish(&report).await;
    (report, manifest)
}

fn id(manifest: &Manifest) -> ShardId {
    DeadLetterShard::of(&manifest.encode().1).id()
}

async fn reader(bed: &Bed, manifest: &Manifest, from: Position) -> Box<dyn ShardReader> {
    let shard = ShardToRead::new(id(manifest), from, String::new());
    sources(bed).open(&bed.job, &shard).await.unwrap()
}

#[tokio::test]
async fn letters_are_read_in_order_from_any_position_and_end() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    let (_, manifest) = epoch(&mut bed, &["x", "y", "z"]).await;
    let chunk = reader(&bed, &manifest, Position::Start)
        .await
        .next()
        .await
        .unwrap();
    let read: Vec<_> = chunk
        .records
        .iter()
        .map(|r| (r.sequence.to_u64().unwrap(), r.data.as_ref()))
        .collect();
    assert_eq!(read, [(1, &b"x"[..]), (2, b"y"), (3, b"z")]);
    assert_eq!(
        (chunk.end, chunk.complete_to_ms, chunk.records[0].arrival_ms),
        (Some(vec![]), Some(NOW_MS), NOW_MS)
    );
    let origin = chunk.records[1].origin.as_deref().unwrap();
    assert_eq!(
        (
            origin.shard.as_str(),
            origin.sequence.as_str(),
            origin.arrival_ms
        ),
        ("a", "3", 20)
    );
    let rest = reader(&bed, &manifest, Position::after(2.into()))
        .await
        .next()
        .await
        .unwrap();
    assert_eq!(
        (rest.records.as_slice(), rest.end),
        (&chunk.records[2..], Some(vec![]))
    );
    for over in [Position::after(3.into()), Position::End] {
        let nothing = reader(&bed, &manifest, over).await.next().await.unwrap();
        assert!(nothing.records.is_empty() && nothing.end.is_some());
    }
}

#[tokio::test]
async fn small_bites_are_the_same_letters_and_pass_over_whole_objects() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    let (_, manifest) = epoch(&mut bed, &["x", "y", "z"]).await;
    let object = manifest.dead_letter_objects().next().unwrap().clone();
    let both = [object.clone(), object];
    for after in 0..=6 {
        let mut letters = Letters::new(bed.storages(), Epoch(1), both.iter().cloned(), after);
        let mut numbers = vec![];
        while !letters.is_over() {
            numbers.extend(
                letters
                    .next(2, 1)
                    .await
                    .unwrap()
                    .iter()
                    .map(|letter| letter.number),
            );
        }
        assert_eq!(numbers, (after + 1..=6).collect::<Vec<_>>());
        assert!(letters.next(2, 1).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_storage_that_does_not_answer_is_waited_for_and_what_is_gone_is_named() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    let (_, manifest) = epoch(&mut bed, &["x"]).await;
    let location = manifest
        .dead_letter_objects()
        .next()
        .unwrap()
        .location
        .clone();
    let mut waiting = reader(&bed, &manifest, Position::Start).await;
    let away = StorageError::Unavailable {
        location: location.clone(),
        reason: "slow down".into(),
    };
    bed.storage.fail_next(Op::Get, away, false);
    tokio::time::pause();
    let first = waiting.next().await.unwrap();
    assert!(first.records.is_empty() && first.end.is_none());
    assert_eq!(waiting.next().await.unwrap().records.len(), 1);
    tokio::time::resume();
    bed.storage.put(&location, "mended by hand");
    let error = reader(&bed, &manifest, Position::Start)
        .await
        .next()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&location) && error.contains("not what was committed"),
        "{error}"
    );
    bed.storage.delete(&location);
    let error = reader(&bed, &manifest, Position::Start)
        .await
        .next()
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&format!("{location} was deleted")),
        "{error}"
    );
    bed.job.spec.source.on_data_loss = OnDataLoss::Continue;
    let mut lenient = reader(&bed, &manifest, Position::Start).await;
    assert_eq!(
        lenient.next().await.unwrap().end,
        Some(vec![]),
        "passed over, as the job file says"
    );
    assert_eq!(lenient.stats().data_losses, 1);
}

/// Simulates a changed program: the same bytes decode now. Here the job's column changes its type.
#[tokio::test]
async fn a_letter_that_decodes_now_is_a_row_once_and_one_that_does_not_is_dead_again_with_its_first_place()
 {
    let mut bed = Bed::new(job("SELECT id, k FROM source"));
    let (_, manifest) = epoch(
        &mut bed,
        &[r#"{"id": "seven", "k": "mended"}"#, "still bad"],
    )
    .await;
    assert_eq!(manifest.counts.rows_dead, 2);
    bed.job.columns[0].type_name = "string".into();
    bed.sources = Some(sources(&bed));
    let id = id(&manifest);
    let task = bed.start(&[id.as_str()]);
    let said = bed.finish().await;
    let report = reports(&said).remove(0);
    assert_eq!(
        (
            report.counts.rows_in,
            report.counts.rows_decoded,
            report.counts.rows_dead
        ),
        (2, 1, 1)
    );
    assert_eq!(
        report.window.start_ms, 50_000,
        "they arrive when they are read"
    );
    assert_eq!(report.ranges[&id].to, Position::after(2.into()));

    // Only once: a reader that continues after the first finds the second, and then the end.
    let left = reader(&bed, &manifest, Position::after(1.into()))
        .await
        .next()
        .await
        .unwrap();
    assert_eq!(left.records.len(), 1);

    // The manifest's ranges alone give the same rows again.
    let second = bed.publish(&report).await;
    let replayed = replay(
        bed.context(),
        &tokio::runtime::Handle::current().into(),
        second.clone(),
        task,
    )
    .await
    .unwrap();
    let mut replayed = replayed.unwrap();
    let mut batches = vec![];
    while let Some(batch) = replayed.batches.recv().await {
        batches.push(batch.unwrap().take());
    }
    assert_eq!(texts(&batches), [r#"{"id":"seven","k":"mended"}"#]);

    let objects = second.dead_letter_objects().cloned().collect::<Vec<_>>();
    let again = Letters::new(bed.storages(), Epoch(2), objects.into_iter(), 0)
        .next(9, 9)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(
        (again.origin.shard.as_str(), again.origin.sequence.as_str()),
        ("a", "3")
    );
    assert_eq!(
        (
            again.origin.arrival_ms,
            again.replayed_from,
            again.data.as_ref()
        ),
        (20, Some(Epoch(1)), &b"still bad"[..])
    );
}
