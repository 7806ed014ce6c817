//! `streamctl diff`: what a job file would change of the running job of its name.
//!
//! Owns: how differences are shown. Does not own: the comparison and its rules (the controller,
//! `proto::change`).
//! Rule: like diff, it exits with 0 if there are no differences and with 1 if there are; if the
//! comparison fails, it exits with another code.

use super::run::job;
use super::{JobFile, files, job_file};
use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::local::LocalJob;
use crate::output::{Output, Paint, Tone};
use crate::views::diff_json;
use clap::Args;
use std::path::PathBuf;
use streamctl_proto::count;
use streamctl_proto::v1::{DiffRequest, DiffResponse, FieldChange};

/// Of `diff`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 nothing would change, 1 something would change, 2 usage error or invalid job \
                        file, 3 no such job, 4 no controller answers, 5 could not be compared"
)]
pub struct DiffArgs {
    /// Job file
    pub file: PathBuf,
    /// Compare with the local state that `streamctl run` left
    #[arg(long)]
    pub local: bool,
    /// State directory of that run (default: next to the job file)
    #[arg(long, value_name = "DIR", requires = "local")]
    pub state: Option<PathBuf>,
}

/// Compares, and prints the differences.
pub async fn run(
    args: &DiffArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let JobFile { text, code, .. } = job_file(&args.file)?;
    let request = DiffRequest {
        spec_toml: text,
        base_dir: String::new(),
        function_code: code,
    };
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).diff(request).await }
    };
    let what = "comparing source, columns, lookups and query";
    let called = controller.call_once(call);
    let response = out.during_call(what, controller.waits(), called).await;
    show(args, response, "submit", out)
}

/// Compares with a job that ran in a process like this one.
pub async fn run_local(
    args: &DiffArgs,
    diff: impl AsyncFnOnce(LocalJob, DiffRequest) -> Result<DiffResponse, CliError>,
    out: &mut Output,
) -> Result<(), CliError> {
    let local = job(&args.file, args.state.as_deref())?;
    let request = DiffRequest {
        spec_toml: local.spec_text.clone(),
        base_dir: local.base_dir.display().to_string(),
        function_code: files(local.function_code.as_ref()),
    };
    let response = out
        .during("comparing columns, lookups and query", diff(local, request))
        .await;
    show(args, response, "run", out)
}

/// `taken_by` is the verb that applies the file.
fn show(
    args: &DiffArgs,
    response: Result<DiffResponse, CliError>,
    taken_by: &str,
    out: &mut Output,
) -> Result<(), CliError> {
    let response = response.map_err(|error| not_compared(error.of_job_file(&args.file)))?;
    let state = args
        .state
        .as_ref()
        .map(|state| format!(" --state {}", state.display()))
        .unwrap_or_default();
    let take_over = format!(
        "streamctl {taken_by} --change {}{state}",
        args.file.display()
    );
    let paint = out.paint();
    out.either(
        || as_text(&response, &take_over, paint),
        || diff_json(&response),
    )?;
    if response.changes.is_empty() {
        Ok(())
    } else {
        Err(CliError::Differs)
    }
}

/// A failure must not look like a difference.
fn not_compared(error: CliError) -> CliError {
    match error.exit_code() {
        1 => CliError::Partly {
            message: format!("not compared: {error}"),
            hint: error
                .hint()
                .unwrap_or_else(|| "see the controller's log".to_owned()),
        },
        _ => error,
    }
}

fn as_text(response: &DiffResponse, take_over: &str, paint: Paint) -> String {
    let DiffResponse {
        job,
        job_version,
        epoch,
        ..
    } = response;
    let mut lines = vec![format!(
        "job {job}, version {job_version}, {} committed",
        count(epoch, "epoch")
    )];
    if response.changes.is_empty() {
        lines.push("nothing would change".to_owned());
        return lines.join("\n");
    }
    response
        .changes
        .iter()
        .for_each(|change| lines.extend(change_lines(change, paint)));
    lines.extend(plan_lines(
        &response.plan_was,
        &response.plan_will_be,
        paint,
    ));
    lines.push(verdict(response, take_over, paint));
    lines.join("\n")
}

/// Both plans, if they differ.
pub(super) fn plan_lines(was: &str, will_be: &str, paint: Paint) -> Vec<String> {
    if will_be.is_empty() {
        return vec![];
    }
    let mut lines = vec!["the query's plan (each operator reads those below it)".to_owned()];
    lines.extend(value_lines(Some(was), Some(will_be), paint));
    lines
}

/// A field, its old and its new value, and why it cannot be taken over.
pub(super) fn change_lines(change: &FieldChange, paint: Paint) -> Vec<String> {
    let what = match (&change.was, &change.will_be) {
        (None, Some(_)) => "added",
        (Some(_), None) => "removed",
        _ => "changed",
    };
    let head = if change.taken_over {
        format!("{} ({what})", change.field)
    } else {
        format!(
            "{} ({what}, {})",
            change.field,
            paint.text(Tone::Bad, "cannot be taken over")
        )
    };
    let mut lines = vec![head];
    lines.extend(value_lines(
        change.was.as_deref(),
        change.will_be.as_deref(),
        paint,
    ));
    if !change.taken_over {
        lines.push(format!("    {}", change.reason));
        lines.push(format!("    hint: {}", change.hint));
    }
    lines
}

fn value_lines(was: Option<&str>, will_be: Option<&str>, paint: Paint) -> Vec<String> {
    let line = |(side, text): (Side, &str)| match side {
        Side::Both => format!("      {text}"),
        Side::Was => format!("    {}", paint.text(Tone::Bad, &format!("- {text}"))),
        Side::WillBe => format!("    {}", paint.text(Tone::Good, &format!("+ {text}"))),
    };
    let lines = |text: Option<&str>| {
        text.map(|text| text.lines().map(str::to_owned).collect())
            .unwrap_or_default()
    };
    let was: Vec<String> = lines(was);
    let will_be: Vec<String> = lines(will_be);
    line_diff(&was, &will_be).into_iter().map(line).collect()
}

fn verdict(response: &DiffResponse, take_over: &str, paint: Paint) -> String {
    let kept = response
        .changes
        .iter()
        .filter(|change| !change.taken_over)
        .count();
    if !response.refused.is_empty() {
        return paint.text(
            Tone::Bad,
            &format!("it cannot take over: {}", response.refused),
        );
    }
    if kept > 0 {
        let text = format!(
            "it cannot take over: {kept} of {} refused",
            count(response.changes.len(), "change")
        );
        return paint.text(Tone::Bad, &text);
    }
    format!(
        "it can take over after the last epoch, as version {}: {take_over}",
        response.job_version + 1
    )
}

/// The side of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Both,
    Was,
    WillBe,
}

/// Longest texts that are compared line by line; longer ones are shown one after the other.
const DIFF_LINES_MAX: usize = 2_000;

/// The lines of both, with shared lines once: by their longest common subsequence.
fn line_diff<'l>(was: &'l [String], will_be: &'l [String]) -> Vec<(Side, &'l str)> {
    let mut common = vec![vec![0_u32; will_be.len() + 1]; was.len() + 1];
    if was.len().max(will_be.len()) <= DIFF_LINES_MAX {
        for (i, old) in was.iter().enumerate().rev() {
            for (j, new) in will_be.iter().enumerate().rev() {
                let skip = common[i + 1][j].max(common[i][j + 1]);
                common[i][j] = if old == new {
                    common[i + 1][j + 1] + 1
                } else {
                    skip
                };
            }
        }
    }
    let mut lines = vec![];
    let mut i = 0;
    let mut j = 0;
    while i < was.len() || j < will_be.len() {
        let same = i < was.len() && j < will_be.len() && was[i] == will_be[j] && common[i][j] > 0;
        if same {
            lines.push((Side::Both, was[i].as_str()));
            (i, j) = (i + 1, j + 1);
        } else if i < was.len() && (j == will_be.len() || common[i + 1][j] >= common[i][j + 1]) {
            lines.push((Side::Was, was[i].as_str()));
            i += 1;
        } else {
            lines.push((Side::WillBe, will_be[j].as_str()));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{FakeJobs, serve};
    use crate::output::Format;
    use crate::output::tests::{captured, documented};
    use streamctl_proto::v1;

    const JOB: &str = include_str!("../../../deploy/jobs/sales-by-country.toml");

    fn change(field: &str, was: &str, will_be: &str, taken_over: bool) -> FieldChange {
        let was = Some(was.into());
        let will_be = Some(will_be.into());
        let (reason, hint) = if taken_over {
            Default::default()
        } else {
            ("it depends".into(), "choose".into())
        };
        FieldChange {
            field: field.into(),
            was,
            will_be,
            taken_over,
            reason,
            hint,
        }
    }

    fn response(changes: Vec<FieldChange>) -> DiffResponse {
        DiffResponse {
            job: "sales".into(),
            job_version: 3,
            epoch: 17,
            changes,
            ..DiffResponse::default()
        }
    }

    async fn diff(
        response: Result<DiffResponse, tonic::Status>,
        format: Format,
    ) -> (Result<(), CliError>, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("job.toml");
        std::fs::write(&file, JOB).unwrap();
        let jobs = FakeJobs {
            diff: Some(response),
            ..FakeJobs::default()
        };
        let controller = Controller::new(&serve(jobs).await).unwrap();
        let (mut out, data, notes) = captured(format);
        let result = run(
            &DiffArgs {
                file,
                local: false,
                state: None,
            },
            &controller,
            &mut out,
        )
        .await;
        if let Err(error) = &result {
            out.error(error);
        }
        (result, data.text(), notes.text())
    }

    #[tokio::test]
    async fn no_difference_is_exit_code_0_and_a_difference_is_1_without_an_error() {
        let (same, text, _) = diff(Ok(response(vec![])), Format::Table).await;
        assert!(
            same.is_ok() && text.ends_with("nothing would change\n"),
            "{text}"
        );
        let changes = vec![change("sink.format", "parquet", "csv", true)];
        let (differs, text, notes) = diff(Ok(response(changes)), Format::Table).await;
        assert_eq!((differs.unwrap_err().exit_code(), notes.as_str()), (1, ""));
        assert!(
            text.contains("sink.format (changed)\n    - parquet\n    + csv\n"),
            "{text}"
        );
        assert!(
            text.contains("as version 4: streamctl submit --change "),
            "{text}"
        );
    }

    #[tokio::test]
    async fn what_kept_it_from_comparing_is_never_taken_for_a_difference() {
        for (status, code) in [
            (tonic::Status::internal("x"), 5),
            (tonic::Status::not_found("x"), 3),
            (tonic::Status::invalid_argument("x"), 2),
        ] {
            let (result, ..) = diff(Err(status), Format::Table).await;
            assert_eq!(result.unwrap_err().exit_code(), code);
        }
    }

    #[tokio::test]
    async fn a_refused_change_names_the_reason_and_what_to_do() {
        let (_, text, _) = diff(
            Ok(response(vec![change("source.stream", "a", "b", false)])),
            Format::Table,
        )
        .await;
        let expected = "source.stream (changed, cannot be taken over)\n    - a\n    + b\n    it depends\n    hint: choose\n";
        assert!(text.contains(expected), "{text}");
        assert!(
            text.ends_with("it cannot take over: 1 of 1 change refused\n"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn its_json_has_the_names_of_the_message() {
        let changes = vec![change("sink.format", "parquet", "csv", true)];
        let (_, text, _) = diff(
            Ok(v1::DiffResponse {
                plan_was: "a\nb".into(),
                ..response(changes)
            }),
            Format::Json,
        )
        .await;
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        documented("diff", &json);
        assert_eq!(
            (json["job_version"].as_u64(), json["plan_was"][1].as_str()),
            (Some(3), Some("b"))
        );
        assert_eq!(json["changes"][0]["will_be"], "csv");
    }

    #[test]
    fn lines_that_are_the_same_are_shown_once() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let was = lines("a b c d");
        let will_be = lines("a x c d e");
        let shown: String = line_diff(&was, &will_be)
            .into_iter()
            .map(|(side, line)| format!("{}{line} ", ["=", "-", "+"][side as usize]))
            .collect();
        assert_eq!(shown, "=a -b +x =c =d +e ");
    }
}
