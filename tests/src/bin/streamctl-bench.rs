//! Measures, prints tables, writes the same as JSON to the file that `BENCH_JSON` names: `make
//! bench`.
//!
//!     streamctl-bench [--only pipeline,latency,latency-s3,latency-kinesis,latency-fanout,start,join,memory,scale,planning,swarm,shards,idle,function] [--seconds N]
//!                     [--records N] [--rounds N] [--peers duckdb,polars,spark] [--folder FOLDER]
//!
//! Owns: its settings. Does not own: the measurements (`streamctl_tests::bench`).

#![expect(
    clippy::print_stdout,
    reason = "the tables are what this program is for"
)]

use serde_json::Value;
use streamctl_tests::bench::{self, Options, control, function, latency, live, shards, swarm};

/// The number of records behind the figures of the issue: 643 MB.
const RECORDS_DEFAULT: u64 = 2_000_000;
const ROUNDS_DEFAULT: usize = 3;
/// Seconds of load in each timed bench.
const SECONDS_DEFAULT: u64 = 60;
/// Long enough to read at least one whole window of 60 s.
const MEMORY_SECONDS_MIN: u64 = 150;
/// Rows of a call in the bench `function`, whatever `--records` is: a window of that many.
const FUNCTION_ROWS_MAX: u64 = 200_000;
const BENCHES: [&str; 14] = [
    "pipeline",
    "latency",
    "latency-s3",
    "latency-kinesis",
    "latency-fanout",
    "start",
    "join",
    "memory",
    "scale",
    "planning",
    "swarm",
    "shards",
    "idle",
    "function",
];

/// The selected benches and their settings.
struct Wanted {
    benches: Vec<String>,
    seconds: u64,
    pipeline: Options,
}

impl Wanted {
    fn read(
        args: impl IntoIterator<Item = String>,
        folder: std::path::PathBuf,
    ) -> anyhow::Result<Self> {
        let peers = vec!["duckdb".to_owned()];
        let pipeline = Options {
            records: RECORDS_DEFAULT,
            rounds: ROUNDS_DEFAULT,
            folder,
            peers,
        };
        let benches = BENCHES.map(str::to_owned).to_vec();
        let mut wanted = Self {
            benches,
            seconds: SECONDS_DEFAULT,
            pipeline,
        };
        let mut args = args.into_iter();
        while let Some(flag) = args.next() {
            let value = args
                .next()
                .ok_or_else(|| anyhow::anyhow!("{flag} needs a value"))?;
            let list = || {
                value
                    .split(',')
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned)
                    .collect()
            };
            match flag.as_str() {
                "--only" => wanted.benches = list(),
                "--seconds" => wanted.seconds = value.parse()?,
                "--records" => wanted.pipeline.records = value.parse()?,
                "--rounds" => wanted.pipeline.rounds = value.parse()?,
                "--peers" => wanted.pipeline.peers = list(),
                "--folder" => wanted.pipeline.folder = value.into(),
                _ => {
                    anyhow::bail!(
                        "there is no flag {flag}: --only, --seconds, --records, --rounds, --peers, --folder"
                    )
                }
            }
        }
        Ok(wanted)
    }

    /// Prints the results; returns them for programs.
    fn measure(&self, bench: &str) -> anyhow::Result<Value> {
        let root = self.pipeline.folder.as_path();
        let seconds = self.seconds;
        let sheet = match bench {
            "pipeline" => {
                let table = bench::pipeline(&self.pipeline)?;
                println!("{table}");
                return Ok(table.json());
            }
            "latency" => latency::latency(root, seconds),
            "latency-s3" => latency::latency_s3(root, seconds),
            "latency-kinesis" => latency::latency_kinesis(root, seconds),
            "latency-fanout" => latency::latency_fanout(root, seconds),
            "start" => live::start(root),
            "join" => shards::join(root),
            "memory" => live::memory(root, seconds.max(MEMORY_SECONDS_MIN)),
            "scale" => live::scale_out(root, seconds),
            "planning" => control::planning(),
            "swarm" => swarm::swarm(root, seconds),
            "shards" => shards::shards(root, seconds),
            "idle" => shards::idle(root, seconds),
            "function" => function::function(&Options {
                records: self.pipeline.records.min(FUNCTION_ROWS_MAX),
                ..self.pipeline.clone()
            })?,
            _ => anyhow::bail!("there is no bench {bench}: {}", BENCHES.join(", ")),
        };
        println!("{sheet}");
        Ok(sheet.json())
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "read once, here, and passed down"
)]
fn main() -> anyhow::Result<()> {
    let temporary = tempfile::Builder::new()
        .prefix("streamctl-bench-")
        .tempdir()?;
    let wanted = Wanted::read(std::env::args().skip(1), temporary.path().to_owned())?;
    std::fs::create_dir_all(&wanted.pipeline.folder)?;
    let all = wanted
        .benches
        .iter()
        .map(|bench| wanted.measure(bench))
        .collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(path) = std::env::var_os("BENCH_JSON") {
        std::fs::write(path, serde_json::to_string_pretty(&all)?)?;
    }
    Ok(())
}
