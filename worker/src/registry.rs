//! The reports of this worker's tasks that are not yet decided: the state that is sent to a new
//! leader.
//!
//! Owns: per task its base, its uncommitted reports, open windows, ended shards; the connection to
//! the controller. Does not own: the work itself (`task`), dialling (`session`).
//! Rule: sending and remembering are one step under one lock, so that a Hello lacks nothing and
//! repeats nothing.

use prost::Message as _;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use streamctl_engine::source::Child;
use streamctl_proto::convert::lookups_to_wire;
use streamctl_proto::parts::{REPORT_BYTES_MAX, UNDECIDED_BYTES_MAX};
use streamctl_proto::v1::task_ended::{Place, Why};
use streamctl_proto::v1::worker_message::Message;
use streamctl_proto::{
    JobName, JobVersion, LookupVersion, Position, Report, ResolvedJob, ShardId, TaskId, Watermark,
    Window, v1,
};
use tokio::sync::mpsc;

/// Messages that may be queued for the connection. If more pile up, the connection is closed and
/// dialled again.
pub const QUEUE_MAX: usize = 4_096;

/// Identifies the job of a task: a name can be reused after its job was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobIdentity {
    pub name: JobName,
    pub version: JobVersion,
    /// When it was first submitted.
    pub submitted_ms: i64,
}

impl From<&ResolvedJob> for JobIdentity {
    fn from(job: &ResolvedJob) -> Self {
        Self {
            name: job.spec.name.clone(),
            version: job.job_version,
            submitted_ms: job.submitted_ms,
        }
    }
}

/// A report whose window is not yet committed.
struct Undecided {
    report: Report,
    bytes: usize,
}

/// A report cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Its window can never be committed.
    #[error(
        "the report of a window has {bytes} bytes for {objects} objects, the limit is {REPORT_BYTES_MAX}; partition by \
         columns with fewer values, raise sink.target_size, make the window shorter, or give the workers more memory"
    )]
    TooLarge { bytes: usize, objects: usize },
    /// There is no room for it beside those that wait for their commit.
    #[error(
        "reports that wait for their commit would have {bytes} bytes on this worker, the limit is \
         {UNDECIDED_BYTES_MAX}"
    )]
    TooMany { bytes: usize },
}

/// The state of one task.
struct Entry {
    job: JobIdentity,
    retention_ms: Option<i64>,
    base: BTreeMap<ShardId, Position>,
    reports: Vec<Undecided>,
    watermark: Watermark,
    requested: Vec<Window>,
    open: BTreeMap<Window, BTreeMap<String, LookupVersion>>,
    ended: Vec<v1::ShardEnded>,
    lost: BTreeMap<String, v1::TimeGap>,
    released: bool,
}

/// How a task ended.
pub struct Ending {
    pub why: Why,
    /// The place that refused this worker, with [`Why::Refused`].
    pub refused_by: Option<Place>,
    /// The error; empty if nothing went wrong.
    pub error: String,
    pub hint: String,
}

impl From<Why> for Ending {
    fn from(why: Why) -> Self {
        Self {
            why,
            refused_by: None,
            error: String::new(),
            hint: String::new(),
        }
    }
}

struct Inner {
    /// Distinguishes this process from the next one with the same name.
    process: u64,
    tasks: BTreeMap<TaskId, Entry>,
    connection: Option<mpsc::Sender<v1::WorkerMessage>>,
}

/// The undecided state of this worker's tasks.
pub struct Registry(Mutex<Inner>);

impl Default for Registry {
    fn default() -> Self {
        Self(Mutex::new(Inner {
            process: fastrand::u64(1..),
            tasks: BTreeMap::new(),
            connection: None,
        }))
    }
}

impl Inner {
    /// Sends a message. Returns false if there is no connection any more.
    fn send(&mut self, message: Message) -> bool {
        let Some(connection) = &self.connection else {
            return false;
        };
        if connection
            .try_send(v1::WorkerMessage {
                message: Some(message),
            })
            .is_err()
        {
            self.connection = None;
        }
        self.connection.is_some()
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a new connection: returns its Hello, and the messages that follow.
    pub fn connect(
        &self,
        worker: &str,
        flight_address: &str,
    ) -> (v1::Hello, mpsc::Receiver<v1::WorkerMessage>) {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let mut inner = self.lock();
        let tasks = inner
            .tasks
            .iter()
            .map(|(id, entry)| running(*id, entry))
            .collect();
        let requested: Vec<_> = inner
            .tasks
            .iter()
            .flat_map(|(id, entry)| entry.requested.iter().map(|w| opening(*id, *w)))
            .collect();
        inner.connection = Some(sender);
        for message in requested {
            inner.send(message);
        }
        let hello = v1::Hello {
            worker: worker.to_owned(),
            flight_address: flight_address.to_owned(),
            version: env!("CARGO_PKG_VERSION").into(),
            tasks,
            process: inner.process,
            ..Default::default()
        };
        (hello, receiver)
    }

    pub fn disconnect(&self) {
        self.lock().connection = None;
    }

    /// Sends a message that need not be remembered. It is lost, and the result is false, if there
    /// is no connection or its queue is full.
    pub fn send(&self, message: Message) -> bool {
        self.lock().send(message)
    }

    /// A task begins. Returns false if there is one with this id.
    pub fn begin(
        &self,
        task: TaskId,
        job: JobIdentity,
        base: BTreeMap<ShardId, Position>,
        retention_ms: Option<i64>,
    ) -> bool {
        let mut inner = self.lock();
        if inner.tasks.contains_key(&task) {
            return false;
        }
        let entry = Entry {
            job,
            retention_ms,
            base,
            reports: vec![],
            watermark: Watermark::Unknown,
            requested: vec![],
            open: BTreeMap::new(),
            ended: vec![],
            lost: BTreeMap::new(),
            released: false,
        };
        inner.tasks.insert(task, entry);
        true
    }

    /// A task met the first record of a window.
    pub fn ask_window(&self, task: TaskId, window: Window) {
        let mut inner = self.lock();
        if let Some(entry) = inner.tasks.get_mut(&task) {
            // A repeated request is still one request.
            if !entry.requested.contains(&window) {
                entry.requested.push(window);
            }
            inner.send(opening(task, window));
        }
    }

    /// The controller named the lookup versions of a window. Returns false if the task did not
    /// request it.
    pub fn window_opened(
        &self,
        task: TaskId,
        window: Window,
        lookups: &BTreeMap<String, LookupVersion>,
    ) -> bool {
        let mut inner = self.lock();
        let Some(entry) = inner.tasks.get_mut(&task) else {
            return false;
        };
        let requested = entry
            .requested
            .iter()
            .position(|requested| *requested == window);
        if let Some(index) = requested {
            entry.requested.remove(index);
            entry.open.insert(window, lookups.clone());
        }
        requested.is_some()
    }

    /// A task closed its part of a window. The reports of all tasks are bounded, so that a Hello
    /// with all of them can be sent.
    ///
    /// # Errors
    /// [`ReportError`]: the report is neither remembered nor sent.
    pub fn report(&self, report: Report) -> Result<(), ReportError> {
        let message = v1::Report::from(&report);
        let bytes = message.encoded_len();
        let objects = report.objects.len();
        if bytes > REPORT_BYTES_MAX {
            return Err(ReportError::TooLarge { bytes, objects });
        }
        let mut inner = self.lock();
        let undecided = inner
            .tasks
            .values()
            .flat_map(|entry| &entry.reports)
            .map(|undecided| undecided.bytes);
        let together = undecided.sum::<usize>() + bytes;
        if together > UNDECIDED_BYTES_MAX {
            return Err(ReportError::TooMany { bytes: together });
        }
        if let Some(entry) = inner.tasks.get_mut(&report.task) {
            entry.open.remove(&report.window);
            entry.reports.push(Undecided { report, bytes });
            inner.send(Message::Report(message));
        }
        Ok(())
    }

    /// A task has reported everything before the watermark.
    pub fn progress(&self, task: TaskId, progress: v1::Progress) {
        let mut inner = self.lock();
        if let Some(entry) = inner.tasks.get_mut(&task) {
            entry.watermark = entry
                .watermark
                .max(Watermark::from_wire(progress.watermark_ms));
            for shard in &progress.shards {
                if let Some(gap) = shard.lost {
                    entry.lost.insert(shard.shard.clone(), gap);
                }
            }
            let task = Some(task.into());
            let watermark_ms = entry.watermark.to_wire();
            inner.send(Message::Progress(v1::Progress {
                task,
                watermark_ms,
                ..progress
            }));
        }
    }

    /// A task read a shard to its end.
    pub fn shard_ended(
        &self,
        task: TaskId,
        shard: &ShardId,
        last: &Position,
        floor: Watermark,
        children: &[Child],
    ) {
        let child = |child: &Child| v1::ChildShard {
            shard: child.shard.to_string(),
            parents: child.parents.iter().map(ToString::to_string).collect(),
            detail: child.detail.clone(),
        };
        let ended = v1::ShardEnded {
            task: Some(task.into()),
            shard: shard.to_string(),
            last: Some(last.into()),
            children: children.iter().map(child).collect(),
            floor_ms: floor.to_wire(),
        };
        let mut inner = self.lock();
        if let Some(entry) = inner.tasks.get_mut(&task) {
            entry.ended.push(ended.clone());
            inner.send(Message::ShardEnded(ended));
        }
    }

    /// A task ended. If it reported all that it read, its reports are remembered until they are
    /// committed.
    pub fn end(&self, task: TaskId, ending: Ending) {
        let Ending {
            why,
            refused_by,
            error,
            hint,
        } = ending;
        let mut inner = self.lock();
        let Some(entry) = inner.tasks.get_mut(&task) else {
            return;
        };
        entry.released = true;
        entry.requested.clear();
        entry.open.clear();
        let whole = matches!(why, Why::Completed | Why::Released);
        if !whole || entry.reports.is_empty() {
            inner.tasks.remove(&task);
        }
        let refused_by = refused_by.unwrap_or_default().into();
        let ended = v1::TaskEnded {
            task: Some(task.into()),
            why: why.into(),
            error,
            hint,
            refused_by,
        };
        inner.send(Message::TaskEnded(ended));
    }

    /// Removes a task that the controller does not know.
    pub fn forget(&self, task: TaskId) {
        self.lock().tasks.remove(&task);
    }

    /// Reports up to this window are decided.
    pub fn committed(&self, job: &JobName, window: Window) {
        let mut inner = self.lock();
        for entry in inner
            .tasks
            .values_mut()
            .filter(|entry| entry.job.name == *job)
        {
            let (decided, rest) = std::mem::take(&mut entry.reports)
                .into_iter()
                .partition(|undecided| undecided.report.window <= window);
            entry.reports = rest;
            let decided: Vec<Undecided> = decided;
            for (shard, range) in decided
                .into_iter()
                .flat_map(|undecided| undecided.report.ranges)
            {
                entry.base.insert(shard, range.to);
            }
        }
        inner
            .tasks
            .retain(|_, entry| !(entry.released && entry.reports.is_empty()));
    }
}

fn opening(task: TaskId, window: Window) -> Message {
    Message::WindowOpening(v1::WindowOpening {
        task: Some(task.into()),
        window: Some(window.into()),
    })
}

fn running(id: TaskId, entry: &Entry) -> v1::RunningTask {
    let shard = |(shard, from): (&ShardId, &Position)| v1::TaskShard {
        shard: shard.to_string(),
        from: Some(from.into()),
        after: vec![],
        detail: String::new(),
        floor_ms: 0,
        read_to_ms: None,
        lost: entry.lost.get(shard.as_str()).copied(),
    };
    let window =
        |(window, lookups): (&Window, &BTreeMap<String, LookupVersion>)| v1::WindowOpened {
            task: Some(id.into()),
            window: Some((*window).into()),
            lookups: lookups_to_wire(lookups),
            attempt: 0,
        };
    v1::RunningTask {
        task: Some(id.into()),
        job: entry.job.name.to_string(),
        shards: entry.base.iter().map(shard).collect(),
        reports: entry
            .reports
            .iter()
            .map(|undecided| (&undecided.report).into())
            .collect(),
        watermark_ms: entry.watermark.to_wire(),
        windows: entry.open.iter().map(window).collect(),
        ended: entry.ended.clone(),
        released: entry.released,
        job_version: entry.job.version.0,
        stream: entry
            .retention_ms
            .map(|retention_ms| v1::StreamFacts { retention_ms }),
        submitted_ms: Some(entry.job.submitted_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamctl_proto::{Counts, ShardRange, Term};

    fn task(counter: u64) -> TaskId {
        TaskId {
            term: Term(1),
            counter,
        }
    }

    fn job() -> JobName {
        "sales".parse().unwrap()
    }

    fn window(number: i64) -> Window {
        Window {
            start_ms: number,
            end_ms: number + 1,
        }
    }

    /// Record `number` of the task's only shard, in the window of that number.
    fn report(id: TaskId, number: i64) -> Report {
        let at = |number: i64| {
            u64::try_from(number - 1).map_or(Position::Start, |last| Position::after(last.into()))
        };
        let range = ShardRange {
            from: at(number),
            to: at(number + 1),
            records: 1,
            bytes: 1,
        };
        Report {
            task: id,
            job: job(),
            window: window(number),
            ranges: BTreeMap::from([(ShardId::new(id.to_string()), range)]),
            counts: Counts {
                rows_in: 1,
                bytes_in: 1,
                rows_decoded: 1,
                ..Counts::default()
            },
            lookups: BTreeMap::new(),
            objects: vec![],
            unmatched: vec![],
            null_values: vec![],
            unknown_keys: vec![],
            stages: Default::default(),
            operators: vec![],
        }
    }

    fn begin(registry: &Registry, id: TaskId) {
        assert!(registry.begin(
            id,
            JobIdentity {
                name: job(),
                version: JobVersion(2),
                submitted_ms: 3
            },
            BTreeMap::from([(ShardId::new(id.to_string()), Position::Start)]),
            None,
        ));
    }

    /// The windows of a task that a controller knows after a Hello and all later messages.
    fn windows_known(hello: &v1::Hello, sent: &[Message], id: TaskId) -> Vec<i64> {
        let running = hello
            .tasks
            .iter()
            .filter(|running| running.task == Some(id.into()));
        let notice = running.flat_map(|running| running.reports.iter());
        let since = sent.iter().filter_map(|message| match message {
            Message::Report(report) if report.task == Some(id.into()) => Some(report),
            _ => None,
        });
        notice
            .chain(since)
            .map(|report| report.window.unwrap().start_ms)
            .collect()
    }

    #[test]
    fn hello_and_what_follows_hold_every_undecided_report_once_whatever_happens_when() {
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let registry = Registry::default();
            let ids = [task(1), task(2)];
            ids.iter().for_each(|id| begin(&registry, *id));
            let mut reported = [0_i64; 2];
            let mut committed = -1;
            let mut committed_at_hello = -1;
            let mut connection: Option<(v1::Hello, mpsc::Receiver<v1::WorkerMessage>)> = None;
            let mut sent = vec![];
            for _ in 0..60 {
                match random.u8(0..6) {
                    0 => {
                        connection = Some(registry.connect("w", "a:1"));
                        (sent, committed_at_hello) = (vec![], committed);
                    }
                    1 => {
                        registry.disconnect();
                        connection = None;
                    }
                    2 => {
                        committed = random
                            .i64(-1..=reported[0].min(reported[1]))
                            .max(committed)
                            .min(reported[0].min(reported[1]) - 1);
                        if committed >= 0 {
                            registry.committed(&job(), window(committed));
                        }
                    }
                    _ => {
                        let which = random.usize(0..2);
                        registry
                            .report(report(ids[which], reported[which]))
                            .unwrap();
                        reported[which] += 1;
                    }
                }
                let Some((hello, messages)) = &mut connection else {
                    continue;
                };
                while let Ok(message) = messages.try_recv() {
                    sent.push(message.message.unwrap());
                }
                for (id, reported) in ids.into_iter().zip(reported) {
                    let expected: Vec<i64> = (committed_at_hello + 1..reported).collect();
                    assert_eq!(windows_known(hello, &sent, id), expected, "seed {seed}");
                    let running = hello
                        .tasks
                        .iter()
                        .find(|running| running.task == Some(id.into()))
                        .unwrap();
                    let base = running.shards[0].from.clone().unwrap();
                    let expected = report(id, committed_at_hello + 1)
                        .ranges
                        .into_values()
                        .next()
                        .unwrap()
                        .from;
                    assert_eq!(
                        Position::try_from(base).unwrap(),
                        expected,
                        "seed {seed}: its reports go on from its base"
                    );
                }
            }
        }
    }

    #[test]
    fn a_window_that_was_asked_for_is_asked_for_again_on_a_new_line_until_it_is_opened() {
        let registry = Registry::default();
        begin(&registry, task(1));
        registry.ask_window(task(1), window(0));
        let (_, mut sent) = registry.connect("w", "a:1");
        assert_eq!(
            sent.try_recv().unwrap().message,
            Some(opening(task(1), window(0)))
        );
        assert!(registry.window_opened(task(1), window(0), &BTreeMap::new()));
        assert!(
            !registry.window_opened(task(1), window(0), &BTreeMap::new()),
            "once"
        );
        let (hello, mut sent) = registry.connect("w", "a:1");
        assert!(sent.try_recv().is_err());
        assert_eq!(
            (hello.tasks[0].windows.len(), hello.tasks[0].job_version),
            (1, 2)
        );
        assert_eq!(hello.tasks[0].submitted_ms, Some(3));
        registry.report(report(task(1), 0)).unwrap();
        assert_eq!(
            registry.connect("w", "a:1").0.tasks[0].windows,
            [],
            "it is reported"
        );
    }

    #[test]
    fn a_released_task_is_kept_until_its_reports_are_decided() {
        let registry = Registry::default();
        for counter in 1..=3 {
            begin(&registry, task(counter));
        }
        registry.report(report(task(1), 0)).unwrap();
        registry.report(report(task(2), 0)).unwrap();
        registry.end(task(1), Why::Released.into());
        registry.end(task(2), Why::Cancelled.into());
        registry.end(task(3), Why::Completed.into());
        let (hello, _sent) = registry.connect("w", "a:1");
        assert_eq!(
            hello
                .tasks
                .iter()
                .map(|t| (t.task, t.released))
                .collect::<Vec<_>>(),
            [(Some(task(1).into()), true)]
        );
        registry.committed(&"other".parse().unwrap(), window(5));
        assert_eq!(registry.connect("w", "a:1").0.tasks.len(), 1);
        registry.committed(&job(), window(0));
        assert_eq!(registry.connect("w", "a:1").0.tasks, []);
    }

    #[test]
    fn a_connection_that_takes_nothing_more_is_given_up_and_reported() {
        let registry = Registry::default();
        let (_, _sent) = registry.connect("w", "a:1");
        let beat = || {
            Message::Heartbeat(v1::Heartbeat {
                memory_bytes: 1,
                ..Default::default()
            })
        };
        assert!((0..QUEUE_MAX).all(|_| registry.send(beat())));
        assert!(!registry.send(beat()) && !registry.send(beat()));
    }
}
