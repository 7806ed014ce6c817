//! What a job notes in the journal.
//!
//! Owns: kinds and texts of what needs more than one line to express. Does not own: limits and order
//! (`journal`).
//! Rule: a note follows from what is known here; it never changes a decision.

use super::super::event::{EndedShard, Place, TaskEnd};
use super::super::journal::{Kind, Note};
use super::Job;
use crate::stored::DesiredState;
use streamctl_proto::json::time;
use streamctl_proto::manifest::TimeGap;
use streamctl_proto::{ShardId, TaskId, WorkerId};

impl Job {
    /// Notes what happened to the job.
    pub(crate) fn note(&mut self, kind: Kind, subject: impl Into<String>, text: impl Into<String>) {
        self.notes.push(Note::new(kind, subject, text));
    }

    pub(crate) fn note_wanted(&mut self, wanted: &DesiredState) {
        let epoch = self.epoch();
        let (kind, text) = match wanted {
            DesiredState::Running => (Kind::JobResumed, format!("after epoch {epoch}")),
            DesiredState::Draining => (
                Kind::JobDraining,
                "it finishes its open windows, then stops".to_owned(),
            ),
            DesiredState::Stopped if self.not_drained.is_some() => (
                Kind::JobStopped,
                format!("after epoch {epoch}; the drain took too long and was given up"),
            ),
            DesiredState::Stopped => (Kind::JobStopped, format!("after epoch {epoch}")),
            DesiredState::Completed => (
                Kind::JobCompleted,
                format!("its source is read to the end, with epoch {epoch}"),
            ),
            DesiredState::Failed { error, .. } => (Kind::JobFailed, error.clone()),
            // Noted when the store has deleted it.
            DesiredState::Deleted => return,
        };
        self.note(kind, "", text);
    }

    /// A task that reads the shard again notes nothing.
    pub(crate) fn note_shard_ended(&mut self, ended: &EndedShard) {
        let id = &ended.shard;
        if self.shards.get(id).is_none_or(|shard| shard.ended()) {
            return;
        }
        let children: Vec<&str> = ended.children.iter().map(|it| it.shard.as_str()).collect();
        let (kind, text) = match ended.children.as_slice() {
            [] => (Kind::ShardEnded, "it is read to its end".to_owned()),
            [child] if child.parents.len() > 1 => (
                Kind::ShardMerged,
                format!("it is read to its end and continues in {}", child.shard),
            ),
            _ => (
                Kind::ShardSplit,
                format!(
                    "it is read to its end and continues in {}",
                    children.join(", ")
                ),
            ),
        };
        self.note(kind, id.to_string(), text);
    }

    pub(crate) fn note_task_end(&mut self, worker: &WorkerId, task: TaskId, end: &TaskEnd) {
        let (kind, error) = match end {
            TaskEnd::Completed | TaskEnd::Released | TaskEnd::Cancelled => return,
            TaskEnd::Refused {
                place: Place::Functions,
                error,
                ..
            } => (Kind::FunctionFailed, error),
            TaskEnd::Wait { error }
            | TaskEnd::Refused { error, .. }
            | TaskEnd::Retry { error }
            | TaskEnd::Fatal { error, .. } => (Kind::TaskFailed, error),
        };
        self.note(kind, worker.to_string(), format!("{task}: {error}"));
    }

    pub(crate) fn note_data_lost(&mut self, id: &ShardId, gap: TimeGap) {
        let from = time(gap.from_ms);
        let to = time(gap.to_ms);
        let text = format!("records that arrived between {from} and {to} expired unread");
        self.note(Kind::DataLost, id.to_string(), text);
    }
}
