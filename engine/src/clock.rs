//! The only source of wall-clock time.

use std::sync::Arc;

/// Returns the time in milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The clock of this machine.
pub fn system_clock() -> Clock {
    Arc::new(now_ms)
}

/// Milliseconds since the Unix epoch.
#[allow(clippy::disallowed_methods)]
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The time in an HTTP `Date` header: a service's time, in whole seconds.
pub fn http_date_ms(header: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc2822(header)
        .ok()
        .map(|time| time.timestamp_millis())
}

/// Starts at the current time of `clock` and then advances with real time, even if `clock` is set
/// meanwhile: a wait for a time never becomes hours or nothing.
pub fn steady(clock: &Clock) -> Clock {
    let began_ms = clock();
    let began = tokio::time::Instant::now();
    Arc::new(move || {
        began_ms.saturating_add(i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};

    #[test]
    fn a_date_header_is_read_to_the_second() {
        assert_eq!(
            http_date_ms("Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(784_111_777_000)
        );
        assert_eq!(http_date_ms("yesterday"), None);
    }

    #[test]
    fn a_steady_clock_begins_with_the_other_and_does_not_follow_its_jumps() {
        let wall_ms = Arc::new(AtomicI64::new(1_000_000));
        let wall: Clock = Arc::new({
            let wall_ms = Arc::clone(&wall_ms);
            move || wall_ms.load(Ordering::Relaxed)
        });
        let clock = steady(&wall);
        for jump_ms in [-900_000, 3_600_000] {
            wall_ms.fetch_add(jump_ms, Ordering::Relaxed);
            assert!((1_000_000..1_600_000).contains(&clock()));
        }
    }
}
