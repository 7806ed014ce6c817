//! What this worker's tasks have said and what is not yet decided: the truth that a new leader is told.
//!
//! Owns: per task its base, its uncommitted reports, open windows, ended shards; the line to the controller.
//! Does not own: the work itself (`task`), the connection (`session`).
//! Rule: saying and remembering are one step under one lock, so that a Hello lacks nothing and repeats nothing.

use crate::source::Child;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use streamctl_proto::convert::lookups_to_wire;
use streamctl_proto::v1::worker_message::Message;
use streamctl_proto::{JobName, LookupVersion, Position, Report, ShardId, TaskId, Window, v1};
use tokio::sync::mpsc;

/// Messages that may wait for the line. A line on which more pile up is given up and dialled again.
pub const QUEUE_MAX: usize = 4_096;

/// What is remembered of one task.
struct Entry {
    job: JobName,
    base: BTreeMap<ShardId, Position>,
    reports: Vec<Report>,
    watermark_ms: i64,
    asked: Vec<Window>,
    open: BTreeMap<Window, BTreeMap<String, LookupVersion>>,
    ended: Vec<v1::ShardEnded>,
    released: bool,
}

#[derive(Default)]
struct Inner {
    tasks: BTreeMap<TaskId, Entry>,
    line: Option<mpsc::Sender<v1::WorkerMessage>>,
}

/// What this worker's tasks have said.
#[derive(Default)]
pub struct Registry(Mutex<Inner>);

impl Inner {
    /// False when there is no line any more.
    fn say(&mut self, message: Message) -> bool {
        let Some(line) = &self.line else { return false };
        if line.try_send(v1::WorkerMessage { message: Some(message) }).is_err() {
            self.line = None;
        }
        self.line.is_some()
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new line: what it must begin with, and what is said on it from now on.
    pub fn connect(&self, worker: &str, flight_address: &str) -> (v1::Hello, mpsc::Receiver<v1::WorkerMessage>) {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let mut inner = self.lock();
        let tasks = inner.tasks.iter().map(|(id, entry)| running(*id, entry)).collect();
        let asked: Vec<_> =
            inner.tasks.iter().flat_map(|(id, entry)| entry.asked.iter().map(|w| opening(*id, *w))).collect();
        inner.line = Some(sender);
        for message in asked {
            inner.say(message);
        }
        let (worker, flight_address) = (worker.to_owned(), flight_address.to_owned());
        (v1::Hello { worker, flight_address, version: env!("CARGO_PKG_VERSION").into(), tasks }, receiver)
    }

    /// The line broke.
    pub fn disconnect(&self) {
        self.lock().line = None;
    }

    /// Says what needs no memory; lost, and false, when there is no line or it takes no more.
    pub fn say(&self, message: Message) -> bool {
        self.lock().say(message)
    }

    /// A task begins. False when there is one of this id.
    pub fn begin(&self, task: TaskId, job: JobName, base: BTreeMap<ShardId, Position>) -> bool {
        let mut inner = self.lock();
        if inner.tasks.contains_key(&task) {
            return false;
        }
        let entry = Entry {
            job,
            base,
            reports: vec![],
            watermark_ms: i64::MIN,
            asked: vec![],
            open: BTreeMap::new(),
            ended: vec![],
            released: false,
        };
        inner.tasks.insert(task, entry);
        true
    }

    /// A task met the first record of a window.
    pub fn ask_window(&self, task: TaskId, window: Window) {
        let mut inner = self.lock();
        if let Some(entry) = inner.tasks.get_mut(&task) {
            entry.asked.push(window);
            inner.say(opening(task, window));
        }
    }

    /// The controller named the lookup versions of a window. False when the task did not ask.
    pub fn window_opened(&self, task: TaskId, window: Window, lookups: &BTreeMap<String, LookupVersion>) -> bool {
        let mut inner = self.lock();
        let Some(entry) = inner.tasks.get_mut(&task) else { return false };
        let asked = entry.asked.iter().position(|asked| *asked == window);
        if let Some(index) = asked {
            entry.asked.remove(index);
            entry.open.insert(window, lookups.clone());
        }
        asked.is_some()
    }

    /// A task closed its part of a window.
    pub fn report(&self, report: Report) {
        let mut inner = self.lock();
        if let Some(entry) = inner.tasks.get_mut(&report.task) {
            entry.open.remove(&report.window);
            let message = Message::Report((&report).into());
            entry.reports.push(report);
            inner.say(message);
        }
    }

    /// A task has reported everything before the watermark.
    pub fn progress(&self, task: TaskId, watermark_ms: i64, shards: Vec<v1::ShardProgress>) {
        let mut inner = self.lock();
        if let Some(entry) = inner.tasks.get_mut(&task) {
            entry.watermark_ms = entry.watermark_ms.max(watermark_ms);
            let watermark_ms = entry.watermark_ms;
            inner.say(Message::Progress(v1::Progress { task: Some(task.into()), watermark_ms, shards }));
        }
    }

    /// A task read a shard to its end.
    pub fn shard_ended(&self, task: TaskId, shard: &ShardId, last: &Position, floor_ms: i64, children: &[Child]) {
        let child = |child: &Child| v1::ChildShard {
            shard: child.shard.to_string(),
            parents: child.parents.iter().map(ToString::to_string).collect(),
        };
        let ended = v1::ShardEnded {
            task: Some(task.into()),
            shard: shard.to_string(),
            last: Some(last.into()),
            children: children.iter().map(child).collect(),
            floor_ms,
        };
        let mut inner = self.lock();
        if let Some(entry) = inner.tasks.get_mut(&task) {
            entry.ended.push(ended.clone());
            inner.say(Message::ShardEnded(ended));
        }
    }

    /// A task is no more. If it reported all that it read, its reports are remembered until they are committed.
    pub fn end(&self, task: TaskId, why: v1::task_ended::Why, error: String, hint: String) {
        use v1::task_ended::Why;
        let mut inner = self.lock();
        let Some(entry) = inner.tasks.get_mut(&task) else { return };
        entry.released = true;
        entry.asked.clear();
        entry.open.clear();
        let whole = matches!(why, Why::Completed | Why::Released);
        if !whole || entry.reports.is_empty() {
            inner.tasks.remove(&task);
        }
        inner.say(Message::TaskEnded(v1::TaskEnded { task: Some(task.into()), why: why.into(), error, hint }));
    }

    /// Forgets a task that the controller does not know.
    pub fn forget(&self, task: TaskId) {
        self.lock().tasks.remove(&task);
    }

    /// Reports up to this window are decided.
    pub fn committed(&self, job: &JobName, window: Window) {
        let mut inner = self.lock();
        for entry in inner.tasks.values_mut().filter(|entry| entry.job == *job) {
            let (decided, rest) = std::mem::take(&mut entry.reports).into_iter().partition(|r| r.window <= window);
            entry.reports = rest;
            let decided: Vec<Report> = decided;
            for (shard, range) in decided.into_iter().flat_map(|report| report.ranges) {
                entry.base.insert(shard, range.to);
            }
        }
        inner.tasks.retain(|_, entry| !(entry.released && entry.reports.is_empty()));
    }
}

fn opening(task: TaskId, window: Window) -> Message {
    Message::WindowOpening(v1::WindowOpening { task: Some(task.into()), window: Some(window.into()) })
}

fn running(id: TaskId, entry: &Entry) -> v1::RunningTask {
    let shard = |(shard, from): (&ShardId, &Position)| v1::TaskShard {
        shard: shard.to_string(),
        from: Some(from.into()),
        after: vec![],
        detail: String::new(),
        floor_ms: 0,
    };
    let window = |(window, lookups): (&Window, &BTreeMap<String, LookupVersion>)| v1::WindowOpened {
        task: Some(id.into()),
        window: Some((*window).into()),
        lookups: lookups_to_wire(lookups),
    };
    v1::RunningTask {
        task: Some(id.into()),
        job: entry.job.to_string(),
        shards: entry.base.iter().map(shard).collect(),
        reports: entry.reports.iter().map(Into::into).collect(),
        watermark_ms: entry.watermark_ms,
        windows: entry.open.iter().map(window).collect(),
        ended: entry.ended.clone(),
        released: entry.released,
    }
}
