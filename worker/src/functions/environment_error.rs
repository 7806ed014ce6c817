//! Why an environment cannot be made.
//!
//! Owns: what is reported, and what to do. Does not own: making one (`environment`).
//! Rule: an error of a program shows the end of what it printed.

use std::time::Duration;

/// How long one step may take.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(600);

/// An environment cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    #[error(
        "function.requirements: {0:?} has no hash: what is installed would not be what was submitted"
    )]
    NoHash(String),
    #[error("function.requirements: {0:?} is not a package pinned with `==`")]
    NotPinned(String),
    #[error("function.requirements is read by uv, and {program} cannot be started: {reason}")]
    NoUv { program: String, reason: String },
    #[error("{program} cannot be started: {reason}")]
    Start { program: String, reason: String },
    #[error("{step} failed: {output}")]
    Step { step: &'static str, output: String },
    #[error("{step} took longer than {STEP_TIMEOUT:?}")]
    Timeout { step: &'static str },
    #[error("the environment of the function cannot be written: {0}")]
    Folder(String),
    #[error("function.wheels: {reason}")]
    Wheels {
        reason: String,
        /// The storage does not answer: it is tried again.
        may_pass: bool,
    },
}

impl EnvironmentError {
    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            Self::NoHash(_) | Self::NotPinned(_) => {
                "write the file with: uv pip compile --generate-hashes requirements.in -o requirements.txt"
                    .to_owned()
            }
            Self::NoUv { .. } => {
                "install uv on the workers (pip install uv) or name it with --function-uv; or write pinned requirements: \
                 uv export --frozen --no-emit-project -o requirements.txt"
                    .to_owned()
            }
            Self::Start { .. } => {
                "install Python 3.10 or later with venv on the workers, or name it with --function-python"
                    .to_owned()
            }
            Self::Step { .. } | Self::Timeout { .. } => {
                "give the workers a package index that they reach (PIP_INDEX_URL), or a folder with all wheels: function.wheels \
                 or --function-wheels"
                    .to_owned()
            }
            Self::Folder(_) => {
                "give the worker a folder that it may write to: --function-folder".to_owned()
            }
            Self::Wheels { .. } => {
                "name a folder that the workers can list and read, with a wheel of each package".to_owned()
            }
        }
    }
}
