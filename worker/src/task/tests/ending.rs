//! How tasks end: released, drained, cancelled, failed.

use super::*;
use streamctl_engine::source::ReadError;
use streamctl_engine::storage::{Op, RefusalCause, StorageError};
use v1::task_ended::{Place, Why};

fn is_opening(message: &Message) -> bool {
    matches!(message, Message::WindowOpening(_))
}

/// Waits until the task has taken this many records of a shard.
async fn taken(bed: &mut Bed, name: &str, records: u64) -> Vec<Message> {
    bed.until(|message| match message {
        Message::Progress(progress) => progress
            .shards
            .iter()
            .any(|s| s.shard == name && s.records == records),
        _ => false,
    })
    .await
}

#[tokio::test]
async fn a_release_inside_a_window_reports_what_was_read_and_the_next_task_continues_without_a_gap()
{
    let mut bed = Bed::new(job("SELECT id FROM source"));
    bed.push("a", 0, &[10, 20, 1_010]);
    bed.start(&["a", "b"]);
    let mut messages = taken(&mut bed, "a", 3).await;
    bed.command(Command::Release).await;
    messages.extend(bed.finish().await);
    assert_eq!(ended(&messages).why(), Why::Released);
    let mut all = reports(&messages);
    assert_eq!(
        all.iter().map(|report| report.window).collect::<Vec<_>>(),
        [window(0), window(1)]
    );
    let reported: Vec<i64> = messages
        .iter()
        .filter_map(|m| {
            if let Message::Progress(p) = m {
                Some(p.watermark_ms)
            } else {
                None
            }
        })
        .collect();
    assert!(
        reported.iter().all(|ms| *ms <= 0),
        "what is left of the windows comes from the next task: {reported:?}"
    );

    bed.push("a", 3, &[1_020]);
    bed.push("b", 100, &[30]);
    for name in ["a", "b"] {
        bed.source.close(&shard(name), vec![]);
    }
    let reached = all[1].ranges[&shard("a")].to.clone();
    let states = vec![
        bed.state("a", reached, window(1).start_ms),
        bed.state("b", Position::Start, 0),
    ];
    bed.start_states(states);
    all.extend(reports(&bed.finish().await));
    assert_eq!(
        chained(&all, &Position::Start)
            .into_values()
            .collect::<Vec<_>>(),
        [4, 1]
    );
    assert_eq!(
        all.iter()
            .map(|report| report.window.start_ms)
            .collect::<Vec<_>>(),
        [0, 1_000, 0, 1_000]
    );
}

#[tokio::test]
async fn a_release_drops_the_open_windows_of_a_query_that_needs_them_whole() {
    let mut whole = job("SELECT k, count(*) AS n FROM source GROUP BY k");
    whole.whole_window = true;
    let mut bed = Bed::new(whole);
    bed.push("a", 0, &[10, 1_010]);
    bed.start(&["a"]);
    let mut messages = taken(&mut bed, "a", 2).await;
    bed.command(Command::Release).await;
    messages.extend(bed.finish().await);
    assert_eq!(ended(&messages).why(), Why::Released);
    let windows: Vec<Window> = reports(&messages)
        .iter()
        .map(|report| report.window)
        .collect();
    assert_eq!(windows, [window(0)], "window 1 is read again");
}

#[tokio::test]
async fn a_task_that_is_released_while_it_waits_for_a_window_ends_at_once() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    bed.push("a", 0, &[10]);
    bed.start(&["a"]);
    while !is_opening(&bed.next().await) {}
    bed.command(Command::Release).await;
    let messages = bed.finish().await;
    assert_eq!(
        (reports(&messages).len(), ended(&messages).why()),
        (0, Why::Released)
    );
}

#[tokio::test]
async fn a_drain_finishes_the_windows_up_to_its_time_and_takes_no_later_record() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    bed.push("a", 0, &[10]);
    bed.start(&["a"]);
    taken(&mut bed, "a", 1).await;
    bed.command(Command::Drain(2_000)).await;
    bed.push("a", 1, &[1_010, 2_010, 2_020]);
    let messages = bed.finish().await;
    assert_eq!(ended(&messages).why(), Why::Released);
    assert_eq!(
        chained(&reports(&messages), &Position::Start)[&shard("a")],
        2
    );
    let reported = messages.iter().filter_map(|m| {
        if let Message::Progress(p) = m {
            Some(p.watermark_ms)
        } else {
            None
        }
    });
    assert_eq!(reported.max(), Some(2_000));
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_later_window_that_the_task_has_asked_for() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    bed.push("a", 0, &[10, 1_010]);
    bed.start(&["a"]);
    let asked = |message: &Message| matches!(message, Message::WindowOpening(o) if o.window == Some(window(1).into()));
    loop {
        let message = bed.next().await;
        if asked(&message) {
            break;
        }
        if is_opening(&message) {
            bed.command(opened(window(0), BTreeMap::new())).await;
        }
    }
    bed.command(Command::Drain(1_000)).await;
    bed.command(opened(window(1), BTreeMap::new())).await;
    let messages = bed.finish().await;
    assert_eq!(ended(&messages).why(), Why::Released);
    assert!(
        reports(&messages)
            .iter()
            .all(|report| report.window == window(0))
    );
}

/// Simulated seed 148: the work of the second opening replaced that of the first, and its records
/// were lost.
#[tokio::test]
async fn a_window_that_is_asked_for_again_after_a_drain_and_answered_twice_keeps_its_records() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    bed.push("a", 0, &[1_010]);
    bed.start(&["a", "b"]);
    while !is_opening(&bed.next().await) {}
    bed.command(Command::Drain(1_000)).await;
    bed.command(Command::Drain(2_000)).await;
    while !is_opening(&bed.next().await) {}
    bed.command(opened(window(1), BTreeMap::new())).await;
    bed.command(opened(window(1), BTreeMap::new())).await;
    bed.push("a", 1, &[1_020]);
    taken(&mut bed, "a", 2).await;
    for name in ["a", "b"] {
        bed.source.complete_to(&shard(name), 2_000);
    }
    let messages = bed.finish().await;
    assert_eq!(ended(&messages).why(), Why::Released);
    assert_eq!(
        reports(&messages)
            .iter()
            .map(|report| report.counts.rows_in)
            .collect::<Vec<_>>(),
        [2]
    );
}

#[tokio::test]
async fn a_drain_drops_a_later_window_that_is_open_and_a_time_inside_a_window_is_its_start() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    bed.push("a", 0, &[10, 1_010]);
    bed.start(&["a"]);
    let mut messages = taken(&mut bed, "a", 2).await;
    bed.command(Command::Drain(1_700)).await;
    messages.extend(bed.finish().await);
    assert_eq!(ended(&messages).why(), Why::Released);
    assert_eq!(
        reports(&messages)
            .iter()
            .map(|report| report.window)
            .collect::<Vec<_>>(),
        [window(0)]
    );
}

#[tokio::test]
async fn a_cancelled_task_leaves_no_report() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    bed.push("a", 0, &[10]);
    bed.start(&["a", "b"]);
    taken(&mut bed, "a", 1).await;
    bed.command(Command::Cancel).await;
    let messages = bed.finish().await;
    assert_eq!(
        (reports(&messages).len(), ended(&messages).why()),
        (0, Why::Cancelled)
    );
    let (hello, _said) = bed.registry.connect("w", "here:1");
    assert_eq!(hello.tasks, []);
}

#[tokio::test]
async fn lost_records_fail_the_task_for_good_with_a_hint() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    let lost = ReadError::DataLoss {
        shard: shard("a"),
        position: Position::Start,
        gap: None,
        detail: "expired".into(),
    };
    bed.source.fail(&shard("a"), lost);
    bed.start(&["a"]);
    let ended = ended(&bed.finish().await);
    assert_eq!(ended.why(), Why::Fatal);
    assert!(
        ended.error.contains("expired") && ended.hint.contains("on_data_loss"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_query_that_fails_on_the_data_is_tried_again_later_and_its_error_does_not_wait_for_the_window()
 {
    let mut failing = job("SELECT 10 / (id - id) AS x FROM source");
    failing.spec.query_errors.on = streamctl_proto::spec::OnQueryError::Fail;
    let mut bed = Bed::new(failing);
    bed.push("a", 0, &vec![10; 20_000]);
    bed.start(&["a", "b"]);
    let messages = bed.finish().await;
    let ended = ended(&messages);
    assert_eq!((ended.why(), reports(&messages).len()), (Why::Retry, 0));
    assert!(!ended.error.is_empty() && !ended.hint.is_empty());
}

#[tokio::test]
async fn a_storage_that_does_not_answer_is_waited_for() {
    for op in [Op::Stage, Op::Write, Op::Finish] {
        let mut bed = Bed::new(job("SELECT id FROM source"));
        let error = StorageError::Unavailable {
            location: "memory://out".into(),
            reason: "slow down".into(),
        };
        bed.storage.fail_next(op, error, false);
        bed.push("a", 0, &[10, 1_010]);
        bed.start(&["a"]);
        let messages = bed.finish().await;
        let ended = ended(&messages);
        assert_eq!(
            (ended.why(), reports(&messages).len()),
            (Why::Wait, 0),
            "{op:?}"
        );
        assert!(ended.error.contains("slow down"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_request_that_no_worker_may_make_fails_the_job_and_one_that_this_worker_may_not_make_does_not()
 {
    for (cause, why, place) in [
        (RefusalCause::Request, Why::Fatal, Place::Unspecified),
        (RefusalCause::Environment, Why::Refused, Place::Sink),
    ] {
        let mut bed = Bed::new(job("SELECT id FROM source"));
        let location = "memory://out".into();
        let reason = "access denied".into();
        let hint = "allow s3:PutObject".into();
        bed.storage.fail_next(
            Op::Stage,
            StorageError::Refused {
                cause,
                location,
                reason,
                hint,
            },
            false,
        );
        bed.push("a", 0, &[10, 1_010]);
        bed.start(&["a"]);
        let ended = ended(&bed.finish().await);
        assert_eq!(
            (ended.why(), ended.refused_by(), ended.hint.as_str()),
            (why, place, "allow s3:PutObject")
        );
    }
}

#[tokio::test]
async fn a_source_and_a_folder_that_only_this_worker_cannot_use_are_refusals_of_this_worker() {
    let mut bed = Bed::new(job("SELECT id FROM source"));
    let reason = "ExpiredTokenException".into();
    let hint = "renew the AWS credentials".into();
    let expired = ReadError::Refused {
        cause: RefusalCause::Environment,
        shard: shard("a"),
        reason,
        hint,
    };
    bed.source.fail(&shard("a"), expired);
    bed.start(&["a"]);
    let ended_by_source = ended(&bed.finish().await);
    assert_eq!(
        (ended_by_source.why(), ended_by_source.refused_by()),
        (Why::Refused, Place::Source)
    );

    let mut bed = Bed::new(job("SELECT id FROM source"));
    bed.storage.fail_next(
        Op::Stage,
        StorageError::NotFound {
            location: "memory://out".into(),
        },
        false,
    );
    bed.push("a", 0, &[10, 1_010]);
    bed.start(&["a"]);
    let ended_by_sink = ended(&bed.finish().await);
    assert_eq!(
        (ended_by_sink.why(), ended_by_sink.refused_by()),
        (Why::Refused, Place::Sink)
    );
}
