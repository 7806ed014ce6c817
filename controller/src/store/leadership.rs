//! Proof that this process leads, for as long as it can be proven.
//!
//! Owns: the local deadline. Does not own: how it is extended (each store).
//! Rule: leadership that was lost stays lost; a process that slept beyond its deadline notices this
//! before it does anything else.

use futures::future::BoxFuture;
use std::future::Future;
use streamctl_proto::Term;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What is known about the leadership now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// No other process can lead before this process ends.
    Always,
    /// No other process can lead before this moment.
    Until(Instant),
    Lost,
}

impl Proof {
    fn holds(self) -> bool {
        match self {
            Self::Always => true,
            Self::Until(deadline) => Instant::now() < deadline,
            Self::Lost => false,
        }
    }
}

/// The store's half: extends the deadline or ends the leadership. Dropping it ends the leadership.
#[derive(Debug)]
pub(super) struct Keeper(watch::Sender<Proof>);

impl Keeper {
    /// Extends the deadline, unless it has passed. Returns whether leadership holds.
    pub(super) fn extend(&self, deadline: Instant) -> bool {
        self.0.send_if_modified(|proof| {
            let holds = proof.holds();
            *proof = if holds {
                Proof::Until(deadline)
            } else {
                Proof::Lost
            };
            true
        });
        self.0.borrow().holds()
    }
    pub(super) fn lose(&self) {
        self.0.send_replace(Proof::Lost);
    }
    /// Waits until leadership is lost.
    pub(super) fn lost(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        wait_until_lost(self.0.subscribe())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.lose();
    }
}

type Release = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send + Sync>;

/// This process leads under [`Leadership::term`] until leadership is lost or resigned.
///
/// If it is dropped without [`Leadership::resign`], this is as if the process had died: another
/// candidate wins once the lease has expired.
pub struct Leadership {
    pub term: Term,
    proof: watch::Receiver<Proof>,
    release: Release,
}

impl Leadership {
    /// Leadership that holds until its keeper ends it.
    pub(super) fn always(term: Term, release: Release) -> (Self, Keeper) {
        Self::with(term, Proof::Always, release)
    }
    /// Leadership that holds until `deadline`, which its keeper extends.
    pub(super) fn until(term: Term, deadline: Instant, release: Release) -> (Self, Keeper) {
        Self::with(term, Proof::Until(deadline), release)
    }
    fn with(term: Term, proof: Proof, release: Release) -> (Self, Keeper) {
        let (keeper, proof) = watch::channel(proof);
        (
            Self {
                term,
                proof,
                release,
            },
            Keeper(keeper),
        )
    }
    /// Whether it can no longer be proven that this process leads.
    pub fn is_lost(&self) -> bool {
        !self.proof.borrow().holds()
    }
    /// Completes when leadership is lost or can no longer be proven, before another process can
    /// lead.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        wait_until_lost(self.proof.clone())
    }
    /// Gives up leadership: a waiting candidate leads at once. Has no effect if it was already
    /// lost.
    pub async fn resign(self) {
        (self.release)().await;
    }
}

impl std::fmt::Debug for Leadership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leadership")
            .field("term", &self.term)
            .field("lost", &self.is_lost())
            .finish()
    }
}

async fn wait_until_lost(mut proof: watch::Receiver<Proof>) {
    loop {
        let now = *proof.borrow_and_update();
        if !now.holds() {
            return;
        }
        let deadline = async move {
            match now {
                Proof::Until(deadline) => sleep_until(deadline).await,
                Proof::Always | Proof::Lost => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = proof.changed() => if changed.is_err() { return },
            () = deadline => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn nothing() -> Release {
        Box::new(|| Box::pin(async {}))
    }

    #[tokio::test]
    async fn leadership_that_is_not_extended_is_lost_at_its_deadline() {
        let deadline = Instant::now() + Duration::from_millis(20);
        let (leadership, keeper) = Leadership::until(Term(1), deadline, nothing());
        keeper.extend(deadline + Duration::from_millis(30));
        leadership.lost().await;
        assert!(Instant::now() >= deadline);
        assert!(leadership.is_lost());
    }

    #[tokio::test]
    async fn an_answer_that_comes_after_the_deadline_does_not_bring_leadership_back() {
        let passed = Instant::now();
        let (leadership, keeper) = Leadership::until(Term(1), passed, nothing());
        assert!(leadership.is_lost());
        assert!(!keeper.extend(passed + Duration::from_secs(3600)));
        assert!(leadership.is_lost());
    }

    #[tokio::test]
    async fn a_keeper_that_ends_takes_leadership_with_it() {
        let (leadership, keeper) = Leadership::always(Term(1), nothing());
        assert!(!leadership.is_lost());
        drop(keeper);
        leadership.lost().await;
        assert!(leadership.is_lost());
    }
}
