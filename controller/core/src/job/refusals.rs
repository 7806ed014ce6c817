//! What workers were refused of a job's tasks.

/// Refused messages of one worker about tasks of one job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    pub times: u32,
    /// At least one was refused since the job's last commit.
    pub since_commit: bool,
}
