//! One fault from the start of the load to the verdict.
//!
//! Owns: the times, and their reference points. Does not own: how it is struck (`strike`), the
//! requests (`watch`).
//! Rule: "noticed" and "running again" come from the public service's responses, never from logs;
//! times are as exact as [`LOOK_EVERY`](super::watch::LOOK_EVERY).

use super::fault::{Fault, From, Notice, Strike};
use super::report::Row;
use super::scene::{Scene, now_ms};
use super::strike::Struck;
use super::system::System;
use super::watch::View;
use std::time::{Duration, Instant};

/// How long to wait after the fault's time for something that never comes.
const GIVE_UP_AFTER: Duration = Duration::from_secs(90);
/// Interval between two checks of the state.
const LOOK_EVERY: Duration = Duration::from_millis(10);

#[derive(Clone, Debug, Default)]
pub struct Times {
    /// From the fault until it was noticed.
    pub noticed: Option<Duration>,
    /// From the fault (or its healing) until a window that ended later was published.
    pub again: Option<Duration>,
    /// From its healing until a window that ended later was published.
    pub healed: Option<Duration>,
    /// From its healing until any window was newly published.
    pub resumed: Option<Duration>,
    /// The longest time without a newly published window, from the fault to the end of the
    /// measurement.
    pub still: Duration,
}

/// Strikes a whole system, and heals it.
pub fn run(system: &mut System, fault: &Fault) -> Row {
    system.make_whole();
    let scene = Scene::begin(system, fault.name, fault.has_function);
    let before = system.watch.view();
    system.watch.begin_stillness();
    let mut begin = Moment::now();
    let struck = system.strike(fault.strike, fault.lasts, &before);
    let mut rest = *fault;
    if matches!(fault.strike, Strike::Upgrade | Strike::Storm(_)) {
        // The fault is over; measure what follows.
        (begin, rest.lasts) = (Moment::now(), Duration::ZERO);
    }
    let times = measure(system, &rest, &before, &struck, begin);
    let after = system.watch.view();
    system.make_whole();
    let verdict = scene.end(system);
    let kept = before.tasks().intersection(&after.tasks()).count();
    Row::of(fault, &times, &verdict, (before.tasks().len(), kept))
}

#[derive(Clone, Copy)]
struct Moment {
    instant: Instant,
    ms: i64,
}

impl Moment {
    fn now() -> Self {
        Self {
            instant: Instant::now(),
            ms: now_ms(),
        }
    }

    /// The elapsed time, if a window that ended later is published.
    fn passed(self, view: &View) -> Option<Duration> {
        (view.published_end_ms > self.ms).then(|| self.instant.elapsed())
    }
}

fn measure(
    system: &mut System,
    fault: &Fault,
    before: &View,
    struck: &Struck,
    begin: Moment,
) -> Times {
    let mut times = Times::default();
    let mut mended = None::<Moment>;
    let mut published = 0;
    loop {
        let view = system.watch.view();
        if mended.is_none() && begin.instant.elapsed() >= fault.lasts {
            system.mend(fault.strike, struck);
            mended = Some(Moment::now());
            published = view.published_end_ms;
        }
        if times.noticed.is_none() && is_noticed(fault.notice, before, &view, struck) {
            times.noticed = Some(begin.instant.elapsed());
        }
        let from = if fault.from == From::Fault {
            Some(begin)
        } else {
            mended
        };
        times.again = times.again.or(from.and_then(|from| from.passed(&view)));
        times.healed = times
            .healed
            .or(mended.and_then(|mended| mended.passed(&view)));
        let newly = mended
            .filter(|_| view.published_end_ms > published)
            .map(|mended| mended.instant.elapsed());
        times.resumed = times.resumed.or(newly);
        let noticed =
            times.noticed.is_some() || fault.notice == Notice::Nothing || times.healed.is_some();
        let all = noticed && times.again.is_some() && times.healed.is_some();
        if all || begin.instant.elapsed() > fault.lasts + GIVE_UP_AFTER {
            times.still = system.watch.longest_stillness();
            return times;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn is_noticed(notice: Notice, before: &View, now: &View, struck: &Struck) -> bool {
    match notice {
        Notice::TasksTaken => {
            let busy = now.busy();
            now.job.is_some() && struck.parts.iter().all(|part| !busy.contains(part))
        }
        Notice::NewLeader => {
            now.leader.is_some() && now.leader != before.leader && now.job.is_some()
        }
        Notice::NoLeader => now.leader.is_none(),
        Notice::Waits => now
            .job
            .as_ref()
            .is_some_and(|job| !job.waiting_on.is_empty()),
        Notice::Nothing => false,
    }
}
