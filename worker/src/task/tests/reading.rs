//! The messages of a task that keeps reading, and their order.

use super::*;
use crate::function::Call;
use crate::function::fake::{Ending, Script};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use streamctl_engine::catalog::arrow_schema;
use streamctl_engine::function::schema;
use streamctl_engine::lookup;
use streamctl_engine::source::Child;
use streamctl_proto::report::{NullValues, UnknownKey};
use streamctl_proto::resolved::{ColumnType, NestedColumns};
use streamctl_proto::spec::{
    FunctionPlace, FunctionSpec, LookupFormat, LookupSpec, OnBadValue, Per,
};

fn opening_of(message: &Message, number: i64) -> bool {
    matches!(message, Message::WindowOpening(opening) if opening.window == Some(window(number).into()))
}

fn report_of(message: &Message, number: i64) -> bool {
    matches!(message, Message::Report(report) if report.window == Some(window(number).into()))
}

#[tokio::test]
async fn two_shards_become_windows_whose_ranges_chain_and_whose_counts_add_up() {
    let mut bed = Bed::new(job("SELECT id, k FROM source"));
    bed.push("a", 0, &[10, 20, 1_010, 900, 2_500]);
    bed.push("b", 100, &[500, 1_500]);
    bed.source.push(&shard("b"), 1_600, "this is not JSON");
    for name in ["a", "b"] {
        bed.source.close(&shard(name), vec![]);
    }
    let id = bed.start(&["a", "b"]);
    let messages = bed.finish().await;
    let reports = reports(&messages);
    assert_eq!(
        reports
            .iter()
            .map(|report| report.window)
            .collect::<Vec<_>>(),
        [window(0), window(1), window(2)]
    );
    let records = chained(&reports, &Position::Start);
    assert_eq!(records.into_values().collect::<Vec<_>>(), [5, 3]);
    assert_eq!(
        reports
            .iter()
            .map(|report| report.counts.rows_in)
            .collect::<Vec<_>>(),
        [3, 4, 1]
    );
    assert!(
        reports
            .iter()
            .all(|report| report.task == id && report.counts.balanced())
    );
    assert_eq!(
        (reports[1].counts.rows_dead, reports[1].counts.rows_out),
        (1, 3)
    );
    assert_eq!(ended(&messages).why(), v1::task_ended::Why::Completed);
}

#[tokio::test]
async fn objects_are_staged_and_nothing_is_published() {
    let mut bed = Bed::new(job("SELECT id, k FROM source"));
    bed.push("a", 0, &[10]);
    bed.source.push(&shard("a"), 20, "no");
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    let report = reports(&bed.finish().await).remove(0);
    let mut named: Vec<String> = report
        .objects
        .iter()
        .map(|object| object.location.clone())
        .collect();
    named.sort();
    let mut staged = bed.storage.staged_locations();
    staged.sort();
    assert_eq!(
        (named.len(), &named),
        (2, &staged),
        "one of data, one of dead letters"
    );
    for folder in ["memory://out", "memory://checkpoint"] {
        let folder = Location::folder(folder);
        let storage = bed.storages().for_location(folder.as_str());
        assert_eq!(storage.list(&folder).await.unwrap(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_records_are_reported_before_the_next_progress_is_due() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    bed.push("a", 0, &[10]);
    let begin = tokio::time::Instant::now();
    bed.start(&["a"]);
    let read = |message: &Message| matches!(message, Message::Progress(notice) if notice.shards[0].records == 1);
    bed.until(read).await;
    assert!(
        begin.elapsed() < super::super::PROGRESS_INTERVAL,
        "told after {:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn the_watermark_comes_after_the_reports_before_it() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    bed.push("a", 0, &[10, 1_010, 2_010, 3_010]);
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    let mut reported = vec![];
    let mut told_ms = i64::MIN;
    for message in bed.finish().await {
        match message {
            Message::Report(report) => {
                let start_ms = report.window.unwrap().start_ms;
                assert!(
                    told_ms <= start_ms,
                    "a report of {start_ms} after watermark {told_ms}"
                );
                reported.push(start_ms);
            }
            Message::Progress(progress) => {
                told_ms = progress.watermark_ms;
                let expected = (0..4)
                    .map(|n| n * WINDOW_MS)
                    .take_while(|start_ms| start_ms + WINDOW_MS <= told_ms);
                assert_eq!(reported, expected.collect::<Vec<_>>());
            }
            _ => {}
        }
    }
    assert_eq!(told_ms, i64::MAX);
}

#[tokio::test]
async fn a_third_window_is_asked_for_once_the_first_is_reported() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    bed.push("a", 0, &[10, 1_010, 2_010]);
    bed.start(&["a", "b"]);
    let before = bed.until(|message| opening_of(message, 1)).await;
    assert!(before.iter().any(|message| opening_of(message, 0)));
    bed.push("b", 100, &[1_500]);
    let after = bed.until(|message| opening_of(message, 2)).await;
    assert!(
        after.iter().any(|message| report_of(message, 0)),
        "window 0 made room for window 2"
    );
}

#[tokio::test]
async fn a_window_before_the_open_ones_opens_though_two_are_open() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    bed.push("a", 0, &[5_010, 6_010]);
    bed.start(&["a", "b"]);
    bed.until(|message| opening_of(message, 6)).await;
    bed.push("b", 100, &[10, 7_010]);
    let messages = bed.until(|message| report_of(message, 5)).await;
    let windows: Vec<Window> = reports(&messages)
        .iter()
        .map(|report| report.window)
        .collect();
    assert_eq!(windows, [window(0), window(5)]);
}

#[derive(Debug)]
struct Works;

impl Script for Works {
    fn next(&self, _: &Call) -> Ending {
        Ending::Returns
    }
}

/// Each open window holds one of its task's functions until it closes, and the younger ones close
/// after the older ones.
#[tokio::test]
async fn a_window_is_given_a_function_though_younger_ones_hold_all_that_are_kept() {
    let mut job = job("SELECT id FROM source");
    let column = |name: &str| ColumnType {
        name: name.into(),
        type_name: "bigint".into(),
    };
    job.spec.function = Some(FunctionSpec {
        credentials: None,
        place: FunctionPlace::Url("grpc://127.0.0.1:1".into()),
        name: "process_batch".into(),
        frame: None,
        per: Per::Window,
        requirements: None,
        wheels: None,
        timeout: Duration::from_secs(30),
        memory_bytes: 64 << 20,
        network: false,
        deterministic: true,
        on_published: None,
        schema: vec![column("id"), column("batch_id")],
    });
    let result = arrow_schema(&job.spec.function.as_ref().unwrap().schema, job.nested).unwrap();
    job.output_schema = BASE64.encode(schema::encode(&result).unwrap());
    let mut bed = Bed::new(job);
    bed.functions = Functions::faked(Arc::new(Works));
    bed.start(&["a", "b", "c", "d", "e"]);
    bed.push("a", 0, &[8_010, 9_010]);
    bed.until(|message| opening_of(message, 9)).await;
    for (place, name) in ["b", "c", "d", "e"].into_iter().enumerate() {
        let number = 7 - place as i64;
        bed.push(name, 100 * number as u64, &[number * WINDOW_MS + 10]);
        bed.until(|message| opening_of(message, number)).await;
    }
    // The oldest can close, and no other one.
    bed.source.complete_to(&shard("e"), 5_000);
    let mut messages = bed.until(|message| report_of(message, 4)).await;
    for (place, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        bed.push(name, 1_000 * (place as u64 + 1), &[10_010]);
    }
    messages.extend(bed.until(|message| report_of(message, 9)).await);
    let windows: Vec<Window> = reports(&messages)
        .iter()
        .map(|report| report.window)
        .collect();
    assert_eq!(windows, [4, 5, 6, 7, 8, 9].map(window));
}

#[tokio::test]
async fn an_idle_shard_s_window_closes_when_its_reader_has_caught_up() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    bed.push("a", 0, &[10]);
    bed.source.complete_to(&shard("a"), 1_700);
    bed.start(&["a", "b"]);
    bed.until(|message| opening_of(message, 0)).await;
    bed.source.complete_to(&shard("b"), 1_000);
    let messages = bed
        .until(|message| matches!(message, Message::Progress(p) if p.watermark_ms == 1_000))
        .await;
    assert_eq!(reports(&messages)[0].counts.rows_in, 1);
}

#[tokio::test]
async fn the_end_of_a_shard_is_reported_once_with_its_floor_and_children_of_the_task_begin_then() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    bed.push("parent", 0, &[10, 2_010]);
    let child = Child {
        shard: shard("child"),
        parents: vec![shard("parent")],
        detail: String::new(),
    };
    bed.source.close(&shard("parent"), vec![child]);
    bed.push("child", 100, &[1_990, 3_010]);
    bed.source.close(&shard("child"), vec![]);
    let mut states = vec![
        bed.state("child", Position::Start, 0),
        bed.state("parent", Position::Start, 0),
    ];
    states[0].after = vec![shard("parent"), shard("of another task")];
    bed.start_states(states);
    let messages = bed.finish().await;
    let ends: Vec<v1::ShardEnded> = messages
        .iter()
        .filter_map(|message| {
            if let Message::ShardEnded(ended) = message {
                Some(ended.clone())
            } else {
                None
            }
        })
        .collect();
    assert_eq!(
        ends.iter()
            .map(|end| end.shard.as_str())
            .collect::<Vec<_>>(),
        ["parent", "child"]
    );
    assert_eq!((ends[0].floor_ms, ends[0].children.len()), (2_000, 1));
    assert_eq!(ends[0].last, Some((&Position::after(1.into())).into()));
    let windows: Vec<Window> = reports(&messages)
        .iter()
        .map(|report| report.window)
        .collect();
    assert_eq!(
        windows,
        [window(0), window(2), window(3)],
        "the child's first record goes where its parent ended"
    );
    assert_eq!(bed.source.opened(&shard("child")), [Position::Start]);
}

#[tokio::test]
async fn more_chunks_than_a_shard_may_hold_pass_through_one_window() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    let records = 7_500;
    bed.push("a", 0, &vec![10; records]);
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    let report = reports(&bed.finish().await).remove(0);
    assert_eq!(
        (report.counts.rows_in, report.counts.rows_out),
        (records as u64, records as u64)
    );
    assert_eq!(report.ranges[&shard("a")].records, records as u64);
}

#[tokio::test]
async fn a_window_without_a_row_in_its_result_is_reported_without_an_object() {
    let mut bed = Bed::new(job("SELECT id FROM source WHERE id < 0"));
    bed.push("a", 0, &[10]);
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    let report = reports(&bed.finish().await).remove(0);
    assert_eq!(
        (
            report.counts.rows_in,
            report.counts.rows_out,
            report.objects.len()
        ),
        (1, 0, 0)
    );
}

#[tokio::test]
async fn each_window_is_joined_with_the_lookup_version_that_was_named_for_it() {
    let mut joined = job("SELECT id, name FROM source JOIN c ON source.k = c.k");
    let path = Location::folder("memory://lookup");
    let format = LookupFormat::Csv;
    let refresh = Duration::from_secs(60);
    joined.spec.lookups = vec![LookupSpec {
        name: "c".into(),
        path,
        format,
        refresh,
        size_max: 1 << 20,
        ..LookupSpec::new("l", Location::folder("/l"), LookupFormat::Csv)
    }];
    let mut bed = Bed::new(joined);
    let names = ["old", "new", "newest"];
    let mut versions = vec![];
    for name in names {
        bed.storage.put(
            "memory://lookup/c.csv",
            format!("k,name\nk0,{name}\nk1,{name}\nk2,{name}\n"),
        );
        let spec = &bed.job.spec.lookups[0];
        let listed = lookup::current_version(&bed.storages(), spec)
            .await
            .unwrap();
        lookup::keep(
            &bed.storages(),
            &bed.job.spec.checkpoint,
            &bed.job.spec.name,
            spec,
            &listed,
        )
        .await
        .unwrap();
        versions.push(BTreeMap::from([("c".to_owned(), listed.version)]));
    }
    bed.push("a", 0, &[10, 1_010, 2_010]);
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    let mut reported = vec![];
    while reported.len() < names.len() {
        match bed.next().await {
            Message::WindowOpening(opening) => {
                let number = opening.window.unwrap().start_ms / WINDOW_MS;
                let lookups = versions[number as usize].clone();
                bed.command(opened(window(number), lookups)).await;
            }
            Message::Report(report) => reported.push(Report::try_from(report).unwrap()),
            _ => {}
        }
    }
    for ((report, versions), name) in reported.iter().zip(&versions).zip(names) {
        assert_eq!(report.lookups, *versions);
        let rows = bed
            .results
            .get(&report.job, report.window, report.task)
            .unwrap();
        let joined = format!("{:?}", rows.batches[0].column_by_name("name").unwrap());
        assert!(joined.contains(&format!("\"{name}\"")), "{joined}");
    }
}

#[tokio::test]
async fn p11_objects_of_one_record_are_rows_of_one_window_and_values_that_became_null_are_counted()
{
    let mut job = job("SELECT id, k FROM source");
    job.spec.source.values.on_bad_value = OnBadValue::Null;
    let mut bed = Bed::new(job);
    bed.source
        .push(&shard("a"), 10, r#"{"id":1}{"id":"x"} {"id":3,"k":"c"}"#);
    bed.source.push(&shard("a"), 20, r#"{"id":"y"}"#);
    bed.source.push(&shard("a"), 30, r#"{"id":1}{"id":2"#);
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    let report = reports(&bed.finish().await).remove(0);
    let counts = report.counts;
    assert!(counts.balanced());
    assert_eq!(
        (counts.rows_in, counts.rows_further, counts.rows_decoded),
        (3, 2, 4)
    );
    assert_eq!((counts.rows_dead, counts.rows_out), (1, 4));
    let null = NullValues {
        column: "id".to_owned(),
        values: 2,
    };
    assert_eq!((counts.values_null, report.null_values), (2, vec![null]));
}

#[tokio::test]
async fn p17_keys_that_no_column_has_are_reported_with_the_window() {
    let mut job = job("SELECT id, s.user AS u FROM source");
    job.columns.push(ColumnType {
        name: "s".into(),
        type_name: "struct<user:string>".into(),
    });
    job.nested = NestedColumns::Typed;
    let mut bed = Bed::new(job);
    bed.source.push(
        &shard("a"),
        10,
        r#"{"id":1,"k":"read by none","colour":"red","s":{"user":"u","age":1}}"#,
    );
    bed.source
        .push(&shard("a"), 20, r#"{"id":2,"colour":"blue"}"#);
    bed.source
        .push(&shard("a"), 30, r#"{"id":"x","colour":"dead"}"#);
    bed.source.close(&shard("a"), vec![]);
    bed.start(&["a"]);
    let report = reports(&bed.finish().await).remove(0);
    assert_eq!((report.counts.rows_out, report.counts.rows_dead), (2, 1));
    let unknown = |key: &str, count| UnknownKey {
        key: key.to_owned(),
        count,
    };
    let expected = vec![unknown("colour", 2), unknown("s.age", 1)];
    assert_eq!(report.unknown_keys, expected);
}
