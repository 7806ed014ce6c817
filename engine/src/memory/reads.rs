//! Room for data that is read but not yet used.
//!
//! Owns: the waiting readers and the order in which room is granted. Does not own: what is dropped
//! when many wait (`task`).
//! Rule: room is granted in the order of requests; read-ahead comes last. One reader is always let
//! through, so that a read larger than all room passes alone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{oneshot, watch};

/// A queue shorter than this is not swept for cancelled waiters.
const SWEEP_AT_LEAST: usize = 64;

/// Room of a limited number of bytes; clones share it.
#[derive(Clone, Debug)]
pub struct Reads(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes_max: usize,
    state: Mutex<State>,
    stir: Arc<watch::Sender<()>>,
}

#[derive(Debug, Default)]
struct State {
    used: usize,
    first: VecDeque<Asked>,
    ahead: VecDeque<Asked>,
    /// At this length, cancelled waiters are removed from the queue: twice what the last sweep
    /// left.
    sweep_at: usize,
}

#[derive(Debug)]
struct Asked {
    bytes: usize,
    given: oneshot::Sender<ReadRoom>,
}

/// Granted room. It is released when dropped.
#[derive(Debug)]
pub struct ReadRoom {
    reads: Reads,
    bytes: usize,
}

impl Reads {
    /// Creates room of this many bytes; `stir` notifies tasks when a reader waits.
    pub fn new(bytes_max: usize, stir: Arc<watch::Sender<()>>) -> Self {
        Self(Arc::new(Inner {
            bytes_max,
            state: Mutex::default(),
            stir,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The size of the whole room.
    pub fn bytes_max(&self) -> usize {
        self.0.bytes_max
    }

    /// Bytes in use; more than the limit if a read returned more than expected.
    pub fn used(&self) -> usize {
        self.lock().used
    }

    /// Whether a reader waits that does more than read ahead.
    pub fn is_short(&self) -> bool {
        self.lock()
            .first
            .iter()
            .any(|asked| !asked.given.is_closed())
    }

    /// Waits for room. `ahead`: read-ahead, which waits behind all other readers. Never returns
    /// `None`: a waiter is never forgotten.
    pub async fn room(&self, bytes: usize, ahead: bool) -> Option<ReadRoom> {
        let (given, room) = oneshot::channel();
        self.ask(Asked { bytes, given }, ahead);
        self.give();
        if self.is_short() {
            self.0.stir.send_replace(());
        }
        room.await.ok()
    }

    fn ask(&self, asked: Asked, ahead: bool) {
        let mut state = self.lock();
        if state.first.len() + state.ahead.len() >= state.sweep_at.max(SWEEP_AT_LEAST) {
            state.first.retain(|asked| !asked.given.is_closed());
            state.ahead.retain(|asked| !asked.given.is_closed());
            state.sweep_at = 2 * (state.first.len() + state.ahead.len());
        }
        if ahead {
            state.ahead.push_back(asked)
        } else {
            state.first.push_back(asked)
        }
    }

    /// Grants room to the waiters at the front. Runs outside the lock: room that no waiter takes is
    /// released at once.
    fn give(&self) {
        let mut gifts = vec![];
        let mut state = self.lock();
        loop {
            let State {
                used, first, ahead, ..
            } = &mut *state;
            let gone = |queue: &VecDeque<Asked>| {
                queue.front().is_some_and(|asked| asked.given.is_closed())
            };
            while gone(first) {
                first.pop_front();
            }
            let queue = if first.is_empty() { ahead } else { first };
            while gone(queue) {
                queue.pop_front();
            }
            let fits =
                |asked: &Asked| *used == 0 || used.saturating_add(asked.bytes) <= self.0.bytes_max;
            if !queue.front().is_some_and(fits) {
                break;
            }
            let Some(asked) = queue.pop_front() else {
                break;
            };
            *used += asked.bytes;
            gifts.push((
                asked.given,
                ReadRoom {
                    reads: self.clone(),
                    bytes: asked.bytes,
                },
            ));
        }
        drop(state);
        for (given, room) in gifts {
            let _gone = given.send(room);
        }
    }
}

impl ReadRoom {
    /// Sets the room to the actual number of bytes, which may be more than was available.
    pub fn settle(&mut self, bytes: usize) {
        let mut state = self.reads.lock();
        state.used = state.used.saturating_sub(self.bytes).saturating_add(bytes);
        self.bytes = bytes;
        drop(state);
        self.reads.give();
    }
}

impl Drop for ReadRoom {
    fn drop(&mut self) {
        self.settle(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn those_who_gave_up_do_not_pile_up() {
        let reads = reads(1);
        let _all = reads.room(1, false).await.unwrap();
        for ahead in [true, false].repeat(1_000) {
            assert!(reads.room(1, ahead).now_or_never().is_none());
        }
        let state = reads.lock();
        assert!(state.first.len() + state.ahead.len() <= SWEEP_AT_LEAST);
    }

    fn reads(bytes: usize) -> Reads {
        Reads::new(bytes, Arc::new(watch::Sender::new(())))
    }

    #[tokio::test]
    async fn room_is_given_in_turn_and_who_reads_ahead_comes_last() {
        let reads = reads(100);
        let mut held = reads.room(80, false).await.unwrap();
        let mut ahead = std::pin::pin!(reads.room(10, true));
        assert!(
            ahead.as_mut().now_or_never().is_some(),
            "it fits, and nobody else waits"
        );
        let mut first = std::pin::pin!(reads.room(60, false));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(reads.is_short());
        let mut ahead = std::pin::pin!(reads.room(10, true));
        assert!(
            ahead.as_mut().now_or_never().is_none(),
            "it would fit, but somebody waits before it"
        );
        held.settle(10);
        let _first = first.as_mut().now_or_never().flatten().unwrap();
        assert!(!reads.is_short());
        assert!(ahead.as_mut().now_or_never().flatten().is_some());
    }

    #[tokio::test]
    async fn what_is_larger_than_all_room_passes_alone_and_a_cancelled_wait_holds_up_no_others() {
        let reads = reads(100);
        let small = reads.room(1, false).await.unwrap();
        {
            let gave_up = std::pin::pin!(reads.room(500, false));
            assert!(gave_up.now_or_never().is_none());
        }
        assert!(!reads.is_short());
        let mut large = std::pin::pin!(reads.room(500, false));
        assert!(large.as_mut().now_or_never().is_none());
        drop(small);
        let large = large.as_mut().now_or_never().flatten().unwrap();
        assert_eq!(reads.used(), 500);
        drop(large);
        assert_eq!(reads.used(), 0);
    }
}
