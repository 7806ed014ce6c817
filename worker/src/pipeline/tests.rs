//! What the query cannot take, through whole tasks; each epoch is read again and compared.

use super::*;
use crate::dead_letter::read::Letters;
use crate::preview::{self, Sample};
use crate::replay::tests::texts;
use crate::task::tests::{Bed, ended, job, reports, shard};
use crate::verify::verify_epoch;
use arrow::record_batch::RecordBatch;
use std::collections::BTreeMap;
use streamctl_proto::report::ObjectKind;
use streamctl_proto::resolved::ColumnType;
use streamctl_proto::verify::EpochOutcome;
use streamctl_proto::{Counts, Epoch, Report, ResolvedJob};
use tokio::runtime::Handle;

/// The records of case P52.
const P52: [&str; 4] = [
    r#"{"id": 1, "total": 10, "qty": 2, "price": "10.00", "pieces": "2.00", "us": "11/24/2026", "big": 1}"#,
    r#"{"id": 2, "total": 10, "qty": 0, "price": "10.00", "pieces": "0.00", "us": "13/45/2026", "big": 9223372036854775807}"#,
    r#"{"id": 3, "total": null, "qty": 1, "price": null, "pieces": "1.00", "us": "", "big": -9223372036854775808}"#,
    r#"{"id": 4, "total": 10, "qty": 1, "price": "99999999.99", "pieces": "0.01", "us": null, "big": 5}"#,
];

const P52_COLUMNS: [(&str, &str); 7] = [
    ("id", "int"),
    ("total", "int"),
    ("qty", "int"),
    ("price", "decimal(10,2)"),
    ("pieces", "decimal(10,2)"),
    ("us", "string"),
    ("big", "bigint"),
];

fn over(sql: &str, columns: &[(&str, &str)]) -> ResolvedJob {
    let mut job = job(sql);
    job.columns = columns
        .iter()
        .map(|(name, type_name)| ColumnType {
            name: (*name).into(),
            type_name: (*type_name).into(),
        })
        .collect();
    job
}

/// The outcome of a window.
struct Ran {
    rows: Vec<String>,
    /// Number of the record and reason.
    dead: Vec<(u64, String)>,
    counts: Counts,
}

impl Ran {
    fn dead_records(&self) -> Vec<u64> {
        self.dead.iter().map(|(record, _)| *record).collect()
    }
}

/// Runs these records as one window, and reads the epoch again.
async fn run(job: ResolvedJob, records: &[&str]) -> Ran {
    let mut bed = Bed::new(job);
    for record in records {
        bed.source.push(&shard("a"), 10, (*record).to_owned());
    }
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    let messages = bed.finish().await;
    let mut reports = reports(&messages);
    assert_eq!(reports.len(), 1, "{:?}", ended(&messages));
    outcome(&bed, reports.remove(0)).await
}

async fn outcome(bed: &Bed, report: Report) -> Ran {
    let live = bed
        .results
        .get(&report.job, report.window, report.task)
        .expect("it is kept");
    let rows = texts(&live.batches);
    let manifest = bed.publish(&report).await;
    let again = verify_epoch(bed.context(), &Handle::current().into(), manifest.clone()).await;
    let EpochOutcome::Compared {
        rows: of_rows,
        dead_letters,
        ranges,
    } = again
    else {
        panic!("{again:?}");
    };
    assert!(
        of_rows.equal() && dead_letters.equal(),
        "{of_rows:?} {dead_letters:?}"
    );
    assert_eq!((of_rows.stored, ranges), (report.counts.rows_out, vec![]));
    let objects = report
        .objects
        .iter()
        .filter(|object| object.kind == ObjectKind::DeadLetter);
    let mut letters = Letters::new(bed.storages(), Epoch(1), objects.cloned(), 0);
    let mut dead = vec![];
    while !letters.is_over() {
        for letter in letters.next(100, 1 << 20).await.unwrap() {
            let number = letter.origin.sequence.to_u64().unwrap();
            dead.push((number, letter.reason));
        }
    }
    assert!(report.counts.balanced());
    assert_eq!(report.counts.rows_dead, dead.len() as u64);
    Ran {
        rows,
        dead,
        counts: report.counts,
    }
}

/// Half of a record is never a row while the whole record is a dead letter: a replay would double
/// the other half. The query reads a column of the record's place as well.
#[tokio::test]
async fn p11_p52_the_query_takes_all_objects_of_a_record_or_none() {
    let sql = "SELECT id, total / qty AS r FROM source WHERE _shard = 'a'";
    let records = [
        r#"{"id": 1, "total": 4, "qty": 2}{"id": 2, "total": 4, "qty": 1}"#,
        r#"{"id": 3, "total": 4, "qty": 2} {"id": 4, "total": 4, "qty": 0}"#,
        r#"{"id": 5, "total": 4, "qty": 0}"#,
        r#"{"id": 6, "total": 4, "qty": 0}{"id": 7, "total": 4, "qty": 2}"#,
        r#"{"id": 8, "total": 4, "qty": 4}"#,
        r#"{"id": 9, "total": 4, "qty": 1}{"id": 10, "total": 4}{"id": 11, "qty": 1}"#,
    ];
    let ran = run(over(sql, &P52_COLUMNS), &records).await;
    assert_eq!(ran.dead_records(), [1, 2, 3], "{:?}", ran.dead);
    let id = |row: &String| {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        row["id"].as_u64().unwrap()
    };
    let mut ids: Vec<u64> = ran.rows.iter().map(id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 8, 9, 10, 11]);
    let counts = ran.counts;
    assert_eq!((counts.rows_in, counts.rows_further), (6, 3));
    assert_eq!((counts.rows_decoded, counts.rows_failed), (6, 3));
}

/// P52: the job files of the case. The number of rows, the records (from 0) that are dead letters,
/// and what each reason has.
#[tokio::test]
async fn p52_a_row_that_the_query_cannot_take_costs_just_itself() {
    let divided = "Divide by zero";
    let cases: [(&str, &str, &[u64], &str); 18] = [
        ("bigint-abs", "abs(big)", &[2], "big = -9223372036854775808"),
        ("bigint-negate", "-big", &[], ""),
        ("bigint-overflow", "big + 1", &[], ""),
        (
            "cast-small",
            "CAST(big AS INT)",
            &[1, 2],
            "CAST(big AS Int32) fails",
        ),
        ("chr", "chr(qty - 1)", &[1], "qty = 0"),
        ("decimal-division", "price / pieces", &[1], divided),
        (
            "decimal-overflow",
            "price * price * price * price * price",
            &[3],
            "price = 99999999.99",
        ),
        ("double-division", "CAST(total AS DOUBLE) / qty", &[], ""),
        ("int-division", "total / qty", &[1], "(total = 10, qty = 0)"),
        (
            "int-overflow",
            "total * 1000000000 * 1000000000 * 1000000000",
            &[],
            "",
        ),
        ("ln", "ln(qty)", &[], ""),
        ("modulo", "total % qty", &[1], divided),
        ("nullif", "total / nullif(qty, 0)", &[], ""),
        ("repeat", "repeat('x', qty - 1)", &[], ""),
        ("sqrt", "sqrt(qty - 1)", &[1], "qty = 0"),
        ("to-date", "to_date(us, '%m/%d/%Y')", &[1, 2], "us = '"),
        (
            "to-timestamp",
            "to_timestamp(us, '%m/%d/%Y')",
            &[1, 2],
            "us = '",
        ),
        ("try-cast-date", "TRY_CAST(us AS DATE)", &[], ""),
    ];
    let mut wrong = vec![];
    for (name, expression, dead, words) in cases {
        let sql = format!("SELECT id, {expression} AS r FROM source");
        let ran = run(over(&sql, &P52_COLUMNS), &P52).await;
        let named = ran
            .dead
            .iter()
            .all(|(_, reason)| reason.contains(words) && reason.contains("column r: "));
        let failed = ran.counts.rows_failed == dead.len() as u64;
        if ran.dead_records() != dead || ran.rows.len() != 4 - dead.len() || !named || !failed {
            wrong.push(format!("{name}: {:?} {:?}", ran.dead, ran.rows));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// P19: text against numbers.
#[tokio::test]
async fn p19_a_text_that_is_no_number_costs_just_its_record() {
    let records = ["9", "50", "100", "101", "1000", "", "n/a", " 200", "99.5"];
    let records: Vec<String> = records
        .iter()
        .map(|text| format!(r#"{{"id": 1, "unitssold": "{text}"}}"#))
        .chain([r#"{"id": 10, "unitssold": null}"#.to_owned()])
        .collect();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let columns = [("id", "bigint"), ("unitssold", "string")];
    for (sql, rows) in [
        (
            "SELECT unitssold FROM source WHERE unitssold > 100",
            vec![" 200", "1000", "101"],
        ),
        (
            "SELECT unitssold FROM source WHERE unitssold IN (101, 1000)",
            vec!["1000", "101"],
        ),
    ] {
        let ran = run(over(sql, &columns), &records).await;
        assert_eq!(ran.dead_records(), [5, 6, 8], "{sql} {:?}", ran.dead);
        let rows: Vec<String> = rows
            .iter()
            .map(|text| format!(r#"{{"unitssold":"{text}"}}"#))
            .collect();
        assert_eq!(ran.rows, rows, "{sql}");
        assert!(ran.dead[0].1.contains("unitssold = ''"), "{:?}", ran.dead);
    }
}

#[tokio::test]
async fn a_bad_record_is_left_out_of_its_group() {
    let sql = "SELECT qty > 0 AS some, sum(total / qty) AS n, count(*) AS rows FROM source GROUP BY qty > 0";
    let mut whole = over(sql, &P52_COLUMNS);
    whole.whole_window = true;
    let ran = run(whole, &P52).await;
    assert_eq!(ran.dead_records(), [1]);
    assert_eq!(ran.rows, [r#"{"n":15,"rows":3,"some":true}"#]);
}

#[tokio::test]
async fn bad_payloads_and_bad_rows_of_one_batch_are_distinguished() {
    let records = [
        "not json",
        P52[0],
        P52[1],
        r#"{"id": "x"}"#,
        P52[1],
        P52[3],
        "[]",
    ];
    let sql = "SELECT id, total / qty AS r FROM source";
    let ran = run(over(sql, &P52_COLUMNS), &records).await;
    assert_eq!(ran.dead_records(), [0, 2, 3, 4, 6]);
    assert_eq!(ran.rows.len(), 2);
    assert_eq!((ran.counts.rows_failed, ran.counts.rows_dead), (2, 5));
}

#[tokio::test]
async fn a_job_that_fails_then_names_the_record() {
    let mut job = over("SELECT id, total / qty AS r FROM source", &P52_COLUMNS);
    job.spec.query_errors.on = OnQueryError::Fail;
    let mut bed = Bed::new(job);
    for record in P52 {
        bed.source.push(&shard("a"), 10, record);
    }
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    let messages = bed.finish().await;
    assert!(reports(&messages).is_empty());
    let error = ended(&messages).error;
    assert!(
        error.contains("column r: total / qty fails: Divide by zero")
            && error.contains("record 1 of shard a"),
        "{error}"
    );
    assert!(bed.storage.staged_locations().is_empty());
}

#[tokio::test]
async fn too_many_bad_records_stop_the_job_and_the_message_names_one() {
    let job = over("SELECT id, total / qty AS r FROM source", &P52_COLUMNS);
    let mut bed = Bed::new(job);
    for number in 0..100 {
        let record = if number % 5 == 3 { P52[1] } else { P52[0] };
        bed.source.push(&shard("a"), 10, record);
    }
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    let messages = bed.finish().await;
    assert!(reports(&messages).is_empty());
    let ended = ended(&messages);
    assert!(
        ended
            .error
            .contains("cannot take 20 of 100 records of a window")
            && ended.error.contains("the first is record 3 of shard a")
            && ended.error.contains("(total = 10, qty = 0)"),
        "{}",
        ended.error
    );
    assert!(ended.hint.contains("max_bad_share"), "{}", ended.hint);
    assert_eq!(ended.why(), streamctl_proto::v1::task_ended::Why::Fatal);
    assert!(bed.storage.staged_locations().is_empty());
}

#[tokio::test]
async fn a_preview_shows_the_bad_rows_with_their_reasons() {
    let bed = Bed::new(over(
        "SELECT id, total / qty AS r FROM source",
        &P52_COLUMNS,
    ));
    let record = |(number, data): (u64, &str)| {
        let record = Record {
            sequence: number.into(),
            sub_sequence: 0,
            arrival_ms: 10,
            data: data.to_owned().into(),
            origin: None,
            extra: None,
            foreign: Foreign::No,
        };
        (shard("a"), record)
    };
    let sample = Sample {
        records: (0..).zip(P52).map(record).collect(),
        cut_short: false,
    };
    let context = bed.context();
    let (plan, tables) = context.plan(&BTreeMap::new()).await.unwrap();
    let outcome = preview::compute(&context, &plan, &tables, &sample, &Arc::default())
        .await
        .unwrap();
    let rows: usize = outcome.batches.iter().map(RecordBatch::num_rows).sum();
    assert_eq!((rows, outcome.bad.len(), outcome.bad[0].index), (3, 1, 1));
    assert!(outcome.bad[0].reason.contains("(total = 10, qty = 0)"));
}

/// P38: user records of other shards, for each value of `aggregates`.
#[tokio::test]
async fn p38_user_records_of_other_shards_are_dead_letters_rows_or_dropped_and_always_counted() {
    for (aggregates, rows, dead) in [
        (Aggregates::DeadLetter, 2, 3),
        (Aggregates::Keep, 5, 0),
        (Aggregates::Drop, 2, 0),
    ] {
        let mut job = job("SELECT id FROM source");
        let mut kind = crate::task::tests::kinesis_source(Default::default());
        if let streamctl_proto::spec::SourceKind::Kinesis(kinesis) = &mut kind {
            kinesis.aggregates = aggregates;
        }
        job.spec.source.kind = kind;
        let mut bed = Bed::new(job);
        let marks = match aggregates {
            Aggregates::Drop => vec![Foreign::Dropped(1), Foreign::Dropped(2)],
            Aggregates::DeadLetter | Aggregates::Keep => vec![
                Foreign::Yes,
                Foreign::No,
                Foreign::Yes,
                Foreign::No,
                Foreign::Yes,
            ],
        };
        for (id, mark) in (0..).zip(marks) {
            let record = crate::task::tests::record(id);
            bed.source.push_foreign(&shard("a"), 10, record, mark);
        }
        bed.source.close(&shard("a"), vec![]);
        bed.start(&["a"]);
        let report = reports(&bed.finish().await).remove(0);
        let ran = outcome(&bed, report).await;
        assert_eq!(
            (ran.rows.len(), ran.dead.len()),
            (rows, dead),
            "{aggregates:?}"
        );
        assert_eq!(ran.counts.rows_foreign, Some(3), "{aggregates:?}");
        assert!(ran.dead.iter().all(|(_, reason)| reason == FOREIGN));
    }
}
