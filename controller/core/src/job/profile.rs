//! Rows and time per operator of the last windows of a job.
//!
//! Owns: the sum over tasks, which windows are kept. Does not own: the figures' form
//! ([`streamctl_proto::profile`]), how they are shown (`profiles`).
//! Rule: nothing is decided by these figures, and no manifest has them. Windows of one plan are kept;
//! the first window of another plan begins anew.

use super::OpenWindow;
use std::collections::VecDeque;
use streamctl_proto::profile::{OperatorFigures, add};
use streamctl_proto::report::StageTimes;
use streamctl_proto::{Counts, Epoch, JobVersion, Manifest, Window};

/// Windows whose figures are kept, per job.
pub const PROFILE_WINDOWS_MAX: usize = 30;

/// The figures of one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowProfile {
    pub epoch: Epoch,
    pub window: Window,
    pub job_version: JobVersion,
    pub counts: Counts,
    pub stages: StageTimes,
    /// Tasks whose figures are here, and those that had another plan or none.
    pub tasks: u32,
    pub tasks_omitted: u32,
    pub operators: Vec<OperatorFigures>,
}

impl WindowProfile {
    /// The sum over the tasks that reported a window; none if no task reported its operators.
    pub fn of(manifest: &Manifest, open: Option<&OpenWindow>) -> Option<Self> {
        let reports = open.map_or(&[][..], |open| &open.reports);
        let mut profile = Self {
            epoch: manifest.epoch,
            window: manifest.window,
            job_version: manifest.job_version(),
            counts: manifest.counts,
            stages: manifest.stages,
            tasks: 0,
            tasks_omitted: 0,
            operators: vec![],
        };
        for report in reports {
            let added = if profile.operators.is_empty() {
                profile.operators.clone_from(&report.operators);
                !report.operators.is_empty()
            } else {
                add(&mut profile.operators, &report.operators)
            };
            match added {
                true => profile.tasks += 1,
                false => profile.tasks_omitted += 1,
            }
        }
        (profile.tasks > 0).then_some(profile)
    }

    /// Adds an earlier window. Returns false if that had another plan.
    fn add(&mut self, earlier: &Self) -> bool {
        if earlier.job_version != self.job_version || !add(&mut self.operators, &earlier.operators)
        {
            return false;
        }
        self.counts.add(&earlier.counts);
        self.stages.decode_us = self
            .stages
            .decode_us
            .saturating_add(earlier.stages.decode_us);
        self.stages.transform_us = self
            .stages
            .transform_us
            .saturating_add(earlier.stages.transform_us);
        self.stages.stage_us = self.stages.stage_us.saturating_add(earlier.stages.stage_us);
        self.window.start_ms = self.window.start_ms.min(earlier.window.start_ms);
        self.tasks = self.tasks.max(earlier.tasks);
        self.tasks_omitted = self.tasks_omitted.max(earlier.tasks_omitted);
        true
    }
}

/// The last windows of a job, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Profiles {
    windows: VecDeque<WindowProfile>,
}

impl Profiles {
    pub fn push(&mut self, next: WindowProfile) {
        // A window of another plan cannot be added to the others, and neither can they to it.
        let is_other = |last: &WindowProfile| !last.clone().add(&next);
        if self.windows.back().is_some_and(is_other) {
            self.windows.clear();
        }
        self.windows.push_back(next);
        if self.windows.len() > PROFILE_WINDOWS_MAX {
            self.windows.pop_front();
        }
    }

    pub fn last(&self) -> Option<&WindowProfile> {
        self.windows.back()
    }

    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// The sum of the windows, with the epoch of the last.
    pub fn sum(&self) -> Option<WindowProfile> {
        let mut newest_first = self.windows.iter().rev();
        let mut sum = newest_first.next()?.clone();
        for earlier in newest_first {
            sum.add(earlier);
        }
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use streamctl_proto::profile::SOURCE_OPERATOR;
    use streamctl_proto::{TaskId, Term, WindowSize};

    fn operators(detail: &str, rows: u64) -> Vec<OperatorFigures> {
        let figures = |depth, name, detail| OperatorFigures {
            rows: Some(rows),
            compute_us: Some(7),
            ..OperatorFigures::new(depth, name, detail)
        };
        vec![
            figures(0, "FilterExec", detail),
            figures(1, SOURCE_OPERATOR, ""),
        ]
    }

    fn manifest(epoch: u64) -> Manifest {
        let job = super::super::Job::new(testing::job("sales"));
        let size = WindowSize::from_ms(1_000).unwrap();
        let window = size.window_of(i64::try_from(epoch).unwrap() * 1_000);
        Manifest {
            epoch: Epoch(epoch),
            ..job.manifest(window, Term(1), 0)
        }
    }

    fn window(epoch: u64, detail: &str) -> WindowProfile {
        WindowProfile {
            tasks: 1,
            operators: operators(detail, epoch),
            ..empty(epoch)
        }
    }

    fn empty(epoch: u64) -> WindowProfile {
        let manifest = manifest(epoch);
        WindowProfile {
            epoch: manifest.epoch,
            window: manifest.window,
            job_version: manifest.job_version(),
            counts: Counts::default(),
            stages: StageTimes::default(),
            tasks: 0,
            tasks_omitted: 0,
            operators: vec![],
        }
    }

    #[test]
    fn tasks_are_summed_and_those_with_another_plan_or_none_are_counted() {
        let report = |operators: Vec<OperatorFigures>| streamctl_proto::Report {
            operators,
            task: TaskId {
                term: Term(1),
                counter: 1,
            },
            job: "sales".parse().unwrap(),
            window: manifest(1).window,
            ranges: Default::default(),
            counts: Counts::default(),
            lookups: Default::default(),
            objects: vec![],
            unmatched: vec![],
            null_values: vec![],
            unknown_keys: vec![],
            stages: StageTimes::default(),
        };
        let open = OpenWindow {
            reports: vec![
                report(vec![]),
                report(operators("a", 2)),
                report(operators("b", 9)),
                report(operators("a", 3)),
            ],
            ..OpenWindow::default()
        };
        let profile = WindowProfile::of(&manifest(1), Some(&open)).unwrap();
        assert_eq!((profile.tasks, profile.tasks_omitted), (2, 2));
        assert_eq!(profile.operators[0].rows, Some(5));
        assert_eq!(profile.operators[0].compute_us, Some(14));
        let none = OpenWindow {
            reports: vec![report(vec![])],
            ..OpenWindow::default()
        };
        assert!(WindowProfile::of(&manifest(1), Some(&none)).is_none());
        assert!(WindowProfile::of(&manifest(1), None).is_none());
    }

    #[test]
    fn the_last_windows_of_one_plan_are_kept_and_summed() {
        let mut profiles = Profiles::default();
        for epoch in 1..=PROFILE_WINDOWS_MAX as u64 + 2 {
            profiles.push(window(epoch, "a"));
        }
        assert_eq!(profiles.len(), PROFILE_WINDOWS_MAX);
        let sum = profiles.sum().unwrap();
        assert_eq!(sum.epoch, Epoch(32));
        assert_eq!(sum.window.start_ms, 3_000);
        assert_eq!(sum.operators[0].rows, Some((3..=32).sum()));
        profiles.push(window(33, "b"));
        assert_eq!(profiles.len(), 1, "another plan begins anew");
        assert_eq!(profiles.sum(), profiles.last().cloned());
        assert!(Profiles::default().sum().is_none());
    }
}
