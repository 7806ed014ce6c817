//! Removes staged objects that can never become visible.
//!
//! Owns: the places of a job, also of its earlier versions. Does not own: which objects these are
//! (the core, by their names).
//! Rule: orphans cost space but do no harm, so what cannot be swept now is left to a later sweep.

use crate::checkpoints::{CheckpointError, Checkpoints};
use crate::sink::{Committer, committer};
use std::collections::BTreeMap;
use std::sync::Arc;
use streamctl_engine::storage::{StorageError, Storages};
use streamctl_proto::ResolvedJob;
use streamctl_proto::spec::Location;
use streamctl_proto::staged_name::Orphans;

/// How many versions of a job have their folders swept of orphans: the last ones.
const VERSIONS_SWEPT_MAX: usize = 16;

/// Removes these orphans of a job.
pub async fn sweep(storages: &Storages, job: &ResolvedJob, orphans: &Orphans) {
    for (folder, committer) in &places(storages, job).await {
        match committer.sweep(folder, orphans).await {
            Ok(0) => {}
            Ok(swept) => {
                tracing::info!(job = %job.spec.name, %folder, swept, "threw orphans away");
            }
            Err(error) => {
                tracing::warn!(job = %job.spec.name, %folder, %error, "orphans cannot be swept now");
            }
        }
    }
}

/// The places that this version of a job and some earlier ones write to. A task of an earlier
/// version may have died and left something.
async fn places(storages: &Storages, job: &ResolvedJob) -> BTreeMap<Location, Arc<dyn Committer>> {
    let checkpoints = Checkpoints::of(storages, job);
    let mut places = BTreeMap::new();
    let mut version = job.clone();
    for _ in 0..VERSIONS_SWEPT_MAX {
        let committer = committer(storages, &version);
        for place in committer.places() {
            places
                .entry(place)
                .or_insert_with(|| Arc::clone(&committer));
        }
        let Some(before) = version.previous.take() else {
            break;
        };
        match checkpoints.read_version(&before).await {
            Ok(before) => version = before,
            // It made no epoch that is kept.
            Err(CheckpointError::Storage(StorageError::NotFound { .. })) => break,
            Err(error) => {
                tracing::warn!(job = %job.spec.name, %error, "folders of earlier versions cannot be swept now");
                break;
            }
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;
    use streamctl_engine::storage::{MemoryStorage, Storage as _};
    use streamctl_proto::report::ObjectKind;
    use streamctl_proto::spec::FilesSink;
    use streamctl_proto::{TaskId, Term};

    const OLD: &str = "memory://old/";
    const NEW: &str = "memory://new/";

    fn sink(folder: &str) -> FilesSink {
        FilesSink {
            path: Location::folder(folder),
            ..contract::sink()
        }
    }

    async fn stage(storage: &MemoryStorage, folder: &str, name: &str) {
        let location = format!("{folder}{name}");
        let mut writer = storage.stage(&location).await.unwrap();
        writer.write("x".into()).await.unwrap();
        writer.finish(ObjectKind::Data, 1).await.unwrap();
    }

    fn task(term: u64, counter: u64) -> TaskId {
        TaskId {
            term: Term(term),
            counter,
        }
    }

    #[tokio::test]
    async fn unfinished_uploads_of_a_deleted_job_go_and_those_of_its_successor_stay() {
        let memory = MemoryStorage::default();
        let storages = Storages::memory(memory.clone());
        let mut job = contract::job("sales");
        job.spec.dead_letter = None;
        job.spec.checkpoint = Location::folder("memory://checkpoint");
        job.spec.sink = sink(OLD).into();
        let before = Checkpoints::of(&storages, &job)
            .write_version(&job)
            .await
            .unwrap();
        job.job_version = before.job_version.next();
        job.previous = Some(before);
        job.spec.sink = sink(NEW).into();
        let closed = "20261124T004500Z";
        let open = "20261124T004600Z";
        for folder in [OLD, NEW] {
            stage(&memory, folder, &format!("{closed}-sales-t3.4-0000.json")).await;
            stage(&memory, folder, &format!("{open}-sales-t3.4-0000.json")).await;
            stage(&memory, folder, &format!("{closed}-sales-t3.5-0000.json")).await;
            stage(&memory, folder, &format!("{closed}-other-t3.4-0000.json")).await;
        }
        let orphans = Orphans {
            job: job.spec.name.clone(),
            windows_before_ms: Some(1_795_481_160_000),
            tasks_before: task(3, 5),
            terms_before: None,
            keep: Default::default(),
            live: Default::default(),
        };
        assert_eq!(memory.staged_locations().len(), 8);
        sweep(&storages, &job, &orphans).await;
        let left = memory.staged_locations();
        assert_eq!(left.len(), 6);
        let swept = format!("{closed}-sales-t3.4");
        assert!(left.iter().all(|name| !name.contains(&swept)), "{left:?}");
    }
}
