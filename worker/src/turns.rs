//! Whose turn it is on the threads that compute.
//!
//! Owns: a turn for each poll of a window's work (and of a replay's), shared out fairly among jobs; what has been
//! computing for how long. Does not own: the threads (tokio's), how a query gives way
//! ([`streamctl_engine::query::Pace`]).
//! Rule: a turn is short, because what it polls gives way. One that does not come back loses its place after
//! [`OVERDUE_AFTER`], to a spare thread, and its job gets no more than its share of them; so no job can hold them all. One
//! that was cancelled and does not come back within [`STUCK_AFTER`] is named, and the worker has itself replaced.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use streamctl_engine::query::Pace;
use streamctl_proto::JobName;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinError, JoinHandle, JoinSet};

/// For how long a query computes before it gives way.
pub const TURN: Duration = Duration::from_millis(20);
/// A turn that takes longer loses its place to another one, which a spare thread takes.
pub const OVERDUE_AFTER: Duration = Duration::from_secs(1);
/// Threads beside those that compute, for turns that take the place of overdue ones.
pub const SPARE_THREADS: usize = 4;
/// A turn that takes longer is named in the log.
const NAMED_AFTER: Duration = Duration::from_secs(10);
/// Cancelled work that has not come back by then never will: the worker has itself replaced.
pub const STUCK_AFTER: Duration = Duration::from_secs(60);
/// Between two looks at turns that take long.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The threads that compute; clones share them.
#[derive(Clone, Debug)]
pub struct Compute {
    runtime: Handle,
    turns: Option<Turns>,
}

impl From<Handle> for Compute {
    /// Without turns: every poll is done at once, and takes as long as it takes. For simulations and tests.
    fn from(runtime: Handle) -> Self {
        Self { runtime, turns: None }
    }
}

impl Compute {
    /// So many threads, of a runtime that has [`SPARE_THREADS`] more.
    pub fn of(runtime: Handle, threads: usize) -> Self {
        Self { runtime, turns: Some(Turns::new(threads)) }
    }

    /// A runtime for so many threads that compute, with the spare ones.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads + SPARE_THREADS).thread_name(THREAD_NAME).enable_all().build()
    }

    /// The threads' runtime.
    pub fn handle(&self) -> &Handle {
        &self.runtime
    }

    /// Spawns work that is given its turns. `pace` is that of what it computes.
    pub fn spawn<T: Send + 'static>(
        &self,
        set: &mut JoinSet<T>,
        who: Who,
        work: impl Future<Output = T> + Send + 'static,
    ) -> AbortHandle {
        match &self.turns {
            Some(turns) => set.spawn_on(turns.clone().take(who, work), &self.runtime),
            None => set.spawn_on(work, &self.runtime),
        }
    }

    /// Does work there and waits for it; dropped, the work stops.
    pub async fn run<T: Send + 'static>(
        &self,
        who: Who,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError> {
        let _cancels = CancelsWhenDropped(Arc::clone(&who.pace));
        let work = match &self.turns {
            Some(turns) => self.runtime.spawn(turns.clone().take(who, work)),
            None => self.runtime.spawn(work),
        };
        AbortsWhenDropped(work).await
    }

    /// The same, without anybody who waits for its end.
    pub fn detach(&self, who: Who, work: impl Future<Output = ()> + Send + 'static) {
        match &self.turns {
            Some(turns) => drop(self.runtime.spawn(turns.clone().take(who, work))),
            None => drop(self.runtime.spawn(work)),
        }
    }

    /// Time for which turns were taken, all together, those that are being taken included; and how many can be at once.
    pub fn busy(&self) -> Option<(Duration, usize)> {
        let turns = self.turns.as_ref()?;
        Some((turns.busy(Instant::now()), turns.0.threads))
    }

    /// Looks after turns that take long, for ever; gives the name of work that never comes back.
    pub async fn stuck(&self) -> String {
        let Some(turns) = &self.turns else { return std::future::pending().await };
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if let Some(stuck) = turns.look(Instant::now()) {
                return stuck;
            }
        }
    }
}

/// What the threads that compute are called.
pub const THREAD_NAME: &str = "compute";

/// Who computes.
#[derive(Clone, Debug)]
pub struct Who {
    /// For which job.
    pub job: JobName,
    /// What, in words: `task t1.2, window 3`.
    pub what: String,
    /// How its query gives way.
    pub pace: Arc<Pace>,
    /// For how long it has been computing.
    pub streak: Streak,
}

impl Who {
    /// Work for a job that is no task of it.
    pub fn besides(job: &JobName, what: String) -> Self {
        Self { job: job.clone(), what, pace: Arc::default(), streak: Streak::default() }
    }
}

/// A task that ends with whoever waits for it.
struct AbortsWhenDropped<T>(JoinHandle<T>);

impl<T> Drop for AbortsWhenDropped<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T> Future for AbortsWhenDropped<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// Cancels a query whose result nobody waits for any more.
struct CancelsWhenDropped(Arc<Pace>);

impl Drop for CancelsWhenDropped {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// For how long some work has been computing without waiting for anything but its turn; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Streak(Arc<Mutex<Option<Instant>>>);

impl Streak {
    /// So long; zero while it waits.
    pub fn time(&self) -> Duration {
        self.lock().map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn goes_on(&self) {
        self.lock().get_or_insert_with(Instant::now);
    }

    fn ends(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Debug)]
struct Turns(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    threads: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    waiting: VecDeque<Waiting>,
    /// Turns that are given and not yet begun, and whose they are.
    given: BTreeMap<u64, JobName>,
    taken: BTreeMap<u64, Taken>,
    spent: Duration,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    job: JobName,
    waker: Waker,
}

#[derive(Debug)]
struct Taken {
    who: Who,
    since: Instant,
    overdue: bool,
    named: bool,
    cancelled: Option<Instant>,
}

/// One piece of work that takes turns; gives back what it has when it is dropped.
struct Place<'a> {
    turns: &'a Turns,
    id: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.turns.forget(self.id);
    }
}

impl Turns {
    fn new(threads: usize) -> Self {
        Self(Arc::new(Shared { threads: threads.max(1), state: Mutex::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, gives what is free, and wakes whoever got it; outside of the lock, as waking may drop work.
    fn change<T>(&self, asks: Option<u64>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let changed = change(&mut state);
        let wakers = state.give(self.0.threads, asks);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        changed
    }

    /// Polls a future in turns.
    async fn take<F: Future>(self, who: Who, future: F) -> F::Output {
        let id = self.new_id();
        let place = Place { turns: &self, id };
        let mut future = pin!(future);
        let output = poll_fn(|context| {
            who.streak.goes_on();
            if !self.begin(id, &who, context) {
                return Poll::Pending;
            }
            who.pace.limit(TURN);
            let taken = TakenTurn { turns: &self, id };
            let polled = future.as_mut().poll(context);
            drop(taken);
            if polled.is_ready() || !who.pace.gave_way() {
                who.streak.ends();
            }
            polled
        })
        .await;
        drop(place);
        output
    }

    fn new_id(&self) -> u64 {
        let mut state = self.lock();
        state.last_id += 1;
        state.last_id
    }

    /// Whether it is this work's turn; if not, it is woken when it is.
    fn begin(&self, id: u64, who: &Who, context: &Context<'_>) -> bool {
        self.change(Some(id), |state| {
            if state.given.contains_key(&id) {
                return;
            }
            match state.waiting.iter_mut().find(|waiting| waiting.id == id) {
                Some(waiting) => waiting.waker.clone_from(context.waker()),
                None => {
                    let (job, waker) = (who.job.clone(), context.waker().clone());
                    state.waiting.push_back(Waiting { id, job, waker });
                }
            }
        });
        let mut state = self.lock();
        if state.given.remove(&id).is_none() {
            return false;
        }
        let taken = Taken { who: who.clone(), since: Instant::now(), overdue: false, named: false, cancelled: None };
        state.taken.insert(id, taken);
        true
    }

    /// A turn is over.
    fn end(&self, id: u64) {
        let taken = self.change(None, |state| {
            let taken = state.taken.remove(&id)?;
            state.spent += taken.since.elapsed();
            Some(taken)
        });
        if let Some(Taken { who: Who { job, what, .. }, since, .. }) = taken.filter(|taken| taken.named) {
            tracing::warn!(%job, what, seconds = since.elapsed().as_secs(), "the query has given way");
        }
    }

    fn forget(&self, id: u64) {
        self.change(None, |state| {
            state.waiting.retain(|waiting| waiting.id != id);
            state.given.remove(&id);
        });
    }

    fn busy(&self, now: Instant) -> Duration {
        let state = self.lock();
        let taken = |taken: &Taken| now.saturating_duration_since(taken.since);
        state.spent + state.taken.values().map(taken).sum::<Duration>()
    }

    /// Gives places of overdue turns to others; names what takes long. What never comes back is returned.
    fn look(&self, now: Instant) -> Option<String> {
        self.change(None, |state| state.look(now))
    }
}

impl State {
    fn look(&mut self, now: Instant) -> Option<String> {
        let mut stuck = None;
        for taken in self.taken.values_mut() {
            let takes = now.saturating_duration_since(taken.since);
            taken.overdue |= takes >= OVERDUE_AFTER;
            let Who { job, what, pace, .. } = &taken.who;
            if takes >= NAMED_AFTER && !taken.named {
                taken.named = true;
                tracing::warn!(%job, what, seconds = takes.as_secs(), "its query has been computing and does not give way");
            }
            if pace.is_cancelled() {
                let since = *taken.cancelled.get_or_insert(now);
                if now.saturating_duration_since(since) >= STUCK_AFTER {
                    stuck = Some(format!("job {job}, {what}: it was cancelled and goes on computing"));
                }
            }
        }
        stuck
    }
}

/// A turn that ends when this is dropped, also by a panic.
struct TakenTurn<'a> {
    turns: &'a Turns,
    id: u64,
}

impl Drop for TakenTurn<'_> {
    fn drop(&mut self) {
        self.turns.end(self.id);
    }
}

impl State {
    /// Gives what is free to those who wait: to the job that has least first, then in the order of asking. `asks` need not
    /// be woken.
    fn give(&mut self, threads: usize, asks: Option<u64>) -> Vec<Waker> {
        let mut wakers = vec![];
        loop {
            let overdue = self.taken.values().filter(|taken| taken.overdue).count();
            let places = threads + overdue.min(SPARE_THREADS);
            if self.taken.len() + self.given.len() >= places {
                return wakers;
            }
            let mut next: Option<(usize, usize)> = None;
            for (index, waiting) in self.waiting.iter().enumerate() {
                let Some(has) = self.may_have(&waiting.job, threads) else { continue };
                if next.is_none_or(|(least, _)| has < least) {
                    next = Some((has, index));
                }
            }
            let Some(Waiting { id, job, waker }) = next.and_then(|(_, index)| self.waiting.remove(index)) else {
                return wakers;
            };
            self.given.insert(id, job);
            if asks != Some(id) {
                wakers.push(waker);
            }
        }
    }

    /// How many turns a job has; none when it may have no more: one that keeps threads gets at most all but one.
    fn may_have(&self, job: &JobName, threads: usize) -> Option<usize> {
        let taken = self.taken.values().filter(|taken| taken.who.job == *job);
        let overdue = taken.clone().filter(|taken| taken.overdue).count();
        let has = taken.count() + self.given.values().filter(|other| *other == job).count();
        let most = threads.saturating_sub(1).max(1);
        (overdue == 0 || has < most).then_some(has)
    }
}

#[cfg(test)]
mod tests;
