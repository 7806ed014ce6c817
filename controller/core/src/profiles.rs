//! A job's profile as clients get it: the query's operators between the stages around them.
//!
//! Rule: pure; a figure that is not measured is absent.

use super::Core;
use super::job::profile::WindowProfile;
use streamctl_proto::profile::{OperatorFigures, SOURCE_OPERATOR};
use streamctl_proto::{JobName, v1};

/// The stages around the query, as operators.
const STAGE: &str = "stage";
const DECODE: &str = "decode";
const READ: &str = "read";

impl Core {
    /// Rows and time per operator of the last windows; none without such a job.
    pub fn profile(&self, name: &JobName) -> Option<v1::JobProfile> {
        let job = self.jobs.get(name)?;
        Some(v1::JobProfile {
            job: name.to_string(),
            last: job.profiles.last().map(wire),
            sum: job.profiles.sum().as_ref().map(wire),
            windows: u32::try_from(job.profiles.len()).unwrap_or(u32::MAX),
        })
    }
}

fn wire(profile: &WindowProfile) -> v1::WindowProfile {
    let operators = with_stages(profile);
    let stages = &profile.stages;
    let around = stages.decode_us.saturating_add(stages.stage_us);
    let counted = operators
        .iter()
        .filter_map(|one| one.compute_us)
        .fold(0, u64::saturating_add);
    v1::WindowProfile {
        epoch: profile.epoch.0,
        window: Some(profile.window.into()),
        job_version: profile.job_version.0,
        tasks: profile.tasks,
        tasks_omitted: profile.tasks_omitted,
        total_us: around.saturating_add(stages.transform_us).max(counted),
        operators: operators.iter().map(Into::into).collect(),
    }
}

/// `stage` reads the result of the query; its source reads what `decode` returns.
fn with_stages(profile: &WindowProfile) -> Vec<OperatorFigures> {
    let counts = &profile.counts;
    let stage = |depth: u32, name: &str, rows: u64, compute_us: Option<u64>| OperatorFigures {
        depth,
        rows: Some(rows),
        compute_us,
        ..OperatorFigures::new(0, name, "")
    };
    let mut all = vec![stage(
        0,
        STAGE,
        counts.rows_out,
        Some(profile.stages.stage_us),
    )];
    let mut is_read = false;
    for operator in &profile.operators {
        let depth = operator.depth.saturating_add(1);
        all.push(OperatorFigures {
            depth,
            ..operator.clone()
        });
        // A query that keeps its rows may read them several times.
        if operator.name == SOURCE_OPERATOR && !is_read {
            is_read = true;
            let decode_us = Some(profile.stages.decode_us);
            all.push(stage(
                depth.saturating_add(1),
                DECODE,
                counts.rows_decoded,
                decode_us,
            ));
            all.push(stage(depth.saturating_add(2), READ, counts.rows_in, None));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamctl_proto::report::StageTimes;
    use streamctl_proto::{Counts, Epoch, JobVersion, Window};

    #[test]
    fn the_stages_are_above_and_below_the_query() {
        let operator = |depth, name| OperatorFigures {
            compute_us: Some(10),
            ..OperatorFigures::new(depth, name, "")
        };
        let profile = WindowProfile {
            epoch: Epoch(7),
            window: Window {
                start_ms: 0,
                end_ms: 1_000,
            },
            job_version: JobVersion::FIRST,
            counts: Counts {
                rows_in: 5,
                rows_decoded: 4,
                rows_out: 3,
                ..Counts::default()
            },
            stages: StageTimes {
                decode_us: 1,
                transform_us: 50,
                stage_us: 2,
                ..StageTimes::default()
            },
            tasks: 1,
            tasks_omitted: 0,
            operators: vec![
                operator(0, "HashJoinExec"),
                operator(1, "Lookup"),
                operator(1, SOURCE_OPERATOR),
            ],
        };
        let shown = wire(&profile);
        let tree: Vec<_> = shown
            .operators
            .iter()
            .map(|one| (one.depth, one.name.as_str(), one.rows))
            .collect();
        assert_eq!(
            tree,
            [
                (0, "stage", Some(3)),
                (1, "HashJoinExec", None),
                (2, "Lookup", None),
                (2, "Source", None),
                (3, "decode", Some(4)),
                (4, "read", Some(5)),
            ]
        );
        assert_eq!(shown.total_us, 53, "more than the operators count");
    }
}
