//! `streamctl submit`: starts a job on a cluster.

use super::{job_file_error, read};
use crate::args::SubmitArgs;
use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::{Output, table};
use serde_json::{Value, json};
use streamctl_proto::JobSpec;
use streamctl_proto::v1::{Column, SubmitRequest, SubmitResponse};

/// Checks the job file here, then sends it: what is wrong is told even where no controller answers.
pub async fn run(args: &SubmitArgs, controller: &Controller, out: &mut Output) -> Result<(), CliError> {
    let text = read(&args.file)?;
    JobSpec::parse(&text).map_err(|problems| job_file_error(&args.file, problems))?;
    let request = SubmitRequest { spec_toml: text, dry_run: args.dry_run, base_dir: String::new() };
    let ask = |channel| {
        let request = request.clone();
        async move { jobs(channel).submit(request).await }
    };
    let progress = out.progress("checking source, lookups, query and places");
    let answer = controller.ask(ask).await?;
    drop(progress);
    out.either(|| as_text(&answer, args.dry_run), || as_json(&answer, args.dry_run))?;
    if !args.dry_run {
        out.note(&format!("follow it with: streamctl status {} --watch", answer.job));
    }
    Ok(())
}

fn as_text(answer: &SubmitResponse, dry_run: bool) -> String {
    let what = match (dry_run, answer.created) {
        (true, _) => "is correct; nothing was started",
        (false, true) => "was started",
        (false, false) => "was there already, unchanged",
    };
    let whole = if answer.whole_window { "\nthe query needs whole windows: one task reads all shards" } else { "" };
    let rows = answer.output_columns.iter().map(|column| [column.name.clone(), column.r#type.clone()]);
    let columns = table(["COLUMN", "TYPE"], &rows.collect::<Vec<_>>());
    format!("job {} {what}{whole}\n\n{columns}", answer.job)
}

fn as_json(answer: &SubmitResponse, dry_run: bool) -> Value {
    let columns = |columns: &[Column]| -> Vec<Value> {
        columns.iter().map(|column| json!({"name": column.name, "type": column.r#type})).collect()
    };
    json!({
        "job": answer.job, "created": answer.created, "dry_run": dry_run, "whole_window": answer.whole_window,
        "source_columns": columns(&answer.source_columns), "output_columns": columns(&answer.output_columns),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{FakeJobs, serve};
    use crate::output::Format;
    use crate::output::tests::captured;
    use std::sync::atomic::Ordering;

    const JOB: &str = include_str!("../../../deploy/jobs/sales-by-country.toml");

    async fn submit(text: &str, dry_run: bool, jobs: FakeJobs) -> (Result<(), CliError>, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("job.toml");
        std::fs::write(&file, text).unwrap();
        let controller = Controller::new(&serve(jobs).await).unwrap();
        let (mut out, data, _) = captured(Format::Table);
        let result = run(&SubmitArgs { file, dry_run }, &controller, &mut out).await;
        (result, data.text())
    }

    #[tokio::test]
    async fn the_answer_shows_the_columns_of_the_result() {
        let (result, text) = submit(JOB, false, FakeJobs::default()).await;
        result.unwrap();
        assert_eq!(text, "job sales was started\n\nCOLUMN  TYPE\nuuid    string\n");
        let (_, text) = submit(JOB, true, FakeJobs::default()).await;
        assert!(text.starts_with("job sales is correct; nothing was started\n"));
    }

    #[tokio::test]
    async fn a_relative_path_is_refused_before_anything_is_sent() {
        let jobs = FakeJobs::default();
        let (result, _) = submit(include_str!("../../../deploy/jobs/files.toml"), false, jobs.clone()).await;
        let error = result.unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error.to_string().contains("is a relative path, and a cluster has no folder to take it from"),
            "{error}"
        );
        assert_eq!(jobs.asked.load(Ordering::SeqCst), 0);
    }
}
