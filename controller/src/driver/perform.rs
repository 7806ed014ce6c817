//! Performs effects on the outside systems.
//!
//! Owns: retries with jittered back-off for as long as the term lasts. Does not own: when to give
//! up on a job (`core`).
//! Rule: an effect with an unknown outcome is repeated; all effects are idempotent.

use super::Outcome;
use super::lookups::{self, Found, Known};
use super::publish::{Publication, publish};
use crate::checkpoints::{CheckpointError, Checkpoints};
use crate::load;
use crate::metrics::Metrics;
use crate::published_hook::PublishedHook;
use crate::sessions::Sessions;
use crate::shards::ShardLister;
use crate::sink::{Committed, committer};
use crate::store::{CommitOutcome, Store, StoreError, WriteOutcome};
use crate::sweep::sweep;
use crate::trim::trim;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use streamctl_core::effect::{HeadRepair, TRIM_OBJECTS_MAX, Unpublished};
use streamctl_core::stored::{DesiredState, Repair};
use streamctl_core::{Core, Effect, EffectKind, Event, JobEvent, KnownShard};
use streamctl_engine::calls::Calls;
use streamctl_engine::clock::Clock;
use streamctl_engine::source::{ListError, ListedShard};
use streamctl_engine::storage::{RefusalCause, Storages};
use streamctl_engine::traces::{WindowTrace, now};
use streamctl_proto::convert::lookups_to_wire;
use streamctl_proto::describe;
use streamctl_proto::v1::controller_message::Message;
use streamctl_proto::{
    Epoch, JobName, JobVersion, Manifest, ManifestRef, ResolvedJob, TaskId, Term, Watermark,
    Window, v1,
};
use tokio::sync::mpsc;

/// The first back-off before an effect is retried.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest back-off before an effect is retried.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The outside systems that effects use.
pub struct Performer {
    /// The term that every write carries.
    pub term: Term,
    /// Heads, specs, desired states.
    pub store: Arc<dyn Store>,
    /// Manifests, lookup versions, output objects.
    pub storages: Storages,
    pub lister: Arc<dyn ShardLister>,
    /// The connections to the workers.
    pub sessions: Arc<Sessions>,
    pub clock: Clock,
    /// Counters, and where spans go.
    pub metrics: Metrics,
    /// Calls functions after publishing; `None`: no job has such a function.
    pub hook: Option<PublishedHook>,
}

/// The job of an effect, if the performer needs more of the job than its name.
pub(super) fn job_of(effect: &Effect) -> Option<&JobName> {
    match effect {
        Effect::ListShards { job, .. }
        | Effect::CheckLookup { job, .. }
        | Effect::MoveHead { job, .. }
        | Effect::Publish { job, .. }
        | Effect::RecordPublished { job, .. }
        | Effect::ReadJob { job }
        | Effect::RepairHead { job, .. }
        | Effect::Sweep { job, .. }
        | Effect::RecordRepairs { job, .. }
        | Effect::RecordReplays { job, .. }
        | Effect::RecordAnchors { job, .. }
        | Effect::Trim { job, .. }
        | Effect::RecordVersion { job, .. }
        | Effect::RecordWanted { job, .. } => Some(job),
        Effect::WriteManifest { manifest } => Some(&manifest.job),
        Effect::StartTask { .. }
        | Effect::ReleaseTask { .. }
        | Effect::DrainTask { .. }
        | Effect::CancelTask { .. }
        | Effect::OpenWindow { .. }
        | Effect::AnnounceCommit { .. } => None,
    }
}

enum Attempt {
    Done(Event),
    Again(String),
    StepDown(String),
}

impl Performer {
    /// Sends the message of the effect to a worker; returns false if the effect is of another kind.
    pub(super) fn send(&self, core: &Core, effect: &Effect) -> bool {
        let (worker, message) = match effect {
            Effect::StartTask {
                worker,
                task,
                job,
                shards,
                retention_ms,
                ..
            } => {
                let Some(resolved) = core.resolved(job) else {
                    return true;
                };
                let job_json = serde_json::to_string(resolved).unwrap_or_default();
                let shard = |shard: &streamctl_core::TaskShard| v1::TaskShard {
                    shard: shard.shard.to_string(),
                    from: Some((&shard.from).into()),
                    after: shard.after.iter().map(ToString::to_string).collect(),
                    detail: shard.detail.clone(),
                    floor_ms: shard.floor.to_wire(),
                    read_to_ms: shard.read_to_ms,
                    lost: None,
                };
                let task = Some((*task).into());
                let shards = shards.iter().map(shard).collect();
                let stream = retention_ms.map(|retention_ms| v1::StreamFacts { retention_ms });
                (
                    worker,
                    Message::StartTask(v1::StartTask {
                        task,
                        job_json,
                        shards,
                        stream,
                    }),
                )
            }
            Effect::ReleaseTask { worker, task } => (
                worker,
                Message::ReleaseTask(v1::ReleaseTask {
                    task: Some((*task).into()),
                }),
            ),
            Effect::DrainTask {
                worker,
                task,
                until_ms,
            } => (
                worker,
                Message::DrainTask(v1::DrainTask {
                    task: Some((*task).into()),
                    until_ms: until_ms.map_or(Watermark::Ended, Watermark::At).to_wire(),
                }),
            ),
            Effect::CancelTask { worker, task } => (
                worker,
                Message::CancelTask(v1::CancelTask {
                    task: Some((*task).into()),
                }),
            ),
            Effect::OpenWindow {
                worker,
                task,
                window,
                lookups,
                attempt,
            } => {
                self.note_opening(core, *task, *window);
                let task = Some((*task).into());
                let window = Some((*window).into());
                let lookups = lookups_to_wire(lookups);
                (
                    worker,
                    Message::WindowOpened(v1::WindowOpened {
                        task,
                        window,
                        lookups,
                        attempt: *attempt,
                    }),
                )
            }
            Effect::AnnounceCommit {
                worker,
                job,
                epoch,
                window,
            } => {
                let job = job.to_string();
                let epoch = epoch.0;
                let window = Some((*window).into());
                (
                    worker,
                    Message::EpochCommitted(v1::EpochCommitted { job, epoch, window }),
                )
            }
            _ => return false,
        };
        self.sessions.send(worker, message);
        true
    }

    /// The trace of a window begins when the first task opens it.
    fn note_opening(&self, core: &Core, task: TaskId, window: Window) {
        if self.metrics.traces.is_on()
            && let Some((name, _)) = core
                .jobs
                .iter()
                .find(|(_, job)| job.tasks.contains_key(&task))
        {
            self.metrics.opened(name, window);
        }
    }

    /// Performs an effect until it succeeds or the term is over. `window`: the window of the epoch
    /// that it is a step of.
    pub(super) async fn perform(
        self: Arc<Self>,
        effect: Effect,
        job: ResolvedJob,
        window: Option<Window>,
        outcomes: mpsc::Sender<Outcome>,
    ) {
        let Some(kind) = effect.kind() else { return };
        let name = job.spec.name.clone();
        let of = |result| Outcome {
            job: name.clone(),
            submitted_ms: job.submitted_ms,
            result,
        };
        let mut wait = BACKOFF_MIN;
        let mut is_delayed = false;
        loop {
            let began = Instant::now();
            let begin = now();
            let hangs = |reason| {
                of(Ok(Event::Job {
                    job: name.clone(),
                    event: JobEvent::EffectDelayed { kind, reason },
                }))
            };
            let attempt = self.attempt(&effect, &job);
            let (tried, hung) = naming_what_hangs(attempt, &outcomes, &hangs).await;
            is_delayed |= hung;
            self.metrics.tried(kind, began.elapsed());
            self.note((&effect, kind), &job, window, begin, &tried);
            let outcome = match tried {
                Attempt::Done(event) => Ok(event),
                Attempt::StepDown(reason) => Err(reason),
                Attempt::Again(reason) => {
                    tracing::warn!(job = %name, effect = kind.label(), reason, "effect failed, trying again");
                    is_delayed = true;
                    let delayed = Event::Job {
                        job: name.clone(),
                        event: JobEvent::EffectDelayed { kind, reason },
                    };
                    let _over = outcomes.send(of(Ok(delayed))).await;
                    tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    wait = (wait * 2).min(BACKOFF_MAX);
                    continue;
                }
            };
            if is_delayed && outcome.is_ok() {
                let _over = outcomes
                    .send(of(Ok(Event::Job {
                        job: name.clone(),
                        event: JobEvent::EffectDone { kind },
                    })))
                    .await;
            }
            let _over = outcomes.send(of(outcome)).await;
            return;
        }
    }

    /// Records one attempt: counters, spans, and the log of what is visible now.
    fn note(
        &self,
        (effect, kind): (&Effect, EffectKind),
        job: &ResolvedJob,
        window: Option<Window>,
        begin: SystemTime,
        tried: &Attempt,
    ) {
        let error = match tried {
            Attempt::Again(reason) => {
                self.metrics.failed(kind);
                Some(reason.clone())
            }
            Attempt::StepDown(reason) => Some(reason.clone()),
            Attempt::Done(_) => None,
        };
        let Some(window) = window else { return };
        let trace = WindowTrace::of(&job.spec.name, job.submitted_ms, window);
        self.metrics.span(trace, kind.label(), begin, error);
        match (effect, tried) {
            (Effect::MoveHead { job: name, .. }, Attempt::Done(_)) => {
                self.metrics.committed(name, window, (self.clock)())
            }
            (
                Effect::Publish { epochs, .. },
                Attempt::Done(Event::Job {
                    event: JobEvent::EpochsPublished { through },
                    ..
                }),
            ) => {
                let published = epochs.iter().map(|epoch| &epoch.manifest);
                for manifest in published.take_while(|manifest| manifest.epoch <= *through) {
                    self.note_epoch(job, manifest, begin);
                }
            }
            _ => {}
        }
    }

    fn note_epoch(&self, job: &ResolvedJob, manifest: &Manifest, begin: SystemTime) {
        let trace = WindowTrace::of(&job.spec.name, job.submitted_ms, manifest.window);
        self.metrics.published(manifest, (self.clock)());
        self.metrics.epoch_span(trace, manifest, begin);
        let epoch = manifest.epoch.0;
        let rows_out = manifest.counts.rows_out;
        tracing::info!(job = %job.spec.name, epoch, trace_id = trace.id(), rows_out, "epoch published");
    }

    fn attempt<'a>(&'a self, effect: &'a Effect, job: &'a ResolvedJob) -> BoxFuture<'a, Attempt> {
        Box::pin(self.attempt_once(effect, job))
    }

    async fn attempt_once(&self, effect: &Effect, job: &ResolvedJob) -> Attempt {
        match effect {
            Effect::ListShards { generation, .. } => self.list_shards(job, *generation).await,
            Effect::CheckLookup {
                lookup,
                in_use,
                rows_in_use,
                refused,
                job_version,
                ..
            } => {
                let known = Known {
                    lookup,
                    in_use: in_use.as_ref(),
                    rows_in_use: *rows_in_use,
                    refused: refused.as_ref(),
                };
                Attempt::Done(self.check_lookup(job, known, *job_version).await)
            }
            Effect::ReadJob { job: name } => self.read_job(name).await,
            Effect::RepairHead {
                job: name,
                to,
                repairs,
            } => self.repair_head(name, to, repairs).await,
            Effect::WriteManifest { manifest } => self.write_manifest(job, manifest).await,
            Effect::MoveHead {
                job: name,
                previous,
                head,
            } => {
                match self
                    .store
                    .commit(self.term, name, previous.as_ref(), head)
                    .await
                {
                    Ok(CommitOutcome::Committed) => Attempt::Done(Event::Job {
                        job: name.clone(),
                        event: JobEvent::HeadMoved { epoch: head.epoch },
                    }),
                    Ok(CommitOutcome::Fenced) => Attempt::StepDown("another term leads".into()),
                    Ok(CommitOutcome::Conflict { actual }) => {
                        Attempt::StepDown(format!("head of {name} is {actual:?}, not {previous:?}"))
                    }
                    Err(error) => again(error),
                }
            }
            Effect::Publish { epochs, .. } => self.publish(job, epochs).await,
            Effect::RecordPublished {
                job: name,
                manifests,
            } => {
                for manifest in manifests {
                    self.note_published(job, manifest).await;
                }
                let Some(through) = manifests.last().map(|last| last.epoch) else {
                    return Attempt::Done(Event::Ticked);
                };
                let written = self.store.set_published(self.term, name, through).await;
                recorded(
                    written,
                    Event::Job {
                        job: name.clone(),
                        event: JobEvent::PublishedRecorded { through },
                    },
                )
            }
            Effect::Sweep { orphans, .. } => {
                sweep(&self.storages, job, orphans).await;
                Attempt::Done(Event::Ticked)
            }
            Effect::RecordRepairs { job: name, repairs } => recorded(
                self.store.set_repairs(self.term, name, repairs).await,
                Event::Ticked,
            ),
            Effect::RecordReplays { job: name, replays } => {
                let written = self.store.set_replays(self.term, name, replays).await;
                recorded(
                    written,
                    Event::Job {
                        job: name.clone(),
                        event: JobEvent::ReplaysRecorded {
                            replays: replays.clone(),
                        },
                    },
                )
            }
            Effect::RecordAnchors { job: name, anchors } => recorded(
                self.store.set_anchors(self.term, name, anchors).await,
                Event::Job {
                    job: name.clone(),
                    event: JobEvent::AnchorsRecorded {
                        anchors: anchors.clone(),
                    },
                },
            ),
            Effect::Trim { job: name, anchor } => Attempt::Done(Event::Job {
                job: name.clone(),
                event: self.trim(job, anchor).await,
            }),
            Effect::RecordVersion { job: name, version } => {
                let job = name.clone();
                let job_version = version.job_version;
                match self.store.change_job(self.term, version).await {
                    Err(StoreError::Refused { reason, hint }) => Attempt::Done(Event::Job {
                        job,
                        event: JobEvent::VersionRefused {
                            job_version,
                            reason,
                            hint,
                        },
                    }),
                    written => recorded(
                        written,
                        Event::Job {
                            job,
                            event: JobEvent::VersionRecorded { job_version },
                        },
                    ),
                }
            }
            Effect::RecordWanted { job: name, wanted } => {
                let written = match wanted {
                    DesiredState::Deleted => self.store.delete_job(self.term, name).await,
                    wanted => self.store.set_wanted(self.term, name, wanted).await,
                };
                recorded(
                    written,
                    Event::Job {
                        job: name.clone(),
                        event: JobEvent::WantedRecorded {
                            wanted: wanted.clone(),
                        },
                    },
                )
            }
            Effect::StartTask { .. }
            | Effect::ReleaseTask { .. }
            | Effect::DrainTask { .. }
            | Effect::CancelTask { .. }
            | Effect::OpenWindow { .. }
            | Effect::AnnounceCommit { .. } => Attempt::Done(Event::Ticked),
        }
    }

    /// Reads one job in the way a new leader reads all of them.
    async fn read_job(&self, name: &JobName) -> Attempt {
        let stored = match self.store.load().await {
            Ok(stored) => stored,
            Err(error) => return again(error),
        };
        let Some(stored) = stored
            .into_iter()
            .find(|stored| stored.job.spec.name == *name)
        else {
            return Attempt::StepDown(format!("job {name} is not in the store any more"));
        };
        match load::read(&self.storages, stored).boxed().await {
            Err(error) => Attempt::Again(describe(&error)),
            Ok(read) if read.highest_term >= self.term => {
                let above = read.highest_term;
                match self.store.raise_terms(self.term, above).await {
                    Ok(_) => Attempt::StepDown(format!(
                        "something was committed under term {above}: a higher one must follow"
                    )),
                    Err(error) => again(error),
                }
            }
            Ok(read) => Attempt::Done(read.event),
        }
    }

    /// Moves a head along the epochs that were committed after it. Each step may be repeated.
    async fn repair_head(&self, name: &JobName, to: &HeadRepair, repairs: &[Repair]) -> Attempt {
        match self
            .store
            .commit(self.term, name, to.previous.as_ref(), &to.head)
            .await
        {
            Ok(CommitOutcome::Committed) => {}
            Ok(CommitOutcome::Fenced) => return Attempt::StepDown("another term leads".into()),
            // Decide again from what the store holds now.
            Ok(CommitOutcome::Conflict { .. }) => return self.read_job(name).await,
            Err(error) => return again(error),
        }
        for written in [
            self.store
                .set_published(self.term, name, to.published)
                .await,
            self.store.set_repairs(self.term, name, repairs).await,
        ] {
            match written {
                Ok(WriteOutcome::Written) => {}
                Ok(WriteOutcome::Fenced) => return Attempt::StepDown("another term leads".into()),
                Err(error) => return again(error),
            }
        }
        let from = to
            .previous
            .as_ref()
            .map_or(Epoch(0), |previous| previous.epoch);
        tracing::warn!(job = %name, %from, to = %to.head.epoch, by = to.by, "the head was moved along what was committed");
        self.read_job(name).await
    }

    async fn list_shards(&self, job: &ResolvedJob, generation: u64) -> Attempt {
        let name = job.spec.name.clone();
        match self
            .lister
            .list(&job.spec.source.kind, job.stream.as_ref())
            .await
        {
            Ok(listed) => {
                let known = |s: ListedShard| KnownShard {
                    shard: s.id,
                    parents: s.parents,
                    detail: s.detail,
                };
                let shards = listed.shards.into_iter().map(known).collect();
                let stream = listed.stream.unwrap_or_else(|error| {
                    tracing::warn!(job = %name, %error, "the stream cannot be described: what is known of it stays");
                    None
                });
                Attempt::Done(Event::Job {
                    job: name,
                    event: JobEvent::ShardsListed {
                        generation,
                        shards,
                        stream,
                    },
                })
            }
            // This controller's credentials or permissions were refused. They may be renewed, and
            // the next leader may have others.
            Err(ListError::Refused {
                cause: RefusalCause::Environment,
                reason,
                hint,
            }) => Attempt::Again(format!("{reason}; {hint}")),
            Err(ListError::Refused {
                cause: RefusalCause::Request,
                reason,
                hint,
            }) => Attempt::Done(Event::Job {
                job: name,
                event: JobEvent::ListingRefused {
                    error: reason,
                    hint,
                },
            }),
            Err(error @ ListError::Unavailable { .. }) => Attempt::Again(error.to_string()),
        }
    }

    async fn check_lookup(
        &self,
        job: &ResolvedJob,
        known: Known<'_>,
        job_version: JobVersion,
    ) -> Event {
        let name = known.lookup.to_owned();
        let found = lookups::check(&self.storages, job, known).boxed().await;
        let event = match found {
            Ok(Found::Current(version)) => JobEvent::LookupSeen {
                job_version,
                lookup: name,
                version,
                read: None,
            },
            Ok(Found::Usable {
                version,
                rows,
                duplicates,
            }) => JobEvent::LookupSeen {
                job_version,
                lookup: name,
                version,
                read: Some((rows, duplicates)),
            },
            Ok(Found::Refused { version, problem }) => JobEvent::LookupRefused {
                job_version,
                lookup: name,
                version,
                problem,
            },
            Err(problem) => JobEvent::LookupFailed {
                job_version,
                lookup: name,
                problem,
            },
        };
        Event::Job {
            job: job.spec.name.clone(),
            event,
        }
    }

    async fn write_manifest(&self, job: &ResolvedJob, manifest: &Manifest) -> Attempt {
        match Checkpoints::of(&self.storages, job)
            .write_manifest(manifest)
            .await
        {
            Ok(reference) => Attempt::Done(Event::Job {
                job: job.spec.name.clone(),
                event: JobEvent::ManifestWritten { reference },
            }),
            Err(error @ CheckpointError::TooLarge { .. }) => {
                let hint = format!(
                    "nothing of it is committed. Write fewer objects per window: {}, or make the window shorter; submit \
                     the changed file with --change: the job goes on from its last epoch",
                    job.spec.sink.fewer_objects()
                );
                let job = job.spec.name.clone();
                let epoch = manifest.epoch;
                Attempt::Done(Event::Job {
                    job,
                    event: JobEvent::ManifestRefused {
                        epoch,
                        error: describe(&error),
                        hint,
                    },
                })
            }
            Err(error) => Attempt::Again(describe(&error)),
        }
    }

    /// Old history costs space but does no harm: what cannot be removed now is left to a later turn.
    async fn trim(&self, job: &ResolvedJob, anchor: &ManifestRef) -> JobEvent {
        let name = &job.spec.name;
        let epoch = anchor.epoch;
        let is_more_left = match trim(&self.storages, job, anchor, TRIM_OBJECTS_MAX)
            .boxed()
            .await
        {
            Ok(trimmed) => {
                self.metrics.trimmed(trimmed.removed);
                if trimmed.removed > 0 {
                    tracing::info!(job = %name, %epoch, removed = trimmed.removed, "removed history before the anchor");
                }
                trimmed.is_more_left
            }
            Err(error) => {
                let error = describe(&error);
                tracing::warn!(job = %name, %epoch, error, "old history cannot be removed now");
                true
            }
        };
        JobEvent::Trimmed { is_more_left }
    }

    /// Writes a note beside the manifests that an epoch is published. The note is proof for a store
    /// that was restored from a copy, and for a leader whose readers have moved objects away. If
    /// the note fails, the record in the store, which follows right after, is enough.
    async fn note_published(&self, job: &ResolvedJob, manifest: &ManifestRef) {
        if let Err(error) = Checkpoints::of(&self.storages, job)
            .note_published(manifest)
            .await
        {
            tracing::warn!(job = %job.spec.name, epoch = %manifest.epoch, error = describe(&error), "not noted as published");
        }
    }

    async fn publish(&self, job: &ResolvedJob, epochs: &[Unpublished]) -> Attempt {
        let committer = committer(&self.storages, job);
        let checkpoints = Checkpoints::of(&self.storages, job);
        let committed: Vec<_> = epochs
            .iter()
            .map(|epoch| Committed {
                manifest: &epoch.manifest,
                repairs: &epoch.repairs,
            })
            .collect();
        let event = match publish(&*committer, &checkpoints, &committed).await {
            Publication::Visible { epochs } => {
                match self.call_hook(job, &committed[..epochs]).await {
                    Ok(through) => JobEvent::EpochsPublished { through },
                    Err(reason) => return Attempt::Again(reason),
                }
            }
            Publication::Later(reason) => return Attempt::Again(reason),
            Publication::Refused { epoch, error, hint } => {
                JobEvent::PublishRefused { epoch, error, hint }
            }
            Publication::Lost { stuck, error, hint } => {
                JobEvent::ObjectsLost { stuck, error, hint }
            }
        };
        let job = job.spec.name.clone();
        Attempt::Done(Event::Job { job, event })
    }

    /// Calls the job's function for each of the visible epochs, in order. Returns the last one whose
    /// call succeeded: those before it are not called again if a later one fails.
    async fn call_hook(
        &self,
        job: &ResolvedJob,
        epochs: &[Committed<'_>],
    ) -> Result<Epoch, String> {
        let mut through = None;
        for Committed { manifest, repairs } in epochs {
            if let Some(hook) = &self.hook
                && let Err(reason) = hook.call(job, manifest, repairs).await
            {
                return through.ok_or(reason);
            }
            through = Some(manifest.epoch);
        }
        through.ok_or_else(|| "there is no epoch".to_owned())
    }
}

fn recorded(outcome: Result<WriteOutcome, StoreError>, event: Event) -> Attempt {
    match outcome {
        Ok(WriteOutcome::Written) => Attempt::Done(event),
        Ok(WriteOutcome::Fenced) => Attempt::StepDown("another term leads".into()),
        Err(error) => again(error),
    }
}

/// If the store refuses a write of one job, or holds an unusable value of it, only that job is
/// delayed, and its status reports this. Stepping down would delay all jobs, and the next leader
/// would get the same error.
fn again(error: StoreError) -> Attempt {
    match error {
        StoreError::Unavailable { .. } | StoreError::Corrupt { .. } => {
            Attempt::Again(error.to_string())
        }
        StoreError::Refused { reason, hint } => Attempt::Again(format!("{reason} ({hint})")),
    }
}

/// A call of an effect without an answer for this long is named in the status.
const HANGING_AFTER: Duration = Duration::from_secs(4);

/// Does the work of an effect, and names the services that do not answer, each set of them once.
/// Returns whether it named one.
async fn naming_what_hangs(
    work: BoxFuture<'_, Attempt>,
    outcomes: &mpsc::Sender<Outcome>,
    named: &(dyn Fn(String) -> Outcome + Send + Sync),
) -> (Attempt, bool) {
    let calls = Calls::default();
    let mut work = Box::pin(calls.watch(work));
    let mut last = String::new();
    loop {
        tokio::select! {
            biased;
            done = &mut work => return (done, !last.is_empty()),
            () = tokio::time::sleep(HANGING_AFTER / 4) => {}
        }
        // Without their age, so that a wait is one event however long it takes.
        let hanging: Vec<String> = calls
            .unanswered(HANGING_AFTER)
            .iter()
            .map(|call| format!("{} has not answered {}", call.service, call.operation))
            .collect();
        let text = hanging.join("; ");
        if !text.is_empty() && text != last {
            let _over = outcomes.send(named(text.clone())).await;
            last = text;
        }
    }
}
