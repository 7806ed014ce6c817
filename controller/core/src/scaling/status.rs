//! Status of the scaler: pure, for people and programs.

use super::Scaler;
use super::decision::{DECISIONS_MAX, Decision, Figures};
use super::measure::JobMeasured;
use streamctl_proto::{JobName, v1};

/// Decisions in an answer if the request does not set a limit.
const DECISIONS_DEFAULT: u32 = 20;

impl Scaler {
    /// The full status, or one job's part.
    pub fn status(&self, workers: usize, job: Option<&JobName>, limit: u32) -> v1::ScalingStatus {
        let limit = if limit == 0 { DECISIONS_DEFAULT } else { limit };
        let limit = usize::try_from(limit)
            .unwrap_or(usize::MAX)
            .min(DECISIONS_MAX);
        let decisions = self.log().all();
        let older = decisions.len().saturating_sub(limit);
        v1::ScalingStatus {
            desired: self.desired(),
            workers: count(workers),
            min: self.settings.workers_min,
            max: self.settings.workers_max,
            active: self.is_active(),
            doing: self.doing.clone(),
            figures: self.measured.as_ref().map(|(measured, figures)| {
                // One job's part is known even if the job is not among the largest.
                let one = job.map(|name| {
                    measured
                        .jobs
                        .get(name)
                        .map(|job| (name.clone(), *job))
                        .into_iter()
                        .collect()
                });
                figures_wire(figures, one)
            }),
            decisions: decisions
                .skip(older)
                .map(|decision| decision_wire(decision, job))
                .collect(),
        }
    }
}

fn decision_wire(decision: &Decision, job: Option<&JobName>) -> v1::ScalingDecision {
    let of = |figures: &Figures| {
        let one = job.map(|name| {
            figures
                .jobs
                .iter()
                .filter(|(other, _)| other == name)
                .cloned()
                .collect()
        });
        figures_wire(figures, one)
    };
    v1::ScalingDecision {
        at_ms: decision.at_ms,
        term: decision.term.0,
        from: decision.from,
        to: decision.to,
        workers: decision.workers,
        reason: decision.reason.clone(),
        figures: decision.figures.as_ref().map(of),
    }
}

/// With these jobs only, or with all that are kept.
fn figures_wire(
    figures: &Figures,
    only: Option<Vec<(JobName, JobMeasured)>>,
) -> v1::ScalingFigures {
    let all = only.is_none();
    let jobs = only.unwrap_or_else(|| figures.jobs.clone());
    v1::ScalingFigures {
        measured_ms: figures.measured_ms,
        busy_permille: permille(figures.busy),
        busiest_permille: permille(figures.busiest),
        jobs: jobs.iter().map(|(name, job)| job_wire(name, job)).collect(),
        jobs_omitted: if all { count(figures.jobs_omitted) } else { 0 },
        needed: figures.needed,
    }
}

fn job_wire(name: &JobName, job: &JobMeasured) -> v1::ScalingJob {
    v1::ScalingJob {
        job: name.to_string(),
        work: job.work,
        work_needed: job.needed,
        bytes_per_second: job.bytes as u64,
        arriving_bytes_per_second: job.arriving as u64,
        worker_bytes_per_second: job.worker_bytes().unwrap_or(0.0) as u64,
        lag_ms: job.lag_ms,
        places: count(job.places),
        held_up: job.held_up,
    }
}

fn permille(share: f64) -> u32 {
    (share * 1_000.0).round() as u32
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
