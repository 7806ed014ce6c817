//! Metrics of a controller for Prometheus, and its spans.
//!
//! Owns: the table of the controller's metrics, the state between two scrapes. Does not own: what
//! is read from the core at a scrape ([`snapshot`]), the text format (`streamctl_engine::metrics`).
//! Rule: counting never waits and never fails. Only the leader reports what it knows, so that two
//! controllers never report conflicting values.

pub mod snapshot;

use crate::leading::{Leader, Who};
use crate::sink::compact::Compacted;
use snapshot::Snapshot;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use streamctl_core::{Effect, EffectKind};
use streamctl_engine::metrics::{
    Counters, Histograms, METRIC_JOBS_MAX, Metric, Sheet, histograms, stages_named, waits_named,
};
use streamctl_engine::traces::{Place, Span, Traces, WindowTrace, now};
use streamctl_proto::{JobName, Manifest, Window};

/// Windows whose opening time is kept for their trace; the trace of others begins with the
/// manifest.
const OPENINGS_MAX: usize = 4_096;
/// Jobs beyond [`METRIC_JOBS_MAX`] are counted together under this name, which is not a valid job
/// name.
const OTHERS: &str = "(others)";

const INFO: Metric = Metric::gauge(
    "streamctl_controller_info",
    &["version"],
    "1; the program's version is the label",
);
const LEADER: Metric = Metric::gauge("streamctl_leader", &[], "1 while this controller leads");
const TERM: Metric = Metric::gauge(
    "streamctl_term",
    &[],
    "The term in which it leads; 0 while it stands by",
);
const EFFECTS: Metric = Metric::histogram(
    "streamctl_effect_seconds",
    &["effect"],
    "Time of one try of what the core wants done: `write manifest`, `commit`, `publish` ...",
);
const FAILURES: Metric = Metric::counter(
    "streamctl_effect_failures_total",
    &["effect", "service"],
    "Tries that failed and are done again, by the service that failed: `store`, `checkpoint`, \
     `sink`, `source`, `lookup`",
);
const COMMIT_DELAY: Metric = Metric::histogram(
    "streamctl_commit_delay_seconds",
    &["job_name"],
    "From the end of a window to the commit of its epoch",
);
const PUBLISH_DELAY: Metric = Metric::histogram(
    "streamctl_publish_delay_seconds",
    &["job_name"],
    "From the end of a window to its rows being visible",
);
const WAITS: Metric = Metric::histogram(
    "streamctl_window_wait_seconds",
    &["job_name", "stage"],
    "What each window waited for after its end, stage after stage: `read`, `decode`, `transform`, \
     `stage`, `report`, `commit and publish`",
);
const OBJECTS: Metric = Metric::counter(
    "streamctl_published_objects_total",
    &["job_name"],
    "Objects made visible",
);
const OUT_BYTES: Metric = Metric::counter(
    "streamctl_published_bytes_total",
    &["job_name"],
    "Bytes of these objects",
);
const STAGES: Metric = Metric::counter(
    "streamctl_stage_seconds_total",
    &["job_name", "stage"],
    "Time that workers spent per stage of the windows that were published",
);

const TRIMMED: Metric = Metric::counter(
    "streamctl_history_removed_total",
    &[],
    "Manifests, notes and versions removed because they are older than `keep`",
);

const REWRITINGS: Metric = Metric::counter(
    "streamctl_rewritings_total",
    &["job_name", "outcome"],
    "Rewritings of small files of a table: `done`; or a look that ended early: `failed`, `gave_up`, `refused`, `deletes`, `error`",
);
const REWRITTEN_FILES: Metric = Metric::counter(
    "streamctl_rewritten_files_total",
    &["job_name", "side"],
    "Files of these rewritings: `before` and `after`; and `deleted`, those that no snapshot shows any more",
);
const REWRITTEN_BYTES: Metric = Metric::counter(
    "streamctl_rewritten_bytes_total",
    &["job_name"],
    "Bytes of the files before",
);

/// Metrics that a controller counts, as the documentation lists them; [`snapshot::METRICS`] are the
/// others.
pub const METRICS: &[Metric] = &[
    INFO,
    LEADER,
    TERM,
    EFFECTS,
    FAILURES,
    COMMIT_DELAY,
    PUBLISH_DELAY,
    WAITS,
    OBJECTS,
    OUT_BYTES,
    STAGES,
    TRIMMED,
    REWRITINGS,
    REWRITTEN_FILES,
    REWRITTEN_BYTES,
];

struct Sums {
    effects: Histograms,
    failures: Counters,
    commit_delay: Histograms,
    publish_delay: Histograms,
    waits: Histograms,
    objects: Counters,
    out_bytes: Counters,
    stages: Counters,
    trimmed: Counters,
    rewritings: Counters,
    rewritten_files: Counters,
    rewritten_bytes: Counters,
    jobs: Mutex<std::collections::BTreeSet<JobName>>,
    opened: Mutex<BTreeMap<(JobName, Window), SystemTime>>,
}

/// The counters; clones share them.
#[derive(Clone)]
pub struct Metrics {
    sums: Arc<Sums>,
    pub traces: Traces,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::tracing(Traces::default())
    }
}

impl Metrics {
    /// Metrics that also send spans to `traces`.
    pub fn tracing(traces: Traces) -> Self {
        let sums = Sums {
            effects: histograms(),
            failures: Counters::default(),
            commit_delay: histograms(),
            publish_delay: histograms(),
            waits: histograms(),
            objects: Counters::default(),
            out_bytes: Counters::default(),
            stages: Counters::default(),
            trimmed: Counters::default(),
            rewritings: Counters::default(),
            rewritten_files: Counters::default(),
            rewritten_bytes: Counters::default(),
            jobs: Mutex::default(),
            opened: Mutex::default(),
        };
        for kind in EffectKind::ALL {
            // Created at the start, so that the first failure is an increase.
            drop(
                sums.failures
                    .get_or_create(&FAILURES.with([kind.label(), kind.service()])),
            );
        }
        drop(sums.trimmed.get_or_create(&TRIMMED.with([])));
        Self {
            sums: Arc::new(sums),
            traces,
        }
    }

    /// One attempt of an effect has ended.
    pub fn tried(&self, kind: EffectKind, took: Duration) {
        self.sums
            .effects
            .get_or_create(&EFFECTS.with([kind.label()]))
            .observe(took.as_secs_f64());
    }

    /// An attempt failed, and the effect is retried.
    pub fn failed(&self, kind: EffectKind) {
        self.sums
            .failures
            .get_or_create(&FAILURES.with([kind.label(), kind.service()]))
            .inc();
    }

    /// Objects of old history were removed.
    pub fn trimmed(&self, objects: usize) {
        let removed = self.sums.trimmed.get_or_create(&TRIMMED.with([]));
        removed.inc_by(objects as f64);
    }

    /// A job's turn to rewrite small files has ended.
    pub fn compacted(&self, job: &JobName, turn: &Result<Compacted, String>) {
        let sums = &self.sums;
        let job = self.label(job);
        let outcome = |outcome: &str, count: u64| {
            let counter = sums
                .rewritings
                .get_or_create(&REWRITINGS.with([&job, outcome]));
            counter.inc_by(count as f64);
        };
        let done = match turn {
            Ok(done) => done,
            Err(_) => return outcome("error", 1),
        };
        outcome("done", done.rewritings);
        if let Some(left) = &done.left {
            outcome(left.reason(), 1);
        }
        for (side, files) in [
            ("before", done.files_before),
            ("after", done.files_after),
            ("deleted", done.deleted),
        ] {
            sums.rewritten_files
                .get_or_create(&REWRITTEN_FILES.with([&job, side]))
                .inc_by(files as f64);
        }
        sums.rewritten_bytes
            .get_or_create(&REWRITTEN_BYTES.with([&job]))
            .inc_by(done.bytes as f64);
    }

    /// A task opened a window; only the first one counts.
    pub fn opened(&self, job: &JobName, window: Window) {
        if !self.traces.is_on() {
            return;
        }
        let mut opened = self
            .sums
            .opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        opened.entry((job.clone(), window)).or_insert_with(now);
        if opened.len() > OPENINGS_MAX {
            opened.pop_first();
        }
    }

    /// An epoch is in the store, at this time by the controller's clock.
    pub fn committed(&self, job: &JobName, window: Window, now_ms: i64) {
        let delay = self
            .sums
            .commit_delay
            .get_or_create(&COMMIT_DELAY.with([&self.label(job)]));
        delay.observe(seconds(now_ms - window.end_ms));
    }

    /// An epoch is visible.
    pub fn published(&self, manifest: &Manifest, now_ms: i64) {
        let sums = &self.sums;
        let job = self.label(&manifest.job);
        let delay = sums
            .publish_delay
            .get_or_create(&PUBLISH_DELAY.with([&job]));
        delay.observe(seconds(now_ms - manifest.window.end_ms));
        let last = (
            "commit and publish",
            u64::try_from(now_ms - manifest.created_ms)
                .unwrap_or(0)
                .saturating_mul(1_000),
        );
        for (stage, micros) in waits_named(&manifest.stages).chain([last]) {
            sums.waits
                .get_or_create(&WAITS.with([&job, stage]))
                .observe(micros as f64 / 1e6);
        }
        let bytes: u64 = manifest
            .objects
            .iter()
            .map(|object| object.staged.size)
            .sum();
        sums.objects
            .get_or_create(&OBJECTS.with([&job]))
            .inc_by(manifest.objects.len() as f64);
        sums.out_bytes
            .get_or_create(&OUT_BYTES.with([&job]))
            .inc_by(bytes as f64);
        for (stage, micros) in stages_named(&manifest.stages) {
            sums.stages
                .get_or_create(&STAGES.with([&job, stage]))
                .inc_by(micros as f64 / 1e6);
        }
    }

    /// The span of an effect of an epoch.
    pub fn span(
        &self,
        trace: WindowTrace,
        name: &'static str,
        begin: SystemTime,
        error: Option<String>,
    ) {
        if self.traces.is_on() {
            let span = Span::new(trace, Place::Below, name, begin, now());
            self.traces.record(Span { error, ..span });
        }
    }

    /// The parent span of all others of an epoch, once the epoch is visible.
    pub fn epoch_span(&self, trace: WindowTrace, manifest: &Manifest, begin: SystemTime) {
        if !self.traces.is_on() {
            return;
        }
        let key = (manifest.job.clone(), manifest.window);
        let opened = self
            .sums
            .opened
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&key);
        let span = Span::new(
            trace,
            Place::Root,
            "epoch",
            opened.unwrap_or(begin).min(begin),
            now(),
        )
        .with("streamctl.job", manifest.job.to_string())
        .with(
            "streamctl.epoch",
            i64::try_from(manifest.epoch.0).unwrap_or(i64::MAX),
        )
        .with("streamctl.window", manifest.window.to_string())
        .with(
            "streamctl.rows_in",
            i64::try_from(manifest.counts.rows_in).unwrap_or(i64::MAX),
        )
        .with(
            "streamctl.rows_out",
            i64::try_from(manifest.counts.rows_out).unwrap_or(i64::MAX),
        );
        self.traces.record(span);
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

    /// All metrics, including the core's if the leader runs here.
    pub async fn sheet(&self, leader: &Leader, sheet: &mut Sheet) {
        let term = match leader.who() {
            Who::Here(term) => term.0,
            Who::Elsewhere(_) => 0,
        };
        sheet.gauges(&INFO, [(INFO.with([env!("CARGO_PKG_VERSION")]), 1.0)]);
        sheet.gauge(&LEADER, if term > 0 { 1.0 } else { 0.0 });
        sheet.gauge(&TERM, term as f64);
        let sums = &self.sums;
        sheet.histograms(&EFFECTS, &sums.effects);
        sheet.histograms(&COMMIT_DELAY, &sums.commit_delay);
        sheet.histograms(&PUBLISH_DELAY, &sums.publish_delay);
        sheet.histograms(&WAITS, &sums.waits);
        for (metric, counters) in [
            (&FAILURES, &sums.failures),
            (&OBJECTS, &sums.objects),
            (&OUT_BYTES, &sums.out_bytes),
            (&REWRITINGS, &sums.rewritings),
            (&REWRITTEN_FILES, &sums.rewritten_files),
            (&REWRITTEN_BYTES, &sums.rewritten_bytes),
            (&STAGES, &sums.stages),
            (&TRIMMED, &sums.trimmed),
        ] {
            sheet.counters(metric, counters);
        }
        if let Ok(handle) = leader.handle()
            && let Ok(snapshot) = handle.query(Snapshot::of).await
        {
            snapshot.sheet(sheet);
        }
    }
}

fn seconds(ms: i64) -> f64 {
    ms.max(0) as f64 / 1_000.0
}

/// The window of an effect, if the effect is a step of an epoch.
pub fn window_of(core: &streamctl_core::Core, effect: &Effect) -> Option<Window> {
    match effect {
        Effect::WriteManifest { manifest } => Some(manifest.window),
        Effect::Publish { epochs, .. } => Some(epochs.first()?.manifest.window),
        Effect::MoveHead { job, .. } => core
            .jobs
            .get(job)?
            .committing
            .as_ref()
            .map(|c| c.manifest.window),
        _ => None,
    }
}
