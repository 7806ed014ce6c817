//! Epochs of a task over shards in memory, read again and compared with what the sink really wrote.

use super::*;
use crate::replay::tests::manifest;
use crate::task::tests::{Bed, job, reports, shard, sink};
use bytes::Bytes;
use streamctl_engine::storage::Storage as _;
use streamctl_proto::manifest::ManifestObject;
use streamctl_proto::spec::{Compression, FilesSink, PartitionColumn, SinkFormat};
use streamctl_proto::verify::Comparison;
use tokio::runtime::Handle;

const SQL: &str = "SELECT id, k, id / 3.0 AS third FROM source WHERE id <> 2";

/// Twenty-one records of two shards in one window: one is filtered out, two are bad, one has no
/// `k`.
async fn run(
    format: SinkFormat,
    compression: Compression,
    partition_by: Vec<PartitionColumn>,
) -> (Bed, Manifest) {
    let mut job = job(SQL);
    let sink = FilesSink {
        format,
        compression,
        partition_by,
        ..sink()
    };
    job.spec.sink = sink.into();
    let mut bed = Bed::new(job);
    bed.push("a", 0, &[10; 12]);
    bed.source.push(&shard("a"), 20, "this is not JSON");
    bed.source.push(&shard("a"), 20, r#"{"id": 77}"#);
    bed.push("b", 100, &[500; 6]);
    bed.source
        .push(&shard("b"), 600, r#"{"id": "x", "k": "a \"b\", c\nd"}"#);
    bed.source
        .push(&shard("b"), 600, r#"{"id": 5, "k": "a \"b\", c\nd"}"#);
    for name in ["a", "b"] {
        bed.source.close(&shard(name), vec![]);
    }
    bed.start(&["a", "b"]);
    let report = reports(&bed.finish().await).remove(0);
    for object in &report.objects {
        bed.storage.publish(object).await.unwrap();
    }
    let objects = report
        .objects
        .iter()
        .cloned()
        .map(|staged| ManifestObject {
            task: report.task,
            staged,
        })
        .collect();
    let manifest = Manifest {
        objects,
        ..manifest(&report)
    };
    (bed, manifest)
}

async fn verify(bed: &Bed, manifest: &Manifest) -> EpochOutcome {
    verify_epoch(bed.context(), &Handle::current().into(), manifest.clone()).await
}

async fn compared(bed: &Bed, manifest: &Manifest) -> (Comparison, Comparison, Vec<String>) {
    match verify(bed, manifest).await {
        EpochOutcome::Compared {
            rows,
            dead_letters,
            ranges,
        } => (rows, dead_letters, ranges),
        other => panic!("{other:?}"),
    }
}

fn first(manifest: &Manifest, kind: ObjectKind) -> String {
    let object = manifest
        .objects
        .iter()
        .find(|object| object.staged.kind == kind);
    object.expect("there is one").staged.location.clone()
}

async fn content(bed: &Bed, location: &str) -> Bytes {
    bed.storage.get(location, 1 << 20).await.unwrap()
}

#[tokio::test]
async fn what_the_sink_wrote_is_what_the_records_give_again_in_every_format() {
    use Compression::{Gzip, None, Snappy, Zstd};
    let forms = [
        (SinkFormat::Json, None),
        (SinkFormat::Json, Gzip),
        (SinkFormat::Csv, None),
        (SinkFormat::Csv, Zstd),
        (SinkFormat::Parquet, Snappy),
    ];
    for (format, compression) in forms {
        for partition_by in [
            vec![],
            vec![
                PartitionColumn::IngestYear,
                PartitionColumn::Column("k".into()),
            ],
        ] {
            let objects = if partition_by.is_empty() { 2 } else { 6 };
            let (bed, manifest) = run(format, compression, partition_by).await;
            assert_eq!(manifest.objects.len(), objects, "{format:?}");
            let (rows, dead_letters, ranges) = compared(&bed, &manifest).await;
            assert_eq!(
                (rows.replayed, rows.stored, rows.equal()),
                (19, 19, true),
                "{format:?} {rows:?}"
            );
            assert_eq!(
                (dead_letters.stored, dead_letters.equal()),
                (2, true),
                "{dead_letters:?}"
            );
            assert_eq!(ranges, Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn a_row_that_changed_is_shown_as_both_sides_have_it() {
    for (format, old, new) in [
        (SinkFormat::Json, "\"id\":105", "\"id\":905"),
        (SinkFormat::Csv, "105,", "905,"),
    ] {
        let (bed, manifest) = run(format, Compression::None, vec![]).await;
        let location = first(&manifest, ObjectKind::Data);
        let text = String::from_utf8(content(&bed, &location).await.to_vec()).unwrap();
        assert!(text.contains(old), "{text}");
        bed.storage.put(&location, text.replace(old, new));
        let (rows, dead_letters, _) = compared(&bed, &manifest).await;
        assert_eq!(
            (rows.only_replayed, rows.only_stored, dead_letters.equal()),
            (1, 1, true)
        );
        assert!(
            rows.samples_replayed[0].contains(old) && rows.samples_stored[0].contains(new),
            "{rows:?}"
        );
    }
}

#[tokio::test]
async fn rows_under_another_folder_or_header_are_other_rows() {
    let by_k = vec![PartitionColumn::Column("k".into())];
    let (bed, manifest) = run(SinkFormat::Parquet, Compression::Snappy, by_k).await;
    let data = manifest
        .objects
        .iter()
        .filter(|object| object.staged.kind == ObjectKind::Data);
    let names: Vec<String> = data.map(|object| object.staged.location.clone()).collect();
    let [one, other, ..] = &names[..] else {
        panic!("{names:?}")
    };
    let one_s = content(&bed, one).await;
    let other_s = content(&bed, other).await;
    bed.storage.put(one, other_s);
    bed.storage.put(other, one_s);
    let (rows, ..) = compared(&bed, &manifest).await;
    assert!(
        rows.only_replayed > 0 && rows.only_replayed == rows.only_stored,
        "{rows:?}"
    );
    assert!(rows.samples_stored[0].starts_with("k="), "{rows:?}");

    let (bed, manifest) = run(SinkFormat::Csv, Compression::None, vec![]).await;
    let location = first(&manifest, ObjectKind::Data);
    let text = String::from_utf8(content(&bed, &location).await.to_vec()).unwrap();
    bed.storage
        .put(&location, text.replacen("id,k,", "k,id,", 1));
    let (rows, ..) = compared(&bed, &manifest).await;
    assert_eq!((rows.only_replayed, rows.only_stored), (19, 19));
}

#[tokio::test]
async fn lost_and_doubled_rows_are_counted() {
    let (bed, manifest) = run(SinkFormat::Json, Compression::None, vec![]).await;
    let location = first(&manifest, ObjectKind::Data);
    let text = String::from_utf8(content(&bed, &location).await.to_vec()).unwrap();
    let (line, rest) = text.split_once('\n').unwrap();
    bed.storage.put(&location, rest.to_owned());
    let (rows, ..) = compared(&bed, &manifest).await;
    assert_eq!(
        (
            rows.replayed,
            rows.stored,
            rows.only_replayed,
            rows.only_stored
        ),
        (19, 18, 1, 0)
    );
    bed.storage
        .put(&location, format!("{line}\n{line}\n{rest}"));
    let (rows, ..) = compared(&bed, &manifest).await;
    assert_eq!(
        (
            rows.replayed,
            rows.stored,
            rows.only_replayed,
            rows.only_stored
        ),
        (19, 20, 0, 1)
    );
}

#[tokio::test]
async fn dead_letters_are_compared_by_their_record_and_not_by_their_reason() {
    let (bed, manifest) = run(SinkFormat::Json, Compression::None, vec![]).await;
    let location = first(&manifest, ObjectKind::DeadLetter);
    let mut letters = vec![];
    letters::dead_letters(&location, content(&bed, &location).await, &mut |keyed| {
        letters.push((keyed.text)())
    })
    .unwrap();
    assert_eq!(letters.len(), 2);
    let line = |shard: &str, raw: &str| {
        let letter = serde_json::json!({"shard": shard, "sequence_number": "12", "reason": "new words", "raw_base64": raw});
        format!("{letter}\n")
    };
    use base64::Engine as _;
    let raw = base64::engine::general_purpose::STANDARD.encode("this is not JSON");
    bed.storage.put(&location, gzip(&line("a", &raw)));
    let (_, dead_letters, _) = compared(&bed, &manifest).await;
    assert_eq!(
        (dead_letters.only_replayed, dead_letters.only_stored),
        (1, 0),
        "{dead_letters:?}"
    );
    bed.storage
        .put(&location, gzip(&(line("a", "eA==") + "nothing\n")));
    let (_, dead_letters, _) = compared(&bed, &manifest).await;
    assert_eq!(
        (dead_letters.only_replayed, dead_letters.only_stored),
        (2, 2),
        "{dead_letters:?}"
    );
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn an_object_that_cannot_be_read_back_is_named() {
    for format in [SinkFormat::Json, SinkFormat::Parquet] {
        let (bed, manifest) = run(format, Compression::Gzip, vec![]).await;
        let location = first(&manifest, ObjectKind::Data);
        bed.storage.put(&location, "PAR1 or gzip, it is neither");
        let EpochOutcome::Failed { reason, .. } = verify(&bed, &manifest).await else {
            panic!("{format:?}")
        };
        assert!(
            reason.starts_with(&format!("{location} cannot be read back")),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn a_range_that_counts_other_records_than_there_are_is_named() {
    let (bed, mut manifest) = run(SinkFormat::Json, Compression::None, vec![]).await;
    let range = manifest.parts[0].ranges.get_mut(&shard("a")).unwrap();
    range.records -= 1;
    let (_, _, ranges) = compared(&bed, &manifest).await;
    assert_eq!(ranges.len(), 1);
    assert!(
        ranges[0].contains("shard a") && ranges[0].contains("13 records, the source gives 14"),
        "{ranges:?}"
    );
}

#[tokio::test]
async fn what_the_source_no_longer_keeps_is_gone_and_what_is_not_stored_is_a_failure() {
    let (bed, manifest) = run(SinkFormat::Json, Compression::None, vec![]).await;
    let mut fewer = Bed::new(bed.job.clone());
    fewer.storage = bed.storage.clone();
    fewer.push("a", 0, &[10; 3]);
    for name in ["a", "b"] {
        fewer.source.close(&shard(name), vec![]);
    }
    assert!(matches!(
        verify(&fewer, &manifest).await,
        EpochOutcome::Gone { .. }
    ));
    let location = first(&manifest, ObjectKind::Data);
    bed.storage.delete(&location);
    let outcome = verify(&bed, &manifest).await;
    assert!(
        matches!(&outcome, EpochOutcome::Failed { reason, .. } if reason.contains(&location)),
        "{outcome:?}"
    );
}
