//! `streamctl epochs`: the committed epochs of a job.

use crate::args::EpochsArgs;
use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::Output;
use crate::views::{epoch_json, epochs_text};
use streamctl_proto::v1::ListEpochsRequest;

/// Lists them, oldest first.
pub async fn run(args: &EpochsArgs, controller: &Controller, out: &mut Output) -> Result<(), CliError> {
    let request = ListEpochsRequest { job: args.job.clone(), from: args.from.unwrap_or(0), limit: args.limit };
    let ask = |channel| {
        let request = request.clone();
        async move { jobs(channel).list_epochs(request).await }
    };
    let answer = out.during("asking for the epochs", controller.ask(ask)).await?;
    out.either(|| epochs_text(&answer.epochs), || answer.epochs.iter().map(epoch_json).collect())
}
