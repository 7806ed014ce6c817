//! `streamctl list`: one line per job.

use crate::args::ListArgs;
use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::Output;
use crate::views::{jobs_text, status_json};
use streamctl_proto::v1::ListJobsRequest;

/// Printed if there are no jobs.
const NONE: &str = "no jobs yet: start one with `streamctl submit job.toml`";

pub async fn run(
    args: &ListArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let ask =
        controller.ask(|channel| async move { jobs(channel).list_jobs(ListJobsRequest {}).await });
    let answer = out.during("asking for the jobs", ask).await?;
    if args.names {
        let names: Vec<_> = answer.jobs.iter().map(|job| job.job.as_str()).collect();
        return if names.is_empty() {
            Ok(())
        } else {
            out.text(&names.join("\n"))
        };
    }
    let paint = out.paint();
    out.list(
        &answer.jobs,
        NONE,
        |jobs| jobs_text(jobs, paint),
        |jobs| jobs.iter().map(status_json).collect(),
    )
}
