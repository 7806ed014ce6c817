//! `streamctl run` on generated records, and the output that their seed determines.
//!
//! Owns: the job file, the folders of a run, the oracle. Does not own: the faults of the run.
//! Rule: the records depend on the seed alone, not on the rate or on interruptions of the run.

use crate::places::{binary, country_lookup};
use crate::process::{Launch, Process};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use streamctl_engine::source::generator::{Options, record};

const SEED: u64 = 7;
const SHARDS: u32 = 2;
const RECORDS_PER_SHARD: u64 = 4_000;
const ODD_ONES: Options = Options {
    bad_every: 50,
    unmatched_every: 30,
};

/// A run in its own folder. All settings except `rate` determine the records.
#[derive(Clone, Debug)]
pub struct Run {
    /// The parent of all its folders.
    pub folder: PathBuf,
    launch: Launch,
}

impl Run {
    /// In `root`, with this many records per second.
    pub fn new(root: &Path, name: &str, rate: u64) -> Self {
        let folder = root.join(name);
        let lookup = folder.join("lookup");
        std::fs::create_dir_all(&lookup).expect("the folder takes files");
        std::fs::copy(country_lookup(), lookup.join("country_lookup.csv"))
            .expect("the folder takes files");
        let job = folder.join("job.toml");
        std::fs::write(&job, job_file(&folder, rate)).expect("the folder takes files");
        let launch = launch(&folder, name, &[], root);
        Self { folder, launch }
    }
    /// The same run with `--change`.
    pub fn changing(&self) -> Self {
        let launch = launch(
            &self.folder,
            &format!("{}-changing", self.launch.name),
            &["--change"],
            &self.launch.logs,
        );
        Self {
            folder: self.folder.clone(),
            launch,
        }
    }
    pub fn rewrite(&self, change: impl FnOnce(&str) -> String) {
        let job = self.folder.join("job.toml");
        let before = std::fs::read_to_string(&job).expect("the run has a job file");
        let after = change(&before);
        assert_ne!(before, after, "nothing was changed");
        std::fs::write(&job, after).expect("the folder takes files");
    }
    /// Writes its log there instead.
    pub fn logging_to(mut self, folder: &Path) -> Self {
        self.launch.logs = folder.to_owned();
        self
    }
    /// Starts it, or continues it.
    pub fn start(&self) -> Process {
        self.launch.start()
    }
    /// Runs the programs' own verification.
    pub fn verify(&self) -> Process {
        let job = self.folder.join("job.toml");
        let state = self.folder.join("state");
        let text = |path: &Path| path.to_str().expect("the folder's path is text").to_owned();
        let job = text(&job);
        let state = text(&state);
        let args = [
            "verify", "--local", &job, "--state", &state, "--replay", "1,2",
        ];
        Launch::new("verify", binary("streamctl"), &args, &self.folder).start()
    }
    /// Repairs it, without running it.
    pub fn repair(&self, more: &[&str]) -> Process {
        let job = self.folder.join("job.toml");
        let state = self.folder.join("state");
        let text = |path: &Path| path.to_str().expect("the folder's path is text").to_owned();
        let job = text(&job);
        let state = text(&state);
        let args = [&["repair", "--local", &job, "--state", &state], more].concat();
        Launch::new("repair", binary("streamctl"), &args, &self.folder).start()
    }
    /// The changes by its job file.
    pub fn diff(&self) -> Process {
        let job = self.folder.join("job.toml");
        let state = self.folder.join("state");
        let text = |path: &Path| path.to_str().expect("the folder's path is text").to_owned();
        let args = ["diff", &text(&job), "--local", "--state", &text(&state)];
        Launch::new("diff", binary("streamctl"), &args, &self.folder).start()
    }
    /// One of its folders, as a location.
    pub fn place(&self, name: &str) -> String {
        format!("{}/{name}/", self.folder.display())
    }
}

fn launch(folder: &Path, name: &str, more: &[&str], logs: &Path) -> Launch {
    let job = folder.join("job.toml");
    let state = folder.join("state");
    let text = |path: &Path| path.to_str().expect("the folder's path is text").to_owned();
    let job = text(&job);
    let state = text(&state);
    Launch::new(
        name,
        binary("streamctl"),
        &[&["run", &job, "--state", &state], more].concat(),
        logs,
    )
}

fn job_file(folder: &Path, rate: u64) -> String {
    let Options {
        bad_every,
        unmatched_every,
    } = ODD_ONES;
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

/// The expected output of the seed, in the input form of `check_output.py`.
pub fn oracle_lines() -> String {
    let table = std::fs::read_to_string(country_lookup()).expect("the lookup is in the checkout");
    let codes: HashMap<&str, &str> = table
        .lines()
        .filter_map(|line| line.rsplit_once(','))
        .collect();
    let mut lines = String::new();
    for shard in 0..SHARDS {
        for index in 0..RECORDS_PER_SHARD {
            lines += &format!(
                "{}\n",
                oracle_line(&record(SEED, shard, index, ODD_ONES), &codes)
            );
        }
    }
    lines
}

fn oracle_line(record: &[u8], codes: &HashMap<&str, &str>) -> Value {
    let text = std::str::from_utf8(record).expect("made-up records are text");
    let Ok(sale) = serde_json::from_str::<Value>(text) else {
        return json!({ "kind": "bad", "text": text });
    };
    // In the lookup's file a name with a comma is quoted.
    let country = sale["Country"].as_str().expect("every sale has a country");
    let code = codes
        .get(country)
        .or_else(|| codes.get(format!("\"{country}\"").as_str()));
    json!({ "kind": if code.is_some() { "match" } else { "unmatched" }, "uuid": sale["uuid"], "code": code })
}
