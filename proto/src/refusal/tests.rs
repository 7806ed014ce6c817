//! Refusals on the wire and back.

use super::*;

fn back(refusal: CallRefusal) -> CallRefusal {
    let status = Status::from(refusal);
    CallRefusal::read(&status).expect("it has our details")
}

#[test]
fn a_refusal_arrives_as_it_was_made() {
    let problem = |line, field: &str, hint: Option<&str>| Problem {
        line,
        hint: hint.map(str::to_owned),
        ..Problem::new(field, "there is no such column", None)
    };
    let problems = vec![
        problem(Some(7), "transform.sql", Some("did you mean x?")),
        problem(None, "sink.path", None),
    ];
    let refusals = [
        CallRefusal::new(Reason::JobNotFound, "there is no job sales").hint("`streamctl list`"),
        CallRefusal::new(Reason::Standby, "this controller stands by").leader("c-2:7070"),
        CallRefusal::new(Reason::Internal, ""),
        CallRefusal::of_job_file(Problems(problems)),
    ];
    for refusal in refusals {
        assert_eq!(back(refusal.clone()), refusal);
    }
}

#[test]
fn the_details_are_those_of_google_rpc() {
    let refusal = CallRefusal::new(Reason::StoreUnavailable, "no answer").hint("wait");
    let status = Status::from(refusal);
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.message(), "no answer\n  hint: wait");
    let details = pb::Status::decode(status.details()).unwrap();
    assert_eq!(details.message, status.message());
    let info: pb::ErrorInfo = find(&details.details, "google.rpc.ErrorInfo").unwrap();
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        ("STORE_UNAVAILABLE", "streamctl")
    );
    let retry: pb::RetryInfo = find(&details.details, "google.rpc.RetryInfo").unwrap();
    assert_eq!(retry.retry_delay.unwrap().seconds, 5);
}

#[test]
fn a_leader_is_named_in_the_metadata_too() {
    let status = Status::from(CallRefusal::new(Reason::Standby, "x").leader("c-2:7070"));
    assert_eq!(status.metadata().get(LEADER_METADATA).unwrap(), "c-2:7070");
    assert_eq!(CallRefusal::leader_named(&status).unwrap(), "c-2:7070");
    assert!(CallRefusal::is_not_leading(&status));
}

#[test]
fn a_status_of_another_program_is_no_refusal() {
    assert_eq!(
        CallRefusal::read(&Status::unavailable("transport error")),
        None
    );
    let foreign = pb::ErrorInfo {
        reason: "JOB_NOT_FOUND".into(),
        domain: "example.com".into(),
        ..Default::default()
    };
    let details = pb::Status {
        details: vec![any("google.rpc.ErrorInfo", &foreign)],
        ..Default::default()
    };
    let details = details.encode_to_vec().into();
    let status = Status::with_details(Code::NotFound, "x", details);
    assert_eq!(CallRefusal::read(&status), None);
    let broken = Status::with_details(Code::NotFound, "x", vec![255, 1, 2].into());
    assert_eq!(CallRefusal::read(&broken), None);
}

#[test]
fn however_much_there_is_to_report_it_fits_into_headers() {
    let problem = |index: usize| Problem {
        line: Some(index),
        ..Problem::new("é".repeat(40), "ü".repeat(100), Some("ö".repeat(50)))
    };
    let problems: Vec<_> = (0..1_000).map(problem).collect();
    let mut refusal = CallRefusal::of_job_file(Problems(problems)).hint("x".repeat(1 << 20));
    refusal.leader = Some("c:1".into());
    let status = Status::from(refusal);
    let encoded = |text: &str| {
        text.chars()
            .map(|c| {
                if c.is_ascii_graphic() || c == ' ' {
                    1
                } else {
                    3 * c.len_utf8()
                }
            })
            .sum::<usize>()
    };
    let bytes = encoded(status.message()) + status.details().len().div_ceil(3) * 4;
    assert!(bytes < 15 << 10, "{bytes}");
    let read = CallRefusal::read(&status).unwrap();
    assert!(read.problems.len() > 5 && read.problems_left_out > 900);
    assert_eq!(read.problems.len() + read.problems_left_out, 1_000);
    assert!(status.message().contains("\nand more"));
}
