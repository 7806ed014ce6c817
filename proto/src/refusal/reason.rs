//! Why calls are refused: the table of reasons.
//!
//! Owns: each reason's name, gRPC code, and when a retry makes sense. Does not own: texts.
//! Rule: a name that was released keeps its meaning. docs/errors.md has the same table; a test
//! compares them.

use std::time::Duration;
use tonic::Code;

/// A stable reason: what a program decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// This controller stands by; another one, which is named, leads.
    Standby,
    /// No controller leads.
    NoLeader,
    /// This controller has stopped leading during the call.
    LeadershipLost,
    /// The program has just begun, and does not know enough yet.
    NotReady,
    /// There is no trusted server at the address. Made by clients.
    Unreachable,
    InvalidJobFile,
    InvalidArgument,
    JobNotFound,
    EpochNotFound,
    VersionNotFound,
    WorkerNotFound,
    /// A job of this name exists with another job file.
    JobExists,
    /// The job cannot take the change over.
    ChangeRefused,
    /// The job is not at the expected version.
    VersionConflict,
    /// Another request changes or deletes the job.
    JobBusy,
    /// The job's state does not allow the request.
    JobState,
    /// The checkpoint location holds epochs of an unknown job of this name.
    CheckpointInUse,
    /// A system outside that the request needs did not respond.
    ServiceUnavailable,
    /// The store did not respond.
    StoreUnavailable,
    /// The checkpoint location did not respond.
    CheckpointUnavailable,
    /// The content of the checkpoint location is missing or was changed.
    CheckpointDamaged,
    /// No worker could do it.
    WorkerUnavailable,
    /// A worker did it, and the job failed.
    WorkFailed,
    /// The answer is too large.
    TooLarge,
    /// The caller has as many of these calls as are allowed at once.
    TooManyCalls,
    Unauthenticated,
    PermissionDenied,
    Internal,
}

impl Reason {
    pub const ALL: [Self; 28] = [
        Self::Standby,
        Self::NoLeader,
        Self::LeadershipLost,
        Self::NotReady,
        Self::Unreachable,
        Self::InvalidJobFile,
        Self::InvalidArgument,
        Self::JobNotFound,
        Self::EpochNotFound,
        Self::VersionNotFound,
        Self::WorkerNotFound,
        Self::JobExists,
        Self::ChangeRefused,
        Self::VersionConflict,
        Self::JobBusy,
        Self::JobState,
        Self::CheckpointInUse,
        Self::ServiceUnavailable,
        Self::StoreUnavailable,
        Self::CheckpointUnavailable,
        Self::CheckpointDamaged,
        Self::WorkerUnavailable,
        Self::WorkFailed,
        Self::TooLarge,
        Self::TooManyCalls,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::Internal,
    ];

    /// Its name in `google.rpc.ErrorInfo`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standby => "STANDBY",
            Self::NoLeader => "NO_LEADER",
            Self::LeadershipLost => "LEADERSHIP_LOST",
            Self::NotReady => "NOT_READY",
            Self::Unreachable => "UNREACHABLE",
            Self::InvalidJobFile => "INVALID_JOB_FILE",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::JobNotFound => "JOB_NOT_FOUND",
            Self::EpochNotFound => "EPOCH_NOT_FOUND",
            Self::VersionNotFound => "VERSION_NOT_FOUND",
            Self::WorkerNotFound => "WORKER_NOT_FOUND",
            Self::JobExists => "JOB_EXISTS",
            Self::ChangeRefused => "CHANGE_REFUSED",
            Self::VersionConflict => "VERSION_CONFLICT",
            Self::JobBusy => "JOB_BUSY",
            Self::JobState => "JOB_STATE",
            Self::CheckpointInUse => "CHECKPOINT_IN_USE",
            Self::ServiceUnavailable => "SERVICE_UNAVAILABLE",
            Self::StoreUnavailable => "STORE_UNAVAILABLE",
            Self::CheckpointUnavailable => "CHECKPOINT_UNAVAILABLE",
            Self::CheckpointDamaged => "CHECKPOINT_DAMAGED",
            Self::WorkerUnavailable => "WORKER_UNAVAILABLE",
            Self::WorkFailed => "WORK_FAILED",
            Self::TooLarge => "TOO_LARGE",
            Self::TooManyCalls => "TOO_MANY_CALLS",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::Internal => "INTERNAL",
        }
    }

    pub fn code(self) -> Code {
        match self {
            Self::Standby
            | Self::ChangeRefused
            | Self::JobState
            | Self::CheckpointInUse
            | Self::WorkFailed => Code::FailedPrecondition,
            Self::NoLeader
            | Self::LeadershipLost
            | Self::NotReady
            | Self::Unreachable
            | Self::StoreUnavailable
            | Self::CheckpointUnavailable
            | Self::WorkerUnavailable => Code::Unavailable,
            Self::InvalidJobFile | Self::InvalidArgument => Code::InvalidArgument,
            Self::JobNotFound
            | Self::EpochNotFound
            | Self::VersionNotFound
            | Self::WorkerNotFound => Code::NotFound,
            Self::JobExists => Code::AlreadyExists,
            Self::VersionConflict | Self::JobBusy | Self::ServiceUnavailable => Code::Aborted,
            Self::CheckpointDamaged => Code::DataLoss,
            Self::TooLarge => Code::OutOfRange,
            Self::TooManyCalls => Code::ResourceExhausted,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::PermissionDenied => Code::PermissionDenied,
            Self::Internal => Code::Internal,
        }
    }

    /// After which time the same request may succeed; `None`: something must be fixed first.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::NoLeader
            | Self::LeadershipLost
            | Self::NotReady
            | Self::JobBusy
            | Self::TooManyCalls => Some(Duration::from_secs(1)),
            Self::ServiceUnavailable
            | Self::StoreUnavailable
            | Self::CheckpointUnavailable
            | Self::WorkerUnavailable => Some(Duration::from_secs(5)),
            Self::Standby
            | Self::Unreachable
            | Self::InvalidJobFile
            | Self::InvalidArgument
            | Self::JobNotFound
            | Self::EpochNotFound
            | Self::VersionNotFound
            | Self::WorkerNotFound
            | Self::JobExists
            | Self::ChangeRefused
            | Self::VersionConflict
            | Self::JobState
            | Self::CheckpointInUse
            | Self::CheckpointDamaged
            | Self::WorkFailed
            | Self::TooLarge
            | Self::Unauthenticated
            | Self::PermissionDenied
            | Self::Internal => None,
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_the_same_table() {
        let page = include_str!("../../../docs/errors.md");
        let rows = page.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, Reason::ALL.len());
        for reason in Reason::ALL {
            let retry = match reason.retry_after() {
                Some(after) => format!("{} s", after.as_secs()),
                None => "no".to_owned(),
            };
            let code = format!("{:?}", reason.code());
            let row = format!("| `{}` | {code} | {retry} |", reason.name());
            assert!(page.contains(&row), "docs/errors.md should have: {row}");
            assert_eq!(Reason::of_name(reason.name()), Some(reason));
        }
    }
}
