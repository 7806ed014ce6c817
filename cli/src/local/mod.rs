//! What runs in this process: controller and worker code without a cluster.
//!
//! Owns: the types between the verbs and what runs here; the runner of controller and worker
//! ([`embed`]), `explain` and `preview` ([`looks`]), functions ([`functions`]).
//! Does not own: the verbs.
//! Rule: nothing else of the CLI names the crates of controller and worker. A runner is an argument
//! of the verbs, so that they are tested without one.

pub mod embed;
pub mod functions;
pub mod looks;

pub use streamctl_controller::verify::Events;
pub use streamctl_worker::function::child_main_if_asked;
pub use streamctl_worker::memory::MemoryLimit;

use crate::error::CliError;
use std::path::PathBuf;
use streamctl_proto::function_code::FunctionCode;
use streamctl_proto::v1::JobStatus;

/// A job to run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalJob {
    /// The text of the job file.
    pub spec_text: String,
    /// Relative paths in it are resolved from here; absolute.
    pub base_dir: PathBuf,
    /// The code of its function.
    pub function_code: Option<FunctionCode>,
    /// The folder of the embedded store: started again with the same folder, the job continues
    /// where it was.
    pub state_dir: PathBuf,
    /// If the state folder has another job file of this name, replace it by this one.
    pub change: bool,
    /// Memory limit of its worker; derived from this machine if not set.
    pub memory_limit: Option<MemoryLimit>,
}

/// A listener's reply to a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Continue,
    /// Stop the job, publish what is committed, end. What is not committed is read again at the
    /// next start.
    Stop,
}

/// Called at every change of the job's status.
pub type Listener<'l> = dyn FnMut(&JobStatus) -> Flow + Send + 'l;

/// Runs a job until it ends, the listener stops it, or the process is stopped (SIGINT, SIGTERM).
/// Returns the last status.
pub trait Runner: AsyncFnOnce(LocalJob, &mut Listener<'_>) -> Result<JobStatus, CliError> {}

impl<R: AsyncFnOnce(LocalJob, &mut Listener<'_>) -> Result<JobStatus, CliError>> Runner for R {}
