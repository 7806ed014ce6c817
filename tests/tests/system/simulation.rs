//! Stories of the whole system in a simulated world: fixed seeds, as many as make about a minute.
//!
//! Rule: what a seed shows becomes a small test next to the code; the seed's own story changes with
//! every change of the system.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use streamctl_tests::sim::{tell, tell_wide};

/// Stories that every test run tells: about a minute on two cores.
const SEEDS: u64 = 150;
/// Threads that tell stories; each tells one at a time.
const THREADS: usize = 2;

#[test]
fn whatever_happens_to_the_whole_system_every_record_is_there_exactly_once() {
    let next = AtomicU64::new(0);
    let broken = Mutex::new(vec![]);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS || !broken.lock().unwrap().is_empty() {
                        return;
                    }
                    let story = tell(seed, false);
                    if let Some(what) = story.broken {
                        broken
                            .lock()
                            .unwrap()
                            .push(format!("seed {}: {what}", story.seed));
                    }
                }
            });
        }
    });
    let broken = broken.into_inner().unwrap();
    assert!(
        broken.is_empty(),
        "{broken:#?}\ntell it alone, with its trace: make sim SEED=<seed>"
    );
}

#[test]
fn the_same_seed_twice_gives_the_same_trace() {
    for seed in [3, 11] {
        let first = tell(seed, true);
        let second = tell(seed, true);
        let differs = first
            .trace
            .iter()
            .zip(&second.trace)
            .position(|(a, b)| a != b);
        if let Some(line) = differs {
            panic!(
                "seed {seed}, line {line}:\n{}\n{}",
                first.trace[line], second.trace[line]
            );
        }
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
        assert!(first.trace.len() > 100, "seed {seed} tells something");
    }
}

/// Listed, given out, read, moved to others when a worker and the leader die, and each record there
/// once: on the parts of the system as they are, with fakes at its edges only.
#[test]
fn ten_thousand_shards_are_listed_assigned_and_read_exactly_once() {
    let began = Instant::now();
    let story = tell_wide(1, 10_000);
    assert_eq!(story.broken, None, "after {:?}", began.elapsed());
    assert!(
        story.records > 39_000 && story.epochs > 3,
        "{} records, {} epochs",
        story.records,
        story.epochs
    );
}
