//! A worker that behaves like `worker::task` and `worker::registry`, one small step at a time.
//!
//! Rule: sending and remembering are one step; what a broken connection loses is in the next Hello.

use super::super::*;
use super::source::{GRACE_MS, Source};
use fastrand::Rng;
use std::collections::VecDeque;
use streamctl_proto::Clamp;

/// Windows of a task that are open or being finished.
const WINDOWS_OPEN_MAX: usize = 2;
/// Records that are read at once.
const READ_MAX: usize = 5;

type Lookups = BTreeMap<String, LookupVersion>;

struct Reading {
    id: ShardId,
    from: Position,
    at: u64,
    fetched: usize,
    after: Vec<ShardId>,
    clamp: Clamp,
    complete_to_ms: Option<i64>,
    saw_end: bool,
    told_ended: bool,
}

enum State {
    Asked,
    Open(Lookups),
    Closing(Lookups),
}

struct Task {
    shards: Vec<Reading>,
    windows: BTreeMap<Window, (State, BTreeMap<ShardId, ShardRange>)>,
    told_watermark: Watermark,
    until: Watermark,
    releasing: bool,
}

struct Entry {
    running: RunningTask,
    asked: Vec<Window>,
}

#[derive(Default)]
pub(super) struct SimWorker {
    pub(super) id: String,
    tasks: BTreeMap<TaskId, Task>,
    entries: BTreeMap<TaskId, Entry>,
    /// Its session, and whether that connection is open.
    pub(super) line: Option<SessionId>,
    /// Sent and not yet received by the core.
    pub(super) up: VecDeque<Event>,
    /// From an earlier connection, not yet received: it may arrive after the Hello of the next.
    pub(super) late: VecDeque<Event>,
    /// Sent by the core and not yet received.
    pub(super) down: VecDeque<Effect>,
    pub(super) paused_until_ms: i64,
    pub(super) beat_at_ms: i64,
    pub(super) leaving: bool,
    whole_window: bool,
}

impl SimWorker {
    pub(super) fn new(id: &str, whole_window: bool) -> Self {
        Self {
            id: id.to_owned(),
            whole_window,
            ..Self::default()
        }
    }

    fn name(&self) -> WorkerId {
        worker(&self.id)
    }

    fn say(&mut self, event: Event) {
        if self.line.is_some() {
            self.up.push_back(event);
        }
    }

    /// Connects: sends Hello, then requests the windows that it waits for.
    pub(super) fn connect(&mut self, session: SessionId) {
        self.line = Some(session);
        self.down.clear();
        self.late.extend(std::mem::take(&mut self.up));
        let of = |entry: &Entry| entry.running.clone();
        let tasks = self.entries.values().map(of).collect();
        let flight_address = String::new();
        self.say(Event::Worker {
            worker: self.name(),
            session,
            event: WorkerEvent::Joined {
                facts: Default::default(),
                process: 0,
                flight_address,
                tasks,
            },
        });
        let of = |(id, entry): (&TaskId, &Entry)| {
            entry
                .asked
                .iter()
                .map(|window| (*id, *window))
                .collect::<Vec<_>>()
        };
        for (task, window) in self.entries.iter().flat_map(of).collect::<Vec<_>>() {
            self.say(Event::Task {
                worker: self.name(),
                task,
                event: TaskEvent::WindowRequested(window),
            });
        }
        if self.leaving {
            self.say(Event::Worker {
                worker: self.name(),
                session,
                event: WorkerEvent::Leaving,
            });
        }
    }

    /// The connection breaks: the last messages sent are lost, and so is everything in flight to
    /// the worker.
    pub(super) fn break_line(&mut self, rng: &mut Rng) {
        let Some(session) = self.line.take() else {
            return;
        };
        // If the connection broke before its Hello was read, there was no session; what follows is
        // lost with it.
        self.up.truncate(rng.usize(0..=self.up.len()));
        self.down.clear();
        self.up.push_back(Event::Worker {
            worker: self.name(),
            session,
            event: WorkerEvent::Disconnected,
        });
    }

    /// The process dies, and loses its state.
    pub(super) fn kill(&mut self, rng: &mut Rng) {
        self.break_line(rng);
        self.tasks.clear();
        self.entries.clear();
        self.leaving = false;
    }

    pub(super) fn leave(&mut self) {
        let Some(session) = self.line else { return };
        self.leaving = true;
        self.say(Event::Worker {
            worker: self.name(),
            session,
            event: WorkerEvent::Leaving,
        });
    }

    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn beat(&mut self, now: i64) {
        if let Some(session) = self.line.filter(|_| now >= self.beat_at_ms) {
            self.beat_at_ms = now + super::BEAT_MS;
            self.say(Event::Worker {
                worker: self.name(),
                session,
                event: WorkerEvent::Heard {
                    cpu_permille: None,
                    memory_bytes: 0,
                    busy_permille: None,
                    clock_skew_ms: None,
                },
            });
        }
    }

    /// Handles one message of the core.
    pub(super) fn obey(&mut self) {
        let Some(effect) = self.down.pop_front() else {
            return;
        };
        match effect {
            Effect::StartTask {
                task,
                job,
                job_version,
                shards,
                ..
            } => self.start(task, (job, job_version), shards),
            Effect::ReleaseTask { task, .. } => self.release(task),
            Effect::DrainTask { task, until_ms, .. } => {
                if let Some(task) = self.tasks.get_mut(&task) {
                    task.until = until_ms.map_or(Watermark::Ended, Watermark::At);
                }
            }
            Effect::CancelTask { task, .. } => {
                // The registry removes it before the task can report how it ended.
                self.tasks.remove(&task);
                self.entries.remove(&task);
            }
            Effect::OpenWindow {
                task,
                window,
                lookups,
                ..
            } => self.open(task, window, lookups),
            Effect::AnnounceCommit { window, .. } => self.committed(window),
            other => panic!("a worker is told {other:?}"),
        }
    }

    fn start(
        &mut self,
        id: TaskId,
        (job, job_version): (JobName, JobVersion),
        shards: Vec<TaskShard>,
    ) {
        if self.entries.contains_key(&id) {
            return;
        }
        let base = shards
            .iter()
            .map(|given| (given.shard.clone(), given.from.clone()))
            .collect();
        let size = WindowSize::from_ms(WINDOW_MS).unwrap();
        let reading = |given: TaskShard| {
            let at = match &given.from {
                Position::After { sequence, .. } => sequence.to_u64().unwrap(),
                Position::Start | Position::Timestamp(_) => 0,
                other => panic!("{} is given out at {other}", given.shard),
            };
            Reading {
                id: given.shard,
                from: given.from,
                at,
                fetched: at as usize,
                after: given.after,
                clamp: Clamp::new(size, given.floor),
                complete_to_ms: None,
                saw_end: false,
                told_ended: false,
            }
        };
        let shards = shards.into_iter().map(reading).collect();
        let windows = BTreeMap::new();
        self.tasks.insert(
            id,
            Task {
                shards,
                windows,
                told_watermark: Watermark::Unknown,
                until: Watermark::Ended,
                releasing: false,
            },
        );
        let running = RunningTask {
            job,
            job_version,
            base,
            ..runs(id, "")
        };
        self.entries.insert(
            id,
            Entry {
                running,
                asked: vec![],
            },
        );
    }

    fn release(&mut self, id: TaskId) {
        let whole_window = self.whole_window;
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        task.releasing = true;
        task.windows.retain(|_, (state, _)| match state {
            State::Asked => false,
            State::Open(_) => !whole_window,
            State::Closing(_) => true,
        });
        for (state, _) in task.windows.values_mut() {
            state.close();
        }
    }

    fn open(&mut self, id: TaskId, window: Window, lookups: Lookups) {
        let (Some(task), Some(entry)) = (self.tasks.get_mut(&id), self.entries.get_mut(&id)) else {
            return;
        };
        let Some(asked) = entry
            .asked
            .iter()
            .position(|asked| *asked == window)
            .filter(|_| !task.releasing)
        else {
            return;
        };
        entry.asked.remove(asked);
        entry.running.windows.push((window, lookups.clone()));
        if let Some((state, _)) = task.windows.get_mut(&window) {
            *state = State::Open(lookups);
        }
    }

    fn committed(&mut self, window: Window) {
        for entry in self.entries.values_mut() {
            let (decided, rest): (Vec<Report>, _) = std::mem::take(&mut entry.running.reports)
                .into_iter()
                .partition(|report| report.window <= window);
            entry.running.reports = rest;
            for (shard, range) in decided.into_iter().flat_map(|report| report.ranges) {
                entry.running.base.insert(shard, range.to);
            }
        }
        self.entries
            .retain(|_, entry| !(entry.running.released && entry.running.reports.is_empty()));
    }

    /// One task reads, takes, closes, reports.
    pub(super) fn work(&mut self, now: i64, source: &Source, rng: &mut Rng) {
        if self.tasks.is_empty() {
            return;
        }
        let id = *self
            .tasks
            .keys()
            .nth(rng.usize(0..self.tasks.len()))
            .unwrap();
        let mut task = self.tasks.remove(&id).unwrap();
        if !task.releasing {
            task.fetch(now, source, rng);
            loop {
                let asked = task.take(source);
                for window in asked {
                    self.entries.get_mut(&id).unwrap().asked.push(window);
                    self.say(Event::Task {
                        worker: self.name(),
                        task: id,
                        event: TaskEvent::WindowRequested(window),
                    });
                }
                self.tell_ended(id, &mut task, source);
                if !task.close_windows(source) {
                    break;
                }
            }
        }
        self.report(now, id, &mut task, source, rng);
        match task.over(source) {
            Some(end) => self.end(id, end),
            None => {
                self.tasks.insert(id, task);
            }
        }
    }

    pub(super) fn fail(&mut self, rng: &mut Rng) {
        if let Some(id) = self
            .tasks
            .keys()
            .copied()
            .nth(rng.usize(0..=self.tasks.len()))
        {
            self.tasks.remove(&id);
            self.end(
                id,
                TaskEnd::Retry {
                    error: "the seed says so".into(),
                },
            );
        }
    }

    fn end(&mut self, id: TaskId, end: TaskEnd) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.running.released = true;
        entry.asked.clear();
        entry.running.windows.clear();
        let whole = matches!(end, TaskEnd::Completed | TaskEnd::Released);
        if !whole || entry.running.reports.is_empty() {
            self.entries.remove(&id);
        }
        self.say(Event::Task {
            worker: self.name(),
            task: id,
            event: TaskEvent::Ended(end),
        });
    }

    fn tell_ended(&mut self, id: TaskId, task: &mut Task, source: &Source) {
        for index in 0..task.shards.len() {
            let shard = &mut task.shards[index];
            if !shard.ended(source) || shard.told_ended {
                continue;
            }
            shard.told_ended = true;
            let name = shard.id.clone();
            let floor = shard.clamp.floor();
            let last = shard.position();
            let child = |(shard, parents)| KnownShard {
                shard,
                parents,
                detail: String::new(),
            };
            let children = source.children(&name).into_iter().map(child).collect();
            let ended = EndedShard {
                shard: name.clone(),
                last,
                floor,
                children,
            };
            self.entries
                .get_mut(&id)
                .unwrap()
                .running
                .ended
                .push(ended.clone());
            self.say(Event::Task {
                worker: self.name(),
                task: id,
                event: TaskEvent::ShardEnded(ended),
            });
            for child in task
                .shards
                .iter_mut()
                .filter(|child| child.after.contains(&name))
            {
                child.after.retain(|parent| *parent != name);
                child.clamp.close_before(floor);
            }
        }
    }

    fn report(&mut self, now: i64, id: TaskId, task: &mut Task, source: &Source, rng: &mut Rng) {
        while let Some((window, (State::Closing(_), _))) = task.windows.first_key_value() {
            let window = *window;
            if rng.u8(0..3) == 0 {
                break; // Its work is not finished.
            }
            let Some((State::Closing(lookups), ranges)) = task.windows.remove(&window) else {
                return;
            };
            let rows = ranges.values().map(|range| range.records).sum();
            let counts = Counts {
                rows_in: rows,
                rows_decoded: rows,
                rows_out: rows,
                ..Counts::default()
            };
            let report = Report {
                ranges,
                counts,
                lookups,
                ..report(id, window, "")
            };
            let entry = &mut self.entries.get_mut(&id).unwrap().running;
            entry.windows.retain(|(open, _)| *open != window);
            entry.reports.push(report.clone());
            self.say(Event::reported(self.name(), report));
        }
        let unfinished = task
            .windows
            .keys()
            .next()
            .map_or(Watermark::Ended, |window| Watermark::At(window.start_ms));
        let watermark = if task.releasing {
            task.told_watermark
        } else {
            task.watermark(source).min(unfinished)
        };
        if watermark > task.told_watermark || rng.u8(0..20) == 0 {
            task.told_watermark = task.told_watermark.max(watermark);
            let entry = &mut self.entries.get_mut(&id).unwrap().running;
            entry.watermark = entry.watermark.max(task.told_watermark);
            let watermark = entry.watermark;
            let stats_of = |reading: &Reading| (reading.id.clone(), stats(&reading.id, now));
            let shards = task.shards.iter().map(stats_of).collect();
            self.say(Event::Task {
                worker: self.name(),
                task: id,
                event: TaskEvent::Progressed {
                    watermark,
                    work_us: 0,
                    computing: Computing::default(),
                    hanging: vec![],
                    shards,
                },
            });
        }
    }
}

/// Some shards bring much more than others, at all times.
fn stats(shard: &ShardId, now: i64) -> ShardStats {
    let weight = shard
        .as_str()
        .bytes()
        .fold(0_u64, |sum, byte| (sum * 31 + u64::from(byte)) % 7);
    let elapsed_ms = (now - BEGIN_MS).max(0).unsigned_abs();
    ShardStats {
        bytes: elapsed_ms * weight * weight * 1_000,
        ..ShardStats::default()
    }
}

impl State {
    fn close(&mut self) -> bool {
        let Self::Open(lookups) = self else {
            return false;
        };
        *self = Self::Closing(std::mem::take(lookups));
        true
    }
}

impl Reading {
    fn position(&self) -> Position {
        if self.at == 0 {
            self.from.clone()
        } else {
            at(self.at)
        }
    }

    fn next_window(&self, source: &Source) -> Option<Window> {
        let waits = (self.at as usize) < self.fetched;
        let mut clamp = self.clamp;
        waits.then(|| clamp.place(source.shards[&self.id].records[self.at as usize].1))
    }

    fn ended(&self, source: &Source) -> bool {
        self.saw_end && self.next_window(source).is_none()
    }

    fn watermark(&self, source: &Source) -> Watermark {
        if let Some(next) = self.next_window(source) {
            return Watermark::At(next.start_ms);
        }
        if self.saw_end {
            return Watermark::Ended;
        }
        let complete = self.complete_to_ms.map_or(Watermark::Unknown, |time_ms| {
            Watermark::At(time_ms.div_euclid(WINDOW_MS) * WINDOW_MS)
        });
        self.clamp.floor().max(complete)
    }
}

impl Task {
    fn fetch(&mut self, now: i64, source: &Source, rng: &mut Rng) {
        for shard in self
            .shards
            .iter_mut()
            .filter(|shard| shard.after.is_empty())
        {
            let from = &source.shards[&shard.id];
            let there = from.there(now);
            shard.fetched = there.min(shard.fetched + rng.usize(0..=READ_MAX));
            let all_taken = shard.fetched == there && shard.at as usize == there;
            if all_taken && from.is_closed(now) {
                shard.saw_end = true;
            } else if all_taken {
                shard.complete_to_ms = shard.complete_to_ms.max(Some(now - GRACE_MS));
            }
        }
    }

    /// Takes what can be taken; returns the windows that must be requested.
    fn take(&mut self, source: &Source) -> Vec<Window> {
        let mut asked = vec![];
        for shard in &mut self.shards {
            while let Some(window) = shard
                .next_window(source)
                .filter(|window| self.until.is_past(*window))
            {
                let next = self.windows.keys().all(|open| *open > window);
                let room = self.windows.len() < WINDOWS_OPEN_MAX || next;
                match self.windows.get_mut(&window) {
                    None if room => {
                        self.windows.insert(window, (State::Asked, BTreeMap::new()));
                        asked.push(window);
                        break;
                    }
                    Some((State::Open(_), ranges)) => {
                        shard
                            .clamp
                            .place(source.shards[&shard.id].records[shard.at as usize].1);
                        let from = shard.position();
                        shard.at += 1;
                        let new = || ShardRange {
                            to: from.clone(),
                            from,
                            records: 0,
                            bytes: 0,
                        };
                        let range = ranges.entry(shard.id.clone()).or_insert_with(new);
                        range.to = at(shard.at);
                        range.records += 1;
                    }
                    _ => break,
                }
            }
        }
        asked
    }

    fn watermark(&self, source: &Source) -> Watermark {
        let waiting = self
            .shards
            .iter()
            .filter(|shard| shard.after.is_empty() && !shard.ended(source));
        waiting
            .map(|shard| shard.watermark(source))
            .min()
            .unwrap_or(Watermark::Ended)
    }

    fn close_windows(&mut self, source: &Source) -> bool {
        let watermark = self.watermark(source);
        let mut closed = false;
        let mut last = Watermark::Unknown;
        for (window, (state, _)) in self
            .windows
            .iter_mut()
            .filter(|(window, _)| watermark.is_past(**window))
        {
            closed |= state.close();
            last = Watermark::At(window.end_ms);
        }
        for shard in &mut self.shards {
            shard.clamp.close_before(last);
        }
        closed
    }

    fn over(&self, source: &Source) -> Option<TaskEnd> {
        if !self.windows.is_empty() {
            return None;
        }
        if self.releasing {
            return Some(TaskEnd::Released);
        }
        if self.shards.iter().all(|shard| shard.ended(source)) {
            return Some(TaskEnd::Completed);
        }
        (self.told_watermark >= self.until).then_some(TaskEnd::Released)
    }
}
