//! Learns the columns of a function's result from a worker.
//!
//! Owns: the request and its answer. Does not own: running the function (the worker), which worker
//! (`worker_calls`).
//! Rule: a controller never runs code of users.

use crate::worker_calls::WorkerCalls;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use prost::Message as _;
use std::time::Duration;
use streamctl_engine::function::schema::{decode, encode};
use streamctl_engine::function::{LearnError, Learner, Trial};
use streamctl_engine::security::grant::Use;
use streamctl_proto::function_code::LEARN_ACTION;
use streamctl_proto::v1;

/// Time for a worker to make the function's environment and to call it.
const LEARN_TIMEOUT: Duration = Duration::from_secs(300);

/// Has a worker call the function.
pub struct WorkerLearner {
    pub workers: WorkerCalls,
}

#[async_trait]
impl Learner for WorkerLearner {
    async fn result_of(&self, trial: Trial<'_>) -> Result<Option<SchemaRef>, LearnError> {
        let spec = trial.spec;
        let unavailable = |reason: String| LearnError::Unavailable { reason };
        let job_json =
            serde_json::to_string(spec).map_err(|error| unavailable(error.to_string()))?;
        let lookups = trial.lookups.iter().map(|(name, schema)| {
            let name = name.clone();
            encode(schema).map(|schema| v1::LookupColumns { name, schema })
        });
        let request = v1::LearnFunction {
            job_json,
            function_code: trial.code.map(Vec::from).unwrap_or_default(),
            input_schema: encode(trial.input).map_err(|error| unavailable(error.to_string()))?,
            lookups: lookups
                .collect::<Result<_, _>>()
                .map_err(|error| unavailable(error.to_string()))?,
        };
        let called = self.workers.call(
            &spec.name,
            Use::Function,
            LEARN_ACTION,
            request.encode_to_vec(),
            LEARN_TIMEOUT,
        );
        let body = called.await.map_err(|failed| unavailable(failed.reason))?;
        let learned =
            v1::LearnedFunction::decode(body).map_err(|error| unavailable(error.to_string()))?;
        if !learned.problem.is_empty() {
            return Err(LearnError::Function {
                message: learned.problem,
                hint: (!learned.hint.is_empty()).then_some(learned.hint),
            });
        }
        if learned.result_schema.is_empty() {
            return Ok(None);
        }
        let schema = decode(&learned.result_schema);
        schema
            .map(Some)
            .map_err(|error| unavailable(error.to_string()))
    }
}
