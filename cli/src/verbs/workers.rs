//! `streamctl workers`: one line per worker.

use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::Output;
use crate::views::{worker_json, workers_text};
use streamctl_proto::v1::ListWorkersRequest;

/// Printed if there are no workers.
const NONE: &str = "no workers: start one with `streamctl-worker --controller URL`; the reason is in its log if it is not let in";

pub async fn run(controller: &Controller, out: &mut Output) -> Result<(), CliError> {
    let call = controller
        .call(|channel| async move { jobs(channel).list_workers(ListWorkersRequest {}).await });
    let response = out.during("asking for the workers", call).await?;
    out.list(&response.workers, NONE, workers_text, |workers| {
        workers.iter().map(worker_json).collect()
    })
}
