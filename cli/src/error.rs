//! What can go wrong on the command line, what to do about it, and the exit code.

use streamctl_proto::spec::Problems;
use tonic::{Code, Status};

/// A command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The words of the command line do not fit together.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
    /// A file can not be read.
    #[error("{path}: can not be read: {source}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A job file is wrong.
    #[error("{path} is not a correct job file\n{problems}")]
    JobFile {
        /// Which file.
        path: String,
        /// All that is wrong.
        problems: Problems,
    },
    /// No controller answers.
    #[error("no controller answers: {0}")]
    Unreachable(String),
    /// The controller says no.
    #[error("{}", .0.message())]
    Refused(Box<Status>),
    /// A worker does not give the rows of an epoch.
    #[error("the rows from epoch {epoch} on can not be read: {reason}")]
    Rows {
        /// Where to go on.
        epoch: u64,
        /// Why.
        reason: String,
    },
    /// The local mode can not go on.
    #[error("{message}")]
    Local {
        /// What happened.
        message: String,
        /// What to do.
        hint: String,
    },
    /// Something outside the cluster is not there: a table, a job of Glue.
    #[error("{message}")]
    NotThere {
        /// What is missing.
        message: String,
        /// What to do.
        hint: String,
    },
    /// A verification found something that is not as promised.
    #[error("not proven: {faults} of what was promised is not so")]
    Faults {
        /// How much.
        faults: u64,
    },
    /// A verification could not look at everything, and found no fault in the rest.
    #[error("not proven: {reason}")]
    Unproven {
        /// What was not looked at.
        reason: String,
    },
    /// Both sides do not understand each other.
    #[error("unexpected answer: {0}")]
    Answer(String),
    /// Whoever read the output has gone.
    #[error("the output was closed")]
    Closed(#[from] std::io::Error),
}

impl CliError {
    /// 0 done, 1 failed, 2 wrong usage or job file, 3 not found, 4 no controller answers, 5 could not be checked.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Closed(_) => 0,
            Self::Usage { .. } | Self::File { .. } | Self::JobFile { .. } => 2,
            Self::NotThere { .. } => 3,
            Self::Unreachable(_) => 4,
            Self::Rows { .. } | Self::Answer(_) | Self::Local { .. } | Self::Faults { .. } => 1,
            Self::Unproven { .. } => 5,
            Self::Refused(status) => match status.code() {
                Code::InvalidArgument => 2,
                Code::NotFound => 3,
                Code::Unavailable => 4,
                _ => 1,
            },
        }
    }

    /// What to do, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Usage { hint, .. } | Self::Local { hint, .. } | Self::NotThere { hint, .. } => Some(hint.clone()),
            Self::File { .. } => Some("name the job file, for example job.toml".into()),
            Self::Unreachable(_) => Some("start streamctl-controller, or name its address with --controller".into()),
            Self::Rows { epoch, .. } => Some(format!("go on with --from {epoch}")),
            Self::Answer(_) => Some("are streamctl and the controller of the same version?".into()),
            Self::Refused(status) => match status.code() {
                Code::NotFound => Some("`streamctl list` names the jobs".into()),
                Code::Unimplemented => Some("are streamctl and the controller of the same version?".into()),
                _ => None,
            },
            Self::JobFile { .. } | Self::Closed(_) | Self::Faults { .. } | Self::Unproven { .. } => None,
        }
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
    fn exit_codes_tell_the_kinds_of_failure_apart() {
        let codes = [
            (Status::invalid_argument("x"), 2),
            (Status::not_found("x"), 3),
            (Status::unavailable("x"), 4),
            (Status::internal("x"), 1),
        ];
        for (status, code) in codes {
            assert_eq!(CliError::from(status).exit_code(), code);
        }
        assert_eq!(CliError::Unreachable(String::new()).exit_code(), 4);
    }

    #[test]
    fn a_missing_job_has_a_hint() {
        let error = CliError::from(Status::not_found("there is no job \"x\""));
        assert_eq!(error.to_string(), "there is no job \"x\"");
        assert_eq!(error.hint().unwrap(), "`streamctl list` names the jobs");
    }
}
