//! `streamctl delete`: deletes a job that does not run.

use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::Output;
use clap::Args;
use serde_json::{Value, json};
use streamctl_proto::count;
use streamctl_proto::v1::{DeleteJobRequest, DeleteJobResponse};

/// Of `delete`.
#[derive(Args, Debug)]
pub struct DeleteArgs {
    /// Job name
    pub job: String,
    /// Delete the job even if committed epochs are not published; their rows never appear
    #[arg(long)]
    pub force: bool,
    /// Remove its manifests, lookup versions and job files from the checkpoint location, too; then
    /// `verify` can prove nothing of it any more
    #[arg(long)]
    pub purge: bool,
}

/// Deletes the job, and prints what stays.
pub async fn run(
    args: &DeleteArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let request = DeleteJobRequest {
        job: args.job.clone(),
        force: args.force,
        purge: args.purge,
    };
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).delete_job(request).await }
    };
    let response = out.during("deleting", controller.call(call)).await?;
    out.either(|| as_text(&response), || as_json(&response))?;
    if !response.purge_problem.is_empty() {
        out.note(&format!(
            "the job is deleted, but objects are left below {}: {}\n  hint: remove its folder there by hand",
            response.checkpoint, response.purge_problem
        ));
    }
    out.note(if args.purge && response.purge_problem.is_empty() {
        "a job of this name begins anew with another sink, or when its rows in the sink were removed"
    } else {
        "a job of this name begins anew with another checkpoint location and sink; or when its folder below the checkpoint \
         location (`--purge`) and its rows in the sink were removed"
    });
    Ok(())
}

fn as_text(response: &DeleteJobResponse) -> String {
    let DeleteJobResponse {
        job,
        epoch,
        sink,
        dead_letters,
        checkpoint,
        purged,
        ..
    } = response;
    let removed = match purged {
        0 => String::new(),
        purged => format!(" ({} removed)", count(purged, "object")),
    };
    format!(
        "job {job} is deleted, {} committed; what it wrote stays\nsink:        {sink}\ndead letter: {dead_letters}\n\
         checkpoint:  {checkpoint}{removed}",
        count(epoch, "epoch")
    )
}

fn as_json(response: &DeleteJobResponse) -> Value {
    json!({
        "job": response.job, "epoch": response.epoch, "sink": response.sink, "dead_letters": response.dead_letters,
        "checkpoint": response.checkpoint, "purged": response.purged, "purge_problem": response.purge_problem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{FakeJobs, serve};
    use crate::output::Format;
    use crate::output::tests::{captured, documented};

    #[tokio::test]
    async fn a_deletion_lists_what_stays() {
        let controller = Controller::new(&serve(FakeJobs::default()).await).unwrap();
        let args = DeleteArgs {
            job: "sales".into(),
            force: false,
            purge: false,
        };
        let (mut out, data, notes) = captured(Format::Table);
        run(&args, &controller, &mut out).await.unwrap();
        assert!(
            data.text().starts_with("job sales is deleted, "),
            "{}",
            data.text()
        );
        assert!(
            data.text().contains("\ncheckpoint:  s3://b/checkpoint/\n"),
            "{}",
            data.text()
        );
        assert!(notes.text().contains("begins anew"), "{}", notes.text());
        let (mut out, data, _) = captured(Format::Json);
        run(&args, &controller, &mut out).await.unwrap();
        documented("delete", &serde_json::from_str(&data.text()).unwrap());
    }
}
