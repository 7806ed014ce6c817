//! `streamctl why`: what a job waits for, stage by stage.
//!
//! Owns: the table, and the answer for a job that does not run. Does not own: the waits (the
//! controller).
//! Rule: a normal wait is marked so; it needs no attention.

use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::output::{Output, Paint, Tone, table};
use crate::views::milliseconds;
use clap::Args;
use serde_json::{Value, json};
use streamctl_engine::clock::system_clock;
use streamctl_proto::json::{state as state_word, wait as wait_json};
use streamctl_proto::v1::{GetJobRequest, JobState, JobStatus, Wait};

/// Of `why`.
#[derive(Args, Clone, Debug)]
pub struct WhyArgs {
    /// Job name
    pub job: String,
}

pub async fn run(
    args: &WhyArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let request = GetJobRequest {
        job: args.job.clone(),
        brief: true,
    };
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).get_job(request).await }
    };
    let status = out
        .during("asking for the job", controller.call(call))
        .await?;
    let paint = out.paint();
    out.either(
        || text(&status, (system_clock())(), paint),
        || as_json(&status),
    )
}

fn text(status: &JobStatus, now_ms: i64, paint: Paint) -> String {
    let job = &status.job;
    let state = state_word(status);
    let verdict = match status.state() {
        JobState::Failed => {
            let hint = match status.hint.as_str() {
                "" => String::new(),
                hint => format!("\nhint: {hint}"),
            };
            format!("it failed: {}{hint}", status.error)
        }
        JobState::Stopped => "it was stopped; submit its file again to resume it".to_owned(),
        JobState::Completed => "its source is read to the end".to_owned(),
        _ if status.waits.iter().any(|wait| !wait.normal) => {
            "it cannot continue without:".to_owned()
        }
        _ if status.waits.is_empty() => "it waits for nothing".to_owned(),
        _ => "nothing is wrong; it waits for:".to_owned(),
    };
    let head = format!("job {job} is {state}: {verdict}");
    if status.waits.is_empty() {
        return head;
    }
    let rows: Vec<_> = status
        .waits
        .iter()
        .map(|wait| row(wait, now_ms, paint))
        .collect();
    format!(
        "{head}\n\n{}",
        table(["STAGE", "WAITS FOR", "AGE", "WHAT"], &rows)
    )
}

fn row(wait: &Wait, now_ms: i64, paint: Paint) -> [String; 4] {
    let since = wait.since_ms.map(|since_ms| {
        let ms = now_ms.saturating_sub(since_ms).max(0).unsigned_abs();
        milliseconds(ms)
    });
    let what = match wait.normal {
        true => format!("{} (normal)", wait.text),
        false => paint.text(Tone::Waiting, &wait.text),
    };
    [
        wait.stage.clone(),
        wait.on.clone(),
        since.unwrap_or_else(|| "-".to_owned()),
        what,
    ]
}

fn as_json(status: &JobStatus) -> Value {
    json!({
        "job": status.job, "state": state_word(status), "error": status.error, "hint": status.hint,
        "waits": status.waits.iter().map(wait_json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{FakeJobs, serve};
    use crate::output::Format;
    use crate::output::tests::{captured, documented};

    fn waits(normal: bool) -> JobStatus {
        let wait = Wait {
            stage: "read".into(),
            on: "Kinesis".into(),
            text: "Kinesis has not answered GetRecords of 3 shards for 41 s (w1)".into(),
            since_ms: Some(1_000),
            normal,
        };
        JobStatus {
            job: "sales".into(),
            state: JobState::Waiting.into(),
            waits: vec![wait],
            ..Default::default()
        }
    }

    #[test]
    fn a_wait_has_its_stage_its_service_and_its_age() {
        let shown = text(&waits(false), 42_000, Paint::default());
        let expected = "\
job sales is waiting: it cannot continue without:

STAGE  WAITS FOR  AGE     WHAT
read   Kinesis    41.0 s  Kinesis has not answered GetRecords of 3 shards for 41 s (w1)";
        let trimmed: Vec<_> = shown.lines().map(str::trim_end).collect();
        assert_eq!(trimmed.join("\n"), expected);
        let normal = text(&waits(true), 42_000, Paint::default());
        assert!(
            normal.contains("nothing is wrong") && normal.ends_with("(normal)"),
            "{normal}"
        );
    }

    #[test]
    fn a_job_that_does_not_run_is_explained_by_its_state() {
        let of = |state: JobState| JobStatus {
            state: state.into(),
            error: "the query failed".into(),
            hint: "fix it".into(),
            waits: vec![],
            ..waits(false)
        };
        let failed = text(&of(JobState::Failed), 0, Paint::default());
        assert_eq!(
            failed,
            "job sales is failed: it failed: the query failed\nhint: fix it"
        );
        let stopped = text(&of(JobState::Stopped), 0, Paint::default());
        assert!(stopped.contains("submit its file again"), "{stopped}");
        let running = text(&of(JobState::Running), 0, Paint::default());
        assert!(running.ends_with("it waits for nothing"), "{running}");
    }

    #[tokio::test]
    async fn programs_get_the_documented_names() {
        documented("why", &as_json(&waits(false)));
        let controller = Controller::new(&serve(FakeJobs::default()).await).unwrap();
        let (mut out, data, _) = captured(Format::Json);
        let args = WhyArgs {
            job: "sales".into(),
        };
        run(&args, &controller, &mut out).await.unwrap();
        let json: Value = serde_json::from_str(&data.text()).unwrap();
        assert_eq!(json["state"], "waiting");
    }
}
