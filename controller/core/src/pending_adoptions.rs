//! Tasks of an earlier leader that wait for the decision whether to adopt them.
//!
//! Owns: which worker offers which task, and the messages of these tasks meanwhile. Does not own:
//! the decision (`recover`).
//! Rule: a thousand workers may connect at the same time with all their tasks, so no message causes
//! a scan of all offers.

use super::{Event, RunningTask, TaskEvent};
use std::collections::{BTreeMap, BTreeSet};
use streamctl_proto::{JobName, TaskId, WorkerId};

/// Most messages held for tasks that wait for their adoption, over all tasks.
pub const HELD_MAX: usize = 100_000;

/// Offered tasks, and their messages since.
#[derive(Clone, Debug, Default)]
pub(super) struct PendingAdoptions {
    tasks: BTreeMap<WorkerId, BTreeMap<TaskId, RunningTask>>,
    /// In the order of arrival.
    held: BTreeMap<u64, Held>,
    /// The last progress message of each task: only that matters, and their number is unbounded.
    progress: BTreeMap<(WorkerId, TaskId), u64>,
    messages: u64,
}

/// A message of a task.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub worker: WorkerId,
    pub task: TaskId,
    pub event: Event,
}

impl PendingAdoptions {
    /// A worker offers a task that it runs.
    pub fn offer(&mut self, worker: &WorkerId, running: RunningTask) {
        self.tasks
            .entry(worker.clone())
            .or_default()
            .insert(running.task, running);
    }

    /// The task, if this worker offers it.
    pub fn get(&self, worker: &WorkerId, task: TaskId) -> Option<&RunningTask> {
        self.tasks.get(worker)?.get(&task)
    }

    /// Drops one offered task and its messages.
    pub fn withdraw(&mut self, worker: &WorkerId, task: TaskId) {
        let removed = self
            .tasks
            .get_mut(worker)
            .and_then(|tasks| tasks.remove(&task));
        if removed.is_some() {
            self.forget_held(|held| held.worker == *worker && held.task == task);
        }
    }

    /// Drops everything that a worker offered; returns its tasks.
    pub fn forget(&mut self, worker: &WorkerId) -> Vec<TaskId> {
        let Some(tasks) = self.tasks.remove(worker) else {
            return vec![];
        };
        self.forget_held(|held| held.worker == *worker);
        tasks.into_keys().collect()
    }

    /// Drops everything that is offered of a job; returns it.
    pub fn forget_job(&mut self, name: &JobName) -> Vec<(WorkerId, TaskId)> {
        let mut forgotten = vec![];
        for (worker, tasks) in &mut self.tasks {
            let gone = tasks.extract_if(.., |_, running| running.job == *name);
            forgotten.extend(gone.map(|(task, _)| (worker.clone(), task)));
        }
        let gone: BTreeSet<_> = forgotten.iter().cloned().collect();
        self.forget_held(|held| gone.contains(&(held.worker.clone(), held.task)));
        forgotten
    }

    /// Holds the message of an offered task; returns any other event.
    pub fn hold(&mut self, event: Event) -> Option<Event> {
        let Some((worker, task)) = event.sender() else {
            return Some(event);
        };
        if self.get(worker, task).is_none() {
            return Some(event);
        }
        let worker = worker.clone();
        if self.held.len() >= HELD_MAX {
            // The message is lost, so later reports of the task will not chain: withdraw the task,
            // and it is read again.
            self.withdraw(&worker, task);
            return None;
        }
        self.messages += 1;
        if matches!(
            event,
            Event::Task {
                event: TaskEvent::Progressed { .. },
                ..
            }
        ) && let Some(before) = self.progress.insert((worker.clone(), task), self.messages)
        {
            self.held.remove(&before);
        }
        self.held.insert(
            self.messages,
            Held {
                worker,
                task,
                event,
            },
        );
        None
    }

    /// Takes everything, once the decision is made.
    pub fn take(
        &mut self,
    ) -> (
        Vec<(WorkerId, RunningTask)>,
        impl Iterator<Item = Held> + use<>,
    ) {
        let Self { tasks, held, .. } = std::mem::take(self);
        let of = |(worker, tasks): (WorkerId, BTreeMap<TaskId, RunningTask>)| {
            tasks
                .into_values()
                .map(move |running| (worker.clone(), running))
        };
        (tasks.into_iter().flat_map(of).collect(), held.into_values())
    }

    fn forget_held(&mut self, which: impl Fn(&Held) -> bool) {
        self.held.retain(|_, held| !which(held));
        self.progress
            .retain(|_, number| self.held.contains_key(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Computing;
    use streamctl_proto::{JobVersion, Term, Watermark};

    const TASK: TaskId = TaskId {
        term: Term(1),
        counter: 1,
    };

    fn running() -> RunningTask {
        RunningTask {
            task: TASK,
            job: "job".to_owned().try_into().unwrap(),
            job_version: JobVersion::FIRST,
            submitted_ms: None,
            base: BTreeMap::new(),
            reports: vec![],
            watermark: Watermark::At(0),
            windows: vec![],
            ended: vec![],
            lost: BTreeMap::new(),
            retention_ms: None,
            released: false,
        }
    }

    fn progressed(worker: &str, watermark: i64) -> Event {
        Event::Task {
            worker: WorkerId::new(worker),
            task: TASK,
            event: TaskEvent::Progressed {
                watermark: Watermark::At(watermark),
                work_us: 0,
                computing: Computing::default(),
                hanging: vec![],
                shards: vec![],
            },
        }
    }

    fn watermarks(offers: &mut PendingAdoptions) -> Vec<i64> {
        let watermark = |held: Held| match held.event {
            Event::Task {
                event: TaskEvent::Progressed { watermark, .. },
                ..
            } => watermark.time_ms().unwrap(),
            other => panic!("{other:?}"),
        };
        offers.take().1.map(watermark).collect()
    }

    #[test]
    fn only_messages_of_an_offered_task_are_held_and_of_its_progress_the_last() {
        let mut offers = PendingAdoptions::default();
        let one = WorkerId::new("one");
        let other = WorkerId::new("other");
        offers.offer(&one, running());
        offers.offer(&other, running());
        assert!(offers.hold(Event::Ticked).is_some());
        assert!(offers.hold(progressed("third", 1)).is_some());
        for event in [
            progressed("one", 1),
            progressed("other", 2),
            progressed("one", 3),
        ] {
            assert!(offers.hold(event).is_none());
        }
        assert_eq!(watermarks(&mut offers), [2, 3]);
        assert!(offers.hold(progressed("one", 4)).is_some(), "it is decided");
    }

    #[test]
    fn offers_and_messages_of_a_worker_are_forgotten_with_it_and_no_others() {
        let mut offers = PendingAdoptions::default();
        let one = WorkerId::new("one");
        let other = WorkerId::new("other");
        offers.offer(&one, running());
        offers.offer(&other, running());
        for event in [progressed("one", 1), progressed("other", 2)] {
            assert!(offers.hold(event).is_none());
        }
        assert_eq!(offers.forget(&one), [TASK]);
        assert_eq!(offers.forget(&one), []);
        assert!(offers.get(&one, TASK).is_none() && offers.get(&other, TASK).is_some());
        offers.offer(&one, running());
        assert!(offers.hold(progressed("one", 5)).is_none());
        assert_eq!(watermarks(&mut offers), [2, 5]);
    }
}
