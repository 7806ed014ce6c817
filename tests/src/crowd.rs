//! A core with many jobs, shards and workers, and no network.
//!
//! Owns: the workers, which execute their commands; the store, which always works. Does not own:
//! the expectations.
//! Rule: no clock except for the duration of a step, and no randomness.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use streamctl_controller::store::contract;
use streamctl_core::{
    Computing, Core, CoreSettings, Effect, Event, JobEvent, KnownShard, SessionId, TaskEvent,
    WorkerEvent,
};
use streamctl_proto::report::{Counts, Report, ShardRange, StageTimes};
use streamctl_proto::{
    JobName, Position, ResolvedJob, ShardId, TaskId, Term, Watermark, Window, WorkerId,
};

const BEGIN_MS: i64 = 1_700_000_000_000;
const WINDOW_MS: i64 = 60_000;
/// Longer than a worker may be silent.
const LOST_AFTER_MS: i64 = 4_000;

/// The core alone: many jobs, read by workers that execute their commands.
pub struct Crowd {
    pub core: Core,
    now: i64,
    /// Requested but not yet done.
    effects: Vec<Effect>,
    /// In milliseconds.
    slowest_step: f64,
}

impl Crowd {
    pub fn waiting(workers: usize) -> Self {
        let core = Core::new(Term(1), BEGIN_MS, CoreSettings::default());
        let mut crowd = Self {
            core,
            now: BEGIN_MS,
            effects: vec![],
            slowest_step: 0.0,
        };
        (0..workers).for_each(|n| crowd.joins(n));
        crowd
    }

    /// Adds a job with this many shards.
    pub fn given(mut self, shards: usize) -> Self {
        let job = job(self.core.jobs.len());
        let name = job.spec.name.clone();
        self.tell(Event::created(job));
        let shards = (0..shards).map(shard).collect();
        self.tell(Event::Job {
            job: name,
            event: JobEvent::ShardsListed {
                generation: 1,
                shards,
                stream: None,
            },
        });
        self
    }

    /// This many jobs with this many shards each, distributed over this many workers.
    pub fn of(jobs: usize, shards: usize, workers: usize) -> Self {
        (0..jobs).fold(Self::waiting(workers), |crowd, _| crowd.given(shards))
    }

    /// Epochs committed by all jobs together.
    pub fn epochs(&self) -> u64 {
        self.core.jobs.values().map(|job| job.epoch().0).sum()
    }

    pub fn joins(&mut self, n: usize) {
        let worker = worker(n);
        let session = n as SessionId + 1;
        let flight_address = String::new();
        self.tell(Event::Worker {
            worker,
            session,
            event: WorkerEvent::Joined {
                facts: Default::default(),
                process: 0,
                flight_address,
                tasks: vec![],
            },
        });
    }

    pub fn tell(&mut self, event: Event) {
        let begin = Instant::now();
        let effects = self.core.step(self.now, event);
        self.slowest_step = self.slowest_step.max(begin.elapsed().as_secs_f64() * 1e3);
        self.effects.extend(effects);
    }

    /// The slowest step since the last call, in milliseconds.
    pub fn slowest(&mut self) -> f64 {
        std::mem::take(&mut self.slowest_step)
    }

    /// Advances time; only these workers are silent.
    pub fn after(&mut self, ms: i64, silent: &BTreeSet<WorkerId>) {
        let until = self.now + ms;
        while self.now < until {
            self.now += 500;
            let talking = self
                .core
                .workers
                .iter()
                .filter(|(id, _)| !silent.contains(*id));
            let talking: Vec<(WorkerId, SessionId)> =
                talking.map(|(id, w)| (id.clone(), w.session)).collect();
            for (worker, session) in talking {
                self.tell(Event::Worker {
                    worker,
                    session,
                    event: WorkerEvent::Heard {
                        cpu_permille: None,
                        memory_bytes: 1,
                        busy_permille: None,
                        clock_skew_ms: None,
                    },
                });
            }
            self.tell(Event::Ticked);
        }
    }

    /// Breaks the connections of these workers; they stay silent until they are declared lost.
    pub fn lose(&mut self, lost: &BTreeSet<WorkerId>) {
        for worker in lost {
            let session = self.core.workers[worker].session;
            self.tell(Event::Worker {
                worker: worker.clone(),
                session,
                event: WorkerEvent::Disconnected,
            });
        }
        self.after(LOST_AFTER_MS, lost);
    }

    /// Every task reads one record of each of its shards in the n-th window, reports, and passes
    /// it.
    pub fn window(&mut self, n: u64) {
        let start_ms = BEGIN_MS + n as i64 * WINDOW_MS;
        let window = Window {
            start_ms,
            end_ms: start_ms + WINDOW_MS,
        };
        let tasks: Vec<_> = self
            .core
            .jobs
            .values()
            .flat_map(|job| {
                job.tasks
                    .iter()
                    .map(|(id, task)| (job.name().clone(), *id, task.clone()))
            })
            .collect();
        for (_, id, task) in &tasks {
            self.tell(Event::Task {
                worker: task.worker.clone(),
                task: *id,
                event: TaskEvent::WindowRequested(window),
            });
        }
        for (job, task_id, task) in tasks {
            let report = report(job, task_id, window, &task.shards, n);
            self.tell(Event::reported(task.worker.clone(), report));
            let worker = task.worker;
            self.tell(Event::Task {
                worker,
                task: task_id,
                event: TaskEvent::Progressed {
                    watermark: Watermark::At(window.end_ms),
                    work_us: 0,
                    computing: Computing::default(),
                    hanging: vec![],
                    shards: vec![],
                },
            });
        }
        self.store_works();
    }

    /// Executes the requests to the store.
    fn store_works(&mut self) {
        loop {
            let done: Vec<Event> = std::mem::take(&mut self.effects)
                .into_iter()
                .filter_map(done)
                .collect();
            if done.is_empty() {
                return;
            }
            done.into_iter().for_each(|event| self.tell(event));
        }
    }

    pub fn owners(&self) -> BTreeMap<(JobName, ShardId), WorkerId> {
        let tasks = self
            .core
            .jobs
            .values()
            .flat_map(|job| job.tasks.values().map(|task| (job.name().clone(), task)));
        tasks
            .flat_map(|(job, task)| {
                task.shards
                    .iter()
                    .map(move |s| ((job.clone(), s.clone()), task.worker.clone()))
            })
            .collect()
    }
}

/// The event that an effect of the store causes, if it is one.
fn done(effect: Effect) -> Option<Event> {
    match effect {
        Effect::WriteManifest { manifest } => {
            let (_, reference) = manifest.encode();
            Some(Event::Job {
                job: manifest.job,
                event: JobEvent::ManifestWritten { reference },
            })
        }
        Effect::MoveHead { job, head, .. } => Some(Event::Job {
            job,
            event: JobEvent::HeadMoved { epoch: head.epoch },
        }),
        Effect::Publish { job, epochs } => {
            let through = epochs.last()?.manifest.epoch;
            Some(Event::Job {
                job,
                event: JobEvent::EpochsPublished { through },
            })
        }
        Effect::RecordPublished { job, manifests } => {
            let through = manifests.last()?.epoch;
            Some(Event::Job {
                job,
                event: JobEvent::PublishedRecorded { through },
            })
        }
        Effect::RecordAnchors { job, anchors } => Some(Event::Job {
            job,
            event: JobEvent::AnchorsRecorded { anchors },
        }),
        _ => None,
    }
}

fn job(n: usize) -> ResolvedJob {
    contract::reading_kinesis(contract::job(&format!("job-{n:03}")))
}

fn shard(n: usize) -> KnownShard {
    KnownShard {
        shard: ShardId::new(format!("shardId-{n:012}")),
        parents: vec![],
        detail: String::new(),
    }
}

/// The name of the n-th worker.
pub fn worker(n: usize) -> WorkerId {
    WorkerId::new(format!("worker-{n:04}"))
}

fn report(
    job: JobName,
    task: TaskId,
    window: Window,
    shards: &BTreeSet<ShardId>,
    n: u64,
) -> Report {
    let at = |n: u64| {
        if n == 0 {
            Position::Start
        } else {
            Position::after(n.into())
        }
    };
    let range = || ShardRange {
        from: at(n),
        to: at(n + 1),
        records: 1,
        bytes: 324,
    };
    let rows = shards.len() as u64;
    Report {
        job,
        task,
        window,
        ranges: shards
            .iter()
            .map(|shard| (shard.clone(), range()))
            .collect(),
        counts: Counts {
            rows_in: rows,
            rows_decoded: rows,
            rows_out: rows,
            ..Counts::default()
        },
        lookups: BTreeMap::new(),
        objects: vec![],
        unmatched: vec![],
        null_values: vec![],
        unknown_keys: vec![],
        operators: vec![],
        stages: StageTimes::default(),
    }
}

/// Decisions at large scale are the same as at small scale. Asserts counts, not times.
#[cfg(test)]
mod tests {
    use super::*;
    use streamctl_core::invariants::check;
    use streamctl_proto::Epoch;

    fn shards_per_worker(crowd: &Crowd) -> BTreeMap<WorkerId, usize> {
        let mut counts = BTreeMap::new();
        crowd
            .owners()
            .into_values()
            .for_each(|worker| *counts.entry(worker).or_default() += 1);
        counts
    }

    #[test]
    fn ten_thousand_shards_are_shared_out_evenly_and_committed_as_one_epoch_each_window() {
        let mut crowd = Crowd::of(1, 10_000, 1_000);
        let shares = shards_per_worker(&crowd);
        assert_eq!((shares.len(), shares.values().max()), (1_000, Some(&10)));
        (0..3).for_each(|n| crowd.window(n));
        let job = crowd.core.jobs.values().next().unwrap();
        assert_eq!(
            (job.epoch(), job.published, job.totals.rows_in),
            (Epoch(3), Epoch(3), 30_000)
        );
        check(&crowd.core).unwrap();
    }

    #[test]
    fn a_hundred_jobs_share_a_thousand_workers_evenly() {
        let crowd = Crowd::of(100, 100, 1_000);
        let shares = shards_per_worker(&crowd);
        assert_eq!(
            (shares.len(), shares.values().min(), shares.values().max()),
            (1_000, Some(&10), Some(&10))
        );
        check(&crowd.core).unwrap();
    }

    #[test]
    fn losing_a_tenth_of_the_workers_moves_their_shards_and_no_others() {
        let mut crowd = Crowd::of(10, 1_000, 100);
        let before = crowd.owners();
        let lost: BTreeSet<WorkerId> = (0..100).step_by(10).map(worker).collect();
        crowd.lose(&lost);
        let after = crowd.owners();
        assert_eq!(after.len(), before.len(), "all are read again");
        for (shard, worker) in &after {
            assert!(!lost.contains(worker));
            assert!(
                lost.contains(&before[shard]) || before[shard] == *worker,
                "{shard:?} moved from {}",
                before[shard]
            );
        }
        check(&crowd.core).unwrap();
    }

    #[test]
    fn a_heartbeat_is_no_reason_to_plan() {
        let mut crowd = Crowd::of(1, 100, 10);
        let planned = |crowd: &Crowd| crowd.core.jobs.values().any(|job| job.plan_due);
        assert!(!planned(&crowd));
        crowd.after(1_000, &BTreeSet::new());
        assert!(!planned(&crowd));
        crowd.effects.clear();
        crowd.after(1_000, &BTreeSet::new());
        assert!(crowd.effects.is_empty(), "{:?}", crowd.effects);
    }
}
