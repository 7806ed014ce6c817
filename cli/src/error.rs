//! Errors of the command line, their hints and exit codes.

use std::fmt;
use std::path::Path;
use streamctl_proto::count;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::spec::Problems;
use tonic::{Code, Status};

const SAME_VERSION: &str = "are streamctl and the controller of the same version?";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The arguments contradict each other.
    #[error("{message}")]
    Usage { message: String, hint: String },
    /// A file cannot be read.
    #[error("{path}: cannot be read: {source}")]
    File {
        path: String,
        source: std::io::Error,
    },
    /// A job file is wrong.
    #[error("{path} is not a valid job file\n{problems}")]
    JobFile {
        path: String,
        /// All problems, each with its line and what to do.
        problems: String,
    },
    #[error("no controller answers: {0}")]
    Unreachable(Unreached),
    #[error("{}", CallRefusal::text_of(.0).0)]
    Refused(Box<Status>),
    /// A worker does not return the rows of an epoch.
    #[error("the rows from epoch {epoch} on cannot be read: {reason}")]
    Rows { epoch: u64, reason: String },
    /// The local mode cannot continue.
    #[error("{message}")]
    Local { message: String, hint: String },
    /// Something outside the cluster does not exist: a table, a job of Glue.
    #[error("{message}")]
    NotThere { message: String, hint: String },
    /// A verification found a broken promise.
    #[error("not proven: {faults} of what was promised is not so")]
    Faults { faults: u64 },
    /// A verification could not check everything, and found no fault in the rest.
    #[error("not proven: {reason}")]
    Unproven {
        /// What was not checked.
        reason: String,
        hint: String,
    },
    /// There is no context of this name.
    #[error("there is no context {name:?}")]
    NoContext { name: String, known: Vec<String> },
    /// Part of the data is missing; the rest is shown.
    #[error("{message}")]
    Partly {
        /// What is missing.
        message: String,
        hint: String,
    },
    /// A job file would change the running job; the changes are shown.
    #[error("the job file would change the job")]
    Differs,
    /// The controller's answer is not understood.
    #[error("unexpected answer: {0}")]
    UnexpectedResponse(String),
    /// The reader of the output is gone.
    #[error("the output was closed")]
    Closed(#[from] std::io::Error),
}

/// Why no controller answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreached {
    pub text: String,
    pub cause: Unanswered,
}

/// What to do about it depends on this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// No server is at any address, or the connection broke.
    NoServer,
    /// Controllers answer, and none leads.
    NoLeader,
    /// Controllers name a leader that cannot be reached.
    LeaderElsewhere,
    /// The error of the connection has a hint.
    Hint(String),
}

impl Unanswered {
    /// The most useful one of those of several addresses.
    pub fn or(self, other: Self) -> Self {
        match self {
            Self::NoServer => other,
            known => known,
        }
    }

    /// Why this status is no answer.
    pub fn of(status: &Status) -> Self {
        match CallRefusal::read(status) {
            Some(CallRefusal {
                reason: Reason::Standby,
                ..
            }) => Self::LeaderElsewhere,
            Some(CallRefusal {
                reason: Reason::NoLeader | Reason::LeadershipLost,
                ..
            }) => Self::NoLeader,
            Some(CallRefusal {
                hint: Some(hint), ..
            }) => Self::Hint(hint),
            Some(_) | None => Self::NoServer,
        }
    }
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<T: Into<String>> From<T> for Unreached {
    fn from(text: T) -> Self {
        Self {
            text: text.into(),
            cause: Unanswered::NoServer,
        }
    }
}

impl CliError {
    /// 0 success, 1 failure, 2 usage or job file, 3 not found, 4 no controller answers, 5 could
    /// not be checked.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Closed(_) => 0,
            Self::Usage { .. } | Self::File { .. } | Self::JobFile { .. } => 2,
            Self::NotThere { .. } => 3,
            Self::Unreachable(_) => 4,
            Self::Rows { .. }
            | Self::UnexpectedResponse(_)
            | Self::Local { .. }
            | Self::Faults { .. } => 1,
            Self::Differs => 1,
            Self::NoContext { .. } => 3,
            Self::Unproven { .. } | Self::Partly { .. } => 5,
            Self::Refused(status) => match status.code() {
                Code::InvalidArgument => 2,
                Code::NotFound => 3,
                Code::Unavailable => 4,
                _ => 1,
            },
        }
    }

    /// Turns the controller's problems with a job file into the same error as problems found here.
    pub fn of_job_file(self, file: &Path) -> Self {
        match self {
            Self::Refused(status) if status.code() == Code::InvalidArgument => Self::JobFile {
                path: file.display().to_string(),
                problems: problems_of(&status),
            },
            other => other,
        }
    }

    /// What to do; none if the text already contains it, or there is no reader left.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Usage { hint, .. }
            | Self::Unproven { hint, .. }
            | Self::Local { hint, .. }
            | Self::NotThere { hint, .. }
            | Self::Partly { hint, .. } => hint.clone(),
            Self::File { .. } => "check that the path is right and may be read and written".into(),
            Self::JobFile { path, .. } => format!("fix these lines, then run `streamctl explain {path}` again"),
            Self::Unreachable(Unreached { cause, .. }) => match cause {
                Unanswered::Hint(hint) => hint.clone(),
                Unanswered::NoLeader => {
                    "try again in some seconds; if it stays so, look at etcd and at the controllers' logs".into()
                }
                Unanswered::LeaderElsewhere => {
                    "make the address of the leader (its --advertise) reachable from here, or add its URL to --controller"
                        .into()
                }
                Unanswered::NoServer => {
                    "start streamctl-controller, or name its address with --controller (https:// \
                     where it speaks TLS)"
                        .into()
                }
            },
            Self::Rows { epoch, .. } => format!("go on with --from {epoch}"),
            Self::UnexpectedResponse(_) => SAME_VERSION.into(),
            Self::NoContext { known, .. } if known.is_empty() => {
                "add one: streamctl context add NAME --controller URL".into()
            }
            Self::NoContext { known, .. } => format!("the contexts are: {}", known.join(", ")),
            Self::Faults { .. } => "each fault above says what to do".into(),
            Self::Refused(status) => match CallRefusal::text_of(status).1 {
                Some(hint) => hint,
                None => of_code(status.code()).to_owned(),
            },
            // Neither is a failure.
            Self::Closed(_) | Self::Differs => return None,
        };
        (!hint.is_empty()).then_some(hint)
    }
}

/// What to do about a status without a hint.
fn of_code(code: Code) -> &'static str {
    match code {
        Code::NotFound => "`streamctl list` names the jobs",
        Code::InvalidArgument | Code::OutOfRange => "see `streamctl help` for the arguments",
        Code::Unimplemented => SAME_VERSION,
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Aborted => {
            "try again in a moment"
        }
        Code::FailedPrecondition | Code::AlreadyExists => {
            "`streamctl status` shows the state of the job"
        }
        Code::Unauthenticated | Code::PermissionDenied => {
            "use a token or certificate that may do this"
        }
        _ => "see the controller's log",
    }
}

/// The problems of a refused job file, as text.
fn problems_of(status: &Status) -> String {
    match CallRefusal::read(status) {
        Some(refusal) if !refusal.problems.is_empty() => {
            let text = Problems(refusal.problems).to_string();
            match refusal.problems_left_out {
                0 => text,
                more => format!("{text}\nand {}", count(more, "more problem")),
            }
        }
        Some(_) | None => status.message().to_owned(),
    }
}

impl From<Status> for CliError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_distinguish_the_kinds_of_failure() {
        let codes = [
            (Status::invalid_argument("x"), 2),
            (Status::not_found("x"), 3),
            (Status::unavailable("x"), 4),
            (Status::internal("x"), 1),
        ];
        for (status, code) in codes {
            assert_eq!(CliError::from(status).exit_code(), code);
        }
        assert_eq!(CliError::Unreachable(String::new().into()).exit_code(), 4);
    }

    #[test]
    fn every_error_has_a_hint() {
        let text = || "x".to_owned();
        let io = || std::io::Error::other("x");
        let mut errors = vec![
            CliError::Usage {
                message: text(),
                hint: text(),
            },
            CliError::File {
                path: text(),
                source: io(),
            },
            CliError::JobFile {
                path: text(),
                problems: text(),
            },
            CliError::Unreachable(text().into()),
            CliError::Rows {
                epoch: 7,
                reason: text(),
            },
            CliError::Local {
                message: text(),
                hint: text(),
            },
            CliError::Partly {
                message: text(),
                hint: text(),
            },
            CliError::NotThere {
                message: text(),
                hint: text(),
            },
            CliError::Faults { faults: 1 },
            CliError::Unproven {
                reason: text(),
                hint: text(),
            },
            CliError::NoContext {
                name: text(),
                known: vec![],
            },
            CliError::NoContext {
                name: text(),
                known: vec![text()],
            },
            CliError::UnexpectedResponse(text()),
        ];
        errors.extend((1..=16).map(|code| CliError::from(Status::new(Code::from_i32(code), "x"))));
        let known: Vec<u8> = crate::args::EXIT_CODES
            .iter()
            .map(|(code, _)| *code)
            .collect();
        for error in &errors {
            assert!(
                error.hint().is_some_and(|hint| !hint.is_empty()),
                "{error:?}"
            );
            assert!(
                error.exit_code() > 0 && known.contains(&error.exit_code()),
                "{error:?}"
            );
            // A new kind of error must be added above.
            match error {
                CliError::Usage { .. }
                | CliError::File { .. }
                | CliError::JobFile { .. }
                | CliError::Unreachable(_) => {}
                CliError::Rows { .. }
                | CliError::Local { .. }
                | CliError::Partly { .. }
                | CliError::Faults { .. } => {}
                CliError::Unproven { .. } | CliError::NoContext { .. } | CliError::Differs => {}
                CliError::NotThere { .. }
                | CliError::UnexpectedResponse(_)
                | CliError::Refused(_)
                | CliError::Closed(_) => {}
            }
        }
        let refusal = CallRefusal::new(Reason::InvalidArgument, "no such column");
        let reported = CliError::from(Status::from(refusal.hint("did you mean x?")));
        assert_eq!(
            (reported.to_string(), reported.hint()),
            ("no such column".into(), Some("did you mean x?".into()))
        );
        assert_eq!(
            (
                CliError::Closed(io()).exit_code(),
                CliError::Closed(io()).hint()
            ),
            (0, None)
        );
        assert_eq!(
            (CliError::Differs.exit_code(), CliError::Differs.hint()),
            (1, None),
            "as diff does, without a word"
        );
    }

    #[test]
    fn reasons_for_having_no_leader_are_distinguished() {
        let hint = |status: Status| {
            let unreached = Unreached {
                text: status.message().to_owned(),
                cause: Unanswered::of(&status),
            };
            CliError::Unreachable(unreached).hint().unwrap()
        };
        let refused = Status::unavailable("connection refused");
        assert!(hint(refused).starts_with("start streamctl-controller"));
        let of = |reason| Status::from(CallRefusal::new(reason, "x"));
        assert!(hint(of(Reason::NoLeader)).starts_with("try again in some seconds"));
        let named = hint(of(Reason::Standby));
        assert!(named.contains("--advertise"), "{named}");
        let untrusted = CallRefusal::new(Reason::Unreachable, "x").hint("name it with --ca");
        assert_eq!(hint(untrusted.into()), "name it with --ca");
    }

    #[test]
    fn problems_of_a_job_file_are_read_from_the_details() {
        let problem = |line, field: &str| streamctl_proto::spec::Problem {
            line: Some(line),
            ..streamctl_proto::spec::Problem::new(field, "is wrong", Some("fix it".into()))
        };
        let problems = Problems(vec![problem(3, "sink.path"), problem(9, "transform.sql")]);
        let text = problems.to_string();
        let status = Status::from(CallRefusal::of_job_file(problems));
        let error = CliError::from(status).of_job_file(Path::new("job.toml"));
        assert!(error.to_string().ends_with(&text), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn a_missing_job_has_a_hint() {
        let error = CliError::from(Status::not_found("there is no job \"x\""));
        assert_eq!(error.to_string(), "there is no job \"x\"");
        assert_eq!(error.hint().unwrap(), "`streamctl list` names the jobs");
    }
}
