//! The controller's answers, as text for people and as JSON for programs.
//!
//! Rule: no I/O and no clock; the JSON has the names of the messages' fields.

use crate::output::{Paint, Tone, table};
pub use streamctl_proto::count::bytes;
pub use streamctl_proto::json::{
    change as change_json, diff as diff_json, epoch as epoch_json, position, state,
    status as status_json, task, time, worker as worker_json,
};
use streamctl_proto::report::StageTimes;
use streamctl_proto::{Duplicates, count, v1};

/// Records that the query could not take; empty if there are none.
pub fn failed(counts: &v1::Counts) -> String {
    if counts.rows_failed == 0 {
        return String::new();
    }
    let records = count(counts.rows_failed, "record");
    format!("{records} that the query could not take, among the dead letters")
}

/// User records of other shards; empty if there are none.
pub fn foreign(counts: &v1::Counts) -> String {
    match counts.rows_foreign.unwrap_or_default() {
        0 => String::new(),
        records => format!(
            "{} outside of the hash range of their shard: dead letters, rows or dropped, as \
             [source] aggregates sets",
            count(records, "user record")
        ),
    }
}

/// Whether a job in such a state is healthy.
pub fn tone(status: &v1::JobStatus) -> Tone {
    match status.state() {
        v1::JobState::Failed => Tone::Bad,
        v1::JobState::Waiting | v1::JobState::Draining | v1::JobState::Starting => Tone::Waiting,
        v1::JobState::Running => Tone::Good,
        v1::JobState::Stopped | v1::JobState::Completed | v1::JobState::Unspecified => Tone::Dim,
    }
}

/// A job in such a state produces nothing more.
pub fn has_ended(status: &v1::JobStatus) -> bool {
    matches!(
        status.state(),
        v1::JobState::Stopped | v1::JobState::Completed | v1::JobState::Failed
    )
}

pub fn jobs_text(jobs: &[v1::JobStatus], paint: Paint) -> String {
    let row = |job: &v1::JobStatus| {
        let totals = job.totals.unwrap_or_default();
        [
            job.job.clone(),
            paint.text(tone(job), state(job)),
            job.published.to_string(),
            totals.rows_in.to_string(),
            totals.rows_out.to_string(),
            totals.rows_dead.to_string(),
            milliseconds(job.lag_ms),
            if job.error.is_empty() {
                job.waiting_on.join("; ")
            } else {
                job.error.clone()
            },
        ]
    };
    let rows = jobs.iter().map(row).collect::<Vec<_>>();
    table(
        [
            "JOB",
            "STATE",
            "PUBLISHED",
            "ROWS IN",
            "ROWS OUT",
            "DEAD",
            "LAG",
            "REMARK",
        ],
        &rows,
    )
}

pub fn status_text(job: &v1::JobStatus, paint: Paint) -> String {
    let totals = job.totals.unwrap_or_default();
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("{:<12}{value}", format!("{name}:")));
        }
    };
    line("job", job.job.clone());
    line("state", paint.text(tone(job), state(job)));
    line(
        "version",
        if job.job_version > 1 {
            version_line(job)
        } else {
            String::new()
        },
    );
    for cause in &job.waiting_on {
        line("waiting on", cause.clone());
    }
    for avoided in &job.avoided {
        let hint = if avoided.hint.is_empty() {
            String::new()
        } else {
            format!("; {}", avoided.hint)
        };
        line(
            "avoids",
            format!(
                "{} until {}: {}{hint}",
                avoided.worker,
                time(avoided.until_ms),
                avoided.error
            ),
        );
    }
    line(
        "error",
        if job.error.is_empty() {
            String::new()
        } else {
            paint.text(Tone::Bad, &job.error)
        },
    );
    line("hint", job.hint.clone());
    line(
        "epoch",
        format!(
            "{} committed, {} published{}",
            job.epoch,
            job.published,
            kept_from(job)
        ),
    );
    line(
        "rows",
        format!(
            "{} in, {} out, {} dead, {} unmatched, {} late",
            totals.rows_in,
            totals.rows_out,
            totals.rows_dead,
            totals.rows_unmatched,
            totals.rows_late
        ),
    );
    line(
        "rejected",
        if totals.rows_rejected > 0 {
            let rows = count(totals.rows_rejected, "row");
            format!(
                "{rows} whose partition cannot be the name of a folder, with a value that its \
                 column's type in files cannot hold, or that the function put aside; they are kept \
                 beside the dead letters"
            )
        } else {
            String::new()
        },
    );
    line(
        "no arrival",
        if totals.rows_without_arrival > 0 {
            let records = count(totals.rows_without_arrival, "record");
            format!(
                "{records} without an arrival time that can be used ([source] on_bad_arrival_time)"
            )
        } else {
            String::new()
        },
    );
    line("failed", failed(&totals));
    line("aggregates", foreign(&totals));
    line(
        "null values",
        if totals.values_null > 0 {
            let values = count(totals.values_null, "value");
            format!("{values} did not fit and became NULL")
        } else {
            String::new()
        },
    );
    line("lag", milliseconds(job.lag_ms));
    line(
        "shards",
        format!("{} open, {} ended", job.shards_open, job.shards_ended),
    );
    let losses: u64 = job.shards.iter().map(|shard| shard.data_losses).sum();
    line(
        "losses",
        if losses > 0 {
            format!(
                "{} records were gone before they were read",
                count(losses, "time")
            )
        } else {
            String::new()
        },
    );
    line(
        "retries",
        if job.retries > 0 {
            job.retries.to_string()
        } else {
            String::new()
        },
    );
    line("consumer", job.consumer.clone());
    line("sink", job.sink.clone());
    line(
        "small files",
        job.compaction
            .as_ref()
            .map(compaction_line)
            .unwrap_or_default(),
    );
    for repair in &job.repairs {
        let by = if repair.by.is_empty() {
            String::new()
        } else {
            format!(", by {}", repair.by)
        };
        line(
            "repaired",
            format!("{}{by}: {}", time(repair.at_ms), repair.text),
        );
    }
    if let Some(epoch) = &job.last_epoch {
        line("last epoch", epoch_line(epoch));
        line(
            "latency",
            epoch
                .stages
                .filter(|stages| stages.publish_us > 0)
                .map(latency_line)
                .unwrap_or_default(),
        );
        line("unmatched", unmatched_line(epoch).unwrap_or_default());
    }
    for null in job.last_epoch.iter().flat_map(|epoch| &epoch.null_values) {
        let values = count(null.values, "value");
        let column = &null.column;
        line(
            "null values",
            format!("in the last epoch: {values} of column {column} did not fit"),
        );
    }
    for unknown in job.last_epoch.iter().flat_map(|epoch| &epoch.unknown_keys) {
        let times = count(unknown.count, "time");
        line(
            "unknown",
            format!(
                "in the last epoch: no column has the key {:?}, {times}",
                unknown.key
            ),
        );
    }
    // A lookup that was never checked, as in a job that had ended before, has no version.
    for lookup in job
        .lookups
        .iter()
        .filter(|lookup| !(lookup.version.is_empty() && lookup.problem.is_empty()))
    {
        let short = lookup.version.get(..12).unwrap_or(&lookup.version);
        let problem = if lookup.problem.is_empty() {
            String::new()
        } else {
            format!("; {}", lookup.problem)
        };
        let rows = match lookup.seen_ms {
            0 => "(not read yet by this controller)".to_owned(),
            _ => count(lookup.rows, "row"),
        };
        let version = if short.is_empty() {
            String::new()
        } else {
            format!(", version {short}")
        };
        line(
            "lookup",
            format!("{} {rows}{version}{problem}", lookup.name),
        );
        let duplicates = Duplicates {
            keys: lookup.duplicate_keys,
            rows: lookup.duplicate_rows,
            examples: lookup.duplicates.clone(),
        };
        if let Some(text) = duplicates.text() {
            line("duplicates", format!("in {}: {text}", lookup.name));
        }
    }
    for part in [shards_text(&job.shards), tasks_text(&job.tasks)]
        .into_iter()
        .flatten()
    {
        lines.extend([String::new(), part]);
    }
    lines.join("\n")
}

/// The line of a job that was changed.
fn version_line(job: &v1::JobStatus) -> String {
    format!("{}, since {}", job.job_version, time(job.changed_ms))
}

/// What became of the small files of a table.
fn compaction_line(status: &v1::CompactionStatus) -> String {
    let done = match status.rewritings {
        0 => format!("looked for {}", time(status.last_look_ms)),
        rewritings => format!(
            "{} became {} in {}, last {}",
            count(status.files_before, "file"),
            status.files_after,
            count(rewritings, "rewriting"),
            time(status.last_rewriting_ms)
        ),
    };
    let deleted = match status.files_deleted {
        0 => String::new(),
        files => format!(", {files} deleted"),
    };
    match status.left.as_str() {
        "" => format!("{done}{deleted}"),
        left => format!("{done}{deleted}; {left}"),
    }
}

/// What a job does right now, in short.
pub fn now_line(job: &v1::JobStatus) -> String {
    let totals = job.totals.unwrap_or_default();
    let waits = if job.waiting_on.is_empty() {
        String::new()
    } else {
        format!("; waiting on {}", job.waiting_on[0])
    };
    format!(
        "{}: epoch {}, {} out, lag {}{waits}",
        state(job),
        job.published,
        count(totals.rows_out, "row"),
        milliseconds(job.lag_ms)
    )
}

/// Where history begins, if earlier epochs are removed.
fn kept_from(job: &v1::JobStatus) -> String {
    match job.first_kept_epoch {
        0 | 1 => String::new(),
        first => format!(", kept from {first}"),
    }
}

/// What was just published, in one line.
pub fn progress_line(job: &v1::JobStatus) -> String {
    let totals = job.totals.unwrap_or_default();
    format!(
        "epoch {} published: {} in, {} out, {} dead, {} unmatched since the job began; lag {}",
        job.published,
        count(totals.rows_in, "row"),
        totals.rows_out,
        totals.rows_dead,
        totals.rows_unmatched,
        milliseconds(job.lag_ms)
    )
}

fn epoch_line(epoch: &v1::EpochSummary) -> String {
    let counts = epoch.counts.unwrap_or_default();
    format!(
        "{}, window {}, {} in, {} out, {}, {}",
        epoch.epoch,
        window(epoch.window.as_ref()),
        count(counts.rows_in, "row"),
        counts.rows_out,
        count(epoch.objects, "object"),
        bytes(epoch.bytes_out)
    )
}

/// How long a window took from its close to its publication, by stage.
fn latency_line(stages: v1::StageTimes) -> String {
    let ms = |us: u64| us as f64 / 1_000.0;
    let read = match stages.last_read_us {
        0 => String::new(),
        us => format!(
            "; closed {} after the window's end",
            milliseconds(us / 1_000)
        ),
    };
    format!(
        "{:.1} ms from closed to visible: decode {:.1}, transform {:.1}, stage {:.1}, report {:.1}, commit {:.1}, \
         publish {:.1}{read}",
        ms(StageTimes::from(stages).closed_to_published_us()),
        ms(stages.last_decode_us),
        ms(stages.last_transform_us),
        ms(stages.last_stage_us),
        ms(stages.report_us),
        ms(stages.commit_us),
        ms(stages.publish_us),
    )
}

/// Keys of the last epoch that a line names; `epochs -o json` has all of them.
const UNMATCHED_NAMED_MAX: usize = 3;

fn unmatched_line(epoch: &v1::EpochSummary) -> Option<String> {
    let key = |key: &v1::UnmatchedKey| format!("{:?} ({}, {})", key.key, key.lookup, key.rows);
    let named: Vec<String> = epoch
        .unmatched
        .iter()
        .take(UNMATCHED_NAMED_MAX)
        .map(key)
        .collect();
    let rows = epoch.counts.map_or(0, |counts| counts.rows_unmatched);
    let named_rows: u64 = epoch.unmatched.iter().map(|key| key.rows).sum();
    let rows = count(rows.max(named_rows), "row");
    (!named.is_empty()).then(|| format!("{rows} in the last epoch, most: {}", named.join(", ")))
}

/// The end of a text, where it is too long.
pub fn end_of(text: &str, chars: usize) -> String {
    let count = text.chars().count();
    if count <= chars {
        return text.to_owned();
    }
    format!(
        "..{}",
        text.chars().skip(count - chars + 2).collect::<String>()
    )
}

/// Characters of a position in a table; the last ones tell positions apart.
const POSITION_CHARS_MAX: usize = 16;

fn shards_text(shards: &[v1::ShardStatus]) -> Option<String> {
    let row = |shard: &v1::ShardStatus| {
        [
            shard.shard.clone(),
            if shard.ended {
                "ended".into()
            } else {
                shard.worker.clone()
            },
            task(shard.task.as_ref()),
            milliseconds(shard.lag_ms),
            shard
                .records
                .map_or_else(|| "-".into(), |records| records.to_string()),
            shard.bytes.map_or_else(|| "-".into(), bytes),
            shard.throttles.to_string(),
            end_of(&position(shard.committed.as_ref()), POSITION_CHARS_MAX),
        ]
    };
    let rows = shards.iter().map(row).collect::<Vec<_>>();
    let headings = [
        "SHARD",
        "WORKER",
        "TASK",
        "LAG",
        "RECORDS",
        "BYTES",
        "THROTTLES",
        "COMMITTED",
    ];
    (!rows.is_empty()).then(|| table(headings, &rows))
}

fn tasks_text(tasks: &[v1::TaskStatus]) -> Option<String> {
    let row = |status: &v1::TaskStatus| {
        [
            task(status.task.as_ref()),
            status.worker.clone(),
            status.shards.to_string(),
            time(status.watermark_ms),
        ]
    };
    let rows = tasks.iter().map(row).collect::<Vec<_>>();
    (!rows.is_empty()).then(|| table(["TASK", "WORKER", "SHARDS", "REPORTED UP TO"], &rows))
}

/// One line per epoch.
pub fn epochs_text(epochs: &[v1::EpochSummary]) -> String {
    let row = |epoch: &v1::EpochSummary| {
        let counts = epoch.counts.unwrap_or_default();
        [
            epoch.epoch.to_string(),
            window(epoch.window.as_ref()),
            counts.rows_in.to_string(),
            counts.rows_out.to_string(),
            counts.rows_dead.to_string(),
            counts.rows_unmatched.to_string(),
            epoch.objects.to_string(),
            bytes(epoch.bytes_out),
            epoch
                .stages
                .filter(|stages| stages.publish_us > 0)
                .map(latency)
                .unwrap_or_default(),
            if epoch.published {
                "published"
            } else {
                "committed"
            }
            .to_owned(),
            epoch.job_version.to_string(),
        ]
    };
    let rows = epochs.iter().map(row).collect::<Vec<_>>();
    let headings = [
        "EPOCH",
        "WINDOW",
        "ROWS IN",
        "ROWS OUT",
        "DEAD",
        "UNMATCHED",
        "OBJECTS",
        "SIZE",
        "LATENCY",
        "STATE",
        "VERSION",
    ];
    table(headings, &rows)
}

fn latency(stages: v1::StageTimes) -> String {
    milliseconds(StageTimes::from(stages).closed_to_published_us() / 1_000)
}

pub fn workers_text(workers: &[v1::WorkerStatus]) -> String {
    let row = |worker: &v1::WorkerStatus| {
        let state = if worker.leaving { "leaving" } else { "ready" };
        let name = worker.worker.clone();
        let address = worker.flight_address.clone();
        let tasks = worker.tasks.to_string();
        [
            name,
            state.to_owned(),
            tasks,
            busy(worker),
            skew(worker),
            bytes(worker.memory_bytes),
            address,
        ]
    };
    let rows = workers.iter().map(row).collect::<Vec<_>>();
    table(
        [
            "WORKER", "STATE", "TASKS", "BUSY", "CLOCK", "MEMORY", "FLIGHT",
        ],
        &rows,
    )
}

/// The reported utilization of a worker.
pub fn busy(worker: &v1::WorkerStatus) -> String {
    worker.busy_permille.map_or_else(|| "-".to_owned(), percent)
}

/// How far a worker's clock is from that of its sources: `+1.5 s` is ahead.
fn skew(worker: &v1::WorkerStatus) -> String {
    match worker.clock_skew_ms {
        None => "-".to_owned(),
        Some(0) => "ok".to_owned(),
        Some(ms) => format!(
            "{}{}",
            if ms > 0 { '+' } else { '-' },
            milliseconds(ms.unsigned_abs())
        ),
    }
}

/// Thousandths as `71 %`.
pub fn percent(permille: u32) -> String {
    format!("{} %", (permille + 5) / 10)
}

fn window(window: Option<&v1::Window>) -> String {
    window.map_or_else(|| "-".into(), |window| time(window.start_ms))
}

pub(crate) fn milliseconds(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min", ms / 60_000),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::output::tests::documented;

    /// A job with one of everything.
    pub fn status() -> v1::JobStatus {
        let counts = v1::Counts {
            rows_in: 100,
            bytes_in: 30_000,
            rows_decoded: 98,
            rows_dead: 2,
            rows_unmatched: 3,
            rows_out: 95,
            rows_late: 4,
            rows_rejected: 0,
            rows_without_arrival: 0,
            rows_failed: 0,
            rows_foreign: None,
            ..v1::Counts::default()
        };
        let task = Some(v1::TaskId {
            term: 3,
            counter: 7,
        });
        let after = v1::position::After {
            sequence: "41".into(),
            sub_sequence: 0,
        };
        v1::JobStatus {
            job: "sales".into(),
            state: v1::JobState::Waiting.into(),
            waiting_on: vec!["a worker".into()],
            epoch: 8,
            published: 7,
            totals: Some(counts),
            last_epoch: Some(v1::EpochSummary {
                epoch: 8,
                window: Some(v1::Window {
                    start_ms: 1_795_481_100_000,
                    end_ms: 1_795_481_160_000,
                }),
                counts: Some(counts),
                objects: 2,
                bytes_out: 2048,
                null_values: vec![],
                unknown_keys: vec![v1::UnknownKey {
                    key: "items.colour".into(),
                    count: 12,
                }],
                unmatched: vec![v1::UnmatchedKey {
                    lookup: "country_lookup".into(),
                    key: "Russia".into(),
                    rows: 3,
                }],
                ..Default::default()
            }),
            lag_ms: 1250,
            shards_open: 1,
            shards: vec![v1::ShardStatus {
                shard: "shardId-0".into(),
                committed: Some(v1::Position {
                    at: Some(v1::position::At::After(after)),
                }),
                worker: "w-1".into(),
                task,
                records: Some(100),
                bytes: Some(30_000),
                ..Default::default()
            }],
            tasks: vec![v1::TaskStatus {
                task,
                worker: "w-1".into(),
                shards: 1,
                watermark_ms: 1_795_481_160_000,
            }],
            lookups: vec![v1::LookupStatus {
                name: "country_lookup".into(),
                version: "abc".into(),
                rows: 249,
                seen_ms: 1_795_481_000_000,
                ..Default::default()
            }],
            sink: "s3://b/out/".into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_status_shows_what_a_job_waits_for_and_where_it_is() {
        let expected = "\
job:        sales
state:      waiting
waiting on: a worker
epoch:      8 committed, 7 published
rows:       100 in, 95 out, 2 dead, 3 unmatched, 4 late
lag:        1.2 s
shards:     1 open, 0 ended
sink:       s3://b/out/
last epoch: 8, window 2026-11-24T00:45:00Z, 100 rows in, 95 out, 2 objects, 2 KiB
unmatched:  3 rows in the last epoch, most: \"Russia\" (country_lookup, 3)
unknown:    in the last epoch: no column has the key \"items.colour\", 12 times
lookup:     country_lookup 249 rows, version abc

SHARD      WORKER  TASK  LAG   RECORDS  BYTES   THROTTLES  COMMITTED
shardId-0  w-1     t3.7  0 ms  100      29 KiB  0          after 41

TASK  WORKER  SHARDS  REPORTED UP TO
t3.7  w-1     1       2026-11-24T00:46:00Z";
        assert_eq!(status_text(&status(), Paint::default()), expected);
    }

    #[test]
    fn a_latency_is_shown_by_stage_and_with_the_delay_of_closing_where_it_is_known() {
        let stages = v1::StageTimes {
            last_read_us: 250_000,
            publish_us: 4_000,
            commit_us: 2_500,
            ..Default::default()
        };
        let expected = "6.5 ms from closed to visible: decode 0.0, transform 0.0, stage 0.0, report 0.0, commit 2.5, publish 4.0";
        assert_eq!(
            latency_line(stages),
            format!("{expected}; closed 250 ms after the window's end")
        );
        assert_eq!(
            latency_line(v1::StageTimes {
                last_read_us: 0,
                ..stages
            }),
            expected
        );
    }

    #[test]
    fn a_lookup_that_a_new_leader_could_not_read_has_no_number_of_rows() {
        let mut status = status();
        status.lookups[0] = v1::LookupStatus {
            seen_ms: 0,
            rows: 0,
            ..status.lookups[0].clone()
        };
        status.lookups[0].problem = "two rows have the key \"Russia\"".into();
        let text = status_text(&status, Paint::default());
        let line = "lookup:     country_lookup (not read yet by this controller), version abc; two rows have the key \"Russia\"";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn the_json_of_a_status_has_the_names_of_the_message() {
        let json = status_json(&status());
        documented("status", &json);
        documented("epochs", &json["last_epoch"]);
        documented("workers", &worker_json(&v1::WorkerStatus::default()));
        assert_eq!(json["state"], "waiting");
        assert_eq!(json["totals"]["rows_out"], 95);
        assert_eq!(
            json["last_epoch"]["window"]["start_ms"],
            1_795_481_100_000_i64
        );
        assert_eq!(json["shards"][0]["committed"], "after 41");
        assert_eq!(json["tasks"][0]["task"], "t3.7");
        assert_eq!(json["lookups"][0]["rows"], 249);
    }

    #[test]
    fn a_worker_shows_how_busy_it_is() {
        let worker = |name: &str, busy_permille| v1::WorkerStatus {
            worker: name.into(),
            flight_address: "h:1".into(),
            tasks: 2,
            busy_permille,
            clock_skew_ms: Some(-1_500),
            ..Default::default()
        };
        let text = workers_text(&[worker("w-1", Some(714)), worker("w-2", None)]);
        let expected = "\
WORKER  STATE  TASKS  BUSY  CLOCK   MEMORY  FLIGHT
w-1     ready  2      71 %  -1.5 s  0 B     h:1
w-2     ready  2      -     -1.5 s  0 B     h:1";
        assert_eq!(text, expected);
        assert_eq!(worker_json(&worker("w-1", Some(714)))["busy_permille"], 714);
        assert_eq!(
            worker_json(&worker("w-2", None))["busy_permille"],
            serde_json::Value::Null
        );
    }

    #[test]
    fn a_failed_job_shows_its_error_in_the_list() {
        let job = v1::JobStatus {
            state: v1::JobState::Failed.into(),
            error: "no such column".into(),
            ..status()
        };
        assert!(
            jobs_text(&[job], Paint::default())
                .ends_with("failed  7          100      95        2     1.2 s  no such column")
        );
    }
}
