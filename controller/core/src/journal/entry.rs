//! One line of the journal, and its stored form.
//!
//! Rule: kinds and fields are in users' stores and in their scripts: a name keeps its meaning. A kind
//! of a later build is read as [`Kind::Other`].

use serde::{Deserialize, Serialize};
use streamctl_proto::{JobName, Term, v1};

/// Longest text of an entry.
pub const TEXT_BYTES_MAX: usize = 400;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    LeaderElected,
    WorkerJoined,
    WorkerLeft,
    WorkerLost,
    ClockSkewed,
    TaskStarted,
    TaskFailed,
    FunctionFailed,
    JobSubmitted,
    JobChanged,
    JobDraining,
    JobStopped,
    JobResumed,
    JobFailed,
    JobCompleted,
    JobDeleted,
    JobUnreadable,
    JobRepaired,
    LookupTaken,
    LookupRefused,
    DataLost,
    Throttled,
    CallFailed,
    ShardEnded,
    ShardSplit,
    ShardMerged,
    HistoryCut,
    TableCompacted,
    /// A later build wrote it.
    #[serde(other)]
    Other,
}

impl Kind {
    pub const ALL: [Self; 28] = [
        Self::LeaderElected,
        Self::WorkerJoined,
        Self::WorkerLeft,
        Self::WorkerLost,
        Self::ClockSkewed,
        Self::TaskStarted,
        Self::TaskFailed,
        Self::FunctionFailed,
        Self::JobSubmitted,
        Self::JobChanged,
        Self::JobDraining,
        Self::JobStopped,
        Self::JobResumed,
        Self::JobFailed,
        Self::JobCompleted,
        Self::JobDeleted,
        Self::JobUnreadable,
        Self::JobRepaired,
        Self::LookupTaken,
        Self::LookupRefused,
        Self::DataLost,
        Self::Throttled,
        Self::CallFailed,
        Self::ShardEnded,
        Self::ShardSplit,
        Self::ShardMerged,
        Self::HistoryCut,
        Self::TableCompacted,
    ];

    /// The name in the store, on the wire, in the log and in a table.
    pub fn label(self) -> &'static str {
        match self {
            Self::LeaderElected => "leader_elected",
            Self::WorkerJoined => "worker_joined",
            Self::WorkerLeft => "worker_left",
            Self::WorkerLost => "worker_lost",
            Self::ClockSkewed => "clock_skewed",
            Self::TaskStarted => "task_started",
            Self::TaskFailed => "task_failed",
            Self::FunctionFailed => "function_failed",
            Self::JobSubmitted => "job_submitted",
            Self::JobChanged => "job_changed",
            Self::JobDraining => "job_draining",
            Self::JobStopped => "job_stopped",
            Self::JobResumed => "job_resumed",
            Self::JobFailed => "job_failed",
            Self::JobCompleted => "job_completed",
            Self::JobDeleted => "job_deleted",
            Self::JobUnreadable => "job_unreadable",
            Self::JobRepaired => "job_repaired",
            Self::LookupTaken => "lookup_taken",
            Self::LookupRefused => "lookup_refused",
            Self::DataLost => "data_lost",
            Self::Throttled => "throttled",
            Self::CallFailed => "call_failed",
            Self::ShardEnded => "shard_ended",
            Self::ShardSplit => "shard_split",
            Self::ShardMerged => "shard_merged",
            Self::HistoryCut => "history_cut",
            Self::TableCompacted => "table_compacted",
            Self::Other => "other",
        }
    }

    pub fn severity(self) -> Severity {
        match self {
            Self::WorkerLost | Self::JobFailed | Self::JobUnreadable | Self::DataLost => {
                Severity::Error
            }
            Self::ClockSkewed
            | Self::TaskFailed
            | Self::FunctionFailed
            | Self::LookupRefused
            | Self::Throttled
            | Self::CallFailed => Severity::Warning,
            Self::LeaderElected
            | Self::WorkerJoined
            | Self::WorkerLeft
            | Self::TaskStarted
            | Self::JobSubmitted
            | Self::JobChanged
            | Self::JobDraining
            | Self::JobStopped
            | Self::JobResumed
            | Self::JobCompleted
            | Self::JobDeleted
            | Self::JobRepaired
            | Self::LookupTaken
            | Self::ShardEnded
            | Self::ShardSplit
            | Self::ShardMerged
            | Self::HistoryCut
            | Self::TableCompacted
            | Self::Other => Severity::Info,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Info,
    Warning,
    Error,
}

/// What a decision has to report; the journal adds when and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub kind: Kind,
    /// The worker, shard, lookup or call that it is about. Notes of one kind, job and subject are
    /// folded.
    pub subject: String,
    pub text: String,
}

impl Note {
    pub fn new(kind: Kind, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            kind,
            subject: cut(&subject.into()).to_owned(),
            text: cut(&text.into()).to_owned(),
        }
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

/// What happened, once or several times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Rises with every entry.
    pub id: u64,
    /// Rises with every change of any entry: the order of the journal.
    pub revision: u64,
    pub kind: Kind,
    /// None: it is about the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobName>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// Of the last time.
    pub text: String,
    /// Under which leader it happened last.
    pub term: Term,
    pub first_ms: i64,
    pub last_ms: i64,
    pub count: u64,
}

impl From<&Entry> for v1::Event {
    fn from(entry: &Entry) -> Self {
        use v1::event::Severity as Wire;
        let severity = match entry.kind.severity() {
            Severity::Info => Wire::Info,
            Severity::Warning => Wire::Warning,
            Severity::Error => Wire::Error,
        };
        Self {
            id: entry.id,
            kind: entry.kind.label().to_owned(),
            severity: severity.into(),
            job: entry
                .job
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            subject: entry.subject.clone(),
            text: entry.text.clone(),
            term: entry.term.0,
            first_ms: entry.first_ms,
            last_ms: entry.last_ms,
            count: entry.count,
        }
    }
}
