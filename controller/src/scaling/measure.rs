//! From two looks at the cluster to how much work each job is, and how much it would take to keep up.
//!
//! Owns: the arithmetic. Does not own: when it is done, what is made of it ([`super::Scaler`]).
//! Rule: nothing is guessed. Work is counted in workers: a worker that is 60 % busy does 0.6 workers' work, shared out
//! among its tasks by the time that they took. What a worker can do is what it did, divided by how busy that made it.
//!
//! How much comes in can be seen from the lag: a shard that is read at half the speed of time (its lag grows by half a
//! second per second) has twice as much coming in as is read. That is believed of workers that have no time left alone:
//! who has time left and falls behind waits for something that more workers would not change.

use super::seen::{JobSeen, Seen, TaskSeen};
use super::settings::ScalingSettings;
use std::collections::BTreeMap;
use streamctl_proto::{JobName, WorkerId};

/// Part of its work that a task has for being there, per shard: idle readers poll.
const SHARD_US: u64 = 1_000;
/// The least speed, in seconds of the stream per second, from which what comes in is computed.
const SPEED_MIN: f64 = 0.05;
/// A shard that is farther behind than this waits for something, when its worker has time left.
const BEHIND_MS: u64 = 5_000;

/// Why nothing can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmeasured {
    /// There is no worker.
    NoWorkers,
    /// No worker says how busy it is.
    Unsaid,
}

/// What two looks say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// How busy the workers were on average.
    pub busy: f64,
    /// How busy the busiest was.
    pub busiest: f64,
    /// By name.
    pub jobs: BTreeMap<JobName, JobMeasured>,
    /// A worker that has no time left and falls behind has several shards: with so many workers it has fewer.
    pub apart: Option<u32>,
}

/// A job's part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JobMeasured {
    /// Workers that could have a part of it.
    pub places: usize,
    /// Work that was done.
    pub work: f64,
    /// Work that it takes to keep up and to catch up in time.
    pub needed: f64,
    /// The most that one worker did of it, and of how many shards.
    pub most_work: f64,
    /// The shards of that worker.
    pub most_shards: usize,
    /// Bytes read per second.
    pub bytes: f64,
    /// Bytes per second that come in, where that can be seen; else those that are read.
    pub arriving: f64,
    /// Of the shard that is farthest behind.
    pub lag_ms: u64,
    /// It is behind although its workers have time left.
    pub held_up: bool,
    /// It would need more workers than it has places.
    pub short_of_places: bool,
}

/// One task between two looks.
struct Part {
    work: f64,
    needed: f64,
    bytes: f64,
    arriving: f64,
    shards: usize,
    behind: bool,
}

/// What happened between two looks, `passed_ms` apart.
pub fn measure(from: &Seen, to: &Seen, passed_ms: i64, settings: &ScalingSettings) -> Result<Measured, Unmeasured> {
    let busy = busy_shares(from, to)?;
    let work = work_by_worker(from, to);
    let mut measured = Measured {
        busy: busy.values().sum::<f64>() / busy.len() as f64,
        busiest: busy.values().copied().fold(0.0, f64::max),
        ..Measured::default()
    };
    let mut needed_of: BTreeMap<&WorkerId, f64> = BTreeMap::new();
    let mut shards_of: BTreeMap<&WorkerId, Vec<(usize, usize)>> = BTreeMap::new();
    for (name, job) in &to.jobs {
        let mut sum = JobMeasured { places: job.places, ..JobMeasured::default() };
        for (id, task) in &job.tasks {
            let Some(before) = from.jobs.get(name).and_then(|job| job.tasks.get(id)) else { continue };
            let Some(share) = busy.get(&task.worker) else { continue };
            let total = work.get(&task.worker).copied().unwrap_or(0);
            let of_worker = work_us(before, task) as f64 / total.max(1) as f64;
            let part = part(before, task, share * of_worker, *share >= settings.too_busy(), passed_ms, settings);
            *needed_of.entry(&task.worker).or_default() += part.needed;
            shards_of.entry(&task.worker).or_default().push((part.shards, job.places));
            sum.add(&part);
        }
        sum.lag_ms = job.lag_ms();
        // More than all of its places can not be had.
        sum.short_of_places = sum.needed > job.places as f64;
        sum.needed = sum.needed.min(job.places as f64 * settings.busy);
        measured.jobs.insert(name.clone(), sum);
    }
    let hot = |worker: &&WorkerId| busy.get(*worker).is_some_and(|share| *share >= settings.too_busy());
    let behind = needed_of.into_iter().filter(|(_, needed)| *needed > 1.0).map(|(worker, _)| worker).filter(hot);
    measured.apart = behind.filter_map(|worker| apart(&shards_of[worker], busy.len())).min();
    Ok(measured)
}

/// How many workers it takes until one that has these shards (of a job with so many places) has fewer.
fn apart(shards: &[(usize, usize)], workers: usize) -> Option<u32> {
    let fewer = |(has, places): &(usize, usize)| (*has >= 2 && *places >= 2).then(|| places.div_ceil(has - 1));
    let more = (shards.len() >= 2).then_some(workers + 1);
    shards.iter().filter_map(fewer).chain(more).min().map(|workers| u32::try_from(workers).unwrap_or(u32::MAX))
}

/// How busy each worker was. One that does not say it is taken to be like the others.
fn busy_shares<'a>(from: &Seen, to: &'a Seen) -> Result<BTreeMap<&'a WorkerId, f64>, Unmeasured> {
    let share = |id: &WorkerId| {
        let (before, now) = (from.workers.get(id)?, to.workers.get(id)?);
        let times = now.times.checked_sub(before.times).filter(|times| *times > 0)?;
        let sum = now.busy_permille_sum.checked_sub(before.busy_permille_sum)?;
        Some((sum as f64 / times as f64 / 1_000.0).min(1.0))
    };
    let said: BTreeMap<&WorkerId, Option<f64>> = to.workers.keys().map(|id| (id, share(id))).collect();
    if said.is_empty() {
        return Err(Unmeasured::NoWorkers);
    }
    let known: Vec<f64> = said.values().filter_map(|share| *share).collect();
    if known.is_empty() {
        return Err(Unmeasured::Unsaid);
    }
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    Ok(said.into_iter().map(|(id, share)| (id, share.unwrap_or(mean))).collect())
}

/// What a task took of its worker's time, and a little for each shard.
fn work_us(before: &TaskSeen, now: &TaskSeen) -> u64 {
    let idle = SHARD_US.saturating_mul(now.shards.len() as u64);
    now.work_us.saturating_sub(before.work_us).saturating_add(idle)
}

fn work_by_worker<'a>(from: &Seen, to: &'a Seen) -> BTreeMap<&'a WorkerId, u64> {
    let mut sums: BTreeMap<&WorkerId, u64> = BTreeMap::new();
    for (name, job) in &to.jobs {
        for (id, task) in &job.tasks {
            let before = from.jobs.get(name).and_then(|job| job.tasks.get(id));
            let sum = sums.entry(&task.worker).or_default();
            *sum = sum.saturating_add(before.map_or(0, |before| work_us(before, task)));
        }
    }
    sums
}

fn part(
    before: &TaskSeen,
    now: &TaskSeen,
    work: f64,
    no_time_left: bool,
    passed_ms: i64,
    settings: &ScalingSettings,
) -> Part {
    let passed_s = passed_ms.max(1) as f64 / 1_000.0;
    let (mut bytes, mut arriving, mut wanted) = (0.0, 0.0, 0.0);
    for (was, is) in before.shards.iter().zip(&now.shards) {
        let read = is.bytes.saturating_sub(was.bytes) as f64;
        let fell_s = (is.lag_ms as f64 - was.lag_ms as f64) / 1_000.0;
        let speed = ((passed_s - fell_s) / passed_s).max(SPEED_MIN);
        let rate = read / passed_s;
        // A shard that was read faster than time has less coming in than is read.
        let comes = if no_time_left || speed > 1.0 { rate / speed } else { rate };
        let catch_up = 1.0 + is.lag_ms as f64 / settings.catch_up_ms.max(1) as f64;
        bytes += rate;
        arriving += comes;
        wanted += if no_time_left { comes * catch_up } else { rate };
    }
    let needed = if bytes > 0.0 { work * wanted / bytes } else { work };
    let behind = !no_time_left && now.shards.iter().any(|shard| shard.lag_ms > BEHIND_MS);
    Part { work, needed, bytes, arriving, shards: now.shards.len(), behind }
}

impl JobMeasured {
    fn add(&mut self, part: &Part) {
        self.work += part.work;
        self.needed += part.needed;
        self.bytes += part.bytes;
        self.arriving += part.arriving;
        if part.work >= self.most_work {
            (self.most_work, self.most_shards) = (part.work, part.shards);
        }
        self.held_up |= part.behind;
    }

    /// What one worker reads that does nothing else, in bytes per second.
    pub fn worker_bytes(&self) -> Option<f64> {
        (self.work >= 0.01 && self.bytes > 0.0).then(|| self.bytes / self.work)
    }
}

impl JobSeen {
    fn lag_ms(&self) -> u64 {
        self.tasks.values().flat_map(|task| &task.shards).map(|shard| shard.lag_ms).max().unwrap_or(0)
    }
}
