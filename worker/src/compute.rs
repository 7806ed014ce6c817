//! The threads that decode records and run queries.
//!
//! Owns: the number of threads, their stack, spawning on them. Does not own: which work runs next
//! ([`turns`]), how a query yields ([`streamctl_engine::query::Pace`]).
//! Rule: all computing work of jobs is spawned here, so that no job delays another job or the
//! network. These threads evaluate an expression with as many levels as a query may have without an
//! overflow.

mod cpu;
mod turns;

pub use turns::{OVERDUE_AFTER, SPARE_THREADS, STUCK_AFTER, TURN};

use cpu::ThreadTimes;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use streamctl_engine::query::{Pace, QueryProfile};
use streamctl_proto::JobName;
use streamctl_proto::profile::OperatorFigures;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinError, JoinHandle, JoinSet};
use turns::Turns;

/// Stack of a compute thread. Only what is used takes memory.
pub const COMPUTE_STACK_BYTES: usize = 64 << 20;

/// The place to spawn the work of jobs; clones share the threads.
#[derive(Clone, Debug)]
pub struct Compute {
    runtime: Handle,
    /// If `None`, each poll runs at once and for as long as it takes.
    turns: Option<Turns>,
    times: ThreadTimes,
}

/// Time that compute threads have used since they started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// In turns, including those that have not returned.
    pub turns: Duration,
    pub cpu: Duration,
}

impl From<Handle> for Compute {
    /// Without turns: for simulations, tests and the CLI's own work.
    fn from(runtime: Handle) -> Self {
        Self {
            runtime,
            turns: None,
            times: ThreadTimes::default(),
        }
    }
}

impl Compute {
    /// Starts this many threads, and [`SPARE_THREADS`]. They end with the runtime.
    ///
    /// # Errors
    /// The system cannot start the threads.
    pub fn start(threads: usize) -> std::io::Result<(Self, Runtime)> {
        let threads = threads.max(1);
        let times = ThreadTimes::default();
        let started = times.clone();
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads + SPARE_THREADS)
            .thread_name("compute")
            .thread_stack_size(COMPUTE_STACK_BYTES)
            .on_thread_start(move || started.add_this_thread())
            .enable_all()
            .build()?;
        let turns = Some(Turns::new(threads));
        Ok((
            Self {
                runtime: runtime.handle().clone(),
                turns,
                times,
            },
            runtime,
        ))
    }

    /// Spawns work into a set.
    pub fn spawn_in<T: Send + 'static>(
        &self,
        set: &mut JoinSet<T>,
        workload: Arc<Workload>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> AbortHandle {
        match &self.turns {
            Some(turns) => set.spawn_on(turns.clone().run(workload, work), &self.runtime),
            None => set.spawn_on(work, &self.runtime),
        }
    }

    /// Spawns work that runs until the result is dropped.
    pub fn spawn<T: Send + 'static>(
        &self,
        workload: Arc<Workload>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Running<T> {
        let pace = Arc::clone(&workload.pace);
        let task = match &self.turns {
            Some(turns) => self.runtime.spawn(turns.clone().run(workload, work)),
            None => self.runtime.spawn(work),
        };
        Running { task, pace }
    }

    /// How much work runs at once.
    pub fn threads(&self) -> usize {
        self.turns.as_ref().map_or(1, Turns::threads)
    }

    /// The time used by all threads together.
    pub fn spent(&self) -> Spent {
        let turns = self
            .turns
            .as_ref()
            .map_or(Duration::ZERO, |turns| turns.spent(Instant::now()));
        Spent {
            turns,
            cpu: self.times.total(),
        }
    }

    /// Watches for turns that take long, for ever: poll it on threads that no job can hold. Sends
    /// the name of cancelled work that does not return.
    pub async fn watch(&self, stuck: oneshot::Sender<String>) {
        match &self.turns {
            Some(turns) => turns.watch(stuck).await,
            None => std::future::pending().await,
        }
    }
}

/// A piece of work: a window of a task, a replay, a verification.
#[derive(Debug)]
pub struct Workload {
    pub job: JobName,
    /// The name in a log: `task t1.2, window 3`.
    pub name: String,
    /// When its query yields, and whether it continues.
    pub pace: Arc<Pace>,
    computing_since: Mutex<Option<Instant>>,
    /// Of its query, while that runs. The figures keep a plan and the rows of lookups: they are the
    /// query's to drop.
    profile: Mutex<Weak<QueryProfile>>,
}

impl Workload {
    /// Work that has not started.
    pub fn new(job: &JobName, name: impl Into<String>) -> Arc<Self> {
        let (pace, computing_since, profile) = Default::default();
        Arc::new(Self {
            job: job.clone(),
            name: name.into(),
            pace,
            computing_since,
            profile,
        })
    }

    /// How long it has waited only for its turn; zero while it waits for anything else.
    pub fn computing(&self) -> Duration {
        let since = *self
            .computing_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Its query runs, and has these figures.
    pub fn set_profile(&self, profile: &Arc<QueryProfile>) {
        let mut known = self.profile.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Arc::downgrade(profile);
    }

    /// The operator of its query that has computed longest so far.
    pub fn busiest(&self) -> Option<OperatorFigures> {
        let known = self.profile.lock().unwrap_or_else(PoisonError::into_inner);
        let profile = known.upgrade();
        drop(known);
        let operators = profile?.operators().into_iter();
        operators
            .filter(|operator| operator.compute_us.is_some_and(|us| us > 0))
            .max_by_key(|operator| operator.compute_us)
    }

    fn set_computing(&self, computing: bool) {
        let mut since = self
            .computing_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *since = computing.then(|| since.unwrap_or_else(Instant::now));
    }
}

/// Work that was spawned. If dropped, it stops, also in the middle of a query.
#[derive(Debug)]
pub struct Running<T> {
    task: JoinHandle<T>,
    pace: Arc<Pace>,
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.pace.cancel();
        self.task.abort();
    }
}

impl<T> Future for Running<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(context)
    }
}
