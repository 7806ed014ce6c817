//! What a worker sends and the controller refuses, and what is too large for one message: neither
//! costs a worker or another job anything.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::StreamExt;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use streamctl_controller::store::contract;
use streamctl_core::check::check_report;
use streamctl_engine::storage::{MemoryStorage, Storages};
use streamctl_proto::report::{ObjectKind, StageTimes, Staging, UnmatchedKey, object_name};
use streamctl_proto::spec::{FilesSink, Location, LookupFormat, LookupSpec, PartitionColumn};
use streamctl_proto::v1::controller_message::Message;
use streamctl_proto::v1::{self, JobState, worker_message};
use streamctl_proto::{
    Counts, LookupVersion, MESSAGE_BYTES_MAX, Manifest, Position, Report, ResolvedJob, ShardId,
    ShardRange, StagedObject, TaskId, Term, Watermark, Window, WindowSize, convert, names,
};
use streamctl_tests::Cluster;
use streamctl_tests::here::{Place, json_lines};
use streamctl_tests::places::one_system_at_a_time;
use streamctl_tests::wait::until;
use streamctl_worker::connection::{Dial, Grpc, Incoming};
use streamctl_worker::memory::MemoryBudget;
use streamctl_worker::registry::{JobIdentity, Registry};
use streamctl_worker::session::read_start;
use streamctl_worker::sink::{self, WriterContext};
use tokio_stream::wrappers::ReceiverStream;

const STEP: Duration = Duration::from_secs(60);
/// More than one message of 16 MiB holds.
const OBJECTS: usize = 60_000;

fn write_records(folder: &Path, name: &str, records: impl Iterator<Item = Value>) {
    std::fs::create_dir_all(folder).unwrap();
    let lines: String = records.map(|record| format!("{record}\n")).collect();
    std::fs::write(folder.join(name), lines).unwrap();
}

fn files_job(name: &str, root: &Path) -> String {
    format!(
        r#"
name = "{name}"
[source]
type = "files"
path = "{root}/in/"
format = "json"
[source.schema]
k = "string"
n = "bigint"
[window]
size = "1s"
[transform]
sql = "SELECT k, n FROM source"
[sink]
path = "{root}/out/"
format = "json"
partition_by = ["k"]
[checkpoint]
location = "{root}/checkpoint/"
"#,
        root = root.display()
    )
}

fn generator_job(name: &str, root: &Path, records_per_shard: u64) -> String {
    format!(
        r#"
name = "{name}"
[source]
type = "generator"
seed = 1
shards = 2
rate = 200
records_per_shard = {records_per_shard}
[window]
size = "1s"
[transform]
sql = "SELECT uuid FROM source"
[sink]
path = "{root}/out/"
format = "json"
[checkpoint]
location = "{root}/checkpoint/"
"#,
        root = root.display()
    )
}

fn cluster(folder: &Path, workers: usize) -> Cluster {
    let store = format!("file://{}/store", folder.display());
    let mut cluster = Cluster::empty(vec![], folder, &store, None);
    cluster.add_controller("controller-1");
    until("a leader", STEP, || cluster.leader());
    for number in 1..=workers {
        cluster.add_worker(&format!("worker-{number}"));
    }
    let connected = || {
        cluster
            .worker_list()
            .filter(|list| list.len() == workers)
            .map(drop)
    };
    until("all workers", STEP, connected);
    cluster
}

fn submit(cluster: &Cluster, folder: &Path, name: &str, text: &str) -> Result<(), String> {
    let file = folder.join(format!("{name}.toml"));
    std::fs::write(&file, text).unwrap();
    let output = cluster.cli(&["submit", file.to_str().unwrap()]);
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn a_value_of_every_character_is_published_and_costs_neither_a_worker_nor_another_job() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let awkward = folder.path().join("awkward");
    let healthy = folder.path().join("healthy");
    let characters: Vec<char> = (0..=0xA0).filter_map(char::from_u32).collect();
    let record = |(n, c): (usize, &char)| json!({"k": format!("a{c}b"), "n": n});
    write_records(
        &awkward.join("in"),
        "records.json",
        characters.iter().enumerate().map(record),
    );
    let cluster = cluster(folder.path(), 2);
    submit(
        &cluster,
        folder.path(),
        "healthy",
        &generator_job("healthy", &healthy, 1_000),
    )
    .unwrap();
    submit(
        &cluster,
        folder.path(),
        "awkward",
        &files_job("awkward", &awkward),
    )
    .unwrap();
    for (job, rows) in [("awkward", characters.len() as u64), ("healthy", 2_000)] {
        let is_over = |status: &v1::JobStatus| status.state() == JobState::Completed;
        let status = cluster.until_status(job, "its end", STEP, is_over);
        assert_eq!(status.totals.unwrap_or_default().rows_out, rows, "{job}");
        assert_eq!(
            (status.published, status.retries),
            (status.epoch, 0),
            "{job}"
        );
    }
    let written: BTreeSet<u64> = json_lines(&awkward.join("out"))
        .into_iter()
        .map(|(_, row)| row["n"].as_u64().unwrap())
        .collect();
    assert_eq!(written.len(), characters.len());
    assert!(
        awkward.join("out").join("k=a%85b").is_dir()
            && awkward.join("out").join("k=a\u{a0}b").is_dir()
    );
    assert_eq!(
        cluster.worker_list().map(|list| list.len()),
        Some(2),
        "no worker was lost"
    );
    let log = std::fs::read_to_string(folder.path().join("controller-1.log")).unwrap();
    assert_eq!(
        log.matches("worker joined").count(),
        2,
        "none dialled again\n{log}"
    );
}

#[test]
fn a_file_that_no_manifest_can_name_is_refused_at_submit_and_named() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("job");
    write_records(
        &root.join("in"),
        "a\tb.json",
        std::iter::once(json!({"k": "x", "n": 1})),
    );
    let cluster = cluster(folder.path(), 1);
    let refused = submit(&cluster, folder.path(), "named", &files_job("named", &root)).unwrap_err();
    assert!(
        refused.contains(r#""a\tb.json""#) && refused.contains("hint: "),
        "{refused}"
    );
    assert!(cluster.status("named").is_none());
}

/// A worker that reads nothing and reports what the test says.
struct Told {
    registry: Arc<Registry>,
    incoming: Incoming,
    task: Option<(TaskId, JobIdentity)>,
}

impl Told {
    async fn dial(registry: &Arc<Registry>, controller: &str) -> Self {
        let begin = {
            let registry = Arc::clone(registry);
            Box::new(move || {
                let (hello, said) = registry.connect("told", "127.0.0.1:9");
                let hello = v1::WorkerMessage {
                    message: Some(worker_message::Message::Hello(hello)),
                };
                futures::stream::once(async { hello })
                    .chain(ReceiverStream::new(said))
                    .boxed()
            })
        };
        let incoming = Grpc::default()
            .dial(controller, begin)
            .await
            .expect("the controller takes the worker");
        Self {
            registry: Arc::clone(registry),
            incoming,
            task: None,
        }
    }

    /// Obeys until `wanted` gives something; what it is told meanwhile must not be that its task is
    /// cancelled.
    async fn until<T>(&mut self, wanted: impl Fn(&Message) -> Option<T>) -> T {
        let beat = v1::Heartbeat {
            memory_bytes: 1,
            ..v1::Heartbeat::default()
        };
        let mut beats = tokio::time::interval(Duration::from_millis(500));
        let waited = async {
            loop {
                tokio::select! {
                    _ = beats.tick() => assert!(self.registry.send(worker_message::Message::Heartbeat(beat))),
                    message = self.incoming.next() => {
                        let message = message.expect("the session stands").expect("it is not refused");
                        let message = message.message.expect("it says something");
                        assert!(!matches!(message, Message::CancelTask(_)), "{message:?}");
                        if let Some(found) = wanted(&message) {
                            return found;
                        }
                    }
                }
            }
        };
        tokio::time::timeout(STEP, waited)
            .await
            .expect("it is told soon")
    }

    async fn is_given_a_task(&mut self) -> (TaskId, JobIdentity) {
        let given = |message: &Message| match message {
            Message::StartTask(start) => {
                Some(read_start(start.clone()).expect("the controller says what is sound"))
            }
            _ => None,
        };
        let (id, job, shards) = self.until(given).await;
        let base = shards
            .iter()
            .map(|shard| (shard.id.clone(), shard.at.clone()))
            .collect();
        let identity = JobIdentity::from(&job);
        assert!(self.registry.begin(id, identity.clone(), base, None));
        self.task = Some((id, identity.clone()));
        (id, identity)
    }

    async fn opens(&mut self, task: TaskId, window: Window) {
        self.registry.ask_window(task, window);
        let opened = |message: &Message| match message {
            Message::WindowOpened(opened) => Some(convert::window(opened.window).unwrap()),
            _ => None,
        };
        assert_eq!(self.until(opened).await, window);
        assert!(self.registry.window_opened(task, window, &BTreeMap::new()));
    }
}

fn large_report(task: TaskId, window: Window, out: &Path) -> Report {
    let job = "large".parse().unwrap();
    let object = |number: usize| {
        let folder = format!("{}/k={}{number}/", out.display(), "x".repeat(60));
        let name = object_name(window, &job, task, 0, "json");
        let staging = Staging::File {
            staged_path: format!("{folder}.{name}.0123456789abcdef.staged"),
        };
        StagedObject {
            kind: ObjectKind::Data,
            location: format!("{folder}{name}"),
            size: 1,
            crc32c: 1,
            rows: 1,
            table_file: None,
            staging,
        }
    };
    let rows = OBJECTS as u64;
    let range = ShardRange {
        from: Position::Start,
        to: Position::after(rows.into()),
        records: rows,
        bytes: rows,
    };
    let counts = Counts {
        rows_in: rows,
        bytes_in: rows,
        rows_decoded: rows,
        rows_out: rows,
        ..Counts::default()
    };
    Report {
        task,
        job: job.clone(),
        window,
        ranges: BTreeMap::from([("records.json".into(), range)]),
        counts,
        lookups: BTreeMap::new(),
        objects: (0..OBJECTS).map(object).collect(),
        unmatched: vec![],
        null_values: vec![],
        unknown_keys: vec![],
        operators: vec![],
        stages: StageTimes::default(),
    }
}

/// The session, the Hello of the next one, and the manifest of it: each is larger than one message.
#[test]
fn a_report_of_sixty_thousand_objects_is_committed_and_survives_a_new_session() {
    let _alone = one_system_at_a_time();
    let mut place = Place::new("127.0.0.1:1");
    // A debug build on a busy machine writes and reads such messages for seconds.
    place.core.worker_timeout_ms = 60_000;
    let root = place.folder.path().join("large");
    write_records(
        &root.join("in"),
        "records.json",
        std::iter::once(json!({"k": "x", "n": 1})),
    );
    let life = place.start(0);
    life.submit(&files_job("large", &root));
    let registry = Arc::new(Registry::default());
    let controller = life.address();
    let window = Window {
        start_ms: 1_795_481_100_000,
        end_ms: 1_795_481_101_000,
    };
    life.block_on(async {
        let mut reported = Told::dial(&registry, &controller).await;
        let (task, _) = reported.is_given_a_task().await;
        reported.opens(task, window).await;
        let report = large_report(task, window, &root.join("out"));
        let bytes = prost::Message::encoded_len(&v1::Report::from(&report));
        assert!(bytes > MESSAGE_BYTES_MAX, "{bytes}");
        registry.report(report).unwrap();
        // What is asked for behind the report is answered when the report has been taken.
        let next = Window {
            start_ms: window.end_ms,
            end_ms: window.end_ms + 1_000,
        };
        reported.opens(task, next).await;
        registry.disconnect();
        drop(reported);

        let mut reported = Told::dial(&registry, &controller).await;
        registry.shard_ended(
            task,
            &"records.json".into(),
            &Position::after((OBJECTS as u64).into()),
            Watermark::At(window.start_ms),
            &[],
        );
        registry.progress(
            task,
            v1::Progress {
                watermark_ms: i64::MAX,
                ..v1::Progress::default()
            },
        );
        let committed =
            |message: &Message| matches!(message, Message::EpochCommitted(_)).then_some(());
        reported.until(committed).await;
    });
    let epochs = root.join("checkpoint/large/epochs");
    let manifests: Vec<_> = std::fs::read_dir(epochs)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(manifests.len(), 1);
    let manifest: Manifest =
        serde_json::from_slice(&std::fs::read(&manifests[0]).unwrap()).unwrap();
    assert_eq!(manifest.objects.len(), OBJECTS);
}

/// Any characters there are; many of the first ones, which are the awkward ones.
fn random_text(random: &mut fastrand::Rng, chars_max: usize) -> String {
    let character = |random: &mut fastrand::Rng| match random.u8(0..3) {
        0 => random.char('\0'..='\u{A0}'),
        1 => random.char('\0'..='\u{FFFF}'),
        _ => random.char(..),
    };
    (0..random.usize(1..=chars_max))
        .map(|_| character(random))
        .collect()
}

/// What a sink stages for rows with these values in a partition column of this name.
async fn staged(
    job: &ResolvedJob,
    window: Window,
    task: TaskId,
    column: &str,
    values: Vec<String>,
) -> Vec<StagedObject> {
    let numbers = Int64Array::from_iter_values(0..values.len() as i64);
    let columns: [(&str, ArrayRef); 2] = [
        (column, Arc::new(StringArray::from(values))),
        ("n", Arc::new(numbers)),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let memory = MemoryBudget::default().window(false, false).unwrap().sink;
    let context = WriterContext {
        job: job.spec.name.clone(),
        task,
        window,
        // Rows that are rejected lie below the checkpoint location, which may be a folder.
        storages: Storages::only(Arc::new(MemoryStorage::default())),
        rejected: job.spec.dead_letters(),
        memory,
    };
    let mut writer = sink::of(&job.spec.sink)
        .writer(context, batch.schema())
        .unwrap();
    writer.write(batch).await.unwrap();
    writer.finish().await.unwrap().objects
}

#[test]
fn whatever_a_worker_names_the_controller_accepts() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let window = Window {
        start_ms: 1_795_481_100_000,
        end_ms: 1_795_481_101_000,
    };
    let task = TaskId {
        term: Term(1),
        counter: 7,
    };
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let column = format!("k{}", random_text(&mut random, 5));
        let values: Vec<String> = (0..20).map(|_| random_text(&mut random, 12)).collect();
        let mut job = contract::job("sales");
        job.spec.window = WindowSize::from_ms(1_000).unwrap();
        let sink = FilesSink {
            path: Location::folder("memory://out"),
            partition_by: vec![
                PartitionColumn::IngestYear,
                PartitionColumn::Column(column.clone()),
            ],
            ..contract::sink()
        };
        job.spec.sink = sink.into();
        job.spec.lookups = vec![LookupSpec {
            name: "country".into(),
            path: Location::folder("/lookup"),
            format: LookupFormat::Csv,
            refresh: Duration::from_secs(1),
            size_max: 1,
            ..LookupSpec::new("l", Location::folder("/l"), LookupFormat::Csv)
        }];
        // As a listing has it: one that cannot be a shard's name is refused there.
        let shards: Vec<String> = (0..4).map(|_| random_text(&mut random, 40)).collect();
        let shards: Vec<String> = shards
            .into_iter()
            .filter(|name| names::check_shard(name).is_ok())
            .collect();
        let rows = values.len() as u64;
        let mut ranges = BTreeMap::new();
        for (index, shard) in shards.iter().chain([&"last".to_owned()]).enumerate() {
            let records = if index == 0 { rows } else { 0 };
            let range = ShardRange {
                from: Position::Start,
                to: Position::after(1.into()),
                records,
                bytes: 0,
            };
            ranges.insert(ShardId::new(shard.as_str()), range);
        }
        let key = UnmatchedKey {
            lookup: "country".into(),
            key: random_text(&mut random, 200),
            rows: 1,
        };
        let report = Report {
            task,
            job: job.spec.name.clone(),
            window,
            ranges,
            counts: Counts {
                rows_in: rows,
                rows_decoded: rows,
                rows_out: rows,
                rows_unmatched: 1,
                ..Counts::default()
            },
            lookups: BTreeMap::from([("country".into(), LookupVersion::new("0123abcd"))]),
            objects: runtime.block_on(staged(&job, window, task, &column, values.clone())),
            unmatched: vec![key],
            null_values: vec![],
            unknown_keys: vec![],
            operators: vec![],
            stages: StageTimes::default(),
        };
        let sent = Report::try_from(v1::Report::from(&report)).unwrap();
        if let Err(problem) = check_report(&job, &sent) {
            panic!("seed {seed}: {problem}\n{column:?} {values:?} {shards:?}");
        }
    }
}

#[test]
fn one_long_value_of_a_partition_costs_no_neighbour_and_is_kept() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("long");
    let long = "x".repeat(300);
    let values = ["a", &long, "b", "a"];
    write_records(
        &root.join("in"),
        "r.json",
        values
            .iter()
            .enumerate()
            .map(|(n, k)| json!({"k": k, "n": n})),
    );
    let cluster = cluster(folder.path(), 1);
    submit(&cluster, folder.path(), "long", &files_job("long", &root)).unwrap();
    let status = cluster.until_status("long", "its end", STEP, |status| {
        status.state() == JobState::Completed
    });
    let totals = status.totals.unwrap_or_default();
    assert_eq!(
        (
            totals.rows_in,
            totals.rows_out,
            totals.rows_rejected,
            totals.rows_dead
        ),
        (4, 3, 1, 0)
    );
    assert_eq!(json_lines(&root.join("out")).len(), 3);
    let kept = std::fs::read_dir(root.join("checkpoint/long/dead-letters")).unwrap();
    let kept: Vec<_> = kept
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        kept.len() == 1 && kept[0].ends_with(".rejected.json.gz"),
        "{kept:?}"
    );
    let shown = cluster.cli_ok(&["status", "long"]);
    assert!(
        shown.contains("1 row whose partition cannot be the name of a folder"),
        "{shown}"
    );
    let verified = cluster.cli(&["verify", "long", "--replay", "1"]);
    let reported = String::from_utf8_lossy(&verified.stdout);
    assert!(
        verified.status.success() && reported.contains("proven"),
        "{reported}"
    );
}
