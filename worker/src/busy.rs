//! How busy a worker is, measured, for whoever decides how many workers there should be.
//!
//! Owns: the time for which windows are worked on, the share of the time for which threads had work. Does not own: what
//! is made of it (the controller's `scaling`).
//! Rule: a worker is as busy as whatever has the least time left. Its windows have threads of their own, the network has
//! others, and each task works on a window in one thread: any of the three can be at its end while the others wait.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Shorter intervals say little: one long step of one thread would fill them.
const INTERVAL_MIN: Duration = Duration::from_millis(200);

/// The time for which one task's windows were worked on; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Work(Arc<AtomicU64>);

impl Work {
    /// In microseconds.
    pub fn us(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Awaits a future and counts the time spent inside its polls: waiting is not working.
    pub async fn count<F: Future>(self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            let began = Instant::now();
            let polled = future.as_mut().poll(context);
            let spent = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.0.fetch_add(spent, Ordering::Relaxed);
            polled
        })
        .await
    }
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
    runtimes: Vec<(Handle, Duration)>,
    at: Instant,
    permille: Option<u32>,
}

impl Sampler {
    /// Of these tasks, and of the threads of these runtimes.
    pub fn new(tasks: Tasks, runtimes: impl IntoIterator<Item = Handle>) -> Self {
        let runtimes = runtimes.into_iter().map(|handle| (handle.clone(), busy(&handle))).collect();
        Self { tasks, runtimes, at: Instant::now(), permille: None }
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
        let mut most = Duration::from_micros(self.tasks.busiest_us());
        for (handle, before) in &mut self.runtimes {
            let now = busy(handle);
            let threads = u32::try_from(handle.metrics().num_workers()).unwrap_or(1).max(1);
            most = most.max(now.saturating_sub(*before) / threads);
            *before = now;
        }
        let share = most.as_secs_f64() / passed.as_secs_f64();
        self.permille = Some((share.min(1.0) * 1_000.0) as u32);
        self.permille
    }
}

/// The time for which a runtime's threads had work, all together.
fn busy(runtime: &Handle) -> Duration {
    let metrics = runtime.metrics();
    (0..metrics.num_workers()).map(|thread| metrics.worker_total_busy_duration(thread)).sum()
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
        let mut sampler = Sampler::new(tasks.clone(), [runtime.handle().clone()]);
        let begin = sampler.at;
        assert_eq!(sampler.permille_at(begin), None, "there is nothing to say yet");
        let work = tasks.begin();
        work.0.fetch_add(390_000, Ordering::Relaxed);
        assert_eq!(sampler.permille_at(begin + INTERVAL_MIN * 2), Some(975));
        assert_eq!(sampler.permille_at(begin + INTERVAL_MIN * 2), Some(975), "too soon");
        let since = sampler.permille_at(begin + INTERVAL_MIN * 4).unwrap();
        assert!(since < 200, "nothing was done since: {since}");
    }

    #[test]
    fn threads_of_the_network_at_their_end_are_a_busy_worker_too() {
        let network = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let mut sampler = Sampler::new(Tasks::default(), [network.handle().clone()]);
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
}
