//! Looks for small files of the jobs of one term.
//!
//! Owns: when a job has its turn, what is shown of it. Does not own: which files, how they are
//! rewritten (the kind of sink and a worker).
//! Rule: one rewriting at a time, away from the path of an epoch. Nothing is decided by what is kept
//! here: a new leader begins anew.

use crate::handle::Handle;
use crate::metrics::Metrics;
use crate::sink::committer;
use crate::sink::compact::{Compacted, CompactionTurn, Left, RewriteNames, Rewriter};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use streamctl_core::stored::DesiredState;
use streamctl_core::{Core, Event, JobEvent};
use streamctl_engine::clock::Clock;
use streamctl_engine::storage::Storages;
use streamctl_proto::{JobName, ResolvedJob, v1};
use tokio::time::{Instant, MissedTickBehavior};

/// How often it is looked whether a job is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// A job's first turn after it was seen, if it is not due earlier: a leader that is elected again
/// and again does not begin with it each time.
const FIRST_WAIT: Duration = Duration::from_secs(60);
/// Wait after a turn that failed, if the job is not due earlier.
const RETRY_WAIT: Duration = Duration::from_secs(300);

/// What is known of the compaction of each job; clones share it.
#[derive(Clone, Debug, Default)]
pub struct CompactionBoard(Arc<Mutex<BTreeMap<JobName, v1::CompactionStatus>>>);

impl CompactionBoard {
    /// What is shown of a job; `None`: no turn has ended in this term.
    pub fn of(&self, job: &JobName) -> Option<v1::CompactionStatus> {
        self.lock().get(job).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<JobName, v1::CompactionStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, job: &JobName, at_ms: i64, turn: &Result<Compacted, String>) {
        let mut all = self.lock();
        let status = all.entry(job.clone()).or_default();
        status.last_look_ms = at_ms;
        status.left = String::new();
        match turn {
            Ok(done) => {
                if done.rewritings > 0 {
                    status.last_rewriting_ms = at_ms;
                }
                status.rewritings += done.rewritings;
                status.files_before += done.files_before;
                status.files_after += done.files_after;
                status.bytes += done.bytes;
                status.files_deleted += done.deleted;
                status.left = done.left.as_ref().map(Left::to_string).unwrap_or_default();
            }
            Err(error) => status.left.clone_from(error),
        }
    }

    fn retain(&self, jobs: &BTreeMap<JobName, Due>) {
        self.lock().retain(|job, _| jobs.contains_key(job));
    }
}

/// When a job has its turn.
struct Due {
    submitted_ms: i64,
    at: Instant,
}

/// Compacts the tables of all running jobs, one turn after the other.
pub struct Compactor {
    pub handle: Handle,
    pub rewriter: Arc<dyn Rewriter>,
    pub storages: Storages,
    pub clock: Clock,
    pub metrics: Metrics,
    pub board: CompactionBoard,
}

impl Compactor {
    /// Runs until it is dropped, at the end of the term.
    pub async fn run(self) {
        let names = RewriteNames::new(self.handle.term);
        let mut due: BTreeMap<JobName, Due> = BTreeMap::new();
        let mut ticks = tokio::time::interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.board.lock().clear();
        loop {
            ticks.tick().await;
            let Ok(jobs) = self.handle.query(compacting).await else {
                return;
            };
            let of = |job: &ResolvedJob| {
                let every = job.spec.sink.compacts_every().unwrap_or(FIRST_WAIT);
                Due {
                    submitted_ms: job.submitted_ms,
                    at: Instant::now() + every.min(FIRST_WAIT),
                }
            };
            due.retain(|name, known| {
                let same = |job: &ResolvedJob| {
                    job.spec.name == *name && job.submitted_ms == known.submitted_ms
                };
                jobs.iter().any(same)
            });
            self.board.retain(&due);
            for job in &jobs {
                let known = due.entry(job.spec.name.clone()).or_insert_with(|| of(job));
                if known.at <= Instant::now() {
                    let wait = self.turn(job, &names).await;
                    known.at = Instant::now() + wait;
                }
            }
        }
    }

    /// Gives a job its turn; returns when it has the next one.
    async fn turn(&self, job: &ResolvedJob, names: &RewriteNames) -> Duration {
        let name = &job.spec.name;
        let every = job.spec.sink.compacts_every().unwrap_or(RETRY_WAIT);
        let turn = CompactionTurn {
            job,
            rewriter: &*self.rewriter,
            names,
        };
        let done = committer(&self.storages, job).compact(turn).await;
        let done = done.map_err(String::from);
        self.board.note(name, (self.clock)(), &done);
        self.metrics.compacted(name, &done);
        match done {
            Ok(done) => {
                if done.rewritings > 0 {
                    tracing::info!(
                        job = %name,
                        files_before = done.files_before,
                        files_after = done.files_after,
                        bytes = done.bytes,
                        "rewrote small files"
                    );
                    let text = format!(
                        "{} small files of the table became {}",
                        done.files_before, done.files_after
                    );
                    let event = JobEvent::Compacted { text };
                    let job = name.clone();
                    let _over = self.handle.send(Event::Job { job, event }).await;
                }
                match (&done.left, done.is_more_left) {
                    (None | Some(Left::Deletes(_)), true) => Duration::ZERO,
                    (None | Some(Left::Deletes(_) | Left::Refused(_)), false)
                    | (Some(Left::Refused(_)), true) => every,
                    (Some(Left::Failed(_) | Left::GaveUp(_)), _) => every.min(RETRY_WAIT),
                }
            }
            Err(error) => {
                tracing::warn!(job = %name, error, "small files are not rewritten");
                every.min(RETRY_WAIT)
            }
        }
    }
}

/// The running jobs whose small files are rewritten.
fn compacting(core: &Core) -> Vec<ResolvedJob> {
    let jobs = core.jobs.values().filter(|job| {
        job.wanted == DesiredState::Running && job.resolved.spec.sink.compacts_every().is_some()
    });
    jobs.map(|job| job.resolved.clone()).collect()
}
