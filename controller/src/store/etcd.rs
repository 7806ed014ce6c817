//! The store in etcd: for several controllers on several machines.
//!
//! Owns: election, fencing compares, transactions. Does not own: stored forms (`cells`), keys, the
//! lease's life.
//! Rule: the term is the create revision of the leader key, plus a base above all terms from before
//! this etcd was restored from a copy. Every write is one transaction that compares it. The client
//! library re-establishes neither watches nor keep-alives; this store opens each of them again,
//! with a deadline.

mod lease;
mod members;

use super::{
    Anchors, Block, CommitOutcome, CreateOutcome, DesiredState, Entry, JobKey, Keys, LeaderRecord,
    Leadership, Repair, Replays, Store, StoreError, StoredJob, WriteOutcome, cells,
};
use async_trait::async_trait;
use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, EventType, GetOptions, KeyValue, KvClient,
    PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse, WatchOptions,
};
use lease::Lease;
pub use members::EtcdLogin;
use members::Members;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use streamctl_engine::security::Dialer;
use streamctl_proto::{Epoch, JobName, ManifestRef, ResolvedJob, Term};
use tokio::time::{Instant, sleep, timeout};

/// How long a leader that sends no renewal still leads. etcd notices within another 0.5 s, so a
/// standby leads within 6 s.
pub const LEASE_TTL_S: u64 = 4;
/// A waiting candidate checks again after this time, regardless of its watch.
const CAMPAIGN_RETRY: Duration = Duration::from_secs(1);
/// Keys per read: with the largest values that etcd accepts, 1.5 MiB each, an answer stays below
/// [`ANSWER_BYTES_MAX`].
const LOAD_PAGE_KEYS: i64 = 32;
/// Largest accepted answer; etcd itself accepts values of up to 1.5 MiB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Settings of the connection to etcd.
#[derive(Clone)]
pub struct EtcdSettings {
    /// `http://host:port`, or `https://`, of each member.
    pub endpoints: Vec<String>,
    /// Names this cluster's keys; no slash.
    pub cluster: String,
    /// [`LEASE_TTL_S`] by default; etcd raises it to 1.5 of its election time-outs.
    pub lease_ttl_s: u64,
    /// Trusted CAs and client certificate, if members use TLS.
    pub dialer: Dialer,
    /// The user of this process and its password. None: etcd requires none, or uses the
    /// certificate's name.
    pub login: Option<EtcdLogin>,
}

/// A candidate on an etcd.
pub struct EtcdStore {
    members: Arc<Members>,
    keys: Keys,
    lease_ttl_s: u64,
    /// The last term of this candidate.
    mine: Mutex<Option<Mine>>,
}

/// A term of this candidate.
#[derive(Clone, Debug)]
struct Mine {
    term: Term,
    /// The revision that created the leader key.
    revision: i64,
    /// The value that it wrote into the leader key.
    value: Vec<u8>,
}

/// The number to add to a revision to get a term, and the revision at which it was last changed.
#[derive(Clone, Copy, Debug, Default)]
struct TermBase {
    terms: u64,
    revision: i64,
}

/// The outcome of a fenced transaction.
enum Guarded {
    Done,
    /// A compare failed. `found`: the result of the reads, if the term leads.
    Refused(Vec<KeyValue>),
    Fenced,
}

impl EtcdStore {
    /// Prepares the connection; an etcd that does not answer yet is no error here.
    pub async fn connect(settings: EtcdSettings) -> Result<Self, StoreError> {
        let members =
            Arc::new(Members::connect(settings.endpoints, &settings.dialer, settings.login).await?);
        let keys = Keys::new(&settings.cluster);
        let lease_ttl_s = settings.lease_ttl_s;
        Ok(Self {
            members,
            keys,
            lease_ttl_s,
            mine: Mutex::new(None),
        })
    }

    /// Ends the current term from outside, for the contract.
    pub(super) async fn delete_leader_key(&self) -> Result<(), StoreError> {
        let key = self.keys.leader();
        self.members
            .call(|client| async move { kv(&client).delete(key, None).await })
            .await
            .map(drop)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, StoreError> {
        self.members
            .call(|client| async move { kv(&client).txn(txn).await })
            .await
    }

    async fn leader_cell(&self) -> Result<Option<KeyValue>, StoreError> {
        let key = self.keys.leader();
        let mut response = self
            .members
            .call(|client| async move { kv(&client).get(key, None).await })
            .await?;
        Ok(response.take_kvs().pop())
    }

    /// True only while the leader key is the one that `term` created.
    fn fence(&self, term: Term) -> Vec<Compare> {
        let key = self.keys.leader();
        match self.lock_mine().as_ref().filter(|mine| mine.term == term) {
            // An etcd restored from a copy counts revisions again: the value distinguishes its
            // leaders.
            Some(Mine {
                revision, value, ..
            }) => vec![
                Compare::create_revision(key.clone(), CompareOp::Equal, *revision),
                Compare::value(key, CompareOp::Equal, value.clone()),
            ],
            None => vec![Compare::create_revision(
                key,
                CompareOp::Equal,
                revision_of(term),
            )],
        }
    }

    fn lock_mine(&self) -> std::sync::MutexGuard<'_, Option<Mine>> {
        self.mine.lock().expect("nothing panics under this lock")
    }

    async fn term_base(&self) -> Result<TermBase, StoreError> {
        let key = self.keys.term_base();
        let wanted = key.clone();
        let mut response = self
            .members
            .call(|client| async move { kv(&client).get(wanted, None).await })
            .await?;
        let Some(cell) = response.take_kvs().pop() else {
            return Ok(TermBase::default());
        };
        Ok(TermBase {
            terms: cells::decode(&key, cell.value())?,
            revision: cell.mod_revision(),
        })
    }

    /// Does `then` if `term` leads and `when` holds; otherwise does nothing and reads `or_read`.
    async fn guarded(
        &self,
        term: Term,
        when: Option<Compare>,
        then: Vec<TxnOp>,
        or_read: Option<TxnOp>,
    ) -> Result<Guarded, StoreError> {
        let fence = self.fence(term);
        let compares: Vec<_> = fence.iter().cloned().chain(when).collect();
        // The inner transaction checks the fence alone. Its result shows whether the term or the
        // state of the job failed the compare.
        let inner = Txn::new()
            .when(fence)
            .and_then(or_read.into_iter().collect::<Vec<_>>());
        let txn = Txn::new()
            .when(compares)
            .and_then(then)
            .or_else([TxnOp::txn(inner)]);
        let response = self.txn(txn).await?;
        if response.succeeded() {
            return Ok(Guarded::Done);
        }
        match response.op_responses().pop() {
            Some(TxnOpResponse::Txn(inner)) if inner.succeeded() => {
                let found =
                    inner
                        .op_responses()
                        .into_iter()
                        .filter_map(|response| match response {
                            TxnOpResponse::Get(mut got) => Some(got.take_kvs()),
                            _ => None,
                        });
                Ok(Guarded::Refused(found.flatten().collect()))
            }
            _ => Ok(Guarded::Fenced),
        }
    }

    async fn write(&self, term: Term, then: TxnOp) -> Result<WriteOutcome, StoreError> {
        self.write_all(term, vec![then]).await
    }

    async fn write_all(&self, term: Term, then: Vec<TxnOp>) -> Result<WriteOutcome, StoreError> {
        match self.guarded(term, None, then, None).await? {
            Guarded::Done => Ok(WriteOutcome::Written),
            Guarded::Refused(_) | Guarded::Fenced => Ok(WriteOutcome::Fenced),
        }
    }

    /// All cells below a prefix, as of one revision.
    async fn below(&self, prefix: String) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut from = prefix.clone();
        let mut revision = 0;
        let mut all = Vec::new();
        loop {
            let range_end = after_prefix(&prefix);
            let options = GetOptions::new()
                .with_range(range_end)
                .with_limit(LOAD_PAGE_KEYS)
                .with_revision(revision);
            let page = self
                .members
                .call(|client| async move { kv(&client).get(from, Some(options)).await })
                .await?;
            all.extend(page.kvs().iter().map(pair));
            let Some((last, _)) = all.last().filter(|_| page.more()) else {
                break;
            };
            from = format!("{last}\0");
            revision = page.header().map_or(revision, |header| {
                if revision == 0 {
                    header.revision()
                } else {
                    revision
                }
            });
        }
        Ok(all)
    }

    /// Takes the leader key if it is free. Its lease begins when it is requested, not when it is
    /// granted.
    async fn try_win(&self, me: &LeaderRecord) -> Result<Option<Leadership>, StoreError> {
        let base = self.term_base().await?;
        let requested = Instant::now();
        let ttl_s = i64::try_from(self.lease_ttl_s).unwrap_or(i64::MAX);
        let granted = self
            .members
            .call(|client| async move { client.lease_client().grant(ttl_s, None).await })
            .await?;
        let lease = Lease {
            id: granted.id(),
            ttl: Duration::from_secs(granted.ttl().unsigned_abs()),
            members: self.members.clone(),
            key: self.keys.leader(),
        };
        let value = cells::encode(me);
        let free = Compare::create_revision(lease.key.clone(), CompareOp::Equal, 0);
        let same_base =
            Compare::mod_revision(self.keys.term_base(), CompareOp::Equal, base.revision);
        let put = TxnOp::put(
            lease.key.clone(),
            value.clone(),
            Some(PutOptions::new().with_lease(lease.id)),
        );
        let revision = match self
            .txn(Txn::new().when([free, same_base]).and_then([put]))
            .await
        {
            Ok(response) if response.succeeded() => {
                response.header().map(|header| header.revision())
            }
            Ok(_taken) => None,
            Err(error) => {
                // The key may exist: it goes away with the lease, at the latest when that expires.
                lease.revoke().await;
                return Err(error);
            }
        };
        let Some(revision) = revision else {
            lease.revoke().await;
            return Ok(None);
        };
        let term = Term(base.terms.saturating_add(revision.unsigned_abs()));
        *self.lock_mine() = Some(Mine {
            term,
            revision,
            value,
        });
        Ok(Some(lease.lead(term, revision, requested)))
    }

    /// Waits until the leader key that was seen at `revision` goes away, at most
    /// [`CAMPAIGN_RETRY`].
    async fn wait_for_end(&self, revision: i64) {
        let mut watches = self.members.client().watch_client();
        let options = WatchOptions::new().with_start_revision(revision + 1);
        let end = async {
            if let Ok(mut stream) = watches.watch(self.keys.leader(), Some(options)).await {
                while let Ok(Some(message)) = stream.message().await {
                    if message
                        .events()
                        .iter()
                        .any(|event| event.event_type() == EventType::Delete)
                    {
                        return;
                    }
                    if message.canceled() {
                        break;
                    }
                }
            }
            std::future::pending().await // a watch that fails is not tried again before its time
        };
        let _elapsed = timeout(CAMPAIGN_RETRY, end).await;
    }

    /// One attempt to lead; without success it returns when another attempt makes sense.
    async fn attempt(&self, me: &LeaderRecord) -> Result<Option<Leadership>, StoreError> {
        if let Some(taken) = self.leader_cell().await? {
            self.wait_for_end(taken.mod_revision()).await;
            return Ok(None);
        }
        self.try_win(me).await
    }
}

fn kv(client: &Client) -> KvClient {
    client
        .kv_client()
        .max_decoding_message_size(ANSWER_BYTES_MAX)
}

fn revision_of(term: Term) -> i64 {
    i64::try_from(term.0).unwrap_or(i64::MAX)
}

fn pair(cell: &KeyValue) -> (String, Vec<u8>) {
    (
        String::from_utf8_lossy(cell.key()).into_owned(),
        cell.value().to_vec(),
    )
}

#[async_trait]
impl Store for EtcdStore {
    /// Also waits for an etcd that does not answer, with a warning each time it stops answering.
    async fn campaign(&self, me: &LeaderRecord) -> Result<Leadership, StoreError> {
        let mut silent = false;
        loop {
            match self.attempt(me).await {
                Ok(Some(leadership)) => return Ok(leadership),
                Ok(None) => silent = false,
                Err(StoreError::Unavailable { reason }) => {
                    if !silent {
                        tracing::warn!(reason, "cannot campaign; trying again");
                    }
                    silent = true;
                    sleep(CAMPAIGN_RETRY / 2).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn leader(&self) -> Result<Option<(Term, LeaderRecord)>, StoreError> {
        // Only a leader changes it, and then ends its term.
        let base = self.term_base().await?;
        let Some(cell) = self.leader_cell().await? else {
            return Ok(None);
        };
        let term = Term(
            base.terms
                .saturating_add(cell.create_revision().unsigned_abs()),
        );
        Ok(Some((
            term,
            cells::decode(&self.keys.leader(), cell.value())?,
        )))
    }

    /// All pages are of one revision.
    async fn load(&self) -> Result<Vec<StoredJob>, StoreError> {
        cells::jobs(&self.keys, self.below(self.keys.jobs()).await?)
    }

    async fn create_job(&self, term: Term, job: &ResolvedJob) -> Result<CreateOutcome, StoreError> {
        let name = &job.spec.name;
        let free = Compare::create_revision(self.keys.of(name, JobKey::Spec), CompareOp::Equal, 0);
        let puts = cells::new_job(&self.keys, job).map(|(key, value)| TxnOp::put(key, value, None));
        let stale = cells::NOT_OF_A_NEW_JOB.map(|key| TxnOp::delete(self.keys.of(name, key), None));
        let then = puts.into_iter().chain(stale).collect();
        let read = TxnOp::get(self.keys.job(name), Some(GetOptions::new().with_prefix()));
        match self.guarded(term, Some(free), then, Some(read)).await? {
            Guarded::Done => Ok(CreateOutcome::Created),
            Guarded::Fenced => Ok(CreateOutcome::Fenced),
            Guarded::Refused(found) => {
                let stored = cells::jobs(&self.keys, found.iter().map(pair).collect())?.pop();
                let key = self.keys.of(name, JobKey::Spec);
                let reason = "it is there and is not".to_owned();
                stored
                    .map(|stored| CreateOutcome::Exists(Box::new(stored)))
                    .ok_or(StoreError::Corrupt { key, reason })
            }
        }
    }

    async fn change_job(&self, term: Term, job: &ResolvedJob) -> Result<WriteOutcome, StoreError> {
        self.write(
            term,
            TxnOp::put(
                self.keys.of(&job.spec.name, JobKey::Spec),
                cells::encode(job),
                None,
            ),
        )
        .await
    }

    async fn set_wanted(
        &self,
        term: Term,
        job: &JobName,
        wanted: &DesiredState,
    ) -> Result<WriteOutcome, StoreError> {
        self.write(
            term,
            TxnOp::put(
                self.keys.of(job, JobKey::Wanted),
                cells::encode(wanted),
                None,
            ),
        )
        .await
    }

    async fn set_replays(
        &self,
        term: Term,
        job: &JobName,
        replays: &Replays,
    ) -> Result<WriteOutcome, StoreError> {
        self.write(
            term,
            TxnOp::put(
                self.keys.of(job, JobKey::Replays),
                cells::encode(replays),
                None,
            ),
        )
        .await
    }

    async fn set_repairs(
        &self,
        term: Term,
        job: &JobName,
        repairs: &[Repair],
    ) -> Result<WriteOutcome, StoreError> {
        self.write(
            term,
            TxnOp::put(
                self.keys.of(job, JobKey::Repairs),
                cells::encode(&repairs),
                None,
            ),
        )
        .await
    }

    async fn set_anchors(
        &self,
        term: Term,
        job: &JobName,
        anchors: &Anchors,
    ) -> Result<WriteOutcome, StoreError> {
        self.write(
            term,
            TxnOp::put(
                self.keys.of(job, JobKey::Anchor),
                cells::encode(anchors),
                None,
            ),
        )
        .await
    }

    /// Every later leader key has a higher revision than this term's.
    async fn raise_terms(&self, term: Term, above: Term) -> Result<WriteOutcome, StoreError> {
        let Some(mine) = self.lock_mine().clone().filter(|mine| mine.term == term) else {
            return Ok(WriteOutcome::Fenced);
        };
        let terms = term
            .max(above)
            .0
            .saturating_sub(mine.revision.unsigned_abs());
        self.write(
            term,
            TxnOp::put(self.keys.term_base(), cells::encode(&terms), None),
        )
        .await
    }

    async fn commit(
        &self,
        term: Term,
        job: &JobName,
        previous: Option<&ManifestRef>,
        head: &ManifestRef,
    ) -> Result<CommitOutcome, StoreError> {
        let key = self.keys.of(job, JobKey::Head);
        let expected = match previous {
            Some(previous) => {
                Compare::value(key.clone(), CompareOp::Equal, cells::encode(previous))
            }
            None => Compare::create_revision(key.clone(), CompareOp::Equal, 0),
        };
        let put = TxnOp::put(key.clone(), cells::encode(head), None);
        match self
            .guarded(
                term,
                Some(expected),
                vec![put],
                Some(TxnOp::get(key.clone(), None)),
            )
            .await?
        {
            Guarded::Done => Ok(CommitOutcome::Committed),
            Guarded::Fenced => Ok(CommitOutcome::Fenced),
            Guarded::Refused(found) => {
                let actual = found
                    .first()
                    .map(|cell| cells::decode(&key, cell.value()))
                    .transpose()?;
                let repeated = actual.as_ref() == Some(head);
                Ok(if repeated {
                    CommitOutcome::Committed
                } else {
                    CommitOutcome::Conflict { actual }
                })
            }
        }
    }

    async fn set_published(
        &self,
        term: Term,
        job: &JobName,
        epoch: Epoch,
    ) -> Result<WriteOutcome, StoreError> {
        self.write(
            term,
            TxnOp::put(
                self.keys.of(job, JobKey::Published),
                cells::encode(&epoch),
                None,
            ),
        )
        .await
    }

    async fn load_journal(&self) -> Result<Vec<Entry>, StoreError> {
        self.below(self.keys.journal()).await.map(cells::journal)
    }

    async fn write_journal(
        &self,
        term: Term,
        blocks: &[Block],
    ) -> Result<WriteOutcome, StoreError> {
        let operation = |block| match cells::journal_cell(&self.keys, block) {
            (key, Some(value)) => TxnOp::put(key, value, None),
            (key, None) => TxnOp::delete(key, None),
        };
        self.write_all(term, blocks.iter().map(operation).collect())
            .await
    }

    async fn delete_job(&self, term: Term, job: &JobName) -> Result<WriteOutcome, StoreError> {
        let all = DeleteOptions::new().with_prefix();
        self.write(term, TxnOp::delete(self.keys.job(job), Some(all)))
            .await
    }
}

/// The first key that is not below `prefix`, which ends in a slash: `0` comes after it.
fn after_prefix(prefix: &str) -> String {
    format!("{}0", prefix.trim_end_matches('/'))
}
