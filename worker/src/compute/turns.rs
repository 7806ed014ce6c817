//! Which work runs next on the compute threads.
//!
//! Owns: a turn for each poll of a piece of work, shared fairly among jobs; the time of each turn.
//! Does not own: the threads ([`super::Compute`]).
//! Rule: a turn is short, because queries yield. One that does not return loses its place after
//! [`OVERDUE_AFTER`], and a spare thread takes it. Spare threads serve only jobs that hold no other
//! thread, so no job holds them all. Cancelled work that does not return within [`STUCK_AFTER`]
//! never will: it is reported, so that the worker gets itself replaced.

use super::Workload;
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};
use streamctl_proto::JobName;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

/// How long a query computes before it yields.
pub const TURN: Duration = Duration::from_millis(20);
/// A turn that takes longer loses its place.
pub const OVERDUE_AFTER: Duration = Duration::from_secs(1);
/// Extra threads that take the places of overdue turns.
pub const SPARE_THREADS: usize = 4;
/// A turn that takes longer is logged.
const NAMED_AFTER: Duration = Duration::from_secs(10);
/// Cancelled work that takes longer to return never will.
pub const STUCK_AFTER: Duration = Duration::from_secs(60);
/// Time between two checks of the turns.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    threads: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    /// One for each job with work that waits for a turn; the job with the most recent grant is the
    /// last.
    queues: VecDeque<Queue>,
    /// Woken to take their turn, but not polled yet.
    granted: BTreeMap<u64, Arc<Workload>>,
    taken: BTreeMap<u64, Taken>,
    /// Time of all completed turns.
    spent: Duration,
}

/// Waiting work of one job, in the order of requests; never empty.
#[derive(Debug)]
struct Queue {
    job: JobName,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    workload: Arc<Workload>,
    waker: Waker,
}

#[derive(Debug)]
struct Taken {
    workload: Arc<Workload>,
    since: Instant,
    overdue: bool,
    named: bool,
    cancelled: Option<Instant>,
}

impl Turns {
    pub fn new(threads: usize) -> Self {
        Self(Arc::new(Shared {
            threads,
            state: Mutex::default(),
        }))
    }

    pub fn threads(&self) -> usize {
        self.0.threads
    }

    /// Polls a future in turns.
    pub async fn run<F: Future>(self, workload: Arc<Workload>, future: F) -> F::Output {
        let place = Place {
            id: self.new_id(),
            turns: &self,
        };
        let mut future = pin!(future);
        poll_fn(|context| {
            workload.set_computing(true);
            let Some(mut turn) = place.begin(&workload, context.waker()) else {
                return Poll::Pending;
            };
            workload.pace.limit(TURN);
            let polled = future.as_mut().poll(context);
            if workload.pace.take_yielded() && polled.is_pending() {
                turn.next = Some(context.waker().clone());
            } else {
                workload.set_computing(false);
            }
            polled
        })
        .await
    }

    /// Time of all turns, including the current ones.
    pub fn spent(&self, now: Instant) -> Duration {
        let state = self.lock();
        let running = |taken: &Taken| now.saturating_duration_since(taken.since);
        state.spent + state.taken.values().map(running).sum::<Duration>()
    }

    /// See [`super::Compute::watch`].
    pub async fn watch(&self, stuck: oneshot::Sender<String>) {
        let mut stuck = Some(stuck);
        let mut ticks = tokio::time::interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            let Some(found) = self.change(|state| state.find_stuck(now)) else {
                continue;
            };
            if let Some(stuck) = stuck.take() {
                let _gone = stuck.send(found);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_id(&self) -> u64 {
        let mut state = self.lock();
        state.last_id += 1;
        state.last_id
    }

    /// Changes the state and grants the turns that are free then.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let changed = change(&mut state);
        let wakers = state.grant(self.0.threads, None);
        drop(state);
        // After the lock: waking may drop work, which changes the state.
        wakers.into_iter().for_each(Waker::wake);
        changed
    }
}

/// The place of one piece of work; freed when dropped.
struct Place<'a> {
    turns: &'a Turns,
    id: u64,
}

impl Place<'_> {
    /// Begins a turn. `None`: the work is woken when it gets one.
    fn begin(&self, workload: &Arc<Workload>, waker: &Waker) -> Option<Turn<'_>> {
        let mut state = self.turns.lock();
        state.request(self.id, workload, waker);
        let wakers = state.grant(self.turns.0.threads, Some(self.id));
        let begun = state.begin(self.id);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        begun.then_some(Turn {
            place: self,
            next: None,
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.turns.change(|state| {
            state
                .queues
                .iter_mut()
                .for_each(|queue| queue.waiting.retain(|waiting| waiting.id != self.id));
            state.queues.retain(|queue| !queue.waiting.is_empty());
            state.granted.remove(&self.id);
        });
    }
}

/// A turn; it ends when this is dropped, also by a panic.
struct Turn<'a> {
    place: &'a Place<'a>,
    /// Set for work that yielded: it requests its next turn.
    next: Option<Waker>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Place { turns, id } = *self.place;
        let next = self.next.take();
        let ended = turns.change(|state| {
            let taken = state.end(id)?;
            if let Some(waker) = &next {
                state.request(id, &taken.workload, waker);
            }
            Some(taken)
        });
        let Some(taken) = ended else { return };
        if taken.named {
            let Workload { job, name, .. } = &*taken.workload;
            tracing::warn!(%job, work = name, seconds = taken.since.elapsed().as_secs(), "the query has yielded");
        }
    }
}

impl State {
    fn request(&mut self, id: u64, workload: &Arc<Workload>, waker: &Waker) {
        if self.granted.contains_key(&id) {
            return;
        }
        let queue = match self
            .queues
            .iter()
            .position(|queue| queue.job == workload.job)
        {
            Some(index) => index,
            None => {
                self.queues.push_back(Queue {
                    job: workload.job.clone(),
                    waiting: VecDeque::new(),
                });
                self.queues.len() - 1
            }
        };
        let queue = &mut self.queues[queue];
        match queue.waiting.iter_mut().find(|waiting| waiting.id == id) {
            Some(waiting) => waiting.waker.clone_from(waker),
            None => queue.waiting.push_back(Waiting {
                id,
                workload: Arc::clone(workload),
                waker: waker.clone(),
            }),
        }
    }

    fn begin(&mut self, id: u64) -> bool {
        let Some(workload) = self.granted.remove(&id) else {
            return false;
        };
        let since = Instant::now();
        self.taken.insert(
            id,
            Taken {
                workload,
                since,
                overdue: false,
                named: false,
                cancelled: None,
            },
        );
        true
    }

    fn end(&mut self, id: u64) -> Option<Taken> {
        let taken = self.taken.remove(&id)?;
        self.spent += taken.since.elapsed();
        Some(taken)
    }

    /// Grants the turns that are free. `asking` need not be woken.
    fn grant(&mut self, threads: usize, asking: Option<u64>) -> Vec<Waker> {
        let mut wakers = vec![];
        while let Some(mut queue) = self
            .next(threads)
            .and_then(|index| self.queues.remove(index))
        {
            let Some(Waiting {
                id,
                workload,
                waker,
            }) = queue.waiting.pop_front()
            else {
                continue;
            };
            if !queue.waiting.is_empty() {
                self.queues.push_back(queue);
            }
            self.granted.insert(id, workload);
            if asking != Some(id) {
                wakers.push(waker);
            }
        }
        wakers
    }

    /// The queue that gets the next turn, if one is free: of the jobs that hold the fewest, the one
    /// that has waited longest.
    fn next(&self, threads: usize) -> Option<usize> {
        let overdue = self
            .taken
            .values()
            .filter(|taken| taken.overdue)
            .count()
            .min(SPARE_THREADS);
        let used = self.taken.len() + self.granted.len();
        if used >= threads + overdue {
            return None;
        }
        let held = self
            .queues
            .iter()
            .enumerate()
            .map(|(index, queue)| (self.held_by(&queue.job), index));
        let next = held.min()?;
        let spare = used >= threads;
        (next.0 == 0 || !spare).then_some(next.1)
    }

    fn held_by(&self, job: &JobName) -> usize {
        let taken = self.taken.values().map(|taken| &taken.workload);
        taken
            .chain(self.granted.values())
            .filter(|workload| workload.job == *job)
            .count()
    }

    /// Marks overdue turns and names those that take long. Returns the name of cancelled work that
    /// never returns.
    fn find_stuck(&mut self, now: Instant) -> Option<String> {
        let mut stuck = None;
        for taken in self.taken.values_mut() {
            let takes = now.saturating_duration_since(taken.since);
            taken.overdue = takes >= OVERDUE_AFTER;
            let Workload {
                job, name, pace, ..
            } = &*taken.workload;
            if takes >= NAMED_AFTER && !taken.named {
                taken.named = true;
                tracing::warn!(%job, work = name, seconds = takes.as_secs(), "the query computes and does not yield");
            }
            if pace.is_cancelled() {
                let since = *taken.cancelled.get_or_insert(now);
                if now.saturating_duration_since(since) >= STUCK_AFTER {
                    stuck = Some(format!(
                        "job {job}, {name}: it was cancelled and still computes"
                    ));
                }
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests;
