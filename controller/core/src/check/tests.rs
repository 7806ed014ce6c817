//! Refusals of invalid reports, field by field; each field is the only invalid one in its report.

use super::*;
use crate::testing;
use std::collections::BTreeMap;
use streamctl_proto::profile::OperatorFigures;
use streamctl_proto::report::{StageTimes, Staging, UnmatchedKey};
use streamctl_proto::spec::{FilesSink, Location, PartitionColumn};
use streamctl_proto::{Counts, ShardRange, Term, WindowSize};

const BEGIN_MS: i64 = 1_795_481_100_000;

fn job() -> ResolvedJob {
    let mut job = testing::job("sales");
    job.spec.window = WindowSize::from_ms(1_000).unwrap();
    job
}

fn object(kind: ObjectKind, folder: &str, extension: &str, rows: u64) -> StagedObject {
    let name = format!("20261124T004500Z-sales-t1.7-0000.{extension}");
    let staging = Staging::File {
        staged_path: format!("{folder}.{name}.0123456789abcdef.staged"),
    };
    StagedObject {
        kind,
        location: format!("{folder}{name}"),
        size: 10,
        crc32c: 1,
        rows,
        table_file: None,
        staging,
    }
}

fn report() -> Report {
    let range = ShardRange {
        from: Position::Start,
        to: Position::after(3.into()),
        records: 3,
        bytes: 30,
    };
    Report {
        task: TaskId {
            term: Term(1),
            counter: 7,
        },
        job: "sales".parse().unwrap(),
        window: Window {
            start_ms: BEGIN_MS,
            end_ms: BEGIN_MS + 1_000,
        },
        ranges: BTreeMap::from([("a".into(), range)]),
        counts: Counts {
            rows_in: 3,
            bytes_in: 30,
            rows_decoded: 2,
            rows_dead: 1,
            rows_out: 2,
            rows_rejected: 1,
            rows_without_arrival: 0,
            rows_failed: 0,
            rows_foreign: None,
            ..Counts::default()
        },
        lookups: BTreeMap::new(),
        objects: vec![
            object(ObjectKind::Data, "/out/", "json", 2),
            object(
                ObjectKind::DeadLetter,
                "/checkpoint/sales/dead-letters/",
                "json.gz",
                1,
            ),
            object(
                ObjectKind::RejectedRow,
                "/checkpoint/sales/dead-letters/",
                "rejected.json.gz",
                1,
            ),
        ],
        unmatched: vec![],
        null_values: vec![],
        unknown_keys: vec![],
        stages: StageTimes::default(),
        operators: vec![],
    }
}

#[test]
fn a_plan_that_is_no_tree_or_too_large_is_refused() {
    let plan = |depths: &[u32]| -> Vec<OperatorFigures> {
        let operator = |depth: &u32| OperatorFigures::new(*depth as usize, "FilterExec", "");
        depths.iter().map(operator).collect()
    };
    let mut good = report();
    good.operators = plan(&[0, 1, 2, 2, 1]);
    assert_eq!(check_report(&job(), &good), Ok(()));
    let long = "x".repeat(OPERATOR_NAME_CHARS_MAX + 1);
    for wrong in [
        plan(&[1]),
        plan(&[0, 2]),
        plan(&[0; OPERATORS_MAX + 1]),
        vec![OperatorFigures {
            name: long,
            ..OperatorFigures::default()
        }],
    ] {
        assert_eq!(
            refused(|report| report.operators.clone_from(&wrong)),
            "operators"
        );
    }
}

/// The field in the refusal if this is changed in a valid report.
fn refused(change: impl Fn(&mut Report)) -> &'static str {
    let mut report = report();
    change(&mut report);
    check_report(&job(), &report)
        .expect_err("it is a lie")
        .field
}

fn location(text: &str) -> &'static str {
    refused(|report| text.clone_into(&mut report.objects[0].location))
}

#[test]
fn a_report_that_is_right_is_taken() {
    check_report(&job(), &report()).unwrap();
    let by_year = FilesSink {
        partition_by: vec![
            PartitionColumn::IngestYear,
            PartitionColumn::Column("c".into()),
        ],
        ..testing::sink()
    };
    let mut partitioned = job();
    partitioned.spec.sink = by_year.into();
    let mut reported = report();
    reported.objects[0] = object(
        ObjectKind::Data,
        "/out/ingest_year=2026/c=a%2Fb/",
        "json",
        2,
    );
    check_report(&partitioned, &reported).unwrap();
    assert!(
        check_report(&partitioned, &report()).is_err() && check_report(&job(), &reported).is_err()
    );
    let mut in_s3 = job();
    in_s3.spec.sink = FilesSink {
        path: Location::folder("s3://bucket/out"),
        ..testing::sink()
    }
    .into();
    reported.objects[0] = object(ObjectKind::Data, "s3://bucket/out/", "json", 2);
    assert!(
        check_report(&in_s3, &reported).is_err(),
        "a file is not staged for S3"
    );
    reported.objects[0].staging = Staging::Multipart {
        upload_id: "u".into(),
        etags: vec!["\"e\"".into()],
    };
    check_report(&in_s3, &reported).unwrap();
}

#[test]
fn a_window_is_one_of_the_job_s() {
    let hour = 3_600_000;
    for (start_ms, end_ms) in [
        (BEGIN_MS + 1, BEGIN_MS + 1_001),
        (BEGIN_MS, BEGIN_MS + hour),
        (i64::MIN, i64::MAX),
        (i64::MAX - 807, i64::MAX),
        (0, 1_000_000_000_000_000_000),
    ] {
        assert_eq!(
            refused(|report| report.window = Window { start_ms, end_ms }),
            "window",
            "{start_ms} {end_ms}"
        );
    }
}

#[test]
fn ranges_go_forward_and_end_at_a_record() {
    for to in [Position::Start, Position::End, Position::Timestamp(5)] {
        assert_eq!(
            refused(|report| report
                .ranges
                .values_mut()
                .for_each(|range| range.to = to.clone())),
            "ranges"
        );
    }
    let five = || Position::after(5.into());
    assert_eq!(
        refused(|report| report
            .ranges
            .values_mut()
            .for_each(|range| range.from = five())),
        "ranges"
    );
    assert_eq!(
        refused(|report| _ = report
            .ranges
            .insert("x\n".into(), report.ranges[&"a".into()].clone())),
        "shard"
    );
}

#[test]
fn figures_add_up_and_have_room() {
    assert_eq!(refused(|report| report.counts.rows_in = 4), "counts");
    assert_eq!(
        refused(|report| report.counts.rows_dead = u64::MAX),
        "counts"
    );
    assert_eq!(
        refused(|report| report.counts.rows_unmatched = u64::MAX),
        "counts"
    );
    assert_eq!(
        refused(|report| report.counts.rows_late = 4),
        "counts.rows_late"
    );
    assert_eq!(
        refused(|report| report.counts.rows_out = 3),
        "counts.rows_out"
    );
    assert_eq!(
        refused(|report| report.counts.bytes_in = 31),
        "counts.bytes_in"
    );
    let records = |report: &mut Report| {
        report
            .ranges
            .values_mut()
            .for_each(|range| range.records = u64::MAX)
    };
    assert_eq!(refused(records), "counts.rows_in");
    assert_eq!(
        refused(|report| drop(report.objects.pop())),
        "counts.rows_rejected"
    );
    assert_eq!(
        refused(|report| drop(report.objects.remove(1))),
        "counts.rows_dead"
    );
    assert_eq!(
        refused(|report| report.objects[0].size = u64::MAX),
        "object.size"
    );
}

#[test]
fn an_object_is_where_its_task_writes_it() {
    for text in [
        "/etc/passwd",
        "/out/../etc/20261124T004500Z-sales-t1.7-0000.json",
        "/out/x/20261124T004500Z-sales-t1.7-0000.json",
        "/out/20261124T004500Z-others-t1.7-0000.json",
        "/out/20261124T004500Z-sales-t1.8-0000.json",
        "/out/20261124T004501Z-sales-t1.7-0000.json",
        "/out/20261124T004500Z-sales-t1.7-0.json",
        "/out/20261124T004500Z-sales-t1.7-0000.parquet",
        "s3://bucket/20261124T004500Z-sales-t1.7-0000.json",
        "",
        "/out/\0",
    ] {
        assert_eq!(location(text), "object.location", "{text}");
    }
    assert_eq!(location(&"x".repeat(1 << 20)), "object.location");
    assert_eq!(
        refused(|report| report.objects.push(report.objects[1].clone())),
        "counts.rows_dead"
    );
    let twice = |report: &mut Report| {
        report.objects[1].rows = 0;
        report.objects.push(report.objects[1].clone());
        report.objects[1].rows = 1;
    };
    assert_eq!(refused(twice), "object.location");
}

#[test]
fn what_is_published_is_what_was_staged_beside_it() {
    let staged =
        |staging: Staging| refused(move |report| report.objects[0].staging = staging.clone());
    let name = "20261124T004500Z-sales-t1.7-0000.json";
    for path in [
        "/etc/shadow".to_owned(),
        format!("/out/{name}.0123456789abcdef.staged"),
        "/out/.other.0123456789abcdef.staged".to_owned(),
        format!("/out/.{name}./../../etc/x.staged"),
        format!("/other/.{name}.0123456789abcdef.staged"),
    ] {
        assert_eq!(
            staged(Staging::File {
                staged_path: path.clone()
            }),
            "object.staging",
            "{path}"
        );
    }
    let upload = Staging::Multipart {
        upload_id: "u".into(),
        etags: vec!["e".into()],
    };
    assert_eq!(staged(upload), "object.staging", "an upload is not renamed");
}

#[test]
fn lookups_and_keys_are_those_of_the_job() {
    let version = LookupVersion::new("v1");
    assert_eq!(
        refused(|report| _ = report.lookups.insert("country".into(), version.clone())),
        "lookups"
    );
    let key = UnmatchedKey {
        lookup: "country".into(),
        key: "Russia".into(),
        rows: 1,
    };
    assert_eq!(
        refused(|report| report.unmatched.push(key.clone())),
        "unmatched"
    );
    assert_eq!(
        refused(|report| report.unmatched = vec![key.clone(); 21]),
        "unmatched"
    );
    assert_eq!(
        refused(|report| report.job = "others".parse().unwrap()),
        "report.job"
    );
}

#[test]
fn only_a_task_whose_shards_have_ended_reports_the_end() {
    assert!(check_watermark(Watermark::Unknown, false).is_ok());
    assert!(check_watermark(Watermark::At(BEGIN_MS), false).is_ok());
    assert!(check_watermark(Watermark::Ended, true).is_ok());
    assert!(check_watermark(Watermark::Ended, false).is_err());
    for no_time in [i64::MAX / 2, i64::MIN + 1] {
        assert!(check_watermark(Watermark::At(no_time), true).is_err());
    }
}
