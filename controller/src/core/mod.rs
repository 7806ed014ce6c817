//! Every decision of the control plane, pure: `step(now, event) -> effects`.
//!
//! Owns: jobs, workers, tasks, windows until they are committed as epochs. Does not own: time,
//! randomness, I/O; it has none.
//! Rule: an effect has happened only when an event reports it; stale events change nothing (I6); a
//! calm core produces no effects (I8).

mod advance;
pub mod assign;
pub mod check;
pub mod deletion;
pub mod effect;
pub mod event;
pub mod invariants;
pub mod job;
mod membership;
mod pending_adoptions;
pub mod recover;
pub mod refusals;
pub mod repair;
mod replays;
mod scale;
mod scope;
pub mod stall;
pub mod status;
pub mod suspects;
mod task_index;
#[cfg(test)]
mod tests;
pub mod unreadable;
pub mod versions;

pub use effect::{Effect, EffectKind, TaskShard};
pub use event::{
    DesiredState, EndedShard, Event, KnownShard, Replays, RunningTask, SessionId, ShardStats,
    TaskEnd, WantedReplay,
};
pub use job::Job;
pub use refusals::RefusedTask;
pub use replays::{ReplayState, is_dead_letters};

use crate::scaling::seen::WorkerSeen;
use crate::scaling::{Scaler, ScalingSettings};
use job::{AvoidTimes, AvoidedFor, Committing, DRAIN_GRACE_MS, Delay, Drain, Refusal, TaskState};
use membership::Joined;
use pending_adoptions::PendingAdoptions;
use scope::{Plans, Scope};
use std::collections::{BTreeMap, BTreeSet};
use streamctl_proto::{JobName, JobVersion, ResolvedJob, ShardId, TaskId, Term, Window, WorkerId};
use suspects::Suspects;
use task_index::TaskIndex;

/// Times that decisions depend on, in milliseconds.
#[derive(Clone, Debug)]
pub struct CoreSettings {
    /// A worker that sends nothing for this long is lost.
    pub worker_timeout_ms: i64,
    /// How long a new leader waits for running tasks before it starts new ones.
    pub adoption_ms: i64,
    /// Time between two listings of a source that can reshard.
    pub listing_interval_ms: i64,
    /// Tasks run in this process, so all tasks of earlier terms are dead (local mode).
    pub earlier_terms_are_dead: bool,
    /// Waits after the first, second, third and every later failure in a row of a job's tasks.
    pub retry_waits_ms: [i64; 3],
    /// How long a worker is avoided the first time, if others are available. A worker is avoided if
    /// it cannot reach what a task needs, or is refused it.
    pub avoid_ms: i64,
    /// The maximum of that time: it doubles with each repetition in a row.
    pub avoid_max_ms: i64,
    /// The minimum trial time of shards that were in deaths of workers. The trial takes twice the
    /// shortest time to a death.
    pub probation_ms: i64,
    pub probation_max_ms: i64,
    /// Settings of the desired number of workers.
    pub scaling: ScalingSettings,
}

impl Default for CoreSettings {
    fn default() -> Self {
        Self {
            worker_timeout_ms: 3_000,
            adoption_ms: 1_500,
            listing_interval_ms: 10_000,
            earlier_terms_are_dead: false,
            retry_waits_ms: [1_000, 2_000, 5_000],
            avoid_ms: 30_000,
            avoid_max_ms: 300_000,
            probation_ms: 10_000,
            probation_max_ms: 60_000,
            scaling: ScalingSettings::default(),
        }
    }
}

impl CoreSettings {
    fn avoid_times(&self) -> AvoidTimes {
        AvoidTimes {
            first_ms: self.avoid_ms,
            max_ms: self.avoid_max_ms,
        }
    }
}

/// A worker with a session.
#[derive(Clone, Debug)]
pub struct Worker {
    pub session: SessionId,
    /// The process; 0: not sent.
    pub process: u64,
    /// The address of its Flight service.
    pub flight_address: String,
    /// When its last message arrived.
    pub heard_ms: i64,
    pub connected: bool,
    /// It is shutting down.
    pub leaving: bool,
    /// It was silent for too long and its tasks were given up. Its connection is open, so it may
    /// return any time.
    pub lost: bool,
    pub memory_bytes: u64,
    /// How busy it reports to be, added up.
    pub busy: WorkerSeen,
    /// How busy it last reported to be, in thousandths; none: never reported.
    pub busy_permille: Option<u32>,
    /// How far its clock is at least ahead of the clock of its sources; negative: behind; none: not
    /// known.
    pub clock_skew_ms: Option<i64>,
}

impl Worker {
    /// It may take tasks.
    pub fn takes_tasks(&self) -> bool {
        self.connected && !self.leaving && !self.lost
    }
}

/// The state of the control plane in one term.
#[derive(Clone, Debug)]
pub struct Core {
    pub term: Term,
    settings: CoreSettings,
    tasks_given: u64,
    now_ms: i64,
    adopt_at_ms: i64,
    adopting: bool,
    pending_adoptions: PendingAdoptions,
    task_index: TaskIndex,
    plans: Plans,
    suspects: Suspects,
    pub workers: BTreeMap<WorkerId, Worker>,
    pub jobs: BTreeMap<JobName, Job>,
    /// Decides the desired number of workers.
    pub scaling: Scaler,
}

impl Core {
    /// A newly elected leader; jobs follow as `JobLoaded`.
    pub fn new(term: Term, now: i64, settings: CoreSettings) -> Self {
        Self {
            term,
            now_ms: now,
            adopt_at_ms: now + settings.adoption_ms,
            scaling: Scaler::new(term, now, settings.scaling.clone()),
            settings,
            tasks_given: 0,
            adopting: false,
            pending_adoptions: PendingAdoptions::default(),
            task_index: TaskIndex::default(),
            plans: Plans::default(),
            suspects: Suspects::default(),
            workers: BTreeMap::new(),
            jobs: BTreeMap::new(),
        }
    }

    /// Applies one event at `now` and returns the effects.
    pub fn step(&mut self, now: i64, event: Event) -> Vec<Effect> {
        let mut out = vec![];
        let concern = self.scope(&event);
        let ticked = matches!(event, Event::Ticked);
        self.now_ms = now;
        if let Some(event) = self.pending_adoptions.hold(event) {
            self.apply(now, event, &mut out);
        }
        if ticked {
            self.lose_silent_workers(now, &mut out);
            self.adopt_when_due(now, &mut out);
            self.hold_trials(now, &mut out);
        }
        let concern = if self.plan_all_when_due(now) {
            Scope::All
        } else {
            concern
        };
        let mut load = None;
        match concern {
            Scope::Nothing => {}
            Scope::Job(name) => self.advance(now, &name, &mut load, &mut out),
            Scope::All => {
                for name in self.jobs.keys().cloned().collect::<Vec<_>>() {
                    self.advance(now, &name, &mut load, &mut out);
                }
            }
        }
        if ticked {
            self.task_index.forget(&self.jobs);
            self.note_standstill(now);
            self.scale(now);
        }
        out
    }

    fn apply(&mut self, now: i64, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::JobLoaded {
                job,
                wanted,
                head,
                unpublished,
                published,
                replays,
                lookups,
                repairs,
            } => {
                let known = self.jobs.get(&job.spec.name);
                if known.is_some_and(|known| {
                    known.unreadable.is_none() || known.wanted == DesiredState::Deleted
                }) {
                    return;
                }
                // A job that was unreadable before has no tasks that wait for their adoption.
                self.adopting |= known.is_none();
                let mut loaded = Job::new(*job);
                loaded.wanted = wanted;
                loaded.restore(head.as_deref(), unpublished, published);
                loaded.begin_with_lookups(lookups);
                loaded.publish_next(out);
                loaded.repairs = repairs;
                loaded.replays.now = replays.clone();
                loaded.replays.stored = replays;
                replays::run_for_replays(&mut loaded, out);
                self.jobs.insert(loaded.name().clone(), loaded);
            }
            Event::JobUnreadable {
                job,
                error,
                hint,
                repairs,
            } => {
                self.note_unreadable(now, *job, (error, hint), repairs, out);
            }
            Event::HeadRepairRequested { job, to } => self.repair_head(&job, to, out),
            Event::JobCreated { job } => {
                let job = Job::new(*job);
                self.jobs.entry(job.name().clone()).or_insert(job);
            }
            Event::StopRequested { job, drain } => self.stop(now, &job, drain, out),
            Event::DeleteRequested { job, force } => self.delete(&job, force, out),
            Event::ResumeRequested { job } => self.resume(now, &job, out),
            Event::ReplayRequested { job, epochs } => self.want_replays(&job, epochs),
            Event::ReplaysRecorded { job, replays } => self.replays_recorded(&job, replays, out),
            Event::ChangeRequested { next } => self.want_change(next),
            Event::VersionRecorded { job, job_version } => {
                self.version_recorded(now, &job, job_version, out)
            }
            Event::VersionRefused {
                job,
                job_version,
                reason,
                hint,
            } => {
                self.version_refused(&job, job_version, format!("{reason}\n  hint: {hint}"));
            }
            Event::ShardsListed {
                job,
                generation,
                shards,
                stream,
            } => {
                let Some(known) = self.jobs.get_mut(&job) else {
                    return;
                };
                if generation <= known.listing.answered {
                    return;
                }
                if let Err((error, hint)) = known.learn_stream(stream, out) {
                    return self.fail(&job, error, hint, out);
                }
                known.learn(&shards, generation);
                known.listing.answered = generation;
            }
            Event::ListingRefused { job, error, hint } => self.fail(&job, error, hint, out),
            Event::LookupSeen {
                job,
                job_version,
                lookup,
                version,
                read,
            } => {
                let Some(lookup) = self.lookup_of(&job, job_version, &lookup) else {
                    return;
                };
                lookup.checking = false;
                lookup.seen_ms = now;
                lookup.problem = None;
                lookup.refused = None;
                lookup.version = Some(version);
                if let Some((rows, duplicates)) = read {
                    (lookup.rows, lookup.duplicates) = (rows, duplicates);
                }
            }
            Event::LookupRefused {
                job,
                job_version,
                lookup,
                version,
                problem,
            } => {
                let Some(lookup) = self.lookup_of(&job, job_version, &lookup) else {
                    return;
                };
                lookup.checking = false;
                lookup.refused = Some(version);
                lookup.problem = problem.or(lookup.problem.take());
            }
            Event::LookupFailed {
                job,
                job_version,
                lookup,
                problem,
            } => {
                let Some(lookup) = self.lookup_of(&job, job_version, &lookup) else {
                    return;
                };
                lookup.checking = false;
                // Its text takes the place of the reason: the version is read again.
                lookup.refused = None;
                lookup.problem = Some(problem);
            }
            Event::EffectDelayed { job, kind, reason } => {
                if let Some(job) = self.jobs.get_mut(&job) {
                    job.delays.insert(Delay::Effect(kind), reason);
                }
            }
            Event::EffectDone { job, kind } => {
                if let Some(job) = self.jobs.get_mut(&job) {
                    job.delays.remove(&Delay::Effect(kind));
                }
            }
            Event::WorkerJoined {
                worker,
                session,
                process,
                flight_address,
                tasks,
            } => {
                let joined = Joined {
                    worker,
                    session,
                    process,
                    flight_address,
                };
                self.join(now, joined, tasks, out);
            }
            Event::WorkerHeard {
                worker: id,
                session,
                memory_bytes,
                busy_permille,
                clock_skew_ms,
            } => {
                let Some(worker) = self.current(&id, session) else {
                    return;
                };
                worker.memory_bytes = memory_bytes;
                worker.clock_skew_ms = clock_skew_ms;
                worker.busy.said(busy_permille);
                worker.busy_permille = busy_permille
                    .map(|permille| permille.min(1_000))
                    .or(worker.busy_permille);
                self.hear(now, &id, session);
            }
            Event::WorkerSpoke { worker, session } => self.hear(now, &worker, session),
            Event::WorkerDisconnected { worker, session } => {
                if let Some(worker) = self.current(&worker, session) {
                    worker.connected = false;
                    self.plan_all_anew();
                }
            }
            Event::WorkerLeaving { worker, session } => self.leave(&worker, session, out),
            Event::WindowRequested {
                worker,
                task,
                window,
            } => self.request_window(now, worker, task, window, out),
            Event::Reported { worker, report } => {
                let refused = match self.job_of(&worker, report.task) {
                    Some(job) => {
                        job.vouch_for(&worker, !report.objects.is_empty());
                        job.accept(&report).is_err()
                    }
                    None => !self.is_committed(&report.job, report.window),
                };
                if refused {
                    self.cancel(&worker, report.task, out);
                }
            }
            Event::Progressed {
                worker,
                task,
                watermark_ms,
                work_us,
                computing_ms,
                shards,
            } => {
                let Some(job) = self.job_of(&worker, task) else {
                    return self.cancel(&worker, task, out);
                };
                job.progress(task, watermark_ms);
                if let Some(task) = job.tasks.get_mut(&task) {
                    task.work_us = work_us;
                    task.computing_ms = computing_ms;
                }
                for (id, stats) in shards {
                    if let Some(shard) = job
                        .shards
                        .get_mut(&id)
                        .filter(|shard| shard.task == Some(task))
                    {
                        shard.note_lost(stats.lost);
                        shard.stats = stats;
                    }
                }
            }
            Event::ShardEnded {
                worker,
                task,
                ended,
            } => {
                let Some(job) = self.job_of(&worker, task) else {
                    return self.cancel(&worker, task, out);
                };
                if job.tasks[&task].shards.contains(&ended.shard) {
                    job.end_shard(&ended);
                }
            }
            Event::TaskEnded { worker, task, end } => self.end_task(now, &worker, task, end, out),
            Event::TaskRefused { worker, refused } => self.refuse_task(now, &worker, &refused, out),
            Event::ManifestWritten { job, reference } => {
                let Some(job) = self.jobs.get_mut(&job) else {
                    return;
                };
                let name = job.name().clone();
                let previous = job.head.clone();
                let Some(committing) = job.committing.as_mut() else {
                    return;
                };
                if committing.manifest.epoch == reference.epoch && committing.reference.is_none() {
                    committing.reference = Some(reference.clone());
                    out.push(Effect::MoveHead {
                        job: name,
                        previous,
                        head: reference,
                    });
                }
            }
            Event::ManifestRefused {
                job: name,
                epoch,
                error,
                hint,
            } => {
                let Some(job) = self.jobs.get_mut(&name) else {
                    return;
                };
                let refused =
                    |c: &mut Committing| c.manifest.epoch == epoch && c.reference.is_none();
                if job.committing.take_if(refused).is_none() {
                    return;
                }
                // Includes what a stop kept because this commit was in flight.
                job.drop_uncommitted();
                self.fail(&name, error, hint, out);
            }
            Event::HeadMoved { job, epoch } => self.head_moved(now, &job, epoch, out),
            Event::EpochPublished { job, epoch } => {
                let Some(job) = self.jobs.get_mut(&job) else {
                    return;
                };
                if job
                    .publishing
                    .front()
                    .is_some_and(|manifest| manifest.epoch == epoch)
                {
                    // The manifest after it names it; the last manifest has none after it.
                    let after = job
                        .publishing
                        .get(1)
                        .and_then(|after| after.previous.clone());
                    let Some(manifest) = after.or_else(|| job.head.clone()) else {
                        return;
                    };
                    out.push(Effect::RecordPublished {
                        job: job.name().clone(),
                        epoch,
                        manifest,
                    });
                }
            }
            Event::ObjectsLost {
                job,
                stuck,
                error,
                hint,
            } => self.objects_lost(&job, stuck, (error, hint), out),
            Event::EpochRepairRequested { job, epoch } => self.begin_repair(&job, epoch),
            Event::EpochRepaired { job, task, repair } => self.epoch_repaired(&job, task, repair),
            Event::PublishedRecorded { job, epoch } => {
                let Some(job) = self.jobs.get_mut(&job) else {
                    return;
                };
                if job
                    .publishing
                    .front()
                    .is_some_and(|manifest| manifest.epoch == epoch)
                {
                    job.published(epoch, now);
                    job.publish_next(out);
                }
            }
            Event::WantedRecorded {
                job,
                wanted: DesiredState::Deleted,
            } => drop(self.jobs.remove(&job)),
            Event::WantedRecorded { job, wanted } => {
                let Some(job) = self.jobs.get_mut(&job) else {
                    return;
                };
                job.recording = false;
                if job.wanted != wanted {
                    want(job, job.wanted.clone(), out);
                }
            }
            Event::Ticked => {}
        }
    }

    /// A lookup of this version of a job. A result for an earlier version may belong to a different
    /// lookup (I9).
    fn lookup_of(
        &mut self,
        job: &JobName,
        version: JobVersion,
        lookup: &str,
    ) -> Option<&mut job::Lookup> {
        let job = self
            .jobs
            .get_mut(job)
            .filter(|job| job.resolved.job_version == version)?;
        job.lookups.get_mut(lookup)
    }

    /// The job of a live task of this worker; a stale task has none (I6).
    fn job_of(&mut self, worker: &WorkerId, task: TaskId) -> Option<&mut Job> {
        let job = self.jobs.get_mut(self.task_index.name_of(task)?)?;
        job.tasks
            .get(&task)
            .is_some_and(|task| task.worker == *worker)
            .then_some(job)
    }

    fn is_committed(&self, job: &JobName, window: Window) -> bool {
        self.jobs
            .get(job)
            .is_some_and(|job| window.end_ms <= job.head_end_ms)
    }

    fn request_window(
        &mut self,
        now: i64,
        worker: WorkerId,
        task: TaskId,
        window: Window,
        out: &mut Vec<Effect>,
    ) {
        match self.job_of(&worker, task) {
            Some(job) if window.end_ms > job.head_end_ms && job.may_ask(task) => {
                job.waiting.insert((window, task));
                if job.tasks[&task].state.is_drained_before(window) {
                    drain(now, job, window.end_ms, out);
                }
            }
            _ => self.cancel(&worker, task, out),
        }
    }

    fn end_task(
        &mut self,
        now: i64,
        worker: &WorkerId,
        task: TaskId,
        end: TaskEnd,
        out: &mut Vec<Effect>,
    ) {
        let waits = self.settings.retry_waits_ms;
        let times = self.settings.avoid_times();
        let takers = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.takes_tasks());
        let takers: BTreeSet<WorkerId> = takers.map(|(id, _)| id.clone()).collect();
        let Some(job) = self.job_of(worker, task) else {
            return;
        };
        job.remove_task(task);
        let name = job.name().clone();
        match end {
            TaskEnd::Completed | TaskEnd::Released | TaskEnd::Cancelled => {}
            TaskEnd::Wait { error } => {
                job.retries += 1;
                job.pause_until_ms = job.pause_until_ms.max(now + waits[0]);
                job.delays.insert(Delay::Task, error.clone());
                job.avoid(worker, now, times, AvoidedFor::NoAnswer { error });
            }
            TaskEnd::Refused { place, error, hint } => {
                job.retries += 1;
                let why = AvoidedFor::Refused {
                    place,
                    error: error.clone(),
                    hint: hint.clone(),
                };
                job.avoid(worker, now, times, why);
                let error = format!("worker {worker}: {error}");
                match job.weigh_refusals(now, place, &takers) {
                    Refusal::Elsewhere => {}
                    Refusal::Round(round) => {
                        job.pause_until_ms = job.pause_until_ms.max(now + wait_after(waits, round));
                        job.delays.insert(Delay::Task, format!("{error}; {hint}"));
                    }
                    Refusal::Final => self.fail(&name, error, hint, out),
                }
            }
            TaskEnd::Retry { error } => {
                job.count_failure(now, waits);
                job.retries += 1;
                job.delays.insert(Delay::Task, error.clone());
                if job.failures > job.resolved.spec.retries_max {
                    let hint = "it goes on from its last epoch once this is mended: submit it again, a changed file with --change".to_owned();
                    self.fail(&name, error, hint, out);
                }
            }
            TaskEnd::Fatal { error, hint } => self.fail(&name, error, hint, out),
        }
    }

    fn fail(&mut self, name: &JobName, error: String, hint: String, out: &mut Vec<Effect>) {
        self.halt(name, DesiredState::Failed { error, hint }, out);
    }

    /// Ends all reading of a job at once. An epoch that is being committed continues.
    fn halt(&mut self, name: &JobName, wanted: DesiredState, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        let live = matches!(job.wanted, DesiredState::Running | DesiredState::Draining);
        if !live {
            return;
        }
        for id in job.tasks.keys().copied().collect::<Vec<_>>() {
            if let Some(task) = job.remove_task(id) {
                out.push(Effect::CancelTask {
                    worker: task.worker,
                    task: id,
                });
            }
        }
        job.drop_uncommitted();
        want(job, wanted, out);
    }

    fn stop(&mut self, now: i64, name: &JobName, finish: bool, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        job.not_drained = None;
        let asked = job.waiting.iter().map(|(window, _)| window);
        let until_ms = job
            .windows
            .keys()
            .chain(asked)
            .map(|window| window.end_ms)
            .max();
        match until_ms {
            _ if finish && job.wanted == DesiredState::Draining => {}
            Some(until_ms) if finish && job.runs() => {
                drain(now, job, until_ms, out);
                want(job, DesiredState::Draining, out);
            }
            _ => self.halt(name, DesiredState::Stopped, out),
        }
    }

    fn resume(&mut self, now: i64, name: &JobName, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        if job.unreadable.is_some() {
            return self.read_soon(now, name);
        }
        if job.wanted == DesiredState::Draining {
            return take_back_drain(job, out);
        }
        if matches!(
            job.wanted,
            DesiredState::Stopped | DesiredState::Failed { .. }
        ) {
            job.forget_failures();
            job.refusal_rounds = 0;
            job.avoided.clear();
            job.deaths.clear();
            job.not_drained = None;
            job.delays.clear();
            job.pause_until_ms = now;
            job.plan_due = true;
            job.listing.needed = job.listing.asked + 1;
            job.publish_next(out);
            want(job, DesiredState::Running, out);
        }
    }

    fn head_moved(
        &mut self,
        now: i64,
        name: &JobName,
        epoch: streamctl_proto::Epoch,
        out: &mut Vec<Effect>,
    ) {
        let is_only_job = self.jobs.values().filter(|job| job.runs()).count() <= 1;
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        if job
            .committing
            .as_ref()
            .is_none_or(|committing| committing.manifest.epoch != epoch)
        {
            return;
        }
        let Some(manifest) = job.committed(now) else {
            return;
        };
        let lives_ms = job.deaths.probation_ms(&self.settings);
        // A commit can arrive after the death of the task that made it; then no task has lived. A
        // job that commits between the deaths of its workers harms other jobs, if there are any.
        let have_lived = job
            .tasks
            .values()
            .all(|task| now.saturating_sub(task.given_ms) >= lives_ms);
        if is_only_job || (have_lived && !job.tasks.is_empty()) {
            job.deaths.forgive();
        }
        job.delays.remove(&Delay::Task);
        if job.publishing.len() == 1 {
            job.publish_next(out);
        }
        job.commit_subscribers
            .retain(|worker| self.workers.contains_key(worker));
        for worker in job
            .commit_subscribers
            .iter()
            .filter(|worker| self.workers[*worker].connected)
        {
            let job = name.clone();
            let window = manifest.window;
            out.push(Effect::AnnounceCommit {
                worker: worker.clone(),
                job,
                epoch,
                window,
            });
        }
        self.repair_committed(now, name, &manifest, out);
    }

    /// The resolved job, for effects that need it.
    pub fn resolved(&self, name: &JobName) -> Option<&ResolvedJob> {
        self.jobs.get(name).map(|job| &job.resolved)
    }
}

/// The wait after the n-th failure in a row.
fn wait_after(waits_ms: [i64; 3], failures: u32) -> i64 {
    let index = failures.max(1) as usize - 1;
    waits_ms[index.min(waits_ms.len() - 1)]
}

/// Changes the desired state of a job and has it stored. Only one such write is in flight at a
/// time, so that the last one wins.
fn want(job: &mut Job, wanted: DesiredState, out: &mut Vec<Effect>) {
    if wanted != DesiredState::Draining {
        job.drain = None;
    }
    job.wanted = wanted;
    if !job.recording {
        job.recording = true;
        out.push(Effect::RecordWanted {
            job: job.name().clone(),
            wanted: job.wanted.clone(),
        });
    }
}

/// The job continues. Drained tasks have dropped what they must not finish: they release their
/// shards at their positions, and other tasks continue from there.
fn take_back_drain(job: &mut Job, out: &mut Vec<Effect>) {
    for (id, task) in job
        .tasks
        .iter_mut()
        .filter(|(_, task)| matches!(task.state, TaskState::Draining(_)))
    {
        task.state = TaskState::Releasing;
        out.push(Effect::ReleaseTask {
            worker: task.worker.clone(),
            task: *id,
        });
    }
    job.listing.needed = job.listing.asked + 1;
    want(job, DesiredState::Running, out);
}

/// Lets all tasks of a job finish their windows up to a time.
fn drain(now: i64, job: &mut Job, until_ms: i64, out: &mut Vec<Effect>) {
    job.plan_due = true;
    job.drain = Some(Drain {
        until_ms,
        give_up_ms: until_ms.max(now).saturating_add(DRAIN_GRACE_MS),
    });
    for (id, task) in &mut job.tasks {
        task.state = TaskState::Draining(until_ms);
        out.push(Effect::DrainTask {
            worker: task.worker.clone(),
            task: *id,
            until_ms: Some(until_ms),
        });
    }
}
