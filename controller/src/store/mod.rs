//! State that must survive every process: which controller leads, which jobs exist, what is
//! committed.
//!
//! Owns: the trait, its outcomes and errors. Does not own: manifests and positions (checkpoint
//! location), the assignment of work.
//! Rule: every write carries the term it was decided under and changes nothing under a later one
//! (I6). Values are small JSON; nothing is written per record, shard or heartbeat.

mod cells;
#[cfg(any(test, feature = "test-util"))]
pub mod contract;
#[cfg(any(test, feature = "test-util"))]
pub mod contract_etcd;
mod embedded;
mod etcd;
mod keys;
mod leadership;
#[cfg(any(test, feature = "test-util"))]
mod memory;

pub use embedded::EmbeddedStore;
pub use etcd::{EtcdLogin, EtcdSettings, EtcdStore, LEASE_TTL_S};
pub use keys::{JobKey, Keys};
pub use leadership::Leadership;
#[cfg(any(test, feature = "test-util"))]
pub use memory::{Fault, MemoryStore, StoreCopy};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use streamctl_core::journal::{Block, Entry};
use streamctl_core::stored::{Anchors, DesiredState, Repair, Replays};
use streamctl_proto::{Epoch, JobName, ManifestRef, ResolvedJob, Term};

/// Largest stored form of a job version: etcd accepts requests of up to 1.5 MiB (its
/// --max-request-bytes).
pub const STORED_JOB_BYTES_MAX: usize = 1 << 20;

/// A job as the store holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredJob {
    /// As resolved at submit.
    pub job: ResolvedJob,
    pub wanted: DesiredState,
    /// Its last committed manifest; none before epoch 1.
    pub head: Option<ManifestRef>,
    /// Its last published epoch; 0 before the first.
    pub published: Epoch,
    /// Dead letters to replay, and those already replayed.
    pub replays: Replays,
    /// Manual repairs, oldest first.
    pub repairs: Vec<Repair>,
    /// From which epoch on its history is kept.
    pub anchors: Anchors,
    /// Why it must not be led: a stored value of it cannot be used.
    pub broken: Option<String>,
}

impl StoredJob {
    /// The initial stored state.
    pub fn new(job: ResolvedJob) -> Self {
        let head = None;
        let published = Epoch(0);
        let anchors = Anchors::of(job.submitted_ms);
        Self {
            job,
            wanted: DesiredState::Running,
            head,
            published,
            replays: Replays::default(),
            repairs: vec![],
            anchors,
            broken: None,
        }
    }
}

/// A candidate, or the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderRecord {
    /// Unique to this run of the process.
    pub id: String,
    /// `host:port` for connections of clients and workers.
    pub address: String,
}

/// The outcome of [`Store::create_job`].
#[derive(Clone, Debug, PartialEq)]
pub enum CreateOutcome {
    /// It is stored, with the desired state running.
    Created,
    /// A job by this name exists and was not changed. After an unknown outcome it may be this very
    /// one.
    Exists(Box<StoredJob>),
    /// Another term leads; nothing was changed.
    Fenced,
}

/// The outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    Written,
    /// Another term leads; nothing was changed.
    Fenced,
}

/// The outcome of [`Store::commit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The head is the given one.
    Committed,
    /// Another term leads; nothing was changed.
    Fenced,
    /// The head is neither the previous nor the given one; nothing was changed. Under the caller's
    /// own term, this means a bug, or a manual change in the store.
    Conflict { actual: Option<ManifestRef> },
}

/// Why an operation failed; each variant determines what its caller does next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The outcome is unknown: retry the same operation.
    #[error("the store does not answer: {reason}")]
    Unavailable { reason: String },
    /// This build cannot read a stored value: stop, an operator must act.
    #[error("stored value {key} cannot be used: {reason}")]
    Corrupt {
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Refused permanently: inform the user.
    #[error("{reason}")]
    Refused { reason: String, hint: String },
}

/// The source of truth about jobs. Every method may be called again after
/// [`StoreError::Unavailable`].
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Waits until this candidate leads. Terms rise with every election. Cancel-safe: if the call
    /// is cancelled, the candidate does not lead, or for no longer than a lease.
    async fn campaign(&self, me: &LeaderRecord) -> Result<Leadership, StoreError>;
    /// The current leader; none between two leaders.
    async fn leader(&self) -> Result<Option<(Term, LeaderRecord)>, StoreError>;
    /// All jobs, by name. Called under a term, it sees everything that earlier terms wrote or will
    /// ever have written.
    async fn load(&self) -> Result<Vec<StoredJob>, StoreError>;
    /// Stores a new job, with the desired state running.
    async fn create_job(&self, term: Term, job: &ResolvedJob) -> Result<CreateOutcome, StoreError>;
    /// Replaces a job by its next version; nothing else of it changes.
    async fn change_job(&self, term: Term, job: &ResolvedJob) -> Result<WriteOutcome, StoreError>;
    /// Replaces the desired state of a job.
    async fn set_wanted(
        &self,
        term: Term,
        job: &JobName,
        wanted: &DesiredState,
    ) -> Result<WriteOutcome, StoreError>;
    /// Replaces the replay state of a job.
    async fn set_replays(
        &self,
        term: Term,
        job: &JobName,
        replays: &Replays,
    ) -> Result<WriteOutcome, StoreError>;
    /// Replaces the repairs of a job.
    async fn set_repairs(
        &self,
        term: Term,
        job: &JobName,
        repairs: &[Repair],
    ) -> Result<WriteOutcome, StoreError>;
    /// Replaces the anchor of a job, and the heads that may become it.
    async fn set_anchors(
        &self,
        term: Term,
        job: &JobName,
        anchors: &Anchors,
    ) -> Result<WriteOutcome, StoreError>;
    /// Makes every later term higher than `above`. For a store that was restored from a copy and
    /// counts terms again: a term is part of names that are never used twice. The calling term
    /// should end.
    async fn raise_terms(&self, term: Term, above: Term) -> Result<WriteOutcome, StoreError>;
    /// Moves the head from `previous` to `head`. It also succeeds if the head is already exactly
    /// this one.
    async fn commit(
        &self,
        term: Term,
        job: &JobName,
        previous: Option<&ManifestRef>,
        head: &ManifestRef,
    ) -> Result<CommitOutcome, StoreError>;
    /// Everything up to this epoch is visible to readers.
    async fn set_published(
        &self,
        term: Term,
        job: &JobName,
        epoch: Epoch,
    ) -> Result<WriteOutcome, StoreError>;
    /// Deletes a job; deleting a missing job succeeds.
    async fn delete_job(&self, term: Term, job: &JobName) -> Result<WriteOutcome, StoreError>;
    /// All entries of the journal. Blocks that cannot be read are left out.
    async fn load_journal(&self) -> Result<Vec<Entry>, StoreError>;
    /// Replaces these blocks of the journal; an empty one is removed.
    async fn write_journal(&self, term: Term, blocks: &[Block])
    -> Result<WriteOutcome, StoreError>;
}
