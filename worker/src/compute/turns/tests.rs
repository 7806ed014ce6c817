//! Turns on two threads: their distribution, and the handling of turns that do not return.

use super::*;
use crate::compute::Compute;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use streamctl_engine::query::Pace;
use tokio::task::JoinSet;

fn work_of(job: &str) -> Arc<Workload> {
    Workload::new(&job.parse().unwrap(), "task t1.1")
}

fn spin(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Computes for ever and yields as a query does. Counts milliseconds.
async fn computes_for_ever(pace: Arc<Pace>, spun: Arc<AtomicU64>) {
    loop {
        spin(Duration::from_millis(1));
        spun.fetch_add(1, Ordering::Relaxed);
        pace.yield_point().await;
    }
}

fn state(taken: &[(&str, bool)], waiting: &[&str]) -> State {
    let mut state = State::default();
    for (job, overdue) in taken {
        state.last_id += 1;
        let workload = work_of(job);
        let since = Instant::now();
        let named = false;
        let cancelled = None;
        state.taken.insert(
            state.last_id,
            Taken {
                workload,
                since,
                overdue: *overdue,
                named,
                cancelled,
            },
        );
    }
    for job in waiting {
        state.last_id += 1;
        state.request(state.last_id, &work_of(job), Waker::noop());
    }
    state
}

fn granted(mut state: State, threads: usize) -> Vec<String> {
    drop(state.grant(threads, None));
    state
        .granted
        .values()
        .map(|workload| workload.job.to_string())
        .collect()
}

#[test]
fn a_free_turn_goes_to_the_job_that_holds_fewest_and_has_waited_for_longest() {
    assert_eq!(
        granted(state(&[], &["hog", "hog", "hog"]), 2),
        ["hog", "hog"],
        "no other job wants them"
    );
    assert_eq!(
        granted(state(&[("hog", false)], &["hog", "small"]), 2),
        ["small"]
    );
    assert_eq!(
        granted(state(&[], &["hog", "hog", "small"]), 2),
        ["hog", "small"]
    );
    let mut state_of_three = state(&[], &["hog", "hog", "small"]);
    drop(state_of_three.grant(1, None));
    let first = *state_of_three.granted.keys().next().unwrap();
    assert!(state_of_three.begin(first));
    state_of_three.end(first);
    assert_eq!(
        granted(state_of_three, 1),
        ["small"],
        "the hog had the turn before"
    );
    assert_eq!(
        granted(state(&[("hog", false), ("hog", false)], &["small"]), 2),
        [""; 0]
    );
}

#[test]
fn places_of_overdue_turns_go_to_jobs_that_hold_no_thread() {
    assert_eq!(
        granted(
            state(&[("hog", true), ("hog", true)], &["hog", "small", "small"]),
            2
        ),
        ["small"]
    );
    assert_eq!(
        granted(state(&[("hog", true), ("hog", true)], &["a", "b", "c"]), 2),
        ["a", "b"]
    );
    assert_eq!(
        granted(state(&[("hog", true)], &["hog", "hog"]), 2),
        ["hog"],
        "one thread is free"
    );
    let many: Vec<(&str, bool)> = (0..SPARE_THREADS + 2).map(|_| ("hog", true)).collect();
    assert_eq!(
        granted(state(&many, &["small"]), 2),
        [""; 0],
        "there are only so many threads"
    );
}

#[test]
fn two_jobs_that_never_wait_leave_a_third_one_its_share() {
    let (compute, runtime) = Compute::start(2).unwrap();
    let mut set = JoinSet::new();
    let hogs = Arc::new(AtomicU64::new(0));
    let small = Arc::new(AtomicU64::new(0));
    for job in [
        "first", "first", "first", "first", "second", "second", "second", "second",
    ] {
        let work = work_of(job);
        compute.spawn_in(
            &mut set,
            Arc::clone(&work),
            computes_for_ever(Arc::clone(&work.pace), Arc::clone(&hogs)),
        );
    }
    let work = work_of("small");
    compute.spawn_in(
        &mut set,
        Arc::clone(&work),
        computes_for_ever(Arc::clone(&work.pace), Arc::clone(&small)),
    );
    while hogs.load(Ordering::Relaxed) < 800 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let hogs = hogs.load(Ordering::Relaxed);
    let small = small.load(Ordering::Relaxed);
    // One of three jobs, with one of nine pieces of work. A spin takes a millisecond or more,
    // however loaded the CPU is.
    assert!(small * 4 > hogs, "{small} beside {hogs}");
    let spent = compute.spent();
    assert!(spent.turns >= Duration::from_millis(800), "{spent:?}");
    set.abort_all();
    runtime.shutdown_background();
}

#[test]
fn work_that_does_not_yield_does_not_hold_up_other_jobs_and_is_busy() {
    let (compute, runtime) = Compute::start(2).unwrap();
    let begun = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let mut set = JoinSet::new();
    for _ in 0..4 {
        let begun = Arc::clone(&begun);
        let over = Arc::clone(&over);
        let hog = async move {
            begun.fetch_add(1, Ordering::Relaxed);
            while !over.load(Ordering::Relaxed) {
                spin(Duration::from_millis(1));
            }
        };
        compute.spawn_in(&mut set, work_of("hog"), hog);
    }
    while begun.load(Ordering::Relaxed) < 2 {
        std::thread::yield_now();
    }
    let other = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let healthy = other.block_on(async {
        let (stuck, _reported) = oneshot::channel();
        let healthy = compute.spawn(work_of("healthy"), async { 7 });
        tokio::select! {
            () = compute.watch(stuck) => unreachable!("it watches for ever"),
            done = tokio::time::timeout(OVERDUE_AFTER * 20, healthy) => done,
        }
    });
    let begun = begun.load(Ordering::Relaxed);
    let spent = compute.spent();
    over.store(true, Ordering::Relaxed);
    assert_eq!(healthy.expect("it has a turn").unwrap(), 7);
    assert_eq!(begun, 2, "the hog has no further turns");
    assert!(
        spent.turns >= OVERDUE_AFTER,
        "turns that are not over count: {spent:?}"
    );
    other.block_on(async { while set.join_next().await.is_some() {} });
    runtime.shutdown_background();
}

#[test]
fn cancelled_work_that_never_returns_is_reported() {
    let mut state = state(&[("hog", false)], &[]);
    let began = Instant::now();
    assert_eq!(
        state.find_stuck(began + STUCK_AFTER * 2),
        None,
        "it may take any time"
    );
    state.taken.values().next().unwrap().workload.pace.cancel();
    let cancelled = began + STUCK_AFTER * 3;
    assert_eq!(state.find_stuck(cancelled), None);
    assert_eq!(
        state.find_stuck(cancelled + STUCK_AFTER - WATCH_INTERVAL),
        None
    );
    let reported = state.find_stuck(cancelled + STUCK_AFTER).unwrap();
    assert!(
        reported.contains("hog") && reported.contains("t1.1"),
        "{reported}"
    );
}

#[test]
fn work_computes_while_it_waits_for_nothing_but_its_turn() {
    let (compute, runtime) = Compute::start(1).unwrap();
    let me = work_of("job");
    let (resume, resumed) = oneshot::channel::<()>();
    let pace = Arc::clone(&me.pace);
    let seen = Arc::new(AtomicBool::new(false));
    let enough = Arc::clone(&seen);
    let running = compute.spawn(Arc::clone(&me), async move {
        // Like a query that yields.
        while !enough.load(Ordering::Relaxed) {
            spin(TURN);
            pace.yield_point().await;
        }
        let _ = resumed.await;
    });
    while me.computing() < TURN * 3 {
        std::thread::yield_now();
    }
    seen.store(true, Ordering::Relaxed);
    while !me.computing().is_zero() {
        std::thread::yield_now();
    }
    resume.send(()).unwrap();
    runtime.block_on(running).unwrap();
    runtime.shutdown_background();
}

#[test]
fn work_stops_when_what_it_runs_for_is_dropped() {
    let (compute, runtime) = Compute::start(1).unwrap();
    let me = work_of("job");
    let held = Arc::new(());
    let inside = Arc::clone(&held);
    let pace = Arc::clone(&me.pace);
    let running = compute.spawn(Arc::clone(&me), async move {
        let _held = inside;
        computes_for_ever(pace, Arc::default()).await;
    });
    while me.computing().is_zero() {
        std::thread::yield_now();
    }
    drop(running);
    assert!(me.pace.is_cancelled());
    while Arc::strong_count(&held) > 1 {
        std::thread::yield_now();
    }
    runtime.shutdown_background();
}
