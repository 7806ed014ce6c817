//! The consequence of a refused message: its task ends, and nothing else.
//!
//! Owns: which job a refusal counts against, when that job fails, how long the worker is avoided.
//! Does not own: what is refused (`check`).
//! Rule: one worker alone never fails a job that another worker can run. If every worker is
//! refused, the job fails within its retries.

use super::event::RefusedTask;
use super::job::{AvoidedFor, Delay};
use super::journal::Kind;
use super::status::ERROR_CHARS_MAX;
use super::*;

/// If this many different workers are refused for one job between two of its commits, the records
/// or the job are considered the cause, and each refusal counts against `[retry] max`.
pub const SUSPECT_WORKERS_MAX: usize = 3;
/// Shards of a refused task that its error names.
const SHARDS_NAMED_MAX: usize = 3;

impl Core {
    /// Ends the task. Nothing of the message was used, so another task reads its shards again.
    pub(super) fn refuse_task(
        &mut self,
        now: i64,
        worker: &WorkerId,
        refused: &RefusedTask,
        out: &mut Vec<Effect>,
    ) {
        let RefusedTask { task, problem, .. } = refused;
        let waits = self.settings.retry_waits_ms;
        let times = self.settings.avoid_times();
        let name = self.job_of_refused(worker, refused);
        let shards = self
            .job_of(worker, *task)
            .map(|job| shard_names(&job.tasks[task].shards));
        self.pending_adoptions.withdraw(worker, *task);
        self.cancel(worker, *task, out);
        let Some(name) = name else { return };
        let others: Vec<WorkerId> = self
            .workers
            .iter()
            .filter(|(id, other)| *id != worker && !other.leaving)
            .map(|(id, _)| id.clone())
            .collect();
        let Some(job) = self.jobs.get_mut(&name) else {
            return;
        };
        let refusals = job.refusals.entry(worker.clone()).or_default();
        refusals.times = refusals.times.saturating_add(1);
        refusals.since_commit = true;
        job.refusals
            .retain(|id, _| id == worker || others.contains(id));
        let was_refused = |id: &WorkerId| {
            job.refusals
                .get(id)
                .is_some_and(|refusals| refusals.since_commit)
        };
        let refused_workers = job
            .refusals
            .values()
            .filter(|refusals| refusals.since_commit)
            .count();
        let another_may_do_it =
            others.iter().any(|id| !was_refused(id)) && refused_workers < SUSPECT_WORKERS_MAX;

        let about = shards.map_or_else(|| task.to_string(), |shards| format!("{task} ({shards})"));
        let error = format!("what worker {worker} reports of task {about} is refused: {problem}");
        let error: String = error.chars().take(ERROR_CHARS_MAX).collect();
        job.retries += 1;
        job.avoid(
            worker,
            now,
            times,
            AvoidedFor::NoAnswer {
                error: error.clone(),
            },
        );
        job.note(Kind::TaskFailed, worker.to_string(), error.clone());
        job.delays.insert(Delay::Task, error.clone());
        if another_may_do_it {
            job.pause_until_ms = job.pause_until_ms.max(Some(now + waits[0]));
            return;
        }
        job.count_failure(now, waits);
        if job.failures > job.resolved.spec.retries_max {
            let hint = "nothing of it was used. If one worker alone is refused, restart it in the controllers' version; \
                        if every worker is, the records or the job file are the cause: submit a changed file with --change";
            job.fail(error, hint.to_owned(), out);
        }
    }

    /// The job that a refusal counts against. The job that the worker names counts only for a task
    /// that this leader may still adopt: one of an earlier leader, during adoption.
    fn job_of_refused(&mut self, worker: &WorkerId, refused: &RefusedTask) -> Option<JobName> {
        if let Some(job) = self.job_of(worker, refused.task) {
            return Some(job.name().clone());
        }
        if let Some(running) = self.pending_adoptions.get(worker, refused.task) {
            return Some(running.job.clone());
        }
        let may_be_adopted = self.adopting && refused.task.term < self.term;
        refused
            .job
            .clone()
            .filter(|name| may_be_adopted && self.jobs.contains_key(name))
    }
}

/// The first shards of a task, for a message.
pub(crate) fn shard_names(shards: &BTreeSet<ShardId>) -> String {
    let mut names: Vec<&str> = shards
        .iter()
        .take(SHARDS_NAMED_MAX)
        .map(ShardId::as_str)
        .collect();
    if shards.len() > SHARDS_NAMED_MAX {
        names.push("...");
    }
    names.join(", ")
}
