//! One seed from its first record to its verdict.
//!
//! Owns: the order of a story, panics of the system as violations. Does not own: the events in it.
//! Rule: a successful story returns its faults; a failed one returns the violation and its details.

use super::world::World;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

pub struct Story {
    pub seed: u64,
    /// Its faults, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    pub records: u64,
    pub epochs: u64,
    /// Its simulated length, milliseconds.
    pub length_ms: i64,
    /// Events in order, if tracing is enabled.
    pub trace: Vec<String>,
    /// The violation, if there is one.
    pub broken: Option<String>,
}

thread_local! {
    /// Panics of this thread during a story.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Tasks of the system catch their own panics; this hook records them.
fn listen_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let heard = PANICS.with(|panics| match &mut *panics.borrow_mut() {
                Some(panics) => {
                    panics.push(panic.to_string());
                    true
                }
                None => false,
            });
            if !heard {
                usual(panic);
            }
        }));
    });
}

/// A panic of this thread's story.
pub(super) fn panicked() -> Option<String> {
    PANICS.with(|panics| {
        panics
            .borrow()
            .as_ref()
            .and_then(|panics| panics.first().cloned())
    })
}

/// Runs the story of a seed.
pub fn tell(seed: u64, traced: bool) -> Story {
    reported(seed, || World::new(seed, traced), World::live)
}

/// Runs a story of this many shards with few faults: records in each of them, shards that split, a
/// worker and the leader that are killed.
pub fn tell_wide(seed: u64, shards: usize) -> Story {
    reported(seed, || World::wide(seed, shards), World::live_wide)
}

/// Runs a story whose only fault is `strike` in its middle, with two jobs on two workers.
pub fn tell_of(seed: u64, strike: impl FnOnce(&mut World)) -> Story {
    reported(
        seed,
        || World::quiet(seed),
        |world| world.live_through(strike),
    )
}

fn reported(seed: u64, world: impl FnOnce() -> World, live: impl FnOnce(&mut World)) -> Story {
    listen_for_panics();
    PANICS.with(|panics| *panics.borrow_mut() = Some(vec![]));
    // Seed the system's own randomness (jitter of waits).
    fastrand::seed(seed);
    let mut world = world();
    let lived = catch_unwind(AssertUnwindSafe(|| live(&mut world)));
    let mut broken = world.weather.first_broken().or_else(panicked);
    if lived.is_err() && broken.is_none() {
        broken = Some("the story broke off".into());
    }
    let story = Story {
        seed,
        faults: world.weather.counts(),
        records: world.records(),
        epochs: world.epochs(),
        length_ms: world.weather.now_ms(),
        trace: world.weather.trace(),
        broken,
    };
    let _ended = catch_unwind(AssertUnwindSafe(|| drop(world)));
    PANICS.with(|panics| *panics.borrow_mut() = None);
    story
}
