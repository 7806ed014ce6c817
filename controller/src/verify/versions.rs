//! The versions of a job that its epochs name.
//!
//! Owns: reading each once, and reporting once each unreadable one. Does not own: what a manifest
//! must contain of its version (`chain`). Rule: the store proves the last version, and each version
//! the one before it.

use super::finding::{Finding, Kind};
use crate::checkpoints::{CheckpointError, Checkpoints};
use std::collections::BTreeMap;
use std::sync::Arc;
use streamctl_proto::{JobSpec, JobVersion, Manifest, ResolvedJob, describe};

/// Versions that were read; none for an unreadable one.
pub struct Versions {
    last: ResolvedJob,
    read: BTreeMap<JobVersion, Option<Arc<ResolvedJob>>>,
}

impl Versions {
    /// Versions of a job, whose last version the store holds.
    pub fn new(last: &ResolvedJob) -> Self {
        Self {
            last: last.clone(),
            read: BTreeMap::new(),
        }
    }

    /// The version that made this epoch, or none; and what is wrong with it, on the first call for
    /// it.
    pub async fn of(
        &mut self,
        checkpoints: &Checkpoints,
        manifest: &Manifest,
    ) -> (Option<Arc<ResolvedJob>>, Option<Finding>) {
        let version = manifest.job_version();
        if let Some(known) = self.read.get(&version) {
            return (known.clone(), None);
        }
        let (read, wrong) = match checkpoints.version(self.nearest(version), version).await {
            Ok(job) => (Some(Arc::new(job)), None),
            Err(error) => (None, Some(unreadable(manifest, version, &error))),
        };
        self.read.insert(version, read.clone());
        (read, wrong)
    }

    /// The version to begin at on the way back to this one.
    fn nearest(&self, version: JobVersion) -> &ResolvedJob {
        let later = self
            .read
            .range(version..)
            .find_map(|(_, read)| read.as_deref());
        later.unwrap_or(&self.last)
    }

    /// All of them could be read.
    pub fn are_whole(&self) -> bool {
        self.read.values().all(Option::is_some)
    }

    /// The job files of the versions that made epochs, and of the last one.
    pub fn specs(&self) -> impl Iterator<Item = &JobSpec> {
        self.read
            .values()
            .flatten()
            .map(|job| &job.spec)
            .chain([&self.last.spec])
    }
}

fn unreadable(manifest: &Manifest, version: JobVersion, error: &CheckpointError) -> Finding {
    let kind = if error.is_transient() {
        Kind::NotChecked
    } else {
        Kind::JobVersion
    };
    let text = format!(
        "version {version} of the job, which made it, cannot be read: {}",
        describe(error)
    );
    Finding::new(kind, manifest.epoch.0, "", text)
}
