//! `streamctl status`: how jobs are doing, once or at every change.

use crate::args::StatusArgs;
use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::{Format, Output};
use crate::views::{has_ended, status_json, status_text};
use streamctl_proto::v1::GetJobRequest;

/// All jobs, one job, or one job until it ends.
pub async fn run(args: &StatusArgs, controller: &Controller, out: &mut Output) -> Result<(), CliError> {
    let Some(job) = &args.job else { return super::list::run(controller, out).await };
    let request = GetJobRequest { job: job.clone(), brief: false };
    if args.watch {
        return watch(&request, controller, out).await;
    }
    let ask = |channel| {
        let request = request.clone();
        async move { jobs(channel).get_job(request).await }
    };
    let status = controller.ask(ask).await?;
    out.either(|| status_text(&status), || status_json(&status))
}

async fn watch(request: &GetJobRequest, controller: &Controller, out: &mut Output) -> Result<(), CliError> {
    let ask = |channel| {
        let request = request.clone();
        async move { jobs(channel).watch_job(request).await }
    };
    let mut changes = controller.ask(ask).await?;
    while let Some(status) = changes.message().await? {
        out.either(|| status_text(&status), || status_json(&status))?;
        if has_ended(&status) {
            break;
        }
        if out.format() == Format::Table {
            out.text("")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{FakeJobs, serve};
    use crate::output::tests::captured;

    async fn status(job: Option<&str>, watch: bool, format: Format) -> (Result<(), CliError>, String) {
        let controller = Controller::new(&serve(FakeJobs::default()).await).unwrap();
        let (mut out, data, _) = captured(format);
        let args = StatusArgs { job: job.map(str::to_owned), watch };
        (run(&args, &controller, &mut out).await, data.text())
    }

    #[tokio::test]
    async fn a_job_is_shown_as_text_or_as_json() {
        let (_, text) = status(Some("sales"), false, Format::Table).await;
        assert!(text.starts_with("job:        sales\nstate:      waiting\n"), "{text}");
        let (_, text) = status(Some("sales"), false, Format::Json).await;
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["published"], 7);
    }

    #[tokio::test]
    async fn watching_ends_with_the_job() {
        let (result, text) = status(Some("sales"), true, Format::Json).await;
        result.unwrap();
        let states = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["state"].clone());
        assert_eq!(states.collect::<Vec<_>>(), ["waiting", "completed"]);
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
