//! `streamctl scaling`: the desired number of workers, the measurements, the decisions and their
//! reasons.
//!
//! Owns: the layout. Does not own: any figure in it.
//! Rule: the workers are of all jobs; with a job's name, only its part in the figures is shown, and
//! every decision.

use crate::args::ScalingArgs;
use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::{Output, table};
use crate::views::{bytes, milliseconds, percent, time};
use streamctl_proto::count;
use streamctl_proto::json::scaling as scaling_json;
use streamctl_proto::v1::{
    GetScalingRequest, ScalingDecision, ScalingFigures, ScalingJob, ScalingStatus,
};

pub async fn run(
    args: &ScalingArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let request = GetScalingRequest {
        job: args.job.clone().unwrap_or_default(),
        limit: args.limit,
    };
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).get_scaling(request).await }
    };
    let status = out
        .during(
            "asking what was measured and decided",
            controller.call(call),
        )
        .await?;
    out.either(
        || text(&status, args.job.as_deref()),
        || scaling_json(&status),
    )
}

fn text(status: &ScalingStatus, job: Option<&str>) -> String {
    let desired = status.desired.map_or_else(
        || "not known yet".to_owned(),
        |desired| format!("{desired} wanted"),
    );
    let mut lines = vec![
        format!(
            "workers:    {} there, {desired} (from {} to {})",
            status.workers, status.min, status.max
        ),
        format!("now:        {}", status.doing),
    ];
    if let Some(figures) = &status.figures {
        lines.push(format!("measured:   {}", figures_line(figures)));
        if !figures.jobs.is_empty() {
            lines.extend([String::new(), jobs_text(&figures.jobs)]);
        }
        if figures.jobs_omitted > 0 {
            lines.push(format!(
                "and {} with less need",
                count(figures.jobs_omitted, "job")
            ));
        }
    }
    if !status.decisions.is_empty() {
        lines.extend([String::new(), decisions_text(&status.decisions, job)]);
    }
    lines.join("\n")
}

fn figures_line(figures: &ScalingFigures) -> String {
    format!(
        "{}: {} busy, the busiest {}; {} would be right",
        time(figures.measured_ms),
        percent(figures.busy_permille),
        percent(figures.busiest_permille),
        count(figures.needed, "worker")
    )
}

/// Work is measured in workers.
fn jobs_text(jobs: &[ScalingJob]) -> String {
    let row = |job: &ScalingJob| {
        [
            job.job.clone(),
            format!("{:.2}", job.work),
            format!("{:.2}", job.work_needed),
            format!("{}/s", bytes(job.bytes_per_second)),
            format!("{}/s", bytes(job.arriving_bytes_per_second)),
            match job.worker_bytes_per_second {
                0 => "-".to_owned(),
                each => format!("{}/s", bytes(each)),
            },
            milliseconds(job.lag_ms),
            job.places.to_string(),
            if job.held_up {
                "its workers have time left: it waits for something else".into()
            } else {
                String::new()
            },
        ]
    };
    let rows = jobs.iter().map(row).collect::<Vec<_>>();
    table(
        [
            "JOB",
            "WORK",
            "NEEDED",
            "READ",
            "COMES IN",
            "ONE WORKER",
            "LAG",
            "PLACES",
            "REMARK",
        ],
        &rows,
    )
}

fn decisions_text(decisions: &[ScalingDecision], job: Option<&str>) -> String {
    let part = |decision: &ScalingDecision| {
        let figures = decision.figures.as_ref();
        let job = figures.and_then(|figures| {
            figures
                .jobs
                .iter()
                .find(|part| Some(part.job.as_str()) == job)
        });
        job.map_or_else(|| "-".to_owned(), |part| format!("{:.2}", part.work_needed))
    };
    let row = |decision: &ScalingDecision| {
        [
            time(decision.at_ms),
            decision.from.to_string(),
            decision.to.to_string(),
            decision.workers.to_string(),
            part(decision),
            decision.reason.clone(),
        ]
    };
    let rows = decisions.iter().map(row);
    match job {
        Some(_) => table(
            ["TIME", "FROM", "TO", "THERE", "JOB NEEDS", "WHY"],
            &rows.collect::<Vec<_>>(),
        ),
        None => {
            let rows = rows
                .map(|[time, from, to, there, _, why]| [time, from, to, there, why])
                .collect::<Vec<_>>();
            table(["TIME", "FROM", "TO", "THERE", "WHY"], &rows)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::client::tests::{FakeJobs, serve};
    use crate::output::Format;
    use crate::output::tests::{captured, documented};

    /// The status of a cluster that has just requested one more worker.
    pub fn status() -> ScalingStatus {
        let job = ScalingJob {
            job: "sales".into(),
            work: 0.96,
            work_needed: 1.4,
            bytes_per_second: 2 << 20,
            arriving_bytes_per_second: 3 << 20,
            worker_bytes_per_second: 2 << 20,
            lag_ms: 12_300,
            places: 4,
            held_up: false,
        };
        let figures = ScalingFigures {
            measured_ms: 1_795_481_115_000,
            busy_permille: 963,
            busiest_permille: 963,
            jobs: vec![job],
            jobs_omitted: 0,
            needed: 2,
        };
        let began = ScalingDecision {
            at_ms: 1_795_481_100_000,
            term: 3,
            from: 1,
            to: 1,
            workers: 1,
            reason: "a leader began".into(),
            figures: None,
        };
        let more = ScalingDecision {
            at_ms: 1_795_481_115_000,
            to: 2,
            reason: "the workers are 96 % busy".into(),
            figures: Some(figures.clone()),
            ..began.clone()
        };
        ScalingStatus {
            desired: Some(2),
            workers: 1,
            min: 1,
            max: 10,
            doing: "waiting for 1 more worker to come".into(),
            figures: Some(figures),
            decisions: vec![began, more],
            active: true,
        }
    }

    async fn shown(job: Option<&str>, format: Format) -> (Result<(), CliError>, String) {
        let controller = Controller::new(&serve(FakeJobs::default()).await).unwrap();
        let (mut out, data, _) = captured(format);
        let args = ScalingArgs {
            job: job.map(str::to_owned),
            limit: 20,
        };
        (run(&args, &controller, &mut out).await, data.text())
    }

    #[tokio::test]
    async fn every_decision_is_shown_with_its_reason_and_the_part_of_a_job() {
        let (_, text) = shown(Some("sales"), Format::Table).await;
        let expected = "\
workers:    1 there, 2 wanted (from 1 to 10)
now:        waiting for 1 more worker to come
measured:   2026-11-24T00:45:15Z: 96 % busy, the busiest 96 %; 2 workers would be right

JOB    WORK  NEEDED  READ     COMES IN  ONE WORKER  LAG     PLACES  REMARK
sales  0.96  1.40    2 MiB/s  3 MiB/s   2 MiB/s     12.3 s  4

TIME                  FROM  TO  THERE  JOB NEEDS  WHY
2026-11-24T00:45:00Z  1     1   1      -          a leader began
2026-11-24T00:45:15Z  1     2   1      1.40       the workers are 96 % busy";
        let trimmed: Vec<_> = text.lines().map(str::trim_end).collect();
        assert_eq!(trimmed.join("\n"), expected);
        let (_, text) = shown(None, Format::Table).await;
        assert!(
            text.contains("TIME                  FROM  TO  THERE  WHY"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn programs_get_the_names_of_the_message() {
        let (_, text) = shown(Some("sales"), Format::Json).await;
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&json["desired"], &json["decisions"][1]["to"]),
            (&2.into(), &2.into())
        );
        assert_eq!(json["decisions"][1]["figures"]["jobs"][0]["places"], 4);
        documented("scaling", &json);
    }

    #[tokio::test]
    async fn a_job_that_is_not_there_ends_with_exit_code_3() {
        assert_eq!(
            shown(Some("other"), Format::Table)
                .await
                .0
                .unwrap_err()
                .exit_code(),
            3
        );
    }
}
