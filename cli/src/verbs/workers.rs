//! `streamctl workers`: one line per worker.

use crate::client::Controller;
use crate::error::CliError;
use crate::output::Output;
use crate::views::{worker_json, workers_text};

/// Printed if there are no workers.
const NONE: &str = "no workers: start one with `streamctl-worker --controller URL`; the reason is in its log if it is not let in";

pub async fn run(controller: &Controller, out: &mut Output) -> Result<(), CliError> {
    let workers = out
        .during("asking for the workers", controller.all_workers())
        .await?;
    out.list(&workers, NONE, workers_text, |workers| {
        workers.iter().map(worker_json).collect()
    })
}
