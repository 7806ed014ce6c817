//! The texts of submitted job files, in the checkpoint location.
//!
//! Owns: writing one at submit, reading it back. Does not own: which version has which digest (the
//! resolved job).
//! Rule: named by the digest of what was submitted: writing it again changes nothing, and a text
//! that was changed where it is stored is not returned.

use bytes::Bytes;
use streamctl_engine::storage::{StorageError, Storages};
use streamctl_proto::ResolvedJob;
use streamctl_proto::function_code::CodeDigest;
use streamctl_proto::manifest::{CheckpointNames, sha256_hex};
use streamctl_proto::spec::JOB_FILE_BYTES_MAX;

/// The text of a job file cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum JobFileError {
    /// The job is of a build that did not keep it.
    #[error("the job file of this version was not kept")]
    NotKept,
    #[error("{location} was changed after it was stored")]
    Changed { location: String },
    #[error("{0}")]
    Storage(#[from] StorageError),
}

/// Identifies what was submitted: the text, and the code of its function.
pub fn submitted_digest(text: &str, code: Option<&CodeDigest>) -> String {
    match code {
        None => sha256_hex(text.as_bytes()),
        Some(code) => sha256_hex(format!("{text}\n{code}").as_bytes()),
    }
}

fn location(job: &ResolvedJob) -> String {
    let names = CheckpointNames::new(&job.spec.name);
    job.spec.checkpoint.join(&names.job_file(&job.spec_digest))
}

/// Stores the text of a job that was submitted.
///
/// # Errors
/// The storage did not take it.
pub async fn write(storages: &Storages, job: &ResolvedJob, text: &str) -> Result<(), StorageError> {
    let location = location(job);
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    let storage = storages.for_location(&location);
    storage.put_new(&location, bytes).await.map(|_| ())
}

/// The text of this version of a job.
///
/// # Errors
/// [`JobFileError`]
pub async fn read(storages: &Storages, job: &ResolvedJob) -> Result<String, JobFileError> {
    let location = location(job);
    let storage = storages.for_location(&location);
    let bytes = match storage.get(&location, JOB_FILE_BYTES_MAX as u64).await {
        Ok(bytes) => bytes,
        Err(StorageError::NotFound { .. }) => return Err(JobFileError::NotKept),
        Err(error) => return Err(error.into()),
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match submitted_digest(&text, job.function_code.as_ref()) == job.spec_digest {
        true => Ok(text),
        false => Err(JobFileError::Changed { location }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;
    use streamctl_engine::storage::MemoryStorage;
    use streamctl_proto::spec::Location;

    fn job(text: &str) -> ResolvedJob {
        let mut job = contract::job("sales");
        job.spec.checkpoint = Location::folder("memory://checkpoint");
        job.spec_digest = submitted_digest(text, None);
        job
    }

    #[tokio::test]
    async fn the_text_of_a_version_is_what_was_submitted_or_an_error() {
        let memory = MemoryStorage::default();
        let storages = Storages::memory(memory.clone());
        let first = job("name = 'sales' # 1");
        let second = job("name = 'sales' # 2");
        write(&storages, &first, "name = 'sales' # 1")
            .await
            .unwrap();
        write(&storages, &first, "name = 'sales' # 1")
            .await
            .unwrap();
        assert_eq!(read(&storages, &first).await.unwrap(), "name = 'sales' # 1");
        let missing = read(&storages, &second).await.unwrap_err();
        assert!(matches!(missing, JobFileError::NotKept), "{missing}");
        memory.put(&location(&second), "another text".to_owned());
        let changed = read(&storages, &second).await.unwrap_err();
        assert!(matches!(changed, JobFileError::Changed { .. }), "{changed}");
    }
}
