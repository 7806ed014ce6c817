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
    let call =
        controller.call(|channel| async move { jobs(channel).list_jobs(ListJobsRequest {}).await });
    let response = out.during("asking for the jobs", call).await?;
    if args.names {
        let names: Vec<_> = response.jobs.iter().map(|job| job.job.as_str()).collect();
        return if names.is_empty() {
            Ok(())
        } else {
            out.text(&names.join("\n"))
        };
    }
    let paint = out.paint();
    out.list(
        &response.jobs,
        NONE,
        |jobs| jobs_text(jobs, paint),
        |jobs| jobs.iter().map(status_json).collect(),
    )
}
