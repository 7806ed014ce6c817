//! Metrics in the text formats of OpenMetrics and Prometheus.
//!
//! Owns: how a metric is described and written. Does not own: which metrics there are (each
//! program's own table).
//! Rule: a name, its labels and its unit are defined once, in a table that the documentation is
//! compared with; base units only; labels with many values (jobs, shards) have a named limit.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use streamctl_proto::report::StageTimes;

/// Jobs with metrics of their own; the first by name.
pub const METRIC_JOBS_MAX: usize = 500;
/// Shards of one job with metrics of their own; the first by name.
pub const METRIC_SHARDS_MAX: usize = 200;
/// Bounds of histograms of time: from a quick call on this machine to a long outage.
pub const SECONDS_BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gauge,
    /// Only goes up, and restarts at 0 with the process; its name ends with `_total`.
    Counter,
    /// A distribution of durations; in seconds, with [`SECONDS_BUCKETS`].
    Histogram,
}

/// A metric with its documentation.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// As Prometheus sees it; with its unit, and `_total` for a counter.
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

impl Metric {
    pub const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind: Kind::Gauge,
            labels,
            help,
        }
    }

    pub const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind: Kind::Counter,
            labels,
            help,
        }
    }

    /// A distribution of durations.
    pub const fn histogram(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self {
            name,
            kind: Kind::Histogram,
            labels,
            help,
        }
    }

    /// The metric's labels with these values, one for each.
    pub fn with<const N: usize>(&self, values: [&str; N]) -> Labels {
        debug_assert_eq!(self.labels.len(), N, "{}", self.name);
        self.labels
            .iter()
            .zip(values)
            .map(|(label, value)| (*label, value.to_owned()))
            .collect()
    }

    /// A row of the documentation's table.
    pub fn row(&self) -> String {
        let labels: Vec<_> = self
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let kind = match self.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        format!(
            "| `{}` | {kind} | {} | {} |",
            self.name,
            labels.join(", "),
            self.help
        )
    }
}

/// The stages of a window by their names in metrics and spans, in microseconds.
pub fn stages_named(stages: &StageTimes) -> [(&'static str, u64); 3] {
    [
        ("decode", stages.decode_us),
        ("transform", stages.transform_us),
        ("stage", stages.stage_us),
    ]
}

/// The waits of a window on its way out, stage by stage, until the controller knew that nothing was
/// missing: microseconds. Omits what was not measured.
pub fn waits_named(stages: &StageTimes) -> impl Iterator<Item = (&'static str, u64)> {
    let read = Some(("read", stages.last_read_us)).filter(|(_, us)| *us > 0);
    let rest = [
        ("decode", stages.last_decode_us),
        ("transform", stages.last_transform_us),
        ("stage", stages.last_stage_us),
        ("report", stages.report_us),
    ];
    read.into_iter().chain(rest)
}

pub type Labels = Vec<(&'static str, String)>;
/// Values that go up and down.
pub type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;
/// Values that only go up; clones share them.
pub type Counters = Family<Labels, Counter<f64, AtomicU64>>;
/// Distributions of seconds; clones share them.
pub type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// Empty distributions of seconds.
pub fn histograms() -> Histograms {
    Family::new_with_constructor(|| Histogram::new(SECONDS_BUCKETS))
}

/// One response of `/metrics`.
#[derive(Debug, Default)]
pub struct Sheet(Registry);

impl Sheet {
    /// Current values.
    pub fn gauges(&mut self, metric: &Metric, samples: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Gauges::default();
        for (labels, value) in samples {
            family.get_or_create(&labels).set(value);
        }
        self.0.register(metric.name, metric.help, family);
    }

    /// A current value without labels.
    pub fn gauge(&mut self, metric: &Metric, value: f64) {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value);
        self.0.register(metric.name, metric.help, gauge);
    }

    /// Current sums.
    pub fn sums(&mut self, metric: &Metric, samples: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Counters::default();
        for (labels, value) in samples {
            family.get_or_create(&labels).inc_by(value);
        }
        self.counters(metric, &family);
    }

    pub fn counters(&mut self, metric: &Metric, family: &Counters) {
        // The encoder adds the ending.
        let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
        self.0.register(name, metric.help, family.clone());
    }

    pub fn histograms(&mut self, metric: &Metric, family: &Histograms) {
        self.0.register(metric.name, metric.help, family.clone());
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _written = encode(&mut text, &self.0);
        text
    }

    /// The same in the text format 0.0.4 of Prometheus.
    pub fn plain_text(&self) -> String {
        plain(&self.text())
    }
}

/// The text format 0.0.4 of Prometheus: a counter's family has the name of its samples, and there is
/// no end mark.
fn plain(open_metrics: &str) -> String {
    let mut counters = BTreeSet::new();
    for line in open_metrics.lines() {
        let family = line.strip_prefix("# TYPE ");
        counters.extend(family.and_then(|family| family.strip_suffix(" counter")));
    }
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| *line != "# EOF") {
        let about = ["# HELP ", "# TYPE "]
            .iter()
            .find_map(|what| Some((what, line.strip_prefix(what)?.split_once(' ')?)));
        match about {
            Some((what, (name, rest))) if counters.contains(name) => {
                text.extend([what, name, "_total ", rest]);
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_is_open_metrics_and_whatever_a_label_holds_stays_inside_it() {
        const LAG: Metric = Metric::gauge("t_lag_seconds", &["job"], "How late");
        const ROWS: Metric = Metric::counter("t_rows_total", &["job", "stage"], "Rows");
        const WAIT: Metric = Metric::histogram("t_wait_seconds", &[], "Waits");
        let mut sheet = Sheet::default();
        sheet.gauges(&LAG, [(LAG.with(["a\"} 1\nx"]), 1.5)]);
        sheet.sums(&ROWS, [(ROWS.with(["a", "decode"]), 7.0)]);
        let waits = histograms();
        waits.get_or_create(&WAIT.with([])).observe(0.3);
        sheet.histograms(&WAIT, &waits);
        let text = sheet.text();
        assert!(
            text.contains("t_lag_seconds{job=\"a\\\"} 1\\nx\"} 1.5\n"),
            "{text}"
        );
        assert!(
            text.contains("# TYPE t_rows counter")
                && text.contains("t_rows_total{job=\"a\",stage=\"decode\"} 7.0\n")
        );
        assert!(
            text.contains("t_wait_seconds_bucket{le=\"0.5\"} 1\n"),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
        let plain = sheet.plain_text();
        assert!(
            plain.contains("# HELP t_rows_total Rows.\n# TYPE t_rows_total counter\n")
                && plain.contains("\nt_rows_total{job=\"a\",stage=\"decode\"} 7.0\n")
                && plain.contains("# TYPE t_lag_seconds gauge\n")
                && !plain.contains("# EOF"),
            "{plain}"
        );
    }
}
