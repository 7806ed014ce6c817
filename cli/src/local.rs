//! What a job that runs in this process is given and gives back.
//!
//! Owns: the words between the verbs `run` and `demo` and whatever runs controller and workers in
//! one process.
//! Does not own: that itself. Rule: a runner is an argument of the verbs, so that they are tested
//! without one.

use crate::error::CliError;
use std::path::PathBuf;
use streamctl_proto::v1::JobStatus;
use streamctl_worker::memory::MemoryLimit;

/// A job to run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalJob {
    /// The text of the job file.
    pub spec_text: String,
    /// Relative paths in it are taken from here; absolute.
    pub base_dir: PathBuf,
    /// Where the embedded store lies: started again with the same folder, the job goes on where it
    /// was.
    pub state_dir: PathBuf,
    /// Where the state folder has another job file of this name: let this one take over.
    pub change: bool,
    /// Memory that its worker may take; what this machine allows when left out.
    pub memory_limit: Option<MemoryLimit>,
}

/// What a listener wants after a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    GoOn,
    /// Stop the job, publish what is committed, end. What is not committed is read again at the
    /// next start.
    Stop,
}

/// Is told every change of the job's status.
pub type Listener<'l> = dyn FnMut(&JobStatus) -> Wish + Send + 'l;

/// Runs a job until it ends, the listener has enough, or the process is asked to stop (SIGINT,
/// SIGTERM). Gives the last status.
pub trait Runner: AsyncFnOnce(LocalJob, &mut Listener<'_>) -> Result<JobStatus, CliError> {}

impl<R: AsyncFnOnce(LocalJob, &mut Listener<'_>) -> Result<JobStatus, CliError>> Runner for R {}
