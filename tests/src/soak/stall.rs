//! A sink that stalls for minutes while records arrive at a rate that would fill memory.
//!
//! Owns: the pause, and the bound on the workers' memory. Does not own: the parts (`run`).
//! Rule: records that the sink does not accept wait in the stream, not in the workers.

use super::plan::Plan;
use super::run::{JOB, Soak, WORKERS};
use crate::chaos::fault::Fault;
use crate::chaos::report::Row;
use crate::chaos::run::Times;
use crate::chaos::scene::{now_ms, verdict};
use crate::procfs;
use crate::wait::until;
use std::path::Path;
use std::time::{Duration, Instant};

/// In five minutes, twice the memory limit of a worker.
const RATE: u64 = 2_000;
/// Time before and after the pause.
const AROUND: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_secs(60);
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// The most memory of a worker with the limit [`super::run::MEMORY_LIMIT`]: the program itself
/// comes on top.
const RSS_MAX: u64 = (256 + 192) << 20;

/// Stops the sink for the fault's time, and checks the output.
pub fn run(folder: &Path, fault: &Fault) -> Row {
    let folder = folder.join(fault.name);
    std::fs::create_dir_all(&folder).expect("the folder takes folders");
    let plan = Plan {
        lasts: fault.lasts + 2 * AROUND,
        rate: RATE,
        local: false,
        folder,
    };
    let mut soak = Soak::start(&plan);
    soak.submit();
    let published = |soak: &Soak| soak.watch.view().published_end_ms;
    until("windows before the pause", STEP, || {
        (published(&soak) > 0).then_some(())
    });
    std::thread::sleep(AROUND / 3);
    let before = most_resident(&mut soak);
    soak.s3.process().pause();
    let begin = Instant::now();
    let mut times = Times::default();
    let mut most = 0;
    while begin.elapsed() < fault.lasts {
        let waits = soak
            .watch
            .view()
            .job
            .is_some_and(|job| !job.waiting_on.is_empty());
        times.noticed = times.noticed.or(waits.then(|| begin.elapsed()));
        most = most.max(most_resident(&mut soak));
        std::thread::sleep(SAMPLE_EVERY);
    }
    let old = published(&soak);
    let healed_ms = now_ms();
    soak.s3.process().resume();
    let healed = Instant::now();
    until(
        "a window that ended after the pause",
        fault.lasts + STEP,
        || {
            let end_ms = published(&soak);
            times.resumed = times.resumed.or((end_ms > old).then(|| healed.elapsed()));
            most = most.max(most_resident(&mut soak));
            (end_ms > healed_ms).then_some(())
        },
    );
    times.again = Some(healed.elapsed());
    (times.healed, times.still) = (times.again, begin.elapsed());
    soak.until_all_published();
    let words = soak.judge();
    let mut row = Row::of(fault, &times, &verdict(plan.records(), words), (0, 0));
    let mib = |bytes: u64| bytes >> 20;
    row.notes.push(format!(
        "a worker took {} MiB before and at most {} MiB",
        mib(before),
        mib(most)
    ));
    if soak.limited && most > RSS_MAX {
        row.ok = false;
        row.notes.push(format!("more than {} MiB", mib(RSS_MAX)));
    }
    if !soak.limited {
        row.notes
            .push("without a limit: the worker has no --memory-limit".to_owned());
    }
    assert_eq!(
        soak.watch.view().job.map(|job| job.job).as_deref(),
        Some(JOB)
    );
    row
}

/// The memory of the largest worker.
fn most_resident(soak: &mut Soak) -> u64 {
    let pids: Vec<u32> = WORKERS
        .iter()
        .filter_map(|id| Some(soak.cluster.process(id)?.pid()))
        .collect();
    pids.into_iter()
        .filter_map(procfs::taken)
        .map(|taken| taken.rss_bytes)
        .max()
        .unwrap_or(0)
}
