//! Which stream a job reads, how long it keeps records, and up to when each shard is read.
//!
//! Does not own: requests to the service (`shards`), what a reader does with the result (the
//! worker).
//! Rule: a job reads one stream for life. A stream that was created again under the same name is
//! refused.

use super::super::effect::Effect;
use super::{Job, TaskState, is_dead_letters};
use streamctl_proto::manifest::time_text;
use streamctl_proto::resolved::StreamFacts;
use streamctl_proto::{Position, ShardId, Window};

/// How many times per retention of its stream an idle job records up to when it has read.
const IDLE_EPOCHS_PER_RETENTION: i64 = 4;
/// Time between two checks of whether that is due: each check visits all shards.
const IDLE_CHECK_INTERVAL_MS: i64 = 10_000;

impl Job {
    /// Takes the stream facts of a listing. A job that does not know its stream yet takes this one.
    /// Tasks that were started with another retention are started again, so that their readers
    /// compare with the current one.
    ///
    /// # Errors
    /// If another stream has the name now: what is wrong, and what to do.
    pub fn learn_stream(
        &mut self,
        stream: Option<StreamFacts>,
        out: &mut Vec<Effect>,
    ) -> Result<(), (String, String)> {
        let Some(stream) = stream else { return Ok(()) };
        let identity = self.identity.get_or_insert_with(|| stream.identity.clone());
        if !identity.is(&stream.identity) {
            let name = self
                .resolved
                .stream
                .as_ref()
                .map_or("", |address| &address.name);
            let was = time_text(identity.created_ms);
            let is = time_text(stream.identity.created_ms);
            let error = format!(
                "the stream {name} was deleted and created again: this job reads the one created at {was}, the one that \
                 has the name now was created at {is}"
            );
            let hint = "submit the job under another name, with another checkpoint location and sink, to read the new stream; \
                        records of the old one that were not read are gone"
                .to_owned();
            return Err((error, hint));
        }
        for (id, task) in &mut self.tasks {
            if task.state == TaskState::Running && task.retention_ms != Some(stream.retention_ms) {
                task.state = TaskState::Releasing;
                out.push(Effect::ReleaseTask {
                    worker: task.worker.clone(),
                    task: *id,
                });
            }
        }
        self.stream = Some(stream);
        Ok(())
    }

    /// Every record of a shard that arrived before this time is read, by the source's clock. None
    /// if records do not expire. For a shard of which no record was read, this covers the records
    /// that arrived since the job's start.
    pub fn read_to_ms(&self, id: &ShardId) -> Option<i64> {
        let shard = self
            .shards
            .get(id)
            .filter(|_| self.lists_again() && !is_dead_letters(id))?;
        let known_ms = shard.floor.time_ms().max(shard.read_to_ms);
        match shard.reached {
            Position::Start | Position::Timestamp(_) => {
                known_ms.max(Some(self.resolved.promised_from_ms()))
            }
            Position::After { .. } | Position::End => known_ms,
        }
    }

    /// For an idle job with an old head: the last window that every shard is past. What the head
    /// records of the shards would soon prove nothing; an epoch without records renews it.
    /// Otherwise, after a restart of all controllers and workers, a job without records would look
    /// like one that did not read.
    pub(super) fn idle_window(&mut self, now_ms: i64) -> Option<Window> {
        let every_ms = self.stream.as_ref()?.retention_ms / IDLE_EPOCHS_PER_RETENTION;
        let waits = self.idle_check_at_ms.is_some_and(|at_ms| now_ms < at_ms);
        if !self.runs() || !self.windows.is_empty() || waits {
            return None;
        }
        self.idle_check_at_ms = Some(now_ms.saturating_add(IDLE_CHECK_INTERVAL_MS));
        let read_to_ms = self.watermark().time_ms()?;
        let promised_ms = self.resolved.promised_from_ms();
        let recorded_ms = self.head_end.time_ms().unwrap_or(promised_ms);
        let due = read_to_ms.saturating_sub(recorded_ms) >= every_ms;
        let size = self.resolved.spec.window;
        let end_ms = size.window_of(read_to_ms).start_ms;
        let window = size.window_of(end_ms.saturating_sub(1));
        (due && size.has(window) && window.end_ms > recorded_ms).then_some(window)
    }
}
