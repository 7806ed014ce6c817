//! The columns of a function's result, from a call without rows.
//!
//! Owns: the call, the answer to a controller. Does not own: what becomes of the columns
//! (`engine::resolve`).
//! Rule: an error of the function is an answer; only what another worker may do better is a
//! failure.

use super::{Functions, FunctionsError};
use crate::function::{Call, FunctionError, LookupRows, Outcome};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use std::collections::BTreeMap;
use streamctl_engine::function::fit;
use streamctl_engine::function::schema::{decode, encode};
use streamctl_engine::function::{LearnError, Learner, Trial};
use streamctl_engine::storage::Storages;
use streamctl_proto::function_code::FunctionCode;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::{JobSpec, LookupVersion, Window, v1};
use tonic::Status;

/// Calls functions in this process's own children.
pub struct HereLearner {
    pub functions: Functions,
    /// Where its wheels may be.
    pub storages: Storages,
}

#[async_trait]
impl Learner for HereLearner {
    async fn result_of(&self, trial: Trial<'_>) -> Result<Option<SchemaRef>, LearnError> {
        let learned = learn(&self.functions, &self.storages, trial).await;
        learned.map_err(|error| match error {
            FunctionsError::NotAllowed | FunctionsError::Folder(_) => LearnError::Unavailable {
                reason: format!("{error}: {}", error.hint()),
            },
            error if error.may_pass() => LearnError::Unavailable {
                reason: error.report(),
            },
            error => LearnError::Function {
                message: error.report(),
                hint: Some(error.hint()).filter(|hint| !hint.is_empty()),
            },
        })
    }
}

async fn learn(
    functions: &Functions,
    storages: &Storages,
    trial: Trial<'_>,
) -> Result<Option<SchemaRef>, FunctionsError> {
    let Trial {
        spec,
        function,
        code,
        input,
        lookups,
    } = trial;
    let is_declared = !function.schema.is_empty();
    let without_rows = |(name, schema): (&String, &SchemaRef)| {
        let rows = LookupRows {
            version: LookupVersion::new("submit"),
            schema: schema.clone(),
            batches: vec![RecordBatch::new_empty(schema.clone())],
        };
        (name.clone(), rows)
    };
    let pool = functions.pool(storages, spec, function, code).await?;
    let mut process = pool.acquire().await?;
    let call = Call {
        batch_id: 0,
        window: Window {
            start_ms: 0,
            end_ms: spec.window.ms(),
        },
        attempt: 1,
        job: spec.name.clone(),
        lookups: match function.has_code() {
            true => lookups.iter().map(without_rows).collect(),
            false => BTreeMap::new(),
        },
        // A type may be missing if the job file has it.
        empty: !is_declared,
        // One call, but a runner that knows no keys is found now.
        by: match is_declared {
            true => Vec::new(),
            false => function.per.key_columns().to_vec(),
        },
        memory: None,
    };
    let no_rows = RecordBatch::new_empty(input.clone());
    let mut input_rows = futures::stream::iter([Ok(no_rows)]);
    let called = process.call(call, input.clone(), &mut input_rows).await;
    drop(process);
    pool.close().await;
    let result = match called {
        Ok(Outcome { result, .. }) => result,
        // It may need rows; its columns are known without them.
        Err(FunctionError::Raised { .. }) if is_declared => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match result {
        Some((schema, _)) if !is_declared => {
            fit::check_learned(&schema)?;
            Ok(Some(schema))
        }
        Some((schema, _)) => Ok(Some(schema)),
        None if !is_declared => Err(FunctionsError::NoResult),
        None => Ok(None),
    }
}

/// Answers a controller.
///
/// # Errors
/// This worker cannot tell; another one may.
pub async fn learn_action(
    functions: &Functions,
    storages: &Storages,
    request: v1::LearnFunction,
) -> Result<v1::LearnedFunction, Status> {
    let invalid = |error: String| Status::from(CallRefusal::new(Reason::InvalidArgument, error));
    let spec: JobSpec =
        serde_json::from_str(&request.job_json).map_err(|error| invalid(error.to_string()))?;
    let function = spec
        .function
        .clone()
        .ok_or_else(|| invalid("the job has no function".to_owned()))?;
    let input = decode(&request.input_schema).map_err(|error| invalid(error.to_string()))?;
    let code = FunctionCode::try_from(request.function_code)
        .map_err(|error| invalid(error.to_string()))?;
    let learner = HereLearner {
        functions: functions.clone(),
        storages: storages.clone(),
    };
    let mut lookups = BTreeMap::new();
    for lookup in request.lookups {
        let schema = decode(&lookup.schema).map_err(|error| invalid(error.to_string()))?;
        lookups.insert(lookup.name, schema);
    }
    let trial = Trial {
        spec: &spec,
        function: &function,
        code: Some(&code),
        input: &input,
        lookups: &lookups,
    };
    match learner.result_of(trial).await {
        Ok(schema) => Ok(v1::LearnedFunction {
            result_schema: match schema {
                Some(schema) => encode(&schema).map_err(|error| {
                    Status::from(CallRefusal::new(Reason::Internal, error.to_string()))
                })?,
                None => Vec::new(),
            },
            ..Default::default()
        }),
        Err(LearnError::Function { message, hint }) => Ok(v1::LearnedFunction {
            problem: message,
            hint: hint.unwrap_or_default(),
            ..Default::default()
        }),
        Err(LearnError::Unavailable { reason }) => Err(Status::from(CallRefusal::new(
            Reason::WorkerUnavailable,
            reason,
        ))),
    }
}
