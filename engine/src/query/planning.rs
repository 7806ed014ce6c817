//! Threads on which queries are planned.
//!
//! Owns: how many plannings run at once, their stack, their deadline. Does not own: what a planning
//! does (`sql`).
//! Rule: no query is parsed, planned or dropped half-built on a thread of a runtime: leases,
//! heartbeats and other calls are served while a query is planned, however long that takes.

use super::error::QueryError;
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, oneshot};

/// Queries that one process plans at once.
pub const PLANNINGS_MAX: usize = 2;
/// Queries that may wait to be planned; further ones are refused as busy.
pub const PLANNINGS_WAITING_MAX: usize = 64;
/// How long a query waits to be planned; then it is refused as busy.
pub const PLANNING_WAIT_MAX: Duration = Duration::from_secs(20);
/// Time in which a query must be planned.
pub const PLANNING_TIME_MAX: Duration = Duration::from_secs(10);
/// Stack of a planning thread. Only what is used takes memory.
pub const PLANNING_STACK_BYTES: usize = 512 << 20;

static SLOTS: Semaphore = Semaphore::const_new(PLANNINGS_MAX);
static WAITING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The deadline of the planning on this thread.
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Whether the planning on this thread exceeded its deadline. Rules of the optimizer and bounded
/// functions check it, so that an abandoned planning ends soon.
pub(super) fn is_late() -> bool {
    DEADLINE
        .get()
        .is_some_and(|deadline| Instant::now() >= deadline)
}

/// Runs `work` on a planning thread, without blocking the caller's thread.
///
/// On a runtime with a single thread, the caller's thread waits: it could serve nothing else
/// meanwhile, and tests with a simulated clock stay deterministic.
///
/// # Errors
/// [`QueryError::Busy`] if too many others are being planned, [`QueryError::Late`] if the deadline
/// passes, and what `work` returns.
pub(super) async fn bounded<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, QueryError> + Send + 'static,
) -> Result<T, QueryError> {
    if Handle::try_current()
        .is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::CurrentThread)
    {
        return blocking(work);
    }
    let slot = slot().await?;
    let (sender, receiver) = oneshot::channel();
    spawn(move || {
        let done = until_deadline(work);
        // The thread frees the slot when it ends, not the caller when it gives up: this bounds the
        // number of planning threads.
        drop(slot);
        let _given_up = sender.send(done);
    })?;
    match tokio::time::timeout(PLANNING_TIME_MAX, receiver).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err(QueryError::Plan("its planning thread ended early".into())),
        Err(_) => Err(QueryError::Late {
            limit: PLANNING_TIME_MAX,
        }),
    }
}

/// Like [`bounded`], for a caller that may block: a program of one user, a test.
///
/// # Errors
/// Like [`bounded`], without [`QueryError::Busy`].
pub(super) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, QueryError> + Send + 'static,
) -> Result<T, QueryError> {
    let (sender, receiver) = std::sync::mpsc::channel();
    spawn(move || {
        let _given_up = sender.send(until_deadline(work));
    })?;
    match receiver.recv_timeout(PLANNING_TIME_MAX) {
        Ok(done) => done,
        Err(RecvTimeoutError::Timeout) => Err(QueryError::Late {
            limit: PLANNING_TIME_MAX,
        }),
        Err(RecvTimeoutError::Disconnected) => {
            Err(QueryError::Plan("its planning thread ended early".into()))
        }
    }
}

async fn slot() -> Result<tokio::sync::SemaphorePermit<'static>, QueryError> {
    if let Ok(slot) = SLOTS.try_acquire() {
        return Ok(slot);
    }
    let _place = WaitingPlace::take().ok_or(QueryError::Busy)?;
    match tokio::time::timeout(PLANNING_WAIT_MAX, SLOTS.acquire()).await {
        Ok(Ok(slot)) => Ok(slot),
        Ok(Err(_)) | Err(_) => Err(QueryError::Busy),
    }
}

/// A place in the queue of waiting queries.
struct WaitingPlace;

impl WaitingPlace {
    fn take() -> Option<Self> {
        let place = Self;
        // On refusal the place is dropped at once, which decrements the count.
        (WAITING.fetch_add(1, Ordering::Relaxed) < PLANNINGS_WAITING_MAX).then_some(place)
    }
}

impl Drop for WaitingPlace {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), QueryError> {
    let thread = std::thread::Builder::new()
        .name("planner".into())
        .stack_size(PLANNING_STACK_BYTES);
    thread
        .spawn(work)
        .map(drop)
        .map_err(|error| QueryError::Plan(format!("no thread to plan it on: {error}")))
}

fn until_deadline<T>(work: impl FnOnce() -> Result<T, QueryError>) -> Result<T, QueryError> {
    DEADLINE.set(Some(Instant::now() + PLANNING_TIME_MAX));
    match std::panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(Err(_)) if is_late() => Err(QueryError::Late {
            limit: PLANNING_TIME_MAX,
        }),
        Ok(done) => done,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no reason was given");
            Err(QueryError::Plan(format!("the planner failed: {text}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn the_runtime_answers_while_queries_are_planned_and_more_wait_their_turn() {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let held = tokio::spawn(bounded(move || {
            wait.recv().map_err(|_| QueryError::Busy)?;
            Ok(1)
        }));
        // The only thread of this runtime is free: it plans another query meanwhile.
        assert_eq!(bounded(|| Ok(2)).await.unwrap(), 2);
        go.send(()).unwrap();
        assert_eq!(held.await.unwrap().unwrap(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_and_a_deep_recursion_are_errors_of_the_query_and_end_nothing_else() {
        fn deep(levels: usize) -> usize {
            let room = std::hint::black_box([levels; 64]);
            if levels == 0 {
                0
            } else {
                deep(levels - 1) + room[1] / levels
            }
        }
        let failed = bounded::<()>(|| panic!("an invariant")).await.unwrap_err();
        assert!(failed.to_string().contains("an invariant"), "{failed}");
        assert_eq!(bounded(|| Ok(deep(100_000))).await.unwrap(), 100_000);
    }

    #[test]
    fn no_more_queries_wait_than_there_are_places() {
        let places: Vec<_> = (0..PLANNINGS_WAITING_MAX)
            .map(|_| WaitingPlace::take())
            .collect();
        let taken = places.iter().filter(|place| place.is_some()).count();
        assert!(WaitingPlace::take().is_none());
        drop(places);
        assert!(taken > PLANNINGS_WAITING_MAX / 2 && WaitingPlace::take().is_some());
    }
}
