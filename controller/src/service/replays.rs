//! Replay requests: from a range of epochs to the dead letters to replay.
//!
//! Owns: which epochs have dead letters, and that their objects exist. Does not own: that a replay
//! happens once (`core::replays`).
//! Rule: a successful answer is durable; little is kept of each manifest, however many epochs there
//! are.

use super::jobs::{JobsService, name};
use super::{RECORD_TIMEOUT, not_found};
use crate::history::{History, Kept};
use std::collections::BTreeSet;
use streamctl_core::stored::{Replays, WantedReplay};
use streamctl_core::{Core, Event, JobEvent};
use streamctl_engine::storage::StorageError;
use streamctl_proto::json::state;
use streamctl_proto::refusal::{CallRefusal, Reason};
use streamctl_proto::{DeadLetterShard, Epoch, JobName, Manifest, ManifestRef, ResolvedJob, v1};
use tonic::Status;

/// Epochs that are examined at a time.
const PAGE_EPOCHS: u64 = 100;

/// The core's state of a job to replay.
struct Known {
    job: ResolvedJob,
    kept: Option<Kept>,
    published: Epoch,
    replays: Replays,
    may: bool,
    state: String,
}

fn known(core: &Core, name: &JobName) -> Option<Known> {
    let job = core.job(name)?;
    let (now, _) = job.replays();
    Some(Known {
        job: job.resolved().clone(),
        kept: Kept::of(job),
        published: job.published(),
        replays: now.clone(),
        may: job.may_replay(),
        state: state(&core.status(name, true)?).to_owned(),
    })
}

/// Dead letters in a range of epochs.
#[derive(Default)]
struct Found {
    wanted: Vec<WantedReplay>,
    records: u64,
    already: u64,
    /// The first epoch that did not fit any more.
    next_epoch: u64,
}

impl JobsService {
    /// Requests a replay of the dead letters of these epochs; answers when the store holds the
    /// request.
    pub(super) async fn replay(
        &self,
        request: v1::ReplayDeadLettersRequest,
    ) -> Result<v1::ReplayDeadLettersResponse, Status> {
        let job = name(&request.job)?;
        let handle = self.leader.handle()?;
        let requested = job.clone();
        let found = handle.query(move |core| {
            let known = known(core, &requested);
            known.ok_or_else(|| not_found(&requested, core.job_names()))
        });
        let known = found.await??;
        refuse_what_does_not_run(&known, &job)?;
        let last = if request.to == 0 {
            known.published.0
        } else {
            request.to.min(known.published.0)
        };
        let found = find(&self.history, &known, request.from.max(1), last).await?;
        self.record(&job, &found).await?;
        let epochs = found.wanted.len() as u64;
        let records = found.records;
        Ok(v1::ReplayDeadLettersResponse {
            epochs,
            records,
            already: found.already,
            next_epoch: found.next_epoch,
        })
    }

    /// Waits until the store holds the request, or the job may not replay any more.
    async fn record(&self, job: &JobName, found: &Found) -> Result<(), Status> {
        if found.wanted.is_empty() {
            return Ok(());
        }
        let handle = self.leader.handle()?;
        let epochs: BTreeSet<Epoch> = found
            .wanted
            .iter()
            .map(|wanted| wanted.letters.epoch())
            .collect();
        handle
            .send(Event::Job {
                job: job.clone(),
                event: JobEvent::ReplayRequested {
                    epochs: found.wanted.clone(),
                },
            })
            .await?;
        let requested = job.clone();
        let stored = move |core: &Core| {
            let all = |replays: &Replays| epochs.iter().all(|epoch| replays.has(*epoch));
            let replays = core.job(&requested).map(|job| job.replays());
            match replays.filter(|(now, _)| all(now)) {
                Some((_, stored)) if all(stored) => Some(Ok(())),
                Some(_) => None,
                None => {
                    let text = format!("job {requested} changed meanwhile; try again");
                    Some(Err(Status::from(CallRefusal::new(Reason::JobBusy, text))))
                }
            }
        };
        let late = || {
            let text = format!(
                "the store did not take the request within {} s",
                RECORD_TIMEOUT.as_secs()
            );
            let hint = "try again when the store answers: nothing is replayed twice";
            Status::from(CallRefusal::new(Reason::StoreUnavailable, text).hint(hint))
        };
        let waited = handle.until(RECORD_TIMEOUT, stored).await;
        waited.map_err(|error| error.or_late(late))?
    }
}

/// The dead letters of an epoch.
struct Letters {
    epoch: Epoch,
    records: u64,
    shard: DeadLetterShard,
    /// Their locations, with sizes.
    objects: Vec<(String, u64)>,
}

impl Letters {
    /// The dead letters of a manifest; none if it has no dead letters.
    fn of(reference: &ManifestRef, manifest: Manifest) -> Option<Self> {
        let objects = manifest
            .dead_letter_objects()
            .map(|object| (object.location.clone(), object.size))
            .collect();
        let epoch = manifest.epoch;
        let records = manifest.counts.rows_dead;
        (records > 0).then(|| Self {
            epoch,
            records,
            shard: DeadLetterShard::of(reference),
            objects,
        })
    }
}

/// Epochs with dead letters that were not replayed yet, up to the available room.
async fn find(history: &History, known: &Known, first: u64, last: u64) -> Result<Found, Status> {
    let mut found = Found::default();
    let Some(kept) = &known.kept else {
        return Ok(found);
    };
    let mut from = first.max(kept.first.0);
    let mut since = from;
    while from <= last {
        let to = last.min(from.saturating_add(PAGE_EPOCHS - 1));
        let read = history.walk(&known.job, kept, from..=to, Letters::of).await;
        let epochs = read.map_err(|error| {
            Status::from(CallRefusal::new(
                Reason::CheckpointUnavailable,
                streamctl_proto::describe(&error),
            ))
        })?;
        for letters in epochs.into_iter().flatten() {
            if known.replays.has(letters.epoch) {
                found.already += 1;
            } else if found.wanted.len() >= known.replays.room() {
                found.next_epoch = letters.epoch.0;
                return Ok(found);
            } else {
                check_letters(history, &letters).await?;
                found.wanted.push(WantedReplay {
                    since: Epoch(since),
                    letters: letters.shard,
                });
                found.records += letters.records;
            }
            since = letters.epoch.0 + 1;
        }
        from = to + 1;
    }
    Ok(found)
}

/// Checks that the dead letters exist. A job must not stop because a user removed dead letters, so
/// the request is refused now, while the caller waits.
async fn check_letters(history: &History, letters: &Letters) -> Result<(), Status> {
    for (location, size) in &letters.objects {
        let storage = history.storages().for_location(location);
        match storage.head(location).await {
            Ok(info) if info.size == *size => {}
            Ok(_) | Err(StorageError::NotFound { .. }) => {
                return Err(Status::from(
                    CallRefusal::new(
                        Reason::JobState,
                        format!(
                            "the dead letters of epoch {} cannot be replayed: {location} was \
                 removed or changed",
                            letters.epoch
                        ),
                    )
                    .hint("put it back, or leave this epoch out with --from and --to"),
                ));
            }
            Err(error) => {
                return Err(Status::from(CallRefusal::new(
                    Reason::CheckpointUnavailable,
                    streamctl_proto::describe(&error),
                )));
            }
        }
    }
    Ok(())
}

fn refuse_what_does_not_run(known: &Known, job: &JobName) -> Result<(), Status> {
    // Before the first epoch there is nothing to replay, which is no error.
    if known.may || known.kept.is_none() {
        return Ok(());
    }
    let state = &known.state;
    Err(Status::from(
        CallRefusal::new(
            Reason::JobState,
            format!("job {job} is {state}: it must run to replay dead letters"),
        )
        .hint("submit its job file again, then try again"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoints::Checkpoints;
    use crate::store::contract;
    use streamctl_engine::storage::{MemoryStorage, Storages};
    use streamctl_proto::manifest::ManifestObject;
    use streamctl_proto::report::{ObjectKind, StagedObject, Staging};
    use streamctl_proto::spec::Location;
    use streamctl_proto::{TaskId, Term, WindowSize};

    const LETTERS: &str = "memory://dead/letters.json.gz";

    /// Five epochs; the second and the fourth have three dead letters each, those of the fourth in
    /// an object.
    async fn five(storages: &Storages) -> Known {
        let mut job = contract::job("sales");
        job.spec.checkpoint = Location::folder("memory://checkpoint");
        let checkpoints = Checkpoints::of(storages, &job);
        let mut head = None;
        let task = TaskId {
            term: Term(1),
            counter: 1,
        };
        for epoch in 1..=5 {
            let window = WindowSize::from_ms(1_000)
                .unwrap()
                .window_of(i64::try_from(epoch).unwrap() * 1_000);
            let mut manifest = streamctl_core::Job::new(job.clone()).manifest(window, Term(1), 0);
            (manifest.epoch, manifest.previous) = (Epoch(epoch), head.take());
            manifest.counts.rows_dead = if epoch % 2 == 0 { 3 } else { 0 };
            if epoch == 4 {
                let kind = ObjectKind::DeadLetter;
                let location = LETTERS.to_owned();
                let staging = Staging::File {
                    staged_path: String::new(),
                };
                let staged = StagedObject {
                    kind,
                    location,
                    size: 5,
                    crc32c: 0,
                    rows: 3,
                    table_file: None,
                    staging,
                };
                manifest.objects.push(ManifestObject { task, staged });
            }
            head = Some(checkpoints.write_manifest(&manifest).await.unwrap());
        }
        let replays = Replays::default();
        let state = "running".to_owned();
        Known {
            job,
            kept: head.map(|head| Kept {
                first: Epoch(1),
                head,
            }),
            published: Epoch(5),
            replays,
            may: true,
            state,
        }
    }

    #[tokio::test]
    async fn epochs_with_dead_letters_are_found_once_with_the_clean_ones_before_them() {
        let memory = MemoryStorage::default();
        let storages = Storages::memory(memory.clone());
        let history = History::new(storages.clone());
        let mut known = five(&storages).await;
        memory.put(LETTERS, "12345");
        let found = find(&history, &known, 1, 5).await.unwrap();
        let epochs = |found: &Found| {
            found
                .wanted
                .iter()
                .map(|w| (w.since.0, w.letters.epoch().0))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (epochs(&found), found.records, found.already),
            (vec![(1, 2), (3, 4)], 6, 0)
        );
        known.replays.want(found.wanted[..1].to_vec());
        let rest = find(&history, &known, 1, 5).await.unwrap();
        assert_eq!(
            (epochs(&rest), rest.records, rest.already),
            (vec![(3, 4)], 3, 1)
        );
        assert!(
            find(&history, &known, 5, 5)
                .await
                .unwrap()
                .wanted
                .is_empty()
        );
    }

    #[tokio::test]
    async fn what_was_removed_is_refused_by_name_before_the_job_could_stumble_over_it() {
        let memory = MemoryStorage::default();
        let storages = Storages::memory(memory.clone());
        let history = History::new(storages.clone());
        let known = five(&storages).await;
        for content in [None, Some("another size")] {
            content
                .into_iter()
                .for_each(|content| memory.put(LETTERS, content));
            let refused = find(&history, &known, 3, 5).await.map(|_| ()).unwrap_err();
            assert!(
                refused.message().contains(LETTERS) && refused.message().contains("epoch 4"),
                "{refused}"
            );
        }
    }

    #[tokio::test]
    async fn only_a_job_that_runs_or_has_completed_is_asked() {
        let known = five(&Storages::memory(MemoryStorage::default())).await;
        let stopped = Known {
            may: false,
            state: "stopped".into(),
            ..known
        };
        let refused = refuse_what_does_not_run(&stopped, &stopped.job.spec.name).unwrap_err();
        assert!(
            refused.message().contains("sales is stopped")
                && refused.message().contains("hint: submit")
        );
    }
}
