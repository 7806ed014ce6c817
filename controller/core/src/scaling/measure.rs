//! From two observations of the cluster: how much work each job is, and how much work it takes to
//! keep up.
//!
//! Owns: the arithmetic. Does not own: when it runs, what the result is used for
//! ([`super::Scaler`]).
//! Rule: nothing is guessed. Work is measured in workers: a worker that is 60 % busy does 0.6
//! workers' work, divided among its tasks by the time that they took. A worker's capacity is its
//! work divided by its utilization.
//!
//! The arrival rate follows from the lag: a shard that is read at half the speed of time (its lag
//! grows by half a second per second) has twice as much arriving as is read. This holds only for
//! saturated workers. A worker that has time left and falls behind waits for something that more
//! workers would not change.

use super::seen::{JobSeen, Seen, TaskSeen};
use super::settings::ScalingSettings;
use std::collections::BTreeMap;
use streamctl_proto::{JobName, WorkerId};

/// Work of an idle task, per shard: idle readers poll.
const SHARD_US: u64 = 1_000;
/// The lowest speed, in seconds of the stream per second, from which the arrival rate is computed.
const SPEED_MIN: f64 = 0.05;
/// If a shard lags more than this while its worker has time left, it waits for something.
const BEHIND_MS: u64 = 5_000;

/// Why a measurement is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmeasured {
    NoWorkers,
    /// No worker reports its utilization.
    Unsaid,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Average utilization of the workers.
    pub busy: f64,
    /// Utilization of the busiest worker.
    pub busiest: f64,
    pub jobs: BTreeMap<JobName, JobMeasured>,
    /// A saturated worker that falls behind has several shards. With this many workers, it has
    /// fewer.
    pub apart: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JobMeasured {
    /// Most workers that can share its work.
    pub places: usize,
    pub work: f64,
    /// Work needed to keep up, and to catch up in time.
    pub needed: f64,
    /// The most work that one worker did of it, and of how many shards.
    pub most_work: f64,
    /// The shards of that worker.
    pub most_shards: usize,
    /// Bytes read per second.
    pub bytes: f64,
    /// Bytes per second that arrive, if that is known; otherwise the bytes that are read.
    pub arriving: f64,
    /// The lag of the shard that is farthest behind.
    pub lag_ms: u64,
    /// It lags although its workers have time left.
    pub held_up: bool,
    /// It needs more workers than it has places.
    pub short_of_places: bool,
}

/// One task between two observations.
struct Part {
    work: f64,
    needed: f64,
    bytes: f64,
    arriving: f64,
    shards: usize,
    behind: bool,
}

/// Measures what happened between two observations, `passed_ms` apart.
pub fn measure(
    from: &Seen,
    to: &Seen,
    passed_ms: i64,
    settings: &ScalingSettings,
) -> Result<Measured, Unmeasured> {
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
        let mut sum = JobMeasured {
            places: job.places,
            ..JobMeasured::default()
        };
        for (id, task) in &job.tasks {
            let Some(before) = from.jobs.get(name).and_then(|job| job.tasks.get(id)) else {
                continue;
            };
            let Some(share) = busy.get(&task.worker) else {
                continue;
            };
            let total = work.get(&task.worker).copied().unwrap_or(0);
            let of_worker = work_us(before, task) as f64 / total.max(1) as f64;
            let part = part(
                before,
                task,
                share * of_worker,
                *share >= settings.too_busy(),
                passed_ms,
                settings,
            );
            *needed_of.entry(&task.worker).or_default() += part.needed;
            shards_of
                .entry(&task.worker)
                .or_default()
                .push((part.shards, job.places));
            sum.add(&part);
        }
        sum.lag_ms = job.lag_ms();
        // It cannot use more than all of its places.
        sum.short_of_places = sum.needed > job.places as f64;
        sum.needed = sum.needed.min(job.places as f64 * settings.busy);
        measured.jobs.insert(name.clone(), sum);
    }
    let hot = |worker: &&WorkerId| {
        busy.get(*worker)
            .is_some_and(|share| *share >= settings.too_busy())
    };
    let behind = needed_of
        .into_iter()
        .filter(|(_, needed)| *needed > 1.0)
        .map(|(worker, _)| worker)
        .filter(hot);
    measured.apart = behind
        .filter_map(|worker| apart(&shards_of[worker], busy.len()))
        .min();
    Ok(measured)
}

/// How many workers are needed until a worker with these shards (of a job with this many places)
/// has fewer.
fn apart(shards: &[(usize, usize)], workers: usize) -> Option<u32> {
    let fewer = |(has, places): &(usize, usize)| {
        (*has >= 2 && *places >= 2).then(|| places.div_ceil(has - 1))
    };
    let more = (shards.len() >= 2).then_some(workers + 1);
    shards
        .iter()
        .filter_map(fewer)
        .chain(more)
        .min()
        .map(|workers| u32::try_from(workers).unwrap_or(u32::MAX))
}

/// The utilization of each worker. A worker that does not report it counts as average.
fn busy_shares<'a>(from: &Seen, to: &'a Seen) -> Result<BTreeMap<&'a WorkerId, f64>, Unmeasured> {
    let share = |id: &WorkerId| {
        let before = from.workers.get(id)?;
        let now = to.workers.get(id)?;
        let times = now
            .times
            .checked_sub(before.times)
            .filter(|times| *times > 0)?;
        let sum = now
            .busy_permille_sum
            .checked_sub(before.busy_permille_sum)?;
        Some((sum as f64 / times as f64 / 1_000.0).min(1.0))
    };
    let reported: BTreeMap<&WorkerId, Option<f64>> =
        to.workers.keys().map(|id| (id, share(id))).collect();
    if reported.is_empty() {
        return Err(Unmeasured::NoWorkers);
    }
    let known: Vec<f64> = reported.values().filter_map(|share| *share).collect();
    if known.is_empty() {
        return Err(Unmeasured::Unsaid);
    }
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    Ok(reported
        .into_iter()
        .map(|(id, share)| (id, share.unwrap_or(mean)))
        .collect())
}

/// What a task took of its worker's time, and a little for each shard.
fn work_us(before: &TaskSeen, now: &TaskSeen) -> u64 {
    let idle = SHARD_US.saturating_mul(now.shards.len() as u64);
    now.work_us
        .saturating_sub(before.work_us)
        .saturating_add(idle)
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
    let mut bytes = 0.0;
    let mut arriving = 0.0;
    let mut wanted = 0.0;
    for (was, is) in before.shards.iter().zip(&now.shards) {
        let read = is.bytes.saturating_sub(was.bytes) as f64;
        let fell_s = (is.lag_ms as f64 - was.lag_ms as f64) / 1_000.0;
        let speed = ((passed_s - fell_s) / passed_s).max(SPEED_MIN);
        let rate = read / passed_s;
        // If a shard was read faster than time, less arrives than is read.
        let comes = if no_time_left || speed > 1.0 {
            rate / speed
        } else {
            rate
        };
        let catch_up = 1.0 + is.lag_ms as f64 / settings.catch_up_ms.max(1) as f64;
        bytes += rate;
        arriving += comes;
        wanted += if no_time_left { comes * catch_up } else { rate };
    }
    let needed = if bytes > 0.0 {
        work * wanted / bytes
    } else {
        work
    };
    let behind = !no_time_left && now.shards.iter().any(|shard| shard.lag_ms > BEHIND_MS);
    Part {
        work,
        needed,
        bytes,
        arriving,
        shards: now.shards.len(),
        behind,
    }
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

    /// What one fully used worker reads, in bytes per second.
    pub fn worker_bytes(&self) -> Option<f64> {
        (self.work >= 0.01 && self.bytes > 0.0).then(|| self.bytes / self.work)
    }
}

impl JobSeen {
    fn lag_ms(&self) -> u64 {
        self.tasks
            .values()
            .flat_map(|task| &task.shards)
            .map(|shard| shard.lag_ms)
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::seen::{ShardSeen, WorkerSeen};
    use streamctl_proto::{TaskId, Term};

    const PASSED_MS: i64 = 10_000;

    /// Two observations of workers with these utilizations, and of tasks: the job, the worker, the
    /// working time, and for each shard the bytes and the lag after.
    struct Looks {
        from: Seen,
        to: Seen,
    }

    impl Looks {
        fn at(workers: &[Option<u64>]) -> Self {
            let mut looks = Self {
                from: Seen::default(),
                to: Seen::default(),
            };
            for (n, busy) in workers.iter().enumerate() {
                let id = WorkerId::new(format!("w{n}"));
                let reported = WorkerSeen {
                    busy_permille_sum: busy.unwrap_or(0) * 20,
                    times: if busy.is_some() { 20 } else { 0 },
                };
                looks.from.workers.insert(id.clone(), WorkerSeen::default());
                looks.to.workers.insert(id, reported);
            }
            looks
        }

        fn task(mut self, job: &str, worker: usize, work_us: u64, shards: &[(u64, u64)]) -> Self {
            let name: JobName = job.parse().unwrap();
            let known = self
                .to
                .jobs
                .values()
                .map(|job| job.tasks.len())
                .sum::<usize>();
            let id = TaskId {
                term: Term(1),
                counter: known as u64,
            };
            let worker = WorkerId::new(format!("w{worker}"));
            let seen = |work_us, shards| TaskSeen {
                worker: worker.clone(),
                work_us,
                shards,
            };
            let now = shards
                .iter()
                .map(|(bytes, lag_ms)| ShardSeen {
                    bytes: *bytes,
                    lag_ms: *lag_ms,
                })
                .collect();
            let before = vec![ShardSeen::default(); shards.len()];
            self.from
                .jobs
                .entry(name.clone())
                .or_default()
                .tasks
                .insert(id, seen(0, before));
            let job = self.to.jobs.entry(name).or_default();
            job.tasks.insert(id, seen(work_us, now));
            job.places += shards.len();
            self
        }

        fn measured(&self) -> Measured {
            measure(&self.from, &self.to, PASSED_MS, &ScalingSettings::default()).unwrap()
        }
    }

    fn of<'a>(measured: &'a Measured, job: &str) -> &'a JobMeasured {
        &measured.jobs[&job.parse::<JobName>().unwrap()]
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < b.abs() * 0.01 + 0.001
    }

    #[test]
    fn a_workers_work_is_shared_out_by_the_time_that_its_tasks_took() {
        let looks = Looks::at(&[Some(800)])
            .task("a", 0, 6_000_000, &[(600, 0)])
            .task("b", 0, 2_000_000, &[(600, 0)]);
        let measured = looks.measured();
        let a = of(&measured, "a");
        let b = of(&measured, "b");
        assert!(near(a.work, 0.6) && near(b.work, 0.2), "{a:?} {b:?}");
        assert!(
            near(a.worker_bytes().unwrap(), 100.0) && near(b.worker_bytes().unwrap(), 300.0),
            "60 bytes per second each"
        );
        assert!(
            near(a.needed, a.work) && near(b.needed, b.work),
            "who keeps up needs what it takes"
        );
    }

    #[test]
    fn what_comes_in_is_seen_from_the_lag_of_a_worker_without_time_left() {
        // In 10 s the lag grew by 5 s: read at half the speed.
        let measured = Looks::at(&[Some(1_000)])
            .task("a", 0, 9_000_000, &[(1_000, 5_000)])
            .measured();
        let a = of(&measured, "a");
        assert!(near(a.bytes, 100.0) && near(a.arriving, 200.0), "{a:?}");
        assert!(
            a.needed <= 0.7,
            "one shard is one place, and no worker should be busier than that: {a:?}"
        );
        assert!(a.short_of_places && !a.held_up);
        let parted = Looks::at(&[Some(1_000)])
            .task("a", 0, 9_000_000, &[(500, 5_000); 4])
            .measured();
        // Twice as much, and a sixtieth more to catch up with 5 s in 5 minutes.
        assert!(
            near(of(&parted, "a").needed, 2.0 * (1.0 + 5.0 / 300.0)),
            "{parted:?}"
        );
        assert_eq!(
            parted.apart,
            Some(2),
            "with two workers it has fewer shards"
        );
    }

    #[test]
    fn who_has_time_left_and_falls_behind_is_held_up_by_something_else() {
        let measured = Looks::at(&[Some(300)])
            .task("a", 0, 3_000_000, &[(1_000, 9_000); 4])
            .measured();
        let a = of(&measured, "a");
        assert!(a.held_up && near(a.needed, 0.3), "{a:?}");
        assert_eq!(measured.apart, None);
    }

    #[test]
    fn a_backlog_is_caught_up_with_in_time() {
        // A shard 10 minutes behind whose lag shrank by 30 s in 10 s: four times as fast as time.
        let mut looks = Looks::at(&[Some(1_000)]).task("a", 0, 9_000_000, &[(4_000, 600_000); 2]);
        for task in looks
            .from
            .jobs
            .values_mut()
            .flat_map(|job| job.tasks.values_mut())
        {
            task.shards
                .iter_mut()
                .for_each(|shard| shard.lag_ms = 630_000);
        }
        let measured = looks.measured();
        let a = of(&measured, "a");
        assert!(near(a.arriving, 200.0), "a quarter of what is read: {a:?}");
        assert!(
            near(a.needed, 0.25 * 3.0),
            "10 minutes in 5 are three times what comes in: {a:?}"
        );
    }

    #[test]
    fn a_worker_that_does_not_report_its_load_counts_like_the_others() {
        let measured = Looks::at(&[Some(400), None])
            .task("a", 1, 1_000, &[(10, 0)])
            .measured();
        assert!(near(of(&measured, "a").work, 0.4), "{measured:?}");
        let silent = Looks::at(&[None]);
        assert_eq!(
            measure(
                &silent.from,
                &silent.to,
                PASSED_MS,
                &ScalingSettings::default()
            ),
            Err(Unmeasured::Unsaid)
        );
        let nobody = measure(
            &Seen::default(),
            &Seen::default(),
            PASSED_MS,
            &ScalingSettings::default(),
        );
        assert_eq!(nobody, Err(Unmeasured::NoWorkers));
    }

    #[test]
    fn a_task_that_has_just_begun_is_not_measured() {
        let mut looks = Looks::at(&[Some(900)])
            .task("a", 0, 9_000_000, &[(1_000, 0)])
            .task("b", 0, 9_000_000, &[(1_000, 0)]);
        looks.from.jobs.remove(&"b".parse::<JobName>().unwrap());
        let measured = looks.measured();
        assert!(
            near(of(&measured, "a").work, 0.9) && of(&measured, "b").work == 0.0,
            "{measured:?}"
        );
    }
}
