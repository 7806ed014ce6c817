//! The conformance list of the Kinesis reader: twenty things that readers get wrong, each a test
//! named after its line.
//!
//! Owns: the lines that one reader, or one listing, can show; whole jobs are in [`jobs`]. Does not
//! own: the service (`streamctl_tests::kinesis`), which enforces its limits.
//! Rule: the real SDK client talks HTTP to the fake; nothing waits for real minutes, the fake's
//! clock jumps.

mod emulator;
mod fanout;
mod jobs;
mod wire;

use arrow::array::Int64Array;
use md5::{Digest, Md5};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use streamctl_controller::shards::{ShardLister, SourceShards};
use streamctl_engine::aws::Aws;
use streamctl_engine::clock::Clock;
use streamctl_engine::source::kinesis::HashRange;
use streamctl_engine::source::kinesis::Settings;
use streamctl_engine::source::{
    Child, Chunk, Foreign, ListError, ListedShard, Listing, ReadError, Record, ShardReader,
    ShardToRead,
};
use streamctl_engine::storage::Storages;
use streamctl_proto::manifest::{Frontier, ManifestPart};
use streamctl_proto::resolved::{ColumnType, RESOLVED_VERSION, StreamAddress};
use streamctl_proto::spec::{KinesisSource, OnDataLoss, SourceKind};
use streamctl_proto::{
    Counts, Epoch, JobSpec, Manifest, Position, ResolvedJob, SequenceNumber, ShardRange, TaskId,
    Term, Window,
};
use streamctl_tests::kinesis::{FakeKinesis, Fault, Stream, Trimmed};
use streamctl_tests::wait::in_time;
use streamctl_worker::memory::MemoryBudget;
use streamctl_worker::replay::replay;
use streamctl_worker::source::Sources;
use streamctl_worker::task::Context;

const STREAM: &str = "sales";
const SHARD: &str = "shardId-000000000000";
const MS: fn(u64) -> Duration = Duration::from_millis;
/// `grace` of a job that does not say one.
const GRACE_MS: i64 = 500;
/// A service tells its time in whole seconds.
const DATE_MS: i64 = 1_000;
/// An aggregate that AWS's own encoder made: ids 1 and 2, two lines, and a name.
const AGGREGATE: &[u8] = include_bytes!("../../../engine/testdata/kpl-aggregate-v1.bin");

/// A fake with one stream, and what reads it.
struct Scene {
    fake: FakeKinesis,
    stream: Arc<Stream>,
    aws: Aws,
    job: ResolvedJob,
}

impl Scene {
    async fn of(shards: usize) -> Self {
        let fake = FakeKinesis::start().await;
        let stream = fake.create(STREAM, shards);
        let aws = Aws::with_fake(fake.address(), "WORKER").await;
        let job = resolved(fake.address());
        Self {
            fake,
            stream,
            aws,
            job,
        }
    }

    /// One shard that holds these payloads, one second apart.
    async fn with(records: &[&str]) -> Self {
        let scene = Self::of(1).await;
        for (second, data) in records.iter().enumerate() {
            scene
                .stream
                .put_in(SHARD, data.as_bytes(), 1_000 * (second as i64 + 1));
        }
        scene
    }

    fn sources(&self) -> Sources {
        let settings = Settings {
            wait_max: MS(2_000),
            backoff_base: MS(2),
            backoff_max: MS(8),
            ..Settings::default()
        };
        Sources::new(self.aws.clone(), Storages::new(self.aws.clone())).with_kinesis(settings)
    }

    async fn reader(&self, shard: &str, from: Position) -> Box<dyn ShardReader> {
        self.reader_of(shard, from, "").await
    }

    async fn reader_of(&self, shard: &str, from: Position, detail: &str) -> Box<dyn ShardReader> {
        let to_read = ShardToRead::new(shard.into(), from, detail.to_owned());
        self.sources()
            .open(&self.job, &to_read)
            .await
            .expect("a reader opens without asking anything")
    }

    /// One read, a second after the last: the shard's limits are never met by accident.
    async fn next(&self, reader: &mut Box<dyn ShardReader>) -> Result<Chunk, ReadError> {
        self.fake.advance(MS(1_000));
        reader.next().await
    }

    async fn to_tip(&self, reader: &mut Box<dyn ShardReader>) -> Vec<Record> {
        let mut all = vec![];
        loop {
            let chunk = self.next(reader).await.expect("reading goes on");
            all.extend(chunk.records);
            if chunk.complete_to_ms.is_some() || chunk.end.is_some() {
                return all;
            }
        }
    }

    async fn all(&self, from: Position) -> Vec<Record> {
        self.to_tip(&mut self.reader(SHARD, from).await).await
    }

    async fn list(&self) -> Result<Vec<ListedShard>, ListError> {
        self.listing().await.map(|listing| listing.shards)
    }

    async fn listing(&self) -> Result<Listing, ListError> {
        let lister = SourceShards::new(self.aws.clone(), Storages::new(self.aws.clone()));
        lister
            .list(&self.job.spec.source.kind, self.job.stream.as_ref())
            .await
    }
}

fn job_file(address: &str) -> String {
    format!(
        r#"
name = "sales"
[source]
type = "kinesis"
stream = "{STREAM}"
endpoint = "{address}"
starting_position = "latest"
[source.schema]
id = "bigint"
[window]
size = "1s"
[transform]
sql = "SELECT id FROM source"
[sink]
path = "/out/"
format = "json"
[checkpoint]
location = "/checkpoint/"
"#
    )
}

/// A job as a submit resolves it, but polled every 5 ms: a clock that jumps makes up for it.
fn resolved(address: &str) -> ResolvedJob {
    let mut spec = JobSpec::parse(&job_file(address)).expect("the job file is good");
    if let SourceKind::Kinesis(KinesisSource { poll_interval, .. }) = &mut spec.source.kind {
        *poll_interval = MS(5);
    }
    let endpoint = Some(address.to_owned());
    ResolvedJob {
        version: RESOLVED_VERSION,
        spec,
        spec_digest: String::new(),
        job_version: Default::default(),
        previous: None,
        changed_ms: 0,
        after_epoch: None,
        submitted_ms: 0,
        start: Position::Timestamp(0),
        columns: vec![],
        nested: Default::default(),
        keys: Default::default(),
        reads_partition_keys: false,
        stream: Some(StreamAddress {
            name: STREAM.into(),
            endpoint,
            ..StreamAddress::default()
        }),
        stream_identity: None,
        consumer: None,
        whole_window: false,
        query_digest: String::new(),
        output_schema: String::new(),
        lookup_columns: Default::default(),
        function_code: None,
    }
}

fn text(records: &[Record]) -> String {
    records
        .iter()
        .map(|record| String::from_utf8_lossy(&record.data))
        .collect()
}

#[tokio::test]
async fn line_01_after_a_restart_the_last_record_is_not_read_again() {
    let scene = Scene::with(&["a", "b", "c", "d", "e"]).await;
    let all = scene.all(Position::Start).await;
    assert_eq!(text(&all), "abcde");
    for (index, record) in all.iter().enumerate() {
        assert_eq!(
            scene.all(record.position()).await,
            all[index + 1..],
            "after {}",
            record.sequence
        );
    }
    assert_eq!(all[0].sequence.as_str().len(), 56);
}

#[tokio::test]
async fn line_03_a_time_that_the_service_s_clock_has_not_reached_is_waited_for() {
    let scene = Scene::of(1).await;
    let start_ms = scene.fake.now_ms() + 3_500;
    let mut reader = scene.reader(SHARD, Position::Timestamp(start_ms)).await;
    scene.stream.put_in(SHARD, b"early", start_ms - 1);
    scene.stream.put_in(SHARD, b"late", start_ms);
    assert_eq!(text(&scene.to_tip(&mut reader).await), "late");
    let refused = scene
        .fake
        .calls_of("GetShardIterator")
        .into_iter()
        .filter(|call| call.error.is_some());
    assert!(refused.count() > 0, "the service refuses a time to come");
}

#[tokio::test]
async fn line_06_calls_are_paced_per_shard_while_records_flow_and_while_there_are_none() {
    let mut scene = Scene::with(&["a"; 40]).await;
    if let SourceKind::Kinesis(KinesisSource {
        poll_interval,
        max_records_per_read,
        ..
    }) = &mut scene.job.spec.source.kind
    {
        (*poll_interval, *max_records_per_read) = (MS(200), 5);
    }
    // Eight calls with records, then empty ones, by the machine's own clock.
    let mut reader = scene.reader(SHARD, Position::Start).await;
    let begin = Instant::now();
    while begin.elapsed() < MS(2_600) {
        reader.next().await.expect("reading goes on");
    }
    let calls = scene.fake.calls_of("GetRecords");
    assert_eq!(
        scene.fake.violations(),
        Default::default(),
        "the limit of 5 calls a second was met"
    );
    assert_eq!(calls.iter().filter(|call| call.records > 0).count(), 8);
    assert!(
        (10..=15).contains(&calls.len()),
        "{} calls in 2.6 s",
        calls.len()
    );
    assert_eq!(reader.stats().throttles, 0);
}

#[tokio::test]
async fn line_06_a_full_answer_is_paid_for_before_the_next_call() {
    let scene = Scene::of(1).await;
    let megabyte = vec![b'x'; 1 << 20];
    for _ in 0..3 {
        scene.stream.put_in(SHARD, &megabyte, 1_000);
    }
    let mut reader = scene.reader(SHARD, Position::Start).await;
    let begin = Instant::now();
    while scene.fake.calls_of("GetRecords").len() < 2 {
        reader.next().await.expect("reading goes on");
    }
    assert!(
        begin.elapsed() >= MS(1_500),
        "3 MiB at 2 MB a second: {:?}",
        begin.elapsed()
    );
    assert_eq!(
        (scene.fake.violations(), reader.stats().throttles),
        (Default::default(), 0)
    );
}

#[tokio::test]
async fn line_07_throttling_is_waited_out_for_as_long_as_it_takes_and_counted() {
    let scene = Scene::with(&["a", "b"]).await;
    scene
        .fake
        .fault("GetShardIterator", None, Fault::throttle(), 3);
    scene
        .fake
        .fault("GetRecords", Some(SHARD), Fault::throttle(), 20);
    scene
        .fake
        .fault("GetRecords", None, Fault::code("LimitExceededException"), 2);
    let mut reader = scene.reader(SHARD, Position::Start).await;
    assert_eq!(text(&scene.to_tip(&mut reader).await), "ab");
    assert_eq!(
        (reader.stats().throttles, scene.fake.faults_left()),
        (25, 0)
    );
}

#[tokio::test]
async fn line_07_failures_of_the_service_and_of_the_line_lose_nothing() {
    let scene = Scene::with(&["a", "b", "c"]).await;
    for fault in [Fault::internal(), Fault::Close, Fault::Cut] {
        scene.fake.fault("GetRecords", None, fault, 2);
    }
    scene
        .fake
        .fault("GetRecords", None, Fault::Delay(MS(30)), 1);
    scene.fake.fault("GetShardIterator", None, Fault::Close, 1);
    assert_eq!(text(&scene.all(Position::Start).await), "abc");
    assert_eq!(scene.fake.faults_left(), 0);
}

#[tokio::test]
async fn line_08_an_iterator_that_expired_under_back_pressure_is_made_again() {
    let mut scene = Scene::with(&["a", "b", "c"]).await;
    if let SourceKind::Kinesis(KinesisSource {
        max_records_per_read,
        ..
    }) = &mut scene.job.spec.source.kind
    {
        *max_records_per_read = 1;
    }
    let mut reader = scene.reader(SHARD, Position::Start).await;
    let mut read = String::new();
    for _ in 0..3 {
        read += &text(
            &scene
                .next(&mut reader)
                .await
                .expect("reading goes on")
                .records,
        );
        // Nobody takes anything for six minutes.
        scene.fake.advance(Duration::from_secs(360));
    }
    assert_eq!(
        (read.as_str(), reader.stats().iterator_renewals),
        ("abc", 2)
    );
    let refused = scene
        .fake
        .calls()
        .into_iter()
        .filter(|call| call.error.is_some());
    assert!(
        refused
            .into_iter()
            .all(|call| call.error.as_deref() == Some("ExpiredIteratorException"))
    );
}

#[tokio::test]
async fn line_09_empty_answers_and_empty_payloads_move_the_iterator_on() {
    let scene = Scene::with(&["a", "", "b", ""]).await;
    scene.stream.set_gaps(3);
    let mut reader = scene.reader(SHARD, Position::Start).await;
    let all = scene.to_tip(&mut reader).await;
    assert_eq!((all.len(), text(&all).as_str()), (4, "ab"));
    assert_eq!(
        scene
            .fake
            .calls_of("GetRecords")
            .iter()
            .map(|call| call.records)
            .collect::<Vec<_>>(),
        [0, 0, 0, 4]
    );
    scene.stream.put_in(SHARD, b"c", 9_000);
    assert_eq!(text(&scene.to_tip(&mut reader).await), "c");
    assert_eq!(scene.fake.calls_of("GetShardIterator").len(), 1);
}

#[tokio::test]
async fn line_10_ten_thousand_shards_are_listed_in_ten_calls() {
    for (shards, pages) in [(1, 1), (1_000, 1), (1_001, 2), (10_000, 10)] {
        let scene = Scene::of(shards).await;
        let listed = scene.list().await.expect("it can be listed");
        let names: BTreeSet<_> = listed.iter().map(|shard| shard.id.to_string()).collect();
        assert_eq!((listed.len(), names.len()), (shards, shards));
        assert_eq!(scene.fake.counts()["ListShards"], pages);
        assert_eq!(scene.fake.violations(), Default::default());
    }
}

#[tokio::test]
async fn line_10_a_page_token_that_expires_begins_the_listing_again() {
    let scene = Scene::of(2_500).await;
    scene.fake.fault("ListShards", None, Fault::Delay(MS(1)), 1);
    scene.fake.fault(
        "ListShards",
        None,
        Fault::code("ExpiredNextTokenException"),
        1,
    );
    assert_eq!(scene.list().await.expect("it can be listed").len(), 2_500);
    assert_eq!(scene.fake.counts()["ListShards"], 5);
}

#[tokio::test]
async fn line_12_a_position_older_than_retention_stops_the_job_or_is_counted() {
    for code in ["InvalidArgumentException", "TrimmedDataAccessException"] {
        let mut scene = Scene::with(&["a", "b", "c", "d"]).await;
        scene.stream.on_trimmed(Trimmed::Refused(code));
        let all = scene.all(Position::Start).await;
        scene.stream.trim(SHARD, all[2].sequence.as_str());
        let error = scene
            .next(&mut scene.reader(SHARD, all[0].position()).await)
            .await
            .expect_err("b and c are gone");
        let said = error.to_string();
        assert!(matches!(error, ReadError::DataLoss { .. }), "{said}");
        assert!(
            said.contains(SHARD) && said.contains(all[0].sequence.as_str()),
            "shard and gap are named: {said}"
        );

        scene.job.spec.source.on_data_loss = OnDataLoss::Continue;
        let mut reader = scene.reader(SHARD, all[0].position()).await;
        assert_eq!(text(&scene.to_tip(&mut reader).await), "d");
        assert_eq!(reader.stats().data_losses, 1);
        // What is trimmed exactly up to the position is no loss.
        assert_eq!(text(&scene.all(all[2].position()).await), "d");
    }
}

const DAY: Duration = Duration::from_secs(24 * 3_600);
const HOUR: Duration = Duration::from_secs(3_600);

/// What a service may do about a position that has expired, with an error and without.
const EXPIRED: [Trimmed; 3] = [
    Trimmed::Refused("InvalidArgumentException"),
    Trimmed::Silent,
    Trimmed::Stuck,
];

/// A shard of which "a" was read two days ago and "b" was not; "c" came 12 hours ago. The stream
/// keeps a day.
struct Expiring {
    scene: Scene,
    shard: String,
    after: Position,
    read_to_ms: i64,
}

impl Expiring {
    async fn new(trimmed: Trimmed, is_child: bool) -> Self {
        let scene = Scene::of(1).await;
        scene.stream.on_trimmed(trimmed);
        let shard = if is_child {
            scene.stream.split(SHARD)[0].clone()
        } else {
            SHARD.to_owned()
        };
        let put = |data: &[u8]| scene.stream.put_in(&shard, data, scene.fake.now_ms());
        let a = SequenceNumber::try_from(put(b"a").sequence).expect("the fake numbers its records");
        scene.fake.advance(HOUR);
        let read_to_ms = scene.fake.now_ms();
        scene.fake.advance(HOUR);
        put(b"b");
        scene.fake.advance(DAY + DAY / 2);
        put(b"c");
        scene.fake.advance(DAY / 2);
        Self {
            scene,
            shard,
            after: Position::after(a),
            read_to_ms,
        }
    }

    async fn reader(&self, from: Position, read_to_ms: i64) -> Box<dyn ShardReader> {
        let retention_ms = Some(i64::try_from(DAY.as_millis()).expect("it is a day"));
        let to_read = ShardToRead {
            read_to_ms: Some(read_to_ms),
            retention_ms,
            ..ShardToRead::new(self.shard.as_str().into(), from, String::new())
        };
        self.scene
            .sources()
            .open(&self.scene.job, &to_read)
            .await
            .expect("a reader opens without asking anything")
    }

    /// The error that reading ends with; no record may come before it.
    async fn error(&self, from: Position) -> ReadError {
        let mut reader = self.reader(from.clone(), self.read_to_ms).await;
        for _ in 0..5 {
            match self.scene.next(&mut reader).await {
                Ok(chunk) => assert!(
                    chunk.records.is_empty(),
                    "{from}: {:?} after a gap",
                    text(&chunk.records)
                ),
                Err(error) => return error,
            }
        }
        panic!("{from}: the job goes on as if nothing were lost");
    }

    async fn fails_and_names_the_gap(&self, from: Position) {
        let error = self.error(from.clone()).await;
        let said = error.to_string();
        let ReadError::DataLoss { gap: Some(gap), .. } = error else {
            panic!("{from}: {said}")
        };
        assert_eq!(gap.from_ms, self.read_to_ms, "{said}");
        assert!(
            said.contains(&self.shard) && said.contains("between"),
            "shard and gap are named: {said}"
        );
    }

    async fn continues_and_counts_the_gap(&mut self, from: Position) {
        self.scene.job.spec.source.on_data_loss = OnDataLoss::Continue;
        let mut reader = self.reader(from.clone(), self.read_to_ms).await;
        assert_eq!(text(&self.scene.to_tip(&mut reader).await), "c", "{from}");
        let stats = reader.stats();
        assert_eq!(
            (stats.data_losses, stats.lost.map(|gap| gap.from_ms)),
            (1, Some(self.read_to_ms)),
            "{from}"
        );
    }
}

#[tokio::test]
async fn line_12_what_expired_unread_is_lost_from_the_start_of_a_shard_on() {
    for trimmed in EXPIRED {
        let mut expiring = Expiring::new(trimmed, false).await;
        expiring.fails_and_names_the_gap(Position::Start).await;
        expiring.continues_and_counts_the_gap(Position::Start).await;
    }
}

#[tokio::test]
async fn line_12_what_expired_unread_is_lost_from_a_time_on() {
    for trimmed in EXPIRED {
        let mut expiring = Expiring::new(trimmed, false).await;
        let from = Position::Timestamp(expiring.read_to_ms);
        expiring.fails_and_names_the_gap(from.clone()).await;
        expiring.continues_and_counts_the_gap(from).await;
    }
}

#[tokio::test]
async fn line_12_what_expired_unread_is_lost_after_a_record_with_an_error_of_the_service_and_without()
 {
    for trimmed in EXPIRED {
        let mut expiring = Expiring::new(trimmed, false).await;
        let from = expiring.after.clone();
        expiring.fails_and_names_the_gap(from.clone()).await;
        expiring.continues_and_counts_the_gap(from).await;
    }
}

#[tokio::test]
async fn line_12_what_expired_unread_of_a_child_is_lost_since_its_parents_end() {
    for trimmed in EXPIRED {
        let mut expiring = Expiring::new(trimmed, true).await;
        expiring.fails_and_names_the_gap(Position::Start).await;
        expiring.continues_and_counts_the_gap(Position::Start).await;
    }
}

#[tokio::test]
async fn line_12_a_shard_without_unread_records_continues_at_any_age_of_its_position() {
    for trimmed in EXPIRED {
        let expiring = Expiring::new(trimmed, false).await;
        // An earlier reader knew 13 hours ago that nothing had come since "b".
        let read_to_ms = expiring.scene.fake.now_ms() - 13 * 3_600_000;
        for from in [expiring.after.clone(), Position::Start] {
            let mut reader = expiring.reader(from.clone(), read_to_ms).await;
            assert_eq!(
                text(&expiring.scene.to_tip(&mut reader).await),
                "c",
                "{from}"
            );
            assert_eq!(reader.stats().data_losses, 0, "{from}");
        }
    }
}

#[tokio::test]
async fn line_12_a_reader_that_falls_behind_the_retention_while_it_reads_loses_what_expires() {
    for trimmed in EXPIRED {
        let mut expiring = Expiring::new(trimmed, false).await;
        if let SourceKind::Kinesis(KinesisSource {
            max_records_per_read,
            ..
        }) = &mut expiring.scene.job.spec.source.kind
        {
            *max_records_per_read = 1;
        }
        let put = |data: &[u8]| {
            expiring
                .scene
                .stream
                .put_in(SHARD, data, expiring.scene.fake.now_ms())
        };
        put(b"d");
        put(b"e");
        let read_to_ms = expiring.scene.fake.now_ms() - 13 * 3_600_000;
        let mut reader = expiring.reader(expiring.after.clone(), read_to_ms).await;
        let mut given = String::new();
        while given.is_empty() {
            given = text(
                &expiring
                    .scene
                    .next(&mut reader)
                    .await
                    .expect("nothing is lost yet")
                    .records,
            );
        }
        assert_eq!(given, "c");
        expiring.scene.fake.advance(DAY + HOUR);
        put(b"f");
        let error = loop {
            match expiring.scene.next(&mut reader).await {
                Ok(chunk) => assert!(
                    chunk.records.is_empty(),
                    "{:?} after a gap",
                    text(&chunk.records)
                ),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error, ReadError::DataLoss { gap: Some(_), .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn line_12_a_retention_that_was_lowered_is_that_of_the_next_reader() {
    let expiring = Expiring::new(Trimmed::Silent, false).await;
    expiring.scene.stream.retain_for(HOUR * 2);
    let facts = expiring
        .scene
        .listing()
        .await
        .expect("it can be listed")
        .stream
        .expect("it is described");
    assert_eq!(facts.map(|facts| facts.retention_ms), Some(2 * 3_600_000));
}

#[tokio::test]
async fn line_12_a_shard_that_is_gone_is_data_loss_and_a_stream_that_is_gone_is_refused() {
    let mut scene = Scene::with(&["a", "b"]).await;
    let first = scene.all(Position::Start).await.swap_remove(0);
    scene.stream.split(SHARD);
    scene.fake.advance(Duration::from_secs(25 * 3_600));
    let error = scene
        .next(&mut scene.reader(SHARD, first.position()).await)
        .await
        .expect_err("the shard is gone");
    assert!(matches!(error, ReadError::DataLoss { .. }), "{error}");
    scene.job.spec.source.on_data_loss = OnDataLoss::Continue;
    let mut reader = scene.reader(SHARD, first.position()).await;
    let chunk = scene.next(&mut reader).await.expect("the loss is counted");
    assert_eq!(
        (chunk.records.len(), chunk.end, reader.stats().data_losses),
        (0, Some(vec![]), 1)
    );
    scene.fake.delete(STREAM);
    let error = scene
        .next(&mut scene.reader(SHARD, Position::Start).await)
        .await
        .expect_err("the stream is gone");
    assert!(matches!(error, ReadError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn line_13_windows_close_by_the_service_s_clock_where_the_worker_s_is_wrong() {
    for skew_ms in [120_000, -120_000] {
        let scene = Scene::of(1).await;
        let clock: Clock = Arc::new(move || streamctl_engine::clock::now_ms() + skew_ms);
        let to_read = ShardToRead::new(
            SHARD.into(),
            Position::Timestamp(scene.fake.now_ms()),
            String::new(),
        );
        let sources = scene.sources().with_clock(clock);
        let mut reader = sources
            .open(&scene.job, &to_read)
            .await
            .expect("a reader opens without asking anything");
        let chunk = reader.next().await.expect("reading goes on");
        let complete_to_ms = chunk.complete_to_ms.expect("it is empty");
        let now_ms = scene.fake.now_ms();
        assert!(
            complete_to_ms <= now_ms - GRACE_MS,
            "nothing that still comes is left out: {}",
            complete_to_ms - now_ms
        );
        let late_ms = DATE_MS + GRACE_MS + 2_000 + if skew_ms < 0 { -skew_ms } else { 0 };
        assert!(
            complete_to_ms >= now_ms - late_ms,
            "nor is anything held open for long: {}",
            complete_to_ms - now_ms
        );
        let reported = reader
            .stats()
            .clock_skew_ms
            .expect("the service has told its time");
        assert!((reported - skew_ms).abs() <= 2_000, "{skew_ms}: {reported}");
    }
}

#[tokio::test]
async fn line_13_an_idle_shard_is_complete_up_to_now_but_for_the_grace_period() {
    let scene = Scene::of(1).await;
    let mut reader = scene
        .reader(SHARD, Position::Timestamp(scene.fake.now_ms()))
        .await;
    let mut before = i64::MIN;
    for _ in 0..3 {
        let asked_ms = streamctl_engine::clock::now_ms();
        let chunk = scene.next(&mut reader).await.expect("reading goes on");
        let complete_to_ms = chunk.complete_to_ms.expect("an empty shard is at its tip");
        assert!(
            complete_to_ms >= asked_ms - GRACE_MS - DATE_MS,
            "nothing holds a window open for longer"
        );
        assert!(complete_to_ms >= before);
        before = complete_to_ms;
    }
}

#[tokio::test]
async fn line_14_aggregates_are_taken_apart_and_reading_continues_inside_them() {
    let scene = Scene::of(1).await;
    scene.stream.put_in(SHARD, b"before", 1_000);
    scene.stream.put_in(SHARD, AGGREGATE, 2_000);
    let mut wrong_digest = AGGREGATE.to_vec();
    *wrong_digest.last_mut().expect("it is not empty") ^= 1;
    scene.stream.put_in(SHARD, &wrong_digest, 3_000);
    scene.stream.put_in(SHARD, b"after", 4_000);
    let all = scene.all(Position::Start).await;
    let expected = [
        "before",
        "{\"id\":1}",
        "{\"id\":2}",
        "first line\nsecond line",
        "Åland",
    ];
    assert_eq!(
        all.iter().map(|r| r.data.as_ref()).collect::<Vec<_>>()[..5],
        expected.map(str::as_bytes)
    );
    assert_eq!(
        (all.len(), all[5].data.as_ref(), all[6].data.as_ref()),
        (7, wrong_digest.as_slice(), &b"after"[..])
    );
    assert_eq!(
        all.iter()
            .map(|record| record.sub_sequence)
            .collect::<Vec<_>>(),
        [0, 1, 2, 3, 0, 0, 0]
    );
    for (index, record) in all.iter().enumerate() {
        assert_eq!(
            scene.all(record.position()).await,
            all[index + 1..],
            "after {}",
            record.position()
        );
    }
    assert!(
        all.windows(2)
            .all(|pair| pair[0].position().reaches(&pair[1].position()))
    );
}

#[tokio::test]
async fn line_14_p38_user_records_outside_the_shard_s_range_are_marked_and_counted() {
    let scene = Scene::of(2).await;
    // Of an aggregate for a parent, each child takes its own part: only the third and the fourth
    // have explicit keys.
    let [low, high] = scene.stream.split(SHARD);
    let listed = scene.list().await.expect("it can be listed");
    let mut read = vec![];
    let other = "shardId-000000000001".to_owned();
    for shard in [&low, &high, &other] {
        scene.stream.put_in(shard, AGGREGATE, 1_000);
        scene.stream.put_in(shard, b".", 2_000);
        let detail = &listed
            .iter()
            .find(|known| known.id.as_str() == shard)
            .expect("it is listed")
            .detail;
        assert!(HashRange::from_detail(detail).is_some(), "{detail}");
        let mut reader = scene.reader_of(shard, Position::Start, detail).await;
        let records = scene.to_tip(&mut reader).await;
        let foreign = records.iter().filter(|one| one.foreign == Foreign::Yes);
        assert_eq!(reader.stats().foreign_records, foreign.count() as u64);
        assert_eq!(records.len(), 5);
        read.extend(
            records
                .into_iter()
                .filter(|record| record.foreign == Foreign::No)
                .map(|record| record.data)
                .filter(|data| data.as_ref() != b"."),
        );
    }
    read.sort();
    assert_eq!(
        read.len(),
        4,
        "each user record is read from exactly one shard"
    );
    let parent = scene
        .to_tip(&mut scene.reader(SHARD, Position::Start).await)
        .await;
    assert!(parent.is_empty());
}

#[tokio::test]
async fn line_14_the_last_answer_of_a_shard_names_the_hash_ranges_of_its_children() {
    let scene = Scene::with(&["a"]).await;
    let names = scene.stream.split(SHARD);
    let chunk = scene
        .next(&mut scene.reader(SHARD, Position::Start).await)
        .await
        .expect("reading goes on");
    let children: Vec<Child> = chunk.end.expect("the shard is closed");
    let listed = scene.list().await.expect("it can be listed");
    for (child, name) in children.iter().zip(&names) {
        assert_eq!(
            (child.shard.as_str(), &child.parents),
            (name.as_str(), &vec![SHARD.into()])
        );
        assert_eq!(
            Some(&child.detail),
            listed
                .iter()
                .find(|known| known.id == child.shard)
                .map(|known| &known.detail)
        );
    }
}

/// An aggregate of one user record `{"id": n}` each, encoded by hand: one partition key, a length
/// before every field.
fn aggregate(ids: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut body = vec![0x0A, 1, b'k'];
    for id in ids {
        let data = format!("{{\"id\":{id}}}");
        let length = u8::try_from(data.len()).expect("it is short");
        body.extend([0x1A, length + 4, 0x08, 0, 0x1A, length]);
        body.extend(data.as_bytes());
    }
    [
        &[0xF3, 0x89, 0x9A, 0xC2],
        body.as_slice(),
        &Md5::digest(&body),
    ]
    .concat()
}

/// What a replay of this range gives, in order.
async fn replayed(scene: &Scene, range: ShardRange) -> Vec<i64> {
    let task = TaskId {
        term: Term(1),
        counter: 1,
    };
    let ranges = BTreeMap::from([(SHARD.into(), range)]);
    let detail = scene
        .list()
        .await
        .expect("it can be listed")
        .swap_remove(0)
        .detail;
    let stands = Frontier {
        detail,
        ..Frontier::at(Position::End)
    };
    let manifest = Manifest {
        version: 1,
        job: scene.job.spec.name.clone(),
        epoch: Epoch(1),
        window: Window {
            start_ms: 0,
            end_ms: 1_000,
        },
        term: Term(1),
        created_ms: 0,
        previous: None,
        made_by: None,
        stream: None,
        query_digest: String::new(),
        function_code: None,
        lookups: BTreeMap::new(),
        parts: vec![ManifestPart {
            task,
            ranges,
            counts: Counts::default(),
        }],
        frontier: BTreeMap::from([(SHARD.into(), stands)]),
        objects: vec![],
        counts: Counts::default(),
        totals: Counts::default(),
        unmatched: vec![],
        null_values: vec![],
        unknown_keys: vec![],
        stages: Default::default(),
        repair: None,
    };
    let storages = Storages::new(scene.aws.clone());
    let settings = MemoryBudget::default();
    let context = Arc::new(Context::new(
        scene.job.clone(),
        storages,
        scene.sources(),
        settings,
        Default::default(),
    ));
    let here = tokio::runtime::Handle::current().into();
    let replay = replay(context, &here, manifest, task)
        .await
        .expect("it begins")
        .expect("the task has a part");
    let mut batches = replay.batches;
    let mut ids = vec![];
    while let Some(batch) = batches.recv().await {
        let batch = batch.expect("the rows are there").take();
        let column = batch
            .column(0)
            .as_any()
            .downcast_ref::<Int64Array>()
            .expect("ids are numbers")
            .clone();
        ids.extend(column.values().iter().copied());
    }
    ids
}

#[tokio::test]
async fn line_14_a_replay_of_any_range_inside_aggregates_gives_its_rows_again() {
    let mut scene = Scene::of(1).await;
    scene.job.columns = vec![ColumnType {
        name: "id".into(),
        type_name: "bigint".into(),
    }];
    for data in [
        b"{\"id\":0}".to_vec(),
        aggregate(1..4),
        aggregate(4..6),
        b"{\"id\":6}".to_vec(),
    ] {
        scene.stream.put_in(SHARD, &data, 1_000);
    }
    let all = scene.all(Position::Start).await;
    let places: Vec<Position> = [Position::Start]
        .into_iter()
        .chain(all.iter().map(Record::position))
        .collect();
    for from in 0..places.len() {
        for to in from + 1..places.len() {
            let records = (to - from) as u64;
            let range = ShardRange {
                from: places[from].clone(),
                to: places[to].clone(),
                records,
                bytes: 0,
            };
            // Reading a range takes a new iterator: the limit of five a second would be met.
            scene.fake.advance(MS(2_000));
            let expected: Vec<i64> = (from as i64..to as i64).collect();
            assert_eq!(
                replayed(&scene, range).await,
                expected,
                "after {} to {}",
                places[from],
                places[to]
            );
        }
    }
}

#[tokio::test]
async fn line_16_a_reader_counts_throttles_renewals_losses_and_its_lag() {
    let mut scene = Scene::with(&["a", "b"]).await;
    scene.job.spec.source.on_data_loss = OnDataLoss::Continue;
    if let SourceKind::Kinesis(KinesisSource {
        max_records_per_read,
        ..
    }) = &mut scene.job.spec.source.kind
    {
        *max_records_per_read = 1;
    }
    scene.fake.fault("GetRecords", None, Fault::throttle(), 2);
    scene.fake.fault("GetRecords", None, Fault::expired(), 1);
    scene.fake.fault(
        "GetRecords",
        None,
        Fault::code("TrimmedDataAccessException"),
        1,
    );
    let mut reader = scene.reader(SHARD, Position::Start).await;
    let chunk = scene.next(&mut reader).await.expect("reading goes on");
    assert!(
        chunk.behind_ms > 1_000_000,
        "the second record arrived in 1970: {}",
        chunk.behind_ms
    );
    let stats = reader.stats();
    assert_eq!(
        (stats.throttles, stats.iterator_renewals, stats.data_losses),
        (2, 2, 1)
    );
    assert_eq!(
        scene
            .next(&mut reader)
            .await
            .expect("reading goes on")
            .behind_ms,
        0
    );
}

#[tokio::test]
async fn line_17_transient_failures_of_a_listing_are_tried_again() {
    let scene = Scene::of(3).await;
    for fault in [
        Fault::internal(),
        Fault::code("LimitExceededException"),
        Fault::Close,
        Fault::Cut,
    ] {
        scene.fake.fault("ListShards", None, fault, 1);
    }
    assert_eq!(scene.list().await.expect("it can be listed").len(), 3);
    assert_eq!(scene.fake.counts()["ListShards"], 5);
}

#[tokio::test]
async fn line_19_a_read_ends_at_the_tip_and_waits_for_no_count() {
    let scene = Scene::with(&["a"]).await;
    let mut reader = scene.reader(SHARD, Position::Start).await;
    let begin = Instant::now();
    let chunk = scene.next(&mut reader).await.expect("reading goes on");
    assert_eq!((text(&chunk.records).as_str(), chunk.behind_ms), ("a", 0));
    assert!(
        chunk.complete_to_ms.is_some() && begin.elapsed() < in_time(MS(1_500)),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn line_20_a_stream_of_another_account_is_read_with_its_arn_and_an_assumed_role() {
    let mut scene = Scene::with(&["a"]).await;
    let stream = scene
        .job
        .stream
        .as_mut()
        .expect("a Kinesis job has a stream");
    stream.arn = Some(scene.stream.arn());
    stream.role_arn = Some("arn:aws:iam::999999999999:role/reader".to_owned());
    stream.session_name = Some("nightly".to_owned());
    stream.region = Some("us-east-1".to_owned());
    assert_eq!(text(&scene.all(Position::Start).await), "a");
    assert_eq!(scene.list().await.expect("it can be listed").len(), 1);
    let assumed = &scene.fake.calls_of("AssumeRole")[0];
    assert_eq!(assumed.key, "WORKER");
    assert_eq!(
        assumed.body["RoleArn"],
        "arn:aws:iam::999999999999:role/reader"
    );
    assert_eq!(assumed.body["RoleSessionName"], "nightly");
    for operation in ["GetShardIterator", "GetRecords", "ListShards"] {
        let call = &scene.fake.calls_of(operation)[0];
        assert_eq!(
            (call.key.as_str(), &call.body["StreamARN"]),
            ("ROLE-nightly", &scene.stream.arn().into())
        );
        assert!(
            call.body.get("StreamName").is_none(),
            "{operation}: {}",
            call.body
        );
    }
}
