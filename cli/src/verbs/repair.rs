//! `streamctl repair`: repairs a job that cannot continue by itself.
//!
//! Owns: the output. Does not own: which repair a job needs, and whether there is one (the
//! controller).
//! Rule: the repair is done only when the summary has arrived.

use super::run::named_job;
use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::local::LocalJob;
use crate::output::Output;
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use streamctl_proto::count;
use streamctl_proto::v1::repair_event::Event;
use streamctl_proto::v1::repair_summary::Kind;
use streamctl_proto::v1::{RepairEvent, RepairJobRequest, RepairSummary};
use tonic::Streaming;

/// Of `repair`.
#[derive(Args, Debug)]
pub struct RepairArgs {
    /// Job name
    #[arg(required_unless_present = "local", conflicts_with = "local")]
    pub job: Option<String>,
    /// Repair the local state that `streamctl run` left for this job file
    #[arg(long, value_name = "FILE")]
    pub local: Option<PathBuf>,
    /// State directory of that run (default: next to the job file)
    #[arg(long, value_name = "DIR", requires = "local", conflicts_with = "job")]
    pub state: Option<PathBuf>,
    /// Give up the lost rows of an epoch instead of recomputing them; `verify` reports them
    #[arg(long)]
    pub skip: bool,
}

/// Repairs a job of a cluster.
pub async fn run(
    args: &RepairArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let request = request(args, args.job.clone().unwrap_or_default());
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).repair_job(request).await }
    };
    let mut events = out
        .during("asking what it needs", controller.call(call))
        .await?;
    let progress = out.progress("repairing");
    let summary = summary_of(&mut events, |doing| progress.show(doing)).await;
    drop(progress);
    show(&summary?, out)
}

/// Repairs a job that ran in a process like this one.
pub async fn run_local(
    args: &RepairArgs,
    repair: impl AsyncFnOnce(LocalJob, RepairJobRequest) -> Result<RepairSummary, CliError>,
    out: &mut Output,
) -> Result<(), CliError> {
    let (local, name) = named_job(
        &args.local.clone().unwrap_or_default(),
        args.state.as_deref(),
    )?;
    let repairs = repair(local, request(args, name.to_string()));
    let summary = out.during("repairing", repairs).await?;
    show(&summary, out)
}

fn request(args: &RepairArgs, job: String) -> RepairJobRequest {
    RepairJobRequest {
        job,
        skip: args.skip,
    }
}

/// Waits for the end of a repair.
///
/// # Errors
/// Why there was none; or the connection broke.
pub async fn summary_of(
    events: &mut Streaming<RepairEvent>,
    mut show: impl FnMut(String),
) -> Result<RepairSummary, CliError> {
    while let Some(RepairEvent { event }) = events.message().await? {
        match event {
            Some(Event::Progress(now)) => show(now.doing),
            Some(Event::Summary(summary)) => return Ok(summary),
            None => {}
        }
    }
    Err(CliError::Unreachable(
        "the repair broke off; run it again, the completed steps are kept".into(),
    ))
}

fn show(summary: &RepairSummary, out: &mut Output) -> Result<(), CliError> {
    out.either(|| as_text(summary), || as_json(summary))?;
    out.note(next(summary));
    Ok(())
}

fn as_text(summary: &RepairSummary) -> String {
    let RepairSummary {
        job,
        from_epoch,
        epoch,
        recorded_in,
        objects_lost,
        objects,
        rows_lost,
        ..
    } = summary;
    match summary.kind() {
        Kind::HeadMoved | Kind::Unspecified => {
            format!(
                "job {job}: the head was moved from epoch {from_epoch} to {epoch}, which was \
                 committed last"
            )
        }
        Kind::Recomputed => format!(
            "job {job}: {} of epoch {epoch} ({}) were computed again into {}; epoch {recorded_in} \
             says so",
            count(*objects_lost, "lost object"),
            count(*rows_lost, "row"),
            count(*objects, "object")
        ),
        Kind::Skipped => format!(
            "job {job}: {} of epoch {epoch} ({}) were given up; epoch {recorded_in} says so",
            count(*objects_lost, "lost object"),
            count(*rows_lost, "row")
        ),
    }
}

fn next(summary: &RepairSummary) -> &'static str {
    match summary.kind() {
        Kind::HeadMoved | Kind::Unspecified => {
            "it goes on from there, unless it was stopped; `streamctl verify` says whether every \
             record is there once"
        }
        Kind::Recomputed | Kind::Skipped => {
            "what was committed after it is published now; submit the job again to let it go on, \
             and `streamctl verify` it"
        }
    }
}

fn kind(summary: &RepairSummary) -> String {
    summary
        .kind()
        .as_str_name()
        .trim_start_matches("KIND_")
        .to_lowercase()
}

fn as_json(summary: &RepairSummary) -> Value {
    json!({
        "job": summary.job, "kind": kind(summary), "from_epoch": summary.from_epoch, "epoch": summary.epoch,
        "recorded_in": summary.recorded_in, "objects_lost": summary.objects_lost, "objects": summary.objects,
        "rows_lost": summary.rows_lost,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{FakeJobs, serve};
    use crate::output::Format;
    use crate::output::tests::{captured, documented};

    #[tokio::test]
    async fn a_repair_reports_what_it_did_and_one_of_no_job_fails() {
        let controller = Controller::new(&serve(FakeJobs::default()).await).unwrap();
        let args = |job: &str| RepairArgs {
            job: Some(job.into()),
            local: None,
            state: None,
            skip: false,
        };
        let (mut out, data, notes) = captured(Format::Table);
        run(&args("sales"), &controller, &mut out).await.unwrap();
        assert!(
            data.text().contains("from epoch 6 to 14"),
            "{}",
            data.text()
        );
        assert!(
            notes.text().contains("streamctl verify"),
            "{}",
            notes.text()
        );
        let (mut out, data, _) = captured(Format::Json);
        run(&args("sales"), &controller, &mut out).await.unwrap();
        documented("repair", &serde_json::from_str(&data.text()).unwrap());
        let (mut out, _, _) = captured(Format::Table);
        assert_eq!(
            run(&args("other"), &controller, &mut out)
                .await
                .unwrap_err()
                .exit_code(),
            3
        );
    }
}
