//! `streamctl stop`: stops a job; its position is kept.

use crate::args::StopArgs;
use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::Output;
use crate::views::{has_ended, now_line, state, status_json};
use std::time::Duration;
use streamctl_proto::count;
use streamctl_proto::json::time;
use streamctl_proto::v1::{GetJobRequest, JobState, JobStatus, NotDrained, StopJobRequest};

/// Time between two checks of a job that drains.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// Stops the job, and prints its position. Waits for a drain; an interrupt stops only the waiting.
pub async fn run(
    args: &StopArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let request = StopJobRequest {
        job: args.job.clone(),
        drain: args.drain,
    };
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).stop_job(request).await }
    };
    let progress = out.progress("stopping");
    let mut status = controller.call(call).await?;
    while args.drain && !args.no_wait && !drained(&status) {
        progress.show(format!("finishing the open windows; {}", now_line(&status)));
        tokio::time::sleep(POLL_INTERVAL).await;
        status = brief(&args.job, controller).await?;
    }
    drop(progress);
    let text = || {
        format!(
            "job {} is {}, {} committed",
            status.job,
            state(&status),
            count(status.epoch, "epoch")
        )
    };
    out.either(text, || status_json(&status))?;
    if status.state() == JobState::Failed {
        return Err(CliError::Local {
            message: status.error,
            hint: status.hint,
        });
    }
    if let Some(left) = status
        .not_drained
        .as_ref()
        .filter(|_| args.drain && has_ended(&status))
    {
        return Err(not_drained(&status.job, left));
    }
    if status.state() == JobState::Completed {
        out.note("it had read its source to the end: there is nothing to go on with");
    } else {
        out.note("submitting the same file again goes on from there");
    }
    Ok(())
}

/// The job stopped before its open windows were finished.
fn not_drained(job: &str, left: &NotDrained) -> CliError {
    let from = match left.from_ms {
        0 => "the job's start".to_owned(),
        from_ms => time(from_ms),
    };
    let what = match left.until_ms {
        0 => format!("what arrived since {from}, as another controller leads now"),
        until_ms => format!("what arrived from {from} to {}", time(until_ms)),
    };
    CliError::Local {
        message: format!("job {job} is stopped, and its open windows could not be finished: {what} is in no epoch"),
        hint:
            "nothing is lost: submitting the same file again reads it again; to change the job now, let it run until \
               its workers are there, and drain it again"
                .to_owned(),
    }
}

/// The job has ended, and what it committed is published.
fn drained(status: &JobStatus) -> bool {
    has_ended(status) && (status.published >= status.epoch || status.state() == JobState::Failed)
}

async fn brief(job: &str, controller: &Controller) -> Result<JobStatus, CliError> {
    let request = GetJobRequest {
        job: job.to_owned(),
        brief: true,
    };
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).get_job(request).await }
    };
    controller.call(call).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_that_left_windows_is_an_error_that_names_them() {
        let error = not_drained(
            "sales",
            &NotDrained {
                from_ms: 1_795_481_100_000,
                until_ms: 1_795_481_160_000,
            },
        );
        assert_eq!(error.exit_code(), 1);
        assert!(
            error.to_string().contains("from 2026-11-24")
                && error.hint().unwrap().contains("nothing is lost")
        );
        let unknown = not_drained(
            "sales",
            &NotDrained {
                from_ms: 1_795_481_100_000,
                until_ms: 0,
            },
        );
        assert!(
            unknown.to_string().contains("another controller leads now"),
            "{unknown}"
        );
        let begun = not_drained(
            "sales",
            &NotDrained {
                from_ms: 0,
                until_ms: 1_795_481_160_000,
            },
        );
        assert!(
            begun.to_string().contains("from the job's start to 2026"),
            "{begun}"
        );
    }
}
