//! `streamctl dead-letters --replay`: replays dead letters.
//!
//! Rule: repeating the request is harmless: an epoch's dead letters are replayed once, however many
//! times they are requested.

use super::dead_letters::args::DeadLettersArgs;
use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::Output;
use serde_json::json;
use streamctl_proto::count;
use streamctl_proto::v1::{ReplayDeadLettersRequest, ReplayDeadLettersResponse};

/// Sends the request, and prints what will be replayed and what was replayed before.
pub async fn run(
    args: &DeadLettersArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let (from, to) = args.range();
    let request = ReplayDeadLettersRequest {
        job: args.job.clone(),
        from,
        to: to.unwrap_or(0),
    };
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).replay_dead_letters(request).await }
    };
    let progress = out.progress("looking for dead letters");
    let response = controller.call(call).await?;
    drop(progress);
    out.either(|| text(&response), || json(&response))?;
    if response.next_epoch > 0 {
        let next = response.next_epoch;
        out.note(&format!(
            "no more can wait at a time: go on with --from {next} when `streamctl status` shows \
             these done"
        ));
    } else if response.epochs > 0 {
        out.note(&format!(
            "what is still bad becomes a dead letter again: streamctl dead-letters {}",
            args.job
        ));
    }
    Ok(())
}

fn text(response: &ReplayDeadLettersResponse) -> String {
    let ReplayDeadLettersResponse {
        epochs,
        records,
        already,
        ..
    } = response;
    let will = format!(
        "{} of {} will be replayed",
        count(*records, "dead letter"),
        count(*epochs, "epoch")
    );
    let was = format!(
        "{} {}",
        count(*already, "epoch"),
        if *already == 1 { "was" } else { "were" }
    );
    match (epochs, already) {
        (0, 0) => "there are no dead letters in these epochs".to_owned(),
        (0, _) => format!("nothing to do: {was} replayed already"),
        (_, 0) => will,
        _ => format!("{will}; {was} replayed already"),
    }
}

fn json(response: &ReplayDeadLettersResponse) -> serde_json::Value {
    let next = (response.next_epoch > 0).then_some(response.next_epoch);
    json!({"epochs": response.epochs, "records": response.records, "already": response.already, "next_epoch": next})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_lists_what_is_replayed_and_what_was() {
        let response = |epochs, records, already| {
            text(&ReplayDeadLettersResponse {
                epochs,
                records,
                already,
                next_epoch: 0,
            })
        };
        crate::output::tests::documented(
            "dead-letters --replay",
            &json(&ReplayDeadLettersResponse::default()),
        );
        assert_eq!(
            response(0, 0, 0),
            "there are no dead letters in these epochs"
        );
        assert_eq!(
            response(0, 0, 12),
            "nothing to do: 12 epochs were replayed already"
        );
        assert_eq!(
            response(0, 0, 1),
            "nothing to do: 1 epoch was replayed already"
        );
        assert_eq!(
            response(1, 1, 0),
            "1 dead letter of 1 epoch will be replayed"
        );
        assert_eq!(
            response(2, 30, 12),
            "30 dead letters of 2 epochs will be replayed; 12 epochs were replayed already"
        );
    }
}
