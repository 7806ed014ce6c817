//! The metrics of a worker for Prometheus, and the destination of its spans.
//!
//! Owns: the table of the worker's metrics, the sums. Does not own: the output format
//! (`streamctl_engine::metrics`).
//! Rule: counting never waits and never fails; labels are jobs and stages, never records or keys.

use crate::busy::Tasks;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use streamctl_engine::metrics::{Counters, METRIC_JOBS_MAX, Metric, Sheet, stages_named};
use streamctl_engine::source::{Chunk, ReaderStats};
use streamctl_engine::traces::Traces;
use streamctl_proto::JobName;
use streamctl_proto::report::StageTimes;

/// Jobs beyond [`METRIC_JOBS_MAX`] are counted together under this name, which no job can have.
const OTHERS: &str = "(others)";

const INFO: Metric = Metric::gauge(
    "streamctl_worker_info",
    &["version"],
    "1; the program's version is the label",
);
const CONNECTED: Metric = Metric::gauge(
    "streamctl_worker_connected",
    &[],
    "1 while there is a session with the leader",
);
const TASKS: Metric = Metric::gauge("streamctl_worker_tasks", &[], "Tasks that run");
const OPEN_WINDOWS: Metric = Metric::gauge(
    "streamctl_worker_open_windows",
    &[],
    "Windows that are open or being finished, of all tasks",
);
const BUSY: Metric = Metric::gauge(
    "streamctl_worker_busy_ratio",
    &[],
    "How busy the worker was in the last half second; 1 when what bounds it had no time left",
);
const MEMORY: Metric = Metric::gauge(
    "streamctl_worker_memory_bytes",
    &[],
    "Resident memory of the process",
);
const CLOCK_SKEW: Metric = Metric::gauge(
    "streamctl_worker_clock_skew_seconds",
    &[],
    "How far this machine's clock is ahead of that of its sources, at least; negative: behind; 0: not known to differ",
);
const RECORDS: Metric = Metric::counter(
    "streamctl_worker_records_read_total",
    &["job_name"],
    "Records read from the source",
);
const BYTES: Metric = Metric::counter(
    "streamctl_worker_bytes_read_total",
    &["job_name"],
    "Bytes of their payloads",
);
const READS: Metric = Metric::counter(
    "streamctl_worker_reads_total",
    &["job_name"],
    "Answers of the source, empty ones included",
);
const CALLS: Metric = Metric::counter(
    "streamctl_worker_kinesis_calls_total",
    &["job_name"],
    "Calls of GetRecords, GetShardIterator and SubscribeToShard",
);
const SUBSCRIPTIONS: Metric = Metric::counter(
    "streamctl_worker_kinesis_subscriptions_total",
    &["job_name"],
    "Subscriptions of enhanced fan-out that were granted; one of a shard lasts five minutes",
);
const THROTTLES: Metric = Metric::counter(
    "streamctl_worker_throttles_total",
    &["job_name"],
    "Times the source asked to slow down",
);
const RENEWALS: Metric = Metric::counter(
    "streamctl_worker_iterator_renewals_total",
    &["job_name"],
    "Iterators that had to be made again",
);
const LOSSES: Metric = Metric::counter(
    "streamctl_worker_data_losses_total",
    &["job_name"],
    "Times that records were gone before they could be read (`on_data_loss = \"continue\"`)",
);
const DECODE_ERRORS: Metric = Metric::counter(
    "streamctl_worker_decode_errors_total",
    &["job_name"],
    "Records that became dead letters",
);
const ROWS_OUT: Metric = Metric::counter(
    "streamctl_worker_rows_out_total",
    &["job_name"],
    "Rows staged",
);
const WINDOWS: Metric = Metric::counter(
    "streamctl_worker_windows_total",
    &["job_name"],
    "Windows reported",
);
const STAGES: Metric = Metric::counter(
    "streamctl_worker_stage_seconds_total",
    &["job_name", "stage"],
    "Time spent per stage of windows",
);
const FAILURES: Metric = Metric::counter(
    "streamctl_worker_task_failures_total",
    &["job_name", "why"],
    "Tasks that ended with an error",
);

/// The worker's metrics, as the documentation lists them.
pub const METRICS: &[Metric] = &[
    INFO,
    CONNECTED,
    TASKS,
    OPEN_WINDOWS,
    BUSY,
    MEMORY,
    CLOCK_SKEW,
    RECORDS,
    BYTES,
    READS,
    CALLS,
    SUBSCRIPTIONS,
    THROTTLES,
    RENEWALS,
    LOSSES,
    DECODE_ERRORS,
    ROWS_OUT,
    WINDOWS,
    STAGES,
    FAILURES,
];

/// A larger skew is logged as a warning: far more than NTP leaves, and more than a window's grace.
const CLOCK_SKEW_WARN_MS: i64 = 2_000;

#[derive(Default)]
struct Sums {
    connected: AtomicBool,
    tasks: AtomicI64,
    windows_open: AtomicI64,
    memory_bytes: AtomicU64,
    busy_permille: AtomicU64,
    /// `None`: no source has reported its time.
    clock_skew_ms: Mutex<Option<i64>>,
    jobs: Mutex<BTreeSet<JobName>>,
    records: Counters,
    bytes: Counters,
    reads: Counters,
    calls: Counters,
    subscriptions: Counters,
    throttles: Counters,
    renewals: Counters,
    losses: Counters,
    decode_errors: Counters,
    rows_out: Counters,
    windows: Counters,
    stages: Counters,
    failures: Counters,
}

/// Counts; clones share the sums.
#[derive(Clone, Default)]
pub struct Meter {
    sums: Arc<Sums>,
    pub traces: Traces,
    /// The tasks whose work is counted.
    pub work: Tasks,
}

/// Counts one of something while it is held.
pub struct Held(Arc<Sums>, fn(&Sums) -> &AtomicI64);

impl Drop for Held {
    fn drop(&mut self) {
        (self.1)(&self.0).fetch_sub(1, Ordering::Relaxed);
    }
}

impl Meter {
    /// Sends spans to `traces`.
    pub fn tracing(traces: Traces) -> Self {
        Self {
            traces,
            ..Self::default()
        }
    }

    /// Whether there is a session with the leader.
    pub fn connected(&self) -> bool {
        self.sums.connected.load(Ordering::Relaxed)
    }

    /// Sets whether there is a session with the leader.
    pub fn set_connected(&self, connected: bool) {
        self.sums.connected.store(connected, Ordering::Relaxed);
    }

    /// Sets the memory use of the process.
    pub fn set_memory(&self, bytes: u64) {
        self.sums.memory_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Sets how busy the worker was, in thousandths.
    pub fn set_busy(&self, permille: u32) {
        self.sums
            .busy_permille
            .store(permille.into(), Ordering::Relaxed);
    }

    /// Counts a running task of this job until this is dropped.
    pub fn task(&self, job: &JobName) -> Held {
        let job = self.label(job);
        for why in ["retry", "wait", "refused", "fatal"] {
            // Create the counter now, so that the first failure is an increase.
            drop(
                self.sums
                    .failures
                    .get_or_create(&FAILURES.with([&job, why])),
            );
        }
        self.held(|sums| &sums.tasks)
    }

    /// Counts an open window until this is dropped.
    pub fn window(&self) -> Held {
        self.held(|sums| &sums.windows_open)
    }

    fn held(&self, which: fn(&Sums) -> &AtomicI64) -> Held {
        which(&self.sums).fetch_add(1, Ordering::Relaxed);
        Held(Arc::clone(&self.sums), which)
    }

    /// Counts a chunk of a reader; `before` is what the reader had counted until then.
    pub fn read(&self, job: &JobName, chunk: &Chunk, before: &ReaderStats, after: &ReaderStats) {
        let sums = &self.sums;
        let job = self.label(job);
        let bytes: usize = chunk.records.iter().map(|record| record.data.len()).sum();
        add(&sums.reads, &READS, &job, 1);
        add(&sums.records, &RECORDS, &job, chunk.records.len() as u64);
        add(&sums.bytes, &BYTES, &job, bytes as u64);
        add(
            &sums.calls,
            &CALLS,
            &job,
            after.calls.saturating_sub(before.calls),
        );
        add(
            &sums.subscriptions,
            &SUBSCRIPTIONS,
            &job,
            after.subscriptions.saturating_sub(before.subscriptions),
        );
        add(
            &sums.throttles,
            &THROTTLES,
            &job,
            after.throttles.saturating_sub(before.throttles),
        );
        add(
            &sums.renewals,
            &RENEWALS,
            &job,
            after
                .iterator_renewals
                .saturating_sub(before.iterator_renewals),
        );
        add(
            &sums.losses,
            &LOSSES,
            &job,
            after.data_losses.saturating_sub(before.data_losses),
        );
        if let Some(skew_ms) = after.clock_skew_ms {
            self.set_clock_skew(skew_ms);
        }
    }

    /// Records the time that a source reported. Warns once of a wrong clock, until it is right
    /// again.
    fn set_clock_skew(&self, skew_ms: i64) {
        let before_ms = self.skew().replace(skew_ms);
        let is_wrong = |skew_ms: i64| skew_ms.saturating_abs() >= CLOCK_SKEW_WARN_MS;
        if is_wrong(skew_ms) && !before_ms.is_some_and(is_wrong) {
            tracing::warn!(
                skew_ms,
                "this machine's clock differs from the source's: windows are cut by the source's clock, and close late where \
                 this one is behind; set it by NTP"
            );
        }
    }

    /// How far this machine's clock is ahead of that of its sources, at least; `None` if unknown.
    pub fn clock_skew_ms(&self) -> Option<i64> {
        *self.skew()
    }

    fn skew(&self) -> MutexGuard<'_, Option<i64>> {
        self.sums
            .clock_skew_ms
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub fn reported(&self, job: &JobName, rows_dead: u64, rows_out: u64, stages: &StageTimes) {
        let sums = &self.sums;
        let job = self.label(job);
        add(&sums.windows, &WINDOWS, &job, 1);
        add(&sums.decode_errors, &DECODE_ERRORS, &job, rows_dead);
        add(&sums.rows_out, &ROWS_OUT, &job, rows_out);
        for (stage, micros) in stages_named(stages) {
            sums.stages
                .get_or_create(&STAGES.with([&job, stage]))
                .inc_by(micros as f64 / 1e6);
        }
    }

    /// A task ended with an error.
    pub fn failed(&self, job: &JobName, why: &str) {
        self.sums
            .failures
            .get_or_create(&FAILURES.with([&self.label(job), why]))
            .inc();
    }

    /// The job's name, unless there are too many jobs.
    fn label(&self, job: &JobName) -> String {
        let mut jobs = self
            .sums
            .jobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !jobs.contains(job) {
            if jobs.len() >= METRIC_JOBS_MAX {
                return OTHERS.to_owned();
            }
            jobs.insert(job.clone());
        }
        job.to_string()
    }

    pub fn sheet(&self, sheet: &mut Sheet) {
        let sums = &self.sums;
        let held = |which: &AtomicI64| which.load(Ordering::Relaxed) as f64;
        sheet.gauges(&INFO, [(INFO.with([env!("CARGO_PKG_VERSION")]), 1.0)]);
        sheet.gauge(&CONNECTED, f64::from(u8::from(self.connected())));
        sheet.gauge(&TASKS, held(&sums.tasks));
        sheet.gauge(&OPEN_WINDOWS, held(&sums.windows_open));
        sheet.gauge(
            &CLOCK_SKEW,
            self.clock_skew_ms().unwrap_or(0) as f64 / 1_000.0,
        );
        sheet.gauge(
            &BUSY,
            sums.busy_permille.load(Ordering::Relaxed) as f64 / 1_000.0,
        );
        sheet.gauge(&MEMORY, sums.memory_bytes.load(Ordering::Relaxed) as f64);
        let counters: [(&Metric, &Counters); 13] = [
            (&RECORDS, &sums.records),
            (&BYTES, &sums.bytes),
            (&READS, &sums.reads),
            (&CALLS, &sums.calls),
            (&SUBSCRIPTIONS, &sums.subscriptions),
            (&THROTTLES, &sums.throttles),
            (&RENEWALS, &sums.renewals),
            (&LOSSES, &sums.losses),
            (&DECODE_ERRORS, &sums.decode_errors),
            (&ROWS_OUT, &sums.rows_out),
            (&WINDOWS, &sums.windows),
            (&STAGES, &sums.stages),
            (&FAILURES, &sums.failures),
        ];
        for (metric, family) in counters {
            sheet.counters(metric, family);
        }
    }
}

fn add(counters: &Counters, metric: &Metric, job: &str, more: u64) {
    counters
        .get_or_create(&metric.with([job]))
        .inc_by(more as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(meter: &Meter) -> String {
        let mut sheet = Sheet::default();
        meter.sheet(&mut sheet);
        sheet.text()
    }

    #[test]
    fn reads_count_what_a_reader_counted_since_the_read_before() {
        let meter = Meter::default();
        let job = "sales".parse().unwrap();
        let stats = |calls, throttles| ReaderStats {
            calls,
            throttles,
            ..ReaderStats::default()
        };
        meter.read(&job, &Chunk::default(), &stats(0, 0), &stats(3, 1));
        meter.read(&job, &Chunk::default(), &stats(3, 1), &stats(4, 1));
        let text = text(&meter);
        assert!(
            text.contains("streamctl_worker_kinesis_calls_total{job_name=\"sales\"} 4.0\n"),
            "{text}"
        );
        assert!(
            text.contains("streamctl_worker_throttles_total{job_name=\"sales\"} 1.0\n"),
            "{text}"
        );
        assert!(
            text.contains("streamctl_worker_reads_total{job_name=\"sales\"} 2.0\n"),
            "{text}"
        );
    }

    #[test]
    fn too_many_jobs_are_counted_together() {
        let meter = Meter::default();
        for n in 0..METRIC_JOBS_MAX + 7 {
            meter.failed(&format!("job-{n}").parse().unwrap(), "retry");
        }
        let text = text(&meter);
        assert!(text.contains(
            "streamctl_worker_task_failures_total{job_name=\"(others)\",why=\"retry\"} 7.0\n"
        ));
        assert_eq!(
            text.matches("streamctl_worker_task_failures_total{")
                .count(),
            METRIC_JOBS_MAX + 1
        );
    }

    #[test]
    fn what_is_held_counts_until_it_is_dropped() {
        let meter = Meter::default();
        let first = meter.window();
        let second = meter.window();
        assert!(text(&meter).contains("streamctl_worker_open_windows 2.0\n"));
        drop((first, second));
        assert!(text(&meter).contains("streamctl_worker_open_windows 0.0\n"));
    }
}
