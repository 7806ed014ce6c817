//! The control plane's decisions in the large: what they cost in a core alone.
//!
//! Owns: the crowd of a core without a network, what is measured of it. Does not own: the core.
//! Rule: times are those of whole steps, in memory, on one thread.

use super::sheet::{Mark, Sheet};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use streamctl_controller::core::{Core, CoreSettings, Effect, Event, KnownShard, SessionId};
use streamctl_controller::store::contract;
use streamctl_proto::report::{Counts, Report, ShardRange, StageTimes};
use streamctl_proto::spec::SourceKind;
use streamctl_proto::{JobName, Position, ShardId, TaskId, Term, Window, WorkerId};

const BEGIN_MS: i64 = 1_700_000_000_000;
const WINDOW_MS: i64 = 60_000;
/// Shards of all jobs together, a hundred to a job, ten to a worker.
pub(super) const CURVE: [usize; 3] = [100, 1_000, 10_000];
pub(super) const SHARDS_PER_JOB: usize = 100;
pub(super) const SHARDS_PER_WORKER: usize = 10;
/// The core's windows that are measured; the first are not.
const WINDOWS: u64 = 5;
const PLAN_MS_MAX: f64 = 50.0;

/// The core alone: many jobs, read by workers that do what they are told.
pub struct Crowd {
    core: Core,
    now: i64,
    /// Asked for and not yet done.
    effects: Vec<Effect>,
    /// In milliseconds.
    slowest_step: f64,
}

impl Crowd {
    /// Workers without a job.
    pub fn waiting(workers: usize) -> Self {
        let core = Core::new(Term(1), BEGIN_MS, CoreSettings::default());
        let mut crowd = Self { core, now: BEGIN_MS, effects: vec![], slowest_step: 0.0 };
        (0..workers).for_each(|n| crowd.joins(n));
        crowd
    }

    /// One more job with so many shards.
    pub fn given(mut self, shards: usize) -> Self {
        let job = job(self.core.jobs.len());
        let name = job.spec.name.clone();
        self.tell(Event::JobCreated { job: Box::new(job) });
        let shards = (0..shards).map(shard).collect();
        self.tell(Event::ShardsListed { job: name, generation: 1, shards });
        self
    }

    fn of(jobs: usize, shards: usize, workers: usize) -> Self {
        (0..jobs).fold(Self::waiting(workers), |crowd, _| crowd.given(shards))
    }

    /// Committed by all jobs together.
    pub fn epochs(&self) -> u64 {
        self.core.jobs.values().map(|job| job.epoch().0).sum()
    }

    fn joins(&mut self, n: usize) {
        let (worker, session) = (worker(n), n as SessionId + 1);
        self.tell(Event::WorkerJoined { worker, session, flight_address: String::new(), tasks: vec![] });
    }

    fn tell(&mut self, event: Event) {
        let begin = Instant::now();
        let effects = self.core.step(self.now, event);
        self.slowest_step = self.slowest_step.max(begin.elapsed().as_secs_f64() * 1e3);
        self.effects.extend(effects);
    }

    /// The slowest step since this was asked last, in milliseconds.
    fn slowest(&mut self) -> f64 {
        std::mem::take(&mut self.slowest_step)
    }

    /// Time passes, and no worker is silent but these.
    fn after(&mut self, ms: i64, silent: &BTreeSet<WorkerId>) {
        let until = self.now + ms;
        while self.now < until {
            self.now += 500;
            let talking = self.core.workers.iter().filter(|(id, _)| !silent.contains(*id));
            let talking: Vec<(WorkerId, SessionId)> = talking.map(|(id, w)| (id.clone(), w.session)).collect();
            for (worker, session) in talking {
                self.tell(Event::WorkerHeard { worker, session, memory_bytes: 1 });
            }
            self.tell(Event::Ticked);
        }
    }

    /// Every task reads one record of each of its shards in the n-th window, reports, and is past it.
    pub fn window(&mut self, n: u64) {
        let start_ms = BEGIN_MS + n as i64 * WINDOW_MS;
        let window = Window { start_ms, end_ms: start_ms + WINDOW_MS };
        let tasks: Vec<_> = self
            .core
            .jobs
            .values()
            .flat_map(|job| job.tasks.iter().map(|(id, task)| (job.name().clone(), *id, task.clone())))
            .collect();
        for (_, id, task) in &tasks {
            self.tell(Event::WindowRequested { worker: task.worker.clone(), task: *id, window });
        }
        for (job, task_id, task) in tasks {
            let report = Box::new(report(job, task_id, window, &task.shards, n));
            self.tell(Event::Reported { worker: task.worker.clone(), report });
            let (worker, watermark_ms) = (task.worker, window.end_ms);
            self.tell(Event::Progressed { worker, task: task_id, watermark_ms, shards: vec![] });
        }
        self.store_works();
    }

    /// Does what the store is asked.
    fn store_works(&mut self) {
        loop {
            let done: Vec<Event> = std::mem::take(&mut self.effects).into_iter().filter_map(done).collect();
            if done.is_empty() {
                return;
            }
            done.into_iter().for_each(|event| self.tell(event));
        }
    }

    fn owners(&self) -> BTreeMap<(JobName, ShardId), WorkerId> {
        let tasks = self.core.jobs.values().flat_map(|job| job.tasks.values().map(|task| (job.name().clone(), task)));
        tasks
            .flat_map(|(job, task)| task.shards.iter().map(move |s| ((job.clone(), s.clone()), task.worker.clone())))
            .collect()
    }
}

/// What comes of an effect, when it is one of the store's.
fn done(effect: Effect) -> Option<Event> {
    match effect {
        Effect::WriteManifest { manifest } => {
            let (_, reference) = manifest.encode();
            Some(Event::ManifestWritten { job: manifest.job, reference })
        }
        Effect::MoveHead { job, head, .. } => Some(Event::HeadMoved { job, epoch: head.epoch }),
        Effect::Publish { manifest } => Some(Event::EpochPublished { job: manifest.job, epoch: manifest.epoch }),
        Effect::RecordPublished { job, epoch } => Some(Event::PublishedRecorded { job, epoch }),
        _ => None,
    }
}

fn job(n: usize) -> streamctl_proto::ResolvedJob {
    let mut job = contract::job(&format!("job-{n:03}"));
    job.spec.lookups.clear();
    job.spec.source.kind = SourceKind::Kinesis {
        stream: Some("stream".into()),
        arn: None,
        endpoint: None,
        region: None,
        role_arn: None,
        session_name: None,
        poll_interval: Duration::from_millis(200),
        max_records_per_read: 10_000,
        compression: Default::default(),
    };
    job
}

fn shard(n: usize) -> KnownShard {
    KnownShard { shard: ShardId::new(format!("shardId-{n:012}")), parents: vec![], detail: String::new() }
}

pub(super) fn worker(n: usize) -> WorkerId {
    WorkerId::new(format!("worker-{n:04}"))
}

fn report(job: JobName, task: TaskId, window: Window, shards: &BTreeSet<ShardId>, n: u64) -> Report {
    let at = |n: u64| if n == 0 { Position::Start } else { Position::after(n.into()) };
    let range = || ShardRange { from: at(n), to: at(n + 1), records: 1, bytes: 324 };
    let rows = shards.len() as u64;
    Report {
        job,
        task,
        window,
        ranges: shards.iter().map(|shard| (shard.clone(), range())).collect(),
        counts: Counts { rows_in: rows, rows_decoded: rows, rows_out: rows, ..Counts::default() },
        lookups: BTreeMap::new(),
        objects: vec![],
        unmatched: vec![],
        stages: StageTimes::default(),
    }
}

/// What the core's decisions cost: a change with 10,000 shards and 1,000 workers, and a window at each point of the curve.
pub fn planning() -> Sheet {
    let mut sheet = Sheet::new("control plane: the core's decisions, 10,000 shards, 1,000 workers");
    one_large_job(&mut sheet);
    hundred_jobs(&mut sheet);
    for shards in CURVE {
        let us = window_us(Crowd::of(1, shards, shards / SHARDS_PER_WORKER));
        sheet.add(format!("1 job: a window of {shards} shards, for each shard"), us / shards as f64, "us", Mark::None);
    }
    for shards in CURVE {
        let jobs = shards / SHARDS_PER_JOB;
        let crowd = Crowd::of(jobs, SHARDS_PER_JOB, shards / SHARDS_PER_WORKER);
        let tasks = crowd.core.jobs.values().map(|job| job.tasks.len()).sum::<usize>() as f64;
        sheet.add(
            format!("{jobs} jobs: a window of {tasks} tasks, for each task"),
            window_us(crowd) / tasks,
            "us",
            Mark::None,
        );
    }
    sheet
}

/// What a window of all jobs costs.
fn window_us(mut crowd: Crowd) -> f64 {
    crowd.window(0);
    let begin = Instant::now();
    (1..=WINDOWS).for_each(|n| crowd.window(n));
    begin.elapsed().as_secs_f64() * 1e6 / WINDOWS as f64
}

fn one_large_job(sheet: &mut Sheet) {
    let mut crowd = Crowd::of(1, 10_000, 1_000);
    sheet.add("1 job: its shards are listed and shared out", crowd.slowest(), "ms", Mark::AtMost(PLAN_MS_MAX));
    crowd.window(0);
    sheet.add("1 job: the slowest step of a window's commit", crowd.slowest(), "ms", Mark::None);
    crowd.joins(1_000);
    crowd.after(1_000, &BTreeSet::new());
    sheet.add("1 job: one more worker", crowd.slowest(), "ms", Mark::AtMost(PLAN_MS_MAX));
}

fn hundred_jobs(sheet: &mut Sheet) {
    let mut crowd = Crowd::of(100, 100, 1_000);
    sheet.add("100 jobs: a job's shards are listed and shared out", crowd.slowest(), "ms", Mark::AtMost(PLAN_MS_MAX));
    let before = crowd.owners();
    let lost: BTreeSet<WorkerId> = (0..1_000).step_by(10).map(worker).collect();
    for worker in &lost {
        let session = crowd.core.workers[worker].session;
        crowd.tell(Event::WorkerDisconnected { worker: worker.clone(), session });
    }
    crowd.after(4_000, &lost);
    sheet.add("100 jobs: a tenth of the workers is lost", crowd.slowest(), "ms", Mark::AtMost(PLAN_MS_MAX));
    let after = crowd.owners();
    let moved = after.iter().filter(|(shard, worker)| before.get(*shard) != Some(*worker));
    let (theirs, others) =
        moved.partition::<Vec<_>, _>(|(shard, _)| before.get(*shard).is_some_and(|w| lost.contains(w)));
    let read = after.len() as f64;
    sheet.add("shards that are read again, of 10,000", read, "", Mark::AtLeast(10_000.0));
    sheet.add("shards of lost workers that moved", theirs.len() as f64, "", Mark::AtLeast(1_000.0));
    sheet.add("shards of others that moved", others.len() as f64, "", Mark::AtMost(0.0));
}
