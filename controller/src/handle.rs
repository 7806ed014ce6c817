//! How services reach the core of the leader that runs in this process.
//!
//! Rule: nobody but the driver touches the core; others send it an event or a question, and wait.

use crate::core::{Core, Event};
use streamctl_proto::Term;
use tokio::sync::{mpsc, oneshot, watch};

/// Events and questions that may wait for the driver.
pub const INBOX_MAX: usize = 1_024;

/// A question to the core.
pub type Question = Box<dyn FnOnce(&Core) + Send>;

/// What the driver takes from outside.
pub enum Input {
    /// Something happened.
    Event(Event),
    /// Somebody wants to know something.
    Question(Question),
}

/// This process does not lead any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this controller does not lead")]
pub struct NotLeading;

/// A line to the driver; cheap to clone, dead when the term is over.
#[derive(Clone)]
pub struct Handle {
    /// The term of this leader.
    pub term: Term,
    inbox: mpsc::Sender<Input>,
    changed: watch::Receiver<u64>,
}

impl Handle {
    /// For a driver: the line, and its two other ends.
    pub fn new(term: Term) -> (Self, mpsc::Receiver<Input>, watch::Sender<u64>) {
        let (inbox, receiver) = mpsc::channel(INBOX_MAX);
        let (sender, changed) = watch::channel(0);
        (Self { term, inbox, changed }, receiver, sender)
    }

    /// Tells the core that something happened; waits while its inbox is full.
    pub async fn tell(&self, event: Event) -> Result<(), NotLeading> {
        self.inbox.send(Input::Event(event)).await.map_err(|_| NotLeading)
    }

    /// Asks the core.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Result<T, NotLeading> {
        let (sender, answer) = oneshot::channel();
        let question: Question = Box::new(move |core| {
            let _gone = sender.send(question(core));
        });
        self.inbox.send(Input::Question(question)).await.map_err(|_| NotLeading)?;
        answer.await.map_err(|_| NotLeading)
    }

    /// Waits until the core has taken an event since the last call.
    pub async fn changed(&mut self) -> Result<(), NotLeading> {
        self.changed.changed().await.map_err(|_| NotLeading)
    }
}
