//! How many workers an amount of work needs, if shards are distributed by number.
//!
//! Rule: pure arithmetic on [`Measured`]; more workers never make the fullest one fuller.

use super::measure::{JobMeasured, Measured};

/// Rounding must not cost a worker.
const EXACT: f64 = 1e-9;

/// The utilization of the fullest of this many workers: the average, or more if it has one shard
/// more than others of a job with few.
pub fn fullest(measured: &Measured, workers: u32) -> f64 {
    let workers = workers.max(1);
    let all: f64 = measured.jobs.values().map(|job| job.needed).sum();
    let of_job =
        |job: &JobMeasured| job.needed * most_places(job, workers) / job.places.max(1) as f64;
    measured
        .jobs
        .values()
        .map(of_job)
        .fold(all / f64::from(workers), f64::max)
}

/// Most shards of the job on one of this many workers.
fn most_places(job: &JobMeasured, workers: u32) -> f64 {
    job.places.div_ceil(workers as usize) as f64
}

/// The fewest workers of which none is busier than `busy`, at most as many as there are places. 0
/// if there is nothing to read.
pub fn workers_for(measured: &Measured, busy: f64) -> u32 {
    let places = measured.jobs.values().map(|job| job.places).sum::<usize>();
    let mut low = 1;
    let mut high = u32::try_from(places).unwrap_or(u32::MAX);
    if high == 0 {
        return 0;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if fullest(measured, middle) <= busy + EXACT {
            high = middle
        } else {
            low = middle + 1
        }
    }
    low
}

/// The fewest workers, fewer than `now`, that may be enough. If all shards were alike, none would
/// be busier than `busy`. Because shards differ, the worker that is fullest now must also not
/// become busier than `too_busy` by the shards that it would get. Returns `now` if there is no such
/// number.
pub fn fewer_workers_for(measured: &Measured, now: u32, busy: f64, too_busy: f64) -> u32 {
    if measured.apart.is_some() {
        return now;
    }
    let bearable = |workers: u32| {
        measured
            .jobs
            .values()
            .all(|job| is_bearable(job, workers, now, too_busy))
    };
    (workers_for(measured, busy)..now)
        .find(|workers| bearable(*workers))
        .unwrap_or(now)
}

fn is_bearable(job: &JobMeasured, workers: u32, now: u32, too_busy: f64) -> bool {
    let most = most_places(job, workers.max(1));
    let before = most_places(job, now.max(1));
    let given = (most - job.most_shards as f64).max(0.0) * job.needed / job.places.max(1) as f64;
    most <= before || job.most_work + given <= too_busy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(jobs: &[(usize, f64)]) -> Measured {
        let job = |(n, (places, needed)): (usize, &(usize, f64))| {
            let job = JobMeasured {
                places: *places,
                needed: *needed,
                work: *needed,
                ..JobMeasured::default()
            };
            (format!("job-{n}").parse().unwrap(), job)
        };
        Measured {
            jobs: jobs.iter().enumerate().map(job).collect(),
            ..Measured::default()
        }
    }

    #[test]
    fn work_is_dealt_out_in_whole_shards() {
        // Three workers would have 2, 1 and 1 of four shards of half a worker each: the first one
        // is full.
        let four = measured(&[(4, 2.0)]);
        assert_eq!(fullest(&four, 3), 1.0);
        assert_eq!(workers_for(&four, 0.7), 4);
        let many = measured(&[(400, 2.0)]);
        assert_eq!(workers_for(&many, 0.7), 3);
    }

    #[test]
    fn several_jobs_share_workers_and_one_shard_is_never_parted() {
        assert_eq!(workers_for(&measured(&[(64, 0.3), (64, 0.3)]), 0.7), 1);
        assert_eq!(workers_for(&measured(&[(64, 0.9), (64, 0.9)]), 0.7), 3);
        assert_eq!(workers_for(&measured(&[(1, 0.7)]), 0.7), 1);
        assert_eq!(
            workers_for(&measured(&[(1, 0.7), (1, 0.7), (1, 0.7)]), 0.7),
            3
        );
        assert_eq!(workers_for(&measured(&[]), 0.7), 0);
        assert_eq!(workers_for(&measured(&[(0, 0.0)]), 0.7), 0);
        assert_eq!(workers_for(&measured(&[(5, 0.0)]), 0.7), 1);
    }

    #[test]
    fn the_search_finds_what_trying_all_finds() {
        for places in 1..40 {
            for tenths in 0..places * 7 {
                let measured = measured(&[(places, tenths as f64 / 10.0), (3, 0.4)]);
                let all = (1..=places as u32 + 3).find(|n| fullest(&measured, *n) <= 0.7 + EXACT);
                assert_eq!(Some(workers_for(&measured, 0.7)), all, "{places} {tenths}");
            }
        }
    }

    #[test]
    fn the_fullest_worker_is_not_given_what_makes_it_too_busy() {
        let mut hot = measured(&[(4, 1.2)]);
        let fullest = |hot: &mut Measured, work: f64, shards: usize| {
            hot.jobs
                .values_mut()
                .for_each(|job| (job.most_work, job.most_shards) = (work, shards));
        };
        fullest(&mut hot, 0.3, 1);
        assert_eq!(fewer_workers_for(&hot, 4, 0.7, 0.85), 2);
        fullest(&mut hot, 0.8, 1);
        assert_eq!(
            fewer_workers_for(&hot, 4, 0.7, 0.85),
            4,
            "0.8 and 0.3 are too much for one"
        );
        fullest(&mut hot, 0.8, 2);
        assert_eq!(
            fewer_workers_for(&hot, 3, 0.7, 0.85),
            2,
            "one worker has two of four either way"
        );
        hot.apart = Some(4);
        assert_eq!(
            fewer_workers_for(&hot, 3, 0.7, 0.85),
            3,
            "not while one falls behind"
        );
    }
}
