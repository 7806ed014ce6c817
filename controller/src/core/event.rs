//! Events: the inputs of the core. Names are past participles: everything here has happened.

use super::effect::EffectKind;
use super::refusals::RefusedTask;
use std::collections::BTreeMap;
use streamctl_proto::manifest::{EpochRepair, ManifestRef, TimeGap};
use streamctl_proto::resolved::StreamFacts;
use streamctl_proto::{
    Duplicates, Epoch, JobName, JobVersion, LookupVersion, Manifest, Position, Report, ResolvedJob,
    ShardId, TaskId, Window, WorkerId,
};

/// The connection of a worker. A worker that reconnects gets a new session, and messages of the old
/// one are stale.
pub type SessionId = u64;

/// A shard as the source lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownShard {
    pub shard: ShardId,
    pub parents: Vec<ShardId>,
    /// What the reader needs in addition to the name.
    pub detail: String,
}

/// What a task reports about one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    pub lag_ms: u64,
    pub records: u64,
    pub bytes: u64,
    pub throttles: u64,
    pub iterator_renewals: u64,
    /// Since the task started: how many times records were lost before they could be read.
    pub data_losses: u64,
    /// Since the task started: user records of aggregates that belong to another shard.
    pub foreign_records: u64,
    /// Arrival time of the last record read; 0: none yet.
    pub last_arrival_ms: i64,
    /// The last gap in the records read.
    pub lost: Option<TimeGap>,
}

/// A shard that is read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedShard {
    pub shard: ShardId,
    /// The position of its last record.
    pub last: Position,
    /// The start of its last record's window. Its children's records belong to no earlier window.
    pub floor_ms: i64,
    /// Its children with their parents, if the source named them.
    pub children: Vec<KnownShard>,
}

/// A task that a worker reports as running.
#[derive(Clone, Debug, PartialEq)]
pub struct RunningTask {
    pub task: TaskId,
    pub job: JobName,
    /// The version of the job.
    pub job_version: JobVersion,
    /// When the job was first submitted. None: the worker is an earlier build, which does not send
    /// it.
    pub submitted_ms: Option<i64>,
    /// The position of each shard before the first of `reports`.
    pub base: BTreeMap<ShardId, Position>,
    /// Reports that the worker does not know to be committed, oldest window first.
    pub reports: Vec<Report>,
    /// Every window that ends at or before this is reported.
    pub watermark_ms: i64,
    /// Open windows and the lookup versions they use.
    pub windows: Vec<(Window, BTreeMap<String, LookupVersion>)>,
    /// Shards that are read to their end.
    pub ended: Vec<EndedShard>,
    /// The last gap in each shard that has one.
    pub lost: BTreeMap<ShardId, TimeGap>,
    /// How long the stream keeps records, as sent to the task.
    pub retention_ms: Option<i64>,
    /// The task no longer reads; it only keeps its reports.
    pub released: bool,
}

impl RunningTask {
    /// Whether the task belongs to this version of this job, and not to an earlier job with the
    /// same name.
    pub fn is_of(&self, job: &ResolvedJob) -> bool {
        self.job == job.spec.name
            && self.job_version == job.job_version
            && self
                .submitted_ms
                .is_none_or(|submitted_ms| submitted_ms == job.submitted_ms)
    }
}

/// What refused a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The source of the records.
    Source,
    /// The output, or the dead letters.
    Sink,
    Checkpoint,
    /// The worker's memory limit: the worker can never hold what the task needs.
    Memory,
    /// A later build of the worker sent a value that this build does not know.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskEnd {
    /// All its shards are read to their end and reported.
    Completed,
    /// It was released, and reported all it read.
    Released,
    /// It was cancelled and dropped everything.
    Cancelled,
    /// An outside system does not answer. It is retried without limit.
    Wait {
        error: String,
    },
    /// The worker was refused what the task needs. Another worker may succeed, or this one later.
    Refused {
        place: Place,
        error: String,
        hint: String,
    },
    Retry {
        error: String,
    },
    /// A retry will not help.
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
    /// A job was read from the store at the start of this term.
    JobLoaded {
        job: Box<ResolvedJob>,
        wanted: DesiredState,
        /// Its last committed epoch.
        head: Option<Box<Manifest>>,
        /// Committed but unpublished epochs up to and including the head, oldest first.
        unpublished: Vec<Manifest>,
        /// The last published epoch.
        published: Epoch,
        /// Dead letters to replay, and those already replayed.
        replays: Replays,
        /// Versions that the head used, of the lookups that are unchanged.
        lookups: BTreeMap<String, LookupVersion>,
        /// Manual repairs of the job.
        repairs: Vec<Repair>,
    },
    /// The job's position cannot be read, or is not what was committed last. The job must not run.
    JobUnreadable {
        job: Box<ResolvedJob>,
        error: String,
        hint: String,
        /// Manual repairs of the job.
        repairs: Vec<Repair>,
    },
    /// A user requested that the head of a job move along the epochs that were committed after it,
    /// in a store that was restored to an older state.
    HeadRepairRequested {
        job: JobName,
        to: Box<HeadRepair>,
    },
    /// A job was created in the store.
    JobCreated {
        job: Box<ResolvedJob>,
    },
    /// A user requested that a job stop.
    StopRequested {
        job: JobName,
        drain: bool,
    },
    /// A user requested the deletion of a job.
    DeleteRequested {
        job: JobName,
        /// Delete even if committed epochs are unpublished.
        force: bool,
    },
    /// A user submitted a stopped or failed job again.
    ResumeRequested {
        job: JobName,
    },
    /// A user requested a replay of dead letters.
    ReplayRequested {
        job: JobName,
        /// Epochs with dead letters, oldest first.
        epochs: Vec<WantedReplay>,
    },
    /// The store holds the requested replays.
    ReplaysRecorded {
        job: JobName,
        replays: Replays,
    },
    /// A user requested that this version of a job replace the current one.
    ChangeRequested {
        next: Box<ResolvedJob>,
    },
    /// The store holds a version of a job.
    VersionRecorded {
        job: JobName,
        job_version: JobVersion,
    },
    /// The store refused a version of a job permanently.
    VersionRefused {
        job: JobName,
        job_version: JobVersion,
        reason: String,
        hint: String,
    },
    ShardsListed {
        job: JobName,
        generation: u64,
        /// All shards that the source knows.
        shards: Vec<KnownShard>,
        /// Facts about the stream. None: there is no stream, or the source did not send them.
        stream: Option<StreamFacts>,
    },
    /// The source refused to list its shards permanently.
    ListingRefused {
        job: JobName,
        error: String,
        hint: String,
    },
    /// A lookup has this version, and its content is kept.
    LookupSeen {
        job: JobName,
        /// The version of the job that requested the check.
        job_version: JobVersion,
        lookup: String,
        version: LookupVersion,
        /// The number of rows and the equal keys, if they were read.
        read: Option<(u64, Duplicates)>,
    },
    /// A lookup has this version, and no window may use it. The old version stays.
    LookupRefused {
        job: JobName,
        /// The version of the job that requested the check.
        job_version: JobVersion,
        lookup: String,
        version: LookupVersion,
        /// Why; `None`: as the last time.
        problem: Option<String>,
    },
    /// A lookup could not be checked. The old version stays.
    LookupFailed {
        job: JobName,
        /// The version of the job that requested the check.
        job_version: JobVersion,
        lookup: String,
        problem: String,
    },
    /// An effect is being retried.
    EffectDelayed {
        job: JobName,
        kind: EffectKind,
        reason: String,
    },
    /// A delayed effect succeeded; the event with its result follows.
    EffectDone {
        job: JobName,
        kind: EffectKind,
    },
    /// A worker opened a session.
    WorkerJoined {
        worker: WorkerId,
        session: SessionId,
        /// The process. A different number is a different process with the same name. 0: not sent.
        process: u64,
        /// The address of its Flight service.
        flight_address: String,
        tasks: Vec<RunningTask>,
    },
    WorkerHeard {
        worker: WorkerId,
        session: SessionId,
        memory_bytes: u64,
        /// How busy it was since its last report, in thousandths.
        busy_permille: Option<u32>,
        /// How far its clock is ahead of the clock of its sources.
        clock_skew_ms: Option<i64>,
    },
    /// Part of a worker's message arrived, but not all of it: heartbeats wait behind it.
    WorkerSpoke {
        worker: WorkerId,
        session: SessionId,
    },
    WorkerDisconnected {
        worker: WorkerId,
        session: SessionId,
    },
    /// A worker is shutting down and requests the release of its tasks.
    WorkerLeaving {
        worker: WorkerId,
        session: SessionId,
    },
    /// A task read its first record of a window.
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
        /// Time spent working on its windows, since it started.
        work_us: u64,
        /// How long the work on one of its windows has been computing without a wait.
        computing_ms: u64,
        shards: Vec<(ShardId, ShardStats)>,
    },
    /// A task read a shard to its end.
    ShardEnded {
        worker: WorkerId,
        task: TaskId,
        ended: EndedShard,
    },
    /// A task ended.
    TaskEnded {
        worker: WorkerId,
        task: TaskId,
        end: TaskEnd,
    },
    /// A message about a task was refused; nothing of it is used.
    TaskRefused {
        worker: WorkerId,
        refused: Box<RefusedTask>,
    },
    ManifestWritten {
        job: JobName,
        reference: ManifestRef,
    },
    /// A manifest is not written and never will be, because it could not be read again.
    ManifestRefused {
        job: JobName,
        /// The epoch it was for.
        epoch: Epoch,
        error: String,
        hint: String,
    },
    /// The store holds this head.
    HeadMoved {
        job: JobName,
        epoch: Epoch,
    },
    /// An epoch's objects are all visible.
    EpochPublished {
        job: JobName,
        epoch: Epoch,
    },
    /// Some objects of an epoch are lost; all its other objects are visible.
    ObjectsLost {
        job: JobName,
        /// The epoch and its lost objects.
        stuck: Stuck,
        error: String,
        hint: String,
    },
    /// A user requested a repair of an epoch that has lost objects.
    EpochRepairRequested {
        job: JobName,
        epoch: Epoch,
    },
    /// Replacements for the lost objects are staged, or the objects are given up.
    EpochRepaired {
        job: JobName,
        task: TaskId,
        /// The repair to record.
        repair: Box<EpochRepair>,
    },
    /// The store recorded that an epoch is published.
    PublishedRecorded {
        job: JobName,
        epoch: Epoch,
    },
    /// The store recorded the desired state of a job.
    WantedRecorded {
        job: JobName,
        wanted: DesiredState,
    },
    Ticked,
}

impl Event {
    /// The task that sent the event, and its worker. None for events that no task sends.
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
