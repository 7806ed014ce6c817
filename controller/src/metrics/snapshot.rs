//! Metrics that are read from a leading controller's core at a scrape.
//!
//! Rule: pure, and one pass over the core. A metric with many values is cut at a named limit, and
//! another metric counts the omitted ones.

use streamctl_core::Core;
use streamctl_engine::metrics::{Labels, METRIC_JOBS_MAX, METRIC_SHARDS_MAX, Metric, Sheet};
use streamctl_proto::{JobName, json, v1};

const JOBS: Metric = Metric::gauge("streamctl_jobs", &["state"], "Jobs in this state");
const STATE: Metric = Metric::gauge(
    "streamctl_job_state",
    &["job_name", "state"],
    "1 for the state that the job is in",
);
const WAITING: Metric = Metric::gauge(
    "streamctl_job_waiting",
    &["job_name"],
    "Things that the job waits for",
);
const COMMITTED: Metric = Metric::gauge(
    "streamctl_job_committed_epoch",
    &["job_name"],
    "The last committed epoch",
);
const PUBLISHED: Metric = Metric::gauge(
    "streamctl_job_published_epoch",
    &["job_name"],
    "The last published epoch",
);
const COMMIT_TIME: Metric = Metric::gauge(
    "streamctl_job_last_commit_timestamp_seconds",
    &["job_name"],
    "When the last epoch was committed, since the Unix epoch",
);
const LAG: Metric = Metric::gauge(
    "streamctl_job_lag_seconds",
    &["job_name"],
    "The farthest that any shard is behind the tip of the stream",
);
const WINDOW: Metric = Metric::gauge(
    "streamctl_job_window_seconds",
    &["job_name"],
    "The length of the job's windows",
);
const SHARDS: Metric = Metric::gauge(
    "streamctl_job_shards",
    &["job_name", "state"],
    "Shards that are `read`, `unread` (nobody has them), `ended`",
);
const REPLAYS: Metric = Metric::gauge(
    "streamctl_job_replays_waiting",
    &["job_name"],
    "Epochs whose dead letters are to be read again",
);
const ROWS_IN: Metric = Metric::counter(
    "streamctl_job_rows_in_total",
    &["job_name"],
    "Records read, since the job began",
);
const ROWS_OUT: Metric = Metric::counter(
    "streamctl_job_rows_out_total",
    &["job_name"],
    "Rows written, since the job began",
);
const ROWS_DEAD: Metric = Metric::counter(
    "streamctl_job_rows_dead_total",
    &["job_name"],
    "Records that became dead letters, since the job began",
);
const ROWS_FAILED: Metric = Metric::counter(
    "streamctl_job_rows_failed_total",
    &["job_name"],
    "Records that became dead letters because the query could not take them, since the job began",
);
const ROWS_FOREIGN: Metric = Metric::counter(
    "streamctl_job_rows_foreign_total",
    &["job_name"],
    "User records of KPL aggregates outside of their shard's hash range, since the job began",
);
const ROWS_REJECTED: Metric = Metric::counter(
    "streamctl_job_rows_rejected_total",
    &["job_name"],
    "Rows whose partition cannot be the name of a folder, or with a value that its column's type \
     in files cannot hold, since the job began",
);
const ROWS_UNMATCHED: Metric = Metric::counter(
    "streamctl_job_rows_unmatched_total",
    &["job_name"],
    "Rows without a partner in a lookup, since the job began",
);
const ROWS_LATE: Metric = Metric::counter(
    "streamctl_job_rows_late_total",
    &["job_name"],
    "Records whose window is not that of their arrival, since the job began",
);
const ROWS_WITHOUT_ARRIVAL: Metric = Metric::counter(
    "streamctl_job_rows_without_arrival_total",
    &["job_name"],
    "Records without a usable arrival time of their own, since the job began",
);
const VALUES_NULL: Metric = Metric::counter(
    "streamctl_job_values_null_total",
    &["job_name"],
    "Values that did not fit their column and became null, since the job began",
);
const BYTES_IN: Metric = Metric::counter(
    "streamctl_job_bytes_in_total",
    &["job_name"],
    "Bytes of the records read, since the job began",
);
const RETRIES: Metric = Metric::counter(
    "streamctl_job_retries_total",
    &["job_name"],
    "Tasks that failed and were given out again",
);
const AVOIDED: Metric = Metric::gauge(
    "streamctl_job_avoided_workers",
    &["job_name"],
    "Workers that the job avoids: what it needs refuses them, or does not answer them",
);
const SHARD_LAG: Metric = Metric::gauge(
    "streamctl_shard_lag_seconds",
    &["job_name", "shard"],
    "How far the shard is behind its tip",
);
const SHARD_RECORDS: Metric = Metric::counter(
    "streamctl_shard_records_total",
    &["job_name", "shard"],
    "Records read, since its task began",
);
const SHARD_BYTES: Metric = Metric::counter(
    "streamctl_shard_bytes_total",
    &["job_name", "shard"],
    "Bytes read, since its task began",
);
const SHARD_THROTTLES: Metric = Metric::counter(
    "streamctl_shard_throttles_total",
    &["job_name", "shard"],
    "Times the source asked to slow down, since its task began",
);
const SHARDS_LEFT_OUT: Metric = Metric::gauge(
    "streamctl_shard_series_omitted",
    &["job_name"],
    "Shards without figures of their own, because there are too many",
);
const LOOKUP_ROWS: Metric = Metric::gauge(
    "streamctl_lookup_rows",
    &["job_name", "lookup"],
    "Rows of the version in use",
);
const LOOKUP_SEEN: Metric = Metric::gauge(
    "streamctl_lookup_seen_timestamp_seconds",
    &["job_name", "lookup"],
    "When this version was last seen to be the newest, since the Unix epoch",
);
const LOOKUP_PROBLEM: Metric = Metric::gauge(
    "streamctl_lookup_problem",
    &["job_name", "lookup"],
    "1 while a newer version cannot be used",
);
const LOOKUP_DUPLICATES: Metric = Metric::gauge(
    "streamctl_lookup_duplicate_rows",
    &["job_name", "lookup"],
    "Rows of the version in use whose key another one has: a record with it becomes several rows",
);
const WORKERS: Metric = Metric::gauge(
    "streamctl_workers",
    &["state"],
    "Workers with a session: `ready`, `leaving`",
);
const WORKERS_DESIRED: Metric = Metric::gauge(
    "streamctl_workers_desired",
    &[],
    "How many workers there should be, for an autoscaler; absent in the first seconds of a leader",
);

/// Metrics that only a leader reports, as the documentation lists them.
pub const METRICS: &[Metric] = &[
    JOBS,
    STATE,
    WAITING,
    COMMITTED,
    PUBLISHED,
    COMMIT_TIME,
    LAG,
    WINDOW,
    SHARDS,
    REPLAYS,
    ROWS_IN,
    ROWS_OUT,
    ROWS_DEAD,
    ROWS_FAILED,
    ROWS_FOREIGN,
    ROWS_REJECTED,
    ROWS_UNMATCHED,
    ROWS_LATE,
    ROWS_WITHOUT_ARRIVAL,
    VALUES_NULL,
    BYTES_IN,
    RETRIES,
    AVOIDED,
    SHARD_LAG,
    SHARD_RECORDS,
    SHARD_BYTES,
    SHARD_THROTTLES,
    SHARDS_LEFT_OUT,
    LOOKUP_ROWS,
    LOOKUP_SEEN,
    LOOKUP_PROBLEM,
    LOOKUP_DUPLICATES,
    WORKERS,
    WORKERS_DESIRED,
];

const STATES: [v1::JobState; 7] = [
    v1::JobState::Starting,
    v1::JobState::Running,
    v1::JobState::Waiting,
    v1::JobState::Draining,
    v1::JobState::Stopped,
    v1::JobState::Completed,
    v1::JobState::Failed,
];

struct JobFigures {
    status: v1::JobStatus,
    window_ms: i64,
    unread: u32,
    replays: usize,
    shards_left_out: usize,
}

pub struct Snapshot {
    jobs: Vec<JobFigures>,
    states: [usize; STATES.len()],
    workers: Vec<v1::WorkerStatus>,
    workers_desired: Option<u32>,
}

impl Snapshot {
    /// The metrics of a core, as it is now.
    pub fn of(core: &Core) -> Self {
        let mut states = [0; STATES.len()];
        let mut jobs = vec![];
        for name in core.jobs.keys() {
            let Some(status) = core.status(name, true) else {
                continue;
            };
            if let Some(index) = STATES.iter().position(|state| *state == status.state()) {
                states[index] += 1;
            }
            if jobs.len() < METRIC_JOBS_MAX {
                jobs.extend(figures(core, name, status));
            }
        }
        Self {
            jobs,
            states,
            workers: core.worker_status(),
            workers_desired: core.scaling.desired(),
        }
    }

    pub fn sheet(&self, sheet: &mut Sheet) {
        let word = |state: v1::JobState| {
            json::state(&v1::JobStatus {
                state: state.into(),
                ..Default::default()
            })
        };
        let states = STATES.iter().zip(self.states);
        sheet.gauges(
            &JOBS,
            states.map(|(state, jobs)| (JOBS.with([word(*state)]), jobs as f64)),
        );
        let leaving = self.workers.iter().filter(|worker| worker.leaving).count();
        let workers = [
            ("ready", self.workers.len() - leaving),
            ("leaving", leaving),
        ];
        sheet.gauges(
            &WORKERS,
            workers.map(|(state, count)| (WORKERS.with([state]), count as f64)),
        );
        if let Some(workers) = self.workers_desired {
            sheet.gauge(&WORKERS_DESIRED, workers.into());
        }
        let of_states = |job: &JobFigures| {
            let name = job.status.job.clone();
            let now = job.status.state();
            STATES.map(|state| {
                (
                    STATE.with([&name, word(state)]),
                    f64::from(u8::from(state == now)),
                )
            })
        };
        sheet.gauges(&STATE, self.jobs.iter().flat_map(of_states));
        self.job_gauges(sheet);
        self.job_sums(sheet);
        self.shards(sheet);
        self.lookups(sheet);
    }

    fn job_gauges(&self, sheet: &mut Sheet) {
        type Figure = (&'static Metric, fn(&JobFigures) -> f64);
        let gauges: [Figure; 9] = [
            (&WAITING, |job| job.status.waiting_on.len() as f64),
            (&COMMITTED, |job| job.status.epoch as f64),
            (&PUBLISHED, |job| job.status.published as f64),
            (&COMMIT_TIME, |job| {
                seconds(
                    job.status
                        .last_epoch
                        .as_ref()
                        .map_or(0, |epoch| epoch.committed_ms),
                )
            }),
            // The lag of a job that was stopped is no reason for an alert.
            (&LAG, |job| match has_ended(&job.status) {
                true => 0.0,
                false => job.status.lag_ms as f64 / 1_000.0,
            }),
            (&WINDOW, |job| seconds(job.window_ms)),
            (&REPLAYS, |job| job.replays as f64),
            (&AVOIDED, |job| job.status.avoided.len() as f64),
            (&SHARDS_LEFT_OUT, |job| job.shards_left_out as f64),
        ];
        for (metric, value) in gauges {
            sheet.gauges(
                metric,
                self.jobs
                    .iter()
                    .map(|job| (metric.with([&job.status.job]), value(job))),
            );
        }
        let of_shards = |job: &JobFigures| {
            let read = job.status.shards_open.saturating_sub(job.unread);
            let counts = [
                ("read", read),
                ("unread", job.unread),
                ("ended", job.status.shards_ended),
            ];
            counts.map(|(state, count)| (SHARDS.with([&job.status.job, state]), f64::from(count)))
        };
        sheet.gauges(&SHARDS, self.jobs.iter().flat_map(of_shards));
    }

    fn job_sums(&self, sheet: &mut Sheet) {
        type Figure = (&'static Metric, fn(&v1::JobStatus) -> u64);
        let sums: [Figure; 12] = [
            (&ROWS_IN, |job| {
                job.totals.map_or(0, |totals| totals.rows_in)
            }),
            (&ROWS_OUT, |job| {
                job.totals.map_or(0, |totals| totals.rows_out)
            }),
            (&ROWS_DEAD, |job| {
                job.totals.map_or(0, |totals| totals.rows_dead)
            }),
            (&ROWS_FAILED, |job| {
                job.totals.map_or(0, |totals| totals.rows_failed)
            }),
            (&ROWS_FOREIGN, |job| {
                job.totals
                    .and_then(|totals| totals.rows_foreign)
                    .unwrap_or_default()
            }),
            (&ROWS_REJECTED, |job| {
                job.totals.map_or(0, |totals| totals.rows_rejected)
            }),
            (&ROWS_UNMATCHED, |job| {
                job.totals.map_or(0, |totals| totals.rows_unmatched)
            }),
            (&ROWS_LATE, |job| {
                job.totals.map_or(0, |totals| totals.rows_late)
            }),
            (&ROWS_WITHOUT_ARRIVAL, |job| {
                job.totals.map_or(0, |totals| totals.rows_without_arrival)
            }),
            (&VALUES_NULL, |job| {
                job.totals.map_or(0, |totals| totals.values_null)
            }),
            (&BYTES_IN, |job| {
                job.totals.map_or(0, |totals| totals.bytes_in)
            }),
            (&RETRIES, |job| job.retries),
        ];
        for (metric, value) in sums {
            let samples = self
                .jobs
                .iter()
                .map(|job| (metric.with([&job.status.job]), value(&job.status) as f64));
            sheet.sums(metric, samples);
        }
    }

    fn shards(&self, sheet: &mut Sheet) {
        let each =
            |metric: &'static Metric, value: fn(&v1::ShardStatus) -> f64| -> Vec<(Labels, f64)> {
                let of_job = |job: &JobFigures| -> Vec<(Labels, f64)> {
                    let name = &job.status.job;
                    job.status
                        .shards
                        .iter()
                        .map(|shard| (metric.with([name, &shard.shard]), value(shard)))
                        .collect()
                };
                self.jobs.iter().flat_map(of_job).collect()
            };
        sheet.gauges(
            &SHARD_LAG,
            each(&SHARD_LAG, |shard| shard.lag_ms as f64 / 1_000.0),
        );
        sheet.sums(
            &SHARD_RECORDS,
            each(&SHARD_RECORDS, |shard| shard.records.unwrap_or(0) as f64),
        );
        sheet.sums(
            &SHARD_BYTES,
            each(&SHARD_BYTES, |shard| shard.bytes.unwrap_or(0) as f64),
        );
        sheet.sums(
            &SHARD_THROTTLES,
            each(&SHARD_THROTTLES, |shard| shard.throttles as f64),
        );
    }

    fn lookups(&self, sheet: &mut Sheet) {
        type Figure = (&'static Metric, fn(&v1::LookupStatus) -> f64);
        let gauges: [Figure; 4] = [
            (&LOOKUP_ROWS, |lookup| lookup.rows as f64),
            (&LOOKUP_SEEN, |lookup| seconds(lookup.seen_ms)),
            (&LOOKUP_PROBLEM, |lookup| {
                f64::from(u8::from(!lookup.problem.is_empty()))
            }),
            (&LOOKUP_DUPLICATES, |lookup| lookup.duplicate_rows as f64),
        ];
        for (metric, value) in gauges {
            let of_job = |job: &JobFigures| -> Vec<(Labels, f64)> {
                let name = &job.status.job;
                job.status
                    .lookups
                    .iter()
                    .map(|lookup| (metric.with([name, &lookup.name]), value(lookup)))
                    .collect()
            };
            sheet.gauges(metric, self.jobs.iter().flat_map(of_job));
        }
    }
}

fn figures(core: &Core, name: &JobName, mut status: v1::JobStatus) -> Option<JobFigures> {
    let job = core.jobs.get(name)?;
    let open = || job.shards.iter().filter(|(_, shard)| !shard.done());
    let shown = open()
        .take(METRIC_SHARDS_MAX)
        .map(|(id, shard)| v1::ShardStatus {
            shard: id.to_string(),
            lag_ms: shard.stats.lag_ms,
            records: Some(shard.stats.records),
            bytes: Some(shard.stats.bytes),
            throttles: shard.stats.throttles,
            ..Default::default()
        });
    status.shards = shown.collect();
    let shards_left_out = open().count() - status.shards.len();
    let unread =
        u32::try_from(open().filter(|(_, shard)| shard.task.is_none()).count()).unwrap_or(u32::MAX);
    let replays = job.replays.now.wanted.len();
    Some(JobFigures {
        window_ms: job.resolved.spec.window.ms(),
        unread,
        replays,
        shards_left_out,
        status,
    })
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

fn has_ended(status: &v1::JobStatus) -> bool {
    use v1::JobState::{Completed, Failed, Stopped};
    matches!(status.state(), Completed | Failed | Stopped)
}
