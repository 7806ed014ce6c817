//! The state that every part of the world shares: the time, the seed's dice, cut connections,
//! counters.
//!
//! Owns: the world's time, faults of single calls, the trace. Does not own: which part of the world
//! has which fault.
//! Rule: every random choice of the world comes from here; no fault is rolled while the world is
//! calm.
//! calm.

use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The start of the world, milliseconds since the Unix epoch: a whole hour.
pub const BEGIN_MS: i64 = 1_795_485_600_000;
/// Time-out of a call to a service that cannot be reached.
const UNREACHABLE: Duration = Duration::from_millis(1_500);

/// The fate of one call to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It takes effect, and the response arrives.
    Done,
    NotDone,
    /// It takes effect, and the response is lost.
    AnswerLost,
}

/// One call to a service.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub before: Duration,
    pub fate: Fate,
    pub after: Duration,
}

struct State {
    rng: Rng,
    now_ms: i64,
    /// How far all wall clocks were advanced.
    ahead_ms: i64,
    /// How far the clock of Kinesis is ahead of the world's.
    kinesis_ahead_ms: i64,
    wild: bool,
    /// Calls that fail, per thousand.
    failing: u32,
    /// Calls that take seconds, per thousand.
    slow: u32,
    counts: BTreeMap<&'static str, u64>,
    cut: BTreeSet<(String, String)>,
    /// Places whose processes crash at the end of this tick.
    aborting: BTreeSet<String>,
    down_until_ms: BTreeMap<&'static str, i64>,
    /// Until when a service refuses a place, and with which code.
    denied: BTreeMap<(String, &'static str), (i64, &'static str)>,
    trace: Option<Vec<String>>,
    broken: Vec<String>,
}

/// Shared by all parts of one world.
pub struct Weather(Mutex<State>);

impl Weather {
    /// For one seed; if `traced`, every event is kept as a line.
    pub fn new(seed: u64, traced: bool) -> Arc<Self> {
        let mut rng = Rng::with_seed(seed);
        let failing = [rng.u32(0..40), rng.u32(40..150)][usize::from(rng.u8(0..5) == 0)];
        let slow = rng.u32(0..15);
        Arc::new(Self(Mutex::new(State {
            rng,
            now_ms: 0,
            ahead_ms: 0,
            kinesis_ahead_ms: 0,
            wild: false,
            failing,
            slow,
            counts: BTreeMap::new(),
            cut: BTreeSet::new(),
            aborting: BTreeSet::new(),
            down_until_ms: BTreeMap::new(),
            denied: BTreeMap::new(),
            trace: traced.then(Vec::new),
            broken: vec![],
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn roll<T>(&self, with: impl FnOnce(&mut Rng) -> T) -> T {
        with(&mut self.state().rng)
    }

    /// True this many times per thousand, and counted as this fault; never while the world is calm.
    pub fn strikes(&self, per_mille: u32, fault: &'static str) -> bool {
        let mut state = self.state();
        let strikes = state.wild && state.rng.u32(0..1_000) < per_mille;
        if strikes {
            *state.counts.entry(fault).or_default() += 1;
        }
        strikes
    }

    pub fn count(&self, fault: &'static str) {
        *self.state().counts.entry(fault).or_default() += 1;
    }

    /// Faults that happened, by kind.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.state().counts.clone()
    }

    /// Milliseconds since the world began.
    pub fn now_ms(&self) -> i64 {
        self.state().now_ms
    }

    /// The world's wall clock, milliseconds since the Unix epoch.
    pub fn wall_ms(&self) -> i64 {
        let state = self.state();
        BEGIN_MS + state.now_ms + state.ahead_ms
    }

    /// The wall clock of Kinesis: it determines arrivals and the dates of responses.
    pub fn kinesis_ms(&self) -> i64 {
        self.wall_ms() + self.state().kinesis_ahead_ms
    }

    /// Sets how far the clock of Kinesis is ahead of the world's.
    pub fn set_kinesis_ahead(&self, ms: i64) {
        self.state().kinesis_ahead_ms = ms;
    }

    /// Advances every wall clock of the world.
    pub fn put_clocks_forward(&self, ms: i64) {
        self.state().ahead_ms += ms;
    }

    pub fn set_now(&self, now_ms: i64) {
        self.state().now_ms = now_ms;
    }

    /// Whether faults happen now.
    pub fn is_wild(&self) -> bool {
        self.state().wild
    }

    /// Enables or disables faults; calm heals every cut.
    pub fn set_wild(&self, wild: bool) {
        let mut state = self.state();
        state.wild = wild;
        if !wild {
            state.cut.clear();
            state.down_until_ms.clear();
            state.denied.clear();
        }
    }

    /// Cuts two places off from each other.
    pub fn cut(&self, a: &str, b: &str) {
        self.state().cut.insert(ordered(a, b));
    }

    pub fn heal(&self, a: &str, b: &str) {
        self.state().cut.remove(&ordered(a, b));
    }

    /// Whether two places are cut off from each other.
    pub fn is_cut(&self, a: &str, b: &str) -> bool {
        self.state().cut.contains(&ordered(a, b))
    }

    /// A service responds to no request until this time.
    pub fn take_down(&self, service: &'static str, until_ms: i64) {
        self.state().down_until_ms.insert(service, until_ms);
    }

    /// A service refuses a place until this time, with this code: its rights, its credentials, its
    /// clock.
    pub fn deny(&self, place: &str, service: &'static str, code: &'static str, until_ms: i64) {
        self.state()
            .denied
            .insert((place.to_owned(), service), (until_ms, code));
    }

    /// The code with which a service refuses a place now.
    pub fn denies(&self, place: &str, service: &'static str) -> Option<&'static str> {
        let state = self.state();
        let (until_ms, code) = state.denied.get(&(place.to_owned(), service))?;
        (state.now_ms < *until_ms).then_some(*code)
    }

    /// Whether a service refuses any worker now.
    pub fn denies_a_worker(&self) -> bool {
        let state = self.state();
        state
            .denied
            .iter()
            .any(|((place, _), (until_ms, _))| place.starts_with('w') && state.now_ms < *until_ms)
    }

    /// Crashes the process of a place at the end of this tick.
    pub fn abort(&self, place: &str) {
        self.state().aborting.insert(place.to_owned());
    }

    /// Takes the places whose processes crash now.
    pub fn take_aborts(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.state().aborting)
    }

    /// Whether a place reaches a service.
    pub fn reaches(&self, place: &str, service: &'static str) -> bool {
        let state = self.state();
        let down = state
            .down_until_ms
            .get(service)
            .is_some_and(|until_ms| state.now_ms < *until_ms);
        !down && !state.cut.contains(&ordered(place, service))
    }

    /// The fate of a call from a place to a service.
    pub fn call(&self, place: &str, service: &'static str) -> Call {
        if !self.reaches(place, service) {
            return Call {
                before: UNREACHABLE,
                fate: Fate::NotDone,
                after: Duration::ZERO,
            };
        }
        let (failing, slow) = {
            let state = self.state();
            (state.failing, state.slow)
        };
        let fate = match () {
            () if self.strikes(failing / 2, not_done(service)) => Fate::NotDone,
            () if self.strikes(failing / 2, answer_lost(service)) => Fate::AnswerLost,
            () => Fate::Done,
        };
        let wait = |fault| match self.strikes(slow, fault) {
            true => Duration::from_millis(self.roll(|rng| rng.u64(500..4_000))),
            false => Duration::from_millis(self.roll(|rng| rng.u64(0..12))),
        };
        Call {
            before: wait(slow_call(service)),
            fate,
            after: wait(slow_answer(service)),
        }
    }

    /// Keeps a line of the trace, if there is one.
    pub fn note<T: Display>(&self, line: impl FnOnce() -> T) {
        let mut state = self.state();
        let now_ms = state.now_ms;
        if let Some(trace) = &mut state.trace {
            trace.push(format!(
                "{now_ms:>7} {}",
                without_digests(&line().to_string())
            ));
        }
    }

    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone().unwrap_or_default()
    }

    /// Reports a violation.
    pub fn broken(&self, what: String) {
        self.note(|| format!("BROKEN {what}"));
        self.state().broken.push(what);
    }

    /// The first violation.
    pub fn first_broken(&self) -> Option<String> {
        self.state().broken.first().cloned()
    }
}

/// The line without digests of manifests: in their names, and as `digest` of a reference. They
/// depend on this machine's speed, because a manifest contains how long stages took.
fn without_digests(line: &str) -> String {
    const EPOCH_DIGITS: usize = 12;
    const NAME_DIGITS: usize = 16;
    const REFERENCE_DIGITS: usize = 64;
    let mut unnamed = line.to_owned();
    for folder in ["/epochs/", "/published/"] {
        unnamed = without(&unnamed, folder, EPOCH_DIGITS + 1, NAME_DIGITS);
    }
    without(&unnamed, " digest: \"", 0, REFERENCE_DIGITS)
}

/// The line without the `length` bytes that begin `skipped` bytes after each `mark`.
fn without(line: &str, mark: &str, skipped: usize, length: usize) -> String {
    let mut parts = line.split(mark);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(mark);
        out.push_str(part.get(..skipped).unwrap_or(part));
        out.push_str(part.get(skipped + length..).unwrap_or_default());
    }
    out
}

fn ordered(a: &str, b: &str) -> (String, String) {
    let (a, b) = if a < b { (a, b) } else { (b, a) };
    (a.to_owned(), b.to_owned())
}

fn not_done(service: &str) -> &'static str {
    match service {
        "store" => "store: not done",
        "s3" => "s3: 503",
        _ => "kinesis: no answer",
    }
}

fn answer_lost(service: &str) -> &'static str {
    match service {
        "store" => "store: outcome unknown after success",
        "s3" => "s3: time-out after success",
        _ => "kinesis: answer lost",
    }
}

fn slow_call(service: &str) -> &'static str {
    match service {
        "store" => "store: slow",
        "s3" => "s3: slow",
        _ => "kinesis: slow",
    }
}

fn slow_answer(service: &str) -> &'static str {
    match service {
        "store" => "store: slow answer",
        "s3" => "s3: slow answer",
        _ => "kinesis: slow answer",
    }
}
