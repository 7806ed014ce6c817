//! `streamctl get`: a submitted job, its job file, its versions and their differences.
//!
//! Does not own: the comparison (the controller), how a difference is shown (`diff`).
//! Rule: a job file is printed as it was submitted, byte for byte.

use super::diff::{change_lines, plan_lines};
use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::{Output, Paint, table};
use crate::views::time;
use clap::Args;
use serde_json::Value;
use streamctl_proto::json::{compared_versions, job_spec, job_version};
use streamctl_proto::v1::{
    CompareJobVersionsRequest, CompareJobVersionsResponse, GetJobSpecRequest, GetJobSpecResponse,
    JobVersionSummary, ListJobVersionsRequest,
};

/// Versions of one request.
const VERSIONS_LIMIT: u32 = 100;

/// Of `get`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  streamctl get sales --spec > job.toml\n  streamctl get sales --versions\n  \
                  streamctl get sales --diff 3..4"
)]
pub struct GetArgs {
    /// Job name
    pub job: String,
    /// Print the job file as it was submitted
    #[arg(long)]
    pub spec: bool,
    /// Print the job file of this version (default: the last)
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u64).range(1..))]
    pub version: Option<u64>,
    /// List the versions of the job, the newest first
    #[arg(long, conflicts_with_all = ["spec", "version"])]
    pub versions: bool,
    /// Show what changed from one version to another (default: to the last)
    #[arg(
        long, value_name = "FROM[..TO]", value_parser = between,
        conflicts_with_all = ["spec", "version", "versions"]
    )]
    pub diff: Option<Between>,
}

/// Two versions to compare; none: the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between {
    from: u64,
    to: Option<u64>,
}

/// `3`, `3..5`.
fn between(text: &str) -> Result<Between, String> {
    let number = |text: &str| {
        let number = text.parse().ok().filter(|number| *number >= 1);
        number.ok_or_else(|| format!("{text:?} is no version; write 3 or 3..5"))
    };
    match text.split_once("..") {
        None => Ok(Between {
            from: number(text)?,
            to: None,
        }),
        Some((from, to)) => Ok(Between {
            from: number(from)?,
            to: if to.is_empty() {
                None
            } else {
                Some(number(to)?)
            },
        }),
    }
}

pub async fn run(
    args: &GetArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    if args.versions {
        return versions(args, controller, out).await;
    }
    if let Some(between) = args.diff {
        return diff(args, between, controller, out).await;
    }
    let request = GetJobSpecRequest {
        job: args.job.clone(),
        version: args.version,
    };
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).get_job_spec(request).await }
    };
    let response = out
        .during("asking for the job", controller.call(call))
        .await?;
    let text = || match args.spec || args.version.is_some() {
        true => text_of(&response.spec_toml).to_owned(),
        false => about(&response),
    };
    out.either(text, || job_spec(&response))
}

async fn versions(
    args: &GetArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let mut before = 0;
    let mut all = vec![];
    loop {
        let request = ListJobVersionsRequest {
            job: args.job.clone(),
            before,
            limit: VERSIONS_LIMIT,
        };
        let call = |channel| {
            let request = request.clone();
            async move { jobs(channel).list_job_versions(request).await }
        };
        let page = out
            .during("asking for the versions", controller.call(call))
            .await?;
        all.extend(page.versions);
        if page.next_before == 0 {
            break;
        }
        before = page.next_before;
    }
    out.list(
        &all,
        "the job has no version",
        versions_text,
        |all| -> Value { all.iter().map(job_version).collect() },
    )
}

fn versions_text(all: &[JobVersionSummary]) -> String {
    let row = |version: &JobVersionSummary| {
        [
            version.job_version.to_string(),
            version
                .first_epoch
                .map_or_else(|| "-".to_owned(), |epoch| epoch.to_string()),
            time(version.submitted_ms),
            version.spec_digest.chars().take(12).collect(),
        ]
    };
    let rows: Vec<_> = all.iter().map(row).collect();
    table(["VERSION", "FIRST EPOCH", "SUBMITTED", "DIGEST"], &rows)
}

async fn diff(
    args: &GetArgs,
    Between { from, to }: Between,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let request = CompareJobVersionsRequest {
        job: args.job.clone(),
        from,
        to,
    };
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).compare_job_versions(request).await }
    };
    let compared = out
        .during("comparing the versions", controller.call(call))
        .await?;
    let paint = out.paint();
    out.either(
        || compared_text(&compared, paint),
        || compared_versions(&compared),
    )
}

fn compared_text(compared: &CompareJobVersionsResponse, paint: Paint) -> String {
    let CompareJobVersionsResponse { job, from, to, .. } = compared;
    let mut lines = vec![format!("job {job}, from version {from} to version {to}")];
    if compared.changes.is_empty() {
        lines.push("no difference but in the text".to_owned());
    }
    for change in &compared.changes {
        lines.extend(change_lines(change, paint));
    }
    lines.extend(plan_lines(
        &compared.plan_was,
        &compared.plan_will_be,
        paint,
    ));
    lines.join("\n")
}

/// The output ends each text with a line end.
fn text_of(spec: &str) -> &str {
    spec.strip_suffix('\n').unwrap_or(spec)
}

fn about(job: &GetJobSpecResponse) -> String {
    format!(
        "job:       {}\nversion:   {} of {}\nsubmitted: {}\ndigest:    {}",
        job.job,
        job.job_version,
        job.last_version,
        time(job.submitted_ms),
        job.spec_digest
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::client::tests::{FakeJobs, serve};
    use crate::output::Format;
    use crate::output::tests::{captured, documented};
    use streamctl_proto::v1::{FieldChange, ListJobVersionsResponse};

    /// Two versions, of which an earlier build stored the first of a change.
    pub fn versions() -> ListJobVersionsResponse {
        let version = |job_version, first_epoch| JobVersionSummary {
            job_version,
            first_epoch,
            submitted_ms: 1_795_481_100_000,
            spec_digest: "0123456789abcdef".into(),
        };
        ListJobVersionsResponse {
            versions: vec![version(3, Some(17)), version(2, None)],
            next_before: 0,
        }
    }

    pub fn compared(from: u64, to: u64) -> CompareJobVersionsResponse {
        let change = FieldChange {
            field: "sink.format".into(),
            was: Some("json".into()),
            will_be: Some("parquet".into()),
            taken_over: true,
            ..Default::default()
        };
        CompareJobVersionsResponse {
            job: "sales".into(),
            from,
            to,
            changes: vec![change],
            plan_was: "Filter".into(),
            plan_will_be: "Join".into(),
        }
    }

    fn args() -> GetArgs {
        GetArgs {
            job: "sales".into(),
            spec: false,
            version: None,
            versions: false,
            diff: None,
        }
    }

    async fn get(args: GetArgs, format: Format) -> String {
        let controller = Controller::new(&serve(FakeJobs::default()).await).unwrap();
        let (mut out, data, _) = captured(format);
        run(&args, &controller, &mut out).await.unwrap();
        data.text()
    }

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[tokio::test]
    async fn the_job_file_is_printed_as_it_was_submitted() {
        let spec = || GetArgs {
            spec: true,
            ..args()
        };
        assert_eq!(get(spec(), Format::Table).await, "name = \"sales\"\n");
        let version = GetArgs {
            version: Some(2),
            ..args()
        };
        assert_eq!(get(version, Format::Table).await, "name = \"sales\"\n");
        let about = get(args(), Format::Table).await;
        assert!(about.contains("version:   3 of 4"), "{about}");
        let json = parsed(&get(spec(), Format::Json).await);
        documented("get", &json);
        assert_eq!(json["spec"], "name = \"sales\"\n");
    }

    #[tokio::test]
    async fn versions_are_listed_with_their_first_epoch_as_far_as_it_is_known() {
        let listed = || GetArgs {
            versions: true,
            ..args()
        };
        let text = get(listed(), Format::Table).await;
        let expected = "\
VERSION  FIRST EPOCH  SUBMITTED             DIGEST
3        17           2026-11-24T00:45:00Z  0123456789ab
2        -            2026-11-24T00:45:00Z  0123456789ab
";
        assert_eq!(text, expected);
        let json = parsed(&get(listed(), Format::Json).await);
        documented("get --versions", &json[0]);
        assert!(json[1]["first_epoch"].is_null(), "{json}");
    }

    #[tokio::test]
    async fn a_difference_is_shown_as_diff_shows_it() {
        let differs = || GetArgs {
            diff: Some(between("3").unwrap()),
            ..args()
        };
        let text = get(differs(), Format::Table).await;
        assert!(
            text.starts_with(
                "job sales, from version 3 to version 4\nsink.format (changed)\n    - json\n    + parquet"
            ),
            "{text}"
        );
        assert!(text.contains("    - Filter\n    + Join"), "{text}");
        documented("get --diff", &parsed(&get(differs(), Format::Json).await));
    }

    #[test]
    fn versions_to_compare_are_one_number_or_two() {
        let of = |from, to| Ok(Between { from, to });
        assert_eq!(between("3"), of(3, None));
        assert_eq!(between("3.."), of(3, None));
        assert_eq!(between("3..5"), of(3, Some(5)));
        for wrong in ["", "0", "x", "..5", "3..0", "3-5"] {
            assert!(between(wrong).is_err(), "{wrong}");
        }
    }
}
