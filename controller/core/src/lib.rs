//! Every decision of the control plane, pure: `step(now, event) -> effects`.
//!
//! Owns: jobs, workers, tasks, windows until they are committed as epochs. Does not own: time,
//! randomness, I/O; it has none.
//! Rule: an effect has happened only when an event reports it; stale events change nothing (I6); a
//! calm core produces no effects (I8).

mod advance;
mod apply;
pub mod assign;
pub mod check;
pub mod deletion;
pub mod effect;
pub mod event;
pub mod hanging;
mod histories;
pub mod invariants;
pub mod job;
pub mod journal;
mod lifecycle;
mod membership;
mod pending_adoptions;
mod profiles;
pub mod recover;
pub mod refusals;
pub mod repair;
mod replays;
mod retention;
mod scale;
pub mod scaling;
mod scope;
mod spread;
pub mod status;
mod step;
pub mod stored;
pub mod suspects;
mod task_index;
#[cfg(any(test, feature = "test-util"))]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod unreadable;
pub mod versions;
pub mod view;
mod why;

pub use effect::{Effect, EffectKind, TaskShard};
pub use event::{
    Computing, EndedShard, Event, JobEvent, KnownShard, LoadedJob, RefusedTask, RunningTask,
    SessionId, ShardStats, TaskEnd, TaskEvent, WorkerEvent, WorkerFacts,
};
pub use histories::{HISTORY_SPAN_MS_MAX, WORKER_TASKS_MAX};
pub use job::Job;
pub use job::{ReplayState, is_dead_letters};

use crate::scaling::seen::WorkerSeen;
use crate::scaling::{Scaler, ScalingSettings};
use advance::Load;
use job::{AvoidTimes, TaskState};
use journal::{Journal, Note};
use pending_adoptions::PendingAdoptions;
use scope::{Plans, Scope};
use std::collections::{BTreeMap, BTreeSet};
use step::Step;
use stored::{DesiredState, Repair};
use streamctl_proto::load::{LoadHistory, ending_at};
use streamctl_proto::{
    JobName, JobVersion, ManifestRef, ResolvedJob, ShardId, TaskId, Term, Window, WorkerId,
};
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
    /// Bytes per second of a shard are measured over at least this time: producers send in bursts.
    pub byte_rate_span_ms: i64,
    /// Time between two looks at a job for workers that get much more bytes than others.
    pub spread_interval_ms: i64,
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
            byte_rate_span_ms: 30_000,
            spread_interval_ms: 600_000,
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
    /// When its session began.
    pub joined_ms: i64,
    /// What it reported then, without its load.
    pub facts: WorkerFacts,
    pub cpu_permille: Option<u32>,
    /// Its load over time.
    pub load: LoadHistory,
}

impl Worker {
    fn joined(
        now: i64,
        session: SessionId,
        process: u64,
        flight_address: String,
        mut facts: WorkerFacts,
    ) -> Self {
        let mut load = LoadHistory::default();
        let past = std::mem::take(&mut facts.load);
        load.put_coarse_before(ending_at(past, now).into_iter());
        Self {
            session,
            process,
            flight_address,
            heard_ms: now,
            connected: true,
            leaving: false,
            lost: false,
            memory_bytes: 0,
            busy: WorkerSeen::default(),
            busy_permille: None,
            clock_skew_ms: None,
            joined_ms: now,
            facts,
            cpu_permille: None,
            load,
        }
    }

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
    /// What happened. No decision depends on it.
    pub journal: Journal,
    /// The last fine bucket in which the jobs' lag was recorded.
    sampled_bucket: Option<i64>,
}

impl Core {
    /// A newly elected leader; jobs follow as [`JobEvent::Loaded`].
    pub fn new(term: Term, now: i64, settings: CoreSettings) -> Self {
        Self {
            term,
            now_ms: now,
            adopt_at_ms: now + settings.adoption_ms,
            scaling: Scaler::new(term, now, settings.scaling.clone()),
            settings,
            adopting: false,
            pending_adoptions: PendingAdoptions::default(),
            task_index: TaskIndex::new(term),
            plans: Plans::default(),
            suspects: Suspects::default(),
            workers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            journal: Journal::default(),
            sampled_bucket: None,
        }
    }

    /// Applies one event at `now` and returns the effects.
    pub fn step(&mut self, now: i64, event: Event) -> Vec<Effect> {
        let mut out = vec![];
        let scope = self.scope(&event);
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
        let scope = if self.plan_all_when_due(now) {
            Scope::All
        } else {
            scope
        };
        let mut load = None;
        match scope {
            Scope::Nothing => {}
            Scope::Job(name) => {
                self.advance(now, &name, &mut load, &mut out);
                self.take_notes(&name);
            }
            Scope::All => {
                for name in self.jobs.keys().cloned().collect::<Vec<_>>() {
                    self.advance(now, &name, &mut load, &mut out);
                    self.take_notes(&name);
                }
            }
        }
        if ticked {
            self.task_index.forget(&self.jobs);
            for job in self.jobs.values_mut() {
                job.note_stalls(now);
            }
            self.scale(now);
            self.sample_histories(now);
        }
        out
    }

    fn apply(&mut self, now: i64, event: Event, out: &mut Vec<Effect>) {
        match event {
            Event::Job { job, event } => self.apply_job_event(now, &job, event, out),
            Event::Task {
                worker,
                task,
                event,
            } => self.apply_task_event(now, &worker, task, event, out),
            Event::Worker {
                worker,
                session,
                event,
            } => self.apply_worker_event(now, worker, session, event, out),
            Event::Ticked => {}
        }
    }

    /// Notes what happened to the cluster, or to a job that is gone.
    pub fn note(&mut self, job: Option<&JobName>, note: Note) {
        self.journal.note(self.now_ms, self.term, job, note);
    }

    /// Moves what a job noted to the journal.
    fn take_notes(&mut self, name: &JobName) {
        let Some(job) = self.jobs.get_mut(name) else {
            return;
        };
        for note in std::mem::take(&mut job.notes) {
            self.journal.note(self.now_ms, self.term, Some(name), note);
        }
    }

    /// The jobs, and what a decision about one of them depends on besides.
    fn parts<'a>(
        &'a mut self,
        now: i64,
        out: &'a mut Vec<Effect>,
    ) -> (&'a mut BTreeMap<JobName, Job>, Step<'a>) {
        let step = Step {
            now,
            term: self.term,
            adopting: self.adopting,
            settings: &self.settings,
            workers: &self.workers,
            tasks: &mut self.task_index,
            out,
        };
        (&mut self.jobs, step)
    }

    /// Decides about one job, if it exists.
    fn decide(
        &mut self,
        now: i64,
        name: &JobName,
        out: &mut Vec<Effect>,
        decision: impl FnOnce(&mut Job, &mut Step<'_>),
    ) {
        let (jobs, mut step) = self.parts(now, out);
        if let Some(job) = jobs.get_mut(name) {
            decision(job, &mut step);
        }
    }

    /// The job of a live task of this worker; a stale task has none (I6).
    fn job_of(&mut self, worker: &WorkerId, task: TaskId) -> Option<&mut Job> {
        let job = self.jobs.get_mut(self.task_index.job_of(task)?)?;
        job.tasks
            .get(&task)
            .is_some_and(|task| task.worker == *worker)
            .then_some(job)
    }

    /// The resolved job, for effects that need it.
    pub fn resolved(&self, name: &JobName) -> Option<&ResolvedJob> {
        self.jobs.get(name).map(|job| &job.resolved)
    }
}
