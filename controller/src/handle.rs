//! How services reach the core of the leader that runs in this process.
//!
//! Owns: the channel to the driver and back, statuses that all callers share. Does not own: the
//! questions.
//! Rule: only the driver accesses the core; others send it an event or a question, and wait.
//! However many callers request a status, the driver computes it once per [`STATUS_INTERVAL`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use streamctl_core::{Core, Event};
use streamctl_proto::{JobName, Term, v1};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tonic::Status;

/// Most events and questions that may wait for the driver.
pub const INBOX_MAX: usize = 1_024;

/// Shortest time between two computations of one status.
pub const STATUS_INTERVAL: Duration = Duration::from_millis(200);
/// Most statuses in the cache; if there are more, the cache is cleared.
pub const STATUSES_MAX: usize = 2_048;

/// A question to the core.
pub type Question = Box<dyn FnOnce(&Core) + Send>;

/// What the driver receives from outside.
pub enum Input {
    Event(Event),
    /// A query of the core's state.
    Question(Question),
}

/// This process does not lead any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this controller does not lead")]
pub struct NotLeading;

/// Why a wait for the core ended without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoResult {
    NotLeading,
    /// The time is over.
    Late,
}

/// A channel to the driver; cheap to clone, closed when the term is over.
#[derive(Clone)]
pub struct Handle {
    /// The term of this leader.
    pub term: Term,
    inbox: mpsc::Sender<Input>,
    changed: watch::Receiver<u64>,
    reported: Arc<AtomicU64>,
    jobs: Statuses,
    all: Slot<Vec<v1::JobStatus>>,
}

/// By job, and whether the status is brief.
type Statuses = Arc<Mutex<BTreeMap<(JobName, bool), Slot<Option<v1::JobStatus>>>>>;

/// A result that callers share. It is locked while it is computed: every caller that waits for the
/// lock needs the same result.
type Slot<T> = Arc<tokio::sync::Mutex<Option<Shared<T>>>>;

/// A result, its time, and the version of the core's state that it is from.
struct Shared<T> {
    result: T,
    made: Instant,
    version: u64,
}

impl Handle {
    /// For a driver: the handle, and the driver's two ends of it.
    pub fn new(term: Term) -> (Self, mpsc::Receiver<Input>, watch::Sender<u64>) {
        let (inbox, receiver) = mpsc::channel(INBOX_MAX);
        let (sender, changed) = watch::channel(0);
        (
            Self {
                term,
                inbox,
                changed,
                reported: Arc::default(),
                jobs: Arc::default(),
                all: Slot::default(),
            },
            receiver,
            sender,
        )
    }

    /// Sends an event to the core; waits while its inbox is full.
    pub async fn send(&self, event: Event) -> Result<(), NotLeading> {
        self.inbox
            .send(Input::Event(event))
            .await
            .map_err(|_| NotLeading)?;
        self.reported.fetch_add(1, Ordering::Release);
        Ok(())
    }

    pub async fn query<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Result<T, NotLeading> {
        let (sender, result) = oneshot::channel();
        let question: Question = Box::new(move |core| {
            let _gone = sender.send(question(core));
        });
        self.inbox
            .send(Input::Question(question))
            .await
            .map_err(|_| NotLeading)?;
        result.await.map_err(|_| NotLeading)
    }

    /// Waits until `read` finds its result: it reads the core now and after each change.
    ///
    /// # Errors
    /// This process stopped leading, or the time is over.
    pub async fn until<T: Send + 'static>(
        &self,
        limit: Duration,
        read: impl Fn(&Core) -> Option<T> + Send + Sync + 'static,
    ) -> Result<T, NoResult> {
        let read = Arc::new(read);
        let mut handle = self.clone();
        let found = async {
            loop {
                let read = Arc::clone(&read);
                if let Some(found) = handle.query(move |core| read(core)).await? {
                    return Ok(found);
                }
                handle.changed().await?;
            }
        };
        let found = tokio::time::timeout(limit, found).await;
        match found {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(NotLeading)) => Err(NoResult::NotLeading),
            Err(_) => Err(NoResult::Late),
        }
    }

    /// The status of a job, from now or later.
    pub async fn status(
        &self,
        job: JobName,
        brief: bool,
    ) -> Result<Option<v1::JobStatus>, NotLeading> {
        let slot = {
            let mut slots = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            if slots.len() >= STATUSES_MAX {
                slots.clear();
            }
            Arc::clone(slots.entry((job.clone(), brief)).or_default())
        };
        self.shared(&slot, move |core| core.status(&job, brief))
            .await
    }

    /// The brief statuses of all jobs, from now or later.
    pub async fn statuses(&self) -> Result<Vec<v1::JobStatus>, NotLeading> {
        self.shared(&self.all, |core| {
            core.jobs
                .keys()
                .filter_map(|name| core.status(name, true))
                .collect()
        })
        .await
    }

    async fn shared<T: Clone + Send + 'static>(
        &self,
        slot: &Slot<T>,
        question: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Result<T, NotLeading> {
        let began = Instant::now();
        let wanted = self.version();
        let mut slot = slot.lock().await;
        if let Some(last) = &*slot {
            if last.version >= wanted && last.made + STATUS_INTERVAL > began {
                return Ok(last.result.clone());
            }
            tokio::time::sleep_until(last.made + STATUS_INTERVAL).await;
        }
        let version = self.version();
        let made = Instant::now();
        let result = self.query(question).await?;
        *slot = Some(Shared {
            result: result.clone(),
            made,
            version,
        });
        Ok(result)
    }

    /// Increases with every event that was sent and every change of the core: a result of this
    /// version includes all of them.
    fn version(&self) -> u64 {
        self.reported.load(Ordering::Acquire) + *self.changed.borrow()
    }

    /// Waits until the core has applied an event since the last call.
    pub async fn changed(&mut self) -> Result<(), NotLeading> {
        self.changed.changed().await.map_err(|_| NotLeading)
    }
}

impl NoResult {
    /// `late` is the refusal of a caller whose time is over.
    pub fn or_late(self, late: impl FnOnce() -> Status) -> Status {
        match self {
            Self::NotLeading => NotLeading.into(),
            Self::Late => late(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use streamctl_core::CoreSettings;

    /// A driver of a core without jobs that counts questions.
    fn driver() -> (Handle, watch::Sender<u64>, Arc<AtomicUsize>) {
        let (handle, mut inbox, changed) = Handle::new(Term(1));
        let requested = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requested);
        tokio::spawn(async move {
            let core = Core::new(Term(1), 0, CoreSettings::default());
            while let Some(input) = inbox.recv().await {
                if let Input::Question(question) = input {
                    counted.fetch_add(1, Ordering::Relaxed);
                    question(&core);
                }
            }
        });
        (handle, changed, requested)
    }

    async fn all_ask(handle: &Handle) {
        let job: JobName = "sales".parse().unwrap();
        let queries = (0..100).map(|_| handle.status(job.clone(), false));
        for result in futures::future::join_all(queries).await {
            assert_eq!(result.unwrap(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_reads_the_core_after_each_change_until_its_time_is_over() {
        let (handle, changed, requested) = driver();
        let limit = Duration::from_secs(5);
        let reads = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&reads);
        let third = move |_: &Core| (seen.fetch_add(1, Ordering::Relaxed) == 2).then_some("x");
        let notify = async {
            for _ in 0..2 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                changed.send_modify(|count| *count += 1);
            }
        };
        let (found, ()) = tokio::join!(handle.until(limit, third), notify);
        assert_eq!((found, requested.load(Ordering::Relaxed)), (Ok("x"), 3));
        let never = handle.until(limit, |_| None::<()>).await;
        assert_eq!(never, Err(NoResult::Late));
        drop(changed);
        let over = handle.until(limit, |_| None::<()>).await;
        assert_eq!(over, Err(NoResult::NotLeading));
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_is_computed_once_for_all_simultaneous_requests() {
        let (handle, changed, requested) = driver();
        all_ask(&handle).await;
        all_ask(&handle).await;
        assert_eq!(
            requested.load(Ordering::Relaxed),
            1,
            "nothing changed, and no time passed"
        );
        let began = Instant::now();
        changed.send_modify(|count| *count += 1);
        all_ask(&handle).await;
        assert_eq!(
            requested.load(Ordering::Relaxed),
            2,
            "what has changed is seen, by all at once"
        );
        assert_eq!(began.elapsed(), STATUS_INTERVAL);
        tokio::time::sleep(STATUS_INTERVAL).await;
        all_ask(&handle).await;
        assert_eq!(
            requested.load(Ordering::Relaxed),
            3,
            "time alone changes a status"
        );
    }
}
