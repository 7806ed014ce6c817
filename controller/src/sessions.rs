//! The connections to the workers: which worker has a session, and the queue of messages to it.
//!
//! Owns: one bounded queue per session. Does not own: which worker lives (`core`), the gRPC stream
//! (`service::workers`).
//! Rule: a worker that does not read its messages loses its session; it reconnects and reports its
//! state.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use streamctl_core::SessionId;
use streamctl_proto::{WorkerId, v1};
use tokio::sync::mpsc;
use tonic::Status;

/// Most messages that may wait for one worker. A worker with a longer queue has stopped reading.
pub const QUEUE_MAX: usize = 4_096;

/// The messages to one worker.
pub type Outbox = mpsc::Receiver<Outgoing>;

/// A message, or why the session ends.
type Outgoing = Result<v1::ControllerMessage, Status>;

/// The connections to the workers.
#[derive(Debug, Default)]
pub struct Sessions {
    next: AtomicU64,
    open: Mutex<BTreeMap<WorkerId, (SessionId, mpsc::Sender<Outgoing>)>>,
}

impl Sessions {
    /// Opens a session and ends the worker's previous one.
    pub fn open(&self, worker: WorkerId) -> (SessionId, Outbox) {
        let session = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, outbox) = mpsc::channel(QUEUE_MAX);
        self.lock().insert(worker, (session, sender));
        (session, outbox)
    }

    /// Ends a session, unless the worker has a newer one.
    pub fn close(&self, worker: &WorkerId, session: SessionId) {
        let mut open = self.lock();
        if open
            .get(worker)
            .is_some_and(|(current, _)| *current == session)
        {
            open.remove(worker);
        }
    }

    /// Ends a session with a reason, unless the worker has a newer one.
    pub fn refuse(&self, worker: &WorkerId, session: SessionId, why: Status) {
        let mut open = self.lock();
        if open
            .get(worker)
            .is_some_and(|(current, _)| *current == session)
            && let Some((_, sender)) = open.remove(worker)
        {
            // If the queue is full, the session ends without a reason.
            let _full = sender.try_send(Err(why));
        }
    }

    /// Sends a message to a worker. If it cannot be sent, the session ends.
    pub fn send(&self, worker: &WorkerId, message: v1::controller_message::Message) {
        let mut open = self.lock();
        let Some((_, sender)) = open.get(worker) else {
            return;
        };
        if sender
            .try_send(Ok(v1::ControllerMessage {
                message: Some(message),
            }))
            .is_err()
        {
            tracing::warn!(%worker, "worker does not take its messages, its session ends");
            open.remove(worker);
        }
    }

    /// Sends a message to every worker. A session with a full queue ends.
    pub fn broadcast(&self, message: &v1::controller_message::Message) {
        let copy = || {
            Ok(v1::ControllerMessage {
                message: Some(message.clone()),
            })
        };
        self.lock()
            .retain(|_, (_, sender)| sender.try_send(copy()).is_ok());
    }

    /// Ends all sessions: leadership is over.
    pub fn close_all(&self) {
        self.lock().clear();
    }

    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, BTreeMap<WorkerId, (SessionId, mpsc::Sender<Outgoing>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[tokio::test]
    async fn a_refused_session_gets_the_reason_and_a_newer_one_continues() {
        let sessions = Sessions::default();
        let worker = WorkerId::new("w");
        let (first, mut refused) = sessions.open(worker.clone());
        sessions.refuse(&worker, first, Status::invalid_argument("window: is none"));
        let why = refused.recv().await.unwrap().unwrap_err();
        assert_eq!(
            (why.code(), why.message()),
            (Code::InvalidArgument, "window: is none")
        );
        assert!(refused.recv().await.is_none(), "nothing follows");
        let (_, mut newer) = sessions.open(worker.clone());
        sessions.refuse(&worker, first, Status::invalid_argument("late"));
        sessions.send(
            &worker,
            v1::controller_message::Message::Welcome(v1::Welcome {
                term: 1,
                heartbeat_ms: 1,
            }),
        );
        assert!(newer.recv().await.unwrap().is_ok());
    }
}
