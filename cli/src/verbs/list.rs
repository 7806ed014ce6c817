//! `streamctl list`: one line per job.

use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::Output;
use crate::views::{jobs_text, status_json};
use streamctl_proto::v1::ListJobsRequest;

/// Lists the jobs.
pub async fn run(controller: &Controller, out: &mut Output) -> Result<(), CliError> {
    let answer = controller.ask(|channel| async move { jobs(channel).list_jobs(ListJobsRequest {}).await }).await?;
    out.either(|| jobs_text(&answer.jobs), || answer.jobs.iter().map(status_json).collect())
}
