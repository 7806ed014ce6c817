//! Job files, as a user or a program may send them.
//!
//! Input: the text.
//! Rule: a problem's line exists in the file; a valid job survives being stored.

use std::path::Path;
use streamctl_proto::JobSpec;
use streamctl_proto::spec::{Problems, line_of};

pub fn job_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let cluster = JobSpec::parse(text);
    let local = JobSpec::parse_in(text, Path::new("/jobs"));
    for refused in [&cluster, &local]
        .into_iter()
        .filter_map(|parsed| parsed.as_ref().err())
    {
        judge(text, refused);
    }
    if let Ok(spec) = &cluster {
        assert_eq!(
            local.as_ref(),
            Ok(spec),
            "a file without relative paths means the same everywhere"
        );
    }
    if let Ok(spec) = local {
        let stored = serde_json::to_string(&spec).expect("a job has only text keys");
        let read: JobSpec = serde_json::from_str(&stored).expect("what was stored is read");
        assert_eq!(read, spec, "what is stored is what was read");
        assert!(
            line_of(text, "name", None).is_some(),
            "a key that is there has a line"
        );
    }
}

fn judge(text: &str, Problems(problems): &Problems) {
    assert!(!problems.is_empty(), "something must be wrong");
    let lines = text.split('\n').count();
    for problem in problems {
        assert!(
            problem.line.is_none_or(|line| (1..=lines).contains(&line)),
            "line {:?} of {lines}",
            problem.line
        );
        let found = line_of(text, &problem.field, problem.part);
        assert!(
            found.is_none_or(|line| (1..=lines).contains(&line)),
            "line {found:?} of {lines}"
        );
        let reported = problem.to_string();
        assert!(
            !reported.contains("defect of streamctl"),
            "nothing says why"
        );
    }
}
