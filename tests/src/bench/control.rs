//! The cost of the control plane's decisions at scale, in a core alone.
//!
//! Owns: the measurements. Does not own: the core and its crowd ([`Crowd`]).
//! Rule: times are those of whole steps, in memory, on one thread.

use super::sheet::{Mark, Sheet};
use crate::crowd::{Crowd, worker};
use std::collections::BTreeSet;
use std::time::Instant;
use streamctl_proto::WorkerId;

/// Shards of all jobs together, with 100 shards per job and 10 per worker.
const CURVE: [usize; 3] = [100, 1_000, 10_000];
pub(super) const SHARDS_PER_JOB: usize = 100;
pub(super) const SHARDS_PER_WORKER: usize = 10;
/// Measured windows; the first window is not measured.
const WINDOWS: u64 = 5;
const PLAN_MS_MAX: f64 = 50.0;

/// The cost of the core's decisions: a change with 10,000 shards and 1,000 workers, and a window at
/// each point of the curve.
pub fn planning() -> Sheet {
    let mut sheet = Sheet::new("control plane: the core's decisions, 10,000 shards, 1,000 workers");
    one_large_job(&mut sheet);
    hundred_jobs(&mut sheet);
    for shards in CURVE {
        let us = window_us(Crowd::of(1, shards, shards / SHARDS_PER_WORKER));
        sheet.add(
            format!("1 job: a window of {shards} shards, for each shard"),
            us / shards as f64,
            "us",
            Mark::None,
        );
    }
    for shards in CURVE {
        let jobs = shards / SHARDS_PER_JOB;
        let crowd = Crowd::of(jobs, SHARDS_PER_JOB, shards / SHARDS_PER_WORKER);
        let tasks = crowd
            .core
            .jobs
            .values()
            .map(|job| job.tasks.len())
            .sum::<usize>() as f64;
        sheet.add(
            format!("{jobs} job(s) of 100 shards: a window of {tasks} tasks, for each task"),
            window_us(crowd) / tasks,
            "us",
            Mark::None,
        );
    }
    sheet
}

/// The cost of one window of all jobs.
fn window_us(mut crowd: Crowd) -> f64 {
    crowd.window(0);
    let begin = Instant::now();
    (1..=WINDOWS).for_each(|n| crowd.window(n));
    begin.elapsed().as_secs_f64() * 1e6 / WINDOWS as f64
}

fn one_large_job(sheet: &mut Sheet) {
    let mut crowd = Crowd::of(1, 10_000, 1_000);
    sheet.add(
        "1 job: its shards are listed and shared out",
        crowd.slowest(),
        "ms",
        Mark::AtMost(PLAN_MS_MAX),
    );
    crowd.window(0);
    sheet.add(
        "1 job: the slowest step of a window's commit",
        crowd.slowest(),
        "ms",
        Mark::None,
    );
    crowd.joins(1_000);
    crowd.after(1_000, &BTreeSet::new());
    sheet.add(
        "1 job: one more worker",
        crowd.slowest(),
        "ms",
        Mark::AtMost(PLAN_MS_MAX),
    );
}

fn hundred_jobs(sheet: &mut Sheet) {
    let mut crowd = Crowd::of(100, 100, 1_000);
    sheet.add(
        "100 jobs: a job's shards are listed and shared out",
        crowd.slowest(),
        "ms",
        Mark::AtMost(PLAN_MS_MAX),
    );
    let before = crowd.owners();
    let lost: BTreeSet<WorkerId> = (0..1_000).step_by(10).map(worker).collect();
    crowd.lose(&lost);
    sheet.add(
        "100 jobs: a tenth of the workers is lost",
        crowd.slowest(),
        "ms",
        Mark::AtMost(PLAN_MS_MAX),
    );
    let after = crowd.owners();
    let moved = after
        .iter()
        .filter(|(shard, worker)| before.get(*shard) != Some(*worker));
    let (theirs, others) = moved
        .partition::<Vec<_>, _>(|(shard, _)| before.get(*shard).is_some_and(|w| lost.contains(w)));
    let read = after.len() as f64;
    sheet.add(
        "shards that are read again, of 10,000",
        read,
        "",
        Mark::AtLeast(10_000.0),
    );
    sheet.add(
        "shards of lost workers that moved",
        theirs.len() as f64,
        "",
        Mark::AtLeast(1_000.0),
    );
    sheet.add(
        "shards of others that moved",
        others.len() as f64,
        "",
        Mark::AtMost(0.0),
    );
}
