//! Calls of a task's worker that an outside service has not answered.
//!
//! Owns: since when each service is waited for. Does not own: noting calls (the worker).
//! Rule: a worker reports only calls that hang, and repeats them each second; what it no longer
//! repeats is answered. A call that takes the place of one that timed out continues the wait.

use std::collections::BTreeMap;

/// A call that hangs for this long is reported in the status: within 5 s it is there.
pub const HANGING_MS: i64 = 4_000;
/// A wait that was not repeated for this long is over.
const REPEATED_MS: i64 = 3_500;
/// Services and operations that are noted of a task.
pub const WAITS_MAX: usize = 16;

/// Calls of one operation that are not answered, as a worker reports them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HangingCall {
    /// `S3`, `Kinesis` ...
    pub service: String,
    /// `GetRecords` ...
    pub operation: String,
    pub count: u32,
    /// How long the first of them has been in flight.
    pub age_ms: u64,
    /// Made to read the source.
    pub reads: bool,
}

/// What is waited for: service and operation, and whether to read the source.
type Key = (String, String, bool);

#[derive(Clone, Copy, Debug)]
struct Wait {
    count: u32,
    since_ms: i64,
    repeated_ms: i64,
}

/// The hanging calls of one task.
#[derive(Clone, Debug, Default)]
pub struct HangingCalls(BTreeMap<Key, Wait>);

/// A wait for calls of one operation that hang for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hanging<'a> {
    pub service: &'a str,
    pub operation: &'a str,
    pub reads: bool,
    pub count: u32,
    pub since_ms: i64,
}

impl HangingCalls {
    pub fn note(&mut self, now: i64, calls: Vec<HangingCall>) {
        self.0
            .retain(|_, wait| now - wait.repeated_ms <= REPEATED_MS);
        for call in calls.into_iter().take(WAITS_MAX) {
            let age_ms = i64::try_from(call.age_ms).unwrap_or(i64::MAX);
            let began_ms = now.saturating_sub(age_ms);
            let key = (call.service, call.operation, call.reads);
            let since_ms = self.0.get(&key).map_or(began_ms, |it| it.since_ms);
            let wait = Wait {
                count: call.count,
                since_ms: since_ms.min(began_ms),
                repeated_ms: now,
            };
            self.0.insert(key, wait);
        }
    }

    /// The waits that last for too long.
    pub fn hanging(&self, now: i64) -> impl Iterator<Item = Hanging<'_>> {
        let hangs = move |wait: &Wait| {
            now - wait.since_ms >= HANGING_MS && now - wait.repeated_ms <= REPEATED_MS
        };
        let all = self.0.iter().filter(move |(_, wait)| hangs(wait));
        all.map(|((service, operation, reads), wait)| Hanging {
            service,
            operation,
            reads: *reads,
            count: wait.count,
            since_ms: wait.since_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(age_ms: u64) -> Vec<HangingCall> {
        vec![HangingCall {
            service: "Kinesis".into(),
            operation: "GetRecords".into(),
            count: 3,
            age_ms,
            reads: true,
        }]
    }

    fn found(calls: &HangingCalls, now: i64) -> Vec<(u32, i64)> {
        let found = calls.hanging(now);
        found
            .map(|hanging| (hanging.count, hanging.since_ms))
            .collect()
    }

    #[test]
    fn a_wait_goes_on_over_time_outs_and_ends_when_it_is_not_repeated() {
        let mut calls = HangingCalls::default();
        calls.note(10_000, call(2_000));
        assert_eq!(found(&calls, 11_999), []);
        assert_eq!(found(&calls, 12_000), [(3, 8_000)]);
        // The call timed out, and another one hangs.
        calls.note(13_000, call(2_000));
        assert_eq!(found(&calls, 13_000), [(3, 8_000)]);
        assert_eq!(found(&calls, 13_000 + REPEATED_MS + 1), []);
        calls.note(20_000, call(2_000));
        assert_eq!(found(&calls, 22_000), [(3, 18_000)]);
    }
}
