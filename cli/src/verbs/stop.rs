//! `streamctl stop`: stops a job; its position is kept.

use crate::args::StopArgs;
use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::Output;
use crate::views::{state, status_json};
use streamctl_proto::v1::StopJobRequest;

/// Stops it, and says how far it came.
pub async fn run(args: &StopArgs, controller: &Controller, out: &mut Output) -> Result<(), CliError> {
    let request = StopJobRequest { job: args.job.clone(), drain: args.drain };
    let ask = |channel| {
        let request = request.clone();
        async move { jobs(channel).stop_job(request).await }
    };
    let status = controller.ask(ask).await?;
    let text = || format!("job {} is {}, {} epochs committed", status.job, state(&status), status.epoch);
    out.either(text, || status_json(&status))?;
    out.note("submitting the same file again goes on from there");
    Ok(())
}
