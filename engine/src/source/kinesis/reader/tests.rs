//! The reader against a fake service: the items of the conformance list that one reader can show.

use super::super::pace::Reading;
use super::super::shared::Shared;
use super::*;
use crate::source::kinesis::api::Calls;
use crate::source::kinesis::fake::{Fake, Fault};
use crate::source::kinesis::route::Routes;
use crate::source::kinesis::wire::{Spoken, Wire};
use crate::source::testing::clock_at;
use crate::source::{Foreign, Record};
use streamctl_proto::SequenceNumber;
use streamctl_proto::resolved::StreamAddress;
use streamctl_proto::spec::GRACE_DEFAULT;
use tokio::sync::Semaphore;

const SHARD: &str = "shardId-000000000000";
const NOW_MS: i64 = 100_000;
const MS: fn(u64) -> Duration = Duration::from_millis;

fn settings() -> Settings {
    Settings {
        wait_max: MS(2_000),
        backoff_base: MS(2),
        backoff_max: MS(8),
        call_timeout: MS(1_500),
        ..Settings::default()
    }
}

fn calls() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(8))
}

fn api(fake: &Fake) -> Api {
    let stream = StreamAddress {
        name: "sales".into(),
        ..StreamAddress::default()
    };
    Api {
        service: Service::Sdk(fake.client()),
        stream,
        shard: SHARD.into(),
        records_max: 2,
        partition_keys: PartitionKeys::Counted,
        timeout: settings().call_timeout,
        spoken: Spoken::known(Wire::Json),
        routes: Routes::default(),
        calls: calls(),
    }
}

fn limits(poll_interval: Duration, on_data_loss: OnDataLoss) -> Limits {
    Limits {
        poll_interval,
        window: None,
        grace: GRACE_DEFAULT,
        on_data_loss,
    }
}

fn reader_with(
    fake: &Fake,
    from: Position,
    on_data_loss: OnDataLoss,
    settings: Settings,
) -> KinesisReader {
    KinesisReader::new(
        api(fake),
        from,
        limits(MS(5), on_data_loss),
        clock_at(NOW_MS).0,
        settings,
    )
}

fn reader(fake: &Fake, from: Position) -> KinesisReader {
    reader_with(fake, from, OnDataLoss::Fail, settings())
}

async fn five() -> Fake {
    Fake::start(&[
        (10, 1_000, "a"),
        (20, 2_000, "b"),
        (30, 3_000, "c"),
        (40, 4_000, "d"),
        (50, 5_000, "e"),
    ])
    .await
}

/// Reads up to the tip.
async fn to_tip(reader: &mut KinesisReader) -> Vec<Record> {
    let mut all = Vec::new();
    loop {
        let chunk = reader.next().await.unwrap();
        all.extend(chunk.records);
        if chunk.complete_to_ms.is_some() || chunk.end.is_some() {
            return all;
        }
    }
}

#[tokio::test]
async fn the_read_of_a_busy_shard_is_aimed_at_its_next_record_behind_the_end() {
    let arrivals: [i64; 8] = [0, 3, 4, 30, 31, 35, 36, 40];
    let given = arrivals.map(|ms| (ms.unsigned_abs() + 10, 90_000 + ms, "x"));
    for (records, gap_ms) in [(8, Some(26)), (7, None)] {
        let fake = Fake::start(&given[..records]).await;
        let mut api = api(&fake);
        api.records_max = 100;
        let limits = Limits {
            window: Some(WindowSize::try_from(60_000).unwrap()),
            ..limits(MS(5), OnDataLoss::Fail)
        };
        let clock = clock_at(NOW_MS).0;
        let mut reader = KinesisReader::new(api, Position::Start, limits, clock, settings());
        let mut chunk = Chunk::default();
        while chunk.records.is_empty() {
            chunk = reader.next().await.unwrap();
        }
        assert_eq!((chunk.records.len(), reader.gap_ms), (records, gap_ms));
        let proof_ms = gap_ms.unwrap_or(reader.grace_ms);
        assert_eq!(reader.closes_in_ms(), Some(120_000 + proof_ms - NOW_MS));
        // That record is there: the next window is waited for.
        reader.newest_ms = Some(120_001);
        assert_eq!(reader.closes_in_ms(), Some(180_000 + proof_ms - NOW_MS));
    }
}

fn text(records: &[Record]) -> String {
    records
        .iter()
        .map(|record| std::str::from_utf8(&record.data).unwrap())
        .collect()
}

#[tokio::test]
async fn line_01_after_a_restart_reading_continues_after_the_stored_position() {
    let fake = five().await;
    let all = to_tip(&mut reader(&fake, Position::Start)).await;
    assert_eq!(text(&all), "abcde");
    assert_eq!((all[1].arrival_ms, all[1].sequence.as_str()), (2_000, "20"));
    let rest = to_tip(&mut reader(&fake, all[1].position())).await;
    assert_eq!(rest, all[2..]);
    assert_eq!(
        fake.taken("GetShardIterator")[1].body["StartingSequenceNumber"],
        "20"
    );
}

#[tokio::test]
async fn line_02_a_child_is_read_from_its_beginning() {
    let fake = five().await;
    reader(&fake, Position::Start).next().await.unwrap();
    assert_eq!(
        fake.taken("GetShardIterator")[0].body["ShardIteratorType"],
        "TRIM_HORIZON"
    );
}

#[tokio::test]
async fn line_03_a_pinned_latest_is_read_from_its_time() {
    let fake = five().await;
    assert_eq!(
        text(&to_tip(&mut reader(&fake, Position::Timestamp(3_000))).await),
        "cde"
    );
}

#[tokio::test]
async fn line_06_calls_are_paced_when_records_flow_and_when_answers_are_empty() {
    let fake = five().await;
    let paced = limits(MS(20), OnDataLoss::Fail);
    let mut reader = KinesisReader::new(
        api(&fake),
        Position::Start,
        paced,
        clock_at(NOW_MS).0,
        settings(),
    );
    for _ in 0..6 {
        reader.next().await.unwrap();
    }
    let calls = fake.taken("GetRecords");
    assert_eq!(calls.len(), 6);
    // The first may be late by its connection, so the whole is measured.
    assert!(
        calls[5].at - calls[0].at >= MS(5 * 20 - 15),
        "{:?}",
        calls[5].at - calls[0].at
    );
}

#[tokio::test]
async fn line_07_throttling_is_waited_out_for_as_long_as_it_takes_and_counted() {
    let fake = five().await;
    for _ in 0..20 {
        fake.fault(
            "GetRecords",
            Fault::Code(
                400,
                "ProvisionedThroughputExceededException",
                "Rate exceeded",
            ),
        );
    }
    let mut reader = reader(&fake, Position::Start);
    assert_eq!(text(&to_tip(&mut reader).await), "abcde");
    assert_eq!(reader.stats().throttles, 20);
}

#[tokio::test]
async fn line_07_a_read_does_not_wait_longer_than_its_limit() {
    let fake = five().await;
    fake.fault(
        "GetRecords",
        Fault::Code(
            400,
            "ProvisionedThroughputExceededException",
            "Rate exceeded",
        ),
    );
    let slow = Settings {
        wait_max: MS(20),
        backoff_base: MS(200),
        backoff_max: MS(200),
        ..settings()
    };
    let mut reader = reader_with(&fake, Position::Start, OnDataLoss::Fail, slow);
    let mut chunk = reader.next().await.unwrap();
    assert!(chunk.records.is_empty() && chunk.complete_to_ms.is_none());
    while chunk.records.is_empty() {
        chunk = reader.next().await.unwrap();
    }
    assert_eq!(text(&chunk.records), "ab");
}

#[tokio::test]
async fn line_08_an_expired_iterator_is_made_again_from_the_last_position() {
    let fake = five().await;
    let mut reader = reader(&fake, Position::Timestamp(2_000));
    assert_eq!(text(&reader.next().await.unwrap().records), "bc");
    let calls = fake.state().taken.len();
    fake.state().expired_before = calls + 1;
    assert_eq!(text(&to_tip(&mut reader).await), "de");
    assert_eq!(reader.stats().iterator_renewals, 1);
    assert_eq!(
        fake.taken("GetShardIterator")[1].body["StartingSequenceNumber"],
        "30"
    );
}

#[tokio::test]
async fn line_08_an_iterator_that_expires_before_any_record_is_made_again_from_the_original_position()
 {
    let fake = five().await;
    fake.fault(
        "GetRecords",
        Fault::Code(400, "ExpiredIteratorException", "Iterator expired."),
    );
    let mut reader = reader(&fake, Position::Timestamp(4_000));
    assert_eq!(text(&to_tip(&mut reader).await), "de");
    let kinds = fake.taken("GetShardIterator");
    assert!(
        kinds.len() == 2
            && kinds
                .iter()
                .all(|call| call.body["ShardIteratorType"] == "AT_TIMESTAMP")
    );
}

#[tokio::test]
async fn line_08_an_iterator_that_lay_unused_is_renewed_beforehand() {
    let fake = five().await;
    let aged = Settings {
        iterator_age_max: MS(10_000),
        ..settings()
    };
    let mut reader = reader_with(&fake, Position::Start, OnDataLoss::Fail, aged);
    reader.next().await.unwrap();
    reader.iterator.as_mut().unwrap().made -= MS(11_000);
    assert_eq!(text(&reader.next().await.unwrap().records), "cd");
    assert_eq!(reader.stats().iterator_renewals, 1);
}

#[tokio::test]
async fn line_08_an_iterator_is_as_old_as_its_answer_however_late_that_is_taken() {
    let fake = five().await;
    let mut reader = reader(&fake, Position::Start);
    reader.next().await.unwrap();
    let made = reader.iterator.as_ref().unwrap().made;
    assert_eq!(made, reader.sent);
    fake.fault("GetRecords", Fault::Late(30));
    assert!(tokio::time::timeout(MS(15), reader.next()).await.is_err());
    let sent = reader.sent;
    assert_eq!(text(&reader.next().await.unwrap().records), "cd");
    assert_eq!(reader.iterator.as_ref().unwrap().made, sent);
}

#[tokio::test]
async fn line_09_answers_without_records_and_empty_payloads_move_the_iterator_on() {
    let fake = Fake::start(&[
        (10, 1_000, "a"),
        (20, 2_000, ""),
        (30, 3_000, "c"),
        (40, 4_000, ""),
    ])
    .await;
    fake.state().gaps = 3;
    let all = to_tip(&mut reader(&fake, Position::Start)).await;
    assert_eq!(
        all.iter()
            .map(|r| r.sequence.to_u64().unwrap())
            .collect::<Vec<_>>(),
        [10, 20, 30, 40]
    );
    assert_eq!(fake.taken("GetShardIterator").len(), 1);
}

#[tokio::test]
async fn line_12_a_position_older_than_retention_stops_the_job_with_shard_and_position_named() {
    let fake = five().await;
    fake.fault(
        "GetShardIterator",
        Fault::Code(
            400,
            "InvalidArgumentException",
            "sequence number is too old",
        ),
    );
    let error = reader(&fake, Position::after(5.into()))
        .next()
        .await
        .unwrap_err();
    assert!(matches!(&error, ReadError::DataLoss { .. }));
    assert!(
        error.to_string().contains(SHARD) && error.to_string().contains("after 5"),
        "{error}"
    );
}

#[tokio::test]
async fn line_12_with_continue_the_loss_is_counted_and_reading_continues_at_the_oldest_record() {
    let fake = five().await;
    fake.fault(
        "GetShardIterator",
        Fault::Code(
            400,
            "InvalidArgumentException",
            "sequence number is too old",
        ),
    );
    let mut reader = reader_with(
        &fake,
        Position::after(5.into()),
        OnDataLoss::Continue,
        settings(),
    );
    assert_eq!(text(&to_tip(&mut reader).await), "abcde");
    assert_eq!(reader.stats().data_losses, 1);
    assert_eq!(
        fake.taken("GetShardIterator")[1].body["ShardIteratorType"],
        "TRIM_HORIZON"
    );
}

#[tokio::test]
async fn line_12_with_continue_a_shard_that_is_gone_counts_as_read() {
    let fake = five().await;
    let gone = "Shard shardId-000000000000 in stream sales under account 1 does not exist";
    fake.fault(
        "GetShardIterator",
        Fault::Code(400, "ResourceNotFoundException", gone),
    );
    let mut reader = reader_with(
        &fake,
        Position::after(5.into()),
        OnDataLoss::Continue,
        settings(),
    );
    assert_eq!(reader.next().await.unwrap().end, Some(vec![]));
    assert_eq!(reader.stats().data_losses, 1);
}

/// A stream that keeps records for 60 s. The time is 100 s, and records up to 30 s have expired:
/// 10, 20, 30.
async fn expiring() -> Fake {
    let records = [
        (10, 10_000, "a"),
        (20, 20_000, "b"),
        (30, 30_000, "c"),
        (40, 50_000, "d"),
        (50, 90_000, "e"),
    ];
    let fake = Fake::start(&records).await;
    fake.state().now_ms = Some(NOW_MS);
    fake.state().trimmed_to = 30;
    fake
}

/// A reader of [`expiring`], for a shard that is read up to this time.
fn expiring_reader(
    fake: &Fake,
    from: Position,
    read_to_ms: i64,
    on_data_loss: OnDataLoss,
) -> KinesisReader {
    let mut reader = reader_with(fake, from, on_data_loss, settings());
    reader.expiry = Expiry {
        retention_ms: Some(60_000),
        read_to_ms: Some(read_to_ms),
        backlog_ms: None,
    };
    reader
}

/// Every kind of position that a shard can have when records after it expire.
fn positions() -> [Position; 3] {
    [
        Position::Start,
        Position::Timestamp(15_000),
        Position::after(10.into()),
    ]
}

#[tokio::test]
async fn line_12_records_that_expired_unread_stop_the_job_whatever_the_position_and_the_answer() {
    for stuck_behind_ms in [None, Some(60_000)] {
        for from in positions() {
            let fake = expiring().await;
            fake.state().stuck_behind_ms = stuck_behind_ms;
            let mut reader = expiring_reader(&fake, from.clone(), 15_000, OnDataLoss::Fail);
            let error = loop {
                match reader.next().await {
                    Ok(chunk) => assert!(
                        chunk.records.is_empty(),
                        "{from}: a record was given after a gap"
                    ),
                    Err(error) => break error,
                }
            };
            let ReadError::DataLoss { gap: Some(gap), .. } = &error else {
                panic!("{from}: {error}")
            };
            // The service's second may be almost over.
            assert!(
                gap.from_ms == 15_000 && (40_000..42_500).contains(&gap.to_ms),
                "{from}: {gap:?}"
            );
            assert!(
                error
                    .to_string()
                    .contains("between 1970-01-01T00:00:15.000Z and"),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn line_12_with_continue_the_gap_is_named_once_and_the_rest_is_read_once() {
    for stuck_behind_ms in [None, Some(60_000)] {
        for from in positions() {
            let fake = expiring().await;
            fake.state().stuck_behind_ms = stuck_behind_ms;
            let mut reader = expiring_reader(&fake, from.clone(), 15_000, OnDataLoss::Continue);
            assert_eq!(text(&to_tip(&mut reader).await), "de", "{from}");
            let gap = reader.stats().lost.unwrap();
            assert!(
                gap.from_ms == 15_000 && (40_000..42_500).contains(&gap.to_ms),
                "{from}: {gap:?}"
            );
            assert_eq!(reader.stats().data_losses, 1, "{from}");
        }
    }
}

#[tokio::test]
async fn line_12_a_position_that_expired_with_nothing_unread_after_it_is_no_loss() {
    for stuck_behind_ms in [None, Some(60_000)] {
        let fake = expiring().await;
        fake.state().stuck_behind_ms = stuck_behind_ms;
        let mut reader =
            expiring_reader(&fake, Position::after(10.into()), 45_000, OnDataLoss::Fail);
        assert_eq!(text(&to_tip(&mut reader).await), "de");
        assert_eq!((reader.stats().data_losses, reader.stats().lost), (0, None));
        let last = fake.taken("GetShardIterator").pop().unwrap().body;
        assert_eq!(
            last["ShardIteratorType"], "AT_TIMESTAMP",
            "by the time up to which it is read"
        );
    }
}

#[tokio::test]
async fn line_12_records_that_expire_while_they_are_read_are_lost_too() {
    let fake = expiring().await;
    fake.state().trimmed_to = 0;
    let mut reader = expiring_reader(&fake, Position::Start, 99_000, OnDataLoss::Fail);
    assert_eq!(
        text(&reader.next().await.unwrap().records),
        "ab",
        "what was there before the job, as far as it is left"
    );
    fake.state().now_ms = Some(NOW_MS + 120_000);
    fake.state().trimmed_to = 50;
    fake.state().records.push((60, 200_000, "f".to_owned()));
    let error = reader.next().await.unwrap_err();
    assert!(
        matches!(error, ReadError::DataLoss { gap: Some(_), .. }),
        "{error}"
    );
}

#[tokio::test]
async fn line_12_a_false_loss_gives_nothing_twice() {
    let fake = five().await;
    fake.fault(
        "GetShardIterator",
        Fault::Code(
            400,
            "InvalidArgumentException",
            "sequence number is too old",
        ),
    );
    let mut reader = reader_with(
        &fake,
        Position::after(30.into()),
        OnDataLoss::Continue,
        settings(),
    );
    assert_eq!(
        text(&to_tip(&mut reader).await),
        "de",
        "the service had all of it all the same"
    );
    assert_eq!(
        fake.taken("GetShardIterator")[1].body["ShardIteratorType"],
        "TRIM_HORIZON"
    );
}

#[tokio::test]
async fn line_12_a_shard_that_is_gone_and_was_read_as_far_as_anything_is_kept_is_no_loss() {
    let fake = expiring().await;
    let gone = "Shard shardId-000000000000 in stream sales under account 1 does not exist";
    fake.fault(
        "GetShardIterator",
        Fault::Code(400, "ResourceNotFoundException", gone),
    );
    let mut reader = expiring_reader(&fake, Position::after(10.into()), 45_000, OnDataLoss::Fail);
    assert_eq!(reader.next().await.unwrap().end, Some(vec![]));
    fake.fault(
        "GetShardIterator",
        Fault::Code(400, "ResourceNotFoundException", gone),
    );
    let mut reader = expiring_reader(&fake, Position::after(10.into()), 15_000, OnDataLoss::Fail);
    assert!(matches!(
        reader.next().await,
        Err(ReadError::DataLoss { gap: Some(_), .. })
    ));
}

#[tokio::test]
async fn line_13_a_shard_is_complete_by_the_earlier_of_two_clocks_and_the_skew_is_reported() {
    // This machine's clock shows 100 s; the service's is right.
    for (service_ms, complete_ms, skew_ms) in [
        (220_000, 99_500..=99_500, -121_000..=-118_000),
        (40_000, 37_500..=40_500, 58_000..=60_500),
    ] {
        let fake = Fake::start(&[]).await;
        fake.state().now_ms = Some(service_ms);
        let mut reader = reader(&fake, Position::Timestamp(0));
        let complete_to_ms = reader.next().await.unwrap().complete_to_ms.unwrap();
        assert!(
            complete_ms.contains(&complete_to_ms),
            "{service_ms}: {complete_to_ms}"
        );
        let skew = reader.stats().clock_skew_ms.unwrap();
        assert!(skew_ms.contains(&skew), "{service_ms}: {skew}");
    }
}

#[tokio::test]
async fn line_13_an_idle_shard_reports_how_far_it_is_complete() {
    let fake = Fake::start(&[]).await;
    let chunk = reader(&fake, Position::Timestamp(0)).next().await.unwrap();
    assert_eq!(
        (chunk.records.len(), chunk.complete_to_ms, chunk.behind_ms),
        (0, Some(NOW_MS - 500), 0)
    );
}

#[tokio::test]
async fn line_16_a_reader_reports_how_far_behind_the_tip_it_is() {
    let fake = five().await;
    let chunk = reader(&fake, Position::Start).next().await.unwrap();
    assert_eq!((chunk.behind_ms, chunk.complete_to_ms), (1_000, None));
}

#[tokio::test]
async fn line_17_time_outs_lost_connections_and_failures_of_the_service_are_tried_again() {
    let fake = five().await;
    fake.fault(
        "GetShardIterator",
        Fault::Code(500, "InternalFailureException", ""),
    );
    fake.fault("GetShardIterator", Fault::HangUp);
    fake.fault("GetRecords", Fault::Code(503, "ServiceUnavailable", ""));
    fake.fault("GetRecords", Fault::HangUp);
    fake.fault("GetRecords", Fault::Late(200));
    let hasty = Settings {
        call_timeout: MS(60),
        ..settings()
    };
    let mut reader = reader_with(&fake, Position::Start, OnDataLoss::Fail, hasty);
    reader.api.timeout = MS(60);
    assert_eq!(text(&to_tip(&mut reader).await), "abcde");
    assert_eq!(reader.stats().throttles, 0);
}

#[tokio::test]
async fn line_19_a_read_ends_at_the_tip() {
    let fake = Fake::start(&[(10, 1_000, "a")]).await;
    let chunk = reader(&fake, Position::Start).next().await.unwrap();
    assert_eq!(
        (text(&chunk.records).as_str(), chunk.complete_to_ms),
        ("a", Some(NOW_MS - 500))
    );
}

#[tokio::test]
async fn line_20_a_stream_is_addressed_by_its_arn_where_there_is_one() {
    let fake = five().await;
    let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/sales";
    let mut reader = reader(&fake, Position::Start);
    reader.api.stream.arn = Some(arn.into());
    // The SDK may put the account of an ARN into the host's name; at a given endpoint it does not.
    reader.next().await.unwrap();
    let call = &fake.taken("GetShardIterator")[0].body;
    assert_eq!(
        (&call["StreamARN"], call.get("StreamName")),
        (&arn.into(), None)
    );
}

#[tokio::test]
async fn the_end_of_a_shard_names_its_children_with_all_their_parents() {
    let fake = Fake::start(&[(10, 1_000, "a")]).await;
    fake.state().children = Some(vec![(
        "shardId-000000000002",
        vec![SHARD, "shardId-000000000001"],
    )]);
    let mut reader = reader(&fake, Position::Start);
    let chunk = reader.next().await.unwrap();
    let parents = vec![SHARD.into(), "shardId-000000000001".into()];
    assert_eq!(text(&chunk.records), "a");
    let detail = "0-1".to_owned();
    assert_eq!(
        chunk.end,
        Some(vec![Child {
            shard: "shardId-000000000002".into(),
            parents,
            detail
        }])
    );
    assert!(reader.next().await.unwrap().end.is_some());
}

#[tokio::test]
async fn missing_rights_are_refused_with_the_permission_named() {
    let fake = five().await;
    fake.fault(
        "GetRecords",
        Fault::Code(400, "AccessDeniedException", "not authorized"),
    );
    let error = reader(&fake, Position::Start).next().await.unwrap_err();
    assert!(
        matches!(error, ReadError::Refused { hint, .. } if hint.contains("kinesis:GetRecords"))
    );
}

#[tokio::test]
async fn an_answer_of_something_else_is_not_shown() {
    const SECRET: &str = "S3cret-of-an-internal-service";
    for (code, shown) in [
        ("AccessDeniedException", "AccessDeniedException"),
        (SECRET, "not one of Kinesis"),
    ] {
        let fake = five().await;
        let mut api = api(&fake);
        api.stream.endpoint = Some("https://internal.example".into());
        fake.fault("GetRecords", Fault::Code(400, code, SECRET));
        let limits = limits(MS(5), OnDataLoss::Fail);
        let mut reader =
            KinesisReader::new(api, Position::Start, limits, clock_at(NOW_MS).0, settings());
        let error = reader.next().await.unwrap_err().to_string();
        assert!(
            error.contains(shown) && !error.contains("S3cret"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_read_that_is_dropped_loses_neither_records_nor_its_call() {
    let fake = five().await;
    fake.fault("GetShardIterator", Fault::Late(30));
    fake.fault("GetRecords", Fault::Late(30));
    let mut reader = reader(&fake, Position::Start);
    let mut all = Vec::new();
    while all.len() < 5 {
        if let Ok(chunk) = tokio::time::timeout(MS(4), reader.next()).await {
            all.extend(chunk.unwrap().records);
        }
    }
    assert_eq!(text(&all), "abcde");
    assert_eq!(
        (
            fake.taken("GetShardIterator").len(),
            fake.taken("GetRecords").len()
        ),
        (1, 3)
    );
}

/// A shard with one record in every response; readers are distinguished by their iterators.
#[derive(Default)]
struct Endless(std::sync::Mutex<Vec<(Instant, String)>>);

#[async_trait]
impl Calls for Endless {
    async fn iterator(
        &self,
        _: &StreamAddress,
        _: &ShardId,
        kind: IteratorKind,
    ) -> Result<MadeIterator, Failure> {
        Ok(format!("{kind:?}").into())
    }
    async fn records(&self, iterator: String, _: u32) -> Result<Answer, Failure> {
        let mut calls = self.0.lock().unwrap();
        calls.push((Instant::now(), iterator.clone()));
        let sequence = SequenceNumber::from(calls.len() as u64);
        let record = Record {
            sequence,
            sub_sequence: 0,
            arrival_ms: 0,
            data: "x".into(),
            origin: None,
            extra: None,
            foreign: Foreign::No,
        };
        let next_iterator = Some(iterator);
        Ok(Answer {
            records: vec![record],
            bytes: 10,
            next_iterator,
            behind_ms: Some(1),
            ..Answer::default()
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_waits_for_a_live_reader_of_its_shard_and_its_waits_are_no_empty_reads() {
    let service = Arc::new(Endless::default());
    let shared = Shared::default().with_service(Arc::clone(&service) as Arc<dyn Calls>);
    let stream = StreamAddress {
        name: "sales".into(),
        ..StreamAddress::default()
    };
    let open = |from, reading, poll_interval| {
        let api = Api {
            service: Service::Given(Arc::clone(&service) as Arc<dyn Calls>),
            stream: stream.clone(),
            shard: SHARD.into(),
            records_max: 2,
            partition_keys: PartitionKeys::Counted,
            timeout: settings().call_timeout,
            spoken: Spoken::known(Wire::Json),
            routes: Routes::default(),
            calls: calls(),
        };
        let limits = limits(poll_interval, OnDataLoss::Fail);
        let mut reader = KinesisReader::new(
            api,
            from,
            limits,
            clock_at(NOW_MS).0,
            Settings {
                wait_max: MS(50),
                ..settings()
            },
        );
        reader.shared = shared.join(&stream, &SHARD.into(), reading, 2_000_000);
        reader
    };
    // Two live readers use more than there is.
    let mut live = [(); 2].map(|()| open(Position::Start, Reading::Live, MS(250)));
    let mut replay = open(Position::Timestamp(1), Reading::Replay, MS(5));
    let began = Instant::now();
    let [first, second] = &mut live;
    let read_live = async |reader: &mut KinesisReader| loop {
        reader.next().await.unwrap();
    };
    let read_again = async {
        let mut chunks = vec![];
        loop {
            chunks.push(replay.next().await.unwrap().records.len());
            if began.elapsed() >= Duration::from_secs(20) {
                return chunks;
            }
        }
    };
    let chunks = tokio::select! {
        chunks = read_again => chunks,
        () = read_live(first) => unreachable!(),
        () = read_live(second) => unreachable!(),
    };
    assert!(chunks.iter().all(|records| *records == 1), "{chunks:?}");
    let calls = service.0.lock().unwrap();
    let of_live = calls
        .iter()
        .filter(|(_, iterator)| iterator == "TrimHorizon")
        .count();
    let as_ever = 2 * (began.elapsed().as_millis() / 250) as usize;
    assert!(
        (as_ever..=as_ever + 2).contains(&of_live),
        "{of_live} in place of {as_ever}"
    );
    assert!(
        (12..=16).contains(&chunks.len()),
        "an eighth of five calls a second: {}",
        chunks.len()
    );
}

/// A shard without records.
#[derive(Default)]
struct Quiet(std::sync::Mutex<Vec<Instant>>);

#[async_trait]
impl Calls for Quiet {
    async fn iterator(
        &self,
        _: &StreamAddress,
        _: &ShardId,
        _: IteratorKind,
    ) -> Result<MadeIterator, Failure> {
        Ok("iterator".to_owned().into())
    }
    async fn records(&self, iterator: String, _: u32) -> Result<Answer, Failure> {
        self.0.lock().unwrap().push(Instant::now());
        Ok(Answer {
            next_iterator: Some(iterator),
            behind_ms: Some(0),
            ..Answer::default()
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_shard_is_read_rarely_and_once_when_each_window_can_close() {
    const WINDOW_MS: i64 = 60_000;
    let service = Arc::new(Quiet::default());
    let began = Instant::now();
    let begin_ms = NOW_MS - NOW_MS % WINDOW_MS;
    let clock: Clock = Arc::new(move || begin_ms + began.elapsed().as_millis() as i64);
    let api = Api {
        service: Service::Given(Arc::clone(&service) as Arc<dyn Calls>),
        stream: StreamAddress::default(),
        shard: SHARD.into(),
        records_max: 2,
        partition_keys: PartitionKeys::Counted,
        timeout: settings().call_timeout,
        spoken: Spoken::default(),
        routes: Routes::default(),
        calls: calls(),
    };
    let limits = Limits {
        window: WindowSize::from_ms(WINDOW_MS),
        ..limits(MS(500), OnDataLoss::Fail)
    };
    let mut reader = KinesisReader::new(api, Position::Start, limits, clock, Settings::default());
    let mut closed = vec![];
    let minutes = 10;
    while began.elapsed() < Duration::from_secs(60 * minutes + 1) {
        let chunk = reader.next().await.unwrap();
        let complete_ms = chunk.complete_to_ms.unwrap_or(begin_ms) - begin_ms;
        if complete_ms / WINDOW_MS > closed.len() as i64 {
            closed.push(began.elapsed());
        }
    }
    for (window, closed) in (1..).zip(&closed) {
        let could = Duration::from_secs(60 * window) + GRACE_DEFAULT;
        let late = closed.saturating_sub(could);
        assert!(
            *closed >= could && late < MS(25),
            "window {window}: {late:?}"
        );
    }
    assert_eq!(closed.len(), minutes as usize);
    let calls = service.0.lock().unwrap().len();
    assert!((120..=160).contains(&calls), "{calls} calls in ten minutes");
}
