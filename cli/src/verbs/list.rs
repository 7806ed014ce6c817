//! `streamctl list`: one line per job.

use crate::args::ListArgs;
use crate::client::Controller;
use crate::error::CliError;
use crate::output::Output;
use crate::views::{jobs_text, status_json};

/// Printed if there are no jobs.
const NONE: &str = "no jobs yet: start one with `streamctl submit job.toml`";

pub async fn run(
    args: &ListArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let jobs = out
        .during("asking for the jobs", controller.all_jobs())
        .await?;
    if args.names {
        let names: Vec<_> = jobs.iter().map(|job| job.job.as_str()).collect();
        return if names.is_empty() {
            Ok(())
        } else {
            out.text(&names.join("\n"))
        };
    }
    let paint = out.paint();
    out.list(
        &jobs,
        NONE,
        |jobs| jobs_text(jobs, paint),
        |jobs| jobs.iter().map(status_json).collect(),
    )
}
