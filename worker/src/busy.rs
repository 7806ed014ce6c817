//! Measures how busy a worker is, as input for scaling decisions.
//!
//! Owns: the time spent on windows, the share of the time for which threads had work. Does not own:
//! the use of these figures (the controller's `scaling`).
//! Rule: a worker is as busy as its part with the least time left: its compute threads (by their
//! turns and by their CPU time), the network's threads, and each task, which works on a window in
//! one thread. Work that has not returned counts up to now, because it may never return.

use crate::compute::{Compute, Spent};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Shorter intervals are not meaningful: one long step of one thread would fill them.
const INTERVAL_MIN: Duration = Duration::from_millis(200);

/// The time spent on one task's windows up to this moment; clones share it.
#[derive(Clone, Debug)]
pub struct Work(Arc<Counter>);

#[derive(Debug)]
struct Counter {
    begin: Instant,
    polls: Mutex<Polls>,
}

#[derive(Debug, Default)]
struct Polls {
    /// Microseconds in all polls. A poll that has not returned has only its start subtracted.
    us: i64,
    /// Number of polls that have not returned.
    open: i64,
}

impl Default for Work {
    fn default() -> Self {
        Self(Arc::new(Counter {
            begin: Instant::now(),
            polls: Mutex::default(),
        }))
    }
}

impl Work {
    /// In microseconds, including polls that have not returned.
    pub fn us(&self) -> u64 {
        let polls = self.lock();
        u64::try_from(polls.us + polls.open * self.now_us()).unwrap_or(0)
    }

    /// Awaits a future and counts the time spent inside its polls: waiting is not working.
    pub async fn count<F: Future>(self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            let _poll = Poll::begin(&self);
            future.as_mut().poll(context)
        })
        .await
    }

    fn add(&self, us: i64, open: i64) {
        let mut polls = self.lock();
        polls.us += us;
        polls.open += open;
    }

    fn now_us(&self) -> i64 {
        i64::try_from(self.0.begin.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Polls> {
        self.0.polls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A poll that is counted until this is dropped.
struct Poll<'a>(&'a Work);

impl<'a> Poll<'a> {
    fn begin(work: &'a Work) -> Self {
        work.add(-work.now_us(), 1);
        Self(work)
    }
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        self.0.add(self.0.now_us(), -1);
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
    /// Registers one more task, until all clones of its work are dropped.
    pub fn begin(&self) -> Work {
        let work = Work::default();
        self.lock().push(Counted {
            work: work.clone(),
            before_us: 0,
        });
        work
    }

    /// The work of the busiest task since the last call, in microseconds.
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

    fn lock(&self) -> MutexGuard<'_, Vec<Counted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Samples how busy the threads are.
pub struct Sampler {
    tasks: Tasks,
    compute: Compute,
    network: Handle,
    before: (Spent, Duration),
    at: Instant,
    permille: Option<u32>,
}

impl Sampler {
    /// Samples these tasks, the compute threads, and those of the network.
    pub fn new(tasks: Tasks, compute: Compute, network: Handle) -> Self {
        let before = (compute.spent(), busy(&network));
        Self {
            tasks,
            compute,
            network,
            before,
            at: Instant::now(),
            permille: None,
        }
    }

    /// How busy the worker was since the last call, in thousandths. If called again too soon,
    /// returns the last value. `None` until there is one.
    pub fn permille(&mut self) -> Option<u32> {
        self.permille_at(Instant::now())
    }

    fn permille_at(&mut self, now: Instant) -> Option<u32> {
        let passed = now.saturating_duration_since(self.at);
        if passed < INTERVAL_MIN {
            return self.permille;
        }
        self.at += passed;
        let computed = self.compute.spent();
        let network = busy(&self.network);
        let (computed_before, network_before) =
            std::mem::replace(&mut self.before, (computed, network));
        let each = |now: Duration, before: Duration, threads: usize| {
            now.saturating_sub(before) / u32::try_from(threads).unwrap_or(u32::MAX).max(1)
        };
        let threads = self.compute.threads();
        let most = Duration::from_micros(self.tasks.busiest_us())
            .max(each(computed.turns, computed_before.turns, threads))
            .max(each(computed.cpu, computed_before.cpu, threads))
            .max(each(
                network,
                network_before,
                self.network.metrics().num_workers(),
            ));
        let share = most.as_secs_f64() / passed.as_secs_f64();
        self.permille = Some((share.min(1.0) * 1_000.0) as u32);
        self.permille
    }
}

/// The time for which a runtime's threads had work, in total.
fn busy(runtime: &Handle) -> Duration {
    let metrics = runtime.metrics();
    (0..metrics.num_workers())
        .map(|thread| metrics.worker_total_busy_duration(thread))
        .sum()
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

    #[test]
    fn work_is_the_time_inside_polls_and_a_task_that_is_gone_is_forgotten() {
        let tasks = Tasks::default();
        let work = tasks.begin();
        let other = tasks.begin();
        let spun = Duration::from_millis(20);
        let mut counted = pin!(work.clone().count(async {
            spin(spun);
            futures::pending!();
        }));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut poll = || {
            let began = Instant::now();
            let polled = counted.as_mut().poll(&mut context);
            (polled, began.elapsed())
        };
        let (pending, first) = poll();
        spin(spun);
        let (ready, second) = poll();
        assert!(pending.is_pending() && ready.is_ready());
        let us = work.us();
        // The time between the two is not included, however slow the machine is. Each poll is
        // rounded.
        let polled = first + second + Duration::from_micros(2);
        assert!(
            (spun..=polled).contains(&Duration::from_micros(us + 1)),
            "{us} of {polled:?}"
        );
        assert_eq!(tasks.busiest_us(), us, "of the busiest, not of all");
        assert_eq!(tasks.busiest_us(), 0, "since the last time");
        drop((work, other));
        tasks.busiest_us();
        assert!(tasks.lock().is_empty());
    }

    #[test]
    fn one_task_at_its_end_is_a_busy_worker_however_many_threads_wait() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .build()
            .unwrap();
        let tasks = Tasks::default();
        let compute = Compute::from(runtime.handle().clone());
        let network = runtime.handle().clone();
        let mut sampler = Sampler::new(tasks.clone(), compute, network);
        let begin = sampler.at;
        assert_eq!(
            sampler.permille_at(begin),
            None,
            "there is nothing to say yet"
        );
        let work = tasks.begin();
        work.add(390_000, 0);
        assert_eq!(sampler.permille_at(begin + INTERVAL_MIN * 2), Some(975));
        assert_eq!(
            sampler.permille_at(begin + INTERVAL_MIN * 2),
            Some(975),
            "too soon"
        );
        let since = sampler.permille_at(begin + INTERVAL_MIN * 4).unwrap();
        assert!(since < 200, "nothing was done since: {since}");
    }

    #[test]
    fn threads_of_the_network_at_their_end_are_a_busy_worker_too() {
        let network = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .build()
            .unwrap();
        let compute = Compute::from(network.handle().clone());
        let network_handle = network.handle().clone();
        let mut sampler = Sampler::new(Tasks::default(), compute, network_handle);
        network.block_on(async {
            let both = [1, 2].map(|_| tokio::spawn(async { spin(INTERVAL_MIN * 2) }));
            for one in both {
                one.await.unwrap();
            }
        });
        // Threads report their time when they go idle.
        std::thread::sleep(INTERVAL_MIN);
        let permille = sampler.permille_at(sampler.at + INTERVAL_MIN * 3).unwrap();
        assert!(permille > 400, "{permille}");
    }

    #[test]
    fn a_thread_that_never_yields_is_a_busy_worker_by_its_cpu_time() {
        let (compute, runtime) = Compute::start(1).unwrap();
        let network = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let mut sampler = Sampler::new(Tasks::default(), compute.clone(), network.handle().clone());
        let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let begin = sampler.at;
        let hog = Arc::clone(&over);
        runtime.spawn(async move {
            while !hog.load(std::sync::atomic::Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let before = compute.spent().cpu;
        while compute.spent().cpu < before + INTERVAL_MIN {
            std::thread::sleep(Duration::from_millis(10));
        }
        // On a busy machine the thread had to wait for CPU time: the interval is as long as the
        // time it used.
        let permille = sampler.permille_at(begin + INTERVAL_MIN).unwrap();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(permille >= 950, "{permille}");
    }

    #[test]
    fn work_that_has_not_returned_counts() {
        let work = Tasks::default().begin();
        let poll = Poll::begin(&work);
        spin(Duration::from_millis(20));
        assert!(work.us() >= 20_000, "{}", work.us());
        drop(poll);
        let after = work.us();
        spin(Duration::from_millis(5));
        assert_eq!(work.us(), after);
    }
}
