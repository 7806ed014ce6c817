//! Events: the inputs of the core. Names are past participles: everything here has happened.

use super::effect::{EffectKind, HeadRepair};
use super::hanging::HangingCall;
use crate::stored::{Anchors, DesiredState, Repair, Replays, WantedReplay};
use std::collections::BTreeMap;
use streamctl_proto::convert::BadMessage;
use streamctl_proto::load::LoadPoint;
use streamctl_proto::manifest::{EpochRepair, ManifestRef, TimeGap};
use streamctl_proto::profile::OperatorFigures;
use streamctl_proto::resolved::StreamFacts;
use streamctl_proto::{
    Duplicates, Epoch, JobName, JobVersion, LookupVersion, Manifest, Position, Report, ResolvedJob,
    ShardId, TaskId, Watermark, Window, WorkerId,
};

/// Characters of an operator's detail in a status.
const DETAIL_CHARS_SHOWN: usize = 80;

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
    pub floor: Watermark,
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
    pub watermark: Watermark,
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
    /// The worker runs no functions.
    Functions,
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

/// The first unpublished epoch cannot be published because objects of it are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    pub epoch: Epoch,
    /// Locations of the lost objects.
    pub lost: Vec<String>,
}

/// A task with a refused message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedTask {
    pub task: TaskId,
    /// Its job, if the worker named one: only a Hello does.
    pub job: Option<JobName>,
    /// The field, and what is wrong with it.
    pub problem: BadMessage,
}

/// What happened, to whom.
#[derive(Clone, Debug)]
pub enum Event {
    Job {
        job: JobName,
        event: JobEvent,
    },
    /// A message of a task. A stale task changes nothing (I6).
    Task {
        worker: WorkerId,
        task: TaskId,
        event: TaskEvent,
    },
    /// A message of a worker, or of its connection. A stale session changes nothing.
    Worker {
        worker: WorkerId,
        session: SessionId,
        event: WorkerEvent,
    },
    /// Time has passed.
    Ticked,
}

/// A job as a store and a checkpoint location hold it.
#[derive(Clone, Debug)]
pub struct LoadedJob {
    pub job: ResolvedJob,
    pub wanted: DesiredState,
    /// Its last committed epoch.
    pub head: Option<Box<Manifest>>,
    /// Committed but unpublished epochs up to and including the head, oldest first.
    pub unpublished: Vec<Manifest>,
    /// The last published epoch.
    pub published: Epoch,
    /// Dead letters to replay, and those already replayed.
    pub replays: Replays,
    /// Versions that the head used, of the lookups that are unchanged.
    pub lookups: BTreeMap<String, LookupVersion>,
    /// Manual repairs of the job.
    pub repairs: Vec<Repair>,
    /// From which epoch on its history is kept.
    pub anchors: Anchors,
}

/// What a user requested of a job, or the outcome of an effect.
#[derive(Clone, Debug)]
pub enum JobEvent {
    /// A job was read from the store at the start of this term.
    Loaded(Box<LoadedJob>),
    /// The job's position cannot be read, or is not what was committed last. The job must not run.
    Unreadable {
        job: Box<ResolvedJob>,
        error: String,
        hint: String,
        /// Manual repairs of the job.
        repairs: Vec<Repair>,
    },
    /// A user requested that the head of a job move along the epochs that were committed after it,
    /// in a store that was restored to an older state.
    HeadRepairRequested {
        to: Box<HeadRepair>,
    },
    /// A job was created in the store.
    Created(Box<ResolvedJob>),
    /// A user requested that a job stop.
    StopRequested {
        drain: bool,
    },
    /// A user requested the deletion of a job.
    DeleteRequested {
        /// Delete even if committed epochs are unpublished.
        force: bool,
    },
    /// A user submitted a stopped or failed job again.
    ResumeRequested,
    /// A user requested a replay of dead letters.
    ReplayRequested {
        /// Epochs with dead letters, oldest first.
        epochs: Vec<WantedReplay>,
    },
    /// The store holds the requested replays.
    ReplaysRecorded {
        replays: Replays,
    },
    /// The store holds these anchors.
    AnchorsRecorded {
        anchors: Anchors,
    },
    /// Some of what lies before the anchor is removed, or could not be.
    Trimmed {
        is_more_left: bool,
    },
    /// Small files of the job's table were rewritten.
    Compacted {
        text: String,
    },
    /// A user requested that this version of a job replace the current one.
    ChangeRequested(Box<ResolvedJob>),
    /// The store holds a version of a job.
    VersionRecorded {
        job_version: JobVersion,
    },
    /// The store refused a version of a job permanently.
    VersionRefused {
        job_version: JobVersion,
        reason: String,
        hint: String,
    },
    ShardsListed {
        generation: u64,
        /// All shards that the source knows.
        shards: Vec<KnownShard>,
        /// Facts about the stream. None: there is no stream, or the source did not send them.
        stream: Option<StreamFacts>,
    },
    /// The source refused to list its shards permanently.
    ListingRefused {
        error: String,
        hint: String,
    },
    /// A lookup has this version, and its content is kept.
    LookupSeen {
        /// The version of the job that requested the check.
        job_version: JobVersion,
        lookup: String,
        version: LookupVersion,
        /// The number of rows and the equal keys, if they were read.
        read: Option<(u64, Duplicates)>,
    },
    /// A lookup has this version, and no window may use it. The old version stays.
    LookupRefused {
        /// The version of the job that requested the check.
        job_version: JobVersion,
        lookup: String,
        version: LookupVersion,
        /// Why; `None`: as the last time.
        problem: Option<String>,
    },
    /// A lookup could not be checked. The old version stays.
    LookupFailed {
        /// The version of the job that requested the check.
        job_version: JobVersion,
        lookup: String,
        problem: String,
    },
    /// An effect is being retried.
    EffectDelayed {
        kind: EffectKind,
        reason: String,
    },
    /// A delayed effect succeeded; the event with its result follows.
    EffectDone {
        kind: EffectKind,
    },
    ManifestWritten {
        reference: ManifestRef,
    },
    /// A manifest is not written and never will be, because it could not be read again.
    ManifestRefused {
        /// The epoch it was for.
        epoch: Epoch,
        error: String,
        hint: String,
    },
    /// The store holds this head.
    HeadMoved {
        epoch: Epoch,
    },
    /// All objects of the unpublished epochs up to and including this one are visible.
    EpochsPublished {
        through: Epoch,
    },
    /// Some objects of an epoch are lost; all its other objects are visible.
    ObjectsLost {
        /// The epoch and its lost objects.
        stuck: Stuck,
        error: String,
        hint: String,
    },
    /// What readers look at does not take an epoch: its table was dropped, or refuses the job. A
    /// resumed job tries again.
    PublishRefused {
        epoch: Epoch,
        error: String,
        hint: String,
    },
    /// A user requested a repair of an epoch that has lost objects.
    EpochRepairRequested {
        epoch: Epoch,
    },
    /// Replacements for the lost objects are staged, or the objects are given up.
    EpochRepaired {
        task: TaskId,
        /// The repair to record.
        repair: Box<EpochRepair>,
    },
    /// The store recorded that the epochs up to and including this one are published.
    PublishedRecorded {
        through: Epoch,
    },
    /// The store recorded the desired state of a job.
    WantedRecorded {
        wanted: DesiredState,
    },
}

/// The work on the window of a task that has been computing longest without a wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Computing {
    pub ms: u64,
    /// The operator of its query with the longest computing time, once it takes seconds.
    pub busiest: Option<OperatorFigures>,
}

impl Computing {
    /// `its query has been computing for 85 s, 80 s of them in HashJoinExec`
    pub(crate) fn text(&self) -> String {
        let computing = format!("its query has been computing for {} s", self.ms / 1_000);
        match &self.busiest {
            None => computing,
            Some(busiest) => {
                let seconds = busiest.compute_us.unwrap_or(0) / 1_000_000;
                let detail: String = busiest.detail.chars().take(DETAIL_CHARS_SHOWN).collect();
                let operator = format!("{} {detail}", busiest.name);
                format!(
                    "{computing}; {seconds} s of the window were spent in {}",
                    operator.trim_end()
                )
            }
        }
    }
}

/// What a task sent.
#[derive(Clone, Debug)]
pub enum TaskEvent {
    /// A task read its first record of a window.
    WindowRequested(Window),
    /// A task closed its part of a window.
    Reported(Box<Report>),
    /// A task has reported all windows before its watermark.
    Progressed {
        watermark: Watermark,
        /// Time spent working on its windows, since it started.
        work_us: u64,
        computing: Computing,
        shards: Vec<(ShardId, ShardStats)>,
        /// Calls to outside services that are not answered.
        hanging: Vec<HangingCall>,
    },
    /// A task read a shard to its end.
    ShardEnded(EndedShard),
    /// A task ended.
    Ended(TaskEnd),
    /// A message about a task was refused; nothing of it is used.
    Refused(Box<RefusedTask>),
}

/// What a worker reports about itself when it joins.
#[derive(Clone, Debug, Default)]
pub struct WorkerFacts {
    /// Empty: not sent.
    pub version: String,
    pub compute_threads: Option<u32>,
    pub memory_limit_bytes: Option<u64>,
    /// Its load of the last day, oldest first.
    pub load: Vec<LoadPoint>,
}

/// What a worker sent, or what its connection did.
#[derive(Clone, Debug)]
pub enum WorkerEvent {
    /// A worker opened a session.
    Joined {
        /// The process. A different number is a different process with the same name. 0: not sent.
        process: u64,
        /// The address of its Flight service.
        flight_address: String,
        facts: WorkerFacts,
        tasks: Vec<RunningTask>,
    },
    Heard {
        memory_bytes: u64,
        /// How busy it was since its last report, in thousandths.
        busy_permille: Option<u32>,
        /// How far its clock is ahead of the clock of its sources.
        clock_skew_ms: Option<i64>,
        /// CPU time since its last report, in thousandths of one processor.
        cpu_permille: Option<u32>,
    },
    /// Part of a worker's message arrived, but not all of it: heartbeats wait behind it.
    Spoke,
    Disconnected,
    /// A worker is shutting down and requests the release of its tasks.
    Leaving,
}

impl Event {
    pub fn loaded(loaded: LoadedJob) -> Self {
        Self::Job {
            job: loaded.job.spec.name.clone(),
            event: JobEvent::Loaded(Box::new(loaded)),
        }
    }

    pub fn created(job: ResolvedJob) -> Self {
        Self::Job {
            job: job.spec.name.clone(),
            event: JobEvent::Created(Box::new(job)),
        }
    }

    pub fn change_requested(next: ResolvedJob) -> Self {
        Self::Job {
            job: next.spec.name.clone(),
            event: JobEvent::ChangeRequested(Box::new(next)),
        }
    }

    pub fn reported(worker: WorkerId, report: Report) -> Self {
        Self::Task {
            worker,
            task: report.task,
            event: TaskEvent::Reported(Box::new(report)),
        }
    }

    pub fn refused(worker: WorkerId, refused: RefusedTask) -> Self {
        Self::Task {
            worker,
            task: refused.task,
            event: TaskEvent::Refused(Box::new(refused)),
        }
    }

    /// The task that sent the event, and its worker. None for events that no task sends.
    pub(crate) fn sender(&self) -> Option<(&WorkerId, TaskId)> {
        match self {
            Self::Task {
                event: TaskEvent::Refused(_),
                ..
            }
            | Self::Job { .. }
            | Self::Worker { .. }
            | Self::Ticked => None,
            Self::Task { worker, task, .. } => Some((worker, *task)),
        }
    }
}
