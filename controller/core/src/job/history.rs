//! A job's figures over time: rows, lag, the time of each stage.
//!
//! Owns: what a bucket holds, percentiles, the history that manifests hold. Does not own: buckets
//! and their number ([`streamctl_proto::ring`]).
//! Rule: nothing is decided by these figures. What was not measured in a bucket is absent, not 0.

use super::EpochFigures;
use streamctl_proto::report::StageTimes;
use streamctl_proto::ring::{Bucket, Series};
use streamctl_proto::{Manifest, ManifestRef};

/// Jobs whose history is kept: the first ones by name. A day of a job is 200 KiB at most.
pub const HISTORY_JOBS_MAX: usize = 128;
/// Windows of a bucket whose stage times are part of its percentiles, the first ones.
pub const WINDOWS_SAMPLED_MAX: usize = 60;
/// Manifests that a new leader reads per job, from the head back: a day of one-minute windows.
pub const HISTORY_EPOCHS_READ_MAX: u64 = 1_440;

/// Stages with times of their own, and the sum of them all.
pub const STAGES: [&str; 7] = [
    "decode",
    "transform",
    "stage",
    "report",
    "commit",
    "publish",
    "closed_to_published",
];

/// Microseconds of each of [`STAGES`] of one window; `None`: not measured.
pub type StageSample = [Option<u64>; STAGES.len()];

/// The figures of one window, or of one look at the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sample {
    /// A window was committed.
    Epoch {
        rows_in: u64,
        rows_out: u64,
        /// From the window's end to its commit.
        delay_ms: u64,
    },
    /// The times of a window's stages are known.
    Stages(Box<StageSample>),
    Lag {
        lag_ms: u64,
    },
}

impl Sample {
    /// A committed window.
    pub fn of_epoch(figures: &EpochFigures) -> Self {
        let delay_ms = figures.committed_ms.saturating_sub(figures.window.end_ms);
        Self::Epoch {
            rows_in: figures.counts.rows_in,
            rows_out: figures.counts.rows_out,
            delay_ms: u64::try_from(delay_ms).unwrap_or(0),
        }
    }

    /// The stages of a window. Those of commit and publish are 0 if this leader did not see them.
    pub fn of_stages(stages: &StageTimes) -> Self {
        let measured = |us: u64| (us > 0).then_some(us);
        let is_published = stages.commit_us > 0 && stages.publish_us > 0;
        Self::Stages(Box::new([
            Some(stages.last_decode_us),
            Some(stages.last_transform_us),
            Some(stages.last_stage_us),
            Some(stages.report_us),
            measured(stages.commit_us),
            measured(stages.publish_us),
            is_published.then(|| stages.closed_to_published_us()),
        ]))
    }
}

/// What a manifest holds of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastEpoch {
    pub committed_ms: i64,
    epoch: Sample,
    stages: Sample,
}

impl PastEpoch {
    pub fn of(manifest: &Manifest) -> Self {
        let figures = EpochFigures::of(manifest, "");
        Self {
            committed_ms: figures.committed_ms,
            epoch: Sample::of_epoch(&figures),
            stages: Sample::of_stages(&figures.stages),
        }
    }
}

/// Median and 95th percentile of one stage, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentiles {
    pub p50_us: u64,
    pub p95_us: u64,
}

/// The figures of one bucket.
#[derive(Clone, Debug)]
pub struct JobPoint {
    pub at_ms: i64,
    pub epochs: u32,
    pub rows_in: u64,
    pub rows_out: u64,
    /// The largest of the bucket.
    pub lag_ms: Option<u64>,
    pub delay_ms: Option<u64>,
    /// Of the windows so far, until the bucket is closed.
    sampled: Vec<StageSample>,
    closed: Option<Box<[Option<Percentiles>; STAGES.len()]>>,
}

impl JobPoint {
    /// Of each stage, in the order of [`STAGES`].
    pub fn stages(&self) -> [Option<Percentiles>; STAGES.len()] {
        match &self.closed {
            Some(stages) => **stages,
            None => std::array::from_fn(|stage| {
                let times = self.sampled.iter().filter_map(|one| one[stage]);
                percentiles(times.collect())
            }),
        }
    }
}

fn percentiles(mut times: Vec<u64>) -> Option<Percentiles> {
    times.sort_unstable();
    let at = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        times.get(rank - 1).copied()
    };
    Some(Percentiles {
        p50_us: at(50)?,
        p95_us: at(95)?,
    })
}

impl Bucket for JobPoint {
    type Sample = Sample;

    fn begin(at_ms: i64) -> Self {
        Self {
            at_ms,
            epochs: 0,
            rows_in: 0,
            rows_out: 0,
            lag_ms: None,
            delay_ms: None,
            sampled: Vec::new(),
            closed: None,
        }
    }

    fn at_ms(&self) -> i64 {
        self.at_ms
    }

    fn add(&mut self, sample: &Sample) {
        match sample {
            Sample::Epoch {
                rows_in,
                rows_out,
                delay_ms,
            } => {
                self.epochs = self.epochs.saturating_add(1);
                self.rows_in = self.rows_in.saturating_add(*rows_in);
                self.rows_out = self.rows_out.saturating_add(*rows_out);
                self.delay_ms = self.delay_ms.max(Some(*delay_ms));
            }
            Sample::Stages(stages) if self.sampled.len() < WINDOWS_SAMPLED_MAX => {
                self.sampled.push(**stages);
            }
            Sample::Stages(_) => {}
            Sample::Lag { lag_ms } => self.lag_ms = self.lag_ms.max(Some(*lag_ms)),
        }
    }

    fn merge(&mut self, earlier: Self) {
        self.epochs = self.epochs.saturating_add(earlier.epochs);
        self.rows_in = self.rows_in.saturating_add(earlier.rows_in);
        self.rows_out = self.rows_out.saturating_add(earlier.rows_out);
        self.lag_ms = self.lag_ms.max(earlier.lag_ms);
        self.delay_ms = self.delay_ms.max(earlier.delay_ms);
        let room = WINDOWS_SAMPLED_MAX.saturating_sub(self.sampled.len());
        if self.closed.is_none() {
            self.sampled.extend(earlier.sampled.into_iter().take(room));
        }
    }

    fn close(&mut self) {
        if !self.sampled.is_empty() {
            self.closed = Some(Box::new(self.stages()));
            self.sampled = Vec::new();
        }
    }
}

/// A job's history.
#[derive(Clone, Debug, Default)]
pub struct JobHistory {
    pub series: Series<JobPoint>,
    /// It is one of the jobs whose history is kept.
    pub is_kept: bool,
    /// There are too many jobs before it.
    pub is_refused: bool,
    /// The last manifest of earlier terms, until what they hold is here.
    pub before: Option<ManifestRef>,
}

impl JobHistory {
    pub fn add(&mut self, now_ms: i64, sample: &Sample) {
        if self.is_kept {
            self.series.add(now_ms, sample);
        }
    }

    /// Takes what manifests of earlier terms hold, oldest first.
    pub fn restore(&mut self, epochs: &[PastEpoch]) {
        let mut earlier = Series::default();
        for past in epochs {
            earlier.add(past.committed_ms, &past.epoch);
            earlier.add(past.committed_ms, &past.stages);
        }
        self.series.put_before(earlier);
        self.before = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> JobHistory {
        JobHistory {
            is_kept: true,
            ..JobHistory::default()
        }
    }

    fn epoch(rows: u64) -> Sample {
        Sample::Epoch {
            rows_in: rows,
            rows_out: rows / 2,
            delay_ms: rows,
        }
    }

    fn points(history: &JobHistory) -> Vec<JobPoint> {
        let (_, points) = history.series.last(60_000, 3_600_000);
        points.cloned().collect()
    }

    #[test]
    fn rows_are_summed_and_the_largest_lag_of_a_bucket_is_kept() {
        let mut history = kept();
        for (at, sample) in [
            (1, epoch(10)),
            (2, Sample::Lag { lag_ms: 700 }),
            (3, Sample::Lag { lag_ms: 300 }),
            (4, epoch(6)),
            (20_001, Sample::Lag { lag_ms: 5 }),
        ] {
            history.add(at, &sample);
        }
        let all = points(&history);
        assert_eq!((all[0].epochs, all[0].rows_in, all[0].rows_out), (2, 16, 8));
        assert_eq!((all[0].lag_ms, all[0].delay_ms), (Some(700), Some(10)));
        assert_eq!(
            (all[1].at_ms, all[1].epochs, all[1].delay_ms),
            (20_000, 0, None)
        );
        let mut off = JobHistory::default();
        off.add(1, &epoch(1));
        assert!(points(&off).is_empty());
    }

    #[test]
    fn percentiles_are_of_measured_windows_alone() {
        let mut history = kept();
        for us in 1..=20 {
            let stages = StageTimes {
                last_decode_us: us * 10,
                commit_us: if us > 10 { us } else { 0 },
                ..StageTimes::default()
            };
            history.add(0, &Sample::of_stages(&stages));
        }
        let of = |history: &JobHistory| points(history)[0].stages();
        let open = of(&history);
        let both = |p50_us, p95_us| Some(Percentiles { p50_us, p95_us });
        assert_eq!(open[0], both(100, 190));
        assert_eq!(open[4], both(15, 20), "ten were not measured");
        assert_eq!((open[5], open[6]), (None, None));
        history.add(10_000, &epoch(1));
        assert_eq!(of(&history), open, "the closed bucket keeps them");
        assert!(points(&history)[0].sampled.is_empty());
    }

    #[test]
    fn what_manifests_hold_comes_before_what_this_leader_saw() {
        let past = |committed_ms, rows| PastEpoch {
            committed_ms,
            epoch: epoch(rows),
            stages: Sample::of_stages(&StageTimes {
                report_us: rows,
                ..StageTimes::default()
            }),
        };
        let mut history = kept();
        history.before = Some(crate::testing::head(3));
        history.add(25_000, &epoch(4));
        history.restore(&[past(1_000, 10), past(12_000, 6), past(21_000, 2)]);
        let all: Vec<_> = points(&history)
            .iter()
            .map(|point| (point.at_ms, point.epochs, point.rows_in))
            .collect();
        assert_eq!(all, [(0, 1, 10), (10_000, 1, 6), (20_000, 2, 6)]);
        let [.., commit, publish, whole] = points(&history)[0].stages();
        assert_eq!((commit, publish, whole), (None, None, None));
        assert_eq!(points(&history)[0].stages()[3].unwrap().p50_us, 10);
        assert!(history.before.is_none());
    }

    #[test]
    fn no_more_windows_of_a_bucket_are_held_than_the_limit() {
        let mut history = kept();
        for _ in 0..WINDOWS_SAMPLED_MAX + 10 {
            history.add(0, &Sample::of_stages(&StageTimes::default()));
        }
        assert_eq!(points(&history)[0].sampled.len(), WINDOWS_SAMPLED_MAX);
    }
}
