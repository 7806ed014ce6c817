//! Lines 4, 5 and 11 against a Kinesis emulator that others wrote: kinesis-mock.
//!
//! Rule: the same oracle as in `jobs`: every record once.

use super::{MS, STREAM};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use streamctl_engine::aws::Aws;
use streamctl_proto::resolved::StreamAddress;
use streamctl_tests::here::{Place, json_lines};
use streamctl_tests::places::one_system_at_a_time;
use streamctl_tests::servers::Server;
use tokio::runtime::Runtime;

const STEP: Duration = Duration::from_secs(60);

/// Name, first and last hash key.
type OpenShard = (String, u128, u128);

/// A stream of the emulator, and what was put.
struct Scene {
    runtime: Runtime,
    aws: Aws,
    address: StreamAddress,
    put: Vec<u64>,
}

impl Scene {
    fn of(endpoint: &str, shards: i32) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime starts");
        let aws = runtime.block_on(Aws::with_fake(endpoint, "WRITER"));
        let address = StreamAddress {
            name: STREAM.into(),
            ..StreamAddress::default()
        };
        let scene = Self {
            runtime,
            aws,
            address,
            put: vec![],
        };
        scene.runtime.block_on(async {
            let client = scene.aws.kinesis(&scene.address).await;
            client
                .create_stream()
                .stream_name(STREAM)
                .shard_count(shards)
                .send()
                .await
                .expect("it is created");
        });
        scene.settled();
        scene
    }

    /// Waits until what was asked of the stream is done.
    fn settled(&self) {
        self.runtime.block_on(async {
            let client = self.aws.kinesis(&self.address).await;
            loop {
                let summary = client
                    .describe_stream_summary()
                    .stream_name(STREAM)
                    .send()
                    .await
                    .expect("it answers");
                let summary = summary
                    .stream_description_summary
                    .expect("there is a summary");
                if summary.stream_status.as_str() == "ACTIVE" {
                    return;
                }
                tokio::time::sleep(MS(50)).await;
            }
        });
    }

    /// In the order of their hash keys.
    fn open(&self) -> Vec<OpenShard> {
        self.runtime.block_on(async {
            let client = self.aws.kinesis(&self.address).await;
            let listed = client
                .list_shards()
                .stream_name(STREAM)
                .send()
                .await
                .expect("it answers");
            let mut open = vec![];
            for shard in listed.shards.unwrap_or_default() {
                let closed = shard
                    .sequence_number_range
                    .is_some_and(|range| range.ending_sequence_number.is_some());
                let range = shard.hash_key_range.expect("a shard has a range");
                let key = |text: &str| text.parse().expect("it is a hash key");
                if !closed {
                    open.push((
                        shard.shard_id,
                        key(&range.starting_hash_key),
                        key(&range.ending_hash_key),
                    ));
                }
            }
            open.sort_by_key(|(_, first, _)| *first);
            open
        })
    }

    /// So many records into every open shard.
    fn put(&mut self, records: u64) {
        for (_, first, _) in self.open() {
            for _ in 0..records {
                let id = self.put.len() as u64;
                let data = json!({ "id": id }).to_string().into_bytes();
                self.runtime.block_on(async {
                    let client = self.aws.kinesis(&self.address).await;
                    let put = client.put_record().stream_name(STREAM).partition_key("k");
                    let put = put.explicit_hash_key(first.to_string()).data(data.into());
                    put.send().await.expect("it is put");
                });
                self.put.push(id);
            }
        }
    }

    fn split(&self, (shard, first, last): &OpenShard) {
        let middle = first + (last - first) / 2 + 1;
        self.runtime.block_on(async {
            let client = self.aws.kinesis(&self.address).await;
            let split = client
                .split_shard()
                .stream_name(STREAM)
                .shard_to_split(shard);
            split
                .new_starting_hash_key(middle.to_string())
                .send()
                .await
                .expect("it is split");
        });
        self.settled();
    }

    fn merge(&self, (shard, ..): &OpenShard, (other, ..): &OpenShard) {
        self.runtime.block_on(async {
            let client = self.aws.kinesis(&self.address).await;
            let merge = client
                .merge_shards()
                .stream_name(STREAM)
                .shard_to_merge(shard);
            merge
                .adjacent_shard_to_merge(other)
                .send()
                .await
                .expect("they are merged");
        });
        self.settled();
    }
}

#[test]
fn line_11_a_split_a_split_of_a_child_and_a_merge_while_the_job_is_down_on_an_emulator() {
    let _alone = one_system_at_a_time();
    let logs = tempfile::tempdir().expect("a folder can be made");
    let mut emulator = Server::kinesis(logs.path());
    emulator.ready();
    let mut scene = Scene::of(&emulator.address(), 2);
    let place = Place::new(&emulator.address());
    let out = place.path("out/");
    let checkpoint = place.path("checkpoint/");
    let job = format!(
        "name = \"sales\"\n[source]\ntype = \"kinesis\"\nstream = \"{STREAM}\"\nstarting_position = \"trim_horizon\"\n\
         [source.schema]\nid = \"bigint\"\n[window]\nsize = \"500ms\"\n[transform]\nsql = \"SELECT id FROM source\"\n\
         [sink]\npath = \"{out}\"\nformat = \"json\"\n[checkpoint]\nlocation = \"{checkpoint}\"\n"
    );
    scene.put(5);
    let life = place.start(2);
    life.submit(&job);
    life.until_published("sales", 10, STEP);
    // One split while it runs, the others while it is down.
    scene.split(&scene.open()[0]);
    scene.put(5);
    life.until_published("sales", scene.put.len() as u64, STEP);
    life.kill();
    scene.put(5);
    scene.split(&scene.open()[0]);
    scene.put(5);
    scene.split(&scene.open()[1]);
    scene.put(5);
    let open = scene.open();
    scene.merge(&open[2], &open[3]);
    scene.put(5);
    let life = place.start(2);
    let status = life.until_published("sales", scene.put.len() as u64, STEP);
    let mut times: BTreeMap<u64, u32> = BTreeMap::new();
    for (_, row) in json_lines(&place.folder.path().join("out")) {
        *times
            .entry(row["id"].as_u64().expect("each row has its number"))
            .or_default() += 1;
    }
    assert_eq!(
        times,
        scene.put.iter().map(|id| (*id, 1)).collect(),
        "each record once"
    );
    assert_eq!(status.shards_open as usize, scene.open().len());
}
