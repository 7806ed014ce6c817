//! Runs the core of one term: sends it events, performs its effects, and reports their results.
//!
//! Owns: the loop, its ticks, the tasks that perform effects. Does not own: any decision.
//! Rule: stop first, then finished effects, then time, then the inbox, so that a flood of messages
//! blocks neither time nor commits.

mod history;
mod journal;
mod lookups;
mod perform;
mod publish;
#[cfg(test)]
mod tests;

pub use perform::Performer;

use crate::handle::{Handle, Input};
use crate::metrics::window_of;
use crate::store::Leadership;
use history::PastReader;
use journal::Keeper;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use streamctl_core::journal::{Kind, Note};
use streamctl_core::stored::DesiredState;
use streamctl_core::{Core, CoreSettings, Effect, Event, JobEvent, WorkerEvent};
use streamctl_engine::clock::steady;
use streamctl_proto::JobName;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Time between two ticks of the core.
pub const TICK: Duration = Duration::from_millis(100);
/// Most outcomes of effects that may wait for the core.
const OUTCOMES_MAX: usize = 1_024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// This process was stopped.
    Stopped,
    /// Another controller leads, or may lead.
    Deposed(String),
}

/// Observes every step of the core. Tests check invariants there.
pub trait Witness: Send + Sync {
    /// An event was applied. Gets the core before, the event, the core after it, and the effects.
    fn stepped(&self, before: &Core, event: &Event, after: &Core, effects: &[Effect]);
}

/// Drives the core through one term.
pub struct Driver {
    core: Core,
    performer: Arc<Performer>,
    inbox: mpsc::Receiver<Input>,
    changed: watch::Sender<u64>,
    witness: Option<Arc<dyn Witness>>,
    /// The number of stalls after the last step.
    standing: usize,
    /// Dropped with its job, which ends the retries for it.
    lives: BTreeMap<JobName, watch::Sender<()>>,
    /// Scaling decisions that were logged.
    decisions_logged: u64,
    keeper: Keeper,
    past: PastReader,
    /// The leader's name, for the journal.
    name: String,
}

impl Driver {
    /// A driver, and the handle by which services reach it.
    pub fn new(mut performer: Performer, settings: CoreSettings) -> (Self, Handle) {
        let term = performer.term;
        // A term lasts weeks, and the machine's clock may be set meanwhile.
        performer.clock = steady(&performer.clock);
        let (handle, inbox, changed) = Handle::new(term);
        let core = Core::new(term, (performer.clock)(), settings);
        let keeper = Keeper::new(Arc::clone(&performer.store), term);
        let past = PastReader::new(performer.storages.clone());
        (
            Self {
                core,
                performer: Arc::new(performer),
                inbox,
                changed,
                witness: None,
                standing: 0,
                lives: BTreeMap::new(),
                decisions_logged: 0,
                keeper,
                past,
                name: String::new(),
            },
            handle,
        )
    }

    /// The same driver with a witness.
    pub fn watched(self, witness: Option<Arc<dyn Witness>>) -> Self {
        Self { witness, ..self }
    }

    /// The same driver, of a controller with this name.
    pub fn named(self, name: String) -> Self {
        Self { name, ..self }
    }

    /// Runs until it is stopped or leadership is lost. `loaded` are the jobs of the store.
    pub async fn run(
        mut self,
        leadership: &Leadership,
        loaded: Vec<Event>,
        stop: impl Future<Output = ()>,
    ) -> Ended {
        let (outcomes, mut finished) = mpsc::channel(OUTCOMES_MAX);
        let mut running = JoinSet::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let lost = leadership.lost();
        tokio::pin!(stop, lost);
        let elected = format!("it leads, with jobs: {}", loaded.len());
        let elected = Note::new(Kind::LeaderElected, self.name.clone(), elected);
        self.core.note(None, elected);
        for event in loaded {
            self.step(event, &mut running, &outcomes);
        }
        loop {
            tokio::select! {
                biased;
                () = &mut stop => {
                    let now_ms = (self.performer.clock)();
                    self.keeper.flush(now_ms, &mut self.core.journal).await;
                    return Ended::Stopped;
                }
                () = &mut lost => return Ended::Deposed("leadership can no longer be proven".into()),
                Some(outcome) = finished.recv() => match outcome.result {
                    Ok(_) if !self.is_there(&outcome.job, outcome.submitted_ms) => {}
                    Ok(event) => self.step(event, &mut running, &outcomes),
                    Err(reason) => return Ended::Deposed(reason),
                },
                kept = self.keeper.next() => {
                    let now_ms = (self.performer.clock)();
                    self.keeper.take(now_ms, &mut self.core.journal, kept);
                }
                past = self.past.next() => self.past.take(&mut self.core, past),
                Some(_) = running.join_next(), if !running.is_empty() => {}
                _ = tick.tick() => self.step(Event::Ticked, &mut running, &outcomes),
                Some(input) = self.inbox.recv() => match input {
                    Input::Event(event) => self.step(event, &mut running, &outcomes),
                    Input::Question(question) => question(&self.core),
                },
            }
        }
    }

    fn step(&mut self, event: Event, running: &mut JoinSet<()>, outcomes: &mpsc::Sender<Outcome>) {
        let quiet = matches!(
            event,
            Event::Ticked
                | Event::Worker {
                    event: WorkerEvent::Heard { .. },
                    ..
                }
                | Event::Worker {
                    event: WorkerEvent::Spoke,
                    ..
                }
        );
        let ticked = matches!(event, Event::Ticked);
        let forgets = matches!(
            event,
            Event::Job {
                event: JobEvent::WantedRecorded {
                    wanted: DesiredState::Deleted,
                    ..
                },
                ..
            }
        );
        let now_ms = (self.performer.clock)();
        let effects = match &self.witness {
            None => self.core.step(now_ms, event),
            Some(witness) => {
                let before = self.core.clone();
                let reported = event.clone();
                let effects = self.core.step(now_ms, event);
                witness.stepped(&before, &reported, &self.core, &effects);
                effects
            }
        };
        if ticked {
            self.log_decision();
            self.keeper.tick(&mut self.core.journal);
            self.past.tick(now_ms, &self.core);
        }
        // Stalls only show as time passes.
        let standing = if ticked {
            self.core.standing()
        } else {
            self.standing
        };
        let stood = std::mem::replace(&mut self.standing, standing);
        if !quiet || !effects.is_empty() || stood != self.standing {
            self.changed.send_modify(|count| *count += 1);
        }
        for effect in effects {
            self.perform(effect, running, outcomes);
        }
        if forgets {
            self.lives
                .retain(|name, _| self.core.jobs.contains_key(name));
        }
    }

    /// Drop results for a deleted job; a new job may have the same name.
    fn is_there(&self, name: &JobName, submitted_ms: i64) -> bool {
        self.core
            .resolved(name)
            .is_some_and(|job| job.submitted_ms == submitted_ms)
    }

    /// Logs a change in the desired number of workers.
    fn log_decision(&mut self) {
        let log = self.core.scaling.log();
        if std::mem::replace(&mut self.decisions_logged, log.made) == log.made {
            return;
        }
        if let Some(made) = log.all().next_back() {
            let from = made.from;
            let to = made.to;
            let workers = made.workers;
            let reason = &made.reason;
            tracing::info!(
                from,
                to,
                workers,
                reason,
                "the desired number of workers changed"
            );
        }
    }

    fn perform(
        &mut self,
        effect: Effect,
        running: &mut JoinSet<()>,
        outcomes: &mpsc::Sender<Outcome>,
    ) {
        if self.performer.send(&self.core, &effect) {
            return;
        }
        let resolved = perform::job_of(&effect)
            .and_then(|job| self.core.resolved(job))
            .cloned();
        let Some(resolved) = resolved else { return };
        let window = window_of(&self.core, &effect);
        let performer = Arc::clone(&self.performer);
        let outcomes = outcomes.clone();
        let life = self
            .lives
            .entry(resolved.spec.name.clone())
            .or_insert_with(|| watch::channel(()).0)
            .subscribe();
        running.spawn(async move {
            tokio::select! {
                biased;
                () = forgotten(life) => {}
                () = performer.perform(effect, resolved, window, outcomes) => {}
            }
        });
    }
}

/// The outcome of an effect.
pub struct Outcome {
    job: JobName,
    /// Identifies the job: a deleted job may have a successor with the same name.
    submitted_ms: i64,
    /// An event, or why this term must end.
    result: Result<Event, String>,
}

/// Completes when the job is deleted.
async fn forgotten(mut life: watch::Receiver<()>) {
    while life.changed().await.is_ok() {}
}
