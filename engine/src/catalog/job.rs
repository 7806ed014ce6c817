//! A job of Glue, as GetJob tells it.
//!
//! Owns: asking, and what its refusals mean. Does not own: what the job says (`streamctl import`).
//! Rule: the answer is handed on as the service wrote it, so that a file of `aws glue get-job`
//! reads the same.

use crate::aws::Aws;
use aws_sdk_glue::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_glue::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_glue::error::{BoxError, ProvideErrorMetadata};
use std::sync::{Arc, Mutex, PoisonError};

/// A job of Glue cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("Glue does not give the job {name:?}: {reason}")]
pub struct GlueJobError {
    pub name: String,
    pub reason: String,
    /// There is no such job.
    pub missing: bool,
}

impl GlueJobError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        if self.missing {
            "check name and region: `aws glue list-jobs` shows what this account sees"
        } else {
            "allow glue:GetJob, check credentials and AWS_REGION; or save `aws glue get-job` to a file and name it with --file"
        }
    }
}

/// The service's answer as text, for the one call that it is given to.
#[derive(Clone, Debug, Default)]
struct Keep(Arc<Mutex<Option<String>>>);

impl Intercept for Keep {
    fn name(&self) -> &'static str {
        "Keep"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let text = context
            .response()
            .body()
            .bytes()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
        Ok(())
    }
}

/// Asks for a job: `{"Job": {...}}`; `region` where it is not the environment's.
///
/// # Errors
/// There is none, or it may not be seen, or Glue does not answer.
pub async fn get_job_json(
    aws: &Aws,
    name: &str,
    region: Option<&str>,
) -> Result<String, GlueJobError> {
    let kept = Keep::default();
    let request = aws
        .glue(region)
        .await
        .get_job()
        .job_name(name)
        .customize()
        .interceptor(kept.clone());
    let failed = |reason: String, missing| GlueJobError {
        name: name.to_owned(),
        reason,
        missing,
    };
    request.send().await.map_err(|error| {
        let missing = error.code() == Some("EntityNotFoundException");
        let words = error.as_service_error().map(|service| {
            format!(
                "{}: {}",
                service.code().unwrap_or("error"),
                service.message().unwrap_or("no message")
            )
        });
        failed(words.unwrap_or_else(|| super::unanswered(&error)), missing)
    })?;
    let text = kept.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    text.ok_or_else(|| failed("its answer is empty".to_owned(), false))
}
