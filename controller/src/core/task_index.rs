//! The job of each task.
//!
//! Owns: the way from a task's id to its job. Does not own: tasks ([`Job`]).
//! Rule: every task of every job is here; an ended task may remain for a while.

use super::Job;
use std::collections::BTreeMap;
use streamctl_proto::{JobName, TaskId};

/// Ended tasks that may remain in the index, in addition to as many as there are live ones.
const SPARE_MAX: usize = 1_024;

#[derive(Clone, Debug, Default)]
pub(super) struct TaskIndex(BTreeMap<TaskId, JobName>);

impl TaskIndex {
    /// A task was assigned.
    pub fn give(&mut self, task: TaskId, job: &JobName) {
        self.0.insert(task, job.clone());
    }

    /// A job has adopted tasks.
    pub fn settle(&mut self, job: &Job) {
        self.0
            .extend(job.tasks.keys().map(|task| (*task, job.name().clone())));
    }

    /// The job that has the task, or had it.
    pub fn name_of(&self, task: TaskId) -> Option<&JobName> {
        self.0.get(&task)
    }

    /// Removes ended tasks, once they are many.
    pub fn forget(&mut self, jobs: &BTreeMap<JobName, Job>) {
        let live = jobs.values().map(|job| job.tasks.len()).sum::<usize>();
        if self.0.len() > live * 2 + SPARE_MAX {
            self.0.retain(|task, name| {
                jobs.get(name)
                    .is_some_and(|job| job.tasks.contains_key(task))
            });
        }
    }
}
