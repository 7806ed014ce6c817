//! Bytes per second of a shard.
//!
//! Owns: the rate over spans that are long enough. Does not own: what follows from it (`assign`,
//! `spread`).
//! Rule: a rate that is not measured is none, never 0.

/// What a shard brings, by the reports of its tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteRate {
    /// When the span began, and the bytes at that time.
    since: Option<(i64, u64)>,
    per_second: Option<u64>,
}

impl ByteRate {
    /// A task has read so many bytes of the shard since it began. A new task counts from 0. The rate
    /// is measured over at least `least_ms`.
    pub fn note(&mut self, now: i64, bytes: u64, least_ms: i64) {
        let Some((since_ms, before)) = self.since.filter(|(_, before)| *before <= bytes) else {
            self.since = Some((now, bytes));
            return;
        };
        let span_ms = now.saturating_sub(since_ms);
        if span_ms < least_ms.max(1) {
            return;
        }
        let measured = (bytes - before).saturating_mul(1_000) / span_ms.unsigned_abs();
        // Half of the earlier rate, so that one burst moves no shard.
        self.per_second = Some(
            self.per_second
                .map_or(measured, |known| known.midpoint(measured)),
        );
        self.since = Some((now, bytes));
    }

    pub fn per_second(&self) -> Option<u64> {
        self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_half_a_minute_and_survives_a_new_task() {
        let mut rate = ByteRate::default();
        rate.note(0, 1_000, 30_000);
        rate.note(29_000, 30_000, 30_000);
        assert_eq!(rate.per_second(), None, "too short a span");
        rate.note(30_000, 31_000, 30_000);
        assert_eq!(rate.per_second(), Some(1_000));
        rate.note(31_000, 10, 30_000);
        assert_eq!(rate.per_second(), Some(1_000), "a new task");
        rate.note(61_000, 10 + 30 * 3_000, 30_000);
        assert_eq!(rate.per_second(), Some(2_000), "half of the earlier rate");
    }
}
