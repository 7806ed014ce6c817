//! Exactly once in local mode: `streamctl run`, killed again and again, gives what an undisturbed run gives.

use std::path::{Path, PathBuf};
use std::time::Duration;
use streamctl_tests::places::{binary, country_lookup, one_system_at_a_time};
use streamctl_tests::process::{Launch, Process};
use streamctl_tests::python::Python;

const KILLS: u32 = 20;
/// Shortest and longest life between two kills: from "still starting" to "several windows committed".
const LIFE_MS: std::ops::Range<u64> = 50..1_800;
const SHARDS: u64 = 2;
const RECORDS_PER_SHARD: u64 = 4_000;
/// All records at `rate` take longer than all lives together, so that the last kill still hits a running job.
const RATE: u64 = 300;
/// For what is left after the last kill, on a busy machine.
const REST: Duration = Duration::from_secs(240);

/// A run in a folder of its own. Everything but `rate` decides what the records are.
struct Run {
    folder: PathBuf,
    launch: Launch,
}

impl Run {
    fn new(root: &Path, name: &str, rate: u64) -> Self {
        let folder = root.join(name);
        let lookup = folder.join("lookup");
        std::fs::create_dir_all(&lookup).unwrap();
        std::fs::copy(country_lookup(), lookup.join("country_lookup.csv")).unwrap();
        let job = folder.join("job.toml");
        std::fs::write(&job, job_file(&folder, rate)).unwrap();
        let state = folder.join("state");
        let args = ["run", job.to_str().unwrap(), "--state", state.to_str().unwrap()];
        let launch = Launch::new(name, binary("streamctl"), &args, root);
        Self { folder, launch }
    }
    fn start(&self) -> Process {
        self.launch.start()
    }
    fn place(&self, name: &str) -> String {
        format!("{}/{name}/", self.folder.display())
    }
}

fn job_file(folder: &Path, rate: u64) -> String {
    let folder = folder.display();
    format!(
        r#"
name = "sales"

[source]
type = "generator"
seed = 7
shards = {SHARDS}
rate = {rate}
records_per_shard = {RECORDS_PER_SHARD}
bad_every = 50
unmatched_every = 30

[window]
size = "500ms"

[[lookup]]
name = "country_lookup"
path = "{folder}/lookup/"
format = "csv"

[transform]
sql = """
SELECT s.uuid, s.itemtype, s.orderdate, s.unitssold, c."Code" AS country_code
FROM source s JOIN country_lookup c ON s.country = c."CountryName"
"""

[sink]
path = "{folder}/out/"
format = "parquet"
partition_by = ["ingest_year", "ingest_month", "ingest_day", "ingest_hour"]

[dead_letter]
path = "{folder}/dead/"

[checkpoint]
location = "{folder}/checkpoint/"
"#
    )
}

#[test]
fn twenty_kills_of_a_local_run_lose_nothing_and_double_nothing() {
    let _alone = one_system_at_a_time();
    let root = tempfile::tempdir().unwrap();
    let calm = Run::new(root.path(), "calm", 20_000);
    let mut process = calm.start();
    assert!(process.wait(REST).success(), "{}", process.log());

    let killed = Run::new(root.path(), "killed", RATE);
    for (round, life) in lives(11).enumerate() {
        let mut process = killed.start();
        let ended = process.ended_within(life);
        assert_eq!(ended, None, "it ended before kill {round}: {}", process.log());
        process.kill();
    }
    let mut process = killed.start();
    assert!(process.wait(REST).success(), "{}", process.log());

    let places = [calm.place("out"), calm.place("dead"), killed.place("out"), killed.place("dead")];
    let verdict = Python::new(vec![]).ask("same_output.py", &places.each_ref().map(String::as_str));
    assert_eq!(verdict["ok"], true, "{verdict:#}");
    let dead = SHARDS * (RECORDS_PER_SHARD / 50);
    assert_eq!(verdict["dead_letters"], serde_json::json!([dead, dead]));
    let rows = verdict["rows"][0].as_u64().unwrap();
    let unmatched_at_most = SHARDS * (RECORDS_PER_SHARD / 30 + 1);
    let decoded = SHARDS * RECORDS_PER_SHARD - dead;
    assert!((decoded - unmatched_at_most..decoded).contains(&rows), "{rows} of {decoded} decoded rows have a match");
}

/// How long each run may live; the same for the same seed.
fn lives(seed: u64) -> impl Iterator<Item = Duration> {
    let mut state = seed;
    (0..KILLS).map(move |_| {
        // Knuth's MMIX generator; its high bits are good enough to spread kills.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis(LIFE_MS.start + (state >> 33) % (LIFE_MS.end - LIFE_MS.start))
    })
}
