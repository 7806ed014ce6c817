//! Enhanced fan-out: twelve things that go wrong with subscriptions, each a test named after its
//! line, on a service that enforces the real one's limits.
//!
//! Rule: a test that is about the subscription throttles the calls beside it, so that a record can
//! only come through an event; every record is compared, each once.

use super::{MS, SHARD, STREAM, Scene, resolved, text};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use streamctl_controller::shards::{ShardLister, SourceShards};
use streamctl_engine::aws::Aws;
use streamctl_engine::source::kinesis::{Settings, SubscriptionTimes};
use streamctl_engine::source::{ListError, ReadError, Record, ShardReader, ShardToRead};
use streamctl_engine::storage::Storages;
use streamctl_proto::Position;
use streamctl_proto::resolved::{StreamConsumer, StreamIdentity};
use streamctl_proto::spec::{ConsumerName, SourceKind};
use streamctl_tests::kinesis::{Call, FakeKinesis, FanoutLimits, Fault};
use streamctl_tests::pki::Authority;
use streamctl_tests::wait::in_time;
use streamctl_worker::source::Sources;

const SUBSCRIBE: &str = "SubscribeToShard";
/// Longest wait for anything, on a busy machine.
const STEP: Duration = Duration::from_secs(30);

/// The service's limits, shorter, so that the reader's waits pass in a moment.
fn limits() -> FanoutLimits {
    FanoutLimits {
        take_over: MS(400),
        call_gap: MS(100),
        heartbeat: MS(100),
        ..FanoutLimits::default()
    }
}

fn times() -> SubscriptionTimes {
    SubscriptionTimes {
        call_gap: MS(110),
        take_over: MS(410),
        yield_for: MS(500),
        steady: MS(0),
        silence_max: MS(1_000),
        stall_max: MS(200),
        backoff_base: MS(10),
        backoff_max: MS(40),
    }
}

/// A stream with a consumer, and a job that reads through it.
struct Fanned {
    scene: Scene,
    times: SubscriptionTimes,
}

impl Fanned {
    async fn of(scene: Scene) -> Self {
        Self::with_limits(scene, limits()).await
    }

    async fn with_limits(mut scene: Scene, limits: FanoutLimits) -> Self {
        scene.fake.limit_fanout(limits);
        let stream = scene.job.stream.clone().expect("the job reads a stream");
        let client = scene.aws.kinesis(&stream).await;
        let request = client.register_stream_consumer().consumer_name("reports");
        let made = request.stream_arn(scene.stream.arn()).send().await;
        let consumer = made.expect("it is registered").consumer;
        scene.job.consumer = Some(StreamConsumer {
            arn: consumer.expect("it is named").consumer_arn,
            is_own: true,
        });
        Self {
            scene,
            times: times(),
        }
    }

    /// Calls for records get nothing any more.
    fn only_events(self) -> Self {
        let throttled = 1_000_000;
        self.scene
            .fake
            .fault("GetRecords", None, Fault::throttle(), throttled);
        self
    }

    async fn reader_of(&self, shard: &str, from: Position) -> Box<dyn ShardReader> {
        let settings = Settings {
            wait_max: MS(50),
            backoff_base: MS(50),
            backoff_max: MS(500),
            subscription: self.times,
            ..Settings::default()
        };
        let aws = self.scene.aws.clone();
        let sources = Sources::new(aws.clone(), Storages::new(aws)).with_kinesis(settings);
        let to_read = ShardToRead::new(shard.into(), from, String::new());
        let opened = sources.open(&self.scene.job, &to_read).await;
        opened.expect("a reader opens without a request")
    }

    async fn reader(&self, from: Position) -> Box<dyn ShardReader> {
        self.reader_of(SHARD, from).await
    }

    fn put(&self, data: &str) {
        let now_ms = self.scene.fake.now_ms();
        self.scene.stream.put_in(SHARD, data.as_bytes(), now_ms);
    }

    fn subscriptions(&self) -> Vec<Call> {
        self.scene.fake.calls_of(SUBSCRIBE)
    }

    fn granted(&self) -> usize {
        let calls = self.subscriptions();
        calls.iter().filter(|call| call.error.is_none()).count()
    }

    fn refused(&self, code: &str) -> usize {
        let calls = self.subscriptions();
        let is_refused = |call: &&Call| call.error.as_deref() == Some(code);
        calls.iter().filter(is_refused).count()
    }

    /// Ends every subscription, as the service does after five minutes.
    fn five_minutes_pass(&self) {
        self.scene.fake.advance(Duration::from_secs(300));
    }
}

/// Reads until it is so; returns the records.
async fn read_until(
    reader: &mut Box<dyn ShardReader>,
    what: &str,
    is: impl Fn(&[Record], &dyn ShardReader) -> bool,
) -> Vec<Record> {
    let begin = Instant::now();
    let mut all = vec![];
    while !is(&all, &**reader) {
        assert!(
            begin.elapsed() < STEP,
            "waited in vain for {what}: {}",
            text(&all)
        );
        all.extend(reader.next().await.expect("reading goes on").records);
    }
    all
}

async fn read(reader: &mut Box<dyn ShardReader>, expected: &str) {
    let all = read_until(reader, expected, |all, _| text(all).len() >= expected.len()).await;
    assert_eq!(text(&all), expected);
}

async fn stands(reader: &mut Box<dyn ShardReader>, subscriptions: u64) -> String {
    let is = |_: &[Record], reader: &dyn ShardReader| reader.stats().subscriptions >= subscriptions;
    text(&read_until(reader, "a subscription", is).await)
}

#[tokio::test]
async fn e01_a_shard_whose_subscription_is_refused_is_polled_until_it_takes_over() {
    let fanned = Fanned::of(Scene::with(&["a", "b"]).await).await;
    let mut first = fanned.reader(Position::Start).await;
    stands(&mut first, 1).await;
    fanned.scene.fake.forget_calls();
    let begin = Instant::now();
    let mut second = fanned.reader(Position::Start).await;
    let read = |all: &[Record], _: &dyn ShardReader| text(all) == "ab";
    read_until(&mut second, "what is there", read).await;
    let polls = fanned.scene.fake.calls_of("GetRecords");
    assert!(polls.iter().any(|call| call.records > 0), "it was polled");
    stands(&mut second, 1).await;
    let refused = fanned.refused("ResourceInUseException") as u128;
    let tries = begin.elapsed().as_millis() / fanned.times.take_over.as_millis();
    assert!((1..=2 + tries).contains(&refused), "{refused} of {tries}");
}

#[tokio::test]
async fn e02_a_subscription_that_is_taken_over_ends_in_silence_and_no_reader_gets_a_record_twice() {
    let mut fanned = Fanned::of(Scene::with(&["a"]).await).await;
    fanned.times.steady = Duration::from_secs(60);
    fanned.times.yield_for = Duration::from_secs(10);
    // One of the two waits while the other is read.
    fanned.times.stall_max = STEP;
    let mut first = fanned.reader(Position::Start).await;
    let before = stands(&mut first, 1).await;
    let mut second = fanned.reader(Position::Start).await;
    let since = stands(&mut second, 1).await;
    fanned.put("b");
    fanned.put("c");
    read(&mut first, &"abc"[before.len()..]).await;
    read(&mut second, &"abc"[since.len()..]).await;
    let calls = fanned.subscriptions().len();
    let begin = Instant::now();
    while begin.elapsed() < fanned.times.take_over * 2 {
        assert!(first.next().await.unwrap().records.is_empty());
    }
    assert_eq!(
        fanned.subscriptions().len(),
        calls,
        "it leaves the shard to the other for a while"
    );
}

#[tokio::test]
async fn e03_after_five_minutes_the_next_subscription_begins_where_the_last_ended() {
    let fanned = Fanned::of(Scene::with(&["a"]).await).await.only_events();
    let mut reader = fanned.reader(Position::Start).await;
    read(&mut reader, "a").await;
    for round in 2..5 {
        fanned.five_minutes_pass();
        fanned.put("b");
        let begin = Instant::now();
        read(&mut reader, "b").await;
        assert!(
            begin.elapsed() < in_time(MS(2_000)),
            "round {round}: {:?}",
            begin.elapsed()
        );
        assert!(fanned.granted() >= round);
    }
    let last = fanned.subscriptions().pop().expect("there are calls");
    assert_eq!(
        last.body["StartingPosition"]["Type"],
        "AFTER_SEQUENCE_NUMBER"
    );
}

#[tokio::test]
async fn e04_a_closed_shard_ends_with_its_children_and_an_expired_one_does_not_end() {
    let fanned = Fanned::of(Scene::with(&["a", "b"]).await)
        .await
        .only_events();
    let children = fanned.scene.stream.split(SHARD);
    let mut reader = fanned.reader(Position::Start).await;
    let mut all = vec![];
    let end = loop {
        let chunk = reader.next().await.expect("reading goes on");
        all.extend(chunk.records);
        if let Some(end) = chunk.end {
            break end;
        }
    };
    assert_eq!(text(&all), "ab");
    let named: Vec<_> = end.iter().map(|child| child.shard.as_str()).collect();
    assert_eq!(named, children);

    let fanned = Fanned::of(Scene::with(&["a", "b"]).await).await;
    let all = fanned.scene.all(Position::Start).await;
    fanned.scene.stream.trim(SHARD, all[1].sequence.as_str());
    let mut reader = fanned.reader(all[0].position()).await;
    let error = loop {
        match reader.next().await {
            Ok(chunk) => assert_eq!(chunk.end, None, "it is not ended"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ReadError::DataLoss { .. }), "{error}");
}

#[tokio::test]
async fn e05_the_place_of_an_idle_shard_moves_without_records() {
    let scene = Scene::of(2).await;
    scene.stream.put_in(SHARD, b"a", scene.fake.now_ms());
    let fanned = Fanned::of(scene).await.only_events();
    let mut reader = fanned.reader(Position::Start).await;
    read(&mut reader, "a").await;
    let other = "shardId-000000000001";
    let later = fanned
        .scene
        .stream
        .put_in(other, b"x", fanned.scene.fake.now_ms());
    let is_later = |fanned: &Fanned| {
        let calls = fanned.subscriptions();
        let from = calls
            .last()
            .map(|call| call.body["StartingPosition"].clone());
        from.and_then(|from| Some(from["SequenceNumber"].as_str()? >= later.sequence.as_str()))
    };
    let begin = Instant::now();
    while is_later(&fanned) != Some(true) {
        assert!(begin.elapsed() < STEP, "{:?}", fanned.subscriptions());
        fanned.scene.fake.advance(MS(10_000));
        let chunk = reader.next().await.expect("reading goes on");
        assert!(chunk.records.is_empty());
    }
    fanned.put("b");
    read(&mut reader, "b").await;
}

#[tokio::test]
async fn e06_the_latest_of_an_idle_shard_is_the_time_of_the_submit() {
    let fanned = Fanned::of(Scene::of(1).await).await.only_events();
    let start_ms = fanned.scene.fake.now_ms();
    let from = Position::Timestamp(start_ms);
    let mut reader = fanned.reader(from.clone()).await;
    stands(&mut reader, 1).await;
    fanned.put("a");
    drop(reader);
    // No event was taken: the next worker begins at the same time.
    let mut reader = fanned.reader(from).await;
    read(&mut reader, "a").await;
    let kinds: Vec<_> = fanned
        .subscriptions()
        .iter()
        .map(|call| call.body["StartingPosition"]["Type"].clone())
        .collect();
    assert!(kinds.iter().all(|kind| kind == "AT_TIMESTAMP"), "{kinds:?}");
}

#[tokio::test]
async fn e07_back_pressure_of_two_minutes_ends_the_subscription_and_heals_by_itself() {
    let fanned = Fanned::of(Scene::of(1).await).await.only_events();
    let mut reader = fanned.reader(Position::Start).await;
    stands(&mut reader, 1).await;
    let payload = |index: usize| format!("{index:04}");
    let mut expected = String::new();
    for round in 0..2 {
        // Nothing is read for longer than events are held.
        let begin = Instant::now();
        while begin.elapsed() < fanned.times.stall_max * 3 {
            fanned.put(&payload(round));
            expected += &payload(round);
            tokio::time::sleep(MS(40)).await;
        }
        fanned.scene.fake.advance(Duration::from_secs(120));
    }
    read(&mut reader, &expected).await;
    assert!(
        reader.stats().subscriptions >= 2,
        "{:?}",
        reader.stats().subscriptions
    );
    fanned.put("last");
    read(&mut reader, "last").await;
}

#[tokio::test]
async fn e08_many_shards_begin_with_one_call_each() {
    // More than one connection takes.
    let shards = 100;
    let fanned = Fanned::of(Scene::of(shards).await).await.only_events();
    let mut readers = BTreeMap::new();
    for shard in fanned.scene.stream.open_shards() {
        let now_ms = fanned.scene.fake.now_ms();
        fanned.scene.stream.put_in(&shard, b"a", now_ms);
        readers.insert(
            shard.clone(),
            fanned.reader_of(&shard, Position::Start).await,
        );
    }
    let reads = readers.values_mut().map(|reader| read(reader, "a"));
    futures::future::join_all(reads).await;
    let violations = fanned.scene.fake.violations();
    let of_subscriptions: Vec<_> = violations
        .keys()
        .filter(|key| key.starts_with(SUBSCRIBE))
        .collect();
    assert!(of_subscriptions.is_empty(), "{of_subscriptions:?}");
    assert_eq!(fanned.granted(), shards);
}

#[tokio::test]
async fn e09_a_connection_that_breaks_in_an_event_loses_and_doubles_nothing() {
    let fanned = Fanned::of(Scene::with(&["a", "b", "c"]).await)
        .await
        .only_events();
    fanned.scene.fake.fault(SUBSCRIBE, None, Fault::Cut, 2);
    fanned.scene.fake.fault(SUBSCRIBE, None, Fault::Close, 1);
    fanned
        .scene
        .fake
        .fault(SUBSCRIBE, None, Fault::internal(), 1);
    let mut reader = fanned.reader(Position::Start).await;
    read(&mut reader, "abc").await;
    fanned.put("d");
    read(&mut reader, "d").await;
}

#[tokio::test]
async fn e10_a_consumer_that_is_not_active_yet_or_was_deleted_leaves_a_shard_that_is_polled() {
    let slow = FanoutLimits {
        activation: Duration::from_secs(60),
        ..limits()
    };
    let fanned = Fanned::with_limits(Scene::with(&["a"]).await, slow).await;
    let mut reader = fanned.reader(Position::Start).await;
    read(&mut reader, "a").await;
    assert_eq!(reader.stats().subscriptions, 0);
    fanned.scene.fake.advance(Duration::from_secs(60));
    stands(&mut reader, 1).await;
    let consumer = fanned.scene.job.consumer.clone().expect("it has one");
    let stream = fanned.scene.job.stream.clone().expect("it has one");
    let client = fanned.scene.aws.kinesis(&stream).await;
    let gone = client
        .deregister_stream_consumer()
        .consumer_arn(consumer.arn);
    gone.send().await.expect("it is deregistered");
    fanned.put("b");
    fanned.scene.fake.advance(MS(1_000));
    read(&mut reader, "b").await;
}

/// What a submit makes of a job with this consumer.
async fn prepared(scene: &Scene, consumer: ConsumerName) -> Result<StreamConsumer, ListError> {
    let mut job = scene.job.clone();
    let identity = StreamIdentity {
        arn: Some(scene.stream.arn()),
        created_ms: 0,
    };
    job.stream_identity = Some(identity);
    if let SourceKind::Kinesis(source) = &mut job.spec.source.kind {
        source.consumer = Some(consumer);
    }
    let lister = SourceShards::new(scene.aws.clone(), Storages::new(scene.aws.clone()));
    let made = lister.prepare(&job).await?;
    Ok(made.expect("the job names a consumer"))
}

fn refusal(prepared: Result<StreamConsumer, ListError>) -> (String, String) {
    match prepared.expect_err("it is refused") {
        ListError::Refused { reason, hint, .. } => (reason, hint),
        other @ ListError::Unavailable { .. } => panic!("{other}"),
    }
}

#[tokio::test]
async fn e10_a_consumer_is_registered_waited_for_and_refused_with_a_hint() {
    let scene = Scene::of(1).await;
    scene.fake.limit_fanout(FanoutLimits {
        activation: MS(700),
        consumers_max: 2,
        ..limits()
    });
    let name = |name: &str| ConsumerName::Name(name.to_owned());
    let made = prepared(&scene, name("reports")).await.unwrap();
    assert!(made.is_own && made.arn.contains("/consumer/reports:"));
    let described = scene.fake.calls_of("DescribeStreamConsumer");
    assert!(described.len() > 1, "it was waited for");

    let (reason, hint) = refusal(prepared(&scene, name("reports")).await);
    assert!(
        reason.contains("already") && hint.contains(&made.arn),
        "{reason}; {hint}"
    );
    let taken = prepared(&scene, ConsumerName::Arn(made.arn.clone())).await;
    assert!(!taken.unwrap().is_own);
    let gone = format!("{}9", made.arn);
    let (_, hint) = refusal(prepared(&scene, ConsumerName::Arn(gone)).await);
    assert!(hint.contains("is there a consumer"), "{hint}");

    prepared(&scene, name("second")).await.unwrap();
    let (_, hint) = refusal(prepared(&scene, name("third")).await);
    assert!(hint.contains("at most 20 consumers"), "{hint}");
    let denied = Fault::code("AccessDeniedException");
    scene.fake.fault("RegisterStreamConsumer", None, denied, 1);
    let (_, hint) = refusal(prepared(&scene, name("fourth")).await);
    assert!(
        hint.contains("allow kinesis:RegisterStreamConsumer"),
        "{hint}"
    );
}

#[tokio::test]
async fn e10_a_worker_that_may_not_subscribe_names_what_to_allow() {
    let fanned = Fanned::of(Scene::with(&["a"]).await).await.only_events();
    let denied = Fault::code("AccessDeniedException");
    fanned.scene.fake.fault(SUBSCRIBE, None, denied, 1);
    let mut reader = fanned.reader(Position::Start).await;
    let error = loop {
        match reader.next().await {
            Ok(chunk) => assert!(chunk.records.is_empty()),
            Err(error) => break error,
        }
    };
    let ReadError::Refused { hint, .. } = error else {
        panic!("{error}")
    };
    assert!(hint.contains("allow kinesis:SubscribeToShard"), "{hint}");
}

#[tokio::test]
async fn e11_a_subscription_that_falls_silent_is_made_again() {
    let fanned = Fanned::of(Scene::with(&["a"]).await).await.only_events();
    fanned.scene.fake.fault(SUBSCRIBE, None, Fault::Silence, 1);
    let mut reader = fanned.reader(Position::Start).await;
    let begin = Instant::now();
    read(&mut reader, "a").await;
    assert!(begin.elapsed() >= fanned.times.silence_max);
    assert_eq!(fanned.granted(), 2);
}

#[tokio::test]
async fn e12_subscriptions_that_break_again_and_again_are_made_rarely_and_the_shard_is_polled() {
    let mut fanned = Fanned::of(Scene::with(&["a"]).await).await;
    fanned.times.steady = Duration::from_secs(60);
    fanned.times.backoff_base = MS(200);
    fanned.times.backoff_max = MS(2_000);
    fanned.scene.fake.fault(SUBSCRIBE, None, Fault::Cut, 1_000);
    let mut reader = fanned.reader(Position::Start).await;
    read(&mut reader, "a").await;
    let begin = Instant::now();
    let mut expected = 0;
    let mut found = 0;
    while begin.elapsed() < MS(6_000) {
        fanned.put("b");
        expected += 1;
        fanned.scene.fake.advance(MS(1_000));
        found += reader.next().await.expect("reading goes on").records.len();
    }
    read(&mut reader, &"b".repeat(expected - found)).await;
    let calls = fanned.subscriptions().len();
    assert!((2..=9).contains(&calls), "{calls} subscriptions in 6 s");
}

#[tokio::test]
async fn a_window_of_an_idle_shard_closes_by_one_call() {
    let fanned = Fanned::of(Scene::of(1).await).await;
    let mut reader = fanned.reader(Position::Start).await;
    stands(&mut reader, 1).await;
    fanned.scene.fake.forget_calls();
    // The windows of this job last a second.
    let begin = Instant::now();
    let mut closed = BTreeSet::new();
    while closed.len() < 5 {
        assert!(begin.elapsed() < STEP, "{closed:?}");
        let chunk = reader.next().await.expect("reading goes on");
        closed.extend(chunk.complete_to_ms.map(|ms| ms / 1_000));
    }
    let calls = fanned.scene.fake.calls_of("GetRecords").len();
    let windows = begin.elapsed().as_secs() as usize + 1;
    assert!(
        (4..=windows + 4).contains(&calls),
        "{calls} calls in {windows} windows"
    );
    assert_eq!(fanned.granted(), 0, "the subscription stood all the time");
}

#[tokio::test]
async fn subscriptions_over_tls_speak_http_2_and_do_not_share_the_connection_of_calls() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let authority = Authority::new(folder.path(), "authority");
    let fake = FakeKinesis::start_with_tls(&authority.issue("kinesis", &[])).await;
    let trusted = std::fs::read(authority.file()).expect("it was written");
    let scene = Scene {
        stream: fake.create(STREAM, 2),
        aws: Aws::with_fake_over_tls(fake.address(), "WORKER", trusted).await,
        job: resolved(fake.address()),
        fake,
    };
    let fanned = Fanned::of(scene).await.only_events();
    let mut reader = fanned.reader(Position::Start).await;
    stands(&mut reader, 1).await;
    fanned.put("a");
    read(&mut reader, "a").await;
    fanned.five_minutes_pass();
    fanned.put("b");
    read(&mut reader, "b").await;
    let calls = fanned.subscriptions();
    assert!(calls.len() >= 2 && calls.iter().all(|call| call.is_http2));
}

#[tokio::test]
async fn records_come_sooner_than_the_next_call_would_be() {
    let fanned = Fanned::of(Scene::of(1).await).await.only_events();
    let mut reader = fanned.reader(Position::Start).await;
    stands(&mut reader, 1).await;
    let mut worst = Duration::ZERO;
    for _ in 0..20 {
        fanned.put("a");
        let begin = Instant::now();
        read(&mut reader, "a").await;
        worst = worst.max(begin.elapsed());
    }
    assert!(worst < MS(400), "{worst:?}");
}
