//! `streamctl stop`: stops a job; its position is kept.

use crate::args::StopArgs;
use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::Output;
use crate::views::{has_ended, now_line, state, status_json};
use std::time::Duration;
use streamctl_proto::count;
use streamctl_proto::v1::{GetJobRequest, JobState, JobStatus, StopJobRequest};

/// Between two looks at a job that drains.
const LOOK: Duration = Duration::from_millis(500);

/// Stops it, and says how far it came. A drain is waited for; whoever is interrupted meanwhile stops only the waiting.
pub async fn run(args: &StopArgs, controller: &Controller, out: &mut Output) -> Result<(), CliError> {
    let request = StopJobRequest { job: args.job.clone(), drain: args.drain };
    let ask = |channel| {
        let request = request.clone();
        async move { jobs(channel).stop_job(request).await }
    };
    let progress = out.progress("stopping");
    let mut status = controller.ask(ask).await?;
    while args.drain && !args.no_wait && !drained(&status) {
        progress.say(format!("finishing the open windows; {}", now_line(&status)));
        tokio::time::sleep(LOOK).await;
        status = brief(&args.job, controller).await?;
    }
    drop(progress);
    let text = || format!("job {} is {}, {} committed", status.job, state(&status), count(status.epoch, "epoch"));
    out.either(text, || status_json(&status))?;
    if status.state() == JobState::Failed {
        return Err(CliError::Local { message: status.error, hint: status.hint });
    }
    if status.state() == JobState::Completed {
        out.note("it had read its source to the end: there is nothing to go on with");
    } else {
        out.note("submitting the same file again goes on from there");
    }
    Ok(())
}

/// It has ended, and what it committed is published.
fn drained(status: &JobStatus) -> bool {
    has_ended(status) && (status.published >= status.epoch || status.state() == JobState::Failed)
}

async fn brief(job: &str, controller: &Controller) -> Result<JobStatus, CliError> {
    let request = GetJobRequest { job: job.to_owned(), brief: true };
    let ask = |channel| {
        let request = request.clone();
        async move { jobs(channel).get_job(request).await }
    };
    controller.ask(ask).await
}
