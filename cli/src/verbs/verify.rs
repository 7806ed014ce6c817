//! `streamctl verify`: whether every record is there exactly once, as far as manifests, objects and
//! the stream can prove it.
//!
//! Owns: the output of a verification, its exit code. Does not own: any check (the controller's
//! `verify`).
//! Rule: the job is proven only if the summary arrived, nothing was found, and everything was
//! checked.

use super::run::named_job;
use crate::args::VerifyArgs;
use crate::client::{Controller, jobs};
use crate::error::CliError;
use crate::local::{Events, LocalJob};
use crate::output::Output;
use crate::views::{bytes, failed, foreign};
use futures::{Stream, TryStreamExt};
use serde_json::{Value, json};
use streamctl_proto::count;
use streamctl_proto::json::time;
use streamctl_proto::v1::verify_event::Event;
use streamctl_proto::v1::verify_finding::{Kind, Severity};
use streamctl_proto::v1::{
    VerifyEvent, VerifyFinding, VerifyProgress, VerifyRequest, VerifySummary,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

/// Verifies a job of a cluster.
pub async fn run(
    args: &VerifyArgs,
    controller: &Controller,
    out: &mut Output,
) -> Result<(), CliError> {
    let request = request(args, args.job.clone().unwrap_or_default());
    let call = |channel| {
        let request = request.clone();
        async move { jobs(channel).verify(request).await }
    };
    let events = out
        .during("asking for the proof", controller.call(call))
        .await
        .map_err(unproven)?;
    show(events, out).await
}

/// Verifies a job that ran in a process like this one.
pub async fn run_local(
    args: &VerifyArgs,
    verify: impl AsyncFnOnce(LocalJob, VerifyRequest) -> Result<Events, CliError>,
    out: &mut Output,
) -> Result<(), CliError> {
    let (local, name) = named_job(
        &args.local.clone().unwrap_or_default(),
        args.state.as_deref(),
    )?;
    let verifies = verify(local, request(args, name.to_string()));
    let events = out
        .during("opening the state folder", verifies)
        .await
        .map_err(unproven)?;
    show(ReceiverStream::new(events), out).await
}

fn request(args: &VerifyArgs, job: String) -> VerifyRequest {
    let from = args.from.unwrap_or(0);
    let to = args.to.unwrap_or(0);
    VerifyRequest {
        job,
        from,
        to,
        replay: args.replay.clone(),
        deep: args.deep,
    }
}

/// What to do if a service that holds the data to verify did not answer.
const AGAIN: &str = "run it again when what is named above answers";

/// What to do if everything that could not be checked is gone.
const FOR_GOOD: &str = "what is named above is gone, and no later run can check it; --from and --to leave those epochs out";

/// Whether a retry changes nothing: records expired, or the job continued without them.
fn is_for_good(finding: &VerifyFinding) -> bool {
    finding.severity() != Severity::Unchecked
        || matches!(finding.kind(), Kind::DataLoss | Kind::ReplayGone)
}

/// Exit code 1 is reserved for findings, and for callers without permission: a verification that
/// failed has found nothing.
fn unproven(error: CliError) -> CliError {
    let final_codes = [
        Code::InvalidArgument,
        Code::NotFound,
        Code::Unauthenticated,
        Code::PermissionDenied,
    ];
    match error {
        CliError::Refused(status) if !final_codes.contains(&status.code()) => {
            let reason = format!("the verification failed: {}", status.message());
            if status.code() == Code::Unavailable {
                CliError::Unreachable(reason.into())
            } else {
                CliError::Unproven {
                    reason,
                    hint: AGAIN.to_owned(),
                }
            }
        }
        CliError::Local { message, hint } => CliError::Unproven {
            reason: message,
            hint,
        },
        error => error,
    }
}

/// Progress is for terminals; findings and summary go to standard output at the end.
async fn show(
    mut events: impl Stream<Item = Result<VerifyEvent, Status>> + Unpin,
    out: &mut Output,
) -> Result<(), CliError> {
    let progress = out.progress("reading manifests");
    let mut findings = vec![];
    let mut summary = None;
    while let Some(VerifyEvent { event }) = events
        .try_next()
        .await
        .map_err(|status| unproven(status.into()))?
    {
        match event {
            Some(Event::Progress(now)) => {
                progress.at(now.epochs, now.of);
                progress.show(progress_line(&now));
            }
            Some(Event::Finding(finding)) => findings.push(finding),
            Some(Event::Summary(last)) => summary = Some(last),
            None => {}
        }
    }
    drop(progress);
    let Some(summary) = summary else {
        return Err(CliError::Unproven {
            reason: "the verification broke off".to_owned(),
            hint: AGAIN.to_owned(),
        });
    };
    out.either(
        || text(&findings, &summary),
        || document(&findings, &summary),
    )?;
    match &summary {
        VerifySummary { faults: 1.., .. } => Err(CliError::Faults {
            faults: summary.faults,
        }),
        VerifySummary { unchecked: 1.., .. } => Err(CliError::Unproven {
            reason: format!(
                "{} could not be checked; no fault in the rest",
                summary.unchecked
            ),
            hint: if findings.iter().all(is_for_good) {
                FOR_GOOD
            } else {
                AGAIN
            }
            .to_owned(),
        }),
        _ => Ok(()),
    }
}

fn progress_line(progress: &VerifyProgress) -> String {
    let VerifyProgress { objects, doing, .. } = progress;
    format!("epochs, {}: {doing}", count(*objects, "object"))
}

/// `object_missing`, from `KIND_OBJECT_MISSING`.
fn kind(finding: &VerifyFinding) -> String {
    finding
        .kind()
        .as_str_name()
        .trim_start_matches("KIND_")
        .to_lowercase()
}

fn severity(finding: &VerifyFinding) -> &'static str {
    match finding.severity() {
        Severity::Fault | Severity::Unspecified => "fault",
        Severity::Unchecked => "unchecked",
        Severity::Note => "note",
    }
}

fn verdict(summary: &VerifySummary) -> &'static str {
    match summary {
        VerifySummary { faults: 1.., .. } => "not as promised",
        VerifySummary { unchecked: 1.., .. } => "not proven: something could not be checked",
        _ => "proven",
    }
}

fn finding_text(finding: &VerifyFinding) -> String {
    let mut lines = vec![severity(finding).to_uppercase()];
    if finding.epoch > 0 {
        lines.push(format!("epoch {}", finding.epoch));
    }
    lines.push(kind(finding));
    if !finding.subject.is_empty() {
        lines.push(finding.subject.clone());
    }
    let text = finding.text.replace('\n', "\n    ");
    format!(
        "{}\n    {text}\n    hint: {}",
        lines.join("  "),
        finding.hint
    )
}

fn text(findings: &[VerifyFinding], summary: &VerifySummary) -> String {
    let mut lines: Vec<String> = findings.iter().map(finding_text).collect();
    if summary.findings_unsent > 0 {
        lines.push(format!(
            "and {}",
            count(summary.findings_unsent, "more finding")
        ));
    }
    if !lines.is_empty() {
        lines.push(String::new());
    }
    let mut line =
        |name: &str, value: String| lines.push(format!("{:<12}{value}", format!("{name}:")));
    let counts = summary.counts.unwrap_or_default();
    line("job", summary.job.clone());
    line(
        "epochs",
        format!("{} of {} to {}", summary.epochs, summary.from, summary.to),
    );
    if summary.anchor > 0 {
        let at = time(summary.anchor_ms);
        let epoch = summary.anchor;
        line(
            "history",
            format!("verified from epoch {epoch}, the anchor of {at}; earlier ones are not kept"),
        );
    }
    line(
        "ranges",
        format!("{} of {}", summary.ranges, count(summary.shards, "shard")),
    );
    line(
        "records",
        format!(
            "{} in = {} decoded + {} dead; {} out, {} unmatched, {} late",
            counts.rows_in,
            counts.rows_decoded,
            counts.rows_dead,
            count(counts.rows_out, "row"),
            counts.rows_unmatched,
            counts.rows_late
        ),
    );
    for (name, value) in [
        ("failed", failed(&counts)),
        ("aggregates", foreign(&counts)),
    ] {
        if !value.is_empty() {
            line(name, value);
        }
    }
    let VerifySummary {
        objects,
        objects_read,
        foreign_objects,
        ..
    } = summary;
    line(
        "objects",
        format!(
            "{objects}, {}; {objects_read} of them read",
            bytes(summary.bytes)
        ),
    );
    line(
        "listing",
        match summary.listed {
            true => format!(
                "compared with every manifest; {}{}",
                count(*foreign_objects, "foreign object"),
                before(summary)
            ),
            false => "not compared".to_owned(),
        },
    );
    if summary.replayed > 0 {
        line(
            "replayed",
            format!(
                "{}, {} rows and dead letters",
                count(summary.replayed, "epoch"),
                summary.rows_replayed
            ),
        );
    }
    line("verdict", verdict(summary).to_owned());
    lines.join("\n")
}

/// Objects that could not be compared because of their age.
fn before(summary: &VerifySummary) -> String {
    match summary.objects_before_anchor {
        0 => String::new(),
        objects => format!(", {} from before the anchor", count(objects, "object")),
    }
}

fn document(findings: &[VerifyFinding], summary: &VerifySummary) -> Value {
    let finding = |finding: &VerifyFinding| {
        json!({
            "severity": severity(finding), "kind": kind(finding), "epoch": finding.epoch,
            "subject": finding.subject, "text": finding.text, "hint": finding.hint,
        })
    };
    let counts = summary.counts.unwrap_or_default();
    json!({
        "job": summary.job, "proven": summary.faults == 0 && summary.unchecked == 0, "verdict": verdict(summary),
        "from": summary.from, "to": summary.to, "epochs": summary.epochs,
        "ranges": summary.ranges, "shards": summary.shards,
        "counts": {
            "rows_in": counts.rows_in, "bytes_in": counts.bytes_in, "rows_decoded": counts.rows_decoded,
            "rows_dead": counts.rows_dead, "rows_unmatched": counts.rows_unmatched, "rows_out": counts.rows_out,
            "rows_late": counts.rows_late,
            "rows_rejected": counts.rows_rejected, "rows_without_arrival": counts.rows_without_arrival,
            "rows_failed": counts.rows_failed, "rows_foreign": counts.rows_foreign.unwrap_or_default(),
            "rows_further": counts.rows_further, "values_null": counts.values_null,
        },
        "objects": summary.objects, "bytes": summary.bytes, "objects_read": summary.objects_read,
        "foreign_objects": summary.foreign_objects, "listed": summary.listed,
        "anchor": summary.anchor, "anchor_ms": summary.anchor_ms,
        "objects_before_anchor": summary.objects_before_anchor,
        "replayed": summary.replayed, "rows_replayed": summary.rows_replayed,
        "faults": summary.faults, "unchecked": summary.unchecked, "notes": summary.notes,
        "findings_unsent": summary.findings_unsent,
        "findings": findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::{FakeJobs, serve};
    use crate::output::Format;
    use crate::output::tests::{captured, documented};

    fn summary(faults: u64, unchecked: u64) -> VerifyEvent {
        let summary = VerifySummary {
            job: "sales".into(),
            from: 1,
            to: 7,
            epochs: 7,
            listed: true,
            faults,
            unchecked,
            ..Default::default()
        };
        VerifyEvent {
            event: Some(Event::Summary(summary)),
        }
    }

    fn finding(severity: Severity) -> VerifyEvent {
        let finding = VerifyFinding {
            severity: severity.into(),
            kind: Kind::ObjectMissing.into(),
            epoch: 3,
            subject: "s3://b/x.parquet".into(),
            text: "it is not there".into(),
            hint: "restore it".into(),
        };
        VerifyEvent {
            event: Some(Event::Finding(finding)),
        }
    }

    async fn verify(
        job: &str,
        events: Vec<VerifyEvent>,
        format: Format,
    ) -> (Result<(), CliError>, String) {
        let controller = Controller::new(
            &serve(FakeJobs {
                events,
                ..Default::default()
            })
            .await,
        )
        .unwrap();
        let (mut out, data, _) = captured(format);
        let job = Some(job.to_owned());
        let args = VerifyArgs {
            job,
            local: None,
            state: None,
            from: None,
            to: None,
            replay: vec![],
            deep: false,
        };
        (run(&args, &controller, &mut out).await, data.text())
    }

    #[tokio::test]
    async fn a_proven_job_is_reported_and_ends_with_0() {
        let (result, text) = verify("sales", vec![summary(0, 0)], Format::Table).await;
        result.unwrap();
        assert!(text.ends_with("verdict:    proven\n"), "{text}");
    }

    #[tokio::test]
    async fn a_fault_is_named_and_ends_with_1() {
        let events = vec![finding(Severity::Fault), summary(1, 0)];
        let (result, text) = verify("sales", events.clone(), Format::Table).await;
        assert_eq!(result.unwrap_err().exit_code(), 1);
        let expected = "FAULT  epoch 3  object_missing  s3://b/x.parquet\n    it is not there\n    hint: restore it\n\n";
        assert!(text.starts_with(expected), "{text}");
        let (_, text) = verify("sales", events, Format::Json).await;
        let json: Value = serde_json::from_str(&text).unwrap();
        documented("verify", &json);
        assert_eq!(
            (&json["proven"], &json["findings"][0]["kind"]),
            (&json!(false), &json!("object_missing"))
        );
    }

    #[tokio::test]
    async fn what_could_not_be_checked_is_neither_proven_nor_a_fault() {
        let (result, _) = verify(
            "sales",
            vec![finding(Severity::Unchecked), summary(0, 1)],
            Format::Table,
        )
        .await;
        assert_eq!(result.unwrap_err().exit_code(), 5);
        let VerifyEvent {
            event: Some(Event::Finding(finding)),
        } = finding(Severity::Unchecked)
        else {
            panic!()
        };
        for (kind, hint) in [
            (Kind::DataLoss, FOR_GOOD),
            (Kind::ReplayGone, FOR_GOOD),
            (Kind::NotChecked, AGAIN),
        ] {
            let event = Some(Event::Finding(VerifyFinding {
                kind: kind.into(),
                ..finding.clone()
            }));
            let (result, _) = verify(
                "sales",
                vec![VerifyEvent { event }, summary(0, 1)],
                Format::Table,
            )
            .await;
            let Err(CliError::Unproven { hint: shown, .. }) = result else {
                panic!("{kind:?}: {result:?}")
            };
            assert_eq!(shown, hint, "{kind:?}");
        }
        let (result, _) = verify("sales", vec![], Format::Table).await;
        assert_eq!(
            result.unwrap_err().exit_code(),
            5,
            "a verification without a summary proves nothing"
        );
        let (result, _) = verify("other", vec![], Format::Table).await;
        assert_eq!(result.unwrap_err().exit_code(), 3);
    }
}
