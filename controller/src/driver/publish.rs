//! One epoch is to become visible.
//!
//! Owns: what the outcome means: visible, later, or lost for good. Does not own: how a kind of sink
//! publishes (`sink`), when to try again (`perform`), what becomes of the job (the core).
//! Rule: an epoch that is noted as published is visible, whatever is left of it: its readers may have
//! moved it.

use crate::checkpoints::Checkpoints;
use crate::sink::{Committed, Committer, PublishError};
use streamctl_core::event::Stuck;
use streamctl_proto::describe;

/// What became of an epoch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Publication {
    Visible,
    /// Not all of it is visible; the reason.
    Later(String),
    /// Committed rows are gone.
    Lost {
        stuck: Stuck,
        error: String,
        hint: String,
    },
}

/// Publishes an epoch once. Idempotent.
pub(super) async fn publish(
    committer: &dyn Committer,
    checkpoints: &Checkpoints,
    epoch: Committed<'_>,
) -> Publication {
    let error = match committer.publish(&[epoch]).await {
        Ok(()) => return Publication::Visible,
        Err(error) => error,
    };
    let hint = error.hint();
    let text = describe(&error);
    let lost = match error {
        PublishError::Later { .. } => {
            return Publication::Later(
                hint.map_or_else(|| text.clone(), |hint| format!("{text} ({hint})")),
            );
        }
        PublishError::Lost { lost, .. } => lost,
    };
    // An earlier leader may have published all of it, and its readers may have moved it since.
    let (_, reference) = epoch.manifest.encode();
    match checkpoints.is_noted(&reference).await {
        Ok(true) => Publication::Visible,
        Ok(false) => Publication::Lost {
            stuck: Stuck {
                epoch: epoch.manifest.epoch,
                lost,
            },
            error: text,
            hint: hint.unwrap_or_default(),
        },
        Err(error) => Publication::Later(describe(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Visit;
    use async_trait::async_trait;
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use streamctl_engine::storage::{Inspected, Look, MemoryStorage, StorageError, Storages};
    use streamctl_proto::report::StageTimes;
    use streamctl_proto::spec::Location;
    use streamctl_proto::staged_name::Orphans;
    use streamctl_proto::{Counts, Epoch, Manifest, StagedObject, Term, Window};
    use tokio::sync::{mpsc, oneshot};

    /// What publishing does; the rest is not about it.
    #[async_trait]
    trait Publishes: Send + Sync {
        async fn publish(&self, epochs: &[Committed<'_>]) -> Result<(), PublishError>;
    }

    struct Only<P>(P);

    #[async_trait]
    impl<P: Publishes> Committer for Only<P> {
        async fn publish(&self, epochs: &[Committed<'_>]) -> Result<(), PublishError> {
            self.0.publish(epochs).await
        }
        async fn is_visible(&self, _: &Manifest) -> Result<bool, StorageError> {
            unreachable!()
        }
        fn places(&self) -> Vec<Location> {
            unreachable!()
        }
        async fn sweep(&self, _: &Location, _: &Orphans) -> Result<usize, StorageError> {
            unreachable!()
        }
        async fn inspect(&self, _: &StagedObject, _: Look) -> Result<Inspected, StorageError> {
            unreachable!()
        }
        async fn visit(&self, _: &Location, _: Visit<'_>) -> Result<(), StorageError> {
            unreachable!()
        }
    }

    /// A catalog whose table remembers the last epoch of each job: one request carries an epoch's
    /// objects, and an epoch that it has is not sent again.
    #[derive(Default)]
    struct Catalog {
        table: Mutex<BTreeMap<String, Epoch>>,
        requests: Mutex<Vec<Epoch>>,
        /// The answer to the next request is lost, after it took effect.
        loses_answer: Mutex<bool>,
    }

    #[async_trait]
    impl Publishes for &Catalog {
        async fn publish(&self, epochs: &[Committed<'_>]) -> Result<(), PublishError> {
            let mut table = self.table.lock().unwrap();
            let has = |job: &str, epoch| table.get(job).is_some_and(|last| *last >= epoch);
            let missing =
                |one: &&Committed<'_>| !has(one.manifest.job.as_str(), one.manifest.epoch);
            let Some(last) = epochs.iter().rfind(missing) else {
                return Ok(());
            };
            let Manifest { job, epoch, .. } = last.manifest;
            self.requests.lock().unwrap().push(*epoch);
            table.insert(job.to_string(), *epoch);
            if std::mem::take(&mut *self.loses_answer.lock().unwrap()) {
                return Err(later(last.manifest, "no answer"));
            }
            Ok(())
        }
    }

    /// A worker's task moves the bytes; the controller waits for its answer.
    struct ByWorker(mpsc::Sender<(Epoch, oneshot::Sender<bool>)>);

    #[async_trait]
    impl Publishes for ByWorker {
        async fn publish(&self, epochs: &[Committed<'_>]) -> Result<(), PublishError> {
            for Committed { manifest, .. } in epochs {
                let (done, answer) = oneshot::channel();
                let sent = self.0.send((manifest.epoch, done)).await.is_ok();
                if !(sent && answer.await == Ok(true)) {
                    return Err(later(manifest, "the worker is gone"));
                }
            }
            Ok(())
        }
    }

    /// All of it is gone.
    struct Gone;

    #[async_trait]
    impl Publishes for Gone {
        async fn publish(&self, epochs: &[Committed<'_>]) -> Result<(), PublishError> {
            let Manifest { job, epoch, .. } = epochs[0].manifest;
            Err(PublishError::Lost {
                job: job.clone(),
                epoch: *epoch,
                lost: vec!["memory://out/x".to_owned()],
            })
        }
    }

    fn later(manifest: &Manifest, reason: &str) -> PublishError {
        PublishError::Later {
            job: manifest.job.clone(),
            epoch: manifest.epoch,
            source: StorageError::Unavailable {
                location: "it".to_owned(),
                reason: reason.to_owned(),
            },
        }
    }

    fn manifest(epoch: u64) -> Manifest {
        Manifest {
            version: 1,
            job: "sales".parse().unwrap(),
            epoch: Epoch(epoch),
            window: Window {
                start_ms: 0,
                end_ms: 60_000,
            },
            term: Term(1),
            created_ms: 0,
            previous: None,
            made_by: None,
            stream: None,
            query_digest: "q".into(),
            function_code: None,
            lookups: BTreeMap::new(),
            parts: vec![],
            frontier: BTreeMap::new(),
            objects: vec![],
            counts: Counts::default(),
            totals: Counts::default(),
            unmatched: vec![],
            null_values: vec![],
            unknown_keys: vec![],
            stages: StageTimes::default(),
            repair: None,
        }
    }

    async fn published(kind: impl Publishes, manifest: &Manifest, cp: &Checkpoints) -> Publication {
        let repairs = &[];
        publish(&Only(kind), cp, Committed { manifest, repairs }).await
    }

    fn checkpoints() -> Checkpoints {
        let storages = Storages::memory(MemoryStorage::default());
        let folder = Location::folder("memory://c/");
        let storage = storages.for_location(folder.as_str());
        Checkpoints::new(storage, folder, "sales".parse().unwrap())
    }

    #[tokio::test]
    async fn a_table_commit_whose_answer_is_lost_is_one_request() {
        let catalog = Catalog::default();
        let checkpoints = checkpoints();
        *catalog.loses_answer.lock().unwrap() = true;
        let first = published(&catalog, &manifest(1), &checkpoints).await;
        assert!(
            matches!(&first, Publication::Later(why) if why.contains("no answer")),
            "{first:?}"
        );
        for epoch in [1, 2] {
            let again = published(&catalog, &manifest(epoch), &checkpoints).await;
            assert_eq!(again, Publication::Visible);
        }
        assert_eq!(*catalog.requests.lock().unwrap(), [Epoch(1), Epoch(2)]);
    }

    #[tokio::test]
    async fn what_a_worker_moves_is_visible_when_the_worker_says_so() {
        let (sender, mut worker) = mpsc::channel(1);
        let moving = async {
            let (epoch, done): (_, oneshot::Sender<bool>) = worker.recv().await.unwrap();
            done.send(true).unwrap();
            // It dies while it moves the next one.
            drop(worker.recv().await.unwrap());
            epoch
        };
        let checkpoints = checkpoints();
        let first = manifest(1);
        let second = manifest(2);
        let both = async {
            let first = published(ByWorker(sender.clone()), &first, &checkpoints).await;
            let second = published(ByWorker(sender), &second, &checkpoints).await;
            (first, second)
        };
        let (moved, (first, second)) = tokio::join!(moving, both);
        assert_eq!((moved, first), (Epoch(1), Publication::Visible));
        assert!(matches!(second, Publication::Later(_)), "{second:?}");
    }

    #[tokio::test]
    async fn what_is_gone_is_lost_unless_it_was_noted_as_published() {
        let checkpoints = checkpoints();
        let manifest = manifest(1);
        let lost = published(Gone, &manifest, &checkpoints).await;
        let Publication::Lost { stuck, hint, .. } = lost else {
            panic!("{lost:?}")
        };
        assert_eq!(stuck.lost, ["memory://out/x"]);
        assert!(hint.contains("streamctl repair sales"), "{hint}");
        let (_, reference) = manifest.encode();
        checkpoints.note_published(&reference).await.unwrap();
        let noted = published(Gone, &manifest, &checkpoints).await;
        assert_eq!(noted, Publication::Visible);
    }
}
