//! Exactly once in local mode: `streamctl run`, killed again and again, gives what the generator's seed says.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use streamctl_tests::places::{binary, country_lookup, one_system_at_a_time};
use streamctl_tests::process::{Launch, Process};
use streamctl_tests::python::Python;
use streamctl_worker::source::generator::{Options, record};

const KILLS: u32 = 20;
/// Shortest and longest life between two kills: from "still starting" to "several windows committed".
const LIFE_MS: std::ops::Range<u64> = 50..1_800;
const SEED: u64 = 7;
const SHARDS: u32 = 2;
const RECORDS_PER_SHARD: u64 = 4_000;
const ODD_ONES: Options = Options { bad_every: 50, unmatched_every: 30 };
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
    /// What the programs themselves say of it.
    fn verify(&self) -> Process {
        let (job, state) = (self.folder.join("job.toml"), self.folder.join("state"));
        let args = ["verify", "--local", job.to_str().unwrap(), "--state", state.to_str().unwrap(), "--replay", "1,2"];
        Launch::new("verify", binary("streamctl"), &args, &self.folder).start()
    }
    fn place(&self, name: &str) -> String {
        format!("{}/{name}/", self.folder.display())
    }
}

fn job_file(folder: &Path, rate: u64) -> String {
    let Options { bad_every, unmatched_every } = ODD_ONES;
    let folder = folder.display();
    format!(
        r#"
name = "sales"

[source]
type = "generator"
seed = {SEED}
shards = {SHARDS}
rate = {rate}
records_per_shard = {RECORDS_PER_SHARD}
bad_every = {bad_every}
unmatched_every = {unmatched_every}

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

    let oracle = root.path().join("oracle.jsonl");
    std::fs::write(&oracle, oracle_lines()).unwrap();
    let (sink, dead) = (killed.place("out"), killed.place("dead"));
    let python = Python::new(vec![]);
    let flags = ["--sink", &sink, "--dead", &dead, "--oracle", oracle.to_str().unwrap()];
    let verdict = python.ask("check_output.py", &flags);
    assert_eq!(verdict["ok"], true, "{verdict:#}");
    // The oracle knows uuids and codes; an undisturbed run knows every column.
    let same = python.ask("same_output.py", &[&calm.place("out"), &calm.place("dead"), &sink, &dead]);
    assert_eq!(same["ok"], true, "{same:#}");
    let mut verify = killed.verify();
    assert!(verify.wait(REST).success(), "{}", verify.log());
}

#[test]
fn the_oracle_of_the_generator_has_every_kind() {
    let lines = oracle_lines();
    let of = |kind: &str| lines.matches(&format!("\"kind\":\"{kind}\"")).count();
    // Every 30th that is not a 50th too is unmatched.
    assert_eq!((of("bad"), of("unmatched"), of("match")), (160, 214, 7_626));
}

/// What the seed says, in the form that `check_output.py` reads.
fn oracle_lines() -> String {
    let table = std::fs::read_to_string(country_lookup()).unwrap();
    let codes: HashMap<&str, &str> = table.lines().filter_map(|line| line.rsplit_once(',')).collect();
    let mut lines = String::new();
    for shard in 0..SHARDS {
        for index in 0..RECORDS_PER_SHARD {
            lines += &format!("{}\n", oracle_line(&record(SEED, shard, index, ODD_ONES), &codes));
        }
    }
    lines
}

fn oracle_line(record: &[u8], codes: &HashMap<&str, &str>) -> Value {
    let text = std::str::from_utf8(record).unwrap();
    let Ok(sale) = serde_json::from_str::<Value>(text) else { return json!({ "kind": "bad", "text": text }) };
    // In the lookup's file a name with a comma stands in quotes.
    let country = sale["Country"].as_str().unwrap();
    let code = codes.get(country).or_else(|| codes.get(format!("\"{country}\"").as_str()));
    json!({ "kind": if code.is_some() { "match" } else { "unmatched" }, "uuid": sale["uuid"], "code": code })
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
