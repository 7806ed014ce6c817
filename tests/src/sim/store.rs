//! The faulty store: the memory store behind calls that are lost or late, and a lease that expires.
//!
//! Owns: faults of calls, the holder of the lease. Does not own: the rules of a write (the memory
//! store).
//! Rule: a lease that is not renewed expires; its holder may notice later.

use super::job;
use super::storage::Committed;
use super::stream::SharedStream;
use super::weather::{Fate, Weather};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use streamctl_controller::store::{
    CommitOutcome, CreateOutcome, LeaderRecord, Leadership, MemoryStore, Store, StoreError,
    StoredJob, WriteOutcome,
};
use streamctl_core::journal::{Block, Entry};
use streamctl_core::stored::{Anchors, DesiredState, Repair, Replays};
use streamctl_engine::storage::{MemoryStorage, Storage};
use streamctl_proto::{Epoch, JobName, JobVersion, Manifest, ManifestRef, ResolvedJob, Term};
use tokio::time::{sleep, timeout};

/// Interval of a candidate's checks whether it reaches the store.
const LOOK: Duration = Duration::from_millis(200);

/// What the store knows of its clients, and the oracle of its heads.
#[derive(Default)]
pub struct Ledger {
    /// The process that renews the lease of each term.
    pub held: BTreeMap<Term, String>,
    /// Heads in commit order, per job.
    pub heads: BTreeMap<JobName, Vec<ManifestRef>>,
}

impl Ledger {
    /// The store was restored to an earlier state. An epoch without visible objects may or may not
    /// have been committed: both are correct.
    pub fn forget_unseen(&mut self, job: &JobName, manifest: &Manifest, committed: &Committed) {
        let heads = self.heads.entry(job.clone()).or_default();
        if heads
            .last()
            .is_some_and(|head| head.epoch == manifest.epoch)
        {
            heads.pop();
            let mut committed = committed.lock().unwrap_or_else(PoisonError::into_inner);
            for object in &manifest.objects {
                committed.remove(&object.staged.location);
            }
        }
    }
}

/// The access of one process to the store.
pub struct FaultyStore {
    /// The actual content; a candidate of its own.
    pub inner: MemoryStore,
    /// The caller: a place of the network.
    pub place: String,
    pub weather: Arc<Weather>,
    pub ledger: Arc<Mutex<Ledger>>,
    /// Jobs that may fail, and their streams: once they hold a record that no query can process.
    pub may_fail: BTreeMap<JobName, SharedStream>,
    /// What may become visible; filled here.
    pub committed: Committed,
    pub objects: MemoryStorage,
}

impl FaultyStore {
    async fn call<T: std::fmt::Debug>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let call = self.weather.call(&self.place, "store");
        sleep(call.before).await;
        if call.fate == Fate::NotDone {
            self.weather
                .note(|| format!("{} store {what}: not done", self.place));
            return Err(StoreError::Unavailable {
                reason: format!("{what} was not done"),
            });
        }
        let done = work.await;
        sleep(call.after).await;
        if call.fate == Fate::AnswerLost || !self.weather.reaches(&self.place, "store") {
            self.weather
                .note(|| format!("{} store {what}: outcome unknown", self.place));
            return Err(StoreError::Unavailable {
                reason: format!("{what} has no answer"),
            });
        }
        done
    }

    /// I6: a change of the store was decided under the leading term.
    async fn must_lead(&self, term: Term, what: &str) {
        let leader = self
            .inner
            .leader()
            .await
            .ok()
            .flatten()
            .map(|(leading, _)| leading);
        if leader != Some(term) {
            self.weather.broken(format!(
                "{what} under term {term} is taken while {leader:?} leads (I6)"
            ));
        }
    }

    fn may_fail(&self, job: &JobName) -> bool {
        let stream = self.may_fail.get(job);
        stream.is_some_and(|stream| {
            stream
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .may_fail()
        })
    }

    /// The stored version of the job.
    async fn version(&self, job: &JobName) -> Option<JobVersion> {
        let stored = self.inner.load().await.ok()?;
        stored
            .iter()
            .find(|stored| stored.job.spec.name == *job)
            .map(|stored| stored.job.job_version)
    }

    /// Updates the oracle at a commit.
    async fn learn(&self, job: &JobName, head: &ManifestRef) {
        let known = {
            let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            let heads = ledger.heads.entry(job.clone()).or_default();
            let known = heads.last() == Some(head);
            if !known {
                if heads.last().map_or(Epoch(0), |last| last.epoch).next() != head.epoch {
                    self.weather.broken(format!(
                        "head of {job} goes from {:?} to {head:?}",
                        heads.last()
                    ));
                }
                heads.push(head.clone());
            }
            known
        };
        if known {
            return;
        }
        self.weather
            .note(|| format!("{} commits {job} epoch {}", self.place, head.epoch));
        let bytes = self
            .objects
            .get(&job::checkpoint(job).join(&head.name), u64::MAX)
            .await;
        let manifest = bytes
            .ok()
            .and_then(|bytes| Manifest::decode(&bytes, head).ok());
        let Some(manifest) = manifest else {
            return self.weather.broken(format!(
                "head of {job} is {head:?}, and there is no such manifest"
            ));
        };
        let version = self.version(job).await;
        if version != Some(manifest.job_version()) {
            let epoch = manifest.epoch;
            let made_by = manifest.job_version();
            self.weather.broken(format!(
                "epoch {epoch} is of version {made_by}, the store's is {version:?} (I9)"
            ));
        }
        let mut committed = self
            .committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for object in manifest.objects {
            if !committed.insert(object.staged.location.clone()) {
                self.weather
                    .broken(format!("{} is committed twice", object.staged.location));
            }
        }
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn campaign(&self, me: &LeaderRecord) -> Result<Leadership, StoreError> {
        loop {
            if !self.weather.reaches(&self.place, "store") {
                sleep(LOOK * 5).await;
                return Err(StoreError::Unavailable {
                    reason: "unreachable".into(),
                });
            }
            let Ok(won) = timeout(LOOK, self.inner.campaign(me)).await else {
                continue;
            };
            let leadership = won?;
            if self
                .weather
                .strikes(100, "store: campaign won, answer lost")
            {
                return Err(StoreError::Unavailable {
                    reason: "no answer".into(),
                });
            }
            let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.held.insert(leadership.term, me.id.clone());
            self.weather
                .note(|| format!("{} leads term {}", me.id, leadership.term));
            return Ok(leadership);
        }
    }

    async fn leader(&self) -> Result<Option<(Term, LeaderRecord)>, StoreError> {
        self.call("leader", self.inner.leader()).await
    }

    async fn load(&self) -> Result<Vec<StoredJob>, StoreError> {
        self.call("load", self.inner.load()).await
    }

    async fn create_job(&self, term: Term, job: &ResolvedJob) -> Result<CreateOutcome, StoreError> {
        self.call("create", self.inner.create_job(term, job)).await
    }

    async fn change_job(&self, term: Term, job: &ResolvedJob) -> Result<WriteOutcome, StoreError> {
        let work = async {
            let before = self.version(&job.spec.name).await;
            let outcome = self.inner.change_job(term, job).await?;
            if outcome == WriteOutcome::Written {
                self.must_lead(term, "a version of the job").await;
                let version = job.job_version;
                let name = &job.spec.name;
                // A repeated write has the same version.
                if before != Some(version) && before.map(JobVersion::next) != Some(version) {
                    self.weather.broken(format!(
                        "version {version} of {name} follows {before:?} (I9)"
                    ));
                }
            }
            Ok(outcome)
        };
        self.call("change", work).await
    }

    async fn set_wanted(
        &self,
        term: Term,
        job: &JobName,
        wanted: &DesiredState,
    ) -> Result<WriteOutcome, StoreError> {
        let work = async {
            let outcome = self.inner.set_wanted(term, job, wanted).await?;
            if outcome == WriteOutcome::Written {
                self.must_lead(term, "what is wanted").await;
                if let DesiredState::Failed { error, .. } = wanted
                    && !self.may_fail(job)
                {
                    self.weather
                        .broken(format!("job {job} is given up: {error}"));
                }
            }
            Ok(outcome)
        };
        self.call("set wanted", work).await
    }

    async fn set_replays(
        &self,
        term: Term,
        job: &JobName,
        replays: &Replays,
    ) -> Result<WriteOutcome, StoreError> {
        let work = async {
            let outcome = self.inner.set_replays(term, job, replays).await?;
            if outcome == WriteOutcome::Written {
                self.must_lead(term, "what is replayed").await;
            }
            Ok(outcome)
        };
        self.call("set replays", work).await
    }

    async fn set_repairs(
        &self,
        term: Term,
        job: &JobName,
        repairs: &[Repair],
    ) -> Result<WriteOutcome, StoreError> {
        self.call("set repairs", self.inner.set_repairs(term, job, repairs))
            .await
    }

    async fn set_anchors(
        &self,
        term: Term,
        job: &JobName,
        anchors: &Anchors,
    ) -> Result<WriteOutcome, StoreError> {
        let work = async {
            let outcome = self.inner.set_anchors(term, job, anchors).await?;
            if outcome == WriteOutcome::Written {
                self.must_lead(term, "an anchor").await;
            }
            Ok(outcome)
        };
        self.call("set anchors", work).await
    }

    async fn raise_terms(&self, term: Term, above: Term) -> Result<WriteOutcome, StoreError> {
        self.call("raise terms", self.inner.raise_terms(term, above))
            .await
    }

    async fn commit(
        &self,
        term: Term,
        job: &JobName,
        previous: Option<&ManifestRef>,
        head: &ManifestRef,
    ) -> Result<CommitOutcome, StoreError> {
        let work = async {
            let outcome = self.inner.commit(term, job, previous, head).await?;
            if outcome == CommitOutcome::Committed {
                self.must_lead(term, "a commit").await;
                self.learn(job, head).await;
            }
            Ok(outcome)
        };
        self.call("commit", work).await
    }

    async fn set_published(
        &self,
        term: Term,
        job: &JobName,
        epoch: Epoch,
    ) -> Result<WriteOutcome, StoreError> {
        let work = async {
            let outcome = self.inner.set_published(term, job, epoch).await?;
            if outcome == WriteOutcome::Written {
                self.must_lead(term, "what is published").await;
            }
            Ok(outcome)
        };
        self.call("set published", work).await
    }

    async fn load_journal(&self) -> Result<Vec<Entry>, StoreError> {
        self.call("load journal", self.inner.load_journal()).await
    }

    async fn write_journal(
        &self,
        term: Term,
        blocks: &[Block],
    ) -> Result<WriteOutcome, StoreError> {
        let work = async {
            let outcome = self.inner.write_journal(term, blocks).await?;
            if outcome == WriteOutcome::Written {
                self.must_lead(term, "the journal").await;
            }
            Ok(outcome)
        };
        self.call("write journal", work).await
    }

    async fn delete_job(&self, term: Term, job: &JobName) -> Result<WriteOutcome, StoreError> {
        self.call("delete", self.inner.delete_job(term, job)).await
    }
}
