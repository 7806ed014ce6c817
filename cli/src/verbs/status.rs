//! `streamctl status`: the status of jobs, once or at every change.

use crate::args::{ListArgs, StatusArgs};
use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::{Format, Output};
use crate::progress::Progress;
use crate::views::{has_ended, now_line, status_json, status_text};
use std::time::Duration;
use streamctl_proto::v1::{GetJobRequest, JobStatus};
use tonic::Streaming;

/// How many times in a row to reconnect to the controllers: a standby leads within 6 s.
const RECONNECTS_MAX: u32 = 10;
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// The exit code of errors that a new leader fixes.
const UNREACHABLE: u8 = 4;

/// All jobs, one job, or one job until it ends.
pub async fn run(
    args: &StatusArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let Some(job) = &args.job else {
        return super::list::run(&ListArgs::default(), controller, out).await;
    };
    let request = GetJobRequest {
        job: job.clone(),
        brief: false,
    };
    if args.watch {
        return watch(&request, controller, out).await;
    }
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).get_job(request).await }
    };
    let status = out
        .during("asking for the job", controller.call(call))
        .await?;
    let paint = out.paint();
    out.either(|| status_text(&status, paint), || status_json(&status))
}

/// If a controller goes away, the job continues: reconnect to its successor.
async fn watch(
    request: &GetJobRequest,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).watch_job(request).await }
    };
    let mut lost = 0;
    let progress = out.progress("asking for the job");
    loop {
        let error = match controller.call(call).await {
            Ok(mut changes) => match follow(&mut changes, &mut lost, &progress, out).await? {
                Followed::ToTheEnd => return Ok(()),
                Followed::Lost(error) => error,
            },
            Err(error) => error,
        };
        lost += 1;
        if error.exit_code() != UNREACHABLE || lost > RECONNECTS_MAX {
            return Err(error);
        }
        progress.show("asking the controllers again");
        out.note(&format!("the controller was lost ({error}); asking again"));
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

enum Followed {
    ToTheEnd,
    Lost(CliError),
}

async fn follow(
    changes: &mut Streaming<JobStatus>,
    lost: &mut u32,
    progress: &Progress,
    out: &mut Output,
) -> Result<Followed, CliError> {
    loop {
        let status = match changes.message().await {
            Ok(Some(status)) => status,
            Ok(None) => {
                return Ok(Followed::Lost(CliError::Unreachable(
                    "the answer ended".into(),
                )));
            }
            Err(status) => return Ok(Followed::Lost(status.into())),
        };
        *lost = 0;
        progress.show(format!(
            "waiting for the next change; {}",
            now_line(&status)
        ));
        let paint = out.paint();
        out.either(|| status_text(&status, paint), || status_json(&status))?;
        if has_ended(&status) {
            return Ok(Followed::ToTheEnd);
        }
        if out.format() == Format::Table {
            out.text("")?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{FakeJobs, serve};
    use crate::output::tests::captured;

    async fn status(
        job: Option<&str>,
        watch: bool,
        format: Format,
    ) -> (Result<(), CliError>, String) {
        let controller = Controller::new(&serve(FakeJobs::default()).await).unwrap();
        let (mut out, data, _) = captured(format);
        let args = StatusArgs {
            job: job.map(str::to_owned),
            watch,
        };
        (run(&args, &controller, &mut out).await, data.text())
    }

    #[tokio::test]
    async fn a_job_is_shown_as_text_or_as_json() {
        let (_, text) = status(Some("sales"), false, Format::Table).await;
        assert!(
            text.starts_with("job:        sales\nstate:      waiting\n"),
            "{text}"
        );
        let (_, text) = status(Some("sales"), false, Format::Json).await;
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["published"],
            7
        );
    }

    #[tokio::test]
    async fn watching_ends_with_the_job() {
        let (result, text) = status(Some("sales"), true, Format::Json).await;
        result.unwrap();
        let states = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["state"].clone());
        assert_eq!(states.collect::<Vec<_>>(), ["waiting", "completed"]);
    }

    #[tokio::test]
    async fn watching_continues_with_the_next_leader() {
        let address = serve(FakeJobs {
            breaks_off: true,
            ..Default::default()
        })
        .await;
        let (mut out, data, notes) = captured(Format::Json);
        let args = StatusArgs {
            job: Some("sales".into()),
            watch: true,
        };
        run(&args, &Controller::new(&address).unwrap(), &mut out)
            .await
            .unwrap();
        assert!(
            data.text()
                .lines()
                .last()
                .unwrap()
                .contains("\"completed\"")
        );
        assert!(notes.text().starts_with("the controller was lost"));
    }

    #[tokio::test]
    async fn a_job_that_is_not_there_ends_with_exit_code_3() {
        let (result, _) = status(Some("other"), false, Format::Table).await;
        assert_eq!(result.unwrap_err().exit_code(), 3);
    }

    #[tokio::test]
    async fn without_a_job_all_are_listed() {
        let (_, text) = status(None, false, Format::Table).await;
        assert!(text.starts_with("JOB    STATE"), "{text}");
    }
}
