//! Why a worker cannot run the function of a job, before any call.

use super::environment_error::EnvironmentError;
use crate::function::{FunctionError, NoRoom};
use streamctl_engine::aws::RoleError;
use streamctl_engine::function::fit::FitError;
use streamctl_engine::function::store::StoreCodeError;
use streamctl_engine::storage::StorageError;

#[derive(Debug, thiserror::Error)]
pub enum FunctionsError {
    #[error("the job has a function, and this worker runs none")]
    NotAllowed,
    /// The job was stored without what its keys name.
    #[error("the code of the job's function is not complete")]
    NoCode,
    #[error(
        "the function returns nothing when it is given no rows, so the columns of its result are not known"
    )]
    NoResult,
    #[error(transparent)]
    Stored(#[from] StoreCodeError),
    #[error("the function's code cannot be laid out on this worker: {0}")]
    Folder(#[from] std::io::Error),
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    #[error(transparent)]
    Call(#[from] FunctionError),
    #[error(transparent)]
    Fit(#[from] FitError),
}

impl FunctionsError {
    /// The error with its causes; of a call, with traceback and the function's last lines.
    pub fn report(&self) -> String {
        match self {
            Self::Call(error) => error.report(),
            error => streamctl_proto::describe(error),
        }
    }

    /// An outside system does not answer: it is tried again for as long as it takes.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Stored(StoreCodeError::Storage(StorageError::Unavailable { .. }))
                | Self::Call(FunctionError::NotReached { .. })
                | Self::Environment(EnvironmentError::Wheels { may_pass: true, .. })
                | Self::Call(FunctionError::NoRoom(NoRoom { others: true, .. }))
        ) || self.role_error().is_some_and(RoleError::may_pass)
    }

    /// Another worker may run the function: it runs functions, or may assume the role.
    pub fn is_of_this_worker(&self) -> bool {
        matches!(self, Self::NotAllowed) || self.role_error().is_some_and(|role| !role.may_pass())
    }

    fn role_error(&self) -> Option<&RoleError> {
        match self {
            Self::Call(FunctionError::Role(error)) => Some(error),
            _ => None,
        }
    }

    /// What to do.
    pub fn hint(&self) -> String {
        match self {
            Self::NotAllowed => "start workers with --functions".to_owned(),
            Self::NoCode => {
                "submit the job again with the program `streamctl`, which packs the code".to_owned()
            }
            Self::NoResult => {
                "return an empty frame with its columns, or give the columns in [function.schema]".to_owned()
            }
            Self::Stored(_) => {
                "the code lies in the checkpoint location; submit the job again with --change to store it anew"
                    .to_owned()
            }
            Self::Folder(_) => {
                "give the worker a folder that it may write to: --function-folder".to_owned()
            }
            Self::Environment(error) => error.hint(),
            Self::Call(error) => error.hint().to_owned(),
            Self::Fit(error) => error.hint(),
        }
    }
}
