//! Every decision of the control plane, pure: `step(now, event) -> effects`.
//!
//! Owns: jobs, workers, tasks, windows on their way to epochs. Does not own: time, randomness, I/O; it has none.
//! Rule: nothing an effect asks for has happened until an event says so; what is stale changes nothing (I6); a calm
//! core asks for nothing (I8).

pub mod assign;
pub mod effect;
pub mod event;
pub mod invariants;
pub mod job;
pub mod recover;
pub mod status;
#[cfg(test)]
mod tests;

pub use effect::{Effect, TaskShard};
pub use event::{EndedShard, Event, KnownShard, RunningTask, SessionId, ShardStats, TaskEnd, Wanted};
pub use job::Job;

use job::{Committing, TaskState};
use std::collections::{BTreeMap, BTreeSet};
use streamctl_proto::{JobName, ResolvedJob, ShardId, TaskId, Term, Window, WorkerId};

/// Times that decisions depend on, in milliseconds.
#[derive(Clone, Debug)]
pub struct CoreSettings {
    /// A worker that says nothing for this long is lost.
    pub worker_timeout_ms: i64,
    /// How long a new leader listens for running tasks before it gives out any.
    pub adoption_ms: i64,
    /// Between two listings of a source that can reshard.
    pub listing_interval_ms: i64,
    /// What was staged and is not needed any more is thrown away at this age.
    pub orphan_age: OrphanAge,
    /// Waits after the first, second, third and every later failure of a job's tasks in a row.
    pub retry_waits_ms: [i64; 3],
}

impl Default for CoreSettings {
    fn default() -> Self {
        Self {
            worker_timeout_ms: 3_000,
            adoption_ms: 1_500,
            listing_interval_ms: 10_000,
            orphan_age: OrphanAge::OlderThanMs(6 * 3_600_000),
            retry_waits_ms: [1_000, 2_000, 5_000],
        }
    }
}

/// Between two looks for orphans of a job.
const SWEEP_INTERVAL_MS: i64 = 600_000;

/// When what was staged counts as an orphan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrphanAge {
    /// At this age. More than a window's length: a task may keep an object open that long.
    OlderThanMs(i64),
    /// When it was staged before this term: no task of an earlier one can live (local mode).
    BeforeThisTerm,
}

/// A worker with a session.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its newest connection.
    pub session: SessionId,
    /// Where its Flight service answers.
    pub flight_address: String,
    /// When it last said something.
    pub heard_ms: i64,
    /// Its connection stands.
    pub connected: bool,
    /// It was asked to stop.
    pub leaving: bool,
    /// It was silent for too long and its tasks were given up; it may be back any time, as its line stands.
    pub lost: bool,
    /// Memory that it uses.
    pub memory_bytes: u64,
}

impl Worker {
    /// It may be given tasks.
    pub fn takes_tasks(&self) -> bool {
        self.connected && !self.leaving && !self.lost
    }
}

/// The state of the control plane in one term.
#[derive(Clone, Debug)]
pub struct Core {
    /// This leader's number.
    pub term: Term,
    settings: CoreSettings,
    tasks_given: u64,
    began_ms: i64,
    adopt_at_ms: i64,
    adopting: bool,
    offered: Vec<(WorkerId, RunningTask)>,
    /// What offered tasks said since, in order: it counts once they are adopted.
    held: Vec<(WorkerId, TaskId, Event)>,
    /// By name.
    pub workers: BTreeMap<WorkerId, Worker>,
    /// By name.
    pub jobs: BTreeMap<JobName, Job>,
}

impl Core {
    /// A leader that has just been elected; jobs follow as `JobLoaded`.
    pub fn new(term: Term, now: i64, settings: CoreSettings) -> Self {
        Self {
            term,
            began_ms: now,
            adopt_at_ms: now + settings.adoption_ms,
            settings,
            tasks_given: 0,
            adopting: false,
            offered: vec![],
            held: vec![],
            workers: BTreeMap::new(),
            jobs: BTreeMap::new(),
        }
    }

    /// Applies one event at `now`; returns what must happen next.
    pub fn step(&mut self, now: i64, event: Event) -> Vec<Effect> {
        let mut out = vec![];
        if let Some(event) = self.hold(event) {
            self.apply(now, event, &mut out);
        }
        self.lose_silent_workers(now, &mut out);
        self.adopt_when_due(now, &mut out);
        let names: Vec<JobName> = self.jobs.keys().cloned().collect();
        for name in names {
            self.advance(now, &name, &mut out);
        }
        out
    }

    fn apply(&mut self, now: i64, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::JobLoaded { job, wanted, head, unpublished, published } => {
                let mut loaded = Job::new(*job);
                loaded.wanted = wanted;
                loaded.restore(head.as_deref(), unpublished, published);
                if let Some(manifest) = loaded.publishing.front() {
                    out.push(Effect::Publish { manifest: Box::new(manifest.clone()) });
                }
                self.adopting = true;
                self.jobs.insert(loaded.name().clone(), loaded);
            }
            Event::JobCreated { job } => {
                let job = Job::new(*job);
                self.jobs.entry(job.name().clone()).or_insert(job);
            }
            Event::StopRequested { job, drain } => self.stop(&job, drain, out),
            Event::ResumeRequested { job } => self.resume(now, &job, out),
            Event::ShardsListed { job, generation, shards } => {
                let Some(job) = self.jobs.get_mut(&job) else { return };
                if generation > job.listing.answered {
                    job.learn(&shards, generation);
                    job.listing.answered = generation;
                    job.delays.remove("list shards");
                }
            }
            Event::ListingRefused { job, error, hint } => self.fail(&job, error, hint, out),
            Event::LookupSeen { job, lookup, version, rows } => {
                let Some(lookup) = self.jobs.get_mut(&job).and_then(|job| job.lookups.get_mut(&lookup)) else { return };
                lookup.checking = false;
                lookup.seen_ms = now;
                lookup.problem = None;
                lookup.version = Some(version);
                lookup.rows = rows.unwrap_or(lookup.rows);
            }
            Event::LookupFailed { job, lookup, problem } => {
                let Some(lookup) = self.jobs.get_mut(&job).and_then(|job| job.lookups.get_mut(&lookup)) else { return };
                lookup.checking = false;
                lookup.problem = Some(problem);
            }
            Event::EffectDelayed { job, what, reason } => {
                if let Some(job) = self.jobs.get_mut(&job) {
                    job.delays.insert(what, reason);
                }
            }
            Event::WorkerJoined { worker, session, flight_address, tasks } => {
                self.join(now, worker, session, flight_address, tasks, out);
            }
            Event::WorkerHeard { worker, session, memory_bytes } => {
                if let Some(worker) = self.current(&worker, session) {
                    worker.heard_ms = now;
                    worker.lost = false;
                    worker.memory_bytes = memory_bytes;
                }
            }
            Event::WorkerDisconnected { worker, session } => {
                if let Some(worker) = self.current(&worker, session) {
                    worker.connected = false;
                }
            }
            Event::WorkerLeaving { worker, session } => self.leave(&worker, session, out),
            Event::WindowRequested { worker, task, window } => self.request_window(worker, task, window, out),
            Event::Reported { worker, report } => {
                let refused = match self.job_of(&worker, report.task) {
                    Some(job) => job.accept(&report).is_err(),
                    None => !self.is_committed(&report.job, report.window),
                };
                if refused {
                    self.cancel(&worker, report.task, out);
                }
            }
            Event::Progressed { worker, task, watermark_ms, shards } => {
                let Some(job) = self.job_of(&worker, task) else { return self.cancel(&worker, task, out) };
                job.progress(task, watermark_ms);
                for (id, stats) in shards {
                    if let Some(shard) = job.shards.get_mut(&id).filter(|shard| shard.task == Some(task)) {
                        shard.stats = stats;
                    }
                }
            }
            Event::ShardEnded { worker, task, ended } => {
                let Some(job) = self.job_of(&worker, task) else { return self.cancel(&worker, task, out) };
                if job.tasks[&task].shards.contains(&ended.shard) {
                    job.end_shard(&ended);
                }
            }
            Event::TaskEnded { worker, task, end } => self.end_task(now, &worker, task, end, out),
            Event::ManifestWritten { job, reference } => {
                let Some(job) = self.jobs.get_mut(&job) else { return };
                let (name, previous) = (job.name().clone(), job.head.clone());
                let Some(committing) = job.committing.as_mut() else { return };
                if committing.manifest.epoch == reference.epoch && committing.reference.is_none() {
                    committing.reference = Some(reference.clone());
                    job.delays.remove("write manifest");
                    out.push(Effect::MoveHead { job: name, previous, head: reference });
                }
            }
            Event::HeadMoved { job, epoch } => self.head_moved(&job, epoch, out),
            Event::EpochPublished { job, epoch } => {
                let Some(job) = self.jobs.get_mut(&job) else { return };
                if job.publishing.front().is_some_and(|manifest| manifest.epoch == epoch) {
                    job.delays.remove("publish");
                    out.push(Effect::RecordPublished { job: job.name().clone(), epoch });
                }
            }
            Event::PublishRefused { job, error, hint } => self.fail(&job, error, hint, out),
            Event::PublishedRecorded { job, epoch } => {
                let Some(job) = self.jobs.get_mut(&job) else { return };
                if job.publishing.front().is_some_and(|manifest| manifest.epoch == epoch) {
                    job.publishing.pop_front();
                    job.published = epoch;
                    job.delays.remove("record published");
                    if let Some(manifest) = job.publishing.front() {
                        out.push(Effect::Publish { manifest: Box::new(manifest.clone()) });
                    }
                }
            }
            Event::WantedRecorded { job, wanted } => {
                let Some(job) = self.jobs.get_mut(&job) else { return };
                job.recording = false;
                if job.wanted != wanted {
                    want(job, job.wanted.clone(), out);
                }
            }
            Event::Ticked => {}
        }
    }

    /// The worker, when this is its newest connection.
    fn current(&mut self, worker: &WorkerId, session: SessionId) -> Option<&mut Worker> {
        self.workers.get_mut(worker).filter(|worker| worker.session == session)
    }

    /// The job of a live task of this worker; a stale task has none (I6).
    fn job_of(&mut self, worker: &WorkerId, task: TaskId) -> Option<&mut Job> {
        self.jobs.values_mut().find(|job| job.tasks.get(&task).is_some_and(|task| task.worker == *worker))
    }

    fn is_committed(&self, job: &JobName, window: Window) -> bool {
        self.jobs.get(job).is_some_and(|job| window.end_ms <= job.head_end_ms)
    }

    fn join(
        &mut self,
        now: i64,
        worker: WorkerId,
        session: SessionId,
        flight_address: String,
        tasks: Vec<RunningTask>,
        out: &mut Vec<Effect>,
    ) {
        // A Hello that was overtaken by that of a later line says what was so before.
        if self.workers.get(&worker).is_some_and(|newer| newer.session > session) {
            return;
        }
        let joined = Worker {
            session,
            flight_address,
            heard_ms: now,
            connected: true,
            leaving: false,
            lost: false,
            memory_bytes: 0,
        };
        self.workers.insert(worker.clone(), joined);
        let runs: BTreeSet<TaskId> = tasks.iter().map(|task| task.task).collect();
        self.drop_tasks_of(&worker, |id| !runs.contains(id));
        self.offered.retain(|(other, _)| *other != worker);
        self.held.retain(|(other, ..)| *other != worker);
        for running in tasks {
            let Some(job) = self.jobs.get_mut(&running.job) else {
                out.push(Effect::CancelTask { worker: worker.clone(), task: running.task });
                continue;
            };
            let known = job.tasks.get(&running.task).is_some_and(|task| task.worker == worker);
            if known {
                self.resume_task(&worker, &running, out);
            } else if self.adopting && running.task.term < self.term {
                self.offered.push((worker.clone(), running));
            } else {
                self.cancel(&worker, running.task, out);
            }
        }
    }

    /// A worker dialled again in the same term: what it said while the line was broken is said again.
    fn resume_task(&mut self, worker: &WorkerId, running: &RunningTask, out: &mut Vec<Effect>) {
        let Some(job) = self.job_of(worker, running.task) else { return };
        let good = running.reports.iter().all(|report| job.accept(report).is_ok());
        if !good {
            return self.cancel(worker, running.task, out);
        }
        for ended in &running.ended {
            job.end_shard(ended);
        }
        job.progress(running.task, running.watermark_ms);
        if running.released {
            job.remove_task(running.task);
        }
        // What it was told while the line was broken is lost.
        let (worker, task) = (worker.clone(), running.task);
        match job.tasks.get(&task).map(|task| task.state) {
            Some(TaskState::Releasing) => out.push(Effect::ReleaseTask { worker, task }),
            Some(TaskState::Draining(until_ms)) => out.push(Effect::DrainTask { worker, task, until_ms }),
            Some(TaskState::Running) | None => {}
        }
    }

    /// Keeps what a task says that is offered and not yet adopted; everything else is given back.
    fn hold(&mut self, event: Event) -> Option<Event> {
        let (worker, task) = match &event {
            Event::WindowRequested { worker, task, .. }
            | Event::Progressed { worker, task, .. }
            | Event::ShardEnded { worker, task, .. }
            | Event::TaskEnded { worker, task, .. } => (worker, *task),
            Event::Reported { worker, report } => (worker, report.task),
            _ => return Some(event),
        };
        let offered = self.offered.iter().any(|(owner, running)| owner == worker && running.task == task);
        if !offered {
            return Some(event);
        }
        let said = (worker.clone(), task, event);
        if matches!(said.2, Event::Progressed { .. }) {
            // Only the last one matters, and there is no end of them.
            self.held.retain(|(_, other, event)| *other != task || !matches!(event, Event::Progressed { .. }));
        }
        self.held.push(said);
        None
    }

    /// Takes a task away and tells its worker.
    fn cancel(&mut self, worker: &WorkerId, task: TaskId, out: &mut Vec<Effect>) {
        if let Some(job) = self.job_of(worker, task) {
            job.remove_task(task);
        }
        out.push(Effect::CancelTask { worker: worker.clone(), task });
    }

    fn leave(&mut self, worker: &WorkerId, session: SessionId, out: &mut Vec<Effect>) {
        let Some(leaving) = self.current(worker, session) else { return };
        leaving.leaving = true;
        self.release_all(worker, out);
    }

    /// Asks a worker for all its tasks back.
    fn release_all(&mut self, worker: &WorkerId, out: &mut Vec<Effect>) {
        for job in self.jobs.values_mut() {
            for (id, task) in job.tasks.iter_mut().filter(|(_, task)| task.worker == *worker) {
                if task.state == TaskState::Running {
                    task.state = TaskState::Releasing;
                    out.push(Effect::ReleaseTask { worker: worker.clone(), task: *id });
                }
            }
        }
    }

    fn request_window(&mut self, worker: WorkerId, task: TaskId, window: Window, out: &mut Vec<Effect>) {
        match self.job_of(&worker, task) {
            Some(job) if window.end_ms > job.head_end_ms => {
                job.waiting.insert((window, task));
                if job.tasks[&task].state.is_drained_before(window) {
                    drain(job, window.end_ms, out);
                }
            }
            _ => self.cancel(&worker, task, out),
        }
    }

    fn end_task(&mut self, now: i64, worker: &WorkerId, task: TaskId, end: TaskEnd, out: &mut Vec<Effect>) {
        let waits = self.settings.retry_waits_ms;
        let Some(job) = self.job_of(worker, task) else { return };
        job.remove_task(task);
        let name = job.name().clone();
        match end {
            TaskEnd::Completed | TaskEnd::Released | TaskEnd::Cancelled => {}
            TaskEnd::Retry { error } => {
                job.failures += 1;
                job.retries += 1;
                let wait = waits[(job.failures as usize - 1).min(waits.len() - 1)];
                job.pause_until_ms = now + wait;
                job.delays.insert("task", error.clone());
                if job.failures > job.resolved.spec.retries_max {
                    let hint = "it goes on from its last epoch once this is mended: submit it again".to_owned();
                    self.fail(&name, error, hint, out);
                }
            }
            TaskEnd::Fatal { error, hint } => self.fail(&name, error, hint, out),
        }
    }

    fn fail(&mut self, name: &JobName, error: String, hint: String, out: &mut Vec<Effect>) {
        self.halt(name, Wanted::Failed { error, hint }, out);
    }

    /// Ends all reading of a job at once; what is on its way into the store goes on.
    fn halt(&mut self, name: &JobName, wanted: Wanted, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        let live = matches!(job.wanted, Wanted::Running | Wanted::Draining);
        if !live {
            return;
        }
        for id in job.tasks.keys().copied().collect::<Vec<_>>() {
            if let Some(task) = job.remove_task(id) {
                out.push(Effect::CancelTask { worker: task.worker, task: id });
            }
        }
        job.drop_uncommitted();
        want(job, wanted, out);
    }

    fn stop(&mut self, name: &JobName, finish: bool, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        let asked = job.waiting.iter().map(|(window, _)| window);
        let until_ms = job.windows.keys().chain(asked).map(|window| window.end_ms).max();
        match until_ms {
            _ if finish && job.wanted == Wanted::Draining => {}
            Some(until_ms) if finish && job.runs() => {
                drain(job, until_ms, out);
                want(job, Wanted::Draining, out);
            }
            _ => self.halt(name, Wanted::Stopped, out),
        }
    }

    fn resume(&mut self, now: i64, name: &JobName, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        if matches!(job.wanted, Wanted::Stopped | Wanted::Failed { .. }) {
            job.failures = 0;
            job.delays.clear();
            job.pause_until_ms = now;
            job.listing.needed = job.listing.asked + 1;
            if let Some(manifest) = job.publishing.front() {
                out.push(Effect::Publish { manifest: Box::new(manifest.clone()) });
            }
            want(job, Wanted::Running, out);
        }
    }

    fn head_moved(&mut self, name: &JobName, epoch: streamctl_proto::Epoch, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        if job.committing.as_ref().is_none_or(|committing| committing.manifest.epoch != epoch) {
            return;
        }
        let Some(manifest) = job.committed() else { return };
        job.delays.remove("commit");
        job.delays.remove("task");
        if job.publishing.len() == 1 {
            out.push(Effect::Publish { manifest: Box::new(manifest.clone()) });
        }
        for worker in self.workers.iter().filter(|(_, worker)| worker.connected).map(|(id, _)| id) {
            let (job, window) = (name.clone(), manifest.window);
            out.push(Effect::AnnounceCommit { worker: worker.clone(), job, epoch, window });
        }
    }

    /// A worker whose line stands is told that its tasks are given up, and kept: its next heartbeat brings it back.
    fn lose_silent_workers(&mut self, now: i64, out: &mut Vec<Effect>) {
        let timeout_ms = self.settings.worker_timeout_ms;
        let silent = |worker: &Worker| now - worker.heard_ms >= timeout_ms && !(worker.lost && worker.connected);
        let lost: Vec<WorkerId> = self.workers.iter().filter(|(_, w)| silent(w)).map(|(id, _)| id.clone()).collect();
        for worker in lost {
            let offered = self.offered.iter().filter(|(other, _)| *other == worker).map(|(_, running)| running.task);
            let mut tasks: Vec<TaskId> = offered.collect();
            tasks.extend(self.drop_tasks_of(&worker, |_| true));
            self.offered.retain(|(other, _)| *other != worker);
            self.held.retain(|(other, ..)| *other != worker);
            match self.workers.get_mut(&worker).filter(|worker| worker.connected) {
                Some(silent) => {
                    silent.lost = true;
                    out.extend(tasks.into_iter().map(|task| Effect::CancelTask { worker: worker.clone(), task }));
                }
                None => {
                    self.workers.remove(&worker);
                }
            }
        }
    }

    fn drop_tasks_of(&mut self, worker: &WorkerId, which: impl Fn(&TaskId) -> bool) -> Vec<TaskId> {
        let mut dropped = vec![];
        for job in self.jobs.values_mut() {
            let gone: Vec<TaskId> =
                job.tasks.iter().filter(|(id, t)| t.worker == *worker && which(id)).map(|(id, _)| *id).collect();
            for id in gone {
                job.remove_task(id);
                dropped.push(id);
            }
        }
        dropped
    }

    fn adopt_when_due(&mut self, now: i64, out: &mut Vec<Effect>) {
        if !self.adopting || now < self.adopt_at_ms {
            return;
        }
        self.adopting = false;
        let mut offered = std::mem::take(&mut self.offered);
        for job in self.jobs.values_mut() {
            let (mine, others) = offered.into_iter().partition(|(_, running)| running.job == *job.name());
            offered = others;
            let refused = if job.runs() { recover::adopt(job, mine) } else { mine };
            let cancel = |(worker, running): (WorkerId, RunningTask)| Effect::CancelTask { worker, task: running.task };
            out.extend(refused.into_iter().map(cancel));
            // An earlier leader may have drained them, for a stop that was taken back since.
            for (id, task) in &job.tasks {
                out.push(Effect::DrainTask { worker: task.worker.clone(), task: *id, until_ms: effect::NEVER_MS });
            }
        }
        for (worker, task, event) in std::mem::take(&mut self.held) {
            if self.job_of(&worker, task).is_some() {
                self.apply(now, event, out);
            }
        }
        let leaving = self.workers.iter().filter(|(_, worker)| worker.leaving).map(|(id, _)| id.clone());
        for worker in leaving.collect::<Vec<_>>() {
            self.release_all(&worker, out);
        }
    }

    /// Does for one job whatever can be done now.
    fn advance(&mut self, now: i64, name: &JobName, out: &mut Vec<Effect>) {
        self.list_when_due(now, name, out);
        self.check_lookups_when_due(now, name, out);
        if !self.adopting {
            self.assign(now, name, out);
        }
        self.open_windows(name, out);
        self.commit(now, name, out);
        self.sweep_when_due(now, name, out);
        self.finish(name, out);
    }

    fn sweep_when_due(&mut self, now: i64, name: &JobName, out: &mut Vec<Effect>) {
        let (age, began_ms, adopting) = (self.settings.orphan_age, self.began_ms, self.adopting);
        let Some(job) = self.jobs.get_mut(name) else { return };
        if adopting || now < job.sweep_at_ms || !job.runs() {
            return;
        }
        job.sweep_at_ms = now + SWEEP_INTERVAL_MS;
        let window_ms = job.resolved.spec.window.ms();
        let before_ms = match age {
            OrphanAge::OlderThanMs(age_ms) => now - age_ms.max(window_ms.saturating_mul(4)),
            OrphanAge::BeforeThisTerm => began_ms,
        };
        out.push(Effect::Sweep { job: name.clone(), before_ms, keep: job.staged() });
    }

    fn list_when_due(&mut self, now: i64, name: &JobName, out: &mut Vec<Effect>) {
        let interval_ms = self.settings.listing_interval_ms;
        let Some(job) = self.jobs.get_mut(name) else { return };
        let listing = &job.listing;
        let first = listing.asked == 0;
        let idle = listing.asked == listing.answered;
        let needed = listing.asked < listing.needed;
        let due = first || needed || (idle && job.lists_again() && now >= listing.again_at_ms);
        if job.runs() && due {
            job.listing.asked += 1;
            job.listing.again_at_ms = now + interval_ms;
            out.push(Effect::ListShards { job: name.clone(), generation: job.listing.asked });
        }
    }

    fn check_lookups_when_due(&mut self, now: i64, name: &JobName, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        if !job.runs() {
            return;
        }
        for spec in &job.resolved.spec.lookups {
            let lookup = job.lookups.entry(spec.name.clone()).or_default();
            if !lookup.checking && now >= lookup.check_at_ms {
                lookup.checking = true;
                lookup.check_at_ms = now + i64::try_from(spec.refresh.as_millis()).unwrap_or(i64::MAX / 2);
                let current = lookup.version.clone();
                out.push(Effect::CheckLookup { job: name.clone(), lookup: spec.name.clone(), current });
            }
        }
    }

    /// Workers that may take tasks, with the number of shards they have of other jobs.
    fn load(&self, name: &JobName) -> BTreeMap<WorkerId, usize> {
        let takes = self.workers.iter().filter(|(_, worker)| worker.takes_tasks());
        let mut load: BTreeMap<WorkerId, usize> = takes.map(|(id, _)| (id.clone(), 0)).collect();
        for job in self.jobs.values().filter(|job| job.name() != name) {
            for task in job.tasks.values() {
                if let Some(shards) = load.get_mut(&task.worker) {
                    *shards += task.shards.len();
                }
            }
        }
        load
    }

    fn assign(&mut self, now: i64, name: &JobName, out: &mut Vec<Effect>) {
        let load = self.load(name);
        let term = self.term;
        let Some(job) = self.jobs.get_mut(name) else { return };
        let listed = job.listing.answered > 0 && job.listing.answered >= job.listing.needed;
        if !job.runs() || !listed || now < job.pause_until_ms {
            return;
        }
        job.forget_partial_windows();
        let plan = assign::plan(job, &load);
        for id in plan.release {
            if let Some(task) = job.tasks.get_mut(&id) {
                task.state = TaskState::Releasing;
                out.push(Effect::ReleaseTask { worker: task.worker.clone(), task: id });
            }
        }
        for (worker, shards) in plan.start {
            self.tasks_given += 1;
            let id = TaskId { term, counter: self.tasks_given };
            out.push(start(job, id, worker, shards));
        }
    }

    fn open_windows(&mut self, name: &JobName, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        let live = matches!(job.wanted, Wanted::Running | Wanted::Draining);
        let versions: Option<BTreeMap<_, _>> =
            job.lookups.iter().map(|(name, lookup)| Some((name.clone(), lookup.version.clone()?))).collect();
        let Some(versions) = versions.filter(|_| live) else { return };
        while let Some((window, task)) = job.waiting.first().copied() {
            if !job.may_open(window) {
                return;
            }
            job.waiting.pop_first();
            let Some(owner) = job.tasks.get(&task) else { continue };
            let open = job.windows.entry(window).or_default();
            if open.lookups.is_empty() && open.reports.is_empty() {
                open.lookups.clone_from(&versions);
            }
            open.readers.insert(task);
            let (worker, lookups) = (owner.worker.clone(), open.lookups.clone());
            out.push(Effect::OpenWindow { worker, task, window, lookups });
        }
    }

    fn commit(&mut self, now: i64, name: &JobName, out: &mut Vec<Effect>) {
        let term = self.term;
        let Some(job) = self.jobs.get_mut(name) else { return };
        let live = matches!(job.wanted, Wanted::Running | Wanted::Draining);
        let Some(window) = job.committable().filter(|_| live && !self.adopting) else { return };
        let manifest = job.manifest(window, term, now);
        job.committing = Some(Committing { manifest: manifest.clone(), reference: None });
        out.push(Effect::WriteManifest { manifest: Box::new(manifest) });
    }

    /// Ends a job that has nothing left to do.
    fn finish(&mut self, name: &JobName, out: &mut Vec<Effect>) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        let drained = job.wanted == Wanted::Draining && job.tasks.is_empty() && job.settled() && !self.adopting;
        let wanted = if job.complete() {
            Wanted::Completed
        } else if drained {
            job.drop_uncommitted();
            Wanted::Stopped
        } else {
            return;
        };
        want(job, wanted, out);
    }

    /// The resolved job, for effects that need it.
    pub fn resolved(&self, name: &JobName) -> Option<&ResolvedJob> {
        self.jobs.get(name).map(|job| &job.resolved)
    }
}

/// Wants something else of a job, and has it kept; one such write at a time, so that the last one stays.
fn want(job: &mut Job, wanted: Wanted, out: &mut Vec<Effect>) {
    job.wanted = wanted;
    if !job.recording {
        job.recording = true;
        out.push(Effect::RecordWanted { job: job.name().clone(), wanted: job.wanted.clone() });
    }
}

/// Lets all tasks of a job finish their windows up to a time.
fn drain(job: &mut Job, until_ms: i64, out: &mut Vec<Effect>) {
    for (id, task) in &mut job.tasks {
        task.state = TaskState::Draining(until_ms);
        out.push(Effect::DrainTask { worker: task.worker.clone(), task: *id, until_ms });
    }
}

/// Gives a task out.
fn start(job: &mut Job, id: TaskId, worker: WorkerId, shards: BTreeSet<ShardId>) -> Effect {
    let mut given = vec![];
    for shard_id in &shards {
        let Some(shard) = job.shards.get_mut(shard_id) else { continue };
        shard.stats = ShardStats::default();
        given.push(TaskShard {
            shard: shard_id.clone(),
            from: shard.reached.clone(),
            after: shard.parents.iter().filter(|parent| shards.contains(*parent)).cloned().collect(),
            detail: shard.detail.clone(),
            floor_ms: shard.floor_ms,
        });
    }
    job.add_task(id, worker.clone(), shards);
    Effect::StartTask { worker, task: id, job: job.name().clone(), shards: given }
}
