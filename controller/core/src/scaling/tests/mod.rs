//! A simulated cluster under load: arriving records, worker capacity, and an autoscaler that
//! follows.
//!
//! Owns: the plant and its follower. Does not own: the loads and the expected results ([`loads`]).
//! Rule: it behaves like streamctl: shards are distributed by number, each worker has a limit of
//! its own, a move takes time, a requested worker arrives late. The run is deterministic.

mod loads;

use super::seen::{JobSeen, Seen, ShardSeen, TaskSeen, WorkerSeen};
use super::{Scaler, ScalingSettings};
use std::collections::{BTreeMap, VecDeque};
use streamctl_proto::{TaskId, Term, WorkerId};

/// One step of the plant.
const STEP_MS: i64 = 1_000;
/// How long a pod takes to start.
const START_MS: i64 = 20_000;
/// How long shards are unassigned when they move.
const MOVE_MS: i64 = 2_000;
/// What one worker can do, in bytes per second.
const CAPACITY: f64 = 1_000_000.0;

/// Bytes per second that arrive in a shard at a time (in seconds since the start).
type Load = Box<dyn Fn(usize, f64) -> f64>;

struct Shard {
    /// When it arrived, and how much.
    waiting: VecDeque<(i64, f64)>,
    read: f64,
}

struct Plant {
    scaler: Scaler,
    now_ms: i64,
    load: Load,
    shards: Vec<Shard>,
    /// A query that needs the whole window: one task.
    whole_window: bool,
    /// The most that can be read of one shard per second.
    shard_limit: f64,
    /// The workers: when each starts, its utilization, its work.
    workers: BTreeMap<u32, Pod>,
    next_pod: u32,
    tasks: BTreeMap<u32, (TaskId, Vec<usize>)>,
    tasks_given: u64,
    moved_at_ms: i64,
    follows: bool,
    says_busy: bool,
    /// Every change of the desired number of workers: when, and to what.
    asked: Vec<(i64, u32)>,
    lag_max_s: f64,
}

#[derive(Default)]
struct Pod {
    from_ms: i64,
    busy: WorkerSeen,
    work_us: u64,
    spent_s: f64,
}

impl Plant {
    fn new(shards: usize, load: impl Fn(usize, f64) -> f64 + 'static) -> Self {
        Self::with(
            ScalingSettings {
                workers_max: 50,
                ..ScalingSettings::default()
            },
            shards,
            load,
        )
    }

    fn with(
        settings: ScalingSettings,
        shards: usize,
        load: impl Fn(usize, f64) -> f64 + 'static,
    ) -> Self {
        let mut plant = Self {
            scaler: Scaler::new(Term(1), 0, settings),
            now_ms: 0,
            load: Box::new(load),
            shards: (0..shards)
                .map(|_| Shard {
                    waiting: VecDeque::new(),
                    read: 0.0,
                })
                .collect(),
            whole_window: false,
            shard_limit: f64::MAX,
            workers: BTreeMap::new(),
            next_pod: 0,
            tasks: BTreeMap::new(),
            tasks_given: 0,
            moved_at_ms: i64::MIN / 2,
            follows: true,
            says_busy: true,
            asked: vec![],
            lag_max_s: 0.0,
        };
        plant.pods(1, 0);
        plant
    }

    /// Sets the number of pods; new ones arrive after a while.
    fn pods(&mut self, count: u32, after_ms: i64) {
        while (self.workers.len() as u32) < count {
            self.workers.insert(
                self.next_pod,
                Pod {
                    from_ms: self.now_ms + after_ms,
                    ..Pod::default()
                },
            );
            self.next_pod += 1;
        }
        while self.workers.len() as u32 > count {
            self.workers.pop_last();
        }
    }

    /// Before the start, more arrived than could be read.
    fn backlog(&mut self, seconds: i64, bytes_per_s: f64) {
        for shard in &mut self.shards {
            shard
                .waiting
                .extend((-seconds..0).map(|second| (second * 1_000, bytes_per_s)));
        }
    }

    fn there(&self) -> Vec<u32> {
        self.workers
            .iter()
            .filter(|(_, pod)| pod.from_ms <= self.now_ms)
            .map(|(id, _)| *id)
            .collect()
    }

    fn deal_out(&mut self) {
        let there = self.there();
        if there.is_empty() {
            return self.tasks.clear();
        }
        if self.tasks.keys().copied().eq(there.iter().copied()) {
            return;
        }
        self.moved_at_ms = self.now_ms;
        let places = if self.whole_window { 1 } else { there.len() };
        let mut dealt: Vec<Vec<usize>> = vec![vec![]; there.len()];
        (0..self.shards.len()).for_each(|shard| dealt[shard % places].push(shard));
        for shard in &mut self.shards {
            shard.read = 0.0;
        }
        let given = there.into_iter().zip(dealt).map(|(pod, shards)| {
            self.tasks_given += 1;
            (
                pod,
                (
                    TaskId {
                        term: Term(1),
                        counter: self.tasks_given,
                    },
                    shards,
                ),
            )
        });
        self.tasks = given.collect();
    }

    fn moving(&self) -> bool {
        self.now_ms - self.moved_at_ms < MOVE_MS
    }

    fn lag_ms(&self, shard: usize) -> i64 {
        self.shards[shard]
            .waiting
            .front()
            .map_or(0, |(came_ms, _)| self.now_ms - came_ms)
    }

    fn work(&mut self) {
        let step_s = STEP_MS as f64 / 1_000.0;
        for (shard, state) in self.shards.iter_mut().enumerate() {
            let bytes = (self.load)(shard, self.now_ms as f64 / 1_000.0) * step_s;
            if bytes > 0.0 {
                state.waiting.push_back((self.now_ms, bytes));
            }
        }
        if self.moving() {
            return;
        }
        for (pod, (_, shards)) in &self.tasks {
            let mut left = CAPACITY * step_s;
            let mut room: BTreeMap<usize, f64> = shards
                .iter()
                .map(|s| (*s, self.shard_limit * step_s))
                .collect();
            // The oldest first, because windows close in order.
            loop {
                let oldest = shards
                    .iter()
                    .filter(|s| room[s] > 1e-6 && !self.shards[**s].waiting.is_empty());
                let Some(shard) = oldest.copied().min_by_key(|s| self.shards[*s].waiting[0].0)
                else {
                    break;
                };
                if left <= 1e-6 {
                    break;
                }
                let (came_ms, bytes) = self.shards[shard].waiting[0];
                let takes = bytes.min(left).min(room[&shard]);
                left -= takes;
                *room.get_mut(&shard).unwrap() -= takes;
                self.shards[shard].read += takes;
                match bytes - takes > 1e-6 {
                    true => self.shards[shard].waiting[0] = (came_ms, bytes - takes),
                    false => drop(self.shards[shard].waiting.pop_front()),
                }
            }
            let spent = (1.0 - left / (CAPACITY * step_s)).clamp(0.0, 1.0);
            let worker = self.workers.get_mut(pod).unwrap();
            worker
                .busy
                .add(self.says_busy.then_some((spent * 1_000.0) as u32));
            worker.work_us += (spent * step_s * 1e6) as u64;
            worker.spent_s += spent * step_s;
        }
    }

    fn seen(&self) -> Seen {
        let name = |pod: &u32| WorkerId::new(format!("w-{pod}"));
        let shard = |s: &usize| ShardSeen {
            bytes: self.shards[*s].read as u64,
            lag_ms: self.lag_ms(*s) as u64,
        };
        let task = |(pod, (id, shards)): (&u32, &(TaskId, Vec<usize>))| {
            let work_us = self.workers[pod].work_us;
            (
                *id,
                TaskSeen {
                    worker: name(pod),
                    work_us,
                    shards: shards.iter().map(shard).collect(),
                },
            )
        };
        let places = if self.whole_window {
            1
        } else {
            self.shards.len()
        };
        let job = JobSeen {
            places,
            tasks: self.tasks.iter().map(task).collect(),
        };
        let workers = self
            .there()
            .iter()
            .map(|pod| (name(pod), self.workers[pod].busy))
            .collect();
        let jobs = if places > 0 {
            [("sales".parse().unwrap(), job)].into()
        } else {
            BTreeMap::new()
        };
        Seen {
            workers,
            jobs,
            moving: self.moving(),
        }
    }

    /// Runs for some minutes.
    fn run(&mut self, minutes: i64) {
        let until_ms = self.now_ms + minutes * 60_000;
        while self.now_ms < until_ms {
            self.now_ms += STEP_MS;
            self.deal_out();
            self.work();
            if self.scaler.is_due(self.now_ms) {
                let seen = self.seen();
                self.scaler.look(self.now_ms, seen);
            }
            let Some(desired) = self.scaler.desired() else {
                continue;
            };
            if self.asked.last().is_none_or(|(_, to)| *to != desired) {
                self.asked.push((self.now_ms, desired));
            }
            if self.follows {
                self.pods(desired, START_MS);
            }
            let lag_ms = (0..self.shards.len())
                .map(|s| self.lag_ms(s))
                .max()
                .unwrap_or(0);
            self.lag_max_s = self.lag_max_s.max(lag_ms as f64 / 1_000.0);
        }
    }

    fn desired(&self) -> u32 {
        self.scaler.desired().unwrap()
    }

    fn lag_s(&self) -> f64 {
        (0..self.shards.len())
            .map(|s| self.lag_ms(s))
            .max()
            .unwrap_or(0) as f64
            / 1_000.0
    }

    /// How many times the number changed direction.
    fn turns(&self) -> usize {
        let ups: Vec<bool> = self
            .asked
            .windows(2)
            .map(|pair| pair[1].1 > pair[0].1)
            .collect();
        ups.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }

    /// The desired numbers, without the times.
    fn numbers(&self) -> Vec<u32> {
        self.asked.iter().map(|(_, to)| *to).collect()
    }

    fn reasons(&self) -> String {
        self.scaler
            .log()
            .all()
            .map(|d| format!("{} {}->{}: {}\n", d.at_ms, d.from, d.to, d.reason))
            .collect()
    }
}
