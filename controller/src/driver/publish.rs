//! Epochs are to become visible.
//!
//! Owns: what the outcome means: visible, later, or lost for good. Does not own: how a kind of sink
//! publishes (`sink`), when to try again (`perform`), what becomes of the job (the core).
//! Rule: an epoch that is noted as published is visible, whatever is left of it: its readers may have
//! moved it.

use crate::checkpoints::Checkpoints;
use crate::sink::{Committed, Committer, PublishError};
use streamctl_core::event::Stuck;
use streamctl_proto::{Epoch, describe};

/// What became of epochs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Publication {
    /// The first so many are visible, at least one. The others follow in another call.
    Visible { epochs: usize },
    /// Not all of the first one is visible; the reason.
    Later(String),
    /// What readers look at does not take the first one.
    Refused {
        epoch: Epoch,
        error: String,
        hint: String,
    },
    /// Committed rows of the first one are gone.
    Lost {
        stuck: Stuck,
        error: String,
        hint: String,
    },
}

/// Publishes committed epochs together, oldest first. Idempotent. If one of them cannot be
/// published, those before it are, and the first one is judged alone.
pub(super) async fn publish(
    committer: &dyn Committer,
    checkpoints: &Checkpoints,
    epochs: &[Committed<'_>],
) -> Publication {
    let mut together = epochs;
    let error = loop {
        let error = match committer.publish(together).await {
            Ok(()) => {
                return Publication::Visible {
                    epochs: together.len(),
                };
            }
            Err(error) => error,
        };
        match still_together(together, &error) {
            Some(count) => together = &together[..count],
            None => break error,
        }
    };
    match together.first() {
        Some(first) => judge(checkpoints, first, error).await,
        None => Publication::Later(describe(&error)),
    }
}

/// How many of the epochs to try again without the others; `None`: the error is that of the first.
fn still_together(epochs: &[Committed<'_>], error: &PublishError) -> Option<usize> {
    let fails = epochs
        .iter()
        .position(|epoch| epoch.manifest.epoch == error.epoch())
        .unwrap_or(0);
    match error {
        _ if fails > 0 => Some(fails),
        // A commit names the first one, and any of them may be the cause.
        PublishError::Refused { .. } if epochs.len() > 1 => Some(1),
        PublishError::Refused { .. }
        | PublishError::Lost { .. }
        | PublishError::Later { .. }
        | PublishError::Catalog { .. }
        | PublishError::Partitions { .. } => None,
    }
}

/// What it means that the first epoch alone cannot be published.
async fn judge(
    checkpoints: &Checkpoints,
    first: &Committed<'_>,
    error: PublishError,
) -> Publication {
    let epoch = first.manifest.epoch;
    let hint = error.hint();
    let text = describe(&error);
    let lost = match error {
        PublishError::Refused { .. } => {
            return Publication::Refused {
                epoch,
                error: text,
                hint: hint.unwrap_or_default(),
            };
        }
        PublishError::Later { .. }
        | PublishError::Catalog { .. }
        | PublishError::Partitions { .. } => {
            return Publication::Later(
                hint.map_or_else(|| text.clone(), |hint| format!("{text} ({hint})")),
            );
        }
        PublishError::Lost { lost, .. } => lost,
    };
    // An earlier leader may have published all of it, and its readers may have moved it since.
    let (_, reference) = first.manifest.encode();
    match checkpoints.is_noted(&reference).await {
        Ok(true) => Publication::Visible { epochs: 1 },
        Ok(false) => Publication::Lost {
            stuck: Stuck { epoch, lost },
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
    use streamctl_proto::{Counts, Manifest, StagedObject, Term, Window};
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

    /// Takes everything up to an epoch that it has trouble with, and remembers each request.
    struct Until {
        epoch: u64,
        /// The error names this epoch.
        named: Option<u64>,
        requests: Mutex<Vec<Vec<u64>>>,
    }

    #[async_trait]
    impl Publishes for &Until {
        async fn publish(&self, epochs: &[Committed<'_>]) -> Result<(), PublishError> {
            let numbers: Vec<_> = epochs.iter().map(|it| it.manifest.epoch.0).collect();
            self.requests.lock().unwrap().push(numbers.clone());
            if !numbers.contains(&self.epoch) {
                return Ok(());
            }
            let job = epochs[0].manifest.job.clone();
            Err(match self.named {
                Some(named) => PublishError::Lost {
                    job,
                    epoch: Epoch(named),
                    lost: vec!["memory://out/x".to_owned()],
                },
                None => PublishError::Refused {
                    job,
                    epoch: Epoch(numbers[0]),
                    reason: "a partition".to_owned(),
                    hint: "alter it".to_owned(),
                },
            })
        }
    }

    /// What became of the epochs from `first` to 5, and the requests that it took.
    async fn published_until(
        first: u64,
        epoch: u64,
        named: Option<u64>,
    ) -> (Publication, Vec<Vec<u64>>) {
        let kind = Until {
            epoch,
            named,
            requests: Mutex::default(),
        };
        let manifests: Vec<_> = (first..=5).map(manifest).collect();
        let repairs = &[];
        let epochs: Vec<_> = manifests
            .iter()
            .map(|manifest| Committed { manifest, repairs })
            .collect();
        let publication = publish(&Only(&kind), &checkpoints(), &epochs).await;
        (publication, kind.requests.into_inner().unwrap())
    }

    #[tokio::test]
    async fn a_backlog_is_one_request_and_what_precedes_a_lost_epoch_is_published() {
        let (all, requests) = published_until(1, 9, None).await;
        assert_eq!(all, Publication::Visible { epochs: 5 });
        assert_eq!(requests, [[1, 2, 3, 4, 5]]);
        let (some, requests) = published_until(1, 3, Some(3)).await;
        assert_eq!(some, Publication::Visible { epochs: 2 });
        assert_eq!(requests, [vec![1, 2, 3, 4, 5], vec![1, 2]]);
        let (stuck, _) = published_until(3, 3, Some(3)).await;
        assert!(
            matches!(&stuck, Publication::Lost { stuck, .. } if stuck.epoch == Epoch(3)),
            "{stuck:?}"
        );
    }

    #[tokio::test]
    async fn of_a_refused_backlog_the_first_epoch_is_tried_alone() {
        let (one, requests) = published_until(1, 3, None).await;
        assert_eq!(one, ONE);
        assert_eq!(requests, [vec![1, 2, 3, 4, 5], vec![1]]);
        let (refused, requests) = published_until(3, 3, None).await;
        assert!(
            matches!(&refused, Publication::Refused { epoch, .. } if *epoch == Epoch(3)),
            "{refused:?}"
        );
        assert_eq!(requests, [vec![3, 4, 5], vec![3]]);
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
        publish(&Only(kind), cp, &[Committed { manifest, repairs }]).await
    }

    const ONE: Publication = Publication::Visible { epochs: 1 };

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
            assert_eq!(again, ONE);
        }
        assert_eq!(*catalog.requests.lock().unwrap(), [Epoch(1), Epoch(2)]);
    }

    #[tokio::test]
    async fn what_a_worker_moves_is_visible_when_the_worker_reports_it() {
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
        assert_eq!((moved, first), (Epoch(1), ONE));
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
        assert_eq!(noted, ONE);
    }
}
