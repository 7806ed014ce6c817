//! The lines of the conformance list that need a whole job: controller, workers, sink, restarts.
//!
//! Rule: what was put is the oracle; every row of it is in the output once, in its shard's order,
//! and no child's row is in an earlier window than a row of its parents.

use super::{AGGREGATE, MS, STREAM};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use streamctl_engine::source::generator::Options;
use streamctl_proto::Manifest;
use streamctl_proto::manifest::TimeGap;
use streamctl_proto::v1::{JobState, JobStatus};
use streamctl_tests::here::{Life, Place, json_lines};
use streamctl_tests::kinesis::produce::{Order, produce};
use streamctl_tests::kinesis::{Call, FakeKinesis, FanoutLimits, Fault, Stream};
use streamctl_tests::wait::{in_time, until};
use tokio::runtime::Runtime;

/// Longest wait for anything, on a busy machine.
const STEP: Duration = Duration::from_secs(60);
/// Two pages of a listing; more take an unoptimised build longer than a test may.
const MANY_SHARDS: usize = 1_001;
const HOUR: Duration = Duration::from_secs(3_600);
const SHARD: fn(usize) -> String = |index| format!("shardId-{index:012}");

/// A stream, a place for its jobs, and what was put.
struct Scene {
    fake: FakeKinesis,
    stream: Arc<Stream>,
    place: Place,
    put: BTreeMap<String, Vec<u64>>,
    next: u64,
    runtime: Runtime,
}

impl Scene {
    fn of(shards: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime starts");
        let fake = runtime.block_on(FakeKinesis::start());
        let stream = fake.create(STREAM, shards);
        let place = Place::new(fake.address());
        Self {
            fake,
            stream,
            place,
            put: BTreeMap::new(),
            next: 0,
            runtime,
        }
    }

    fn put(&mut self, shard: &str, records: usize) {
        for _ in 0..records {
            let data = json!({ "id": self.next, "shard": shard }).to_string();
            self.stream
                .put_in(shard, data.as_bytes(), self.fake.now_ms());
            self.put
                .entry(shard.to_owned())
                .or_default()
                .push(self.next);
            self.next += 1;
        }
    }

    fn put_all(&mut self, shards: &[String], records: usize) {
        for shard in shards {
            self.put(shard, records);
        }
    }

    /// Subscriptions that were granted so far.
    fn granted(&self) -> usize {
        let outcomes = subscriptions(&self.fake.calls_of("SubscribeToShard"));
        outcomes.get("granted").copied().unwrap_or_default()
    }

    fn job(&self, name: &str, source: &str) -> String {
        self.job_polled_every("200ms", name, source)
    }

    fn job_polled_every(&self, poll_interval: &str, name: &str, source: &str) -> String {
        let address = self.fake.address();
        let out = self.place.path(&format!("out-{name}/"));
        let dead = self.place.path(&format!("dead-{name}/"));
        let checkpoint = self.place.path("checkpoint/");
        format!(
            r#"
name = "{name}"
[source]
type = "kinesis"
stream = "{STREAM}"
endpoint = "{address}"
poll_interval = "{poll_interval}"
{source}
[source.schema]
id = "bigint"
shard = "string"
[window]
size = "200ms"
[transform]
sql = "SELECT id, shard FROM source"
[sink]
path = "{out}"
format = "json"
compression = "none"
[dead_letter]
path = "{dead}"
[checkpoint]
location = "{checkpoint}"
"#
        )
    }

    /// From the oldest record on.
    fn whole_job(&self) -> String {
        self.job("sales", "starting_position = \"trim_horizon\"")
    }

    /// (window and task, shard, id) of each row, in the order of the output.
    fn rows(&self, job: &str) -> Vec<(String, String, u64)> {
        let lines = json_lines(
            self.place
                .folder
                .path()
                .join(format!("out-{job}"))
                .as_path(),
        );
        let row = |(file, row): (String, Value)| {
            let shard = row["shard"].as_str().unwrap_or_default().to_owned();
            let id = row["id"].as_u64();
            (file, shard, id.expect("each row has its number"))
        };
        lines.into_iter().map(row).collect()
    }

    /// Waits for all that was put, then compares.
    #[track_caller]
    fn everything_is_there_once(&self, life: &Life, job: &str) -> JobStatus {
        let all = self.put.values().map(Vec::len).sum::<usize>();
        let status = life.until_published(job, all as u64, STEP);
        let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for (_, shard, id) in self.rows(job) {
            found.entry(shard).or_default().push(id);
        }
        let put: BTreeMap<_, _> = self
            .put
            .iter()
            .filter(|(_, ids)| !ids.is_empty())
            .map(|(s, i)| (s.clone(), i.clone()))
            .collect();
        assert_eq!(found, put, "each record once, in the order of its shard");
        self.lineage_is_in_order(job);
        status
    }

    /// The gaps that a job's manifests name.
    fn gaps(&self, job: &str) -> Vec<TimeGap> {
        let folder = self
            .place
            .folder
            .path()
            .join("checkpoint")
            .join(job)
            .join("epochs");
        let files = std::fs::read_dir(&folder).expect("the job has manifests");
        let manifest = |file: std::io::Result<std::fs::DirEntry>| {
            let bytes = std::fs::read(file.expect("it is there").path()).expect("it can be read");
            serde_json::from_slice::<Manifest>(&bytes).expect("it is a manifest")
        };
        files
            .map(manifest)
            .flat_map(|manifest| manifest.frontier.into_values())
            .filter_map(|stands| stands.lost)
            .collect()
    }

    /// No child's row is in an earlier window than a row of its parents.
    #[track_caller]
    fn lineage_is_in_order(&self, job: &str) {
        let mut windows: BTreeMap<String, (String, String)> = BTreeMap::new();
        for (file, shard, _) in self.rows(job) {
            let window = file.split('-').next().unwrap_or_default().to_owned();
            let span = windows
                .entry(shard)
                .or_insert_with(|| (window.clone(), window.clone()));
            span.1 = window;
        }
        for shard in self.stream.shards() {
            let Some((first, _)) = windows.get(&shard.name) else {
                continue;
            };
            for parent in &shard.parents {
                let last = windows.get(&SHARD(*parent)).map(|(_, last)| last);
                assert!(
                    last.is_none_or(|last| last <= first),
                    "{} begins before its parent's end",
                    shard.name
                );
            }
        }
    }

    fn calls_of_shard(&self, shard: &str) -> Vec<Call> {
        self.fake
            .calls()
            .into_iter()
            .filter(|call| call.shard == shard)
            .collect()
    }

    /// The first call for a child came after the last answer of each parent.
    #[track_caller]
    fn is_read_after(&self, child: &str, parents: &[String]) {
        let first = self
            .calls_of_shard(child)
            .first()
            .map(|call| call.at_us)
            .expect("the child was read");
        for parent in parents {
            let last = self
                .calls_of_shard(parent)
                .iter()
                .find(|call| call.last)
                .map(|call| call.at_us);
            assert!(
                last.is_some_and(|last| last <= first),
                "{child} was read before the end of {parent}"
            );
        }
    }
}

#[test]
fn line_02_children_are_read_from_their_beginning_also_by_a_job_that_began_at_the_latest() {
    let mut scene = Scene::of(1);
    let life = scene.place.start(1);
    life.submit(&scene.job("sales", "starting_position = \"latest\""));
    scene.put(&SHARD(0), 5);
    life.until_published("sales", 5, STEP);
    // The children have records before anybody can know of them.
    let children = scene.stream.split(&SHARD(0));
    scene.put_all(&children, 5);
    scene.everything_is_there_once(&life, "sales");
    for child in &children {
        let first = scene.calls_of_shard(child).swap_remove(0);
        assert_eq!(first.body["ShardIteratorType"], "TRIM_HORIZON");
        scene.is_read_after(child, &[SHARD(0)]);
    }
}

#[test]
fn line_03_latest_is_the_time_of_the_submit_whatever_restarts_before_the_first_commit() {
    let mut scene = Scene::of(2);
    let old = json!({ "id": 999, "shard": "before the submit" }).to_string();
    scene
        .stream
        .put_in(&SHARD(0), old.as_bytes(), scene.fake.now_ms());
    std::thread::sleep(MS(5)); // The submit must have a later millisecond.
    let life = scene.place.start(0);
    life.submit(&scene.job("sales", "starting_position = \"latest\""));
    // There is no worker: nothing is committed before the kill.
    scene.put_all(&[SHARD(0), SHARD(1)], 3);
    life.kill();
    scene.put_all(&[SHARD(0), SHARD(1)], 3);
    let life = scene.place.start(1);
    scene.everything_is_there_once(&life, "sales");
}

#[test]
fn line_04_a_merged_shard_waits_for_both_of_its_parents() {
    let mut scene = Scene::of(2);
    let life = scene.place.start(2);
    let parents = [SHARD(0), SHARD(1)];
    scene.put_all(&parents, 5);
    life.submit(&scene.whole_job());
    life.until_published("sales", 10, STEP);
    // One parent cannot be read to its end for a while.
    scene
        .fake
        .fault("GetRecords", Some(&parents[1]), Fault::throttle(), 6);
    scene.put_all(&parents, 5);
    let child = scene
        .stream
        .merge(&parents[0], &parents[1])
        .expect("they are neighbours");
    scene.put(&child, 5);
    scene.everything_is_there_once(&life, "sales");
    scene.is_read_after(&child, &parents);
}

#[test]
fn line_05_an_unread_closed_shard_is_read_before_its_children() {
    let mut scene = Scene::of(1);
    scene.put(&SHARD(0), 20);
    let children = scene.stream.split(&SHARD(0));
    scene.put_all(&children, 20);
    let life = scene.place.start(2);
    life.submit(&scene.whole_job());
    let status = scene.everything_is_there_once(&life, "sales");
    assert!(status.totals.is_some_and(|totals| totals.rows_in == 60));
    children
        .iter()
        .for_each(|child| scene.is_read_after(child, &[SHARD(0)]));
}

#[test]
fn line_11_two_reshards_while_the_job_is_down_are_read_in_order() {
    let mut scene = Scene::of(2);
    scene.put_all(&[SHARD(0), SHARD(1)], 10);
    let life = scene.place.start(2);
    life.submit(&scene.whole_job());
    life.until_published("sales", 20, STEP);
    life.kill();
    // Down: more records, a split, a split of a child, a merge of a grandchild with the other
    // child.
    scene.put_all(&[SHARD(0), SHARD(1)], 10);
    let [low, high] = scene.stream.split(&SHARD(0));
    scene.put_all(&[low.clone(), high.clone()], 10);
    let [left, right] = scene.stream.split(&low);
    scene.put_all(&[left.clone(), right.clone()], 10);
    let merged = scene
        .stream
        .merge(&right, &high)
        .expect("they are neighbours");
    scene.put(&merged, 10);
    scene.fake.forget_calls();
    let life = scene.place.start(2);
    scene.everything_is_there_once(&life, "sales");
    scene.is_read_after(&left, &[SHARD(0), low.clone()]);
    scene.is_read_after(&right, &[low]);
    scene.is_read_after(&merged, &[right, high]);
}

#[test]
fn line_11_a_reshard_is_found_by_listing_when_the_last_answer_names_no_children() {
    let mut scene = Scene::of(1);
    scene.stream.name_children(false);
    scene.put(&SHARD(0), 5);
    let life = scene.place.start(1);
    life.submit(&scene.whole_job());
    life.until_published("sales", 5, STEP);
    let children = scene.stream.split(&SHARD(0));
    let grandchildren = scene.stream.split(&children[0]);
    scene.put_all(&grandchildren, 5);
    scene.put(&children[1], 5);
    scene.everything_is_there_once(&life, "sales");
}

#[test]
fn line_11_reshards_in_a_row_under_a_producer_that_never_stops_lose_nothing() {
    let scene = Scene::of(2);
    let put = Arc::new(AtomicU64::new(0));
    let order = Order {
        seed: 5,
        rate: 300.0,
        records_max: 1_500,
        options: Options::default(),
    };
    scene
        .runtime
        .spawn(produce(Arc::clone(&scene.stream), order, Arc::clone(&put)));
    let mut life = scene.place.start(2);
    let job = scene
        .whole_job()
        .replace("id = \"bigint\"\nshard = \"string\"", "uuid = \"string\"");
    life.submit(&job.replace("SELECT id, shard", "SELECT uuid"));
    for round in 1..=4 {
        until("more records", STEP, || {
            (put.load(Ordering::Acquire) >= round * 300).then_some(())
        });
        let open = scene.stream.open_shards();
        match round % 2 {
            1 => drop(scene.stream.split(&open[0])),
            // The children of the last split are neighbours.
            _ => drop(
                scene
                    .stream
                    .merge(&open[open.len() - 2], &open[open.len() - 1])
                    .expect("they are neighbours"),
            ),
        }
        if round == 2 {
            life.kill();
            life = scene.place.start(2);
        }
    }
    life.until_published("sales", 1_500, STEP);
    let rows = json_lines(scene.place.folder.path().join("out-sales").as_path());
    let uuids: BTreeSet<String> = rows
        .iter()
        .map(|(_, row)| row["uuid"].to_string())
        .collect();
    assert_eq!((rows.len(), uuids.len()), (1_500, 1_500));
    assert_eq!(scene.fake.violations(), BTreeMap::new());
}

#[test]
fn line_12_a_job_down_for_longer_than_the_retention_stops_and_names_shard_and_gap() {
    let mut scene = Scene::of(1);
    scene.put(&SHARD(0), 3);
    let life = scene.place.start(1);
    life.submit(&scene.whole_job());
    life.until_published("sales", 3, STEP);
    life.kill();
    scene.stream.put_in(&SHARD(0), b"{}", scene.fake.now_ms());
    scene.fake.advance(25 * HOUR);
    let life = scene.place.start(1);
    let failed = |status: &JobStatus| status.state() == JobState::Failed;
    let status = life.until("sales", "its failure", STEP, failed);
    assert!(
        status.error.contains(&SHARD(0)) && status.error.contains("arrivals between"),
        "{}",
        status.error
    );
    assert!(status.hint.contains("on_data_loss"), "{}", status.hint);
}

/// Nothing was committed before the kill: each shard still stands where the job starts, and the
/// service gives no error for a start that has expired.
#[test]
fn line_12_a_job_that_committed_nothing_before_its_records_expired_stops_and_names_the_gap() {
    for (name, start) in [("sales", "trim_horizon"), ("later", "latest")] {
        let mut scene = Scene::of(2);
        let life = scene.place.start(0);
        life.submit(&scene.job(
            name,
            &format!("starting_position = \"{start}\"\non_data_loss = \"fail\""),
        ));
        scene.put_all(&[SHARD(0), SHARD(1)], 5);
        life.kill();
        scene.fake.advance(25 * HOUR);
        scene.put_all(&[SHARD(0), SHARD(1)], 5);
        let life = scene.place.start(1);
        let status = life.until(name, "its failure", STEP, |status| {
            status.state() == JobState::Failed
        });
        assert!(
            status
                .error
                .contains("expired before they were read, arrivals between"),
            "{}",
            status.error
        );
        assert!(
            scene.rows(name).is_empty(),
            "nothing is published after a gap that nobody has accepted"
        );
    }
}

/// The clock of the fake is set back, so that it can jump to the time of the workers.
#[test]
fn line_12_with_continue_what_is_left_is_published_and_the_manifests_name_the_gap() {
    let mut scene = Scene::of(1);
    scene.fake.set_back(25 * HOUR);
    let stream = scene.fake.create(STREAM, 1);
    scene.stream = stream;
    let life = scene.place.start(0);
    life.submit(&scene.job(
        "sales",
        "starting_position = \"latest\"\non_data_loss = \"continue\"",
    ));
    scene
        .stream
        .put_in(&SHARD(0), b"{\"id\":0}", scene.fake.now_ms());
    life.kill();
    scene.fake.advance(25 * HOUR);
    scene.put(&SHARD(0), 5);
    let life = scene.place.start(1);
    let status = scene.everything_is_there_once(&life, "sales");
    assert_eq!(
        status
            .shards
            .iter()
            .map(|shard| shard.data_losses)
            .sum::<u64>(),
        1
    );
    let gaps = scene.gaps("sales");
    assert!(
        !gaps.is_empty() && gaps.iter().all(|gap| gap.to_ms - gap.from_ms > 0),
        "{gaps:?}"
    );
}

#[test]
fn line_18_a_stream_that_was_deleted_and_created_again_is_refused() {
    let mut scene = Scene::of(1);
    let life = scene.place.start(1);
    scene.put(&SHARD(0), 5);
    life.submit(&scene.whole_job());
    // Ends of shards are committed: their names are those of the new stream's shards.
    let children = scene.stream.split(&SHARD(0));
    scene.put_all(&children, 5);
    scene.everything_is_there_once(&life, "sales");
    scene.fake.delete(STREAM);
    scene.fake.advance(MS(1_000));
    scene.stream = scene.fake.create(STREAM, 2);
    scene
        .stream
        .put_in(&SHARD(0), b"{\"id\":99}", scene.fake.now_ms());
    let status = life.until("sales", "its failure", STEP, |status| {
        status.state() == JobState::Failed
    });
    assert!(
        status.error.contains("deleted and created again"),
        "{}",
        status.error
    );
    assert!(status.hint.contains("another name"), "{}", status.hint);
}

#[test]
fn line_13_a_window_is_published_though_another_shard_is_idle() {
    let mut scene = Scene::of(3);
    let life = scene.place.start(1);
    life.submit(&scene.whole_job());
    scene.put(&SHARD(1), 5);
    scene.everything_is_there_once(&life, "sales");
}

#[test]
fn line_14_aggregates_and_ordinary_records_give_their_rows_once_over_restarts() {
    let scene = Scene::of(1);
    let job = scene.whole_job();
    let mut life = scene.place.start(1);
    life.submit(&job);
    for round in 1..=3 {
        // Two rows, and two user records that are no JSON.
        scene
            .stream
            .put_in(&SHARD(0), AGGREGATE, scene.fake.now_ms());
        life.until_published("sales", 4 * round, STEP);
        life.kill();
        life = scene.place.start(1);
    }
    let status = life.until_published("sales", 12, STEP);
    let totals = status.totals.unwrap_or_default();
    assert_eq!(
        (totals.rows_in, totals.rows_decoded, totals.rows_dead),
        (12, 6, 6)
    );
    let ids: Vec<u64> = scene.rows("sales").into_iter().map(|(.., id)| id).collect();
    assert_eq!(ids, [1, 2, 1, 2, 1, 2]);
}

#[test]
fn line_14_p38_what_a_producer_with_an_old_map_sent_to_the_wrong_child_is_a_dead_letter() {
    let scene = Scene::of(1);
    let life = scene.place.start(1);
    life.submit(&scene.whole_job());
    scene.stream.put_in(
        &SHARD(0),
        b"{\"id\":7,\"shard\":\"x\"}",
        scene.fake.now_ms(),
    );
    life.until_published("sales", 1, STEP);
    // The producer retries what went to the wrong child: the same aggregate is in both.
    let children = scene.stream.split(&SHARD(0));
    for child in &children {
        scene.stream.put_in(child, AGGREGATE, scene.fake.now_ms());
    }
    let status = life.until_published("sales", 9, STEP);
    let foreign: u64 = status
        .shards
        .iter()
        .map(|shard| shard.foreign_records)
        .sum();
    let totals = status.totals.unwrap_or_default();
    assert_eq!(
        (totals.rows_in, totals.rows_dead, totals.rows_foreign),
        (9, 6, Some(4)),
        "of the four user records, two are no JSON; each is foreign to one of the children"
    );
    let done = |status: &JobStatus| {
        status
            .shards
            .iter()
            .map(|shard| shard.foreign_records)
            .sum::<u64>()
            == 4
    };
    if foreign != 4 {
        life.until("sales", "four foreign records in the status", STEP, done);
    }
    let ids: BTreeSet<u64> = scene.rows("sales").into_iter().map(|(.., id)| id).collect();
    assert_eq!(ids, BTreeSet::from([1, 2, 7]));
}

#[test]
fn line_15_compressed_payloads_are_unpacked_and_a_broken_one_is_a_dead_letter_as_it_came() {
    let mut scene = Scene::of(1);
    let row = |id: u64| json!({ "id": id, "shard": SHARD(0) }).to_string();
    let mut broken = gzip(row(9).as_bytes());
    broken.truncate(broken.len() - 4);
    let payloads = [
        gzip(row(0).as_bytes()),
        row(1).into_bytes(),
        gzip(row(2).as_bytes()),
        broken.clone(),
    ];
    for data in payloads {
        scene.stream.put_in(&SHARD(0), &data, scene.fake.now_ms());
    }
    scene.put.insert(SHARD(0), vec![0, 1, 2]);
    let life = scene.place.start(1);
    life.submit(&scene.job(
        "sales",
        "starting_position = \"trim_horizon\"\ncompression = \"auto\"",
    ));
    let status = life.until_published("sales", 4, STEP);
    assert_eq!(status.totals.unwrap_or_default().rows_dead, 1);
    scene.everything_is_there_once(&life, "sales");
    let refused = life
        .try_submit(&scene.job("other", "compression = \"atuo\""))
        .expect_err("it is no word");
    assert!(
        refused.message().contains("did you mean \"auto\"?"),
        "{}",
        refused.message()
    );
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = std::process::Command::new("gzip")
        .args(["-c", "-n"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("there is a gzip");
    encoder
        .stdin
        .take()
        .expect("it is piped")
        .write_all(data)
        .expect("it reads");
    encoder.wait_with_output().expect("it ends").stdout
}

#[test]
fn line_16_the_status_has_the_figures_of_every_shard() {
    let mut scene = Scene::of(2);
    scene
        .fake
        .fault("GetRecords", Some(&SHARD(0)), Fault::throttle(), 2);
    scene
        .fake
        .fault("GetRecords", Some(&SHARD(0)), Fault::expired(), 1);
    scene.put_all(&[SHARD(0), SHARD(1)], 4);
    let life = scene.place.start(1);
    life.submit(&scene.whole_job());
    scene.everything_is_there_once(&life, "sales");
    let reported = |status: &JobStatus| {
        status
            .shards
            .iter()
            .all(|shard| shard.records == Some(4) && shard.last_arrival_ms > 0)
    };
    let status = life.until("sales", "the figures of both shards", STEP, reported);
    let [first, second] = &status.shards[..] else {
        panic!("{:?}", status.shards)
    };
    assert_eq!(
        (first.throttles, first.iterator_renewals, first.data_losses),
        (2, 1, 0)
    );
    assert_eq!(
        (
            second.throttles,
            second.iterator_renewals,
            second.data_losses
        ),
        (0, 0, 0)
    );
    for shard in &status.shards {
        assert_eq!((shard.lag_ms, shard.bytes > Some(0)), (0, true));
        assert!(
            shard.last_arrival_ms <= scene.fake.now_ms()
                && shard.last_arrival_ms > scene.fake.now_ms() - 60_000
        );
    }
}

#[test]
fn line_17_a_submit_outlives_transient_failures_of_the_listing() {
    let mut scene = Scene::of(1);
    scene.put(&SHARD(0), 3);
    scene.fake.fault("ListShards", None, Fault::internal(), 2);
    scene
        .fake
        .fault("ListShards", None, Fault::code("LimitExceededException"), 2);
    let life = scene.place.start(1);
    life.submit(&scene.whole_job());
    scene.everything_is_there_once(&life, "sales");
}

#[test]
fn line_18_two_jobs_on_one_stream_and_one_checkpoint_location_never_see_each_other_s_position() {
    let mut scene = Scene::of(1);
    scene.put(&SHARD(0), 5);
    let first = scene.job("first", "starting_position = \"trim_horizon\"");
    let second = scene.job("second", "starting_position = \"trim_horizon\"");
    let life = scene.place.start(1);
    life.submit(&first);
    life.until_published("first", 5, STEP);
    life.drain("first");
    life.until("first", "its end", STEP, |status| {
        status.state() == JobState::Stopped
    });
    scene.put(&SHARD(0), 5);
    // The second reads everything, the first goes on where it was.
    life.submit(&second);
    scene.everything_is_there_once(&life, "second");
    assert_eq!(scene.rows("first").len(), 5);
    life.submit(&first);
    scene.everything_is_there_once(&life, "first");
    let checkpoint = scene.place.folder.path().join("checkpoint");
    assert!(checkpoint.join("first/epochs").is_dir() && checkpoint.join("second/epochs").is_dir());
}

#[test]
fn line_10_a_job_over_a_thousand_shards_reads_each_of_them() {
    let scene = Scene::of(MANY_SHARDS);
    for index in 0..MANY_SHARDS {
        let data = json!({ "id": index, "shard": "any" }).to_string();
        scene
            .stream
            .put_in(&SHARD(index), data.as_bytes(), scene.fake.now_ms());
    }
    let life = scene.place.start(2);
    life.submit(&scene.job_polled_every("10s", "sales", "starting_position = \"trim_horizon\""));
    let status = life.until_published("sales", MANY_SHARDS as u64, 3 * STEP);
    let workers: BTreeSet<String> = status
        .tasks
        .iter()
        .map(|task| task.worker.clone())
        .collect();
    assert_eq!(
        (status.shards_open as usize, workers.len()),
        (MANY_SHARDS, 2)
    );
    assert_eq!(scene.fake.violations(), BTreeMap::new());
    let ids: BTreeSet<u64> = scene.rows("sales").into_iter().map(|(.., id)| id).collect();
    assert_eq!(ids.len(), MANY_SHARDS);
}

/// Calls for subscriptions, by what became of them.
fn subscriptions(calls: &[Call]) -> BTreeMap<String, usize> {
    let mut outcomes = BTreeMap::new();
    for call in calls {
        let outcome = call.error.clone().unwrap_or_else(|| "granted".to_owned());
        *outcomes.entry(outcome).or_default() += 1;
    }
    outcomes
}

#[test]
fn e08_all_workers_of_many_shards_die_and_all_are_read_again_without_a_loop_of_refusals() {
    const SHARDS: usize = 200;
    let mut scene = Scene::of(SHARDS);
    let shards: Vec<String> = (0..SHARDS).map(SHARD).collect();
    let life = scene.place.start(2);
    let source = "starting_position = \"trim_horizon\"\nconsumer = \"reports\"";
    // A test has not the processors for five calls a second of each shard.
    life.submit(&scene.job_polled_every("5s", "sales", source));
    scene.put_all(&shards, 1);
    life.until_published("sales", SHARDS as u64, STEP);
    until("a subscription of each shard", STEP, || {
        let calls = scene.fake.calls_of("SubscribeToShard");
        (subscriptions(&calls).get("granted") >= Some(&SHARDS)).then_some(())
    });
    life.kill();
    scene.fake.forget_calls();
    let life = scene.place.start(2);
    let begin = Instant::now();
    scene.put_all(&shards, 1);
    life.until_published("sales", 2 * SHARDS as u64, STEP);
    assert!(
        begin.elapsed() < in_time(Duration::from_secs(15)),
        "{:?}",
        begin.elapsed()
    );
    until("a subscription of each shard again", STEP, || {
        let calls = scene.fake.calls_of("SubscribeToShard");
        (subscriptions(&calls).get("granted") >= Some(&SHARDS)).then_some(())
    });
    let outcomes = subscriptions(&scene.fake.calls_of("SubscribeToShard"));
    let refused = outcomes.get("ResourceInUseException").copied();
    assert!(refused.unwrap_or_default() <= 2 * SHARDS, "{outcomes:?}");
    assert_eq!(outcomes.get("LimitExceededException"), None, "{outcomes:?}");
    scene.everything_is_there_once(&life, "sales");
}

#[test]
fn a_job_with_a_consumer_reads_splits_and_merges_over_ends_and_restarts() {
    let mut scene = Scene::of(2);
    scene.fake.limit_fanout(FanoutLimits {
        lasts: Duration::from_secs(6),
        ..FanoutLimits::default()
    });
    let life = scene.place.start(2);
    let source = "starting_position = \"trim_horizon\"\nconsumer = \"reports\"";
    life.submit(&scene.job("sales", source));
    scene.put_all(&[SHARD(0), SHARD(1)], 20);
    let children = scene.stream.split(&SHARD(0));
    scene.put_all(&children, 20);
    scene.put(&SHARD(1), 20);
    life.until_published("sales", 100, STEP);
    until("a subscription of each open shard", STEP, || {
        (scene.granted() >= 3).then_some(())
    });
    life.kill();
    let life = scene.place.start(1);
    let merged = scene.stream.merge(&children[0], &children[1]);
    let merged = merged.expect("they are neighbours");
    let before = scene.granted();
    until("subscriptions that ended and were made again", STEP, || {
        scene.put_all(&[merged.clone(), SHARD(1)], 1);
        (scene.granted() >= before + 4).then_some(())
    });
    scene.everything_is_there_once(&life, "sales");
}
