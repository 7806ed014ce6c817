//! One task: some shards of one job, read into windows, reported.
//!
//! Owns: which windows are open, when they close, the order of reports. Does not own: placing
//! records ([`shards`]), the work on a window ([`window`]), the messages of a report
//! ([`reporting`]), what was sent to the controller ([`crate::registry`]).
//! Rule: the loop waits only for its next message; slow work is spawned and returns as one. If the
//! worker's memory is short, the task drops what it cannot use yet, and reads it again later.

mod bad_share;
mod context;
mod error;
pub mod reader;
mod reporting;
pub mod shards;
pub(crate) mod timed;
pub mod window;

pub use context::{Context, DecodedNext};
pub use error::TaskError;
#[cfg(test)]
pub(crate) mod tests;

use crate::busy::Work;
use crate::compute::{Compute, Workload};
use crate::memory::WindowMemory;
use crate::meter::{Held, Meter};
use crate::registry::Registry;
use crate::results::Results;
use reader::Read;
use reporting::{Closed, Times};
use shards::ShardState;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use streamctl_engine::calls::Calls;
use streamctl_engine::traces::now;
use streamctl_proto::v1::task_ended::Why;
use streamctl_proto::{LookupVersion, ShardId, ShardRange, TaskId, Watermark, Window};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use window::{Feed, Finished, WindowKey};

/// Windows of a task that are open or being finished. Reading continues into the next while one is
/// finished.
pub const WINDOWS_OPEN_MAX: usize = 2;
/// Interval between two messages with the shards' figures if nothing else is sent.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Reads that are placed before the task checks what can proceed: a check costs a step per shard.
const READS_AT_ONCE_MAX: usize = 256;
/// Most queued commands of a task.
pub const COMMANDS_MAX: usize = 64;

/// Commands of the controller to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Use these lookup versions for this window.
    Open(Opening),
    /// Stop reading, report the records read, end.
    Release,
    /// Finish windows that end at or before this time, then end.
    Drain(i64),
    Cancel,
}

/// What the controller answers for a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    pub window: Window,
    /// The lookup versions of the window.
    pub lookups: BTreeMap<String, LookupVersion>,
    /// Which try at the window it is, from 1.
    pub attempt: u32,
}

/// A window of the task.
enum State {
    /// The controller has not named its lookup versions yet.
    Asked,
    /// The versions are named, but there is no memory for one more window.
    Named(Opening),
    Open {
        feed: mpsc::UnboundedSender<Feed>,
        abort: AbortHandle,
        lookups: BTreeMap<String, LookupVersion>,
    },
    /// It takes no more records; the last are in flight.
    Closing {
        lookups: BTreeMap<String, LookupVersion>,
        closed: Closed,
        done: Option<Box<Finished>>,
    },
}

struct OpenWindow {
    state: State,
    ranges: BTreeMap<ShardId, ShardRange>,
    times: Times,
    /// A result of another workload is stale: the window was dropped and requested again.
    workload: Arc<Workload>,
    _counted: Held,
}

impl Drop for OpenWindow {
    /// The rows are reported, or no longer needed.
    fn drop(&mut self) {
        self.workload.pace.cancel();
    }
}

/// The parts of a task.
pub struct Parts {
    pub id: TaskId,
    /// The job, and state shared by its windows.
    pub context: Arc<Context>,
    /// Sends messages to the controller.
    pub registry: Arc<Registry>,
    pub results: Arc<Results>,
    /// Computes windows: not on the network's threads.
    pub compute: Compute,
    /// Metrics and the destination of spans.
    pub meter: Meter,
}

struct Task {
    parts: Parts,
    shards: Vec<ShardState>,
    windows: BTreeMap<Window, OpenWindow>,
    readers: JoinSet<()>,
    /// For each shard: how many readers it had, and the last of them.
    reader_of: Vec<(u64, Option<AbortHandle>)>,
    reads: mpsc::Sender<Read>,
    work: JoinSet<(Window, Arc<Workload>, Result<Finished, TaskError>)>,
    told_ended: Vec<bool>,
    told_watermark: Watermark,
    told_first_records: bool,
    /// It takes nothing of windows that end after this.
    until: Watermark,
    releasing: bool,
    counted: Work,
    /// Calls of its readers that are not answered.
    reading: Calls,
    /// Calls of its windows that are not answered.
    calls: Calls,
}

/// Runs a task to its end and reports the ending to the controller.
pub async fn run(parts: Parts, shards: Vec<ShardState>, commands: mpsc::Receiver<Command>) {
    let id = parts.id;
    let registry = Arc::clone(&parts.registry);
    let job = parts.context.job.spec.name.clone();
    let _counted = parts.meter.task(&job);
    let meter = parts.meter.clone();
    let (reads, received) = mpsc::channel(shards.len().max(1) * reader::CHUNKS_PER_SHARD_MAX);
    let told_ended = vec![false; shards.len()];
    let reader_of = shards.iter().map(|_| (0, None)).collect();
    let mut task = Task {
        parts,
        shards,
        windows: BTreeMap::new(),
        readers: JoinSet::new(),
        reader_of,
        reads,
        work: JoinSet::new(),
        told_ended,
        told_watermark: Watermark::Unknown,
        told_first_records: false,
        until: Watermark::Ended,
        releasing: false,
        counted: meter.work.begin(),
        reading: Calls::default(),
        calls: Calls::default(),
    };
    tracing::info!(%job, task = %id, shards = task.shards.len(), "task started");
    match task.run(received, commands).await {
        Ok(why) => {
            tracing::info!(%job, task = %id, ?why, "task ended");
            registry.end(id, why.into());
        }
        Err(error) => {
            task.abort();
            tracing::error!(%job, task = %id, %error, "task failed");
            let why = error.why();
            meter.failed(&job, word(why));
            registry.end(id, error.ending());
        }
    }
}

/// A short label for the ending of a task.
fn word(why: Why) -> &'static str {
    match why {
        Why::Retry => "retry",
        Why::Wait => "wait",
        Why::Fatal => "fatal",
        Why::Refused => "refused",
        Why::Unspecified | Why::Completed | Why::Released | Why::Cancelled => "other",
    }
}

impl Task {
    async fn run(
        &mut self,
        mut received: mpsc::Receiver<Read>,
        mut commands: mpsc::Receiver<Command>,
    ) -> Result<Why, TaskError> {
        let mut figures = tokio::time::interval(PROGRESS_INTERVAL);
        figures.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reads = Vec::with_capacity(READS_AT_ONCE_MAX);
        let mut changes = self.parts.context.budget.changes();
        self.parts.context.check_functions()?;
        self.start_readers();
        loop {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    None | Some(Command::Cancel) => {
                        self.abort();
                        return Ok(Why::Cancelled);
                    }
                    Some(Command::Open(opening)) => self.open(opening),
                    Some(Command::Release) => self.release(),
                    Some(Command::Drain(until_ms)) => self.drain(until_ms),
                },
                Some(done) = self.work.join_next() => match done {
                    Ok((window, workload, finished)) => self.finished(window, &workload, finished)?,
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => return Err(TaskError::Panicked(error.to_string())),
                },
                Some(Err(error)) = self.readers.join_next() => {
                    if error.is_panic() {
                        return Err(TaskError::Panicked(error.to_string()));
                    }
                }
                // Some reader waits for memory, or memory is free: handled below.
                Ok(()) = changes.changed() => {}
                _ = figures.tick() => self.tell_progress(self.told_watermark),
                1.. = received.recv_many(&mut reads, READS_AT_ONCE_MAX), if !self.releasing => {
                    for read in reads.drain(..) {
                        self.read(read)?;
                    }
                }
            }
            self.advance()?;
            if let Some(why) = self.over() {
                self.readers.abort_all();
                return Ok(why);
            }
        }
    }

    /// Starts readers of shards whose parents in this task have ended.
    fn start_readers(&mut self) {
        let ids: BTreeSet<ShardId> = self.shards.iter().map(|shard| shard.id.clone()).collect();
        for index in 0..self.shards.len() {
            // A parent that is not in this task has ended, or the shard would not have been
            // assigned.
            self.shards[index]
                .after
                .retain(|parent| ids.contains(parent));
            if self.shards[index].after.is_empty() {
                self.start_reader(index);
            }
        }
    }

    fn start_reader(&mut self, index: usize) {
        let to_read = self.shards[index].to_read();
        let (number, reader) = &mut self.reader_of[index];
        *number += 1;
        let context = Arc::clone(&self.parts.context);
        let calls = self.reading.clone();
        // On the heap: the work is large, and each wrapper would copy it on the stack.
        let read = Box::pin(reader::run(
            index,
            *number,
            to_read,
            context,
            self.reads.clone(),
        ));
        *reader = Some(self.readers.spawn(async move { calls.watch(read).await }));
    }

    fn read(&mut self, read: Read) -> Result<(), TaskError> {
        let Read {
            index,
            reader,
            chunk,
            stats,
        } = read;
        if self.reader_of[index].0 != reader || self.shards[index].is_parked() {
            return Ok(()); // Of a reader that was stopped: it is read again.
        }
        let (chunk, room) = chunk?;
        let job = &self.parts.context.job.spec.name;
        let shard = &mut self.shards[index];
        let before = shard.stats;
        shard.count(stats);
        self.parts.meter.read(job, &chunk, &before, &shard.stats);
        let lost = shard.stats.lost != before.lost;
        shard.offer(chunk, stats, room);
        if lost {
            // Send it before any later report: the manifest of what follows names the gap.
            self.tell_progress(self.told_watermark);
        }
        Ok(())
    }

    /// Does whatever can be done now: takes records into open windows, requests windows, closes
    /// windows, and reports it.
    fn advance(&mut self) -> Result<(), TaskError> {
        if !self.releasing {
            loop {
                self.start_windows();
                for index in 0..self.shards.len() {
                    self.take(index);
                }
                self.tell_ended();
                if !self.close_windows() {
                    break;
                }
            }
        }
        if !self.told_first_records && self.shards.iter().any(|shard| shard.records > 0) {
            // A user has just submitted the job and is watching it.
            self.told_first_records = true;
            self.tell_progress(self.told_watermark);
        }
        self.report()?;
        if self.parts.context.budget.is_short() {
            self.park();
        }
        Ok(())
    }

    /// Drops what was read but cannot be taken yet, because others wait for room. Each record is
    /// dropped once: it is read again when its window takes records. So whatever holds room always
    /// flows through an open window.
    fn park(&mut self) {
        for index in 0..self.shards.len() {
            let shard = &mut self.shards[index];
            let open = |window: Window| {
                self.windows
                    .get(&window)
                    .is_some_and(|open| matches!(open.state, State::Open { .. }))
            };
            if shard.next_window().is_some_and(|window| !open(window)) && shard.park() {
                self.stop_reader(index);
            }
        }
    }

    fn stop_reader(&mut self, index: usize) {
        if let Some(reader) = self.reader_of[index].1.take() {
            reader.abort();
        }
    }

    /// Takes the waiting records of a shard while their windows are open.
    fn take(&mut self, index: usize) {
        while let Some(window) = self.shards[index]
            .next_window()
            .filter(|window| self.until.is_past(*window))
        {
            match self.windows.get_mut(&window) {
                None => return self.ask(window),
                Some(OpenWindow {
                    state: State::Open { feed, .. },
                    ranges,
                    ..
                }) => {
                    let shard = &mut self.shards[index];
                    if shard.unpark() {
                        return self.start_reader(index);
                    }
                    let Some(taken) = shard.take() else { return };
                    let range = ranges
                        .entry(shard.id.clone())
                        .or_insert_with(|| ShardRange {
                            from: taken.from.clone(),
                            to: taken.from.clone(),
                            records: 0,
                            bytes: 0,
                        });
                    range.to = shard.at.clone();
                    range.records += taken.records.len() as u64;
                    range.bytes += taken
                        .records
                        .iter()
                        .map(|record| record.data.len() as u64)
                        .sum::<u64>();
                    // A window whose work has failed takes no more; its failure is about to reach
                    // the loop.
                    let _failed = feed.send(Feed {
                        shard: shard.id.clone(),
                        records: taken.records,
                        permit: taken.permit,
                    });
                }
                Some(_) => return,
            }
        }
    }

    /// Requests a window, if one more may be open.
    fn ask(&mut self, window: Window) {
        if self.windows.len() >= WINDOWS_OPEN_MAX && !self.is_next(window) {
            return;
        }
        let job = &self.parts.context.job.spec.name;
        let asked = OpenWindow {
            state: State::Asked,
            ranges: BTreeMap::new(),
            times: Times {
                begin: now(),
                closed: None,
            },
            workload: Workload::new(job, format!("task {}, window {window}", self.parts.id)),
            _counted: self.parts.meter.window(),
        };
        self.windows.insert(window, asked);
        self.parts.registry.ask_window(self.parts.id, window);
    }

    /// No window before this one is open: it must open, or the task would wait for itself.
    fn is_next(&self, window: Window) -> bool {
        self.windows.keys().all(|open| *open > window)
    }

    fn open(&mut self, opening: Opening) {
        let window = opening.window;
        let late = self.releasing || !self.until.is_past(window);
        if late
            || !self
                .parts
                .registry
                .window_opened(self.parts.id, window, &opening.lookups)
        {
            return;
        }
        // The window may be opened twice: if a drain dropped the request and it was sent again
        // later. The records that the first opening's work has taken would be lost.
        let asked = |open: &&mut OpenWindow| matches!(open.state, State::Asked);
        if let Some(open) = self.windows.get_mut(&window).filter(asked) {
            open.state = State::Named(opening);
        }
    }

    /// Begins the work on windows that may open and have memory, the oldest first.
    fn start_windows(&mut self) {
        let named = |open: &OpenWindow| matches!(open.state, State::Named(_));
        let waiting: Vec<Window> = self
            .windows
            .iter()
            .filter(|(_, open)| named(open))
            .map(|each| *each.0)
            .collect();
        for window in waiting {
            let works = |open: &OpenWindow| {
                matches!(open.state, State::Open { .. } | State::Closing { .. })
            };
            let further = self.windows.values().any(works);
            // The open ones wait for an older one, so it must not wait for their memory.
            let urgent = further && !self.windows.range(..window).any(|(_, open)| works(open));
            let Some(memory) = self.parts.context.budget.window(urgent, further) else {
                return;
            };
            self.start_window(window, memory);
        }
    }

    /// The work on one of its windows that has been computing longest without a wait, and for how
    /// long.
    fn computing(&self) -> Option<(Duration, &Workload)> {
        self.windows
            .values()
            .map(|open| (open.workload.computing(), &*open.workload))
            .max_by_key(|(computing, _)| *computing)
    }

    fn start_window(&mut self, window: Window, memory: WindowMemory) {
        let Some(open) = self.windows.get_mut(&window) else {
            return;
        };
        let State::Named(opening) = &mut open.state else {
            return;
        };
        let attempt = opening.attempt;
        let lookups = std::mem::take(&mut opening.lookups);
        let (feed, feeds) = mpsc::unbounded_channel(); // Bounded by the readers' permits, which travel with the records.
        let which = WindowKey {
            task: self.parts.id,
            window,
            lookups: lookups.clone(),
            attempt,
        };
        let context = Arc::clone(&self.parts.context);
        let results = Arc::clone(&self.parts.results);
        let workload = Arc::clone(&open.workload);
        let work = async move {
            let finished = window::run(context, which, memory, results, &workload, feeds).await;
            (window, workload, finished)
        };
        let calls = self.calls.clone();
        let work = Box::pin(work);
        let work = async move { calls.watch(work).await };
        let work = self.counted.clone().count(work);
        let abort = self
            .parts
            .compute
            .spawn_in(&mut self.work, Arc::clone(&open.workload), work);
        open.state = State::Open {
            feed,
            abort,
            lookups,
        };
    }

    /// Closes windows that are over for every shard. Returns true if there was one: room for the
    /// next.
    fn close_windows(&mut self) -> bool {
        let watermark = self.watermark();
        let over: Vec<Window> = self
            .windows
            .range(..)
            .map(|(window, _)| *window)
            .filter(|window| watermark.is_past(*window))
            .collect();
        let mut closed = false;
        for window in over {
            closed |= self.close(window);
            for shard in &mut self.shards {
                shard.close_before(Watermark::At(window.end_ms));
            }
        }
        closed
    }

    fn close(&mut self, window: Window) -> bool {
        let Some(open) = self.windows.get_mut(&window) else {
            return false;
        };
        let State::Open { lookups, .. } = &mut open.state else {
            return false;
        };
        open.times.closed = Some(now());
        let context = &self.parts.context;
        let live = context.job.spec.source.kind.is_read_on_arrival();
        // Use the service's clock, as far as it is known: it determines records and windows.
        let ahead_ms = self.parts.meter.clock_skew_ms().unwrap_or(0);
        let closed = Closed::now(
            window,
            live.then(|| context.sources.now_ms().saturating_sub(ahead_ms)),
        );
        open.state = State::Closing {
            lookups: std::mem::take(lookups),
            closed,
            done: None,
        };
        true
    }

    /// A shard that waits for its parents holds no window open: its parents do, until they have
    /// ended. Otherwise, parents with more than [`WINDOWS_OPEN_MAX`] windows would wait for their
    /// children.
    fn watermark(&self) -> Watermark {
        let unread = |shard: &ShardState| shard.ended().is_none() || shard.next_window().is_some();
        let waiting = |shard: &&ShardState| shard.after.is_empty() && unread(shard);
        self.shards
            .iter()
            .filter(waiting)
            .map(ShardState::watermark)
            .min()
            .unwrap_or(Watermark::Ended)
    }

    /// The work on a window is over. Ignore the result of a window that was dropped meanwhile.
    fn finished(
        &mut self,
        window: Window,
        workload: &Arc<Workload>,
        result: Result<Finished, TaskError>,
    ) -> Result<(), TaskError> {
        let open = self
            .windows
            .get_mut(&window)
            .filter(|open| Arc::ptr_eq(&open.workload, workload));
        let Some(open) = open else { return Ok(()) };
        let result = result?;
        match &mut open.state {
            State::Closing { done, .. } => *done = Some(Box::new(result)),
            State::Asked | State::Named(_) | State::Open { .. } => {
                return Err(TaskError::Panicked("a window ended by itself".into()));
            }
        }
        Ok(())
    }

    /// Reports finished windows in order, then the progress.
    fn report(&mut self) -> Result<(), TaskError> {
        while let Some(mut first) = self.windows.first_entry() {
            let State::Closing {
                lookups,
                closed,
                done,
            } = &mut first.get_mut().state
            else {
                break;
            };
            let Some(mut finished) = done.take() else {
                break;
            };
            finished.stages = closed.stages(&finished);
            let lookups = std::mem::take(lookups);
            let (window, mut open) = first.remove_entry();
            self.trace(window, &open.times, &finished);
            let ranges = std::mem::take(&mut open.ranges);
            self.report_window(window, ranges, lookups, *finished)?;
        }
        let unfinished = self
            .windows
            .keys()
            .next()
            .map_or(Watermark::Ended, |window| Watermark::At(window.start_ms));
        let reached = self.watermark().min(unfinished).min(self.until);
        let watermark = if self.releasing {
            self.told_watermark
        } else {
            reached
        };
        if watermark > self.told_watermark {
            // A sent watermark holds: a record that is out of order by more than the reader allowed
            // for goes into a later window.
            for shard in &mut self.shards {
                shard.close_before(watermark);
            }
            self.tell_progress(watermark);
        }
        Ok(())
    }

    /// Stops reading. Row-wise results are reported as far as they are complete. Those of a query
    /// that needs the whole window are dropped, and the window is read again.
    fn release(&mut self) {
        self.releasing = true;
        self.readers.abort_all();
        let whole_window = self.parts.context.job.whole_window;
        let windows: Vec<Window> = self.windows.keys().copied().collect();
        for window in windows {
            let Some(open) = self.windows.get(&window) else {
                continue;
            };
            match &open.state {
                State::Asked | State::Named(_) => {
                    self.windows.remove(&window);
                }
                // Opened for records that were dropped and have not come again yet: there is
                // nothing to report.
                State::Open { abort, .. } if whole_window || open.ranges.is_empty() => {
                    abort.abort();
                    self.windows.remove(&window);
                }
                State::Open { .. } => {
                    self.close(window);
                }
                State::Closing { .. } => {}
            }
        }
    }

    /// Takes nothing of windows that end after this time. One that is open already is dropped,
    /// because it would wait for records that are no longer taken. The next owner of the shards
    /// reads it again.
    fn drain(&mut self, until_ms: i64) {
        let size_ms = self.parts.context.job.spec.window.ms();
        let until = match Watermark::from_wire(until_ms) {
            Watermark::At(until_ms) => {
                Watermark::At(until_ms.saturating_sub(until_ms.rem_euclid(size_ms)))
            }
            Watermark::Unknown => Watermark::Unknown,
            Watermark::Ended => Watermark::Ended,
        };
        self.until = until;
        self.windows.retain(|window, open| {
            let drop = !until.is_past(*window) && !matches!(open.state, State::Closing { .. });
            if let (true, State::Open { abort, .. }) = (drop, &open.state) {
                abort.abort();
            }
            !drop
        });
    }

    fn abort(&mut self) {
        self.readers.abort_all();
        self.work.abort_all();
        self.windows.clear();
    }

    /// Why the task is over, if it is.
    fn over(&self) -> Option<Why> {
        if !self.windows.is_empty() {
            return None;
        }
        if self.releasing {
            return Some(Why::Released);
        }
        if self
            .shards
            .iter()
            .all(|shard| shard.ended().is_some() && shard.next_window().is_none())
        {
            return Some(Why::Completed);
        }
        (self.told_watermark >= self.until).then_some(Why::Released)
    }
}
