//! The names of tasks, and the job of each task.
//!
//! Owns: ids that are never used twice; the way from a task's id to its job. Does not own: tasks
//! ([`Job`]).
//! Rule: every task of every job is here; an ended task may remain for a while.

use super::Job;
use std::collections::BTreeMap;
use streamctl_proto::{JobName, TaskId, Term};

/// Ended tasks that may remain in the index, in addition to as many as there are live ones.
const SPARE_MAX: usize = 1_024;

#[derive(Clone, Debug)]
pub(crate) struct TaskIndex {
    /// The id that the next task gets.
    next: TaskId,
    jobs: BTreeMap<TaskId, JobName>,
}

impl TaskIndex {
    pub fn new(term: Term) -> Self {
        let next = TaskId { term, counter: 1 };
        Self {
            next,
            jobs: BTreeMap::new(),
        }
    }

    /// The id that the next task gets: all tasks so far have smaller ones.
    pub fn next(&self) -> TaskId {
        self.next
    }

    /// Names a task that no worker gets.
    pub fn name(&mut self) -> TaskId {
        let id = self.next;
        self.next.counter += 1;
        id
    }

    /// Names a task of a job.
    pub fn name_for(&mut self, job: &JobName) -> TaskId {
        let id = self.name();
        self.jobs.insert(id, job.clone());
        id
    }

    /// A job has adopted tasks.
    pub fn settle(&mut self, job: &Job) {
        self.jobs
            .extend(job.tasks.keys().map(|task| (*task, job.name().clone())));
    }

    /// The job that has the task, or had it.
    pub fn job_of(&self, task: TaskId) -> Option<&JobName> {
        self.jobs.get(&task)
    }

    /// Removes ended tasks, once they are many.
    pub fn forget(&mut self, jobs: &BTreeMap<JobName, Job>) {
        let live = jobs.values().map(|job| job.tasks.len()).sum::<usize>();
        if self.jobs.len() > live * 2 + SPARE_MAX {
            self.jobs.retain(|task, name| {
                jobs.get(name)
                    .is_some_and(|job| job.tasks.contains_key(task))
            });
        }
    }
}
