//! The functions of one task.
//!
//! Owns: how many there are, and which is called next. Does not own: a call.
//! Rule: a function is kept from call to call as long as it works, and ends with its task.

use super::{Child, Code, Function, FunctionError, Limits, Remote, Runner};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use streamctl_proto::JobName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// The functions of one task.
#[derive(Debug)]
pub struct FunctionPool(Arc<Shared>);

struct Shared {
    runner: Runner,
    code: Code,
    limits: Limits,
    job: JobName,
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<Box<dyn Function>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FunctionPool")
            .field("job", &self.job)
            .field("code", &self.code)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

impl FunctionPool {
    /// `slots`: most calls at the same time that wait for each other, each with a child of its own.
    pub fn new(runner: Runner, code: Code, limits: Limits, job: JobName, slots: usize) -> Self {
        Self(Arc::new(Shared {
            runner,
            code,
            limits,
            job,
            slots: Arc::new(Semaphore::new(slots.max(1))),
            idle: Mutex::default(),
        }))
    }

    /// Waits for a slot. Starts a function if none is idle.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn acquire(&self) -> Result<Lease, FunctionError> {
        let permit = Arc::clone(&self.0.slots).acquire_owned().await;
        let permit = permit.map_err(|_| closed())?;
        self.lease(Some(permit)).await
    }

    /// The same without a wait: if no slot is free, a function beyond them is started, and ends with
    /// the call. For the call of a whole window: windows that hold the slots may wait for an older
    /// one, and so may not be waited for.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn acquire_at_once(&self) -> Result<Lease, FunctionError> {
        let permit = match Arc::clone(&self.0.slots).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(TryAcquireError::NoPermits) => None,
            Err(TryAcquireError::Closed) => return Err(closed()),
        };
        self.lease(permit).await
    }

    async fn lease(&self, permit: Option<OwnedSemaphorePermit>) -> Result<Lease, FunctionError> {
        let function = match self.0.next_idle().await {
            Some(function) => function,
            None => self.0.start().await?,
        };
        Ok(Lease {
            function: Some(function),
            shared: Arc::clone(&self.0),
            permit,
        })
    }

    /// Ends idle functions in an orderly way; those that are called end with their call.
    pub async fn close(&self) {
        self.0.slots.close();
        let idle = std::mem::take(&mut *self.0.idle());
        futures::future::join_all(idle.into_iter().map(|function| function.close())).await;
    }
}

fn closed() -> FunctionError {
    FunctionError::NotStarted {
        step: "slot".into(),
        problem: "the task has ended".into(),
        log: vec![],
    }
}

impl Shared {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Box<dyn Function>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next that takes another call. One that does not any more, because its keys end, is
    /// ended.
    async fn next_idle(&self) -> Option<Box<dyn Function>> {
        loop {
            let idle = self.idle().pop()?;
            if idle.is_usable() {
                return Some(idle);
            }
            idle.close().await;
        }
    }

    async fn start(&self) -> Result<Box<dyn Function>, FunctionError> {
        Ok(match &self.runner {
            Runner::Child(settings) => {
                let child = Child::start(settings, &self.code, &self.limits, &self.job).await?;
                tracing::info!(
                    job = self.job.as_str(),
                    python = child.ready().python,
                    protection = %child.protection(),
                    "function started"
                );
                Box::new(child)
            }
            Runner::Remote(settings) => {
                Box::new(Remote::connect(settings, &self.code, &self.limits).await?)
            }
            #[cfg(any(test, feature = "test-util"))]
            Runner::Fake(script) => {
                let script = Arc::clone(script);
                Box::new(super::fake::FakeFunction::new(script, self.limits.timeout))
            }
        })
    }
}

/// A function, for one call.
pub struct Lease {
    function: Option<Box<dyn Function>>,
    shared: Arc<Shared>,
    /// `None`: beyond the slots.
    permit: Option<OwnedSemaphorePermit>,
}

impl Deref for Lease {
    type Target = dyn Function;

    fn deref(&self) -> &Self::Target {
        self.function.as_deref().expect("it is there until the end")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.function
            .as_deref_mut()
            .expect("it is there until the end")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Before the slot is free again.
        if let Some(function) = self.function.take()
            && function.is_usable()
            && self.permit.is_some()
            && !self.shared.slots.is_closed()
        {
            self.shared.idle().push(function);
        }
    }
}
