//! One job under constant load, from its own stream into its own folders, and the verdict on its
//! output.
//!
//! Owns: stream, writer, job file, oracle. Does not own: the faults.
//! Rule: the writer and the reader of the output are independent programs, and reach the servers
//! without the links.

use super::system::{BUCKET, System};
use crate::process::Process;
use crate::wait::until;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;
use streamctl_proto::v1::JobState;

/// Records per second: kinesis-mock stays fast with the several thousand of a fault.
const RATE: &str = "30";
const SHARDS: &str = "4";
const WINDOW: &str = "1s";
const COLUMNS: &str =
    "uuid country itemtype saleschannel orderpriority orderdate region shipdate unitssold";
/// The lookup's path from `seed.py`.
const LOOKUP: &str = "input/lab4/country_lookup/";
/// Limit from the submit until windows are published steadily.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// Limit from the end of the load until all of it is published: after a long outage the backlog
/// comes first.
const DONE_WITHIN: Duration = Duration::from_secs(120);
/// Before the fault, a window of a running job is published within this time after its end.
const FRESH_MS: i64 = 4_000;

/// A function that fails if its batch is not the window's; on all workers.
const FUNCTION_FILE: &str = "chaos_function.py";
const FUNCTION: &str = "\
def process_batch(frame, batch_id, context):
    length = context.window_end - context.window_start
    assert batch_id == context.window_start.timestamp() // length.total_seconds()
    return frame
";
const FUNCTION_KEYS: &str =
    "[function]\nfile = \"chaos_function.py\"\nframe = \"pyarrow\"\nper = \"batch\"\n";

/// A running job, and what was written to its stream.
pub struct Scene {
    job: String,
    oracle: PathBuf,
    writer: Process,
}

#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Records that the stream acknowledged.
    pub sent: u64,
    /// Records in no published object.
    pub lost: u64,
    /// Records, or rows of them, that are visible once too often.
    pub twice: u64,
    pub words: Value,
}

impl Scene {
    /// Creates the stream, starts the load, submits the job, and waits until all workers have tasks
    /// and windows are published.
    pub fn begin(system: &System, name: &str, has_function: bool) -> Self {
        let python = &system.python;
        python.ask(
            "seed.py",
            &[
                "prepare",
                "--stream",
                name,
                "--shards",
                SHARDS,
                "--bucket",
                BUCKET,
                "--no-table",
            ],
        );
        let oracle = system.folder().join(format!("{name}.jsonl"));
        let path = oracle.to_str().expect("a temporary folder's path is text");
        let what = [
            "write",
            "--stream",
            name,
            "--records",
            "0",
            "--rate",
            RATE,
            "--oracle",
            path,
        ];
        let odd = ["--bad-every", "20", "--unmatched-every", "15"];
        let writer = python.start(
            &format!("{name}-writer"),
            "seed.py",
            &[&what[..], &odd].concat(),
            system.folder(),
        );
        let file = system.folder().join(format!("{name}.toml"));
        let lookup = format!("s3://{BUCKET}/{LOOKUP}");
        let place = format!("s3://{BUCKET}/{name}");
        let text = JobText {
            name,
            stream: name,
            window: WINDOW,
            lookup: &lookup,
            place: &place,
        };
        let mut text = text.toml();
        if has_function {
            std::fs::write(system.folder().join(FUNCTION_FILE), FUNCTION)
                .expect("the folder takes files");
            text.push_str(FUNCTION_KEYS);
        }
        std::fs::write(&file, text).expect("the folder takes files");
        system.watch.follow(name);
        system.cluster.cli_ok(&[
            "submit",
            file.to_str().expect("a temporary folder's path is text"),
        ]);
        until(
            "a job that publishes its windows, read by all workers",
            STARTS_WITHIN,
            || {
                let view = system.watch.view();
                let fresh = now_ms() - view.published_end_ms < FRESH_MS;
                (fresh && view.all_read() && view.busy() == view.workers).then_some(())
            },
        );
        Self {
            job: name.to_owned(),
            oracle,
            writer,
        }
    }

    /// Ends the load, waits until all of it is published, checks the output, and stops the job.
    pub fn end(mut self, system: &System) -> Verdict {
        let ended = self.writer.terminate(STARTS_WITHIN);
        assert!(ended.success(), "the writer: {}", self.writer.log());
        let lines = std::fs::read_to_string(&self.oracle).unwrap_or_default();
        let sent = lines.lines().count() as u64;
        let limit = DONE_WITHIN;
        let done = format!("all {sent} records published");
        system
            .cluster
            .until_status(&self.job, &done, limit, |status| {
                let rows_in = status.totals.as_ref().map_or(0, |totals| totals.rows_in);
                assert_ne!(status.state(), JobState::Stopped);
                rows_in >= sent && status.published == status.epoch
            });
        let verdict = self.judge(system, sent);
        system.cluster.cli_ok(&["stop", &self.job]);
        system
            .python
            .ask("seed.py", &["drop", "--stream", &self.job]);
        verdict
    }

    fn judge(&self, system: &System, sent: u64) -> Verdict {
        let [sink, dead] =
            ["out", "dead"].map(|place| format!("s3://{BUCKET}/{}/{place}/", self.job));
        let oracle = self
            .oracle
            .to_str()
            .expect("a temporary folder's path is text");
        let words = system.python.ask(
            "check_output.py",
            &["--sink", &sink, "--dead", &dead, "--oracle", oracle],
        );
        verdict(sent, words)
    }
}

/// From the output of `check_output.py`, which counts per folder, or of `check_made.py`, which
/// counts both together.
pub fn verdict(sent: u64, words: Value) -> Verdict {
    let of = |what: &str| {
        ["sink", "dead"]
            .iter()
            .filter_map(|part| words[part][what].as_u64())
            .sum::<u64>()
    };
    let both = |what: &str| words[what].as_u64().unwrap_or(0);
    let lost = of("missing") + both("lost");
    let twice = of("extra") + both("twice");
    assert!(
        words["ok"] == true || lost + twice > 0,
        "the output is wrong in another way: {words:#}"
    );
    Verdict {
        sent,
        lost,
        twice,
        words,
    }
}

/// The locations in a job file.
#[derive(Clone, Copy, Debug)]
pub struct JobText<'a> {
    pub name: &'a str,
    pub stream: &'a str,
    /// The length of its windows.
    pub window: &'a str,
    /// The folder of its lookup.
    pub lookup: &'a str,
    /// The parent folder of output, dead letters and checkpoint.
    pub place: &'a str,
}

impl JobText<'_> {
    /// The job file: the workshop's, with explicit columns.
    pub fn toml(&self) -> String {
        let columns: String = COLUMNS
            .split(' ')
            .map(|column| format!("{column} = \"string\"\n"))
            .collect();
        let Self {
            name,
            stream,
            window,
            lookup,
            place,
        } = self;
        format!(
            r#"
name = "{name}"

[source]
type = "kinesis"
stream = "{stream}"
starting_position = "trim_horizon"

[source.schema]
{columns}
[window]
size = "{window}"

[[lookup]]
name = "country_lookup"
path = "{lookup}"
format = "csv"

[transform]
sql = """
SELECT s.uuid, s.itemtype, s.orderdate, s.unitssold, c."Code" AS country_code
FROM source s JOIN country_lookup c ON s.country = c."CountryName"
"""

[sink]
path = "{place}/out/"
partition_by = ["ingest_year", "ingest_month", "ingest_day", "ingest_hour"]

[dead_letter]
path = "{place}/dead/"

[checkpoint]
location = "{place}/checkpoint/"
"#
        )
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    streamctl_engine::clock::now_ms()
}
