//! The consumer that a job reads its stream through.
//!
//! Owns: when it is registered and deregistered, that two jobs never share one. Does not own: the
//! calls (`engine::source`), what a reader does without it.
//! Rule: it is there before a job that reads through it is stored, and goes after the last version
//! that did. A reader whose consumer is gone polls, so the order loses nothing.

use super::submit::{Submitter, refused};
use crate::handle::Handle;
use streamctl_core::Core;
use streamctl_engine::resolve::ResolveError;
use streamctl_engine::source::ListError;
use streamctl_proto::spec::{ConsumerName, Problem, Problems};
use streamctl_proto::{ResolvedJob, describe};
use tonic::Status;

const FIELD: &str = "source.consumer";

impl Submitter {
    /// Registers the job's consumer, or looks up the one that it names. `text` is the job file.
    pub(super) async fn prepare_consumer(
        &self,
        handle: &Handle,
        job: &mut ResolvedJob,
        text: &str,
    ) -> Result<(), Status> {
        let kind = job.spec.source.kind.clone();
        let Some(name) = kind.consumer() else {
            return Ok(());
        };
        if job.consumer.is_some() {
            return Ok(());
        }
        if let Some(problem) = taken(handle, job, name).await? {
            return Err(refused(Problems(vec![problem]).into(), text));
        }
        job.consumer = self.lister.prepare(job).await.map_err(|error| {
            let error = match error {
                ListError::Refused { reason, hint, .. } => {
                    Problems(vec![Problem::new(FIELD, reason, Some(hint))]).into()
                }
                ListError::Unavailable { reason } => ResolveError::Unavailable {
                    field: FIELD.to_owned(),
                    reason,
                },
            };
            refused(error, text)
        })?;
        Ok(())
    }

    /// Deregisters the consumer that was registered for the job. Returns what the user must do if
    /// that fails: the service charges for it.
    pub(super) async fn release_consumer(&self, job: &ResolvedJob) -> Option<String> {
        let consumer = job.consumer.as_ref().filter(|consumer| consumer.is_own)?;
        let error = self.lister.release(job).await.err()?;
        let name = &job.spec.name;
        let arn = &consumer.arn;
        let reason = describe(&error);
        tracing::warn!(job = %name, consumer = arn, reason, "the consumer stays registered");
        Some(format!(
            "its consumer is still registered, and charged for: {reason}; run `aws kinesis \
             deregister-stream-consumer --consumer-arn {arn}`"
        ))
    }
}

/// The problem of a consumer that another job reads through.
async fn taken(
    handle: &Handle,
    job: &ResolvedJob,
    consumer: &ConsumerName,
) -> Result<Option<Problem>, Status> {
    let ConsumerName::Arn(arn) = consumer else {
        return Ok(None);
    };
    let arn = arn.clone();
    let own = job.spec.name.clone();
    let reads = move |core: &Core| {
        let is_reader = |name: &&streamctl_proto::JobName| {
            let resolved = core.job(name).map(|job| job.resolved());
            let consumer = resolved.and_then(|job| job.consumer.as_ref());
            **name != own && consumer.is_some_and(|consumer| consumer.arn == arn)
        };
        core.job_names().find(is_reader).cloned()
    };
    let other = handle.query(reads).await?;
    Ok(other.map(|other| {
        let message = format!(
            "job {other} reads through this consumer, and a consumer has one subscription of a shard"
        );
        let hint = "register another consumer: write a name instead of the ARN";
        Problem::new(FIELD, message, Some(hint.to_owned()))
    }))
}
