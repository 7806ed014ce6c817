//! Scaling decisions and their reasons, for display; and the bounded list of them.
//!
//! Owns: the texts. Does not own: the decision ([`super::Scaler`]).
//! Rule: a decision contains its input figures, so that a user can check it.

use super::measure::{JobMeasured, Measured};
use super::settings::ScalingSettings;
use std::collections::VecDeque;
use streamctl_proto::{JobName, Term};

/// Decisions that are kept; the oldest are dropped first.
pub const DECISIONS_MAX: usize = 200;
/// Jobs whose part in a decision is kept: those with the most work.
pub const DECISION_JOBS_MAX: usize = 32;

/// The measurement, limited to the jobs that are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub measured_ms: i64,
    /// Average utilization of the workers.
    pub busy: f64,
    /// Utilization of the busiest worker.
    pub busiest: f64,
    /// Workers needed.
    pub needed: u32,
    pub jobs: Vec<(JobName, JobMeasured)>,
    pub jobs_omitted: usize,
}

impl Figures {
    pub fn of(measured: &Measured, measured_ms: i64, needed: u32) -> Self {
        let mut jobs: Vec<_> = measured
            .jobs
            .iter()
            .map(|(name, job)| (name.clone(), *job))
            .collect();
        jobs.sort_by(|a, b| {
            b.1.needed
                .total_cmp(&a.1.needed)
                .then_with(|| a.0.cmp(&b.0))
        });
        let jobs_omitted = jobs.len().saturating_sub(DECISION_JOBS_MAX);
        jobs.truncate(DECISION_JOBS_MAX);
        Self {
            measured_ms,
            busy: measured.busy,
            busiest: measured.busiest,
            needed,
            jobs,
            jobs_omitted,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub at_ms: i64,
    pub term: Term,
    /// Desired workers before the decision.
    pub from: u32,
    /// Desired workers after the decision.
    pub to: u32,
    pub workers: u32,
    pub reason: String,
    /// The input figures.
    pub figures: Option<Figures>,
}

/// The last decisions, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Log {
    decisions: VecDeque<Decision>,
    pub made: u64,
}

impl Log {
    pub fn note(&mut self, decision: Decision) {
        self.made += 1;
        self.decisions.push_back(decision);
        if self.decisions.len() > DECISIONS_MAX {
            self.decisions.pop_front();
        }
    }

    /// All kept decisions, oldest first.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = &Decision> + ExactSizeIterator {
        self.decisions.iter()
    }
}

/// What limited the number of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    No,
    /// `--workers-max`.
    Max,
    /// One step at most doubles the number.
    Step,
}

/// Why more workers are needed.
pub fn out_words(
    figures: &Figures,
    measured: &Measured,
    held: Held,
    settings: &ScalingSettings,
) -> String {
    let work: f64 = measured.jobs.values().map(|job| job.needed).sum();
    let mut words = format!("the workers are {} busy", percent(measured.busy));
    match measured.apart {
        Some(_) if measured.busy < settings.too_busy() => {
            words += &format!(
                "; the busiest is {} busy, falls behind and has shards to give",
                percent(measured.busiest)
            );
        }
        _ => {
            words += &format!(
                "; to keep up is the work of {work:.1} at {}",
                percent(settings.busy)
            )
        }
    }
    if let Some((name, job)) = figures.jobs.first() {
        words += &format!(", most of it for {name}: {}", job_words(job));
    }
    words
        + match held {
            Held::No => "",
            Held::Max => "; --workers-max allows no more",
            Held::Step => "; no more than twice as many at a time",
        }
}

pub fn in_words(to: u32, after_ms: i64, busy: f64) -> String {
    format!(
        "{to} would have been enough for {}; the workers are {} busy",
        seconds(after_ms),
        percent(busy)
    )
}

fn job_words(job: &JobMeasured) -> String {
    let mut words = format!(
        "{}/s come in, {} behind",
        bytes(job.arriving),
        seconds(job.lag_ms.try_into().unwrap_or(0))
    );
    if let Some(each) = job.worker_bytes() {
        words += &format!(", one worker reads {}/s", bytes(each));
    }
    words
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

pub(super) fn seconds(ms: i64) -> String {
    match ms {
        ..10_000 => format!("{:.1} s", ms as f64 / 1_000.0),
        10_000..600_000 => format!("{} s", ms / 1_000),
        _ => format!("{} min", ms / 60_000),
    }
}

fn bytes(bytes: f64) -> String {
    match bytes {
        ..1_024.0 => format!("{bytes:.0} B"),
        ..1_048_576.0 => format!("{:.1} KiB", bytes / 1_024.0),
        _ => format!("{:.1} MiB", bytes / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_bounded_and_figures_keep_the_largest_jobs() {
        let mut log = Log::default();
        for n in 0..DECISIONS_MAX as u32 + 7 {
            let term = Term(1);
            let reason = String::new();
            log.note(Decision {
                at_ms: 0,
                term,
                from: n,
                to: n + 1,
                workers: n,
                reason,
                figures: None,
            });
        }
        assert_eq!(
            (log.all().len(), log.made),
            (DECISIONS_MAX, DECISIONS_MAX as u64 + 7)
        );
        assert_eq!(log.all().next().unwrap().from, 7);
        let job = |n: usize| {
            (
                format!("job-{n}").parse().unwrap(),
                JobMeasured {
                    needed: n as f64,
                    ..JobMeasured::default()
                },
            )
        };
        let measured = Measured {
            jobs: (0..40).map(job).collect(),
            ..Measured::default()
        };
        let figures = Figures::of(&measured, 5, 3);
        assert_eq!(
            (figures.jobs.len(), figures.jobs_omitted),
            (DECISION_JOBS_MAX, 8)
        );
        assert_eq!(figures.jobs[0].0.to_string(), "job-39");
    }
}
