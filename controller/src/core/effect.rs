//! What the core wants done. Names are imperatives: nothing here has happened yet.

use super::event::DesiredState;
use super::unreadable::HeadRepair;
use crate::store::{Repair, Replays};
use std::collections::BTreeMap;
use streamctl_proto::manifest::{EpochRepair, ManifestRef};
use streamctl_proto::staged_name::Orphans;
use streamctl_proto::{
    Epoch, JobName, JobVersion, LookupVersion, Manifest, Position, ResolvedJob, ShardId, TaskId,
    Window, WorkerId,
};

/// One shard of a task that is given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskShard {
    pub shard: ShardId,
    pub from: Position,
    /// Shards of the same task that must be read to their end first.
    pub after: Vec<ShardId>,
    /// What the reader needs beyond the name.
    pub detail: String,
    /// The start of the earliest window that still takes its records.
    pub floor_ms: i64,
    /// Every record that arrived before this is read, by the source's clock; only of a source that
    /// expires records.
    pub read_to_ms: Option<i64>,
}

/// Effects that are tried again until they are done, by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EffectKind {
    ListShards,
    CheckLookup,
    ReadJob,
    RepairHead,
    WriteManifest,
    MoveHead,
    Publish,
    RecordPublished,
    Sweep,
    RecordRepairs,
    RecordReplays,
    RecordVersion,
    RecordWanted,
}

impl EffectKind {
    pub const ALL: [Self; 13] = [
        Self::ListShards,
        Self::CheckLookup,
        Self::ReadJob,
        Self::RepairHead,
        Self::WriteManifest,
        Self::MoveHead,
        Self::Publish,
        Self::RecordPublished,
        Self::Sweep,
        Self::RecordRepairs,
        Self::RecordReplays,
        Self::RecordVersion,
        Self::RecordWanted,
    ];

    /// In a status, in the log, in spans, and as a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::ListShards => "list shards",
            Self::CheckLookup => "look at lookup",
            Self::ReadJob => "read job",
            Self::RepairHead => "repair head",
            Self::WriteManifest => "write manifest",
            Self::MoveHead => "commit",
            Self::Publish => "publish",
            Self::RecordPublished => "record published",
            Self::Sweep => "sweep",
            Self::RecordRepairs => "record repairs",
            Self::RecordReplays => "record replays",
            Self::RecordVersion => "record version",
            Self::RecordWanted => "record wanted",
        }
    }

    /// Who does it, or does not.
    pub fn service(self) -> &'static str {
        match self {
            Self::ListShards => "source",
            Self::CheckLookup => "lookup",
            Self::ReadJob | Self::WriteManifest => "checkpoint",
            Self::Publish | Self::Sweep => "sink",
            Self::RepairHead
            | Self::MoveHead
            | Self::RecordPublished
            | Self::RecordRepairs
            | Self::RecordReplays
            | Self::RecordVersion
            | Self::RecordWanted => "store",
        }
    }
}

/// What must be done. An effect that fails for the moment is tried again by the driver as long as
/// it leads; what comes back is an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Answered by `ShardsListed` or `ListingRefused`.
    ListShards {
        job: JobName,
        /// Comes back with the answer.
        generation: u64,
    },
    /// Answered by `LookupSeen` or `LookupFailed`.
    CheckLookup {
        job: JobName,
        /// The version of the job that wants it.
        job_version: JobVersion,
        lookup: String,
        /// The version in use, to do no work when it is still that.
        current: Option<LookupVersion>,
    },
    /// Give a task to a worker.
    StartTask {
        worker: WorkerId,
        task: TaskId,
        job: JobName,
        /// Of which version of it: the one that is current now.
        job_version: JobVersion,
        shards: Vec<TaskShard>,
        /// How long the stream keeps records; none: it has no stream, or that is not known.
        retention_ms: Option<i64>,
    },
    /// Ask for a task back.
    ReleaseTask { worker: WorkerId, task: TaskId },
    /// Let a task finish its windows up to a time.
    DrainTask {
        worker: WorkerId,
        task: TaskId,
        /// Windows that end at or before this are finished; none: it goes on, an earlier drain is
        /// taken back.
        until_ms: Option<i64>,
    },
    /// Tell a worker that nothing of this task will be used.
    CancelTask { worker: WorkerId, task: TaskId },
    /// Name the lookup versions of a window.
    OpenWindow {
        worker: WorkerId,
        task: TaskId,
        window: Window,
        lookups: BTreeMap<String, LookupVersion>,
    },
    /// Tell a worker that reports of this window can be forgotten.
    AnnounceCommit {
        worker: WorkerId,
        job: JobName,
        /// Which epoch.
        epoch: Epoch,
        window: Window,
    },
    /// Read a job again that could not be read. Answered by `JobLoaded` or `JobUnreadable`.
    ReadJob { job: JobName },
    /// Move the head of a job along what was committed after it, in a store that is older, and read
    /// the job again. Answered by `JobLoaded` or `JobUnreadable`.
    RepairHead {
        job: JobName,
        to: Box<HeadRepair>,
        /// What is remembered of its repairs then.
        repairs: Vec<Repair>,
    },
    /// Answered by `ManifestWritten`.
    WriteManifest { manifest: Box<Manifest> },
    /// One fenced transaction. Answered by `HeadMoved`; when fenced, the driver steps down.
    MoveHead {
        job: JobName,
        /// Must be the head now.
        previous: Option<ManifestRef>,
        head: ManifestRef,
    },
    /// Make an epoch's objects visible. Answered by `EpochPublished` or `ObjectsLost`.
    Publish {
        manifest: Box<Manifest>,
        /// Repairs of it, oldest first.
        repairs: Vec<EpochRepair>,
    },
    /// Answered by `PublishedRecorded`.
    RecordPublished {
        job: JobName,
        /// Which epoch.
        epoch: Epoch,
        manifest: ManifestRef,
    },
    /// Throw away what is staged and can never become visible. Not answered.
    Sweep { job: JobName, orphans: Box<Orphans> },
    /// Keep which dead letters are to be read again. Answered by `ReplaysRecorded`; until then no
    /// other is asked for.
    RecordReplays {
        job: JobName,
        /// All that is wanted and done.
        replays: Replays,
    },
    /// Keep a version of a job in place of the one before. Answered by `VersionRecorded`; no epoch
    /// begins meanwhile.
    RecordVersion {
        job: JobName,
        version: Box<ResolvedJob>,
    },
    /// Keep what was repaired of a job. Not answered.
    RecordRepairs { job: JobName, repairs: Vec<Repair> },
    /// Keep what is wanted of a job. Answered by `WantedRecorded`; until then no other is asked
    /// for.
    RecordWanted { job: JobName, wanted: DesiredState },
}

impl Effect {
    /// Its kind; none: a word to a worker, which is said once.
    pub fn kind(&self) -> Option<EffectKind> {
        Some(match self {
            Self::ListShards { .. } => EffectKind::ListShards,
            Self::CheckLookup { .. } => EffectKind::CheckLookup,
            Self::ReadJob { .. } => EffectKind::ReadJob,
            Self::RepairHead { .. } => EffectKind::RepairHead,
            Self::WriteManifest { .. } => EffectKind::WriteManifest,
            Self::MoveHead { .. } => EffectKind::MoveHead,
            Self::Publish { .. } => EffectKind::Publish,
            Self::RecordPublished { .. } => EffectKind::RecordPublished,
            Self::Sweep { .. } => EffectKind::Sweep,
            Self::RecordRepairs { .. } => EffectKind::RecordRepairs,
            Self::RecordReplays { .. } => EffectKind::RecordReplays,
            Self::RecordVersion { .. } => EffectKind::RecordVersion,
            Self::RecordWanted { .. } => EffectKind::RecordWanted,
            Self::StartTask { .. }
            | Self::ReleaseTask { .. }
            | Self::DrainTask { .. }
            | Self::CancelTask { .. }
            | Self::OpenWindow { .. }
            | Self::AnnounceCommit { .. } => return None,
        })
    }
}
