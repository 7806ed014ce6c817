//! The lease that holds the leader key, and what it proves.
//!
//! Owns: renewals, the local deadline, giving up. Does not own: the election.
//! Rule: a renewal proves leadership from when it was sent, never from when its answer arrived.

use super::members::{Failure, Members};
use crate::store::Leadership;
use crate::store::leadership::Keeper;
use etcd_client::Error;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use streamctl_proto::Term;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Renewals per lease: with a time-out as long as the interval, several may fail in a row.
const RENEWALS_PER_TTL: u32 = 6;
/// Leadership ends this long before the lease can expire, to cover the time between reading the
/// clock and acting on it.
const LEASE_MARGIN: Duration = Duration::from_millis(500);

/// A lease that holds the leader key.
pub(super) struct Lease {
    pub(super) id: i64,
    pub(super) ttl: Duration,
    pub(super) members: Arc<Members>,
    pub(super) key: String,
}

enum Renewal {
    Done,
    /// There was no answer; the next renewal may succeed.
    Failed(String),
    /// The lease or the key is gone.
    Gone,
}

impl Lease {
    /// Leads from the moment the lease was requested, and renews it in the background. `revision`
    /// created the leader key.
    pub(super) fn lead(self, term: Term, revision: i64, requested: Instant) -> Leadership {
        let (resign, resigned) = oneshot::channel::<oneshot::Sender<()>>();
        let release = Box::new(move || -> BoxFuture<'static, ()> {
            Box::pin(async move {
                let (done, is_done) = oneshot::channel();
                if resign.send(done).is_ok() {
                    let _ended = is_done.await; // an error: the keeper ended by itself, which is as good
                }
            })
        });
        let (leadership, keeper) = Leadership::until(term, requested + self.trust(), release);
        tokio::spawn(self.keep(term, revision, keeper, resigned));
        leadership
    }

    /// How long a renewal proves that this process leads, from when it was sent.
    fn trust(&self) -> Duration {
        self.ttl.saturating_sub(LEASE_MARGIN)
    }

    async fn keep(
        self,
        term: Term,
        revision: i64,
        keeper: Keeper,
        resigned: oneshot::Receiver<oneshot::Sender<()>>,
    ) {
        tokio::select! {
            biased;
            done = resigned => {
                keeper.lose();
                // Dropping it without resigning is as if the process had died: the lease expires.
                if let Ok(done) = done {
                    self.revoke().await;
                    let _nobody_waits = done.send(());
                }
            }
            () = keeper.lost() => {
                tracing::warn!(%term, "etcd did not renew the lease in time, so this process no longer leads");
                self.revoke().await;
            }
            () = self.renew_until_gone(term, revision, &keeper) => {
                tracing::warn!(%term, "the leader key is gone, so this process no longer leads");
                keeper.lose();
                self.revoke().await;
            }
        }
    }

    async fn renew_until_gone(&self, term: Term, revision: i64, keeper: &Keeper) {
        let mut ticks = interval(self.ttl / RENEWALS_PER_TTL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let sent = Instant::now();
            match self.renew(revision).await {
                Renewal::Done => drop(keeper.extend(sent + self.trust())),
                Renewal::Failed(reason) => {
                    tracing::debug!(%term, reason, "the lease was not renewed this time")
                }
                Renewal::Gone => return,
            }
        }
    }

    /// Renews over a stream of its own, so that the next renewal can go to another member.
    async fn renew(&self, revision: i64) -> Renewal {
        let id = self.id;
        let key = self.key.clone();
        let renewal = self
            .members
            .call_current(self.ttl / RENEWALS_PER_TTL, |client| async move {
                client.lease_client().keep_alive(id).await?;
                client.kv_client().get(key, None).await
            });
        match renewal.await {
            Ok(response) => {
                let mine = response
                    .kvs()
                    .iter()
                    .any(|cell| cell.create_revision() == revision);
                if mine { Renewal::Done } else { Renewal::Gone }
            }
            Err(Failure::Etcd(Error::LeaseKeepAliveError(_))) => Renewal::Gone,
            Err(failure) => Renewal::Failed(failure.to_string()),
        }
    }

    /// Ends the lease and with it the key; if that fails, the lease expires.
    pub(super) async fn revoke(&self) {
        let id = self.id;
        if let Err(error) = self
            .members
            .call(|client| async move { client.lease_client().revoke(id).await })
            .await
        {
            tracing::debug!(lease = id, %error, "the lease was not revoked and will expire");
        }
    }
}
