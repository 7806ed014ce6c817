//! What must survive every process: who leads, which jobs there are, what is committed.
//!
//! Owns: the trait, its outcomes and errors. Does not own: manifests and positions (checkpoint
//! location), who does what.
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
mod repairs;
mod replays;

pub use embedded::EmbeddedStore;
pub use etcd::{EtcdLogin, EtcdSettings, EtcdStore, LEASE_TTL_S};
pub use keys::{JobKey, Keys};
pub use leadership::Leadership;
#[cfg(any(test, feature = "test-util"))]
pub use memory::{Fault, MemoryStore, StoreCopy};
pub use repairs::{REPAIRS_KEPT_MAX, Repair, Repaired, remembered};
pub use replays::{REPLAYS_DONE_MAX, REPLAYS_WANTED_MAX, Replays, WantedReplay};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use streamctl_proto::{Epoch, JobName, ManifestRef, ResolvedJob, Term};

/// Largest version of a job that is stored, as it is stored: etcd takes requests of up to 1.5 MiB
/// (its --max-request-bytes).
pub const STORED_JOB_BYTES_MAX: usize = 1 << 20;

/// What a job's user wants of it, or how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DesiredState {
    Running,
    /// Finish what was read, then stop.
    Draining,
    /// Stopped; it can go on from its head.
    Stopped,
    /// Its source ended and everything is published.
    Completed,
    /// It cannot go on by itself.
    Failed {
        error: String,
        hint: String,
    },
    /// Gone. Never stored: [`Store::delete_job`] is what is done about it.
    Deleted,
}

impl DesiredState {
    /// It ended, or is about to, and goes on when it is asked to.
    pub fn can_go_on(&self) -> bool {
        matches!(self, Self::Draining | Self::Stopped | Self::Failed { .. })
    }
}

/// A job as the store holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredJob {
    /// As it was resolved at submit.
    pub job: ResolvedJob,
    pub wanted: DesiredState,
    /// Its last committed manifest; none before epoch 1.
    pub head: Option<ManifestRef>,
    /// Its last published epoch; 0 before the first.
    pub published: Epoch,
    /// Dead letters that are to be read again, and which were.
    pub replays: Replays,
    /// What was repaired of it by hand, oldest first.
    pub repairs: Vec<Repair>,
    /// Why it must not be led: something that is stored of it cannot be used.
    pub broken: Option<String>,
}

impl StoredJob {
    /// As it is stored at first.
    pub fn new(job: ResolvedJob) -> Self {
        let head = None;
        let published = Epoch(0);
        Self {
            job,
            wanted: DesiredState::Running,
            head,
            published,
            replays: Replays::default(),
            repairs: vec![],
            broken: None,
        }
    }
}

/// A candidate, or who leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderRecord {
    /// Unique to this run of the process.
    pub id: String,
    /// `host:port` that clients and workers dial.
    pub address: String,
}

/// What became of [`Store::create_job`].
#[derive(Clone, Debug, PartialEq)]
pub enum CreateOutcome {
    /// It is stored, and wanted running.
    Created,
    /// A job by this name is there and was left as it is. After an unknown outcome it may be this
    /// very one.
    Exists(Box<StoredJob>),
    /// Another term leads; nothing was changed.
    Fenced,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    Written,
    /// Another term leads; nothing was changed.
    Fenced,
}

/// What became of [`Store::commit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// The head is the given one.
    Committed,
    /// Another term leads; nothing was changed.
    Fenced,
    /// The head is neither the previous nor the given one; nothing was changed. Under one's own
    /// term: a bug, or a hand in the store.
    Conflict { actual: Option<ManifestRef> },
}

/// Why an operation failed; says what its caller does next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Whether it was done is not known: do the same again.
    #[error("the store does not answer: {reason}")]
    Unavailable { reason: String },
    /// A stored value is not what this build reads: stop, a human must look.
    #[error("stored value {key} cannot be used: {reason}")]
    Corrupt {
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Refused for good: tell the user.
    #[error("{reason}")]
    Refused { reason: String, hint: String },
}

/// Where the truth about jobs is. Every method may be called again after
/// [`StoreError::Unavailable`].
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Waits until this candidate leads. Terms rise with every election. Cancel-safe: a candidate
    /// that no longer waits does not lead, or not longer than a lease.
    async fn campaign(&self, me: &LeaderRecord) -> Result<Leadership, StoreError>;
    /// Who leads now; none between two leaders.
    async fn leader(&self) -> Result<Option<(Term, LeaderRecord)>, StoreError>;
    /// All jobs, by name. Called under a term, it sees everything that earlier terms wrote or will
    /// ever have written.
    async fn load(&self) -> Result<Vec<StoredJob>, StoreError>;
    /// Stores a new job, wanted running.
    async fn create_job(&self, term: Term, job: &ResolvedJob) -> Result<CreateOutcome, StoreError>;
    /// Replaces a job by its next version; nothing else of it changes.
    async fn change_job(&self, term: Term, job: &ResolvedJob) -> Result<WriteOutcome, StoreError>;
    /// Replaces what is wanted of a job.
    async fn set_wanted(
        &self,
        term: Term,
        job: &JobName,
        wanted: &DesiredState,
    ) -> Result<WriteOutcome, StoreError>;
    /// Replaces what is wanted and known of a job's replays.
    async fn set_replays(
        &self,
        term: Term,
        job: &JobName,
        replays: &Replays,
    ) -> Result<WriteOutcome, StoreError>;
    /// Replaces what is known of a job's repairs.
    async fn set_repairs(
        &self,
        term: Term,
        job: &JobName,
        repairs: &[Repair],
    ) -> Result<WriteOutcome, StoreError>;
    /// Makes every later term higher than `above`. For a store that was restored from a copy and
    /// counts terms again: a term is part of names that are never used twice. The term that asks
    /// should end.
    async fn raise_terms(&self, term: Term, above: Term) -> Result<WriteOutcome, StoreError>;
    /// Moves the head from `previous` to `head`. It succeeds too when the head is exactly this
    /// already.
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
    /// Forgets a job; one that is not there is forgotten already.
    async fn delete_job(&self, term: Term, job: &JobName) -> Result<WriteOutcome, StoreError>;
}
