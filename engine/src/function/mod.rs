//! A job's own function, as everyone but its process sees it: its code, the columns of its result.
//!
//! Owns: learning the result's columns at submit ([`Learner`]), storing the packed code ([`store`]),
//! whether a result fits its columns ([`fit`]). Does not own: running the function (the worker).
//! Rule: the columns of the result are fixed at submit; a later difference names the column.

mod by;
pub mod fit;
pub mod schema;
pub mod store;

use crate::catalog;
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use streamctl_proto::JobSpec;
use streamctl_proto::function_code::FunctionCode;
use streamctl_proto::resolved::NestedColumns;
use streamctl_proto::spec::FunctionSpec;

/// What a submit has of a job's function besides its keys.
#[derive(Clone, Default)]
pub struct Given {
    /// The code that came with the job file.
    pub code: Option<FunctionCode>,
    /// Calls the function without rows. `None`: nothing here can.
    pub learner: Option<Arc<dyn Learner>>,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given")
            .field("code", &self.code.as_ref().map(FunctionCode::digest))
            .field("learner", &self.learner.is_some())
            .finish()
    }
}

/// Calls a function without rows, to learn the columns of its result.
#[async_trait]
pub trait Learner: Send + Sync {
    /// The columns of the result for rows of `input`; `None`: there is no result without rows, and the
    /// job file has the columns.
    ///
    /// # Errors
    /// [`LearnError`]
    async fn result_of(&self, trial: Trial<'_>) -> Result<Option<SchemaRef>, LearnError>;
}

/// A function that is called without rows.
#[derive(Clone, Copy)]
pub struct Trial<'a> {
    pub spec: &'a JobSpec,
    pub function: &'a FunctionSpec,
    pub code: Option<&'a FunctionCode>,
    /// The columns that it is given.
    pub input: &'a SchemaRef,
    /// The columns of each lookup, which it sees without rows too.
    pub lookups: &'a BTreeMap<String, SchemaRef>,
}

/// The columns of a function's result are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LearnError {
    /// The function or its code must be changed.
    #[error("{message}")]
    Function {
        message: String,
        hint: Option<String>,
    },
    /// No worker could call it: it may be called later.
    #[error("{reason}")]
    Unavailable { reason: String },
}

/// The columns of a function's result: those of the job file, else those that a call returns.
///
/// # Errors
/// [`LearnError`]
pub async fn result_schema(
    given: &Given,
    spec: &JobSpec,
    function: &FunctionSpec,
    input: &SchemaRef,
    lookups: &BTreeMap<String, SchemaRef>,
) -> Result<SchemaRef, LearnError> {
    let declared = declared(function)?;
    if function.has_code() && given.code.is_none() {
        return Err(LearnError::Function {
            message: "the function's code did not come with the job file".to_owned(),
            hint: Some("submit it with the program `streamctl`, which packs the code".to_owned()),
        });
    }
    by::check(function, input)?;
    let learned = match &given.learner {
        Some(learner) => {
            let trial = Trial {
                spec,
                function,
                code: given.code.as_ref(),
                input,
                lookups,
            };
            learner.result_of(trial).await
        }
        None => Err(LearnError::Unavailable {
            reason: "there is no worker that may run functions: start one with --functions"
                .to_owned(),
        }),
    };
    match (declared, learned) {
        (None, learned) => match learned? {
            Some(learned) => Ok(fit::plain(&learned)),
            None => Err(LearnError::Unavailable {
                reason: "the call returned no columns".to_owned(),
            }),
        },
        (Some(declared), Ok(None)) => Ok(declared),
        (Some(declared), Ok(Some(learned))) => {
            // Without values there are no types to compare.
            fit::check_names(&learned, &declared).map_err(|error| LearnError::Function {
                message: error.to_string(),
                hint: Some(error.hint()),
            })?;
            Ok(declared)
        }
        // The columns are known without a call; whether the code has `on_published` is not.
        (Some(declared), Err(LearnError::Unavailable { .. }))
            if function.on_published.is_none() =>
        {
            Ok(declared)
        }
        (Some(_), Err(error)) => Err(error),
    }
}

/// The columns of `[function.schema]`, with their names as written.
fn declared(function: &FunctionSpec) -> Result<Option<SchemaRef>, LearnError> {
    if function.schema.is_empty() {
        return Ok(None);
    }
    let schema =
        catalog::arrow_schema(&function.schema, NestedColumns::Typed).map_err(|error| {
            LearnError::Function {
                message: error.to_string(),
                hint: error.hint(),
            }
        })?;
    let named = |(field, column): (&FieldRef, &streamctl_proto::resolved::ColumnType)| {
        Field::clone(field).with_name(column.name.trim())
    };
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .zip(&function.schema)
        .map(named)
        .collect();
    Ok(Some(Arc::new(Schema::new(fields))))
}
