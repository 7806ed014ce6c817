//! A Glue job, as returned by GetJob.
//!
//! Owns: the request, and the meaning of its errors. Does not own: the content of the job
//! (`streamctl import`).
//! Rule: the response is passed on as the service wrote it, so that a file of `aws glue get-job`
//! reads the same.

use crate::aws::Aws;
use aws_sdk_glue::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_glue::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_glue::error::{BoxError, ProvideErrorMetadata};
use std::sync::{Arc, Mutex, PoisonError};

/// A Glue job is not available.
#[derive(Debug, thiserror::Error)]
#[error("Glue does not give the job {name:?}: {reason}")]
pub struct GlueJobError {
    pub name: String,
    pub reason: String,
    /// There is no such job.
    pub missing: bool,
}

impl GlueJobError {
    /// The advice for the user.
    pub fn hint(&self) -> &'static str {
        if self.missing {
            "check name and region: `aws glue list-jobs` shows what this account sees"
        } else {
            "allow glue:GetJob, check credentials and AWS_REGION; or save `aws glue get-job` to a \
             file and name it with --file"
        }
    }
}

/// The service's response as text, for a single call.
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

/// Requests a job: `{"Job": {...}}`; `region` if it is not the environment's.
///
/// # Errors
/// It does not exist, access is denied, or Glue does not respond.
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
