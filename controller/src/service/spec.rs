//! The versions of a job: `GetJobSpec`, `ListJobVersions`, `CompareJobVersions`.
//!
//! Owns: their limits, which version is meant. Does not own: the comparison (`change`), how versions
//! are stored ([`crate::checkpoints`]).
//! Rule: an old version is read where it is stored, and proven by the one after it.

use super::change::{differences, plans};
use super::jobs::JobsService;
use crate::checkpoints::CheckpointError;
use crate::job_files::{self, JobFileError};
use std::sync::Arc;
use streamctl_engine::storage::StorageError;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::{JobName, JobVersion, ResolvedJob, describe, v1};
use tonic::Status;

/// Versions listed if the request does not set a limit.
const VERSIONS_DEFAULT: u32 = 20;
/// Most versions listed at once: each is one object of the checkpoint location.
pub const VERSIONS_LISTED_MAX: u32 = 100;

impl JobsService {
    pub(super) async fn job_spec(
        &self,
        job: &JobName,
        version: Option<u64>,
    ) -> Result<v1::GetJobSpecResponse, Status> {
        let (last, ..) = self.kept(job).await?;
        let found = self.version(&last, version).await?;
        let text = job_files::read(self.history.storages(), &found).await;
        let spec_toml = text.map_err(|error| no_text(job, found.job_version, error))?;
        Ok(v1::GetJobSpecResponse {
            job: job.to_string(),
            job_version: found.job_version.0,
            last_version: last.job_version.0,
            submitted_ms: found.version_submitted_ms(),
            spec_digest: found.spec_digest.clone(),
            spec_toml,
        })
    }

    pub(super) async fn job_versions(
        &self,
        request: &v1::ListJobVersionsRequest,
    ) -> Result<v1::ListJobVersionsResponse, Status> {
        let job = super::jobs::name(&request.job)?;
        let (last, ..) = self.kept(&job).await?;
        let limit = match request.limit {
            0 => VERSIONS_DEFAULT,
            limit => limit.min(VERSIONS_LISTED_MAX),
        };
        let newest = match request.before {
            0 => last.job_version.0,
            before => last.job_version.0.min(before - 1),
        };
        let mut versions = vec![];
        let mut after = Arc::new(last);
        let mut next = newest;
        while next >= JobVersion::FIRST.0 && versions.len() < limit as usize {
            // Each is named by the one after it: one read per version.
            match self.history.version(&after, JobVersion(next)).await {
                Ok(found) => after = found,
                Err(error) if is_gone(&error) => {
                    next = 0;
                    break;
                }
                Err(error) => return Err(unreadable(&error)),
            }
            versions.push(summary(&after));
            next -= 1;
        }
        Ok(v1::ListJobVersionsResponse {
            versions,
            next_before: if next == 0 { 0 } else { next + 1 },
        })
    }

    pub(super) async fn compared_versions(
        &self,
        request: &v1::CompareJobVersionsRequest,
    ) -> Result<v1::CompareJobVersionsResponse, Status> {
        let job = super::jobs::name(&request.job)?;
        let (last, ..) = self.kept(&job).await?;
        let from = self.version(&last, Some(request.from)).await?;
        let to = self.version(&last, request.to).await?;
        let mut changes = differences(&from, &to, None);
        // Both were taken over; whether a running job could take one over now is another question.
        for change in &mut changes {
            change.refused = None;
        }
        let (plan_was, plan_will_be) = match changes.is_empty() {
            true => Default::default(),
            false => plans(&self.submitter.world, &from, &to).await,
        };
        Ok(v1::CompareJobVersionsResponse {
            job: job.to_string(),
            from: from.job_version.0,
            to: to.job_version.0,
            changes: changes.into_iter().map(Into::into).collect(),
            plan_was,
            plan_will_be,
        })
    }

    /// The version with this number, or the last one.
    async fn version(
        &self,
        last: &ResolvedJob,
        version: Option<u64>,
    ) -> Result<Arc<ResolvedJob>, Status> {
        let job = &last.spec.name;
        let version = version.map_or(last.job_version, JobVersion);
        if version < JobVersion::FIRST || version > last.job_version {
            return Err(Status::from(
                CallRefusal::new(
                    Reason::VersionNotFound,
                    format!("job {job} has no version {version}"),
                )
                .hint(format!(
                    "its versions are {} to {}",
                    JobVersion::FIRST,
                    last.job_version
                )),
            ));
        }
        let found = self.history.version(last, version).await;
        found.map_err(|error| match is_gone(&error) {
            true => Status::from(
                CallRefusal::new(
                    Reason::VersionNotFound,
                    format!("version {version} of job {job} is not kept any more"),
                )
                .hint(format!(
                    "`streamctl get {job} --versions` shows those there are"
                )),
            ),
            false => unreadable(&error),
        })
    }
}

/// Whether a version was removed with the epochs that it made.
fn is_gone(error: &CheckpointError) -> bool {
    matches!(
        error,
        CheckpointError::Storage(StorageError::NotFound { .. })
    )
}

fn unreadable(error: &CheckpointError) -> Status {
    CallRefusal::new(Reason::CheckpointUnavailable, describe(error)).into()
}

fn summary(job: &ResolvedJob) -> v1::JobVersionSummary {
    v1::JobVersionSummary {
        job_version: job.job_version.0,
        first_epoch: job.first_epoch().map(|epoch| epoch.0),
        submitted_ms: job.version_submitted_ms(),
        spec_digest: job.spec_digest.clone(),
    }
}

fn no_text(job: &JobName, version: JobVersion, error: JobFileError) -> Status {
    let (reason, hint) = match error {
        JobFileError::NotKept => (
            Reason::CheckpointDamaged,
            format!("submit the file of job {job} again with --change"),
        ),
        JobFileError::Changed { .. } => (
            Reason::CheckpointDamaged,
            "restore the object, or submit the file again".to_owned(),
        ),
        JobFileError::Storage(_) => (
            Reason::CheckpointUnavailable,
            "try again when the checkpoint location answers".to_owned(),
        ),
    };
    let text = format!("version {version} of job {job}: {error}");
    Status::from(CallRefusal::new(reason, text).hint(hint))
}
