//! How busy a worker is, measured, for whoever decides how many workers there should be.
//!
//! Owns: the time for which windows are worked on, the share of the time for which threads had work. Does not own: what
//! is made of it (the controller's `scaling`).
//! Rule: what is under way counts: a query that never gives way is work, and CPU time is what threads really used. A worker is as busy as whatever has the least time left. Its windows have threads of their own, the network has
//! others, and each task works on a window in one thread: any of the three can be at its end while the others wait.

use crate::turns::{Compute, THREAD_NAME};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Shorter intervals say little: one long step of one thread would fill them.
const INTERVAL_MIN: Duration = Duration::from_millis(200);

/// The time for which one task's windows were worked on, up to this moment; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Work(Arc<Mutex<Spent>>);

#[derive(Debug, Default)]
struct Spent {
    over: Duration,
    /// When each poll that is under way began, by its number.
    under_way: BTreeMap<u64, Instant>,
    polls: u64,
}

impl Work {
    /// In microseconds. A poll that is under way counts: it may never come back.
    pub fn us(&self) -> u64 {
        let spent = self.lock();
        let under_way: Duration = spent.under_way.values().map(Instant::elapsed).sum();
        micros(spent.over + under_way)
    }

    /// Awaits a future and counts the time spent inside its polls: waiting is not working.
    pub async fn count<F: Future>(self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            let poll = self.begin();
            let polled = future.as_mut().poll(context);
            self.end(poll);
            polled
        })
        .await
    }

    fn begin(&self) -> u64 {
        let mut spent = self.lock();
        spent.polls += 1;
        let poll = spent.polls;
        spent.under_way.insert(poll, Instant::now());
        poll
    }

    fn end(&self, poll: u64) {
        let mut spent = self.lock();
        if let Some(began) = spent.under_way.remove(&poll) {
            spent.over += began.elapsed();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Spent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The tasks whose work is counted; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<Mutex<Vec<Counted>>>);

#[derive(Debug)]
struct Counted {
    work: Work,
    before_us: u64,
}

impl Tasks {
    /// For one more task, until all clones of its work are dropped.
    pub fn begin(&self) -> Work {
        let work = Work::default();
        self.lock().push(Counted { work: work.clone(), before_us: 0 });
        work
    }

    /// What the busiest task did since the last time, in microseconds.
    fn busiest_us(&self) -> u64 {
        let mut tasks = self.lock();
        let mut most = 0;
        for task in tasks.iter_mut() {
            let now_us = task.work.us();
            most = most.max(now_us.saturating_sub(task.before_us));
            task.before_us = now_us;
        }
        tasks.retain(|task| Arc::strong_count(&task.work.0) > 1);
        most
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Counted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks again and again at how busy the threads are.
pub struct Sampler {
    tasks: Tasks,
    compute: Compute,
    network: Handle,
    before: Sums,
    at: Instant,
    permille: Option<u32>,
}

/// What was used up to some moment, since the process began.
#[derive(Clone, Copy, Default)]
struct Sums {
    /// Turns of the threads that compute.
    turns: Duration,
    /// Their CPU time.
    cpu: Duration,
    /// Time for which the network's threads had work.
    network: Duration,
}

impl Sampler {
    /// Of these tasks, of the threads that compute, and of those of the network.
    pub fn new(tasks: Tasks, compute: Compute, network: Handle) -> Self {
        let mut sampler = Self { tasks, compute, network, before: Sums::default(), at: Instant::now(), permille: None };
        sampler.before = sampler.sums();
        sampler
    }

    /// How busy the worker was since the last time, in thousandths; asked again too soon, the last answer. None before
    /// there is one.
    pub fn permille(&mut self) -> Option<u32> {
        self.permille_at(Instant::now())
    }

    fn permille_at(&mut self, now: Instant) -> Option<u32> {
        let passed = now.saturating_duration_since(self.at);
        if passed < INTERVAL_MIN {
            return self.permille;
        }
        self.at += passed;
        let (before, now) = (self.before, self.sums());
        self.before = now;
        let compute_threads = self.compute.busy().map_or(1, |(_, threads)| u32::try_from(threads).unwrap_or(u32::MAX));
        let network_threads = u32::try_from(self.network.metrics().num_workers()).unwrap_or(1).max(1);
        let most = Duration::from_micros(self.tasks.busiest_us())
            .max(now.turns.saturating_sub(before.turns) / compute_threads)
            .max(now.cpu.saturating_sub(before.cpu) / compute_threads)
            .max(now.network.saturating_sub(before.network) / network_threads);
        let share = most.as_secs_f64() / passed.as_secs_f64();
        self.permille = Some((share.min(1.0) * 1_000.0) as u32);
        self.permille
    }
}

impl Sampler {
    fn sums(&self) -> Sums {
        let turns = self.compute.busy();
        Sums {
            turns: turns.map_or(Duration::ZERO, |(time, _)| time),
            // Without turns the threads that compute are not the only ones of their name.
            cpu: turns.and_then(|_| cpu_time(THREAD_NAME)).unwrap_or_default(),
            network: busy(&self.network),
        }
    }
}

/// The time for which a runtime's threads had work, all together.
fn busy(runtime: &Handle) -> Duration {
    let metrics = runtime.metrics();
    (0..metrics.num_workers()).map(|thread| metrics.worker_total_busy_duration(thread)).sum()
}

/// CPU time of this process's threads of a name, all together; none where the system does not say.
fn cpu_time(thread_name: &str) -> Option<Duration> {
    let mut nanos = 0;
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        let folder = thread.ok()?.path();
        // A thread may have ended meanwhile.
        let Ok(name) = std::fs::read_to_string(folder.join("comm")) else { continue };
        if name.trim_end() == thread_name {
            let Ok(times) = std::fs::read_to_string(folder.join("schedstat")) else { continue };
            nanos += times.split_whitespace().next()?.parse::<u64>().ok()?;
        }
    }
    Some(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spin(time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn work_is_the_time_inside_polls_and_a_task_that_is_gone_is_forgotten() {
        let tasks = Tasks::default();
        let (work, other) = (tasks.begin(), tasks.begin());
        let (wait, spun) = (Duration::from_millis(60), Duration::from_millis(20));
        let began = Instant::now();
        work.clone()
            .count(async {
                spin(spun);
                tokio::time::sleep(wait).await;
            })
            .await;
        let (us, all) = (work.us(), began.elapsed());
        // However long either took on a busy machine, the wait is not in it.
        assert!((spun..=all - wait).contains(&Duration::from_micros(us + 1)), "{us} of {all:?}");
        assert_eq!(tasks.busiest_us(), us, "of the busiest, not of all");
        assert_eq!(tasks.busiest_us(), 0, "since the last time");
        drop((work, other));
        tasks.busiest_us();
        assert!(tasks.lock().is_empty());
    }

    #[test]
    fn one_task_at_its_end_is_a_busy_worker_however_many_threads_wait() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
        let tasks = Tasks::default();
        let (compute, network) = (Compute::from(runtime.handle().clone()), runtime.handle().clone());
        let mut sampler = Sampler::new(tasks.clone(), compute, network);
        let begin = sampler.at;
        assert_eq!(sampler.permille_at(begin), None, "there is nothing to say yet");
        let work = tasks.begin();
        work.lock().over += Duration::from_millis(390);
        assert_eq!(sampler.permille_at(begin + INTERVAL_MIN * 2), Some(975));
        assert_eq!(sampler.permille_at(begin + INTERVAL_MIN * 2), Some(975), "too soon");
        let since = sampler.permille_at(begin + INTERVAL_MIN * 4).unwrap();
        assert!(since < 200, "nothing was done since: {since}");
    }

    #[test]
    fn threads_of_the_network_at_their_end_are_a_busy_worker_too() {
        let network = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let (compute, network_handle) = (Compute::from(network.handle().clone()), network.handle().clone());
        let mut sampler = Sampler::new(Tasks::default(), compute, network_handle);
        network.block_on(async {
            let both = [1, 2].map(|_| tokio::spawn(async { spin(INTERVAL_MIN * 2) }));
            for one in both {
                one.await.unwrap();
            }
        });
        // Threads tell their time when they come to rest.
        std::thread::sleep(INTERVAL_MIN);
        let permille = sampler.permille_at(sampler.at + INTERVAL_MIN * 3).unwrap();
        assert!(permille > 400, "{permille}");
    }
    #[test]
    fn a_thread_that_never_gives_way_is_a_busy_worker_by_its_cpu_time() {
        let runtime = Compute::runtime(1).unwrap();
        let compute = Compute::of(runtime.handle().clone(), 1);
        let network = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let mut sampler = Sampler::new(Tasks::default(), compute.clone(), network.handle().clone());
        let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (begin, hog) = (sampler.at, Arc::clone(&over));
        runtime.spawn(async move {
            while !hog.load(std::sync::atomic::Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let before = cpu_time(THREAD_NAME).expect("Linux says so");
        while cpu_time(THREAD_NAME).unwrap() < before + INTERVAL_MIN {
            std::thread::sleep(Duration::from_millis(10));
        }
        // On a busy machine it had to wait for its time: the interval is as long as what it used.
        let permille = sampler.permille_at(begin + INTERVAL_MIN).unwrap();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(permille >= 950, "{permille}");
    }

    #[test]
    fn work_that_is_under_way_counts() {
        let work = Tasks::default().begin();
        let poll = work.begin();
        spin(Duration::from_millis(20));
        assert!(work.us() >= 20_000, "{}", work.us());
        work.end(poll);
        let after = work.us();
        spin(Duration::from_millis(5));
        assert_eq!(work.us(), after);
    }
}
