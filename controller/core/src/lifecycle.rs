//! Stop, drain, resume and failure of a job.
//!
//! Owns: the changes of the desired state. Does not own: deletion (`deletion`), the end of a bounded
//! source (`advance`).
//! Rule: the store records each desired state, one write at a time, so that the last one wins.

use super::Effect;
use super::job::{DRAIN_GRACE_MS, Drain, Job, TaskState};
use super::step::Step;
use crate::stored::DesiredState;

impl Job {
    /// Changes the desired state and has it stored.
    pub(super) fn want(&mut self, wanted: DesiredState, out: &mut Vec<Effect>) {
        if wanted != DesiredState::Draining {
            self.drain = None;
        }
        if self.wanted != wanted {
            self.note_wanted(&wanted);
        }
        self.wanted = wanted;
        if !self.recording {
            self.recording = true;
            out.push(Effect::RecordWanted {
                job: self.name().clone(),
                wanted: self.wanted.clone(),
            });
        }
    }

    pub(super) fn fail(&mut self, error: String, hint: String, out: &mut Vec<Effect>) {
        self.halt(DesiredState::Failed { error, hint }, out);
    }

    /// Ends all reading at once. An epoch that is being committed continues.
    pub(super) fn halt(&mut self, wanted: DesiredState, out: &mut Vec<Effect>) {
        if self.is_live() {
            self.cancel_tasks(out);
            self.drop_uncommitted();
            self.want(wanted, out);
        }
    }

    /// Removes all tasks and informs their workers.
    pub(super) fn cancel_tasks(&mut self, out: &mut Vec<Effect>) {
        for id in self.tasks.keys().copied().collect::<Vec<_>>() {
            if let Some(task) = self.remove_task(id) {
                out.push(Effect::CancelTask {
                    worker: task.worker,
                    task: id,
                });
            }
        }
    }

    /// A user requested a stop; with `finish`, after the open windows.
    pub(super) fn stop(&mut self, finish: bool, step: &mut Step<'_>) {
        self.not_drained = None;
        if finish && self.wanted == DesiredState::Draining {
            return;
        }
        let requested = self.waiting.iter().map(|(window, _)| window);
        let open = self.windows.keys().chain(requested);
        match open.map(|window| window.end_ms).max() {
            Some(until_ms) if finish && self.runs() => {
                self.begin_drain(until_ms, step);
                self.want(DesiredState::Draining, step.out);
            }
            _ => self.halt(DesiredState::Stopped, step.out),
        }
    }

    /// Lets all tasks finish their windows up to a time.
    pub(super) fn begin_drain(&mut self, until_ms: i64, step: &mut Step<'_>) {
        self.plan_due = true;
        self.drain = Some(Drain {
            until_ms,
            give_up_ms: until_ms.max(step.now).saturating_add(DRAIN_GRACE_MS),
        });
        for (id, task) in &mut self.tasks {
            task.state = TaskState::Draining(until_ms);
            step.out.push(Effect::DrainTask {
                worker: task.worker.clone(),
                task: *id,
                until_ms: Some(until_ms),
            });
        }
    }

    /// A user requested that the job continue.
    pub(super) fn resume(&mut self, now: i64, out: &mut Vec<Effect>) {
        if self.unreadable.is_some() {
            return self.read_soon(now);
        }
        match self.wanted {
            DesiredState::Draining => self.take_back_drain(out),
            DesiredState::Stopped | DesiredState::Failed { .. } => {
                self.forget_failures();
                self.refusal_rounds = 0;
                self.avoided.clear();
                self.deaths.clear();
                self.not_drained = None;
                self.delays.clear();
                self.pause_until_ms = Some(now);
                self.plan_due = true;
                self.listing.needed = self.listing.asked + 1;
                self.publish_next(out);
                self.want(DesiredState::Running, out);
            }
            DesiredState::Running | DesiredState::Completed | DesiredState::Deleted => {}
        }
    }

    /// Drained tasks have dropped what they must not finish: they release their shards at their
    /// positions, and other tasks continue from there.
    fn take_back_drain(&mut self, out: &mut Vec<Effect>) {
        for (id, task) in &mut self.tasks {
            if matches!(task.state, TaskState::Draining(_)) {
                task.state = TaskState::Releasing;
                out.push(Effect::ReleaseTask {
                    worker: task.worker.clone(),
                    task: *id,
                });
            }
        }
        self.listing.needed = self.listing.asked + 1;
        self.want(DesiredState::Running, out);
    }
}
