//! Histories of jobs and workers: when they are sampled, and as clients get them.
//!
//! Owns: which jobs have one. Does not own: what a point is (`job::history`,
//! [`streamctl_proto::load`]), reading manifests (the driver).
//! Rule: no decision depends on a history.

use super::Core;
use super::job::history::{HISTORY_JOBS_MAX, PastEpoch, STAGES, Sample};
use streamctl_proto::ring::FINE_STEP_MS;
use streamctl_proto::{JobName, ManifestRef, ResolvedJob, WorkerId, v1};

/// Spans of time that are returned at most: a day.
pub const HISTORY_SPAN_MS_MAX: i64 = 24 * 3_600_000;

impl Core {
    /// Looks at the lag of each job, once per fine bucket.
    pub(super) fn sample_histories(&mut self, now: i64) {
        let bucket = now.div_euclid(FINE_STEP_MS);
        let is_new_job = |job: &super::Job| !job.history.is_kept && !job.history.is_refused;
        if self.sampled_bucket == Some(bucket) && !self.jobs.values().any(is_new_job) {
            return;
        }
        let is_due = self.sampled_bucket != Some(bucket);
        self.sampled_bucket = Some(bucket);
        let lags: Vec<Option<u64>> = self
            .jobs
            .values()
            .map(|job| job.is_live().then(|| self.lag_ms(job)))
            .collect();
        for (at, (job, lag)) in self.jobs.values_mut().zip(lags).enumerate() {
            job.history.is_kept = at < HISTORY_JOBS_MAX;
            job.history.is_refused = at >= HISTORY_JOBS_MAX;
            if let Some(lag_ms) = lag.filter(|_| is_due) {
                job.history.add(now, &Sample::Lag { lag_ms });
            }
        }
    }

    /// The next job whose manifests of earlier terms are not in its history, and the last of them.
    /// `skips` are those that could not be read.
    pub fn history_wanted(
        &self,
        skips: impl Fn(&JobName) -> bool,
    ) -> Option<(ResolvedJob, ManifestRef)> {
        let wanted = self.jobs.values().find(|job| {
            job.history.is_kept && job.history.before.is_some() && !skips(job.name())
        })?;
        let before = wanted.history.before.clone()?;
        Some((wanted.resolved.clone(), before))
    }

    /// Takes what was read of manifests, oldest first. A job that was submitted at another time is
    /// another one.
    pub fn restore_history(&mut self, name: &JobName, submitted_ms: i64, epochs: &[PastEpoch]) {
        let job = self.jobs.get_mut(name);
        if let Some(job) = job.filter(|job| job.resolved.submitted_ms == submitted_ms) {
            job.history.restore(epochs);
        }
    }

    /// A job's history of this span of time; none without such a job.
    pub fn job_history(&self, name: &JobName, span_ms: i64) -> Option<v1::JobHistory> {
        let job = self.jobs.get(name)?;
        let span_ms = span_ms.clamp(0, HISTORY_SPAN_MS_MAX);
        let (step_ms, points) = job.history.series.last(self.now_ms, span_ms);
        let point = |point: &super::job::history::JobPoint| {
            let stage = |(name, found): (&str, Option<super::job::history::Percentiles>)| {
                found.map(|found| v1::StagePercentiles {
                    stage: name.to_owned(),
                    p50_us: found.p50_us,
                    p95_us: found.p95_us,
                })
            };
            v1::JobPoint {
                at_ms: point.at_ms,
                epochs: point.epochs,
                rows_in: point.rows_in,
                rows_out: point.rows_out,
                lag_ms: point.lag_ms,
                delay_ms: point.delay_ms,
                stages: STAGES
                    .into_iter()
                    .zip(point.stages())
                    .filter_map(stage)
                    .collect(),
            }
        };
        Some(v1::JobHistory {
            job: name.to_string(),
            step_ms,
            now_ms: self.now_ms,
            points: points.map(point).collect(),
            reading: job.history.before.is_some(),
            omitted: job.history.is_refused,
        })
    }

    /// A worker with its tasks and its history; none if it is not connected.
    pub fn worker_details(&self, worker: &WorkerId, span_ms: i64) -> Option<v1::WorkerDetails> {
        let found = self.workers.get(worker)?;
        let span_ms = span_ms.clamp(0, HISTORY_SPAN_MS_MAX);
        let (step_ms, points) = found.load.last(self.now_ms, span_ms);
        let tasks = self.jobs.values().flat_map(|job| {
            let here = job.tasks.iter().filter(|(_, task)| task.worker == *worker);
            here.map(|(id, task)| v1::WorkerTask {
                job: job.name().to_string(),
                task: Some((*id).into()),
                shards: u32::try_from(task.shards.len()).unwrap_or(u32::MAX),
                watermark_ms: task.watermark.to_wire(),
            })
        });
        Some(v1::WorkerDetails {
            worker: Some(self.status_of(worker, found)),
            tasks: tasks.take(WORKER_TASKS_MAX).collect(),
            step_ms,
            now_ms: self.now_ms,
            load: points.map(Into::into).collect(),
        })
    }
}

/// Tasks of a worker in one response.
pub const WORKER_TASKS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CoreSettings, Event, JobEvent, WorkerEvent, WorkerFacts};
    use streamctl_proto::Term;
    use streamctl_proto::load::LoadPoint;
    use streamctl_proto::ring::{Bucket as _, COARSE_STEP_MS};

    const NOW_MS: i64 = 1_795_481_100_000;
    const DAY_MS: i64 = HISTORY_SPAN_MS_MAX;

    fn core() -> Core {
        Core::new(Term(1), NOW_MS, CoreSettings::default())
    }

    fn joins(core: &mut Core, session: u64, process: u64, ages_min: &[i64]) {
        let load = ages_min
            .iter()
            .map(|age| LoadPoint::begin(-age * COARSE_STEP_MS))
            .collect();
        let event = WorkerEvent::Joined {
            process,
            flight_address: "h:1".into(),
            facts: WorkerFacts {
                load,
                ..WorkerFacts::default()
            },
            tasks: vec![],
        };
        core.step(
            NOW_MS,
            Event::Worker {
                worker: WorkerId::new("w1"),
                session,
                event,
            },
        );
    }

    fn ages_min(core: &Core) -> Vec<i64> {
        let details = core.worker_details(&WorkerId::new("w1"), DAY_MS).unwrap();
        let age = |point: &v1::LoadPoint| (NOW_MS - point.at_ms) / COARSE_STEP_MS;
        details.load.iter().map(age).collect()
    }

    #[test]
    fn a_worker_brings_its_past_to_a_leader_that_does_not_know_it() {
        let mut core = core();
        joins(&mut core, 1, 7, &[9, 3]);
        assert_eq!(ages_min(&core), [9, 3]);
        joins(&mut core, 2, 7, &[5]);
        assert_eq!(ages_min(&core), [9, 3], "the same process: it is known");
        joins(&mut core, 3, 8, &[1]);
        assert_eq!(ages_min(&core), [1], "another process of this name");
        assert!(core.worker_details(&WorkerId::new("w2"), DAY_MS).is_none());
    }

    #[test]
    fn the_lag_of_live_jobs_is_recorded_once_per_bucket() {
        let mut core = core();
        let job = crate::testing::job("sales");
        let name = job.spec.name.clone();
        core.step(NOW_MS, Event::created(job));
        let points = |core: &Core| core.job_history(&name, 3_600_000).unwrap().points;
        for after_ms in [0, 100, 9_900, 10_000, 10_100] {
            core.step(NOW_MS + after_ms, Event::Ticked);
        }
        let times: Vec<i64> = points(&core).iter().map(|one| one.at_ms - NOW_MS).collect();
        assert_eq!(times, [0, 10_000]);
        assert!(points(&core).iter().all(|one| one.lag_ms.is_some()));
        let stopped = Event::Job {
            job: name.clone(),
            event: JobEvent::StopRequested { drain: false },
        };
        core.step(NOW_MS + 10_200, stopped);
        core.step(NOW_MS + 20_000, Event::Ticked);
        assert_eq!(points(&core).len(), 2, "a time without reading is a gap");
        assert!(core.job_history(&"other".parse().unwrap(), 1).is_none());
    }

    #[test]
    fn the_first_jobs_by_name_have_a_history_and_the_others_are_marked() {
        let mut core = core();
        for number in 0..=HISTORY_JOBS_MAX {
            core.step(
                NOW_MS,
                Event::created(crate::testing::job(&format!("j{number:03}"))),
            );
        }
        core.step(NOW_MS, Event::Ticked);
        let history = |number: usize| {
            let name = format!("j{number:03}").parse().unwrap();
            core.job_history(&name, 3_600_000).unwrap()
        };
        let last = history(HISTORY_JOBS_MAX);
        assert!(last.omitted && last.points.is_empty());
        let kept = history(HISTORY_JOBS_MAX - 1);
        assert!(!kept.omitted && kept.points.len() == 1);
    }
}
