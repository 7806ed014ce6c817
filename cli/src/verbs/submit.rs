//! `streamctl submit`: starts a job on a cluster.

use super::{JobFile, job_file};
use crate::args::SubmitArgs;
use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::{Output, table};
use crate::views::change_json;
use serde_json::{Value, json};
use streamctl_proto::v1::{Column, SubmitOutcome, SubmitRequest, SubmitResponse};

/// Checks the job file here, then sends it: problems are printed even if no controller answers.
pub async fn run(
    args: &SubmitArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let JobFile { text, spec, code } = job_file(&args.file)?;
    let request = SubmitRequest {
        spec_toml: text,
        dry_run: args.dry_run,
        base_dir: String::new(),
        change: args.change,
        if_version: args.if_version.unwrap_or(0),
        function_code: code,
    };
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).submit(request).await }
    };
    let what = "checking source, lookups, query and places";
    let called = controller.call_once(call);
    let response = out.during_call(what, controller.waits(), called).await;
    let response = response.map_err(|error| error.of_job_file(&args.file))?;
    out.either(
        || as_text(&response, args.dry_run, spec.whole_window_reason()),
        || as_json(&response, args.dry_run),
    )?;
    if !args.dry_run {
        out.note(&format!(
            "follow it with: streamctl status {} --watch",
            response.job
        ));
    }
    Ok(())
}

/// `reason`: why one task reads all shards, if it does.
fn as_text(response: &SubmitResponse, dry_run: bool, reason: &str) -> String {
    let version = response.job_version;
    let what = match response.outcome() {
        SubmitOutcome::Changed if dry_run => {
            format!("can take over as version {version}; nothing was changed")
        }
        SubmitOutcome::Changed if response.after_epoch == 0 => {
            format!("is at version {version} now")
        }
        SubmitOutcome::Changed => {
            format!(
                "is at version {version} now, from epoch {} on",
                response.after_epoch + 1
            )
        }
        _ if dry_run => "is correct; nothing was started".to_owned(),
        SubmitOutcome::Created => "was started".to_owned(),
        SubmitOutcome::Resumed => "resumed after its last epoch".to_owned(),
        SubmitOutcome::Unchanged | SubmitOutcome::Checked | SubmitOutcome::Unspecified => {
            "was there already, unchanged".to_owned()
        }
    };
    let whole = if response.whole_window {
        format!("\n{reason}: one task reads all shards")
    } else {
        String::new()
    };
    let rows = response
        .output_columns
        .iter()
        .map(|column| [column.name.clone(), column.r#type.clone()]);
    let columns = table(["COLUMN", "TYPE"], &rows.collect::<Vec<_>>());
    let remarks: String = response
        .remarks
        .iter()
        .map(|remark| format!("\nnote: {remark}"))
        .collect();
    format!("job {} {what}{whole}{remarks}\n\n{columns}", response.job)
}

fn as_json(response: &SubmitResponse, dry_run: bool) -> Value {
    let columns = |columns: &[Column]| -> Vec<Value> {
        columns
            .iter()
            .map(|column| json!({"name": column.name, "type": column.r#type}))
            .collect()
    };
    let is = |outcome| response.outcome() == outcome;
    json!({
        "job": response.job, "created": is(SubmitOutcome::Created), "dry_run": dry_run, "whole_window": response.whole_window,
        "job_version": response.job_version, "changed": is(SubmitOutcome::Changed), "resumed": is(SubmitOutcome::Resumed), "after_epoch": response.after_epoch,
        "remarks": response.remarks,
        "changes": response.changes.iter().map(change_json).collect::<Vec<_>>(),
        "source_columns": columns(&response.source_columns), "output_columns": columns(&response.output_columns),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{FakeJobs, serve};
    use crate::output::Format;
    use crate::output::tests::{captured, documented};
    use std::sync::atomic::Ordering;
    use std::time::Duration;
    use streamctl_proto::v1::Wait;

    const JOB: &str = include_str!("../../../deploy/jobs/sales-by-country.toml");

    async fn submit(text: &str, dry_run: bool, jobs: FakeJobs) -> (Result<(), CliError>, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("job.toml");
        std::fs::write(&file, text).unwrap();
        let controller = Controller::new(&serve(jobs).await).unwrap();
        let (mut out, data, _) = captured(Format::Table);
        let result = run(
            &SubmitArgs {
                file,
                dry_run,
                change: false,
                if_version: None,
            },
            &controller,
            &mut out,
        )
        .await;
        (result, data.text())
    }

    #[tokio::test]
    async fn a_submit_that_hangs_prints_what_it_waits_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("job.toml");
        std::fs::write(&file, JOB).unwrap();
        let wait = Wait {
            on: "S3".into(),
            text: "S3 has not answered HeadBucket for 3 s".into(),
            ..Wait::default()
        };
        let hangs = FakeJobs {
            waits: Some(wait),
            ..FakeJobs::default()
        };
        let controller = Controller::new(&serve(hangs).await).unwrap();
        let (mut out, _, notes) = captured(Format::Table);
        let args = SubmitArgs {
            file,
            dry_run: true,
            change: false,
            if_version: None,
        };
        let within = Duration::from_secs(5);
        let submitted = tokio::time::timeout(within, run(&args, &controller, &mut out)).await;
        assert!(submitted.is_err(), "it waits");
        assert_eq!(
            notes.text(),
            "waiting: S3 has not answered HeadBucket for 3 s\n",
            "once"
        );
    }

    #[tokio::test]
    async fn the_answer_shows_the_columns_of_the_result() {
        let (result, text) = submit(JOB, false, FakeJobs::default()).await;
        result.unwrap();
        assert_eq!(
            text,
            "job sales was started\n\nCOLUMN  TYPE\nuuid    string\n"
        );
        let (_, text) = submit(JOB, true, FakeJobs::default()).await;
        assert!(text.starts_with("job sales is correct; nothing was started\n"));
    }

    #[test]
    fn the_answer_as_json_has_the_keys_that_are_documented() {
        let column = || {
            vec![Column {
                name: "uuid".into(),
                r#type: "string".into(),
            }]
        };
        let changes = vec![streamctl_proto::v1::FieldChange::default()];
        let source_columns = column();
        let output_columns = column();
        documented(
            "submit",
            &as_json(
                &SubmitResponse {
                    changes,
                    source_columns,
                    output_columns,
                    ..Default::default()
                },
                false,
            ),
        );
    }

    #[test]
    fn a_take_over_names_its_version_and_its_start() {
        let response = |outcome: SubmitOutcome| SubmitResponse {
            job: "sales".into(),
            outcome: outcome.into(),
            job_version: 4,
            after_epoch: 17,
            ..Default::default()
        };
        let first = |response: &SubmitResponse, dry_run| {
            as_text(response, dry_run, "")
                .lines()
                .next()
                .unwrap()
                .to_owned()
        };
        assert_eq!(
            first(&response(SubmitOutcome::Changed), false),
            "job sales is at version 4 now, from epoch 18 on"
        );
        assert_eq!(
            first(&response(SubmitOutcome::Changed), true),
            "job sales can take over as version 4; nothing was changed"
        );
        assert_eq!(
            first(&response(SubmitOutcome::Unchanged), false),
            "job sales was there already, unchanged"
        );
        assert_eq!(
            first(&response(SubmitOutcome::Resumed), false),
            "job sales resumed after its last epoch"
        );
    }

    #[tokio::test]
    async fn a_relative_path_is_refused_before_anything_is_sent() {
        let jobs = FakeJobs::default();
        let (result, _) = submit(
            include_str!("../../../deploy/jobs/files.toml"),
            false,
            jobs.clone(),
        )
        .await;
        let error = result.unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(
            error
                .to_string()
                .contains("is a relative path, and a cluster has no folder to take it from"),
            "{error}"
        );
        assert_eq!(jobs.requests.load(Ordering::SeqCst), 0);
    }
}
