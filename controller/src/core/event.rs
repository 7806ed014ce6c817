//! What the core is told. Names are past participles: everything here has happened.

use super::effect::EffectKind;
use super::refusals::RefusedTask;
use std::collections::BTreeMap;
use streamctl_proto::manifest::{EpochRepair, ManifestRef, TimeGap};
use streamctl_proto::resolved::StreamFacts;
use streamctl_proto::{
    Epoch, JobName, JobVersion, LookupVersion, Manifest, Position, Report, ResolvedJob, ShardId,
    TaskId, Window, WorkerId,
};

/// Which connection of a worker: a worker that dials again gets a new one, and what the old one
/// says is stale.
pub type SessionId = u64;

/// A shard as the source lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownShard {
    pub shard: ShardId,
    pub parents: Vec<ShardId>,
    /// What the reader needs beyond the name.
    pub detail: String,
}

/// What a task says about one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    pub lag_ms: u64,
    pub records: u64,
    pub bytes: u64,
    pub throttles: u64,
    pub iterator_renewals: u64,
    /// Since the task began: times that records were lost before they could be read.
    pub data_losses: u64,
    /// Since the task began: user records of aggregates that belong to another shard.
    pub foreign_records: u64,
    /// Arrival of the last record taken; 0: none yet.
    pub last_arrival_ms: i64,
    /// The last gap in what was read.
    pub lost: Option<TimeGap>,
}

/// A shard that is read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedShard {
    pub shard: ShardId,
    /// Where its last record stands.
    pub last: Position,
    /// The start of its last record's window: its children's records belong to no earlier one.
    pub floor_ms: i64,
    /// Its children, where the source named them, with their parents.
    pub children: Vec<KnownShard>,
}

/// A task that a worker says it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct RunningTask {
    pub task: TaskId,
    pub job: JobName,
    /// Of which version of it.
    pub job_version: JobVersion,
    /// When that job was submitted first; none: the worker is of an earlier build, which does not
    /// say it.
    pub submitted_ms: Option<i64>,
    /// Where each shard stood before the first of `reports`.
    pub base: BTreeMap<ShardId, Position>,
    /// Reports that the worker does not know to be committed, oldest window first.
    pub reports: Vec<Report>,
    /// Every window that ends at or before this is reported.
    pub watermark_ms: i64,
    /// Open windows and the lookup versions they use.
    pub windows: Vec<(Window, BTreeMap<String, LookupVersion>)>,
    /// Shards that are read to their end.
    pub ended: Vec<EndedShard>,
    /// The last gap in each shard, where there was one.
    pub lost: BTreeMap<ShardId, TimeGap>,
    /// How long the stream keeps records, as the task was told.
    pub retention_ms: Option<i64>,
    /// It reads no more and only keeps its reports.
    pub released: bool,
}

impl RunningTask {
    /// Whether it is a task of this version of this job, and not of one that had the same name
    /// before.
    pub fn is_of(&self, job: &ResolvedJob) -> bool {
        self.job == job.spec.name
            && self.job_version == job.job_version
            && self
                .submitted_ms
                .is_none_or(|submitted_ms| submitted_ms == job.submitted_ms)
    }
}

/// What a worker was refused at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The source of the records.
    Source,
    /// The output, or the dead letters.
    Sink,
    Checkpoint,
    /// The worker's memory limit: it could never hold what the task needs.
    Memory,
    /// A worker of a later build did not say it in words of this one.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskEnd {
    /// All its shards are read to their end and reported.
    Completed,
    /// It was asked to, and reported all it read.
    Released,
    /// It was told to drop everything.
    Cancelled,
    /// An outside system does not answer: tried again for as long as it takes.
    Wait {
        error: String,
    },
    /// Its worker was refused what the task needs: another worker may be served, or this one later.
    Refused {
        place: Place,
        error: String,
        hint: String,
    },
    Retry {
        error: String,
    },
    /// Trying again will not help.
    Fatal {
        error: String,
        hint: String,
    },
}

use super::repair::Stuck;
use super::unreadable::HeadRepair;
use crate::store::Repair;
pub use crate::store::{DesiredState, Replays, WantedReplay};

#[derive(Clone, Debug)]
pub enum Event {
    /// A job was read from the store at the beginning of this term.
    JobLoaded {
        job: Box<ResolvedJob>,
        wanted: DesiredState,
        /// Its last committed epoch.
        head: Option<Box<Manifest>>,
        /// Committed but not published before the head, oldest first, the head included.
        unpublished: Vec<Manifest>,
        /// The last published epoch.
        published: Epoch,
        /// Dead letters that are to be read again, and which were.
        replays: Replays,
        /// Versions of its lookups that the head used, of those that are still the same.
        lookups: BTreeMap<String, LookupVersion>,
        /// What was repaired of it by hand.
        repairs: Vec<Repair>,
    },
    /// Where a job stands cannot be read, or is not what was committed last: it must not go on.
    JobUnreadable {
        job: Box<ResolvedJob>,
        error: String,
        hint: String,
        /// What was repaired of it by hand.
        repairs: Vec<Repair>,
    },
    /// A user wants the head of a job moved along what was committed after it, in a store that is
    /// older.
    HeadRepairRequested {
        job: JobName,
        to: Box<HeadRepair>,
    },
    /// A job was created in the store.
    JobCreated {
        job: Box<ResolvedJob>,
    },
    /// A user wants a job to stop.
    StopRequested {
        job: JobName,
        drain: bool,
    },
    /// A user wants a job forgotten.
    DeleteRequested {
        job: JobName,
        /// Also when what it has committed is not published.
        force: bool,
    },
    /// A user submitted a stopped or failed job again.
    ResumeRequested {
        job: JobName,
    },
    /// A user wants dead letters read again.
    ReplayRequested {
        job: JobName,
        /// Epochs with dead letters, oldest first.
        epochs: Vec<WantedReplay>,
    },
    /// The store knows which dead letters are to be read again.
    ReplaysRecorded {
        job: JobName,
        replays: Replays,
    },
    /// A user wants this version of a job to take over from the one before it.
    ChangeRequested {
        next: Box<ResolvedJob>,
    },
    /// The store holds a version of a job.
    VersionRecorded {
        job: JobName,
        job_version: JobVersion,
    },
    /// The store refused a version of a job, for good.
    VersionRefused {
        job: JobName,
        job_version: JobVersion,
        reason: String,
        hint: String,
    },
    ShardsListed {
        job: JobName,
        generation: u64,
        /// All that the source knows.
        shards: Vec<KnownShard>,
        /// What it says of its stream; none: it has no stream, or did not say.
        stream: Option<StreamFacts>,
    },
    /// The source refused to list its shards, for good.
    ListingRefused {
        job: JobName,
        error: String,
        hint: String,
    },
    /// A lookup has this version, and its content is kept.
    LookupSeen {
        job: JobName,
        /// The version of the job that it was looked at for.
        job_version: JobVersion,
        lookup: String,
        version: LookupVersion,
        /// Its rows, when they were read for this.
        rows: Option<u64>,
    },
    /// A lookup could not be looked at, or its new version is broken: the old one stays.
    LookupFailed {
        job: JobName,
        /// The version of the job that it was looked at for.
        job_version: JobVersion,
        lookup: String,
        problem: String,
    },
    /// An effect is being tried again.
    EffectDelayed {
        job: JobName,
        kind: EffectKind,
        reason: String,
    },
    /// An effect that was delayed is done; what came of it follows.
    EffectDone {
        job: JobName,
        kind: EffectKind,
    },
    /// A worker opened a session.
    WorkerJoined {
        worker: WorkerId,
        session: SessionId,
        /// Which process it is: another number is another process of the same name. 0: it did not
        /// say.
        process: u64,
        /// Where its Flight service answers.
        flight_address: String,
        tasks: Vec<RunningTask>,
    },
    WorkerHeard {
        worker: WorkerId,
        session: SessionId,
        memory_bytes: u64,
        /// How busy it was since it said so before, in thousandths.
        busy_permille: Option<u32>,
        /// How far its clock is ahead of that of its sources.
        clock_skew_ms: Option<i64>,
    },
    /// A part of a worker's message came, and it is not whole yet: heartbeats wait behind it.
    WorkerSpoke {
        worker: WorkerId,
        session: SessionId,
    },
    WorkerDisconnected {
        worker: WorkerId,
        session: SessionId,
    },
    /// A worker was asked to stop and wants its tasks released.
    WorkerLeaving {
        worker: WorkerId,
        session: SessionId,
    },
    /// A task met its first record of a window.
    WindowRequested {
        worker: WorkerId,
        task: TaskId,
        window: Window,
    },
    /// A task closed its part of a window.
    Reported {
        worker: WorkerId,
        report: Box<Report>,
    },
    /// A task has reported all windows before its watermark.
    Progressed {
        worker: WorkerId,
        task: TaskId,
        watermark_ms: i64,
        /// Time for which its windows were worked on, since it began.
        work_us: u64,
        /// For how long the work on one of its windows has been computing without a wait.
        computing_ms: u64,
        shards: Vec<(ShardId, ShardStats)>,
    },
    /// A task read a shard to its end.
    ShardEnded {
        worker: WorkerId,
        task: TaskId,
        ended: EndedShard,
    },
    /// A task is no more.
    TaskEnded {
        worker: WorkerId,
        task: TaskId,
        end: TaskEnd,
    },
    /// A message about a task was refused: nothing of it is used.
    TaskRefused {
        worker: WorkerId,
        refused: Box<RefusedTask>,
    },
    ManifestWritten {
        job: JobName,
        reference: ManifestRef,
    },
    /// A manifest is not written, and never will be: it could not be read again.
    ManifestRefused {
        job: JobName,
        /// Which epoch it would be.
        epoch: Epoch,
        error: String,
        hint: String,
    },
    /// The store holds this head.
    HeadMoved {
        job: JobName,
        /// Which epoch.
        epoch: Epoch,
    },
    /// An epoch's objects are all visible.
    EpochPublished {
        job: JobName,
        /// Which epoch.
        epoch: Epoch,
    },
    /// Objects of an epoch are lost, all others of it are visible.
    ObjectsLost {
        job: JobName,
        /// Which epoch, and which objects.
        stuck: Stuck,
        error: String,
        hint: String,
    },
    /// A user wants an epoch repaired that has lost objects.
    EpochRepairRequested {
        job: JobName,
        /// Which epoch.
        epoch: Epoch,
    },
    /// What takes the place of lost objects is staged, or they are given up.
    EpochRepaired {
        job: JobName,
        task: TaskId,
        /// What is to be recorded.
        repair: Box<EpochRepair>,
    },
    /// The store knows that an epoch is published.
    PublishedRecorded {
        job: JobName,
        /// Which epoch.
        epoch: Epoch,
    },
    /// The store knows what is wanted of a job.
    WantedRecorded {
        job: JobName,
        wanted: DesiredState,
    },
    Ticked,
}

impl Event {
    /// The task that says it, and its worker; none for everything that no task says.
    pub(super) fn speaker(&self) -> Option<(&WorkerId, TaskId)> {
        match self {
            Self::WindowRequested { worker, task, .. }
            | Self::Progressed { worker, task, .. }
            | Self::ShardEnded { worker, task, .. }
            | Self::TaskEnded { worker, task, .. } => Some((worker, *task)),
            Self::Reported { worker, report } => Some((worker, report.task)),
            _ => None,
        }
    }
}
