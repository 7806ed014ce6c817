//! The state of the live screen, and the user's selection: pure, from one input to the next.
//!
//! Owns: order, selection, rates between two answers. Does not own: requests, drawing, time (an
//! answer carries its own).
//! Rule: the selection is kept by name, so that it stays when rows appear, disappear or move.

use crate::error::CliError;
use crate::views::has_ended;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use streamctl_proto::v1::{JobStatus, ShardStatus, WorkerStatus};
use tokio::time::Instant;

/// Rows per page key.
const PAGE: usize = 10;

/// A key, by its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Quit,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Enter,
    /// Leave the job, or the help.
    Back,
    Sort,
    Refresh,
    /// Show or hide the keys.
    Help,
}

#[derive(Clone, Debug)]
pub struct Fetched {
    pub at: Instant,
    /// By the clock of this machine.
    pub now_ms: i64,
    /// All jobs, without their shards.
    pub jobs: Vec<JobStatus>,
    pub workers: Vec<WorkerStatus>,
    /// The open job, with its shards.
    pub one: Option<JobStatus>,
}

#[derive(Debug)]
pub enum Input {
    Pressed(Key),
    /// The terminal was resized.
    Resized,
    /// An answer or an error arrived.
    Arrived(Box<Result<Fetched, CliError>>),
}

/// The required action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Quit,
    Refresh,
}

/// The order of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Name,
    Lag,
    /// Highest read rate first.
    Rate,
}

impl Sort {
    /// The name on the screen.
    pub fn label(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Lag => "lag",
            Self::Rate => "rate",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Name => Self::Lag,
            Self::Lag => Self::Rate,
            Self::Rate => Self::Name,
        }
    }
}

/// Records and bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    pub records: f64,
    pub bytes: f64,
}

/// State and selection.
#[derive(Debug)]
pub struct Model {
    /// The addresses of the controllers, for the title.
    pub controllers: String,
    /// The time between two requests, as text.
    pub interval: String,
    pub colors: bool,
    pub last: Option<Fetched>,
    /// Why there is no newer answer.
    pub problem: Option<String>,
    pub help: bool,
    /// The order of jobs, and of shards.
    pub sort: Sort,
    selected: Option<String>,
    /// The open job.
    inside: Option<String>,
    /// The first visible shard of the open job.
    pub scroll: usize,
    /// The rates of the open job's shards.
    rates: BTreeMap<String, Rate>,
}

impl Model {
    pub fn new(controllers: String, interval: String, colors: bool) -> Self {
        let (last, problem, selected, inside) = Default::default();
        let (help, sort, scroll, rates) = Default::default();
        Self {
            controllers,
            interval,
            colors,
            last,
            problem,
            help,
            sort,
            selected,
            inside,
            scroll,
            rates,
        }
    }

    /// The open job.
    pub fn job(&self) -> Option<&str> {
        self.inside.as_deref()
    }

    /// The open job with its shards, once they were received.
    pub fn inside(&self) -> Option<&JobStatus> {
        let one = self.last.as_ref()?.one.as_ref()?;
        (self.job() == Some(one.job.as_str())).then_some(one)
    }

    pub fn jobs(&self) -> Vec<&JobStatus> {
        let mut jobs: Vec<_> = self.last.iter().flat_map(|fetched| &fetched.jobs).collect();
        match self.sort {
            Sort::Name => jobs.sort_by(|a, b| a.job.cmp(&b.job)),
            Sort::Lag => jobs.sort_by_key(|job| (Reverse(job.lag_ms), job.job.clone())),
            Sort::Rate => jobs.sort_by(|a, b| {
                self.rate(b)
                    .records
                    .total_cmp(&self.rate(a).records)
                    .then(a.job.cmp(&b.job))
            }),
        }
        jobs
    }

    /// What a job reads now.
    pub fn rate(&self, job: &JobStatus) -> Rate {
        let now_ms = self.last.as_ref().map_or(0, |fetched| fetched.now_ms);
        job_rate(job, now_ms)
    }

    pub fn row(&self) -> Option<usize> {
        let selected = self.selected.as_deref()?;
        self.jobs().iter().position(|job| job.job == selected)
    }

    /// Shards of the open job, in their order, with their rates.
    pub fn shards(&self) -> Vec<(&ShardStatus, Rate)> {
        let rate = |shard: &ShardStatus| self.rates.get(&shard.shard).copied().unwrap_or_default();
        let mut shards: Vec<_> = self
            .inside()
            .iter()
            .flat_map(|job| &job.shards)
            .map(|s| (s, rate(s)))
            .collect();
        match self.sort {
            Sort::Name => shards.sort_by(|a, b| a.0.shard.cmp(&b.0.shard)),
            Sort::Lag => shards.sort_by_key(|(shard, _)| {
                (shard.ended, Reverse(shard.lag_ms), shard.shard.clone())
            }),
            Sort::Rate => shards.sort_by(|a, b| {
                b.1.records
                    .total_cmp(&a.1.records)
                    .then(a.0.shard.cmp(&b.0.shard))
            }),
        }
        shards
    }

    /// Applies an input; returns the required action.
    pub fn take(&mut self, input: Input) -> Option<Action> {
        match input {
            Input::Pressed(key) => self.press(key),
            Input::Resized => None,
            Input::Arrived(fetched) => {
                match *fetched {
                    Ok(fetched) => self.learn(fetched),
                    Err(error) => self.problem = Some(error.to_string()),
                }
                None
            }
        }
    }

    fn press(&mut self, key: Key) -> Option<Action> {
        match key {
            Key::Quit => return Some(Action::Quit),
            Key::Refresh => return Some(Action::Refresh),
            Key::Help => self.help = !self.help,
            _ if self.help => self.help = false,
            Key::Sort => {
                self.sort = self.sort.next();
                self.scroll = 0;
            }
            Key::Back => {
                self.inside = None;
                self.scroll = 0;
            }
            Key::Enter if self.inside.is_none() => {
                self.inside.clone_from(&self.selected);
                self.rates.clear();
                return self.inside.is_some().then_some(Action::Refresh);
            }
            Key::Enter => {}
            Key::Up => self.move_by(|row, _| row.saturating_sub(1)),
            Key::Down => self.move_by(|row, _| row + 1),
            Key::PageUp => self.move_by(|row, _| row.saturating_sub(PAGE)),
            Key::PageDown => self.move_by(|row, _| row + PAGE),
            Key::First => self.move_by(|_, _| 0),
            Key::Last => self.move_by(|_, rows| rows),
        }
        None
    }

    fn move_by(&mut self, to: impl Fn(usize, usize) -> usize) {
        if self.inside.is_some() {
            let rows = self.shards().len();
            self.scroll = to(self.scroll, rows).min(rows.saturating_sub(1));
            return;
        }
        let jobs = self.jobs();
        let row = to(self.row().unwrap_or(0), jobs.len()).min(jobs.len().saturating_sub(1));
        self.selected = jobs.get(row).map(|job| job.job.clone());
    }

    fn learn(&mut self, fetched: Fetched) {
        self.problem = None;
        self.learn_rates(&fetched);
        let gone = |name: &String| fetched.jobs.iter().all(|job| job.job != *name);
        if self.inside.as_ref().is_some_and(gone) {
            self.inside = None;
        }
        let lost = self.selected.as_ref().is_none_or(gone);
        self.last = Some(fetched);
        if lost {
            self.selected = self.jobs().first().map(|job| job.job.clone());
        }
        self.scroll = self.scroll.min(self.shards().len().saturating_sub(1));
    }

    /// Computes what each shard delivered since the previous answer; a task that started meanwhile
    /// counts from zero.
    fn learn_rates(&mut self, fetched: &Fetched) {
        let before = self
            .last
            .as_ref()
            .and_then(|last| Some((last.at, last.one.as_ref()?)));
        let (Some((at, old)), Some(new)) = (before, fetched.one.as_ref()) else {
            return;
        };
        let seconds = fetched.at.saturating_duration_since(at).as_secs_f64();
        if old.job != new.job || seconds <= 0.0 {
            return;
        }
        let known: BTreeMap<&str, &ShardStatus> = old
            .shards
            .iter()
            .map(|shard| (shard.shard.as_str(), shard))
            .collect();
        let rate = |shard: &ShardStatus| {
            let old = known
                .get(shard.shard.as_str())
                .filter(|old| old.task == shard.task)?;
            let per_second = |new: Option<u64>, old: Option<u64>| {
                Some(new?.saturating_sub(old?) as f64 / seconds)
            };
            let records = per_second(shard.records, old.records)?;
            let bytes = per_second(shard.bytes, old.bytes)?;
            Some((shard.shard.clone(), Rate { records, bytes }))
        };
        self.rates = new.shards.iter().filter_map(rate).collect();
    }
}

/// A window is committed within this time of its end; also for clocks that differ.
const COMMIT_MS: i64 = 5_000;

/// What a job read per second of its last window; 0 once it has ended, or the next window would have
/// been committed and was not.
fn job_rate(job: &JobStatus, now_ms: i64) -> Rate {
    let epoch = job.last_epoch.as_ref().filter(|_| !has_ended(job));
    let rate = epoch.and_then(|epoch| {
        let window = epoch.window?;
        let counts = epoch.counts?;
        let length_ms = window.end_ms.saturating_sub(window.start_ms);
        if now_ms.saturating_sub(epoch.committed_ms) > length_ms.saturating_add(COMMIT_MS) {
            return None;
        }
        let seconds = length_ms as f64 / 1_000.0;
        let per_second = |count: u64| count as f64 / seconds;
        (seconds > 0.0).then(|| Rate {
            records: per_second(counts.rows_in),
            bytes: per_second(counts.bytes_in),
        })
    });
    rate.unwrap_or_default()
}
