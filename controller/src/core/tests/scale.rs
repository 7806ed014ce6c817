//! The core with ten thousand shards, a thousand workers, a hundred jobs.
//!
//! Owns: that what is decided there is the same as in the small, and that the work per event stays small.
//! Rule: counts, not times, are asserted.

use super::*;
use crate::core::invariants::check;

/// Many jobs with the same number of shards each, read by workers that do what they are told.
struct Crowd {
    core: Core,
    now: i64,
    /// Asked for and not yet done.
    effects: Vec<Effect>,
}

impl Crowd {
    fn of(jobs: usize, shards: usize, workers: usize) -> Self {
        let core = Core::new(Term(1), BEGIN_MS, CoreSettings::default());
        let mut crowd = Self { core, now: BEGIN_MS, effects: vec![] };
        for n in 0..workers {
            let (worker, session) = (worker(&format!("w{n:04}")), n as SessionId + 1);
            crowd.tell(Event::WorkerJoined { worker, session, flight_address: String::new(), tasks: vec![] });
        }
        for n in 0..jobs {
            let mut job = kinesis();
            job.spec.name = format!("job-{n:03}").parse().unwrap();
            let name = job.spec.name.clone();
            crowd.tell(Event::JobCreated { job: Box::new(job) });
            let shards = (0..shards).map(|n| known(&format!("shard-{n:05}"))).collect();
            crowd.tell(Event::ShardsListed { job: name, generation: 1, shards });
        }
        crowd
    }

    fn tell(&mut self, event: Event) {
        self.effects.extend(self.core.step(self.now, event));
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

    /// Every task of every job reads one record of each shard in the n-th window, reports, and is past it.
    fn window(&mut self, n: u64) {
        let tasks: Vec<(JobName, TaskId, job::Task)> = self
            .core
            .jobs
            .values()
            .flat_map(|job| job.tasks.iter().map(|(id, task)| (job.name().clone(), *id, task.clone())))
            .collect();
        let window = w(1_000 + n as i64);
        for (_, id, task) in &tasks {
            self.tell(Event::WindowRequested { worker: task.worker.clone(), task: *id, window });
        }
        for (job, id, task) in tasks {
            let range = |_: &ShardId| ShardRange { from: at(n), to: at(n + 1), records: 1, bytes: 1 };
            let mut report = report(id, window, "");
            report.job = job;
            let rows = task.shards.len() as u64;
            report.counts = Counts { rows_in: rows, rows_decoded: rows, rows_out: rows, ..Counts::default() };
            report.ranges = task.shards.iter().map(|shard| (shard.clone(), range(shard))).collect();
            let worker = task.worker;
            self.tell(Event::Reported { worker: worker.clone(), report: Box::new(report) });
            self.tell(Event::Progressed { worker, task: id, watermark_ms: window.end_ms, shards: vec![] });
        }
        self.store_works();
    }

    /// Does what the store is asked; gives how often a head was moved.
    fn store_works(&mut self) -> usize {
        let mut moved = 0;
        loop {
            let effects = std::mem::take(&mut self.effects);
            let (mut rest, mut events) = (vec![], vec![]);
            for effect in effects {
                match effect {
                    Effect::WriteManifest { manifest } => {
                        let (_, reference) = manifest.encode();
                        events.push(Event::ManifestWritten { job: manifest.job, reference });
                    }
                    Effect::MoveHead { job, head, .. } => {
                        moved += 1;
                        events.push(Event::HeadMoved { job, epoch: head.epoch });
                    }
                    Effect::Publish { manifest } => {
                        events.push(Event::EpochPublished { job: manifest.job, epoch: manifest.epoch });
                    }
                    Effect::RecordPublished { job, epoch } => events.push(Event::PublishedRecorded { job, epoch }),
                    other => rest.push(other),
                }
            }
            self.effects = rest;
            if events.is_empty() {
                return moved;
            }
            events.into_iter().for_each(|event| self.tell(event));
        }
    }

    fn owners(&self) -> BTreeMap<(JobName, ShardId), WorkerId> {
        let of = |job: &Job| {
            let name = job.name().clone();
            let tasks =
                job.tasks.values().flat_map(|task| task.shards.iter().map(|s| (s.clone(), task.worker.clone())));
            tasks.map(move |(shard, worker)| ((name.clone(), shard), worker)).collect::<Vec<_>>()
        };
        self.core.jobs.values().flat_map(of).collect()
    }

    fn shards_per_worker(&self) -> BTreeMap<WorkerId, usize> {
        let mut counts = BTreeMap::new();
        self.owners().into_values().for_each(|worker| *counts.entry(worker).or_default() += 1);
        counts
    }
}

#[test]
fn ten_thousand_shards_are_shared_out_evenly_and_committed_as_one_epoch_each_window() {
    let mut crowd = Crowd::of(1, 10_000, 1_000);
    let shares = crowd.shards_per_worker();
    assert_eq!((shares.len(), shares.values().max()), (1_000, Some(&10)));
    for n in 0..3 {
        crowd.window(n);
    }
    let job = crowd.core.jobs.values().next().unwrap();
    assert_eq!((job.epoch(), job.published, job.totals.rows_in), (Epoch(3), Epoch(3), 30_000));
    check(&crowd.core).unwrap();
}

#[test]
fn a_hundred_jobs_share_a_thousand_workers_evenly() {
    let crowd = Crowd::of(100, 100, 1_000);
    let shares = crowd.shards_per_worker();
    assert_eq!((shares.len(), shares.values().min(), shares.values().max()), (1_000, Some(&10), Some(&10)));
    check(&crowd.core).unwrap();
}

#[test]
fn losing_a_tenth_of_the_workers_moves_their_shards_and_no_others() {
    let mut crowd = Crowd::of(10, 1_000, 100);
    let before = crowd.owners();
    let lost: BTreeSet<WorkerId> = crowd.core.workers.keys().filter(|id| id.as_str().ends_with('7')).cloned().collect();
    assert_eq!(lost.len(), 10);
    for worker in &lost {
        let session = crowd.core.workers[worker].session;
        crowd.tell(Event::WorkerDisconnected { worker: worker.clone(), session });
    }
    crowd.after(4_000, &lost);
    let after = crowd.owners();
    assert_eq!(after.len(), before.len(), "all are read again");
    for (shard, worker) in &after {
        assert!(!lost.contains(worker));
        assert!(lost.contains(&before[shard]) || before[shard] == *worker, "{shard:?} moved from {}", before[shard]);
    }
    check(&crowd.core).unwrap();
}

#[test]
fn a_heartbeat_is_no_reason_to_plan() {
    let mut crowd = Crowd::of(1, 100, 10);
    crowd.core.jobs.values_mut().for_each(|job| assert!(!job.plan_due));
    crowd.after(1_000, &BTreeSet::new());
    crowd.core.jobs.values_mut().for_each(|job| assert!(!job.plan_due));
    crowd.effects.clear();
    crowd.after(1_000, &BTreeSet::new());
    assert!(crowd.effects.is_empty(), "{:?}", crowd.effects);
}
