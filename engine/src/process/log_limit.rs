//! How many lines one place in the code may log.
//!
//! Owns: the lines of each place within an interval, the line that counts those left out. Does not
//! own: levels (`RUST_LOG`).
//! Rule: a peer that makes a program log, by resetting connections for example, cannot fill the log:
//! lines beyond the limit are left out and counted. Lines of `debug` and `trace` are never
//! left out, because an operator has asked for them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

const INTERVAL: Duration = Duration::from_secs(10);
/// Lines of one place of ours within an interval.
const OWN_LINES_MAX: u32 = 500;
/// Lines of one place in a library.
const FOREIGN_LINES_MAX: u32 = 20;
/// The start of the names of our crates.
const OWN: &str = "streamctl";
/// The target of the lines that count those left out; these are not limited.
const TARGET: &str = "streamctl_log_limit";

#[derive(Debug, Default)]
pub(super) struct LogLimit {
    places: Mutex<Places>,
}

/// One for each place that has logged: as many as there are in the code.
#[derive(Debug, Default)]
struct Places {
    all: HashMap<Identifier, Place>,
    /// When lines that were left out are looked for again.
    next_check: Option<Instant>,
}

#[derive(Debug)]
struct Place {
    since: Instant,
    lines: u32,
    left_out: u32,
    metadata: &'static Metadata<'static>,
}

/// Lines of a place that were left out.
#[derive(Debug, PartialEq, Eq)]
struct LeftOut {
    lines: u32,
    place: String,
}

impl Places {
    /// Counts a line; returns whether it is within the limit.
    fn take(&mut self, metadata: &'static Metadata<'static>, now: Instant) -> bool {
        let place = self.all.entry(metadata.callsite()).or_insert(Place {
            since: now,
            lines: 0,
            left_out: 0,
            metadata,
        });
        let is_fresh = now.saturating_duration_since(place.since) >= INTERVAL;
        // Lines that were left out are counted in the log first.
        if is_fresh && place.left_out == 0 {
            (place.since, place.lines) = (now, 0);
        }
        let is_own = metadata.target().starts_with(OWN);
        let most = if is_own {
            OWN_LINES_MAX
        } else {
            FOREIGN_LINES_MAX
        };
        if place.lines >= most {
            place.left_out = place.left_out.saturating_add(1);
            return false;
        }
        place.lines += 1;
        true
    }

    /// What was left out in intervals that are over; looked for once a second.
    fn left_out(&mut self, now: Instant) -> Vec<LeftOut> {
        if self.next_check.is_some_and(|next| now < next) {
            return vec![];
        }
        self.next_check = Some(now + Duration::from_secs(1));
        let over = |place: &&mut Place| {
            place.left_out > 0 && now.saturating_duration_since(place.since) >= INTERVAL
        };
        let found = self.all.values_mut().filter(over).map(|place| {
            let lines = std::mem::take(&mut place.left_out);
            (place.since, place.lines) = (now, 0);
            let file = place.metadata.file().unwrap_or_default();
            let line = place.metadata.line().unwrap_or_default();
            LeftOut {
                lines,
                place: format!("{} {file}:{line}", place.metadata.target()),
            }
        });
        found.collect()
    }
}

impl LogLimit {
    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a line is written, and what was left out before it.
    fn judge(&self, metadata: &'static Metadata<'static>, now: Instant) -> (bool, Vec<LeftOut>) {
        if *metadata.level() > Level::INFO || metadata.target() == TARGET {
            return (true, vec![]);
        }
        let mut places = self.lock();
        let left_out = places.left_out(now);
        (places.take(metadata, now), left_out)
    }
}

impl<S: Subscriber> Layer<S> for LogLimit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let (is_written, left_out) = self.judge(event.metadata(), Instant::now());
        for LeftOut { lines, place } in left_out {
            tracing::warn!(target: TARGET, lines, place, "lines of one place were left out");
        }
        is_written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tracing_subscriber::layer::SubscriberExt as _;

    /// The metadata of the lines that are logged while it runs.
    #[derive(Default)]
    struct Seen(Arc<Mutex<Vec<&'static Metadata<'static>>>>);

    impl<S: Subscriber> Layer<S> for Seen {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            self.0.lock().unwrap().push(event.metadata());
        }
    }

    fn place(log: impl FnOnce()) -> &'static Metadata<'static> {
        let seen = Seen::default();
        let found = Arc::clone(&seen.0);
        let subscriber = tracing_subscriber::registry().with(seen);
        tracing::subscriber::with_default(subscriber, log);
        let found = found.lock().unwrap();
        found[0]
    }

    #[test]
    fn a_place_logs_so_many_lines_in_an_interval_and_the_rest_is_counted() {
        let own = place(|| tracing::warn!("ours"));
        let library = place(|| tracing::warn!(target: "h2", "a library's"));
        let limit = LogLimit::default();
        let begin = Instant::now();
        let written =
            |metadata, count: u32, at| (0..count).filter(|_| limit.judge(metadata, at).0).count();
        assert_eq!(written(library, 3_000, begin), FOREIGN_LINES_MAX as usize);
        assert_eq!(written(own, 3_000, begin), OWN_LINES_MAX as usize);
        let (is_written, mut left_out) = limit.judge(library, begin + INTERVAL);
        assert!(is_written, "the next interval");
        left_out.sort_by_key(|one| one.lines);
        assert_eq!(left_out[0].lines, 3_000 - OWN_LINES_MAX);
        assert_eq!(left_out[1].lines, 3_000 - FOREIGN_LINES_MAX);
        assert!(left_out[1].place.starts_with("h2 "), "{left_out:?}");
        assert!(left_out[1].place.contains("log_limit.rs:"), "{left_out:?}");
        assert!(
            limit.judge(own, begin + 3 * INTERVAL).1.is_empty(),
            "counted once"
        );
    }

    #[test]
    fn what_an_operator_has_asked_for_is_not_limited() {
        let debug = place(|| tracing::debug!("much"));
        let limit = LogLimit::default();
        assert!((0..10_000).all(|_| limit.judge(debug, Instant::now()).0));
    }
}
