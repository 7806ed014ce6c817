//! Turns on two threads: who gets them, and what becomes of those that do not come back.

use super::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn who(job: &str) -> Who {
    Who { job: job.parse().unwrap(), what: "task t1.1".into(), pace: Arc::default(), streak: Streak::default() }
}

fn spin(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Computes without an end, and gives way after each millisecond.
async fn computes_for_ever(turns: Arc<AtomicU64>) {
    loop {
        spin(Duration::from_millis(1));
        turns.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

fn state(taken: &[(&str, bool)], waiting: &[&str]) -> State {
    let mut state = State::default();
    for (job, overdue) in taken {
        state.last_id += 1;
        let (since, named, cancelled) = (Instant::now(), false, None);
        state.taken.insert(state.last_id, Taken { who: who(job), since, overdue: *overdue, named, cancelled });
    }
    for job in waiting {
        state.last_id += 1;
        state.waiting.push_back(Waiting { id: state.last_id, job: job.parse().unwrap(), waker: Waker::noop().clone() });
    }
    state
}

fn given(mut state: State, threads: usize) -> Vec<String> {
    let mut all = vec![];
    let before = state.given.len();
    drop(state.give(threads, None));
    assert_eq!(before, 0);
    all.extend(state.given.values().map(ToString::to_string));
    all
}

#[test]
fn a_free_turn_goes_to_the_job_that_has_least_then_to_who_asked_first() {
    assert_eq!(given(state(&[], &["hog", "hog", "hog"]), 2), ["hog", "hog"], "nobody else wants them");
    assert_eq!(given(state(&[("hog", false)], &["hog", "small"]), 2), ["small"]);
    assert_eq!(given(state(&[], &["hog", "hog", "small"]), 2), ["hog", "small"]);
    assert_eq!(given(state(&[("hog", false), ("hog", false)], &["small"]), 2), [""; 0]);
}

#[test]
fn overdue_turns_lose_their_place_and_their_job_gets_no_further_ones() {
    assert_eq!(given(state(&[("hog", true), ("hog", true)], &["hog", "small"]), 2), ["small"]);
    assert_eq!(given(state(&[("hog", true)], &["hog", "hog", "hog"]), 3), ["hog"], "all threads but one");
    let many: Vec<(&str, bool)> = (0..SPARE_THREADS + 2).map(|_| ("hog", true)).collect();
    assert_eq!(given(state(&many, &["small"]), 2), [""; 0], "there are only so many threads");
}

#[test]
fn two_jobs_that_never_wait_leave_the_third_its_share() {
    let runtime = Compute::runtime(2).unwrap();
    let compute = Compute::of(runtime.handle().clone(), 2);
    let mut set = JoinSet::new();
    let (hogs, small) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    for job in ["first", "first", "first", "first", "second", "second", "second", "second"] {
        compute.spawn(&mut set, who(job), computes_for_ever(Arc::clone(&hogs)));
    }
    compute.spawn(&mut set, who("small"), computes_for_ever(Arc::clone(&small)));
    while hogs.load(Ordering::Relaxed) < 400 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (hogs, small) = (hogs.load(Ordering::Relaxed), small.load(Ordering::Relaxed));
    // A ninth of the work would be 50; a third of the turns is more.
    assert!(small * 5 > hogs, "{small} beside {hogs}");
    let (busy, threads) = compute.busy().unwrap();
    assert_eq!(threads, 2);
    assert!(busy >= Duration::from_millis(400), "{busy:?}");
    set.abort_all();
    runtime.shutdown_background();
}

#[test]
fn work_that_does_not_give_way_does_not_hold_up_the_others_and_is_busy() {
    let runtime = Compute::runtime(2).unwrap();
    let compute = Compute::of(runtime.handle().clone(), 2);
    let over = Arc::new(AtomicBool::new(false));
    let mut set = JoinSet::new();
    for _ in 0..4 {
        let over = Arc::clone(&over);
        let hog = async move {
            while !over.load(Ordering::Relaxed) {
                spin(Duration::from_millis(1));
            }
        };
        compute.spawn(&mut set, who("hog"), hog);
    }
    let watch = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    watch.block_on(async {
        let mut healthy = JoinSet::new();
        compute.spawn(&mut healthy, who("healthy"), async { 7 });
        tokio::select! {
            stuck = compute.stuck() => panic!("{stuck}"),
            done = healthy.join_next() => assert_eq!(done.unwrap().unwrap(), 7),
        }
        let (busy, _) = compute.busy().unwrap();
        assert!(busy >= OVERDUE_AFTER * 2, "turns that are not over count: {busy:?}");
    });
    over.store(true, Ordering::Relaxed);
    watch.block_on(async { while set.join_next().await.is_some() {} });
    runtime.shutdown_background();
}

#[test]
fn cancelled_work_that_never_comes_back_is_named() {
    let mut state = state(&[("hog", false)], &[]);
    let began = Instant::now();
    assert_eq!(state.look(began + STUCK_AFTER * 2), None, "it may take as long as it likes");
    state.taken.values().next().unwrap().who.pace.cancel();
    let cancelled = began + STUCK_AFTER * 3;
    assert_eq!(state.look(cancelled), None);
    assert_eq!(state.look(cancelled + STUCK_AFTER - LOOK_EVERY), None);
    let named = state.look(cancelled + STUCK_AFTER).unwrap();
    assert!(named.contains("hog") && named.contains("t1.1"), "{named}");
}

#[test]
fn a_streak_is_as_long_as_work_only_waits_for_its_turn() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let compute = Compute::of(runtime.handle().clone(), 1);
    let me = who("job");
    let (streak, pace) = (me.streak.clone(), Arc::clone(&me.pace));
    let mut set = JoinSet::new();
    let (resume, resumed) = tokio::sync::oneshot::channel::<()>();
    compute.spawn(&mut set, me, async move {
        // As a query that gives way.
        for _ in 0..3 {
            spin(TURN);
            pace.give_way().await;
        }
        let _ = resumed.await;
    });
    runtime.block_on(async {
        tokio::task::yield_now().await;
        assert!(streak.time() >= TURN, "{:?}", streak.time());
        while !streak.time().is_zero() {
            tokio::task::yield_now().await;
        }
        resume.send(()).unwrap();
        set.join_next().await.unwrap().unwrap();
    });
}
