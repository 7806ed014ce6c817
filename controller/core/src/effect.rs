//! What the core requests from the driver. Names are imperatives: nothing here has happened yet.

use crate::stored::{Anchors, DesiredState, Repair, Repaired, Replays};
use std::collections::BTreeMap;
use streamctl_proto::manifest::{EpochRepair, ManifestRef};
use streamctl_proto::staged_name::Orphans;
use streamctl_proto::{
    Epoch, JobName, JobVersion, LookupVersion, Manifest, Position, ResolvedJob, ShardId, TaskId,
    Watermark, Window, WorkerId,
};

/// Most objects that one [`Effect::Trim`] removes.
pub const TRIM_OBJECTS_MAX: usize = 1_000;

/// One shard of a task to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskShard {
    pub shard: ShardId,
    pub from: Position,
    /// Shards of the same task that must be read to their end first.
    pub after: Vec<ShardId>,
    /// What the reader needs in addition to the name.
    pub detail: String,
    /// The start of the earliest window that still takes its records.
    pub floor: Watermark,
    /// Every record that arrived before this time is read, by the source's clock. Only set for a
    /// source that expires records.
    pub read_to_ms: Option<i64>,
}

/// A head to move along the epochs that were committed after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadRepair {
    /// The head must equal this.
    pub previous: Option<ManifestRef>,
    pub head: ManifestRef,
    /// The last published epoch, as far as it can be determined.
    pub published: Epoch,
    /// When it was requested.
    pub at_ms: i64,
    pub by: String,
}

impl HeadRepair {
    pub(crate) fn as_remembered(&self) -> Repair {
        let from = self
            .previous
            .as_ref()
            .map_or(Epoch(0), |previous| previous.epoch);
        let what = Repaired::HeadMoved {
            from,
            to: self.head.epoch,
        };
        Repair {
            at_ms: self.at_ms,
            by: self.by.clone(),
            what,
        }
    }
}

/// A committed epoch that is to be published.
#[derive(Clone, Debug, PartialEq)]
pub struct Unpublished {
    pub manifest: Manifest,
    /// Repairs of the epoch, oldest first.
    pub repairs: Vec<EpochRepair>,
}

/// Kinds of effects that are retried until they succeed.
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
    RecordAnchors,
    Trim,
    RecordVersion,
    RecordWanted,
}

impl EffectKind {
    pub const ALL: [Self; 15] = [
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
        Self::RecordAnchors,
        Self::Trim,
        Self::RecordVersion,
        Self::RecordWanted,
    ];

    /// The name in a status, in the log, in spans, and as a metric's label.
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
            Self::RecordAnchors => "record anchor",
            Self::Trim => "trim history",
            Self::RecordVersion => "record version",
            Self::RecordWanted => "record wanted",
        }
    }

    /// The stage of the job that it is a step of.
    pub fn stage(self) -> &'static str {
        match self {
            Self::ListShards => "shards",
            Self::CheckLookup => "lookup",
            Self::WriteManifest | Self::MoveHead => "commit",
            Self::Publish | Self::RecordPublished | Self::Sweep => "publish",
            Self::ReadJob
            | Self::RepairHead
            | Self::RecordRepairs
            | Self::RecordReplays
            | Self::RecordAnchors
            | Self::Trim
            | Self::RecordVersion
            | Self::RecordWanted => "store",
        }
    }

    /// The service that performs the effect.
    pub fn service(self) -> &'static str {
        match self {
            Self::ListShards => "source",
            Self::CheckLookup => "lookup",
            Self::ReadJob | Self::WriteManifest | Self::Trim => "checkpoint",
            Self::Publish | Self::Sweep => "sink",
            Self::RepairHead
            | Self::MoveHead
            | Self::RecordPublished
            | Self::RecordRepairs
            | Self::RecordReplays
            | Self::RecordAnchors
            | Self::RecordVersion
            | Self::RecordWanted => "store",
        }
    }
}

/// An action for the driver. If it fails temporarily, the driver retries it while it leads; the
/// result is an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Answered by `ShardsListed` or `ListingRefused`.
    ListShards {
        job: JobName,
        /// Returned with the result.
        generation: u64,
    },
    /// Answered by `LookupSeen`, `LookupRefused` or `LookupFailed`.
    CheckLookup {
        job: JobName,
        /// The version of the job that requests it.
        job_version: JobVersion,
        lookup: String,
        /// The version in use.
        in_use: Option<LookupVersion>,
        /// Its rows; `None`: this leader does not know them. If they are known and the version is
        /// still the newest, there is nothing to do.
        rows_in_use: Option<u64>,
        /// The version that was refused last: it is not read again.
        refused: Option<LookupVersion>,
    },
    /// Start a task on a worker.
    StartTask {
        worker: WorkerId,
        task: TaskId,
        job: JobName,
        /// The current version of the job.
        job_version: JobVersion,
        shards: Vec<TaskShard>,
        /// How long the stream keeps records. None: there is no stream, or this is not known.
        retention_ms: Option<i64>,
    },
    /// Request the release of a task.
    ReleaseTask { worker: WorkerId, task: TaskId },
    /// Let a task finish its windows up to a time.
    DrainTask {
        worker: WorkerId,
        task: TaskId,
        /// Windows that end at or before this time are finished. None: the task continues, and an
        /// earlier drain is cancelled.
        until_ms: Option<i64>,
    },
    /// Inform a worker that no output of this task will be used.
    CancelTask { worker: WorkerId, task: TaskId },
    /// Send the lookup versions of a window.
    OpenWindow {
        worker: WorkerId,
        task: TaskId,
        window: Window,
        lookups: BTreeMap<String, LookupVersion>,
        /// Which try at the window it is, from 1.
        attempt: u32,
    },
    /// Inform a worker that it can drop its reports of this window.
    AnnounceCommit {
        worker: WorkerId,
        job: JobName,
        epoch: Epoch,
        window: Window,
    },
    /// Read an unreadable job again. Answered by `JobLoaded` or `JobUnreadable`.
    ReadJob { job: JobName },
    /// In a store that was restored to an older state, move the head of a job along the epochs that
    /// were committed after it, and read the job again. Answered by `JobLoaded` or `JobUnreadable`.
    RepairHead {
        job: JobName,
        to: Box<HeadRepair>,
        /// The repairs to record with the move.
        repairs: Vec<Repair>,
    },
    /// Answered by `ManifestWritten`.
    WriteManifest { manifest: Box<Manifest> },
    /// One fenced transaction. Answered by `HeadMoved`; if fenced, the driver steps down.
    MoveHead {
        job: JobName,
        /// The head must equal this.
        previous: Option<ManifestRef>,
        head: ManifestRef,
    },
    /// Make epochs visible, in this order; at least one, and as many at once as the sink can.
    /// Answered by `EpochsPublished`, `ObjectsLost` or `PublishRefused`.
    Publish {
        job: JobName,
        epochs: Vec<Unpublished>,
    },
    /// Answered by `PublishedRecorded`.
    RecordPublished {
        job: JobName,
        /// The manifests of the published epochs, in order; at least one.
        manifests: Vec<ManifestRef>,
    },
    /// Delete staged objects that can never become visible. Not answered.
    Sweep { job: JobName, orphans: Box<Orphans> },
    /// Store which dead letters to replay. Answered by `ReplaysRecorded`; until then there is no
    /// other such request.
    RecordReplays {
        job: JobName,
        /// All requested and finished replays.
        replays: Replays,
    },
    /// Store from which epoch on the history of a job is kept. Answered by `AnchorsRecorded`; until
    /// then there is no other such request.
    RecordAnchors { job: JobName, anchors: Anchors },
    /// Remove some of what lies before the anchor, which the store holds; at most
    /// [`TRIM_OBJECTS_MAX`] objects. Answered by `Trimmed`, also if nothing could be removed.
    Trim { job: JobName, anchor: ManifestRef },
    /// Store a version of a job in place of the previous one. Answered by `VersionRecorded`; no
    /// epoch begins meanwhile.
    RecordVersion {
        job: JobName,
        version: Box<ResolvedJob>,
    },
    /// Store the repairs of a job. Not answered.
    RecordRepairs { job: JobName, repairs: Vec<Repair> },
    /// Store the desired state of a job. Answered by `WantedRecorded`; until then there is no other
    /// such request.
    RecordWanted { job: JobName, wanted: DesiredState },
}

impl Effect {
    /// The kind of the effect. None: a message to a worker, which is sent once and not retried.
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
            Self::RecordAnchors { .. } => EffectKind::RecordAnchors,
            Self::Trim { .. } => EffectKind::Trim,
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
